"""How close training is to its edge, tracked with warm starts.

A step is stable along an eigenvector while the curvature there, seen through the preconditioner, is below the
threshold of the optimizer. The room measures the ratio

    λmax(P^(−1/2) H P^(−1/2)) / threshold,     threshold = 2/η, 2(1 + β)/η, 2(1 + β₁)/((1 − β₁)η), …

From one step of training to the next a Hessian changes little. So a look begins with the two best vectors of
the look before, each multiplied once more, which is free, and with a little noise in the last; it adds
residuals of the first pair until that is resolved. Two vectors, since a single one stays on its eigenvalue
when another crosses it. For what neither holds, Lanczos is begun anew at the first look and at every 50th.
"""

import operator as op
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hesslab.curvature import hessian, preconditioned
from hesslab.dynamics import stability_threshold
from hesslab.lanczos import EigenPairs, eigsh, tridiagonalize
from hesslab.operators import Operator, generator
from hesslab.risk import EmpiricalRisk

#: The length of the noise added to the last of them, relative to its own.
NOISE = 0.1


@dataclass(frozen=True, eq=False)
class Sharpness:
    """The largest eigenvalue λ of P^(−1/2) H P^(−1/2) at one step, and the threshold of the optimizer there.

    `value` is a Rayleigh quotient: λmax is no smaller, but for rounding. `converged` says that `residual` ≤
    rtol · |value|: then `interval` contains an eigenvalue. That it is the largest, no residual can say; at a
    look that is `searched`, Lanczos from a random vector has found no larger one. With m products it
    overlooks one that stands out by a part ε of the spectrum's width with a probability of at most
    1.648 √n exp(−√ε (2m − 1)) (Kuczyński & Woźniakowski 1992, Theorem 4.2).
    """

    value: float
    residual: float  # ‖Av − λv‖ of a unit vector v, measured by products of this look
    interval: tuple[float, float]  # contains an eigenvalue
    threshold: float  # the largest stable λ; infinite for η = 0
    converged: bool
    searched: bool
    num_matvecs: int
    step: int = 0  # the number of calls of `Tracker.look` before this one

    @property
    def ratio(self) -> float:
        """λ / threshold: 1 at the edge of stability."""
        return self.value / self.threshold

    def __str__(self) -> str:
        """λ ± half the width of its interval, the threshold and the ratio."""
        half, mark = (self.interval[1] - self.interval[0]) / 2, "" if self.converged else ", not converged"
        edge = f"{self.threshold:.4g}: {self.ratio:.3f} of it"
        return f"λ = {self.value:.4g} ± {half:.1g}, threshold {edge} ({self.num_matvecs} matvecs{mark})"


def effective_sharpness(
    risk: EmpiricalRisk,
    optimizer: torch.optim.Optimizer,
    *,
    rtol: float = 1e-3,
    max_matvecs: int | None = None,
    rng: int | np.random.Generator,
) -> Sharpness:
    """The largest eigenvalue that the optimizer feels at the parameters and the state that it has now.

    λmax of P^(−1/2) H P^(−1/2) and the threshold that belongs to it: H itself and 2(1 + β)/η for SGD with
    momentum β, the preconditioned Hessian for RMSprop, Adam and AdamW (`hesslab.curvature.preconditioned`,
    `hesslab.dynamics.stability_threshold`). Parameter groups may differ in learning rate and weight decay: λ
    is then in units of the first group, and contains the decay. Costs a Hessian, and the products of
    `eigsh`, `max_matvecs` at most; the end of the budget and Ctrl-C return what is there, not converged.

    Raises ValueError for other optimizers, before the first step of one that has a state, and where
    `hessian` does. (Cohen et al. 2021, §3; Cohen et al. 2022, §2)

    >>> x = torch.ones(2, 1, dtype=torch.float64)
    >>> model = torch.nn.Linear(1, 1, bias=False).double()
    >>> sgd = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.5)
    >>> print(effective_sharpness(EmpiricalRisk(model, torch.nn.MSELoss(), (x, x)), sgd, rng=0))
    λ = 2 ± 5e-15, threshold 6: 0.333 of it (2 matvecs)
    """
    A, threshold = _at_edge(hessian(risk), optimizer)
    pairs = eigsh(A, 1, rtol=rtol, max_matvecs=max_matvecs, rng=rng)
    if len(pairs.values) == 0:
        raise KeyboardInterrupt
    return _of_pairs(pairs, threshold, rtol)


