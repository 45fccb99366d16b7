"""Laws of Lanczos over nasty spectra, then cases, then every error message.

The oracle is `numpy.linalg.eigvalsh` of the matrix that the algorithm was given, in float64.
"""

import dataclasses
import inspect
import sys
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import LinearOperator, aslinearoperator
from spectra import SCALES, SPECTRA, network, repeated, with_eigenvalues

from hesslab import hunt, krylov, lanczos
from hesslab.checks.laws import lanczos as laws
from hesslab.lanczos import eigsh, power_iteration, tridiagonalize
from hesslab.operators import as_operator, counted, generator

#: Relative to the largest modulus: what rounding may do, in epsilons; what a bound may; a ghost.
ROUNDING, SLACK, SAME = 200, 1.5, 1e-6

PRECISIONS = ("float64", "float32")
ENDS = ("LA", "SA", "LM", "BE")


class Bare:
    """The least that multiplies: `.shape` and `@`."""

    def __init__(self, A):
        self.A, self.shape = A, A.shape

    def __matmul__(self, x):
        return self.A @ x


KINDS = {
    "numpy": lambda A: A,
    "torch": torch.from_numpy,
    "sparse": sp.csr_array,
    "LinearOperator": aslinearoperator,
    "matvec": lambda A: LinearOperator(A.shape, matvec=lambda x: A @ x, dtype=A.dtype),
    "bare": Bare,
    "operator": as_operator,
}


def eps(dtype):
    return float(np.finfo(dtype).eps)


