"""What a run of the grader has done, kept line by line, so that the same command goes on where it stopped.

The first line holds the seed, each other line a key and the result of one submission. A key is a hash of all
that a result depends on: the submission's place and bytes, the checks, the seed and the limits. So a changed
submission has no result yet, and a result is never counted for another. Lines are only ever appended; one
that was cut short by a crash is passed over.
"""

import contextlib
import hashlib
import json
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

with contextlib.suppress(ImportError):  # Windows has none: there nothing holds two runs apart
    import fcntl

TITLE = "lab.py grade, journal 1"


class Refused(Exception):
    """The journal cannot be used; the message is a sentence."""


@dataclass
class Journal:
    """The results kept so far, by key, and the file to which `add` appends (`handle` −1: there is none)."""

    seed: int
    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    handle: int = -1
    lock: Any = field(default_factory=threading.Lock)

    def add(self, key: str, result: dict[str, Any]) -> None:
        """Keep one result: on disk when this returns."""
        self.known[key] = result
        if self.handle >= 0:
            with self.lock:
                _append(self.handle, {"key": key, "result": result})

    def close(self) -> None:
        """Close the file."""
        if self.handle >= 0:
            os.close(self.handle)
        self.handle = -1


def open_journal(path: Path, seed: int) -> Journal:
    """The journal at `path`, begun with `seed` where there is none. Raises `Refused` for any other file."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise Refused(f"the journal {path} cannot be written: {error.strerror or error}") from None
    try:
        _hold(handle, path)
        text = _read(handle)
        if not text:
            _append(handle, {"journal": TITLE, "seed": str(seed)})
            return Journal(seed, {}, handle)
        lines = [_line(line) for line in text.split(b"\n")]
        if lines[0].get("journal") != TITLE or not str(lines[0].get("seed")).isdigit():
            raise Refused(
                f"{path} is no journal of lab.py grade; name another report, or move that file away"
            )
        if not text.endswith(b"\n"):
            os.write(handle, b"\n")  # the last line was cut short
        kept = {str(line["key"]): line["result"] for line in lines if {"key", "result"} <= set(line)}
        return Journal(int(lines[0]["seed"]), kept, handle)
    except BaseException:
        os.close(handle)
        raise


def _hold(handle: int, path: Path) -> None:
    """Keep a second run off this journal until this process ends."""
    if "fcntl" in globals():
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refused(f"another run is writing {path}; wait for it, or name another report") from None


def _read(handle: int) -> bytes:
    os.lseek(handle, 0, os.SEEK_SET)
    with os.fdopen(os.dup(handle), "rb") as file:
        return file.read()


def _append(handle: int, line: dict[str, Any]) -> None:
    os.write(handle, (json.dumps(line) + "\n").encode())
    os.fsync(handle)


def _line(line: bytes) -> dict[str, Any]:
    """The table of one line; an empty one where the line is none."""
    try:
        table = json.loads(line)
        return table if isinstance(table, dict) else {}
    except ValueError:
        return {}


# --- keys -------------------------------------------------------------------------------------------------


def checks_of(root: Path, exam: Path | None) -> str:
    """A hash of what judges: the solutions, the library, the grader, and the exam where there is one."""
    patterns = ("solutions/*.ipynb", "hesslab/**/*.py", "classroom/*.py")
    files = [path for pattern in patterns for path in root.glob(pattern)]
    files += [] if exam is None else [exam / "exam_checks.py", exam / "source" / "exam" / "exam.ipynb"]
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(f"{path}\0".encode(errors="surrogateescape") + path.read_bytes())
    return total.hexdigest()


def key_of(path: Path, digest: str, *rest: Any) -> str:
    """The key of a submission with the hash `digest`, judged under the conditions `rest`."""
    return hashlib.sha256(json.dumps([str(path), digest, *map(str, rest)]).encode()).hexdigest()
