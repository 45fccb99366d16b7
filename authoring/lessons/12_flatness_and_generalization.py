# %% [markdown]
# {{header}}

# %%
import numpy as np
import torch
from numpy.linalg import eigh, eigvalsh
from scipy.stats import spearmanr
from torch.nn.functional import cross_entropy

from hesslab import objectives
from hesslab.checks.lesson_12 import TICKET
from hesslab.course import claim, predict, start, ticket
from hesslab.curvature import ggn, hessian
from hesslab.data import digits, mnist1d
from hesslab.dynamics import gd, run
from hesslab.operators import to_dense
from hesslab.plots import MARKERS, panels, show, slider
from hesslab.risk import EmpiricalRisk, mlp

start()

# %% [markdown]
# ## 1. What a trace measures
#
# A minimum is called *flat* if the loss stays low when the weights are moved a little. There are two ways to say it. The **worst** small step of length ρ raises the loss by about $\tfrac{\rho^2}{2}\lambda_{\max}$. The **average** small step is a random one. Let the
# entries of $\varepsilon$ be independent and normal, with standard deviation σ. Then
#
# $$\mathbb{E}\,L(\theta + \varepsilon) - L(\theta) \;\approx\; \tfrac12\,\mathbb{E}\,\varepsilon^\top H\varepsilon \;=\; \tfrac{\sigma^2}{2}\,\operatorname{tr} H .$$
#
# (The gradient drops out, since $\mathbb{E}\,g\cdot\varepsilon = 0$.) So the trace is a fair measure of flatness, in the average sense. The note goes two steps further:
#
# - Flatness ∝ 1/tr(H) ≈ 1/E[λ].
# - Smaller average eigenvalues correlate with better generalization.
#
# This lesson takes both apart. The first needs no training at all. The average of the p eigenvalues is $\mathbb{E}[\lambda] = \operatorname{tr}(H)/p$. So $1/\operatorname{tr} H$ and $1/\mathbb{E}[\lambda]$ differ by the factor p, the number of weights. They are not approximately equal. Are they at least
# proportional? At one size, yes. From one network to the next, p changes.
#
# The network of the first half has 8 ReLU units in one hidden layer, 610 weights in all. It learns 300 digits, by gradient descent with cross-entropy. The other 1497 digits are the test set. Its four arrays together we call $P$. Everything about $P$ is written so that it will later serve for a hundred networks at once.

# %%
images, labels = (torch.tensor(part) for part in digits(rng=0))
X, y, new_X, new_y = images[:300], labels[:300], images[300:], labels[300:]
risk = EmpiricalRisk(mlp([64, 8, 10], activation="relu", rng=0), cross_entropy, (X, y))
theta = torch.as_tensor(run(risk.gradient, risk.theta, gd(0.2), 600).points[-1])


# %%
def outputs(P, X):
    W1, b1, W2, b2 = P  # inputs × hidden, 1 × hidden, hidden × classes, 1 × classes
    return (X @ W1 + b1).relu() @ W2 + b2


def arrays(theta):
    W1, b1, W2, b2 = risk.unflatten(theta).values()
    return [W1.mT, b1[None], W2.mT, b2[None]]


# %% [markdown]
# Now change the number of weights, and nothing else. Replace each hidden unit by **two copies**. Divide the weights into a copy, its bias and the weights out of it by $\sqrt2$. A ReLU lets a positive factor through, so each copy contributes $\mathrm{relu}(z/\sqrt2)\cdot w/\sqrt2 = \tfrac12\,\mathrm{relu}(z)\,w$.
# Two halves make a whole: the function is the same as before. What happens to the Hessian?

# %%
choices = ["both stay", "tr H stays, E[λ] is about halved", "both are about halved"]
predict(
    "split", "Each unit is split in two, the function stays. What do tr H and E[λ] do?", choices, answer=None
)

# %%
W1, b1, W2, b2 = risk.unflatten(theta).values()
parts = W1.repeat(2, 1), b1.repeat(2), W2.repeat(1, 2), b2 * 2**0.5
wide_theta = torch.cat([part.ravel() for part in parts]) / 2**0.5
wide = EmpiricalRisk(mlp([64, 16, 10], activation="relu", rng=0), cross_entropy, (X, y))
H, split = (to_dense(hessian(r, at)).numpy() for r, at in ((risk, theta), (wide, wide_theta)))
for loss, matrix in ((risk.value(theta), H), (wide.value(wide_theta), split)):
    trace, mean = matrix.trace(), eigvalsh(matrix).mean()
    print(f"p = {len(matrix)}: loss {loss:.4f}, tr H = {trace:.3f}, 1000 E[λ] = {1000 * mean:.2f}")
