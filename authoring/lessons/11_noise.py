# %% [markdown]
# {{header}}

# %%
from copy import deepcopy
from itertools import combinations, product

import numpy as np
import torch
from numpy.linalg import eigvals, matrix_power, norm
from scipy.linalg import eigh, eigvalsh
from scipy.optimize import brentq
from scipy.stats import chi2
from torch.nn.functional import cross_entropy, one_hot

from hesslab.checks.lesson_11 import TICKET
from hesslab.course import claim, predict, start, ticket
from hesslab.curvature import ggn, gradient_covariance, hessian
from hesslab.data import digits
from hesslab.dynamics import gd, run
from hesslab.lanczos import eigsh
from hesslab.operators import to_dense
from hesslab.plots import panels, show, threshold, watched
from hesslab.risk import EmpiricalRisk, mlp

start()

# %% [markdown]
# ## 1. The matrix of the noise
#
# The note says: *"SGD noise covariance relates to Hessian, aiding escape from sharp minima."* That is two claims. The first is about two matrices at one point. The second is about where training goes. We take them apart.
#
# Let $L(\theta) = \frac1n\sum_i \ell_i(\theta)$, and let $g_i = \nabla\ell_i(\theta)$ be the gradient of one example. Draw an example at random. Its gradient is $\nabla L$ on average, and its covariance is
#
# $$C(\theta) = \frac1n\sum_i g_i g_i^\top - \nabla L\,\nabla L^\top .$$
#
# C is a property of the point θ and of the data, as H is. The batch only scales it. A mean of B examples has the covariance
#
# $$\frac CB \quad\text{with replacement}, \qquad \frac CB\cdot\frac{n-B}{n-1} \quad\text{without}.$$
#
# The second factor is 0 at $B = n$: the full batch has no noise. Both formulas are exact, not approximations for large n. So check them exactly: six gradients in the plane, *all* batches of three.

# %%
g = np.random.default_rng(0).standard_normal((6, 2))
C = np.cov(g.T, bias=True)


def covariance_of_means(batches):
    return np.cov(np.array([g[list(batch)].mean(axis=0) for batch in batches]).T, bias=True)


without = covariance_of_means(combinations(range(6), 3))
replaced = covariance_of_means(product(range(6), repeat=3))
print(f"without replacement C × {without[0, 0] / C[0, 0]:.4f}, with C × {replaced[0, 0] / C[0, 0]:.4f}")
assert norm(without - C / 5) < 1e-12 and norm(replaced - C / 3) < 1e-12

# %% [markdown]
# One third, and one third times three fifths. A usual training loop shuffles, and goes through the data once an epoch. Within an epoch, its batches depend on each other. This lesson draws each batch afresh, without replacement inside a batch.
#
# ## 2. When the noise is a multiple of the Hessian
#
# Linear regression with half the squared error: $y = x^\top\theta^* + e$. Put $\delta = \theta - \theta^*$. Then $g = x\,(x^\top\delta - e)$ and $H = E[x x^\top]$. At the minimum, $\delta = 0$, and
#
# $$C = E[e^2\, x x^\top] .$$
#
# If the size of the error does not depend on the input, $E[e^2 \mid x] = \sigma^2$, then $C = \sigma^2 H$. That is the identity behind the claim. Count what it needs: a model that is *right*, errors of *one size*, and a θ *at* the minimum.
#
# We build a population in which all this is exact. Each of 50 inputs comes twice, once with the error $+\sigma$ and once with $-\sigma$. To compare C with H, take the eigenvalues of $H^{-1}C$. If C is a multiple of H, they are all the same.

# %%
question = "Now the model fits every example exactly, and θ is at the minimum. C is"
predict("fit", question, ["a multiple of H, with some σ² > 0", "zero", "larger than ever"], answer=None)

# %%
inputs = np.random.default_rng(1).standard_normal((50, 3)) * [2, 1, 0.5]
H = inputs.T @ inputs / 50


def compared(sigma, delta=0.0):
    x, e = np.vstack([inputs, inputs]), np.concatenate([sigma, -sigma])
    gradients = x * (x.sum(axis=1) * delta - e)[:, None]  # δ = delta · (1, 1, 1)
    return eigvalsh(np.cov(gradients.T, bias=True), H)


one, zero = np.full(50, 0.5), np.zeros(50)
spreads = {"one size": compared(one), "larger with x": compared(abs(inputs[:, 0]) / 2)}
spreads |= {"off the minimum": compared(one, delta=0.5), "fitted exactly": compared(zero)}
for name, values in spreads.items():
    print(f"{name:16}", np.round(values, 2) + 0.0)

