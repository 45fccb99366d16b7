"""How a product with a second derivative is computed: a retained graph, or a stream over the data.

The graph of one batch's gradient g is built once, and a product is one more reverse pass over it:

    H v = ∂(gᵀv)/∂θ;   JᵀM J v with J v = ∂(g_uᵀv)/∂u, g_u = Jᵀu.    (Pearlmutter 1994, §3; Townsend 2017)

This is reverse-over-reverse; reverse-over-forward and forward-over-forward are wrong through LayerNorm and
train-mode BatchNorm. Graphs are kept between products while they fit in memory, and rebuilt batch by batch,
or piece by piece of one large batch, where they would not. Several vectors go through a small graph together.

Linearizing the gradient (torch.func.linearize, forward-over-reverse) was measured and left out: on one thread
of a CPU a product cost the same 1.7 gradients for convolutions, 1.5 for an MLP and 3.2 instead of 2.2 for a
transformer, after a set-up of 13 to 130 gradients.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from hesslab import ranks
from hesslab.graphs import KINKS, explained, operations, require_twice
from hesslab.losses import Middle, require_no_sum
from hesslab.memory import Plan, few, free_memory, measured, num_examples, pieces, planned
from hesslab.operators import Operator
from hesslab.risk import _Point, _Term
from hesslab.safety import _in_full_float32, _require_difference, _require_repeatable, _require_symmetric

Tensors = Sequence[Tensor]
Groups = tuple[tuple[int, ...], ...]
#: Bytes of a graph below which calling torch costs more than computing.
SMALL = 2**18


@dataclass(frozen=True, eq=False)
class Map:
    """A product with a block-diagonal matrix, one block a group of positions among the parameters.

    Vectors are tensors in the shapes of the parameters, or several along a first axis: `batched`.
    `block(group, vectors, batched)` multiplies one block; `made_of` are the tensors whose graph it goes back
    through.
    """

    groups: Groups
    block: Callable[[tuple[int, ...], Tensors, bool], list[Tensor]]
    made_of: Tensors

    def __call__(self, vectors: Tensors, batched: bool = False) -> list[Tensor]:
        """One product for each vector."""
        parts = list(vectors)
        for group in self.groups:
            answered = self.block(group, [vectors[i] for i in group], batched)
            for i, part in zip(group, answered, strict=True):
                parts[i] = part
        return parts


Build = Callable[[_Term], Map]


def derivative(
    outputs: Tensors, inputs: Tensors, cotangents: Tensors, *, graph: bool = False, batched: bool = False
) -> list[Tensor]:
    """Σ_j c_jᵀ ∂(output_j)/∂(input_i) for each i, zero where nothing depends on an input; keeps the graph.

    `batched`: the cotangents, and the results, have one more axis in front.
    """
    live = [(output, c) for output, c in zip(outputs, cotangents, strict=True) if output.requires_grad]
    found: Sequence[Tensor | None] = [None] * len(inputs)
    if live:
        functions, weights = zip(*live, strict=True)
        options = {"retain_graph": True, "create_graph": graph, "allow_unused": True}
        found = torch.autograd.grad(functions, inputs, weights, is_grads_batched=batched, **options)
    lead = cotangents[0].shape[:1] if batched else ()
    return [x.new_zeros(*lead, *x.shape) if d is None else d for x, d in zip(inputs, found, strict=True)]


def hessian_map(term: _Term, groups: Groups) -> Map:
    """The map v ↦ ∇²ℓ_b v, without the blocks between different groups of parameters."""
    firsts = slopes(term, graph=True)

    def block(group: tuple[int, ...], vectors: Tensors, batched: bool) -> list[Tensor]:
        return derivative(
            [firsts[i] for i in group], [term.leaves[i] for i in group], vectors, batched=batched
        )

    return Map(groups, block, firsts)


def sandwich_map(term: _Term, groups: Groups, middle: Middle) -> Map:
    """The map v ↦ JᵀM J v, with J the Jacobian of the outputs and `middle` the product with M."""
    z = require_tensor(term.outputs)
    u = torch.zeros_like(z, requires_grad=True)
    pulled_back = derivative([z], term.leaves, [u], graph=True)

    def block(group: tuple[int, ...], vectors: Tensors, batched: bool) -> list[Tensor]:
        (Jv,) = derivative([pulled_back[i] for i in group], [u], vectors, batched=batched)
        return derivative([z], [term.leaves[i] for i in group], [middle(Jv)], batched=batched)

    return Map(groups, block, pulled_back)


def slopes(term: _Term, *, graph: bool = False) -> list[Tensor]:
    """∇ℓ_b in the shapes of the parameters."""
    return derivative([term.loss], term.leaves, [torch.ones_like(term.loss)], graph=graph)


def require_tensor(outputs: Any) -> Tensor:
    """The outputs of a model, where a matrix is made from their derivatives."""
    if not isinstance(outputs, Tensor):
        raise TypeError(
            f"the outputs are a {type(outputs).__name__}; this matrix needs one tensor, (examples, …): "
            "give forward(model, batch) -> (outputs, targets)"
        )
    return outputs


@dataclass(frozen=True, eq=False)
class Products:
    """X ↦ A X for A = Σ_b w_b A_b / Σ_b w_b, with A_b the map that `build` makes of a batch at `point`."""

    point: _Point
    build: Build
    plan: Plan
    leaves: tuple[Tensor, ...]
    graphs: list[tuple[float, Map]] = field(repr=False)
    hooked: bool  # whether the graphs compute parts again, as under checkpointing
    together: list[bool] = field(default_factory=lambda: [True], repr=False)  # emptied where torch cannot

    def __call__(self, X: Tensor) -> Tensor:
        """A X for X of shape (n, k), native: k products, and one pass over the data where it is streamed."""
        with explained():
            if self.graphs:
                with self.point.inside(self.leaves) if self.hooked else _in_full_float32():
                    return self.kept(X)
            return self.streamed(X)

    def kept(self, X: Tensor) -> Tensor:
        """A X by the graphs that were kept."""
        group = self.point.risk.group
        total = ranks.total(group, sum(weight for weight, _ in self.graphs), X)
        parts = (self.columns(product, X).mul_(weight / total) for weight, product in self.graphs)
        return ranks.summed(group, sum(parts, next(parts)))

    def streamed(self, X: Tensor) -> Tensor:
        """A X by graphs that are made for it, one after the other."""
        summed, total = torch.zeros_like(X), 0.0

        def add(term: _Term) -> None:
            nonlocal total
            total += term.weight
            summed.add_(self.columns(built(term, self.build), X), alpha=term.weight)

        batches = None if self.plan.piece is None else pieces(self.point, self.plan.piece)
        self.point.fold(add, batches=batches)
        group = self.point.risk.group
        # In the order of `kept`, and divided before the sum as there: another rank may keep its graphs.
        return ranks.summed(group, summed / ranks.total(group, total, X))

    def width(self) -> int:
        """How many vectors go through a graph together: many where it is small or on an accelerator."""
        if self.leaves[0].device.type == "cpu" and self.plan.one > SMALL:
            return 1  # measured: twice as slow as one by one
        return int(min(max(self.plan.available // (4 * max(self.plan.one, 1)), 1), 64))

    def columns(self, product: Map, X: Tensor) -> Tensor:
        """The products of one batch with the columns of X, together where that is possible."""
        width = self.width()
        columns: list[Tensor] = []
        for start in range(0, X.shape[1], width):
            part = X[:, start : start + width]
            together = self.at_once(product, part.T) if part.shape[1] > 1 and self.together else None
            columns += (
                [flat(product(self.tensors(x))) for x in part.unbind(1)]
                if together is None
                else together.unbind(0)
            )
        return columns[0].unsqueeze(1) if len(columns) == 1 else torch.stack(columns, dim=1)

    def at_once(self, product: Map, rows: Tensor) -> Tensor | None:
        """The products with all rows in one reverse pass; None, then and later, where torch cannot."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # torch warns where it falls back to a slow loop
                return flat(product(self.tensors(rows), batched=True), lead=1)
        except (RuntimeError, UserWarning):
            self.together.clear()
            return None

    def tensors(self, X: Tensor) -> list[Tensor]:
        """One vector (n,), or several (k, n), in the shapes of the parameters."""
        parts = torch.split(X, [leaf.numel() for leaf in self.leaves], dim=-1)
        return [
            part.reshape(X.shape[:-1] + leaf.shape) for part, leaf in zip(parts, self.leaves, strict=True)
        ]


