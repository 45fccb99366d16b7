"""The scoreboard: every claim of a lesson has a line; a lesson that fails is named, and the exit is not 0."""

import nbformat
import tiny_course

from authoring import run

LESSON = """
# %% [markdown]
# {{header}}

# %% [markdown]
# {{claim 1.1}}

# %%
from IPython.display import display

card = {"id": "1.1", "value": 4.0, "error": 0.05, "verdict": "holds"}
display({"text/plain": "card 1.1 holds"}, raw=True, metadata={"hesslab": {"claim": card}})
"""


def course(tmp_path, lesson=LESSON):
    tiny_course.lay(tmp_path)
    (tmp_path / "authoring" / "lessons" / "01_tiny.py").write_text(lesson.lstrip(), encoding="utf8")
    tiny_course.build.build(tmp_path, ("01",))
    return tmp_path


def test_a_claim_is_shown_with_its_evidence(tmp_path, capsys):
    root = course(tmp_path)
    capsys.readouterr()
    assert run.main(["01"], root) == 0
    line = capsys.readouterr().out.splitlines()[1].split()
    assert line[:6] == ["1.1", "01", "wrong", "holds", "4.00", "±"]


def test_a_lesson_that_fails_is_named_with_its_cell(tmp_path, capsys):
    root = course(tmp_path)
    path = root / "lessons" / "01_tiny.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].source = "raise SystemError('tired')"
    nbformat.write(notebook, path)
    assert run.main([], root) == 1
    shown = capsys.readouterr().out
    assert "FAILED" in shown
    assert "01_tiny.ipynb, cell 3 failed" in shown
    assert "SystemError: tired" in shown


def test_an_unknown_lesson_is_a_sentence(tmp_path, capsys):
    tiny_course.lay(tmp_path)
    assert run.main(["77"], tmp_path) == 2
    assert "77 is no lesson that stands" in capsys.readouterr().err


def test_numbers_keep_the_digits_of_their_error():
    assert run.evidence({"value": 1.0, "error": 0.01}) == "1.00 ± 0.01"
    assert run.evidence({"value": [3.0, 0.25], "error": 0.05}) == "3.00, 0.25 ± 0.05"
    assert run.evidence({"value": 0, "error": 1e-6}) == "0 ± 1e-06"
    assert run.evidence({"value": True, "error": None}) == "yes"
    assert run.evidence({"value": None, "error": None}) == "as stated"


def test_words_are_plain():
    assert run._plain(r"**Flat:** $\lambda_i \approx 0$") == "Flat: λ_i ≈ 0"
