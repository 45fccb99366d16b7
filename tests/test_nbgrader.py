"""The path with nbgrader, as the teacher's page shows it: from the export through the exchange to the marks.

The commands are those of `docs/teaching/grading.md`, run as they stand there. One run of nbgrader takes
seconds to start, and one kernel a submission: this file is the slowest of the classroom.
"""

import csv
import json
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from first_set import EXERCISES, FIRST, MAX, NAMES, OTHER_RIGHT, RIGHT, SECOND, STEM, WRONG
from submissions import (
    ROOT,
    cell_of,
    code_cell,
    grade_id,
    grader,
    learners_copy,
    with_answers,
    write,
)

PAGE = (ROOT / "docs" / "teaching" / "grading.md").read_text(encoding="utf8")
#: Under which nbgrader knows the student who uses the exchange: the account of this machine.
ACCOUNT = pwd.getpwuid(os.geteuid()).pw_name
SCRIPTS = {"grade": "grade.py", "classroom": "export.py", "exam": "exam.py"}

WELL_FORMED = {
    "solution": RIGHT,
    "blank": {},
    "partly": {**RIGHT, **{name: WRONG[name].code for name in NAMES[::2]}},
    "otherwise": {**RIGHT, **OTHER_RIGHT},
    "broken": {**RIGHT, SECOND: "this is no Python"},
    "helpers": {**RIGHT, FIRST: RIGHT[FIRST] + f"\n\nkept = {FIRST}\n%matplotlib inline\n!true\n"},
}


# --- malformed submissions --------------------------------------------------------------------------------


def _without(*names):
    notebook = with_answers(learners_copy(STEM), RIGHT)
    notebook["cells"] = [cell for cell in notebook["cells"] if grade_id(cell) not in names]
    return notebook


def _twice(name, code=None):
    """The cell `name` a second time behind itself, with other code where some is given."""
    notebook = with_answers(learners_copy(STEM), RIGHT)
    cell = cell_of(notebook, name)
    again = json.loads(json.dumps(cell)) | {"id": "again"}
    again["source"] = cell["source"] if code is None else [code]
    notebook["cells"].insert(notebook["cells"].index(cell) + 1, again)
    return notebook


def _forged():
    """The first answer is missing, and every exercise claims a hundred points."""
    notebook = with_answers(learners_copy(STEM), {name: RIGHT[name] for name in NAMES[1:]})
    for cell in notebook["cells"]:
        if grade_id(cell).endswith("-check"):
            cell["metadata"]["nbgrader"]["points"] = 100
    return notebook


def _with_a_cell_more():
    """The first answer is missing, and a cell with points of its own makes up for it."""
    notebook = with_answers(learners_copy(STEM), {name: RIGHT[name] for name in NAMES[1:]})
    marks = {"grade_id": "extra", "grade": True, "points": 50, "locked": False, "solution": False}
    notebook["cells"].append(code_cell("pass", schema_version=3, task=False, **marks) | {"id": "extra"})
    return notebook


def _with_outputs():
    """The first answer is missing; its graded cell shows that it passed."""
    notebook = with_answers(learners_copy(STEM), {name: RIGHT[name] for name in NAMES[1:]})
    said = {"output_type": "stream", "name": "stdout", "text": [f"{FIRST}: passed.\n"]}
    cell_of(notebook, f"{FIRST}-check").update(outputs=[said], execution_count=7)
    return notebook


def _for_another_kernel():
    notebook = with_answers(learners_copy(STEM), RIGHT)
    notebook["metadata"]["kernelspec"] = {"display_name": "R", "language": "R", "name": "ir"}
    return notebook


MALFORMED = {
    "not JSON": "this is no notebook",
    "an empty file": "",
    "no list of cells": '{"metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
    "a graded cell deleted": _without(f"{FIRST}-check"),
    "an answer's cell deleted": _without(FIRST),
    "an answer's cell twice, the second wrong": _twice(FIRST, f"def {FIRST}(*args):\n    return 0.0\n"),
    "a graded cell twice": _twice(f"{FIRST}-check"),
    "points forged, an answer missing": _forged(),
    "a graded cell added, an answer missing": _with_a_cell_more(),
    "outputs stored, an answer missing": _with_outputs(),
    "a kernel that is not there": _for_another_kernel(),
}


# --- the commands of the page -----------------------------------------------------------------------------


def commands(heading):
    """The commands under one heading of the page, in order."""
    section = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
    blocks = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def as_run(line, exchange=""):
    """A command of the page as a list of words: with this Python, and the exchange of the test."""
    words = shlex.split(line.replace("/srv/nbgrader/exchange", str(exchange)))
    if words[:2] == ["python3", "lab.py"]:
        return [sys.executable, str(ROOT / "classroom" / SCRIPTS[words[2]]), *words[3:]]
    return [sys.executable, "-m", *words]


