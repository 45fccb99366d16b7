"""Products with the Hessian and the GGN: hesslab beside PyHessian, hessian-eigenthings and curvlinops.

    python benchmarks/products.py [--repeats 5] [--steps 30] [--models mlp cnn transformer]

Each engine is set up and walks the same Lanczos of `--steps` products, in float32, on one thread; the price
of a product is the CPU time of both, divided by the number of products and by the CPU time of one gradient.
Repeats are interleaved, and medians are printed. An answer is right where one product agrees with float64 to
1e-3. Attention runs with the math back end for the peers, which do not choose it themselves. Peers that are
not installed are skipped with a line.
"""

import argparse
import copy
import importlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from hesslab.curvature import ggn, hessian
from hesslab.risk import EmpiricalRisk, mlp

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """A network and one batch; the loss is the mean cross-entropy."""

    name: str
    model: nn.Module
    data: tuple[Tensor, Tensor]


class Transformer(nn.Module):
    """A causal language model: 4 layers of width 128, 4 heads, over 64 symbols."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, activation="gelu", batch_first=True)
        self.embedding, self.place = nn.Embedding(64, 128), nn.Parameter(torch.zeros(32, 128))
        self.body = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(128, 64)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of all positions, flat: (batch · length, 64)."""
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        z = self.body(self.embedding(tokens) + self.place, mask=mask, is_causal=True)
        return self.head(z).flatten(0, 1)


def tasks(names: list[str]) -> list[Task]:
    """The three networks of the aims, with weights and data that do not depend on the machine."""
    digits = load_digits()
    x = torch.tensor(digits.data / 16, dtype=torch.float32)
    y = torch.tensor(digits.target)
    conv = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Linear(64, 10)),
    )
    rng = np.random.default_rng(0)
    tokens = torch.from_numpy(rng.integers(64, size=(16, 33)))
    made = {
        "mlp": Task("MLP", mlp((64, 128, 128, 10), rng=0), (x, y)),
        "cnn": Task("CNN", conv, (x[:256], y[:256])),
        "transformer": Task("transformer", Transformer(), (tokens[:, :-1], tokens[:, 1:].flatten())),
    }
    for name in ("cnn", "transformer"):
        with torch.no_grad():
            for p in made[name].model.parameters():
                scale = p[0].numel() ** -0.5 if p.ndim > 1 else 0.1
                p.copy_(torch.from_numpy(rng.standard_normal(tuple(p.shape)) * scale))
    return [made[name] for name in names]


# ----------------------------------------------------------------------------------------- engines


def hesslab_hessian(task: Task, steps: int) -> Product:
    """As it comes, with its self-check."""
    H = hessian(EmpiricalRisk(task.model, nn.CrossEntropyLoss(), task.data), num_products=steps)
    return lambda v: H @ v


def hesslab_ggn(task: Task, steps: int) -> Product:
    """As it comes, with its self-check."""
    G = ggn(EmpiricalRisk(task.model, nn.CrossEntropyLoss(), task.data), num_products=steps)
    return lambda v: G @ v


def pyhessian(task: Task, steps: int) -> Product:
    """Its single-batch mode, which keeps the graph."""
    from pyhessian import hessian as PyHessian
    from pyhessian.utils import hessian_vector_product

    h = PyHessian(task.model, nn.CrossEntropyLoss(), data=task.data, cuda=False)
    sizes = [p.numel() for p in h.params]

    def product(v: Tensor) -> Tensor:
        parts = [part.view(p.shape) for part, p in zip(v.split(sizes), h.params, strict=True)]
        return torch.cat([g.reshape(-1) for g in hessian_vector_product(h.gradsH, h.params, parts)])

    return product


def eigenthings_hessian(task: Task, steps: int) -> Product:
    """hessian-eigenthings' HessianOperator with its default, autograd."""
    from hessian_eigenthings import HessianOperator, supervised_loss

    return HessianOperator(task.model, [task.data], supervised_loss(F.cross_entropy)).matvec


def eigenthings_ggn(task: Task, steps: int) -> Product:
    """hessian-eigenthings' GGNOperator."""
    from hessian_eigenthings import GGNOperator, supervised_forward, supervised_loss_of_output

    loss = supervised_loss_of_output(F.cross_entropy)
    return GGNOperator(task.model, [task.data], supervised_forward, loss).matvec


def curvlinops_with(name: str) -> Callable[[Task, int], Product]:
    """An operator of curvlinops, whose call differs between its releases."""

    def make(task: Task, steps: int) -> Product:
        import curvlinops

        kind, loss = getattr(curvlinops, name), nn.CrossEntropyLoss()
        named = {n: p for n, p in task.model.named_parameters() if p.requires_grad}
        try:
            A = kind(task.model, loss, list(named.values()), [task.data])
        except (TypeError, AttributeError):
            A = kind(task.model, loss, named, [task.data])
        return lambda v: A @ v

    return make


