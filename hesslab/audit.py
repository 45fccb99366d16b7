"""The audit of a model you bring: curvature, distance from the edge, and the error of each.

Three errors are kept apart: of the solver (residuals), of the random probes (standard errors), and of the
data (how far a number moves from one part of the data to another). The verdict is in sentences, and says what
the numbers do not mean as well.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hesslab.critical import CriticalRate, critical_rate
from hesslab.curvature import _at_floor, _derived, blocks, hessian
from hesslab.density import SpectralMeasure, slq
from hesslab.lanczos import EigenPairs, _reported, eigsh
from hesslab.operators import Operator, counted, generator
from hesslab.parts import sampled
from hesslab.report import page, rows, sentences
from hesslab.risk import EmpiricalRisk
from hesslab.stability import Sharpness, _at_edge, _of_pairs
from hesslab.trace import Estimate, hutchpp

RTOL = 1e-3  # of the sharpness; its error is then of the order of RTOL²
FLAT = 1e-2  # eigenvalues within ± FLAT · λmax are called flat
PROBES = 4  # for the trace on parts of the data
RUNS = 2  # of Lanczos for the density: its fractions are limited by their steps, not by their number
FLOORED = 0.5  # of the sharpest direction, where the optimizer's scaling is not to be relied on
LEAST = 60  # products


@dataclass(frozen=True, eq=False)
class Layer:
    """One diagonal block of the Hessian: its size, its largest eigenvalue and its trace."""

    num_parameters: int
    largest: EigenPairs
    trace: Estimate


@dataclass(frozen=True, eq=False)
class Audit:
    """What `audit` found; None where the budget or an interrupt left no room, or there is no optimizer.

    `sharpness` is what the optimizer feels, with its threshold; `top` and `bottom` are λmax and λmin of the
    Hessian itself; `flat` and `negative` are the fractions of its eigenvalues within ± λmax/100 and below
    −λmax/100; `trace` is its trace; `density` the whole spectrum; `layers` its diagonal blocks, by name.
    `sampled` has λmax and the trace once more, each with the standard error that comes from the choice of the
    examples. `notes` say what was left out, and why. Prints as a report in text; `html()` is one page.
    """

    num_parameters: int
    loss: float
    gradient_norm: float
    budget: int
    num_matvecs: int = 0
    optimizer: str | None = None
    sharpness: Sharpness | None = None
    critical: CriticalRate | None = None
    top: EigenPairs | None = None
    bottom: EigenPairs | None = None
    trace: Estimate | None = None
    density: SpectralMeasure | None = None
    flat: Estimate | None = None
    negative: Estimate | None = None
    layers: dict[str, Layer] = field(default_factory=dict)
    sampled: dict[str, Estimate] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> list[str]:
        """What the numbers say and do not say, in sentences."""
        return sentences(self)

    @property
    def state(self) -> str:
        """Of the next steps, on the quadratic model: "stable", "unstable" or "undecided"."""
        seen = self.sharpness
        if seen is None or not math.isfinite(seen.threshold):
            return "undecided"
        if seen.interval[0] > seen.threshold:
            return "unstable"  # proven: an eigenvalue is beyond the threshold
        settled = seen.converged and seen.searched and seen.interval[1] < seen.threshold
        return "stable" if settled else "undecided"

    def __str__(self) -> str:
        """The table of all numbers, and the verdict."""
        table = rows(self)
        width = max(len(name) for name, _ in table)
        lines = [f"{name:<{width}}  {value}" for name, value in table]
        return "\n".join([*lines, "", *self.verdict])

    def html(self, *figures: tuple[Any, str]) -> str:
        """One page that needs nothing else, with (matplotlib figure, alt text) pairs drawn into it."""
        return page(self, figures)


def audit(
    model: nn.Module,
    loss: Any,
    data: Any,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    budget: int = 300,
    progress: bool = False,
    rng: int | np.random.Generator,
    **options: Any,
) -> Audit:
    """Look at a model where it stands: sharpness, threshold, trace, spectrum, layers, and the error of each.

    `model`, `loss`, `data` and `options` (`forward`, `weight`, `parameters`, `dropout`) are those of
    `EmpiricalRisk`; a fixed part of the data will do, and the audit says how much that costs. `optimizer`,
    any of torch, gives the critical learning rate; SGD, RMSprop, Adam and AdamW, after a step, the edge too.
    `budget` bounds the products with the Hessian, each over all of `data`; a product of parts counts as one,
    and the layers as many as the one that asks for most. Beside it: some 6 gradients, and up to 40 values of
    the loss for the critical rate.

    The model, the optimizer and the random state are left as they were. Ctrl-C returns what is known by then.
    Raises ValueError for a budget below 60 and where the loss is not finite, TypeError for an optimizer that
    is none, and as `EmpiricalRisk` and `hessian` do.

    >>> from hesslab.risk import mlp
    >>> x = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
    >>> model = mlp((1, 8, 1), rng=0).double()
    >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> found = audit(model, nn.MSELoss(), (x, x**2), sgd, budget=100, rng=0)
    >>> found.state, found.sharpness.ratio < 1
    ('stable', True)
    """
    risk = EmpiricalRisk(model, loss, data, **options)
    _require(budget, optimizer)
    value, gradient = risk.value(), risk.gradient()
    if not math.isfinite(value):
        raise ValueError(f"the loss is {value}; expected a finite one: go back to where it was finite")
    start = Audit(risk.num_parameters, value, float(gradient.norm()), budget)
    with _reported(progress, budget, "audit") as report:
        purse = _Purse(budget, report)
        work = _Work(risk, optimizer, purse, generator(rng), start)
        for stage in STAGES:
            if not purse.interrupted:
                work.carry_out(stage)
        return replace(work.found, num_matvecs=purse.spent)


def _require(budget: Any, optimizer: Any) -> None:
    if isinstance(budget, bool) or not isinstance(budget, int | np.integer) or budget < LEAST:
        raise ValueError(
            f"budget = {budget!r}; expected at least {LEAST} products, a whole number, to say anything at all"
        )
    if optimizer is not None and not hasattr(optimizer, "param_groups"):
        raise TypeError(
            f"optimizer is a {type(optimizer).__name__}; expected a torch.optim.Optimizer, or None"
        )


@dataclass(eq=False)
class _Purse:
    """What may still be spent, and whether somebody has pressed Ctrl-C."""

    budget: int
    report: Callable[[int], Any]
    spent: int = 0
    interrupted: bool = False

    def share(self, fraction: float, least: int) -> int:
        """A fraction of the whole budget, no more than is left."""
        return min(max(int(fraction * self.budget), least), self.budget - self.spent)

    def pay(self, count: int) -> None:
        """Note that products were computed."""
        self.spent += count
        self.report(count)

    def counted(self, A: Operator) -> Operator:
        """A, whose products are counted here."""

        def product(X: Tensor) -> Tensor:
            AX: Tensor = A.product(X)
            self.pay(X.shape[1])
            return AX

        return _derived(A, product)


@dataclass(eq=False)
class _Work:
    """An audit under way: what is audited, what is left of the budget, and what is known."""

    risk: EmpiricalRisk
    optimizer: torch.optim.Optimizer | None
    purse: _Purse
    rng: np.random.Generator
    found: Audit
    H: Operator = field(init=False)

    def __post_init__(self) -> None:
        self.H = self.purse.counted(hessian(self.risk, num_products=self.purse.budget))

    def carry_out(self, stage: Callable[["_Work"], dict[str, Any]]) -> None:
        """Add what a stage finds. An interrupt within it is the end, and no error."""
        try:
            results = stage(self)
        except KeyboardInterrupt:
            self.purse.interrupted = True
            return
        self.found = replace(self.found, **results)
        self.purse.interrupted |= any(_cut_short(result) for result in results.values())

    def noted(self, text: str) -> dict[str, Any]:
        """A result that consists of a note."""
        return {"notes": (*self.found.notes, text)}


def _cut_short(result: Any) -> bool:
    """Whether an algorithm was interrupted, and gave what it had."""
    if isinstance(result, EigenPairs):
        return result.stop_reason == "interrupted"
    if isinstance(result, Estimate):
        return not result.converged
    if isinstance(result, SpectralMeasure):
        return len(result.nodes) < RUNS
    layers = result.values() if isinstance(result, dict) else ()
    return any(isinstance(r, Layer) and (_cut_short(r.largest) or _cut_short(r.trace)) for r in layers)


def _edge(work: _Work) -> dict[str, Any]:
    """The sharpness that the optimizer feels, and its threshold."""
    if work.optimizer is None:
        return work.noted("No optimizer was given: there is no threshold to compare with.")
    named = {"optimizer": type(work.optimizer).__name__}
    try:
        A, threshold = _at_edge(work.H, work.optimizer)
    except ValueError as error:
        return {**named, **work.noted(f"No threshold is known: {error}.")}
    pairs = eigsh(A, 1, rtol=RTOL, max_matvecs=work.purse.share(0.25, 40), rng=work.rng)
    if len(pairs.values) == 0:
        return named
    found = {**named, "sharpness": _of_pairs(pairs, threshold, RTOL)}
    work.purse.interrupted |= _cut_short(pairs)
    groups, plain = work.optimizer.param_groups, isinstance(work.optimizer, torch.optim.SGD)
    plain &= not any(group["weight_decay"] or group["lr"] != groups[0]["lr"] for group in groups)
    share = float((pairs.vectors[:, 0] ** 2)[_at_floor(work.optimizer, work.risk)].sum())
    if share > FLOORED:
        found |= work.noted(
            f"{share:.0%} of the sharpest direction is in weights of which {named['optimizer']} has seen "
            "almost no gradient so far, so that ε alone limits its step there: the first gradient changes "
            "that scaling at once, and the ratio says little about the run."
        )
    return {**found, "top": pairs} if plain else found


def _critical(work: _Work) -> dict[str, Any]:
    """The critical learning rate, by steps of a copy."""
    if work.optimizer is None:
        return {}
    try:
        return {"critical": critical_rate(work.risk, work.optimizer)}
    except ValueError as error:
        return work.noted(f"No critical learning rate: {error}.")


def _ends(work: _Work) -> dict[str, Any]:
    """λmax and λmin of the Hessian."""
    top, bottom = work.found.top, None
    if top is None:
        top = eigsh(work.H, 1, rtol=RTOL, max_matvecs=work.purse.share(0.2, 12), rng=work.rng)
    if not _cut_short(top):
        budget = work.purse.share(0.15, 8)
        bottom = eigsh(work.H, 1, which="SA", rtol=RTOL, search=False, max_matvecs=budget, rng=work.rng)
    return {"top": top, "bottom": bottom}


def _data(work: _Work) -> dict[str, Any]:
    """How λmax and the trace change from one part of the data to another."""
    top = work.found.top
    if top is None or len(top.values) == 0:
        return {}
    if work.purse.share(0.0, 1 + PROBES) < 1 + PROBES:
        return work.noted("The budget left nothing for the error from the data; give a larger one.")
    found = sampled(work.risk, top.vectors[:, :1], PROBES, work.rng)
    if isinstance(found, str):
        return work.noted(f"The error from the data is not known: {found}.")
    work.purse.pay(1 + PROBES)
    return {"sampled": found}


def _trace(work: _Work) -> dict[str, Any]:
    """The trace of the Hessian."""
    budget = work.purse.share(0.15, 9)
    return {"trace": hutchpp(work.H, max_matvecs=budget, rng=work.rng)} if budget >= 6 else {}


def _layers(work: _Work) -> dict[str, Any]:
    """The diagonal block of every layer, all together."""
    try:
        parts = blocks(work.risk, verify=False, num_products=work.purse.budget)
    except ValueError as error:
        return work.noted(f"The layers are not known: {error}.")
    left = work.purse.share(0.25, 12)
    if left < 12:
        return work.noted("The budget left nothing for the layers; give a larger one.")
    seed, spent = int(work.rng.integers(2**31)), []

    def look(A: Operator) -> tuple[EigenPairs, Estimate]:
        own, num_matvecs = counted(A)
        largest = eigsh(own, 1, rtol=1e-2, search=False, max_matvecs=left * 2 // 3, rng=seed)
        trace = hutchpp(own, max_matvecs=left // 3, rng=seed + 1)
        spent.append(num_matvecs())
        return largest, trace

    seen = parts.map(look)
    work.purse.pay(max(spent))
    sizes = {name: where.stop - where.start for name, where in parts.slices.items()}
    return {"layers": {name: Layer(sizes[name], *found) for name, found in seen.items()}}


def _whole(work: _Work) -> dict[str, Any]:
    """The density of the spectrum from all that is left, and how much of it is flat or negative."""
    steps = work.purse.share(1.0, 0) // RUNS
    if steps < 3:
        return work.noted("The budget left nothing for the density; give a larger one.")
    steps, top = min(steps, work.H.shape[0] + 1), work.found.top
    measure = slq(work.H, num_steps=steps, num_probes=RUNS, rng=work.rng)
    scale = float(top.values[0]) if top is not None and len(top.values) else float(measure.nodes.max())
    if not scale > 0:
        return {"density": measure}
    lowest = 2 * min(float(measure.nodes.min()), 0.0) - scale
    return {
        "density": measure,
        "flat": measure.mass(-FLAT * scale, FLAT * scale),
        "negative": measure.mass(lowest, -FLAT * scale),
    }


STAGES = (_edge, _critical, _ends, _data, _trace, _layers, _whole)
