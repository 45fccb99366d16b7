# %% [markdown]
# {{header}}

# %%
from itertools import pairwise

import numpy as np

from hesslab.checks.lesson_09 import (
    check_batch_norm,
    check_branch_scale,
    check_ggn_zeros,
    check_heterogeneity,
    check_loss_bound,
    check_signal_growth,
)

# %% [markdown]
# {{exercise signal_growth}}
#
# A worked example. A block $x \leftarrow x + s\, W\,\mathrm{relu}(x)$ has a random branch of mean zero, as large as $x$ itself before it is scaled. On average the branch is orthogonal to $x$. So the
# mean squares add: $q_{l+1} = q_l + s^2 q_l$. The next block does the same with what it gets. With two blocks and $s = 0.5$ the factor is $1.25 \cdot 1.25 = 1.5625$.
#
# Return the factor for any number of blocks, $q_L/q_0$.
#
# <details><summary>Hint 1</summary>
#
# One block multiplies by $1 + s^2$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# L blocks multiply L times: a power.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The power is the number of blocks. In Python `**` binds tighter than `+`: use brackets.
#
# </details>


# %% answer="signal_growth"
def signal_growth(depth, scale):
    """The factor by which `depth` residual blocks with branches of mean zero multiply the mean square: a number."""
    ### BEGIN SOLUTION
    return (1 + scale**2) ** depth
    ### END SOLUTION


# %% grade="signal_growth"

# %% [markdown]
# {{exercise branch_scale}}
#
# Now the other way round. You allow the mean square of the signal to grow to `most` times its start, no more. How large may the scale $s$ of each branch be, in a network of $L$ blocks? Start from
#
# $$(1 + s^2)^L = \text{most}$$
#
# and solve it: first the $L$-th root on both sides, then …
#
# For a given L compare your answer with the rule $1/\sqrt L$. Which `most` does that rule allow?
#
# <details><summary>Hint 1</summary>
#
# $1 + s^2 = \text{most}^{1/L}$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Subtract the 1, which is the skip itself.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# And take the square root.
#
# </details>


# %% answer="branch_scale"
def branch_scale(depth, most):
    """The scale of the branches at which `depth` blocks multiply the mean square by `most` > 1: a number."""
    ### BEGIN SOLUTION
    return (most ** (1 / depth) - 1) ** 0.5
    ### END SOLUTION


# %% grade="branch_scale"

# %% [markdown]
# {{exercise batch_norm}}
#
# Write BatchNorm, both modes. `Z` has a row an example and a column a unit. In train mode the statistics are those of the batch, one mean and one variance for each *unit*; in eval mode they are given.
#
# $$\gamma_j\, \frac{z_{ij} - \mu_j}{\sqrt{v_j + \epsilon}} + \beta_j$$
#
# In words:
#
# - if `training`: μ and v are mean and variance of `Z` over the examples
# - else: they are `running_mean` and `running_var`
# - return the formula
#
# The variance of train mode is the mean of the squares of $z - \mu$, with $n$ below the line.
#
# <details><summary>Hint 1</summary>
#
# `Z.mean(axis=0)` is the mean over the rows: one number a column.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `Z.var(axis=0)` divides by $n$, as it should. (With `ddof=1` it would divide by $n - 1$.)
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# ε is added to the variance, under the root.
#
# </details>


# %% answer="batch_norm"
def batch_norm(Z, gamma, beta, running_mean, running_var, training, eps=1e-5):
    """BatchNorm of Z, shape (examples, units), in train or eval mode; all others but eps have shape (units,)."""
    ### BEGIN SOLUTION
    mean, var = (Z.mean(axis=0), Z.var(axis=0)) if training else (running_mean, running_var)
    return gamma * (Z - mean) / np.sqrt(var + eps) + beta
    ### END SOLUTION


# %% grade="batch_norm"

