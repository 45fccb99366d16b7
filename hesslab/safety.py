"""What makes a network safe to differentiate twice, and leaves it as it was.

Fused attention, the fused path of MultiheadAttention and fused recurrent kernels have no second derivative,
or none in forward mode; that of the fused weight norm is wrong; TF32 rounds to ten bits. BatchNorm, dropout
and data loaders change a model and the random state as they run. `twice_differentiable` switches the first
off and puts the second back.
"""

import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint


@contextmanager
def twice_differentiable(
    model: nn.Module,
    *,
    state: Mapping[str, Tensor] | None = None,
    modes: Sequence[bool] | None = None,
    dropout: int | None = None,
) -> Iterator[None]:
    """A context in which `model` has exact second derivatives, and after which it is as it was before.

    Inside: attention by plain matrix products (SDPBackend.MATH), no fused path of MultiheadAttention, no
    fused recurrent kernels, weight norm from its definition, checkpointing without reentry, float32 products
    in full float32. Afterwards, also after an error or Ctrl-C: parameters, buffers, `.grad`, modes, other
    attributes and the random state are those from before.

    `state`, name -> tensor, puts these tensors in place of parameters and buffers while inside, tied ones
    once; without it the model computes with its own, of which copies are kept (the memory of one model).
    `modes`, one bool a module in the order of `model.modules()`, are the train and eval modes inside.
    `dropout`, a seed, starts the random numbers drawn inside from that seed, so that masks repeat; active
    dropout is refused without it.
    Differentiate in reverse-over-reverse or forward-over-reverse: other orders are wrong through LayerNorm
    and BatchNorm. Costs no products. Raises KeyError where `state` names a tensor that the model lacks,
    and ValueError where dropout is active.

    >>> import torch
    >>> model = torch.nn.BatchNorm1d(2)
    >>> with twice_differentiable(model):
    ...     _ = model(torch.ones(3, 2))
    >>> print(model.running_mean.tolist())
    [0.0, 0.0]
    """
    modules = dict(model.named_modules())
    with _random_state_kept(_accelerators(modules)), _substituted(modules, state, modes, dropout):
        yield


@contextmanager
def _substituted(
    modules: Mapping[str, nn.Module],
    state: Mapping[str, Tensor] | None,
    modes: Sequence[bool] | None,
    seed: int | None,
) -> Iterator[None]:
    """All of `twice_differentiable` but keeping the random state, which one pass over the data does once."""
    with _tensors_kept(modules, state), _exact_kernels(modules):
        for module, mode in zip(modules.values(), modes or (), strict=modes is not None):
            module.training = mode
        if seed is None:
            _require_still(modules)
        else:
            _start_random_numbers(seed, _accelerators(modules))
        yield


def _accelerators(modules: Mapping[str, nn.Module]) -> set[torch.device]:
    """The devices other than the CPU that hold tensors of the model."""
    return {tensor.device for _, tensor in _named_tensors(modules)} - {torch.device("cpu")}


def _require_still(modules: Mapping[str, nn.Module]) -> None:
    for name, module in modules.items():
        if module.training and _draws(module):
            raise ValueError(
                f"dropout is active in {name or type(module).__name__!r}: the loss is another one at each "
                "evaluation; call model.eval(), or freeze the masks by a seed: dropout=0"
            )


def _draws(module: nn.Module) -> bool:
    if isinstance(module, nn.MultiheadAttention):
        return bool(module.dropout > 0)
    if isinstance(module, nn.RNNBase):
        return bool(module.num_layers > 1 and module.dropout > 0)
    return isinstance(module, nn.modules.dropout._DropoutNd) and bool(module.p > 0)


