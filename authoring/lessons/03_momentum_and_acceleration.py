# %% [markdown]
# {{header}}

# %%
import numpy as np
import torch
from numpy.linalg import eigh, eigvals, norm
from scipy.optimize import bisect
from scipy.sparse.linalg import cg

from hesslab import dynamics, objectives
from hesslab.checks.lesson_03 import TICKET
from hesslab.course import claim, predict, start, ticket
from hesslab.data import digits
from hesslab.dynamics import gd, heavy_ball, iteration_matrix, nesterov, run, stability_threshold
from hesslab.matrices import with_spectrum
from hesslab.plots import panels, show, slider, watched

start()

# %% [markdown]
# ## 1. Two errors instead of one
#
# Gradient descent forgets how it came to a point. **Heavy ball** remembers its last step, and repeats a part β of it:
#
# $$\theta_{t+1} = \theta_t - \eta\,\nabla L(\theta_t) + \beta\,(\theta_t - \theta_{t-1}), \qquad 0 \le \beta < 1 .$$
#
# On a quadratic the eigenvectors of the Hessian split the error into modes, as in Lesson 02. They do not mix here either, since every term of the rule
# is a number times a vector, or $H$ times a vector. The error of the mode λ obeys
#
# $$e_{t+1} = (1 + \beta - \eta\lambda)\, e_t - \beta\, e_{t-1}, \qquad
# \begin{pmatrix} e_{t+1} \\ e_t \end{pmatrix} = M \begin{pmatrix} e_t \\ e_{t-1} \end{pmatrix}, \qquad
# M = \begin{pmatrix} 1 + \beta - \eta\lambda & -\beta \\ 1 & 0 \end{pmatrix}.$$
#
# In Lesson 02 a mode had a factor, $1 - \eta\lambda$. Now it has a 2 × 2 matrix, and we need powers of it. First the check, on a quadratic with
# four eigenvalues in a random basis.

# %%
f = objectives.quadratic(with_spectrum([10.0, 4.0, 1.0, 0.1], rng=1), b=[1.0, 2.0, 3.0, 4.0])
values, V = eigh(f.hessian(f.minimizer))
M = iteration_matrix(heavy_ball(0.1, 0.8), values)  # one 2 × 2 matrix for each eigenvalue
errors = (run(f.gradient, np.zeros(4), heavy_ball(0.1, 0.8), 60).points - f.minimizer) @ V
pairs = np.stack([errors[1:], errors[:-1]], axis=-1)  # (e_t, e_{t-1}) for 60 steps and four modes
assert np.allclose(np.einsum("iab,tib->tia", M, pairs[:-1]), pairs[1:], rtol=0, atol=1e-10)
print("GD factors", abs(1 - 0.1 * values).round(3), "  HB moduli", abs(eigvals(M)).max(axis=-1).round(3))

# %% [markdown]
# The assertion compares 59 steps in four modes. What decides the powers of $M$ are its eigenvalues $r$, the roots of
#
# $$r^2 - (1 + \beta - \eta\lambda)\, r + \beta = 0 .$$
#
# The product of the two roots is β. That one fact explains most of this lesson. If the roots are a complex pair, they are conjugate, and both
# have the modulus $\sqrt\beta$, **whatever λ is**. The discriminant says when:
#
# $$(1 + \beta - \eta\lambda)^2 < 4\beta \iff (1 - \sqrt\beta)^2 < \eta\lambda < (1 + \sqrt\beta)^2 .$$
#
# Think of a door with a damper. Below this window both roots are positive: the damper is too strong, and the error creeps. Inside, the error swings, and the swing shrinks by
# $\sqrt\beta$ a step. Above, both roots are negative, and the error jumps from side to side, as with gradient descent at a long step. In the print above, λ = 0.1 is just below the window: 0.927, for 0.99 of gradient descent. The others are inside, and have 0.894
# each, where gradient descent has 0.9, 0.6 and 0.


# %%
question = "Gradient descent with ηλ = 1 ends a mode in one step. Add β = 0.9: how many steps to a millionth?"
predict("steep", question, answer=None)


# %%
def mode(curvature, rule, steps):
    return run(lambda e: curvature * e, [1.0], rule, steps).points[:, 0]


lasting = abs(mode(1.0, heavy_ball(1.0, 0.9), 400))
steep = 1 + int(np.flatnonzero(lasting > 1e-6)[-1])
print("steps until the error stays below a millionth:", steep)

# %% [markdown]
# From 1 to 263. Here momentum is a loss: no mode of heavy ball shrinks faster than $\sqrt\beta$ a step in the long run, since two numbers whose
# product is β cannot both be smaller than $\sqrt\beta$. What is it good for, then? Look at all modes together.
#
# ## 2. The plane of ηλ and β
#
# A mode knows η and λ only through their product. So a single picture holds every case: for each pair $(\eta\lambda, \beta)$ the **spectral
# radius**, the larger modulus of the two roots. Move the point in JupyterLab. The small panel shows the
# error of that mode. Below the sliders stand four positions, for paper.


