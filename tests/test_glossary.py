"""The glossary: in order, short, and each term said to be introduced where the lesson uses it."""

import re
from pathlib import Path

import nbformat
import pytest

from authoring.manifest import read

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "glossary.md").read_text(encoding="utf8")
BODY = PAGE.split("```{glossary}\n")[1].split("\n```")[0]
TERMS = {entry.split("\n")[0]: " ".join(entry.split("\n")[1:]).strip() for entry in BODY.split("\n\n")}
LESSONS = {lesson.id: lesson for lesson in read(ROOT).lessons.values() if lesson.stands}
OTHER_WORDS = {  # in the lesson the words stand in another form
    "BBP transition": "(BBP)",
    "Chebyshev's steps": "inverses of its zeros",
    "Curvature in a direction": "is the **curvature** in that direction",
    "Gauss–Newton matrix": "Gauss–Newton",
    "Edge": "the **edge** of gradient descent",
    "Hutchinson's estimator": "Girard and Hutchinson",
    "Marchenko–Pastur law": "Marchenko–Pastur",
    "Residual of a fit": "the error of the fit",
    "Residual of an eigenpair": "What a residual proves",
    "Spike": "the transition of a spike",
    "Width of a curve": "**width**",
}


def text(identifier):
    notebook = nbformat.read(ROOT / "lessons" / f"{LESSONS[identifier].stem}.ipynb", as_version=4)
    return " ".join("\n".join(cell.source for cell in notebook.cells).replace("*", "").split()).lower()


def test_terms_are_in_alphabetical_order_and_short():
    names = [re.sub(r"\W", "", name).lower() for name in TERMS]
    assert names == sorted(names)
    assert 60 <= len(TERMS) <= 120
    for name, definition in TERMS.items():
        assert 20 < len(definition) < 330, name


@pytest.mark.parametrize("name", TERMS)
def test_each_term_names_a_lesson_that_uses_it(name):
    named = re.findall(r"\[(\d\d)\]", TERMS[name])
    assert named
    for identifier in named:
        words = OTHER_WORDS.get(name, name).replace("*", "").lower()
        assert words in text(identifier), (name, identifier)


def test_every_lesson_that_is_named_is_linked():
    targets = dict(re.findall(r"^\[(\d\d)\]: (\S+)$", PAGE, re.MULTILINE))
    assert set(re.findall(r"\[(\d\d)\]", PAGE)) == set(targets)
    for identifier, target in targets.items():
        assert target == f"/lessons/{LESSONS[identifier].stem}.ipynb"
