"""Groups of ranks train models of their own; ranks with unequal shares train as one rank with all rows."""

import numpy as np
import pytest

import distdl
from distdl import data, nn, optim, parallel, train
from distdl.core.errors import ArgumentError, PeerError
from tests.parallel.replicas import batch, dense, made, relative_difference

pytestmark = pytest.mark.usefixtures("mode")


def steps_of(group):
    return 3 + 2 * group


def rows(group, step, size):
    return batch((12,), 1000 * group + step, 4 * size, "float64")


def trained_alone(group, size, accumulate):
    model = made(dense, "float64", seed=group)
    average = optim.ExponentialMovingAverage(model, decay=0.8)
    optimizer = optim.Adam(model, lr=0.01)
    for step in range(steps_of(group)):
        optimizer.zero_grad()
        for part in range(accumulate):
            x, y = rows(group, step * accumulate + part, size)
            nn.functional.cross_entropy(model(distdl.tensor(x)), y).backward()
        optimizer.step()
        average.update()
    return model, average


@pytest.mark.mpi
@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_models_in_one_job(comm, accumulate):
    """Each group takes its own number of steps, with its averages; the whole world meets now and then."""
    group = comm.rank % 2
    part = comm.split(group)
    model = made(dense, "float64", seed=group)
    average = optim.ExponentialMovingAverage(model, decay=0.8)
    optimizer = parallel.DistributedOptimizer(optim.Adam(model, lr=0.01), part, check_every=2)
    for step in range(steps_of(group)):
        optimizer.zero_grad()
        for micro in range(accumulate):
            x, y = (array[part.rank :: part.size] for array in rows(group, step * accumulate + micro, part.size))
            loss = nn.functional.cross_entropy(model(distdl.tensor(x)), y)
            if micro < accumulate - 1:
                with optimizer.no_sync():
                    loss.backward()
            else:
                loss.backward()
        optimizer.step()
        average.update()
        if step == 1:
            assert comm.allreduce(1) == comm.size
    reference, reference_average = trained_alone(group, part.size, accumulate)
    assert relative_difference(model, reference) < 1e-12
    with average.applied(), reference_average.applied():
        assert relative_difference(model, reference) < 1e-12
    assert comm.allreduce(1) == comm.size
    optimizer.close()


@pytest.mark.mpi
def test_unequal_shares_train_as_one_rank(comm):
    """A rank that has three times the rows counts three times."""
    x, y = batch((12,), 1, 37, "float64")
    shares = [3.0] + [1.0] * (comm.size - 1)
    model = made(dense, "float64")
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1, momentum=0.9), comm)
    reference = made(dense, "float64")
    alone = optim.SGD(reference, lr=0.1, momentum=0.9)
    mine = data.GlobalBatchSampler(len(x), 12, comm.rank, comm.size, seed=1, shares=shares)
    whole = data.GlobalBatchSampler(len(x), 12, seed=1)
    for _ in range(2):
        for own, everything in zip(mine, whole, strict=True):
            for rows, chosen, how in ((own, model, optimizer), (everything, reference, alone)):
                how.zero_grad()
                nn.functional.cross_entropy(chosen(distdl.tensor(x[rows])), y[rows]).backward()
                how.step()
    assert relative_difference(model, reference) < 1e-12
    optimizer.close()


@pytest.mark.mpi
def test_the_trainer_takes_shares(comm):
    """All ranks must be given the same; a rank's rows follow from them."""
    x, y = batch((12,), 1, 40, "float32")
    samples = data.ArrayDataset(x, y)
    model = made(dense, "float32")
    trainer = train.Trainer(model, optim.SGD(model, lr=0.1), nn.CrossEntropyLoss(), comm, progress=False)
    trainer.fit(samples, batch_size=10, shares=[2.0] + [1.0] * (comm.size - 1))
    assert len(set(parallel.replica_digests(model, comm))) == 1
    if comm.size > 1:
        with pytest.raises(PeerError, match="shares"):
            trainer.fit(samples, batch_size=10, shares=[2.0 + comm.rank] + [1.0] * (comm.size - 1))
    with pytest.raises(ArgumentError, match=r"shares.*one for each of"):
        trainer.fit(samples, batch_size=10, shares=[1.0] * (comm.size + 1))
    with pytest.raises(ArgumentError, match=r"shares\[0\]"):
        trainer.fit(samples, batch_size=10, shares=[0.0] * comm.size)
    trainer.close()


@pytest.mark.mpi
def test_a_plateau_is_decided_once(comm):
    """Metrics that differ between ranks still give one rate."""
    model = made(dense, "float64")
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), comm)
    scheduler = optim.ReduceLROnPlateau(optimizer, patience=0)
    for metric in (1.0, 1.5 + comm.rank, 0.4 + comm.rank):
        scheduler.step(metric)
    assert optimizer.param_groups[0]["lr"] < 0.1
    assert len(set(comm.allgather(np.array(optimizer.param_groups[0]["lr"])))) == 1
    optimizer.close()


@pytest.mark.mpi
def test_whoever_stops_the_fit_stops_it_everywhere(comm):
    """trainer.stop() on the last rank is enough."""

    class Stop(train.Callback):
        def on_epoch_end(self, trainer, record):
            if comm.rank == comm.size - 1 and record["epoch"] == 2:
                trainer.stop()

    model = made(dense, "float32")
    x, y = batch((12,), 1, 40, "float32")
    optimizer = optim.SGD(model, lr=0.1)
    trainer = train.Trainer(model, optimizer, nn.CrossEntropyLoss(), comm, [Stop()], progress=False)
    records = trainer.fit(data.ArrayDataset(x, y), epochs=5, batch_size=10)
    assert len(records) == 2
    everywhere = comm.allgather_object(records)
    assert all(theirs == records for theirs in everywhere)
    trainer.close()
