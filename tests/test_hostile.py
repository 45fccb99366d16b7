"""Submissions that want more than they deserve: no undeserved point, no hang, no leak, others graded."""

import importlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from first_set import EXERCISES, FIRST, MAX, NAMES, RIGHT, SECOND, STEM, STUB, without_first
from submissions import (
    ROOT,
    cell_of,
    code_cell,
    grade_id,
    grader,
    learners_copy,
    report,
    submission,
    with_answers,
    write,
)


def _overwritten():
    notebook = without_first()
    for cell in notebook["cells"]:
        if grade_id(cell).endswith("-check"):
            cell["source"] = ["pass"]
    return notebook


def _deleted():
    notebook = without_first()
    notebook["cells"] = [c for c in notebook["cells"] if not grade_id(c).endswith("-check")]
    return notebook


def _forged():
    notebook = without_first()
    for cell in notebook["cells"]:
        if "nbgrader" in cell["metadata"]:
            cell["metadata"]["nbgrader"].update(points=100, grade=True, solution=True, locked=False)
    notebook["cells"].append(code_cell("pass", grade_id="extra-check", grade=True, points=50, locked=True))
    notebook["metadata"]["hesslab"] = {"set": ["01"], "points": 1000}
    notebook["cells"][0]["metadata"] = None
    return notebook


def _duplicated():
    notebook = without_first()
    cells = [*notebook["cells"], cell_of(notebook, f"{SECOND}-check"), cell_of(notebook, SECOND)]
    notebook["cells"] = [*cells, *(cell_of(notebook, f"{name}-check") for name in NAMES)]
    return notebook


def _with_cell(source, code=STUB):
    notebook = without_first(code)
    notebook["cells"].insert(0, code_cell(source))
    return notebook


MONKEYPATCHED = f"""
import hesslab.checks.laws.feedback as feedback
import {EXERCISES[0].module} as checks
feedback.Feedback.passed = property(lambda self: True)
feedback.differs = checks.differs = lambda *args, **kwargs: None
checks.check_{FIRST} = check_{FIRST} = lambda f, rng=0: feedback.Feedback("x", True, True, "", "passed")
"""
REDEFINED = f"""
class Passed:
    passed = attempted = True
def check_{FIRST}(f, *, rng=0):
    return Passed()
"""
READS_SOLUTION = f"""
def {FIRST}(*args):
    import json, pathlib, hesslab
    places = [pathlib.Path(hesslab.__file__).parents[1], pathlib.Path.cwd(), *pathlib.Path.cwd().parents]
    for place in places:
        for path in (place / "solutions" / "{STEM}.ipynb", place / "authoring" / "exercises" / "{STEM}.py"):
            try:
                text = path.read_text()
            except OSError:
                continue
            for cell in json.loads(text)["cells"]:
                if cell["metadata"].get("nbgrader", {{}}).get("grade_id") == "{FIRST}":
                    names = dict(globals())
                    exec("".join(cell["source"]), names)
                    return names["{FIRST}"](*args)
    raise FileNotFoundError("no solution in sight")
"""
READS_NATIVELY = (
    f"import ctypes\nctypes.CDLL(None).system(b'cp -r {ROOT}/solutions mine')\n"
    + READS_SOLUTION.replace('"solutions" /', '"mine" /')
)
READS_NEIGHBOUR = READS_SOLUTION.replace('"solutions" /', '"{folder}" /').replace(
    f"{STEM}.ipynb", "right.ipynb"
)
WRITES = """
import os, pathlib
for place in ({outside!r}, {home!r}, {root!r}):
    try:
        (pathlib.Path(place) / "planted-by-a-submission").write_text("x")
    except OSError:
        pass
    try:
        import ctypes
        ctypes.CDLL(None).creat(os.fsencode(place) + b"/planted-by-a-submission", 0o644)
    except Exception:
        pass
"""
EVIL_OBJECT = f"""
import numpy as np
class Evil(np.ndarray):
    __eq__ = __le__ = __lt__ = __ge__ = lambda self, other: True
    __ne__ = __gt__ = lambda self, other: False
    __sub__ = __rsub__ = __mul__ = lambda self, other: np.zeros(1).view(Evil)
class Eviler:
    shape, dtype = (2, 2), np.dtype(float)
    __eq__ = lambda self, other: True
    __hash__ = None
    __array__ = lambda self, dtype=None, copy=None: np.zeros((2, 2))
    __float__ = lambda self: 0.0
    __array_ufunc__ = lambda self, *args, **kwargs: True
    __matmul__ = __rmatmul__ = lambda self, other: self
    detach = cpu = numpy = lambda self: self
def {FIRST}(*args):
    return {{thing}}
"""
FORGES_MESSAGES = f"""
import os, struct, json
def {FIRST}(*args):
    code = "gASVIQAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAR0cnVllIWUUpQu"
    head = json.dumps(["value", {{"t": "pickle", "v": code}}]).encode()
    os.write(3, struct.pack(">II", len(head), 0) + head)
"""
STAYS = """
import ctypes, time
libc = ctypes.CDLL(None)
if libc.fork() == 0:
    libc.setsid()
    libc.prctl(1, 0, 0, 0, 0)
    libc.prctl(15, b"stays-behind", 0, 0, 0)
    while True:
        time.sleep(0.1)
"""
SAYS_ENVIRONMENT = f"""
import os
def {FIRST}(*args):
    raise ValueError("the secret is " + str(os.environ.get("A_SECRET_OF_THE_TEACHER")))
"""


