"""Checks of lesson 02, gradient descent on quadratics: six answers judged, and the exit ticket."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hesslab.checks.laws.feedback import SINGLE, Violation, check, compare, differs, numbers
from hesslab.checks.laws.ticket import Question
from hesslab.matrices import with_spectrum

Vector = NDArray[np.float64]
Laws = Iterator[Violation | None]
Answer = Callable[..., Any]
Mistakes = dict[str, tuple[Any, str]]


@check
def check_error_after(error_after: Answer, rng: np.random.Generator) -> Laws:
    """Σ (1 − ηλ_i)ᵗ c_i v_i, for positive, singular and indefinite Hessians."""
    for spectrum in ([5.0, 2.0, 0.5], [4.0, 1.0, 0.0, -0.5], [3.0, 3.0, 1.0]):
        H, eta = with_spectrum(spectrum, rng=rng), float(rng.uniform(0.8, 0.95)) / spectrum[0]
        error = _spread(H, rng)
        for factor, num_steps in ((1.0, 1), (1.0, 4), (1.9, 3)):
            yield _error_law(error_after, H, error, factor * eta, num_steps)


def _spread(H: Vector, rng: np.random.Generator) -> Vector:
    """A vector with a share of at least ½ in every eigenvector of H."""
    V = np.linalg.eigh(H)[1]
    return np.asarray(V @ (rng.uniform(0.5, 1.5, len(H)) * rng.choice([-1.0, 1.0], len(H))))


def _error_law(error_after: Answer, H: Vector, error: Vector, eta: float, t: int) -> Violation | None:
    values, V = np.linalg.eigh(H)
    factors, parts = 1 - eta * values, V.T @ error
    right = V @ (factors**t * parts)
    mistakes = {
        "ascent": (V @ ((1 + eta * values) ** t * parts), "The sign is turned: descent has 1 − ηλ."),
        "one-step": (V @ (factors * parts), "The number of steps is not used: take powers of 1 − ηλ."),
        "linear-in-t": (V @ ((1 - t * eta * values) * parts), "t steps are a power (1 − ηλ)ᵗ, not 1 − tηλ."),
        "gradient-flow": (V @ (np.exp(-t * eta * values) * parts), "e^(−ηλt) is the limit of tiny steps."),
        "squared": (V @ (factors ** (2 * t) * parts), "2t belongs to the loss; the error has the power t."),
        "absolute": (V @ (abs(factors) ** t * parts), "The sign of 1 − ηλ matters: do not take its size."),
        "left-in-eigenbasis": (factors**t * parts, "These are the components c. Go back: V @ c."),
        "not-taken-apart": (V @ (factors**t * error), "Take the error apart first: V.T @ error."),
        "rows-for-columns": (V.T @ (factors**t * (V @ error)), "eigh's eigenvectors are the columns of V."),
    }
    case = f"eigenvalues {values.round(2).tolist()}, η = {eta:.3f}, {t} steps"
    advice = "Multiply each component Vᵀe by (1 − ηλ)ᵗ, and go back with V."
    law = "e_t = V (1 − ηλ)ᵗ Vᵀ e_0"
    return compare(error_after(H.copy(), error.copy(), eta, t), right, mistakes, law, case, advice, 1)


@check
def check_largest_stable_step(largest_stable_step: Answer, rng: np.random.Generator) -> Laws:
    """2/λmax for any order and scale; 0 with a negative eigenvalue, infinity where all are zero."""
    a, b, c = np.sort(rng.uniform(1, 2, 3) * np.array([0.1, 1.0, 5.0]))
    plain, signed = [b, a, c], [a, -a, c]
    for spectrum in (plain, [c, b, a], [c, 0.0, a], signed, [-5 * c, b], [b, -1e-15 * b], [0.0, 0.0]):
        yield _step_law(largest_stable_step, np.array(spectrum))
    yield _step_law(largest_stable_step, np.array([-b, 0.0, -a]))
    for scale, spectrum in ((1e-13, plain), (1e-13, signed), (1e8, plain), (1e8, signed)):
        yield _step_law(largest_stable_step, scale * np.array(spectrum))
    violation = _step_law(partial(largest_stable_step, rtol=1e-3), np.array([-1e-4 * c, c, b]))
    advice = "Here rtol is 1e-3: use the argument, not a number of your own. Section 2."
    yield violation and replace(violation, diagnosis="ignores-rtol", advice=advice)


def _step_law(largest_stable_step: Answer, values: Vector) -> Violation | None:
    top, low, size = values.max(), values.min(), abs(values).max()
    law, case = "|1 − ηλ| ≤ 1 for every λ", f"eigenvalues {[float(f'{v:.3g}') for v in values]}"
    rtol = largest_stable_step.keywords["rtol"] if isinstance(largest_stable_step, partial) else 1e-12
    right = 0.0 if low < -rtol * size else (2 / top if top > 0 else np.inf)
    found = largest_stable_step(values.copy())
    number = numbers(np.nan if found is None else found)
    if number.shape == () and number == right:
        return None
    if number.shape == () and (number in (0, np.inf) or right == np.inf):
        word, advice = _extreme(float(number), right, low, top)
        return Violation(word, law, case, f"{number:.4g}, expected {right:.4g}", f"{advice} Section 2.")
    any_order = "The eigenvalues come in any order: take their maximum."
    mistakes: Mistakes = {
        "half": (1 / top, "1/λmax is where the steepest mode vanishes. The border is twice that."),
        "best-not-largest": (2 / (top + low), "2/(λmax + λmin) is the best step, not the largest."),
        "ignores-negative": (2 / top, "1 − ηλ > 1 for λ < 0: that mode grows for every η > 0."),
        "absolute-value": (2 / size, "|λ| is no curvature: a negative λ allows no step at all."),
        "trusts-the-order": (2 / (values[-1] or np.nan), any_order),
        "smallest": (2 / (low or np.nan), "The steepest mode fails first: take λmax, not λmin."),
        "condition-number": (2 * low / top, "κ sets the speed. Stability asks for ηλmax < 2 alone."),
    }
    advice = "0 for a negative λ, measured with rtol · max|λ|; else 2/λmax."
    if right > 0 or found is None or number.shape:
        return compare(found, right, mistakes, law, case, advice, 2)
    scaled = {name: (np.append(size * wrong, 1), hint) for name, (wrong, hint) in mistakes.items()}
    violation = compare(np.append(size * number, 1), [0, 1], scaled, law, case, advice, 2)  # 0 has no scale
    return violation and replace(violation, found=f"{number:.4g}, expected 0")


def _extreme(number: float, right: float, low: float, top: float) -> tuple[str, str]:
    """Diagnosis and advice where the answer is 0 or infinity and should not be, or the other way round."""
    if right == np.inf:
        return "zero-matrix", "Where every λ is 0 nothing moves: no step is too long. Return np.inf."
    if number == np.inf and top <= 0:
        return "all-negative", "Without a positive λ the negative ones still grow: ask for them first."
    if number == 0 and low == 0:
        return "zero-forbids", "λ = 0 has the factor 1: it does not grow."
    if number == 0 and low < 0:
        return "rounding-as-sign", "−1e-15 λmax is rounding: compare with −rtol · max|λ|."
    return "absolute-tolerance", "Rescaling the loss changed the answer: compare with rtol · max|λ|."


@check
def check_best_step(best_step: Answer, rng: np.random.Generator) -> Laws:
    """η* = 2/(λmax + λmin), r* = (κ − 1)/(κ + 1), and the steps until r*ᵗ is below a tolerance."""
    for kappa, order in (
        (float(rng.uniform(2.5, 4)), [2, 1, 0]),
        (float(rng.uniform(20, 60)), [0, 1, 2]),
        (100.0, [1, 2, 0]),
    ):
        top, rate = float(rng.uniform(0.5, 20)), (kappa - 1) / (kappa + 1)
        spectrum = np.array([top / kappa, 0.8 * top, top])[order]
        steps = 50 if kappa < 20 else 400
        yield from _best_laws(best_step(spectrum.copy(), rate ** (steps - 0.6)), spectrum, steps)


def _best_laws(found: Any, spectrum: Vector, steps: int) -> Laws:
    low, top = float(spectrum.min()), float(spectrum.max())
    kappa, rate, t = top / low, (top - low) / (top + low), steps - 0.6
    root, case = np.sqrt(kappa), f"eigenvalues {spectrum.round(3).tolist()}, κ = {kappa:.3g}"
    triple = None if found is None else np.ravel(numbers(found))
    three = "They are η, r and the number of steps. Section 4."
    yield differs(triple, np.ones(3), law="(η*, r*, t)", case=case, advice=three, tolerance=np.inf)
    eta, factor, count = (float(part) for part in numbers(triple))
    etas = {
        "half": (1 / top, "1/λmax makes the steepest mode vanish; both ends should be equally slow."),
        "edge": (2 / top, "2/λmax is the border of stability: there the steepest mode never shrinks."),
        "trusts-the-order": (2 / (spectrum[0] + spectrum[-1]), "They come in any order: take min and max."),
        "mean-eigenvalue": (1 / spectrum.mean(), "Only the two ends of the spectrum count, not the mean."),
        "one-over-sum": (1 / (top + low), "Solve 1 − ηλmin = ηλmax − 1: there is a 2 above."),
    }
    yield compare(eta, 2 / (top + low), etas, "η* = 2/(λmax + λmin)", case, "Only the ends count.", 4)
    rates = {
        "rate-of-the-half": (1 - 1 / kappa, "1 − 1/κ is the factor at 1/λmax. At η* it is (κ − 1)/(κ + 1)."),
        "rate-of-the-loss": (rate**2, "The square is the factor of the loss. Asked for is the distance."),
        "accelerated": ((root - 1) / (root + 1), "√κ belongs to momentum. Here it is κ itself."),
        "signed": (-rate, "The factor of λmax is −r. Return its size."),
        "progress": (1 - rate, "This is the part that is lost. r is the part that is left."),
    }
    yield compare(factor, rate, rates, "r* = (κ − 1)/(κ + 1)", case, "r* = 1 − η*λmin.", 4)
    counts = {
        "rounded-down": (steps - 1, "t steps must be enough: round up."),
        "not-whole": (t, "A number of steps is whole: round up."),
        "approximate": (np.ceil(-t * np.log(rate) * kappa / 2), "κ/2 · ln(1/tol) is for large κ. Use ln r*."),
        "one-too-many": (steps + 1, "The smallest t is asked for: one fewer is enough."),
        "slower-rate": (np.ceil(t * np.log(rate) / np.log(1 - 1 / kappa)), "Use r*, not 1 − 1/κ."),
    }
    law = "the smallest t with r*ᵗ ≤ tolerance"
    yield compare(count, steps, counts, law, case, "t = ⌈ln tol / ln r*⌉.", 4, 1e-6)


@check
def check_guaranteed_step(guaranteed_step: Answer, rng: np.random.Generator) -> Laws:
    """2/(λmax(XᵀX)/4n + ρ), for tall and wide data, with and without a ridge."""
    for (n, d), ridge in (((30, 4), 0.3), ((5, 8), 0.1), ((40, 3), 0.0)):
        yield _guarantee_law(guaranteed_step, rng.standard_normal((n, d)) + 0.5, ridge)


def _guarantee_law(guaranteed_step: Answer, X: Vector, ridge: float) -> Violation | None:
    n, singular = len(X), np.linalg.svd(X, compute_uv=False)
    top, trace = singular[0] ** 2, float(np.sum(singular**2))
    mistakes = {
        "least-squares": (2 / (top / n + ridge), "XᵀX/n is for least squares. Here p (1 − p) ≤ ¼."),
        "sum": (2 / (top / 4 + ridge), "The loss is a mean: divide XᵀX by n."),
        "half-for-quarter": (2 / (top / (2 * n) + ridge), "p (1 − p) is at most ¼, at p = ½; not ½."),
        "no-ridge": (2 / (top / (4 * n)), "The ridge adds ρ to every eigenvalue."),
        "quarter-of-the-ridge": (2 / ((top / n + ridge) / 4), "The ¼ belongs to the data, not to ρ."),
        "half": (1 / (top / (4 * n) + ridge), "1/ℓ is safe; the guarantee reaches up to 2/ℓ."),
        "singular-value": (2 / (singular[0] / (4 * n) + ridge), "λmax(XᵀX) is the singular value squared."),
        "trace": (2 / (trace / (4 * n) + ridge), "The trace is a bound too, but a coarse one: take λmax."),
        "bound-itself": (top / (4 * n) + ridge, "This is ℓ. The step size is 2/ℓ."),
    }
    law, case = "2/ℓ with ℓ = λmax(XᵀX)/4n + ρ", f"{n} examples of {X.shape[1]} features, ρ = {ridge:g}"
    advice = "Bound p (1 − p) by ¼, add ρ, and divide 2 by it."
    right = 2 / (top / (4 * n) + ridge)
    return compare(guaranteed_step(X.copy(), ridge), right, mistakes, law, case, advice, 7)


@check
def check_find_stable_step(find_stable_step: Answer, rng: np.random.Generator) -> Laws:
    """2/λmax to 1e-3, found from gradients, where the steepest mode begins a thousand times smaller."""
    for scale in rng.permutation([1.0, 40.0]):
        spectrum = float(scale) * np.array([float(rng.uniform(7, 9)), 4.0, 3.0, 2.0])
        H, b = with_spectrum(spectrum, rng=rng), rng.standard_normal(4)
        start = np.linalg.solve(H, b) + np.linalg.eigh(H)[1] @ np.array([1.0, -1.0, 1.0, 1e-3])
        high = float(rng.uniform(2.8, 3.5)) / spectrum[0]
        yield _found_law(find_stable_step(_gradient(H, b), start, high), high, spectrum)


def _gradient(H: Vector, b: Vector) -> Callable[[Any], Vector]:
    return lambda x: np.asarray(H @ numbers(x) - b)


def _found_law(found: Any, high: float, spectrum: Vector) -> Violation | None:
    law, case = "stable below 2/λmax, unstable above", f"eigenvalues {spectrum.round(2).tolist()}"
    right = 2 / spectrum[0]
    advice = "Bisect; compare the gradient late in a long run with that half-way."
    low, top = spectrum[-1], spectrum[0]
    mistakes = {
        "half": (right / 2, "1/λmax is not the border: up to twice that the steepest mode still shrinks."),
        "best-not-largest": (2 / (low + top), "2/(λmax + λmin) is the best step. Asked for is the largest."),
        "upper-end": (high, "This is `high`, which is unstable. Did each test call it stable?"),
    }
    violation = compare(found, right, mistakes, law, case, advice, 2, 1e-3)
    if violation is None or violation.diagnosis != "value":
        return violation
    ratio = float(numbers(found)) / right
    word, hint = "too-coarse", "Larger steps are stable too: go on halving, to a relative error of 1e-3."
    if ratio < 0.45:
        word, hint = "judged-too-late", "A run that has converged leaves rounding. Call it stable."
    if ratio > 1:
        word, hint = "judged-too-early", "The steepest mode begins small: run longer, and judge late."
    return Violation(word, law, case, f"{ratio:.4f} of the border", f"{hint} Section 2.")


@check
def check_finishing_steps(finishing_steps: Answer, rng: np.random.Generator) -> Laws:
    """One step 1/λ for each distinct λ > 0, in any order: every product Π (1 − ηλ) is 0."""
    for spectrum in ([3.0, 1.0, 3.0, 2.0, 1.0], [4.0, 0.0, 1.0, 0.0], [2.0, 2.0, 2.0], [0.5, 5.0, 0.0, 5.0]):
        values = float(rng.uniform(0.5, 2)) * rng.permutation(np.array(spectrum))
        yield _finish_law(finishing_steps(values.copy()), values)


def _finish_law(found: Any, values: Vector) -> Violation | None:
    law, case = "Π_s (1 − η_s λ) = 0 for every λ > 0", f"eigenvalues {values.round(2).tolist()}"
    distinct = np.unique(values)[np.unique(values) > 0]
    if found is None:
        return Violation("returns-nothing", law, case, "None", "The function has no `return`.")
    steps = np.ravel(numbers(found))
    if not np.all(np.isfinite(steps)):
        hint = "1/0: a flat mode is at its minimum everywhere, and needs no step. Section 5."
        return Violation("divides-by-zero", law, case, "infinity", hint)
    left = abs(np.prod(1 - np.outer(distinct, steps), axis=1))
    if max(left) <= SINGLE and len(steps) == len(distinct):
        return None
    if max(left) <= SINGLE:
        hint = "One step serves all modes with the same λ: take each value once. Section 5."
        return Violation("too-many", law, case, f"{len(steps)} steps, expected {len(distinct)}", hint)
    word, hint = _wrong_steps(np.sort(steps), values, distinct)
    return Violation(word, law, case, f"a mode keeps {max(left):.3g} of its error", f"{hint} Section 5.")


def _wrong_steps(steps: Vector, values: Vector, distinct: Vector) -> tuple[str, str]:
    """The likely mistake behind steps that leave some mode alive."""
    top, low, mean = distinct[-1], distinct[0], values[values > 0].mean()
    likely = {
        "two-over": (2 / distinct, "At η = 2/λ the mode only changes its sign. It vanishes at η = 1/λ."),
        "curvatures": (distinct, "These are the eigenvalues. The steps are 1/λ."),
        "fixed-step": (np.full(len(distinct), 1 / top), "A fixed step kills one mode: vary it."),
        "best-fixed-step": (
            np.full(len(distinct), 2 / (top + low)),
            "Even the best fixed step is fixed: vary it.",
        ),
        "one-step": (np.array([1 / top]), "One step kills one distinct λ; the others survive."),
        "mean": (np.array([1 / mean]), "One step kills one distinct λ; a mean kills none."),
    }
    for name, (wrong, hint) in likely.items():
        if steps.shape == wrong.shape and np.allclose(steps, np.sort(wrong), rtol=SINGLE):
            return name, hint
    return "value", "A mode vanishes when one of the steps is 1/λ."


TICKET = (
    Question(
        "better-conditioned-diverges",
        "Problem A has the eigenvalues 0.01 and 1, problem B has 30 and 40. Gradient descent runs on both, "
        "with η = 0.1. What happens?",
        (
            "Both converge; B is faster, since its κ is smaller.",
            "A diverges, since its κ is 100; B converges.",
            "A converges; B diverges.",
            "Both diverge.",
        ),
        2,
        {
            0: "κ decides no stability: for B ηλmax is 4, beyond 2. Section 3.",
            1: "A large κ makes A slow, not unstable: ηλmax is 0.1. Section 3.",
            3: "For A ηλ is at most 0.1, far below 2. Section 2.",
        },
    ),
    Question(
        "singular-hessian",
        "H has the eigenvalues 0, 1 and 5, and η = 0.3. Where does gradient descent go?",
        (
            "Nowhere: with κ = ∞ it does not converge.",
            "To the minimum that is nearest to the start.",
            "To the minimum of smallest norm, wherever it starts.",
            "It drifts away along the flat direction.",
        ),
        1,
        {
            0: "κ = ∞ says nothing here: the mode of λ = 0 stays, the others shrink. Section 2.",
            2: "The component along the flat direction stays as it was at the start. Section 2.",
            3: "The factor of λ = 0 is 1: the component neither grows nor shrinks. Section 2.",
        },
    ),
    Question(
        "local-threshold",
        "A loss that is smooth and convex, but not quadratic, has its minimum at w*. You take "
        "η = 1.9/λmax(H(w*)). What is certain?",
        (
            "It converges from every start, since the loss is convex.",
            "Starts close enough to w* converge to it, if H(w*) is positive definite.",
            "The loss falls in every step.",
            "Nothing, since the loss is not quadratic.",
        ),
        1,
        {
            0: "Far from w* the curvature may be larger: the two walls hop for ever. Section 7.",
            2: "On the digits, from w = 0, the loss rose first. Section 7.",
            3: "Near w* the average curvature is close to H(w*), and ηλmax < 2. Section 7.",
        },
    ),
)
