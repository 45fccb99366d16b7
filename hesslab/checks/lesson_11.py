"""Checks of lesson 11, noise: six answers on fresh instances, and the exit ticket."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hesslab.checks.laws.feedback import Violation, check, compare
from hesslab.checks.laws.ticket import Question
from hesslab.matrices import with_spectrum

Vector = NDArray[np.float64]
Laws = Iterator[Violation | None]
Answer = Callable[..., Any]
Mistakes = dict[str, tuple[Any, str]]


def _apart(mistakes: Mistakes, right: Any) -> Mistakes:
    """The mistakes whose value is not the right one in this case."""
    scale = np.abs(right).max() + 1e-300
    return {
        name: pair
        for name, pair in mistakes.items()
        if np.shape(pair[0]) != np.shape(right) or np.abs(np.subtract(pair[0], right)).max() > 1e-4 * scale
    }


@check
def check_batch_covariance(covariance: Answer, rng: np.random.Generator) -> Laws:
    """C / B with replacement, C / B · (n − B)/(n − 1) without, from the gradients of examples."""
    for n, p, B, replacement in ((7, 3, 3, False), (6, 2, 4, True), (5, 4, 1, False), (9, 2, 8, False)):
        g = rng.standard_normal((n, p)) + rng.uniform(0.5, 1.5, p)
        yield _covariance_law(covariance, g, B, replacement)


def _covariance_law(covariance: Answer, g: Vector, B: int, replacement: bool) -> Violation | None:
    n = len(g)
    mean = g.sum(axis=0) / n
    moment = sum(np.outer(each, each) for each in g) / n
    C = moment - np.outer(mean, mean)
    factor = 1.0 if replacement else (n - B) / (n - 1)
    right = C / B * factor
    wrong: Mistakes = {
        "not-centred": (moment / B * factor, "Subtract the mean gradient: E[g gᵀ] − ∇L ∇Lᵀ."),
        "unbiased": (right * n / (n - 1), "All n examples are the population here: divide by n."),
        "no-batch": (C * factor, "Divide by B: the noise of a mean is smaller."),
        "no-correction": (C / B, "Without replacement there is the factor (n − B)/(n − 1)."),
        "always-corrected": (C / B * (n - B) / (n - 1), "With replacement there is no factor but 1/B."),
        "over-n": (C / B * (n - B) / n, "The factor is (n − B)/(n − 1): at B = 1 it must be 1."),
        "squared-batch": (C / B**2 * factor, "A covariance of a mean falls like 1/B, not 1/B²."),
        "root-batch": (C / B**0.5 * factor, "1/√B is for standard deviations; a covariance has 1/B."),
    }
    case = f"{n} gradients of {g.shape[1]} entries, B = {B}, replacement = {replacement}"
    advice = "C is the mean of g gᵀ minus the outer product of the mean; then the factor of the batch."
    found = covariance(g.copy(), B, replacement)
    return compare(found, right, _apart(wrong, right), "covariance of the mean of B", case, advice, 1)


@check
def check_sgd_threshold(threshold: Answer, rng: np.random.Generator) -> Laws:
    """2a / (a² + V), V = s²/B · (n − B)/(n − 1)."""
    for n, B in ((10, 1), (20, 5), (6, 3), (8, 8)):
        yield _threshold_law(threshold, rng.uniform(0.2, 6.0, n), B)


def _threshold_law(threshold: Answer, a: Vector, B: int) -> Violation | None:
    n = len(a)
    mean = a.sum() / n
    s2 = ((a - mean) ** 2).sum() / n
    factor = (n - B) / (n - 1)
    V = s2 / B * factor
    right = 2 * mean / (mean**2 + V)
    wrong: Mistakes = {
        "gradient-descent": (2 / mean, "This is the threshold of the full batch; the variance is missing."),
        "with-replacement": (
            2 * mean / (mean**2 + s2 / B),
            "The batch is drawn without replacement: (n − B)/(n − 1).",
        ),
        "unbiased": (
            2 * mean / (mean**2 + V * n / (n - 1)),
            "s² is the variance with 1/n: these are all examples.",
        ),
        "no-square": (2 * mean / (mean + V), "The mean is squared in the denominator."),
        "deviation": (2 * mean / (mean**2 + V**0.5), "V is a variance: do not take its root."),
        "half": (mean / (mean**2 + V), "A factor 2 is missing: at V = 0 it must be 2/a."),
        "no-mean": (2 / (mean**2 + V), "The mean a stands above the line as well."),
        "no-batch": (2 * mean / (mean**2 + s2 * factor), "Divide the variance by B."),
        "steepest": (2 / a.max(), "This asks that each example be stable alone: too strict for B > 1."),
    }
    case = f"{n} curvatures of mean {mean:.3g} and variance {s2:.3g}, B = {B}"
    advice = "(1 − ηa)² + η²V = 1 has the solution η = 2a/(a² + V)."
    found = threshold(a.copy(), B)
    return compare(found, right, _apart(wrong, right), "η_c = 2a/(a² + V)", case, advice, 4)


@check
def check_alignment(alignment: Answer, rng: np.random.Generator) -> Laws:
    """The number p tr(HC) / (tr H tr C), for C = H² and for a C with other eigenvectors."""
    for p in (4, 6):
        H = with_spectrum(np.geomspace(0.05, rng.uniform(2.0, 5.0), p), rng=rng)
        yield _alignment_law(alignment, H, H @ H)
        yield _alignment_law(alignment, H, with_spectrum(rng.uniform(0.1, 2.0, p) ** 2, rng=rng))


def _alignment_law(alignment: Answer, H: Vector, C: Vector) -> Violation | None:
    p, inner = len(H), float(np.sum(H * C))
    traces = float(np.trace(H) * np.trace(C))
    right = p * inner / traces
    wrong: Mistakes = {
        "no-chance": (inner / traces, "Multiply by p: a random orientation must give 1."),
        "cosine": (
            inner / np.sqrt((H**2).sum() * (C**2).sum()),
            "This is the cosine; divide by the traces instead.",
        ),
        "diagonal": (
            p * float(np.diag(H) @ np.diag(C)) / traces,
            "tr(HC) needs the whole matrices, not the diagonals only.",
        ),
        "entries": (p * float((H @ C).sum()) / traces, "Take the trace of HC, not the sum of its entries."),
        "squared-p": (p**2 * inner / traces, "One factor p is enough: test it with two identities."),
        "one-trace": (inner / np.trace(C), "Divide by tr H / p as well, so that chance is 1."),
        "inverted": (1 / right, "The fraction is upside down: more alignment, a larger number."),
    }
    case = f"two symmetric {p} × {p} matrices"
    advice = "Return p · tr(H C) / (tr H · tr C)."
    found = alignment(H.copy(), C.copy())
    return compare(found, right, _apart(wrong, right), "p tr(HC) / (tr H tr C)", case, advice, 3)


@check
def check_growth(growth: Answer, rng: np.random.Generator) -> Laws:
    """The typical factor exp(E log|1 − ηa|), and the mean-square factor E(1 − ηa)²."""
    for n, eta in ((8, 0.5), (15, 1.3), (5, 0.9)):
        a = rng.uniform(0.05, 0.8, n) / eta
        a[::2] += 1.3 / eta
        yield _growth_law(growth, a, eta)


def _growth_law(growth: Answer, a: Vector, eta: float) -> Violation | None:
    each = np.abs(1 - eta * a)
    typical, square = float(np.prod(each) ** (1 / len(a))), float((each @ each) / len(a))
    right = [typical, square]
    full = abs(1 - eta * float(a.sum()) / len(a))
    wrong: Mistakes = {
        "full-batch": ([full, full**2], "This is the step with the mean curvature: the mean comes last."),
        "mean-of-sizes": (
            [each.sum() / len(a), square],
            "Typical is the mean of the logarithm, not of |1 − ηa|.",
        ),
        "no-exp": ([np.log(typical), square], "Return the factor: the exponential of the mean logarithm."),
        "root": ([typical, square**0.5], "Asked for is the factor of x², without a root."),
        "squared-typical": ([typical, typical**2], "The mean of the squares is not the square of the mean."),
        "swapped": ([square, typical], "First the typical factor, then that of the mean square."),
        "twice": ([typical**2, square], "This is the typical factor of x²; asked for is that of |x|."),
        "sum": ([typical ** len(a), square], "Take the mean of the logarithms, not their sum."),
    }
    case = f"{len(a)} curvatures, η = {eta:g}, one example a step"
    advice = "Typical: exp of the mean of log|1 − ηa|. Mean square: the mean of (1 − ηa)²."
    found = growth(a.copy(), eta)
    return compare(found, right, _apart(wrong, right), "(typical, mean square)", case, advice, 5)


@check
def check_mean_square_radius(radius: Answer, rng: np.random.Generator) -> Laws:
    """The spectral radius of S → mean of A_i S A_i, by power iteration on S."""
    for n, d, eta in ((12, 2, 0.6), (8, 3, 0.5), (5, 3, 0.25)):
        yield _radius_law(radius, rng.standard_normal((n, d)) * np.linspace(1.5, 0.6, d), eta)


def _radius_law(radius: Answer, X: Vector, eta: float) -> Violation | None:
    d = X.shape[1]
    A = np.array([np.eye(d) - eta * np.outer(x, x) for x in X])
    right = _mean_map_radius(A)
    H = X.T @ X / len(X)
    full = np.abs(np.linalg.eigvalsh(np.eye(d) - eta * H)).max()
    short = np.kron(np.eye(d), np.eye(d)) - eta * (np.kron(H, np.eye(d)) + np.kron(np.eye(d), H))
    worst = max(float(np.abs(np.linalg.eigvalsh(each)).max()) for each in A)
    wrong: Mistakes = {
        "full-batch": (full**2, "This is the square of the full-batch step: average the products A ⊗ A."),
        "full-batch-step": (full, "This is the step of the full batch; the noise is missing."),
        "no-noise-term": (
            float(np.abs(np.linalg.eigvalsh(short)).max()),
            "The term of order η² is missing.",
        ),
        "worst-example": (worst**2, "Average over the examples, instead of taking the worst."),
        "sum": (right * len(X), "Take the mean over the examples, not the sum."),
        "root": (right**0.5, "Asked for is the radius of the map on S, without a root."),
        "entrywise": (
            float(np.abs(np.linalg.eigvals(np.mean(A * A, axis=0))).max()),
            "A S A is not an entrywise product: use the Kronecker product of A with itself.",
        ),
        "matrix-square": (
            float(np.abs(np.linalg.eigvalsh(np.mean([each @ each for each in A], axis=0))).max()),
            "The mean of A² bounds one step; the map is S → A S A, of size d².",
        ),
    }
    case = f"{len(X)} examples in {d} dimensions, η = {eta:g}, one example a step"
    advice = "The largest modulus of an eigenvalue of the mean of kron(A, A), A = I − η x xᵀ."
    found = radius(X.copy(), eta)
    return compare(found, right, _apart(wrong, right), "spectral radius of S → E[A S A]", case, advice, 4)


def _mean_map_radius(A: NDArray[np.float64]) -> float:
    """Power iteration of S → mean of A_i S A_i from the identity: the map keeps S positive semidefinite."""
    S = np.eye(A.shape[1])
    size = 1.0
    for _ in range(4000):
        S = np.einsum("nij,jk,nkl->il", A, S, A) / len(A)
        size = float(np.trace(S))
        S = S / size
    return size


@check
def check_flat_share(share: Answer, rng: np.random.Generator) -> Laws:
    """The share of the wide well, for equal and unequal temperatures, by Simpson's rule on u."""
    for ratio in (1.0, 2.5, 0.6):
        T, sharp, flat = rng.uniform(0.4, 0.6), rng.uniform(0.3, 0.5), rng.uniform(0.7, 1.0)
        yield _share_law(share, float(ratio * T), float(T), float(sharp), float(flat))


