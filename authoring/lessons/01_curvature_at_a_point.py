# %% [markdown]
# {{header}}

# %%
import numpy as np
import torch
from numpy.linalg import eig, eigh, eigvals, eigvalsh, norm
from torch.nn.functional import cross_entropy

from hesslab import objectives
from hesslab.checks.lesson_01 import TICKET
from hesslab.course import claim, predict, start, ticket
from hesslab.curvature import hessian
from hesslab.data import digits
from hesslab.matrices import with_spectrum
from hesslab.operators import to_dense
from hesslab.plots import contours, panels, show, threshold, watched
from hesslab.risk import EmpiricalRisk, mlp

start()

# %% [markdown]
# ## 1. Two derivatives at one point
#
# A loss $L$ is a function of $n$ parameters θ. Its **gradient** $g(\theta)$ holds the $n$ first derivatives. Its
# **Hessian** $H(\theta)$ is the $n \times n$ matrix of second derivatives. Together they say what a small step $d$ does:
#
# $$L(\theta + d) \;=\; \underbrace{L(\theta) + g^\top d + \tfrac12\, d^\top H d}_{\text{the quadratic model}} \;+\; \text{remainder}.$$
#
# We begin with Rosenbrock's valley, $f(x, y) = 100\,(y - x^2)^2 + (1 - x)^2$, differentiated by hand in
# `hesslab.objectives`.

# %%
f, x = objectives.rosenbrock(), np.array([0.5, 0.8])
g, H = f.gradient(x), f.hessian(x)
print("gradient", g.round(1), "  Hessian", H.round(1).tolist())

# %% [markdown]
# How do you know that a Hessian is right? Compare the model with the loss. If $g$ and $H$ are both right, the remainder
# begins with third derivatives: it shrinks like $r^3$, where $r$ is the length of the step. What if $H$ is slightly wrong?
# Write your prediction into the next cell, as `answer=0`, `1` or `2`. It is scored at the end.

# %%
question = "One entry of H is off by 10 %. A step ten times shorter divides the error of the model by"
predict("slope", question, choices=["10", "100", "1000"], answer=None)


# %%
def model_error(d, g, H):
    return abs(f.value(x + d) - f.value(x) - g @ d - d @ H @ d / 2)


radii, u = [1e-3, 1e-2, 1e-1], np.array([0.6, 0.8])
pairs = {"H off by 10 %": (g, H + np.diag([0, 20])), "g off by 1 %": (1.01 * g, H), "both right": (g, H)}
errors = {name: [model_error(r * u, *pair) for r in radii] for name, pair in pairs.items()}
slopes = {name: float(np.log10(error[1] / error[0]).round(2)) for name, error in errors.items()}
print("error falls as r to the power", slopes)
figure, axes = panels()
watched(axes, {name: (radii, error) for name, error in errors.items()}, log=True)
axes.set(xscale="log", xlabel="length r of the step", ylabel="error of the quadratic model")
show(figure, "The error falls as r³ with g and H right, as r² with a wrong H, and as r with a wrong g.")

# %% [markdown]
# This is the **Taylor test**. Slope 1: the gradient is wrong. Slope 2: the Hessian is wrong. Slope 3 or more: no error shows in
# that direction. Use float64 and a random direction, and stay above $r \approx 10^{-4}$: below, the error drowns in
# rounding. Compare $H$ with its transpose as well: $d^\top H d$ does not see an antisymmetric error.
#
# Now the first sentence of the note.
#
# {{claim 1.0}}
#
# We take the third derivative along a direction $u$ as a difference of Hessians. On a line through Rosenbrock's
# valley it changes linearly, so its largest size $M$ is at an end of the step. We compare the error with $Mr^3/6$ in 59
# directions, at $r = 0.1$.


# %%
def third(objective, x, u, h=1e-3):
    return u @ (objective.hessian(x + h * u) - objective.hessian(x - h * u)) @ u / (2 * h)


