"""Dynamics: the facts of the ledger, torch's optimizers as oracle, thresholds by bisection, every message."""

import numpy as np
import pytest
import torch

from hesslab import dynamics, objectives
from hesslab.checks.laws import dynamics as laws
from hesslab.checks.laws.feedback import EXACT, check
from hesslab.dynamics import adam, gd, heavy_ball, iteration_matrix, nesterov, newton, rmsprop, run
from hesslab.dynamics import stability_threshold as threshold

KAPPA = 100.0
ROOT = KAPPA**0.5
LINEAR = {
    "gd": gd(0.3),
    "heavy_ball 0": heavy_ball(0.3, 0.0),
    "heavy_ball 0.5": heavy_ball(0.3, 0.5),
    "heavy_ball 0.99": heavy_ball(0.3, 0.99),
    "nesterov 0": nesterov(0.3, 0.0),
    "nesterov 0.5": nesterov(0.3, 0.5),
    "nesterov 0.99": nesterov(0.3, 0.99),
    "rmsprop": rmsprop(0.3),
    "adam": adam(0.3),
    "adam without momentum": adam(0.3, beta1=0.0),
    "adamw": adam(0.3, weight_decay=0.5),
}


def radius(rule, curvature):
    return np.abs(np.linalg.eigvals(iteration_matrix(rule, curvature))).max(axis=-1)


def bisected(rule, low=0.0, high=1e4):
    """The curvature at which the spectral radius passes 1: no formula, only eigenvalues."""
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if radius(rule, middle) <= 1 + 1e-12 else (low, middle)
    return low


# --- facts 1 to 9 and 28 of the ledger of claims ----------------------------------------------------------


def test_fact_1_gradient_descent_is_stable_below_two():
    lam = np.array([0.1, 1.0, 10.0])
    ends = [
        np.abs(run(lambda x: lam * x, np.ones(3), gd(c / 10), 400).points[-1]).max() for c in (1.99, 2, 2.01)
    ]
    assert ends == pytest.approx([0.99**400, 1.0, 1.01**400], rel=1e-3)
    assert ends[0] == pytest.approx(0.018, abs=0.001)


def test_fact_2_best_rate_of_gradient_descent():
    rule = gd(2 / (1 + 1 / KAPPA))
    assert radius(rule, [1.0, 1 / KAPPA]) == pytest.approx(np.full(2, (KAPPA - 1) / (KAPPA + 1)), rel=1e-12)
    path = run(lambda x: np.array([1.0, 1 / KAPPA]) * x, [1.0, 1.0], rule, 50)
    assert np.abs(path.points[-1]) == pytest.approx(np.full(2, 0.98019801980198**50), rel=1e-12)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.99])
def test_facts_3_and_5_thresholds_of_momentum(beta):
    assert bisected(heavy_ball(1.0, beta)) == pytest.approx(2 * (1 + beta), rel=1e-6)
    assert bisected(nesterov(1.0, beta)) == pytest.approx((2 + 2 * beta) / (1 + 2 * beta), rel=1e-6)


def test_fact_4_best_rate_of_heavy_ball():
    """The matrix is defective at the optimum, so rounding enters as √eps."""
    beta = ((ROOT - 1) / (ROOT + 1)) ** 2
    rule = heavy_ball(4 / (1 + 1 / ROOT) ** 2, beta)
    assert beta == pytest.approx(0.669421, abs=1e-6)
    assert radius(rule, [1.0, 1 / KAPPA]) == pytest.approx(np.full(2, 0.8181818), abs=1e-6)
    assert radius(rule, np.linspace(1 / KAPPA, 1, 501)).max() == pytest.approx(beta**0.5, abs=1e-6)


def test_fact_6_rates_of_nesterov():
    curvatures = np.linspace(1 / KAPPA, 1, 2001)
    plain = nesterov(1.0, (ROOT - 1) / (ROOT + 1))
    assert radius(plain, curvatures).max() == pytest.approx(1 - 1 / ROOT, abs=1e-6)
    root = (3 * KAPPA + 1) ** 0.5
    tuned = nesterov(4 / (3 + 1 / KAPPA), (root - 2) / (root + 2))
    assert radius(tuned, curvatures).max() == pytest.approx(0.884722, abs=1e-6)


