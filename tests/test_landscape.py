"""The room landscape: slices by hand, barriers in closed form, planted permutations, what it leaves alone."""

import copy
import itertools
import re
import sys

import numpy as np
import pytest
import torch
from networks import MODELS, draw, everything
from torch import nn

from hesslab import matching, profiles
from hesslab.curvature import hessian
from hesslab.landscape import barrier, bezier_path, match_permutation, slice_1d, slice_2d
from hesslab.operators import generator
from hesslab.risk import EmpiricalRisk, mlp

pytestmark = pytest.mark.usefixtures("double_precision")

CE = nn.CrossEntropyLoss()


def bundled(name):
    """One of the networks that are hard, as a risk."""
    make, (inputs, targets) = MODELS[name]
    torch.manual_seed(0)
    return EmpiricalRisk(make(), CE, (inputs(), targets()))


def perceptron(sizes=(4, 6, 5, 3), n=40, seed=0, dtype=torch.float64, **settings):
    """A multilayer perceptron with biases, as a risk."""
    model = mlp(sizes, rng=seed, **settings).to(dtype)
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            if p.ndim == 1:
                p.copy_(0.3 * draw(len(p), seed=100 + i))
    rng = np.random.default_rng(seed + 50)
    X = torch.tensor(rng.standard_normal((n, sizes[0])), dtype=dtype)
    return EmpiricalRisk(model, CE, (X, torch.tensor(rng.integers(sizes[-1], size=n))))


def random_vector(risk, seed=0):
    return generator(seed).standard_normal(risk.num_parameters)


def by_hand(risk, theta, model=None):
    """L(θ) by a copy of the model that has θ written into it."""
    model = copy.deepcopy(risk.model) if model is None else model
    with torch.no_grad():
        nn.utils.vector_to_parameters(theta, [p for p in model.parameters() if p.requires_grad])
        return risk.loss(model(risk.data[0]), risk.data[1]).item()


def same(before, after):
    """Whether two records of `everything` are equal."""
    torch.testing.assert_close(before["grads"], after["grads"], rtol=0, atol=0)
    for name, (identity, version, value) in before["tensors"].items():
        assert after["tensors"][name][:2] == (identity, version)
        assert torch.equal(after["tensors"][name][2], value)
    assert before["modes"] == after["modes"]
    assert before["attributes"] == after["attributes"]
    assert torch.equal(before["random"][0], after["random"][0])
    assert np.array_equal(before["random"][1], after["random"][1])


class Function(nn.Module):
    """A function of θ as a network, so that a loss can be any formula."""

    def __init__(self, d):
        super().__init__()
        self.theta = nn.Parameter(torch.ones(d))

    def forward(self, x):
        return self.theta[None, :] * x


def formula(f, d=2):
    """The risk L(θ) = f(θ)."""
    return EmpiricalRisk(Function(d), lambda z, _: f(z[0]), (torch.ones(1, d), torch.zeros(1)))


class Interrupted:
    """A loss during whose k-th evaluation Ctrl-C is pressed, and no other."""

    def __init__(self, loss, k):
        self.loss, self.left = loss, k

    def __call__(self, outputs, targets):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.loss(outputs, targets)


# Slices.


@pytest.mark.parametrize("name", MODELS)
def test_a_slice_is_a_loop_and_leaves_everything_as_it_was(name):
    risk = bundled(name)
    u = torch.tensor(random_vector(risk))
    before = everything(risk.model)
    found = slice_1d(risk, u, [-0.5, 0.0, 0.25])
    same(before, everything(risk.model))
    expected = [by_hand(risk, risk.theta + a * u, bundled(name).model) for a in (-0.5, 0.0, 0.25)]
    np.testing.assert_allclose(found.values, expected, rtol=1e-12)
    assert torch.equal(found.directions[0], u)
    assert (found.num_evaluations, found.stop_reason, found.quadratic) == (3, "done", None)
    assert found.grids[0].tolist() == [-0.5, 0.0, 0.25]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_plane_is_a_double_loop(dtype):
    risk = perceptron(dtype=dtype)
    u, v, start = (random_vector(risk, seed) for seed in (1, 2, 3))
    found = slice_2d(risk, u, torch.tensor(v), [0.0, 0.5], (-1, 0, 0.25), theta=start)
    start, u, v = (torch.tensor(x, dtype=dtype) for x in (start, u, v))
    expected = [[by_hand(risk, start + a * u + b * v) for b in (-1, 0, 0.25)] for a in (0.0, 0.5)]
    np.testing.assert_allclose(found.values, expected, rtol=10 * torch.finfo(dtype).eps)
    assert found.values.shape == (2, 3)
    assert found.values.dtype == np.float64
    assert [d.dtype for d in found.directions] == [dtype] * 2
    assert [len(grid) for grid in found.grids] == [2, 3]


def test_values_that_are_not_finite_are_kept():
    risk = formula(lambda z: torch.log(z[0]) + torch.exp(z[1]))
    values = slice_2d(risk, [1, 0], [0, 1], [-1, 0, 1], [0, 1000], theta=[0, 0]).values
    expected = [[np.nan, np.nan], [-np.inf, np.nan], [1.0, np.inf]]
    np.testing.assert_array_equal(values, expected)


