# %% [markdown]
# {{header}}

# %%
from copy import deepcopy

import numpy as np
import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from hesslab.checks.lesson_13 import TICKET
from hesslab.course import claim, predict, start, ticket
from hesslab.curvature import hessian
from hesslab.data import digits, mnist1d
from hesslab.lanczos import eigsh
from hesslab.landscape import barrier, bezier_path, match_permutation, slice_1d, slice_2d
from hesslab.plots import panels, plane, show
from hesslab.risk import EmpiricalRisk, mlp

start()

# %% [markdown]
# ## 1. Two networks, one line
#
# Train the same architecture twice, from other first weights. You get two points $\theta_a$ and $\theta_b$, both with a small loss. **What lies between them?** The shortest way to ask is the straight line $(1-t)\,\theta_a + t\,\theta_b$: the two
# networks mixed, weight by weight. The question is a practical one, too. Who averages checkpoints, or merges two models into one, stands in the middle of such a line. And it is a question about curvature: a barrier is what the curvature on the way adds up to, and the note
# says that the Hessian characterizes it. Which Hessian, and where? Section 6 looks at that.
#
# The data are 1200 digits to train on; the other 597 are new. The network has two hidden layers of 64 ReLU units, 8970 weights. Adam trains it for 500 steps with batches of 64. We make three networks, and so have three pairs.

# %%
images, labels = (torch.tensor(part) for part in digits(rng=0))
seen, new = (images[:1200], labels[:1200]), (images[1200:], labels[1200:])
PAIRS = ((0, 1), (1, 2), (2, 0))


def network(width, seed, inputs=64, activation="relu"):
    return mlp([inputs, width, width, 10], activation=activation, gain=2**0.5, rng=seed)


def train(net, data, steps, order, rate=2e-3):
    adam, rng = torch.optim.Adam(net.parameters(), lr=rate, fused=True), np.random.default_rng(order)
    for batch in torch.tensor(rng.integers(0, len(data[0]), (steps, 64))):
        adam.zero_grad()
        cross_entropy(net(data[0][batch]), data[1][batch]).backward()
        adam.step()
    return EmpiricalRisk(net, cross_entropy, data).theta


# %%
def error_rate(outputs, y):
    return (outputs.argmax(1) != y).double().mean()


risk = EmpiricalRisk(network(64, 0), cross_entropy, seen)
mistakes = EmpiricalRisk(risk.model, error_rate, new)
a, b, c = thetas = [train(network(64, seed), seen, 500, [seed, 1]) for seed in range(3)]

# %%
straight = barrier(risk, a, b)
print(f"{straight}; length {(b - a).norm():.1f}")
for name, theta in (("a", a), ("b", b), ("middle", (a + b) / 2)):
    print(f"{name}: loss {risk.value(theta):.4f}, errors on new digits {mistakes.value(theta):.3f}")

# %% [markdown]
# Both ends are good. In the middle the loss is hundreds of times larger. This bump is called the **barrier**, and its definition needs one line of care. The two ends need not have the same loss. So we compare with the straight line between their losses, the *linear baseline*:
#
# $$B(\theta_a, \theta_b) \;=\; \max_{0\le t\le 1}\; \Big[ L\big((1-t)\theta_a + t\,\theta_b\big) - (1-t)\,L(\theta_a) - t\,L(\theta_b) \Big] .$$
#
# At the ends the bracket is 0, so $B \ge 0$. A loss is convex exactly if $B = 0$ for every two points: that is the definition of convexity. Others subtract the mean of the two end losses (`frankle2020`), or the larger one. For ends as alike as ours it hardly matters; below we will meet ends where it does.
#
# A grid of $t$ can miss the top. `barrier` looks at 21 places, then eight times where the top may be hiding, and says by how much it may still be too low: the number after "up to". The bound is not a theorem. It assumes that between two places the curve bends at most twice as much as at them.
#
# ## 2. One network, many addresses
#
# Before we call the two networks separate, look at what a point $\theta$ is. The unit number 7 of a hidden layer has no meaning: exchange it with unit 12, its incoming weights, its bias and its outgoing weights together, and every output stays. In a ReLU network you may
# also multiply all that comes into a unit by α > 0 and divide all that goes out by α. Both changes move $\theta$, often far, and leave the function alone.
#
# Reordering both hidden layers gives $64!\cdot 64!$ addresses of one and the same network.


