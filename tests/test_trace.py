"""Traces, diagonals and norms: nasty spectra, closed forms, calibrated intervals, every error message."""

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import chi2
from scipy.stats import t as student
from spectra import SCALES, SPECTRA, with_eigenvalues

from hesslab import probes, trace
from hesslab.checks.laws import trace as laws
from hesslab.checks.laws.feedback import EXACT, SINGLE
from hesslab.operators import Operator, generator

TRACES = {"hutchinson": trace.hutchinson, "hutchpp": trace.hutchpp, "xtrace": trace.xtrace}
ALL = {**TRACES, "diagonal": trace.diagonal, "frobenius": trace.frobenius}
N = 60


def rotated(name, n=N, seed=0):
    return with_eigenvalues(SPECTRA[name](n), np.random.default_rng(seed))


def scaling(values, dtype=np.float64):
    """diag(values) as a bare operator; to probes on the sphere it is as good as any rotation of it."""
    values = np.asarray(values, dtype=dtype)
    return Operator(
        (len(values),) * 2, np.dtype(dtype), lambda X: values[:, None] * X, np.empty(0, dtype=dtype)
    )


def truth(name, A):
    return {"diagonal": np.diag(A), "frobenius": np.linalg.norm(A)}.get(name, np.trace(A))


# ---------------------------------------------------------------- laws on every spectrum


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("name", ALL)
def test_the_interval_of_almost_certainty_holds_the_truth(name, spectrum, scale):
    A = scale * rotated(spectrum)
    estimate = ALL[name](A, max_matvecs=15, rng=1)
    lower, upper = estimate.interval(1 - 1e-9)
    assert np.all(lower <= truth(name, A))
    assert np.all(truth(name, A) <= upper)
    assert np.all(np.asarray(estimate.stderr) >= 0)
    assert estimate.num_matvecs <= 15


