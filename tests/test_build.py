"""The factory on a tiny course of its own: what it builds, what it leaves alone, how it stops."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from tiny_course import BUILT, EXERCISE_FILE, LESSON_FILE, built, edit, fresh, notebook, printed, refuse

from authoring import build, execute

ROOT = Path(__file__).resolve().parents[1]
# A process started in the background ignores Ctrl-C until it says otherwise.
RUN = (
    "import signal, sys; from pathlib import Path; from authoring import build; "
    "signal.signal(signal.SIGINT, signal.default_int_handler); "
    "sys.exit(build.main(sys.argv[2:], Path(sys.argv[1])))"
)


@pytest.fixture
def course(tmp_path):
    return fresh(tmp_path)


@pytest.fixture
def still(monkeypatch):
    """Executing anything fails the test."""
    monkeypatch.setattr(build, "execute", refuse)


# ---- what is built -----------------------------------------------------------------------------------


def test_lesson_is_executed_and_canonical(course):
    lesson = notebook(course, BUILT[0])
    nbformat.validate(lesson)
    code = [cell for cell in lesson.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3]
    assert printed(code[0]).startswith("4.0\nand\n")
    assert len(code[0].outputs) == 1
    assert "image/png" in code[2].outputs[-1]["data"]
    assert set(lesson.metadata) == {"kernelspec", "language_info", "hesslab"}
    assert lesson.metadata.kernelspec.name == "python3"
    assert len({cell.id for cell in lesson.cells}) == len(lesson.cells)
    assert not [cell for cell in lesson.cells if set(cell.metadata) - {"tags"}]


def test_cells_tagged_no_store_keep_their_count_and_lose_their_output(course):
    code = [cell for cell in notebook(course, BUILT[0]).cells if cell.cell_type == "code"]
    assert (code[1].execution_count, code[1].outputs) == (2, [])


def test_placeholders_become_what_the_manifest_says(course):
    text = "\n".join(cell.source for cell in notebook(course, BUILT[0]).cells)
    for part in ("# 01 · Tiny", "You add two numbers.", "- Add two numbers.", "00 · Start", "reading 1 min"):
        assert part in text
    assert "> **Claim 1.1.** The note: “two and two are five”" in text
    assert "> **Verdict:** wrong. **Sources:** euclid." in text
    assert "{{" not in text
    exercises = "\n".join(cell.source for cell in notebook(course, BUILT[2]).cells)
    assert (
        "## Exercise 1 · A sum\n\n`add` · free · difficulty 1 of 5 · importance 2 of 5 · 5 minutes · 3 points"
        in exercises
    )


def test_solutions_are_in_the_form_of_nbgrader(course):
    cells = {
        c.metadata.nbgrader.grade_id: c for c in notebook(course, BUILT[1]).cells if "nbgrader" in c.metadata
    }
    answer, graded = cells["add"], cells["add-check"]
    assert answer.metadata.nbgrader.solution
    assert not answer.metadata.nbgrader.locked
    assert (graded.metadata.nbgrader.grade, graded.metadata.nbgrader.locked) == (True, True)
    assert (graded.metadata.nbgrader.points, graded.metadata.nbgrader.schema_version) == (3, 3)
    visible, hidden = graded.source.split("### BEGIN HIDDEN TESTS\n")
    assert visible == "check_add(add)\n"
    assert hidden == (
        "from hesslab.checks.lesson_01 import check_add\nassert check_add(add, rng=4246369255).passed\n"
        "### END HIDDEN TESTS"
    )
    assert printed(graded) == "add: passed.\n" * 2


def test_exercises_keep_signature_and_docstring_and_nothing_of_the_answer(course):
    exercises = notebook(course, BUILT[2])
    stub = next(cell for cell in exercises.cells if cell.id == "add")
    assert stub.source == (
        'def add(a, b):\n    """The sum of a and b."""\n'
        '    raise NotImplementedError("not attempted: replace this line by your answer")'
    )
    graded = next(cell for cell in exercises.cells if cell.id == "add-check")
    assert graded.source == "check_add(add)"
    assert graded.metadata.editable is False
    assert "HIDDEN" not in json.dumps(exercises)
    assert not [cell for cell in exercises.cells if cell.get("outputs")]
    assert [c.id for c in exercises.cells] == [c.id for c in notebook(course, BUILT[1]).cells]


def test_a_second_build_executes_and_changes_nothing(course, still):
    before = {name: (course / name).stat().st_mtime_ns for name in BUILT}
    assert build.build(course) == 0
    assert {name: (course / name).stat().st_mtime_ns for name in BUILT} == before
    assert {name: (course / name).read_bytes() for name in BUILT} == built()


def test_executing_again_gives_the_same_bytes(course):
    assert build.build(course, force=True) == 0
    assert {name: (course / name).read_bytes() for name in BUILT} == built()


def test_prose_is_rebuilt_without_executing(course, still):
    edit(course, "course.yml", "You add two numbers.", "You add.")
    assert build.build(course) == 0
    assert "You add." in notebook(course, BUILT[0]).cells[0].source
    assert printed(notebook(course, BUILT[0]).cells[1]).startswith("4.0\n")


def test_a_change_in_the_library_executes_what_imports_it(course, capsys):
    edit(course, "hesslab/other.py", "1", "2")
    assert build.build(course) == 0
    assert printed(notebook(course, BUILT[0]).cells[1]).startswith("8.0\n")
    out = capsys.readouterr().out
    assert re.search(r"lessons/01_tiny.ipynb +executed in \d+ s\n", out)
    assert re.search(r"solutions/01_tiny.ipynb +kept its outputs, unchanged\n", out)


def test_only_the_named_lessons_are_built(course):
    assert build.sources(course, ("00",)) == []
    assert [path.parent.name for path in build.sources(course, ("01",))] == ["lessons", "exercises"]


# ---- the check ---------------------------------------------------------------------------------------


def test_check_is_silent_when_all_is_in_step(course, still):
    assert build.check(course) == []


def lose(course):
    (course / BUILT[2]).unlink()


def stray(course):
    (course / "lessons/99_old.ipynb").write_bytes((course / BUILT[0]).read_bytes())


OUT_OF_STEP = {
    "edited prose": (lambda c: edit(c, BUILT[0], "You add", "I add"), "lessons/01_tiny.ipynb is not what"),
    "edited stub": (lambda c: edit(c, BUILT[2], "The sum", "A sum"), "exercises/01_tiny.ipynb is not what"),
    "edited code": (
        lambda c: edit(c, BUILT[1], "a + b", "b + a"),
        "solutions/01_tiny.ipynb must be executed",
    ),
    "edited source": (lambda c: edit(c, LESSON_FILE, ":.1f", ":.2f"), "again, since its code has changed"),
    "edited source of prose": (
        lambda c: edit(c, LESSON_FILE, "# {{claim 1.1}}", "# {{claim 1.1}}\n#\n# Indeed."),
        "was edited by hand, or not rebuilt",
    ),
    "edited tags": (
        lambda c: edit(c, LESSON_FILE, ', "no-store"', ""),
        "again, since its code has changed",
    ),
    "library": (
        lambda c: edit(c, "hesslab/other.py", "1", "2"),
        "the part of hesslab that it imports has changed",
    ),
    "no notebook": (lambda c: (c / BUILT[0]).write_text("{"), "is missing or is not a notebook"),
    "missing": (lose, "exercises/01_tiny.ipynb is missing"),
    "stray": (stray, "lessons/99_old.ipynb has no source in authoring; remove it"),
    "leak": (
        lambda c: edit(
            c, EXERCISE_FILE, "# {{exercise add}}\n", "# {{exercise add}}\n# total_of_both = a+b\n"
        ),
        "exercises/01_tiny.ipynb would publish this line of an answer: total_of_both = a + b",
    ),
    "near miss": (
        lambda c: edit(c, EXERCISE_FILE, "### BEGIN SOLUTION", "# BEGIN SOLUTION"),
        "authoring/exercises/01_tiny.py, line 15: '# BEGIN SOLUTION' looks like a marker",
    ),
}


@pytest.mark.parametrize("name", OUT_OF_STEP)
def test_check_sees(name, course, still):
    change, sentence = OUT_OF_STEP[name]
    change(course)
    problems = build.check(course)
    assert any(sentence in problem for problem in problems), problems
    assert len(problems) == 1


def test_check_does_not_mind_what_a_notebook_does_not_import(course):
    edit(course, "hesslab/unused.py", "3", "4")
    assert build.check(course) == []


def test_line_endings_do_not_matter(course):
    path = course / "hesslab/other.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert build.check(course) == []


# ---- failing and stopping ----------------------------------------------------------------------------


def test_a_failing_cell_is_told_and_nothing_is_written(course, capsys):
    edit(course, LESSON_FILE, 'print("and", flush=True)', "1 / 0")
    assert build.main([], course) == 1
    told = capsys.readouterr().err
    assert told.startswith("lessons/01_tiny.ipynb, cell 2 failed:\n    import sys\n")
    assert "    1 / 0\n" in told
    assert (
        told.endswith("ZeroDivisionError: division by zero\n\n")
        or "ZeroDivisionError: division by zero" in told
    )
    assert {name: (course / name).read_bytes() for name in BUILT} == built()


def test_a_kernel_that_dies_is_told(course, capsys):
    edit(course, LESSON_FILE, 'print("and", flush=True)', "import os\nos._exit(1)")
    assert build.main([], course) == 1
    assert "cell 2 failed" in (told := capsys.readouterr().err)
    assert "the kernel died" in told
    assert (course / BUILT[0]).read_bytes() == built()[BUILT[0]]


def test_a_cell_that_takes_too_long_is_told(course, capsys, monkeypatch):
    monkeypatch.setattr(execute, "CELL_TIMEOUT", 1)
    edit(course, LESSON_FILE, 'print("and", flush=True)', "import time\ntime.sleep(60)")
    assert build.main([], course) == 1
    assert "it ran longer than 1 s" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent as a signal")
def test_ctrl_c_leaves_the_old_files(course):
    edit(
        course,
        LESSON_FILE,
        'print("and", flush=True)',
        'open("begun", "w").close()\nimport time\ntime.sleep(60)',
    )
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(course)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    while not (course / "lessons/begun").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Stopped; the notebook that was being executed is as it was before." in told
    assert {name: (course / name).read_bytes() for name in BUILT} == built()
    assert sorted(p.name for p in (course / "lessons").iterdir()) == ["01_tiny.ipynb", "begun"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.ipynb"
    path.write_text("old")

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        build.write(path, "new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.ipynb", "old")]


def test_the_kernel_is_this_interpreter_whatever_the_user_has(course, monkeypatch, tmp_path_factory):
    """A kernelspec python3 of the user that would fail, and start-up files, are not used."""
    home = tmp_path_factory.mktemp("home")
    spec = home / "kernels/python3/kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["false"], "display_name": "wrong", "language": "python"}))
    startup = home / "profile_default/startup/00.py"
    startup.parent.mkdir(parents=True)
    startup.write_text(f"open({str(home / 'started')!r}, 'w').close()\n")
    monkeypatch.setenv("JUPYTER_PATH", str(home))
    monkeypatch.setenv("IPYTHONDIR", str(home))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    threads = 'print(sys.executable, os.environ["OMP_NUM_THREADS"])'
    edit(course, LESSON_FILE, "print(sys.stdin is None)", threads)
    edit(course, LESSON_FILE, 'print("and", flush=True)', "print(os.getcwd())")
    edit(course, LESSON_FILE, "import sys\n", "import os\nimport sys\n")
    assert build.build(course) == 0
    text = printed(notebook(course, BUILT[0]).cells[1])
    assert text == f"4.0\n{course / 'lessons'}\n{sys.executable} 1\n"
    assert not (home / "started").exists()


def test_command_line(course, capsys):
    assert build.main(["--check"], course) == 0
    (course / BUILT[0]).unlink()
    assert build.main(["--check"], course) == 1
    assert capsys.readouterr() == (
        "",
        "lessons/01_tiny.ipynb is missing or is not a notebook; run python authoring/build.py 01\n",
    )
    edit(course, "course.yml", "verdict: wrong", "verdict: bad")
    for arguments in (["--check"], []):
        assert build.main(arguments, course) == 1
        assert re.fullmatch("course.yml, claim .*: verdict is 'bad'.*\n", capsys.readouterr().err)


@pytest.mark.parametrize("word", ["--chekc", "02", "lessons"])
def test_command_line_refuses_what_it_does_not_know(course, capsys, word):
    assert build.main([word], course) == 2
    told = f"{word} is no option and no lesson with a source; try --check, --force, or NN\n"
    assert capsys.readouterr().err == told


def test_the_script_finds_its_modules_from_anywhere(tmp_path):
    command = [sys.executable, str(ROOT / "authoring/build.py"), "--chekc"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[:8]) == (2, "--chekc ")


# ---- nbval accepts what is built ---------------------------------------------------------------------


def test_strict_nbval_passes_and_sees_a_changed_output(course):
    def nbval():
        command = [sys.executable, "-m", "pytest", "-q", "-W", "ignore", "--nbval", "--nbval-current-env"]
        files = [str(course / BUILT[0]), str(course / BUILT[1])]
        settings = {**os.environ, "PYTHONPATH": str(course), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [*command, "--nbval-cell-timeout=120", "-p", "no:cacheprovider", *files],
            cwd=course, env=settings, capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert (passed := nbval()).returncode == 0, passed.stdout
    assert "6 passed" in passed.stdout
    edit(course, BUILT[0], '"4.0\\n"', '"4.1\\n"')
    assert nbval().returncode == 1
