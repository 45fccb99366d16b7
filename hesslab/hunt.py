"""How `lanczos.eigsh` searches: grow a subspace until the wanted pairs are in it, then look beside it.

One start vector sees one direction of each eigenspace, so copies of a repeated eigenvalue and the members of
a cluster stay hidden however long it is grown. After convergence, a new random vector orthogonal to what was
found is grown beside it. What it finds is kept, and another round begins. A round that finds nothing ends
when a missed eigenvalue would have shown itself with probability 1 - MISS.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from hesslab.krylov import (
    Subspace,
    Values,
    expand,
    inject,
    norm,
    require_symmetric,
    restarted,
    rolled,
    rotated,
    spanned,
    to_numpy,
    trimmed,
)
from hesslab.operators import Array, to_dense

#: The matrix itself is computed only up to this size.
DENSE_LIMIT = 4096

#: A round of the search ends when the chance that it overlooked a wanted eigenvalue is below this.
MISS = 1e-3

#: A round may take as many products as finding the pairs did, and at least this many: after 20, a value that
#: stands out by a tenth of the spectrum's width is overlooked with a probability below MISS, up to n = 1e4.
LEAST = 20

#: The stages in which a hunt can end, and what they mean to the caller.
REASONS = {
    "grow": "the budget of products is spent",
    "missed": "the budget of products is spent",
    "look": "converged, but the budget ended the look for missed eigenvalues",
    "found": "converged; missed eigenvalues were not looked for",
    "clear": "converged",
    "dense": "converged, from the matrix itself",
    "interrupted": "interrupted",
    "noise": "rounding or noise in the products of A leaves larger residuals than rtol asks for",
}


@dataclass(frozen=True)
class Aim:
    """The `k` eigenvalues wanted, at the end `which`, to `rtol`, within `limit` products."""

    k: int
    which: str
    rtol: float
    limit: int

    def select(self, theta: Values, k: int | None = None) -> NDArray[np.intp]:
        """Indices of the k wanted (all, where fewer are known) among the ascending values `theta`."""
        k = min(self.k if k is None else k, len(theta))
        if self.which == "BE":
            return np.delete(np.arange(len(theta)), slice(k // 2, len(theta) - (k - k // 2)))
        order = {"LA": -theta, "SA": theta, "LM": -abs(theta)}[self.which]
        return np.sort(np.argsort(order, kind="stable")[:k])

    def bounds(self, theta: Values) -> tuple[float, float]:
        """(lo, hi): a further eigenvalue would be wanted below lo or above hi."""
        values = theta[self.select(theta)]
        low, high = values[: len(values) // 2], values[len(values) // 2 :]
        modulus = float(np.min(abs(values)))
        return {
            "LA": (-np.inf, float(values[0])),
            "SA": (float(values[-1]), np.inf),
            "LM": (-modulus, modulus),
            "BE": (max(low, default=-np.inf), float(high[0])),
        }[self.which]


def goal(space: Subspace, aim: Aim) -> float:
    """The residual below which a pair counts as found: rtol · max|λ| seen, less what rounding may add."""
    tolerance = aim.rtol * max(map(abs, space.extent))
    return max(tolerance - space.rounding, tolerance / 2, space.rounding / 16)


def best(space: Subspace, aim: Aim) -> NDArray[np.intp]:
    """Indices of the Ritz pairs to return: those at the wanted end of the spectrum.

    Of values that are equal to rounding, those whose pairs are found come first.
    """
    theta, _, residuals = space.ritz
    found = np.flatnonzero(residuals <= goal(space, aim))
    if len(found) >= aim.k:
        lo, hi = aim.bounds(theta[found])
        beyond = (theta < lo - space.rounding) | (theta > hi + space.rounding)
        if not np.any(np.delete(beyond, found)):
            return found[aim.select(theta[found])]
    return aim.select(theta)


def hunt(
    start: Subspace, aim: Aim, *, look: bool, rng: np.random.Generator
) -> Iterator[tuple[Subspace, str]]:
    """Grow a subspace until the wanted pairs are found and, with `look`, nothing more is.

    Yields it after every product, with what the product was for: "grow"; "look", and then the first k basis
    vectors are the pairs found before; or "missed", when a look has shown a wanted eigenvalue beside those.
    It ends with "found" without a look, with "clear" after one, or with anything else where the limit on
    products is reached.
    """
    space, stage = start, "missed"
    while stage == "missed":
        before, stage = space.num_products, "grow"
        for step in _grow(space, aim, rng):
            space, stage = step
            yield step
        effort = max(space.num_products - before, LEAST)
        if stage == "found" and look and space.size < space.operator.shape[0]:
            for step in _look(space, aim, effort, rng):
                space, stage = step
                yield step


def _grow(space: Subspace, aim: Aim, rng: np.random.Generator) -> Iterator[tuple[Subspace, str]]:
    """Multiply the vector of the front that the unfinished pairs lean on most, until none is unfinished."""
    while True:
        _, Y, residuals = space.ritz
        wanted = best(space, aim)
        unfinished = wanted[residuals[wanted] > goal(space, aim)]
        if space.size == space.operator.shape[0] or (len(wanted) == aim.k and len(unfinished) == 0):
            yield space, "found"
            return
        if space.num_products >= aim.limit:
            return
        if space.front == 0:
            space = inject(space, space.operator.normal(1, rng))
        space = _with_room(expand(_led(space, Y[:, unfinished])), aim)
        yield space, "grow"


def _look(space: Subspace, aim: Aim, effort: int, rng: np.random.Generator) -> Iterator[tuple[Subspace, str]]:
    """One round: Lanczos from a new random vector, orthogonal to what is found; `effort` steps at most."""
    theta, Y, _ = space.ritz
    wanted = best(space, aim)
    lo, hi = aim.bounds(theta[wanted])
    space = trimmed(restarted(space, Y[:, wanted]), (aim.k + 1) // 2)
    yield space, "look"
    old, n = space.front, space.operator.shape[0]
    space = inject(space, space.operator.normal(1, rng))
    for degree in range(1, effort + 1):
        if space.front == old:
            break
        if space.num_products >= aim.limit:
            return
        space = rolled(_with_room(expand(space), aim, locked=aim.k), old)
        beside, slack = np.linalg.eigvalsh(space.S[aim.k : space.size, aim.k :]), goal(space, aim)
        missed = beside[0] < lo - slack or beside[-1] > hi + slack
        yield space, "missed" if missed else "look"
        if missed:
            return
        if chance_of_a_miss(n, degree, beside, (lo - slack, hi + slack), space.extent) <= MISS:
            break
    yield space, "clear"


def chance_of_a_miss(
    n: int,
    degree: int,
    theta: NDArray[np.floating[Any]],
    bounds: tuple[float, float],
    extent: tuple[float, float],
) -> float:
    """A bound on the probability that no Ritz value of `theta` shows an eigenvalue outside `bounds`.

    They are those of Lanczos from a random vector after `degree` steps; `extent`: the ends of the spectrum.
    Then (λ₁ - θ) / (λ₁ - λₙ) > ε with probability at most 1.648 √n exp(-√ε (2m - 1)) after m steps
    (Kuczyński & Woźniakowski, SIAM J. Matrix Anal. Appl. 13 (1992) 1094, Theorem 4.2).
    """
    (lo, hi), (lowest, highest) = bounds, extent
    sides = [(hi - theta[-1], hi - lowest), (theta[0] - lo, highest - lo)]
    gaps = [max(gap, 0.0) / width for gap, width in sides if 0.0 < width < np.inf]
    return float(sum(1.648 * n**0.5 * np.exp(-(gap**0.5) * (2 * degree - 1)) for gap in gaps))


def _with_room(space: Subspace, aim: Aim, locked: int = 0) -> Subspace:
    """`space`, restarted where it is full, with the better half of its Ritz vectors.

    The first `locked` basis vectors are kept as they are.
    """
    capacity = space.buffer.shape[0]
    if space.S.shape[0] < capacity:
        return space
    theta, Y = np.linalg.eigh(space.S[locked : space.size, locked:])
    kept = Y[:, aim.select(theta, aim.k + (capacity - space.front - aim.k) // 2 - locked)]
    return restarted(space, block_diag(np.eye(locked), kept))


def _led(space: Subspace, Y: Values) -> Subspace:
    """The same subspace, its front turned so that the first vector carries most of the residuals of Y."""
    if space.front == 1 or Y.shape[1] == 0:
        return space
    G, _, _ = np.linalg.svd(space.S[space.size :] @ Y)
    return rotated(space, G.T)


@dataclass(frozen=True)
class Answer:
    """k columns X, the products AX, Rayleigh quotients, and residuals measured with AX; and what it took."""

    X: Array
    AX: Array
    values: Values
    residuals: Values
    tolerance: float
    scale: float
    num_products: int
    num_looking: int
    reason: str


def limit_of(n: int, k: int, budget: int) -> int:
    """The products for hunting: k are kept to measure with, and n for the matrix itself where it fits."""
    if not _matrix_fits(n, k, budget):
        return budget - min(k, budget // 2)
    return min(n, budget - n - k) if n > 3 * k + 20 else 0


def solve(
    space: Subspace,
    aim: Aim,
    budget: int,
    *,
    search: bool,
    report: Callable[[int], Any],
    rng: np.random.Generator,
) -> Answer:
    """Hunt, then measure; where the residuals measured are too large, hunt on from the vectors measured."""
    looked, worst, n = 0, np.inf, space.operator.shape[0]
    while True:
        space, stage, spent = _hunted(space, aim, search and worst == np.inf, report, rng)
        looked += spent
        if stage == "found" and (space.size == n or (search and worst < np.inf)):
            stage = "clear"
        if stage in ("grow", "look", "missed") and _matrix_fits(n, aim.k, budget - space.num_products):
            space, stage = _whole(space, report)
        answer = _confirmed(space, aim, budget, looked, stage)
        report(answer.num_products - space.num_products)
        before, worst = worst, float(np.max(answer.residuals, initial=0.0))
        if worst <= answer.tolerance or answer.reason == REASONS["interrupted"]:
            return answer
        if stage not in ("found", "clear"):
            return replace(answer, reason=REASONS["noise" if stage == "dense" else "grow"])
        if worst > before / 2:
            return replace(answer, reason=REASONS["noise"])
        left = budget - answer.num_products
        if answer.num_products >= aim.limit and not _matrix_fits(n, aim.k, left):
            return replace(answer, reason=REASONS["grow"])
        space = spanned(replace(space, num_products=answer.num_products), answer.X, answer.AX)


def measured(X: Array, AX: Array) -> tuple[Values, Values]:
    """Rayleigh quotients λ and residuals ‖A x - λ x‖ / ‖x‖ of the columns x of X."""
    values, residuals = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for i in range(X.shape[1]):
        size = norm(X[:, i])
        values[i] = float(X[:, i] @ AX[:, i]) / size**2
        residuals[i] = norm(AX[:, i] - values[i] * X[:, i]) / size
    return values, residuals


def _matrix_fits(n: int, k: int, budget: int) -> bool:
    return n <= DENSE_LIMIT and n + k <= budget


def _hunted(
    space: Subspace, aim: Aim, look: bool, report: Callable[[int], Any], rng: np.random.Generator
) -> tuple[Subspace, str, int]:
    """The subspace at the end of a hunt, how it ended, and the products spent looking for what was missed."""
    stage, looked, interrupted = "grow", 0, False
    try:
        for step, stage in hunt(space, aim, look=look, rng=rng):
            spent, space = step.num_products - space.num_products, step
            looked += 0 if stage in ("grow", "found") else spent
            report(spent)
    except KeyboardInterrupt:
        interrupted = True
    if stage in ("look", "clear"):
        space = restarted(space, np.eye(space.size, aim.k))
    return space, "interrupted" if interrupted else stage, looked


def _whole(space: Subspace, report: Callable[[int], Any]) -> tuple[Subspace, str]:
    """The subspace that is everything, U = I and S = A, for n products."""
    operator, n = space.operator, space.operator.shape[0]
    try:
        S = to_numpy(to_dense(operator))
    except KeyboardInterrupt:
        return space, "interrupted"
    report(n)
    scale, spent = float(np.max(np.linalg.norm(S, axis=0))), space.num_products + n
    require_symmetric(float(np.max(np.abs(S - S.T))), scale, spent)
    whole = replace(
        space, buffer=operator.native(np.eye(n)), S=(S + S.T) / 2, scale=scale, num_products=spent
    )
    return whole, "dense"


def _confirmed(space: Subspace, aim: Aim, budget: int, looked: int, stage: str) -> Answer:
    """The best Ritz vectors, with residuals measured by one more product each; inf where there is none."""
    theta, Y, _ = space.ritz
    chosen, left = best(space, aim), budget - space.num_products
    if 0 < left < len(chosen):
        chosen = aim.select(theta, left)
    X = space.operator.xp.linalg.qr(space.vectors(Y[:, chosen]))[0]
    values, residuals, AX = theta[chosen], np.full(len(chosen), np.inf), X[:, :0]
    try:
        if left > 0 and len(chosen) > 0:
            AX = space.operator.multiply(X, num_products=space.num_products)
            values, residuals = measured(X, AX)
    except KeyboardInterrupt:
        stage = "interrupted"
    tolerance = aim.rtol * max(map(abs, space.extent))
    spent = space.num_products + AX.shape[1]
    return Answer(X, AX, values, residuals, tolerance, space.scale, spent, looked, REASONS[stage])
