'''Build the notebooks from their sources.

    python authoring/build.py [NN …]     build what has changed (all lessons, or those named)
    python authoring/build.py --force    execute everything again
    python authoring/build.py --check    write nothing; say in a sentence a file what is out of step

From `authoring/lessons/NN_slug.py` comes `lessons/NN_slug.ipynb`, executed. From
`authoring/exercises/NN_slug.py` come `solutions/NN_slug.ipynb`, executed, in nbgrader's source form, and
`exercises/NN_slug.ipynb`, the same with the answers taken out and no outputs. A notebook is executed again
only when its code cells, or the part of `hesslab` that it imports, have changed; after an edit of prose it
keeps its outputs. A second build changes nothing, byte for byte.

How an author writes a source
-----------------------------
Jupytext's percent format: `# %% [markdown]` begins a text cell (each line behind `# `), `# %%` a code cell.
Plain Python: no magics, no trailing semicolon. A line that is only one of these is replaced by what
`course.yml` says:

    {{header}}           first cell: the title (write none), what you will do, objectives, minutes, claims
    {{claim ID}}         lessons: a claim's card, followed by the cells that measure it and `claim("ID", …)`
    {{exercise NAME}}    exercises: its heading, difficulty, importance, minutes, points, objective
    {{map}}              the table of all lessons

Tags: `# %% tags=["nbval-ignore-output"]` for an output that may differ elsewhere, such as a widget;
`# %% tags=["nbval-ignore-output", "no-store"]` for one that must not be stored at all (versions, times).

An exercise, in the order of `course.yml`:

    # %% [markdown]
    # {{exercise rayleigh_quotient}}
    #
    # The task, in prose. Then three hints, folded, in this cell or in cells of their own:
    #
    # <details><summary>Hint 1</summary>
    #
    # Start from the definition.
    #
    # </details>

    # %% answer="rayleigh_quotient"
    def rayleigh_quotient(A, v):
        """The curvature of A along v, vᵀAv / vᵀv, a number."""
        ### BEGIN SOLUTION
        return v @ (A @ v) / (v @ v)
        ### END SOLUTION

    # %% grade="rayleigh_quotient"

The answer cell holds that one function and nothing else; what stands outside the markers stays in the
learner's stub. The grade cell is empty: the builder writes `check_rayleigh_quotient(rayleigh_quotient)`,
the hidden test and the points. The first code cell imports the checks: `from hesslab.checks.lesson_NN
import check_rayleigh_quotient`.
'''

import base64
import contextlib
import copy
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script finds only its own folder by itself

import nbformat
from nbformat import NotebookNode

from authoring.execute import ExecutionError, execute
from authoring.hashes import stamp
from authoring.manifest import Manifest, read
from authoring.sources import SourceError, compose, leaks, release

SHOWN = "07_edge_of_stability"  # the lesson whose first figure the README shows
BUILT = ("lessons", "solutions", "exercises")


@dataclass(frozen=True)
class Product:
    """A notebook to be built: where it goes, and its cells without outputs; `executed` ones carry a stamp."""

    path: Path
    notebook: NotebookNode
    executed: bool


def sources(root: Path, selected: tuple[str, ...] = ()) -> list[Path]:
    """The sources in the tree, lessons before exercises within a lesson; only those of `selected` ids."""
    folders = (root / "authoring" / name for name in ("lessons", "exercises"))
    found = (path for folder in folders for path in folder.glob("[0-9][0-9]_*.py"))
    wanted = [path for path in found if not selected or path.stem[:2] in selected]
    return sorted(wanted, key=lambda path: (path.stem, path.parent.name != "lessons"))


def products(source: Path, root: Path, manifest: Manifest) -> list[Product]:
    """What a source is to become. Raises SourceError where it cannot be built, or would publish an answer."""
    notebook = compose(source, manifest)
    blank = release(notebook) if source.parent.name == "exercises" else None
    for line in leaks(notebook, blank) if blank else ():
        raise SourceError(f"exercises/{source.stem}.ipynb would publish this line of an answer: {line}")
    notebook.metadata["hesslab"] = stamp(notebook, root)
    if blank is None:
        return [Product(root / "lessons" / f"{source.stem}.ipynb", notebook, True)]
    solutions = Product(root / "solutions" / f"{source.stem}.ipynb", notebook, True)
    return [solutions, Product(root / "exercises" / f"{source.stem}.ipynb", blank, False)]


def build(root: Path, selected: tuple[str, ...] = (), *, force: bool = False) -> int:
    """Build what has changed, one line a notebook; the number of sources that failed. Those write nothing."""
    manifest, failed = read(root), 0
    for source in sources(root, selected):
        try:
            _build(products(source, root, manifest), root, force)
        except (SourceError, ExecutionError) as error:
            failed += 1
            _say(f"{error}\n", sys.stderr)
    return failed


