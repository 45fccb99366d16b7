# %% [markdown]
# {{header}}

# %%
import numpy as np
from scipy.stats import rankdata, spearmanr

from hesslab.checks.lesson_12 import (
    check_adaptive_trace,
    check_average_rise,
    check_flattest_copy,
    check_pooled_and_within,
    check_rank_correlation,
    check_rescale_units,
)

# %% [markdown]
# {{exercise average_rise}}
#
# A worked example. Each weight gets an independent normal step of standard deviation σ. To second order, by how much does the loss rise on average? The step is ε, and
#
# $$\mathbb{E}\,\tfrac12\,\varepsilon^\top H\varepsilon = \tfrac12\sum_{ij} H_{ij}\,\mathbb{E}[\varepsilon_i\varepsilon_j] .$$
#
# The steps are independent with mean 0, so $\mathbb{E}[\varepsilon_i\varepsilon_j] = 0$ for $i \ne j$, and σ² for $i = j$. What is left is the diagonal: $\tfrac{\sigma^2}{2}\sum_i H_{ii}$. For the diagonal matrix with entries 3 and −1 and σ = 0.1 that is $0.005 \cdot 2 = 0.01$.
#
# <details><summary>Hint 1</summary>
#
# `np.trace(H)` is the sum of the diagonal.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The standard deviation enters squared, and there is a half in front.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `sigma**2 / 2 * np.trace(H)`. Nothing is divided by the number of weights.
#
# </details>


# %% answer="average_rise"
def average_rise(H, sigma):
    """The mean rise of the loss, to second order, under independent normal steps of standard deviation σ.

    H is a symmetric array (p, p), not necessarily positive definite.
    """
    ### BEGIN SOLUTION
    return sigma**2 / 2 * np.trace(H)
    ### END SOLUTION


# %% grade="average_rise"

# %% [markdown]
# {{exercise rescale_units}}
#
# Give each hidden unit of a ReLU network a scale $\alpha_j > 0$ of its own, without changing the function $W_2\,\mathrm{relu}(W_1 x + b_1)$. Multiply what goes into unit j by $\alpha_j$, and divide what goes out of it.
#
# `W1` has shape (hidden, inputs), `b1` (hidden,), `W2` (outputs, hidden), as in torch. Return the three new arrays in this order.
#
# <details><summary>Hint 1</summary>
#
# What goes into unit j is row j of `W1` and entry j of `b1`. What goes out of it is column j of `W2`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# NumPy aligns the last axes. `W2 / alpha` divides the columns. For the rows of `W1` you need alpha as a column: `alpha[:, None]`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The three arrays are `alpha[:, None] * W1`, `alpha * b1` and `W2 / alpha`.
#
# </details>


# %% answer="rescale_units"
def rescale_units(W1, b1, W2, alpha):
    """(W1, b1, W2) of the same function, with the scale of each hidden unit multiplied by α, shape (hidden,)."""
    ### BEGIN SOLUTION
    return alpha[:, None] * W1, alpha * b1, W2 / alpha
    ### END SOLUTION


# %% grade="rescale_units"

# %% [markdown]
# {{exercise flattest_copy}}
#
# After the rescaling of the last exercise the trace of the Hessian is
#
# $$\sum_j \Big(\frac{a_j}{\alpha_j^2} + b_j\,\alpha_j^2\Big) ,$$
#
# but for the part of the output biases, which stays. Here $a_j$ is the trace of the block of the weights into unit j, and $b_j$ that of the weights out of it; both are positive. For which scales is it least, and how large is it there? Do it on paper first: the units do not interact, so minimize one term. Return the array of scales, and the sum.
#
# <details><summary>Hint 1</summary>
#
# With $u = \alpha^2$ the term is $a/u + bu$. Its derivative is $-a/u^2 + b$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# So $u = \sqrt{a/b}$, and α is the root of that. At this point the two terms are equal.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# $\alpha_j = (a_j/b_j)^{1/4}$, and the sum is $\sum_j 2\sqrt{a_j b_j}$.
#
# </details>


