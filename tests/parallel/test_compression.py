"""Compression hooks: gradients over nodes with fewer bytes, the same bits on all ranks, and nothing lost for good."""

import numpy as np
import pytest

import distdl
from distdl import nn, optim, parallel
from distdl.comm import SerialCommunicator, nodes
from distdl.core.errors import ArgumentError, ArgumentTypeError, DistdlError, PeerError
from distdl.parallel.compression import BF16, HOOKS, Gradients, Hook, PowerSGD, TopK
from tests.parallel.thread_ranks import on_ranks, one_at_a_time

NAMES = sorted(HOOKS)

# How many ranks, and for each its node.
LAYOUTS = {
    "2 nodes": (2, lambda rank: rank),
    "3 nodes": (3, lambda rank: rank),
    "4 nodes": (4, lambda rank: rank),
    "2 nodes of 2": (4, lambda rank: rank // 2),
    "nodes of 2 and 1": (3, lambda rank: rank // 2),
    "2 nodes in turn": (4, lambda rank: rank % 2),
}


def make_model():
    with one_at_a_time:
        distdl.manual_seed(3)
        return nn.Sequential(nn.Linear(40, 48), nn.Tanh(), nn.Linear(48, 30), nn.Tanh(), nn.Linear(30, 5))


def batch(step, rank, rows=None):
    """Rows of a rank, more or fewer by step and rank, with labels that can be learnt."""
    rng = np.random.default_rng([step, rank])
    count = int(rng.integers(1, 9)) if rows is None else rows
    x = rng.standard_normal((count, 40)).astype(np.float32)
    return x, x[:, :5].argmax(axis=1)


def gradients_of(model):
    return np.concatenate([p.grad.ravel() for p in model.parameters()])


class Replica:
    """A model whose gradients are reduced with a hook, and those that whole reductions give beside it."""

    def __init__(self, comm, compression, **options):
        self.comm = comm
        self.model, self.twin = make_model(), make_model()
        options = {"overlap": False, **options}
        self.synchronizer = parallel.GradientSynchronizer(self.model, comm, compression=compression, **options)
        self.whole = parallel.GradientSynchronizer(self.twin, comm, overlap=False)

    def step(self, step, rows=None):
        """Return the gradients of a step: compressed, and whole."""
        x, y = batch(step, self.comm.rank, rows)
        for model, synchronizer in ((self.model, self.synchronizer), (self.twin, self.whole)):
            for p in model.parameters():
                p.grad = None
            nn.functional.cross_entropy(model(distdl.tensor(x)), y).backward()
            synchronizer.stepped()
        return gradients_of(self.model), gradients_of(self.twin)

    def kept(self):
        """Return what all ranks together keep for later, as the gradients lie; zeros for what is sent exactly."""
        state = self.synchronizer.compression_state()
        state = {key: np.asarray(value) for key, value in state.items() if key.startswith("residual/")}
        parts = [state.get(f"residual/{name}", np.zeros(p.shape)).ravel() for name, p in self.model.named_parameters()]
        return np.concatenate(parts)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_all_ranks_get_the_same_bits(name, layout):
    """Wherever ranks are, and however many rows each has, gradients are the same on all of them after every step."""
    size, node_of = LAYOUTS[layout]

    def run(comm):
        replica = Replica(comm, name)
        assert replica.synchronizer.compression.name == name
        return np.stack([replica.step(step)[0] for step in range(4)])

    found = on_ranks(size, run, node_of)
    assert np.isfinite(found[0]).all()
    assert all(other.tobytes() == found[0].tobytes() for other in found)


@pytest.mark.parametrize("layout", ["2 nodes", "nodes of 2 and 1", "4 nodes"])
@pytest.mark.parametrize(("name", "tolerance"), [("bf16", 2**-7), ("fp16", 2**-10)])
def test_halves_round_each_gradient_twice(name, tolerance, layout):
    """A gradient is off by no more than two roundings of the nodes' shares."""
    size, node_of = LAYOUTS[layout]

    def run(comm):
        replica = Replica(comm, name)
        return [replica.step(step) for step in range(3)]

    for compressed, whole in on_ranks(size, run, node_of)[0]:
        # fp16 has its least step at 2 ** -24.
        np.testing.assert_allclose(compressed, whole, rtol=0, atol=tolerance * np.abs(whole).max() + 2**-23)
        assert (compressed != whole).any()


@pytest.mark.parametrize("layout", ["2 nodes", "3 nodes", "nodes of 2 and 1"])
@pytest.mark.parametrize("name", ["powersgd", "topk"])
def test_what_is_not_sent_is_kept(name, layout):
    """The sum of all compressed gradients, with what the ranks keep, is the sum of all gradients."""
    size, node_of = LAYOUTS[layout]

    def run(comm):
        replica = Replica(comm, name)
        steps = np.array([replica.step(step) for step in range(12)], np.float64)
        return steps.sum(axis=0), replica.kept()

    results = on_ranks(size, run, node_of)
    (compressed, whole), kept = results[0]
    assert np.linalg.norm(compressed - whole) > 0.02 * np.linalg.norm(whole)
    assert np.linalg.norm(compressed + kept - whole) < 1e-5 * np.linalg.norm(whole)


def test_powersgd_is_exact_where_the_rank_is_enough():
    """Gradients of few rows have a low rank, and vectors are sent as they are: after some steps nothing is lost."""

    def run(comm):
        replica = Replica(comm, PowerSGD(4))
        for _ in range(30):
            compressed, whole = replica.step(0, rows=1)
        return compressed, whole

    compressed, whole = on_ranks(2, run, LAYOUTS["2 nodes"][1])[0]
    np.testing.assert_allclose(compressed, whole, rtol=1e-4, atol=1e-6)


def reduced(hook, *arrays):
    """Return what a hook makes of gradients on one node, step by step."""
    flat = np.zeros(arrays[0].size, np.float32)
    gradients = Gradients(0, flat, ["weight"], [flat.reshape(arrays[0].shape)])
    hook.prepare([gradients], SerialCommunicator())
    result = []
    for array in arrays:
        gradients.arrays[0][...] = array
        hook.reduce(gradients, SerialCommunicator())
        result.append(gradients.arrays[0].copy())
    return result


def test_powersgd_takes_kernels_of_convolutions_as_matrices_of_outputs():
    """A kernel (height, width, inputs, outputs) of rank 1 in its last axis comes back from a hook of rank 1."""
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((3, 3, 8, 1)) * rng.standard_normal(32)
    found = reduced(PowerSGD(1), kernel)[0]
    np.testing.assert_allclose(found, kernel, rtol=1e-4, atol=1e-5)
    other = reduced(PowerSGD(1), np.moveaxis(kernel, -1, 0) + rng.standard_normal((32, 3, 3, 8)))[0]
    assert np.linalg.matrix_rank(other.reshape(-1, 8)) == 1


def test_powersgd_lives_on_after_gradients_of_0():
    """Where nothing came the power iteration starts anew: the next gradient is sent."""
    matrix = np.outer(np.arange(1, 61), np.arange(1, 41)).astype(np.float32)
    nothing, _, found = reduced(PowerSGD(4), 0 * matrix, 0 * matrix, matrix)
    assert not nothing.any()
    np.testing.assert_allclose(found, matrix, rtol=1e-4)


def test_topk_sends_the_greatest_gradients():
    """Of a rank the share that is greatest by size, as it is, and nothing else."""

    def run(comm):
        replica = Replica(comm, TopK(0.05))
        x, y = batch(0, 0, 5)
        nn.functional.cross_entropy(replica.model(distdl.tensor(x)), y).backward()
        nn.functional.cross_entropy(replica.twin(distdl.tensor(x)), y).backward()
        return gradients_of(replica.model), gradients_of(replica.twin)

    compressed, whole = on_ranks(2, run, LAYOUTS["2 nodes"][1])[0]
    count = int(np.ceil(0.05 * whole.size))
    greatest = np.argsort(-np.abs(whole), kind="stable")[:count]
    assert set(np.flatnonzero(compressed)) == set(greatest)
    np.testing.assert_allclose(compressed[greatest], whole[greatest], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_a_bad_gradient_leaves_the_step_out_on_all_ranks(name, bad, capsys):
    """One rank's NaN or infinity shows on all, and nothing of it is kept: later steps are as good as before."""

    def run(comm):
        model = make_model()
        optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), comm, compression=name)
        for step in range(4):
            x, y = batch(step, comm.rank)
            if step == 1 and comm.rank == 1:
                x[0, 0] = bad
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(distdl.tensor(x)), y).backward()
            optimizer.step()
        return optimizer.skipped, parallel.digest(model), gradients_of(model)

    found = on_ranks(2, run, LAYOUTS["2 nodes"][1])
    assert [skipped for skipped, *_ in found] == [1, 1]
    assert found[0][1] == found[1][1]
    assert np.isfinite(found[0][2]).all()
    assert capsys.readouterr().err.count("step 2 is left out on all ranks") == 1


