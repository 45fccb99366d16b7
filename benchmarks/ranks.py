"""Two ranks with half the data each, beside one: how much faster a product with the Hessian becomes.

    python benchmarks/ranks.py           one rank, two ranks, the ratio

Started so, it starts itself by

    python -m torch.distributed.run --standalone --nproc-per-node 2 benchmarks/ranks.py

which is also the pattern for a script of your own: every rank reads its shard, makes the same network, and
gives `group` to `EmpiricalRisk`; after that all calls are those of one process. One thread a rank, float64,
an MLP on 8,192 random images of 8 × 8 pixels. Time is that of the slowest rank, the best of five.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # torchrun knows only this folder

from hesslab.curvature import hessian
from hesslab.lanczos import eigsh
from hesslab.risk import EmpiricalRisk, mlp

EXAMPLES, PRODUCTS, REPEATS = 8192, 10, 5


def measured() -> None:
    """What every rank does; rank 0 prints seconds a product, λmax, and the number of ranks."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    rng = np.random.default_rng(0)
    x, y = torch.tensor(rng.standard_normal((EXAMPLES, 64))), torch.tensor(rng.integers(0, 10, EXAMPLES))
    shard = (x[rank::size].contiguous(), y[rank::size].contiguous())
    risk = EmpiricalRisk(
        mlp((64, 128, 128, 10), rng=0).double(), nn.CrossEntropyLoss(), shard, group=dist.group.WORLD
    )
    H, v = hessian(risk), torch.ones(risk.num_parameters, dtype=torch.float64)
    seconds = []
    for _ in range(REPEATS):
        dist.barrier()
        begun = time.perf_counter()
        for _ in range(PRODUCTS):
            H @ v
        dist.barrier()
        seconds.append((time.perf_counter() - begun) / PRODUCTS)
    largest = float(eigsh(H, 1, rtol=1e-6, rng=0).values[0])
    if rank == 0:
        print(f"RANKS {size} SECONDS {min(seconds):.6f} LARGEST {largest:.12g}", flush=True)
    dist.destroy_process_group()


def launched(size: int) -> tuple[float, float]:
    """Seconds a product, and λmax, on `size` ranks."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, __file__], capture_output=True, text=True, check=True, env=environment)
    found = re.search(r"SECONDS (\S+) LARGEST (\S+)", done.stdout)
    assert found, done.stdout + done.stderr
    return float(found[1]), float(found[2])


def main() -> None:
    """Measure one rank and two in turn, three times, and print the table."""
    rows = [(launched(1), launched(2)) for _ in range(3)]
    print("| run | ms a product, one rank | ms, two ranks | faster by | λmax differs by |")
    print("|---|---|---|---|---|")
    for number, ((one, largest), (two, other)) in enumerate(rows, 1):
        apart = abs(other / largest - 1)
        print(f"| {number} | {1e3 * one:.1f} | {1e3 * two:.1f} | {one / two:.2f} | {apart:.0e} |")


if __name__ == "__main__":
    measured() if "RANK" in os.environ else main()