def flat(parts: Tensors, *, lead: int = 0) -> Tensor:
    """One vector (n,), or several (k, n) with `lead` 1, from tensors in the shapes of the parameters."""
    return torch.cat([part.flatten(lead) if part.ndim > lead else part.unsqueeze(-1) for part in parts], -1)


class Options(TypedDict, total=False):
    """What every matrix can be asked for: see `hesslab.curvature`."""

    num_products: int
    memory: int | None
    verify: bool


def operator(
    point: _Point,
    build: Build,
    *,
    differences: bool = False,
    num_products: int = 30,
    memory: int | None = None,
    verify: bool = True,
) -> Operator:
    """The matrix as an `Operator`, by the method that fits memory and the expected number of products.

    `memory`, in bytes, is what graphs may take (default: half of what is free); for one product no graph is
    kept. `verify` runs the self-check, `differences` with differences of gradients in it. Costs the graphs,
    and what the check costs.
    """
    available = free_memory(point.theta.device) // 2 if memory is None else memory
    n, dtype = point.theta.numel(), np.dtype(str(point.theta.dtype).removeprefix("torch."))
    leaves, hooked = point.leaves(), False
    graphs: list[tuple[float, Map]] = []
    if point.holds_nothing():  # an empty shard of several
        products = Products(point, build, Plan("streamed", 0, 0, available), leaves, graphs, hooked)
        return Operator((n, n), dtype, products, point.theta.new_empty(0))
    batch = point.first_batch()
    with explained():
        size, hooked = on_few(
            batch,
            lambda few: (
                check_itself(point, batch, few, build, differences=differences)
                if verify
                else measured(point, batch, few, lambda term: require_twice(built(term, build).made_of))[:2]
            ),
        )
        plan = planned(point, batch, lambda term: built(term, build), size, available)
        if num_products < 2:
            plan = replace(plan, method="streamed")
        if plan.method == "retained":
            graphs = point.fold(lambda term: (term.weight, built(term, build)), leaves=leaves)
    products = Products(point, build, plan, leaves, graphs, hooked)
    return Operator((n, n), dtype, products, point.theta.new_empty(0))


