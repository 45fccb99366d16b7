"""What a check answers: which law, on which case, by how much, the likely mistake, and where to reread."""

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: A difference counts as rounding below EXACT, as a float32 computation below SINGLE,
#: as a finite difference below SLOPE; all three are relative to the size of the right answer.
EXACT, SINGLE, SLOPE = 1e-9, 1e-4, 1e-2

_HOUSE = str(Path(__file__).resolve().parents[2])


@dataclass(frozen=True)
class Violation:
    """A law that an implementation breaks.

    `diagnosis` is a short identifier, one for each likely mistake; `law` and `case` say what was tried,
    `found` by how much it failed, `advice` names the likely mistake and the section to reread.
    """

    diagnosis: str
    law: str
    case: str
    found: str
    advice: str


@dataclass(frozen=True)
class Feedback:
    """The outcome of a check: `passed`, `attempted`, `diagnosis` ("" when passed) and the `text` shown."""

    exercise: str
    passed: bool
    attempted: bool
    diagnosis: str
    text: str = field(repr=False)

    def _ipython_display_(self) -> None:
        """Show nothing: the check has printed itself."""


class Check(Protocol):
    """A function that judges an implementation on instances drawn from `rng`."""

    def __call__(self, your_function: Callable[..., Any], *, rng: int | np.random.Generator = 0) -> Feedback:
        """Judge `your_function`; print the outcome and return it."""


def check(
    laws: Callable[[Callable[..., Any], np.random.Generator], Iterator[Violation | None]],
) -> Check:
    """Make a check of a generator that yields, law by law, a `Violation` or None; the first one decides.

    The check prints its outcome and never raises, whatever the judged function does: an exception in it is
    feedback, and NotImplementedError means "not attempted".

    >>> @check
    ... def check_double(double, rng):
    ...     x = rng.standard_normal()
    ...     yield differs(double(x), 2 * x, case="a number", law="double(x) = 2 x", advice="Section 1.")
    >>> check_double(lambda x: x + x).passed
    double: passed.
    True
    """
    name = laws.__name__.removeprefix("check_")

    @wraps(laws)
    def judged(your_function: Callable[..., Any], *, rng: int | np.random.Generator = 0) -> Feedback:
        feedback = _judge(name, laws, your_function, rng)
        print(feedback.text)
        return feedback

    return judged


def _judge(name: str, laws: Any, your_function: Any, rng: int | np.random.Generator) -> Feedback:
    try:
        violations = laws(your_function, np.random.default_rng(rng))
        violation = next((v for v in violations if v is not None), None)
    except NotImplementedError:
        text = f"{name}: not attempted. (Begun? Then a line `raise NotImplementedError` is still in it.)"
        return Feedback(name, False, False, "not-attempted", text)
    except (Exception, SystemExit) as error:
        text = f"{name}: not yet. It raised {type(error).__name__}: {str(error)[:300]}{_line_of(error)}"
        return Feedback(name, False, True, "raises", text)
    if violation is None:
        return Feedback(name, True, True, "", f"{name}: passed.")
    text = (
        f"{name}: not yet.\n  law:   {violation.law}\n  case:  {violation.case}\n"
        f"  found: {violation.found}\n  try:   {violation.advice}"
    )
    return Feedback(name, False, True, violation.diagnosis, text)


def numbers(answer: Any) -> NDArray[np.float64]:
    """`answer` as a float64 array, whether number, list, NumPy array or torch tensor on any device."""
    if isinstance(answer, list | tuple):
        return np.array([numbers(entry) for entry in answer], dtype=np.float64)
    if hasattr(answer, "detach"):
        answer = answer.detach().cpu().numpy()
    return np.asarray(answer, dtype=np.float64)


def differs(
    found: Any,
    expected: Any,
    *,
    law: str,
    case: str,
    advice: str,
    diagnosis: str = "value",
    mistakes: dict[str, tuple[Any, str]] | None = None,
    tolerance: float = SINGLE,
) -> Violation | None:
    """A violation unless `found` equals `expected` to `tolerance`, relative to the largest number expected.

    `mistakes` maps a diagnosis to (the value that the mistake would give, advice): where `found` equals one
    of them, that diagnosis is given. A wrong shape, and a number that is not finite, have diagnoses of their
    own.
    """
    if found is None:
        return Violation("returns-nothing", law, case, "None", "The function has no `return`.")
    try:
        found, expected = numbers(found), numbers(expected)
    except (TypeError, ValueError):
        seen = f"a {type(found).__name__} that holds other things"
        return Violation("not-numbers", law, case, seen, f"Return numbers. {advice}")
    if found.shape != expected.shape:
        wanted = f"an array of shape {expected.shape}" if expected.shape else "a number"
        return Violation("shape", law, case, f"shape {found.shape}", f"Return {wanted}. {advice}")
    if not np.all(np.isfinite(found)):
        return Violation("not-finite", law, case, "NaN or infinity", f"Look for a division by zero. {advice}")
    scale = max(float(np.max(np.abs(expected), initial=0.0)), np.finfo(float).tiny)
    with np.errstate(over="ignore"):  # where 0 is expected, the relative error of anything else is infinite
        error = float(np.max(np.abs(found - expected) / scale, initial=0.0))
    if error <= tolerance:
        return None
    for name, (value, hint) in (mistakes or {}).items():
        wrong = numbers(value)
        if wrong.shape == found.shape and np.max(np.abs(found - wrong), initial=0.0) <= tolerance * scale:
            return Violation(name, law, case, _by_how_much(found, expected, error), hint)
    return Violation(diagnosis, law, case, _by_how_much(found, expected, error), advice)


def compare(
    found: Any,
    expected: Any,
    mistakes: dict[str, tuple[Any, str]],
    law: str,
    case: str,
    advice: str,
    section: int,
    tolerance: float = SINGLE,
) -> Violation | None:
    """`differs`, with the section of the lesson to reread added to every advice.

    >>> compare(1, 2, {"half": (1, "Twice that.")}, "f(1) = 2", "x = 1", "Double it.", 3).advice
    'Twice that. Section 3.'
    """
    placed = {name: (value, f"{text} Section {section}.") for name, (value, text) in mistakes.items()}
    advice = f"{advice} Section {section}."
    return differs(found, expected, law=law, case=case, advice=advice, mistakes=placed, tolerance=tolerance)


def _by_how_much(found: NDArray[np.float64], expected: NDArray[np.float64], error: float) -> str:
    if found.ndim == 0:
        return f"{float(found):.4g}, expected {float(expected):.4g}"
    worst = np.unravel_index(np.argmax(np.abs(found - expected)), found.shape)
    where = ", ".join(str(i) for i in worst)
    entries = f"entry [{where}] is {found[worst]:.4g}, not {expected[worst]:.4g}"
    return f"a relative error of {error:.1e}; {entries}"


def _line_of(error: BaseException) -> str:
    """The line of the judged function that raised, where Python still knows it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "site-packages" not in f.filename and not f.filename.startswith(_HOUSE)]
    return f"\n  line:  {own[-1].line}" if own and own[-1].line else ""
