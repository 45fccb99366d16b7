# %% [markdown]
# {{header}}

# %%
import numpy as np
import torch
from numpy.linalg import eigvalsh, norm
from torch.nn.functional import cross_entropy, one_hot

from hesslab.checks.lesson_07 import TICKET
from hesslab.course import claim, predict, start, ticket
from hesslab.curvature import hessian
from hesslab.data import digits
from hesslab.dynamics import gd, run
from hesslab.operators import to_dense
from hesslab.plots import panels, show, threshold, watched
from hesslab.risk import EmpiricalRisk, mlp
from hesslab.stability import Tracker, effective_sharpness

start()

# %% [markdown]
# ## 1. Watch the sharpness while you train
#
# On a convex quadratic that has a minimum, gradient descent with the step size η converges from every start if and only if $\lambda_{\max} < 2/\eta$ (Lesson 02). There the Hessian is
# the same everywhere. In a network it moves as the weights move. So there is a question that a quadratic cannot ask: **where does
# training take $\lambda_{\max}$?**
#
# We call $\lambda_{\max}(H(\theta))$ the **sharpness** at θ, and $2/\eta$ the **edge** of gradient descent. The number to watch is the ratio
#
# $$\frac{\lambda_{\max}}{2/\eta} = \frac{\eta\,\lambda_{\max}}{2}, \qquad \text{below 1: stable, were the loss a convex quadratic; above 1: not.}$$
#
# The task is small enough to watch at leisure: 200 digits, ten classes, a tanh network with three hidden layers of 32, 4522 weights. The loss is half the
# squared error against the one-hot label, a mean over *all* 200 images. Each step uses all of them. Nothing is random once the first weights are drawn.
#
# `Tracker` measures the sharpness along the way. It takes one line before the loop and one in it (both marked below). It reads
# the step size from the live optimizer, and it leaves the model as it was. Here it looks at every 50th call, with at most 30 products of the Hessian with a vector,
# and at each tenth look it searches afresh. We call it *before* the step, so that the first look, at step 0, sees the untrained network. `effective_sharpness` is
# such a look for once: the largest eigenvalue by Lanczos (Lesson 04), and the edge, which it calls the threshold.

# %%
images, labels = digits(200, rng=0)
X, y = torch.tensor(images), torch.tensor(labels)
Y = one_hot(y, 10).double()


def network(seed, gain=0.5):
    return mlp([64, 32, 32, 32, 10], gain=gain, rng=seed)


def half_squares(outputs, targets):
    return ((outputs - targets) ** 2).sum(1).mean() / 2


def train(net, steps, every=50, loss=half_squares, target=Y, **settings):
    risk = EmpiricalRisk(net, loss, (X, target))
    optimizer = torch.optim.SGD(net.parameters(), **settings)
    tracker = Tracker(risk, optimizer, every=every, max_matvecs=30, search_every=10, rng=0)  # one line
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(net(X), target)
        value.backward()
        losses.append(value.item())
        tracker.look()  # and one in the loop
        optimizer.step()
    return risk, tracker.record, np.array(losses)


# %%
young = EmpiricalRisk(network(0), half_squares, (X, Y))
optimizer = torch.optim.SGD(young.model.parameters(), lr=0.5)
print("before training:", effective_sharpness(young, optimizer, rng=0))

# %%
question = "η = 0.5, the edge is 4, and the sharpness starts at 1.8. In 1000 steps it will"
choices = ["stay near 1.8", "rise, and stay below 4", "rise to 4 and stay there", "pass 4, and all diverges"]
predict("where", question, choices, answer=None)

# %%
runs = [train(network(seed), 1000, lr=0.5) for seed in range(3)]
ratios, steps = np.array([record["ratio"] for _, record, _ in runs]), runs[0][1]["step"]
falls = np.array([losses[-1] / losses[0] for *_, losses in runs])

# %%
figure, axes = panels()
watched(axes, {f"seed {seed}": (steps, ratios[seed]) for seed in range(3)})
threshold(axes, 1, "edge")
axes.set(ylabel="sharpness / (2/η)", xlim=(-70, 950))
show(figure, "Three seeds: the ratio climbs from 0.45 far past 1, falls back to 1, and stays there for good.")

# %% [markdown]
# Four things happen, and the same four for each seed.
#
# 1. **Progressive sharpening.** From the start the sharpness rises. Why networks do this, no general theorem says.
# 2. **Overshoot.** It passes the edge, and goes on rising for some eighty steps. The highest of our looks sees 1.3 to 1.4 times the edge; a look at every fourth step saw 1.5.
# 3. **The fall.** Within ten to thirty steps it drops to the edge.
# 4. **The edge of stability.** From then on it stays there, for hundreds of steps.
#
# And nothing diverges: the loss falls to about a hundredth. The name is from `cohen2021`.

