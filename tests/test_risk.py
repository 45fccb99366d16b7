"""A network, a loss and data as one function of θ: its value, its gradient, its weights, its manners."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from hesslab.curvature import ggn, hessian
from hesslab.operators import to_dense
from hesslab.risk import EmpiricalRisk, mlp

EXACT = 1e-12


pytestmark = pytest.mark.usefixtures("double_precision")


def draw(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def labels(*shape, classes=4, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).integers(classes, size=shape))


def pair(count=20):
    return draw(count, 3), labels(count)


def risk_of(data=None, loss=None, **options):
    return EmpiricalRisk(
        mlp((3, 5, 4), rng=0), loss or nn.CrossEntropyLoss(), pair() if data is None else data, **options
    )


# -------------------------------------------------------------------------- value, gradient and θ


def test_value_and_gradient_are_those_of_torch():
    risk = risk_of()
    x, y = risk.data
    loss = F.cross_entropy(risk.model(x), y)
    assert risk.value() == pytest.approx(float(loss.detach()), rel=1e-14)
    expected = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(risk.model.parameters()))])
    torch.testing.assert_close(risk.gradient(), expected, rtol=1e-13, atol=0)


def test_gradient_is_the_slope_of_value():
    risk, v = risk_of(), draw(44, seed=3)
    slope = (risk.value(risk.theta + 1e-5 * v) - risk.value(risk.theta - 1e-5 * v)) / 2e-5
    assert float(risk.gradient() @ v) == pytest.approx(slope, rel=1e-8)


def test_theta_is_a_flat_copy_in_the_order_of_named_parameters():
    risk = risk_of()
    assert risk.num_parameters == 44
    torch.testing.assert_close(risk.theta, nn.utils.parameters_to_vector(risk.model.parameters()))
    risk.theta.zero_()
    assert risk.theta.norm() > 0
    shapes = {name: tuple(p.shape) for name, p in risk.unflatten(risk.theta).items()}
    assert shapes == {name: tuple(p.shape) for name, p in risk.model.named_parameters()}


def test_an_array_in_an_array_out():
    risk = risk_of()
    theta = (risk.theta + 0.1).numpy()
    assert isinstance(risk.gradient(theta), np.ndarray)
    assert isinstance(risk.gradient(), torch.Tensor)
    np.testing.assert_allclose(risk.gradient(theta), risk.gradient(torch.tensor(theta)), rtol=1e-14)
    before = risk.theta
    risk.value(theta)
    assert torch.equal(risk.theta, before)
    with pytest.raises(ValueError, match=r"theta has shape \(43,\); expected \(44,\), as risk\.theta"):
        risk.value(theta[1:])


def test_parameters_are_selected_by_name_frozen_ones_too():
    risk = risk_of()
    model = risk.model
    weights = EmpiricalRisk(model, risk.loss, risk.data, parameters="*.weight")
    assert list(weights.selected) == ["0.weight", "2.weight"]
    where = torch.cat([torch.full((p.numel(),), n.endswith("weight")) for n, p in risk.selected.items()])
    torch.testing.assert_close(weights.gradient(), risk.gradient()[where], rtol=1e-13, atol=0)
    torch.testing.assert_close(
        to_dense(hessian(weights)), to_dense(hessian(risk))[where][:, where], rtol=1e-12, atol=1e-15
    )
    model[0].requires_grad_(False)
    assert list(EmpiricalRisk(model, risk.loss, risk.data).selected) == ["2.weight", "2.bias"]
    assert list(EmpiricalRisk(model, risk.loss, risk.data, parameters="0.*").selected) == [
        "0.weight",
        "0.bias",
    ]
    with pytest.raises(ValueError, match="parameters selects none; expected the pattern of some names"):
        EmpiricalRisk(model, risk.loss, risk.data, parameters="3.*")


# --------------------------------------------------------------------------------- data and weights


def split(data, sizes):
    return list(zip(*(part.split(sizes) for part in data), strict=True))


class Endless(IterableDataset):
    """A data set without a length."""

    def __init__(self, data):
        self.data = data

    def __iter__(self):
        return zip(*self.data, strict=True)


def containers(data):
    return {
        "list of uneven batches": split(data, [1, 12, 7]),
        "list of lists": [list(batch) for batch in split(data, [10, 10])],
        "tuple of three batches": tuple(split(data, [3, 3, 14])),
        "loader": DataLoader(TensorDataset(*data), batch_size=6),
        "loader, shuffled": DataLoader(TensorDataset(*data), batch_size=6, shuffle=True),
        "loader without length": DataLoader(Endless(data), batch_size=6),
    }


@pytest.mark.parametrize("kind", containers(pair()))
@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), F.cross_entropy, nn.CrossEntropyLoss(draw(4).exp())])
def test_batches_of_any_kind_give_the_risk_of_one_batch(kind, loss):
    one = risk_of(loss=loss)
    many = EmpiricalRisk(one.model, loss, containers(one.data)[kind])
    state = torch.get_rng_state()
    assert many.value() == pytest.approx(one.value(), rel=EXACT)
    torch.testing.assert_close(many.gradient(), one.gradient(), rtol=EXACT, atol=1e-15)
    for matrix in (hessian, ggn):
        expected = to_dense(matrix(one))
        assert (to_dense(matrix(many)) - expected).norm() < EXACT * expected.norm()
    assert torch.equal(torch.get_rng_state(), state)


def test_ignored_targets_do_not_count_and_batches_of_weight_0_are_skipped():
    x, y = pair()
    y[2:9] = -100
    kept = y != -100
    reference = risk_of((x[kept], y[kept]))
    for data in ((x, y), split((x, y), [2, 7, 5, 6]), split((x, y), [4, 16])):
        risk = risk_of(data)
        assert risk.value() == pytest.approx(reference.value(), rel=EXACT)
        expected = to_dense(hessian(reference))
        assert (to_dense(hessian(risk)) - expected).norm() < EXACT * expected.norm()


def test_other_ignored_indices_and_nll_are_known():
    x, y = pair()
    logs = nn.Sequential(mlp((3, 4), rng=0), nn.LogSoftmax(1))
    for loss in (nn.NLLLoss(ignore_index=2), nn.CrossEntropyLoss(ignore_index=2)):
        one, two = (EmpiricalRisk(logs, loss, data) for data in ((x, y), split((x, y), [3, 17])))
        assert one.value() == pytest.approx(two.value(), rel=EXACT)
        assert one.value() == pytest.approx(loss(logs(x), y).item(), rel=EXACT)


def test_functional_losses_with_options_are_known():
    from functools import partial

    x, y = pair()
    loss = partial(F.cross_entropy, ignore_index=1, weight=draw(4).exp())
    one, two = risk_of((x, y), loss), risk_of(split((x, y), [3, 17]), loss)
    assert one.value() == pytest.approx(two.value(), rel=EXACT)


def test_class_probabilities_and_regression_count_examples():
    x = draw(20, 3)
    for loss, y in ((nn.CrossEntropyLoss(), draw(20, 4).softmax(1)), (nn.MSELoss(), draw(20, 4))):
        one, two = risk_of((x, y), loss), risk_of(split((x, y), [3, 17]), loss)
        assert one.value() == pytest.approx(two.value(), rel=EXACT)
        assert one.value() == pytest.approx(loss(one.model(x), y).item(), rel=EXACT)


def test_weight_says_what_a_mean_is_over():
    x, y = pair()
    y[:6] = -1

    def loss(outputs, targets):
        return F.cross_entropy(outputs, targets, ignore_index=-1)

    def weight(batch):
        return int((batch[1] != -1).sum())

    one, two = risk_of((x, y), loss), risk_of(split((x, y), [2, 9, 9]), loss, weight=weight)
    assert one.value() == pytest.approx(two.value(), rel=EXACT)
    with pytest.raises(
        ValueError, match=r"a batch of 2 examples has 2 integer targets, the least -1.*give weight"
    ):
        risk_of(split((x, y), [2, 18]), loss).value()
    tokens = EmpiricalRisk(
        mlp((3, 12), rng=0),
        lambda z, t: F.cross_entropy(z.reshape(-1, 4), t.reshape(-1)),
        [(x[:5], labels(5, 3)), (x[5:], labels(15, 3))],
    )
    with pytest.raises(ValueError, match="a batch of 5 examples has 15 integer targets"):
        tokens.value()


def test_losses_without_examples_need_a_weight():
    def forward(model, batch):
        return {"loss": F.cross_entropy(model(batch[0]), batch[1])}, None

    def loss(outputs, targets):
        return outputs["loss"]

    one = risk_of()
    batches = split(one.data, [3, 17])
    assert risk_of(loss=loss, forward=forward).value() == pytest.approx(one.value(), rel=EXACT)
    with pytest.raises(ValueError, match="weight is not given and the outputs have no examples to count"):
        risk_of(batches, loss, forward=forward).value()
    weighed = risk_of(batches, loss, forward=forward, weight=lambda batch: len(batch[0]))
    assert weighed.value() == pytest.approx(one.value(), rel=EXACT)


def test_forward_adapts_batches_that_are_no_pairs():
    x, y = pair()
    batches = [{"x": x[:8], "y": y[:8]}, {"x": x[8:], "y": y[8:]}]
    risk = risk_of(batches, forward=lambda model, batch: (model(batch["x"]), batch["y"]))
    assert risk.value() == pytest.approx(risk_of((x, y)).value(), rel=EXACT)
    with pytest.raises(TypeError, match=r"a batch is a dict; expected a pair .*give forward\(model, batch\)"):
        risk_of(batches).value()


# ------------------------------------------------------------------------------------------ errors


def test_data_that_cannot_be_data_are_a_sentence():
    x, y = pair()
    with pytest.raises(ValueError, match=r"data is a one-shot iterator \(generator\).*give list\(data\)"):
        risk_of(batch for batch in [(x, y)])
    with pytest.raises(ValueError, match=r"data is a one-shot iterator \(list_iterator\)"):
        risk_of(iter([(x, y)]))
    with pytest.raises(ValueError, match="data is empty; expected at least one batch"):
        EmpiricalRisk(nn.Linear(3, 4), nn.CrossEntropyLoss(), [])
    with pytest.raises(TypeError, match="data is a Tensor; expected one pair"):
        EmpiricalRisk(nn.Linear(3, 4), nn.CrossEntropyLoss(), x)
    with pytest.raises(TypeError, match="data is a int; expected one pair"):
        EmpiricalRisk(nn.Linear(3, 4), nn.CrossEntropyLoss(), 3)
    with pytest.raises(TypeError, match="a batch is a Tensor; expected a pair"):
        risk_of([x, y]).value()


def test_an_empty_loader_is_a_sentence():
    empty = DataLoader(Endless((draw(0, 3), labels(0))), batch_size=4)
    ignored = draw(5, 3), torch.full((5,), -100)
    for data in (empty, ignored, [ignored, ignored]):
        for evaluate in (EmpiricalRisk.value, EmpiricalRisk.gradient, hessian):
            with pytest.raises(ValueError, match="data holds no batch of positive weight; expected at least"):
                evaluate(risk_of(data))


def test_arguments_that_cannot_be_right_are_a_sentence():
    x, y = pair()
    with pytest.raises(TypeError, match=r"model is a function; expected a torch\.nn\.Module"):
        EmpiricalRisk(lambda x: x, nn.CrossEntropyLoss(), (x, y))
    with pytest.raises(TypeError, match="loss is a str; expected a function"):
        risk_of(loss="mse")
    for loss in (nn.CrossEntropyLoss(reduction="sum"), nn.L1Loss(reduction="none")):
        with pytest.raises(ValueError, match=r"loss has reduction '(sum|none)'; expected 'mean'"):
            risk_of(loss=loss)
    with pytest.raises(ValueError, match=r"the loss returned shape \(20,\); expected one number"):
        risk_of(loss=lambda z, t: F.cross_entropy(z, t, reduction="none")).value()
    with pytest.raises(ValueError, match="the loss returned a float; expected one number"):
        risk_of(loss=lambda z, t: 1.0).value()


def test_kinds_of_numbers_that_have_no_curvature_are_a_sentence():
    x, y = pair()
    with pytest.raises(
        ValueError, match=r"the parameters are bfloat16 on cpu; .*convert with model\.float\(\)"
    ):
        EmpiricalRisk(mlp((3, 4), rng=0).bfloat16(), nn.CrossEntropyLoss(), (x, y))
    mixed = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 4).float())
    with pytest.raises(
        ValueError, match="the parameters are float32 on cpu and float64 on cpu; expected one"
    ):
        EmpiricalRisk(mixed, nn.CrossEntropyLoss(), (x, y))


def test_a_wrong_device_is_a_sentence():
    x, y = pair()
    for name, data in (("inputs", (x.to("meta"), y)), ("targets", (x, y.to("meta")))):
        for evaluate in (EmpiricalRisk.value, hessian):
            with pytest.raises(ValueError, match=f"the {name} are on meta, the parameters on cpu; move one"):
                evaluate(risk_of(data))


# -------------------------------------------------------------------------------- nothing is changed


class Interrupted(nn.Module):
    """Raises at its third use, after it has changed what it can."""

    def __init__(self, error):
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)
        self.error, self.uses = error, []

    def forward(self, x):
        z = self.norm(self.linear(x))
        torch.rand(3)
        self.eval()
        self.uses.append(1)
        if len(self.uses) > 2:
            raise self.error
        return z


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
@pytest.mark.parametrize("evaluate", [EmpiricalRisk.gradient, EmpiricalRisk.value, hessian, ggn])
def test_an_error_in_the_middle_leaves_everything_as_it_was(error, evaluate):
    model = Interrupted(error)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    tensors = [*model.parameters(), *model.buffers()]
    before = [t.detach().clone() for t in tensors]
    state = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    risk = EmpiricalRisk(model, nn.CrossEntropyLoss(), split(pair(), [5, 5, 5, 5]))
    with pytest.raises(error):
        evaluate(risk)
    assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True))
    assert [id(t) for t in tensors] == [id(t) for t in (*model.parameters(), *model.buffers())]
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())
    assert all(m.training for m in model.modules())
    assert torch.equal(torch.get_rng_state(), state[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == state[1:]  # noqa: NPY002


def test_evaluation_under_no_grad_is_the_same():
    risk = risk_of()
    expected = risk.gradient(), hessian(risk) @ draw(44)
    with torch.no_grad():
        found = risk.gradient(), hessian(risk) @ draw(44)
        assert not torch.is_grad_enabled()
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)


# ---------------------------------------------------------------------------------------------- mlp


def test_mlp_draws_from_the_generator_it_is_given():
    state = torch.get_rng_state()
    first, again, other = (list(mlp((3, 50, 4), gain=2.0, rng=seed).parameters()) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    expected = np.random.default_rng(0).standard_normal((50, 3)) * 2 / np.sqrt(3)
    np.testing.assert_allclose(first[0].detach().numpy(), expected, rtol=1e-15)
    assert first[1].abs().max() == 0
    generator = np.random.default_rng(0)
    mlp((2, 2), rng=generator)
    assert generator.standard_normal() != np.random.default_rng(0).standard_normal()


def test_mlp_has_activations_between_its_layers_only():
    model = mlp((3, 4, 5, 2), activation="relu", rng=0)
    assert [type(m).__name__ for m in model] == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    with pytest.raises(ValueError, match="activation is 'swish'; expected one of tanh, relu"):
        mlp((3, 2), activation="swish", rng=0)
    with pytest.raises(ValueError, match=r"sizes is \[3\]; expected the widths from inputs to outputs"):
        mlp([3], rng=0)
