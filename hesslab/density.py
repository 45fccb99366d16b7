"""The spectral density: Lanczos runs on random vectors are quadratures, with bands.

The spectral measure of A, symmetric of shape (n, n), is μ = (1/n) Σ δ(λ_i): the histogram of its
eigenvalues with infinitely fine bins, of total mass 1. For a unit vector v, Lanczos' tridiagonal T = S
diag(θ) Sᵀ, (k, k), is a Gauss quadrature of vᵀf(A) v,

    vᵀf(A) v ≈ e₁ᵀf(T) e₁ = Σ_j w_j f(θ_j),   w_j = (first component of eigenvector j)²,

exact for polynomials to degree 2k − 1 (Golub & Meurant 2010, §6.2). For v uniform on the sphere its mean is
∫ f dμ, and its variance is (2/n) E[∫ f² − (∫ f)²], both integrals by the same weights: every probe knows
its own error (`probes` says why). Three errors stay apart: of probes (`stderr`), of steps (`bias`), and
smoothing, which never comes without its width. Ubaru, Chen & Saad, SIAM J. Matrix Anal. Appl. 38 (2017)
1075, §3.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal

from hesslab.lanczos import tridiagonalize
from hesslab.operators import Operator, counted, generator
from hesslab.trace import Estimate

Values = NDArray[np.float64]
Run = tuple[Values, Values, float]  # α (k,), β (k - 1,) and β_k of one Lanczos run


@dataclass(frozen=True, eq=False)
class SpectralMeasure:
    """The eigenvalues of A as a distribution of mass 1, seen from several random vectors.

    Fields: `nodes` and `weights`, (num_probes, k), the raw quadrature of each probe: nodes ascend, weights
    add up to 1, and a run that ended early repeats its last node with weight 0; `num_matvecs`; `dimension`
    n; `runs`, α, β and β_k of each Lanczos run; `precision`, the rounding unit of the products.

    >>> import numpy as np
    >>> measure = slq(np.diag(np.arange(1000.0)), num_steps=30, num_probes=4, rng=0)
    >>> measure.integrate(lambda x: x**2)  # the mean squared eigenvalue
    336000 ± 7000 (120 matvecs)
    """

    nodes: Values
    weights: Values
    num_matvecs: int
    dimension: int
    runs: tuple[Run, ...] = field(repr=False)
    precision: float = field(repr=False)

    def integrate(self, f: Callable[[Values], Values]) -> Estimate:
        """∫ f dμ = tr f(A) / n, the mean of f over the eigenvalues; f maps an array to one of the same shape.

        `bias` is the change of the quadrature in its last step, averaged over probes: a guide, not a bound;
        for an f with jumps use `mass`. Costs no products. Raises ValueError where f is not finite on a
        node.
        """
        changes = [abs(after - before) for after, before in self._last_step(lambda x: _finite(f, x))]
        return _scalar(self._averaged(_finite(f, self.nodes)[..., None], np.mean(changes)))

    def mass(self, a: float, b: float) -> Estimate:
        """The fraction of eigenvalues in [a, b], between the tightest bounds that the moments allow.

        Each probe's distribution function at a point lies between two sums of the quadrature that has a
        node there (Chebyshev, Markov, Stieltjes: Golub & Meurant 2010, §6.2). `samples` are the middles of
        these brackets; `bias` is half their mean width, which closes exponentially with the steps where the
        point lies in a gap, and never where it is itself an eigenvalue. Costs no products. Raises
        ValueError unless a < b.
        """
        if not a < b:
            raise ValueError(f"a = {a}, b = {b}; expected a < b, the ends of an interval")
        (low_a, high_a), (low_b, high_b) = (np.array([_below(run, x) for run in self.runs]).T for x in (a, b))
        lower, upper = np.maximum(low_b - high_a, 0.0), np.minimum(high_b - low_a, 1.0)
        inside = ((lower + upper) / 2)[:, None]
        square = inside * (1.0 - inside)
        fourth = square * ((1.0 - inside) ** 3 + inside**3)
        return _scalar(self._estimate(inside, square, fourth, max(float(np.mean(upper - lower)) / 2, 0.0)))

    def density(self, grid: Any, width: float) -> Estimate:
        """The density of μ on `grid`, (g,), each eigenvalue a Gaussian of standard deviation `width`.

        `value`, `stderr` and `bias` are arrays (g,), and `interval()` is the band, point by point; where
        `width` is finer than the steps resolve, `bias` widens it. In units of 1/A. Costs no products.
        Raises ValueError unless `width` > 0.
        """
        if not width > 0.0:
            raise ValueError(f"width = {width}; expected the positive standard deviation of a Gaussian")
        x = np.asarray(grid, dtype=np.float64)

        def kernel(nodes: Values) -> Values:
            z = (nodes[..., None] - x) / width
            return np.exp(-(z**2) / 2.0) / (width * math.sqrt(2.0 * math.pi))

        changes = [abs(after - before) for after, before in self._last_step(kernel)]
        return self._averaged(kernel(self.nodes), np.mean(changes, axis=0))

    def _last_step(self, f: Callable[[Values], Values]) -> list[tuple[Any, Any]]:
        """∫ f by each run, and by the run without its last step; the same twice where the run is complete."""
        pairs = []
        for alpha, beta, after in self.runs:
            last = len(alpha) - (after > 0.0)
            (nodes, weights), (fewer, heavier) = _gauss(alpha, beta), _gauss(alpha[:last], beta[: last - 1])
            pairs.append((np.tensordot(weights, f(nodes), axes=1), np.tensordot(heavier, f(fewer), axes=1)))
        return pairs

    def _averaged(self, values: Values, bias: Any) -> Estimate:
        """Integrals of g functions whose values on the nodes are (num_probes, k, g)."""
        w = self.weights[..., None]
        means = np.sum(w * values, axis=1)
        square = np.sum(w * (values - means[:, None]) ** 2, axis=1)
        fourth = np.sum(w * (values - means.mean(axis=0)) ** 4, axis=1)
        return self._estimate(means, square, fourth, bias)

    def _estimate(self, means: Values, square: Values, fourth: Values, bias: Any) -> Estimate:
        """From each probe's mean, variance and fourth moment of f by its own weights, (num_probes, g)."""
        k, n = len(means), self.dimension
        own = np.maximum(square.mean(axis=0), 0.0)
        size = np.sqrt(own + np.mean(means**2, axis=0))
        stderr = np.maximum(np.sqrt(2.0 * own / n / k), self.precision * math.sqrt(n) * size)
        scale = np.maximum(own, (self.precision * size) ** 2 + 1e-150)  # below it, all is rounding
        alike = np.clip(fourth.mean(axis=0) / scale / scale / n, 1.0 / n, 1.0)
        spread = np.var(square / scale, axis=0, ddof=1) / 2.0 if k > 1 else 0.0
        dof = k / np.maximum(alike, spread)
        return Estimate(means.mean(axis=0), stderr, self.num_matvecs, means, dof, bias)


