# %% [markdown]
# {{header}}

# %%
import numpy as np

from hesslab.checks.lesson_03 import (
    check_best_momentum,
    check_chebyshev_steps,
    check_cycle_length,
    check_largest_curvature,
    check_nesterov,
    check_scheduled_sgd,
)

# %% [markdown]
# {{exercise nesterov}}
#
# A worked example. A **rule** of `hesslab.dynamics` is a function of the gradient, the point x and a state. It returns the next point and the next state.
# At the first step the state is None. Here is heavy ball in full; its state is the point before x:
#
# ```python
# def heavy_ball(eta, beta):
#     def step(gradient, x, previous):
#         momentum = 0 * x if previous is None else x - previous
#         return x - eta * gradient(x) + beta * momentum, x
#
#     return step
# ```
#
# Look at the last entry of the returned pair: the *present* x becomes the `previous` of the next step. Now change it into Nesterov's momentum,
#
# $$y = x_t + \beta\,(x_t - x_{t-1}), \qquad x_{t+1} = y - \eta\,\nabla f(y).$$
#
# <details><summary>Hint 1</summary>
#
# Compute `y` first. At the first step there is no previous point, and y is x.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# y stands in two places: in the gradient, and as the point from which the step is taken.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Return `y - eta * gradient(y)`, and x, not y, as the next state.
#
# </details>


# %% answer="nesterov"
def nesterov(eta, beta):
    """Nesterov's momentum, y = x_t + β (x_t − x_{t−1}), x_{t+1} = y − η ∇f(y).

    Returns a rule: step(gradient, x, state) -> (next x, next state), where the first state is None.
    """
    ### BEGIN SOLUTION

    def step(gradient, x, previous):
        y = x if previous is None else x + beta * (x - previous)
        return y - eta * gradient(y), x

    return step
    ### END SOLUTION


# %% grade="nesterov"

# %% [markdown]
# {{exercise largest_curvature}}
#
# Heavy ball takes its gradient at x, Nesterov's momentum at x + β (x − previous). Let it stand anywhere, with a third number γ:
#
# $$x_{t+1} = x_t + \beta\,(x_t - x_{t-1}) - \eta\,\nabla f\big(x_t + \gamma\,(x_t - x_{t-1})\big).$$
#
# With γ = 0 it is heavy ball, with γ = β it is Nesterov. Find the largest stable curvature λ, for $0 \le \beta < 1$ and $\gamma \ge 0$. On a mode,
# $x_{t+1} = a\,x_t + b\,x_{t-1}$. The plan:
#
# - $a = 1 + \beta - \eta\lambda\,(\dots)$ and $b = -\beta + \eta\lambda\,(\dots)$
# - the roots solve $r^2 - a r - b = 0$, and the first to leave the unit circle leaves at $r = -1$
# - put in $r = -1$, and solve for λ
#
# <details><summary>Hint 1</summary>
#
# $\nabla f(x) = \lambda x$ on a mode, so the gradient is $\lambda\,\big((1 + \gamma)\, x_t - \gamma\, x_{t-1}\big)$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $a = 1 + \beta - \eta\lambda(1 + \gamma)$ and $b = -\beta + \eta\lambda\gamma$. At $r = -1$ the equation is $1 + a - b = 0$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# $2 + 2\beta = \eta\lambda\,(1 + 2\gamma)$. Test the two cases that you know. (A complex pair has the modulus $\sqrt{-b}$, and cannot leave
# the circle, since $-b \le \beta < 1$.)
#
# </details>


# %% answer="largest_curvature"
def largest_curvature(eta, beta, gamma):
    """The largest λ at which the iteration with the gradient at x + γ (x − previous) does not grow, a number."""
    ### BEGIN SOLUTION
    return 2 * (1 + beta) / ((1 + 2 * gamma) * eta)
    ### END SOLUTION


# %% grade="largest_curvature"

# %% [markdown]
# {{exercise best_momentum}}
#
# Section 4 chose η and β together. Often η is given: by a guarantee, or by habit. Which β makes heavy ball fastest then, in the worst case over all curvatures between μ and
# $L$, the largest curvature? Assume $0 < \eta L < 4$.
#
# Fill in the plan:
#
# - the flattest mode is inside the parabola when $(1 - \sqrt\beta)^2 \le \dots$, so $\sqrt\beta \ge \dots$
# - the steepest mode is inside when $(1 + \sqrt\beta)^2 \ge \dots$, so $\sqrt\beta \ge \dots$
# - inside, the rate is $\sqrt\beta$ in every mode; so take the smallest β that satisfies both
#
# For μ = 0.01, $L$ = 1 and $\eta = 4/(\sqrt L + \sqrt\mu)^2$ both conditions give the same, β = 0.6694.
#
# <details><summary>Hint 1</summary>
#
# Is it really best to have all modes inside? In the picture of Section 2 go down from the dashed line: the radius of that mode rises.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# At μ: $\sqrt\beta \ge 1 - \sqrt{\eta\mu}$. At $L$: $\sqrt\beta \ge \sqrt{\eta L} - 1$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# β is the square of the larger of the two. For $\eta = 1/L$ the second is 0.
#
# </details>


