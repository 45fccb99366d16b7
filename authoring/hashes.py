"""What a notebook was made from: one hash of its code, one of the part of `hesslab` that it imports."""

import ast
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from nbformat import NotebookNode


def stamp(notebook: NotebookNode, root: Path) -> dict[str, str]:
    """`{"source", "library"}`: SHA-256 of the code cells, and of the files of `root/hesslab` they reach.

    Prose is left out on purpose: an edit of it changes the notebook, but not what its cells print.
    """
    code = [
        [cell.source, cell.metadata.get("tags", [])] for cell in notebook.cells if cell.cell_type == "code"
    ]
    digest = hashlib.sha256()
    for path in sorted(library_files(root, "\n".join(source for source, _ in code))):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return {"source": hashlib.sha256(json.dumps(code).encode()).hexdigest(), "library": digest.hexdigest()}


def library_files(root: Path, code: str) -> set[Path]:
    """The files of `root/hesslab` that `code` imports, followed through their own imports.

    Where `hesslab.data` is among them, the files in `hesslab/data_files` are too.
    """
    found: set[Path] = set()
    waiting = [ast.parse(code)]
    while waiting:
        for name in imported(waiting.pop()):
            for path in _files(root, name) - found:
                found.add(path)
                waiting.append(ast.parse(path.read_text(encoding="utf8")))
    if root / "hesslab" / "data.py" in found:
        found |= {path for path in (root / "hesslab" / "data_files").rglob("*") if path.is_file()}
    return found


def imported(node: ast.AST) -> Iterator[str]:
    """The dotted names under `hesslab` that a piece of code imports when it runs, anywhere in it."""
    children = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        children = iter(node.orelse)
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        if node.level:
            raise ValueError("a relative import cannot be followed; write hesslab.room")
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        names = []
    yield from (name for name in names if name.split(".")[0] == "hesslab")
    for child in children:
        yield from imported(child)


def _files(root: Path, name: str) -> set[Path]:
    """The files that importing `name` runs: each package on the way, and the module itself."""
    parts = name.split(".")
    places = [root.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    candidates = [p / "__init__.py" for p in places] + [p.with_suffix(".py") for p in places]
    return {path for path in candidates if path.exists()}
