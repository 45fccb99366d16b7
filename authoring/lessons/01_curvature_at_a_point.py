# %% [markdown]
# {{header}}

# %%
import numpy as np
import torch
from numpy.linalg import eigh, eigvals, eigvalsh, norm
from torch.nn.functional import cross_entropy

from hesslab import objectives
from hesslab.checks.lesson_01 import TICKET
from hesslab.course import claim, predict, start, ticket
from hesslab.curvature import hessian
from hesslab.data import digits
from hesslab.operators import to_dense
from hesslab.plots import contours, panels, show, threshold, watched
from hesslab.risk import EmpiricalRisk, mlp

start()

# %% [markdown]
# ## 1. Two derivatives at one point
#
# A loss $L$ is a function of $n$ parameters θ. Its **gradient** $g(\theta)$ holds the $n$ first derivatives. Its
# **Hessian** $H(\theta)$ is the $n \times n$ matrix of second derivatives. Together they say what the loss does when
# θ moves by a small step $d$:
#
# $$L(\theta + d) \;=\; \underbrace{L(\theta) + g^\top d + \tfrac12\, d^\top H d}_{\text{the quadratic model}} \;+\; \text{remainder}.$$
#
# We begin with Rosenbrock's valley, $f(x, y) = 100\,(y - x^2)^2 + (1 - x)^2$. Two parameters are few enough to
# differentiate by hand, and so it is done in `hesslab.objectives`, for every function there. No automatic
# differentiation is involved. These derivatives are the ground truth of the course.

# %%
f = objectives.rosenbrock()
x = np.array([0.5, 0.8])
g, H = f.gradient(x), f.hessian(x)
print("gradient", g.round(1), "  Hessian", H.round(1).tolist())

# %% [markdown]
# How do you know that a Hessian is right? Compare the model with the loss. If $g$ and $H$ are both right, the remainder
# begins with third derivatives, so it shrinks like $r^3$ when the step has length $r$. What happens if $H$
# is slightly wrong? Write your prediction into the next cell, as `answer=0`, `1` or `2`, before you go on. It
# is scored at the end.

# %%
question = "One entry of H is off by 10 %. A step ten times shorter divides the error of the model by"
predict("slope", question, choices=["10", "100", "1000"], answer=None)


# %%
def model_error(r, g, H):
    d = r * np.array([0.6, 0.8])
    return abs(f.value(x + d) - f.value(x) - g @ d - d @ H @ d / 2)


radii = [1e-3, 1e-2, 1e-1]
pairs = {"H off by 10 %": (g, H + np.diag([0, 20])), "g off by 1 %": (1.01 * g, H), "both right": (g, H)}
errors = {name: [model_error(r, *pair) for r in radii] for name, pair in pairs.items()}
slopes = {name: float(np.log10(error[1] / error[0]).round(2)) for name, error in errors.items()}
print("error falls as r to the power", slopes)
figure, axes = panels()
watched(axes, {name: (radii, error) for name, error in errors.items()}, log=True)
axes.set(xscale="log", xlabel="length r of the step", ylabel="error of the quadratic model")
show(figure, "The error falls as r³ with g and H right, as r² with a wrong H, and as r with a wrong g.")

# %% [markdown]
# This is the **Taylor test**. Slope 3, or more: both derivatives are right in that direction. Slope 2: the Hessian is wrong. Slope 1: the
# gradient is wrong. The slope is the verdict, not the size of the error. Run it on every derivative that you
# write, in float64, along a random direction: a wrong entry is missed where the direction has a zero.
# Stay above $r \approx 10^{-4}$: below, the error of the model drowns in rounding, near $10^{-16}$ times the loss. The test
# has one blind spot. Since $d^\top H d$ does not see an antisymmetric error, compare $H$ with its transpose as well.
#
# Now the first sentence of the note.
#
# {{claim 1.0}}
#
# The test shows that the model is right *in the limit*. How far does it reach? Along a unit vector $u$ it has
# the term $\tfrac12 r^2\, u^\top H u$ and leaves out $\tfrac16 r^3\, \nabla^3 L[u,u,u]$. The two are equally large at
#
# $$r^\ast = \frac{3\,|u^\top H u|}{|\nabla^3 L[u,u,u]|}.$$
#
# We stand at the minimum of the valley, look along $-x$, and compute $\nabla^3 L[u,u,u]$ as a difference of Hessians.