# %%
def radius(rule, curvature):
    return abs(eigvals(iteration_matrix(rule, curvature))).max(axis=-1)


across, up = np.linspace(0, 4, 161), np.linspace(0, 0.995, 100)
plane = np.array([radius(heavy_ball(1.0, beta), across) for beta in up])


# %%
def draw(axes, ηλ, β):
    axes.contourf(across, up, plane, levels=[0, 0.5, 0.7, 0.8, 0.9, 0.95, 1], cmap="Blues_r")
    axes.clabel(axes.contour(across, up, plane, levels=[0.5, 0.7, 0.9, 1], colors="#222222", linewidths=0.8))
    axes.plot((1 + np.outer(up**0.5, [1, -1])) ** 2, up, "--", color="#D55E00", marker="")
    axes.plot(ηλ, β, "o", color="#000000", markersize=10, markerfacecolor="white", markeredgewidth=3)
    inset = axes.inset_axes((0.75, 0.03, 0.24, 0.26), xticks=[], yticks=[0], ylim=(-2, 2), title="error")
    inset.plot(mode(ηλ, heavy_ball(1.0, β), 30), color="#000000", marker="")
    axes.set(xlabel="ηλ", ylabel="β", title=f"radius {radius(heavy_ball(1.0, β), ηλ):.3f}")


# %% tags=["nbval-ignore-output"]
alt = "Inside the dashed curve the radius depends on β alone; beyond the slanted border ηλ = 2 + 2β the error grows."
slider(draw, alt, ηλ=(0.02, 4.0, 0.02, 1.0), β=(0.0, 0.98, 0.02, 0.9))

# %%
figure, grid = panels(2, 2, size=(8.0, 7.4))
for axes, point in zip(grid.flat, ((0.1, 0.0), (0.1, 0.46), (3.0, 0.8), (3.0, 0.46)), strict=True):
    draw(axes, *point)
show(figure, "At ηλ = 0.1 the mode creeps at β = 0 and is gone fast at 0.46; at ηλ = 3 it needs β above 0.5.")

# %% [markdown]
# Read the picture in three steps.
#
# 1. *Inside the dashed parabola* the level lines are horizontal. The radius is $\sqrt\beta$, and λ does not matter. That is the whole trick: one β gives
#    one speed to all modes from $\eta\lambda = (1 - \sqrt\beta)^2$ to $(1 + \sqrt\beta)^2$.
# 2. *For a fixed mode*, go up. The radius falls until the dashed line, and rises after it. On the line the two roots coincide, as in a door
#    that is damped critically: less β and it creeps, more β and it swings. The first two panels show it: from β = 0 to 0.46 the radius of the mode falls from 0.900 to 0.729.
# 3. *The white triangle* on the right is unstable. Its border is slanted, and so momentum stabilizes: at $\eta\lambda = 3$, where gradient descent diverges, β = 0.8
#    converges.
#
# Where exactly is the border? A root leaves the unit circle through $r = 1$, through $r = -1$, or as a complex pair. The pair has modulus $\sqrt\beta < 1$. Put in $r = 1$, and
# you get $\eta\lambda = 0$. Put in $r = -1$, and you get $\eta\lambda = 2 + 2\beta$.
#
# **Nesterov's momentum** takes the gradient one momentum step ahead:
#
# $$y = \theta_t + \beta\,(\theta_t - \theta_{t-1}), \qquad \theta_{t+1} = y - \eta\,\nabla L(y).$$
#
# On a mode both terms of the memory get the factor $s = 1 - \eta\lambda$, so that $r^2 - (1+\beta)\, s\, r + \beta s = 0$.

# %%
question = "Compared with 2/λ, the largest stable step of gradient descent, momentum with β = 0.9 makes it"
choices = ["larger, for both", "larger for heavy ball, smaller for Nesterov", "smaller, for both"]
predict("border", question, choices, answer=None)

# %% [markdown]
# {{claim 5.1d}}
#
# As in Lesson 02 we search, and use no formula. The function `growth` runs a mode with λ = 1 for 400 steps, and compares its last hundred errors with the hundred before. We bisect
# for the η at which growth begins.


# %%
def growth(eta, rule, beta):
    errors = abs(mode(1.0, rule(eta, beta), 400))
    return np.log(errors[301:].max() / errors[201:301].max()) if len(errors) > 400 else 1.0


found = [bisect(growth, 1.1, 4, (rule, beta)) for rule in (heavy_ball, nesterov) for beta in (0.5, 0.9)]
claim("5.1d", found, expected=[3, 3.8, 3 / 2, 3.8 / 2.8], tolerance=1e-3)

# %% [markdown]
# Four searches, four formulas. Heavy ball at β = 0.9 bears nearly twice the step of gradient descent. Nesterov bears *less* than gradient descent: as β tends to 1 its border falls from 2
# to 4/3. The reason: at
# $r = -1$ the error jumps from $-e$ to $e$, the look ahead lands at $e + 2\beta e$, and the gradient there is $1 + 2\beta$ times as large. So "momentum raises the threshold" is true of one momentum and false of the other. Lesson 07 meets both borders in networks.
# And both need exact gradients. A preprint, `andreyev2026`, reports that with small batches the border of heavy ball falls to $2(1-\beta)/\eta$, far below that of gradient descent.
#
# ## 3. What momentum buys
#
# Keep η, and compare the modes. The smaller the radius, the faster.