def wanted(values, k, which):
    """The k eigenvalues at the end `which`, descending; for LM their moduli."""
    values, n = np.sort(values)[::-1], len(values)
    return {
        "LA": values[:k],
        "SA": values[n - k :],
        "LM": np.sort(np.abs(values))[::-1][:k],
        "BE": np.r_[values[: k - k // 2], values[n - k // 2 :]],
    }[which]


def error(pairs, values, which="LA"):
    """The largest error of the values found, relative to the largest modulus."""
    found = np.sort(np.abs(pairs.values))[::-1] if which == "LM" else pairs.values
    return np.max(np.abs(found - wanted(values, len(found), which))) / max(np.max(np.abs(values)), 1e-300)


def enclosed(pairs, values):
    lo, hi = pairs.intervals.T[:, :, None]
    return bool(np.all(np.any((lo <= values) & (values <= hi), axis=1)))


def numpy64(x):
    return np.asarray(x, dtype=np.float64)


def interrupted_at(A, j, *, again, error=KeyboardInterrupt):
    """`A`, raising at product j, and with `again` at every later one."""
    operator, total = as_operator(A), 0

    def product(X):
        nonlocal total
        before, total = total, total + X.shape[1]
        if before < j <= total or (again and total >= j):
            raise error
        return operator.product(X)

    return dataclasses.replace(operator, product=product)


def nan_at(A, j):
    operator, total = as_operator(A), 0

    def product(X):
        nonlocal total
        before, total = total, total + X.shape[1]
        AX = np.array(operator.product(X))
        if before < j <= total:
            AX[3, j - before - 1] = np.nan
        return AX

    return dataclasses.replace(operator, product=product)


# --- tridiagonalize: the relation -----------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("name", SPECTRA)
def test_lanczos_relation(name, dtype, scale):
    rng = np.random.default_rng(0)
    A = with_eigenvalues(scale * SPECTRA[name](50), rng).astype(dtype)
    run = tridiagonalize(A, rng.standard_normal(50), 20)
    k, V, tolerance = len(run.alpha), numpy64(run.V), ROUNDING * eps(dtype)
    size = max(np.linalg.norm(numpy64(A), 2), 1e-300)
    left = numpy64(A) @ V - V @ run.T
    left[:, -1] -= run.beta_next * numpy64(run.v_next)
    assert np.max(np.abs(left)) <= tolerance * size
    assert np.max(np.abs(V.T @ V - np.eye(k))) <= tolerance
    assert np.max(np.abs(V.T @ numpy64(A) @ V - run.T)) <= tolerance * size
    assert np.all(run.beta > 0)
    assert run.beta.shape == (k - 1,)
    assert run.alpha.dtype == np.float64
    if run.beta_next > 0:
        assert abs(np.linalg.norm(numpy64(run.v_next)) - 1) <= tolerance
        assert np.max(np.abs(V.T @ numpy64(run.v_next))) <= tolerance


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_stay_native_and_numbers_agree(kind):
    rng = np.random.default_rng(1)
    A = with_eigenvalues(network(40), rng)
    v = rng.standard_normal(40)
    run, reference = tridiagonalize(KINDS[kind](A), v, 12), tridiagonalize(A, v, 12)
    pairs = eigsh(KINDS[kind](A), 3, max_matvecs=42, rng=0)
    native = torch.Tensor if kind == "torch" else np.ndarray
    assert isinstance(run.V, native)
    assert isinstance(pairs.vectors, native)
    assert isinstance(run.alpha, np.ndarray)
    assert isinstance(pairs.values, np.ndarray)
    assert np.allclose(run.alpha, reference.alpha, rtol=0, atol=1e-9)
    assert pairs.converged.all()
    assert error(pairs, network(40)) < 1e-6


@pytest.mark.parametrize("scale", SCALES)
def test_a_closed_space_ends_the_run_at_any_scale(scale):
    A = scale * np.diag(np.repeat([4.0, 3.0, 2.0, 1e-6], 5))
    run = tridiagonalize(A, np.ones(20), 15)
    assert len(run.alpha) == 4
    assert run.beta_next == 0.0
    assert np.allclose(
        np.linalg.eigvalsh(run.T), scale * np.array([1e-6, 2, 3, 4]), rtol=0, atol=1e-12 * scale
    )


@pytest.mark.parametrize("name", ["identity", "zero"])
def test_one_step_closes_the_space_of_a_multiple_of_the_identity(name):
    assert len(tridiagonalize(np.diag(SPECTRA[name](30)), np.arange(1.0, 31.0), 9).alpha) == 1


def test_as_many_steps_as_rows_give_every_eigenvalue():
    rng = np.random.default_rng(2)
    values = np.sort(rng.standard_normal(30))
    run = tridiagonalize(with_eigenvalues(values, rng), rng.standard_normal(30), 100)
    assert len(run.alpha) == 30
    assert np.allclose(np.linalg.eigvalsh(run.T), values, rtol=0, atol=1e-12)


def ghost_spectrum():
    return np.concatenate([[10.0, 3.0, 2.0], np.linspace(1.0, 0.0, 297)])


def test_without_reorthogonalization_ghosts_appear_and_with_it_none():
    rng = np.random.default_rng(0)
    A = with_eigenvalues(ghost_spectrum(), rng)
    v = rng.standard_normal(300)
    plain, full = (tridiagonalize(A, v, 100, reorthogonalize=on) for on in (False, True))
    copies = [
        [int(np.sum(np.abs(np.linalg.eigvalsh(run.T) - x) < SAME)) for x in (10, 3)] for run in (plain, full)
    ]
    assert copies[0][0] >= 5
    assert copies[0][1] >= 2
    assert copies[1] == [1, 1]
    lost = [np.max(np.abs(run.V.T @ run.V - np.eye(100))) for run in (plain, full)]
    assert lost[0] > 0.5
    assert lost[1] < 1e-13


def test_kaniel_paige_saad_bounds_the_error_and_power_iteration_is_far_behind():
    rng = np.random.default_rng(3)
    values = np.concatenate([[1.0], np.linspace(0.9, 0.0, 299)])
    A = with_eigenvalues(values, rng)
    u = np.linalg.eigh(A)[1][:, -1]
    v = rng.standard_normal(300)
    v /= np.linalg.norm(v)
    tangent, gamma = np.tan(np.arccos(abs(u @ v))), (1.0 - 0.9) / 0.9
    for m in (10, 15, 20):
        found = 1.0 - np.linalg.eigvalsh(tridiagonalize(A, v, m).T)[-1]
        bound = (tangent / np.cosh((m - 1) * np.arccosh(1 + 2 * gamma))) ** 2
        power = 1.0 - power_iteration(A, max_matvecs=m, rtol=1e-12, rng=3).values[0]
        assert found <= bound
        assert found < power / 10


# --- eigsh: right on nasty spectra ----------------------------------------------------------------------


def check_pairs(A, values, k, which, rtol, dtype, **options):
    pairs = eigsh(A, k, which=which, rtol=rtol, rng=3, **options)
    size = max(np.max(np.abs(values)), 1e-300)
    assert len(pairs.values) == k
    assert pairs.converged.all(), pairs.stop_reason
    assert error(pairs, values, which) <= SLACK * rtol
    assert np.all(np.diff(pairs.values) <= 0)
    assert pairs.values.dtype == np.float64
    assert np.all(pairs.residuals <= rtol * size * (1 + ROUNDING * eps(dtype)))
    assert enclosed(pairs, values)
    assert pairs.orthogonality <= ROUNDING * eps(dtype)
    return pairs


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize(
    ("dtype", "scale", "ends"),
    [
        ("float64", 1.0, ENDS),
        ("float64", 1e-13, ("LA", "BE")),
        ("float64", 1e8, ("SA", "LM")),
        ("float32", 1e-13, ("LM", "SA")),
        ("float32", 1e8, ("LA", "BE")),
    ],
)
def test_eigsh_is_right(name, dtype, scale, ends):
    A = with_eigenvalues(scale * SPECTRA[name](90), np.random.default_rng(1)).astype(dtype)
    values = np.linalg.eigvalsh(numpy64(A))
    given = torch.from_numpy(A) if dtype == "float32" else A
    for which in ends:
        check_pairs(given, values, 6, which, 1e-6 if dtype == "float64" else 1e-4, dtype)


@pytest.mark.parametrize("name", SPECTRA)
def test_eigsh_is_right_without_the_matrix_itself(name):
    values = SPECTRA[name](500)
    pairs = check_pairs(sp.diags_array(values), values, 5, "LA", 1e-6, "float64", max_matvecs=504)
    assert pairs.stop_reason == "converged"


@pytest.mark.parametrize("rtol", [1e-3, 1e-6, 1e-10])
def test_all_six_members_of_a_cluster_are_found(rtol):
    values = SPECTRA["clustered"](800)
    pairs = check_pairs(sp.diags_array(values), values, 6, "LA", rtol, "float64", max_matvecs=700)
    assert np.all(pairs.values > 1.0 - 1e-6 - rtol * 1e-3)


@pytest.mark.parametrize("which", ["LA", "SA"])
def test_every_copy_of_a_repeated_eigenvalue_is_found(which):
    values = repeated(600) if which == "LA" else -repeated(600)[::-1]
    A = sp.diags_array(values)
    pairs = check_pairs(A, values, 8, which, 1e-8, "float64", max_matvecs=607)
    assert np.allclose(np.sort(np.abs(pairs.values)), [2, 2, 2, 3, 3, 3, 3, 3], rtol=0, atol=1e-12)
    assert pairs.num_search_matvecs > 0
    two, blind = (eigsh(A, 2, which=which, rtol=1e-3, search=on, rng=3) for on in (True, False))
    assert np.allclose(np.abs(two.values), 3.0, rtol=0, atol=1e-5)
    assert np.allclose(np.sort(np.abs(blind.values)), [2.0, 3.0], rtol=0, atol=1e-5)
    assert blind.converged.all()
    assert blind.num_search_matvecs == 0
    assert blind.stop_reason == "converged; missed eigenvalues were not looked for"


def test_never_a_ghost_at_any_number_of_steps():
    values = ghost_spectrum()
    for k in (3, 25):
        pairs = check_pairs(sp.diags_array(values), values, k, "LA", 1e-10, "float64", max_matvecs=3000)
        assert np.min(-np.diff(pairs.values)) > 1e-3
    assert pairs.num_matvecs > 100


def test_a_small_basis_restarts_and_loses_nothing(monkeypatch):
    monkeypatch.setattr(lanczos, "BASIS_NUMBERS", 1)
    capacities = []
    monkeypatch.setattr(lanczos, "empty", lambda A, c: capacities.append(c) or krylov.empty(A, c))
    values = np.linspace(1.0, 0.0, 400)
    pairs = check_pairs(sp.diags_array(values), values, 5, "LA", 1e-8, "float64", max_matvecs=10_000)
    assert capacities == [35]
    assert pairs.num_matvecs > 3 * 35


@pytest.mark.parametrize("k", [1, 2, 29, 30])
def test_the_matrix_itself_where_k_is_near_n(k):
    values = np.sort(np.random.default_rng(4).standard_normal(30))[::-1]
    A, count = counted(with_eigenvalues(values, np.random.default_rng(5)))
    for which in ENDS:
        before = count()
        pairs = eigsh(A, k, which=which, rng=0)
        assert error(pairs, values, which) < 1e-12
        assert pairs.converged.all()
        assert pairs.num_matvecs == count() - before <= 30 + k + (0 if k > 3 else 30 + k)


def test_the_matrix_itself_ends_what_iterating_cannot():
    values = SPECTRA["twelve_decades"](150)
    A, count = counted(sp.diags_array(values))
    pairs = eigsh(A, 4, which="SA", rtol=1e-12, rng=0)
    assert pairs.stop_reason == "converged, from the matrix itself"
    assert pairs.num_matvecs == count() == 150 + 150 + 4
    assert error(pairs, values, "SA") < 1e-13


def test_n_is_one():
    pairs = eigsh(np.array([[2.5]]), 1, rng=0)
    assert pairs.values.tolist() == [2.5]
    assert pairs.converged.all()


def test_nine_outliers_over_a_heavy_tail_cost_little():
    values = network(9000)
    for seed in range(5):
        pairs = eigsh(sp.diags_array(values), 10, rtol=1e-3, rng=seed)
        measured = pairs.num_matvecs - pairs.num_search_matvecs
        assert pairs.converged.all()
        assert error(pairs, values) < 1e-4
        assert measured - 10 <= 26
        assert measured <= 36


# --- errors and prices ----------------------------------------------------------------------------------


def test_every_interval_contains_an_eigenvalue():
    rng = np.random.default_rng(6)
    names, total = list(SPECTRA), 0
    for _ in range(150):
        n, dtype = int(rng.integers(2, 70)), PRECISIONS[rng.integers(2)]
        values = SPECTRA[names[rng.integers(len(names))]](max(n, 12)) * 10.0 ** rng.integers(-13, 9)
        A = with_eigenvalues(values, rng).astype(dtype)
        budget, k = int(rng.integers(2, 60)), int(rng.integers(1, 8))
        pairs = eigsh(A, k, which=ENDS[rng.integers(4)], rtol=1e-4, max_matvecs=budget, rng=rng)
        power = power_iteration(A, max_matvecs=budget, rng=rng)
        truth = np.linalg.eigvalsh(numpy64(A))
        assert enclosed(pairs, truth)
        assert enclosed(power, truth)
        total += len(pairs.values) + 1
    assert total > 400


def test_an_interval_is_not_wide_for_nothing():
    values = network(200)
    A = with_eigenvalues(values, np.random.default_rng(0))
    pairs = eigsh(A, 5, rtol=1e-10, rng=0)
    half = (pairs.intervals[:, 1] - pairs.intervals[:, 0]) / 2
    assert np.all(half <= pairs.residuals + 100 * eps("float64") * values[0])


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_residuals_are_those_of_the_operator_given(dtype):
    A = with_eigenvalues(network(120), np.random.default_rng(0)).astype(dtype)
    for budget in (8, 20, 400):
        pairs = eigsh(A, 6, rtol=1e-5, max_matvecs=budget, rng=0)
        true = np.linalg.norm(
            numpy64(A) @ numpy64(pairs.vectors) - numpy64(pairs.vectors) * pairs.values, axis=0
        )
        assert np.max(np.abs(true - pairs.residuals)) <= ROUNDING * eps(dtype) * 9.8
        assert np.array_equal(pairs.converged, pairs.residuals <= 1e-5 * np.max(pairs.values)) or budget < 400


def test_a_pair_is_converged_on_its_measured_residual_alone():
    """An operator that changes by 1e-4 after the iteration: its own estimates know nothing of it."""
    values = network(300)
    first = eigsh(sp.diags_array(values), 4, rtol=1e-6, search=False, rng=0)
    operator, total = as_operator(sp.diags_array(values)), 0

    def product(X):
        nonlocal total
        total += X.shape[1]
        return operator.product(X) * (1.0 if total <= first.num_matvecs - 4 else 1.0 + 1e-4 * (X[:1] > 0))

    changed = dataclasses.replace(
        operator, product=lambda X: product(X) + 1e-4 * (total > first.num_matvecs - 4)
    )
    pairs = eigsh(changed, 4, rtol=1e-6, search=False, max_matvecs=first.num_matvecs, rng=0)
    assert first.converged.all()
    assert not pairs.converged.any()
    assert np.all(pairs.residuals > 1e-5)


@pytest.mark.parametrize("budget", [1, 2, 3, 5, 9, 14, 20, 24, 27, 33, 60])
def test_budget_is_kept_and_what_is_there_is_returned(budget):
    values = network(2000)
    A, count = counted(sp.diags_array(values))
    pairs = eigsh(A, 10, rtol=1e-3, max_matvecs=budget, rng=0)
    assert pairs.num_matvecs == count() <= budget
    assert 1 <= len(pairs.values) <= 10
    assert enclosed(pairs, values)
    assert len(pairs.converged) == len(pairs.residuals) == pairs.vectors.shape[1] == len(pairs.values)
    if budget < 20:
        assert not pairs.converged.all()
        assert pairs.stop_reason == "the budget of products is spent"
    elif budget <= 27:
        assert pairs.stop_reason.startswith(("the budget", "converged, but the budget ended the look"))


def test_search_is_counted():
    A, count = counted(sp.diags_array(network(2000)))
    whole, blind = (eigsh(A, 10, rtol=1e-3, search=on, rng=0) for on in (True, False))
    assert whole.num_matvecs - whole.num_search_matvecs == blind.num_matvecs
    assert count() == whole.num_matvecs + blind.num_matvecs


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("j", [1, 2, 7, 14, 15, 16, 20, 26, 33])
def test_ctrl_c_returns_what_is_there(j, again):
    values = network(2000)
    pairs = eigsh(interrupted_at(sp.diags_array(values), j, again=again), 10, rtol=1e-3, rng=0)
    assert pairs.stop_reason == "interrupted"
    assert len(pairs.values) == min(j - 1, 10)
    assert enclosed(pairs, values)
    if again:
        assert not pairs.converged.any()
        assert np.all(np.isinf(pairs.residuals))
    if 10 < j < 24:
        assert np.allclose(pairs.values[:3], values[:3], rtol=0, atol=1e-2)


def test_ctrl_c_while_the_matrix_itself_is_computed():
    pairs = eigsh(interrupted_at(np.diag(np.arange(20.0)), 5, again=False), 2, rng=0)
    assert pairs.stop_reason == "interrupted"
    assert len(pairs.values) == 0
    pairs = eigsh(interrupted_at(torch.eye(90, dtype=torch.float64), 1, again=False), 2, rng=0)
    assert pairs.stop_reason == "interrupted"
    assert len(pairs.values) == 0


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_an_rtol_below_rounding_ends_not_converged_and_says_why(kind):
    A = KINDS[kind](with_eigenvalues(network(300), np.random.default_rng(0)).astype(np.float32))
    for rtol in (1e-8, 1e-12):
        pairs = eigsh(A, 4, rtol=rtol, rng=0)
        assert not pairs.converged.any()
        assert pairs.num_matvecs < 100
        assert pairs.stop_reason.startswith("rounding or noise in the products of A")
        assert error(pairs, np.linalg.eigvalsh(numpy64(A))) < ROUNDING * eps("float32")


def test_float32_vectors_far_below_its_square_root_keep_their_norm():
    assert abs(krylov.norm(np.full(100, 1e-30, np.float32)) / 1e-29 - 1) < 1e-6


def test_miss_bound_holds_in_simulation():
    """Kuczyński & Woźniakowski bound the chance that Lanczos stays below λ₁ by ε of the spectrum's width."""
    rng = np.random.default_rng(7)
    n, steps, runs, gap = 200, 6, 300, 0.35
    A = sp.diags_array(np.concatenate([[1.0], np.linspace(1.0 - gap, 0.0, n - 1)]))
    tops = np.array(
        [np.linalg.eigvalsh(tridiagonalize(A, rng.standard_normal(n), steps).T)[-1] for _ in range(runs)]
    )
    for theta in (0.65, 0.7, 0.8, 0.9):
        bound = hunt.chance_of_a_miss(n, steps, np.array([0.0, theta]), (-np.inf, 1.0), (0.0, 1.0))
        assert np.mean(tops < theta) <= bound
    assert hunt.chance_of_a_miss(n, 20, np.array([0.0, 0.6]), (-np.inf, 1.0), (0.0, 1.0)) < 1e-3


# --- starting, randomness, progress ---------------------------------------------------------------------


@pytest.mark.parametrize("change", [0.0, 1e-3, 1e-1])
def test_warm_start_costs_less_than_a_cold_one(change):
    rng = np.random.default_rng(0)
    A = with_eigenvalues(network(400), rng)
    P = rng.standard_normal((400, 400))
    B = A + change * (P + P.T) / 40
    before = eigsh(A, 5, rtol=1e-3, rng=0).vectors
    cold, warm = eigsh(B, 5, rtol=1e-3, rng=1), eigsh(B, 5, rtol=1e-3, start=before, rng=1)
    price = [p.num_matvecs - p.num_search_matvecs for p in (cold, warm)]
    assert warm.converged.all()
    assert error(warm, np.linalg.eigvalsh(B)) < 1e-3
    assert price[1] <= price[0] - (1 if change == 1e-1 else 3)


def test_warm_start_with_an_eigenvector_does_not_hide_the_others():
    values = network(500)
    A = sp.diags_array(values)
    for start in (
        np.eye(500)[:, 3],
        np.eye(500)[:, 3:6],
        torch.eye(500)[:, :2],
        -2e-5 * np.eye(500)[:, [0, 0]],
    ):
        pairs = eigsh(A, 3, rtol=1e-6, start=start, max_matvecs=502, rng=0)
        assert pairs.converged.all()
        assert error(pairs, values) < 1e-6


def test_a_seed_gives_the_same_answer_and_touches_nothing_global():
    A, state = sp.diags_array(network(300)), np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (eigsh(A, 3, rng=seed) for seed in (5, generator(5), 6))
    assert np.array_equal(first.vectors, again.vectors)
    assert not np.array_equal(first.vectors, other.vectors)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    for function in (eigsh, power_iteration):
        parameter = inspect.signature(function).parameters["rng"]
        assert parameter.default is parameter.empty
        assert parameter.kind is parameter.KEYWORD_ONLY


def test_gradients_are_not_recorded():
    A = torch.diag(torch.arange(60.0, dtype=torch.float64)).requires_grad_()
    pairs = eigsh(A, 2, start=torch.ones(60, dtype=torch.float64).requires_grad_(), rng=0)
    assert not pairs.vectors.requires_grad
    assert not tridiagonalize(A, torch.ones(60).requires_grad_(), 5).V.requires_grad


def test_progress_counts_every_product(capsys):
    pairs = eigsh(sp.diags_array(network(300)), 3, max_matvecs=200, progress=True, rng=0)
    assert f"{pairs.num_matvecs}/200" in capsys.readouterr().err.replace(" ", "")


def test_progress_without_tqdm_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"progress=True draws its bar with tqdm; install tqdm, or give"):
        eigsh(np.eye(50), 1, progress=True, rng=0)


def test_a_result_prints_values_with_errors():
    text = str(eigsh(np.diag([4.0, 1.0, -2.0]), 2, rng=0)).splitlines()
    assert text[0].startswith("4 ± ")
    assert text[1].startswith("1 ± ")
    assert text[2] == "2 of 2 converged (5 matvecs): converged, from the matrix itself"


# --- power iteration ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_power_iteration_finds_the_largest_modulus_and_says_what_that_is(dtype, scale):
    A = scale * np.diag(np.array([5.0, 1.0, -7.0, 0.5], dtype=dtype))
    A, count = counted(A)
    pair = power_iteration(A, rtol=1e-4, rng=0)
    assert pair.converged.tolist() == [True]
    assert pair.num_matvecs == count() < 100
    assert abs(pair.values[0] / scale + 7.0) < 1e-4
    assert enclosed(pair, scale * np.array([5.0, 1.0, -7.0]))
    assert pair.stop_reason.endswith("it is negative, so it is not λmax")
    assert abs(eigsh(A, 1, rtol=1e-4, rng=0).values[0] / scale - 5.0) < 1e-4


def test_power_iteration_on_a_positive_matrix_has_nothing_to_add():
    pair = power_iteration(np.diag([3.0, 1.0]), rng=0)
    assert pair.stop_reason == "converged to the eigenvalue of largest modulus"


def test_power_iteration_between_plus_and_minus_does_not_converge():
    pair = power_iteration(np.diag([1.0, -1.0, 0.1]), max_matvecs=300, rng=0)
    assert not pair.converged.any()
    assert pair.num_matvecs == 300
    assert pair.stop_reason == "the budget of products is spent"
    assert enclosed(pair, np.array([1.0, -1.0]))


@pytest.mark.parametrize("A", [np.zeros((5, 5)), np.eye(5)])
def test_power_iteration_on_a_multiple_of_the_identity_takes_one_product(A):
    pair = power_iteration(A, rng=0)
    assert pair.converged.all()
    assert pair.num_matvecs == 1
    assert abs(pair.values[0] - A[0, 0]) < 1e-15


def test_power_iteration_interrupted():
    pair = power_iteration(interrupted_at(np.diag([3.0, 2.9]), 4, again=True), rng=0)
    assert pair.stop_reason == "interrupted"
    assert pair.num_matvecs == 3
    assert not pair.converged.any()
    assert len(power_iteration(interrupted_at(np.eye(3), 1, again=True), rng=0).values) == 0


# --- every error message --------------------------------------------------------------------------------


@pytest.mark.parametrize("j", [1, 7, 17, 25])
def test_nan_in_a_product_is_reported_with_its_number(j):
    text = rf"product {j} with A holds NaN or infinity; expected finite numbers: look where"
    with pytest.raises(ValueError, match=text):
        eigsh(nan_at(sp.diags_array(network(500)), j), 5, rtol=1e-6, rng=0)


def test_nan_elsewhere():
    A = np.diag(np.arange(20.0))
    with pytest.raises(ValueError, match="product 5 with A holds NaN"):
        eigsh(nan_at(A, 5), 2, rng=0)
    with pytest.raises(ValueError, match="product 4 with A holds NaN"):
        tridiagonalize(nan_at(A, 4), np.ones(20), 9)
    with pytest.raises(ValueError, match="product 3 with A holds NaN"):
        power_iteration(nan_at(A, 3), rng=0)


@pytest.mark.parametrize("rtol", [0.3, 0.1, 1e-2])
def test_what_a_loose_tolerance_forgets_is_not_taken_for_asymmetry(rtol):
    n = 60
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))[0]
    for d in (np.linspace(1, 0, n), 0.9 ** np.arange(n), np.linspace(1, -1, n)):
        A = (Q * d) @ Q.T
        start = Q[:, :2] + 0.1 * np.random.default_rng(1).standard_normal((n, 2))
        for options in ({}, {"start": start}):
            for seed in range(3):
                pairs = eigsh((A + A.T) / 2, 2, rtol=rtol, max_matvecs=n - 1, rng=seed, **options)
                gaps = abs(pairs.values[:, None] - d).min(1)
                assert np.all(gaps <= pairs.residuals + 1e-12)


