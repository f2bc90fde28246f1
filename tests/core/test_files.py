"""Bounded reads and durable writes."""

import os
import stat

import pytest

from distdl.core import files
from distdl.core.errors import ArgumentError, FileFormatError, MissingDataError


@pytest.fixture
def limit():
    """Sets the cap for a test."""
    yield files.set_read_limit
    files.set_read_limit(None)


def test_the_cap_comes_from_the_setter_then_the_environment_then_the_default(limit, monkeypatch):
    """`set_read_limit` wins over $DISTDL_MAX_FILE_BYTES, which wins over 64 GiB."""
    assert files.read_limit() == 64 << 30
    monkeypatch.setenv("DISTDL_MAX_FILE_BYTES", "123")
    assert files.read_limit() == 123
    limit(7)
    assert files.read_limit() == 7


@pytest.mark.parametrize("text", ["0", "-1", "many", "1e9"])
def test_a_cap_in_the_environment_must_be_a_number_of_bytes(text, monkeypatch):
    """A wrong $DISTDL_MAX_FILE_BYTES is an error that names it."""
    monkeypatch.setenv("DISTDL_MAX_FILE_BYTES", text)
    with pytest.raises(ArgumentError, match="DISTDL_MAX_FILE_BYTES"):
        files.read_limit()


def test_a_cap_below_one_is_refused():
    """`set_read_limit(0)` would refuse every file."""
    with pytest.raises(ArgumentError, match="`limit`"):
        files.set_read_limit(0)


def test_read_bounded_returns_the_content_up_to_the_cap(tmp_path, limit):
    """A file of exactly the cap is read, one byte more is refused."""
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    limit(5)
    assert files.read_bounded(path) == b"12345"
    limit(4)
    with pytest.raises(FileFormatError, match="takes 5 bytes, more than the limit of 4"):
        files.read_bounded(path)


def test_what_is_no_regular_file_is_refused(tmp_path):
    """A missing file, a path below a file, a directory and a pipe give named errors, and do not hang."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    for name in ("none", "file/below"):
        with pytest.raises(MissingDataError, match="no such file"):
            files.file_size(tmp_path / name)
    for name in ("", "pipe"):
        with pytest.raises(FileFormatError, match="regular"):
            files.file_size(tmp_path / name)


def test_an_unreadable_file_is_refused(tmp_path, monkeypatch):
    """No permission to read, and an error of stat, are said in one line."""
    path = tmp_path / "x"
    path.touch()
    monkeypatch.setattr(os, "access", lambda *args: False)
    with pytest.raises(FileFormatError, match="permission denied"):
        files.file_size(path)
    with pytest.raises(FileFormatError, match="cannot be read"):
        files.file_size(tmp_path / ("x" * 5000))


def test_write_durably_replaces_the_content(tmp_path):
    """The file holds the new content, with the usual permissions, and nothing else is left behind."""
    path = tmp_path / "weights"
    for content in (b"old", bytearray(b"new")):
        files.write_durably(path, content)
        assert path.read_bytes() == content
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["plain", "weights"]


def test_write_durably_syncs_file_then_renames_then_syncs_directory(tmp_path, monkeypatch):
    """The order of the system calls is the one that survives a crash."""
    calls = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor):
        calls.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def record_replace(source, target):
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    files.write_durably(tmp_path / "x", b"1")
    assert calls == ["file", "rename", "directory"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, broken):
    """When the disk is full, the old content stays and the temporary file goes."""
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="No space"):
        files.write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize(("number", "raised"), [(22, False), (5, True)])
def test_a_directory_that_cannot_be_synced_is_no_error_but_a_broken_disk_is(tmp_path, monkeypatch, number, raised):
    """EINVAL of a network file system is let pass, EIO is not."""
    fsync = os.fsync

    def fail(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    if raised:
        with pytest.raises(OSError, match="Input/output"):
            files.write_durably(tmp_path / "x", b"1")
    else:
        files.write_durably(tmp_path / "x", b"1")
    assert (tmp_path / "x").read_bytes() == b"1"
