"""Checks of lesson 01, curvature at a point: six answers judged on fresh instances, and the exit ticket."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hesslab.checks.laws.feedback import SINGLE, SLOPE, Violation, check, differs, numbers
from hesslab.checks.laws.ticket import Question
from hesslab.objectives import deep_linear, logistic_regression, peano

Vector = NDArray[np.float64]
Laws = Iterator[Violation | None]
Answer = Callable[..., Any]


@check
def check_rosenbrock_hessian(hessian: Answer, rng: np.random.Generator) -> Laws:
    """The four second derivatives of 100 (y − x²)² + (1 − x)², away from the valley and at its minimum."""
    for x, gap in zip(_signed(rng, 0.6, 1.4, 3), _signed(rng, 0.5, 1.0, 3), strict=True):
        yield _rosenbrock_law(hessian(np.array([x, x**2 + gap])), float(x), float(x**2 + gap))
    yield _rosenbrock_law(hessian(np.array([1.0, 1.0])), 1.0, 1.0)


def _rosenbrock_law(found: Any, x: float, y: float) -> Violation | None:
    xx, xy, yy = 1200 * x**2 - 400 * y + 2, -400 * x, 200.0
    right = np.array([[xx, xy], [xy, yy]])
    product = "∂/∂x of −400 x (y − x²) has two terms, −400 (y − x²) and +800 x²; "
    triangle = "Only one triangle is filled; put −400 x in both places."
    mistakes = {
        "product-rule": ([[800 * x**2 + 2, xy], [xy, yy]], product + "the first is missing."),
        "product-rule-other": ([[2 - 400 * (y - x**2), xy], [xy, yy]], product + "the second is missing."),
        "lost-constant": (right - np.diag([2, 0]), "(1 − x)² has the second derivative 2; add it."),
        "sign-of-mixed": (right * [[1, -1], [-1, 1]], "∂/∂x of 200 (y − x²) is −400 x, with a minus."),
        "no-mixed": (np.diag([xx, yy]), "∂²f/∂x∂y is −400 x, not 0: the valley bends."),
        "one-triangle": (np.triu(right), triangle),
        "other-triangle": (np.tril(right), triangle),
        "half": (right / 2, "The ½ belongs to the model ½ dᵀH d, not to H."),
    }
    law = "H_ij = ∂²f/∂x_i ∂x_j"
    case = f"Rosenbrock's function at ({x:.3f}, {y:.3f})"
    advice = "Differentiate ∂f/∂x = −400 x (y − x²) − 2 (1 − x) and ∂f/∂y = 200 (y − x²)."
    return _judged(found, right, mistakes, law, case, advice, 1)


@check
def check_curvature_along(curvature: Answer, rng: np.random.Generator) -> Laws:
    """The second derivative along a unit vector, for directions of any length, curvatures of any sign."""
    for length, sign in ((3.0, 1), (0.4, -1), (2.0, -1), (5.0, 1)):
        F = rng.standard_normal((4, 4))
        parts = (
            float(rng.uniform(1, 2)),
            _signed(rng, 1, 2, 4),
            sign * (F @ F.T / 4 + 2 * np.eye(4)),
            rng.uniform(0.2, 0.5, 4),
        )
        yield _curvature_law(curvature, parts, length)


def _quartic(parts: Any, x: Any) -> float:
    """The value c + b·x + ½ xᵀA x + Σ k x³ + ½ Σ x⁴, with `parts` = (c, b, A, k)."""
    (c, b, A, k), x = parts, numbers(x)
    return float(c + b @ x + 0.5 * x @ A @ x + k @ x**3 + 0.5 * np.sum(x**4))


def _curvature_law(curvature: Answer, parts: Any, length: float) -> Violation | None:
    _, b, A, k = parts
    value, x = partial(_quartic, parts), np.linspace(-0.3, 0.3, 4)
    u = np.sign(b) / 2  # a direction in which the slope is far from 0
    slope = u @ (b + A @ x + 3 * k * x**2 + 2 * x**3)
    right = u @ (A + np.diag(6 * k * x + 6 * x**2)) @ u
    coarse = value(x + u) - 2 * value(x) + value(x - u)
    mistakes: dict[str, tuple[Any, str]] = {
        "not-normalized": (right * length**2, "This is dᵀH d. Curvature is per unit length: divide by ‖d‖²."),
        "normalized-once": (right * length, "This is dᵀH d/‖d‖. The length enters squared: divide by ‖d‖²."),
        "slope": (slope, "This is the slope ∇f·u. Take the second difference, not the first."),
        "half": (right / 2, "f(x+hu) − 2 f(x) + f(x−hu) is h² uᵀH u: divide by h², not by 2 h²."),
        "absolute": (abs(right), "The sign was lost: downward curvature is negative."),
        "sign": (-right, "The sign is turned: outer values plus, middle value minus."),
        "step-too-large": (coarse, "A step of 1 sees the fourth derivative. Take h near 1e-3."),
    }
    found = curvature(value, x, length * u)
    law = "uᵀH u = (f(x+hu) − 2 f(x) + f(x−hu))/h² for small h and ‖u‖ = 1"
    case = f"a function of 4 variables, a direction of length {length:g}"
    advice = "Normalize the direction, and take the central second difference with h near 1e-3."
    violation = _judged(found, right, mistakes, law, case, advice, 2, SLOPE)
    if violation is None or violation.diagnosis != "value":
        return violation
    shifts = (partial(_quartic, (parts[0] + 100 / k, *parts[1:])) for k in (1, 3, 7, 11, 13, 17))
    moved = [abs(float(numbers(curvature(f, x, length * u)) - numbers(found))) for f in shifts]
    return _step_trouble(violation, abs(float(numbers(found)) / right), max(moved) / abs(right))


def _step_trouble(violation: Violation, size: float, moved: float) -> Violation:
    """Tell rounding (the answer moves when a constant is added to f) from a forgotten division (tiny)."""
    diagnosis, advice = violation.diagnosis, violation.advice
    if moved > 1e-3:
        diagnosis = "step-too-small"
        advice = "Adding a constant to f changed it: h is so small that rounding wins. Take 1e-3. Section 2."
    elif size < 1e-3:
        diagnosis, advice = "not-divided", "The second difference is h² uᵀH u: divide it by h². Section 2."
    return Violation(diagnosis, violation.law, violation.case, violation.found, advice)


@check
def check_mixed_partials(mixed_partials: Answer, rng: np.random.Generator) -> Laws:
    """Both orders of differentiation at 0, for smooth functions with a multiple of Peano's added."""
    for c in _signed(rng, 0.5, 2.0, 3):
        smooth = (float(_signed(rng, 0.3, 0.45, 1)[0]), *rng.uniform(-1, 1, 6))
        yield _mixed_law(mixed_partials(partial(_with_peano, float(c), smooth)), float(c), smooth[0])


