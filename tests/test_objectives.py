"""Objectives: Taylor's theorem, torch's second derivatives as oracle, closed forms, every error message."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import rosen, rosen_der, rosen_hess

from hesslab import objectives
from hesslab.checks.laws import objectives as laws
from hesslab.checks.laws.feedback import EXACT, check, differs

rng = np.random.default_rng(0)
X, Y = rng.standard_normal((7, 3)), rng.standard_normal(7)
LABELS, BITS = np.array([0, 2, 1, 3, 3, 0, 2]), np.array([0, 1, 1, 0, 1, 0, 0])
M = rng.standard_normal((2, 3))
SYMMETRIC = np.array([[2.0, 1.0, 0.0], [1.0, -3.0, 0.5], [0.0, 0.5, 0.25]])
SIZES = (3, 4, 2, 2)


def _deep(theta):
    product, start = torch.eye(3), 0
    for inputs, outputs in pairwise(SIZES):
        product = theta[start : start + inputs * outputs].reshape(outputs, inputs) @ product
        start += inputs * outputs
    return 0.5 * ((product - torch.as_tensor(M)) ** 2).sum()


def _softmax(theta):
    logits = torch.as_tensor(X) @ theta.reshape(5, 3).T
    return torch.nn.functional.cross_entropy(logits, torch.as_tensor(LABELS)) + 0.15 * theta @ theta


def _logistic(w):
    z = torch.as_tensor(X) @ w
    targets = torch.as_tensor(BITS, dtype=torch.float64)
    return torch.nn.functional.binary_cross_entropy_with_logits(z, targets) + 0.1 * w @ w


#: name -> (ours, the same function in torch), each written from its definition
CASES = {
    "quadratic": (
        objectives.quadratic(SYMMETRIC, [1.0, -2.0, 0.5]),
        lambda x: 0.5 * x @ torch.as_tensor(SYMMETRIC) @ x - torch.tensor([1.0, -2.0, 0.5]) @ x,
    ),
    "rosenbrock": (
        objectives.rosenbrock(4, steepness=3.0),
        lambda x: (3.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum(),
    ),
    "saddle": (
        objectives.saddle(quartic=0.7),
        lambda x: 0.5 * (x[0] ** 2 - x[1] ** 2) + 0.175 * x[1] ** 4,
    ),
    "peano": (
        objectives.peano(),
        lambda x: x[0] * x[1] * (x[0] ** 2 - x[1] ** 2) / (x[0] ** 2 + x[1] ** 2),
    ),
    "scalar_factorization": (
        objectives.scalar_factorization(-2.0),
        lambda x: 0.5 * (x[0] * x[1] + 2) ** 2,
    ),
    "deep_linear": (objectives.deep_linear(SIZES, M), _deep),
    "least_squares": (
        objectives.least_squares(X, Y, ridge=0.3),
        lambda w: 0.5 * ((torch.as_tensor(X) @ w - torch.as_tensor(Y)) ** 2).mean() + 0.15 * w @ w,
    ),
    "logistic_regression": (objectives.logistic_regression(X, BITS, ridge=0.2), _logistic),
    "softmax_regression": (objectives.softmax_regression(X, LABELS, num_classes=5, ridge=0.3), _softmax),
}


@pytest.fixture(autouse=True)
def float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(params=CASES)
def case(request):
    ours, torchs = CASES[request.param]
    return ours, torchs, np.random.default_rng(1).standard_normal(ours.dimension)


def test_taylor_remainders_have_slopes_two_and_three(case):
    f, _, x = case
    assert laws.gradient_fits(f.value, f.gradient, x, rng=2, case=f.name) is None
    assert laws.hessian_fits(f.value, f.gradient, f.hessian, x, rng=2, case=f.name) is None


def test_derivatives_are_torchs(case):
    f, torchs, x = case
    point = torch.as_tensor(x)
    # reverse over reverse; torch.func.hessian warns of a deprecation inside torch 2.13
    gradient = torch.autograd.functional.jacobian(torchs, point).numpy()
    hessian = torch.autograd.functional.hessian(torchs, point).numpy()
    assert f.value(x) == pytest.approx(torchs(point).item(), rel=1e-12)
    assert np.abs(f.gradient(x) - gradient).max() <= 1e-10 * np.abs(gradient).max()
    assert np.abs(f.hessian(x) - hessian).max() <= 1e-10 * np.abs(hessian).max()


def test_hessian_is_exactly_symmetric_and_fresh(case):
    f, _, x = case
    H = f.hessian(x)
    assert H.shape == (f.dimension, f.dimension)
    assert np.array_equal(H, H.T)
    H[:] = 7.0
    assert not np.any(f.hessian(x) == 7.0)


def test_points_are_checked(case):
    f, _, x = case
    for method in (f.value, f.gradient, f.hessian):
        with pytest.raises(
            ValueError, match=rf"x has shape \({f.dimension + 1},\); {f.name} expects a point"
        ):
            method(np.append(x, 1.0))


@pytest.mark.parametrize(
    "f",
    [
        objectives.quadratic(SYMMETRIC @ SYMMETRIC, [1.0, -2.0, 0.5]),
        objectives.rosenbrock(3),
        objectives.saddle(quartic=2.0),
        objectives.scalar_factorization(3.0),
        objectives.scalar_factorization(-3.0),
        objectives.least_squares(X, Y),
        objectives.least_squares(X, Y, ridge=0.5),
        objectives.least_squares(X.T, Y[:3]),
    ],
    ids=lambda f: f.name,
)
def test_minimizers_are_minima(f):
    eigenvalues = np.linalg.eigvalsh(f.hessian(f.minimizer))
    assert np.abs(f.gradient(f.minimizer)).max() <= EXACT * eigenvalues[-1]
    assert eigenvalues[0] >= -EXACT * eigenvalues[-1]


def test_minimizer_is_none_where_there_is_none():
    assert objectives.quadratic(SYMMETRIC).minimizer is None
    assert objectives.saddle().minimizer is None


def test_least_squares_minimizer_has_the_smallest_norm():
    f = objectives.least_squares(X.T, Y[:3])
    assert np.allclose(f.minimizer, np.linalg.pinv(X.T) @ Y[:3], rtol=0, atol=1e-12)


def test_rosenbrock_is_scipys():
    f, x = objectives.rosenbrock(6), rng.standard_normal(6)
    assert f.value(x) == pytest.approx(rosen(x), rel=1e-12)
    assert np.allclose(f.gradient(x), rosen_der(x), rtol=1e-12, atol=0)
    assert np.allclose(f.hessian(x), rosen_hess(x), rtol=1e-12, atol=0)


def test_minima_of_the_factorization_differ_in_sharpness():
    f = objectives.scalar_factorization(2.0)
    for a in (0.5, 1.0, 2.0**0.5, 4.0):
        eigenvalues = np.linalg.eigvalsh(f.hessian([a, 2.0 / a]))
        assert f.value([a, 2.0 / a]) == pytest.approx(0, abs=1e-28)
        assert eigenvalues == pytest.approx([0.0, a**2 + 4 / a**2], abs=1e-12)
    assert np.linalg.eigvalsh(f.hessian(f.minimizer))[-1] == pytest.approx(4.0)


def test_peano_has_two_mixed_derivatives_at_the_origin():
    f, h = objectives.peano(), 1e-100
    assert f.value([0, 0]) == 0
    assert f.gradient([0, 0]) == pytest.approx([0, 0])
    assert f.gradient([0.0, h])[0] / h == pytest.approx(-1, abs=1e-14)
    assert f.gradient([h, 0.0])[1] / h == pytest.approx(1, abs=1e-14)
    assert f.hessian([h, 2 * h]) == pytest.approx(f.hessian([3.0, 6.0]), abs=1e-12)
    with pytest.raises(ValueError, match=r"x is \(0, 0\), where the mixed derivatives are −1 and \+1"):
        f.hessian([0, 0])


def test_ridge_shifts_every_eigenvalue_by_itself():
    """Fact 23 of the ledger: L2 adds exactly ρ to the spectrum."""
    for make, y in (
        (objectives.least_squares, Y),
        (objectives.logistic_regression, BITS),
        (objectives.softmax_regression, LABELS),
    ):
        plain, ridged = make(X, y), make(X, y, ridge=0.25)
        w = rng.standard_normal(plain.dimension)
        shift = np.linalg.eigvalsh(ridged.hessian(w)) - np.linalg.eigvalsh(plain.hessian(w))
        assert shift == pytest.approx(np.full(len(w), 0.25), abs=1e-12)


def test_the_loss_is_a_mean():
    """Every example twice changes nothing."""
    for make, y in (
        (objectives.least_squares, Y),
        (objectives.logistic_regression, BITS),
        (objectives.softmax_regression, LABELS),
    ):
        once, twice = make(X, y, ridge=0.1), make(np.vstack([X, X]), np.append(y, y), ridge=0.1)
        w = rng.standard_normal(once.dimension)
        assert once.value(w) == pytest.approx(twice.value(w), rel=1e-12)
        assert np.allclose(once.hessian(w), twice.hessian(w), rtol=0, atol=1e-12)


def test_softmax_is_blind_to_a_common_shift_and_has_rank_of_the_rest():
    f = objectives.softmax_regression(X, LABELS)
    theta, shift = rng.standard_normal(12), np.tile(rng.standard_normal(3), 4)
    assert f.value(theta + shift) == pytest.approx(f.value(theta), rel=1e-12)
    assert f.hessian(theta) @ shift == pytest.approx(np.zeros(12), abs=1e-12)
    assert np.linalg.matrix_rank(f.hessian(theta)) == 9


def test_two_classes_are_logistic_regression():
    softmax, logistic = objectives.softmax_regression(X, BITS), objectives.logistic_regression(X, BITS)
    w = rng.standard_normal(3)
    theta = np.append(-w / 2, w / 2)
    assert softmax.value(theta) == pytest.approx(logistic.value(w), rel=1e-12)


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_cross_entropies_do_not_overflow(scale):
    softmax, logistic = objectives.softmax_regression(X, LABELS), objectives.logistic_regression(X, BITS)
    for f in (softmax, logistic):
        x = scale * np.ones(f.dimension)
        x[0] = -x[0]
        assert np.isfinite(f.value(x))
        assert np.all(np.isfinite(f.gradient(x)))
        assert np.all(np.isfinite(f.hessian(x)))


def test_order_of_parameters_is_torchs():
    layer = torch.nn.Linear(3, 4, bias=False)
    theta = layer.weight.detach().numpy().ravel()
    loss = torch.nn.functional.cross_entropy(layer(torch.as_tensor(X)), torch.as_tensor(LABELS))
    assert objectives.softmax_regression(X, LABELS).value(theta) == pytest.approx(loss.item(), rel=1e-12)
    net = torch.nn.Sequential(*(torch.nn.Linear(a, b, bias=False) for a, b in ((3, 4), (4, 2), (2, 2))))
    theta = np.concatenate([p.detach().numpy().ravel() for p in net.parameters()])
    loss = 0.5 * ((net(torch.eye(3)).T - torch.as_tensor(M)) ** 2).sum()
    assert objectives.deep_linear(SIZES, M).value(theta) == pytest.approx(loss.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: objectives.quadratic([[1.0, 2.0], [0.0, 1.0]]), r"A, of shape \(2, 2\), is not symmetric"),
        (lambda: objectives.quadratic([[1.0, 2.0]]), r"A, of shape \(1, 2\), is not symmetric"),
        (lambda: objectives.quadratic([1.0, 2.0]), r"A has shape \(2,\); expected \(d, d\)"),
        (lambda: objectives.quadratic(np.eye(2), [1.0]), r"b has shape \(1,\); expected \(2\)"),
        (lambda: objectives.quadratic([[np.nan]]), "A is empty or holds NaN or infinity"),
        (lambda: objectives.rosenbrock(1), "dimension is 1; expected at least 2"),
        (lambda: objectives.saddle(quartic=-1), r"quartic is -1\.0; expected 0, or a positive number"),
        (lambda: objectives.deep_linear([3], M), r"sizes is \[3\]; expected two or more positive widths"),
        (
            lambda: objectives.deep_linear([3, 0, 2], M),
            r"sizes is \[3, 0, 2\]; expected two or more positive",
        ),
        (lambda: objectives.deep_linear([2, 3], M), r"target has shape \(2, 3\); expected \(3, 2\)"),
        (lambda: objectives.least_squares(X, Y[:-1]), r"y has shape \(6,\); expected \(7\)"),
        (lambda: objectives.least_squares(X, Y, ridge=-1), "ridge is -1; expected a number of at least 0"),
        (lambda: objectives.least_squares(X[:0], Y[:0]), "X is empty or holds NaN or infinity"),
        (lambda: objectives.logistic_regression(X, Y), r"y holds labels from -.* expected integers 0 … 1"),
        (
            lambda: objectives.softmax_regression(X, BITS - 1),
            "y holds labels from -1 to 0; expected integers",
        ),
        (
            lambda: objectives.softmax_regression(X, LABELS, num_classes=3),
            "from 0 to 3; expected integers 0 … 2",
        ),
    ],
)
def test_errors_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- the laws judge a learner's derivatives -----------------------------------------------------------------

RIGHT, SMOOTH = CASES["least_squares"][0], CASES["logistic_regression"][0]
SKEW = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("wrong", "diagnosis"),
    [
        (lambda w: 2 * RIGHT.gradient(w), "factor-two"),
        (lambda w: RIGHT.gradient(w) / 2, "half"),
        (lambda w: -RIGHT.gradient(w), "sign"),
        (lambda w: 7 * RIGHT.gradient(w), "sum-not-mean"),
        (lambda w: RIGHT.gradient(w) - 0.3 * w, "no-ridge"),
        (lambda w: RIGHT.gradient(w) + 1e-3 * np.eye(3)[0], "missing-term"),
        (lambda w: RIGHT.gradient(w)[:, None], "shape"),
        (lambda w: None, "returns-nothing"),
        (lambda w: RIGHT.gradient(w) / 0 * 0, "not-finite"),
    ],
)
def test_wrong_gradients_are_diagnosed(wrong, diagnosis):
    w = np.array([0.3, -2.0, 1.1])
    plain = objectives.least_squares(X, Y).gradient(w)
    with np.errstate(all="ignore"):
        violation = laws.gradient_fits(
            RIGHT.value,
            wrong,
            w,
            rng=0,
            case="seven examples",
            advice="Section 2.",
            num_examples=7,
            mistakes={"no-ridge": (plain, "The ridge has a gradient, too.")},
        )
    assert violation.diagnosis == diagnosis
    if diagnosis == "half":
        assert "it shrinks like h^1.0, expected h^2; entry" in violation.found


@pytest.mark.parametrize(
    ("wrong", "diagnosis"),
    [
        (lambda w: 2 * SMOOTH.hessian(w), "factor-two"),
        (lambda w: SMOOTH.hessian(w) / 2, "half"),
        (lambda w: -SMOOTH.hessian(w), "sign"),
        (lambda w: 7 * SMOOTH.hessian(w), "sum-not-mean"),
        (lambda w: np.diag(np.diag(SMOOTH.hessian(w))), "diagonal-only"),
        (lambda w: SMOOTH.hessian(w) + 1e-3 * np.eye(3), "missing-term"),
        (lambda w: SMOOTH.hessian(w) + SKEW, "not-symmetric"),
        (lambda w: 2 * np.triu(SMOOTH.hessian(w)) - np.diag(np.diag(SMOOTH.hessian(w))), "one-triangle"),
        (lambda w: SMOOTH.hessian(w) @ w, "shape"),
    ],
)
def test_wrong_hessians_are_diagnosed(wrong, diagnosis):
    w = np.array([0.3, -2.0, 1.1])
    violation = laws.hessian_fits(
        SMOOTH.value, SMOOTH.gradient, wrong, w, rng=0, case="seven examples", num_examples=7
    )
    assert violation.diagnosis == diagnosis
    if diagnosis == "half":
        assert "it shrinks like h^2.0, expected h^3; entry" in violation.found


@pytest.mark.parametrize(
    ("wrong", "diagnosis"),
    [
        (lambda H, v: v @ H @ v / (v @ v), ""),
        (lambda H, v: v @ H @ v, "not-normalized"),
        (lambda H, v: v @ H @ v / np.linalg.norm(v), "norm-not-squared"),
        (lambda H, v: np.linalg.norm(H @ v) / np.linalg.norm(v), "length-of-Hv"),
        (lambda H, v: v @ H @ v / (v @ v) / 2, "half"),
        (lambda H, v: H @ v, "shape"),
        (lambda H, v: np.linalg.eigvalsh(H)[-1], "value"),
    ],
)
def test_curvature_along_a_direction_is_judged(wrong, diagnosis):
    v = np.array([1.0, 2.0, -0.5])
    violation = laws.curvature_along(wrong(SYMMETRIC, v), SYMMETRIC, v, case="an indefinite matrix")
    assert (violation.diagnosis if violation else "") == diagnosis


@pytest.mark.parametrize("scale", [1e-13, 1e8])
def test_laws_do_not_depend_on_the_scale(scale):
    w = np.array([0.3, -2.0, 1.1])
    value, gradient, hessian = (
        lambda w: scale * SMOOTH.value(w),
        lambda w: scale * SMOOTH.gradient(w),
        lambda w: scale * SMOOTH.hessian(w),
    )
    assert laws.hessian_fits(value, gradient, hessian, w, rng=0, case="scaled") is None
    wrong = laws.hessian_fits(value, gradient, lambda w: hessian(w) / 2, w, rng=0, case="scaled")
    assert wrong.diagnosis == "half"


def test_a_check_is_composed_of_laws(capsys):
    @check
    def check_bowl(bowl, rng):
        f, x = bowl(), rng.standard_normal(2)
        yield differs(f.value(x), 2 * x @ x, law="f = 2 xᵀx", case="a point", advice="Section 1.")
        yield laws.gradient_fits(f.value, f.gradient, x, rng=rng, case="a point", advice="Section 1.")
        yield laws.hessian_fits(f.value, f.gradient, f.hessian, x, rng=rng, case="a point")

    assert check_bowl(lambda: objectives.quadratic(4 * np.eye(2))).passed
    wrong = check_bowl(lambda: objectives.Objective("bowl", 2, lambda x: 2 * x @ x, lambda x: 2 * x, None))
    assert not wrong.passed
    assert wrong.diagnosis == "half"
    assert "h^1.0, expected h^2" in capsys.readouterr().out