def test_an_operator_that_is_not_symmetric_is_refused():
    A = np.diag(network(60))
    A[0, 1] = 1.0
    text = (
        r"A is not symmetric, or not the same at every call: by product \d+, uᵀAv and vᵀAu differ .*dropout"
    )
    for k in (5, 30):  # by iterating, and by the matrix itself
        with pytest.raises(ValueError, match=text):
            eigsh(aslinearoperator(A), k, rng=0)
    with pytest.raises(ValueError, match=text):
        tridiagonalize(aslinearoperator(A), np.arange(1.0, 61.0), 20)


def test_an_operator_that_changes_from_call_to_call_is_refused():
    noise = np.random.default_rng(0)
    A = LinearOperator((200, 200), lambda v: network(200) * v * noise.integers(0, 2, 200), dtype=np.float64)
    with pytest.raises(ValueError, match="not the same at every call"):
        eigsh(A, 3, rng=0)


def test_a_product_of_the_wrong_shape_is_refused():
    operator = dataclasses.replace(as_operator(np.eye(50)), product=lambda X: X[:, 0])
    with pytest.raises(
        ValueError, match=r"product 1 with A has shape \(50,\); expected \(50, 1\): A @ X must"
    ):
        eigsh(operator, 1, rng=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k = 0; expected a whole number, at least 1"),
        ({"k": 1.5}, "k = 1.5; expected a whole number, at least 1"),
        ({"k": 51}, "k = 51 eigenpairs of a matrix of 50 rows; expected at most 50"),
        ({"which": "SM"}, "which = 'SM'; expected 'LA', 'SA', 'LM' or 'BE'"),
        ({"rtol": 0.0}, "rtol = 0.0; expected a number between 0 and 1, such as 1e-6"),
        ({"rtol": "small"}, "rtol = 'small'; expected a number between 0 and 1"),
        ({"rtol": np.nan}, "rtol = nan; expected a number between 0 and 1"),
        ({"max_matvecs": 0}, "max_matvecs = 0; expected a whole number, at least 1"),
        ({"start": np.ones(49)}, r"start has shape \(49,\); expected \(50,\) or \(50, j\), as A has 50 rows"),
        (
            {"start": np.zeros(50)},
            "start is zero, or holds NaN or infinity; expected finite numbers, not all",
        ),
        ({"start": np.full((50, 2), np.inf)}, "start is zero, or holds NaN or infinity"),
        ({"start": np.full(50, np.nan)}, "start is zero, or holds NaN or infinity"),
    ],
)
def test_arguments_of_eigsh(arguments, message):
    with pytest.raises(ValueError, match=message):
        eigsh(np.eye(50), **{"k": 2, "rng": 0, **arguments})


