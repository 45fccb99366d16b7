# %% [markdown]
# {{header}}

# %%
from functools import partial
from time import process_time
from timeit import repeat

import numpy as np
import torch
from numpy.linalg import eigh, eigvalsh, norm
from torch.func import functional_call, grad, jvp
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from hesslab.checks.lesson_04 import TICKET
from hesslab.course import claim, predict, start, ticket
from hesslab.curvature import hessian
from hesslab.data import digits
from hesslab.dynamics import gd, run
from hesslab.lanczos import eigsh, power_iteration, tridiagonalize
from hesslab.matrices import with_spectrum
from hesslab.operators import counted, to_dense
from hesslab.plots import panels, show, watched
from hesslab.risk import EmpiricalRisk, mlp

start()

# %% [markdown]
# ## 1. What the matrix costs
#
# A network with $n$ parameters has a Hessian of $n^2$ numbers. We begin with one that is small enough to be written down, so
# that everything later can be checked against the truth: 64 pixels, 16 tanh units, 10 classes, 1210 parameters. Gradient descent
# trains it for 300 steps on 300 digits.

# %%
images, labels = map(torch.tensor, digits(rng=0))
data, others = (images[:300], labels[:300]), (images[300:600], labels[300:600])
model = mlp([64, 16, 10], rng=11)
risk = EmpiricalRisk(model, cross_entropy, data)
n, begin = risk.num_parameters, risk.theta
trained = run(risk.gradient, begin, gd(0.2), 300).points[-1]
print(f"{n} parameters, loss {risk.value(begin):.3f} at the start, {risk.value(trained):.3f} trained")

# %% [markdown]
# `hessian(risk, theta)` is an *operator*: it multiplies, and holds no matrix. `counted` counts the products. `to_dense` writes the
# matrix down, column by column: column $i$ of $H$ is the product $H e_i$ with the $i$-th unit vector.

# %%
H, products = counted(hessian(risk, trained))
dense = to_dense(H).numpy()
written, exact = products(), eigvalsh(dense)[::-1]  # largest eigenvalue first
print(f"{written} products; largest eigenvalues {exact[:5].round(3)}, smallest {exact[-1]:.3f}")
small, large = (partial(eigvalsh, dense[:size, :size]) for size in (300, 1200))
seconds = [min(repeat(small, timer=process_time, number=20)) / 20]  # 20 times: some clocks tick slowly
seconds += [min(repeat(large, timer=process_time, number=1))]
assert 2 < np.log(seconds[1] / seconds[0]) / np.log(4) < 4

# %% [markdown]
# That took a second. How does it grow? Memory as $n^2$: 12 MB here, 80 GB for $n = 10^5$. To write the matrix down takes $n$
# products, and each of them handles $n$ numbers or more. And all eigenvalues of a symmetric matrix take about $\tfrac43 n^3$ additions
# and multiplications. The last lines of the cell time this step, on blocks of 300 and of 1200 rows. Times differ from machine to machine, so they
# are not printed; the assertion says that the power of $n$ is between 2 and 4.
#
# {{claim 4.0}}
#
# The card gives `eigsh`, the method of Sections 5 to 8, a tenth of $n$ products, and asks for the ten largest eigenvalues. It measures: products
# to write $H$, divided by $n$; how many of the ten converged; and their largest error, against the matrix.

# %%
ten, many = eigsh(H, 10, max_matvecs=n // 10, rng=0), eigsh(H, 400, rng=0)
measured = [written / n, ten.converged.sum(), abs(ten.values - exact[:10]).max()]
claim("4.0", measured, holds=lambda m: m[0] == 1 and m[1] == 10 and m[2] < 1e-6)
print("asked for 400:", many.stop_reason)

# %% [markdown]
# Ten eigenvalues come with a tenth of the products, to rounding. Ask for 400, and it is no longer a bargain: `eigsh` writes
# the matrix down and solves it. So the dense way is no shame. Up to a few thousand parameters it is the simplest one, and the
# safest: nothing can be missed.
#
# ## 2. The product without the matrix
#
# Follow the gradient $g$ along a straight line: $g(\theta + tv)$. By the chain rule its derivative at $t = 0$ is $Hv$. And since $H$ is
# symmetric, $Hv$ is also the gradient of the *number* $g(\theta)\cdot v$, with $v$ held fixed:
#
# $$H v \;=\; \frac{d}{dt}\, g(\theta + t v)\Big|_{t=0} \;=\; \nabla_\theta \big( g(\theta) \cdot v \big).$$
#
# This is the **Hessian-vector product**. Automatic differentiation can go through a computation in *reverse*, from the loss back to θ, as
# `backward` does: it gives the whole gradient of one number. Or it can go *forward*: it gives the derivative of everything along one direction. The first form
# is *forward over reverse*, the forward derivative of a gradient. The second is *double backward*: reverse twice. Both are a few lines.
# (`functional_call` runs the model with the parameters it is given; `unflatten` cuts θ into the model's tensors; `jvp` is the forward
# derivative, and answers a pair, value and derivative.)


# %%
def loss_of(risk):
    inputs, targets = risk.data
    return lambda theta: cross_entropy(functional_call(risk.model, risk.unflatten(theta), (inputs,)), targets)


def double_backward(loss, theta, v):
    theta = theta.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(theta), theta, create_graph=True)
    return torch.autograd.grad(g @ v, theta)[0]


