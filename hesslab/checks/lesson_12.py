"""Checks of lesson 12, flatness and generalization: six answers on fresh instances, and the exit ticket."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from hesslab.checks.laws.feedback import Violation, check, compare, numbers
from hesslab.checks.laws.ticket import Question

Vector = NDArray[np.float64]
Laws = Iterator[Violation | None]
Answer = Callable[..., Any]
Mistakes = dict[str, tuple[Any, str]]


def _judge(
    found: Any, right: Any, wrong: Mistakes, law: str, case: str, advice: str, section: int
) -> Violation | None:
    """`compare`, without the mistakes that are right on this instance."""
    right = numbers(right)
    scale = np.abs(right).max()
    apart = {
        name: pair
        for name, pair in wrong.items()
        if numbers(pair[0]).shape != right.shape or np.abs(numbers(pair[0]) - right).max() > 1e-3 * scale
    }
    return compare(found, right, apart, law, case, advice, section)


def _flat(found: Any) -> Any:
    """The numbers of a row of arrays, one after the other; what is no such row is left as it is."""
    if not isinstance(found, list | tuple) or any(part is None for part in found):
        return found
    return np.concatenate([np.ravel(numbers(part)) for part in found]) if found else found


@check
def check_average_rise(rise: Answer, rng: np.random.Generator) -> Laws:
    """σ²/2 tr H, for definite, indefinite and small matrices."""
    for p, shift, sigma in ((5, 0.0, 0.3), (12, 4.0, 0.05), (3, -1.0, 2.0)):
        A = rng.standard_normal((p, p))
        H = (A + A.T) / 2 + (shift + 0.7) * np.eye(p)
        yield _rise_law(rise, H, sigma * float(rng.uniform(0.8, 1.2)))


def _rise_law(rise: Answer, H: Vector, sigma: float) -> Violation | None:
    values, half = np.linalg.eigvalsh(H), sigma**2 / 2
    wrong = {
        "average": (half * values.mean(), "A step moves all p weights: the sum of the eigenvalues counts."),
        "no-half": (2 * half * values.sum(), "The second-order term of the loss is ½ εᵀHε."),
        "not-squared": (sigma / 2 * values.sum(), "E ε² is σ², the variance: the size enters squared."),
        "worst-case": (half * values[-1], "λmax belongs to the worst step; asked for is the average one."),
        "modulus": (half * np.abs(values).sum(), "Negative curvature lowers the loss: keep the signs."),
        "all-entries": (half * H.sum(), "E εᵢεⱼ is 0 for i ≠ j: only the diagonal counts."),
        "unit-length": (half * values.sum() / len(H) ** 0.5, "Each entry of ε has the size σ, not ε itself."),
    }
    case = f"a symmetric matrix of size {len(H)}, λ from {values[0]:.2f} to {values[-1]:.2f}, σ = {sigma:.3f}"
    advice = "E ½ εᵀHε = σ²/2 · Σ Hᵢᵢ."
    return _judge(rise(H.copy(), sigma), values.sum() * half, wrong, "σ²/2 · tr H", case, advice, 1)


@check
def check_rescale_units(rescale: Answer, rng: np.random.Generator) -> Laws:
    """(W₁, b₁, W₂) with a scale for each hidden unit; a square case first, which hides wrong axes."""
    for inputs, hidden, classes in ((4, 4, 4), (5, 3, 2), (2, 6, 3)):
        arrays = [rng.standard_normal(s) for s in ((hidden, inputs), (hidden,), (classes, hidden))]
        yield _rescale_law(rescale, arrays, np.exp(rng.uniform(-1.5, 1.5, hidden)))


def _rescale_law(rescale: Answer, arrays: list[Vector], s: Vector) -> Violation | None:
    W1, b1, W2 = arrays
    into, bias, out = s[:, None] * W1, s * b1, W2 / s
    wrong: dict[str, tuple[list[Vector], str]] = {
        "bias-forgotten": ([into, b1, out], "relu(α(Wx + b)) = α relu(Wx + b): the bias belongs to it."),
        "not-undone": ([into, bias, W2], "Divide the weights out of each unit by its α: else f changes."),
        "twice": ([into, bias, W2 * s], "Out of the unit divide: α·(1/α) = 1."),
        "upside-down": (
            [W1 / s[:, None], b1 / s, W2 * s],
            "The function stays, but α goes with the weights into the unit.",
        ),
        "unchanged": ([W1, b1, W2], "Nothing was rescaled."),
    }
    if W1.shape == W2.shape == (len(s), len(s)):
        hint = "A row of W₁ belongs to a unit, and a column of W₂: use alpha[:, None] for the rows."
        wrong["wrong-axis-in"] = ([s * W1, bias, out], hint)
        wrong["wrong-axis-out"] = ([into, bias, W2 / s[:, None]], hint)
        wrong["wrong-axes"] = ([s * W1, bias, W2 / s[:, None]], hint)
    case = f"{W1.shape[1]} inputs, {len(s)} units, {len(W2)} outputs, α = {np.round(s, 2).tolist()}"
    law = "(α W₁, α b₁, W₂/α), a scale for each unit"
    found = rescale(*(part.copy() for part in arrays), s.copy())
    if isinstance(found, list | tuple) and len(found) == 3:
        for part, like, name in zip(found, arrays, ("W1", "b1", "W2"), strict=True):
            if part is not None and numbers(part).shape != like.shape:
                seen = f"{name} of shape {numbers(part).shape}, expected {like.shape}"
                return Violation("shape", law, case, seen, "Return W1, b1 and W2 as they came. Section 3.")
    advice = "Rows of W₁ and entries of b₁ times α, columns of W₂ divided by α. Return all three."
    flat = {name: (_flat(value), hint) for name, (value, hint) in wrong.items()}
    return _judge(_flat(found), _flat([into, bias, out]), flat, law, case, advice, 3)


@check
def check_flattest_copy(flattest: Answer, rng: np.random.Generator) -> Laws:
    """The scales α_j = (a_j/b_j)^(1/4), and the trace there, Σ 2 √(a_j b_j)."""
    for units in (1, 3, 7):
        a, b = np.exp(rng.uniform(0.5, 2.5, units)), np.exp(rng.uniform(-2.5, -0.5, units))
        yield _flattest_law(flattest, a, b)


def _flattest_law(flattest: Answer, a: Vector, b: Vector) -> Violation | None:
    def at(alpha: Any) -> Vector:
        alpha = np.broadcast_to(alpha, a.shape)
        return np.append(alpha, (a / alpha**2 + b * alpha**2).sum())

    best = (a / b) ** 0.25
    wrong = {
        "upside-down": (at(1 / best), "The first block is divided by α²: a large a wants a large α."),
        "square-root": (at(best**2), "At the minimum a/α² = b α², so that α⁴ = a/b."),
        "one-scale": (
            at((a.sum() / b.sum()) ** 0.25),
            "Each unit has an α of its own: that is flatter still.",
        ),
        "no-two": (np.append(best, np.sqrt(a * b).sum()), "Both terms are √(ab) at the minimum: twice that."),
        "trace-before": (np.append(best, (a + b).sum()), "This is the trace at α = 1, not at the flattest."),
        "balanced-lengths": (at(np.ones(len(a))), "α = 1 is where training stopped, not the flattest copy."),
    }
    found = flattest(a.copy(), b.copy())
    case = f"a = {np.round(a, 2).tolist()}, b = {np.round(b, 3).tolist()}"
    advice = "Set the derivative of a/α² + b α² to zero for each unit; return the array of α and one trace."
    return _judge(_flat(found), at(best), wrong, "least Σ a/α² + b α²", case, advice, 3)


@check
def check_adaptive_trace(adaptive: Answer, rng: np.random.Generator) -> Laws:
    """Σ θᵢ² Hᵢᵢ, and its invariance to a rescaling of the coordinates."""
    for p in (4, 9, 15):
        A, theta = rng.standard_normal((p, p)), rng.normal(0.5, 1, p)
        theta[0] = -1 - abs(theta[0])  # a negative weight, so that |θ| and θ differ
        yield _adaptive_law(adaptive, A @ A.T / p + np.diag(rng.uniform(-0.5, 2, p)), theta)


def _adaptive_law(adaptive: Answer, H: Vector, theta: Vector) -> Violation | None:
    d = np.diag(H)
    wrong = {
        "not-squared": (np.abs(theta) @ d, "|θᵢ| stands on both sides of H: the square counts."),
        "signed": (theta @ d, "The step is |θᵢ|ξᵢ, and its square enters: θᵢ²."),
        "whole-form": (theta @ H @ theta, "The ξᵢ are independent: terms with i ≠ j average to 0."),
        "plain": (d.sum(), "This is the plain trace: weigh each entry by θᵢ²."),
        "by-length": (theta @ theta * d.sum(), "Each entry has its own weight θᵢ², not ‖θ‖²."),
        "largest": (
            np.linalg.eigvalsh(np.outer(abs(theta), abs(theta)) * H)[-1],
            "This is the worst case. Asked for is the trace.",
        ),
        "divided": ((d / theta**2).sum(), "A large weight may move more: multiply by θᵢ²."),
    }
    case = f"H of size {len(H)}, weights from {theta.min():.2f} to {theta.max():.2f}"
    advice = "The trace of |θ| H |θ| is Σ θᵢ² Hᵢᵢ."
    return _judge(adaptive(H.copy(), theta.copy()), theta**2 @ d, wrong, "tr(|θ| H |θ|)", case, advice, 4)


@check
def check_rank_correlation(rank: Answer, rng: np.random.Generator) -> Laws:
    """Spearman's correlation: of a curved relation, with ties, and of short lists."""
    x = rng.standard_normal(12)
    tied = np.repeat([0.1, 0.4, 0.9], 4)
    few, levels = np.repeat([1.0, 2.0, 5.0], [5, 2, 2]), np.repeat([1.0, 3.0], [5, 4])
    for u, v, case in (
        (x, lambda: np.exp(3 * x) + 3 * rng.permutation(12), "12 pairs, a curved relation"),
        (tied, lambda: tied + rng.normal(0, 0.5, 12), "12 pairs, three values of x"),
        (few, lambda: rng.permutation(levels) - few, "9 pairs, ties in both"),
    ):
        yield _rank_law(rank, *_related(u, v, rng), case)


