"""Slices, barriers and paths between minima.

The loss along a line, in a plane, and on a way from one point to another, all from values of L. How sharp a
slice looks depends on the length of its direction, which the rescaling of a ReLU network changes at will;
filter normalization takes that freedom away. How high a barrier is depends on the order of the hidden units,
which means nothing; `match_permutation` gives those of one network the order of those of another.

Vectors are NumPy arrays, lists or tensors; the vectors of a result are tensors of the kind of `risk.theta`.
The fields of the results are described in `profiles` (Slice, Barrier, Curve) and in `matching` (Matching).
"""

import operator as op
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hesslab import ranks
from hesslab.batches import is_pair
from hesslab.matching import (
    Matching,
    assigned,
    by_weights,
    chain,
    correlations,
    permuted,
    total,
)
from hesslab.operators import as_operator, generator
from hesslab.profiles import Barrier, Curve, Slice, bezier, evaluate, profile, shown
from hesslab.risk import EmpiricalRisk, _gradient

Values = NDArray[np.float64]


def slice_1d(
    risk: EmpiricalRisk,
    direction: Any,
    grid: Any,
    *,
    theta: Any = None,
    normalize: str | None = None,
    biases: str = "zero",
    H: Any = None,
    progress: bool = False,
) -> Slice:
    """The losses L(θ + a u) for a in `grid`, shape (k,), with u the `direction`, shape (n,).

    `normalize="filter"` gives each filter of u the norm of the same filter of θ: what belongs to one index of
    the first axis of a parameter with two or more axes, so one output unit or channel. "layer" does so for
    each such parameter as a whole; None takes u as it is. For parameters of one axis (biases, scales of
    BatchNorm) the rule is `biases`: "zero" leaves them at θ, as Li et al. do, "layer" normalizes each as a
    whole. Tied parameters count once, those that are not in θ not at all. Where u is zero, it stays zero.

    `H`, the Hessian at θ (`hesslab.curvature.hessian`), asks for the quadratic model; `progress` for a bar.
    Costs k passes over the data; with H one more, one gradient and one product. Nothing is drawn: a random
    direction is made as below. Ctrl-C returns what is done. Raises ValueError where an argument has another
    shape or value, and where u is zero or not finite. (Li et al. 2018, §4)

    >>> x = torch.ones(2, 1, dtype=torch.float64)
    >>> risk = EmpiricalRisk(torch.nn.Linear(1, 1).double(), torch.nn.MSELoss(), (x, x))
    >>> slice_1d(risk, [1.0, 0.0], [-1, 0, 2], theta=[1.0, 0.0]).values
    array([1., 0., 4.])
    >>> u = generator(0).standard_normal(risk.num_parameters)  # of another stream than weights of a seed 0
    >>> slice_1d(risk, u, [0.0], theta=[-3.0, 1.0], normalize="filter").directions[0].abs().tolist()
    [3.0, 0.0]
    """
    return _sliced(risk, {"direction": direction}, {"grid": grid}, theta, (normalize, biases), H, progress)


def slice_2d(
    risk: EmpiricalRisk,
    u: Any,
    v: Any,
    grid_u: Any,
    grid_v: Any,
    *,
    theta: Any = None,
    normalize: str | None = None,
    biases: str = "zero",
    H: Any = None,
    progress: bool = False,
) -> Slice:
    """The losses L(θ + a u + b v) for a in `grid_u` and b in `grid_v`: `values[i, j]` at a_i and b_j.

    The directions need not be orthogonal. Everything else is as in `slice_1d`; costs one pass over the data
    for each pair (a, b), with `H` one more, one gradient and two products. (Li et al. 2018, §4)

    >>> x = torch.ones(2, 1, dtype=torch.float64)
    >>> risk = EmpiricalRisk(torch.nn.Linear(1, 1).double(), torch.nn.MSELoss(), (x, x))
    >>> slice_2d(risk, [1.0, 0.0], [0.0, 1.0], [0, 1], [0, 1, 2], theta=[1.0, 0.0]).values
    array([[0., 1., 4.],
           [1., 4., 9.]])
    """
    grids = {"grid_u": grid_u, "grid_v": grid_v}
    return _sliced(risk, {"u": u, "v": v}, grids, theta, (normalize, biases), H, progress)