def test_an_interrupted_slice_keeps_what_is_done():
    risk = perceptron()
    whole = slice_2d(risk, random_vector(risk), random_vector(risk, 1), [0, 1], [0, 1, 2])
    stopped = EmpiricalRisk(risk.model, Interrupted(CE, 5), risk.data)
    before = everything(risk.model)
    part = slice_2d(stopped, random_vector(risk), random_vector(risk, 1), [0, 1], [0, 1, 2])
    same(before, everything(risk.model))
    assert np.array_equal(part.values.ravel()[:4], whole.values.ravel()[:4])
    assert np.isnan(part.values.ravel()[4:]).all()
    assert (part.num_evaluations, part.stop_reason) == (4, "interrupted")


def test_the_quadratic_model_of_a_quadratic_is_the_slice():
    X, Y = draw(20, 4), draw(20, 3, seed=1)
    risk = EmpiricalRisk(nn.Linear(4, 3), nn.MSELoss(), (X, Y))
    theta, u, v = (random_vector(risk, seed) for seed in (1, 2, 3))
    found = slice_2d(risk, u, v, [-1, 0.5, 2], [0, 3], theta=theta, normalize="layer", H=hessian(risk, theta))
    np.testing.assert_allclose(found.quadratic, found.values, rtol=1e-12)
    line = slice_1d(risk, u, [-1, 0.5, 2], theta=theta, H=np.asarray(hessian(risk, theta) @ np.eye(15)))
    np.testing.assert_allclose(line.quadratic, line.values, rtol=1e-12)


def test_the_quadratic_model_of_a_network_errs_by_a_cube():
    risk = perceptron()
    u = random_vector(risk)
    found = slice_1d(risk, u, [1e-3, 2e-3], H=hessian(risk))
    errors = found.values - found.quadratic
    assert errors[1] / errors[0] == pytest.approx(8, rel=0.05)


# Normalization.


def filters(risk, vector):
    """The norms of all filters by a loop over rows, and the parameters of one axis."""
    weights, vectors = [], []
    for part in risk.unflatten(vector).values():
        if part.ndim < 2:
            vectors.append(part)
        else:
            weights += [float(row.double().pow(2).sum().sqrt()) for row in part]
    return np.array(weights), vectors


@pytest.mark.parametrize("name", ["convolutions", "tied weights", "frozen parameters", "BatchNorm", "LSTM"])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_filters_of_the_direction_are_as_long_as_those_of_theta(name, scale):
    risk = bundled(name)
    found = slice_1d(risk, scale * random_vector(risk), [0], normalize="filter").directions[0]
    lengths, ones = filters(risk, found)
    np.testing.assert_allclose(lengths, filters(risk, risk.theta)[0], rtol=1e-14)
    assert not any(part.any() for part in ones)
    u = torch.tensor(random_vector(risk))
    layered = slice_1d(risk, u, [0], normalize="filter", biases="layer").directions[0]
    triples = zip(*(risk.unflatten(x).values() for x in (layered, u, risk.theta)), strict=True)
    for part, raw, like in triples:
        if part.ndim < 2:
            torch.testing.assert_close(part, raw * (like.norm() / raw.norm()), rtol=1e-13, atol=0)
        else:
            for filter_, row, weights in zip(part, raw, like, strict=True):
                torch.testing.assert_close(filter_, row * (weights.norm() / row.norm()), rtol=1e-13, atol=0)


def test_layers_of_the_direction_are_as_long_as_those_of_theta():
    risk = bundled("convolutions")
    u = torch.tensor(random_vector(risk))
    found = slice_1d(risk, u, [0], normalize="layer", biases="layer").directions[0]
    triples = (risk.unflatten(vector).values() for vector in (found, u, risk.theta))
    for part, raw, like in zip(*triples, strict=True):
        torch.testing.assert_close(part, raw * (like.norm() / raw.norm()), rtol=1e-14, atol=0)


def test_float32_filters_are_as_long_as_their_precision_allows():
    risk = perceptron(dtype=torch.float32)
    big = 1e25 * risk.theta  # whose squares float32 does not hold
    found = slice_1d(risk, random_vector(risk), [0.0], theta=big, normalize="filter").directions[0]
    np.testing.assert_allclose(filters(risk, found)[0], filters(risk, big)[0], rtol=1e-6)


def test_normalizing_twice_is_normalizing_once():
    # Others have normalized biases once for each filter: marcellodebernardi/loss-landscapes, issue 3.
    risk = bundled("convolutions")
    settings = {"normalize": "filter", "biases": "layer"}
    once = slice_1d(risk, random_vector(risk), [0], **settings).directions[0]
    twice = slice_1d(risk, once, [0], **settings).directions[0]
    torch.testing.assert_close(once, twice, rtol=1e-14, atol=0)


