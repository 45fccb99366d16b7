"""A subspace that grows by products: what `lanczos` knows of a matrix after m products with it.

One relation holds at every moment. The rows of U are orthonormal; the first m of them, V, have been
multiplied, the others, the front, are still to be multiplied; and

    A Vᵀ = Uᵀ S,    S = [H; B],    H = V A Vᵀ of shape (m, m).

H is the matrix seen from the subspace: its eigenpairs (θ, y) are the Ritz pairs, and ‖B y‖ is the residual of
Vᵀy, free of charge. A front of one vector is Lanczos, a front of b vectors is block Lanczos, and a vector put
at the front that nothing leads to is a new start. Restarting keeps some Ritz vectors as V and the front as it
is. References: Wu & Simon, SIAM J. Matrix Anal. Appl. 22 (2000) 602, §2, for the restart; Golub & Van Loan
2013, §10.3.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import array_api_compat
import numpy as np
from numpy.typing import NDArray

from hesslab.operators import Array, Operator

Values = NDArray[np.float64]

#: A matrix whose two sides differ by more than this, relative to its norm, is refused as not symmetric.
#: Products of a float32 network differ by 1e-6 or so, a wrong derivative by 1e-2 or more.
SKEW = 1e-3


@dataclass(frozen=True)
class Subspace:
    """The relation A Vᵀ = Uᵀ S after m products.

    Fields: `operator`; `buffer`, native, of shape (capacity, n), whose first rows are U and whose other rows
    are scratch; `S` of shape (m + front, m); `scale`, the largest ‖A u‖ seen, of the order of the norm of A;
    `num_products` spent so far; `seen`, the lowest and highest Ritz values that restarts have left behind;
    `forgotten`, the size of what `trimmed` has left out of S.
    """

    operator: Operator
    buffer: Array
    S: Values
    scale: float = 0.0
    num_products: int = 0
    seen: tuple[float, float] = (np.inf, -np.inf)
    forgotten: float = 0.0

    @property
    def size(self) -> int:
        """m, the number of basis vectors that have been multiplied."""
        return int(self.S.shape[1])

    @property
    def front(self) -> int:
        """The number of basis vectors still to be multiplied."""
        return int(self.S.shape[0] - self.S.shape[1])

    @property
    def rows(self) -> Array:
        """U, of shape (m + front, n)."""
        return self.buffer[: self.S.shape[0], :]

    @cached_property
    def ritz(self) -> tuple[Values, Values, Values]:
        """θ (m,) ascending, Y (m, m) and the residuals ‖B y‖ (m,) of the Ritz pairs (θ, Vᵀy)."""
        theta, Y = np.linalg.eigh(self.S[: self.size])
        return theta, Y, np.linalg.norm(self.S[self.size :] @ Y, axis=0)

    @property
    def rounding(self) -> float:
        """What rounding may leave in a product."""
        return rounding(self.operator, self.scale)

    @cached_property
    def extent(self) -> tuple[float, float]:
        """The lowest and the highest Ritz value seen so far: inside the spectrum, and close to its ends."""
        theta = self.ritz[0]
        return min([self.seen[0], *theta[:1]]), max([self.seen[1], *theta[-1:]])

    def vectors(self, Y: Values) -> Array:
        """The columns Vᵀ Y, native, of shape (n, p)."""
        return self.buffer[: self.size, :].T @ self.operator.native(Y)


def empty(operator: Operator, capacity: int) -> Subspace:
    """The subspace of dimension zero, with room for `capacity` vectors."""
    like = operator.like
    shape = (capacity, operator.shape[0])
    buffer = operator.xp.empty(shape, dtype=like.dtype, device=array_api_compat.device(like))
    return Subspace(operator, buffer, np.zeros((0, 0)))


def spanned(space: Subspace, X: Array, AX: Array) -> Subspace:
    """`space` begun again with the orthonormal columns X, whose products AX are known.

    Its front is the residual block, without the directions that are below rounding.
    """
    space.buffer[: X.shape[1], :] = X.T
    return _absorb(replace(space, S=np.eye(X.shape[1], 0), seen=space.extent), AX)


def expand(space: Subspace) -> Subspace:
    """Multiply the first vector of the front, and put what is new in the product at its end.

    Costs one product. Raises ValueError where it is not finite, or where vᵀAu and uᵀAv differ.
    """
    m = space.size
    AX = space.operator.multiply(space.buffer[m : m + 1, :].T, num_products=space.num_products)
    return _absorb(replace(space, num_products=space.num_products + 1), AX)


def inject(space: Subspace, X: Array) -> Subspace:
    """Put the columns of X, made orthogonal to U, at the head of the front: nothing leads to them.

    A column inside the span of U is left out.
    """
    for i in range(X.shape[1]):
        size = norm(X[:, i])
        _, x, rest = orthogonalized(space.rows, X[:, i])
        if rest > 1e3 * np.finfo(space.operator.dtype).eps * size:
            S = np.vstack([space.S, np.zeros(space.size)])
            space.buffer[S.shape[0] - 1, :] = x
            space = rolled(replace(space, S=S), -1)
    return space


def rotated(space: Subspace, G: Values) -> Subspace:
    """The same subspace with the front replaced by G times the front, G orthogonal."""
    m = space.size
    _combine_rows(space, m, G)
    return replace(space, S=np.vstack([space.S[:m], G @ space.S[m:]]))


def rolled(space: Subspace, count: int) -> Subspace:
    """The same subspace with the first `count` vectors of its front moved behind the others."""
    return rotated(space, np.roll(np.eye(space.front), -count, axis=0)) if count else space


def trimmed(space: Subspace, count: int) -> Subspace:
    """The same subspace with only the `count` vectors of the front that V leans on most.

    What V has along the others is forgotten: the residuals ‖B y‖ become too small by as much.
    """
    if space.front <= count:
        return space
    G, sizes, _ = np.linalg.svd(space.S[space.size :])
    space = rotated(space, G.T)
    forgotten = space.forgotten + float(max(sizes[count:], default=0.0))
    return replace(space, S=space.S[: space.size + count], forgotten=forgotten)


def restarted(space: Subspace, Y: Values) -> Subspace:
    """The subspace of the Ritz vectors Vᵀ Y, Y of shape (m, p), with the same front. Costs no product."""
    m, end, p = space.size, space.S.shape[0], Y.shape[1]
    H = Y.T @ space.S[:m] @ Y
    _combine_rows(space, 0, Y.T)
    space.buffer[p : p + end - m, :] = space.operator.xp.asarray(space.buffer[m:end, :], copy=True)
    return replace(space, S=np.vstack([(H + H.T) / 2, space.S[m:] @ Y]), seen=space.extent)


def orthogonalized(rows: Array, w: Array) -> tuple[Values, Array, float]:
    """Coefficients c, unit vector u and β, with w = rowsᵀ c + β u and u orthogonal to the rows.

    Gram–Schmidt, repeated until it no longer shortens the vector, at least twice (Daniel, Gragg, Kaufman &
    Stewart, Math. Comp. 30 (1976) 772). Where w lies in the span of the rows, β is 0 and u has no meaning.
    """
    size = norm(w)
    c, beta = np.zeros(rows.shape[0]), 1.0
    w = w / size if size > 0.0 else w
    for sweep in range(4):
        step = rows @ w
        w = w - rows.T @ step
        c += to_numpy(step)
        before, beta = beta, norm(w)
        if beta == 0.0 or (sweep > 0 and beta > 0.7 * before):
            break
    return c * size, (w / beta if beta > 0.0 else w), beta * size


def norm(w: Array) -> float:
    """‖w‖, safe from underflow: a float32 vector of size 1e-25 has a norm too."""
    largest = float(abs(w).max())
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    w = w / largest
    return largest * math.sqrt(float(w @ w))


def rounding(operator: Operator, scale: float) -> float:
    """What rounding may leave in a product of size `scale`: an error that grows like √n for a dense matrix.

    It is not let grow beyond a hundred epsilons, where in float32 it would hide the bulk of a network.
    """
    return min(10.0 + math.sqrt(operator.shape[0]), 100.0) * float(np.finfo(operator.dtype).eps) * scale


def to_numpy(x: Array) -> Values:
    """A small native array as NumPy float64."""
    return np.asarray(x.detach().cpu() if hasattr(x, "detach") else x, dtype=np.float64)


def _absorb(space: Subspace, AX: Array) -> Subspace:
    """Extend S by one column for each column of AX, and U by what is new in it."""
    for i in range(AX.shape[1]):
        space = _absorb_one(space, AX[:, i])
    return space


def _absorb_one(space: Subspace, w: Array) -> Subspace:
    space = replace(space, scale=max(space.scale, norm(w)))
    m = space.size
    column, w, beta = orthogonalized(space.rows, w)
    known = space.S[m, :]
    skew = float(np.max(np.abs(column[:m] - known), initial=0.0)) - space.forgotten
    require_symmetric(skew, space.scale, space.num_products)
    S = np.column_stack([space.S, column])
    S[:m, m] = S[m, :m] = (known + column[:m]) / 2
    if beta > space.rounding:
        space.buffer[S.shape[0], :] = w
        S = np.vstack([S, np.append(np.zeros(m), beta)])
    return replace(space, S=S)


def require_symmetric(skew: float, scale: float, num_products: int) -> None:
    """Raise ValueError where uᵀAv and vᵀAu differ by `skew`, too much for a matrix of size `scale`."""
    if skew > SKEW * scale:
        raise ValueError(
            f"A is not symmetric, or not the same at every call: by product {num_products}, uᵀAv and vᵀAu "
            f"differ by {skew:.1e} where A has size {scale:.1e}; "
            "check the derivative, or freeze dropout and batches"
        )


def _combine_rows(space: Subspace, first: int, G: Values, chunk: int = 1 << 16) -> None:
    """Overwrite rows of the buffer from `first` on by G times them, in pieces: no second copy is held."""
    G = space.operator.native(G)
    for start in range(0, space.buffer.shape[1], chunk):
        piece = slice(start, start + chunk)
        rows = space.buffer[first : first + G.shape[1], piece]
        space.buffer[first : first + G.shape[0], piece] = G @ rows
