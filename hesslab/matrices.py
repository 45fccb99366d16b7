"""Symmetric matrices whose spectrum is known beforehand.

That of `with_spectrum` is known exactly; those of the random ensembles are known in the limit of large size,
by the densities of Marchenko and Pastur and of Wigner. They are the ground truth for every estimate of one.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def with_spectrum(values: ArrayLike, *, rng: int | np.random.Generator) -> Array:
    """Q diag(values) Qᵀ with Q uniform among the orthogonal matrices: a given spectrum in a random basis.

    `values` has shape (n,), in any order, repeats allowed; the result has shape (n, n) and is symmetric to
    the last bit. Its eigenvalues are `values` up to rounding, a few eps·max|values|. Q comes from the QR
    decomposition of a Gaussian matrix. Its columns would need random signs to be uniform; in the product
    with Qᵀ signs cancel. Raises ValueError for another shape, NaN or infinity. (Mezzadri 2007, §5)

    >>> A = with_spectrum([3.0, -1.0, 0.5], rng=0)
    >>> np.linalg.eigvalsh(A).round(12).tolist()
    [-1.0, 0.5, 3.0]
    """
    values = np.array(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.all(np.isfinite(values)):
        raise ValueError(
            f"values has shape {values.shape}; expected (n,), one finite eigenvalue for each row"
        )
    Q, _ = np.linalg.qr(np.random.default_rng(rng).standard_normal((len(values), len(values))))
    A = (Q * values) @ Q.T
    return np.asarray((A + A.T) / 2)


def spiked(n: int, p: int, spikes: ArrayLike, *, rng: int | np.random.Generator) -> Array:
    """A sample covariance XᵀX/n whose population is the identity but for a few larger variances, the spikes.

    X has n independent rows of p Gaussian entries, of variance ℓ_i in coordinate i for the `spikes` (k,), and
    1 in the others. With γ = p/n, a spike ℓ > 1 + √γ shows as an eigenvalue near ℓ (1 + γ/(ℓ − 1)) outside
    the bulk; a smaller one drowns in it, and the largest eigenvalue stays at (1 + √γ)². Shape (p, p). Raises
    ValueError for n or p below 1, more than p spikes, and a negative spike. (Baik, Ben Arous & Péché 2005;
    for real entries Baik & Silverstein 2006)

    >>> A = spiked(400, 100, [5.0], rng=0)
    >>> bool(abs(np.linalg.eigvalsh(A)[-1] - 5 * (1 + 0.25 / 4)) < 1.0)
    True
    """
    variances = np.array(spikes, dtype=np.float64)
    if variances.ndim != 1 or len(variances) > p or not np.all(variances >= 0):
        raise ValueError(
            f"spikes is {variances.tolist()}; expected at most p = {p} variances, each at least 0"
        )
    deviations = np.sqrt(np.append(variances, np.ones(p - len(variances))))
    X = _gaussian(n, p, rng) * deviations
    return np.asarray(X.T @ X / n)


def wishart(n: int, p: int, *, rng: int | np.random.Generator) -> Array:
    """The sample covariance XᵀX/n of n independent standard Gaussian rows of length p: pure noise.

    Shape (p, p), of rank min(n, p). As n grows with γ = p/n fixed, the eigenvalues fill the density of
    Marchenko and Pastur, between (1 − √γ)² and (1 + √γ)², although the population has only the eigenvalue 1.
    Raises ValueError for n or p below 1. (Marchenko & Pastur 1967)

    >>> np.linalg.matrix_rank(wishart(5, 8, rng=0)).item()
    5
    """
    return spiked(n, p, [], rng=rng)


def goe(n: int, *, rng: int | np.random.Generator) -> Array:
    """The Gaussian orthogonal ensemble: symmetric, entries of variance 1/n off the diagonal and 2/n on it.

    Shape (n, n). As n grows the eigenvalues fill Wigner's semicircle on [−2, 2]. Raises ValueError for n
    below 1. (Anderson, Guionnet & Zeitouni 2010, §2.1)

    >>> A = goe(3, rng=0)
    >>> bool(np.array_equal(A, A.T))
    True
    """
    W = _gaussian(n, n, rng)
    return np.asarray((W + W.T) / np.sqrt(2 * n))


def hilbert(n: int) -> Array:
    """The Hilbert matrix, 1/(i + j + 1) for i, j from 0: positive definite, and soon singular in float64.

    Shape (n, n). Its condition number grows like (1 + √2)^{4n}/√n, to 1.6e13 at n = 10; from n = 12 on the
    smallest eigenvalue is below rounding. Raises ValueError for n below 1. (Higham 2002, §28.1)

    >>> hilbert(2).round(4).tolist()
    [[1.0, 0.5], [0.5, 0.3333]]
    """
    if n < 1:
        raise ValueError(f"n is {n}; expected at least 1")
    i = np.arange(n)
    return np.asarray(1 / (i[:, None] + i + 1))


def marchenko_pastur_pdf(x: ArrayLike, gamma: float) -> Array:
    """The limiting density of the eigenvalues of `wishart(n, p)` with p/n → γ, at `x`, any shape.

        √((b − x)(x − a)) / (2 π γ x)  on (a, b) = ((1 − √γ)², (1 + √γ)²),  0 elsewhere.

    For γ > 1 a further mass 1 − 1/γ sits at 0, and the density integrates to 1/γ. Raises ValueError for
    γ ≤ 0. (Marchenko & Pastur 1967)

    >>> marchenko_pastur_pdf([0.5, 5.0], 0.25).round(4)
    array([0.8422, 0.    ])
    """
    if not gamma > 0:
        raise ValueError(f"gamma is {gamma}; expected the positive ratio p/n of features to examples")
    x = np.asarray(x, dtype=np.float64)
    a, b = (1 - np.sqrt(gamma)) ** 2, (1 + np.sqrt(gamma)) ** 2
    inside = (x > a) & (x < b)
    safe = np.where(inside, x, b)
    return np.asarray(np.where(inside, np.sqrt((b - safe) * (safe - a)) / (2 * np.pi * gamma * safe), 0.0))


def semicircle_pdf(x: ArrayLike) -> Array:
    """The limiting density of the eigenvalues of `goe(n)`, √(4 − x²)/(2π) on [−2, 2], at `x`, any shape.

    >>> semicircle_pdf([0.0, 3.0]).round(4)
    array([0.3183, 0.    ])
    """
    return np.asarray(np.sqrt(np.clip(4 - np.square(np.asarray(x, dtype=np.float64)), 0, None)) / (2 * np.pi))


def _gaussian(n: int, p: int, rng: int | np.random.Generator) -> Array:
    if n < 1 or p < 1:
        raise ValueError(f"the size is {n} × {p}; expected at least 1 in each direction")
    return np.random.default_rng(rng).standard_normal((n, p))
