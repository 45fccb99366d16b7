"""Files that are no notebooks, names and code that are weapons, and what the grader shows of them."""

import csv
import io
import json
import os
import sys
from pathlib import Path

import pytest
from first_set import EXERCISES, FIRST, MAX, STEM, right, without_first
from submissions import (
    ROOT,
    code_cell,
    grader,
    journal,
    report,
    submission,
    write,
)

OTHERS = MAX - EXERCISES[0].points
ESCAPE, NAME = "\x1b[2J\x1b[1;1H", "ada\x1b[31m\nSUM 13 of 13\u202e"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes, links and such names are of Unix")


# --- no plain files ---------------------------------------------------------------------------------------


def _sparse(path, size):
    with path.open("wb") as file:
        file.truncate(size)


def _nested(depth):
    return '{"cells": [{"cell_type": "code", "source": ' + "[" * depth + "]" * depth + "}]}"


def _strange(folder):
    """For each file of `folder` what its problem must say; None where it is graded."""
    other = folder.parent / "elsewhere"
    write(right(), other / "theirs.ipynb")
    (folder / "to a solution.ipynb").symlink_to(ROOT / "solutions" / f"{STEM}.ipynb")
    (folder / "to a neighbour.ipynb").symlink_to(other / "theirs.ipynb")
    (folder / "to nothing.ipynb").symlink_to(folder / "nothing")
    (folder / "to a folder").symlink_to(other)
    os.mkfifo(folder / "pipe.ipynb")
    (folder / "a folder.ipynb").mkdir()
    _sparse(folder / "two gigabytes.ipynb", 2**31)
    write('{"cells": [' + ",".join(["{}"] * 100_000) + "]}", folder / "many cells.ipynb")
    write("[" + "[]," * 3_000_000 + "[]]", folder / "many lists.ipynb")
    write(_nested(50_000), folder / "deep.ipynb")
    write(_nested(400), folder / "nested source.ipynb")
    write({"cells": [code_cell("x = 1\n" * 200_000)]}, folder / "long.ipynb")
    (folder / "latin.ipynb").write_bytes(b'{"cells": [], "author": "\xe9"}')
    write('{"cells": ' + "9" * 10_000 + "}", folder / "long number.ipynb")
    link = "it is a link; hand in the file itself"
    return {
        **dict.fromkeys(("to a solution.ipynb", "to a neighbour.ipynb", "to nothing.ipynb"), link),
        "to a folder": link,
        "pipe.ipynb": "no plain file",
        "two gigabytes.ipynb": "larger than 20 MB",
        "many cells.ipynb": "it holds 100000 cells; at most 2000 are read",
        "many lists.ipynb": "no list of cells",
        "deep.ipynb": "it is not JSON",
        "nested source.ipynb": None,
        "long.ipynb": "its cells hold more than 1 MB of text",
        "latin.ipynb": "it is not JSON",
        "long number.ipynb": "it is not JSON",
    }


def test_files_that_are_none_are_told_and_the_others_graded(tmp_path):
    folder = tmp_path / "class"
    write(right(), folder / "0 first.ipynb")
    expected = _strange(folder)
    write(right(), folder / "z last.ipynb")
    files = list(grader._notebooks([folder]))
    results = {path.name: r for path, r in zip(files, grader.grade(files), strict=True)}
    assert results.pop("0 first.ipynb")["points"] == results.pop("z last.ipynb")["points"] == MAX
    assert set(results) == set(expected)
    for name, words in expected.items():
        assert results[name]["points"] == 0
        assert words is None or words in results[name]["problem"], (name, results[name])
    assert all(r["seconds"] < 10 for r in results.values())


def test_a_device_and_a_folder_are_not_read():
    for path, words in (("/dev/zero", "no plain file"), ("/", "no plain file"), ("/none", "No such file")):
        with pytest.raises(submission.Unreadable, match=words):
            submission.read_file(Path(path))


def test_a_folder_that_cannot_be_opened_is_told(tmp_path, monkeypatch):
    write(right(), tmp_path / "a" / "x.ipynb")

    def walk(top, onerror):
        onerror(PermissionError(13, "Permission denied", str(tmp_path / "closed")))
        yield str(top), [], ["x.IPYNB"]

    monkeypatch.setattr(grader.os, "walk", walk)
    assert list(grader._notebooks([tmp_path])) == [tmp_path / "closed", tmp_path / "x.IPYNB"]


# --- code that is a weapon against the judge --------------------------------------------------------------

