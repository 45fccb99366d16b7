# %% [markdown]
# {{header}}

# %%
import numpy as np

from hesslab.checks.lesson_10 import (
    check_clip_by_norm,
    check_decayed_edge,
    check_first_crossing,
    check_keep_step,
    check_sam,
    check_sam_edge,
)

# %% [markdown]
# {{exercise clip_by_norm}}
#
# A worked example. The gradient of a network comes as a list of arrays, one a layer. Clipping by the norm treats them as **one** vector $g$, and shortens it to the length $c$ if it is longer:
#
# $$g \leftarrow g\cdot\min\Big(1, \frac{c}{\lVert g\rVert}\Big).$$
#
# For the two arrays (3, 0) and (4) the common length is 5. With $c = 1$ they become (0.6, 0) and (0.8). With $c = 10$ they stay. In code: sum the squares of all entries of all arrays, take the root, compute the factor once, and return a list.
#
# <details><summary>Hint 1</summary>
#
# `(part ** 2).sum()` is the sum of squares of one array. Add these up over the list, and take the root at the end.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The factor is `min(1, longest / length)`, one number for all arrays.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Return `[factor * part for part in gradients]`.
#
# </details>


# %% answer="clip_by_norm"
def clip_by_norm(gradients, longest):
    """The arrays of a gradient, all multiplied by one number, so that their common length is at most `longest`."""
    ### BEGIN SOLUTION
    length = np.sqrt(sum((part**2).sum() for part in gradients))
    factor = min(1.0, longest / length)
    return [factor * part for part in gradients]
    ### END SOLUTION


# %% grade="clip_by_norm"

# %% [markdown]
# {{exercise sam_edge}}
#
# SAM steps on a quadratic of curvature λ as gradient descent does on the curvature $\lambda(1 + \rho\lambda/\lVert g\rVert)$. It is at its edge where
#
# $$\eta\,\lambda\,\Big(1 + \frac{\rho\lambda}{\lVert g\rVert}\Big) = 2 .$$
#
# Solve this for λ, on paper. Write it as $a\lambda^2 + b\lambda - \ldots = 0$ first. Then check yourself: what must remain for a very long gradient, and does it?
#
# <details><summary>Hint 1</summary>
#
# $\frac{\rho}{\lVert g\rVert}\lambda^2 + \lambda - \frac{2}{\eta} = 0$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $a = \rho/\lVert g\rVert$, $b = 1$, and the constant is $-2/\eta$. The root is $\frac{-b + \sqrt{b^2 - 4ac}}{2a}$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# $\frac{\lVert g\rVert}{2\rho}\big(\sqrt{1 + 8\rho/(\eta\lVert g\rVert)} - 1\big)$. For a long gradient this tends to $2/\eta$.
#
# </details>


# %% answer="sam_edge"
def sam_edge(eta, rho, length):
    """The curvature at which SAM with step η and radius ρ is at its edge, for a gradient of that length."""
    ### BEGIN SOLUTION
    return length / (2 * rho) * (np.sqrt(1 + 8 * rho / (eta * length)) - 1)
    ### END SOLUTION


# %% grade="sam_edge"

# %% [markdown]
# {{exercise decayed_edge}}
#
# How large may a curvature be, if the weights decay by ω? Three optimizers, three answers.
#
# - `"sgd"`, without momentum: its step is $\theta \leftarrow \theta - \eta(\nabla L + \omega\theta)$. Asked for is the largest stable eigenvalue of the Hessian of L, *without* the decay.
# - `"adam"`, with the decay in the gradient: asked for is the largest stable eigenvalue of $P^{-1/2}(H + \omega I)P^{-1/2}$, which holds the decay already. P is held fixed.
# - `"adamw"`, with the decay beside the gradient: asked for is the largest stable eigenvalue of $P^{-1/2}HP^{-1/2}$, without the decay. P is held fixed.
#
# Adam and AdamW average the gradient: $m \leftarrow \beta m + (1-\beta)g$. For a curvature λ and no decay that raises the edge from $2/\eta$ to $\frac2\eta\cdot\frac{1+\beta}{1-\beta}$. With AdamW the iteration for one mode is
#
# $$m \leftarrow \beta m + (1-\beta)\lambda x, \qquad x \leftarrow (1 - \eta\omega)x - \eta m .$$
#
# At the edge $x$ changes only its sign, and so does $m$. Put $x_{t+1} = -x_t$ and $m_{t+1} = -m_t$ into both equations, and solve for λ. For Adam do the same without the decay.
#
# <details><summary>Hint 1</summary>
#
# SGD: the curvature of the step is $\lambda + \omega$, and $\eta(\lambda + \omega)$ must not exceed 2.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# From $-m = \beta m + (1-\beta)\lambda x$ with the old $m$ on the right follows that the new $m$ is $\frac{1-\beta}{1+\beta}\lambda x$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The second equation becomes $2 - \eta\omega = \eta\,\frac{1-\beta}{1+\beta}\lambda$.
#
# </details>


