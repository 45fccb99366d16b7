"""Every kind of network that other libraries stumble over, in train and in eval mode, out of the box.

One row a model: the Hessian is symmetric, equals a difference of gradients taken without this library, and
the model, its buffers, gradients, modes and the random state are as before.
"""

import pytest
import torch
import torch.nn.functional as F
from networks import (
    MODELS,
    Checkpointed,
    MultiHead,
    Recurrent,
    Tied,
    Unused,
    difference_of_gradients,
    draw,
    everything,
    frozen,
    labels,
    spectrally_normed,
)
from torch import nn
from torch.utils.checkpoint import checkpoint

from hesslab.curvature import empirical_fisher, ggn, hessian
from hesslab.operators import to_dense
from hesslab.risk import EmpiricalRisk

SLOPE = 1e-6  # central differences of float64 gradients, step 1e-5


pytestmark = pytest.mark.usefixtures("double_precision")


def assert_same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def assert_right(risk, model):
    """Symmetric, a derivative of the gradient, and nothing changed."""
    for p in model.parameters():
        if p.requires_grad:
            p.grad = torch.ones_like(p)
    before = everything(model)
    H = hessian(risk)
    n = risk.num_parameters
    v = draw(n, seed=7) / n**0.5
    Hv, Hu = H @ v, H @ draw(n, seed=8)
    assert_same(everything(model), before)
    assert abs(v @ Hu - draw(n, seed=8) @ Hv) < 1e-12 * Hu.norm() * v.norm()
    return v, Hv


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", MODELS)
def test_the_hessian_works_out_of_the_box(name, mode):
    make, (inputs, targets) = MODELS[name]
    torch.manual_seed(0)
    model = make().train(mode == "train")
    x, y = inputs(), targets()
    risk = EmpiricalRisk(model, nn.CrossEntropyLoss(), (x, y))
    v, Hv = assert_right(risk, model)
    reference = difference_of_gradients(model, lambda m: F.cross_entropy(m(x), y), v)
    assert (Hv - reference).norm() < SLOPE * reference.norm()
    dense = to_dense(hessian(risk))
    assert (dense - dense.T).norm() < 1e-13 * dense.norm()


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", MODELS)
def test_ggn_and_empirical_fisher_work_out_of_the_box(name, mode):
    make, (inputs, targets) = MODELS[name]
    torch.manual_seed(0)
    model = make().train(mode == "train")
    risk = EmpiricalRisk(model, nn.CrossEntropyLoss(), (inputs(), targets()))
    before = everything(model)
    for matrix in (ggn, empirical_fisher):
        dense = to_dense(matrix(risk))
        assert (dense - dense.T).norm() < 1e-13 * dense.norm()
        values = torch.linalg.eigvalsh(dense)
        assert values[-1] > 0
        assert values[0] > -1e-13 * values[-1]
    assert_same(everything(model), before)


def test_unused_parameters_and_losses_linear_in_theta_give_zeros():
    torch.manual_seed(0)
    unused = to_dense(hessian(EmpiricalRisk(Unused(), nn.CrossEntropyLoss(), (draw(8, 4), labels(8)))))
    names = [n for n, p in Unused().named_parameters() for _ in range(p.numel())]
    idle = torch.tensor([not n.startswith("used") for n in names])
    assert unused[idle].abs().max() == 0 and unused[:, idle].abs().max() == 0  # noqa: PT018
    linear = EmpiricalRisk(nn.Linear(4, 1), lambda z, y: (z[:, 0] * y).mean(), (draw(8, 4), draw(8)))
    assert to_dense(hessian(linear)).abs().max() == 0
    constant = EmpiricalRisk(nn.Linear(4, 1), lambda z, y: (y**2).mean(), (draw(8, 4), draw(8)))
    assert to_dense(hessian(constant)).abs().max() == 0
    assert constant.gradient().abs().max() == 0


def test_spectral_norm_in_eval_mode_and_its_vectors_in_train_mode():
    torch.manual_seed(0)
    model = spectrally_normed().eval()
    x, y = draw(8, 4), labels(8)
    risk = EmpiricalRisk(model, nn.CrossEntropyLoss(), (x, y))
    v, Hv = assert_right(risk, model)
    reference = difference_of_gradients(model, lambda m: F.cross_entropy(m(x), y), v)
    assert (Hv - reference).norm() < SLOPE * reference.norm()
    # In train mode the model holds its singular vectors constant, and so does the Hessian.
    model.train()
    assert_right(EmpiricalRisk(model, nn.CrossEntropyLoss(), [(x[:3], y[:3]), (x[3:], y[3:])]), model)


