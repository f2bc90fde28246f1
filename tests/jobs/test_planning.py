"""`distdl plan` runs a script for its profile, under each MPI."""

import json

import pytest

from distdl.parallel.profile import load
from tests.jobs.launching import mpis, run

pytestmark = pytest.mark.job

SCRIPT = """
import sys
import numpy as np
import distdl
from distdl import nn, optim, parallel

comm = distdl.world()
model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 10))
optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.01), comm)
x, y = np.ones((32, 64), np.float32), np.arange(32) % 10
for _ in range(int(sys.argv[1])):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(distdl.tensor(x)), y).backward()
    optimizer.step()
print("trained on")
"""


@pytest.mark.parametrize("directory", mpis(), ids=str)
def test_a_script_runs_until_its_profile_is_there(tmp_path, directory):
    """The job ends then; its profile is kept, and the prediction starts from it."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    options = ["-n", "2", "--save", str(tmp_path / "profile.json"), "--network", "ethernet-1g", "--json"]
    ended = run(
        [str(directory / "python"), "-m", "distdl", "plan", *options, "--", str(script), "1000000"], timeout=120
    )
    assert ended.code == 0, ended.output
    found = load(tmp_path / "profile.json")
    assert (found.script, found.ranks, found.nodes, found.batch) == ("train.py", 2, 1, 32.0)
    assert found.within
    assert json.loads(ended.output)["measured"][0]["compute"] == pytest.approx(found.compute)
