"""Spectral densities: exact quadratures, brackets that hold, calibrated bands, every error message."""

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import wasserstein_distance
from spectra import SCALES, SPECTRA, with_eigenvalues

from hesslab.checks.laws import density as laws
from hesslab.checks.laws.feedback import EXACT, SINGLE
from hesslab.density import slq
from hesslab.matrices import goe
from hesslab.operators import Operator, generator

N = 60


def rotated(name, n=N, seed=0):
    return with_eigenvalues(SPECTRA[name](n), np.random.default_rng(seed))


def scaling(values):
    """diag(values) as a bare operator; to probes on the sphere it is as good as any rotation of it."""
    values = np.asarray(values, dtype=float)
    return Operator((len(values),) * 2, np.dtype(float), lambda X: values[:, None] * X, np.empty(0))


def starts(n, num_probes, seed):
    """The unit vectors that `slq` draws."""
    rng = generator(seed)
    vectors = [rng.standard_normal((n, 1))[:, 0] for _ in range(num_probes)]
    return [v / np.linalg.norm(v) for v in vectors]


# ---------------------------------------------------------------- laws on every spectrum


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_each_probe_is_exact_to_degree_2k_minus_1(spectrum, scale):
    A, k = rotated(spectrum), 6
    measure = slq(scale * A, num_steps=k, num_probes=3, rng=4)
    for v, nodes, weights in zip(starts(N, 3, 4), measure.nodes, measure.weights, strict=True):
        w = v
        for degree in range(2 * k):
            moment = np.sum(weights * (nodes / scale) ** degree)
            assert abs(moment - v @ w) <= EXACT * np.abs(np.linalg.eigvalsh(A)).max() ** degree
            w = A @ w


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_weights_are_a_distribution_and_nodes_lie_in_the_spectrum(spectrum):
    values = SPECTRA[spectrum](N)
    measure = slq(rotated(spectrum), num_steps=12, num_probes=4, rng=0)
    assert measure.nodes.shape == measure.weights.shape
    assert len(measure.nodes) == 4
    np.testing.assert_allclose(measure.weights.sum(axis=1), 1.0, rtol=EXACT)
    assert np.all(measure.weights >= 0)
    assert np.all(np.diff(measure.nodes, axis=1) >= 0)
    slack = EXACT * max(np.abs(values).max(), 1.0)
    assert values.min() - slack <= measure.nodes.min() <= measure.nodes.max() <= values.max() + slack


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_mass_is_bracketed_for_each_probe(spectrum):
    """Each probe's own measure, computed from all eigenvectors, is in its bracket."""
    A = rotated(spectrum)
    values, V = np.linalg.eigh(A)
    span = max(np.ptp(values), 1.0)
    for seed in range(5):
        measure, (v,) = slq(A, num_steps=8, num_probes=1, rng=seed), starts(N, 1, seed)
        for a, b in ((-0.31, 0.47), (0.123, 0.9), (-9.9, 0.0101), (0.0099, 0.5)):
            estimate = measure.mass(a * span, b * span)
            exact = np.sum((V.T @ v)[(values >= a * span) & (values <= b * span)] ** 2)
            assert abs(exact - estimate.value) <= estimate.bias + EXACT


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("scale", SCALES)
def test_the_interval_of_almost_certainty_holds_the_truth(spectrum, scale):
    values = scale * SPECTRA[spectrum](N)
    measure = slq(scaling(values), num_steps=15, num_probes=3, rng=2)
    cut = np.median(values) + 0.1234 * max(np.ptp(values), scale)
    width = 0.2 * max(np.ptp(values), scale)
    grid = np.linspace(values.min(), values.max(), 7)
    bells = np.exp(-(((grid[:, None] - values) / width) ** 2) / 2) / width / np.sqrt(2 * np.pi)
    for estimate, right in (
        (measure.integrate(lambda x: (x / scale) ** 2), np.mean((values / scale) ** 2)),
        (measure.mass(cut, 99 * scale), np.mean(values >= cut)),
        (measure.density(grid, width), bells.mean(axis=1)),
    ):
        lower, upper = estimate.interval(1 - 1e-9)
        tiny = EXACT * np.max(np.abs(right))
        assert np.all(lower - tiny <= right)
        assert np.all(right <= upper + tiny)