# %%
figure, axes = panels()
for b in (0.0, 0.5, 0.9, 0.99):
    x = np.geomspace(1e-4, 2 + 2 * b, 400)
    axes.plot(x, radius(heavy_ball(1.0, b), x), marker="", label=f"β = {b:g}")
axes.set(xscale="log", xlabel="ηλ", ylabel="error left a step")
axes.legend(loc="lower left")
show(figure, "Each β has a plateau at √β; a larger β reaches to flatter modes and is slower on steep ones.")

# %% [markdown]
# On the right, near $\eta\lambda = 1$, gradient descent has the best mode there is, and momentum spoils it. On the left, in the flat modes, all curves are close to 1, and what counts
# is how close. There the larger root is nearly
#
# $$r \approx 1 - \frac{\eta\lambda}{1 - \beta} \qquad \text{for } \eta\lambda \ll (1 - \sqrt\beta)^2 .$$
#
# Why? A ball that rolls under a constant force reaches a constant velocity: $v = \beta v - \eta g$ gives $v = -\eta g/(1 - \beta)$.
#
# {{claim 5.1b}}

# %%
flat = {beta: mode(1e-6, heavy_ball(1.0, beta), 3000) for beta in (0.0, 0.9)}
creep = [np.log(errors[3000] / errors[1000]) for errors in flat.values()]
pace = (abs(lasting[300:]).max() / abs(lasting[100:200]).max()) ** (1 / 200)
print(f"flat mode: {creep[1] / creep[0]:.2f} times as fast;  steep mode, ηλ = 1: {pace:.3f} a step")
claim("5.1b", [creep[1] / creep[0], pace], expected=[10, 0.9**0.5], tolerance=0.02)

# %% [markdown]
# Ten times, as $1/(1 - 0.9)$ says. And the same β slows the steep mode from 0 to 0.949 a step. Now the fair comparison. If momentum is a step that is ten times longer,
# why not simply take the longer step?

# %%
for name, rule in (("GD, η", gd(1.0)), ("GD, 10 η", gd(10.0)), ("HB, β = 0.9", heavy_ball(1.0, 0.9))):
    left = [run(lambda e, c=c: c * e, [1.0], rule, 2000) for c in (1e-4, 1.0)]
    ends = [f"{abs(path.points[-1, 0]):.2f}" if path.diverged_at is None else "diverged" for path in left]
    print(f"{name:<12} after 2000 steps: ηλ = 0.0001: {ends[0]},  ηλ = 1: {ends[1]}")

# %% [markdown]
# In the flat mode the long step and momentum come to nearly the same. In the steep mode the long step diverges. *This* is what momentum buys: an effective step of $\eta/(1-\beta)$
# where the loss is flat, without instability where it is steep. Where all curvatures are alike there is nothing to gain: there, the longer step is stable too.
#
# > **Misconception: "momentum is a larger step size, η/(1 − β)".** In the flattest modes it is, and in no others. In the steep modes it is a memory that rings: the error
# > oscillates, and fades as $\sqrt{\beta}^{\,t}$. Raise β at a fixed η, and once every mode is inside the parabola, all of them get *slower*. The first two
# > questions of the exit ticket are about this.
#
# ## 4. The best settings, and their price
#
# The eigenvalues lie between μ and $L$, with $\kappa = L/\mu$. These are the usual letters: $L$ alone is the largest curvature, $\lambda_{\max}$ or ℓ in
# Lesson 02, and the loss is $L(\theta)$. We want the smallest β that has both ends inside the parabola:
# $(1 - \sqrt\beta)^2 = \eta\mu$ and $(1 + \sqrt\beta)^2 = \eta L$. Take roots, add and divide:
#
# $$\eta = \frac{4}{(\sqrt L + \sqrt\mu)^2}, \qquad \sqrt\beta = \frac{\sqrt\kappa - 1}{\sqrt\kappa + 1}, \qquad
# \text{Nesterov:}\quad \eta = \frac1L, \quad \beta = \frac{\sqrt\kappa - 1}{\sqrt\kappa + 1}.$$
#
# A word on this β. It depends on κ alone, and tends to 1 as κ grows: 0.67 for κ = 100, 0.96 for κ = 10 000. The familiar 0.9 is the best β for κ near 1440. Heavy ball
# then has the factor $\sqrt\beta$ in *every* mode. Nesterov's most common setting has $1 - 1/\sqrt\kappa$. Its best one for quadratics has
# $\eta = 4/(3L + \mu)$, $\beta = \big(\sqrt{3\kappa+1} - 2\big)/\big(\sqrt{3\kappa+1} + 2\big)$ and the factor $1 - 2/\sqrt{3\kappa+1}$.


