"""`python -m hesslab audit SETUP`: the audit of a model from the command line, with its figures.

SETUP is `file.py` or `package.module`, with `:function` behind it for another name than `setup`. The function
takes no argument and returns the arguments of `hesslab.audit.audit` by name, as a dict:

    def setup():
        return {"model": model, "loss": torch.nn.CrossEntropyLoss(), "data": loader, "optimizer": optimizer}
"""

import argparse
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hesslab import plots
from hesslab.audit import Audit, audit


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 where the audit was made, 2 where an argument is wrong, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m hesslab", description="Look at a model where it stands.")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("audit", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    command.add_argument("setup", help="file.py[:function] or package.module[:function]")
    command.add_argument("--budget", type=int, default=300, help="products with the Hessian (default: 300)")
    command.add_argument("--seed", type=int, default=0, help="of the random probes (default: 0)")
    command.add_argument("--html", type=Path, help="write the report here, one page with its figures")
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console without λ is no reason to lose an audit
    try:
        return _reported(options)
    except KeyboardInterrupt:
        print("\nInterrupted: there is no report.", file=sys.stderr)
        return 130


def _reported(options: argparse.Namespace) -> int:
    """Make the audit, print it, and write the page."""
    if options.html is not None and (options.html.is_dir() or not options.html.parent.is_dir()):
        print(f"--html {options.html}: expected the name of a file in a folder that exists", file=sys.stderr)
        return 2
    try:
        settings = _loaded(options.setup)()
        if not isinstance(settings, dict):
            raise TypeError(f"it returned a {type(settings).__name__}, not a dict")
        found = audit(**settings, budget=options.budget, progress=sys.stderr.isatty(), rng=options.seed)
    except (Exception, SystemExit) as error:
        print(f"{options.setup} gives no audit: {_said(error)}", file=sys.stderr)
        return 2
    print(found, flush=True)
    if options.html is not None:
        try:
            options.html.write_text(found.html(*figures(found)), encoding="utf8", errors="replace")
        except OSError as error:
            print(f"the report cannot be written: {error}", file=sys.stderr)
            return 2
        print(f"\nThe report is in {options.html}.")
    return 0


def _said(error: BaseException) -> str:
    """An error in a line: our own are sentences, those of others get their kind and their place."""
    if isinstance(error, ValueError | ImportError | AttributeError | OSError | TypeError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def _loaded(setup: str) -> Callable[[], Any]:
    """The function that SETUP names."""
    place, _, name = setup.rpartition(":") if ":" in setup[2:] else (setup, "", "setup")
    if not place.endswith(".py"):
        return getattr(importlib.import_module(place), name)  # type: ignore[no-any-return]
    path = Path(place).resolve()
    if not path.is_file():
        raise OSError(f"there is no file {place}")
    spec = importlib.util.spec_from_file_location("audited", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    return getattr(module, name)  # type: ignore[no-any-return]


def figures(found: Audit) -> list[tuple[Any, str]]:
    """What can be drawn of an audit, each figure with its alt text."""
    drawn = (_spectrum, _steps, _by_layer)
    return [pair for draw in drawn if (pair := draw(found)) is not None]


def _spectrum(found: Audit) -> tuple[Any, str] | None:
    if found.density is None:
        return None
    low, high = float(found.density.nodes.min()), float(found.density.nodes.max())
    width = (high - low) / 100
    if not width > 0:
        return None
    grid = np.linspace(low - 5 * width, high + 5 * width, 400)
    density = found.density.density(grid, width)
    figure, axes = plots.panels()
    bands = [np.clip(end, 1e-6, None) for end in density.interval()]
    plots.density(axes, grid, np.clip(density.value, 1e-6, None), bands)
    axes.set(yscale="log", xlabel="eigenvalue of the Hessian", ylabel="density", ylim=(1e-5, None))
    return figure, (
        f"The density of the spectrum, smoothed with a width of {width:.2g}, from {low:.3g} to {high:.3g}, "
        "with its 95 % band on a logarithmic axis."
    )


def _steps(found: Audit) -> tuple[Any, str] | None:
    if found.critical is None:
        return None
    rates, losses = np.array(found.critical.tried).T
    finite = np.isfinite(losses)
    figure, axes = plots.panels()
    axes.plot(rates[finite], losses[finite], marker="o")
    plots.threshold(axes, found.critical.loss, "the loss now")
    plots.threshold(axes, found.critical.rate, "the rate now", vertical=True)
    axes.set(xscale="log", xlabel="learning rate of the next step", ylabel="loss after it")
    if losses[finite].min() > 0:
        axes.set_yscale("log")
    return figure, (
        f"The loss after one step against its learning rate: {found.critical}. The present rate is "
        f"{found.critical.rate:.3g}."
    )


def _by_layer(found: Audit) -> tuple[Any, str] | None:
    known = {name: layer for name, layer in found.layers.items() if len(layer.largest.values)}
    if len(known) < 2:
        return None
    values = [float(layer.largest.values[0]) for layer in known.values()]
    rows = np.arange(len(known))
    figure, axes = plots.panels(size=(8.0, min(1.2 + 0.25 * len(known), 9.0)))
    axes.barh(rows, values)
    axes.set_yticks(rows, known, parse_math=False)  # a name may hold a $
    axes.invert_yaxis()
    axes.set_xlabel("λmax of the layer's own block")
    sharpest = max(known, key=lambda name: float(known[name].largest.values[0]))
    return figure, (
        f"The largest eigenvalue of each of {len(known)} diagonal blocks; {sharpest} has the largest, "
        f"{max(values):.3g}."
    )


if __name__ == "__main__":
    sys.exit(main())