def test_a_slice_does_not_depend_on_the_scale_of_its_direction_or_of_a_relu_network():
    risk = perceptron(activation="relu")
    u, grid = random_vector(risk), np.linspace(-1, 1, 5)
    found = slice_1d(risk, u, grid, normalize="filter").values
    scaled = slice_1d(risk, 17 * u, grid, normalize="filter").values
    np.testing.assert_allclose(scaled, found, rtol=1e-12)
    parts = risk.unflatten(risk.theta.clone())
    parts["0.weight"] *= 10
    parts["0.bias"] *= 10
    parts["2.weight"] /= 10
    theta = torch.cat([part.reshape(-1) for part in parts.values()])
    np.testing.assert_allclose(
        slice_1d(risk, u, grid, theta=theta, normalize="filter").values, found, rtol=1e-12
    )
    raw = slice_1d(risk, u, grid).values
    assert abs(slice_1d(risk, u, grid, theta=theta).values - raw).max() > 0.1


def test_where_a_direction_is_zero_it_stays_zero():
    risk = perceptron()
    u = torch.tensor(random_vector(risk))
    u[:4] = 0  # the first filter
    found = slice_1d(risk, u, [0], normalize="filter").directions[0]
    assert not found[:4].any()
    assert found[4:24].all()


# Barriers.

SADDLE = torch.tensor([3.0, -2.0, -5.0])


def saddle():
    return formula(lambda z: 0.5 * (SADDLE * z**2).sum(), 3)


A, B = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([0.5, -1.0, -1.5])


def test_the_barrier_of_a_quadratic_is_its_closed_form():
    # The excess is −½ t(1 − t) ΔᵀDΔ.
    risk, delta = saddle(), B - A
    height = -float(delta @ (SADDLE * delta)) / 8
    found = barrier(risk, A, B)
    assert found.height == pytest.approx(height, rel=1e-12)
    assert found.where == pytest.approx(0.5)
    ends = [risk.value(A), risk.value(B)]
    t = -(delta @ (SADDLE * A)) / (delta @ (SADDLE * delta))
    assert 0 < t < 1
    top, mesh = risk.value(A + t * delta), 1 / 200
    fine = barrier(risk, A, B, num_points=201, num_refinements=0)
    assert 0 <= top - fine.max_loss <= height * mesh**2
    assert 0 <= top - np.mean(ends) - fine.over_mean <= height * mesh**2
    assert 0 <= top - max(ends) - fine.over_max <= height * mesh**2
    np.testing.assert_allclose(fine.excess, 4 * height * fine.t * (1 - fine.t), rtol=1e-9, atol=1e-12)
    assert (found.num_evaluations, fine.num_evaluations) == (29, 201)


@pytest.mark.parametrize("num_points", [4, 6, 10])
def test_the_error_of_a_coarse_grid_is_what_it_can_miss(num_points):
    delta = B - A
    height = -float(delta @ (SADDLE * delta)) / 8
    found = barrier(saddle(), A, B, num_points=num_points, num_refinements=0)
    missed = height - found.height
    assert missed > 0
    assert missed <= found.error <= 3 * missed
    refined = barrier(saddle(), A, B, num_points=num_points, num_refinements=6)
    assert refined.error < found.error / 20
    assert refined.height <= height * (1 + 1e-12) <= (refined.height + refined.error) * (1 + 1e-12)


def bumps(t, c, s):
    """Σ exp(−((t − c)/s)²), and its second derivative."""
    x = (np.subtract.outer(t, c)) / s
    return np.exp(-(x**2)).sum(-1), (np.exp(-(x**2)) * (4 * x**2 - 2) / s**2).sum(-1)


@pytest.mark.parametrize("num_points", [5, 9, 17])
@pytest.mark.parametrize("num_refinements", [0, 5])
def test_the_error_covers_hidden_tops_under_its_assumption(num_points, num_refinements):
    rng, t, assumed, missed = np.random.default_rng(0), np.linspace(0, 1, 20001), 0, []
    for _ in range(12):
        c, s = rng.uniform(0.2, 0.8, 2), rng.uniform(0.15, 0.5, 2)
        centre, width = torch.tensor(c), torch.tensor(s)
        risk = formula(lambda z, c=centre, s=width: torch.exp(-(((z - c) / s) ** 2)).sum(), 1)
        found = barrier(risk, [0.0], [1.0], num_points=num_points, num_refinements=num_refinements)
        value, second = bumps(t, c, s)
        truth = (value - (1 - t) * value[0] - t * value[-1]).max()
        assert found.height <= truth + 1e-7
        bend = np.pad(np.abs(np.diff(np.diff(found.values) / np.diff(found.t))), 1, mode="edge")
        bend[1:-1] /= (found.t[2:] - found.t[:-2]) / 2
        bend[[0, -1]] = bend[[1, -2]]
        within = np.array([abs(second[(t >= a) & (t <= b)]).max() for a, b in itertools.pairwise(found.t)])
        if np.all(within <= 2 * np.maximum(bend[1:], bend[:-1])):
            assumed += 1
            assert truth <= found.height + found.error + 1e-12
            missed.append(truth - found.height)
    assert assumed >= 4
    assert max(missed) > 1e-6  # so that an error of 0 would not do