def slq(A: Any, *, num_steps: int, num_probes: int, rng: int | np.random.Generator) -> SpectralMeasure:
    """Stochastic Lanczos quadrature: the spectral measure of A, seen from random vectors.

    Each of `num_probes` vectors, uniform on the sphere, gets `num_steps` Lanczos steps with full
    reorthogonalization; fewer where the Krylov space closes, and then its quadrature is exact. Costs at
    most `num_steps` · `num_probes` products and O(n `num_steps`) memory. An interrupt returns the probes
    that are complete. Raises ValueError for fewer than two steps or one probe, and as `tridiagonalize`
    does.

    >>> import numpy as np
    >>> spectrum = np.concatenate([[10.0, 5.0, 2.0], np.linspace(0.0, 0.01, 997)])
    >>> slq(np.diag(spectrum), num_steps=30, num_probes=8, rng=0).mass(-0.1, 0.1)
    0.9954 ± 0.0011 (240 matvecs)
    """
    for name, number, least in (("num_steps", num_steps, 2), ("num_probes", num_probes, 1)):
        if number < least:
            raise ValueError(f"{name} = {number}; expected at least {least}: give a larger {name}")
    operator, num_matvecs = counted(A)
    rng, runs = generator(rng), []
    try:
        for _ in range(num_probes):
            runs.append(_run(operator, num_steps, rng))
    except KeyboardInterrupt:
        if not runs:
            raise
    rules = [_gauss(alpha, beta) for alpha, beta, _ in runs]
    k = max(len(nodes) for nodes, _ in rules)
    nodes = np.array([np.pad(nodes, (0, k - len(nodes)), mode="edge") for nodes, _ in rules])
    weights = np.array([np.pad(weights, (0, k - len(weights))) for _, weights in rules])
    precision = float(np.finfo(operator.dtype).eps)
    return SpectralMeasure(nodes, weights, num_matvecs(), operator.shape[0], tuple(runs), precision)


