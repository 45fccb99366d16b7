"""Data: what was promised of shapes, scale, order and licence; the hash; every error message."""

import hashlib
from importlib.resources import files

import numpy as np
import pytest
from sklearn.datasets import load_digits

from hesslab import data

MAKERS = {
    "digits": lambda n=None: data.digits(n, rng=0),
    "raw digits": lambda n=None: data.digits(n, centred=False, rng=0),
    "three digits": lambda n=None: data.digits(n, classes=3, rng=0),
    "mnist1d": lambda n=None: data.mnist1d(n),
    "mnist1d test": lambda n=None: data.mnist1d(n, split="test"),
    "raw mnist1d": lambda n=None: data.mnist1d(n, centred=False),
    "two moons": lambda n=None: data.two_moons(n or 500, rng=0),
}


@pytest.mark.parametrize("name", MAKERS)
def test_what_every_data_set_promises(name):
    X, y = MAKERS[name]()
    assert X.dtype == np.float64
    assert y.dtype == np.int64
    assert X.ndim == 2
    assert y.shape == X.shape[:1]
    assert np.all(np.isfinite(X))
    assert np.unique(y).tolist() == list(range(y.max() + 1))
    again, labels = MAKERS[name]()
    assert np.array_equal(X, again)
    assert np.array_equal(y, labels)


@pytest.mark.parametrize("name", ["digits", "raw digits", "three digits", "mnist1d", "mnist1d test"])
def test_fewer_examples_are_the_beginning_of_all(name):
    (X, y), (few, labels) = MAKERS[name](), MAKERS[name](50)
    assert few.shape == (50, X.shape[1])
    assert np.array_equal(X[:50], few)
    assert np.array_equal(y[:50], labels)


@pytest.mark.parametrize("name", ["digits", "three digits", "mnist1d"])
def test_centred_data_have_mean_zero_and_one_global_scale(name):
    X, _ = MAKERS[name]()
    assert np.abs(X.mean(axis=0)).max() < 1e-13
    assert X.std() == pytest.approx(1, abs=1e-13)
    assert X.std(axis=0).max() > 1.1, "a scale for each feature would be a preconditioner"


def test_raw_digits_are_pixels_times_one_number():
    X, y = data.digits(centred=False, rng=3)
    pixels, labels = load_digits(return_X_y=True)
    assert X.std() == pytest.approx(1, abs=1e-13)
    rows = {row.tobytes(): label for row, label in zip(pixels, labels, strict=True)}
    ours = np.rint(X * pixels.std())
    assert np.abs(ours - X * pixels.std()).max() < 1e-12
    assert [rows[row.tobytes()] for row in ours] == y.tolist()
    assert len(X) == len(pixels)


def test_another_seed_is_another_order_of_the_same_examples():
    (X, y), (other, labels) = data.digits(rng=0), data.digits(rng=1)
    assert not np.array_equal(y, labels)
    assert np.bincount(y).tolist() == np.bincount(labels).tolist()
    assert np.linalg.norm(X) == pytest.approx(np.linalg.norm(other), rel=1e-12)


def test_a_generator_is_taken_as_it_stands():
    generator = np.random.default_rng(5)
    first, second = data.two_moons(10, rng=generator)[0], data.two_moons(10, rng=generator)[0]
    assert np.array_equal(first, data.two_moons(10, rng=5)[0])
    assert not np.array_equal(first, second)


def test_mnist1d_splits_share_mean_and_scale():
    train, test = data.mnist1d()[0], data.mnist1d(split="test")[0]
    raw, raw_test = data.mnist1d(centred=False)[0], data.mnist1d(split="test", centred=False)[0]
    assert train.shape == (4000, 40)
    assert test.shape == (1000, 40)
    scale = (raw - raw.mean(axis=0)).std()
    assert test == pytest.approx((raw_test - raw.mean(axis=0)) / scale, abs=1e-12)


def test_moons_lie_on_their_circles():
    X, y = data.two_moons(400, noise=0.0, rng=0)
    assert np.linalg.norm(X[y == 0], axis=1) == pytest.approx(np.ones(200))
    assert np.linalg.norm(X[y == 1] - [1.0, 0.5], axis=1) == pytest.approx(np.ones(200))
    assert X[y == 0][:, 1].min() >= 0
    assert X[y == 1][:, 1].max() <= 0.5
    noisy, _ = data.two_moons(400, noise=0.3, rng=0)
    assert (noisy - X).std() == pytest.approx(0.3, rel=0.1)


def test_shipped_file_is_what_its_hash_licence_and_readme_say():
    folder = files("hesslab").joinpath("data_files")
    content = folder.joinpath("mnist1d.npz").read_bytes()
    assert len(content) <= 700_000
    assert hashlib.sha256(content).hexdigest() == data.MNIST1D_SHA256
    readme = folder.joinpath("README.md").read_text(encoding="utf-8")
    assert data.MNIST1D_SHA256 in readme
    assert "mnist1d 0.0.2.post1" in readme
    assert "Apache License" in folder.joinpath("mnist1d.LICENSE.txt").read_text(encoding="utf-8")


def test_a_damaged_file_is_refused(monkeypatch):
    monkeypatch.setattr(data, "MNIST1D_SHA256", "0" * 64)
    with pytest.raises(ValueError, match=r"mnist1d\.npz has the SHA-256 [0-9a-f]{8}…; expected 00000000…"):
        data.mnist1d()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: data.digits(1798, rng=0), "n is 1798; expected 1 … 1797"),
        (lambda: data.digits(0, rng=0), "n is 0; expected 1 … 1797"),
        (lambda: data.digits(classes=11, rng=0), "classes is 11; expected 2 … 10"),
        (lambda: data.digits(600, classes=3, rng=0), "n is 600; expected 1 … 537"),
        (lambda: data.mnist1d(1001, split="test"), "n is 1001; expected 1 … 1000"),
        (lambda: data.mnist1d(split="validation"), "split is 'validation'; expected 'train' or 'test'"),
        (lambda: data.two_moons(1, rng=0), "n is 1; expected at least 2"),
        (lambda: data.two_moons(9, noise=-1, rng=0), "noise is -1; expected a standard deviation"),
    ],
)
def test_errors_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("make", [data.digits, data.two_moons])
def test_rng_is_required(make):
    with pytest.raises(TypeError, match="rng"):
        make(10)
