# %% [markdown]
# {{header}}

# %%
import numpy as np

from hesslab.checks.lesson_11 import (
    check_alignment,
    check_batch_covariance,
    check_flat_share,
    check_growth,
    check_mean_square_radius,
    check_sgd_threshold,
)

# %% [markdown]
# {{exercise batch_covariance}}
#
# A worked example. You have the gradients of n examples, as the rows of an array (n, p). First the covariance of a single one, drawn at random: $C = \frac1n\sum_i g_i g_i^\top - \bar g\,\bar g^\top$. These n examples *are* the population, so divide by n, not by $n - 1$.
#
# Then the batch. With replacement its mean has the covariance $C/B$, without it $\frac CB\cdot\frac{n-B}{n-1}$.
#
# For the gradients 0 and 2, one number each, $C = 1$. With $B = 2$ and replacement it is 1/2. Without replacement it is 0: the batch is everything.
#
# <details><summary>Hint 1</summary>
#
# `gradients.T @ gradients / n` is the mean of $g g^\top$, of shape (p, p).
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `mean = gradients.mean(axis=0)`, and `np.outer(mean, mean)` is the other term.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Divide by B, and multiply by `(n - B) / (n - 1)` only if `replacement` is False.
#
# </details>


# %% answer="batch_covariance"
def batch_covariance(gradients, B, replacement):
    """The covariance (p, p) of the mean of B of the gradients (n, p), drawn with or without replacement."""
    ### BEGIN SOLUTION
    n, mean = len(gradients), gradients.mean(axis=0)
    C = gradients.T @ gradients / n - np.outer(mean, mean)
    return C / B if replacement else C / B * (n - B) / (n - 1)
    ### END SOLUTION


# %% grade="batch_covariance"

# %% [markdown]
# {{exercise sgd_threshold}}
#
# One weight, and n examples with the losses $\frac12 a_i x^2$. A batch of B, drawn without replacement, gives the step $x \leftarrow (1 - \eta\bar a_B)x$. Derive, on paper, the largest η for which $E\,x^2$ does not grow, and return it. The variance of $\bar a_B$ is known from the exercise before.
#
# <details><summary>Hint 1</summary>
#
# $E(1 - \eta\bar a_B)^2 = (1 - \eta a)^2 + \eta^2 V$, with a the mean of all $a_i$ and V the variance of $\bar a_B$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Set it to 1: $-2\eta a + \eta^2(a^2 + V) = 0$. Divide by η.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# $\eta_c = \frac{2a}{a^2 + V}$ with $V = \frac{s^2}{B}\cdot\frac{n-B}{n-1}$, and $s^2$ = `a.var()`.
#
# </details>


# %% answer="sgd_threshold"
def sgd_threshold(a, B):
    """The largest step at which E x² does not grow, for curvatures a (n,) and batches of B without replacement."""
    ### BEGIN SOLUTION
    n = len(a)
    V = a.var() / B * (n - B) / (n - 1)
    return 2 * a.mean() / (a.mean() ** 2 + V)
    ### END SOLUTION


# %% grade="sgd_threshold"

# %% [markdown]
# {{exercise alignment}}
#
# Compare two symmetric matrices of size p, with positive traces, by one number: $\mathrm{tr}(HC)$, divided by what it would be on average if C were turned at random. A random rotation makes C into $\frac{\mathrm{tr}\,C}{p} I$ on average. So what is the average of $\mathrm{tr}(HC)$?
#
# Test your function on two identities. It must give 1.
#
# <details><summary>Hint 1</summary>
#
# $\mathrm{tr}\big(H\cdot\frac{\mathrm{tr}\,C}{p}I\big) = \frac{\mathrm{tr}H\,\mathrm{tr}C}{p}$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `np.trace(H @ C)`; for symmetric matrices `(H * C).sum()` is the same, and cheaper.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Return $p\,\mathrm{tr}(HC) / (\mathrm{tr}H\,\mathrm{tr}C)$.
#
# </details>


# %% answer="alignment"
def alignment(H, C):
    """tr(HC) over its mean for a randomly turned C, a number; H and C are symmetric, (p, p)."""
    ### BEGIN SOLUTION
    return len(H) * (H * C).sum() / (np.trace(H) * np.trace(C))
    ### END SOLUTION