@pytest.mark.parametrize("name", ALL)
def test_no_absolute_size_is_known(name):
    A = rotated("network")
    one = ALL[name](A, max_matvecs=15, rng=3)
    for scale in SCALES:
        other = ALL[name](scale * A, max_matvecs=15, rng=3)
        np.testing.assert_allclose(other.value, scale * one.value, rtol=EXACT, atol=0)
        np.testing.assert_allclose(other.stderr, scale * one.stderr, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("name", ALL)
def test_a_budget_of_n_is_exact_to_the_rounding_floor(name, spectrum, dtype):
    A = rotated(spectrum, 25).astype(dtype)
    estimate = ALL[name](A, max_matvecs=25, rng=0)
    assert estimate.num_matvecs == 25
    eps = np.finfo(dtype).eps
    assert np.all(np.abs(estimate.value - truth(name, A.astype(float))) <= estimate.stderr)
    assert np.all(np.asarray(estimate.stderr) <= 6 * eps * np.linalg.norm(A))
    assert estimate.converged


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_smallest_matrices(name, n):
    A = np.diag(np.arange(1.0, n + 1))
    np.testing.assert_allclose(ALL[name](A, max_matvecs=5, rng=0).value, truth(name, A), rtol=EXACT)


@pytest.mark.parametrize("name", ALL)
def test_zero_is_exact_with_error_zero(name):
    estimate = ALL[name](np.zeros((N, N)), max_matvecs=12, rng=0)
    assert np.all(estimate.value == 0)
    assert np.all(estimate.stderr == 0)
    assert np.all(np.array(estimate.interval()) == 0)


# ---------------------------------------------------------------- where the answer is exact, it is exact


def is_exact(estimate, value, norm):
    floor = np.finfo(float).eps * np.sqrt(N) * norm
    assert abs(estimate.value - value) <= 3 * floor
    assert 0.5 * floor <= estimate.stderr <= 4 * floor


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_signs_are_exact_on_a_diagonal_matrix(spectrum):
    values = SPECTRA[spectrum](N)
    is_exact(trace.hutchinson(np.diag(values), max_matvecs=7, rng=0), values.sum(), np.linalg.norm(values))
    estimate = trace.diagonal(np.diag(values), max_matvecs=7, rng=0)
    np.testing.assert_allclose(estimate.value, values, rtol=EXACT)
    assert np.all(estimate.stderr <= 4 * np.finfo(float).eps * np.sqrt(N) * np.abs(values))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("m", [12, 13, 14, 29, 30, 31])
@pytest.mark.parametrize("name", ["hutchpp", "xtrace"])
def test_low_rank_is_exact(name, m, dtype):
    """Rank at most m // 3 for Hutch++, below m // 2 for XTrace; odd budgets too."""
    rank = m // 3 if name == "hutchpp" else m // 2 - 1
    values = np.concatenate([np.linspace(2.0, 1.0, rank) * (-1.0) ** np.arange(rank), np.zeros(N - rank)])
    A = with_eigenvalues(values, np.random.default_rng(5)).astype(dtype)
    estimate = TRACES[name](A, max_matvecs=m, rng=0)
    floor = np.finfo(dtype).eps * np.sqrt(N) * np.linalg.norm(values)
    assert abs(estimate.value - values.sum()) <= 10 * floor
    assert estimate.stderr <= 10 * floor


@pytest.mark.parametrize("name", ["hutchpp", "xtrace"])
def test_multiples_of_the_identity_are_exact(name):
    is_exact(TRACES[name](3.0 * np.eye(N), max_matvecs=11, rng=0), 3.0 * N, 3.0 * np.sqrt(N))
    sphere = trace.hutchinson(3.0 * np.eye(N), max_matvecs=3, probes="sphere", rng=0)
    is_exact(sphere, 3.0 * N, 3.0 * np.sqrt(N))


# ---------------------------------------------------------------- variances are those of the formulas


@pytest.mark.parametrize("kind", ["rademacher", "gaussian", "sphere"])
def test_variance_is_that_of_the_formula(kind):
    A = with_eigenvalues(SPECTRA["network"](40), np.random.default_rng(2)) + np.diag(np.linspace(0, 3, 40))
    norm, tr, n = np.sum(A**2), np.trace(A), 40
    formula = {
        "rademacher": 2 * (norm - np.sum(np.diag(A) ** 2)),
        "gaussian": 2 * norm,
        "sphere": 2 * n / (n + 2) * (norm - tr**2 / n),
    }[kind]
    runs = [trace.hutchinson(A, max_matvecs=39, probes=kind, rng=s) for s in range(200)]
    samples = np.concatenate([run.samples for run in runs])
    assert abs(samples.mean() - tr) <= 4 * np.sqrt(formula / len(samples))
    assert samples.var() == pytest.approx(formula, rel=0.08)  # 200 · 39 samples with heavy tails
    assert np.mean([39 * run.stderr**2 for run in runs]) == pytest.approx(formula, rel=0.05)


@pytest.mark.parametrize("name", ["hutchpp", "xtrace"])
@pytest.mark.parametrize("spectrum", ["flat", "decaying", "network", "indefinite"])
def test_stated_variance_is_the_variance_of_many_runs(name, spectrum):
    values = SPECTRA[spectrum](N)
    runs = [TRACES[name](scaling(values), max_matvecs=18, rng=s) for s in range(250)]
    errors = np.array([run.value for run in runs]) - values.sum()
    assert abs(errors.mean()) <= 4 * errors.std() / 250**0.5
    stated = np.mean([run.stderr**2 for run in runs])
    assert 0.75 * np.mean(errors**2) <= stated <= 2.5 * np.mean(errors**2)


def test_rates_of_convergence():
    """On λ_i = i⁻² Hutchinson's error falls as 1/√m, Hutch++'s as 1/m or faster (Meyer et al., Theorem 1)."""
    values = np.arange(1.0, 401.0) ** -2
    A = with_eigenvalues(values, np.random.default_rng(0))
    budgets = np.array([15, 30, 60, 120])

    def slope(estimator, A):
        rms = [
            np.sqrt(
                np.mean(
                    [(estimator(A, max_matvecs=int(m), rng=s).value - values.sum()) ** 2 for s in range(40)]
                )
            )
            for m in budgets
        ]
        return np.polyfit(np.log(budgets), np.log(rms), 1)[0]

    assert slope(trace.hutchinson, A) == pytest.approx(-0.5, abs=0.2)
    assert slope(trace.hutchpp, scaling(values)) <= -1.0


def test_order_of_the_three_on_exponential_decay():
    values = 0.7 ** np.arange(1, 301)
    error = {
        name: np.median(
            [abs(f(scaling(values), max_matvecs=72, rng=s).value - values.sum()) for s in range(15)]
        )
        for name, f in (("hutchpp", trace.hutchpp), ("xtrace", trace.xtrace))
    }
    A = with_eigenvalues(values, np.random.default_rng(0))
    plain = np.median(
        [abs(trace.hutchinson(A, max_matvecs=72, rng=s).value - values.sum()) for s in range(15)]
    )
    assert 10 * error["xtrace"] <= error["hutchpp"] <= plain / 10


# ---------------------------------------------------------------- intervals are calibrated


SEEDS = 100
CALIBRATED = {
    name: SPECTRA[name](90) for name in ("flat", "decaying", "network", "rank_deficient", "indefinite")
}
CALIBRATED["exponential"] = 0.7 ** np.arange(90)


def covered(name, values, m, seeds=SEEDS, **options):
    A = scaling(values) if name != "hutchinson" else with_eigenvalues(values, np.random.default_rng(9))
    right = np.linalg.norm(values) if name == "frobenius" else values.sum()
    runs = [ALL[name](A, max_matvecs=m, rng=s, **options) for s in range(seeds)]
    inside = [lower <= right <= upper for lower, upper in (run.interval(0.95) for run in runs)]
    return float(np.mean(inside)), runs


@pytest.mark.parametrize("m", [10, 30])
@pytest.mark.parametrize("name", ["hutchinson", "hutchpp", "xtrace", "frobenius"])
def test_intervals_of_95_percent_cover_that_often(name, m):
    """Each spectrum alone above what chance leaves of 92 %, all together above 92 %."""
    found = {key: covered(name, values, m)[0] for key, values in CALIBRATED.items()}
    assert min(found.values()) >= 0.88, found
    assert np.mean(list(found.values())) >= 0.925, found


def test_the_plain_spread_of_xtrace_is_optimistic_and_ours_is_not():
    values = CALIBRATED["exponential"]
    ours, runs = covered("xtrace", values, 10)
    spread = [student.ppf(0.975, 4) * run.samples.std(ddof=1) / np.sqrt(5) for run in runs]
    plain = np.mean([abs(r.value - values.sum()) <= s for r, s in zip(runs, spread, strict=True)])
    assert plain < 0.91 < 0.93 <= ours


@pytest.mark.parametrize("dof", [1, 2, 3, 5, 10, 30, 100, 1000])
def test_intervals_hold_for_any_multiple_of_a_projection(dof):
    """The estimate is then c = χ²_ν / ν, its stated error √(2 c / ν): the probability has a closed form."""
    half = -trace.Estimate(0.0, np.sqrt(2 / dof), dof=float(dof)).interval(0.95)[0]  # |c − 1| ≤ half √c
    lower, upper = (((sign * half + np.sqrt(half**2 + 4)) / 2) ** 2 for sign in (-1, 1))
    assert 0.95 <= chi2.cdf(upper * dof, dof) - chi2.cdf(lower * dof, dof) <= 0.956


def test_diagonal_intervals_cover_entry_by_entry():
    A = rotated("network", 90)
    inside = []
    for seed in range(60):
        lower, upper = trace.diagonal(A, max_matvecs=10, rng=seed).interval(0.95)
        inside.append(np.mean((lower <= np.diag(A)) & (np.diag(A) <= upper)))
    assert 0.93 <= np.mean(inside) <= 0.98


@pytest.mark.parametrize("name", TRACES)
def test_stopping_early_keeps_the_coverage(name):
    rtol = 0.3 if name == "hutchinson" else 0.15
    found, runs = covered(name, CALIBRATED["network"] + 0.05, 80, rtol=rtol)
    assert found >= 0.93
    assert min(run.num_matvecs for run in runs) < 80
    for run in runs:
        lower, upper = run.interval(0.95)
        assert run.converged == ((upper - lower) / 2 <= rtol * abs(run.value))


def test_every_look_is_paid_for():
    """Looks after 10, 20, 40 and 80 products: each at a quarter of the error probability."""
    A = rotated("indefinite", 90)
    estimate = trace.hutchinson(A, max_matvecs=80, rtol=1e-9, rng=0)
    assert estimate.looks == 4
    assert trace.hutchinson(A, max_matvecs=80, rng=0).looks == 1
    lower, upper = estimate.interval(0.8)
    assert (upper - lower) / 2 == pytest.approx(student.ppf(0.975, estimate.dof) * estimate.stderr)


def test_batches_together_are_one_sample():
    rng = np.random.default_rng(0)
    W, Y = rng.choice([-1.0, 1.0], (7, 40)), rng.standard_normal((7, 40)) + 5.0
    entries, tally = probes.Entries(), probes.Tally()
    for a, b in ((0, 16), (16, 29), (29, 40)):
        entries = entries.joined(W[:, a:b], Y[:, a:b])
        tally += probes.quadratic_forms(W[:, a:b], Y[:, a:b], "gaussian")
    np.testing.assert_allclose(entries.mean, np.mean(W * Y, axis=1), rtol=EXACT)
    np.testing.assert_allclose(entries.squares / 39, np.var(W * Y, axis=1, ddof=1), rtol=EXACT)
    np.testing.assert_allclose(tally.forms, np.sum(W * Y, axis=0), rtol=EXACT)
    assert tally.variance == pytest.approx(2 * np.mean(np.sum(Y**2, axis=0)), rel=EXACT)


def test_a_tolerance_out_of_reach_is_marked():
    A = rotated("indefinite")
    assert not trace.hutchinson(A, max_matvecs=20, rtol=1e-6, rng=0).converged
    exact = trace.hutchinson(A, max_matvecs=3 * N, rtol=1e-6, rng=0)
    assert exact.converged
    assert exact.num_matvecs <= 2 * N + 1
    assert exact.value == pytest.approx(np.trace(A), rel=EXACT)


@pytest.mark.parametrize("name", ALL)
def test_an_interrupt_keeps_what_was_found(name):
    values = SPECTRA["network"](N)
    calls = []

    def product(X):
        calls.append(X.shape[1])
        if sum(calls) > 24:
            raise KeyboardInterrupt
        return values[:, None] * X

    A = Operator((N, N), np.dtype(float), product, np.empty(0))
    estimate = ALL[name](A, max_matvecs=50, rng=0)
    assert not estimate.converged
    assert np.all(np.isfinite(estimate.value))
    with pytest.raises(KeyboardInterrupt):
        ALL[name](A, max_matvecs=50, rng=0)


# ---------------------------------------------------------------- every kind of array and operator


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ALL)
def test_torch_gives_what_numpy_gives(name, dtype):
    torch = pytest.importorskip("torch")
    A = rotated("network").astype(dtype)
    ours = ALL[name](A, max_matvecs=14, rng=0)
    theirs = ALL[name](torch.from_numpy(A), max_matvecs=14, rng=0)
    tolerance = {"rtol": SINGLE, "atol": SINGLE} if dtype == "float32" else {"rtol": EXACT, "atol": EXACT}
    np.testing.assert_allclose(np.asarray(theirs.value), ours.value, **tolerance)
    np.testing.assert_allclose(np.asarray(theirs.stderr), ours.stderr, rtol=1e-2, atol=1e-5)
    assert isinstance(theirs.value, torch.Tensor) == (name == "diagonal")


