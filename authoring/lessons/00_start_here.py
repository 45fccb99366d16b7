# %% [markdown]
# {{header}}

# %% [markdown]
# A notebook is a page of cells. Click a cell and press **Shift + Enter** to run it; the next one is then selected.
# Run the cells from top to bottom: a later cell uses what an earlier one has made.
#
# If something looks wrong, choose *Kernel → Restart Kernel and Run All Cells*. That is always safe.

# %% [markdown]
# ## Check your machine
#
# The first cell of every lesson sets up its arithmetic: 64-bit numbers, one thread, deterministic algorithms.

# %%
import numpy as np
import torch

from hesslab.course import claim, predict, start, ticket

start()

# %% [markdown]
# Each check below prints one word. The first lets PyTorch compute the second derivatives of $x^2 + xy + y^2$. They
# form the matrix with 2 on its diagonal and 1 beside it, whose eigenvalues are 3 and 1.

# %%
quadratic = lambda x: x[0] ** 2 + x[0] * x[1] + x[1] ** 2
H = torch.func.hessian(quadratic)(torch.zeros(2))
eigenvalues = np.linalg.eigvalsh(H.numpy())
print("eigenvalue:", "ok" if np.allclose(eigenvalues, [1, 3]) else "WRONG")

# %%
from importlib.metadata import requires, version

from packaging.requirements import Requirement

needed = [r for r in map(Requirement, requires("hesslab")) if r.marker is None]
print("packages:", "ok" if all(r.specifier.contains(version(r.name)) for r in needed) else "TOO OLD")

# %%
print("threads:", "ok" if torch.get_num_threads() == 1 else "NOT SET")
print("precision:", "ok" if torch.zeros(1).dtype == torch.float64 else "NOT SET")

# %% [markdown]
# Four times *ok*, and this machine is ready. If not, close JupyterLab and run `python3 lab.py` once more: it installs
# what is missing.
#
# The next cell says what this machine has, and how long it takes for a product of two matrices. Its answer depends on
# your machine, so none is stored with it.

# %% tags=["nbval-ignore-output", "no-store"]
import platform
from time import perf_counter

A = np.random.default_rng(0).standard_normal((500, 500))
begun = perf_counter()
A @ A
print(f"Python {platform.python_version()} on {platform.system()}, {perf_counter() - begun:.3f} s")
print("\n".join(f"{r.name} {version(r.name)}" for r in needed))

# %% [markdown]
# ## How a lesson works
#
# This course takes a short note, *Day 29: Hessian Spectrum and Optimization Stability* by Rohit Sanwariya, and measures
# every claim in it. Some hold, some hold under conditions, some are wrong. You will meet the same four things in every
# lesson.
#
# ### A prediction
#
# Before a cell shows a result, you say what you expect. Write your number in place of `None` and run the cell. Nobody
# sees it. A wrong prediction that you have written down is the best teacher there is.
#
# Here is a matrix. Look at its diagonal.

# %%
A = np.array([[2, 1, 0], [1, 0, 3], [0, 3, 4]])
print(A)

# %%
predict("mean", "What is the mean of its three eigenvalues?", answer=None)

# %%
mean = np.mean(np.linalg.eigvalsh(A))
print(f"the mean eigenvalue is {mean:.2f}")

# %% [markdown]
# The sum of the eigenvalues is the sum of the diagonal, the *trace*. So their mean is the trace divided by their number.
#
# ### A claim card
#
# A claim card is a statement that is checked each time the lesson runs. It has the words of the note, the statement that
# we can defend, and a cell that measures. The cell shows one line: what was measured, and how far it may be from what
# was expected.
#
# > **Example.** The mean of the eigenvalues is the trace divided by n.

# %%
claim("example", mean, expected=np.trace(A) / 3, tolerance=1e-12)

# %% [markdown]
# If the evidence fails, the cell stops with an error, and so does the notebook. The note says that 1/tr(H) is about
# 1/E[λ]: the trace itself as the mean eigenvalue, without the division by n. Here is what a card says to that.

# %%
try:
    claim("example", np.trace(A), expected=mean, tolerance=0.01)
except AssertionError as error:
    print(error)

# %% [markdown]
# For three eigenvalues the note's version is wrong by a factor of 3. For a network of a million parameters it is wrong
# by a factor of a million. Lesson 12 comes back to that.
#
# ### An exercise and its check
#
# Exercises stand in the folder `exercises`, one notebook a lesson. You write the body of a function, and a check says
# what it thinks of it. An untouched exercise says so and stops nothing.

# %%
from hesslab.checks.lesson_00 import TICKET, check_mean_eigenvalue


def mean_eigenvalue(A):
    """The mean of the eigenvalues of a symmetric matrix A, a number."""
    raise NotImplementedError("not attempted: replace this line by your answer")


check_mean_eigenvalue(mean_eigenvalue)

# %% [markdown]
# A wrong answer is told which law it breaks, on which case, by how much, and what to try. This one is the note's.

# %%
check_mean_eigenvalue(lambda A: np.trace(A))

# %% [markdown]
# A right answer passes, whichever way it is computed.

# %%
check_mean_eigenvalue(lambda A: np.mean(np.linalg.eigvalsh(A)))

# %% [markdown]
# Now write your own answer in place of the line that begins with `raise`, and run that cell again. Stuck? Each exercise has three hints,
# folded away, and a worked answer in the folder `solutions`.
#
# ### An exit ticket
#
# A lesson ends with a few questions. Write the number of your choice in place of `None`. The ticket also scores the
# predictions that you recorded.

# %%
ticket(TICKET, answers=[None], outcomes={"mean": (mean, 0.005)})

# %% [markdown]
# ## The map of the course
#
# {{map}}

# %% [markdown]
# ## Where things are
#
# | folder | what you find there |
# | --- | --- |
# | `lessons` | this page and the lessons, with the results that their authors saw |
# | `exercises` | the exercises, for you to fill in |
# | `solutions` | the same, filled in |
# | `hesslab` | the library: one idea a file, made to be read |
#
# Your changes to a notebook are yours. To get the original back: `git checkout lessons/00_start_here.ipynb`.
#
# **Next:** [01 · Curvature at a point](01_curvature_at_a_point.ipynb).
