"""A rank that fails while gradients are on their way, in threads, ends the job as any other failure does."""

import pytest

from tests.jobs.launching import mpis, run_job

pytestmark = pytest.mark.job

END_SECONDS = 10

SCRIPT = """
import os, sys, time
import numpy as np
import distdl
from distdl import nn, optim, parallel
comm = distdl.world()
model = nn.Sequential(*[nn.Linear(600, 600) for _ in range(6)])
optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=1e-3), comm, bucket_bytes=1, overlap=True)

def event(gradient):
    with open(os.environ["DISTDL_TEST_EVENT"], "w") as file:
        file.write(str(time.time()))
    {event}

for step in range(1000):
    optimizer.zero_grad()
    first = model[0](distdl.tensor(np.ones((2, 600), np.float32)))
    if step == 5 and comm.rank in {ranks}:
        first.register_hook(event)
    nn.Sequential(*model[1:])(first).mean().backward()
    optimizer.step()
print("went on to the end", comm.rank)
"""


@pytest.mark.parametrize("directory", mpis(), ids=lambda path: path.parent.name)
@pytest.mark.parametrize(
    ("event", "ranks", "message"),
    [
        ("raise ValueError('something broke')", (0,), "ValueError: something broke"),
        ("raise ValueError('something broke')", (0, 1, 2), "ValueError: something broke"),
        ("sys.exit(5)", (1,), "sys.exit(5)"),
        ("raise SystemExit(0)", (1,), "rank 1 has finished"),
        ("os._exit(3)", (0,), None),  # the launcher may end the job before anybody can say why
        ("os._exit(3)", (2,), None),
    ],
)
def test_a_failure_during_the_reduction_ends_the_job(tmp_path, directory, event, ranks, message):
    """Within seconds, with one message that names the cause."""
    when = tmp_path / "event"
    environment = {"DISTDL_TEST_EVENT": str(when)}
    ended = run_job(SCRIPT.format(event=event, ranks=ranks), directory=directory, environment=environment)
    assert ended.code != 0, ended.output
    assert ended.when - float(when.read_text()) < END_SECONDS, ended.output
    assert "went on to the end" not in ended.output
    assert message is None or ended.output.count(message) == 1, ended.output
    assert ended.output.count("Traceback") == ("Error" in event), ended.output


def test_jobs_with_overlap_end_well(tmp_path):
    """Nothing is said, and no thread keeps a rank from ending."""
    ended = run_job(SCRIPT.format(event="pass", ranks=()).replace("range(1000)", "range(3)"))
    assert ended.code == 0, ended.output
    assert ended.output.count("went on to the end") == 3
    assert "distdl:" not in ended.output
