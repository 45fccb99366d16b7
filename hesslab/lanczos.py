"""Extreme eigenpairs from a Krylov space, each with its measured residual.

`tridiagonalize` is Lanczos as it is taught, `power_iteration` is what it replaces, `eigsh` is what to use.
Every answer says how far it is from an eigenvalue: a symmetric A has one within ‖A v - λ v‖ / ‖v‖ of any
number λ (Parlett 1998, §4.5). Each is written once, for NumPy arrays and for torch tensors on any device.
"""

import operator as op
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hesslab.hunt import DENSE_LIMIT, REASONS, Aim, Answer, limit_of, measured, solve
from hesslab.krylov import (
    Values,
    empty,
    inject,
    norm,
    orthogonalized,
    require_symmetric,
    to_numpy,
)
from hesslab.operators import Array, Operator, as_operator, generator

#: A basis holds no more numbers than this, unless k alone asks for more.
BASIS_NUMBERS = 10**8


@dataclass(frozen=True, eq=False)
class EigenPairs:
    """Eigenvalues in descending algebraic order, their vectors, and how wrong they can be.

    A pair is converged when its residual, measured by a product with A, is at most rtol · max|λ| seen. A pair
    that could not be measured before an interrupt has residual inf. There are fewer than k pairs where the
    budget ended before k vectors were multiplied.
    """

    values: Values  # (k,)
    vectors: Array  # (n, k), native, orthonormal
    residuals: Values  # (k,), ‖A v - λ v‖
    intervals: Values  # (k, 2), each contains an eigenvalue of A; it does not say which
    orthogonality: float  # max |VᵀV - I|
    converged: NDArray[np.bool_]  # (k,)
    num_matvecs: int  # products with A, all told
    num_search_matvecs: int  # of which spent looking for eigenvalues that had been missed
    stop_reason: str

    def __str__(self) -> str:
        """One line a pair: value ± half the width of its interval."""
        half = (self.intervals[:, 1] - self.intervals[:, 0]) / 2
        lines = [f"{value:.6g} ± {error:.1e}" for value, error in zip(self.values, half, strict=True)]
        count = f"{np.sum(self.converged)} of {len(self.values)} converged ({self.num_matvecs} matvecs)"
        return "\n".join([*lines, f"{count}: {self.stop_reason}"])


@dataclass(frozen=True, eq=False)
class Tridiagonal:
    """The relation A V = V T + β_k v_{k+1} e_kᵀ after k steps of Lanczos, and so k products."""

    alpha: Values  # (k,), the diagonal of T
    beta: Values  # (k - 1,), its off-diagonal, positive
    V: Array  # (n, k), native
    beta_next: float  # β_k; zero where the Krylov space is closed under A
    v_next: Array  # (n,), native, v_{k+1}; it has no meaning where β_k = 0

    @property
    def T(self) -> Values:
        """The tridiagonal matrix, (k, k)."""
        return np.diag(self.alpha) + np.diag(self.beta, 1) + np.diag(self.beta, -1)


def tridiagonalize(A: Any, v: Array, num_steps: int, *, reorthogonalize: bool = True) -> Tridiagonal:
    """Lanczos: an orthonormal basis V of the Krylov space of (A, v) in which A is tridiagonal.

    A V = V T + β_k v_{k+1} e_kᵀ,   VᵀV = I.          (Golub & Van Loan 2013, §10.1)

    `v` has shape (n,); V has shape (n, k) with k ≤ `num_steps`, fewer if the space closes early: when β_k is
    rounding relative to ‖A‖. Costs k products with A, and O(n k²) for keeping V orthogonal. Without
    `reorthogonalize` each vector is made orthogonal to the last two only. That is enough in exact arithmetic;
    in floating point orthogonality is lost when a Ritz value converges, and copies of it appear, the ghosts
    (Paige 1980). Raises ValueError where `v` is zero, not finite or of the wrong shape, or a product is not
    finite.

    >>> import numpy as np
    >>> lanczos = tridiagonalize(np.diag([3.0, 2.0, 1.0]), np.ones(3), 2)
    >>> lanczos.T.round(4)
    array([[2.    , 0.8165],
           [0.8165, 2.    ]])
    """
    operator = as_operator(A)
    steps = _require_count("num_steps", num_steps)
    steps = min(steps, operator.shape[0]) if reorthogonalize else steps
    V = empty(operator, steps + 1).buffer
    V[0, :] = _require_start("v", operator, v, (1,))[:, 0]
    alpha: list[float] = []
    beta: list[float] = []
    scale = 0.0
    for j in range(steps):
        w = operator.multiply(V[j : j + 1, :].T, num_products=j)[:, 0]
        scale = max(scale, norm(w))
        first = 0 if reorthogonalize else max(j - 1, 0)
        coefficients, V[j + 1, :], size = orthogonalized(V[first : j + 1, :], w)
        require_symmetric(abs(coefficients[-2] - beta[-1]) if j else 0.0, scale, j + 1)
        alpha.append(coefficients[-1])
        # Rounding in A and in each step adds up: where the space closes, β is tens of epsilons, not one.
        beta.append(size if size > 100.0 * np.finfo(operator.dtype).eps * scale else 0.0)
        if beta[-1] == 0.0:
            break
    k = len(alpha)
    return Tridiagonal(np.array(alpha), np.array(beta[:-1]), V[:k, :].T, beta[-1], V[k, :])


