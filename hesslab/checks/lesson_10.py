"""Checks of lesson 10, interventions: six answers on fresh instances, and the exit ticket."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hesslab.checks.laws.feedback import Violation, check, compare, numbers
from hesslab.checks.laws.ticket import Question

Vector = NDArray[np.float64]
Laws = Iterator[Violation | None]
Answer = Callable[..., Any]


@check
def check_clip_by_norm(clip: Answer, rng: np.random.Generator) -> Laws:
    """A list of gradients, clipped together by their common length; short ones are left alone."""
    shapes: tuple[tuple[int, ...], ...] = ((3, 2), (4,), (2, 5))
    for longest, common in ((0.5, 4.0), (2.0, 1.5), (0.1, 9.0), (3.0, 3.5)):
        g = [rng.standard_normal(shape) for shape in shapes]
        scale = common / _common_length(g)
        yield _clip_law(clip, [scale * part for part in g], longest)


def _clip_law(clip: Answer, g: list[Vector], longest: float) -> Violation | None:
    common = _common_length(g)
    right = _flat([part * min(1.0, longest / common) for part in g])
    wrong = {
        "each-alone": (
            [part * min(1.0, longest / float(np.linalg.norm(part))) for part in g],
            "Each array is clipped alone: that changes the direction. Take the length of all together.",
        ),
        "by-entry": (
            [np.clip(part, -longest, longest) for part in g],
            "Each entry is clipped: that changes the direction. Multiply all by one number.",
        ),
        "always": (
            [part * longest / common for part in g],
            "A gradient shorter than the limit is left as it is: the factor is at most 1.",
        ),
        "squared": (
            [part * min(1.0, longest / common**2) for part in g],
            "The length is the root of the sum of squares.",
        ),
        "unchanged": (g, "Nothing was clipped."),
    }
    flat = {name: (_flat(value), hint) for name, (value, hint) in wrong.items()}
    mistakes = {name: pair for name, pair in flat.items() if np.abs(pair[0] - right).max() > 1e-3}
    case = f"three arrays with the common length {common:.2f}, longest = {longest:g}"
    if (found := clip([part.copy() for part in g], longest)) is None:
        return compare(None, right, {}, "g · min(1, c/‖g‖)", case, "", 3)
    parts = [numbers(part) for part in (found if hasattr(found, "__iter__") else [found])]
    if [part.shape for part in parts] != [part.shape for part in g]:
        seen = ", ".join(str(part.shape) for part in parts[:3]) + (", …" if len(parts) > 3 else "")
        hint = "Return a list of three arrays, with the shapes of the gradients. Section 3."
        return Violation("shape", "g · min(1, c/‖g‖)", case, f"{len(parts)} of the shapes {seen}", hint)
    advice = "Multiply each array by min(1, longest / length of all entries together)."
    return compare(_flat(parts), right, mistakes, "g · min(1, c/‖g‖)", case, advice, 3)


def _common_length(g: list[Vector]) -> float:
    return float(np.sqrt(sum((part**2).sum() for part in g)))


def _flat(g: list[Vector]) -> Vector:
    return np.concatenate([np.ravel(part) for part in g])


@check
def check_decayed_edge(edge: Answer, rng: np.random.Generator) -> Laws:
    """The largest stable curvature of SGD and of AdamW with decay, and of Adam + L2 by its own matrix."""
    for kind in ("sgd", "adamw", "adam", "sgd", "adamw"):
        eta = float(rng.uniform(0.1, 0.6))
        yield _edge_law(edge, kind, eta, float(rng.uniform(0.2, 1.0)), float(rng.uniform(0.3, 0.9)))


def _edge_law(edge: Answer, kind: str, eta: float, omega: float, beta: float) -> Violation | None:
    momentum = (1 + beta) / (1 - beta)
    thresholds = {"sgd": 2 / eta - omega, "adam": 2 / eta * momentum, "adamw": (2 / eta - omega) * momentum}
    right = thresholds[kind]
    wrong = {
        "added": (
            (2 / eta + omega) * (1.0 if kind == "sgd" else momentum),
            "The decay adds to the curvature, so that less is left for the loss: subtract.",
        ),
        "no-decay": (
            2 / eta * (1.0 if kind == "sgd" else momentum),
            "The decay is missing: η(λ + ω) must not exceed 2.",
        ),
        "outside": (
            2 / eta * momentum - omega,
            "AdamW decays beside the momentum: the factor (1 + β)/(1 − β) goes with the whole bracket.",
        ),
        "averaged" if kind == "sgd" else "coupled": (
            (2 / eta - omega) * momentum,
            "SGD ignores β. Adam + L2 has its decay in the matrix already: P^(−1/2)(H + ω)P^(−1/2).",
        ),
        "no-momentum": (
            2 / eta - (omega if kind == "adamw" else 0.0),
            "The factor (1 + β)/(1 − β) of the averaged gradient is missing.",
        ),
        "times-eta": (
            (2 - omega) / eta * (1.0 if kind == "sgd" else momentum),
            "The decay is multiplied by η in the step, as λ is: 2/η − ω.",
        ),
    }
    mistakes = {name: pair for name, pair in wrong.items() if abs(pair[0] - right) > 1e-3 * right}
    case = f'kind = "{kind}", η = {eta:.3g}, ω = {omega:.3g}, β = {beta:.3g}'
    advice = "SGD: 2/η − ω. Adam, with the decay in its matrix: (2/η) times (1 + β)/(1 − β). AdamW: both."
    return compare(edge(kind, eta, omega, beta), right, mistakes, "largest stable λ", case, advice, 6)


@check
def check_sam_edge(edge: Answer, rng: np.random.Generator) -> Laws:
    """The curvature λ at which η λ (1 + ρλ/‖g‖) = 2."""
    for length in (0.01, 1.0, 30.0, 0.2):
        yield _sam_edge_law(edge, float(rng.uniform(0.1, 1.0)), float(rng.uniform(0.02, 0.3)), length)


def _sam_edge_law(edge: Answer, eta: float, rho: float, length: float) -> Violation | None:
    right = max(np.roots([eta * rho / length, eta, -2.0]).real)
    root = np.sqrt(1 + 8 * rho / (eta * length))
    mistakes = {
        "negative-root": (
            -length / (2 * rho) * (root + 1),
            "This is the negative root: a curvature λ > 0 is wanted.",
        ),
        "plus": (length / (2 * rho) * (root + 1), "It must be √… − 1: for ρ → 0 the edge is 2/η."),
        "plain": (2 / eta, "This is the edge of gradient descent. SAM steps on λ(1 + ρλ/‖g‖)."),
        "no-length": (
            (np.sqrt(1 + 8 * rho / eta) - 1) / (2 * rho),
            "The length of the gradient is missing: SAM climbs by ρ g/‖g‖.",
        ),
        "four": (
            length / (2 * rho) * (np.sqrt(1 + 4 * rho / (eta * length)) - 1),
            "The discriminant is 1 + 8ρ/(η‖g‖): the right side is 2/η, and 4ac has a 4.",
        ),
        "at-the-start": (
            2 / eta / (1 + 2 * rho / (eta * length)),
            "λ stands on both sides: solve ρλ²/‖g‖ + λ = 2/η for it.",
        ),
        "no-half": (length / rho * (root - 1), "Divide by 2ρ/‖g‖, twice the coefficient of λ²."),
    }
    mistakes = {name: pair for name, pair in mistakes.items() if abs(pair[0] - right) > 1e-3 * right}
    case = f"η = {eta:.3g}, ρ = {rho:.3g}, ‖g‖ = {length:g}"
    advice = "Solve (ρ/‖g‖)λ² + λ − 2/η = 0 for its positive root."
    return compare(edge(eta, rho, length), right, mistakes, "ηλ(1 + ρλ/‖g‖) = 2", case, advice, 4)


@check
def check_sam(sam: Answer, rng: np.random.Generator) -> Laws:
    """The points of SAM on a function that is no quadratic, from a written-out recursion."""
    for curvatures, eta, rho, steps in (
        ([2.0, 0.3], 0.4, 0.2, 1),
        ([1.0, 0.5, 0.1], 0.7, 0.5, 8),
        ([4.0, 1.0], 0.3, 0.1, 5),
    ):
        start = rng.uniform(0.5, 2.0, len(curvatures))
        yield _sam_law(
            sam, np.array(curvatures), rng.standard_normal(len(curvatures)), start, eta, rho, steps
        )


def _sam_law(
    sam: Answer, lam: Vector, b: Vector, start: Vector, eta: float, rho: float, steps: int
) -> Violation | None:
    hints = {
        "plain": "This is gradient descent: take the gradient at x + ρ g/‖g‖.",
        "from-above": "The step starts at x. Only the gradient is taken at the point uphill.",
        "not-normalized": "Climb by the length ρ: divide g by its length.",
        "downhill": "Climb: the point is x + ρ g/‖g‖, where the loss is higher.",
        "sum": "Only the gradient of the point uphill enters the step, not the one at x.",
        "scaled-back": "The gradient uphill enters with its own length.",
    }
    right = _sam_path(lam, b, start, eta, rho, steps, "")
    wrong = {name: (_sam_path(lam, b, start, eta, rho, steps, name), hint) for name, hint in hints.items()}
    wrong["one-array"] = np.tile(right[-1], (steps + 1, 1)), "x -= … changes the point kept: use x = x − …."
    mistakes = {name: pair for name, pair in wrong.items() if np.abs(pair[0] - right).max() > 1e-3}
    found = sam(lambda x: _slope(lam, b, numbers(x)), start.copy(), eta, rho, steps)
    case = f"Σ (λx²/2 − cos x) − b·x with λ = {lam.tolist()}, η = {eta:g}, ρ = {rho:g}, {steps} steps"
    advice = "g = ∇L(x), then x ← x − η ∇L(x + ρ g/‖g‖), and return all points, the first included."
    return compare(found, right, mistakes, "the points of SAM", case, advice, 4)


def _sam_path(lam: Vector, b: Vector, x: Vector, eta: float, rho: float, steps: int, kind: str) -> Vector:
    """The points of SAM, or of one mistake, written out."""
    points = [x]
    for _ in range(steps):
        g = _slope(lam, b, x)
        length = 1.0 if kind == "not-normalized" else float(np.sqrt((g * g).sum()))
        up = x + {"plain": 0.0, "downhill": -rho}.get(kind, rho) * g / length
        slope = _slope(lam, b, up) + (g if kind == "sum" else 0.0)
        slope = slope * length / float(np.sqrt((slope * slope).sum())) if kind == "scaled-back" else slope
        x = (up if kind == "from-above" else x) - eta * slope
        points.append(x)
    return np.array(points)


def _slope(lam: Vector, b: Vector, x: Vector) -> Vector:
    return lam * x + np.sin(x) - b  # the gradient of Σ (λx²/2 − cos x) − b·x


@check
def check_first_crossing(crossing: Answer, rng: np.random.Generator) -> Laws:
    """The first step of a linear ramp at which η_t λ exceeds 2, or None."""
    for length, product in ((200, 14.3), (50, 5.1), (30, 1.7), (10, 2.15), (1, 6.3), (100, 29.6)):
        eta = float(rng.uniform(0.3, 1.5))
        yield _crossing_law(crossing, product * float(rng.uniform(0.98, 1.02)) / eta, eta, length)


def _crossing_law(crossing: Answer, lam: float, eta: float, length: int) -> Violation | None:
    ramp = eta * (np.arange(length) + 1) / length
    over = np.flatnonzero(ramp * lam > 2)
    right = int(over[0]) if len(over) else None
    found = crossing(lam, eta, length)
    law = "the first t with η_t λ > 2"
    case = f"λ = {lam:.3g}, target η = {eta:.3g} (ηλ = {eta * lam:.3g}), ramp of {length} steps"
    if found is None or right is None:
        if found is None and right is None:
            return None
        name = "never" if right is None else "returns-nothing"
        hint = (
            "At the end of the ramp η_t λ is still below 2: return None. Section 5."
            if right is None
            else "The ramp does pass the edge: return the first step of it that is above. Section 5."
        )
        return Violation(name, law, case, f"{found}, expected {right}", hint)
    late = np.flatnonzero(ramp * lam > 1)[0]
    mistakes = {
        "one-for-two": (float(late), "The edge is at η_t λ = 2. With 1 the step merely starts to overshoot."),
        "counted-from-one": (right + 1.0, "Steps count from 0: at t = 0 the ramp is at η/W."),
        "one-too-early": (right - 1.0, "At this step η_t λ is still below 2."),
        "length": (float(length), "The ramp passes the edge before its end."),
        "share": (2 / (eta * lam), "This is the share of the ramp; asked for is the step, a whole number."),
    }
    mistakes = {name: pair for name, pair in mistakes.items() if pair[0] != right}
    advice = "η_t = η (t + 1)/W for t = 0, …, W − 1; find the first t with η_t λ > 2."
    return compare(found, float(right), mistakes, law, case, advice, 5)


@check
def check_keep_step(keep: Answer, rng: np.random.Generator) -> Laws:
    """The look to keep and the look at which to stop, with patience, from the losses on held-out data."""
    noise = rng.uniform(0, 0.004, 12)
    for losses, patience, case in (
        ([5, 4, 3, 2, 2.5, 2.6, 2.7, 2.8, 1.0], 3, "a better look after the stop"),
        ([5, 4, 3.2, 4.2, 4.4, 3, 3.3, 2, 2.2, 2.3, 2.4, 2.6], 3, "bumps shorter than the patience"),
        ([5, 4, 3, 2.5, 2.4, 2.3], 2, "the best look is the last"),
        ([3, 3.5, 3.2, 3.4, 3.1, 3.3, 3.4, 3.5], 2, "the first look is the best"),
        ([4, 2, 3, 2, 3, 2.5, 2.6], 3, "a tie is no improvement"),
    ):
        exact = np.array(losses) + (0 if "tie" in case else noise[: len(losses)])
        yield _keep_law(keep, exact, patience, case)


def _keep_law(keep: Answer, losses: Vector, patience: int, case: str) -> Violation | None:
    right = _kept(losses, patience)
    stopped, all_best = right[1], int(np.argmin(losses))
    bump = int(np.argmax(np.append(np.diff(losses) > 0, True)))
    wrong = {
        "keeps-the-last": ([stopped, stopped], "Keep the weights of the best look, not those of the stop."),
        "looks-ahead": ([all_best, stopped], "After the stop nothing is seen: later looks do not count."),
        "never-stops": (
            [all_best, len(losses) - 1],
            "Stop once `patience` looks have brought no improvement.",
        ),
        "counted-from-one": ([right[0] + 1, stopped + 1], "Looks are counted from 0."),
        "past-the-end": ([right[0], len(losses)], "The last look is `len(losses) - 1`."),
        "swapped": (right[::-1], "First the look that you keep, then the look of the stop."),
        "first-bump": ([bump, bump + 1], "One worse look is not the end: wait for `patience` looks."),
        "one-too-late": (
            _kept(losses, patience + 1),
            "Stop at the look that makes it `patience` without improvement.",
        ),
        "one-too-early": (_kept(losses, patience - 1), "Wait for `patience` looks in a row."),
        "tie": (_kept(losses, patience, ties=True), "An equal loss is no improvement: use <, not <=."),
        "since-the-last": (
            _kept(losses, patience, rising=True),
            "Compare with the best look so far, not with the look before.",
        ),
    }
    mistakes = {name: pair for name, pair in wrong.items() if list(pair[0]) != right}
    text = f"{case}: {np.round(losses, 2).tolist()}, patience {patience}"
    advice = "Keep the best loss so far and count the looks since; stop when the count is `patience`."
    return compare(keep(losses.copy(), patience), right, mistakes, "(kept, stopped)", text, advice, 7)


def _kept(losses: Vector, patience: int, ties: bool = False, rising: bool = False) -> list[int]:
    """The best look before the stop, and the look of the stop."""
    best = waited = 0
    for i in range(1, len(losses)):
        before = losses[i - 1] if rising else losses[best]
        better = losses[i] <= before if ties else losses[i] < before
        best = i if better and losses[i] <= losses[best] else best
        waited = 0 if better else waited + 1
        if waited >= patience > 0:
            return [best, i]
    return [best, len(losses) - 1]


TICKET = (
    Question(
        "lower-and-calmer",
        "With SAM the sharpness ends at half of what it was without. Its ratio to the edge of the step "
        "that is taken is now",
        ("half of what it was.", "about 1, as before.", "unknown: SAM has no edge.", "κ."),
        1,
        {
            0: "SAM lowers its own edge as well; divide by that. Section 4.",
            2: "It has one, and it depends on the length of the gradient. Section 4.",
            3: "The edge knows nothing of κ. Section 4.",
        },
    ),
    Question(
        "all-clipped",
        "Every gradient of a run is clipped, nothing diverges, and the log shows ηλmax/2 = 2.5. Why?",
        (
            "λmax was measured wrongly: above 1 a run cannot go on.",
            "Clipping shortens the steep directions only.",
            "The step that is taken is shorter than η g: its edge is higher, and the run is near that.",
            "The run is about to diverge.",
        ),
        2,
        {
            0: "The edge of η is not the edge of the step taken. Section 3.",
            1: "All directions are shortened alike. Section 3.",
            3: "The steps have the length ηc at most. Section 3.",
        },
    ),
    Question(
        "sharp-warning",
        "A classifier is trained with cross-entropy. Someone wants to stop as soon as λmax passes a limit, "
        "before it overfits. What is wrong?",
        (
            "Nothing: overfitted minima are sharp.",
            "The limit should be 2/η.",
            "λmax may be largest near the best stop, and fall during overfitting; watch held-out loss.",
            "The trace should be used, not λmax.",
        ),
        2,
        {
            0: "In Section 7 the overfitted end is several times flatter than the best stop.",
            1: "2/η belongs to the step size, and says nothing of overfitting. Section 7.",
            3: "Another measure of sharpness does not mend the argument. Section 7.",
        },
    ),
)
