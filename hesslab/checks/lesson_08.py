"""Checks of lesson 08, preconditioning: six answers on fresh instances, and the exit ticket."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hesslab.checks.laws.feedback import Violation, check, compare, numbers
from hesslab.checks.laws.ticket import Question

Array = NDArray[np.float64]
Laws = Iterator[Violation | None]
Answer = Callable[..., Any]
Mistakes = dict[str, tuple[Any, str]]


def _apart(mistakes: Mistakes, right: Any) -> Mistakes:
    """Those mistakes whose value differs from the right one on this instance."""
    scale = np.abs(numbers(right)).max()
    return {k: v for k, v in mistakes.items() if _far(numbers(v[0]), numbers(right), 1e-3 * scale)}


def _far(value: Array, right: Array, margin: float) -> bool:
    return value.shape != right.shape or bool(np.abs(value - right).max() > margin)


@check
def check_frozen_edge(edge: Answer, rng: np.random.Generator) -> Laws:
    """The threshold of gradient descent with averaged gradients, in the units of P, and the ratio to it."""
    for beta in (0.9, 0.0, 0.5, 0.95):
        yield _edge_law(edge, float(rng.uniform(1e-4, 1e-2)), beta, rng.uniform(0.5, 5, 3))


def _edge_law(edge: Answer, eta: float, beta: float, lengths: Array) -> Violation | None:
    threshold = 2 / eta * (1 + beta) / (1 - beta)
    P, h = 1e-3 * lengths, np.array([3.0, 1.0, 8.0])
    top = float((h / P).max())
    case, law = f"η = {eta:.2g}, β₁ = {beta:g}, P and H diagonal with three entries", "(threshold, ratio)"
    found = numbers(edge(eta, beta, P.copy(), h.copy()))
    if found.shape != (2,):
        return compare(found, [threshold, top / threshold], {}, law, case, "Return a pair.", 3)
    edges: Mistakes = {
        "gradient-descent": (2 / eta, "2/η is the edge without averaging. β₁ = 0.9 gains a factor of 19."),
        "heavy-ball": (2 * (1 + beta) / eta, "Heavy ball does not scale its gradients by 1 − β. Adam does."),
        "upside-down": (
            2 / eta * (1 - beta) / (1 + beta),
            "Averaging *raises* the edge: 1 + β₁ is above the line.",
        ),
    }
    ratios: Mistakes = {
        "no-preconditioner": (h.max(), "This is λmax of H itself: P is missing."),
        "largest-over-largest": (h.max() / P.max(), "Divide entry by entry, and take the largest last."),
        "root": (float((h / P**0.5).max()), "P^(−1/2) stands on both sides: h/P."),
        "inverse": (threshold**2 / top, "The ratio is λmax over the threshold: above 1 is unstable."),
    }
    ratios = {name: (value / threshold, hint) for name, (value, hint) in ratios.items()}
    advice = "The threshold is (2/η)(1 + β₁)/(1 − β₁); the ratio is the largest h/P over it."
    pairs = ((threshold, edges), (top / threshold, ratios))  # on two scales, so one after the other
    judged = (
        compare(value, right, _apart(mistakes, right), law, case, advice, 3)
        for value, (right, mistakes) in zip(found, pairs, strict=True)
    )
    return next((violation for violation in judged if violation is not None), None)


@check
def check_jacobi_condition(condition: Answer, rng: np.random.Generator) -> Laws:
    """κ after Jacobi's scaling: dense matrices, one turned by 45°, which keeps its κ, and a diagonal."""
    for n in (3, 6):
        Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
        s = rng.uniform(0.3, 3.0, n)
        A = s[:, None] * ((Q * np.geomspace(1, 50, n)) @ Q.T) * s
        yield _jacobi_law(condition, A, f"a dense {n} × {n} matrix")
    kappa, turn = float(rng.uniform(10, 1000)), np.array([[1.0, -1.0], [1.0, 1.0]]) / 2**0.5
    A = turn @ np.diag([1.0, kappa]) @ turn.T
    yield _jacobi_law(condition, A, f"diag(1, {kappa:.0f}), turned by 45°")
    yield _jacobi_law(condition, np.diag(rng.uniform(0.1, 9.0, 4)), "a diagonal matrix")


