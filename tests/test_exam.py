"""The exam bank: every variant verified over many seeds, and the exam that is written of it graded.

A new lesson's questions come under these tests by the file `classroom/exam/NN_slug.toml` alone.
"""

import contextlib
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from submissions import BANKS, ROOT, answers_of, exam, grader, questions, submission, with_answers, write

from authoring import manifest

BANK = questions.read_questions(exam.BANK)
TABLES = [pytest.param(n, table, id=f"{n}-{table['name']}") for n, tables in BANK.items() for table in tables]
SEEDS = range(24)


def _quietly(act, *args, **kwargs):
    with contextlib.redirect_stdout(io.StringIO()):
        return act(*args, **kwargs)


def _function(question, code):
    return questions.function_of(questions.source_of(question, code), question.name)


# --- the questions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lesson", "table"), TABLES)
def test_every_variant_is_verified(lesson, table):
    """The answer is its oracle's and passes; the blank and each mistake fail, with their own diagnosis."""
    for seed, question in enumerate(questions.variants(lesson, table)):
        _quietly(questions.verify, question, rng=seed)
        check = questions.check_of(question)
        blank = _quietly(check, _function(question, "raise NotImplementedError"), rng=seed)
        assert (blank.passed, blank.attempted) == (False, False)
        for wrong in question.wrong:
            feedback = _quietly(check, _function(question, wrong.code), rng=seed)
            assert feedback.diagnosis == wrong.name, (question.choice, feedback.text)
            assert wrong.advice in feedback.text


@pytest.mark.parametrize(("lesson", "table"), TABLES)
def test_many_seeds_find_no_instance_that_fools_the_check(lesson, table):
    rng = np.random.default_rng(5)
    for seed in SEEDS:
        _quietly(questions.verify, questions.drawn(lesson, table, rng), rng=seed)


@pytest.mark.parametrize(("lesson", "table"), TABLES)
def test_no_variant_is_answered_by_another(lesson, table):
    """Last year's answer, with last year's numbers, does not pass."""
    made = list(questions.variants(lesson, table))
    assert len(made) >= 8
    answers = [_function(question, question.answer) for question in made]
    for number in np.random.default_rng(1).permutation(len(made))[:4]:
        check = questions.check_of(made[number])
        passed = [i for i, answer in enumerate(answers) if _quietly(check, answer, rng=3).passed]
        assert passed == [number], [made[i].choice for i in passed]


@pytest.mark.parametrize(("lesson", "table"), TABLES)
def test_no_published_answer_passes(lesson, table):
    """What learners find in `solutions/`, under the name that the exam asks for."""
    names = {}
    for path in BANKS:
        with contextlib.redirect_stdout(io.StringIO()):
            for source in submission.read_assignment(ROOT, path.stem[:2]).locked.values():
                exec(source, names)
            for source in answers_of(path.stem).values():
                exec(source, names)
    published = [names[name] for path in BANKS for name in answers_of(path.stem)]
    assert len(published) >= 18
    for question in list(questions.variants(lesson, table))[::5]:
        check = questions.check_of(question)
        assert not any(_quietly(check, answer, rng=1).passed for answer in published)


@pytest.mark.parametrize(("lesson", "table"), TABLES)
def test_a_question_assesses_an_objective_of_its_lesson(lesson, table):
    lessons = manifest.read(ROOT).lessons
    assert table["objective"] in {objective.id for objective in lessons[lesson].objectives}
    assert len(table["wrong"]) >= 3
    assert table["points"] > 0 < table["minutes"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"answer": "return 0.0"}, "the answer is not what its oracle computes"),
        ({"wrong": [{"name": "none", "advice": "", "code": "ANSWER"}]}, "the wrong answer none passes"),
        ({"text": "<<nothing>>"}, "holds <<nothing>>, which its draw does not give"),
    ],
)
def test_a_faulty_question_is_refused(change, words):
    table = {**BANK["02"][0], **change}
    for wrong in table["wrong"]:
        wrong["code"] = wrong["code"].replace("ANSWER", table["answer"])
    with pytest.raises(questions.Faulty, match=words):
        _quietly(questions.verify, questions.drawn("02", table, np.random.default_rng(0)), rng=1)


def test_a_bank_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "01_x.toml").write_text("[[question]]\nname = 'half'\n")
    with pytest.raises(questions.Faulty, match=r"01_x\.toml: the question half has no answer, draw, example"):
        questions.read_questions(tmp_path)
    (tmp_path / "01_x.toml").write_text("no toml")
    with pytest.raises(questions.Faulty, match=r"01_x\.toml is not TOML"):
        questions.read_questions(tmp_path)


# --- the exam ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exams(tmp_path_factory):
    """Exams of two seeds."""
    top = tmp_path_factory.mktemp("exams")
    for seed in (7, 8):
        assert _quietly(exam.main, [str(top / str(seed)), "--seed", str(seed)]) == 0
    return top


def _source(folder):
    return json.loads((folder / "source" / "exam" / "exam.ipynb").read_text(encoding="utf8"))


def _handed_out(folder):
    return json.loads((folder / "hand_out" / "exam.ipynb").read_text(encoding="utf8"))


def _answers(folder):
    cells = [c for c in _source(folder)["cells"] if c["metadata"].get("nbgrader", {}).get("solution")]
    return {cell["id"]: "".join(cell["source"]) for cell in cells}