def test_a_model_that_differentiates_itself():
    """The energy of a network and its force, by torch.func in the forward."""

    class Force(nn.Module):
        def __init__(self):
            super().__init__()
            self.energy = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))

        def forward(self, x):
            return torch.func.vmap(torch.func.grad(lambda point: self.energy(point)[0]))(x)

    torch.manual_seed(0)
    model, x, y = Force(), draw(8, 4), draw(8, 4, seed=3)
    risk = EmpiricalRisk(model, nn.MSELoss(), (x, y), parameters="*.weight")
    H = hessian(risk)
    v = draw(risk.num_parameters, seed=4)
    slope = (risk.gradient(risk.theta + 1e-5 * v) - risk.gradient(risk.theta - 1e-5 * v)) / 2e-5
    assert (H @ v - slope).norm() < SLOPE * slope.norm()


def test_reentrant_checkpointing_gives_what_no_checkpointing_gives():
    class Reentrant(Checkpointed):
        def forward(self, x):
            return self.head(checkpoint(self.body, x, use_reentrant=True))

    class Plain(Checkpointed):
        def forward(self, x):
            return self.head(self.body(x))

    found = []
    for kind in (Reentrant, Plain):
        torch.manual_seed(0)
        model = kind()
        for x in (draw(8, 4), draw(8, 4).requires_grad_()):
            risk = EmpiricalRisk(model, nn.CrossEntropyLoss(), (x, labels(8)))
            found.append((risk.gradient(), to_dense(hessian(risk)), to_dense(ggn(risk))))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-12, atol=1e-15)


def test_checkpointed_parts_are_computed_again_at_the_theta_of_the_operator():
    torch.manual_seed(0)
    model = Checkpointed()
    risk = EmpiricalRisk(model, nn.CrossEntropyLoss(), (draw(8, 4), labels(8)))
    H = hessian(risk)
    assert H.product.hooked
    before = to_dense(H)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3)
    assert torch.equal(to_dense(H), before)
    assert not hessian(EmpiricalRisk(nn.Linear(4, 3), nn.CrossEntropyLoss(), risk.data)).product.hooked


def test_tied_weights_count_once_and_frozen_ones_not_at_all():
    assert EmpiricalRisk(Tied(), nn.CrossEntropyLoss(), (draw(8, 4), labels(8))).num_parameters == 16 + 8 + 15
    assert EmpiricalRisk(frozen(), nn.CrossEntropyLoss(), (draw(8, 4), labels(8))).num_parameters == 18


def test_train_mode_batch_norm_sees_each_batch_by_itself():
    torch.manual_seed(0)
    model = MODELS["BatchNorm"][0]()
    x, y = draw(8, 4), labels(8)
    halves = [(x[:3], y[:3]), (x[3:], y[3:])]
    together = to_dense(hessian(EmpiricalRisk(model, nn.CrossEntropyLoss(), halves)))
    apart = [to_dense(hessian(EmpiricalRisk(model, nn.CrossEntropyLoss(), half))) for half in halves]
    expected = (3 * apart[0] + 5 * apart[1]) / 8
    assert (together - expected).norm() < 1e-13 * expected.norm()


@pytest.mark.parametrize("kind", ["Dropout", "MultiheadAttention", "LSTM"])
def test_active_dropout_is_refused_or_frozen(kind):
    torch.manual_seed(0)
    make = {
        "Dropout": lambda: nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 4)),
        "MultiheadAttention": lambda: MultiHead(),
        "LSTM": lambda: Recurrent(lambda *sizes, **k: nn.LSTM(*sizes, num_layers=2, dropout=0.4, **k)),
    }[kind]
    model = make()
    x = draw(8, 4) if kind == "Dropout" else draw(8, 5, 4)
    if kind == "MultiheadAttention":
        model.attention.dropout = 0.3
    data = x, labels(8)
    where = {"Dropout": "1", "MultiheadAttention": "attention", "LSTM": "cells"}[kind]
    for evaluate in (hessian, ggn, lambda risk: risk.value(), lambda risk: risk.gradient()):
        with pytest.raises(ValueError, match=rf"dropout is active in '{where}'.*call model.eval\(\)"):
            evaluate(EmpiricalRisk(model, nn.CrossEntropyLoss(), data))
    risk = EmpiricalRisk(model, nn.CrossEntropyLoss(), data, dropout=3)
    before = everything(model)
    first, again = to_dense(hessian(risk)), to_dense(hessian(risk))
    assert_same(everything(model), before)
    assert_same(first, again)
    theta, v = risk.theta, draw(risk.num_parameters, seed=5)
    slope = (risk.gradient(theta + 1e-5 * v) - risk.gradient(theta - 1e-5 * v)) / 2e-5
    assert (first @ v - slope).norm() < SLOPE * slope.norm()
    other = to_dense(hessian(EmpiricalRisk(model, nn.CrossEntropyLoss(), data, dropout=4)))
    model.eval()
    off = to_dense(hessian(EmpiricalRisk(model, nn.CrossEntropyLoss(), data)))
    assert (first - other).norm() > 1e-3 * off.norm()
    assert (first - off).norm() > 1e-3 * off.norm()