def forward_over_reverse(loss, theta, v):
    return jvp(grad(loss), (theta,), (v,))[1]


loss, v = loss_of(risk), torch.tensor(np.random.default_rng(1).standard_normal(n))
slope = grad(loss)  # the gradient, a function of θ
for product in (double_backward, forward_over_reverse):
    assert np.allclose(product(loss, trained, v), dense @ v.numpy(), rtol=0, atol=1e-12)

# %% [markdown]
# `create_graph=True` is what makes it work. It records how $g$ was computed, so that $g \cdot v$ can be differentiated again. Without it torch
# says that the tensor "does not require grad".
#
# What is the price? We do not time it; we count multiplications, in units of one gradient.

# %%
choices = ["About 2 gradients", "About 35 gradients, √n", "1210 gradients"]
predict("price", "1210 parameters. What does one product Hv cost, by double backward?", choices, answer=None)


# %%
def multiplications(work, *args):
    with FlopCounterMode(display=False) as counter:
        work(*args)
    return counter.get_total_flops() / 2  # it counts additions too


def price(way, loss, theta):  # in gradients
    return multiplications(way, loss, theta, theta) / multiplications(grad(loss), theta)


def graph_kept(loss, theta, v):
    leaf = theta.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(leaf), leaf, create_graph=True)
    return lambda: torch.autograd.grad(g @ v, leaf, retain_graph=True)


prices = {way.__name__: price(way, loss, begin) for way in (double_backward, forward_over_reverse)}
again = graph_kept(loss, begin, v)
prices["each further one, graph kept"] = multiplications(again) / multiplications(grad(loss), begin)
print({name: round(cost, 2) for name, cost in prices.items()})

# %% [markdown]
# Two to three gradients, from scratch. The first of them is the gradient itself, which every product computes anew. Keep its graph, and
# each further product costs little more than one gradient: `hesslab.curvature` does this while the graph fits in memory. The counts
# are those of matrix products, which are nearly all of the work.
#
# More than 3 it cannot be. Going back through a computation takes at most two matrix products for each one in it, one for either factor. So
# differentiating the gradient costs at most two gradients, and the gradient itself is the third. In a shallow network it is less: the first layer
# needs no derivative by its inputs. The size $n$ does not enter. The card repeats the count on a network of one more layer, with seventy times the
# parameters.
#
# {{claim 4.4}}
#
# For an independent check of the value, the card uses a formula that differentiates once only. Section 3 explains it, and why its own error, the first number,
# is near $10^{-10}$. The other two are prices, at 1210 and at 85 002 parameters.

# %%
big, u, h = EmpiricalRisk(mlp([64, 256, 256, 10], rng=0), cross_entropy, data), v / v.norm(), 1e-4
Hu, quotient = double_backward(loss, begin, u), (slope(begin + h * u) - slope(begin - h * u)) / (2 * h)
off = float((quotient - Hu).norm() / Hu.norm())
measured = [off, prices["double_backward"], price(double_backward, loss_of(big), big.theta)]
claim("4.4", measured, holds=lambda m: m[0] < 1e-7 and min(m[1:]) > 1 and max(m[1:]) <= 3)

# %% [markdown]
# The condition that people forget: *every product must see the same loss*. Two ways to break it.

# %%
part = EmpiricalRisk(model, cross_entropy, (images[:30], labels[:30]))
of_part, of_all = hessian(part, trained) @ v, hessian(risk, trained) @ v
print(f"30 of the 300 digits: off by {100 * float((of_part - of_all).norm() / of_all.norm()):.0f} %")
try:
    hessian(EmpiricalRisk(torch.nn.Sequential(torch.nn.Dropout(0.1), model).train(), cross_entropy, data))
except ValueError as reason:
    print("with dropout:", reason)

# %% [markdown]
# A mini-batch gives the product with the Hessian *of the mini-batch*, exactly, which is another matrix. If it changes from product to product, there
# is no matrix at all, and Lanczos on it means nothing. With dropout the loss itself changes; `hessian` refuses.
#
# Three more conditions. Every operation must have a second derivative: the fused attention kernels of torch have none yet. Across a
# kink, as in a ReLU network, you get the Hessian of the smooth piece on which θ lies (Lesson 01). And the order matters: the third
# order, reverse over forward, is silently wrong through LayerNorm in torch 2.13. A check that finds most such errors costs two products:
# draw $u$ and $v$, and compare $u^\top H v$ with $v^\top H u$. `hessian` makes it for you when it is called.
#
# ## 3. The same product from two gradients
#
# No second derivative at hand? Take a difference of gradients, at two points a step $h$ apart on either side:
#
# $$H v \;\approx\; \frac{g(\theta + h v) - g(\theta - h v)}{2h} .$$
#
# Which $h$? Take $v$ of length 1.