def _jacobi_law(condition: Answer, A: Array, case: str) -> Violation | None:
    d = np.diag(A)
    root = d**-0.5
    values = np.linalg.eigvalsh(root[:, None] * A * root)
    right = values[-1] / values[0]
    inverse = np.linalg.eigvalsh(d[:, None] ** 0.5 * A * d**0.5)
    hints = {
        "not-scaled": (np.linalg.cond(A), "This is κ of A itself: scale first."),
        "one-side": (
            np.linalg.cond(A / d[:, None]),
            "D⁻¹A is not symmetric, and singular values are no eigenvalues. Put D^(−1/2) on both sides.",
        ),
        "whole-diagonal": (
            np.linalg.cond(A / np.outer(d, d)),
            "D⁻¹ on both sides scales twice: take the root.",
        ),
        "wrong-way": (inverse[-1] / inverse[0], "Multiplied where you should divide: D^(−1/2), not D^(1/2)."),
        "diagonal-only": (d.max() / d.min(), "This is the quotient of diagonal entries, not of eigenvalues."),
    }
    advice = "κ of D^(−1/2) A D^(−1/2), with D the diagonal of A."
    law = "κ(D^(−1/2) A D^(−1/2))"
    return compare(condition(A.copy()), right, _apart(hints, right), law, case, advice, 1)


@check
def check_expected_square(expected: Answer, rng: np.random.Generator) -> Laws:
    """E ĝ² over batches drawn with replacement: closed form, and all batches of two by enumeration."""
    for n, d, batch in ((4, 3, 2), (5, 2, 1), (30, 4, 8), (12, 3, 100)):
        g = rng.standard_normal((n, d)) + rng.uniform(-2, 2, d)
        yield _square_law(expected, g, batch)


def _square_law(expected: Answer, g: Array, batch: int) -> Violation | None:
    n, mean, second = len(g), g.mean(0), (g**2).mean(0)
    if batch == 2:  # an oracle without the formula
        pairs = (g[:, None] + g[None, :]).reshape(n * n, -1) / 2
        right = (pairs**2).mean(0)
    else:
        right = mean**2 + (second - mean**2) / batch
    hints = {
        "empirical-fisher": (second, "This is B = 1, diag(E). Larger batches average."),
        "only-the-mean": (mean**2, "This is (∇L)², the limit of large B. The noise of the batch is missing."),
        "only-the-noise": ((second - mean**2) / batch, "The square of the mean gradient is missing."),
        "moment-for-variance": (mean**2 + second / batch, "C is a covariance: subtract (∇L)² first."),
        "moment-over-batch": (second / batch, "Only the variance shrinks with B; (∇L)² does not."),
        "root": (right**0.5, "This is the root. v is the square."),
    }
    case = f"{n} examples, {g.shape[1]} parameters, batches of {batch}"
    advice = "E ĝ² = (∇L)² + diag(C)/B, with C the covariance of single examples."
    return compare(expected(g.copy(), batch), right, _apart(hints, right), "E ĝ²", case, advice, 2)


@check
def check_two_fishers(fishers: Answer, rng: np.random.Generator) -> Laws:
    """F and E of a softmax model from outputs, Jacobians and labels, against explicit sums over labels."""
    for n, C, d in ((8, 3, 4), (12, 2, 3), (1, 3, 4)):
        J, z = rng.standard_normal((n, C, d)), 2 * rng.standard_normal((n, C))
        yield _fishers_law(fishers, z, J, rng.integers(C, size=n))


