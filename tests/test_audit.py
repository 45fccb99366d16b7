"""The audit: each number against the dense Hessian, the verdict, partial results, and models of others."""

import math
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import everything
from torch import nn

from hesslab import __main__ as command
from hesslab import audit as room
from hesslab.audit import audit
from hesslab.curvature import hessian
from hesslab.data import digits
from hesslab.operators import to_dense
from hesslab.parts import forms_by_part, over_parts
from hesslab.risk import EmpiricalRisk, mlp

pytestmark = pytest.mark.usefixtures("double_precision")
LOSS = nn.CrossEntropyLoss()


def data(n=120):
    x, y = digits(n, rng=0)
    return torch.tensor(x), torch.tensor(y)


def trained(make, steps=20, sizes=(64, 6, 10)):
    model, (x, y) = mlp(sizes, rng=0).double(), data()
    optimizer = make(model.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        LOSS(model(x), y).backward()
        optimizer.step()
    return model, optimizer


def sgd(p, lr=0.1):
    return torch.optim.SGD(p, lr=lr)


@pytest.fixture(scope="module")
def audited():
    torch.set_default_dtype(torch.float64)
    model, optimizer = trained(sgd)
    before = everything(model)
    found = audit(model, LOSS, data(), optimizer, rng=0)
    torch.testing.assert_close(everything(model), before, rtol=0, atol=0)
    dense = to_dense(hessian(EmpiricalRisk(model, LOSS, data()))).numpy()
    torch.set_default_dtype(torch.float32)
    return found, model, optimizer, np.linalg.eigvalsh(dense), dense


def test_every_number_is_that_of_the_dense_matrix(audited):
    found, model, _, exact, dense = audited
    assert found.num_parameters == len(exact)
    assert found.sharpness.interval[0] <= exact[-1] <= found.sharpness.interval[1]
    assert found.sharpness.value == pytest.approx(exact[-1], rel=1e-5)
    assert found.sharpness.ratio == pytest.approx(exact[-1] * 0.1 / 2, rel=1e-5)
    assert found.top.values[0] == pytest.approx(exact[-1], rel=1e-5)
    assert abs(found.bottom.values[0] - exact[0]) <= found.bottom.residuals[0] + 1e-12
    low, high = found.trace.interval(0.999)
    assert low <= exact.sum() <= high
    flat = np.mean(np.abs(exact) <= exact[-1] / 100)
    negative = np.mean(exact < -exact[-1] / 100)
    for estimate, truth in ((found.flat, flat), (found.negative, negative)):
        low, high = estimate.interval(0.999)
        assert low <= truth <= high
    starts = {"0": slice(0, 64 * 6 + 6), "2": slice(64 * 6 + 6, None)}
    assert set(found.layers) == set(starts)
    for name, where in starts.items():
        block = np.linalg.eigvalsh(dense[where, where])
        layer = found.layers[name]
        assert layer.num_parameters == len(block)
        assert layer.largest.values[0] == pytest.approx(block[-1], rel=1e-3)
        low, high = layer.trace.interval(0.999)
        assert low <= block.sum() <= high
    assert found.num_matvecs <= found.budget
    assert found.loss == EmpiricalRisk(model, LOSS, data()).value()


def test_the_three_errors_are_apart(audited):
    found, _, _, exact, _ = audited
    solver = found.top.intervals[0, 1] - found.top.intervals[0, 0]
    assert 0 < solver < found.sampled["λmax"].stderr
    assert found.sampled["λmax"].value == pytest.approx(exact[-1], rel=1e-5)
    assert found.trace.stderr > 0
    assert found.sampled["trace"].stderr > 0


def test_it_prints_every_number_and_the_verdict(audited):
    found = audited[0]
    text = str(found)
    for name in ("parameters", "sharpness for SGD", "threshold", "critical rate", "λmin", "trace", "layer 2"):
        assert name in text
    assert text.endswith("(Dinh et al. 2017).")
    for sentence in found.verdict:
        assert sentence in text
        assert sentence[0].isupper() or sentence.startswith("λ")
        assert sentence.endswith(".")


def test_the_page_stands_alone_and_says_the_same(audited):
    found = audited[0]
    page = found.html(*command.figures(found))
    assert page.count("<img ") == 3
    assert not re.search(r"https?:|<script|<link|src=\"(?!data:)", page)
    assert all(len(alt) >= 40 for alt in re.findall(r'alt="([^"]*)"', page))
    for sentence in found.verdict:
        assert sentence in page.replace("&#x27;", "'")


def test_names_of_the_model_cannot_write_into_the_page():
    model = nn.Sequential()
    model.add_module("<b>x", nn.Linear(64, 10))
    model.add_module("y$_{$", nn.Linear(10, 10))
    found = audit(model, LOSS, data(), budget=100, rng=0)
    page = found.html(*command.figures(found))
    assert page.count("<img ") == 2
    assert "<b>x" not in page
    assert "&lt;b&gt;x" in page


STATES = {"stable": 0.5, "unstable": 1.2}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", ["sgd", "momentum", "adam", "adamw", "rmsprop"])
def test_the_state_is_the_side_of_the_threshold(kind, state):
    make = {
        "sgd": sgd,
        "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
        "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
        "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.0),
        "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
    }[kind]
    model, optimizer = trained(make)
    first = audit(model, LOSS, data(), optimizer, rng=0)
    optimizer.param_groups[0]["lr"] *= STATES[state] / first.sharpness.ratio
    found = audit(model, LOSS, data(), optimizer, rng=1)
    assert found.state == state
    assert found.sharpness.ratio == pytest.approx(STATES[state], rel=1e-3)
    assert found.optimizer == type(optimizer).__name__
    words = {"stable": "below it", "unstable": "beyond it"}[state]
    assert words in found.verdict[0]


def test_no_optimizer_an_unknown_one_and_one_before_its_first_step():
    model, optimizer = trained(sgd)
    alone = audit(model, LOSS, data(), budget=80, rng=0)
    assert (alone.sharpness, alone.critical, alone.state) == (None, None, "undecided")
    assert "No optimizer was given: there is no threshold to compare with." in alone.verdict
    assert alone.top.values[0] > 0
    other = audit(model, LOSS, data(), torch.optim.Adagrad(model.parameters(), lr=0.01), budget=80, rng=0)
    assert other.critical is not None
    assert other.sharpness is None
    assert any(s.startswith("No threshold is known: ") for s in other.verdict)
    fresh = audit(model, LOSS, data(), torch.optim.Adam(model.parameters()), budget=80, rng=0)
    assert any("take one step first" in s for s in fresh.verdict)
    optimizer.param_groups[0]["lr"] = 0.0
    still = audit(model, LOSS, data(), optimizer, budget=80, rng=0)
    assert "The learning rate is 0: every curvature is stable." in still.verdict
    assert any(s.startswith("No critical learning rate: the learning rate is 0.0") for s in still.verdict)


@pytest.mark.parametrize(("seen", "noted"), [(6, True), (10, False)])
def test_a_direction_that_adam_never_saw_is_named(seen, noted):
    """Words 6 to 9 get their first gradient in the audit: their v is 0, and ε alone bounds the step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(10, 6), nn.Flatten(), nn.Linear(12, 3)).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    words, targets = torch.randint(0, 10, (80, 2)), torch.randint(0, 3, (80,))
    for _ in range(20):
        optimizer.zero_grad()
        LOSS(model(words % seen), targets).backward()
        optimizer.step()
    found = audit(model, LOSS, (words, targets), optimizer, budget=100, rng=0)
    assert (found.sharpness.ratio > 10) == noted
    assert (
        any("of the sharpest direction is in weights of which Adam has" in s for s in found.verdict) == noted
    )


@pytest.mark.parametrize("budget", [60, 61, 75, 100, 150])
def test_a_small_budget_is_kept_and_leaves_nothing_half_said(budget):
    model, optimizer = trained(sgd, sizes=(64, 30, 10))
    found = audit(model, LOSS, data(), optimizer, budget=budget, rng=0)
    assert found.num_matvecs <= budget
    assert str(found)
    assert found.html()


def test_ctrl_c_returns_what_is_known(monkeypatch):
    model, optimizer = trained(sgd)
    before = everything(model)
    for stop in (20, 60, 110, 180, 240):
        spent = 0

        def paying(purse, count, pay=room._Purse.pay, stop=stop):
            nonlocal spent
            pay(purse, count)
            spent += count
            if spent - count < stop <= spent:
                raise KeyboardInterrupt

        monkeypatch.setattr(room._Purse, "pay", paying)
        found = audit(model, LOSS, data(), optimizer, rng=0)
        monkeypatch.undo()
        assert found.num_matvecs < 300
        assert found.density is None or stop > 150
        assert str(found)
        torch.testing.assert_close(everything(model), before, rtol=0, atol=0)


def test_the_random_state_and_progress(capsys):
    model, optimizer = trained(sgd)
    first, again, other = (audit(model, LOSS, data(), optimizer, rng=seed) for seed in (0, 0, 1))
    assert str(first) == str(again)
    assert str(first) != str(other)
    audit(model, LOSS, data(), optimizer, progress=True, budget=60, rng=0)
    assert "audit" in capsys.readouterr().err
    with pytest.raises(TypeError, match="rng"):
        audit(model, LOSS, data())


def test_errors():
    model, optimizer = trained(sgd)
    with pytest.raises(ValueError, match=r"budget = 59; expected at least 60 products"):
        audit(model, LOSS, data(), optimizer, budget=59, rng=0)
    for budget in (100.0, math.nan, math.inf, True, "300", None):
        with pytest.raises(ValueError, match=r"budget = .*; expected at least 60 products, a whole number"):
            audit(model, LOSS, data(), optimizer, budget=budget, rng=0)
    with pytest.raises(TypeError, match=r"optimizer is a StepLR; expected a torch\.optim\.Optimizer"):
        audit(model, LOSS, data(), torch.optim.lr_scheduler.StepLR(optimizer, 10), rng=0)
    with torch.no_grad():
        model[0].weight.mul_(float("nan"))
    with pytest.raises(ValueError, match=r"the loss is nan; expected a finite one"):
        audit(model, LOSS, data(), optimizer, rng=0)


# ------------------------------------------------------------------------------------------- the data


@pytest.mark.parametrize("kind", ["pair", "two batches", "loader", "uneven"])
def test_the_parts_add_up_to_the_whole(kind):
    model, (x, y) = trained(sgd)[0], data()
    given = {
        "pair": (x, y),
        "two batches": [(x[:50], y[:50]), (x[50:], y[50:])],
        "loader": torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=16),
        "uneven": [(x[:3], y[:3]), (x[3:10], y[3:10]), (x[10:50], y[10:50]), (x[50:], y[50:])],
    }[kind]
    risk = EmpiricalRisk(model, LOSS, given)
    V = torch.randn(risk.num_parameters, 3, generator=torch.Generator().manual_seed(0))
    values, weights = forms_by_part(risk, V)
    assert weights.sum() == 120
    exact = (V * (hessian(risk) @ V)).sum(0).numpy()
    for column, truth in zip(values.T, exact, strict=True):
        assert over_parts(column, weights).value == pytest.approx(truth, rel=1e-12)


def test_the_error_from_the_data_is_that_of_new_data():
    """The quadratic form along a fixed direction, on fresh samples of a population: spread as stated."""
    model, (x, y) = trained(sgd)[0], data(1700)
    v = torch.randn(sum(p.numel() for p in model.parameters()), 1, generator=torch.Generator().manual_seed(1))
    stated, seen = [], []
    for i in range(10):
        part = x[i * 170 : (i + 1) * 170], y[i * 170 : (i + 1) * 170]
        values, weights = forms_by_part(EmpiricalRisk(model, LOSS, part), v)
        estimate = over_parts(values[:, 0], weights)
        stated.append(estimate.stderr)
        seen.append(estimate.value)
    assert 0.5 < np.std(seen, ddof=1) / np.sqrt(np.mean(np.square(stated))) < 2


def test_padding_and_uneven_batches_are_parts_like_others():
    model, (x, y) = trained(sgd)[0], data()
    y[:15] = -100  # the first of eight pieces has no target that counts
    for given in ((x, y), [(x[:60], y[:60]), (x[60:117], y[60:117]), (x[117:], y[117:])]):
        risk = EmpiricalRisk(model, LOSS, given)
        v = torch.ones(risk.num_parameters, 1)
        values, weights = forms_by_part(risk, v)
        assert weights.sum() == 105
        assert over_parts(values[:, 0], weights).value == pytest.approx(
            float((v * (hessian(risk) @ v)).sum()), rel=1e-12
        )
    y[15:] = -100
    y[100] = 1
    assert "too few parts" in forms_by_part(EmpiricalRisk(model, LOSS, (x, y)), v)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_loader_leaves_the_random_state(shuffle):
    model = trained(sgd)[0]
    pairs = torch.utils.data.TensorDataset(*data())
    loader = torch.utils.data.DataLoader(pairs, batch_size=16, shuffle=shuffle, drop_last=True)
    before = torch.get_rng_state()
    audit(model, LOSS, loader, budget=60, rng=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_data_that_cannot_be_taken_apart_is_said():
    normed = nn.Sequential(nn.Linear(64, 5), nn.BatchNorm1d(5), nn.Linear(5, 10))
    found = audit(normed, LOSS, data(), budget=80, rng=0)
    assert not found.sampled
    assert any("BatchNorm in train mode ties the examples" in s for s in found.verdict)
    assert audit(normed.eval(), LOSS, data(), budget=80, rng=0).sampled
    x, y = data(5)
    few = audit(normed, LOSS, (x, y), budget=80, rng=0)
    assert any("the batches could not be taken apart; give four or more." in s for s in few.verdict)


# ------------------------------------------------------------------------------------------- strange places


def squares(sign):
    return lambda outputs, targets: sign * (outputs - targets).pow(2).mean()


def test_at_a_maximum_nothing_is_called_indefinite_or_sharp():
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    model = mlp((4, 3), rng=0)[0]
    found = audit(model, squares(-1.0), (x, x[:, :3]), sgd(model.parameters()), rng=0)
    text = " ".join(found.verdict)
    assert found.top.values[0] < 0
    assert "negative definite" in text
    assert "no sign of a minimum" in text
    assert "No layer alone curves upwards." in text
    assert "indefinite" not in text
    assert "sharpest layer" not in text


def test_at_a_saddle_a_step_of_zero_lowers_nothing():
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.Linear(5, 3, bias=False))
    for p in model.parameters():
        nn.init.zeros_(p)
    found = audit(model, squares(1.0), (x, x[:, :3]), sgd(model.parameters()), rng=0)
    assert found.critical.still
    assert "leaves the loss as it is" in str(found.critical)
    text = " ".join(found.verdict)
    assert "One more step leaves the loss as it is at every rate that was tried" in text
    assert "lowers the loss" not in text
    assert "The Hessian is indefinite" in text


def test_without_curvature_no_percentages_of_zero():
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    model = mlp((4, 3), rng=0)
    text = " ".join(audit(model, lambda z, y: z.mean() + 0 * y.mean(), (x, x), rng=0).verdict)
    assert "inf%" not in text
    assert "more products would" not in text
    found = audit(model, squares(1.0), (x, x[:, :3]), rng=0)
    assert found.flat.value == 0
    assert not any("condition number" in s for s in found.verdict)


def test_shares_of_the_trace_are_given_only_where_all_are_positive(audited):
    found = audited[0]
    assert re.search(r"\d% of the sum", " ".join(found.verdict))
    first, second = found.layers.items()
    lower = replace(first[1], trace=replace(first[1].trace, value=-0.5 * second[1].trace.value))
    mixed = replace(found, layers=dict((("0", lower), second)))
    assert "of the sum" not in " ".join(mixed.verdict)


def test_an_eigenvalue_that_has_not_converged_has_no_error(audited):
    found = audited[0]
    vague = replace(found, top=replace(found.top, converged=np.array([False])))
    text = " ".join(vague.verdict)
    assert "λmax has not converged" in text
    assert "from the solver" not in text


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_few_parameters_have_a_density_too(n):
    x = torch.linspace(-1, 1, 40)[:, None] ** torch.arange(1, n + 1)
    model = nn.Linear(n, 1, bias=False)
    found = audit(model, nn.MSELoss(), (x, x[:, :1]), sgd(model.parameters()), rng=0)
    assert found.flat is not None
    assert not any("budget left nothing" in s for s in found.verdict)
    exact = np.linalg.eigvalsh(2 * (x.T @ x / 40).numpy())
    assert found.top.values[0] == pytest.approx(exact[-1])
    assert found.bottom.values[0] == pytest.approx(exact[0])


def test_the_error_from_the_data_is_paid_for(monkeypatch):
    def all_but_four(work):
        work.purse.pay(work.purse.budget - work.purse.spent - 4)
        return {}

    monkeypatch.setattr(room, "STAGES", (*room.STAGES[:3], all_but_four, *room.STAGES[3:]))
    model, optimizer = trained(sgd)
    found = audit(model, LOSS, data(), optimizer, rng=0)
    assert found.num_matvecs <= found.budget
    assert any("left nothing for the error from the data" in s for s in found.verdict)


# ------------------------------------------------------------------------------------------- models of others


@pytest.fixture
def transformers(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return pytest.importorskip("transformers", reason="transformers is not installed (extra: test)")


def next_tokens(model, batch):
    logits = model(**batch, use_cache=False).logits
    return logits[:, :-1].flatten(0, 1), batch["input_ids"][:, 1:].flatten()


def test_a_causal_language_model(transformers):
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=17, n_embd=8, n_layer=2, n_head=2, n_positions=16)
    ).eval()
    tokens = torch.from_numpy(np.random.default_rng(0).integers(17, size=(16, 9)))
    batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(*next_tokens(model, batch)).backward()
        optimizer.step()
    before = everything(model)
    found = audit(model, F.cross_entropy, [batch], optimizer, forward=next_tokens, budget=150, rng=0)
    torch.testing.assert_close(everything(model), before, rtol=0, atol=0)
    exact = np.linalg.eigvalsh(
        to_dense(hessian(EmpiricalRisk(model, F.cross_entropy, [batch], forward=next_tokens))).numpy()
    )
    assert found.top.values[0] == pytest.approx(exact[-1], rel=1e-3)
    assert found.state == "stable" or found.sharpness.ratio > 0.9
    assert found.sampled["λmax"].stderr > 0
    assert "transformer.h.1.mlp.c_fc" in found.layers
    assert found.critical.low > 0


def test_a_residual_network(transformers):
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        num_channels=1,
        embedding_size=4,
        hidden_sizes=[4, 6],
        depths=[1, 1],
        layer_type="basic",
        num_labels=10,
    )
    model = transformers.ResNetForImageClassification(config)
    x, y = data(64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    pairs = (x.reshape(-1, 1, 8, 8), y)
    for _ in range(3):
        optimizer.zero_grad()
        LOSS(model(pairs[0]).logits, y).backward()
        optimizer.step()
    batches = [tuple(t[i::4] for t in pairs) for i in range(4)]
    before = everything(model)
    found = audit(model, LOSS, batches, optimizer, budget=150, rng=0)
    torch.testing.assert_close(everything(model), before, rtol=0, atol=0)
    assert found.sampled["λmax"].stderr > 0
    assert found.sharpness.threshold == pytest.approx(2 * 1.9 / 0.05)
    assert np.isfinite(found.trace.value)


# ------------------------------------------------------------------------------------------- the command

SETUP = """
import torch
from hesslab.data import two_moons
from hesslab.risk import mlp

def setup():
    torch.set_default_dtype(torch.float64)
    x, y = two_moons(60, rng=0)
    model = mlp((2, 5, 2), rng=0)
    return {
        "model": model, "loss": torch.nn.CrossEntropyLoss(), "data": (torch.tensor(x), torch.tensor(y)),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
    }

def nothing():
    return None

def broken():
    return {}["key"]

def leaves():
    raise SystemExit(0)

def waits():
    raise KeyboardInterrupt
"""


def test_the_command_writes_a_report(tmp_path):
    (tmp_path / "mine.py").write_text(SETUP, encoding="utf8")
    run = subprocess.run(
        [sys.executable, "-m", "hesslab", "audit", "mine.py", "--budget", "80", "--html", "report.html"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf8",
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "sharpness for SGD" in run.stdout
    assert run.stdout.strip().endswith("The report is in report.html.")
    assert (tmp_path / "report.html").read_text(encoding="utf8").startswith("<!doctype html>")


def test_the_command_says_what_is_wrong_with_a_setup(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(SETUP, encoding="utf8")
    for setup, text in (
        (f"{tmp_path}/none.py", "there is no file"),
        (f"{tmp_path}/mine.py:other", "has no attribute 'other'"),
        (f"{tmp_path}/mine.py:nothing", "it returned a NoneType, not a dict"),
        ("no_such_package", "No module named 'no_such_package'"),
        (f"{tmp_path}/mine.py:broken", "KeyError: 'key' (line 19 of mine.py)"),
        (f"{tmp_path}/mine.py:leaves", "SystemExit: 0 (line 22 of mine.py)"),
    ):
        assert command.main(["audit", setup]) == 2
        assert text in capsys.readouterr().err


def test_the_command_looks_at_the_place_of_the_report_first(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(SETUP, encoding="utf8")
    for place in (tmp_path, tmp_path / "none" / "report.html"):
        assert command.main(["audit", f"{tmp_path}/mine.py:broken", "--html", str(place)]) == 2
        assert "expected the name of a file in a folder that exists" in capsys.readouterr().err


def test_ctrl_c_in_the_command_is_one_line(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(SETUP, encoding="utf8")
    assert command.main(["audit", f"{tmp_path}/mine.py:waits"]) == 130
    assert capsys.readouterr().err == "\nInterrupted: there is no report.\n"


def test_the_command_prints_where_there_are_no_greek_letters(tmp_path):
    (tmp_path / "mine.py").write_text(SETUP, encoding="utf8")
    run = subprocess.run(
        [sys.executable, "-m", "hesslab", "audit", "mine.py", "--budget", "60"],
        cwd=tmp_path,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert b"sharpness for SGD" in run.stdout