# %%
question = "In float64, which of these steps h gives the smallest error?"
predict("step", question, choices=["1e-12", "1e-8", "3e-5", "1e-2"], answer=None)

# %%
steps = 10.0 ** np.arange(-12, 0.1, 0.5)


def errors_of(quotient):
    return np.array([float((quotient(h) - Hu).norm() / Hu.norm()) for h in steps])


central = errors_of(lambda h: (slope(begin + h * u) - slope(begin - h * u)) / (2 * h))
one_sided = errors_of(lambda h: (slope(begin + h * u) - slope(begin)) / h)
figure, axes = panels()
watched(axes, {"central": (steps, central), "one-sided": (steps, one_sided)}, log=True)
axes.set(xscale="log", xlabel="step h", ylabel="relative error of the product")
show(figure, "Two Vs: central differences reach 1e-10 near h = 3e-5, one-sided ones 5e-8 near h = 1e-7.")

# %% [markdown]
# The error is a V on logarithmic axes, and people call it the U-curve. On the left is **rounding**: each gradient is wrong by some ε, and the
# difference is divided by $2h$: the error is $\varepsilon/h$. On the right is **truncation**. Expand $g$ along the line: the even terms cancel, and
# $\tfrac16 h^2 g'''$ is left, where primes are derivatives in $t$. (One-sided, nothing cancels, and $\tfrac12 h g''$ is left.) The sum
# $\varepsilon/h + M h^2$, with $M = \lVert g''' \rVert/6$, is smallest where its derivative is 0. (All of it relative to $\lVert Hv \rVert$, as in
# the figure.)
#
# $$h^\ast = \Big(\frac{\varepsilon}{2M}\Big)^{1/3}, \qquad \text{error} = \tfrac32\, \varepsilon / h^\ast .$$
#
# So the best step is of the order of the *cube root* of the precision, and two thirds of the digits survive. One-sided it is the square root,
# and half of them. Read ε and $M$ off the two arms, and predict the bottom.

# %%
arms = (central[18:22], steps[18:22]), (one_sided[16:20], steps[16:20])
fits = [np.polyfit(np.log(step), np.log(error), 1)[0].round(2) for error, step in arms]
epsilon, M = np.median(central[2:8] * steps[2:8]), central[20] / steps[20] ** 2
best = (epsilon / (2 * M)) ** (1 / 3)
print(f"truncation grows as h to the power {fits[0]} (central) and {fits[1]} (one-sided)")
assert 1e-5 < best < 1e-4 and 1 / 3 < central.min() / (1.5 * epsilon / best) < 3
chosen = [int(np.argmin(abs(np.log(steps / h)))) for h in (1e-12, 1e-8, 3e-5, 1e-2)]

# %% [markdown]
# The arms predict a best step between $10^{-5}$ and $10^{-4}$, and the error there to a factor of 3; so says the assertion. (Rounding differs between
# processors, and the digits with it.) Three rules follow. Use the central form. Make the step $h$ *per unit length of $v$*:
# divide by $\lVert v \rVert$ before, multiply after. And expect ten digits in float64; in float32, where $\varepsilon \approx 10^{-7}$, five at best.
#
# The expansion needs $g$ to be smooth. What if it is not? The same network with ReLU units:

# %%
kinked = EmpiricalRisk(mlp([64, 16, 10], activation="relu", gain=2**0.5, rng=0), cross_entropy, data)
theta, true = kinked.theta, hessian(kinked) @ u
for h in (1e-4, 1e-3, 1e-2):
    quotient = (kinked.gradient(theta + h * u) - kinked.gradient(theta - h * u)) / (2 * h)
    print(f"h = {h:.0e}: relative error {float((quotient - true).norm() / true.norm()):.0e}")

# %% [markdown]
# Not a slope, a cliff. Up to $h = 10^{-3}$ no unit switches for any of the 300 digits, and all is well. At $10^{-2}$ at least one does: the gradient *jumps*,
# and the jump is divided by $2h$. The product is wrong by five times its size. Automatic differentiation never sees a kink; a difference sees every
# kink within its step.
#
# ## 4. Power iteration, and its pitfall
#
# Now use products. **Power iteration** is the oldest way: multiply, normalize, repeat. Write the start as
# $v = \sum_i c_i v_i$, with eigenvectors $v_i$. After $m$ products it is $\sum_i c_i \lambda_i^m v_i$, up to length. The largest
# $|\lambda_i|$ wins. Then $\rho = v^\top A v$, with $v$ of length 1, is its eigenvalue.

# %%
choices = ["5, the largest", "7, the largest in size", "−7", "no limit"]
predict("modulus", "Eigenvalues 5, 1 and −7: power iteration goes to", choices, answer=None)


# %%
def power(A, v, steps):
    for _ in range(steps):
        v = A @ v / norm(A @ v)
    return v @ A @ v