def _fishers_law(fishers: Answer, z: Array, J: Array, y: NDArray[np.int64]) -> Violation | None:
    n, C, d = J.shape
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    one = np.eye(C)

    def outer(labels: NDArray[np.int64]) -> Array:
        g = np.einsum("nc,ncd->nd", p - one[labels], J)
        return np.asarray(g.T @ g / n)

    F, E = np.zeros((d, d)), outer(y)
    for c in range(C):
        g = np.einsum("nc,ncd->nd", p - one[c], J) * p[:, [c]] ** 0.5
        F += g.T @ g / n
    uniform = sum((outer(np.full(n, c)) for c in range(C)), np.zeros((d, d)))
    mean = np.einsum("nc,ncd->nd", p - one[y], J).mean(0)
    half = np.einsum("nci,nc,ncj->ij", J, p, J) / n
    hints = {
        "swapped": ([E, F], "The two are swapped: return F, labels from the model, first."),
        "twice-empirical": ([E, E], "F must not look at the labels: weigh all of them by p."),
        "twice-fisher": ([F, F], "E takes only the label of the data."),
        "sum": ([n * F, n * E], "These are sums over the examples: take means."),
        "predicted-label": ([outer(p.argmax(1)), E], "All labels count in F, each with its p."),
        "not-weighed": ([uniform, E], "Weigh the labels of F by p: some are unlikely."),
        "no-outer-product": ([half, E], "diag(p) alone is not M = diag(p) − p pᵀ."),
        "mean-first": ([F, np.outer(mean, mean)], "This is (∇L)(∇L)ᵀ: square first, then average."),
    }
    case = f"{n} example{'s' * (n > 1)}, {C} classes, {d} parameters"
    advice = (
        "g = Jᵀ(p − e_label); E takes the given label, F all labels, weighed by p. Means over the examples."
    )
    found = fishers(z.copy(), J.copy(), y.copy())
    if isinstance(found, tuple | list) and len({numbers(each).shape for each in found}) != 1:
        return Violation(
            "shape", "(F, E)", case, "two shapes", f"Return two arrays of shape {(d, d)}. Section 4."
        )
    return compare(found, [F, E], _apart(hints, [F, E]), "(F, E)", case, advice, 4)


@check
def check_kfac_factors(factors: Answer, rng: np.random.Generator) -> Laws:
    """G ⊗ A is the block of the Fisher where it is exact; elsewhere the product of the means."""
    for case, n, same in (
        ("one example", 1, False),
        ("deep linear network, squared error", 20, True),
        ("last layer, squared error", 15, None),
        ("a ReLU network with cross-entropy", 12, False),
    ):
        o, i, C = 3, 4, 3 if same is None else 2
        a = rng.exponential(size=(n, i)) + 0.3
        D = rng.standard_normal((1 if same else n, C, o)) + np.zeros((n, 1, 1))
        D = np.eye(3) + np.zeros((n, 1, 1)) if same is None else D
        M = np.eye(C) + np.zeros((n, 1, 1))
        if same is False:
            p = rng.dirichlet(np.ones(C), size=n)
            M = p[:, :, None] * np.eye(C) - p[:, :, None] * p[:, None, :]
        yield _factors_law(factors, a, D, M, case, exact=same is not False or n == 1)


