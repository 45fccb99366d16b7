"""The process that runs a learner's code: limited, alone in an empty folder, and of no say in the points.

`python -I worker.py` serves one submission over its standard input and output. Where processes can fork,
`python -I worker.py --nursery MODULE…` imports once what the assignment imports and forks a fresh worker for
each submission; it runs no learner's code itself.
"""

import contextlib
import ctypes
import importlib
import json
import os
import signal
import socket
import sys
import time
import types
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from wire import Lost, Peer, operate

del sys.path[0]  # an answer imports no part of the grader by accident

with contextlib.suppress(ImportError):
    import resource

ROOT = Path(__file__).resolve().parents[1]
#: Processes and threads that one submission may have, and the largest file it may write.
PROCESSES, LARGEST_FILE = 64, 16 * 2**20
FIRST_UID, UIDS = 40_000, 20_000
#: Linux's numbers for namespaces, mounts and process attributes.
NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE, MOUNT_SETATTR, PDEATHSIG, SUBREAPER = 4096, 16384, 1 << 18, 442, 1, 36


# --- running cells and answering -------------------------------------------------------------------------


def serve(receive: Any, send: Any, order: dict[str, Any]) -> None:
    """Run the cells and call the functions that the judge asks for, until it closes the connection."""
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    main.__dict__.update(display=lambda *args, **kwargs: None, get_ipython=lambda: None)
    peer = Peer(receive, send, lambda *question: _answer(peer, main.__dict__, *question), trusting=True)
    fence(order)
    peer.serve()


def _answer(peer: Peer, names: dict[str, Any], operation: str, *operands: Any) -> Any:
    if operation == "run":
        source, title = operands
        exec(compile(source, title, "exec"), names)
        return None
    if operation == "defined":
        return callable(names.get(operands[0]))
    if operation == "answer":
        name, args, kwargs = operands
        return names[name](*args, **kwargs)
    if operation == "forget":
        return peer.given.clear()
    return operate(peer, operation, *operands)


# --- walls: what the system enforces ----------------------------------------------------------------------


def confine(order: dict[str, Any]) -> None:
    """Put this process under the limits of `order`: memory (bytes), seconds of processor time, folder, user.

    On Linux it also gets, where the system allows it: a view of the disk in which all but its folder is
    read-only and what is `closed` is empty, no network, no shared memory, and no sight of other processes.
    """
    folder = order["folder"]
    os.environ.update(HOME=folder, TMPDIR=folder, MPLCONFIGDIR=folder)
    if sys.platform == "linux":
        threads = 0 if order["uid"] else _threads_of(os.getuid())
        _wall_off(order)
        _become(order["uid"])
        _limit("RLIMIT_NPROC", PROCESSES + threads)
    os.chdir(folder)
    _limit("RLIMIT_CORE", 0)
    _limit("RLIMIT_AS", order["memory"] + _in_use())
    _limit("RLIMIT_CPU", order["seconds"])
    _limit("RLIMIT_FSIZE", LARGEST_FILE)
    _limit("RLIMIT_NOFILE", 256)


def _wall_off(order: dict[str, Any]) -> None:
    """Namespaces of one's own; what a container refuses stays as it was, and the fence below remains."""
    libc, uid, gid = ctypes.CDLL(None), os.getuid(), os.getgid()
    if libc.unshare(_worlds(uid)):
        return
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    if child := os.fork():  # the child is the first process of its own world; when it ends, all in it end
        os.closerange(3, 4)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
    libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    libc.mount(b"proc", b"/proc", b"proc", 0, None)
    for path in order["closed"]:
        if os.path.isdir(path):
            libc.mount(b"none", os.fsencode(path), b"tmpfs", 0, None)
        else:
            libc.mount(b"/dev/null", os.fsencode(path), None, MS_BIND, None)
    libc.mount(b"none", os.fsencode(order["folder"]), b"tmpfs", 0, b"size=64m,mode=777,nr_inodes=4096")
    read_only, writable = (ctypes.c_uint64 * 4)(1, 0, 0, 0), (ctypes.c_uint64 * 4)(0, 1, 0, 0)
    libc.syscall(MOUNT_SETATTR, -100, b"/", 0x8000, ctypes.byref(read_only), 32)
    libc.syscall(MOUNT_SETATTR, -100, os.fsencode(order["folder"]), 0, ctypes.byref(writable), 32)
    if not order["uid"]:
        libc.unshare(NEWUSER)  # gives up the rights by which all this could be undone


def _worlds(uid: int) -> int:
    """Which namespaces: of the disk, shared memory, processes, the network, and for a plain user of users."""
    return NEWNS | NEWIPC | NEWNET | NEWPID | (NEWUSER if uid else 0)


