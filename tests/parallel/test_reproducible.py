"""Reproducible mode: one digest on any number of ranks; ranks are threads, or MPI's."""

import contextlib
import gc

import numpy as np
import pytest

import distdl
from distdl import data, nn, optim, parallel, train
from distdl.comm import SerialCommunicator
from distdl.core import threads
from distdl.core.errors import ArgumentError, DistdlError
from tests.parallel.thread_ranks import on_ranks, one_at_a_time

TIMES = ("seconds", "samples_per_second", "slowest_rank", "slowest_excess")
"""What a record says of speed."""


class Draws:
    """Draws of one case."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)

    def one_of(self, *values):
        return values[self.random.integers(len(values))]


def dense(draw):
    width = int(draw.one_of(5, 16, 33))
    layers = [nn.Linear(12, width), draw.one_of(nn.ReLU, nn.Tanh, nn.GELU)()]
    if draw.one_of(0, 1):
        layers.insert(1, nn.BatchNorm1d(width, momentum=draw.one_of(0.1, None)))
    if draw.one_of(0, 1):
        layers.append(nn.Dropout(0.4))
    return (12,), nn.Sequential(*layers, nn.Linear(width, 5))


def convolutional(draw):
    channels = int(draw.one_of(4, 16))
    kernel, stride = draw.one_of((3, 1), (3, 2), (1, 1))
    layers = [nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
    layers += [nn.Conv2d(channels, 16, kernel, stride=stride, padding=kernel // 2), nn.ReLU()]
    return (8, 8, 3), nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))


def rule(draw, model):
    return draw.one_of(
        lambda: optim.SGD(model, lr=0.1, momentum=0.9, weight_decay=1e-3),
        lambda: optim.Adam(model, lr=0.01),
        lambda: optim.AdamW(model, lr=0.01),
    )()


def trained(comm, case, shards, bucket_bytes=None):
    """Train what the case draws for two epochs on these ranks; return the digest and the records."""
    draw = Draws(case)
    dtype = draw.one_of("float32", "float32", "float64")
    with one_at_a_time:
        distdl.manual_seed(case)
        shape, model = draw.one_of(dense, convolutional)(draw)
    model.astype(dtype)
    rows = shards + int(draw.random.integers(40))
    x = draw.random.normal(size=(rows, *shape)).astype(dtype)
    dataset = data.ArrayDataset(x, draw.random.integers(0, 5, rows))
    batch_size = shards + int(draw.random.integers(rows))
    drawn_bytes = int(draw.one_of(100, 1000, 1 << 25))
    optimizer = parallel.DistributedOptimizer(
        rule(draw, model), comm, model=model, reproducible=True, shards=shards, bucket_bytes=bucket_bytes or drawn_bytes
    )
    trainer = train.Trainer(model, optimizer, nn.CrossEntropyLoss(), progress=False)
    records = trainer.fit(dataset, epochs=2, batch_size=batch_size, validation=dataset, seed=7)
    trainer.close()
    return parallel.digest(model), [steady(record) for record in records]


def steady(record):
    return {key: value for key, value in record.items() if key not in TIMES}


@pytest.mark.parametrize("case", range(200))
def test_random_cases_have_one_digest(case):
    """Random models, rules, batch sizes and bucket sizes train to the same bits and records on 1 and on n ranks."""
    random = np.random.default_rng(1000 + case)
    shards = 1 << int(random.integers(5))
    size = int(random.integers(1, min(shards, 8) + 1))
    expected = trained(SerialCommunicator(), case, shards, 1 << 25)
    assert on_ranks(size, lambda comm: trained(comm, case, shards)) == [expected] * size


@pytest.mark.mpi
@pytest.mark.parametrize("case", range(24))
def test_mpi_ranks_have_the_digest_of_one(comm, case):
    """What threads show holds on MPI's ranks."""
    shards = 1 << int(np.random.default_rng(case).integers((comm.size - 1).bit_length(), 5))
    assert trained(comm, case, shards) == trained(SerialCommunicator(), case, shards, 1 << 25)