def _share_law(share: Answer, Ts: float, Tf: float, ws: float, wf: float) -> Violation | None:
    def split(weight: Callable[[float, float], float]) -> float:
        return weight(wf, Tf) / (weight(wf, Tf) + weight(ws, Ts))

    right = split(lambda w, T: w / T * _well(T))
    wrong: Mistakes = {
        "sharp-share": (1 - right, "This is the share of the narrow well."),
        "no-barrier": (
            split(lambda w, T: w / T * _well(T) * np.exp(-1 / T)),
            "The wells join at the barrier: the exponent is (1 − L)/T.",
        ),
        "no-factor": (split(lambda w, T: w * _well(T)), "The density has the factor 1/T(x) in front."),
        "width-only": (split(lambda w, T: w), "The temperatures of the wells count as well."),
        "no-width": (split(lambda w, T: _well(T) / T), "x = w u: each weight has the factor w."),
        "half-a-well": (
            split(lambda w, T: w / T * _well(T, 1.0)),
            "Beyond the minimum, u > 1, there is the outer half of the well.",
        ),
        "squared-width": (split(lambda w, T: w**2 / T * _well(T)), "The weight has w, not w²."),
    }
    case = f"T = {Ts:.3g} and {Tf:.3g}, widths {ws:.3g} and {wf:.3g}"
    advice = "Weight of a well: (w/T) times the integral of exp((1 − L)/T) over u from 0 to infinity."
    found = share(Ts, Tf, ws, wf)
    return compare(found, right, _apart(wrong, right), "share of the wide well", case, advice, 7)


