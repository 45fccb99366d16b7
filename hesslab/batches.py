"""What may be data, a batch, a loss: looked at before anything is computed, and refused in a sentence."""

from collections.abc import Mapping, Sized
from typing import Any

import torch
from torch import Tensor


def is_pair(data: Any) -> bool:
    """Whether data are one pair (inputs, targets), and not batches."""
    return isinstance(data, tuple) and len(data) == 2


def require_batches(data: Any, *, may_be_empty: bool) -> None:
    """Raise unless data are a pair, or batches that can be passed more than once."""
    if isinstance(data, Tensor | Mapping) or not hasattr(data, "__iter__"):
        raise TypeError(
            f"data is a {type(data).__name__}; expected one pair (inputs, targets) or an iterable of batches"
        )
    if hasattr(data, "__next__"):
        raise ValueError(
            f"data is a one-shot iterator ({type(data).__name__}), empty after one pass; give list(data)"
        )
    if isinstance(data, Sized) and length(data) == 0 and not may_be_empty:
        raise ValueError("data is empty; expected at least one batch")


def length(data: Any) -> int | None:
    """The number of batches, None where the data do not say."""
    try:
        return len(data)
    except TypeError:  # a loader over a stream
        return None


def require_one_kind(selected: Mapping[str, Tensor]) -> None:
    """Raise unless θ is one flat vector in one precision on one device."""
    if not selected:
        raise ValueError("parameters selects none; expected the pattern of some names of named_parameters()")
    kinds = sorted({f"{str(p.dtype).removeprefix('torch.')} on {p.device}" for p in selected.values()})
    if len(kinds) > 1:
        raise ValueError(f"the parameters are {' and '.join(kinds)}; expected one precision and one device")
    if not kinds[0].startswith(("float32", "float64")):
        raise ValueError(
            f"the parameters are {kinds[0]}; expected float32 or float64: convert with model.float()"
        )


def require_pair(batch: Any, device: torch.device) -> tuple[Any, Any]:
    """A batch as (inputs, targets) on `device`."""
    if not (isinstance(batch, tuple | list) and len(batch) == 2):
        raise TypeError(
            f"a batch is a {type(batch).__name__}; expected a pair (inputs, targets): "
            "for others give forward(model, batch) -> (outputs, targets)"
        )
    for name, part in zip(("inputs", "targets"), batch, strict=True):
        if isinstance(part, Tensor) and part.device != device:
            raise ValueError(f"the {name} are on {part.device}, the parameters on {device}; move one of them")
    return batch[0], batch[1]


def require_scalar(loss: Any) -> Tensor:
    """What a loss returned, as one number of shape ()."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise ValueError(f"the loss returned {found}; expected one number, the mean over its batch")
    return loss.reshape(())
