"""Checks of lesson 03, momentum and acceleration: six answers on fresh instances, and the exit ticket."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hesslab.checks.laws.dynamics import Matrix, follows, threshold_fits
from hesslab.checks.laws.feedback import Violation, check, differs, numbers
from hesslab.checks.laws.ticket import Question

Vector = NDArray[np.float64]
Laws = Iterator[Violation | None]
Answer = Callable[..., Any]


@check
def check_nesterov(nesterov: Answer, rng: np.random.Generator) -> Laws:
    """The rule goes, mode by mode, where Nesterov's iteration matrix says."""
    for eta, beta in zip(rng.uniform(0.05, 0.15, 3), (0.5, 0.9, 0.0), strict=True):
        rule, curvatures = nesterov(float(eta), beta), rng.uniform(0.5, 5.0, 3)
        yield _not_a_rule(rule, beta)
        yield _nesterov_law(rule, float(eta), beta, curvatures)
        again = _nesterov_law(rule, float(eta), beta, curvatures)
        advice = (
            "The rule remembers its last run. All it knows must be in the state that it returns. Section 4."
        )
        yield again and replace(again, diagnosis="own-memory", advice=advice)


def _linear(a: Callable[[float], float], b: Callable[[float], float]) -> Matrix:
    """The matrix of x_{t+1} = a(λ) x_t + b(λ) x_{t−1}."""
    return lambda lam: np.array([[a(lam), b(lam)], [1.0, 0.0]])


def _not_a_rule(rule: Any, beta: float) -> Violation | None:
    case = f"β = {beta:g}"
    if not callable(rule):
        found = "None" if rule is None else f"a {type(rule).__name__}"
        hint = "nesterov(eta, beta) returns a function of (gradient, x, state): a rule."
        return Violation("not-a-rule", "nesterov(η, β) is a rule", case, found, hint)
    pair = rule(numbers, np.ones(3), None)
    if not (isinstance(pair, tuple | list) and len(pair) == 2):
        hint = "A rule returns two things: the next point, and the next state."
        return Violation("not-a-pair", "rule(…) is a pair", case, f"a {type(pair).__name__}", hint)
    return None


def _nesterov_law(rule: Any, eta: float, beta: float, curvatures: Vector) -> Violation | None:
    B = beta
    wrong: dict[str, tuple[Matrix, str]] = {
        "gradient-at-x": (
            _linear(lambda c: 1 + B - eta * c, lambda c: -B),
            "This is heavy ball: its gradient is taken at x. Take it at y.",
        ),
        "no-momentum": (
            _linear(lambda c: 1 - eta * c, lambda c: 0.0),
            "This is gradient descent. The new state must be x, the point before the step.",
        ),
        "step-from-x": (
            _linear(lambda c: 1 - eta * c * (1 + B), lambda c: eta * c * B),
            "The gradient is taken at y, and then the step must start from y as well, not from x.",
        ),
        "momentum-sign": (
            _linear(lambda c: (1 - B) * (1 - eta * c), lambda c: B * (1 - eta * c)),
            "The momentum points back: it is x − previous, with a plus.",
        ),
        "ascent": (
            _linear(lambda c: (1 + B) * (1 + eta * c), lambda c: -B * (1 + eta * c)),
            "The step climbs: subtract η ∇f(y).",
        ),
    }
    mistakes = {name: (matrix, f"{hint} Section 2.") for name, (matrix, hint) in wrong.items()}
    right = _linear(lambda c: (1 + B) * (1 - eta * c), lambda c: -B * (1 - eta * c))
    advice = "y = x + β (x − previous), then y − η ∇f(y); return it, and x as the next state. Section 2."
    law = partial(follows, matrix=right, curvatures=curvatures, case=f"η = {eta:.3f}, β = {beta:g}")
    return law(rule, advice=advice, mistakes=mistakes)


@check
def check_largest_curvature(threshold: Answer, rng: np.random.Generator) -> Laws:
    """The spectral radius crosses 1 at the answer, for heavy ball, for Nesterov and elsewhere."""
    for beta, share in ((0.7, 0.6), (0.5, 0.0), (0.9, 1.0), (0.3, 2.0)):
        yield _threshold_law(threshold, float(rng.uniform(0.05, 0.3)), beta, share * beta)