# %%
def flat(*parts):
    return torch.cat([part.reshape(-1) for part in parts])


def shuffled(theta, seed):
    W1, b1, W2, b2, W3, b3 = risk.unflatten(theta).values()
    p, q = (torch.tensor(np.random.default_rng([seed, i]).permutation(64)) for i in range(2))
    return flat(W1[p], b1[p], W2[q][:, p], b2[q], W3[:, q], b3)


def outputs(theta):
    return functional_call(risk.model, risk.unflatten(theta), seen[0]).detach()


twin = shuffled(b, 0)
assert abs(outputs(twin) - outputs(b)).max() < 1e-9
print(f"all outputs agree; distance {(twin - b).norm():.1f}, length of θ {b.norm():.1f}")

# %%
question = "A network and its own shuffled twin, the same function. Between them the barrier is"
choices = ["zero: the same network", "lower than between strangers", "about as high, or higher"]
predict("twin", question, choices, answer=None)


# %%
def row(values, decimals=3):
    return "  ".join(f"{value:.{decimals}f}" for value in values)


across = [barrier(risk, thetas[i], thetas[j]) for i, j in PAIRS]
strangers = [found.height for found in across]
selves = [barrier(risk, theta, shuffled(theta, seed)).height for seed, theta in enumerate(thetas)]
print(f"two networks: {row(strangers)};  a network and its twin: {row(selves)}")

# %% [markdown]
# The barrier from a network to *itself* is about as high as that to a stranger. So a barrier on the straight line is no evidence that two networks differ. Mostly it says that their units stand in another order. Mixing unit 7 of the one with unit 7 of the other mixes two things that have
# nothing to do with each other.
#
# The Hessian is shuffled along. If $P$ is the matrix of the reordering, $L(P\theta) = L(\theta)$ for all θ gives $H(P\theta) = P\,H(\theta)\,P^\top$: **all eigenvalues are the same**. `shuffled` is linear, so it can act on any vector, and the identity can be tested with one product.

# %%
v = torch.tensor(np.random.default_rng(1).standard_normal(len(b)))
moved = shuffled(hessian(risk, b) @ v, 0)
off = float((hessian(risk, twin) @ shuffled(v, 0) - moved).norm() / moved.norm())
top = [eigsh(hessian(risk, theta), 1, rtol=1e-3, rng=0).values[0] for theta in (b, twin)]
print(f"λmax at b and at its twin: {row(top)}; the products agree: {off < 1e-9}")

# %% [markdown]
# Keep this in mind for Section 6. Whatever you read off the two spectra, from $\theta_b$ and from its twins you read the same.
#
# ## 3. Give the units the same order
#
# So before mixing, sort. Find the order of the units of $b$ in which they are most like those of $a$. For one layer, make a table $S$ whose entry $S_{ij}$ says how alike unit $i$ of $a$ and unit $j$ of $b$ are, and look for the permutation
#
# $$p \quad\text{with the largest}\quad \sum_i S_{i\,p(i)} .$$
#
# This is the *linear assignment problem*: who does which job. There are $64!$ candidates, but it is solved exactly in $O(64^3)$ operations; SciPy has it as `linear_sum_assignment`. Two choices of $S$ are usual.
#
# - **Activations** (`li2016`): $S_{ij}$ is the correlation, over the data, of what unit $i$ of $a$ and unit $j$ of $b$ say. Each layer is sorted alone.
# - **Weights** (`ainsworth2023`): $S$ is such that the sum is $\langle\theta_a, P\theta_b\rangle$. Since $\lVert P\theta_b\rVert$ is fixed, this makes the distance of $\theta_a$ and $P\theta_b$ as small as it can. No data are needed, but the best order of one layer depends on that of
#   the next, so the layers take turns. The result is the best for each layer, the others held. It need not be the best of all.

# %%
question = "Units sorted, the barrier between two independently trained networks becomes"
choices = ["about the same", "several times lower, not zero", "zero"]
predict("match", question, choices, answer=None)


# %%
def in_order(risk, x, y, method="activations"):
    return match_permutation(risk, x, y, method=method).theta


