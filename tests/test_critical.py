"""The critical learning rate: closed forms of quadratics, any optimizer, and nothing touched."""

import math

import numpy as np
import pytest
import torch
from networks import everything
from torch import nn

from hesslab.critical import critical_rate
from hesslab.data import digits
from hesslab.risk import EmpiricalRisk, mlp

pytestmark = pytest.mark.usefixtures("double_precision")


class Bowl(nn.Module):
    """The loss ½ Σ d_i θ_i², from a given θ."""

    def __init__(self, curvatures, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))
        self.register_buffer("d", torch.tensor(curvatures))

    def forward(self, x):
        return (0.5 * self.d * self.theta**2).sum().reshape(1, 1)


def bowl(curvatures, theta):
    model = Bowl(curvatures, theta)
    return EmpiricalRisk(model, lambda z, y: z.mean() - y.mean(), (torch.zeros(1, 1), torch.zeros(1, 1)))


def network():
    x, y = digits(60, rng=0)
    return EmpiricalRisk(
        mlp((64, 8, 10), rng=0).double(), nn.CrossEntropyLoss(), (torch.tensor(x), torch.tensor(y))
    )


def trained(make, steps=5):
    risk = network()
    optimizer = make(risk.model.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        risk.loss(risk.model(risk.data[0]), risk.data[1]).backward()
        optimizer.step()
    return risk, optimizer


@pytest.mark.parametrize("rate", [1e-3, 0.1, 30.0])
def test_gradient_descent_on_a_quadratic(rate):
    d, theta = np.array([5.0, 1.0, 0.2]), np.array([0.1, 1.0, 2.0])
    risk = bowl(d.tolist(), theta.tolist())
    g = d * theta
    exact = 2 * (g @ g) / (g @ (d * g))
    found = critical_rate(risk, torch.optim.SGD(risk.model.parameters(), lr=rate), rtol=1e-6)
    assert found.low <= exact <= found.high <= found.low * (1 + 1e-6)
    assert exact > 2 / d.max()
    assert found.rate == rate


def test_weight_decay_and_momentum_are_part_of_the_step():
    risk = bowl([1.0], [1.0])
    decayed = torch.optim.SGD(risk.model.parameters(), lr=0.1, weight_decay=1.0)
    found = critical_rate(risk, decayed, rtol=1e-6)
    assert found.low <= 1.0 <= found.high  # the step is twice as long: θ ← (1 − 2η) θ
    sgd = torch.optim.SGD(risk.model.parameters(), lr=0.1, momentum=0.9)
    sgd.state[risk.model.theta]["momentum_buffer"] = torch.tensor([3.0])
    found = critical_rate(risk, sgd, rtol=1e-6)
    exact = 2 / (0.9 * 3 + 1)  # the buffer becomes 3.7
    assert found.low <= exact <= found.high


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
    "nadam": lambda p: torch.optim.NAdam(p, lr=1e-3),
    "rprop": lambda p: torch.optim.Rprop(p, lr=1e-3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimizer_is_tried_on_a_copy(name):
    risk, optimizer = trained(OPTIMIZERS[name])
    before, state = everything(risk.model), [dict(s) for s in optimizer.state.values()]
    kept = [{k: torch.as_tensor(v).clone() for k, v in s.items()} for s in state]
    found = critical_rate(risk, optimizer)
    torch.testing.assert_close(everything(risk.model), before, rtol=0, atol=0)
    for was, now in zip(kept, optimizer.state.values(), strict=True):
        torch.testing.assert_close({k: torch.as_tensor(v) for k, v in now.items()}, was, rtol=0, atol=0)
    # The same step, taken by the real thing, lowers and raises the loss as the bracket says.
    for rate, raises in ((found.low, False), (found.high, True)):
        if not 0 < rate < math.inf:
            continue
        twin, twins = trained(OPTIMIZERS[name])
        for group in twins.param_groups:
            group["lr"] = rate
        twins.zero_grad()
        twin.loss(twin.model(twin.data[0]), twin.data[1]).backward()
        twins.step()
        assert (twin.value() > found.loss) == raises


def test_a_scheduler_does_not_lead_to_the_original():
    risk, optimizer = trained(OPTIMIZERS["sgd"])
    torch.optim.lr_scheduler.StepLR(optimizer, 10)  # replaces optimizer.step
    before = everything(risk.model)
    critical_rate(risk, optimizer)
    torch.testing.assert_close(everything(risk.model), before, rtol=0, atol=0)


def test_an_optimizer_that_copies_its_patched_step_steps_the_copy():
    class Whole(torch.optim.SGD):
        def __getstate__(self):
            return self.__dict__.copy()  # torch's own leaves the scheduler's `step` behind

    risk, optimizer = trained(lambda p: Whole(p, lr=0.1))
    torch.optim.lr_scheduler.StepLR(optimizer, 10)
    before = everything(risk.model)
    found = critical_rate(risk, optimizer)
    torch.testing.assert_close(everything(risk.model), before, rtol=0, atol=0)
    assert not found.still


def test_all_that_was_tried_is_told_in_order():
    risk, optimizer = trained(OPTIMIZERS["adam"])
    found = critical_rate(risk, optimizer)
    rates = [rate for rate, _ in found.tried]
    assert rates == sorted(rates)
    assert dict(found.tried)[found.low] <= found.loss < dict(found.tried)[found.high]
    assert len(rates) <= 40
    assert str(found).startswith("one step lowers the loss up to η = ")


def test_no_border_at_either_side():
    linear = bowl([1e-30], [1.0])
    found = critical_rate(linear, torch.optim.SGD(linear.model.parameters(), lr=1.0))
    assert found.high == math.inf
    rising = bowl([-1.0], [1.0])
    uphill = torch.optim.SGD(rising.model.parameters(), lr=1.0, maximize=True)
    found = critical_rate(rising, uphill)
    assert (found.low, found.high < 1e-5) == (0.0, True)


def test_what_cannot_be_tried_is_said():
    risk, optimizer = trained(OPTIMIZERS["sgd"])
    with pytest.raises(ValueError, match=r"rtol = 0; expected a positive number"):
        critical_rate(risk, optimizer, rtol=0)
    with pytest.raises(ValueError, match=r"the learning rate is 0\.0; expected a positive one"):
        critical_rate(risk, torch.optim.SGD(risk.model.parameters(), lr=0.0))
    with pytest.raises(ValueError, match=r"LBFGS\.step asks for a closure"):
        critical_rate(risk, torch.optim.LBFGS(risk.model.parameters()))
    with pytest.raises(
        ValueError, match=r"SparseAdam\.step fails \(RuntimeError: SparseAdam does not support"
    ):
        critical_rate(risk, torch.optim.SparseAdam(risk.model.parameters()))
    with pytest.raises(ValueError, match=r"the optimizer does not hold '0\.weight'"):
        critical_rate(risk, torch.optim.SGD(mlp((2, 2), rng=0).parameters(), lr=0.1))
    with torch.no_grad():
        risk.model[0].weight.mul_(math.nan)
    with pytest.raises(ValueError, match=r"the loss is nan; expected a finite one"):
        critical_rate(risk, optimizer)
    grown = Bowl([1.0], [1.0])
    grown.extra = grown.theta * 2  # no leaf: copy.deepcopy refuses it
    stuck = EmpiricalRisk(grown, lambda z, y: z.mean(), (torch.zeros(1, 1), torch.zeros(1, 1)))
    with pytest.raises(ValueError, match=r"model and optimizer cannot be copied \(RuntimeError\)"):
        critical_rate(stuck, torch.optim.SGD(grown.parameters(), lr=0.1))
