"""Notebooks as the grader reads them: a set that is trusted, and a submission that may be anything."""

import ast
import json
import os
import re
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: The largest submission in bytes, its largest code in characters, and the most cells.
LARGEST_NOTEBOOK, LARGEST_CODE, MOST_CELLS = 20 * 2**20, 2**20, 2000
HIDDEN = re.compile(r"^from ([\w.]+) import (check_\w+)$", re.MULTILINE)
SEED = re.compile(r"\brng=\d+")
HIDDEN_TESTS = "### BEGIN HIDDEN TESTS"
#: How a file is opened that may be a link or a pipe: neither is followed or waited for.
NO_LINK, NO_WAIT = getattr(os, "O_NOFOLLOW", 0), getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class Unreadable(Exception):
    """A file that cannot be graded; the message is a sentence."""


@dataclass(frozen=True)
class Cell:
    """A cell: `kind` ("code", or "" for others), nbgrader's `grade_id` ("" where none), and `source`."""

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
    return assignment_in(paths[0])


def read_exam(folder: Path) -> Assignment:
    """The exam that `lab.py exam` wrote into `folder`."""
    return assignment_in(folder / "source" / "exam" / "exam.ipynb")


def assignment_in(path: Path) -> Assignment:
    """The assignment whose answers and hidden tests the notebook at `path` holds."""
    cells = _cells(_json(read_file(path)))
    tests, locked = {}, {}
    for cell in cells:
        nbgrader = cell.get("metadata", {}).get("nbgrader", {})
        source = _source(cell)
        if nbgrader.get("grade") and (hidden := HIDDEN.search(source)):
            name = str(nbgrader["grade_id"]).removesuffix("-check")
            tests[nbgrader["grade_id"]] = Exercise(name, float(nbgrader["points"]), hidden[1], hidden[2])
        elif nbgrader.get("locked") and cell["cell_type"] == "code":
            locked[nbgrader["grade_id"]] = source
    return Assignment(path.stem, path, tests, locked, tuple(_imports(cells)))


def _imports(cells: list[Any]) -> list[str]:
    """What the cells import, hidden tests left out: no answer needs what only they name."""
    shown = [_source(cell).split(HIDDEN_TESTS)[0] for cell in cells if cell["cell_type"] == "code"]
    nodes = [node for source in shown for node in ast.walk(ast.parse(source))]
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return sorted({*plain, *(str(node.module) for node in nodes if isinstance(node, ast.ImportFrom))})


def read_file(path: Path) -> bytes:
    """The bytes of a plain file of bounded size; `Unreadable` for a link, a folder, a pipe or a device."""
    try:
        handle = os.open(path, os.O_RDONLY | NO_LINK | NO_WAIT)
    except OSError as error:
        why = "it is a link; hand in the file itself" if path.is_symlink() else error.strerror or error
        raise Unreadable(f"the file cannot be read: {why}") from None
    try:
        if path.is_symlink() or not stat.S_ISREG(os.fstat(handle).st_mode):
            kinds = "a link, a folder, a pipe or a device"
            raise Unreadable(f"the file cannot be read: it is no plain file, but {kinds}")
        with os.fdopen(os.dup(handle), "rb") as file:
            data = file.read(LARGEST_NOTEBOOK + 1)
    except OSError as error:
        raise Unreadable(f"the file cannot be read: {error.strerror or error}") from None
    finally:
        os.close(handle)
    if len(data) > LARGEST_NOTEBOOK:
        size = LARGEST_NOTEBOOK // 2**20
        raise Unreadable(f"the file is larger than {size} MB; clear its outputs and hand in again")
    return data


def read_submission(data: bytes) -> tuple[list[Cell], dict[str, Any]]:
    """The cells and the metadata of a submission, whatever it holds; `Unreadable` where it is none."""
    notebook = _json(data)
    cells = [_cell(cell) for cell in _cells(notebook)]
    if sum(len(cell.source) for cell in cells) > LARGEST_CODE:
        raise Unreadable(f"its cells hold more than {LARGEST_CODE // 2**20} MB of text; hand in less")
    metadata = notebook.get("metadata")
    return cells, metadata if isinstance(metadata, dict) else {}


def _json(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf8"))
    except (ValueError, RecursionError, MemoryError):
        raise Unreadable(
            "the file is not a notebook: it is not JSON; hand in the .ipynb file itself"
        ) from None


def _cells(notebook: Any) -> list[Any]:
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise Unreadable(
            "the file is not a notebook of format 4: it holds no list of cells; save it from JupyterLab"
        )
    if len(cells) > MOST_CELLS:
        raise Unreadable(f"it holds {len(cells)} cells; at most {MOST_CELLS} are read")
    return cells


def _cell(cell: dict[str, Any]) -> Cell:
    metadata = cell.get("metadata")
    nbgrader = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    grade_id = nbgrader.get("grade_id") if isinstance(nbgrader, dict) else None
    kind = "code" if cell.get("cell_type") == "code" else ""
    return Cell(kind, grade_id if isinstance(grade_id, str) else "", _source(cell))


def _source(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    lines = source if isinstance(source, list) else [source]
    return "".join(line for line in lines if isinstance(line, str))


def number_of(path: Path, metadata: dict[str, Any], default: str) -> str:
    """Which set a submission answers: its file's name (01_….ipynb), that of a folder above, or `default`."""
    for name in (path.name, *(folder.name for folder in path.parents)):
        if found := re.match(r"([0-9]{2})_\w", name):
            return found[1]
    named = metadata.get("hesslab")
    stem = named.get("set", "") if isinstance(named, dict) else ""
    return stem[:2] if isinstance(stem, str) and re.match(r"[0-9]{2}_", stem) else default


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
