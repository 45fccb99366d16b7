"""What can only be multiplied: the same products whatever the kind, and SciPy's algorithms on any of them."""

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch
from spectra import decaying, indefinite, with_eigenvalues

from hesslab.operators import Operator, as_operator, counted, generator, to_dense

N = 24


class Bare:
    """The least that multiplies: `.shape` and `@`."""

    def __init__(self, A):
        self.A, self.shape = A, A.shape

    def __matmul__(self, x):
        return self.A @ x


class OneByOne:
    """`.shape` and `.matvec`, which takes a vector only."""

    def __init__(self, A):
        self.A, self.shape, self.dtype = A, A.shape, A.dtype

    def matvec(self, x):
        assert x.ndim == 1
        return self.A @ x


class OnTorch(Bare):
    """Like an operator of another torch library: `.dtype` and `.device` are torch's."""

    def __init__(self, A):
        super().__init__(torch.from_numpy(A))
        self.dtype, self.device = self.A.dtype, self.A.device


KINDS = {
    "numpy": lambda A: A,
    "torch": torch.from_numpy,
    "csr": sp.csr_array,
    "dia": lambda A: sp.csr_matrix(A).todia(),
    "LinearOperator": spla.aslinearoperator,
    "matvec only": lambda A: spla.LinearOperator(A.shape, matvec=OneByOne(A).matvec, dtype=A.dtype),
    "bare": Bare,
    "one by one": OneByOne,
    "torch operator": OnTorch,
    "operator": as_operator,
}
INPUTS = {
    "numpy": lambda x: x,
    "torch": torch.from_numpy,
}


def symmetric(dtype="float64", seed=0):
    return with_eigenvalues(indefinite(N), np.random.default_rng(seed)).astype(dtype)


