"""The matrices of a risk against closed forms without autograd, dense references, and the laws they obey."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hesslab import objectives
from hesslab.checks.laws.curvature import fisher_products, ggn_products, hessian_products, kfac_products
from hesslab.checks.laws.feedback import check
from hesslab.curvature import (
    blocks,
    empirical_fisher,
    fisher,
    ggn,
    gradient_covariance,
    hessian,
    preconditioned,
)
from hesslab.operators import counted, to_dense
from hesslab.risk import EmpiricalRisk, mlp

DENSE = 1e-10  # against a dense float64 reference
EXACT = 1e-12  # the same matrix computed in another way by the same library


pytestmark = pytest.mark.usefixtures("double_precision")


def close(found, expected, tolerance=DENSE):
    found, expected = (torch.as_tensor(x) for x in (found, expected))
    assert found.shape == expected.shape
    assert float((found - expected).norm()) <= tolerance * max(float(expected.norm()), 1e-300)


def draw(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def labels(count, classes, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).integers(classes, size=count))


def classifier(activation="tanh", sizes=(5, 7, 6, 4), examples=24, loss=None, seed=0):
    data = draw(examples, sizes[0]), labels(examples, sizes[-1])
    return EmpiricalRisk(mlp(sizes, activation=activation, rng=seed), loss or nn.CrossEntropyLoss(), data)


def functional(risk):
    """The outputs as a function of flat θ, for references."""
    return lambda theta: torch.func.functional_call(risk.model, risk.unflatten(theta), (risk.data[0],))


def dense_hessian(risk):
    f = functional(risk)
    return torch.func.jacrev(torch.func.jacrev(lambda t: risk.loss(f(t), risk.data[1])))(risk.theta)


def jacobian(risk):
    """(examples, outputs, n)"""
    return torch.func.jacrev(functional(risk))(risk.theta)


def example_gradients(risk, targets):
    def loss(theta, x, y):
        return risk.loss(torch.func.functional_call(risk.model, risk.unflatten(theta), (x[None],)), y[None])

    return torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(risk.theta, risk.data[0], targets)


# ---------------------------------------------------------------- closed forms that use no autograd


def linear(columns, outputs=1):
    model = nn.Linear(columns, outputs, bias=False)
    model.weight.data = draw(outputs, columns, seed=3)
    return model


def test_least_squares_has_the_closed_form():
    X, y = draw(30, 4), draw(30, seed=1)
    risk = EmpiricalRisk(linear(4), nn.MSELoss(), (X, y[:, None]))
    exact = 2 * objectives.least_squares(X.numpy(), y.numpy()).hessian(risk.theta.numpy())
    for matrix in (hessian, ggn, fisher):
        close(to_dense(matrix(risk)), exact)


def test_logistic_regression_has_the_closed_form():
    X, y = draw(30, 4), labels(30, 2)
    risk = EmpiricalRisk(linear(4), nn.BCEWithLogitsLoss(), (X, y.double()[:, None]))
    exact = objectives.logistic_regression(X.numpy(), y.numpy()).hessian(risk.theta.numpy())
    for matrix in (hessian, ggn):
        close(to_dense(matrix(risk)), exact)


def test_softmax_regression_has_the_closed_form():
    X, y = draw(30, 4), labels(30, 3)
    risk = EmpiricalRisk(linear(4, 3), nn.CrossEntropyLoss(), (X, y))
    objective = objectives.softmax_regression(X.numpy(), y.numpy(), num_classes=3)
    theta = risk.theta.numpy()
    assert risk.value() == pytest.approx(objective.value(theta), rel=1e-14)
    close(risk.gradient(), objective.gradient(theta))
    for matrix in (hessian, ggn, fisher):
        close(to_dense(matrix(risk)), objective.hessian(theta))


def test_a_deep_linear_network_has_the_closed_form():
    sizes, M = (4, 3, 5, 2), draw(2, 4, seed=5)
    model = nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(sizes)))
    theta = draw(sum(a * b for a, b in itertools.pairwise(sizes)), seed=6)
    risk = EmpiricalRisk(model, nn.MSELoss(), (torch.eye(4), M.T))
    objective = objectives.deep_linear(sizes, M.numpy())
    close(risk.gradient(theta), objective.gradient(theta.numpy()) * 2 / 8)
    close(to_dense(hessian(risk, theta)), objective.hessian(theta.numpy()) * 2 / 8)


# ------------------------------------------------------------------------------- dense references

LOSSES = {
    "cross-entropy": nn.CrossEntropyLoss(),
    "smoothed": nn.CrossEntropyLoss(label_smoothing=0.2),
    "weighted": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)),
    "weighted, smoothed, ignoring": nn.CrossEntropyLoss(
        weight=torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64), label_smoothing=0.1, ignore_index=2
    ),
    "function": F.cross_entropy,
    "lambda": lambda outputs, targets: F.cross_entropy(outputs, targets),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_hessian_and_ggn_equal_dense_references(name, activation):
    risk = classifier(activation, loss=LOSSES[name])
    H, G = to_dense(hessian(risk)), to_dense(ggn(risk))
    close(H, dense_hessian(risk))
    z = functional(risk)(risk.theta).detach()
    M = torch.func.jacrev(torch.func.jacrev(lambda z: risk.loss(z, risk.data[1])))(z)
    J = jacobian(risk)
    close(G, torch.einsum("ncp,ncmd,mdq->pq", J, M, J))
    close(H, H.T, 1e-14)
    close(G, G.T, 1e-14)
    assert torch.linalg.eigvalsh(G)[0] > -1e-13 * G.norm()


def test_mean_squared_error_in_several_outputs():
    risk = EmpiricalRisk(mlp((3, 5, 2), rng=0), nn.MSELoss(), (draw(9, 3), draw(9, 2, seed=1)))
    J = jacobian(risk)
    close(to_dense(hessian(risk)), dense_hessian(risk))
    for matrix in (ggn, fisher):
        close(to_dense(matrix(risk)), torch.einsum("ncp,ncq->pq", J, J) * 2 / 18)


def test_outputs_with_classes_in_the_second_of_three_dimensions():
    model = nn.Sequential(nn.Linear(3, 12), nn.Unflatten(1, (4, 3)))
    targets = labels(18, 4).reshape(6, 3)
    targets[0] = targets[1, 2] = -100
    risk = EmpiricalRisk(model, nn.CrossEntropyLoss(), (draw(6, 3), targets))
    close(to_dense(hessian(risk)), dense_hessian(risk))
    close(to_dense(ggn(risk)), dense_hessian(risk))  # linear in θ: H = G


def test_log_probabilities_under_nll_count_as_functions_of_logits():
    net = mlp((5, 6, 4), rng=0)
    data = draw(12, 5), labels(12, 4)
    logits = EmpiricalRisk(net, nn.CrossEntropyLoss(), data)
    logs = EmpiricalRisk(nn.Sequential(net, nn.LogSoftmax(1)), nn.NLLLoss(), data)
    for matrix in (hessian, ggn, fisher, empirical_fisher):
        close(to_dense(matrix(logs)), to_dense(matrix(logits)))


def test_empirical_fisher_and_covariance_equal_moments_of_example_gradients():
    for name in ("cross-entropy", "weighted, smoothed, ignoring"):
        risk = classifier(loss=LOSSES[name])
        x, y = risk.data
        kept = y != 2 if "ignoring" in name else y >= 0
        w = LOSSES[name].weight
        units = (torch.ones(4) if w is None else w)[y][kept]
        g = example_gradients(EmpiricalRisk(risk.model, risk.loss, (x[kept], y[kept])), y[kept])
        moment = torch.einsum("n,np,nq->pq", units, g, g) / units.sum()
        mean = units @ g / units.sum()
        close(to_dense(empirical_fisher(risk)), moment)
        close(to_dense(gradient_covariance(risk)), moment - torch.outer(mean, mean))


def test_covariance_is_centred_and_zero_for_equal_examples():
    x, y = draw(1, 5).expand(6, 5), labels(1, 4).expand(6)
    risk = EmpiricalRisk(mlp((5, 4), rng=0), nn.CrossEntropyLoss(), (x, y))
    assert to_dense(gradient_covariance(risk)).norm() < 1e-14 * to_dense(empirical_fisher(risk)).norm()


# ------------------------------------------------------------------------------------------ facts


def enumerated_fisher(risk):
    """Σ_c p(c|x) g_c g_cᵀ, class by class."""
    p = functional(risk)(risk.theta).detach().softmax(1)
    terms = [
        torch.einsum("n,np,nq->pq", p[:, c], g, g)
        for c in range(p.shape[1])
        for g in [example_gradients(risk, torch.full((len(p),), c))]
    ]
    return sum(terms) / len(p)


def test_fact_20_fisher_is_ggn_for_cross_entropy():
    risk = classifier()
    F_, G = to_dense(fisher(risk)), to_dense(ggn(risk))
    close(F_, enumerated_fisher(risk), EXACT)
    close(F_, G, EXACT)
    assert (to_dense(empirical_fisher(risk)) - F_).norm() > 0.1 * F_.norm()


def test_fact_21_relu_has_equal_diagonals_and_a_symmetric_rest():
    risk = classifier("relu")
    H, G = to_dense(hessian(risk)), to_dense(ggn(risk))
    close(H.diagonal(), G.diagonal())
    shallow = classifier("relu", sizes=(5, 8, 4))
    rest = torch.linalg.eigvalsh(to_dense(hessian(shallow)) - to_dense(ggn(shallow)))
    assert rest[-1] > 1e-3
    close(rest, -rest.flip(0))


def test_fact_22_rank_of_ggn():
    risk = classifier(sizes=(5, 7, 6, 4), examples=10)
    G = to_dense(ggn(risk))
    assert risk.num_parameters > 10 * 4
    assert int(torch.linalg.matrix_rank(G, hermitian=True)) == 10 * 3


def test_fact_23_a_penalty_shifts_the_spectrum():
    risk, decay = classifier(), 0.03
    model = risk.model

    def penalized(outputs, targets):
        return F.cross_entropy(outputs, targets) + decay / 2 * sum((p**2).sum() for p in model.parameters())

    shifted = torch.linalg.eigvalsh(to_dense(hessian(EmpiricalRisk(model, penalized, risk.data))))
    close(shifted - torch.linalg.eigvalsh(to_dense(hessian(risk))), torch.full_like(shifted, decay), EXACT)


def test_fact_25_rescaling_symmetry():
    model = nn.Sequential(nn.Linear(5, 6, bias=False), nn.ReLU(), nn.Linear(6, 4, bias=False))
    risk = EmpiricalRisk(model, nn.CrossEntropyLoss(), (draw(20, 5), labels(20, 4)))
    theta = draw(54, seed=4)
    v = torch.cat([theta[:30], -theta[30:]])
    g, Hv = risk.gradient(theta), hessian(risk, theta) @ v
    assert abs(g @ v) < DENSE * g.norm() * v.norm()
    assert abs(v @ Hv + g @ theta) < DENSE * Hv.norm() * v.norm()


# ------------------------------------------------------------------------------------------- data


def split(data, sizes):
    return list(zip(*(part.split(sizes) for part in data), strict=True))


MATRICES = [hessian, ggn, fisher, empirical_fisher, gradient_covariance]


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("name", LOSSES)
def test_uneven_batches_give_the_matrix_of_one_batch(matrix, name):
    if name == "lambda" and matrix is fisher:
        pytest.skip("has no known likelihood")
    risk = classifier(loss=LOSSES[name])
    batches = EmpiricalRisk(risk.model, risk.loss, split(risk.data, [1, 13, 3, 7]))
    close(to_dense(matrix(batches)), to_dense(matrix(risk)), EXACT)


@pytest.mark.parametrize("matrix", [hessian, ggn, empirical_fisher])
def test_streams_and_pieces_give_the_matrix_of_kept_graphs(matrix):
    risk = classifier()
    kept = matrix(risk)
    plan = kept.product.plan
    assert plan.method == "retained"
    assert 0 < plan.needed < plan.available
    pieces = matrix(risk, memory=plan.needed // 2)
    assert pieces.product.plan.method == "streamed"
    assert 1 <= pieces.product.plan.piece < 24
    batches = EmpiricalRisk(risk.model, risk.loss, split(risk.data, [6, 6, 6, 6]))
    streamed = matrix(batches, memory=plan.needed // 2)
    assert streamed.product.plan.method == "streamed"
    assert streamed.product.plan.piece is None
    for other in (pieces, streamed):
        close(to_dense(other), to_dense(kept), EXACT)


def test_predicted_memory_is_that_of_the_graphs():
    risk = classifier(examples=256, sizes=(32, 64, 4))
    predicted = hessian(risk).product.plan.needed
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = risk.loss(risk.model(risk.data[0]), risk.data[1])
        graph = torch.autograd.grad(loss, list(risk.model.parameters()), create_graph=True)
    assert graph
    assert predicted == pytest.approx(sum(kept.values()), rel=0.3)


def test_pieces_are_as_large_as_memory_allows_and_no_larger():
    risk = classifier(examples=256, sizes=(32, 64, 4))
    whole = hessian(risk).product.plan
    H = hessian(risk, memory=whole.needed // 3)
    piece, seen = H.product.plan.piece, []
    handle = risk.model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    H @ draw(risk.num_parameters)
    handle.remove()
    assert max(seen) == piece
    assert sum(seen) == 256
    part = EmpiricalRisk(risk.model, risk.loss, tuple(d[:piece] for d in risk.data))
    assert 0.9 * whole.needed // 3 <= hessian(part).product.plan.needed <= whole.needed // 3


def test_for_one_product_no_graph_is_kept():
    risk = classifier()
    H = hessian(risk, num_products=1)
    assert H.product.plan.method == "streamed"
    assert not H.product.graphs
    x = draw(risk.num_parameters)
    close(H @ x, hessian(risk) @ x, 1e-14)


def test_several_vectors_at_once_are_several_products():
    risk = classifier()
    small, X = hessian(risk), draw(risk.num_parameters, 70)
    assert small.product.width() == 64
    one_by_one = torch.stack([small @ x for x in X.unbind(1)], dim=1)
    close(small @ X, one_by_one, 1e-14)
    assert small.product.together
    large = classifier(examples=2000, sizes=(5, 20, 4))
    H = hessian(large)
    assert H.product.width() == 1
    X = draw(large.num_parameters, 3)
    close(H @ X, torch.stack([H @ x for x in X.unbind(1)], dim=1), 1e-14)


class LookingSine(torch.autograd.Function):
    """A sine whose second derivative looks at its numbers, which several vectors at once do not have."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * LookingCosine.apply(x)