@pytest.mark.parametrize("name", ALL)
def test_sparse_matrices_and_bare_objects(name):
    A = sparse.diags([np.arange(N), np.ones(N - 1), np.ones(N - 1)], [0, 1, -1], format="csr")

    class Bare:
        shape = (N, N)

        def __matmul__(self, x):
            return A @ x

    dense = ALL[name](A.toarray(), max_matvecs=9, rng=0)
    for other in (A, Bare()):
        np.testing.assert_allclose(
            ALL[name](other, max_matvecs=9, rng=0).value, dense.value, rtol=EXACT, atol=EXACT
        )


@pytest.mark.parametrize("name", ALL)
def test_a_seed_fixes_the_answer(name):
    A = rotated("network")
    first, again, other = (ALL[name](A, max_matvecs=9, rng=seed).value for seed in (0, generator(0), 1))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)
    with pytest.raises(TypeError, match="rng"):
        ALL[name](A, max_matvecs=9)


def test_memory_does_not_grow_with_the_number_of_probes():
    widths = []

    def product(X):
        widths.append(X.shape[1])
        return X

    A = Operator((500, 500), np.dtype(float), product, np.empty(0))
    for f in (trace.hutchinson, trace.diagonal, trace.frobenius):
        widths.clear()
        assert f(A, max_matvecs=101, rng=0).num_matvecs == sum(widths) == 101
        assert max(widths) <= probes.BATCH


