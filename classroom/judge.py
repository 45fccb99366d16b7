"""The process that judges: it holds the checks and the seeds, and never runs a learner's code.

It reads one JSON line a submission from standard input and answers with one JSON line. A submission's cells
run in a worker (`worker.py`). A check gets a stand-in for the learner's function, whose calls cross to the
worker and come back as plain values: nothing that a submission does to tests, checks or the library changes
its points.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import io
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from submission import (
    Assignment,
    Exercise,
    Step,
    Unreadable,
    number_of,
    read_assignment,
    read_exam,
    read_file,
    read_submission,
    steps,
)
from wire import Lost, printable
from workers import Limits, Link, Nursery

#: Each answer is judged on this many fresh instances; all must pass.
INSTANCES = 2
#: What answers may import beside what the set's own cells do: loaded once, not once a submission, and torch,
#: which takes seconds, only when the first submission speaks of it.
PRELOADED, SLOW = ("numpy", "scipy.linalg"), "torch"


# --- one submission ---------------------------------------------------------------------------------------


@dataclass
class Session:
    """A submission on its way: the worker, the cells run so far, and what was noticed."""

    nursery: Nursery
    limits: Limits
    budget: float
    notes: list[str]
    done: list[Step] = field(default_factory=list)
    link: Link | None = None
    folder: str = ""

    def worker(self) -> Link:
        """The worker in which each cell so far has run; after a loss, a fresh one without the guilty cell."""
        if self.link is None:
            self.folder = tempfile.mkdtemp(prefix="answer_")
            self.link = self.nursery.start(self.folder, self.limits, math.ceil(self.budget))
            for step in self.done:
                with contextlib.suppress(Exception):
                    self.link.ask(self._seconds(), "run", step.source, f"cell {step.number + 1}")
        return self.link

    def run(self, step: Step) -> None:
        """Run a cell. Its errors are notes, a cell that ends the process is left out from then on."""
        if self.budget <= 0:
            return self.notes.append("the time for the whole submission is used up; later cells were not run")
        try:
            self.worker().ask(self._seconds(), "run", step.source, f"cell {step.number + 1}")
        except Lost as lost:
            self.notes.append(
                f"cell {step.number + 1}: {self.why(lost)}; the other cells were run without it"
            )
            return self.close()
        except NotImplementedError:
            pass
        except Exception as error:
            self.notes.append(f"cell {step.number + 1} raised {type(error).__name__}: {str(error)[:200]}")
        return self.done.append(step)

    def _seconds(self) -> float:
        if self.budget <= 0:
            raise Lost("the time for the whole submission is used up")
        return min(self.limits.seconds, self.budget)

    def why(self, lost: Lost) -> str:
        """In words, how the worker was lost."""
        if self.link is not None and self.link.late:
            return f"it took longer than {self.limits.seconds:g} s"
        status = self.link.end() if self.link is not None else 0
        if -status in (signal.SIGKILL, getattr(signal, "SIGXCPU", 0)):
            return "the system ended its process: too much memory or processor time"
        return "the process ended" if "ended" in str(lost) else str(lost)

    def close(self) -> None:
        """End the worker and remove its folder."""
        if self.link is not None:
            self.link.end()
            shutil.rmtree(self.folder, ignore_errors=True)
        self.link = None


@dataclass
class Desk:
    """What one run of the judge works with; the nursery is kept from one submission of a set to the next.

    `exam` is the folder of an exam; without one, a submission's own place says which set it answers.
    """

    root: Path
    limits: Limits
    closed: tuple[str, ...] = ()
    exam: Path | None = None
    stem: str = ""
    nursery: Nursery | None = None

    def assignment(self, path: Path, metadata: dict[str, Any], default: str) -> Assignment:
        """What the submission at `path` answers."""
        if self.exam is not None:
            return read_exam(self.exam)
        return read_assignment(self.root, number_of(path, metadata, default))

    def nursery_for(self, assignment: Assignment, todo: list[Step]) -> Nursery:
        """The nursery of this set, with what the steps `todo` may import."""
        slow = (SLOW,) if any(SLOW in step.source for step in todo) else ()
        missing = self.nursery is not None and not set(slow) <= set(self.nursery.modules)
        if self.nursery is None or self.stem != assignment.stem or missing:
            self.close()
            self.nursery = Nursery((*PRELOADED, *slow, *assignment.imports), self.closed)
            self.stem = assignment.stem
        return self.nursery

    def close(self) -> None:
        """End the nursery and every worker."""
        if self.nursery is not None:
            self.nursery.close()


def closed_to_answers(root: Path, handed_in: list[Path], secret: list[Path]) -> tuple[str, ...]:
    """The folders and files that no answer reads: solutions, tests, submissions, and those of `secret`.

    A folder that Python, the library or the temporary files lie in stays open.
    """
    needed = [p.resolve() for p in (root, Path(sys.prefix), Path(np.__file__), Path(tempfile.gettempdir()))]
    library = Path(str(importlib.util.find_spec("hesslab").origin)).resolve().parents[1]
    names = ("solutions", "tests", "authoring", "classroom/exam", ".git")
    own = list(dict.fromkeys(place / name for place in (root.resolve(), library) for name in names))
    folders = {path.parent for path in handed_in} | {path for path in secret if path.is_dir()}
    with contextlib.suppress(ValueError):  # on different drives, or no submission
        folders |= {Path(os.path.commonpath([str(path.parent) for path in handed_in]))}
    free = [folder for folder in sorted(folders) if not any(p.is_relative_to(folder) for p in needed)]
    outermost = [f for f in free if not any(f != other and f.is_relative_to(other) for other in free)]
    files = [path for path in secret if path.is_file() and not any(map(path.is_relative_to, outermost))]
    return tuple(str(path) for path in [*own, *outermost, *files] if path.exists())


def grade(desk: Desk, path: Path, default: str) -> dict[str, Any]:
    """The points of one submission, exercise by exercise, with what to tell the learner and the teacher.

    `sha256` is that of the file as it was judged; it is missing where the file could not be read.
    """
    start, known = time.monotonic(), {}
    try:
        data = read_file(path)
        known = {"sha256": hashlib.sha256(data).hexdigest()}
        cells, metadata = read_submission(data)
        assignment = desk.assignment(path, metadata, default)
    except Unreadable as problem:
        said = printable(str(problem))
        return {"problem": said, "exercises": [], "notes": [], "points": 0.0, "seconds": 0.0, **known}
    todo, notes = steps(assignment, cells)
    budget = desk.limits.seconds * (len(assignment.exercises) + 3)
    session = Session(desk.nursery_for(assignment, todo), desk.limits, budget, notes)
    outcomes = {}
    try:
        walls = session.worker().walls  # its start is no part of the time that the submission has
        for step in todo:
            before = time.monotonic()
            if step.exercise is None:
                session.run(step)
            else:
                outcomes[step.exercise.name] = _judged(session, step.exercise)
            session.budget -= time.monotonic() - before
    finally:
        session.close()
    exercises = [outcomes[exercise.name] for exercise in assignment.exercises]
    return {
        "set": assignment.stem,
        "points": sum(e["points"] for e in exercises),
        "max_points": sum(e["max_points"] for e in exercises),
        "exercises": exercises,
        "notes": [printable(note) for note in dict.fromkeys(notes)],
        "walls": walls,
        "seconds": round(time.monotonic() - start, 3),
        **known,
    }


def _judged(session: Session, exercise: Exercise) -> dict[str, Any]:
    """The outcome of one exercise: it passes when every fresh instance does; the first failure is told."""
    outcome = {"name": exercise.name, "points": 0.0, "max_points": exercise.points, "passed": False}
    seeds = np.random.SeedSequence([session.limits.seed, zlib.crc32(exercise.name.encode())]).spawn(INSTANCES)
    check = getattr(importlib.import_module(exercise.module), exercise.check)
    try:
        link = session.worker()
        if not link.ask(session._seconds(), "defined", exercise.name):
            text = f"{exercise.name}: not attempted. There is no function {exercise.name} in the notebook."
            return {**outcome, "attempted": False, "diagnosis": "not-defined", "feedback": text}
        for seed in seeds:
            link.peer.given.clear()
            link.ask(session._seconds(), "forget")
            with contextlib.redirect_stdout(io.StringIO()):
                feedback = check(_stand_in(link, exercise.name), rng=np.random.default_rng(seed))
            if link.peer.lost:  # a check may have taken the loss for an error of the answer
                raise link.peer.lost
            if not feedback.passed:
                break
    except Lost as error:
        why = session.why(error)
        session.close()
        text = (
            f"{exercise.name}: not yet. While it was judged: {why}. Look for an endless loop or a huge array."
        )
        return {**outcome, "attempted": True, "diagnosis": "stopped", "feedback": text}
    points = exercise.points if feedback.passed else 0.0
    return outcome | {
        "points": points, "passed": feedback.passed, "attempted": feedback.attempted,
        "diagnosis": feedback.diagnosis, "feedback": printable(feedback.text, 3000),
    }  # fmt: skip


def _stand_in(link: Link, name: str) -> Callable[..., Any]:
    """What a check gets in place of the learner's function: each call crosses to the worker."""

    def answer(*args: Any, **kwargs: Any) -> Any:
        return link.peer.ask("answer", name, args, kwargs)

    answer.__name__ = name
    return answer


