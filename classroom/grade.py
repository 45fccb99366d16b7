"""Grade submitted exercise notebooks, without nbgrader.

    python3 lab.py grade FILE…                  a table, and feedback that a learner can read
    python3 lab.py grade FILE… --json           the same as JSON; --csv: one row a submission
    python3 lab.py grade FOLDER --feedback D    one page of feedback a submission, in the folder D
    python3 lab.py grade FOLDER --report R.csv  write R.csv (.json, .txt); stopped, it goes on next time
    python3 lab.py grade FOLDER --exam E        grade the exam that lab.py exam wrote into the folder E

Points, tests and checks come from `solutions/` and `hesslab`, never from a submission. A submission runs in a
process of its own, with limits of time and memory, and another process judges it: see `judge.py`.
"""

import argparse
import hashlib
import json
import os
import queue
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(Path(__file__).resolve().parent)]
import report  # noqa: E402
from journal import Journal, Refused, checks_of, key_of, open_journal  # noqa: E402
from submission import Unreadable, read_exam, read_file  # noqa: E402

JUDGE = Path(__file__).resolve().parent / "judge.py"
#: What is said once, where the system gives less than Linux does.
NO_LIMITS = "This system has no limits of memory and processes: a submission is limited in time only."
NO_WALLS = (
    "This system gives a submission no namespaces of its own: native code in one could read and write the "
    "files of this account. Grade submissions that you do not trust in a container."
)
LOST = "the process that judges was lost with this submission; it was not graded"
#: A judge is given up when it has been silent for so many times the limit of one step.
PATIENCE = 20


@dataclass(frozen=True)
class Settings:
    """What a run of the grader is told.

    The set for files that name none, the seed, the limits, the jobs at a time, the folder of an exam, and the
    files and folders that no submission may read.
    """

    default_set: str = "01"
    seed: int | None = None
    seconds: float = 10.0
    megabytes: int = 2048
    jobs: int = 1
    exam: Path | None = None
    secret: tuple[Path, ...] = ()


def grade(
    files: list[Path],
    settings: Settings | None = None,
    *,
    root: Path = ROOT,
    done: Callable[[dict[str, Any]], None] = lambda result: None,
    journal: Journal | None = None,
) -> list[dict[str, Any]]:
    """The result of each file, in the order of `files`; `done` is called with each as it comes.

    Instances are drawn from `settings.seed`, else from the seed of the journal, else from the system's
    entropy: the same for all files of a run. What the journal knows is not graded again. `root` is the
    repository that holds `solutions/`. One bad file never stops the others.
    """
    settings, journal = settings or Settings(), journal or Journal(secrets.randbits(64))
    seed = journal.seed if settings.seed is None else settings.seed
    places = [path.absolute().parent.resolve() / path.name for path in files]  # a link stays one
    limits = {
        **{"seconds": settings.seconds, "memory": settings.megabytes * 2**20, "seed": seed},
        **{"root": str(root.resolve()), "exam": str(settings.exam.resolve()) if settings.exam else ""},
        **{"handed_in": [str(p) for p in places], "secret": [str(p.resolve()) for p in settings.secret]},
    }
    conditions = (checks_of(root, settings.exam), seed, settings.seconds, settings.megabytes)
    conditions += (settings.default_set,)
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    results: list[dict[str, Any]] = [{} for _ in files]
    trouble: list[OSError] = []

    def finish(number: int, result: dict[str, Any]) -> None:
        results[number] = {**result, "submission": str(files[number])}
        done(results[number])

    for number, place in enumerate(places):
        kept = journal.known.get(key_of(place, _digest(place), *conditions))
        finish(number, kept) if kept else waiting.put(number)

    def work() -> None:
        judge = Judge(limits)
        try:
            for number in _until_empty(waiting):
                result = judge.grade(places[number], settings.default_set)
                if "sha256" in result:  # what could not be read, or lost its judge, is tried again next time
                    journal.add(key_of(places[number], result["sha256"], *conditions), result)
                finish(number, result)
        except OSError as error:  # the journal cannot be written: the disk may be full
            trouble.append(error)
        finally:
            judge.close()

    jobs = max(1, min(settings.jobs, waiting.qsize()))
    threads = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if trouble:
        raise trouble[0]
    return results


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(read_file(path)).hexdigest()
    except Unreadable:
        return ""


def _until_empty(waiting: "queue.SimpleQueue[int]") -> Iterator[int]:
    while True:
        try:
            yield waiting.get_nowait()
        except queue.Empty:
            return


@dataclass
class Judge:
    """A judging process, started when it is first needed and again when it has failed."""

    limits: dict[str, Any]
    process: Any = None

    def grade(self, path: Path, default: str) -> dict[str, Any]:
        """The result of one file; where the judge itself fails, a result that says so."""
        if self.process is None:
            self._open()
        timer = threading.Timer(PATIENCE * self.limits["seconds"] + 60, self.process.kill)
        timer.start()
        try:
            self._write({"path": str(path), "set": default})
            return dict(json.loads(self.process.stdout.readline()))
        except (OSError, ValueError):
            self.close()
            return {"problem": LOST, "exercises": [], "notes": [], "points": 0.0, "seconds": 0.0}
        finally:
            timer.cancel()

    def _open(self) -> None:
        command = [sys.executable, "-I", str(JUDGE)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "encoding": "utf8"}
        self.process = subprocess.Popen(
            command, start_new_session=True, **pipes
        )  # Ctrl-C is for this process
        self._write(self.limits)

    def _write(self, message: dict[str, Any]) -> None:
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def close(self) -> None:
        """End the process; its workers end with it."""
        if self.process is not None:
            try:
                self.process.communicate(timeout=10)
            except (subprocess.TimeoutExpired, OSError, ValueError):
                self.process.kill()
                self.process.wait()
        self.process = None


