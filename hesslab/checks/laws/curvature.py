"""The laws of products with second derivatives of a network's loss.

A product is judged as product(model, loss, batches, v): `model` maps inputs to outputs in float64, `loss` is
a mean over a batch, `batches` a list of (inputs, targets), `v` a flat vector in the order of the parameters;
it returns the matrix times v, flat, for the mean over all examples. K-FAC is judged as kfac(a, g, V). Each
law is a generator for `hesslab.checks.laws.feedback.check`:

    @check
    def check_hvp(hvp, rng):
        yield from hessian_products(hvp, rng)
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hesslab.checks.laws.feedback import Violation, differs
from hesslab.risk import mlp

Batches = list[tuple[Tensor, Tensor]]
Product = Callable[[nn.Module, Any, Batches, Tensor], Any]
Matrix = Callable[["Case"], Tensor]
Mistakes = dict[str, tuple[Any, str]]


@dataclass(frozen=True, eq=False)
class Case:
    """A network and its data: `model` in the mode it is to be judged in, and batches of any sizes."""

    name: str
    model: nn.Module
    batches: Batches
    v: Tensor

    @property
    def sizes(self) -> list[int]:
        """The number of examples in each batch."""
        return [len(x) for x, _ in self.batches]


def hessian_products(product: Product, rng: np.random.Generator) -> Iterator[Violation | None]:
    """H v, H = ∇²L: the value, the weights of uneven batches, and that measuring leaves the model as it was.

    Recognizes a missing `create_graph`, a sum for a mean, batches that are not weighed or forgotten, a model
    switched to train mode, gradients left in `.grad` and parameters that were changed.
    """
    yield from _products(product, rng, hessian, "H v = ∇(∇L · v)", "Differentiate ∇L · v.", _hessian_mistakes)


def ggn_products(product: Product, rng: np.random.Generator) -> Iterator[Violation | None]:
    """G v, G = E[JᵀM J]: as `hessian_products`, and it is neither the Hessian nor JᵀJ.

    Also recognizes the softmax's second derivative without its rank-one part, diag(p) for diag(p) − p pᵀ.
    """
    advice = "Multiply by J, then by the second derivative of the loss in the outputs, then by Jᵀ."
    yield from _products(product, rng, ggn, "G v = Jᵀ(M (J v)), a mean over examples", advice, _ggn_mistakes)


def fisher_products(product: Product, rng: np.random.Generator) -> Iterator[Violation | None]:
    """F v, F = E[Σ_y p(y) g_y g_yᵀ]: as `hessian_products`, and it is not the empirical Fisher.

    Also recognizes classes that are averaged instead of weighed by their probability.
    """
    advice = "The targets come from the model: weigh the gradient at each class by its probability."
    yield from _products(product, rng, ggn, "F v = E[Σ_y p(y) g_y (g_y · v)]", advice, _fisher_mistakes)


def kfac_products(
    kfac: Callable[[Any, Any, Any], Any], rng: np.random.Generator
) -> Iterator[Violation | None]:
    """kfac(a, g, V) = G V A, A = mean of a aᵀ, G = mean of g gᵀ: inputs (N, i), gradients (N, o), V (o, i).

    Recognizes swapped factors, sums for means in one factor or in both, the outer product of a mean for the
    mean of outer products, and the exact block, mean of g (gᵀV a) aᵀ, in the place of the product of two
    means.
    """
    for rows, columns in ((4, 4), (3, 5)):
        a, g, V = (
            torch.from_numpy(rng.standard_normal(s) + 0.3) for s in ((9, columns), (9, rows), (rows, columns))
        )
        A, G = a.T @ a / 9, g.T @ g / 9
        mistakes: Mistakes = {
            "sum-for-mean": (81 * G @ V @ A, "Both factors are means over the examples: divide each by N."),
            "one-sum": (9 * G @ V @ A, "One factor is a sum over the examples: divide it by N."),
            "outer-of-means": (
                torch.outer(g.mean(0), g.mean(0)) @ V @ torch.outer(a.mean(0), a.mean(0)),
                "Take the mean of the outer products, not the outer product of the means.",
            ),
            "not-factored": (
                torch.einsum("no,np,pj,nj,ni->oi", g, g, V, a, a) / 9,
                "This is the exact block; K-FAC takes the mean of a aᵀ and of g gᵀ apart.",
            ),
            "transposed": ((G @ V @ A).T, "Return the shape of V, (outputs, inputs)."),
        }
        if rows == columns:
            mistakes["swapped"] = (
                A @ V @ G,
                "G, of the outputs, stands on the left of V, and A on the right.",
            )
        yield differs(
            kfac(a, g, V),
            G @ V @ A,
            law="(G ⊗ A) vec V = vec(G V A)",
            case=f"a layer with {columns} inputs and {rows} outputs, 9 examples",
            advice="A = mean of a aᵀ, G = mean of g gᵀ, and the product is G V A.",
            mistakes=mistakes,
        )


# ------------------------------------------------------------------------------------- references


def hessian(case: Case) -> Tensor:
    """The dense Hessian of the mean over all examples, from a Jacobian of the gradient."""
    return _mean(case, lambda x, y: _dense(case, lambda z: nn.functional.cross_entropy(z, y), x))


def ggn(case: Case, middle: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """The dense JᵀM J, a mean over examples; `middle` makes M (N, C, C) of probabilities (N, C)."""
    middle = middle or (lambda p: torch.diag_embed(p) - p[:, :, None] * p[:, None, :])

    def one(x: Tensor, y: Tensor) -> Tensor:
        J, z = _jacobian(case, x)
        return torch.einsum("ncp,ncd,ndq->pq", J, middle(z.softmax(1)), J) / len(x)

    return _mean(case, one)


def empirical_fisher(case: Case) -> Tensor:
    """The dense mean of g gᵀ at the targets of the data."""

    def one(x: Tensor, y: Tensor) -> Tensor:
        J, z = _jacobian(case, x)
        g = torch.einsum("ncp,nc->np", J, z.softmax(1) - nn.functional.one_hot(y, z.shape[1]))
        return g.T @ g / len(x)

    return _mean(case, one)


def _mean(case: Case, matrix: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    sizes = case.sizes
    parts = [size * matrix(x, y) for size, (x, y) in zip(sizes, case.batches, strict=True)]
    return torch.stack(parts).sum(0) / sum(sizes)


def _functional(case: Case, x: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The outputs as a function of a flat θ, and θ; buffers are copies."""
    named = {name: p.detach() for name, p in case.model.named_parameters()}
    theta = torch.cat([p.reshape(-1) for p in named.values()])

    def outputs(flat: Tensor) -> Tensor:
        parts = torch.split(flat, [p.numel() for p in named.values()])
        state = {n: part.view(p.shape) for (n, p), part in zip(named.items(), parts, strict=True)}
        state |= {name: b.clone() for name, b in case.model.named_buffers()}
        result: Tensor = torch.func.functional_call(case.model, state, (x,))
        return result

    return outputs, theta


