"""The formulas of the handout: as they are printed, evaluated here, and measured with hesslab."""

import re
from math import exp, inf, log, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch

from authoring.manifest import read
from hesslab import matrices, objectives
from hesslab.dynamics import (
    adam,
    gd,
    heavy_ball,
    iteration_matrix,
    nesterov,
    rmsprop,
    run,
    stability_threshold,
)
from hesslab.lanczos import tridiagonalize
from hesslab.trace import hutchinson

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "handout.md").read_text(encoding="utf8")

η, β, γ, ω, τ, c, ρ, g = 0.3, 0.6, 0.25, 0.02, 0.4, 0.1, 0.05, 0.7
μ, L = 0.02, 1.5
κ = L / μ


def optimizer(kind, **settings):
    return kind([torch.zeros(1, requires_grad=True)], lr=η, **settings)


def radius(rule, curvature):
    return abs(np.linalg.eigvals(iteration_matrix(rule, curvature))).max(axis=-1)


def worst(rule):
    """The largest factor a step over all curvatures between μ and L."""
    return radius(rule, np.linspace(μ, L, 1001)).max()


def left(rule, curvature, steps=1):
    return run(lambda x: curvature * x, [1.0], rule, steps).points[-1, 0]


def border(shrinks, low, high):
    """Where a condition that holds at `low` and not at `high` ends."""
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if shrinks(middle) else (low, middle)
    return low


def look_ahead(curvature):
    """Whether the iteration with the gradient at x_t + γ (x_t − x_{t−1}) shrinks."""
    M = [[1 + β - η * curvature * (1 + γ), -β + η * curvature * γ], [1, 0]]
    return abs(np.linalg.eigvals(M)).max() < 1


def climbing(length):
    """The curvature at which a step of SAM, with a gradient of that length, turns x into −x."""

    def shrinks(curvature):
        x = length / curvature
        return abs(x - η * curvature * (x + ρ)) < x

    return border(shrinks, 1e-9, 2 / η)


THRESHOLDS = [
    (r"| gradient descent | $2/\eta$ |", 2 / η, lambda: stability_threshold(gd(η))),
    (r"| RMSProp | $2/\eta$ |", 2 / η, lambda: stability_threshold(rmsprop(η))),
    (r"| RMSProp | $2/\eta$ |", 2 / η, lambda: stability_threshold(optimizer(torch.optim.RMSprop))),
    (
        r"| heavy ball, torch's SGD | $2(1+\beta)/\eta$ |",
        2 * (1 + β) / η,
        lambda: stability_threshold(heavy_ball(η, β)),
    ),
    (
        r"| heavy ball, torch's SGD | $2(1+\beta)/\eta$ |",
        2 * (1 + β) / η,
        lambda: stability_threshold(optimizer(torch.optim.SGD, momentum=β)),
    ),
    (
        r"η becomes $(1-\tau)\eta$",
        2 * (1 + β) / ((1 - τ) * η),
        lambda: stability_threshold(optimizer(torch.optim.SGD, momentum=β, dampening=τ)),
    ),
    (
        r"| Nesterov | $2(1+\beta)/((1+2\beta)\eta)$ |",
        2 * (1 + β) / ((1 + 2 * β) * η),
        lambda: stability_threshold(nesterov(η, β)),
    ),
    (
        r"| Nesterov | $2(1+\beta)/((1+2\beta)\eta)$ |",
        2 * (1 + β) / ((1 + 2 * β) * η),
        lambda: stability_threshold(optimizer(torch.optim.SGD, momentum=β, nesterov=True)),
    ),
    (
        r"$2(1+\beta)/((1+2\gamma)\eta)$",
        2 * (1 + β) / ((1 + 2 * γ) * η),
        lambda: border(look_ahead, 1e-9, 100),
    ),
    (
        r"| Adam | $2(1+\beta_1)/((1-\beta_1)\eta)$ |",
        2 * (1 + β) / ((1 - β) * η),
        lambda: stability_threshold(adam(η, β)),
    ),
    (
        r"$38/\eta$ for $\beta_1 = 0.9$",
        38 / η,
        lambda: stability_threshold(optimizer(torch.optim.Adam, betas=(0.9, 0.99))),
    ),
    (
        "| Adam with L2 decay | as Adam |",
        38 / η,
        lambda: stability_threshold(optimizer(torch.optim.Adam, weight_decay=ω)),
    ),
    (
        r"| SGD, decay ω | $2/\eta - \omega$ |",
        2 / η - ω,
        lambda: stability_threshold(optimizer(torch.optim.SGD, weight_decay=ω)),
    ),
    (
        r"| AdamW | $(2/\eta - \omega)(1+\beta_1)/(1-\beta_1)$ |",
        (2 / η - ω) * (1 + β) / (1 - β),
        lambda: stability_threshold(optimizer(torch.optim.AdamW, betas=(β, 0.99), weight_decay=ω)),
    ),
    (
        r"| clipping at $c$ | $2\lVert g\rVert/(\eta c)$ |",
        2 * g / (η * c),
        lambda: border(lambda curvature: abs(1 - curvature * η * min(1, c / g)) < 1, 1e-9, 1e3),
    ),
    (
        r"$\tfrac{\lVert g\rVert}{2\rho}\big(\sqrt{1 + 8\rho/(\eta\lVert g\rVert)} - 1\big)$",
        g / (2 * ρ) * (sqrt(1 + 8 * ρ / (η * g)) - 1),
        lambda: climbing(g),
    ),
    (r"hops between $\pm\eta\lambda\rho/(2 - \eta\lambda)$", η * ρ / (2 - η), lambda: hop()),
]