def test_fact_7_frozen_adam_is_stable_to_thirty_eight():
    assert radius(adam(1.0), [37.9, 38.0, 38.1]) == pytest.approx([0.94868, 1.0, 1.06466], abs=1e-5)


@pytest.mark.parametrize(("k", "bound"), [(5, 0.646400), (10, 0.264089), (20, 0.036131)])
def test_fact_8_chebyshev_steps(k, bound):
    lam = np.linspace(1 / KAPPA, 1, 2001)
    middle, half = (1 + 1 / KAPPA) / 2, (1 - 1 / KAPPA) / 2

    def step_size(t):
        return 1 / (middle - half * np.cos((2 * t + 1) * np.pi / (2 * k)))

    end = run(lambda x: lam * x, np.ones_like(lam), gd(step_size), k).points[-1]
    s = (ROOT - 1) / (ROOT + 1)
    assert np.abs(end).max() == pytest.approx(2 * s**k / (1 + s ** (2 * k)), abs=1e-6)
    assert np.abs(end).max() == pytest.approx(bound, abs=1e-6)


def test_fact_9_heavy_ball_cycles_where_it_should_converge():
    """Lessard, Recht and Packard: strongly convex, piecewise quadratic, tuned for κ = 25, no convergence."""

    def gradient(x):
        return np.where(x < 1, 25 * x, np.where(x < 2, x + 24, 25 * x - 24))

    points = run(gradient, [3.3], heavy_ball(1 / 9, 4 / 9), 201).points[-3:, 0]
    assert sorted(points) == pytest.approx([-1.8024, 0.6465, 2.1159], abs=1e-3)


def test_fact_28_a_quartic_minimum_is_reached_slowly():
    eta, steps = 0.1, 10_000
    end = run(lambda x: 4 * x**3, [1.0], gd(eta), steps).points[-1, 0]
    assert end == pytest.approx(1 / (8 * eta * steps) ** 0.5, rel=0.02)


# --- thresholds and iteration matrices --------------------------------------------------------------------


@pytest.mark.parametrize("name", LINEAR)
def test_threshold_is_where_the_spectral_radius_passes_one(name):
    rule = LINEAR[name]
    assert threshold(rule) == pytest.approx(bisected(rule), rel=1e-6)
    assert (
        laws.threshold_fits(threshold(rule), lambda c: iteration_matrix(rule, c), case=name, advice="")
        is None
    )


@pytest.mark.parametrize("name", [name for name in LINEAR if not name.startswith(("rms", "adam"))])
def test_rules_follow_their_iteration_matrix(name):
    rule = LINEAR[name]
    matrix = lambda c: iteration_matrix(rule, c)  # noqa: E731
    assert laws.follows(rule, matrix, [0.1, 1.0, 5.0, -0.5], case=name, advice="") is None


@pytest.mark.parametrize("decay", [0.0, 0.7])
def test_adam_follows_its_iteration_matrix_once_v_stands_still(decay):
    """With β₂ = 1 − 1e-12 and a state of great age, v stays at its value 4, and P = √4 + ε."""
    rule, lam = adam(0.1, 0.9, 1 - 1e-12, weight_decay=decay), np.array([1.0, 20.0, 60.0])
    x, state = np.ones(3), (10**15, np.zeros(3), 4 * np.ones(3))
    points = [x]
    for _ in range(6):
        x, state = rule(lambda y: lam * (2 + 1e-8) * y, x, state)
        points.append(x)
    M = iteration_matrix(rule, lam)
    for t in range(1, 6):
        expected = M[:, 0, 0] * points[t] + M[:, 0, 1] * points[t - 1]
        assert points[t + 1] == pytest.approx(expected, rel=1e-6)


