"""Random vectors, and what one product with each says: a quadratic form, and the variance of that form.

`trace` stands on this. With B the operator that a probe w is applied to, every probe leaves a residual r with

    Var(wᵀB w) = 2 E‖r‖²,

    sphere of radius √n     r = B w − (wᵀB w / n) w
    gaussian                r = B w
    rademacher              r = w∘(z − E z),  z = w∘(B w)

The first holds because wᵀB w less its mean is an eigenfunction of the sphere's Laplacian, with eigenvalue
2n: its variance is its mean squared slope over 2n. The third because Cov(z_i, z_j) = b_ij² and Var(z_i) =
Σ_{j≠i} b_ij². The residuals' angles show how many directions carry the error: E (r_i·r_j)² / (‖r_i‖²‖r_j‖²)
is about tr(B⁴) / tr(B²)², one over the effective rank of B².
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import array_api_compat
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from hesslab.operators import Array, Operator

Values = NDArray[np.float64]

BATCH = 16  # probes multiplied at once, so that memory does not grow with their number
CLOSED = 100  # a sketch is closed to a product that leaves it by less than CLOSED rounding errors


@dataclass(frozen=True)
class Tally:
    """What batches of probes say together.

    Fields: `forms`, one wᵀB w a probe, shape (k,); `squares` = Σ‖r‖², with `free` degrees of freedom; over
    pairs of residuals of one batch, `pairs` their number, `alike` = Σ(r_i·r_j)² and `unlike` =
    Σ‖r_i‖²‖r_j‖²; `norms` = Σ‖A w‖².
    """

    forms: Values = field(default_factory=lambda: np.empty(0))
    squares: float = 0.0
    free: int = 0
    pairs: float = 0.0
    alike: float = 0.0
    unlike: float = 0.0
    fourth: float = 0.0
    norms: float = 0.0

    def __add__(self, other: "Tally") -> "Tally":
        """Both batches together."""
        sums = [getattr(self, name) + getattr(other, name) for name in list(self.__dataclass_fields__)[1:]]
        return Tally(np.concatenate([self.forms, other.forms]), *sums)

    @property
    def size(self) -> int:
        """The number of probes, k."""
        return len(self.forms)

    @property
    def variance(self) -> float:
        """The variance of one form, unbiased."""
        return 2.0 * self.squares / self.free

    @property
    def angles(self) -> float:
        """tr(B⁴) / tr(B²)², from the angles. One pair in k counts as parallel: few pairs promise little."""
        cosine = self.alike / self.unlike if self.unlike else 1.0
        doubt = 1.0 / self.size
        return (self.pairs * cosine + doubt) / (self.pairs + doubt)

    @property
    def spread(self) -> float:
        """The same, from the spread of the residuals' squares."""
        mean, k = self.squares / self.size, self.size
        return (self.fourth / k - mean**2) * k / (k - 1) / mean**2 / 2.0 if mean and k > 1 else 0.0

    @property
    def dof(self) -> float:
        """Degrees of freedom of the variance."""
        return self.free / max(self.angles, self.spread)

    @property
    def norm(self) -> float:
        """An estimate of ‖A‖_F, to set the rounding floor."""
        return float(np.sqrt(self.norms / self.size))


@dataclass(frozen=True)
class Entries:
    """What batches of Rademacher probes say about each diagonal entry, with z = w∘(A w).

    Fields: `size` probes; native, of shape (n,): `mean` of z, `squares` Σ(z − mean)², `norms` Σ(A w)².
    """

    size: int = 0
    mean: Array = 0.0
    squares: Array = 0.0
    norms: Array = 0.0

    def joined(self, W: Array, Y: Array) -> "Entries":
        """With a batch more. Deviations are from the mean, so that no digits cancel (Chan et al. 1983)."""
        Z, more = W * Y, W.shape[1]
        total, mean = self.size + more, Z.mean(axis=1)
        change = mean - self.mean
        squares = ((Z - mean[:, None]) ** 2).sum(axis=1) + change**2 * (self.size * more / total)
        return Entries(
            total,
            self.mean + change * (more / total),
            self.squares + squares,
            self.norms + (Y * Y).sum(axis=1),
        )