# %%
def reach(objective, x, u, h=1e-3):
    third = u @ (objective.hessian(x + h * u) - objective.hessian(x - h * u)) @ u / (2 * h)
    return 3 * abs(u @ objective.hessian(x) @ u) / abs(third)


u, best = np.array([-1.0, 0.0]), f.minimizer
r = reach(f, best, u)
promised, found = r**2 * (u @ f.hessian(best) @ u) / 2, f.value(best + r * u)
print(f"at r* = {r:.2f} the model promises {promised:.0f}; the loss is {found:.0f}")
claim("1.0", [slopes["both right"], found / promised], expected=[3, 0.25], tolerance=0.05)

# %% [markdown]
# The slope is 3: $g$ and $H$ are complete to second order *at* the point. At distance $r^\ast$ the loss is a
# quarter of the promise. So the word "around" has a length, and $H$ does not know it; the third derivative does. Two
# losses can agree in value, gradient and Hessian at a point and differ as much as you like beside it. In
# Section 4 a Newton step on real data pays for this.
#
# ## 2. Curvature along a direction
#
# Cut the loss along a straight line through θ. The second derivative of the cut is the **curvature** in that direction.
# For a direction $v$ of any length it is the **Rayleigh quotient** $\rho(v) = v^\top H v / v^\top v$. Take the
# quadratic form $\tfrac12 (x^2 - 3y^2) + xy$, and turn the direction through half a circle.

# %%
A = objectives.quadratic([[1.0, 1.0], [1.0, -3.0]]).hessian([0.0, 0.0])
angles = np.linspace(0, np.pi, 181)
curvatures = np.array([u @ A @ u for u in np.column_stack([np.cos(angles), np.sin(angles)])])
print(f"curvature from {curvatures.min():.3f} to {curvatures.max():.3f}; eigenvalues", eigvalsh(A).round(3))
figure, axes = panels()
axes.plot(np.degrees(angles), curvatures, marker="")
threshold(axes, eigvalsh(A)[0], "smallest eigenvalue")
threshold(axes, eigvalsh(A)[1], "largest eigenvalue")
axes.set(xlabel="direction (degrees)", ylabel="curvature", xticks=[0, 45, 90, 135, 180])
show(figure, "Curvature by direction: one wave from the smallest to the largest eigenvalue, 90° apart.")

# %% [markdown]
# One wave, with its top and its bottom 90 degrees apart. The top is the largest eigenvalue, in the direction of its
# eigenvector; the bottom is the smallest. In $n$ dimensions it is the same, and every other curvature is a
# weighted average of eigenvalues: if $v = \sum_i c_i v_i$ has length 1, then $\rho(v) = \sum_i c_i^2 \lambda_i$.
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
print(f"24 eigenvalues from {values[0]:.2f} to {values[-1]:.2f}")
claim("1.4", abs(np.array(rises) / h**2 - values).max() / abs(values).max(), expected=0, tolerance=1e-4)
S = np.diag([1.0, 10.0])
print("2 × 2 form: eigenvalues in θ", eigvalsh(A).round(2), "and in φ", eigvalsh(S @ A @ S).round(2))

# %% [markdown]
# The claim holds for all 24. Its fine print is the unit of length. The last two lines of the cell measure the second parameter of the quadratic
# form in a unit ten times as large, θ = Sφ. It is the same model with the same losses, and has other eigenvalues. The signs survive
# (Sylvester's law of inertia); the sizes do not. "Large curvature" is a statement about a loss *and* its coordinates. Lesson 12 builds
# on this.
#
# ## 3. Symmetric, real, orthogonal
#
# The note lists three properties of $H$. Each has a condition, and each condition can fail. First: does the order
# of differentiation matter? The cell differentiates a gradient numerically, one parameter at a time, and
# compares the matrix with its transpose.
#
# {{claim 1.1}}


# %%
def jacobian(gradient, x, h=1e-5):
    return np.column_stack([(gradient(x + h * e) - gradient(x - h * e)) / (2 * h) for e in np.eye(len(x))])


J = jacobian(net.gradient, theta)
claim("1.1", abs(J - J.T).max() / abs(J).max(), expected=0, tolerance=1e-6)

# %% [markdown]
# The deep linear network is a polynomial: its second derivatives are continuous everywhere. Now Peano's function
# $xy\,(x^2 - y^2)/(x^2 + y^2)$, with the value 0 at the origin. Its gradient is continuous. Its second derivatives exist
# everywhere, and jump at the origin.