# %% [markdown]
# The first line is $\sigma^2 = 0.25$, three times. Each of the others breaks one condition.
#
# - **Errors that grow with the input** (heteroscedastic): one direction has seven times more noise for its curvature than another.
# - **Off the minimum**: the same errors, and a spread of nearly eight. The signal itself differs from example to example. So during training the identity does not hold, even here.
# - **Fitted exactly** (interpolation): the noise is *zero*, and H is what it was. No factor other than 0 connects them.
#
# {{claim 8.3a}}
#
# The card has the largest distance of the first line from σ², the spread (largest over smallest) of the second and the third, and the largest entry of the last line.


# %%
def between(low, high):
    return lambda m: bool(np.all((low <= np.array(m)) & (np.array(m) <= high)))


spread = [values[-1] / values[0] for values in spreads.values() if values[0] > 0.1]
found = [abs(spreads["one size"] - 0.25).max(), *spread[1:], abs(spreads["fitted exactly"]).max()]
claim("8.3a", found, holds=between([0, 5, 5, 0], [1e-10, 99, 99, 1e-10]))

# %% [markdown]
# What of classifiers? Suppose that labels are *drawn from the model*. Then $E[g g^\top]$ is the Fisher matrix (Lesson 08), which for the cross-entropy of a network is the Gauss–Newton matrix G. Real labels are not drawn from the model, and nothing makes the errors of a network as frequent as its own probabilities say. So we measure.
#
# ## 3. In a network: aligned, not proportional
#
# 200 digits, a tanh network 64-8-10 with 610 weights: small enough for all three matrices, whole. It is trained by SGD with batches of 16 for 1000 steps. Three seeds.


# %%
images, labels = (torch.tensor(part) for part in digits(rng=0))
X, y, new_X, new_y = images[:200], labels[:200], images[200:], labels[200:]


def half_squares(outputs, y):
    return ((outputs - one_hot(y, 10)) ** 2).sum(1).mean() / 2


def descend(net, loss, B, eta, steps, rng):
    optimizer, generator = torch.optim.SGD(net.parameters(), lr=eta), np.random.default_rng(rng)
    for _ in range(steps):
        batch = torch.tensor(generator.choice(200, B, replace=False)) if B < 200 else slice(None)
        optimizer.zero_grad()
        loss(net(X[batch]), y[batch]).backward()
        optimizer.step()
    return net


def dense(matrix, *risk):
    return np.asarray(to_dense(matrix(EmpiricalRisk(*risk))))


nets = [descend(mlp([64, 8, 10], rng=seed), cross_entropy, 16, 0.1, 1000, seed) for seed in range(3)]
H, G, C = (
    [dense(matrix, net, cross_entropy, (X, y)) for net in nets]
    for matrix in (hessian, ggn, gradient_covariance)
)

# %% [markdown]
# How alike are two matrices? We take four numbers, and say for each what *chance* would give. Chance is a C with the same eigenvalues in a random orientation.
#
# 1. The **cosine** $\mathrm{tr}(HC)/(\lVert H\rVert_F\lVert C\rVert_F)$. It is 1 only for multiples. Chance: the cosine divided by number 3.
# 2. The **share** of $\mathrm{tr}\,C$ in the top 10 eigenvectors of H. Chance: 10/610, less than 2 %.
# 3. The **alignment** $p\,\mathrm{tr}(HC)/(\mathrm{tr}H\,\mathrm{tr}C)$. Chance: 1. `zhu2019` builds on $\mathrm{tr}(HC)$: it is how fast the noise raises the loss.
# 4. The **slope** of $\log v^\top C v$ against $\log v^\top H v = \log\lambda$, over the top 30 eigenvectors $v$ of H. Proportional means slope 1. Chance: 0.


# %%
def cosine(A, B):
    return (A * B).sum() / norm(A) / norm(B)


def alike(H, C, p=610):
    values, V = eigh(H)
    noise = ((C @ V) * V).sum(axis=0)
    slope = np.polyfit(np.log(values[-30:]), np.log(noise[-30:]), 1)[0]
    share, alignment = noise[-10:].sum() / C.trace(), p * (H * C).sum() / H.trace() / C.trace()
    return [cosine(H, C), share, alignment, slope]


table = np.array([alike(*pair) for pair in zip(H, C, strict=True)])
for seed, row in enumerate(table):
    words = "cosine {:.2f}, share {:.2f}, alignment {:.1f}, slope {:.2f}".format(*row)
    print(f"seed {seed}: {words}; cosine of C and G {cosine(C[seed], G[seed]):.2f}")

# %%
figure, axes = panels()
for seed, marker in enumerate("os^"):
    values, V = eigh(H[seed])
    noise = ((C[seed] @ V) * V).sum(axis=0)
    axes.loglog(values[-30:], noise[-30:], marker, label=f"seed {seed}", markersize=5)
axes.loglog([0.07, 0.45], [0.0035, 0.0225], "--", color="black", marker="", label="slope 1")
axes.set(xlabel="curvature λ", ylabel="noise vᵀCv")
axes.set_xticks([0.1, 0.2, 0.4], ["0.1", "0.2", "0.4"])
axes.set_yticks([0.002, 0.005, 0.01, 0.02], ["0.002", "0.005", "0.01", "0.02"])
axes.minorticks_off()
axes.legend()
show(figure, "Noise against curvature along 30 top eigenvectors: it rises with λ, more steeply than slope 1.")