def _threshold_law(answer: Answer, eta: float, beta: float, gamma: float) -> Violation | None:
    right = 2 * (1 + beta) / ((1 + 2 * gamma) * eta)
    wrong: dict[str, tuple[float, str]] = {
        "step-for-curvature": (right * eta, "This is the border of ηλ. Asked for is λ: divide by η."),
        "heavy-ball": (2 * (1 + beta) / eta, "This is heavy ball's border, γ = 0. γ belongs in it."),
        "gradient-descent": (2 / eta, "This is gradient descent's border. Both β and γ belong in it."),
        "gamma-once": (
            2 * (1 + beta) / ((1 + gamma) * eta),
            "γ enters twice: at r = −1 both a and b contain it. The denominator has 1 + 2γ.",
        ),
        "nesterov": (
            2 * (1 + beta) / ((1 + 2 * beta) * eta),
            "This is Nesterov's border, γ = β. Here γ is a number of its own.",
        ),
        "half": (right / 2, "Half of it: r² − a r − b = 0 at r = −1 gives 1 + a − b = 0."),
        "beta-sign": (
            2 * (1 - beta) / ((1 + 2 * gamma) * eta),
            "β has the wrong sign: at r = −1, 1 + a − b = 2 + 2β − ηλ (1 + 2γ).",
        ),
    }
    mistakes = {name: (value, f"{hint} Section 2.") for name, (value, hint) in wrong.items()}
    matrix = _linear(lambda c: 1 + beta - eta * c * (1 + gamma), lambda c: -beta + eta * c * gamma)
    case = f"η = {eta:.3f}, β = {beta:g}, γ = {gamma:g}"
    advice = "Put r = −1 into r² − a r − b = 0, and solve for λ. Section 2."
    violation = threshold_fits(answer(eta, beta, gamma), matrix, case=case, advice=advice, mistakes=mistakes)
    if violation is None:  # the law allows 0.1 %; the number itself is exact
        value = answer(eta, beta, gamma)
        return differs(value, right, law="2 (1 + β) over …", case=case, advice=advice, diagnosis="inexact")
    return violation


@check
def check_best_momentum(best: Answer, rng: np.random.Generator) -> Laws:
    """The β with the smallest spectral radius over [μ, L], where μ decides, where L decides, and at both."""
    for kappa, step in ((150.0, 1.0), (20.0, 3.2), (1000.0, 0.3), (50.0, 3.4), (10.0, 1.9)):
        L = float(rng.uniform(0.5, 5.0))
        yield _best_law(best, step / L, L / kappa, L)
    L = float(rng.uniform(0.5, 5.0))
    yield _best_law(best, 4 / (L**0.5 + (L / 100) ** 0.5) ** 2, L / 100, L)


def _best_law(best: Answer, eta: float, mu: float, L: float) -> Violation | None:
    flat, steep = 1 - (eta * mu) ** 0.5, (eta * L) ** 0.5 - 1
    right = max(abs(flat), abs(steep)) ** 2
    q = (L**0.5 - mu**0.5) / (L**0.5 + mu**0.5)
    wrong = {
        "rate": (max(abs(flat), abs(steep)), "This is √β, the rate. Asked for is β: square it."),
        "optimal-step": (q**2, "This is the β that belongs to the best η. Here η is given."),
        "nesterov": (q, "This is Nesterov's β, for η = 1/L. Asked for is heavy ball's."),
        "flat-end-only": (flat**2, "At L the roots are real and large: (1 + √β)² ≥ ηL is needed as well."),
        "steep-end-only": (steep**2, "At μ the roots are real: (1 − √β)² ≤ ημ is needed as well."),
        "no-root": (max(abs(1 - eta * mu), abs(eta * L - 1)) ** 2, "Square roots are missing: √(ημ), √(ηL)."),
        "habit": (0.9, "0.9 is a habit. The best β depends on ημ and ηL."),
        "largest": (1.0, "β near 1 is slow in every mode: the rate is √β. Take the smallest that will do."),
    }
    mistakes = {name: (value, f"{hint} Section 4.") for name, (value, hint) in wrong.items()}
    case = f"η = {eta:.3g}, curvatures from {mu:.3g} to {L:.3g}"
    law = "the smallest β with (1 − √β)² ≤ ηλ ≤ (1 + √β)² for all λ from μ to L"
    advice = "Write down the condition at μ and that at L, and take the larger β. Section 4."
    return differs(best(eta, mu, L), right, law=law, case=case, advice=advice, mistakes=mistakes)