# ---------------------------------------------------------------- what an estimate says


@pytest.mark.parametrize(
    ("value", "stderr", "text"),
    [
        (2.6512, 0.0912, "2.65 ± 0.09 (48 matvecs)"),
        (2.6512, 0.1312, "2.65 ± 0.13 (48 matvecs)"),
        (80187.3, 93.0, "80190 ± 90 (48 matvecs)"),
        (-2.6e-13, 3e-15, "(-2.60 ± 0.03)e-13 (48 matvecs)"),
        (3.0e8, 2.1e6, "(3.00 ± 0.02)e+08 (48 matvecs)"),
        (3.0, 4e-15, "3 ± 4e-15 (48 matvecs)"),
        (0.0, 0.0, "0 ± 0e+00 (48 matvecs)"),
        (1.0, np.inf, "1 ± inf (48 matvecs)"),
    ],
)
def test_an_estimate_prints_its_error(value, stderr, text):
    assert str(trace.Estimate(value, stderr, num_matvecs=48)) == text


def test_an_interval_is_students():
    estimate = trace.Estimate(1.0, 0.5, dof=4.0)
    lower, upper = estimate.interval(0.9)
    assert (upper - lower) / 2 == pytest.approx(0.5 * student.ppf(0.95, 4))
    assert trace.Estimate(1.0, 0.5, dof=4.0, bias=0.1).interval(0.9)[1] == pytest.approx(upper + 0.1)
    lower, upper = trace.Estimate(2.0, 0.5, dof=4.0, positive=True).interval(0.9)
    assert lower * upper == pytest.approx(4.0)