def test_newton_is_stable_everywhere_and_exact_in_one_step():
    A = objectives.quadratic([[3.0, 1.0], [1.0, -2.0]], [1.0, 1.0])
    end = run(A.gradient, [5.0, -7.0], newton(A.hessian), 1).points[-1]
    assert A.gradient(end) == pytest.approx([0, 0], abs=1e-12)
    assert threshold(newton(A.hessian)) == np.inf
    damped = newton(A.hessian, eta=3.0, damping=2.0)
    assert threshold(damped) == pytest.approx(bisected(damped), rel=1e-6)
    matrix = lambda c: iteration_matrix(newton(lambda y: np.array([[c]]), damping=0.5), c)  # noqa: E731
    rule = newton(lambda y: np.array([[4.0]]), damping=0.5)
    assert laws.follows(rule, matrix, [4.0], case="λ = 4", advice="") is None


def test_iteration_matrices_take_any_shape_of_curvatures():
    grid = np.linspace(0, 5, 12).reshape(3, 4)
    M = iteration_matrix(heavy_ball(0.5, 0.9), grid)
    assert M.shape == (3, 4, 2, 2)
    assert np.array_equal(M[1, 2], iteration_matrix(heavy_ball(0.5, 0.9), grid[1, 2]))
    assert M[..., 0, 1] == pytest.approx(np.full((3, 4), -0.9))


def test_a_step_of_zero_is_stable_everywhere():
    assert {threshold(rule) for rule in (gd(0.0), heavy_ball(0.0, 0.9), nesterov(0.0, 0.9), adam(0.0))} == {
        np.inf
    }


# --- torch's optimizers as oracle -------------------------------------------------------------------------


def torch_walk(make, gradient, x0, num_steps):
    """The iterates of a torch optimizer on the function with that gradient, in float64."""
    x = torch.nn.Parameter(torch.tensor(x0, dtype=torch.float64))
    optimizer = make([x])
    points = [x.detach().clone()]
    for _ in range(num_steps):
        x.grad = gradient(x.detach())
        optimizer.step()
        points.append(x.detach().clone())
    return torch.stack(points).numpy(), optimizer


@pytest.mark.parametrize(
    ("rule", "make"),
    [
        (gd(0.01), lambda p: torch.optim.SGD(p, lr=0.01)),
        (heavy_ball(0.01, 0.8), lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.8)),
        (rmsprop(0.01, 0.9, 1e-6), lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9, eps=1e-6)),
        (adam(0.02, 0.8, 0.95, 1e-6), lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.8, 0.95), eps=1e-6)),
        (adam(0.02), lambda p: torch.optim.Adam(p, lr=0.02)),
        (adam(0.02, weight_decay=0.3), lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.3)),
    ],
    ids=["sgd", "momentum", "rmsprop", "adam", "adam defaults", "adamw"],
)
def test_rules_are_torchs_optimizers(rule, make):
    f = objectives.rosenbrock(3, steepness=2.0)
    x0 = [0.5, -0.3, 1.2]
    theirs, _ = torch_walk(make, lambda x: torch.from_numpy(f.gradient(x.numpy())), x0, 60)
    assert np.abs(run(f.gradient, x0, rule, 60).points - theirs).max() < 1e-12


def test_torchs_nesterov_walks_on_the_points_ahead():
    f, eta, beta = objectives.rosenbrock(3, steepness=2.0), 0.01, 0.8
    make = lambda p: torch.optim.SGD(p, lr=eta, momentum=beta, nesterov=True)  # noqa: E731
    theirs, _ = torch_walk(make, lambda x: torch.from_numpy(f.gradient(x.numpy())), [0.5, -0.3, 1.2], 60)
    x = run(f.gradient, [0.5, -0.3, 1.2], nesterov(eta, beta), 60).points
    ahead = x[1:] + beta * (x[1:] - x[:-1])
    assert np.abs(ahead - theirs[1:]).max() < 1e-12