copies = split.trace() / H.trace(), eigvalsh(split).mean() / eigvalsh(H).mean()

# %% [markdown]
# The same function, with the same trace, has half the average eigenvalue (610/1210, to be exact: the ten output biases are not doubled). A hundred copies would have a hundredth. So a smaller average eigenvalue can mean "more weights", and nothing else.
#
# Why does the trace stay? Take one unit. The curvature for the weights *into* it contains the square of the weights out of it. That square is halved in each copy, and there are two copies. In the same way the curvature for the weights *out* of it contains the square of its value. Keep this argument: Section 3 lives on it.
#
# There is a second objection. Eigenvalues have signs, and a sum forgives. Take the saddle $\tfrac12(x^2 - y^2)$. Its trace is $1 - 1 = 0$. By the formula it is infinitely flat. The random step agrees, by the way: on average it changes nothing, for it goes up as often as down. But one would not call it a flat minimum.

# %%
saddle = objectives.quadratic([[1.0, 0.0], [0.0, -1.0]]).hessian(np.zeros(2))
print(
    f"saddle: trace {saddle.trace():.1f}, eigenvalues {eigvalsh(saddle)[0]:.1f} and {eigvalsh(saddle)[1]:.1f}"
)
print(f"the network: λmin = {eigvalsh(H)[0]:.4f}, {(eigvalsh(H) < -1e-8).sum()} negative eigenvalues")

# %% [markdown]
# {{claim 3.2a}}
#
# The card measures $\operatorname{tr}(H)/\mathbb{E}[\lambda]$ for the network of 610 weights, the quotient of the traces and that of the averages after and before the split, and the trace of the saddle.

# %%
found = [H.trace() / eigvalsh(H).mean(), *copies, saddle.trace()]
claim("3.2a", found, expected=(610.0, 1.0, 610 / 1210, 0.0), tolerance=1e-6)

# %% [markdown]
# ## 2. A trace without probes
#
# Our trained network has negative eigenvalues as well. Could its trace be zero, or negative? For this network the answer is no, and the reason also gives us the trace almost for free.
#
# Lesson 06 split the Hessian in two, $H = G + R$. The Gauss–Newton part $G = \mathbb{E}[J^\top M J]$ has no negative eigenvalue. The rest, R, contains second derivatives of the outputs. In a ReLU network (or any other that is piecewise linear) the outputs, as a function of *one single* weight, have no bend, except at a kink. So the diagonal of R is zero:
#
# $$H_{ii} = G_{ii} \ge 0, \qquad \operatorname{tr} H = \operatorname{tr} G \ge 0 .$$
#
# For cross-entropy $M = \operatorname{diag}(p) - pp^\top$, with p the predicted probabilities. And $v^\top M v$ is a variance: that of the numbers $v_c$, with c drawn from p. So each diagonal entry can be read off.
#
# - Weight from hidden unit j to class c: moving it moves the output c by $h_j$. The entry is $\mathbb{E}[h_j^2\,p_c(1 - p_c)]$.
# - Weight from input i to unit j: moving it moves the outputs by $x_i\,w_{j\cdot}$ if the unit is on. The entry is $\mathbb{E}[x_i^2\,\mathrm{Var}_p(w_{j\cdot})]$, over the examples for which the unit is on.
# - A bias is a weight from an input that is always 1.


# %%
def diagonal(P, X):
    W1, b1, W2, b2 = P
    z = X @ W1 + b1
    p = (z.relu() @ W2 + b2).softmax(-1)
    spread = (p @ (W2**2).mT - (p @ W2.mT) ** 2) * (z > 0)  # variance under p, where the unit is on
    rows = [spread, p * (1 - p)]
    weights = [(X**2).mT @ rows[0], (z.relu() ** 2).mT @ rows[1]]
    biases = [each.sum(-2, keepdim=True) for each in rows]
    return [part / len(X) for part in (weights[0], biases[0], weights[1], biases[1])]


def total(parts):
    return sum(part.sum((-2, -1)) for part in parts)


# %%
G = to_dense(ggn(risk, theta)).numpy()
apart = np.linalg.norm(H - G) / np.linalg.norm(H)
gap = abs(H.diagonal() - G.diagonal()).max()
probes = 2 * (np.linalg.norm(H) ** 2 - np.linalg.norm(H.diagonal()) ** 2) / (0.01 * H.trace()) ** 2
print(f"‖H − G‖/‖H‖ = {apart:.3f}, on the diagonal {gap:.4f}; Hutchinson to 1 %: {probes:.0f} probes")
print(f"tr H = {H.trace():.4f}, tr G = {G.trace():.4f}, formula {total(diagonal(arrays(theta), X)):.4f}")

