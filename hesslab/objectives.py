"""Functions with exact gradient and exact Hessian, written out by hand.

Each maker returns an `Objective`: a scalar function of one flat vector x, with its first two derivatives in
closed form, in float64. They are the ground truth for everything that only approximates a derivative.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]
Losses = Callable[[Vector], tuple[Vector, Vector, Vector]]


@dataclass(frozen=True)
class Objective:
    """A twice differentiable function f of x ∈ R^d, with its gradient g and its Hessian H.

    Fields: `name`; `dimension` d; `f`, `g`, `H`, functions of a float64 array (d,) that return a number, an
    array (d,) and an array (d, d); `minimizer`, a point of smallest value, None where none has a closed form.
    Call the methods: they check the shape of x. A new objective is one line:

    >>> import numpy as np
    >>> bowl = Objective("bowl", 1, lambda x: x[0]**4, lambda x: 4 * x**3, lambda x: np.diag(12 * x**2))
    >>> bowl.value([2.0]), bowl.gradient([2.0]), bowl.hessian([2.0])
    (16.0, array([32.]), array([[48.]]))
    """

    name: str
    dimension: int
    f: Callable[[Vector], Any] = field(repr=False)
    g: Callable[[Vector], Any] = field(repr=False)
    H: Callable[[Vector], Any] = field(repr=False)
    minimizer: Vector | None = field(default=None, repr=False, compare=False)

    def value(self, x: ArrayLike) -> float:
        """f(x), a float. Raises ValueError where x has not the shape (d,)."""
        return float(self.f(self._point(x)))

    def gradient(self, x: ArrayLike) -> Vector:
        """∇f(x), shape (d,). Raises ValueError where x has not the shape (d,)."""
        return np.asarray(self.g(self._point(x)))

    def hessian(self, x: ArrayLike) -> Vector:
        """∇²f(x), shape (d, d), symmetric to the last bit. Raises ValueError also where there is none."""
        return np.asarray(self.H(self._point(x)))

    def _point(self, x: ArrayLike) -> Vector:
        point = np.asarray(x, dtype=np.float64)
        if point.shape != (self.dimension,):
            raise ValueError(f"x has shape {point.shape}; {self.name} expects a point, ({self.dimension},)")
        return point


def quadratic(A: ArrayLike, b: ArrayLike | None = None) -> Objective:
    """f(x) = ½ xᵀA x − bᵀx, with gradient A x − b and Hessian A.

    `A` has shape (d, d), symmetric, of any signature; `b` has shape (d,), zero if not given. The minimizer
    A⁻¹b is known where A is positive definite. Raises ValueError for other shapes and for A ≠ Aᵀ.

    >>> f = quadratic([[2.0, 0.0], [0.0, 4.0]], b=[2.0, 4.0])
    >>> f.value([0.0, 0.0]), f.gradient([0.0, 0.0]), f.minimizer
    (0.0, array([-2., -4.]), array([1., 1.]))
    """
    A = _finite("A", A, "d", "d")
    if A.shape[0] != A.shape[1] or not np.array_equal(A, A.T):
        raise ValueError(f"A, of shape {A.shape}, is not symmetric; xᵀA x sees only (A + A.T) / 2: pass that")
    b = _finite("b", np.zeros(len(A)) if b is None else b, len(A))
    best = np.asarray(np.linalg.solve(A, b)) if np.linalg.eigvalsh(A)[0] > 0 else None
    return Objective(
        "quadratic", len(b), lambda x: x @ A @ x / 2 - b @ x, lambda x: A @ x - b, lambda x: A.copy(), best
    )


def rosenbrock(dimension: int = 2, *, steepness: float = 100.0) -> Objective:
    """f(x) = Σ_i s (x_{i+1} − x_i²)² + (1 − x_i)², i = 1 … d−1: a curved valley, minimal at (1, …, 1).

    s is `steepness`. The Hessian is tridiagonal; at the minimizer, for d = 2 and s = 100, its condition
    number is 2508. Raises ValueError where `dimension` < 2. (Nocedal & Wright 2006, Ex. 2.1)

    >>> import numpy as np
    >>> round(np.linalg.cond(rosenbrock().hessian([1.0, 1.0])))
    2508
    """
    if dimension < 2:
        raise ValueError(f"dimension is {dimension}; expected at least 2: the valley bends in a plane")
    s = float(steepness)

    def gradient(x: Vector) -> Vector:
        gap, x = x[1:] - x[:-1] ** 2, x[:-1]
        return np.asarray(np.append(-4 * s * x * gap - 2 * (1 - x), 0.0) + np.append(0.0, 2 * s * gap))

    def hessian(x: Vector) -> Vector:
        first, beside = 12 * s * x[:-1] ** 2 - 4 * s * x[1:] + 2, -4 * s * x[:-1]
        diagonal = np.append(first, 0.0) + np.append(0.0, np.full(dimension - 1, 2 * s))
        return np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)

    def value(x: Vector) -> float:
        return float(np.sum(s * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))

    return Objective("rosenbrock", dimension, value, gradient, hessian, np.ones(dimension))


def saddle(*, quartic: float = 0.0) -> Objective:
    """f(x, y) = ½ (x² − y²) + ¼ q y⁴: a saddle at 0 of trace zero, with minima beyond it where q > 0.

    q is `quartic`; the minima lie at (0, ±1/√q), with Hessian diag(1, 2). With q = 0, f is unbounded below.
    Raises ValueError where q < 0.

    >>> saddle().hessian([0.0, 0.0]).tolist(), saddle(quartic=1.0).minimizer.tolist()
    ([[1.0, 0.0], [0.0, -1.0]], [0.0, 1.0])
    """
    q = float(quartic)
    if q < 0:
        raise ValueError(f"quartic is {q}; expected 0, or a positive number for minima beyond the saddle")
    return Objective(
        "saddle",
        2,
        lambda x: 0.5 * (x[0] ** 2 - x[1] ** 2) + 0.25 * q * x[1] ** 4,
        lambda x: np.array([x[0], -x[1] + q * x[1] ** 3]),
        lambda x: np.diag([1.0, -1.0 + 3 * q * x[1] ** 2]),
        np.array([0.0, q**-0.5]) if q > 0 else None,
    )


def peano() -> Objective:
    """f(x, y) = xy (x² − y²) / (x² + y²), f(0) = 0: once continuously differentiable, with no Hessian at 0.

    Everywhere else f is smooth. At 0 the gradient is 0 and the mixed derivatives exist but differ:
    ∂/∂y (∂f/∂x) = −1 and ∂/∂x (∂f/∂y) = +1, so `hessian` raises ValueError there. f is homogeneous of degree
    2: along each ray the gradient grows linearly, and the Hessian is constant. (Rudin 1976, Ex. 9.27)

    >>> f, h = peano(), 1e-3
    >>> print(f.gradient([0.0, h])[0] / h, f.gradient([h, 0.0])[1] / h)
    -1.0 1.0
    """

    def polar(x: Vector) -> tuple[float, float, float]:
        r = float(np.hypot(x[0], x[1]))
        return (r, x[0] / r, x[1] / r) if r > 0 else (0.0, 0.0, 0.0)

    def value(x: Vector) -> float:
        r, u, v = polar(x)
        return r**2 * u * v * (u**2 - v**2)

    def gradient(x: Vector) -> Vector:
        r, u, v = polar(x)
        return r * np.array([v * (u**4 + 4 * u**2 * v**2 - v**4), u * (u**4 - 4 * u**2 * v**2 - v**4)])

    def hessian(x: Vector) -> Vector:
        r, u, v = polar(x)
        if r == 0:
            raise ValueError("x is (0, 0), where the mixed derivatives are −1 and +1; give another point")
        fxx, fyy = 4 * u * v**3 * (3 * v**2 - u**2), 4 * u**3 * v * (v**2 - 3 * u**2)
        fxy = (u**2 - v**2) * (u**4 + 10 * u**2 * v**2 + v**4)
        return np.array([[fxx, fxy], [fxy, fyy]])

    return Objective("peano", 2, value, gradient, hessian)


def scalar_factorization(target: float = 1.0) -> Objective:
    """f(a, b) = ½ (ab − t)²: the smallest model whose minima differ in sharpness.

    t is `target`. The minima are the hyperbola ab = t, where the Hessian has the eigenvalues 0 and a² + b²;
    `minimizer` is the flattest of them, of sharpness 2|t|.

    >>> f = scalar_factorization()
    >>> print(f.minimizer, f.hessian([2.0, 0.5]).trace())
    [1. 1.] 4.25
    """
    root = abs(target) ** 0.5
    minimizer = np.array([root, -root if target < 0 else root])
    return replace(deep_linear([1, 1, 1], [[target]]), name="scalar_factorization", minimizer=minimizer)


def deep_linear(sizes: Sequence[int], target: ArrayLike) -> Objective:
    """f(θ) = ½ ‖W_k ⋯ W_1 − M‖_F²: a deep linear network on whitened data.

    `sizes` is (d_0, …, d_k); W_i has shape (d_i, d_{i−1}); M, the `target`, has shape (d_k, d_0). θ holds
    W_1, …, W_k one after another, each row by row, which is the order of torch's `Linear(bias=False)` layers.
    With P = W_k ⋯ W_1, A_i the product of the layers after i, B_i of those before it, and R = P − M:

        ∂f/∂W_i = A_iᵀ R B_iᵀ,   H = JᵀJ + (second derivatives of P, weighted by R),   J_i = A_i ⊗ B_iᵀ.

    The first term is the Gauss–Newton matrix. Raises ValueError for fewer than two sizes, a size below 1, and
    another shape of M. (Singh, Bachmann & Hofmann 2021)

    >>> f = deep_linear([1, 1, 1], [[1.0]])          # the scalar factorization
    >>> print(f.hessian([2.0, 0.5]).trace())
    4.25
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes is {list(sizes)}; expected two or more positive widths, input first")
    M = _finite("target", target, sizes[-1], sizes[0])
    k, shapes = len(sizes) - 1, [(rows, columns) for columns, rows in pairwise(sizes)]
    at = [slice(a, b) for a, b in pairwise(np.cumsum([0, *(rows * columns for rows, columns in shapes)]))]

    def product(W: list[Vector], start: int, stop: int) -> Vector:
        """W[stop−1] ⋯ W[start]; the identity where there is nothing between."""
        P = np.eye(sizes[start])
        for layer in W[start:stop]:
            P = layer @ P
        return P

    def forward(theta: Vector) -> tuple[list[Vector], Vector, Vector]:
        W = [theta[at[i]].reshape(shapes[i]) for i in range(k)]
        J = np.hstack([np.kron(product(W, i + 1, k), product(W, 0, i).T) for i in range(k)])
        return W, product(W, 0, k) - M, J

    def gradient(theta: Vector) -> Vector:
        _, R, J = forward(theta)
        return np.asarray(J.T @ R.ravel())

    def hessian(theta: Vector) -> Vector:
        W, R, J = forward(theta)
        H = J.T @ J
        for i, j in combinations(range(k), 2):
            around = product(W, j + 1, k).T @ R @ product(W, 0, i).T
            second = np.einsum("ab,cd->acdb", around, product(W, i + 1, j)).reshape(-1, W[i].size)
            H[at[j], at[i]] += second
            H[at[i], at[j]] += second.T
        return H

    return Objective("deep_linear", at[-1].stop, lambda t: np.sum(forward(t)[1] ** 2) / 2, gradient, hessian)


