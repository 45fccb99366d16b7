# %% [markdown]
# {{header}}

# %%
import numpy as np

from hesslab.checks.lesson_01 import (
    check_classify,
    check_curvature_along,
    check_curvature_from_symmetry,
    check_logistic_hessian,
    check_softmax_zeros,
    check_taylor_slope,
)

# %% [markdown]
# {{exercise taylor_slope}}
#
# A worked example: a Taylor test that you can keep. For a unit vector $u$ and a step $d = r u$, the quadratic model is
#
# $$m(r) = f(x) + g^\top d + \tfrac12\, d^\top H d .$$
#
# Its error is $e(r) = |f(x + d) - m(r)|$. If $e(r) = c\, r^p$, then a step ten times shorter divides it by
# $10^p$, so $p = \log_{10}\big(e(10^{-2})/e(10^{-3})\big)$. With $f = e^x$ at 0, all derivatives are 1:
# $e(r) \approx r^3/6$, and $p \approx 3$.
#
# In code: define a function of `r` that returns $e(r)$, call it twice, return $p$. Ask `gradient` and `hessian` for the
# derivatives; they may be wrong, and your number says so.
#
# <details><summary>Hint 1</summary>
#
# Inside, `d = r * u`. The linear term is `gradient(x) @ d`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The quadratic term is `d @ hessian(x) @ d / 2`. Do not forget the half.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The answer is `np.log10` of a quotient: the error at the larger step over that at the smaller. Take the absolute value
# inside `error`.
#
# </details>


# %% answer="taylor_slope"
def taylor_slope(value, gradient, hessian, x, u):
    """The exponent p with which the error of the quadratic model at x falls along u: a number, near an integer.

    `value`, `gradient` and `hessian` are functions of an array (d,) that return a number, an array (d,) and an
    array (d, d); `x` and the unit vector `u` have shape (d,).
    """
    ### BEGIN SOLUTION

    def error(r):
        d = r * u
        return abs(value(x + d) - value(x) - gradient(x) @ d - d @ hessian(x) @ d / 2)

    return np.log10(error(1e-2) / error(1e-3))
    ### END SOLUTION


# %% grade="taylor_slope"

# %% [markdown]
# {{exercise curvature_along}}
#
# Measure the curvature of a function in a direction, with three values of it and no derivative. (More than nine count
# as too many: a Hessian is not needed.) Expand
# $f(x \pm hu)$ for a unit vector $u$:
#
# $$f(x + hu) - 2 f(x) + f(x - hu) = h^2\, u^\top H u + O(h^4).$$
#
# The direction that you are given has any length. Curvature is per unit of length, so make it a unit vector first.
# Two lines of the body are given in words:
#
# - `u = ` the direction, divided by its length
# - `return` the second difference over …
#
# <details><summary>Hint 1</summary>
#
# `np.linalg.norm(direction)` is the length.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Too small an $h$ drowns in rounding: the second difference has an error near $10^{-16}|f|$, and you divide by
# $h^2$. Too large an $h$ sees the fourth derivative. Try $h = 10^{-3}$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Divide by $h^2$: not by $h$, not by $2h$, not by $2h^2$.
#
# </details>


# %% answer="curvature_along"
def curvature_along(value, x, direction):
    """uᵀH u at x, with u = direction/‖direction‖: a number, from three calls of `value`, at most nine.

    `value` is a function of an array (d,) that returns a number; `x` and `direction` have shape (d,).
    """
    ### BEGIN SOLUTION
    h = 1e-3
    u = direction / np.linalg.norm(direction)
    return (value(x + h * u) - 2 * value(x) + value(x - h * u)) / h**2
    ### END SOLUTION


# %% grade="curvature_along"

# %% [markdown]
# {{exercise logistic_hessian}}
#
# Write the Hessian of the logistic loss, the *mean* over n examples of $\log(1 + e^{-s_i x_i^\top w})$ with
# $s_i = 2y_i - 1$. You know its gradient from the lesson:
#
# $$g = \tfrac1n\, X^\top (p - y), \qquad p_i = \sigma(x_i^\top w) = \frac1{1 + e^{-x_i^\top w}}.$$
#
# <details><summary>Hint 1</summary>
#
# Only $p$ depends on $w$. The derivative of σ is $\sigma(1 - \sigma)$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $H = \frac1n \sum_i p_i (1 - p_i)\, x_i x_i^\top$. The labels have dropped out.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Without a loop: scale the rows of `X` by the weights, then multiply by `X.T`. Mind which of the two has shape
# (d, n).
#
# </details>


