"""One Hessian product of each kind of network, in train and eval mode: hesslab and its peers, as they come.

    python benchmarks/compatibility.py

The networks are those of `tests/networks.py`, small, in float64, with cross-entropy on one batch of 8. A
product is right where it is within 1e-5 of a central difference of gradients, taken by torch alone in the
mode that the model was in; a GGN is not compared. A cell says "stops" with the error, "random" where two
products of the same vector differ, "wrong" with the relative error, and otherwise "ok", with what is not as
before: buffers, `.grad`, the mode, attributes, or the global random state ("draws"). The sums count what is
right, and what is right and leaves the model as it was. To stop at active dropout is right, and not counted.
"""

import contextlib
import importlib
import io
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from products import ENGINES, Task
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from networks import MODELS, difference_of_gradients, draw, everything, labels

RIGHT = 1e-5


def dropped() -> nn.Module:
    """A network whose forward draws: to refuse it in train mode is right."""
    return nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Tanh(), nn.Linear(6, 3))


CASES = {**MODELS, "dropout of rate 0.5": (dropped, (lambda: draw(8, 4), lambda: labels(8)))}
COLUMNS = {
    **{name: ("Hessian", name) for name in ENGINES["Hessian"]},
    "curvlinops, GGN": ("GGN", "curvlinops"),
}


WORDS = {
    "tensors": "moves buffers",
    "grads": "leaves gradients",
    "modes": "leaves eval mode",
    "attributes": "moves attributes",
    "random": "draws",
}


def fresh(make: Any) -> nn.Module:
    """The network with the weights of seed 0."""
    torch.manual_seed(0)
    return make()


def same(before: Any, after: Any) -> bool:
    """Whether everything is as it was, to the last bit."""
    try:
        torch.testing.assert_close(after, before, rtol=0, atol=0, equal_nan=True)
    except AssertionError:
        return False
    return True


def verdict(case: str, mode: str, column: str) -> str:
    """What one engine makes of one network."""
    matrix, engine = COLUMNS[column]
    make, (inputs, targets) = CASES[case]
    reference, model = (fresh(make).train(mode == "train") for _ in range(2))
    x, y = inputs(), targets()
    params = [p for p in model.parameters() if p.requires_grad]
    v = draw(sum(p.numel() for p in params), seed=7)
    before = everything(model)
    try:
        product = ENGINES[matrix][engine][1](Task(case, model, (x, y)), 2)
        first, again = product(v), product(v)
    except Exception as failure:  # what a peer cannot do is what this table shows
        return f"stops: {type(failure).__name__}"
    if (first - again).norm() > RIGHT * first.norm():
        return "random"
    if matrix == "Hessian":
        exact = difference_of_gradients(reference, lambda m: F.cross_entropy(m(x), y), v)
        error = float((first - exact).norm() / exact.norm())
        if not error <= RIGHT:
            return f"wrong by {error:.0e}"
    changed = [part for part, was in before.items() if not same(was, everything(model)[part])]
    return f"ok, but {', '.join(WORDS[part] for part in changed)}" if changed else "ok"


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    columns = []
    for column, (matrix, engine) in COLUMNS.items():
        try:
            importlib.import_module(ENGINES[matrix][engine][0])
            columns.append(column)
        except ImportError:
            print(f"{column}: not installed, skipped\n")
    print("| network | mode | " + " | ".join(columns) + " |\n|---|---|" + "---|" * len(columns))
    right, clean = dict.fromkeys(columns, 0), dict.fromkeys(columns, 0)
    for case in CASES:
        for mode in ("train", "eval"):
            cells = []
            for column in columns:
                with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
                    cells.append(verdict(case, mode, column))
                right[column] += cells[-1].startswith("ok")
                clean[column] += cells[-1] in ("ok", "ok, but draws")
            print(f"| {case} | {mode} | " + " | ".join(cells) + " |", flush=True)
    for words, counts in (("right", right), ("right, model as before", clean)):
        print(f"| **{words}, of {2 * len(CASES)}** | | " + " | ".join(str(counts[c]) for c in columns) + " |")


if __name__ == "__main__":
    main()