def _related(x: Vector, draw: Callable[[], Any], rng: np.random.Generator) -> tuple[Vector, Vector]:
    """The pair of x and a z whose rank correlation with it is no rounding error, in random order."""
    z = draw()
    while abs(np.corrcoef(rankdata(x), rankdata(z))[0, 1]) < 0.1:
        z = draw()
    order = rng.permutation(len(x))
    return x[order], z[order]


def _rank_law(rank: Answer, x: Vector, z: Vector, case: str) -> Violation | None:
    def pearson(u: Vector, v: Vector) -> float:
        return float(np.corrcoef(u, v)[0, 1])

    def by(method: str) -> float:
        return pearson(rankdata(x, method=method), rankdata(z, method=method))

    def order(u: Vector) -> Vector:
        return np.argsort(u, kind="stable").astype(float)

    n, right = len(x), by("average")
    apart = rankdata(x) - rankdata(z)
    wrong = {
        "pearson": (pearson(x, z), "This is the correlation of the values: replace them by their ranks."),
        "argsort-once": (
            pearson(order(x), order(z)),
            "argsort gives the order, not the ranks: the ranks are the argsort of that.",
        ),
        "ties-in-order": (by("ordinal"), "Equal values get one rank, the mean of the places they take."),
        "formula": (
            1 - 6 * float((apart**2).sum()) / (n * (n**2 - 1)),
            "The formula with Σ d² holds without ties only: correlate the ranks.",
        ),
        "lowest-rank": (by("min"), "Tied values get the mean of their places, not the first of them."),
        "dense-rank": (by("dense"), "Tied values use up as many places as they are: 1, 2.5, 2.5, 4."),
        "sign": (-right, "The sign is turned: both are to be ranked in the same direction."),
    }
    advice = "Ranks with the mean for ties, then the ordinary correlation of the two lists of ranks."
    return _judge(rank(x.copy(), z.copy()), right, wrong, "Spearman's rank correlation", case, advice, 6)


