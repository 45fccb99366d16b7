"""Checks of lesson 06, anatomy of a spectrum: six answers on fresh instances, and the exit ticket."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hesslab.checks.laws.feedback import Violation, check, compare, numbers
from hesslab.checks.laws.ticket import Question

Vector = NDArray[np.float64]
Laws = Iterator[Violation | None]
Answer = Callable[..., Any]
Mistakes = dict[str, tuple[Any, str]]


@check
def check_largest_gap(largest_gap: Answer, rng: np.random.Generator) -> Laws:
    """(k, λ_k/λ_{k+1}) of the largest quotient among the first ones, for spectra in any order."""
    for outliers, most in ((9, 20), (4, 10), (1, 6), (6, 14), (5, 5)):
        top = 5.0 * 0.9 ** np.arange(outliers) * rng.uniform(0.99, 1.01, outliers)
        top[0] *= 1 + (outliers > 1)  # the largest difference, and not the largest quotient
        size = most + 1 - outliers  # so that the next quotient, after `most`, is huge
        bulk = 0.25 * top[-1] * 0.93 ** np.arange(size) * rng.uniform(0.995, 1.005, size)
        tail = [1e-6 * bulk[-1], -0.3 * top[-1], -1e-3]
        values = rng.permutation(np.concatenate([top, bulk, tail]))
        yield _gap_law(largest_gap, values, most, outliers)


def _gap_law(largest_gap: Answer, values: Vector, most: int, outliers: int) -> Violation | None:
    v = np.sort(values)[::-1]
    quotients, differences = v[:-1] / v[1:], -np.diff(v[: most + 1])
    k, steps = int(quotients[:most].argmax()) + 1, int(differences.argmax()) + 1
    beyond = int(quotients.argmax()) + 1
    short = int(quotients[: most - 1].argmax()) + 1
    sizes = np.sort(np.abs(values))[::-1]
    mistakes: Mistakes = {
        "off-by-one": ([k - 1, quotients[k - 1]], "k counts from 1: λ_k is the last one before the gap."),
        "next-one": ([k + 1, quotients[k - 1]], "k is the last rank before the gap, not the first after it."),
        "differences": (
            [steps, differences[steps - 1]],
            "This is the largest difference. Take quotients: outliers of any size count alike.",
        ),
        "too-short": ([short, quotients[short - 1]], "k may be `most`: take most + 1 eigenvalues."),
        "place-by-differences": ([steps, quotients[steps - 1]], "k is where the *quotient* is largest."),
        "swapped": ([quotients[k - 1], k], "Return k first, then the quotient."),
        "modulus": (_first_gap(sizes, most), "Sort λ, not |λ|: a negative eigenvalue comes last."),
        "unsorted": (_first_gap(values, most), "The eigenvalues come in any order: sort them first."),
        "ascending": (_first_gap(v[::-1], most), "np.sort is ascending; λ₁ is the largest: turn it round."),
        "upside-down": ([k, 1 / quotients[k - 1]], "The quotient is λ_k/λ_{k+1}, larger than 1 at a gap."),
        "too-far": (
            [beyond, quotients[beyond - 1]],
            "Look only at k up to `most`: near zero every quotient is large.",
        ),
    }
    right = [k, quotients[k - 1]]
    mistakes = {m: w for m, w in mistakes.items() if w[0] != right}
    law = "(k, λ_k/λ_{k+1}) with the largest quotient, k ≤ most"
    case = f"{len(values)} eigenvalues in random order, {outliers} outliers, most = {most}"
    advice = "Sort in descending order, divide neighbours, and take the largest of the first `most`."
    return compare(largest_gap(values.copy(), most), right, mistakes, law, case, advice, 5)


def _first_gap(v: Vector, most: int) -> list[float]:
    quotients = v[:most] / v[1 : most + 1]
    return [int(quotients.argmax()) + 1, quotients.max()]


@check
def check_two_parts(two_parts: Answer, rng: np.random.Generator) -> Laws:
    """G and R of a mean over examples, from the pieces of each; their sum is a Hessian by differences."""
    for n, C, p in ((5, 3, 4), (8, 2, 6), (1, 4, 3)):
        J, r, A = rng.standard_normal((n, C, p)), rng.standard_normal((n, C)), rng.standard_normal((n, C, C))
        K = rng.standard_normal((n, C, p, p))
        yield _parts_law(two_parts, J, A + A.transpose(0, 2, 1), r, K + K.transpose(0, 1, 3, 2))


def _parts_law(two_parts: Answer, J: Vector, M: Vector, r: Vector, K: Vector) -> Violation | None:
    n, C, p = J.shape
    G = sum(j.T @ m @ j for j, m in zip(J, M, strict=True)) / n
    R = sum(r[i, c] * K[i, c] for i in range(n) for c in range(C)) / n
    plain = sum(j.T @ j for j in J) / n
    gradients = [j.T @ q for j, q in zip(J, r, strict=True)]
    outer = sum(np.outer(g, g) for g in gradients) / n
    diagonal = np.einsum("ncp,ncc,ncq->pq", J, M, J) / n
    apart = np.einsum("c,cpq->pq", r.mean(axis=0), K.mean(axis=0))
    mistakes: Mistakes = {
        "sum": ([n * G, n * R], "The Hessian of a mean is a mean: divide by n."),
        "sum-of-g": ([n * G, R], "R is a mean, G is still a sum: divide by n."),
        "sum-of-r": ([G, n * R], "G is a mean, R is still a sum: divide by n."),
        "whole": ([G, G + R], "The second is R alone. G + R is H."),
        "diagonal": ([diagonal, R], "M couples the outputs: use all of it, not its diagonal."),
        "means-first": ([G, apart], "Multiply r with ∇²f_c in each example, then average the products."),
        "no-loss-curvature": ([plain, R], "G is the mean of JᵀMJ. The M in the middle is missing."),
        "gradients": ([outer, R], "This is the mean of g gᵀ, the empirical Fisher. G has M in the middle."),
        "no-residual": ([G, K.sum(axis=1).mean(axis=0)], "Weigh each ∇²f_c with its residual r_c."),
        "sign": ([G, -R], "R has a plus: r is the derivative of the loss in the outputs."),
        "mean-of-classes": ([G, R / C], "The sum over the outputs is a sum; only the examples are averaged."),
        "swapped": ([R, G], "Return G first, then R."),
    }
    mistakes = {m: w for m, w in mistakes.items() if np.abs(np.subtract(w[0], [G, R])).max() > 1e-9}
    law, case = "G = E[JᵀMJ], R = E[Σ_c r_c ∇²f_c]", f"{n} examples, {C} outputs, {p} weights"
    advice = "Average JᵀMJ over the examples, and Σ_c r_c ∇²f_c as well."
    found = two_parts(J.copy(), M.copy(), r.copy(), K.copy())
    if np.shape(found) == (p, p):
        return Violation("one-matrix", law, case, "one matrix", "Return both parts: G, then R. Section 1.")
    return compare(found, [G, R], mistakes, law, case, advice, 1)


@check
def check_most_rank(most_rank: Answer, rng: np.random.Generator) -> Laws:
    """min(p, n(C − 1)) or min(p, nC), and one rank that is computed."""
    for n, C, p in ((30, 10, 1210), (7, 4, 500), (200, 10, 1210), (int(rng.integers(3, 9)), 5, 300)):
        for loss in ("cross-entropy", "squared error"):
            yield _rank_law(most_rank(n, C, p, loss), n, C, p, loss)


def _rank_law(found: Any, n: int, C: int, p: int, loss: str) -> Violation | None:
    entropy = loss == "cross-entropy"
    each = C - 1 if entropy else C
    candidates: Mistakes = {
        "no-softmax": (min(p, n * C), "Softmax does not see a number added to all logits: M has rank C − 1."),
        "always-softmax": (min(p, n * (C - 1)), "With the squared error M is a multiple of I, of rank C."),
        "no-ceiling": (n * each, "A p × p matrix has at most the rank p."),
        "examples": (min(p, n), "Each example contributes a matrix of the rank of M, not of rank 1."),
        "last-only": (min(p, n * C - 1), "Each example loses one: n(C − 1), not nC − 1."),
        "classes": (each, "Each of the n examples contributes: multiply by n."),
        "zeros": (p - min(p, n * each), "This counts the zeros. Asked for is the rank."),
        "weights": (p, "With few examples the rank is smaller than the number of weights."),
    }
    candidates.pop("always-softmax" if entropy else "no-softmax")
    right = min(p, n * each)
    mistakes = {name: pair for name, pair in candidates.items() if pair[0] != right}
    law, case = "rank G ≤ min(p, n · rank M)", f"{n} examples, {C} classes, {p} weights, {loss}"
    return compare(found, right, mistakes, law, case, "Count what one example can contribute.", 2)


@check
def check_most_negative(most_negative: Answer, rng: np.random.Generator) -> Laws:
    """−max_j σ₁(B_j), for random inputs, activity and residuals that add up to 0."""
    for n, d, h, C in ((20, 4, 3, 5), (9, 6, 4, 3), (40, 3, 6, 4)):
        X, r = rng.standard_normal((n, d)) + 0.5, rng.standard_normal((n, C))
        active = (rng.random((n, h)) < rng.uniform(0.3, 0.8, h)).astype(float)
        active[0], active[1] = 1.0, 0.0
        yield _negative_law(most_negative, X, active, r - r.mean(axis=1, keepdims=True))


def _negative_law(most_negative: Answer, X: Vector, active: Vector, r: Vector) -> Violation | None:
    n, ones = len(X), np.ones((len(X), 1))
    Z = np.hstack([X, ones])
    B = [(Z * a[:, None]).T @ r / n for a in active.T]
    plain = [(X * a[:, None]).T @ r / n for a in active.T]
    own = [b * n / a.sum() for b, a in zip(B, active.T, strict=True)]

    def worst(blocks: list[Vector]) -> float:
        return max(float(np.linalg.norm(block, 2)) for block in blocks)

    right = -worst(B)
    mistakes: Mistakes = {
        "no-bias": (-worst(plain), "Append a 1 to each x: the bias is an incoming weight as well."),
        "sum": (n * right, "B_j is a mean over the examples: divide by n."),
        "positive": (-right, "A lower bound of λmin: the eigenvalues are ±σ, take the minus."),
        "all-active": (-worst([Z.T @ r / n]), "Unit j sees only the examples on which it is active."),
        "own-mean": (-worst(own), "Divide by n, not by the number of examples on which the unit is active."),
        "frobenius": (
            -max(float(np.linalg.norm(b)) for b in B),
            "This is the Frobenius norm. Take the largest singular value.",
        ),
        "together": (-worst([np.vstack(B)]), "The blocks do not mix: take the largest of each, then of all."),
        "smallest": (
            -min(float(np.linalg.norm(b, 2)) for b in B),
            "The most negative bound is needed: minus the *largest* σ₁ over the units.",
        ),
        "bias-of-all": (
            -worst([np.vstack([b[:-1], r.mean(axis=0)]) for b in B]),
            "The 1 for the bias counts only where the unit is active, like the inputs.",
        ),
        "first-unit": (-worst(B[:1]), "Take the largest over all units."),
        "squared": (-(right**2), "This is σ². The eigenvalues of R are ±σ."),
    }
    law = "λmin(H) ≥ −max_j σ₁(B_j), B_j = E[1_j x̃ rᵀ]"
    case = f"{n} examples, {X.shape[1]} inputs, {active.shape[1]} units, {r.shape[1]} classes"
    mistakes = {k: w for k, w in mistakes.items() if abs(w[0] - right) > 1e-3 * abs(right)}
    advice = "For each unit the mean of 1_j x̃ rᵀ; its largest singular value; the largest of all; a minus."
    found = most_negative(X.copy(), active.copy(), r.copy())
    return compare(found, right, mistakes, law, case, advice, 1)


@check
def check_softmax_spectrum(softmax_spectrum: Answer, rng: np.random.Generator) -> Laws:
    """The k largest eigenvalues of softmax regression at θ = 0, with and without a long mean."""
    for n, d, C, mean in ((60, 5, 4, 3.0), (40, 6, 3, 0.0), (30, 4, 6, 1.5)):
        X = rng.standard_normal((n, d)) * np.linspace(1.5, 0.5, d) + mean
        yield _softmax_law(softmax_spectrum, X, C, 2 * (C - 1) + 2)


def _softmax_law(softmax_spectrum: Answer, X: Vector, C: int, k: int) -> Violation | None:
    n = len(X)
    outputs = (np.eye(C) - 1 / C) / C
    right = np.linalg.eigvalsh(np.kron(outputs, X.T @ X / n))[::-1][:k]
    moment = np.sort(np.linalg.eigvalsh(X.T @ X / n))[::-1]
    spread = np.sort(np.linalg.eigvalsh(np.cov(X.T, bias=True)))[::-1]
    padded = np.linalg.svd(np.column_stack([X, np.ones(n)]), compute_uv=False) ** 2 / n

    def steps(values: Vector, times: int) -> Vector:
        repeated = np.repeat(values, times)[:k]
        return np.pad(repeated, (0, k - len(repeated)))

    mistakes: Mistakes = {
        "centred": (steps(spread / C, C - 1), "Do not subtract the mean: it is E[xxᵀ], not the covariance."),
        "c-times": (steps(moment / C, C), "One of the C directions is the shift of all logits: C − 1 times."),
        "n-1": (steps(spread / C * n / (n - 1), C - 1), "It is E[xxᵀ] = XᵀX/n: np.cov subtracts the mean."),
        "order": (
            np.tile(moment / C, C - 1)[:k],
            "np.tile repeats the whole list. Each value C − 1 times, then the next: np.repeat.",
        ),
        "bias": (steps(padded / C, C - 1), "There is no bias here: do not append a 1 to x."),
        "root": (steps(moment**0.5 / C, C - 1), "Square the singular values: eigenvalues of XᵀX."),
        "squared-probability": (steps(moment / C**2, C - 1), "The eigenvalue of the first factor is 1/C."),
        "once": (steps(moment / C, 1), "Each eigenvalue comes C − 1 times."),
        "no-probability": (steps(moment, C - 1), "The factor 1/C of the probabilities is missing."),
        "sum": (n * right, "The loss is a mean: divide by n."),
        "ascending": (right[::-1], "Return the largest first."),
        "logistic": (
            steps(moment * (C - 1) / C**2, C - 1),
            "p(1 − p) is a diagonal entry. The eigenvalue is 1/C.",
        ),
    }
    mistakes = {m: w for m, w in mistakes.items() if np.abs(w[0] - right).max() > 1e-3 * right[0]}
    law = "each eigenvalue of E[xxᵀ]/C, C − 1 times"
    case = f"{n} examples, {X.shape[1]} features, {C} classes, the {k} largest"
    advice = "Take the eigenvalues of XᵀX/n, divide by C, repeat each C − 1 times, sort, cut."
    return compare(softmax_spectrum(X.copy(), C, k), right, mistakes, law, case, advice, 6)


@check
def check_split_step(split_step: Answer, rng: np.random.Generator) -> Laws:
    """The parts of a gradient in and outside a span, and the share, for orthonormal and skew columns."""
    for n, k, skew in ((12, 3, 0.0), (20, 4, 0.8), (7, 1, 0.0), (15, 2, 0.9)):
        Q = np.linalg.qr(rng.standard_normal((n, k)))[0]
        V = (Q + skew * Q[:, :1]) * rng.uniform(0.5, 2.0, k) ** (skew > 0)
        g = rng.standard_normal(n) + 2 * Q.sum(axis=1)
        yield _split_law(split_step, g, V, Q, "skew columns" if skew else "orthonormal columns")


def _split_law(split_step: Answer, g: Vector, V: Vector, Q: Vector, kind: str) -> Violation | None:
    law = "top in span V, bulk ⟂ V, top + bulk = g, share = ‖top‖²/‖g‖²"
    case = f"{V.shape[0]} weights, {V.shape[1]} {kind}"
    found = split_step(g.copy(), V.copy())
    for diagnosis, seen, advice in _misshapen(found, *V.shape):
        return Violation(diagnosis, law, case, seen, f"{advice} Section 7.")
    top = Q @ (Q.T @ g)
    unit = V / np.linalg.norm(V, axis=0)

    def joined(part: Vector, rest: Vector, share: float) -> Vector:
        return np.concatenate([part, rest, [share]])

    def parts(W: Vector) -> Vector:
        inside = W @ (W.T @ g)
        return joined(inside, g - inside, float(inside @ inside / (g @ g)))

    size = float(top @ top / (g @ g))
    right = joined(top, g - top, size)
    mistakes: Mistakes = {
        "not-orthonormal": (parts(V), "VVᵀ projects only if the columns of V are orthonormal. Use QR first."),
        "not-orthogonal": (
            parts(unit),
            "Columns of length 1 are not enough: they must be orthogonal. Use QR.",
        ),
        "not-squared": (joined(top, g - top, size**0.5), "The share is of the squared length."),
        "swapped": (joined(g - top, top, 1 - size), "Return the part in the span first."),
        "bulk-share": (joined(top, g - top, 1 - size), "The share is that of the part in the span."),
        "share-of-rest": (joined(top, g - top, size / (1 - size)), "Divide by ‖g‖², not by ‖bulk‖²."),
        "first-column": (parts(unit[:, :1]), "Project on the span of all columns, not on the first alone."),
        "bulk-is-all": (joined(top, g, size), "The rest is g minus its part in the span."),
    }
    answer = [numbers(part).ravel() for part in found]
    mistakes = {m: w for m, w in mistakes.items() if np.abs(w[0] - right).max() > 1e-3 * np.abs(right).max()}
    advice = "Orthonormalize V by QR; top = Q(Qᵀg); bulk = g − top; share = ‖top‖²/‖g‖²."
    return compare(np.concatenate(answer), right, mistakes, law, case, advice, 7)


def _misshapen(found: Any, n: int, k: int) -> Iterator[tuple[str, str, str]]:
    if not (isinstance(found, tuple | list) and len(found) == 3):
        seen = f"{len(found)} things" if isinstance(found, tuple | list) else f"a {type(found).__name__}"
        yield "three-things", seen, "Return three: top, bulk, share."
        return
    sizes = [numbers(part).size for part in found]
    if k in sizes[:2]:
        yield "coefficients", f"sizes {sizes}", "Qᵀg holds the coefficients of the columns: multiply by Q."
    elif sizes != [n, n, 1]:
        yield "shape", f"sizes {sizes}, not {[n, n, 1]}", "Two vectors like g, then one number."


TICKET = (
    Question(
        "negative-eigenvalues",
        "A trained ReLU network has 80 negative eigenvalues, the largest in size 0.02, beside λmax = 8. This "
        "says that",
        (
            "training sits at a saddle and must escape.",
            "the fit has an error left: they come from the residual part, and shrink with it.",
            "the eigenvalue solver has made an error.",
            "the Gauss–Newton part is not positive semidefinite.",
        ),
        1,
        {
            0: "A saddle needs a zero gradient. R has negative eigenvalues anywhere. Section 1.",
            2: "A residual of the solver would tell. H itself is indefinite while r is not 0. Section 1.",
            3: "With the cross-entropy it always is. The negative part is R. Section 1.",
        },
    ),
    Question(
        "what-top-means",
        "v is the top eigenvector of the Hessian. Which statement is safe?",
        (
            "Of all small steps of one length, in these coordinates, it has the largest second-order rise.",
            "Training moves mostly along v.",
            "v means the same in every parametrization of the network.",
            "Without v the network cannot be trained further.",
        ),
        0,
        {
            1: "Most of the displacement, and of the progress, was outside the top nine. Sections 7 and 8.",
            2: "The same function in other coordinates had another λmax and other eigenvectors. Section 6.",
            3: "Without the top nine SGD made nearly all of its progress. Section 7.",
        },
    ),
    Question(
        "nine-outliers",
        "Ten classes, inputs that are not centred, nine outliers. Someone concludes: they show the "
        "differences between the classes. Which test would tell?",
        (
            "Train longer, and count again.",
            "Move the mean input of each layer into its bias, which changes no prediction; count again.",
            "Compute the eigenvalues to more digits.",
            "Use a larger step size.",
        ),
        1,
        {
            0: "The count changes in training, whatever made the outliers. Section 5.",
            2: "They are there to all digits. The question is what causes them. Section 6.",
            3: "That changes the network. An intervention should leave all else alone. Section 6.",
        },
    ),
)
