# %% [markdown]
# {{header}}

# %%
import numpy as np

from hesslab.checks.lesson_02 import (
    check_best_step,
    check_error_after,
    check_find_stable_step,
    check_finishing_steps,
    check_guaranteed_step,
    check_largest_stable_step,
)

# %% [markdown]
# {{exercise error_after}}
#
# A worked example. Take $H$ with the eigenvalues 1 and 3, eigenvectors $v_1 = (1, 1)/\sqrt2$ and $v_2 = (1, -1)/\sqrt2$, and the error
# $e_0 = (2, 0)$. Its components are $c_1 = v_1 \cdot e_0 = \sqrt2$ and $c_2 = v_2 \cdot e_0 = \sqrt2$.
#
# With $\eta = 0.5$ the factors are $1 - 0.5 = 0.5$ and $1 - 1.5 = -0.5$. After two steps both are squared:
# $c_1 = c_2 = 0.25\sqrt2$. Put the components together again: $e_2 = c_1 v_1 + c_2 v_2 = (0.5, 0)$.
#
# Write these three moves for any $H$ and any number of steps: into the eigenbasis, multiply, and back.
#
# <details><summary>Hint 1</summary>
#
# `np.linalg.eigh` returns the eigenvalues, and a matrix $V$ with the eigenvectors as *columns*. So the components of $e$ are $V^\top e$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Every component is multiplied by its own $(1 - \eta\lambda_i)^t$, with its sign.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Back from components to the vector: $e = V c$.
#
# </details>


# %% answer="error_after"
def error_after(H, error, eta, num_steps):
    """The error θ_t − θ*, shape (d,), after `num_steps` steps of gradient descent on a quadratic.

    `H` is the Hessian, symmetric, of any signs, shape (d, d); `error` is θ_0 − θ*, shape (d,).
    """
    ### BEGIN SOLUTION
    values, V = np.linalg.eigh(H)
    return V @ ((1 - eta * values) ** num_steps * (V.T @ error))
    ### END SOLUTION


# %% grade="error_after"

# %% [markdown]
# {{exercise largest_stable_step}}
#
# Up to which η does no mode of a quadratic grow? You are given the eigenvalues, in any order. Three cases:
#
# - a negative eigenvalue: some mode grows for every η > 0, so the answer is `0.0`
# - no negative and no positive one: nothing ever moves, so the answer is `np.inf`
# - else: the border of Section 2. A zero beside a positive eigenvalue changes nothing
#
# Computed eigenvalues carry rounding. An eigenvalue whose size is at most `rtol` times the largest size counts as zero.
#
# <details><summary>Hint 1</summary>
#
# Compute the largest size first, and from it the level below which a size counts as zero. Compare with minus that level.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Do not rely on the order: use `.max()`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# A zero eigenvalue forbids nothing: its factor is 1. A negative one forbids everything, however small the largest is.
#
# </details>


# %% answer="largest_stable_step"
def largest_stable_step(eigenvalues, rtol=1e-12):
    """The largest η at which no mode of gradient descent grows: a number from 0 to infinity."""
    ### BEGIN SOLUTION
    values = np.asarray(eigenvalues, dtype=float)
    level = rtol * abs(values).max()
    if (values < -level).any():
        return 0.0
    return 2 / values.max() if (values > level).any() else np.inf
    ### END SOLUTION


# %% grade="largest_stable_step"

# %% [markdown]
# {{exercise best_step}}
#
# All eigenvalues are positive; they come in any order. Return three numbers: the best fixed step size, its worst-case factor a step, and the number of steps after
# which the distance is *certainly* at most `tolerance` times that at the start. For the eigenvalues 0.1, 1 and 10 and
# tolerance $10^{-6}$ they are 0.1980, 0.9802 and 691.
#
# Complete the plan:
#
# - `eta = ` the step at which the two extreme modes have factors of the same size
# - `rate = ` that size
# - `steps = ` the smallest whole $t$ with `rate ** t <= tolerance`
#
# <details><summary>Hint 1</summary>
#
# $1 - \eta\lambda_{\min} = \eta\lambda_{\max} - 1$. Solve for η.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $r^t \le \text{tol}$ means $t \ge \ln \text{tol} / \ln r$. Both logarithms are negative.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# "Smallest whole number that is at least" is `np.ceil`.
#
# </details>


# %% answer="best_step"
def best_step(eigenvalues, tolerance):
    """(η*, r*, t): the best fixed step, its worst factor a step, and the steps until r*ᵗ ≤ `tolerance`."""
    ### BEGIN SOLUTION
    low, high = min(eigenvalues), max(eigenvalues)
    eta, rate = 2 / (high + low), (high - low) / (high + low)
    return eta, rate, int(np.ceil(np.log(tolerance) / np.log(rate)))
    ### END SOLUTION


