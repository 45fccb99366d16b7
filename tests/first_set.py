"""Exercise set 01, on which the tests of the classroom are tried, and submissions of it."""

from submissions import BANKS, answers_of, bank, code_cell, exercises_of, learners_copy, with_answers

PATH = next(path for path in BANKS if path.stem.startswith("01"))
STEM = PATH.stem
EXERCISES = exercises_of(STEM)
NAMES = [exercise.name for exercise in EXERCISES]
FIRST, SECOND = NAMES[:2]
MAX = sum(exercise.points for exercise in EXERCISES)
RIGHT = answers_of(STEM)
WRONG = {a.exercise: a for a in bank(PATH) if a.kind == "wrong"}
OTHER_RIGHT = {a.exercise: a.code for a in bank(PATH) if a.kind == "right"}
STUB = f"def {FIRST}(*args):\n    raise NotImplementedError\n"


def right():
    """All answers right."""
    return with_answers(learners_copy(STEM), RIGHT)


def without_first(code=STUB, cell=None):
    """All right, but the first exercise is answered by `code`; `cell` is put before everything."""
    notebook = with_answers(learners_copy(STEM), {**RIGHT, FIRST: code})
    if cell is not None:
        notebook["cells"].insert(0, code_cell(cell))
    return notebook
