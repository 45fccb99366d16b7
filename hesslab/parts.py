"""The data in parts: how far a number moves from one to another, and so what it would be on other data."""

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from hesslab.curvature import hessian
from hesslab.risk import EmpiricalRisk
from hesslab.trace import Estimate

PARTS = 8  # that a single batch is cut into
FEWEST = 4  # batches that are taken as they come

Values = NDArray[np.float64]


def forms_by_part(risk: EmpiricalRisk, V: Tensor) -> tuple[Values, Values] | str:
    """vᵀH_b v for every column v of V, (n, k), on every part b of the data: (m, k), and the weights (m,).

    The parts are the batches, or where there are fewer than four, pieces of them. The weighted mean of a
    column is vᵀH v. Costs k products over the data, and the graphs of the parts, one after the other. Where
    the data cannot be taken apart, says why.
    """
    parts = _parts(risk)
    if isinstance(parts, str):
        return parts
    forms, weights = [], []
    for batch in parts:
        part = replace(risk, data=[batch])
        weight = sum(part.at().fold(lambda term: term.weight, graph=False))
        H = hessian(part, verify=False, num_products=V.shape[1])
        forms.append((V * H.product(V)).sum(0).tolist())
        weights.append(float(weight))
    return np.array(forms), np.array(weights)


def over_parts(values: Values, weights: Values) -> Estimate:
    """The weighted mean of `values`, and its standard error were the parts drawn anew."""
    share, m = weights / weights.sum(), len(values)
    mean = float(share @ values)
    spread = m / (m - 1) * float(share**2 @ (values - mean) ** 2)
    return Estimate(mean, math.sqrt(spread), samples=values, dof=m - 1)


def _parts(risk: EmpiricalRisk) -> Iterable[Any] | str:
    """Batches, or pieces of them; or why there are none."""
    batches = risk.batches()
    first = list(islice(batches, FEWEST))
    if len(first) == FEWEST:
        return chain(first, batches)
    norms = (nn.modules.batchnorm._BatchNorm,)
    if any(isinstance(module, norms) and module.training for module in risk.model.modules()):
        return "BatchNorm in train mode ties the examples of a batch; give four batches or more"
    pieces = [piece for batch in first for piece in _pieces(batch)]
    if len(pieces) < PARTS:
        return "the batches could not be taken apart; give four or more"
    return pieces


def _pieces(batch: Any) -> list[Any]:
    """A batch of tensors, in a tuple, a list or a mapping, cut along its first axis; [] for others."""
    mapping = hasattr(batch, "values")
    items = list(batch.values()) if mapping else batch
    if not isinstance(items, list | tuple) or not all(isinstance(t, Tensor) and t.ndim for t in items):
        return []
    if len({len(t) for t in items}) != 1 or len(items[0]) < PARTS:
        return []
    made = zip(*(t.tensor_split(PARTS) for t in items), strict=True)
    return [dict(zip(batch.keys(), piece, strict=True)) for piece in made] if mapping else list(made)
