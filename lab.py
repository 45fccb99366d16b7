"""Set up the course, open it, test it. Needs Python 3.11 or newer and nothing else.

    python3 lab.py                  make .venv, install, open JupyterLab on the first lesson
    python3 lab.py test             install what the tests need and run every test

    python3 lab.py setup            only install
    python3 lab.py run [NN ...]     execute lessons without a browser; print the scoreboard of claims
    python3 lab.py check            are the built notebooks in step with their sources?
    python3 lab.py build [NN ...]   rebuild the notebooks of a lesson from authoring/
    python3 lab.py grade FILE ...   grade exercise notebooks
    python3 lab.py classroom DIR    write an nbgrader course directory
    python3 lab.py exam DIR         write an exam, drawn from the bank with --seed N
    python3 lab.py book             make the web book in docs/_build/html
    python3 lab.py bench            measure hesslab beside its peers
    python3 lab.py wheels [DIR]     put every package into DIR (default: wheels), for a room without network

Several processes, each with a shard of the data (the pattern is benchmarks/ranks.py):
    .venv/bin/python -m torch.distributed.run --standalone --nproc-per-node 2 SCRIPT

Options: lab --port N, lab --no-browser, test --all, test --changed "6 hours ago".
"""

import hashlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENV = Path(os.environ.get("HESSLAB_VENV", str(ROOT / ".venv")))
BIN = ENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
MARK = ENV / "hesslab.json"
LOG = ENV / "install.log"
WHEELS = ROOT / "wheels"  # where this folder exists, packages come from it alone
FIRST_PAGE = "lab/tree/lessons/00_start_here.ipynb"
SECOND_PROCESSOR = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}


class Problem(Exception):
    """One clear sentence for the person at the keyboard."""


# ---- set-up ------------------------------------------------------------


def setup(extra):
    """Make .venv hold what `extra` needs. Does nothing where it does already."""
    if sys.version_info < (3, 11):
        raise Problem(
            "The course needs Python 3.11 or newer; this is {}.{}.{}. Start it as python3.11 lab.py.".format(
                *sys.version_info[:3]
            )
        )
    done = read_mark()
    have = set(done["extras"])
    if done["inputs"] == inputs() and (extra in have or ("dev" in have and extra != "bench")):
        return
    if not done["extras"]:
        make_environment()
    extras = sorted({extra, *done["extras"]})
    print(f"Installing into {ENV}. The first time this takes a few minutes.", flush=True)
    settings = offline() if extras == ["lab"] else {}
    install_torch(settings)
    pip("-c", "constraints.txt", "-e", f".[{','.join(extras)}]", settings=settings)
    ask_no_questions()
    MARK.write_text(json.dumps({"home": home(), "inputs": inputs(), "extras": extras}), encoding="utf8")


def inputs():
    """The lists of packages, as a hash: another hash, and pip looks again."""
    texts = (
        (ROOT / name).read_bytes().replace(b"\r\n", b"\n") for name in ("pyproject.toml", "constraints.txt")
    )
    return hashlib.sha256(b"".join(texts)).hexdigest()


def home():
    """Where the environment belongs: a moved folder or another Python needs a new one."""
    return f"{ROOT}, Python {sys.version_info[0]}.{sys.version_info[1]}"


def read_mark():
    """What a finished installation left: the hash of its inputs and its extras; nothing where it is amiss."""
    try:
        done = json.loads(MARK.read_text(encoding="utf8"))
        whole = done["home"] == home() and PYTHON.exists()
        return (
            {"inputs": done["inputs"], "extras": list(done["extras"])}
            if whole
            else {"inputs": "", "extras": []}
        )
    except (OSError, ValueError, KeyError, TypeError):
        return {"inputs": "", "extras": []}