# %%
origin, beside = (jacobian(objectives.peano().gradient, np.array(p)) for p in ([0.0, 0.0], [0.3, 0.1]))
print("at the origin", (origin.round(3) + 0).tolist(), "  beside it", beside.round(3).tolist())
assert np.allclose(origin, [[0, -1], [1, 0]]) and np.allclose(beside, beside.T)

# %% [markdown]
# At the origin $\partial_y \partial_x f = -1$ and $\partial_x \partial_y f = +1$. Everywhere else the matrix is symmetric.
# So the condition in brackets, "twice continuously differentiable", carries the claim. A ReLU network does
# not meet it on its kinks; Section 6 shows what is lost there. Beware of the converse as well: a symmetric matrix need not
# be the right one. The faulty Hessian of Section 1 was symmetric.
#
# {{claim 1.2}}
#
# We ask `eigvals`, which knows nothing of symmetry and reports complex eigenvalues where there are any.

# %%
H, P = net.hessian(theta), np.diag(np.linspace(1.0, 5.0, 24))
imaginary = [abs(eigvals(matrix).imag).max() for matrix in (H, np.linalg.solve(P, H))]
claim("1.2", imaginary, expected=0, tolerance=1e-9)

# %% [markdown]
# None for $H$, and none for the preconditioned $P^{-1}H$, though that is not symmetric. Momentum is another matter. On a
# quadratic of curvature λ, a step of heavy ball sends the last two errors $(e_t, e_{t-1})$ to
# $(e_{t+1}, e_t)$. The matrix has the rows $(1 + \beta - \eta\lambda,\; -\beta)$ and $(1, 0)$, here with
# $\eta\lambda = 1$ and $\beta = 0.9$.

# %%
pair = eigvals(np.array([[1 + 0.9 - 1.0, -0.9], [1.0, 0.0]]))
print("eigenvalues", pair.round(3), "  modulus", abs(pair).round(4))
assert abs(pair.imag).min() > 0.8 and np.allclose(abs(pair), np.sqrt(0.9))

# %% [markdown]
# A complex pair of modulus $\sqrt{\beta}$: the error spirals inward. Lesson 03 shows how momentum gains its speed from
# such pairs. The eigenvalues of the Hessian are real; those of the matrix that moves the optimizer
# need not be.
#
# Third, the eigenvectors. Take $A = \mathrm{diag}(1, 1, 2)$ and add symmetric noise $E$.

# %%
question = "Noise of size 1e-8 is added to diag(1, 1, 2). How far do its eigenvectors turn?"
choices = ["All by 1e-8", "That of 2 by 1e-8, those of 1 by many degrees", "All by many degrees"]
predict("turn", question, choices, answer=None)


# %%
def noise(seed):
    E = np.random.default_rng(seed).standard_normal((3, 3))
    return (E + E.T) / norm(E + E.T, 2)


for size in (1e-4, 1e-6, 1e-8):
    V = eigh(np.diag([1.0, 1.0, 2.0]) + size * noise(6))[1]
    turn_1, turn_2 = norm(V[1:, 0]), norm(V[:2, 2])  # sines of the angles with the axes
    print(f"noise {size:.0e}: that of 2 by {turn_2:.0e}, that of 1 by {np.degrees(np.arcsin(turn_1)):.0f}°")

# %% [markdown]
# The eigenvector of 2 turns by less than the noise. Those of 1 turn by the same 46 degrees however small the noise is:
# within their plane the noise alone decides. Only the plane is determined.
#
# An eigenvalue that is *nearly* repeated is nearly as bad. Let $\tilde v$ be the eigenvector of $A + E$ that comes from $v$. Its
# eigenvalue $\tilde\lambda$ is within $\lVert E \rVert$ of λ (Weyl). Then $(A - \tilde\lambda)\,\tilde v = -E\tilde v$. The right side is at most $\lVert E \rVert$ long. On the left,
# $A - \tilde\lambda$ stretches whatever is orthogonal to $v$ by at least $\mathrm{gap} - \lVert E \rVert$. So
# $\sin\varphi \le \lVert E \rVert/(\mathrm{gap} - \lVert E \rVert)$. This is the theorem of Davis and Kahan for one vector.
#
# {{claim 1.3}}