# %% grade="alignment"

# %% [markdown]
# {{exercise growth}}
#
# One weight, one example a step: $x \leftarrow (1 - \eta a_i)x$, with i drawn anew. Return two factors for one step:
#
# - the *typical* one, by which $|x|$ of almost every run changes in the long run: $\exp\big(E\log|1 - \eta a_i|\big)$;
# - the *mean-square* one, by which $E\,x^2$ changes: $E(1 - \eta a_i)^2$.
#
# Is there a case in which the first is below 1 and the second above?
#
# <details><summary>Hint 1</summary>
#
# The expectation is the mean over the n examples, each as likely.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# An array of the n numbers $1 - \eta a_i$ holds all the factors that a step can have. Call it `factors`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `np.exp(np.log(abs(factors)).mean())` and `(factors**2).mean()`.
#
# </details>


# %% answer="growth"
def growth(a, eta):
    """(typical factor of |x|, mean-square factor of x²) of one step with one of the curvatures a (n,)."""
    ### BEGIN SOLUTION
    factors = 1 - eta * a
    return np.exp(np.log(abs(factors)).mean()), (factors**2).mean()
    ### END SOLUTION


# %% grade="growth"

# %% [markdown]
# {{exercise mean_square_radius}}
#
# Several weights: the losses $\frac12(x_i^\top\theta)^2$, one example a step. The second moment $S = E[\theta\theta^\top]$ goes to $\frac1n\sum_i A_i S A_i$, with $A_i = I - \eta x_i x_i^\top$. Return the spectral radius of this linear map. SGD is mean-square stable if it is at most 1.
#
# <details><summary>Hint 1</summary>
#
# Write S as a long vector. Then $S \mapsto ASA$ is the matrix `np.kron(A, A)`, of size $d^2$, since A is symmetric.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Average the n Kronecker products *first*, and take eigenvalues of the average.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `abs(np.linalg.eigvals(M)).max()`, for the average M.
#
# </details>


# %% answer="mean_square_radius"
def mean_square_radius(X, eta):
    """The spectral radius of S → mean of A_i S A_i, A_i = I − η x_i x_iᵀ, for the rows x_i of X (n, d)."""
    ### BEGIN SOLUTION
    steps = [np.eye(X.shape[1]) - eta * np.outer(x, x) for x in X]
    mean = sum(np.kron(A, A) for A in steps) / len(X)
    return abs(np.linalg.eigvals(mean)).max()
    ### END SOLUTION


# %% grade="mean_square_radius"

# %% [markdown]
# {{exercise flat_share}}
#
# The two wells of Section 7, of equal depth: $L = (1 - u^2)^2$ with $u = x/w$, and in each well its own width $w$ and temperature $T$. In the limit of small steps the density after long is $\propto \frac{1}{T(x)}\exp\big(-\int L'/T\,dx\big)$. Return the share of the wide well, in terms of two temperatures and two widths.
#
# Your answer is compared to four digits. Try equal temperatures first: what must come out?
#
# <details><summary>Hint 1</summary>
#
# Integrate from the barrier, $x = 0$, where $L = 1$: then $-\int L'/T\,dx = (1 - L)/T$ on either side.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# With $x = wu$ the weight of a well is $\frac wT\int_0^\infty e^{(1-L(u))/T}\,du$. Beyond $u = 2.5$ nothing is left.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# On a fine grid for u, the mean of the values is the integral up to a factor that both wells share. It cancels in the share.
#
# </details>


# %% answer="flat_share"
def flat_share(T_sharp, T_flat, w_sharp, w_flat):
    """The share of the wide well in the density after long, a number between 0 and 1."""
    ### BEGIN SOLUTION
    u = np.linspace(0, 3, 100_001)
    exponent = 1 - (1 - u**2) ** 2
    sharp = w_sharp / T_sharp * np.exp(exponent / T_sharp).mean()
    flat = w_flat / T_flat * np.exp(exponent / T_flat).mean()
    return flat / (sharp + flat)
    ### END SOLUTION


# %% grade="flat_share"