# %%
smooth = EmpiricalRisk(mlp([64, 8, 10], rng=0), cross_entropy, (X, y))
bent = smooth.theta
bent_H, bent_G = (to_dense(matrix(smooth, bent)).trace() for matrix in (hessian, ggn))
print(f"tanh instead of ReLU, at the start: tr H = {bent_H:.2f}, tr G = {bent_G:.2f}")
assert abs(total(diagonal(arrays(theta), X)) - H.trace()) < 1e-9 and bent_H < 0.5 * bent_G

# %% [markdown]
# H and G differ by a seventh, and agree on the diagonal to rounding. With tanh they do not agree, there the diagonal bends. We have an exact trace for the price of one pass over the data. The probes of Lesson 05 need hundreds of products for a standard error of one percent.
#
# ## 3. The same network, as sharp as you like
#
# A ReLU lets a positive factor through. So multiply the weights into the hidden layer and its biases by $\alpha > 0$, and divide the weights out of it by α:
#
# $$(W_1, b_1, W_2) \;\to\; (\alpha W_1,\, \alpha b_1,\, W_2/\alpha) .$$
#
# It is the same function: each output for each input, on the training set, on the test set, everywhere. So the loss and the test error are the same. How does the largest eigenvalue take it? Predict, and then move the slider.
#
# The slider goes from $\alpha = 1/16$ to 16, in powers of 2. The curve is the loss along the direction of steepest curvature. Watch the width, and watch the bottom. (On paper, four positions of it stand below.)

# %%
choices = ["it stays, like the function", "it changes by less than 2", "it grows by more than 10"]
predict("rescale", "With α = 10, by which factor does λmax change?", choices, answer=None)


# %% tags=["nbval-ignore-output"]
def moved(power):
    D = torch.cat([torch.full((520,), 2.0**power), torch.full((80,), 2.0**-power), torch.ones(10)])
    return D * theta, H / torch.outer(D, D).numpy()


def draw(axes, power):
    point, matrix = moved(power)
    values, vectors = eigh(matrix)
    t = np.linspace(-1, 1, 121)
    losses = [risk.value(point + step * torch.tensor(vectors[:, -1])) for step in t]
    axes.plot(t, losses)
    axes.plot(0, risk.value(point), "kD")
    axes.set(ylim=(0, 0.6), xlabel="step along the top eigenvector", ylabel="loss")
    axes.set_title(f"α = {2.0**power:.3g}: λmax {values[-1]:.2f}, trace {values.sum():.1f}")


slider(draw, "The valley gets narrow to both sides; its bottom stays where it is.", power=(-4, 4, 0.5, 0))

# %%
figure, grid = panels(2, 2)
for axes, power in zip(grid.flat, (-3, 0, 1, 3), strict=True):
    draw(axes, power)
show(figure, "The same function at four scales α: the valley is narrow at 1/8 and 8, and wide at 1.")

# %% [markdown]
# The loss at the diamond is the same in all panels. The valley around it is not. The code did not compute a new Hessian for each α, and you should ask why it may do so. Write the rescaling as $\theta \to D\theta$ with a diagonal matrix D. The function stays, so $L(D\theta) = L(\theta)$ for every θ. Differentiate both sides twice:
#
# $$D\,H(D\theta)\,D = H(\theta), \qquad\text{so}\qquad H(D\theta) = D^{-1}H(\theta)\,D^{-1} .$$
#
# The block of the first layer is divided by $\alpha^2$, that of the weights out of it multiplied by $\alpha^2$. We compute one Hessian afresh as a check, and then let α go far.

# %%
point, matrix = moved(3.0)
afresh = to_dense(hessian(risk, point)).numpy()
assert np.allclose(afresh, matrix, rtol=0, atol=1e-9 * afresh.max())

# %%
scales, seen = (0.01, 0.1, 1.0, 10.0, 100.0), []
for alpha in scales:
    point, matrix = moved(np.log2(alpha))
    missed = (outputs(arrays(point), new_X).argmax(1) != new_y).double().mean().item()
    seen.append((risk.value(point), missed, eigvalsh(matrix)[-1], matrix.trace()))
    loss, _, sharpness, trace = seen[-1]
    print(f"α = {alpha:g}: loss {loss:.4f}, test error {missed:.3f}, λmax {sharpness:.1f}, trace {trace:.1f}")
losses, errors, sharpest, traces = np.array(seen).T

# %% [markdown]
# {{claim 3.2c}}
#
# The card: the largest relative difference of the five losses, the largest difference of the five test errors, and the quotient of the largest and the smallest λmax.

# %%
found = [np.ptp(losses) / losses[2], np.ptp(errors), sharpest.max() / sharpest.min()]
claim("3.2c", found, holds=lambda m: abs(m[0]) < 1e-9 and abs(m[1]) < 1e-9 and m[2] > 1000)

