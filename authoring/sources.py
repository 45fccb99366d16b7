"""From a source in percent format to a notebook without outputs; see `build.py` for how a source is written.

The markers of nbgrader are checked here, line by line: a marker that a person would read as one and nbgrader
would not, or the other way round, would publish an answer.
"""

import ast
import copy
import difflib
import hashlib
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbformat import NotebookNode

from authoring import cards
from authoring.execute import NO_STORE
from authoring.manifest import KINDS, Lesson, Manifest

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = 'raise NotImplementedError("not attempted: replace this line by your answer")'
HEADER_LINE = re.compile(r"# %%")
PLACEHOLDER = re.compile(r"\{\{\s*([a-z]+)(?:\s+([\w.\-]+))?\s*\}\}")
ACTS, THINGS = ("begin", "end", "start", "stop"), ("solution", "answer", "hidden tests", "mark scheme")
MARKERS = [f"{act} {thing}" for act in ACTS for thing in THINGS] + ["to remove solution", "remove solution"]
LABELS, FILLERS = {"solution", "solutions", "answer", "answers"}, {"the", "of", "a", "your", "here", "this"}
IGNORED = "nbval-ignore-output"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class SourceError(ValueError):
    """A source that cannot be built; the message names the file and, where it can, the line."""


def compose(path: Path, manifest: Manifest) -> NotebookNode:
    """The notebook of the source `path`, without outputs; of an exercise set, the solutions."""
    text, lesson = path.read_text(encoding="utf8"), lesson_of(path, manifest)
    if path.parent.name == "exercises":
        check_markers(path, text)
    notebook = nbformat.v4.new_notebook(metadata=copy.deepcopy(METADATA))
    for cell in jupytext.reads(text, fmt="py:percent").cells:
        notebook.cells.append(_cell(cell, path, text, manifest, lesson))
    if path.parent.name == "exercises":
        _check_order(notebook, path, lesson)
    _name_cells(notebook)
    return notebook


def lesson_of(path: Path, manifest: Manifest) -> Lesson:
    """The lesson that a source belongs to, by the name of the file."""
    for lesson in manifest.lessons.values():
        if lesson.stem == path.stem:
            return lesson
    raise SourceError(f"{_shown(path)}: course.yml has no lesson called {path.stem}")


def release(solutions: NotebookNode) -> NotebookNode:
    """What a learner gets: nbgrader's steps take out answers and hidden tests, and lock what is graded."""
    from nbgrader import preprocessors as steps  # takes two seconds to import
    from traitlets.config import Config

    config = Config({"ClearSolutions": {"code_stub": {"python": STUB}}})
    notebook, resources = copy.deepcopy(solutions), {}
    for step in (
        *(steps.LockCells, steps.ClearSolutions, steps.ClearOutput, steps.CheckCellMetadata),
        *(steps.ComputeChecksums, steps.ClearHiddenTests, steps.ClearMarkScheme, steps.ComputeChecksums),
    ):
        notebook, resources = step(config=config).preprocess(notebook, resources)
    notebook.metadata = nbformat.from_dict(copy.deepcopy(METADATA))
    return notebook


def leaks(solutions: NotebookNode, exercises: NotebookNode) -> list[str]:
    """The lines of answers that stand somewhere in the learner's notebook, short and general ones aside."""
    published = "\n".join(re.sub(r"\s", "", cell.source) for cell in exercises.cells)
    answers = [line for cell in solutions.cells for line in _answer_lines(cell.source)]
    return [line for line in answers if not _trivial(line) and re.sub(r"\s", "", line) in published]


def _answer_lines(source: str) -> Iterator[str]:
    inside = False
    for line in map(str.strip, source.splitlines()):
        if line in (BEGIN, END):
            inside = line == BEGIN
        elif inside and line:
            yield line


def _trivial(line: str) -> bool:
    """Lines that any program may hold: short ones, imports, loops over a range, the return of a name."""
    general = r"(import|from) .*|for \w+ in range\(\w+\):|return \w+|def \w+\(.*\):"
    return len(re.sub(r"\s", "", line)) < 12 or bool(re.fullmatch(general, line))


# ---- markers -----------------------------------------------------------------------------------------


