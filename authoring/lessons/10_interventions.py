# %% [markdown]
# {{header}}

# %%
from math import inf

import numpy as np
import torch
from numpy.linalg import eigvalsh, norm
from torch.nn.functional import cross_entropy, one_hot
from torch.nn.utils import clip_grad_norm_, parameters_to_vector, vector_to_parameters

from hesslab.checks.lesson_10 import TICKET
from hesslab.course import claim, predict, start, ticket
from hesslab.curvature import hessian, preconditioned
from hesslab.data import digits, two_moons
from hesslab.dynamics import gd, run
from hesslab.operators import to_dense
from hesslab.plots import panels, show, threshold, watched
from hesslab.risk import EmpiricalRisk, mlp
from hesslab.stability import Tracker

start()

# %% [markdown]
# ## 1. Three things that an intervention can do
#
# Section 7 of the note is a list of advice: watch the gradient, clip it, schedule the step, stop early, decay the weights. Each comes with a reason, and each reason is a sentence about the Hessian. Advice
# may work while its reason is wrong. So we take each one, **predict what it does to $\eta\lambda_{\max}/2$**, and then look. SAM (sharpness-aware minimization, `foret2021`), which is younger than most of this advice, joins the list.
#
# Lesson 07 left us with a network that trains at its edge: $\lambda_{\max}$ rises until it meets $2/\eta$, and stays there. If you believe this, there are only three things that an intervention can do.
#
# 1. **Move the edge.** The edge belongs to the step that is *taken*, not to the η that you typed. A schedule changes the step, clipping shortens it, SAM takes another one.
# 2. **Change the loss.** Then the Hessian is another one. Weight decay does that.
# 3. **Stop the clock.** Early stopping changes neither. It only decides at which moment you look.
#
# The network and the data are those of Lesson 07: 200 digits, all of them in each step, a tanh network with 4522 weights. New are the other 1597 digits, on which we measure the loss for Section 7.
#
# One training loop has all knobs. `eta` is a number or a schedule, `decay` is the weight decay ω, `clip` is the longest gradient allowed, and `rho` switches SAM on. `clip_grad_norm_` returns the length that the
# gradient had *before* it was clipped, and we keep it.

# %%
images, labels = (torch.tensor(part) for part in digits(rng=0))
X, y, new_X, new_y = images[:200], labels[:200], images[200:], labels[200:]


def half_squares(outputs, y):
    return ((outputs - one_hot(y, 10)) ** 2).sum(1).mean() / 2


# %%
def backward(net, loss, y):
    net.zero_grad()
    value = loss(net(X), y)
    value.backward()
    return value.item()


def climb(net, loss, y, rho):
    theta, g = (parameters_to_vector(v) for v in (net.parameters(), [p.grad for p in net.parameters()]))
    vector_to_parameters(theta + rho * g / g.norm(), net.parameters())
    backward(net, loss, y)  # the gradient uphill
    vector_to_parameters(theta, net.parameters())  # and back


# %% [markdown]
# `climb` is SAM, whole: go uphill by ρ in the direction of the gradient, take the gradient *there*, come back, and step with it.


# %%
def train(seed, steps, eta=0.5, gain=0.5, loss=half_squares, y=y, decay=0.0, clip=inf, rho=0.0):
    net = mlp([64, 32, 32, 32, 10], gain=gain, rng=seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0, weight_decay=decay)
    risk, seen = EmpiricalRisk(net, loss, (X, y)), []
    tracker = Tracker(risk, optimizer, every=25, max_matvecs=30, search_every=10, rng=0)
    for t in range(steps):
        optimizer.param_groups[0]["lr"] = eta(t) if callable(eta) else eta
        value = backward(net, loss, y)
        if not value < 1e6:
            return None  # it diverged
        look, length = tracker.look(), clip_grad_norm_(net.parameters(), clip).item()
        if look:
            with torch.no_grad():
                seen.append((value, length, loss(net(new_X), new_y).item()))
        if rho:
            climb(net, loss, y, rho)
        optimizer.step()
    return tracker.record | dict(zip(("loss", "length", "new"), np.array(seen).T, strict=True))


# %%
def seeds(steps, **settings):
    runs = [train(seed, steps, **settings) for seed in range(3)]
    return {name: np.stack([run[name] for run in runs]) for name in runs[0]}


# %% [markdown]
# `seeds` makes three runs, and gives arrays with a row for each seed and a column for each 25 steps: the sharpness as `value`, the `ratio` $\eta\lambda_{\max}/2$ with the η of that step (for weight decay, the ratio to $2/\eta - \omega$), the loss, the length of the gradient, the loss on the
# `new` digits. A run that diverges is `None`.
#
# ## 2. Six predictions, one figure
#
# The first two start from larger first weights (`gain=1`). There the sharpness is 9 to 12 at the start, so that a step of 1 is far too long. A prediction that is right for the wrong reason is worth little: write down the reason as well, on paper.