# %% [markdown]
# So no statement of the form "λmax (or the trace) above this value means bad generalization" can be true, for any value. The two extremes are one function.
#
# Two things are *not* shown. First, the very sharp copies are not where training goes. Gradient descent with η = 0.2 is stable up to λmax = 10, and the two copies far out have thousands. A statement about the minima that a given optimizer *finds* survives this section. Second, how flat can the same function be? The trace along the orbit is
#
# $$\operatorname{tr} H(\alpha) = \frac{a}{\alpha^2} + b\,\alpha^2 + c,$$
#
# with a, b and c the traces of the blocks: hidden layer, weights out of it, output biases. It is least where $\alpha^4 = a/b$, and there it is $2\sqrt{ab} + c$. But each hidden unit may have an α of its own! So the flattest version of this function, by rescaling, has
#
# $$\operatorname{tr} H_{\text{flattest}} = \sum_j 2\sqrt{a_j b_j} + c ,$$
#
# where $a_j$ belongs to the weights into unit j, and $b_j$ to those out of it. This number is the same for all copies: rescaling multiplies $b_j$ by what it divides $a_j$ by. A measure that no rescaling can fool, made of the plain trace.


# %%
def flattest(P, X):
    into, bias, out, last = diagonal(P, X)
    a, b = (into.sum(-2) + bias.sum(-2)), out.sum(-1)
    return 2 * (a * b).sqrt().sum(-1) + last.sum((-2, -1))


here = H.trace(), flattest(arrays(theta), X).item()
print(f"trace where training stopped: {here[0]:.3f}, at the flattest copy: {here[1]:.3f}")
print(f"flattest copy, found from α = 100: {flattest(arrays(moved(np.log2(100))[0]), X):.3f}")

# %% [markdown]
# Training stopped near the flattest copy, a tenth above it, without having been asked to. There is a reason. Under gradient flow the squared weights into a unit minus those out of it never change, for every ReLU unit. Small steps nearly keep that difference. Our rows and columns start with about the same length, so no unit could run away to a large α. This is why rescaling looks like a trick in trained networks. It is one: a legal one.
#
# ## 4. Adaptive sharpness, and what it does not see
#
# There is another way out. Let each weight move in proportion to its size, $\varepsilon_i = \sigma|\theta_i|\,\xi_i$. The average rise is then
#
# $$\tfrac{\sigma^2}{2}\sum_i \theta_i^2 H_{ii}, \qquad\text{and the worst one belongs to}\qquad \lambda_{\max}\big(|\theta|\,H\,|\theta|\big),$$
#
# with $|\theta|$ as a diagonal matrix. This is **adaptive sharpness** (`kwon2021`), to second order. Its invariance is one line, with D from above: $|D\theta|\,D^{-1}HD^{-1}\,|D\theta| = |\theta|\,H\,|\theta|$. The matrix itself is the same.
#
# Is it then a property of the function? Four changes, none of which changes a single decision of the network:
#
# - **rescaled**: α = 10, as before.
# - **permuted**: the hidden units in another order.
# - **shifted**: 10 is added to all output biases. The softmax does not see it: the same probabilities, the same loss, the same Hessian.
# - **louder**: all outputs times 2. The same decisions with more confidence. The test error stays. The loss does not.

# %%
choices = ["nothing", "the rescaling only", "the shift only", "rescaling and shift"]
predict("adaptive", "The loss stays under the first three. What changes Σ θᵢ²Hᵢᵢ?", choices, answer=None)


# %%
def three(P, X):
    parts = diagonal(P, X)
    return torch.stack(
        [total(parts), total([d * w**2 for d, w in zip(parts, P, strict=True)]), flattest(P, X)]
    )


W1, b1, W2, b2 = plain = arrays(theta)
order = np.random.default_rng(0).permutation(8)
changed = {
    "rescaled": [10 * W1, 10 * b1, W2 / 10, b2],
    "permuted": [W1[:, order], b1[:, order], W2[order], b2],
    "shifted": [W1, b1, W2, b2 + 10],
    "louder": [W1, b1, 2 * W2, 2 * b2],
}

# %%
print("           loss    trace  adaptive  flattest")
table = {"as trained": three(plain, X)} | {name: three(P, X) for name, P in changed.items()}
for name, row in table.items():
    loss = cross_entropy(outputs(changed.get(name, plain), X), y).item()
    print(f"{name:10} {loss:.4f} {row[0]:8.3f} {row[1]:9.3f} {row[2]:9.3f}")