def barrier(
    risk: EmpiricalRisk,
    theta_a: Any,
    theta_b: Any,
    *,
    num_points: int = 21,
    num_refinements: int = 8,
    progress: bool = False,
) -> Barrier:
    """The barrier between two points: how far the loss on the straight line exceeds that of its ends.

        max over t in [0, 1] of  L((1 − t) θ_a + t θ_b) − (1 − t) L(θ_a) − t L(θ_b)

    The loss is evaluated at `num_points` equidistant t, then `num_refinements` times in the middle of the
    interval that may be highest. The result also says what the grid may have missed, and gives the heights
    over the mean and over the larger of the ends, which others call barrier.

    BatchNorm follows the model's mode. In eval mode all points share the running statistics of the model,
    which fit at most one of them; in train mode each has the statistics of its own batches.

    Costs num_points + num_refinements passes over the data. Ctrl-C returns what is done, once both ends are.
    Raises ValueError where a θ has another shape or is not finite, and for fewer than 3 points.
    (Entezari et al. 2022, §2; Frankle et al. 2020, §2)

    >>> def ring(f, t):
    ...     return (f.square().sum() - 1) ** 2
    >>> risk = EmpiricalRisk(torch.nn.Linear(2, 1, bias=False), ring, (torch.eye(2), torch.ones(2)))
    >>> found = barrier(risk, [1.0, 0.0], [0.0, 1.0])  # straight through the ring of minima
    >>> found.height, found.where
    (0.25, 0.5)
    """
    a, b = _vector(risk, "theta_a", theta_a), _vector(risk, "theta_b", theta_b)
    points, more = _require("num_points", num_points, 3), _require("num_refinements", num_refinements, 0)
    return profile(risk, lambda t: (1 - t) * a + t * b, points, more, progress)


def bezier_path(
    risk: EmpiricalRisk,
    theta_a: Any,
    theta_b: Any,
    *,
    num_steps: int = 400,
    lr: float = 5e-3,
    batch_size: int | None = None,
    num_points: int = 21,
    progress: bool = False,
    rng: int | np.random.Generator,
) -> Curve:
    """A quadratic Bézier curve of low loss from θ_a to θ_b, whose control point c was trained.

        c minimizes  E_t L((1 − t)² θ_a + 2t(1 − t) c + t² θ_b),   t uniform in [0, 1].

    c starts in the middle of the line; it takes `num_steps` steps of Adam with rate `lr`, each with one t and
    one batch: `batch_size` examples drawn without replacement from a pair (inputs, targets), or, where that
    is None, the next batch of the data as they are. The losses on the curve are then evaluated at
    `num_points` equidistant t, with all data. A path that diverged has NaN or large losses.

    Costs num_steps gradients of a batch and num_points + 1 passes over the data. The model is left as it was.
    Ctrl-C ends the training, and the path so far is evaluated. Raises ValueError where an argument is out of
    range, and where `batch_size` is given for data that come in batches. (Garipov et al. 2018, §3)

    >>> def ring(f, t):
    ...     return (f.square().sum() - 1) ** 2
    >>> risk = EmpiricalRisk(torch.nn.Linear(2, 1, bias=False), ring, (torch.eye(2), torch.ones(2)))
    >>> curve = bezier_path(risk, [1.0, 0.0], [0.0, 1.0], lr=0.05, rng=0)  # around it
    >>> curve.barrier.max_loss < 0.01
    True
    """
    a, b = _vector(risk, "theta_a", theta_a), _vector(risk, "theta_b", theta_b)
    steps, points = _require("num_steps", num_steps, 1), _require("num_points", num_points, 3)
    if not (isinstance(lr, int | float) and 0 < lr < np.inf):
        raise ValueError(f"lr = {lr!r}; expected a positive number, such as 5e-3")
    draws, control, done = generator(rng), ((a + b) / 2).requires_grad_(), 0
    batches = _stream(risk, batch_size, draws)
    risk.value(a)  # data without a batch of positive weight would be asked for one for ever
    adam = torch.optim.Adam([control], lr=lr)
    try:
        for _ in shown(range(steps), steps, progress, "gradient"):
            t = draws.random()
            point = risk.at(bezier(a, control, b, t))
            (gradient,) = point.fold(_gradient, batches=batches, first_only=True)
            control.grad = 2 * t * (1 - t) * gradient
            adam.step()
            done += 1
    except KeyboardInterrupt:
        pass
    c = control.detach()
    losses = profile(risk, lambda t: bezier(a, c, b, t), points, 0, progress)
    return Curve(a, c, b, losses, done, "done" if done == steps else "interrupted")