def execute(line, folder, exchange="", *, codes=(0,), **settings):
    """Run a command in `folder`; nbgrader finds `alembic` through PATH, and its warnings are not ours."""
    bins = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": bins + os.pathsep + os.environ["PATH"], "PYTHONWARNINGS": "ignore"}
    environment |= {"OMP_NUM_THREADS": "1", "JUPYTER_PLATFORM_DIRS": "1", **settings}
    ran = subprocess.run(
        as_run(line, exchange), cwd=folder, env=environment, capture_output=True, text=True, timeout=500
    )
    assert ran.returncode in codes, (line, ran.stdout[-500:], ran.stderr[-3000:])
    return ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A class after the page's commands: one student by the exchange, the others as files."""
    top = tmp_path_factory.mktemp("course")
    exchange, ada, folder = top / "exchange", top / "ada", top / "class"
    for place in (exchange, ada, top / "put aside"):
        place.mkdir()
    exchange.chmod(0o777)
    make, *begin = commands("With nbgrader: before")
    execute(make, top)
    for line in begin:
        execute(line, folder, exchange)
    fetch, submit = commands("With nbgrader: what a student does")
    execute(fetch, ada, exchange, HOME=str(ada))
    notebook = ada / STEM / f"{STEM}.ipynb"
    write(with_answers(json.loads(notebook.read_text(encoding="utf8")), RIGHT), notebook)
    execute(submit, ada, exchange, HOME=str(ada))
    collect, autograde, feedback, marks = commands("With nbgrader: after")
    execute(collect, folder, exchange)
    released = json.loads((folder / "release" / STEM / f"{STEM}.ipynb").read_text(encoding="utf8"))
    for student, answers in WELL_FORMED.items():
        notebook = with_answers(json.loads(json.dumps(released)), answers)
        write(notebook, folder / "submitted" / student / STEM / f"{STEM}.ipynb")
    for kind, notebook in MALFORMED.items():
        if "twice" not in kind:
            write(notebook, folder / "submitted" / student_of(kind) / STEM / f"{STEM}.ipynb")
    execute(autograde, folder, codes=(1,))  # some of the malformed ones fail; nbgrader says so, and goes on
    write(with_answers(released, RIGHT), folder / "submitted" / "zoe" / STEM / f"{STEM}.ipynb")
    said = ""
    for kind in (kind for kind in MALFORMED if "twice" in kind):
        place = folder / "submitted" / student_of(kind)
        write(MALFORMED[kind], place / STEM / f"{STEM}.ipynb")
        said += execute(autograde, folder, codes=(1,))
        shutil.move(place, top / "put aside" / place.name)
    execute(feedback, folder)
    execute(marks, folder)
    return top, said


def student_of(kind):
    """The account under which a malformed submission is handed in."""
    return f"malformed{list(MALFORMED).index(kind)}"


READ = """
import json, sys
from nbgrader.api import Gradebook
found = {}
with Gradebook("sqlite:///" + sys.argv[1]) as book:
    for one in book.assignment_submissions(sys.argv[2]):
        grades = [grade for notebook in one.notebooks for grade in notebook.grades]
        found[one.student.id] = {grade.name: [grade.score, grade.needs_manual_grade] for grade in grades}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def by_nbgrader(course):
    """Points by student and exercise, and what needs a person, read through nbgrader's own interface."""
    command = [sys.executable, "-W", "ignore", "-c", READ, str(course[0] / "class" / "gradebook.db"), STEM]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


def _place(top, student):
    put_aside = top / "put aside" / student
    return (
        (put_aside if put_aside.exists() else top / "class" / "submitted" / student) / STEM / f"{STEM}.ipynb"
    )


def _ours(top, students):
    results = grader.grade([_place(top, student) for student in students], grader.Settings(default_set="01"))
    return dict(zip(students, results, strict=True))


def test_both_graders_give_the_same_points(course, by_nbgrader):
    for student, result in _ours(course[0], [ACCOUNT, *WELL_FORMED]).items():
        ours = {f"{e['name']}-check": [e["points"], False] for e in result["exercises"]}
        assert ours == by_nbgrader[student], student


def test_nbgrader_gives_what_the_course_promises(course, by_nbgrader):
    points = {s: sum(score for score, _ in by_nbgrader[s].values()) for s in (ACCOUNT, *WELL_FORMED)}
    lost = sum(exercise.points for exercise in EXERCISES[::2])
    assert points == {
        **{ACCOUNT: MAX, "solution": MAX, "blank": 0, "partly": MAX - lost, "otherwise": MAX, "helpers": MAX},
        "broken": MAX - EXERCISES[1].points,
    }
    with (course[0] / "class" / "grades.csv").open(encoding="utf8", newline="") as file:
        exported = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    assert {student: exported[student] for student in points} == points
    assert exported[student_of("not JSON")] == 0  # not graded, and looks like a blank
    assert "zoe" not in exported  # behind one with a cell twice: not reached


