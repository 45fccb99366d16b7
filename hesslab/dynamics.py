"""Update rules, run from x0 to a trajectory with anything watched on the way; their stability thresholds.

A rule is a function: rule(gradient, x, state) returns the next x and the next state; at first the state is
None. `gd`, `heavy_ball`, … make such rules; a plain function will do as well. They use only the operators of
arrays, so that NumPy arrays and torch tensors go through them alike. On a quadratic
of curvature λ each of them is linear, x_{t+1} = a(λ) x_t + b(λ) x_{t−1}: `iteration_matrix` gives that as a
matrix, and `stability_threshold` the largest λ > 0 up to which its powers do not grow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import array_api_compat
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = Any  # a NumPy array or a torch tensor; the array API standard has no static type yet
Gradient = Callable[[Array], Array]
Step = Callable[[Gradient, Array, Any], tuple[Array, Any]]


@dataclass(frozen=True)
class Rule:
    """An update rule that knows its name, its settings and its behaviour on a quadratic.

    Called as rule(gradient, x, state). `linear` maps λ to the a and b of x_{t+1} = a x_t + b x_{t−1}, and
    `threshold` is the largest stable λ. Both are None where they are not known.
    """

    name: str
    settings: Mapping[str, float]
    step: Step = field(repr=False)
    linear: Callable[[Array], tuple[Array, Array]] | None = field(default=None, repr=False)
    threshold: float | None = field(default=None, repr=False)

    def __call__(self, gradient: Gradient, x: Array, state: Any) -> tuple[Array, Any]:
        """The next x and the next state."""
        return self.step(gradient, x, state)


@dataclass(frozen=True)
class Trajectory:
    """Where a run went: the points before it diverged, and what was watched at each.

    `points` has shape (T + 1, *x.shape), in the kind of x0, x0 first; `watched` maps a name to a float64
    NumPy array (T + 1, …); `diverged_at` is the number of the step that left the bounds of `run`, None if
    none did; `stop_reason` is "completed", "diverged" or "interrupted". T = `num_steps` where completed.
    """

    points: Array
    watched: dict[str, NDArray[np.float64]]
    diverged_at: int | None
    stop_reason: str


def run(
    gradient: Gradient,
    x0: Array,
    rule: Step,
    num_steps: int,
    *,
    watch: Mapping[str, Callable[[Array], Any]] | None = None,
    limit: float = 1e10,
) -> Trajectory:
    """`num_steps` steps of `rule` from `x0`, and the value of each function of `watch` at each point.

    `gradient` maps an array to one of the same shape. Divergence is a result: the run ends before the first
    point with an entry that is not finite, or larger than `limit`·(1 + max|x0|). Ctrl-C ends it too, with
    what there is. Costs what the rule costs, one gradient a step for those of this module. Raises ValueError
    where a step changes the shape of x.

    >>> path = run(lambda x: x, [1.0], gd(0.5), 3, watch={"loss": lambda x: 0.5 * x @ x})
    >>> path.points[:, 0].tolist(), path.watched["loss"][-1].item(), path.diverged_at
    ([1.0, 0.5, 0.25, 0.125], 0.0078125, None)
    """
    watch = watch or {}
    x = x0.detach() if array_api_compat.is_torch_array(x0) else np.array(x0, dtype=np.float64)
    shape, bound, state = tuple(x.shape), limit * (1 + _largest(x)), None
    stop_reason, diverged_at = "completed", None
    seen = [(x, [look(x) for look in watch.values()])]
    try:
        for step in range(1, num_steps + 1):
            with np.errstate(over="ignore", invalid="ignore"):
                x, state = rule(gradient, x, state)
            if tuple(x.shape) != shape:
                raise ValueError(
                    f"x had shape {shape} and has {tuple(x.shape)}; gradient(x) must keep its shape"
                )
            if not _largest(x) <= bound:  # so written, NaN ends the run as well
                stop_reason, diverged_at = "diverged", step
                break
            seen.append((x, [look(x) for look in watch.values()]))
    except KeyboardInterrupt:
        stop_reason = "interrupted"
    points = array_api_compat.array_namespace(x).stack([point for point, _ in seen])
    watched = {name: np.stack([_numbers(values[i]) for _, values in seen]) for i, name in enumerate(watch)}
    return Trajectory(points, watched, diverged_at, stop_reason)


def gd(eta: float | Callable[[int], float]) -> Rule:
    """Gradient descent, x ← x − η ∇f(x): a = 1 − ηλ, stable for λ ≤ 2/η.

    `eta` is a number, or a schedule, a function of the step number 0, 1, …; with a schedule there is no
    threshold. Raises ValueError for η < 0. (Nocedal & Wright 2006, §3.3)

    >>> stability_threshold(gd(0.1))
    20.0
    """
    if callable(eta):

        def scheduled(gradient: Gradient, x: Array, t: int | None) -> tuple[Array, int]:
            return x - eta(t or 0) * gradient(x), (t or 0) + 1

        return Rule("gd with a schedule", {}, scheduled)
    return Rule(
        "gd",
        _settings(eta=eta),
        lambda gradient, x, _: (x - eta * gradient(x), None),
        lambda lam: (1 - eta * lam, 0 * lam),
        _over(2, eta),
    )


def heavy_ball(eta: float, beta: float) -> Rule:
    """Polyak's momentum, x_{t+1} = x_t − η ∇f(x_t) + β (x_t − x_{t−1}): stable for λ ≤ 2 (1 + β)/η.

    a = 1 + β − ηλ, b = −β. The iterates are those of torch's SGD with `momentum` β. Raises ValueError for
    η < 0 and β outside [0, 1). (Polyak 1964; Lessard, Recht & Packard 2016)

    >>> stability_threshold(heavy_ball(0.1, 0.5))
    30.0
    """

    def step(gradient: Gradient, x: Array, previous: Array | None) -> tuple[Array, Array]:
        momentum = 0 * x if previous is None else x - previous
        return x - eta * gradient(x) + beta * momentum, x

    return Rule(
        "heavy_ball",
        _settings(eta=eta, beta=beta),
        step,
        lambda lam: (1 + beta - eta * lam, -beta + 0 * lam),
        _over(2 * (1 + beta), eta),
    )


def nesterov(eta: float, beta: float) -> Rule:
    """Nesterov's momentum, y = x_t + β (x_t − x_{t−1}), x_{t+1} = y − η ∇f(y): stable for ηλ ≤ 2(1+β)/(1+2β).

    a = (1 + β)(1 − ηλ), b = −β (1 − ηλ). torch's SGD with `nesterov=True` walks on the points y. Raises
    ValueError for η < 0 and β outside [0, 1). (Nesterov 1983; Lessard, Recht & Packard 2016)

    >>> round(stability_threshold(nesterov(0.1, 0.5)), 9)
    15.0
    """

    def step(gradient: Gradient, x: Array, previous: Array | None) -> tuple[Array, Array]:
        y = x if previous is None else x + beta * (x - previous)
        return y - eta * gradient(y), x

    return Rule(
        "nesterov",
        _settings(eta=eta, beta=beta),
        step,
        lambda lam: ((1 + beta) * (1 - eta * lam), -beta * (1 - eta * lam)),
        _over(2 * (1 + beta) / (1 + 2 * beta), eta),
    )


def rmsprop(eta: float, alpha: float = 0.99, eps: float = 1e-8) -> Rule:
    """RMSProp, v ← α v + (1 − α) g², x ← x − η g/(√v + ε): stable for λ ≤ 2/η.

    For the linear iteration and the threshold P = diag(√v + ε) is held fixed, and λ is an eigenvalue of
    P^(−1/2) H P^(−1/2). Conventions and defaults are torch's. Raises ValueError for η or ε < 0 and α outside
    [0, 1). (Cohen et al. 2022)

    >>> stability_threshold(rmsprop(0.001))
    2000.0
    """

    def step(gradient: Gradient, x: Array, v: Array | None) -> tuple[Array, Array]:
        g = gradient(x)
        v = (1 - alpha) * g**2 if v is None else alpha * v + (1 - alpha) * g**2
        return x - eta * g / (v**0.5 + eps), v

    plain = gd(eta)
    return Rule("rmsprop", _settings(eta=eta, alpha=alpha, eps=eps), step, plain.linear, plain.threshold)


def adam(
    eta: float, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, *, weight_decay: float = 0.0
) -> Rule:
    """Adam, m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², x ← (1−ηω)x − η m̂/(√v̂ + ε): stable to λ = 38/η.

    m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ); ω is `weight_decay`, decoupled as in AdamW. With P = diag(√v̂ + ε) held
    fixed, and λ an eigenvalue of P^(−1/2) H P^(−1/2), the threshold is (2/η − ω)(1 + β₁)/(1 − β₁), and

        a = 1 − ηω + β₁ − η(1 − β₁)λ,   b = −β₁(1 − ηω).

    Conventions and defaults are torch's. Raises ValueError for η, ε or ω < 0 and β₁, β₂ outside [0, 1).
    (Kingma & Ba 2015; Loshchilov & Hutter 2019; Cohen et al. 2022)

    >>> round(stability_threshold(adam(0.001)))
    38000
    """
    shrink = 1 - eta * weight_decay

    def step(gradient: Gradient, x: Array, state: Any) -> tuple[Array, Any]:
        g = gradient(x)
        t, m, v = state or (0, 0 * g, 0 * g)
        t, m, v = t + 1, beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        scale = (v / (1 - beta2**t)) ** 0.5 + eps
        return shrink * x - eta * m / (1 - beta1**t) / scale, (t, m, v)

    return Rule(
        "adam",
        _settings(eta=eta, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay),
        step,
        lambda lam: (shrink + beta1 - eta * (1 - beta1) * lam, -beta1 * shrink + 0 * lam),
        (_over(2, eta) - weight_decay) * (1 + beta1) / (1 - beta1),
    )


def newton(hessian: Callable[[Array], Array], *, eta: float = 1.0, damping: float = 0.0) -> Rule:
    """Newton's method, x ← x − η (H(x) + δ I)⁻¹ ∇f(x): a = 1 − ηλ/(λ + δ), stable for all λ if η ≤ 2.

    `hessian` maps x, shape (d,), to an array (d, d) of the same kind; δ is `damping`. It goes to any point
    where the gradient vanishes, saddles and maxima included. Costs one Hessian and d³/3 operations a step.
    Raises ValueError for η or δ < 0, and at an x where H + δ I is singular. (Nocedal & Wright 2006, §3.3)

    >>> path = run(lambda x: 4 * x**3, [1.0], newton(lambda x: 12 * x**2 * np.eye(1)), 2)
    >>> path.points[:, 0].round(4).tolist()
    [1.0, 0.6667, 0.4444]
    """

    def step(gradient: Gradient, x: Array, _: Any) -> tuple[Array, None]:
        xp, H = array_api_compat.array_namespace(x), hessian(x)
        shift = damping * xp.eye(H.shape[0], dtype=H.dtype, device=array_api_compat.device(H))
        try:
            return x - eta * xp.linalg.solve(H + shift, gradient(x)), None
        except (np.linalg.LinAlgError, RuntimeError) as error:  # torch's LinAlgError is a RuntimeError
            raise ValueError(f"H(x) + {damping:g}·I is singular; give a positive damping") from error

    return Rule(
        "newton",
        _settings(eta=eta, damping=damping),
        step,
        lambda lam: (1 - eta * lam / (lam + damping), 0 * lam),
        np.inf if eta <= 2 else 2 * damping / (eta - 2),
    )


def iteration_matrix(rule: Rule, curvature: ArrayLike) -> NDArray[np.float64]:
    """M of (x_{t+1}, x_t) = M (x_t, x_{t−1}) on a quadratic of that curvature: [[a, b], [1, 0]].

    `curvature` λ may have any shape s; the result has shape (*s, 2, 2). The iteration converges where both
    eigenvalues of M, in general complex, lie inside the unit circle, at the rate of the larger modulus.
    Raises ValueError for a rule whose linear iteration is not known.

    >>> M = iteration_matrix(heavy_ball(1.0, 0.25), 1.0)          # here both eigenvalues have modulus √β
    >>> M.tolist(), abs(np.linalg.eigvals(M)).round(12).tolist()
    ([[0.25, -0.25], [1.0, 0.0]], [0.5, 0.5])
    """
    if getattr(rule, "linear", None) is None:
        raise ValueError(f"{_name(rule)} has no known linear iteration; {_KNOWN}")
    a, b = rule.linear(np.asarray(curvature, dtype=np.float64))  # type: ignore[misc]
    return np.stack([np.stack([a, b], -1), np.stack([np.ones_like(a), np.zeros_like(a)], -1)], -2)


def stability_threshold(rule_or_optimizer: Any) -> float:
    """The largest curvature λ at which the iteration on a quadratic does not grow: 2/η for gradient descent.

    Takes a rule of this module, or a live torch optimizer, read as it is now, with ω its `weight_decay`:

        SGD      2(1 + β)/((1 − τ)η) − ω, τ being `dampening`; with `nesterov` 2(1 + β)/((1 + 2β)η) − ω
        RMSprop  2(1 + β)/η, β being `momentum`          Adam  2(1 + β₁)/((1 − β₁)η)
        AdamW    (2/η − ω)(1 + β₁)/(1 − β₁)

    For SGD λ is an eigenvalue of the Hessian H of the loss without decay. For the others it is one of
    P^(−1/2) H P^(−1/2), with P held as it is now; where the decay is coupled (RMSprop, Adam), H includes ω I.
    Infinite for η = 0. Raises ValueError for another rule or optimizer, for `maximize`, and for parameter
    groups with different thresholds. (Cohen et al. 2021; Cohen et al. 2022)

    >>> stability_threshold(gd(0.5)), stability_threshold(heavy_ball(0.5, 0.5))
    (4.0, 6.0)
    """
    if hasattr(rule_or_optimizer, "param_groups"):
        kind, groups = type(rule_or_optimizer).__name__, rule_or_optimizer.param_groups
        thresholds = [_group_threshold(kind, group) for group in groups]
        if max(thresholds) > min(thresholds):
            raise ValueError(
                f"the parameter groups have thresholds from {min(thresholds):g} to {max(thresholds):g}; "
                "one number needs equal settings: ask for an optimizer of one group at a time"
            )
        return thresholds[0]
    if getattr(rule_or_optimizer, "threshold", None) is None:
        raise ValueError(f"{_name(rule_or_optimizer)} has no known stability threshold; {_KNOWN}")
    return float(rule_or_optimizer.threshold)


_KNOWN = "expected a rule of hesslab.dynamics, or torch's SGD, RMSprop, Adam or AdamW"


def _group_threshold(kind: str, group: Mapping[str, Any]) -> float:
    """The threshold of one parameter group of a torch optimizer, by way of the rule that it iterates."""
    if kind not in ("SGD", "RMSprop", "Adam", "AdamW"):
        raise ValueError(f"{kind} has no known stability threshold; {_KNOWN}")
    if group.get("maximize"):
        raise ValueError(f"{kind} has maximize=True; expected an optimizer that descends")
    eta, decay = float(group["lr"]), float(group["weight_decay"])
    if kind in ("Adam", "AdamW"):
        decoupled = group.get("decoupled_weight_decay", kind == "AdamW")
        beta1, beta2 = (float(beta) for beta in group["betas"])
        rule = adam(eta, beta1, beta2, weight_decay=decay if decoupled else 0.0)
    elif group.get("nesterov"):
        rule = nesterov(eta, group["momentum"])
    else:
        damped = group["momentum"] and group.get("dampening", 0)  # torch dampens only where there is momentum
        rule = heavy_ball(eta * (1 - damped), group["momentum"])
    return stability_threshold(rule) - (decay if kind == "SGD" else 0.0)


def _settings(**settings: float) -> dict[str, float]:
    """The settings as they are, after the check of each: momentum parameters below 1, none negative."""
    for name, value in settings.items():
        below = 1 if name.startswith(("alpha", "beta")) else np.inf
        if not 0 <= value < below:
            raise ValueError(
                f"{name} is {value}; expected a number of at least 0{' and below 1' * (below == 1)}"
            )
    return settings


def _over(numerator: float, eta: float) -> float:
    return numerator / eta if eta else np.inf


def _largest(x: Array) -> float:
    return float(abs(x).max())


def _numbers(value: Any) -> NDArray[np.float64]:
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value, dtype=np.float64)


def _name(rule: Any) -> str:
    return str(getattr(rule, "name", None) or getattr(rule, "__name__", None) or type(rule).__name__)