# %%
def tuned(mu, L):
    q = (L**0.5 - mu**0.5) / (L**0.5 + mu**0.5)
    ball = heavy_ball(4 / (L**0.5 + mu**0.5) ** 2, q**2)
    return {"GD": gd(2 / (L + mu)), "Nesterov": nesterov(1 / L, q), "HB": ball}


settings, interval, root = tuned(0.01, 1), np.linspace(0.01, 1, 2001), 301**0.5
four = {**settings, "Nesterov, best": nesterov(4 / 3.01, (root - 2) / (root + 2))}
rates = {name: float(radius(rule, interval).max()) for name, rule in four.items()}
print("κ = 100:", {name: round(rate, 4) for name, rate in rates.items()})
assert np.allclose(list(rates.values()), [99 / 101, 0.9, 9 / 11, 1 - 2 / root], rtol=0, atol=1e-6)

# %% [markdown]
# The assertion compares four worst factors over the whole interval with the four formulas, to $10^{-6}$. Why not to $10^{-15}$? Because at the two ends the roots coincide, and $M$ has only *one*
# eigenvector: it is **defective**. Then an error of ε in $M$ moves the roots by about $\sqrt\varepsilon$, which is $10^{-8}$ in double precision.

# %%
wrong = [abs(radius(tuned(1 / k, 1)["HB"], 1 / k) - (k**0.5 - 1) / (k**0.5 + 1)) for k in range(50, 150)]
print("largest error of the computed radius between 1e-10 and 1e-6:", 1e-10 < max(wrong) < 1e-6)
print(f"tuned for L = 1 and κ = 100, stable up to λ = {stability_threshold(settings['HB']):.4f}")

# %% [markdown]
# Keep it in mind when you meet an optimal setting that was found numerically. The last line shows how sensitive the setting is: 1 % above $L$ it diverges. In general the margin is exactly $1 + 1/\kappa$, as for the best step of gradient descent. If you do not know $\lambda_{\max}$ that well, do
# not tune that close.
#
# Now count steps. There are 50 eigenvalues from $1/\kappa$ to 1, evenly spaced in the logarithm, and equal errors. Gradient descent with κ = 10 000 needs 61 039 steps to a millionth.

# %%
predict("ball", "κ = 10 000: how many steps does tuned heavy ball need to a millionth?", answer=None)


# %%
def steps_to(points, spectrum, tolerance=1e-6):
    """The steps to `tolerance` times the start, in distance and in loss."""
    measures = norm(points, axis=1), points**2 @ spectrum
    return tuple(int(np.flatnonzero(m > tolerance * m[0])[-1]) + 1 for m in measures)


counts, spread = {}, np.geomspace(1e-4, 1, 50)
for name, rule in tuned(1e-4, 1).items():
    points = run(lambda e: spread * e, np.ones(50), rule, 62_000 if name == "GD" else 1500).points
    counts[name], loss = steps_to(points, spread), points**2 @ spread
    print(f"{name:<9} distance {counts[name][0]}, loss {counts[name][1]}, peak {loss.max() / loss[0]:.1f}")

# %% [markdown]
# From 61 039 to 972 steps: a factor of 63. That is acceleration: κ has become $\sqrt\kappa$. But two numbers in the table do not fit the story.
#
# First, the rate alone promises $\ln 10^{-6}/\ln \tfrac{99}{101} = 691$ steps, and it took 972. Second, heavy ball has the best rate and lets the loss rise to 232 times its start. In
# the loss it loses to Nesterov by far, 661 steps to 373.
#
# Both have the same cause, the double root. The powers of a defective matrix are not $r^t$ but $r^t$ times a line in $t$. From rest, the mode $\lambda = L$ follows
#
# $$e_t = \big(1 + (1 + \sqrt\beta)\, t\big)\,(-\sqrt\beta)^t .$$
#
# It *grows* before it falls, up to about $\sqrt\kappa/e$ after $\sqrt\kappa/2$ steps. Here $e$ is Euler's number. If all of the error is in that mode, the loss grows to the square of it, $\kappa/e^2$. This is **transient growth**.
#
# {{claim 5.1a}}

# %%
ends = np.array([0.01, 1.0])
sizes = [norm(run(lambda e: ends * e, [1.0, 1.0], settings[n], 800).points, axis=1) for n in ("HB", "GD")]
slopes = [(size[800] / size[400]) ** (1 / 400) for size in sizes]
peak = abs(mode(1.0, tuned(1e-4, 1)["HB"], 400)).max()
print(f"κ = 10 000: the steepest mode grows {peak:.2f}-fold, √κ/e = {100 / np.e:.2f}")
claim("5.1a", [*slopes, peak * np.e / 100], expected=[9 / 11, 99 / 101, 1], tolerance=0.002)

# %% [markdown]
# So momentum does help on ill-conditioned quadratics, in the long run, and may harm before. That is the **first failure**, and it has a remedy. Where does the growth come
# from? In its first step the ball is at rest. It takes the full η, which is almost $4/L$: twice what gradient descent can bear. The momentum that should brake it is not there yet. So
# divide the *first* step by $1 + \beta$. Then every mode between μ and $L$ stays below $\big(1 + t\,\tfrac{1-\beta}{1+\beta}\big)\sqrt\beta^{\,t}$, which never exceeds 1.
# To write it, you must know what a rule is: a function of the gradient, the point and a state. It returns the next point and the next state. Heavy ball's state
# is the point before, and None at the start.