ratios = []
for u in (np.array([np.cos(a), np.sin(a)]) for a in np.linspace(0.1, 6.2, 59)):
    M = max(abs(third(f, x, u)), abs(third(f, x + 0.1 * u, u)))
    ratios.append(model_error(0.1 * u, g, H) / (M * 0.1**3 / 6))
claim("1.0", [slopes["both right"], max(ratios)], holds=lambda m: abs(m[0] - 3) < 0.05 and m[1] <= 1)

# %% [markdown]
# The bound holds, and is nearly reached. $H$ alone would not do: add a linear function to $L$, and $H$ stays what it is. And
# "around" has a length, which $H$ does not know: $x^2$ and $x^2 + 10^6 x^4$ share value, gradient and Hessian at 0, and
# differ by a factor of 2 at $10^{-3}$.
#
# ## 2. Curvature along a direction
#
# Cut the loss along a straight line through θ. The second derivative of the cut is the **curvature** in that direction.
# For a direction $v$ of any length it is the **Rayleigh quotient** $\rho(v) = v^\top H v / v^\top v$. Take
# $\tfrac12 (x^2 - 3y^2) + xy$, and turn the direction through half a circle.

# %%
A = objectives.quadratic([[1.0, 1.0], [1.0, -3.0]]).hessian([0.0, 0.0])
angles = np.linspace(0, np.pi, 181)
curvatures = np.array([u @ A @ u for u in np.column_stack([np.cos(angles), np.sin(angles)])])
print(f"curvature from {curvatures.min():.3f} to {curvatures.max():.3f}; eigenvalues", eigvalsh(A).round(3))

# %% [markdown]
# The largest curvature is the largest eigenvalue, in the direction of its eigenvector; likewise the smallest. In $n$
# dimensions every curvature is a weighted average of eigenvalues: if $v = \sum_i c_i v_i$ has length 1,
# then $\rho(v) = \sum_i c_i^2 \lambda_i$.
#
# A Rayleigh quotient needs no Hessian. Three values of the loss give it, with $u$ of length 1:
# $\big(L(\theta + hu) - 2L(\theta) + L(\theta - hu)\big)/h^2$. The card does this for every eigenvector of a deep linear
# network, $\tfrac12 \lVert W_2 W_1 - M \rVert^2$ with 24 weights.
#
# {{claim 1.4}}

# %%
net = objectives.deep_linear([3, 4, 3], np.diag([3.0, 2.0, 1.0]))
theta, h = np.random.default_rng(1).standard_normal(24), 1e-3
values, vectors = eigh(net.hessian(theta))
rises = [net.value(theta + h * v) - 2 * net.value(theta) + net.value(theta - h * v) for v in vectors.T]
claim("1.4", abs(np.array(rises) / h**2 - values).max() / abs(values).max(), expected=0, tolerance=1e-4)

# %%
S = np.diag([1.0, 10.0])
print("2 × 2 form: eigenvalues in θ", eigvalsh(A).round(2), "and in φ", eigvalsh(S @ A @ S).round(2))

# %% [markdown]
# All 24 agree. The last line measures the second parameter of the quadratic form in a unit ten times as large, θ = Sφ: the
# same losses, other eigenvalues. The signs survive (Sylvester's law of inertia); the sizes do not. Lesson 12 returns to this.
#
# ## 3. Symmetric, real, orthogonal
#
# First: does the order of differentiation matter? The cell differentiates a gradient numerically, and compares the matrix
# with its transpose.
#
# {{claim 1.1}}


# %%
def jacobian(gradient, x, h=1e-5):
    return np.column_stack([(gradient(x + h * e) - gradient(x - h * e)) / (2 * h) for e in np.eye(len(x))])


J = jacobian(net.gradient, theta)
claim("1.1", abs(J - J.T).max() / abs(J).max(), expected=0, tolerance=1e-6)