def check_markers(path: Path, text: str) -> None:
    """Raise SourceError unless each marker is nbgrader's, to the letter, in an answer cell, in pairs."""
    answer, opened = False, 0
    for number, line in enumerate([*text.splitlines(), "# %%"], start=1):
        where, marker = f"{_shown(path)}, line {number}", line.strip()
        if HEADER_LINE.match(line) and opened:
            raise SourceError(f"{_shown(path)}, line {opened}: {BEGIN} has no {END} in its cell")
        if HEADER_LINE.match(line):
            answer = "answer=" in line
        elif marker in (BEGIN, END):
            if not answer:
                raise SourceError(f'{where}: a marker of a solution in a cell that is not answer="…"')
            if (marker == BEGIN) == bool(opened):
                raise SourceError(f"{where}: {marker} without {END if opened else BEGIN} before it")
            opened = number if marker == BEGIN else 0
        elif looks_like_marker(line):
            raise SourceError(
                f"{where}: {marker!r} looks like a marker but is not one that this cell may hold; "
                f"write exactly {BEGIN!r} and {END!r} around an answer, and reword anything else"
            )


def looks_like_marker(line: str) -> bool:
    """Whether a person, or nbgrader, takes this line for the border of an answer or of hidden tests."""
    if re.search(r"\b(BEGIN|END|START|STOP)[\W_]*(SOLUTION|ANSWER|HIDDEN|MARK)", line):
        return True
    words = " ".join(word for word in re.findall(r"[a-z]+", line.lower()) if word not in FILLERS)
    if "#" not in line or len(words) > 40:
        return False
    if words in LABELS or words.startswith("to remove"):
        return True
    return any(difflib.SequenceMatcher(None, words, m).ratio() > 0.85 for m in MARKERS)


# ---- cells -------------------------------------------------------------------------------------------


def _cell(cell: Any, path: Path, text: str, manifest: Manifest, lesson: Lesson) -> NotebookNode:
    roles = {key: cell.metadata[key] for key in ("answer", "grade") if key in cell.metadata}
    unknown = set(cell.metadata) - {"tags", "answer", "grade", "lines_to_next_cell", "cell_marker"}
    if unknown or (roles and path.parent.name != "exercises"):
        found = ", ".join(sorted(unknown or roles))
        raise SourceError(f"{_at(path, text, cell.source)}: a cell of {path.parent.name} knows no {found}")
    metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
    if NO_STORE in metadata.get("tags", []) and IGNORED not in metadata["tags"]:
        raise SourceError(f"{_at(path, text, cell.source)}: the tag {NO_STORE} needs {IGNORED} beside it")
    if cell.cell_type != "code":
        return nbformat.v4.new_markdown_cell(
            _expanded(cell.source, path, text, manifest, lesson), metadata=metadata
        )
    source = _graded(roles["grade"], lesson) if "grade" in roles else cell.source
    if not source.strip():
        raise SourceError(f"{_shown(path)}: it has an empty code cell; remove it")
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        where = _at(path, text, (error.text or cell.source).strip())
        raise SourceError(f"{where}: not plain Python: {error.msg}") from error
    if "grade" in roles and cell.source.strip():
        raise SourceError(f"{_at(path, text, cell.source)}: the grade cell of {roles['grade']} must be empty")
    if "answer" in roles:
        _check_answer(roles["answer"], source, tree, _at(path, text, cell.source))
    if path.parent.name == "exercises":
        metadata["nbgrader"] = _nbgrader(roles, lesson)
    return nbformat.v4.new_code_cell(source, metadata=metadata)


def _expanded(source: str, path: Path, text: str, manifest: Manifest, lesson: Lesson) -> str:
    """`source` with each placeholder replaced by the text of the manifest."""
    lines = []
    for line in source.splitlines():
        found = PLACEHOLDER.fullmatch(line.strip())
        if not found and re.search(r"\{\{\s*(header|map|claim|exercise)\b", line):
            raise SourceError(f"{_at(path, text, line)}: a placeholder stands alone on its line")
        if found and found[1] == "header" and re.search(r"^# ", source, re.MULTILINE):
            raise SourceError(f"{_at(path, text, line)}: the title comes from course.yml; write none here")
        lines.append(_replacement(found, path, text, manifest, lesson) if found else line)
    return "\n".join(lines)


