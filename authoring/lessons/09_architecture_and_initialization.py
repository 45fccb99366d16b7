# %% [markdown]
# {{header}}

# %%
import numpy as np
import torch
from torch import nn, relu
from torch.nn.functional import cross_entropy, gelu, layer_norm, one_hot

from hesslab.checks.lesson_09 import TICKET
from hesslab.course import claim, predict, start, ticket
from hesslab.curvature import blocks, ggn, hessian
from hesslab.data import digits
from hesslab.lanczos import eigsh
from hesslab.operators import to_dense
from hesslab.plots import panels, show, watched
from hesslab.risk import EmpiricalRisk, mlp

start()

# %% [markdown]
# ## 1. Five networks from the same weights
#
# Section 6 of the note lists four design choices and says what each does to the spectrum. All four are popular, and all four help. The question is whether they help *for the reason
# given*, and under which conditions. We ask it at one moment first: at birth, before any step.
#
# The body of our networks has $L$ blocks of width 24. Each block is "normalize, ReLU, linear":
#
# $$\text{plain: } x \leftarrow W\,\mathrm{relu}(N(x)), \qquad \text{skip: } x \leftarrow x + s\, W\,\mathrm{relu}(N(x)) .$$
#
# $N$ is BatchNorm or nothing. With $s = 1$ the skip is that of a residual network; $s = 1/\sqrt L$ is the **scaled** one. A first linear layer reads the 64 pixels, a last one writes ten logits. The weights
# are Gaussian with variance 2/fan-in, made for ReLU (`he2015`), and *the same* for all five networks of a seed. The
# data are 128 digits, the loss is the cross-entropy. All is in float64.


# %%
class Stack(nn.Module):
    def __init__(self, depth, norm=False, skip=False, scale=1.0, rng=0):
        super().__init__()
        self.linears = mlp([64, *[24] * (depth + 1), 10], activation="relu", gain=2**0.5, rng=rng)[::2]
        kind = nn.BatchNorm1d if norm else nn.Identity
        self.norms = nn.ModuleList([kind(24) for _ in range(depth + 1)])
        self.skip, self.scale = skip, scale

    def forward(self, x):
        x = self.linears[0](x)
        for norm, linear in zip(self.norms[:-1], self.linears[1:-1], strict=True):
            branch = linear(relu(norm(x)))
            x = x + self.scale * branch if self.skip else branch
        return self.linears[-1](relu(self.norms[-1](x)))


# %%
images, labels = digits(200, rng=0)
X, y = torch.tensor(images), torch.tensor(labels)
data = X[:128], y[:128]


def kinds(L):
    both, scaled = {"norm": True, "skip": True}, {"skip": True, "scale": L**-0.5}
    return {"plain": {}, "BN": {"norm": True}, "skip": {"skip": True}, "scaled": scaled, "BN + skip": both}


def ends(net):
    H = hessian(EmpiricalRisk(net, cross_entropy, data), verify=False)  # Section 3 runs the self-check
    return eigsh(H, 2, which="BE", rtol=1e-3, search=False, rng=0).values


# %% [markdown]
# `ends` asks for *both* ends of the spectrum, $\lambda_{\max}$ and $\lambda_{\min}$. In some of these networks the most negative eigenvalue is the largest in modulus. Power iteration would return
# it (Lesson 04), and the tolerance of `eigsh`, 0.001 here, is relative to the larger of the two.
#
# BatchNorm is in **train mode**: it uses mean and variance of the batch, and the batch is all 128 images. That is the loss that training sees. Section 3 shows that the other mode is another
# function, with another Hessian. `EmpiricalRisk` puts the running averages back after each evaluation.

# %%
question = "Depth 20. Against the plain network, BatchNorm alone (no skip) makes λmax"
predict("norm", question, ["smaller, by a factor of 4 or more", "about the same", "larger"], answer=None)
question = "Depth 20. Against the plain network, skips alone (s = 1, no BatchNorm) make λmax"
predict("skip", question, ["smaller", "about the same", "over ten times larger"], answer=None)

# %%
depths, seeds, top = (2, 5, 10, 20), range(3), {}
print("λmax, median of 3 seeds, at depths", depths)
for name in kinds(1):
    top[name] = np.array([[ends(Stack(L, rng=s, **kinds(L)[name]))[0] for s in seeds] for L in depths])
    print(f"{name:>9s}", "  ".join(f"{value:.2g}" for value in np.median(top[name], axis=1)))

# %%
figure, axes = panels()
medians = {name: (depths, np.median(values, axis=1)) for name, values in top.items()}
watched(axes, medians, xlabel="depth L (blocks)", log=True)
axes.set(ylabel="λmax at birth, median of 3 seeds", xticks=depths)
show(figure, "λmax with depth: skips alone and BatchNorm alone explode; scaled skips, and both, stay flat.")