def barriers(thetas, risk):
    found = []
    for i, j in PAIRS:
        sorts = [in_order(risk, thetas[i], thetas[j], method) for method in ("weights", "activations")]
        found.append([barrier(risk, thetas[i], end, num_points=11).height for end in (thetas[j], *sorts)])
    return np.array(found)


# %%
heights = barriers(thetas, risk)
for name, column in zip(("as they are", "by weights", "by activations"), heights.T, strict=True):
    print(f"{name:15}", row(column))
print(f"the twin, sorted: distance {(in_order(risk, b, twin) - b).norm():.1f}")

# %% [markdown]
# For all three pairs the barrier falls by a factor between 4 and 14, and activations do better than weights. The twin is found exactly.
#
# But zero it is not. With activations the bump is still 18 times the loss of the ends, or more. On what does that depend? Try other widths, with all else the same.

# %%
widths = {64: heights}
for width in (16, 128):
    points = [train(network(width, seed), seen, 500, [seed, 1]) for seed in range(3)]
    widths[width] = barriers(points, EmpiricalRisk(network(width, 0), cross_entropy, seen))
for width in (16, 64, 128):
    print(f"width {width:3}: medians", row(np.median(widths[width], axis=0)))

# %% [markdown]
# Read each row: as they are, sorted by weights, sorted by activations. The sorted barrier falls with the width, from about 0.3 to about 0.04. That is what `entezari2022` and `ainsworth2023` report: sorting works better for wide networks. (Our narrow networks have
# a larger loss at the ends too, so width is not all that differs.)
#
# {{claim 3.3d}}
#
# The card: the smallest factor by which sorting by activations lowers the barrier at width 64, the largest sorted barrier at width 16, 64 and 128, and the smallest sorted barrier at width 64 over the larger loss of its ends.

# %%
ends = np.array([risk.value(theta) for theta in thetas])
falls, largest = (heights[:, 0] / heights[:, 2]).min(), [widths[w][:, 2].max() for w in (16, 64, 128)]
found = [falls, *largest, heights[:, 2].min() / ends.max()]
claim("3.3d", found, holds=lambda m: m[0] > 5 and m[1] > 2 * m[2] > 3 * m[3] and m[4] > 5)

# %% [markdown]
# Where the sentence fails: give $b$ another address of the *other* kind. Multiply what comes into the first hidden layer by α, divide what goes out. The function is the same. But sorting cannot undo a rescaling.


# %%
def stretched(theta, alpha):
    W1, b1, W2, *rest = risk.unflatten(theta).values()
    return flat(alpha * W1, alpha * b1, W2 / alpha, *rest)


scaled = [barrier(risk, a, in_order(risk, a, stretched(b, alpha))).height for alpha in (1, 2, 4, 8)]
print("α = 1, 2, 4, 8: sorted barrier", row(scaled))
assert scaled[3] > 5 * scaled[0]

# %% [markdown]
# The same two functions, and the bump is back. "Modulo permutation" means modulo permutation only. That it helps trained networks as they are is owed, presumably, to training that starts from like scales and leaves them alike.
#
# ## 4. Around, not across
#
# Why walk straight? Between two valleys that are joined around a hill, the straight line goes over the hill. So bend the line. A quadratic **Bézier curve** has its two ends and one more point, the control point $c$, towards which it is pulled:
#
# $$\theta(t) = (1-t)^2\,\theta_a + 2t(1-t)\,c + t^2\,\theta_b, \qquad \theta'(0) = 2\,(c - \theta_a).$$
#
# Only $c$ is trained: draw a $t$, draw a batch, take a step of Adam on the loss at $\theta(t)$ (`garipov2018`, Section 3). Here $c$ starts in the middle of the straight line, where the loss is high, and takes 400 steps.

# %%
question = "The largest loss on the trained curve, over that of the worse end, is"
choices = ["about 1", "about 10", "about 100"]
predict("curve", question, choices, answer=None)

# %%
curves = [bezier_path(risk, thetas[i], thetas[j], batch_size=128, rng=0) for i, j in PAIRS]
for (i, j), curve in zip(PAIRS, curves, strict=True):
    most = curve.barrier.max_loss + curve.barrier.error
    print(f"ends {ends[i]:.4f}, {ends[j]:.4f}; the curve is never above {most:.4f}")

