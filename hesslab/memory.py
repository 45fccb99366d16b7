"""What graphs will take, known before they are made, and how data are cut so that they fit.

A graph keeps tensors for its reverse passes. Their sizes, for a few examples and for half as many, give a
line in the number of examples; the line is the prediction.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hesslab.batches import length
from hesslab.risk import _gradient, _Point, _Term

Build = Callable[[_Term], Any]


@dataclass(frozen=True)
class Plan:
    """How products are computed, and the memory that decided it, in bytes.

    `method` is "retained" (graphs kept) or "streamed" (graphs rebuilt at each product); `one` is the
    predicted size of the graph of one batch, `needed` of all together, `available` what they may take;
    `piece` is the number of examples of a streamed graph, None for whole batches.
    """

    method: str
    one: int
    needed: int
    available: int
    piece: int | None = None


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on `device`; a guess of 4 GiB where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 4 * 2**30


def planned(point: _Point, batch: Any, build: Build, few: tuple[int, int], available: int) -> Plan:
    """Predict the size of all graphs from that of a few examples of the first batch, and choose."""
    examples = num_examples(batch) or few[0]
    given = 1 if batch is point.risk.data else length(point.risk.data)
    num_batches, slope = 10**9 if given is None else given, 0.0
    if examples > few[0] > 1:
        half, _, _ = measured(point, batch, few[0] // 2, build)
        slope = (few[1] - half[1]) / (few[0] - half[0])
    one = few[1] + slope * (examples - few[0])
    if one > available:
        piece = int((available - few[1]) / slope) + few[0] if slope > 0 else 0
        require_pieces(point, batch, piece, one, available)
        return Plan("streamed", int(one), int(one * num_batches), available, piece)
    method = "retained" if one * num_batches <= available else "streamed"
    return Plan(method, int(one), int(one * num_batches), available)


def measured(point: _Point, batch: Any, size: int, action: Build) -> tuple[tuple[int, int], bool, Any]:
    """`action` on `size` examples of the first batch, watched; 0: on all of them.

    Returns (examples, bytes that the graphs made keep), whether they compute parts again, and the result.
    Where the model itself differentiates by torch.func, which forbids to watch, the bytes are 0.
    """
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def run() -> Any:
        return point.fold(action, batches=few(point, batch, size), first_only=True)[0]

    try:
        with _hooks_noticed() as hooks, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            hooks.clear()
            result = run()
    except RuntimeError as error:
        if "saved tensor hooks" not in str(error):
            raise
        result = run()
        kept.clear()
    kept.pop(point.theta.untyped_storage().data_ptr(), None)
    return (size or num_examples(batch), sum(kept.values())), bool(hooks), result


@contextmanager
def _hooks_noticed() -> Iterator[list[bool]]:
    """A list that grows where saved tensors are given hooks, as activation checkpointing does."""
    kind, seen = torch.autograd.graph.saved_tensors_hooks, []
    enter = kind.__enter__

    def noticed(self: Any) -> None:
        seen.append(True)
        enter(self)

    kind.__enter__ = noticed  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        kind.__enter__ = enter  # type: ignore[method-assign]


def cuttable(batch: Any) -> bool:
    """Whether a batch is a pair of tensors over the same examples."""
    pair = isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(b, Tensor) for b in batch)
    return pair and batch[0].ndim > 0 and batch[1].ndim > 0 and len(batch[0]) == len(batch[1])


def cut(batch: Any, size: int) -> Iterator[Any]:
    """One batch as pieces of `size` examples where it can be cut, else whole."""
    if not cuttable(batch):
        yield batch
        return
    for start in range(0, len(batch[0]), size):
        yield batch[0][start : start + size], batch[1][start : start + size]


def pieces(point: _Point, size: int | None) -> Iterator[Any]:
    """The batches of a risk cut to `size` examples; None: as they are."""
    # A generator: a loader draws from the random state, and must not be started before that is kept.
    for batch in point.risk.batches():
        yield from [batch] if size is None else cut(batch, size)


def num_examples(batch: Any) -> int:
    """How many examples a batch holds: the rows of its tensors, some of which may have a multiple.

    0 where that is not clear.
    """
    parts = batch.values() if isinstance(batch, Mapping) else batch
    tensors = list(parts) if isinstance(batch, Mapping | tuple | list) else []
    if not tensors or not all(isinstance(t, Tensor) and t.ndim > 0 and len(t) > 0 for t in tensors):
        return 0
    count = min(len(t) for t in tensors)
    return 0 if any(len(t) % count for t in tensors) else count


def few(point: _Point, batch: Any, size: int) -> Iterator[Any]:
    """`size` examples of the first batch (0: all), and then whole batches, where those count for nothing.

    Where a tensor has several rows an example, targets may go to the wrong ones; the derivatives that are
    looked at, and their sizes, are as good.
    """
    # The first batch is not read anew: a loader with workers takes seconds to start.
    count = num_examples(batch)
    if not 0 < size < count:
        yield batch
    elif isinstance(batch, Mapping):
        yield {name: part[: len(part) // count * size] for name, part in batch.items()}
    else:
        yield tuple(part[: len(part) // count * size] for part in batch)
    yield from pieces(point, None)


def require_pieces(point: _Point, batch: Any, size: int, needed: float, available: int) -> None:
    """Raise MemoryError unless pieces of `size` examples give the risk of the batch they are cut from."""
    four = next(cut(batch, 4))
    whole, halves = (mean_gradient(point, cut(four, part)) for part in (4, 2))
    apart = float((whole - halves).norm()) > torch.finfo(whole.dtype).eps ** 0.5 * float(whole.norm())
    if size < 1 or apart or not cuttable(four):
        raise MemoryError(
            f"the graph of one batch needs about {needed / 2**30:.2g} GiB of {available / 2**30:.2g}, and "
            "cannot be cut into pieces; give smaller batches (in train mode, BatchNorm ties a batch together)"
        )


def mean_gradient(point: _Point, batches: Iterator[Any]) -> Tensor:
    """The gradient over `batches` alone."""
    terms = point.fold(lambda term: (term.weight, _gradient(term)), batches=batches)
    total: Tensor = sum(w * g for w, g in terms) / sum(w for w, _ in terms)
    return total