def test_a_complex_product_is_refused():
    with pytest.raises(ValueError, match="x has dtype complex128; expected real numbers"):
        eigsh(Bare(np.diag(np.arange(60.0) * 1j)), 1, rng=0)
    with pytest.raises(ValueError, match="x has dtype complex128; expected real numbers"):
        tridiagonalize(np.eye(5), np.ones(5) * 1j, 2)


def test_arguments_of_the_others():
    with pytest.raises(ValueError, match=r"v has shape \(5, 1\); expected \(5,\), as A has 5 rows"):
        tridiagonalize(np.eye(5), np.ones((5, 1)), 3)
    with pytest.raises(ValueError, match="v is zero, or holds NaN or infinity"):
        tridiagonalize(np.eye(5), np.zeros(5), 3)
    with pytest.raises(ValueError, match="num_steps = 0; expected a whole number, at least 1"):
        tridiagonalize(np.eye(5), np.ones(5), 0)
    with pytest.raises(ValueError, match="max_matvecs = -1; expected a whole number"):
        power_iteration(np.eye(5), max_matvecs=-1, rng=0)
    with pytest.raises(ValueError, match="rtol = 2; expected a number between 0 and 1"):
        power_iteration(np.eye(5), rtol=2, rng=0)


# --- the laws for a learner's implementation ------------------------------------------------------------