# %%
origin, beside = (jacobian(objectives.peano().gradient, np.array(p)) for p in ([0.0, 0.0], [0.3, 0.1]))
print("Peano at the origin", (origin.round(3) + 0).tolist(), "  beside it", beside.round(3).tolist())

# %% [markdown]
# The network is a polynomial: all its derivatives are continuous. The second derivatives of Peano's function,
# $xy\,(x^2 - y^2)/(x^2 + y^2)$ with the value 0 at the origin, jump there: $\partial_y \partial_x f = -1$
# and $\partial_x \partial_y f = +1$. The condition in brackets carries the claim.
#
# {{claim 1.2}}
#
# We ask `eigvals`, which knows nothing of symmetry.

# %%
H, P = net.hessian(theta), with_spectrum(np.linspace(1.0, 5.0, 24), rng=0)
imaginary = [abs(eigvals(matrix).imag).max() for matrix in (H, np.linalg.solve(P, H))]
claim("1.2", imaginary, expected=0, tolerance=1e-9)
pair = eigvals(np.linalg.solve([[0.0, 1.0], [1.0, 0.0]], np.diag([1.0, -1.0])))
print("P indefinite: imaginary parts", np.sort(pair.imag))

# %% [markdown]
# All are real for $H$, and for $P^{-1}H$ with a positive definite $P$, though that is not symmetric. With an
# indefinite $P$ they can be $\pm i$.
#
# Third, the eigenvectors. Take $\mathrm{diag}(1, 1, 2)$ and add symmetric noise $E$, of size $\lVert E \rVert$, its
# largest $|\lambda|$.

# %%
question = "Noise of size 1e-8 is added to diag(1, 1, 2). How far do its eigenvectors turn?"
choices = ["All by 1e-8", "That of 2 by 1e-8, those of 1 mostly by degrees", "All by many degrees"]
predict("turn", question, choices, answer=None)


# %%
def noise(seed):
    E = np.random.default_rng(seed).standard_normal((3, 3))
    return (E + E.T) / norm(E + E.T, 2)


for size in (1e-4, 1e-8):
    turned = [eigh(np.diag([1.0, 1.0, 2.0]) + size * noise(seed))[1] for seed in range(200)]
    turn_2 = max(norm(V[:2, 2]) for V in turned)  # the sine of the angle with the axis
    turn_1 = np.degrees(np.arccos([abs(V[0, 0]) for V in turned]))
    spread = np.quantile(turn_1, [0.05, 0.5, 0.95]).round().tolist()
    print(f"noise {size:.0e}: that of 2 turns by at most {turn_2:.0e}; of 1, degrees (5, 50, 95 %): {spread}")

# %% [markdown]
# In 200 draws, the eigenvector of 2 turns by no more than the noise. Those of 1 turn by any angle, however small the noise is:
# only their plane is determined.
#
# A *nearly* repeated eigenvalue is nearly as bad. Let $v$ be a unit eigenvector of $A$, let **gap** be the distance from its λ to the
# nearest other eigenvalue, and let $\tilde v$ be the eigenvector of the same rank of $A + E$. Its eigenvalue
# $\tilde\lambda$ is within $\lVert E \rVert$ of λ (Weyl), and $(A - \tilde\lambda)\,\tilde v = -E\tilde v$. Split $\tilde v$ into
# $\cos\varphi\; v + \sin\varphi\; w$ with $w$ orthogonal to $v$. $A$ is symmetric, so $(A - \tilde\lambda)\, w$ is again orthogonal to
# $v$; and it is at least $\mathrm{gap} - \lVert E \rVert$ long, since so far is $\tilde\lambda$ from the other eigenvalues. The right side is at most $\lVert E \rVert$ long. Hence
# $\sin\varphi\,(\mathrm{gap} - \lVert E \rVert) \le \lVert E \rVert$, the theorem of Davis and Kahan for one vector.
#
# {{claim 1.3}}