# %%
late = ratios[:, steps >= 600]
assert falls.max() < 0.02 and abs(ratios.max(axis=1) - 1.35).max() < 0.1
assert all(record["converged"].all() for _, record, _ in runs) and abs(late - 1).max() < 0.15

# %% [markdown]
# This cell prints nothing, on purpose. At the edge the path is chaotic: on another processor the last bit of a product is another one, and a hundred steps later
# the digits are. Ranges survive. So here, and wherever training is at its edge, this lesson stores ranges and pictures, and asserts them.
#
# The assertion on `converged` needs a word. It says that each residual $\lVert Hv - \lambda v\rVert$ was at most 1 % of λ: then an eigenvalue lies that near to it.
# Is it the largest? A tracker that starts each look from the last eigenvector can be fooled: when two eigenvalues cross, the old vector is *still an
# eigenvector*, of the second one, with a perfect residual. So `Tracker` carries two vectors, adds a little noise, and now and then looks from a fresh random
# start. You will write such a tracker in the exercises, and meet a path of matrices made to fool it.
#
# First, the sentence of the note once more, now for a network.
#
# {{claim 3.1c}}
#
# We measure three numbers: the smallest overshoot of the three seeds, the part of the looks after step 300 at which the ratio is above 1, and the worst
# quotient of the last loss and the first.

# %%
found = [ratios.max(axis=1).min(), (ratios[:, steps >= 300] > 1).mean(), falls.max()]
claim("3.1c", found, holds=lambda m: m[0] > 1.15 and m[1] > 0.5 and m[2] < 0.02, varies=True)

# %% [markdown]
# Most looks find $\eta > 2/\lambda_{\max}$, and training goes on. Where would the sentence be true? In a quadratic. So take one: stop the run after 151 steps, where the
# ratio is well above 1, and freeze gradient and Hessian there. Then let gradient descent run on twice: on the frozen quadratic model, and on the network.

# %%
there, _, _ = train(network(0), 151, every=150, lr=0.5)
H, g, zero = hessian(there), there.gradient(), torch.zeros(there.num_parameters)
frozen = run(lambda d: g + H @ d, zero, gd(0.5), 60, watch={"loss": lambda d: g @ d + d @ (H @ d) / 2})
real = run(there.gradient, there.theta, gd(0.5), 60, watch={"loss": there.value}).watched["loss"]
model = there.value() + frozen.watched["loss"]

# %%
assert model.max() > 1e3 and real[-1] < real[0]
figure, axes = panels()
watched(axes, {"quadratic model": model, "network": real}, log=True)
axes.set(xlabel="steps after step 151", ylabel="loss")
show(figure, "From one point, equal at first: the quadratic model explodes, the network's loss stays small.")

# %% [markdown]
# For some twenty steps the two curves are one. Then both begin to grow, since both have the same unstable direction. The model grows for ever. The network
# bends, and comes back. Whatever saves it is in the third and higher derivatives, which the frozen model has lost. Section 4 finds out what it is.
#
# ## 2. At the edge: up, down, and on average down
#
# What is it like there? Before you look, think of one mode with $\eta\lambda$ just above 2, so that $1 - \eta\lambda \approx -1$.

# %%
question = "At the edge, the cosine between one gradient and the next is about"
predict("cosine", question, ["+1: the same way", "0: unrelated", "−1: the opposite way"], answer=None)


# %%
def cosines(points):  # a move is −η times the gradient, so that the cosines are the same
    moves = np.diff(points.numpy(), axis=0)
    moves /= norm(moves, axis=1, keepdims=True)
    return (moves[1:] * moves[:-1]).sum(axis=1)


edge, watch = runs[0][0], {"loss": young.value, "gradient": lambda theta: norm(young.gradient(theta))}
paths = [run(edge.gradient, risk.theta, gd(0.5), 60, watch=watch) for risk in (young, edge)]
turns = [cosines(path.points) for path in paths]