def hop():
    return abs(run(lambda x: x + ρ * np.sign(x), [0.3], gd(η), 300).points[-1, 0])


q = (sqrt(κ) - 1) / (sqrt(κ) + 1)
root = sqrt(3 * κ + 1)
RATES = [
    (r"$1 - \eta\lambda$ a step", 1 - η * 4.0, lambda: left(gd(η), 4.0)),
    (r"$r^\ast = (\kappa - 1)/(\kappa + 1)$", (κ - 1) / (κ + 1), lambda: worst(gd(2 / (L + μ)))),
    (r"$1 - 1/\kappa$ a step", 1 - 1 / κ, lambda: worst(gd(1 / L))),
    (r"$1 - \eta\lambda/(1 - \beta)$ a step", 1 - 1e-6 / (1 - β), lambda: radius(heavy_ball(1.0, β), 1e-6)),
    (
        r"$(\sqrt\kappa - 1)/(\sqrt\kappa + 1)$ a step",
        q,
        lambda: worst(heavy_ball(4 / (sqrt(L) + sqrt(μ)) ** 2, q**2)),
    ),
    (r"$1 - 1/\sqrt\kappa$ a step", 1 - 1 / sqrt(κ), lambda: worst(nesterov(1 / L, q))),
    (
        r"$1 - 2/\sqrt{3\kappa + 1}$ a step",
        1 - 2 / root,
        lambda: worst(nesterov(4 / (3 * L + μ), (root - 2) / (root + 2))),
    ),
    (r"$2s^k/(1 + s^{2k})$ after $k$ steps", 2 * q**6 / (1 + q**12), lambda: chebyshev(6)),
    (
        r"$\sqrt\beta = \max(1 - \sqrt{\eta\mu},\ \sqrt{\eta L} - 1)$",
        max(1 - sqrt(η * μ), sqrt(η * L) - 1),
        lambda: min(worst(heavy_ball(η, b**2)) for b in np.linspace(0.5, 0.999, 500)),
    ),
    (r"$\gamma/(1 - \gamma)$ last steps", γ / (1 - γ), lambda: sum(γ**k for k in range(1, 60))),
    (r"at most $1/(e\eta t)$", 1 / (exp(1) * η * 5000), lambda: gradient_of_a_mode(5000)),
]


def chebyshev(k):
    i, interval = np.arange(k), np.linspace(μ, L, 4001)
    steps = 2 / ((L + μ) - (L - μ) * np.cos((2 * i + 1) * np.pi / (2 * k)))
    return abs(np.prod(1 - np.outer(interval, steps), axis=1)).max()


