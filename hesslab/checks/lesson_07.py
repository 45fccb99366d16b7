"""Checks of lesson 07, the edge of stability: six answers on fresh instances, and the exit ticket."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hesslab.checks.laws.feedback import Violation, check, compare, differs, numbers
from hesslab.checks.laws.ticket import Question

Vector = NDArray[np.float64]
Laws = Iterator[Violation | None]
Answer = Callable[..., Any]


@check
def check_ratio_to_edge(ratio: Answer, rng: np.random.Generator) -> Laws:
    """The sharpness over the threshold of gradient descent, heavy ball and Nesterov's momentum."""
    for beta, ahead in ((0.0, False), (0.5, False), (0.9, True), (0.9, False), (0.0, True), (0.6, True)):
        yield _ratio_law(ratio, float(rng.uniform(2, 20)), float(rng.uniform(0.05, 0.5)), beta, ahead)


def _ratio_law(ratio: Answer, lam: float, eta: float, beta: float, ahead: bool) -> Violation | None:
    heavy = lam * eta / (2 + 2 * beta)
    nesterov = heavy * (1 + 2 * beta)
    right = nesterov if ahead else heavy
    wrong = {
        "inverse": (1 / right, "Upside down: 1 is passed from below when the sharpness grows."),
        "no-step": (lam / (2 + 2 * beta), "The step size is missing: the edge is a number over η."),
        "gradient-descent": (lam * eta / 2, "This is the edge of gradient descent. β moves it."),
        "heavy-ball": (heavy, "This is heavy ball's edge. Nesterov's has 1 + 2β below the line."),
        "nesterov": (nesterov, "This is Nesterov's edge. Without the look ahead there is no 1 + 2β."),
        "effective-step": (
            lam * eta / (2 * (1 - beta)),
            "η/(1 − β) is the effective step of flat directions. At the edge it is 2(1 + β)/η.",
        ),
        "half": (2 * right, "Twice too large: the 2 of 2(1 + β)/η is missing."),
        "edge": (lam / right, "This is the edge itself. Asked for is the sharpness over it."),
    }
    if abs(lam * eta / 2 - right) < 1e-9 * right:
        wrong.pop("gradient-descent")
    case = f"λ = {lam:.3g}, η = {eta:.3g}, β = {beta:g}, nesterov = {ahead}"
    advice = "Divide λ by 2(1 + β)/η, or by 2(1 + β)/((1 + 2β)η)."
    return compare(ratio(lam, eta, beta, ahead), right, wrong, "λ / threshold", case, advice, 3)


@check
def check_step_cosines(cosines: Answer, rng: np.random.Generator) -> Laws:
    """The cosines between successive gradients along a descent, as the modes of a quadratic give them."""
    for curvatures, eta in (([1.0, 0.2], 1.9), ([2.0, 0.1, 0.5], 0.95), ([3.0, 1.0, 0.2, 0.01], 0.1)):
        lam, start = np.array(curvatures), rng.uniform(0.5, 1.5, len(curvatures))
        yield _cosine_law(cosines, lam, start, eta, int(rng.integers(6, 10)))