ones = np.ones(3)
signed = np.diag([5.0, 1.0, -7.0])
limit, late = power(signed, ones, 60), [power(signed, ones, steps) + 7 for steps in (20, 21)]
print(f"5, 1, −7: {limit:.4f}; the error shrinks by {late[1] / late[0]:.4f} a step")
tied = [power(np.diag([5.0, 1.0, -5.0]), each, 60) for each in (ones, np.array([2.0, 1.0, 1.0]))]
print(f"5, 1, −5: from one start {tied[0]:z.1f}, from another {tied[1]:.1f}")

# %% [markdown]
# It goes to −7: the largest in **modulus**, with its sign. How fast? The error of the vector shrinks by $|\lambda_2/\lambda_1|$ a step, with the second
# largest modulus in the numerator. The error of ρ is quadratic in that of the vector, so it shrinks by the square: here
# $(5/7)^2 = 0.5102$. If 5 and −5 share the largest modulus, the quotient is 1 and nothing converges: the vector jumps
# between two mixtures of both eigenvectors, and ρ settles on a number that depends on the start and is no eigenvalue at all.
#
# Is this a toy problem? Take our network at the start of training, before its first step.
#
# {{claim 4.1}}

# %%
at_start = to_dense(hessian(risk, begin)).numpy()
ends = eigvalsh(at_start)
plain, shifted = (power_iteration(at_start + c * np.eye(n), rng=0) for c in (0, 2))
found = [plain.values[0], shifted.values[0] - 2, late[1] / late[0]]
claim("4.1", found, expected=[*ends[[0, -1]], (5 / 7) ** 2], tolerance=0.001)
assert plain.converged[0] and shifted.num_matvecs > 10 * plain.num_matvecs
second, first = ends[-2:] + 2
print(f"the two largest after the shift: {first:.3f} and {second:.3f}, quotient {second / first:.3f}")

# %% [markdown]
# Power iteration on the Hessian of a real network converges, to six digits, and the answer is not $\lambda_{\max}$. It is
# $\lambda_{\min}$. A step size of $2/1.995$, chosen from it, would rest on the wrong end of the spectrum. (For some seeds $\lambda_{\max}$ is
# larger in modulus, for some it is not. At the trained point of Section 1 it is, by far.)
#
# The cure is a **shift**. $A + cI$ has the same eigenvectors and the eigenvalues $\lambda_i + c$. With $c = 2 \ge |\lambda_{\min}|$ none is
# negative, and the largest in modulus is $\lambda_{\max} + 2$. Subtract 2 at the end: the second number of the card. But the cure has a price, which the
# assertion measures: more than ten times the products. Before the shift, −1.995 stood far from all others. After it the two largest eigenvalues,
# 3.274 and 3.195, are
# neighbours: the vector keeps 0.976 of its error in each step.
#
# > **Misconception: "power iteration finds the largest eigenvalue".** It finds the largest in modulus. For a positive semidefinite matrix
# > that is the same; for a Hessian it is not. Nor does a larger budget help: at −7 it has converged. The first question of the exit ticket is
# > about this.
#
# ## 5. Lanczos: throw nothing away
#
# Power iteration computes $v, Av, A^2v, \dots$ and keeps the last. Keep them all. The first $m$ of them span the **Krylov space** of dimension $m$,
# for $m - 1$ products. In it, take the vector of the largest Rayleigh quotient. It cannot be worse than $A^{m-1}v$, which is one of the candidates.
#
# With an orthonormal basis $V$ of the space this is a small problem: the $m \times m$ matrix $T = V^\top A V$ (it takes one more product, $Av_m$). Its eigenvalues are the **Ritz
# values**, usually called θ. (In Sections 5 to 8, θ with a matrix $A$ is a Ritz value, and θ with a network its parameters.) If $s$ is an
# eigenvector of $T$, of length 1, then $y = Vs$ is the **Ritz vector**. The largest Ritz value is the largest Rayleigh quotient in the space, by
# Lesson 01, and the smallest the smallest. So one run approaches both ends at once, and needs no shift.
#
# And $T$ is tridiagonal. Let the basis grow with the space: $v_1, \dots, v_j$ span the one of dimension $j$. Then $Av_j$ lies in that of dimension
# $j + 1$, so it is orthogonal to $v_{j+2}, v_{j+3}, \dots$: below the subdiagonal $T$ is 0. It is symmetric, so it is 0 above as well. Each product
# therefore gives the next basis vector from the last two:
#
# $$\beta_j v_{j+1} = A v_j - \alpha_j v_j - \beta_{j-1} v_{j-1}, \qquad \alpha_j = v_j^\top A v_j, \qquad A V = V T + \beta_m\, v_{m+1} e_m^\top .$$
#
# This is **Lanczos**' method (`lanczos1950`). It takes one product a step. You write it in the exercises; here we use `tridiagonalize`.
#
# How much better is it? Each vector of the space is $p(A)v$, with a polynomial $p$ of degree below $m$. Power iteration takes $p(x) = x^{m-1}$. The
# best choice is large at $\lambda_1$ and small on all other eigenvalues: the Chebyshev polynomial $C_{m-1}$ of Lesson 03, stretched so that its
# interval $[-1, 1]$ lies over the others. There it is at most 1 in size, and outside it grows faster than any other of its degree. This gives the
# bound in the card (Kaniel, Paige and Saad, `saad1980`).
#
# Our test has the eigenvalue 1 above 299 others, evenly spread from 0 to 0.9.


