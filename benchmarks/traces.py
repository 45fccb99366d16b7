"""Products to a trace within 1 %, and the mass of a bulk beside outliers: hesslab and its peers, in Markdown.

    python benchmarks/traces.py [--seeds 11]

The matrix has the network-like spectrum of `tests/spectra.py`, 9,000 eigenvalues, in the basis of a Hartley
transform with random signs: no coordinate is special, and a product is two fast transforms, in NumPy and in
torch. A peer that is not installed is skipped with a line.
"""

import argparse
import runpy
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
from scipy.sparse.linalg import aslinearoperator

from hesslab import trace
from hesslab.density import slq
from hesslab.operators import Operator

SPECTRA = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "spectra.py"))["SPECTRA"]
GRID = [4, 6, 9, 12, 15, 18, 21, 24, 27, 30, 36, 42, 48, 60, 90, 120, 180, 300, 600]
SIZE = 9000


class Rotated:
    """S H diag(values) H S, H Hartley's transform and S signs: a basis where no coordinate is special."""

    def __init__(self, values):
        rng = np.random.default_rng(0)
        self.n, self.values = len(values), rng.permutation(values)
        self.signs = rng.integers(0, 2, self.n) * 2.0 - 1.0

    def _transform(self, fft, x):
        z = fft(x)
        return (z.real - z.imag) / self.n**0.5

    def numpy(self, X):
        """A X for X of shape (n, k)."""
        spectrum = self._transform(lambda x: np.fft.fft(x, axis=0), self.signs[:, None] * X)
        return self.signs[:, None] * self._transform(
            lambda x: np.fft.fft(x, axis=0), self.values[:, None] * spectrum
        )

    def torch(self, x):
        """A x for a torch vector."""
        torch = import_module("torch")
        signs, values = (
            torch.as_tensor(self.signs, dtype=x.dtype),
            torch.as_tensor(self.values, dtype=x.dtype),
        )
        return signs * self._transform(torch.fft.fft, values * self._transform(torch.fft.fft, signs * x))


def ours(matrix):
    """Our estimators, by name: functions of a budget and a seed."""
    A = Operator((matrix.n,) * 2, np.dtype(float), matrix.numpy, np.empty(0))
    names = {"hutchinson": trace.hutchinson, "hutchpp": trace.hutchpp, "xtrace": trace.xtrace}
    return {f"hesslab {k}": (lambda m, s, f=f: f(A, max_matvecs=m, rng=s).value) for k, f in names.items()}