def _cosine_law(cosines: Answer, lam: Vector, start: Vector, eta: float, steps: int) -> Violation | None:
    t = np.arange(steps + 1)[:, None]
    points, up = start * (1 - eta * lam) ** t, lam * start * (1 + eta * lam) ** t[:-1]
    longer, points = lam * points, points[:-1]
    g = longer[:-1]
    right = _between(g[1:], g[:-1])
    wrong = {
        "not-normalized": ((g[1:] * g[:-1]).sum(1), "These are inner products: divide by both lengths."),
        "one-length": (
            (g[1:] * g[:-1]).sum(1) / (g[:-1] ** 2).sum(1),
            "Divided by one length squared: the two gradients have different lengths.",
        ),
        "points": (_between(points[1:], points[:-1]), "The cosine is between gradients, not between points."),
        "first": (_between(g[1:], 0 * g[1:] + g[0]), "Compare with the last, not the first."),
        "sign": (-right, "The sign is wrong. Take two gradients (or two steps), and no absolute value."),
        "with-itself": (0 * right + 1, "All are 1: a gradient is compared with itself. Keep the old one."),
        "ascent": (_between(up[1:], up[:-1]), "The step climbs: θ ← θ − η g."),
        "late": (
            _between(longer[2:], longer[1:-1]),
            "The first gradient is that at the start, before a step.",
        ),
    }
    wrong = {name: pair for name, pair in wrong.items() if np.abs(pair[0] - right).max() > 1e-3}
    case = f"½ Σ λ θ² with λ = {lam.tolist()}, η = {eta:g}, {steps} gradients"
    found = cosines(lambda theta: lam * numbers(theta), start.copy(), eta, steps)
    advice = "Take T gradients, step after each, and return the T − 1 cosines between neighbours."
    return compare(found, right, wrong, "cos(g_t, g_{t+1}) along gradient descent", case, advice, 2)


def _between(a: Vector, b: Vector) -> Vector:
    """The cosines between the rows of a and those of b."""
    found: Vector = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return found


@check
def check_catapult(catapult: Answer, rng: np.random.Generator) -> Laws:
    """(f, λ) after some steps, as the weights of the two-layer linear network give them."""
    for share, n, steps in ((2.5, 20, 1), (2.6, 50, 10), (0.7, 20, 12), (3.4, 50, 15)):
        u, v = rng.standard_normal((2, n))
        yield _catapult_law(catapult, u, v + 2 * u, share, steps)


def _catapult_law(catapult: Answer, u: Vector, v: Vector, share: float, steps: int) -> Violation | None:
    n = len(u)
    f0, lam0 = float(u @ v) / n**0.5, float(u @ u + v @ v) / n
    eta = share / lam0
    for _ in range(steps):
        f = u @ v / n**0.5
        u, v = u - eta * f * v / n**0.5, v - eta * f * u / n**0.5
    right = [float(u @ v) / n**0.5, float(u @ u + v @ v) / n]
    hints = {
        "new-f": "λ must be updated with the f from before the step: update both at once.",
        "no-third-term": "The term η²f²/n is missing in f: with it the growth of f ends.",
        "two-for-four": "The factor is 4 − ηλ, not 2 − ηλ.",
        "no-width": "n is missing: f² counts in units of n.",
        "uphill": "λ falls: the second equation has a minus.",
        "one-step-more": "One step too many.",
        "one-step-less": "One step too few.",
        "order": "These are (λ, f). Asked for is (f, λ).",
    }
    with np.errstate(over="ignore", invalid="ignore"):
        wrong = {name: _recursion(f0, lam0, eta, n, steps, name) for name in hints}
    wrong = {k: w for k, w in wrong.items() if np.abs(np.subtract(w, right)).max() > 1e-3}
    mistakes = {name: (value, hints[name]) for name, value in wrong.items()}
    case = f"f = {f0:.3f}, λ = {lam0:.3f}, ηλ = {share:g}, n = {n}, {steps} steps"
    advice = "Apply both equations, with the old f and the old λ on the right."
    found = catapult(f0, lam0, eta, n, steps)
    return compare(found, right, mistakes, "(f, λ) of the network itself", case, advice, 5)


def _recursion(f: float, lam: float, eta: float, n: int, steps: int, kind: str) -> list[float]:
    """The two equations with one mistake; infinite values become large ones, which equal nothing."""
    width, four = (1 if kind == "no-width" else n), (2 if kind == "two-for-four" else 4)
    third, sign = (0.0 if kind == "no-third-term" else 1.0), (-1 if kind == "uphill" else 1)
    for _ in range(steps + {"one-step-more": 1, "one-step-less": -1}.get(kind, 0)):
        new = f * (1 - eta * lam + third * eta**2 * f**2 / width)
        used = new if kind == "new-f" else f
        f, lam = new, lam - sign * eta * used**2 / width * (four - eta * lam)
        if not abs(f) + abs(lam) < 1e50:
            return [1e50, 1e50]
    return [lam, f] if kind == "order" else [f, lam]