# %%
choices = ["to 1", "to 2 or more", "far below 1"]
predict("clip", "η = 1.5 diverges. With gradients clipped at 0.1, ηλmax/2 goes", choices, answer=None)
choices = ["λmax is still near 10: lost", "λmax has fallen, ηλmax/2 is near 1", "ηλmax/2 is far below 1"]
predict("warmup", "η = 1.2 diverges. After a linear ramp of 200 steps to it", choices, answer=None)

# %% [markdown]
# The other four start from the small weights of Lesson 07, with $\lambda_{\max}$ near 1.8.

# %%
choices = ["both changes, equally fast", "the raise at once, the drop slowly", "neither"]
predict("schedule", "η = 0.5, from step 350 on 1, from step 450 on 0.5. λmax follows", choices, answer=None)
choices = ["stays bounded below 1", "rises more slowly, and comes to 1", "rises faster"]
predict("decay", "Weight decay ω = 0.005, η = 0.5. In 400 steps the ratio", choices, answer=None)

# %%
predict("sam", "SAM, ρ = 0.05, η = 0.5. ηλmax/2 settles near", ["1", "0.6", "1.4"], answer=None)
question = "A fifth of the labels is random. At the step with the best loss on new digits λmax is"
choices = [
    "below its end, for both losses",
    "near it for squares, high above for entropy",
    "high above, for both",
]
predict("stop", question, choices, answer=None)

# %%
lost = [train(seed, 50, eta=eta, gain=1.0) is None for seed in range(3) for eta in (1.2, 1.5)]
clipped = seeds(300, eta=1.5, gain=1.0, clip=0.1)
warm = seeds(350, eta=lambda t: 1.2 * min(1, (t + 1) / 200), gain=1.0)
print(f"with η = 1.2 and η = 1.5, untreated: {sum(lost)} of {len(lost)} runs diverge")

# %%
stepped = seeds(650, eta=lambda t: 1.0 if 350 <= t < 450 else 0.5)
plain = {name: series[:, :14] for name, series in stepped.items()}  # up to step 350
decayed, sam = seeds(400, decay=0.005), seeds(300, rho=0.05)

# %%
rng = np.random.default_rng(5)
wrong = torch.where(torch.tensor(rng.random(200) < 0.2), torch.tensor(rng.integers(0, 10, 200)), y)
squares, entropy = seeds(400, y=wrong), seeds(400, y=wrong, loss=cross_entropy)
best = squares["new"].argmin(axis=1), entropy["new"].argmin(axis=1)

# %%
names = ["clipping", "warmup", "schedule", "weight decay", "SAM", "early stopping"]
treated = dict(zip(names, (clipped, warm, stepped, decayed, sam, squares), strict=True))
figure, axes = panels(2, 3, size=(8, 6))
for each, (name, run_of) in zip(axes.flat, treated.items(), strict=True):
    each.plot(run_of["step"].T, run_of["ratio"].T, marker="")
    each.axhline(1, color="black", linewidth=0.8)
    each.set(title=name, xlabel="step", ylabel="ηλmax/2")
each.plot(entropy["step"].T, entropy["ratio"].T, marker="")
for chosen, looks in zip((squares, entropy), best, strict=True):
    each.plot(25 * looks, chosen["ratio"][range(3), looks], "kD")
show(figure, "ηλmax/2: clipped far above 1, SAM below, all others drawn to 1, but with cross-entropy to 0.")

# %% [markdown]
# Read the six panels, three lines each, one for a seed.
#
# - **Clipping** keeps the ratio far above 1, and nothing diverges.
# - **Warmup**: the ratio climbs with η, overshoots, and is brought back to 1. The target η, which killed all three runs from a cold start, is borne.
# - **Schedule**: at step 350 η doubles, so the ratio doubles at once, and within a few looks it is back at 1. At step 450 η is halved, the ratio falls to a half, and creeps.
# - **Weight decay**: a slower rise, to the same 1.
# - **SAM** settles between 0.5 and 0.7, and sinks slowly.
# - **Early stopping**: the diamonds mark the best loss on new digits. Lines that end near 1 are the squared error, lines that end near 0 the cross-entropy.
#
# The following sections explain one panel each. The rule is always the same: find the step that is *really taken*, and its edge.


# %%
def late(values):
    return values[:, -4:].mean(axis=1)


