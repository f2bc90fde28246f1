"""A timeline over all ranks: one file, one clock, and what became of each step's time."""

import json
import time

import numpy as np
import pytest

import distdl
from distdl import data, nn, optim, parallel, train
from distdl.core.errors import ArgumentError, PeerError
from distdl.core.spans import Span
from distdl.parallel.step_times import COLUMNS, split_reductions, step_times, table

SLOW = 0.15
"""Seconds that a slow rank sleeps: much longer than steps take on a busy machine."""


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
                time.sleep(SLOW)
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
    assert (columns["compute"][1] > 1e3 * SLOW - 1).all()
    summary = timeline.summary()
    assert (timeline.late[0] == 1).all()
    assert f"{'rank 1':>12}" in summary
    assert f"means over {comm.size} ranks" in summary


def test_a_reduction_begins_with_the_last_rank():
    """What lies before is waiting for it; clocks that differ a little give no negative times."""
    spans = [Span("bucket 0", "", "reduce", 0, 10, 30), Span("bucket 1", "", "reduce", 0, 40, 50)]
    cut = list(split_reductions(spans, np.array([25, 38]), np.array([1, 0])))
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
    times, late = step_times(spans, 0)
    (row,) = times.tolist()
    assert late.tolist() == [1]
    assert dict(zip(COLUMNS, row, strict=True)) == {
        "total": 100,
        "compute": 70,
        "hidden": 20,
        "exposed": 15,
        "data": 10,
        "waiting": 5,
    }


def test_a_timeline_without_steps_says_so():
    assert "no step" in table(np.zeros((2, 0, 6)), np.zeros((2, 0)))
    times, late = step_times([], 0)
    assert (times.shape, late.shape) == ((0, len(COLUMNS)), (0,))


def test_evaluation_is_no_part_of_a_step():
    """A step begins after what lies between it and the one before."""
    spans = [
        Span("SGD.step", "", "step", 0, 0, 10),
        Span("evaluation and callbacks", "", "between", 0, 15, 60),
        Span("next batch", "", "data", 0, 55, 70),
        Span("SGD.step", "", "step", 0, 90, 100),
    ]
    times, _ = step_times(spans, 0)
    assert times[:, COLUMNS.index("total")].tolist() == [10, 40]
    assert times[:, COLUMNS.index("data")].tolist() == [0, 10]


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
    path = tmp_path / "nowhere" / "trace.json"
    with pytest.raises(ArgumentError, match="directory that exists on rank 0"), parallel.trace(path, comm):
        pass
    with pytest.raises(PeerError, match="cannot write the trace"), parallel.trace(tmp_path / "trace.json", comm):
        # As if the disk had gone meanwhile.
        (tmp_path / "trace.json").mkdir()


@pytest.mark.mpi(min_size=3)
def test_groups_wait_for_their_own_members(comm):
    """Reductions of two groups are kept apart; a slow rank is waited for by its own group only."""
    part = comm.split(comm.rank % 2)
    model = nn.Linear(8, 4)
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), part)
    x = distdl.tensor(np.ones((4, 8), np.float32))
    with parallel.trace(None, comm) as timeline:
        for _ in range(3 + comm.rank % 2):
            optimizer.zero_grad()
            if comm.rank == 2:
                time.sleep(SLOW)
            model(x).sum().backward()
            optimizer.step()
    waiting = timeline.times[:, :, COLUMNS.index("waiting")] / 1e6
    assert timeline.times.shape[1] == 3
    assert (waiting[0] > 200 * SLOW).all()
    assert (timeline.late[0] == 2).all()
    assert (timeline.late[1::2] != 2).all()
    optimizer.close()


@pytest.mark.mpi
def test_layers_that_meet_are_communication(comm):
    """Waiting in synchronized batch norm is no computation; what the limit leaves out is told."""
    model = nn.Sequential(nn.Linear(8, 16), nn.SyncBatchNorm(16, comm=comm), nn.Linear(16, 4))
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), comm)
    x = distdl.tensor(np.random.default_rng(comm.rank).normal(size=(4, 8)).astype(np.float32))
    with parallel.trace(None, comm, limit=40) as timeline:
        for _ in range(5):
            optimizer.zero_grad()
            if comm.rank == comm.size - 1:
                time.sleep(SLOW)
            model(x).sum().backward()
            optimizer.step()
    if comm.size > 1:
        assert timeline.times[0, 0, COLUMNS.index("waiting")] > 200e6 * SLOW
    assert timeline.dropped > 0
    assert f"{timeline.dropped} later spans were dropped" in timeline.summary()
    optimizer.close()