# %%
def kps(spectrum, phi, m):
    low, second, top = spectrum[[0, -2, -1]]
    gamma = (top - second) / (second - low)
    return (top - low) * (np.tan(phi) / np.cosh((m - 1) * np.arccosh(1 + 2 * gamma))) ** 2


def angle(A, v):  # between v and the eigenvector of the largest eigenvalue
    return np.arccos(abs(eigh(A)[1][:, -1] @ v) / norm(v))


def ritz(lanczos, m):  # after m steps, largest first: values, residual bounds, vectors
    values, S = (part[..., ::-1] for part in eigh(lanczos.T[:m, :m]))
    beta = np.append(lanczos.beta, lanczos.beta_next)[m - 1]
    return values, beta * abs(S[-1]), np.asarray(lanczos.V)[:, :m] @ S


# %%
spectrum, w = np.append(np.linspace(0, 0.9, 299), 1.0), np.random.default_rng(1).standard_normal(300)
A, m = with_spectrum(spectrum, rng=0), np.arange(1, 26)
lanczos, phi = tridiagonalize(A, w, 25), angle(A, w)
by_lanczos = np.array([1 - ritz(lanczos, k)[0][0] for k in m])
by_power = np.array([1 - power(A, w / norm(w), k - 1) for k in m])
bound = np.array([kps(spectrum, phi, k) for k in m])
figure, axes = panels()
watched(axes, {"power iteration": (m, by_power), "bound": (m, bound), "Lanczos": (m, by_lanczos)}, log=True)
axes.set(xlabel="dimension m of the space", ylabel="λ₁ − estimate")
show(figure, "Lanczos falls to 1e-12 in 25 steps, within the bound; power iteration to 2e-3 only.")
print(f"after 15: power {by_power[14]:.4f}, bound {bound[14]:.1e}, Lanczos {by_lanczos[14]:.1e}")

# %% [markdown]
# At $m = 15$ power iteration is off by 0.0196, and Lanczos by 1.8e-07, from the same products. In the long run power iteration keeps
# $0.9^2 = 0.81$ of its error in each step. Lanczos keeps about $e^{-4\sqrt{\gamma}}$, with $\gamma = (\lambda_1 - \lambda_2)/(\lambda_2 - \lambda_n)$, here 0.11: about a quarter. A square root of
# the gap has taken the place of the gap.
#
# {{claim 4.2}}
#
# The card tries 100 matrices of 30 rows with random eigenvalues, 12 dimensions each. First two numbers: the smallest and the largest quotient of
# error and bound, which must lie between 0 and 1. Third: the least lead over power iteration, which must not be negative. Fourth: the error at
# $m = 15$ above.

# %%
ratios, leads, rng = [], [], np.random.default_rng(0)
for _ in range(100):
    D, x = np.diag(np.sort(rng.uniform(-1, 1, 30))), rng.standard_normal(30)
    short, phi = tridiagonalize(D, x, 12), angle(D, x)
    for k in range(2, 13):
        missing = D[-1, -1] - ritz(short, k)[0][0]
        ratios.append(missing / kps(np.diag(D), phi, k))
        leads.append(D[-1, -1] - power(D, x / norm(x), k - 1) - missing)
measured = [min(ratios), max(ratios), min(leads), by_lanczos[14]]
claim("4.2", measured, holds=lambda m: 0 <= m[0] <= m[1] <= 1 and m[2] >= 0 and 0 <= m[3] < 1e-6)

# %%
even = tridiagonalize(with_spectrum(np.linspace(0, 1, 300), rng=0), w, 15)
double = tridiagonalize(with_spectrum(np.append(np.linspace(0, 0.9, 298), [1.0, 1.0]), rng=0), w, 40)
print(f"no gap: after 15 steps off by {1 - ritz(even, 15)[0][0]:.3f}")
print("eigenvalue 1 twice: the two largest Ritz values", ritz(double, 40)[0][:2].round(3))

# %%
both = eigsh(at_start, 2, which="BE", rng=0)
print("both ends of the network at its start:", both.values.round(3))
assert 4 * both.num_matvecs < shifted.num_matvecs

# %% [markdown]
# Two limits of "efficiently". Without a gap at the end of the spectrum, 15 steps leave an error ten thousand times as large. And an eigenvalue that
# comes twice is seen once: of the plane of its eigenvectors, the Krylov space holds only the projection of the start. The second Ritz value is 0.9,
# not 1. (`eigsh` looks for such copies with a fresh start vector.) The last line is what Section 4 was after: both ends, in less than a quarter of
# the products that the shift took.
#
# ## 6. Ghosts
#
# In exact arithmetic the recurrence keeps $V$ orthonormal. A computer rounds. Take eigenvalues 10, 3 and 2 above 297 others between 0 and
# 1, and do 100 steps of the bare recurrence, `reorthogonalize=False`.