def power_iteration(
    A: Any, *, rtol: float = 1e-6, max_matvecs: int = 1000, rng: int | np.random.Generator
) -> EigenPairs:
    """One eigenpair by v ← A v / ‖A v‖: that of largest modulus, whatever its sign.

    The error of λ = vᵀA v falls as (λ₂/λ₁)^2m with the number m of steps. Where |λ₁| = |λ₂| it does not fall;
    where the largest modulus belongs to a negative eigenvalue, λ is not λmax, and `stop_reason` says so.
    Converged when ‖A v - λ v‖ ≤ `rtol` · |λ|. Costs one product a step. Ctrl-C and the end of the budget
    return what is there. Raises ValueError as `eigsh` does. Reference: Golub & Van Loan 2013, §8.2.1.

    >>> import numpy as np
    >>> pair = power_iteration(np.diag([5.0, 1.0, -7.0]), rng=0)
    >>> pair.values.round(6)
    array([-7.])
    >>> pair.stop_reason
    'converged to the eigenvalue of largest modulus; it is negative, so it is not λmax'
    """
    operator = as_operator(A)
    budget, rtol = _require_count("max_matvecs", max_matvecs), _require_rtol(rtol)
    v = operator.normal(1, generator(rng))
    v, X, AX = v / norm(v[:, 0]), v[:, :0], v[:, :0]
    spent, reason, scale = 0, REASONS["grow"], 0.0
    try:
        while spent < budget:
            X, AX, spent = v, operator.multiply(v, num_products=spent), spent + 1
            (value,), (residual,) = measured(X, AX)
            scale = norm(AX[:, 0])
            if residual <= rtol * abs(value):
                sign = "; it is negative, so it is not λmax" if value < 0 else ""
                reason = "converged to the eigenvalue of largest modulus" + sign
                break
            v = AX / scale
    except KeyboardInterrupt:
        reason = REASONS["interrupted"]
    values, residuals = measured(X, AX)
    tolerance = rtol * float(np.max(np.abs(values), initial=0.0))
    return _pairs(operator, Answer(X, AX, values, residuals, tolerance, scale, spent, 0, reason))


