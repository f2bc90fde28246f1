"""The trainer, alone and on several ranks."""

import io
import json
import sys

import numpy as np
import pytest

import distdl
from distdl import data, nn, optim, parallel, train
from distdl.comm import SerialCommunicator
from distdl.core.errors import ArgumentError, ArgumentTypeError, FileFormatError, MissingDataError, PeerError
from distdl.train import run as run_module


def make_data(rows=41, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 6)).astype(np.float32)
    return data.ArrayDataset(x, (x[:, 0] + x[:, 1] > 0).astype(np.int64))


def make_model():
    distdl.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))


def make_trainer(comm, **options):
    model = make_model()
    return train.Trainer(
        model,
        optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        nn.CrossEntropyLoss(),
        comm,
        progress=False,
        **options,
    )


@pytest.mark.mpi
def test_fit_learns_and_replicas_agree(comm):
    """Training shares every epoch out, learns, and leaves the same bits and records on all ranks."""
    trainer = make_trainer(comm)
    # Enough rows for batch norm, which takes the statistics of each rank's own.
    history = trainer.fit(make_data(253), epochs=12, batch_size=48, validation=make_data(30, seed=1))
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["accuracy"] > 0.85
    assert history[-1]["step"] == 12 * 6
    assert history[0]["epoch"] == 1
    assert len(set(parallel.replica_digests(trainer.model, comm))) == 1
    assert len({json.dumps(records) for records in comm.allgather_object(history)}) == 1


@pytest.mark.mpi
def test_dropout_and_shuffling_do_not_depend_on_the_ranks(comm):
    """Without batch norm, n ranks train to the weights of one, dropout and a short last batch included."""

    weights = []
    for ranks in (comm, SerialCommunicator()):
        distdl.manual_seed(1)
        model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2)).astype("float64")
        x, y = make_data().arrays
        trainer = train.Trainer(model, optim.SGD(model, lr=0.1), nn.CrossEntropyLoss(), ranks, progress=False)
        trainer.fit(data.ArrayDataset(x.astype(np.float64), y), epochs=3, batch_size=8)
        weights.append(np.concatenate([array.ravel() for array in model.state_dict().values()]))
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-11, atol=1e-13)


@pytest.mark.mpi
def test_evaluation_counts_every_sample_once(comm):
    """The accuracy over ranks is that of the whole set on one rank."""
    trainer = make_trainer(comm, metrics=[train.Accuracy(), train.ConfusionMatrix(2)])
    dataset = make_data(29)
    results = trainer.evaluate(dataset, batch_size=8)
    x, y = dataset.arrays
    with distdl.no_grad():
        predicted = trainer.model.eval()(distdl.tensor(x)).argmax(axis=1)
    assert results["accuracy"] == (predicted == y).mean()
    assert np.sum(results["confusion"]) == 29
    assert results["loss"] > 0


@pytest.mark.mpi
def test_a_run_leaves_log_weights_and_curve(comm, tmp_path):
    """The directory holds the log, the last and best weights, and the picture."""
    directory = tmp_path if comm.size == 1 else type(tmp_path)(comm.broadcast_object(str(tmp_path)))
    trainer = make_trainer(comm, run=directory / "run")
    history = trainer.fit(make_data(), epochs=3, batch_size=16, validation=make_data(20, seed=1))
    comm.barrier()
    head, *records = (json.loads(line) for line in (directory / "run" / "log.jsonl").read_text().splitlines())
    assert head["ranks"] == comm.size
    assert head["batch_size"] == 16
    assert [record["validation_accuracy"] for record in records] == [r["validation_accuracy"] for r in history]
    assert (directory / "run" / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    model = make_model()
    train.load_weights(model, directory / "run" / "last.safetensors")
    assert parallel.digest(model) == parallel.digest(trainer.model)
    assert (directory / "run" / "best.safetensors").is_file()
    comm.barrier()


@pytest.mark.mpi
def test_early_stopping_stops_all_ranks(comm):
    """All ranks stop after the same epoch when nothing improves."""
    trainer = make_trainer(comm, callbacks=[train.EarlyStopping(1, monitor="loss", min_delta=100.0)])
    trainer.fit(make_data(), epochs=10, batch_size=8)
    assert comm.allgather_object(len(trainer.history)) == [3] * comm.size


def test_schedules_step(comm):
    """Schedules step by step or by epoch, and see the metric that they watch."""
    model = make_model()
    optimizer = optim.SGD(model.parameters(), lr=1e-9)
    plateau = optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.9)
    trainer = train.Trainer(
        model,
        optimizer,
        nn.CrossEntropyLoss(),
        comm,
        callbacks=[train.Schedule(plateau, monitor="loss")],
        progress=False,
    )
    history = trainer.fit(make_data(), epochs=3, batch_size=8)
    assert history[-1]["lr"] < 1e-9
    schedule = optim.StepLR(optimizer, 1, gamma=0.5)
    trainer.callbacks = [train.Schedule(schedule, every="step")]
    trainer.fit(make_data(), batch_size=8)
    assert schedule.last_epoch == 6
    with pytest.raises(ArgumentError, match="`every`"):
        train.Schedule(plateau, every="step", monitor="loss")
    with pytest.raises(ArgumentError, match="`monitor`"):
        train.EarlyStopping(1, monitor="nothing").on_epoch_end(trainer, {"loss": 1.0})