def test_the_exam_is_graded(exams, tmp_path):
    """Solution, blank, one wrong answer, the exam of another seed, and the published solutions."""
    folder, name = exams / "7", next(iter(_answers(exams / "7")))
    other = {k: v for k, v in _answers(exams / "8").items() if k in _answers(folder)}
    assert other, "choose seeds whose exams share a question"
    wrong = {**_answers(folder), name: f"def {name}(*args):\n    return 1.5\n"}
    files = [
        write(_source(folder), tmp_path / "a.ipynb"),
        write(with_answers(_handed_out(folder), _answers(folder)), tmp_path / "b.ipynb"),
        write(_handed_out(folder), tmp_path / "c.ipynb"),
        write(with_answers(_handed_out(folder), wrong), tmp_path / "d.ipynb"),
        write(with_answers(_handed_out(folder), {**_answers(folder), **other}), tmp_path / "e.ipynb"),
        ROOT / "solutions" / f"{BANKS[0].stem}.ipynb",
    ]
    results = grader.grade(files, grader.Settings(exam=folder, seed=1))
    full = results[0]["max_points"]
    points = [result["points"] for result in results]
    assert points[:3] == [full, full, 0]
    assert points[3] == full - results[3]["exercises"][0]["max_points"]
    assert points[4] < full
    assert set(points[5:]) == {0}
    assert [e["diagnosis"] for e in results[2]["exercises"]] == ["not-attempted"] * len(_answers(folder))


def test_an_answer_reads_neither_the_exam_nor_its_checks(exams, tmp_path):
    folder, name = exams / "7", next(iter(_answers(exams / "7")))
    reads = f"""
def {name}(*args):
    import sys, ctypes, pathlib
    place = {str(folder)!r}
    sys.path.append(place)
    checks = pathlib.Path(place, "exam_checks.py")
    for read in (lambda: __import__("exam_checks"), lambda: checks.read_text()):
        try:
            raise ValueError("the exam is open: " + str(read()))
        except (ImportError, OSError):
            pass
    ctypes.CDLL(None).system(("cp -r " + place + " mine").encode())
    if pathlib.Path("mine", "exam_checks.py").exists():
        raise ValueError("the exam is open to native code")
    return 0.0
"""
    file = write(with_answers(_handed_out(folder), {**_answers(folder), name: reads}), tmp_path / "x.ipynb")
    (result,) = grader.grade([file], grader.Settings(exam=folder))
    outcome = result["exercises"][0]
    assert outcome["points"] == 0
    if result["walls"]:
        assert "the exam is open" not in outcome["feedback"]
    assert result["points"] == result["max_points"] - outcome["max_points"]


def test_what_is_handed_out_holds_no_answer_and_runs(exams):
    notebook = _handed_out(exams / "7")
    text = json.dumps(notebook)
    assert not {"HIDDEN", "SOLUTION", "exam_checks"} & set(text.replace('"', " ").split())
    code = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec("\n\n".join(code), {})
    assert out.getvalue().count("not attempted") == len(_answers(exams / "7"))


def test_the_examples_of_the_exam_are_right(exams):
    code = ["".join(c["source"]) for c in _source(exams / "8")["cells"] if c["cell_type"] == "code"]
    shown = [source.split("### BEGIN HIDDEN")[0] for source in code]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec("\n\n".join(shown), {})
    for line in out.getvalue().splitlines():
        found, expected = line.split(": ", 1)[1].split(", expected ")
        numbers = [np.array(t.strip("[]").replace(",", " ").split(), dtype=float) for t in (found, expected)]
        np.testing.assert_allclose(*numbers, atol=1e-4)


def test_a_seed_gives_the_same_exam_and_another_seed_another(exams, tmp_path):
    assert _quietly(exam.main, [str(tmp_path / "again"), "--seed", "7"]) == 0
    same = [(f / "exam_checks.py").read_text(encoding="utf8") for f in (exams / "7", tmp_path / "again")]
    assert same[0] == same[1]
    assert _source(exams / "7") == _source(tmp_path / "again") != _source(exams / "8")


def test_an_exam_is_written_over_nothing_else(exams, tmp_path, capsys):
    assert exam.main([str(exams / "7"), "--seed", "9"]) == 1
    assert "holds a course already; name another folder, or give --fresh" in capsys.readouterr().err
    (tmp_path / "thesis.tex").write_text("mine")
    assert exam.main([str(tmp_path)]) == 1
    assert "holds files that lab.py classroom did not write" in capsys.readouterr().err
    assert exam.main([str(tmp_path / "x"), "--lessons", "99"]) == 1
    assert "has no questions on lesson 99; it has 01, 02" in capsys.readouterr().err
    assert exam.main([str(tmp_path / "x"), "--count", "0"]) == 1
    assert "that is an exam without questions" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_folder_without_an_exam_is_a_sentence(tmp_path, capsys):
    file = write("{}", tmp_path / "a.ipynb")
    assert grader.main([str(file), "--exam", str(tmp_path)]) == 2
    assert "holds no exam: the file cannot be read: No such file or directory. Write one with" in (
        capsys.readouterr().err
    )


def test_the_checks_of_an_exam_stand_alone(exams):
    """As nbgrader's kernel finds them: on the path, with `hesslab` installed, and nothing of the grader."""
    code = "import exam_checks; print(sorted(n for n in vars(exam_checks) if n.startswith('check_')))"
    command = [sys.executable, "-W", "error", "-c", code]
    ran = subprocess.run(command, cwd=exams / "7", capture_output=True, text=True, check=True)
    assert all(f"check_{name}" in ran.stdout for name in _answers(exams / "7"))
