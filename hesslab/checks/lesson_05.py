"""Checks of lesson 05, traces and densities: six answers judged on fresh instances, and the exit ticket."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hesslab.checks.laws.density import isotropic_starts, mass_between
from hesslab.checks.laws.feedback import SINGLE, Violation, check, compare, numbers
from hesslab.checks.laws.ticket import Question
from hesslab.checks.laws.trace import captures_low_rank, probe_variance, trace_of_diagonal, unbiased, value_of
from hesslab.lanczos import tridiagonalize
from hesslab.matrices import with_spectrum
from hesslab.operators import Operator

Vector = NDArray[np.float64]
Laws = Iterator[Violation | None]
Answer = Callable[..., Any]
Mistakes = dict[str, tuple[Any, str]]
STEPS, PROBES = 6, 4  # of the SLQ that is judged


@check
def check_hutchinson(hutchinson: Answer, rng: np.random.Generator) -> Laws:
    """Exact for a diagonal matrix, unbiased, with s / √m of its own samples, for m products and no more."""
    A, blocks = _recording(with_spectrum(np.linspace(-1.0, 4.0, 30), rng=rng))
    answer = hutchinson(A, max_matvecs=7, rng=_seed(rng))
    yield _is_pair(answer, "(value, stderr)", "Return two numbers. Section 1.")
    yield _spent(blocks, 7, 7, "One product for each probe: A @ W for all, or A @ w for one. Section 1.")

    unread = _unread(lambda A, **given: tuple(hutchinson(A, **given)))
    W = np.concatenate(blocks, axis=1)
    samples = np.sum(W * (A @ W), axis=0)
    yield trace_of_diagonal(unread, rng=rng, advice="Section 1.")
    yield unbiased(unread, rng=rng, max_matvecs=4, advice="Section 1.")
    yield _differ(W.T, "Section 1.")
    mistakes: Mistakes = {"median": (np.median(samples), "The median of skew samples is biased.")}
    law, advice = "the value is the mean of the samples", "Add up the samples wᵀA w, and divide by m."
    yield compare(answer[0], samples.mean(), mistakes, law, f"m = {len(samples)}", advice, section=1)
    yield _error_law(answer[1], samples, "one sample is one wᵀA w")


def _error_law(found: Any, samples: Vector, what: str, more: Mistakes | None = None) -> Violation | None:
    """`found` is the standard error of the mean of the samples."""
    m, s = len(samples), samples.std(ddof=1)
    mistakes: Mistakes = {
        "deviation-for-error": (s, "This is s. The mean of m samples strays √m times less."),
        "population-deviation": (samples.std(), "Divide by √m; and s² divides by m − 1."),
        "variance-for-error": (s**2 / m, "This is a variance: take the root."),
        "divided-by-m": (s / m, "Variances are divided by m, so deviations by √m."),
        "population": (samples.std() / m**0.5, "s² divides by m − 1 (`ddof=1`): the mean was fitted."),
        "half-interval": (1.96 * s / m**0.5, "This is half an interval. One standard error is s/√m."),
        "no-error": (0.0, "The samples differ, so the error is not 0."),
    }
    advice = f"s² is the spread of the samples with m − 1 below; {what}."
    law, case = "stderr = s / √m", f"m = {m}; {what}"
    return compare(found, s / m**0.5, mistakes | (more or {}), law, case, advice, section=3)


@check
def check_probe_variance(variance: Answer, rng: np.random.Generator) -> Laws:
    """The three formulas, for a matrix with eigenvalues of both signs."""
    yield probe_variance(variance, rng=rng, advice="Section 2.")
    A, n = with_spectrum(np.linspace(-1.0, 3.0, 12), rng=rng), 12
    square, trace, factor = float(np.sum(A**2)), float(np.trace(A)), 2 * n / (n + 2)
    centred = square - trace**2 / n
    mistakes: Mistakes = {
        "gaussian-for-sphere": (
            2 * square,
            "This is the Gaussian formula. On the sphere the length is fixed.",
        ),
        "no-radius": (2 * centred, "n/(n+2) is missing: the length of a Gaussian varies, and adds variance."),
        "inverted-radius": (2 * (n + 2) / n * centred, "The Gaussian has (n+2)/n times as much: divide."),
        "trace-not-divided": (factor * (square - trace**2), "A loses tr²/n when tr/n leaves the diagonal."),
        "trace-divided-twice": (factor * (square - trace**2 / n**2), "n entries lose (tr/n)² each: tr²/n."),
        "diagonal-for-trace": (
            factor * (square - np.sum(np.diag(A) ** 2)),
            "The diagonal belongs to random signs. The sphere knows the trace.",
        ),
        "trace-forgotten": (
            factor * square,
            "A multiple of I has no variance on the sphere: subtract tr²/n.",
        ),
    }
    law, case, advice = "2n/(n+2) (‖A‖_F² − tr²/n)", "sphere, n = 12", "See the table."
    right, found = factor * centred, variance(A.copy(), "sphere")
    yield compare(found, right, mistakes, law, case, advice, section=2)


@check
def check_hutchpp(hutchpp: Answer, rng: np.random.Generator) -> Laws:
    """Exact for low rank, with a remainder for the rest, unbiased, within its budget."""
    yield captures_low_rank(_unread(hutchpp), rng=rng, advice="Section 4.")
    A, blocks = _recording(2.0 * np.eye(200))
    found = value_of(hutchpp(A, max_matvecs=12, rng=_seed(rng)))
    yield _remainder_law(found)
    yield _spent(blocks, 9, 12, "A third each for A S, A Q and the probes. Section 4.")
    yield unbiased(_unread(hutchpp), rng=rng, advice="Do not rescale the projected probes. Section 4.")


def _remainder_law(found: Any) -> Violation | None:
    nothing = "tr PAP is missing, or its probes are those of the sketch: draw fresh ones."
    little = "The remainder is too small: probes have length √n before P, and their mean is over probes."
    none = bool(np.all(np.abs(numbers(found) - 8.0) < SINGLE))  # of 2 I the sketch takes 4 · 2, exactly
    mistakes: Mistakes = {
        "no-remainder" if none else "small-remainder": (8.0, nothing if none else little),
        "sum-for-mean": (8.0 + 4 * 392.0, "The remainder is a mean over its probes: divide by their number."),
    }
    law, case = "tr A = tr QᵀA Q + tr P A P", "A = 2 I, n = 200, 12 products; 25 % are allowed"
    advice = "Add the mean of (P w)ᵀA (P w) over fresh probes."
    return compare(found, 400.0, mistakes, law, case, advice, section=4, tolerance=0.25)


@check
def check_slq(slq: Answer, rng: np.random.Generator) -> Laws:
    """Each probe has the Gauss quadrature of its own start, and the starts are centred and differ."""
    firsts = []
    for spectrum in (np.linspace(-1.0, 1.5, 40), np.append(np.linspace(0.0, 1.0, 37), [4.0, 6.0, 9.0])):
        A = with_spectrum(spectrum, rng=rng)
        operator, blocks = _recording(A)
        answer = slq(operator, num_steps=STEPS, num_probes=PROBES, rng=_seed(rng))
        yield _is_pair(answer, "(nodes, weights)", "Return two arrays. Section 5.")
        yield _spent(blocks, 0, PROBES * STEPS, "One product a step, in each of the runs. Section 5.")
        yield from _quadratures(numbers(answer[0]), numbers(answer[1]), np.concatenate(blocks, axis=1).T, A)
        firsts.append(blocks[0][:, 0])
    yield _differ(np.array(firsts), "Section 5.")
    yield isotropic_starts(slq, rng=rng, advice="Section 5.")


def _quadratures(nodes: Vector, weights: Vector, multiplied: Vector, A: Vector) -> Laws:
    """The start of a probe is found among all vectors that were multiplied, by its Ritz values."""
    law, case = "nodes and weights have shape (num_probes, num_steps)", f"{PROBES} probes, {STEPS} steps"
    for found in (nodes, weights):
        if found.shape != (PROBES, STEPS):
            yield Violation("shape", law, case, f"shape {found.shape}", "One row for each probe. Section 5.")
    rules = [(w, *np.linalg.eigh(tridiagonalize(A, w, STEPS).T)) for w in multiplied]
    starts = []
    for theta, found in zip(nodes, weights, strict=True):
        order = np.argsort(theta)
        fits = [
            (w, S[0]) for w, right, S in rules if np.allclose(theta[order], right, rtol=SINGLE, atol=SINGLE)
        ]
        yield _weights_law(found[order], theta[order], fits)
        starts.append(fits[0][0] / np.linalg.norm(fits[0][0]))
    yield _differ(np.array(starts), "Section 5.")


def _weights_law(found: Vector, theta: Vector, fits: list[tuple[Vector, Vector]]) -> Violation | None:
    case, k = f"one probe, k = {STEPS}, n = 40", STEPS
    if not fits:
        shown = f"nodes from {theta[0]:.3g} to {theta[-1]:.3g}"
        hint = "Diagonalize T of `tridiagonalize(A, v, num_steps)`, and keep the signs. Section 5."
        return Violation("nodes", "the nodes are the eigenvalues of T", case, shown, hint)
    first = fits[0][1]
    mistakes: Mistakes = {
        "not-squared": (np.sign(found) * np.abs(first), "Square the first components: they are amplitudes."),
        "all-components": (np.ones(k), "All components squared add up to 1. Only the first counts."),
        "equal-weights": (
            np.full(k, 1 / k),
            "A node is not one eigenvalue in k: each has a weight of its own.",
        ),
        "not-normalized": (40 * first**2, "The weights of one probe add up to 1, not to n: v has length 1."),
        "another-order": (first[::-1] ** 2, "Each weight belongs to its node: reorder both, or neither."),
        "divided-by-probes": (first**2 / PROBES, "The weights add up to 1 for each probe."),
        "divided-by-steps": (first**2 / k, "The weights add up to 1 as they are: no mean over nodes."),
    }
    law, advice = (
        "w_j = (e₁ᵀs_j)²",
        "The squares of the first row of S: not of a column, not of the last.",
    )
    return compare(found, first**2, mistakes, law, case, advice, section=5)


def _differ(probes: Vector, advice: str) -> Violation | None:
    """No two rows are parallel."""
    unit = probes / np.linalg.norm(probes, axis=1, keepdims=True)
    if np.max(np.abs(unit @ unit.T) - np.eye(len(unit))) < 1 - SINGLE:
        return None
    hint = f"Make one generator, from `rng`, before the loop: here a probe is drawn twice. {advice}"
    law, case = "the probes are independent", f"{len(probes)} probes"
    return Violation("same-probe", law, case, "two are parallel", hint)


@check
def check_mass(mass: Answer, rng: np.random.Generator) -> Laws:
    """The weight of the nodes in a bin, averaged over probes, and the standard error of that average."""
    weights = 0.1 + rng.random((5, 8))
    nodes, weights = rng.uniform(-1.0, 2.0, (5, 8)), weights / weights.sum(axis=1, keepdims=True)
    answer = mass(nodes.copy(), weights.copy(), 0.0, 1.5)
    yield _is_pair(answer, "(fraction, stderr)", "Return two numbers. Section 5.")
    yield mass_between(lambda *given: mass(*given)[0], rng=_seed(rng), advice="Section 5.")
    inside = (nodes >= 0.0) & (nodes <= 1.5)
    each, hint = (
        np.sum(weights * inside, axis=1),
        "The nodes of a probe depend on each other: one sample a probe.",
    )
    mistakes: Mistakes = {
        "over-nodes": ((weights * inside).std(ddof=1) / 40**0.5, hint),
        "root-of-nodes": (each.std(ddof=1) / 8**0.5, f"Divide by the root of the number of probes. {hint}"),
        "binomial": ((each.mean() * (1 - each.mean()) / 40) ** 0.5, hint),
        "binomial-probes": (
            (each.mean() * (1 - each.mean()) / 5) ** 0.5,
            "A mass is no yes or no: take s/√m.",
        ),
    }
    yield _error_law(answer[1], each, "one sample is the mass that one probe finds", mistakes)


@check
def check_true_variance(variance: Answer, rng: np.random.Generator) -> Laws:
    """The variance that makes an eigenvalue beyond the edge; that of the noise where it is not beyond."""
    for gamma, noise, ell in ((0.25, 1.0, 3.0), (0.25, 1.0, 1.7), (2.0, 1.0, 4.0), (0.1, 3.0, 2.5)):
        ell *= float(rng.uniform(1.0, 1.1))
        yield _variance_law(variance, noise * ell * (1 + gamma / (ell - 1)), gamma, noise, noise * ell)
    for gamma, noise, share in ((0.25, 1.0, 0.95), (0.25, 1.0, 0.7), (0.5, 3.0, 0.9), (2.0, 0.1, 0.5)):
        top = noise * (1 + share * ((1 + gamma**0.5) ** 2 - 1))
        yield _variance_law(variance, top, gamma, noise, noise)


def _solved(top: float, gamma: float, sign: int = 1) -> float:
    """The real part of a root ℓ of top = ℓ (1 + γ/(ℓ − 1))."""
    b = top + 1 - gamma
    return float(b + sign * np.sqrt(complex(b * b - 4 * top)).real) / 2


def _variance_law(variance: Answer, top: float, gamma: float, noise: float, right: float) -> Violation | None:
    root, beyond = gamma**0.5, right > noise
    at_noise = "Divide by the noise first, and multiply by it at the end."
    mistakes: Mistakes = {
        "sample-eigenvalue": (
            top,
            "This is the eigenvalue of the sample, which noise has pushed up: solve for ℓ.",
        ),
        "edge": (noise * (1 + root) ** 2, "This is the edge, an eigenvalue. Asked for is a variance."),
        "threshold": (
            noise * (1 + root),
            "This is the border of ℓ. At or below the edge the answer is `noise`.",
        ),
        "not-scaled-back": (right / noise, at_noise),
        "zero": (0.0, "Where nothing is seen the variance is `noise`, not 0."),
        "inside-the-bulk": (
            noise * _solved(top / noise, gamma),
            "At or below the edge, (1 + √γ)² times the noise, the answer is `noise`.",
        ),
        "noise-forgotten": (_solved(top, gamma), f"The formula is for noise 1. {at_noise}"),
    }
    if beyond:
        mistakes |= {
            "small-root": (noise * _solved(top / noise, gamma, -1), "Of the two roots, ℓ > 1 + √γ is meant."),
            "not-halved": (2 * right, "A quadratic has the roots (b ± √(b² − 4λ)) / 2."),
            "gamma-inverted": (noise * _solved(top / noise, 1 / gamma), "γ = p/n, features over examples."),
            "shrunk-by-edge": (top / (1 + root) ** 2, "The shift depends on ℓ: solve the quadratic."),
            "not-seen": (noise, "It is beyond the edge, (1 + √γ)² times the noise."),
            "forward": (top * (1 + gamma / (top / noise - 1)), "`top` is the left side: solve for ℓ."),
        }
    place = "beyond the edge" if beyond else "inside the bulk"
    case = f"top = {top:.3g}, γ = {gamma:g}, noise = {noise:g}: {place}"
    advice = "top/noise = ℓ (1 + γ/(ℓ − 1)) if that is above (1 + √γ)²; else `noise`."
    law, found = "top = noise · ℓ (1 + γ/(ℓ − 1))", variance(top, gamma, noise)
    return compare(found, right, mistakes, law, case, advice, section=8)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**32))


def _recording(A: Vector) -> tuple[Operator, list[Vector]]:
    """A as an operator, and the blocks that it is multiplied with from now on."""
    blocks: list[Vector] = []

    def product(X: Vector) -> Vector:
        blocks.append(X.copy())
        return np.asarray(A @ X)

    return Operator((len(A), len(A)), np.dtype(np.float64), product, np.empty(0)), blocks


def _unread(f: Answer) -> Answer:
    """f, for matrices that it can multiply but not read."""
    return lambda A, **given: f(_recording(A)[0], **given)


def _spent(blocks: list[Vector], least: int, most: int, advice: str) -> Violation | None:
    spent = sum(block.shape[1] for block in blocks)
    if least <= spent <= most:
        return None
    name = "too-many-products" if spent > most else "too-few-products"
    return Violation(
        name, "the budget is spent, and no more", f"{most} products", f"{spent} products", advice
    )


def _is_pair(answer: Any, pair: str, advice: str) -> Violation | None:
    if getattr(answer, "shape", ())[:1] == (2,) or (isinstance(answer, tuple | list) and len(answer) == 2):
        return None
    found = "None" if answer is None else f"a {type(answer).__name__}"
    return Violation("not-a-pair", f"the answer is {pair}", "any", found, advice)


TICKET = (
    Question(
        "ritz-histogram",
        "A Hessian, n a million: 30 Lanczos steps give 30 Ritz values, nine of them far out. What follows?",
        (
            "About 30 % of the eigenvalues are outliers.",
            "Nothing about fractions: these are in the weights, not in the number of nodes.",
            "Exactly nine of the million eigenvalues are outliers.",
            "The bulk has 21 eigenvalues.",
        ),
        1,
        {
            0: "Lanczos puts a node on each outlier, few in the crowd. Weights are fractions. Section 5.",
            2: "A node may stand for equal eigenvalues, a start may miss some: use eigsh. Section 5.",
            3: "A node is no eigenvalue of the bulk: it stands for as many as its weight says. Section 5.",
        },
    ),
    Question(
        "running-mean",
        "The last probe moved a trace estimate by less than 0.1 %. How large is its relative error?",
        (
            "Less than 0.1 %.",
            "About 0.1 %, in 95 % of the cases.",
            "The move does not say: it falls as 1/k, the error as 1/√k.",
            "Zero: the mean has converged.",
        ),
        2,
        {
            0: "The k-th sample is divided by k: late moves are small whatever the error is. Section 3.",
            1: "Measured in the lesson, such a rule keeps its promise in a few runs of a hundred. Section 3.",
            3: "A mean of samples never arrives: its error falls as 1/√k for ever. Section 3.",
        },
    ),
    Question(
        "outlier",
        "A sample covariance, γ = 0.25, noise of variance 1: the largest eigenvalue is 2.2. What follows?",
        (
            "Some direction has variance 2.2.",
            "The true covariance is badly conditioned.",
            "No direction has a variance above 1.",
            "Nothing shows: noise alone reaches 2.25. A variance up to 1.5 could still hide.",
        ),
        3,
        {
            0: "Noise alone stretches the eigenvalues of a sample up to 2.25. Section 8.",
            1: "With all true variances equal, a sample shows eigenvalues from 0.25 to 2.25. Section 7.",
            2: "A variance below 1 + √γ = 1.5 leaves the largest eigenvalue at the edge. Section 8.",
        },
    ),
)
