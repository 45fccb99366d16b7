"""Execute lessons without a browser, and print the scoreboard of claims, and the seconds of computing.

    python authoring/run.py [NN … | TRACK]       all lessons that stand, those named, or those of a track

Nothing is written. A lesson that fails is named with its cell; the others still run.
"""

import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script finds only its own folder by itself

import nbformat
from nbformat import NotebookNode
from tqdm import tqdm

from authoring import schedules
from authoring.execute import ExecutionError, execute
from authoring.manifest import Lesson, Manifest, read

LETTERS = {"theta": "θ", "lambda": "λ", "eta": "η", "kappa": "κ", "nabla": "∇", "approx": "≈"}


def run(root: Path, selected: tuple[str, ...]) -> int:
    """Execute the lessons, print the scoreboard; the number of lessons that failed."""
    manifest = read(root)
    lessons = [x for x in manifest.lessons.values() if x.stands and (not selected or x.id in selected)]
    measured: dict[str, dict] = {}
    failures: dict[str, str] = {}
    seconds: dict[str, float] = {}
    with tqdm(lessons, unit="lesson", disable=None) as bar:
        for lesson in bar:
            bar.set_description(lesson.stem)
            begun = _seconds_of_children()
            try:
                measured |= {card["id"]: card for card in cards(_executed(lesson, root, bar))}
            except ExecutionError as error:
                failures[lesson.id] = str(error)
            seconds[lesson.id] = _seconds_of_children() - begun
    print("\n".join(scoreboard(manifest, lessons, measured)))
    each = ", ".join(f"{name}: {spent:.0f} s" for name, spent in seconds.items())
    print(f"\nComputing, on one thread: {each}; {sum(seconds.values()):.0f} s in all")
    print("".join(f"\n{error}\n" for error in failures.values()), end="")
    return len(failures)


def _seconds_of_children() -> float:
    """Processor time of the kernels that have ended; 0 on systems that do not tell."""
    times = os.times()
    return times.children_user + times.children_system


def cards(notebook: NotebookNode) -> Iterator[dict]:
    """The cards of an executed notebook, as their metadata give them: id, value, error, verdict."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            card = output.get("metadata", {}).get("hesslab", {}).get("claim")
            if card:
                yield card


def scoreboard(manifest: Manifest, lessons: list[Lesson], measured: dict[str, dict]) -> Iterator[str]:
    """One line a claim: where it is examined, our verdict on the note's words, the evidence, the words."""
    examined = [claim for lesson in lessons for claim in manifest.claims_of(lesson.id)]
    if not examined:
        return
    yield f"{'claim':6} {'lesson':6} {'verdict on the note':22} {'card':8} {'measured':22} the note's words"
    for claim in examined:
        card = measured.get(claim.id)
        held, shown = ("holds", evidence(card)) if card else ("FAILED", "")
        yield f"{claim.id:6} {claim.lesson:6} {claim.verdict:22} {held:8} {shown:22} {_plain(claim.words)}"


def evidence(card: dict) -> str:
    """What a card measured, rounded as it shows it, with its tolerance."""
    value, error = card["value"], card["error"]
    row = value if isinstance(value, list) else [value]
    shown = ", ".join("as stated" if v is None else _number(v, error) for v in row)
    return shown if error is None else f"{shown} ± {error:g}"


def _number(value: float | bool, error: float | None) -> str:
    """A number to the digits that its error resolves; a card has rounded it already."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    decimals = min(4, max(0, -math.floor(math.log10(error)))) if error else 0
    return f"{value:.{decimals}f}" if error and value and abs(value) < 1e6 else f"{value:g}"


def _plain(words: str) -> str:
    """The note's words without Markdown and LaTeX, cut to a line."""
    words = re.sub(r"[*${}]|\\left|\\right", "", " ".join(words.split()))
    for name, letter in LETTERS.items():
        words = words.replace(f"\\{name}", letter)
    return words if len(words) <= 60 else words[:59] + "…"


def _executed(lesson: Lesson, root: Path, bar: tqdm) -> NotebookNode:
    path = root / "lessons" / f"{lesson.stem}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    execute(notebook, path, root, lambda index, total: bar.set_postfix_str(f"cell {index + 1} of {total}"))
    return notebook


def main(arguments: list[str], root: Path) -> int:
    """The command line; 0 where all cards hold, 1 where a lesson failed, 2 for one that is not there."""
    try:
        manifest = read(root)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    tracks = {track["id"]: schedules.path(track) for track in manifest.tracks}
    wanted = [lesson for name in arguments for lesson in tracks.get(name, [name])]
    standing = {lesson.id for lesson in manifest.lessons.values() if lesson.stands}
    if unknown := sorted(set(wanted) - standing):
        print(
            f"{unknown[0]} is no lesson that stands; give some of {', '.join(sorted(standing))}, "
            f"or a track: {', '.join(tracks)}",
            file=sys.stderr,
        )
        return 2
    try:
        return min(1, run(root, tuple(wanted)))
    except KeyboardInterrupt:
        print("\nStopped. No notebook was changed.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(__file__).resolve().parents[1]))