# %% grade="best_step"

# %% [markdown]
# {{exercise guaranteed_step}}
#
# Logistic regression with a ridge: $L(w) = \frac1n \sum_i \log\big(1 + e^{-s_i x_i^\top w}\big) + \frac{\rho}{2} \lVert w \rVert^2$. Its Hessian is
# $\frac1n X^\top \mathrm{diag}\big(p_i(1-p_i)\big) X + \rho I$, and $p_i$ changes with $w$. Find the border of Section 7: every η *below* it
# converges from every start. Return the border itself.
#
# You know `X` and ρ. You do not know the labels, and you need not. Two steps:
#
# - `bound = ` the largest eigenvalue that the Hessian has anywhere
# - `return` the step size that belongs to it
#
# <details><summary>Hint 1</summary>
#
# $p(1-p)$ is largest at $p = \frac12$. At which $w$ are all $p_i$ one half?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The bound is $\frac{1}{4n}\,\lambda_{\max}(X^\top X) + \rho$. The quarter belongs to the data, not to the ridge.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `np.linalg.eigvalsh(X.T @ X)[-1]`, or the square of the largest singular value of `X`.
#
# </details>


# %% answer="guaranteed_step"
def guaranteed_step(X, ridge):
    """2/ℓ, ℓ being the largest curvature of the ridged mean logistic loss anywhere; `X` has shape (n, d)."""
    ### BEGIN SOLUTION
    bound = np.linalg.norm(X, 2) ** 2 / (4 * len(X)) + ridge
    return 2 / bound
    ### END SOLUTION


# %% grade="guaranteed_step"

# %% [markdown]
# {{exercise find_stable_step}}
#
# Now without a Hessian. You get the gradient of a quadratic as a function, a start, and a step size `high` that is unstable, but shorter than twice the border. Find
# the largest stable step to a tenth of a per cent. All eigenvalues are positive. They lie within a factor of 5 of each other.
#
# Two traps. The steepest mode may begin very small, a thousandth of the others, and hide behind them. And a run that has converged has a gradient of pure rounding,
# which no longer shrinks.
#
# <details><summary>Hint 1</summary>
#
# Halve the interval from 0 to `high` a dozen times. Each time decide by a run whether the middle is stable.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# How to decide: compare the length of the gradient late in the run with its length half-way. The modes that shrink must be gone by
# then. A hundred steps are enough here.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Far beyond the border the numbers explode. Stop a run as soon as the gradient is $10^9$ times as long as at the start, and
# call it unstable. Call it stable when at the end it is less than $10^{-9}$ times as long.
#
# </details>


# %% answer="find_stable_step"
def find_stable_step(gradient, start, high):
    """The largest stable step size of gradient descent, to a relative error of 1e-3, found from runs.

    `gradient` is a function of an array (d,), linear up to a constant; `start` has shape (d,).
    """

    ### BEGIN SOLUTION
    def stable(eta, steps=40):
        x, lengths = np.array(start, dtype=float), []
        for _ in range(2 * steps):
            g = gradient(x)
            lengths.append(np.linalg.norm(g))
            if not lengths[-1] <= 1e9 * lengths[0]:
                return False
            x = x - eta * g
        return lengths[-1] <= max(lengths[steps], 1e-9 * lengths[0])

    low = 0.0
    for _ in range(13):
        middle = (low + high) / 2
        low, high = (middle, high) if stable(middle) else (low, middle)
    return low
    ### END SOLUTION


# %% grade="find_stable_step"

# %% [markdown]
# {{exercise finishing_steps}}
#
# The step size may change from step to step. Given the eigenvalues of a quadratic, none of them negative, return step sizes
# $\eta_1, \dots, \eta_k$ that bring gradient descent from *any* start to a minimum, with $k$ as small as possible. Eigenvalues repeat, and some are zero.
#
# <details><summary>Hint 1</summary>
#
# After $k$ steps mode $i$ has the factor $(1 - \eta_1\lambda_i) \cdots (1 - \eta_k\lambda_i)$. When is it zero?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# One step serves all modes with the same eigenvalue. And which modes need none?
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `np.unique` sorts, and drops repetitions.
#
# </details>


# %% answer="finishing_steps"
def finishing_steps(eigenvalues):
    """The fewest step sizes, shape (k,), after which gradient descent is at a minimum from any start."""
    ### BEGIN SOLUTION
    distinct = np.unique(eigenvalues)
    return 1 / distinct[distinct > 0]
    ### END SOLUTION


# %% grade="finishing_steps"
