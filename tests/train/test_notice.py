"""A fit that is told that the end is near leaves after a step, with a checkpoint."""

import os
import signal
from datetime import timedelta

import numpy as np
import pytest

import distdl
from distdl import data, nn, optim, train
from distdl.core.errors import ArgumentError
from distdl.train.checkpoint import list_checkpoints, read_checkpoint
from distdl.train.notice import Notice


def images():
    random = np.random.default_rng(0)
    return data.ArrayDataset(random.normal(size=(48, 4)).astype(np.float32), random.integers(0, 3, 48))


def make_trainer(*callbacks, comm=None, reproducible=False):
    distdl.manual_seed(4)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1), nn.ReLU(), nn.Linear(8, 3))
    return train.Trainer(
        model, optim.SGD(model, lr=0.1), nn.CrossEntropyLoss(), comm, callbacks, reproducible, progress=False
    )


class Tell(train.Callback):
    """Sends this process a signal after a step."""

    def __init__(self, step, number, rank=0):
        self.step, self.number, self.rank = step, number, rank

    def on_step_end(self, trainer, loss, rows):
        if trainer.step == self.step and trainer.comm.rank == self.rank:
            os.kill(os.getpid(), self.number)


class Average(train.Callback):
    """Keeps a moving average of the weights, which goes into checkpoints."""

    def __init__(self):
        self.average = None

    def on_fit_start(self, trainer):
        if self.average is None:
            self.average = optim.ExponentialMovingAverage(trainer.model, 0.9)

    def on_step_end(self, trainer, loss, rows):
        self.average.update()

    def state_dict(self):
        return self.average.state_dict()

    def load_state_dict(self, state):
        self.average = optim.ExponentialMovingAverage(self.model, 0.9)
        self.average.load_state_dict(state)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_the_script_after_a_checkpoint(tmp_path, capfd, number):
    """With the exit code 75; the handlers from before are back."""
    before = signal.getsignal(number)
    trainer = make_trainer(Tell(5, number))
    with pytest.raises(train.Preempted) as caught:
        trainer.fit(images(), 3, 12, checkpoints=tmp_path)
    assert (caught.value.code, caught.value.step, caught.value.reason) == (75, 6, f"{number.name} on rank 0")
    assert signal.getsignal(number) == before
    assert list_checkpoints(tmp_path)[0].name == "checkpoint-0000000006"
    assert f"{number.name} on rank 0: leaving with exit code 75, to go on from step 6 in" in capfd.readouterr().err


def test_a_signal_at_the_end_of_an_epoch(tmp_path):
    """One checkpoint is taken; the fit goes on with the next epoch."""
    trainer = make_trainer(Tell(4, signal.SIGTERM))
    with pytest.raises(train.Preempted) as caught:
        trainer.fit(images(), 2, 12, checkpoints=tmp_path)
    assert caught.value.step == 4
    assert read_checkpoint(list_checkpoints(tmp_path)[0]).state["epoch"] == 1
    assert len(make_trainer(Tell(0, signal.SIGTERM)).fit(images(), 2, 12, checkpoints=tmp_path, resume="auto")) == 2


def test_a_signal_after_a_fit_is_kept_for_the_next(tmp_path):
    before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    try:
        make_trainer().fit(images(), 2, 12, checkpoints=tmp_path / "first")
        os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(train.Preempted) as caught:
            make_trainer().fit(images(), 2, 12, checkpoints=tmp_path / "second")
        assert (caught.value.step, caught.value.reason) == (2, "SIGUSR1 on rank 0")
        assert len(make_trainer().fit(images(), 2, 12, checkpoints=tmp_path / "second", resume="auto")) == 2
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_handler_of_the_script_is_put_back(tmp_path):
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        make_trainer().fit(images(), 1, 12, checkpoints=tmp_path)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_wrong_limit_leaves_the_directory_free(tmp_path):
    with pytest.raises(ArgumentError, match="`max_time`") as caught:
        make_trainer().fit(images(), 1, 12, checkpoints=tmp_path, max_time=-1.0)
    # Who keeps the error, as a notebook does, keeps what was made until it was raised.
    assert caught.value.__traceback__ is not None
    make_trainer().fit(images(), 1, 12, checkpoints=tmp_path)