def test_a_loader_of_ones_own(comm):
    """A loader is taken as this rank's, and any iterable of batches is one."""
    trainer = make_trainer(comm)
    dataset = make_data(24)
    sampler = data.DistributedSampler(dataset, rank=comm.rank, size=comm.size)
    loader = data.DataLoader(dataset, batch_size=4, sampler=sampler)
    assert trainer.fit(loader, epochs=2)[-1]["step"] == 2 * len(loader)
    assert trainer.evaluate(iter([dataset.arrays]))["loss"] > 0
    with pytest.raises(ArgumentError, match="`batch_size`"):
        trainer.fit(loader, batch_size=4)


def test_progress_without_a_terminal(comm, capsys, monkeypatch):
    """Each epoch is a line on stderr, and a long one says in between how far it is."""
    monkeypatch.setattr("distdl.train.progress.LINE_SECONDS", 0.0)
    model = make_model()
    train.Trainer(model, optim.SGD(model, lr=0.1), nn.CrossEntropyLoss(), comm).fit(make_data(), 2, batch_size=8)
    error = capsys.readouterr().err
    assert "epoch 1/2  loss" in error
    assert "step 3/6" in error
    assert "samples/s" in error


@pytest.mark.parametrize(("seconds", "excess", "named"), [(5.0, 0.5, True), (5.0, 0.1, False), (0.5, 0.5, False)])
def test_a_slow_rank_is_named_after_an_epoch(seconds, excess, named):
    """If it is much slower than the others, over an epoch that is long enough to tell."""
    record = {"epoch": 1, "step": 4, "loss": 0.5, "lr": 0.1, "seconds": seconds, "samples_per_second": 9.0}
    said = train.progress.line({**record, "slowest_rank": 3, "slowest_excess": excess})
    assert said.startswith("loss 0.5000  9 samples/s")
    assert ("rank 3 computes 50% longer than the median" in said) == named


