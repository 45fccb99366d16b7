"""The classroom: our grader beside nbgrader on the same files, the export, the command, the boundary."""

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from submissions import (
    BANKS,
    answers_of,
    bank,
    exercises_of,
    export,
    grade_id,
    grader,
    learners_copy,
    solution,
    with_answers,
    write,
)

PATH = next(path for path in BANKS if path.stem.startswith("01"))
STEM = PATH.stem
EXERCISES = exercises_of(STEM)
NAMES = [exercise.name for exercise in EXERCISES]
FIRST, SECOND = NAMES[:2]
MAX = sum(exercise.points for exercise in EXERCISES)
RIGHT = answers_of(STEM)
WRONG = {a.exercise: a for a in bank(PATH) if a.kind == "wrong"}
OTHER_RIGHT = {a.exercise: a.code for a in bank(PATH) if a.kind == "right"}


# --- nbgrader ---------------------------------------------------------------------------------------------

STUDENTS = {
    "solution": RIGHT,
    "blank": {},
    "partly": {**RIGHT, **{name: WRONG[name].code for name in NAMES[::2]}},
    "otherwise": {**RIGHT, **OTHER_RIGHT},
    "broken": {**RIGHT, SECOND: "this is no Python"},
    "helpers": {**RIGHT, FIRST: RIGHT[FIRST] + f"\n\nkept = {FIRST}\n%matplotlib inline\n!true\n"},
}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course directory after `generate_assignment` and `autograde` of six submissions."""
    folder = tmp_path_factory.mktemp("course") / "class"
    assert export.export(folder, seed=5) == [path.stem for path in BANKS]
    _nbgrader(folder, "generate_assignment", STEM)
    released = json.loads((folder / "release" / STEM / f"{STEM}.ipynb").read_text(encoding="utf8"))
    for student, answers in STUDENTS.items():
        notebook = with_answers(json.loads(json.dumps(released)), answers)
        write(notebook, folder / "submitted" / student / STEM / f"{STEM}.ipynb")
    _nbgrader(folder, "autograde", STEM)
    return folder


def _nbgrader(folder, *command):
    """Run nbgrader; it finds `alembic` through PATH, and its warnings are not ours."""
    bins = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": bins + os.pathsep + os.environ["PATH"], "PYTHONWARNINGS": "ignore"}
    environment |= {"OMP_NUM_THREADS": "1", "JUPYTER_PLATFORM_DIRS": "1"}
    command = [sys.executable, "-m", "nbgrader", *command]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500)
    assert ran.returncode == 0, ran.stderr[-3000:]


@pytest.fixture(scope="module")
def by_nbgrader(course):
    """Points by student and exercise, read through nbgrader's own interface in a process of its own."""
    read = (
        "import json, sys\nfrom nbgrader.api import Gradebook\n"
        f"with Gradebook('sqlite:///' + sys.argv[1]) as book:\n"
        f"    print(json.dumps({{s.student.id: {{g.name: g.score for n in s.notebooks for g in n.grades}}\n"
        f"        for s in book.assignment_submissions({STEM!r})}}))\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", read, str(course / "gradebook.db")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


def test_both_graders_give_the_same_points(course, by_nbgrader):
    files = [course / "submitted" / student / STEM / f"{STEM}.ipynb" for student in STUDENTS]
    for student, result in zip(STUDENTS, grader.grade(files), strict=True):
        ours = {f"{e['name']}-check": e["points"] for e in result["exercises"]}
        assert ours == by_nbgrader[student], student


def test_nbgrader_gives_what_the_course_promises(by_nbgrader):
    points = {student: sum(grades.values()) for student, grades in by_nbgrader.items()}
    lost = sum(exercise.points for exercise in EXERCISES[::2])
    assert points == {
        **{"solution": MAX, "blank": 0, "partly": MAX - lost, "otherwise": MAX, "helpers": MAX},
        "broken": MAX - EXERCISES[1].points,
    }


def test_a_released_assignment_holds_no_answers(course):
    text = (course / "release" / STEM / f"{STEM}.ipynb").read_text(encoding="utf8")
    assert "HIDDEN" not in text
    assert "SOLUTION" not in text
    assert "rng=" not in text


def test_the_export_draws_new_hidden_tests(course, tmp_path):
    def seeds(notebook):
        graded = [c for c in notebook["cells"] if grade_id(c).endswith("-check")]
        return ["".join(c["source"]).split("rng=")[1].split(")")[0] for c in graded]

    exported = json.loads((course / "source" / STEM / f"{STEM}.ipynb").read_text(encoding="utf8"))
    again = tmp_path / "again"
    export.export(again, seed=5)
    assert seeds(exported) == seeds(json.loads((again / "source" / STEM / f"{STEM}.ipynb").read_text("utf8")))
    assert len(set(seeds(exported)) - set(seeds(solution(STEM)))) == len(NAMES)
    assert export.export(again) == []  # kept: a teacher may have edited them
    assert STEM in export.export(again, fresh=True)
    assert not any(cell.get("outputs") for cell in exported["cells"])


def test_the_export_writes_a_rubric_and_a_guide(course):
    rubric = (course / "rubric.md").read_text(encoding="utf8")
    assert all(f"| `{exercise.name}` |" in rubric for exercise in EXERCISES)
    assert f"| total |  | {MAX:g} |" in rubric
    assert (course / "README.md").read_text(encoding="utf8").count("\n1. `nbgrader ") == 1


def test_the_export_refuses_a_folder_of_others(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("mine")
    assert export.main([str(tmp_path)]) == 1
    assert "holds files that lab.py classroom did not write" in capsys.readouterr().err
    assert export.main([str(tmp_path / "thesis.tex")]) == 1
    assert "is a file; name a folder" in capsys.readouterr().err
    with pytest.raises(export.Refused, match="there is no exercise set in"):
        export.export(tmp_path / "new", root=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


# --- the command ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def handed_in(tmp_path_factory):
    """A folder of two submissions and something else."""
    folder = tmp_path_factory.mktemp("handed in")
    write(
        with_answers(learners_copy(STEM), {**RIGHT, FIRST: WRONG[FIRST].code}), folder / "=SUM(1)_ada.ipynb"
    )
    write("no notebook", folder / "b" / "text.ipynb")
    write(learners_copy(STEM), folder / ".ipynb_checkpoints" / "old.ipynb")
    return folder


def _command(*arguments):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = grader.main([*map(str, arguments)])
    return code, out.getvalue(), err.getvalue()


def test_the_command_prints_feedback_csv_and_json(handed_in, tmp_path):
    lost = EXERCISES[0].points
    code, out, err = _command(handed_in, "--seed", 3, "--feedback", tmp_path)
    assert code == 1  # one file could not be graded
    assert f"{MAX - lost:g} of {MAX:g} points" in out
    assert f"0 of {lost:g}  {FIRST}: not yet" in out
    assert "Not graded: the file is not a notebook: it is not JSON" in out
    assert "2/2" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["001_=SUM(1)_ada.txt", "002_text.txt"]
    _, out, _ = _command(handed_in / "=SUM(1)_ada.ipynb", "--seed", 3, "--csv", "--quiet")
    (row,) = csv.DictReader(io.StringIO(out))
    assert float(row["points"]) == MAX - lost
    assert float(row[FIRST]) == 0 < float(row[SECOND])
    assert row["diagnoses"] == f"{FIRST}:{WRONG[FIRST].diagnosis}"
    code, out, _ = _command(handed_in / "=SUM(1)_ada.ipynb", "--seed", 3, "--json", "--quiet")
    (result,) = json.loads(out)
    assert (code, result["points"], result["set"]) == (0, MAX - lost, STEM)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x"])
def test_no_cell_of_the_csv_is_a_formula(text):
    result = {"submission": text, "set": STEM, "points": 0.0, "max_points": 1.0, "exercises": [], "notes": []}
    out = io.StringIO()
    grader.write_csv([result], out)
    assert out.getvalue().splitlines()[1].startswith(f"'{text}")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--time", "0"], "'0' is not a time; expected seconds above 0"),
        (["--memory", "much"], "'much' is not a number; expected 0, 1, 2"),
        (["--jobs", "two"], "'two' is not a number; expected 0, 1, 2"),
        (["--json", "--csv"], "not allowed with"),
    ],
)
def test_wrong_options_are_refused(arguments, words, capsys):
    with pytest.raises(SystemExit):
        grader.main(["x.ipynb", *arguments])
    assert words in capsys.readouterr().err


def test_nothing_to_grade_is_said(tmp_path):
    code, _, err = _command(tmp_path)
    assert code == 2
    assert "There is no notebook to grade there" in err


def test_a_file_that_is_missing_and_a_set_that_is_missing(tmp_path):
    right = write(with_answers(learners_copy(STEM), RIGHT), tmp_path / "77_other.ipynb")
    missing, other, named = grader.grade(
        [tmp_path / "gone.ipynb", right, write(right.read_text(), tmp_path / "a.ipynb")]
    )
    assert "the file cannot be read: No such file" in missing["problem"]
    assert "there is no exercise set 77" in other["problem"]
    assert named["points"] == MAX
