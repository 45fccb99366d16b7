# %% [markdown]
# {{header}}

# %%
import numpy as np

from hesslab.checks.lesson_08 import (
    check_expected_square,
    check_frozen_edge,
    check_jacobi_condition,
    check_kfac_factors,
    check_kfac_step,
    check_two_fishers,
)

# %% [markdown]
# {{exercise frozen_edge}}
#
# A worked example. Adam with a frozen diagonal $P$, on a quadratic whose Hessian is diagonal too, with entries $h$. Two numbers decide. The threshold,
#
# $$\frac{2}{\eta}\cdot\frac{1 + \beta_1}{1 - \beta_1},$$
#
# and the largest eigenvalue of $P^{-1/2} H P^{-1/2}$, which is the largest of the quotients $h_i/P_i$. For $\eta = 0.001$ and $\beta_1 = 0.9$ the threshold is 38,000. With $P = (0.001, 0.01)$ and $h = (20, 50)$ the quotients are 20,000 and 5000, and the ratio is $20{,}000/38{,}000 \approx 0.53$: stable. Note that the
# larger curvature is not the one that counts.
#
# Return the pair (threshold, ratio).
#
# <details><summary>Hint 1</summary>
#
# First the threshold, into a variable. $\beta_1 = 0$ must give $2/\eta$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `h / P` divides two arrays entry by entry, and `.max()` is the largest entry.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The ratio is the largest quotient over the threshold.
#
# </details>


# %% answer="frozen_edge"
def frozen_edge(eta, beta1, P, h):
    """(threshold, ratio) of Adam with the diagonal P held fixed, on a Hessian with the diagonal h.

    `P` and `h` are arrays (d,) of positive numbers; the ratio is 1 at the edge.
    """
    ### BEGIN SOLUTION
    threshold = 2 / eta * (1 + beta1) / (1 - beta1)
    return threshold, (h / P).max() / threshold
    ### END SOLUTION


# %% grade="frozen_edge"

# %% [markdown]
# {{exercise jacobi_condition}}
#
# What is left of a condition number after the best that a simple diagonal can do? Let $D$ be the diagonal of the positive definite matrix $A$. Return the condition number of $D^{-1/2} A\, D^{-1/2}$, largest eigenvalue over smallest. In words:
#
# - take the roots of the diagonal entries
# - divide row $i$ of $A$ by the $i$-th root, and column $j$ by the $j$-th
# - take the eigenvalues of the result
#
# Before you run the check: which matrices give 1?
#
# <details><summary>Hint 1</summary>
#
# `np.diag(A)` gives the diagonal of a matrix, `np.outer(r, r)` the matrix with the entries $r_i r_j$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `A / np.outer(r, r)` divides rows and columns at once.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `np.linalg.eigvalsh` returns the eigenvalues of a symmetric matrix in ascending order.
#
# </details>


# %% answer="jacobi_condition"
def jacobi_condition(A):
    """The condition number of D^(-1/2) A D^(-1/2), with D the diagonal of A: a number.

    `A` is symmetric positive definite, (n, n).
    """
    ### BEGIN SOLUTION
    root = np.sqrt(np.diag(A))
    values = np.linalg.eigvalsh(A / np.outer(root, root))
    return values[-1] / values[0]
    ### END SOLUTION


# %% grade="jacobi_condition"

# %% [markdown]
# {{exercise expected_square}}
#
# θ stands still, and Adam sees batch after batch: $B$ of the $n$ examples, drawn with replacement. The gradients of the single examples are the rows of an array. What is the expectation of the square of the batch gradient $\hat g$, entry by entry? That is what $v$ settles at.
#
# Derive it once by hand. $\hat g$ is a mean of $B$ independent draws. Its mean is …, and its variance is … over $B$. And for every random number, $\mathbb E\, x^2 = (\mathbb E\, x)^2 + \ldots$
#
# One of the checks does not use the formula: it goes through all batches of two.
#
# <details><summary>Hint 1</summary>
#
# $\mathbb E\, x^2 = (\mathbb E\, x)^2 + \mathrm{Var}\, x$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The variance of one draw is the variance over the rows, `gradients.var(axis=0)`, which divides by $n$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The mean of $B$ draws has a variance $B$ times smaller.
#
# </details>


# %% answer="expected_square"
def expected_square(gradients, batch):
    """The expectation of the squared gradient of a batch drawn with replacement: an array (d,).

    `gradients` has shape (n, d), one example a row; `batch` is B.
    """
    ### BEGIN SOLUTION
    return gradients.mean(axis=0) ** 2 + gradients.var(axis=0) / batch
    ### END SOLUTION


# %% grade="expected_square"

# %% [markdown]
# {{exercise two_fishers}}
#
# A softmax model with the outputs $z_i$ (the logits) and their Jacobians $J_i$ in θ. The gradient of example $i$, if its label were $c$, is
#
# $$g_{ic} = J_i^\top (p_i - e_c), \qquad p_i = \mathrm{softmax}(z_i),$$
#
# with $e_c$ the $c$-th unit vector. Compute the Fisher $F$, labels from the model, and the empirical Fisher $E$, labels from the data:
#
# $$F = \frac1n \sum_i \sum_c p_{ic}\; g_{ic}\, g_{ic}^\top, \qquad E = \frac1n \sum_i g_{i y_i}\, g_{i y_i}^\top .$$
#
# You may shorten $F$ by the matrix $M_i = \mathrm{diag}(p_i) - p_i\, p_i^\top$ (Section 4), or add up over the labels.
#
# <details><summary>Hint 1</summary>
#
# `p = np.exp(z) / np.exp(z).sum(1, keepdims=True)`: each row sums to 1. The unit vectors are the rows of `np.eye(C)`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# All $g_{i y_i}$ at once are `np.einsum("nc,ncd->nd", p - np.eye(C)[labels], J)`; then $E$ is `g.T @ g / n`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# For $F$ do the same in a loop over $c$, with the weights $p_{ic}$ on the rows of one of the two factors.
#
# </details>


