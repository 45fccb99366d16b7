"""Checks of lesson 09, architecture and initialization: six answers on fresh instances, the exit ticket."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hesslab.checks.laws.feedback import Violation, check, compare
from hesslab.checks.laws.ticket import Question
from hesslab.matrices import with_spectrum

Vector = NDArray[np.float64]
Laws = Iterator[Violation | None]
Answer = Callable[..., Any]
Mistakes = dict[str, tuple[Any, str]]


def _apart(mistakes: Mistakes, right: Any) -> Mistakes:
    """The mistakes whose value is not the right one in this case."""
    scale = np.abs(right).max() + 1e-300
    return {
        name: pair
        for name, pair in mistakes.items()
        if np.shape(pair[0]) != np.shape(right) or np.abs(np.subtract(pair[0], right)).max() > 1e-3 * scale
    }


@check
def check_signal_growth(growth: Answer, rng: np.random.Generator) -> Laws:
    """The factor (1 + s²)^L by which the mean square grows."""
    for depth, scale in ((3, 0.4), (7, 1.0), (12, float(rng.uniform(0.2, 0.6))), (5, 0.0), (16, 0.25)):
        right = (1 + scale**2) ** depth
        wrong: Mistakes = {
            "not-squared": ((1 + scale) ** depth, "The squares add: the branch has the size s², not s."),
            "aligned": ((1 + scale) ** (2 * depth), "Lengths add only along one line: here the squares add."),
            "no-brackets": (1 + scale ** (2 * depth), "Brackets: the power is one of the whole 1 + s²."),
            "linear": (
                1 + depth * scale**2,
                "Each block multiplies what the last one left: no sum.",
            ),
            "no-skip": (scale ** (2 * depth), "x itself goes on beside the branch: 1 + s², not s²."),
            "amplitude": (
                (1 + scale**2) ** (depth / 2),
                "This is the growth of the length; asked for is its square.",
            ),
            "one-less": ((1 + scale**2) ** (depth - 1), "One block too few: L blocks, L factors."),
            "one-more": ((1 + scale**2) ** (depth + 1), "One block too many: L blocks, L factors."),
        }
        case, advice = f"L = {depth}, s = {scale:.3g}", "Return (1 + s²) to the power L."
        yield compare(
            growth(depth, scale), right, _apart(wrong, right), "q_L / q₀ = (1 + s²)^L", case, advice, 2
        )


@check
def check_branch_scale(branch_scale: Answer, rng: np.random.Generator) -> Laws:
    """The scale at which L blocks multiply the mean square by `most`."""
    for depth, most in ((3, 6.0), (10, float(np.e)), (1, 5.0), (20, float(rng.uniform(3, 9))), (3, 1.5)):
        right = (most ** (1 / depth) - 1) ** 0.5
        wrong: Mistakes = {
            "no-root": (right**2, "This is s². Take its root."),
            "rule-of-thumb": (depth**-0.5, "1/√L lets q grow up to e-fold. Here another limit is given."),
            "logarithm": (
                (np.log(most) / depth) ** 0.5,
                "This is the limit for many blocks, from ln(1 + s²) ≈ s². Take the root exactly.",
            ),
            "shared-evenly": (
                ((most - 1) / depth) ** 0.5,
                "The growth is a power, not a sum: take the L-th root.",
            ),
            "no-one": (most ** (0.5 / depth), "s² = most^(1/L) forgets the 1, which is the skip itself."),
            "no-brackets": (abs(most / depth - 1) ** 0.5, "Brackets: most to the power (1/L), not most/L."),
            "amplitude": ((most ** (2 / depth) - 1) ** 0.5, "`most` limits the mean square, not the length."),
            "one-over-depth": (1 / depth, "1/L is the rule for branches with a mean. These have mean zero."),
            "not-per-block": ((most - 1) ** 0.5, "This is for one block. There are L of them."),
        }
        case, advice = f"L = {depth}, most = {most:.3g}", "Solve (1 + s²)^L = most for s."
        yield compare(
            branch_scale(depth, most), right, _apart(wrong, right), "(1 + s²)^L = most", case, advice, 2
        )


@check
def check_batch_norm(batch_norm: Answer, rng: np.random.Generator) -> Laws:
    """BatchNorm in train and in eval mode, with a large ε and few examples, so that each detail shows."""
    for examples, training, eps in ((5, True, 0.3), (7, False, 0.3), (3, True, 1e-5), (3, False, 1e-5)):
        Z, mean = rng.normal(2.0, 1.5, (examples, 3)), rng.normal(-1.0, 1.0, 3)
        gamma, beta, var = rng.uniform(1.5, 2.5, 3), rng.uniform(1.0, 2.0, 3), rng.uniform(2.0, 4.0, 3)
        yield _norm_law(batch_norm, (Z, gamma, beta, mean, var), training, eps)


def _norm_law(batch_norm: Answer, arrays: tuple[Vector, ...], training: bool, eps: float) -> Violation | None:
    Z, gamma, beta, mean, var = arrays
    batch, running = (Z.mean(axis=0), Z.var(axis=0)), (mean, var)
    m, v = batch if training else running
    other = running if training else batch
    right = gamma * (Z - m) / np.sqrt(v + eps) + beta
    rows = Z.mean(axis=1, keepdims=True), Z.var(axis=1, keepdims=True)
    wrong: Mistakes = {
        "wrong-mode": (
            gamma * (Z - other[0]) / np.sqrt(other[1] + eps) + beta,
            "Train mode takes the statistics of the batch, eval mode the running ones. These are swapped.",
        ),
        "no-eps": (gamma * (Z - m) / np.sqrt(v) + beta, "ε is missing."),
        "eps-outside": (gamma * (Z - m) / (np.sqrt(v) + eps) + beta, "ε belongs under the root."),
        "no-root": (
            gamma * (Z - m) / (v + eps) + beta,
            "Divide by the standard deviation, not the variance.",
        ),
        "no-affine": ((Z - m) / np.sqrt(v + eps), "γ and β are missing."),
        "no-beta": (gamma * (Z - m) / np.sqrt(v + eps), "β is missing."),
    }
    if training:
        wrong |= {
            "unbiased": (
                gamma * (Z - m) / np.sqrt(Z.var(axis=0, ddof=1) + eps) + beta,
                "The variance of train mode is the plain mean of squares: n below the line, not n − 1.",
            ),
            "each-example": (
                gamma * (Z - rows[0]) / np.sqrt(rows[1] + eps) + beta,
                "Statistics of each example over its units: that is LayerNorm. Take them over the batch.",
            ),
            "all-together": (
                gamma * (Z - Z.mean()) / np.sqrt(Z.var() + eps) + beta,
                "One mean for all units: each unit has its own.",
            ),
        }
    law = "γ (z − μ)/√(v + ε) + β"
    case = f"{len(Z)} examples, 3 units, {'train' if training else 'eval'} mode, ε = {eps:g}"
    advice = "In train mode μ and v are mean and variance over axis 0; in eval mode the running ones."
    found = batch_norm(Z.copy(), gamma, beta, mean, var, training, eps)
    return compare(found, right, _apart(wrong, right), law, case, advice, 3, tolerance=1e-6)


@check
def check_ggn_zeros(ggn_zeros: Answer, rng: np.random.Generator) -> Laws:
    """The guaranteed zeros of the Gauss–Newton matrix, by counting."""
    n = int(rng.integers(11, 30))
    for p, examples, classes, loss in (
        (1210, 20, 10, "cross-entropy"),
        (1210, n, 7, "squared error"),
        (100, 60, 3, "cross-entropy"),
        (100, 60, 3, "squared error"),
        (5000, n, 4, "cross-entropy"),
    ):
        yield _zeros_law(ggn_zeros, p, examples, classes, loss)


def _zeros_law(ggn_zeros: Answer, p: int, n: int, classes: int, loss: str) -> Violation | None:
    entropy = loss == "cross-entropy"
    each, other = (classes - 1, classes) if entropy else (classes, classes - 1)
    right = max(0, p - n * each)
    wrong: Mistakes = {
        "negative": (
            p - n * each,
            "A number of eigenvalues is not negative: with n large there is no zero left.",
        ),
        "other-loss": (
            max(0, p - n * other),
            "Cross-entropy gives each example rank C − 1, the squared error rank C. These are swapped.",
        ),
        "one-an-example": (max(0, p - n), "An example has C outputs, not one."),
        "rank": (min(p, n * each), "This bounds the rank. The zeros are the rest."),
        "classes-alone": (max(0, p - each), "Each of the n examples adds its own C or C − 1 directions."),
    }
    law = "zeros ≥ p − rank"
    case = f"p = {p}, n = {n}, C = {classes}, {loss}"
    advice = "The rank is at most n(C − 1) for cross-entropy and nC for the squared error."
    found = ggn_zeros(p, n, classes, loss)
    return compare(found, right, _apart(wrong, right), law, case, advice, 6, tolerance=1e-9)


@check
def check_loss_bound(loss_bound: Answer, rng: np.random.Generator) -> Laws:
    """The worst loss after some steps of a model that is linear in its weights, from its Jacobian."""
    for rows, columns, n, share in ((6, 20, 3, 1.0), (8, 30, 4, 0.3), (6, 15, 2, 1.95), (5, 40, 5, 2.02)):
        values = np.geomspace(0.3, float(rng.uniform(2.0, 4.0)), rows)
        left = np.linalg.qr(rng.standard_normal((rows, rows)))[0]
        right = np.linalg.qr(rng.standard_normal((columns, rows)))[0]
        J = (left * np.sqrt(n * values)) @ right.T  # K = J Jᵀ / n has these eigenvalues
        yield _bound_law(loss_bound, J, n, values, share / values[-1], int(rng.integers(4, 9)))


def _bound_law(
    loss_bound: Answer, J: Vector, n: int, values: Vector, eta: float, steps: int
) -> Violation | None:
    first = 2.5

    def left(lam: Any, power: int = 2 * steps) -> float:
        return float(first * np.max(np.abs(1 - eta * np.asarray(lam))) ** power)

    right = left(values)
    wrong: Mistakes = {
        "of-the-zeros": (
            left([0.0, *values]),
            "The p × p matrix JᵀJ has zeros, which no residual feels. Take the kernel JJᵀ/n.",
        ),
        "no-mean": (left(n * values), "The 1/n is missing: K = JJᵀ/n."),
        "rows-for-n": (
            left(n * values / len(values)),
            "n counts the examples; each has C rows of J.",
        ),
        "not-squared": (left(values, steps), "A residual is multiplied by |1 − ηλ| a step: square it."),
        "only-smallest": (
            left(values[:1]),
            "With a long step λmax decides: take the worst of all eigenvalues.",
        ),
        "only-largest": (
            left(values[-1:]),
            "The slowest residual has λmin: take the worst of all eigenvalues.",
        ),
        "singular": (
            left(np.sqrt(n * values)),
            "These are singular values of J. Take the eigenvalues of K = JJᵀ/n.",
        ),
        "one-less": (left(values, 2 * steps - 2), "One step too few."),
        "rate-alone": (right / first, "Multiply by the first loss."),
    }
    law = "L_t ≤ L₀ max |1 − ηλ|^2t over the eigenvalues λ of K"
    case = f"J of shape {J.shape}, n = {n}, η = {eta:.3g} = {eta * values[-1]:.2f}/λmax, {steps} steps"
    advice = (
        "The residuals follow r ← (1 − ηK) r. Take the worst eigenvalue of K = JJᵀ/n, squared for the loss."
    )
    found = loss_bound(J.copy(), n, eta, steps, first)
    return compare(found, right, _apart(wrong, right), law, case, advice, 6)


@check
def check_heterogeneity(heterogeneity: Answer, rng: np.random.Generator) -> Laws:
    """The largest over the smallest λmax of the diagonal blocks, on coupled and indefinite matrices."""
    for sizes, tops in (([2, 4, 3], (1, 6, 2)), ([4, 3], (5, 1)), ([5, 2, 3, 4], (2, 0.3, 7, 1))):
        spectra = [
            _block_spectrum(top * float(rng.uniform(0.9, 1.1)), n, rng)
            for n, top in zip(sizes, tops, strict=True)
        ]
        yield _blocks_law(heterogeneity, [with_spectrum(v, rng=rng) for v in spectra], sizes, rng)


def _block_spectrum(top: float, size: int, rng: np.random.Generator) -> Vector:
    """One eigenvalue on top, and one below it that is larger in modulus."""
    return np.concatenate([[top, -top * rng.uniform(1.2, 3.0)], top * rng.uniform(-0.4, 0.4, size - 2)])


def _blocks_law(
    heterogeneity: Answer, parts: list[Vector], sizes: list[int], rng: np.random.Generator
) -> Violation | None:
    n, ends = sum(sizes), np.cumsum([0, *sizes])
    noise = rng.standard_normal((n, n))
    H: Vector = 2.0 * (noise + noise.T)  # the coupling of the blocks, which does not count
    for part, a, b in zip(parts, ends[:-1], ends[1:], strict=True):
        H[a:b, a:b] = part
    values = [np.linalg.eigvalsh(part) for part in parts]
    tops, whole = np.array([v[-1] for v in values]), np.linalg.eigvalsh(H)

    def ratio(numbers: Any) -> float:
        return float(np.max(numbers) / np.min(numbers))

    right = ratio(tops)
    rows = [np.linalg.norm(H[a:b], 2) for a, b in pairwise(ends)]
    wrong: Mistakes = {
        "modulus": (
            ratio([np.abs(v).max() for v in values]),
            "This is the largest modulus. λmax is the largest eigenvalue.",
        ),
        "inverse": (1 / right, "Upside down: the largest λmax over the smallest."),
        "whole": (
            float(whole[-1] / whole[0]),
            "Eigenvalues of all of H, coupling included. Cut out the blocks.",
        ),
        "rows": (ratio(rows), "A block is square: the same rows and columns."),
        "diagonal": (
            ratio([np.diag(part).max() for part in parts]),
            "The largest diagonal entry is no eigenvalue of the block.",
        ),
        "trace": (
            ratio([np.trace(part) for part in parts]),
            "These are traces. Compare the largest eigenvalues.",
        ),
        "first-over-last": (float(tops[0] / tops[-1]), "Largest over smallest, wherever they stand."),
    }
    law, case = "max over blocks of λmax / min over blocks of λmax", f"blocks of sizes {sizes}, indefinite"
    advice = (
        "Cut H into its diagonal blocks, take the largest eigenvalue of each, and divide largest by smallest."
    )
    found = heterogeneity(H.copy(), sizes)
    return compare(found, right, _apart(wrong, right), law, case, advice, 7, tolerance=1e-6)


TICKET = (
    Question(
        "batchnorm-sharper",
        "To a plain ReLU network of 20 blocks you add BatchNorm, without skips. λmax at birth rises tenfold. "
        "You conclude that",
        (
            "the measurement is wrong: BatchNorm smooths the landscape.",
            "the step must be ten times shorter, or training diverges.",
            "this is usual at that depth, and does not yet say how it trains.",
            "BatchNorm should have been in eval mode.",
        ),
        2,
        {
            0: "In deep plain networks it raises λmax at birth, and lowers λ₁/λ₁₀. Section 3.",
            1: "λmax at birth is no forecast: far above 2/η these networks trained. Section 4.",
            3: "Fresh and in eval mode it does nothing at all. Training is in train mode. Section 3.",
        },
    ),
    Question(
        "ten-thousand-zeros",
        "A network gets 10 000 more weights, and its Gauss–Newton matrix 10 000 more zero eigenvalues. "
        "With the squared error and the step 1/λmax of the kernel, the bound on the loss falls faster",
        (
            "always: more zeros, more ways down.",
            "never: the nonzero eigenvalues cannot change.",
            "if the smallest eigenvalue of the nC × nC tangent kernel rises, compared with the largest.",
            "if λmax of the Hessian falls.",
        ),
        2,
        {
            0: "Unused weights give as many zeros, and change nothing. Section 6.",
            1: "They can: the new weights may add to the kernel. Section 6.",
            3: "A smaller λmax allows a longer step; the deep network with gain 0.25 had that, and failed. "
            "Sections 5 and 6.",
        },
    ),
    Question(
        "ten-times-the-weight",
        "A weight matrix in front of BatchNorm is multiplied by 10. In train mode, with ε negligible,",
        (
            "the loss is the same, and the block of that matrix in the Hessian is divided by 100.",
            "the loss is the same, and so is the Hessian.",
            "the outputs are ten times as large.",
            "the block of that matrix is multiplied by 100.",
        ),
        0,
        {
            1: "f(αW) = f(W) for all α; differentiate twice: α² H(αW) = H(W). Section 3.",
            2: "BatchNorm divides by the standard deviation, which is ten times as large too. Section 3.",
            3: "The other way round: larger weights, smaller curvature. Section 3.",
        },
    ),
)
