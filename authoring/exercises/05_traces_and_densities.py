# %% [markdown]
# {{header}}

# %%
import numpy as np

from hesslab.checks.lesson_05 import (
    check_hutchinson,
    check_hutchpp,
    check_mass,
    check_probe_variance,
    check_slq,
    check_true_variance,
)
from hesslab.lanczos import tridiagonalize

# %% [markdown]
# {{exercise hutchinson}}
#
# A worked example: a trace estimate that carries its error. Draw $m$ probes $w_i$ of random signs, compute the samples $q_i = w_i^\top A\, w_i$, and return
#
# $$\bar q = \frac1m \sum_i q_i, \qquad \frac{s}{\sqrt m} \quad\text{with}\quad s^2 = \frac1{m-1} \sum_i (q_i - \bar q)^2 .$$
#
# `A` can only be multiplied: `A @ w` for one vector, `A @ W` for the columns of a matrix. With $m$ = `max_matvecs` products, and no more.
#
# For example, for $A = \mathrm{diag}(1, 2, 3)$ every sample is 6, whatever the signs are: the answer is (6, 0).
#
# In code: make a generator from `rng`; draw all probes as the columns of `W`; multiply once; sum `W * AW` over the rows; return mean and standard error.
#
# <details><summary>Hint 1</summary>
#
# `np.random.default_rng(rng)` takes an integer or a generator. `generator.choice([-1.0, 1.0], (n, m))` draws signs; `n` is `A.shape[0]`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The samples are `(W * (A @ W)).sum(axis=0)`, an array of length `m`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `samples.std(ddof=1)` divides by $m - 1$. Then divide by $\sqrt m$.
#
# </details>


# %% answer="hutchinson"
def hutchinson(A, *, max_matvecs, rng):
    """The trace of A, (n, n), as the mean of wᵀA w over `max_matvecs` probes of random signs: (value, stderr)."""
    ### BEGIN SOLUTION
    W = np.random.default_rng(rng).choice([-1.0, 1.0], (A.shape[0], max_matvecs))
    samples = (W * (A @ W)).sum(axis=0)
    return samples.mean(), samples.std(ddof=1) / np.sqrt(max_matvecs)
    ### END SOLUTION


# %% grade="hutchinson"

# %% [markdown]
# {{exercise probe_variance}}
#
# Before you draw a probe you can say how far its sample will stray. Write the variance of *one* $w^\top A\, w$ for a symmetric matrix `A` that you may look into, and three kinds of probe:
# `"rademacher"` (random signs), `"gaussian"`, and `"sphere"` (uniform on the sphere of radius $\sqrt n$).
#
# Two lines of the body are given in words:
#
# - `square = ` the sum of all squared entries of `A`
# - for each kind, `return` 2 times the square, less what this kind of probe knows …
#
# <details><summary>Hint 1</summary>
#
# Which part of $A$ gives each probe the same sample? For signs it is the diagonal. For the sphere it is a multiple of $I$. For Gaussian entries it is nothing.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Signs: leave out the squares of the diagonal entries. Sphere: the part of $A$ that is a multiple of $I$ has the Frobenius norm squared $(\operatorname{tr} A)^2/n$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The sphere has one more factor, $n/(n+2)$: its length does not vary.
#
# </details>


# %% answer="probe_variance"
def probe_variance(A, probes):
    """The variance of wᵀA w for one probe of the kind "rademacher", "gaussian" or "sphere": a number."""
    ### BEGIN SOLUTION
    n, square = len(A), np.sum(A**2)
    if probes == "rademacher":
        return 2 * (square - np.sum(np.diag(A) ** 2))
    if probes == "gaussian":
        return 2 * square
    return 2 * n / (n + 2) * (square - np.trace(A) ** 2 / n)
    ### END SOLUTION


# %% grade="probe_variance"

# %% [markdown]
# {{exercise hutchpp}}
#
# Hutch++ from the identity of the lesson,
#
# $$\operatorname{tr} A = \operatorname{tr} Q^\top A\, Q + \operatorname{tr} P A P, \qquad P = I - Q Q^\top .$$
#
# Let $k$ = `max_matvecs // 3`. Spend $k$ products on a sketch $AS$ with random $S$, of shape (n, k); $k$ on $AQ$, with $Q$ an orthonormal basis of the columns of $AS$; and $k$ on *fresh* probes for the second term. As before, `A` can only be multiplied, `A @ X`: so $Q^\top A\, Q$ is `Q.T @ (A @ Q)`. Return the value alone.
#
# Three lines of the body are given in words:
#
# - `Q, _ = ` the QR decomposition of `A @ S`
# - `W = ` fresh probes, less their part in the span of `Q`
# - `return` the trace of $Q^\top A Q$, plus the mean of …
#
# <details><summary>Hint 1</summary>
#
# $\operatorname{tr} PAP$ is a trace: Hutchinson's estimator gives it. $w^\top P A P w = (Pw)^\top A\, (Pw)$, so project the probe first, then multiply.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $P W$ is `W - Q @ (Q.T @ W)`. Never form $P$: it has $n^2$ entries.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Both terms are sums of `X * (A @ X)`: over all columns of `Q`, and for the probes divided by their number.
#
# </details>


