"""The critical learning rate: how large one step may be before it raises the loss, found by trying.

No theory of the optimizer is asked for: a copy of model and optimizer takes the next step with another rate,
and the loss is evaluated there. It needs forward passes only, and one gradient.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from hesslab.risk import EmpiricalRisk

#: Factors of the present rate beyond which no border is looked for: 2^±20.
FURTHEST = 2.0**20


@dataclass(frozen=True)
class CriticalRate:
    """A bracket of the critical learning rate: a step at `low` does not raise the loss, one at `high` does.

    `low` is 0 where every rate tried raises it, `high` infinite where none does. Between them there may be
    other borders: along the step the loss need not be convex. `rate` is the present one, of the first group,
    `loss` the present loss, `tried` all rates in ascending order with the losses they led to.
    """

    rate: float
    low: float
    high: float
    loss: float
    tried: tuple[tuple[float, float], ...]

    @property
    def still(self) -> bool:
        """Whether no step that was tried changes the loss, as where the gradient is zero."""
        return all(loss == self.loss for _, loss in self.tried)

    def __str__(self) -> str:
        """The bracket in words."""
        if self.still:
            return f"one step leaves the loss as it is, up to η = {self.low:.3g}"
        return f"one step lowers the loss up to η = {self.low:.3g}, and raises it at {self.high:.3g}"


def critical_rate(
    risk: EmpiricalRisk, optimizer: torch.optim.Optimizer, *, rtol: float = 0.05, max_trials: int = 40
) -> CriticalRate:
    """The largest learning rate whose next step, from here and with this optimizer, does not raise the loss.

    The next step is the one `optimizer` takes with ∇L of the whole risk: its momentum, its second moments and
    its weight decay as they are, the rates of all groups multiplied by one factor. Doubling or halving finds
    a bracket, bisection narrows it to high ≤ (1 + rtol) low. Costs one gradient and at most `max_trials`
    values of L, and a copy of the model and of the optimizer's state; both are left as they were. For plain
    gradient descent on a quadratic it is 2 gᵀg / gᵀHg, which is at least 2/λmax: a step can be too large for
    the sharpest direction and still lower the loss, as long as the gradient is small there.

    Raises ValueError where the present loss is not finite, for a rate of 0, and where model or optimizer
    cannot be copied, or where the optimizer cannot step from .grad. (Kalra & Barkeshli 2024, §2)

    >>> x = torch.ones(2, 1, dtype=torch.float64)
    >>> model = torch.nn.Linear(1, 1, bias=False).double()
    >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> print(critical_rate(EmpiricalRisk(model, torch.nn.MSELoss(), (x, 0 * x)), sgd))
    one step lowers the loss up to η = 0.993, and raises it at 1.04
    """
    if not (isinstance(rtol, float | int) and rtol > 0):
        raise ValueError(f"rtol = {rtol!r}; expected a positive number, such as 0.05")
    rate = float(optimizer.param_groups[0]["lr"])
    if not rate > 0:
        raise ValueError(f"the learning rate is {rate}; expected a positive one, from which others are tried")
    loss = risk.value()
    if not math.isfinite(loss):
        raise ValueError(f"the loss is {loss}; expected a finite one: go back to where it was finite")
    after, tried = _stepper(risk, optimizer), {}

    def raises(factor: float) -> bool:
        tried[factor] = after(factor)
        return not tried[factor] <= loss

    low, high = _bracket(raises, max_trials)
    while 0 < low < high < math.inf and high > (1 + rtol) * low and len(tried) < max_trials:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if raises(middle) else (middle, high)
    results = tuple((rate * factor, found) for factor, found in sorted(tried.items()))
    return CriticalRate(rate, rate * low, rate * high, loss, results)


def _bracket(raises: Callable[[float], bool], max_trials: int) -> tuple[float, float]:
    """Factors 2^k and 2^(k+1) between which a step begins to raise the loss, from 1 on."""
    factor, trials = 1.0, 1
    up = not raises(factor)
    while trials < max_trials and 1 / FURTHEST < factor < FURTHEST:
        beside, trials = factor * 2 if up else factor / 2, trials + 1
        if raises(beside) == up:
            return min(factor, beside), max(factor, beside)
        factor = beside
    return (factor, math.inf) if up else (0.0, factor)


def _stepper(risk: EmpiricalRisk, optimizer: torch.optim.Optimizer) -> Callable[[float], float]:
    """The loss after the next step with all rates times a factor, from the same state each time."""
    gradient = risk.unflatten(risk.gradient())
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    missing = [name for name, p in risk.selected.items() if id(p) not in held]
    if missing:
        raise ValueError(f"the optimizer does not hold {missing[0]!r}; expected all parameters of θ")
    try:
        model, twin = copy.deepcopy((risk.model, optimizer))
    except Exception as error:
        raise ValueError(
            f"model and optimizer cannot be copied ({type(error).__name__}); expected both to allow "
            "copy.deepcopy, so that steps can be tried on a copy"
        ) from error
    state, rates = copy.deepcopy(twin.state_dict()), [float(g["lr"]) for g in twin.param_groups]
    own = replace(risk, model=model)
    start = own.theta

    def after(factor: float) -> float:
        twin.load_state_dict(copy.deepcopy(state))
        for group, lr in zip(twin.param_groups, rates, strict=True):
            group["lr"] = lr * factor
            for p in group["params"]:
                p.grad = None
        with torch.no_grad():
            for (name, p), part in zip(own.selected.items(), own.unflatten(start).values(), strict=True):
                p.copy_(part)
                p.grad = gradient[name].clone()
        _step(twin)
        return own.value()

    return after


def _step(optimizer: Any) -> None:
    name = type(optimizer).__name__
    try:
        type(optimizer).step(optimizer)  # a scheduler replaces `optimizer.step` by one of the original
    except Exception as error:
        if isinstance(error, TypeError) and "closure" in str(error):
            said = f"{name}.step asks for a closure; expected an optimizer that steps from .grad"
        else:
            said = f"{name}.step fails ({type(error).__name__}: {error}); expected one that can step"
        raise ValueError(said) from error
