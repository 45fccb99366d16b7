"""The room stability: against dense matrices, through crossings, and what it leaves as it was."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from hesslab import stability
from hesslab.curvature import hessian
from hesslab.data import digits
from hesslab.dynamics import stability_threshold
from hesslab.lanczos import eigsh
from hesslab.operators import Operator
from hesslab.risk import EmpiricalRisk, mlp
from hesslab.stability import Tracker, effective_sharpness

pytestmark = pytest.mark.usefixtures("double_precision")

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.3),
    "decayed": lambda p: torch.optim.SGD(p, lr=0.3, weight_decay=0.4),
    "heavy ball": lambda p: torch.optim.SGD(p, lr=0.2, momentum=0.5),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, weight_decay=0.3),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.8, 0.9), weight_decay=0.3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, betas=(0.8, 0.9), weight_decay=0.3),
}


class Bowl(nn.Module):
    """The loss ½ Σ d_i θ_i², whose curvatures d can be set: eigenvectors never mix."""

    def __init__(self, curvatures):
        super().__init__()
        self.theta = nn.Parameter(torch.ones(len(curvatures)))
        self.register_buffer("curvatures", torch.as_tensor(np.array(curvatures), dtype=torch.float64))

    def forward(self, x):
        return (self.curvatures * self.theta**2).reshape(1, -1)


def half_sum(outputs, targets):
    return 0.5 * (outputs.sum(1) - targets).mean()


def bowl(curvatures, **settings):
    """A bowl as a risk, its module, and a tracker."""
    module = Bowl(curvatures)
    risk = EmpiricalRisk(module, half_sum, (torch.zeros(1, 1), torch.zeros(1)))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    return module, Tracker(risk, optimizer, **{"rng": 0, **settings})


def set_curvatures(module, curvatures):
    module.curvatures = torch.as_tensor(np.array(curvatures), dtype=torch.float64)


def network(sizes=(64, 6, 10), n=60, seed=0):
    X, y = digits(n, rng=0)
    targets = nn.functional.one_hot(torch.tensor(y), 10).double()
    loss = nn.MSELoss()
    return EmpiricalRisk(mlp(sizes, rng=seed), lambda f, t: 5 * loss(f, t), (torch.tensor(X), targets))


def train_step(risk, optimizer):
    optimizer.zero_grad()
    risk.loss(risk.model(risk.data[0]), risk.data[1]).backward()
    optimizer.step()


def dense(risk):
    """The Hessian by torch.func, which shares no code with ours."""

    def value(theta):
        parameters = risk.unflatten(theta)
        outputs = torch.func.functional_call(risk.model, parameters, (risk.data[0],))
        return risk.loss(outputs, risk.data[1])

    return torch.func.jacrev(torch.func.jacrev(value))(risk.theta).detach().numpy()


def preconditioner(risk, optimizer):
    """P of RMSprop and Adam from the formulas of their papers, 1 for SGD."""
    parts, group = [], optimizer.param_groups[0]
    for p in risk.selected.values():
        state = optimizer.state[p]
        if isinstance(optimizer, torch.optim.SGD):
            part = torch.ones_like(p)
        elif isinstance(optimizer, torch.optim.RMSprop):
            part = state["square_avg"] ** 0.5 + group["eps"]
        else:
            (b1, b2), t = group["betas"], float(state["step"])
            part = (1 - b1**t) * ((state["exp_avg_sq"] / (1 - b2**t)) ** 0.5 + group["eps"])
        parts.append(part.detach().reshape(-1))
    return torch.cat(parts).numpy()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_effective_sharpness_is_that_of_the_dense_matrix(name):
    risk = network()
    optimizer = OPTIMIZERS[name](risk.model.parameters())
    for _ in range(5):
        train_step(risk, optimizer)
    P, H = preconditioner(risk, optimizer), dense(risk)
    coupled = 0.3 if name in ("rmsprop", "adam") else 0.0
    A = (H + coupled * np.eye(len(P))) / np.sqrt(np.outer(P, P))
    seen = effective_sharpness(risk, optimizer, rtol=1e-8, rng=0)
    assert seen.value == pytest.approx(np.linalg.eigvalsh(A)[-1], rel=1e-9)
    assert seen.interval[0] <= np.linalg.eigvalsh(A)[-1] <= seen.interval[1]
    assert seen.converged
    assert seen.searched
    assert seen.step == 0
    assert seen.threshold == stability_threshold(optimizer)
    assert seen.ratio == seen.value / seen.threshold


class Halves(Bowl):
    """A bowl whose θ is two parameters."""

    def __init__(self, curvatures):
        super().__init__(curvatures)
        self.theta, self.other = (nn.Parameter(part.detach().clone()) for part in self.theta.chunk(2))

    def forward(self, x):
        return (self.curvatures * torch.cat([self.theta, self.other]) ** 2)[None]


@pytest.mark.parametrize("kind", ["sgd", "momentum", "adam", "adamw"])
def test_groups_may_differ_in_rate_and_decay(kind):
    """With all steps divided by the ratio, the iteration with P held fixed has the spectral radius 1."""
    d, eta, decay = np.array([3.0, 1.0, 0.5, 0.2]), np.repeat([0.1, 0.4], 2), np.repeat([0.3, 0.05], 2)
    decay = decay / 100 if kind == "adamw" else decay  # its threshold is right to a fraction ηω/2
    module = Halves(d)
    risk = EmpiricalRisk(module, half_sum, (torch.zeros(1, 1), torch.zeros(1)))
    parts = zip((module.theta, module.other), eta[::2], decay[::2], strict=True)
    groups = [{"params": [p], "lr": float(lr), "weight_decay": float(w)} for p, lr, w in parts]
    beta = {"sgd": 0.0, "momentum": 0.6, "adam": 0.8, "adamw": 0.8}[kind]
    make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}.get(kind)
    optimizer = make(groups, betas=(beta, 0.9)) if make else torch.optim.SGD(groups, lr=1.0, momentum=beta)
    for _ in range(3):
        train_step(risk, optimizer)
    P, scale = preconditioner(risk, optimizer), 1 - beta if make else 1.0
    coupled, decoupled = (0.0, decay) if kind == "adamw" else (decay, 0.0)

    def radius(c):
        """The spectral radius with all step sizes multiplied by c."""
        shrink = 1 - c * eta * decoupled
        a = shrink + beta - scale * c * eta * (d + coupled) / P
        matrices = [[[a_i, -beta * s], [1.0, 0.0]] for a_i, s in zip(a, shrink, strict=True)]
        return abs(np.linalg.eigvals(matrices)).max()

    critical = 1 / effective_sharpness(risk, optimizer, rtol=1e-10, rng=0).ratio
    slack = 1e-2 if kind == "adamw" else 1e-6
    assert radius(critical * (1 - slack)) < 1 < radius(critical * (1 + slack))


def test_two_eigenvalues_cross():
    """λ₁ falls, λ₂ rises; their eigenvectors are exactly uncoupled. The record follows the larger one."""
    rest = np.linspace(1.0, -0.5, 300)
    module, tracker = bowl([4.0, 3.0, *rest], search_every=None)
    for t in range(100):
        truth = 4.0 - 0.02 * t, 3.0 + 0.02 * t
        set_curvatures(module, [*truth, *rest])
        seen = tracker.look()
        assert seen.converged
        assert abs(seen.value - max(truth)) <= 1e-2 * max(truth)
        assert seen.interval[0] <= max(truth) <= seen.interval[1]
        assert t == 0 or seen.num_matvecs <= 4


def test_one_vector_would_not_see_the_crossing(monkeypatch):
    """The test above can fail: with one vector, and no noise, the record stays on the falling eigenvalue."""
    monkeypatch.setattr(stability, "NOISE", 0.0)
    rest = np.linspace(1.0, -0.5, 300)
    module, tracker = bowl([4.0, 3.0, *rest], search_every=None, carried=1)
    for t in range(100):
        set_curvatures(module, [4.0 - 0.02 * t, 3.0 + 0.02 * t, *rest])
        seen = tracker.look()
    assert seen.converged
    assert seen.value < 0.5 * 4.98


@pytest.mark.parametrize("seed", range(3))
def test_several_eigenvalues_cross_in_turn(seed):
    """Four that wave, none coupled to another: most looks keep their mark, and these are right, or nearly."""
    rest = np.linspace(1.0, -3.0, 200)
    module, tracker = bowl([4.0, 3.8, 3.6, 3.4, *rest], carried=3, search_every=5, rng=seed)
    for t in range(121):
        top = 4.0 + 0.5 * np.sin(0.05 * t + np.array([0.0, 1.5, 3.0, 4.5]))
        set_curvatures(module, [*top, *rest])
        tracker.look()
    record, t = tracker.record, np.arange(121)[:, None]
    truth = (4.0 + 0.5 * np.sin(0.05 * t + np.array([0.0, 1.5, 3.0, 4.5]))).max(axis=1)
    low = (1 - record["value"] / truth)[record["converged"]]
    assert record["converged"].mean() > 0.9
    assert low.max() < 0.03
    assert (low > 1e-2).sum() <= 2  # between two searches, five looks apart


@pytest.mark.parametrize("seed", range(5))
def test_a_jump_out_of_the_bulk_is_found_and_the_looks_that_missed_it_lose_their_mark(seed):
    rest = np.linspace(1.0, -0.5, 500)
    module, tracker = bowl([4.0, 3.8, *rest], search_every=10, rng=seed)
    for t in range(41):
        rest[250] = 5.0 if t >= 23 else 0.0
        set_curvatures(module, [4.0, 3.8, *rest])
        tracker.look()
    record = tracker.record
    truth = np.where(record["step"] >= 23, 5.0, 4.0)
    wrong = abs(record["value"] - truth) > 1e-2 * truth
    assert not wrong[30:].any()
    assert not (wrong & record["converged"]).any()
    assert record["converged"][:21].all()
    assert record["converged"][30:].all()
    assert record["searched"].nonzero()[0].tolist() == [0, 10, 20, 30, 40]


def test_a_marked_look_is_right_along_training():
    risk = network(sizes=(64, 4, 10))
    optimizer = torch.optim.SGD(risk.model.parameters(), lr=0.6, momentum=0.5)
    tracker, low = Tracker(risk, optimizer, rng=0), []
    for _ in range(60):
        train_step(risk, optimizer)
        seen = tracker.look()
        if seen.step % 2 == 0:
            truth = np.linalg.eigvalsh(dense(risk))[-1]
            assert seen.interval[0] <= truth
            assert seen.value <= truth * (1 + 1e-12)
            assert (seen.residual <= 1e-2 * seen.value) == seen.converged
            low.append((1 - seen.value / truth) * seen.converged)
    assert max(low[5:]) <= 2e-3  # in the first steps the spectrum moves faster than two vectors can tell
    assert max(low) <= 0.1
    assert tracker.record["converged"].mean() > 0.9
    assert tracker.record["num_matvecs"].mean() <= 5


def test_adam_is_tracked_with_its_preconditioner():
    risk = network(sizes=(64, 5, 10))
    optimizer = torch.optim.Adam(risk.model.parameters(), lr=3e-3, betas=(0.9, 0.99), eps=1e-7)
    tracker = Tracker(risk, optimizer, rng=0)
    for _ in range(20):
        train_step(risk, optimizer)
        seen = tracker.look()
    P = preconditioner(risk, optimizer)
    truth = np.linalg.eigvalsh(dense(risk) / np.sqrt(np.outer(P, P)))[-1]
    assert seen.converged
    assert seen.value == pytest.approx(truth, rel=1e-2)
    assert seen.threshold == pytest.approx(38 / 3e-3)


def test_a_warm_look_costs_less_than_a_cold_start():
    risk = network(sizes=(64, 20, 20, 10), n=100)
    optimizer = torch.optim.SGD(risk.model.parameters(), lr=0.5)
    tracker = Tracker(risk, optimizer, rng=0)
    cold = []
    for step in range(40):
        train_step(risk, optimizer)
        tracker.look()
        if step % 10 == 0:
            cold.append(eigsh(hessian(risk), 1, rtol=1e-2, search=False, rng=step).num_matvecs)
    warm = tracker.record["num_matvecs"][1:]
    assert tracker.record["converged"].all()
    assert warm.mean() <= 4.5
    assert 2 * warm.mean() < np.mean(cold)


def test_products_are_counted(monkeypatch):
    spent = 0

    def watched(*args, **options):
        A = hessian(*args, **options)

        def product(X):
            nonlocal spent
            spent += X.shape[1]
            return A.product(X)

        product.point = A.product.point
        return Operator(A.shape, A.dtype, product, A.like)

    monkeypatch.setattr(stability, "hessian", watched)
    risk = network()
    optimizer = torch.optim.SGD(risk.model.parameters(), lr=0.5)
    tracker = Tracker(risk, optimizer, search_every=3, rng=0)
    for _ in range(8):
        train_step(risk, optimizer)
        before = spent
        assert tracker.look().num_matvecs == spent - before
    assert tracker.num_matvecs == spent
    before = spent
    assert effective_sharpness(risk, optimizer, rng=0).num_matvecs == spent - before


@pytest.mark.parametrize("budget", [1, 2, 3, 5])
def test_the_budget_of_a_look_is_kept_and_not_hidden(budget):
    rng = np.random.default_rng(0)
    module, tracker = bowl(rng.uniform(0, 1, 200), max_matvecs=budget, search_matvecs=4, rtol=1e-6)
    for t in range(6):
        set_curvatures(module, rng.uniform(0, 1, 200))
        seen = tracker.look()
        assert seen.num_matvecs <= budget + (4 if t == 0 else 0)
        assert not seen.converged
        assert seen.residual > 1e-6 * seen.value
        assert "not converged" in str(seen)


def test_it_looks_every_so_many_calls_and_reads_the_optimizer_live():
    _module, tracker = bowl([2.0, 1.0, 0.5], every=3)
    seen = []
    for t in range(8):
        tracker.optimizer.param_groups[0]["lr"] = 1 / (t + 1)
        seen.append(tracker.look())
    assert [look is not None for look in seen] == [True, False, False, True, False, False, True, False]
    record = tracker.record
    assert record["step"].tolist() == [0, 3, 6]
    assert record["threshold"] == pytest.approx([2.0, 8.0, 14.0])
    assert record["ratio"] == pytest.approx([1.0, 0.25, 1 / 7])
    assert record["value"] == pytest.approx([2.0] * 3)
    tracker.optimizer.param_groups[0]["lr"] = 0.0
    tracker.look()
    assert tracker.look() is None or tracker.looks[-1].ratio == 0.0


def test_an_optimizer_at_rest_has_an_infinite_threshold():
    _, tracker = bowl([2.0, 1.0])
    tracker.optimizer.param_groups[0]["lr"] = 0.0
    seen = tracker.look()
    assert seen.threshold == np.inf
    assert seen.ratio == 0.0


class Fussy(nn.Module):
    """A network with buffers that a forward changes, and that fails when told to."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)
        self.fuse, self.error = [10**6], None  # a list, since attributes are put back

    def forward(self, x):
        self.fuse[0] -= 1
        if self.fuse[0] < 0:
            raise self.error
        return self.last(torch.tanh(self.norm(self.first(x))))


