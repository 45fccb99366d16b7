"""A tiny course in a folder of its own, for the tests of the factory."""

import functools
import tempfile
from pathlib import Path

import nbformat

from authoring import build

COURSE = """
title: A tiny course
note: {title: A note, author: Somebody}
lessons:
  - {id: "00", slug: start, title: Start}
  - id: "01"
    slug: tiny
    title: Tiny
    note: ["1"]
    prerequisites: ["00"]
    do: You add two numbers.
    minutes: {reading: 1, computing: 1, exercises: 5}
    objectives: [{id: "1.a", text: Add two numbers}]
    exercises:
      - {name: add, title: A sum, objective: "1.a", kind: free, difficulty: 1, importance: 2,
         minutes: 5, points: 3}
claims:
  - id: "1.1"
    lesson: "01"
    words: two and two are five
    statement: They are four.
    verdict: wrong
    references: [euclid]
tracks: []
"""

LESSON = """
# %% [markdown]
# {{header}}

# %%
import sys
from hesslab.room import two

print(f"{two() + two():.1f}")
print("and", flush=True)
print(sys.stdin is None)

# %% [markdown]
# {{claim 1.1}}

# %% tags=["nbval-ignore-output", "no-store"]
print("something of this machine")

# %%
import matplotlib.pyplot as plt

plt.plot([1, 2])
plt.show()

# %% [markdown]
# The same words.

# %% [markdown]
# The same words.
"""

EXERCISE = '''# %% [markdown]
# {{header}}

# %%
from hesslab.checks.lesson_01 import check_add

# %% [markdown]
# {{exercise add}}
#
# <details><summary>Hint 1</summary>Add.</details>

# %% answer="add"
def add(a, b):
    """The sum of a and b."""
    ### BEGIN SOLUTION
    total_of_both = a + b
    return total_of_both
    ### END SOLUTION

# %% grade="add"
'''

CHECKS = """
from types import SimpleNamespace

def check_add(add, *, rng=0):
    try:
        passed = add(rng, 1) == rng + 1
    except NotImplementedError:
        passed = False
    print("add:", "passed." if passed else "not yet.")
    return SimpleNamespace(passed=passed, _ipython_display_=lambda: None)
"""

LESSON_FILE, EXERCISE_FILE = "authoring/lessons/01_tiny.py", "authoring/exercises/01_tiny.py"
BUILT = [f"{folder}/01_tiny.ipynb" for folder in ("lessons", "solutions", "exercises")]
FILES = {
    "course.yml": COURSE,
    LESSON_FILE: LESSON,
    EXERCISE_FILE: EXERCISE,
    "hesslab/__init__.py": "",
    "hesslab/room.py": "from hesslab.other import one\n\n\ndef two():\n    return 2 * one\n",
    "hesslab/other.py": "one = 1\n",
    "hesslab/unused.py": "three = 3\n",
    "hesslab/checks/__init__.py": "",
    "hesslab/checks/lesson_01.py": CHECKS,
}


def lay(root):
    """Write the sources of the tiny course into `root`."""
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text.lstrip("\n"), encoding="utf8")
    return root


@functools.cache
def built():
    """The content of what is built from it; executed once a session."""
    with tempfile.TemporaryDirectory() as folder:
        root = lay(Path(folder).resolve())
        assert build.build(root) == 0
        return {name: (root / name).read_bytes() for name in BUILT}


def fresh(root):
    """The tiny course in `root`, as built."""
    lay(root)
    for name, content in built().items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    return root


def refuse(*_):
    """In place of `execute`, where nothing may be executed."""
    raise AssertionError("executed")


def edit(root, name, old, new):
    """Replace `old` in a file of the course."""
    text = (root / name).read_text(encoding="utf8")
    assert old in text
    (root / name).write_text(text.replace(old, new), encoding="utf8")


def notebook(root, name):
    """One of its notebooks."""
    return nbformat.reads((root / name).read_text(encoding="utf8"), as_version=4)


def printed(cell):
    """What a cell printed."""
    return "".join(output.get("text", "") for output in cell.outputs)