@dataclass(eq=False)
class Tracker:
    """The sharpness along training: one line before the loop, and one in it.

        tracker = Tracker(risk, optimizer, every=10, rng=0)
        for x, y in loader:
            ...
            optimizer.step()
            tracker.look()

    Learning rate, momentum and preconditioner are read from the live optimizer at each look. The model is
    left as it was, and after an error or Ctrl-C in a look the record is as it was before it.

    `risk` is what is looked at: all data, or a fixed part of them. `every`: of so many calls, only the first
    looks. `rtol`: a pair is converged when its residual is at most rtol · |λ|. `max_matvecs` bounds the
    products of a look. `carried` vectors go from look to look: 2 follow two eigenvalues that cross, each
    further one costs a product a look. The first look, and then every `search_every`-th (None: no other),
    also runs Lanczos from a random vector, for `search_matvecs` more products. Where that finds an eigenvalue
    which the looks since the last search had missed, they are marked as not converged after all. In between,
    one that rises far within a single look, as in the first steps of a small network, can go unnoticed.

    A look costs its products and a Hessian, about three products. On a digits network of 4522 parameters, one
    look a step took 3.9 products, searches counted, and its values were within 1e-3. Raises ValueError where
    an argument is out of range, and in `look` as `effective_sharpness` does.

    >>> x = torch.ones(2, 1, dtype=torch.float64)
    >>> model = torch.nn.Linear(1, 1, bias=False).double()
    >>> sgd = torch.optim.SGD(model.parameters(), lr=0.5)
    >>> tracker = Tracker(EmpiricalRisk(model, torch.nn.MSELoss(), (x, x)), sgd, rng=0)
    >>> tracker.look().ratio, tracker.record["step"]
    (0.5, array([0]))
    """

    risk: EmpiricalRisk
    optimizer: torch.optim.Optimizer
    _: KW_ONLY
    every: int = 1
    rtol: float = 1e-2
    max_matvecs: int = 10
    carried: int = 2
    search_every: int | None = 50
    search_matvecs: int = 20
    rng: int | np.random.Generator
    looks: list[Sharpness] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        for name in ("every", "max_matvecs", "carried", "search_every", "search_matvecs"):
            _require_count(name, getattr(self, name), optional=name == "search_every")
        if not (isinstance(self.rtol, int | float) and 0 < self.rtol < 1):
            raise ValueError(f"rtol = {self.rtol!r}; expected a number between 0 and 1, such as 1e-2")
        self._rng, self._calls = generator(self.rng), 0
        self._block: Tensor | None = None

    def look(self) -> Sharpness | None:
        """Look, if it is time to; call it once a step, after `optimizer.step()`. None where it is not."""
        step, self._calls = self._calls, self._calls + 1
        if step % self.every:
            return None
        A, threshold = _at_edge(hessian(self.risk, verify=not self.looks), self.optimizer)
        best, missed = self._best(A)
        block = best.ahead[:, : self.carried].clone()
        block[:, -1] += NOISE * A.normal(1, self._rng)[:, 0] / A.shape[0] ** 0.5
        kept = len(self.looks) - (self.search_every or 0) + 1 if missed else len(self.looks)
        doubted = [replace(look, converged=False) for look in self.looks[kept:]]
        # Nothing is kept before all is known: an interrupt above leaves the record as it was.
        seen = _sharpness(best, threshold, self.rtol, step)
        self.looks, self._block = [*self.looks[:kept], *doubted, seen], block
        return seen

    @property
    def num_matvecs(self) -> int:
        """All products so far."""
        return sum(look.num_matvecs for look in self.looks)

    @property
    def record(self) -> dict[str, NDArray[Any]]:
        """The looks as arrays, one entry a look, by the names of the fields and "ratio"."""
        names = ("step", "value", "residual", "threshold", "ratio", "converged", "searched", "num_matvecs")
        return {name: np.array([getattr(look, name) for look in self.looks]) for name in names}

    def _best(self, A: Operator) -> tuple["_Best", bool]:
        """The pair to report, and whether a search has found one that the carried vectors had missed."""
        warm = None if self._block is None else _resolved(A, self._block, self.rtol, self.max_matvecs)
        due = self.search_every is not None and len(self.looks) % self.search_every == 0
        if warm is not None and not due:
            return warm, False
        lanczos = tridiagonalize(A, A.normal(1, self._rng)[:, 0], self.search_matvecs)
        theta, Y = np.linalg.eigh(lanczos.T)
        block, spent = lanczos.V @ A.native(Y[:, ::-1][:, : self.carried].copy()), len(theta)
        if warm is not None:
            spent += warm.num_matvecs
            if theta[-1] <= warm.value:
                return replace(warm, num_matvecs=spent, searched=True), False
            block = torch.cat([block[:, :1], warm.ahead], 1)
        found = _resolved(A, block, self.rtol, self.max_matvecs)
        best = replace(found, num_matvecs=spent + found.num_matvecs, searched=True)
        # A resolved pair is right to about rtol²: a quarter of rtol more means that another one was missed.
        return best, warm is not None and found.value - warm.value > self.rtol / 4 * abs(found.value)


