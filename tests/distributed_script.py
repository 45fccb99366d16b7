"""What every rank of tests/test_ranks.py runs: `torchrun … distributed_script.py CASE OUT`.

CASE is a key of SHARDS, or "differ", or "dies". Rank 0 writes what it found to OUT.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hesslab.audit import audit
from hesslab.curvature import blocks, empirical_fisher, fisher, ggn, gradient_covariance, hessian
from hesslab.density import slq
from hesslab.kfac import kfac
from hesslab.lanczos import eigsh
from hesslab.risk import EmpiricalRisk, mlp
from hesslab.trace import hutchinson, hutchpp, xtrace

torch.set_num_threads(1)
n = 90
x = torch.tensor(np.random.default_rng(0).standard_normal((n, 6)))
y = torch.tensor(np.random.default_rng(1).integers(0, 4, n))
y[::7] = -100  # targets that do not count, unevenly
SHARDS = {
    "uneven": lambda rank: [(x[:13], y[:13])] if rank == 0 else [(x[13:50], y[13:50]), (x[50:], y[50:])],
    "pair": lambda rank: (x[:60], y[:60]) if rank == 0 else (x[60:], y[60:]),
    "empty": lambda rank: [(x, y)] if rank == 0 else [],
    "ignored": lambda rank: [(x, y)] if rank == 0 else [(x[:3], torch.full((3,), -100))],
}


def risk(data, group=None):
    model = mlp((6, 5, 4), rng=3).double()
    return EmpiricalRisk(model, nn.CrossEntropyLoss(), data, group=group)


def found(risk):
    """Every number that a rank can be asked for, by name, as flat arrays."""
    H, v = hessian(risk), torch.ones(risk.num_parameters, dtype=torch.float64)
    streamed = hessian(risk, num_products=1)
    pairs, measure = eigsh(H, 3, rng=0), slq(H, num_steps=8, num_probes=2, rng=0)
    factors = kfac(risk).operator
    numbers = {
        "value": risk.value(),
        "gradient": risk.gradient(),
        "H v": H @ v,
        "H v, streamed": streamed @ v,
        "G v": ggn(risk) @ v,
        "F v": fisher(risk) @ v,
        "E v": empirical_fisher(risk) @ v,
        "C v": gradient_covariance(risk) @ v,
        "K-FAC v": factors @ v,
        "blocks": blocks(risk).operator @ v,
        "layers": [float(p.values[0]) for p in blocks(risk).map(lambda A: eigsh(A, 1, rng=0)).values()],
        "eigenvalues": pairs.values,
        "residuals below": float(pairs.residuals.max() < 1e-5),
        "hutchinson": hutchinson(H, max_matvecs=12, rng=0).value,
        "hutchpp": hutchpp(H, max_matvecs=12, rng=0).value,
        "xtrace": xtrace(H, max_matvecs=12, rng=0).value,
        "nodes": measure.nodes,
    }
    return {name: np.atleast_1d(np.asarray(value, dtype=float)) for name, value in numbers.items()}


def main(case, out):
    dist.init_process_group("gloo")
    rank, group = dist.get_rank(), dist.group.WORLD
    if case == "dies":
        if rank == 1:
            time.sleep(1)
            os._exit(7)
        risk([(x, y)], group).gradient()
    elif case == "differ":
        one = risk([(x, y)], group)
        with torch.no_grad():
            one.model[0].bias += rank
        one.value()
    elif case == "nothing":
        risk([], group).value()
    elif case == "audit":
        sharded = risk(SHARDS["uneven"](rank), group)
        sgd = torch.optim.SGD(sharded.model.parameters(), lr=0.1)
        seen = audit(sharded.model, sharded.loss, sharded.data, sgd, budget=80, rng=0, group=group)
        if rank == 0:
            np.savez(out, text=np.array(str(seen)))
    else:
        numbers = found(risk(SHARDS[case](rank), group))
        sums = {name: torch.tensor(value) for name, value in numbers.items()}
        for name, value in sums.items():  # both ranks hold the same
            top = value.clone()
            dist.all_reduce(top, op=dist.ReduceOp.MAX)
            assert torch.equal(top, value), name
        if rank == 0:
            np.savez(out, **numbers)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
