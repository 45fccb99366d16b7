"""Which hidden unit of one network is which of another: permutations of a chain of linear layers.

To reorder the units of a hidden layer, rows of its weight and entries of its bias, and in the same way the
columns of the next weight, changes θ and no output. Inner room of `landscape`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from hesslab import ranks
from hesslab.risk import EmpiricalRisk, _Term

Parts = Mapping[str, Tensor]
Values = NDArray[np.float64]
Permutations = list[NDArray[np.intp]]

#: A unit varies where its variance is more than this part of its mean square.
VARIES = 1e-10
#: Modules that act on each number alone, and alike on all.
ELEMENTWISE = (
    *(nn.Identity, nn.Tanh, nn.Sigmoid, nn.LogSigmoid, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardsigmoid),
    *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Dropout),
)


@dataclass(frozen=True, eq=False)
class Matching:
    """θ_b with its hidden units in another order, and the same outputs up to rounding.

    The objective is ⟨θ_a, θ_b⟩ for method "weights", the sum of all correlations for "activations".
    """

    theta: Tensor = field(repr=False)  # (n,), θ_b reordered
    permutations: tuple[NDArray[np.intp], ...]  # one a hidden layer: unit i is now what was unit p[i]
    before: float  # the objective in the order of θ_b
    after: float  # the objective in the new order
    stop_reason: str  # "done", or what ended the search before that


class Layer(NamedTuple):
    """The names of a linear module, of its weight and of its bias, if it has one."""

    module: str
    weight: str
    bias: str | None


def chain(risk: EmpiricalRisk) -> list[Layer]:
    """The linear layers of the model, in their order. Raises ValueError where they are not a chain."""
    modules = list(_modules(risk.model, "")) if isinstance(risk.model, nn.Sequential) else []
    linear = [i for i, (_, module) in enumerate(modules) if isinstance(module, nn.Linear)]
    if len(linear) < 2:
        raise ValueError(
            f"the model is a {type(risk.model).__name__} with {len(linear)} linear layers in a row; "
            "expected nn.Sequential with two or more nn.Linear, with elementwise activations between them"
        )
    for name, module in modules[linear[0] : linear[-1] + 1]:
        if not isinstance(module, (nn.Linear, *ELEMENTWISE)):
            raise ValueError(
                f"module {name!r} is a {type(module).__name__}; expected only nn.Linear and elementwise "
                "activations of torch.nn from the first linear layer to the last"
            )
    named = ((modules[i][0], modules[i][1].bias is not None) for i in linear)
    layers = [Layer(name, f"{name}.weight", f"{name}.bias" if bias else None) for name, bias in named]
    for name in (name for layer in layers for name in layer[1:] if name is not None):
        if name not in risk.selected:
            raise ValueError(
                f"θ has no {name!r}; expected all weights and biases of the linear layers in it: "
                "not frozen, not tied to another layer, not parametrized"
            )
    return layers


def permuted(parts: Parts, layers: Sequence[Layer], permutations: Permutations) -> dict[str, Tensor]:
    """The parameters after unit i of each hidden layer became what was unit p[i]."""
    moved = dict(parts)
    for p, layer, following in zip(permutations, layers[:-1], layers[1:], strict=True):
        for name in layer[1:]:
            if name is not None:
                moved[name] = moved[name][p]
        moved[following.weight] = moved[following.weight][:, p]
    return moved


def by_weights(a: Parts, b: Parts, layers: Sequence[Layer], max_sweeps: int) -> tuple[Permutations, str]:
    """Ascent of ⟨θ_a, θ_b⟩: the best order of one layer, the others held, in turn until none gets better."""
    A, B = ({name: part.double().cpu().numpy() for name, part in parts.items()} for parts in (a, b))
    permutations = [np.arange(len(B[layer.weight])) for layer in layers[:-1]]
    try:
        for _ in range(max_sweeps):
            changed = False
            for j, p in enumerate(permutations):
                S = _similarity(A, B, layers, permutations, j)
                best = assigned(S)
                # More than rounding: the order of copies of a unit would change for ever.
                if total(S, best) - total(S, p) > 1e-12 * len(S) * np.abs(S).max():
                    permutations[j], changed = best, True
            if not changed:
                return permutations, "done"
    except KeyboardInterrupt:
        return permutations, "interrupted"
    return permutations, f"max_sweeps = {max_sweeps} reached"


def _similarity(
    A: Mapping[str, Values], B: Mapping[str, Values], layers: Sequence[Layer], p: Permutations, j: int
) -> Values:
    """What each pair of units of hidden layer j adds to ⟨θ_a, θ_b⟩, the units of the others in order p."""
    layer, following = layers[j], layers[j + 1]
    rows, columns = B[layer.weight], B[following.weight]
    rows = rows[:, p[j - 1]] if j > 0 else rows
    columns = columns[p[j + 1]] if j + 1 < len(p) else columns
    S = A[layer.weight] @ rows.T + A[following.weight].T @ columns
    return S if layer.bias is None else S + np.outer(A[layer.bias], B[layer.bias])


def correlations(risk: EmpiricalRisk, a: Tensor, b: Tensor, layers: Sequence[Layer]) -> list[Values]:
    """For each hidden layer, the correlations over the data of the units at θ_a, in rows, with those at θ_b.

    A unit that does not vary has correlation 0. Both networks see a batch before the next is asked for, so
    that a loader may shuffle.
    """
    ranks.require_one(risk.group, "matching by activations")
    here, there = risk.at(a), risk.at(b)
    grams: list[Any] = [0.0] * (len(layers) - 1)
    batches: list[Any] = []

    def remembered() -> Iterator[Any]:
        for batch in risk.batches():
            batches[:] = [batch]
            yield batch

    with _watched(risk.model, [layer.module for layer in layers[1:]]) as units:

        def add(_: _Term) -> None:
            ours = list(units)
            there.fold(lambda _: None, graph=False, batches=iter(batches))
            for j, pair in enumerate(zip(ours, units, strict=True)):
                both = torch.cat(pair, 1)
                Z = torch.cat([torch.ones_like(both[:, :1]), both], 1)
                grams[j] = grams[j] + (Z.T @ Z).cpu().numpy()

        here.fold(add, graph=False, batches=remembered())
    for layer, gram in zip(layers[1:], grams, strict=True):
        if not np.all(np.isfinite(gram)):
            raise ValueError(
                f"the units before module {layer.module!r} hold NaN or infinity, or their squares do; "
                "expected finite activations at θ_a and θ_b: look where the network overflows"
            )
    return [_correlation(gram) for gram in grams]


@contextmanager
def _watched(model: nn.Module, names: Sequence[str]) -> Iterator[list[Tensor]]:
    """What these modules were last given, each (rows, units) in float64, while inside."""
    given = [torch.empty(0)] * len(names)

    def watch(place: int) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, arguments: Any) -> None:
            given[place] = arguments[0].detach().double().flatten(0, -2)

        return hook

    modules = dict(model.named_modules())
    hooks = [modules[name].register_forward_pre_hook(watch(place)) for place, name in enumerate(names)]
    try:
        yield given
    finally:
        for hook in hooks:
            hook.remove()


def _correlation(gram: Values) -> Values:
    """Correlations of the first half of the columns of Z with the second, from ZᵀZ with a column of ones."""
    rows, half = gram[0, 0], len(gram) // 2
    square, mean = gram[1:, 1:] / rows, gram[0, 1:] / rows
    covariance = square - np.outer(mean, mean)
    varies = np.diag(covariance) > VARIES * np.diag(square)
    scale = np.where(varies, np.sqrt(np.where(varies, np.diag(covariance), 1.0)), np.inf)
    return np.asarray((covariance / np.outer(scale, scale))[:half, half:])


def assigned(S: Values) -> NDArray[np.intp]:
    """The permutation p of largest Σ_i S[i, p[i]]."""
    return np.asarray(linear_sum_assignment(S, maximize=True)[1])


def total(S: Values, p: NDArray[np.intp]) -> float:
    """Σ_i S[i, p[i]]."""
    return float(S[np.arange(len(p)), p].sum())


def _modules(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """The modules of nested nn.Sequential in the order they act, one that stands twice twice."""
    for name, child in module._modules.items():
        if isinstance(child, nn.Sequential):
            yield from _modules(child, f"{prefix}{name}.")
        elif child is not None:
            yield f"{prefix}{name}", child
