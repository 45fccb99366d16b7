"""What a notebook shows a learner: claim cards, recorded predictions, exit tickets; a lesson's arithmetic.

What is shown here is the same text on every processor: see `hesslab.checks.laws.rounding`.
"""

import json
import math
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hesslab.checks.laws.rounding import DECIMALS, NOISE, to_digits, to_tolerance, two_digits
from hesslab.checks.laws.ticket import (
    Prediction,
    Question,
    recorded,
    require_choices,
    score,
    score_predictions,
    spelled,
)

WIDTH = 100  # columns: no line of a printed question breaks on a projector
MOST_NUMBERS = 6  # a card is one line

_predictions: dict[str, Prediction] = {}


def start(threads: int = 1) -> None:
    """Set up a lesson's arithmetic: float64 by default, `threads` threads, deterministic algorithms.

    Seeds nothing, since every function that draws takes `rng`; forgets the predictions of an earlier run;
    prints nothing. Raises ValueError unless `threads` is a positive integer.

    >>> start()
    >>> torch.zeros(1).dtype
    torch.float64
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads is {threads!r}; expected a positive integer, such as 1")
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    _predictions.clear()


def claim(
    id: str,
    measured: Any,
    *,
    expected: Any = None,
    tolerance: float | None = None,
    holds: Callable[[Any], Any] | None = None,
    varies: bool = False,
) -> None:
    """Assert that `measured` supports the claim `id`, and show it in one rounded line.

    The card holds where |measured − expected| ≤ `tolerance`, in each component, or where `holds(measured)` is
    true; give one of the two forms. `measured` is a finite number, a bool, or at most six numbers in a row;
    NumPy and torch count. Numbers are shown to the first digit of the tolerance, or else to three digits, and
    never to more than four decimals. `varies=True` is for a number whose leading digits differ between
    processors (a chaotic trajectory): the line then says only that it is within the tolerance. The display's
    metadata holds {"hesslab": {"claim": {"id", "value", "error", "verdict"}}}; `error` is the tolerance.

    Raises AssertionError where the evidence fails or is not finite, TypeError or ValueError where the card is
    written wrongly.

    >>> claim("2.3", 0.011234, expected=0.0112, tolerance=0.0002)
    card 2.3 holds: measured 0.0112, expected 0.0112 ± 0.0002
    >>> claim("4.1", 3e-16, expected=0, tolerance=1e-12)
    card 4.1 holds: measured 0 to within 1e-12, expected 0
    >>> claim("4.2", [12.5, 0.25], holds=lambda m: m[0] > m[1])
    card 4.2 holds: measured (12.5, 0.250)
    >>> claim("7.1", 1.98, expected=2.0, tolerance=0.3, varies=True)
    card 7.1 holds: measured within 0.3 of 2.0
    """
    values = _numbers("measured", measured)
    if (holds is None) == (expected is None) or (expected is None) != (tolerance is None):
        raise ValueError(
            f"claim {id} needs expected and tolerance together, or holds alone; give one of the two"
        )
    if not all(map(math.isfinite, _row(values))):
        raise AssertionError(f"card {id} does not hold: measured {_raw(values)}, expected finite numbers")
    if holds is not None:
        evidence = _by_condition(id, measured, values, holds, varies)
    else:
        goal, margin = _numbers("expected", expected), _numbers("tolerance", tolerance)
        evidence = _by_tolerance(id, values, goal, margin, varies)
    card = {"id": id, "value": evidence.value, "error": evidence.error, "verdict": "holds"}
    _publish(f"card {id} holds: {evidence.line}", {"hesslab": {"claim": card}})


def predict(id: str, question: str, choices: Sequence[str] | None = None, answer: Any = None) -> None:
    """Ask for a prediction before the cell that answers it, and record it until `ticket` scores it.

    `answer` is the number of one of `choices`, or any finite number where there are none; None records
    nothing. Running the cell again replaces the record. Raises ValueError for an answer of another kind.

    >>> predict("rate", "How many steps halve the error?", answer=7)
    Prediction rate. How many steps halve the error?
    Recorded: 7.
    """
    options = None if choices is None else require_choices(choices, f"prediction {id}")
    record = None if answer is None else recorded(id, options, answer)
    _predictions[id] = Prediction(id, question, options, record)
    _show(f"Prediction {id}. {question}")
    _show_choices(options or ())
    if record is None:
        wanted = f"answer={spelled(len(options))}" if options else "answer=… (a number)"
        _show(f"Not recorded: write {wanted} and run the cell again.")
    else:
        _show(f"Recorded: {record:g}.")


def ticket(
    questions: Sequence[Question], answers: Sequence[int | None], outcomes: Mapping[str, Any] | None = None
) -> None:
    """Show the exit ticket, score `answers` (None: not answered), then score the recorded predictions.

    `outcomes` maps the id of each prediction to what the lesson computed: the number of a choice, or a pair
    (number, tolerance). A wrong answer is told its diagnosis, never the right choice. Raises ValueError where
    `answers` does not fit `questions`, or where predictions and outcomes do not match one to one.
    """
    predictions = list(_predictions.values())
    verdicts, scores = score(questions, answers), score_predictions(predictions, outcomes or {})
    for number, (question, verdict) in enumerate(zip(questions, verdicts, strict=True), start=1):
        _show(f"Question {number}. {question.text}")
        _show_choices(question.choices)
        _show(verdict.says + "\n")
    print(f"Exit ticket: {sum(verdict.passed for verdict in verdicts)} of {len(verdicts)} right.")
    for prediction, verdict in zip(predictions, scores, strict=True):
        _show(f"\nPrediction {prediction.id}. {prediction.question}")
        _show(verdict.says)
    if scores:
        given, right = (
            sum(p.answer is not None for p in predictions),
            sum(verdict.passed for verdict in scores),
        )
        print(f"\nPredictions: {right} right, {given} of {len(scores)} recorded.")


# How a card is judged


@dataclass(frozen=True)
class _Evidence:
    """What a card that holds shows: its `line`; `value` and `error` for the scoreboard, rounded as shown."""

    line: str
    value: Any
    error: float | None


def _by_tolerance(id: str, values: Any, expected: Any, tolerance: Any, varies: bool) -> _Evidence:
    """The evidence that each value is within `tolerance` of its expectation."""
    goals = _row(expected) if isinstance(expected, tuple) else (expected,) * len(_row(values))
    if len(goals) != len(_row(values)):
        raise ValueError(f"claim {id} has {len(_row(values))} numbers measured and {len(goals)} expected")
    if isinstance(tolerance, tuple) or not (0 <= tolerance < math.inf and all(map(math.isfinite, goals))):
        raise ValueError(
            f"claim {id} has expected {_raw(expected)} and tolerance {_raw(tolerance)}; "
            "expected finite numbers, and one tolerance, 0 or more"
        )
    off = max(abs(m - e) for m, e in zip(_row(values), goals, strict=True))
    if not off <= tolerance:
        raise AssertionError(
            f"card {id} does not hold: measured {_raw(values)}, expected {_raw(expected)} ± {tolerance:.3g}"
            f"; it is off by {off:.3g}"
        )
    size, within = max(map(abs, goals)), two_digits(tolerance)
    value, goal = (_text(each, lambda x: to_tolerance(x, tolerance, size)) for each in (values, expected))
    if size == 0 < tolerance < 10.0**-DECIMALS:
        return _Evidence(f"measured 0 to within {within}, expected 0", 0, json.loads(within))
    if varies:
        return _Evidence(f"measured within {within} of {goal}", _parsed(goal), json.loads(within))
    margin = f"± {within}" if tolerance else "exactly"
    return _Evidence(f"measured {value}, expected {goal} {margin}", _parsed(value), json.loads(within))


def _by_condition(
    id: str, measured: Any, values: Any, holds: Callable[[Any], Any], varies: bool
) -> _Evidence:
    """The evidence that `holds(measured)` is true."""
    truth = holds(measured)
    truth = truth.item() if hasattr(truth, "item") else truth
    if not isinstance(truth, bool):
        raise TypeError(
            f"claim {id}: holds returned {truth!r}; expected True or False, computed from measured"
        )
    if not truth:
        raise AssertionError(f"card {id} does not hold: measured {_raw(values)} fails the card's condition")
    if varies:
        return _Evidence("measured as stated", None, None)
    shown = _text(values, lambda x: to_digits(x, max(map(abs, _row(values)))))
    if shown == "0" and isinstance(values, float):
        return _Evidence(f"measured 0 to within {two_digits(NOISE)}", 0, NOISE)
    return _Evidence(f"measured {shown}", _parsed(shown), None)


def _numbers(name: str, given: Any) -> Any:
    """`given` as a plain bool, int or float, or as a tuple of them; TypeError where it is anything else."""
    plain = given.tolist() if hasattr(given, "tolist") else given
    if isinstance(plain, bool | int | float):
        return plain
    if isinstance(plain, list | tuple) and 0 < len(plain) <= MOST_NUMBERS:
        entries = tuple(_numbers(name, entry) for entry in plain)
        if not any(isinstance(entry, tuple) for entry in entries):
            return entries
    raise TypeError(
        f"{name} is of type {type(given).__name__}; expected a number, a bool, or 1 to {MOST_NUMBERS} "
        "numbers in a row: give a value of it, or a norm"
    )


# How it is shown


def _row(values: Any) -> tuple[Any, ...]:
    return values if isinstance(values, tuple) else (values,)


def _text(values: Any, shown: Callable[[float], str]) -> str:
    """A number as `shown`, a row of them in brackets."""
    return f"({', '.join(map(shown, values))})" if isinstance(values, tuple) else shown(values)


def _raw(values: Any) -> str:
    """For error messages, which no stored output holds."""
    return _text(values, lambda x: f"{x:.6g}" if isinstance(x, float) else str(x))


def _parsed(shown: str) -> Any:
    """The numbers in a text, as the text gives them: but for the brackets of a row it is JSON."""
    return json.loads(f"[{shown[1:-1]}]" if shown.startswith("(") else shown)


def _publish(line: str, metadata: dict[str, Any]) -> None:
    """Display `line` with its metadata in a notebook; print it anywhere else."""
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        print(line)
    else:
        ipython.display.display({"text/plain": line}, raw=True, metadata=metadata)


def _show(text: str) -> None:
    """Print `text`, wrapped, with its own empty lines."""
    print("\n".join(textwrap.fill(line, WIDTH) for line in text.split("\n")))


def _show_choices(choices: Sequence[str]) -> None:
    for index, choice in enumerate(choices):
        print(textwrap.fill(choice, WIDTH, initial_indent=f"   {index}  ", subsequent_indent="      "))
