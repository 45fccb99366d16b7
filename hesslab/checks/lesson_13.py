"""Checks of lesson 13, mode connectivity: six answers on fresh instances, and the exit ticket."""

from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hesslab.checks.laws.feedback import Violation, check, compare, numbers
from hesslab.checks.laws.ticket import Question

Vector = NDArray[np.float64]
Laws = Iterator[Violation | None]
Answer = Callable[..., Any]
Mistakes = dict[str, tuple[Any, str]]


def _distinct(right: Vector, wrong: Mistakes) -> Mistakes:
    """The mistakes that give another result than the right one."""
    size = float(np.abs(right).max())
    pairs = {name: pair for name, pair in wrong.items() if np.shape(pair[0]) == np.shape(right)}
    return {name: pair for name, pair in pairs.items() if np.abs(pair[0] - right).max() > 1e-3 * size}


def _apart(values: list[Any]) -> bool:
    """Whether no two of these answers are alike, so that each mistake has its own diagnosis."""
    rows = np.array([np.ravel(value) for value in values], float)
    size = np.abs(rows).max()
    return all(np.abs(rows[i] - rows[:i]).max(1).min() > 0.01 * size for i in range(1, len(rows)))


@check
def check_barrier_height(height: Answer, rng: np.random.Generator) -> Laws:
    """The largest excess over the line between the losses of the two ends."""
    for a, b in ((0.2, 1.1), (1.5, 0.3), (0.9, 0.5)):
        while True:
            t = np.sort(np.concatenate([[0, 1], rng.uniform(0.05, 0.95, 9)]))
            losses = (1 - t) * a + t * b + np.where(t * (1 - t) > 0, rng.uniform(-0.2, 1, 11), 0)
            right, mistakes = _heights(t, losses)
            if _apart([right, *(value for value, _ in mistakes.values())]):
                break
        case = f"{len(t)} places, losses {a} and {b} at the ends"
        advice = "Excess = losses − (1 − t) L(0) − t L(1), and its maximum."
        yield compare(height(t.copy(), losses.copy()), right, mistakes, "max of the excess", case, advice, 1)


def _heights(t: Vector, losses: Vector) -> tuple[float, Mistakes]:
    a, b, top = losses[0], losses[-1], losses.max()
    even, between = np.linspace(0, 1, len(t)), "The baseline runs from one end to the other."
    excess = losses - (1 - t) * a - t * b
    return float(excess.max()), {
        "no-baseline": (top, "This is the largest loss: subtract the line between the ends."),
        "over-the-larger-end": (top - max(a, b), "This is the climb above the larger end. " + between),
        "over-the-mean": (top - (a + b) / 2, "This subtracts the mean of the ends everywhere. " + between),
        "reversed": ((losses - t * a - (1 - t) * b).max(), "At t = 0 the baseline is the first loss."),
        "equidistant": ((losses - (1 - even) * a - even * b).max(), "The places are not equidistant: use t."),
        "where": (t[excess.argmax()], "This is the t of the barrier; asked for is its height."),
        "mean": (excess.mean(), "This is the mean excess; asked for is the largest."),
        "baseline-at-the-top": (excess[losses.argmax()], "Subtract first, then take the maximum."),
    }


@check
def check_permute(permute: Answer, rng: np.random.Generator) -> Laws:
    """The parameters in another order of the hidden units: every array as it must be."""
    for inputs, hidden, outputs in ((5, 5, 5), (3, 6, 4), (2, 7, 1)):
        shapes: tuple[tuple[int, ...], ...] = ((hidden, inputs), (hidden,), (outputs, hidden), (outputs,))
        parts = [rng.standard_normal(shape) for shape in shapes]
        p = rng.permutation(hidden)
        while np.array_equal(p, np.argsort(p)):  # its own inverse
            p = rng.permutation(hidden)
        yield _permute_law(permute, parts, p)


