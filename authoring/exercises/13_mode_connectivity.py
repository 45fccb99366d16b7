# %% [markdown]
# {{header}}

# %%
import numpy as np
from scipy.optimize import linear_sum_assignment

from hesslab.checks.lesson_13 import (
    check_barrier_from_ends,
    check_barrier_height,
    check_bezier_and_tangent,
    check_match_units,
    check_permute,
    check_verdict,
)

# %% [markdown]
# {{exercise barrier_height}}
#
# A worked example. You have the losses at some places $t$ of a line, the first at $t = 0$, the last at $t = 1$. The barrier is the largest excess over the straight line between the losses of the two ends:
#
# $$\max_t\; \big[L(t) - (1-t)\,L(0) - t\,L(1)\big].$$
#
# For $t = 0, \tfrac14, 1$ and the losses 2, 5, 4 the baseline is 2, 2.5, 4, the excess 0, 2.5, 0, and the barrier is 2.5. (Over the mean of the ends the losses climb by 2, over the larger end by 1: say which you mean.) In code: the baseline as an array, the excess, its maximum.
#
# <details><summary>Hint 1</summary>
#
# `losses[0]` and `losses[-1]` are the losses of the ends.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The places need not be equidistant: use `t`, not the position in the array.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `(losses - (1 - t) * losses[0] - t * losses[-1]).max()`.
#
# </details>


# %% answer="barrier_height"
def barrier_height(t, losses):
    """The largest excess of the losses over the line between those of the two ends, a number.

    `t` and `losses` are arrays of the same length; t goes from 0 to 1.
    """
    ### BEGIN SOLUTION
    baseline = (1 - t) * losses[0] + t * losses[-1]
    return (losses - baseline).max()
    ### END SOLUTION


# %% grade="barrier_height"

# %% [markdown]
# {{exercise permute}}
#
# A network with one hidden layer computes $W_2\,\sigma(W_1 x + b_1) + b_2$, with σ acting on each unit alone. Give its hidden units a new order: **unit $i$ becomes what was unit $p[i]$.** The outputs must stay as they are, for every $x$.
#
# Three of the four arrays change. Return all four as a list, in the order in which they came.
#
# <details><summary>Hint 1</summary>
#
# What belongs to hidden unit $i$? One row of $W_1$, one entry of $b_1$, and what the next layer multiplies it with.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `W1[p]` takes the rows of `W1` in the order p. The next layer multiplies unit $i$ with column $i$ of $W_2$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `W2[:, p]` takes columns. The same p, not its inverse: column $i$ must be what was column $p[i]$.
#
# </details>


# %% answer="permute"
def permute(parts, p):
    """The parameters [W1, b1, W2, b2] after hidden unit i became what was unit p[i]; the outputs stay."""
    W1, b1, W2, b2 = parts
    ### BEGIN SOLUTION
    return [W1[p], b1[p], W2[:, p], b2]
    ### END SOLUTION


# %% grade="permute"

# %% [markdown]
# {{exercise match_units}}
#
# Who is who? `A` and `B` hold what the hidden units of two networks say on the same data, a row for each example and a column for each unit. Find the permutation $p$ that makes
#
# $$\sum_i \operatorname{corr}\big(A_{:,i},\; B_{:,p[i]}\big)$$
#
# as large as possible. The correlation of two columns is that of statistics: subtract the means, divide by the standard deviations, take the mean of the product. Every column varies.
#
# `linear_sum_assignment(S, maximize=True)` returns row numbers and column numbers of the best assignment, the rows in ascending order.
#
# <details><summary>Hint 1</summary>
#
# Standardize the columns of both arrays first. Then one matrix product gives all correlations, up to a factor that does not matter.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `S = A.T @ B` has unit $i$ of the first network in row $i$, and unit $j$ of the second in column $j$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `rows, columns = linear_sum_assignment(S, maximize=True)`, and `columns` is p. (Without `maximize=True` SciPy looks for the worst.)
#
# </details>


# %% answer="match_units"
def match_units(A, B):
    """The permutation p with the largest sum of correlations of A[:, i] with B[:, p[i]], an array of integers."""
    ### BEGIN SOLUTION
    A = (A - A.mean(axis=0)) / A.std(axis=0)
    B = (B - B.mean(axis=0)) / B.std(axis=0)
    return linear_sum_assignment(A.T @ B, maximize=True)[1]
    ### END SOLUTION


# %% grade="match_units"