# %%
goals = {"straight": b, "by weights": in_order(risk, a, b, "weights"), "by activations": in_order(risk, a, b)}
t = np.linspace(0, 1, 21)
figure, axes = panels(1, 2)
for each, judge, label in zip(
    axes, (risk, mistakes), ("loss, 1200 digits", "errors, new digits"), strict=True
):
    for name, end in goals.items():
        each.plot(t, [judge.value((1 - r) * a + r * end) for r in t], label=name)
    each.plot(t, [judge.value(curves[0].point(r)) for r in t], label="Bézier")
    each.set(xlabel="t", ylabel=label)
axes[0].set(yscale="log")
axes[1].set(ylim=(-0.02, 0.65))
axes[1].legend(ncols=2, loc="upper center")
show(
    figure, "The straight line rises to a loss of 1, sorted lines to 0.1; the Bézier curve stays below 0.004."
)

# %% [markdown]
# The hill is gone. On the curve the loss is nowhere more than a quarter above that of the worse end, and on new digits the errors stay where they were, to within one in a hundred. In its middle the curve is even *below* its ends. That is no wonder: its middle was trained for 400 steps more.
#
# {{claim 3.3c}}
#
# The card, over three pairs: the largest loss on a curve (with what its grid may have missed) over that of the worse end, and the largest error rate on new digits over any of 21 points of a curve, less that of the worse end. For comparison the smallest straight barrier, over the larger end loss.

# %%
both, rates = np.array(PAIRS), np.array([mistakes.value(theta) for theta in thetas])
climbs = [w.barrier.max_loss + w.barrier.error for w in curves] / ends[both].max(axis=1)
extra = [max(mistakes.value(w.point(r)) for r in t) for w in curves] - rates[both].max(axis=1)
found = [max(climbs), max(extra), min(strangers) / max(ends)]
claim("3.3c", found, holds=lambda m: m[0] < 1.3 and m[1] < 0.01 and m[2] > 100)

# %% [markdown]
# **Must the minima be flat?** Use the rescaling. For α from 1 to 8 the points `stretched(b, α)` form a path on which the loss does not move at all. Along it the largest eigenvalue grows.

# %%
for alpha in (1, 8):
    end = stretched(b, alpha)
    largest = eigsh(hessian(risk, end), 1, rtol=1e-3, rng=0).values[0]
    print(f"α = {alpha}: loss {risk.value(end):.4f}, λmax {largest:.2f}")

# %% [markdown]
# A flat network and one 18 times as sharp, connected without the slightest climb. Flatness is not what connects them.
#
# Now something harder: 1000 examples of mnist1d, width 32, 600 steps with a larger rate. These networks do not get to the bottom; their losses are about 0.4. (We need them again in Section 7.)

# %%
hard = tuple(torch.tensor(part) for part in mnist1d(1000))
narrow = EmpiricalRisk(network(32, 0, inputs=40), cross_entropy, hard)


def grown(seed, shared, order):
    net = network(32, seed, inputs=40)
    train(net, hard, shared, [seed, 0], rate=5e-3)
    return [train(deepcopy(net), hard, 600 - shared, [seed, o], rate=5e-3) for o in order]


families = [grown(seed, 0, (1, 2)) for seed in range(3)]
firsts = [family[0] for family in families]
tried = barriers(firsts, narrow)
bent = [bezier_path(narrow, firsts[i], firsts[j], batch_size=128, rng=0).barrier for i, j in PAIRS]
for name, column in zip(("as they are", "by weights", "by activations"), tried.T, strict=True):
    print(f"{name:15}", row(column, 2))
print("Bézier, above the worse end:", row((path.over_max for path in bent), 2))
assert (tried[:, 1:] > 0.5 * tried[:, :1]).all()

# %% [markdown]
# The recipe that worked fails. Sorting takes away less than half, and the curve climbs by about a half. It is tempting to write "these minima are not connected". But what was found is *one curve of one family after 400 steps*. The twins of an end are as good as the end. So sort first, then bend, with four times the rate and twice the steps.


# %%
def search(x, y):
    y = in_order(narrow, x, y)
    return bezier_path(narrow, x, y, lr=2e-2, batch_size=128, num_steps=800, rng=0).barrier


longer = [search(firsts[i], firsts[j]) for i, j in PAIRS]
print("sorted, then bent: above the worse end by", row(path.over_max for path in longer))

