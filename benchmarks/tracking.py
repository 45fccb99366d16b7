"""The largest eigenvalue at every step of a training run, to one per cent: hesslab's Tracker beside others.

    python benchmarks/tracking.py [--steps 400]

The run is that of the lesson on the edge of stability: 200 digits, squared error, a tanh network of 4,522
parameters, gradient descent with η = 0.5, float64; λmax rises to 2/η and swings there. Every method sees the
same weights in the same order and is asked for λmax with a residual of at most 1e-2 · λmax. The truth is
ARPACK's at full precision. What counts is the number of Hessian-vector products a step, and the worst error
of the value, relative to the truth, over all steps and over those after the tenth. "Warm" starts from the
vector of the step before. A product costs the same everywhere: all methods multiply with the same Hessian.
"""

import argparse
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, lobpcg
from scipy.sparse.linalg import eigsh as arpack
from torch import nn

from hesslab.curvature import hessian
from hesslab.data import digits
from hesslab.lanczos import eigsh
from hesslab.operators import counted
from hesslab.risk import EmpiricalRisk, mlp
from hesslab.stability import Tracker

RTOL, ETA = 1e-2, 0.5
Look = Callable[[], tuple[float, int]]  # the value and the number of products of one look


def problem() -> tuple[EmpiricalRisk, torch.optim.Optimizer]:
    """The network, its data and its optimizer."""
    x, labels = digits(200, rng=0)
    targets = torch.eye(10, dtype=torch.float64)[torch.tensor(labels)]
    model = mlp((64, 32, 32, 32, 10), gain=0.5, rng=0).double()
    risk = EmpiricalRisk(model, lambda f, t: 5 * nn.functional.mse_loss(f, t), (torch.tensor(x), targets))
    return risk, torch.optim.SGD(model.parameters(), lr=ETA)


def by_tracker(risk: EmpiricalRisk, optimizer: torch.optim.Optimizer) -> Look:
    """As it comes: its searches are counted."""
    tracker = Tracker(risk, optimizer, rtol=RTOL, rng=0)

    def look() -> tuple[float, int]:
        seen = tracker.look()
        assert seen is not None
        return seen.value, seen.num_matvecs

    return look


def solver(solve: Callable[[Any, np.ndarray, int], tuple[float, np.ndarray]], *, warm: bool) -> Any:
    """A method that solves each step on its own, from a random vector or from the one before."""

    def method(risk: EmpiricalRisk, optimizer: torch.optim.Optimizer) -> Look:
        rng, vectors = np.random.default_rng(1), []

        def look() -> tuple[float, int]:
            operator, num_matvecs = counted(hessian(risk, verify=False))
            n = operator.shape[0]
            start = vectors[-1] if warm and vectors else rng.standard_normal(n)
            value, vector = solve(operator, start, len(vectors))
            vectors[:] = [vector]
            return value, num_matvecs()

        return look

    return method


def scipys(operator: Any) -> LinearOperator:
    """The operator in SciPy's own class, one column or several at once."""
    return LinearOperator(
        operator.shape,
        matvec=lambda v: operator @ v.ravel(),
        matmat=lambda V: operator @ V,
        dtype=np.float64,
    )


def own(operator: Any, start: np.ndarray, seed: int) -> tuple[float, np.ndarray]:
    """Lanczos of this library, without a search."""
    pairs = eigsh(operator, 1, rtol=RTOL, start=start, search=False, rng=seed)
    return float(pairs.values[0]), np.asarray(pairs.vectors[:, 0])


def by_arpack(operator: Any, start: np.ndarray, seed: int) -> tuple[float, np.ndarray]:
    """SciPy's eigsh; the tolerance is that of ARPACK, relative to the value."""
    values, vectors = arpack(scipys(operator), k=1, which="LA", tol=RTOL, v0=start)
    return float(values[0]), vectors[:, 0]


def by_lobpcg(operator: Any, start: np.ndarray, seed: int) -> tuple[float, np.ndarray]:
    """SciPy's LOBPCG; its tolerance is absolute, and 2/η is the scale of the values here."""
    values, vectors = lobpcg(scipys(operator), start.reshape(-1, 1), tol=RTOL * 2 / ETA, maxiter=100)
    return float(values[0]), vectors[:, 0]


def by_power(operator: Any, start: np.ndarray, seed: int) -> tuple[float, np.ndarray]:
    """PyHessian's power iteration, written out, with its rule: stop when the value moves little."""
    v, value = start / np.linalg.norm(start), np.inf
    for _ in range(100):
        Av = operator @ v
        before, value = value, float(v @ Av)
        v = Av / np.linalg.norm(Av)
        if abs(value - before) / (abs(before) + 1e-6) < RTOL:
            break
    return value, v


METHODS: dict[str, Any] = {
    "hesslab Tracker": by_tracker,
    "hesslab eigsh, warm, no search": solver(own, warm=True),
    "hesslab eigsh, cold, no search": solver(own, warm=False),
    "ARPACK (scipy), warm": solver(by_arpack, warm=True),
    "ARPACK (scipy), cold": solver(by_arpack, warm=False),
    "LOBPCG (scipy), warm": solver(by_lobpcg, warm=True),
    "power iteration with PyHessian's rule, cold": solver(by_power, warm=False),
    "power iteration with PyHessian's rule, warm": solver(by_power, warm=True),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    risk, optimizer = problem()
    looks = {name: method(risk, optimizer) for name, method in METHODS.items()}
    values: dict[str, list[float]] = {name: [] for name in METHODS}
    prices: dict[str, list[int]] = {name: [] for name in METHODS}
    truth = []
    for step in range(steps):
        optimizer.zero_grad()
        risk.loss(risk.model(risk.data[0]), risk.data[1]).backward()
        optimizer.step()
        start = np.random.default_rng(step).standard_normal(risk.num_parameters)
        H = scipys(counted(hessian(risk, verify=False))[0])
        truth.append(float(arpack(H, k=1, which="LA", v0=start, return_eigenvectors=False)[0]))
        for name, look in looks.items():
            with warnings.catch_warnings(action="ignore"):
                value, num_matvecs = look()
            values[name].append(value)
            prices[name].append(num_matvecs)
    exact = np.array(truth)
    print(
        f"λmax at each of {steps} steps, from {exact[0]:.2f} to {exact[-1]:.2f}, at most {exact.max():.2f}\n"
    )
    print("| method | products a step | worst error | worst after step 10 |\n|---|---|---|---|")
    for name in METHODS:
        errors = np.abs(np.array(values[name]) / exact - 1)
        price = np.mean(prices[name])
        print(f"| {name} | {price:.2f} | {errors.max():.0e} | {errors[10:].max():.0e} |")


if __name__ == "__main__":
    main()
