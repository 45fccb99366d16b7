"""The classroom: the export for nbgrader, and the command that grades without it."""

import contextlib
import csv
import io
import json

import pytest
import yaml
from first_set import EXERCISES, FIRST, MAX, NAMES, RIGHT, SECOND, STEM, WRONG
from submissions import (
    BANKS,
    ROOT,
    export,
    grade_id,
    grader,
    learners_copy,
    report,
    solution,
    with_answers,
    write,
)

import lab

# --- the export -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """The course directory of seed 5."""
    folder = tmp_path_factory.mktemp("course") / "class"
    assert export.export(folder, seed=5) == [path.stem for path in BANKS]
    return folder


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


def _incomplete(folder, change):
    """A repository with one set, whose `course.yml` `change` has passed over."""
    write(
        (ROOT / "solutions" / f"{STEM}.ipynb").read_text(encoding="utf8"), folder / f"solutions/{STEM}.ipynb"
    )
    write("", folder / "authoring" / "lessons" / f"{STEM}.py")
    table = yaml.safe_load((ROOT / "course.yml").read_text(encoding="utf8"))
    change(table, next(lesson for lesson in table["lessons"] if lesson["id"] == STEM[:2]))
    write(yaml.safe_dump(table, allow_unicode=True), folder / "course.yml")
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda table, lesson: lesson.pop("minutes"),
            "course.yml, lesson 01: minutes is missing, though its",
        ),
        (
            lambda table, lesson: lesson["objectives"].pop(),
            r"exercise \w+: objective '01\.6' does not exist",
        ),
        (
            lambda table, lesson: lesson["exercises"][0].pop("points"),
            "exercise taylor_slope: points is missing",
        ),
        (lambda table, lesson: table.pop("tracks"), "tracks is missing"),
        (
            lambda table, lesson: table.update(lessons=[], claims=[], tracks=[]),
            "course.yml has no lesson 01, though solutions/ holds its set",
        ),
    ],
)
def test_a_course_that_is_incomplete_is_a_sentence(change, words, tmp_path):
    root = _incomplete(tmp_path / "root", change)
    with pytest.raises(export.Refused, match=f"^nothing was written: .*{words}"):
        export.export(tmp_path / "class", root=root)
    assert not (tmp_path / "class").exists()


def test_a_course_without_its_manifest_is_a_sentence(tmp_path, monkeypatch, capsys):
    root = _incomplete(tmp_path / "root", lambda table, lesson: None)
    (root / "course.yml").unlink()
    monkeypatch.setattr(export.export, "__kwdefaults__", {**export.export.__kwdefaults__, "root": root})
    assert export.main([str(tmp_path / "class")]) == 1
    assert capsys.readouterr().err.startswith("nothing was written: [Errno 2] No such file or directory")


def test_lab_knows_the_commands_of_the_classroom():
    assert {"grade", "classroom", "exam"} <= set(lab.COMMANDS)
    assert all(f"lab.py {name} " in lab.__doc__ for name in ("grade", "classroom", "exam"))


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
    first, second = sorted(path.name for path in tmp_path.iterdir())
    assert first.startswith("001_")
    assert first.endswith("_=SUM(1)_ada.txt")
    assert second.endswith("_b_text.txt")
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
    assert report.as_csv([result]).splitlines()[1].startswith(f"\"'{text}")


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