# %% [markdown]
# The dashed line has slope 1. Its height is arbitrary: compare slopes only. If C were a multiple of H, the points of each seed would lie on a line parallel to it.
#
# More curvature, more noise, plainly, and many times beyond chance. But the cosine is not 1, and the slope is above 1: the steepest directions have more than their share. `superlinear2026` reports exponents between 1 and 2. It is a preprint, and the exponent depends on which eigenvectors are fitted.
#
# **Is "chance" a fair opponent?** Both matrices are made of the *same* Jacobians. With $J_i$ the derivative of the outputs of example i and $r_i$ the gradient of the loss in them (the residual), $g_i = J_i^\top r_i$ and $G = E[J_i^\top M_i J_i]$. So some alignment comes for free. A stricter opponent: give each example the residual of *another* one. The noise still has the right Jacobians and the right residuals, but they do not belong together.


# %%
def mixed(net):
    residuals = (net(X).softmax(1) - one_hot(y, 10)).detach()[np.random.default_rng(0).permutation(200)]
    return dense(gradient_covariance, net, lambda f, r: (f * r).sum(1).mean(), (X, residuals))


strict = np.array([alike(H[seed], mixed(nets[seed])) for seed in range(3)])
print("mixed residuals: share", np.round(strict[:, 1], 2), "alignment", np.round(strict[:, 2], 1))

# %% [markdown]
# Mixed residuals still have an alignment of 6 to 7. (With 300 digits, in an earlier trial, it was 5 to 6, of 12 to 14.) So about half of it comes from the Jacobians that C and H share, whatever the residuals do. The rest needs residual and example together. One reason is near at hand: under cross-entropy an example that is still in doubt has a large residual *and* a large $M_i$.
#
# Now the counterexample. Take the *squared error* with one-hot labels, and the same network. Is there a direction with a large eigenvalue, in which no example ever pushes?

# %%
question = "Squared error. Along one special direction v, vᵀHv > 0.7 λmax. The noise along it is"
choices = ["above 0.7 of the largest", "less, and not zero", "zero"]
predict("quiet", question, choices, answer=None)

# %%
squared = [descend(mlp([64, 8, 10], rng=seed), half_squares, 16, 0.2, 1000, seed) for seed in range(3)]
matrices = [[dense(m, net, half_squares, (X, y)) for m in (hessian, gradient_covariance)] for net in squared]
Q = np.zeros((9, 610))  # add the same to all ten outputs, by the last weights or by the biases
Q[:8, 520:600], Q[8, 600:] = np.kron(np.ones(10), np.eye(8)) / 10**0.5, 1 / 10**0.5
quiet = [eigvalsh(Q @ H2 @ Q.T)[-1] / eigvalsh(H2)[-1] for H2, _ in matrices]
heard = [(Q @ C2 @ Q.T).trace() / C2.trace() for _, C2 in matrices]
print("curvature there / λmax:", np.round(quiet, 2), "  share of the noise below 1e-12:", max(heard) < 1e-12)
cosines = [cosine(*pair) for pair in matrices]
print("cosine of H and C for the squared error:", np.round(cosines, 2))

# %% [markdown]
# Zero. The reason is simple. One-hot labels add up to 1. The network soon learns that for every example, here to rounding: its ten outputs add up to 1, so the ten residuals add up to 0. A change that adds the same to all ten outputs has the derivative $h\cdot\sum_c r_c = 0$ for each example. There are nine such directions: one for each of the eight hidden units, and one for the biases. Along one of their combinations the curvature is more than 0.7 of $\lambda_{\max}$. **Curvature, and no noise at all.**
#
# The cosine is lower as well, below 0.5. With the squared error $M_i$ is the identity: it does not know the residual, so the second reason for alignment is gone.
#
# {{claim 8.3b}}
#
# The card has the smallest share and alignment of the three seeds with cross-entropy, the largest cosine there, the smallest alignment with mixed residuals, and for the squared error the smallest curvature of the quiet directions over $\lambda_{\max}$, with the largest share of their noise.

# %%
found = [table[:, 1].min(), table[:, 2].min(), table[:, 0].max(), strict[:, 2].min(), min(quiet), max(heard)]
low, high = [0.3, 10, 0, 5, 0.7, -1e-12], [1, 99, 0.8, 8, 1, 1e-12]
claim("8.3b", found, holds=between(low, high))

