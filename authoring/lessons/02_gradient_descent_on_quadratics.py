# %% [markdown]
# {{header}}

# %%
from functools import partial

import numpy as np
from numpy.linalg import cond, eigh, eigvalsh, norm
from scipy.sparse.linalg import cg

from hesslab import objectives
from hesslab.checks.lesson_02 import TICKET
from hesslab.course import claim, predict, start, ticket
from hesslab.data import digits
from hesslab.dynamics import gd, newton, run, stability_threshold
from hesslab.matrices import hilbert, with_spectrum
from hesslab.plots import contours, panels, path, show, slider, watched

start()

# %% [markdown]
# ## 1. One direction at a time
#
# Gradient descent repeats one line, $\theta_{t+1} = \theta_t - \eta\,\nabla L(\theta_t)$, with a fixed step size η. On a quadratic
# $L(\theta) = \tfrac12 (\theta - \theta^\ast)^\top H (\theta - \theta^\ast)$ the gradient is $H(\theta - \theta^\ast)$. Subtract
# $\theta^\ast$ on both sides: the error $e_t = \theta_t - \theta^\ast$ obeys $e_{t+1} = (I - \eta H)\, e_t$.
#
# Now use Lesson 01. $H$ has an orthonormal basis of eigenvectors $v_i$. Write $e_t = \sum_i c_i(t)\, v_i$. The matrix
# $I - \eta H$ has the same eigenvectors, so the components do not mix:
#
# $$c_i(t) = (1 - \eta\lambda_i)^t\, c_i(0), \qquad L(\theta_t) = \tfrac12 \sum_i \lambda_i\, c_i(0)^2\, (1 - \eta\lambda_i)^{2t}.$$
#
# This is the whole theory of the lesson: each direction has one factor, and takes its powers. A direction with its factor is called a **mode**.
# First, check the formula against a run. The Hessian has the eigenvalues 10, 4, 1 and 0.1, in a random basis. The function
# `run(gradient, start, rule, steps)` repeats an update rule, here `gd(η)`. Its `points` are all the iterates, one a row, the start first.

# %%
f = objectives.quadratic(with_spectrum([10.0, 4.0, 1.0, 0.1], rng=1), b=[1.0, 2.0, 3.0, 4.0])
values, V = eigh(f.hessian(f.minimizer))  # ascending
factors, t = 1 - 0.19 * values, np.arange(61)[:, None]
errors = (run(f.gradient, np.zeros(4), gd(0.19), 60).points - f.minimizer) @ V  # column i: along v_i
assert np.allclose(errors, factors**t * errors[0], rtol=0, atol=1e-10)
print("factors", factors.round(3), "for the eigenvalues", values.round(3))

# %% [markdown]
# The assertion compares 61 points in four modes with the formula. They agree.

# %%
question = "At η = 0.19, which mode is the last to lose its error?"
predict("slowest", question, choices=["λ = 0.1", "λ = 1", "λ = 4", "λ = 10"], answer=None)

# %%
size, (figure, axes) = abs(errors / errors[0]), panels()
curves = {f"λ = {values[i]:g}": (t[size[:, i] > 1e-3], size[size[:, i] > 1e-3, i]) for i in range(4)}
watched(axes, curves, log=True)
axes.set(ylabel="error left in the mode")
show(figure, "Four straight lines: λ = 0.1 is slowest, then λ = 10, then λ = 1; λ = 4 is gone in five steps.")

# %% [markdown]
# On a logarithmic scale each mode is a straight line. The slope is $\log|1 - \eta\lambda_i|$. The flattest mode, λ = 0.1, keeps a factor of
# 0.981 and is the slowest. The second slowest is the *steepest* mode: its factor is −0.9, so its error changes sign at each step
# and shrinks by 10 %. The fastest is in between, λ = 4, with the factor 0.24. So a short step is bad for the flat modes, and a long one
# is bad for the steep ones. Everything below is about this conflict.
#
# There are four regimes. For $0 < \eta\lambda < 1$ a mode creeps down on one side. At $\eta\lambda = 1$ it is gone in one step. For
# $1 < \eta\lambda < 2$ it jumps from side to side, and shrinks. Beyond 2 it jumps, and grows. In the first regime a mode has a clock of its own:
# for small $\eta\lambda$ the factor is nearly $e^{-\eta\lambda}$, so its error is halved in about $0.69/(\eta\lambda)$ steps. Half the curvature, twice the time.
#
# ## 2. The threshold, exactly
#
# All modes share one η. So watch two of them, λ = 1 and λ = 10, in the plane. Move the slider in JupyterLab. Where does the path start to zigzag,
# and where does it leave? (On paper, four positions of it stand below.)