# %%
figure, axes = panels(1, 2)
lengths = [path.watched["gradient"] for path in paths]
watched(axes[0], dict(zip(("young", "edge"), turns, strict=True)))
axes[0].set(ylabel="cosine of successive gradients", ylim=(-1.1, 1.1))
watched(axes[1], dict(zip(("young", "edge"), lengths, strict=True)), log=True)
axes[1].set(ylabel="length of the gradient")
show(
    figure,
    "Cosines: near +1 in the young network, near −1 at the edge; the gradients end at similar lengths.",
)
assert turns[0][5:].mean() > 0.9 and turns[1].mean() < -0.9 and lengths[1].mean() > 0.7 * lengths[0][-1]
assert 10 * paths[1].watched["loss"].mean() < paths[0].watched["loss"][-1]

# %% [markdown]
# Young, the network walks straight on. At the edge it steps to and fro across a valley: each gradient is almost the opposite of the last. And look at the right
# panel. Compare the end of the young curve, step 60, with the edge, a thousand steps later: the loss is more than ten times smaller there, and the gradient is about
# as long. Nearly all of it points across the valley, where nothing is gained in the long run. Keep this for Section 7.
#
# And the loss? After step 300 it *rises* on about one step in four or five. Below, the right panel is a close-up of the overshoot and the fall: as long as the sharpness is above the edge, the swing grows unseen, until it bursts into the loss.
# When the sharpness has dropped, the swing dies down. Then come smaller waves of the same kind. From a hundred steps to the next, the loss falls.

# %%
figure, axes = panels(1, 2)
for each, (first, last) in zip(axes, ((0, 1000), (140, 240)), strict=True):
    each.semilogy(np.arange(first, last), runs[0][2][first:last], marker="")
    each.set(xlabel="step", ylabel="loss")
show(
    figure, "The loss falls a hundredfold in 1000 steps, with one burst, seen close up, and many small waves."
)
rises = [(np.diff(losses[300:]) > 0).mean() for *_, losses in runs]
assert min(rises) > 0.12 and max(rises) < 0.35
assert all((np.diff(losses.reshape(10, 100).mean(axis=1)) < 0).all() for *_, losses in runs)

# %% [markdown]
# So far one step size. The edge is $2/\eta$: choose η, and you choose the sharpness.

# %%
slow, fast = (train(network(0), 1000, lr=eta)[1] for eta in (0.3, 0.8))
curves = {"η = 0.3": slow, "η = 0.5": runs[0][1], "η = 0.8": fast}

# %%
figure, axes = panels()
watched(axes, {name: (steps, record["value"]) for name, record in curves.items()})
for eta in (0.3, 0.5, 0.8):
    threshold(axes, 2 / eta, f"2/{eta}")
axes.set(ylabel="sharpness", xlim=(-110, 950))
show(figure, "Three step sizes from the same weights: each run ends on the line of its own edge, 2/η.")

# %% [markdown]
# One network, the same weights, the same data: three sharpnesses. $\lambda_{\max}$ at the end of training is no property of "the loss landscape" alone. It is
# where the landscape and the optimizer meet.
#
# {{claim 3.1d}}
#
# The card takes the mean ratio after step 600, for three seeds at η = 0.5 and for one at 0.3 and at 0.8.

# %%
means = [*late.mean(axis=1), *(record["ratio"][steps >= 600].mean() for record in (slow, fast))]
claim("3.1d", means, expected=1, tolerance=0.1, varies=True)

# %% [markdown]
# On our machine the five means lie between 1.01 and 1.04, slightly *above* the edge. An earlier trial, in single precision and with
# slightly other first weights, had 1.00 to 1.02 at the end of 1500 steps. Section 4 shows that a small excess is no error of measurement.
#
# ## 3. Another optimizer, another edge
#
# Heavy ball bears $2(1+\beta)/\eta$, and Nesterov's momentum $\frac{2(1+\beta)}{(1+2\beta)\eta}$: more, and less, than gradient descent (Lesson 03). These came from a $2 \times 2$ matrix and a quadratic. Do they decide where a *network* goes?

# %%
question = "Heavy ball, β = 0.5, η = 0.5, so that 2/η = 4. The sharpness of the network settles near"
predict("ball", question, choices=["4: the edge is 2/η", "6", "8: the steps are twice as long"], answer=None)

# %%
heavy = [train(network(seed), 1000, lr=0.5, momentum=0.5)[1] for seed in range(3)]
ahead = train(network(0), 1000, lr=0.4, momentum=0.9, nesterov=True)[1]
figure, axes = panels()
watched(axes, {"heavy ball": (steps, heavy[0]["value"]), "Nesterov": (steps, ahead["value"])})
for edge_of_rule in (2 * 1.5 / 0.5, 2 * 1.9 / (2.8 * 0.4)):
    threshold(axes, edge_of_rule, "")