# %%
def sine_over_bound(gap, seed):  # ‖E‖ = 1, so gap counts in units of the noise
    return norm(eigh(np.diag([0.0, gap, 2 * gap]) + noise(seed))[1][1:, 0]) * (gap - 1)


worst = max(sine_over_bound(gap, seed) for gap in np.geomspace(2, 300, 12) for seed in range(40))
claim("1.3", worst, holds=lambda worst: worst <= 1)

# %% [markdown]
# The worst of 480 trials comes to two thirds of the bound. So a computed eigenvector has an error bar: noise over gap. An
# eigenvalue is safer: $E$ moves it by at most $\lVert E \rVert$, whatever the gap. In the next section the noise is
# real.
#
# ## 4. Real data: 650 parameters, exactly
#
# The digits of scikit-learn: 1797 images of 8 × 8 pixels, ten classes. We append a constant feature, for the bias, so that
# each example $x_i$ has 65 features.

# %%
images, labels = digits(centred=False, rng=0)
X = np.column_stack([images, np.ones(1797)])
dead, rank = int((images.std(axis=0) == 0).sum()), np.linalg.matrix_rank(X)
print(f"{X.shape[0]} examples, {X.shape[1]} features, {dead} pixels never used, rank {rank}")

# %% [markdown]
# **Logistic regression**: is it a 3? With $p_i = \sigma(x_i^\top w)$ the gradient is $\frac1n X^\top(p - y)$. Only $p$ depends on
# $w$, and $\sigma' = \sigma(1-\sigma)$. So
#
# $$H = \tfrac1n\, X^\top \mathrm{diag}\big(p_i(1-p_i)\big)\, X .$$
#
# The labels have dropped out. The weights are positive, so $u^\top H u = \frac1n\sum_i p_i(1-p_i)(x_i^\top u)^2$ is never negative:
# the loss is convex. And $u$ is a null vector exactly when $x_i^\top u = 0$ for every example.
#
# **Softmax regression**: which digit is it? Ten classes with a weight vector each make 650 parameters. The same two steps give
#
# $$H = \tfrac1n \sum_i \big(\mathrm{diag}(p_i) - p_i p_i^\top\big) \otimes x_i x_i^\top .$$
#
# Are the formulas right? Automatic differentiation shares no code with them. `torch.func.hessian` differentiates the softmax loss
# twice, at a point on the way of gradient descent.


# %%
def descend(objective, theta, rate, steps):
    for _ in range(steps):
        theta = theta - rate * objective.gradient(theta)
    return theta


three, softmax = objectives.logistic_regression(X, labels == 3), objectives.softmax_regression(X, labels)
w, zero = descend(three, np.zeros(65), rate=0.13, steps=100), np.zeros(650)
trained = descend(softmax, zero, rate=0.13, steps=300)


def loss(theta):
    return cross_entropy(torch.tensor(X) @ theta.reshape(10, 65).T, torch.tensor(labels))


automatic = torch.func.hessian(loss)(torch.tensor(trained)).numpy()
print(f"loss {softmax.value(trained):.3f}, λmax {eigvalsh(automatic)[-1]:.3f}")
assert np.allclose(automatic, softmax.hessian(trained), rtol=0, atol=1e-12)

# %% [markdown]
# The assertion passes: two ways, one matrix, 422 500 entries equal to $10^{-12}$. Now count before you compute. Three pixels are 0 in every image, and $X$ has rank 62. How many eigenvalues
# of the *logistic* Hessian are 0? Those with $Xu = 0$: 65 − 62 = 3. The softmax count is yours.

# %%
question = "Softmax: 650 weights, 3 features always 0, 62 independent ones. How many eigenvalues are 0?"
predict("zeros", question, answer=None)


# %%
def rounding(values):
    return len(values) * np.finfo(float).eps * abs(values).max()


spectra = [eigvalsh(matrix) for matrix in (three.hessian(w), softmax.hessian(zero), softmax.hessian(trained))]
zeros = [int((abs(values) <= rounding(values)).sum()) for values in spectra]
print(f"zero eigenvalues: logistic {zeros[0]}, softmax at θ = 0 {zeros[1]}, softmax trained {zeros[2]}")
print(f"trained: {(spectra[2] < 1e-8).sum()} below 1e-8; the smallest that is not zero: {spectra[2][92]:.0e}")
assert zeros == [dead, 10 * dead + rank, 10 * dead + rank] == [3, 92, 92]
figure, axes = panels()
for name, values in (("at θ = 0", spectra[1]), ("after 300 steps", spectra[2])):
    axes.semilogy(np.arange(1, 651), np.maximum(values[::-1], 1e-17), marker="", label=name)
