"""Products, and the true error of each answer, for the ten largest eigenvalues of matrices of known spectrum.

    python benchmarks/eigenvalues.py

Prints a Markdown table. A peer that is not installed is skipped with a line that says so. Every method gets
the same diagonal matrix as a product, in float64, and random starts; a diagonal matrix is as hard as any
other with its spectrum, since the starts are uniform. Errors are relative to max|λ|; the worst of three seeds
is shown, and the median of the products.

Each peer is asked as its documentation shows, but "tolerance" means something else everywhere: ARPACK's,
relative to each eigenvalue, is loosened by max|λ| / λ₁₀; LOBPCG's is absolute, rtol · max|λ|; PyHessian's is
the change of a value between two steps, of at most 100; hessian-eigenthings' is relative to each eigenvalue,
and it gets 100 steps; curvlinops has no eigensolver of its own and documents SciPy's on `.to_scipy()`.
"""

import runpy
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, lobpcg
from scipy.sparse.linalg import eigsh as arpack

from hesslab.lanczos import eigsh
from hesslab.operators import counted

K, SEEDS = 10, 3
SHARED = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "spectra.py"))["SPECTRA"]
SPECTRA = {
    "nine outliers over a heavy tail, n = 9000": SHARED["network"](9000),
    "six of ten within 1e-6, n = 2000": np.concatenate(
        [SHARED["clustered"](6), [0.95, 0.9, 0.85, 0.8], np.linspace(0.7, 0.0, 1990)]
    ),
    "five copies of 3 and three of 2, n = 2000": SHARED["repeated"](2000),
    "indefinite, λmin = -3 λmax, n = 2000": np.concatenate(
        [np.linspace(5.0, 3.0, 10), np.linspace(1.0, -1.0, 1988), [-12.0, -15.0]]
    ),
    "no gap: uniform on [0, 1], n = 2000": np.linspace(1.0, 0.0, 2000),
}

#: Values, products, of them spent looking for missed eigenvalues, and whether the method says it converged.
Answer = tuple[Any, int, int, bool]


def by_hesslab(d: np.ndarray, rtol: float, seed: int) -> Answer:
    """The library of this repository, with its search for missed eigenvalues."""
    pairs = eigsh(sp.diags_array(d), K, rtol=rtol, rng=seed)
    return pairs.values, pairs.num_matvecs, pairs.num_search_matvecs, bool(pairs.converged.all())


def _by_arpack(A: Any, d: np.ndarray, rtol: float, seed: int) -> tuple[Any, bool]:
    start = np.random.default_rng(seed).standard_normal(len(d))
    tol = rtol * np.max(np.abs(d)) / np.sort(d)[-K]
    try:
        return arpack(A, k=K, which="LA", tol=tol, v0=start, return_eigenvectors=False), True
    except ArpackNoConvergence as error:
        return error.eigenvalues, False


def by_arpack(d: np.ndarray, rtol: float, seed: int) -> Answer:
    """ARPACK, implicitly restarted Lanczos."""
    A, count = counted(sp.diags_array(d))
    values, converged = _by_arpack(A, d, rtol, seed)
    return values, count(), 0, converged


def by_lobpcg(d: np.ndarray, rtol: float, seed: int) -> Answer:
    """SciPy's LOBPCG, without a preconditioner."""
    A, count = counted(sp.diags_array(d))
    X = np.random.default_rng(seed).standard_normal((len(d), K))
    tol = rtol * np.max(np.abs(d))
    with warnings.catch_warnings(action="ignore"):
        values, _, history = lobpcg(A, X, largest=True, tol=tol, maxiter=300, retResidualNormsHistory=True)
    return values, count(), 0, bool(np.max(history[-1]) <= tol)


