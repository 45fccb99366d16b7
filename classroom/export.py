"""Write an nbgrader course directory: assignments, hidden tests on fresh instances, rubric, configuration.

    python3 lab.py classroom DIR               every set of exercises that is there
    python3 lab.py classroom DIR --seed 7      the hidden tests of seed 7 (default: the system's entropy)
    python3 lab.py classroom DIR --fresh       write sets again that DIR already holds, with new hidden tests

It refuses to write into a folder that holds anything and is not such a directory.
"""

import argparse
import json
import secrets
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]
from submission import SEED, Unreadable, read_assignment  # noqa: E402

from authoring import manifest as course  # noqa: E402

MARK = "# Written by lab.py classroom."
CONFIG = """c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "hessian_spectrum"
c.ExecutePreprocessor.timeout = 30
c.ExecutePreprocessor.interrupt_on_timeout = True
c.ClearSolutions.code_stub = {"python": STUB}
"""
STUB = 'raise NotImplementedError("not attempted: replace this line by your answer")'
READ_ME = """# The Hessian Spectrum, for nbgrader

Run these here, with the project's environment active (its `bin` must be on PATH).
NN_slug is one of: {stems}.

1. `nbgrader generate_assignment NN_slug` makes `release/NN_slug`, without answers: hand it out.
2. Put what comes back into `submitted/STUDENT/NN_slug/NN_slug.ipynb`, or use `nbgrader collect NN_slug`.
3. `nbgrader autograde NN_slug` runs the learners' code, under your account: use a container.
4. `nbgrader generate_feedback NN_slug` writes one page a student into `feedback/`.
5. `nbgrader export` writes `grades.csv`.

`source/` holds answers and hidden tests: do not hand it out. `rubric.md` says which exercise assesses what.
`python3 lab.py grade submitted --report marks.csv` gives the same points without nbgrader, and withstands
hostile submissions.
"""


class Refused(Exception):
    """The folder cannot be written; the message is a sentence."""


def export(folder: Path, *, root: Path = ROOT, seed: int | None = None, fresh: bool = False) -> list[str]:
    """Write the course directory `folder` and return the names of the assignments written."""
    require_own(folder)
    numbers = sorted(path.name[:2] for path in (root / "solutions").glob("[0-9][0-9]_*.ipynb"))
    if not numbers:
        raise Refused(
            f"there is no exercise set in {root / 'solutions'}; build them with python3 lab.py build"
        )
    try:
        table = rubric(root, numbers)
    except (ValueError, OSError) as problem:
        raise Refused(f"nothing was written: {problem}") from problem
    rng = np.random.default_rng(secrets.randbits(128) if seed is None else seed)
    stems, written = [], []
    for number in numbers:
        path = read_assignment(root, number).path
        stems.append(path.stem)
        target = folder / "source" / path.stem / path.name
        if fresh or not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            write(target, json.dumps(source_of(path, rng), indent=1, ensure_ascii=False) + "\n")
            written.append(path.stem)
    write(folder / "nbgrader_config.py", f"{MARK}\n{CONFIG.replace('STUB', repr(STUB))}")
    write(folder / "README.md", READ_ME.format(stems=", ".join(f"`{stem}`" for stem in stems)))
    write(folder / "rubric.md", table)
    return written


def require_own(folder: Path) -> None:
    """Refuse a file, and a folder that holds anything which is no such course directory."""
    config = folder / "nbgrader_config.py"
    if folder.exists() and not folder.is_dir():
        raise Refused(f"{folder} is a file; name a folder that is empty or new")
    own = config.is_file() and config.read_text(encoding="utf8").startswith(MARK)
    if folder.is_dir() and any(folder.iterdir()) and not own:
        raise Refused(
            f"{folder} holds files that lab.py classroom did not write; name an empty or a new folder"
        )


def source_of(path: Path, rng: np.random.Generator) -> dict[str, Any]:
    """The solution at `path` as nbgrader's source: no outputs, each hidden test on an instance of its own."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
    notebook["metadata"].pop("hesslab", None)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
            text = "".join(cell["source"])
            if cell["metadata"].get("nbgrader", {}).get("grade"):
                text = SEED.sub(lambda _: f"rng={rng.integers(2**31)}", text)
            cell["source"] = text.splitlines(keepends=True)
    return notebook


def rubric(root: Path, numbers: list[str]) -> str:
    """A table of each set: exercise, the objective that it assesses, points, minutes."""
    manifest = course.read(root)
    for number in numbers:
        if number not in manifest.lessons:
            raise ValueError(f"course.yml has no lesson {number}, though solutions/ holds its set")
    head = "# Rubric\n\nPoints are given by automatic tests: all of an exercise's, or none.\n"
    return head + "".join(_rubric_of(manifest.lessons[number]) for number in numbers)


def _rubric_of(lesson: course.Lesson) -> str:
    objectives = {objective.id: objective.text.replace("|", "\\|") for objective in lesson.objectives}
    rows = [(f"`{e.name}`", objectives[e.objective], e.points, e.minutes) for e in lesson.exercises]
    rows.append(
        ("total", "", sum(e.points for e in lesson.exercises), sum(e.minutes for e in lesson.exercises))
    )
    table = "".join(
        f"| {name} | {text} | {points:g} | {minutes:g} |\n" for name, text, points, minutes in rows
    )
    head = f"\n## {lesson.id} · {lesson.title}\n\n"
    return head + "| exercise | objective | points | minutes |\n|---|---|---|---|\n" + table


def write(path: Path, text: str) -> None:
    """Write a file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf8", newline="\n")


def main(arguments: list[str] | None = None) -> int:
    """Write the course directory that the command line names."""
    parser = argparse.ArgumentParser(
        prog="lab.py classroom", description="Write an nbgrader course directory."
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument(
        "--seed", type=int, help="draw the hidden tests from this number (default: the system)"
    )
    parser.add_argument("--fresh", action="store_true", help="write again the sets that DIR already holds")
    options = parser.parse_args(arguments)
    try:
        written = export(options.folder, seed=options.seed, fresh=options.fresh)
    except (Refused, Unreadable) as problem:
        print(problem, file=sys.stderr)
        return 1
    print(
        f"{options.folder}: {', '.join(written) or 'nothing new'}. Read {options.folder / 'README.md'} next."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
