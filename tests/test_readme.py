"""What the README shows is what happens."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat

from authoring import build, manifest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf8")


def code_blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_is_short():
    assert len(README.splitlines()) <= 110


def test_first_block_prints_the_number_and_error_it_promises():
    code = code_blocks("python")[0]
    promised = code.strip().splitlines()[-1].removeprefix("# ")
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip().splitlines()[-1] == promised
    assert re.search(r"\d ± \d|±", promised)


def test_first_block_stands_early():
    assert README[: README.index("```python")].count("\n") < 30


def test_the_two_commands_are_lab_and_test():
    commands = "\n".join(code_blocks("(?:sh|bash|console)"))
    assert "python3 lab.py\n" in commands
    assert "python3 lab.py test" in commands


def test_the_audit_runs_and_gives_its_verdict():
    code = next(block for block in code_blocks("python") if "audit" in block)
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "sharpness / threshold" in shown.stdout
    assert "of the threshold of SGD at its present rate" in shown.stdout


def test_the_figure_is_the_one_that_the_lesson_draws():
    path = ROOT / "lessons" / f"{build.SHOWN}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    assert (ROOT / "docs" / "shown.png").read_bytes() == build.first_figure(notebook)
    alt = re.search(r"!\[([^]]+)\]\(docs/shown\.png\)", README)[1]
    assert alt in path.read_text(encoding="utf8")


def test_the_head_of_the_scoreboard_is_that_of_the_course():
    course = manifest.read(ROOT)
    rows = re.findall(r"^\| (\d\S*) \| \"([^\"]+)\" \| ([a-z ]+) \|$", README, re.MULTILINE)
    assert len(rows) >= 4
    for claim, words, verdict in rows:
        assert verdict == course.claims[claim].verdict
        said = re.findall(r"[a-z]{4,}", course.claims[claim].words.lower())
        assert set(re.findall(r"[a-z]{4,}", words.lower().replace("λmax", "").replace("λmin", ""))) <= set(
            said
        )


def test_the_tracks_are_those_of_the_course():
    course = manifest.read(ROOT)
    hours = next(track["hours_a_week"] for track in course.tracks if "hours_a_week" in track)
    weeks = next(len(track["weeks"]) for track in course.tracks if "weeks" in track)
    assert f"Alone at {hours} hours a week, in a class of {weeks} weeks" in README
