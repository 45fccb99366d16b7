# %% [markdown]
# {{header}}

# %%
import numpy as np

from hesslab.checks.lesson_06 import (
    check_largest_gap,
    check_most_negative,
    check_most_rank,
    check_softmax_spectrum,
    check_split_step,
    check_two_parts,
)

# %% [markdown]
# {{exercise largest_gap}}
#
# A worked example. "Outlier" needs a rule. That of the lesson: sort the eigenvalues, the largest first, divide each by the next one, and look for the largest quotient among the first `most`. For the eigenvalues
#
# $$6,\quad 5,\quad 1,\quad 0.9,\quad 0.8,\quad 0.001$$
#
# and `most = 4` the quotients are 1.2, 5, 1.1 and 1.1: the gap is after $k = 2$, with the quotient 5. The fifth quotient would be 800. It is not looked at, since near zero every quotient can be large.
#
# The eigenvalues come in any order. Return $k$, counted from 1, and the quotient.
#
# <details><summary>Hint 1</summary>
#
# `np.sort` sorts in ascending order; `[::-1]` turns an array round.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# With `v` in descending order, `v[:most] / v[1 : most + 1]` are the first `most` quotients.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `argmax` counts from 0. Add 1 for k.
#
# </details>


# %% answer="largest_gap"
def largest_gap(values, most):
    """(k, λ_k/λ_{k+1}): the place and the size of the largest quotient of successive eigenvalues, k ≤ most.

    `values` is an array (n,) in any order, with n > most.
    """
    ### BEGIN SOLUTION
    v = np.sort(values)[::-1]
    quotients = v[:most] / v[1 : most + 1]
    k = int(quotients.argmax())
    return k + 1, quotients[k]
    ### END SOLUTION


# %% grade="largest_gap"

# %% [markdown]
# {{exercise two_parts}}
#
# Compute both parts of a Hessian from their pieces. For each of $n$ examples you get the Jacobian of its outputs, the second derivative $M$ of the loss in the outputs, the residuals $r$ (the first derivative), and the second derivatives $\nabla^2 f_c$ of the outputs:
#
# | name | shape | what it is |
# | --- | --- | --- |
# | `J` | (n, C, p) | $\partial f_c/\partial\theta$ |
# | `M` | (n, C, C) | $\partial^2 \ell/\partial f^2$ |
# | `r` | (n, C) | $\partial \ell/\partial f_c$ |
# | `K` | (n, C, p, p) | $\nabla^2 f_c$ |
#
# Half of it in words: for each example $i$ add `J[i].T @ M[i] @ J[i]`, and at the end divide by the number of examples. The loss is a mean over examples, and the sum over $c$ is a sum.
#
# <details><summary>Hint 1</summary>
#
# Begin with two matrices of zeros, (p, p), and one loop over the examples.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The part of R that belongs to example i is the sum over c of `r[i, c] * K[i, c]`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `np.einsum("nc,ncpq->pq", r, K)` does both sums of R at once. Divide by `len(J)`.
#
# </details>


# %% answer="two_parts"
def two_parts(J, M, r, K):
    """G = E[JᵀMJ] and R = E[Σ_c r_c ∇²f_c], both (p, p): the Hessian of a mean loss is G + R."""
    ### BEGIN SOLUTION
    n = len(J)
    G = sum(j.T @ m @ j for j, m in zip(J, M, strict=True)) / n
    R = np.einsum("nc,ncpq->pq", r, K) / n
    return G, R
    ### END SOLUTION


# %% grade="two_parts"

# %% [markdown]
# {{exercise most_rank}}
#
# What is the largest possible rank of $G$, for $n$ examples, $C$ classes and $p$ weights? `loss` is `"cross-entropy"` (on softmax) or `"squared error"`.
#
# Start from $G = \frac1n \sum_i J_i^\top M_i J_i$. The rank of a sum is at most the sum of the ranks. The rank of $J^\top M J$ is at most that of $M$. And no matrix has a rank above its size.
#
# <details><summary>Hint 1</summary>
#
# What is the rank of $\mathrm{diag}(p) - p\,p^\top$? Multiply it by the vector of ones.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# For the squared error M is a multiple of the identity.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Do not forget the last sentence of the task: a minimum of two numbers.
#
# </details>