class Quadratic(torch.nn.Module):
    """½ Σ d_i w_i², a model whose Hessian is diag(d)."""

    def __init__(self, d: np.ndarray) -> None:
        super().__init__()
        self.d = torch.from_numpy(d)
        self.w = torch.nn.Parameter(torch.ones(len(d), dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The value, whatever the input."""
        return 0.5 * (self.d * self.w**2).sum().reshape(1, 1) + 0.0 * x


class Output(torch.nn.Module):
    """The loss that is the model's output."""

    reduction = "mean"

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The mean output."""
        return output.mean() + 0.0 * target.mean()


BATCH = (torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64))


def by_pyhessian(d: np.ndarray, rtol: float, seed: int) -> Answer:
    """PyHessian, deflated power iteration: at most 100 steps an eigenvalue, its default."""
    module = import_module("pyhessian.hessian")
    torch.manual_seed(seed)
    original, total = module.hessian_vector_product, 0

    def counting(*arguments: Any) -> Any:
        nonlocal total
        total += 1
        return original(*arguments)

    module.hessian_vector_product = counting
    try:
        with warnings.catch_warnings(action="ignore"):
            H = module.hessian(Quadratic(d), Output(), data=BATCH, cuda=False)
        values, _ = H.eigenvalues(tol=rtol, top_n=K)
    finally:
        module.hessian_vector_product = original
    return values, total, 0, True


def by_eigenthings(d: np.ndarray, rtol: float, seed: int) -> Answer:
    """Lanczos of hessian-eigenthings, with 100 steps."""
    from hessian_eigenthings import LambdaOperator, lanczos

    native, total = torch.from_numpy(d), 0

    def product(v: torch.Tensor) -> torch.Tensor:
        nonlocal total
        total += 1
        return native * v

    found = lanczos(
        LambdaOperator(product, len(d), dtype=torch.float64),
        k=K,
        max_iter=100,
        tol=rtol,
        which="LA",
        seed=seed,
    )
    return found.eigenvalues.numpy(), total, 0, bool(found.converged.all())


def by_curvlinops(d: np.ndarray, rtol: float, seed: int) -> Answer:
    """The Hessian of curvlinops, through SciPy."""
    from curvlinops import HessianLinearOperator

    model = Quadratic(d)
    H = HessianLinearOperator(model, Output(), [model.w], [BATCH], check_deterministic=False).to_scipy()
    A, count = counted(LinearOperator(H.shape, matvec=H.matvec, dtype=np.float64))
    values, converged = _by_arpack(A, d, rtol, seed)
    return values, count(), 0, converged


METHODS = {
    "hesslab": by_hesslab,
    "ARPACK (scipy eigsh)": by_arpack,
    "LOBPCG (scipy)": by_lobpcg,
    "PyHessian": by_pyhessian,
    "hessian-eigenthings": by_eigenthings,
    "curvlinops + scipy": by_curvlinops,
}


def row(name: str, d: np.ndarray, rtol: float) -> str:
    """Medians over seeds; the worst error; right values at worst; and how often it said converged."""
    truth, size = np.sort(d)[::-1][:K], np.max(np.abs(d))
    runs = [METHODS[name](d, rtol, seed) for seed in range(SEEDS)]
    found = [np.sort(np.append(np.asarray(run[0]), np.full(K, -np.inf)))[::-1][:K] for run in runs]
    errors = np.abs(np.array(found) - truth) / size
    products, search = (int(np.median([run[i] for run in runs])) for i in (1, 2))
    price = f"{products - search} + {search}" if search else str(products)
    right, said = np.min(np.sum(errors <= rtol, axis=1)), sum(run[3] for run in runs)
    return f"| {name} | {rtol:.0e} | {price} | {np.max(errors):.0e} | {right}/{K} | {said}/{SEEDS} |"


def table() -> Iterator[str]:
    """The lines of the table, spectrum by spectrum."""
    for title, d in SPECTRA.items():
        yield f"\n{title}\n"
        yield "| method | rel. residual | products (+ search) | worst error | right | says converged |"
        yield "|---|---|---|---|---|---|"
        for name in METHODS:
            try:
                yield from [row(name, d, rtol) for rtol in (1e-3, 1e-6)]
            except ImportError as error:
                yield f"| {name} | skipped: {error.name or error} is not installed | | | | |"


if __name__ == "__main__":
    for line in table():
        print(line, flush=True)
