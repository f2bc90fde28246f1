"""Where compiled code is kept."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from numba import config

from distdl.core.filelock import FileLock
from distdl.kernels import cache
from distdl.kernels.compile import jit


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Forget what was decided about the cache; the temporary directory and home are empty ones."""
    for name in ("DISTDL_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    cache.cache_directory.cache_clear()
    cache.cache_key.cache_clear()
    yield tmp_path
    cache.cache_directory.cache_clear()
    cache.cache_key.cache_clear()


def test_the_variable_of_distdl_comes_first(fresh, monkeypatch):
    """$DISTDL_CACHE_DIR holds the cache, before $XDG_CACHE_HOME."""
    monkeypatch.setenv("DISTDL_CACHE_DIR", str(fresh / "here"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(fresh / "there"))
    assert cache.cache_directory() == fresh / "here" / cache.cache_key()


def test_then_the_users_cache_directory(fresh, monkeypatch):
    """Without it, $XDG_CACHE_HOME holds the cache; a relative one counts as unset, then ~/.cache does."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(fresh / "there"))
    assert cache.cache_directory() == fresh / "there" / "distdl" / cache.cache_key()
    cache.cache_directory.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", "there")
    assert cache.cache_directory() == fresh / "home" / ".cache" / "distdl" / cache.cache_key()


def unwritable(path):
    """Put a file where a directory is wanted: not even root can make one there."""
    path.write_text("")
    return str(path)


def test_an_unwritable_place_is_passed_over(fresh, monkeypatch):
    """Where neither can be written to, a private directory among the temporary files is used."""
    monkeypatch.setenv("DISTDL_CACHE_DIR", unwritable(fresh / "file"))
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ["DISTDL_CACHE_DIR"])
    directory = cache.cache_directory()
    assert directory == fresh / "tmp" / f"distdl-{os.getuid()}" / cache.cache_key()
    assert directory.parent.stat().st_mode & 0o077 == 0


def test_a_temporary_directory_that_others_can_write_to_is_not_trusted(fresh, monkeypatch):
    """Compiled code is loaded as a pickle: a directory open to others is replaced by a new one."""
    monkeypatch.setenv("DISTDL_CACHE_DIR", unwritable(fresh / "file"))
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ["DISTDL_CACHE_DIR"])
    planted = fresh / "tmp" / f"distdl-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    directory = cache.cache_directory()
    assert directory is not None
    assert planted not in directory.parents


def test_without_any_place_kernels_still_compile(fresh, monkeypatch):
    """Where nothing can be written at all, there is no cache, and no error."""
    monkeypatch.setenv("DISTDL_CACHE_DIR", unwritable(fresh / "file"))
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ["DISTDL_CACHE_DIR"])
    monkeypatch.setattr("tempfile.tempdir", os.environ["DISTDL_CACHE_DIR"])
    assert cache.cache_directory() is None

    @jit
    def add_one(x):
        return x + 1

    assert add_one(2) == 3


def test_the_key_follows_the_cpu_and_the_flags(fresh, monkeypatch):
    """Another CPU, or bounds checking, gets a directory of its own."""
    keys = {cache.cache_key()}
    changes = (("CPU_NAME", "generic"), ("CPU_FEATURES", "+avx2"), ("BOUNDSCHECK", 1), ("OPT", 1))
    for name, value in changes:
        with monkeypatch.context() as patch:
            patch.setattr(config, name, value)
            cache.cache_key.cache_clear()
            keys.add(cache.cache_key())
    assert len(keys) == 5


def test_the_key_follows_every_source(fresh, monkeypatch):
    """An edit of any file of the room changes the key, since kernels inline each other's helpers."""
    copy = fresh / "kernels"
    copy.mkdir()
    for path in Path(cache.__file__).parent.glob("*.py"):
        (copy / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(cache, "__file__", str(copy / "cache.py"))
    before = cache.cache_key()
    (copy / "sums.py").write_text("BLOCK = 64\n")
    cache.cache_key.cache_clear()
    assert cache.cache_key() != before


def old_directory(base, name, days=40):
    """Make a cache directory that was last used so many days ago."""
    directory = base / name
    directory.mkdir(parents=True)
    (directory / "kernel.nbc").write_bytes(b"code")
    for path in (directory / "used", directory):
        path.touch()
        os.utime(path, (time.time() - days * 86400,) * 2)
    return directory


def test_directories_of_other_versions_go_after_a_month(fresh, monkeypatch):
    """A new version removes what nobody has used for a month, and nothing else: by name, by age, by lock, no links."""
    base = fresh / "here"
    monkeypatch.setenv("DISTDL_CACHE_DIR", str(base))
    old = old_directory(base, "kernels-0123456789abcdef")
    young = old_directory(base, "kernels-0123456789abcde0", days=3)
    others = [old_directory(base, name) for name in ("kernels-mine", "kernels-0123456789abcdef0", "data")]
    busy = old_directory(base, "kernels-0123456789abcde1")
    link = base / "kernels-0123456789abcde2"
    link.symlink_to(others[0])
    lock = FileLock(busy / cache.LOCK)
    assert lock.acquire(0)
    os.utime(busy / "used", (time.time() - 40 * 86400,) * 2)
    directory = cache.cache_directory()
    lock.release()
    assert set(base.iterdir()) == {directory, young, *others, busy, link}
    assert not old.exists()


def test_use_keeps_a_directory(fresh, monkeypatch):
    """A process that starts marks its directory as used."""
    monkeypatch.setenv("DISTDL_CACHE_DIR", str(fresh / "here"))
    directory = old_directory(fresh / "here", cache.cache_key())
    assert cache.cache_directory() == directory
    cache.prune(fresh / "here")
    assert directory.exists()
    assert time.time() - (directory / "used").stat().st_mtime < 3600


def test_what_an_image_holds_is_used_although_it_cannot_be_written(fresh, monkeypatch):
    """Kernels in a directory that can only be read are copied to the first one that can be written."""
    image = old_directory(fresh / "image", cache.cache_key())
    monkeypatch.setenv("DISTDL_CACHE_DIR", str(fresh / "image"))
    prepare = cache._prepare
    # Root may write anywhere, so the file system's refusal is played.
    monkeypatch.setattr(cache, "_prepare", lambda place, filled: place != image and prepare(place, filled))
    directory = cache.cache_directory()
    assert directory == fresh / "home" / ".cache" / "distdl" / cache.cache_key()
    assert (directory / "kernel.nbc").read_bytes() == b"code"
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]


def test_a_place_without_locks_is_passed_over(fresh, monkeypatch):
    """Where files cannot be locked, processes would overwrite each other's index: another place is taken."""
    monkeypatch.setenv("DISTDL_CACHE_DIR", str(fresh / "here"))
    works = FileLock.works
    monkeypatch.setattr(FileLock, "works", lambda lock: fresh / "here" not in lock.path.parents and works(lock))
    assert cache.cache_directory() == fresh / "home" / ".cache" / "distdl" / cache.cache_key()


_PIECES = """
import sys
import numpy as np
import distdl
from distdl import nn

rng = np.random.default_rng(0)
x, w, dy = (rng.normal(size=shape).astype(np.float32) for shape in ((50, 40), (40, 30), (50, 30)))

def forward():
    found = nn.functional.linear(distdl.tensor(x), distdl.tensor(w)).numpy()
    np.testing.assert_allclose(found, x @ w, rtol=1e-4, atol=1e-4)

def weight_gradient():
    weight = distdl.tensor(w, requires_grad=True)
    nn.functional.linear(distdl.tensor(x), weight).backward(dy)
    np.testing.assert_allclose(weight.grad, x.T @ dy, rtol=1e-4, atol=1e-4)

def convolution():
    images, kernel = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 9, 9, 3), (3, 3, 3, 20)))
    found = nn.functional.conv2d(distdl.tensor(images), distdl.tensor(kernel)).numpy()
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2))
    np.testing.assert_allclose(found, np.einsum("nhwcij,ijck->nhwk", windows, kernel), rtol=1e-4, atol=1e-4)

for name in sys.argv[1:]:
    globals()[name]()
"""


_ALIKE = """
import itertools
from numba.core.bytecode import FunctionIdentity

FunctionIdentity._unique_ids = itertools.repeat(1)
"""


def test_no_two_functions_have_one_name(tmp_path):
    """Kernels are right where Numba gives every function one number, as those of two processes may have: names differ.

    Kernels from different processes bring their own copies of helpers, of which the linker takes the first.
    """
    environment = {**os.environ, "DISTDL_CACHE_DIR": str(tmp_path)}
    pieces = ["convolution", "weight_gradient", "forward"]
    for order in (pieces, pieces[::-1]):
        subprocess.run([sys.executable, "-c", _ALIKE + _PIECES, *order], env=environment, check=True, timeout=200)