ENGINES: dict[str, dict[str, tuple[str, Callable[[Task, int], Product]]]] = {
    "Hessian": {
        "hesslab": ("hesslab", hesslab_hessian),
        "PyHessian": ("pyhessian", pyhessian),
        "hessian-eigenthings": ("hessian_eigenthings", eigenthings_hessian),
        "curvlinops": ("curvlinops", curvlinops_with("HessianLinearOperator")),
    },
    "GGN": {
        "hesslab": ("hesslab", hesslab_ggn),
        "hessian-eigenthings": ("hessian_eigenthings", eigenthings_ggn),
        "curvlinops": ("curvlinops", curvlinops_with("GGNLinearOperator")),
    },
}


# --------------------------------------------------------------------------------------- measuring


def walk(product: Product, v: Tensor, steps: int) -> None:
    """Lanczos with full reorthogonalization, whose own algebra is small beside the products."""
    basis = torch.zeros(steps, len(v))
    basis[0] = v / v.norm()
    for k in range(steps):
        w = product(basis[k])
        if k + 1 < steps:
            w = w - basis[: k + 1].T @ (basis[: k + 1] @ w)
            basis[k + 1] = w / w.norm()


def cpu_seconds(action: Callable[[], Any]) -> float:
    """CPU time of the process for one call."""
    start = time.process_time()
    action()
    return time.process_time() - start


def gradient(task: Task) -> Callable[[], Any]:
    """One gradient by torch alone, the unit of price."""
    params = list(task.model.parameters())
    return lambda: torch.autograd.grad(F.cross_entropy(task.model(task.data[0]), task.data[1]), params)


def error(task: Task, matrix: str, make: Callable[[Task, int], Product], v: Tensor) -> float:
    """Relative error of one product, against hesslab in float64."""
    model = copy.deepcopy(task.model).double()
    inputs = task.data[0].double() if task.data[0].is_floating_point() else task.data[0]
    double = Task(task.name, model, (inputs, task.data[1]))
    exact = (hesslab_hessian if matrix == "Hessian" else hesslab_ggn)(double, 1)(v.double())
    return float((make(task, 1)(v).double() - exact).norm() / exact.norm())


def measure(task: Task, matrix: str, steps: int, repeats: int) -> dict[str, dict[str, Any]]:
    """Median price of a product and error, by engine."""
    v = torch.from_numpy(
        np.random.default_rng(1).standard_normal(sum(p.numel() for p in task.model.parameters()))
    )
    v = v.float()
    rows: dict[str, dict[str, Any]] = {}
    prices: dict[str, list[float]] = {}
    for name, (module, make) in ENGINES[matrix].items():
        try:
            importlib.import_module(module)
            task.model.train()  # PyHessian leaves it in eval mode
            with sdpa_kernel(SDPBackend.MATH):
                rows[name] = {"error": error(task, matrix, make, v), "make": make}
        except ImportError:
            print(f"{name}: not installed, skipped")
        except Exception as failure:  # a peer that cannot is a row of the table
            rows[name] = {"failure": f"{type(failure).__name__}: {str(failure).splitlines()[0][:60]}"}
    running = {name: row for name, row in rows.items() if "make" in row}
    for _ in range(repeats):
        with sdpa_kernel(SDPBackend.MATH):
            unit = statistics.median(cpu_seconds(gradient(task)) for _ in range(5))
            for name, row in running.items():
                task.model.train()
                seconds = cpu_seconds(lambda make=row["make"]: walk(make(task, steps), v, steps))
                prices.setdefault(name, []).append(seconds / steps / unit)
                task.model.zero_grad(set_to_none=True)
    for name, values in prices.items():
        rows[name]["price"] = statistics.median(values)
    return rows


def table(task: Task, matrix: str, rows: dict[str, dict[str, Any]]) -> str:
    """A Markdown table: price in gradients, ratio to hesslab, error."""
    n = sum(p.numel() for p in task.model.parameters())
    own = rows["hesslab"]["price"]
    lines = [
        f"### {matrix} of the {task.name}, {n:,} parameters",
        "",
        "| engine | gradients a product | beside hesslab | error |",
        "|---|---|---|---|",
    ]
    for name, row in rows.items():
        if "failure" in row:
            lines.append(f"| {name} | – | – | {row['failure']} |")
        else:
            wrong = "" if row["error"] < 1e-3 else ", wrong"
            price = row["price"]
            lines.append(f"| {name} | {price:.2f} | {price / own:.2f} | {row['error']:.0e}{wrong} |")
    return "\n".join(lines)


def main() -> None:
    """Print one table for each network and matrix."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--models", nargs="+", default=["mlp", "cnn", "transformer"])
    parser.add_argument("--matrices", nargs="+", default=list(ENGINES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for task in tasks(options.models):
        for matrix in options.matrices:
            print(table(task, matrix, measure(task, matrix, options.steps, options.repeats)), end="\n\n")


if __name__ == "__main__":
    main()