def test_the_most_that_an_interval_can_hold_is_the_top_of_a_parabola():
    # Of e″ = −1 with the factor 2 on M: the largest of the chord and (t − t_0)(t_1 − t) more.
    t = np.array([0.0, 0.3, 0.4, 0.9, 1.0])
    e = -(t**2) / 2 + 0.7 * t
    for a, b, y, z, found in zip(t, t[1:], e, e[1:], profiles._ceilings(t, e), strict=False):
        x = np.linspace(a, b, 100001)
        assert found == pytest.approx((y + (z - y) * (x - a) / (b - a) + (x - a) * (b - x)).max(), rel=1e-9)


def test_a_bowl_has_no_barrier():
    found = barrier(formula(lambda z: (z**2).sum()), [1.0, 0.0], [-2.0, 1.0])
    assert (found.height, found.where, found.over_max) == (0.0, 0.0, 0.0)
    assert found.over_mean == pytest.approx(2.0)
    assert str(found).startswith("barrier 0, up to ")


def test_a_barrier_prints_what_it_found():
    found = barrier(formula(lambda z: 1 - z[0] ** 4), [-1.0, 0.0], [1.0, 0.0])
    assert re.fullmatch(r"barrier 1, up to \S+ more, at t = 0.500 \(29 evaluations: done\)", str(found))


def test_a_barrier_is_that_of_the_line_between_networks():
    risk = perceptron()
    b = risk.theta + torch.tensor(random_vector(risk))
    found = barrier(risk, risk.theta, b, num_points=5, num_refinements=0)
    line = slice_1d(risk, b - risk.theta, np.linspace(0, 1, 5))
    np.testing.assert_allclose(found.values, line.values, rtol=1e-12)


@pytest.mark.parametrize("train", [False, True])
def test_batch_norm_follows_the_mode_of_the_model(train):
    risk = bundled("BatchNorm")
    risk.model.train(train)
    b = random_vector(risk)
    before = everything(risk.model)
    found = barrier(risk, risk.theta, b, num_points=3, num_refinements=0)
    same(before, everything(risk.model))
    expected = [by_hand(risk, (1 - t) * risk.theta + t * torch.tensor(b)) for t in (0, 0.5, 1)]
    np.testing.assert_allclose(found.values, expected, rtol=1e-12)


def test_ends_and_tops_that_are_not_finite():
    top = barrier(formula(lambda z: 1 / z[0].abs()), [-1.0, 0.0], [1.0, 0.0])
    assert (top.height, top.where, top.error, top.over_mean) == (np.inf, 0.5, np.inf, np.inf)
    assert top.num_evaluations == 21
    end = barrier(formula(lambda z: 1 / z[0].abs()), [0.0, 0.0], [1.0, 0.0])
    assert np.isnan([end.height, end.over_mean, end.over_max]).all()
    assert end.error == np.inf


def test_an_interrupted_barrier_keeps_what_is_done_once_it_has_both_ends():
    risk = saddle()
    stopped = EmpiricalRisk(risk.model, Interrupted(risk.loss, 7), risk.data)
    found = barrier(stopped, A, B)
    assert (found.num_evaluations, found.stop_reason, found.error) == (6, "interrupted", np.inf)
    assert found.t.tolist() == [*np.linspace(0, 1, 21)[:5], 1.0]
    assert found.height > 0
    stopped = EmpiricalRisk(risk.model, Interrupted(risk.loss, 2), risk.data)
    with pytest.raises(KeyboardInterrupt):
        barrier(stopped, A, B)


# Bézier paths.


def oracle(risk, a, b, steps, lr, batch_size, rng):
    """The control point by torch alone, with the same draws."""
    c = ((a + b) / 2).requires_grad_()
    adam = torch.optim.Adam([c], lr=lr)
    for _ in range(steps):
        t = rng.random()
        rows = rng.choice(len(risk.data[0]), batch_size, replace=False)
        theta = (1 - t) ** 2 * a + 2 * t * (1 - t) * c + t**2 * b
        outputs = torch.func.functional_call(risk.model, risk.unflatten(theta), (risk.data[0][rows],))
        adam.zero_grad()
        risk.loss(outputs, risk.data[1][rows]).backward()
        adam.step()
    return c.detach()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_control_point_is_that_of_torch(dtype):
    risk = perceptron(dtype=dtype)
    a, b = risk.theta, torch.tensor(random_vector(risk), dtype=dtype)
    before = everything(risk.model)
    found = bezier_path(risk, a, b.numpy(), num_steps=20, lr=0.01, batch_size=8, num_points=3, rng=3)
    same(before, everything(risk.model))
    expected = oracle(risk, a, b, 20, 0.01, 8, generator(3))
    torch.testing.assert_close(
        found.control,
        expected,
        rtol=1e4 * torch.finfo(dtype).eps,
        atol=1e-5 if dtype == torch.float32 else 1e-12,
    )
    middle = a / 4 + found.control / 2 + b / 4
    torch.testing.assert_close(found.point(0.5), middle)
    assert found.barrier.values[1] == pytest.approx(by_hand(risk, middle), rel=1e-6)
    assert torch.equal(found.point(0.0), a)
    assert torch.equal(found.point(1.0), b)
    assert (found.num_gradients, found.stop_reason, found.barrier.num_evaluations) == (20, "done", 3)
    again = bezier_path(risk, a, b, num_steps=20, lr=0.01, batch_size=8, num_points=3, rng=generator(3))
    assert torch.equal(again.control, found.control)


