"""Is the audit right about stability? Twelve set-ups, each judged, then trained on.

    python benchmarks/verdicts.py

The set-ups were written down here before any was run. A network is trained for a while at a modest rate; then
the rate is set so that the sharpness is a stated fraction of the threshold, the audit is asked, and training
goes on at that rate for 60 full-batch steps. Watched is the part of each step that alternates along the
sharpest direction, |c_t+1 − c_t| / 2 with c_t the component of step t. It "grows" where it exceeds 1.5 times
the larger of its first two values; "unstable" is right where it does, "stable" where it does not. The network
sharpens or flattens meanwhile, and momentum's transients grow before they decay: so a verdict can be wrong.

Two things were changed after a first run, which gave 5 right, 3 undecided and 4 wrong. The last 40 steps had
been compared with the first 5: what grew and settled within 5 was overlooked. And the budget had been 120
products, too few to look for larger eigenvalues; it is now the audit's own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from hesslab.audit import audit
from hesslab.curvature import hessian, preconditioned
from hesslab.data import digits
from hesslab.lanczos import eigsh
from hesslab.operators import Operator
from hesslab.risk import EmpiricalRisk, mlp
from hesslab.stability import effective_sharpness


def sgd(p: Any) -> torch.optim.Optimizer:
    """Gradient descent."""
    return torch.optim.SGD(p, lr=0.1)


def momentum(p: Any) -> torch.optim.Optimizer:
    """Heavy ball."""
    return torch.optim.SGD(p, lr=0.05, momentum=0.9)


def adam(p: Any) -> torch.optim.Optimizer:
    """Adam with a second moment that is soon settled."""
    return torch.optim.Adam(p, lr=1e-3, betas=(0.9, 0.99), eps=1e-7)


@dataclass(frozen=True)
class Case:
    """A network, how long it is trained first, and the fraction of the threshold that the rate is set to."""

    name: str
    optimizer: Callable[[Any], torch.optim.Optimizer]
    activation: str
    loss: str
    steps: int
    fraction: float


CASES = (
    Case("SGD, half way", sgd, "tanh", "squared", 200, 0.5),
    Case("SGD, just below", sgd, "tanh", "squared", 200, 0.95),
    Case("SGD, just above", sgd, "tanh", "squared", 200, 1.05),
    Case("SGD, far above", sgd, "relu", "squared", 200, 1.5),
    Case("SGD, cross-entropy, far above", sgd, "tanh", "cross-entropy", 100, 1.3),
    Case("momentum, half way", momentum, "tanh", "squared", 200, 0.5),
    Case("momentum, just below", momentum, "relu", "squared", 200, 0.95),
    Case("momentum, just above", momentum, "tanh", "squared", 200, 1.05),
    Case("momentum, far above", momentum, "tanh", "squared", 200, 1.3),
    Case("Adam, half way", adam, "tanh", "squared", 200, 0.5),
    Case("Adam, just below", adam, "tanh", "cross-entropy", 100, 0.95),
    Case("Adam, far above", adam, "tanh", "squared", 200, 1.3),
)

Data = tuple[Tensor, Tensor]


def prepared(case: Case) -> tuple[nn.Module, Any, Data, torch.optim.Optimizer]:
    """Model, loss, data and optimizer, trained and set to the fraction."""
    x, labels = digits(200, rng=0)
    inputs, classes = torch.tensor(x), torch.tensor(labels)
    model = mlp((64, 32, 32, 10), activation=case.activation, rng=0).double()
    optimizer = case.optimizer(model.parameters())
    loss: Any = nn.CrossEntropyLoss()
    targets = classes
    if case.loss == "squared":
        targets = torch.eye(10, dtype=torch.float64)[classes]
        loss = half_square
    for _ in range(case.steps):
        train(model, loss, (inputs, targets), optimizer)
    risk = EmpiricalRisk(model, loss, (inputs, targets))
    ratio = effective_sharpness(risk, optimizer, rtol=1e-6, rng=0).ratio
    for group in optimizer.param_groups:
        group["lr"] *= case.fraction / ratio
    return model, loss, (inputs, targets), optimizer


def half_square(outputs: Tensor, targets: Tensor) -> Tensor:
    """Half the squared distance to the targets, averaged over examples."""
    return 5 * nn.functional.mse_loss(outputs, targets)


def train(model: nn.Module, loss: Any, data: Data, optimizer: torch.optim.Optimizer) -> float:
    """One full-batch step; the loss before it."""
    optimizer.zero_grad()
    value = loss(model(data[0]), data[1])
    value.backward()
    optimizer.step()
    return float(value.detach())


def watched(case: Case) -> tuple[str, float, float, str, float]:
    """The verdict, its ratio, how much the alternating part grows, the outcome, and the loss that follows."""
    model, loss, data, optimizer = prepared(case)
    found = audit(model, loss, data, optimizer, rng=1)
    assert found.sharpness is not None
    v = sharpest(EmpiricalRisk(model, loss, data), optimizer)
    before = EmpiricalRisk(model, loss, data).theta
    along, losses = [], []
    for _ in range(60):
        losses.append(train(model, loss, data, optimizer))
        after = EmpiricalRisk(model, loss, data).theta
        along.append(float(v @ (after - before)))
        before = after
    swings = [abs(b - a) / 2 for a, b in pairwise(along)]
    growth = max(swings) / max(swings[:2])
    outcome = "grows" if growth > 1.5 else "does not"
    return found.state, found.sharpness.ratio, growth, outcome, max(losses) / losses[0]


def sharpest(risk: EmpiricalRisk, optimizer: torch.optim.Optimizer) -> Tensor:
    """What reads the amplitude along the sharpest u of P^(−1/2) H P^(−1/2): P^(1/2) u, of length 1."""
    A = preconditioned(hessian(risk, verify=False), optimizer, weight_decay=False)
    u = torch.as_tensor(eigsh(A, 1, rtol=1e-6, rng=0).vectors[:, 0])
    identity = Operator(A.shape, A.dtype, lambda X: X, A.like)
    inverse = preconditioned(identity, optimizer, weight_decay=False, risk=risk) @ torch.ones_like(u)
    v = u / inverse.sqrt()
    return v / v.norm()


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print("| set-up | λ / threshold | verdict | swing × | outcome | largest loss × | |")
    print("|---|---|---|---|---|---|---|")
    right = 0
    for case in CASES:
        state, ratio, growth, outcome, rise = watched(case)
        good = (state, outcome) in (("unstable", "grows"), ("stable", "does not"))
        right += good
        mark = "right" if good else "undecided" if state == "undecided" else "wrong"
        numbers = f"{ratio:.3f} | {state} | {growth:.3g} | {outcome} | {rise:.3g}"
        print(f"| {case.name} | {numbers} | {mark} |", flush=True)
    print(f"\n{right} of {len(CASES)} right.")


if __name__ == "__main__":
    main()