@check
def check_pooled_and_within(both: Answer, rng: np.random.Generator) -> Laws:
    """The rank correlation over all, and within each group, in ascending order of the group."""
    for levels in ((0.0, 0.003, 0.001), (2, 0, 1, 3), (5, 1)):
        group = np.repeat(np.array(levels, dtype=float), 9)
        center = np.argsort(np.argsort(group)) / 9
        x = center + rng.normal(0, 0.4, len(group))
        z = -center + 0.8 * (x - center) ** 3 + rng.normal(0, 0.15, len(group))
        yield _within_law(both, x, z, group)


def _within_law(both: Answer, x: Vector, z: Vector, group: Vector) -> Violation | None:
    def rank(u: Vector, v: Vector) -> float:
        return float(np.corrcoef(rankdata(u), rankdata(v))[0, 1])

    labels, places = np.unique(group), list(dict.fromkeys(group.tolist()))
    per = {g: rank(x[group == g], z[group == g]) for g in labels.tolist()}
    within = [per[g] for g in labels.tolist()]
    pooled = rank(x, z)
    raw = [float(np.corrcoef(x[group == g], z[group == g])[0, 1]) for g in labels]
    centred = [v - np.array([v[group == g].mean() for g in group]) for v in (x, z)]
    means = [np.array([v[group == g].mean() for g in labels]) for v in (x, z)]
    wrong = {
        "order": ([pooled, *(per[g] for g in places)], "List the groups in ascending order."),
        "mean-of-groups": ([float(np.mean(within)), *within], "Pooled means: all pairs together, one rank."),
        "pearson": (
            [float(np.corrcoef(x, z)[0, 1]), *raw],
            "Use rank correlations: spearmanr(x, z).statistic.",
        ),
        "group-means": ([rank(*means), *within], "Pooled is over all pairs, not over the means of groups."),
        "centred": ([rank(*centred), *within], "Pooled is over the values as they are, not centred."),
        "swapped": ([*within, pooled], "Return the pooled one first."),
    }
    case = f"{len(x)} pairs in {len(labels)} groups, which appear in the order {places}"
    advice = "(over all, [within each group, in ascending order])."
    return _judge(
        _flat(both(x.copy(), z.copy(), group.copy())),
        [pooled, *within],
        wrong,
        "pooled and within",
        case,
        advice,
        6,
    )