# %% answer="flattest_copy"
def flattest_copy(a, b):
    """(α, trace): the scale of each unit, shape (hidden,), that makes Σ a/α² + b α² least, and that least sum.

    a and b are positive arrays of shape (hidden,).
    """
    ### BEGIN SOLUTION
    return (a / b) ** 0.25, 2 * np.sqrt(a * b).sum()
    ### END SOLUTION


# %% grade="flattest_copy"

# %% [markdown]
# {{exercise adaptive_trace}}
#
# Now each weight moves in proportion to its own size, $\varepsilon_i = \sigma|\theta_i|\,\xi_i$ with independent standard normal $\xi_i$. Repeat the computation of the first exercise. What takes the place of the trace? Return that number, without the factor $\sigma^2/2$.
#
# When it passes, try it with `H / np.outer(d, d)` and `d * theta` for some positive `d`.
#
# <details><summary>Hint 1</summary>
#
# $\mathbb{E}[\varepsilon_i\varepsilon_j]$ is 0 for $i \ne j$. What is it for $i = j$?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# It is $\sigma^2\theta_i^2$. So each diagonal entry of H is weighed with $\theta_i^2$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `np.diag(H)` is the diagonal. Multiply it by `theta**2`, entry by entry, and sum.
#
# </details>


# %% answer="adaptive_trace"
def adaptive_trace(H, theta):
    """The trace of |θ| H |θ|, for a symmetric array H (p, p) and weights θ (p,)."""
    ### BEGIN SOLUTION
    return (theta**2 * np.diag(H)).sum()
    ### END SOLUTION


# %% grade="adaptive_trace"

# %% [markdown]
# {{exercise rank_correlation}}
#
# Spearman's rank correlation: replace each value by its rank in its list, and take the ordinary correlation of the two lists of ranks. It asks for order only, so that the trace, its logarithm and the average eigenvalue all give the same answer.
#
# Equal values share the mean of the places that they take. The ranks of (7, 3, 7, 9) are (2.5, 1, 2.5, 4). This matters here: a test error is a count, so ties happen, and a weight decay has three values only.
#
# Do not call `spearmanr` itself. `rankdata` of SciPy may be used, or write it yourself.
#
# <details><summary>Hint 1</summary>
#
# The rank of a value is the number of smaller values, plus half the number of equal ones (itself counted) and a half.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `rankdata(x)` gives the mean rank for ties. `np.argsort(x)` does not give ranks at all.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `np.corrcoef(u, v)` is a matrix of 2 × 2. Its entry `[0, 1]` is the correlation of u and v.
#
# </details>


# %% answer="rank_correlation"
def rank_correlation(x, z):
    """Spearman's rank correlation of two arrays (n,), ties with their mean rank; a number."""
    ### BEGIN SOLUTION
    return np.corrcoef(rankdata(x), rankdata(z))[0, 1]
    ### END SOLUTION


# %% grade="rank_correlation"

# %% [markdown]
# {{exercise pooled_and_within}}
#
# The function that would have spared many a paper its headline. You get the sharpness `x`, the test error `z` and the `group` of each network (its weight decay, say). Return two things: the rank correlation over all networks, and an array with the rank correlation within each group, in ascending order of the group's value.
#
# The networks come in no particular order. Here you may use `spearmanr(x, z).statistic`.
#
# <details><summary>Hint 1</summary>
#
# `np.unique(group)` gives the values of the groups, sorted.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `x[group == g]` are the entries of one group.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Compute the pooled one from `x` and `z` as they are. It is not the mean of the others: that is the point.
#
# </details>


# %% answer="pooled_and_within"
def pooled_and_within(x, z, group):
    """(pooled, within): rank correlation over all, and an array of those within each group, ascending by group."""
    ### BEGIN SOLUTION
    pooled = spearmanr(x, z).statistic
    within = [spearmanr(x[group == g], z[group == g]).statistic for g in np.unique(group)]
    return pooled, np.array(within)
    ### END SOLUTION


# %% grade="pooled_and_within"