def test_a_curve_goes_around_where_the_line_goes_through():
    risk = formula(lambda z: ((z**2).sum() - 1) ** 2)
    found = bezier_path(risk, [1.0, 0.0], [0.0, 1.0], num_steps=150, lr=0.05, rng=0)
    assert barrier(risk, [1.0, 0.0], [0.0, 1.0]).height == pytest.approx(0.25)
    assert found.barrier.height < 0.005


def test_a_batch_holds_no_more_than_there_is():
    risk = perceptron(n=12)
    settings = {"num_steps": 3, "num_points": 3, "rng": 0}
    found = [bezier_path(risk, risk.theta, -risk.theta, batch_size=size, **settings) for size in (12, 100)]
    assert torch.equal(found[0].control, found[1].control)


def test_batches_are_taken_in_turn_and_those_without_weight_skipped():
    risk = perceptron(n=12)
    x, y = risk.data
    weights = [4, 0, 4, 4]
    batches = [(x[:4], y[:4]), (x[:0], y[:0]), (x[4:8], y[4:8]), (x[8:], y[8:])]
    seen = []

    def loss(outputs, targets):
        seen.append(targets)
        return CE(outputs, targets)

    listed = EmpiricalRisk(risk.model, loss, batches, weight=lambda batch: len(batch[0]))
    bezier_path(listed, risk.theta, -risk.theta, num_steps=5, num_points=3, rng=0)
    trained = seen[3:8]  # after one pass at an end
    expected = [y[:4], y[4:8], y[8:], y[:4], y[4:8]]
    assert all(torch.equal(a, b) for a, b in zip(trained, expected, strict=True))
    assert sum(weights) == 12


def test_a_loader_that_shuffles_does_not_move_the_random_state():
    risk = perceptron(n=12)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*risk.data), 4, shuffle=True)
    loaded = EmpiricalRisk(risk.model, CE, loader)
    before = everything(risk.model)
    found = bezier_path(loaded, risk.theta, -risk.theta, num_steps=5, num_points=3, rng=0)
    match_permutation(loaded, risk.theta, -risk.theta, method="activations")
    same(before, everything(risk.model))
    assert found.num_gradients == 5


def test_an_interrupted_curve_is_the_path_so_far():
    risk = perceptron()
    short = bezier_path(risk, risk.theta, -risk.theta, num_steps=4, rng=0)
    stopped = EmpiricalRisk(risk.model, Interrupted(CE, 6), risk.data)
    before = everything(risk.model)
    found = bezier_path(stopped, risk.theta, -risk.theta, rng=0)
    same(before, everything(risk.model))
    assert (found.num_gradients, found.stop_reason, found.barrier.stop_reason) == (4, "interrupted", "done")
    assert torch.equal(found.control, short.control)
    assert np.array_equal(found.barrier.values, short.barrier.values)


# Permutations.

METHODS = ("weights", "activations")