def _with_peano(c: float, smooth: tuple[float, ...], point: Any) -> float:
    x, y = numbers(point)
    m, c0, a, b, p, q, r = smooth
    polynomial = c0 + a * x + b * y + m * x * y + p * x**2 + q * y**2 + r * x**2 * y
    return float(polynomial + c * peano().value([x, y]))


def _mixed_law(found: Any, c: float, m: float) -> Violation | None:
    right = np.array([m - c, m + c])
    alike = "The two orders were taken to agree. Compute each with its own inner difference."
    mistakes = {
        "same-step": ([m, m], "Equal steps use the same four points in both orders: shrink the inner step."),
        "swapped": (right[::-1], "First comes ∂/∂y (∂f/∂x): in x with the *small* step, then in y."),
        "assumed-symmetry": ([m - c, m - c], alike),
        "assumed-symmetry-other": ([m + c, m + c], alike),
        "constant": ([-1.0, 1.0], "−1 and +1 belong to Peano's function alone; use the f that is given."),
        "sign": (-right, "Both signs are turned: a difference is forward minus backward."),
        "factor-two": (2 * right, "A central difference is divided by twice its step."),
        "factor-four": (4 * right, "Central differences are divided by twice their steps, both of them."),
    }
    law = "(∂/∂y ∂f/∂x, ∂/∂x ∂f/∂y) at (0, 0)"
    case = f"a polynomial plus {c:.2f} times Peano's function"
    advice = "Nest two central differences, the inner step a thousand times smaller than the outer."
    return _judged(found, right, mistakes, law, case, advice, 3, SLOPE)


