"""A loss seen from the outputs of a network: what its mean is over, and its second derivative there.

Cross-entropy, negative log-likelihood and mean squared error are known by name and have closed forms; any
other function loss(outputs, targets) -> mean is differentiated.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Loss = Callable[[Any, Any], Tensor]
#: The product with a matrix of outputs by outputs, in the shape of the outputs after any further first axes.
Middle = Callable[[Tensor], Tensor]


def known_loss(loss: Loss) -> tuple[Any, Mapping[str, Any]]:
    """What `loss` is called in torch.nn.functional, and its options; `loss` itself where it is unknown."""
    names = ("weight", "ignore_index", "label_smoothing", "reduction")
    modules = {nn.CrossEntropyLoss: F.cross_entropy, nn.NLLLoss: F.nll_loss, nn.MSELoss: F.mse_loss}
    if type(loss) in modules:
        return modules[type(loss)], {name: getattr(loss, name) for name in names if hasattr(loss, name)}
    if isinstance(loss, partial) and not loss.args:
        return loss.func, loss.keywords
    return loss, {}


def over_classes(loss: Loss, targets: Any) -> bool:
    """Whether `loss` is known to compare class indices, so that targets can be ignored and weighed."""
    return known_loss(loss)[0] in (F.cross_entropy, F.nll_loss) and not targets.is_floating_point()


def require_mean(loss: Loss) -> None:
    """Raise an error for what is no function, and for a reduction other than the mean."""
    if not callable(loss):
        raise TypeError(
            f"loss is a {type(loss).__name__}; expected a function loss(outputs, targets) -> mean"
        )
    reduction = known_loss(loss)[1].get("reduction", getattr(loss, "reduction", "mean"))
    if reduction != "mean":
        raise ValueError(
            f"loss has reduction {reduction!r}; expected 'mean': curvature is that of the mean over the data"
        )


def require_no_sum(loss: Loss, outputs: Any, targets: Any) -> None:
    """Raise ValueError where the loss of every example taken twice is twice the loss: a sum."""
    if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor) and targets.ndim and outputs.ndim):
        return
    with torch.no_grad():
        once = loss(outputs, targets).item()
        try:
            twice = loss(torch.cat([outputs, outputs]), torch.cat([targets, targets])).item()
        except (RuntimeError, ValueError, IndexError):
            return  # a loss made for this batch alone
    if once != 0 and abs(twice / once - 2) < 1e-3:
        raise ValueError("the loss doubles where every example is taken twice: it is a sum; expected a mean")


def example_weights(loss: Loss, outputs: Any, targets: Any, *, counts: bool) -> Tensor:
    """The units that the mean is over, by example, shape (N,); `counts`: their sum weighs the batch.

    Class indices count by their class weight, ignored ones not at all; other examples count one each. Raises
    ValueError where the sum is needed and nothing says what the mean is over.
    """
    if over_classes(loss, targets):
        own = _class_weights(outputs, targets, known_loss(loss)[1])
        return own.reshape(targets.shape[0] if targets.ndim else 1, -1).sum(1)
    sized = outputs if isinstance(outputs, Tensor) and outputs.ndim else targets
    if not isinstance(sized, Tensor) or sized.ndim == 0:
        if counts:
            raise ValueError(
                "weight is not given and the outputs have no examples to count; "
                "give weight(batch), the number of units that the mean of a batch is over"
            )
        return torch.ones(1)
    if counts and isinstance(targets, Tensor) and not targets.is_floating_point():
        _require_plain(targets, len(sized))
    return torch.ones(len(sized), device=sized.device)


def likelihood_middle(loss: Loss, outputs: Tensor, targets: Any) -> Middle | None:
    """The product with M = ∂²ℓ/∂outputs² in closed form, None where there is none.

        cross-entropy   Σ_n m_n (diag(p_n) − p_n p_nᵀ)      mean squared error   2/N

    m_n is the share of target n in the mean. Outputs of NLLLoss, log-probabilities, count as functions of
    logits, which makes M = Σ_n m_n diag(p_n). (Martens 2020, §9)
    """
    function, options = known_loss(loss)
    z = outputs.detach()
    if function is F.mse_loss and z.shape == targets.shape:
        return lambda u: u * (2 / z.numel())
    if not over_classes(loss, targets):
        return None
    classes = min(1, z.ndim - 1) - z.ndim  # counted from the end
    mass = _mass(z, targets, options).unsqueeze(classes)
    if function is F.nll_loss:
        return lambda u: mass * z.exp() * u
    p = z.softmax(classes)
    return lambda u: mass * p * (u - (p * u).sum(classes, keepdim=True))


def differentiated_middle(loss: Loss, outputs: Tensor, targets: Any) -> Middle:
    """The product with M = ∂²ℓ/∂outputs² by differentiating the loss twice."""
    z, slope = _slope(loss, outputs, targets)
    if not slope.requires_grad:
        return torch.zeros_like

    def middle(u: Tensor) -> Tensor:
        batched = u.ndim > z.ndim
        (product,) = torch.autograd.grad(slope, z, u, retain_graph=True, is_grads_batched=batched)
        return product

    return middle


def outer_middle(loss: Loss, outputs: Tensor, targets: Any) -> Middle:
    """The product with Σ_n (w_n/W) r_n r_nᵀ, r_n the gradient in the outputs of the loss of example n."""
    slope = _slope(loss, outputs, targets)[1].detach()
    units = example_weights(loss, outputs, targets, counts=False).to(slope)
    # ∂ℓ/∂z_n is (w_n/W) r_n: two factors of it hold one (w_n/W) too many.
    factor = torch.where(units > 0, units.sum() / units, 0.0).reshape(-1, *[1] * (slope.ndim - 1))
    rest = tuple(range(1 - slope.ndim, 0))
    return lambda u: factor * slope * ((slope * u).sum(rest, keepdim=True) if rest else slope * u)


def with_ignored(loss: Loss, drawn: Tensor, targets: Any) -> Tensor:
    """Drawn targets, but ignored where those of the data are."""
    if not isinstance(targets, Tensor) or not over_classes(loss, targets) or targets.shape != drawn.shape:
        return drawn
    ignored = targets == known_loss(loss)[1].get("ignore_index", -100)
    return torch.where(ignored, targets, drawn)


def _class_weights(z: Tensor, targets: Tensor, options: Mapping[str, Any]) -> Tensor:
    """The class weight of each target, 0 where it is ignored."""
    ignored = targets == options.get("ignore_index", -100)
    weight = options.get("weight")
    weight = z.new_ones(z.shape[min(1, z.ndim - 1)]) if weight is None else weight
    return torch.where(ignored, 0.0, weight[torch.where(ignored, 0, targets)])


def _mass(z: Tensor, targets: Tensor, options: Mapping[str, Any]) -> Tensor:
    """Σ_c t_c w_c of each target t, one-hot and smoothed, as a share of the summed class weights."""
    smoothing, weight = options.get("label_smoothing", 0.0), options.get("weight")
    own = _class_weights(z, targets, options)
    spread = (own > 0) * (1.0 if weight is None else weight.mean())
    mass: Tensor = ((1 - smoothing) * own + smoothing * spread) / own.sum()
    return mass


def _slope(loss: Loss, outputs: Tensor, targets: Any) -> tuple[Tensor, Tensor]:
    """The outputs cut off from the parameters, and the gradient of the loss in them with its graph."""
    z = outputs.detach()
    if loss(z, targets).requires_grad:
        raise ValueError(
            "the loss uses parameters past the outputs (a penalty?), which this matrix has no place for; "
            "keep them out of the loss, or use hessian"
        )
    z.requires_grad_()
    value = loss(z, targets)
    if not value.requires_grad:
        return z, torch.zeros_like(z)
    return z, torch.autograd.grad(value, z, create_graph=True, materialize_grads=True)[0]


def _require_plain(targets: Tensor, num_examples: int) -> None:
    if targets.numel() != num_examples or bool((targets < 0).any()):
        raise ValueError(
            f"a batch of {num_examples} examples has {targets.numel()} integer targets, the least "
            f"{int(targets.min())}, and the loss does not say which of them count; give weight(batch), "
            "the number of units that the mean of a batch is over"
        )


def square_root_columns(
    loss: Loss, outputs: Tensor, targets: Any, *, num_samples: int | None, rng: np.random.Generator | None
) -> Iterator[Tensor]:
    """Columns s, in the shape of the outputs, with Σ_s s_n s_nᵀ = M_n of `likelihood_middle` for each row n.

    One a class, √(m_n p_c) (e_c − p), or one an output, √(2/N) e_c. With `num_samples`, that many columns of
    which this is the expectation: gradients at targets drawn from the model by `rng`. Raises ValueError where
    the likelihood is unknown.
    """
    function, options = known_loss(loss)
    if likelihood_middle(loss, outputs, targets) is None:
        raise ValueError(
            f"loss is {getattr(loss, '__name__', type(loss).__name__)}, of no likelihood known here; "
            "expected cross-entropy on class indices or mean squared error"
        )
    if num_samples is None and outputs.ndim != 2:
        raise ValueError(
            f"the outputs have shape {tuple(outputs.shape)}; expected (examples, outputs) for an exact "
            "Fisher: give num_samples and rng"
        )
    z, axis = outputs.detach(), min(1, outputs.ndim - 1)
    if function is F.mse_loss:
        mass, p, centre = z.new_tensor(2 / z.numel()), torch.ones_like(z), torch.zeros_like(z)
    else:
        mass = _mass(z, targets, options).unsqueeze(axis)
        p = z.exp() if function is F.nll_loss else z.softmax(axis)
        centre = torch.zeros_like(p) if function is F.nll_loss else p
    for c in range(z.shape[1] if num_samples is None else num_samples):
        if num_samples is None:
            unit = F.one_hot(torch.full((len(z),), c, device=z.device), z.shape[1]).to(z)
            yield (mass * p[:, c : c + 1]).sqrt() * (unit - centre)
        else:
            assert rng is not None
            drawn = _normal(z, rng) if function is F.mse_loss else _classes(p, axis, rng)
            yield (mass / num_samples).sqrt() * (drawn - centre)


def _normal(z: Tensor, rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.standard_normal(tuple(z.shape))).to(z)


def _classes(p: Tensor, axis: int, rng: np.random.Generator) -> Tensor:
    """One class a row, drawn with the probabilities p along `axis`, as a one-hot array."""
    uniform = torch.from_numpy(rng.random(tuple(p.sum(axis, keepdim=True).shape))).to(p)
    drawn = (p.cumsum(axis) < uniform).sum(axis, keepdim=True).clamp_max(p.shape[axis] - 1)
    return torch.zeros_like(p).scatter_(axis, drawn, 1.0)