def least_squares(X: ArrayLike, y: ArrayLike, *, ridge: float = 0.0) -> Objective:
    """f(w) = 1/(2n) ‖X w − y‖² + ½ ρ ‖w‖², with Hessian XᵀX/n + ρ I.

    `X` has shape (n, d), `y` (n,), ρ is `ridge`. `minimizer` is the solution of smallest norm. Raises
    ValueError for other shapes, NaN or infinity, and ρ < 0.

    >>> f = least_squares([[1.0], [2.0]], [2.0, 4.0])
    >>> f.hessian([0.0]), f.minimizer.round(12)
    (array([[2.5]]), array([2.]))
    """
    X, y = _examples(X, y, ridge)
    rows, targets = np.vstack([X, np.sqrt(len(X) * ridge) * np.eye(X.shape[1])]), np.append(y, 0 * X[0])
    best = np.linalg.lstsq(rows, targets)[0]
    return _linear_model("least_squares", X, ridge, lambda z: ((z - y) ** 2 / 2, z - y, 0 * z + 1), best)


def logistic_regression(X: ArrayLike, y: ArrayLike, *, ridge: float = 0.0) -> Objective:
    """f(w) = 1/n Σ_i log(1 + exp(−s_i x_iᵀw)) + ½ ρ ‖w‖², with s_i = 2 y_i − 1.

    `X` has shape (n, d), the labels `y` are 0 or 1, shape (n,), ρ is `ridge`. With p = σ(X w):

        ∇f = Xᵀ(p − y)/n + ρ w,   ∇²f = Xᵀ diag(p (1 − p)) X/n + ρ I.

    There is no bias: append a column of ones to X. Raises ValueError for other shapes, labels, and ρ < 0.

    >>> f = logistic_regression([[1.0], [-1.0]], [1, 0])
    >>> round(f.value([0.0]), 4), f.gradient([0.0]), f.hessian([0.0]).round(12)
    (0.6931, array([-0.5]), array([[0.25]]))
    """
    X, y = _examples(X, y, ridge)
    _labels(y, 2)

    def losses(z: Vector) -> tuple[Vector, Vector, Vector]:
        p, q = np.exp(-np.logaddexp(0, -z)), np.exp(-np.logaddexp(0, z))  # σ(z), 1 − σ(z), no overflow
        return np.logaddexp(0, (1 - 2 * y) * z), p - y, p * q

    return _linear_model("logistic_regression", X, ridge, losses, None)