# %%
outliers = with_spectrum(np.append(np.linspace(0, 1, 297), [2.0, 3.0, 10.0]), rng=0)
question = "The eigenvalue 10 is simple. How many of the 100 Ritz values agree with 10 to six decimals?"
predict("copies", question, choices=["None", "One", "Several"], answer=None)

# %%
bare, full = (tridiagonalize(outliers, w, 100, reorthogonalize=keep) for keep in (False, True))
copies = [int((abs(eigvalsh(each.T) - 10) < 1e-6).sum()) for each in (bare, full)]
lost = [abs(each.V.T @ each.V - np.eye(100)).max() for each in (bare, full)]
print(f"copies of 10: bare recurrence at least {min(copies[0], 5)}, reorthogonalized {copies[1]}")
assert lost[0] > 0.5 and lost[1] < 1e-13

# %% [markdown]
# Several copies, where there should be one; how many depends on rounding, and so on your processor. They are called **ghosts**. $V$ has lost its
# orthogonality: two of its unit vectors have an inner product above one half. When does it happen? Watch the Ritz vector $y = Vs$ of the largest
# Ritz value. Multiply the relation $AV = VT + \beta_m v_{m+1} e_m^\top$ by $s$: $Ay = \theta y + \beta_m s_m v_{m+1}$, with the last entry $s_m$ of
# $s$. So its residual is $\lVert Ay - \theta y \rVert = \beta_m |s_m|$. And $v_{m+1}^\top y$ should be 0.

# %%
dims, residual, overlap = np.arange(2, 18), [], []
for k in dims:
    _, bounds, Y = ritz(bare, k)
    residual.append(bounds[0])
    overlap.append(abs(bare.V[:, k] @ Y[:, 0]))
assert max(np.multiply(residual, overlap)) < 10 * np.finfo(float).eps  # ε‖A‖
figure, axes = panels()
watched(axes, {"residual of y": (dims, residual), "overlap of next v with y": (dims, overlap)}, log=True)
axes.set(xlabel="step m", ylabel="size")
show(figure, "As the residual of y falls, the overlap rises as its mirror image; the two cross near 3e-9.")

# %% [markdown]
# One line is the mirror image of the other: their product stays below $\varepsilon \lVert A \rVert$, and near one constant until the pair has
# converged. This is Paige's theorem (`paige1980`). Orthogonality is not lost by slow decay. It is lost *because* a Ritz pair converges, and along
# that Ritz vector. Then the converged eigenvector leaks back into the basis, the method finds it a second time, and so on.
#
# The cure: make each new vector orthogonal to all earlier ones, $w \leftarrow w - V(V^\top w)$, and do it twice, since the first time leaves
# rounding of its own. This is **full reorthogonalization**, the default of `tridiagonalize`: about $2 n m^2$ multiplications in all, next to
# $m$ products with a whole network.
#
# Does it happen to networks? Here are the ten largest Ritz values of our trained network, from 100 steps of the bare recurrence. (The
# output may differ a little on your machine.)

# %% tags=["nbval-ignore-output"]
seed = torch.tensor(np.random.default_rng(0).standard_normal(n))
ghostly = tridiagonalize(hessian(risk, trained), seed, 100, reorthogonalize=False)
theta, _, Y = (part[..., :10] for part in ritz(ghostly, 100))
print("bare recurrence:", theta.round(3).tolist())
print("the matrix:     ", exact[:10].round(3).tolist())

# %%
radius = norm(dense @ Y - Y * theta, axis=0) / norm(Y, axis=0)  # measured, with fresh products
good = theta[radius < 1e-10]
assert len(good) > 6 and len(set(good.round(4))) <= 4
unit = Y / norm(Y, axis=0)
assert abs(unit.T @ unit - np.eye(10)).max() > 0.9 and ten.orthogonality < 1e-8