def gradient_of_a_mode(t):
    curvatures = np.linspace(0, 5 / (η * t), 20_001)
    return (curvatures * (1 - η * curvatures) ** t).max()


@pytest.mark.parametrize(("text", "printed", "measure"), [*THRESHOLDS, *RATES])
def test_the_formula_as_printed_is_what_hesslab_measures(text, printed, measure):
    assert text in PAGE
    assert measure() == pytest.approx(printed, rel=1e-3)


@pytest.mark.parametrize(("text", "printed", "measure"), THRESHOLDS[:8])
def test_thresholds_of_rules_agree_to_rounding(text, printed, measure):
    assert measure() == pytest.approx(printed, rel=1e-12)


def test_the_window_of_heavy_ball():
    assert r"$(1 - \sqrt\beta)^2 \le \eta\lambda \le (1 + \sqrt\beta)^2$" in PAGE
    low, high = (1 - sqrt(β)) ** 2, (1 + sqrt(β)) ** 2
    inside, outside = np.linspace(1.001 * low, 0.999 * high, 50), np.array([0.9 * low, 1.001 * high])
    assert np.allclose(radius(heavy_ball(1.0, β), inside), sqrt(β), rtol=1e-9)
    assert (radius(heavy_ball(1.0, β), outside) > sqrt(β) * 1.001).all()


def test_the_growth_before_the_rate_of_tuned_heavy_ball():
    assert r"the error may grow to about $\sqrt\kappa/e$, the loss to $\kappa/e^2$" in PAGE
    κ, r = 1e4, 99 / 101
    path = run(lambda x: x, [1.0], heavy_ball(4 / 1.01**2, r**2), 400).points
    assert abs(path).max() == pytest.approx(sqrt(κ) / exp(1), rel=0.01)


def test_the_steps_to_a_fraction():
    assert r"$\tfrac\kappa2\ln(1/\epsilon)$ steps" in PAGE
    r = (1e4 - 1) / (1e4 + 1)
    assert log(1e-6) / log(r) == pytest.approx(1e4 / 2 * log(1e6), rel=1e-3)


@pytest.mark.parametrize(("ηY", "attracts"), [(2.1, True), (2.45, True), (2.55, False)])
def test_the_two_cycle(ηY, attracts):
    assert r"$y = 2/\eta$, $x^2 = 2k(Y - 2/\eta)$" in PAGE
    assert r"attracts exactly while $\eta Y < 2.5$" in PAGE
    k, Y = 0.1, ηY / η
    x = sqrt(2 * k * (Y - 2 / η))

    def gradient(z):
        return np.array([z[0] * z[1], z[0] ** 2 / 2 + k * (z[1] - Y)])

    cycle = run(gradient, [x, 2 / η], gd(η), 1).points[-1]
    assert np.allclose(cycle, [-x, 2 / η], rtol=1e-12)
    away = abs(run(gradient, [1.001 * x, 2 / η], gd(η), 3000).points[:, 1] - 2 / η)
    assert (away[-100:].max() < away[:100].max()) == attracts


def test_the_catapult():
    assert r"catapult for $2 < \eta\lambda < 4$" in PAGE

    def end(ηλ, n=1000, f=1.0, lam=1.0):
        for _ in range(400):
            f, lam = (
                f * (1 - ηλ * lam + ηλ**2 * f**2 / n),
                lam - ηλ * f**2 / n * (4 - ηλ * lam),
            )
            if not abs(f) < 1e6:
                return inf
        return ηλ * lam

    assert 1.8 < end(1.9) < 2
    assert max(end(2.1), end(3.0), end(3.9)) < 2
    assert end(4.1) == inf


def test_the_guarantee_for_logistic_regression():
    assert r"$\ell = \tfrac{1}{4n}\lambda_{\max}(X^\top X) + \rho$" in PAGE
    X, rng = np.random.default_rng(0).standard_normal((40, 3)), np.random.default_rng(1)
    loss = objectives.logistic_regression(X, rng.random(40) < 0.5, ridge=0.1)
    bound = np.linalg.eigvalsh(X.T @ X)[-1] / 160 + 0.1
    assert np.linalg.eigvalsh(loss.hessian(np.zeros(3)))[-1] == pytest.approx(bound, rel=1e-12)
    for w in rng.standard_normal((50, 3)):
        assert np.linalg.eigvalsh(loss.hessian(w))[-1] <= bound