def make_environment():
    """A fresh .venv in place of none or of a half-made or moved one; never of somebody else's folder."""
    if ENV.exists() and any(ENV.iterdir()):
        if not (ENV / "pyvenv.cfg").exists():
            raise Problem(
                f"{ENV} is not a virtual environment and is left alone; move it away and start again."
            )
        print(f"{ENV} was left half-made or made elsewhere; it is made again.")
    try:
        venv.create(str(ENV), with_pip=True, clear=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Problem(
            f"Python could not make {ENV} ({error}). On Debian and Ubuntu: apt install python3-venv."
        ) from error


def ask_no_questions():
    """JupyterLab opens without asking about news and updates, for which it would need the network."""
    settings = ENV / "share" / "jupyter" / "lab" / "settings"
    settings.mkdir(parents=True, exist_ok=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    overrides = {"@jupyterlab/apputils-extension:notification": quiet}
    (settings / "overrides.json").write_text(json.dumps(overrides), encoding="utf8")


def install_torch(settings):
    """Install torch first, so that a machine without an NVIDIA driver does not fetch gigabytes of CUDA."""
    if not succeeds(PYTHON, "-c", "import torch"):
        fetch_torch("install", settings=settings)


def fetch_torch(*action, settings=None):
    """Let pip install or download the torch that the outputs were made with."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf8").split()
    pinned = next(line for line in lines if line.startswith("torch=="))
    pip_does = (PYTHON, "-m", "pip", *action)
    if succeeds(*pip_does, "--no-index", "--no-deps", pinned, settings=settings):
        return  # a wheel that pip's own configuration points to
    if sys.platform == "linux" and not shutil.which("nvidia-smi"):
        torch_index = "https://download.pytorch.org/whl/cpu"
        succeeds(*pip_does, "--index-url", torch_index, pinned, settings=settings)


def wheels(*arguments):
    """Every package that lab.py needs on a machine like this one, as files in a folder to carry around."""
    if len(arguments) > 1 or any(a.startswith("-") for a in arguments):
        raise Problem("lab.py wheels takes one folder, as in: python3 lab.py wheels wheels")
    folder = Path(arguments[0]).resolve() if arguments else WHEELS
    setup("lab")
    folder.mkdir(parents=True, exist_ok=True)
    fetch = ("download", "-d", str(folder), "--find-links", str(folder))
    fetch_torch(*fetch)
    if call(
        "pip", *fetch, "-q", "--disable-pip-version-check", "-c", "constraints.txt", ".[lab]", "setuptools"
    ):
        raise Problem(f"Not every package could be fetched into {folder}; start again with the same command.")
    for own in folder.glob("hesslab-*"):
        own.unlink()  # the course brings its own
    size = sum(p.stat().st_size for p in folder.iterdir()) / 1e6
    print(f"{len(list(folder.iterdir()))} packages, {size:.0f} MB, are in {folder}.")
    print("Copy the whole course with that folder, named wheels, beside lab.py: then python3 lab.py needs no")
    print(
        "network. It serves machines with this system and this version of Python; make it once for each kind."
    )
    return 0


def offline():
    """Settings for pip: where there is a folder of wheels, nothing else is asked."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(WHEELS)} if WHEELS.is_dir() else {}


def succeeds(*command, settings=None):
    """Say whether the command ends well; its output goes to the log of the installation."""
    with open(LOG, "a", encoding="utf8") as log:
        pipes = {"stdout": log, "stderr": log, "env": {**os.environ, **(settings or {})}}
        return subprocess.call([str(c) for c in command], cwd=ROOT, **pipes) == 0


def pip(*arguments, settings):
    """Install packages, with one moving line for its progress and its whole output in a log."""
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "encoding": "utf8"}
    tail = []
    with open(LOG, "a", encoding="utf8") as log:
        environ = {**os.environ, **settings}
        process = subprocess.Popen(command, cwd=ROOT, errors="replace", env=environ, **pipes)
        for line in process.stdout:
            log.write(line)
            tail = [*tail, line.strip()][-40:]
            if line.startswith(("Collecting", "Downloading", "Installing", "  Downloading", "Building")):
                status(line.strip())
        process.stdout.close()
        process.wait()
    status("")
    if process.returncode:
        errors = [line for line in tail if line.startswith("ERROR")] or tail[-1:]
        raise Problem(
            f"The packages could not be installed: {' '.join(errors)[:300]} Is there a network? "
            f"The whole log is {LOG}. Start again with the same command."
        )


def status(text):
    """Overwrite one line of a terminal; silent where there is none."""
    if sys.stdout.isatty():
        print("\r" + text[:78].ljust(78), end="" if text else "\r", flush=True)


# ---- commands ------------------------------------------------------------


def lab(*arguments):
    """JupyterLab on the first lesson."""
    port, browser = lab_options(list(arguments))
    require_free(port)
    setup("lab")
    token = secrets.token_urlsafe(24)
    command = [PYTHON, "-m", "jupyter", "lab", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    command += [
        f"--ServerApp.root_dir={ROOT}",
        f"--LabApp.default_url=/{FIRST_PAGE}",
        "--log-level=ERROR",
        "-y",
    ]
    command += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command += [] if browser else ["--no-browser"]
    server = subprocess.Popen([str(c) for c in command], cwd=ROOT, env=environment(JUPYTER_TOKEN=token))
    try:
        while server.poll() is None and not answers(port):
            time.sleep(0.1)
        if server.poll() is None:
            print(f"The course is at http://127.0.0.1:{port}/{FIRST_PAGE}?token={token}")
            print("Ctrl-C stops it.", flush=True)
        return server.wait()
    except KeyboardInterrupt:
        server.terminate()
        server.wait()
        print("\nStopped. Saved notebooks are as you left them.")
        return 0


def lab_options(arguments):
    """The port, and whether a browser is to be opened."""
    port, browser = 8888, browser_at_hand()
    while arguments:
        option = arguments.pop(0)
        if option == "--no-browser":
            browser = False
        elif option == "--port" and arguments and arguments[0].isdigit() and 0 < int(arguments[0]) < 65536:
            port = int(arguments.pop(0))
        else:
            raise Problem(f"lab.py lab takes --port N (1 to 65535) and --no-browser, not {option!r}.")
    return port, browser


def browser_at_hand():
    """Say whether there is a screen to show a browser on."""
    if sys.platform in ("win32", "darwin") or os.environ.get("BROWSER"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def answers(port):
    """Say whether something listens on this port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def require_free(port):
    """Refuse a port that something else listens on, and name one that is free."""
    if answers(port):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            other = free.getsockname()[1]
        raise Problem(f"Port {port} is in use. Stop what uses it, or: python3 lab.py lab --port {other}")


def test(*arguments):
    """Every test: style, types, notebooks in step, library, notebooks against their stored outputs."""
    everything, since, selected = test_options(list(arguments))
    setup("dev")
    if selected:
        return call("pytest", *selected)
    results = [("ruff", call("ruff", "check", "-q", "."))]
    results.append(("format", call("ruff", "format", "--check", "-q", ".")))
    results.append(("mypy", call("mypy")))
    results.append(("in step", script("authoring/build.py", "--check")))
    bank = ["--bank=all"] if everything else []
    library = ["--doctest-modules", "tests", "hesslab", *bank]
    results.append(("tests", call("pytest", "-q", *side_by_side(), *library)))
    results.append(("notebooks", nbval(built())))
    again = built() if everything else changed(since)
    if again:
        results.append(("notebooks, other CPU", nbval(again, **second_processor())))
    print("\n" + "\n".join(f"{name:22} {'FAILED' if code else 'ok'}" for name, code in results))
    return max(int(code != 0) for _, code in results)


def test_options(arguments):
    """Whether everything is wanted, since when notebooks count as changed, and arguments for pytest alone."""
    everything, since = "--all" in arguments, None
    arguments = [a for a in arguments if a != "--all"]
    if arguments[:1] == ["--changed"]:
        if len(arguments) < 2:
            raise Problem('lab.py test --changed needs a time, as in --changed "6 hours ago".')
        since, arguments = arguments[1], arguments[2:]
    return everything, since, arguments


def built():
    """The notebooks whose stored outputs are compared."""
    return sorted(
        str(p.relative_to(ROOT))
        for folder in ("lessons", "solutions")
        for p in (ROOT / folder).glob("*.ipynb")
    )


def changed(since):
    """Those that a commit since then touched, in a git checkout."""
    if since is None:
        return []
    log = ["git", "log", "--since", since, "--name-only", "--format=", "--", "lessons", "solutions"]
    touched = subprocess.run(log, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    return [name for name in built() if name.replace(os.sep, "/") in touched]


def side_by_side():
    """Options for as many tests at a time as there are processors, a file or a notebook to each."""
    return "-n", str(min(os.cpu_count() or 1, 8)), "--dist", "loadfile"


def second_processor():
    """Settings that make numerical libraries compute as on another, older CPU."""
    import platform

    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return dict(SECOND_PROCESSOR, **({"OPENBLAS_CORETYPE": "Nehalem"} if x86 else {}))


def nbval(notebooks, **settings):
    """Strict comparison of the notebooks with their stored outputs."""
    if not notebooks:
        return 0
    command = [
        "-q",
        *side_by_side(),
        "-W",
        "ignore",
        "--nbval",
        "--nbval-current-env",
        "--nbval-cell-timeout=120",
        "-p",
        "no:cacheprovider",
    ]
    return call("pytest", *command, *notebooks, **settings)


def run(*lessons):
    """Execute lessons without a browser; print the scoreboard of claims."""
    setup("lab")
    return script("authoring/run.py", *lessons)


def in_project(path, extra):
    """A command that is a script of the project."""

    def command(*arguments):
        setup(extra)
        return script(path, *arguments)

    return command


def bench(*arguments):
    """The benchmarks, in an environment of their own: what the peers need once broke the course."""
    if "HESSLAB_VENV" in os.environ:
        setup("bench")
        return script("benchmarks/run.py", *arguments)
    apart = dict(os.environ, HESSLAB_VENV=str(ROOT / ".venv-bench"))
    return subprocess.call([sys.executable, str(ROOT / "lab.py"), "bench", *arguments], env=apart)


def environment(**settings):
    """The environment of a command: the tools of .venv first, one thread unless asked otherwise."""
    path = str(BIN) + os.pathsep + os.environ.get("PATH", "")
    return {
        "OMP_NUM_THREADS": "1",
        **os.environ,
        "PATH": path,
        "VIRTUAL_ENV": str(ENV),
        "PYTHONUTF8": "1",
        **settings,
    }


def call(module, *arguments, **settings):
    """Run python -m module in the project's environment."""
    return subprocess.call([str(PYTHON), "-m", module, *arguments], cwd=ROOT, env=environment(**settings))


def script(path, *arguments):
    """A script of the project, run from where the user stands, so that relative paths mean what they say."""
    return subprocess.call([str(PYTHON), str(ROOT / path), *arguments], env=environment())


COMMANDS = {
    "lab": lab,
    "test": test,
    "setup": lambda: setup("lab"),
    "run": run,
    "check": in_project("authoring/build.py", "dev"),
    "build": in_project("authoring/build.py", "dev"),
    "grade": in_project("classroom/grade.py", "dev"),
    "classroom": in_project("classroom/export.py", "dev"),
    "exam": in_project("classroom/exam.py", "dev"),
    "book": in_project("authoring/book.py", "book"),
    "bench": bench,
    "wheels": wheels,
}


def main(arguments):
    """Run one command; a problem is one sentence and a non-zero exit."""
    name, *rest = arguments or ["lab"]
    if name in ("-h", "--help", "help"):
        print(__doc__)
        return 0
    if name.startswith("--"):
        name, rest = "lab", [name, *rest]
    if name not in COMMANDS:
        print(f"lab.py knows no command {name!r}; it knows {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    try:
        return COMMANDS[name](*(["--check", *rest] if name == "check" else rest)) or 0
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. python3 lab.py goes on from here.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