@pytest.mark.parametrize("limit", [1e-9, timedelta(microseconds=1)])
def test_a_limit_of_time_is_a_notice(tmp_path, limit):
    """The step in progress when it is over is not the last: all must hear of it first."""
    with pytest.raises(train.Preempted, match="75") as caught:
        make_trainer().fit(images(), 2, 12, checkpoints=tmp_path, max_time=limit)
    assert caught.value.reason.startswith("max_time of 1e-")
    assert caught.value.step == 2


def test_a_limit_that_is_not_reached_changes_nothing(tmp_path):
    assert len(make_trainer().fit(images(), 2, 12, checkpoints=tmp_path, max_time=3600)) == 2


def test_what_needs_a_directory_says_so():
    with pytest.raises(ArgumentError, match="must be a directory where `max_time` is given"):
        make_trainer().fit(images(), 1, 12, max_time=10)
    with pytest.raises(ArgumentError, match="`max_time`"):
        Notice(-1.0)


@pytest.mark.mpi
@pytest.mark.parametrize("reproducible", [False, True])
def test_all_ranks_leave_after_the_same_step(comm, tmp_path, reproducible):
    """Whichever was told."""
    directory = comm.broadcast_object(str(tmp_path))
    last = comm.size - 1
    trainer = make_trainer(Tell(5, signal.SIGUSR1, last), comm=comm, reproducible=reproducible)
    with pytest.raises(train.Preempted) as caught:
        trainer.fit(images(), 3, 12, checkpoints=directory)
    trainer.close()
    assert (caught.value.step, caught.value.reason) == (6, f"SIGUSR1 on rank {last}")


def test_the_directory_of_the_environment(tmp_path, monkeypatch):
    """The fits of a script have their own, and find them again."""
    monkeypatch.setenv("DISTDL_CHECKPOINT_DIR", str(tmp_path))
    monkeypatch.setattr("distdl.train.resume._Fits.count", 0)
    first, second = (make_trainer().fit(images(), epochs, 12) for epochs in (1, 2))
    assert list_checkpoints(tmp_path)[0].name == "checkpoint-0000000004"
    assert list_checkpoints(tmp_path / "fit-2")[0].name == "checkpoint-0000000008"
    monkeypatch.setattr("distdl.train.resume._Fits.count", 0)
    assert [make_trainer().fit(images(), epochs, 12) for epochs in (1, 2)] == [first, second]


def test_the_best_checkpoint_stays(tmp_path):
    """Beside the newest, under a name of its own; also over a resumption."""

    class Worse(train.Callback):
        def on_epoch_end(self, trainer, record):
            record["score"] = -abs(record["epoch"] - 2)

    for epochs in (4, 7):
        trainer = make_trainer(Worse())
        trainer.fit(images(), epochs, 12, checkpoints=tmp_path, keep=1, resume="auto", best=train.Best("score"))
        steps = [int(path.name[-10:]) for path in list_checkpoints(tmp_path)]
        assert steps == [4 * epochs, 8]
        assert (tmp_path / "best").resolve() == list_checkpoints(tmp_path)[1]
        assert read_checkpoint(tmp_path / "best").step == 8


def test_arrays_of_callbacks_are_kept(tmp_path):
    """A moving average of the weights goes on as if nothing had been."""
    whole = Average()
    make_trainer(whole).fit(images(), 3, 12, checkpoints=tmp_path / "whole")
    trainer = make_trainer(Average(), Tell(5, signal.SIGTERM))
    with pytest.raises(train.Preempted):
        trainer.fit(images(), 3, 12, checkpoints=tmp_path / "parts")
    resumed = Average()
    trainer = make_trainer(resumed, Tell(0, signal.SIGTERM))
    resumed.model = trainer.model
    trainer.fit(images(), 3, 12, checkpoints=tmp_path / "parts", resume="auto")
    assert resumed.average.updates == whole.average.updates == 12
    for name, array in whole.average.averages.items():
        np.testing.assert_array_equal(resumed.average.averages[name], array)
