"""Make the web book: gather its pages from what is committed, and let Sphinx set them. Needs no network.

    python authoring/book.py [DIR]       the book in DIR (default: docs/_build/html); warnings are errors

The notebooks are shown with their committed outputs; nothing is executed.
"""

import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script finds only its own folder by itself

import nbformat
from nbformat import NotebookNode
from pybtex.database import parse_file

from authoring import pages
from authoring.cards import card_title
from authoring.manifest import Manifest, read
from authoring.run import cards

KEY = re.compile(r"`([a-z]+\d{4}[a-z]*)`")
ROOM = re.compile(r"\(library/(\w+)\.rst\)")
SOURCES = re.compile(r"(?<=\*\*Sources:\*\* )[^.]+(?=\.)")


def gather(root: Path, source: Path) -> None:
    """Write every page of the book into the folder `source`."""
    manifest, entries = read(root), parse_file(str(root / "docs" / "bibliography.bib")).entries
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(
        root / "docs", source, ignore=shutil.ignore_patterns("_build", "_static", "*.py", "*.bib")
    )
    measured: dict[str, dict] = {}
    cited: dict[str, set[str]] = {}
    for lesson in (x for x in manifest.lessons.values() if x.stands):
        for folder in ("lessons", "exercises")[: 1 + bool(lesson.exercises)]:
            path = root / folder / f"{lesson.stem}.ipynb"
            notebook = nbformat.read(path, as_version=4)
            measured |= {card["id"]: card for card in cards(notebook)}
            for key in _keys(notebook):
                cited.setdefault(key, set()).add(lesson.id)
            _write(source / folder / path.name, nbformat.writes(_shown(notebook, manifest, entries)))
    for key, rooms in in_library(root / "hesslab", entries).items():
        cited.setdefault(key, set()).update(f"`hesslab.{room}`" for room in rooms)
    listed = (root / "docs" / "library.md").read_text(encoding="utf8")
    for name in ROOM.findall(listed):
        _write(source / "library" / f"{name}.rst", pages.room(name))
    _write(source / "lessons.md", pages.lessons(manifest))
    _write(source / "tracks.md", pages.tracks(manifest))
    _write(source / "scoreboard.md", pages.scoreboard(manifest, measured))
    _write(source / "bibliography.md", pages.bibliography(entries, cited))
    for name in ("CONTRIBUTING", "CHANGELOG", "DECISIONS"):
        shutil.copy(root / f"{name}.md", source / f"{name.lower()}.md")


def in_library(library: Path, entries: Mapping[str, Any]) -> dict[str, set[str]]:
    """The rooms whose docstrings cite an entry, by its first author and year: key -> names of modules."""
    texts = {p.stem: " ".join(p.read_text(encoding="utf8").split()) for p in sorted(library.glob("*.py"))}
    found: dict[str, set[str]] = {}
    for key, entry in entries.items():
        first = re.escape(" ".join(entry.persons["author"][0].last_names).strip("{}"))
        name = re.compile(rf"\b{first}\b[^();]{{0,80}}\(?{entry.fields['year']}")
        if rooms := {room for room, text in texts.items() if name.search(text)}:
            found[key] = rooms
    return found


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf8")


def _keys(notebook: NotebookNode) -> set[str]:
    """The bibliography keys that a notebook names."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    listed = [key.strip() for found in SOURCES.findall(text) for key in found.split(",")]
    return {*KEY.findall(text), *listed}


def _shown(notebook: NotebookNode, manifest: Manifest, entries: Mapping[str, Any]) -> NotebookNode:
    """The notebook as the book shows it: sources and cards can be linked to, figures say their alt text."""
    titles = {card_title(claim): pages.anchor(claim) for claim in manifest.claims.values()}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _linked(cell.source, titles, entries)
        else:
            _described(cell)
    return notebook


def _linked(text: str, titles: Mapping[str, str], entries: Mapping[str, Any]) -> str:
    def link(match: re.Match) -> str:
        return f"[`{match[1]}`](#{match[1]})" if match[1] in entries else match[0]

    def links(match: re.Match) -> str:
        return ", ".join(f"[{k}](#{k})" if k in entries else k for k in re.split(r",\s*", match[0]))

    text = SOURCES.sub(links, KEY.sub(link, text))
    for title, name in titles.items():
        text = text.replace(f"> {title}", f"({name})=\n\n> {title}")
    return text


def _described(cell: NotebookNode) -> None:
    """Alt text goes where myst-nb looks for it."""
    for output in cell.outputs:
        if alt := output.get("metadata", {}).get("image/png", {}).get("alt"):
            cell.metadata["mystnb"] = {"image": {"alt": alt}}


def main(arguments: list[str], root: Path) -> int:
    """The command line."""
    from sphinx.cmd.build import main as sphinx

    target = Path(arguments[0]).resolve() if arguments else root / "docs" / "_build" / "html"
    source = target.parent / "source"
    try:
        gather(root, source)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    # A fresh environment each time: pages that are gone must not stay.
    options = ["-W", "--keep-going", "-q", "-E", "-b", "html", "-c", str(root / "docs")]
    failed = sphinx([*options, "-d", str(target.parent / "doctrees"), str(source), str(target)])
    if not failed:
        print(f"The book is at {target / 'index.html'}")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(__file__).resolve().parents[1]))