threshold(axes, 558.5, "558 = 9 · 62", vertical=True)
axes.set(xlabel="rank", ylabel="eigenvalue λ")
axes.legend()
show(figure, "Softmax spectra fall by decades, at θ = 0 in steps of nine, and drop to rounding at rank 559.")

# %% [markdown]
# 92 = 10 · 3 + 62. A weight on a dead pixel does nothing: three pixels and ten classes make 30. And the softmax ignores a constant
# added to all ten logits, so adding one vector to all ten weight vectors changes nothing: 62 directions more, one for
# each live feature. (The three dead ones are counted already.) There are no others, since the only null vector of
# $\mathrm{diag}(p) - pp^\top$ is the constant one.
#
# Both invariances *shift* every θ by a fixed vector. A shift that never changes $L$ gives $Hv = 0$ everywhere, and so the count
# is the same at 0 and after training. Section 6 has a symmetry that is no shift.
#
# "Zero" means here: at most $n\,\varepsilon\,\lambda_{\max}$, the rounding error of an eigenvalue solver. An absolute threshold of $10^{-8}$ would
# have counted 99.
#
# At θ = 0 every $p_i$ is uniform and $H$ is a Kronecker product: each eigenvalue of $\frac1{10n} X^\top X$ comes nine times. By claim 1.3
# no single eigenvector on a step of that staircase means anything, only the nine together. Training splits the steps.
#
# Which eigenvectors mean something then? Take two halves of the digits, and the Hessian of each at the same θ. Their difference is
# the noise of the data.

# %%
parts = [objectives.softmax_regression(X[k : k + 898], labels[k : k + 898]) for k in (0, 898)]
halves = [part.hessian(trained) for part in parts]
V, U = (eigh(half)[1][:, ::-1] for half in halves)  # largest eigenvalue first
agreement = abs((V * U).sum(axis=0))
bulk, plane = np.median(agreement[100:500]), np.linalg.svd(V[:, 4:6].T @ U[:, 4:6])[1].min()
print(f"|cos|: ranks 1 to 4 at least {agreement[:4].min():.2f}; ranks 101 to 500, median {bulk:.2f}")
print("ranks 5, 6:", agreement[4:6].round(2), f"plane {plane:.2f}, λ", spectra[2][[-5, -6]].round(2))
print(f"noise: the two Hessians differ by {norm(halves[0] - halves[1], 2):.2f} in norm")
figure, axes = panels()
axes.plot(np.arange(1, 61), agreement[:60], "o", markevery=1)
threshold(axes, bulk, "bulk")
axes.set(xlabel="rank of the eigenvector", ylabel="|cos| between two halves", ylim=(0, 1.03))
show(figure, "Two halves of the digits agree on eigenvectors 1 to 10 but for 5 and 6, hardly from 11 on.")

# %% [markdown]
# The noise is 0.32. The first four, whose gaps are wider, survive the change of data. Ranks 5 and 6 do not: their eigenvalues, 1.21 and
# 1.16, are much closer than the noise. They turn within their plane, and the plane survives. Where a gap is below the
# noise, claim 1.3 promises nothing: ranks 7 to 10 hold without its promise, and from rank 11 on few do. Those
# eigenvectors belong to the sample, not to the task. Trust a single vector where the gap is wide, and a subspace where a
# cluster stands apart.
#
# Last, the reach of the model. Newton's method steps to the minimum of the quadratic model. From θ = 0:

# %%
g, H = softmax.gradient(zero), softmax.hessian(zero)
step = np.linalg.lstsq(H, -g, rcond=1e-12)[0]
promised, r = softmax.value(zero) + g @ step / 2, reach(softmax, zero, step / norm(step))
print(f"promised {promised:.2f}, found {softmax.value(step):.2f}; length {norm(step):.0f}, reach {r:.0f}")
assert promised < -0.6 and norm(step) > r

# %% [markdown]
# A cross-entropy is never negative, and the model promises −0.66. The step is longer than the reach. It does help, but not as
# promised. This is why Newton's method is used with a trust region or with damping.
#
# ## 5. Reading the signs
#
# The note reads the sign of $\lambda_i$ in three lines. Each is half a sentence.
#
# {{claim 2.1}}