def test_a_released_assignment_holds_no_answers(course):
    text = (course[0] / "class" / "release" / STEM / f"{STEM}.ipynb").read_text(encoding="utf8")
    assert not {"HIDDEN", "SOLUTION", "rng="} & set(re.findall(r"HIDDEN|SOLUTION|rng=", text))


def test_the_exchange_brings_back_what_was_submitted(course):
    """Released, fetched, answered, submitted, collected: the same bytes, and a page of feedback."""
    submitted = course[0] / "ada" / STEM / f"{STEM}.ipynb"
    assert _place(course[0], ACCOUNT).read_bytes() == submitted.read_bytes()
    pages = {path.parts[-3] for path in (course[0] / "class" / "feedback").glob("*/*/*.html")}
    assert {ACCOUNT, *WELL_FORMED} <= pages
    page = course[0] / "class" / "feedback" / "partly" / STEM / f"{STEM}.html"
    assert "try:" in page.read_text(encoding="utf8")  # what the check advises


def _by_nbgrader(top, by_nbgrader, kind):
    """nbgrader's outcome of a malformed submission, in the words of the page."""
    student = student_of(kind)
    if not (top / "class" / "autograded" / student / STEM / f"{STEM}.ipynb").exists():
        return "not graded, nor anyone after it" if "twice" in kind else "not graded"
    scores = by_nbgrader[student].values()
    open_ones = sum(by_hand for _, by_hand in scores)
    return f"{sum(score for score, _ in scores):g}" + (f", {open_ones} left to a person" if open_ones else "")


def _by_us(result):
    told = f", told: {len(result['notes'])} note" if result["notes"] else ""
    return "not graded, told why" if "problem" in result else f"{result['points']:g}{told}"


def test_the_table_of_differences_is_what_happens(course, by_nbgrader):
    top, said = course
    results = _ours(top, [student_of(kind) for kind in MALFORMED])
    rows = {
        kind: (_by_nbgrader(top, by_nbgrader, kind), _by_us(results[student_of(kind)])) for kind in MALFORMED
    }
    wanted = "".join(f"| {kind} | {theirs} | {ours} |\n" for kind, (theirs, ours) in rows.items())
    assert wanted in PAGE, f"the page should say:\n{wanted}"
    assert said.count("exists multiple times!") == 2
    assert not (top / "class" / "autograded" / "zoe").exists()


def test_the_commands_without_nbgrader(tmp_path):
    for name, answers in {"ada": RIGHT, "bob": {}}.items():
        write(with_answers(learners_copy(STEM), answers), tmp_path / "handed_in" / f"{name}.ipynb")
    printing, reporting, again = commands("Without nbgrader")
    assert f"{MAX:g} of {MAX:g}  handed_in/ada.ipynb" in execute(printing, tmp_path)
    for line in (reporting, again):
        assert "2 submissions, 0 of them not graded" in execute(line, tmp_path)
        with (tmp_path / "marks.csv").open(encoding="utf8", newline="") as file:
            assert [float(row["points"]) for row in csv.DictReader(file)] == [MAX, 0]
    assert len(list((tmp_path / "pages").iterdir())) == 2
    assert (tmp_path / "marks.csv.journal").read_text(encoding="utf8").count("\n") == 3
    make, grade = commands("An exam")
    execute(make, tmp_path)
    blank = (tmp_path / "exam" / "hand_out" / "exam.ipynb").read_text(encoding="utf8")
    write(blank, tmp_path / "exam_handed_in" / "ada.ipynb")
    assert "1 submissions, 0 of them not graded" in execute(grade, tmp_path)


def test_the_exam_with_nbgrader(tmp_path, pytestconfig):
    if pytestconfig.getoption("--bank") != "all":
        pytest.skip("nbgrader takes seconds a command, and the format is that of the sets: --bank=all")
    folder = tmp_path / "exam"
    make, hidden = commands("An exam")[0], folder / "source" / "exam" / "exam.ipynb"
    execute(make, tmp_path)
    execute("nbgrader generate_assignment exam", folder)
    write(hidden.read_text(encoding="utf8"), folder / "submitted" / "ada" / "exam" / "exam.ipynb")
    blank = (folder / "release" / "exam" / "exam.ipynb").read_text(encoding="utf8")
    write(blank, folder / "submitted" / "bob" / "exam" / "exam.ipynb")
    execute("nbgrader autograde exam", folder)
    execute("nbgrader export", folder)
    with (folder / "grades.csv").open(encoding="utf8", newline="") as file:
        points = [(float(row["score"]), float(row["max_score"])) for row in csv.DictReader(file)]
    assert points[0][0] == points[0][1] > 0 == points[1][0]
