"""A run of the grader that is interrupted goes on where it was: nothing is lost, nothing is graded twice."""

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from first_set import FIRST, MAX, RIGHT, STEM
from submissions import (
    ROOT,
    code_cell,
    exercises_of,
    grader,
    journal,
    learners_copy,
    with_answers,
    write,
)


def _class(folder, count):
    """So many submissions, each its own file; every second one lacks the first answer."""
    for number in range(count):
        answers = {name: code for name, code in RIGHT.items() if number % 2 == 0 or name != FIRST}
        notebook = with_answers(learners_copy(STEM), answers)
        notebook["cells"].append(code_cell(f"student = {number}"))
        write(notebook, folder / f"student{number:02d}.ipynb")
    return folder


def _main(*arguments):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = grader.main([*map(str, arguments), "--quiet"])
    return code, out.getvalue(), err.getvalue()


def _lines(path):
    """The lines of a journal that can be read, the first one left out."""
    lines = []
    for line in path.read_bytes().split(b"\n")[1:]:
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    return lines


def _rows(path):
    with path.open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file))


def _interrupted(folder, report, how, after):
    """Start the command, stop it by the signal `how` once it has kept `after` results; its exit status."""
    kept = report.with_name(report.name + ".journal")
    command = [sys.executable, str(ROOT / "classroom" / "grade.py"), str(folder), "--report", str(report)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if kept.exists() and kept.read_bytes().count(b"\n") > after:
            break
        time.sleep(0.005)
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_run_that_is_stopped_goes_on(tmp_path, how):
    folder, report = _class(tmp_path / "class", 8), tmp_path / "marks.csv"
    kept = tmp_path / "marks.csv.journal"
    code, said = _interrupted(folder, report, how, 2)
    assert code == (-9 if how == signal.SIGKILL else 130)
    assert how == signal.SIGKILL or "is kept in" in said
    assert not report.exists()
    before, done = kept.read_bytes(), _lines(kept)
    assert 2 <= len(done) < 8, "the run was to be stopped in its middle"
    assert _main(folder, "--report", report)[0] == 0
    assert kept.read_bytes().startswith(before)  # only ever appended to
    places = [line["result"]["sha256"] for line in _lines(kept)]
    assert len(places) == len(set(places)) == 8  # none lost, none twice
    rows = _rows(report)
    assert [row["submission"] for row in rows] == [str(path) for path in sorted(folder.iterdir())]
    lost = exercises_of(STEM)[0].points
    assert [float(row["points"]) for row in rows] == [MAX, MAX - lost] * 4


def test_only_what_has_changed_is_graded_again(tmp_path, monkeypatch):
    folder, report = _class(tmp_path / "class", 3), tmp_path / "marks.json"
    kept, command = tmp_path / "marks.json.journal", ("--report", tmp_path / "marks.json")

    def graded_by(*arguments):
        before = len(_lines(kept)) if kept.exists() else 0
        _main(folder, *command, *arguments)
        return len(_lines(kept)) - before

    assert graded_by() == 3
    assert graded_by() == 0
    write((folder / "student00.ipynb").read_text(encoding="utf8"), folder / "copy.ipynb")
    assert graded_by() == 1  # another place is another submission, whatever it holds
    copies = [r for r in json.loads(report.read_text(encoding="utf8")) if "byte for byte" in str(r["notes"])]
    assert [r["submission"] for r in copies] == [str(folder / "student00.ipynb")]
    write(with_answers(learners_copy(STEM), {}), folder / "student01.ipynb")
    assert graded_by() == 1
    points = {r["submission"][-8:-6]: r["points"] for r in json.loads(report.read_text(encoding="utf8"))}
    assert points["01"] == 0
    assert graded_by("--time", "9") == 4  # what depends on a limit is judged under that limit
    monkeypatch.setattr(grader, "checks_of", lambda root, exam: "other checks")
    assert graded_by() == 4


def test_a_line_that_was_cut_short_is_graded_again(tmp_path):
    folder, report = _class(tmp_path / "class", 2), tmp_path / "marks.txt"
    kept = tmp_path / "marks.txt.journal"
    assert _main(folder, "--report", report)[0] == 0
    whole, first = kept.read_bytes(), report.read_text(encoding="utf8")
    kept.write_bytes(whole[:-40])
    assert _main(folder, "--report", report)[0] == 0
    assert report.read_text(encoding="utf8") == first
    lines = kept.read_bytes().split(b"\n")
    assert lines[2] == whole.split(b"\n")[2][: len(lines[2])] != b""  # the stump stays where it was
    assert len(_lines(kept)) == 2


def test_the_seed_of_the_first_run_is_kept(tmp_path):
    first = journal.open_journal(tmp_path / "j", 5)
    first.add("key", {"points": 1})
    first.close()
    again = journal.open_journal(tmp_path / "j", 6)
    assert (again.seed, again.known) == (5, {"key": {"points": 1}})
    again.close()
    assert os.stat(tmp_path / "j").st_mode & 0o077 == 0


def test_a_result_depends_on_everything_that_decides_it(tmp_path):
    keys = {
        journal.key_of(place, digest, checks, seed, seconds)
        for place in ("a", "b")
        for digest in ("0", "1")
        for checks in ("x", "y")
        for seed in (1, 2)
        for seconds in (10.0, 20.0)
    }
    assert len(keys) == 32
    one = journal.checks_of(ROOT, None)
    assert one == journal.checks_of(ROOT, None)
    (tmp_path / "solutions").mkdir()
    (tmp_path / "solutions" / "01_x.ipynb").write_text("1")
    two = journal.checks_of(tmp_path, None)
    (tmp_path / "solutions" / "01_x.ipynb").write_text("2")
    assert len({one, two, journal.checks_of(tmp_path, None)}) == 3


def test_what_is_no_journal_is_left_alone(tmp_path):
    folder = _class(tmp_path / "class", 1)
    mine = tmp_path / "marks.csv.journal"
    for text in ("dear diary", "[1]\n", '{"journal": "another"}\n'):
        mine.write_text(text)
        code, _, said = _main(folder, "--report", tmp_path / "marks.csv")
        assert code == 2
        assert "is no journal of lab.py grade; name another report, or move that file away" in said
        assert mine.read_text() == text
    code, _, said = _main(folder, "--report", tmp_path / "nowhere" / "marks.csv")
    assert code == 2
    assert "cannot be written: No such file or directory" in said
    with pytest.raises(SystemExit):
        grader.main([str(folder), "--report", "marks.xls"])


def test_two_runs_do_not_share_a_journal(tmp_path):
    folder = _class(tmp_path / "class", 1)
    held = journal.open_journal(tmp_path / "marks.csv.journal", 1)
    code, _, said = _main(folder, "--report", tmp_path / "marks.csv")
    assert code == 2
    assert "another run is writing" in said
    held.close()
    assert _main(folder, "--report", tmp_path / "marks.csv")[0] == 0


def test_without_a_report_a_stopped_run_says_how_to_keep_results(tmp_path, monkeypatch):
    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(grader, "grade", stopped)
    code, _, said = _main(_class(tmp_path / "class", 1))
    assert code == 130
    assert "With --report FILE a stopped run goes on where it was" in said


def test_a_disk_that_is_full_stops_the_run_and_says_so(tmp_path, monkeypatch):
    def full(handle, line):
        if "key" in line:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "_append", full)
    code, _, said = _main(_class(tmp_path / "class", 2), "--report", tmp_path / "marks.csv")
    assert code == 2
    assert said.startswith("No space left on device: the disk. Stopped. What is graded is kept in")
    assert not (tmp_path / "marks.csv").exists()


def test_a_folder_of_feedback_that_is_a_file_is_a_sentence(tmp_path):
    write("mine", tmp_path / "pages")
    folder = _class(tmp_path / "class", 1)
    code, _, said = _main(folder, "--report", tmp_path / "marks.csv", "--feedback", tmp_path / "pages")
    assert code == 2
    assert said.startswith(f"File exists: {tmp_path / 'pages'}. Stopped. What is graded is kept in")