# %% [markdown]
# The adaptive trace survives the rescaling and does not survive the shift, which changes even less: not the loss at any input, not the Hessian. Add a larger number, and any classifier is as sharp as you like again. It is Dinh's argument in another direction. To leave the biases out does not help: the same number may be added to all weights out of one hidden unit.
#
# And no measure survives the last line, where the outputs are louder. All fall, and the test error is the same. For cross-entropy on fitted data, sharpness is also a measure of *confidence*. `andriushchenko2023` see this problem too, and their code can normalize the outputs first.
#
# There is a price, too. Plain sharpness is the same after every rotation: for orthogonal Q, $H(Q\theta) = QHQ^\top$ has the same eigenvalues. Adaptive sharpness is tied to the axes. In a *linear* network one may rotate the hidden layer, $(W_1, b_1, W_2) \to (QW_1, Qb_1, W_2Q^\top)$, and the function stays.

# %%
line = EmpiricalRisk(mlp([64, 8, 10], activation="identity", rng=0), cross_entropy, (X, y))
at = torch.as_tensor(run(line.gradient, line.theta, gd(0.2), 100).points[-1])
W1, b1, W2, b2 = line.unflatten(at).values()
Q = torch.linalg.svd(W1)[0].mT  # the rotation that makes the rows of W1 orthogonal
turned = torch.cat([part.ravel() for part in (Q @ W1, Q @ b1, W2 @ Q.mT, b2)])

# %%
rotation = []
for name, w in (("as trained", at), ("rotated", turned)):
    entries = to_dense(hessian(line, w)).diagonal()
    rotation.append((entries.sum().item(), (w**2 * entries).sum().item()))
    print(f"{name}: loss {line.value(w):.4f}, trace {rotation[-1][0]:.3f}, adaptive {rotation[-1][1]:.3f}")

# %% [markdown]
# {{claim 3.2d}}
#
# The card: by which factor the adaptive trace changes under rescaling, permutation and shift, and then, in the linear network, the trace and the adaptive trace under the rotation.

# %%
quotients = [(table[name][1] / table["as trained"][1]).item() for name in ("rescaled", "permuted", "shifted")]
found = [*quotients, rotation[1][0] / rotation[0][0], rotation[1][1] / rotation[0][1]]
claim(
    "3.2d",
    found,
    holds=lambda m: max(abs(x - 1) for x in (m[0], m[1], m[3])) < 1e-9 and m[2] > 2 and m[4] > 1.1,
)

# %% [markdown]
# A measure is invariant to the symmetries that it was built for, and to no other. Before you compare two networks by a number, ask which changes leave the function alone, and whether the number knows.
#
# ## 5. A hundred and eight networks
#
# Now the empirical half of the note. *Do* flatter minima generalize better, if nobody cheats by rescaling? We need many networks, and a harder task. MNIST-1D it is: 600 examples to train, the other 4400 to test. All networks have 48 hidden ReLU units and He's first weights, and run for 1200 steps of SGD with momentum 0.9. They differ in
#
# - the step size η: 0.02, 0.04, 0.08,
# - the batch size: 48, 128,
# - the weight decay ω: 0, 0.001, 0.003,
# - the first weights: six draws for each of these 18 settings.
#
# All networks with one batch size are trained in **lockstep**: each array gets one more axis in front, for the networks. The gradient of the sum of their losses is the list of their gradients. They share the order of the batches.
#
# What do you expect of the rank correlation (Spearman's) of trace and test error? It is 1 if the sharper network always has the larger error, −1 if always the smaller one, 0 if the order tells nothing. The networks all have the same size, so that trace and average eigenvalue rank them alike.

# %%
choices = ["above 0.4: flatter is better", "between −0.4 and 0.4", "below −0.4: sharper is better"]
predict("pooled", "Trace and test error, over all 108 networks:", choices, answer=None)
predict("decay", "Trace and test error, among 36 networks with the same weight decay:", choices, answer=None)
predict("entropy", "Trace and test loss (cross-entropy), over all 108:", choices, answer=None)


# %%
def fit(batch, eta, omega, rng, steps=1200):
    eta, omega = torch.tensor(eta)[:, None, None], torch.tensor(omega)[:, None, None]
    shapes = (40, 48), (1, 48), (48, 10), (1, 10)  # He's first weights, biases 0
    P = [torch.tensor(rng.standard_normal((len(eta), *s))) * (2 / s[0]) ** 0.5 * (s[0] > 1) for s in shapes]
    V = [torch.zeros_like(part) for part in P]
    for _ in range(steps):
        rows = rng.integers(0, len(y), batch)
        P = [part.requires_grad_() for part in P]
        losses = cross_entropy(outputs(P, X[rows]).mT, y[rows].expand(len(eta), -1), reduction="sum") / batch
        slopes = torch.autograd.grad(losses, P)
        with torch.no_grad():
            V = [0.9 * v + g + omega * part for v, g, part in zip(V, slopes, P, strict=True)]
            P = [part - eta * v for part, v in zip(P, V, strict=True)]
    return P