# %% answer="logistic_hessian"
def logistic_hessian(w, X, y):
    """∇²f at w, shape (d, d), of the mean logistic loss; `X` has shape (n, d), the labels `y` are 0 or 1."""
    ### BEGIN SOLUTION
    p = 1 / (1 + np.exp(-X @ w))
    return X.T @ ((p * (1 - p))[:, None] * X) / len(X)
    ### END SOLUTION


# %% grade="logistic_hessian"

# %% [markdown]
# {{exercise softmax_zeros}}
#
# Softmax regression with $C$ classes on data `X`, of shape (n, d): $\theta$ holds a weight vector of length $d$ for each
# class. At every θ the Hessian has the same number of zero eigenvalues. Find it from `X` alone, without computing
# a Hessian.
#
# Features may be 0 in every example; they may depend on each other; there may be fewer examples than
# features. One function of `X` covers all three.
#
# <details><summary>Hint 1</summary>
#
# A direction has eigenvalue 0 exactly when it adds the same number to all $C$ logits of an example, for each example.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The logits of an example depend on $\theta$ through $XW^\top$. Its columns lie in a space whose dimension is the rank of `X`.
# That leaves $C \cdot \mathrm{rank}$ directions which change logits. How many of these only shift them?
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Count the eigenvalues that are *not* 0: $(C - 1) \cdot \mathrm{rank}$. Use `np.linalg.matrix_rank`.
#
# </details>


# %% answer="softmax_zeros"
def softmax_zeros(X, num_classes):
    """The number of zero eigenvalues of the Hessian of softmax regression on `X`, shape (n, d), at any θ."""
    ### BEGIN SOLUTION
    return num_classes * X.shape[1] - (num_classes - 1) * np.linalg.matrix_rank(X)
    ### END SOLUTION


# %% grade="softmax_zeros"

# %% [markdown]
# {{exercise curvature_from_symmetry}}
#
# A two-layer linear network has the loss $L(W_1, W_2) = \tfrac12 \lVert W_2 W_1 - M \rVert^2$. Scale the first layer by
# $e^t$ and the second by $e^{-t}$: the loss does not change. Let $v$ be the velocity of this motion at $t = 0$.
#
# Find $v^\top H v$ with **one gradient and no second derivative**. The parameters come as one array: its first half
# holds $W_1$, its second half $W_2$.
#
# <details><summary>Hint 1</summary>
#
# Write $\theta(t)$ for the orbit. $L(\theta(t))$ is constant, so its first and its second derivative in $t$
# are 0.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The second derivative has two terms, by the chain rule: $\dot\theta^\top H\, \dot\theta + g \cdot \ddot\theta$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# $\dot\theta = (W_1, -W_2)$ at $t = 0$. What is $\ddot\theta$? Mind the sign when you solve for $v^\top H v$.
#
# </details>


# %% answer="curvature_from_symmetry"
def curvature_from_symmetry(gradient, theta):
    """vᵀH v along the scaling symmetry at `theta`, a number.

    `gradient` is a function of an array (2m,) that returns an array (2m,); `theta` holds W₁ in its first m
    entries and W₂ in its last m.
    """
    ### BEGIN SOLUTION
    return -gradient(theta) @ theta
    ### END SOLUTION


# %% grade="curvature_from_symmetry"

# %% [markdown]
# {{exercise classify}}
#
# At a critical point you are given the Hessian. Say what the point is: `"minimum"`, `"maximum"`, `"saddle"`, or
# `"undecided"` where the signs of the eigenvalues leave it open. An eigenvalue counts as zero when its size is at most
# `rtol` times the largest size. The answer must not change when the loss is multiplied by a positive number.
#
# <details><summary>Hint 1</summary>
#
# Which functions are hard? Compare $x^2 + y^4$ with $x^2 - y^4$ at 0: same Hessian, one minimum, one saddle.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A positive and a negative eigenvalue make a saddle, whatever the others are. All positive: a minimum. All negative: a maximum.
# What is left?
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Take the eigenvalues with `np.linalg.eigvalsh`, and call a sign what is larger than `rtol` times the largest size. Write the
# comparison with `>`, not with `>=`: then the zero matrix has no signs at all.
#
# </details>


# %% answer="classify"
def classify(H, rtol=1e-8):
    """The kind of a critical point with Hessian `H`: "minimum", "maximum", "saddle" or "undecided"."""
    ### BEGIN SOLUTION
    values = np.linalg.eigvalsh(H)
    level = rtol * abs(values).max()
    up, down = values > level, values < -level
    if up.any() and down.any():
        return "saddle"
    if up.all():
        return "minimum"
    return "maximum" if down.all() else "undecided"
    ### END SOLUTION


# %% grade="classify"