# %% [markdown]
# No climb is left, for any of the three. A path proves that there is one; **a bump on a path that you found proves nothing but the bump.** For still narrower networks (width 16, 2000 steps of training, two pairs) we found no such path: sorted, and with 6000 steps at the first rate, a climb of about 0.2 remained. Whether another curve
# would do better we do not know.
# {{claim 3.3a}}
#
# The card: the smallest straight barrier between digits networks; the largest climb of their curves above the worse end; the smallest such climb for the narrow networks after 400 steps, and the largest after sorting and 800; the quotient of the largest eigenvalues at the two ends of the path of constant loss.

# %%
sharp = largest / top[0]
digits_climb, before = max(w.barrier.over_max for w in curves), min(w.over_max for w in bent)
found = [min(strangers), digits_climb, before, max(w.over_max for w in longer), sharp]
claim("3.3a", found, holds=lambda m: m[0] > 0.5 and m[1] < 0.001 and m[2] > 0.3 > 30 * m[3] and m[4] > 5)

# %% [markdown]
# ## 5. What a picture hides
#
# A plane through three points shows the loss in two directions out of 8970. Which two is up to whoever draws. Here are two planes that **both contain $a$ and $b$**. The left one goes through the third network $c$. The right one goes through the control point of the curve, and so contains the whole curve: in coordinates
# with $a$ at (0, 0), $b$ at (1, 0) and the control point at (0, 1), its points are $\big(t^2,\, 2t(1-t)\big)$.

# %%
few = EmpiricalRisk(risk.model, cross_entropy, (seen[0][:300], seen[1][:300]))
grid, corners = np.linspace(-0.3, 1.3, 23), {"third network": c, "control point": curves[0].control}
sheets = [slice_2d(few, b - a, corner - a, grid, grid, theta=a).values for corner in corners.values()]

# %%
figure, axes = panels(1, 2, size=(8, 4))
for each, name, sheet in zip(axes, corners, sheets, strict=True):
    plane(each, grid, grid, sheet, levels=[0.01, 0.1, 0.5, 1, 4])
    each.plot([0, 1], [0, 0], "k--")
    each.set(title=f"a, b and the {name}")
    for label, u, v in (("a", 0, 0), ("b", 1, 0), (name, 0, 1)):
        each.plot(u, v, "ko")
        each.text(u, v - 0.14, label)
axes[1].plot(t**2, 2 * t * (1 - t), "k-", linewidth=2.5)
show(
    figure, "The same a and b: islands in the plane through a third network, one valley in that of the curve."
)

# %% [markdown]
# Left: three islands in a sea of high loss; "obviously" three separate minima. Right: the same $a$ at (0, 0), the same $b$ at (1, 0), the same straight dashed line over the same hill, and around it a valley. A plane in which two points lie apart shows that they lie apart *in this plane*. (`garipov2018` open their paper with such a pair
# of pictures.)
#
# Slices along a line mislead in two more ways. **A random direction** sees, on average, the mean of the eigenvalues, and practically never the largest. And **the length of a direction** means nothing as long as weights can be rescaled: `stretched(a, 4)` is the same function, but the same step is another one there. Filter normalization gives each row of the direction the length of the same row of the weights, and
# leaves out the biases (`li2018vis`).

# %%
u = torch.tensor(np.random.default_rng(7).standard_normal(len(a)))
Ha, u = hessian(risk, a), u / u.norm()
sharpest = eigsh(Ha, 1, rtol=1e-3, rng=0).values[0]
print(f"curvature along u: {1e4 * (u @ (Ha @ u)):.1f}e-4; largest: {sharpest:.3f}")
for name, kind, length in (("5u as it is", None, 5.0), ("u normalized", "filter", 1.0)):
    cut = [slice_1d(risk, length * u, [1.0], theta=x, normalize=kind).values[0] for x in (a, stretched(a, 4))]
    print(f"{name}: loss {cut[0]:.4f} there; from the stretched a {cut[1]:.4f}")