class LookingCosine(LookingSine):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.cos()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return -grad * x.sin() if grad.sum().item() < 1e300 else grad


def test_what_torch_cannot_do_at_once_is_done_one_by_one():
    risk = risk_through(LookingSine.apply)
    found, reference = hessian(risk), hessian(risk_through(torch.sin), risk.theta)
    close(to_dense(found), to_dense(reference), 1e-13)
    assert not found.product.together
    assert reference.product.together


def test_a_batch_that_cannot_be_cut_is_refused_when_memory_is_short():
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 4))
    risk = EmpiricalRisk(model, nn.CrossEntropyLoss(), (draw(24, 5), labels(24, 4)))
    with pytest.raises(MemoryError, match=r"the graph of one batch needs about .* GiB of .*give smaller"):
        hessian(risk, memory=2000)


def test_the_operator_stays_where_it_was_made():
    risk = classifier()
    before, H = to_dense(hessian(risk)), hessian(risk, memory=hessian(risk).product.plan.needed // 2)
    assert H.product.plan.method == "streamed"
    with torch.no_grad():
        for p in risk.model.parameters():
            p.mul_(2)
    risk.model.eval()
    close(to_dense(H), before, 1e-14)
    assert (to_dense(hessian(risk)) - before).norm() > 0.1 * before.norm()


def test_theta_is_an_argument_of_either_kind():
    risk = classifier()
    theta = risk.theta + 0.1
    x = draw(risk.num_parameters, seed=9)
    from_numpy = hessian(risk, theta.numpy()) @ x.numpy()
    assert isinstance(from_numpy, np.ndarray)
    close(from_numpy, hessian(risk, theta) @ x, 1e-14)
    assert (hessian(risk) @ x - torch.as_tensor(from_numpy)).norm() > 1e-3 * x.norm()


def test_scipy_takes_the_operators():
    from scipy.sparse.linalg import eigsh

    risk = classifier()
    top = eigsh(hessian(risk), k=2, which="LA", return_eigenvectors=False)
    close(np.sort(top), torch.linalg.eigvalsh(dense_hessian(risk))[-2:], 1e-9)


# ----------------------------------------------------------------------------------- Fisher, drawn


def draw_classes(outputs, rng):
    p = outputs.softmax(1).numpy()
    return torch.tensor([rng.choice(len(row), p=row / row.sum()) for row in p])


def test_a_sampled_fisher_repeats_and_tends_to_the_exact_one():
    risk = classifier(sizes=(5, 4), examples=12)
    exact = to_dense(fisher(risk))
    draws = [to_dense(fisher(risk, sample=draw_classes, rng=seed, verify=False)) for seed in range(60)]
    close(draws[0], to_dense(fisher(risk, sample=draw_classes, rng=0)), 1e-14)
    spread = torch.stack(draws).var(0).sum().sqrt()
    assert (sum(draws) / 60 - exact).norm() < 3 * spread / 60**0.5
    assert spread > 0.1 * exact.norm()


def test_a_sampled_fisher_is_the_second_moment_at_its_draws():
    risk = classifier()
    seen = []

    def recorded(outputs, rng):
        seen.append(draw_classes(outputs, rng))
        return seen[-1]

    F_ = to_dense(fisher(risk, sample=recorded, rng=3))
    g = example_gradients(risk, next(d for d in seen if len(d) == 24))
    close(F_, g.T @ g / 24)


def test_fisher_says_what_it_needs():
    risk = classifier(loss=LOSSES["lambda"])
    with pytest.raises(ValueError, match=r"loss is <lambda>, of no likelihood known here; give sample"):
        fisher(risk)
    with pytest.raises(ValueError, match="rng is not given; expected a seed"):
        fisher(risk, sample=draw_classes)


# ---------------------------------------------------------------------------------- preconditioned

OPTIMIZERS = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, nesterov=True),
    "sgd, decay": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, weight_decay=0.03),
    "rmsprop": lambda ps: torch.optim.RMSprop(ps, lr=0.01, alpha=0.9, eps=1e-4, weight_decay=0.02),
    "rmsprop, centred": lambda ps: torch.optim.RMSprop(ps, lr=0.01, centered=True),
    "adam": lambda ps: torch.optim.Adam(ps, lr=0.01),
    "adam, coupled": lambda ps: torch.optim.Adam(ps, lr=0.01, weight_decay=0.05),
    "amsgrad": lambda ps: torch.optim.Adam(ps, lr=0.01, amsgrad=True),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=0.01, weight_decay=0.3),
}