# ---------------------------------------------------------------- every error message


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda A: trace.hutchinson(A, max_matvecs=1, rng=0),
            "max_matvecs = 1; expected at least 2 products",
        ),
        (lambda A: trace.hutchpp(A, max_matvecs=2, rng=0), "max_matvecs = 2; expected at least 3 products"),
        (lambda A: trace.xtrace(A, max_matvecs=3, rng=0), "max_matvecs = 3; expected at least 4 products"),
        (lambda A: trace.diagonal(A, max_matvecs=0, rng=0), "max_matvecs = 0; expected at least 2 products"),
        (lambda A: trace.frobenius(A, max_matvecs=1, rng=0), "give a larger budget"),
        (lambda A: trace.xtrace(A, max_matvecs=9, rtol=0.0, rng=0), "rtol = 0.0; expected a positive number"),
        (lambda A: trace.hutchinson(A, max_matvecs=9, probes="sign", rng=0), "probes = 'sign'; expected"),
        (lambda A: trace.hutchinson(A[:, :3], max_matvecs=9, rng=0), "expected a square matrix"),
        (lambda A: trace.xtrace(A + 1j, max_matvecs=9, rng=0), "complex"),
        (lambda A: trace.xtrace(A * np.nan, max_matvecs=9, rng=0), "NaN"),
        (lambda A: trace.hutchpp(np.triu(np.ones((9, 9))), max_matvecs=6, rng=0), "not symmetric"),
        (lambda A: trace.hutchpp(np.empty((0, 0)), max_matvecs=9, rng=0), "empty"),
        (lambda A: trace.Estimate(1.0, 0.1).interval(95), "level = 95; expected a probability"),
    ],
)
def test_errors_are_sentences(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.eye(20))


