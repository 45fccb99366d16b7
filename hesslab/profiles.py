"""Losses at many places of a line, a plane or a curve: what is kept of them, and what a grid may have missed.

Inner room of `landscape`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hesslab.risk import EmpiricalRisk

Values = NDArray[np.float64]

#: The second derivative between two places against the second differences, which are its means. With 1 the
#: error was too small on up to 14 of 16 lines between digits networks, with 2 on none, at 5 to 21 points.
SAFETY = 2.0


@dataclass(frozen=True, eq=False)
class Slice:
    """Losses L(θ + Σ_i a_i u_i) for a_i from d grids: on a line (d = 1) or a plane (d = 2) through θ.

    NaN and infinity are kept as the loss gave them. After Ctrl-C, NaN stands where nothing was evaluated.
    """

    grids: tuple[Values, ...]  # the a_i, (k_1,), …, (k_d,)
    values: Values  # (k_1, …, k_d)
    directions: tuple[Tensor, ...]  # the u_i as used, after normalization, (n,) each
    quadratic: Values | None  # L(θ) + gᵀu + ½ uᵀH u for u = Σ a_i u_i, on the same grid; None without H
    num_evaluations: int  # passes over the data, without those of `quadratic`
    stop_reason: str  # "done" or "interrupted"


@dataclass(frozen=True, eq=False)
class Barrier:
    """Losses along a path, and their largest excess over the line between the losses of its two ends.

    The barrier is no lower than `height`, which was seen. It is no higher than `height` + `error` as long as
    the second derivative between two places is at most twice the second differences at them.
    """

    t: Values  # (k,), ascending, from 0 to 1
    values: Values  # (k,), the losses there
    stop_reason: str  # "done" or "interrupted"

    @property
    def excess(self) -> Values:
        """L(t) − (1 − t) L(0) − t L(1), (k,)."""
        with np.errstate(invalid="ignore"):  # of infinite ends
            return np.asarray(self.values - (1 - self.t) * self.values[0] - self.t * self.values[-1])

    @property
    def height(self) -> float:
        """The largest excess, at least 0; NaN where a loss is NaN or that of an end infinite."""
        return float(np.max(self.excess))

    @property
    def where(self) -> float:
        """The t of the largest excess."""
        return float(self.t[np.argmax(self.excess)])

    @property
    def max_loss(self) -> float:
        """The largest loss seen, those of the ends included."""
        return float(np.max(self.values))

    @property
    def over_mean(self) -> float:
        """The largest loss, less the mean of those of the ends (Frankle et al. 2020, §2)."""
        return self.max_loss - float(np.mean(self.values[[0, -1]]))

    @property
    def over_max(self) -> float:
        """The largest loss, less the larger of those of the ends: the climb from the worse one."""
        return self.max_loss - float(np.max(self.values[[0, -1]]))

    @property
    def error(self) -> float:
        """How much higher the barrier may be between the places; infinite where that is not known."""
        if self.stop_reason != "done" or not np.all(np.isfinite(self.values)):
            return float("inf")
        return max(float(np.max(_ceilings(self.t, self.excess))) - self.height, 0.0)

    @property
    def num_evaluations(self) -> int:
        """Passes over the data."""
        return len(self.t)

    def __str__(self) -> str:
        """The height, what may be missing, the place and the cost."""
        spent = f"{self.num_evaluations} evaluations: {self.stop_reason}"
        return f"barrier {self.height:.4g}, up to {self.error:.1g} more, at t = {self.where:.3f} ({spent})"


@dataclass(frozen=True, eq=False)
class Curve:
    """The quadratic Bézier curve (1 − t)² θ_a + 2t(1 − t) c + t² θ_b with control point c, and its losses."""

    theta_a: Tensor = field(repr=False)  # (n,)
    control: Tensor = field(repr=False)  # (n,), c
    theta_b: Tensor = field(repr=False)  # (n,)
    barrier: Barrier  # the losses along the curve
    num_gradients: int  # each of one batch
    stop_reason: str  # "done" or "interrupted", of the training

    def point(self, t: float) -> Tensor:
        """θ at t, (n,)."""
        return bezier(self.theta_a, self.control, self.theta_b, t)


def bezier(a: Tensor, control: Tensor, b: Tensor, t: float) -> Tensor:
    """The point at t of the quadratic Bézier curve."""
    return (1 - t) ** 2 * a + 2 * t * (1 - t) * control + t**2 * b


def profile(
    risk: EmpiricalRisk,
    path: Callable[[float], Tensor],
    num_points: int,
    num_refinements: int,
    progress: bool,
) -> Barrier:
    """The losses at `path(t)`, first on a grid of t, then where they may be highest."""
    losses: dict[float, float] = {}
    places = _places(losses, num_points, num_refinements)
    reason = evaluate(losses, risk, places, path, num_points + num_refinements, progress)
    if len(losses) < 2:  # an excess needs both ends, which come first
        raise KeyboardInterrupt
    return _in_order(losses, reason)


def evaluate(
    losses: dict[Any, float],
    risk: EmpiricalRisk,
    places: Iterable[Any],
    path: Callable[[Any], Tensor],
    total: int,
    progress: bool,
) -> str:
    """Put the loss at `path(place)` into `losses`, for place after place; says why it ended."""
    try:
        for place in shown(places, total, progress, "evaluation"):
            losses[place] = risk.value(path(place))
    except KeyboardInterrupt:
        return "interrupted"
    return "done"


def shown(items: Iterable[Any], total: int, progress: bool, unit: str) -> Iterable[Any]:
    """`items`, with `progress` under a bar that moves with them."""
    if not progress:
        return items
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError(
            "progress=True draws its bar with tqdm; install tqdm, or give progress=False"
        ) from error
    return tqdm(items, total=total, desc="landscape", unit=unit)  # type: ignore[no-any-return]


def _places(losses: dict[float, float], num_points: int, num_refinements: int) -> Iterator[float]:
    """The ends, the rest of a grid, then again and again the middle of the interval that may be highest."""
    yield from (0.0, 1.0, *np.linspace(0, 1, num_points)[1:-1])
    for _ in range(num_refinements):
        seen = _in_order(losses, "done")
        if not np.isfinite(seen.error):
            return
        highest = int(np.argmax(_ceilings(seen.t, seen.excess)))
        yield float(np.mean(seen.t[highest : highest + 2]))


def _in_order(losses: dict[float, float], reason: str) -> Barrier:
    t, values = np.array(sorted(losses.items())).T
    return Barrier(t, values, reason)


def _ceilings(t: Values, e: Values) -> Values:
    """The most that e can be in each interval, (k − 1,), as long as |e″| ≤ M there.

    M is `SAFETY` times the larger of the second differences at the two ends of the interval. The most is then
    the top of the parabola through both ends with curvature −M, if it lies between them, else the higher end.
    """
    h, rise = np.diff(t), np.diff(e)
    bend = np.pad(np.abs(np.diff(rise / h)) * 2 / (h[1:] + h[:-1]), 1, mode="edge")
    sag = SAFETY * np.maximum(bend[:-1], bend[1:]) * h**2 / 2
    inside = np.abs(rise) < sag
    sag = np.where(inside, sag, 1.0)
    top = (e[1:] + e[:-1]) / 2 + sag / 4 + rise**2 / (4 * sag)
    return np.where(inside, top, np.maximum(e[1:], e[:-1]))