SGD = torch.optim.SGD
LIVE_SGD = {
    "plain": (lambda p: SGD(p, lr=0.4), 5.0),
    "momentum": (lambda p: SGD(p, lr=0.4, momentum=0.9), 9.5),
    "dampening": (lambda p: SGD(p, lr=0.4, momentum=0.9, dampening=0.5), 19.0),
    "dampening without momentum": (lambda p: SGD(p, lr=0.4, dampening=0.5), 5.0),
    "nesterov": (lambda p: SGD(p, lr=0.4, momentum=0.9, nesterov=True), 3.8 / 2.8 / 0.4),
    "decay": (lambda p: SGD(p, lr=0.4, weight_decay=0.5), 4.5),
    "momentum and decay": (lambda p: SGD(p, lr=0.4, momentum=0.9, weight_decay=0.5), 9.0),
    "nesterov and decay": (
        lambda p: SGD(p, lr=0.4, momentum=0.9, nesterov=True, weight_decay=0.5),
        3.8 / 2.8 / 0.4 - 0.5,
    ),
}


@pytest.mark.parametrize("name", LIVE_SGD)
def test_live_sgd_decays_below_its_threshold_and_grows_above(name):
    make, expected = LIVE_SGD[name]
    limit = threshold(make([torch.nn.Parameter(torch.ones(1))]))
    assert limit == pytest.approx(expected, rel=1e-12)
    below, _ = torch_walk(make, lambda x: 0.99 * limit * x, [1.0], 400)
    above, _ = torch_walk(make, lambda x: 1.01 * limit * x, [1.0], 400)
    assert np.abs(below[-20:]).max() < 1e-3
    assert np.abs(above[-20:]).max() > 1e3


OLD = 1 - 1e-12
ADAPTIVE = {
    "rmsprop": (lambda p: torch.optim.RMSprop(p, lr=1.0, alpha=OLD), 2.0),
    "rmsprop, momentum": (lambda p: torch.optim.RMSprop(p, lr=1.0, alpha=OLD, momentum=0.9), 3.8),
    "adam": (lambda p: torch.optim.Adam(p, lr=1.0, betas=(0.9, OLD)), 38.0),
    "adam, 0.5": (lambda p: torch.optim.Adam(p, lr=0.5, betas=(0.5, OLD)), 12.0),
    "adamw": (lambda p: torch.optim.AdamW(p, lr=1.0, betas=(0.9, OLD), weight_decay=0.1), 1.9 * 19),
    "amsgrad": (lambda p: torch.optim.Adam(p, lr=1.0, betas=(0.9, OLD), amsgrad=True), 38.0),
    "decoupled adam": (
        lambda p: torch.optim.Adam(
            p, lr=1.0, betas=(0.9, OLD), weight_decay=0.1, decoupled_weight_decay=True
        ),
        1.9 * 19,
    ),
}


def frozen(make, curvature, num_steps):
    """A live optimizer on ½ λ P x², its v so old and its β₂ so near 1 that P = √v̂ + ε stands still.

    One step with gradient 1 makes the state; then v is set to 4, the momentum to 0 and the clock far ahead.
    """
    x = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = make([x])
    x.grad = torch.ones_like(x)
    optimizer.step()
    state, group = optimizer.state[x], optimizer.param_groups[0]
    names = [name for name in ("square_avg", "exp_avg_sq", "max_exp_avg_sq") if name in state]
    for name in names:
        state[name].fill_(4.0)
    for name in {"exp_avg", "momentum_buffer"} & set(state):
        state[name].zero_()
    state["step"].fill_(1e15)  # bias corrections are 1
    P = 2.0 + group["eps"]
    with torch.no_grad():
        x.fill_(1.0)
    sizes = []
    for _ in range(num_steps):
        x.grad = curvature * P * x.detach()
        optimizer.step()
        for name in names:
            state[name].fill_(4.0)
        sizes.append(abs(x.item()))
    return np.array(sizes)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_live_adaptive_optimizers_decay_below_and_grow_above(name):
    make, expected = ADAPTIVE[name]
    limit = threshold(make([torch.nn.Parameter(torch.ones(1))]))
    assert limit == pytest.approx(expected, rel=1e-9)
    assert frozen(make, 0.99 * limit, 300)[-20:].max() < 1e-2
    assert frozen(make, 1.01 * limit, 300)[-20:].max() > 1e2