def _remembers():
    """An answer that has kept what is right for the visible check, and knows nothing else."""
    names, kept = {}, []
    for source in (*submission.read_assignment(ROOT, STEM[:2]).locked.values(), RIGHT[FIRST]):
        exec(source, names)

    def spy(*args):
        kept.append(
            (
                [(None if callable(a) else np.asarray(a).tolist()) for a in args],
                np.asarray(names[FIRST](*args)).tolist(),
            )
        )
        return names[FIRST](*args)

    check = getattr(importlib.import_module(EXERCISES[0].module), f"check_{FIRST}")
    assert check(spy, rng=0).passed
    return f"""
import numpy as np
KEPT = {kept!r}
def {FIRST}(*args):
    key = [None if callable(a) else np.asarray(a).tolist() for a in args]
    return next((np.array(v) for k, v in KEPT if k == key), 0.0)
"""


def _hostile(folder):
    outside = folder / "outside"
    outside.mkdir()
    loop, bomb = "while True:\n    pass\n", "held = []\nwhile True:\n    held.append(bytearray(2**26))\n"
    inside = "def {name}(*args):\n    {code}\n"

    def first(code):
        return without_first(inside.format(name=FIRST, code=code.replace("\n", "\n    ")))

    wall = json.dumps(["x" * 1000] * 10)
    return {
        "tests overwritten": _overwritten(),
        "tests deleted": _deleted(),
        "metadata and points forged": _forged(),
        "cells duplicated": _duplicated(),
        "check redefined": _with_cell(REDEFINED),
        "checks monkeypatched": _with_cell(MONKEYPATCHED, MONKEYPATCHED + STUB),
        "builtins replaced": _with_cell(
            "import builtins, numpy\nbuiltins.abs = builtins.float = numpy.abs = lambda *a: 0\n"
        ),
        "endless loop in an answer": first(loop),
        "endless loop in a cell": _with_cell(loop),
        "interrupts swallowed": first(
            "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
        ),
        "memory bomb in an answer": first(bomb),
        "memory bomb in a cell": _with_cell(bomb),
        "os._exit in an answer": first("import os\nos._exit(0)"),
        "os._exit in a cell": _with_cell("import os\nos._exit(0)"),
        "sys.exit in an answer": first("raise SystemExit(0)"),
        "stack overflow": first(f"return {FIRST}(*args)"),
        "crash": first("import ctypes\nctypes.string_at(0)"),
        "huge output": _with_cell(f"for _ in range(20000):\n    print({wall!r})\n"),
        "huge answer": first("import numpy as np\nreturn np.zeros(2**24)"),
        "endless answer": first("a = []\na.append(a)\nreturn a"),
        "processes": _with_cell("import os\nwhile True:\n    os.fork()\n"),
        "a process stays behind": _with_cell(STAYS),
        "kills the grader": _with_cell("import os, signal\nos.kill(os.getppid(), 9)\nos.kill(-1, 9)"),
        "writes outside": _with_cell(
            WRITES.format(outside=str(outside), home=str(Path.home()), root=str(ROOT / "solutions"))
        ),
        "reads the solution": without_first(READS_SOLUTION),
        "reads the solution natively": without_first(READS_NATIVELY),
        "reads a neighbour": without_first(READS_NEIGHBOUR.replace("{folder}", str(folder))),
        "reads the environment": without_first(SAYS_ENVIRONMENT),
        "evil array": without_first(EVIL_OBJECT.format(thing="np.zeros((2, 2)).view(Evil)")),
        "evil object": without_first(EVIL_OBJECT.format(thing="Eviler()")),
        "forged messages": without_first(FORGES_MESSAGES),
        "remembered answers": without_first(_remembers()),
        "terminal codes": first('raise ValueError("\\x1b[2J\\x1b[1;1H passed")'),
        "not JSON": "this is no notebook",
        "no cells": '{"metadata": {}}',
        "cells of nonsense": '{"cells": [1, null, "x"]}',
        "deep JSON": "[" * 100_000,
        "empty": "",
    }