# %% [markdown]
# The axis is logarithmic: at depth 20 the five medians, from the same weights, spread over more than four orders of magnitude. Two curves are nearly flat, and each of them has *two* ingredients. Each ingredient alone fails at
# depth: skips without scale or BatchNorm, and BatchNorm without skips.
#
# So the effect of a design choice on $\lambda_{\max}$ is no property of the choice. It depends on the depth, and on what else is in the network. At depth 20 the
# seeds differ by up to a factor of ten, above all for the plain network. The cards use contrasts that hold for each of the three; where other seeds and other digits broke one, we say so.
#
# ## 2. Skips: why the scale decides
#
# Follow the size of the signal, $q_l$, the mean of $x_i^2$ over units and images after block $l$. At birth $W$ is independent of $x$ and has mean 0. So the branch is, on average over $W$, orthogonal to $x$, and their squares add. A He-initialized branch is as large
# as its input, on average, if the entries of $x$ are symmetric about 0. Hence, with the scale $s$,
#
# $$q_{l+1} \approx (1 + s^2)\, q_l, \qquad q_L \approx (1 + s^2)^L q_0 .$$
#
# For $s = 1$ this is $2^L$, a million at depth 20. For $s = 1/\sqrt L$ it is $(1 + 1/L)^L < e$ at every depth. And BatchNorm on the branch? It makes the *input* of the branch standard. The branch
# then adds about 1 to $q$, whatever $q$ is: $q_L \approx q_0 + L$. Block $l$ adds to a signal of size about $l$; relative to it, it is scaled by $1/\sqrt l$, and no one had to choose that scale (`de2020`).


# %%
def size(L, scale, relu_last=False, normal=False):
    found = []
    for rng in map(np.random.default_rng, range(20)):
        x = X.numpy() @ rng.standard_normal((64, 24)) * (2 / 64) ** 0.5
        for W in rng.standard_normal((L, 24, 24)) * (2 / 24) ** 0.5:
            z = (x - x.mean(axis=0)) / x.std(axis=0) if normal else x
            x = x + scale * (np.maximum(z @ W, 0) if relu_last else np.maximum(z, 0) @ W)
        found.append((x**2).mean())
    return np.mean(found)


# %%
for L in (5, 10, 20, 40):
    ones, scaled, normal = size(L, 1), size(L, L**-0.5), size(L, 1, normal=True)
    late, later = size(L, L**-0.5, relu_last=True), size(L, 1 / L, relu_last=True)
    print(f"{L:2d} blocks: s = 1 {ones:.0e}, scaled {scaled:.1f}, BN {normal:.1f} | {late:.1f}, {later:.1f}")
assert scaled < 2.4 * np.e and late > 20 * scaled and abs(normal / 40 - 1) < 0.15

# %% [markdown]
# The start is $q_0 \approx 2$. The three laws hold: doubling a block (on average; the products of many random factors scatter widely), a bound near $2e \approx 5.4$ (it holds on average over the weights; a trial may pass it), and growth by 1 a block.
#
# Does $\lambda_{\max}$ grow as the signal does? Not by the same law. The Gauss–Newton part of the Hessian holds the square of the Jacobian, which grows with the signal. But with the cross-entropy it also holds $\mathrm{diag}(p) - p\,p^\top$, and huge logits make $p$ nearly one-hot: most images then count
# for nothing. So $\lambda_{\max}$ of the unscaled skips grows here by less than 2 a block, and depends on the few images that are undecided. With the squared error nothing would dampen it.
#
# The two numbers behind the bar are a warning, with the scales $1/\sqrt L$ and $1/L$. There the branch ends in the ReLU, $x + s\,\mathrm{relu}(Wx)$. Its entries are not negative, so neither branch nor $x$ has mean 0, and their inner product does
# not vanish. The squares no longer simply add: there is a term of first order in $s$. With $s = 1/\sqrt L$ the signal grows like $e^{c\sqrt L}$; now $1/L$ is the scale that works. The rule "$1/\sqrt L$" has a condition: branches of mean zero.
#
# {{claim 6.2}}
#
# The card takes, at depth 20, the *worst* of the three seeds for each of three contrasts: skips over plain, scaled over plain, BatchNorm with skips over plain. Three more seeds confirmed all three. Of three seeds on other digits, one broke the last two: its plain network began with
# $\lambda_{\max} = 2.6$, the others with 60 to 1800. It was the *plain* network that left the rule: the scaled ones and those with BatchNorm and skips stayed between 2.9 and 26, all six times.

# %%
over = {name: values[3] / top["plain"][3] for name, values in top.items()}
contrasts = [over["skip"].min(), over["scaled"].max(), over["BN + skip"].max()]
claim("6.2", contrasts, holds=lambda m: m[0] > 50 and m[1] < 0.5 and m[2] < 0.2)

# %% [markdown]
# And the first half of the sentence, the flow of gradients? We train the plain and the scaled network of depth 20, by gradient descent on all 128 images, 60 steps with η = 0.05. Then the unscaled
# one, with the same step.


