"""Write an exam: questions drawn from the bank with a seed, verified, and an nbgrader course directory of it.

    python3 lab.py exam DIR --seed 7                 two questions of each lesson that has some
    python3 lab.py exam DIR --seed 8                 another exam: other questions, other numbers
    python3 lab.py exam DIR --lessons 01 02 --count 3
    python3 lab.py exam DIR --questions FOLDER       questions of your own, which no learner has read

Hand out `DIR/hand_out/exam.ipynb`; grade with `python3 lab.py grade FOLDER --exam DIR`. The same seed and the
same bank give the same exam. Where an answer is not what its oracle computes, nothing is written.
"""

import argparse
import contextlib
import io
import secrets
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]
import export  # noqa: E402
from export import Refused  # noqa: E402
from questions import Faulty, Question, check_source, drawn, function_of, read_questions, source_of, verify  # noqa: E402

BANK = HERE / "exam"
SETUP = '''import numpy as np


def example(function, arguments, expected):
    """Print what the function gives for the arguments of an example, beside what it should give."""
    try:
        found = np.round(function(*arguments), 4)
    except NotImplementedError:
        return print(f"{function.__name__}: not attempted")
    except Exception as error:
        return print(f"{function.__name__} raised {type(error).__name__}: {error}")
    return print(f"{function.__name__}: {found}, expected {expected}")
'''
INTRODUCTION = """# Exam: {title}

{count} questions, {points:g} points, {minutes:g} minutes. Write each function in place of the line that
raises `NotImplementedError`. The cell below it compares your function with one example; it is graded on
others, all or nothing. Add cells as you like; leave the given ones in their order.
"""
PATHS = """import os
from pathlib import Path

HERE = str(Path(__file__).resolve().parent)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH")]))
"""
READ_ME = """# An exam of The Hessian Spectrum, seed {seed}

1. Hand out `hand_out/exam.ipynb`, and nothing else of this folder: the rest holds answers and tests.
2. Collect the notebooks in a folder, under names of your choice.
3. `python3 lab.py grade FOLDER --exam THIS_FOLDER --report marks.csv` grades them.

For nbgrader this is a course directory with the assignment `exam`.

{table}"""


def write_exam(folder: Path, questions: list[Question], seed: int) -> None:
    """Write the exam of these questions into `folder`, after verifying each."""
    with contextlib.redirect_stdout(io.StringIO()):
        for question in questions:
            verify(question, rng=seed)
    rng = np.random.default_rng([seed, 1])
    source = notebook_of(questions, rng)
    blank = _released(source)
    head = (HERE / "agreement.py").read_text(encoding="utf8")
    checks = "\n\n".join([head, *map(check_source, questions)])
    config = export.CONFIG.replace("STUB", repr(export.STUB))
    export.write(folder / "nbgrader_config.py", f"{export.MARK}\n{PATHS}\n{config}")
    export.write(folder / "source" / "exam" / "exam.ipynb", _text(source))
    export.write(folder / "exam_checks.py", checks)
    export.write(folder / "README.md", READ_ME.format(seed=seed, table=_table(questions)))
    export.write(folder / "hand_out" / "exam.ipynb", _text(blank))


def chosen(bank: dict[str, list[dict[str, Any]]], seed: int, count: int) -> list[Question]:
    """`count` questions of each lesson, or all it has, in the order of the bank, drawn from `seed`."""
    questions = []
    for lesson, tables in bank.items():
        rng = np.random.default_rng([seed, int(lesson)])
        picked = sorted(rng.permutation(len(tables))[:count])
        questions += [drawn(lesson, tables[number], rng) for number in picked]
    return questions


# --- the notebook -----------------------------------------------------------------------------------------