# --- the process ------------------------------------------------------------------------------------------


def protect(memory: int) -> None:
    """Bound the judge's own memory, and on Linux close its memory to other processes of this account."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE


def requests() -> Iterator[dict[str, Any]]:
    """The submissions asked for, one JSON line each."""
    for line in sys.stdin:
        yield json.loads(line)


def main() -> None:
    """Answer each line of standard input by a line of standard output."""
    out = os.fdopen(os.dup(1), "w", encoding="utf8")
    os.dup2(2, 1)  # whatever else prints goes to the error stream
    first = json.loads(sys.stdin.readline())
    root, limits = Path(first["root"]), Limits(first["seconds"], first["memory"], first["seed"])
    exam = Path(first["exam"]) if first["exam"] else None
    secret = [Path(path) for path in first["secret"]] + ([exam] if exam else [])
    closed = closed_to_answers(root, [Path(path) for path in first["handed_in"]], secret)
    desk = Desk(root, limits, closed, exam)
    sys.path += [str(root), *([str(exam)] if exam else [])]
    sys.dont_write_bytecode = True  # an exam that is written anew within a second has the same time stamp
    protect(max(2 * limits.memory, 4 * 2**30))
    try:
        for request in requests():
            result = grade(desk, Path(request["path"]), request["set"])
            print(json.dumps(result), file=out, flush=True)
    except BrokenPipeError:  # the front was stopped
        os._exit(1)
    finally:
        desk.close()


if __name__ == "__main__":
    main()