# %% [markdown]
# > **Misconception: "the noise covariance is the Hessian, up to a factor".** In Section 2 it is, under three conditions. In a trained network C points where H points, more or less. Its size follows the *residuals*: it shrinks as the data are fitted, and H need not. A theory that puts $C \propto H$ has made an assumption. The first question of the exit ticket is about this.
#
# ## 4. SGD has a threshold of its own
#
# Gradient descent is stable at a minimum for $\eta < 2/\lambda_{\max}$. What about SGD at a minimum that fits *every* example? There is no noise *at* it. But each step away from it is multiplied by a random number. One weight:
#
# $$L(x) = \frac1n\sum_i \tfrac12 a_i x^2, \qquad x \leftarrow (1 - \eta\,\bar a_B)\,x, \qquad \bar a_B = \text{mean of the } a_i \text{ in the batch.}$$
#
# The Hessian is $a$, the mean of all $a_i$. Let $s^2$ be their variance. Square the step, take the mean, and use Section 1 for the variance of $\bar a_B$:
#
# $$\frac{E\,x_{t+1}^2}{x_t^2} = (1 - \eta a)^2 + \eta^2 V, \quad V = \frac{s^2}{B}\,\frac{n-B}{n-1}; \qquad\text{not above 1 if and only if}\quad \eta \le \eta_c = \frac{2a}{a^2 + V}.$$
#
# This is the **mean-square threshold** (`wu2018` derives conditions of this kind, with sharpness and *non-uniformity* as the two quantities). For $V = 0$ it is $2/a$. Noise lowers it.

# %%
question = "Curvatures: ten examples with a = 10, ninety with a = 0, so that 2/λ = 2. For B = 1, η_c is"
predict("threshold", question, ["2: the Hessian decides", "about 1", "0.2"], answer=None)


# %%
def sgd_threshold(a, B):
    return 2 * a.mean() / (a.mean() ** 2 + a.var() / B * (len(a) - B) / (len(a) - 1))


steep, level = np.repeat([10.0, 0.0], [10, 90]), np.ones(100)
for B in (1, 4, 16, 100):
    print(f"B = {B}: η_c = {sgd_threshold(steep, B):.3f}, all a = 1: {sgd_threshold(level, B):.3f}")

# %% [markdown]
# Two data sets, one and the same Hessian, and thresholds that differ by a factor of ten. **No function of H alone gives the stability of SGD.** With $B = 1$ the ten steep examples decide: each is stable on its own only for $\eta \le 2/10$.
#
# Is the formula right? For twelve examples we can go through all batches. The $a_i$ are spread like squares of Gaussian numbers, as in a regression with one weight. Their mean is 1.

# %%
a = chi2.ppf((np.arange(12) + 0.5) / 12, 1)
a /= a.mean()


def factors(eta, B):
    return np.array([1 - eta * np.mean(batch) for batch in combinations(a, B)])


# %%
at = {B: sgd_threshold(a, B) for B in (1, 2, 4, 12)}
error = max(abs((factors(eta, B) ** 2).mean() - 1) for B, eta in at.items())
print("thresholds:", {B: round(float(eta), 3) for B, eta in at.items()})

# %% [markdown]
# At each threshold the mean of the squared factor, over all batches, is 1 to rounding. In more dimensions there is no such short formula, but the second moment $S = E[x x^\top]$ still obeys an *exact* linear recursion. For one example a step, with $\ell_i = \frac12(x_i^\top\theta)^2$ and $A_i = I - \eta x_i x_i^\top$,
#
# $$S \leftarrow \frac1n\sum_i A_i\,S\,A_i .$$
#
# SGD is mean-square stable if the spectral radius of this map is at most 1 (below 1, $E\lVert\theta\rVert^2 \to 0$). As a matrix on the entries of S the map is the mean of $A_i \otimes A_i$. It is of size $d^2$, so this is for small d.


# %%
x2 = np.random.default_rng(1).standard_normal((20, 2)) * [1.5, 0.5]


def second_moment_map(eta):
    steps = np.eye(2) - eta * np.einsum("ni,nj->nij", x2, x2)
    return np.mean([np.kron(A, A) for A in steps], axis=0)


def radius(eta):
    return abs(eigvals(second_moment_map(eta))).max()


edge = 2 / eigvalsh(x2.T @ x2 / 20)[-1]
critical = brentq(lambda eta: radius(eta) - 1, 1e-4, edge)
print(f"two weights: 2/λmax = {edge:.3f}, mean-square threshold {critical:.3f}")

# %% [markdown]
# More than five times smaller. Now let 20,000 runs go five steps, 10 % below and 10 % above it, and compare with the recursion.


# %%
def simulated(eta, runs=20_000):
    theta, rng = np.ones((runs, 2)), np.random.default_rng(0)
    for _ in range(5):
        x = x2[rng.integers(0, 20, runs)]
        theta = theta - eta * x * (x * theta).sum(axis=1, keepdims=True)
    return (theta**2).sum(axis=1).mean()


def exact(eta):
    return (matrix_power(second_moment_map(eta), 5) @ np.ones(4))[[0, 3]].sum()