def steps(risk, optimizer, count):
    """Train; returns θ before the last step and the momentum buffer (or gradient) that made it."""
    for _ in range(count):
        before = risk.theta
        optimizer.zero_grad()
        risk.loss(risk.model(risk.data[0]), risk.data[1]).backward()
        optimizer.step()
    params = list(risk.selected.values())
    key = "exp_avg" if "exp_avg" in optimizer.state[params[0]] else "momentum_buffer"
    pushes = [optimizer.state[p].get(key) for p in params]
    decay = optimizer.param_groups[0]["weight_decay"]
    if pushes[0] is None:
        pushes = [p.grad for p in params]
        return before, torch.cat([p.reshape(-1) for p in pushes]) + decay * before
    return before, torch.cat([p.reshape(-1) for p in pushes])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_preconditioned_reads_the_step_that_the_optimizer_took(name):
    risk = classifier()
    optimizer = OPTIMIZERS[name](risk.model.parameters())
    before, push = steps(risk, optimizer, 4)
    rate, decay = optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]
    moved = risk.theta - before
    if name == "adamw":
        moved = moved + rate * decay * before
    P = torch.ones_like(moved) if name.startswith("sgd") else -rate * push / moved
    assert (P > 0).all()
    H = to_dense(hessian(risk))
    n = torch.eye(len(P))
    expected = (H + (0 if name == "adamw" else decay) * n) / (P[:, None] * P).sqrt()
    expected = expected + (decay * n if name == "adamw" else 0)
    close(to_dense(preconditioned(hessian(risk), optimizer)), expected, 1e-8)
    loss_only = to_dense(preconditioned(hessian(risk), optimizer, weight_decay=False))
    close(loss_only, H / (P[:, None] * P).sqrt(), 1e-8)