# %%
def sine_over_bound(gap, E):  # ‖E‖ = 1, so gap counts in units of the noise
    V = eigh(np.diag([0.0, gap, 2 * gap]) + E)[1]
    return max(norm(V[1:, 0]), norm(V[[0, 2], 1])) * (gap - 1)


swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]])
trials = [(gap, E) for gap in np.geomspace(2, 300, 12) for E in (swap, *map(noise, range(40)))]
worst, V = max(sine_over_bound(gap, E) for gap, E in trials), eig(net.hessian(theta))[1]
claim("1.3", [abs(V.T @ V - np.eye(24)).max(), worst], holds=lambda m: m[0] < 1e-9 and m[1] <= 1)

# %% [markdown]
# First number: 24 eigenvectors, from a solver that knows nothing of symmetry, are orthogonal to rounding. (For $\mathrm{diag}(1, 1, 2)$ it
# could have returned $(1, 0, 0)$ and $(1, 1, 0)$, which are not.) Second: the worst of 492 trials almost reaches the
# bound. So an eigenvector has an error bar, below 1 only where the gap is more than twice the noise. An eigenvalue is safer: it moves by
# at most $\lVert E \rVert$.
#
# ## 4. Real data: 650 parameters, exactly
#
# The digits of scikit-learn: 1797 images of 8 × 8 pixels, ten classes. A constant feature is appended, for the bias.

# %%
images, labels = digits(centred=False, rng=0)
X = np.column_stack([images, np.ones(1797)])
dead, rank = int((images.std(axis=0) == 0).sum()), np.linalg.matrix_rank(X)
print(f"{X.shape[0]} examples, {X.shape[1]} features, {dead} pixels never used, rank {rank}")

# %% [markdown]
# **Logistic regression**: is it a 3? The model's probability is $p_i = \sigma(x_i^\top w)$ with $\sigma(z) = 1/(1 + e^{-z})$, and the
# loss is the mean of $-\log p_i$ over the threes and of $-\log(1 - p_i)$ over the others. Its gradient is
# $\frac1n X^\top(p - y)$, with $y_i = 1$ for a 3, else 0. Only $p$ depends on $w$, and $\sigma' = \sigma(1-\sigma)$. So
#
# $$H = \tfrac1n\, X^\top \mathrm{diag}\big(p_i(1-p_i)\big)\, X , \qquad u^\top H u = \tfrac1n \sum_i p_i(1-p_i)\,(x_i^\top u)^2 \ge 0.$$
#
# The labels have dropped out, and the loss is convex. $u$ is a null vector, $Hu = 0$, exactly when $Xu = 0$.
#
# **Softmax regression**: which digit is it? Each class $c$ has a weight vector $w_c$; θ holds the ten of them one after another, 650
# numbers. An example $x$ has the **logits** $z_c = w_c^\top x$, the probabilities $p_c = e^{z_c}/\sum_e e^{z_e}$, and the loss
# $-\log p_y$, the cross-entropy. Its derivative in $z_c$ is $p_c$, less 1 if $c = y$. The derivative of $p_c$ in $z_e$ is $p_c(\delta_{ce} - p_e)$,
# with δ = 1 if $c = e$, else 0. The chain rule multiplies by $x$ twice. So $H$ has 10 × 10 blocks,
#
# $$H_{ce} = \text{mean of } p_c\,(\delta_{ce} - p_e)\; x\, x^\top .$$
#
# A direction in θ changes each logit at some speed, and $u^\top H u$ is the mean *variance* of the ten speeds under $p$. It is 0 exactly
# when in each example all ten logits move alike.
#
# Automatic differentiation shares no code with these formulas. We compare at a point on the way of **gradient descent**,
# $\theta \leftarrow \theta - \eta\, g(\theta)$, with the step size η, called `rate` in the code.


# %%
def descend(objective, theta, rate, steps):
    for _ in range(steps):
        theta = theta - rate * objective.gradient(theta)
    return theta