@check
def check_resting_point(rest: Answer, rng: np.random.Generator) -> Laws:
    """(y, |x|, attracts) of the model of two variables, above and below the edge."""
    for product in (2.2, 2.45, 2.6, 3.2, 1.5, 2.49, 2.51):
        eta = float(rng.uniform(0.1, 1.0))
        yield _rest_law(rest, eta, float(rng.uniform(0.05, 0.5)), product / eta)


def _rest_law(rest: Answer, eta: float, k: float, Y: float) -> Violation | None:
    above = eta * Y > 2
    y, x = (2 / eta, (2 * k * (Y - 2 / eta)) ** 0.5) if above else (Y, 0.0)
    right = [y, x, float(eta * Y < 2.5)]
    case, law = f"η = {eta:.3g}, k = {k:.3g}, ηY = {eta * Y:.3g}", "(y, |x|, attracts)"
    found = rest(eta, k, Y)
    if found is None or np.shape(numbers(found)) != (3,):
        return differs(found, right, law=law, case=case, advice="Return y, |x| and True or False. Section 4.")
    given = numbers(found)
    wrong = {
        "at-the-minimum": (
            [Y, 0.0],
            "With ηY > 2 the minimum repels: x grows there, by |1 − ηY| > 1 a step.",
        ),
        "half-amplitude": ([y, x / 2**0.5], "Half the square: y stands still where ½x² = k(Y − y)."),
        "squared": ([y, x**2], "This is x². Asked for is |x|."),
        "one-over-eta": (
            [1 / eta, (2 * k * (Y - 1 / eta)) ** 0.5 if eta * Y > 1 else 0.0],
            "x only changes sign where 1 − ηy = −1, which is y = 2/η.",
        ),
        "no-k": ([y, (2 * (Y - y)) ** 0.5], "k is missing in ½x² = k(Y − y)."),
        "edge-below-edge": ([2 / eta, 0.0], "With ηY < 2 the minimum itself attracts: y = Y and x = 0."),
    }
    advice = "On the cycle 1 − ηy = −1 and ½x² = k(Y − y); below the edge it is the minimum."
    violation = compare(given[:2], right[:2], wrong, law, case, advice, 4)
    if violation is not None or bool(given[2]) == bool(right[2]):
        return violation
    hint = "The cycle attracts exactly while ηY < 2.5; below ηY = 2 the minimum does. Section 4."
    return Violation("border", law, case, f"attracts = {bool(given[2])}", hint)


@check
def check_name_the_run(name: Answer, rng: np.random.Generator) -> Laws:
    """The four names, by the rule of the exercise, on records with noise, overshoot and divergence."""
    t = np.linspace(0, 1, 30)
    wave = 0.04 * np.sin(40 * t + rng.uniform(0, 6))
    level = float(rng.uniform(1.0, 1.1))
    burst = np.exp(-(((t - 0.25) / 0.06) ** 2))
    records = (
        ("edge", np.minimum(1.0, 0.2 + 1.3 * t) * level + wave, "a rise to the edge"),
        ("edge", np.minimum(1.0, 0.4 + 4 * t) + 1.2 * burst + wave / 2, "an overshoot, then the edge"),
        ("rising", 0.1 + 0.6 * t + wave / 4, "a slow rise"),
        ("falling", 0.95 * np.exp(-4 * t), "a fall from the edge, as with cross-entropy"),
        ("falling", 1.8 * np.exp(-3 * t) + 0.1, "a fall from far above"),
        ("lost", 0.5 * np.exp(3 * t**2), "a rise far beyond the edge"),
        ("lost", np.where(t > 0.9, np.nan, 0.9 + 0.1 * t), "NaN at the end"),
        ("lost", np.where(t > 0.9, np.inf, 0.5 * t), "infinity at the end"),
        ("rising", np.concatenate([1.5 - 4 * t[:10], 0.3 + 0 * t[:10], 0.4 + t[:10]]), "down, then up"),
        *(_ending(right, m, int(rng.integers(5, 9))) for right, m in ENDINGS),
        ("lost", np.where(t == t[4], np.nan, 1.0), "one NaN, early"),
    )
    for right, record, case in records:
        yield _name_law(name, right, np.asarray(record, dtype=np.float64), case)