def test_decoupled_decay_makes_the_update_matrix_that_claim_7_5_says():
    """One AdamW step with frozen P and β₁ = 0, differentiated by hand: θ ← (1 − ηλ) θ − η P⁻¹ ∇L."""
    risk = classifier()
    optimizer = torch.optim.AdamW(risk.model.parameters(), lr=0.01, weight_decay=0.3, betas=(0.0, 0.99))
    steps(risk, optimizer, 3)
    A = to_dense(preconditioned(hessian(risk), optimizer))
    plain = to_dense(preconditioned(hessian(risk), optimizer, weight_decay=False))
    close(torch.linalg.eigvalsh(A) - torch.linalg.eigvalsh(plain), torch.full((len(A),), 0.3), 1e-10)


def test_several_groups_carry_their_rates_and_decays_whatever_their_order():
    risk = classifier(sizes=(3, 4, 2))
    first, second = risk.model[0], risk.model[2]
    groups = [
        {"params": second.parameters(), "lr": 0.1, "weight_decay": 0.5},
        {"params": first.parameters(), "lr": 0.3, "weight_decay": 0.0},
    ]
    A = to_dense(preconditioned(hessian(risk), torch.optim.SGD(groups)))
    inverse = torch.cat([torch.full((16,), 3.0), torch.ones(10)])
    decay = torch.cat([torch.zeros(16), torch.full((10,), 0.5)])
    expected = inverse.sqrt()[:, None] * (to_dense(hessian(risk)) + decay.diag()) * inverse.sqrt()
    close(A, expected, 1e-14)