@pytest.mark.parametrize("name", ["rank_deficient", "identity", "zero", "repeated"])
def test_a_closed_krylov_space_leaves_no_bias(name):
    values = np.unique(SPECTRA[name](N)) if name == "repeated" else SPECTRA[name](N)
    measure = slq(scaling(values), num_steps=N, num_probes=2, rng=0)
    assert measure.num_matvecs <= 2 * len(values)
    assert measure.integrate(np.exp).bias == pytest.approx(0.0, abs=EXACT)
    assert measure.mass(values.min() - 1.0, values.max() + 1.0).value == pytest.approx(1.0, abs=EXACT)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_smallest_matrices(n):
    measure = slq(np.diag(np.arange(1.0, n + 1)), num_steps=5, num_probes=2, rng=0)
    assert measure.mass(0.0, n + 1.0).value == pytest.approx(1.0)
    assert measure.integrate(np.ones_like).value == pytest.approx(1.0)
    assert measure.nodes.shape == (2, n)


# ---------------------------------------------------------------- what it is for


def test_a_bulk_beside_outliers_a_thousand_times_larger_is_resolved():
    """99.7 % of the eigenvalues lie in [0, 0.01], the others are 10, 5 and 2; 80 products."""
    values = SPECTRA["two_scales"](1000)
    measure = slq(scaling(values), num_steps=20, num_probes=4, rng=0)
    bulk = measure.mass(-0.001, 0.011)
    assert abs(bulk.value - 0.997) <= 0.003
    assert bulk.bias < 1e-6
    assert bulk.stderr < 0.002
    assert bulk.interval()[0] <= 0.997 <= bulk.interval()[1]
    half = measure.mass(-0.001, 0.005)  # its end lies inside the bulk: the bracket says so
    assert half.interval()[0] <= 0.4985 <= half.interval()[1]
    assert half.bias > 100 * bulk.bias


def test_distance_to_the_spectrum_falls_with_the_steps():
    values = SPECTRA["network"](200)
    distances = []
    for k in (5, 10, 20, 40):
        measure = slq(scaling(values), num_steps=k, num_probes=10, rng=0)
        nodes, weights = measure.nodes.ravel(), measure.weights.ravel()
        distances.append(wasserstein_distance(nodes, values, weights))
    assert np.all(np.diff(distances) < 0.005 * np.ptp(values))
    assert distances[-1] < distances[0]


def test_trace_of_an_exponential():
    values = SPECTRA["flat"](N)
    measure = slq(rotated("flat"), num_steps=10, num_probes=30, rng=0)
    estimate = measure.integrate(np.exp)
    lower, upper = estimate.interval()
    assert lower <= np.mean(np.exp(values)) <= upper
    assert estimate.stderr == pytest.approx(estimate.samples.std(ddof=1) / 30**0.5, rel=0.4)
    assert str(estimate).endswith("(300 matvecs)")


def test_a_width_finer_than_the_steps_shows_as_a_wide_band():
    measure = slq(scaling(SPECTRA["flat"](500)), num_steps=8, num_probes=4, rng=0)
    grid = np.linspace(0.5, 1.0, 200)
    coarse, fine = (measure.density(grid, width) for width in (0.2, 0.002))
    assert np.max(coarse.bias / np.max(coarse.value)) < 0.01
    assert np.max(fine.bias / np.max(fine.value)) > 0.1
    assert coarse.value.shape == coarse.stderr.shape == (200,)
    wide = np.linspace(-1.0, 2.5, 2000)
    assert np.trapezoid(measure.density(wide, 0.2).value, wide) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("num_probes", [1, 4])
@pytest.mark.parametrize("spectrum", ["flat", "network", "rank_deficient", "indefinite"])
def test_bands_are_calibrated(spectrum, num_probes):
    """Even from one probe: its own weights say how far it strays."""
    values = SPECTRA[spectrum](90)
    A, inside, seeds = scaling(values), [], 60
    grid, width = np.linspace(values.min(), values.max(), 4), 0.2 * np.ptp(values)
    bells = np.exp(-(((grid[:, None] - values) / width) ** 2) / 2) / width / np.sqrt(2 * np.pi)
    for seed in range(seeds):
        measure = slq(A, num_steps=12, num_probes=num_probes, rng=seed)
        lower, upper = measure.density(grid, width).interval(0.95)
        right = bells.mean(axis=1)
        inside.append(np.mean((lower <= right) & (right <= upper)))
        lower, upper = measure.integrate(np.square).interval(0.95)
        inside.append(lower <= np.mean(values**2) <= upper)
    assert np.mean(inside) >= 0.92