def _ending(right: str, mean: float, third: int) -> tuple[str, Vector, str]:
    """A record whose last third has this mean, a spike and another median, and ends on the wrong side."""
    shape = np.zeros(third)
    shape[0], shape[-1] = 0.4, -0.3 if mean > 1 else 0.3
    last = mean + shape - shape.mean()
    record = np.concatenate([0 * last + 0.5, 0 * last + (1.0 if right == "falling" else 0.7), last])
    return right, record, f"a last third of {third} looks with the mean {mean:g}; the last is {last[-1]:.2f}"


def _name_law(name: Answer, right: str, record: Vector, case: str) -> Violation | None:
    law, found = "the name by the rule", name(record.copy())
    if found == right:
        return None
    if found not in ("edge", "rising", "falling", "lost"):
        return Violation("no-name", law, case, repr(found), 'Return "edge", "rising", "falling" or "lost".')
    kinds = (
        ("nan", not np.isfinite(record).all(), "What is not finite is lost, whatever the mean says."),
        ("borders", case.startswith("a last"), "Take the mean of the whole last third, however long it is."),
        ("beyond", right == "lost", "A mean above 1.2 in the last third is lost: it has left the edge."),
        ("overshoot", found == "lost", "An early overshoot is over by then. Judge by the last third alone."),
        ("too-early", right == "edge", "The start does not count. Take the mean of the last third alone."),
        ("not-arrived", found == "edge", "The last third has a mean below 0.9: not at the edge."),
        ("trend", True, "Compare the mean of the last third with that of the middle third."),
    )
    diagnosis, hint = next((key, text) for key, holds, text in kinds if holds)
    return Violation(diagnosis, law, case, f'"{found}", expected "{right}"', f"{hint} Section 6.")


@check
def check_follow_largest(follow: Answer, rng: np.random.Generator) -> Laws:
    """The largest eigenvalue along three paths of matrices, to 3 %, with the products counted."""
    t = np.linspace(0, 1, 40)[:, None]
    still = np.broadcast_to(rng.uniform(-1.0, 1.0, 96), (40, 96))
    paths = (
        ("a rise in waves", np.hstack([4 + 2 * t + 0.6 * np.sin(19 * t), 2.5 + 0 * t, still])),
        ("two eigenvalues that cross", np.hstack([5 - 3 * t, 3 + 3 * t, still])),
        ("large negative eigenvalues", np.hstack([3 + t, -4 - 3 * t, -4 - 2 * t, -4 - t, still])),
    )
    for case, spectra in paths:
        yield _follow_law(follow, spectra, case, rng)