# %% [markdown]
# {{exercise ggn_zeros}}
#
# How many eigenvalues of a Gauss–Newton matrix are zero, *whatever* the network and its weights? $G = \frac1n J^\top M J$ is $p \times p$. The middle has a block an example; it has rank $C - 1$ for
# cross-entropy and $C$ for half the squared error, with $C$ outputs. The rank of a product is at most that of each factor.
#
# - the largest possible rank of $G$ is …
# - the zeros are at least $p$ minus that
# - and what if that is negative?
#
# <details><summary>Hint 1</summary>
#
# n examples: the rank is at most $n(C - 1)$, or $nC$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `loss` is `"cross-entropy"` or `"squared error"`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# There is no negative number of zeros: take the larger of 0 and the difference.
#
# </details>


# %% answer="ggn_zeros"
def ggn_zeros(num_parameters, num_examples, num_classes, loss):
    """The guaranteed number of zero eigenvalues of the Gauss–Newton matrix, a whole number.

    `loss` is "cross-entropy" or "squared error".
    """
    ### BEGIN SOLUTION
    each = num_classes - 1 if loss == "cross-entropy" else num_classes
    return max(0, num_parameters - num_examples * each)
    ### END SOLUTION


# %% grade="ggn_zeros"

# %% [markdown]
# {{exercise loss_bound}}
#
# Take a model that is linear in its weights: its outputs have the constant Jacobian $J$, of shape $(nC, p)$. The loss is $L = \lVert r\rVert^2/2n$, $r$ the residuals. Gradient descent with the step size η gives
#
# $$\theta \leftarrow \theta - \eta\, \frac{J^\top r}{n}, \qquad r \leftarrow \;? $$
#
# Derive how $r$ moves. Then return the largest loss that is possible after so many steps, over all residuals with the loss `first` at the start. There may be more weights than residuals, and η may be too long.
#
# <details><summary>Hint 1</summary>
#
# $r \leftarrow r - \eta K r$ with $K = JJ^\top/n$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Along an eigenvector of $K$, each step multiplies the residual by $1 - \eta\lambda$. The loss is a square.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The worst eigenvalue is the one with the largest $|1 - \eta\lambda|$: the smallest, or the largest if η is long.
#
# </details>


# %% answer="loss_bound"
def loss_bound(J, num_examples, eta, steps, first):
    """The largest possible loss after `steps` of gradient descent from the loss `first`: a number.

    `J` has shape (n C, p) and is constant; the loss is ‖r‖² / 2n for n examples.
    """
    ### BEGIN SOLUTION
    values = np.linalg.eigvalsh(J @ J.T / num_examples)
    return first * np.abs(1 - eta * values).max() ** (2 * steps)
    ### END SOLUTION


# %% grade="loss_bound"

# %% [markdown]
# {{exercise heterogeneity}}
#
# `H` is the Hessian of a network, `sizes` the numbers of weights of its layers, in the order of the rows. Return the number of Section 7: the largest over the smallest of the blocks' $\lambda_{\max}$.
#
# The blocks are those on the diagonal. What stands beside them couples the layers, and does not count here. The blocks may be indefinite; each has a positive eigenvalue.
#
# <details><summary>Hint 1</summary>
#
# `np.cumsum` of the sizes gives the ends of the blocks.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `H[a:b, a:b]` is one block; `eigvalsh` returns its eigenvalues in ascending order.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The last eigenvalue of each, then `max` over `min`.
#
# </details>


# %% answer="heterogeneity"
def heterogeneity(H, sizes):
    """The largest λmax of a diagonal block of H over the smallest: a number; `sizes` are those of the blocks."""
    ### BEGIN SOLUTION
    ends = np.cumsum([0, *sizes])
    tops = [np.linalg.eigvalsh(H[a:b, a:b])[-1] for a, b in pairwise(ends)]
    return max(tops) / min(tops)
    ### END SOLUTION


# %% grade="heterogeneity"