def _run(operator: Operator, num_steps: int, rng: np.random.Generator) -> Run:
    lanczos = tridiagonalize(operator, operator.normal(1, rng)[:, 0], num_steps)
    return lanczos.alpha, lanczos.beta, lanczos.beta_next


def _gauss(alpha: Values, beta: Values) -> tuple[Values, Values]:
    """Nodes and weights of the Gauss quadrature with the diagonal α and off-diagonal β."""
    nodes, S = eigh_tridiagonal(alpha, beta)
    return nodes, S[0, :] ** 2


def _below(run: Run, x: float) -> tuple[float, float]:
    """Bounds of the distribution function at x: the mass below x at least, the mass up to x at most.

    The quadrature with one more node, put at x (Golub 1973): the last α is x + β_k² / d_k, where d_k is the
    last pivot of T − x I.
    """
    alpha, beta, after = run
    scale = float(np.max(np.abs(alpha)) + np.max(beta, initial=0.0) + after)
    far = max(1e3 * scale, np.finfo(float).tiny)
    x = float(np.clip(x, -far, far))
    nodes, weights = _gauss(alpha, beta)
    if after > 0.0:
        pivot = alpha[0] - x
        for a, b in zip(alpha[1:], beta, strict=True):
            pivot = a - x - b**2 / (pivot or np.finfo(float).eps * scale)
        pivot = math.copysign(max(abs(pivot), np.finfo(float).eps * scale), pivot)
        nodes, weights = _gauss(np.append(alpha, x + after**2 / pivot), np.append(beta, after))
    at = np.abs(nodes - x) <= 1e-12 * scale
    at[np.argmin(np.abs(nodes - x))] |= after > 0.0
    return float(weights[(nodes < x) & ~at].sum()), float(weights[(nodes < x) | at].sum())


def _finite(f: Callable[[Values], Values], nodes: Values) -> Values:
    with np.errstate(all="ignore"):
        values = np.asarray(f(nodes), dtype=np.float64)
    if values.shape != nodes.shape:
        raise ValueError(f"f answered shape {values.shape}; expected {nodes.shape}, one value for each node")
    if not np.all(np.isfinite(values)):
        node = nodes[~np.isfinite(values)][0]
        raise ValueError(
            f"f is not finite at the node {node:.3g}; expected an f defined on the whole spectrum"
        )
    return values


def _scalar(estimate: Estimate) -> Estimate:
    """The Estimate of the only function among one."""
    value, stderr, dof = (float(x[0]) for x in (estimate.value, estimate.stderr, estimate.dof))
    bias, samples = float(estimate.bias), estimate.samples[:, 0]
    return replace(estimate, value=value, stderr=stderr, dof=dof, bias=bias, samples=samples)