# %% answer="decayed_edge"
def decayed_edge(kind, eta, omega, beta):
    """The largest stable curvature with weight decay ω, for "sgd", "adam" or "adamw", as described above.

    β is the momentum of Adam and AdamW; "sgd" has none, and ignores it.
    """
    ### BEGIN SOLUTION
    averaged = (1 + beta) / (1 - beta)
    if kind == "sgd":
        return 2 / eta - omega
    if kind == "adam":
        return 2 / eta * averaged
    return (2 / eta - omega) * averaged
    ### END SOLUTION


# %% grade="decayed_edge"

# %% [markdown]
# {{exercise first_crossing}}
#
# A linear warmup over W steps has $\eta_t = \eta\,(t+1)/W$ at the steps $t = 0, \dots, W-1$. Suppose that the sharpness stays at λ. At which step is the ramp above the edge for the first time, $\eta_t\lambda > 2$? From there on the sharpness has to yield, and
# $W$ minus this number is the time it has.
#
# If the ramp never gets there, return `None`. For λ = 11.92, η = 1.2 and W = 200 the answer is 27, as in Section 5.
#
# <details><summary>Hint 1</summary>
#
# You may simply try the steps in turn, and return the first that is above.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `for t in range(length):` counts from 0, and the step size is `eta * (t + 1) / length`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# A function that ends without `return` returns `None`. That is what is wanted here.
#
# </details>


# %% answer="first_crossing"
def first_crossing(sharpness, eta, length):
    """The first step t of a linear ramp of so many steps to η at which η_t λ exceeds 2, or None."""
    ### BEGIN SOLUTION
    for t in range(length):
        if eta * (t + 1) / length * sharpness > 2:
            return t
    return None
    ### END SOLUTION


# %% grade="first_crossing"

# %% [markdown]
# {{exercise sam}}
#
# Write SAM for any gradient. In each step take $g = \nabla L(x)$, go uphill to $x + \rho\,g/\lVert g\rVert$, take the gradient *there*, and step with it from $x$. Return all points, the start included.
#
# When it works, run it on $\tfrac12\lambda x^2$ with a single variable, and look at where it ends. Is that the minimum?
#
# <details><summary>Hint 1</summary>
#
# Keep a list of points, `points = [x]`, and append the new `x` after each step.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `np.linalg.norm(g)` is the length. Two gradients a step: one at `x`, one uphill.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The whole step is $x \leftarrow x - \eta\,\nabla L(x + \rho\,g/\lVert g\rVert)$. With `x = x - …` you make a new array. With `x -= …` you would write into the one that you were given.
#
# </details>


# %% answer="sam"
def sam(gradient, x, eta, rho, steps):
    """The points of SAM from x: an array (steps + 1, d).

    `gradient` is a function of an array (d,) that returns an array (d,); `x` has shape (d,).
    """
    ### BEGIN SOLUTION
    points = [x]
    for _ in range(steps):
        g = gradient(x)
        x = x - eta * gradient(x + rho * g / np.linalg.norm(g))
        points.append(x)
    return np.array(points)
    ### END SOLUTION


# %% grade="sam"

# %% [markdown]
# {{exercise keep_step}}
#
# Early stopping, by the number that can be trusted. You get the losses on held-out data, one a look, in order. At each look you know only the losses so far.
#
# - A look is an *improvement* if its loss is lower than all before it. The first look counts as one.
# - Stop at the first look that makes it `patience` looks in a row without an improvement. If that never happens, the last look is the stop.
#
# Return two numbers: the look whose weights you keep, the best up to the stop, and the look at which you stop. Looks are counted from 0. For the losses 5, 3, 4, 6, 1 and patience 2 the answer is (1, 3). The 1 at the end is never seen.
#
# <details><summary>Hint 1</summary>
#
# Go through the looks in order, and keep the index of the best look so far.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# At look i, the number of looks without an improvement is `i - best`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# First update `best`, then test whether the count has reached `patience`, and return both numbers if so. After the loop, return `best` and the last index.
#
# </details>


# %% answer="keep_step"
def keep_step(losses, patience):
    """(kept, stopped): the best look before the stop, and the look of the stop, by the rule above."""
    ### BEGIN SOLUTION
    best = 0
    for i in range(len(losses)):
        if losses[i] < losses[best]:
            best = i
        if i - best == patience:
            return best, i
    return best, len(losses) - 1
    ### END SOLUTION


# %% grade="keep_step"