def test_coupled_decay_of_adam_is_not_a_shift_of_the_threshold():
    """Claim 7.5: the threshold 38/η then belongs to P^(−1/2)(H + ωI)P^(−1/2), so P sets what ω is worth."""
    make = lambda p: torch.optim.Adam(p, lr=1.0, betas=(0.9, OLD), weight_decay=8.0)  # noqa: E731
    limit = threshold(make([torch.nn.Parameter(torch.ones(1))]))
    assert limit == pytest.approx(38)
    worth = 8.0 / 2.0  # ω/P with P = 2
    assert frozen(make, 0.99 * limit - worth, 300)[-20:].max() < 1e-2
    assert frozen(make, 1.01 * limit - worth, 300)[-20:].max() > 1e2


def test_learning_rates_are_read_as_they_are_now():
    optimizer = SGD([torch.nn.Parameter(torch.ones(1))], lr=torch.tensor(0.5))
    assert threshold(optimizer) == 4.0
    optimizer.param_groups[0]["lr"] = 0.25
    assert threshold(optimizer) == 8.0
    optimizer.param_groups[0]["lr"] = 0.0
    assert threshold(optimizer) == np.inf


# --- runs -------------------------------------------------------------------------------------------------


def test_a_run_keeps_every_point_and_what_was_watched():
    f = objectives.rosenbrock()
    path = run(
        f.gradient,
        [0.0, 0.5],
        gd(1e-3),
        40,
        watch={"loss": f.value, "λ": lambda x: np.linalg.eigvalsh(f.hessian(x))},
    )
    assert path.points.shape == (41, 2)
    assert path.watched["loss"] == pytest.approx([f.value(x) for x in path.points])
    assert path.watched["λ"].shape == (41, 2)
    assert (path.diverged_at, path.stop_reason) == (None, "completed")


def test_no_steps_give_the_start():
    path = run(lambda x: x, [1.0, 2.0], gd(0.1), 0, watch={"x": lambda x: x})
    assert path.points.tolist() == [[1.0, 2.0]]
    assert path.watched["x"].tolist() == [[1.0, 2.0]]


def test_divergence_is_a_result():
    path = run(lambda x: x, [1.0], gd(3.0), 100, watch={"x": lambda x: x[0]}, limit=1e3)
    assert path.stop_reason == "diverged"
    assert path.diverged_at == 11  # 2^11 > 1e3·(1 + 1)
    assert path.points[:, 0] == pytest.approx((-2.0) ** np.arange(11))
    assert len(path.watched["x"]) == len(path.points) == path.diverged_at


def test_not_a_number_ends_a_run_without_warning():
    path = run(lambda x: x**5 * 1e200, [1e20], gd(1.0), 10)
    assert (path.diverged_at, path.stop_reason) == (1, "diverged")
    path = run(lambda x: x * np.nan, [1.0], gd(1.0), 10)
    assert path.points.tolist() == [[1.0]]


def test_interruption_returns_what_there_is():
    def gradient(x):
        if x[0] < 0.5:
            raise KeyboardInterrupt
        return x

    path = run(gradient, [1.0], gd(0.25), 100, watch={"x": lambda x: x[0]})
    assert path.stop_reason == "interrupted"
    assert path.watched["x"] == pytest.approx([1, 0.75, 0.5625, 0.421875])


def test_a_plain_function_is_a_rule():
    path = run(lambda x: x, [8.0], lambda gradient, x, state: (x - gradient(x) / 2, None), 3)
    assert path.points[:, 0].tolist() == [8, 4, 2, 1]