def _permute_law(permute: Answer, parts: list[Vector], p: NDArray[np.intp]) -> Violation | None:
    W1, b1, W2, b2 = parts
    back, rows = np.argsort(p), p if len(b2) == len(p) else np.arange(len(b2))
    orders = {
        "bias-left-behind": ([W1[p], b1, W2[:, p], b2], "The bias of a unit moves with it: b1[p]."),
        "next-layer-forgotten": ([W1[p], b1[p], W2, b2], "The next layer still expects the old order."),
        "inverse-columns": ([W1[p], b1[p], W2[:, back], b2], "W2 takes the same p as W1, not its inverse."),
        "inverse": (
            [W1[back], b1[back], W2[:, back], b2],
            "The outputs stay, but the order is inverse.",
        ),
        "rows-of-the-next": ([W1[p], b1[p], W2[rows], b2], "Hidden units are columns of W2: W2[:, p]."),
        "last-bias": ([W1[p], b1[p], W2[:, p], b2[rows]], "The outputs keep their order, and so does b2."),
        "unchanged": (parts, "Nothing was reordered."),
    }
    found = permute([part.copy() for part in parts], p.copy())
    law, case = "the same outputs, units in the order p", f"W1 {W1.shape}, W2 {W2.shape}, p = {p.tolist()}"
    if found is not None and len(found) != 4:
        hint = "Return four arrays: W1, b1, W2, b2. Section 2."
        return Violation("shape", law, case, f"{len(found)} entries", hint)
    right = _flat([W1[p], b1[p], W2[:, p], b2])
    wrong = {name: (_flat(value), hint) for name, (value, hint) in orders.items()}
    taken = None if found is None else _flat([numbers(part) for part in found])
    advice = "Rows of W1, entries of b1 and columns of W2, all in the order p."
    return compare(taken, right, _distinct(right, wrong), law, case, advice, 2)


def _flat(parts: list[Vector]) -> Vector:
    return np.concatenate([np.ravel(part) for part in parts])


@check
def check_match_units(match: Answer, rng: np.random.Generator) -> Laws:
    """The best permutation by correlations, against a search through all 120."""
    for case in ("12 examples, 5 units", "12 other examples", "12 examples once more"):
        while True:
            A, B = rng.standard_normal((2, 12, 5))
            A, B = A * rng.uniform(0.2, 5, 5) + 1, B * rng.uniform(0.2, 5, 5) + A[:, ::-1] - 2
            right, mistakes = _orders(A, B)
            if _apart([right, *(value for value, _ in mistakes.values())]):
                break
        advice = "S[i, j] = correlation of A[:, i] and B[:, j]; linear_sum_assignment(S, maximize=True)[1]."
        yield compare(match(A.copy(), B.copy()), right, mistakes, "the largest Σ S[i, p[i]]", case, advice, 3)


def _orders(A: Vector, B: Vector) -> tuple[NDArray[np.intp], Mistakes]:
    S, covariance = np.corrcoef(A.T, B.T)[:5, 5:], (A - A.mean(0)).T @ (B - B.mean(0))
    order = _best(S)
    return order, {
        "minimized": (_best(-S), "This is the worst order: SciPy minimizes unless told maximize=True."),
        "inverse": (np.argsort(order), "p[i] is the unit of B that belongs to unit i of A: transpose S."),
        "greedy": (S.argmax(1), "Each unit took its favourite: two may want the same. Assign them together."),
        "covariance": (_best(covariance), "Loud units win: divide by the standard deviations."),
        "not-centred": (_best(A.T @ B), "Subtract the mean of each unit first, and divide by its deviation."),
        "absolute": (_best(abs(S)), "A correlation of −1 is no likeness: keep the sign."),
        "rows": (np.arange(len(S)), "These are the row numbers; the permutation is the second array."),
    }


def _best(S: Vector) -> NDArray[np.intp]:
    """The permutation of the largest sum, among all."""
    orders = np.array(list(permutations(range(len(S)))))
    return np.asarray(orders[S[np.arange(len(S)), orders].sum(1).argmax()])


@check
def check_bezier_and_tangent(curve: Answer, rng: np.random.Generator) -> Laws:
    """The point of a quadratic Bézier curve, and its derivative."""
    for t in (float(rng.uniform(0.15, 0.4)), float(rng.uniform(0.6, 0.9)), 0.0, 1.0):
        yield _bezier_law(curve, *rng.standard_normal((3, 4)), t=t)