axes.set(ylabel="sharpness", xlim=(-20, 950), yticks=[2, 3.39, 4, 6])
show(
    figure, "Heavy ball with β = 0.5 settles at 6, not at 4; Nesterov's momentum with β = 0.9 settles at 3.4."
)

# %% [markdown]
# The dotted lines are the two edges, 2(1+β)/η = 6 and 2(1+β)/((1+2β)η) = 3.39.
#
# {{claim 5.0}}

# %%
settled = [record["ratio"][steps >= 600].mean() for record in [*heavy, ahead]]
claim("5.0", settled, expected=1, tolerance=0.08, varies=True)

# %% [markdown]
# `Tracker` has read momentum and step size from the optimizer, so each ratio is the sharpness over *its own* edge. All four are within 8 % of 1. The choice "8" confuses the
# edge with the effective step $\eta/(1-\beta)$: that is right for flat directions, and it would even have lowered the edge.
#
# A warning on patience. In an earlier trial, heavy ball with β = 0.9 and η from 0.1 to 0.4 ended at a fifth to three fifths of its edge after 1200 steps. Nothing was wrong
# there. It had not arrived.
#
# ## 4. Why it does not diverge: a model of two variables
#
# Keep two variables of the network. Let $x$ be the position along the unstable direction, and let $y$ be the curvature in that direction. Training wants to raise
# the curvature, to some $Y > 2/\eta$. The simplest loss that says all this is
#
# $$L(x, y) = \tfrac12\, y\, x^2 + \tfrac k2\, (y - Y)^2 .$$
#
# The first term is a parabola in $x$ with the curvature $y$. Its derivative in $y$ is $\tfrac12 x^2$: **who swings far in $x$ is pushed towards smaller $y$.** That is a
# third derivative, $\partial^3 L/\partial x^2 \partial y = 1$. A quadratic has none. Gradient descent is
#
# $$x \leftarrow (1 - \eta y)\, x, \qquad y \leftarrow y + \eta k (Y - y) - \tfrac{\eta}{2}\, x^2 .$$
#
# Read it slowly. While $y < 2/\eta$, $x$ shrinks, and $y$ drifts up towards $Y$: progressive sharpening. Once $y > 2/\eta$, $x$ grows, changing sign at each step. At first it is tiny, so $y$
# goes on rising: overshoot. When $\tfrac12 x^2$ exceeds $k(Y - y)$, $y$ falls, below $2/\eta$, and $x$ shrinks again. Where does it end?

# %%
question = "L has a minimum at x = 0, y = Y. Let Y = 2.4/η. Gradient descent ends"
choices = ["at the minimum", "hopping between two points, at y = 2/η", "in divergence"]
predict("model", question, choices, answer=None)


# %%
def swing(Y, eta=0.5, k=0.05, start=(0.1, 3.0), steps=3000):
    def gradient(z):
        return np.array([z[1] * z[0], z[0] ** 2 / 2 + k * (z[1] - Y)])

    return run(gradient, list(start), gd(eta), steps, limit=100).points


points = swing(Y=4.8)
print("last three points (x, y):", points[-3:].round(3).tolist())

# %%
figure, axes = panels(1, 2)
watched(axes[0], {"ηy/2": points[:401, 1] / 4})
threshold(axes[0], 1, "edge")
axes[0].set(xlim=(-70, 400))
watched(axes[1], {"|x|": abs(points[:401, 0])}, log=True)
show(
    figure, "The curvature overshoots and swings into the edge; |x| falls, rises and settles in step with it."
)

# %% [markdown]
# It hops for ever between $(x, y)$ and $(-x, y)$. Such a **two-cycle** needs $1 - \eta y = -1$, so $y = 2/\eta$ exactly. And $y$ stands still only if
# $\tfrac12 x^2 = k(Y - 2/\eta)$. So the picture of the network is all here: the rise, the overshoot, the fall, the swing into the edge, the to and fro. The
# mechanism is called **self-stabilization** (`damian2023`).
#
# Is the cycle attracting? Set $s = \eta y - 2$, let $q = x^2$, and let $q^\ast = 2k(Y - 2/\eta)$ be its value on the cycle. Then $q \leftarrow q\,(1+s)^2$ and
# $s \leftarrow (1 - \eta k)\, s - \tfrac{\eta^2}{2}(q - q^\ast)$. Near the cycle this is linear, with the matrix
#
# $$\begin{pmatrix} 1 & 2q^\ast \\ -\eta^2/2 & 1 - \eta k \end{pmatrix}, \qquad \text{determinant } 1 - \eta k + \eta^2 q^\ast .$$
#
# For $\eta k < 2$ both eigenvalues lie inside the unit circle exactly when the determinant is below 1 (they cannot pass through 1 or −1), that is, when $\eta\, q^\ast < k$. Put in $q^\ast$: the cycle attracts when
# $\eta Y < 2.5$, whatever $k$ is. Beyond, each swing is wider than the last, at first.
#
# {{claim 3.1f}}
#
# The card measures $\eta y/2$ and $x^2/q^\ast$ at the end of the run above, and the border in $\eta Y$. For the border it starts beside the cycle, 1 % off in $x$, and asks
# whether $y$ moves less after 2000 steps than in the first 200.


