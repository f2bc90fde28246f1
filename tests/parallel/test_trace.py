"""A timeline over all ranks: one file, one clock, and what became of each step's time."""

import json
import time

import numpy as np
import pytest

import distdl
from distdl import data, nn, optim, parallel, train
from distdl.core.errors import ArgumentError, PeerError
from distdl.core.spans import Span
from distdl.parallel.step_times import COLUMNS, reductions, split_reductions, step_times, table


def trained(comm, path, steps=4, slow=None, overlap=False):
    distdl.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = parallel.DistributedOptimizer(
        optim.SGD(model, lr=0.1), comm, overlap=overlap, bucket_bytes=300 if overlap else 1_000_000
    )
    x = distdl.tensor(np.ones((4, 8), np.float32))
    with parallel.trace(path, comm) as timeline:
        for _ in range(steps):
            optimizer.zero_grad()
            if comm.rank == slow:
                time.sleep(0.02)
            model(x).sum().backward()
            optimizer.step()
    optimizer.close()
    return timeline


@pytest.mark.mpi
def test_one_file_holds_all_ranks(comm, tmp_path):
    """Every rank is a process of it, and reductions that belong together overlap on the common clock."""
    path = tmp_path / "trace.json"
    trained(comm, path)
    if comm.rank == 0:
        events = json.loads(path.read_text())["traceEvents"]
        assert {event["pid"] for event in events} == set(range(comm.size))
        for rank in range(comm.size):
            mine = [event for event in events if event["pid"] == rank and event["ph"] == "X"]
            assert {"forward", "backward", "step"} <= {event["cat"] for event in mine}
        by_rank = [
            [event for event in events if event["pid"] == rank and event.get("cat") == "reduce"]
            for rank in range(comm.size)
        ]
        assert len(by_rank[0]) == (4 if comm.size > 1 else 0)
        for together in zip(*by_rank, strict=True):
            assert max(e["ts"] for e in together) <= min(e["ts"] + e["dur"] for e in together) + 50.0


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("overlap", [False, True])
def test_a_slow_rank_is_waited_for(comm, overlap):
    """The others' time is waiting, by name; its own is computation."""
    timeline = trained(comm, None, slow=1, overlap=overlap)
    times = timeline.times / 1e6
    assert times.shape == (comm.size, 4, len(COLUMNS))
    columns = dict(zip(COLUMNS, np.moveaxis(times, 2, 0), strict=True))
    np.testing.assert_allclose(
        columns["total"], sum(columns[name] for name in ("compute", "exposed", "data", "waiting")), atol=1e-3
    )
    assert (columns["waiting"][0] > columns["waiting"][1]).all()
    assert (columns["compute"][1] > 19).all()
    summary = timeline.summary()
    assert "waiting" in summary
    assert f"means over {comm.size} ranks" in summary


def test_a_reduction_begins_with_the_last_rank():
    """What lies before is waiting for it; clocks that differ a little give no negative times."""
    spans = [Span("bucket 0", "", "reduce", 0, 10, 30), Span("bucket 1", "", "reduce", 0, 40, 50)]
    cut = list(split_reductions(reductions(spans), np.array([25, 38]), np.array([1, 0])))
    assert [(span.name, span.phase, span.start, span.end) for span in cut] == [
        ("wait for rank 1", "wait", 10, 25),
        ("bucket 0", "reduce", 25, 30),
        ("bucket 1", "reduce", 40, 50),
    ]


def test_time_is_told_apart():
    """Data, exposed and hidden communication, waiting and computing of one step, with a second thread."""
    spans = [
        Span("next batch", "", "data", 0, 0, 10),
        Span("bucket 0", "", "reduce", 1, 40, 60),
        Span("wait for rank 1", "", "wait", 1, 60, 75),
        Span("bucket 1", "", "reduce", 1, 75, 90),
        Span("wait for buckets", "", "wait", 0, 70, 90),
        Span("SGD.step", "", "step", 0, 90, 100),
    ]
    (row,) = step_times(spans, 0).tolist()
    assert dict(zip(COLUMNS, row, strict=True)) == {
        "total": 100,
        "compute": 70,
        "hidden": 20,
        "exposed": 15,
        "data": 10,
        "waiting": 5,
    }


def test_a_timeline_without_steps_says_so():
    assert "no step" in table(np.zeros((2, 0, 6)))
    assert step_times([], 0).shape == (0, len(COLUMNS))


@pytest.mark.mpi
def test_the_trainer_writes_one(comm, tmp_path, capfd):
    """fit(trace=...) writes the file and prints the table on rank 0."""
    model = nn.Linear(3, 2)
    samples = data.ArrayDataset(np.ones((16, 3), np.float32), np.zeros(16, np.int64))
    trainer = train.Trainer(model, optim.SGD(model, lr=0.1), nn.CrossEntropyLoss(), comm, progress=False)
    trainer.fit(samples, batch_size=8, trace=tmp_path / "fit.json")
    trainer.close()
    assert ("compute" in capfd.readouterr().err) == (comm.rank == 0)
    assert comm.rank or json.loads((tmp_path / "fit.json").read_text())["traceEvents"]


@pytest.mark.mpi
def test_a_file_that_cannot_be_written_is_told_everywhere(comm, tmp_path):
    """A missing directory on rank 0 before anything runs; a failing write on all ranks, after it."""
    if comm.rank == 0:
        with pytest.raises(ArgumentError, match="directory that exists"):
            parallel.trace(tmp_path / "nowhere" / "trace.json", comm)
    with pytest.raises(PeerError, match="cannot write the trace"), parallel.trace(tmp_path / "trace.json", comm):
        # As if the disk had gone meanwhile.
        (tmp_path / "trace.json").mkdir()