def _bezier_law(curve: Answer, a: Vector, c: Vector, b: Vector, *, t: float) -> Violation | None:
    # By de Casteljau: a line between two lines.
    first, second = a + t * (c - a), c + t * (b - c)
    point, tangent = first + t * (second - first), 2 * (second - first)
    wrong: Mistakes = {
        "no-two": ([point - t * (1 - t) * c, tangent], "The factor of c is 2t(1 − t)."),
        "ends-exchanged": ([point + (2 * t - 1) * (a - b), tangent], "θ(0) is a."),
        "straight": ([(1 - t) * a + t * b, tangent], "This is the straight line: c is missing."),
        "half-a-tangent": ([point, tangent / 2], "The tangent lacks a factor 2: θ'(0) = 2(c − a)."),
        "chord": ([point, b - a], "This is the way from a to b. The tangent turns with t."),
        "backwards": ([point, -tangent], "The tangent points forward, towards larger t."),
        "tangent-of-the-other-end": ([point, 2 * (b - a) - tangent], "At t = 0 the tangent is 2(c − a)."),
    }
    found = curve(a.copy(), c.copy(), b.copy(), t)
    law, case = "θ(t) and θ'(t)", f"four weights, t = {t:.2f}"
    if found is not None and not (isinstance(found, tuple | list) and len(found) == 2):
        return Violation("not-a-pair", law, case, "one thing", "Return (point, tangent). Section 4.")
    right = np.array([point, tangent])
    mistakes = _distinct(right, {name: (np.array(value), hint) for name, (value, hint) in wrong.items()})
    advice = "(1 − t)² a + 2t(1 − t) c + t² b, and 2(1 − t)(c − a) + 2t(b − c)."
    return compare(found, right, mistakes, law, case, advice, 4)


class _Product:
    """A matrix that can only be multiplied."""

    def __init__(self, A: Vector) -> None:
        self._A, self.shape = A, A.shape

    def __matmul__(self, x: Any) -> Vector:
        return np.asarray(self._A @ numbers(x))


@check
def check_barrier_from_ends(height: Answer, rng: np.random.Generator) -> Laws:
    """Where two parabolas meet, found by bisection."""
    for curvatures, length in (((1.0, 4.7), 1.7), ((9.0, 0.7), 3.0), ((0.3, 3.1), 0.6)):
        roots = rng.standard_normal((2, 4, 4))
        d = rng.standard_normal(4)
        d *= length / np.linalg.norm(d)
        A, B = (q / (d @ R @ R.T @ d) * R @ R.T for q, R in zip(curvatures, roots, strict=True))
        yield _ends_law(height, A, B, d)


def _ends_law(height: Answer, A: Vector, B: Vector, d: Vector) -> Violation | None:
    p, q = float(d @ A @ d), float(d @ B @ d)
    low, high = 0.0, 1.0
    for _ in range(60):
        t = (low + high) / 2
        low, high = (t, high) if p * t**2 < q * (1 - t) ** 2 else (low, t)
    right = np.asarray(p * t**2 / 2)
    exchanged = p * p / 2 / (p**0.5 + q**0.5) ** 2
    wrong: Mistakes = {
        "one-end": (p / 8, "This is the parabola of a at the middle. They meet elsewhere if q_a ≠ q_b."),
        "other-end": (q / 8, "This is the parabola of b at the middle. They meet elsewhere if q_a ≠ q_b."),
        "mean": ((p + q) / 16, "This is the mean of both at the middle. They meet elsewhere if q_a ≠ q_b."),
        "no-half": (2 * right, "A parabola has the factor ½."),
        "per-length": (right / float(d @ d), "Do not divide by dᵀd: the length of the way counts."),
        "exchanged": (exchanged, "At this t they do not meet: the flatter end reaches further."),
        "at-the-end": (p / 2, "This is the parabola of a at b. Follow the lower of the two."),
        "weighted": (p * (q / (p + q)) ** 2 / 2, "q_a t² = q_b (1 − t)²: take the roots of q_a and q_b."),
    }
    case = f"dᵀH_a d = {p:.3g}, dᵀH_b d = {q:.3g}, ‖d‖ = {np.linalg.norm(d):.2g}"
    advice = "√q_a t = √q_b (1 − t) gives t; the height is ½ q_a t²."
    found = height(_Product(A), _Product(B), d.copy())
    law = "the height at which the parabolas meet"
    return compare(found, right, _distinct(right, wrong), law, case, advice, 6)


WORDS = ("linear", "permutation", "curve", "undecided")


@check
def check_verdict(verdict: Answer, rng: np.random.Generator) -> Laws:
    """The first kind of path that was found low, from three profiles."""
    base = float(rng.uniform(0.5, 2.0))
    flat, bump = [1.0, 1.02, 1.05, 1.02, 1.0], [1.0, 3.0, 8.0, 3.0, 1.0]
    early, tilted = [1.0, 5.0, 1.05, 1.02, 1.0], [0.4, 0.95, 1.05, 1.02, 1.0]
    steep = [0.4, 3.0, 8.0, 3.0, 1.0]
    small = [0.001, 0.03, 0.05, 0.03, 0.001]
    for line, matched, curve, right, case in (
        (flat, flat, flat, 0, "all three low"),
        (bump, flat, bump, 1, "a bump on the line and on the curve"),
        (bump, bump, flat, 2, "a bump on both lines"),
        (tilted, steep, tilted, 0, "ends of different losses"),
        (steep, steep, tilted, 2, "ends of different losses, bumps on both lines"),
        (early, early, flat, 2, "bumps near one end"),
        (small, small, [0.001] * 5, 2, "small losses, bumps of fifty times that"),
        (bump, bump, bump, 3, "a bump on all three"),
    ):
        profiles = [base * np.array(each) for each in (line, matched, curve)]
        yield _verdict_law(verdict, profiles, 0.1, WORDS[right], case)