@pytest.mark.parametrize(
    ("product", "message"),
    [
        (lambda X: X * np.nan, "product 1 with A holds NaN or infinity; expected finite numbers"),
        (lambda X: X[:-1], r"product 1 with A has shape \(19, 9\); expected \(20, 9\)"),
    ],
)
def test_wrong_products_are_refused(product, message):
    with pytest.raises(ValueError, match=message):
        trace.hutchinson(Operator((20, 20), np.dtype(float), product, np.empty(0)), max_matvecs=9, rng=0)


# ---------------------------------------------------------------- the laws, right and wrong


def rademacher(A, m, rng):
    return np.random.default_rng(rng).integers(0, 2, (len(A), m)) * 2.0 - 1.0


def with_probes(draw, combine):
    def estimator(A, *, max_matvecs, rng):
        W = draw(np.random.default_rng(rng), (len(A), max_matvecs))
        return combine(W, A @ W)

    return estimator


def signs(rng, shape):
    return rng.integers(0, 2, shape) * 2.0 - 1.0


def unit(rng, shape):
    G = rng.standard_normal(shape)
    return G / np.linalg.norm(G, axis=0)


def mean_form(W, Y):
    return np.mean(np.sum(W * Y, axis=0))


def my_hutchpp(A, *, max_matvecs, rng, orthonormal=True, project=True, inside=True):
    rng, k = np.random.default_rng(rng), max_matvecs // 3
    Q = A @ signs(rng, (len(A), k))
    Q = np.linalg.qr(Q)[0] if orthonormal else Q / np.linalg.norm(Q, axis=0)
    W = signs(rng, (len(A), k))
    W = W - Q @ (Q.T @ W) if project else W
    return inside * np.trace(Q.T @ A @ Q) + mean_form(W, A @ W)