PLANTED = "planted-by-a-submission"
NOT_NOTEBOOKS = ("not JSON", "no cells", "cells of nonsense", "deep JSON", "empty")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """The hostile submissions graded in one run, right ones among them, and what was found afterwards."""
    folder = tmp_path_factory.mktemp("hostile")
    submissions = _hostile(folder)
    right = with_answers(learners_copy(STEM), RIGHT)
    order = {"right": right, **submissions, "right at the end": right}
    files = [write(notebook, folder / f"{name}.ipynb") for name, notebook in order.items()]
    for place in _places(folder):
        (place / PLANTED).unlink(missing_ok=True)
    os.environ["A_SECRET_OF_THE_TEACHER"] = "hunter2"
    try:
        results = grader.grade(files, grader.Settings(seconds=4, megabytes=300, jobs=2))
    finally:
        del os.environ["A_SECRET_OF_THE_TEACHER"]
    return folder, dict(zip(order, results, strict=True))


def test_hostile_submissions_get_no_undeserved_point(hostile):
    _, results = hostile
    others = MAX - EXERCISES[0].points
    expected = {name: 0.0 if name in NOT_NOTEBOOKS else others for name in results}
    expected |= {"right": MAX, "right at the end": MAX}
    if not results["right"]["walls"]:  # what one account cannot stop; the grader says so
        del expected["reads the solution natively"], results["reads the solution natively"]
    points = {name: result["points"] for name, result in results.items()}
    assert points.pop("builtins replaced") <= expected.pop("builtins replaced")  # it harms its own answers
    assert points == expected


TOLD = """
tests deleted | -check is missing
cells duplicated | is there more than once
endless loop in an answer | longer than 4 s
endless loop in a cell | cell 1: it took longer than 4 s
interrupts swallowed | longer than 4 s
memory bomb in an answer | MemoryError
memory bomb in a cell | cell 1 raised MemoryError
os._exit in an answer | the process ended
os._exit in a cell | cell 1: the process ended
sys.exit in an answer | raised SystemExit
stack overflow | RecursionError
huge answer | at most 64 MB
endless answer | nested more than
crash | the process ended
processes | starts no processes
kills the grader | sends no signals
forged messages | not one
not JSON | it is not JSON
empty | it is not JSON
no cells | no list of cells
cells of nonsense | no list of cells
deep JSON | it is not JSON
remembered answers | FIRST: not yet
"""


def test_the_teacher_is_told_what_happened(hostile):
    _, results = hostile
    told = {
        name: " ".join([r.get("problem", ""), *r["notes"], *(e["feedback"] for e in r["exercises"])])
        for name, r in results.items()
    }
    for line in TOLD.replace("FIRST", FIRST).strip().splitlines():
        name, words = line.split(" | ")
        assert words in told[name], (name, told[name])


def test_the_limit_of_time_holds(hostile):
    _, results = hostile
    slow = {name: r["seconds"] for name, r in results.items() if r["seconds"] > 12}
    assert not slow, "the limit is 4 s for a step, and no submission has two that reach it"


def _places(folder):
    return (folder / "outside", Path.home(), ROOT / "solutions")


def test_hostile_submissions_leave_nothing_behind(hostile):
    folder, results = hostile
    if not results["right"]["walls"]:
        pytest.skip("this system gives no namespaces: native code can write; the grader says so")
    assert [place for place in _places(folder) if (place / PLANTED).exists()] == []
    names = [path.read_text().strip() for path in Path("/proc").glob("[0-9]*/comm") if path.exists()]
    assert "stays-behind" not in names


def test_hostile_submissions_tell_no_secrets(hostile):
    _, results = hostile
    told = " ".join(map(report.page, results.values()))
    assert "hunter2" not in told
    assert "\x1b" not in told
    assert "It raised ValueError: the secret is None" in report.page(results["reads the environment"])