@pytest.mark.parametrize("name", [None, *NAMES])
def test_training_converges(name):
    """A small task is learnt with each hook to nearly the loss that is reached without."""

    def run(comm):
        model = make_model()
        hook = TopK(0.05) if name == "topk" else name
        optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.2, momentum=0.8), comm, compression=hook)
        for step in range(250):
            x, y = batch(step, comm.rank, 32)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(distdl.tensor(x)), y)
            loss.backward()
            optimizer.step()
        x, y = batch(1000, 0, 500)
        return float(nn.functional.cross_entropy(model(distdl.tensor(x)), y).item())

    losses = on_ranks(2, run, LAYOUTS["2 nodes"][1])
    assert losses[0] == losses[1]
    assert losses[0] < 0.45


@pytest.mark.parametrize("name", NAMES)
def test_buckets_and_overlap_go_together_with_hooks(name):
    """Several buckets are compressed one by one, during backward() to the same bits as after it."""

    def run(comm, overlap):
        replica = Replica(comm, name, overlap=overlap, bucket_bytes=4000)
        assert len(replica.synchronizer.buckets) > 1
        return np.stack([replica.step(step)[0] for step in range(3)])

    after, during = (
        on_ranks(3, lambda comm, o=overlap: run(comm, o), LAYOUTS["nodes of 2 and 1"][1]) for overlap in (False, True)
    )
    assert all(found.tobytes() == after[0].tobytes() for found in (*after, *during))