def shuffled(risk, theta, seed):
    """θ with the hidden units in a random order, by a loop over the model, and that order undone."""
    rng, model = np.random.default_rng(seed), copy.deepcopy(risk.model)
    with torch.no_grad():
        nn.utils.vector_to_parameters(theta, model.parameters())
        linear, undone = [m for m in model.modules() if isinstance(m, nn.Linear)], []
        for layer, following in itertools.pairwise(linear):
            p = torch.tensor(rng.permutation(layer.out_features))
            layer.weight.copy_(layer.weight[p])
            following.weight.copy_(following.weight[:, p])
            if layer.bias is not None:
                layer.bias.copy_(layer.bias[p])
            undone.append(torch.argsort(p).tolist())
    return nn.utils.parameters_to_vector(model.parameters()).detach(), undone


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("sizes", [(8, 16, 3), (8, 16, 16, 3), (8, 24, 16, 12, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_planted_permutation_is_found(method, activation, sizes, dtype):
    risk = perceptron(sizes, n=200, activation=activation, dtype=dtype)
    other, undone = shuffled(risk, risk.theta, 7)
    assert not torch.equal(other, risk.theta)
    before = everything(risk.model)
    found = match_permutation(risk, risk.theta, other, method=method)
    same(before, everything(risk.model))
    assert torch.equal(found.theta, risk.theta)
    assert [p.tolist() for p in found.permutations] == undone
    assert found.stop_reason == "done"
    vary = sum(int((units.std(0) > 0).sum()) for units in hidden(risk, risk.theta, activation))
    perfect = float(risk.theta.double() @ risk.theta.double()) if method == "weights" else vary
    assert found.after == pytest.approx(perfect, rel=1e-6)
    assert found.before < 0.7 * found.after


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_outputs_of_a_permuted_network_are_its_own(method, dtype):
    risk, other = perceptron(dtype=dtype), perceptron(seed=1, dtype=dtype)
    found = match_permutation(risk, risk.theta, other.theta.numpy(), method=method)
    assert any((p != np.arange(len(p))).any() for p in found.permutations)
    outputs = [
        torch.func.functional_call(risk.model, risk.unflatten(theta), (draw(30, 4, seed=9).to(dtype),))
        for theta in (found.theta, other.theta)
    ]
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-13 if dtype == torch.float64 else 1e-5)
    assert found.theta.dtype == dtype
    assert sorted(found.theta.tolist()) == sorted(other.theta.tolist())
    assert found.after > found.before


def reordered(risk, theta, orders):
    """θ with the units of its hidden layers in given orders."""
    parts = [part.clone() for part in risk.unflatten(theta).values()]
    for j, p in enumerate(orders):
        p = list(p)
        parts[2 * j], parts[2 * j + 1] = parts[2 * j][p], parts[2 * j + 1][p]
        parts[2 * j + 2] = parts[2 * j + 2][:, p]
    return torch.cat([part.reshape(-1) for part in parts])


def test_one_hidden_layer_is_matched_as_well_as_by_trying_all():
    risk, other = perceptron((4, 5, 3)), perceptron((4, 5, 3), seed=1).theta
    tried = [float(risk.theta @ reordered(risk, other, [p])) for p in itertools.permutations(range(5))]
    found = match_permutation(risk, risk.theta, other)
    assert found.after == pytest.approx(max(tried), rel=1e-12)
    assert found.before == pytest.approx(tried[0], rel=1e-12)
    assert torch.equal(found.theta, reordered(risk, other, found.permutations))


def test_two_hidden_layers_end_where_no_single_one_can_be_bettered():
    for seed in range(1, 6):
        risk, other = perceptron((4, 4, 5, 3)), perceptron((4, 4, 5, 3), seed=seed).theta
        found = match_permutation(risk, risk.theta, other)
        for j, width in enumerate((4, 5)):
            for p in itertools.permutations(range(width)):
                orders = [list(range(4)), list(range(5))]
                orders[j] = p
                assert risk.theta @ reordered(risk, found.theta, orders) <= found.after + 1e-12


def hidden(risk, theta, activation="tanh"):
    """The units of each hidden layer over all data, (layers, rows, units)."""
    parts, x, units = list(risk.unflatten(theta).values()), risk.data[0], []
    for W, b in zip(parts[0:-2:2], parts[1:-2:2], strict=True):
        x = getattr(torch, activation)(x @ W.T + b)
        units.append(x.numpy())
    return units


def test_activations_are_matched_as_well_as_by_trying_all():
    risk, other = perceptron((4, 4, 5, 3)), perceptron((4, 4, 5, 3), seed=1).theta
    x, y = risk.data
    batched = EmpiricalRisk(risk.model, CE, [(x[:7], y[:7]), (x[7:], y[7:])])
    best, before = 0.0, 0.0
    for ours, theirs in zip(hidden(risk, risk.theta), hidden(risk, other), strict=True):
        width = ours.shape[1]
        C = np.corrcoef(ours, theirs, rowvar=False)[:width, width:]
        best += max(C[range(width), p].sum() for p in itertools.permutations(range(width)))
        before += np.trace(C)
    for data in (risk, batched):
        found = match_permutation(data, risk.theta, other, method="activations")
        assert found.after == pytest.approx(best, rel=1e-10)
        assert found.before == pytest.approx(before, rel=1e-10)
        assert not any(module._forward_pre_hooks for module in risk.model.modules())


def test_units_that_do_not_vary_are_like_no_other():
    risk = perceptron((4, 6, 3), activation="relu")
    parts = risk.unflatten(risk.theta.clone())
    parts["0.bias"][:2] = -100.0  # dead
    parts["0.weight"][2] = 0.0  # constant
    parts["0.bias"][2] = 1e3
    theta = torch.cat([part.reshape(-1) for part in parts.values()])
    found = match_permutation(risk, theta, theta, method="activations")
    assert found.before == pytest.approx(3.0, rel=1e-10)
    assert found.permutations[0][3:].tolist() == [3, 4, 5]


def test_units_that_overflow_are_refused():
    risk = perceptron(activation="relu")
    theta = 1e200 * risk.theta
    before = everything(risk.model)
    with pytest.raises(
        ValueError, match="the units before module '2' hold NaN or infinity, or their squares do"
    ):
        match_permutation(risk, theta, theta, method="activations")
    same(before, everything(risk.model))


def test_networks_in_other_dress():
    """No biases, nested, one activation in two places, modules before and after, examples in sequences."""
    act = nn.Tanh()
    model = nn.Sequential(
        *(nn.Flatten(2), nn.Linear(4, 6, bias=False), act),
        nn.Sequential(nn.Linear(6, 6), act, nn.Sequential(nn.Dropout(0.0), nn.Linear(6, 2))),
        nn.LogSoftmax(-1),
    )
    x = draw(20, 3, 2, 2)
    risk = EmpiricalRisk(model, nn.MSELoss(), (x, torch.zeros(20, 3, 2)))
    for method in METHODS:
        other, undone = shuffled(risk, risk.theta, 5)
        found = match_permutation(risk, risk.theta, other, method=method)
        assert torch.equal(found.theta, risk.theta)
        assert [p.tolist() for p in found.permutations] == undone


def test_copies_of_a_unit_do_not_swap_for_ever():
    risk = perceptron((4, 6, 6, 3))
    parts = risk.unflatten(risk.theta.clone())
    for name in ("0.weight", "0.bias"):
        parts[name][1] = parts[name][0]
    parts["2.weight"][:, 1] = parts["2.weight"][:, 0]
    theta = torch.cat([part.reshape(-1) for part in parts.values()])
    found = match_permutation(risk, theta, theta)
    assert found.stop_reason == "done"
    assert [p.tolist() for p in found.permutations] == [list(range(6))] * 2


def test_a_search_cut_short_says_so(monkeypatch):
    risk, other = perceptron((6, 12, 12, 12, 3)), perceptron((6, 12, 12, 12, 3), seed=1).theta
    whole = match_permutation(risk, risk.theta, other)
    short = match_permutation(risk, risk.theta, other, max_sweeps=1)
    assert short.stop_reason == "max_sweeps = 1 reached"
    assert short.before < short.after <= whole.after
    solve, calls = matching.linear_sum_assignment, iter(range(100))

    def interrupted(S, maximize):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return solve(S, maximize=maximize)

    monkeypatch.setattr(matching, "linear_sum_assignment", interrupted)
    part = match_permutation(risk, risk.theta, other)
    assert part.stop_reason == "interrupted"
    assert part.before < part.after < short.after
    assert part.permutations[2].tolist() == list(range(12))
    assert sorted(part.theta.tolist()) == sorted(other.tolist())


# What goes wrong.

WRONG = {
    "direction, shape": (
        lambda r: slice_1d(r, [1.0], [0]),
        r"direction has shape \(1,\); expected \(83,\), as risk.theta",
    ),
    "u, shape": (lambda r: slice_2d(r, [1.0], r.theta, [0], [0]), r"u has shape \(1,\)"),
    "v, NaN": (
        lambda r: slice_2d(r, r.theta, r.theta * np.nan, [0], [0]),
        "v holds NaN or infinity; expected finite numbers",
    ),
    "theta, shape": (lambda r: slice_1d(r, r.theta, [0], theta=[1.0]), r"theta has shape \(1,\)"),
    "direction, zero": (
        lambda r: slice_1d(r, 0 * r.theta, [0]),
        "direction is zero; expected a direction that moves θ",
    ),
    "direction, only biases": (
        lambda r: slice_1d(r, torch.cat([0 * r.theta[:-3], torch.ones(3)]), [0], normalize="filter"),
        "direction is zero after normalize='filter' with biases='zero'; expected a direction that moves θ",
    ),
    "grid": (
        lambda r: slice_1d(r, r.theta, [[0]]),
        r"grid is \[\[0\]\]; expected a list of finite numbers, such as",
    ),
    "grid, empty": (lambda r: slice_1d(r, r.theta, []), r"grid is \[\]; expected a list"),
    "grid_v, infinite": (
        lambda r: slice_2d(r, r.theta, r.theta, [0], [np.inf]),
        r"grid_v is \[inf\]; expected",
    ),
    "normalize": (
        lambda r: slice_1d(r, r.theta, [0], normalize="row"),
        "normalize is 'row'; expected 'filter', 'layer' or None",
    ),
    "biases": (
        lambda r: slice_1d(r, r.theta, [0], biases="one"),
        "biases is 'one'; expected 'zero' or 'layer'",
    ),
    "H": (
        lambda r: slice_1d(r, r.theta, [0], H=np.eye(3)),
        r"H has shape \(3, 3\); expected \(83, 83\), as θ has entries",
    ),
    "theta_a, shape": (lambda r: barrier(r, [1.0], r.theta), r"theta_a has shape \(1,\)"),
    "theta_b, infinite": (
        lambda r: bezier_path(r, r.theta, r.theta / 0, rng=0),
        "theta_b holds NaN or infinity",
    ),
    "theta_b, shape": (lambda r: match_permutation(r, r.theta, [1.0]), r"theta_b has shape \(1,\)"),
    "num_points": (
        lambda r: barrier(r, r.theta, r.theta, num_points=2),
        "num_points = 2; expected a whole number, at least 3",
    ),
    "num_refinements": (
        lambda r: barrier(r, r.theta, r.theta, num_refinements=-1),
        "num_refinements = -1; .* at least 0",
    ),
    "num_steps": (
        lambda r: bezier_path(r, r.theta, r.theta, num_steps=1.5, rng=0),
        "num_steps = 1.5; .* at least 1",
    ),
    "batch_size": (
        lambda r: bezier_path(r, r.theta, r.theta, batch_size=0, rng=0),
        "batch_size = 0; .* at least 1",
    ),
    "points of a curve": (
        lambda r: bezier_path(r, r.theta, r.theta, num_points=1, rng=0),
        "num_points = 1; .* at least 3",
    ),
    "lr": (
        lambda r: bezier_path(r, r.theta, r.theta, lr=0, rng=0),
        "lr = 0; expected a positive number, such as 5e-3",
    ),
    "rng": (
        lambda r: bezier_path(r, r.theta, r.theta, rng=-1),
        "rng is -1; expected an integer of at least 0",
    ),
    "batches": (
        lambda r: bezier_path(EmpiricalRisk(r.model, CE, [r.data]), r.theta, r.theta, batch_size=2, rng=0),
        "batch_size = 2 draws from one pair of tensors, and the data are batches or other things",
    ),
    "method": (
        lambda r: match_permutation(r, r.theta, r.theta, method="best"),
        "method is 'best'; expected 'weights' or 'activations'",
    ),
    "max_sweeps": (
        lambda r: match_permutation(r, r.theta, r.theta, max_sweeps=0),
        "max_sweeps = 0; .* at least 1",
    ),
    "no data": (
        lambda r: bezier_path(EmpiricalRisk(r.model, CE, Nothing()), r.theta, r.theta, rng=0),
        "data holds no batch of positive weight",
    ),
}


class Nothing:
    def __iter__(self):
        return iter(())


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_sentences_and_change_nothing(name):
    call, message = WRONG[name]
    risk = perceptron()
    before = everything(risk.model)
    with pytest.raises(ValueError, match=message):
        call(risk)
    same(before, everything(risk.model))


def tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return model


def twice():
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(4, 3))


def weight_normed():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), layer)


