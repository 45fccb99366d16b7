"""Two ranks with a shard each give what one process gives on all data; a rank that dies ends the run."""

import os
import subprocess
import sys
import time
from pathlib import Path

import distributed_script as script
import numpy as np
import pytest
import torch

from hesslab.landscape import bezier_path, match_permutation

ROOT = Path(__file__).resolve().parents[1]


def torchrun(case, out, timeout=120):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(ROOT / "tests" / "distributed_script.py"), case, str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False, timeout=timeout
    )


@pytest.fixture(scope="module")
def alone():
    """What one process finds on all data."""
    return script.found(script.risk([(script.x, script.y)]))


@pytest.mark.parametrize("case", script.SHARDS)
def test_every_estimator_gives_the_answer_of_one_process(case, alone, tmp_path):
    done = torchrun(case, tmp_path / "found.npz")
    assert done.returncode == 0, done.stderr[-3000:]
    found = np.load(tmp_path / "found.npz")
    assert set(found) == set(alone)
    for name, expected in alone.items():
        scale = max(float(np.abs(expected).max()), 1e-300)
        assert float(np.abs(found[name] - expected).max()) <= 1e-10 * scale, name


def test_an_audit_of_shards_is_that_of_the_whole(tmp_path):
    done = torchrun("audit", tmp_path / "found.npz")
    assert done.returncode == 0, done.stderr[-3000:]
    text = str(np.load(tmp_path / "found.npz")["text"])
    assert "sharpness for SGD" in text
    assert "λmax, error from the data" in text
    whole = script.risk([(script.x, script.y)])
    assert f"{whole.value():.6g}" in text


def test_a_rank_that_dies_ends_the_run_with_an_error(tmp_path):
    begun = time.monotonic()
    done = torchrun("dies", tmp_path / "x", timeout=90)
    assert done.returncode != 0
    assert "exitcode" in done.stderr
    assert time.monotonic() - begun < 80


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("differ", "θ differs by 1 between the ranks; expected the same on each: broadcast it first"),
        ("nothing", "data holds no batch of positive weight; expected at least one example"),
    ],
)
def test_what_cannot_be_computed_is_a_sentence_on_every_rank(case, sentence, tmp_path):
    done = torchrun(case, tmp_path / "x")
    assert done.returncode != 0
    assert sentence in done.stderr


def test_a_group_of_one_is_one_process(alone, tmp_path):
    """The same code without torchrun: a group of this process alone."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        risk = script.risk([(script.x, script.y)], dist.group.WORLD)
        for name, value in script.found(risk).items():
            assert np.array_equal(value, alone[name]), name
        a, b = risk.theta, risk.theta + 0.1
        with pytest.raises(ValueError, match="bezier_path needs all data in one process"):
            bezier_path(risk, a, b, num_steps=2, rng=0)
        with pytest.raises(ValueError, match="matching by activations needs all data in one process"):
            match_permutation(risk, a, b, method="activations")
        assert risk.value(torch.zeros(risk.num_parameters)) > 0
    finally:
        dist.destroy_process_group()