# %% [markdown]
# The list is wrong from its second entry on. This is no invention of ours. The documentation of `hessian-eigenthings`, a current library with good
# explanations, says that its `lanczos` does not reorthogonalize beyond 50 steps unless asked. For this course we gave version 1.0.0a5 this network,
# `k=10` and `max_iter=100`. From each of three starts it returned values near 0.386 five times, 0.321 four times and 0.291 once, at least nine of
# the ten marked as converged. With `reorthogonalize=True` all ten are right. Find out what your tool does.
#
# Look closely at what is wrong. *Most lines of the list are true*: at least seven of the ten are eigenvalues to ten decimals, as the measured
# residuals prove (Section 7). At most four of these differ. (A line that is not true, such as 0.365 here, is a ghost on its way, between two
# eigenvalues.) It is the *list* that is false. How can one tell?
#
# ## 7. What a residual proves
#
# Take any number θ and any vector $y \ne 0$. Expand $y = \sum_i c_i v_i$ in eigenvectors. Then
#
# $$\lVert A y - \theta y \rVert^2 = \sum_i (\lambda_i - \theta)^2 c_i^2 \;\ge\; \min_i (\lambda_i - \theta)^2\, \lVert y \rVert^2 .$$
#
# So there is an eigenvalue within $r = \lVert Ay - \theta y \rVert / \lVert y \rVert$ of θ. **The interval $[\theta - r, \theta + r]$ contains an
# eigenvalue.** It costs one product, and it assumes nothing about where $y$ came from. It does not say *which* eigenvalue, nor how many. (The
# product itself is rounded: `eigsh` widens its intervals by a small multiple of $\varepsilon \lVert A \rVert$.)
#
# The other number, $\beta_m|s_m|$, is free, but it relies on $\lVert y \rVert = 1$ and on the relation that Lanczos should satisfy. Measure when it counts.
#
# Is the interval honest? Here are its half-width and the true error at $m = 3$, for the matrix with outliers.

# %%
(top, *_), _, Y = ritz(full, 3)
r = norm(outliers @ Y[:, 0] - top * Y[:, 0])
print(f"θ = {top:.4f}, r = {r:.4f}, true error {10 - top:.4f}, r²/gap = {r**2 / (top - 3):.4f}")

# %% [markdown]
# Honest, and very careful. For a Rayleigh quotient the error is quadratic: it is at most $r^2/\mathrm{gap}$, where the gap is the distance from θ to
# all *other* eigenvalues. That bound is sharper, but you must know the gap. The interval needs nothing.
#
# Now "which". We take a start that has no component along the eigenvector of 10.

# %%
question = "Ten steps from such a start. The largest Ritz value is 3, its residual is below 1e-5. Then 3 is"
predict("which", question, choices=["λmax", "an eigenvalue, perhaps not λmax", "a ghost"], answer=None)

# %%
v_top = eigh(outliers)[1][:, -1]
blind = tridiagonalize(outliers, w - (v_top @ w) * v_top, 20)
for k in (10, 20):
    values, bounds, _ = ritz(blind, k)
    print(f"after {k} steps: largest Ritz value {values[0]:.3f}, residual below 1e-5: {bounds[0] < 1e-5}")

# %% [markdown]
# After ten steps all looks well: 3.000, with a small residual. It *is* an eigenvalue. It is not the largest. Ten steps later the 10 appears. Where
# did it come from? From rounding, which put $10^{-16}$ of the missing eigenvector into the basis; Lanczos amplified it. No residual can warn you of
# what the space does not contain.
#
# A random start is the insurance. Its component along a given eigenvector, relative to its length, is about $1/\sqrt{n}$; it is below a tenth of that with
# a probability of 8 %, below a thousandth with 0.08 %. By the bound of Section 5, a start that is unlucky by a factor of 1000 costs about
# ten steps more in the example there. So: draw the start, do not construct it, and repeat with a second one when it matters.
#
# *How many* is the last question. Disjoint intervals hold different eigenvalues, so count those: overlapping lines may be one and the same. And if
# the vectors are orthonormal Ritz vectors, more is true. With $R = AY - Y\Theta$, Θ being diagonal with the Ritz values, the matrix
# $A - RY^\top - YR^\top$ has exactly the eigenvalues Θ on the span of $Y$, and differs from $A$ by $\lVert R \rVert$ in norm. By Weyl (Lesson 01),
# $k$ eigenvalues of $A$, counted with their multiplicity, lie within $\lVert R \rVert$ of them, one each. This is why `eigsh` reports
# `orthogonality`. The ghosts fail there, as the last assertion of Section 6 says: two of their unit vectors have an inner product above 0.9.
#
# ## 8. When does a printed eigenvalue deserve belief?
#
# Back to the trained network. How do residuals shrink along the spectrum? We take $m = 20$ and 40 steps, with reorthogonalization, and
# compare the free bound $\beta_m|s_m|$ of the ten largest Ritz values with their distance from the nearest eigenvalue.

# %%
lanczos, ranks = tridiagonalize(hessian(risk, trained), seed, 40), np.arange(1, 11)
figure, pair = panels(1, 2)
for axes, k in zip(pair, (20, 40), strict=True):
    values, bounds, _ = (part[..., :10] for part in ritz(lanczos, k))
    errors = {"bound": bounds, "true": abs(values[:, None] - exact).min(axis=1)}
    assert (errors["true"] <= bounds + 1e-14).all()
    watched(axes, {name: (ranks, np.maximum(each, 1e-14)) for name, each in errors.items()}, log=True)
    axes.set(xlabel="rank", title=f"m = {k}", ylim=(3e-15, 1), ylabel="error")
show(
    figure, "With 20 steps four bounds are near 1e-4 or less, with 40 steps all ten; true errors are smaller."
)