def test_several_backwards_and_a_rank_without_rows():
    """What was accumulated, and steps in which a rank has nothing, are reduced like any other."""

    def run(comm):
        replica = Replica(comm, BF16())
        x, y = batch(0, comm.rank, 4)
        for model, synchronizer in ((replica.model, replica.synchronizer), (replica.twin, replica.whole)):
            with synchronizer.no_sync():
                nn.functional.cross_entropy(model(distdl.tensor(x)), y).backward()
            if comm.rank:
                nn.functional.cross_entropy(model(distdl.tensor(x)), y).backward()
            synchronizer.settle()
        return gradients_of(replica.model), gradients_of(replica.twin)

    compressed, whole = on_ranks(2, run, LAYOUTS["2 nodes"][1])[0]
    np.testing.assert_allclose(compressed, whole, rtol=0, atol=2**-7 * np.abs(whole).max())


@pytest.mark.parametrize("name", ["powersgd", "topk"])
def test_state_goes_over_to_another_number_of_nodes(name):
    """The sum of what ranks keep is kept: results and the rest, over both runs, are still the sum of all gradients."""

    def first(comm):
        replica = Replica(comm, name)
        steps = np.array([replica.step(step) for step in range(5)], np.float64)
        return steps.sum(axis=0), replica.synchronizer.compression_state()

    (before, state), *_ = on_ranks(2, first, LAYOUTS["2 nodes"][1])

    def second(comm):
        replica = Replica(comm, name)
        replica.synchronizer.load_compression_state(state)
        steps = np.array([replica.step(step) for step in range(5, 9)], np.float64)
        return steps.sum(axis=0), replica.kept()

    (after, kept), *_ = on_ranks(3, second, LAYOUTS["3 nodes"][1])
    compressed, whole = before + after
    assert np.linalg.norm(compressed + kept - whole) < 1e-5 * np.linalg.norm(whole)