# %%
def gentle(eta, beta):
    later, short = heavy_ball(eta, beta), eta / (1 + beta)
    return lambda grad, x, old: (x - short * grad(x), x) if old is None else later(grad, x, old)


soft = run(lambda e: spread * e, np.ones(50), gentle(**tuned(1e-4, 1)["HB"].settings), 1200).points
print("gentle start:", steps_to(soft, spread), f" largest error on the way {abs(soft).max():.2f}")

# %% [markdown]
# One step was changed, and nothing grows any more. In the loss the gentle ball needs 414 steps instead of 661, and nearly catches up with Nesterov. The count falls from 972 to 751. Warming up the step size does the same for networks, with less theory (Lesson 10).
# But the remedy holds for a start from rest only. Whatever disturbs the run later meets the same defective matrix.
#
# ## 5. The best polynomial
#
# Is there anything better than $\sqrt\kappa$? After $t$ steps, every method that starts at $\theta_0$ and adds multiples of the gradients it has seen has the error $p_t(H)\, e_0$ with a polynomial $p_t$ of
# degree at most $t$ and $p_t(0) = 1$. Lesson 02 had $(1 - \eta\lambda)^t$. The best polynomial for *all* spectra between μ and $L$ is the one with the smallest maximum
# there: Chebyshev's, shifted and scaled. With $s = (\sqrt\kappa - 1)/(\sqrt\kappa + 1)$ its maximum is
#
# $$\max_{\mu \le \lambda \le L} |p_k(\lambda)| = \frac{2 s^k}{1 + s^{2k}}, \qquad
# \eta_i = \frac{2}{(L + \mu) - (L - \mu) \cos\frac{(2i+1)\pi}{2k}}, \quad i = 0, \dots, k-1 .$$
#
# The $\eta_i$ are the inverses of its zeros: gradient descent with *these steps, in any order, and no momentum* has the smallest worst error after $k$ steps, in exact arithmetic.
# You will write them in Exercise 4. On the way the error may be huge, since the longest step is far beyond stability. There is a safe way to the same polynomials, optimal at every step: a
# recursion with three terms. And it is heavy ball, with an η and a β that change from step to step.


# %%
def chebyshev_momentum(mu, L):
    squeeze = ((L - mu) / (L + mu)) ** 2

    def step(gradient, x, state):
        previous, omega = state or (x, 1.0)
        new = x - 2 * omega / (L + mu) * gradient(x) + (omega - 1) * (x - previous)
        return new, (x, 1 / (1 - squeeze / 2) if state is None else 1 / (1 - squeeze * omega / 4))

    return step


soft, cheb = gentle(**settings["HB"].settings), chebyshev_momentum(0.01, 1)
rules = {**settings, "HB, gentle": soft, "Chebyshev": cheb}
worst = {n: abs(run(lambda e: interval * e, interval**0, r, 60).points).max(axis=1) for n, r in rules.items()}
t = np.arange(61)
assert np.allclose(1 / (1 - (99 / 101) ** 2 / 2) - 1, 0.925, atol=5e-4)  # the first β of Chebyshev
assert np.allclose(settings["HB"].settings["beta"], 0.669, atol=5e-4)  # and its last
assert np.allclose(worst["HB"], (1 + 20 / 11 * t) * (9 / 11) ** t)
assert np.allclose(worst["Chebyshev"], 2 * (9 / 11) ** t / (1 + (9 / 11) ** (2 * t)))

# %%
print("worst error of Chebyshev after 5, 10, 20 steps:", worst["Chebyshev"][[5, 10, 20]].round(4))
print("heavy ball beats descent from step", 1 + int(np.flatnonzero(worst["HB"] >= worst["GD"])[-1]))
figure, axes = panels()
axes.set(xlim=(0, 85), ylim=(3e-6, 8), ylabel="worst error for κ = 100")
watched(axes, worst, log=True)
show(figure, "Heavy ball first rises to 3.7 and beats descent from step 21; Chebyshev is always lowest.")

# %% [markdown]
# The worst error of each method, over all spectra between 0.01 and 1, is drawn on a logarithmic scale, so a straight line is a rate. Heavy ball, its gentle version and Chebyshev end with the same slope. What
# separates them is the beginning. Chebyshev starts like gradient descent, with its step $2/(L+\mu)$. Then β jumps to 0.925 and sinks to 0.669, where heavy ball has been all the time. So heavy ball is the end of
# Chebyshev's method, applied from the beginning. And no method of this kind has a better guarantee than Chebyshev's: $\sqrt\kappa$ is not a trick of momentum, it is the limit.
#
# Chebyshev's method needs μ and $L$. **Conjugate gradients** (CG) need neither. On a quadratic they find, at each step, the polynomial with the smallest *loss* for the spectrum
# and the start at hand. We watch $|p_{10}|$ on 400 eigenvalues between 0.01 and 1.


