"""What can only be multiplied: SciPy's contract, and ways to look at such a thing.

A Hessian of a million parameters is never written down; it is known by its products H v. SciPy's word for
such a thing is a linear operator: an object with `shape`, `dtype` and `matvec`. `Operator` keeps that word
and adds one fact, the kind of array (NumPy or torch, and on which device) that its products are computed in.
It takes either kind and answers in the kind it was given.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import array_api_compat
import numpy as np
from scipy.sparse.linalg import LinearOperator

PROBES = 0x70726F6265  # any number: the branch of an integer seed that probes are drawn from
Array = Any  # a NumPy array or a torch tensor; the array API standard has no static type yet


@dataclass(frozen=True)
class Operator:
    """A square matrix known only by its products.

    Fields: `shape` (n, n); `dtype`, NumPy's name for the precision; `product`, a function of an (n, k) array
    of the native kind that returns the (n, k) array A X; `like`, any array of the native kind, which fixes
    namespace and device. The operators of this library are symmetric; nothing here checks that.

    >>> import numpy as np
    >>> A = as_operator(np.diag([3.0, 1.0]))
    >>> A @ np.array([1.0, 1.0])
    array([3., 1.])
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    product: Callable[[Array], Array] = field(repr=False)
    like: Array = field(repr=False)

    @property
    def xp(self) -> ModuleType:
        """The namespace of the native arrays, in the spelling of the array API standard."""
        return array_api_compat.array_namespace(self.like)

    def native(self, x: Array) -> Array:
        """`x` as a native array: its namespace, device and dtype are the operator's."""
        if "complex" in str(getattr(x, "dtype", "")):
            raise ValueError(
                f"x has dtype {x.dtype}; expected real numbers: take real and imaginary part apart"
            )
        device = array_api_compat.device(self.like)
        if array_api_compat.is_torch_array(x) and not array_api_compat.is_torch_array(self.like):
            x = x.detach().cpu().numpy()
        return self.xp.asarray(x, dtype=getattr(self.xp, self.dtype.name), device=device)

    def normal(self, size: int, rng: np.random.Generator) -> Array:
        """`size` standard normal vectors as the columns of a native (n, size) array.

        They are drawn by NumPy and moved, so that a seed gives the same numbers on every device.
        """
        return self.native(rng.standard_normal((self.shape[0], size)))

    def multiply(self, X: Array, *, num_products: int = 0) -> Array:
        """A X for X native, of shape (n, k), for an algorithm that has spent `num_products` before.

        Raises ValueError, with the number of the product, where A X has another shape or is not finite.
        """
        AX = self.product(X)
        if tuple(AX.shape) != tuple(X.shape):
            raise ValueError(
                f"product {num_products + 1} with A has shape {tuple(AX.shape)}; expected {tuple(X.shape)}: "
                "A @ X must multiply every column of X"
            )
        AX = self.native(AX.detach() if hasattr(AX, "detach") else AX)
        finite = self.xp.all(abs(AX) < np.inf, axis=0)
        if not bool(self.xp.all(finite)):
            raise ValueError(
                f"product {num_products + finite.tolist().index(False) + 1} with A holds NaN or infinity; "
                "expected finite numbers: look where the loss or its derivatives overflow"
            )
        return AX

    def matmat(self, X: Array) -> Array:
        """A X for X of shape (n, k): k products, answered in the kind of `X`."""
        _require_rows(X, self.shape[0], ndims=(2,))
        return _in_kind_of(X, self.product(self.native(X)))

    def matvec(self, x: Array) -> Array:
        """A x for x of shape (n,) or (n, 1): one product, answered in the kind of `x`."""
        _require_rows(x, self.shape[0], ndims=(1, 2))
        column = self.native(x).reshape((self.shape[0], 1))
        return _in_kind_of(x, self.product(column)).reshape(tuple(x.shape))

    rmatvec = matvec  # symmetric: the adjoint is the operator itself
    rmatmat = matmat

    def __matmul__(self, x: Array) -> Array:
        """`A @ x` for one vector or for several as columns."""
        return self.matvec(x) if x.ndim == 1 else self.matmat(x)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        """Refuse NumPy's silent conversion to an array of objects; `to_dense` is the way."""
        raise TypeError(
            f"an Operator of shape {self.shape} is not an array; "
            "use A @ x for products, or hesslab.operators.to_dense(A) for the matrix"
        )


def as_operator(A: Any) -> Operator:
    """Anything that multiplies, as an `Operator`.

    Takes an `Operator` (returned as it is), a NumPy array, a torch tensor, a SciPy sparse matrix or
    LinearOperator (multiplied one column at a time), and any object with `.shape` and `@` (or `.matvec`).
    Raises ValueError where the shape is not square, the matrix is empty or complex, holds NaN or infinity, or
    is visibly not symmetric. Costs no products; a dense matrix is read once.

    >>> from scipy.sparse import diags
    >>> as_operator(diags([1.0, 2.0, 3.0])).shape
    (3, 3)
    """
    if isinstance(A, Operator):
        return A
    n = _require_square(A)
    dtype, like = _native_kind(A)
    if array_api_compat.is_array_api_obj(A):
        A = _require_symmetric(A, dtype)
    if isinstance(A, LinearOperator) or not hasattr(type(A), "__matmul__"):
        if not hasattr(A, "matvec"):
            raise TypeError(f"A is a {type(A).__name__} with neither `@` nor `.matvec`; give one of them")
        # SciPy passes single columns on as (n, 1), which a function written for (n,) multiplies wrongly
        return Operator((n, n), dtype, lambda X: _columnwise(A.matvec, X), like)
    return Operator((n, n), dtype, lambda X: A @ X, like)