pairs = [(simulated(part * critical), exact(part * critical)) for part in (0.9, 1.1)]
growth = [radius(part * critical) for part in (0.9, 1.1)]
print("E‖θ‖² after 5 steps, simulated and exact:", np.round(pairs, 2).tolist())
print("spectral radius:", np.round(growth, 3))

# %% [markdown]
# {{claim 3.1g}}
#
# The card has the error of the formula over all batches, the thresholds of the two data sets with the same Hessian for $B = 1$, and the two spectral radii.

# %%
found = [error, sgd_threshold(steep, 1), sgd_threshold(level, 1), *growth]
claim("3.1g", found, expected=[0, 0.2, 2, 0.952, 1.077], tolerance=0.002)
assert error < 1e-12 and all(abs(np.divide(*pair) - 1) < 0.1 for pair in pairs)

# %% [markdown]
# ## 5. What a single run sees
#
# You train *once*. What does it mean for you that $E\,x^2$ grows? Take logarithms. After t steps $\log|x_t|$ is a sum of t independent terms, so by the law of large numbers
#
# $$\tfrac1t \log|x_t / x_0| \;\to\; \Lambda = E\,\log|1 - \eta\,\bar a_B| \qquad\text{for almost every run.}$$
#
# Λ is the **Lyapunov exponent**. The *typical* run shrinks if $\Lambda < 0$. By Jensen's inequality $2\Lambda \le \log E(1 - \eta\bar a_B)^2$, so mean-square stability implies typical stability, and not the other way round.

# %%
question = "a as above, B = 1, η = 1.2, well above η_c = 0.78. The median of |x| over 2000 runs"
predict("typical", question, ["grows", "stays near its start", "falls"], answer=None)


# %%
def simulate(eta, B, num_steps=100, runs=2000):
    each = abs(factors(eta, B))
    return each[np.random.default_rng(0).integers(0, len(each), (num_steps, runs))].cumprod(axis=0)


cases = [(0.6, 1), (1.2, 1), (1.2, 4), (2.2, 2), (2.2, 12)]
typical = {case: np.exp(np.log(abs(factors(*case))).mean()) for case in cases}
square = {case: (factors(*case) ** 2).mean() for case in cases}
far = {case: (simulate(*case).max(axis=0) > 100).mean() for case in cases}
for case in cases:
    print(
        "η = {}, B = {}:".format(*case),
        f"E x² × {square[case]:.2f}, typical |x| × {typical[case]:.2f}, ever 100 times farther {far[case]:.3f}",
    )

# %%
runs, times = simulate(1.2, 1, num_steps=40), np.arange(1, 41)
medians = np.median(runs, axis=1)
figure, axes = panels()
curves = {
    "exact": square[1.2, 1] ** (times / 2),
    "2000 runs": (runs**2).mean(axis=1) ** 0.5,
    "median": medians,
}
watched(axes, {name: (times, values) for name, values in curves.items()}, log=True)
axes.set(ylabel="|x|: root mean square, median")
show(
    figure,
    "The exact root mean square grows for ever, the median falls, and 2000 runs lose sight of the mean.",
)

# %% [markdown]
# At η = 1.2 and $B = 1$ the mean square grows by 2.3 a step, *and* almost every run converges. The mean is carried by ever rarer, ever larger excursions. After a few steps, 2000 runs hold too few of them, and their own mean square falls below the exact one.
#
# Look at the last two lines of the table. At η = 2.2 full-batch descent diverges: its factor is −1.2 in every step. With $B = 2$ the typical run *converges* there. For a typical run, noise can even stabilize.
#
# So which of the two thresholds counts? On a quadratic, for one run, in the long run: Λ. But a network is a quadratic only nearby. What counts there is whether the run ever *leaves the neighbourhood*. At η = 1.2 about 1 % of the runs were once 100 times farther away than they began, at η = 2.2 with $B = 2$ more than a quarter. An excursion that leaves the neighbourhood does not come back by this law. Mean-square instability means: **rare large excursions.** Whether they matter depends on how far the quadratic reaches, and on how long you train.
#
# {{claim 3.1h}}

# %%
found = [square[1.2, 1], typical[1.2, 1], typical[2.2, 2], typical[2.2, 12], far[0.6, 1], far[2.2, 2]]
claim("3.1h", found, holds=between([2.2, 0.5, 0.8, 1.1, 0, 0.25], [2.4, 0.6, 0.9, 1.3, 0.001, 0.32]))

# %% [markdown]
# Its numbers: the mean-square and the typical factor at (1.2, B = 1), the typical factors at (2.2, B = 2) and (2.2, all), and the two shares of runs with an excursion, at (0.6, B = 1) and (2.2, B = 2).
#
# ## 6. Batch size and sharpness
#
# Now a network, 64-32-32-10, with the squared error and η = 0.2, so that $2/\eta = 10$. All runs of a seed start from the same weights, and take the same number of steps: 1050. The batch is 4, 32, or all 200 digits. Two more runs *change* their batch after 700 steps. And we look at the full-batch run at step 700 as well. In the figure each kind of marker is a seed.

