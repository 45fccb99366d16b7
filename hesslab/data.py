"""Small real and synthetic data sets, offline, with licence and hash.

Each returns X, shape (n, d), float64, and y, shape (n,), int64 labels 0 … C−1, as NumPy arrays. X has one
global scale, never one a feature: a scale for each feature would be a preconditioner in disguise.
"""

import hashlib
import io
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

Examples = tuple[NDArray[np.float64], NDArray[np.int64]]

MNIST1D_SHA256 = "db29a497457d3786ba0ec3010a75dc986c99e8a9687791de98a3a3c65e91468d"


def digits(
    n: int | None = None, *, classes: int = 10, centred: bool = True, rng: int | np.random.Generator
) -> Examples:
    """Handwritten digits of 8 × 8 pixels: X (n, 64), y (n,); 1797 examples of 10 classes in all.

    Keeps the labels below `classes`, permutes them with `rng`, and returns the first n, all if `n` is None.
    If `centred`, the mean of each pixel is subtracted. In both cases X is then divided by one number, the
    standard deviation of all its entries. Mean and scale are those of all examples with these labels, so
    that `digits(200, rng=0)` is the beginning of `digits(rng=0)`: the rest can serve as the test set.

    scikit-learn's copy of the test set of the UCI handwritten digits (Alpaydin & Kaynak 1998; CC BY 4.0).
    Raises ValueError where `n` or `classes` is out of range.

    >>> X, y = digits(200, rng=0)
    >>> X.shape, y.shape, int(y.max())
    ((200, 64), (200,), 9)
    """
    from sklearn.datasets import load_digits  # half a second, spared to whoever asks for other data

    if not 2 <= classes <= 10:
        raise ValueError(f"classes is {classes}; expected 2 … 10, the number of digits kept, from 0 on")
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(rng).permutation(np.flatnonzero(labels < classes))
    X = _scaled(pixels[order], pixels[order], centred)
    return X[: _count(n, len(X))], labels[order].astype(np.int64)[:n]


def mnist1d(n: int | None = None, *, split: str = "train", centred: bool = True) -> Examples:
    """MNIST-1D, ten shapes stretched, shifted and with noise: X (n, 40), y (n,); harder than digits.

    The first n of 4000 examples (`split="train"`) or of 1000 (`split="test"`), in the stored, shuffled order.
    If `centred`, the mean of each feature is subtracted; X is then divided by the standard deviation of all
    entries. Mean and scale are those of the whole training split, for both splits.

    Synthetic; Apache License 2.0; `data_files/README.md` says how it was made. (Greydanus & Kobak,
    arXiv 2011.14439.) Raises ValueError where `n` or `split` is unknown, and where the file is damaged.

    >>> X, y = mnist1d(200)
    >>> X.shape, y[:5].tolist()
    ((200, 40), [2, 6, 4, 5, 6])
    """
    suffixes = {"train": "", "test": "_test"}
    if split not in suffixes:
        raise ValueError(f"split is {split!r}; expected 'train' or 'test'")
    stored = _load("mnist1d.npz", MNIST1D_SHA256)
    X = _scaled(stored["x" + suffixes[split]], stored["x"], centred)
    return X[: _count(n, len(X))], stored["y" + suffixes[split]].astype(np.int64)[:n]


def two_moons(n: int, *, noise: float = 0.1, rng: int | np.random.Generator) -> Examples:
    """Two interleaved half circles in the plane: X (n, 2), y (n,), labels 0 and 1 in turn.

    With t uniform in [0, π]: class 0 at (cos t, sin t), class 1 at (1 − cos t, ½ − sin t), plus Gaussian
    `noise` of that standard deviation in each coordinate. X is as drawn, neither centred nor scaled. Raises
    ValueError for n < 2 and for negative noise.

    >>> X, y = two_moons(100, rng=0)
    >>> X.shape, y[:4].tolist()
    ((100, 2), [0, 1, 0, 1])
    """
    if n < 2:
        raise ValueError(f"n is {n}; expected at least 2, one example of each moon")
    if noise < 0:
        raise ValueError(f"noise is {noise}; expected a standard deviation of at least 0")
    rng = np.random.default_rng(rng)
    t, y = rng.uniform(0, np.pi, n), np.arange(n) % 2
    upper, lower = np.stack([np.cos(t), np.sin(t)], 1), np.stack([1 - np.cos(t), 0.5 - np.sin(t)], 1)
    return np.where(y[:, None] == 0, upper, lower) + noise * rng.standard_normal((n, 2)), y


def _scaled(X: NDArray[Any], reference: NDArray[Any], centred: bool) -> NDArray[np.float64]:
    """(X − feature means, if `centred`) / standard deviation of all entries; both of `reference`."""
    X, reference = X.astype(np.float64), reference.astype(np.float64)
    mean = reference.mean(axis=0) if centred else np.zeros(X.shape[1])
    return np.asarray((X - mean) / (reference - mean).std())


def _count(n: int | None, available: int) -> int | None:
    if n is not None and not 1 <= n <= available:
        raise ValueError(f"n is {n}; expected 1 … {available}, the examples there are, or None for all")
    return n


def _load(name: str, sha256: str) -> dict[str, NDArray[Any]]:
    """The arrays of a file of `data_files`, after its bytes were compared with their hash."""
    content = files("hesslab").joinpath("data_files", name).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(
            f"{name} has the SHA-256 {found[:8]}…; expected {sha256[:8]}…: damaged; install hesslab again"
        )
    with np.load(io.BytesIO(content)) as archive:
        return dict(archive)
