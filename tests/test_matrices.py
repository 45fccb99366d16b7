"""Matrices: the spectra promised, on nasty lists and in the limit of large size; every error message."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.linalg import hilbert as scipys_hilbert
from scipy.stats import kstest, ortho_group

from hesslab import matrices
from hesslab.checks.laws.feedback import EXACT

SPECTRA = {
    "decaying": 0.7 ** np.arange(40),
    "indefinite": np.linspace(-3, 2, 40),
    "clustered": np.repeat([1.0, 1 + 1e-7, -2.0], 7),
    "repeated": np.repeat([5.0, 0.0, -5.0], 4),
    "rank one": np.append(np.zeros(19), 4.0),
    "identity": np.ones(12),
    "zero": np.zeros(4),
    "two scales": np.append(np.geomspace(1e-9, 1e-8, 10), [1e6, 2e6]),
    "tiny": 1e-13 * np.arange(9.0),
    "huge": 1e8 * np.arange(9.0),
    "one": np.array([-2.0]),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_spectrum_is_the_one_given(name):
    values = SPECTRA[name]
    A = matrices.with_spectrum(values, rng=0)
    assert np.array_equal(A, A.T)
    error = np.abs(np.linalg.eigvalsh(A) - np.sort(values)).max()
    assert error <= EXACT * np.abs(values).max()
    assert np.array_equal(A, matrices.with_spectrum(values, rng=0))


def test_basis_is_uniform():
    """An entry off the diagonal is distributed as with SciPy's uniform orthogonal matrices."""
    n, trials = 4, 400
    rng = np.random.default_rng(0)
    ours = [matrices.with_spectrum(np.arange(n), rng=rng)[0, 1] for _ in range(trials)]
    Q = ortho_group(n, seed=1).rvs(trials)
    scipys = np.einsum("tj,j,tj->t", Q[:, 0], np.arange(n), Q[:, 1])
    assert kstest(ours, scipys).pvalue > 0.01


def test_marchenko_pastur_edges_and_zeros():
    """Fact 16, to 3 %: the edges, and for γ = 4 a mass of 3/4 at zero."""
    values = np.linalg.eigvalsh(matrices.wishart(2000, 500, rng=0))
    assert values[[0, -1]] == pytest.approx([0.25, 2.25], rel=0.03)
    values = np.linalg.eigvalsh(matrices.wishart(200, 800, rng=0))
    zero = values < EXACT * values[-1]
    assert zero.mean() == 0.75
    assert [values[~zero][0], values[-1]] == pytest.approx([1.0, 9.0], rel=0.05)


@pytest.mark.parametrize(("spike", "gamma"), [(2.0, 0.25), (3.0, 0.25), (5.0, 0.25), (4.0, 0.5)])
def test_a_large_spike_leaves_the_bulk(spike, gamma):
    """Fact 17, to 6 %: Baik, Ben Arous and Péché's ℓ (1 + γ/(ℓ−1))."""
    values = np.linalg.eigvalsh(matrices.spiked(2000, int(2000 * gamma), [spike], rng=0))
    assert values[-1] == pytest.approx(spike * (1 + gamma / (spike - 1)), rel=0.06)
    assert values[-2] == pytest.approx((1 + gamma**0.5) ** 2, rel=0.06)


def test_a_small_spike_drowns():
    values = np.linalg.eigvalsh(matrices.spiked(2000, 500, [1.3], rng=0))
    assert values[-1] == pytest.approx(2.25, rel=0.06)


def test_several_spikes_and_none():
    values = np.linalg.eigvalsh(matrices.spiked(2000, 500, [9.0, 5.0, 0.0], rng=0))
    assert values[[-1, -2]] == pytest.approx([9 * (1 + 0.25 / 8), 5 * (1 + 0.25 / 4)], rel=0.06)
    assert values[0] == pytest.approx(0, abs=1e-12)
    assert np.array_equal(matrices.spiked(30, 9, [], rng=4), matrices.wishart(30, 9, rng=4))


