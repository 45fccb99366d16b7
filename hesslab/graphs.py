"""The operations that a torch graph is made of, and whether it can be differentiated once more."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

KINKS = {"Relu", "LeakyRelu", "PreluKernel", "Hardtanh", "Hardswish", "Threshold", "Abs", "Clamp", "Maximum"}
KINKS |= {"Minimum", "MaxPool2DWithIndices", "MaxPool3DWithIndices", "AdaptiveMaxPool2D", "Relu6"}


def operations(tensors: Sequence[Tensor]) -> set[str]:
    """The names of the operations in the graph of `tensors`, without "Backward0"."""
    stack: list[Any] = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
    seen = set(stack)
    while stack:
        for node, _ in stack.pop().next_functions:
            if node is not None and node not in seen:
                seen.add(node)
                stack.append(node)
    return {node.name().partition("Backward")[0] for node in seen}


def require_twice(made_of: Sequence[Tensor]) -> None:
    """Raise ValueError where torch would take a function of one derivative only to have a second, zero."""
    if "Error" in {name.rpartition("::")[2] for name in operations(made_of)}:
        raise ValueError(NO_SECOND.format("a function marked once_differentiable"))


NO_SECOND = (
    "a part of the model or of the loss has no second derivative; write it with torch functions, or give its "
    "autograd.Function a differentiable backward (torch: {})"
)


@contextmanager
def explained() -> Iterator[None]:
    """Torch's errors about a missing second derivative, in the words of this library."""
    try:
        yield
    except RuntimeError as error:
        causes = ("once_differentiable", "is not implemented", "double backward", "differentiate twice")
        if not any(cause in str(error) for cause in causes):
            raise
        raise ValueError(NO_SECOND.format(str(error).splitlines()[0])) from error