def _verdict_law(
    verdict: Answer, profiles: list[Vector], slack: float, right: str, case: str
) -> Violation | None:
    found = verdict(*(profile.copy() for profile in profiles), slack)
    if found == right:
        return None
    law = "the first path whose largest loss is at most (1 + slack) times the worse end"
    rules: dict[str, tuple[Callable[[Vector], bool], str]] = {
        "better-end": (
            lambda v: v.max() <= (1 + slack) * min(v[0], v[-1]),
            "Compare with the worse end: nobody has to climb back to the better one.",
        ),
        "first-end": (lambda v: v.max() <= (1 + slack) * v[0], "Compare with the worse of both ends."),
        "absolute": (
            lambda v: v.max() <= slack + max(v[0], v[-1]),
            "The slack is a part of the loss: multiply by (1 + slack).",
        ),
        "middle-only": (
            lambda v: v[len(v) // 2] <= (1 + slack) * max(v[0], v[-1]),
            "A bump need not be in the middle: take the largest loss.",
        ),
        "no-slack": (lambda v: v.max() <= max(v[0], v[-1]), "A path may climb a little: use the slack."),
    }
    name, hint = "value", "Test the line, then the sorted line, then the curve."
    if found is None:
        name, hint = "returns-nothing", "Return one of the four words."
    elif found not in WORDS:
        name, hint = "word", "Return one of the four words. No profile proves that two minima are separate."
    elif right == "undecided":
        name, hint = "proved-nothing", "No path was low: undecided."
    else:
        low = [v.max() <= (1 + slack) * max(v[0], v[-1]) for v in profiles]
        if found in WORDS[:3] and low[WORDS.index(found)]:
            name, hint = "order", "An earlier word applies too: the first that applies is asked for."
        for key, (rule, text) in rules.items():
            if next((w for w, v in zip(WORDS, profiles, strict=False) if rule(v)), WORDS[3]) == found:
                name, hint = key, text
                break
    shown = f"{str(found)[:40]!r}, expected {right!r}"
    return Violation(name, law, case, shown, f"{hint} Section 4.")


TICKET = (
    Question(
        "what-a-barrier-says",
        "Two networks have a barrier of 0.8 on the straight line between them. It follows that",
        (
            "they compute different functions.",
            "their minima are not connected by a path of low loss.",
            "the loss on this line climbs by 0.8 over its baseline, and nothing else.",
            "at least one of them is at a sharp minimum.",
        ),
        2,
        {
            0: "A network has such a barrier to its own shuffled twin. Section 2.",
            1: "The curves of Section 4 go around such barriers.",
            3: "Twins have the same spectrum, and barriers from zero to one. Sections 2 and 6.",
        },
    ),
    Question(
        "flat-ends",
        "At both ends of a line of length 26 the curvature along it is 0.0013 per unit length. The barrier",
        (
            "is nearly zero: the ends are flat.",
            "is about dᵀHd/8 = 0.11.",
            "cannot be read off the ends; it may be several times dᵀHd/8.",
            "is at most dᵀHd/8.",
        ),
        2,
        {
            0: "Flat per unit length: squared, a length of 26 is 676. Section 6.",
            1: "That is the prediction of two parabolas; measured were six to eight times. Section 6.",
            3: "It was more than that in every pair. Section 6.",
        },
    ),
    Question(
        "no-path-found",
        "Between two narrow networks a Bézier curve was trained for 400 steps. It climbs by 0.5. What now?",
        (
            "Report that the two minima are separate.",
            "Report the climb and the budget; sort the units first, and search for longer.",
            "Compare the largest eigenvalues at the two ends.",
            "Draw the plane through both and a third network.",
        ),
        1,
        {
            0: "Sorted first, and with 800 steps, the climb was gone. Section 4.",
            2: "The spectra do not know the way. Section 6.",
            3: "Such a plane shows islands even where a valley exists. Section 5.",
        },
    ),
)
