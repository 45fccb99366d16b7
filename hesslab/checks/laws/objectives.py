"""The laws of derivatives: Taylor remainders, symmetry, and the curvature along a direction.

Each law takes the learner's functions, or what they returned, and answers None or a `Violation` that names
the likely mistake. `case` says in words what was tried; `advice` says where to reread.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hesslab.checks.laws.feedback import Violation, differs, numbers
from hesslab.objectives import Objective

Vector = NDArray[np.float64]
Mistakes = dict[str, tuple[Any, str]]


def gradient_fits(
    value: Callable[[Vector], float],
    gradient: Callable[[Vector], Any],
    x: ArrayLike,
    *,
    rng: int | np.random.Generator,
    case: str,
    advice: str = "",
    num_examples: int = 0,
    mistakes: Mistakes | None = None,
) -> Violation | None:
    """f(x + h v) − f(x) − h g·v shrinks like h², for random unit v, as h → 0.

    `value` is trusted, `gradient` is judged at `x`, shape (d,). With `num_examples` n the mistake "the sum
    instead of the mean" is recognized, too. Costs one gradient and 4 d + 73 values.

    >>> f, wrong = lambda x: x @ x, lambda x: x
    >>> gradient_fits(f, wrong, [1.0, 2.0], rng=0, case="x·x").diagnosis
    'half'
    """
    x = numbers(x)
    g, right = gradient(x), _derivative(value, x)
    law = "f(x + h v) − f(x) − h g·v = O(h²)"
    shapeless = differs(g, right, law=law, case=case, advice=advice, tolerance=np.inf)
    if shapeless is not None:
        return shapeless
    slope = _slope(value, x, numbers(g), np.zeros((x.size, x.size)), rng)
    known = (mistakes or {}) | usual_mistakes(right, num_examples=num_examples)
    return _unless_steep(slope, 2, g, right, known, law=law, case=case, advice=advice)


def hessian_fits(
    value: Callable[[Vector], float],
    gradient: Callable[[Vector], Any],
    hessian: Callable[[Vector], Any],
    x: ArrayLike,
    *,
    rng: int | np.random.Generator,
    case: str,
    advice: str = "",
    num_examples: int = 0,
    mistakes: Mistakes | None = None,
) -> Violation | None:
    """f(x + h v) − f(x) − h g·v − ½ h² vᵀH v shrinks like h³, for random unit v; and H = Hᵀ.

    `value` and `gradient` are trusted, `hessian` is judged at `x`, shape (d,). Costs one Hessian, 4 d + 1
    gradients and 73 values. (Nocedal & Wright 2006, Theorem 2.1)

    >>> f, g = lambda x: x[0] * x[1]**2, lambda x: np.array([x[1]**2, 2 * x[0] * x[1]])
    >>> wrong = lambda x: np.diag([0.0, 2 * x[0]])
    >>> hessian_fits(f, g, wrong, [1.0, 2.0], rng=0, case="x y²").diagnosis
    'diagonal-only'
    """
    x = numbers(x)
    H, right = hessian(x), _derivative(gradient, x)
    right = (right + right.T) / 2
    law = "f(x + h v) − f(x) − h g·v − ½ h² vᵀH v = O(h³)"
    shapeless = differs(H, right, law=law, case=case, advice=advice, tolerance=np.inf)
    if shapeless is not None:
        return shapeless
    slope = _slope(value, x, numbers(gradient(x)), numbers(H), rng)
    known = (mistakes or {}) | usual_mistakes(right, num_examples=num_examples)
    violation = _unless_steep(slope, 3, H, right, known, law=law, case=case, advice=advice)
    return violation or symmetric(H, case=case, advice=advice)


def symmetric(H: Any, *, case: str, advice: str = "") -> Violation | None:
    """H = Hᵀ: the order of differentiation does not matter where f is twice continuously differentiable.

    >>> symmetric([[1.0, 2.0], [0.0, 1.0]], case="a 2 × 2 matrix").diagnosis
    'one-triangle'
    """
    H = numbers(H)
    hint = f"One triangle is empty: fill ∂²f/∂x_j∂x_i with ∂²f/∂x_i∂x_j. {advice}".strip()
    return differs(
        H,
        H.T,
        law="H = Hᵀ",
        case=case,
        advice=f"A mixed derivative was changed and its mirror image was not. {advice}".strip(),
        diagnosis="not-symmetric",
        mistakes={"one-triangle": (np.triu(H), hint), "one-triangle ": (np.tril(H), hint)},
    )


def curvature_along(
    found: Any, H: ArrayLike, v: ArrayLike, *, case: str, advice: str = ""
) -> Violation | None:
    """The second derivative of t ↦ f(x + t v/‖v‖) at 0 is the Rayleigh quotient vᵀH v / vᵀv.

    `found` is the learner's number, for the Hessian `H`, shape (d, d), and any `v` ≠ 0, shape (d,).

    >>> H, v = np.diag([1.0, 3.0]), np.array([0.0, 2.0])
    >>> curvature_along(v @ H @ v, H, v, case="an eigenvector of length 2").diagnosis
    'not-normalized'
    """
    H, v = numbers(H), numbers(v)
    raw, square = v @ H @ v, v @ v
    known = {
        "not-normalized": (raw, f"Divide by vᵀv: the answer must not depend on the length of v. {advice}"),
        "norm-not-squared": (raw / np.sqrt(square), f"Divide by vᵀv, not by its square root. {advice}"),
        "length-of-Hv": (np.linalg.norm(H @ v) / np.sqrt(square), f"‖Hv‖ loses the sign: use vᵀHv. {advice}"),
    }
    return differs(
        found,
        raw / square,
        law="vᵀH v / vᵀv",
        case=case,
        advice=f"Multiply H by v, take the product with v, divide by vᵀv. {advice}".strip(),
        mistakes=known | usual_mistakes(raw / square),
    )


def usual_mistakes(expected: ArrayLike, *, num_examples: int = 0) -> Mistakes:
    """What the usual slips make of a right derivative `expected`, for the argument `mistakes` of `differs`.

    >>> list(usual_mistakes(3.0))
    ['factor-two', 'half', 'sign']
    """
    right = numbers(expected)
    known: Mistakes = {
        "factor-two": (
            2 * right,
            "A factor 2 too many: the ½ of a half square cancels the 2 of its derivative.",
        ),
        "half": (right / 2, "A factor 2 is missing: (x²)′ = 2 x, and a mixed term appears twice in vᵀH v."),
        "sign": (-right, "The sign is reversed: is it prediction minus target?"),
    }
    if num_examples > 1:
        hint = f"This belongs to the sum over the examples; their mean divides by n = {num_examples}."
        known = {"sum-not-mean": (num_examples * right, hint)} | known
    if right.ndim == 2 and right.shape[0] == right.shape[1]:
        hint = "The mixed derivatives ∂²f/∂x_i∂x_j, i ≠ j, are missing."
        known["diagonal-only"] = (np.diag(np.diag(right)), hint)
    return known


def quartic(x0: Vector, c: float, s: Vector, S: Vector, k: Vector, q: float) -> Objective:
    """The function c + s·y + ½ yᵀS y + Σ k y³ + q Σ y⁴ with y = x − x0.

    At x0 its gradient is s, and its Hessian S. `x0`, `s` and `k` have shape (d,), `S` (d, d), symmetric.

    >>> f = quartic(np.ones(1), 2.0, np.ones(1), 6 * np.eye(1), np.zeros(1), 1.0)
    >>> f.value([1.0]), f.value([2.0]), f.hessian([1.0]).tolist()
    (2.0, 7.0, [[6.0]])
    """
    return Objective(
        "quartic",
        len(x0),
        lambda x: c + s @ (x - x0) + (x - x0) @ S @ (x - x0) / 2 + (k + q * (x - x0)) @ (x - x0) ** 3,
        lambda x: s + S @ (x - x0) + 3 * k * (x - x0) ** 2 + 4 * q * (x - x0) ** 3,
        lambda x: S + np.diag(6 * k * (x - x0) + 12 * q * (x - x0) ** 2),
    )


def recorded(function: Callable[[Vector], Any]) -> tuple[Callable[[Any], Any], list[Vector]]:
    """`function`, and the growing list of the points at which it was called.

    >>> value, points = recorded(lambda x: x @ x)
    >>> print(value([1.0, 2.0]), points)
    5.0 [array([1., 2.])]
    """
    points: list[Vector] = []

    def called(x: Any) -> Any:
        points.append(numbers(x))
        return function(points[-1])

    return called, points


def farthest(points: list[Vector], x: Vector) -> float:
    """The largest distance of one of `points` from x; 0 where there is none."""
    return max((float(np.linalg.norm(point - x)) for point in points), default=0.0)


def blame_step(violation: Violation | None, step: float, low: float, high: float) -> Violation | None:
    """A wrong value is blamed on the finite `step` where that lies outside [low, high]; 0 is no step.

    >>> blame_step(Violation("value", "", "", "", ""), 1e-9, 1e-6, 0.1).diagnosis
    'step-too-small'
    """
    structural = {"returns-nothing", "shape", "not-finite"}
    if violation is None or violation.diagnosis in structural or step == 0 or low <= step <= high:
        return violation
    if step < low:
        hint = f"Your step is {step:.0e}, so small that rounding wins. Take 1e-3. {violation.advice}"
        return replace(violation, diagnosis="step-too-small", advice=hint)
    hint = f"Your step is {step:.2g}, so large that higher derivatives enter. Take 1e-3. {violation.advice}"
    return replace(violation, diagnosis="step-too-large", advice=hint)


def _derivative(function: Callable[[Vector], Any], x: Vector) -> Vector:
    """The derivative of a number or of a vector with respect to x, last axis, with an error of order h⁴."""
    h = 1e-3 * max(1.0, float(np.max(np.abs(x))))
    columns = []
    for step in h * np.eye(x.size):
        near = numbers(function(x + step)) - numbers(function(x - step))
        far = numbers(function(x + 2 * step)) - numbers(function(x - 2 * step))
        columns.append((8 * near - far) / (12 * h))
    return np.stack(columns, axis=-1)


def _slope(
    value: Callable[[Vector], float], x: Vector, g: Vector, H: Vector, rng: int | np.random.Generator
) -> float:
    """The exponent p in |f(x + h v) − its Taylor polynomial| ≈ c h^p; infinite where only rounding is left.

    The smallest of three directions, each the median slope between the six smallest h whose remainder is well
    above rounding: one accidental zero of the remainder must not decide.
    """
    steps = np.geomspace(3e-2, 1e-5, 24) * max(1.0, float(np.max(np.abs(x))))
    f, slopes = float(value(x)), []
    for v in np.random.default_rng(rng).standard_normal((3, x.size)):
        v = v / np.linalg.norm(v)
        terms = np.array([[float(value(x + h * v)), f, h * g @ v, h**2 * (v @ H @ v) / 2] for h in steps])
        remainder = np.abs(terms @ np.array([1.0, -1.0, -1.0, -1.0]))
        seen = np.flatnonzero(remainder > 1e2 * np.finfo(float).eps * np.max(np.abs(terms), axis=1))[-6:]
        if len(seen) >= 3:
            slopes.append(float(np.median(np.diff(np.log(remainder[seen])) / np.diff(np.log(steps[seen])))))
    return min(slopes, default=np.inf)


def _unless_steep(
    slope: float, order: int, found: Any, right: Vector, known: Mistakes, *, law: str, case: str, advice: str
) -> Violation | None:
    if slope > order - 0.5:
        return None
    hint = f"A term of the product or chain rule is missing or too many. {advice}".strip()
    violation = differs(
        found, right, law=law, case=case, advice=hint, diagnosis="missing-term", mistakes=known
    ) or Violation("missing-term", law, case, "", hint)
    worst = np.unravel_index(np.argmax(np.abs(numbers(found) - right)), right.shape)
    entry = f"entry {[int(i) for i in worst]} is {numbers(found)[worst]:.4g}, expected {right[worst]:.4g}"
    return replace(violation, found=f"it shrinks like h^{slope:.1f}, expected h^{order}; {entry}")