def learner(
    A,
    v,
    num_steps,
    *,
    sweeps=2,
    unit=True,
    threshold=1e-12,
    relative=True,
    beta_of=None,
    alpha_of=None,
    extra=0,
):
    """Lanczos as in a lesson, with a switch for each likely mistake."""
    V, alpha, beta = [v / np.linalg.norm(v) if unit else v], [], []
    for _ in range(num_steps):
        w = A @ V[-1]
        size = np.linalg.norm(w)
        alpha.append(V[-1] @ w if alpha_of is None else alpha_of(V[-1], w))
        w = w - (V[-1] @ w) * V[-1] - (beta[-1] * V[-2] if beta else 0.0)
        for _ in range(sweeps):
            w = w - np.array(V).T @ (np.array(V) @ w)
        beta.append(np.linalg.norm(w))
        if beta[-1] <= threshold * (size if relative else 1.0):
            break
        V.append(w / beta[-1])
    k = len(alpha)
    beta = np.array(beta[: k - 1 + extra])
    return np.array(alpha), beta if beta_of is None else beta_of(beta), np.array(V[:k]).T


def shifted(A, v, m):
    run = tridiagonalize(A, v, m)
    return run.alpha, np.append(run.beta[1:], run.beta_next), run.V


def mistaken(**switches):
    return lambda A, v, m: learner(A, v, m, **switches)


