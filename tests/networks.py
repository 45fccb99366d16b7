"""Every kind of network that libraries of curvature stumble over, small, and what a product leaves as it was.

The tests hold that hesslab is right on each; a benchmark puts its peers before the same networks.
"""

import copy
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


def draw(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def labels(*shape, classes=3, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).integers(classes, size=shape))


class Attention(nn.Module):
    """Fused attention in the default back end."""

    def __init__(self):
        super().__init__()
        self.qkv, self.head = nn.Linear(4, 12), nn.Linear(4, 3)

    def forward(self, x):
        q, k, v = self.qkv(x)[:, None].chunk(3, dim=-1)  # without a dimension for heads torch does not fuse
        return self.head(F.scaled_dot_product_attention(q, k, v, is_causal=True)[:, 0].mean(1))


class MultiHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cells, self.head = kind(4, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.cells(x)[0][:, -1])


class Pooled(nn.Module):
    """Any layer over sequences, then a mean over time and a linear head."""

    def __init__(self, body):
        super().__init__()
        self.body, self.head = body, nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.body(x).mean(1))


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.idle, self.scale = nn.Linear(4, 3), nn.Linear(2, 2), nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.used(x)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.outer.weight = self.inner.weight

    def forward(self, x):
        return self.head(torch.tanh(self.outer(torch.tanh(self.inner(x)))))


class Checkpointed(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh())
        self.head, self.options = nn.Linear(4, 3), options

    def forward(self, x):
        return self.head(checkpoint(self.body, x, use_reentrant=False, **self.options))


class Stateful(nn.Module):
    """Buffers that are written in place, replaced and counted, and an attribute that grows."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("last", torch.zeros(3))
        self.count = 0

    def forward(self, x):
        z = self.linear(x)
        self.calls += 1
        self.last = z.detach().mean(0)
        self.count += 1
        return torch.tanh(z)


def frozen():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    model[0].requires_grad_(False)
    return model


def old_weight_norm(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer, dim=1)


def spectrally_normed():
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 3))


def convolutional():
    return nn.Sequential(
        nn.Unflatten(1, (1, 4, 4)),
        *(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Tanh()),
        *(nn.Conv2d(3, 2, 3, padding=1), nn.GroupNorm(1, 2), nn.SiLU()),
        *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3)),
    )


SEQUENCES = (lambda: draw(8, 5, 4), lambda: labels(8))
VECTORS = (lambda: draw(8, 4), lambda: labels(8))
IMAGES = (lambda: draw(8, 16), lambda: labels(8))
encoder = nn.TransformerEncoderLayer
MODELS = {
    "default attention": (Attention, SEQUENCES),
    "MultiheadAttention": (MultiHead, SEQUENCES),
    "TransformerEncoderLayer": (
        lambda: Pooled(encoder(4, 2, 6, dropout=0.0, activation="gelu", batch_first=True)),
        SEQUENCES,
    ),
    "TransformerEncoderLayer, norm first": (
        lambda: Pooled(encoder(4, 2, 6, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)),
        SEQUENCES,
    ),
    "LSTM": (lambda: Recurrent(nn.LSTM), SEQUENCES),
    "GRU": (lambda: Recurrent(nn.GRU), SEQUENCES),
    "RNN": (lambda: Recurrent(nn.RNN), SEQUENCES),
    "BatchNorm": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)),
        VECTORS,
    ),
    "BatchNorm, cumulative": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, momentum=None), nn.Tanh(), nn.Linear(5, 3)),
        VECTORS,
    ),
    "LayerNorm": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 3)),
        VECTORS,
    ),
    "convolutions": (convolutional, IMAGES),
    "dropout of rate 0": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.0), nn.Tanh(), nn.Linear(5, 3)),
        VECTORS,
    ),
    "unused parameters": (Unused, VECTORS),
    "tied weights": (Tied, VECTORS),
    "frozen parameters": (frozen, VECTORS),
    "weight norm": (
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 3)
        ),
        VECTORS,
    ),
    "weight norm, old style": (
        lambda: nn.Sequential(old_weight_norm(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 3)),
        VECTORS,
    ),
    "activation checkpointing": (Checkpointed, VECTORS),
    "activation checkpointing, no random state": (lambda: Checkpointed(preserve_rng_state=False), VECTORS),
    "buffers written by the forward": (Stateful, VECTORS),
}


def everything(model):
    """What must be as before: tensors, gradients, modes, attributes, random state."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "tensors": {name: (id(t), t._version, t.detach().clone()) for name, t in tensors.items()},
        "grads": {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()},
        "modes": [m.training for m in model.modules()],
        "attributes": [
            {k: v for k, v in vars(m).items() if isinstance(v, int) and k != "training"}
            for m in model.modules()
        ],
        "random": (torch.get_rng_state(), np.random.get_state()[1].copy()),  # noqa: NPY002
    }


def difference_of_gradients(model, loss, v, step=1e-5):
    """H v by torch alone, from gradients at moved parameters; the model comes back."""
    state = copy.deepcopy(model.state_dict())
    params = [p for p in model.parameters() if p.requires_grad]
    start = torch.cat([p.detach().reshape(-1) for p in params])

    def gradient(theta):
        model.load_state_dict(state)
        nn.utils.vector_to_parameters(theta, params)
        found = torch.autograd.grad(loss(model), params, allow_unused=True, materialize_grads=True)
        return torch.cat([g.reshape(-1) for g in found])

    difference = (gradient(start + step * v) - gradient(start - step * v)) / (2 * step)
    model.load_state_dict(state)
    return difference