# %%
def conjugate(spectrum, steps):
    seen = []  # the errors; the solution is (1, …, 1)
    cg(np.diag(spectrum), spectrum, rtol=0, atol=0, maxiter=steps, callback=lambda x: seen.append(1 - x))
    return np.array(seen)


even = np.linspace(0.01, 1, 400)
ten = {n: run(lambda e: even * e, even**0, rules[n], 10).points[-1] for n in ("GD", "HB", "Chebyshev")}
ten["CG"] = conjugate(even, 10)[-1]
print("loss left:", {name: round(float(even @ left**2 / even.sum()), 4) for name, left in ten.items()})
figure, axes = panels()
axes.set(ylim=(-0.15, 2.75), xlim=(0, 1.28), ylabel="error after 10 steps")
watched(axes, {name: (even, abs(left)) for name, left in ten.items()}, xlabel="eigenvalue λ")
show(figure, "After 10 steps: descent is bad at both ends, heavy ball on the right, Chebyshev even, CG low.")

# %% [markdown]
# Each curve starts at height 1 at $\lambda = 0$, and has ten factors to spend. Gradient descent puts all ten zeros on one spot. Chebyshev spreads them, and all its humps have the same
# height, 0.2641. CG knows that steep modes weigh more in the loss, and leaves the flat ones for later. Its loss is the smallest, as it must be. In the loss gradient descent is no worse than Chebyshev
# here, 0.0335 to 0.0349: the best guarantee for the worst mode is not the best result on a given spectrum.
#
# With $m$ *distinct* eigenvalues, the polynomial of degree $m$ with its zeros on them ends the matter. So CG needs at most $m$ steps, whatever κ is. That
# is exact arithmetic. Here it is in double precision:

# %%
for kappa, m in ((100, 3), (100, 5), (100, 8), (10_000, 8)):
    left = norm(conjugate(np.repeat(np.geomspace(1 / kappa, 1, m), 12), m)[-1])
    print(f"κ = {kappa}, {m} distinct eigenvalues: done after {m} steps: {left < 1e-6}")
many = int((norm(conjugate(spread, 200), axis=1) > 1e-6 * 50**0.5).sum())
print(f"κ = 10000, 50 distinct eigenvalues: more than 50 steps: {many > 50}, fewer than 200: {many < 200}")

# %% [markdown]
# At κ = 10 000 rounding wins, and more steps are needed. Still, on the 50 eigenvalues of Section 4, CG stays below 200 steps where
# heavy ball takes 972. Its price: it is made for quadratics. It relies on the relations between all its directions, and these break when $H$ changes or the gradient is noisy.
# Heavy ball needs two numbers from you, and relies on nothing but its last step.
#
# ## 6. Real data, predicted
#
# The ridge regression of Lesson 02: is it a 3? There are 1797 digits, and the Hessian is $\frac1n X^\top X + 0.01\, I$. We know its 65 eigenvalues. We predict in two ways. *By the rate*:
# $\ln 10^{-3}/\ln r$ steps to a thousandth, $r$ being the largest spectral radius of a mode. *By the modes*: split the error at the start into eigenvectors, and iterate 65 numbers. This never looks at an image.

# %%
images, labels = digits(centred=False, rng=0)
X, target = np.column_stack([images, np.ones(1797)]), 2.0 * (labels == 3) - 1
ridge = objectives.least_squares(X, target, ridge=0.01)
curvatures, V = eigh(ridge.hessian(np.zeros(65)))
mu, L = curvatures[[0, -1]]
print(f"λmin {mu:.2f}, λmax {L:.2f}, κ = {L / mu:.0f}, √κ = {(L / mu) ** 0.5:.0f}")

# %%
until, measured = {}, {}
for name, rule in tuned(mu, L).items():
    limit, by_rate = 20_000 if name == "GD" else 1000, np.log(1e-3) / np.log(radius(rule, curvatures).max())
    modes = run(lambda e: curvatures * e, -V.T @ ridge.minimizer, rule, limit).points
    points = run(ridge.gradient, np.zeros(65), rule, limit).points - ridge.minimizer
    by_modes, measured[name] = (steps_to(each, curvatures, 1e-3)[0] for each in (modes, points))
    print(f"{name:<9} by the rate {by_rate:.0f}, by the modes {by_modes}, measured {measured[name]}")
    until[name] = norm(points[1 : measured[name] + 1], axis=1) / norm(points[0])
    assert by_modes == measured[name]

# %%
assert min(until["HB"][:100]) > 1 > max(until["GD"]) and max(until["Nesterov"]) < 1
print(f"heavy ball at its worst: {max(until['HB']):.1f} times the start")
figure, axes = panels()
axes.set(xscale="log", xlim=(1, 2e5), ylim=(2e-4, 20), ylabel="distance left, start = 1")
watched(axes, {name: (np.arange(1, len(left) + 1), left) for name, left in until.items()}, log=True)
show(figure, "On digits heavy ball rises to 4 times its start, then needs 36 times fewer steps than descent.")