def check(root: Path) -> list[str]:
    """One sentence for each built file that is not what its source gives, without executing anything."""
    manifest, problems, expected = read(root), [], set()
    for source in sources(root):
        names = ("lessons",) if source.parent.name == "lessons" else ("solutions", "exercises")
        expected |= {root / name / f"{source.stem}.ipynb" for name in names}
        try:
            problems += [p for product in products(source, root, manifest) for p in _problems(product, root)]
        except SourceError as error:
            problems.append(str(error))
    stray = {path for name in BUILT for path in (root / name).glob("*.ipynb")} - expected
    return problems + [f"{_name(path, root)} has no source in authoring; remove it" for path in sorted(stray)]


def _build(wanted: list[Product], root: Path, force: bool) -> None:
    """Execute what must be, then write all products of one source together."""
    texts = {}
    for product in wanted:
        begun, ran = time.perf_counter(), False
        stored = _stored(product.path)
        if product.executed and (force or not _in_step(product, stored)):
            ran = True
            notebook = copy.deepcopy(product.notebook)
            execute(notebook, product.path, root, _progress(_name(product.path, root)))
            notebook.metadata = product.notebook.metadata
            texts[product.path] = serialized(notebook)
        else:
            texts[product.path] = serialized(_with_outputs(product, stored))
        same = stored is not None and texts[product.path] == product.path.read_text(encoding="utf8")
        done = f"executed in {time.perf_counter() - begun:.0f} s" if ran else "kept its outputs"
        _say(f"\r{_name(product.path, root):<45} {done}{', unchanged' if same else ''}\n")
    for path, text in texts.items():
        write(path, text)
        if path == root / "lessons" / f"{SHOWN}.ipynb":
            (root / "docs" / "shown.png").write_bytes(first_figure(nbformat.reads(text, as_version=4)))


def first_figure(notebook: NotebookNode) -> bytes:
    """The first picture among the outputs of a notebook."""
    outputs = (output for cell in _code(notebook) for output in cell.outputs)
    return base64.b64decode(next(o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})))


def _problems(product: Product, root: Path) -> Iterator[str]:
    name, stored = _name(product.path, root), _stored(product.path)
    command = f"python authoring/build.py {product.path.stem[:2]}"
    if stored is None:
        yield f"{name} is missing or is not a notebook; run {command}"
    elif product.executed and not _in_step(product, stored):
        old, new = stored.metadata.get("hesslab", {}), product.notebook.metadata["hesslab"]
        what = "its code" if old.get("source") != new["source"] else "the part of hesslab that it imports"
        yield f"{name} must be executed again, since {what} has changed; run {command}"
    elif serialized(_with_outputs(product, stored)) != product.path.read_text(encoding="utf8"):
        yield f"{name} is not what its source gives: it was edited by hand, or not rebuilt; run {command}"


def _in_step(product: Product, stored: NotebookNode | None) -> bool:
    """Whether the stored outputs come from the same code, in the same cells."""
    return (
        stored is not None
        and stored.metadata.get("hesslab") == product.notebook.metadata["hesslab"]
        and [c.source for c in _code(stored)] == [c.source for c in _code(product.notebook)]
    )


def _with_outputs(product: Product, stored: NotebookNode | None) -> NotebookNode:
    notebook = copy.deepcopy(product.notebook)
    if product.executed and stored is not None:
        for new, old in zip(_code(notebook), _code(stored), strict=True):
            new.outputs, new.execution_count = old.outputs, old.execution_count
    return notebook


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _stored(path: Path) -> NotebookNode | None:
    """The notebook at `path`; None where there is none that can be read."""
    try:
        return nbformat.reads(path.read_text(encoding="utf8"), as_version=4)
    except (OSError, ValueError):
        return None


def serialized(notebook: NotebookNode) -> str:
    """The one text of a notebook, after nbformat's validation."""
    nbformat.validate(notebook)
    return nbformat.writes(notebook, version=4) + "\n"


def write(path: Path, text: str) -> None:
    """Write `text` whole or not at all; leave a file that already holds it untouched."""
    if path.exists() and path.read_bytes() == text.encode():
        return
    path.parent.mkdir(exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _progress(name: str):
    def show(index: int, total: int) -> None:
        if sys.stdout.isatty():
            _say(f"\r{name:<45} cell {index + 1} of {total}")

    return show


def _say(text: str, stream=None) -> None:
    print(text, end="", flush=True, file=stream or sys.stdout)


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def main(arguments: list[str], root: Path) -> int:
    """The command line; 0 where all is well, 1 where something failed, 2 for a word it does not know."""
    options, selected = (
        {a for a in arguments if a.startswith("-")},
        tuple(a for a in arguments if a[:1] != "-"),
    )
    known = {source.stem[:2] for source in sources(root)}
    wrong = sorted(options - {"--check", "--force"}) + sorted(set(selected) - known)
    if wrong:
        _say(
            f"{wrong[0]} is no option and no lesson with a source; try --check, --force, or NN\n", sys.stderr
        )
        return 2
    try:
        if "--check" not in options:
            return min(1, build(root, selected, force="--force" in options))
        problems = check(root)
    except ValueError as error:
        problems = [str(error)]
    except KeyboardInterrupt:
        _say("\nStopped; the notebook that was being executed is as it was before.\n", sys.stderr)
        return 130
    _say("".join(f"{problem}\n" for problem in problems), sys.stderr)
    return min(1, len(problems))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(__file__).resolve().parents[1]))
