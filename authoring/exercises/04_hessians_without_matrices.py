# %% [markdown]
# {{header}}

# %%
import numpy as np
import torch

from hesslab.checks.lesson_04 import (
    check_hvp,
    check_hvp_by_differences,
    check_largest_eigenvalue,
    check_proven,
    check_ritz_values,
    check_tridiagonalize,
)
from hesslab.lanczos import Tridiagonal

# %% [markdown]
# {{exercise hvp}}
#
# A worked example: the product $Hv$ by double backward, for data that come in batches of different sizes. For one batch,
# as in the lesson, with the gradient in as many pieces as the model has parameter tensors:
#
# 1. `g`: the gradients of the batch's loss, with `create_graph=True`. Flatten and join them: `torch.cat([piece.reshape(-1) for piece in g])`.
# 2. The number $g \cdot v$, differentiated once more: again pieces, again joined. This is $H_b v$, $H_b$ being the Hessian of the batch.
#
# The loss of a batch is a *mean* over its examples. The loss of all data is the mean over *all* examples. So, with $n_b$ examples
# in batch $b$,
#
# $$H v = \frac{\sum_b n_b\, H_b v}{\sum_b n_b}.$$
#
# With batches of 7, 2 and 3 the weights are 7/12, 2/12 and 3/12, not 1/3 each. Leave the model as it was: use `torch.autograd.grad`, which
# returns gradients, and not `backward()`, which stores them in the model.
#
# <details><summary>Hint 1</summary>
#
# `parameters = list(model.parameters())` is what to differentiate by. A loop over the pairs of `batches` does the rest.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Inside the loop: `torch.autograd.grad` of the loss of the batch, by `parameters`, with `create_graph=True`. Then join the pieces, multiply by `v` with
# `@`, and call `torch.autograd.grad` on the result.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Add `len(inputs) * Hv` to a total, and `len(inputs)` to a count. Return the total over the count.
#
# </details>


# %% answer="hvp"
def hvp(model, loss, batches, v):
    """H v for the mean loss over all examples, flat, of shape (n,), in the order of `model.parameters()`.

    `loss(outputs, targets)` is the mean over a batch; `batches` is a list of (inputs, targets); `v` has shape (n,).
    """
    ### BEGIN SOLUTION
    parameters, total, count = list(model.parameters()), 0, 0
    for inputs, targets in batches:
        g = torch.autograd.grad(loss(model(inputs), targets), parameters, create_graph=True)
        slope = torch.cat([piece.reshape(-1) for piece in g]) @ v
        pieces = torch.autograd.grad(slope, parameters)
        total = total + len(inputs) * torch.cat([piece.reshape(-1) for piece in pieces])
        count += len(inputs)
    return total / count
    ### END SOLUTION


# %% grade="hvp"

# %% [markdown]
# {{exercise hvp_by_differences}}
#
# The same product from two gradients, for code that cannot be differentiated twice:
#
# $$H v \approx \frac{g(\theta + h v) - g(\theta - h v)}{2h}.$$
#
# It must be right to seven digits for a $v$ of *any* length, also of a million or of a millionth. So the step must not
# depend on the length. Two lines of the body are given in words:
#
# - `u = ` the direction of `v`, of length 1
# - `return` the central difference along `u`, times the length of `v`
#
# And $v = 0$ has no direction; its product is 0. More than four calls of `gradient` count as too many. Leave `theta` and `v` as they are: `v /= size` would change the caller's vector.
#
# <details><summary>Hint 1</summary>
#
# Rounding leaves an error near $10^{-16}/h$, truncation one near $h^2$. Where are they equal?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Take `h = 1e-5`. A one-sided difference, from `gradient(theta)`, does not reach seven digits here with any step.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `size = np.linalg.norm(v)`; if it is 0, return `np.zeros_like(v)`. The quotient is $Hu$; you owe $Hv = \lVert v \rVert\, Hu$.
#
# </details>