# %% answer="best_momentum"
def best_momentum(eta, mu, L):
    """The β in [0, 1) with which heavy ball at step `eta` is fastest in the worst case over [mu, L], a number."""
    ### BEGIN SOLUTION
    return max(1 - np.sqrt(eta * mu), np.sqrt(eta * L) - 1) ** 2
    ### END SOLUTION


# %% grade="best_momentum"

# %% [markdown]
# {{exercise chebyshev_steps}}
#
# Gradient descent with $k$ different steps leaves $p(\lambda) = \prod_i (1 - \eta_i\lambda)$ of the error. The best $p$ on $[\mu, L]$ is Chebyshev's. On $[-1, 1]$ the zeros of
# Chebyshev's polynomial of degree $k$ are $\cos\frac{(2i+1)\pi}{2k}$ with $i = 0, \dots, k-1$. Three lines:
#
# - the zeros on $[-1, 1]$
# - the same zeros, moved to $[\mu, L]$: its middle, minus half its length times the cosine
# - the steps: where is $1 - \eta\lambda$ zero?
#
# The order does not matter. For μ = 0.01, $L$ = 1 and $k$ = 10 the worst error left is 0.2641.
#
# <details><summary>Hint 1</summary>
#
# `np.arange(k)` gives i. For k = 1 there is one zero, in the middle of the interval.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The middle is $(L + \mu)/2$, half the length is $(L - \mu)/2$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# A step is the inverse of a zero. For k = 1 this gives $2/(L + \mu)$, the best fixed step of Lesson 02.
#
# </details>


# %% answer="chebyshev_steps"
def chebyshev_steps(mu, L, k):
    """The k step sizes with which gradient descent has the smallest worst error over [mu, L], shape (k,)."""
    ### BEGIN SOLUTION
    zeros = np.cos((2 * np.arange(k) + 1) * np.pi / (2 * k))
    return 1 / ((L + mu) / 2 - (L - mu) / 2 * zeros)
    ### END SOLUTION


# %% grade="chebyshev_steps"

# %% [markdown]
# {{exercise scheduled_sgd}}
#
# Write PyTorch's SGD with momentum, without PyTorch. `rates` holds the step sizes, one for each step. Return all points, the start first. It must agree with
# `torch.optim.SGD(momentum=beta)` under every schedule, also one that falls to zero and rises again.
#
# <details><summary>Hint 1</summary>
#
# Two things change in each step: the velocity v, from 0, and the point θ.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# In PyTorch's convention v is made of gradients alone. η comes in when the point moves.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `v = beta * v + gradient(theta)`, then `theta = theta - eta * v`. Do not write `theta -= …`: it would change the points that you have stored.
#
# </details>


# %% answer="scheduled_sgd"
def scheduled_sgd(gradient, theta, rates, beta):
    """The points of PyTorch's SGD with momentum `beta`, shape (T + 1, d), the start `theta` (d,) first.

    `gradient` is a function of an array (d,); `rates` holds the T step sizes.
    """
    ### BEGIN SOLUTION
    points, v = [theta], 0.0
    for eta in rates:
        v = beta * v + gradient(points[-1])
        points.append(points[-1] - eta * v)
    return np.array(points)
    ### END SOLUTION


# %% grade="scheduled_sgd"

# %% [markdown]
# {{exercise cycle_length}}
#
# Where does heavy ball end, from `x0` at rest, on a function of one variable? Return the smallest $p \ge 1$ with $x_{t+p} = x_t$ in the long run: 1 where it converges, 3 on the
# function of Section 7. Return 0 where it diverges. No cycle is longer than 12, and after 300 steps everything has settled. Converged or periodic means up to rounding, *relative to the size of the points*.
#
# <details><summary>Hint 1</summary>
#
# Run heavy ball for all `steps` steps before you compare anything. Keep the points.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Divergence first: stop as soon as a point is larger than, say, $10^{10}$ times the start, or is not a number.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# For p = 1, 2, …, 12: is the last point equal to the one p steps before, up to $10^{-6}$ times the largest point of the run? The first p that fits is the answer.
#
# </details>


# %% answer="cycle_length"
def cycle_length(gradient, x0, eta, beta, steps=300):
    """The period of heavy ball on a function of one number in the long run; 1: it converges, 0: it diverges.

    `gradient` is a function of a number x; `x0` is the start, at rest; after `steps` steps it has settled.
    """
    ### BEGIN SOLUTION
    points = [x0, x0]
    for _ in range(steps):
        x = points[-1] - eta * gradient(points[-1]) + beta * (points[-1] - points[-2])
        if not abs(x) < 1e10 * abs(x0):
            return 0
        points.append(x)
    size = max(abs(x) for x in points)
    return next((p for p in range(1, 13) if abs(points[-1] - points[-1 - p]) < 1e-6 * size), 0)
    ### END SOLUTION


# %% grade="cycle_length"