def test_semicircle_edges():
    """Fact 18, to 2 %."""
    A = matrices.goe(1000, rng=0)
    assert np.linalg.eigvalsh(A)[[0, -1]] == pytest.approx([-2, 2], rel=0.02)
    off = A[np.triu_indices(1000, 1)]
    assert off.var() == pytest.approx(1 / 1000, rel=0.02)
    assert np.diag(A).var() == pytest.approx(2 / 1000, rel=0.2)


@pytest.mark.parametrize(("n", "condition"), [(3, 524.1), (5, 4.766e5), (8, 1.526e10), (10, 1.602e13)])
def test_condition_of_hilbert(n, condition):
    """Fact 19, to three digits."""
    assert np.linalg.cond(matrices.hilbert(n)) == pytest.approx(condition, rel=1e-3)
    assert np.array_equal(matrices.hilbert(n), scipys_hilbert(n))


@pytest.mark.parametrize("gamma", [0.1, 0.25, 1.0, 4.0])
def test_marchenko_pastur_mass_and_moments(gamma):
    """∫ρ = min(1, 1/γ), ∫xρ = 1, ∫x²ρ = 1 + γ, and nothing outside the edges."""
    a, b = (1 - gamma**0.5) ** 2, (1 + gamma**0.5) ** 2

    def moment(k):
        return quad(lambda x: x**k * matrices.marchenko_pastur_pdf(x, gamma), a, b, limit=200)[0]

    assert moment(0) == pytest.approx(min(1, 1 / gamma), abs=1e-5)
    assert moment(1) == pytest.approx(1, abs=1e-6)
    assert moment(2) == pytest.approx(1 + gamma, abs=1e-6)
    assert matrices.marchenko_pastur_pdf([[-1.0, a], [b, b + 1]], gamma).tolist() == [[0, 0], [0, 0]]


def test_semicircle_mass_and_moments():
    moments = [quad(lambda x, k=k: x**k * matrices.semicircle_pdf(x), -2, 2)[0] for k in (0, 2, 4)]
    assert moments == pytest.approx([1, 1, 2], abs=1e-8)
    assert matrices.semicircle_pdf([-2.5, 2.0, 7.0]).tolist() == [0, 0, 0]


def test_spectra_follow_their_densities():
    """The empirical distribution against the integrated density, at nine points."""
    for values, density in (
        (
            np.linalg.eigvalsh(matrices.wishart(1600, 400, rng=1)),
            lambda x: matrices.marchenko_pastur_pdf(x, 0.25),
        ),
        (np.linalg.eigvalsh(matrices.goe(400, rng=1)), matrices.semicircle_pdf),
    ):
        for point in np.quantile(values, np.linspace(0.1, 0.9, 9)):
            expected = quad(density, values[0] - 1, point, limit=400)[0]
            assert np.mean(values <= point) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: matrices.with_spectrum([[1.0]], rng=0), r"values has shape \(1, 1\); expected \(n,\)"),
        (lambda: matrices.with_spectrum([], rng=0), r"values has shape \(0,\); expected \(n,\)"),
        (lambda: matrices.with_spectrum([np.inf], rng=0), "one finite eigenvalue for each row"),
        (lambda: matrices.spiked(9, 2, [1.0, 2.0, 3.0], rng=0), "expected at most p = 2 variances"),
        (lambda: matrices.spiked(9, 2, [-1.0], rng=0), r"spikes is \[-1\.0\]; expected at most p = 2"),
        (lambda: matrices.wishart(0, 2, rng=0), "the size is 0 × 2; expected at least 1"),
        (lambda: matrices.goe(0, rng=0), "the size is 0 × 0; expected at least 1"),
        (lambda: matrices.hilbert(0), "n is 0; expected at least 1"),
        (lambda: matrices.marchenko_pastur_pdf(1.0, 0), "gamma is 0; expected the positive ratio p/n"),
    ],
)
def test_errors_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: matrices.with_spectrum([1.0]),
        lambda: matrices.spiked(3, 2, []),
        lambda: matrices.wishart(3, 2),
        lambda: matrices.goe(3),
    ],
)
def test_rng_is_required(make):
    with pytest.raises(TypeError, match="rng"):
        make()
