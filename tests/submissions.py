"""Submissions for the tests of the classroom: a learner's notebook with some answers written in."""

import importlib
import json
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "classroom"))
#: The modules under test; the test files take them from here.
export, grader, submission, values, wire, report, journal, exam, questions = map(
    importlib.import_module,
    ("export", "grade", "submission", "values", "wire", "report", "journal", "exam", "questions"),
)

BANKS = sorted((ROOT / "tests" / "bank").glob("*.toml"))


@dataclass(frozen=True)
class Answer:
    """One entry of a bank."""

    exercise: str
    name: str
    kind: str
    code: str
    diagnosis: str = ""

    def __str__(self):
        return f"{self.exercise}-{self.name}"


def bank(path):
    """The answers of a bank, in order."""
    return [Answer(**entry) for entry in tomllib.loads(path.read_text(encoding="utf8"))["answer"]]


def exercises_of(stem):
    """The exercises of a set, as the grader reads them."""
    return submission.read_assignment(ROOT, stem[:2]).exercises


def learners_copy(stem):
    """The notebook that a learner starts from."""
    return json.loads((ROOT / "exercises" / f"{stem}.ipynb").read_text(encoding="utf8"))


def solution(stem):
    """The notebook with the answers, in nbgrader's source form."""
    return json.loads((ROOT / "solutions" / f"{stem}.ipynb").read_text(encoding="utf8"))


def grade_id(cell):
    """nbgrader's id of a cell, "" where it has none."""
    return cell["metadata"].get("nbgrader", {}).get("grade_id", "")


def cell_of(notebook, name):
    """The cell with this grade_id."""
    return next(cell for cell in notebook["cells"] if grade_id(cell) == name)


def answers_of(stem):
    """The right answer of each exercise, as it stands in the solution."""
    cells = [c for c in solution(stem)["cells"] if c["metadata"].get("nbgrader", {}).get("solution")]
    return {grade_id(cell): "".join(cell["source"]) for cell in cells}


def with_answers(notebook, answers):
    """`notebook`, its answer cells replaced by `answers` (exercise -> code)."""
    for name, code in answers.items():
        cell_of(notebook, name)["source"] = code.splitlines(keepends=True)
    return notebook


def code_cell(source, **nbgrader):
    """A new code cell."""
    metadata = {"nbgrader": nbgrader} if nbgrader else {}
    return {
        **{"cell_type": "code", "execution_count": None, "metadata": metadata, "outputs": []},
        "source": source.splitlines(keepends=True),
    }


def write(notebook, path):
    """Write a notebook, or text as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(notebook if isinstance(notebook, str) else json.dumps(notebook), encoding="utf8")
    return path