# %% [markdown]
# {{exercise bezier_and_tangent}}
#
# The quadratic Bézier curve from $a$ to $b$ with control point $c$ is
#
# $$\theta(t) = (1-t)^2\,a + 2t(1-t)\,c + t^2\,b .$$
#
# Return the point $\theta(t)$ and the tangent $\theta'(t)$. Check yourself: at $t = 0$ the tangent is $2(c - a)$, at $t = 1$ it is $2(b - c)$. Does the curve go through $c$?
#
# <details><summary>Hint 1</summary>
#
# Differentiate the three factors, one after the other. $(1-t)^2$ has the derivative $-2(1-t)$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $2t(1-t) = 2t - 2t^2$ has the derivative $2 - 4t$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Sorted: $\theta'(t) = 2(1-t)(c-a) + 2t(b-c)$. (The curve is at $\tfrac14 a + \tfrac12 c + \tfrac14 b$ for $t = \tfrac12$: not at $c$.)
#
# </details>


# %% answer="bezier_and_tangent"
def bezier_and_tangent(a, c, b, t):
    """(point, tangent) of the quadratic Bézier curve from a to b with control point c, at t."""
    ### BEGIN SOLUTION
    point = (1 - t) ** 2 * a + 2 * t * (1 - t) * c + t**2 * b
    return point, 2 * (1 - t) * (c - a) + 2 * t * (b - c)
    ### END SOLUTION


# %% grade="bezier_and_tangent"

# %% [markdown]
# {{exercise barrier_from_ends}}
#
# Two minima $a$ and $b$ have the same loss, both gradients are zero, and the Hessians are $H_a$ and $H_b$. With $d = b - a$ the loss along the line is, near each end, a parabola in $t$. From $a$ its height above the ends is
#
# $$\tfrac12\,t^2\; d^\top H_a d, \qquad\text{and from } b: \quad \tfrac12\,(1-t)^2\; d^\top H_b d .$$
#
# Follow the lower of the two. It is highest where they meet. Predict the barrier: the height at the meeting point. On paper first: where do they meet if the two curvatures differ? Both curvatures are positive.
#
# Apply a Hessian only by `H @ d`. It may be an operator that has no entries.
#
# <details><summary>Hint 1</summary>
#
# Put $q_a = d^\top H_a d$ and $q_b = d^\top H_b d$, and take the root on both sides of $q_a t^2 = q_b (1-t)^2$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $t = \dfrac{\sqrt{q_b}}{\sqrt{q_a} + \sqrt{q_b}}$. The flatter end reaches further.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The height is $\tfrac12 q_a t^2$ there. With $q_a = q_b = q$ it is $q/8$. Do not divide by $d^\top d$: the length of the way counts.
#
# </details>


# %% answer="barrier_from_ends"
def barrier_from_ends(H_a, H_b, d):
    """The height at which the parabolas of the two ends meet on the line a + t d, for equal losses, zero gradients."""
    ### BEGIN SOLUTION
    q_a, q_b = d @ (H_a @ d), d @ (H_b @ d)
    t = np.sqrt(q_b) / (np.sqrt(q_a) + np.sqrt(q_b))
    return q_a * t**2 / 2
    ### END SOLUTION


# %% grade="barrier_from_ends"

# %% [markdown]
# {{exercise verdict}}
#
# You have three loss profiles between two networks, each an array from one end to the other: along the straight line, along the line to the *sorted* second network, and along a trained curve. (The ends have the same losses in all three.) A path is **low** if its largest loss is at most $(1 + \text{slack})$ times the loss of the worse end.
# What do the profiles prove? Return the first of these that applies:
#
# - `"linear"`: the straight line is low;
# - `"permutation"`: the line to the sorted network is low;
# - `"curve"`: the trained curve is low;
# - `"undecided"`: none of them is.
#
# The last word is not "separate". Why not?
#
# <details><summary>Hint 1</summary>
#
# The worse end of a profile is `max(profile[0], profile[-1])`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Write the test once, as a small function inside, and apply it to the three profiles in turn.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `if low(line): return "linear"`, and so on. A bump on a path that was tried says nothing about the paths that were not.
#
# </details>


# %% answer="verdict"
def verdict(line, matched, curve, slack):
    """The first kind of path that was found low: "linear", "permutation", "curve", or else "undecided"."""
    ### BEGIN SOLUTION
    profiles = {"linear": line, "permutation": matched, "curve": curve}
    for word, losses in profiles.items():
        if np.max(losses) <= (1 + slack) * max(losses[0], losses[-1]):
            return word
    return "undecided"
    ### END SOLUTION


# %% grade="verdict"