def frozen():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    model[0].bias.requires_grad_(False)
    return model


REFUSED = {
    "no chain": (
        MODELS["unused parameters"][0],
        "the model is a Unused with 0 linear layers in a row; expected nn.Seq",
    ),
    "one layer": (
        lambda: nn.Sequential(nn.Linear(4, 3)),
        "the model is a Sequential with 1 linear layers in a row",
    ),
    "BatchNorm": (
        MODELS["BatchNorm"][0],
        "module '1' is a BatchNorm1d; expected only nn.Linear and elementwise",
    ),
    "nested": (
        lambda: nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Softmax(1)), nn.Linear(4, 3)),
        "module '0.1' is a Softmax",
    ),
    "tied": (
        tied,
        "θ has no '2.weight'; expected all weights and biases of the linear layers in it: not frozen",
    ),
    "one layer twice": (twice, "θ has no '2.weight'"),
    "parametrized": (weight_normed, "θ has no '2.weight'"),
    "frozen": (frozen, "θ has no '0.bias'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_networks_are_refused(name):
    make, message = REFUSED[name]
    risk = EmpiricalRisk(make(), CE, (draw(4, 4), torch.zeros(4, dtype=torch.long)))
    with pytest.raises(ValueError, match=message):
        match_permutation(risk, risk.theta, risk.theta)


class Failure(Exception):
    pass


@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize("act", ["slice", "barrier", "curve", "activations"])
def test_an_error_in_the_loss_leaves_everything_as_it_was(k, act):
    risk = bundled("BatchNorm") if act != "activations" else perceptron()
    calls = itertools.count(1)

    def failing(outputs, targets):
        torch.rand(1)
        np.random.rand()  # noqa: NPY002
        if next(calls) == k:
            raise Failure
        return CE(outputs, targets)

    x, y = risk.data
    broken = EmpiricalRisk(risk.model, failing, [(x[i : i + 2], y[i : i + 2]) for i in (0, 2, 4)])
    calling = {
        "slice": lambda: slice_1d(broken, broken.theta, range(5)),
        "barrier": lambda: barrier(broken, broken.theta, -broken.theta),
        "curve": lambda: bezier_path(broken, broken.theta, -broken.theta, rng=0),
        "activations": lambda: match_permutation(broken, broken.theta, -broken.theta, method="activations"),
    }
    before = everything(risk.model)
    with pytest.raises(Failure):
        calling[act]()
    same(before, everything(risk.model))
    assert not any(module._forward_pre_hooks for module in risk.model.modules())


def test_progress_draws_a_bar_or_says_what_is_missing(capsys, monkeypatch):
    risk = perceptron()
    slice_1d(risk, risk.theta, [0, 1], progress=True)
    assert "2/2" in capsys.readouterr().err
    barrier(risk, risk.theta, -risk.theta, progress=True)
    assert "29/29" in capsys.readouterr().err
    bezier_path(risk, risk.theta, -risk.theta, num_steps=7, rng=0, progress=True)
    assert "7/7" in capsys.readouterr().err
    slice_1d(risk, risk.theta, [0, 1])
    assert capsys.readouterr().err == ""
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(
        ImportError, match="progress=True draws its bar with tqdm; install tqdm, or give progress=False"
    ):
        slice_1d(risk, risk.theta, [0, 1], progress=True)