def _jacobian(case: Case, x: Tensor) -> tuple[Tensor, Tensor]:
    outputs, theta = _functional(case, x)
    J: Tensor = torch.autograd.functional.jacobian(outputs, theta)  # type: ignore[no-untyped-call]
    return J, outputs(theta)


def _dense(case: Case, loss: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    outputs, theta = _functional(case, x)
    H: Tensor = torch.autograd.functional.hessian(  # type: ignore[no-untyped-call]
        lambda t: loss(outputs(t)), theta
    )
    return H


# ------------------------------------------------------------------------------------------- laws


def _cases(rng: np.random.Generator) -> Iterator[Case]:
    """One batch; uneven batches; a network with BatchNorm in eval mode."""
    batch_norm = nn.BatchNorm1d(4).double()
    batch_norm.running_mean = torch.from_numpy(rng.standard_normal(4))
    plain = mlp((3, 4, 3), rng=rng).double().eval()
    normed = nn.Sequential(nn.Linear(3, 4).double(), batch_norm, nn.Tanh(), nn.Linear(4, 3).double()).eval()
    for name, model, sizes in (
        ("one batch of 8 examples", plain, [8]),
        ("batches of 7, 2 and 3 examples", plain, [7, 2, 3]),
        ("a network with BatchNorm in eval mode", normed, [8]),
    ):
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(torch.from_numpy(rng.standard_normal(tuple(p.shape))))
        batches = [
            (torch.from_numpy(rng.standard_normal((n, 3))), torch.from_numpy(rng.integers(3, size=n)))
            for n in sizes
        ]
        v = torch.from_numpy(rng.standard_normal(sum(p.numel() for p in model.parameters())))
        yield Case(name, model, batches, v)


def _products(
    product: Product,
    rng: np.random.Generator,
    matrix: Matrix,
    law: str,
    advice: str,
    mistakes: Callable[[Case], Mistakes],
) -> Iterator[Violation | None]:
    for case in _cases(rng):
        known = {**_common_mistakes(case, matrix), **mistakes(case)}
        expected, before = matrix(case) @ case.v, _state(case.model)
        try:
            found = product(case.model, nn.CrossEntropyLoss(), case.batches, case.v.clone())
        except RuntimeError as error:
            yield _explained(error, law, case)
            raise
        if found is None:
            yield Violation("returns-nothing", law, case.name, "None", "The function has no `return`.")
        yield _changed(case.model, before, case.name)
        yield differs(found, expected, law=law, case=case.name, advice=advice, mistakes=known)


def _common_mistakes(case: Case, matrix: Matrix) -> Mistakes:
    """What the usual slips give, each with its advice."""
    product, N = matrix(case) @ case.v, sum(case.sizes)
    alone = [matrix(Case(case.name, case.model, [batch], case.v)) @ case.v for batch in case.batches]
    mistakes: Mistakes = {
        "zeros": (
            0 * product,
            "The gradient was cut from its graph: pass create_graph=True, and do not detach.",
        ),
        "sum-for-mean": (N * product, "This is a sum over the examples: divide by their number."),
        "sign": (-product, "The sign is reversed."),
        "length-lost": (product / case.v.norm(), "You divided v by ‖v‖: the product is that of v itself."),
    }
    if len(alone) > 1:
        mistakes |= {
            "unweighted-batches": (
                torch.stack(alone).mean(0),
                "A mean of batch means gives a small last batch too much weight: weigh each by its examples.",
            ),
            "sum-of-batches": (
                torch.stack(alone).sum(0),
                "The batches are summed: weigh each by its examples, and divide by all of them.",
            ),
            "divided-twice": (product / len(alone), "The weights n_b / N add up to 1: divide no further."),
            "last-batch": (alone[-1], "Only the last batch counts: accumulate over the batches."),
            "first-batch": (alone[0], "Only the first batch counts: go on to the others."),
        }
    if any(isinstance(m, nn.BatchNorm1d) for m in case.model.modules()):
        case.model.train()
        value = matrix(case) @ case.v
        case.model.eval()
        mistakes["train-mode"] = (value, "The model came in eval mode: leave BatchNorm in it.")
    return mistakes


def _hessian_mistakes(case: Case) -> Mistakes:
    return {
        "ggn": (ggn(case) @ case.v, "This is the Gauss–Newton part: the network's own curvature is missing.")
    }


def _ggn_mistakes(case: Case) -> Mistakes:
    identity, diagonal = (ggn(case, middle) @ case.v for middle in (_ones, torch.diag_embed))
    return {
        "hessian": (hessian(case) @ case.v, "This is the Hessian: G leaves the network's own curvature out."),
        "no-loss-curvature": (identity, "This is JᵀJ: the second derivative of the loss stands between."),
        "diagonal-only": (
            diagonal,
            "The softmax's second derivative is diag(p) − p pᵀ: the second part is missing.",
        ),
        "empirical-fisher": (
            empirical_fisher(case) @ case.v,
            "This is the second moment of gradients at the data.",
        ),
    }


def _fisher_mistakes(case: Case) -> Mistakes:
    def uniform(p: Tensor) -> Tensor:
        gaps = torch.eye(p.shape[1], dtype=p.dtype) - p[:, None, :]
        return torch.einsum("nyc,nyd->ncd", gaps, gaps) / p.shape[1]

    return {
        "empirical-fisher": (
            empirical_fisher(case) @ case.v,
            "The targets are those of the data: the Fisher draws them from the model.",
        ),
        "uniform-classes": (
            ggn(case, uniform) @ case.v,
            "Weigh each class by its probability, not all alike.",
        ),
        "hessian": (hessian(case) @ case.v, "This is the Hessian, which can be indefinite; F cannot."),
    }


def _ones(p: Tensor) -> Tensor:
    return torch.eye(p.shape[1], dtype=p.dtype).expand(len(p), -1, -1)


def _explained(error: RuntimeError, law: str, case: Case) -> Violation | None:
    """What torch's usual complaints mean."""
    for part, name, advice in (
        ("does not require grad", "create-graph", "The gradient has no graph: pass create_graph=True."),
        ("second time", "retain-graph", "The graph is used twice: pass retain_graph=True the first time."),
        ("been used in the graph", "graph-cut", "The gradient has lost its graph: pass create_graph=True."),
        ("scalar outputs", "not-a-number", "Differentiate one number: sum the products, g @ v, not g * v."),
    ):
        if part in str(error):
            return Violation(name, law, case.name, f"torch: {str(error)[:80]}", advice)
    return None


def _state(model: nn.Module) -> dict[str, Any]:
    parameters = dict(model.named_parameters())
    return {
        "parameters": {name: p.detach().clone() for name, p in parameters.items()},
        "buffers": {name: b.clone() for name, b in model.named_buffers()},
        "grad": {name: None if p.grad is None else p.grad.clone() for name, p in parameters.items()},
        "mode": [m.training for m in model.modules()],
    }


def _changed(model: nn.Module, before: dict[str, Any], case: str) -> Violation | None:
    """A violation where measuring changed the model."""
    now = _state(model)
    law = "measuring leaves the model as it was"
    advices = {
        "parameters": "Work on copies, or undo every step: the parameters have moved.",
        "mode": "The train or eval mode has changed: leave it, or put it back.",
        "buffers": "BatchNorm's statistics moved: the model ran in train mode.",
        "grad": "Gradients were left in .grad: use torch.autograd.grad, not backward().",
    }
    for name, advice in advices.items():
        if not _equal(before[name], now[name]):
            return Violation(f"{name}-changed", law, case, f"{name} changed", advice)
    return None


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return all(_equal(a[name], b[name]) for name in a)
    return torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else bool(a is b or a == b)