# %%
def descend(net, eta, steps, loss=cross_entropy, pair=data):
    optimizer, losses = torch.optim.SGD(net.parameters(), lr=eta), []
    for _ in range(steps):
        optimizer.zero_grad()
        losses.append(loss(net(pair[0]), pair[1]))
        losses[-1].backward()
        optimizer.step()
    return torch.stack(losses).detach().numpy()


# %%
nets = [Stack(20, rng=seed, **kinds(20)[name]) for name in ("plain", "scaled") for seed in seeds]
flow, unscaled = [descend(net, 0.05, 60)[-1] for net in nets], descend(Stack(20, skip=True, rng=1), 0.05, 20)
assert min(flow[:3]) > 1.5 and max(flow[3:]) < 0.5 and unscaled[-1] > 2.2 and unscaled[0] > 50

# %% [markdown]
# The scaled network reaches a loss below 0.5 for each seed. The plain one stays above 1.5. And the network with unscaled skips, of which we show one seed, begins at a loss above 50, falls to that of guessing, $\ln 10 \approx 2.30$, in a few steps, and stays there: the first steps have
# destroyed it. (Two other seeds: one ends there too, one overflows.) So skips do carry gradients, given a scale. (This cell prints nothing: digits of a training run may differ between processors. Ranges hold.)
#
# ## 3. BatchNorm: which mode, which measure
#
# BatchNorm computes, for each unit $j$ and over the batch,
#
# $$\hat z_{ij} = \frac{z_{ij} - \mu_j}{\sqrt{v_j + \epsilon}}, \qquad \text{output } \gamma_j \hat z_{ij} + \beta_j .$$
#
# In **train mode** $\mu$ and $v$ are those of the batch, and so functions of the weights: derivatives run through them. In **eval mode** they are constants, the running averages of the past. At birth
# these are 0 and 1, and in eval mode BatchNorm does nothing at all.

# %%
question = "A fresh network with BatchNorm, switched to eval mode: its λmax (in the linear layers) is"
choices = ["as in train mode", "that of the plain network with the same weights", "0"]
predict("mode", question, choices, answer=None)


# %%
def sharpness(name, net):
    H = hessian(EmpiricalRisk(net, cross_entropy, data, parameters="linears.*"))
    modes[name] = eigsh(H, 2, which="BE", rtol=1e-3, rng=0).values[0]
    print(f"{name}: λmax {modes[name]:.1f}, loss {cross_entropy(net(data[0]), data[1]).item():.2f}")


modes, net = {}, Stack(5, norm=True)
sharpness("plain", Stack(5))
sharpness("BatchNorm, eval, fresh", net.eval())
for norm in net.train().norms:
    norm.momentum = None  # running averages become plain means: here, of one batch
sharpness("BatchNorm, train", net)
sharpness("BatchNorm, eval, later", net.eval())

# %% [markdown]
# Fresh and in eval mode it *is* the plain network. (Up to PyTorch's $\epsilon = 10^{-5}$.) After one batch, eval mode has nearly the loss of train mode; the small difference is that PyTorch stores the variance with $n - 1$ below the line.
# The *value* agrees, and the curvature is more than twice as large (for six other seeds 1.7 to 4.4 times), since the statistics no longer answer when the weights move. Measure in train mode to speak of training, on batches of the size that training
# uses, and say so.
#
# Train mode also has symmetries. A weight in front of BatchNorm, with no skip around the BatchNorm, can be multiplied by any $\alpha > 0$: the output stays (up to ε), since $\mu$ and $\sqrt v$ are multiplied as well. So the second derivative in that
# weight is divided by $\alpha^2$. And a bias in front of BatchNorm is subtracted again: its rows of the Hessian are 0.


# %%
def block_tops(risk):
    parts = blocks(risk, by=str).map(lambda A: eigsh(A, 1, rtol=1e-3, search=False, rng=0))
    return {name: pair.values[0] for name, pair in parts.items()}


net = Stack(5, norm=True)
risk = EmpiricalRisk(net, cross_entropy, data, parameters="*weight")
one = block_tops(risk)
net.linears[2].weight.data *= 10  # the second block
ten = block_tops(risk)
shrunk = [one[name] / ten[name] for name in ("linears.4.weight", "linears.6.weight")]
print(f"W₂ → 10 W₂: its block shrinks by {shrunk[0]:.0f}, the next by {shrunk[1]:.0f}")
assert abs(shrunk[0] - 100) < 1

# %% [markdown]
# Same function, same loss, and one block of the Hessian a hundredth of what it was. `blocks` has computed the largest eigenvalue of every layer's own block, all in one set of passes over the data.
#
# So *which* measure is "better conditioned"? Take two. The first is $\lambda_{\max}$, which bounds the step of the quadratic model. The second is how far the outliers stand above the rest. For this we take the Gauss–Newton matrix, which has no
# negative eigenvalues at all (Lesson 06), and the quotient of its first and its tenth eigenvalue, $\lambda_1/\lambda_{10}$.