# %%
X, y, more_X, more_y = (torch.tensor(part) for split in ("train", "test") for part in mnist1d(split=split))
new_X, new_y = torch.cat([X[600:], more_X]), torch.cat([y[600:], more_y])
X, y = X[:600], y[:600]
rng = np.random.default_rng(0)  # try another seed
etas, omegas, repeats = (0.02, 0.04, 0.08), (0.0, 0.001, 0.003), range(6)
eta, omega, _ = (each.ravel() for each in np.meshgrid(etas, omegas, repeats))
P = [torch.cat(pair).detach() for pair in zip(*(fit(b, eta, omega, rng) for b in (48, 128)), strict=True)]

# %%
many, new = outputs(P, X), outputs(P, new_X)
shape = (2, 3, 3, 6)  # batch size, weight decay, step size, repetition
trace, adaptive, flat = (each.reshape(shape).numpy() for each in three(P, X))
error = (new.argmax(-1) != new_y).double().mean(-1).reshape(shape).numpy()
entropy = cross_entropy(new.mT, new_y.expand(108, -1), reduction="none").mean(-1).reshape(shape).numpy()
fitted = (many.argmax(-1) == y).double().mean(-1)

# %%
print(
    f"fitted at least {fitted.min():.3f} of the training set; test error {error.min():.3f} to {error.max():.3f}"
)
for k, each in enumerate(omegas):
    print(
        f"ω = {each}: trace {np.median(trace[:, k]):.1f}, test error {np.median(error[:, k]):.3f} (medians)"
    )
for k, each in enumerate(etas):
    print(f"η = {each}: trace {np.median(trace[:, :, k]):.1f}, test error {np.median(error[:, :, k]):.3f}")

# %% [markdown]
# (The task is hard for a network without convolutions: chance is 0.9, and with 600 examples we get about 0.65.) Before any correlation, read these six lines. **Weight decay makes the networks sharper, and better.** Lesson 10 told you why sharper: without decay the outputs of a fitted network grow, and cross-entropy flattens. **A larger step makes them flatter, and better.** Two treatments help, one moves the trace up, the other down.
#
# ## 6. One cloud, three answers
#
# A rank correlation of 108 networks needs an interval. The 108 are not independent draws of anything. What we can do is to draw *settings* anew, with replacement, each with its six repetitions: a bootstrap. The interval then answers: how much does the number depend on which settings we happened to choose?


# %%
def rank(x, z):
    return spearmanr(x.ravel(), z.ravel()).statistic


def interval(x, z):
    x, z, rng = x.reshape(-1, 6), z.reshape(-1, 6), np.random.default_rng(1)
    picks = rng.integers(0, len(x), (400, len(x)))
    return np.percentile([rank(x[pick], z[pick]) for pick in picks], [2.5, 97.5])


def told(name, x, z):
    low, high = interval(x, z)
    print(f"{name:12} {rank(x, z):5.2f}  ({low:5.2f} to {high:5.2f})")
    return rank(x, z)


# %%
pooled = told("all", trace, error)
within = [told(f"ω = {each}", trace[:, k], error[:, k]) for k, each in enumerate(omegas)]
by_step = [told(f"η = {each}", trace[:, :, k], error[:, :, k]) for k, each in enumerate(etas)]

# %%
figure, (left, right) = panels(1, 2, size=(8, 4.2))
for k, (decay, step) in enumerate(zip(omegas, etas, strict=True)):
    left.plot(trace[:, k].ravel(), error[:, k].ravel(), MARKERS[k], ms=4, label=f"ω = {decay}")
    right.plot(trace[:, :, k].ravel(), error[:, :, k].ravel(), MARKERS[k], ms=4, label=f"η = {step}")
for axes in (left, right):
    axes.legend(loc="upper left", fontsize=8)
    axes.set(xlabel="trace of H", ylabel="test error", ylim=(0.6, 0.7))
show(
    figure, "One cloud of 108 networks: by weight decay three groups that rise, by step size none that does."
)

# %% [markdown]
# All 108 together: nothing. Within each weight decay: a positive correlation, flatter is better. This is **Simpson's paradox**: a relation that holds in each group is gone when the groups are pooled, or even turned round (the strict form; ours is the weaker one). There is no magic in it. Decay moves a whole group to the right *and* down. Between the groups sharper is better,
# inside the groups flatter is better, and the sum is about zero.
#
# Then group the same networks by step size. Now all three numbers are negative, and all three intervals contain 0. So "flatter is better" and "it makes no difference" are both there, in the same cloud. Which of them you publish depends on what you hold fixed. Whoever varies the step size at one decay will confirm the note. Whoever varies
# the decay at one step size will not.
#
# Is there anything left when *everything* is held fixed, and only the first weights differ? Subtract from each network the mean of its setting (of the logarithm of the trace, and of the error), and correlate what remains. The second cell puts two other measures beside the trace: the adaptive one, and the flattest copy.