# ---------------------------------------------------------------- every kind of array, and every error


def test_torch_and_sparse_give_what_numpy_gives():
    torch = pytest.importorskip("torch")
    A = rotated("network")
    ours = slq(A, num_steps=8, num_probes=2, rng=0)
    for other, tolerance in (
        (torch.from_numpy(A), EXACT),
        (sparse.csr_array(A), EXACT),
        (torch.from_numpy(A.astype(np.float32)), SINGLE),
    ):
        theirs = slq(other, num_steps=8, num_probes=2, rng=0)
        assert isinstance(theirs.nodes, np.ndarray)
        right = ours.integrate(np.square).value
        assert theirs.integrate(np.square).value == pytest.approx(right, rel=10 * tolerance)


def test_a_seed_fixes_the_answer():
    A = rotated("network")
    first, again, other = (slq(A, num_steps=5, num_probes=2, rng=s).nodes for s in (0, generator(0), 1))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)
    with pytest.raises(TypeError, match="rng"):
        slq(A, num_steps=5, num_probes=2)


@pytest.mark.parametrize("seed", range(5))
def test_a_matrix_of_the_same_seed_is_independent_of_the_probes(seed):
    A = goe(400, rng=seed)
    inside = slq(A, num_steps=20, num_probes=4, rng=seed).mass(-1.0, 1.0)
    truth = np.mean(np.abs(np.linalg.eigvalsh(A)) <= 1.0)
    assert abs(inside.value - truth) < 0.05  # by 0.2 where the first probe is the first row of the matrix


def test_an_interrupt_keeps_the_complete_probes():
    values, calls = SPECTRA["network"](N), []

    def product(X):
        calls.append(1)
        if len(calls) > 17:
            raise KeyboardInterrupt
        return values[:, None] * X

    A = Operator((N, N), np.dtype(float), product, np.empty(0))
    assert len(slq(A, num_steps=5, num_probes=9, rng=0).nodes) == 3
    with pytest.raises(KeyboardInterrupt):
        slq(A, num_steps=5, num_probes=9, rng=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda A: slq(A, num_steps=1, num_probes=3, rng=0), "num_steps = 1; expected at least 2"),
        (lambda A: slq(A, num_steps=5, num_probes=0, rng=0), "num_probes = 0; expected at least 1"),
        (lambda A: slq(A[:, :3], num_steps=5, num_probes=1, rng=0), "expected a square matrix"),
        (lambda A: slq(A * np.nan, num_steps=5, num_probes=1, rng=0), "NaN"),
        (lambda A: slq(A, num_steps=5, num_probes=1, rng=0).mass(1.0, 1.0), "expected a < b"),
        (
            lambda A: slq(A, num_steps=5, num_probes=1, rng=0).density([0.0], 0.0),
            "width = 0.0; expected the positive",
        ),
        (
            lambda A: slq(A, num_steps=5, num_probes=1, rng=0).integrate(np.log),
            "f is not finite at the node -",
        ),
        (
            lambda A: slq(A, num_steps=5, num_probes=1, rng=0).integrate(np.sum),
            r"f answered shape \(\); expected",
        ),
    ],
)
def test_errors_are_sentences(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.diag(np.linspace(-1.0, 1.0, 20)))


# ---------------------------------------------------------------- the laws, right and wrong


def rule(T):
    theta, S = np.linalg.eigh(T)
    return theta, S[0] ** 2


def reordered(T):
    theta, weights = rule(T)
    return theta[::-1], weights[::-1]


def from_eigenvectors(weights):
    return lambda T: (np.linalg.eigvalsh(T), weights(np.linalg.eigh(T)[1]))


def lanczos(A, v, k, *, normalize=True, drop_beta=False):
    q, before, beta = v / np.linalg.norm(v), 0.0 * v, 0.0
    alphas, betas = [], []
    for _ in range(k):
        w = A @ q - beta * before
        alphas.append(q @ w)
        w = w - alphas[-1] * q
        beta = np.linalg.norm(w)
        betas.append(beta)
        q, before = w / beta, q
    b = np.array(betas[:-1]) * (not drop_beta)
    theta, weights = rule(np.diag(alphas) + np.diag(b, 1) + np.diag(b, -1))
    return theta, weights * (1.0 if normalize else v @ v)


