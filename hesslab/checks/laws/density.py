"""The laws of stochastic Lanczos quadrature: nodes, weights, exactness, mass, and smoothing with a width.

Each law takes the learner's function and answers None or a `Violation` that names the likely mistake. Nodes
and weights may come in any order, the vectors behind them with any sign. `advice` says where to reread.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hesslab.checks.laws.feedback import SINGLE, SLOPE, Violation, differs, numbers
from hesslab.matrices import with_spectrum

Function = Callable[..., Any]
Rng = int | np.random.Generator
Values = NDArray[np.float64]

STEPS = 6


def quadrature_of_tridiagonal(f: Function, *, rng: Rng, advice: str = "") -> Violation | None:
    """f(T) is (nodes, weights): eigenvalues of T, squared first components of its eigenvectors.

    >>> wrong = lambda T: (np.linalg.eigvalsh(T), np.abs(np.linalg.eigh(T)[1][0]))
    >>> quadrature_of_tridiagonal(wrong, rng=0).diagnosis
    'not-squared'
    """
    T = _tridiagonal(STEPS, np.random.default_rng(rng))
    theta, S = np.linalg.eigh(T)
    answer = f(T)
    if not (isinstance(answer, tuple | list) and len(answer) == 2):
        return _not_a_pair(answer, advice)
    nodes, weights = numbers(answer[0]), numbers(answer[1])
    text: dict[str, Any] = {"case": f"a tridiagonal T with k = {STEPS}", "advice": advice}
    modulus = {"modulus": (np.sort(np.abs(theta)), "Keep the signs of the eigenvalues.")}
    wrong = differs(np.sort(nodes), theta, law="the nodes are the eigenvalues of T", mistakes=modulus, **text)
    if wrong is not None or weights.shape != nodes.shape:
        return wrong or differs(weights, theta, law="one weight for each node", mistakes={}, **text)
    weights = weights[np.argsort(nodes)]
    mistakes = {
        "not-squared": (np.abs(S[0]), "Square the first components: they are amplitudes."),
        "signed": (S[0], "Square the first components: a weight is never negative."),
        "first-eigenvector": (
            S[:, 0] ** 2,
            "Take the first row of the matrix of eigenvectors, not a column.",
        ),
        "all-components": (np.ones(STEPS), "Only the first component counts: all squares add up to 1."),
        "all-components-mean": (np.full(STEPS, 1 / STEPS), "Only the first component: weights differ."),
        "last-component": (S[-1] ** 2, "The first component: v is the first Lanczos vector."),
        "not-normalized": (STEPS * S[0] ** 2, "The weights of one probe add up to 1."),
    }
    return differs(weights, S[0] ** 2, law="w_j = (e₁ᵀs_j)²", mistakes=mistakes, **text)


def exact_to_degree(f: Function, *, rng: Rng, advice: str = "") -> Violation | None:
    """f(A, v, k) is (nodes, weights) with Σ w θ^j = vᵀA^j v / vᵀv for j = 0 … 2k − 1.

    >>> wrong = lambda A, v, k: (np.linalg.eigvalsh(A)[-k:], np.full(k, 1.0 / k))
    >>> exact_to_degree(wrong, rng=0).diagnosis
    'low-degree'
    """
    rng = np.random.default_rng(rng)
    A, v = with_spectrum(np.linspace(-1.0, 1.2, 25), rng=rng), 3.0 * rng.standard_normal(25)
    answer = f(A, v.copy(), STEPS)
    if not (isinstance(answer, tuple | list) and len(answer) == 2):
        return _not_a_pair(answer, advice)
    nodes, weights = numbers(answer[0]), numbers(answer[1])
    length = float(v @ v)
    found, right, vector = [], [], v
    for degree in range(2 * STEPS):
        found.append(float(np.sum(weights * nodes**degree)))
        right.append(float(v @ vector) / length)
        vector = A @ vector
    wrong = [j for j in range(2 * STEPS) if not abs(found[j] - right[j]) <= SINGLE]
    if not wrong:
        return None
    law, case = "exact to degree 2k − 1", f"k = {STEPS}, n = 25, degree {wrong[0]}"
    size = f"{found[wrong[0]]:.4g}, expected {right[wrong[0]]:.4g}"
    if abs(found[0] - length) <= SINGLE * length:
        return Violation("not-normalized", law, case, size, f"Divide v by its length first. {advice}")
    if wrong[0] == 0:
        hint = f"The weights must add up to 1: squares of the first components. {advice}"
        return Violation("weights", law, case, size, hint)
    name = "few-steps" if wrong[0] >= STEPS else "low-degree"
    hint = (
        "Are there k steps, and is every α and β in its place?"
        if wrong[0] > 2
        else "Check α₁ = vᵀA v, β₁, and w."
    )
    return Violation(name, law, case, size, f"{hint} {advice}")


def mass_between(f: Function, *, rng: Rng, advice: str = "") -> Violation | None:
    """f(nodes, weights, a, b) is the weight of the nodes in [a, b], a mean over probes; (num_probes, k) both.

    >>> wrong = lambda nodes, weights, a, b: np.mean((nodes >= a) & (nodes <= b))
    >>> mass_between(wrong, rng=0).diagnosis
    'counts-nodes'
    """
    nodes, weights = _measure(np.random.default_rng(rng))
    inside = (nodes >= 0.0) & (nodes <= 1.5)
    right = float(np.sum(weights * inside) / len(nodes))
    mistakes = {
        "counts-nodes": (np.mean(inside), "Add up weights: a Ritz value is not one eigenvalue in k."),
        "sum-over-probes": (right * len(nodes), "Divide by the number of probes."),
        "complement": (1.0 - right, "That is the mass outside."),
        "mean-weight": (
            np.mean(weights * inside),
            "Sum the weights of a probe, then take the mean over probes.",
        ),
        "wrong-axis": (right * len(nodes) / nodes.shape[1], "A row is a probe: sum along the last axis."),
        "one-end": (np.sum(weights * (nodes <= 1.5)) / len(nodes), "Mind both ends, a ≤ θ and θ ≤ b."),
        "other-end": (np.sum(weights * (nodes >= 0.0)) / len(nodes), "Mind both ends, a ≤ θ and θ ≤ b."),
        "everything": (1.0, "Every node counts here: both θ ≥ a and θ ≤ b must hold, with `&`."),
    }
    text: dict[str, Any] = {"law": "mass = mean over probes of Σ w", "case": "3 probes, 5 nodes, [0, 1.5]"}
    hint = f"Add up the weights of the nodes inside, probe by probe; then average. {advice}"
    return differs(f(nodes, weights, 0.0, 1.5), right, advice=hint, mistakes=mistakes, **text)


def isotropic_starts(f: Function, *, rng: Rng, advice: str = "") -> Violation | None:
    """f(A, num_steps=…, num_probes=…, rng=…) is (nodes, weights), and the mean of Σ w θ over probes tr A / n.

    For a diagonal A it sees starts that prefer some entries, for the projection on (1, …, 1) those whose
    mean is not 0. Σ w θ = vᵀA v varies by 2‖A‖_F²/n² at most; seven standard errors are allowed.

    >>> wrong = lambda A, *, num_steps, num_probes, rng: (np.full((num_probes, 2), 0.5), np.full(2, 0.5))
    >>> isotropic_starts(wrong, rng=0).diagnosis
    'not-centred'
    """
    rng, n, count = np.random.default_rng(rng), 40, 100
    slope = np.diag(np.linspace(0.0, 1.0, n))
    for name, A, hint in (
        ("not-isotropic", slope, "Every direction must be as likely: the same law for each entry of v."),
        (
            "not-centred",
            np.ones((n, n)) / n + slope / 100,
            "The entries of v need the mean 0: normal, or signs.",
        ),
    ):
        nodes, weights = f(A, num_steps=2, num_probes=count, rng=int(rng.integers(2**32)))
        mean, right = float(np.sum(numbers(weights) * numbers(nodes)) / count), float(np.trace(A) / n)
        if not abs(mean - right) <= 7.0 * float(np.linalg.norm(A)) / n * (2.0 / count) ** 0.5:
            law, case = "E[v vᵀ] = I / n", f"the mean of Σ w θ over {count} probes, n = {n}"
            return Violation(name, law, case, f"{mean:.3g}, expected {right:.3g}", f"{hint} {advice}")
    return None


def smoothed_density(f: Function, *, rng: Rng, advice: str = "") -> Violation | None:
    """f(nodes, weights, grid, width) is the mean over probes of Σ w N(grid; θ, width²), and integrates to 1.

    >>> def wrong(nodes, weights, grid, width):
    ...     z = (grid[:, None, None] - nodes) / width
    ...     return np.mean(np.sum(weights * np.exp(-(z**2) / 2), axis=2), axis=1)
    >>> smoothed_density(wrong, rng=0).diagnosis
    'not-a-density'
    """
    nodes, weights = _measure(np.random.default_rng(rng))
    grid, width = np.linspace(-3.0, 4.0, 141), 0.2

    def curve(weights: Values, width: float) -> Values:
        z = (grid[:, None, None] - nodes) / width
        bell = np.exp(-(z**2) / 2) / (width * np.sqrt(2 * np.pi))
        return np.asarray(np.sum(weights * bell, axis=(1, 2)) / len(nodes))

    right = curve(weights, width)
    plain = np.full_like(weights, 1 / weights.shape[1])
    mistakes = {
        "not-a-density": (right * width * np.sqrt(2 * np.pi), "Divide by width √(2π): a density has area 1."),
        "variance-for-width": (
            curve(weights, width**0.5),
            "A Gaussian of standard deviation width has the variance width².",
        ),
        "no-half": (curve(weights, width / 2**0.5) / 2**0.5, "The exponent is −z² / 2."),
        "unweighted": (curve(plain, width), "Weigh each node: Ritz values alone are not a density."),
        "sum-over-probes": (right * len(nodes), "Take the mean over probes."),
    }
    bell = np.exp(-(((grid[:, None, None] - nodes) / width**0.5) ** 2) / 2) / (width * np.sqrt(2 * np.pi))
    mistakes["width-not-squared"] = (
        np.sum(weights * bell, axis=(1, 2)) / len(nodes),
        "The exponent divides by width², not by width.",
    )
    text: dict[str, Any] = {"law": "mean over probes of Σ w N(x; θ, width²)", "case": "3 probes, width 0.2"}
    return differs(
        f(nodes, weights, grid, width), right, advice=advice, mistakes=mistakes, tolerance=SLOPE / 100, **text
    )


def _tridiagonal(k: int, rng: np.random.Generator) -> Values:
    beta = 0.5 + rng.random(k - 1)
    return np.asarray(np.diag(rng.standard_normal(k)) + np.diag(beta, 1) + np.diag(beta, -1))


def _measure(rng: np.random.Generator) -> tuple[Values, Values]:
    """Three probes of five nodes in [−1, 2], with weights that add up to 1."""
    weights = 0.1 + rng.random((3, 5))
    return np.sort(rng.uniform(-1.0, 2.0, (3, 5)), axis=1), weights / weights.sum(axis=1, keepdims=True)


def _not_a_pair(answer: Any, advice: str) -> Violation:
    found = "None" if answer is None else f"a {type(answer).__name__}"
    return Violation(
        "not-a-pair", "the answer is (nodes, weights)", "any", found, f"Return two arrays. {advice}"
    )