def _factors_law(
    factors: Answer, a: Array, D: Array, M: Array, case: str, *, exact: bool
) -> Violation | None:
    n, i, o = len(a), a.shape[1] + 1, D.shape[2]
    a1 = np.hstack([a, np.ones((n, 1))])
    middle = np.einsum("nco,nce,nep->nop", D, M, D)
    A, G = a1.T @ a1 / n, middle.mean(0)
    law = "G ⊗ A = the block of the Fisher" if exact else "A = E[a aᵀ], G = E[g gᵀ]"
    found = factors(a.copy(), D.copy(), M.copy())
    if not isinstance(found, tuple | list) or len(found) != 2:
        return Violation("no-pair", law, case, type(found).__name__, "Return the pair A, G. Section 5.")
    mine = [numbers(each) for each in found]
    centred, inputs = a1 - a1.mean(0), a.T @ a / n
    plain = np.einsum("nco,ncp->op", D, D) / n
    mean_first = D.mean(0).T @ M.mean(0) @ D.mean(0)
    wrong = {
        "swapped": (G, A, "Swapped: return A, of the inputs, first."),
        "no-bias": (inputs, G, "Append a 1 to the inputs: the bias is the weight of a constant input."),
        "bias-first": (np.roll(A, 1, (0, 1)), G, "The 1 of the bias comes last."),
        "sums": (n * A, n * G, "Both are sums: each factor is a mean over the examples."),
        "centred": (centred.T @ centred / n, G, "A second moment is not centred: no mean is subtracted."),
        "no-middle": (A, plain, "M is missing: G = E[Dᵀ M D], with D = ∂f/∂s."),
        "mean-first": (A, mean_first, "Average the products, not their parts: E[DᵀMD]."),
    }
    for name, (wrong_A, wrong_G, hint) in wrong.items():
        if _equal(mine, [wrong_A, wrong_G]) and not _equal([wrong_A, wrong_G], [A, G]):
            return Violation(name, law, case, "another pair", f"{hint} Section 5.")
    shapes = [each.shape for each in mine]
    if shapes != [(i, i), (o, o)]:
        sizes = f"Return A of shape {(i, i)} and G of shape {(o, o)}. Section 5."
        return Violation("shape", law, case, f"shapes {shapes[0]} and {shapes[1]}", sizes)
    block = np.einsum("nop,nij->oipj", middle, np.einsum("ni,nj->nij", a1, a1)).reshape(o * i, o * i) / n
    target = block if exact else np.kron(G, A)
    advice = "A is the mean of a aᵀ with a 1 appended to a, G the mean of Dᵀ M D."
    return compare(np.kron(mine[1], mine[0]), target, {}, law, case, advice, 5)


def _equal(found: list[Array], wanted: list[Array]) -> bool:
    return all(
        f.shape == w.shape and bool(np.allclose(f, w, rtol=1e-6, atol=1e-9))
        for f, w in zip(found, wanted, strict=True)
    )


@check
def check_kfac_step(step: Answer, rng: np.random.Generator) -> Laws:
    """(G ⊗ A + δ I)⁻¹ on a gradient, against a dense solution; A is singular, and once the layer is large."""
    for o, i, delta in ((3, 4, 0.1), (2, 5, 1.0), (4, 4, 1e-3)):
        yield _step_law(step, *_factors(rng, i, o), rng.standard_normal((o, i)), delta)
    (A, G), V = _factors(rng, 150, 100), rng.standard_normal((100, 150))
    W = numbers(step(A.copy(), G.copy(), V.copy(), 0.5))  # G ⊗ A would have 15,000² entries, 1.8 GB
    case, advice = "a layer 150 → 100", "(G ⊗ A) vec V = vec(G V A): work with the factors."
    yield compare(G @ W @ A + 0.5 * W, V, {}, "G W A + δ W = V", case, advice, 5)


def _factors(rng: np.random.Generator, i: int, o: int) -> tuple[Array, Array]:
    a, g = rng.standard_normal((i, i - 1)), rng.standard_normal((o, o + 2))
    return a @ a.T / i, g @ g.T / o