def test_preconditioned_says_what_it_needs():
    risk = classifier()
    H = hessian(risk)
    params = list(risk.model.parameters())
    with pytest.raises(ValueError, match=r"does not hold '4\.bias'; expected all parameters of θ"):
        preconditioned(H, torch.optim.SGD(params[:-1]))
    with pytest.raises(ValueError, match=r"the optimizer is Adagrad, maximize=False; expected SGD, RMSprop"):
        preconditioned(H, torch.optim.Adagrad(params))
    with pytest.raises(ValueError, match=r"the optimizer is SGD, maximize=True"):
        preconditioned(H, torch.optim.SGD(params, maximize=True))
    with pytest.raises(ValueError, match=r"Adam has no state for '0\.weight' yet; take one step first"):
        preconditioned(H, torch.optim.Adam(params))
    wrapped, num_matvecs = counted(H)
    with pytest.raises(ValueError, match="H does not say which parameters it is of; give risk="):
        preconditioned(wrapped, torch.optim.SGD(params))
    x = draw(risk.num_parameters)
    close(preconditioned(wrapped, torch.optim.SGD(params), risk=risk) @ x, H @ x, 1e-14)
    assert num_matvecs() == 1


def test_a_parameter_that_never_had_a_gradient_is_held_still():
    risk = classifier()
    optimizer = torch.optim.Adam(risk.model.parameters(), lr=0.01, weight_decay=0.1)
    risk.model[0].requires_grad_(False)
    risk.loss(risk.model(risk.data[0]), risk.data[1]).backward()
    optimizer.step()
    risk.model[0].requires_grad_(True)
    A = to_dense(preconditioned(hessian(risk), optimizer))
    n = sum(p.numel() for p in risk.model[0].parameters())
    assert not A[:n].any()
    assert not A[:, :n].any()
    part = replace(risk, parameters="[1-9]*")
    close(A[n:, n:], to_dense(preconditioned(hessian(part), optimizer)), 1e-12)


def test_preconditioned_stays_where_it_was_made():
    risk = classifier()
    optimizer = torch.optim.Adam(risk.model.parameters())
    steps(risk, optimizer, 2)
    A = preconditioned(hessian(risk), optimizer)
    before = to_dense(A)
    steps(risk, optimizer, 2)
    close(to_dense(A), before, 1e-14)


# ----------------------------------------------------------------------------------------- blocks


