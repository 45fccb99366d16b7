"""Questions and predictions: what a wrong choice says about a misconception, and how answers are scored."""

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hesslab.checks.laws.rounding import to_tolerance, two_digits


@dataclass(frozen=True)
class Question:
    """A question of an exit ticket.

    Fields: `id`; `text`; `choices`, at least two; `right`, the index of the right one; `diagnoses`, for the
    index of every wrong choice the misconception behind it and the section to reread. Raises ValueError where
    `right` is no index of `choices`, or a wrong choice has no diagnosis.

    >>> question = Question("t1", "Is x² convex?", ("yes", "no"), 0, {1: "Its curvature is 2. Section 1."})
    >>> score([question], [1])[0].says
    'You chose 1. Not yet: Its curvature is 2. Section 1.'
    """

    id: str
    text: str
    choices: tuple[str, ...]
    right: int
    diagnoses: Mapping[int, str]

    def __post_init__(self) -> None:
        count = len(require_choices(self.choices, f"question {self.id}"))
        right = choice_index(self.right, count, f"`right` of question {self.id}")
        if set(self.diagnoses) != set(range(count)) - {right}:
            raise ValueError(
                f"question {self.id} has diagnoses for the choices {sorted(self.diagnoses)}; "
                f"expected one for every choice of 0 to {count - 1} but the right one, {right}"
            )


@dataclass(frozen=True)
class Prediction:
    """What a learner was asked, and said: the index of a choice, a number, or None: nothing recorded."""

    id: str
    question: str
    choices: tuple[str, ...] | None
    answer: float | None


@dataclass(frozen=True)
class Verdict:
    """What an answer earns: whether it `passed`, and what is said to its author."""

    passed: bool
    says: str


def score(questions: Sequence[Question], answers: Sequence[int | None]) -> list[Verdict]:
    """The verdict on each of `answers`, the index of a choice or None, in the order of `questions`.

    A wrong answer is told its diagnosis; none is told the right choice. Raises ValueError where the lengths
    differ or an answer is not the index of a choice.
    """
    if len(answers) != len(questions):
        raise ValueError(
            f"answers has {len(answers)} entries for {len(questions)} questions; "
            "give one number for each, and None where you have no answer"
        )
    return [_to_question(question, answer) for question, answer in zip(questions, answers, strict=True)]


def score_predictions(predictions: Sequence[Prediction], outcomes: Mapping[str, Any]) -> list[Verdict]:
    """The verdict on each prediction by its outcome, the index of a choice or a pair (number, tolerance).

    Raises ValueError where predictions and outcomes do not match one to one, or an outcome is neither.
    """
    asked = [prediction.id for prediction in predictions]
    for id in outcomes:
        if id not in asked:
            raise ValueError(f"outcomes has {id!r}, which no predict cell has asked; run that cell first")
    for id in asked:
        if id not in outcomes:
            raise ValueError(f"outcomes has nothing for the prediction {id!r}; add what the lesson computed")
    return [_to_prediction(prediction, outcomes[prediction.id]) for prediction in predictions]


def recorded(id: str, choices: tuple[str, ...] | None, answer: Any) -> float:
    """`answer` as the index of a choice, or as a number where there are no choices; else ValueError."""
    if choices is not None:
        return choice_index(answer, len(choices), f"answer of prediction {id}")
    number = answer.item() if hasattr(answer, "item") else answer
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise ValueError(f"answer of prediction {id} is {answer!r}; expected a finite number, such as 2.5")
    return number


def require_choices(choices: Sequence[str], owner: str) -> tuple[str, ...]:
    """`choices` as a tuple; ValueError unless they are two texts or more."""
    if isinstance(choices, str) or len(choices) < 2:
        raise ValueError(f"choices of {owner} is {choices!r}; expected at least two texts")
    return tuple(choices)


def choice_index(value: Any, count: int, name: str) -> int:
    """`value` as an index below `count`; ValueError, in a sentence about `name`, where it is none.

    >>> choice_index(3, 2, "answer")
    Traceback (most recent call last):
    ValueError: answer is 3; expected the number of a choice, 0 or 1
    """
    try:
        index = operator.index(value)
    except TypeError:
        index = -1
    if isinstance(value, bool) or not 0 <= index < count:
        raise ValueError(f"{name} is {value!r}; expected the number of a choice, {spelled(count)}")
    return index


def spelled(count: int) -> str:
    """The indices below `count` in words: "0, 1 or 2"."""
    return ", ".join(map(str, range(count - 1))) + f" or {count - 1}"


def _to_question(question: Question, answer: int | None) -> Verdict:
    if answer is None:
        return Verdict(False, "Not answered.")
    index = choice_index(answer, len(question.choices), f"the answer to question {question.id}")
    if index == question.right:
        return Verdict(True, f"You chose {index}. Right.")
    return Verdict(False, f"You chose {index}. Not yet: {question.diagnoses[index]}")


def _to_prediction(prediction: Prediction, outcome: Any) -> Verdict:
    answer, choices = prediction.answer, prediction.choices
    if choices is not None:
        index = choice_index(outcome, len(choices), f"the outcome of prediction {prediction.id}")
        passed, result = answer == index, f"{index}, {choices[index]}"
    else:
        number, tolerance = _pair(prediction.id, outcome)
        passed = answer is not None and abs(answer - number) <= tolerance
        result = f"{to_tolerance(number, tolerance, abs(number))} ± {two_digits(tolerance)}"
    if answer is None:
        return Verdict(False, "Not recorded.")
    return Verdict(
        passed, f"You said {answer:g}. {'Right' if passed else 'Wrong'}: the lesson measured {result}."
    )


def _pair(id: str, outcome: Any) -> tuple[float, float]:
    if not isinstance(outcome, tuple) or len(outcome) != 2:
        raise ValueError(
            f"the outcome of prediction {id} is {outcome!r}; expected a pair (number, tolerance)"
        )
    number, tolerance = (part.item() if hasattr(part, "item") else part for part in outcome)
    return number, tolerance