def test_variances_of_probes():
    for text in (
        r"Gaussian $V = 2\lVert A\rVert_F^2$",
        r"signs $2(\lVert A\rVert_F^2 - \sum_i a_{ii}^2)$",
        r"sphere $\tfrac{2n}{n+2}(\lVert A\rVert_F^2 - (\mathrm{tr}\,A)^2/n)$",
    ):
        assert text in PAGE
    A, n = matrices.with_spectrum([5.0, 2.0, -1.0, 0.5], rng=0), 4
    square, trace = (A**2).sum(), np.trace(A)
    formulas = {
        "gaussian": 2 * square,
        "rademacher": 2 * (square - (np.diag(A) ** 2).sum()),
        "sphere": 2 * n / (n + 2) * (square - trace**2 / n),
    }
    W = np.random.default_rng(0).standard_normal((4, 400_000))
    draws = {"gaussian": W, "rademacher": np.sign(W), "sphere": W * 2 / np.linalg.norm(W, axis=0)}
    for kind, V in formulas.items():
        samples = (draws[kind] * (A @ draws[kind])).sum(axis=0)
        assert samples.var() == pytest.approx(V, rel=0.02)
    assert abs(hutchinson(A, max_matvecs=400, rng=0).value - trace) < 5 * sqrt(formulas["rademacher"] / 400)


def test_quadrature_is_exact_up_to_its_degree():
    assert "exact for degree up to $2k - 1$" in PAGE
    A, v = matrices.with_spectrum(np.linspace(-1, 2, 30), rng=0), np.random.default_rng(1).standard_normal(30)
    lam, U = np.linalg.eigh(A)
    nodes, S = np.linalg.eigh(tridiagonalize(A, v, 3).T)
    c = U.T @ v / np.linalg.norm(v)
    errors = [abs(S[0] ** 2 @ nodes**j - c**2 @ lam**j) for j in range(7)]
    assert max(errors[:6]) < 1e-12 < 1e-6 < errors[6]


def test_random_matrix_edges():
    assert r"from $(1 - \sqrt\gamma)^2$ to $(1 + \sqrt\gamma)^2$" in PAGE
    assert "semicircle from −2 to 2" in PAGE
    assert r"top eigenvalue $\ell(1 + \gamma/(\ell - 1))$" in PAGE
    inside, outside = np.array([0.26, 2.24]), np.array([0.24, 2.26])
    pdf = matrices.marchenko_pastur_pdf
    assert (pdf(inside, 0.25) > 0).all()
    assert (pdf(outside, 0.25) == 0).all()
    semi = matrices.semicircle_pdf
    assert (semi(np.array([-1.99, 1.99])) > 0).all()
    assert (semi(np.array([-2.01, 2.01])) == 0).all()
    tops = [np.linalg.eigvalsh(matrices.spiked(1600, 400, [3.0], rng=s))[-1] for s in range(4)]
    assert np.mean(tops) == pytest.approx(3 * (1 + 0.25 / 2), rel=0.03)


def test_every_row_names_a_standing_lesson():
    lessons = {f"{x.id}": x for x in read(ROOT).lessons.values() if x.stands}
    targets = dict(re.findall(r"^\[(.+?)\]: (\S+)$", PAGE, re.MULTILINE))
    rows = [
        line.rstrip(" |").rsplit("|", 1)[1]
        for line in PAGE.splitlines()
        if line.startswith("| ") and "[" in line
    ]
    assert len(rows) > 60
    for row in rows:
        for name in re.findall(r"\[(\d\d(?: E\d)?)\]", row) or [""]:
            lesson = lessons[name[:2]]
            folder = "exercises" if "E" in name else "lessons"
            assert targets[name] == f"/{folder}/{lesson.stem}.ipynb"
    assert {name[:2] for name in targets} >= {f"{i:02}" for i in range(1, 11)}