# %% answer="hvp_by_differences"
def hvp_by_differences(gradient, theta, v):
    """H v to seven digits, shape (n,), from two calls of `gradient`, a function of an array (n,).

    `theta` and `v`, of any length, have shape (n,); zeros for v = 0.
    """
    ### BEGIN SOLUTION
    size, h = np.linalg.norm(v), 1e-5
    if size == 0:
        return np.zeros_like(v)
    u = v / size
    return size * (gradient(theta + h * u) - gradient(theta - h * u)) / (2 * h)
    ### END SOLUTION


# %% grade="hvp_by_differences"

# %% [markdown]
# {{exercise largest_eigenvalue}}
#
# $\lambda_{\max}$ of a symmetric matrix by power iteration, whatever lies below it. The matrix `A` can only be multiplied: `A @ v`, and
# `A.shape`. Run twice:
#
# 1. Power iteration on $A$. It gives $c$, the largest $|\lambda|$.
# 2. Power iteration on $A + cI$, whose product is `A @ v + c * v`. None of its eigenvalues is negative. Its largest is $\lambda_{\max} + c$.
#
# Both runs together may take `max_matvecs` products. Draw the start of each run with `np.random.default_rng(rng)`. The matrix may have any scale, from
# $10^{-13}$ to $10^8$. And it may have $\lambda_{\max} = -\lambda_{\min}$: what does $v^\top A v$ tend to then, and what does
# $\lVert A v \rVert$ tend to?
#
# <details><summary>Hint 1</summary>
#
# With $v$ of length 1, $\lVert Av \rVert$ tends to the largest $|\lambda|$ in every case, since $A^2$ has the eigenvalues $\lambda^2$. Take it for $c$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Half of the products for each run. One loop can serve both: a function of the shift, which is 0 the first time.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# In the second run the last $\lVert (A + cI)v \rVert$ tends to $\lambda_{\max} + c$, which is not negative. Subtract $c$.
#
# </details>