# %%
def settles(Y, k=0.05):
    curvature = swing(Y, start=(1.01 * (2 * k * (Y - 4)) ** 0.5, 4.0), steps=2000)[:, 1]
    return np.ptp(curvature[-200:]) < np.ptp(curvature[:200])


low, high = 4.2, 5.8
for _ in range(8):
    middle = (low + high) / 2
    low, high = (middle, high) if settles(middle) else (low, middle)
(x, curvature), q = points[-1], 2 * 0.05 * (4.8 - 4)
claim("3.1f", [0.5 * curvature / 2, x**2 / q, 0.5 * low], expected=[1, 1, 2.5], tolerance=0.01)

# %%
wild = 0.5 * swing(Y=5.05, steps=20_000)[5000:, 1]  # ηy
print("ηy/2, least, largest, mean:", *(f"{f(wild) / 2:.2f}" for f in (np.min, np.max, np.mean)))
assert abs(np.log(abs(1 - wild)).mean()) < 0.002 and wild.min() > 1 and wild.mean() > 2
assert len(swing(Y=6.2)) < 1000  # diverged

# %% [markdown]
# A little beyond the border, at $\eta Y = 2.525$, the run does not settle in 20 000 steps, and does not diverge either. It swings, and even then the edge holds *on average*. From one step to the next, $|x|$ is multiplied by $|1 - \eta y|$. If $|x|$
# neither vanishes nor explodes in the long run, the mean of $\ln|1 - \eta y|$ is 0: the first assertion. The logarithm is concave. So if $\eta y > 1$ throughout, as here, the mean of $\eta y - 1$ is at *least* 1 (Jensen): the
# mean of $y$ is at least $2/\eta$, and larger if it swings. That is the second assertion. It is one possible reason why the means of Section 2 lie above 1. Another is that $y$ is not the largest
# eigenvalue of the Hessian of $L$, which has $x$ off its diagonal: on the cycle $\lambda_{\max}$ is a little larger than $y$.
#
# Far beyond the border nothing saves it: with $\eta Y = 3.1$ a swing throws $y$ below 0, where $L$ has no lower bound, and the run diverges.
#
# The model is a caricature, and its limits are yours to see. It has one unstable direction; the network soon has several near the edge. Its $Y$ is put in by hand: *why* a network
# sharpens, it does not say. `damian2023` derives two equations of this kind from the third derivatives of a general loss, under assumptions that are stated there. Its conclusion: but for the swinging, the path is that of
# *projected* gradient descent, which keeps $\lambda_{\max} \le 2/\eta$. `cohen2025` describes the averaged path by a differential equation, the central flow.
#
# ## 5. Starting above the edge: the catapult
#
# Up to now the sharpness began below the edge. What if η is too large from the first step? The smallest network with an answer in closed form is linear, with two layers and one example, $x = 1$ with
# the target 0:
#
# $$f = \frac{u \cdot v}{\sqrt n}, \qquad L = \tfrac12 f^2, \qquad \lambda = \frac{\lVert u\rVert^2 + \lVert v\rVert^2}{n}, \qquad u, v \in \mathbb R^n .$$
#
# λ is $\lVert\nabla f\rVert^2$. It is the largest eigenvalue of $\nabla f\, \nabla f^\top$, the **Gauss–Newton part** of the Hessian: what is left without second derivatives of $f$. Where $f = 0$ this is all of $H$. Put one step of gradient descent, $u \leftarrow u - \eta f v/\sqrt n$ and likewise for $v$,
# into the definitions. All else cancels, and two numbers go their way:
#
# $$f \leftarrow f\,\Big(1 - \eta\lambda + \frac{\eta^2 f^2}{n}\Big), \qquad \lambda \leftarrow \lambda - \frac{\eta f^2}{n}\,(4 - \eta\lambda).$$
#
# Read the second equation. For $\eta\lambda < 4$ it only ever *lowers* λ, by an amount that counts when $f^2 \sim n$.