# %%
eta_lambda = np.array([0.5, 1.5, 1.99, 2.01])
left = abs(descend(objectives.quadratic(np.eye(4)), np.ones(4), rate=eta_lambda, steps=400))
print("after 400 steps", dict(zip(eta_lambda.tolist(), left.round(3).tolist(), strict=True)))
claim("2.1", np.interp(1, left ** (1 / 400), eta_lambda), expected=2, tolerance=0.001)

# %% [markdown]
# Four copies of one curvature, λ = 1, each with a step size of its own, and four fates. At $\eta\lambda = 0.5$ the error is halved in each
# step. At 1.5 it is multiplied by −0.5: it jumps from side to side, and shrinks as fast. At 1.99 two per cent are left after 400
# steps. At 2.01 it has grown 53-fold. The card finds the border at 2. The same *positive* λ is stable or not, according to η.
# Lesson 02 makes a theory of this, and takes up claim 2.4, the condition number.
#
# {{claim 2.2}}
#
# First at a critical point: $\tfrac12(ab - 1)^2$ at the origin. We step along the eigenvector of the negative eigenvalue, and
# compare the drop with $\tfrac12 \lambda t^2$.

# %%
product, t = objectives.scalar_factorization(1.0), 1e-2
values, vectors = eigh(product.hessian([0.0, 0.0]))
drop = product.value(t * vectors[:, 0]) - product.value([0.0, 0.0])
print("gradient", product.gradient([0.0, 0.0]), "  eigenvalues", values.round(4))
claim("2.2", drop / (values[0] * t**2 / 2), expected=1, tolerance=0.01)

# %% [markdown]
# A saddle, and the loss drops as predicted. A strict maximum with an invertible Hessian needs a downward curvature in *every* direction;
# a saddle needs one of each sign. `dauphin2014` argues that in many dimensions saddles are by far the most frequent critical
# points. Now a point where the claim fails. One sigmoid unit with squared error,
# $L(w) = \tfrac12(1 - s)^2$ with $s = \sigma(w)$, has $L' = -s(1-s)^2$ and $L'' = s(1-s)^2(3s - 1)$. The curvature is negative
# wherever $s < \tfrac13$. We descend from $w = -3$ with step 1.

# %%
w, bent = -3.0, 0
while (s := 1 / (1 + np.exp(-w))) < 1 / 3:  # as long as the curvature is negative
    w, bent = w + s * (1 - s) ** 2, bent + 1
print(f"{bent} steps of negative curvature; then s = {s:.2f} and the loss is {(1 - s) ** 2 / 2:.2f}")
assert bent == 28

# %% [markdown]
# The gradient is never zero, so this loss has no critical point at all, neither saddle nor maximum. For 28 steps the curvature is
# negative. Every step makes $w$ larger, and the loss smaller. Negative curvature on a slope is no obstacle; it
# only says that the slope gets steeper ahead.
#
# {{claim 2.3}}
#
# At the minimum of $x^4$ the curvature is 0. Gradient descent starts at 1, with η = 0.1.

# %%
eta, points = 0.1, [1.0]
for _ in range(10_000):
    points.append(points[-1] - eta * 4 * points[-1] ** 3)
print(f"x⁴: {points[100]:.3f} after 100 steps, {points[10_000]:.3f} after 10 000")
claim("2.3", points[-1] * np.sqrt(8 * eta * 10_000), expected=1, tolerance=0.01)

# %% [markdown]
# The direction is not flat. The point moves, as $1/\sqrt{8\eta t}$: one decimal costs a hundred times the steps. Four functions share
# $\lambda = 0$ at 0: a constant is flat, $x^4$ has a minimum, $-x^4$ a maximum, $x^3$ neither. The Hessian cannot tell
# them apart. The converse fails as well. The saddle of claim 2.2 is constant along both axes, since $ab = 0$ there, and its
# eigenvalues are ±1: two flat lines, and no zero.
#
# > **Misconception: "a zero eigenvalue is a flat direction".** It is one number at one point: the term in $t^2$ vanishes.
# > All higher terms together decide whether the loss is flat. For flatness along a straight line through a *minimum*, λ = 0
# > is necessary, and not sufficient. The first question of the exit ticket is about this.
#
# ## 6. What the Hessian does not see
#
# Four blind spots, four panels. The first is Peano's function at 0: every direction has a curvature, and no matrix
# has them all. The second is a kink. As a ReLU network, $|x| = \mathrm{relu}(x) + \mathrm{relu}(-x)$.