@pytest.mark.parametrize("matrix", ["hessian", "ggn", "fisher", "empirical_fisher"])
def test_blocks_are_the_diagonal_blocks(matrix):
    risk = classifier()
    whole = to_dense({"hessian": hessian, "ggn": ggn, "fisher": fisher}.get(matrix, empirical_fisher)(risk))
    parts = blocks(risk, matrix=matrix)
    assert list(parts.slices) == ["0", "2", "4"]
    dense = parts.map(to_dense)
    expected = torch.zeros_like(whole)
    for name, where in parts.slices.items():
        close(dense[name], whole[where, where])
        expected[where, where] = whole[where, where]
    close(to_dense(parts.operator), expected)
    single = blocks(risk, matrix=matrix, by=lambda name: name)
    assert list(single.slices) == list(risk.selected)


def test_all_blocks_share_each_pass_over_the_data():
    class Passes(list):
        """A list of batches that counts how often it is read to its end."""

        ends = 0

        def __iter__(self):
            yield from super().__iter__()
            self.ends += 1

    risk = classifier()
    data = Passes(split(risk.data, [8, 16]))
    parts = blocks(EmpiricalRisk(risk.model, risk.loss, data), memory=5_000)
    assert parts.operator.product.plan.method == "streamed"
    data.ends = 0
    parts.map(lambda A: [A @ draw(A.shape[0]) for _ in range(5 if A.shape[0] > 40 else 3)])
    assert data.ends == 5


def test_blocks_pass_on_errors_and_interrupts():
    risk = classifier()
    parts = blocks(risk)

    def fails(A):
        A @ draw(A.shape[0])
        raise ArithmeticError("in an algorithm")

    with pytest.raises(ArithmeticError, match="in an algorithm"):
        parts.map(fails)

    calls = itertools.count()
    product = parts.operator.product

    def interrupted(X):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return product(X)

    object.__setattr__(parts.operator, "product", interrupted)

    def patient(A):
        answered = 0
        try:
            while answered < 10:
                A @ draw(A.shape[0])
                answered += 1
        except KeyboardInterrupt:
            return answered
        return -1

    assert parts.map(patient) == {"0": 2, "2": 2, "4": 2}


def test_blocks_say_what_is_wrong():
    risk = classifier()
    with pytest.raises(ValueError, match="matrix is 'fish'; expected one of hessian, ggn, fisher, empirical"):
        blocks(risk, matrix="fish")
    with pytest.raises(ValueError, match="the parameters of block 'weight' are not neighbours in θ"):
        blocks(risk, by=lambda name: name.rpartition(".")[2])


# ----------------------------------------------------------------------------------------- errors