def on_few(batch: Any, look: Callable[[int], tuple[tuple[int, int], bool]]) -> tuple[tuple[int, int], bool]:
    """`look` at an eighth of the examples of a batch, 4 to 8 of them; at all where it fails on those."""
    try:
        return look(min(max(num_examples(batch) // 8, 4), 8))
    except Exception:  # the examples of a graph network, for one, cannot be taken apart
        return look(0)


def built(term: _Term, build: Build) -> Map:
    """The map of one batch; raises ValueError where its loss is not finite."""
    if not bool(torch.isfinite(term.loss)):
        raise ValueError(
            f"the loss is {term.loss.item()} on a batch of weight {term.weight:g}; "
            "expected a finite number: look at the inputs, the targets and θ"
        )
    return build(term)


def gradient(term: _Term) -> Tensor:
    """∇ℓ_b, flat."""
    return flat(slopes(term))


def check_itself(
    point: _Point, batch: Any, size: int, build: Build, *, differences: bool
) -> tuple[tuple[int, int], bool]:
    """The self-check of `safety` on `size` examples of the first batch, and that the loss is a mean.

    The two products are of two evaluations, so that uᵀA v = vᵀA u says both that A is symmetric and that it
    is the same at every call. Returns (examples, bytes of their graph) and whether it computes parts again.
    Costs two products of those examples, two graphs to make them with, and with `differences` two gradients.
    Raises ValueError with one sentence.
    """
    columns = np.random.default_rng(0).standard_normal((2, len(point.theta)))
    u, v = (torch.as_tensor(column / np.linalg.norm(column)).to(point.theta) for column in columns)

    def look(term: _Term, x: Tensor) -> tuple[Map, Tensor, tuple[Tensor, ...]]:
        product = built(term, build)
        Ax = flat(product(list(point.risk.unflatten(x).values())))
        seen = [term.loss, term.outputs, flat(product.made_of)]
        return product, Ax, tuple(part.detach() for part in seen if isinstance(part, Tensor))

    def look_first(term: _Term) -> tuple[Tensor, tuple[Tensor, ...], bool]:
        product, Av, seen = look(term, v)
        require_twice(product.made_of)
        require_no_sum(point.risk.loss, term.outputs, term.targets)
        # In single precision the steps are so wide that they cross kinks.
        return Av, seen, v.dtype == torch.float64 or not operations([term.loss]) & KINKS

    held, hooked, (Av, seen, smooth) = measured(point, batch, size, look_first)
    ((_, Au, again),) = point.fold(
        lambda term: look(term, u), batches=few(point, batch, size), first_only=True, seed=1
    )
    _require_repeatable(seen, again)
    _require_symmetric(u, Au, v, Av)
    if differences and smooth:
        step = float(torch.finfo(u.dtype).eps) ** (1 / 3) * (float(point.theta.norm()) or 1.0)
        (behind,), (ahead,) = (
            point.fold(gradient, leaves=point.leaves(end), batches=few(point, batch, size), first_only=True)
            for end in (point.theta - step * v, point.theta + step * v)
        )
        _require_difference(Av, step, behind, seen[-1], ahead)
    return held, hooked