def softmax_regression(X: ArrayLike, y: ArrayLike, *, num_classes: int = 0, ridge: float = 0.0) -> Objective:
    """f(θ) = 1/n Σ_i [log Σ_c exp(w_cᵀx_i) − w_{y_i}ᵀx_i] + ½ ρ ‖θ‖²: cross-entropy of a linear model.

    `X` has shape (n, d), the labels `y` are 0 … C−1, shape (n,); C is `num_classes`, max(y) + 1 if 0. θ
    holds the C rows w_c of W, shape (C, d), one after another: θ[c·d + j] = W[c, j], the order of torch's
    `Linear(d, C, bias=False)`. With p the (n, C) softmax probabilities, the (c, e) block of the Hessian is

        1/n Xᵀ diag(p_c (δ_ce − p_e)) X + ρ δ_ce I.

    At ρ = 0 adding one vector to every w_c changes nothing: d eigenvalues or more are 0. There is no bias:
    append a column of ones to X. Raises ValueError for other shapes, labels, and ρ < 0. (Bishop 2006, §4.3.4)

    >>> f = softmax_regression([[1.0, 0.0], [0.0, 1.0]], [0, 2])
    >>> f.dimension, round(f.value([0.0] * 6), 4)          # 3 classes, and log 3
    (6, 1.0986)
    """
    X, y = _examples(X, y, ridge)
    C = num_classes or max(1, int(y.max()) + 1)
    (n, d), one_hot = X.shape, np.eye(C)[_labels(y, C)]

    def log_probabilities(theta: Vector) -> Vector:
        z = X @ theta.reshape(C, d).T
        z -= z.max(axis=1, keepdims=True)
        return np.asarray(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))

    def gradient(theta: Vector) -> Vector:
        p = np.exp(log_probabilities(theta))
        return np.asarray(((p - one_hot).T @ X / n).ravel() + ridge * theta)

    def hessian(theta: Vector) -> Vector:
        p = np.exp(log_probabilities(theta))
        weighted: Vector = (p[:, :, None] * X[:, None, :]).reshape(n, C * d)
        H: Vector = ridge * np.eye(C * d) - weighted.T @ weighted / n
        for c in range(C):
            Z = np.sqrt(p[:, c, None]) * X
            H[c * d : (c + 1) * d, c * d : (c + 1) * d] += Z.T @ Z / n
        return H

    def value(theta: Vector) -> float:
        return float(0.5 * ridge * theta @ theta - np.sum(one_hot * log_probabilities(theta)) / n)

    return Objective("softmax_regression", C * d, value, gradient, hessian)


