"""A network, a loss and data, seen as one function of one flat vector θ.

    L(θ) = Σ_b w_b ℓ_b(θ) / Σ_b w_b,

ℓ_b the mean loss over batch b and w_b the number of units that the mean is over, so that the same data in one
batch, in uneven batches or padded give the same L. Nothing here changes the model: every evaluation puts
copies in the place of its parameters and buffers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hesslab import ranks
from hesslab.batches import is_pair, require_batches, require_one_kind, require_pair, require_scalar
from hesslab.losses import Loss, example_weights, require_mean
from hesslab.safety import _accelerators, _random_state_kept, _substituted, twice_differentiable

Batch = Any


@dataclass(frozen=True, eq=False)
class EmpiricalRisk:
    """The mean loss of `model` over `data`, as a function of the flat vector θ of its parameters.

    `loss(outputs, targets)` is the mean over its batch. `data` is one pair (inputs, targets), or an iterable
    of batches that can be passed more than once: a list, a DataLoader. `forward(model, batch)` returns
    (outputs, targets) for batches that are not pairs. `weight(batch)` is the number of units that a batch's
    mean is over (default: examples; for cross-entropy on class indices the summed class weights of targets
    not ignored); batches of weight 0 are skipped. `parameters`, a pattern such as "blocks.3.*", selects θ by
    name, frozen ones too (default: those with requires_grad). `dropout`, a seed, freezes active dropout at
    the masks that follow from it. `group` is a torch.distributed group of which every rank gives its own
    shard as `data`, an empty one too: values, gradients and products are then those of all shards together.

    The modes are the model's own: BatchNorm in train mode uses the statistics of each batch. Raises
    ValueError or TypeError where an argument cannot be what it should; reads no data.
    (Goodfellow, Bengio & Courville 2016, §8.1)

    >>> import torch
    >>> x, y = torch.ones(4, 1, dtype=torch.float64), torch.tensor([[0.0], [0.0], [1.0], [1.0]]).double()
    >>> risk = EmpiricalRisk(torch.nn.Linear(1, 1).double(), torch.nn.MSELoss(), (x, y))
    >>> risk.num_parameters, risk.value(torch.zeros(2)), risk.gradient(torch.zeros(2)).tolist()
    (2, 0.5, [-1.0, -1.0])
    """

    model: nn.Module
    loss: Loss
    data: Any = field(repr=False)
    _: KW_ONLY
    forward: Callable[[Any, Batch], tuple[Any, Any]] | None = None
    weight: Callable[[Batch], float] | None = None
    parameters: str | None = None
    dropout: int | None = None
    group: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise TypeError(f"model is a {type(self.model).__name__}; expected a torch.nn.Module")
        require_mean(self.loss)
        require_batches(self.data, may_be_empty=self.group is not None)
        require_one_kind(self.selected)

    @cached_property
    def selected(self) -> dict[str, nn.Parameter]:
        """The parameters that make up θ, by name, in the order of `named_parameters`, tied ones once."""
        named = dict(self.model.named_parameters())
        if self.parameters is None:
            return {name: p for name, p in named.items() if p.requires_grad}
        return {name: p for name, p in named.items() if fnmatchcase(name, self.parameters)}

    @property
    def num_parameters(self) -> int:
        """n, the length of θ."""
        return sum(p.numel() for p in self.selected.values())

    @property
    def theta(self) -> Tensor:
        """A flat copy of the selected parameters, shape (n,)."""
        return torch.cat([p.detach().reshape(-1) for p in self.selected.values()])

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """θ of shape (n,) as views in the shapes of the parameters, by name."""
        parts = torch.split(theta, [p.numel() for p in self.selected.values()])
        return {n: part.view(p.shape) for (n, p), part in zip(self.selected.items(), parts, strict=True)}

    def value(self, theta: Any = None) -> float:
        """L(θ), one pass over the data; NaN or infinity where the loss is."""
        point = self.at(theta)
        terms = point.fold(lambda term: (term.weight, term.loss.item()), graph=False)
        held = point.theta.new_tensor(sum(w * loss for w, loss in terms), dtype=torch.float64)
        weight = ranks.total(self.group, sum(w for w, _ in terms), held)
        return float(ranks.summed(self.group, held)) / weight

    def gradient(self, theta: Any = None) -> Any:
        """∇L(θ), shape (n,), in the kind of `theta` (torch by default); one gradient over the data."""
        point, total = self.at(theta), 0.0
        gradient = torch.zeros_like(point.theta)

        def add(term: _Term) -> None:
            nonlocal total
            total += term.weight
            gradient.add_(_gradient(term), alpha=term.weight)

        point.fold(add)
        gradient = ranks.summed(self.group, gradient) / ranks.total(self.group, total, gradient)
        return gradient.cpu().numpy() if isinstance(theta, np.ndarray) else gradient

    def at(self, theta: Any = None) -> "_Point":
        """The risk at a copy of θ, buffers and modes, which later training does not move."""
        own = self.theta
        theta = own if theta is None else torch.as_tensor(theta).detach().to(own, copy=True)
        if theta.shape != own.shape:
            raise ValueError(
                f"theta has shape {tuple(theta.shape)}; expected {tuple(own.shape)}, as risk.theta"
            )
        ranks.require_same(self.group, theta)
        tensors = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        fixed = {name: t.detach().clone() for name, t in tensors.items() if name not in self.selected}
        return _Point(self, theta, fixed, tuple(module.training for module in self.model.modules()))

    def batches(self) -> Iterator[Batch]:
        """The batches, each one an argument for `forward` and `weight`."""
        return iter([self.data] if is_pair(self.data) else self.data)

    def outputs_and_targets(self, batch: Batch) -> tuple[Any, Any]:
        """What the loss is computed from, with the model as it stands."""
        if self.forward is not None:
            return self.forward(self.model, batch)
        inputs, targets = require_pair(batch, next(iter(self.selected.values())).device)
        outputs = self.model(inputs)
        # Models of the transformers library answer with a record whose first use is its logits.
        return getattr(outputs, "logits", outputs), targets


@dataclass(frozen=True, eq=False)
class _Term:
    """One batch at one θ: its place, w_b, its shares by example, ℓ_b, its arguments, and the leaves."""

    index: int
    weight: float
    units: Tensor
    loss: Tensor
    outputs: Any
    targets: Any
    leaves: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class _Point:
    """A risk at one θ: `theta` (n,), the other tensors of the model by name, and the modes of its modules."""

    risk: EmpiricalRisk
    theta: Tensor
    fixed: Mapping[str, Tensor]
    modes: tuple[bool, ...]

    def leaves(self, theta: Tensor | None = None) -> tuple[Tensor, ...]:
        """θ as separate tensors in the shapes of the parameters, each the start of a graph."""
        theta = self.theta if theta is None else theta
        return tuple(t.detach().requires_grad_() for t in self.risk.unflatten(theta).values())

    def state(self, leaves: Sequence[Tensor]) -> dict[str, Tensor]:
        """What the model computes with, by name: `leaves`, and fresh copies of everything else."""
        # Copies, since train-mode BatchNorm keeps its buffers in the graph and then writes to them.
        return {
            **{name: t.clone() for name, t in self.fixed.items()},
            **dict(zip(self.risk.selected, leaves, strict=True)),
        }

    def inside(self, leaves: Sequence[Tensor]) -> Any:
        """The context in which graphs over `leaves` can be used, also where they compute parts again."""
        state, seed = self.state(leaves), self.risk.dropout
        return twice_differentiable(self.risk.model, state=state, modes=self.modes, dropout=seed)

    def first_batch(self) -> Batch:
        """The first batch, the random state being kept. Raises ValueError where there is none."""
        with _random_state_kept(_accelerators(dict(self.risk.model.named_modules()))):
            for batch in self.risk.batches():
                return batch
        raise ValueError(ranks.NO_BATCH)

    def holds_nothing(self) -> bool:
        """Whether this is one rank of several, with no batch of positive weight."""
        if self.risk.group is None:
            return False
        return not self.fold(lambda term: True, graph=False, first_only=True)

    def fold(
        self,
        action: Callable[[_Term], Any],
        *,
        leaves: Sequence[Tensor] | None = None,
        graph: bool = True,
        batches: Iterator[Batch] | None = None,
        first_only: bool = False,
        seed: int | None = None,
        begin: Callable[[], None] = lambda: None,
    ) -> list[Any]:
        """`action(term)` for each batch of positive weight, inside the safe context of that batch.

        Random numbers start from `seed` at each batch, or from the seed of the risk, which goes before.
        `begin()` comes before the forward of every batch, of those of weight 0 too.
        """
        leaves = tuple(self.leaves() if leaves is None else leaves)
        alone = first_only or (batches is None and is_pair(self.risk.data) and self.risk.group is None)
        modules = dict(self.risk.model.named_modules())
        seed = seed if self.risk.dropout is None else self.risk.dropout
        results: list[Any] = []
        with _random_state_kept(_accelerators(modules)):  # a loader draws from it, too
            for index, batch in enumerate(self.risk.batches() if batches is None else batches):
                started = None if seed is None else seed + index
                with (
                    _substituted(modules, self.state(leaves), self.modes, started),
                    torch.set_grad_enabled(graph),
                ):
                    begin()
                    term = self.term(index, batch, leaves, alone=alone)
                    if term is not None:
                        results.append(action(term))
                if first_only and results:
                    break
        if not results and self.risk.group is None:
            raise ValueError(ranks.NO_BATCH)
        return results

    def term(self, index: int, batch: Batch, leaves: tuple[Tensor, ...], *, alone: bool) -> _Term | None:
        """The term of one batch, None where its weight is 0; to be called inside."""
        risk = self.risk
        given = None if risk.weight is None else float(risk.weight(batch))
        if given == 0:
            return None
        outputs, targets = risk.outputs_and_targets(batch)
        units = example_weights(risk.loss, outputs, targets, counts=given is None and not alone)
        weight = float(units.sum()) if given is None else given
        if weight == 0:
            return None
        units = units * (weight / units.sum())
        loss = require_scalar(risk.loss(outputs, targets))
        return _Term(index, weight, units, loss, outputs, targets, leaves)


def mlp(sizes: Sequence[int], *, activation: str = "tanh", gain: float = 1.0, rng: Any) -> nn.Sequential:
    """Linear layers of `sizes` with `activation` between them: weights N(0, gain²/fan-in), biases 0.

    `sizes` are the widths from inputs to outputs, two at least; `activation` is one of "tanh", "relu",
    "gelu", "silu", "sigmoid", "softplus", "identity". The weights come from NumPy's generator and are the
    same on every machine; their dtype is torch's default. Raises ValueError for other names and for fewer
    sizes. (LeCun et al. 2012, §4.6)

    >>> [tuple(p.shape) for p in mlp([3, 2], rng=0).parameters()]
    [(2, 3), (2,)]
    """
    if activation not in _ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; expected one of {', '.join(_ACTIVATIONS)}")
    if len(sizes) < 2:
        raise ValueError(f"sizes is {list(sizes)}; expected the widths from inputs to outputs, two at least")
    rng = np.random.default_rng(rng)
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        # nn.Linear would draw from the global state.
        linear: nn.Linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(rng.standard_normal((fan_out, fan_in)) * gain / fan_in**0.5))
            linear.bias.zero_()
        layers += [linear, _ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


_ACTIVATIONS: dict[str, type[nn.Module]] = {
    **{"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU},
    **{"sigmoid": nn.Sigmoid, "softplus": nn.Softplus, "identity": nn.Identity},
}


def _gradient(term: _Term) -> Tensor:
    """∇ℓ_b, flat; zero for a parameter that the loss does not touch."""
    if not term.loss.requires_grad:
        return torch.cat([torch.zeros_like(leaf).reshape(-1) for leaf in term.leaves])
    parts = torch.autograd.grad(term.loss, term.leaves, allow_unused=True, materialize_grads=True)
    return torch.cat([part.reshape(-1) for part in parts])
