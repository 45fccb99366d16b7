"""Sources that cannot be built, lines that look like markers; stamps; the form of outputs."""

import dataclasses
import re
from pathlib import Path

import pytest
import specimen
from nbformat import v4
from tiny_course import BUILT, EXERCISE_FILE, LESSON_FILE, built, edit, fresh, refuse

from authoring import build, cards, execute, hashes, sources
from authoring.manifest import read


@pytest.fixture
def course(tmp_path):
    return fresh(tmp_path)


@pytest.fixture
def still(monkeypatch):
    """Executing anything fails the test."""
    monkeypatch.setattr(build, "execute", refuse)


MARKER = "    ### BEGIN SOLUTION\n"
REFUSED = {
    "unknown placeholder": (
        LESSON_FILE,
        "{{claim 1.1}}",
        "{{claim 1.2}}",
        "line 13: course.yml gives lesson 01 no",
    ),
    "unknown word": (LESSON_FILE, "{{claim 1.1}}", "{{figure}}", r"gives lesson 01 no \{\{figure\}\}"),
    "placeholder in a sentence": (
        LESSON_FILE,
        "{{claim 1.1}}",
        "See {{claim 1.1}}",
        "stands alone on its line",
    ),
    "a second title": (
        LESSON_FILE,
        "# {{header}}",
        "# # Tiny\n# {{header}}",
        "the title comes from course.yml",
    ),
    "a magic": (LESSON_FILE, "import sys\n", "%timeit 1\n", "line 5: not plain Python"),
    "an empty cell": (
        LESSON_FILE,
        "# %%\nimport sys",
        "# %%\n\n# %%\nimport sys",
        "it has an empty code cell",
    ),
    "unknown option": (
        LESSON_FILE,
        "# %%\nimport sys",
        '# %% tag="x"\nimport sys',
        "a cell of lessons knows no tag",
    ),
    "an answer in a lesson": (
        LESSON_FILE,
        "# %%\nimport sys",
        '# %% answer="x"\nimport sys',
        "knows no answer",
    ),
    "no-store alone": (
        LESSON_FILE,
        '"nbval-ignore-output", ',
        "",
        "the tag no-store needs nbval-ignore-output",
    ),
    "unknown lesson": ("course.yml", "slug: tiny", "slug: small", "course.yml has no lesson called 01_tiny"),
    "no end": (
        EXERCISE_FILE,
        "    ### END SOLUTION\n",
        "",
        "line 15: ### BEGIN SOLUTION has no ### END SOLUTION",
    ),
    "no begin": (EXERCISE_FILE, MARKER, "", "line 17: ### END SOLUTION without ### BEGIN SOLUTION before it"),
    "nested": (EXERCISE_FILE, MARKER, 2 * MARKER, "line 16: ### BEGIN SOLUTION without ### END SOLUTION"),
    "marker in another cell": (
        *(EXERCISE_FILE, "import check_add\n", "import check_add\n### BEGIN SOLUTION\n### END SOLUTION\n"),
        'line 6: a marker of a solution in a cell that is not answer="…"',
    ),
    "no markers": (
        EXERCISE_FILE,
        re.compile(" +### .*\n"),
        "",
        "the answer cell add has no ### BEGIN SOLUTION",
    ),
    "no docstring": (EXERCISE_FILE, '    """The sum of a and b."""\n', "", "add needs a docstring above"),
    "docstring inside": (
        *(
            EXERCISE_FILE,
            '    """The sum of a and b."""\n' + MARKER,
            MARKER + '    """The sum of a and b."""\n',
        ),
        "add needs a docstring above",
    ),
    "not a function": (
        EXERCISE_FILE,
        "def add(",
        "def plus(",
        "must hold one function add, and nothing else",
    ),
    "more than a function": (
        EXERCISE_FILE,
        "def add(",
        "one = 1\n\n\ndef add(",
        "must hold one function add",
    ),
    "a grade cell with code": (
        EXERCISE_FILE,
        '# %% grade="add"\n',
        '# %% grade="add"\n1 + 1\n',
        "must be empty",
    ),
    "no grade": (EXERCISE_FILE, '# %% grade="add"\n', "", r"\(add add add-check\); the source has add add"),
    "no heading": (EXERCISE_FILE, "# {{exercise add}}", "# Add", "the source has add add-check"),
    "a leaked copy": (
        *(
            EXERCISE_FILE,
            "import check_add\n",
            "import check_add\n\ndef cheat(a, b):\n    total_of_both = a + b\n",
        ),
        "would publish this line of an answer: total_of_both = a [+] b",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name, course, still, capsys):
    file, old, new, sentence = REFUSED[name]
    text = (course / file).read_text(encoding="utf8")
    changed = old.sub(new, text) if isinstance(old, re.Pattern) else text.replace(old, new)
    assert changed != text
    (course / file).write_text(changed, encoding="utf8")
    assert build.build(course) > 0
    assert re.search(sentence, capsys.readouterr().err)
    assert {path: (course / path).read_bytes() for path in BUILT} == built()


NEAR_MISSES = [
    "# BEGIN SOLUTION",
    "### begin solution",
    "### BEGIN SOLUTIONS",
    "#### BEGIN SOLUTION",
    "###BEGIN SOLUTION",
    "### BEGIN  SOLUTION",
    "### BEGIN SOLUTION here",
    "### BEGIN_SOLUTION",
    "### BEGIN SOLUTON",
    "# end of the solution",
    "### START SOLUTION",
    "# to remove solution",
    "### BEGIN HIDDEN TESTS",
    "### END HIDDEN TEST",
    "### BEGIN MARK SCHEME",
    "x = 1  # END SOLUTION",
    "# <!-- BEGIN SOLUTION -->",
    "# ## Solution",
    "# Your solution:",
]
INNOCENT = [
    "# The end of training is near the solution of the normal equations.",
    "# Begin with the definition; your answer may be one line.",
    "    return solution",
    "solution = np.linalg.solve(A, b)",
    "# ## Exercise 2",
    "# the answer is a vector of length n",
]


@pytest.mark.parametrize("line", NEAR_MISSES)
def test_a_line_that_looks_like_a_marker_is_refused_by_file_and_line(line):
    text = '# %% answer="f"\ndef f():\n' + line + "\n"
    with pytest.raises(sources.SourceError, match=r"exercises/01_x.py, line 3: .* looks like a marker"):
        sources.check_markers(Path("authoring/exercises/01_x.py"), text)


@pytest.mark.parametrize("line", INNOCENT)
def test_a_line_that_is_no_marker_passes(line):
    sources.check_markers(Path("authoring/exercises/01_x.py"), '# %% answer="f"\ndef f():\n' + line + "\n")


# ---- the stamp ---------------------------------------------------------------------------------------


def test_library_files_follow_imports(course):
    def names(code):
        return {path.relative_to(course).as_posix() for path in hashes.library_files(course, code)}

    package, room = "hesslab/__init__.py", "hesslab/room.py"
    assert names("import numpy") == set()
    assert names("from hesslab.room import two") == {package, room, "hesslab/other.py"}
    assert names("def f():\n    import hesslab.other") == {package, "hesslab/other.py"}
    assert names("from hesslab import other, unused") == {package, "hesslab/other.py", "hesslab/unused.py"}
    checks = {package, "hesslab/checks/__init__.py", "hesslab/checks/lesson_01.py"}
    assert names("from hesslab.checks.lesson_01 import check_add") == checks
    assert names("if TYPE_CHECKING:\n    import hesslab.other\nelse:\n    import hesslab") == {package}
    (course / "hesslab/data_files").mkdir()
    (course / "hesslab/data_files/a.csv").write_text("1")
    (course / "hesslab/data.py").write_text("")
    assert names("import hesslab.data") == {package, "hesslab/data.py", "hesslab/data_files/a.csv"}


def test_a_relative_import_is_refused():
    with pytest.raises(ValueError, match=r"a relative import cannot be followed; write hesslab\.room"):
        list(hashes.imported(hashes.ast.parse("from . import room")))


# ---- outputs --------------------------------------------------------------------------------


def test_outputs_are_stored_in_one_form():
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1f"}, "text/plain": "A slider."}
    outputs = [
        *(v4.new_output("stream", text="a\n"), v4.new_output("stream", text="b\n")),
        *(v4.new_output("display_data", data=view), v4.new_output("stream", text="c\n")),
        v4.new_output("error", ename="ValueError", evalue="no", traceback=["\x1b[31m/tmp/ipykernel_1/2.py"]),
    ]
    cell = v4.new_code_cell("", outputs=outputs, metadata={"execution": {"iopub.status.busy": "2026"}})
    stored = v4.new_notebook(cells=[cell], metadata={"widgets": {}})
    execute.canonical(stored)
    assert [o.get("text") or o.get("data") or o.traceback for o in cell.outputs] == [
        *("a\nb\n", {"text/plain": "A slider."}, "c\n", ["ValueError: no"]),
    ]
    assert (stored.metadata, cell.metadata) == ({}, {})


# ---- text from the manifest ---------------------------------------------------------------------------


def test_the_map_links_the_lessons_that_stand(course):
    edit(course, LESSON_FILE, "{{claim 1.1}}", "{{map}}")
    cells = sources.compose(course / LESSON_FILE, read(course)).cells
    assert cells[2].source.splitlines()[2:] == [
        "| 00 · Start | – | – | in preparation |",
        "| [01 · Tiny](../lessons/01_tiny.ipynb) | 1 | 00 | 7 |",
    ]


def test_exercises_are_numbered_in_the_order_of_the_manifest():
    second = dataclasses.replace(specimen.EXERCISE, name="g", title="G", points=2)
    lesson = dataclasses.replace(specimen.LESSON, exercises=(specimen.EXERCISE, second))
    assert cards.exercise_heading(lesson, second) == (
        "## Exercise 2 · G\n\n`g` · free · difficulty 1 of 5 · importance 1 of 5 · 5 minutes · 2 points · "
        "assesses: See it."
    )
