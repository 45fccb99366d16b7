# %% [markdown]
# {{header}}

# %%
import numpy as np

from hesslab.checks.lesson_07 import (
    check_catapult,
    check_follow_largest,
    check_name_the_run,
    check_ratio_to_edge,
    check_resting_point,
    check_step_cosines,
)

# %% [markdown]
# {{exercise ratio_to_edge}}
#
# A worked example. You have measured a sharpness λ, and you know the optimizer. How far is it from its edge? Divide λ by the threshold:
#
# $$\text{heavy ball: } \frac{2(1+\beta)}{\eta}, \qquad \text{Nesterov: } \frac{2(1+\beta)}{(1+2\beta)\,\eta}, \qquad \text{gradient descent: } \beta = 0 .$$
#
# For λ = 6, η = 0.5 and β = 0.5, heavy ball has the threshold 6 and the ratio 1; Nesterov's momentum has the threshold 3 and the ratio 2.
# Write the threshold into one variable, change it if `nesterov` is true, and return the quotient.
#
# <details><summary>Hint 1</summary>
#
# First the threshold of heavy ball, $2(1 + \beta)/\eta$; gradient descent is the case $\beta = 0$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# With `nesterov` divide the threshold once more, by `1 + 2 * beta`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The ratio is the sharpness over the threshold, not the other way round: it grows with the sharpness.
#
# </details>


# %% answer="ratio_to_edge"
def ratio_to_edge(sharpness, eta, beta=0.0, nesterov=False):
    """The sharpness over the largest stable curvature of SGD with momentum β: a number, 1 at the edge."""
    ### BEGIN SOLUTION
    threshold = 2 * (1 + beta) / eta
    if nesterov:
        threshold /= 1 + 2 * beta
    return sharpness / threshold
    ### END SOLUTION


# %% grade="ratio_to_edge"

# %% [markdown]
# {{exercise step_cosines}}
#
# A monitor that costs nothing: the cosine between each gradient and the next,
#
# $$c_t = \frac{g_t \cdot g_{t+1}}{\lVert g_t\rVert\,\lVert g_{t+1}\rVert}, \qquad g_t = \nabla L(\theta_t), \qquad \theta_{t+1} = \theta_t - \eta\, g_t .$$
#
# Take `steps` gradients $g_0, g_1, \dots$, the first at the start. They have `steps` − 1 cosines. In words:
#
# - make an empty list, and set `before = None`
# - repeat `steps` times: take the gradient `g`; if there is a gradient from before, append the cosine; then step, and keep `g` as `before`
#
# <details><summary>Hint 1</summary>
#
# `g @ before` is the inner product, `np.linalg.norm(g)` the length.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Divide by *both* lengths. They differ.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `theta = theta - eta * g` makes a new array. With `theta -= …` you would write into the array that you were given.
#
# </details>


# %% answer="step_cosines"
def step_cosines(gradient, theta, eta, steps):
    """The cosines of successive gradients along gradient descent from θ: an array (steps − 1,).

    `gradient` is a function of an array (d,) that returns an array (d,); `theta` has shape (d,).
    """
    ### BEGIN SOLUTION
    cosines, before = [], None
    for _ in range(steps):
        g = gradient(theta)
        if before is not None:
            cosines.append(g @ before / (np.linalg.norm(g) * np.linalg.norm(before)))
        theta, before = theta - eta * g, g
    return np.array(cosines)
    ### END SOLUTION


# %% grade="step_cosines"

# %% [markdown]
# {{exercise catapult}}
#
# The two-layer linear network of the lesson has two numbers that know all of its training, $f$ and λ. Derive how they move. One step of gradient descent is
#
# $$u' = u - \eta f\, \frac{v}{\sqrt n}, \qquad v' = v - \eta f\, \frac{u}{\sqrt n} .$$
#
# Put this into $f' = u' \cdot v'/\sqrt n$ and $\lambda' = (\lVert u'\rVert^2 + \lVert v'\rVert^2)/n$. For λ, half of it is done:
#
# $$\lambda' = \lambda - \frac{4\eta f\,(u \cdot v)}{n\sqrt n} + \frac{\eta^2 f^2}{n}\cdot(\ldots)$$
#
# Replace $u \cdot v$ by $\sqrt n\, f$. Then do the same for $f'$, and check your result with Section 5. In code, repeat both equations `steps` times.
# The check compares you with a network: it simulates $u$ and $v$ themselves.
#
# <details><summary>Hint 1</summary>
#
# $f' = f\,(1 - \eta\lambda + \eta^2 f^2/n)$ and $\lambda' = \lambda - (4 - \eta\lambda)\,\eta f^2/n$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Both right sides hold the *old* $f$ and the *old* λ. In Python, `a, b = …, …` computes both before it assigns.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# In a loop, assign the new pair at once, `f, lam = …, …`, and return it at the end.
#
# </details>


# %% answer="catapult"
def catapult(f, lam, eta, n, steps):
    """(f, λ) of the two-layer linear network of width n after so many steps of gradient descent: two numbers."""
    ### BEGIN SOLUTION
    for _ in range(steps):
        f, lam = f * (1 - eta * lam + eta**2 * f**2 / n), lam - eta * f**2 / n * (4 - eta * lam)
    return f, lam
    ### END SOLUTION


