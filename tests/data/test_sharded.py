"""Data in shards: which samples come, in which order, from which files, and what is kept of them."""

import io
import json
import pickle
import shutil
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distdl.core.errors import ArgumentError, FileFormatError, MissingDataError
from distdl.data import (
    DataLoader,
    DistributedSampler,
    GlobalBatchSampler,
    ShardedArrays,
    ShardWriter,
    TarShards,
    index_shards,
)
from distdl.data.sharded import cache as cache_module
from distdl.data.sharded.cache import NodeCache
from distdl.data.sharded.order import ShardOrder

ROWS = 100


@pytest.fixture
def directory(tmp_path):
    """Ten shards of ten samples: x (sample, 3 numbers), y (its number)."""
    with ShardWriter(tmp_path / "shards", ("x", "y"), 10) as writer:
        for start in range(0, ROWS, 7):
            y = np.arange(start, min(start + 7, ROWS))
            writer.add(np.stack([y, 2 * y, 3 * y], axis=1).astype(np.float32), y)
    return tmp_path / "shards"


# --- order ---


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=20), st.integers(1, 12), st.integers(1, 5), st.integers(0, 3))
def test_an_epoch_visits_every_sample_once(sizes, streams, window, epoch):
    """Whatever the shards, streams and window."""
    order = ShardOrder(tuple(sizes), streams, window)(epoch, seed=1)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(sum(sizes)))


def test_orders_are_keyed_by_seed_and_epoch():
    """Each has its own, always the same."""
    order = ShardOrder((50,) * 20)
    assert (order(3, 7) == order(3, 7)).all()
    assert (order(3, 7) != order(4, 7)).mean() > 0.9
    assert (order(3, 7) != order(3, 8)).mean() > 0.9
    assert order(0, 0).tolist()[:10] == [390, 731, 463, 1, 841, 326, 77, 940, 616, 122]


