"""Checkpoints on disk: whole or not there, and every harm is found."""

import json
import os

import numpy as np
import pytest

from distdl.core import files
from distdl.core.errors import FileFormatError, MissingDataError
from distdl.train import checkpoint as module
from distdl.train.checkpoint import (
    list_checkpoints,
    read_checkpoint,
    tidy_checkpoints,
    verify_checkpoint,
    write_checkpoint,
)

ARRAYS = {
    "model": {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.array(3)},
    "optimizer": {"weight/velocity": np.ones((2, 3), np.float64)},
}
STATE = {"epoch": 1, "history": [{"loss": 0.1 + 0.2}], "nan": float("nan")}


@pytest.fixture
def saved(tmp_path):
    return write_checkpoint(tmp_path / "run", 120, ARRAYS, STATE)


def test_what_was_written_is_read(saved):
    """Arrays with their bits and types, numbers with theirs."""
    found = read_checkpoint(saved)
    assert saved.name == "checkpoint-0000000120"
    assert found.step == 120
    for file, content in ARRAYS.items():
        for name, array in content.items():
            assert found.arrays[file][name].dtype == array.dtype
            np.testing.assert_array_equal(found.arrays[file][name], array)
    assert found.state["history"] == STATE["history"]
    assert np.isnan(found.state["nan"])
    assert verify_checkpoint(saved) == []


def test_every_changed_bit_is_found(saved):
    """In any file, anywhere; nothing but our own error is raised."""
    random = np.random.default_rng(0)
    for path in sorted(saved.iterdir()):
        content = path.read_bytes()
        for place in [0, len(content) - 1, *random.integers(0, len(content), 40)]:
            damaged = bytearray(content)
            damaged[place] ^= 1 << int(random.integers(8))
            path.write_bytes(damaged)
            # Space between the words of the manifest means nothing.
            if path.name != "manifest.json" or _meaning(damaged) != _meaning(content):
                with pytest.raises(FileFormatError, match="checkpoint-0000000120"):
                    read_checkpoint(saved)
                assert len(verify_checkpoint(saved)) == 1
        path.write_bytes(content)
    assert verify_checkpoint(saved) == []


def _meaning(content):
    try:
        return json.loads(bytes(content))
    except ValueError:
        return None


@pytest.mark.parametrize("name", ["manifest.json", "state.json", "model.safetensors"])
def test_missing_and_short_files_are_found(saved, name):
    """A truncated file is damaged, a missing one missing."""
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(FileFormatError, match=name):
        read_checkpoint(saved)
    (saved / name).unlink()
    with pytest.raises(MissingDataError, match=name):
        read_checkpoint(saved)
    assert len(verify_checkpoint(saved)) == 1


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"format": 2}, "format 2 must be 1"),
        ({"step": "x"}, "must have a step"),
        ({"files": {}}, "must have a step"),
        ({"files": {"../../etc/passwd": {"bytes": 1, "sha256": ""}, "state.json": {}}}, "no file of a checkpoint"),
        ({"files": {"state.json": {"bytes": -1}}}, "must say how many bytes"),
    ],
)
def test_hostile_manifests_are_refused(saved, change, rule):
    """Also such as claim the right SHA-256 of themselves."""
    manifest = json.loads((saved / "manifest.json").read_text())
    del manifest["sha256"]
    manifest |= change
    (saved / "manifest.json").write_text(json.dumps({**manifest, "sha256": module._digest(manifest)}))
    with pytest.raises(FileFormatError, match=rule):
        read_checkpoint(saved)


def test_what_is_too_large_is_not_read(saved):
    """The cap of readers holds here too."""
    files.set_read_limit(1000)
    try:
        (saved / "model.safetensors").write_bytes(bytes(5000))
        with pytest.raises(FileFormatError, match="5000 bytes where the manifest says"):
            read_checkpoint(saved)
    finally:
        files.set_read_limit(None)


def test_a_failed_write_leaves_what_was_there(tmp_path, saved, monkeypatch):
    """Whichever file the disk is full at; nothing is left behind."""
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    for failing in range(4):
        calls = iter(range(100))

        def write(path, data, failing=failing, calls=calls):
            if next(calls) == failing:
                raise OSError(28, "No space left on device")
            files.write_durably(path, data)

        monkeypatch.setattr(module, "write_durably", write)
        with pytest.raises(OSError, match="No space"):
            write_checkpoint(tmp_path / "run", 130, ARRAYS, STATE)
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before
    assert verify_checkpoint(saved) == []


def test_the_newest_stay(tmp_path):
    """And what an interrupted write has left goes; one that had made room gets its name back."""
    for step in (1, 2, 3, 10):
        write_checkpoint(tmp_path, step, ARRAYS, STATE)
    (tmp_path / ".checkpoint-0000000011.0123abcd.tmp").mkdir()
    os.rename(tmp_path / "checkpoint-0000000010", tmp_path / ".checkpoint-0000000010.0123abcd.old")
    (tmp_path / "other").mkdir()
    tidy_checkpoints(tmp_path, 2, spare=tmp_path / "checkpoint-0000000001")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-0000000001",
        "checkpoint-0000000003",
        "checkpoint-0000000010",
        "other",
    ]
    assert [path.name[-2:] for path in list_checkpoints(tmp_path)] == ["10", "03", "01"]


def test_a_step_may_be_written_again(tmp_path, saved):
    """By a run that was taken up before it."""
    write_checkpoint(tmp_path / "run", 120, {}, {"epoch": 7})
    assert read_checkpoint(saved).state == {"epoch": 7}
    assert len(list((tmp_path / "run").iterdir())) == 1


def test_there_may_be_none(tmp_path):
    assert list_checkpoints(tmp_path / "nowhere") == []
    with pytest.raises(MissingDataError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "nowhere")