assert (
    all(lost)
    and int((wrong != y).sum()) == 34
    and late(clipped["ratio"]).min() > 2
    and late(sam["ratio"]).max() < 0.75
)
assert abs(late(warm["ratio"]) - 1).max() < 0.25 and abs(late(decayed["ratio"]) - 1).max() < 0.25
assert np.mean([run_of["converged"].mean() for run_of in treated.values()]) > 0.85

# %% [markdown]
# ## 3. Clipping: the edge of a shorter step
#
# Clipping at $c$ replaces the gradient $g$ by $g \cdot \min(1, c/\lVert g\rVert)$. So the step that is taken is plain gradient descent with the *effective* step size
#
# $$\eta_{\text{eff}} = \eta\,\min\!\Big(1, \frac{c}{\lVert g\rVert}\Big), \qquad \text{and its edge is } \frac{2}{\eta_{\text{eff}}} .$$
#
# All entries of $g$ are multiplied by the same number. The direction is the old one. Whatever clipping does in the steep directions, it does in the flat ones too.
#
# Take a quadratic of one variable, $\tfrac12\lambda x^2$, with $\eta\lambda > 2$. Unclipped, it diverges. With clipping the steps are never longer than $\eta c$, and they go towards the minimum. So $x$ comes near, and then cannot go away. It cannot
# come to rest either: near 0 the gradient is shorter than $c$, nothing is clipped, and $|x|$ grows again by $\eta\lambda - 1 > 1$. Once each step is clipped, the steps have length $\eta c$, to and fro between $x$ and $x - \eta c$.
# The two gradients have the mean length $\lambda\eta c/2$. Put this into $\eta c/\lVert g\rVert$: the effective step is $2/\lambda$. **Clipping has found the largest stable step by itself.** In two variables, with curvatures 10 and 0.1:

# %%
curvature, eta, c = np.array([10.0, 0.1]), 0.5, 0.1


def shortened(x):
    return curvature * x * min(1, c / norm(curvature * x))


# %%
unclipped, path = (run(g, [0.3, 0.3], gd(eta), 2000) for g in (lambda x: curvature * x, shortened))
effective = eta * c / norm(path.points[-100:] * curvature, axis=1).mean()
print(f"unclipped: {unclipped.stop_reason} after {len(unclipped.points) - 1} steps")
print(f"clipped: at the end |x₁| ≤ {abs(path.points[-100:, 0]).max():.3f}; ηc = {eta * c}")
print(f"effective step on average {effective:.3f}; 2/λmax = {2 / curvature[0]:.3f}")

# %% [markdown]
# In more variables the same holds for every positive definite quadratic. Far out $x \cdot g \ge \frac{2\sqrt\kappa}{1+\kappa}\lVert x\rVert\lVert g\rVert$ (Kantorovich's inequality, κ the condition number). So a clipped step changes $\lVert x\rVert^2$ by at most
# $-\eta c\,\frac{4\sqrt\kappa}{1+\kappa}\lVert x\rVert + \eta^2c^2$, which is negative for large $\lVert x\rVert$. The run stays bounded, whatever η is. For $\eta\lambda_{\max} > 2$ it does not converge, from almost every start.
#
# Now the network. We divide λmax by $2/\eta$, and then by $2/\eta_{\text{eff}}$, with the length of the gradient measured at each look.

# %%
own_clip = clipped["ratio"] * np.minimum(1, 0.1 / clipped["length"])
assert abs(effective - 0.2) < 0.01

# %% [markdown]
# {{claim 7.2}}
#
# The card counts the runs with η = 1.5 that diverge without clipping. With it, it measures the smallest ratio to $2/\eta$, and the smallest and the largest ratio to the edge of the effective step (means of the last four looks), and the largest part of the first loss that is left.

# %%
remaining = (clipped["loss"][:, -1] / clipped["loss"][:, 0]).max()
found = [sum(lost[1::2]), late(clipped["ratio"]).min(), late(own_clip).min(), late(own_clip).max(), remaining]
claim(
    "7.2",
    found,
    holds=lambda m: m[0] == 3 and m[1] > 2 and 0.9 < m[2] <= m[3] < 1.2 and m[4] < 0.1,
    varies=True,
)

# %% [markdown]
# So the first half of the advice survives: clipping prevents the explosion. Its reason does not. It does nothing special in steep directions, and it does not keep the network away from them: with $c = 0.1$ it lives at about three times
# $2/\eta$. How high exactly depends on $c$ and on the start. One seed:

# %%
levels = [train(0, 300, eta=1.5, gain=1.0, clip=c)["ratio"][-4:].mean() for c in (0.4, 0.05)]
low = train(0, 300, eta=1.5, clip=0.1)["ratio"]
print(f"ηλmax/2 late: c = 0.4: {levels[0]:.0f}, 0.1: {late(clipped['ratio'])[0]:.0f}, 0.05: {levels[1]:.0f}")
print(f"c = 0.1, small first weights: from {low[0]:.1f} to {low[-4:].mean():.0f}")
assert levels[1] > 4 > 1.5 > levels[0] and low[0] < 1.5 and low[-4:].mean() > 1.75

# %% [markdown]
# A tighter clip leaves a *higher* sharpness. From large first weights the sharpness comes down and the edge of the effective step comes down to it, since the gradient gets shorter. From small ones the sharpness
# rises, beyond $2/\eta$, to the edge of the effective step. Take the clipping away in the middle of a run at three times $2/\eta$, and the step is suddenly too long by that factor.
#
# The clip level is a step size in disguise: with active clipping each step has the length $\eta c$, which is *normalized* gradient descent. `arora2022` prove, under conditions, that this too enters an edge of stability. `zhang2020clip` give clipping a reason of another kind: where curvature grows with the gradient, as they observe in training, they prove that clipping and normalized steps can beat every fixed step.
#
# ## 4. SAM: an edge that knows the gradient
#
# Derive the edge of SAM by yourself first. On the quadratic $\tfrac12\lambda x^2$ the gradient is $g = \lambda x$, and the point uphill is $x + \rho\, g/|g|$. The gradient there is
#
# $$\lambda x + \lambda\rho\,\frac{g}{|g|} = \lambda x\,\Big(1 + \frac{\rho\lambda}{|g|}\Big).$$
#
# So SAM steps like gradient descent on the curvature $\lambda(1 + \rho\lambda/|g|)$. It is at its edge when $\eta$ times this is 2. That is a quadratic equation for λ, with the positive root
#
# $$\lambda_{\text{SAM}} = \frac{|g|}{2\rho}\left(\sqrt{1 + \frac{8\rho}{\eta\,|g|}} - 1\right) \;\le\; \frac2\eta .$$
#
# In more variables each eigendirection of a quadratic has its own λ, and all share one $|g|$, the length of the whole gradient; the largest λ meets the edge first. A long gradient gives $2/\eta$ back. A short gradient lowers the edge, without limit. And at a minimum? There SAM does not rest. It hops: $x$ becomes $-x$ where $|x| = \eta\lambda\rho/(2 - \eta\lambda)$.


# %%
def sam_edge(length, eta=0.5, rho=0.05):
    return length / (2 * rho) * ((1 + 8 * rho / (eta * length)) ** 0.5 - 1)


hops = run(lambda x: x + 0.05 * np.sign(x), [0.3], gd(0.5), 200).points[-2:, 0]  # λ = 1
print(f"SAM hops between ±{abs(hops[0]):.4f}; predicted {0.5 * 0.05 / (2 - 0.5):.4f}")
print(f"the edge of SAM there: {sam_edge(abs(hops[0])):.4f}")
assert abs(hops.sum()) < 1e-9 and abs(sam_edge(abs(hops[0])) - 1) < 1e-9

# %% [markdown]
# The last number is no accident. With $\eta\lambda = 0.5$, a quarter of the usual edge, the hopping point is *exactly* at the edge of SAM. As $x$ shrinks, so does the gradient, and the edge comes down until it meets λ. On a quadratic the curvature is fixed and the edge
# comes to it. In a network the curvature can move as well. We divide the sharpness by this edge, and show the clipped run of seed 0 beside it.

# %%
own_sam = sam["value"] / sam_edge(sam["length"])
figure, axes = panels(1, 2)
for each, title, chosen, own in zip(
    axes, ("clipping", "SAM"), (clipped, sam), (own_clip, own_sam), strict=True
):
    steps = chosen["step"][0]
    watched(each, {"over 2/η": (steps, chosen["ratio"][0]), "over own edge": (steps, own[0])})
    each.axhline(1, color="black", linewidth=0.8)
    each.set(title=title, ylabel="sharpness / edge")
show(
    figure, "Clipping lies far above 2/η, SAM far below; over the edge of its own step each one sits near 1."
)

# %% [markdown]
# {{claim 7.6}}

# %%
found = [late(own_sam).min(), late(own_sam).max(), late(sam["ratio"]).max()]
claim("7.6", found, holds=lambda m: 0.9 < m[0] <= m[1] < 1.25 and m[2] < 0.75, varies=True)
assert 1 < found[0] <= found[1] < 1.15

