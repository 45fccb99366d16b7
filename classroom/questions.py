"""Exam questions: read from data files, made concrete from a seed, and verified.

`classroom/exam/NN_slug.toml` holds `[[question]]` tables for lesson NN: `name` (of the function to write),
`objective`, `points`, `minutes`, `text` (Markdown), `stub` (`def` line and docstring), `answer` (the body),
`oracle` (a body that computes the same in another way), `inputs` (a body that returns the arguments of one
instance, from the generator `rng` and the number `case`, 0 to 3), `example` (arguments as a tuple, shown with
their value), `tolerance` (relative, 1e-4 where it is missing), and three or more `[[question.wrong]]` with
`name`, `advice` and `code`. `[question.draw]` lists, by name, what a seed chooses from. `<<name>>` stands for
the choice, `<<name.field>>` for a field of it where the choices are tables.
"""

import itertools
import re
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import agreement
import numpy as np
from agreement import CASES, by_reference

from hesslab.checks.laws.feedback import SINGLE, differs

TEXTS = ("name", "objective", "text", "stub", "answer", "oracle", "inputs", "example")
NEEDED = {*TEXTS, "points", "minutes", "draw", "wrong"}
PLACE = re.compile(r"<<([\w.]+)>>")
#: How far the oracle, which may take differences, may be from the answer.
ORACLE_TOLERANCE = 1e-3


class Faulty(Exception):
    """A question that cannot be asked; the message is a sentence."""


@dataclass(frozen=True)
class Wrong:
    """A likely mistake: its diagnosis, what to tell about it, and code that makes it."""

    name: str
    advice: str
    code: str


@dataclass(frozen=True)
class Question:
    """A question made concrete: no placeholder is left in it. `choice` says what was drawn."""

    lesson: str
    name: str
    objective: str
    points: float
    minutes: float
    text: str
    stub: str
    answer: str
    oracle: str
    inputs: str
    example: str
    wrong: tuple[Wrong, ...]
    tolerance: float = SINGLE
    choice: dict[str, Any] = field(default_factory=dict)


# --- reading and drawing ----------------------------------------------------------------------------------


def read_questions(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The tables of all questions, by lesson. Raises `Faulty` naming the file that is wrong."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("[0-9][0-9]_*.toml")):
        try:
            tables = tomllib.loads(path.read_text(encoding="utf8")).get("question", [])
        except ValueError as error:
            raise Faulty(f"{path} is not TOML: {error}") from None
        for table in tables:
            if lacking := sorted(NEEDED - set(table)):
                raise Faulty(f"{path}: the question {table.get('name')} has no {', '.join(lacking)}")
        found[path.name[:2]] = tables
    return found


def drawn(lesson: str, table: dict[str, Any], rng: np.random.Generator) -> Question:
    """One variant of a question, drawn with `rng`."""
    choices = table["draw"]
    return made(lesson, table, {name: choices[name][rng.integers(len(choices[name]))] for name in choices})


def variants(lesson: str, table: dict[str, Any]) -> Iterator[Question]:
    """Every variant of a question."""
    names, lists = list(table["draw"]), list(table["draw"].values())
    for chosen in itertools.product(*lists):
        yield made(lesson, table, dict(zip(names, chosen, strict=True)))


def made(lesson: str, table: dict[str, Any], choice: dict[str, Any]) -> Question:
    """The question of `table` with each placeholder replaced by what `choice` says."""

    def fill(text: str) -> str:
        for _ in range(2):  # a choice may hold placeholders itself
            text = PLACE.sub(lambda found: _looked_up(found[1], choice, table["name"]), text)
        return text.strip("\n")

    texts = {name: fill(str(table[name])) for name in TEXTS}
    wrong = tuple(Wrong(w["name"], fill(w["advice"]), fill(w["code"])) for w in table["wrong"])
    numbers = {"points": float(table["points"]), "minutes": float(table["minutes"])}
    tolerance = float(table.get("tolerance", SINGLE))
    return Question(lesson=lesson, wrong=wrong, tolerance=tolerance, choice=choice, **texts, **numbers)


def _looked_up(place: str, choice: dict[str, Any], question: str) -> str:
    name, _, part = place.partition(".")
    try:
        return str(choice[name][part] if part else choice[name])
    except (KeyError, TypeError):
        raise Faulty(f"the question {question} holds <<{place}>>, which its draw does not give") from None


# --- code -------------------------------------------------------------------------------------------------


def source_of(question: Question, code: str, name: str = "") -> str:
    """`code` as the body of the question's function, called `name` where one is given."""
    head = question.stub.splitlines()[0]
    if name:
        head = head.replace(f"def {question.name}(", f"def {name}(", 1)
    return f"{head}\n{textwrap.indent(code, '    ')}\n"


def inputs_of(question: Question, name: str) -> str:
    """The function that draws the arguments of one instance."""
    return f"def {name}(rng, case):\n{textwrap.indent(question.inputs, '    ')}\n"


def check_source(question: Question) -> str:
    """The code that defines `check_NAME`, for the file of an exam's checks."""
    name = question.name
    parts = [source_of(question, question.answer, f"_{name}_right"), inputs_of(question, f"_{name}_inputs")]
    mistakes = []
    for number, wrong in enumerate(question.wrong):
        parts.append(source_of(question, wrong.code, f"_{name}_wrong_{number}"))
        mistakes.append(f"    {wrong.name!r}: (_{name}_wrong_{number}, {wrong.advice!r}),\n")
    table = "{\n" + "".join(mistakes) + "}"
    made = f"by_reference({name!r}, _{name}_right, _{name}_inputs, {table}, {question.tolerance!r})"
    return "\n\n".join(parts) + f"\n\ncheck_{name} = {made}\n"


def function_of(source: str, name: str) -> Callable[..., Any]:
    """The function `name` that `source` defines, with `np` at hand."""
    names: dict[str, Any] = {"np": np}
    exec(compile(source, name, "exec"), names)
    return names[name]  # type: ignore[no-any-return]


def check_of(question: Question) -> Any:
    """The check of a question, as the exam's own file defines it."""
    names: dict[str, Any] = {"np": np, "by_reference": by_reference, "__name__": agreement.__name__}
    exec(compile(check_source(question), question.name, "exec"), names)
    return names[f"check_{question.name}"]


# --- verifying --------------------------------------------------------------------------------------------


def verify(question: Question, *, rng: int) -> None:
    """Raise `Faulty` unless the answer is the oracle's and passes, and a blank and each wrong answer fail."""
    answer = function_of(source_of(question, question.answer), question.name)
    oracle = function_of(source_of(question, question.oracle), question.name)
    inputs = function_of(inputs_of(question, "inputs"), "inputs")
    for case in range(CASES):
        left, right = (inputs(np.random.default_rng([rng, case]), case) for _ in range(2))
        expected = oracle(*left)
        if differs(answer(*right), expected, law="", case="", advice="", tolerance=ORACLE_TOLERANCE):
            raise Faulty(f"{_named(question)}: the answer is not what its oracle computes")
    check = check_of(question)
    if not check(answer, rng=rng).passed:
        raise Faulty(f"{_named(question)}: its own answer does not pass")
    for wrong in question.wrong:
        feedback = check(function_of(source_of(question, wrong.code), question.name), rng=rng)
        if feedback.passed:
            raise Faulty(f"{_named(question)}: the wrong answer {wrong.name} passes")


def _named(question: Question) -> str:
    chosen = ", ".join(f"{name} = {value}" for name, value in question.choice.items())
    return f"question {question.name} of lesson {question.lesson} ({chosen})"