def density(nodes, weights, grid, width, norm=None, exponent=2.0, power=2.0):
    z = (grid[:, None, None] - nodes) / width ** (power / 2)
    return np.mean(np.sum(weights * np.exp(-(z**2) / exponent), axis=2), axis=1) / (
        norm or width * np.sqrt(2 * np.pi)
    )


MUTANTS = [
    (laws.quadrature_of_tridiagonal, rule, ""),
    (laws.quadrature_of_tridiagonal, reordered, ""),
    (laws.quadrature_of_tridiagonal, from_eigenvectors(lambda S: np.abs(S[0])), "not-squared"),
    (laws.quadrature_of_tridiagonal, from_eigenvectors(lambda S: S[0]), "signed"),
    (laws.quadrature_of_tridiagonal, from_eigenvectors(lambda S: S[:, 0] ** 2), "first-eigenvector"),
    (laws.quadrature_of_tridiagonal, from_eigenvectors(lambda S: np.sum(S**2, axis=0)), "all-components"),
    (
        laws.quadrature_of_tridiagonal,
        from_eigenvectors(lambda S: np.mean(S**2, axis=0)),
        "all-components-mean",
    ),
    (laws.quadrature_of_tridiagonal, from_eigenvectors(lambda S: S[-1] ** 2), "last-component"),
    (laws.quadrature_of_tridiagonal, from_eigenvectors(lambda S: S**2), "shape"),
    (laws.quadrature_of_tridiagonal, lambda T: (np.abs(np.linalg.eigvalsh(T)), rule(T)[1]), "modulus"),
    (laws.quadrature_of_tridiagonal, lambda T: rule(T)[1], "not-a-pair"),
    (laws.quadrature_of_tridiagonal, lambda T: None, "not-a-pair"),
    (laws.exact_to_degree, lanczos, ""),
    (laws.exact_to_degree, lambda A, v, k: lanczos(A, v, k, normalize=False), "not-normalized"),
    (laws.exact_to_degree, lambda A, v, k: lanczos(A, v, k - 1), "few-steps"),
    (laws.exact_to_degree, lambda A, v, k: lanczos(A, v, k, drop_beta=True), "low-degree"),
    (laws.exact_to_degree, lambda A, v, k: (lanczos(A, v, k)[0], np.ones(k)), "weights"),
    (laws.mass_between, lambda x, w, a, b: np.mean(np.sum(w * ((x >= a) & (x <= b)), axis=1)), ""),
    (laws.mass_between, lambda x, w, a, b: np.mean((x >= a) & (x <= b)), "counts-nodes"),
    (laws.mass_between, lambda x, w, a, b: np.sum(w * ((x >= a) & (x <= b))), "sum-over-probes"),
    (laws.mass_between, lambda x, w, a, b: np.mean(w * ((x >= a) & (x <= b))), "mean-weight"),
    (laws.mass_between, lambda x, w, a, b: np.mean(np.sum(w * (x <= b), axis=1)), "one-end"),
    (laws.isotropic_starts, lambda A, **k: (lambda m: (m.nodes, m.weights))(slq(A, **k)), ""),
    (laws.smoothed_density, density, ""),
    (laws.smoothed_density, lambda x, w, g, s: density(x, w, g, s, norm=1.0), "not-a-density"),
    (laws.smoothed_density, lambda x, w, g, s: density(x, w, g, s**0.5), "variance-for-width"),
    (laws.smoothed_density, lambda x, w, g, s: density(x, w, g, s, power=1.0), "width-not-squared"),
    (laws.smoothed_density, lambda x, w, g, s: density(x, w, g, s, exponent=1.0), "no-half"),
    (laws.smoothed_density, lambda x, w, g, s: density(x, np.full_like(w, 0.2), g, s), "unweighted"),
    (laws.smoothed_density, lambda x, w, g, s: 3 * density(x, w, g, s), "sum-over-probes"),
]


@pytest.mark.parametrize(("law", "implementation", "diagnosis"), MUTANTS)
def test_laws_name_the_mistake(law, implementation, diagnosis):
    for seed in (0, 1):
        violation = law(implementation, rng=seed, advice="Section 2.")
        assert (violation.diagnosis if violation else "") == diagnosis, violation