def test_progress_on_a_terminal(comm, monkeypatch):
    """On a terminal there is a bar with the samples of all ranks."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    model = make_model()
    trainer = train.Trainer(model, optim.SGD(model, lr=0.1), nn.CrossEntropyLoss(), comm)
    trainer.fit(make_data(), 1, batch_size=8)
    assert "/41.0" in terminal.getvalue()
    assert "epoch 1/1  loss" in terminal.getvalue()


def test_without_matplotlib_the_curve_is_left_out_aloud(comm, tmp_path, monkeypatch, capsys):
    """A missing matplotlib costs the picture only, and says so."""

    def missing(history, path):
        raise ModuleNotFoundError("No module named 'matplotlib'")

    monkeypatch.setattr(run_module, "draw_learning_curve", missing)
    make_trainer(comm, run=tmp_path).fit(make_data(), 1, batch_size=8)
    if comm.rank == 0:
        assert "pip install distdl[examples]" in capsys.readouterr().err


def test_runs_are_named_below_runs(comm, tmp_path, monkeypatch):
    """A run with a plain name goes to runs/NAME."""
    monkeypatch.chdir(tmp_path)
    make_trainer(comm, run="first").fit(make_data(), 1, batch_size=8)
    assert comm.rank or (tmp_path / "runs" / "first" / "log.jsonl").is_file()


def pair_of_outputs(trainer):
    """Return a trainer whose model returns two tensors."""
    trainer.model.register_forward_hook(lambda module, inputs, outputs: (outputs, outputs))
    return trainer


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda t: t.fit(make_data(), epochs=0, batch_size=8), ArgumentError, "`epochs`"),
        (lambda t: t.fit(make_data()), ArgumentError, "`batch_size`"),
        (lambda t: t.fit(make_data(), batch_size=-1), ArgumentError, "`batch_size`"),
        (lambda t: t.fit((np.zeros((3, 6)), np.zeros(3)), batch_size=2), ArgumentTypeError, "ArrayDataset"),
        (lambda t: t.evaluate([np.zeros((3, 6)), np.zeros(3)]), ArgumentTypeError, "ArrayDataset"),
        (
            lambda t: t.fit(make_data(), batch_size=8, transform=lambda x: x.fill(0)),
            ArgumentTypeError,
            "`transform` .* must return what it makes",
        ),
        (lambda t: pair_of_outputs(t).fit(make_data(), batch_size=8), ArgumentTypeError, "`model` .*one tensor"),
        (lambda t: train.Trainer(object(), t.optimizer, t.loss), ArgumentTypeError, "`model`"),
        (lambda t: train.Trainer(t.model, t.optimizer, None), ArgumentTypeError, "`loss`"),
        (lambda t: train.Trainer(t.model, t.optimizer, t.loss, reproducible=True, shards=3), ArgumentError, "`shards`"),
        (
            lambda t: train.Trainer(t.model, t.optimizer, t.loss, distdl.comm.SerialCommunicator()),
            ArgumentError,
            "comm",
        ),
    ],
)
def test_bad_arguments_are_named(comm, use, error, message):
    """Wrong arguments are refused before anything is trained."""
    with pytest.raises(error, match=message):
        use(make_trainer(comm))


@pytest.mark.parametrize(
    ("loss", "columns", "measured"),
    [(nn.MSELoss(), 2, False), (lambda y, t: ((y - t) ** 2).mean(), 1, False), (nn.functional.cross_entropy, 2, True)],
)
def test_a_regression_has_no_accuracy(comm, loss, columns, measured):
    """Nobody asked for it, and it would mean nothing."""
    x = np.ones((8, 6), np.float32)
    model = nn.Linear(6, columns)
    trainer = train.Trainer(model, optim.SGD(model, lr=0.01), loss, comm, progress=False)
    (record,) = trainer.fit(data.ArrayDataset(x, np.ones((8, columns), np.float32) / columns), batch_size=4)
    assert ("accuracy" in record) == measured


def test_damaged_weights_are_refused(tmp_path):
    """A truncated file of weights is named, and so is one of another model, a directory, and none at all."""
    with pytest.raises(FileFormatError, match="must be a regular file"):
        train.load_weights(make_model(), tmp_path)
    with pytest.raises(MissingDataError, match="no such file"):
        train.load_weights(make_model(), tmp_path / "none")
    with pytest.raises(MissingDataError, match="there is no directory"):
        train.save_weights(make_model(), tmp_path / "none" / "weights.safetensors")
    path = tmp_path / "weights.safetensors"
    train.save_weights(make_model(), path, {"epoch": 3})
    with pytest.raises(ArgumentError, match="missing names"):
        train.load_weights(nn.Linear(2, 2), path)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(FileFormatError, match=r"weights\.safetensors"):
        train.load_weights(make_model(), path)


def test_draws_of_a_model_with_two_dropouts_differ():
    """Two dropout layers, and two uses of one, drop different values of a sample."""
    distdl.manual_seed(0)
    first, second = nn.Dropout(0.5), nn.Dropout(0.5)
    x = distdl.tensor(np.ones((4, 64), np.float32))
    masks = [layer(x).data for layer in (first, second, first)]
    assert not any((a == b).all() for i, a in enumerate(masks) for b in masks[:i])


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("what", ["steps", "rows"])
def test_ranks_that_would_take_other_steps_are_refused(comm, what):
    """Loaders and data sets of different lengths are an error that names the ranks, not a hang."""
    rows = (48 if comm.rank else 40) if what == "steps" else 40 - min(comm.rank, 1)
    source = make_data(rows)
    loader = data.DataLoader(source, batch_size=8) if what == "steps" else source
    with pytest.raises(PeerError, match=rf"rank 0 has {what} = \d+ an epoch, rank 1 has \d+"):
        make_trainer(comm).fit(loader, batch_size=None if what == "steps" else 8)


@pytest.mark.mpi
def test_a_hand_written_mean_counts_by_rows(comm):
    """A loss that says nothing of its denominator trains n ranks to the weights of one, short shares included."""
    weights = []
    for ranks in (comm, SerialCommunicator()):
        distdl.manual_seed(1)
        model = nn.Linear(6, 1).astype("float64")
        x, y = make_data(13).arrays
        rows = data.ArrayDataset(x.astype(np.float64), y.astype(np.float64)[:, None])

        def loss(outputs, targets):
            return ((outputs - distdl.tensor(targets)) ** 2).mean()

        trainer = train.Trainer(model, optim.SGD(model, lr=0.1), loss, ranks, progress=False, metrics=[])
        trainer.fit(rows, epochs=2, batch_size=5)
        weights.append(model.weight.data.copy())
    np.testing.assert_allclose(*weights, rtol=1e-11)


@pytest.mark.mpi
def test_running_statistics_agree_after_a_fit(comm):
    """Batch norm's buffers are the same on all ranks after fit(), without validation too."""
    trainer = make_trainer(comm)
    trainer.fit(make_data(64), epochs=1, batch_size=16)
    assert len(set(parallel.replica_digests(trainer.model, comm))) == 1