# %%
def spread(net):
    G = ggn(EmpiricalRisk(net, cross_entropy, data))
    values = eigsh(G, 10, rtol=1e-3, rng=0).values
    return values[0] / values[9]


# %%
spreads = {}
for name in ("plain", "BN"):
    spreads[name] = np.array([[spread(Stack(L, name == "BN", rng=s)) for s in seeds] for L in depths[:3]])
    print(f"{name}: λ₁/λ₁₀ at depths 2, 5, 10:", *(f"{v:.2g}" for v in np.median(spreads[name], axis=1)))

# %% [markdown]
# {{claim 6.1b}}
#
# Five numbers over all three seeds: the worst quotient $\lambda_{\max}(\text{BN})/\lambda_{\max}(\text{plain})$ at depths 2 and 5; the *smallest* one at depth 20; the worst quotient of the two $\lambda_1/\lambda_{10}$ at the depths 2, 5 and 10; the quotient of the medians of $\lambda_{\max}$ at depth 10.

# %%
versus = top["BN"] / top["plain"]
halves = [versus[0].max(), versus[1].max(), versus[3].min(), (spreads["BN"] / spreads["plain"]).max()]
halves.append(np.median(top["BN"][2]) / np.median(top["plain"][2]))
claim("6.1b", halves, holds=lambda m: m[0] < 0.6 and m[1] < 0.85 and m[2] > 3 and m[3] < 0.7 and m[4] > 1)

# %% [markdown]
# Without skips, BatchNorm lowers $\lambda_{\max}$ in shallow networks and raises it in deep ones. (In six more trials this held at depths 2 and 20 each time, at depth 5 but for one seed.) That it raises it is known: gradients in such networks explode with depth (`yang2019`). An earlier trial, on 256 digits, found the same change of sign. `yao2020` finds the reverse order for residual networks: BatchNorm smooths the deep ones, and not always the shallower ones. They have skips, and our deep network with skips is smooth as well. And at the depths where we looked the outliers stand out *less* with BatchNorm, also where $\lambda_{\max}$ is higher: `ghorbani2019` finds this on large
# networks in training. Both findings are right. They are about different numbers.
#
# A reason is near at hand for the outliers. In a deep plain ReLU network the signals of all images become alike: each block adds to what they have in common. One common direction then carries most of the Jacobian, and with it the curvature. BatchNorm subtracts the mean over the images at every block, and so the part that they share.
# We did not test this explanation here. You could, with the cosines between the signals of different images, block by block.
#
# ## 4. The story of the covariate shift
#
# Why would BatchNorm help? The paper that introduced it (`ioffe2015`) said: the inputs of a layer change their distribution all the time, because the layers below it train. BatchNorm reduces this **internal covariate shift**.
# The story makes a prediction. *Put the shift back behind BatchNorm, and its advantage is gone.* `santurkar2018` did this with large networks. We do it with ours: after each BatchNorm, every unit gets a random scale and a random
# mean, drawn anew at each step.
#
# $$\hat z_{ij} \;\to\; a_j\, \hat z_{ij} + b_j, \qquad a_j \in [1, 1.4],\quad b_j \in [-0.4, 0.4] \quad \text{uniform, new at each step.}$$
#
# As a measure of the shift we take the change of each unit's mean from one step to the next, over its standard deviation; mean over units, layers and steps. (`santurkar2018` draws the noise for each image as well, from a distribution that changes from step to step.)


# %%
class Shaken(nn.Module):
    def __init__(self, norm, rng=None):
        super().__init__()
        self.norm, self.rng, self.seen = norm, rng, []

    def forward(self, x):
        z = self.norm(x)
        if self.rng is not None:
            a, b = self.rng.uniform(1, 1.4, 24), self.rng.uniform(-0.4, 0.4, 24)
            z = torch.tensor(a) * z + torch.tensor(b)
        self.seen.append(torch.stack([z.mean(0), z.std(0) + 1e-9]).detach())
        return z


# %%
question = "Depth 10, η = 0.3, where the plain network fails. BatchNorm with the shift put back"
choices = ["fails as well", "trains, though not as fast as BatchNorm", "trains faster"]
predict("shift", question, choices, answer=None)


# %%
def story(seed, norm, shift):
    net, rng = Stack(10, norm, rng=seed), np.random.default_rng([seed, 1]) if shift else None
    net.norms = nn.ModuleList([Shaken(norm, rng) for norm in net.norms])
    losses = descend(net, 0.3, 100)
    seen = torch.stack([torch.stack(norm.seen) for norm in net.norms], dim=1)
    return losses, ((seen[1:, :, 0] - seen[:-1, :, 0]).abs() / seen[1:, :, 1]).mean().item()


setups = {"plain": (False, False), "BatchNorm": (True, False), "BN, shift put back": (True, True)}
runs = {name: [story(seed, *setup) for seed in seeds] for name, setup in setups.items()}
shifts = np.array([[shift for _, shift in each] for each in runs.values()])
ends_at = np.array([[losses[-20:].mean() for losses, _ in each] for each in runs.values()])

