"""Kronecker factors: where they are exact, how far they are off elsewhere, and what they refuse."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hesslab.curvature import blocks, fisher
from hesslab.kfac import kfac
from hesslab.operators import to_dense
from hesslab.risk import EmpiricalRisk, mlp

EXACT = 1e-12


pytestmark = pytest.mark.usefixtures("double_precision")


def draw(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def labels(count, classes=3, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).integers(classes, size=count))


def risk_of(activation, loss, count=40, sizes=(6, 8, 7, 3), seed=0):
    """Inputs that are neither centred nor Gaussian."""
    x = draw(count, sizes[0], seed=seed + 5).exp() + 0.5
    y = draw(count, sizes[-1], seed=seed + 6) if loss == "mse" else labels(count, sizes[-1])
    function = nn.MSELoss() if loss == "mse" else nn.CrossEntropyLoss()
    return EmpiricalRisk(mlp(sizes, activation=activation, rng=seed), function, (x, y))


def block_errors(risk, factors):
    """‖K_ℓ − F_ℓ‖ / ‖F_ℓ‖ by layer."""
    exact = blocks(risk, matrix="fisher")
    K, whole = to_dense(factors.operator), to_dense(exact.operator)
    assert K.shape == whole.shape
    return {
        name: float((K[s, s] - whole[s, s]).norm() / whole[s, s].norm()) for name, s in exact.slices.items()
    }


@pytest.mark.parametrize("loss", ["mse", "cross-entropy"])
@pytest.mark.parametrize("activation", ["identity", "relu", "tanh"])
def test_fact_24_exact_for_one_example(activation, loss):
    risk = risk_of(activation, loss, count=1)
    assert max(block_errors(risk, kfac(risk)).values()) < EXACT


def test_fact_24_exact_for_deep_linear_networks_under_mean_squared_error():
    for seed in range(3):
        risk = risk_of("identity", "mse", seed=seed)
        assert max(block_errors(risk, kfac(risk)).values()) < EXACT


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_fact_24_exact_in_the_last_layer_under_mean_squared_error_only(activation):
    risk = risk_of(activation, "mse")
    first, second, last = block_errors(risk, kfac(risk)).values()
    assert last < EXACT
    assert min(first, second) > 0.05


@pytest.mark.parametrize("activation", ["identity", "relu", "tanh"])
def test_fact_24_not_exact_under_cross_entropy(activation):
    risk = risk_of(activation, "cross-entropy")
    assert min(block_errors(risk, kfac(risk)).values()) > 0.05


def test_factors_are_the_moments_of_inputs_and_gradients():
    """Written out for one hidden layer, by formulas without autograd."""
    risk = risk_of("tanh", "cross-entropy", sizes=(4, 5, 3))
    (x, _), (W1, b1, W2, b2) = risk.data, (p.detach().numpy() for p in risk.model.parameters())
    x = x.numpy()
    h = np.tanh(x @ W1.T + b1)
    z = h @ W2.T + b2
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    M = np.einsum("nc,cd->ncd", p, np.eye(3)) - np.einsum("nc,nd->ncd", p, p)
    D = np.einsum("co,no->nco", W2, 1 - h**2)
    A1, A2 = (np.column_stack([a, np.ones(len(a))]) for a in (x, h))
    expected = {
        "0": (A1.T @ A1 / 40, np.einsum("nco,ncd,ndp->op", D, M, D) / 40),
        "2": (A2.T @ A2 / 40, M.mean(0)),
    }
    for name, factors in kfac(risk).factors.items():
        for found, right in zip(factors, expected[name], strict=True):
            np.testing.assert_allclose(found.numpy(), right, rtol=EXACT, atol=1e-15)


def test_batches_weights_and_ignored_targets_give_the_factors_of_one_batch():
    risk = risk_of("tanh", "cross-entropy")
    x, y = risk.data
    y = torch.where(torch.arange(40) % 5 == 0, -100, y)
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 0.3, 2.0]))
    one = EmpiricalRisk(risk.model, loss, (x, y))
    many = EmpiricalRisk(risk.model, loss, list(zip(x.split([1, 30, 9]), y.split([1, 30, 9]), strict=True)))
    torch.testing.assert_close(
        to_dense(kfac(many).operator), to_dense(kfac(one).operator), rtol=1e-11, atol=1e-14
    )
    kept = y != -100
    without = EmpiricalRisk(risk.model, loss, (x[kept], y[kept]))
    torch.testing.assert_close(
        to_dense(kfac(without).operator), to_dense(kfac(one).operator), rtol=1e-11, atol=1e-14
    )


def test_nll_on_log_probabilities_is_cross_entropy_on_logits():
    risk = risk_of("tanh", "cross-entropy")
    logs = EmpiricalRisk(nn.Sequential(risk.model, nn.LogSoftmax(1)), nn.NLLLoss(), risk.data)
    found, expected = to_dense(kfac(logs).operator), to_dense(kfac(risk).operator)
    assert (found - expected).norm() < EXACT * expected.norm()


def test_a_convolution_that_sees_the_whole_image_is_a_linear_layer():
    flat = risk_of("tanh", "cross-entropy", sizes=(18, 5, 3))
    images = flat.data[0].reshape(40, 2, 3, 3)
    conv = nn.Conv2d(2, 5, 3)
    conv.weight.data = flat.model[0].weight.data.reshape(5, 2, 3, 3)
    conv.bias.data = flat.model[0].bias.data
    model = nn.Sequential(conv, nn.Flatten(), nn.Tanh(), flat.model[2])
    found = to_dense(kfac(EmpiricalRisk(model, flat.loss, (images, flat.data[1]))).operator)
    expected = to_dense(kfac(flat).operator)
    assert (found - expected).norm() < EXACT * expected.norm()


def test_layers_used_at_several_positions_sum_over_them():
    """The expand setting: exact for a linear layer shared by positions that do not meet, one example."""

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x):
            return self.linear(x).mean(1)

    x = draw(1, 1, 4).expand(1, 6, 4)  # equal positions: nothing is correlated
    risk = EmpiricalRisk(Shared(), nn.CrossEntropyLoss(), (x, labels(1)))
    factors = kfac(risk)
    A, G = factors.factors["linear"]
    column = torch.cat([x[0, 0], torch.ones(1)])
    torch.testing.assert_close(A, torch.outer(column, column), rtol=EXACT, atol=0)
    p = risk.model(x)[0].softmax(0).detach()
    torch.testing.assert_close(G, 6 * (p.diag() - torch.outer(p, p)) / 36, rtol=1e-11, atol=1e-15)


def test_drawn_targets_tend_to_the_exact_expectation():
    for loss in ("mse", "cross-entropy"):
        risk = risk_of("tanh", loss, sizes=(4, 5, 3))
        exact = to_dense(kfac(risk).operator)
        drawn = to_dense(kfac(risk, num_samples=400, rng=0).operator)
        few = to_dense(kfac(risk, num_samples=1, rng=0).operator)
        assert (drawn - exact).norm() < 0.05 * exact.norm()
        assert (few - exact).norm() > (drawn - exact).norm()
        again = to_dense(kfac(risk, num_samples=1, rng=0).operator)
        assert torch.equal(few, again)


def test_tokens_need_drawn_targets():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x):
            return self.head(torch.tanh(self.inner(x)).cumsum(1)).flatten(0, 1)

    risk = EmpiricalRisk(Tokens(), nn.CrossEntropyLoss(), (draw(6, 5, 4), labels(30)))
    with pytest.raises(
        ValueError, match="'inner' sees 6 examples and the loss 30, which depend on each other"
    ):
        kfac(risk)
    assert to_dense(kfac(risk, num_samples=2, rng=0).operator).shape == (43, 43)


def test_operator_is_symmetric_positive_and_its_inverse_is_its_inverse():
    risk = risk_of("tanh", "cross-entropy")
    factors = kfac(risk)
    K = to_dense(factors.operator)
    assert (K - K.T).norm() < 1e-14 * K.norm()
    assert torch.linalg.eigvalsh(K)[0] > -1e-14 * K.norm()
    for damping in (1e-3, 1.0):
        solved = to_dense(factors.inverse(damping)) @ (K + damping * torch.eye(len(K)))
        assert (solved - torch.eye(len(K))).norm() < 1e-9
    with pytest.raises(ValueError, match="damping is 0; expected a positive number"):
        factors.inverse(0)


def test_weights_alone_and_biases_alone():
    risk = risk_of("tanh", "cross-entropy")
    K, where = to_dense(kfac(risk).operator), {}
    start = 0
    for name, p in risk.selected.items():
        where[name] = torch.arange(start, start := start + p.numel())
    for pattern in ("*.weight", "*.bias", "2.*"):
        part = EmpiricalRisk(risk.model, risk.loss, risk.data, parameters=pattern)
        index = torch.cat([where[name] for name in part.selected])
        found = to_dense(kfac(part).operator)
        torch.testing.assert_close(found, K[index][:, index], rtol=1e-12, atol=1e-15)


def test_the_model_is_as_before_and_no_hook_stays():
    risk = risk_of("tanh", "cross-entropy")
    before = [p.detach().clone() for p in risk.model.parameters()]
    kfac(risk)
    assert all(torch.equal(a, b) for a, b in zip(before, risk.model.parameters(), strict=True))
    assert all(p.grad is None for p in risk.model.parameters())
    assert not any(m._forward_hooks for m in risk.model.modules())


def test_kfac_says_what_it_cannot_do():
    x, y = draw(8, 6), labels(8)
    normed = nn.Sequential(nn.Linear(6, 3), nn.LayerNorm(3))
    with pytest.raises(
        ValueError, match=r"K-FAC has no factors for '1\.bias'; expected parameters of Linear"
    ):
        kfac(EmpiricalRisk(normed, nn.CrossEntropyLoss(), (x, y)))
    assert list(kfac(EmpiricalRisk(normed, nn.CrossEntropyLoss(), (x, y), parameters="0.*")).factors) == ["0"]
    batch = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3, affine=False))
    with pytest.raises(ValueError, match="'1' is a BatchNorm in train mode, which ties examples"):
        kfac(EmpiricalRisk(batch, nn.CrossEntropyLoss(), (x, y)))
    kfac(EmpiricalRisk(batch.eval(), nn.CrossEntropyLoss(), (x, y)))

    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(6, 3), nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(ValueError, match="the forward does not call 'idle'; choose other layers"):
        kfac(EmpiricalRisk(Idle(), nn.CrossEntropyLoss(), (x, y)))
    unknown = EmpiricalRisk(mlp((6, 3), rng=0), lambda z, t: F.cross_entropy(z, t), (x, y))
    with pytest.raises(
        ValueError, match="loss is <lambda>, of no likelihood known here; expected cross-entropy"
    ):
        kfac(unknown)
    with pytest.raises(ValueError, match="rng is not given; expected a seed or a Generator"):
        kfac(unknown, num_samples=3)
    images = EmpiricalRisk(
        nn.Sequential(nn.Linear(6, 12), nn.Unflatten(1, (3, 4))),
        nn.CrossEntropyLoss(),
        (x, labels(32).reshape(8, 4)),
    )
    with pytest.raises(
        ValueError, match=r"the outputs have shape \(8, 3, 4\); expected \(examples, outputs\)"
    ):
        kfac(images)
    assert kfac(images, num_samples=1, rng=0).operator.shape == (84, 84)


def test_natural_gradient_of_a_linear_model_is_newton():
    """In least squares K-FAC is the Hessian, so that one damped step solves it."""
    x, y = draw(30, 4), draw(30, 2, seed=3)
    risk = EmpiricalRisk(nn.Linear(4, 2), nn.MSELoss(), (x, y))
    step = kfac(risk).inverse(1e-12) @ risk.gradient()
    assert risk.gradient(risk.theta - step).norm() < 1e-9 * risk.gradient().norm()
    exact = to_dense(fisher(risk))
    assert (to_dense(kfac(risk).operator) - exact).norm() < EXACT * exact.norm()
