"""Grade submitted exercise notebooks, without nbgrader.

    python3 lab.py grade FILE…                a table, and feedback that a learner can read
    python3 lab.py grade FILE… --json         the same as JSON; --csv: one row a submission
    python3 lab.py grade FOLDER --feedback D  one page of feedback a submission, in the folder D

Points, tests and checks come from `solutions/` and `hesslab`, never from a submission. A submission runs in a
process of its own, with limits of time and memory, and another process judges it: see `judge.py`.
"""

import argparse
import csv
import json
import queue
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
JUDGE = Path(__file__).resolve().parent / "judge.py"
#: What is said once, where the system gives less than Linux does.
NO_LIMITS = "This system has no limits of memory and processes: a submission is limited in time only."
NO_WALLS = (
    "This system gives a submission no namespaces of its own: native code in one could read and write the "
    "files of this account. Grade submissions that you do not trust in a container."
)
#: A judge is given up when it has been silent for so many times the limit of one step.
PATIENCE = 20


@dataclass(frozen=True)
class Settings:
    """What a run of the grader is told: the set for files that name none, the seed, and the limits."""

    default_set: str = "01"
    seed: int | None = None
    seconds: float = 10.0
    megabytes: int = 2048
    jobs: int = 1


def grade(
    files: list[Path],
    settings: Settings | None = None,
    *,
    root: Path = ROOT,
    done: Callable[[dict[str, Any]], None] = lambda result: None,
) -> list[dict[str, Any]]:
    """The result of each file, in the order of `files`; `done` is called with each as it comes.

    Instances are drawn from `settings.seed`, or from the system's entropy where it is None: the same for all
    files of a run. `root` is the repository that holds `solutions/`. One bad file never stops the others.
    """
    settings = settings or Settings()
    seed = secrets.randbits(64) if settings.seed is None else settings.seed
    limits = {
        "seconds": settings.seconds,
        "memory": settings.megabytes * 2**20,
        "seed": seed,
        "root": str(root.resolve()),
        "handed_in": [str(path.resolve()) for path in files],
    }
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    results: list[dict[str, Any]] = [{} for _ in files]
    for number in range(len(files)):
        waiting.put(number)

    def work() -> None:
        judge = Judge(limits)
        for number in _until_empty(waiting):
            results[number] = {
                "submission": str(files[number]),
                **judge.grade(files[number], settings.default_set),
            }
            done(results[number])
        judge.close()

    jobs = max(1, min(settings.jobs, len(files)))
    threads = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


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
            self._write({"path": str(path.resolve()), "set": default})
            return dict(json.loads(self.process.stdout.readline()))
        except (OSError, ValueError):
            self.close()
            problem = "the process that judges was lost with this submission; it was not graded"
            return {"problem": problem, "exercises": [], "notes": [], "points": 0.0, "seconds": 0.0}
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


# --- what is shown ----------------------------------------------------------------------------------------


def page(result: dict[str, Any]) -> str:
    """The feedback of one submission, for the learner."""
    name = result["submission"]
    if "problem" in result:
        return f"{name}\n  Not graded: {result['problem']}.\n"
    lines = [f"{name}: {result['points']:g} of {result['max_points']:g} points ({result['set']})"]
    for exercise in result["exercises"]:
        lines += [f"  {_points(exercise):>9}  " + exercise["feedback"].replace("\n", "\n             ")]
    lines += [f"  note       {note}" for note in result["notes"]]
    return "\n".join(lines) + "\n"


def _points(exercise: dict[str, Any]) -> str:
    return f"{exercise['points']:g} of {exercise['max_points']:g}"


def write_table(results: list[dict[str, Any]], out: TextIO) -> None:
    """Feedback for each submission, then one line each."""
    for result in results:
        out.write(page(result) + "\n")
    for result in results:
        total = "not graded" if "problem" in result else f"{result['points']:g} of {result['max_points']:g}"
        out.write(f"{total:>12}  {result['submission']}\n")


def write_csv(results: list[dict[str, Any]], out: TextIO) -> None:
    """One row a submission: points, the points of each exercise, diagnoses and notes."""
    names = list(dict.fromkeys(e["name"] for result in results for e in result["exercises"]))
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["submission", "set", "points", "max_points", *names, "diagnoses", "notes"])
    for result in results:
        points = {e["name"]: e["points"] for e in result["exercises"]}
        diagnoses = " ".join(f"{e['name']}:{e['diagnosis']}" for e in result["exercises"] if e["diagnosis"])
        notes = result.get("problem") or "; ".join(result["notes"])
        row = [result["submission"], result.get("set", ""), result["points"], result.get("max_points", "")]
        rows.writerow([_harmless(v) for v in (*row, *(points.get(n, "") for n in names), diagnoses, notes)])


def _harmless(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    return "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


def write_json(results: list[dict[str, Any]], out: TextIO) -> None:
    """Everything."""
    json.dump(results, out, indent=1, ensure_ascii=False)
    out.write("\n")


def write_pages(results: list[dict[str, Any]], folder: Path) -> None:
    """One text file of feedback a submission."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, result in enumerate(results, start=1):
        name = f"{number:03d}_{Path(result['submission']).stem}.txt"
        (folder / name).write_text(page(result), encoding="utf8")


# --- the command ------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Grade what the command line names; 0 when every file could be graded, 1 otherwise."""
    options = _parser().parse_args(arguments)
    files = list(_notebooks(options.files))
    if not files:
        print(
            "There is no notebook to grade there; name .ipynb files, or folders that hold them.",
            file=sys.stderr,
        )
        return 2
    if sys.platform == "win32":
        print(NO_LIMITS, file=sys.stderr)
    settings = Settings(options.set, options.seed, options.time, options.memory, options.jobs)
    try:
        with tqdm(total=len(files), unit="submission", file=sys.stderr, disable=options.quiet) as bar:
            results = grade(files, settings, done=lambda result: bar.update())
    except KeyboardInterrupt:
        print("Stopped; no result was written.", file=sys.stderr)
        return 130
    if not all(result.get("walls", True) for result in results):
        print(NO_WALLS, file=sys.stderr)
    write = write_json if options.json else write_csv if options.csv else write_table
    write(results, sys.stdout)
    if options.feedback:
        write_pages(results, options.feedback)
    return int(any("problem" in result for result in results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab.py grade", description="Grade submitted exercise notebooks.")
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help="a notebook, or a folder of notebooks")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON")
    shape.add_argument("--csv", action="store_true", help="print one row a submission")
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


def _notebooks(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        inside = (
            sorted(p for p in path.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
            if path.is_dir()
            else []
        )
        yield from inside if path.is_dir() else [path]


if __name__ == "__main__":
    sys.exit(main())