# %%
figure, axes = panels()
watched(axes, {name: each[0][0] for name, each in runs.items()}, log=True)
axes.set(ylabel="loss")
show(figure, "The loss stays high in the plain network; with BatchNorm it falls, shift put back or not.")

# %% [markdown]
# {{claim 6.1a}}
#
# The card measures: the largest shift with BatchNorm; the smallest with the shift put back; the worst loss with the shift put back over the best of the plain network (means of the last 20 steps). The fourth number is about conditioning: a shift that is held fixed is a choice of γ and β. We give them random values, and take
# $\lambda_1/\lambda_{10}$ at depth 10 over that of the plain network, the worst of three seeds.


# %%
def still_shifted(seed):
    net, rng = Stack(10, norm=True, rng=seed), np.random.default_rng(seed)
    for norm in net.norms:
        norm.weight.data.copy_(torch.tensor(rng.uniform(1, 1.4, 24)))
        norm.bias.data.copy_(torch.tensor(rng.uniform(-0.4, 0.4, 24)))
    return spread(net)


conditioned = max(still_shifted(seed) / spreads["plain"][2, seed] for seed in seeds)
evidence = [shifts[1].max(), shifts[2].min(), ends_at[2].max() / ends_at[0].min(), conditioned]
claim("6.1a", evidence, holds=lambda m: 50 * m[0] < 0.15 < m[1] and m[2] < 0.25 and m[3] < 0.5, varies=True)
assert (ends_at[1] <= ends_at[2]).all() and min(0.15 * top["BN"][2]) > 5

# %% [markdown]
# BatchNorm *does* what its first authors said: the shift of the means is under 0.003. Put back, it is more than fifty times as large; and the network trains all the same. For every seed its loss is less than a
# quarter of the best loss of the plain network. Its outliers stand out half as much, or less. So, here, neither training nor conditioning hangs on the reduced shift. Nor is η = 0.3 unfair to the plain network: with 0.1, 0.05 and 0.02 and six other seeds its loss stayed above 0.67, and the shifted one, at 0.3, below 0.04. The shift is not harmless either: the shifted loss is the higher of the two for each seed, in the figure several times as high.
#
# What *is* the mechanism? `santurkar2018` answers: a smoother landscape. Look back. At depth 10 BatchNorm does *not* lower the median $\lambda_{\max}$ at birth. With η = 0.3, $\eta\lambda_{\max}/2$ is above 5 for each seed, far beyond the edge (the assertion). It trains nevertheless, and the plain network does not. So $\lambda_{\max}$ at birth is not the reason here. Smoothness along
# the path, less prominent outliers, and signals that do not die out all remain possible. This lesson does not decide between them.
#
# ## 5. Initialization: what a gain controls
#
# `glorot2010` chose the variance of the first weights so that signals and gradients keep their *variance* from layer to layer. That is a statement about first derivatives. What follows for $\lambda_{\max}$? A tanh network with ten hidden layers
# of 32; the weights are $N(0, \text{gain}^2/\text{fan-in})$. For equal widths, gain 1 is Glorot's choice.

# %%
question = "Gain 0.25 instead of 1 in ten tanh layers: λmax, nearly 4 before, falls to 0.11. Training with a step of 1/λmax becomes"
choices = ["easier: a smaller λmax, a longer step", "no different", "nearly impossible"]
predict("gain", question, choices, answer=None)


# %%
def deep(gain, seed):
    return mlp([64, *[32] * 10, 10], gain=gain, rng=seed)


tops = {gain: [ends(deep(gain, s))[0] for s in seeds] for gain in (0.01, 0.25, 0.5, 1.0, 2.0, 3.0)}
for gain, values in tops.items():
    print(f"gain {gain:4}: λmax from {min(values):.3g} to {max(values):.3g}")

# %% [markdown]
# Four orders of magnitude, from a number that nobody reports. The first one can be predicted. As the gain goes to 0, so do all logits: each probability is $\frac1{10}$, and only the output *bias* still matters. Its Hessian is $\mathrm{diag}(p) - p\,p^\top$ with all $p_c = \frac1{10}$: the
# eigenvalue $\frac1{10}$, nine times (Lesson 01). The small $\lambda_{\max}$ is that of ten biases. All else in this network is nearly dead.
#
# Is a small $\lambda_{\max}$ good? Give each network the step that it allows, $1/\lambda_1$, with $\lambda_1$ from its Gauss–Newton matrix, and 100 steps. We take 20 images and half the squared error, which Section 6 needs. (For that loss the biases alone give $\lambda_1 \approx 1$.)


# %%
def half_squares(outputs, targets):
    return ((outputs - targets) ** 2).sum(1).mean() / 2


few, Y = X[:20], one_hot(y, 10).double()


