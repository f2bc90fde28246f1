"""`distdl tune` on a training script, and what later jobs make of it."""

import json
import os

import pytest

from tests.jobs.launching import BIN, run

pytestmark = pytest.mark.job

SCRIPT = """
import sys
import numpy as np
import distdl
from distdl import nn, optim, parallel

distdl.manual_seed(1)
model = nn.Sequential(nn.Linear(64, 1024), nn.Tanh(), nn.Linear(1024, 300))
optimizer = parallel.DistributedOptimizer(optim.SGD(model.parameters(), lr=0.1))
x = np.ones((4, 64), np.float32)
for _ in range(int(sys.argv[1])):
    optimizer.zero_grad()
    (model(distdl.tensor(x)) ** 2).mean(axis=1).mean().backward(weight=4)
    optimizer.step()
plan = optimizer.synchronizer.plan
optimizer.comm.print("plan", plan.overlap, plan.bucket_bytes, plan.source)
"""


def test_what_was_tuned_serves_later_jobs(tmp_path):
    """Divisions of the cores are tried, the best reduction is kept, and the next job of these ranks takes it."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    environment = {"DISTDL_CACHE_DIR": os.environ.get("DISTDL_CACHE_DIR", str(tmp_path / "cache"))}
    tune = [str(BIN / "python"), "-m", "distdl", "tune", "-n", "2", "--steps", "5"]
    ended = run([*tune, "--json", str(script), "100"], timeout=200, environment=environment)
    assert ended.code == 0, ended.output
    found = json.loads(ended.output[ended.output.index("{") :])
    assert [trial["ranks"] for trial in found["divisions"]] == [2]
    assert [trial["rows"] for trial in found["reducing"]] == [8.0] * 3
    assert all(row["mpi"] > 0 and row["gradients"] > 0 and row["messages"] > 0 for row in found["reductions"])
    kept = found["kept"]
    words = [str(BIN / "mpiexec"), "-n", "2", str(BIN / "python"), str(script), "2"]
    later = run(words, timeout=60, environment={**environment, "DISTDL_NUM_THREADS": str(kept["threads"])})
    assert f"plan {kept['overlap']} {kept['bucket_bytes']} tuned" in later.output


def test_a_script_that_is_too_short_is_told(tmp_path):
    """The error says how many steps a trial takes, and nothing hangs."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    ended = run([str(BIN / "python"), "-m", "distdl", "tune", "-n", "2", str(script), "10"], timeout=100)
    assert ended.code == 2
    assert "came to its end without an answer" in ended.output
    assert "at least 33 steps" in ended.output