# %% [markdown]
# The means lie between 1 and 1.15 (the cell above asserts it): a little above the edge, as in Lesson 07. Six other seeds gave the same. The formula takes $\lVert g\rVert$ for constant from step to step. In a run it is not, so more than a quotient near 1 is not to be expected.
#
# SAM is often told as "it looks for flat minima, since its objective is the worst loss in a ball". The edge tells it without an objective: a step that is unstable earlier, and the more so the closer the run is to a minimum. Whether flatter by this means
# *generalizes* better is the business of Lesson 12.
#
# ## 5. Schedules: who follows whom?
#
# {{claim 7.3}}
#
# "Adapt to changing spectral properties": as if the spectrum changed by itself, and the schedule had to follow. The panel shows the opposite direction at least as well. Look at the sharpness itself.

# %%
figure, axes = panels()
watched(axes, {f"seed {i}": (stepped["step"][i], stepped["value"][i]) for i in range(3)})
threshold(axes, 4, "2/0.5")
threshold(axes, 2, "2/1")
axes.set(ylabel="sharpness")
show(figure, "η doubled at step 350: the sharpness halves in 25 steps. η halved at step 450: it creeps up.")

# %% [markdown]
# Downwards the network follows at once. Above the edge there is an instability, and it grows by a factor a step: a few tens of steps, and $\lambda_{\max}$ is down. Upwards nothing pushes but progressive sharpening, and that is slow, and slower here than it was early in training. The same network
# that went from 1.8 to above 5 in its first 150 steps gains a few tenths in the 175 steps after the drop. So a decay of η late in training leaves the sharpness nearly where it was, *below* the new edge, and this is one reason why the loss gets calm there.
#
# Warmup is the same, from the other side. Without it, all three seeds meet $\eta\lambda_{\max}/2 > 5$ in the first step, and are lost within ten. How long must the ramp be? If the sharpness did not move, the ramp $\eta_t = \eta\,(t+1)/W$ would pass the edge at the first $t$ with $\eta_t\lambda_0 > 2$:

# %%
first = warm["value"][:, 0]
crossing = (400 / (1.2 * first)).astype(int).tolist()
print("first sharpness", first.round(2).tolist(), "  crossing at step", crossing)
assert (warm["value"][:, 1] < 0.8 * first).all() and (warm["ratio"][:, 1] < 1).all()
assert 1.2 * first.min() / 2 > 5

# %% [markdown]
# In fact it comes later, since the sharpness falls already before: by more than a fifth in the first 25 steps, where nothing is unstable yet. (With eight seeds the fall was between 13 and 35 %.) Large first weights do that; `kalra2024` call it a sharpness reduction phase. Then the ramp *pushes*. It
# raises η by 0.006 a step, the sharpness must yield, and it has well over 100 steps to do so. How long is long enough? An earlier trial, with one seed, had a clear answer: 20 steps fail, 100 work. Take eight seeds.