def state_of(model, optimizer):
    tensors = {name: t.detach().clone() for name, t in model.state_dict().items()}
    gradients = {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
    moments = {
        (i, k): torch.as_tensor(v).clone()
        for i, s in enumerate(optimizer.state.values())
        for k, v in s.items()
    }
    modes = [m.training for m in model.modules()]
    return (
        tensors,
        gradients,
        moments,
        modes,
        torch.get_rng_state(),
        random.getstate(),
        np.random.get_state()[1],  # noqa: NPY002
    )


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else np.array_equal(a, b)


@pytest.mark.parametrize("error", [None, RuntimeError("out"), KeyboardInterrupt()])
def test_a_look_leaves_everything_as_it_was(error):
    X = torch.tensor(np.random.default_rng(0).standard_normal((12, 4)))
    torch.manual_seed(0)
    model = Fussy()
    batches = [(X[:6], X[:6, :1] ** 2), (X[6:], X[6:, :1] ** 2)]
    risk = EmpiricalRisk(model, nn.MSELoss(), batches)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    tracker = Tracker(risk, optimizer, rng=0)
    for _ in range(2):
        nn.functional.mse_loss(model(X), X[:, :1] ** 2).backward()
        optimizer.step()
        tracker.look()
    if error is not None:
        model.fuse[0], model.error = 1, error
    before, looks, block = state_of(model, optimizer), list(tracker.looks), tracker._block.clone()
    if error is None:
        tracker.look()
        assert len(tracker.looks) == 3
    else:
        with pytest.raises(type(error)):
            tracker.look()
        assert tracker.looks == looks
        assert torch.equal(tracker._block, block)
    assert same(before, state_of(model, optimizer))
    model.fuse[0] = 10**6
    assert tracker.look().step == 3


@pytest.mark.parametrize("after", [1, 3, 10, 25])
def test_an_interrupt_in_a_product_reaches_the_loop_and_leaves_the_record(monkeypatch, after):
    _module, tracker = bowl(np.linspace(0, 1, 100), search_every=2)
    for _ in range(2):
        tracker.look()
    record, left = tracker.record, after

    def nervous(risk, **options):
        A = hessian(risk, **options)

        def product(X):
            nonlocal left
            left -= X.shape[1]
            if left < 0:
                raise KeyboardInterrupt
            return A.product(X)

        product.point = A.product.point
        return Operator(A.shape, A.dtype, product, A.like)

    monkeypatch.setattr(stability, "hessian", nervous)

    def loop():
        while True:
            tracker.look()

    with pytest.raises(KeyboardInterrupt):
        loop()
    assert len(tracker.looks) >= 2
    assert all(np.array_equal(tracker.record[name][:2], record[name]) for name in record)


def test_effective_sharpness_at_the_end_of_its_budget_is_not_converged():
    rng = np.random.default_rng(0)
    _, tracker = bowl(rng.uniform(0, 1, 300))
    seen = effective_sharpness(tracker.risk, tracker.optimizer, rtol=1e-8, max_matvecs=5, rng=0)
    assert seen.num_matvecs <= 5
    assert not seen.converged
    assert not seen.searched
    assert "not converged" in str(seen)


@pytest.mark.parametrize("after", [0, 6])
def test_effective_sharpness_returns_what_an_interrupt_leaves(monkeypatch, after):
    _, tracker = bowl(np.linspace(0, 1, 300))

    def nervous(risk, **options):
        A, left = hessian(risk, **options), [after]

        def product(X):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return A.product(X)

        product.point = A.product.point
        return Operator(A.shape, A.dtype, product, A.like)

    monkeypatch.setattr(stability, "hessian", nervous)
    if after:
        seen = effective_sharpness(tracker.risk, tracker.optimizer, rng=0)
        assert not seen.converged
        assert seen.residual == np.inf
    else:
        with pytest.raises(KeyboardInterrupt):
            effective_sharpness(tracker.risk, tracker.optimizer, rng=0)


@pytest.mark.parametrize("scale", [1e-13, 1.0, 1e8])
@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_every_size_and_scale(n, scale):
    d = scale * np.linspace(1.0, -2.0, n)
    module, tracker = bowl(d)
    for t in range(4):
        set_curvatures(module, d * (1 + 0.01 * t))
        seen = tracker.look()
        assert seen.converged
        assert seen.value == pytest.approx(scale * (1 + 0.01 * t), rel=1e-2)


def test_a_flat_risk_and_a_negative_one():
    module, tracker = bowl(np.zeros(5))
    assert [tracker.look().value for _ in range(3)] == [0.0] * 3
    set_curvatures(module, [-1.0, -2.0, -3.0, -4.0, -5.0])
    for _ in range(3):
        seen = tracker.look()
    assert seen.converged
    assert seen.value == pytest.approx(-1.0, rel=1e-2)
    assert seen.ratio < 0


def test_float32():
    X, y = digits(50, rng=0)
    model = mlp([64, 8, 10], rng=0).float()
    risk = EmpiricalRisk(model, nn.functional.cross_entropy, (torch.tensor(X).float(), torch.tensor(y)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    tracker = Tracker(risk, optimizer, rng=0)
    for _ in range(10):
        train_step(risk, optimizer)
        seen = tracker.look()
    truth = effective_sharpness(risk, optimizer, rtol=1e-4, rng=1)
    assert seen.converged
    assert seen.value == pytest.approx(truth.value, rel=1e-2)


def test_the_same_seed_gives_the_same_record():
    def run():
        risk = network(sizes=(64, 4, 10))
        optimizer = torch.optim.SGD(risk.model.parameters(), lr=0.5)
        tracker = Tracker(risk, optimizer, rng=3)
        for _ in range(5):
            train_step(risk, optimizer)
            tracker.look()
        return tracker.record["value"]

    assert np.array_equal(run(), run())


def test_a_look_that_is_not_finite_says_so(monkeypatch):
    _, tracker = bowl([1.0, 2.0, 3.0])
    tracker.look()

    def broken(risk, **options):
        A = hessian(risk, **options)
        return Operator(A.shape, A.dtype, _with_point(lambda X: A.product(X) * np.nan, A), A.like)

    monkeypatch.setattr(stability, "hessian", broken)
    with pytest.raises(ValueError, match="a product with the Hessian holds NaN or infinity; look where"):
        tracker.look()


def _with_point(product, A):
    product.point = A.product.point
    return product


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ({"every": 0}, "every = 0; expected a whole number, at least 1$"),
        ({"max_matvecs": 2.5}, "max_matvecs = 2.5; expected a whole number, at least 1$"),
        ({"search_every": 0}, "search_every = 0; expected a whole number, at least 1, or None"),
        ({"search_matvecs": None}, "search_matvecs = None; expected a whole number, at least 1$"),
        ({"rtol": 0.0}, "rtol = 0.0; expected a number between 0 and 1, such as 1e-2"),
        ({"rtol": "1"}, "rtol = '1'; expected a number between 0 and 1, such as 1e-2"),
    ],
)
def test_arguments_out_of_range(argument, sentence):
    with pytest.raises(ValueError, match=sentence):
        bowl([1.0, 2.0], **argument)


def test_optimizers_that_are_not_known_and_states_that_are_not_there():
    module, tracker = bowl([1.0, 2.0])
    for make, sentence in (
        (lambda p: torch.optim.Adagrad(p, lr=0.1), "Adagrad has no known stability threshold"),
        (lambda p: torch.optim.Adam(p, lr=0.1), "Adam has no state for 'theta' yet; take one step first"),
    ):
        optimizer = make(module.parameters())
        with pytest.raises(ValueError, match=sentence):
            effective_sharpness(tracker.risk, optimizer, rng=0)
        with pytest.raises(ValueError, match=sentence):
            Tracker(tracker.risk, optimizer, rng=0).look()
    groups = [{"params": [module.theta], "momentum": 0.5}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "momentum": 0.9, "lr": 0.2})
    with pytest.raises(ValueError, match="parameter groups have thresholds from"):
        effective_sharpness(tracker.risk, optimizer, rng=0)


def test_it_prints_the_look():
    _, tracker = bowl([2.0, 1.0])
    assert str(tracker.look()).startswith("λ = 2 ± ")
    assert "threshold 4: 0.500 of it" in str(tracker.look())