# %% [markdown]
# The modes predict every count exactly, without a look at the data. For a quadratic loss the Hessian and the start are all there is to know. The rate alone asks 40 % too many steps of
# gradient descent, since this start has little error in the flattest modes. For heavy ball it is far too optimistic, 299 for 511: the double
# root again. Momentum saves a factor of 36, and $\sqrt\kappa$ promised up to 87.
#
# Look at the hump. Gradient descent and Nesterov never leave the distance of their start. Heavy ball does at once, goes away to 4.2 times that distance, and is back only after
# more than a hundred steps. Stop it there, and you would have been better off without momentum. Nesterov needs 585 steps, hardly more, and has no hump. Here it is the better bargain.
#
# ## 7. The second failure: a cycle
#
# In Lesson 02 the best step for quadratics with curvature between μ and $L$ was safe for *every* loss with such curvature. Is it the same for heavy ball? Lessard, Recht and Packard asked a function of one variable, with
# μ = 1 and $L = 25$. Its slope is continuous, and its curvature is 25, except between 1 and 2, where it is 1.

# %%
question = "f″ is between 1 and 25, heavy ball is tuned for 1 and 25, and starts at 3.3. It"
choices = ["converges, by 2/3 a step", "converges, more slowly", "never converges"]
predict("cycle", question, choices, answer=None)


# %%
def slope(x):
    return np.where(x < 1, 25 * x, np.where(x < 2, x + 24, 25 * x - 24))


walks = {name: run(slope, [3.3], rule, 60).points[:, 0] for name, rule in tuned(1.0, 25.0).items()}
print("last points:", {name: walk[-3:].round(3).tolist() for name, walk in walks.items() if name != "GD"})
print(f"gradient descent: {abs(walks['GD'][-1]):.3f}")

# %% [markdown]
# It goes round three points for ever. Gradient descent and Nesterov converge. Lesson 02 says why descent must: a step leaves at most
# $12/13$ of the distance, on *every* function with curvature between 1 and 25. Heavy ball has no such guarantee. Before you run the next cell, look where
# the three points lie. Which curvatures does heavy ball meet there? The cell puts in the exact points, which are fractions.

# %%
cycle, step = np.array([792, -2208, 2592]) / 1225, heavy_ball(1 / 9, 4 / 9)
after = [step(slope, cycle[i], cycle[i - 1])[0] for i in range(3)]
assert np.allclose(after, np.roll(cycle, -1), rtol=0, atol=1e-12)
print(f"one round leaves {radius(step, 25.0) ** 3:.3f} of a small deviation from the cycle")

# %%
figure, axes = panels()
axes.axhspan(1, 2, color="#DDDDDD")
axes.set(ylabel="x (grey: curvature 1)")
watched(axes, {name: walks[name][:31] for name in ("GD", "Nesterov", "HB")})
axes.plot(walks["HB"][:31], "^", color="#009E73", markevery=1, zorder=3)
show(figure, "Heavy ball goes round three points for ever, none in the grey strip; the others settle at 0.")

# %% [markdown]
# All three points have the curvature 25. Heavy ball sees one curvature only, $L$, as if $f$ were a quadratic. But from $x = 2$ on the slope is shifted, by −24, and this kick comes
# once a round, in time with the swing. The deviations from the cycle obey $M$ with λ = 25, and $\sqrt\beta^{\,3} = 0.296$ a round: the cycle *attracts*, with the very factor that
# should have led to the minimum.
#
# Is the kink to blame? No. Round it off within 0.1 of the two corners, with curvatures between 1 and 25. No point of the cycle is there, so it stays, on a function as smooth as you
# like. Nor is the setting a bad choice: Goujaud, Taylor and Dieuleveut proved in 2023 (`goujaud2023`) that heavy ball, however it is tuned, either is no faster than gradient descent in order
# of κ on quadratics, or fails to converge for some function with these bounds. Nesterov's method is slower on quadratics, and converges for all of these functions, with
# $\sqrt\kappa$ in the rate (`lessard2016`). That is what its look ahead is for.
#
# ## 8. Three conventions, one name
#
# {{claim 5.1c}}
#
# PyTorch's `SGD(momentum=γ)` is $v_t = \gamma v_{t-1} + \nabla L(\theta_t)$, $\theta_{t+1} = \theta_t - \eta v_t$. The step size stands outside. Does it matter?

# %%
question = "After 30 steps a schedule sets η to 0. What do the parameters do?"
choices = ["Both stop at once", "PyTorch's stop at once, the note's coast on", "Both coast on"]
predict("freeze", question, choices, answer=None)


# %%
def note_sgd(f, theta, rates, gamma):
    points, v = [theta], 0.0
    for eta in rates:
        v = gamma * v + eta * f.gradient(points[-1])
        points.append(points[-1] - v)
    return np.array(points)


def torch_sgd(f, theta, rates, gamma):
    points, parameter = [theta], torch.tensor(theta)
    optimizer = torch.optim.SGD([parameter], lr=rates[0], momentum=gamma)
    for eta in rates:
        optimizer.param_groups[0]["lr"] = eta
        parameter.grad = torch.tensor(f.gradient(points[-1]))
        optimizer.step()
        points.append(parameter.numpy().copy())
    return np.array(points)


