"""The laws of update rules and of their stability thresholds.

A rule is judged as the function rule(gradient, x, state) → (x, state) that `hesslab.dynamics.run` takes; an
exercise that asks for another signature wraps it. A linear iteration is given by its matrix M as a function
of the curvature λ: (x_{t+1}, x_t) = M (x_t, x_{t−1}).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hesslab.checks.laws.feedback import Violation, differs, numbers

Vector = NDArray[np.float64]
Step = Callable[[Callable[[Vector], Vector], Vector, Any], tuple[Any, Any]]
Matrix = Callable[[float], NDArray[np.float64]]
Mistakes = dict[str, tuple[Any, str]]


def follows(
    rule: Step,
    matrix: Matrix,
    curvatures: ArrayLike,
    *,
    case: str,
    advice: str,
    num_steps: int = 6,
    mistakes: dict[str, tuple[Matrix, str]] | None = None,
) -> Violation | None:
    """On ½ Σ λ_i x_i² the rule goes, mode by mode, where its iteration matrix says, from x = 1 at rest.

    `curvatures` has shape (d,); `mistakes` maps a diagnosis to (the iteration matrix of a likely wrong rule,
    advice). Costs `num_steps` gradients.

    >>> wrong = lambda gradient, x, state: (x + 0.1 * gradient(x), None)
    >>> descent, ascent = (lambda c, s=s: np.array([[1 + s * 0.1 * c, 0], [1, 0]]) for s in (-1, 1))
    >>> follows(wrong, descent, [1.0], case="λ = 1", advice="", mistakes={"sign": (ascent, "")}).diagnosis
    'sign'
    """
    lam = numbers(curvatures)
    x, state, path = np.ones_like(lam), None, []
    for _ in range(num_steps):
        x, state = rule(lambda y: lam * numbers(y), x, state)
        path.append(numbers(x))
    return differs(
        np.stack(path),
        _linear_path(matrix, lam, num_steps),
        law="(x_{t+1}, x_t) = M (x_t, x_{t−1}) on a quadratic",
        case=f"{case}, {num_steps} steps",
        advice=advice,
        mistakes={
            name: (_linear_path(M, lam, num_steps), hint) for name, (M, hint) in (mistakes or {}).items()
        },
    )


def threshold_fits(
    threshold: Any, matrix: Matrix, *, case: str, advice: str, mistakes: Mistakes | None = None
) -> Violation | None:
    """Powers of M(λ) decay just below the threshold and grow just above: the spectral radius crosses 1 there.

    `threshold` is the learner's number, a curvature; `mistakes` maps a diagnosis to (a wrong threshold,
    advice). Costs a few eigenvalues of 2 × 2 matrices.

    >>> matrix = lambda c: np.array([[1 - 0.5 * c, 0], [1, 0]])
    >>> threshold_fits(2.0, matrix, case="η = 0.5", advice="", mistakes={"1/η": (2.0, "")}).diagnosis
    '1/η'
    """
    law = "ρ(M) < 1 below the threshold, ρ(M) > 1 above"
    shapeless = differs(threshold, 1.0, law=law, case=case, advice=advice, tolerance=np.inf)
    if shapeless is not None:
        return shapeless
    value = float(numbers(threshold))
    below, above = (max(abs(np.linalg.eigvals(matrix(factor * value)))) for factor in (0.999, 1.001))
    if value > 0 and below < 1 < above:
        return None
    for name, (wrong, hint) in (mistakes or {}).items():
        if abs(value - wrong) <= 1e-6 * abs(wrong):
            return Violation(name, law, case, f"ρ = {below:.4f} just below {value:.6g}", hint)
    if value <= 0 or above < 1:
        found = f"{value:.6g}; 0.1 % above it ρ = {above:.4f}, still stable"
        return Violation(
            "too-small", law, case, found, f"A larger curvature is stable, too. {advice}".strip()
        )
    found = f"{value:.6g}; 0.1 % below it ρ = {below:.4f}, not stable"
    return Violation(
        "too-large", law, case, found, f"It already grows at a smaller curvature. {advice}".strip()
    )


def contracts_at(
    rule: Step, curvatures: ArrayLike, rate: float, *, case: str, advice: str, num_steps: int = 400
) -> Violation | None:
    """The error on ½ Σ λ_i x_i² shrinks by the factor `rate` a step in the long run, to 1 %.

    The rate is measured over the second half of `num_steps` steps, from x = 1, by the largest entry.

    >>> rule = lambda gradient, x, state: (x - gradient(x), None)
    >>> contracts_at(rule, [0.1, 1.9], 0.9, case="κ = 19", advice="") is None
    True
    """
    lam = numbers(curvatures)
    x, state, sizes = np.ones_like(lam), None, []
    for _ in range(num_steps):
        x, state = rule(lambda y: lam * numbers(y), x, state)
        sizes.append(max(float(np.max(np.abs(numbers(x)))), np.finfo(float).tiny))
    half = num_steps // 2
    measured = (sizes[-1] / sizes[half - 1]) ** (1 / (num_steps - half))
    law = f"the error shrinks by {rate:.4f} a step"
    slower = "It is slower than that" if measured > rate else "It is faster than that"
    return differs(
        measured, rate, law=law, case=case, advice=f"{slower}. {advice}", diagnosis="rate", tolerance=1e-2
    )


def _linear_path(matrix: Matrix, lam: Vector, num_steps: int) -> Vector:
    """The iterates x_1 … x_k of each mode, shape (k, d), started at rest in x_0 = x_{−1} = 1."""
    path = np.ones((num_steps + 2, lam.size))
    for i, curvature in enumerate(lam):
        M = numbers(matrix(float(curvature)))
        for t in range(num_steps):
            path[t + 2, i] = M[0] @ path[[t + 1, t], i]
    return path[2:]
