"""Traces, diagonals and norms from random probes, each with the error that its own products reveal.

For a random w with E[w wᵀ] = I, E[wᵀA w] = tr A (Girard 1989; Hutchinson 1990). The usual error bar is the
spread of a few numbers wᵀA w: it is itself uncertain, and small exactly when the estimate is low. But a
product A w holds n numbers, and they give the variance at once (`probes`): 2 E‖r‖² with a residual r that
every product leaves.

Intervals are Student's t with ν = probes × effective rank of the operator behind r, which the angles
between the residuals and the spread of their lengths show. Where that operator is λ times a projection,
the estimate is a scaled χ²_ν and the interval holds with 95.0 to 95.6 % for every ν, although χ² is skew:
the worst case of one direction included. `benchmarks/coverage.py` measures it on other spectra.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from hesslab.operators import Operator, counted, generator
from hesslab.probes import (
    Entries,
    Tally,
    batches,
    beside,
    columns,
    draw,
    empty,
    grown,
    leave_one_out,
    numbers,
    quadratic_forms,
    remainder,
    tally_of,
)

Values = NDArray[np.float64]
Grow = Callable[[Operator, np.random.Generator, list[int]], Iterator["Estimate"]]


@dataclass(frozen=True, eq=False, repr=False)
class Estimate:
    """A number that was estimated, its standard error, and its price in products.

    Fields: `value`, a float or an array; `stderr`, of the same shape, never below the rounding floor ε √n
    ‖A‖_F of the operator's precision ε; `num_matvecs`; `samples`, the single-probe estimates whose mean is
    the value (empty for a diagonal); `dof`, the degrees of freedom of the standard error; `bias`, a bound
    on what more probes cannot reduce; `looks`, how often a stopping rule may have looked; `converged`,
    False where a tolerance was asked for and not reached, or the run was interrupted; `positive`, for
    quantities that cannot be negative.

    >>> Estimate(2.6512, 0.0912, num_matvecs=48)
    2.65 ± 0.09 (48 matvecs)
    """

    value: Any
    stderr: Any
    num_matvecs: int = 0
    samples: Values = field(default_factory=lambda: np.empty(0))
    dof: Any = math.inf
    bias: Any = 0.0
    looks: int = 1
    converged: bool = True
    positive: bool = False

    def interval(self, level: float = 0.95) -> tuple[Any, Any]:
        """(lower, upper), which hold the true value between them with probability `level`.

        value ± (t_ν stderr + bias); for a positive quantity, the same on a logarithmic scale. With several
        looks the level of each is raised so that all hold together (Bonferroni).
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"level = {level}; expected a probability between 0 and 1, such as 0.95")
        tail = (1.0 - level) / 2 / self.looks
        half = -stdtrit(np.minimum(self.dof, 1e9), tail) * self.stderr + self.bias
        if not self.positive:
            return self.value - half, self.value + half
        factor = math.exp(min(half / self.value, 700.0)) if self.value else 1.0
        return self.value / factor, self.value * factor

    def __repr__(self) -> str:
        """`2.65 ± 0.09 (48 matvecs)`: the error to one digit, two where it begins with a 1."""
        price = f"({self.num_matvecs} matvecs)"
        if getattr(self.value, "ndim", 0):
            return f"Estimate of shape {tuple(self.value.shape)} {price}"
        value, error = float(self.value), float(self.stderr + self.bias)
        if not (math.isfinite(error) and error > 1e-9 * abs(value)):
            return f"{value:.10g} ± {error:.0e} {price}"
        power = math.floor(math.log10(max(abs(value), error)))
        unit, suffix = (10.0**power, f"e{power:+03d}") if not -4 <= power <= 6 else (1.0, "")
        digits = -math.floor(math.log10(error / unit / 1.95))
        text = " ± ".join(f"{round(x / unit, digits) + 0.0:.{max(0, digits)}f}" for x in (value, error))
        return f"({text}){suffix} {price}" if suffix else f"{text} {price}"