def _well(T: float, end: float = 3.0) -> float:
    """∫ exp((1 − (1 − u²)²)/T) du from 0 to `end`; beyond 3 it is below e^(−60/T)."""
    u = np.linspace(0.0, end, 6001)
    values = np.exp((1 - (1 - u**2) ** 2) / T)
    return float((values[0] + values[-1] + 4 * values[1::2].sum() + 2 * values[2:-1:2].sum()) * end / 18000)


TICKET = (
    Question(
        "proportional",
        "A theory of SGD in networks begins: let C = cH, with one constant c during training. "
        "What do you object?",
        (
            "Nothing: C is the Hessian, up to a factor.",
            "C shrinks with the residuals, H need not; and C is aligned with H, not a multiple of it.",
            "C has nothing to do with H.",
            "It holds at small batches only.",
        ),
        1,
        {
            0: "That needs a right model, errors of one size, and the minimum. Section 2.",
            2: "It is aligned many times beyond chance. Section 3.",
            3: "The batch scales C, and changes nothing of its shape. Section 1.",
        },
    ),
    Question(
        "unstable-run",
        "On a quadratic with interpolation, η is above the mean-square threshold. What will your one run do?",
        (
            "Diverge, surely.",
            "Converge, surely.",
            "It depends on E log|1 − ηa|; if that is negative it converges almost surely, "
            "maybe after a large excursion.",
            "Diverge if λmax > 2/η, else converge.",
        ),
        2,
        {
            0: "The mean square is carried by rare runs. Section 5.",
            1: "Only if the mean logarithm is negative. Section 5.",
            3: "That is the edge of the full batch; here it decides nothing. Sections 4 and 5.",
        },
    ),
    Question(
        "small-batch",
        "Small batches end with a third of the sharpness, and the same accuracy on new data. What follows?",
        (
            "Batch size changed the sharpness; that flatness helps generalization is not shown here.",
            "Flat minima generalize better, so accuracy was measured wrongly.",
            "Sharpness was measured wrongly.",
            "Large batches are better.",
        ),
        0,
        {
            1: "A gap is not there because one expects it. Section 6.",
            2: "It was measured at every run the same way, for three seeds. Section 6.",
            3: "Nothing here says so. Section 6.",
        },
    ),
)
