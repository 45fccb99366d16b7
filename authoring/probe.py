"""Run a lesson's code once, push every claim card beyond its tolerance, and say which cards did not notice.

    python authoring/probe.py < CELLS        CELLS: a JSON list, [source, whether it may raise] a code cell

Prints JSON: `seconds` of processor time, `cards` (the ids, in order), `problems` (sentences).
A card with `expected` and `tolerance` must raise for each of its numbers, pushed up and pushed down. A card
with `holds` must raise for some finite number within reach.
"""

import contextlib
import functools
import io
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

REACH = [sign * 10.0**power for power in range(-3, 7) for sign in (1, -1)]


@functools.cache
def probe(cells: tuple[tuple[str, bool], ...]) -> dict[str, Any]:
    """What the script prints for these code cells, run in a process and in the folder of a lesson."""
    script = Path(__file__).resolve()
    settings = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "PYTHONUTF8": "1"}
    done = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps(cells),
        cwd=script.parents[1] / "lessons",
        env={**os.environ, **settings},
        capture_output=True,
        encoding="utf8",
        check=False,
    )
    if done.returncode:
        return {"seconds": 0.0, "cards": [], "problems": [f"the process ended: {done.stderr.strip()[-500:]}"]}
    return json.loads(done.stdout)


def run(cells: Sequence[tuple[str, bool]]) -> dict[str, Any]:
    """Run the cells in this process, with `hesslab.course.claim` wrapped."""
    from hesslab import course

    cards: list[str] = []
    problems: list[str] = []
    pushing = 0.0
    claim = course.claim

    def wrapped(id: str, measured: Any, **conditions: Any) -> None:
        nonlocal pushing
        claim(id, measured, **conditions)
        begun = time.process_time()
        cards.append(id)
        problems.extend(unnoticed(claim, id, measured, conditions))
        pushing += time.process_time() - begun

    course.claim = wrapped  # the cells import it from there
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, (source, may_raise) in enumerate(cells, start=1):
        try:
            exec(compile(source, f"code cell {number}", "exec"), namespace)
        except Exception as error:
            if may_raise:
                continue
            problems.append(f"code cell {number} raised {type(error).__name__}: {error}")
            break
    course.claim = claim
    return {"seconds": time.process_time() - pushing, "cards": cards, "problems": problems}


def unnoticed(claim: Callable[..., Any], id: str, measured: Any, conditions: dict[str, Any]) -> Iterator[str]:
    """Sentences about the pushed values of `measured` that the card should have refused."""
    numbers = _plain(measured)
    if conditions.get("holds") is not None:
        tried = (value for i in range(len(numbers)) for value in _ladder(numbers[i], i, numbers))
        if not any(_raises(claim, id, value, measured, conditions) for value in tried):
            yield f"claim {id}: its condition holds for every number tried; it cannot fail"
        return
    expected = _plain(conditions["expected"])
    for i, number in enumerate(numbers):
        goal = expected[i] if len(expected) > 1 else expected[0]
        for sign in (1, -1):
            away = 10 * conditions["tolerance"] + 1e-6 * max(abs(goal), abs(number), 1e-6)
            pushed = (not number) if isinstance(number, bool) else goal + sign * away
            if not _raises(claim, id, _replaced(numbers, i, pushed), measured, conditions):
                yield f"claim {id}: holds even at {pushed:g}, ten tolerances from what is expected"


def _ladder(number: Any, i: int, numbers: list[Any]) -> Iterator[list[Any]]:
    """The row with its number i moved: to its opposite, to zero, and by steps from small to large."""
    if isinstance(number, bool):
        yield _replaced(numbers, i, not number)
        return
    scale = max(abs(number), 1e-300)
    for value in (-number, 0.0, *(number + step * unit for step in REACH for unit in (scale, 1.0))):
        if math.isfinite(value):
            yield _replaced(numbers, i, value)


def _raises(claim: Any, id: str, row: list[Any], measured: Any, conditions: dict[str, Any]) -> bool:
    try:
        claim(id, _as_given(row, measured), **conditions)
    except AssertionError:
        return True
    return False


def _plain(values: Any) -> list[Any]:
    values = values.detach() if hasattr(values, "detach") else values
    values = values.tolist() if hasattr(values, "tolist") else values
    return list(values) if isinstance(values, list | tuple) else [values]


def _as_given(row: list[Any], measured: Any) -> Any:
    """The row in the kind of `measured`, so that a condition may use the methods of an array."""
    if hasattr(measured, "new_tensor"):
        wide = measured if isinstance(row[0], bool) else measured.detach().double()
        return wide.new_tensor(row if measured.ndim else row[0])
    if hasattr(measured, "dtype"):
        import numpy as np

        return np.asarray(row if measured.ndim else row[0])[()]
    return type(measured)(row) if isinstance(measured, list | tuple) else row[0]


def _replaced(row: list[Any], i: int, value: Any) -> list[Any]:
    return [*row[:i], value, *row[i + 1 :]]


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):
        result = run(json.load(sys.stdin))
    print(json.dumps(result))