# %%
def centred(x):
    return x - x.mean(-1, keepdims=True)


alike = told("same setting", centred(np.log(trace)), centred(error))

# %%
for name, measure in (("trace", trace), ("adaptive", adaptive), ("flattest", flat)):
    decay = [rank(measure[:, k], error[:, k]) for k in range(3)]
    step = [rank(measure[:, :, k], error[:, :, k]) for k in range(3)]
    print(f"{name:9} all {rank(measure, error):5.2f}, decay {min(decay):.2f} to {max(decay):.2f}", end="")
    print(f", step {min(step):5.2f} to {max(step):5.2f}")

# %% [markdown]
# What remains, in the first line, is a positive number whose interval just clears 0. These six networks have the same settings, and see the same batches. The flatter ones do a little better.
#
# Does all this depend on the seed? We ran it twice more, with seeds 1 and 2 in the cell of Section 5 (you can, too: change one number). Over all we saw 0.11 and 0.10. Within the decays all six numbers were between 0.37 and 0.77. Within the step sizes they were between −0.39 and 0.01. For equal settings, 0.58 and 0.43.
# So three findings repeat: nothing over all, a positive correlation within each decay, and one between the starts of a setting. The negative sign within the step sizes does not repeat: call that one "none". And the size of each number is known to one digit at best.
#
# Does a better measure help? Adaptive sharpness and the flattest copy, which no rescaling can fool, on the same cloud? See the small table. Adaptive sharpness does a little better over all, since decay moves it less. Between the step sizes it even changes its sign. The flattest copy does what the trace does: in trained networks rescaling was not the trouble. A better invariance does not resolve Simpson's paradox.
#
# ## 7. Another yardstick, another sign
#
# "Generalizes better" can mean a smaller test *error*, or a smaller test *loss*. That should not matter much? First the same correlations again, with the loss in the place of the error. Then make the outputs of each of the 108 networks louder by 2, after training, as in Section 4. Not one decision changes.

# %%
loud = told("test loss", trace, entropy)
for k, each in enumerate(omegas):
    told(f"ω = {each}", trace[:, k], entropy[:, k])

# %%
louder = [P[0], P[1], 2 * P[2], 2 * P[3]]
shrunk = total(diagonal(louder, X)).reshape(shape).numpy() / trace
paid = cross_entropy(outputs(louder, new_X).mT, new_y.expand(108, -1), reduction="none").mean(-1)
paid = paid.reshape(shape).numpy() / entropy
for k, each in enumerate(omegas):
    print(
        f"ω = {each}: trace times {np.median(shrunk[:, k]):.2f}, test loss times {np.median(paid[:, k]):.2f}"
    )
assert (outputs(louder, new_X).argmax(-1) == new.argmax(-1)).all() and paid.min() > 1.5

# %% [markdown]
# Measured by the loss, sharper is much better over all. Within ω = 0 it is the same, within the others the intervals contain 0. The second print says why. Louder networks are flatter, their test loss is worse, and their test error is what it was. So along the axis "confidence" flat goes with a bad loss, for a reason that has nothing to do with the decisions. A fitted network without decay goes along this axis for as long as you train it. This is why `granziol2020` calls flatness a false friend: with
# cross-entropy, the regularized solution is sharper and better.
#
# {{claim 3.2b}}
#
# The card, in this order: the rank correlation of trace and test error over all networks; the smallest within a weight decay; the largest within a step size; the one between networks of the same setting; and that of trace and test loss, over all.

# %%
found = [pooled, min(within), max(by_step), alike, loud]
claim(
    "3.2b", found, holds=lambda m: abs(m[0]) < 0.35 < m[1] and m[2] < 0.1 and 0 < m[3] < 0.9 and m[4] < -0.6
)
decays = np.broadcast_to(np.array(omegas)[:, None, None], shape)
steps = np.broadcast_to(np.array(etas)[:, None], shape)
knows = [rank(trace, decays), rank(trace, steps), rank(error, decays), rank(error, steps)]
print(f"trace with ω {knows[0]:.2f}, with η {knows[1]:.2f}")
print(f"test error with ω {knows[2]:.2f}, with η {knows[3]:.2f}")

# %% [markdown]
# What *does* the trace know, then? The last two lines say it: the settings.
#
# {{claim 3.2e}}
#
# The card: the rank correlation of the trace with ω and with η, of the test error with ω and with η, and of trace and test error.