# %% tags=["nbval-ignore-output"]
def draw(axes, eta):
    contours(axes, plane.value, (-2.2, 2.2), (-1.5, 1.5), levels=8)
    # `limit` ends a run that leaves: at the first entry beyond limit · (1 + the largest of the start)
    path(axes, run(plane.gradient, [2.0, 0.5], gd(eta), 40, limit=10).points)
    axes.set(title=f"ηλ = {eta:.3g} and {10 * eta:.3g}", aspect="equal")


plane = objectives.quadratic([[3.25, -3.897], [-3.897, 7.75]])  # eigenvalues 1 and 10, turned by 30 degrees
slider(draw, "The path bends, zigzags from η = 0.1 on, and leaves beyond 0.2.", eta=(0.01, 0.22, 0.005, 0.05))

# %%
figure, grid = panels(2, 2)
for axes, eta in zip(grid.flat, (0.05, 0.1, 0.19, 0.205), strict=True):
    draw(axes, eta)
show(figure, "Smooth at ηλ = 0.5 and 1.0, a zigzag across the valley at 1.9, and away at 2.05.")

# %% [markdown]
# A mode shrinks exactly when $|1 - \eta\lambda| < 1$, that is, when $0 < \eta\lambda < 2$. All modes must shrink, and the largest eigenvalue is the
# first to fail. The same border can be read from either side: given the curvature, η must stay below $2/\lambda_{\max}$; given η, the curvature must
# stay below $2/\eta$. Lesson 07 needs the second reading.
#
# {{claim 3.1a}}
#
# We do not trust the algebra, we search. The function `stable` runs gradient descent for 200 steps, and calls η stable when the
# gradient is shorter at the end than in the middle. It knows no eigenvalue. Why late, and not at once? Just above the border the steepest mode grows slowly,
# while all others shrink: at first the gradient gets shorter. (Nor too late: a run that has converged is left with
# rounding, which shrinks no more.) The function `bisect` halves an interval 20 times.