def _step_law(step: Answer, A: Array, G: Array, V: Array, delta: float) -> Violation | None:
    o, i = len(G), len(A)

    def dense(matrix: NDArray[Any]) -> Array:
        return np.asarray(np.linalg.solve(matrix, V.ravel()).reshape(o, i))

    split = np.kron(G + delta**0.5 * np.eye(o), A + delta**0.5 * np.eye(i))
    (a, Qa), (g, Qg) = np.linalg.eigh(A), np.linalg.eigh(G)
    inner = Qg.T @ V @ Qa / (np.outer(g, a) + delta)
    hints = {
        "split-damping": (dense(split), "√δ on each factor is another matrix. Add δ to the products γᵢαⱼ."),
        "product": (G @ V @ A + delta * V, "This multiplies by the matrix. Asked for is its inverse."),
        "not-turned-back": (inner, "This is the answer in the eigenbases. Turn it back: Q_G (…) Q_Aᵀ."),
        "sum-of-eigenvalues": (
            Qg @ (Qg.T @ V @ Qa / (np.add.outer(g, a) + delta)) @ Qa.T,
            "The eigenvalues of G ⊗ A are the products γᵢαⱼ, not the sums.",
        ),
        "root": (
            Qg @ (Qg.T @ V @ Qa / (np.outer(g, a) + delta) ** 0.5) @ Qa.T,
            "This is the inverse root, as in Shampoo. K-FAC divides by the whole.",
        ),
    }
    right = dense(np.kron(G, A) + delta * np.eye(o * i))
    advice = "Q_G [ (Q_Gᵀ V Q_A) / (γᵢαⱼ + δ) ] Q_Aᵀ, with the eigenvalues and eigenvectors of both factors."
    case, law = f"a layer {i} → {o}, δ = {delta:g}", "(G ⊗ A + δ I)⁻¹ vec V"
    return compare(
        step(A.copy(), G.copy(), V.copy(), delta), right, _apart(hints, right), law, case, advice, 5
    )


TICKET = (
    Question(
        "labels",
        "A library estimates “the Fisher” by the mean of g gᵀ, with g the gradients of the training examples "
        "at their own labels. The network has fitted its data. The estimate is",
        (
            "the Fisher, up to sampling error.",
            "much too small, since it shrinks with the residuals.",
            "much too large, since it counts the noise of the gradients.",
            "the Hessian, since the model is trained.",
        ),
        1,
        {
            0: "The Fisher draws labels from the model. These are labels of the data. Sections 2 and 4.",
            2: "At the fit the gradients of the examples are all small. Section 2.",
            3: "The Hessian does not vanish at the fit relative to F; this matrix does. Sections 2 and 4.",
        },
    ),
    Question(
        "units-of-the-edge",
        "Adam with η = 0.001 and β₁ = 0.9, so 38/η = 38,000. The largest eigenvalue of the Hessian is 50. "
        "What does that say about stability?",
        (
            "Stable by far: 50 is below 38,000.",
            "Nothing yet: the eigenvalue must be that of P^(−1/2) H P^(−1/2).",
            "Unstable: only 2/η counts.",
            "Stable, if v has settled.",
        ),
        1,
        {
            0: "Two numbers in different units. With P of 0.001 the 50 can become 50,000. Section 3.",
            2: "The averaging of gradients raises 2/η by (1 + β₁)/(1 − β₁) = 19. Section 3.",
            3: "A settled v fixes P; it does not say how large it is. Section 3.",
        },
    ),
    Question(
        "a-test-for-kfac",
        "You have written K-FAC for a ReLU network with cross-entropy. Which comparison with exact blocks of "
        "the Fisher tells a bug from the approximation?",
        (
            "All blocks, on the trained network.",
            "The last block, on all data.",
            "All blocks, on a single example.",
            "None: K-FAC is never exact.",
        ),
        2,
        {
            0: "Averaging over examples costs K-FAC about 70 % of a block here, with no bug at all. "
            "You would not know which of the two you see. Section 5.",
            1: "With the squared error, yes. With the cross-entropy M = diag(p) − p pᵀ differs from "
            "example to example, so that even the last block is not exact. Section 5.",
            3: "It replaces a mean of Kronecker products by a product of means. With one example "
            "both are the same. Section 5.",
        },
    ),
)
