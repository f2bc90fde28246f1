"""Locks between processes."""

import os

import pytest

from distdl.core.filelock import FileLock


def test_one_holder_at_a_time(tmp_path):
    """A second taker waits, is told so once, and gets the lock only when it was given back."""
    first, second, waits = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock"), []
    assert first.acquire(0)
    assert first.held
    assert not second.acquire(0.02, lambda: waits.append(1))
    assert waits == [1]
    first.release()
    assert second.acquire(0)
    second.release()
    second.release()
    assert not second.held


def test_giving_back_reaches_forked_processes(tmp_path):
    """A file that a child holds open too does not keep the lock."""
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.acquire(0)
    copy = os.dup(first._descriptor)
    first.release()
    assert second.acquire(0)
    second.release()
    os.close(copy)


def test_a_file_that_cannot_be_made_cannot_be_locked(tmp_path):
    """`works` says no, and `acquire` raises."""
    lock = FileLock(tmp_path / "nowhere" / "lock")
    assert not lock.works()
    with pytest.raises(FileNotFoundError):
        lock.acquire(0)
    assert FileLock(tmp_path / "lock").works()