@contextmanager
def _tensors_kept(modules: Mapping[str, nn.Module], state: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Put `state` in place, and all attributes, tensors and gradients back afterwards."""
    before = [(m, dict(vars(m)), dict(m._parameters), dict(m._buffers)) for m in modules.values()]
    copies = _copies(modules) if state is None else []
    try:
        if state:
            _substitute(modules, state)
        yield
    finally:
        for module, attributes, parameters, buffers in before:
            _put_back(vars(module), attributes)
            _put_back(module._parameters, parameters)
            _put_back(module._buffers, buffers)
        with torch.no_grad():
            for tensor, value, grad, grad_value in copies:
                _copy_back(tensor, value)
                tensor.grad = grad
                _copy_back(grad, grad_value)


def _put_back(current: Any, before: Mapping[str, Any]) -> None:
    for name in current.keys() - before.keys():
        del current[name]
    current.update(before)


def _copies(modules: Mapping[str, nn.Module]) -> list[tuple[Tensor, Tensor, Tensor | None, Tensor | None]]:
    """Every tensor once with a copy of it, its `.grad`, and a copy of that."""
    tensors = {id(t): t for _, t in _named_tensors(modules)}.values()
    return [
        (t, t.detach().clone(), t.grad, None if t.grad is None else t.grad.detach().clone()) for t in tensors
    ]


def _copy_back(tensor: Tensor | None, value: Tensor | None) -> None:
    # Only what changed is written: writing marks a tensor as modified, which breaks graphs that hold it.
    if tensor is not None and value is not None and not _same(tensor, value):
        tensor.copy_(value)


def _same(a: Tensor, b: Tensor) -> bool:
    return a.is_meta or (a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all()))


def _named_tensors(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers under all their names, in the order and spelling of `named_parameters`."""
    for prefix, module in modules.items():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    yield (f"{prefix}.{name}" if prefix else name), tensor


def _substitute(modules: Mapping[str, nn.Module], state: Mapping[str, Tensor]) -> None:
    """Put the tensors of `state` in place; one that has several names is replaced under all of them."""
    named = dict(_named_tensors(modules))
    replacement = {id(named[name]): tensor for name, tensor in state.items()}
    for module in modules.values():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if id(tensor) in replacement:
                    tensors[name] = replacement[id(tensor)]  # type: ignore[assignment]


@contextmanager
def _random_state_kept(devices: set[torch.device]) -> Iterator[None]:
    """The random states of Python, NumPy, torch and the accelerators in use, put back afterwards."""
    accelerators = [(device, torch.get_device_module(device)) for device in devices if device.type != "meta"]
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    states = [(backend, device, backend.get_rng_state(device)) for device, backend in accelerators]
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        for backend, device, state in states:
            backend.set_rng_state(state, device)


def _start_random_numbers(seed: int, devices: set[torch.device]) -> None:
    """Start all random numbers from `seed`, inside a context that puts their states back."""
    random.setstate(random.Random(seed).getstate())
    np.random.set_state(np.random.RandomState(seed).get_state())  # noqa: NPY002
    for device in {torch.device("cpu"), *devices}:
        started = torch.Generator.manual_seed(torch.Generator(device), seed).get_state()
        if device.type == "cpu":
            torch.set_rng_state(started)
        else:
            torch.get_device_module(device).set_rng_state(started, device)


@contextmanager
def _exact_kernels(modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """Kernels that can be differentiated twice in every order used here, at full precision."""
    settings = [*_FULL_FLOAT32, *_REPLACED]
    if any(isinstance(module, nn.RNNBase) for module in modules.values()):
        # Their fused kernels have no second derivative (cuDNN) or no forward mode (oneDNN). The switch
        # covers convolutions too, which get slower; only models with recurrent layers pay.
        settings += [(torch.backends.cudnn, "enabled", False), (torch.backends.mkldnn, "enabled", False)]
    fused = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with _settings(settings), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _in_full_float32() -> AbstractContextManager[None]:
    """The part of the exact kernels that matters to reverse passes over a graph that was made with them."""
    return _settings(_FULL_FLOAT32)


@contextmanager
def _settings(settings: Sequence[tuple[Any, str, Any]]) -> Iterator[None]:
    before = [(holder, name, getattr(holder, name)) for holder, name, _ in settings]
    try:
        for holder, name, value in settings:
            setattr(holder, name, value)
        yield
    finally:
        for holder, name, value in before:
            setattr(holder, name, value)


def _full_float32() -> tuple[tuple[Any, str, Any], ...]:
    """The switches for float32 products in full float32: where, which, and to what."""
    backends: Any = torch.backends
    cuda, cudnn, onednn = backends.cuda, backends.cudnn, backends.mkldnn
    if not hasattr(cuda.matmul, "fp32_precision"):  # torch before 2.9
        return ((cuda.matmul, "allow_tf32", False), (cudnn, "allow_tf32", False))
    holders = (cuda.matmul, cudnn.conv, cudnn.rnn, onednn.matmul, onednn.conv, onednn.rnn)
    return tuple((holder, "fp32_precision", "ieee") for holder in holders)


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """W = g v / ‖v‖ by its definition: the second derivative of torch's fused kernel holds ‖v‖ constant."""
    return v * (g / torch.norm_except_dim(v, 2, dim))


class _WithoutReentry:
    """Reentrant checkpointing as the other kind: it hides parameters from torch.autograd.grad."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve_rng_state: bool, *arguments: Any) -> Any:
        """What torch.utils.checkpoint.CheckpointFunction.apply does."""
        return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=preserve_rng_state)


_FULL_FLOAT32 = _full_float32()
_REPLACED: list[tuple[Any, str, Any]] = [
    (torch, "_weight_norm", _weight_norm),
    (sys.modules["torch.nn.utils.weight_norm"], "_weight_norm", _weight_norm),
    (sys.modules["torch.utils.checkpoint"], "CheckpointFunction", _WithoutReentry),
]


def _require_repeatable(first: Sequence[Tensor], again: Sequence[Tensor]) -> None:
    """Raise ValueError where two evaluations of a loss and of what led to it and from it differ.

    The random states are different. The loss comes first.
    """
    for i, (a, b) in enumerate(zip(first, again, strict=True)):
        what = "outputs or derivatives" if i else "loss"
        _require(_ratio(a - b, b), _eps(b) ** 0.5, f"two evaluations of the same {what} differ", _RANDOM)


def _require_symmetric(u: Tensor, Au: Tensor, v: Tensor, Av: Tensor) -> None:
    """Raise ValueError where uᵀA v and vᵀA u differ, for random unit vectors u and v."""
    # A wrong mode errs by per cents of A v; u is random, so that uᵀA v is smaller than A v by √n.
    skew = abs(u.double() @ Av.double() - v.double() @ Au.double()) * len(u) ** 0.5
    _require(_ratio(skew, torch.cat([Au, Av])), _eps(u) ** 0.25, "uᵀA v and vᵀA u differ", _WRONG)


def _require_difference(Hv: Tensor, step: float, behind: Tensor, here: Tensor, ahead: Tensor) -> None:
    """Raise ValueError where H v is not the central difference of three gradients along v, `step` apart.

    The two one-sided differences tell how far it can be trusted.
    """
    slope, doubt = (ahead - behind) / (2 * step), (ahead - 2 * here + behind).norm() / step
    noise = 100 * _eps(here) * here.norm() / step
    defect = ((slope - Hv).norm() - doubt - noise).clamp_min(0.0)
    _require(_ratio(defect, Hv), 0.05, "H v and a difference of gradients differ", _WRONG)


def _eps(tensor: Tensor) -> float:
    return float(torch.finfo(tensor.dtype).eps)


def _ratio(a: Tensor, b: Tensor) -> float:
    """‖a‖ / ‖b‖, 0 where both are 0."""
    return float(a.norm()) / max(float(b.norm()), float(torch.finfo(b.dtype).tiny))


def _require(defect: float, most: float, finding: str, advice: str) -> None:
    if not defect <= most:
        raise ValueError(f"{finding} by {defect:.1%}; {advice} (verify=False skips this check)")


_RANDOM = (
    "the model, its loss or the data are random, or keep a state: seed them, or freeze dropout by a seed"
)
_WRONG = "an autograd.Function in the model or the loss has a wrong second derivative, or detaches a part"