# %% grade="catapult"

# %% [markdown]
# {{exercise resting_point}}
#
# Where does gradient descent come to rest on $L(x, y) = \tfrac12 y x^2 + \tfrac k2 (y - Y)^2$? Two cases.
#
# - If $\eta Y < 2$, the minimum is stable: $x = 0$ and $y = Y$.
# - If $\eta Y > 2$, there is a two-cycle, with a $y$ and an $|x|$ that you find from two conditions: $x$ only changes its sign, and $y$ stands still.
#
# The third entry says whether the resting point attracts what begins near it. For the minimum it does. For the cycle see Section 4. You may take
# $\eta k < 2$ for granted, and $\eta Y$ is never exactly 2 or 2.5.
#
# <details><summary>Hint 1</summary>
#
# $x \leftarrow (1 - \eta y)\,x$ only changes the sign of $x$ where $1 - \eta y = -1$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $y$ stands still where $k(Y - y) = \tfrac12 x^2$. Solve for $|x|$: there is a 2 under the root.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The cycle attracts while $\eta Y < 2.5$.
#
# </details>


# %% answer="resting_point"
def resting_point(eta, k, Y):
    """(y, |x|, attracts): where gradient descent on the model of two variables can rest, and whether it does."""
    ### BEGIN SOLUTION
    if eta * Y < 2:
        return Y, 0.0, True
    y = 2 / eta
    return y, np.sqrt(2 * k * (Y - y)), eta * Y < 2.5
    ### END SOLUTION


# %% grade="resting_point"

# %% [markdown]
# {{exercise name_the_run}}
#
# You get a record, the ratio $\eta\lambda_{\max}/2$ at evenly spaced looks along a run. Give it one of four names, by this rule. Let $m$ be the mean of the last third of the looks, and let $m'$ be the mean of the
# middle third. (With 30 looks these are the looks from 20 on, and 10 to 19; the number of looks is a multiple of 3.)
#
# - `"lost"`: a look is not finite, or $m > 1.2$.
# - `"edge"`: $0.9 \le m \le 1.2$.
# - `"rising"`: $m < 0.9$ and $m > m'$.
# - `"falling"`: $m < 0.9$ and $m \le m'$.
#
# The rule is a convention. But some rule is needed *before* you look, or each run will confirm what you expect. What would go wrong with the last look alone, with the maximum, or with the mean of all?
#
# <details><summary>Hint 1</summary>
#
# Test whether all are finite first: a mean with NaN in it compares with nothing.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `np.split` cuts an array into three equal parts.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Test in the order of the list above, and return as soon as one holds.
#
# </details>


# %% answer="name_the_run"
def name_the_run(ratios):
    """ "lost", "edge", "rising" or "falling", by the rule above; `ratios` is an array (looks,)."""
    ### BEGIN SOLUTION
    if not np.isfinite(ratios).all():
        return "lost"
    _, middle, last = (third.mean() for third in np.split(ratios, 3))
    if last > 1.2:
        return "lost"
    if last >= 0.9:
        return "edge"
    return "rising" if last > middle else "falling"
    ### END SOLUTION


# %% grade="name_the_run"

# %% [markdown]
# {{exercise follow_largest}}
#
# Write the tracker. You get a path: a list of functions, one a moment, each of which multiplies an array (n, k) by the symmetric matrix of its moment. From one moment to the next the matrix changes
# a little. Return the largest eigenvalue at each moment, to 3 %. The price is limited: at most **80 columns** with the first matrix, and **8** with each later one.
#
# The checks try three paths: a rise in waves; two eigenvalues that *cross*, while their eigenvectors stay exactly where they are; and one on which three *negative* eigenvalues are the largest in size.
#
# A plan: keep an array V of three columns. In each round make its columns orthonormal, Q, and multiply, AQ. The small matrix $Q^\top A Q$ has the Ritz values; the largest is your estimate. Then take AQ, shifted so that negative eigenvalues
# do not win, as the next V. Two rounds a moment cost six columns.
#
# <details><summary>Hint 1</summary>
#
# `np.linalg.qr(V)` returns Q first. The Ritz values are the eigenvalues of the 3 × 3 matrix, in ascending order.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A round of the block power method takes AQ as the next V. Add Q times the size of the most negative Ritz value, and the spectrum is shifted up.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Start from three random columns, with 20 rounds for the first matrix and 2 for each other. Never begin anew.
#
# </details>


# %% answer="follow_largest"
def follow_largest(path, n, rng):
    """The largest eigenvalue at each moment of a path of symmetric (n, n) matrices: an array (moments,).

    `path` is a list of functions, each of which maps an array (n, k) to its product with one matrix, at the
    price of k; `rng` is a NumPy generator. At most 80 for the first matrix, and 8 for each later one.
    """
    ### BEGIN SOLUTION
    V, found = rng.standard_normal((n, 3)), []
    for moment, multiply in enumerate(path):
        for _ in range(2 if moment else 20):
            Q = np.linalg.qr(V)[0]
            AQ = multiply(Q)
            values = np.linalg.eigvalsh(Q.T @ AQ)
            V = AQ - min(values[0], 0) * Q
        found.append(values[-1])
    return np.array(found)
    ### END SOLUTION


# %% grade="follow_largest"
