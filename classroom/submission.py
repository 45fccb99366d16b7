"""Notebooks as the grader reads them: a set that is trusted, and a submission that may be anything."""

import ast
import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: A submission larger than this is not read.
LARGEST_NOTEBOOK = 20 * 2**20
HIDDEN = re.compile(r"^from ([\w.]+) import (check_\w+)$", re.MULTILINE)
SEED = re.compile(r"\brng=\d+")


class Unreadable(Exception):
    """A file that cannot be graded; the message is a sentence."""


@dataclass(frozen=True)
class Cell:
    """A cell: `kind` ("code", "markdown" …), nbgrader's `grade_id` ("" where there is none), and `source`."""

    kind: str
    grade_id: str
    source: str


@dataclass(frozen=True)
class Exercise:
    """What earns points: the function `name`, judged by the function `check` of `module`."""

    name: str
    points: float
    module: str
    check: str


@dataclass(frozen=True)
class Assignment:
    """A set of exercises, read from its solution: never from a submission.

    `tests` maps the grade_id of a graded cell to its exercise, `locked` that of a cell which only its author
    changes to its source, `imports` names the modules that the set's own cells import.
    """

    stem: str
    path: Path
    tests: dict[str, Exercise]
    locked: dict[str, str]
    imports: tuple[str, ...]

    @property
    def exercises(self) -> tuple[Exercise, ...]:
        """The exercises in their order."""
        return tuple(self.tests.values())


def read_assignment(root: Path, number: str) -> Assignment:
    """The set `number` ("01") of the repository at `root`."""
    paths = sorted((root / "solutions").glob(f"{number}_*.ipynb"))
    if not paths:
        raise Unreadable(f"there is no exercise set {number}: no file {root / 'solutions' / number}_….ipynb")
    cells = _cells(_json(paths[0]))
    tests, locked = {}, {}
    for cell in cells:
        nbgrader = cell.get("metadata", {}).get("nbgrader", {})
        source = _source(cell)
        if nbgrader.get("grade") and (hidden := HIDDEN.search(source)):
            name = str(nbgrader["grade_id"]).removesuffix("-check")
            tests[nbgrader["grade_id"]] = Exercise(name, float(nbgrader["points"]), hidden[1], hidden[2])
        elif nbgrader.get("locked") and cell["cell_type"] == "code":
            locked[nbgrader["grade_id"]] = source
    return Assignment(paths[0].stem, paths[0], tests, locked, tuple(_imports(cells)))


def _imports(cells: list[Any]) -> list[str]:
    code = [ast.parse(_source(cell)) for cell in cells if cell["cell_type"] == "code"]
    nodes = [node for tree in code for node in ast.walk(tree)]
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return sorted({*plain, *(str(node.module) for node in nodes if isinstance(node, ast.ImportFrom))})


def read_submission(path: Path) -> tuple[list[Cell], dict[str, Any]]:
    """The cells and the metadata of a submission, whatever it holds; `Unreadable` where it is none."""
    notebook = _json(path)
    cells = [_cell(cell) for cell in _cells(notebook)]
    metadata = notebook.get("metadata")
    return cells, metadata if isinstance(metadata, dict) else {}


def _json(path: Path) -> Any:
    try:
        if path.stat().st_size > LARGEST_NOTEBOOK:
            raise Unreadable(
                f"the file is larger than {LARGEST_NOTEBOOK // 2**20} MB; clear its outputs and hand in again"
            )
        return json.loads(path.read_text(encoding="utf8"))
    except OSError as error:
        raise Unreadable(f"the file cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise Unreadable(
            "the file is not a notebook: it is not JSON; hand in the .ipynb file itself"
        ) from None


def _cells(notebook: Any) -> list[Any]:
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise Unreadable(
            "the file is not a notebook of format 4: it holds no list of cells; save it from JupyterLab"
        )
    return cells


def _cell(cell: dict[str, Any]) -> Cell:
    metadata = cell.get("metadata")
    nbgrader = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    grade_id = nbgrader.get("grade_id") if isinstance(nbgrader, dict) else None
    return Cell(str(cell.get("cell_type")), grade_id if isinstance(grade_id, str) else "", _source(cell))


def _source(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    return "".join(map(str, source)) if isinstance(source, list) else str(source)


def number_of(path: Path, metadata: dict[str, Any], default: str) -> str:
    """Which set a submission answers: its file's name (01_….ipynb), that of a folder above, or `default`."""
    for name in (path.name, *(folder.name for folder in path.parents)):
        if found := re.match(r"(\d\d)_\w", name):
            return found[1]
    named = metadata.get("hesslab")
    stem = named.get("set", "") if isinstance(named, dict) else ""
    return stem[:2] if isinstance(stem, str) and re.match(r"\d\d_", stem) else default


# --- the order of grading ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One step through a submission: run `source` (cell `number`), or judge `exercise`."""

    number: int
    source: str = ""
    exercise: Exercise | None = None


def steps(assignment: Assignment, cells: list[Cell]) -> tuple[list[Step], list[str]]:
    """What to do, in the order of the submission's cells, and what a teacher should know of them.

    A graded cell is not run: its exercise is judged at that place, once. Cells that only their author changes
    are put back. Where an id repeats, the last cell that bears it counts, as with nbgrader.
    """
    last = {cell.grade_id: number for number, cell in enumerate(cells) if cell.grade_id}
    notes, todo, judged = [], [], set()
    known = {*assignment.tests, *assignment.locked, *(e.name for e in assignment.exercises)}
    for number, cell in enumerate(cells):
        known_id = cell.grade_id if cell.grade_id in known else ""
        if known_id and last[known_id] != number:
            notes.append(f"cell {number + 1}: the id {known_id} is there more than once; the last one counts")
            known_id = ""
        if exercise := assignment.tests.get(known_id):
            todo.append(Step(number, exercise=exercise))
            judged.add(exercise.name)
        elif cell.kind == "code":
            todo.append(
                Step(number, plain_python(assignment.locked.get(known_id, cell.source), number, notes))
            )
    for exercise in assignment.exercises:
        if exercise.name not in judged:
            notes.append(
                f"the graded cell {exercise.name}-check is missing; judged at the end of the notebook"
            )
            todo.append(Step(len(cells), exercise=exercise))
    return todo, notes


def plain_python(source: str, number: int, notes: list[str]) -> str:
    """`source` without lines for IPython (`%…`, `!…`, `…?`): they are not executed, and the notes say so."""
    lines = source.splitlines()
    first = next((line for line in lines if line.strip()), "")
    if _is_python(source):
        return source
    if first.startswith("%%") and not first.startswith(("%%time", "%%capture")):
        notes.append(f"cell {number + 1}: {first.split()[0]} is for IPython; the cell was not executed")
        return ""
    plain = [re.sub(r"\S.*", "pass", line) if _is_magic(line) else line for line in lines]
    if plain != lines:
        notes.append(f"cell {number + 1}: lines for IPython (%, !, ?) were not executed")
    return "\n".join(plain)


def _is_magic(line: str) -> bool:
    return bool(re.match(r"\s*(%|!|\?)|.*\?\s*$", line)) and not line.lstrip().startswith("#")


def _is_python(source: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "cell", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return False
    return True