@check
def check_chebyshev_steps(steps: Answer, rng: np.random.Generator) -> Laws:
    """The k steps, in any order, leave at most 2 s^k/(1 + s^{2k}) of every error."""
    for k, kappa in ((4, 30.0), (10, 100.0), (1, 5.0)):
        mu = float(rng.uniform(0.05, 2.0))
        yield _chebyshev_law(steps(mu, kappa * mu, k), mu, kappa * mu, k)


def _chebyshev_law(found: Any, mu: float, L: float, k: int) -> Violation | None:
    i, center, half = np.arange(k), (L + mu) / 2, (L - mu) / 2
    right = np.sort(1 / (center - half * np.cos((2 * i + 1) * np.pi / (2 * k))))
    case, law = f"μ = {mu:.3g}, L = {L:.3g}, k = {k}", "max over [μ, L] of Π |1 − η_i λ| = 2 s^k/(1 + s^{2k})"
    s = (L**0.5 - mu**0.5) / (L**0.5 + mu**0.5)
    goal = f"The worst error should be {2 * s**k / (1 + s ** (2 * k)):.4f}."
    wrong = {
        "zeros": (1 / right, "These are the zeros λ of the polynomial. The steps are 1/λ."),
        "one-step": (0 * right + 1 / center, "All steps are 2/(L + μ): gradient descent."),
        "angles": (1 / (center - half * np.cos(i * np.pi / k)), "The angles are (2i+1)π/(2k), not iπ/k."),
        "half-angle": (
            1 / (center - half * np.cos((2 * i + 1) * np.pi / k)),
            "The angles are (2i+1)π/(2k): the 2 of the denominator is missing.",
        ),
        "even": (1 / np.linspace(mu, L, k), "Evenly spaced zeros leave humps at the ends. Use the cosines."),
        "not-halved": (
            right / 2,
            "Half of each step: zeros are at (L+μ)/2 − (L−μ)/2·cos, not at twice that.",
        ),
        "interval-from-0": (
            1 / (L / 2 - L / 2 * np.cos((2 * i + 1) * np.pi / (2 * k))),
            "The zeros lie between μ and L, not between 0 and L.",
        ),
    }
    mistakes = {n: (np.sort(v), f"{hint} {goal} Section 5.") for n, (v, hint) in wrong.items()}
    advice = f"η_i = 2/((L+μ) − (L−μ) cos((2i+1)π/(2k))), i = 0 … k−1. {goal} Section 5."
    ordered = found if found is None or numbers(found).ndim == 0 else np.sort(numbers(found))
    return differs(ordered, right, law=law, case=case, advice=advice, mistakes=mistakes)


@check
def check_scheduled_sgd(sgd: Answer, rng: np.random.Generator) -> Laws:
    """The points of PyTorch's momentum, for a constant step and for schedules that fall, rise and stop."""
    constant, falling = [0.1] * 6, [0.1] * 4 + [0.01] * 4
    rising, paused = [0.01, 0.05, 0.1, 0.1], [0.1] * 3 + [0.0] * 2 + [0.1] * 2
    for rates in (constant, falling, rising, [0.1] * 3 + [0.0] * 3, paused):
        x, lam = rng.uniform(1, 2, 3), rng.uniform(0.5, 3.0, 3)
        yield _sgd_law(sgd, x, lam, rates, float(rng.uniform(0.6, 0.9)))


