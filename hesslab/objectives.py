"""Functions with exact gradient and exact Hessian, written out by hand.

Each maker returns an `Objective`: a scalar function of one flat vector x, with its first two derivatives in
closed form, in float64. They are the ground truth for everything that only approximates a derivative.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Objective:
    """A twice differentiable function f of x ∈ R^d, with its gradient g and its Hessian H.

    Fields: `name`; `dimension` d; `f`, `g`, `H`, functions of a float64 array (d,) that return a number, an
    array (d,) and an array (d, d); `minimizer`, a point of smallest value, or None where none has a closed form.
    Call the methods: they check the shape of x. A new objective is one line:

    >>> import numpy as np
    >>> bowl = Objective("bowl", 1, lambda x: x[0]**4, lambda x: 4 * x**3, lambda x: np.diag(12 * x**2))
    >>> bowl.value([2.0]), bowl.gradient([2.0]), bowl.hessian([2.0])
    (16.0, array([32.]), array([[48.]]))
    """

    name: str
    dimension: int
    f: Callable[[Vector], float] = field(repr=False)
    g: Callable[[Vector], Vector] = field(repr=False)
    H: Callable[[Vector], Vector] = field(repr=False)
    minimizer: Vector | None = field(default=None, repr=False, compare=False)

    def value(self, x: ArrayLike) -> float:
        """f(x), a float. Raises ValueError where x has not the shape (d,)."""
        return float(self.f(self._point(x)))

    def gradient(self, x: ArrayLike) -> Vector:
        """∇f(x), shape (d,). Raises ValueError where x has not the shape (d,)."""
        return self.g(self._point(x))

    def hessian(self, x: ArrayLike) -> Vector:
        """∇²f(x), shape (d, d), equal to its transpose to the last bit.

        Raises ValueError where x has not the shape (d,), and where f has no Hessian at x.
        """
        return self.H(self._point(x))

    def _point(self, x: ArrayLike) -> Vector:
        point = np.asarray(x, dtype=np.float64)
        if point.shape != (self.dimension,):
            raise ValueError(
                f"x has shape {point.shape}; expected {(self.dimension,)}, one point of the domain of {self.name}"
            )
        return point


def quadratic(A: ArrayLike, b: ArrayLike | None = None) -> Objective:
    """f(x) = ½ xᵀA x − bᵀx, with gradient A x − b and Hessian A.

    `A` has shape (d, d) and is symmetric, of any signature; `b` has shape (d,), zero if not given. The
    minimizer A⁻¹b is known where A is positive definite. Raises ValueError for other shapes, and where A is
    not symmetric.

    >>> f = quadratic([[2.0, 0.0], [0.0, 4.0]], b=[2.0, 4.0])
    >>> f.value([0.0, 0.0]), f.gradient([0.0, 0.0]), f.minimizer
    (0.0, array([-2., -4.]), array([1., 1.]))
    """
    A = _finite("A", A, ndim=2)
    if A.shape[0] != A.shape[1] or not np.array_equal(A, A.T):
        raise ValueError(
            f"A, of shape {A.shape}, is not a symmetric matrix; xᵀA x sees only (A + A.T) / 2: pass that"
        )
    b = np.zeros(len(A)) if b is None else _finite("b", b, ndim=1)
    if len(b) != len(A):
        raise ValueError(f"b has shape {b.shape}; expected {(len(A),)}, one entry for each row of A")
    definite = float(np.linalg.eigvalsh(A)[0]) > 0
    minimizer = np.linalg.solve(A, b) if definite else None
    return Objective(
        "quadratic",
        len(A),
        lambda x: 0.5 * x @ A @ x - b @ x,
        lambda x: A @ x - b,
        lambda x: A.copy(),
        minimizer,
    )


def rosenbrock(dimension: int = 2, *, steepness: float = 100.0) -> Objective:
    """f(x) = Σ_i s (x_{i+1} − x_i²)² + (1 − x_i)², i = 1 … d−1: a curved valley, minimal at (1, …, 1).

    s is `steepness`. The Hessian is tridiagonal; at the minimizer, for d = 2 and s = 100, its condition number
    is 2508. Raises ValueError where `dimension` < 2. (Rosenbrock 1960; d = 2 in Nocedal & Wright 2006, Ex. 2.1)

    >>> import numpy as np
    >>> round(np.linalg.cond(rosenbrock().hessian([1.0, 1.0])))
    2508
    """
    if dimension < 2:
        raise ValueError(f"dimension is {dimension}; expected at least 2: the valley bends in a plane")
    s = float(steepness)

    def gradient(x: Vector) -> Vector:
        gap, result = x[1:] - x[:-1] ** 2, np.zeros(dimension)
        result[:-1] = -4 * s * x[:-1] * gap - 2 * (1 - x[:-1])
        result[1:] += 2 * s * gap
        return result

    def hessian(x: Vector) -> Vector:
        diagonal = np.zeros(dimension)
        diagonal[:-1] = 12 * s * x[:-1] ** 2 - 4 * s * x[1:] + 2
        diagonal[1:] += 2 * s
        beside = -4 * s * x[:-1]
        return np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)

    return Objective(
        "rosenbrock",
        dimension,
        lambda x: float(np.sum(s * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)),
        gradient,
        hessian,
        np.ones(dimension),
    )


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
    ∂/∂y (∂f/∂x) = −1 and ∂/∂x (∂f/∂y) = +1, so `hessian` raises ValueError there. f is homogeneous of degree 2:
    along each ray the gradient grows linearly, and the Hessian is constant. (Peano 1884; Rudin 1976, Ex. 9.27)

    >>> f, h = peano(), 1e-3
    >>> f.gradient([0.0, h])[0] / h, f.gradient([h, 0.0])[1] / h
    (-1.0, 1.0)
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
            raise ValueError(
                "x is (0, 0), where Peano's function has the mixed derivatives −1 and +1 and no Hessian; "
                "evaluate it anywhere else, or take differences of the gradient to see the two numbers"
            )
        mixed = (u**2 - v**2) * (u**4 + 10 * u**2 * v**2 + v**4)
        return np.array(
            [[4 * u * v**3 * (3 * v**2 - u**2), mixed], [mixed, 4 * u**3 * v * (v**2 - 3 * u**2)]]
        )

    return Objective("peano", 2, value, gradient, hessian)


def scalar_factorization(target: float = 1.0) -> Objective:
    """f(a, b) = ½ (ab − t)²: the smallest model whose minima differ in sharpness.

    The minima are the hyperbola ab = t, with Hessian eigenvalues 0 and a² + b² there; `minimizer` is its
    flattest point, of sharpness 2|t|. Off it the Hessian is indefinite near 0. t is `target`.

    >>> f = scalar_factorization()
    >>> f.minimizer, f.hessian([2.0, 0.5]).trace()
    (array([1., 1.]), np.float64(4.25))
    """
    t = float(target)

    def hessian(x: Vector) -> Vector:
        a, b = x
        return np.array([[b**2, 2 * a * b - t], [2 * a * b - t, a**2]])

    root = abs(t) ** 0.5
    return Objective(
        "scalar_factorization",
        2,
        lambda x: 0.5 * (x[0] * x[1] - t) ** 2,
        lambda x: (x[0] * x[1] - t) * x[::-1],
        hessian,
        np.array([root, -root if t < 0 else root]),
    )


def deep_linear(sizes: Sequence[int], target: ArrayLike) -> Objective:
    """f(θ) = ½ ‖W_k ⋯ W_1 − M‖_F²: a deep linear network on whitened data.

    `sizes` is (d_0, …, d_k); W_i has shape (d_i, d_{i−1}); M, the `target`, has shape (d_k, d_0). θ holds
    W_1, …, W_k one after another, each row by row, which is the order of torch's `Linear(bias=False)` layers.
    With P = W_k ⋯ W_1, A_i the layers after i, B_i those before, C_ij those between, and R = P − M:

        ∂f/∂W_i = A_iᵀ R B_iᵀ,   H = JᵀJ + (second derivatives of P, weighted by R),   J_i = A_i ⊗ B_iᵀ.

    The first term is the Gauss–Newton matrix. Raises ValueError for fewer than two sizes, a size below 1, and
    another shape of M. (Saxe, McClelland & Ganguli 2014, §1; Singh, Bachmann & Hofmann 2021)

    >>> f = deep_linear([1, 1, 1], [[1.0]])          # the scalar factorization
    >>> f.hessian([2.0, 0.5]).trace()
    np.float64(4.25)
    """
    M, shapes = _target_and_shapes(sizes, target)
    k, ends = len(shapes), np.cumsum([0, *(m * n for m, n in shapes)])

    def layers(x: Vector) -> list[Vector]:
        return [x[ends[i] : ends[i + 1]].reshape(shapes[i]) for i in range(k)]

    def product(W: list[Vector], start: int, stop: int) -> Vector:
        """W_{stop−1} ⋯ W_{start}, counted from 0; the identity where there is nothing between."""
        P = np.eye(sizes[start])
        for layer in W[start:stop]:
            P = layer @ P
        return P

    def value(x: Vector) -> float:
        return 0.5 * float(np.sum((product(layers(x), 0, k) - M) ** 2))

    def gradient(x: Vector) -> Vector:
        W = layers(x)
        R = product(W, 0, k) - M
        return np.concatenate([(product(W, i + 1, k).T @ R @ product(W, 0, i).T).ravel() for i in range(k)])

    def hessian(x: Vector) -> Vector:
        W = layers(x)
        R = product(W, 0, k) - M
        J = np.hstack([np.kron(product(W, i + 1, k), product(W, 0, i).T) for i in range(k)])
        H = J.T @ J
        for i in range(k):
            for j in range(i + 1, k):
                G = product(W, j + 1, k).T @ R @ product(W, 0, i).T
                second = np.einsum("ab,cd->acdb", G, product(W, i + 1, j)).reshape(ends[j + 1] - ends[j], -1)
                H[ends[j] : ends[j + 1], ends[i] : ends[i + 1]] += second
                H[ends[i] : ends[i + 1], ends[j] : ends[j + 1]] += second.T
        return H

    return Objective("deep_linear", int(ends[-1]), value, gradient, hessian)


def least_squares(X: ArrayLike, y: ArrayLike, *, ridge: float = 0.0) -> Objective:
    """f(w) = 1/(2n) ‖X w − y‖² + ½ ρ ‖w‖², with Hessian XᵀX/n + ρ I.

    `X` has shape (n, d), `y` (n,), ρ is `ridge`. `minimizer` is the solution of smallest norm. Raises ValueError
    for other shapes, NaN or infinity, and ρ < 0.

    >>> f = least_squares([[1.0], [2.0]], [2.0, 4.0])
    >>> f.hessian([0.0]), f.minimizer.round(12)
    (array([[2.5]]), array([2.]))
    """
    X, y = _examples(X, y, ridge)
    n, d = X.shape
    H = X.T @ X / n + ridge * np.eye(d)
    ridge_rows = np.sqrt(n * ridge) * np.eye(d) if ridge else np.zeros((0, d))
    minimizer = np.linalg.lstsq(np.vstack([X, ridge_rows]), np.append(y, np.zeros(len(ridge_rows))))[0]
    return Objective(
        "least_squares",
        d,
        lambda w: 0.5 * float(np.mean((X @ w - y) ** 2) + ridge * w @ w),
        lambda w: X.T @ (X @ w - y) / n + ridge * w,
        lambda w: H.copy(),
        minimizer,
    )


def logistic_regression(X: ArrayLike, y: ArrayLike, *, ridge: float = 0.0) -> Objective:
    """f(w) = 1/n Σ_i log(1 + exp(−s_i x_iᵀw)) + ½ ρ ‖w‖², with s_i = 2 y_i − 1.

    `X` has shape (n, d), the labels `y` are 0 or 1, shape (n,), ρ is `ridge`. With p = σ(X w):

        ∇f = Xᵀ(p − y)/n + ρ w,   ∇²f = Xᵀ diag(p (1 − p)) X/n + ρ I.

    There is no bias: append a column of ones to X. Raises ValueError for other shapes, labels, and ρ < 0.

    >>> f = logistic_regression([[1.0], [-1.0]], [1, 0])
    >>> round(f.value([0.0]), 4), f.gradient([0.0]), f.hessian([0.0])
    (0.6931, array([-0.5]), array([[0.25]]))
    """
    X, y = _examples(X, y, ridge)
    n, d = X.shape
    if not np.all((y == 0) | (y == 1)):
        raise ValueError(f"y holds labels from {y.min():g} to {y.max():g}; expected only 0 and 1")

    def probability(z: Vector) -> Vector:
        return np.exp(-np.logaddexp(0, -z))  # σ(z), without overflow for z of either sign

    def hessian(w: Vector) -> Vector:
        z = X @ w
        Z = np.sqrt(probability(z) * probability(-z))[:, None] * X
        return Z.T @ Z / n + ridge * np.eye(d)

    return Objective(
        "logistic_regression",
        d,
        lambda w: float(np.mean(np.logaddexp(0, (1 - 2 * y) * (X @ w)))) + 0.5 * ridge * float(w @ w),
        lambda w: X.T @ (probability(X @ w) - y) / n + ridge * w,
        hessian,
    )


def softmax_regression(
    X: ArrayLike, y: ArrayLike, *, num_classes: int | None = None, ridge: float = 0.0
) -> Objective:
    """f(θ) = 1/n Σ_i [log Σ_c exp(w_cᵀx_i) − w_{y_i}ᵀx_i] + ½ ρ ‖θ‖²: cross-entropy of a linear model.

    `X` has shape (n, d), the labels `y` are 0 … C−1, shape (n,); C is `num_classes`, by default max(y) + 1. θ
    holds the C rows w_c of W, shape (C, d), one after another: θ[c·d + j] = W[c, j], the order of torch's
    `Linear(d, C, bias=False)`. With p the (n, C) softmax probabilities, the (c, e) block of the Hessian is

        1/n Xᵀ diag(p_c (δ_ce − p_e)) X + ρ δ_ce I.

    At ρ = 0 adding one vector to every w_c changes nothing: at least d eigenvalues are 0. There is no bias: append
    a column of ones to X. Raises ValueError for other shapes, labels, and ρ < 0. (Bishop 2006, §4.3.4)

    >>> import numpy as np
    >>> f = softmax_regression(np.eye(3), [0, 1, 2])
    >>> f.dimension, round(f.value(np.zeros(9)), 4)          # log 3
    (9, 1.0986)
    """
    X, y = _examples(X, y, ridge)
    C = int(y.max()) + 1 if num_classes is None else num_classes
    if np.any((y != np.floor(y)) | (y < 0) | (y >= C)):
        raise ValueError(f"y holds labels from {y.min():g} to {y.max():g}; expected integers 0 … {C - 1}")
    (n, d), labels = X.shape, y.astype(int)
    one_hot = np.eye(C)[labels]

    def log_probabilities(theta: Vector) -> Vector:
        z = X @ theta.reshape(C, d).T
        z = z - z.max(axis=1, keepdims=True)
        return z - np.log(np.exp(z).sum(axis=1, keepdims=True))

    def value(theta: Vector) -> float:
        return -float(log_probabilities(theta)[np.arange(n), labels].mean()) + 0.5 * ridge * float(
            theta @ theta
        )

    def gradient(theta: Vector) -> Vector:
        p = np.exp(log_probabilities(theta))
        return ((p - one_hot).T @ X / n).ravel() + ridge * theta

    def hessian(theta: Vector) -> Vector:
        p = np.exp(log_probabilities(theta))
        weighted = (p[:, :, None] * X[:, None, :]).reshape(n, C * d)
        H = -weighted.T @ weighted / n
        for c in range(C):
            Z = np.sqrt(p[:, c, None]) * X
            H[c * d : (c + 1) * d, c * d : (c + 1) * d] += Z.T @ Z / n
        return H + ridge * np.eye(C * d)

    return Objective("softmax_regression", C * d, value, gradient, hessian)


def _finite(name: str, array: ArrayLike, *, ndim: int) -> Vector:
    result = np.array(array, dtype=np.float64)
    if result.ndim != ndim or result.size == 0:
        raise ValueError(f"{name} has shape {result.shape}; expected {ndim} dimension(s), none of length 0")
    if not np.all(np.isfinite(result)):
        raise ValueError(
            f"{name} holds NaN or infinity; expected finite numbers: look for them with np.isfinite"
        )
    return result


def _examples(X: ArrayLike, y: ArrayLike, ridge: float) -> tuple[Vector, Vector]:
    X, y = _finite("X", X, ndim=2), _finite("y", y, ndim=1)
    if len(X) != len(y):
        raise ValueError(f"X has {len(X)} rows and y has {len(y)} entries; expected one entry for each row")
    if not ridge >= 0:
        raise ValueError(f"ridge is {ridge}; expected a number of at least 0")
    return X, y


def _target_and_shapes(sizes: Sequence[int], target: ArrayLike) -> tuple[Vector, list[tuple[int, int]]]:
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes is {list(sizes)}; expected two or more positive widths, input first")
    M = _finite("target", target, ndim=2)
    if M.shape != (sizes[-1], sizes[0]):
        raise ValueError(f"target has shape {M.shape}; expected {(sizes[-1], sizes[0])}, (outputs, inputs)")
    return M, list(zip(sizes[1:], sizes[:-1], strict=True))