# %% [markdown]
# The first line: along a random direction the network looks about a thousand times flatter than along its sharpest one. The second: the stretched network "looks" much sharper. The third: normalized, the two cuts agree, since rescaling whole layers cancels. Rescaling single units does not cancel, and no normalization makes a
# random direction look at the hill towards $b$.
#
# ## 6. What the ends know
#
# Now the Hessian. "… with the Hessian spectrum characterizing these connections": what could that mean? Stand at $\theta_a$. Towards another point, along $d$, the curvature per unit length is the Rayleigh quotient $d^\top H d / d^\top d$ (Lesson 01). We compare three ways to leave: straight to $b$, straight to the sorted $b$, and along the
# tangent of the curve.


# %%
quotients = []
for (i, j), curve in zip(PAIRS, curves, strict=True):
    x, H = thetas[i], hessian(risk, thetas[i])
    ways = [end - x for end in (thetas[j], in_order(risk, x, thetas[j]), curve.control)]
    quotients.append([1e4 * float(d @ (H @ d) / (d @ d)) for d in ways])
    print("straight, sorted, along the curve, in 1e-4:", row(quotients[-1], 1))
assert (np.diff(quotients, axis=1) < 0).all()

# %% [markdown]
# Each row is a pair. (Along the random direction of Section 5 the same unit gives 5.4.) The order is right, three times of three: where the way is good, the curvature at its beginning is small. On a path of exactly constant loss that begins where the gradient is zero, the quotient along the tangent is exactly zero (differentiate twice). So flat directions are *necessary* for flat paths. Are they sufficient? Make the prediction a number.
#
# With the gradient $g$ and the Hessian at $a$, the loss along $d = \theta_b - \theta_a$ is predicted as $L_a + t\,g^\top d + \tfrac{t^2}{2}d^\top H d$. One such parabola bends upwards for ever and has no barrier. So take one from each end, and where they meet, change over: the lower of the two.

# %%
question = "Two parabolas, one from each end. Their prediction of the straight barrier is"
choices = ["right within 30 %", "at least five times too low", "at least five times too high"]
predict("ends", question, choices, answer=None)


# %%
def from_ends(x, y):
    there, back = (slice_1d(risk, q - p, t, theta=p, H=hessian(risk, p)) for p, q in ((x, y), (y, x)))
    lower = np.minimum(there.quadratic, back.quadratic[::-1])
    return there.values, lower, (lower - (1 - t) * lower[0] - t * lower[-1]).max()


ends_of = [((thetas[i], thetas[j]), (thetas[i], in_order(risk, thetas[i], thetas[j]))) for i, j in PAIRS]
predicted = np.array([[from_ends(*line)[2] for line in lines] for lines in ends_of])
too_low = heights[:, [0, 2]] / predicted
print(f"measured over predicted: straight {row(too_low[:, 0], 1)}; sorted {row(too_low[:, 1], 1)}")
figure, axes = panels(1, 2)
for each, line, title in zip(axes, ends_of[0], ("straight", "sorted"), strict=True):
    values, lower, _ = from_ends(*line)
    each.plot(t, values, label="loss")
    each.plot(t, lower, label="two parabolas")
    each.set(title=title, xlabel="t", ylabel="loss")
each.legend(loc="lower center")
show(
    figure, "Straight: the loss rises to 1, two parabolas to 0.13. Sorted: 0.08 against 0.05, the right size."
)

# %% [markdown]
# On the straight line the prediction is six to eight times too low, for each pair. (A quadratic model belongs to a neighbourhood, said Lesson 01.) On the sorted line it is too low by less than a factor of two: the barrier there is small, and the quadratic model still means something where the parabolas meet. **The ends are fair judges of a small barrier, and poor ones of a large.**
# The quotients at the ends are tiny, and the distance is 25.8: squared, and divided by 8, even a tiny curvature makes a visible bump, and what the third and fourth derivatives make of that distance, the ends cannot say.
#
# > **Misconception: "flat ends, hence a flat path; a barrier, hence separate minima".** The first is the last figure: flatness is a statement about a neighbourhood, and $b$ is not in the neighbourhood of $a$. The second is Section 2: a network has a barrier to its own twin, to which it is connected by a curve as well.
# > The exit ticket asks for both.
#
# And the *spectrum* knows less than the quotients. $\theta_b$ and the sorted $\theta_b$ have the same eigenvalues, all 8970 of them, and so has the twin. Their barriers to $a$ differ by a factor of more than ten. No function of the spectra at the two ends, however clever, can give both.
#
# Is there nothing exact? There is. Put $\varphi(t) = L\big((1-t)\theta_a + t\theta_b\big)$, so that $\varphi''(s) = d^\top H(\theta(s))\,d$. Integrate twice, with both ends held:
#
# $$\varphi(t) - (1-t)\,\varphi(0) - t\,\varphi(1) \;=\; -\int_0^1 G(t, s)\; d^\top H(\theta(s))\,d\;\, ds, \qquad G(t,s) = \min(t,s)\,\big(1 - \max(t,s)\big) .$$
#
# So the Hessians *all along the line*, in the one direction $d$, give the barrier exactly, if the loss is twice continuously differentiable. A tanh network qualifies.