# %%
question = "At x = 0.3 the Hessian of |x| is 0, so η < 2/λ holds. What does descent with η = 0.2 do?"
choices = ["It converges to 0", "It stops", "It jumps between −0.1 and 0.1 for ever"]
predict("kink", question, choices, answer=None)


# %%
def absolute(x):
    return torch.relu(x) + torch.relu(-x)


hops = [torch.tensor(0.3)]
for _ in range(50):
    hops.append(hops[-1] - 0.2 * torch.func.grad(absolute)(hops[-1]))
hops, seen = torch.stack(hops).numpy(), torch.func.hessian(absolute)(hops[0]).item()
print("Hessian at 0.3:", seen, "  last four points:", hops[-4:].round(3))

# %% [markdown]
# Panel one: the curvature of Peano's function in direction φ is $\tfrac12 \sin 4\varphi$, with four tops. A symmetric matrix allows two at most, and
# the matrix of Section 3 gives 0 in every direction. Panel two: off the origin the Hessian of $|x|$ *is* 0. All of its curvature
# sits in the kink, at one point, and automatic differentiation drops it. A ReLU network has kinks wherever a unit
# switches. Its Hessian is exact between them, and silent about them. Panel three is the quartic of claim 2.3.

# %%
gallery, ((peano, kink), (quartic, symmetry)) = panels(2, 2, size=(8.0, 7.0))
circle = np.linspace(0, 2 * np.pi, 181)
true = np.array([2 * objectives.peano().value([np.cos(a), np.sin(a)]) for a in circle])
peano.plot(np.degrees(circle), true, marker="", label="true")
peano.plot(np.degrees(circle), 0 * circle, marker="", label="from a matrix")
peano.set(title="Peano at 0", xlabel="direction (degrees)", ylabel="curvature", ylim=(-0.6, 1.0))
kink.plot([-0.35, 0, 0.35], [0.35, 0, 0.35], marker="", label="|x|")
kink.plot(hops[:8], abs(hops[:8]), "s--", markevery=1, label="descent, η = 0.2")
kink.set(title="A kink: λ = 0, no convergence", xlabel="x", ylabel="loss", ylim=(0, 0.55))
t = np.array([1, 10, 100, 1000, 10_000])
quartic.loglog(t, np.array(points)[t], "o", markevery=1, label="descent on x⁴")
quartic.loglog(t, 1 / np.sqrt(8 * eta * t), "--", marker="", label="1/√(8ηt)")
quartic.set(title="λ = 0, not flat", xlabel="step t", ylabel="x")
assert np.allclose(true, np.sin(4 * circle) / 2) and np.allclose(abs(hops[1:]), 0.1)

# %% [markdown]
# The fourth blind spot is a symmetry. In $\tfrac12(ab-1)^2$ only the product counts, so $(a, b) \mapsto (e^t a,\, e^{-t} b)$ changes nothing. The orbit is
# a hyperbola. At $t = 0$ its velocity is $v = (a, -b)$ and its acceleration is $s = (a, b)$. $L$ is constant on it. Differentiate once, and
# again:
#
# $$g \cdot v = 0, \qquad v^\top H v = -\,g \cdot s .$$
#
# The same holds for a ReLU network: multiply $W_1$ and $b_1$ by $e^t$, and $W_2$ by $e^{-t}$.

# %%
question = "A ReLU network with random weights: what is vᵀHv along this symmetry?"
choices = ["0: the loss does not change", "Not 0, in general", "0: ReLU is piecewise linear"]
predict("orbit", question, choices, answer=None)

# %%
a, b = 2.0, 0.25
v, s = np.array([a, -b]), np.array([a, b])
along, identity = v @ product.hessian([a, b]) @ v, -product.gradient([a, b]) @ s
print(f"vᵀHv = {along:.3f}, −g·s = {identity:.3f}")
contours(symmetry, product.value, (0.1, 3.0), (0.0, 1.0))
t = np.linspace(-0.9, 0.4, 40)
symmetry.plot(a * np.exp(t), b * np.exp(-t), marker="", label="orbit: L constant")
symmetry.plot(a + a * t, b - b * t, marker="", label="tangent v")
symmetry.set(title="A symmetry: L constant, vᵀHv = 0.5", xlabel="a", ylabel="b")
for panel in gallery.axes:
    panel.legend(loc="upper right")