def kernel(net):
    weights = {name: weight.detach() for name, weight in net.named_parameters()}
    J = torch.func.jacrev(lambda w: torch.func.functional_call(net, w, (few,)).flatten())(weights)
    J = torch.cat([part.flatten(1) for part in J.values()], dim=1)
    return torch.linalg.eigvalsh(J @ J.T / 20).numpy()


def fit(net, steps=101):
    values = kernel(net)
    return values, descend(net, 1 / values[-1], steps, half_squares, (few, Y[:20]))


# %%
tries = {gain: [fit(deep(gain, seed)) for seed in seeds] for gain in (0.25, 1.0)}
left = {gain: [losses[-1] / losses[0] for _, losses in each] for gain, each in tries.items()}
print("loss left: gain 0.25", np.round(left[0.25], 3), " gain 1", np.round(left[1.0], 3))
assert abs(np.array(left[0.25]) - (1 - (Y[:20].mean(0) ** 2).sum().item())).max() < 1e-3

# %% [markdown]
# The "flat" network has lost a sixth of its loss: its ten biases have moved, and nothing else. Indeed, the best that ten constants can do is to give each class its frequency $f_c$, which leaves $1 - \sum_c f_c^2$ of the loss. The assertion compares: the network has found this, and nothing beyond. A small $\lambda_{\max}$ next to a vanishing *rest* is bad conditioning.
#
# And where training goes to the edge, the choice is forgotten. Lesson 07 has the experiment: one network started at half its edge (gain 0.5) and above it (gain 1). The first one rose to it; the second one fell, within 30 steps, from up to 3.6 times the edge to less than 1.15 times. The first weights decide where training begins, and
# whether it can begin at all.
#
# {{claim 6.3}}
#
# Three numbers: $\lambda_{\max}$ at gain 0.01, largest of three seeds, and at gain 3, smallest; and the least part of the loss that is left at gain 0.25.

# %%
held = [max(tops[0.01]), min(tops[3.0]), min(left[0.25])]
claim("6.3", held, holds=lambda m: abs(m[0] - 0.1) < 0.001 and m[1] > 1e3 and m[2] > 0.7)

# %% [markdown]
# ## 6. Overparameterization: zeros do not help
#
# "Many near-zero eigenvalues, enabling easier optimization": two statements and a causal link. The zeros first. The Gauss–Newton matrix is $G = \frac1n J^\top M J$, where $J$ has a row for each output of each of the $n$ images, $C$ outputs an image. With cross-entropy each
# image's $M$ has rank $C - 1$. So $G$ has rank at most $n(C-1)$, and at least $p - n(C-1)$ zeros, for $p$ weights. With the squared error it is $nC$.

# %%
question = "20 images, 10 classes, cross-entropy, a network of 1210 weights. How many eigenvalues of G are 0?"
predict("zeros", question, answer=None)


# %%
def zeros(net):
    values = np.linalg.eigvalsh(to_dense(ggn(EmpiricalRisk(net, cross_entropy, (few, y[:20])))).numpy())
    return int((values < 1e-10 * values[-1]).sum())


usual, spared = mlp([64, 16, 10], rng=0), mlp([64, 16, 10], rng=0)
spared.register_parameter("unused", nn.Parameter(torch.zeros(600)))
counts = [zeros(usual), zeros(spared)]
print("zero eigenvalues:", counts[0], "of 1210, and with 600 unused weights", counts[1], "of 1810")

# %% [markdown]
# 1210 − 20 · 9 = 1030. The rank is exactly the bound here. (It need not be: a network of 610 weights reached 169 of 180.) Then we have overparameterized the network for nothing: 600 weights that no output uses. The zeros grow by 600. Does training get easier?

# %%
eta = 1 / kernel(usual)[-1]  # the same step for both
losses = [descend(net, eta, 51, half_squares, (few, Y[:20])) for net in (usual, spared)]
print(f"largest difference of the losses in 50 steps: {abs(losses[0] - losses[1]).max():.0f}")

# %% [markdown]
# Not by the last bit. Zeros are directions in which nothing happens. What does help then? For the squared error, let $r$ hold the $nC$ residuals, so that $L = \lVert r\rVert^2/2n$ and $\nabla L = J^\top r/n$. Then
#
# $$\lVert \nabla L\rVert^2 = \frac{r^\top J J^\top r}{n^2} = \frac{r^\top K r}{n} \;\ge\; 2\,\lambda_{\min}(K)\, L, \qquad K = \tfrac1n J J^\top .$$
#
# $K$ is $nC \times nC$: the **tangent kernel**. For this loss its nonzero eigenvalues are those of $G$. If its *smallest* eigenvalue stays above a positive constant along the path, and the step is small enough, the loss falls exponentially, whatever the $p \times p$ Hessian looks like (`liu2022`; the condition is called PL\*). A zero of $G$ costs nothing. A zero of
# $K$ is a direction of the residuals that, to first order, no weight can move. Widen the network:

# %%
wide = {h: [fit(mlp([64, h, 10], rng=seed)) for seed in seeds] for h in (8, 16, 64, 256)}
for h, each in wide.items():
    bottom = np.median([max(values[0] / values[-1], 0) for values, _ in each])
    kept = np.median([loss[-1] / loss[0] for _, loss in each])
    print(f"width {h}: λmin/λmax of K {bottom:.4f}, loss left after 100 steps {kept:.4f}")

# %% [markdown]
# In each row training is faster than in the row before, and the quotient is larger. Width 8 has a kernel with zeros, and still loses 95 % of its loss: most of the first residual lies in directions that the weights can move. What is left is the rest.
#
# {{claim 6.4}}
#
# The card: the zeros and the zeros with unused weights, 1030 and 1630 as predicted; the largest difference of the losses; the smallest quotient of what is left at width 8 and at width 256; and the case where the causal link breaks in the other direction: the deep tanh network with gain 0.25 has 11 914 weights, at
# least 11 714 zeros, and keeps more than 0.7 of its loss. Its $\lambda_{\min}(K)/\lambda_{\max}(K)$ is the last number.

# %%
faster = min(a[1][-1] / b[1][-1] for a, b in zip(wide[8], wide[256], strict=True))
dead = max(values[0] / values[-1] for values, _ in tries[0.25])
measured = [*counts, abs(losses[0] - losses[1]).max(), faster, min(left[0.25]), dead]
close = (1030, 1630)
claim(
    "6.4",
    measured,
    holds=lambda m: (*m[:2],) == close and m[2] < 1e-12 and m[3] > 30 and m[4] > 0.7 and m[5] < 1e-10,
)

# %% [markdown]
# > **Misconception: "many zero eigenvalues make training easy".** Beyond $nC$ weights, each further one gives a zero, *always*. They make training easier if they raise $\lambda_{\min}$ of the $nC \times nC$ kernel, which unused weights do not, and a badly scaled deep network does not either. The second question of the exit ticket is
# > about this.
#
# ## 7. A transformer, block by block
#
# {{claim 6.5}}
#
# So far we looked at the whole Hessian. A transformer has matrices with different jobs: embedding of tokens and places, query, key, value, output, two layers of an MLP, readout. `zhang2024` compares the *blocks* of the Hessian on its diagonal. Ours has one layer, width 16, a vocabulary
# of 24, and sentences of 12 tokens whose second half repeats the first; the frequent tokens are much more frequent than the rare ones (Zipf's law).

# %%
SHAPES = {"embed": (24, 16), "place": (12, 16), "query": (16, 16), "key": (16, 16), "value": (16, 16)}
SHAPES |= {"out": (16, 16), "up": (64, 16), "down": (16, 64), "read": (24, 16)}
rng, p, future = np.random.default_rng(0), 1 / np.arange(1, 25), torch.ones(12, 12).bool().triu(1)
half = torch.tensor(rng.choice(24, (32, 7), p=p / p.sum()))
sentences = torch.cat([half, half[:, :6]], dim=1)


def former(w, tokens):
    x = w["embed"][tokens[:, :-1]] + w["place"]
    a = layer_norm(x, [16])
    scores = ((a @ w["query"].T) @ (a @ w["key"].T).mT / 4).masked_fill(future, -1e9)
    x = x + scores.softmax(-1) @ (a @ w["value"].T) @ w["out"].T
    x = x + gelu(layer_norm(x, [16]) @ w["up"].T) @ w["down"].T
    return (layer_norm(x, [16]) @ w["read"].T).flatten(0, 1), tokens[:, 1:].flatten()


# %%
def transformer_tops(seed, std, token_std):
    rng, special = np.random.default_rng(seed), {"embed": token_std, "place": token_std}
    draws = {name: rng.standard_normal(shape) * special.get(name, std) for name, shape in SHAPES.items()}
    weights = nn.ParameterDict({name: nn.Parameter(torch.tensor(draw)) for name, draw in draws.items()})
    tops = block_tops(EmpiricalRisk(weights, cross_entropy, [sentences], forward=former))
    return [tops[name] for name in SHAPES]  # a ParameterDict sorts its names


births = {"A": (0.08, 0.02), "B": (0.25, 1.0)}  # std of matrices, of tokens and places
tables = {name: np.array([transformer_tops(seed, *stds) for seed in seeds]) for name, stds in births.items()}
ratios = {name: table.max(axis=1) / table.min(axis=1) for name, table in tables.items()}
print("largest over smallest: A", ratios["A"].round(-2).astype(int), " B", ratios["B"].round().astype(int))

# %%
figure, axes = panels()
for (name, table), marker in zip(tables.items(), "os", strict=True):
    axes.semilogy(list(SHAPES), np.median(table, axis=0), marker, markersize=8, markevery=1, label=name)
axes.set(ylabel="λmax of the block, median of 3 seeds")
axes.legend()
show(
    figure, "λmax of nine blocks: over three decades apart in start A, from key to embedding; far less in B."
)