# %%
def from_curvature(risk, x, y, where, cells=20):
    s, d = np.linspace(0, 1, cells + 1), y - x
    bends = np.array([float(d @ (hessian(risk, x + float(r) * d) @ d)) for r in s])
    return -(np.minimum(s, where) * (1 - np.maximum(s, where)) * bends).sum() / cells


smooth = EmpiricalRisk(network(64, 0, activation="tanh"), cross_entropy, seen)
pair = [train(network(64, seed, activation="tanh"), seen, 500, [seed, 1]) for seed in range(2)]
over = barrier(smooth, *pair)
exact = from_curvature(smooth, *pair, over.where) / over.height
lines = [(risk, thetas[i], thetas[j], found.where) for (i, j), found in zip(PAIRS, across, strict=True)]
shares = [from_curvature(*line) / found.height for line, found in zip(lines, across, strict=True)]
print(f"curvature along the line gives, for tanh, {exact:.2f} of the barrier; for ReLU {row(shares, 2)}")

# %% [markdown]
# For tanh all of it, up to the error of a sum with 21 terms. For ReLU only a half to three quarters. The rest sits in the kinks, where a unit switches and the slope jumps. The automatic Hessian of a ReLU network leaves the jumps out (Lesson 01), everywhere along the line. So here even *all* Hessians on the way do not know the barrier.
#
# {{claim 3.3b}}
#
# The card: how far $H(P\theta)P v$ is from $PH(\theta)v$; the smallest quotient of straight and sorted barrier, of two ends with the same spectrum; the smallest quotient of measured and predicted straight barrier, the largest for sorted ones; the share of the barrier that curvature along the line gives for tanh, and the largest for ReLU.

# %%
found = [off, falls, too_low[:, 0].min(), too_low[:, 1].max(), exact, max(shares)]
claim(
    "3.3b",
    found,
    holds=lambda m: (
        m[0] < 1e-9 and m[1] > 5 and m[2] > 4 and m[3] < 2 and abs(m[4] - 1) < 0.02 and m[5] < 0.9
    ),
)

# %% [markdown]
# ## 7. Children of one ancestor
#
# There is one more way to have no barrier: be siblings. Train a network for $k$ steps. Copy it. Train the two copies on, with other batches, to the end. `frankle2020` call a network *stable* after $k$ steps if such children have no barrier between them. On the hard data we keep the number of steps, 600, and vary the $k$ that are shared.
# (After the split each child begins with a fresh Adam. And they measure error rates; we stay with the loss.)

# %%
question = "mnist1d, width 32: the children of one untrained network (k = 0) have, to each other,"
choices = ["no barrier", "about a tenth of the barrier of strangers", "the barrier of strangers"]
predict("kin", question, choices, answer=None)

# %%
kin = {0: families} | {k: [grown(seed, k, (1, 2)) for seed in range(3)] for k in (100, 200)}
between = {k: [barrier(narrow, *pair).height for pair in pairs] for k, pairs in kin.items()}
for k, found in {"strangers": tried[:, 0], **between}.items():
    print(f"{k:>9}: {row(found)}")

# %%
siblings = [train(network(64, seed), seen, 500, [seed, 2]) for seed in range(3)]
digit_kin = [barrier(risk, *pair).height for pair in zip(thetas, siblings, strict=True)]
orders = [order for pair in families for order in match_permutation(narrow, *pair).permutations]
kept = np.mean([order == np.arange(32) for order in orders])
print(
    f"digits, k = 0: {row(digit_kin, 4)}; mnist1d, k = 0: {kept:.0%} of the units stay when sorted by weights"
)

