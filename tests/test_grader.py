"""The parts of the grader: reading what was handed in, and the boundary that calls cross."""

import importlib
import tempfile
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from first_set import EXERCISES, FIRST, MAX, RIGHT, SECOND, STEM, WRONG
from submissions import (
    ROOT,
    code_cell,
    grader,
    learners_copy,
    submission,
    values,
    wire,
    with_answers,
    write,
)

from hesslab.operators import as_operator

judge, workers = importlib.import_module("judge"), importlib.import_module("workers")


# --- reading a submission ---------------------------------------------------------------------------------


def test_the_set_is_read_from_the_name_or_the_folder():
    number = submission.number_of
    assert number(Path(f"/x/{STEM}.ipynb"), {}, "09") == "01"
    assert number(Path("/x/03_slug/ada.ipynb"), {}, "09") == "03"
    assert number(Path("/x/ada.ipynb"), {"hesslab": {"set": "04_slug"}}, "09") == "04"
    assert number(Path("/x/ada.ipynb"), {"hesslab": ["04"]}, "09") == "09"


@pytest.mark.parametrize(
    ("source", "plain"),
    [
        ("x = 1", "x = 1"),
        ("a = (7\n % 2)", "a = (7\n % 2)"),
        ("%matplotlib inline\nx = 1", "pass\nx = 1"),
        ("if True:\n    !ls\n    x = 1", "if True:\n    pass\n    x = 1"),
        ("%%time\nx = 1", "pass\nx = 1"),
        ("%%bash\nrm -r x", ""),
        ("np.dot?", "pass"),
        ("broken (", "broken ("),
    ],
)
def test_lines_for_ipython_are_left_out(source, plain):
    notes = []
    assert submission.plain_python(source, 0, notes) == plain
    assert bool(notes) == (source != plain)


def test_an_exercise_is_judged_where_its_graded_cell_stands():
    """As in nbgrader: what a later cell makes of the name is too late, and does no harm."""
    notebook = with_answers(learners_copy(STEM), RIGHT)
    notebook["cells"].append(code_cell(f"{FIRST} = {SECOND} = None"))
    (result,) = _graded(notebook)
    assert result["points"] == MAX


def test_an_answer_that_is_gone_is_not_attempted():
    notebook = with_answers(learners_copy(STEM), {**RIGHT, FIRST: "x = 1"})
    (result,) = _graded(notebook)
    assert result["points"] == MAX - EXERCISES[0].points
    outcome = result["exercises"][0]
    assert (outcome["attempted"], outcome["diagnosis"]) == (False, "not-defined")
    assert f"There is no function {FIRST} in the notebook" in outcome["feedback"]


def test_locked_cells_are_put_back():
    notebook = with_answers(learners_copy(STEM), RIGHT)
    setup = next(c for c in notebook["cells"] if "".join(c["source"]).startswith("import numpy"))
    assert setup["metadata"]["nbgrader"]["locked"]
    setup["source"] = ["np = None"]
    (result,) = _graded(notebook)
    assert result["points"] == MAX


def _graded(*notebooks, **settings):
    with tempfile.TemporaryDirectory() as folder:
        files = [write(n, Path(folder) / f"{i}.ipynb") for i, n in enumerate(notebooks)]
        return grader.grade(files, grader.Settings(**settings))


def test_the_same_seed_gives_the_same_result():
    wrong = with_answers(learners_copy(STEM), {FIRST: WRONG[FIRST].code})
    results = [_graded(wrong, seed=seed)[0]["exercises"][0]["feedback"] for seed in (1, 1, 2)]
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_where_nothing_forks_each_worker_starts_anew(tmp_path, monkeypatch):
    """The way of Windows, taken here: the same points, and a limit of time."""
    monkeypatch.setattr(workers, "FORKS", False)
    loop = {**RIGHT, FIRST: f"def {FIRST}(*args):\n    while True:\n        pass\n"}
    desk = judge.Desk(ROOT, workers.Limits(seconds=5, memory=2**31, seed=1))
    files = [
        write(with_answers(learners_copy(STEM), a), tmp_path / f"{len(a[FIRST])}.ipynb")
        for a in (RIGHT, loop)
    ]
    right, stopped = [judge.grade(desk, path, "01") for path in files]
    assert right["points"] == MAX
    assert stopped["points"] == MAX - EXERCISES[0].points
    assert "longer than 5 s" in stopped["exercises"][0]["feedback"]
    assert not right["walls"]


# --- the boundary -----------------------------------------------------------------------------------------


