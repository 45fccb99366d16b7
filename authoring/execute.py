"""Execute a notebook on a fresh kernel of this interpreter, and bring its outputs to one canonical form."""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

NO_STORE = "no-store"  # a tag: the outputs of such a cell are not kept
CELL_TIMEOUT = 300  # seconds; a whole lesson has 60
WIDGET = "application/vnd.jupyter.widget-view+json"


class ExecutionError(RuntimeError):
    """A cell failed; the message gives the notebook, the number of the cell, its source and the error."""


def execute(notebook: NotebookNode, path: Path, root: Path, progress: Callable[[int, int], None]) -> None:
    """Run every cell of `notebook` as `path` in the tree at `root`, and store canonical outputs in it.

    The kernel runs in the folder of `path`, on one thread, with the tree's own `hesslab`, whatever kernels
    and profiles the user has. `progress(i, n)` is called before cell i of n. Raises ExecutionError.
    """
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        record_timing=False,
        shutdown_kernel="immediate",
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.km = _native_kernel_manager()
    client.extra_arguments = ["--log-level=ERROR"]
    path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as profile, client.setup_kernel(env=_environment(root, profile)):
        for index, cell in enumerate(notebook.cells):
            progress(index, len(notebook.cells))
            try:
                client.execute_cell(cell, index, execution_count=client.code_cells_executed + 1)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                raise ExecutionError(_told(path, index, cell.source, error)) from error
    canonical(notebook)


def _native_kernel_manager():
    """A manager that knows only the kernel of this interpreter, not the user's kernelspecs."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    return AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))


def _environment(root: Path, profile: str) -> dict[str, str]:
    paths = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    fixed = {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "IPYTHONDIR": profile, "PYTHONUTF8": "1"}
    inherited = {k: v for k, v in os.environ.items() if k not in ("MPLBACKEND", "PYTHONSTARTUP")}
    return {
        **inherited,
        **fixed,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def _told(path: Path, index: int, source: str, error: Exception) -> str:
    if isinstance(error, CellExecutionError):
        reason = f"{error.ename}: {error.evalue}"
    elif isinstance(error, CellTimeoutError):
        reason = f"it ran longer than {CELL_TIMEOUT} s"
    else:
        reason = "the kernel died: out of memory, or the cell ended the process"
    indented = "\n".join(f"    {line}" for line in source.splitlines())
    return f"{path.parent.name}/{path.name}, cell {index + 1} failed:\n{indented}\n{reason}"


def canonical(notebook: NotebookNode) -> None:
    """Leave only what is the same in the next run: no times, and no state of widgets."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            dropped = NO_STORE in cell.metadata.get("tags", [])
            cell.outputs = [] if dropped else _merged(cell.outputs)


def _merged(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs, with neighbouring pieces of one stream joined: where they were cut is chance."""
    kept: list[NotebookNode] = []
    for output in outputs:
        output.get("data", {}).pop(WIDGET, None)  # an id of this run; the text beside it stays
        if output.output_type == "error":
            output.traceback = [f"{output.ename}: {output.evalue}"]
        if kept and output.output_type == "stream" and output.name == kept[-1].get("name"):
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept
