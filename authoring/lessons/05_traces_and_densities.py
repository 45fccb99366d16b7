# %% [markdown]
# {{header}}

# %%
import numpy as np
from numpy.linalg import eigh, eigvalsh, norm
from scipy import special, stats

from hesslab.checks.lesson_05 import TICKET
from hesslab.course import claim, predict, start, ticket
from hesslab.data import digits
from hesslab.density import slq
from hesslab.dynamics import gd, run
from hesslab.lanczos import tridiagonalize
from hesslab.matrices import goe, marchenko_pastur_pdf, semicircle_pdf, spiked, wishart, with_spectrum
from hesslab.objectives import softmax_regression
from hesslab.plots import density, histogram, panels, show, threshold, watched
from hesslab.trace import hutchinson, hutchpp, xtrace

start()

# %% [markdown]
# ## 1. A trace from products
#
# Lesson 04 found the few largest eigenvalues of a matrix that can only be multiplied. This lesson asks about all of them at once: their sum, the
# **trace**, and how they are distributed, the **spectral density**. Both come from random vectors. So both come with an error, and half of the lesson is
# about that error.
#
# To judge an estimate we need the truth. So we take a matrix that we can still write down: the Hessian of softmax regression on the digits of Lesson 01, with 650
# parameters, after 100 steps of gradient descent. The estimators will see it through products alone.

# %%
images, labels = digits(centred=False, rng=0)
softmax = softmax_regression(np.column_stack([images, np.ones(1797)]), labels)
reached = run(softmax.gradient, np.zeros(650), gd(0.13), 100).points[-1]
H = softmax.hessian(reached)
exact, (lam, U) = np.trace(H), eigh(H)
print(f"trace {exact:.2f}; the ten largest eigenvalues", lam[:-11:-1].round(2))

# %% [markdown]
# Nine large eigenvalues, then a crowd of small ones. The trace is the sum of all 650, and also the sum of the diagonal. Without the
# matrix each diagonal entry costs a product, $a_{ii} = e_i^\top H e_i$. That makes 650 products, exact and slow.
#
# Girard and Hutchinson put one *random* vector in the place of the 650 unit vectors. Let the entries of a **probe** $w$ be independent, with mean 0 and variance 1. Then
#
# $$\mathbb E\,[w^\top A\, w] = \sum_{i,j} a_{ij}\, \mathbb E[w_i w_j] = \sum_i a_{ii} = \operatorname{tr} A .$$
#
# All that was used is $\mathbb E[w w^\top] = I$. The simplest choice is a random sign in each entry, a **Rademacher** probe. Here are five of them. Each costs one product, and gives one
# **sample** $w^\top H w$.

# %%
W = np.random.default_rng(0).choice([-1.0, 1.0], (650, 5))  # five probes, as columns
samples = (W * (H @ W)).sum(axis=0)
print("samples", samples.round(1), f"  mean {samples.mean():.1f}, exact {exact:.1f}")

# %% [markdown]
# Five products, for a number that costs 650. But the five samples differ by a lot, and so their mean is off by a lot. How far it strays, its **standard error**, is the standard
# deviation of one sample over $\sqrt m$ for $m$ samples. How many products bring that down to one per cent of the trace? The five samples give an idea.

# %%
question = "tr H with a standard error of 1 %, from random signs: how many products? Reading off the diagonal takes 650."
predict("cost", question, choices=["About 20", "About 200", "More than 650"], answer=None)

# %% [markdown]
# ## 2. The variance of one probe
#
# The mean of $m$ independent samples has the variance $V/m$, where $V$ is the variance of one. For symmetric $A$ it is known exactly. With the **Frobenius norm**,
# $\lVert A\rVert_F^2 = \sum_{ij} a_{ij}^2 = \sum_i \lambda_i^2$:
#
# | probe | $V$ | zero when |
# | --- | --- | --- |
# | Gaussian entries | $2\,\lVert A\rVert_F^2$ | $A = 0$ |
# | random signs | $2\,\big(\lVert A\rVert_F^2 - \sum_i a_{ii}^2\big)$ | $A$ is diagonal |
# | sphere of radius $\sqrt n$ | $\frac{2n}{n+2}\,\big(\lVert A\rVert_F^2 - (\operatorname{tr} A)^2/n\big)$ | $A$ is a multiple of $I$ |
#
# Each has a proof of a few lines.
#
# - *Gaussian*: in the eigenbasis a Gaussian vector is Gaussian again, so $w^\top A w = \sum_i \lambda_i z_i^2$, and each $z_i^2$ has variance 2.
# - *Signs*: $w_i^2 = 1$, so the diagonal gives the same in each sample. What varies is $2\sum_{i<j} a_{ij} w_i w_j$. Its terms are uncorrelated.
# - *Sphere*: take $\operatorname{tr} A/n$ from each diagonal entry. On the sphere this shifts every sample by the same number, and leaves a matrix $B$ of trace 0. Now a Gaussian
#   vector is a point of the sphere times an independent factor for its length. The square of that factor, $\lVert w\rVert^2/n$, has second moment $(n+2)/n$. So the Gaussian variance of $B$, which is $2\lVert B\rVert_F^2$, is
#   $(n+2)/n$ times that of the sphere.
#
# We measure all three, with 10 000 probes each.


# %%
def forms(A, kind, count, rng):
    W = rng.standard_normal((len(A), count))
    W = np.sign(W) if kind == "signs" else W
    W = W * np.sqrt(len(A)) / norm(W, axis=0) if kind == "sphere" else W
    return (W * (A @ W)).sum(axis=0)


# %%
V = {"signs": 2 * norm(H - np.diag(np.diag(H))) ** 2, "Gaussian": 2 * norm(H) ** 2}
V["sphere"] = 2 * 650 / 652 * norm(H - exact / 650 * np.eye(650)) ** 2
drawn = {kind: forms(H, kind, 10_000, np.random.default_rng(1)) for kind in V}
for kind, q in drawn.items():
    print(f"{kind:8}  formula {V[kind]:.0f}, measured {q.var():.0f}; mean {q.mean():.1f}")
assert all(abs(q.var() / V[kind] - 1) < 0.06 for kind, q in drawn.items())
needed, rank = V["signs"] / (0.01 * exact) ** 2, exact**2 / norm(H) ** 2
print(f"products for 1 %: {needed:.0f}; effective rank {rank:.1f}")

# %% [markdown]
# The formulas hold, to the 2 % or so that 10 000 probes can tell. (`norm` of a matrix is its Frobenius norm; the code removes the diagonal, or its mean, and then takes norms.) The three kinds hardly differ here. Signs are never worse than Gaussian entries, since something is subtracted. Between signs and the sphere the matrix decides: signs
# know the diagonal, the sphere does not care about the basis.
#
# The answer is sobering. One per cent takes 1403 products, more than twice the 650 that give the exact trace. Why so many? The relative error of one Gaussian probe is
# $\sqrt 2\,\lVert A\rVert_F/\operatorname{tr} A$. For positive semidefinite $A$ its square is $2/r$, where $r = (\operatorname{tr} A)^2/\lVert A\rVert_F^2$ is an **effective rank**, between 1 and the rank. Here it is 13.6. The samples
# differ by how much they catch of nine large eigenvalues. That there are 641 others does not help.
#
# The same formula has a comfort: $n$ does not appear in it. This is what "scalable" can mean.
#
# {{claim 4.3}}
#
# We measure at three sizes. The eigenvalues are $1/i^2$, for which $2/r$ hardly depends on $n$ and predicts an error of 0.20 after 20 products. A Gaussian vector looks the same in every orthonormal basis. So we draw it
# in the eigenbasis, where a product is cheap.


# %%
def relative_error(values, m=20, runs=300):
    z = np.random.default_rng(2).standard_normal((runs, m, len(values)))
    return np.sqrt(np.mean(((z**2 @ values).mean(axis=1) / values.sum() - 1) ** 2))


measured = [relative_error(1 / np.arange(1.0, n + 1) ** 2) for n in (100, 400, 1600)]
claim("4.3", measured, expected=0.2, tolerance=0.02)

# %%
G = goe(500, rng=7)
print(f"1600 equal ones: {relative_error(np.ones(1600)):.4f}; a single one: {relative_error(np.ones(1)):.2f}")
print(f"both signs: {hutchinson(G, max_matvecs=100, rng=1)}, exact {np.trace(G):.2f}")

# %% [markdown]
# The card holds from 100 to 1600. Then the two ends of the scale: with 1600 equal eigenvalues the error is 0.0075, since $r = n$ (the formula gives 0.0079): larger is easier. With a single direction the bound $\sqrt{2/20} = 0.32$ is reached.
#
# And the last line is where the claim fails. A matrix with eigenvalues of both signs can have a trace near 0. (This one is pure noise; Section 7.) A hundred probes miss even its sign: the error is set by $\lVert A\rVert_F$, and not by what is left after cancellation.
# Nor is the square root to be forgotten: ten times the accuracy costs a hundred times the products.
#
# ## 3. The error bar
#
# In practice $V$ is unknown. The usual way is to estimate it from the samples themselves: $s^2$ is their variance, with $m - 1$ below, and $s/\sqrt m$ stands for the standard error. People then write
# "mean ± 1.96 s/√m" and say 95 %. Test the sentence: 2000 times, with five probes each.

# %%
question = (
    "Mean of 5 probes ± 1.96 standard errors: in what percentage of the runs is the exact trace inside?"
)
predict("held", question, answer=None)

# %%
q = drawn["signs"].reshape(2000, 5)
off, error = abs(q.mean(axis=1) - exact), q.std(axis=1, ddof=1) / np.sqrt(5)
held = {factor: 100 * (off <= factor * error).mean() for factor in (1, 1.96, 2.78)}
for factor, percent in held.items():
    print(f"± {factor} errors, on average ± {factor * error.mean():.1f}: holds in {percent:.0f} % ± 1 %")

# %% [markdown]
# How often an interval holds is its **coverage**. One standard error holds in 62 % of the runs, where a Gaussian promises 68. The "95 %" holds in 86 %: it is wrong three times as often as it says. There are two reasons.
#
# The first is that $s$ is itself an estimate, from five numbers. For Gaussian samples Student's *t* corrects this exactly; for five samples its factor is 2.78. Here that gives 93 %.
#
# The second reason is left: the samples are skew. A low mean comes from probes that missed the large eigenvalues, and these have a small spread as well. *The error bar is smallest when the estimate is
# worst.*
#
# But a product is more than one number. For Gaussian probes $\mathbb E\,\lVert A w\rVert^2 = \lVert A\rVert_F^2 = V/2$: the *length* of each product already estimates the variance. `hesslab.trace` makes its intervals in this
# way, with a formula for each kind of probe. We compare, also on a matrix where one direction, a needle, carries nearly everything.

# %%
needle = with_spectrum(np.append(30.0, np.full(299, 0.01)), rng=100)
q_needle = forms(needle, "signs", 10_000, np.random.default_rng(4)).reshape(2000, 5)
for name, A, x, count in (("digits", H, q, 300), ("needle", needle, q_needle, 1000)):
    plain = abs(x.mean(axis=1) - np.trace(A)) <= 2.78 * x.std(axis=1, ddof=1) / np.sqrt(5)
    ends = np.array([hutchinson(A, max_matvecs=5, rng=seed).interval(0.95) for seed in range(count)])
    ours, width = (ends[:, 0] <= np.trace(A)) & (np.trace(A) <= ends[:, 1]), np.diff(ends).mean() / 2
    print(f"{name}: Student {100 * plain.mean():.0f} %, hesslab {100 * ours.mean():.0f} % with ± {width:.0f}")

# %% [markdown]
# On the needle Student's *t* holds in 83 %, `hesslab` in 95 %. On the digits `hesslab` holds in 94 % (± 1.4 %, from 300 runs), with ± 11 on average where Student has ± 13.9. That the interval of the needle is wider than the trace itself, which is 33, is the truth: five
# probes know next to nothing of one direction.
#
# An interval that holds as often as it promises is **calibrated**. You know that only by measuring, where the truth is known. An uncalibrated one is worse than none, because it is believed.
#
# Some programs use another rule. They stop when the running mean has moved by less than a tolerance. That looks like convergence. Take 100 runs of 100 probes each.

# %%
means = drawn["signs"].reshape(100, 100).cumsum(axis=1) / np.arange(1, 101)
off, moved = abs(means[:, 1:] / exact - 1), abs(np.diff(means)) / means[:, 1:]
at = (moved < 0.01).argmax(axis=1)  # the first small move of each run
kept = (off[range(100), at] < 0.01).sum()
print(f"it stops after {np.median(at) + 2:.0f} products (median), within 1 % in {kept} of 100 runs")

# %%
figure, axes = panels()
axes.set_xscale("log")
curves = {"error": off, "last move": moved}
watched(axes, {name: (np.arange(2, 101), norm(c, axis=0) / 10) for name, c in curves.items()}, log=True)
axes.set(xlabel="products k", ylabel="relative, root mean square")
show(figure, "The error of the running mean falls as one over root k, its last move as one over k.")

# %% [markdown]
# The rule promises 1 %, and keeps it in 6 runs of 100. The figure has the reason. The $k$-th sample moves the mean by about $\sigma/k$, with $\sigma = \sqrt V$, while the error is about $\sigma/\sqrt k$. A small move says that $k$ is large. It
# says nothing about the error.
#
# Whoever looks after each probe, and stops as soon as an *interval* is short, must pay as well: of many intervals one is short by luck. `rtol=` in `hesslab.trace` looks rarely, and widens the interval for the number of looks.
#
# ## 4. Spend products where the mass is
#
# Nine directions cause nearly all of the variance. So find them, take their part of the trace exactly, and leave only the rest to chance. This is **Hutch++**. Multiply a random
# block $S$ by $A$: a **sketch** of $A$. The products lean towards the large eigenvectors: it is one step of power iteration, for many vectors at once (Lesson 04). Let $Q$ be an orthonormal basis of $AS$, and $P = I - QQ^\top$. Then, exactly,
#
# $$\operatorname{tr} A = \operatorname{tr} Q^\top A\, Q + \operatorname{tr} P A P .$$
#
# The first term costs one product for each column of $Q$. The second is estimated by probes. A third of the budget each goes to $AS$, to $AQ$ and to the probes.
#
# **XTrace** lets every probe do both jobs, for two products a probe: for the probe $i$ the basis is made from the products of all *others*. The estimate is unbiased. But the samples are no longer
# independent, and the standard error must account for it.
#
# **Nyström** approximation, $A \approx (AS)(S^\top A S)^{-1}(AS)^\top$, uses the products $AS$ twice, as basis and as matrix: rank $k$ takes $k$ products, where $AS$ and $AQ$ take $2k$. It is meant for positive semidefinite matrices. For an indefinite Hessian $S^\top A S$ can be
# nearly singular while $A$ is not, so we leave it here.
#
# Does it always pay? Take three spectra: one nearly flat; nine outliers and a slow crowd, the digits; one that decays fast.

# %%
question = "Eigenvalues from 0.5 to 1.5, evenly spread. With the same number of products Hutch++ is"
predict("flat", question, choices=["better than Hutchinson", "as good", "worse"], answer=None)


# %%
def tried(f, A, m):
    return np.sqrt(np.mean([(f(A, max_matvecs=m, rng=s).value / np.trace(A) - 1) ** 2 for s in range(40)]))


flat, fast = with_spectrum(np.linspace(0.5, 1.5, 300), rng=102), with_spectrum(0.8 ** np.arange(300), rng=101)
three, budgets = {"flat": flat, "digits": H, "fast decay": fast}, (12, 24, 48, 96)
methods = {"Hutchinson": hutchinson, "Hutch++": hutchpp, "XTrace": xtrace}
errors = {t: {n: [tried(f, A, m) for m in budgets] for n, f in methods.items()} for t, A in three.items()}

# %%
figure, grid = panels(1, 3)
for axes, title in zip(grid, three, strict=True):
    axes.set(xscale="log", title=title, xticks=[12, 100], xticklabels=["12", "100"])
    axes.minorticks_off()
    watched(axes, {n: (budgets, e) for n, e in errors[title].items()}, xlabel="products", log=True)
grid[0].set(ylabel="relative error")
show(figure, "Hutch++ and XTrace lose on the flat spectrum, gain ten times on digits, more on fast decay.")

# %%
gains = {title: e["Hutchinson"][-1] / e["Hutch++"][-1] for title, e in errors.items()}
for title, A in three.items():
    tail = norm(eigvalsh(A)[:-32] - eigvalsh(A)[:-32].mean())
    best = norm(A - np.diag(np.diag(A))) / tail / 3**0.5
    print(f"{title:10}  Hutch++ gains a factor {gains[title]:.1f}; at best {best:.1f} expected")
assert gains["flat"] < 1 < 5 < gains["digits"] < gains["fast decay"]

# %%
print(hutchinson(H, max_matvecs=96, rng=0), " and by Hutch++ ", hutchpp(H, max_matvecs=96, rng=0))

# %% [markdown]
# On the digits Hutch++ is an order of magnitude better, on the fast decay two. On the flat spectrum it is *worse*. There is nothing to take away, and only a third of the products are left for probes.
#
# The expectation in the first print-out is simple. With 96 products the sketch has 32 columns, and can at best remove the 32 largest eigenvalues. What is left, the **tail**, is estimated by 32 probes in place of 96. So Hutch++ pays where $\sqrt3$ times the $\sigma = \sqrt V$ of the tail is
# less than that of the whole. (`hutchpp` draws its probes on a sphere, hence the mean that is subtracted from the tail. A measured gain carries an error too: with 40 runs a sixth or so.) Nobody tells you the tail of your Hessian. The error bars do: ± 0.12 in place of ± 1.2, and that is all that is needed to choose.
#
# ## 5. From the trace to the whole spectrum
#
# The **spectral distribution** of $A$ gives each eigenvalue the mass $1/n$. The integral of a function $f$ under it is the mean
# $\frac1n \sum_i f(\lambda_i) = \frac1n \operatorname{tr} f(A)$: a trace again. So take a probe, now of length 1 and uniform on the sphere, and expand it in the eigenvectors, $v = \sum_i c_i u_i$:
#
# $$v^\top f(A)\, v = \sum_i c_i^2\, f(\lambda_i), \qquad \mathbb E\, c_i^2 = \frac1n .$$
#
# A probe sees all eigenvalues, with random weights $c_i^2$ in the place of $1/n$. We need the left side without $f(A)$. Lanczos from the start $v$ gave a small
# tridiagonal $T$, $k \times k$ (Lesson 04). Its first basis vector is $v$, and $v^\top A^j v = e_1^\top T^j e_1$ for every $j$ up to $2k - 1$. Now
# diagonalize, $T = S\,\mathrm{diag}(\theta)\,S^\top$:
#
# $$v^\top f(A)\, v \;\approx\; e_1^\top f(T)\, e_1 = \sum_{j=1}^k w_j\, f(\theta_j), \qquad w_j = (\text{first component of eigenvector } j \text{ of } T)^2 .$$
#
# (From here on $w_j$ is a weight; the probe is $v$.) This is a Gauss quadrature. Its nodes are the Ritz values. Its weights are the first *row* of $S$, squared. Is it true? Compare the integrals of the powers $\lambda^0$ to $\lambda^9$ with the sums over all 650 eigenvalues.


# %%
def quadrature(A, v, k):
    theta, S = eigh(tridiagonalize(A, v, k).T)
    return theta, S[0] ** 2


v = np.random.default_rng(5).standard_normal(650)
c, (theta, weights) = U.T @ v / norm(v), quadrature(H, v, 4)
off = np.array([(weights @ theta**j) / (c**2 @ lam**j) - 1 for j in range(10)])
print(
    "exact for the degrees", np.flatnonzero(abs(off) < 1e-10).tolist(), f" 8 is off by {100 * off[8]:.2f} %"
)

# %% [markdown]
# Four steps, four products, and eight integrals are exact for this $v$. What is random is $v$, not the quadrature. Average over several starts, and you have
# **stochastic Lanczos quadrature** (SLQ).
#
# How should the nodes be read? It is tempting to see them as a sample of the eigenvalues.

# %%
question = "98.6 % of the eigenvalues of H lie below 0.5. Of 30 nodes, the fraction below 0.5 is about"
predict("ritz", question, choices=["99 %", "70 %", "50 %"], answer=None)

# %%
theta, weights = quadrature(H, v, 30)
low, crowd = (theta < 0.5).mean(), weights[theta < 0.5].sum()
print(f"below 0.5: eigenvalues {(lam < 0.5).mean():.3f}, nodes {low:.3f}, their weight {crowd:.3f}")
print("largest nodes      ", theta[:-11:-1].round(2))
print("largest eigenvalues", lam[:-11:-1].round(2))

# %% [markdown]
# > **Misconception: "the Ritz values are a sample of the spectrum, so their histogram is its density".** Lanczos puts its nodes where *quadrature* needs them: one
# > on each outlier, few in the crowd. How large the crowd is, only the weights say. PyHessian, a library much in use, took the squares of *all* components
# > of each eigenvector for a time, until January 2024 (its pull requests 18 and 23). They add up to 1, so that every node counted alike. The first question of the exit ticket is about this.
#
# Two errors are left, and each has its own knob. We compare with the exact spectrum by the **Wasserstein distance**: how far mass must be moved on
# average to turn one distribution into the other. Here it is relative to the range of the eigenvalues.


# %%
def distance(steps, probes, seed):
    m = slq(H, num_steps=steps, num_probes=probes, rng=seed)
    return stats.wasserstein_distance(m.nodes.ravel(), lam, m.weights.ravel()) / np.ptp(lam)


for probes in (1, 10):
    row = [np.mean([distance(steps, probes, seed) for seed in range(8)]) for steps in (5, 10, 20, 40)]
    print(f"{probes:2} probes with 5, 10, 20, 40 steps: distance", np.array(row).round(4))

# %% [markdown]
# With one probe, steps beyond twenty buy nothing: what is left is the luck of the start. Ten probes have less of it, and more steps still help.
#
# The random part falls as one over the root of $n$ times the number of probes. For a network $n$ is large, and few probes do. The part of the steps falls at least as the range over $k$: about $12/t$ steps are enough for a distance of
# $t$ times the range, with enough probes (Chen, Trogdon and Ubaru, `chen2021slq`). This bound holds for every matrix. Here 40 steps and ten probes come to about a thousandth of the range.
#
# Now the exact histogram. For each bin, `mass` gives the fraction of eigenvalues in it, with both errors. That of the probes is a standard error. That of the steps is a bound:
# from its moments a probe knows two limits between which its own mass must lie (the inequalities of Chebyshev, Markov and Stieltjes), and the bound is half of their distance.

# %%
measure, edges = slq(H, num_steps=30, num_probes=8, rng=1), [-0.1, 0.003, 0.01, 0.03, 0.1, 0.8, 6]
right, bins = np.histogram(lam, edges)[0] / 650, np.column_stack([edges[:-1], edges[1:]])
masses = [measure.mass(*bin) for bin in bins]
for b, m, exactly in zip(edges[1:], masses, right, strict=True):
    print(f"to {b:5}: exact {exactly:.4f}, found {m.value:.4f}; steps {m.bias:.4f}, probes {m.stderr:.4f}")

# %%
ends = np.array([mass.interval(0.95) for mass in masses])
assert ((ends[:, 0] <= right) & (right <= ends[:, 1])).all()
figure, axes = panels()
axes.bar(range(6), right, color="#C9C9C9", label="exact")
axes.vlines(range(6), ends[:, 0], ends[:, 1], linewidth=3, label="SLQ, 95 %")
axes.plot(range(6), [mass.value for mass in masses], "o", color="black", label="SLQ")
axes.set(yscale="log", xticks=range(6), xticklabels=edges[1:], xlabel="bin up to", ylabel="fraction")
axes.legend()
show(figure, "In all six bins the interval of SLQ holds the exact fraction; it is wide within the crowd.")

# %% [markdown]
# All six intervals hold the truth. They are wide for two different reasons. The edge 0.003 cuts through the crowd. For a part of it 30 steps cannot tell on which side it lies, and more
# probes would not help. The edge 0.8 lies in a gap. There the steps leave no error, and what is left comes from the probes. *A bin should end in a gap.*
#
# And SLQ does not count outliers. Nine of 650 are 0.0138, and the last bin says 0.0111 ± 0.0021. To count, use `eigsh` (Lesson 04). SLQ weighs the crowd.
#
# ## 6. Smoothing that lies
#
# Weighted points are no curve. So each node is replaced by a Gaussian of some **width**, and the sum is plotted. The width is a choice. Recall that $H$ is positive
# semidefinite: no eigenvalue is below 0.

# %%
question = "Width 0.16, a thirtieth of the range: the plot looks smooth. How much of the smoothed density of H is below 0?"
predict("zero", question, choices=["Nothing", "About 5 %", "About 45 %"], answer=None)

# %%
spilled = {w: (measure.weights * special.ndtr(-measure.nodes / w)).sum() / 8 for w in (0.16, 0.02, 0.002)}
for w, below in spilled.items():
    print(f"width {w}: below 0 by SLQ {below:.2f}, by exact eigenvalues {special.ndtr(-lam / w).mean():.2f}")
print(f"without a width: the mass below -0.01 is at most {measure.mass(-1, -0.01).interval()[1]:.4f}")

# %%
hump, (figure, cells) = slq(G, num_steps=30, num_probes=4, rng=8), panels(2, 2)
for axes, width in zip(cells[0], (0.16, 0.02), strict=True):
    density(axes, x := np.linspace(-0.6, 5.4, 1201), measure.density(x, width).value)
    axes.set(yscale="log", ylim=(1e-3, 30), title=f"digits, width {width}")
for axes, width in zip(cells[1], (0.25, 0.03), strict=True):
    density(axes, x := np.linspace(-2.6, 2.6, 521), hump.density(x, width).value)
    axes.plot(x, semicircle_pdf(x))
    axes.set(title=f"one hump (dashed), width {width}")
show(figure, "Above, a wide Gaussian spills a positive spectrum over zero; below, a narrow one makes a comb.")

# %% [markdown]
# Nearly half of the smoothed mass lies on the wrong side of zero. The exact eigenvalues do the same: it is no error of SLQ, it is the width. A width tied to the range *hides* whatever is small beside
# the outliers, and in a Hessian with outliers that is nearly everything. Whoever reads "half of the curvature is negative" from such a plot has read the width.
#
# The opposite lie is below: where the width is finer than the spacing of the nodes, it *invents*. Every node becomes a peak, and the hump a comb. (The dashed hump is the law of a random matrix, Section 7.)
#
# So print the width, try a second one, and make your statement with a mass, which has no width.
#
# ## 7. What pure noise looks like
#
# A plot shows a crowd and a few points beside it. Is that structure? The question has an answer only beside a **null model**: what would be there if there was nothing to find? We call **bulk** what the null
# explains, and **outlier** an eigenvalue beyond the largest that the null produces. Two nulls are known exactly, in the limit of large size.
#
# *Marchenko–Pastur.* Now $n$ counts examples. Take $n$ of them, with $p$ independent features of variance 1. Their true covariance is $I$: all eigenvalues are 1. Those of the *sample* covariance $X^\top X/n$ spread over
# $(1 \pm \sqrt\gamma)^2$, with $\gamma = p/n$. For γ > 1 a fraction $1 - 1/\gamma$ is 0, because the rank is at most $n$.
#
# *GOE*, the Gaussian orthogonal ensemble. Take a symmetric matrix of Gaussian entries of variance $1/n$ (twice that on the diagonal), independent but for the symmetry. Its eigenvalues fill Wigner's **semicircle** from −2 to 2.

# %%
noise = {"γ = 0.25": wishart(2000, 500, rng=9), "γ = 4": wishart(200, 800, rng=9), "GOE": G}
for name, A in noise.items():
    some = eigvalsh(A)[abs(eigvalsh(A)) > 1e-9]
    zero, negative = 1 - len(some) / len(A), (some < 0).mean()
    print(f"{name:8}  from {some[0]:.2f} to {some[-1]:.2f}, zero {zero:.2f}, negative {negative:.2f}")

# %% [markdown]
# The limits are 0.25 and 2.25; 1 and 9, with zeros 0.75; −2 and 2. Sampling alone has made a condition number of 9 out of 1. And half of the eigenvalues of the GOE are
# negative, which means nothing.
#
# Now the claim, on these matrices: SLQ against the law. Lesson 06 examines it again, on networks and across training.
#
# {{claim 9.1}}

# %%
found = [slq(A, num_steps=30, num_probes=20, rng=10 + i) for i, A in enumerate(noise.values())]
below_1 = 0.75 * marchenko_pastur_pdf(np.linspace(0.25, 1, 10_001), 0.25).mean()
laws, bins = [below_1, 0.75, 1 / 3 + 3**0.5 / (2 * np.pi)], [(-1, 1), (-0.5, 0.5), (-1, 1)]
claim("9.1", [m.mass(*bin).value for m, bin in zip(found, bins, strict=True)], expected=laws, tolerance=0.02)

# %%
figure, grid = panels(1, 2)
for axes, i, law in ((grid[0], 0, lambda x: marchenko_pastur_pdf(x, 0.25)), (grid[1], 2, semicircle_pdf)):
    name, A = list(noise.items())[i]
    histogram(axes, eigvalsh(A), bins=25)
    x = np.linspace(axes.get_xlim()[0] - 0.3, axes.get_xlim()[1] + 0.3, 200)
    density(axes, x, found[i].density(x, 0.15).value, found[i].density(x, 0.15).interval())
    axes.plot(x, law(x))
    axes.set(title=f"{name}: law dashed, SLQ with band")
show(figure, "Exact histograms of noise fill the limiting laws; the SLQ curves follow, rounding the edges.")

# %% [markdown]
# Three fractions, each within 0.02 of its law, from products alone. Where does the claim fail? Without the weights, as before. And where the start knows the matrix. Two such starts are tempting: normal vectors from a seed that has drawn the matrix
# already, and for the digits the gradient, since it is at hand.

# %%
starts = np.random.default_rng(0).standard_normal((20, 500))
twice = [w[abs(x) < 1].sum() for x, w in (quadrature(goe(500, rng=0), v, 30) for v in starts)]
alone = np.mean(abs(found[2].nodes) < 1)
print(f"GOE from -1 to 1: law {laws[2]:.2f}, without weights {alone:.2f}, a seed twice {np.mean(twice):.2f}")
x, w = quadrature(H, softmax.gradient(reached), 30)
print(f"digits above 0.5: {(lam > 0.5).mean():.4f}, from the gradient {w[x > 0.5].sum():.4f}")

# %% [markdown]
# NumPy's generator gives the same numbers for the same seed: the starts are *the very rows from which the matrix was made*, and 0.61 becomes 0.40. No error bar can know. Probes of `hesslab` have a stream apart,
# so that `rng=0` is safe there for both; your own draws need a seed of their own, or one generator passed along. And the gradient finds no outlier at all: a hundred steps of descent have removed its part in the nine directions.
#
# ## 8. When does an outlier show?
#
# Let one direction have the variance ℓ and all others 1. With $n$ examples, does the largest eigenvalue of the sample covariance tell?

# %%
question = "400 examples, 100 features: one direction has variance 1.4, all others 1. Does the largest eigenvalue show it?"
choices = ["Yes, it is near 1.4", "Yes, it is well above those of noise", "No, as a rule"]
predict("spike", question, choices, answer=None)

# %%
null = np.array([eigvalsh(wishart(400, 100, rng=seed))[-1] for seed in range(300)])
limit, ells = np.quantile(null, 0.99), np.array([1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3])
tops = np.array([[eigvalsh(spiked(400, 100, [ell], rng=1000 + s))[-1] for s in range(20)] for ell in ells])
print(
    f"noise: mean {null.mean():.2f}, 99 % below {limit:.2f}; {100 * (null > 2.25).mean():.0f} % beyond 2.25"
)
for i in (2, 7):
    print(f"ℓ = {ells[i]}: mean {tops[i].mean():.2f}, beyond the 99 % {(tops[i] > limit).sum()} of 20")

# %%
figure, axes = panels()
axes.vlines(ells, tops.min(axis=1), tops.max(axis=1), color="black", label="20 draws: range, mean")
axes.plot(ells, tops.mean(axis=1), "o", color="black")
fine = np.linspace(1.5, 3, 50)
axes.plot(np.append(1, fine), np.append(2.25, fine * (1 + 0.25 / (fine - 1))), label="limit")
threshold(axes, limit, "99 % of pure noise")
axes.set(xlabel="true variance ℓ of one direction", ylabel="largest eigenvalue")
axes.legend(loc="upper left")
show(figure, "Up to a variance of 1.5 the largest eigenvalue stays at the edge of noise; beyond, it leaves.")

# %% [markdown]
# This is the transition of **Baik, Ben Arous and Péché** (BBP). Up to $\ell = 1 + \sqrt\gamma$, here 1.5, the spike is invisible in the largest eigenvalue: in the limit it stays at the edge. Of our
# 20 draws with ℓ = 1.4, two are beyond the noise. Above the transition the largest eigenvalue is near
# $\ell\,(1 + \gamma/(\ell - 1))$, *more* than ℓ: 3.375 for ℓ = 3. So an outlier is larger than what it stands for, and a bulk may hide what is there.
#
# Mind the difference between an edge and a threshold. The edge is a limit; noise of finite size goes beyond it, here in one case of ten. The 99 % line is an honest threshold. To draw it, simulate your null.
#
# Now data. The 61 pixels that are ever used, each scaled to variance 1: is there anything in their covariance? The first null is Marchenko–Pastur. The second keeps the data and kills the structure: it permutes every
# column by itself.

# %%
X = images[:, images.std(axis=0) > 0]
X, rng = (X - X.mean(axis=0)) / X.std(axis=0), np.random.default_rng(20)
values, edge = eigvalsh(X.T @ X / 1797), (1 + (61 / 1797) ** 0.5) ** 2
shuffled = [eigvalsh(np.cov(rng.permuted(X, axis=0).T))[-1] for _ in range(100)]
lines = {"edge": edge, "99 % of shuffles": np.quantile(shuffled, 0.99), "largest shuffle": max(shuffled)}
for name, line in lines.items():
    print(f"beyond the {name}, {line:.2f}: {(values > line).sum()} of 61")

# %%
smooth = np.geomspace(0.2, 3, 100)  # true variances, without any gap
Z = rng.standard_normal((4000, 100)) * np.sqrt(smooth / smooth.mean())
print("no spike, beyond the edge:", (eigvalsh(Z.T @ Z / 4000) > (1 + 0.025**0.5) ** 2).sum(), "of 100")

# %% [markdown]
# Twelve outliers by the first null, eleven by the 99 % line of the second, eight beyond all that a hundred shuffles gave. The two differ by what they take for granted. The first knows only Gaussian noise. The second keeps the pixels as they are, and some are lit in one image or two: where
# a shuffle puts two of these on one image, they look strongly correlated. That is rare, and then the largest eigenvalue is near 2. Heavy tails push noise far beyond the edge now and then. Up to four of the twelve are in doubt.
#
# The last cell is a warning. Its variances fall smoothly, without a gap; there is no spike. Yet 28 of 100 eigenvalues are "beyond the edge". *To reject a null says that the data are not that noise. It does not
# say what they are.* Hessians of networks are such a case: their bulk has heavy tails, and does not follow the law of Marchenko and Pastur (`papyan2018`). Lesson 06 needs better nulls.
#
# ## What to take away
#
# 1. $\mathbb E\,[w^\top A w] = \operatorname{tr} A$, with a variance that you can write down. An error bar comes with its coverage, measured, or it is decoration.
# 2. Hutch++ and XTrace pay where a few directions carry $\lVert A\rVert_F$. SLQ weighs the crowd: nodes, and *first components squared*.
# 3. A smooth curve has a width, and the width can lie. State a mass with its band. Bulk and outlier are words about a null model.
#
# ## Exit ticket
#
# Replace each `None` by the number of your answer, and run the cell.

# %%
a, c, f = int(needed > 65) + int(needed > 650), (held[1.96], 4), int(gains["flat"] < 1) * 2
r, s, b = int(low < 0.85) + int(low < 0.6), 1 + int(tops[2].mean() < limit), int(spilled[0.16] > 0.02) * 2
ticket(
    TICKET,
    answers=[None, None, None],
    outcomes={"cost": a, "held": c, "flat": f, "ritz": r, "zero": b, "spike": s},
)

# %% [markdown]
# ## In practice: your own model
#
# - Begin with `hutchpp(hessian(risk), max_matvecs=60, rng=…)` and read its interval. Report value, error and products together.
# - The error bar is about *this* matrix. A Hessian on a minibatch has a second error, from the data, that no probe sees. Repeat with other batches.
# - Ask `slq` for 50 to 100 steps and a handful of probes. State masses between edges that lie in gaps. Plot two widths, and print them.
# - Count outliers with `eigsh`, not from a density. Say which null they are outliers of, and simulate it at your size.
#
# ## Further reading
#
# - `hutchinson1990` (Hutchinson, *A stochastic estimator of the trace of the influence matrix …*, 1989/90).
# - `meyer2021` (Meyer and others, *Hutch++: Optimal Stochastic Trace Estimation*, 2021); `epperly2024` (Epperly, Tropp and Webber, *XTrace*, 2024), on Nyström as well.
# - `ubaru2017` (Ubaru, Chen and Saad, *Fast Estimation of tr(f(A)) via Stochastic Lanczos Quadrature*, 2017).
# - `ghorbani2019` (Ghorbani, Krishnan and Xiao, 2019) and `yao2020` (Yao and others, *PyHessian*, 2020): SLQ on networks.
# - `marchenko1967` (Marchenko and Pastur, 1967); `baik2005` (Baik, Ben Arous and Péché, 2005): the transition.