# %%
constant, frozen = [0.02] * 60, [0.02] * 30 + [0.0] * 300
same = abs(note_sgd(f, np.zeros(4), constant, 0.9) - torch_sgd(f, np.zeros(4), constant, 0.9)).max()
tails = [walk(f, np.zeros(4), frozen, 0.9)[29:] for walk in (note_sgd, torch_sgd)]
coasts = [norm(tail[-1] - tail[1]) / norm(tail[1] - tail[0]) for tail in tails]
print(f"η = 0: the note's form goes on by {coasts[0]:.2f} of its last steps, PyTorch's by {coasts[1]:.2f}")
claim("5.1c", [same, *coasts], expected=[0, 9, 0], tolerance=1e-6)

# %% [markdown]
# With a constant η the two are the same, to rounding. With a schedule they are not. In one line, PyTorch's step is
#
# $$\theta_{t+1} - \theta_t = -\,\eta_t \nabla L(\theta_t) + \gamma\, \frac{\eta_t}{\eta_{t-1}}\, (\theta_t - \theta_{t-1}).$$
#
# It rescales the memory whenever η changes, and so a drop takes effect at once. In the note's formula the velocity was made of old step sizes. It runs out only by γ a step:
# $\gamma + \gamma^2 + \dots = \gamma/(1-\gamma) = 9$ last steps in all. A schedule that is tuned in one form is another
# schedule in the other.
#
# Neither is right or wrong. After a drop of η the note's form coasts on. With a warmup it is the other way round: when η is multiplied by ten, PyTorch multiplies its whole memory by ten, in one step.
#
# A third convention averages: $v_t = \gamma v_{t-1} + (1 - \gamma)\nabla L$. Then $v$ has the size of a gradient, and η means $(1-\gamma)\,\eta$ of before. PyTorch's `dampening=γ` gives it, but for the first
# velocity, which is the whole gradient. Adam averages too, and corrects the first steps.

# %%
plain, damped = (torch.optim.SGD([torch.zeros(1)], lr=0.1, momentum=0.9, dampening=tau) for tau in (0.0, 0.9))
print(f"stable up to λ = {stability_threshold(plain):.0f}, dampened {stability_threshold(damped):.0f}")
edge = [float(radius(dynamics.adam(1.0), curvature)) for curvature in (37.9, 38.0, 38.1)]
print("Adam's average, η = 1: radius at λ = 37.9, 38, 38.1:", np.round(edge, 4))

# %% [markdown]
# With the same learning rate and momentum the thresholds are ten times apart. For Adam's average it is $2(1+\beta_1)/(1-\beta_1) = 38$ at η = 1: just
# below, the radius is $\sqrt{0.9}$; at 38 it is 1. This is the 38/η of Lesson 08.
#
# ## What to take away
#
# 1. A mode of momentum is a 2 × 2 matrix whose eigenvalues have the product β. Inside the parabola every mode shrinks by $\sqrt\beta$; none is ever faster.
# 2. Tuned, κ becomes $\sqrt\kappa$, in the long run and on quadratics. Before, the loss may grow to $\kappa/e^2$; off quadratics heavy ball may cycle.
# 3. Write down which momentum you use: where the gradient is taken, where η stands, and whether the gradient is dampened.
#
# ## Exit ticket
#
# Replace each `None` by the number of your answer, and run the cell.

# %%
i, j, k = int(found[0] > 2 > found[2]), 2 * int(abs(walks["HB"][-6:]).min() > 0.5), int(coasts[0] > coasts[1])
m, n = (steep, 30), (counts["HB"][0], 300)
ticket(
    TICKET,
    answers=[None, None, None],
    outcomes={"steep": m, "border": i, "ball": n, "cycle": j, "freeze": k},
)

# %% [markdown]
# ## In practice: your own model
#
# - Compare η and β together. The effective step is $\eta/(1-\beta)$; going from β = 0.9 to 0.99 at the same η multiplies it by ten.
# - Know your threshold: $2(1+\beta)/\eta$ for PyTorch's SGD, $2(1+\beta)/((1+2\beta)\eta)$ with `nesterov=True`. `stability_threshold(optimizer)` reads it from a live optimizer.
# - Do not tune to the edge. The best setting tolerates an error of $1/\kappa$ in $\lambda_{\max}$.
# - Expect a hump. A loss that rises at first and oscillates is what good momentum looks like; shorten the first step, or warm up.
# - When you port a schedule, port the convention with it.
#
# ## Further reading
#
# - `polyak1964`: the origin of heavy ball, and its rate.
# - `nesterov1983`: the other momentum, with its guarantee beyond quadratics.
# - `lessard2016`: both analysed with one tool; the cycle of Section 7.
# - `nocedal2006`, chapter 5: conjugate gradients, and why distinct eigenvalues count.
# - `kidambi2018`: momentum with noisy gradients, where the acceleration is lost.
# - `cohen2021`: networks that train at $2(1+\beta)/\eta$; Lesson 07.