def match_permutation(
    risk: EmpiricalRisk, theta_a: Any, theta_b: Any, *, method: str = "weights", max_sweeps: int = 100
) -> Matching:
    """θ_b with its hidden units in the order in which they are most like those of θ_a.

    `method="weights"` maximizes ⟨θ_a, θ_b⟩, and so minimizes ‖θ_a − θ_b‖: the best order of one layer for the
    present order of the others is a linear assignment, and the layers take turns until none gets better, or
    for `max_sweeps` turns. The result is a maximum for each layer alone, not always for all together.
    "activations" maximizes, in each layer for itself, the sum of the correlations over the data between
    units of θ_a and those of θ_b (Li et al. 2016, §3); a unit that does not vary counts as uncorrelated.

    For multilayer perceptrons: nn.Sequential with nn.Linear and elementwise activations between them, all of
    whose parameters are in θ. Costs, for "weights", an assignment a layer and sweep, O(width³), and no data;
    for "activations" two passes over the data. Ctrl-C returns the best order so far. Raises ValueError for
    other models, names the module, and where an argument has another shape or value.
    (Ainsworth, Hayase & Srinivasa 2023, §3)

    >>> x, y = torch.ones(2, 1), torch.zeros(2, 1)
    >>> net = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.Tanh(), torch.nn.Linear(2, 1, bias=False))
    >>> risk = EmpiricalRisk(net, torch.nn.MSELoss(), (x, y))
    >>> matched = match_permutation(risk, [1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5])
    >>> matched.theta.tolist(), matched.permutations
    ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], (array([1, 0]),))
    """
    a, b, layers = _vector(risk, "theta_a", theta_a), _vector(risk, "theta_b", theta_b), chain(risk)
    sweeps, parts = _require("max_sweeps", max_sweeps, 1), risk.unflatten(b)
    if method == "weights":
        permutations, reason = by_weights(risk.unflatten(a), parts, layers, sweeps)
    elif method == "activations":
        similar, reason = correlations(risk, a, b, layers), "done"
        permutations = [assigned(S) for S in similar]
    else:
        raise ValueError(f"method is {method!r}; expected 'weights' or 'activations'")
    theta = torch.cat([part.reshape(-1) for part in permuted(parts, layers, permutations).values()])
    if method == "weights":
        before, after = (float(a.double() @ other.double()) for other in (b, theta))
    else:
        before = sum(float(np.trace(S)) for S in similar)
        after = sum(total(S, p) for S, p in zip(similar, permutations, strict=True))
    return Matching(theta, tuple(permutations), before, after, reason)


def _sliced(
    risk: EmpiricalRisk,
    directions: dict[str, Any],
    grids: dict[str, Any],
    theta: Any,
    rule: tuple[str | None, str],
    H: Any,
    progress: bool,
) -> Slice:
    """The losses on the product of the grids."""
    start = _vector(risk, "theta", risk.theta if theta is None else theta)
    us = tuple(_direction(risk, name, u, start, *rule) for name, u in directions.items())
    axes = tuple(_grid(name, grid) for name, grid in grids.items())
    mesh = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    quadratic = None if H is None else _quadratic(risk, start, us, mesh, H)

    def point(place: tuple[int, ...]) -> Tensor:
        return start + sum(float(a) * u for a, u in zip(mesh[place], us, strict=True))

    losses: dict[tuple[int, ...], float] = {}
    places, values = np.ndindex(mesh.shape[:-1]), np.full(mesh.shape[:-1], np.nan)
    reason = evaluate(losses, risk, places, point, values.size, progress)
    for place, loss in losses.items():
        values[place] = loss
    return Slice(axes, values, us, quadratic, len(losses), reason)