# %% [markdown]
# Each row has three seeds, or three pairs. On mnist1d the barrier between children is lower after 100 shared steps, and after 200 of 600 it is gone. On digits it is below 0.001 from the very first step. Strangers, on either data, have a barrier at least eight times that of children of an untrained network.
#
# Why? The last line tells. Common first weights give the units *names*, and training does not exchange them: between siblings there is nothing to sort. That is one reason why strangers are far apart and siblings are not. It is not all: at $k = 0$ the units are sorted, and a barrier is left. What the shared steps decide beyond the names, the sorting does not see.
#
# {{claim 3.3e}}
#
# The card: the largest barrier between children of an untrained network on digits; the smallest on mnist1d, the largest there after 0, 100 and 200 shared steps; the smallest between strangers on mnist1d.

# %%
later = [max(between[k]) for k in (0, 100, 200)]
found = [max(digit_kin), min(between[0]), *later, min(tried[:, 0])]
claim(
    "3.3e", found, holds=lambda m: m[0] < 0.001 < 0.1 < m[1] > 2 * m[3] and m[4] < 0.005 and m[5] > 5 * m[2]
)

# %% [markdown]
# ## 8. What survives
#
# | sentence | what survives | where it fails |
# |---|---|---|
# | minima are connected by low-loss paths | curves found for three pairs of three, wide enough for their data | narrow networks: not in the same budget; sorted, and with twice the steps, found |
# | *flat* minima are | the word can go: a path of constant loss leads to a sharp one | – |
# | the Hessian spectrum characterizes it | nothing of the spectrum; quotients at the ends rank the ways | large barriers; kinks |
# | sorted, there is no barrier | several times lower, the more so the wider | never zero here; rescaled twins |
# | training becomes stable early | digits from the first step, mnist1d after a third | – |
#
# Two data sets, multilayer perceptrons, Adam, three seeds. `sharma2024` show that sorting pairs is weaker than it sounds: one order that serves several pairs at once is a stronger demand.
#
# ## What to take away
#
# 1. A barrier belongs to a *path*. On the straight line it mostly measures how differently the units are ordered.
# 2. A low path, once found, is a proof. A bump is none: sort, bend, and search for longer before you say "separate".
# 3. The Hessian at the ends judges the first steps of a way. The spectrum there does not even know which twin it belongs to.
#
# ## Exit ticket
#
# Replace each `None` by the number of your answer, and run the cell.

# %%
tw = 2 if min(selves) >= 0.8 * min(strangers) else 1
ma = int(heights[:, 2].min() > 5 * ends.max() and falls > 3)
cu, en = int(max(climbs) > 3), int(too_low[:, 0].min() > 5)
ki = 1 if max(between[0]) < 0.15 * min(tried[:, 0]) else 2
ticket(
    TICKET,
    answers=[None, None, None],
    outcomes={"twin": tw, "match": ma, "curve": cu, "ends": en, "kin": ki},
)

# %% [markdown]
# ## In practice: your own model
#
# - Averaging two checkpoints? Measure `barrier` first, on the data you care about, with the baseline. Fine-tuned children of one checkpoint are the good case; strangers are not.
# - BatchNorm: a point between two networks has the running statistics of neither. Compute them anew at each point (train mode, or a pass over the data), or you measure a barrier of the statistics.
# - For strangers sort first. `match_permutation` takes chains of linear layers; for convolutions and residual blocks the same idea needs a map of which axes share an order, as the code of `ainsworth2023` has.
# - Report the budget with the verdict: "no path found in 400 steps of this curve".
# - Under a picture of a loss surface write which directions it shows, how long they are, and who chose them.
#
# ## Further reading
#
# - `garipov2018` (Garipov and others, *Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs*, 2018) and `draxler2018` (Draxler and others, *Essentially No Barriers in Neural Network Energy Landscape*, 2018): the curves, found independently, on large networks.
# - `frankle2020` (Frankle and others, *Linear Mode Connectivity and the Lottery Ticket Hypothesis*, 2020): Section 7 at scale.
# - `entezari2022`, `ainsworth2023`: the conjecture and the algorithms of Section 3. The second gives a counterexample to the single basin too.
# - `li2016` (Li and others, *Convergent Learning*, 2016): matching units by what they say, before anybody interpolated.
# - `li2018vis` (Li and others, *Visualizing the Loss Landscape of Neural Nets*, 2018): filter normalization.