def _walk(x: Vector, lam: Vector, rates: list[float], beta: float, kind: str) -> Vector:
    """The points of one convention of momentum on ½ Σ λ x²."""
    points, v = [x], 0 * x
    for t, eta in enumerate(rates):
        g = lam * points[-1]
        inside = {"inside": eta, "averaged": 1 - beta}.get(kind, 1.0)
        outside = {"inside": 1.0, "one-behind": rates[max(t - 1, 0)]}.get(kind, eta)
        stopped = kind == "no-momentum" or (kind == "forgets-at-zero" and t > 0 and rates[t - 1] == 0)
        v = (0.0 if stopped else beta) * v + inside * g
        ahead = g + beta * v if kind == "nesterov" else v
        points.append(points[-1] - outside * ahead)
    return np.stack(points)


def _sgd_law(sgd: Answer, x: Vector, lam: Vector, rates: list[float], beta: float) -> Violation | None:
    hints = {
        "inside": "η stands inside v, as in the note. PyTorch multiplies by it outside.",
        "averaged": "v averages gradients, with 1 − β. PyTorch adds the whole gradient.",
        "no-momentum": "This is gradient descent: v must keep β times its old value.",
        "nesterov": "This is nesterov=True. Asked for is plain momentum: step along v.",
        "one-behind": "The step uses the η of the step before.",
        "forgets-at-zero": "Where η is 0 the point rests, but v goes on, and is not lost.",
    }
    wrong = {kind: _walk(x, lam, rates, beta, kind) for kind in hints}
    right = _walk(x, lam, rates, beta, "right")
    mistakes = {kind: (points, f"{hints[kind]} Section 8.") for kind, points in wrong.items()}
    mistakes["no-start"] = (right[1:], "The start is a point, too: return T + 1 points. Section 8.")
    found = sgd(lambda y: lam * numbers(y), x.copy(), list(rates), beta)
    if found is not None and numbers(found).shape == right[1:].shape:
        right, mistakes = right[1:], {"no-start": mistakes["no-start"]}
        if np.allclose(numbers(found), right):
            right = right + 1.0  # the points are right, their number is not
    case = f"rates {rates}, β = {beta:.2f}"
    advice = "v ← β v + ∇f(θ), then θ ← θ − η_t v, from v = 0. Section 8."
    return differs(
        found, right, law="the points of SGD(momentum=β)", case=case, advice=advice, mistakes=mistakes
    )


@check
def check_cycle_length(length: Answer, rng: np.random.Generator) -> Laws:
    """0 where heavy ball diverges, 1 where it settles, p where it comes back after p steps."""
    for scale in (1.0, 1e-9 * float(rng.uniform(1, 2)), 1e4):
        case = f"the kinked function{f', its axis stretched {scale:.2g} times' * (scale != 1)}"
        yield _cycle_law(length(partial(_kinked, scale), 3.3 * scale, 1 / 9, 4 / 9), 3, case)
    b = float(rng.uniform(3, 5))
    yield _cycle_law(length(lambda x: 2 * (x - b), b + 1, 0.1, 0.5), 1, "a parabola, converging to x ≠ 0")
    yield _cycle_law(length(partial(_kinked, 1.0), 0.5, 1 / 9, 4 / 9), 1, "the kinked function, from 0.5")
    yield _cycle_law(length(lambda x: 2 * (x - b), b + 1, 1.0, 0.0), 2, "a parabola, ηλ = 2, β = 0")
    yield _cycle_law(length(lambda x: 5.0 * x, b, 1.0, 0.5), 0, "a parabola, ηλ = 5, β = 0.5")
    yield _cycle_law(length(lambda x: 0.05 * (x - b), b + 1, 1.0, 0.5), 1, "a parabola, slow convergence")
    for period, growth in ((5, 3.738914913), (8, 3.554640863)):  # at these the logistic map x ← r x (1 − x)
        slope = partial(_logistic, growth, b)  # has a cycle through ½ that attracts at once
        yield _cycle_law(length(slope, b / 2, 0.5, 0.0), period, f"a cubic, β = 0, period {period}")


