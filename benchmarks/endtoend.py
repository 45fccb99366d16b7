"""The ten largest eigenvalues of a trained network, from the model to the answer: hesslab beside its peers.

    python benchmarks/endtoend.py [--repeats 5]

The network is an MLP of 8,970 parameters, trained on digits by gradient descent; everything is float32, on
one thread. A run begins with the model and the data and ends with ten values; its price is its CPU time
beside that of hesslab in the same round. Rounds are interleaved, and medians are printed. The truth is
ARPACK's in float64, on products written here. An answer is right where all ten values are within 1e-3 · λ₁
of it. hesslab measures every residual with a fresh product; no peer does that, or looks for what it missed.
"""

import argparse
import copy
import importlib
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import LinearOperator
from scipy.sparse.linalg import eigsh as arpack
from sklearn.datasets import load_digits
from torch import Tensor, nn

from hesslab.curvature import hessian
from hesslab.lanczos import eigsh
from hesslab.risk import EmpiricalRisk, mlp

K, RTOL = 10, 1e-3
Data = tuple[Tensor, Tensor]


def trained() -> tuple[nn.Module, Data]:
    """The network after 300 steps of gradient descent with momentum, and its data."""
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    model = mlp((64, 64, 64, 10), rng=0).float()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(300):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model, (x, y)


def truth(model: nn.Module, data: Data) -> np.ndarray:
    """The ten largest eigenvalues by ARPACK, in float64, without a line of hesslab."""
    model, x = copy.deepcopy(model).double(), data[0].double()
    params = list(model.parameters())
    slopes = torch.autograd.grad(F.cross_entropy(model(x), data[1]), params, create_graph=True)
    flat = torch.cat([g.flatten() for g in slopes])

    def product(v: np.ndarray) -> np.ndarray:
        parts = torch.autograd.grad(flat, params, torch.from_numpy(v.ravel()), retain_graph=True)
        return torch.cat([part.flatten() for part in parts]).numpy()

    H = LinearOperator((len(flat), len(flat)), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(len(flat))
    return np.sort(arpack(H, k=K, which="LA", v0=start, return_eigenvectors=False))[::-1]


def by_hesslab(model: nn.Module, data: Data, seed: int) -> Any:
    """As it comes: self-check, search for missed eigenvalues, measured residuals."""
    H = hessian(EmpiricalRisk(model, nn.CrossEntropyLoss(), data), num_products=60)
    return eigsh(H, K, rtol=RTOL, rng=seed).values


def by_hesslab_found(model: nn.Module, data: Data, seed: int) -> Any:
    """With self-check and measured residuals, without the search."""
    H = hessian(EmpiricalRisk(model, nn.CrossEntropyLoss(), data), num_products=60)
    return eigsh(H, K, rtol=RTOL, search=False, rng=seed).values


def by_pyhessian(model: nn.Module, data: Data, seed: int) -> Any:
    """Deflated power iteration, at most 100 steps an eigenvalue: its defaults, and its tolerance."""
    module = importlib.import_module("pyhessian")
    torch.manual_seed(seed)
    return module.hessian(model, nn.CrossEntropyLoss(), data=data, cuda=False).eigenvalues(tol=RTOL, top_n=K)[
        0
    ]


def by_eigenthings(model: nn.Module, data: Data, seed: int) -> Any:
    """Its HessianOperator and its Lanczos of 100 steps."""
    from hessian_eigenthings import HessianOperator, lanczos, supervised_loss

    H = HessianOperator(model, [data], supervised_loss(F.cross_entropy))
    return lanczos(H, k=K, max_iter=100, tol=RTOL, which="LA", seed=seed).eigenvalues.numpy()


def by_curvlinops(model: nn.Module, data: Data, seed: int) -> Any:
    """Its Hessian through SciPy's ARPACK, as its documentation shows."""
    from curvlinops import HessianLinearOperator

    named = dict(model.named_parameters())
    loss = nn.CrossEntropyLoss()
    try:
        A = HessianLinearOperator(model, loss, list(named.values()), [data])
    except (TypeError, AttributeError):
        A = HessianLinearOperator(model, loss, named, [data])
    H = A.to_scipy()
    start = np.random.default_rng(seed).standard_normal(H.shape[0]).astype(np.float32)
    return arpack(H, k=K, which="LA", tol=RTOL, v0=start, return_eigenvectors=False)


METHODS: dict[str, tuple[str, Callable[[nn.Module, Data, int], Any]]] = {
    "hesslab": ("hesslab", by_hesslab),
    "hesslab, search=False": ("hesslab", by_hesslab_found),
    "PyHessian": ("pyhessian", by_pyhessian),
    "hessian-eigenthings": ("hessian_eigenthings", by_eigenthings),
    "curvlinops + scipy": ("curvlinops", by_curvlinops),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    model, data = trained()
    exact = truth(model, data)
    errors: dict[str, list[float]] = {}
    prices: dict[str, list[float]] = {}
    for seed in range(repeats):
        for name, (module, method) in METHODS.items():
            try:
                importlib.import_module(module)
            except ImportError:
                continue
            with warnings.catch_warnings(action="ignore"):
                begin = time.process_time()
                values = np.sort(np.asarray(method(model, data, seed), dtype=float))[::-1]
                prices.setdefault(name, []).append(time.process_time() - begin)
            errors.setdefault(name, []).append(float(np.max(np.abs(values - exact)) / exact[0]))
            model.train()
            model.zero_grad(set_to_none=True)
    print(f"Ten largest of an MLP of 8,970 parameters, λ₁ = {exact[0]:.4f}, λ₁₀ = {exact[-1]:.4f}\n")
    print("| method | CPU time beside hesslab | worst error / λ₁ | right |\n|---|---|---|---|")
    for name, seconds in prices.items():
        ratio = statistics.median(s / own for s, own in zip(seconds, prices["hesslab"], strict=True))
        right = sum(error <= RTOL for error in errors[name])
        print(f"| {name} | {ratio:.2f} | {max(errors[name]):.0e} | {right}/{repeats} |")
    for name in METHODS.keys() - prices.keys():
        print(f"| {name} | skipped: not installed | | |")


if __name__ == "__main__":
    main()