# %%
question = "n = 1000, and ηλ = 3 at the start, 1.5 times the edge. What happens?"
choices = ["It diverges", "The loss falls steadily", "The loss rises, λ falls, the loss falls"]
predict("catapult", question, choices, answer=None)


# %%
def catapult(eta_lambda, n=1000, steps=300):
    u, v = np.random.default_rng(0).standard_normal((2, n))
    eta, losses = eta_lambda / ((u @ u + v @ v) / n), []
    for _ in range(steps):
        f = u @ v / n**0.5
        losses.append(f**2 / 2)
        if losses[-1] > 1e12:
            return np.inf, losses
        u, v = u - eta * f * v / n**0.5, v - eta * f * u / n**0.5
    return eta * (u @ u + v @ v) / n / 2, losses


ends = {first: catapult(first) for first in (1.9, 2.1, 3.0, 3.9, 4.1)}
for first, (end, losses) in ends.items():
    fate = f"ratio at the end {end:.3f}, largest loss / first {max(losses) / losses[0]:.1f}"
    print(f"ηλ = {first} at the start:", "diverged" if np.isinf(end) else fate)

# %% [markdown]
# Below the edge the loss only falls, and λ hardly moves. With ηλ between 2 and 4 the loss first *rises*, by more the nearer to 4, until $f^2$ is of the order of $n$. Then λ drops, as from a catapult, to
# a value below $2/\eta$, and the loss falls to 0. Beyond 4 both grow.
#
# {{claim 3.1e}}

# %%
rise = max(ends[3.0][1]) / ends[3.0][1][0]
fates = [*(ends[first][0] for first in (1.9, 2.1, 3.0, 3.9)), float(np.isinf(ends[4.1][0])), rise]
claim("3.1e", fates, holds=lambda m: 0.9 < m[0] < 1 and max(m[1:4]) < 1 and m[4] == 1 and m[5] > 10)

# %% [markdown]
# The numbers are the four final ratios, a 1 for "diverged" at 4.1, and the factor by which the loss rose at 3. Now the digits, with larger first weights, so that the
# sharpness begins near 12. Does the network respect the 4?

# %%
for eta in (0.15, 0.3, 0.6):
    _, record, losses = train(network(0, gain=1.0), 31, every=5, lr=eta)
    print(
        f"η = {eta}: ηλ at the start {2 * record['ratio'][0]:.1f}; largest loss / first {max(losses) / losses[0]:.2f}"
    )
    assert losses[-1] < losses[0] / 5 and record["ratio"][-1] < 1.15

# %% [markdown]
# It does not. $\eta\lambda = 7.2$ trains as well, and the loss never even exceeds its first value. Of the catapult one half is left: from above the edge, the sharpness *falls*, in a few steps. The rise of the loss is missing,
# presumably because the other directions gain more at the start than the unstable one loses. (At η = 0.8, $\eta\lambda = 9.5$, this network did diverge.) The border at 4 is a theorem about the model above. For another network it is a first guess.
#
# ## 6. Where it fails
#
# "Training takes place at the edge" is an observation about some losses, some networks and some lengths of training. Three that are not among them follow.
# Before the first, recall that the gradient of the cross-entropy in the outputs is $p - $ label. How much can it still change once every image is classified with confidence?

# %%
question = "Same network, same η = 0.5, but the loss is the cross-entropy. The ratio ends"
predict("entropy", question, choices=["near 1", "near 0", "above 2"], answer=None)

# %%
short = train(network(0), 600, lr=0.1)
half, one = (train(network(0), 400, 10, cross_entropy, y, lr=eta) for eta in (0.5, 1.0))
curves = {"η = 0.1": short[1], "entropy, η = 0.5": half[1], "entropy, η = 1": one[1]}
ends_at = {name: round(float(record["ratio"][-1]), 2) for name, record in curves.items()}
rises = int(sum((np.diff(losses) > 0).sum() for *_, losses in (half, one)))
print("last ratio:", ends_at, "  steps that raise the cross-entropy:", rises)

# %%
figure, axes = panels()
axes.set(ylabel="sharpness / (2/η)", xlim=(-60, 560), ylim=(-0.15, 1.35))
watched(axes, {name: (record["step"], record["ratio"]) for name, record in curves.items()})
threshold(axes, 1, "edge")
show(
    figure,
    "A small step: still rising, far below 1. Cross-entropy: the ratio rises, even past 1, and collapses.",
)

