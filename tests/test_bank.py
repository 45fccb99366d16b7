"""Every bank of answers: right ones pass, wrong ones fail with their own diagnosis and lose their own points.

A new set of exercises comes under these tests by its file `tests/bank/NN_slug.toml` alone.
"""

import contextlib
import functools
import importlib
import io
import itertools
from collections import Counter, defaultdict

import pytest
from submissions import (
    BANKS,
    ROOT,
    answers_of,
    bank,
    exercises_of,
    grader,
    learners_copy,
    solution,
    submission,
    with_answers,
    write,
)

STEMS = [path.stem for path in BANKS]
ANSWERS = [pytest.param(p.stem, a, id=f"{p.stem[:2]}-{a}") for p in BANKS for a in bank(p)]


@pytest.fixture(scope="module")
def namespaces():
    """For each set, the names that its own cells and its right answers define."""
    spaces = {}
    for stem in STEMS:
        names = {"__name__": f"answers_{stem}"}
        with contextlib.redirect_stdout(io.StringIO()):
            for source in (
                *submission.read_assignment(ROOT, stem[:2]).locked.values(),
                *answers_of(stem).values(),
            ):
                exec(source, names)
        spaces[stem] = names
    return spaces


@pytest.fixture(scope="module")
def graded(tmp_path_factory, pytestconfig):
    """The results of a set: solution, blank, the k-th answers of all exercises, each answer alone."""
    alone = pytestconfig.getoption("--bank") == "all"
    paths = {path.stem: path for path in BANKS}
    return functools.cache(lambda stem: _graded(paths[stem], tmp_path_factory.mktemp(stem), alone))


def _graded(path, folder, alone):
    stem, right = path.stem, answers_of(path.stem)
    submissions = {"solution": solution(stem), "blank": learners_copy(stem)}
    for answer in bank(path) if alone else ():
        mixed = {**right, answer.exercise: answer.code}
        submissions[str(answer)] = with_answers(learners_copy(stem), mixed)
    for kind in ("right", "wrong"):
        for rank, chosen in enumerate(_ranked(path, kind), start=1):
            codes = {answer.exercise: answer.code for answer in chosen}
            submissions[f"{kind} {rank}"] = with_answers(learners_copy(stem), {**right, **codes})
    names = list(submissions)
    files = [write(submissions[name], folder / f"{i:03d}.ipynb") for i, name in enumerate(names)]
    results = grader.grade(files, grader.Settings(default_set=stem[:2], seed=1, seconds=20))
    return dict(zip(names, results, strict=True))


def _ranked(path, kind):
    """The first answer of a kind of each exercise, then the second of each, and so on."""
    answers = defaultdict(list)
    for answer in bank(path):
        if answer.kind == kind:
            answers[answer.exercise].append(answer)
    for chosen in itertools.zip_longest(*answers.values()):
        yield [answer for answer in chosen if answer is not None]


def _outcome(result, exercise):
    return next(e for e in result["exercises"] if e["name"] == exercise)


@pytest.mark.parametrize("path", BANKS, ids=STEMS)
def test_a_bank_is_complete(path):
    answers = bank(path)
    names = {exercise.name for exercise in exercises_of(path.stem)}
    assert {answer.exercise for answer in answers} == names
    assert max(Counter(map(str, answers)).values()) == 1
    assert all((a.kind == "wrong") == bool(a.diagnosis) for a in answers)
    for name in names:
        wrong = [a.diagnosis for a in answers if a.exercise == name and a.kind == "wrong"]
        assert len(set(wrong)) >= 3, (
            f"{name} has the wrong answers {wrong}; at least three diagnoses are asked for"
        )
        assert any(a.exercise == name and a.kind == "right" for a in answers)


def test_every_set_of_exercises_has_a_bank():
    sets = {path.stem for path in (ROOT / "solutions").glob("[0-9][0-9]_*.ipynb")}
    assert sets == set(STEMS)
    assert sets, "no exercise set is built: run python3 lab.py build"


@pytest.mark.parametrize(("stem", "answer"), ANSWERS)
@pytest.mark.parametrize("seed", [0, 20261124])
def test_the_check_knows_the_answer(stem, answer, seed, namespaces, capsys):
    names = dict(namespaces[stem])
    exec(answer.code, names)
    exercise = next(e for e in exercises_of(stem) if e.name == answer.exercise)
    check = getattr(importlib.import_module(exercise.module), exercise.check)
    feedback = check(names[answer.exercise], rng=seed)
    assert feedback.passed == (answer.kind == "right"), feedback.text
    assert feedback.diagnosis == answer.diagnosis, feedback.text
    assert feedback.attempted
    assert feedback.text in capsys.readouterr().out


@pytest.mark.parametrize("stem", STEMS)
def test_the_solution_gets_full_marks(stem, graded):
    result = graded(stem)["solution"]
    assert result["points"] == result["max_points"] > 0
    assert result["notes"] == []


@pytest.mark.parametrize("stem", STEMS)
def test_the_blank_gets_nothing_and_runs_to_the_end(stem, graded):
    result = graded(stem)["blank"]
    assert result["points"] == 0
    assert result["notes"] == []
    assert {e["diagnosis"] for e in result["exercises"]} == {"not-attempted"}
    assert all("not attempted" in e["feedback"] for e in result["exercises"])


@pytest.mark.parametrize(("stem", "answer"), ANSWERS)
def test_an_answer_alone_moves_only_its_own_points(stem, answer, graded, pytestconfig):
    if pytestconfig.getoption("--bank") != "all":
        pytest.skip("each answer alone: --bank=all")
    result = graded(stem)[str(answer)]
    lost = 0 if answer.kind == "right" else _outcome(result, answer.exercise)["max_points"]
    assert result["points"] == result["max_points"] - lost, result["exercises"]
    assert _outcome(result, answer.exercise)["diagnosis"] == answer.diagnosis
    assert all(e["passed"] for e in result["exercises"] if e["name"] != answer.exercise)


@pytest.mark.parametrize("path", BANKS, ids=STEMS)
@pytest.mark.parametrize("kind", ["right", "wrong"])
def test_answers_of_a_rank_together(path, kind, graded):
    for rank, chosen in enumerate(_ranked(path, kind), start=1):
        result = graded(path.stem)[f"{kind} {rank}"]
        for answer in chosen:
            outcome = _outcome(result, answer.exercise)
            assert (outcome["diagnosis"], outcome["passed"]) == (answer.diagnosis, kind == "right"), outcome
        lost = sum(_outcome(result, a.exercise)["max_points"] for a in chosen) if kind == "wrong" else 0
        assert result["points"] == result["max_points"] - lost