def _joined(answer_here, answer_there):
    """Two ends in one process: what one sends, the other reads at once."""
    ends, boxes = {}, {"judge": bytearray(), "learner": bytearray()}

    def receive(name, size):
        other = "learner" if name == "judge" else "judge"
        if len(boxes[name]) < size:
            ends[other]._reply(ends[other]._get()[1])
        data = bytes(boxes[name][:size])
        del boxes[name][:size]
        return data

    for name, other, answer in (("judge", "learner", answer_here), ("learner", "judge", answer_there)):
        ends[name] = wire.Peer(
            partial(receive, name), boxes[other].extend, answer, trusting=name == "learner"
        )
    return ends["judge"]


def _echo():
    def there(operation, *operands):
        return operands[0] if operation == "echo" else wire.operate(None, operation, *operands)

    return _joined(lambda *question: None, there)


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 3, -2.5, "θ", 1 + 2j, 10**40, float("inf"), [1, [2]], (1, "a"), {"a": (1,), 2: None}),
        *(
            np.float32(2.5),
            np.arange(6).reshape(2, 3)[:, ::2],
            np.zeros((0, 3)),
            np.array(4.0),
            np.array([True]),
        ),
        *(np.arange(3, dtype=np.float16), np.array([1j])),
    ],
)
def test_values_cross_as_they_are(value):
    back = _echo().ask("echo", value)
    assert type(back) is type(value)
    if isinstance(value, np.ndarray | np.generic):
        assert back.dtype == value.dtype
        np.testing.assert_array_equal(back, value)
    else:
        assert back == value


def test_tensors_ranges_fractions_and_results_cross_as_their_plain_kin():
    echo = _echo()
    assert torch.equal(echo.ask("echo", torch.ones(2)), torch.ones(2))
    assert echo.ask("echo", range(3)) == [0, 1, 2]
    assert _encoded(Fraction(1, 2)) == 0.5
    assert _encoded(as_operator(np.eye(2)))["t"] == "mine"


def _encoded(value):
    return values.encode(value, [], SimpleNamespace(trusting=True, give=id))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "a value of type object does not cross to the grader"),
        (np.array([object()]), "an array of dtype object does not cross"),
        ((i for i in ()), "a value of type generator does not cross"),
    ],
)
def test_what_cannot_cross_is_named(value, words):
    with pytest.raises(TypeError, match=words):
        _encoded(value)


@pytest.mark.parametrize(
    "data",
    [
        {"t": "pickle", "v": "gASVIQAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAR0cnVllIWUUpQu"},
        {"t": "module", "name": "os"},
        {"t": "array", "dtype": "object", "shape": [1], "at": [0, 8]},
        {"t": "array", "dtype": "float64", "shape": [-1], "at": [0, 8]},
        {"t": "array", "dtype": "float64", "shape": [9], "at": [0, 8]},
        {"t": "yours", "id": 7},
        {"t": "nonsense"},
        {},
        [1],
    ],
)
def test_the_judge_takes_nothing_malformed(data):
    judge = wire.Peer(None, None, None, trusting=False)
    with pytest.raises((TypeError, KeyError, ValueError)):
        values.decode(data, memoryview(bytes(8)), judge)


def test_only_what_was_given_answers_and_tells_nothing_private():
    judge = wire.Peer(None, None, None, trusting=False)
    secret = partial(pow, 3)
    judge.give(secret)
    assert wire.operate(judge, "call", secret, (2,), {}) == 9
    for operation, thing, *rest in [
        ("call", print, (), {}),
        ("attribute", "text", "format"),
        ("attribute", secret, "args"),
        ("attribute", secret, "func"),
        ("attribute", secret, "__class__"),
        ("delete", secret),
    ]:
        with pytest.raises((AttributeError, PermissionError)):
            wire.operate(judge, operation, thing, *rest)


def test_errors_cross_by_name_and_an_exit_is_only_an_error():
    def there(operation, kind):
        raise kind("why")

    judge = _joined(None, there)
    for kind, base in [
        *(
            (NotImplementedError, NotImplementedError),
            (SystemExit, RuntimeError),
            (KeyboardInterrupt, RuntimeError),
        ),
        *((np.linalg.LinAlgError, np.linalg.LinAlgError), (ZeroDivisionError, ArithmeticError)),
    ]:
        with pytest.raises(base, match="why") as caught:
            judge.ask("raise", kind)
        assert type(caught.value).__name__ == kind.__name__


def test_a_message_that_is_too_large_is_not_read():
    header = wire.HEADER.pack(10, wire.LARGEST)
    judge_end = wire.Peer(lambda size: header, lambda data: None, None, trusting=False)
    for _ in range(2):  # once lost, always lost
        with pytest.raises(wire.Lost, match="too large"):
            judge_end.ask("answer", "f", (), {})