# %%
question = "With B = 4 the sharpness ends at a third of that with full batches. Its accuracy on new digits is"
choices = ["several percent better", "the same within 2 %", "several percent worse"]
predict("accuracy", question, choices, answer=None)


# %%
def look(net, loss=half_squares):
    risk = EmpiricalRisk(net, loss, (X, y))
    right = (net(new_X).argmax(1) == new_y).double().mean().item()
    return [eigsh(hessian(risk), 1, rtol=1e-3, rng=0).values[0], risk.value(), right]


def family(seed):
    first = mlp([64, 32, 32, 10], gain=0.7, rng=seed)
    small, half, full = (descend(deepcopy(first), half_squares, B, 0.2, 700, seed) for B in (4, 32, 200))
    pairs = [(small, 4), (half, 32), (full, 200), (small, 200), (full, 4)]
    return [look(full)] + [
        look(descend(deepcopy(net), half_squares, B, 0.2, 350, 10 + seed)) for net, B in pairs
    ]


names = ["all, step 700", "B = 4", "B = 32", "all", "4, then all", "all, then 4"]
families = np.array([family(seed) for seed in range(3)])  # seed, run, (sharpness, loss, accuracy)

for name, (sharp, loss, right) in zip(names, families.mean(axis=0), strict=True):
    print(f"{name:13} sharpness {sharp:.1f}, loss {loss:.3f}, accuracy on new digits {right:.2f}")

# %%
figure, axes = panels(1, 2)
for seed, marker in enumerate("os^"):
    axes[0].plot(families[seed, :, 0], range(6), marker, label=f"seed {seed}")
    axes[1].plot(families[seed, :, 0], families[seed, :, 2], marker)
axes[0].set(yticks=range(6), yticklabels=names, xlabel="sharpness")
threshold(axes[0], 10, "2/η", vertical=True)
axes[1].set(xlabel="sharpness", ylabel="accuracy on new digits", ylim=(0.85, 1))
show(
    figure,
    "Smaller batches end less sharp, for each of three seeds; accuracy on new digits does not follow.",
)

# %% [markdown]
# **The smaller the batch, the smaller the sharpness**, in each seed. Now be your own critic. Small batches also end with a *larger training loss*: perhaps they are merely behind? Compare two lines of equal loss. "4, then all" ends at the loss that the full-batch run has at step 700, with less than half of its sharpness. And "all, then 4": from the full-batch weights, 350 steps with $B = 4$ bring the sharpness down by almost a half. So the batch causes it, and in the other direction 350 steps do not undo it.
#
# **Accuracy does not follow.** A factor of three in sharpness, and less than 2 % on new digits. On this task "small batches generalize since they find flatter minima" has nothing to explain. `keskar2017` saw a gap on larger tasks. Whether flatness is its cause is the subject of Lesson 12.
#
# And the mechanism? Section 4 gives a candidate: smaller batches, a lower threshold. `andreyev2024` reports that in SGD the expected curvature of a *batch* along its own gradient settles at $2/\eta$, while $\lambda_{\max}$ stays below. In earlier trials with networks of this size that quantity came near $2/\eta$ in one configuration, and reached it in none, within 3000 steps. So we do not claim that edge here.
#
# There is a second reading of batch size. For a small step on a quadratic whose noise C does not change, the cloud of θ around the minimum has a variance proportional to $\eta/B$. So `jastrzebski2018` proposes η/B as the number that counts. This holds while ηλ is small beside 2. In one dimension the exact variance is $\frac{\eta\,C/B}{\lambda(2 - \eta\lambda)}$, with batches drawn with replacement. Near the edge the bracket goes to 0, and η counts for more than B. In our runs η stayed the same, so they cannot tell the two readings apart.
#
# **Where it fails.** The same network with cross-entropy, 250 steps.


# %%
def early(seed, B):
    net = mlp([64, 32, 32, 10], gain=0.7, rng=seed)
    return look(descend(net, cross_entropy, B, 0.2, 250, seed), cross_entropy)[0]


quotients = np.array([early(seed, 4) / early(seed, 200) for seed in range(3)])
print("cross-entropy, sharpness B = 4 over full batch:", np.round(quotients, 1))

# %% [markdown]
# The order is *reversed*: the small batch is sharper, for each seed. Under cross-entropy the sharpness collapses once the data are fitted (Lesson 07). After 250 steps the full batch is presumably further on that way. The moment matters: in a trial with 256 digits the small batch was sharper after 250 steps for three of three seeds, and after 500 steps for one of three. In a longer trial (256 digits, 1500 steps, η = 0.1) all batch sizes ended between 0.10 and 0.16. There, the batch size moves the clock more than the end.
#
# {{claim 8.3c}}
#
# The numbers: the smallest quotient, over the seeds, of the sharpness with full batches and with $B = 4$; the same for full batches at step 700 and "4, then all"; the largest quotient of the losses of these two, "4, then all" above; the largest difference of mean accuracy between the six lines; and for cross-entropy the smallest quotient of $B = 4$ and full.