def hutchinson(
    A: Any,
    *,
    max_matvecs: int,
    rtol: float | None = None,
    probes: str = "rademacher",
    rng: int | np.random.Generator,
) -> Estimate:
    """The trace of A, (n, n), as the mean of wᵀA w over random probes w.

    Variance of one probe: "rademacher" 2(‖A‖_F² − Σ a_ii²), exact where A is diagonal; "gaussian" 2‖A‖_F²;
    "sphere" 2n/(n+2) (‖A‖_F² − tr²/n), exact where A is a multiple of I. In the units of A.

    Costs `max_matvecs` products; n where that reaches n, since then the diagonal is read off. With `rtol`,
    it stops once the 95 % interval's half-width is within `rtol` |value|, looking after …, max/4, max/2 and
    max products with the level raised to pay for every look. Raises ValueError for a budget below 2, an
    unknown `probes`, an `rtol` that is not positive, a product that is not finite. Hutchinson, Commun.
    Stat. Simul. 19 (1990) 433.

    >>> import numpy as np
    >>> A = np.ones((400, 400)) + np.diag(np.arange(400.0))
    >>> hutchinson(A, max_matvecs=40, rng=0)
    80190 ± 90 (40 matvecs)
    """
    if probes not in ("rademacher", "gaussian", "sphere"):
        raise ValueError(f'probes = {probes!r}; expected "rademacher", "gaussian" or "sphere"')

    def grow(operator: Operator, rng: np.random.Generator, looks: list[int]) -> Iterator[Estimate]:
        tally = Tally()
        for target in looks:
            for size in batches(target - tally.size):
                W = draw(operator, probes, size, rng)
                tally += quadratic_forms(W, operator.multiply(W), probes)
            yield _mean(operator, tally)

    return _estimate(A, max_matvecs, rtol, rng, 2, grow, _exact_trace)