def test_shards_are_mixed_within_the_window():
    """Neighbours in a stream come from `window` shards, in an order of their own."""
    stream = ShardOrder((50,) * 20, streams=1, window=4)(0, 0)
    for first in range(0, 1000, 200):
        part = stream[first : first + 200]
        assert len(set(part // 50)) == 4
        assert sorted(part) != part.tolist()
        assert len(set(part[:40] // 50)) == 4


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("shards", [0, 8])
def test_a_rank_reads_shards_of_its_own(size, shards):
    """Where ranks divide the streams a shard is read by one rank, or two where streams meet; no rank reads them all."""
    order = ShardOrder((30,) * 64, streams=8, window=2)
    readers = [set() for _ in range(64)]
    for rank in range(size):
        sampler = GlobalBatchSampler(30 * 64, 48, rank, size, seed=5, shards=shards, order=order)
        for batch in sampler.items(2):
            for shard in np.unique(batch // 30):
                readers[shard].add(rank)
    assert max(map(len, readers)) <= 2
    assert sum(len(ranks) == 1 for ranks in readers) >= 64 - 8
    for rank in range(size):
        assert sum(rank in ranks for ranks in readers) <= 64 // size + 8


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_global_batches_do_not_depend_on_the_ranks(size):
    """Each holds the same samples on any number of ranks, each once."""
    order = ShardOrder((30,) * 11, streams=4)
    alone = GlobalBatchSampler(330, 32, seed=3, order=order).items(1)
    parts = [GlobalBatchSampler(330, 32, rank, size, seed=3, order=order).items(1) for rank in range(size)]
    for step, batch in enumerate(alone):
        assert sorted(np.concatenate([part[step] for part in parts])) == sorted(batch)


# --- reading ---


def test_samples_come_in_the_order_of_the_shards(directory):
    """One sample, a batch in any order, and repetition give what was written, in the machine's byte order."""
    data = ShardedArrays(directory)
    assert repr(data) == "ShardedArrays(10 shards, 100 samples)"
    x, y = data.take(np.array([99, 0, 55, 0, 10]))
    assert y.tolist() == [99, 0, 55, 0, 10]
    assert x.tolist() == [[n, 2 * n, 3 * n] for n in y]
    assert x.dtype == np.float32
    x, y = data[42]
    assert (x.tolist(), int(y)) == ([42, 84, 126], 42)
    for wrong in (-1, 100):
        with pytest.raises(IndexError, match="from 0 to 99"):
            data[wrong]
    assert data.take(np.zeros(0, np.int64))[0].shape == (0, 3)


@pytest.mark.parametrize("kind", ["npz", "compressed", "npy", "listed"])
def test_files_without_an_index(tmp_path, kind):
    """.npz files, compressed or not, and .npy files of one array, by directory or by name."""
    for i in range(3):
        y = np.arange(4 * i, 4 * i + 4)
        save = np.savez_compressed if kind == "compressed" else np.savez
        if kind == "npy":
            np.save(tmp_path / f"{i}.npy", y.astype(">i4"))
        else:
            save(tmp_path / f"{i}.npz", y=y, extra=np.zeros((4, 2)))
    if kind == "npy":
        data = ShardedArrays(tmp_path)
    else:
        source = tmp_path if kind != "listed" else [tmp_path / f"{i}.npz" for i in range(3)]
        data = ShardedArrays(source, names=["y"])
    (y,) = data.take(np.arange(12))
    assert y.tolist() == list(range(12))
    assert y.dtype.isnative


def test_an_index_is_written_for_others_files(tmp_path):
    """With checksums; afterwards nobody looks at the files until they are used."""
    for i in range(3):
        np.savez(tmp_path / f"{i}.npz", x=np.arange(i + 1))
    index_shards(tmp_path)
    content = json.loads((tmp_path / "index.json").read_text())
    assert [entry["samples"] for entry in content["shards"]] == [1, 2, 3]
    (tmp_path / "2.npz").unlink()
    data = ShardedArrays(tmp_path)
    assert len(data) == 6
    with pytest.raises(MissingDataError, match=r"2\.npz: no such file"):
        data[5]


def test_an_epoch_by_a_loader_is_complete(directory):
    """Of several ranks together, with workers or without, each sample once; a shard is opened about once."""
    data = ShardedArrays(directory, streams=2, window=1)
    seen = []
    for rank in range(2):
        loader = DataLoader(data, 8, sampler=DistributedSampler(data, rank, 2, seed=1), num_workers=rank)
        seen += [int(label) for _, y in loader for label in y]
        loader.close()
    assert sorted(seen) == list(range(ROWS))
    assert data.opened <= 12


def test_an_epoch_goes_on_in_the_middle(directory):
    """A loader that takes over a position gives the rest, and opens none of the shards that are done."""
    data = ShardedArrays(directory, streams=1, window=1)
    first = DataLoader(data, 10, sampler=DistributedSampler(data, seed=2), prefetch=0)
    batches = iter(first)
    for _ in range(6):
        next(batches)
    state = first.state_dict()
    rest = [y.tolist() for _, y in batches]
    other = ShardedArrays(directory, streams=1, window=1)
    second = DataLoader(other, 10, sampler=DistributedSampler(other, seed=2), prefetch=0)
    second.load_state_dict(state)
    assert [y.tolist() for _, y in second] == rest
    # One was opened to see what a sample is.
    assert other.opened <= 5


def test_memory_is_bounded(tmp_path):
    """Of compressed shards no more are held than fit the bound, and at least one."""
    for i in range(20):
        np.savez_compressed(tmp_path / f"{i:02d}.npz", x=np.full((1000, 25), i, np.float32))
    data = ShardedArrays(tmp_path, max_open_bytes=350_000)
    x = data.take(np.arange(0, 20_000, 500))[0]
    assert (x[:, 0] == np.repeat(np.arange(20), 2)).all()
    assert len(data._in_use) == 3
    assert len(ShardedArrays(tmp_path, max_open_bytes=1)._in_use) == 1


def test_workers_open_their_own(directory):
    """What is pickled holds no open shards, and reads the same."""
    data = ShardedArrays(directory)
    data.take(np.arange(100))
    other = pickle.loads(pickle.dumps(data))
    assert not other._in_use
    assert (other.take(np.arange(100))[0] == data.take(np.arange(100))[0]).all()
    assert len(pickle.dumps(data)) < 5000


# --- tar files ---


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.SYMTYPE
                content = b""
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.fixture
def tars(tmp_path):
    """Three files of four samples: an array, a class, words, and bytes."""
    for shard in range(3):
        members = []
        for i in range(4 * shard, 4 * shard + 4):
            fields = {"npy": npy(np.full((2, 2), i)), "cls": b"%d" % (i % 2), "TXT": f"é {i}".encode(), "bin": b"\0"}
            members += [(f"part/{i:04d}.{name}", content) for name, content in fields.items()]
        write_tar(tmp_path / f"{shard}.tar", [("__info__.json", b"{}"), *members])
    return tmp_path


def test_tar_samples_are_decoded(tars):
    """All fields as a dict with the key, or those that are named as a tuple."""
    sample = TarShards(tars)[5]
    assert sample["__key__"] == "part/0005"
    assert sample["npy"].tolist() == [[5, 5], [5, 5]]
    assert (sample["cls"], sample["txt"], sample["bin"]) == (1, "é 5", b"\0")
    array, label = TarShards(tars, ("jpg;npy", "cls"))[11]
    assert (array[0, 0], label) == (11, 1)
    doubled = TarShards(tars, ["cls"], decoders={"cls": lambda content: 2 * int(content)})
    assert doubled[1] == (2,)
    with pytest.raises(FileFormatError, match=r"0\.tar: sample 'part/0000' must have a field 'wav'"):
        TarShards(tars, ["wav"])[0]


def test_tar_samples_are_loaded_in_batches(tars):
    """By a loader, in the order of a shuffled epoch of shards, with an index or without."""
    for _ in range(2):
        data = TarShards(tars, ("npy", "cls"), streams=1)
        batches = list(DataLoader(data, 5, shuffle=True, seed=4))
        seen = np.concatenate([x[:, 0, 0] for x, _ in batches]).tolist()
        assert seen == ShardOrder((4, 4, 4), 1)(0, 4).tolist()
        index_shards(tars)


def test_images_are_decoded_by_pillow(tmp_path):
    """As uint8 (height, width, 3)."""
    image = pytest.importorskip("PIL.Image", reason="Pillow comes with matplotlib, of distdl[examples]")
    stream = io.BytesIO()
    image.fromarray(np.full((3, 5), 200, np.uint8)).save(stream, "png")
    write_tar(tmp_path / "a.tar", [("1.png", stream.getvalue())])
    (pixels,) = TarShards(tmp_path, ["png"])[0]
    assert (pixels.shape, pixels.dtype) == ((3, 5, 3), np.uint8)
    assert (pixels == 200).all()


BAD_TARS = {
    "no tar": (b"x" * 1000, "must be a whole tar file"),
    "empty": ([], "must hold a sample"),
    "a link": ([("1.npy", None)], r"member '1\.npy' must be a plain file"),
    "no field": ([("readme", b"")], "member 'readme' must be named KEY.FIELD"),
    "a field twice": ([("1.a", b""), ("1.a", b"")], r"member '1\.a' must be there once"),
    "a sample torn apart": ([("1.a", b""), ("2.a", b""), ("1.b", b"")], "must follow the other fields"),
}


@pytest.mark.parametrize("fault", BAD_TARS)
def test_bad_tar_files_are_refused(tmp_path, fault):
    """The error names file, member and rule."""
    content, message = BAD_TARS[fault]
    path = tmp_path / "bad.tar"
    path.write_bytes(content) if isinstance(content, bytes) else write_tar(path, content)
    with pytest.raises(FileFormatError, match=message) as caught:
        TarShards([path])
    assert str(path) in str(caught.value)


def test_a_tar_file_that_is_cut_is_refused(tars):
    """Wherever it ends, unless only samples are missing at its end, which an index tells."""
    index_shards(tars)
    whole = (tars / "0.tar").read_bytes()
    for length in (100, 700, 3000, len(whole) // 2):
        (tars / "0.tar").write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match=r"0\.tar"):
            TarShards(tars)[0]


@pytest.mark.parametrize(
    "content", [b"", b"x", npy(np.zeros(3))[:-1], npy(np.zeros(3)) + b"x", npy(np.zeros(3)).replace(b"(3,)", b"(9,)")]
)
def test_a_member_that_cannot_be_decoded_is_told(tmp_path, content):
    """File, sample and field are named."""
    write_tar(tmp_path / "a.tar", [("one.npy", content)])
    with pytest.raises(FileFormatError, match=r"a\.tar: field 'npy' of sample 'one' cannot be decoded"):
        TarShards(tmp_path)[0]


# --- damage ---


INDEXES = {
    "no JSON": ("{", "not JSON"),
    "another format": ('{"format": 9}', "must have format 1"),
    "no shards": ('{"format": 1, "shards": []}', "must list shards"),
    "no object": ('{"format": 1, "shards": [1]}', "shard 0 must have files"),
    "a file elsewhere": ({"files": ["../a.npz"]}, "must name files of its directory"),
    "an absolute file": ({"files": ["/a.npz"]}, "must name files of its directory"),
    "no samples": ({"samples": 0}, "must have samples >= 1"),
    "half a sample": ({"samples": 1.5}, "must have samples >= 1"),
    "no checksum": ({"checksums": []}, "must have a checksum"),
    "a bad checksum": ({"checksums": ["xyz"]}, "must have a checksum"),
}


@pytest.mark.parametrize("fault", INDEXES)
def test_a_bad_index_is_refused(tmp_path, fault):
    """The error names the index and the rule."""
    content, message = INDEXES[fault]
    if isinstance(content, dict):
        entry = {"files": ["a.npz"], "samples": 1, "checksums": ["0" * 32], **content}
        content = json.dumps({"format": 1, "shards": [entry]})
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(FileFormatError, match=message):
        ShardedArrays(tmp_path)


def test_a_shard_unlike_the_first_or_the_index_is_refused(directory):
    """In type, shape, or number of samples: file and rule are named."""
    np.savez(directory / "shard-000003.npz", x=np.zeros((10, 4), np.float32), y=np.zeros(10, int))
    np.savez(directory / "shard-000004.npz", x=np.zeros((9, 3), np.float32), y=np.zeros(9, int))
    data = ShardedArrays(directory)
    with pytest.raises(FileFormatError, match=r"000003\.npz: must hold arrays of float32 \(3,\), int64 \(\) a sample"):
        data[30]
    with pytest.raises(FileFormatError, match=r"000004\.npz: holds 9 samples, the index says 10"):
        data[40]


def test_what_is_not_there_is_told(tmp_path):
    """A directory without shards, or none at all."""
    with pytest.raises(MissingDataError, match=r"gone: no such directory of shards"):
        ShardedArrays(tmp_path / "gone")
    with pytest.raises(MissingDataError, match=r"holds neither index.json nor a file of the kind \*\.tar"):
        TarShards(tmp_path)


def test_the_writer_refuses_what_cannot_be_a_sample(tmp_path, directory):
    """Other arrays than named, unequal lengths, other rows than before, and a directory that has shards."""
    with pytest.raises(ArgumentError, match="must not have shards yet"):
        ShardWriter(directory, ["x"])
    with pytest.raises(ArgumentError, match="`names`"):
        ShardWriter(tmp_path / "a", ["x", "x"])
    with pytest.raises(ArgumentError, match="no samples"), ShardWriter(tmp_path / "b", ["x"]):
        pass
    writer = ShardWriter(tmp_path / "c", ["x", "y"])
    writer.add(np.zeros((2, 3)), np.zeros(2))
    for arrays in ([np.zeros(2)], [np.zeros((2, 3)), np.zeros(1)], [np.zeros((2, 4)), np.zeros(2)], ["ab", "cd"]):
        with pytest.raises(ArgumentError, match="`arrays`"):
            writer.add(*arrays)
    # Without its end there is no index.
    assert not (tmp_path / "c" / "index.json").exists()


# --- copies on the node ---


def test_copies_are_read_instead(directory, tmp_path):
    """Each shard is copied once, and read there by all; the files themselves may go meanwhile."""
    first = ShardedArrays(directory, cache_dir=tmp_path / "cache")
    other = ShardedArrays(directory, cache_dir=tmp_path / "cache")
    x = first.take(np.arange(ROWS))[0]
    assert first._cache.copied == 10
    assert (other.take(np.arange(ROWS))[0] == x).all()
    assert other._cache.copied == 0
    assert len(list((tmp_path / "cache").glob("*.shard"))) == 10


def test_the_least_recently_used_copies_go(directory, tmp_path):
    """Copies together stay below the bound."""
    size = max(path.stat().st_size for path in directory.glob("*.npz"))
    cache = NodeCache(tmp_path / "cache", 3 * size)
    files = sorted(directory.glob("*.npz"))
    for path in (*files[:3], files[0], files[3]):
        cache.local(path)
    assert cache.copied == 4
    cache.local(files[0])
    assert cache.copied == 4
    cache.local(files[1])
    assert cache.copied == 5
    assert len(list((tmp_path / "cache").glob("*.shard"))) == 3


def test_a_damaged_file_is_not_copied(directory, tmp_path):
    """Its checksum tells: the error names it and nothing stays in the cache."""
    path = directory / "shard-000002.npz"
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    path.write_bytes(content)
    data = ShardedArrays(directory, cache_dir=tmp_path / "cache")
    with pytest.raises(FileFormatError, match=r"000002\.npz: has checksum"):
        data[25]
    assert not list((tmp_path / "cache").glob("*.tmp"))


def test_what_a_killed_rank_left_goes(directory, tmp_path):
    """Half a copy is removed by whoever copies next."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "abc.12-34.tmp").write_bytes(b"half")
    ShardedArrays(directory, cache_dir=tmp_path / "cache")
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".lock", ".shard"]


def test_an_index_outlives_a_failed_attempt(directory):
    """Where a shard is damaged the index of before stays."""
    before = (directory / "index.json").read_bytes()
    (directory / "shard-000004.npz").write_bytes(b"damaged")
    with pytest.raises(FileFormatError, match="000004"):
        index_shards(directory)
    assert (directory / "index.json").read_bytes() == before
    with pytest.raises(MissingDataError, match="no shard in it"):
        index_shards(directory / "gone")
    with pytest.raises(MissingDataError, match=r"gone\.npy: no such file"):
        ShardedArrays([directory / "gone.npy"])


def test_without_room_files_are_read_where_they_lie(directory, tmp_path, monkeypatch, capfd):
    """A full disk, a file in the way, or a bound that is too small: that is said once, and samples come."""
    (tmp_path / "file").write_text("")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda path: usage._replace(free=10))
    for options in ({"cache_dir": tmp_path / "full"}, {"cache_dir": tmp_path / "file"}):
        data = ShardedArrays(directory, **options)
        assert data.take(np.arange(ROWS))[1].tolist() == list(range(ROWS))
        assert capfd.readouterr().err.count("shards are read where they lie") == 1
    data = ShardedArrays(directory, cache_dir=tmp_path / "small", cache_bytes=100)
    assert "more than the 100 of all copies" in capfd.readouterr().err
    assert not (tmp_path / "small").exists()


def test_a_copy_that_goes_before_it_is_opened(directory, tmp_path, monkeypatch):
    """Another rank made room: the file itself is read."""
    data = ShardedArrays(directory, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(data._cache, "local", lambda path, expected: tmp_path / "gone.npz")
    assert data[33][1] == 33