def _become(uid: int) -> None:
    """Another user, if this one is root; and an end together with the nursery."""
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    ctypes.CDLL(None).prctl(PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _limit(name: str, value: int) -> None:
    with contextlib.suppress(ValueError, OSError):  # a lower hard limit stays
        resource.setrlimit(getattr(resource, name), (value, value))


def _in_use() -> int:
    """Bytes of address space that the libraries have taken before the answer begins."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    return 0


def _threads_of(uid: int) -> int:
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            total += len(os.listdir(folder / "task")) if folder.stat().st_uid == uid else 0
    return total


# --- the fence: what Python refuses -----------------------------------------------------------------------


def fence(order: dict[str, Any]) -> None:
    """Refuse, with a sentence, what no answer needs: other people's files, processes, signals, the network.

    An audit hook cannot be taken off by Python code. Native code passes it by: a fence, not a wall.
    """
    sys.dont_write_bytecode = True
    own, closed = order["folder"] + os.sep, tuple(path + os.sep for path in order["closed"])
    realpath, fsdecode, separator = os.path.realpath, os.fsdecode, os.sep

    def look(path: Any, writes: bool) -> None:
        real = path if isinstance(path, int) else realpath(fsdecode(path)) + separator
        if isinstance(real, int) or real.startswith(own) or real == "/dev/null/":
            return
        if writes:
            raise PermissionError("an answer writes only into its own folder")
        if real.startswith(closed) or (real.startswith("/proc/") and real[6].isdigit()):
            raise PermissionError("an answer reads no solutions, no tests and no other processes")

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            look(args[0], bool(args[2] & WRITING))
        elif event in LISTING:
            look(args[0] or ".", False)
        elif event in CHANGING:
            for path in args[: CHANGING[event]]:
                look(path, True)
        elif event.startswith(STARTING):
            raise PermissionError("an answer starts no processes")
        elif event in SIGNALLING:
            raise PermissionError("an answer sends no signals")
        elif event.startswith(CONNECTING):
            raise PermissionError("an answer uses no network")

    sys.addaudithook(hook)


WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
LISTING = ("os.listdir", "os.scandir", "os.chdir")
CHANGING = {
    "os.rename": 2, "os.link": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.chmod": 1, "os.chown": 1,
    "os.truncate": 1, "os.utime": 1, "os.setxattr": 1, "os.symlink": 2, "sqlite3.connect": 1,
}  # fmt: skip
STARTING = (
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "subprocess.",
    "pty.",
)
SIGNALLING = ("os.kill", "os.killpg", "signal.pthread_kill")
CONNECTING = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "socket.sendmsg")


# --- the nursery ------------------------------------------------------------------------------------------


def nursery(control: socket.socket, modules: list[str]) -> None:
    """Import `modules` once; then fork a worker for each order of the judge, and end it when told."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0) if sys.platform == "linux" else None
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    spare, walls = _succeeds(_becomes_another), _succeeds(_walls_stand)
    while order := _received(control):
        if "folder" in order:
            order["uid"] = FIRST_UID + int(order["number"]) % UIDS if spare else 0
            control.sendall(json.dumps([_fork(control, order), walls or bool(order["uid"])]).encode())
        else:
            control.sendall(json.dumps(_end(order["end"])).encode())
    _end(0)


def _received(control: socket.socket) -> Any:
    data, handles, _, _ = socket.recv_fds(control, 65536, 1)
    return {**json.loads(data), "handle": handles[0] if handles else None} if data else None


def _fork(control: socket.socket, order: dict[str, Any]) -> int:
    if order["uid"]:
        os.chown(order["folder"], order["uid"], order["uid"])
    if pid := os.fork():
        os.close(order["handle"])
        return pid
    try:
        os.setsid()
        live_alone(order)
    finally:
        os._exit(0)


def live_alone(order: dict[str, Any]) -> None:
    """In the forked worker: keep one connection and nothing else of the nursery, then serve."""
    os.dup2(order["handle"], 3)
    null = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(null, handle)
    os.closerange(4, 4096)
    judge = socket.socket(fileno=3)
    confine(order)
    with contextlib.suppress(Lost, OSError):
        serve(lambda size: exactly(judge.recv, size), judge.sendall, order)


def exactly(read: Any, size: int) -> bytes:
    """`size` bytes from `read(n)`, which may give fewer at a time; `Lost` where the other side is gone."""
    parts = bytearray()
    while len(parts) < size:
        if not (part := read(min(size - len(parts), 1 << 20))):
            raise Lost("it is gone")
        parts += part
    return bytes(parts)


def _succeeds(act: Any) -> bool:
    """Whether `act()` is true, tried in a process that ends with it."""
    if not (pid := os.fork()):
        with contextlib.suppress(BaseException):
            os._exit(0 if act() else 1)
        os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def _becomes_another() -> bool:
    """Whether this is root, and another user could still read the library and Python's own files."""
    if os.geteuid() != 0:
        return False
    _become(FIRST_UID)
    return all(os.access(path, os.R_OK | os.X_OK) for path in (ROOT, sys.prefix, *sys.path[1:]))


def _walls_stand() -> bool:
    """Whether this system gives a process a disk, a network and a list of processes of its own."""
    return sys.platform == "linux" and ctypes.CDLL(None).unshare(_worlds(os.getuid())) == 0


def _end(pid: int) -> int:
    """Kill a worker with all it started; return its exit status, for a signal the number negative."""
    status = None
    with contextlib.suppress(ChildProcessError):
        done, how = os.waitpid(pid, os.WNOHANG) if pid else (0, 0)
        status = os.waitstatus_to_exitcode(how) if done else None
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL) if pid else None
    with contextlib.suppress(ChildProcessError):
        for _ in range(1000):  # orphans come to this process, the nearest reaper, and are ended too
            for child in _children():
                with contextlib.suppress(OSError):
                    os.kill(child, signal.SIGKILL)
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.002)
    return (status or 0) - (256 if (status or 0) > 128 else 0)  # the outer process says 247 for −9


def _children() -> list[int]:
    with contextlib.suppress(OSError):
        return [
            int(pid)
            for task in Path("/proc/self/task").iterdir()
            for pid in (task / "children").read_text().split()
        ]
    return []


if __name__ == "__main__":
    if sys.argv[1] == "--nursery":
        nursery(socket.socket(fileno=0), sys.argv[2:])
    else:
        source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        with contextlib.suppress(Lost, OSError):
            serve(lambda size: exactly(source.read, size), sink.write, json.loads(sys.argv[1]))