@check
def check_logistic_hessian(hessian: Answer, rng: np.random.Generator) -> Laws:
    """Xᵀ diag(p (1 − p)) X/n on small random problems of several sizes."""
    for n, d in ((30, 4), (7, 3), (50, 6)):
        y = (np.arange(n) % 3 == 0).astype(float)
        yield _logistic_law(hessian, rng.standard_normal(d), rng.standard_normal((n, d)), y)


def _logistic_law(hessian: Answer, w: Vector, X: Vector, y: Vector) -> Violation | None:
    n, p = len(X), 1 / (1 + np.exp(-X @ w))
    right, g = logistic_regression(X, y).hessian(w), X.T @ (p - y) / n

    def weighted(weights: Vector) -> Vector:
        return np.asarray((X.T * weights) @ X / n)

    squared, fisher = weighted((p * (1 - p)) ** 2), weighted((p - y) ** 2)
    mistakes = {
        "sum": (n * right, "This is the Hessian of the summed loss. The loss is a mean: divide by n."),
        "least-squares": (weighted(np.ones(n)), "XᵀX/n belongs to least squares. The weight is p (1 − p)."),
        "weight-p": (weighted(p), "The weight is σ'(z) = p (1 − p), not p."),
        "weight-squared": (squared, "p (1 − p) entered twice: scale one X by it, or both by its root."),
        "empirical-fisher": (fisher, "(p − y)² x xᵀ is made of first derivatives. The weight is p (1 − p)."),
        "outer-gradient": (np.outer(g, g), "g gᵀ has rank 1. Differentiate the gradient."),
        "labels": (np.zeros_like(right), "y (1 − y) is 0. The weight is p (1 − p); y drops out."),
        "sign": (-right, "The loss is convex: no eigenvalue is negative."),
    }
    law = "∇²f = Xᵀ diag(p (1 − p)) X/n, p = σ(X w)"
    case = f"{n} examples of {X.shape[1]} features"
    advice = "Differentiate the gradient Xᵀ(p − y)/n once more: σ' = σ (1 − σ)."
    return _judged(hessian(w, X, y), right, mistakes, law, case, advice, 4)


@check
def check_curvature_from_symmetry(curvature: Answer, rng: np.random.Generator) -> Laws:
    """vᵀH v = −g·s for two-layer linear networks, against their exact Hessian."""
    for inputs, width in ((3, 2), (2, 4), (1, 1)):
        M = _signed(rng, 1.0, 2.0, (inputs, inputs))
        yield _symmetry_law(curvature, M, _signed(rng, 0.5, 1.0, 2 * inputs * width))


def _product_gradient(M: Vector, theta: Any) -> Vector:
    """The gradient of ½ ‖W₂ W₁ − M‖², θ holding W₁ and then W₂."""
    halves = numbers(theta).reshape(2, -1)
    W1, W2 = halves[0].reshape(-1, len(M)), halves[1].reshape(len(M), -1)
    R = W2 @ W1 - M
    return np.concatenate([(W2.T @ R).ravel(), (R @ W1.T).ravel()])