# --------------------------------------------------------------------- models of the transformers library


@pytest.fixture
def transformers(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return pytest.importorskip("transformers", reason="transformers is not installed (extra: test)")


def language_model(transformers):
    config = transformers.GPT2Config(
        **{"vocab_size": 11, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 16},
        **{"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    )
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(config)


def llama(transformers):
    """It computes its norms and rotations in float32, whatever the precision of its parameters."""
    config = transformers.LlamaConfig(
        **{"vocab_size": 11, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2},
        **{"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 16},
    )
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config)


def next_tokens(model, batch):
    """Logits and targets of the next tokens, flat."""
    logits = model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
    ).logits
    return logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()


def padded(tokens, lengths):
    mask = (torch.arange(tokens.shape[1]) < torch.tensor(lengths)[:, None]).long()
    ignored = torch.where(mask.bool(), tokens, -100)
    return {"input_ids": tokens, "attention_mask": mask, "labels": ignored}


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_causal_language_model_with_padded_dict_batches(transformers, mode):
    model = language_model(transformers).train(mode == "train")
    tokens = labels(4, 7, classes=11)
    batch = padded(tokens, [7, 2, 5, 3])
    risk = EmpiricalRisk(model, F.cross_entropy, [batch], forward=next_tokens)
    v, Hv = assert_right(risk, model)

    def loss(m):
        logits, targets = next_tokens(m, batch)
        return F.cross_entropy(logits, targets)

    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        reference = difference_of_gradients(model, loss, v)
    assert (Hv - reference).norm() < SLOPE * reference.norm()


def test_uneven_and_padded_batches_of_tokens_give_the_matrix_of_one_batch(transformers):
    model = language_model(transformers)
    tokens, lengths = labels(4, 7, classes=11), [7, 2, 5, 3]
    one = [padded(tokens, lengths)]
    uneven = [padded(tokens[:1], lengths[:1]), padded(tokens[1:, :5], lengths[1:])]
    nothing = {**one[0], "labels": torch.full_like(tokens, -100)}
    x = draw(EmpiricalRisk(model, F.cross_entropy, one, forward=next_tokens).num_parameters, seed=3)
    for matrix in (hessian, ggn, empirical_fisher):
        products = [
            matrix(EmpiricalRisk(model, F.cross_entropy, data, forward=next_tokens)) @ x
            for data in (one, uneven, [*uneven, nothing])
        ]
        for other in products[1:]:
            assert (other - products[0]).norm() < 1e-12 * products[0].norm()


def test_a_language_model_that_computes_in_single_precision_inside(transformers):
    model = llama(transformers)
    batch = padded(labels(4, 7, classes=11), [7, 2, 5, 3])
    risk = EmpiricalRisk(model, F.cross_entropy, [batch], forward=next_tokens)
    H, before = hessian(risk), everything(model)
    u, v = draw(risk.num_parameters, seed=7), draw(risk.num_parameters, seed=8)
    Hu, Hv = H @ u, H @ v
    assert_same(everything(model), before)
    assert abs(u @ Hv - v @ Hu) < 1e-6 * Hu.norm() * v.norm()


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_residual_network_of_the_transformers_library(transformers, mode):
    config = transformers.ResNetConfig(
        **{"num_channels": 1, "embedding_size": 4, "hidden_sizes": [4, 6], "depths": [1, 1]},
        **{"layer_type": "basic", "num_labels": 3, "hidden_act": "silu"},
    )
    torch.manual_seed(0)
    model = transformers.ResNetForImageClassification(config).train(mode == "train")
    x, y = draw(4, 1, 12, 12), labels(4)
    risk = EmpiricalRisk(model, nn.CrossEntropyLoss(), (x, y))
    v, Hv = assert_right(risk, model)
    reference = difference_of_gradients(model, lambda m: F.cross_entropy(m(x).logits, y), v)
    assert (Hv - reference).norm() < SLOPE * reference.norm()
