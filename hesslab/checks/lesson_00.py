"""The one check of lesson 00, on which a learner sees what feedback looks like, and its ticket."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from hesslab.checks.laws.feedback import Violation, check, differs
from hesslab.checks.laws.ticket import Question


@check
def check_mean_eigenvalue(
    mean_eigenvalue: Callable[..., Any], rng: np.random.Generator
) -> Iterator[Violation | None]:
    """Judge a function of a symmetric (n, n) matrix that returns the mean of its eigenvalues."""
    for n in (2, 3, 5):
        A = rng.standard_normal((n, n))
        A = A + A.T + np.eye(n)
        eigenvalues = np.linalg.eigvalsh(A)
        yield differs(
            mean_eigenvalue(A),
            np.mean(eigenvalues),
            law="mean_eigenvalue(A) = (λ₁ + … + λₙ) / n",
            case=f"a random symmetric matrix with n = {n}",
            advice="Compute the eigenvalues with np.linalg.eigvalsh and take their mean.",
            mistakes={
                "sum": (np.sum(eigenvalues), f"This is the sum of the eigenvalues, {n} times their mean."),
                "largest": (eigenvalues[-1], "This is the largest eigenvalue, not the mean of all."),
                "modulus": (np.mean(np.abs(eigenvalues)), "Eigenvalues can be negative: take no modulus."),
            },
        )


TICKET = (
    Question(
        id="failing-card",
        text="You change a line of a lesson, and a claim card raises an error. What does that mean?",
        choices=(
            "My change broke the notebook's code.",
            "With my change, the measurement no longer supports the claim.",
            "The claim is false.",
        ),
        right=1,
        diagnoses={
            0: "The code ran: the card compared a number and refused it. See 'A claim card'.",
            2: "A card speaks of its own conditions only; you have left them. See 'A claim card'.",
        },
    ),
)