# %% [markdown]
# **Too small a step, or too short a run.** With η = 0.1 the edge is 20, and 600 steps do not lead there. The sharpness rises all the time. Whoever measures
# at the end of such a run finds a ratio of a quarter, and may call the theory false. It has not been tested.
#
# **Cross-entropy on data that can be separated.** With $p$ the probabilities of the model, the Gauss–Newton part of the Hessian is the mean of $J^\top (\mathrm{diag}(p) - p\,p^\top) J$. Once each image
# is classified with confidence, $p$ is nearly one-hot, and the middle factor vanishes. So the sharpness rises first, as for the squared error, and then collapses. With η = 1 it even passes the edge, for a few steps,
# before it falls: it crosses, and does not stay. On larger data `cohen2021` sees the same order of events, with a long stay at the edge in between. Here the data are fitted too soon.
#
# **Wide networks.** Take one hidden layer, and widen it. Each run has the step with which it starts at the ratio 0.9.


# %%
def widen(width):
    net = mlp([64, width, 10], rng=0)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    first = effective_sharpness(EmpiricalRisk(net, half_squares, (X, Y)), optimizer, rng=0).value
    return train(net, 200, lr=1.8 / first)[1]["ratio"]


for width in (8, 64, 512):
    ratio = widen(width)
    print(f"width {width}: in 200 steps the sharpness changes by {100 * (ratio[-1] / ratio[0] - 1):+.0f} %")

# %% [markdown]
# The wider the network, the less its curvature moves. In the limit of infinite width, with the right scaling of weights and step, it does not move at all: the network is linear
# in its weights, the loss is a quadratic, and the edge of stability does not exist (`jacot2018`, `liu2020`; Lesson 14). The narrow ones move, but *down*: one hidden
# layer does not sharpen on this task from this start. Depth matters as well.
#
# So: no general theorem says that a network *will* go to the edge. There are theorems on what happens once it is there, and observations on when it goes. Stochastic gradients change the picture once more
# (Lesson 11), and adaptive steps move the edge (Lesson 08).
#
# > **Misconception: "above 2/λmax, training diverges".** True for a quadratic, and for the frozen model of Section 1. A network may bend away from
# > the instability, and then trains for thousands of steps at its edge. It may also diverge. The ratio tells you that the quadratic model has stopped to hold for more than a few
# > steps. It does not tell you which of the two follows. The first question of the exit ticket is about this.
#
# ## 7. What to watch, and what not
#
# The note has two pieces of advice. The first:
#
# {{claim 7.1}}
#
# On a quadratic a mode with error 1 has, after $t$ steps, the gradient $\lambda(1 - \eta\lambda)^t$. For $0 \le \eta\lambda \le 1$ this is largest at $\eta\lambda = 1/(t+1)$, and never larger than $1/(e\,\eta\,t)$:
# the steep modes have lost their error, and the flat ones have no gradient. Where κ is small beside $t$, all modes are steep, and the gradient soon vanishes. Where κ is larger, the gradient tells
# little but how long you have trained. And a short gradient never shows that κ is small: beside a steep mode, one of curvature 10⁻⁹ hardly has a gradient. Compare κ = 10 with 10³ and 10⁵, for 50 modes of error 1 and η = 1.


# %%
def after(kappa, t=200):
    values = np.geomspace(1 / kappa, 1, 50)
    error = (1 - values) ** t
    return np.array([norm(values * error), norm(error)])


easy, few, many = after(10), after(1e3), after(1e5)
for kappa, (gradient, distance) in (("10", easy), ("1e3", few), ("1e5", many)):
    print(f"κ = {kappa}: length of the gradient {gradient:.4f}, distance {distance:.2f}")
assert easy.max() < 1e-8
claim("7.1", many / few, expected=[0.80, 2.01], tolerance=0.01)

# %% [markdown]
# From 10³ to 10⁵ the condition number is a hundred times worse, the distance to the minimum twice as large, and the gradient *shorter*. In the network it misled in the other direction: at the edge, with less than a tenth of the loss, the gradient was
# about as long (Section 2). What does see trouble: the ratio $\eta\lambda_{\max}/2$; the cosine of successive gradients, which goes to −1 when the steepest direction rules; and the part of the steps that raise the loss.
#
# The second piece of advice:
#
# {{claim 9.2}}
#
# A network small enough for its whole Hessian, 64-8-10 with 610 weights, trained by descent with η = 0.5. We compute all eigenvalues at six moments.