# %% answer="largest_eigenvalue"
def largest_eigenvalue(A, *, max_matvecs=1000, rng):
    """λmax of the symmetric `A`, known by `A @ v` and `A.shape`, in at most `max_matvecs` products."""
    ### BEGIN SOLUTION

    def largest_modulus(shift):
        v = np.random.default_rng(rng).standard_normal(A.shape[0])
        for _ in range(max_matvecs // 2):
            v = v / np.linalg.norm(v)
            v = A @ v + shift * v
        return np.linalg.norm(v)

    c = largest_modulus(0)
    return largest_modulus(c) - c
    ### END SOLUTION


# %% grade="largest_eigenvalue"

# %% [markdown]
# {{exercise ritz_values}}
#
# From the numbers that Lanczos returns, compute the Ritz values, largest first, and for each the bound $\beta_k |s_k|$: $s$ is the unit eigenvector of $T$ that
# belongs to it, and $s_k$ its last entry. The bound is the residual $\lVert Ay - \theta y \rVert$, free of charge.
#
# <details><summary>Hint 1</summary>
#
# $T$ has `alpha` on its diagonal and `beta` on both sides of it: `np.diag(beta, 1)` is one side.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `np.linalg.eigh` returns ascending values, and the eigenvectors as columns. The last entries of all of them are the last *row*.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Turn both around with `[::-1]`. Do not forget the absolute value.
#
# </details>


# %% answer="ritz_values"
def ritz_values(alpha, beta, beta_next):
    """Ritz values, shape (k,), in descending order, and their residual bounds, shape (k,), in the same order.

    `alpha` (k,) and `beta` (k − 1,) are the entries of T; `beta_next` is β_k.
    """
    ### BEGIN SOLUTION
    values, S = np.linalg.eigh(np.diag(alpha) + np.diag(beta, 1) + np.diag(beta, -1))
    return values[::-1], beta_next * abs(S[-1, ::-1])
    ### END SOLUTION


# %% grade="ritz_values"

# %% [markdown]
# {{exercise tridiagonalize}}
#
# Write Lanczos' method, with full reorthogonalization. Each step multiplies the newest basis vector, and makes the product orthogonal
# to *all* basis vectors so far:
#
# $$w = A v_j, \qquad \alpha_j = v_j^\top w, \qquad w \leftarrow w - V (V^\top w) \;\text{ twice}, \qquad \beta_j = \lVert w \rVert, \qquad v_{j+1} = w/\beta_j .$$
#
# The space can close early: when $\beta_j$ is rounding, there is no next vector. Then stop. "Rounding" means small beside the size of $Av_j$
# *before* anything was subtracted; a fixed number such as $10^{-10}$ is wrong for a matrix of scale $10^{-13}$.
#
# Return `Tridiagonal(alpha, beta, V, beta_next, v_next)`: `alpha` holds the $\alpha_j$, of shape (k,); `beta` the $\beta_j$ between them, of shape
# (k − 1,); `V` the basis as columns, of shape (n, k); `beta_next` and `v_next` are $\beta_k$ and $v_{k+1}$. If the space has closed, `beta_next` is 0 and
# `v_next` has no meaning. Leave `v` itself as it is. Then your function can take the place of the one in the lesson.
#
# <details><summary>Hint 1</summary>
#
# Keep the basis vectors in a list. `V = np.array(basis).T` is the matrix with them as columns.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# In the loop, keep the norm of `w` right after the product, as `size`. After the two sweeps the space has closed if
# `np.linalg.norm(w) <= 1e-12 * size`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Append β in every step, 0 if the space has closed. After $k$ steps the list has $k$ entries: the last is `beta_next`, the others are `beta`.
#
# </details>


# %% answer="tridiagonalize"
def tridiagonalize(A, v, num_steps, *, reorthogonalize=True):
    """Lanczos: an orthonormal basis V of the Krylov space of (A, v) in which A is tridiagonal.

    A V = V T + β_k v_{k+1} e_kᵀ,   VᵀV = I.

    `A` has shape (n, n) and `v` (n,); V has shape (n, k) with k ≤ `num_steps`, fewer if the space closes early.
    Here `reorthogonalize` is always True.
    """
    ### BEGIN SOLUTION
    basis, alpha, beta = [v / np.linalg.norm(v)], [], []
    for _ in range(num_steps):
        V, w = np.array(basis).T, A @ basis[-1]
        size = np.linalg.norm(w)
        alpha.append(basis[-1] @ w)
        for _ in range(2):
            w = w - V @ (V.T @ w)
        rest = np.linalg.norm(w)
        if rest <= 1e-12 * size:
            beta.append(0.0)
            break
        beta.append(rest)
        basis.append(w / rest)
    k = len(alpha)
    V = np.array(basis[:k]).T
    return Tridiagonal(np.array(alpha), np.array(beta[:-1]), V, beta[-1], basis[-1])
    ### END SOLUTION


# %% grade="tridiagonalize"

# %% [markdown]
# {{exercise proven}}
#
# A program prints `values`, with a vector for each. They may be ghosts, not converged, or good; the vectors may have any length. You can multiply by
# `A`. **How many different eigenvalues of `A` does the print-out prove?**
#
# Each line proves that its interval $[\lambda - r, \lambda + r]$ contains an eigenvalue, $r$ being its measured residual. Two intervals that
# overlap may contain the same one. Two that are disjoint cannot. So the answer is the largest number of intervals of which no
# two overlap. Mind a chain: with $[1, 3]$, $[2, 5]$ and $[4, 6]$ the first and the last are disjoint, which proves two.
# (A residual near rounding should be widened by it, as `eigsh` does. Leave that out here.)
#
# <details><summary>Hint 1</summary>
#
# All residuals at once: `A @ vectors - vectors * values`, column by column. The radius is the length of a column, over the length of its vector.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Which interval should be counted first? The one that *ends* first: whatever else is chosen, it leaves the most room.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Go through the intervals in the order of their upper ends. Count one if it begins above the end of the last one that was counted.
#
# </details>


# %% answer="proven"
def proven(A, values, vectors):
    """The number of different eigenvalues of the symmetric `A` that the measured residuals prove.

    `values` has shape (k,), `vectors` (n, k), a column for each value.
    """
    ### BEGIN SOLUTION
    r = np.linalg.norm(A @ vectors - vectors * values, axis=0) / np.linalg.norm(vectors, axis=0)
    count, end = 0, -np.inf
    for i in np.argsort(values + r):
        if values[i] - r[i] > end:
            count, end = count + 1, values[i] + r[i]
    return count
    ### END SOLUTION


# %% grade="proven"