# %%
sharp, loss, right = families.transpose(2, 1, 0)  # each: run, seed
found = [(sharp[3] / sharp[1]).min(), (sharp[0] / sharp[4]).min(), (loss[4] / loss[0]).max()]
found += [np.ptp(right.mean(axis=1)), quotients.min()]
claim("8.3c", found, holds=between([2, 1.7, 0, 0, 1.1], [9, 9, 1.1, 0.02, 9]), varies=True)
assert (np.diff(sharp[1:4], axis=0) > 0).all() and (sharp[5] < 0.7 * sharp[0]).all()

# %% [markdown]
# ## 7. Escape
#
# The last part of the note's sentence: noise helps to *leave* sharp minima. The usual picture is a ball in a landscape of wells, shaken by noise: $x \leftarrow x - \eta' L'(x) + \sqrt{2\,\eta'\,T(x)}\;\xi$, with ξ standard Gaussian, and the temperature $T$ as the strength of the shaking. Everything depends on how $T$ depends on $x$. Take two wells of the *same depth*, one four times wider than the other:
#
# $$L(x) = (1 - u^2)^2, \quad u = x / w, \qquad w = \tfrac14 \text{ for } x < 0, \quad w = 1 \text{ for } x > 0.$$
#
# The minima are at $-\tfrac14$ and 1, the barrier of height 1 is at 0, and the curvatures $8/w^2$ are 128 and 8: sixteen to one.

# %%
question = "T = 0.4 everywhere. Where are the walkers, after long?"
choices = ["half in each well", "four fifths in the wide one", "all in the wide one"]
predict("wells", question, choices, answer=None)


# %% [markdown]
# We need no simulation for the answer. In the limit of small steps, the density after long is $\propto \frac{1}{T(x)}\exp\big(-\int \frac{L'}{T}\,dx\big)$. (This is for noise evaluated *before* the step, as SGD does: Itô's convention.) With a $T$ for each well, and by the substitution $x = wu$, the weight of a well is $\frac wT\int_0^\infty e^{(1 - L)/T}\,du$. The 1 is the barrier, where the two sides join.


# %%
def weight(w, T):
    u = np.linspace(0, 2.5, 20_001)
    return w / T * np.exp((1 - (1 - u**2) ** 2) / T).mean()


def flat_share(T_sharp, T_flat):
    return weight(1, T_flat) / (weight(0.25, T_sharp) + weight(1, T_flat))


models = {"isotropic": (0.4, 0.4), "as the curvature": (1.6, 0.1), "against the curvature": (0.1, 1.6)}
shares = {name: flat_share(*T) for name, T in models.items()}
for name, share in shares.items():
    print(f"noise {name}: share in the wide well {share:.4f}")

# %% [markdown]
# Three answers, from one landscape.
#
# - **Isotropic noise**: four fifths, at *every* temperature. The wide well wins because it is wide, four to one. In balance as many cross one way as the other. So a walker of the narrow well leaves it four times as often. Noise that knows nothing of the Hessian already prefers the wide well.
# - **Noise proportional to the curvature** (1.6 and 0.1, as 16 to 1): everything is in the wide well. It is far colder there. This is the model behind "aiding escape".
# - **Noise that is larger in the flat well**: everything is in the *sharp* one. Walkers gather where it is cold.
#
# There is a fourth: noise that grows with the *loss*, $T = c\,(L + \varepsilon)$, as for the squared error near a minimum that fits the data. Then the density depends on x through L alone, and the share is four fifths again, with curvature in no other role than the width. `mori2022` studies noise of this kind.
#
# Check the first two by simulation, with steps of 0.00025 (stable: $2/128$ is far above).


# %%
def slope(x):
    w = np.where(x < 0, 0.25, 1.0)
    return -4 * (x / w) * (1 - (x / w) ** 2) / w


def walk(T_sharp, T_flat, walkers=500, num_steps=30_000, h=2.5e-4):
    rng, inside = np.random.default_rng(0), []
    x = rng.choice([-0.25, 1.0], walkers)
    for t in range(num_steps):
        T = np.where(x < 0, T_sharp, T_flat)
        x = x - h * slope(x) + np.sqrt(2 * h * T) * rng.standard_normal(walkers)
        if t > num_steps // 3:
            inside.append((x > 0).mean())
    return np.mean(inside)


walked = walk(0.4, 0.4), walk(1.6, 0.1)
print("simulated:", np.round(walked, 2) + 0.0)
assert abs(walked[0] - 0.8) < 0.05 and walked[1] > 0.99

# %% [markdown]
# And there is an escape *without any noise*. Start gradient descent close to the sharp minimum, with a step between $2/128 \approx 0.016$ and $2/8 = 0.25$.


