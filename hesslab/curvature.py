"""The matrices of a risk, as operators.

    H = ∇²L,   G = E[JᵀM J],   F = E[Σ_y p(y) g_y g_yᵀ],   E = E[g gᵀ],   C = E − ∇L ∇Lᵀ

J is the Jacobian of the outputs, M the second derivative of the loss in them, g the gradient of one example.
Each function takes a copy of θ, buffers and modes at the call and returns an `Operator` of shape (n, n),
whose arrays are torch tensors on the device of the parameters. Expectations are means over the data, weighed
as in `hesslab.risk`. All take three options: `num_products`, how many products are expected (30; for 1, no
graph is kept); `memory`, the bytes that graphs may take (half of what is free; what does not fit is
streamed); `verify` (True), whether to run the self-check: two products and four gradients of the first 4
to 8 examples, which raise ValueError with what they found.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

from hesslab import ranks
from hesslab.lockstep import Blocks
from hesslab.losses import differentiated_middle, likelihood_middle, outer_middle, with_ignored
from hesslab.operators import Operator, generator
from hesslab.products import Groups, Map, Options, hessian_map, operator, require_tensor, sandwich_map
from hesslab.risk import EmpiricalRisk, _Term

Build = Callable[[EmpiricalRisk, _Term, Groups], Map]
Sample = Callable[[Tensor, np.random.Generator], Tensor]


def hessian(risk: EmpiricalRisk, theta: Any = None, **options: Unpack[Options]) -> Operator:
    """The Hessian H = ∇²L(θ).

    Costs one gradient with its graph at the call, then one reverse pass over it a product, 1.2 to 2.4
    gradients. Rows of parameters that the loss does not touch are zero. A ReLU network gets its Hessian
    almost everywhere. Raises ValueError where the loss is random, not finite, or has no second derivative.
    (Pearlmutter 1994, §3)

    >>> x = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    >>> risk = EmpiricalRisk(torch.nn.Linear(1, 1, bias=False).double(), torch.nn.MSELoss(), (x, x))
    >>> (hessian(risk) @ x[:1, 0]).tolist()
    [10.0]
    """
    return _matrix(risk, theta, "hessian", **options)


def ggn(risk: EmpiricalRisk, theta: Any = None, **options: Unpack[Options]) -> Operator:
    """The generalized Gauss–Newton matrix G = E[JᵀM J]: the Hessian with the network linearized at θ.

    H = G + E[Σ_c r_c ∇²f_c], r the gradient of the loss in the outputs f; G is positive semidefinite where
    the loss is convex in f. M has a closed form for cross-entropy and mean squared error, and is
    differentiated for other losses; log-probabilities under NLLLoss count as functions of logits. Costs as
    `hessian`. Raises also where the loss uses θ past the outputs, a part of H that G has no place for.
    (Schraudolph 2002, §3)

    >>> x = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    >>> risk = EmpiricalRisk(torch.nn.Linear(1, 1, bias=False).double(), torch.nn.MSELoss(), (x, x))
    >>> (ggn(risk) @ x[:1, 0]).tolist()
    [10.0]
    """
    return _matrix(risk, theta, "ggn", **options)


def fisher(
    risk: EmpiricalRisk,
    theta: Any = None,
    *,
    sample: Sample | None = None,
    rng: int | np.random.Generator | None = None,
    **options: Unpack[Options],
) -> Operator:
    """The Fisher information F = E[Σ_y p(y|x) g_y g_yᵀ] of the likelihood whose −log is the loss.

    Exact, and equal to G, for cross-entropy and mean squared error, which is the loss of a Gaussian. For
    other losses `sample(outputs, rng)` draws targets from the model's distribution, one for each example, and
    `rng` is required; the same draws serve all products. Costs as `hessian`. Raises ValueError where the loss
    is unknown and `sample` is not given, and where `rng` is missing. (Martens 2020, §5, §9)

    >>> x = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    >>> risk = EmpiricalRisk(torch.nn.Linear(1, 1, bias=False).double(), torch.nn.MSELoss(), (x, x))
    >>> (fisher(risk) @ x[:1, 0]).tolist()
    [10.0]
    """
    if sample is None:
        return _matrix(risk, theta, "fisher", **options)
    if rng is None:
        raise ValueError("rng is not given; expected a seed or a Generator, from which sample draws targets")
    seed = int(generator(rng).integers(2**63))

    def build(risk: EmpiricalRisk, term: _Term, groups: Groups) -> Map:
        z = require_tensor(term.outputs)
        drawn = sample(z.detach(), np.random.default_rng([seed, ranks.rank(risk.group), term.index]))
        return sandwich_map(
            term, groups, outer_middle(risk.loss, z, with_ignored(risk.loss, drawn, term.targets))
        )

    return _matrix(risk, theta, build, **options)


def empirical_fisher(risk: EmpiricalRisk, theta: Any = None, **options: Unpack[Options]) -> Operator:
    """The second moment E[g gᵀ] of the gradients g of single examples at the targets of the data.

    It is not the Fisher: the targets are not drawn from the model, and it vanishes where the data are fitted.
    An example is a row of the outputs, and the loss is a mean over rows. Costs as `hessian`.
    (Kunstner, Hennig & Balles 2019, §3)

    >>> x = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    >>> model = torch.nn.Linear(1, 1, bias=False).double()
    >>> risk = EmpiricalRisk(model, torch.nn.MSELoss(), (x, 0 * x))
    >>> (empirical_fisher(risk, torch.ones(1)) @ x[:1, 0]).tolist()  # gradients 2 and 18
    [164.0]
    """
    return _matrix(risk, theta, "empirical_fisher", **options)


def gradient_covariance(risk: EmpiricalRisk, theta: Any = None, **options: Unpack[Options]) -> Operator:
    """The covariance C = E[g gᵀ] − ∇L ∇Lᵀ of the gradients of examples: SGD's noise at batch size 1.

    A mean of B examples drawn with replacement has covariance C / B. Costs as `hessian`, and one gradient.
    (Mandt, Hoffman & Blei 2017, §2)

    >>> x = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    >>> model = torch.nn.Linear(1, 1, bias=False).double()
    >>> risk = EmpiricalRisk(model, torch.nn.MSELoss(), (x, 0 * x))
    >>> (gradient_covariance(risk, torch.ones(1)) @ x[:1, 0]).tolist()  # gradients 2 and 18
    [64.0]
    """
    moment = empirical_fisher(risk, theta, **options)
    mean = risk.gradient(moment.product.point.theta)  # type: ignore[attr-defined]
    return _derived(moment, lambda X: moment.product(X) - torch.outer(mean, mean @ X))


def preconditioned(
    H: Operator,
    optimizer: torch.optim.Optimizer,
    *,
    weight_decay: bool = True,
    risk: EmpiricalRisk | None = None,
) -> Operator:
    """The matrix P^(−1/2) H P^(−1/2) whose eigenvalues decide the stability of a torch optimizer.

    Its step is θ ← θ − η P⁻¹ (momentum of ∇L); P is diagonal and a copy of the optimizer's state at the call:

        SGD  P = 1        RMSprop  P = √v + ε        Adam, AdamW  P = (1 − β₁ᵗ)(√(v / (1 − β₂ᵗ)) + ε)

    (centred RMSprop: v − m², AMSGrad: the largest v). Where groups have other learning rates than the first,
    P carries their ratio. Weight decay λ is part of the matrix, as each optimizer applies it: coupled (SGD,
    RMSprop, Adam), P^(−1/2) (H + λ) P^(−1/2); decoupled (AdamW), P^(−1/2) H P^(−1/2) + λ.
    `weight_decay=False` leaves it out. A parameter without state beside others that have one got no gradient
    so far, and is held still: P = ∞. `H` comes from this module; for one that was wrapped, give the `risk` it
    is of. Costs no product at the call. Raises ValueError for other optimizers, for a parameter that the
    optimizer does not hold, and before its first step. (Cohen et al. 2022, §2; Loshchilov & Hutter 2019, §2)

    >>> x = torch.ones(2, 1, dtype=torch.float64)
    >>> model = torch.nn.Linear(1, 1, bias=False).double()
    >>> H = hessian(EmpiricalRisk(model, torch.nn.MSELoss(), (x, x)))
    >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5)
    >>> (preconditioned(H, sgd) @ x[:1, 0]).tolist()
    [2.5]
    """
    point = getattr(H.product, "point", None)
    risk = risk or (point.risk if point is not None else None)
    if risk is None:
        raise ValueError("H does not say which parameters it is of; give risk=, the risk it was made from")
    parts = [_scaling(optimizer, name, p) for name, p in risk.selected.items()]
    P, coupled, decoupled = (
        torch.cat([torch.as_tensor(part).to(H.like).expand(p.shape).reshape(-1) for part, p in column])
        for column in (zip(c, risk.selected.values(), strict=True) for c in zip(*parts, strict=True))
    )
    root = P.rsqrt()[:, None]
    shift = (coupled / P + decoupled)[:, None] if weight_decay else 0.0 * root
    return _derived(H, lambda X: root * H.product(root * X) + shift * X)


def _scaling(optimizer: torch.optim.Optimizer, name: str, parameter: Tensor) -> tuple[Any, float, float]:
    """P of one parameter, and its coupled and decoupled weight decay in units of the first learning rate."""
    groups = [g for g in optimizer.param_groups if any(p is parameter for p in g["params"])]
    if not groups:
        raise ValueError(f"the optimizer does not hold {name!r}; expected all parameters of θ: select others")
    (group,) = groups
    kind = next((k for k in _SCALES if type(optimizer) is k), None)
    if kind is None or group.get("maximize"):
        raise ValueError(
            f"the optimizer is {type(optimizer).__name__}, maximize={group.get('maximize', False)}; "
            "expected SGD, RMSprop, Adam or AdamW, with maximize=False"
        )
    state = optimizer.state.get(parameter, {})
    if kind is not torch.optim.SGD and not state:
        if optimizer.state:
            return torch.tensor(torch.inf), 0.0, 0.0
        raise ValueError(f"{kind.__name__} has no state for {name!r} yet; take one step first")
    reference = float(optimizer.param_groups[0]["lr"])
    rate = float(group["lr"]) / reference if reference else 1.0
    decay = float(group["weight_decay"])
    decoupled = kind is torch.optim.AdamW or group.get("decoupled_weight_decay", False)
    return _SCALES[kind](state, group) / rate, 0.0 if decoupled else decay, rate * decay if decoupled else 0.0


def _at_floor(optimizer: torch.optim.Optimizer, risk: EmpiricalRisk) -> Tensor:
    """Of every coordinate of θ, (n,), whether its scaling is mostly ε, for want of gradients: √v ≤ ε."""
    return torch.cat([_floored(optimizer, p) for p in risk.selected.values()])


def _floored(optimizer: torch.optim.Optimizer, parameter: Tensor) -> Tensor:
    state = optimizer.state.get(parameter, {})
    if not state or isinstance(optimizer, torch.optim.SGD):
        return torch.zeros(parameter.numel(), dtype=torch.bool, device=parameter.device)
    (group,) = (g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
    scale = _SCALES[type(optimizer)]
    least = scale({key: x if key == "step" else torch.zeros_like(x) for key, x in state.items()}, group)
    return (scale(state, group) <= 2 * least).reshape(-1)


def _rmsprop_scale(state: Mapping[str, Any], group: Mapping[str, Any]) -> Tensor:
    v: Tensor = state["square_avg"] - (state["grad_avg"] ** 2 if group["centered"] else 0.0)
    P: Tensor = v.clamp_min(0.0).sqrt() + group["eps"]
    return P


def _adam_scale(state: Mapping[str, Any], group: Mapping[str, Any]) -> Tensor:
    v: Tensor = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
    first, second = (1 - float(beta) ** float(state["step"]) for beta in group["betas"])
    P: Tensor = first * ((v / second).sqrt() + group["eps"])
    return P


_SCALES: dict[type[torch.optim.Optimizer], Callable[[Any, Any], Tensor]] = {
    torch.optim.SGD: lambda state, group: torch.ones(()),
    torch.optim.RMSprop: _rmsprop_scale,
    torch.optim.Adam: _adam_scale,
    torch.optim.AdamW: _adam_scale,
}


def blocks(
    risk: EmpiricalRisk,
    theta: Any = None,
    *,
    matrix: str = "hessian",
    by: Callable[[str], str] | None = None,
    **options: Unpack[Options],
) -> Blocks:
    """The diagonal blocks of a matrix, layer by layer, all computed together.

    `matrix` is "hessian", "ggn", "fisher" or "empirical_fisher"; `by` maps the name of a parameter to that of
    its block (default: its module). The result has `operator`, the block-diagonal matrix (n, n), one pass
    over the data a product; `slices`, name -> the positions of a block in θ; and `map(algorithm)`, which runs
    `algorithm(A)` for the operator A of every block at once, their products together in one pass:

        blocks(risk).map(lambda A: eigsh(A, 3, rng=0))         name -> EigenPairs

    A product costs less than L / 2 products of the whole for L blocks, since a block needs no derivative in
    other layers. Raises ValueError for other names, and for a block whose parameters are not neighbours in θ.

    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Linear(1, 1)).double()
    >>> x = torch.ones(3, 2, dtype=torch.float64)
    >>> parts = blocks(EmpiricalRisk(model, torch.nn.MSELoss(), (x, x[:, :1])))
    >>> parts.map(lambda A: A.shape)
    {'0': (3, 3), '1': (2, 2)}
    """
    if matrix not in _BUILDS:
        raise ValueError(f"matrix is {matrix!r}; expected one of {', '.join(_BUILDS)}")
    by = by or (lambda name: name.rpartition(".")[0] or name)
    groups: dict[str, list[int]] = {}
    for i, name in enumerate(risk.selected):
        groups.setdefault(by(name), []).append(i)
    offsets = np.cumsum([0, *(p.numel() for p in risk.selected.values())]).tolist()
    for name, group in groups.items():
        if group != list(range(group[0], group[-1] + 1)):
            raise ValueError(f"the parameters of block {name!r} are not neighbours in θ; choose another `by`")
    whole = _matrix(risk, theta, matrix, tuple(tuple(group) for group in groups.values()), **options)
    return Blocks(whole, {name: slice(offsets[g[0]], offsets[g[-1] + 1]) for name, g in groups.items()})


def _matrix(
    risk: EmpiricalRisk,
    theta: Any,
    matrix: "str | Build",
    groups: Groups | None = None,
    **options: Unpack[Options],
) -> Operator:
    """The operator of a matrix, whole or with blocks between `groups` of parameters left out."""
    build = _BUILDS[matrix] if isinstance(matrix, str) else matrix
    differences = matrix == "hessian" and groups is None
    together = groups or (tuple(range(len(risk.selected))),)
    return operator(
        risk.at(theta), lambda term: build(risk, term, together), differences=differences, **options
    )


def _hessian_build(risk: EmpiricalRisk, term: _Term, groups: Groups) -> Map:
    return hessian_map(term, groups)


def _ggn_build(risk: EmpiricalRisk, term: _Term, groups: Groups) -> Map:
    parts = (risk.loss, require_tensor(term.outputs), term.targets)
    return sandwich_map(term, groups, likelihood_middle(*parts) or differentiated_middle(*parts))


def _fisher_build(risk: EmpiricalRisk, term: _Term, groups: Groups) -> Map:
    middle = likelihood_middle(risk.loss, require_tensor(term.outputs), term.targets)
    if middle is None:
        name = getattr(risk.loss, "__name__", type(risk.loss).__name__)
        raise ValueError(
            f"loss is {name}, of no likelihood known here; give sample(outputs, rng), which draws targets "
            "from the distribution of the model (known: cross-entropy and mean squared error)"
        )
    return sandwich_map(term, groups, middle)


def _empirical_build(risk: EmpiricalRisk, term: _Term, groups: Groups) -> Map:
    return sandwich_map(term, groups, outer_middle(risk.loss, require_tensor(term.outputs), term.targets))


_BUILDS: dict[str, Build] = {
    "hessian": _hessian_build,
    "ggn": _ggn_build,
    "fisher": _fisher_build,
    "empirical_fisher": _empirical_build,
}


@dataclass(frozen=True, eq=False)
class _Derived:
    """Products computed from those of another operator, at the same `point`."""

    function: Callable[[Tensor], Tensor]
    point: Any

    def __call__(self, X: Tensor) -> Tensor:
        return self.function(X)


def _derived(A: Operator, function: Callable[[Tensor], Tensor]) -> Operator:
    return Operator(A.shape, A.dtype, _Derived(function, getattr(A.product, "point", None)), A.like)
