"""What the grader shows of its results: a table with feedback, CSV, JSON, one page a submission.

Names and words may come from a hostile submission: no character reaches a terminal that is not printable, no
cell reaches a spreadsheet that is a formula, and no page is written outside its folder.
"""

import csv
import io
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from wire import printable

Results = list[dict[str, Any]]


def name_of(result: dict[str, Any]) -> str:
    """The name of a submission as it may be printed, on one line."""
    return printable(result["submission"], 500).replace("\n", "�")


def page(result: dict[str, Any]) -> str:
    """The feedback of one submission, for the learner."""
    name = name_of(result)
    if "problem" in result:
        return f"{name}\n  Not graded: {result['problem']}.\n"
    lines = [f"{name}: {result['points']:g} of {result['max_points']:g} points ({result['set']})"]
    for exercise in result["exercises"]:
        lines += [f"  {_points(exercise):>9}  " + exercise["feedback"].replace("\n", "\n             ")]
    lines += [f"  note       {note}" for note in result["notes"]]
    return "\n".join(lines) + "\n"


def _points(exercise: dict[str, Any]) -> str:
    return f"{exercise['points']:g} of {exercise['max_points']:g}"


def as_table(results: Results) -> str:
    """Feedback for each submission, then one line each."""
    totals = ("not graded" if "problem" in result else _points(result) for result in results)
    lines = [f"{total:>12}  {name_of(result)}\n" for total, result in zip(totals, results, strict=True)]
    return "".join(page(result) + "\n" for result in results) + "".join(lines)


def as_csv(results: Results) -> str:
    """One row a submission: points, the points of each exercise, diagnoses and notes."""
    names = list(dict.fromkeys(e["name"] for result in results for e in result["exercises"]))
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    rows.writerow(["submission", "set", "points", "max_points", *names, "diagnoses", "notes"])
    for result in results:
        points = {e["name"]: e["points"] for e in result["exercises"]}
        diagnoses = " ".join(f"{e['name']}:{e['diagnosis']}" for e in result["exercises"] if e["diagnosis"])
        notes = result.get("problem") or "; ".join(result["notes"])
        row = [name_of(result), result.get("set", ""), result["points"], result.get("max_points", "")]
        rows.writerow([_harmless(v) for v in (*row, *(points.get(n, "") for n in names), diagnoses, notes)])
    return out.getvalue()


def _harmless(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula, whatever stands before its first sign."""
    if not isinstance(value, str):
        return value
    text = printable(value, 20_000)
    return "'" + text if re.match(r"[\s'\"�]*[=+\-@＝＋－＠|%]", text) else text


def as_json(results: Results) -> str:
    """Everything; what is not printable is written as JSON's escapes."""
    text = json.dumps(results, indent=1, ensure_ascii=False) + "\n"
    return "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else json.dumps(character)[1:-1]


SHAPES = {".csv": as_csv, ".json": as_json, ".txt": as_table}


def save(text: str, path: Path) -> None:
    """Write `text` whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=".part")
    with os.fdopen(handle, "w", encoding="utf8", newline="\n") as file:
        file.write(text)
    os.replace(temporary, path)


def write_pages(results: Results, folder: Path) -> None:
    """One text file of feedback a submission, numbered as in the report."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, result in enumerate(results, start=1):
        *folders, stem = Path(result["submission"]).with_suffix("").parts
        name = re.sub(r"[^\w.=()-]+", "_", "_".join(dict.fromkeys([*folders[-2:], stem])))
        name = name.encode()[:150].decode(errors="ignore")
        save(page(result), folder / f"{number:03d}_{name}.txt")


def with_twins(results: Results) -> Results:
    """The results, with a note on each submission that earns points and is, byte for byte, an earlier one."""
    first: dict[str, str] = {}
    told = []
    for result in results:
        digest = result.get("sha256", "") if result["points"] else ""
        twin = first.setdefault(digest, name_of(result)) if digest else ""
        twins = [f"byte for byte the same file as {twin}"] if twin and twin != name_of(result) else []
        told.append({**result, "notes": [*result["notes"], *twins]})
    return told
