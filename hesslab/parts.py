"""The data in parts: how far a number moves from one to another, and so what it would be on other data."""

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hesslab import ranks
from hesslab.curvature import hessian
from hesslab.risk import EmpiricalRisk
from hesslab.trace import Estimate

PARTS = 8  # that a single batch is cut into
FEWEST = 4  # batches that are taken as they come

Values = NDArray[np.float64]


def sampled(
    risk: EmpiricalRisk, V: Tensor, num_probes: int, rng: np.random.Generator
) -> dict[str, Estimate] | str:
    """λmax, whose eigenvector is the column V, (n, 1), and the trace, with their errors from the data."""
    signs = torch.as_tensor(rng.choice([-1.0, 1.0], (len(V), num_probes))).to(V)
    forms = forms_by_part(risk, torch.cat([V, signs], 1))
    if isinstance(forms, str):
        return forms
    values, weights = forms
    return {
        "λmax": over_parts(values[:, 0], weights),
        "trace": over_parts(values[:, 1:].mean(1), weights),
    }


def forms_by_part(risk: EmpiricalRisk, V: Tensor) -> tuple[Values, Values] | str:
    """vᵀH_b v for every column v of V, (n, k), on every part b of the data: (m, k), and the weights (m,).

    The parts are the batches, or where there are fewer than four, pieces of them; those of weight 0 are left
    out. The weighted mean of a column is vᵀH v. Costs k products over the data, and the graphs of the parts,
    one after the other. Torch's random state is kept. Where the data cannot be taken apart, says why.
    """
    with torch.random.fork_rng(devices=[]):  # a loader draws its order from there
        parts = _parts(risk)
        own = (
            parts
            if isinstance(parts, str)
            else [pair for batch in parts for pair in _of_part(risk, batch, V)]
        )
    everywhere = ranks.gathered(risk.group, own)
    for said in everywhere:
        if isinstance(said, str):
            return said
    found = [pair for held in everywhere for pair in held]
    if len(found) < FEWEST:
        return "too few parts of the data have targets that count; give more"
    forms, weights = zip(*found, strict=True)
    return np.array(forms), np.array(weights)


def _of_part(risk: EmpiricalRisk, batch: Any, V: Tensor) -> list[tuple[list[float], float]]:
    """vᵀH_b v for every column of V, and the weight of the batch; [] where that is 0."""
    part = replace(risk, data=[batch], group=None)
    point = part.at()
    with point.inside(point.leaves()), torch.no_grad():
        term = point.term(0, batch, point.leaves(), alone=False)
    if term is None:
        return []
    H = hessian(part, verify=False, num_products=V.shape[1])
    return [((V * H.product(V)).sum(0).tolist(), float(term.weight))]


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
    if len(pieces) < PARTS and risk.group is None:
        return "the batches could not be taken apart; give four or more"
    return pieces


def _pieces(batch: Any) -> list[Any]:
    """Tensors in a tuple, a list or a mapping, cut along their first axis; in one piece what cannot be."""
    mapping = hasattr(batch, "values")
    items = list(batch.values()) if mapping else batch
    if not isinstance(items, list | tuple) or not all(isinstance(t, Tensor) and t.ndim for t in items):
        return [batch]
    size = len(items[0]) if items else 0
    if size == 0 or any(len(t) != size for t in items):
        return [batch]
    made = zip(*(t.tensor_split(min(PARTS, size)) for t in items), strict=True)
    return [dict(zip(batch.keys(), piece, strict=True)) for piece in made] if mapping else list(made)
