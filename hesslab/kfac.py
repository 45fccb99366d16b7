"""Kronecker factors of the Fisher, block by block.

A linear layer s = W a + b sees each example through its inputs a, with a 1 for the bias, and through the
gradients g of the loss in its outputs s. Its block of the Fisher is E[a aᵀ ⊗ g gᵀ]; K-FAC takes the factors
apart:

    F_ℓ ≈ G ⊗ A,   A = E[a aᵀ],   G = E[g gᵀ],   (G ⊗ A) vec V = vec(G V A),   V = (V_W | V_b)
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hesslab import ranks
from hesslab.losses import square_root_columns
from hesslab.operators import Operator, generator
from hesslab.risk import EmpiricalRisk, _Term

#: The calls of a layer in one forward pass: its inputs and its outputs.
Calls = list[tuple[Tensor, Tensor]]


def kfac(
    risk: EmpiricalRisk,
    theta: Any = None,
    *,
    num_samples: int | None = None,
    rng: int | np.random.Generator | None = None,
) -> "_KroneckerFactors":
    """K-FAC: the block-diagonal matrix with the blocks G ⊗ A, one for each linear and convolutional layer.

    A block equals that of the Fisher where the data hold one example; in deep linear networks under mean
    squared error, whatever the inputs; and in the last layer under mean squared error. Elsewhere inputs and
    gradients are correlated, and G ⊗ A is an approximation, as is leaving out what lies between blocks.

    The expectation over the targets is exact, by one reverse pass for each output. With `num_samples` it is a
    mean over that many drawn by `rng`, for any number of outputs and for outputs that depend on each other
    (the tokens of a sequence). Layers used at several positions sum over them (Grosse & Martens 2016, §3).

    The result has `operator` (n, n), `factors`, layer -> (A, G), and `inverse(damping)`. Raises ValueError
    for parameters of other layers (choose others with `parameters`), for BatchNorm in train mode, for a layer
    that the forward does not call, and as `fisher` does. (Martens & Grosse 2015, §3; Eschenhagen et al. 2023,
    §3)

    >>> x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    >>> model = nn.Linear(2, 1, bias=False).double()
    >>> factors = kfac(EmpiricalRisk(model, nn.MSELoss(), (x, x[:, :1])))
    >>> (factors.operator @ torch.ones(2, dtype=torch.float64)).round(decimals=12).tolist()
    [6.0, 12.0]
    """
    if num_samples is not None and rng is None:
        raise ValueError("rng is not given; expected a seed or a Generator, from which targets are drawn")
    point = risk.at(theta)
    rank = ranks.rank(risk.group)  # each draws targets of its own
    drawn = None if rng is None else generator(rng).spawn(rank + 1)[rank]
    layers = _layers(risk, point.modes)
    sums: dict[str, list[Tensor]] = {}
    total = 0.0

    def add(term: _Term, calls: dict[str, Calls]) -> None:
        nonlocal total
        total += term.weight
        for name, factors in _term_factors(risk, term, layers, calls, num_samples, drawn).items():
            summed = sums.setdefault(name, [torch.zeros_like(factor) for factor in factors])
            for accumulated, factor in zip(summed, factors, strict=True):
                accumulated.add_(factor, alpha=term.weight)

    with _recorded({name: layer.module for name, layer in layers.items()}) as calls:
        point.fold(lambda term: add(term, calls), begin=calls.clear)
    total = ranks.total(risk.group, total, point.theta)
    factors = {}
    for name, layer in layers.items():  # a rank without data holds zeros
        A, G = sums.get(name) or [point.theta.new_zeros(k, k) for k in layer.sizes]
        factors[name] = (ranks.summed(risk.group, A) / total, ranks.summed(risk.group, G) / total)
    return _KroneckerFactors(point.theta.new_empty(0), layers, factors)


@dataclass(frozen=True, eq=False)
class _Layer:
    """A module and where the columns of (W | b) lie in θ; a part that is not selected is an empty slice."""

    module: nn.Module
    weight: slice
    bias: slice

    @property
    def sizes(self) -> tuple[int, int]:
        """The numbers of rows of A and of G."""
        outputs = len(cast(Tensor, self.module.weight))
        return (self.weight.stop - self.weight.start + self.bias.stop - self.bias.start) // outputs, outputs


@dataclass(frozen=True, eq=False)
class _KroneckerFactors:
    """The factors (A, G) of each layer: A (i, i), the bias last, and G (o, o)."""

    like: Tensor
    layers: dict[str, _Layer]
    factors: dict[str, tuple[Tensor, Tensor]]

    @property
    def operator(self) -> Operator:
        """The matrix K with the blocks G ⊗ A, shape (n, n)."""
        return self._blockwise(lambda V, A, G: G @ V @ A)

    def inverse(self, damping: float) -> Operator:
        """The matrix (K + δ I)⁻¹ for δ = `damping` > 0, by the eigenvectors of the factors."""
        if not damping > 0:
            raise ValueError(
                f"damping is {damping}; expected a positive number: the factors have rank defects"
            )

        def solve(V: Tensor, A: Tensor, G: Tensor) -> Tensor:
            (a, Qa), (g, Qg) = torch.linalg.eigh(A), torch.linalg.eigh(G)
            solved: Tensor = Qg @ ((Qg.T @ V @ Qa) / (torch.outer(g, a).clamp_min(0.0) + damping)) @ Qa.T
            return solved

        return self._blockwise(solve)

    def _blockwise(self, product: Any) -> Operator:
        n = sum(len(A) * len(G) for A, G in self.factors.values())
        dtype = np.dtype(str(self.like.dtype).removeprefix("torch."))

        def multiply(X: Tensor) -> Tensor:
            Y = torch.zeros_like(X)
            for name, (A, G) in self.factors.items():
                layer = self.layers[name]
                for j in range(X.shape[1]):
                    V = torch.cat([X[part, j].reshape(len(G), -1) for part in (layer.weight, layer.bias)], 1)
                    W = product(V, A, G)
                    columns = (layer.weight.stop - layer.weight.start) // len(G)
                    Y[layer.weight, j], Y[layer.bias, j] = (
                        W[:, :columns].reshape(-1),
                        W[:, columns:].reshape(-1),
                    )
            return Y

        return Operator((n, n), dtype, multiply, self.like)


def _layers(risk: EmpiricalRisk, modes: Sequence[bool]) -> dict[str, _Layer]:
    """The linear and convolutional layers that hold the selected parameters, by name."""
    offsets = np.cumsum([0, *(p.numel() for p in risk.selected.values())]).tolist()
    where = {name: slice(*offsets[i : i + 2]) for i, name in enumerate(risk.selected)}
    layers, left = {}, set(where)
    for (name, module), training in zip(risk.model.named_modules(), modes, strict=True):
        if training and isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ValueError(f"{name!r} is a BatchNorm in train mode, which ties examples; call model.eval()")
        plain = isinstance(module, nn.Conv2d) and module.groups == 1 and module.padding_mode == "zeros"
        plain = plain and not isinstance(module.padding, str)
        names = [f"{name}.{part}" if name else part for part in ("weight", "bias")]
        if (isinstance(module, nn.Linear) or plain) and left & set(names):
            layers[name] = _Layer(module, *(where.get(part, slice(0, 0)) for part in names))
            left -= set(names)
    if left:
        raise ValueError(
            f"K-FAC has no factors for {sorted(left)[0]!r}; expected parameters of Linear and Conv2d (one "
            "group, zero padding) alone: choose them with EmpiricalRisk(…, parameters=…)"
        )
    return layers


@contextmanager
def _recorded(modules: dict[str, nn.Module]) -> Iterator[dict[str, Calls]]:
    """The calls of each module, added to a dictionary that is to be emptied before each batch."""
    calls: dict[str, Calls] = {}

    def record(name: str) -> Any:
        return lambda module, inputs, output: calls.setdefault(name, []).append((inputs[0].detach(), output))

    handles = [module.register_forward_hook(record(name)) for name, module in modules.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _term_factors(
    risk: EmpiricalRisk,
    term: _Term,
    layers: dict[str, _Layer],
    calls: dict[str, Calls],
    num_samples: int | None,
    rng: np.random.Generator | None,
) -> dict[str, tuple[Tensor, Tensor]]:
    """A and G of each layer for one batch."""
    recorded, names = {name: calls.get(name, []) for name in layers}, list(layers)
    for name, uses in recorded.items():
        if not uses:
            raise ValueError(f"the forward does not call {name!r}; choose other layers with parameters=")
        if num_samples is None and any(len(a) != len(term.units) for a, _ in uses):
            raise ValueError(
                f"{name!r} sees {len(uses[0][0])} examples and the loss {len(term.units)}, which depend on "
                "each other; give num_samples and rng"
            )
    A = {name: _input_factor(layers[name], recorded[name], term.units) for name in names}
    G = {name: torch.zeros(0) for name in names}
    outputs = [output for name in names for _, output in recorded[name]]
    owners = [name for name in names for _ in recorded[name]]
    columns = square_root_columns(risk.loss, term.outputs, term.targets, num_samples=num_samples, rng=rng)
    for column in columns:
        slopes = torch.autograd.grad(
            term.outputs, outputs, column, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        for name, slope in zip(owners, slopes, strict=True):
            rows = _rows(layers[name].module, slope)
            G[name] = rows.T @ rows + (G[name] if G[name].numel() else 0)
    return {name: (A[name], G[name]) for name in names}


def _input_factor(layer: _Layer, uses: Calls, units: Tensor) -> Tensor:
    """Σ_n (w_n/W) mean_r a_nr a_nrᵀ over the positions r at which a layer is used."""
    module, parts = layer.module, []
    for a, _ in uses:
        if isinstance(module, nn.Conv2d):
            options: Any = {"dilation": module.dilation, "padding": module.padding, "stride": module.stride}
            a = F.unfold(a, module.kernel_size, **options).transpose(1, 2)
        parts.append(a.reshape(len(a), -1, a.shape[-1]))
    rows = torch.cat(parts, 1)
    ones = rows.new_ones(*rows.shape[:2], 1)
    kept = [rows] if layer.weight.stop > layer.weight.start else []
    kept += [ones] if layer.bias.stop > layer.bias.start else []
    rows = torch.cat(kept, 2)
    shares = units / units.sum() if len(units) == len(rows) else rows.new_full((len(rows),), 1 / len(rows))
    return torch.einsum("n,nri,nrj->ij", shares.to(rows) / rows.shape[1], rows, rows)


def _rows(module: nn.Module, slope: Tensor) -> Tensor:
    """Gradients in the outputs of a layer, one row a position."""
    channels_last = slope.flatten(2).transpose(1, 2) if isinstance(module, nn.Conv2d) else slope
    return channels_last.reshape(-1, channels_last.shape[-1])