def _follow_law(follow: Answer, spectra: Vector, case: str, rng: np.random.Generator) -> Violation | None:
    n, spent = spectra.shape[1], [0] * len(spectra)
    basis = np.linalg.qr(rng.standard_normal((n, n)))[0]

    def moment(i: int) -> Answer:
        def multiply(V: Any) -> Vector:
            columns = numbers(V)
            spent[i] += 1 if columns.ndim == 1 else columns.shape[1]
            product: Vector = basis @ ((basis.T @ columns).T * spectra[i]).T
            return product

        return multiply

    found = follow([moment(i) for i in range(len(spectra))], n, np.random.default_rng(rng.integers(2**31)))
    law, right = "the largest eigenvalue, to 3 %", spectra.max(axis=1)
    over = [count for i, count in enumerate(spent) if count > (MOST if i else FIRST)]
    if over:
        hint = (
            f"At most {FIRST} products with the first matrix, then {MOST} with each. Start warm. Section 1."
        )
        return Violation("too-many-products", law, case, f"{over[0]} products", hint)
    mistakes = {
        "locked": (spectra[:, 0], "It stays on the eigenvalue it began with. Carry a second vector."),
        "stale": (right[:1] + 0 * right, "All equal the first: multiply by the matrix of the moment."),
        "modulus": (
            np.where(-spectra.min(axis=1) > right, spectra.min(axis=1), right),
            "This is the largest modulus. Shift, or take the largest eigenvalue of QᵀAQ.",
        ),
    }
    late = slice(30, None)  # an answer with a mistake errs in the end, and may be right before
    given = numbers(found) if found is not None and np.shape(found) == right.shape else right
    for name, (value, hint) in mistakes.items():
        apart, near = np.abs(value - right)[late].max(), np.abs(given - value)[late].max()
        if apart > 0.5 and near < 0.05 * np.abs(value[late]).max():
            seen = f"{given[-1]:.2f}, expected {right[-1]:.2f}"
            return Violation(name, law, case, seen, f"{hint} Section 1.")
    advice = "Carry two vectors or three, shift, and solve the small problem QᵀAQ in their span. Section 1."
    before = {"behind": (np.append(right[0], right[:-1]), "These are of the moment before. Section 1.")}
    return differs(found, right, law=law, case=case, advice=advice, mistakes=before, tolerance=0.03)


#: Products allowed with the first matrix of a path, and with each later one.
FIRST, MOST = 80, 8

#: The right name of a run, and the mean of its last third, near each border of the rule.
ENDINGS = (("edge", 1.17), ("edge", 0.93), ("falling", 0.86), ("rising", 0.86), ("lost", 1.24))

TICKET = (
    Question(
        "above-the-edge",
        "A full-batch run with a constant step has ηλmax/2 = 1.1 at three looks in a row. This says that",
        (
            "the run has diverged, or will.",
            "the quadratic model at that point would diverge; the run may well go on.",
            "λmax was measured wrongly.",
            "the loss rises at every step.",
        ),
        1,
        {
            0: "The frozen quadratic model diverges; a network may bend away. Section 6.",
            2: "A residual would tell. Means a little above 1 are the rule at the edge. Sections 2 and 4.",
            3: "At the edge some steps raise the loss, and on average it falls. Section 2.",
        },
    ),
    Question(
        "halved-step",
        "A network trains at the edge with η = 0.4, sharpness 5. From now on η = 0.2, for a long time. The "
        "sharpness will most likely",
        ("fall to 2.5.", "stay at 5.", "rise towards 10.", "rise towards 7.1."),
        2,
        {
            0: "A smaller step has a higher edge, 2/η. Section 2.",
            1: "What held it at 5 was the old edge. Below the new one it sharpens on. Sections 2 and 4.",
            3: "The edge is 2/η, not its root. Section 2.",
        },
    ),
    Question(
        "a-ratio-of-one-third",
        "After 500 steps with the squared error someone finds ηλmax/2 = 0.3, still rising, and concludes: "
        "there is no edge of stability here. What is wrong?",
        (
            "Nothing: 0.3 is not 1.",
            "The run has not arrived: one number is no trend, and the ratio is still rising.",
            "Only momentum reaches the edge.",
            "The ratio must be taken with κ instead of λmax.",
        ),
        1,
        {
            0: "A ratio that is still rising says: too early to tell. Section 6.",
            2: "Gradient descent does as well, at 2/η. Sections 1 and 3.",
            3: "κ does not know the step size, and is negative here. Section 7.",
        },
    ),
)
