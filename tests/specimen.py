"""A lesson and an exercise set that keep every rule, small enough to break in one place at a time."""

import dataclasses

from nbformat import v4

from authoring import cards, rules, sources
from authoring.manifest import Claim, Exercise, Lesson, Manifest, Objective

EXERCISE = Exercise("f", "F", "1.a", "free", 1, 1, 5, 1)
LESSON = Lesson(
    *(
        "01",
        "one",
        "One",
        ("1",),
        (),
        True,
        "You see one thing.",
        {"reading": 1, "computing": 1, "exercises": 5},
    ),
    *((Objective("1.a", "See it"),), (EXERCISE,)),
)
CLAIM = Claim("1.1", "01", "a is two", "a is one", "wrong", ("key",))
COURSE = Manifest(
    "Course", "", {"title": "A note", "author": "Somebody"}, "", {"01": LESSON}, {"1.1": CLAIM}, ()
)

SETUP = """from hesslab.checks.laws.ticket import Question
from hesslab.course import claim, predict, start, ticket

start()
TICKET = [Question(str(i), "One?", ("yes", "no"), 0, {1: "One."}) for i in range(3)]"""
PREDICT = 'predict("a", "How large is a?")'
MEASURE = "import math\n\na = math.cos(0.0)"
CARD = 'claim("1.1", a, expected=1, tolerance=0.1)'
TICKET = 'ticket(TICKET, answers=[None, None, None], outcomes={"a": (a, 0.1)})'
ALT = "A straight line from the lower left to the upper right: one grows as the other grows."
PROSE = "words " * 40


def text(source):
    """A Markdown cell."""
    return v4.new_markdown_cell(source)


def code(source, *outputs):
    """A code cell with its outputs; it is numbered later."""
    return v4.new_code_cell(source, outputs=list(outputs))


def printed(line):
    """What `print(line)` stores."""
    return v4.new_output("stream", name="stdout", text=line + "\n")


def figure(alt=ALT):
    """A figure as `plots.show` stores it."""
    data = {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure size 640x480 with 1 Axes>"}
    return v4.new_output("display_data", data=data, metadata={"image/png": {"alt": alt}})


def lesson():
    """A lesson that keeps every rule."""
    cells = [text(cards.header(COURSE, LESSON, "lessons")), code(SETUP), text(PROSE)]
    cells += [code(PREDICT, printed("Prediction a.")), text(cards.claim_card(COURSE, CLAIM)), code(MEASURE)]
    cells += [code(CARD, printed("card 1.1 holds: measured 1.0, expected 1.0 ± 0.1"))]
    for number in range(14):
        cells += [text(PROSE), code(f"b = a + {number}\nprint(b)", printed(f"b is {number + 1:.2f}"))]
    cells[-1].outputs.append(figure())
    cells += [text(PROSE), code(TICKET, printed("0 of 3 right."))]
    return _page("lessons", cells)


def exercises():
    """An exercise set that keeps every rule, as a learner gets it."""
    hint = "<details><summary>Hint</summary>One.</details>"
    graded = v4.new_code_cell("check_f(f)", metadata={"nbgrader": {"grade": True, "grade_id": "f-check"}})
    header = cards.header(COURSE, LESSON, "exercises")
    page = _page("exercises", [text(header), text(hint), text(2 * hint), code("def f(): ..."), graded])
    for cell in page.code:
        cell.execution_count = None
    return page


def _page(folder, cells):
    notebook = v4.new_notebook(cells=cells, metadata=dict(sources.METADATA))
    for number, cell in enumerate((cell for cell in cells if cell.cell_type == "code"), start=1):
        cell.execution_count = number
    return rules.Page(folder, notebook, 1000, LESSON, COURSE)


def with_minutes(page, computing):
    """The page of a lesson that states other minutes of computing."""
    minutes = {**LESSON.minutes, "computing": computing}
    return dataclasses.replace(page, lesson=dataclasses.replace(LESSON, minutes=minutes))