def eigsh(
    A: Any,
    k: int,
    *,
    which: str = "LA",
    rtol: float = 1e-6,
    max_matvecs: int | None = None,
    start: Array | None = None,
    search: bool = True,
    progress: bool = False,
    rng: int | np.random.Generator,
) -> EigenPairs:
    """The k eigenpairs at an end of the spectrum of A, by thick-restart Lanczos, fully reorthogonalized.

    `which`: "LA" the largest, "SA" the smallest, "LM" the largest in modulus, "BE" half from each end (one
    more from the high end where k is odd). A pair is converged when ‖A v - λ v‖ ≤ `rtol` · max|λ| seen,
    measured by k fresh products at the end. Before that, a new random vector looks for what one Krylov space
    cannot see, copies and members of clusters, until it would have shown one with probability 0.999, or for
    as long as the pairs took; `num_search_matvecs` is its price, and `search=False` leaves it out.

    `start`, (n,) or (n, j), holds earlier eigenvectors; a mixture of them begins the Krylov space, which
    holds them all after j products if they still are eigenvectors. `max_matvecs` bounds all products (None:
    1000 + 50 k, and enough for the matrix itself where n ≤ 4096). If n products are within the budget, they
    are spent on the matrix itself, exactly solved, where n ≤ 3 k + 20 or where the iteration has taken n
    products without an end. Memory: a basis of max(3 k + 20, min(4 k + 100, 1e8 / n)) vectors. At the end of
    the budget, and on Ctrl-C, returns what is found, measured (by k more products; a second Ctrl-C ends that
    too), not converged.

    Raises ValueError where an argument is out of range, a product is not finite, or A is seen not to be
    symmetric. Reference: Wu & Simon, SIAM J. Matrix Anal. Appl. 22 (2000) 602, §2.

    >>> import numpy as np
    >>> pairs = eigsh(np.diag([4.0, 1.0, 4.0, -9.0]), 2, rng=0)
    >>> pairs.values.round(6), pairs.converged
    (array([4., 4.]), array([ True,  True]))
    """
    operator = as_operator(A)
    n = operator.shape[0]
    k = _require_k(k, n)
    budget = _default_budget(n, k) if max_matvecs is None else _require_count("max_matvecs", max_matvecs)
    aim = Aim(k, _require_which(which), _require_rtol(rtol), limit_of(n, k, budget))
    rng = generator(rng)
    first = operator.normal(1, rng)
    if start is not None:
        columns = _require_start("start", operator, start, (1, 2))
        first = columns @ operator.native(rng.uniform(0.5, 1.5, (columns.shape[1], 1)))
    capacity = min(n + 1, max(3 * k + 20, min(4 * k + 100, BASIS_NUMBERS // n)))
    space = inject(empty(operator, capacity), first)
    with _reported(progress, budget) as report:
        return _pairs(operator, solve(space, aim, budget, search=search, report=report, rng=rng))


def _pairs(operator: Operator, answer: Answer) -> EigenPairs:
    """The answer in descending order, with its intervals: residual, and what rounding may hide of it."""
    order = np.argsort(-answer.values, kind="stable")
    values, residuals, X = answer.values[order], answer.residuals[order], answer.X[:, order.tolist()]
    half = residuals + float(np.finfo(operator.dtype).eps) * (10.0 + operator.shape[0] ** 0.5) * answer.scale
    return EigenPairs(
        values=values,
        vectors=X,
        residuals=residuals,
        intervals=np.stack([values - half, values + half], axis=1),
        orthogonality=float(np.max(np.abs(to_numpy(X.T @ X) - np.eye(len(values))), initial=0.0)),
        converged=residuals <= answer.tolerance,
        num_matvecs=answer.num_products,
        num_search_matvecs=answer.num_looking,
        stop_reason=answer.reason,
    )


@contextmanager
def _reported(progress: bool, budget: int, what: str = "eigsh") -> Iterator[Callable[[int], Any]]:
    """A function to be told of every product spent; with `progress` it moves a bar."""
    if not progress:
        yield lambda spent: None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError(
            "progress=True draws its bar with tqdm; install tqdm, or give progress=False"
        ) from error
    with tqdm(total=budget, desc=what, unit="matvec") as bar:
        yield bar.update


def _default_budget(n: int, k: int) -> int:
    return max(1000 + 50 * k, 2 * (n + k) if n <= DENSE_LIMIT else 0)


def _require_count(name: str, value: Any) -> int:
    try:
        count = op.index(value)
    except TypeError:
        count = 0
    if count < 1:
        raise ValueError(f"{name} = {value!r}; expected a whole number, at least 1")
    return count


def _require_k(k: Any, n: int) -> int:
    if _require_count("k", k) > n:
        raise ValueError(f"k = {k} eigenpairs of a matrix of {n} rows; expected at most {n}")
    return int(k)


def _require_which(which: Any) -> str:
    if which not in ("LA", "SA", "LM", "BE"):
        raise ValueError(f"which = {which!r}; expected 'LA', 'SA', 'LM' or 'BE'")
    return str(which)


def _require_rtol(rtol: Any) -> float:
    if not (isinstance(rtol, int | float | np.floating) and 0.0 < rtol < 1.0):
        raise ValueError(f"rtol = {rtol!r}; expected a number between 0 and 1, such as 1e-6")
    return float(rtol)


def _require_start(name: str, operator: Operator, x: Any, ndims: tuple[int, ...]) -> Array:
    """`x` as native columns, after checks."""
    n, shape = operator.shape[0], tuple(getattr(x, "shape", ()))
    if len(shape) not in ndims or shape[0] != n:
        ways = " or ".join({1: f"({n},)", 2: f"({n}, j)"}[ndim] for ndim in ndims)
        raise ValueError(f"{name} has shape {shape}; expected {ways}, as A has {n} rows")
    columns = operator.native(x.detach() if hasattr(x, "detach") else x).reshape((n, -1))
    size = norm(columns.reshape(-1))
    if not np.isfinite(size) or size == 0.0:
        raise ValueError(f"{name} is zero, or holds NaN or infinity; expected finite numbers, not all zero")
    return columns / size