LANCZOS_LAWS = (
    laws.starts_at_v,
    laws.is_orthonormal,
    laws.is_tridiagonal,
    laws.has_no_ghosts,
    laws.closes_at_any_scale,
    laws.has_shapes,
    laws.leaves_the_next,
)


def test_a_right_answer_is_not_refused_by_an_unlucky_draw():
    def right(A, v, num_steps):
        lanczos = tridiagonalize(A, v, num_steps)
        return lanczos.alpha, lanczos.beta, lanczos.V

    assert all(laws.closes_at_any_scale(right, rng=seed) is None for seed in range(200))


@pytest.mark.parametrize("law", LANCZOS_LAWS)
@pytest.mark.parametrize(
    "f", [tridiagonalize, learner, lambda A, v, m: tridiagonalize(torch.tensor(A), v, m)]
)
def test_right_lanczos_obeys(law, f):
    for seed in range(3):
        assert law(f, rng=seed) is None


@pytest.mark.parametrize(
    ("law", "f", "diagnosis"),
    [
        (laws.starts_at_v, mistaken(unit=False), "start-not-normalized"),
        (laws.starts_at_v, lambda A, v, m: learner(A, A @ v, m), "other-start"),
        (laws.has_shapes, lambda A, v, m: learner(A, v, m + 1), "number-of-steps"),
        (laws.is_orthonormal, mistaken(sweeps=0), "no-reorthogonalization"),
        (laws.is_orthonormal, mistaken(unit=False), "not-orthonormal"),
        (laws.is_tridiagonal, shifted, "off-by-one"),
        (laws.is_tridiagonal, mistaken(extra=1), "one-beta-too-many"),
        (laws.is_tridiagonal, mistaken(beta_of=np.square), "square-for-norm"),
        (laws.is_tridiagonal, mistaken(beta_of=np.negative), "sign"),
        (laws.is_tridiagonal, mistaken(beta_of=lambda beta: beta + 0.1), "beta"),
        (laws.is_tridiagonal, mistaken(alpha_of=lambda v, w: np.linalg.norm(w)), "norm-for-alpha"),
        (laws.is_tridiagonal, mistaken(alpha_of=lambda v, w: 0.0), "alpha"),
        (laws.has_no_ghosts, mistaken(sweeps=0), "ghosts"),
        (laws.has_no_ghosts, lambda A, v, m: learner(A, v, 2), "not-found"),
        (laws.closes_at_any_scale, mistaken(relative=False), "absolute-threshold"),
        (laws.closes_at_any_scale, mistaken(threshold=-1.0), "no-stop"),
    ],
)
def test_wrong_lanczos_is_told_why(law, f, diagnosis):
    for seed in range(3):
        violation = law(f, rng=seed, advice="Section 4.")
        assert violation.diagnosis == diagnosis
        assert violation.advice.endswith("Section 4.")


