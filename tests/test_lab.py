"""lab.py as a person meets it: a way to go wrong is a sentence, a non-zero exit, and nothing left broken."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import lab  # noqa: E402

OFFLINE = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_FIND_LINKS": "",
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_RETRIES": "0",
    "PIP_DEFAULT_TIMEOUT": "2",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
}


def start(*arguments, **settings):
    environment = {**os.environ, **{k: str(v) for k, v in settings.items()}}
    command = [sys.executable, str(ROOT / "lab.py"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False, timeout=300
    )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_unknown_command_is_a_sentence():
    done = start("frobnicate")
    assert done.returncode == 2
    assert done.stderr.startswith("lab.py knows no command 'frobnicate'; it knows lab, test")
    assert "Traceback" not in done.stderr


def test_help_names_every_command():
    done = start("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in lab.COMMANDS)


def test_old_python_is_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(lab.sys, "version_info", (3, 9, 1))
    assert lab.main(["setup"]) == 1
    assert capsys.readouterr().err.startswith("The course needs Python 3.11 or newer; this is 3.9.1.")


def test_no_network_is_a_sentence_and_the_next_start_begins_again(tmp_path):
    environment = tmp_path / "venv"
    done = start("setup", HESSLAB_VENV=environment, **OFFLINE)
    assert done.returncode == 1
    assert "could not be installed" in done.stderr
    assert "Is there a network?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (environment / "hesslab.json").exists()
    again = start("setup", HESSLAB_VENV=environment, **OFFLINE)
    assert "was left half-made or made elsewhere; it is made again" in again.stdout


def test_a_folder_that_is_not_an_environment_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    done = start("setup", HESSLAB_VENV=tmp_path)
    assert done.returncode == 1
    assert "is not a virtual environment and is left alone" in done.stderr
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_mark_that_is_not_ours_does_not_count(tmp_path, monkeypatch):
    nothing = {"inputs": "", "extras": []}
    monkeypatch.setattr(lab, "MARK", tmp_path / "mark.json")
    assert lab.read_mark() == nothing
    lab.MARK.write_text('{"home": "elsewhere", "inputs": "", "extras": ["dev"]}')
    assert lab.read_mark() == nothing
    for half in ('{"home": "half a fi', "[]", '{"extras": 3}'):
        lab.MARK.write_text(half)
        assert lab.read_mark() == nothing


def test_a_port_in_use_is_a_sentence_that_names_a_free_one():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = start("lab", "--port", str(port))
    assert done.returncode == 1
    assert done.stderr.startswith(f"Port {port} is in use. Stop what uses it, or: python3 lab.py lab --port ")


@pytest.mark.parametrize("arguments", [["lab", "--port", "http"], ["lab", "--fast"], ["test", "--changed"]])
def test_wrong_options_are_sentences(arguments):
    done = start(*arguments)
    assert done.returncode == 1
    assert "lab.py" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_start_costs_less_than_a_second():
    lab.setup("lab")
    begun = time.process_time()
    lab.setup("lab")
    assert time.process_time() - begun < 1.0


def test_jupyterlab_opens_on_the_first_lesson():
    """The real server, as root or not, without a browser: the printed address answers with the lesson."""
    port = free_port()
    command = [sys.executable, str(ROOT / "lab.py"), "lab", "--no-browser", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    try:
        line = next(line for line in server.stdout if "http://" in line)
        address = line.split()[-1]
        assert f"127.0.0.1:{port}/lab/tree/lessons/00_start_here.ipynb?token=" in address
        with urllib.request.urlopen(address, timeout=60) as page:
            assert page.status == 200
            assert "JupyterLab" in page.read().decode()
        contents = address.replace("lab/tree", "api/contents")
        with urllib.request.urlopen(contents, timeout=60) as notebook:
            assert notebook.status == 200
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(contents.split("?")[0], timeout=60)
    finally:
        server.send_signal(2)
        server.wait(timeout=60)
        server.stdout.close()


# ---------------------------------------------------------------------------------- without network

BEYOND_LAB = (
    "jupytext",
    "nbgrader",
    "nbval",
    "pytest",
    "sphinx",
    "pybtex",
    "playwright",
    "ruff",
    "transformers",
)


def test_lessons_run_with_what_lab_installs():
    """Once `lab.py run` needed jupytext, which a learner does not have."""
    hidden = "; ".join(f"sys.modules[{name!r}] = None" for name in BEYOND_LAB)
    code = f"import sys; {hidden}; from authoring import run"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_wheels_are_fetched_for_what_a_learner_needs(monkeypatch, tmp_path, capsys):
    calls = []

    def call(module, *arguments, **settings):
        calls.append((module, arguments))
        for name in ("torch-2.whl", "hesslab-0.1.whl"):
            (tmp_path / "w" / name).write_bytes(b"x" * 1000)
        return 0

    monkeypatch.setattr(lab, "setup", lambda extra: None)
    monkeypatch.setattr(lab, "succeeds", lambda *command, **settings: calls.append(command) or True)
    monkeypatch.setattr(lab, "call", call)
    assert lab.main(["wheels", str(tmp_path / "w")]) == 0
    assert "1 packages" in capsys.readouterr().out
    assert [p.name for p in (tmp_path / "w").iterdir()] == [
        "torch-2.whl"
    ]  # the course brings its own hesslab
    module, arguments = calls[-1]
    assert module == "pip"
    assert arguments[0] == "download"
    assert {".[lab]", "setuptools", "constraints.txt"} <= set(arguments)


def test_wheels_that_cannot_be_fetched_are_a_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(lab, "setup", lambda extra: None)
    monkeypatch.setattr(lab, "succeeds", lambda *command, **settings: True)
    monkeypatch.setattr(lab, "call", lambda *arguments, **settings: 1)
    assert lab.main(["wheels", str(tmp_path / "w")]) == 1
    assert "Not every package could be fetched into" in capsys.readouterr().err
    assert lab.main(["wheels", "--all"]) == 1
    assert "lab.py wheels takes one folder" in capsys.readouterr().err


def test_a_folder_of_wheels_is_all_that_a_learners_set_up_asks(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(lab, "WHEELS", tmp_path / "wheels")
    monkeypatch.setattr(lab, "MARK", tmp_path / "mark.json")
    for name in ("make_environment", "ask_no_questions"):
        monkeypatch.setattr(lab, name, lambda: None)
    monkeypatch.setattr(lab, "install_torch", lambda settings: asked.append(settings))
    monkeypatch.setattr(lab, "pip", lambda *arguments, settings: asked.append(settings))
    lab.setup("lab")
    assert asked == [{}, {}]
    (tmp_path / "wheels").mkdir()
    (tmp_path / "mark.json").unlink()
    lab.setup("lab")
    assert asked[2:] == [{"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")}] * 2
    lab.setup("dev")
    assert asked[4:] == [{}, {}]  # the tests need more than the folder holds