BOMBS = {
    "minus": "x = " + "-" * 100_000 + "1",
    "attributes": "x = a" + ".b" * 100_000,
    "sums": "x = 1" + " + 1" * 100_000,
    "parentheses": "(" * 100_000,
    "powers": "x = 9 ** 9 ** 9 ** 9 if False else 1",
    "lambdas": "x = " + "lambda: " * 20_000 + "1",
    "indents": "".join(" " * i + "if 1:\n" for i in range(200)) + " " * 200 + "pass",
    "surrogate": f"%%bash\ud800{ESCAPE}\nls",
    "magic": f"%%{ESCAPE}\nx",
    "error": f"raise ValueError({ESCAPE + '<script>alert(1)</script>'!r} + chr(0xd800))",
    "named error": f"raise type('=cmd()' + {ESCAPE!r}, (Exception,), {{}})('\\x9b2J')",
    "many small files": "for i in range(10**6):\n    open(str(i), 'w').close()\n",
    "nulls": "x = '\0'",
}


@pytest.fixture(scope="module")
def armed(tmp_path_factory):
    """Weapons in code, weapons in names, and right ones between them, graded in one run."""
    folder = tmp_path_factory.mktemp("armed")
    for name, source in BOMBS.items():
        write(without_first(cell=source), folder / f"{name}.ipynb")
    for name in (NAME, "=cmd|' ⁄C calc'!A0", "-2+3", "x" * 240, "@SUM(A1)", "ada"):
        write(right(), folder / f"{name}.ipynb")
    write(right(), folder / "b" / "ada.ipynb")
    Path(os.fsdecode(os.fsencode(str(folder)) + b"/\xff\xfe.ipynb")).write_text(json.dumps(right()))
    os.chdir(folder)
    files = list(grader._notebooks([Path(".")]))
    return folder, grader.grade(files, grader.Settings(seconds=5, seed=1, jobs=2))


@pytest.fixture(autouse=True)
def _stay():
    before = Path.cwd()
    yield
    os.chdir(before)


def test_weapons_win_no_point_and_harm_nobody(armed):
    _, results = armed
    points = {Path(result["submission"]).stem: result["points"] for result in results}
    assert {name: points.pop(name) for name in BOMBS} == dict.fromkeys(BOMBS, OTHERS)
    assert set(points.values()) == {MAX}
    assert len(results) == len(BOMBS) + 8


def test_no_weapon_reaches_a_terminal(armed):
    _, results = armed
    for shape in (report.as_table, report.as_csv, report.as_json):
        text = shape(report.with_twins(results))
        assert all(c.isprintable() or c == "\n" for c in text)
        text.encode("utf8")
    table = report.as_table(results)
    assert "SUM 13 of 13" in table
    assert not any(line.startswith("SUM") for line in table.splitlines())
    back = [result["submission"] for result in json.loads(report.as_json(results))]
    assert back == [
        result["submission"] for result in results
    ]  # the program that reads it gets the real name


def test_no_weapon_reaches_a_spreadsheet(armed):
    _, results = armed
    rows = list(csv.reader(io.StringIO(report.as_csv(results))))
    assert len(rows) == len(results) + 1
    assert {len(row) for row in rows} == {len(rows[0])}
    assert not [cell for row in rows for cell in row if cell[:1] in tuple("=+-@\t\r")]


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@x", " =1", "\t=1", "\n=1", "\x00=1", "＝1", "'=1", '"=1']
)
def test_no_cell_is_a_formula_whatever_hides_it(text):
    name = {
        "submission": text,
        "set": STEM,
        "points": 0.0,
        "max_points": 1.0,
        "exercises": [],
        "notes": [text],
    }
    row = next(csv.reader(io.StringIO(report.as_csv([name]).split("\n", 1)[1])))
    assert row[0].startswith("'")
    assert row[-1].startswith("'")


def test_pages_stay_in_their_folder(armed, tmp_path):
    _, results = armed
    sneaky = [
        {**results[0], "submission": name} for name in ("../../x.ipynb", "/etc/passwd", "..", NAME, "ada")
    ]
    report.write_pages([*results, *sneaky], tmp_path / "pages")
    pages = list((tmp_path / "pages").iterdir())
    assert len(pages) == len(results) + len(sneaky)
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} == {tmp_path / "pages"}
    assert all(path.name.isprintable() and len(os.fsencode(path.name)) < 200 for path in pages)