def curvlinops(matrix):
    """The estimators of curvlinops."""
    import torch
    from curvlinops import hutchinson_trace, hutchpp_trace, xtrace

    class Matrix:
        shape, device, dtype = (matrix.n, matrix.n), torch.device("cpu"), torch.float64

        def __matmul__(self, X):
            return torch.from_numpy(matrix.numpy(X.numpy()))

    def seeded(f, divisor):
        def run(m, s):
            torch.manual_seed(s)
            return float(f(Matrix(), max(m // divisor, 1) * divisor))

        return run

    functions = {"hutchinson": (hutchinson_trace, 1), "hutchpp": (hutchpp_trace, 3), "xtrace": (xtrace, 2)}
    return {f"curvlinops {k}": seeded(*f) for k, f in functions.items()}


def eigenthings(matrix):
    """The estimators of hessian-eigenthings."""
    import torch
    from hessian_eigenthings.algorithms.trace import trace as estimate
    from hessian_eigenthings.operators.base import LambdaOperator

    A = LambdaOperator(matrix.torch, matrix.n, dtype=torch.float64)
    return {
        f"hessian-eigenthings {method}": (
            lambda m, s, method=method: estimate(A, num_matvecs=m, method=method, seed=s).estimate
        )
        for method in ("hutchinson", "hutch++")
    }


def pyhessian(matrix):
    """The estimator of PyHessian, on a loss with this matrix as its Hessian, without its stopping rule."""
    import torch
    from pyhessian import hessian

    class Quadratic(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.theta = torch.nn.Parameter(torch.zeros(matrix.n, dtype=torch.float64))

        def forward(self, inputs):
            return self.theta @ matrix.torch(self.theta) / 2

    H = hessian(
        Quadratic(), lambda outputs, targets: outputs, data=(torch.zeros(1), torch.zeros(1)), cuda=False
    )

    def run(m, s):
        torch.manual_seed(s)
        return float(np.mean(H.trace(maxIter=m, tol=-1.0)))

    return {"PyHessian hutchinson": run}


def products_to_one_percent(estimator, right, seeds):
    """The least budget of GRID from which the median relative error stays at 1 % or below, and that error."""
    best = None
    for m in reversed(GRID):
        try:
            error = np.median([abs(estimator(m, s) / right - 1.0) for s in range(seeds)])
        except ValueError:
            break
        if error > 0.01:
            break
        best = m, error
    return f"{best[0]} | {100 * best[1]:.2f} %" if best else f"> {GRID[-1]} | –"


def masses():
    """The mass in [−0.005, 0.015] of a spectrum of 10, 5, 2 and a bulk of 99.7 % in [0, 0.01]; n = 1,000."""
    matrix = Rotated(SPECTRA["two_scales"](1000))
    A = Operator((1000, 1000), np.dtype(float), matrix.numpy, np.empty(0))
    for steps, runs in ((10, 2), (20, 4), (80, 10)):
        found = slq(A, num_steps=steps, num_probes=runs, rng=0).mass(-0.005, 0.015)
        lower, upper = found.interval()
        yield f"hesslab slq, {steps} steps, {runs} probes", f"{found.value:.4f} in [{lower:.4f}, {upper:.4f}]"
    yield from _peer_masses(matrix)


def _peer_masses(matrix):
    import torch

    def window(grid, density):
        grid, density = np.asarray(grid, dtype=float), np.asarray(density, dtype=float)
        fine = np.linspace(-0.005, 0.015, 2001)
        return f"{np.trapezoid(np.interp(fine, grid, density), fine) / np.trapezoid(density, grid):.4f}"

    try:
        from hessian_eigenthings.algorithms.spectral_density import spectral_density
        from hessian_eigenthings.operators.base import LambdaOperator

        result = spectral_density(LambdaOperator(matrix.torch, matrix.n, dtype=torch.float64), seed=0)
        yield "hessian-eigenthings, 80 steps, 10 probes", window(result.grid, result.density)
    except ImportError:
        yield "hessian-eigenthings", "not installed"
    try:
        from curvlinops import lanczos_approximate_spectrum

        class Matrix:
            shape, device, dtype = (matrix.n, matrix.n), torch.device("cpu"), torch.float64

            def __matmul__(self, x):
                return matrix.torch(x)

            def to_scipy(self):
                return aslinearoperator(Operator(self.shape, np.dtype(float), matrix.numpy, np.empty(0)))

        torch.manual_seed(0)
        grid, density = lanczos_approximate_spectrum(Matrix(), 80, num_repeats=10, boundaries=(0.0, 10.0))
        yield "curvlinops, 80 steps, 10 probes", window(grid, density)
    except ImportError:
        yield "curvlinops", "not installed"


def main():
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=11)
    seeds = parser.parse_args().seeds
    warnings.simplefilter("ignore")
    values = SPECTRA["network"](SIZE)
    matrix = Rotated(values)
    print(f"Products to a trace within 1 % (median of {seeds} seeds), {SIZE} eigenvalues, network-like\n")
    print("| estimator | products | median error |\n|---|---|---|")
    for peer in (ours, curvlinops, eigenthings, pyhessian):
        try:
            estimators = peer(matrix)
        except ImportError as error:
            print(f"| {peer.__name__} | skipped: {error} | |")
            continue
        for name, estimator in estimators.items():
            print(f"| {name} | {products_to_one_percent(estimator, values.sum(), seeds)} |", flush=True)
    print("\nMass in [−0.005, 0.015]; the truth is 0.9970\n\n| estimator | mass |\n|---|---|")
    for name, found in masses():
        print(f"| {name} | {found} |", flush=True)


if __name__ == "__main__":
    main()