def _replacement(found: re.Match[str], path: Path, text: str, manifest: Manifest, lesson: Lesson) -> str:
    kind, name = found.groups()
    exercises = {exercise.name: exercise for exercise in lesson.exercises}
    if kind == "header" and name is None:
        return cards.header(manifest, lesson, path.parent.name)
    if kind == "map" and name is None:
        return cards.course_map(manifest)
    if kind == "claim" and name in manifest.claims and manifest.claims[name].lesson == lesson.id:
        return cards.claim_card(manifest, manifest.claims[name])
    if kind == "exercise" and name in exercises:
        return cards.exercise_heading(lesson, exercises[name])
    raise SourceError(f"{_at(path, text, found[0])}: course.yml gives lesson {lesson.id} no {found[0]}")


def _graded(name: str, lesson: Lesson) -> str:
    """The cell that grades `name`: a visible line, and a hidden test on an instance of its own."""
    check = f"check_{name}"
    return (
        f"{check}({name})\n### BEGIN HIDDEN TESTS\nfrom hesslab.checks.lesson_{lesson.id} import {check}\n"
        f"assert {check}({name}, rng={zlib.crc32(name.encode())}).passed\n### END HIDDEN TESTS"
    )


def _nbgrader(roles: dict[str, str], lesson: Lesson) -> dict[str, Any]:
    """The metadata of nbgrader: an answer, a test with its points, or a cell that only its author changes."""
    kind = {"schema_version": 3, "grade": "grade" in roles, "solution": "answer" in roles, "task": False}
    kind["locked"] = not kind["solution"]
    if "grade" in roles:
        points = next((e.points for e in lesson.exercises if e.name == roles["grade"]), 0)
        return {**kind, "grade_id": f"{roles['grade']}-check", "points": points}
    return {**kind, "grade_id": roles.get("answer", "")}


def _check_answer(name: str, source: str, tree: ast.Module, where: str) -> None:
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    if len(tree.body) != 1 or [f.name for f in functions] != [name]:
        raise SourceError(f"{where}: the answer cell {name} must hold one function {name}, and nothing else")
    lines = [line.strip() for line in source.splitlines()]
    if BEGIN not in lines:
        raise SourceError(f"{where}: the answer cell {name} has no {BEGIN}")
    documented = ast.get_docstring(functions[0]) and lines.index(BEGIN) >= functions[0].body[0].end_lineno
    if not documented:
        raise SourceError(f"{where}: {name} needs a docstring above {BEGIN}; it stays in the learner's stub")


def _check_order(notebook: NotebookNode, path: Path, lesson: Lesson) -> None:
    """Each exercise of the manifest has its heading, then its answer, then its grade, in order."""
    found = []
    for cell in notebook.cells:
        found += re.findall(rf"^`(\w+)` · (?:{'|'.join(KINDS)}) · ", cell.source, re.MULTILINE)
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
        found += [grade_id] if grade_id else []
    wanted = [part for e in lesson.exercises for part in (e.name, e.name, f"{e.name}-check")]
    if found != wanted:
        found, wanted = (" ".join(parts) or "nothing" for parts in (found, wanted))
        raise SourceError(
            f"{_shown(path)}: course.yml asks for heading, answer and grade of each exercise in order "
            f"({wanted}); the source has {found}"
        )


def _name_cells(notebook: NotebookNode) -> None:
    """Ids that depend on the content alone: that of nbgrader, else a hash, numbered where it repeats."""
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        graded = cell.metadata.get("nbgrader", {})
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        name = graded.get("grade_id") or f"cell-{digest}"
        seen[name] = seen.get(name, 0) + 1
        cell.id = name if seen[name] == 1 else f"{name}-{seen[name]}"
        if graded and not graded["grade_id"]:
            graded["grade_id"] = cell.id


def _at(path: Path, text: str, fragment: str) -> str:
    """The file, and the line where `fragment` begins."""
    first = next((line.strip() for line in fragment.splitlines() if line.strip()), "")
    numbers = (n for n, line in enumerate(text.splitlines(), start=1) if first and first in line)
    number = next(numbers, None)
    return f"{_shown(path)}, line {number}" if number else _shown(path)


def _shown(path: Path) -> str:
    return "/".join(path.parts[-3:])