# %% [markdown]
# Belief arrives from the outside in: the outermost values first, then the next. A list from one run is never equally good. This is why each line needs an
# error of its own. The assertion says that no bound was broken. (Below $10^{-14}$ is the rounding of the true values themselves; what is smaller
# is drawn there.)
#
# Now the whole answer, by `eigsh`, which measures every residual by a fresh product. Each line is value ± half-width of its interval.

# %%
half = np.ptp(ten.intervals, axis=1) / 2
for value, width in zip(ten.values[:5], half[:5], strict=True):
    print(f"{value:.4f} ± {10 ** np.ceil(np.log10(width)):.0e}")
assert (abs(ten.values - exact[:10]) <= half + 1e-13).all()  # 1e-13: the rounding of `exact`

# %% [markdown]
# And the network for which no truth is at hand: 85 002 parameters, whose Hessian would fill 58 GB. Nothing can be compared with a matrix any more. The
# intervals are all we have, and they are enough.

# %%
big_trained = run(big.gradient, big.theta, gd(0.2), 100).points[-1]
five = eigsh(hessian(big, big_trained), 5, max_matvecs=200, rng=0)
print(f"{big.num_parameters} parameters, {8 * big.num_parameters**2 / 1e9:.0f} GB: {five.values.round(3)}")
assert five.converged.all() and np.ptp(five.intervals, axis=1).max() < 2e-5

# %% [markdown]
# Five eigenvalues of an 85 002 × 85 002 matrix that nobody has ever written down. The widest interval is narrower than
# $2 \cdot 10^{-5}$. Would you print all these digits? One more question first: *of which matrix?*

# %%
elsewhere = EmpiricalRisk(model, cross_entropy, others)
moved = eigsh(hessian(elsewhere, trained), 5, rng=0).values
print("small network, its 300 digits:", ten.values[:5].round(3), f" loss {risk.value(trained):.2f}")
print("the same θ, 300 other digits: ", moved.round(3), f" loss {elsewhere.value(trained):.2f}")

# %% [markdown]
# At the same θ, on 300 other digits from the same source, the largest eigenvalue is more than twice as large. So thirteen digits are right
# about one matrix, and not even the first is right about the "curvature of the task". Both statements are true. The interval speaks about the
# matrix that you multiplied with. What that matrix is, you must say: which loss, which data, which mode.
#
# | printed | what it proves | what it leaves open |
# | --- | --- | --- |
# | a value | nothing | everything |
# | a value and a free bound | an eigenvalue is near, if the relation holds | which one |
# | a value and a measured residual | the interval contains an eigenvalue | which one, and whether two lines share it |
# | the same, with orthonormal Ritz vectors | as many eigenvalues as lines | whether larger ones were missed |
# | the same, from a random start | larger ones are missed with small probability | other data, other θ |
#
# ## What to take away
#
# 1. $Hv$ costs two or three gradients and is exact; a central difference needs two gradients and loses a third of the digits.
# 2. Power iteration finds the largest *modulus*. Lanczos finds both ends, with far fewer products, and must be reorthogonalized.
# 3. A measured residual gives an interval with an eigenvalue in it. Which one, how many, and of which matrix, are three further questions.
#
# ## Exit ticket
#
# Replace each `None` by the number of your answer, and run the cell.

# %%
cheap = [2, n**0.5, n]
i, j = int(np.argmin(abs(np.log(cheap) - np.log(prices["double_backward"])))), int(np.argmin(central[chosen]))
k, c = [5, 7, -7].index(round(limit)), min(copies[0], 2)
which = int(abs(ritz(blind, 10)[0][0] - 3) < 1e-3)
ticket(
    TICKET,
    answers=[None, None, None],
    outcomes={"price": i, "step": j, "modulus": k, "copies": c, "which": which},
)

# %% [markdown]
# ## In practice: your own model
#
# - Put the model into the mode you mean, fix the data, and test symmetry: $u^\top Hv$ against $v^\top Hu$. Then count products, not seconds.
# - Report each eigenvalue with the half-width of its interval, the number of products, and whether vectors were reorthogonalized.
# - In ReLU networks use automatic differentiation. Keep differences of gradients for code that you cannot differentiate twice, and scale the
#   step by the length of $v$.
# - Repeat with a second random start, and with a second half of the data. The first says what the method knows; the second says what the data know.
# - Below a few thousand parameters write the matrix down.
#
# ## Further reading
#
# - `pearlmutter1994` (Pearlmutter, *Fast Exact Multiplication by the Hessian*, 1994): the product.
# - `lanczos1950` (Lanczos, *An Iteration Method for the Solution of the Eigenvalue Problem of Linear Differential and Integral Operators*, 1950): the method.
# - `paige1980` (Paige, *Accuracy and Effectiveness of the Lanczos Algorithm for the Symmetric Eigenproblem*, 1980): what the bare recurrence does.
# - `saad1980` (Saad, *On the Rates of Convergence of the Lanczos and the Block-Lanczos Methods*, 1980): the bound.
# - `ghorbani2019` and `yao2020`: these methods on large networks. Lesson 05 goes on from here.