def loss(theta):
    return cross_entropy(torch.tensor(X) @ theta.reshape(10, 65).T, torch.tensor(labels))


three, softmax = objectives.logistic_regression(X, labels == 3), objectives.softmax_regression(X, labels)
w, zero = descend(three, np.zeros(65), rate=0.13, steps=100), np.zeros(650)
trained = descend(softmax, zero, rate=0.13, steps=300)
automatic = torch.func.hessian(loss)(torch.tensor(trained)).numpy()
print(f"loss {softmax.value(trained):.3f}, λmax {eigvalsh(automatic)[-1]:.3f}")
assert np.allclose(automatic, softmax.hessian(trained), rtol=0, atol=1e-12)

# %% [markdown]
# The assertion passes: 422 500 entries, equal to $10^{-12}$. Three pixels are 0 in every image, and $X$ has rank 62. So the *logistic*
# Hessian has 65 − 62 = 3 zero eigenvalues. The softmax count is yours.

# %%
question = "Softmax: 650 weights, 3 features always 0, 62 independent ones. How many eigenvalues are 0?"
predict("zeros", question, answer=None)


# %%
def rounding(values):  # the error of an eigenvalue solver
    return len(values) * np.finfo(float).eps * abs(values).max()


spectra = [eigvalsh(matrix) for matrix in (three.hessian(w), softmax.hessian(zero), softmax.hessian(trained))]
zeros = [int((abs(values) <= rounding(values)).sum()) for values in spectra]
print(f"zero eigenvalues: logistic {zeros[0]}, softmax at θ = 0 {zeros[1]}, softmax trained {zeros[2]}")
figure, axes = panels()
for name, values in (("at θ = 0", spectra[1]), ("after 300 steps", spectra[2])):
    axes.semilogy(np.arange(1, 61), values[:-61:-1], ".", markevery=1, label=name)
axes.set(xlabel="rank", ylabel="eigenvalue λ")
axes.legend()
show(figure, "The 60 largest eigenvalues: nine equal ones a step at θ = 0, and no two equal after training.")

# %% [markdown]
# 92 = 10 · 3 + 62. A weight on a dead pixel does nothing: three pixels and ten classes make 30. And adding one vector to
# all ten weight vectors moves all logits alike: its 62 entries on live features make 62 more. Both invariances *shift*
# every θ by a fixed vector, which gives $Hv = 0$ everywhere: the count is the same at 0 and after training.
#
# "Zero" means here: at most $n\,\varepsilon\,\lambda_{\max}$, ε being the precision of the arithmetic, $2 \cdot 10^{-16}$.
#
# At θ = 0 every $p_c$ is $\frac1{10}$, and each eigenvalue but 0 comes nine times: no single eigenvector on a step of the figure means
# anything. Which do, after training? Take two halves of the digits, and the Hessian of each at the same θ. Their
# difference is the noise of the data.

# %%
parts = ((X[k:][:898], labels[k:][:898]) for k in (0, 898))
halves = [objectives.softmax_regression(*part).hessian(trained) for part in parts]
V, U = (eigh(half)[1][:, ::-1] for half in halves)  # largest eigenvalue first
cosines = abs(V.T @ U)
agreement, plane = np.diag(cosines), np.linalg.svd(V[:, 4:6].T @ U[:, 4:6])[1].min()
gaps = -np.diff(eigvalsh(halves[0])[:-8:-1])
print(f"noise {norm(halves[0] - halves[1], 2):.2f}; gaps between ranks 1 to 7:", gaps.round(2))
print("|cos| of ranks 1 to 6:", agreement[:6].round(2), f" plane of 5 and 6: {plane:.2f}")
shared = [(cosines[a:b, a:b] ** 2).sum() / (b - a) for a, b in ((10, 60), (100, 500))]
print(f"space shared: ranks 11 to 60 {shared[0]:.2f}, ranks 101 to 500 {shared[1]:.2f}")
figure, axes = panels()
axes.plot(np.arange(1, 61), agreement[:60], "o", markevery=1)
threshold(axes, 0.67 / 558**0.5, "chance")
axes.set(xlabel="rank of the eigenvector", ylabel="|cos| between two halves", ylim=(0, 1.03))
show(figure, "|cos| is above 0.8 for ranks 1 to 10 but for 5 and 6, then falls, unevenly, towards chance.")