show(gallery, "Peano has four tops, a kink traps descent, x⁴ is not flat, a flat orbit leaves its tangent.")

# %% [markdown]
# The loss is constant along the curve, and yet the curvature along its tangent is 0.5. The Hessian looks along straight lines, and the orbit
# bends away. Both identities hold at *every* point. They give a second derivative for the price of a first: $v^\top H v$ from
# one gradient. Where $g = 0$ they say that $v$ is flat to second order.
#
# Now a network on real data: 64 pixels, 4 ReLU units, 10 classes, 310 parameters, 300 digits. `EmpiricalRisk` makes of model, loss and
# data one function of the flat vector θ.

# %%
data = tuple(map(torch.tensor, digits(300, rng=0)))
network = EmpiricalRisk(mlp([64, 4, 10], activation="relu", gain=2**0.5, rng=0), cross_entropy, data)
side = torch.tensor([1.0] * 260 + [-1.0] * 40 + [0.0] * 10)  # W₁ and b₁ up, W₂ down
last = descend(network, network.theta, rate=0.1, steps=2000)
for name, theta in (("at the start", network.theta), ("2000 steps on", last)):
    g, H = network.gradient(theta), to_dense(hessian(network, theta))
    v, s, values = side * theta, abs(side) * theta, eigvalsh(H)
    negative = (values < -rounding(values)).sum()
    print(f"{name}: loss {network.value(theta):.2f}, |g| {norm(g):.2f}, {negative} negative eigenvalues")
    print(f"   vᵀHv {v @ H @ v:.3f}, −g·s {-g @ s:.3f}, |Hv|/|v| {norm(H @ v) / norm(v):.4f}")
    assert abs(g @ v) < 1e-10 and abs(v @ H @ v + g @ s) < 1e-10

# %% [markdown]
# Before and after training the identity holds to rounding. At the start $v$ is far from a null vector. As the gradient fades, $|Hv|/|v|$
# falls with it. The zeros that a rescaling puts into a spectrum are exact at a critical point, and approximate near one; those
# of a shift are always there. And at the start 31 eigenvalues are negative where the gradient is 3 long. That is no saddle. It is a
# slope that bends downward, and the loss falls from there to less than a tenth.
#
# ## What to take away
#
# 1. $g$ and $H$ are exact at a point. The third derivative says how far they reach.
# 2. Eigenvalues are sound. A single eigenvector needs a gap wider than the noise. "Zero" means: below rounding, relative
#    to $\lambda_{\max}$.
# 3. A sign decides something where the gradient is zero, and only there. A zero decides nothing. Count the symmetries before you
#    call a direction flat.
#
# ## Exit ticket
#
# Replace each `None` by the number of your answer, and run the cell.

# %%
i, j = round(slopes["H off by 10 %"]) - 1, int(turn_2 < 1e-7 < turn_1)
n, k, m = (zeros[2], 0), 2 * int(abs(hops[-1]) > 0.09), int(abs(along) > 1e-9)
ticket(
    TICKET, answers=[None, None, None], outcomes={"slope": i, "turn": j, "zeros": n, "kink": k, "orbit": m}
)

# %% [markdown]
# ## In practice: your own model
#
# - Test the derivatives first. On a small copy of your model, in float64, the Taylor slope is 3, or something is wrong.
# - Report $\lVert g \rVert$ beside every spectrum. Without it a negative eigenvalue cannot be read.
# - Call an eigenvalue zero when it is below $n\,\varepsilon\,\lambda_{\max}$, and say so. In float32 that is coarse: ε is $10^{-7}$.
# - Before you interpret an eigenvector, compute it on two halves of the data. If $|\cos|$ is not near 1, report a subspace, or nothing.
# - Write down the symmetries of your model: dead inputs, shifts of the logits, rescalings of ReLU layers, normalization
#   layers. Subtract their number before you speak of redundancy.
#
# ## Further reading
#
# - `nocedal2006`, chapters 2 and 4: Taylor's theorem, optimality conditions, trust regions.
# - `daviskahan1970`: how far a perturbation turns an eigenspace.
# - `dauphin2014`: saddles and negative curvature in large networks.
# - `draxler2018`: minima of networks are flatter than their symmetries explain.
# - `dinh2017`: what a change of coordinates does to curvature; Lesson 12.
# - `damian2023`: what the third derivative does during training; Lesson 07.