@dataclass(frozen=True)
class Sketch:
    """Probes and a basis of their products.

    Fields: W (n, k), independent and isotropic; Y = A W; Q (n, r), an orthonormal basis of the span of Y; Z
    = A Q; `new` (k,), True where a column of Y added a column to Q. r < k where the span has closed.
    """

    W: Array
    Y: Array
    Q: Array
    Z: Array
    new: NDArray[np.bool_]


def batches(total: int) -> list[int]:
    """Sizes of at most BATCH, as equal as can be, that add up to `total`."""
    number = -(-total // BATCH)
    return [total // number + (i < total % number) for i in range(number)]


def draw(operator: Operator, kind: str, size: int, rng: np.random.Generator) -> Array:
    """`size` isotropic probes, E[w wᵀ] = I, as the columns of a native (n, size) array."""
    if kind == "rademacher":
        return operator.native(2.0 * rng.integers(0, 2, (operator.shape[0], size)) - 1.0)
    W = operator.normal(size, rng)
    return W if kind == "gaussian" else W * (operator.shape[0] / dots(W, W)) ** 0.5


def columns(operator: Operator) -> Iterator[tuple[int, Array]]:
    """A itself, a few columns at a time: the index of the first, and the columns. Costs n products."""
    n = operator.shape[0]
    for start in range(0, n, 64):
        yield start, operator.multiply(operator.native(np.eye(n, min(64, n - start), -start)))


def quadratic_forms(W: Array, Y: Array, kind: str) -> Tally:
    """The tally of probes W of a kind, and their products Y = A W."""
    if kind != "rademacher":
        return on_sphere(W, Y, W.shape[0]) if kind == "sphere" else tally_of(dots(W, Y), Y, Y, Y.shape[1])
    Z = W * Y
    R = W * (Z - Z.mean(axis=1)[:, None])
    return tally_of(Z.sum(axis=0), R, Y, Y.shape[1] - 1)


def on_sphere(P: Array, BP: Array, dim: int, Y: Array | None = None) -> Tally:
    """The tally of directions P, uniform in a subspace of dimension `dim` that B maps to itself, and BP."""
    size = dots(P, P)
    quotient = dots(P, BP) / size
    R = (BP - P * quotient) * (dim / size) ** 0.5
    return tally_of(dim * quotient, R, BP if Y is None else Y, P.shape[1])


def empty(operator: Operator) -> Sketch:
    """The sketch without probes."""
    nothing = operator.native(np.empty((operator.shape[0], 0)))
    return Sketch(nothing, nothing, nothing, nothing, np.empty(0, dtype=bool))


def grown(operator: Operator, sketch: Sketch, size: int, rng: np.random.Generator) -> Sketch:
    """`sketch` with `size` probes. Costs a product for each new probe, and one for each new column of Q."""
    W = draw(operator, "sphere", size - sketch.W.shape[1], rng)
    Y = operator.multiply(W)
    Q, new = sketch.Q, list(sketch.new)
    tolerance = CLOSED * float(operator.xp.finfo(Y.dtype).eps)
    for j in range(Y.shape[1]):
        y = Y[:, j : j + 1]
        rest = outside(Q, outside(Q, y))  # twice is enough (Kahan, Parlett)
        norm = float(dots(rest, rest)[0]) ** 0.5
        new.append(norm > tolerance * float(dots(y, y)[0]) ** 0.5)
        Q = beside(Q, outside(Q, rest / norm)) if new[-1] else Q
    Z = Q[:, sketch.Q.shape[1] :]
    Z = beside(sketch.Z, operator.multiply(Z) if Z.shape[1] else Z)
    return Sketch(beside(sketch.W, W), beside(sketch.Y, Y), Q, Z, np.array(new))


def remainder(sketch: Sketch, W: Array, Y: Array) -> Tally:
    """The tally of tr QᵀA Q + wᵀP A P w, P = I − Q Qᵀ, for Y = A W and W independent of the sketch."""
    Q, Z = sketch.Q, sketch.Z
    P = outside(Q, W)
    tally = on_sphere(P, outside(Q, Y - Z @ (Q.T @ W)), W.shape[0] - Q.shape[1], Y)
    return replace(tally, forms=float((Q * Z).sum()) + tally.forms)


def leave_one_out(sketch: Sketch) -> tuple[Tally, float]:
    """XTrace's estimates t_i as the forms of a tally, and their covariance E[R_ij R_ji].

    Q_i is Q without the direction Q s_i, s_i the unit vector along row i of R⁻¹, Y = Q R. Dense work is O(n
    k²).
    """
    W, Y, Q, Z = sketch.W, sketch.Y, sketch.Q, sketch.Z
    S = solve_triangular(numbers(Q.T @ Y), np.eye(Q.shape[1])).T
    S = S / np.linalg.norm(S, axis=0)
    W_in_Q, H = numbers(Q.T @ W), numbers(Q.T @ Z)
    along = S.T @ W_in_Q
    inside = like(Q, W_in_Q - S * np.diag(along))
    P, AP = W - Q @ inside, Y - Z @ inside
    AP_in_Q = numbers(Q.T @ AP)
    A_along, H = S.T @ AP_in_Q, S.T @ H @ S
    BP = AP - Q @ like(Q, AP_in_Q - S * np.diag(A_along))
    dim = W.shape[0] - Q.shape[1] + 1
    tally = on_sphere(P, BP, dim, Y)
    known = float(np.trace(numbers(Q.T @ Z))) - np.diag(H)
    covariance = _covariance(S.T @ S, H, along, A_along, numbers(dots(P, P)), numbers(dots(P, AP)), dim)
    return replace(tally, forms=known + tally.forms), covariance


def _covariance(
    G: Values, H: Values, along: Values, A_along: Values, size: Values, form: Values, dim: int
) -> float:
    """E[R_ij R_ji], R_ij what t_i loses when the direction u that only w_j gave is left out of Q_i as well.

    u is s_j made orthogonal to s_i; [j, i] holds: G s_j·s_i, H s_jᵀH s_i, `along` s_j·w_i, `A_along` s_j·A
    p_i; [i]: `size` ‖p_i‖² and `form` p_iᵀA p_i, p_i the part of w_i outside Q_i, of dimension `dim`.
    """
    scale = np.maximum(1.0 - G**2, np.finfo(float).eps)
    uw = (along - G * np.diag(along)) / np.sqrt(scale)
    uAp = (A_along - G * np.diag(A_along)) / np.sqrt(scale)
    uAu = (np.diag(H)[:, None] - 2.0 * G * H + G**2 * np.diag(H)) / scale
    wider = (dim + 1) * (form + 2.0 * uw * uAp + uw**2 * uAu) / (size + uw**2)
    R = wider - uAu - dim * form / size
    np.fill_diagonal(R, 0.0)
    return float(np.sum(R * R.T)) / (len(R) * (len(R) - 1))


def tally_of(forms: Array, R: Array, Y: Array, free: int) -> Tally:
    """The tally of a batch with these forms and residuals R, from products Y."""
    gram = numbers(R.T @ R)
    squares = np.diag(gram)
    upper = np.triu_indices(len(gram), 1)
    alike, unlike = np.sum(gram[upper] ** 2), np.sum(np.outer(squares, squares)[upper])
    norms = float(np.sum(numbers(dots(Y, Y))))
    fourth = float(np.sum(squares**2))
    return Tally(numbers(forms), float(squares.sum()), free, len(upper[0]), alike, unlike, fourth, norms)


def outside(Q: Array, X: Array) -> Array:
    """X without its part in the span of Q."""
    return X - Q @ (Q.T @ X)


def dots(X: Array, Y: Array) -> Array:
    """The inner products of the columns of X with those of Y, one by one."""
    return (X * Y).sum(axis=0)


def beside(X: Array, Y: Array) -> Array:
    """The columns of X, then those of Y."""
    return array_api_compat.array_namespace(X).concat([X, Y], axis=1)


def numbers(x: Array) -> Values:
    """A small array as NumPy float64."""
    return np.asarray(x.detach().cpu().numpy() if hasattr(x, "detach") else x, dtype=np.float64)


def like(x: Array, values: Any) -> Array:
    """`values` as an array of the kind, precision and device of x."""
    xp = array_api_compat.array_namespace(x)
    return xp.asarray(values, dtype=x.dtype, device=array_api_compat.device(x))