# %% [markdown]
# The noise is 0.32, so claim 1.3 asks for gaps above 0.64. Only rank 1 has one. Ranks 2 to 4 and 7 to 10 survive without a
# promise: the bound is sufficient, not necessary. Ranks 5 and 6 turn within their plane, and the plane survives. From
# rank 11 on neighbours mix: single vectors are not determined, but much of their space is. ("Space shared" is the mean $\cos^2$ of the angles
# between two spans; chance would give 0.09 and 0.72.)
#
# ## 5. Reading the signs
#
# {{claim 2.1}}

# %%
bowl = objectives.quadratic(with_spectrum([4.0, 1.0, 0.2], rng=1))
values, vectors = eigh(bowl.hessian(np.zeros(3)))
v, eta_lambda = vectors[:, 1], np.array([0.5, 1, 1.5, 1.99, 2.01])
factors = [v @ descend(bowl, v, rate=each / values[1], steps=1) for each in eta_lambda]
claim("2.1", factors, expected=1 - eta_lambda, tolerance=0.001)
print(f"after 400 steps {abs(factors[3]) ** 400:.2f} and {abs(factors[4]) ** 400:.0f} are left")

# %% [markdown]
# We start at an eigenvector, the minimum being at 0, and measure what one step leaves of it. At $\eta\lambda = 0.5$ half is
# left; at 1.5 as much, on the other side. At 1.99 the error dies out; at 2.01 it has grown 54-fold after 400 steps. The
# same *positive* λ is stable or not, according to η.
#
# {{claim 2.2}}
#
# At the origin, a critical point of $\tfrac12(ab - 1)^2$, we step along both eigenvectors, and compare the change
# with $\tfrac12 \lambda t^2$.

# %%
product, t = objectives.scalar_factorization(1.0), 1e-2
values, vectors = eigh(product.hessian([0.0, 0.0]))
changes = [product.value(t * v) - product.value([0.0, 0.0]) for v in vectors.T]
claim("2.2", np.array(changes) / (values * t**2 / 2), expected=1, tolerance=0.01)

# %% [markdown]
# The loss falls one way and rises the other: a saddle. Zeros leave it open: $-x^2 + y^4$, $-x^2 - y^4$ and $-x^2$ share
# a Hessian at 0, and are a saddle, a strict maximum and a maximum that is not strict. Where the gradient is
# not zero, negative curvature says only that the slope along it steepens downhill. Section 6 ends with such a point.
#
# {{claim 2.3}}
#
# Three measurements: descent on $x^4$ from 1 with η = 0.1, the change of the saddle $\tfrac12(ab - 1)^2$ along an axis, and
# $Hv$ at its minimum $(2, \tfrac12)$ for the symmetry of Section 6, $v = (2, -\tfrac12)$.

# %%
eta, points = 0.1, [1.0]
for _ in range(10_000):
    points.append(points[-1] - eta * 4 * points[-1] ** 3)
rate, axis = points[-1] * np.sqrt(8 * eta * 10_000), product.value([0.7, 0.0]) - product.value([0.0, 0.0])
zero_mode = norm(product.hessian([2.0, 0.5]) @ [2.0, -0.5])
claim("2.3", [rate, axis, zero_mode], expected=[1, 0, 0], tolerance=0.01)