# %%
starts = -0.25 + np.linspace(-0.02, 0.02, 100)  # an even number: none at the minimum itself
ends = {eta: run(slope, starts, gd(eta), 500).points[-1] for eta in (0.012, 0.02, 0.03)}
left = [(x > 0).mean() for x in ends.values()]
stayed = [(abs(x + 0.25) < 1e-6).mean() for x in ends.values()]
print("share in the wide well:", np.round(left, 2), "  at the sharp minimum:", np.round(stayed, 2))

# %% [markdown]
# The three steps are 0.012, 0.02 and 0.03. At 0.02 the sharp minimum is unstable: all leave *it*, but they hop to and fro in its *well*. At 0.03 all leave the well. No noise was needed: it is the threshold of Section 4 with $V = 0$. Noise in the curvatures *lowers* that threshold, which is how `wu2018` explains that SGD is not found at some minima. That is a different mechanism from climbing over a barrier. (A longer step can also throw a run out of both wells. At 0.05 we saw that in an earlier trial: instability does not choose where you land.)
#
# {{claim 8.3d}}
#
# The card has the three shares, the first of them again at a quarter of the temperature, and the part of the noiseless runs that left the well at 0.02 and at 0.03.

# %%
found = [*shares.values(), flat_share(0.1, 0.1), left[1], left[2]]
claim("8.3d", found, expected=[0.8, 1, 0, 0.8, 0, 1], tolerance=0.001)

# %% [markdown]
# What is contested, then?
#
# - **Whether the picture holds.** SGD's noise is not Gaussian, depends on θ, and vanishes where the data are fitted. A stochastic differential equation is a limit of small steps, and steps in practice are near the edge.
# - **Whether SGD climbs barriers at all**, or simply is not stable at sharp points, and slides along valleys to flatter ones. Section 6 shows a sharpness that falls within 350 steps. It shows no barrier.
# - **What C does to H in the long run.** `zhu2019` takes $\mathrm{tr}(HC)$ as the measure of escape, and reports it well above that of isotropic noise of the same trace. We found the same in Section 3. It says how fast the loss begins to rise, from one point. It does not say where the run will be.
# - **In which direction it leaves.** `noisegeom2023` analyses an escape in which flat directions take part.
# - **What it is good for.** In Section 6: nothing that the test set could see.
#
# ## What to take away
#
# 1. $C = \sigma^2 H$ needs a right model, errors of one size, and the minimum. In networks C is aligned with H beyond chance, but not proportional to it. There can be a large curvature and no noise at all.
# 2. SGD has its own threshold, and H alone does not give it. Above it, rare runs make large excursions, while the typical run may still converge.
# 3. Smaller batches ended at a smaller sharpness with the squared error, not with cross-entropy, and accuracy did not follow. Whether noise prefers flat wells depends on the noise model.
#
# ## Exit ticket
#
# Replace each `None` by the number of your answer, and run the cell.

# %%
i, j = int(abs(spreads["fitted exactly"]).max() < 1e-10), 2 * int(max(heard) < 1e-12)
k, m = 2 * int(sgd_threshold(steep, 1) < 0.5), 2 * int(medians[-1] < 0.1)
c, e = int(np.ptp(right.mean(axis=1)) < 0.02), int(abs(shares["isotropic"] - 0.8) < 0.01)
ticket(
    TICKET,
    answers=[None, None, None],
    outcomes={"fit": i, "quiet": j, "threshold": k, "typical": m, "accuracy": c, "wells": e},
)

# %% [markdown]
# ## In practice: your own model
#
# - `gradient_covariance(risk)` is an operator, as `hessian(risk)` is: `eigsh`, `hutchinson` and `slq` take it. Its model and loss must treat examples one by one: no batch statistics.
# - Report C with the batch factor that you use: $1/B$, or $\frac1B\cdot\frac{n-B}{n-1}$.
# - When you compare C with H, report what chance gives, and mixed residuals as well. Without an opponent, a number like "40 % of the noise in ten directions" says little.
# - To compare batch sizes, compare at equal training loss, with several seeds, and say whether steps or epochs were equal.
# - Before you explain a gap in accuracy by flatness, see that there is a gap.
#
# ## Further reading
#
# - `wu2018` (Wu, Ma and E, *How SGD Selects the Global Minima in Over-parameterized Learning*, 2018): stability with sharpness and non-uniformity.
# - `zhu2019` (Zhu and others, *The Anisotropic Noise in Stochastic Gradient Descent*, 2019): tr(HC), and escape.
# - `wuwangsu2022` (Wu, Wang and Su, *The Alignment Property of SGD Noise and How It Helps Select Flat Minima*, 2022).
# - `andreyev2024` (Andreyev and Beneventano, *Edge of Stochastic Stability*, 2024): the sharpness of batches.
# - `jastrzebski2018` (Jastrzębski and others, *Three Factors Influencing Minima in SGD*, 2018): the ratio η/B.