@pytest.mark.parametrize("name", ["powersgd", "topk"])
def test_a_run_that_starts_from_a_state_goes_on_as_the_one_that_gave_it(name):
    """Bit by bit, on as many nodes."""

    def whole(comm):
        replica = Replica(comm, name)
        for step in range(4):
            replica.step(step)
        state = replica.synchronizer.compression_state(), replica.synchronizer.mean_weight
        return state, np.stack([replica.step(step)[0] for step in range(4, 8)])

    ((state, mean_weight), expected), *_ = on_ranks(3, whole, LAYOUTS["nodes of 2 and 1"][1])

    def resumed(comm):
        replica = Replica(comm, name)
        replica.synchronizer.mean_weight = mean_weight
        replica.synchronizer.load_compression_state(state)
        return np.stack([replica.step(step)[0] for step in range(4, 8)])

    for found in on_ranks(3, resumed, LAYOUTS["nodes of 2 and 1"][1]):
        assert found.tobytes() == expected.tobytes()


def test_states_of_others_are_refused():
    """Of other settings, other parameters, or another hook."""

    def run(comm):
        synchronizer = Replica(comm, PowerSGD(2)).synchronizer
        state = synchronizer.compression_state()
        with pytest.raises(ArgumentError, match=r"`state` is of another PowerSGD: .* \(30, 2\), not \(30, 4\)"):
            Replica(comm, PowerSGD(4)).synchronizer.load_compression_state(state)
        with pytest.raises(ArgumentError, match=r"the residual of '4.bias' is missing"):
            Replica(comm, "topk").synchronizer.load_compression_state(state)
        with pytest.raises(ArgumentError, match=r"`state` holds .*; compression 'bf16' has none"):
            Replica(comm, "bf16").synchronizer.load_compression_state(state)

    on_ranks(2, run, LAYOUTS["2 nodes"][1])


def test_on_one_node_nothing_is_compressed():
    """Its memory is fast, and exact: the hook is not called, and gradients are the bits of whole reductions."""

    def run(comm):
        replica = Replica(comm, "topk")
        assert replica.synchronizer.compression is None
        assert replica.synchronizer.compression_state() == {}
        return replica.step(0)

    for compressed, whole in on_ranks(2, run):
        assert compressed.tobytes() == whole.tobytes()


class Signs(Hook):
    """A third party's: signs of gradients, with their mean size, and no error feedback."""

    name = "signs"

    def reduce(self, gradients, comm):
        for array in gradients.arrays:
            size = np.float32(np.abs(array).mean())
            total = comm.allreduce(np.sign(array) * size, label="signs")
            array[...] = total


class Nameless(Hook):
    def reduce(self, gradients, comm):
        pass


class Shy(Signs):
    def reduce(self, gradients, comm):
        raise RuntimeError("not today")


def test_a_hook_of_a_third_party_is_used():
    """A subclass of `Hook` needs a name and `reduce`."""

    def run(comm):
        replica = Replica(comm, Signs())
        assert replica.synchronizer.compression.name == "signs"
        gradients = replica.step(0, rows=4)[0]
        return gradients, {float(value) for value in np.abs(replica.model[4].bias.grad)}

    found = on_ranks(2, run, LAYOUTS["2 nodes"][1])
    assert found[0][0].tobytes() == found[1][0].tobytes()
    # The sum or the difference of two sizes.
    assert len(found[0][1]) <= 2


@pytest.mark.parametrize("overlap", [False, True])
def test_what_a_hook_raises_is_raised_by_backward(overlap):
    """On the ranks where it happens; the job ends there as after any error."""

    def run(comm):
        replica = Replica(comm, Shy(), overlap=overlap, bucket_bytes=4000)
        replica.step(0)

    with pytest.raises(RuntimeError, match="not today"):
        on_ranks(2, run, LAYOUTS["2 nodes"][1])


@pytest.mark.parametrize(
    ("compression", "error", "message"),
    [
        ("gzip", ArgumentError, r"`compression` \(='gzip'\) must be one of 'bf16', 'fp16', 'powersgd', 'topk'"),
        (0.01, ArgumentTypeError, r"`compression` \(=0.01, float\) must be None, the name of a hook, or a Hook"),
        (Nameless(), ArgumentTypeError, "must be None, the name of a hook, or a Hook that has a name"),
    ],
)
def test_unknown_hooks_are_refused(comm, compression, error, message):
    """With what there is instead, on one rank too."""
    with pytest.raises(error, match=message):
        parallel.GradientSynchronizer(make_model(), comm, compression=compression)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PowerSGD(0), r"`rank` \(=0\) must be >= 1"),
        (lambda: TopK(0), r"`share` \(=0.0\) must be > 0"),
        (lambda: TopK(1.5), r"`share` \(=1.5\) must be <= 1"),
    ],
)
def test_settings_that_break_a_rule_are_refused(make, message):
    """By name, value and rule."""
    with pytest.raises(ArgumentError, match=message):
        make()