# %% [markdown]
# $x^4$ is not flat: the point moves, as $1/\sqrt{8\eta t}$ after $t$ steps. The saddle is constant along both axes, since
# $ab = 0$ there, and its eigenvalues are ±1: two lines of constant loss, and no zero. At the minimum the symmetry
# gives a zero.
#
# > **Misconception: "a zero eigenvalue is a flat direction".** It is one number at one point: the term in $t^2$ vanishes.
# > A constant, $x^4$, $-x^4$ and $x^3$ share λ = 0 at 0. For constant loss along a straight line through a *minimum*, λ = 0
# > is necessary, and not sufficient. The first question of the exit ticket is about this.
#
# ## 6. What the Hessian does not see
#
# Four things. Two you have met: Peano's point, where no matrix holds the curvatures, and $x^4$, where all is in higher
# terms. The third is a kink, as a ReLU network has wherever a unit switches; in small, $|x| = \mathrm{relu}(x) + \mathrm{relu}(-x)$, where $\mathrm{relu}(x)$ is the larger of $x$ and 0. The
# fourth is a symmetry. Multiply the first layer of a ReLU network, $W_1$ and $b_1$, by $e^t$ and $W_2$ by $e^{-t}$: the
# output stays the same. Let $v$ be the velocity of θ at $t = 0$.

# %%
question = "A ReLU network with random weights: what is vᵀHv along this symmetry?"
choices = ["0: the loss does not change", "Not 0, in general", "0: ReLU is piecewise linear"]
predict("orbit", question, choices, answer=None)


# %%
def absolute(x):
    return torch.relu(x) + torch.relu(-x)


hops = [torch.tensor(0.3)]
for _ in range(50):
    hops.append(hops[-1] - 0.2 * torch.func.grad(absolute)(hops[-1]))
seen, ends = torch.func.hessian(absolute)(hops[0]).item(), torch.stack(hops[-4:]).numpy()
print("Hessian at 0.3:", seen, "  last four points:", ends.round(3))

# %% [markdown]
# Descent with η = 0.2 on $|x|$ hops for ever, although no step is too long for λ = 0. Off the origin the Hessian *is* 0. All of its curvature sits in the kink, and automatic differentiation
# drops it.
#
# The smallest model with the symmetry is $\tfrac12(ab-1)^2$: $(a, b) \mapsto (e^t a,\, e^{-t} b)$ changes nothing. The orbit is a
# hyperbola. At $t = 0$ its velocity is $v = (a, -b)$ and its acceleration is $s = (a, b)$. $L$ is constant on it. Differentiate once, and again:
#
# $$g \cdot v = 0, \qquad v^\top H v = -\,g \cdot s .$$

# %%
a, b = 2.0, 0.25
v, s = np.array([a, -b]), np.array([a, b])
along, identity = v @ product.hessian([a, b]) @ v, -product.gradient([a, b]) @ s
print(f"vᵀHv = {along:.3f}, −g·s = {identity:.3f}, curvature vᵀHv/vᵀv = {along / (v @ v):.3f}")
figure, axes = panels()
contours(axes, product.value, (0.1, 3.0), (0.0, 1.0), levels=[0.01, 0.125, 0.5, 1.0])
axes.clabel(axes.collections[0], levels=[0.01, 0.5, 1.0], fmt="%g")
t = np.linspace(-0.9, 0.4, 40)
axes.plot(a * np.exp(t), b * np.exp(-t), marker="", label="orbit: L = 0.125")
axes.plot(a + a * t, b - b * t, marker="", label="tangent v")
axes.set(xlabel="a", ylabel="b")
axes.legend(loc="lower left")
show(figure, "Level lines of the loss: the orbit stays on one of them, and bends away from its tangent v.")