def generator(rng: int | np.random.Generator) -> np.random.Generator:
    """The generator of all that is drawn to look at a matrix: probes, starts of Lanczos, sampled targets.

    An integer seeds a stream apart from that of `numpy.random.default_rng(rng)`: a matrix or a network drawn
    with the same integer is independent of its probes, as the error bars take for granted. A Generator is
    used as it is; to draw the matrix from it first is fine. Raises ValueError for anything else.

    >>> import numpy as np
    >>> generator(0).standard_normal() == np.random.default_rng(0).standard_normal()
    False
    """
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, bool) or not isinstance(rng, int | np.integer) or rng < 0:
        raise ValueError(
            f"rng is {rng!r}; expected an integer of at least 0 or a numpy.random.Generator, such as rng=0"
        )
    return np.random.default_rng(np.random.SeedSequence(int(rng), spawn_key=(PROBES,)))


def to_dense(A: Any, *, block_size: int = 64) -> Array:
    """The matrix of `A`, shape (n, n), from its products with the identity, `block_size` columns at a time.

    Costs n products and n² numbers of memory.

    >>> import numpy as np
    >>> to_dense(np.diag([2.0, 5.0]))
    array([[2., 0.],
           [0., 5.]])
    """
    operator = as_operator(A)
    n = operator.shape[0]
    columns = [
        operator.multiply(operator.native(np.eye(n, min(block_size, n - start), -start)), num_products=start)
        for start in range(0, n, block_size)
    ]
    return operator.xp.concat(columns, axis=1)


def counted(A: Any) -> tuple[Operator, Callable[[], int]]:
    """`A`, and a function that says how many products were computed with it so far.

    >>> import numpy as np
    >>> A, num_matvecs = counted(np.eye(3))
    >>> _ = A @ np.ones((3, 2))
    >>> num_matvecs()
    2
    """
    operator = as_operator(A)
    total = 0

    def product(X: Array) -> Array:
        nonlocal total
        total += X.shape[1]
        return operator.product(X)

    return Operator(operator.shape, operator.dtype, product, operator.like), lambda: total


def _native_kind(A: Any) -> tuple[np.dtype[Any], Array]:
    """The precision A computes in, and an array of its kind."""
    dtype = getattr(A, "dtype", None)
    if dtype is not None and type(dtype).__module__.split(".")[0] == "torch":
        torch = sys.modules["torch"]
        name = str(dtype).removeprefix("torch.")
        name = "float64" if name.startswith(("int", "uint", "bool")) else name
        dtype = getattr(torch, name) if name in ("float32", "float64") else _refuse_dtype(name)
        return np.dtype(name), torch.empty(0, dtype=dtype, device=getattr(A, "device", "cpu"))
    real = np.dtype(np.float64 if dtype is None else dtype)
    if np.issubdtype(real, np.integer) or real == np.bool_:
        real = np.dtype(np.float64)
    if real.name not in ("float32", "float64"):
        _refuse_dtype(real.name)
    return real, np.empty(0, dtype=real)


def _refuse_dtype(name: str) -> Any:
    raise ValueError(
        f"A has dtype {name}; expected float32 or float64: convert it, and split a complex matrix"
    )


def _require_square(A: Any) -> int:
    shape = tuple(getattr(A, "shape", ()))
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"A has shape {shape or None}; expected a square matrix or operator, (n, n)")
    if shape[0] == 0:
        raise ValueError("A is empty, of shape (0, 0); expected at least one row")
    return int(shape[0])


def _require_symmetric(A: Array, dtype: np.dtype[Any]) -> Array:
    """`A` in floating point, after the checks that only a matrix in memory allows."""
    xp = array_api_compat.array_namespace(A)
    A = xp.astype(A.detach() if array_api_compat.is_torch_array(A) else A, getattr(xp, dtype.name))
    if not bool(xp.all(xp.isfinite(A))):
        raise ValueError("A holds NaN or infinity; expected finite numbers: look for them with isfinite(A)")
    largest, skew = float(xp.max(xp.abs(A))), float(xp.max(xp.abs(A - A.T)))
    if skew > 1e3 * float(xp.finfo(A.dtype).eps) * largest:
        raise ValueError(
            f"A is not symmetric: |A - Aᵀ| reaches {skew:.1e} where |A| reaches {largest:.1e}; "
            "a Hessian equals its transpose: check the derivative, or pass (A + A.T) / 2"
        )
    return A


def _require_rows(x: Any, n: int, ndims: tuple[int, ...]) -> None:
    shape = tuple(getattr(x, "shape", ()))
    if len(shape) not in ndims or shape[0] != n or (ndims != (2,) and len(shape) == 2 and shape[1] != 1):
        raise ValueError(f"x has shape {shape}; expected {n} rows, to multiply a matrix of shape {(n, n)}")


def _columnwise(matvec: Callable[[Array], Array], X: Array) -> Array:
    xp = array_api_compat.array_namespace(X)
    return xp.stack([matvec(X[:, j]).reshape(-1) for j in range(X.shape[1])], axis=1)


def _in_kind_of(x: Array, result: Array) -> Array:
    """`result` as an array of the kind of `x`, on the device of `x`."""
    if array_api_compat.is_torch_array(x):
        return array_api_compat.array_namespace(x).asarray(result, device=array_api_compat.device(x))
    return result.detach().cpu().numpy() if array_api_compat.is_torch_array(result) else result