def test_gradients_of_other_types_are_refused(comm):
    """float64 is for checking, and halves would lose what it is taken for."""
    model = make_model().astype("float64")
    with pytest.raises(ArgumentError, match=r"`compression` \(='bf16'\) is for gradients of float32"):
        parallel.GradientSynchronizer(model, comm, compression="bf16")


def test_reproducible_mode_is_refused(comm):
    """From the start, and when a distributed optimizer goes over to it."""
    model = make_model()
    optimizer, options = optim.SGD(model, lr=0.1), {"model": model, "reproducible": True}
    with pytest.raises(ArgumentError, match=r"`compression` \(='topk'\) is not for reproducible mode"):
        parallel.DistributedOptimizer(optimizer, comm, compression="topk", **options)

    def run(comm):
        model = make_model()
        optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), comm, model=model, compression=BF16())
        with pytest.raises(ArgumentError, match=r"`compression` \(='bf16'\) is not for reproducible mode"):
            optimizer.make_reproducible(model)

    on_ranks(2, run, LAYOUTS["2 nodes"][1])


def test_a_distributed_optimizer_has_its_own_hook(comm):
    """A trainer refuses another for it."""
    model = make_model()
    optimizer = parallel.DistributedOptimizer(optim.SGD(model, lr=0.1), comm)
    with pytest.raises(ArgumentError, match="`compression` is to be given to the distributed optimizer"):
        distdl.Trainer(model, optimizer, nn.CrossEntropyLoss(), compression="bf16")


def test_ranks_must_agree_on_the_hook():
    """All are told which rank has another."""

    def run(comm):
        with pytest.raises(PeerError, match="`compression` is 'bf16' on rank 0, and None on rank 1"):
            parallel.GradientSynchronizer(make_model(), comm, compression=None if comm.rank else "bf16")

    on_ranks(2, run, LAYOUTS["2 nodes"][1])


def test_a_hook_serves_one_synchronizer():
    """What it keeps belongs to the parameters of the first."""

    def run(comm):
        hook = TopK()
        kept = parallel.GradientSynchronizer(make_model(), comm, compression=hook)
        with pytest.raises(DistdlError, match=r"this compression hook \(topk\) is in use already"):
            parallel.GradientSynchronizer(make_model(), comm, compression=hook)
        return kept

    on_ranks(2, run, LAYOUTS["2 nodes"][1])


@pytest.mark.mpi
@pytest.mark.parametrize("layout", ["a node each", "nodes of two"])
@pytest.mark.parametrize("name", NAMES)
def test_mpi_ranks_train_in_lockstep(comm, monkeypatch, name, layout):
    """On real ranks, in shared memory within nodes: the same weights on all, near those of whole reductions."""
    monkeypatch.setattr(nodes, "node_number", lambda: comm.rank // (1 if layout == "a node each" else 2))
    monkeypatch.setattr("distdl.comm.base.node_number", nodes.node_number)
    part = comm.split(0, comm.rank)
    weights = {}
    for compression in (None, name):
        model = make_model()
        optimizer = parallel.DistributedOptimizer(
            optim.SGD(model, lr=0.05), part, check_every=3, compression=compression
        )
        for step in range(12):
            x, y = batch(step, part.rank)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(distdl.tensor(x)), y).backward()
            optimizer.step()
        assert len(set(parallel.replica_digests(model, part))) == 1
        weights[compression] = np.concatenate([p.data.ravel() for p in model.parameters()])
    is_used = optimizer.synchronizer.compression is not None
    assert is_used == (part.size > (1 if layout == "a node each" else 2))
    apart = np.abs(weights[name] - weights[None]).max()
    assert apart < 0.1
    assert (apart > 0) == is_used
