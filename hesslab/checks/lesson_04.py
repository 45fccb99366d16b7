"""Checks of lesson 04, Hessians without matrices: six answers on fresh instances, and the exit ticket."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hesslab.checks.laws import lanczos as laws
from hesslab.checks.laws.curvature import hessian_products
from hesslab.checks.laws.feedback import EXACT, Violation, check, compare, numbers
from hesslab.checks.laws.objectives import recorded
from hesslab.checks.laws.ticket import Question
from hesslab.matrices import with_spectrum
from hesslab.operators import counted

Vector = NDArray[np.float64]
Laws = Iterator[Violation | None]
Answer = Callable[..., Any]
SEVEN_DIGITS = 1e-7  # what a central difference reaches easily, and a one-sided one does not


@check
def check_hvp(hvp: Answer, rng: np.random.Generator) -> Laws:
    """H v of the mean loss over all examples: the laws of products, with the section to reread."""
    for violation in hessian_products(hvp, rng):
        yield violation and replace(violation, advice=f"{violation.advice} Section 2.")


@check
def check_hvp_by_differences(hvp: Answer, rng: np.random.Generator) -> Laws:
    """H v to seven digits from two gradients, for v of length 1, 1e6 and 1e-6, and zero for v = 0."""
    x, g = rng.standard_normal((2, 6))
    H = with_spectrum(np.linspace(-1.0, 2.0, 6), rng=rng)
    bend = rng.uniform(2e3, 4e3, 6)
    for length in (1.0, 1e6, 1e-6):
        u = rng.choice([-1.0, 1.0], 6) * rng.uniform(0.5, 1, 6)
        u /= np.linalg.norm(u)
        # the bend cancels in a central difference, and not in a one-sided one
        gradient, points = recorded(lambda y: g + H @ (y - x) + bend * (y - x) ** 2 + (y - x) ** 3)
        theta, v = x.copy(), length * u
        yield _difference_law(hvp(gradient, theta, v), H @ u, length, points, x)
        if not (np.array_equal(v, length * u) and np.allclose(theta, x, rtol=0, atol=1e-9)):
            hint = "θ and v are the caller's: write `u = v / size`, not `v /= size`. Section 3."
            yield Violation("inputs-changed", "measuring changes nothing", "any v", "θ or v changed", hint)
    zero = hvp(lambda y: g + H @ (numbers(y) - x), x.copy(), np.zeros(6))
    yield _zero_law(zero)


def _difference_law(found: Any, right: Vector, length: float, points: Any, x: Vector) -> Violation | None:
    law = "H v = lim (g(θ + h v) − g(θ − h v))/2h"
    case = f"a gradient of 6 variables, v of length {length:g}"
    reach = [float(np.linalg.norm(numbers(point) - x)) for point in points]
    mistakes = {
        "not-rescaled": (right if length != 1 else np.nan * right, "You divided v by ‖v‖: multiply back."),
        "divided-by-h": (2 * length * right, "The two points are 2h apart: divide by 2h, not by h."),
        "divided-twice": (length * right / 2, "Divide by 2h once; a one-sided difference divides by h."),
        "sign": (-length * right, "The sign is turned: g(θ + h v) comes first."),
    }
    advice = "Take the central difference, with a step near 1e-5 per unit length of v."
    violation = compare(found, length * right, mistakes, law, case, advice, 3, SEVEN_DIGITS)
    if violation is None and len(points) > 4:
        hint = "Two gradients are enough; do not build the Hessian. Section 3."
        return Violation("too-many-gradients", law, case, f"{len(points)} calls of `gradient`", hint)
    return _blamed(violation, length, reach) if violation and violation.diagnosis == "value" else violation


def _blamed(violation: Violation, length: float, reach: list[float]) -> Violation:
    """The likely reason for an inaccurate difference: where its gradients were taken."""
    far, near = max(reach, default=0.0), min(reach, default=1.0)
    reasons = (
        (not reach, "no-gradient", "Call `gradient` at two points for each v."),
        (length != 1 and not 1e-7 < far < 1e-3, "length-of-v", "Divide v by ‖v‖ first, multiply after."),
        (near > 0 and far < 1e-7, "step-too-small", "Rounding wins: near 1e-5 both errors are small."),
        (far > 3e-4, "step-too-large", "Higher derivatives enter. Take a step near 1e-5."),
        (near == 0, "one-sided", "This keeps the term in h. Take a point on either side of θ."),
    )
    found = f"{violation.found}; the points are at most {far:.0e} from θ"
    for applies, name, hint in reasons:
        if applies:
            return replace(violation, diagnosis=name, found=found, advice=f"{hint} Section 3.")
    return violation


def _zero_law(found: Any) -> Violation | None:
    if found is not None and numbers(found).shape == (6,) and np.all(numbers(found) == 0):
        return None
    hint = "v = 0 has no direction: return zeros before you divide by ‖v‖. Section 3."
    return Violation("zero-vector", "H 0 = 0", "v = 0", f"{found}"[:60], hint)


@check
def check_largest_eigenvalue(largest_eigenvalue: Answer, rng: np.random.Generator) -> Laws:
    """λmax, whatever lies below it: of modulus larger, equal or smaller, and at every scale."""
    low = float(rng.uniform(6.5, 7.5))
    for top, others, kind in (
        (low, [-5.0, 1.0], "λmax is the largest in modulus"),
        (5.0, [-low, -low + 1], "λmin is the largest in modulus"),
        (-1.0, [-low, -3.0], "all eigenvalues are negative"),
        (5.0, [-5.0, *[5.0] * 7], "λmax = −λmin"),
    ):
        spectrum = np.array([top, *others, *np.linspace(min(top, 0) - 0.5, min(top, 0) - 1.5, 9)])
        for scale in (1.0, 1e-13, 1e8):
            yield _largest_law(largest_eigenvalue, scale * spectrum, kind, rng)


def _largest_law(
    largest_eigenvalue: Answer, spectrum: Vector, kind: str, rng: np.random.Generator
) -> Violation | None:
    A, num_matvecs = counted(with_spectrum(spectrum, rng=rng))
    law, case = "the largest eigenvalue, with its sign", f"{kind}, max |λ| = {max(abs(spectrum)):.2g}"
    found = largest_eigenvalue(A, max_matvecs=600, rng=int(rng.integers(2**31)))
    top, bottom = spectrum[0], spectrum[1]
    size, deflated = max(top, abs(bottom)), spectrum[np.argsort(-abs(spectrum))[1]]
    largest = bottom if size > top else np.nan
    mistakes = {
        "largest-modulus": (largest, "This is the eigenvalue of largest modulus. Shift A, iterate again."),
        "modulus-for-value": (abs(bottom), "‖A v‖ is a modulus: it has lost the sign. Take vᵀA v."),
        "shift-kept": (top + size, "The shift is still in it: subtract c at the end."),
        "shift-subtracted-twice": (top - size, "The shift was subtracted twice: A v + c v, then − c."),
        "smallest": (min(spectrum), "This is λmin: A − c I turns to the lower end. Add c."),
        "deflated": (deflated, "Deflation gives the second largest modulus. Shift instead."),
        "sign": (-top, "The sign is turned: from A + c I subtract c."),
    }
    advice = "Add c v to A v, with c at least as large as every |λ|: ‖A v‖ tends to the largest of them."
    violation = compare(found, top, mistakes, law, case, advice, 4, 1e-6)
    if violation is None and num_matvecs() > 600:
        hint = "Both runs together may take `max_matvecs` products. Section 4."
        return Violation("over-budget", law, case, f"{num_matvecs()} products, 600 allowed", hint)
    if violation is None or violation.diagnosis in ("returns-nothing", "shape"):
        return violation
    if violation.diagnosis == "not-finite":
        hint = (
            "Normalize in every step, and draw a new start for the second run: A + c I can send the end of "
        )
        return replace(violation, advice=f"{hint}the first to zero. Section 4.")
    wrong_end = violation.diagnosis in ("value", "largest-modulus", "smallest")
    if wrong_end and not 1e-6 < max(abs(spectrum)) < 1e6:
        hint = "Rescaling A changed the answer: the shift, or a tolerance, is a fixed number. Section 4."
        return replace(violation, diagnosis="fixed-number", advice=hint)
    if wrong_end and top == -bottom:
        hint = "With λmax = −λmin vᵀA v settles on no eigenvalue: shift without trusting it. Section 4."
        return replace(violation, diagnosis="tie", advice=hint)
    if violation.diagnosis == "value" and abs(numbers(found) - top) < 0.05 * size:
        hint = "Near, but not converged: spend all of `max_matvecs`, half on each run. Section 4."
        return replace(violation, diagnosis="not-converged", advice=hint)
    return violation


@check
def check_tridiagonalize(tridiagonalize: Answer, rng: np.random.Generator) -> Laws:
    """The laws of Lanczos, then the relation A V = V T + β_k v_{k+1} e_kᵀ for its last two entries."""
    seed = int(rng.integers(2**31))
    for law in (laws.has_shapes, laws.starts_at_v, laws.is_tridiagonal):
        yield law(tridiagonalize, rng=seed, advice="Section 5.")
    for law in (laws.is_orthonormal, laws.has_no_ghosts, laws.closes_at_any_scale):
        yield law(tridiagonalize, rng=seed, advice="Section 6.")
    yield laws.leaves_the_next(tridiagonalize, rng=seed, advice="Section 5.")


@check
def check_ritz_values(ritz_values: Answer, rng: np.random.Generator) -> Laws:
    """The eigenvalues of T in descending order, and β_k |s_k| for each."""
    for k, scale in ((5, 1.0), (8, 1e-13), (6, 1e8), (2, 1.0)):
        alpha, beta = scale * rng.standard_normal(k), scale * rng.uniform(0.3, 1.0, k)
        alpha[:2] = 1.5 * scale, -1.2 * scale  # values of both signs
        yield from _ritz_laws(ritz_values(alpha, beta[:-1], float(beta[-1])), alpha, beta)


def _ritz_laws(found: Any, alpha: Vector, beta: Vector) -> Laws:
    upper, k, last = np.diag(beta[:-1], 1), len(alpha), beta[-1]
    values, S = (part[..., ::-1] for part in np.linalg.eigh(np.diag(alpha) + upper + upper.T))
    case = f"{k} steps, entries near {abs(alpha).max():.0e}"
    if found is None or len(found) != 2:
        name, pair = (
            "returns-nothing" if found is None else "not-a-pair",
            "Return two arrays: values, bounds.",
        )
        yield Violation(name, "(θ, β_k |s_k|)", case, f"{found}"[:60], pair)
    right, given = last * abs(S[-1]), numbers(found[1])
    late, doubled = np.diag(beta[1:], 1), 2 * np.diag(alpha) + upper + upper.T
    orders = {
        "ascending": (values[::-1], "The order is turned: the largest value comes first."),
        "modulus-order": (values[np.argsort(-abs(values))], "The order is algebraic, not by |θ|."),
        "diagonal": (np.sort(alpha)[::-1], "These are the α. Solve the eigenvalue problem of T."),
        "absolute": (np.sort(abs(values))[::-1], "Ritz values have signs."),
        "unsorted": (_if_permuted(found[0], values), "`eig` does not sort. Take eigh, and turn it around."),
        "swapped": (right, "The values come first, then the bounds."),
        "beta-shifted": (
            np.linalg.eigvalsh(np.diag(alpha) + late + late.T)[::-1],
            "T holds `beta` alone: β_k is no entry of it.",
        ),
        "alpha-doubled": (np.linalg.eigvalsh(doubled)[::-1], "T + Tᵀ counts the diagonal twice."),
    }
    yield compare(found[0], values, orders, "θ: the eigenvalues of T", case, "Use eigh on T.", 5)
    signed = np.copysign(right, given) if given.shape == right.shape else np.nan
    bounds = {
        "signed": (signed, "A bound is not negative: take |s_k|."),
        "first-entry": (last * abs(S[0]), "s_k is the last entry of the eigenvector, not the first."),
        "row-for-column": (last * abs(S[:, 0]), "Eigenvectors are columns: s_k is in the last row."),
        "bounds-ascending": (_if_permuted(given, right), "The bounds are in another order than the values."),
        "no-beta": (abs(S[-1]), "β_k is missing: the residual is β_k |s_k|."),
        "wrong-beta": (beta[k - 2] * abs(S[-1]), "This is β_(k−1), an entry of T. Take `beta_next`."),
        "squared": (last * S[-1] ** 2, "It is |s_k|, not its square."),
    }
    law, advice = "‖A y − θ y‖ = β_k |s_k|", "s_k is the last entry of the unit eigenvector s of T."
    yield compare(found[1], right, bounds, law, case, advice, 6)


def _if_permuted(given: Any, right: Vector) -> Vector:
    """`given`, where it is `right` in another order."""
    given = numbers(given)
    size = 1e-6 * float(abs(right).max())
    same = given.shape == right.shape and np.allclose(np.sort(given), np.sort(right), rtol=0, atol=size)
    return given if same else np.nan * right


@check
def check_proven(proven: Answer, rng: np.random.Generator) -> Laws:
    """The number of different eigenvalues that values and vectors prove: the most disjoint intervals."""
    for case, printed, length, right in _PRINTED:
        for scale in (1.0, 1e-13, 1e8):
            Q = np.linalg.qr(rng.standard_normal((8, 8)))[0]
            A, values = scale * (Q * _TRUE) @ Q.T, scale * np.array([value for value, _ in printed])
            vectors = length * Q @ np.column_stack([_with_residual(*pair) for pair in printed])
            found = proven((A + A.T) / 2, values.copy(), vectors.copy())
            yield _proven_law(found, (A + A.T) / 2, values, vectors, right, case)


_TRUE = np.array([10.0, 7.0, 5.0, 3.0, 2.0, 1.0, 0.5, 0.1])
#: case, (printed value, residual) for each line, length of the vectors, how many eigenvalues that proves
_PRINTED: tuple[tuple[str, list[tuple[float, float]], float, int], ...] = (
    ("three good pairs", [(10, 1e-6), (7, 1e-6), (3, 1e-6)], 1, 3),
    ("three ghosts, one other", [(10, 1e-5), (10, 1e-5), (10 + 3e-6, 1e-5), (7, 1.6)], 1, 2),
    ("a chain of three intervals", [(3.2, 0.5), (2.5, 0.6), (1.6, 0.5)], 1, 2),
    ("a ghost on its way", [(10, 1e-6), (8.8, 2), (7, 1e-6)], 1, 2),
    ("the shortest interval in the middle", [(2, 1.2), (4, 1.1), (6.2, 1.3)], 1, 2),
    ("a long interval before two short ones", [(5.1, 2.2), (3, 0.05), (5, 0.1)], 1, 2),
    ("a long interval after two short ones", [(3, 0.05), (5, 0.1), (2.9, 2.2)], 1, 2),
    ("vectors of length 9", [(3, 0.4), (2, 0.4)], 9, 2),
    ("vectors of length 0.1", [(3, 0.4), (2, 0.4)], 0.1, 2),
    ("vectors of length 0.1, overlapping", [(3, 0.7), (2, 0.7)], 0.1, 1),
)


def _with_residual(value: float, residual: float) -> Vector:
    """A unit vector v, in the basis of eigenvectors, with ‖A v − value · v‖ = residual."""
    near, far = np.argmin(abs(_TRUE - value)), np.argmax(abs(_TRUE - value))
    a, b = (_TRUE[near] - value) ** 2, (_TRUE[far] - value) ** 2
    weights = np.zeros(8)
    weights[near], weights[far] = np.sqrt((b - residual**2) / (b - a)), np.sqrt((residual**2 - a) / (b - a))
    return weights


def _proven_law(
    found: Any, A: Vector, values: Vector, vectors: Vector, right: int, case: str
) -> Violation | None:
    rest, size = np.linalg.norm(A @ vectors - vectors * values, axis=0), np.linalg.norm(vectors, axis=0)
    rounded, r = np.unique(np.round(values / abs(values).max(), 4)), rest / size
    mistakes = {
        "trusts-values": (len(rounded), "Different numbers prove nothing: use the residuals."),
        "counts-lines": (len(values), "Two overlapping intervals may hold the same eigenvalue."),
        "not-normalized": (_disjoint(values, rest), "Divide the residual by ‖v‖."),
        "squared-length": (_disjoint(values, rest / size**2), "Divide by ‖v‖ once."),
        "squared": (_disjoint(values, r**2), "The radius is the residual, not its square."),
        "shortest-first": (_disjoint(values, r, r), "Sort by the upper end: a short one may cover two."),
        "by-value": (_disjoint(values, r, values), "Sort by the upper ends, not by the values."),
        "not-sorted": (_disjoint(values, r, np.zeros(len(r))), "Sort the intervals by their upper ends."),
        "lower-end": (_disjoint(values, r, values - r), "Sort by the upper end: a long one may begin first."),
        "components": (_components(values, r), "In a chain the two ends may be disjoint: count those."),
        "no-axis": (_disjoint(values, np.linalg.norm(rest) / size), "Norms of columns: give axis=0."),
    }
    law = "each interval holds an eigenvalue; disjoint ones hold different ones"
    advice = "r = ‖A v − λ v‖/‖v‖; sort by the upper end; count each that begins above the last one counted."
    case = f"{case}, values near {abs(values).max():.0e}"
    return compare(found, right, mistakes, law, case, advice, 7, EXACT)


def _disjoint(values: Vector, radius: Vector, order: Vector | None = None) -> int:
    """How many intervals are taken, each if it overlaps none taken before: by upper ends, or by `order`."""
    taken: list[int] = []
    for i in np.argsort(values + radius if order is None else order, kind="stable"):
        if all(abs(values[i] - values[j]) > radius[i] + radius[j] for j in taken):
            taken.append(int(i))
    return len(taken)


def _components(values: Vector, radius: Vector) -> int:
    order = np.argsort(values - radius)
    reach = np.maximum.accumulate((values + radius)[order])
    return 1 + int(np.sum((values - radius)[order][1:] > reach[:-1]))


TICKET = (
    Question(
        "modulus",
        "Power iteration on the Hessian of a network has converged: −160.9, with a residual of 1e-6. "
        "What do you know about λmax?",
        (
            "It is 160.9; the sign is a convention.",
            "It is −160.9.",
            "It is at most about 160.9; its value is open.",
            "Nothing: with more steps the iteration would have found it.",
        ),
        2,
        {
            0: "The sign is the curvature's own. −160.9 is an eigenvalue, 160.9 need not be. Section 4.",
            1: "Then no eigenvalue would lie above −160.9; it is λmin that was found. Section 4.",
            3: "It has converged, to the largest modulus; more steps give the same. Section 4.",
        },
    ),
    Question(
        "interval",
        "A program prints λ = 4.20, and you measure ‖A v − λ v‖/‖v‖ = 0.03. What is certain?",
        (
            "λmax lies between 4.17 and 4.23.",
            "An eigenvalue lies between 4.17 and 4.23.",
            "Exactly one eigenvalue lies between 4.17 and 4.23.",
            "v is an eigenvector to within 3 %.",
        ),
        1,
        {
            0: "Which eigenvalue it is, the residual does not say. Section 7.",
            2: "There is one at least; there may be many. Section 7.",
            3: "With a second eigenvalue close by, v may be any mixture of two eigenvectors. Section 7.",
        },
    ),
    Question(
        "ghosts",
        "Ten values are printed for a network: 0.362 eight times, 0.272 twice. Each has a measured "
        "residual of 1e-9. What follows?",
        (
            "0.362 has multiplicity 8.",
            "The residuals must be wrong.",
            "Two different eigenvalues at least, near 0.362 and 0.272. Whether larger ones exist is open.",
            "None of the values can be trusted.",
        ),
        2,
        {
            0: "Lines with overlapping intervals may be one eigenvalue, a ghost. Section 6.",
            1: "Copies of an eigenpair have small residuals: each line is true. Section 6.",
            3: "A measured residual proves an eigenvalue near each value. Section 7.",
        },
    ),
)