def notebook_of(questions: list[Question], rng: np.random.Generator) -> dict[str, Any]:
    """The exam with answers and hidden tests, in nbgrader's source form."""
    lessons = ", ".join(dict.fromkeys(f"lesson {q.lesson}" for q in questions))
    totals = {"points": sum(q.points for q in questions), "minutes": sum(q.minutes for q in questions)}
    introduction = INTRODUCTION.format(title=lessons, count=len(questions), **totals)
    cells = [_cell("markdown", "introduction", introduction), _cell("code", "setup", SETUP, locked=True)]
    for question in questions:
        head = f"## {question.name}\n\n{question.points:g} points, {question.minutes:g} minutes.\n\n"
        name, test = question.name, _test_of(question, int(rng.integers(2**31)))
        cells += [
            _cell("markdown", f"{name}-text", head + question.text),
            _cell("code", name, _answer_of(question), solution=True, locked=False),
            _cell("code", f"{name}-check", test, grade=True, points=question.points),
        ]
    python = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    metadata = {"kernelspec": python, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _cell(kind: str, name: str, source: str, **nbgrader: Any) -> dict[str, Any]:
    cell = {"cell_type": kind, "id": name, "metadata": {}, "source": source.strip("\n")}
    if kind == "code":
        marks = {"schema_version": 3, "grade": False, "solution": False, "task": False, "locked": True}
        cell["metadata"] = {"nbgrader": {**marks, "grade_id": name, **nbgrader}}
        cell |= {"execution_count": None, "outputs": []}
    return cell


def _answer_of(question: Question) -> str:
    body = f"### BEGIN SOLUTION\n{question.answer}\n### END SOLUTION"
    return question.stub + "\n" + "\n".join(f"    {line}" if line else "" for line in body.splitlines())


def _test_of(question: Question, seed: int) -> str:
    name = question.name
    source = (
        f"{source_of(question, question.answer)}\n\ndef shown():\n    return {name}(*({question.example}))\n"
    )
    value = np.round(np.asarray(function_of(source, "shown")(), dtype=float), 4).tolist()
    return (
        f"example({name}, ({question.example}), expected={value})\n### BEGIN HIDDEN TESTS\n"
        f"from exam_checks import check_{name}\nassert check_{name}({name}, rng={seed}).passed\n"
        "### END HIDDEN TESTS"
    )


def _released(source: dict[str, Any]) -> dict[str, Any]:
    """What a learner gets: nbgrader's own steps take the answers and the hidden tests out."""
    import nbformat

    from authoring.sources import leaks, release

    notebook = nbformat.from_dict(source)
    blank = release(notebook)
    for line in leaks(notebook, blank):
        raise Faulty(f"the exam would hand out this line of an answer: {line}")
    return dict(blank)


def _text(notebook: dict[str, Any]) -> str:
    import nbformat  # takes a second

    node = nbformat.from_dict(notebook)
    nbformat.validate(node)
    return str(nbformat.writes(node, version=4)) + "\n"


def _table(questions: list[Question]) -> str:
    rows = [f"| `{q.name}` | {q.objective} | {q.points:g} | {q.minutes:g} |\n" for q in questions]
    return "| question | objective | points | minutes |\n|---|---|---|---|\n" + "".join(rows)


# --- the command ------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Write the exam that the command line asks for."""
    parser = argparse.ArgumentParser(prog="lab.py exam", description="Write an exam from the bank.")
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR")
    add("--seed", type=int, help="draw questions and numbers from this number (default: the system)")
    add(
        "--lessons",
        nargs="+",
        metavar="NN",
        help="from these lessons only (default: all that have questions)",
    )
    add("--count", type=int, default=2, help="questions of a lesson (default 2)")
    add("--questions", type=Path, default=BANK, metavar="FOLDER", help="a bank of your own")
    add("--fresh", action="store_true", help="write again an exam that DIR already holds")
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(10**9) if options.seed is None else abs(options.seed)
    try:
        questions = _asked(options, seed)
        _make_way(options.folder, options.fresh)
        write_exam(options.folder, questions, seed)
    except (Refused, Faulty) as problem:
        print(f"{problem}.", file=sys.stderr)
        return 1
    names = ", ".join(question.name for question in questions)
    print(f"{options.folder}: seed {seed}, {names}. Read {options.folder / 'README.md'} next.")
    return 0


def _asked(options: argparse.Namespace, seed: int) -> list[Question]:
    bank = read_questions(options.questions)
    lessons = options.lessons or list(bank)
    for lesson in lessons:
        if lesson not in bank:
            known = ", ".join(bank) or "none"
            raise Refused(f"{options.questions} has no questions on lesson {lesson}; it has {known}")
    if not lessons or options.count < 1:
        raise Refused(f"that is an exam without questions; {options.questions} has {len(bank)} lessons")
    return chosen({lesson: bank[lesson] for lesson in bank if lesson in lessons}, seed, options.count)


def _make_way(folder: Path, fresh: bool) -> None:
    """Refuse a folder of others; take an older exam's files away where that is asked for."""
    export.require_own(folder)
    if not (folder / "nbgrader_config.py").exists():
        return
    if not fresh or not (folder / "exam_checks.py").exists():
        raise Refused(f"{folder} holds a course already; name another folder, or give --fresh for an exam")
    for name in ("source", "hand_out", "release"):
        shutil.rmtree(folder / name, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