# %% [markdown]
# The loss is constant along the curve, and yet the curvature along its tangent is not 0: the Hessian looks along straight lines, and
# the orbit bends away. The identities hold at *every* point, and give $v^\top H v$ from one gradient. At a critical
# point $Hv = 0$: a zero eigenvalue if $v \ne 0$. (At the saddle $v$ is 0, and no eigenvalue is.)
#
# Now the network, on real data: 64 pixels, 4 ReLU units, 10 classes, 310 parameters, 300 digits. `EmpiricalRisk` makes of
# model, loss and data one function of one vector θ. (`gain` $\sqrt2$ is the usual size of random weights for ReLU.)

# %%
data = tuple(map(torch.tensor, digits(300, rng=0)))
network = EmpiricalRisk(mlp([64, 4, 10], activation="relu", gain=2**0.5, rng=0), cross_entropy, data)
side = torch.tensor([1.0] * 260 + [-1.0] * 40 + [0.0] * 10)  # W₁ and b₁ up, W₂ down
last, curved = descend(network, network.theta, rate=0.1, steps=2000), []
for name, theta in (("at the start", network.theta), ("2000 steps on", last)):
    g, H = network.gradient(theta), to_dense(hessian(network, theta))
    v, s, values = side * theta, abs(side) * theta, eigvalsh(H)
    curved.append(float(v @ H @ v))
    negative = (values < -rounding(values)).sum()
    print(f"{name}: loss {network.value(theta):.2f}, |g| {norm(g):.2f}, {negative} negative eigenvalues")
    print(f"   vᵀHv {curved[-1]:.3f}, −g·s {-g @ s:.3f}, |Hv|/|v| {norm(H @ v) / norm(v):.4f}")

# %% [markdown]
# The identity holds at both points. At the start $v$ is far from a null vector; as the gradient fades, $|Hv|/|v|$ falls
# with it. And at the start 31 eigenvalues are negative where the gradient is 3 long. That is no saddle. It is a slope, and the
# loss falls from there to less than a tenth.
#
# ## What to take away
#
# 1. $g$ and $H$ are exact at a point. How far they reach, only higher derivatives say.
# 2. Eigenvalues are sound. A single eigenvector is safe where its gap is more than twice the noise. "Zero" is relative
#    to $\lambda_{\max}$.
# 3. A sign decides something where the gradient is zero, and only there. A zero alone decides nothing.
#
# ## Exit ticket
#
# Replace each `None` by the number of your answer, and run the cell.

# %%
i, j = round(slopes["H off by 10 %"]) - 1, int(turn_2 < 1e-7 and np.median(turn_1) > 10)
n, m = (zeros[2], 0), int(abs(curved[0]) > 1e-3)
ticket(TICKET, answers=[None, None, None], outcomes={"slope": i, "turn": j, "zeros": n, "orbit": m})

# %% [markdown]
# ## In practice: your own model
#
# - Test the derivatives first, in float64. The Taylor slope is 3 or more, or the error is at rounding. Keep the steps shorter
#   than the distance to a kink.
# - Report $\lVert g \rVert$ beside every spectrum, and what you count as zero: in float32, ε is $10^{-7}$.
# - Before you interpret an eigenvector, compute it on two halves of the data. If $|\cos|$ is not near 1, compare subspaces.
# - Write down the symmetries of your model. Shifts (dead inputs, logits) give zeros everywhere; rescalings of layers give
#   them near critical points alone.
#
# ## Further reading
#
# - `nocedal2006` (Nocedal and Wright, *Numerical Optimization*, 2006), chapters 2 and 4: Taylor's theorem, optimality.
# - `daviskahan1970` (Davis and Kahan, *The Rotation of Eigenvectors by a Perturbation III*, 1970).
# - `dauphin2014` (Dauphin and others, *Identifying and attacking the saddle point problem*, 2014): saddles in large networks.
# - `sagun2016` (Sagun, Bottou and LeCun, *Eigenvalues of the Hessian in Deep Learning*, 2016): a bulk near zero.
# - `dinh2017` (Dinh and others, *Sharp Minima Can Generalize For Deep Nets*, 2017): curvature and coordinates; Lesson 12.
