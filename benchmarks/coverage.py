"""How often the 95 % intervals of `hesslab.trace` hold the truth, and how wide they are, as a Markdown table.

    python benchmarks/coverage.py [--seeds 2000] [--n 200] [--only xtrace]

A row is printed as soon as it is measured. "width" is the mean half-width over 1.96 times the true root
mean square error: 1 is the interval of someone who knows the size of a Gaussian error. "Student" is the
coverage of mean ± t s / √m from the samples alone; "jackknife" the width of our interval over that of the
jackknife (leave one probe out, recompute from the products at hand), on fewer seeds.
"""

import argparse
import runpy
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from hesslab import probes, trace
from hesslab.operators import Operator

SPECTRA = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "spectra.py"))["SPECTRA"]
BUDGETS = (10, 30, 100)
JACKKNIVES = 20


def spectra(n):
    """The spectra of the table, by name."""
    return {
        "flat": SPECTRA["flat"](n),
        "exponential 0.9": SPECTRA["decaying"](n),
        "exponential 0.7": 0.7 ** np.arange(n),
        "network-like": SPECTRA["network"](n),
        "low rank": np.concatenate([np.linspace(2.0, 1.0, 20), np.zeros(n - 20)]),
        "indefinite": SPECTRA["indefinite"](n),
    }


def operator(values, rotated):
    """A matrix of these eigenvalues, in a random basis or, as good for probes on the sphere, diagonal."""
    if rotated:
        V, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((len(values),) * 2))
        return (V * values) @ V.T
    return Operator((len(values),) * 2, np.dtype(float), lambda X: values[:, None] * X, np.empty(0))


def jackknife(A, m, rng):
    """Half-widths of the jackknife's interval for XTrace and of ours, on the same products, or NaN."""
    sketch = probes.grown(A, probes.empty(A), m // 2, np.random.default_rng(rng))
    k = m // 2
    if not sketch.new.all():
        return np.nan, np.nan
    R = sketch.Q.T @ sketch.Y
    values = []
    for i in range(k):
        rest = np.arange(k) != i
        q, _ = np.linalg.qr(R[:, rest])
        part = probes.Sketch(
            sketch.W[:, rest], sketch.Y[:, rest], sketch.Q @ q, sketch.Z @ q, sketch.new[rest]
        )
        values.append(probes.leave_one_out(part)[0].forms.mean())
    error = np.sqrt((k - 1) / k * np.sum((np.array(values) - np.mean(values)) ** 2))
    return student.ppf(0.975, k - 1) * error, _half(trace.xtrace(A, max_matvecs=m, rng=rng))


def _half(estimate):
    lower, upper = estimate.interval(0.95)
    return (upper - lower) / 2


def row(name, spectrum, values, m, seeds):
    """One line of the table."""
    A = operator(values, rotated=name in ("hutchinson", "diagonal"))
    right = {"frobenius": np.linalg.norm(values)}.get(name, values.sum())
    right = np.diag(A) if name == "diagonal" else right
    inside, half, errors, plain = [], [], [], []
    for seed in range(seeds):
        estimate = getattr(trace, name)(A, max_matvecs=m, rng=seed)
        lower, upper = estimate.interval(0.95)
        inside.append(np.mean((lower <= right) & (right <= upper)))
        half.append(np.mean(upper - lower) / 2)
        errors.append(np.mean((estimate.value - right) ** 2))
        x = estimate.samples
        if name in ("hutchinson", "hutchpp", "xtrace") and len(x) > 1:
            spread = student.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
            plain.append(abs(estimate.value - right) <= spread)
    rms, scale = np.sqrt(np.mean(errors)), np.max(np.abs(right))
    exact = rms < 1e-12 * scale
    width = "exact" if exact else f"{np.mean(half) / 1.96 / rms:.2f}"
    student_covers = f"{100 * np.mean(plain):.1f}" if plain and not exact else "–"
    ratio = "–"
    if name == "xtrace" and not exact:
        pairs = np.array([jackknife(A, m, seed) for seed in range(min(seeds, JACKKNIVES))])
        ratio = f"{np.nanmean(pairs[:, 1]) / np.nanmean(pairs[:, 0]):.2f}" if np.any(pairs == pairs) else "–"
    cells = (
        name,
        spectrum,
        m,
        f"{rms / scale:.1e}",
        f"{100 * np.mean(inside):.1f}",
        width,
        student_covers,
        ratio,
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--only", default="hutchinson,hutchpp,xtrace,frobenius,diagonal")
    options = parser.parse_args()
    print(f"95 % intervals, n = {options.n}, {options.seeds} seeds (a tenth of them for the diagonal)\n")
    print(
        "| estimator | spectrum | products | rms error | covers % | width | Student % | width / jackknife |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in options.only.split(","):
        seeds = options.seeds // 10 if name == "diagonal" else options.seeds
        for spectrum, values in spectra(options.n).items():
            for m in BUDGETS:
                print(row(name, spectrum, values, m, seeds), flush=True)


if __name__ == "__main__":
    main()