# %% [markdown]
# A is the usual kind of start, with small tokens and matrices. Its blocks differ by more than a thousand, with the embedding on top and query and key at the bottom. Two mechanisms are visible. The embedding goes through LayerNorm, and LayerNorm has BatchNorm's
# symmetry. Were there no skip around it, the Hessian of a small embedding would be large by $1/\text{std}^2$; with the skip this is a rough guide. B has tokens of size 1, and the embedding drops by three orders. Query and key act only through their product: where the key is small, the query hardly matters. B has larger matrices, and both rise.
#
# The MLP for comparison. And one more thing: a ReLU network does not change if $W_1$ and $b_1$ are multiplied by α and $W_2$ is divided by α.


# %%
def stretched(seed, alpha):
    net = mlp([64, 24, 24, 24, 10], activation="relu", gain=2**0.5, rng=seed)
    net[0].weight.data *= alpha  # its bias is 0
    net[2].weight.data /= alpha
    risk = EmpiricalRisk(net, cross_entropy, data, parameters="*weight")
    values = block_tops(risk).values()
    return max(values) / min(values), risk.value()


same, other = (np.array([stretched(seed, alpha) for seed in seeds]).T for alpha in (1, 10))
between = [ratios["A"].min(), ratios["B"].max(), same[0].max(), other[0].min()]
claim("6.5", between, holds=lambda m: m[0] > 500 and m[1] < 100 and m[2] < 10 and m[3] > 1000)
assert np.allclose(same[1], other[1], rtol=1e-10)

# %% [markdown]
# The numbers: the smallest heterogeneity of A, the largest of B; that of an MLP, and of the *same function* after rescaling with α = 10. So heterogeneity is a fact about a parametrization at a moment. The rescaled MLP computes the same outputs for every input, and no statement about its outputs can tell the two apart; gradient descent can, since it moves weights. Architecture invites it, through LayerNorm and products of matrices. It does not force it: transformer B has little, and the rescaled
# MLP has more than A's smallest.
#
# Does heterogeneity hamper gradient descent, and is Adam the cure? That is the second half of `zhang2024`, and Lesson 08 has the tools for it. Unequal frequencies of the tokens hamper gradient descent as well (`kunstner2024`), and ours are unequal.
#
# ## What to take away
#
# 1. "X improves the spectrum" is no statement before you name the depth, the rest of the network and the measure. Skips need a scale or BatchNorm; BatchNorm in deep networks needs skips.
# 2. BatchNorm reduces the covariate shift, and that was not why it helped here. With it, as with LayerNorm, the size of a Hessian depends on the size of the weights.
# 3. A small $\lambda_{\max}$ and many zeros are cheap, and help nobody. A guarantee needs that no residual is out of reach: $\lambda_{\min}$ of the tangent kernel.
#
# ## Exit ticket
#
# Replace each `None` by the number of your answer, and run the cell.

# %%
i, j = 2 if versus[3].min() > 1.5 else 0, 2 if over["skip"].min() > 10 else 1
k, m = int(abs(modes["BatchNorm, eval, fresh"] / modes["plain"] - 1) < 0.01), int(evidence[2] < 0.25)
e = 2 if min(left[0.25]) > 0.7 else 0
ticket(
    TICKET,
    answers=[None, None, None],
    outcomes={"norm": i, "skip": j, "mode": k, "shift": m, "gain": e, "zeros": (counts[0], 0)},
)

# %% [markdown]
# ## In practice: your own model
#
# - Before the first step, compute both ends of the spectrum, `eigsh(hessian(risk), 2, which="BE", rng=0)`, and the largest eigenvalue of each layer, with `blocks(risk).map(…)`. It costs a few dozen gradients, and finds a layer whose scale is wrong.
# - With BatchNorm or dropout, write down the mode and the batch size with every number. Training is in train mode; a finished model may be asked in eval mode.
# - Compare $\lambda_{\max}$ between architectures only together with a second measure ($\lambda_1/\lambda_{10}$, the loss after fixed steps), and with more than one seed.
# - In a residual network without normalization, scale the branches ($1/\sqrt L$ for branches of mean zero), or start them at zero (`zhang2019fixup`).
#
# ## Further reading
#
# - `santurkar2018` (Santurkar and others, *How Does Batch Normalization Help Optimization?*, 2018): the shift put back, in large networks.
# - `ghorbani2019` (Ghorbani, Krishnan and Xiao, *An Investigation into Neural Net Optimization via Hessian Eigenvalue Density*, 2019), and `yao2020` (Yao and others, *PyHessian*, 2020): spectra with and without BatchNorm.
# - `de2020` (De and Smith, *Batch Normalization Biases Residual Blocks Towards the Identity Function*, 2020).
# - `liu2022` (Liu, Zhu and Belkin, *Loss landscapes and optimization in over-parameterized non-linear systems and neural networks*, 2022).
# - `zhang2024` (Zhang and others, *Why Transformers Need Adam: A Hessian Perspective*, 2024).