def test_two_of_a_name_are_two_and_twins_are_told(armed):
    _, results = armed
    named = [result for result in results if Path(result["submission"]).stem == "ada"]
    assert sorted(result["submission"] for result in named) == ["ada.ipynb", os.path.join("b", "ada.ipynb")]
    told = [r for r in report.with_twins(results) if any("byte for byte" in note for note in r["notes"])]
    assert len(told) == 7  # of eight that are the same


def test_a_file_that_is_named_twice_is_graded_once(tmp_path, capsys):
    file = write(right(), tmp_path / "a.ipynb")
    command = [str(file), str(tmp_path), str(tmp_path / ".." / tmp_path.name / "a.ipynb"), "--csv", "--quiet"]
    assert grader.main(command) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_endless_cells_end_with_the_time_of_the_submission(tmp_path):
    notebook = {"cells": [code_cell("while True: pass")] * 400}
    (result,) = grader.grade([write(notebook, tmp_path / "x.ipynb")], grader.Settings(seconds=0.2))
    assert result["points"] == 0
    assert result["seconds"] < 15
    assert "the time for the whole submission is used up; later cells were not run" in result["notes"]


# --- the journal and the report ---------------------------------------------------------------------------

TAMPERS = f"""
import ctypes, os
for path in {{paths!r}}:
    try:
        with open(path, "a") as file:
            file.write('{{{{"key": "x", "result": {{{{"points": 100}}}}}}}}\\n')
    except OSError:
        pass
    command = "echo forged >> '" + path + "'; rm -f '" + path + "'; cp '" + path + "' copy"
    ctypes.CDLL(None).system(command.encode())
def {FIRST}(*args):
    for path in [*{{paths!r}}, "copy"]:
        try:
            text = open(path).read()
        except OSError:
            continue
        if text:
            raise ValueError("it holds " + text[:300])
    return 0.0
"""


def test_a_submission_neither_reads_nor_writes_the_journal(tmp_path):
    folder, marks = tmp_path / "class", tmp_path / "results" / "marks.csv"
    kept = marks.with_name("marks.csv.journal")
    code = TAMPERS.format(paths=[str(marks), str(kept)])
    for name in ("1 right", "2 tampers", "3 right"):
        write(without_first(code, code) if "tampers" in name else right(), folder / f"{name}.ipynb")
    marks.parent.mkdir()
    command = [str(folder), "--report", str(marks), "--quiet"]
    for _ in range(2):  # in the second run the report is there, and everything is graded again
        grader.main(command)
        lines = [json.loads(line) for line in kept.read_text(encoding="utf8").splitlines()]
        results = [line["result"] for line in lines[1:4]]
        if not results[0]["walls"]:
            pytest.skip("this system gives no namespaces: native code can write; the grader says so")
        assert [result["points"] for result in results] == [MAX, OTHERS, MAX]
        assert "it holds" not in results[1]["exercises"][0]["feedback"]
        assert len(lines) == 4
        assert "forged" not in marks.read_text(encoding="utf8")
        kept.unlink()


def test_shared_memory_does_not_outlive_its_submission(tmp_path):
    native = "import ctypes\nlibc = ctypes.CDLL(None)\nprint(libc.shmget(0x5EED, 4096, 0o1666))\n"
    before = Path("/proc/sysvipc/shm").read_text()
    (result,) = grader.grade([write(without_first(cell=native), tmp_path / "x.ipynb")])
    assert result["points"] == OTHERS
    assert not result["walls"] or Path("/proc/sysvipc/shm").read_text() == before


def test_a_journal_line_of_another_submission_is_not_taken(tmp_path):
    """A copied line has the key of another place: it is passed over, and the submission graded."""
    folder, marks = tmp_path / "class", tmp_path / "marks.json"
    kept = tmp_path / "marks.json.journal"
    write(right(), folder / "a.ipynb")
    write(without_first(), folder / "b.ipynb")
    grader.main([str(folder), "--report", str(marks), "--quiet"])
    head, first, second = kept.read_text(encoding="utf8").splitlines()
    forged = json.dumps({**json.loads(second), "key": "0" * 64, "result": json.loads(first)["result"]})
    kept.write_text("\n".join([head, first, forged]) + "\n", encoding="utf8")
    grader.main([str(folder), "--report", str(marks), "--quiet"])
    assert [r["points"] for r in json.loads(marks.read_text(encoding="utf8"))] == [MAX, OTHERS]
    assert isinstance(journal.open_journal(kept, 0).seed, int)