@pytest.mark.mpi
def test_the_seed_of_a_fit_is_rank_0s(comm):
    """Ranks that were seeded apart after they were wrapped still share out each epoch."""
    trainer = make_trainer(comm)
    seen = []
    distdl.manual_seed(10 + comm.rank)
    numbered = data.ArrayDataset(np.arange(24, dtype=np.float32)[:, None].repeat(6, 1), np.zeros(24, np.int64))
    trainer.fit(numbered, batch_size=8, transform=lambda x: seen.extend(x[:, 0].tolist()) or x)
    assert sorted(x for share in comm.allgather_object(seen) for x in share) == list(range(24))


def test_a_loss_that_is_no_number_is_null_in_the_log(tmp_path):
    """log.jsonl stays valid JSON."""
    trainer = make_trainer(SerialCommunicator(), run=tmp_path / "run")
    source = make_data(16)
    source.arrays[0][:] = np.nan
    trainer.fit(source, batch_size=16)
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    record = json.loads(lines[-1], parse_constant=lambda name: pytest.fail(name))
    assert record["loss"] is None
    assert record["accuracy"] == 0.0


def test_a_second_trainer_takes_a_model_that_was_given_back():
    """After close() another trainer may be made; before, the message says what to close."""
    model = make_model()

    def make():
        return train.Trainer(
            model, optim.SGD(model, lr=0.1), nn.CrossEntropyLoss(), SerialCommunicator(), progress=False
        )

    first = make()
    first.fit(make_data(), batch_size=16)
    with pytest.raises(ArgumentError, match="or the trainer or distributed optimizer that holds it"):
        make()
    first.close()
    assert make().fit(make_data(), batch_size=16)[0]["loss"] > 0


def test_an_optimizer_of_another_model_is_refused():
    """Nothing would be trained."""
    with pytest.raises(ArgumentError, match=r"`optimizer` \(='SGD'\) holds none of the parameters of `model`"):
        train.Trainer(make_model(), optim.SGD(make_model(), lr=0.1), nn.CrossEntropyLoss(), SerialCommunicator())