# %%
claim(
    "3.2e",
    [*knows, pooled],
    holds=lambda m: m[0] > 0.5 and m[1] < -0.4 and m[2] < -0.2 and m[3] < -0.2 and abs(m[4]) < 0.35,
)

# %% [markdown]
# ## 8. What may be concluded
#
# > **Misconception: "flat minima generalize, so the sharper of two networks is the worse one".** Section 3 has two networks with one function, one of them nine thousand times sharper. Section 6 has groups in which decay made the sharper network the better one. A correlation, where there is one, belongs to a family of
# > trainings, to a measure and to a yardstick. It says nothing of two networks that differ in something else. The second question of the exit ticket is about this.
#
# | statement | what we have |
# |---|---|
# | $\operatorname{tr} H \approx \mathbb{E}[\lambda]$ | wrong by the factor p |
# | a sharp minimum generalizes badly | refuted: same function, any sharpness |
# | adaptive sharpness is a property of the function | refuted: a shift of the output biases changes it |
# | flatter goes with better | within one weight decay: yes. Within one step size: not seen. Over all: no. By the test loss, over all: the reverse |
# | making a network flatter makes it better | not tested by any correlation. Rescaling and louder outputs do it without any effect on the error |
# | of the minima that SGD finds with *one* setting, the flatter ones do better | yes, moderately, in three runs of this experiment; one architecture, one task |
#
# The last two lines are different questions. A correlation over trainings is an observation. Treatments that lower the sharpness, such as SAM (`foret2021`), are interventions, and many of them do help. Whether they help *because* of the flatness is open: `wen2023` show two-layer ReLU networks for which the flattest solutions do not generalize, and sharpness
# minimization still finds solutions that do. Our test has limits of its own: one hidden layer, 600 examples, no convolution, an error of 0.65.
#
# ## What to take away
#
# 1. The trace is p times the average eigenvalue. It is the average-case sharpness; λmax is the worst case. For a ReLU network it is never negative, and exact for the price of one pass.
# 2. No measure is invariant to everything that leaves the decisions alone. Rescaling fools the trace, a shift fools adaptive sharpness, confidence fools both.
# 3. Before you believe a correlation, group it by each setting that was varied. Ours is 0 over all, and clearly positive within each weight decay.
#
# ## Exit ticket
#
# Replace each `None` by the number of your answer, and run the cell.

# %%
a = 1 if abs(copies[0] - 1) < 1e-6 and copies[1] < 0.6 else 0
b = 2 if sharpest[3] / sharpest[2] > 10 else 1
c = 2 if abs(quotients[0] - 1) < 1e-6 and quotients[2] > 1.1 else 0
d, e, f = (0 if x > 0.4 else 2 if x < -0.4 else 1 for x in (pooled, min(within), loud))

# %%
ticket(
    TICKET,
    answers=[None, None, None],
    outcomes={"split": a, "rescale": b, "adaptive": c, "pooled": d, "decay": e, "entropy": f},
)

# %% [markdown]
# ## In practice: your own model
#
# - State the measure with the word: trace or λmax, divided by p or not, adaptive or not, on the training loss, with which normalization of the outputs. "Sharpness" alone is not a number.
# - With a normalization layer behind a weight matrix, the length of the matrix means nothing to the function: $H(cw) = H(w)/c^2$. Then compare $\lVert w\rVert^2\lambda$, never λ.
# - Compare sharpness at equal training loss, or better at equal confidence. With cross-entropy and no decay, training longer makes a fitted classifier flatter by itself.
# - If you must correlate, vary the settings one at a time, report each group with its interval, and repeat it with other seeds. If your conclusion is in the pooled number only, you do not have one.
# - To choose a model, use held-out data. It is cheaper than a Hessian, and it measures what you want.
#
# ## Further reading
#
# - `dinh2017` (Dinh and others, *Sharp Minima Can Generalize For Deep Nets*, 2017): the rescaling, and more general changes of coordinates.
# - `andriushchenko2023` (Andriushchenko and others, *A Modern Look at the Relationship between Sharpness and Generalization*, 2023): many measures, up to ImageNet and BERT.
# - `kaur2023` (Kaur, Cohen and Lipton, *On the Maximum Hessian Eigenvalue and Generalization*, 2023): treatments that move λmax and not the test error.
# - `granziol2020` (Granziol, *Flatness is a False Friend*, 2020). `wen2023` (Wen, Li and Ma, 2023): flattest models that do not generalize.
# - For the other side: `hochreiter1997` (*Flat Minima*), `keskar2017` (large batches and sharp minima), `jastrzebski2018` (step size over batch size), `foret2021` (SAM), `kwon2021` (ASAM, adaptive sharpness).