class OneWay(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * x.cos()


class Detached(OneWay):
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * x.detach().cos()


class Through(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.linear, self.function = nn.Linear(5, 4), function

    def forward(self, x):
        return self.function(self.linear(x))


def risk_through(function, **options):
    return EmpiricalRisk(Through(function), nn.CrossEntropyLoss(), (draw(12, 5), labels(12, 4)), **options)


def test_a_function_without_second_derivative_is_a_sentence():
    for verify in (True, False):
        with pytest.raises(ValueError, match="has no second derivative; write it with torch functions"):
            hessian(risk_through(OneWay.apply), verify=verify) @ draw(24)


def test_a_wrong_second_derivative_is_noticed():
    with pytest.raises(ValueError, match=r"H v and a difference of gradients differ by .*verify=False"):
        hessian(risk_through(Detached.apply))
    hessian(risk_through(Detached.apply), verify=False)


class Skewed(torch.autograd.Function):
    """The identity, whose backward depends on its input in a way that no function has."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad + 0.5 * (x.roll(1, -1) - x.roll(1, -1).detach())


def test_a_matrix_that_is_not_symmetric_is_noticed():
    with pytest.raises(ValueError, match="uᵀA v and vᵀA u differ by"):
        hessian(risk_through(Skewed.apply))


def test_a_random_forward_is_noticed():
    risk = risk_through(lambda x: x * (1 + 0.1 * torch.randn(())))
    for matrix in MATRICES:
        with pytest.raises(ValueError, match=r"two evaluations of the same loss differ by .*seed them"):
            matrix(risk)


class Wavering(torch.autograd.Function):
    """The identity, with a first derivative that is drawn anew at each call."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * (1 + 0.1 * torch.randn(()))


def test_a_random_derivative_under_a_steady_loss_is_noticed():
    with pytest.raises(ValueError, match=r"two evaluations of the same outputs or derivatives differ by"):
        hessian(risk_through(Wavering.apply))


class OnAGraph(nn.Module):
    """A network whose examples are the nodes of one graph: it does not run on some of them."""

    def __init__(self):
        super().__init__()
        self.net, self.adjacency = mlp((5, 4), rng=0), draw(12, 12)

    def forward(self, x):
        return self.net(self.adjacency @ x)


def test_a_network_that_does_not_run_on_a_part_of_its_batch():
    x, y = draw(12, 5), labels(12, 4)
    model = OnAGraph()
    theirs = EmpiricalRisk(model.net, nn.CrossEntropyLoss(), (model.adjacency @ x, y))
    for options in ({}, {"verify": False}):
        H = hessian(EmpiricalRisk(model, nn.CrossEntropyLoss(), (x, y)), **options)
        torch.testing.assert_close(to_dense(H), to_dense(hessian(theirs)), rtol=1e-12, atol=1e-14)


def test_the_self_check_looks_at_a_few_examples_of_any_batch_that_can_be_cut():
    sizes = []
    net = mlp((5, 4), rng=0)

    def forward(model, batch):
        sizes.append(len(batch["x"]))
        return model(batch["x"]).repeat_interleave(3, 0), batch["y"]

    batch = {"x": draw(64, 5), "y": labels(192, 4)}
    hessian(EmpiricalRisk(net, nn.CrossEntropyLoss(), [batch], forward=forward))
    assert sorted(sizes) == [4, 8, 8, 8, 8, 64]


def test_a_loss_that_is_not_finite_is_a_sentence():
    x = draw(12, 5)
    x[3, 2] = float("nan")
    risk = EmpiricalRisk(mlp((5, 4), rng=0), nn.CrossEntropyLoss(), (x, labels(12, 4)))
    for options in ({}, {"verify": False}):
        with pytest.raises(ValueError, match=r"the loss is nan on a batch of weight .*look at the inputs"):
            hessian(risk, **options)
    late = EmpiricalRisk(risk.model, risk.loss, [(draw(12, 5), labels(12, 4)), risk.data])
    with pytest.raises(ValueError, match="the loss is nan on a batch of weight 12"):
        hessian(late)
    assert np.isnan(risk.value())


def test_a_sum_is_noticed_whatever_it_is_called():
    risk = classifier(loss=lambda z, y: F.cross_entropy(z, y, reduction="sum"))
    with pytest.raises(ValueError, match="it is a sum; expected a mean"):
        hessian(risk)


def test_a_penalty_has_no_place_in_output_space():
    model = mlp((5, 4), rng=0)

    def penalized(outputs, targets):
        return F.cross_entropy(outputs, targets) + (model[0].weight ** 2).sum()

    risk = EmpiricalRisk(model, penalized, (draw(12, 5), labels(12, 4)))
    for matrix in (ggn, empirical_fisher):
        with pytest.raises(ValueError, match="the loss uses parameters past the outputs"):
            matrix(risk)


def test_outputs_that_are_no_tensor_are_a_sentence():
    risk = EmpiricalRisk(
        mlp((5, 4), rng=0),
        lambda outputs, targets: F.cross_entropy(outputs["z"], targets),
        (draw(12, 5), labels(12, 4)),
        forward=lambda model, batch: ({"z": model(batch[0])}, batch[1]),
        weight=lambda batch: len(batch[0]),
    )
    close(to_dense(hessian(risk)), to_dense(hessian(classifier(sizes=(5, 4), examples=12))))
    with pytest.raises(TypeError, match="the outputs are a dict; this matrix needs one tensor"):
        ggn(risk)


def test_single_precision_is_as_good_as_single_precision_can_be():
    risk = classifier("relu")
    double = to_dense(hessian(risk))
    x, y = risk.data
    single = EmpiricalRisk(risk.model.float(), risk.loss, (x.float(), y))
    found = hessian(single)
    assert found.dtype == np.float32
    close(to_dense(found).double(), double, 1e-5)


# ----------------------------------------------------------------------------------------- checks


@check
def check_hvp(hvp, rng):
    yield from hessian_products(hvp, rng)


@check
def check_ggn(product, rng):
    yield from ggn_products(product, rng)


@check
def check_fisher(product, rng):
    yield from fisher_products(product, rng)


@check
def check_kfac(kfac, rng):
    yield from kfac_products(kfac, rng)


def slopes(model, loss, batch, **options):
    params = list(model.parameters())
    return torch.cat(
        [g.reshape(-1) for g in torch.autograd.grad(loss(model(batch[0]), batch[1]), params, **options)]
    )


def one_product(model, loss, batch, v):
    g = slopes(model, loss, batch, create_graph=True)
    return torch.cat([h.reshape(-1) for h in torch.autograd.grad(g @ v, list(model.parameters()))])


def right_hvp(model, loss, batches, v):
    sizes = [len(x) for x, _ in batches]
    return sum(n * one_product(model, loss, b, v) for n, b in zip(sizes, batches, strict=True)) / sum(sizes)


def without_graph(model, loss, batches, v):
    g = slopes(model, loss, batches[0])
    return torch.autograd.grad(g @ v, list(model.parameters()))


def detached(model, loss, batches, v):
    params = list(model.parameters())
    g = slopes(model, loss, batches[0], create_graph=True).detach().requires_grad_()
    h = torch.autograd.grad(g @ v, params, allow_unused=True, materialize_grads=True)
    return torch.cat([part.reshape(-1) for part in h])


def graph_used_twice(model, loss, batches, v):
    value = loss(model(batches[0][0]), batches[0][1])
    params = list(model.parameters())
    torch.autograd.grad(value, params)
    g = torch.autograd.grad(value, params, create_graph=True)
    return torch.autograd.grad(sum((a * b).sum() for a, b in zip(g, v, strict=False)), params)


def summed(model, loss, batches, v):
    return sum(len(b[0]) * one_product(model, loss, b, v) for b in batches)


def unweighted(model, loss, batches, v):
    return sum(one_product(model, loss, b, v) for b in batches) / len(batches)


def summed_batches(model, loss, batches, v):
    return sum(one_product(model, loss, b, v) for b in batches)


def last_batch(model, loss, batches, v):
    return one_product(model, loss, batches[-1], v)


def first_batch(model, loss, batches, v):
    return one_product(model, loss, batches[0], v)


def left_in_train_mode(model, loss, batches, v):
    model.train()
    return right_hvp(model, loss, batches, v)


def back_from_train_mode(model, loss, batches, v):
    model.train()
    product = right_hvp(model, loss, batches, v)
    model.eval()
    return product


def train_mode_of_a_copy(model, loss, batches, v):
    return right_hvp(copy.deepcopy(model).train(), loss, batches, v)


def backward(model, loss, batches, v):
    for x, y in batches:
        loss(model(x), y).backward()
    return right_hvp(model, loss, batches, v)


def moved(model, loss, batches, v):
    with torch.no_grad():
        next(model.parameters()).add_(1e-3)
    return right_hvp(model, loss, batches, v)


def by_hesslab(matrix):
    return lambda model, loss, batches, v: matrix(EmpiricalRisk(model, loss, batches)) @ v


WRONG_HVPS = {
    without_graph: "create-graph",
    detached: "zeros",
    graph_used_twice: "retain-graph",
    summed: "sum-for-mean",
    unweighted: "unweighted-batches",
    summed_batches: "sum-of-batches",
    last_batch: "last-batch",
    first_batch: "first-batch",
    left_in_train_mode: "mode-changed",
    back_from_train_mode: "buffers-changed",
    train_mode_of_a_copy: "train-mode",
    backward: "grad-changed",
    moved: "parameters-changed",
    by_hesslab(ggn): "ggn",
    (lambda *arguments: -right_hvp(*arguments)): "sign",
    (lambda *arguments: None): "returns-nothing",
    (lambda *arguments: right_hvp(*arguments)[1:]): "shape",
    (lambda model, loss, batches, v: 1 / 0): "raises",
}


def test_checks_pass_what_is_right():
    for rng in range(3):
        assert check_hvp(right_hvp, rng=rng).passed
        assert check_kfac(lambda a, g, V: (g.T @ g) @ V @ (a.T @ a) / len(a) ** 2, rng=rng).passed
    for judge, matrix in ((check_hvp, hessian), (check_ggn, ggn), (check_fisher, fisher)):
        assert judge(by_hesslab(matrix)).passed


@pytest.mark.parametrize("hvp", WRONG_HVPS, ids=WRONG_HVPS.values())
def test_checks_recognize_the_usual_mistakes(hvp):
    feedback = check_hvp(hvp)
    assert not feedback.passed
    assert feedback.diagnosis == WRONG_HVPS[hvp]


def test_checks_tell_the_matrices_apart():
    def jacobians(model, loss, batches, v):
        risk = EmpiricalRisk(model, nn.MSELoss(), [(x, model(x).detach()) for x, _ in batches])
        return ggn(risk) @ v * model(batches[0][0]).shape[1] / 2

    assert check_ggn(by_hesslab(hessian)).diagnosis == "hessian"
    assert check_ggn(by_hesslab(empirical_fisher)).diagnosis == "empirical-fisher"
    assert check_ggn(jacobians).diagnosis == "no-loss-curvature"
    assert check_ggn(lambda *arguments: 3 * by_hesslab(ggn)(*arguments)).diagnosis == "value"
    assert check_fisher(by_hesslab(empirical_fisher)).diagnosis == "empirical-fisher"
    assert check_fisher(by_hesslab(hessian)).diagnosis == "hessian"

    def all_classes_alike(model, loss, batches, v):
        (x, _), *_ = batches
        rounds = [EmpiricalRisk(model, loss, (x, torch.full((len(x),), c))) for c in range(3)]
        return sum(empirical_fisher(risk) @ v for risk in rounds) / 3

    assert check_fisher(all_classes_alike).diagnosis == "uniform-classes"


def test_checks_recognize_mistakes_in_factors():
    wrong = {
        "swapped": lambda a, g, V: (a.T @ a) @ V @ (g.T @ g) / 81,
        "sum-for-mean": lambda a, g, V: (g.T @ g) @ V @ (a.T @ a),
        "one-sum": lambda a, g, V: (g.T @ g) @ V @ (a.T @ a) / 9,
        "outer-of-means": lambda a, g, V: g.mean(0)[:, None] * (g.mean(0) @ V @ a.mean(0)) * a.mean(0),
        "not-factored": lambda a, g, V: g.T @ (((g @ V) * a).sum(1)[:, None] * a) / 9,
        "transposed": lambda a, g, V: ((g.T @ g) @ V @ (a.T @ a) / 81).T,
    }
    for diagnosis, kfac in wrong.items():
        assert check_kfac(kfac).diagnosis == diagnosis
