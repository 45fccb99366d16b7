"""The laws of Krylov methods: what Lanczos, power iteration and a residual owe, whatever the matrix.

Each law takes the learner's function and answers None or a `Violation` that names the likely mistake. A
Lanczos function is `f(A, v, num_steps)`; it answers (alpha, beta, V), or anything with these attributes: the
diagonal (k,) and off-diagonal (k - 1,) of T, and the basis (n, k) as columns. A power iteration is `f(A,
max_matvecs=…, rng=…)`; it answers (value, vector), or anything with `.values` and `.vectors`. `advice` says
where to reread.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hesslab.checks.laws.feedback import EXACT, SINGLE, Violation, differs, numbers
from hesslab.matrices import with_spectrum

Function = Callable[..., Any]
Rng = int | np.random.Generator
Values = NDArray[np.float64]


def has_shapes(f: Function, *, rng: Rng, advice: str = "") -> Violation | None:
    """T is (k, k) and V is (n, k) after k steps, and v is as it was.

    >>> has_shapes(lambda A, v, m: (np.zeros(m), np.zeros(m - 1), np.ones((m, len(v)))), rng=0).diagnosis
    'rows-for-columns'
    """
    A, v = _instance(rng)
    given, law, case = v.copy(), "T is (k, k), V is (n, k)", "n = 40, 5 steps"
    answer = f(A, given, 5)
    if answer is None:
        return Violation("returns-nothing", law, case, "None", "The function has no `return`.")
    if not hasattr(answer, "alpha") and not (isinstance(answer, tuple | list) and len(answer) == 3):
        hint = f"Return Tridiagonal(alpha, beta, V, beta_next, v_next). {advice}"
        return Violation("not-the-relation", law, case, type(answer).__name__, hint)
    alpha, _, V = _parts(answer)
    for wrong, diagnosis, hint in (
        (alpha.shape != (5,), "number-of-steps", "Each of the steps asked for gives one α."),
        (V.shape == (5, 40), "rows-for-columns", "The basis vectors are the columns of V: transpose it."),
        (V.shape == (40, 6), "one-vector-too-many", "V ends with v_k: v_(k+1) has a place of its own."),
        (V.shape != (40, 5), "shape", "V holds v₁ … v_k as columns."),
        (not np.array_equal(given, v), "input-changed", "v is the caller's: write v / ‖v‖ to a new array."),
    ):
        if wrong:
            found = f"alpha {alpha.shape}, V {V.shape}{', v changed' if diagnosis == 'input-changed' else ''}"
            return Violation(diagnosis, law, case, found, f"{hint} {advice}")
    return None


def starts_at_v(f: Function, *, rng: Rng, advice: str = "") -> Violation | None:
    """The first basis vector is v / ‖v‖.

    >>> starts_at_v(lambda A, v, m: (np.zeros(m), np.zeros(m - 1), np.outer(v, np.ones(m))), rng=0).diagnosis
    'start-not-normalized'
    """
    A, v = _instance(rng)
    unit = v / np.linalg.norm(v)
    return differs(
        _lanczos(f, A, v, 3)[2][:, 0],
        unit,
        law="v₁ = v / ‖v‖",
        case="n = 40, ‖v‖ = 3",
        diagnosis="other-start",
        advice=f"Begin with the vector given, divided by its norm. {advice}",
        mistakes={"start-not-normalized": (v, f"Divide v by its norm before the first product. {advice}")},
        tolerance=EXACT,
    )


def is_orthonormal(f: Function, *, rng: Rng, advice: str = "") -> Violation | None:
    """VᵀV = I, also long after Ritz values have converged: 39 steps on outliers 10, 3, 2 over a bulk.

    >>> is_orthonormal(lambda A, v, m: (np.zeros(m), np.zeros(m - 1), np.ones((len(v), m))), rng=0).diagnosis
    'not-orthonormal'
    """
    A, v = _instance(rng)
    for steps, diagnosis, hint in (
        (
            4,
            "not-orthonormal",
            "Subtract the components along the last two vectors, then divide by the norm.",
        ),
        (39, "no-reorthogonalization", "Rounding grows as Ritz values converge: subtract V (Vᵀ w) twice."),
    ):
        V = _lanczos(f, A, v, steps)[2]
        violation = differs(
            V.T @ V,
            np.eye(V.shape[1]),
            law="VᵀV = I",
            case=f"n = 40, outliers 10, 3 and 2 over a bulk, {steps} steps",
            diagnosis=diagnosis,
            advice=f"{hint} {advice}",
            tolerance=EXACT,
        )
        if violation is not None:
            return violation
    return None


def is_tridiagonal(f: Function, *, rng: Rng, advice: str = "") -> Violation | None:
    """VᵀA V = T: `alpha` holds v_jᵀA v_j and `beta` holds v_{j+1}ᵀA v_j > 0.

    >>> def negative(A, v, m):
    ...     return np.ones(m), -np.ones(m - 1), np.eye(len(v))[:, :m]
    >>> is_tridiagonal(negative, rng=0).diagnosis
    'alpha'
    """
    A, v = _instance(rng)
    alpha, beta, V = _lanczos(f, A, v, 8)
    T = V.T @ A @ V
    text: dict[str, Any] = {"case": "n = 40, 8 steps", "tolerance": EXACT}
    violation = differs(
        alpha,
        np.diag(T),
        law="α_j = v_jᵀA v_j",
        diagnosis="alpha",
        advice=f"Take α_j from A v_j, before anything is subtracted. {advice}",
        mistakes={"norm-for-alpha": (np.linalg.norm(A @ V, axis=0), f"α_j is an inner product. {advice}")},
        **text,
    )
    return violation or _off_diagonal(beta, A, V, T, advice, text)


def _off_diagonal(
    beta: Values, A: Values, V: Values, T: Values, advice: str, text: dict[str, Any]
) -> Violation | None:
    expected = np.diag(T, 1)
    left = A @ V[:, -1] - V @ T[:, -1]
    shifted = np.append(expected[1:], np.linalg.norm(left))
    if beta.shape == (len(expected) + 1,):
        hint = f"T has one β fewer than α: the last, ‖A v_k - V T e_k‖, belongs to v_(k+1). {advice}"
        return Violation(
            "one-beta-too-many", "T is (k, k)", text["case"], f"{len(beta)} numbers in beta", hint
        )
    return differs(
        beta,
        expected,
        law="β_j = v_(j+1)ᵀA v_j",
        diagnosis="beta",
        advice=f"β_j is the norm of what is left of A v_j. {advice}",
        mistakes={
            "off-by-one": (shifted, f"β_1 joins v₁ and v₂: it is the norm after the first product. {advice}"),
            "square-for-norm": (expected**2, f"β_j is the norm, not its square. {advice}"),
            "sign": (-expected, f"β_j is a norm, hence positive. {advice}"),
        },
        **text,
    )


def has_no_ghosts(f: Function, *, rng: Rng, advice: str = "") -> Violation | None:
    """A simple eigenvalue is one eigenvalue of T, at any number of steps: 80 on an eigenvalue 10 over a bulk.

    >>> def copies(A, v, m):
    ...     return np.full(m, 10.0), np.zeros(m - 1), np.zeros((len(v), m))
    >>> has_no_ghosts(copies, rng=0).diagnosis
    'ghosts'
    """
    rng = np.random.default_rng(rng)
    A = with_spectrum(np.concatenate([[10.0, 3.0, 2.0], np.linspace(1.0, 0.0, 117)]), rng=rng)
    alpha, beta, _ = _lanczos(f, A, rng.standard_normal(120), 80)
    T = np.diag(alpha) + np.diag(beta[: len(alpha) - 1], 1) + np.diag(beta[: len(alpha) - 1], -1)
    copies = int(np.sum(np.abs(np.linalg.eigvalsh(T) - 10.0) < SINGLE))
    if copies == 1:
        return None
    return Violation(
        diagnosis="ghosts" if copies > 1 else "not-found",
        law="a simple eigenvalue of A appears once among those of T",
        case="n = 120, one eigenvalue 10, 80 steps",
        found=f"{copies} copies of 10",
        advice=f"Make each new vector orthogonal to all the earlier ones, twice. {advice}",
    )


def closes_at_any_scale(f: Function, *, rng: Rng, advice: str = "") -> Violation | None:
    """With four distinct eigenvalues the space closes after four steps, be they of order 1, 1e-13 or 1e8.

    >>> closes_at_any_scale(lambda A, v, m: (np.zeros(1), np.zeros(0), v[:, None]), rng=0).diagnosis
    'absolute-threshold'
    """
    rng = np.random.default_rng(rng)
    A = with_spectrum(np.repeat([4.0, 3.0, 2.0, 1.0], 5), rng=rng)
    spaces = np.linalg.eigh(A)[1].T.reshape(4, 5, 20)
    # A start that nearly misses an eigenspace has a small last β, which lifts rounding above any threshold.
    parts = np.einsum("spi,spj,j->si", spaces, spaces, rng.standard_normal(20))
    v = np.sum(parts / np.linalg.norm(parts, axis=1, keepdims=True), axis=0)
    for scale in (1.0, 1e-13, 1e8):
        alpha = _lanczos(f, scale * A, v, 10)[0]
        if len(alpha) == 4 and np.all(np.isfinite(alpha)):
            continue
        early = len(alpha) < 4
        hint = (
            "Stop where β is rounding beside ‖A v‖, not below a fixed number."
            if early or scale != 1.0
            else ("Stop where β is rounding, before dividing by it: there is no next vector.")
        )
        return Violation(
            diagnosis="absolute-threshold" if early or scale != 1.0 else "no-stop",
            law="a Krylov space closes after as many steps as there are distinct eigenvalues",
            case=f"eigenvalues {scale:.0e} · (4, 3, 2, 1), five times each, 10 steps allowed",
            found=f"{len(alpha)} steps",
            advice=f"{hint} {advice}",
        )
    return None


def leaves_the_next(f: Function, *, rng: Rng, advice: str = "") -> Violation | None:
    """A V − V T = β_k v_{k+1} e_kᵀ, and β_k = 0 where the space closes. Not asked of a triple.

    >>> leaves_the_next(lambda A, v, m: (np.zeros(m), np.zeros(m - 1), np.eye(12)[:, :m]), rng=0) is None
    True
    """
    A = with_spectrum(np.linspace(-2.0, 3.0, 12), rng=rng)
    answer, closed = f(A, np.ones(12), 5), f(np.diag([3.0, 2.0, 1.0, 1.0]), np.ones(4), 4)
    if not hasattr(answer, "beta_next"):
        return None
    law = "A V = V T + β_k v_(k+1) e_kᵀ"
    text: dict[str, Any] = {"case": "n = 12, 5 steps", "tolerance": SINGLE}
    alpha, beta, V = _parts(answer)
    rest = A @ V[:, -1] - alpha[-1] * V[:, -1] - beta[-1] * V[:, -2]
    size = float(np.linalg.norm(rest))
    earlier = f"This is β_(k-1), which stands in T. β_k is the norm after the last product. {advice}"
    zero = f"β_k is 0 only where the space closes. It is the last norm. {advice}"
    violation = differs(
        answer.beta_next,
        size,
        law=law,
        advice=f"β_k is the last norm. {advice}",
        mistakes={"last-beta": (beta[-1], earlier), "no-last-beta": (0.0, zero)},
        **text,
    ) or differs(
        numbers(answer.v_next),
        rest / size,
        law=law,
        diagnosis="other-next",
        advice=f"v_(k+1) is what is left after the last product, divided by β_k. {advice}",
        mistakes={"next-not-normalized": (rest, f"v_(k+1) has length 1: divide by β_k. {advice}")},
        **text,
    )
    if violation is None and numbers(closed.beta_next) != 0:
        hint = f"Where the space has closed β_k is rounding: answer 0. {advice}"
        return Violation("not-closed", law, "diag(3, 2, 1, 1), 4 steps", f"β_k = {closed.beta_next}", hint)
    return violation


def finds_largest_modulus(f: Function, *, rng: Rng, advice: str = "") -> Violation | None:
    """Power iteration ends at the eigenvalue of largest modulus, with its sign: here -7, although λmax is 5.

    >>> finds_largest_modulus(lambda A, *, max_matvecs, rng: (7.0, np.ones(30)), rng=0).diagnosis
    'modulus-for-value'
    """
    A, _ = _signed(rng)
    return differs(
        _power(f, A, rng)[0],
        -7.0,
        law="λ = vᵀA v → the eigenvalue of largest modulus",
        case="eigenvalues -7, 5 and others in [-1, 1]; 200 products",
        diagnosis="not-converged",
        advice=f"Multiply and normalize in every step; answer the Rayleigh quotient. {advice}",
        mistakes={
            "modulus-for-value": (7.0, f"‖A v‖ has lost the sign; answer vᵀA v. {advice}"),
            "largest-value": (5.0, f"Power iteration does not see λmax = 5 beside -7. {advice}"),
        },
    )


def vector_is_unit(f: Function, *, rng: Rng, advice: str = "") -> Violation | None:
    """The vector has norm one and is the eigenvector, up to its sign.

    >>> vector_is_unit(lambda A, *, max_matvecs, rng: (-7.0, np.ones(30)), rng=0).diagnosis
    'not-normalized'
    """
    A, u = _signed(rng)
    v = _power(f, A, rng)[1]
    case = "eigenvalues -7, 5 and others in [-1, 1]; 200 products"
    return differs(
        np.linalg.norm(v),
        1.0,
        law="‖v‖ = 1",
        diagnosis="not-normalized",
        advice=f"Divide by the norm in every step, also the last. {advice}",
        case=case,
    ) or differs(
        abs(v @ u),
        1.0,
        law="v = ± the eigenvector of the eigenvalue of largest modulus",
        diagnosis="other-vector",
        advice=f"Answer the vector that belongs to the value. {advice}",
        case=case,
    )


def encloses(f: Function, *, rng: Rng, advice: str = "") -> Violation | None:
    """`f(A, value, v)` answers (λ - r, λ + r) with r = ‖A v - λ v‖ / ‖v‖: there is an eigenvalue inside.

    >>> encloses(lambda A, value, v: (value, value), rng=0).diagnosis
    'not-the-residual'
    """
    A, v = _instance(rng)
    value = 0.9 * float(v @ A @ v) / float(v @ v)
    r, size = np.linalg.norm(A @ v - value * v), np.linalg.norm(v)
    return differs(
        np.asarray(f(A, value, v), dtype=np.float64),
        np.array([value - r / size, value + r / size]),
        law="an eigenvalue lies within ‖A v - λ v‖ / ‖v‖ of λ",
        case="n = 40, ‖v‖ = 3, any λ",
        diagnosis="not-the-residual",
        advice=f"The radius is the norm of A v - λ v over the norm of v. {advice}",
        mistakes={
            "norm-of-v": (np.array([value - r, value + r]), f"Divide by ‖v‖. {advice}"),
            "squared": (np.array([value - r**2, value + r**2]), f"The norm, not its square. {advice}"),
        },
    )


def _instance(rng: Rng) -> tuple[Values, Values]:
    """A matrix of 40 rows with outliers 10, 3 and 2 over a bulk in [0, 1], and a vector of norm 3."""
    rng = np.random.default_rng(rng)
    A = with_spectrum(np.concatenate([[10.0, 3.0, 2.0], np.linspace(1.0, 0.0, 37)]), rng=rng)
    v = rng.standard_normal(40)
    return A, 3.0 * v / np.linalg.norm(v)


def _signed(rng: Rng) -> tuple[Values, Values]:
    """A matrix with eigenvalues -7, 5 and others in [-1, 1], and the eigenvector of -7."""
    A = with_spectrum(np.concatenate([[-7.0, 5.0], np.linspace(-1.0, 1.0, 28)]), rng=rng)
    return A, np.linalg.eigh(A)[1][:, 0]


def _lanczos(f: Function, A: Values, v: Values, num_steps: int) -> tuple[Values, Values, Values]:
    return _parts(f(A, v.copy(), num_steps))


def _parts(answer: Any) -> tuple[Values, Values, Values]:
    parts = (answer.alpha, answer.beta, answer.V) if hasattr(answer, "alpha") else answer
    alpha, beta, V = (numbers(part) for part in parts)
    return alpha, beta, V


def _power(f: Function, A: Values, rng: Rng) -> tuple[Values, Values]:
    answer = f(A, max_matvecs=200, rng=np.random.default_rng(rng))
    if hasattr(answer, "values"):
        return numbers(answer.values)[0], numbers(answer.vectors)[:, 0]
    value, vector = answer
    return numbers(value), numbers(vector).reshape(-1)