# --- the command ------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Grade what the command line names; 0 when every file could be graded, 1 otherwise."""
    options = _parser().parse_args(arguments)
    files = list({os.path.abspath(path): path for path in _notebooks(options.files)}.values())
    if not files:
        return _say("There is no notebook to grade there; name .ipynb files, or folders that hold them.", 2)
    if sys.platform == "win32":
        _say(NO_LIMITS)
    try:
        if options.exam:
            read_exam(options.exam)
        journal = _journal(options)
    except Refused as problem:
        return _say(f"{problem}.", 2)
    except Unreadable as problem:
        return _say(f"{options.exam} holds no exam: {problem}. Write one with: python3 lab.py exam DIR", 2)
    try:
        with tqdm(total=len(files), unit="submission", file=sys.stderr, disable=options.quiet) as bar:
            results = grade(files, _settings(options), done=lambda result: bar.update(), journal=journal)
        if not all(result.get("walls", True) for result in results):
            _say(NO_WALLS)
        _write(report.with_twins(results), options)
    except KeyboardInterrupt:
        return _say(_stopped(options), 130)
    except OSError as error:
        return _say(f"{error.strerror or error}: {error.filename or 'the disk'}. {_stopped(options)}", 2)
    finally:
        journal.close()
    return int(any("problem" in result for result in results))


def _say(sentence: str, code: int = 0) -> int:
    print(sentence, file=sys.stderr)
    return code


def _journal(options: argparse.Namespace) -> Journal:
    """The journal beside the report; without a report nothing is kept."""
    seed = secrets.randbits(64)
    if options.report is None:
        return Journal(seed)
    return open_journal(_beside(options.report), seed)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".journal")


def _settings(options: argparse.Namespace) -> Settings:
    places = (options.report, _beside(options.report)) if options.report else ()
    secret = tuple(place for place in (*places, options.feedback) if place)
    limits = (options.set, options.seed, options.time, options.memory, options.jobs)
    return Settings(*limits, exam=options.exam, secret=secret)


def _stopped(options: argparse.Namespace) -> str:
    if options.report is None:
        return "Stopped; no result was kept. With --report FILE a stopped run goes on where it was."
    return (
        f"Stopped. What is graded is kept in {_beside(options.report)}; the same command goes on from there."
    )


def _write(results: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """The report where it is asked for; the pages of feedback."""
    suffix = ".json" if options.json else ".csv" if options.csv else ".txt"
    if options.report is None:
        sys.stdout.write(report.SHAPES[suffix](results))
    else:
        report.save(report.SHAPES[options.report.suffix](results), options.report)
        failed = sum("problem" in result for result in results)
        print(f"{options.report}: {len(results)} submissions, {failed} of them not graded.")
    if options.feedback:
        report.write_pages(results, options.feedback)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab.py grade", description="Grade submitted exercise notebooks.")
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help="a notebook, or a folder of notebooks")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON")
    shape.add_argument("--csv", action="store_true", help="print one row a submission")
    words = "write the report there (.csv, .json or .txt), and a journal beside it"
    shape.add_argument("--report", type=_report, metavar="FILE", help=words)
    add("--exam", type=Path, metavar="DIR", help="grade the exam that lab.py exam wrote into DIR")
    add("--feedback", type=Path, metavar="DIR", help="write one page of feedback a submission there")
    add("--set", default="01", metavar="NN", help="the set of files whose name does not say it (default 01)")
    add("--seed", type=_natural, help="draw the instances from this number (default: from the system)")
    add(
        "--time",
        type=_positive,
        default=10.0,
        metavar="S",
        help="seconds for one cell or one check (default 10)",
    )
    add("--memory", type=_natural, default=2048, metavar="MB", help="memory of a submission (default 2048)")
    add("--jobs", type=_natural, default=1, metavar="N", help="submissions at a time (default 1)")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


def _natural(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number; expected 0, 1, 2, …")
    return int(text)


def _positive(text: str) -> float:
    try:
        if float(text) > 0:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a time; expected seconds above 0")


def _report(text: str) -> Path:
    if Path(text).suffix not in report.SHAPES:
        raise argparse.ArgumentTypeError(f"{text!r} ends in none of {', '.join(report.SHAPES)}")
    return Path(text)


def _notebooks(paths: list[Path]) -> Iterator[Path]:
    """The notebooks in folders, sorted; a link or a closed folder comes too, so that its fate is told."""
    for path in paths:
        yield from sorted(_inside(path)) if path.is_dir() and not path.is_symlink() else [path]


def _inside(top: Path) -> Iterator[Path]:
    closed: list[Path] = []
    for folder, folders, names in os.walk(top, onerror=lambda error: closed.append(Path(error.filename))):
        folders[:] = [name for name in folders if name != ".ipynb_checkpoints"]
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        yield from (Path(folder, name) for name in [*links, *names] if name in links or _is_notebook(name))
    yield from closed


def _is_notebook(name: str) -> bool:
    return name.lower().endswith(".ipynb")


if __name__ == "__main__":
    sys.exit(main())