def _symmetry_law(curvature: Answer, M: Vector, theta: Vector) -> Violation | None:
    half, width = len(theta) // 2, len(theta) // (2 * len(M))
    v = np.concatenate([theta[:half], -theta[half:]])
    right = float(v @ deep_linear([len(M), width, len(M)], M).hessian(theta) @ v)
    mistakes = {
        "sign": (-right, "vᵀH v + g·s = 0, so vᵀH v = −g·s, with a minus."),
        "orbit-is-flat": (0.0, "L is constant on the orbit, but the orbit bends: the term g·s remains."),
        "one-factor": (right / 2, "Only one factor was counted: s = (W₁, W₂) has both."),
        "one-factor-sign": (-right / 2, "One factor and the minus are missing: vᵀH v = −g·s, s = (W₁, W₂)."),
        "rayleigh": (right / (v @ v), "This is the Rayleigh quotient. Asked for is vᵀH v, not divided."),
    }
    law = "vᵀH v = −g·s, with v = (W₁, −W₂) and s = (W₁, W₂)"
    case = f"½ ‖W₂ W₁ − M‖², {len(M)} inputs, {width} hidden units"
    advice = "Differentiate L(eᵗ W₁, e⁻ᵗ W₂) = const twice at t = 0."
    return _judged(curvature(partial(_product_gradient, M), theta), right, mistakes, law, case, advice, 6)


WORDS = ("minimum", "maximum", "saddle", "undecided")
Blame = dict[str, tuple[str, str]]  # a wrong word -> diagnosis, advice


@check
def check_classify(classify: Answer, rng: np.random.Generator) -> Laws:
    """The word for a critical point, from the signs of its eigenvalues, at every scale of the Hessian."""
    scale = _whatever(
        "absolute-tolerance", "Rescaling the loss changed the answer: compare with rtol · max|λ|."
    )
    cases = list(_critical_points(rng))
    for name, H, right, blame in cases:
        yield _word_law(classify(H), right, name, blame)
    for name, H, right, _ in cases:
        for factor in (1e-13, 1e8):
            yield _word_law(classify(factor * H), right, f"{factor:g} times {name}", scale)


def _critical_points(rng: np.random.Generator) -> Iterator[tuple[str, Vector, str, Blame]]:
    """A name, a Hessian, the right word, and what each wrong word says about its author."""
    diagonal = {"minimum": ("reads-the-diagonal", "Diagonal entries are not eigenvalues: use eigvalsh.")}
    product = _whatever("reads-the-determinant", "Two minus signs vanish in a product: look at each λ.")
    rounded = _whatever("rounding-as-sign", "1e-13 max|λ| is rounding, no sign: compare with rtol · max|λ|.")
    hidden = {"undecided": ("zero-hides-saddle", "λ > 0 and λ < 0 make a saddle, whatever the others are.")}
    zero = {
        "minimum": ("zero-means-minimum", "λ = 0 decides nothing: x² + y⁴ has a minimum, x² − y⁴ a saddle."),
        "maximum": (
            "zero-means-maximum",
            "λ = 0 decides nothing: −x² − y⁴ has a maximum, −x² + y⁴ a saddle.",
        ),
        "saddle": ("zero-means-saddle", "A zero is not a second sign: −x² − y⁴ has a maximum at 0."),
    }
    spectra: tuple[tuple[list[float], str, Blame], ...] = (
        ([3, 2, 1], "minimum", {}),
        ([-1, -2], "maximum", {}),
        ([2, 1, -1, -3], "saddle", product),
        ([2, 0, -1], "saddle", hidden),
        ([2, 1, -1e-13], "undecided", rounded),
        ([2, 1, 1e-13], "undecided", rounded),
    )
    yield "the matrix [[1, 3], [3, 2]]", np.array([[1.0, 3.0], [3.0, 2.0]]), "saddle", diagonal
    for name in ((2, 1, 0), (-2, -1, 0), (0, 0)):
        yield f"the matrix diag{name}", np.diag(np.array(name, dtype=float)), "undecided", zero
    for spectrum, right, blame in spectra:
        Q = np.linalg.qr(rng.standard_normal((len(spectrum), len(spectrum))))[0]
        H = (Q * np.array(spectrum)) @ Q.T
        yield f"a matrix with eigenvalues {spectrum}", (H + H.T) / 2, right, blame


