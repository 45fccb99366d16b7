"""Checks of lesson 01, curvature at a point: six answers judged on fresh instances, and the exit ticket."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hesslab.checks.laws.feedback import EXACT, SLOPE, Violation, check, compare, differs, numbers
from hesslab.checks.laws.objectives import blame_step, farthest, quartic, recorded
from hesslab.checks.laws.ticket import Question
from hesslab.objectives import Objective, deep_linear, logistic_regression

Vector = NDArray[np.float64]
Laws = Iterator[Violation | None]
Answer = Callable[..., Any]
MOST_VALUES = 9  # that one curvature may cost; a whole Hessian of 8 variables costs more


@check
def check_taylor_slope(taylor_slope: Answer, rng: np.random.Generator) -> Laws:
    """3 with g and H right, 2 with a wrong H, 1 with a wrong g, 4 where the cubic term vanishes."""
    names = {3: "g and H right", 2: "a wrong Hessian", 1: "a wrong gradient", 4: "both right, no cubic term"}
    for order, case in names.items():
        x, u = rng.standard_normal(4), _signed(rng, 0.5, 1.0, 4)
        u /= np.linalg.norm(u)
        k = np.sign(u) * rng.uniform(0.5, 1.0, 4) * (order != 4)
        f = quartic(x, 1.0, rng.standard_normal(4), _definite(rng, 4), k, 1.0)
        g, H = f.gradient(x) + 0.1 * u * (order == 1), f.hessian(x) + 0.5 * np.outer(u, u) * (order == 2)
        value, points = recorded(f.value)
        found = taylor_slope(value, lambda _, g=g: g, lambda _, H=H: H, x, u)
        yield _slope_law(found, order, case, farthest(points, x))


def _slope_law(found: Any, order: int, case: str, reach: float) -> Violation | None:
    own = "With both right it is 3. Judge the g and H that are given, here a wrong one. Section 1."
    lacks = "With both right it must be 3. Does your model have the term ½ dᵀH d, with its ½? Section 1."
    mistakes = {
        "not-judged": (3 if order < 3 else np.nan, own),
        "no-curvature-term": (2 if order > 2 else np.nan, lacks),
        "no-slope-term": (1 if order > 2 else np.nan, "Does your model have the term g·d? Section 1."),
        "no-value": (0, "The error does not fall: subtract f(x) from f(x + d). Section 1."),
        "upside-down": (-order, "The sign is turned: the larger step has the larger error. Section 1."),
        "natural-log": (order * np.log(10), "Divide the logarithm by that of the ratio of steps. Section 1."),
        "ratio": (
            found if np.all(numbers(found) > 50) else np.nan,
            "This is a quotient of errors. Take its logarithm to base 10. Section 1.",
        ),
    }
    law = "error of the quadratic model ∝ rᵖ"
    advice = "Take the error at r = 1e-2 and at r = 1e-3; p is log10 of their quotient. Section 1."
    violation = differs(found, order, law=law, case=case, advice=advice, mistakes=mistakes, tolerance=0.06)
    return blame_step(violation, reach, 1e-4, 0.3)


@check
def check_curvature_along(curvature: Answer, rng: np.random.Generator) -> Laws:
    """The second derivative along a unit vector, for directions of any length, curvatures of any sign."""
    for length, sign, sizes in (
        (3.0, 1, (1, 2)),
        (0.4, -1, (1, 2, 2)),
        (2.0, -1, (1, 1, 1, 2, 2, 3, 3, 1)),
        (5.0, 1, (1, 1, 2, 2, 3)),
    ):
        u = _signed(rng, 1, 1, len(sizes)) * rng.permutation(sizes) / np.linalg.norm(sizes)
        yield _curvature_law(curvature, u, length, sign * _definite(rng, len(u)), rng)


def _curvature_law(
    curvature: Answer, u: Vector, length: float, S: Vector, rng: np.random.Generator
) -> Violation | None:
    d, right = len(u), float(u @ S @ u)
    x, slope = rng.standard_normal(d), 1.4 * right
    s = rng.standard_normal(d)
    parts = (rng.uniform(1e4, 2e4), s + (slope - s @ u) * u, S, rng.uniform(0.5, 1.0, d), 10.0)
    value, points = recorded(quartic(x, *parts).value)
    found = curvature(value, x, length * u)
    calls, h = len(points), farthest(points, x)
    mistakes: dict[str, tuple[Any, str]] = {
        "not-normalized": (right * length**2, "This is dᵀH d. Curvature is per unit length: divide by ‖d‖²."),
        "normalized-once": (right * length, "This is dᵀH d/‖d‖. The length enters squared: divide by ‖d‖²."),
        "max-norm": (right / max(abs(u)) ** 2, "The length is √Σd², not the largest |d|."),
        "one-norm": (right / sum(abs(u)) ** 2, "The length is √Σd², not Σ|d|."),
        "slope": (slope, "This is the slope ∇f·u. Take the second difference, not the first."),
        "half": (right / 2, "f(x+hu) − 2 f(x) + f(x−hu) is h² uᵀH u: divide by h², not by 2 h²."),
        "absolute": (abs(right), "The sign was lost: downward curvature is negative."),
        "sign": (-right, "The sign is turned: outer values plus, middle value minus."),
    }
    law = "uᵀH u = (f(x+hu) − 2 f(x) + f(x−hu))/h² for small h and ‖u‖ = 1"
    case = f"a function of {d} variables, a direction of length {length:g}"
    advice = "Normalize the direction, and take the central second difference with h near 1e-3."
    violation = compare(found, right, mistakes, law, case, advice, 2, SLOPE)
    if violation is None and calls > MOST_VALUES:
        advice = "Three values along u are enough; do not build the Hessian. Section 2."
        return Violation("too-many-values", law, case, f"{calls} calls of `value`", advice)
    violation = blame_step(violation, h, 3e-6, 0.06)
    if violation is None or violation.diagnosis != "value":
        return violation
    if abs(numbers(curvature(lambda y: value(y) + 1, x, length * u)) - numbers(found)) > 0.1 * abs(right):
        advice = "A constant added to f moves it: the coefficients must add to 0, as 1, −2, 1. Section 2."
        return replace(violation, diagnosis="coefficients", advice=advice)
    for power, name in ((1, "divided-by-h"), (0, "not-divided")):
        if abs(numbers(found) / right - h ** (2 - power)) < 0.1 * h ** (2 - power):
            advice = "The second difference is h² uᵀH u: divide it by h², not by h and not by 1. Section 2."
            return replace(violation, diagnosis=name, advice=advice)
    return violation


@check
def check_softmax_zeros(softmax_zeros: Answer, rng: np.random.Generator) -> Laws:
    """C d − (C − 1) rank X, for data with unused features, dependent features, and few examples."""
    X, Z = rng.standard_normal((2, 30, 8))
    X[:, rng.permutation(8)[:3]] = 0
    Z[:, 5] = Z[:, 0] + Z[:, 1]
    yield _zeros_law(softmax_zeros(X, 4), X, 4, 5, "3 features unused")
    yield _zeros_law(softmax_zeros(Z, 3), Z, 3, 7, "one feature the sum of two others")
    yield _zeros_law(softmax_zeros(Z[:4], 5), Z[:4], 5, 4, "few examples")


def _zeros_law(found: Any, X: Vector, C: int, rank: int, kind: str) -> Violation | None:
    d, unused = X.shape[1], int((X == 0).all(axis=0).sum())
    useless = "Null directions of X count too, not only unused features: take its rank."
    mistakes = {
        "unused-features-only": (C * unused + d - unused, useless),
        "non-zeros": ((C - 1) * rank, "This counts the eigenvalues that are not 0."),
        "logistic": (d - rank, "This is the count for one weight vector. Softmax has one for each class."),
        "no-shift": (C * (d - rank), "Adding one vector to all classes' weights changes nothing either."),
        "shifts-only": (d, "These are the shifts alone. Null directions of X add more, one for each class."),
        "counted-twice": (C * (d - rank) + d, "Shifts along null directions of X are counted twice."),
    }
    law = "the zeros are the directions with the same logits, up to a constant, in every example"
    case = f"{kind}, {C} classes, {d} features, {len(X)} examples"
    advice = "Count the directions of θ that change no softmax probability."
    return compare(found, C * d - (C - 1) * rank, mistakes, law, case, advice, 4, EXACT)


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
    return compare(hessian(w, X, y), right, mistakes, law, case, advice, 4)


@check
def check_curvature_from_symmetry(curvature: Answer, rng: np.random.Generator) -> Laws:
    """vᵀH v = −g·s for two-layer linear networks, of either sign, against their exact Hessian."""
    for inputs, width, c in ((3, 2, 3.0), (2, 4, -1.0), (1, 1, 3.0)):
        theta = _signed(rng, 0.5, 1.0, 2 * inputs * width)
        W1, W2 = theta.reshape(2, -1)[0].reshape(width, -1), theta.reshape(2, -1)[1].reshape(inputs, -1)
        noise = rng.standard_normal((inputs, inputs))
        M = c * W2 @ W1 + noise * np.linalg.norm(W2 @ W1) / (2 * np.linalg.norm(noise))
        yield _symmetry_law(curvature, deep_linear([inputs, width, inputs], M), theta)


def _symmetry_law(curvature: Answer, loss: Objective, theta: Vector) -> Violation | None:
    half = len(theta) // 2
    v = np.concatenate([theta[:half], -theta[half:]])
    right = float(v @ loss.hessian(theta) @ v)
    gradient, points = recorded(loss.gradient)
    mistakes = {
        "absolute": (abs(right), "vᵀH v = −g·s has either sign: no absolute value."),
        "sign": (-right, "vᵀH v + g·s = 0, so vᵀH v = −g·s, with a minus."),
        "orbit-is-flat": (0.0, "L is constant on the orbit, but the orbit bends: the term g·s remains."),
        "one-factor": (right / 2, "Only one factor was counted: s = (W₁, W₂) has both."),
        "one-factor-sign": (-right / 2, "One factor and the minus are missing: vᵀH v = −g·s, s = (W₁, W₂)."),
        "rayleigh": (right / (v @ v), "This is the Rayleigh quotient. Asked for is vᵀH v, not divided."),
    }
    law = "vᵀH v = −g·s, with v = (W₁, −W₂) and s = (W₁, W₂)"
    case = f"½ ‖W₂ W₁ − M‖², {len(theta)} weights"
    advice = "Differentiate L(eᵗ W₁, e⁻ᵗ W₂) = const twice at t = 0."
    violation = compare(curvature(gradient, theta), right, mistakes, law, case, advice, 6)
    if violation is None and len(points) > 1:
        advice = "A difference of gradients is a second derivative: one gradient is enough. Section 6."
        return Violation("too-many-gradients", law, case, f"{len(points)} calls of `gradient`", advice)
    return violation


WORDS = ("minimum", "maximum", "saddle", "undecided")
Blame = dict[str, tuple[str, str]]  # a wrong word -> diagnosis, advice


@check
def check_classify(classify: Answer, rng: np.random.Generator) -> Laws:
    """The word for a critical point, from the signs of its eigenvalues, at every scale of the Hessian."""
    scale = _whatever("absolute-tolerance", "Rescaling the loss changed it: compare with rtol · max|λ|.")
    cases = list(_critical_points(rng))
    for name, H, right, blame in cases:
        yield _word_law(classify(H), right, name, blame)
    ignored = _whatever("rtol-ignored", "Use the argument `rtol`: a matrix can be read at several levels.")
    for spectrum in ((1, 0.1), (1, -0.1)):
        case = f"diag{spectrum} with rtol = 0.2"
        yield _word_law(classify(np.diag(spectrum), rtol=0.2), "undecided", case, ignored)
    for name, H, right, _ in cases:
        for factor in (1e-13, 1e8):
            yield _word_law(classify(factor * H), right, f"{factor:g} times {name}", scale)


def _critical_points(rng: np.random.Generator) -> Iterator[tuple[str, Vector, str, Blame]]:
    """A name, a Hessian, the right word, and what each wrong word says about its author."""
    diagonal = {"minimum": ("reads-the-diagonal", "Diagonal entries are not eigenvalues: use eigvalsh.")}
    product = _whatever("reads-the-determinant", "Two minus signs vanish in a product: look at each λ.")
    rounded = _whatever("rounding-as-sign", "1e-13 max|λ| is rounding, no sign: compare with rtol · max|λ|.")
    signed = _whatever("largest-not-size", "The scale is the largest |λ|: abs comes before max.")
    coarse = {"undecided": ("coarse-tolerance", "1e-6 max|λ| is far above rtol = 1e-8: it has a sign.")}
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
        ([-2, -1, -1e-13], "undecided", signed),
        ([-2, -1, 1e-13], "undecided", signed),
        ([1, 1e-6], "minimum", coarse),
        ([1, -1e-6], "saddle", coarse),
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


def _definite(rng: np.random.Generator, d: int) -> Vector:
    B = rng.standard_normal((d, d))  # no eigenvalue of the result is below 2
    return np.asarray(B @ B.T / d + 2 * np.eye(d))


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
            "It changes by o(t²), not downward for small t; whether it is constant is open.",
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
        "close-eigenvalues",
        "The Hessians of two halves of the data differ by 0.3 in norm. λ₅ = 2.05 and λ₆ = 2.00 are at "
        "least 1.5 away from all others. What can you report?",
        (
            "The eigenvectors v₅ and v₆.",
            "The plane of v₅ and v₆, not the two vectors in it.",
            "Neither the vectors nor the plane.",
            "Neither the eigenvalues nor their eigenvectors.",
        ),
        1,
        {
            0: "Their gap is below the noise: within their plane they may turn by any angle. Section 3.",
            2: "The plane is five times the noise away from the rest, and turns little. Section 3.",
            3: "Noise of norm 0.3 moves no eigenvalue by more than 0.3, whatever the gaps. Section 3.",
        },
    ),
)