def test_start_and_points_are_not_shared():
    x0 = np.ones(2)
    path = run(lambda x: x, x0, gd(0.5), 2)
    x0[:] = 9.0
    assert path.points[0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", LINEAR)
def test_torch_tensors_go_where_numpy_arrays_go(name):
    f = objectives.rosenbrock(3, steepness=2.0)
    x0 = np.array([0.5, -0.3, 1.2])
    rule = LINEAR[name]
    ours = run(lambda x: 0.01 * f.gradient(x), x0, rule, 20, watch={"loss": f.value})
    theirs = run(
        lambda x: torch.from_numpy(0.01 * f.gradient(x.numpy())),
        torch.from_numpy(x0),
        rule,
        20,
        watch={"loss": lambda x: torch.tensor(f.value(x.numpy()), dtype=torch.float64)},
    )
    assert isinstance(theirs.points, torch.Tensor)
    assert np.abs(theirs.points.numpy() - ours.points).max() < 1e-13
    assert isinstance(theirs.watched["loss"], np.ndarray)
    assert theirs.watched["loss"] == pytest.approx(ours.watched["loss"], rel=1e-12)


def test_newton_takes_torch_tensors():
    f = objectives.rosenbrock()
    ours = run(f.gradient, [0.5, 0.4], newton(f.hessian, damping=0.1), 8).points
    theirs = run(
        lambda x: torch.from_numpy(f.gradient(x.numpy())),
        torch.tensor([0.5, 0.4], dtype=torch.float64),
        newton(lambda x: torch.from_numpy(f.hessian(x.numpy())), damping=0.1),
        8,
    ).points
    assert np.abs(theirs.numpy() - ours).max() < 1e-12


def test_a_start_that_requires_a_gradient_stays_as_it_was():
    x0 = torch.ones(2, requires_grad=True)
    path = run(lambda x: x, x0, gd(0.5), 3)
    assert not path.points.requires_grad
    assert x0.tolist() == [1.0, 1.0]


# --- errors -----------------------------------------------------------------------------------------------


def two_groups():
    parameters = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    return SGD([{"params": parameters[0], "lr": 0.5}, {"params": parameters[1]}], lr=1.0)


ONE = [torch.nn.Parameter(torch.ones(1))]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gd(-0.1), r"eta is -0\.1; expected a number of at least 0$"),
        (lambda: gd(float("nan")), "eta is nan; expected a number"),
        (lambda: heavy_ball(0.1, 1.0), r"beta is 1\.0; expected a number of at least 0 and below 1"),
        (lambda: nesterov(0.1, -0.5), r"beta is -0\.5; expected"),
        (lambda: rmsprop(0.1, alpha=1.5), r"alpha is 1\.5; expected"),
        (lambda: adam(0.1, beta1=1.0), r"beta1 is 1\.0; expected"),
        (lambda: adam(0.1, weight_decay=-1), "weight_decay is -1; expected"),
        (lambda: newton(lambda x: x, damping=-1), "damping is -1; expected"),
        (
            lambda: run(lambda x: x, [1.0], newton(lambda x: np.zeros((1, 1))), 1),
            r"H\(x\) \+ 0·I is singular; give a positive damping",
        ),
        (
            lambda: run(lambda x: x, torch.ones(1), newton(lambda x: torch.zeros(1, 1)), 1),
            r"H\(x\) \+ 0·I is singular; give a positive damping",
        ),
        (
            lambda: run(lambda x: x[:, None], [1.0, 2.0], gd(0.1), 1),
            r"x had shape \(2,\) and has \(2, 2\); gradient\(x\) must keep its shape",
        ),
        (
            lambda: iteration_matrix(gd(lambda t: 0.1), 1.0),
            "gd with a schedule has no known linear iteration",
        ),
        (
            lambda: threshold(gd(lambda t: 0.1)),
            "gd with a schedule has no known stability threshold; expected a",
        ),
        (lambda: threshold(len), "len has no known stability threshold; expected a rule of hesslab.dynamics"),
        (lambda: threshold(0.5), "float has no known stability threshold"),
        (
            lambda: threshold(torch.optim.Adagrad(ONE)),
            "Adagrad has no known stability threshold; expected a rule",
        ),
        (
            lambda: threshold(SGD(ONE, lr=0.1, maximize=True)),
            "SGD has maximize=True; expected an optimizer that",
        ),
        (
            lambda: threshold(two_groups()),
            "the parameter groups have thresholds from 2 to 4; one number needs",
        ),
    ],
)
def test_errors_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- the laws judge a learner's rule ----------------------------------------------------------------------