# %% answer="most_rank"
def most_rank(n, C, p, loss):
    """The largest possible rank of the Gauss–Newton matrix: a whole number."""
    ### BEGIN SOLUTION
    each = C - 1 if loss == "cross-entropy" else C
    return min(p, n * each)
    ### END SOLUTION


# %% grade="most_rank"

# %% [markdown]
# {{exercise most_negative}}
#
# A ReLU network with one hidden layer. How negative can the smallest eigenvalue of its Hessian be? Section 1 gives a bound that needs no Hessian:
#
# $$\lambda_{\min}(H) \;\ge\; -\max_j\, \sigma_1(B_j), \qquad B_j = \mathbb E\,[\,1_j\,\tilde x\, r^\top\,] .$$
#
# You get the inputs `X` (n, d), the activity `active` (n, h), with 1 where unit $j$ is active on example $i$ and else 0, and the residuals `r` (n, C). In words, for each unit: take the examples on which it is active; append a 1 to each input; average $\tilde x\, r^\top$ over *all* $n$ examples, the others counting as zero; take the largest singular value.
#
# <details><summary>Hint 1</summary>
#
# `np.hstack([X, np.ones((len(X), 1))])` appends the column of ones.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# With `a = active[:, j]`, the block is `(Z * a[:, None]).T @ r / len(X)`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `np.linalg.norm(B, 2)` is the largest singular value of a matrix; without the 2 it is the Frobenius norm.
#
# </details>


# %% answer="most_negative"
def most_negative(X, active, r):
    """A lower bound of the smallest eigenvalue of the Hessian: minus the largest singular value of the B_j."""
    ### BEGIN SOLUTION
    Z = np.hstack([X, np.ones((len(X), 1))])
    blocks = [(Z * a[:, None]).T @ r / len(X) for a in active.T]
    return -max(np.linalg.norm(B, 2) for B in blocks)
    ### END SOLUTION


# %% grade="most_negative"

# %% [markdown]
# {{exercise softmax_spectrum}}
#
# Return the $k$ largest eigenvalues of the Hessian of softmax regression at θ = 0, in descending order, repeats included, from the data `X` (n, d) and the number of classes alone. There is no bias besides. Do not form the $Cd \times Cd$ matrix.
#
# When it works, try it on data with a long mean and on the same data centred, and look at the quotients of the steps.
#
# <details><summary>Hint 1</summary>
#
# At θ = 0 all probabilities are $1/C$, and $H$ is a Kronecker product. Its eigenvalues are the products of those of its factors.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The factor of the outputs is $\frac1C (I - \frac1C \mathbf 1 \mathbf 1^\top)$. Which eigenvalues has it, and how often?
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `np.repeat(values, times)` repeats each entry. The factor of the inputs is `X.T @ X / n`, with the mean in it.
#
# </details>


# %% answer="softmax_spectrum"
def softmax_spectrum(X, C, k):
    """The k largest eigenvalues of softmax regression at θ = 0: an array (k,), descending; k ≤ (C − 1) d."""
    ### BEGIN SOLUTION
    values = np.linalg.eigvalsh(X.T @ X / len(X))[::-1] / C
    return np.repeat(values, C - 1)[:k]
    ### END SOLUTION


# %% grade="softmax_spectrum"

# %% [markdown]
# {{exercise split_step}}
#
# Split a gradient $g$ into its part in the span of the columns of $V$, and the rest. Return both, and the share of the squared length of $g$ that lies in the span.
#
# The columns of $V$ are independent. They need not be orthonormal: vectors that were carried along, as in the lesson, lose that.
#
# <details><summary>Hint 1</summary>
#
# $VV^\top g$ is the projection only for orthonormal columns.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `np.linalg.qr(V)[0]` has orthonormal columns with the same span.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The rest is `g - top`. The share is a quotient of two inner products.
#
# </details>


# %% answer="split_step"
def split_step(g, V):
    """(top, bulk, share): the part of g in the span of V, the rest, and ‖top‖²/‖g‖².

    `g` has shape (n,), `V` (n, k) with independent columns.
    """
    ### BEGIN SOLUTION
    Q = np.linalg.qr(V)[0]
    top = Q @ (Q.T @ g)
    return top, g - top, top @ top / (g @ g)
    ### END SOLUTION


# %% grade="split_step"