def power(A, *, max_matvecs, rng, value=lambda v, Av: v @ Av, unit=True):
    v = rng.standard_normal(len(A))
    for _ in range(max_matvecs):
        v = A @ v / np.linalg.norm(A @ v)
    return value(v, A @ v), v if unit else 2 * v


def algebraic(A, *, max_matvecs, rng):
    values, vectors = np.linalg.eigh(A)
    return values[-1], vectors[:, -1]


@pytest.mark.parametrize("law", [laws.finds_largest_modulus, laws.vector_is_unit])
@pytest.mark.parametrize("f", [power, power_iteration])
def test_right_power_iteration_obeys(law, f):
    for seed in range(3):
        assert law(f, rng=seed) is None


@pytest.mark.parametrize(
    ("law", "f", "diagnosis"),
    [
        (
            laws.finds_largest_modulus,
            partial(power, value=lambda v, Av: np.linalg.norm(Av)),
            "modulus-for-value",
        ),
        (laws.finds_largest_modulus, algebraic, "largest-value"),
        (
            laws.finds_largest_modulus,
            lambda A, *, max_matvecs, rng: power(A, max_matvecs=1, rng=rng),
            "not-converged",
        ),
        (laws.vector_is_unit, partial(power, unit=False), "not-normalized"),
        (laws.vector_is_unit, algebraic, "other-vector"),
    ],
)
def test_wrong_power_iteration_is_told_why(law, f, diagnosis):
    for seed in range(3):
        assert law(f, rng=seed).diagnosis == diagnosis


def interval(A, value, v, power=1, divide=True):
    radius = np.linalg.norm(A @ v - value * v) ** power / (np.linalg.norm(v) if divide else 1.0)
    return value - radius, value + radius


def test_the_interval_of_a_residual():
    assert laws.encloses(interval, rng=0) is None
    assert laws.encloses(partial(interval, divide=False), rng=0).diagnosis == "norm-of-v"
    assert laws.encloses(partial(interval, divide=False, power=2), rng=0).diagnosis == "squared"
    assert laws.encloses(lambda A, value, v: (value, value), rng=0).diagnosis == "not-the-residual"