def _quadratic(risk: EmpiricalRisk, theta: Tensor, us: tuple[Tensor, ...], mesh: Values, H: Any) -> Values:
    """L(θ) + gᵀu + ½ uᵀH u for u = Σ a_i u_i, the a_i along the last axis of `mesh`."""
    operator, U = as_operator(H), torch.stack(us, 1)
    if operator.shape[0] != len(theta):
        raise ValueError(f"H has shape {operator.shape}; expected {(len(theta),) * 2}, as θ has entries")
    slopes = (U.T @ risk.gradient(theta)).double().cpu().numpy()
    bends = (U.T @ operator.matmat(U)).double().cpu().numpy()
    return np.asarray(risk.value(theta) + mesh @ slopes + ((mesh @ bends) * mesh).sum(-1) / 2)


def _direction(
    risk: EmpiricalRisk, name: str, u: Any, theta: Tensor, normalize: str | None, biases: str
) -> Tensor:
    """The direction, of the norms of θ where that is asked for."""
    if normalize not in ("filter", "layer", None):
        raise ValueError(f"normalize is {normalize!r}; expected 'filter', 'layer' or None")
    if biases not in ("zero", "layer"):
        raise ValueError(f"biases is {biases!r}; expected 'zero' or 'layer'")
    direction = _vector(risk, name, u)
    if normalize is not None:
        pairs = zip(risk.unflatten(direction).values(), risk.unflatten(theta).values(), strict=True)
        direction = torch.cat([_normalized(part, like, normalize, biases) for part, like in pairs])
    if not bool(direction.any()):
        after = "" if normalize is None else f" after normalize={normalize!r} with biases={biases!r}"
        raise ValueError(f"{name} is zero{after}; expected a direction that moves θ")
    return direction


def _normalized(part: Tensor, like: Tensor, normalize: str, biases: str) -> Tensor:
    """A parameter's share of the direction, flat, each filter or the whole of it as long as in `like`."""
    if part.ndim < 2 and biases == "zero":
        return torch.zeros_like(part).reshape(-1)
    rows = len(part) if part.ndim > 1 and normalize == "filter" else 1
    u, w = part.double().reshape(rows, -1), like.double().reshape(rows, -1)
    size = u.norm(dim=1, keepdim=True)
    unit = torch.where(size > 0, u / size, 0.0)
    scaled: Tensor = unit * w.norm(dim=1, keepdim=True)
    return scaled.to(part).reshape(-1)


def _stream(risk: EmpiricalRisk, batch_size: int | None, rng: np.random.Generator) -> Iterator[Any]:
    """Batches without end: drawn from a pair, or those of the data in turn."""
    ranks.require_one(risk.group, "bezier_path")
    size = None if batch_size is None else _require("batch_size", batch_size, 1)
    if size is None:
        return (batch for _ in iter(int, 1) for batch in risk.batches())
    if not (is_pair(risk.data) and all(isinstance(part, Tensor) for part in risk.data)):
        raise ValueError(
            f"batch_size = {size} draws from one pair of tensors, and the data are batches or other things; "
            "leave it out to take them as they come"
        )
    n = len(risk.data[0])
    drawn = (torch.from_numpy(rng.choice(n, min(size, n), replace=False)) for _ in iter(int, 1))
    return (tuple(part[rows.to(part.device)] for part in risk.data) for rows in drawn)


def _vector(risk: EmpiricalRisk, name: str, x: Any) -> Tensor:
    """A copy of `x` of the kind of θ, after checks."""
    own = risk.theta
    vector = torch.as_tensor(x).detach().to(own, copy=True)
    if vector.shape != own.shape:
        raise ValueError(
            f"{name} has shape {tuple(vector.shape)}; expected {tuple(own.shape)}, as risk.theta"
        )
    if not bool(vector.isfinite().all()):
        raise ValueError(f"{name} holds NaN or infinity; expected finite numbers")
    return vector


def _grid(name: str, grid: Any) -> Values:
    values = np.array(grid, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not np.all(np.isfinite(values)):
        raise ValueError(
            f"{name} is {grid!r}; expected a list of finite numbers, such as np.linspace(-1, 1, 21)"
        )
    return values


def _require(name: str, value: Any, least: int) -> int:
    try:
        count = op.index(value)
    except TypeError:
        count = least - 1
    if count < least:
        raise ValueError(f"{name} = {value!r}; expected a whole number, at least {least}")
    return count