def custom_loop(comm, use, rounds=1, clip=None, dropout=0.3):
    """Train by hand for six steps with three added lines; `use` says what happens within a shard."""
    with one_at_a_time:
        distdl.manual_seed(3)
        model = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 5))
    draw = np.random.default_rng(0)
    dataset = data.ArrayDataset(draw.normal(size=(96, 12)).astype(np.float32), draw.integers(0, 5, 96))
    sampler = data.GlobalBatchSampler(96, 16, comm.rank, comm.size, shards=8)
    loader = data.DataLoader(dataset, batch_sampler=sampler)
    optimizer = parallel.DistributedOptimizer(
        optim.SGD(model, lr=0.1, momentum=0.9), comm, model=model, reproducible=True
    )
    average = optim.ExponentialMovingAverage(model, decay=0.9)
    for step, (x, y) in enumerate(loader):
        if step % rounds == 0:
            optimizer.zero_grad()
        with optimizer.no_sync() if step % rounds < rounds - 1 else contextlib.nullcontext():
            for rows, labels in optimizer.each_shard(x, y):
                use(model, rows, labels)
        if step % rounds == rounds - 1:
            if clip:
                optim.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            average.update()
    optimizer.close()
    return parallel.digest(model), parallel.digest(average.averages)


def plain(model, x, y):
    nn.functional.cross_entropy(model(distdl.tensor(x)), y).backward()


def twice(model, x, y):
    """Two losses of one weight, each with a backward() of its own."""
    plain(model, x, y)
    plain(model, x + 1, y)


def by_hand(model, x, y):
    """A loss that says its weight, and reaches one layer only."""
    (model[0](distdl.tensor(x)) ** 2).mean().backward(weight=len(x))


def not_everywhere(model, x, y):
    """Some shards have no backward()."""
    if y[0] % 2:
        plain(model, x, y)


def unequal(model, x, y):
    """Rows that do not count."""
    plain(model, x, np.where(x[:, 0] > 0.5, -100, y))


LOOPS = {
    "plain": (plain, {}),
    "two losses": (twice, {}),
    "own weight": (by_hand, {}),
    "shards without backward": (not_everywhere, {}),
    "ignored rows": (unequal, {}),
    "accumulation": (plain, {"rounds": 3}),
    "clipping": (plain, {"clip": 0.1}),
}


@pytest.mark.parametrize("name", LOOPS)
def test_loops_of_ones_own_have_one_digest(name):
    """A custom loop with three added lines gives the same bits on 1, 2, 3, 5 and 8 ranks."""
    use, options = LOOPS[name]
    alone = custom_loop(SerialCommunicator(), use, **options)
    for size in (2, 3, 5, 8):
        assert on_ranks(size, lambda comm: custom_loop(comm, use, **options)) == [alone] * size


@pytest.mark.mpi
@pytest.mark.parametrize("name", LOOPS)
def test_loops_of_ones_own_have_one_digest_under_mpi(comm, name):
    """The same on MPI's ranks."""
    use, options = LOOPS[name]
    assert custom_loop(comm, use, **options) == custom_loop(SerialCommunicator(), use, **options)


def test_gradients_are_those_of_the_whole_batch():
    """Without batch norm and dropout, shards change rounding only: the gradient is that of all rows at once."""
    distdl.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 5)).astype("float64")
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(29, 12)), draw.integers(0, 5, 29)
    plain(model, x, y)
    expected = {name: p.grad.copy() for name, p in model.named_parameters()}
    optimizer = parallel.DistributedOptimizer(
        optim.SGD(model, lr=0.1), SerialCommunicator(), model=model, reproducible=True
    )
    sampler = data.GlobalBatchSampler(29, 29, shards=8, shuffle=False)
    for _ in range(2):  # in the second round shards are weighted before they are added
        for rows, labels in data.DataLoader(data.ArrayDataset(x, y), batch_sampler=sampler):
            optimizer.zero_grad()
            for part in optimizer.each_shard(rows, labels):
                plain(model, *part)
            for name, parameter in model.named_parameters():
                np.testing.assert_allclose(parameter.grad, expected[name], rtol=1e-12, atol=1e-15, err_msg=name)


