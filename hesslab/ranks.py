"""Sums over the ranks of a torch.distributed group, each of which holds a shard of the data.

Every rank calls the same functions in the same order, with the same θ and the same `rng`, and gets the same
numbers. Where `group` is None there is one rank, and nothing is sent. torch.distributed is the engine.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def summed(group: Any, part: Tensor) -> Tensor:
    """The sum of a tensor over the ranks, which may hold it in different layouts."""
    if group is not None:
        part = part.contiguous()  # the sum is over memory, whatever the strides
        dist.all_reduce(part, group=group)
    return part


def total(group: Any, weight: float, like: Tensor) -> float:
    """The sum of a number over the ranks; raises ValueError where it is 0: no rank holds an example."""
    if group is not None:
        weight = float(summed(group, torch.tensor(weight, dtype=torch.float64, device=like.device)))
    if not weight > 0:
        raise ValueError(NO_BATCH)
    return weight


NO_BATCH = "data holds no batch of positive weight; expected at least one example"


def require_same(group: Any, theta: Tensor) -> None:
    """Raise ValueError on every rank unless all hold the same θ."""
    if group is None:
        return
    ends = torch.stack([theta.double(), -theta.double()])
    dist.all_reduce(ends, op=dist.ReduceOp.MAX, group=group)
    apart = float((ends[0] + ends[1]).abs().max())
    if apart:
        raise ValueError(
            f"θ differs by {apart:.2g} between the ranks; expected the same on each: broadcast it first"
        )


def gathered(group: Any, item: Any) -> list[Any]:
    """An object of every rank, in the order of the ranks."""
    if group is None:
        return [item]
    items: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(items, item, group=group)
    return items


def rank(group: Any) -> int:
    """The number of this process, 0 where there is one."""
    return 0 if group is None else dist.get_rank(group)


def require_one(group: Any, what: str) -> None:
    """Refuse a group where the data of one process are needed."""
    if group is not None:
        raise ValueError(f"{what} needs all data in one process, and the risk has a group; give one without")