MUTANTS = [
    (laws.trace_of_diagonal, trace.hutchinson, ""),
    (laws.trace_of_diagonal, with_probes(signs, mean_form), ""),
    (laws.trace_of_diagonal, with_probes(signs, lambda W, Y: np.sum(W * Y)), "sum-for-mean"),
    (laws.trace_of_diagonal, with_probes(lambda r, s: r.standard_normal(s), mean_form), "not-signs"),
    (laws.trace_of_diagonal, with_probes(lambda r, s: signs(r, s) / s[0] ** 0.5, mean_form), "unit-probes"),
    (laws.trace_of_diagonal, with_probes(signs, lambda W, Y: (mean_form(W, Y), 1.0)), "error-of-exact"),
    (laws.trace_of_diagonal, with_probes(signs, lambda W, Y: None), "returns-nothing"),
    (laws.unbiased, trace.hutchinson, ""),
    (laws.unbiased, trace.hutchpp, ""),
    (laws.unbiased, trace.xtrace, ""),
    (laws.unbiased, with_probes(unit, mean_form), "unit-probes"),
    (laws.unbiased, with_probes(lambda r, s: r.uniform(-1, 1, s), mean_form), "uniform-probes"),
    (laws.unbiased, with_probes(signs, lambda W, Y: np.sum(W * Y)), "sum-for-mean"),
    (laws.unbiased, with_probes(signs, lambda W, Y: 1.2 * mean_form(W, Y)), "biased"),
    (laws.captures_low_rank, trace.hutchpp, ""),
    (laws.captures_low_rank, trace.xtrace, ""),
    (laws.captures_low_rank, my_hutchpp, ""),
    (laws.captures_low_rank, trace.hutchinson, "no-sketch"),
    (laws.captures_low_rank, lambda A, **k: my_hutchpp(A, orthonormal=False, **k), "no-sketch"),
    (laws.captures_low_rank, lambda A, **k: my_hutchpp(A, inside=False, **k), "no-sketch-part"),
    (laws.unbiased, lambda A, **k: my_hutchpp(A, project=False, **k), "biased"),
    (laws.unbiased, lambda A, *, max_matvecs, rng: 1.3 * np.trace(A), "same-runs"),
    (laws.trace_of_diagonal, with_probes(signs, lambda W, Y: np.float32(mean_form(W, Y))), ""),
    (
        laws.probe_variance,
        lambda A, kind: 2 * (np.sum(A**2) - (kind == "rademacher") * np.sum(np.diag(A) ** 2)),
        "",
    ),
    (laws.probe_variance, lambda A, kind: 2 * np.sum(A**2), "gaussian-for-rademacher"),
    (laws.probe_variance, lambda A, kind: np.sum(A**2) - np.sum(np.diag(A) ** 2), "half"),
    (laws.probe_variance, lambda A, kind: 2 * (np.sum(A**2) - np.trace(A) ** 2), "trace-for-diagonal"),
    (laws.standard_error, lambda x: np.std(x, ddof=1) / np.sqrt(len(x)), ""),
    (laws.standard_error, lambda x: np.std(x, ddof=1), "deviation-for-error"),
    (laws.standard_error, np.std, "population-deviation"),
    (laws.standard_error, lambda x: np.var(x, ddof=1) / len(x), "variance-for-error"),
    (laws.standard_error, lambda x: np.std(x) / np.sqrt(len(x)), "population"),
    (laws.standard_error, lambda x: np.std(x, ddof=1) / len(x), "divided-by-m"),
    (
        laws.interval,
        lambda x, level: student.interval(level, len(x) - 1, x.mean(), x.std(ddof=1) / 5**0.5),
        "",
    ),
    (
        laws.interval,
        lambda x, level: x.mean() + np.array([-1.96, 1.96]) * x.std(ddof=1) / 5**0.5,
        "normal-quantile",
    ),
    (
        laws.interval,
        lambda x, level: student.interval(level, 4, x.mean(), x.std(ddof=1)),
        "deviation-for-error",
    ),
    (
        laws.interval,
        lambda x, level: x.mean() + np.array([-1, 1]) * student.ppf(level, 4) * x.std(ddof=1) / 5**0.5,
        "one-sided",
    ),
    (laws.interval, lambda x, level: student.interval(level, 5, x.mean(), x.std(ddof=1) / 5**0.5), "dof"),
    (laws.diagonal_entries, trace.diagonal, ""),
    (laws.diagonal_entries, with_probes(signs, lambda W, Y: np.mean(W * Y, axis=1)), ""),
    (laws.diagonal_entries, with_probes(signs, lambda W, Y: np.sum(W * Y, axis=1)), "sum-for-mean"),
    (laws.diagonal_entries, with_probes(signs, lambda W, Y: np.mean(Y, axis=1)), "not-multiplied"),
    (laws.diagonal_entries, with_probes(signs, lambda W, Y: np.roll(np.mean(W * Y, axis=1), 1)), "shifted"),
    (laws.diagonal_entries, with_probes(signs, lambda W, Y: np.mean(Y * Y, axis=1)), "squared"),
    (laws.diagonal_entries, with_probes(signs, lambda W, Y: np.mean(W * Y, axis=0)), "shape"),
    (laws.norm_of_isometry, trace.frobenius, ""),
    (laws.norm_of_isometry, with_probes(signs, lambda W, Y: np.mean(np.sum(Y * Y, axis=0))), "square"),
    (
        laws.norm_of_isometry,
        with_probes(unit, lambda W, Y: np.mean(np.sum(Y * Y, axis=0)) ** 0.5),
        "unit-probes",
    ),
    (laws.norm_of_isometry, with_probes(signs, lambda W, Y: np.linalg.norm(Y)), "sum-for-mean"),
]


@pytest.mark.parametrize(("law", "implementation", "diagnosis"), MUTANTS)
def test_laws_name_the_mistake(law, implementation, diagnosis):
    for seed in (0, 1):
        violation = law(implementation, rng=seed, advice="Section 2.")
        assert (violation.diagnosis if violation else "") == diagnosis, violation
        if diagnosis in ("biased", "not-signs", "no-sketch", "not-multiplied", "error-of-exact"):
            assert "Section 2." in violation.advice
