# %% [markdown]
# {{header}}

# %%
import copy

import numpy as np
import torch
from numpy.linalg import eigvalsh
from torch.nn.functional import cross_entropy, one_hot

from hesslab.checks.lesson_06 import TICKET
from hesslab.course import claim, predict, start, ticket
from hesslab.curvature import ggn, hessian
from hesslab.data import digits
from hesslab.density import slq
from hesslab.lanczos import eigsh
from hesslab.objectives import softmax_regression
from hesslab.operators import to_dense
from hesslab.plots import density, panels, show
from hesslab.risk import EmpiricalRisk, mlp
from hesslab.trace import frobenius, hutchpp

start()

# %% [markdown]
# ## 1. Two sources of curvature
#
# Earlier lessons gave you the tools. Now the patient: one small network, small enough to see its whole Hessian. It has 64 pixels, 16 ReLU units and 10 classes,
# so 1210 weights. It trains on 500 *raw* digits (not centred: remember this) with the cross-entropy, by SGD with momentum. We look at it before training and after 1, 4 and 20 passes
# over the data (epochs).

# %%
images, labels = digits(500, centred=False, rng=0)
X, y = torch.tensor(images), torch.tensor(labels)


def train(X, y, epochs, seed=0, classes=10):
    net, rng = mlp([64, 16, classes], activation="relu", rng=seed), np.random.default_rng(100 + seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    for _ in range(epochs):
        for batch in rng.permutation(500)[:480].reshape(15, 32):
            optimizer.zero_grad()
            cross_entropy(net(X[batch]), y[batch]).backward()
            optimizer.step()
    return net


nets = {epochs: train(X, y, epochs) for epochs in (0, 1, 4, 20)}
risks = {epochs: EmpiricalRisk(net, cross_entropy, (X, y)) for epochs, net in nets.items()}
print("loss after 0, 1, 4, 20 epochs:", [round(risk.value(), 2) for risk in risks.values()])

# %% [markdown]
# The loss of one example is $\ell(f)$, where $f(\theta)$ are its $C$ outputs. Let $J$ be the derivative of $f$ in θ (one row for each class), let $r = \partial\ell/\partial f$, and let
# $M = \partial^2\ell/\partial f^2$. The chain rule, applied twice, gives two terms; the Hessian is their mean over the examples:
#
# $$H \;=\; \underbrace{\mathbb E\,[\,J^\top M J\,]}_{G} \;+\; \underbrace{\mathbb E\,\Big[\sum_c r_c\, \nabla^2 f_c\Big]}_{R} .$$
#
# $G$ is the **Gauss–Newton** part: the curvature of the *loss*, seen through the network as if it were linear. $R$ is the **residual** part: the curvature of the *network*, weighted with
# $r$. For the cross-entropy, $r = p - y$, the error of the fit (Lesson 01), and $M = \mathrm{diag}(p) - p\,p^\top$ is positive semidefinite. So is $G$. **All negative curvature comes from $R$.**
#
# For our network we can write $R$ down. Within one pattern of active units, $f_c$ is linear in the incoming weights of a unit, and linear in its outgoing weights. Only the product of both has a
# second derivative. So $R$ couples each unit's incoming weights (65, with the bias) with its outgoing ones (10), and nothing else:
#
# $$R = \begin{pmatrix} 0 & B \\ B^\top & 0\end{pmatrix}, \qquad B_j = \mathbb E\,\big[\,1_j\; \tilde x\; r^\top\,\big] \quad (65 \times 10) \text{ for unit } j ,$$
#
# where $1_j$ is 1 if unit $j$ is active, and $\tilde x$ is the image with a 1 appended. We compute the $B_j$ by hand, put them in their places, and test against automatic differentiation: $Hv - Gv$ must be $Rv$.


# %%
def residual_blocks(net):
    r = (torch.softmax(net(X), 1) - one_hot(y, 10)).detach()
    active, ones = (net[0](X) > 0).double(), torch.ones(500, 1)
    return torch.stack([(torch.cat([X, ones], 1) * a[:, None]).T @ r / 500 for a in active.T]), r


# %%
blocks, R = residual_blocks(nets[4])[0], torch.zeros(1210, 1210)
for j, B in enumerate(blocks):  # where the weights of unit j are in θ
    incoming, outgoing = [*range(64 * j, 64 * j + 64), 1024 + j], list(range(1040 + j, 1200, 16))
    R[np.ix_(incoming, outgoing)], R[np.ix_(outgoing, incoming)] = B, B.T
v = torch.tensor(np.random.default_rng(1).standard_normal(1210))
H, G, sigma = hessian(risks[4]), ggn(risks[4]), torch.linalg.svdvals(blocks)
print(f"|Hv| {(H @ v).norm():.3f}, |Rv| {(R @ v).norm():.3f}, largest singular value {sigma.max():.4f}")
assert (H @ v - G @ v - R @ v).norm() < 1e-12 * v.norm()

# %% [markdown]
# They agree, to $10^{-12}$. A matrix of this form has the eigenvalues $\pm\sigma$, with σ the singular values of the blocks, and zeros: its spectrum is its own mirror image. The rest is counting.
#
# - The diagonal of $R$ is 0. So $\operatorname{tr} H = \operatorname{tr} G \ge 0$, although $H$ has negative eigenvalues. The same holds for fully connected ReLU networks of any depth: each $f_c$ is linear in each single weight.
# - $\sum_c r_c = 0$, since probabilities add up to 1. So each $B_j$ has at most $C - 1 = 9$ singular values that are not 0, and $R$ has at most $16 \cdot 9 = 144$ negative eigenvalues.
# - Adding a positive semidefinite $G$ can only raise eigenvalues, rank by rank (Weyl). So $H$ has *no more* negative ones than $R$, and $\lambda_{\min}(H) \ge -\max_j \sigma_1(B_j)$.
# - $\sigma_1(B_j) \le \mathbb E\,\lVert\tilde x\rVert\,\lVert r\rVert$. So as the fit improves, $r \to 0$, **negative curvature fades**.

# %%
question = "From epoch 0 to epoch 20 the loss falls to a fortieth. What does λmin do?"
choices = ["It stays", "It shrinks towards 0, about as the error of the fit", "It becomes positive"]
predict("negative", question, choices, answer=None)

# %%
spectra = {e: eigvalsh(to_dense(hessian(risk)))[::-1] for e, risk in risks.items()}
blocks = {e: residual_blocks(net) for e, net in nets.items()}
worst = {e: torch.linalg.svdvals(B).max().item() for e, (B, _) in blocks.items()}
negative = {e: int((lam < -1e-6 * lam[0]).sum()) for e, lam in spectra.items()}
for e, lam in spectra.items():
    r = blocks[e][1].norm(dim=1).mean()
    print(f"epoch {e:2}: mean |r| {r:.3f}, λmin {lam[-1]:.3f}, bound {-worst[e]:.3f}, {negative[e]} negative")

# %% [markdown]
# {{claim 2.2b}}
#
# The card measures, in this order: the worst of $\lambda_{\min}$ over its bound at the four moments, the largest count of negative eigenvalues, the factor by which $\lambda_{\min}$ has shrunk
# from the first moment to the last, and the length of the gradient at the last.

# %%
tightness = max(-lam[-1] / worst[e] for e, lam in spectra.items())
shrunk = spectra[0][-1] / spectra[20][-1]
steepness = risks[20].gradient().norm().item()
found = [tightness, max(negative.values()), shrunk, steepness]
claim("2.2b", found, holds=lambda m: m[0] <= 1 and m[1] <= 144 and m[2] > 10 and m[3] > 0.01)

# %% [markdown]
# 85 eigenvalues are negative after 20 epochs, at a loss of 0.06, and none of them says "saddle": the gradient is not zero, and the network goes on fitting. What matters is their *size*, and that
# follows $r$. With the squared error $r = f - y$ and $M$ is a multiple of $I$; all four points but the second hold as they stand (there a block can have all 10 singular values). Lesson 07 uses this.
#
# Where does this picture fail? With a smooth activation. For tanh, $f_c$ is not linear in an incoming weight, the diagonal of $R$ is not 0, and the traces part. We check on 30 images,
# where both matrices are cheap.


# %%
def few(activation, loss=cross_entropy, targets=y, n=30):
    return EmpiricalRisk(mlp([64, 10, 10], activation=activation, rng=0), loss, (X[:n], targets[:n]))


for activation in ("relu", "tanh"):
    H_few, G_few = (to_dense(matrix(few(activation))) for matrix in (hessian, ggn))
    print(f"{activation}: trace of H {np.trace(H_few):.3f}, of G {np.trace(G_few):.3f}")

# %% [markdown]
# ## 2. Counting zeros
#
# The note reads $\lambda_i \approx 0$ as "parameter invariance or redundancy". There is a third source, and it is the largest: **few data**. In $G = \frac1n \sum_i J_i^\top M_i J_i$ each example contributes a matrix of
# at most the rank of $M$. For the cross-entropy that is at most $C - 1$, because $M\mathbf 1 = 0$ (one number added to all logits changes nothing). For the squared error $M$ is a multiple of $I$, of rank $C$. Hence
#
# $$\operatorname{rank} G \le n\,(C-1) \ \text{(cross-entropy)}, \qquad \operatorname{rank} G \le n\,C\ \text{(squared error)}.$$

# %%
question = "30 images, 10 classes, cross-entropy, tanh, 760 weights. What is the rank of G?"
predict("rank", question, answer=None)


# %%
def rank(risk, floor=1e-13):
    values = eigvalsh(to_dense(ggn(risk)))
    return int((values > floor * values[-1]).sum())


ranks = [rank(few("tanh")), rank(few("tanh", torch.nn.MSELoss(), one_hot(y, 10).double()))]
print("30 images: cross-entropy", ranks[0], "and squared error", ranks[1])

# %% [markdown]
# Both bounds are attained. So 490 of 760 eigenvalues of $G$ are 0 with the cross-entropy, and 460 with the squared error. No symmetry of the network caused that, and no useless weight. It is the *data* that cannot tell more directions apart. With 500 images the bound is 4500, and says nothing any more. Then
# invariances are what is left. The outgoing weights of all ten classes can be shifted by one vector, bias included: 10 + 1 = 11 zeros. And each pixel that no image lights adds one zero for each unit.
#
# {{claim 2.3b}}
#
# To see the 11 alone, the third measurement keeps only the pixels that are lit in at least three of the 500 images.

# %%
well_lit = X[:, (X > 0).sum(dim=0) >= 3]
narrow = EmpiricalRisk(mlp([well_lit.shape[1], 10, 10], rng=0), cross_entropy, (well_lit, y))
zeros = narrow.num_parameters - rank(narrow)
claim("2.3b", [*ranks, zeros], expected=[270, 300, 11], tolerance=0.5)
print("30 images, ReLU:", rank(few("relu")), "of at most 270")

# %% [markdown]
# With 500 images exactly 11 zeros are left, all of them invariances. The line below the card shows where the counting is only a bound: a ReLU unit learns nothing from an image on which it is not active, and the rank stays below 270. Too few units have the same effect: with 6 tanh units instead of 10 the rank was 201 in a trial.
#
# And a zero of $G$ is not yet a zero of $H$: for that $R$ must vanish there as well, as it does at a perfect fit, or for the invariances. Even then only the second order is flat.
#
# ## 3. "Low effective rank": which one?
#
# {{claim 8.4}}
#
# Three kinds of number go by this name. Take the trained network with its 1210 weights, and ask all three. The **trace ratio** is $\operatorname{tr} H/\lambda_{\max}$. The second, $(\operatorname{tr} H)^2/\lVert H\rVert_F^2$, you met in Lesson 05. The third counts the eigenvalues above a floor, here $10^{-3}$ and $10^{-10}$ of $\lambda_{\max}$.

# %%
trained = {seed: train(X, y, 4, seed) for seed in range(3)}
loaded = [EmpiricalRisk(net, cross_entropy, (X, y)) for net in trained.values()]
lam = spectra[4]
above = {floor: int((abs(lam) > floor * lam[0]).sum()) for floor in (1e-3, 1e-10)}
print(
    f"trace/λmax {lam.sum() / lam[0]:.1f}, (trace)²/|H|² {lam.sum() ** 2 / (lam**2).sum():.1f}, above {above}"
)


# %%
def ratio(A):  # (trace)²/|H|² from 180 products
    return (hutchpp(A, max_matvecs=90, rng=3).value / frobenius(A, max_matvecs=90, rng=4).value) ** 2


claim("8.4", [*map(ratio, map(hessian, loaded)), above[1e-3]], holds=lambda m: max(m[:3]) < 20 and m[3] > 100)

# %% [markdown]
# The card has the second number for three seeds, estimated from 180 products each, and the count above $10^{-3}\lambda_{\max}$. The first two numbers say about 7 and about 13 of 1210. Both weigh by size. The count says hundreds, and moves with its floor. They answer different questions. How many probes does a
# trace need? The second tells (Lesson 05). How much memory does a low-rank approximation need? That depends on the error you allow. How many directions does training need? None of them tells: Section 7.
#
# So "low effective rank" is right for the ratios, wrong for the count, and empty without saying which.
#
# ## 4. The density across training
#
# {{claim 9.1b}}
#
# For a larger network there is no list of eigenvalues. Here there is, so we can test what stochastic Lanczos quadrature says (Lesson 05). First, masses without any width, with 95 % intervals, at four moments.

# %%
measures = {e: slq(hessian(risk), num_steps=40, num_probes=8, rng=40 + e) for e, risk in risks.items()}
inside = {e: measure.mass(-0.1, 0.1) for e, measure in measures.items()}
exact = {e: (abs(lam) <= 0.1).mean() for e, lam in spectra.items()}
for e, mass in inside.items():
    low, high = mass.interval(0.95)
    print(f"epoch {e:2}: exact {exact[e]:.3f}, found {mass.value:.3f}, from {low:.3f} to {high:.3f}")
    assert low <= exact[e] <= high
claim("9.1b", max(abs(inside[e].value - exact[e]) for e in risks), holds=lambda m: m < 0.05)

# %%
figure, grid = panels(2, 2)
for axes, (e, measure) in zip(grid.ravel(), measures.items(), strict=True):
    smooth = measure.density(x := np.linspace(-1.5, 1.1 * spectra[e][0], 800), 0.05)
    density(axes, x, smooth.value, np.maximum(smooth.interval(), 1e-6))
    axes.plot(spectra[e], np.full(1210, 4e-4), "|", color="black", markersize=9)
    axes.set(yscale="log", ylim=(2e-4, 30), title=f"epoch {e}, width 0.05")
show(figure, "A tall peak at 0 at all four moments; at epoch 4 nine separate bumps stand to its right.")

# %% [markdown]
# The ticks below are the exact eigenvalues. Three things change. The left side retreats towards 0: that is $R$, fading. The peak at 0 narrows. And on the right, at epoch 4, nine eigenvalues stand apart; at epoch 0 and at epoch 20 there is no such gap.
#
# Two warnings. The intervals of the masses are widest at epoch 0, where the edge of the bin cuts through a crowd (Lesson 05: *a bin should end in a gap*). And the curve does not *count* the nine. It shows bumps. `eigsh` counts.
#
# ## 5. Bulk and outliers
#
# {{claim 8.4a}}
#
# What is an outlier? We need a rule before we look. Ours: sort the eigenvalues, take all quotients $\lambda_k/\lambda_{k+1}$ up to $k = 2C$, and report the largest, with its $k$. A quotient near 1 means that there is no gap.


# %%
def leading(net, inputs, targets=y, k=21):
    return eigsh(hessian(EmpiricalRisk(net, cross_entropy, (inputs, targets))), k, rtol=1e-3, rng=0).values


def gap(values):
    quotients = values[:-1] / values[1:]
    return int(quotients.argmax()) + 1, float(quotients.max())


# %%
for e, lam in spectra.items():
    k, quotient = gap(lam[:21])
    print(f"epoch {e:2}: largest gap after k = {k:2}, {quotient:.2f}; λ9/λ10 {lam[8] / lam[9]:.2f}")

# %%
tops = [leading(net, X) for net in trained.values()]
found = [n for values in tops for n in gap(values)]
claim("8.4a", found, holds=lambda m: set(m[::2]) == {9} and min(m[1::2]) > 2)

# %% [markdown]
# At epoch 4 there are nine outliers, for all three seeds: $C - 1$. At epochs 0, 1 and 20 the rule finds other places in the first network. We tried six more seeds. At epoch 4 all of them had nine, with quotients from 3.6 to 4.0. At epoch 20 four of the six *still* had nine, with weaker gaps, from 2.0 to 2.6.
# So the gap weakens, and how far depends on the seed. Is $C - 1$ a law of epoch 4? Take fewer classes.

# %%
for classes, epochs in ((7, 4), (5, 2), (5, 4), (3, 1), (3, 4)):
    data = [torch.tensor(each) for each in digits(500, classes=classes, centred=False, rng=0)]
    nets = (train(*data, epochs, seed, classes) for seed in range(3))
    places = ("k = {} ({:.1f})".format(*gap(leading(net, *data, 2 * classes + 1))) for net in nets)
    print(f"{classes} classes, epoch {epochs}:", ", ".join(places))

# %% [markdown]
# It has its time. With 5 classes the gap is after $k = 4$ at epoch 2, and after $k = 3$ at epoch 4, for each seed; with 3 classes it is after 2 at epoch 1, after 1 at epoch 4. Six more seeds said nearly the same: two of them still had four outliers with 5 classes at epoch 4, and one had a single outlier with 3 classes at epoch 1. A likely reason, not tested here: as the fit becomes confident, $M$ fades, for some classes sooner than for others, and
# outliers sink into the bulk one by one.
#
# So the two parts are there, and the number of outliers is a fact about a network, its data *and a moment*.
#
# ## 6. Why C − 1? Find the cause
#
# Everybody's first guess: ten classes, hence nine directions that tell them apart. It sounds right. Test it. Subtract from each pixel its mean over all images, and train again. The classes, their differences, the labels: all as before.

# %%
question = "The same digits, centred, and trained for 4 epochs. The gap after k = 9 will be"
predict("centred", question, choices=["as before", "wider: the mean was a nuisance", "gone"], answer=None)

# %%
centred = X - X.mean(dim=0)
again = {seed: train(centred, y, 4, seed) for seed in range(3)}
without = [leading(net, centred) for net in again.values()]


def told(each):  # λ1 and the quotient at nine, seed by seed
    first, nine = ([v[0] for v in each], 1), ([v[8] / v[9] for v in each], 2)
    return f"λ1 {np.round(*first).tolist()}, λ9/λ10 {np.round(*nine).tolist()}"


for name, each in (("raw", tops), ("centred", without)):
    print(f"{name:8}", told(each))

# %%
figure, axes = panels()
for name, each, marker in (("raw", tops, "o"), ("centred", without, "^")):
    x, values = np.tile(np.arange(1, 21), 3), np.concatenate([v[:20] for v in each])
    axes.semilogy(x, values, marker, markevery=1, label=f"{name}, three seeds")
axes.set(xlabel="rank", ylabel="eigenvalue λ", xticks=[1, 5, 9, 10, 15, 20])
axes.legend()
show(figure, "Raw digits: nine large eigenvalues, then a drop, for three seeds. Centred digits: no drop.")

# %% [markdown]
# Gone, and $\lambda_{\max}$ with them: it is about nine times smaller. What we took away has nothing to do with classes: one vector, the same for every image.
#
# A toy explains it. In softmax regression at θ = 0 each probability is $1/C$, and the Hessian of Lesson 01 is a Kronecker product,
#
# $$H = \tfrac1C\big(I - \tfrac1C \mathbf 1\mathbf 1^\top\big) \otimes \mathbb E\,[x x^\top] .$$
#
# The first factor has the eigenvalue $1/C$, $C - 1$ times, and one 0. So **each eigenvalue of $\mathbb E[xx^\top]$, divided by $C$, comes $C - 1$ times**, whatever the labels are. And $\mathbb E[xx^\top] = \mathrm{Cov} + \bar x \bar x^\top$: if the mean $\bar x$ is long, *one* eigenvalue dominates.

# %%
for name, pixels in (("raw", images), ("centred", centred.numpy())):
    toy = eigvalsh(softmax_regression(pixels, labels).hessian(np.zeros(640)))[::-1]
    print(f"{name:8} ranks 1, 9, 10, 18, 19:", toy[[0, 8, 9, 17, 18]].round(3))

# %% [markdown]
# For raw pixels the eigenvalue of the mean direction, nine times over, then a gap; steps of nine without such a gap for centred ones. No training, and shuffled labels would give the same. The nine are *one* direction in the inputs, times nine directions in the outputs.
#
# But a sceptic objects. Centring the inputs changed the training as well. Perhaps the second network is simply another network. We need an intervention that changes **nothing** about the function. Here it is: let a layer receive $x - m$ in the place of $x$, and add $W m$ to its bias. Then
#
# $$W(x - m) + (b + W m) = W x + b .$$
#
# Same function, same probabilities, same loss, same residuals for each image. Only the coordinates of θ differ: the new bias means something else. Both layers receive something with a mean: the first the pixels, the second the activations, which a ReLU makes nonnegative.

# %%
question = "The trained raw network, the same function, both means moved into the biases. The nine outliers"
choices = ["stay: the function is the same", "stay, and shrink by a common factor", "go"]
predict("same", question, choices, answer=None)


# %%
class Minus(torch.nn.Module):
    def __init__(self, mean):
        super().__init__()
        self.mean = mean

    def forward(self, x):
        return x - self.mean


def moved(net, means):  # the same function; layer i receives its input minus means[i]
    parts = []
    for i, layer in enumerate(copy.deepcopy(net)):
        if i in means:
            layer.bias.data += layer.weight.data @ means[i]
            parts.append(Minus(means[i]))
        parts.append(layer)
    return torch.nn.Sequential(*parts)


# %%
mean = X.mean(dim=0)
hidden = {seed: torch.relu(net[0](X)).detach().mean(dim=0) for seed, net in trained.items()}
twins = {seed: moved(net, {0: mean, 2: hidden[seed]}) for seed, net in trained.items()}
assert all((twins[s](X) - net(X)).abs().max() < 1e-12 for s, net in trained.items())
first = [leading(moved(net, {0: mean}), X) for net in trained.values()]
both = [leading(net, X) for net in twins.values()]
for name, each in (("as trained", tops), ("first layer", first), ("both layers", both)):
    print(f"{name:11}", told(each))

# %% [markdown]
# They go. One function in three coordinate systems: the quotient falls from about 4 to about 2 to about 1, and $\lambda_{\max}$ from about 10 to about 1. Nothing that the network *does* has changed. So it is no property of its function that nine eigenvalues stand out, nor of the differences between its classes. That they are *nine* comes from the ten outputs. That they *stand out* comes from the **common mean of what each layer receives**.
#
# Two tests of this. Does *any* move of this kind scatter the nine? We move random vectors of the same lengths in place of the means. And does it work the other way round? Take the network that was trained on centred digits and had no outliers, and let it receive its inputs with a constant added: the mean digit, or a random vector of the same length.

# %%
rng = np.random.default_rng(5)


def like(vector):  # random, of the same length
    other = torch.tensor(rng.standard_normal(len(vector)))
    return other * vector.norm() / other.norm()


control = [leading(moved(net, {0: like(mean), 2: like(hidden[s])}), X) for s, net in trained.items()]
print("raw, random moved out:", told(control))
for name, shift in (("mean digit", mean), ("random", like(mean))):
    each = [leading(moved(net, {0: -shift}), centred) for net in again.values()]
    print(f"centred, {name} added:", told(each))

# %% [markdown]
# The first test is passed: the nine stay, and $\lambda_{\max}$ about doubles. It must be the mean that is moved.
#
# The second is passed by half. $\lambda_{\max}$ grows more than fourfold, and a random vector does as well as the mean digit: it holds no class at all. The quotient at nine rises for each seed, but only to about 1.3, which nobody would call a gap. So the common mean is needed for the nine outliers of the raw network, as the last
# cell showed; alone it need not be enough to make clean ones in another network. A hypothesis should be told together with the test that it half failed.
#
# Now we can say where the nine point. If the mean dominates, the Jacobian of an image is mostly its mean $\bar J$, and $G \approx \bar J^\top \bar M \bar J$, of rank $C - 1$. Its span is that of the gradients of the *mean logits* (`fort2019`). We measure how much of the nine top eigenvectors lies there: the mean $\cos^2$ of the angles.
#
# {{claim 8.4b}}


# %%
def in_mean_logits(net, inputs):
    V = eigsh(hessian(EmpiricalRisk(net, cross_entropy, (inputs, y))), 9, rng=0).vectors
    logits = [lambda f, _, c=c: f[:, c].mean() for c in range(10)]
    J = torch.stack([EmpiricalRisk(net, logit, (inputs, y)).gradient() for logit in logits])
    Q = torch.linalg.qr((J - J.mean(dim=0)).T)[0][:, :9]
    return (Q.T @ V).square().sum().item() / 9


shares = [in_mean_logits(trained[0], X), in_mean_logits(again[0], centred), in_mean_logits(twins[0], X)]
raw, no_mean, other = ([v[8] / v[9] for v in each] for each in (tops, without, both))
quotients = [min(raw), max(no_mean), max(other)]
print("in the span of the mean logits: raw, centred, raw in other coordinates:", np.round(shares, 2))
claim("8.4b", [*quotients, shares[0]], holds=lambda m: m[0] > 2 and max(m[1], m[2]) < 1.6 and m[3] > 0.7)

# %% [markdown]
# The card has the smallest $\lambda_9/\lambda_{10}$ of three seeds on raw digits, the largest on centred ones, the largest of the same raw networks in other coordinates, and the share.
#
# What this does not say: that classes never matter. In large image networks `papyan2019` and `papyan2020` find outliers that belong to means of *classes*, in three levels. The two are relatives: a class mean is a mean over fewer images. What it does say: before you read classes into nine outliers, remove the mean and look again. Lesson 05 asked for better null models than pure noise. Here you have two: the same data without their mean, and the same function in other coordinates.
#
# ## 7. A tiny subspace, and what happens in it
#
# The outliers are nine of 1210 directions. How much of the *gradient* of a batch lies there? And if most of it does: can we train in these nine directions alone?
#
# Take the network at epoch 4, where the subspace is well separated. Train on, with plain SGD, three times from the same point, with the same batches of 50: with the whole gradient; with its part in the **top** subspace; with the rest, the **bulk**. The nine vectors are computed again every 20 steps (a few rounds of block power iteration, from the last ones).

# %%
question = "The top 9 hold three quarters of the squared gradient. 200 steps in them alone lower the loss"
choices = ["nearly as much as full SGD", "about three quarters as much", "hardly at all"]
predict("stall", question, choices, answer=None)


# %%
def refreshed(risk, theta, V):
    A = hessian(risk, theta, verify=False)
    for _ in range(2):
        V = torch.linalg.qr(A @ V)[0]
    return V @ torch.linalg.eigh(V.T @ (A @ V))[1].flip(1)


def go_on(net, seed, part, size=50, steps=200, eta=0.05):
    risk, rng = EmpiricalRisk(net, cross_entropy, (X, y)), np.random.default_rng(200 + seed)
    theta, V, held = risk.theta, eigsh(hessian(risk), 14, rng=0).vectors, []
    for step in range(steps):
        V = refreshed(risk, theta, V) if step % 20 == 0 else V
        batch = rng.choice(500, size, replace=False)
        g = EmpiricalRisk(net, cross_entropy, (X[batch], y[batch])).gradient(theta)
        top = V[:, :9] @ (V[:, :9].T @ g)
        held.append(float(top @ top / (g @ g)))
        theta = theta - eta * {"full": g, "top": top, "bulk": g - top}[part]
    return risk.value(theta), np.mean(held), theta


before = np.array([risk.value() for risk in loaded])

# %%
ways = {part: [go_on(net, s, part) for s, net in trained.items()] for part in ("full", "top", "bulk")}
after = {part: np.array([run[0] for run in runs]) for part, runs in ways.items()}
share = {part: round(float(np.mean([run[1] for run in runs])), 2) for part, runs in ways.items()}
print("before", before.round(2), *(f"{part} {losses.round(2)}" for part, losses in after.items()))
print("mean share of the squared gradient in the top nine:", share)

# %% [markdown]
# {{claim 8.4c}}

# %%
held = [run[1] for run in ways["full"]]
found = [min(held), min(after["top"] / before), max(after["full"] / before)]
claim("8.4c", found, holds=lambda m: m[0] > 2 / 3 and m[1] > 0.8 and m[2] < 0.6)

# %% [markdown]
# In this order, over three seeds: the smallest mean share of the squared gradient that lies in the top nine; the smallest quotient of the losses after and before when only that part is used; the largest such quotient for full SGD.
#
# Both halves at once. More than two thirds of the squared gradient of a batch lies in nine of 1210 directions. And whoever trains only there reaches a seventh of the progress at most, while full SGD halves the loss or nearly so. In a trial with three more seeds it was a quarter.
#
# Why? Let a direction have the curvature λ and the slope $s$. As far as the quadratic model goes, a step along it can lower the loss by $s^2/(2\lambda)$ (Lesson 02), and no more. Where λ is large, a long gradient stands for little loss. But then a few steps should use it up. What keeps the gradient long? Perhaps the noise of the batches. So we take all 500 images in each step: no noise.


# %%
def worth(risk):  # what the slopes in the top nine can give
    pairs = eigsh(hessian(risk), 9, rng=0)
    return ((pairs.vectors.T @ risk.gradient()) ** 2 / (2 * torch.tensor(pairs.values))).sum().item()


calm = {part: [go_on(net, s, part, size=500) for s, net in trained.items()] for part in ("full", "top")}
falls = before - [run[0] for run in calm["top"]]
print("the top nine are worth", np.round([worth(risk) for risk in loaded], 2), "and give", falls.round(2))
print("without noise, full: mean share in the top nine", np.round([run[1] for run in calm["full"]], 2))

# %% [markdown]
# Both answers stand. In the top nine the loss falls by what the slopes at the start are worth, and then no further. And without noise only 2 % of the squared gradient lie there on average, in the place of three quarters. So the batches do it: each of them pushes the weights across the valley a little, and the large curvature answers with a long gradient. The progress is along the valley.
#
# {{claim 8.4d}}
#
# The card measures, for each seed, which part of the decrease of full SGD is reached without the top nine.

# %%
reached = (before - after["bulk"]) / (before - after["full"])
claim("8.4d", reached, holds=lambda m: min(m) > 0.75 and max(m) < 0.95)

# %% [markdown]
# On that way more than four fifths of the squared gradient are thrown away, and it costs about a tenth of the progress. (The share is larger than for full SGD: nobody works off what piles up in the top nine.) In the trial with three more seeds it cost an eighth, a fifth and a fifth. *Low rank is not low importance of the rest.* The setting matters: here $\eta\lambda_{\max}$ is below 1, and the valley is stable.
# `song2025` finds the same on larger networks, and at the edge of stability as well.
#
# ## 8. The most influential directions
#
# {{claim 9.3}}
#
# Influence on what? On the second-order rise of the loss, among small steps of one length: then it is true by definition, and we check it. On what training achieves: split the displacement of full SGD into its part in the top nine of the start and the rest, and go only one of them. On the function: move to the other coordinates.

# %%
rng, step, moves = np.random.default_rng(7), 0.05, []
for risk, (_, _, end) in zip(loaded, ways["full"], strict=True):
    V, d = eigsh(hessian(risk), 9, rng=0).vectors, end - risk.theta
    top = V @ (V.T @ d)
    fall, inside, outside = (risk.value() - risk.value(risk.theta + part) for part in (d, top, d - top))
    moves.append([(top @ top / (d @ d)).item(), inside / fall, outside / fall])


def lift(v):  # for the last network: the even part of the change of the loss
    return (risk.value(risk.theta + step * v) + risk.value(risk.theta - step * v)) / 2 - risk.value()


others = torch.tensor(np.linalg.qr(rng.standard_normal((1210, 100)))[0]).T
sensitive = lift(V[:, 0]) / max(lift(v) for v in others)
displaced, inside, outside = np.array(moves).T
print(
    "in the top nine:", displaced.round(3), "of the squared displacement,", inside.round(2), "of the decrease"
)
found = [sensitive, max(inside), min(outside), tops[0][0] / both[0][0]]
claim("9.3", found, holds=lambda m: m[0] > 10 and m[1] < 0.3 and m[2] > 0.7 and m[3] > 3)

# %% [markdown]
# In this order: along the first eigenvector the loss rises so many times more than along the worst of 100 random directions; the top nine alone reach so much of the decrease of training, at most over the three seeds; the rest alone so much, at least; and $\lambda_{\max}$ is so many times larger in one coordinate system than in another, for the same function. Three more seeds in a trial gave at most 0.26 and at least 0.73.
#
# > **Misconception: "the top eigenvectors are what the network learns with".** They are where the loss is most sensitive to a step of unit length, in the coordinates you happen to use. Training made most of its progress elsewhere. And a shift of coordinates that changes no prediction moves them. The second question of the exit ticket is about this.
#
# ## What to take away
#
# 1. $H = G + R$. $G$ is positive semidefinite, of rank at most $n(C-1)$. $R$ brings all negative curvature, and fades with the error of the fit.
# 2. Say which effective rank, which width, which rule for an outlier, and which moment.
# 3. Nine outliers can be one mean, times nine outputs. Large curvature is sensitivity, not usefulness.
#
# ## Exit ticket
#
# Replace each `None` by the number of your answer, and run the cell.

# %%
a, b = int(abs(spectra[20][-1]) < 0.1 * abs(spectra[0][-1])), (ranks[0], 0)
c, e, f = (
    2 if quotients[1] < 1.6 else 0,
    2 if quotients[2] < 1.6 else 0,
    2 if min(after["top"] / before) > 0.9 else 1,
)
ticket(
    TICKET,
    answers=[None, None, None],
    outcomes={"negative": a, "rank": b, "centred": c, "same": e, "stall": f},
)

# %% [markdown]
# ## In practice: your own model
#
# - Compute the top 20 of `hessian(risk)` and of `ggn(risk)`. Where they agree, the residual part does not matter there. $\lambda_{\min}$ of the Hessian fades with what is left to fit: look at it beside the loss.
# - Count outliers with `eigsh`, by a rule that you wrote down before, at several moments and for several seeds.
# - Before you interpret outliers: centre the inputs, and move the means of the layers, as fixed vectors, into the biases. The function stays as it is.
# - PyHessian (`yao2020`) draws densities by stochastic Lanczos quadrature too. Whatever you use: print the width, try a second one, and add an error.
#
# ## Further reading
#
# - `sagun2016`, `sagun2017` (Sagun and others): bulk and outliers, the first measurements.
# - `gurari2018` (Gur-Ari, Roberts and Dyer, *Gradient Descent Happens in a Tiny Subspace*, 2018), and `song2025` (Song, Ahn and Yun, *Does SGD Really Happen in Tiny Subspaces?*, 2025): read them in this order.
# - `papyan2018`, `papyan2019`, `papyan2020` (Papyan): densities of large networks, and outliers from class means.
# - `fort2019` (Fort and Ganguli, 2019): a model with mean logit gradients.
# - `ghorbani2019` (Ghorbani, Krishnan and Xiao, 2019), `yao2020` (Yao and others, *PyHessian*, 2020): densities across training.