def hutchpp(
    A: Any, *, max_matvecs: int, rtol: float | None = None, rng: int | np.random.Generator
) -> Estimate:
    """Hutch++: the trace of A on the range of a sketch exactly, and the remainder by probes.

    tr A = tr QᵀA Q + tr P A P,  Q an orthonormal basis of A S, P = I − Q Qᵀ, S random of shape (n, m // 3).

    The probes of the remainder lie on the sphere in the range of P: the answer is exact where A is a
    multiple of I, as it is for rank A ≤ m // 3. For positive semidefinite A the error falls as 1/m,
    Hutchinson's as 1/√m. Costs at most m = `max_matvecs` ≥ 3 products, a third each for A S, A Q and the
    probes. `rtol`, units and errors as for `hutchinson`. Meyer, Musco, Musco & Woodruff, SOSA 2021, §1.2
    (arXiv 2010.09649).

    >>> import numpy as np
    >>> hutchpp(np.diag(1.0 / np.arange(1, 401) ** 2), max_matvecs=60, rng=0)
    1.641 ± 0.003 (60 matvecs)
    """

    def grow(operator: Operator, rng: np.random.Generator, looks: list[int]) -> Iterator[Estimate]:
        sketch = empty(operator)
        W, Y = sketch.W, sketch.Y
        for target in looks:
            sketch = grown(operator, sketch, target // 3, rng)
            more = draw(operator, "sphere", target - 2 * (target // 3) - W.shape[1], rng)
            W, Y = beside(W, more), beside(Y, operator.multiply(more))
            yield _mean(operator, remainder(sketch, W, Y))

    return _estimate(A, max_matvecs, rtol, rng, 3, grow, _exact_trace)


def xtrace(
    A: Any, *, max_matvecs: int, rtol: float | None = None, rng: int | np.random.Generator
) -> Estimate:
    """XTrace: Hutch++ in which every probe is also sketch for all the others.

    t_i = tr Q_iᵀA Q_i + w_iᵀP_i A P_i w_i, Q_i an orthonormal basis of the products A w_j, j ≠ i; the value
    is their mean. Q_i is Q without one direction, along a row of R⁻¹ where A W = Q R. Exact for rank A < k
    and multiples of I. Costs two products for each of k = `max_matvecs` // 2 ≥ 2 probes. Once A W is
    rank-deficient, the probes that added nothing are independent of Q: only they are averaged, as in
    Hutch++, and the estimate stays unbiased.

    The t_i share directions, so their spread says too little. With probes i and j left out, let R_ij be
    what w_j's direction changes in t_i. The other terms of t_i are uncorrelated with t_j, given the other
    probes, so

        Var(mean) = v / k + (1 − 1/k) E[R_ij R_ji],    v = Var(t_i | others) = 2 E‖r_i‖²,

    for Gaussian w, and nearly so on the sphere. Both are averages over the products at hand. The measured
    covariance counts with its modulus: a negative one only shows how uncertain it is. `rtol`, units and
    errors as for `hutchinson`. Epperly, Tropp & Webber, SIAM J. Matrix Anal. Appl. 45 (2024) 1, §2.

    >>> import numpy as np
    >>> xtrace(np.diag(0.7 ** np.arange(400)), max_matvecs=40, rng=0)
    3.333 ± 0.002 (40 matvecs)
    """

    def grow(operator: Operator, rng: np.random.Generator, looks: list[int]) -> Iterator[Estimate]:
        sketch = empty(operator)
        for target in looks:
            sketch = grown(operator, sketch, target // 2, rng)
            spare = np.flatnonzero(~sketch.new)
            if len(spare):
                yield _mean(operator, remainder(sketch, sketch.W[:, spare], sketch.Y[:, spare]))
            else:
                yield _mean(operator, *leave_one_out(sketch))

    return _estimate(A, max_matvecs, rtol, rng, 4, grow, _exact_trace)


def diagonal(A: Any, *, max_matvecs: int, rng: int | np.random.Generator) -> Estimate:
    """The diagonal of A, (n,), entry by entry, as the mean of w∘(A w) over Rademacher probes w.

    Entry i of one probe has the variance Σ_{j≠i} a_ij². `value` and `stderr` are native arrays of shape
    (n,), in the units of A. Costs `max_matvecs` ≥ 2 products; n where that reaches n, since then the
    diagonal is read off. Raises ValueError as `hutchinson` does. Bekas, Kokiopoulou & Saad, Appl. Numer.
    Math. 57 (2007) 1214, §2.

    >>> import numpy as np
    >>> A = np.diag(np.arange(400.0))
    >>> diagonal(A, max_matvecs=2, rng=0).value[:3]
    array([0., 1., 2.])
    """

    def grow(operator: Operator, rng: np.random.Generator, looks: list[int]) -> Iterator[Estimate]:
        entries = Entries()
        for target in looks:
            for size in batches(target - entries.size):
                W = draw(operator, "rademacher", size, rng)
                entries = entries.joined(W, operator.multiply(W))
            k = entries.size
            floor = _floor(operator, (entries.norms / k) ** 0.5)
            stderr = operator.xp.maximum((entries.squares / (k - 1) / k) ** 0.5, floor)
            yield Estimate(entries.mean, stderr, dof=k - 1)

    return _estimate(A, max_matvecs, None, rng, 2, grow, _exact_diagonal)


def frobenius(A: Any, *, max_matvecs: int, rng: int | np.random.Generator) -> Estimate:
    """The Frobenius norm ‖A‖_F = √(Σ λ²), from E‖A w‖² = ‖A‖_F² for w on the sphere of radius √n.

    `samples` are the ‖A w‖². Their variance, 2n/(n+2) (‖A²‖_F² − ‖A‖_F⁴/n), shows in the angles of the
    products, since E (A w_i · A w_j)² = ‖A²‖_F². The interval is logarithmic, as suits a scaled χ². In the
    units of A. Costs `max_matvecs` ≥ 2 products; n where that reaches n, since then the norm is computed.
    Raises ValueError as `hutchinson` does. The method is Hutchinson's, applied to A².

    >>> import numpy as np
    >>> frobenius(np.diag(np.linspace(0.0, 1.0, 300)), max_matvecs=20, rng=0)
    9.91 ± 0.09 (20 matvecs)
    """

    def grow(operator: Operator, rng: np.random.Generator, looks: list[int]) -> Iterator[Estimate]:
        tally, n = Tally(), operator.shape[0]
        for target in looks:
            for size in batches(target - tally.size):
                Y = operator.multiply(draw(operator, "sphere", size, rng))
                tally += tally_of((Y * Y).sum(axis=0), Y, Y, Y.shape[1])
            value, floor = tally.norm, _floor(operator, tally.norm)
            dof = tally.size / max(tally.angles - 1.0 / n, tally.spread, 1e-9)
            stderr = max(value / math.sqrt(2.0 * dof), floor)
            yield Estimate(value, stderr, samples=tally.forms, dof=dof, positive=True)

    return _estimate(A, max_matvecs, None, rng, 2, grow, _exact_norm)


def _mean(operator: Operator, tally: Tally, covariance: float = 0.0) -> Estimate:
    """The mean of the tally's forms, any two of which have this covariance."""
    k = tally.size
    own, shared = tally.variance / k, (1.0 - 1.0 / k) * abs(covariance)
    variance = own + shared
    dof = variance**2 / (own**2 / tally.dof + shared**2 / (k / 4)) if shared else tally.dof
    stderr = max(math.sqrt(variance), _floor(operator, tally.norm))
    return Estimate(float(tally.forms.mean()), stderr, samples=tally.forms, dof=dof)


def _floor(operator: Operator, norm: Any) -> Any:
    """The rounding error of a sum of n products of size `norm` / √n."""
    return float(operator.xp.finfo(operator.like.dtype).eps) * math.sqrt(operator.shape[0]) * norm


def _estimate(
    A: Any,
    max_matvecs: int,
    rtol: float | None,
    rng: int | np.random.Generator,
    least: int,
    grow: Grow,
    exact: Callable[[Operator], Estimate],
) -> Estimate:
    """The last estimate that `grow` yields, or the first that is narrow enough; `exact` for a budget of n."""
    operator, num_matvecs = counted(A)
    n = operator.shape[0]
    _require_budget(max_matvecs, min(least, n), rtol)
    budget = max_matvecs if max_matvecs < n else min(max_matvecs - n, n) if rtol else 0
    looks = _looks(least, budget)
    estimate: Estimate | None = None
    try:
        for found in grow(operator, generator(rng), looks):
            estimate = replace(found, num_matvecs=num_matvecs(), looks=len(looks) if rtol else 1)
            if rtol and _half_width(estimate) <= rtol * abs(estimate.value):
                return estimate
        if max_matvecs >= n:
            return replace(exact(operator), num_matvecs=num_matvecs())
    except KeyboardInterrupt:
        if estimate is None:
            raise
        return replace(estimate, converged=False)
    assert estimate is not None
    return replace(estimate, converged=rtol is None)


def _require_budget(max_matvecs: int, least: int, rtol: float | None) -> None:
    if max_matvecs < least:
        raise ValueError(
            f"max_matvecs = {max_matvecs}; expected at least {least} products: give a larger budget"
        )
    if rtol is not None and not rtol > 0.0:
        raise ValueError(f"rtol = {rtol}; expected a positive number, or None to spend the whole budget")


def _looks(least: int, budget: int) -> list[int]:
    """Numbers of products after which there is an estimate: the budget, its half, its quarter, down to 8."""
    return [] if budget < least else [*_looks(max(least, 8), budget // 2), budget]


def _half_width(estimate: Estimate) -> float:
    lower, upper = estimate.interval(0.95)
    return float(upper - lower) / 2


def _exact_diagonal(operator: Operator) -> Estimate:
    """The diagonal read off the matrix, which is not kept."""
    entries, norms = [], []
    for start, block in columns(operator):
        entries.append(operator.xp.linalg.diagonal(block[start : start + block.shape[1], :]))
        norms.append((block * block).sum(axis=0) ** 0.5)
    stderr = _floor(operator, operator.xp.concat(norms))
    return Estimate(operator.xp.concat(entries), stderr)


def _exact_trace(operator: Operator) -> Estimate:
    diagonal = _exact_diagonal(operator)
    value, stderr = float(numbers(diagonal.value).sum()), float(np.linalg.norm(numbers(diagonal.stderr)))
    return Estimate(value, stderr, samples=np.array([value]))


def _exact_norm(operator: Operator) -> Estimate:
    value = math.sqrt(sum(float((block * block).sum()) for _, block in columns(operator)))
    return Estimate(value, _floor(operator, value), samples=np.array([value**2]), positive=True)
