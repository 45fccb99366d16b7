"""Starting, asking and ending the processes that run learners' code, as the judge sees them."""

import contextlib
import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wire import Lost, Peer, operate

WORKER = Path(__file__).resolve().parent / "worker.py"
FORKS = hasattr(os, "fork") and hasattr(socket, "send_fds")


@dataclass(frozen=True)
class Limits:
    """`seconds` for one cell or one check, `memory` in bytes, `seed` from which every instance is drawn."""

    seconds: float
    memory: int
    seed: int


@dataclass
class Link:
    """A worker: how to ask it (`peer`), how to end it (`end`), and until when it may answer (`deadline`).

    `walls` says whether the system itself keeps it from the files of this account.
    """

    peer: Peer = field(init=False)
    end: Callable[[], int] = field(init=False)
    deadline: float = math.inf
    late: bool = False
    walls: bool = False

    def connect(self, receive: Callable[[int], bytes], send: Callable[[bytes], None]) -> None:
        """Speak over these two functions; what was given away answers when the worker calls it."""
        self.peer = Peer(receive, send, lambda *question: operate(self.peer, *question), trusting=False)

    def ask(self, seconds: float, operation: str, *operands: Any) -> Any:
        """The answer to one question, within `seconds`; `Lost` otherwise."""
        self.deadline, self.late = time.monotonic() + seconds, False
        return self.peer.ask(operation, *operands)

    def left(self) -> float:
        """Seconds until the deadline; `Lost` when there are none."""
        if (seconds := self.deadline - time.monotonic()) <= 0:
            self.late = True
            raise Lost("it took too long")
        return min(seconds, 1e6)


@dataclass
class Nursery:
    """The process that forks workers for one set of exercises; where nothing forks, each is started anew."""

    modules: tuple[str, ...]
    closed: tuple[str, ...]
    process: Any = None
    control: Any = None
    number: int = 0

    def start(self, folder: str, limits: Limits, cpu: int) -> Link:
        """A fresh worker in the empty `folder`."""
        self.number += 1
        order = {
            "folder": folder,
            "memory": limits.memory,
            "seconds": cpu,
            "number": os.getpid() * 37 + self.number,
        }
        order |= {"closed": self.closed, "uid": 0}
        return self._forked(order) if FORKS else _spawned(order)

    def _forked(self, order: dict[str, Any]) -> Link:
        if self.process is None or self.process.poll() is not None:
            self._open()
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self.control, [json.dumps(order).encode()], [theirs.fileno()])
        pid, walls = json.loads(self._reply())
        link = Link(walls=walls)
        link.connect(lambda size: _receive(ours, size, link), lambda data: _send(ours, data, link))
        link.end = lambda: (ours.close(), self._end(pid))[1]
        return link

    def _end(self, pid: int) -> int:
        try:
            self.control.sendall(json.dumps({"end": pid}).encode())
            return int(self._reply())
        except (Lost, OSError):
            return 0  # the nursery itself is gone, and its workers with it

    def _reply(self) -> bytes:
        self.control.settimeout(300)  # the first reply waits for the imports, on a busy machine for minutes
        if not (data := self.control.recv(100)):
            raise Lost("the process that starts workers is gone")
        return data

    def _open(self) -> None:
        self.close()
        self.control, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-I", str(WORKER), "--nursery", *self.modules]
            self.process = subprocess.Popen(
                command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=_clean(), start_new_session=True, cwd=os.sep,
            )  # fmt: skip

    def close(self) -> None:
        """End the nursery and every worker."""
        if self.process is not None:
            self.control.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
            self.process.kill()
            self.process.wait()


def _receive(ours: socket.socket, size: int, link: Link) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        ours.settimeout(link.left())
        with contextlib.suppress(TimeoutError):
            parts += _some(ours, min(size - len(parts), 1 << 20))
    return bytes(parts)


def _some(ours: socket.socket, size: int) -> bytes:
    if not (part := _quietly(lambda: ours.recv(size))):
        raise Lost("it ended")
    return bytes(part)


def _send(ours: socket.socket, data: bytes, link: Link) -> None:
    ours.settimeout(link.left())
    with contextlib.suppress(TimeoutError):
        _quietly(lambda: ours.sendall(data))
        return
    link.left()


def _quietly(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except (ConnectionError, BrokenPipeError):
        raise Lost("it ended") from None


def _spawned(order: dict[str, Any]) -> Link:
    """A worker where processes cannot fork (Windows): a pipe each way, and a timer that ends it."""
    process = subprocess.Popen(
        [sys.executable, "-I", str(WORKER), json.dumps(order)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, env=_clean(), cwd=order["folder"],
    )  # fmt: skip
    link = Link()

    def receive(size: int) -> bytes:
        timer = threading.Timer(link.left(), process.kill)
        timer.start()
        data = process.stdout.read(size)
        timer.cancel()
        if len(data) < size:
            link.left()
            raise Lost("it ended")
        return data

    def send(data: bytes) -> None:
        _quietly(lambda: (process.stdin.write(data), process.stdin.flush()))

    link.connect(receive, send)
    link.end = lambda: (process.kill(), process.communicate(), 0)[2]
    return link


def _clean() -> dict[str, str]:
    """The environment of a worker: what Python needs to start, one thread, and nothing of the teacher's."""
    needed = {k: v for k, v in os.environ.items() if k in ("SYSTEMROOT", "LD_LIBRARY_PATH")}
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM")}
    return {
        **needed,
        **threads,
        "PYTHONUTF8": "1",
        "MPLBACKEND": "Agg",
        "LANG": "C.UTF-8",
        "PATH": os.defpath,
    }