def _kinked(scale: float, x: Any) -> Any:
    """The slope of Lessard, Recht and Packard, on an axis that is stretched by `scale`."""
    u = numbers(x) / scale
    return scale * np.where(u < 1, 25 * u, np.where(u < 2, u + 24, 25 * u - 24))


def _logistic(growth: float, scale: float, x: Any) -> Any:
    """The slope whose gradient descent with η = ½ is x ← r x (1 − x/s), with r = `growth`, s = `scale`."""
    return 2 * (x - growth * x * (1 - x / scale))


def _cycle_law(found: Any, right: int, case: str) -> Violation | None:
    law = "the smallest p with x_{t+p} = x_t in the long run; 0 for divergence"
    shapeless = differs(found, float(right), law=law, case=case, advice="", tolerance=np.inf)
    if shapeless is not None:
        return shapeless
    value = float(numbers(found))
    if value == right:
        return None
    stretched = right == 3 and "stretched" in case
    reasons = (
        (
            right == 0,
            "divergence",
            "The points grow without bound: return 0. Mind NaN, which equals nothing.",
        ),
        (stretched, "absolute-tolerance", "Stretching the axis changed the answer: compare relatively."),
        (right == 1 and value == 0, "settled", "It settles, and x_{t+1} = x_t: the answer is 1."),
        (right > 3 and value in (0, 1), "few-periods", "Periods up to 12 can occur: try all, up to 12."),
        (value == 0, "too-early", "Not settled yet: run longer before you compare. Is β in the update?"),
        (value == 1, "other-method", "It does not settle here. The update adds −η ∇f(x_t), not dampened."),
        (
            value % right == 0 if right else False,
            "multiple",
            f"It is back after {right}: find the smallest p.",
        ),
        (True, "value", "Run all the steps, then compare the last point with those before it."),
    )
    diagnosis, hint = next((name, text) for holds, name, text in reasons if holds)
    return Violation(diagnosis, law, case, f"{value:g}, expected {right}", f"{hint} Section 7.")


TICKET = (
    Question(
        "longer-step",
        "Heavy ball has η = 1/L and β = 0.9. Gradient descent with the step 10/L instead",
        (
            "gives nearly the same path in all modes.",
            "is as fast in the flattest modes, and diverges in the steepest.",
            "is slower in all modes.",
            "is stable, since heavy ball is.",
        ),
        1,
        {
            0: "In the mode λ = L it has the factor 1 − 10 = −9. Only the flattest modes agree. Section 3.",
            2: "In the flattest modes η/(1 − β) is just 10 η. Section 3.",
            3: "At η = 1/L heavy ball bears up to 3.8 L; the step 10/L bears L/5. Sections 2 and 3.",
        },
    ),
    Question(
        "more-momentum",
        "All modes have (1 − √β)² < ηλ < (1 + √β)² at β = 0.9. At the same η you set β = 0.99. Then",
        (
            "all modes get slower.",
            "all modes get ten times as fast.",
            "the flat modes get faster, the steep ones slower.",
            "the steepest mode diverges.",
        ),
        0,
        {
            1: "That holds for modes below the window. Inside, the rate is √β: 0.949 becomes 0.995.",
            2: "All modes are inside the window, so all go from √0.9 to √0.99. Sections 2 and 3.",
            3: "The border 2 + 2β rises with β. Section 2.",
        },
    ),
    Question(
        "rate-and-count",
        "Tuned heavy ball at κ = 10 000 leaves 0.980 of the error a step. From rest, it needs 972 steps to a "
        "millionth, not 691. Why?",
        (
            "Rounding errors.",
            "The error first grows: at a double root it is a line in t times 0.980^t.",
            "The true rate is lower than the formula says.",
            "Too few steps were run to see the rate.",
        ),
        1,
        {
            0: "Rounding changes the 16th digit here. The growth is exact algebra. Section 4.",
            2: "The rate is exact in the long run; the line in t in front of it costs. Section 4.",
            3: "The count is the count. A rate alone does not give it. Section 4.",
        },
    ),
)