# %% answer="hutchpp"
def hutchpp(A, *, max_matvecs, rng):
    """Hutch++: tr A, (n, n), on the range of a sketch exactly and the remainder by probes; max_matvecs // 3 each."""
    ### BEGIN SOLUTION
    generator, shape = np.random.default_rng(rng), (A.shape[0], max_matvecs // 3)
    Q, _ = np.linalg.qr(A @ generator.standard_normal(shape))
    W = generator.choice([-1.0, 1.0], shape)
    W = W - Q @ (Q.T @ W)
    return np.sum(Q * (A @ Q)) + np.sum(W * (A @ W)) / shape[1]
    ### END SOLUTION


# %% grade="hutchpp"

# %% [markdown]
# {{exercise mass}}
#
# You have the raw result of SLQ: `nodes` and `weights`, both of shape (num_probes, k), each row a probe. What fraction of the eigenvalues lies in $[a, b]$? Return it with its standard error. No width, no smoothing.
#
# What is one *sample* here? The nodes of a probe come from one vector, and depend on each other.
#
# <details><summary>Hint 1</summary>
#
# Each probe gives one estimate: the sum of its weights whose nodes are in $[a, b]$. The probes are independent.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `(nodes >= a) & (nodes <= b)` is an array of True and False; times `weights` it keeps what is inside. Sum over the last axis.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Now you have num_probes numbers. Their mean and $s/\sqrt m$, as in `hutchinson`.
#
# </details>


# %% answer="mass"
def mass(nodes, weights, a, b):
    """The fraction of eigenvalues in [a, b] and its standard error over the probes: (fraction, stderr)."""
    ### BEGIN SOLUTION
    samples = np.sum(weights * ((nodes >= a) & (nodes <= b)), axis=1)
    return samples.mean(), samples.std(ddof=1) / np.sqrt(len(samples))
    ### END SOLUTION


# %% grade="mass"

# %% [markdown]
# {{exercise slq}}
#
# Write stochastic Lanczos quadrature. For each of `num_probes` independent random starts run `num_steps` steps of Lanczos, and return the raw quadratures: nodes and weights, both of shape (num_probes, num_steps).
#
# Lanczos is given: `tridiagonalize(A, v, num_steps).T` is the tridiagonal matrix, for a start `v` of any length (it is made a unit vector). Here no run ends early.
#
# <details><summary>Hint 1</summary>
#
# The start must have the same distribution in each direction, and each start must be a new one: make the generator once, before the loop.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `theta, S = np.linalg.eigh(T)` gives eigenvalues, and eigenvectors as the *columns* of `S`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The first component of eigenvector $j$ is `S[0, j]`. Square it. The weights of a probe then add up to 1.
#
# </details>


# %% answer="slq"
def slq(A, *, num_steps, num_probes, rng):
    """Stochastic Lanczos quadrature: (nodes, weights), both (num_probes, num_steps), one row a random start."""
    ### BEGIN SOLUTION
    generator, nodes, weights = np.random.default_rng(rng), [], []
    for _ in range(num_probes):
        v = generator.standard_normal(A.shape[0])
        theta, S = np.linalg.eigh(tridiagonalize(A, v, num_steps).T)
        nodes.append(theta)
        weights.append(S[0] ** 2)
    return np.array(nodes), np.array(weights)
    ### END SOLUTION


# %% grade="slq"

# %% [markdown]
# {{exercise true_variance}}
#
# A sample covariance of noise with variance `noise` in every direction, and γ = p/n: its eigenvalues end at $(1 + \sqrt\gamma)^2$ times `noise`. You see the largest eigenvalue, `top`. If it is beyond that edge, one direction
# has a larger variance. How large is it? In units of the noise a variance ℓ shows as
#
# $$\lambda = \ell\,\Big(1 + \frac{\gamma}{\ell - 1}\Big), \qquad \ell > 1 + \sqrt\gamma .$$
#
# Return the variance, in the units of `top`. At or below the edge nothing shows: return `noise`. (A limit for large $n$ and $p$. At finite size an eigenvalue just beyond the edge proves little.)
#
# <details><summary>Hint 1</summary>
#
# First divide `top` by `noise`, and compare with the edge.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Multiply the formula by $\ell - 1$. It becomes $\ell^2 - (\lambda + 1 - \gamma)\,\ell + \lambda = 0$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Their product is λ, and beyond the edge both roots are positive. The one that is meant is the larger. Multiply by `noise` at the end.
#
# </details>


# %% answer="true_variance"
def true_variance(top, gamma, noise):
    """The variance of the direction behind the largest eigenvalue `top`, or `noise` where none shows: a number."""
    ### BEGIN SOLUTION
    x = top / noise
    if x <= (1 + np.sqrt(gamma)) ** 2:
        return noise
    b = x + 1 - gamma
    return noise * (b + np.sqrt(b**2 - 4 * x)) / 2
    ### END SOLUTION


# %% grade="true_variance"
