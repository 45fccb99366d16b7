"""Nasty spectra, shared by the tests of every room that estimates eigenvalues, traces or densities.

`SPECTRA` maps a name to a function of n that gives n eigenvalues in descending order, the largest modulus of
order one to ten. Multiply by `SCALES` to ask that a law knows no absolute size.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

#: Every law holds at each of these sizes of the matrix.
SCALES = (1e-13, 1.0, 1e8)


def flat(n: int) -> Values:
    return np.linspace(1.0, 0.5, n)


def decaying(n: int) -> Values:
    return 0.9 ** np.arange(n)


def twelve_decades(n: int) -> Values:
    return np.logspace(0.0, -12.0, n)


def indefinite(n: int) -> Values:
    """The most negative eigenvalue is larger in modulus than the most positive one."""
    return np.sort(np.concatenate([[-5.0, -3.0], np.linspace(-1.0, 1.0, n - 4), [1.5, 2.0]]))[::-1]


def symmetric_pairs(n: int) -> Values:
    """Eigenvalues λ and −λ in pairs: the modulus decides nothing."""
    half = 0.8 ** np.arange(n // 2)
    return np.sort(np.concatenate([half, np.zeros(n % 2), -half]))[::-1]


def clustered(n: int) -> Values:
    """Six eigenvalues within 1e-6 at the top."""
    return np.concatenate([1.0 - np.linspace(0.0, 1e-6, 6), np.linspace(0.8, 0.0, n - 6)])


def repeated(n: int) -> Values:
    """The largest eigenvalue five times, the second three times."""
    return np.concatenate([np.full(5, 3.0), np.full(3, 2.0), np.linspace(1.0, -0.5, n - 8)])


def rank_deficient(n: int) -> Values:
    """Rank n // 10: nine tenths of the eigenvalues are exactly zero."""
    rank = max(n // 10, 1)
    return np.concatenate([np.linspace(2.0, 1.0, rank), np.zeros(n - rank)])


def identity(n: int) -> Values:
    return np.ones(n)


def zero(n: int) -> Values:
    return np.zeros(n)


def two_scales(n: int) -> Values:
    """Outliers 10, 5 and 2 beside a bulk in [0, 0.01]."""
    return np.concatenate([[10.0, 5.0, 2.0], np.linspace(0.01, 0.0, n - 3)])


def network(n: int) -> Values:
    """Nine outliers over a heavy-tailed bulk, two thirds of it positive: the shape of a network's Hessian.

    The outliers are those of a small classifier of ten digits; the bulk is a power law on both sides of zero.
    """
    outliers = [9.8, 8.7, 7.3, 6.3, 5.2, 4.3, 4.1, 3.1, 1.7]
    positive = 2 * (n - 9) // 3
    negative = n - 9 - positive
    above = 0.24 * np.arange(1, positive + 1) ** -0.8
    below = -0.08 * np.arange(negative, 0, -1) ** -0.8
    return np.concatenate([outliers, above, below])


SPECTRA: dict[str, Callable[[int], Values]] = {
    f.__name__: f
    for f in (
        flat,
        decaying,
        twelve_decades,
        indefinite,
        symmetric_pairs,
        clustered,
        repeated,
        rank_deficient,
        identity,
        zero,
        two_scales,
        network,
    )
}


def with_eigenvalues(eigenvalues: Values, rng: np.random.Generator) -> Values:
    """A dense symmetric matrix with these eigenvalues and random eigenvectors; independent of `hesslab`."""
    n = len(eigenvalues)
    V, _ = np.linalg.qr(rng.standard_normal((n, n)))
    A = (V * eigenvalues) @ V.T
    return (A + A.T) / 2
