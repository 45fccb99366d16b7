# %% [markdown]
# {{header}}

# %%
import numpy as np

from hesslab.checks.lesson_01 import (
    check_classify,
    check_curvature_along,
    check_curvature_from_symmetry,
    check_logistic_hessian,
    check_mixed_partials,
    check_rosenbrock_hessian,
)

# %% [markdown]
# {{exercise rosenbrock_hessian}}
#
# A worked example. Rosenbrock's valley is $f(x, y) = 100\,(y - x^2)^2 + (1 - x)^2$. The chain rule gives its gradient:
#
# $$\frac{\partial f}{\partial x} = -400\,x\,(y - x^2) - 2\,(1 - x), \qquad \frac{\partial f}{\partial y} = 200\,(y - x^2).$$
#
# Now each of the two is differentiated again. The second gives the lower row of $H$:
# $\partial_x \partial_y f = -400\,x$ and $\partial_y \partial_y f = 200$. In the first, $-400\,x\,(y - x^2)$ is a product
# of two functions of $x$. Its derivative has two terms: $-400\,(y - x^2)$, and $-400\,x \cdot (-2x) = 800\,x^2$.
#
# Put the four numbers together.
#
# <details><summary>Hint 1</summary>
#
# Return a 2 × 2 array, rows in the order x, y.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The upper right entry is $\partial_y$ of $-400\,x\,(y - x^2) - 2(1 - x)$. What must it equal?
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# $\partial_x \partial_x f = -400\,(y - x^2) + 800\,x^2 + 2$. The last 2 comes from $-2\,(1 - x)$.
#
# </details>


# %% answer="rosenbrock_hessian"
def rosenbrock_hessian(point):
    """The Hessian of Rosenbrock's valley at `point` = (x, y), an array of shape (2, 2)."""
    ### BEGIN SOLUTION
    x, y = point
    upper_left = -400 * (y - x**2) + 800 * x**2 + 2
    return np.array([[upper_left, -400 * x], [-400 * x, 200.0]])
    ### END SOLUTION


# %% grade="rosenbrock_hessian"

# %% [markdown]
# {{exercise curvature_along}}
#
# Measure the curvature of a function in a direction, with three values of it and no derivative. Expand
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
# Divide by $h^2$: not by $2h$, not by $2h^2$.
#
# </details>


# %% answer="curvature_along"
def curvature_along(value, x, direction):
    """uᵀH u at x, with u = direction/‖direction‖: a number, from three calls of `value`.

    `value` is a function of an array (d,) that returns a number; `x` and `direction` have shape (d,).
    """
    ### BEGIN SOLUTION
    h = 1e-3
    u = direction / np.linalg.norm(direction)
    return (value(x + h * u) - 2 * value(x) + value(x - h * u)) / h**2
    ### END SOLUTION


# %% grade="curvature_along"

# %% [markdown]
# {{exercise mixed_partials}}
#
# Find both mixed derivatives of a function of two variables at the origin, and let each have its own order. A derivative
# of a derivative is a limit inside a limit. So the inner difference must be finished before the outer one begins:
# give it a step that is a thousand times smaller.
#
# The first number is $\partial_y(\partial_x f)$: differentiate in x first. The second is $\partial_x(\partial_y f)$.
# Complete the plan:
#
# - `fx(y)`: the central difference in x around $(0, y)$, with the inner step
# - `fy(x)`: the central difference in y around $(x, 0)$, with the inner step
# - return the central differences of `fx` and of `fy` around 0, with the outer step
#
# <details><summary>Hint 1</summary>
#
# $\partial_x f(0, y) \approx \big(f(k, y) - f(-k, y)\big)/(2k)$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Inner step $k = 10^{-6}$, outer step $h = 10^{-3}$. With $k = h$ both orders use the same four points, and
# must agree.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The first number is $\big(f_x(h) - f_x(-h)\big)/(2h)$, where $f_x$ is the function of Hint 1.
#
# </details>


# %% answer="mixed_partials"
def mixed_partials(f):
    """(∂/∂y ∂f/∂x, ∂/∂x ∂f/∂y) at the origin, two numbers; `f` is a function of an array (x, y)."""
    ### BEGIN SOLUTION
    inner, outer = 1e-6, 1e-3

    def fx(y):
        return (f(np.array([inner, y])) - f(np.array([-inner, y]))) / (2 * inner)

    def fy(x):
        return (f(np.array([x, inner])) - f(np.array([x, -inner]))) / (2 * inner)

    return (fx(outer) - fx(-outer)) / (2 * outer), (fy(outer) - fy(-outer)) / (2 * outer)
    ### END SOLUTION


# %% grade="mixed_partials"

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