def _linear_model(name: str, X: Vector, ridge: float, losses: Losses, best: Vector | None) -> Objective:
    """f(w) = mean of ℓ_i(x_iᵀw) + ½ ρ ‖w‖²; `losses` gives ℓ, ℓ′ and ℓ″ ≥ 0, each (n,), at z = X w."""
    n, d = X.shape

    def value(w: Vector) -> float:
        return float(np.mean(losses(X @ w)[0]) + 0.5 * ridge * w @ w)

    def hessian(w: Vector) -> Vector:
        Z = np.sqrt(losses(X @ w)[2])[:, None] * X  # ZᵀZ is symmetric to the last bit, Xᵀ(D X) is not
        return np.asarray(Z.T @ Z / n + ridge * np.eye(d))

    return Objective(name, d, value, lambda w: X.T @ losses(X @ w)[1] / n + ridge * w, hessian, best)


def _finite(name: str, array: ArrayLike, *shape: int | str) -> Vector:
    """A float64 copy of `array`, of the given shape, a letter standing for any length."""
    result = np.array(array, dtype=np.float64)
    known = tuple(m if isinstance(m, int) else n for m, n in zip(shape, result.shape, strict=False))
    if len(shape) != result.ndim or known != result.shape:
        raise ValueError(f"{name} has shape {result.shape}; expected ({', '.join(map(str, shape))})")
    if result.size == 0 or not np.all(np.isfinite(result)):
        raise ValueError(f"{name} is empty or holds NaN or infinity; expected finite numbers")
    return result


def _examples(X: ArrayLike, y: ArrayLike, ridge: float) -> tuple[Vector, Vector]:
    X = _finite("X", X, "n", "d")
    y = _finite("y", y, len(X))
    if not ridge >= 0:
        raise ValueError(f"ridge is {ridge}; expected a number of at least 0")
    return X, y


def _labels(y: Vector, C: int) -> NDArray[np.int64]:
    if not np.isin(y, np.arange(C)).all():
        raise ValueError(f"y holds labels from {y.min():g} to {y.max():g}; expected integers 0 … {C - 1}")
    return y.astype(np.int64)