# %%
small = EmpiricalRisk(mlp([64, 8, 10], gain=0.5, rng=0), half_squares, (X, Y))
weights = run(small.gradient, small.theta, gd(0.5), 800).points
spectra = {step: eigvalsh(to_dense(hessian(small, weights[step]))) for step in (0, 50, 100, 200, 400, 800)}
for step, values in spectra.items():
    zeros = (abs(values) < 1e-12 * values[-1]).sum()
    print(f"step {step:3d}: ηλ/2 {values[-1] / 4:.2f}, λmin {values[0]:.4f}, zeros {zeros}")

# %%
quotients = [values[-1] / values[0] for values in spectra.values()]
fall = spectra[800][-1] / spectra[0][-1]
measured = [max(quotients), quotients[-1], fall]
claim("9.2", measured, holds=lambda m: m[0] < 0 and m[1] < 300 * m[0] and m[2] < 0.7)
assert np.linalg.matrix_rank(np.c_[images, np.ones(200)]) == 65 - 8

# %% [markdown]
# The card has the quotient $\lambda_{\max}/\lambda_{\min}$ nearest to 0, the last one, and the sharpness at the end over that at the start. The quotient is negative throughout. It grows 400-fold in size while training becomes *calmer* and the sharpness falls, because $\lambda_{\min}$ shrinks with the error of
# the fit (Lesson 06 says why). With the eigenvalue of smallest modulus below the line the quotient is infinite: 64 eigenvalues are zero. The 64 pixels and the bias are
# 65 inputs, and over these 200 images they obey eight linear relations: seven pixels are constant, and two others differ from a constant in the same single image. Each relation gives each of the eight
# hidden units a direction in its weights that does nothing. Neither quotient knows the step size. The column $\eta\lambda/2$ does.
#
# For speed a quotient of two *positive* eigenvalues can be of use, $\lambda_1/\lambda_k$ at a stated $k$: on a quadratic it says how slow the $k$-th direction is at the largest stable step. Say which $k$.
#
# ## What to take away
#
# 1. On a network $\lambda_{\max} < 2/\eta$ is no condition for training. With the squared error and time enough, the network of this lesson trains *at* the edge of its optimizer: $2/\eta$, $2(1+\beta)/\eta$, and so on.
# 2. What holds it there is a third derivative: swinging in the steep direction lowers the curvature. The loss then rises and falls from step to step, and falls in the long run.
# 3. It is an observation with conditions. Cross-entropy on separable data, too small a step, and a very wide network do not show it.
#
# ## Exit ticket
#
# Replace each `None` by the number of your answer, and run the cell.

# %%
i, j, k = 2 if abs(late - 1).max() < 0.15 else 3, 2 if turns[1].mean() < -0.9 else 0, int(max(settled) < 1.1)
m, c, e = int(abs(points[-1, 1] - 4) < 0.01), 2 if rise > 2 else 1, int(ends_at["entropy, η = 0.5"] < 0.1)
ticket(
    TICKET,
    answers=[None, None, None],
    outcomes={"where": i, "cosine": j, "ball": k, "model": m, "catapult": c, "entropy": e},
)

# %% [markdown]
# ## In practice: your own model
#
# - Put `Tracker(risk, optimizer, every=50, rng=0)` before your loop and `tracker.look()` in it, after `optimizer.step()`: Adam and RMSprop have nothing to look at before their first step. For `risk` take a fixed part of the data, a few hundred examples: a sharpness from changing batches is another quantity (Lesson 11).
# - Read the *ratio*. Below 0.5 there is room for a longer step, by this measure. Near 1 the loss may jump, and that alone is no reason to act. A ratio far above 1 while the loss grows from look to look is.
# - Before you say "at the edge", look at the trend of the record: still rising, flat at 1, or falling.
# - Check `converged`, and how many of the looks have it. A tracked number is a lower bound for $\lambda_{\max}$.
#
# ## Further reading
#
# - `cohen2021` (Cohen and others, *Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability*, 2021): hundreds of runs, momentum and cross-entropy included.
# - `damian2023` (Damian, Nichani and Lee, *Self-Stabilization*, 2023): the cubic term, with proofs.
# - `lewkowycz2020` (Lewkowycz and others, *The large learning rate phase of deep learning: the catapult mechanism*, 2020).
# - `cohen2025` (Cohen and others, *Understanding Optimization in Deep Learning with Central Flows*, 2025): the averaged path.
# - `arora2022` (Arora, Li and Panigrahi, *Understanding Gradient Descent on Edge of Stability in Deep Learning*, 2022).