# %% answer="two_fishers"
def two_fishers(logits, jacobians, labels):
    """(F, E), each an array (d, d): the Fisher and the empirical Fisher of a softmax model.

    `logits` has shape (n, C), `jacobians` (n, C, d), `labels` (n,) with whole numbers below C.
    """
    ### BEGIN SOLUTION
    n, C, _ = jacobians.shape
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    g = np.einsum("nc,ncd->nd", p - np.eye(C)[labels], jacobians)
    M = p[:, :, None] * np.eye(C) - p[:, :, None] * p[:, None, :]
    return np.einsum("nci,nce,nej->ij", jacobians, M, jacobians) / n, g.T @ g / n
    ### END SOLUTION


# %% grade="two_fishers"

# %% [markdown]
# {{exercise kfac_factors}}
#
# One layer, $s = W a + b$. You have for each example its inputs $a$; the Jacobian $D = \partial f/\partial s$ of the outputs of the *network* in the outputs of the layer; and $M$, the second derivative of the loss in $f$. Return the two factors of K-FAC, in the library's order:
#
# $$\mathcal A = \mathbb E\big[\bar a\, \bar a^\top\big], \qquad \mathcal G = \mathbb E\big[D^\top M D\big], \qquad \bar a = \begin{pmatrix} a \\ 1 \end{pmatrix}.$$
#
# The 1 belongs to the bias. The checks compare $\mathcal G \otimes \mathcal A$ with the block of the Fisher, computed example by example: for a single datum, for a deep linear network with the squared error, and for a last layer with the squared error. There the two must agree to rounding. On the fourth
# case, a ReLU network with cross-entropy, they do not, and the check compares the factors alone. Which of your bugs would the first case not find?
#
# <details><summary>Hint 1</summary>
#
# `np.hstack([inputs, np.ones((n, 1))])` appends the 1 to each row.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# With the inputs as the rows of an array, the mean of $\bar a\, \bar a^\top$ is `rows.T @ rows / n`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The mean of $D^\top M D$ is `np.einsum("nco,nce,nep->op", D, M, D) / n`.
#
# </details>


# %% answer="kfac_factors"
def kfac_factors(inputs, jacobians, middles):
    """The Kronecker factors (A, G) of one layer: arrays (i + 1, i + 1), the bias last, and (o, o).

    `inputs` has shape (n, i), `jacobians` (n, C, o), `middles` (n, C, C).
    """
    ### BEGIN SOLUTION
    n = len(inputs)
    rows = np.hstack([inputs, np.ones((n, 1))])
    G = np.einsum("nco,nce,nep->op", jacobians, middles, jacobians) / n
    return rows.T @ rows / n, G
    ### END SOLUTION


# %% grade="kfac_factors"

# %% [markdown]
# {{exercise kfac_step}}
#
# You have $\mathcal A$, $\mathcal G$ and the gradient $V$ of a layer, an array with one row an output. Return the matrix $W$ with
#
# $$\mathcal G\, W \mathcal A + \delta\, W = V, \qquad\text{that is}\qquad \mathrm{vec}\, W = (\mathcal G \otimes \mathcal A + \delta I)^{-1}\, \mathrm{vec}\, V .$$
#
# Do not form $\mathcal G \otimes \mathcal A$. The last check has a layer $150 \to 100$: the product would take 1.8 GB. $\mathcal A$ is singular, so that δ matters.
#
# With $\mathcal A = Q_A\, \mathrm{diag}(\alpha)\, Q_A^\top$ and $\mathcal G = Q_G\, \mathrm{diag}(\gamma)\, Q_G^\top$, write the equation for $Q_G^\top W Q_A$. It falls apart into one equation for each entry.
#
# <details><summary>Hint 1</summary>
#
# `alpha, QA = np.linalg.eigh(A)` gives eigenvalues and eigenvectors; likewise for G.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# In the eigenbases the entry $(i, j)$ is multiplied by $\gamma_i \alpha_j + \delta$. All products are `np.outer(gamma, alpha)`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Turn V by `QG.T @ V @ QA`, divide, and turn the result back by `QG @ … @ QA.T`.
#
# </details>


# %% answer="kfac_step"
def kfac_step(A, G, V, damping):
    """The array (o, i) W with G W A + damping·W = V, for symmetric positive semidefinite factors.

    `A` has shape (i, i), `G` (o, o), `V` (o, i); `damping` is a positive number.
    """
    ### BEGIN SOLUTION
    (alpha, QA), (gamma, QG) = np.linalg.eigh(A), np.linalg.eigh(G)
    return QG @ (QG.T @ V @ QA / (np.outer(gamma, alpha) + damping)) @ QA.T
    ### END SOLUTION


# %% grade="kfac_step"