def close(found, expected, dtype="float64"):
    scale = np.max(np.abs(expected))
    return np.max(np.abs(np.asarray(found, dtype=np.float64) - expected)) <= 100 * np.finfo(dtype).eps * scale


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("given", INPUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_products_are_right_and_answered_in_the_kind_given(kind, given, dtype):
    A = symmetric(dtype)
    operator = as_operator(KINDS[kind](A))
    X = np.random.default_rng(1).standard_normal((N, 3)).astype(dtype)
    for x in (X[:, 0].copy(), X[:, :1].copy(), X):
        native = INPUTS[given](x)
        for product in (
            operator @ native,
            operator.matvec(native) if x.size == N else operator.matmat(native),
        ):
            assert type(product) is type(native)
            assert tuple(product.shape) == x.shape
            assert close(product, A.astype(np.float64) @ x, dtype)
    assert close(operator.rmatvec(X[:, 0]), A @ X[:, 0], dtype)
    assert close(operator.rmatmat(X), A @ X, dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_to_dense_is_the_matrix(kind):
    A = symmetric()
    for block_size in (1, 7, 64):
        dense = to_dense(KINDS[kind](A), block_size=block_size)
        assert isinstance(dense, torch.Tensor if kind.startswith("torch") else np.ndarray)
        assert close(dense, A)


@pytest.mark.parametrize("kind", KINDS)
def test_precision_and_namespace_are_those_of_the_matrix(kind):
    for dtype in ("float64", "float32"):
        operator = as_operator(KINDS[kind](symmetric(dtype)))
        expected = "float64" if kind == "bare" else dtype
        assert operator.dtype == np.dtype(expected)
        assert operator.shape == (N, N)
        draws = operator.normal(5, np.random.default_rng(3))
        assert isinstance(draws, torch.Tensor if kind.startswith("torch") else np.ndarray)
        assert str(draws.dtype).removeprefix("torch.") == expected
        reference = np.random.default_rng(3).standard_normal((N, 5))
        assert close(draws, reference, expected)


def test_integer_and_boolean_matrices_become_float64():
    for A in (
        np.diag(np.arange(4)),
        torch.eye(4, dtype=torch.int64),
        np.eye(4, dtype=bool),
        sp.eye_array(4, dtype=int),
    ):
        assert as_operator(A).dtype == np.float64
        assert (as_operator(A) @ np.ones(4)).dtype == np.float64


def test_gradients_are_not_recorded():
    A = torch.from_numpy(symmetric()).requires_grad_()
    assert not (as_operator(A) @ torch.ones(N, dtype=torch.float64)).requires_grad


def test_counted_counts_every_column():
    operator, count = counted(symmetric())
    operator @ np.ones(N)
    operator @ np.ones((N, 4))
    operator.matvec(np.ones((N, 1)))
    to_dense(operator)
    assert count() == 1 + 4 + 1 + N


def test_an_operator_stays_itself():
    operator = as_operator(symmetric())
    assert as_operator(operator) is operator
    assert repr(operator) == f"Operator(shape=({N}, {N}), dtype=dtype('float64'))"


# --- SciPy on an operator -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["numpy", "torch", "csr", "one by one", "torch operator"])
def test_scipy_finds_eigenvalues_of_an_operator(kind):
    A = symmetric()
    operator, truth = as_operator(KINDS[kind](A)), np.linalg.eigvalsh(A)
    v0 = np.random.default_rng(0).standard_normal(N)
    values, vectors = spla.eigsh(operator, k=3, which="LA", v0=v0)
    assert isinstance(vectors, np.ndarray)
    assert close(values, truth[-3:])
    X = np.random.default_rng(0).standard_normal((N, 3))
    values, _ = spla.lobpcg(operator, X, largest=True, tol=1e-8, maxiter=200)
    assert np.max(np.abs(np.sort(values) - truth[-3:])) < 1e-8


@pytest.mark.parametrize("kind", ["numpy", "torch", "csr", "one by one", "torch operator"])
@pytest.mark.parametrize("solver", [spla.cg, spla.minres])
def test_scipy_solves_with_an_operator(kind, solver):
    A = with_eigenvalues(decaying(N), np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal(N)
    found, failed = solver(as_operator(KINDS[kind](A)), A @ x, rtol=1e-12, maxiter=1000)
    assert failed == 0
    assert isinstance(found, np.ndarray)
    assert np.max(np.abs(found - x)) < 1e-6


def test_aslinearoperator_takes_an_operator():
    A = symmetric()
    wrapped = spla.aslinearoperator(as_operator(torch.from_numpy(A)))
    assert wrapped.dtype == np.float64
    assert close((2 * wrapped) @ np.ones(N), 2 * A.sum(axis=1))


# --- every error message --------------------------------------------------------------------------------


def skewed():
    A = np.eye(5)
    A[0, 1] = 1e-3
    return A


@pytest.mark.parametrize("to", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize(
    ("A", "message"),
    [
        (np.ones((3, 2)), r"A has shape \(3, 2\); expected a square matrix or operator, \(n, n\)"),
        (np.ones(3), r"A has shape \(3,\); expected a square matrix"),
        (np.ones((0, 0)), r"A is empty, of shape \(0, 0\); expected at least one row"),
        (
            np.diag([1.0, np.nan]),
            r"A holds NaN or infinity; expected finite numbers: look for them with isfinite",
        ),
        (np.diag([1.0, np.inf]), "A holds NaN or infinity"),
        (
            skewed(),
            r"A is not symmetric: \|A - Aᵀ\| reaches 1.0e-03 where \|A\| reaches 1.0e\+00; a Hessian equals",
        ),
        (1e-13 * skewed(), "A is not symmetric"),
        (
            1j * np.eye(2),
            "A has dtype complex128; expected float32 or float64: convert it, and split a complex",
        ),
        (np.eye(2, dtype=np.float16), "A has dtype float16; expected float32 or float64"),
    ],
)
def test_matrices_that_are_refused(A, message, to):
    with pytest.raises(ValueError, match=message):
        as_operator(to(A))


def test_rounding_is_not_asymmetry():
    A = symmetric("float32")
    A[0, 1] += np.finfo("float32").eps
    as_operator(A)


@pytest.mark.parametrize(
    ("A", "message"),
    [
        (sp.csr_array(np.ones((3, 2))), r"A has shape \(3, 2\); expected a square"),
        (sp.csr_array(1j * np.eye(2)), "A has dtype complex128"),
        (spla.aslinearoperator(np.ones((2, 3))), r"A has shape \(2, 3\); expected a square"),
        (object(), "A has shape None; expected a square matrix or operator"),
        ([[1.0]], "A has shape None; expected a square matrix or operator"),
    ],
)
def test_operators_that_are_refused(A, message):
    with pytest.raises(ValueError, match=message):
        as_operator(A)


def test_something_that_does_not_multiply_is_refused():
    class Shape:
        shape = (3, 3)

    with pytest.raises(TypeError, match=r"A is a Shape with neither `@` nor `\.matvec`; give one of them"):
        as_operator(Shape())


def test_vectors_of_the_wrong_length_are_refused():
    operator: Operator = as_operator(symmetric())
    text = rf"x has shape \({N + 1},\); expected {N} rows, to multiply a matrix of shape \({N}, {N}\)"
    with pytest.raises(ValueError, match=text):
        operator @ np.ones(N + 1)
    for x in (np.ones((N, 2)), np.ones((1, N)), np.float64(1.0), torch.ones(N, 1, 1)):
        with pytest.raises(ValueError, match=r"x has shape .* expected 24 rows"):
            operator.matvec(x)
    with pytest.raises(ValueError, match=r"x has shape \(24,\); expected 24 rows"):
        operator.matmat(np.ones(N))


@pytest.mark.parametrize("to", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_complex_vectors_are_refused(kind, to):
    operator = as_operator(KINDS[kind](symmetric()))
    text = r"x has dtype (torch\.)?complex128; expected real numbers: take real and imaginary part apart"
    with pytest.raises(ValueError, match=text):
        operator @ to(np.ones(N) * 1j)


def test_an_operator_is_not_an_array():
    text = (
        r"an Operator of shape \(24, 24\) is not an array; use A @ x for products, or hesslab.operators.to_"
    )
    with pytest.raises(TypeError, match=text):
        np.asarray(as_operator(symmetric()))


def test_an_integer_seeds_a_stream_of_the_probes_own():
    plain = np.random.default_rng(7).standard_normal(1000)
    first, again, numpy_integer = (generator(s).standard_normal(1000) for s in (7, 7, np.int64(7)))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, numpy_integer)
    assert not np.isin(first, plain).any()
    assert abs(np.corrcoef(first, plain)[0, 1]) < 0.15  # 4.7 standard deviations
    given = np.random.default_rng(7)
    assert generator(given) is given


@pytest.mark.parametrize("rng", [None, -1, True, 0.5, "0", [1, 2]], ids=repr)
def test_what_seeds_nothing_is_refused(rng):
    with pytest.raises(ValueError, match=r"rng is .*; expected an integer of at least 0 or a numpy\.random"):
        generator(rng)