# %%
def survives(seed, ramp):
    net = mlp([64, 32, 32, 32, 10], gain=1.0, rng=seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    for t in range(ramp + 30):
        optimizer.param_groups[0]["lr"] = 1.2 * min(1, (t + 1) / ramp)
        value = backward(net, half_squares, y)
        optimizer.step()
    return value < 1


alive = {ramp: sum(survives(seed, ramp) for seed in range(8)) for ramp in (10, 50, 200)}
print(f"of 8 seeds survive {alive[10]} with a ramp of 10 steps, {alive[200]} with one of 200")
assert alive[10] == 0 < alive[50] < 8 == alive[200]

# %% [markdown]
# A ramp of 10 steps gives the sharpness no time. With 50 steps some are lost and some survive: on our machine three and five. (In a trial beside this lesson one of the eight survived 20 steps, and three were lost with 100.) In between it is a lottery of the first weights. A border found from one seed
# is a border of that seed.

# %%
before, during = stepped["value"][:, 10:14].mean(axis=1), stepped["value"][:, 16:18].mean(axis=1)
jump, creep, flatter = during / before, stepped["value"][:, -1] / during, warm["value"][:, -1] / first
found = [sum(lost[0::2]), max(flatter), max(jump), min(creep), max(creep)]
claim(
    "7.3",
    found,
    holds=lambda m: m[0] == 3 and m[1] < 0.4 and m[2] < 0.65 and 1 < m[3] <= m[4] < 1.5,
    varies=True,
)

# %% [markdown]
# The numbers: runs lost without a ramp (with one, `warm` holds three whole runs); the largest quotient of last and first sharpness under warmup; the largest quotient of the sharpness late in the phase η = 1 and before it; the smallest and the largest quotient of the sharpness at the end and before the drop.
#
# This is what `gilmer2022` and `kalra2024` report from much larger experiments: warmup helps by taking the network to flatter regions that bear the larger step. `kalra2024` add that it depends on the start. A network that starts flat, like ours with `gain=0.5`, sharpens into the edge, and needs no ramp for η = 0.5.
#
# ## 6. Weight decay: what it bounds
#
# {{claim 7.5}}
#
# The decay term $\tfrac{\omega}{2}\lVert\theta\rVert^2$ has the Hessian $\omega I$. So each eigenvalue of the decayed loss is an eigenvalue of the loss plus ω, *at the same weights*. The largest gets larger. What is bounded is the other end: no eigenvalue is below $\lambda_{\min} + \omega$.
# Is the condition number better, then? For a positive semi-definite Hessian, yes: $(\lambda_{\max} + \omega)/(\lambda_{\min} + \omega)$ is finite. For a network it depends.

# %%
small = EmpiricalRisk(mlp([64, 8, 10], gain=0.5, rng=0), half_squares, (X, y))
values = eigvalsh(to_dense(hessian(small, run(small.gradient, small.theta, gd(0.5), 200).points[-1])))
for omega in (0.0, 0.01, 0.05):
    low, high = values[0] + omega, values[-1] + omega
    print(f"ω = {omega}: from {low:.4f} to {high:.3f}, quotient {high / low:.0f}")

# %% [markdown]
# After 200 steps this network of 610 weights has $\lambda_{\min} = -0.0257$. A decay of 0.01 does not repair that, it only makes the negative quotient larger in size. A decay of 0.05 does.
#
# **Adam is another matter.** Its step is divided by P, a diagonal matrix made of the square roots of averaged squared gradients (Lesson 08). Adam with `weight_decay` puts $\omega\theta$ into the gradient, so that it is divided too: the curvature that counts is
# $P^{-1/2}(H + \omega I)P^{-1/2}$, and the shift is $\omega P^{-1}$, another one for each weight. AdamW decays beside the gradient: $P^{-1/2}HP^{-1/2} + \omega I$. To compare, we give three optimizers the same weights and the same P, and look by how many ω each eigenvalue is shifted.

# %%
pair = tuple(torch.tensor(part) for part in two_moons(200, noise=0.1, rng=0))
moons = EmpiricalRisk(mlp([2, 16, 2], rng=0), cross_entropy, pair)
kinds = torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD
adamw, adam, sgd = (kind(moons.model.parameters(), lr=0.01, weight_decay=0.01) for kind in kinds)
for _ in range(20):
    adamw.zero_grad()
    cross_entropy(moons.model(pair[0]), pair[1]).backward()
    adamw.step()
adam.state.update(adamw.state)  # the same P

# %%
shifts = {}
for name, optimizer in (("SGD", sgd), ("Adam", adam), ("AdamW", adamw)):
    matrices = [preconditioned(hessian(moons), optimizer, weight_decay=decay) for decay in (False, True)]
    without, decay = (eigvalsh(to_dense(matrix)) for matrix in matrices)
    shifts[name] = (decay - without) / 0.01
    print(f"{name}: shifted by {shifts[name].min():.2f} to {shifts[name].max():.2f} times ω")

# %% [markdown]
# SGD and AdamW shift by exactly ω, each in its own matrix. Adam shifts by 50 to 790 times ω. "The decay is 0.01" means two very different things. That the two decays are not equivalent is the point of `loshchilov2019` (Loshchilov and Hutter, *Decoupled Weight Decay Regularization*), who proposed AdamW.
#
# All this is at fixed weights. In *training* the weights go elsewhere. Gradient descent with decay has the edge $2/\eta - \omega$ for the loss without its decay. With $\omega = 0.005$ and $2/\eta = 4$ that is a thousandth less, much less than the sharpness swings at its edge: no
# such run can confirm the formula, and ours do not try. What can be seen is the speed. And with cross-entropy something else happens.

# %%
bare, kept = (seeds(200, loss=cross_entropy, decay=omega) for omega in (0.0, 0.01))
strong = train(0, 350, decay=0.03)
print(f"ω = 0.03, one seed: last ratio {strong['ratio'][-1]:.1f}, last loss {strong['loss'][-1]:.1f}")
assert 5 * plain["loss"][0, -1] < strong["loss"][-1] and strong["ratio"].max() < 0.75

# %%
figure, (left, right) = panels(1, 2)
curves = {"ω = 0": plain["ratio"][0], "0.005": decayed["ratio"][0, :14], "0.03": strong["ratio"]}
watched(left, {name: (25 * np.arange(len(curve)), curve) for name, curve in curves.items()})
left.set(title="squared error", ylabel="ηλmax/2")
watched(
    right,
    {name: (run_of["step"][0], run_of["ratio"][0]) for name, run_of in (("ω = 0", bare), ("0.01", kept))},
)
right.set(title="cross-entropy")
show(
    figure,
    "Squares: decay slows the rise, a strong one stops it. Cross-entropy: decay keeps the sharpness up.",
)

# %%
sharper, slower = kept["value"][:, -1] / bare["value"][:, -1], decayed["value"][:, 4] / plain["value"][:, 4]
exact = max(abs(shifts[name] - 1).max() for name in ("SGD", "AdamW"))
found = [exact, shifts["Adam"].min(), min(sharper), max(slower)]
claim("7.5", found, holds=lambda m: m[0] < 1e-9 and m[1] > 10 and m[2] > 3 and m[3] < 0.97)

# %% [markdown]
# The numbers: the largest deviation of the shift from ω for SGD and AdamW, in units of ω; the smallest shift for Adam; the smallest quotient of the sharpness with and without decay, under cross-entropy at the last look, step 175; the largest such quotient at step 100, under the squared error with ω = 0.005.
#
# With cross-entropy, decay makes the end *sharper*, several times, for each seed. Without decay the weights grow for ever, the probabilities become certain, and the curvature vanishes (Lesson 07, Section 6). Decay keeps the weights short, the probabilities uncertain and the curvature alive. `granziol2020`
# reports the same, from logistic regression to wide residual networks, with better generalization. A strong decay, $\omega = 0.03$, does hold the squared error below its edge, at 0.4 of it. The price is in the printed lines: the network no longer fits its data. `saether2026`, a preprint, reports plateaus below $2/\eta$ in MLPs, and sharpening slowed by decay in general.
#
# ## 7. Early stopping: sharp, and overfitted?
#
# A fifth of the labels was replaced by random ones (34 of the 200 are now wrong). To fit those is to overfit, by construction. "Stop before entering sharp regions" says that the sharpness warns you. Does it?

# %%
figure, axes = panels(2, 2, size=(8, 6.5))
pairs = {"squared error": (squares, plain, best[0]), "cross-entropy": (entropy, bare, best[1])}
for column, (title, (wrongly, rightly, looks)) in enumerate(pairs.items()):
    for each, key in zip(axes[:, column], ("new", "value"), strict=True):
        rows = {"wrong labels": wrongly, "clean": rightly}
        watched(each, {name: (run_of["step"][0], run_of[key][0]) for name, run_of in rows.items()})
        each.axvline(25 * looks[0], color="black", linewidth=0.8)
        each.set(title=title, ylabel={"new": "loss on new digits", "value": "sharpness"}[key], ylim=(0, None))
show(
    figure,
    "Past the best stop (upright) the loss on new digits rises; λmax stays at its edge, or falls to 0.",
)

# %% [markdown]
# Left, the squared error. With wrong labels the best loss on new digits comes early, while the sharpness rises to its edge or overshoots it. The sharpness there, on our machine, is between 0.7 and 1.2 times the final one, above it for one seed and below it for two: no clear sign. And look at the clean labels. The sharpness takes the same way to the same edge, and *there the loss on new digits goes on
# falling*, but for one jump as the edge is crossed. The end value is $2/\eta$, in both. It is set by the step size, not by the overfitting. (In an earlier trial, not repeated here, one seed with η = 0.2, the best stop had the sharpness 6.1 and the end 10.1. The note looked right, since a smaller step had moved the end up.)
#
# Right, the cross-entropy. The best moment is near the *top* of the sharpness. Most of the overfitting happens while λmax collapses. (With clean labels it collapses too.) Whoever waits for a sharp region before stopping has waited for the wrong thing: the overfitted end is several times flatter than the best stop.
#
# {{claim 7.4}}
#
# The card: the smallest quotient of the sharpness at the best stop and at the end, under cross-entropy, and the largest under the squared error; how much the loss on new digits rises from its best to the end with wrong labels (smallest of three), and with clean ones (largest); and the largest deviation from 1 of the quotient of the
# late sharpness with wrong and with clean labels, and of the late ratio to $2/\eta$ with wrong ones.

# %%
near = squares["value"][range(3), best[0]] / late(squares["value"])
above = entropy["value"][range(3), best[1]] / late(entropy["value"])
rises = [(run_of["new"][:, -1] / run_of["new"].min(axis=1)) for run_of in (squares, plain)]
same = abs(late(squares["value"]) / late(plain["value"]) - 1).max()

# %%
edge = abs(late(squares["ratio"]) - 1).max()
found = [min(above), max(near), min(rises[0]), max(rises[1]), same, edge]
claim(
    "7.4",
    found,
    holds=lambda m: m[0] > 3 and m[1] < 1.5 and m[2] > 1.1 > m[3] and m[4] < 0.2 and m[5] < 0.25,
    varies=True,
)

# %% [markdown]
# Early stopping works: with wrong labels, the loss on new digits rises by a fifth and more within 400 steps (by 13 to 34 % with six other seeds and other wrong labels), and the best stop would have avoided it. But it works by the loss on *held-out data*. That is the number to watch. The sharpness is neither needed nor reliable.
#
# > **Misconception: "a treatment that lowers λmax has made training more stable".** Stability is the *ratio*, sharpness over the edge of the step that is taken. SAM lowers λmax, and lowers its own edge with it: it trains at the edge, as before. Clipping allows a larger λmax, and raises
# > the edge with it. Under cross-entropy λmax falls by itself, and nothing was done. The first question of the exit ticket is about this.
#
# ## 8. What survives
#
# | advice | its reason in the note | what survives | under which conditions | card |
# |---|---|---|---|---|
# | watch the gradient norm | detects ill-conditioning | nothing of the reason; watch $\eta\lambda_{\max}/2$ and the cosine of successive gradients | – | 7.1 (Lesson 07) |
# | clip gradients | prevents explosion in steep directions | it prevents explosion | it bounds the step in *all* directions alike, and lets the sharpness go beyond $2/\eta$, up to $2/\eta_{\text{eff}}$ | 7.2 |
# | schedule the step | adapts to the spectrum | warm up to a step that the start does not bear | the spectrum follows the step: down in tens of steps, up slowly | 7.3 |
# | stop early | before sharp regions | stop early, by held-out loss | the sharpness at the best stop may be below or far above the final one: it depends on the loss | 7.4 |
# | decay weights | bounds eigenvalues | the lower end, by ω; a slower rise | same weights; SGD and AdamW, not Adam. No bound from above: with cross-entropy the end is sharper | 7.5 |
# | SAM (not in the note) | – | it lowers the edge, and the sharpness with it | the edge depends on the gradient; at a minimum it does not rest | 7.6 |
#
# All of it was measured with full batches, one network, 200 images, and three seeds (one for ω = 0.03). Noise changes the edge (Lesson 11), adaptive steps change it (Lesson 08). What should carry over is the question: *which step is really taken, and where is its edge?*
#
# ## What to take away
#
# 1. An intervention moves the edge, changes the loss, or stops the clock. Under the squared error, sharpness and edge of the step that is taken then meet, if they have the time and the decay is small; under cross-entropy the sharpness falls away.
# 2. Down it follows within tens of steps, up it creeps. That is why warmup works, and why a late drop of η leaves the network below its edge.
# 3. Advice can survive its reason. Clip, warm up, decay, stop early: yes. Because of "sharp regions": rarely.
#
# ## Exit ticket
#
# Replace each `None` by the number of your answer, and run the cell.

# %%
c, w = int(late(clipped["ratio"]).min() > 2), int(abs(late(warm["ratio"]) - 1).max() < 0.25)
s, d = int(max(jump) < 0.65 and max(creep) < 1.5), int(max(slower) < 0.97)
a, e = int(late(sam["ratio"]).max() < 0.75), int(min(above) > 3)

# %%
ticket(
    TICKET,
    answers=[None, None, None],
    outcomes={"clip": c, "warmup": w, "schedule": s, "decay": d, "sam": a, "stop": e},
)

# %% [markdown]
# ## In practice: your own model
#
# - Log the length of the gradient *before* clipping, and the share of clipped steps. If nearly all are clipped, your step size is $c$, not η, and a ratio to $2/\eta$ says nothing. Use the effective step.
# - Choose the warmup from a measurement: the sharpness at the start over the edge of the target step. Below 1 you need none, by this measure. Far above it, give the network time, and try more than one seed.
# - After a drop of η expect the ratio to fall at once and to creep up. A low ratio after a drop is no sign that the sharpness fell.
# - Say which decay you use. `Adam(weight_decay=…)` and `AdamW(weight_decay=…)` with the same number are different treatments.
# - Stop by held-out loss.
#
# ## Further reading
#
# - `gilmer2022` (Gilmer and others, *A Loss Curvature Perspective on Training Instabilities of Deep Learning Models*, 2022): initialization, architecture, warmup and clipping, seen by the Hessian, on many tasks.
# - `kalra2024` (Kalra and Barkeshli, *Why Warmup the Learning Rate?*, 2024): when warmup works against the sharpness, and when with it; Adam too.
# - `long2023` (Long and Bartlett, *Sharpness-Aware Minimization and the Edge of Stability*, 2023): an edge of SAM that depends on the gradient, and three tasks that train at it.
# - `zhang2020clip` (Zhang and others, *Why Gradient Clipping Accelerates Training*, 2020): a smoothness that grows with the gradient, and what clipping gains from it.
# - `arora2022`: normalized gradient descent at the edge, with proofs.