# %%
def stable(objective, eta):
    points = run(objective.gradient, np.ones(objective.dimension), gd(eta), 200).points
    middle, end = (norm(objective.gradient(points[k])) for k in (len(points) // 2, -1))
    return end < middle


def bisect(holds, low, high):
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


# %%
spectra = ([10, 4, 1, 0.1], np.geomspace(0.01, 10, 30), [10, 4, 1, 0])
bowls = [objectives.quadratic(with_spectrum(spectrum, rng=2)) for spectrum in spectra]
print("curvature that gd(0.19) can bear:", round(stability_threshold(gd(0.19)), 2))
claim("3.1a", [10 * bisect(partial(stable, bowl), 0, 1) for bowl in bowls], expected=2, tolerance=1e-3)

# %% [markdown]
# Three spectra, one border: $\eta\lambda_{\max} = 2$. (The line above the card is `stability_threshold`, the border read from the other side, $2/\eta$.) Whatever lies below the largest eigenvalue plays no part. The third spectrum has a
# zero in it, so look closer. Its mode has the factor $1 - \eta \cdot 0 = 1$: it never moves.

# %%
null = eigh(bowls[2].hessian(np.ones(4)))[1][:, 0]  # the unit vector along which nothing changes
end = run(bowls[2].gradient, np.ones(4), gd(0.15), 1000).points[-1]
print(f"along the flat direction: start {abs(null.sum()):.3f}, end {abs(null @ end):.3f}")
assert np.allclose(end, null.sum() * null, rtol=0, atol=1e-10)

# %% [markdown]
# The run has converged, and the assertion says where: not to the origin. The minima form a line, and descent has found the point of it that is nearest to the start: the
# projection. A zero eigenvalue is harmless for stability. It makes the minimum depend on where you began.
#
# A negative eigenvalue is another matter.

# %%
question = "H has the eigenvalues 1 and −0.1. For which η does descent from (1, 1) not diverge?"
predict("saddle", question, choices=["0 < η < 2", "Only very small η", "None"], answer=None)

# %%
saddle, rates = objectives.quadratic(np.diag([1.0, -0.1])), np.array([1.9, 0.1, 0.01])
runs = [run(saddle.gradient, [1.0, 1.0], gd(eta), 8000, limit=500) for eta in rates]  # 500 · (1 + 1)
escapes = np.array([each.diverged_at or 0 for each in runs])
print("steps to |θ| > 1000:", escapes.tolist(), "  η times steps:", (rates * escapes).round(1).tolist())

hill = objectives.quadratic(with_spectrum([1.0, 0.5, 0.2, -0.1], rng=0))
across = eigh(hill.hessian(np.zeros(4)))[1][:, 3]  # the eigenvector of λ = 1: no error in the bad mode
print("left the saddle all the same:", run(hill.gradient, across, gd(1.0), 2000).diverged_at is not None)

# %% [markdown]
# The factor is $1 + 0.1\,\eta > 1$ for every positive η. A smaller step only diverges more slowly: η times the number of steps
# stays near $\ln(1000)/0.1 = 69$. Being below $2/\lambda_{\max}$ does not help.
#
# And if the start has *no* component along the negative eigenvector? In exact arithmetic descent then converges to the saddle. The last line
# tries it in four dimensions. Rounding puts some $10^{-17}$ into the bad mode, and $1.1^{2000}$ does the rest.
#
# ## 3. Stability is not speed
#
# The note calls $\kappa = \lambda_{\max}/\lambda_{\min}$ the number that determines *stability*. Test this with the simplest change there is: multiply
# the loss by 10.

# %%
question = "κ = 100, and η = 0.5 converges. The loss is multiplied by 10, with the same η. What happens?"
predict("tenfold", question, choices=["The same: κ is the same", "It is faster", "It diverges"], answer=None)

# %% [markdown]
# {{claim 2.4}}

# %%
A, wide = (with_spectrum(np.geomspace(1 / kappa, 1, 20), rng=3) for kappa in (100, 10_000))
trio = {name: objectives.quadratic(H) for name, H in {"L": A, "10 L": 10 * A, "wide": wide}.items()}
borders = [bisect(partial(stable, bowl), 0, 4) for bowl in trio.values()]
fates = {name: run(bowl.gradient, np.ones(20), gd(0.5), 500) for name, bowl in trio.items()}
ends = {name: (fate.stop_reason, f"{norm(fate.points[-1]):.0e}") for name, fate in fates.items()}
print("with η = 0.5, and the distance:", ends)
claim("2.4", borders, expected=[2, 0.2, 2], tolerance=1e-3)

# %% [markdown]
# The first two have the same κ, and one of them diverges. The first and the third have condition numbers a hundred times apart, and the same
# threshold. So κ says nothing about stability. It belongs to *speed*: after 500 steps the first is close and the third is
# still far away.
#
# | | depends on | changes when the loss is multiplied by 10 |
# | --- | --- | --- |
# | stability at a given η | $\eta\lambda_{\max}$ | yes |
# | best possible speed | $\kappa$ | no |
#
# And κ exists for positive definite $H$ only. With a zero eigenvalue it is infinite, and Section 2 converged all the same. With a negative one the
# quotient is negative: $-1$ for eigenvalues 1 and −1, $-1000$ for 1 and −0.001. It says nothing in either case. A trained
# network has zero and negative eigenvalues as a rule (Lesson 06).
#
# > **Misconception: "a badly conditioned problem makes gradient descent unstable".** It makes it slow. What makes it
# > unstable is a step that is long for the largest curvature, and a perfectly conditioned problem, κ = 1, diverges as readily. The first
# > question of the exit ticket is about this.
#
# ## 4. The best fixed step
#
# How fast can it be? In the worst case the error shrinks by the largest factor, $r(\eta) = \max_i |1 - \eta\lambda_i|$. As a function of η each
# $|1 - \eta\lambda_i|$ is a V, and only two of them matter: that of $\lambda_{\min}$ falls, that of $\lambda_{\max}$ rises. The maximum is
# smallest where they cross, at $1 - \eta\lambda_{\min} = \eta\lambda_{\max} - 1$:
#
# $$\eta^\ast = \frac{2}{\lambda_{\max} + \lambda_{\min}}, \qquad r^\ast = r(\eta^\ast) = \frac{\kappa - 1}{\kappa + 1}.$$
#
# The dots are runs, not the formula: the factor by which the last of 400 steps shrinks the error.


# %%
def last_factor(spectrum, eta):
    points = run(lambda x: spectrum * x, np.ones(len(spectrum)), gd(eta), 400).points
    return norm(points[-1]) / norm(points[-2])


figure, axes = panels()
line, dots = np.linspace(0.05, 2.05, 401), np.array([0.3, 0.6, 1.0, 1.4, 1.7, 1.95])
for low, marker in ((0.1, "o"), (0.01, "s")):
    axes.plot(line, np.maximum(1 - low * line, abs(1 - line)), marker="", label=f"κ = {1 / low:.0f}")
    axes.plot(dots, [last_factor(np.array([low, 0.3, 1.0]), eta) for eta in dots], marker, label="runs")
axes.set(xlabel="ηλmax", ylabel="error left a step", ylim=(0.75, 1.06))
axes.legend(loc="lower left")
show(figure, "The factor falls slowly to its minimum just below ηλmax = 2, then rises steeply through 1.")

# %% [markdown]
# The curve is a slope with a cliff at its end. The best step is $\kappa/(\kappa + 1)$ of the largest stable one: for κ = 100, one per cent below the
# cliff. A step twice as short, $1/\lambda_{\max}$, is far from the cliff and has the factor $1 - 1/\kappa$. It needs at most twice as many steps,
# since $(1 - 1/\kappa)^2 < (\kappa - 1)/(\kappa + 1)$. You rarely know $\lambda_{\max}$ to one per cent. So the safe half is the better bargain.
#
# How many steps is that? To bring the worst error down to a fraction ε takes $\ln(1/\varepsilon)/\ln(1/r^\ast)$ steps. For large κ this is about
# $\tfrac{\kappa}{2} \ln(1/\varepsilon)$: in the worst case the steps are proportional to κ. A line search does not escape
# this. From the error $v_{\min}/\lambda_{\min} + v_{\max}/\lambda_{\max}$, with unit eigenvectors of the two ends, the best η of *each* step is $\eta^\ast$ again,
# and the loss shrinks by $r^{\ast 2}$ a step. From no start does it shrink more slowly (`nocedal2006`, chapter 3).
#
# {{claim 3.1b}}
#
# The card takes the eigenvalues 10, 1 and 0.1, so κ = 100, and measures the two factors from runs.

# %%
decades = np.array([0.1, 1.0, 10.0])
found = [last_factor(decades, eta) for eta in (2 / 10.1, 0.1)]
claim("3.1b", found, expected=[99 / 101, 0.99], tolerance=1e-9)

# %% [markdown]
# That was the worst case. Which starts are the worst? Put the error along one eigenvector, and its own factor is all that counts. Four
# starts, one step size $\eta^\ast$; we count the steps until the error is a millionth.


# %%
def steps_to_a_millionth(spectrum, errors):
    points = run(lambda x: spectrum * x, errors, gd(2 / 10.1), 900).points
    return int((norm(points, axis=1) > 1e-6 * norm(errors)).sum())


starts = {"both ends": [1.0, 0, 1], "λ = 1 only": [0, 1.0, 0]}
needed = {name: steps_to_a_millionth(decades, np.array(errors)) for name, errors in starts.items()}
needed["50 modes alike"] = steps_to_a_millionth(np.geomspace(0.1, 10, 50), np.ones(50))
print(needed, " λ = 5.05 only:", steps_to_a_millionth(np.array([5.05]), np.ones(1)))

# %% [markdown]
# The worst starts have all of their error at the two ends of the spectrum: 691 steps, as $\ln 10^{-6} / \ln r^\ast = 690.8$ predicts. Fifty modes with equal shares need 612. In
# the end the slowest mode always decides, unless it is absent: λ = 1 alone needs 63, and an error exactly in the middle is gone in
# one step. A random start is nearly a worst one: it has a share in each mode.
#
# ## 5. Where the error lies
#
# So is κ the speed? It is the speed of the *distance*, in the *long run*. Usually you watch the loss, and stop early. The loss weighs a
# mode by its eigenvalue. We take 50 eigenvalues from $10^{-4}$ to 1, evenly spaced in the logarithm, with equal errors.

# %%
question = "κ = 10 000. Which step size is first to bring the loss to 1 % of its start?"
predict("percent", question, choices=["η* = 2/(λmax + λmin), the best", "1/λmax, half of it"], answer=None)


# %%
def descend(spectrum, eta, steps):
    watch = {"distance": norm, "loss": lambda x: spectrum @ x**2 / 2}
    seen = run(lambda x: spectrum * x, np.ones(len(spectrum)), gd(eta), steps, watch=watch).watched
    return {name: values / values[0] for name, values in seen.items()}


spread = np.geomspace(1e-4, 1, 50)
best, half = (descend(spread, eta, 80_000) for eta in (2 / 1.0001, 1.0))
percent = [int((each["loss"] > 0.01).sum()) for each in (best, half)]
behind = {name: int((best[name] > half[name]).sum()) for name in best}
print(f"1 % of the loss: η* {percent[0]} steps, 1/λmax {percent[1]};  steps with η* behind: {behind}")
print("a millionth of the distance: η*", (best["distance"] > 1e-6).sum(), "steps")

# %%
(figure, pair), at = panels(1, 2), np.unique(np.geomspace(1, 80_000, 80).astype(int))
for axes, name in zip(pair, best, strict=True):
    axes.set(xscale="log", ylim=(1e-7, 2), xlim=(1, 6e4), title=name)
    watched(axes, {"η*": (at, best[name][at]), "1/λmax": (at, half[name][at])}, log=True)
    axes.legend(loc="lower left")
show(figure, "In distance η* leads all the way; in loss 1/λmax leads for tens of thousands of steps.")

# %% [markdown]
# The "best" step needs 7104 steps for what its half does in 45. At $\eta^\ast$ the steepest mode has the factor $-r^\ast$: it is as slow as the
# flattest one, and it carries most of the loss. At $1/\lambda_{\max}$ it is gone in one step. In *distance* $\eta^\ast$ is never behind; in *loss* it
# is, for the first 45 000 steps. Both panels are the same runs. "Faster" has no meaning until you say what is measured, and when.
#
# Now keep κ = 10 000 and the step $1/\lambda_{\max}$, and change only how 1000 eigenvalues are spread in between.

# %%
densities = {"evenly": np.linspace(1e-4, 1, 1000), "in the log": np.geomspace(1e-4, 1, 1000)}
densities["one small"] = np.append(np.linspace(0.5, 1, 999), 1e-4)
falls = {name: descend(spectrum, 1.0, 1000)["loss"] for name, spectrum in densities.items()}
powers = {name: round(float(np.log10(loss[300] / loss[30])), 2) for name, loss in falls.items()}
print("between 30 and 300 steps the loss goes as t to the power", powers)

# %%
figure, axes = panels()
axes.set(xscale="log", xlim=(1, 6000), ylabel="loss, start = 1")
watched(axes, {name: (np.arange(1, 1001), loss[1:]) for name, loss in falls.items()}, log=True)
show(figure, "Same κ, three spectra: loss falls as 1/t, as 1/t², or in ten steps to a low plateau.")

# %% [markdown]
# One κ, three curves. A straight line in these axes is a *power* of the number of steps. Eigenvalues spread evenly near zero give $1/t^2$; spread evenly
# in the logarithm they give $1/t$. The reason is one integral. With a density $p(\lambda)$ of eigenvalues
# and equal errors the loss is $\tfrac12 \int \lambda\,(1 - \eta\lambda)^{2t}\, p(\lambda)\, d\lambda$. The modes that are left after $t$ steps are those with
# $\lambda \lesssim 1/\eta t$. With $p$ constant they carry $\int_0^{1/\eta t} \lambda\, d\lambda \sim 1/t^2$; with $p \sim 1/\lambda$ they carry $1/t$. The **spectral density** near zero, not κ, shapes the curve that you see. κ appears only
# after about κ steps, when the smallest eigenvalue is all that remains. In the third spectrum the one small mode carries about a ten-millionth of the loss:
# a large κ that costs nothing in the loss.
#
# The Hilbert matrix is the classical bad case. Its condition number explodes with its size, and still:

# %%
print("κ of the Hilbert matrix:", {n: f"{cond(hilbert(n)):.1e}" for n in (3, 5, 8, 10)})
bad = objectives.quadratic(hilbert(8))
end = run(bad.gradient, np.ones(8), gd(1 / norm(hilbert(8), 2)), 1000).points[-1]
print(f"left: loss {bad.value(end) / bad.value(np.ones(8)):.1e}, distance {norm(end) / norm(np.ones(8)):.3f}")

# %% [markdown]
# By the rule for $1/\lambda_{\max}$, the slowest mode falls to a tenth in $\kappa \ln 10 \approx 3.5 \cdot 10^{10}$ steps. Yet after 1000 steps the loss is down to three ten-millionths,
# and the distance to 2 %. That start has little error in the slowest modes. Another start would have more.
#
# One more thing is not fixed by κ: the method. Vary the step. If η takes the values $1/\lambda$ for each *distinct* eigenvalue once, then each
# mode meets its own zero factor.

# %%
triple = objectives.quadratic(with_spectrum(np.repeat([1.0, 4.0, 10.0], 20), rng=0), b=np.ones(60))
varied = run(triple.gradient, np.zeros(60), gd(lambda t: 1 / [10, 4, 1][t]), 3).points
print("distance", norm(varied - triple.minimizer, axis=1).round(4).tolist())

# %% [markdown]
# Sixty parameters, three steps, done. After $t$ steps the error is $\prod_s (1 - \eta_s H)\, e_0$: a polynomial in $H$. A fixed step gives only the
# polynomial $(1 - \eta\lambda)^t$. Conjugate gradients (CG) find the polynomial that is best for the loss, without knowing any eigenvalue. In exact arithmetic they need at most as many steps as
# there are *distinct* eigenvalues. It is often said that *clusters* are enough. We ask SciPy's `cg`, with κ = 10 000,
# and count the steps to a millionth of the distance.


# %%
def cg_steps(spectrum):
    left = []
    cg(np.diag(spectrum), spectrum, rtol=1e-12, maxiter=500, callback=lambda x: left.append(norm(x - 1)))
    return 1 + int((np.array(left) > 1e-6 * np.sqrt(len(spectrum))).sum())


three = np.repeat([1.0, 10.0, 1e4], 20)
exact, wide, many = map(cg_steps, (three, three * (1 + 0.01 * np.linspace(-1, 1, 60)), 1e4 * spread))
print(f"3 values: {exact} steps;  3 clusters: over 10, {wide > 10};  50 values: over 100, {100 < many < 200}")

# %% [markdown]
# Three distinct values: three steps. Three clusters, each one per cent wide: more than three times as many for the same accuracy. Clusters help, but the
# theorem is about distinct values. And fifty values need *more* than fifty steps: the theorem is about exact arithmetic, and rounding breaks
# it. Even so: fewer than 200, where gradient descent at $\eta^\ast$ needed 61 039. (That spectrum was the same but for a factor of 10 000, which
# changes no number of steps.) Lesson 03 explains how CG and momentum do it.
#
# ## 6. Real data: ridge regression
#
# Is it a 3? The digits of scikit-learn again, 1797 images with 64 pixels and a constant feature. The targets are ±1. The loss is
# $\frac1{2n}\lVert Xw - y\rVert^2 + \frac{\rho}{2} \lVert w \rVert^2$ with ρ = 0.01. It is a quadratic, so nothing in this lesson is an approximation here. The Hessian is
# $\frac1n X^\top X + \rho I$: it does not depend on the labels, nor on $w$.

# %%
images, labels = digits(centred=False, rng=0)
X, y, rho = np.column_stack([images, np.ones(1797)]), labels == 3, 0.01
ridge = objectives.least_squares(X, 2 * y - 1, ridge=rho)
low, second, top = eigvalsh(ridge.hessian(np.zeros(65)))[[0, -2, -1]]
print(f"λmax {top:.2f}, second {second:.2f}, λmin {low:.2f}, κ {top / low:.0f}")

# %%
predict("ridge", "What is the largest stable step size for this ridge regression?", answer=None)

# %%
found, promised = bisect(partial(stable, ridge), 0, 1), 2 / top
print(f"found with runs {found:.4f}, promised by the Hessian {promised:.4f}")
assert abs(found / promised - 1) < 1e-3

# %% [markdown]
# The search ran gradient descent on 1797 images and knew no Hessian. It agrees with $2/\lambda_{\max}$ to a tenth of a per cent. With a quadratic loss you
# can know the largest stable step before the first step.
#
# Look at the spectrum. One eigenvalue stands at 74.93, the next at 4.95. The large one comes from the mean: no pixel is negative, so all
# examples point in nearly the same direction. Subtract the mean of each pixel. Together with the constant feature this is only another way to write the same
# linear functions. (The ridge then weighs them a little differently, so each loss is compared with its own minimum.) What happens to the largest
# stable step?

# %%
moved = np.column_stack([images - images.mean(axis=0), np.ones(1797)])
centred = objectives.least_squares(moved, 2 * y - 1, ridge=rho)
peak = eigvalsh(centred.hessian(np.zeros(65)))[-1]
print(f"centred: λmax {peak:.2f}, largest stable step {2 / peak:.3f}, κ {peak / rho:.0f}")
cases = {"raw, η*": (ridge, 2 / (top + low)), "raw, 1/λmax": (ridge, 1 / top), "centred": (centred, 1 / peak)}
for name, (loss, eta) in cases.items():
    seen = run(loss.gradient, np.zeros(65), gd(eta), 2000, watch={"loss": loss.value}).watched["loss"]
    cases[name] = (seen - loss.value(loss.minimizer)) / (seen[0] - loss.value(loss.minimizer))
print("steps to 1 % (2001: not there):", {name: int((left > 0.01).sum()) for name, left in cases.items()})
figure, axes = panels()
axes.set(xlim=(1, 2e4), xscale="log", ylabel="loss above its minimum")
watched(axes, {name: (np.arange(1, 2001), left[1:]) for name, left in cases.items()}, log=True)
show(figure, "Digits: centred pixels reach 1 % first, raw pixels at 1/λmax later, and at η* last of all.")

# %% [markdown]
# Three facts of this lesson in one figure. At $\eta^\ast$ the mode of the mean hardly shrinks, and 1 % is not reached in 2000 steps. At half that step it takes
# 358. After centring $\lambda_{\max}$ is 4.95: the eigenvalue of the mean is gone, and the next one is the largest now. The largest stable step is 15 times longer, κ falls
# from 7493 to 495, and 17 steps are enough. Even κ = 495 would promise a millionth of the distance only after $\kappa \ln 10^6 \approx 6800$ steps at $1/\lambda_{\max}$, in the worst case. You
# rarely have to pay that: the modes that are left carry almost no loss.
#
# ## 7. Real data: a loss that is not quadratic
#
# Logistic regression on the same data, with the same ρ. Its Hessian $H(w) = \frac1n X^\top \mathrm{diag}\big(p_i(1 - p_i)\big) X + \rho I$ changes
# with $w$. Which $\lambda_{\max}$ shall we put into $2/\lambda_{\max}$? Two of them have a meaning.
#
# **The largest anywhere.** Since $p(1-p) \le \frac14$, no curvature exceeds $\ell = \frac1{4n}\lambda_{\max}(X^\top X) + \rho$, and none is below ρ. Here is what this
# guarantees. By the fundamental theorem of calculus $\nabla L(w) = \bar H\,(w - w^\ast)$, where $\bar H$ is the average of $H$ on the segment from $w^\ast$ to $w$. So one step gives
#
# $$w_{t+1} - w^\ast = (I - \eta \bar H)\,(w_t - w^\ast), \qquad \rho \le \text{eigenvalues of } \bar H \le \ell .$$
#
# A step leaves at most $\max(|1 - \eta\rho|, |1 - \eta\ell|)$ of the distance, *wherever it starts*. This is less than 1 whenever $0 < \eta < 2/\ell$. All of Section 4 holds
# as a bound, with $\kappa = \ell/\rho$.
#
# **That at the minimum.** Near $w^\ast$ the average is close to $H(w^\ast)$. So $2/\lambda_{\max}(H(w^\ast))$ decides whether *nearby* starts return. We find $w^\ast$ by Newton's method.

# %%
logistic = objectives.logistic_regression(X, y, ridge=rho)
w = run(logistic.gradient, np.zeros(65), newton(logistic.hessian), 12).points[-1]
curvatures, V = eigh(logistic.hessian(w))
bound, local = norm(X, 2) ** 2 / (4 * 1797) + rho, 2 / curvatures[-1]
assert norm(logistic.gradient(w)) < 1e-12 and np.isclose(bound, eigvalsh(logistic.hessian(0 * w))[-1])
print(f"ℓ = {bound:.2f}, 2/ℓ = {2 / bound:.4f};  at w*: λmax = {curvatures[-1]:.3f}, 2/λmax = {local:.4f}")

# %% [markdown]
# The bound is attained at $w = 0$, where every $p_i$ is one half. Training makes the model sure of most examples, $p(1-p)$ becomes small, and the curvature
# falls by a factor of eight. Both numbers are predictions. Test both.


# %%
def returns(eta):
    return norm(run(logistic.gradient, w + 1e-3 * V[:, -1], gd(eta), 100).points[-1] - w) < 1e-3


print(f"starts beside the minimum return up to η = {bisect(returns, 0, 2):.4f}")
distance = norm(run(logistic.gradient, 0 * w, gd(2 / (bound + rho)), 500).points - w, axis=1)
worst, promise = (distance[1:] / distance[:-1]).max(), (bound - rho) / (bound + rho)
print(f"from 0, a step leaves at most {worst:.4f} of the distance; guaranteed {promise:.4f}")
assert worst <= promise

# %%
question = "η is seven times the guaranteed one, and below the local border. From w = 0, what happens?"
choices = ["It diverges", "It converges to the minimum", "It jumps to and fro for ever"]
predict("beyond", question, choices, answer=None)

# %%
ways = {"0.9 of local": 0.9 * local, "1.05 of local": 1.05 * local, "guaranteed": 2 / (bound + rho)}
walks = {name: run(logistic.gradient, np.zeros(65), gd(eta), 1500).points for name, eta in ways.items()}
away = {name: norm(points - w, axis=1) for name, points in walks.items()}
print("distance after 1500 steps:", {name: f"{each[-1]:.3f}" for name, each in away.items()})
last = walks["1.05 of local"][-3:]
assert norm(last[2] - last[0]) < 1e-6 < 0.01 < norm(last[2] - last[1])
losses = [round(logistic.value(x), 2) for x in walks["0.9 of local"][:3]]
print(f"at the start ηλmax/2 = {0.9 * local * bound / 2:.1f}, and the first losses are {losses}")
figure, axes = panels()
axes.set(xlim=(0, 2150), ylabel="distance to the minimum")
watched(axes, away, log=True)
show(figure, "Just below the local border descent converges fastest; just above it, it hovers around it.")

# %% [markdown]
# Seven times beyond the guarantee the loss first *rises*, from 0.69 to 2.28. Then descent converges, and fastest of the three. So the guarantee is not
# necessary. Take the note's sentence at the start: there $\eta\lambda_{\max}/2$ is 7.4, and the run converges.
#
# Five per cent beyond the local border the run does not converge. But it does not diverge either: it ends up jumping to and fro between two points
# beside the minimum. The assertion says so: two steps apart, the points are the same. On a quadratic,
# unstable means infinity. Elsewhere the curvature changes on the way out, and may stop the flight. Lesson 07 is about networks that live there.
#
# Is everything below the local border safe, then? On the digits it was, from this start. In general it is not. Take two walls,
# $f(x) = \log(1 + e^{10(x-1)}) + \log(1 + e^{-10(x+1)})$: two logistic losses with a fixed bias, smooth and convex, with an almost flat floor between −1 and 1.


# %%
hops = run(lambda x: 5 * (np.tanh(5 * x - 5) + np.tanh(5 * x + 5)), [2.5], gd(0.5), 1000).points[:, 0]
print(f"local border {2 * np.cosh(5) ** 2 / 50:.0f};  at η = 0.5:", hops[[0, 1, 2, 3, -2, -1]].round(1))

# %% [markdown]
# At the minimum the curvature is tiny, and the local border is 220. The step 0.5 is 440 times smaller, and still the run hops between ±2.5 for ever: out there the
# slope is ±10, and a step of 0.5 · 10 leads to the other side. At the walls the
# curvature is 25, so the guarantee ends at $2/25 = 0.08$. Convexity does not help: between the guarantee and the local border only a run from your start can tell.
#
# One condition is left to test: the minimum must exist. Take the ridge away. The cell asks whether some $w$ separates every "3" from every other digit.

# %%
bare = objectives.logistic_regression(X, y)
apart = run(bare.gradient, 0 * w, newton(bare.hessian, damping=1e-5), 40).points[-1]
drift = run(bare.gradient, 0 * w, gd(0.1), 3000).points[[100, 1000, 3000]]
print("separates:", ((X @ apart > 0) == y).all(), "  |w| grows:", norm(drift, axis=1).round(2))

# %% [markdown]
# It does: "3" against the rest is linearly separable. So the loss without a ridge has no minimum. Its infimum is 0, and the weights grow without end. There is no $w^\ast$ and no local border.
# What is left of the guarantee is this: for $0 < \eta < 2/\ell$ the loss falls in every step, since
# $L(w - \eta g) \le L(w) - \eta\,(1 - \eta\ell/2)\,\lVert g \rVert^2$.
#
# ## What to take away
#
# 1. On a quadratic each mode has the factor $1 - \eta\lambda_i$. Stability is $0 < \eta < 2/\lambda_{\max}$ with no negative eigenvalue; nothing else enters.
# 2. κ sets the best rate in the worst case, $(\kappa-1)/(\kappa+1)$. It sets neither stability, nor the loss curve that you see before about κ steps.
# 3. Off quadratics there are two thresholds. The largest curvature anywhere gives a guarantee, the curvature at the minimum a local fact. Between them you must try.
#
# ## Exit ticket
#
# Replace each `None` by the number of your answer, and run the cell.

# %%
i, j, k = int(size[-1].argmax()), 2 * int(escapes.all()), 2 * int(fates["10 L"].diverged_at is not None)
m, n, h = int(percent[1] < percent[0]), int(away["0.9 of local"][-1] < 1e-3), (promised, 0.001)
ticket(
    TICKET,
    answers=[None, None, None],
    outcomes={"slowest": i, "saddle": j, "tenfold": k, "percent": m, "ridge": h, "beyond": n},
)

# %% [markdown]
# ## In practice: your own model
#
# - Report $\eta\lambda_{\max}/2$, not κ, when you talk of stability. Lesson 04 shows how to get $\lambda_{\max}$ without a matrix.
# - Start from $1/\lambda_{\max}$. It costs at most a factor of two in the long run, and is often ahead in the loss.
# - Centre your features before you tune anything. A large mean is a large eigenvalue.
# - Before you blame κ, plot the loss above its minimum in doubly logarithmic axes. A straight line says that the density near zero is at work.
# - Say which measure you mean: loss, distance or gradient. The ranking of step sizes depends on it.
#
# ## Further reading
#
# - `nocedal2006`, chapter 3: rates of steepest descent. Chapter 5: conjugate gradients.
# - `polyak1964`: iterations with memory, judged by their eigenvalues; Lesson 03.
# - `lessard2016`: the rates of this lesson, and of Lesson 03, on quadratics and beyond.
# - `cohen2021`: what becomes of $2/\lambda_{\max}$ in a network; Lesson 07.