def _whatever(diagnosis: str, advice: str) -> Blame:
    return dict.fromkeys(WORDS, (diagnosis, advice))


def _word_law(found: Any, right: str, case: str, blame: Blame) -> Violation | None:
    law = "the signs of the eigenvalues decide, or do not"
    if found is None:
        return Violation("returns-nothing", law, case, "None", "The function has no `return`.")
    word = found.strip().lower() if isinstance(found, str) else ""
    if word == right:
        return None
    diagnosis, advice = blame.get(word, ("value", "Compare each λ with rtol · max|λ|, then read the signs."))
    if word not in WORDS:
        diagnosis, advice = "vocabulary", f"Return one of the words {', '.join(WORDS)}."
    return Violation(diagnosis, law, case, f"{str(found)[:40]!r}, expected {right!r}", f"{advice} Section 5.")


def _judged(
    found: Any,
    right: Any,
    mistakes: Any,
    law: str,
    case: str,
    advice: str,
    section: int,
    tolerance: float = SINGLE,
) -> Violation | None:
    """`differs`, with the section to reread added to every advice."""
    placed = {name: (value, f"{text} Section {section}.") for name, (value, text) in mistakes.items()}
    advice = f"{advice} Section {section}."
    return differs(found, right, law=law, case=case, advice=advice, mistakes=placed, tolerance=tolerance)


def _signed(rng: np.random.Generator, low: float, high: float, size: Any) -> Vector:
    """Numbers whose size is between `low` and `high`, of either sign: random, and never near 0."""
    return np.asarray(rng.uniform(low, high, size) * rng.choice([-1.0, 1.0], size))


TICKET = (
    Question(
        "zero-eigenvalue",
        "At a local minimum, H has the eigenvalue 0 with unit eigenvector v. What follows for L(θ + t v)?",
        (
            "It is constant in t.",
            "It is constant for small t.",
            "It changes by o(t²), and no more is known.",
            "It is constant, since v comes from a symmetry of the model.",
        ),
        2,
        {
            0: "x⁴ has λ = 0 at its minimum and is not constant. Section 5.",
            1: "x⁴ has λ = 0 at its minimum and is constant on no interval. Section 5.",
            3: "A symmetry gives zeros at a critical point; a zero needs no symmetry: x⁴. Section 5.",
        },
    ),
    Question(
        "negative-eigenvalues",
        "At the start of training ‖∇L(θ)‖ = 3, and H has 31 negative eigenvalues. What is θ?",
        ("A saddle.", "A local maximum.", "A sign of divergence.", "None of these: the gradient is not 0."),
        3,
        {
            0: "At a saddle ∇L = 0. Here the loss bends downward on a slope. Section 5.",
            1: "At a maximum ∇L = 0, and no eigenvalue is positive. Section 5.",
            2: "The network of section 6 starts with negative eigenvalues, and its loss falls. Section 6.",
        },
    ),
    Question(
        "count-zeros",
        "Softmax regression with 5 classes and 20 features. Two features are 0 in every example, the other "
        "18 are linearly independent. How many eigenvalues of the Hessian are 0?",
        ("10", "20", "28", "30"),
        2,
        {
            0: "10 counts the dead weights. Shifting all class weights by one vector is free too. Section 4.",
            1: "20 counts the shifts. A dead feature has 5 weights, all of them without effect. Section 4.",
            3: "10 + 20 counts the shifts along the two dead features twice: 10 + 18. Section 4.",
        },
    ),
)
