"""A check made of a reference: an answer must agree with it on fresh instances; likely mistakes are known.

`lab.py exam` copies this file into the exam that it writes, so that the exam's checks need `hesslab` alone.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from hesslab.checks.laws.feedback import Violation, check, differs

CASES = 4  # instances of one judgement; a question's inputs may differ in kind from case to case


def by_reference(
    name: str,
    reference: Callable[..., Any],
    inputs: Callable[[np.random.Generator, int], tuple[Any, ...]],
    mistakes: dict[str, tuple[Callable[..., Any], str]],
    tolerance: float,
) -> Any:
    """The check of the function `name`: it agrees with `reference` on `inputs(rng, case)` for every case.

    `mistakes` maps a diagnosis to (a function that makes the mistake, advice); the diagnosis is given where
    the answer makes that mistake in every case.
    """

    def laws(answer: Any, rng: np.random.Generator) -> Iterator[Violation | None]:
        instances = [inputs(rng, case) for case in range(CASES)]
        found = [answer(*_copies(instance)) for instance in instances]
        for case, (value, instance) in enumerate(zip(found, instances, strict=True)):
            title, advice = f"instance {case + 1} of {CASES}", "Read the question again, word by word."
            right = reference(*_copies(instance))
            law = f"{name} gives what the question asks for"
            violation = differs(value, right, law=law, case=title, advice=advice, tolerance=tolerance)
            if violation is not None:
                yield _explained(violation, found, instances, mistakes, tolerance)

    laws.__name__ = f"check_{name}"
    return check(laws)


def _explained(
    violation: Violation, found: list[Any], instances: Any, mistakes: Any, tolerance: float
) -> Violation:
    for diagnosis, (mistake, advice) in mistakes.items():
        if violation.diagnosis == "value" and _all_agree(mistake, found, instances, tolerance):
            return Violation(diagnosis, violation.law, violation.case, violation.found, advice)
    return violation


def _all_agree(mistake: Any, found: list[Any], instances: Any, tolerance: float) -> bool:
    for value, instance in zip(found, instances, strict=True):
        wrong = mistake(*_copies(instance))
        if differs(value, wrong, law="", case="", advice="", tolerance=tolerance) is not None:
            return False
    return True


def _copies(instance: tuple[Any, ...]) -> list[Any]:
    return [part.copy() if isinstance(part, np.ndarray) else part for part in instance]