TICKET = (
    Question(
        "trace-and-size",
        "Two networks have the same trace of the Hessian. One has ten times as many weights. Which is the "
        "flatter, for independent normal steps of the same size in each weight?",
        (
            "The larger one: its average eigenvalue is a tenth.",
            "The smaller one: it has fewer directions.",
            "Neither: the mean rise of the loss is the same, to second order.",
            "The one with the smaller λmax.",
        ),
        2,
        {
            0: "The mean rise is σ²/2 times the trace, not times the average eigenvalue. Section 1.",
            1: "Count in the trace: it sums over all directions, and it is the same. Section 1.",
            3: "λmax belongs to the worst step, not to the random one. Section 1.",
        },
    ),
    Question(
        "sharper-of-two",
        "Two networks of one architecture have the same training loss; one has a λmax a hundred times "
        "as large. What follows for their test errors?",
        (
            "The sharper one has the larger test error.",
            "Nothing: they may even compute the same function.",
            "The sharper one has the smaller test error.",
            "It would follow if adaptive sharpness were a hundred times larger.",
        ),
        1,
        {
            0: "A rescaling makes a network as sharp as you like, with the same test error. Section 3.",
            2: "That holds between weight decays, in one family of trainings. Section 6.",
            3: "A shift of the output biases does that, and changes no prediction. Section 4.",
        },
    ),
    Question(
        "two-grids",
        "One group varies only the weight decay and finds the sharper networks better. Another varies only "
        "the step size and finds the flatter ones better. Who is right?",
        (
            "The second: flat minima generalize.",
            "The first: it is the newer result.",
            "Neither: contradicting measurements cannot both be right.",
            "Both, about their own grid: each treatment moves sharpness and test error in its own way.",
        ),
        3,
        {
            0: "Among our networks decay made them sharper and better. Section 5.",
            1: "Both can be seen in one cloud of 108 networks. Section 6.",
            2: "They measure different things: what decay does, and what the step does. Section 6.",
        },
    ),
)