@dataclass(frozen=True, eq=False)
class _Best:
    """The best pair of a look, and where the next look may begin."""

    value: float
    residual: float
    half: float  # the residual, and what rounding may hide of it
    ahead: Tensor  # (n, j), columns of length 1, those of the largest Ritz values first
    num_matvecs: int
    searched: bool = False


def _resolved(A: Operator, block: Tensor, rtol: float, budget: int) -> _Best:
    """The top Ritz pair of the span of `block`, grown by residuals of that pair until it is resolved."""
    Q = AQ = block[:, :0]
    new, most = block[:, :budget], min(budget, A.shape[0])
    while True:
        fresh = _beside(Q, new)
        Q, AQ = torch.cat([Q, fresh], 1), torch.cat([AQ, A.product(fresh)], 1)
        T = Q.T @ AQ
        if not bool(torch.isfinite(T).all()):
            raise ValueError(
                "a product with the Hessian holds NaN or infinity; look where the loss overflows"
            )
        theta, Y = torch.linalg.eigh((T + T.T) / 2)
        X, AX = Q @ Y, AQ @ Y
        value, rest = float(theta[-1]), AX[:, -1:] - theta[-1] * X[:, -1:]
        residual = float(rest.norm())
        if residual <= rtol * abs(value) or fresh.shape[1] == 0 or Q.shape[1] >= most:
            break
        new = rest
    # One step of the power method, shifted to leave negative eigenvalues behind, costs nothing: A X is known.
    ahead = (AX - min(float(theta[0]), 0.0) * X).flip(1)
    size = ahead.norm(dim=0)
    ahead = torch.where(size > 0, ahead / size, X.flip(1))
    return _Best(value, residual, residual + _rounding(A, float(theta.abs().max())), ahead, Q.shape[1])


def _beside(Q: Tensor, new: Tensor) -> Tensor:
    """Orthonormal columns, orthogonal to those of Q, that span with them what `new` does."""
    start = Q.shape[1]
    for w in new.T:
        size = w.norm()
        for _ in range(2):  # once is not enough where little is left of w
            w = w - Q @ (Q.T @ w)
        if w.norm() > 1e3 * torch.finfo(w.dtype).eps * size:
            Q = torch.cat([Q, (w / w.norm())[:, None]], 1)
    return Q[:, start:]


def _sharpness(best: _Best, threshold: float, rtol: float, step: int = 0) -> Sharpness:
    interval = best.value - best.half, best.value + best.half
    converged = best.residual <= rtol * abs(best.value)
    return Sharpness(
        best.value, best.residual, interval, threshold, converged, best.searched, best.num_matvecs, step
    )


def _of_pairs(pairs: EigenPairs, threshold: float, rtol: float) -> Sharpness:
    return Sharpness(
        value=float(pairs.values[0]),
        residual=float(pairs.residuals[0]),
        interval=(float(pairs.intervals[0, 0]), float(pairs.intervals[0, 1])),
        threshold=threshold,
        converged=bool(pairs.residuals[0] <= rtol * abs(pairs.values[0])),
        searched=pairs.stop_reason in ("converged", "converged, from the matrix itself"),
        num_matvecs=pairs.num_matvecs,
    )


def _at_edge(H: Operator, optimizer: torch.optim.Optimizer) -> tuple[Operator, float]:
    """The matrix whose eigenvalues decide, and the threshold that they must not exceed."""
    groups, alike = optimizer.param_groups, optimizer
    settings = {(float(g["lr"]), float(g.get("weight_decay", 0.0))) for g in groups}
    if len(settings) > 1:
        # In units of the first group's rate, with the decay in the matrix. For AdamW that threshold is too
        # high by a fraction of less than ηω/2.
        alike = object.__new__(type(optimizer))
        alike.param_groups = [{**g, "lr": groups[0]["lr"], "weight_decay": 0.0} for g in groups]
    threshold = stability_threshold(alike)
    coupled = isinstance(optimizer, torch.optim.RMSprop | torch.optim.Adam)
    inside = len(settings) > 1 or (coupled and not groups[0].get("decoupled_weight_decay"))
    return preconditioned(H, optimizer, weight_decay=inside), threshold


def _rounding(A: Operator, scale: float) -> float:
    return float(np.finfo(A.dtype).eps) * (10.0 + float(np.sqrt(A.shape[0]))) * scale


def _require_count(name: str, value: Any, *, optional: bool) -> None:
    try:
        good = op.index(value) >= 1
    except TypeError:
        good = optional and value is None
    if not good:
        more = ", or None" if optional else ""
        raise ValueError(f"{name} = {value!r}; expected a whole number, at least 1{more}")