def test_running_statistics_change_by_the_mean_over_shards():
    """Each shard has its own statistics; the buffers take their mean, and count one batch."""
    norm = nn.BatchNorm1d(3, momentum=0.5)
    x = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    optimizer = parallel.DistributedOptimizer(
        optim.SGD(norm, lr=0.0), SerialCommunicator(), model=norm, reproducible=True, shards=4
    )
    sampler = data.GlobalBatchSampler(16, 16, shards=4, shuffle=False)
    for (rows,) in data.DataLoader(data.ArrayDataset(x), batch_sampler=sampler):
        for part in optimizer.each_shard(rows):
            norm(distdl.tensor(part)).sum().backward()
    shards = [x[shard::4] for shard in range(4)]
    np.testing.assert_allclose(norm.running_mean, 0.5 * np.mean([s.mean(0) for s in shards], 0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(norm.running_var, 0.5 + 0.5 * np.mean([s.var(0, ddof=1) for s in shards], 0), rtol=1e-5)
    assert norm.num_batches_tracked == 1


def test_the_number_of_threads_changes_nothing(monkeypatch):
    """In reproducible mode sums are not divided among threads; outside of it they may be."""
    digests = set()
    for count in (1, 3):
        monkeypatch.setattr(threads, "_current", threads.Threads(count, "test"))
        distdl.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
        )  # fmt: skip
        draw = np.random.default_rng(0)
        dataset = data.ArrayDataset(draw.normal(size=(32, 24, 24, 3)).astype(np.float32), draw.integers(0, 5, 32))
        trainer = train.Trainer(
            model, optim.SGD(model, lr=0.1), nn.CrossEntropyLoss(), SerialCommunicator(), reproducible=True,
            progress=False, shards=2,
        )  # fmt: skip
        trainer.fit(dataset, epochs=1, batch_size=32, seed=0)
        trainer.close()
        digests.add(parallel.digest(model))
    assert len(digests) == 1


def test_the_mode_ends_with_its_optimizer():
    """Sums and BLAS are given back to all threads when the last reproducible optimizer is closed, or dropped."""
    gc.collect()
    assert not threads.sums_are_fixed()
    first, second = _loop()[1], _loop()[1]
    first.close()
    first.close()
    assert threads.sums_are_fixed()
    del second
    gc.collect()
    assert not threads.sums_are_fixed()


def _loop(shards=8):
    model = nn.Linear(4, 2)
    optimizer = parallel.DistributedOptimizer(
        optim.SGD(model, lr=0.1), SerialCommunicator(), model=model, reproducible=True
    )
    dataset = data.ArrayDataset(np.ones((16, 4), np.float32))
    sampler = data.GlobalBatchSampler(16, 16, shards=shards)
    return model, optimizer, data.DataLoader(dataset, batch_sampler=sampler)


def test_what_would_break_the_promise_is_refused():
    """Rows that no loader cut, another cut, other rows, a backward() outside of the loop: each says what to do."""
    model, optimizer, loader = _loop()
    rows = np.ones((16, 4), np.float32)
    with pytest.raises(ArgumentError, match=r"no loader gave them.*shards=8"):
        next(optimizer.each_shard(rows))
    with pytest.raises(DistdlError, match=r"backward\(\) belongs into"):
        model(distdl.tensor(rows)).sum().backward()
    for (x,) in loader:
        with pytest.raises(ArgumentError, match="the 16 rows of the batch"):
            next(optimizer.each_shard(x[:3]))
    for (x,) in _loop(shards=4)[2]:
        with pytest.raises(ArgumentError, match="cut into 4 shards"):
            next(optimizer.each_shard(x))
    with pytest.raises(ArgumentError, match="`model` must be given"):
        parallel.DistributedOptimizer(optim.SGD(nn.Linear(2, 2), lr=1.0), SerialCommunicator(), reproducible=True)
    plain_optimizer = parallel.DistributedOptimizer(optim.SGD(nn.Linear(2, 2), lr=1.0), SerialCommunicator())
    with pytest.raises(ArgumentError, match="reproducible=True"):
        plain_optimizer.each_shard(rows)
    optimizer.close()


def test_a_loop_that_was_left_is_noticed():
    """After a break step() refuses, since other ranks would wait; alone, one may begin anew."""
    model, optimizer, loader = _loop()
    for (x,) in loader:
        for part in optimizer.each_shard(x):
            model(distdl.tensor(part)).sum().backward()
            break
        with pytest.raises(DistdlError, match="left before its end"):
            optimizer.step()
        optimizer.zero_grad()
        for part in optimizer.each_shard(x):
            model(distdl.tensor(part)).sum().backward()
        np.testing.assert_allclose(model.weight.grad, 16 / 8 * np.ones((4, 2)))
    optimizer.close()


def test_losses_of_different_weights_in_one_shard_are_refused():
    """Their means could not both be exact."""
    model, optimizer, loader = _loop()
    for (x,) in loader:
        for part in optimizer.each_shard(x):
            model(distdl.tensor(part)).sum().backward(weight=2.0)
            with pytest.raises(ArgumentError, match=r"different weights \(2 and 3\)"):
                model(distdl.tensor(part)).sum().backward(weight=3.0)
    optimizer.close()
