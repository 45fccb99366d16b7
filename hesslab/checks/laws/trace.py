"""The laws of random probes: unbiased, exact where they must be, with an error that is a standard error.

Each law takes the learner's function and answers None or a `Violation` that names the likely mistake.
Estimators have the library's signature, `f(A, max_matvecs=…, rng=…)`; they may answer a number, a pair
(value, stderr), or anything with `.value` and `.stderr`. `advice` says where to reread.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from hesslab.checks.laws.feedback import EXACT, SINGLE, Violation, differs, numbers
from hesslab.matrices import with_spectrum

Function = Callable[..., Any]
Rng = int | np.random.Generator
Mistakes = dict[str, tuple[Any, str]]

PROBES = 6  # the budget of an exact case, in products
RUNS = 300  # the runs behind a statement on a mean; a right answer strays by 5 standard errors once in 10⁶


def trace_of_diagonal(f: Function, *, rng: Rng, advice: str = "") -> Violation | None:
    """A trace from Rademacher probes is exact, and its error zero, where A is diagonal, since w_i² = 1.

    >>> trace_of_diagonal(lambda A, *, max_matvecs, rng: max_matvecs * np.trace(A), rng=0).diagnosis
    'sum-for-mean'
    """
    rng = np.random.default_rng(rng)
    entries = 1.0 + rng.random(30)
    answer = f(np.diag(entries), max_matvecs=PROBES, rng=_seed(rng))
    text: dict[str, Any] = {
        "law": "wᵀA w = tr A for diagonal A and w_i = ±1",
        "case": f"n = 30, {PROBES} probes",
    }
    violation = differs(
        value_of(answer),
        entries.sum(),
        diagnosis="not-signs",
        advice=f"The entries of w must be ±1; w_i² of a Gaussian varies. {advice}",
        mistakes={**_scalings(entries.sum(), 30), "error-first": (0.0, f"The value comes first. {advice}")},
        **text,
    )
    return violation or _no_error(answer, entries.sum(), advice=advice, **text)


def unbiased(f: Function, *, rng: Rng, max_matvecs: int = 12, advice: str = "") -> Violation | None:
    """The mean of many runs is the trace, within five of its own standard errors. A is a full matrix, n = 30.

    >>> unbiased(lambda A, *, max_matvecs, rng: np.trace(A) / len(A), rng=0).diagnosis
    'unit-probes'
    """
    rng = np.random.default_rng(rng)
    A = with_spectrum(np.concatenate([[9.0, 5.0], np.linspace(2.0, 0.5, 28)]), rng=rng)
    trace = float(np.trace(A))
    runs = [numbers(value_of(f(A.copy(), max_matvecs=max_matvecs, rng=_seed(rng)))) for _ in range(RUNS)]
    return _mean_is(np.array(runs), trace, _scalings(trace, 30, max_matvecs), advice)


def captures_low_rank(f: Function, *, rng: Rng, advice: str = "") -> Violation | None:
    """A sketch of m // 3 probes holds a matrix of that rank or less: the trace is exact, its error zero.

    >>> hutchinson = lambda A, *, max_matvecs, rng: 1.1 * np.trace(A)
    >>> captures_low_rank(hutchinson, rng=0).diagnosis
    'no-sketch'
    """
    rng = np.random.default_rng(rng)
    A = with_spectrum(np.concatenate([[3.0, -2.0, 1.5], np.zeros(27)]), rng=rng)
    answer = f(A, max_matvecs=12, rng=_seed(rng))
    text = {"law": "exact for rank A ≤ m // 3", "case": "rank 3, n = 30, m = 12 products"}
    hint = "Q must be an orthonormal basis of A S (np.linalg.qr), and the remainder uses (I − Q Qᵀ) w."
    violation = differs(
        value_of(answer),
        2.5,
        diagnosis="no-sketch",
        advice=f"{hint} {advice}",
        mistakes={
            "counted-twice": (5.0, f"Take the part in Q out of the probes before A meets them. {hint}"),
            "no-sketch-part": (0.0, "Add the trace of QᵀA Q to the remainder."),
        },
        tolerance=SINGLE,
        **text,
    )
    return violation or _no_error(answer, 2.5, advice=advice, **text)


def probe_variance(f: Function, *, rng: Rng, advice: str = "") -> Violation | None:
    """f(A, probes) is the variance of one wᵀA w: "rademacher" 2(‖A‖_F² − Σ a_ii²), "gaussian" 2‖A‖_F².

    >>> probe_variance(lambda A, probes: 2 * np.sum(A**2), rng=0).diagnosis
    'gaussian-for-rademacher'
    """
    A = with_spectrum(np.linspace(-1.0, 3.0, 12), rng=rng)
    norm, entries = float(np.sum(A**2)), np.diag(A)
    hint = "Square each entry of A, then add up."
    known = {"rademacher": float(np.sum(entries**2)), "gaussian": 0.0}
    right = {kind: 2.0 * (norm - part) for kind, part in known.items()}
    for kind, other in (("rademacher", "gaussian"), ("gaussian", "rademacher")):
        which = "Only the off-diagonal entries vary under signs; under Gaussian entries all do."
        mistakes: Mistakes = {
            f"{other}-for-{kind}": (right[other], which),
            "half": (right[kind] / 2, "Each pair i ≠ j is counted twice: the factor is 2."),
            "trace-for-diagonal": (2.0 * (norm - np.trace(A) ** 2), "Sum the squares of a_ii, not a_ii."),
            "deviation": (np.sqrt(right[kind]), "That is the standard deviation."),
            "half-diagonal": (2.0 * norm - known[kind], "The 2 multiplies the diagonal's part too."),
            "product-for-square": (
                2.0 * (np.sum(A @ A) - known[kind]),
                f"`A @ A` is a matrix product. {hint}",
            ),
            "norm-for-square": (
                2.0 * (norm**0.5 - known[kind] ** 0.5),
                f"A norm is the root of a sum. {hint}",
            ),
        }
        violation = differs(
            f(A.copy(), kind),
            right[kind],
            law="Var(wᵀA w)",
            case=f"{kind}, n = 12",
            advice=f"{hint} {advice}",
            mistakes=mistakes,
        )
        if violation is not None:
            return violation
    return None


def standard_error(f: Function, *, rng: Rng, advice: str = "") -> Violation | None:
    """f(samples) is the standard error of their mean, s / √m, s² the unbiased variance.

    >>> standard_error(lambda x: np.std(x, ddof=1), rng=0).diagnosis
    'deviation-for-error'
    """
    samples = np.random.default_rng(rng).standard_normal(8)
    s = samples.std(ddof=1)
    hint = "s says how far one sample strays; the mean of m samples strays √m times less."
    mistakes: Mistakes = {
        "deviation-for-error": (s, hint),
        "population-deviation": (samples.std(), f"{hint} And s² divides by m − 1."),
        "variance-for-error": (s**2 / 8, "Take the root."),
        "divided-by-m": (s / 8, "Divide by √m: variances, not deviations, are divided by m."),
        "population": (samples.std() / np.sqrt(8), "s² divides by m − 1 (`ddof=1`): the mean was fitted."),
    }
    return differs(
        f(samples),
        s / np.sqrt(8),
        law="s / √m",
        case="8 samples",
        advice=advice,
        mistakes=mistakes,
        tolerance=EXACT,
    )


def interval(f: Function, *, rng: Rng, level: float = 0.95, advice: str = "") -> Violation | None:
    """f(samples, level) is (lower, upper), mean ± t s / √m with the two-sided Student quantile at m − 1.

    >>> normal = lambda x, level: np.mean(x) + np.array([-1.96, 1.96]) * np.std(x, ddof=1) / len(x) ** 0.5
    >>> interval(normal, rng=0).diagnosis
    'normal-quantile'
    """
    samples = np.random.default_rng(rng).standard_normal(5) + 3.0
    mean, s, tail = samples.mean(), samples.std(ddof=1), (1.0 - level) / 2

    def ends(half: float) -> NDArray[np.float64]:
        return np.array([mean - half, mean + half])

    error, t = s / np.sqrt(5), -stdtrit(4, tail)
    mistakes: Mistakes = {
        "normal-quantile": (ends(-ndtri(tail) * error), "s is itself uncertain: Student's t, not 1.96."),
        "one-sided": (ends(-stdtrit(4, 2 * tail) * error), "Both tails share 1 − level: half for each."),
        "deviation-for-error": (ends(t * s), "Divide s by √m."),
        "dof": (ends(-stdtrit(5, tail) * error), "m samples leave m − 1 degrees of freedom."),
    }
    return differs(
        f(samples, level),
        ends(t * error),
        law="mean ± t s / √m",
        case=f"5 samples, level {level}",
        advice=advice,
        mistakes=mistakes,
    )


def diagonal_entries(f: Function, *, rng: Rng, advice: str = "") -> Violation | None:
    """The mean of w∘(A w) over Rademacher w is exact where A is diagonal, and unbiased elsewhere.

    >>> diagonal_entries(lambda A, *, max_matvecs, rng: max_matvecs * np.diag(A), rng=0).diagnosis
    'sum-for-mean'
    """
    rng = np.random.default_rng(rng)
    entries = 1.0 + rng.random(20)
    found = value_of(f(np.diag(entries), max_matvecs=PROBES, rng=_seed(rng)))
    mistakes: Mistakes = {
        "sum-for-mean": (PROBES * entries, "Divide by the number of probes."),
        "shifted": (np.roll(entries, 1), "Entry i belongs to w_i (A w)_i: the index is shifted by one."),
        "shifted-back": (
            np.roll(entries, -1),
            "Entry i belongs to w_i (A w)_i: the index is shifted by one.",
        ),
        "squared": (entries**2, "Multiply A w by w, not by itself."),
        "divided-twice": (entries / PROBES, "Divide by the number of probes once."),
        "reversed": (entries[::-1], "The order of the entries is turned round."),
    }
    hint = f"Multiply A w by w, entry by entry, before taking the mean. {advice}"
    law, case = "w_i (A w)_i = a_ii for diagonal A", "n = 20"
    violation = differs(
        found, entries, law=law, case=case, advice=hint, diagnosis="not-multiplied", mistakes=mistakes
    )
    if violation is not None:
        return violation
    A = with_spectrum(np.linspace(-1.0, 3.0, 20), rng=rng)
    runs = [numbers(value_of(f(A.copy(), max_matvecs=PROBES, rng=_seed(rng)))) for _ in range(RUNS)]
    direction = rng.standard_normal(20)
    return _mean_is(np.array(runs) @ direction, float(np.diag(A) @ direction), {}, advice)


def norm_of_isometry(f: Function, *, rng: Rng, advice: str = "") -> Violation | None:
    """‖A‖_F from probes of length √n is exact where all |λ| are equal: ‖A w‖ = |λ| √n.

    >>> norm_of_isometry(lambda A, *, max_matvecs, rng: np.sum(A**2), rng=0).diagnosis
    'square'
    """
    rng = np.random.default_rng(rng)
    A = with_spectrum(np.repeat([2.0, -2.0], 10), rng=rng)
    found = value_of(f(A, max_matvecs=PROBES, rng=_seed(rng)))
    right = 2.0 * np.sqrt(20.0)
    mistakes: Mistakes = {
        "square": (right**2, "‖A w‖² estimates the square of the norm: take the root of the mean."),
        "unit-probes": (2.0, "With unit probes E‖A w‖² is ‖A‖_F² / n; E[w wᵀ] = I asks for length √n."),
        "sum-for-mean": (right * np.sqrt(PROBES), "Divide the sum of ‖A w‖² by the number of probes."),
    }
    hint = f"Average ‖A w‖², then take the root, for w of length √n. {advice}"
    return differs(found, right, law="‖A w‖ = |λ| √n", case="λ = ±2, n = 20", advice=hint, mistakes=mistakes)


def value_of(answer: Any) -> Any:
    """The value of an answer: a number, a tuple or list that it begins, or anything with `.value`."""
    if isinstance(answer, tuple | list) and answer:
        return answer[0]
    return getattr(answer, "value", answer)


def _no_error(answer: Any, scale: float, *, law: str, case: str, advice: str) -> Violation | None:
    """An answer that is exact says so, to rounding, if it carries an error at all."""
    pair = isinstance(answer, tuple | list) and len(answer) > 1
    error = answer[1] if pair else getattr(answer, "stderr", 0.0)
    if not float(numbers(error)) > SINGLE * abs(scale):
        return None
    hint = f"All samples agree, so their spread is 0: is the error computed from the samples? {advice}"
    return Violation("error-of-exact", law, case, f"a standard error of {float(numbers(error)):.3g}", hint)


def _mean_is(runs: NDArray[np.float64], right: float, mistakes: Mistakes, advice: str) -> Violation | None:
    mean, error = runs.mean(), runs.std(ddof=1) / np.sqrt(len(runs))
    if abs(mean - right) <= 5.0 * error + EXACT * abs(right):
        return None
    law, case = "unbiased: E[estimate] = the true value", f"the mean of {len(runs)} runs, n = 30 or 20"
    close = {k: v for k, v in mistakes.items() if abs(mean - v[0]) <= 3.0 * error + EXACT * abs(v[0])}
    other = ("biased", (0.0, "The mean of many runs misses the true value."))
    if np.ptp(runs) <= EXACT * abs(mean):
        other = ("same-runs", (0.0, "All runs agree, whatever their `rng`: draw from it, and keep nothing."))
    name, (_, hint) = next(iter(close.items()), other)
    return Violation(name, law, case, f"{mean:.4g} ± {error:.1g}, expected {right:.4g}", f"{hint} {advice}")


def _scalings(trace: float, n: int, probes: int = PROBES) -> Mistakes:
    """What a trace becomes when probes or means are scaled wrongly."""
    return {
        "sum-for-mean": (probes * trace, "Divide by the number of probes: the estimate is a mean."),
        "unit-probes": (trace / n, "The probes have unit length; E[w wᵀ] = I asks for length √n."),
        "uniform-probes": (
            trace / 3.0,
            "Entries uniform in [−1, 1] have variance 1/3; they must have variance 1.",
        ),
        "divided-twice": (trace / probes, "Divide by the number of probes once."),
        "one-too-few": (trace * probes / (probes - 1), "Divide by m, the number of probes, not by m − 1."),
        "zero-one-probes": (trace / 2.0, "Signs are −1 and 1, not 0 and 1."),
        "wrong-axis": (trace * probes / n, "Sum over the n entries of each probe, then average over probes."),
    }


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**32))