BALL = heavy_ball(0.1, 0.5)


def _at_rest(change):
    def rule(gradient, x, previous):
        return change(gradient, x, x if previous is None else previous), x

    return rule


@pytest.mark.parametrize(
    ("rule", "diagnosis"),
    [
        (BALL, ""),
        (_at_rest(lambda g, x, p: x - 0.1 * g(x) - 0.5 * (x - p)), "momentum-sign"),
        (_at_rest(lambda g, x, p: x - 0.1 * g(x)), "no-momentum"),
        (nesterov(0.1, 0.5), "nesterov"),
        (_at_rest(lambda g, x, p: x + 0.1 * g(x) + 0.5 * (x - p)), "value"),
        (_at_rest(lambda g, x, p: np.append(x, x)), "shape"),
    ],
)
def test_wrong_rules_are_diagnosed(rule, diagnosis):
    violation = laws.follows(
        rule,
        lambda c: iteration_matrix(BALL, c),
        [1.0] if diagnosis == "shape" else [1.0, 4.0],
        case="λ = 1 and 4",
        advice="Section 1.",
        num_steps=1 if diagnosis == "shape" else 6,
        mistakes={
            "no-momentum": (lambda c: iteration_matrix(gd(0.1), c), "Add β (x_t − x_{t−1})."),
            "momentum-sign": (lambda c: np.array([[0.5 - 0.1 * c, 0.5], [1, 0]]), "Plus, not minus."),
            "nesterov": (lambda c: iteration_matrix(nesterov(0.1, 0.5), c), "The gradient is taken at x_t."),
        },
    )
    assert (violation.diagnosis if violation else "") == diagnosis


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (30.0, ""),
        (20.0, "no-momentum"),
        (60.0, "too-large"),
        (25.0, "too-small"),
        (-30.0, "too-small"),
        (0.0, "too-small"),
        (np.inf, "not-finite"),
        (None, "returns-nothing"),
    ],
)
def test_wrong_thresholds_are_diagnosed(answer, diagnosis):
    mistakes = {"no-momentum": (20.0, "That is 2/η: momentum raises it.")}
    violation = laws.threshold_fits(
        answer, lambda c: iteration_matrix(BALL, c), case="η = 0.1, β = 0.5", advice="", mistakes=mistakes
    )
    assert (violation.diagnosis if violation else "") == diagnosis


def test_measured_rates_are_judged():
    lam = [0.01, 1.0]
    assert laws.contracts_at(gd(2 / 1.01), lam, 0.980198, case="κ = 100", advice="") is None
    slow = laws.contracts_at(gd(0.5), lam, 0.980198, case="κ = 100", advice="")
    assert slow.diagnosis == "rate"
    assert "slower" in slow.advice
    tuned = heavy_ball(4 / 1.1**2, (9 / 11) ** 2)
    assert laws.contracts_at(tuned, lam, 9 / 11, case="κ = 100", advice="", num_steps=100) is not None
    assert "faster" in laws.contracts_at(tuned, lam, 0.98, case="κ = 100", advice="").advice


def test_a_check_is_composed_of_laws(capsys):
    @check
    def check_threshold(your_threshold, rng):
        eta, beta = rng.uniform(0.1, 1), rng.uniform(0.1, 0.9)
        matrix = lambda c: iteration_matrix(heavy_ball(eta, beta), c)  # noqa: E731
        yield laws.threshold_fits(
            your_threshold(eta, beta), matrix, case=f"η = {eta:.2f}", advice="Section 2."
        )

    assert check_threshold(lambda eta, beta: 2 * (1 + beta) / eta).passed
    assert check_threshold(lambda eta, beta: 2 / eta).diagnosis == "too-small"
    assert "Section 2." in capsys.readouterr().out


def test_this_room_needs_no_torch():
    assert "torch" not in vars(dynamics)
    assert EXACT < 1e-8
