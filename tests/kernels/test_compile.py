"""Where compiled code is kept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from numba import config

from distdl.kernels import compile

ROOT = Path(__file__).parents[2]


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Forget what was decided about the cache; the temporary directory and home are empty ones."""
    for name in ("DISTDL_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    compile.cache_directory.cache_clear()
    compile.cache_key.cache_clear()
    yield tmp_path
    compile.cache_directory.cache_clear()
    compile.cache_key.cache_clear()


def test_the_variable_of_distdl_comes_first(fresh, monkeypatch):
    """$DISTDL_CACHE_DIR holds the cache, before $XDG_CACHE_HOME."""
    monkeypatch.setenv("DISTDL_CACHE_DIR", str(fresh / "here"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(fresh / "there"))
    assert compile.cache_directory() == fresh / "here" / compile.cache_key()


def test_then_the_users_cache_directory(fresh, monkeypatch):
    """Without it, $XDG_CACHE_HOME holds the cache; a relative one counts as unset, then ~/.cache does."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(fresh / "there"))
    assert compile.cache_directory() == fresh / "there" / "distdl" / compile.cache_key()
    compile.cache_directory.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", "there")
    assert compile.cache_directory() == fresh / "home" / ".cache" / "distdl" / compile.cache_key()


def unwritable(path):
    """Put a file where a directory is wanted: not even root can make one there."""
    path.write_text("")
    return str(path)


def test_an_unwritable_place_is_passed_over(fresh, monkeypatch):
    """Where neither can be written to, a private directory among the temporary files is used."""
    monkeypatch.setenv("DISTDL_CACHE_DIR", unwritable(fresh / "file"))
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ["DISTDL_CACHE_DIR"])
    directory = compile.cache_directory()
    assert directory == fresh / "tmp" / f"distdl-{os.getuid()}" / compile.cache_key()
    assert directory.parent.stat().st_mode & 0o077 == 0


def test_a_temporary_directory_that_others_can_write_to_is_not_trusted(fresh, monkeypatch):
    """Compiled code is loaded as a pickle: a directory open to others is replaced by a new one."""
    monkeypatch.setenv("DISTDL_CACHE_DIR", unwritable(fresh / "file"))
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ["DISTDL_CACHE_DIR"])
    planted = fresh / "tmp" / f"distdl-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    directory = compile.cache_directory()
    assert directory is not None
    assert planted not in directory.parents


def test_without_any_place_kernels_still_compile(fresh, monkeypatch):
    """Where nothing can be written at all, there is no cache, and no error."""
    monkeypatch.setenv("DISTDL_CACHE_DIR", unwritable(fresh / "file"))
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ["DISTDL_CACHE_DIR"])
    monkeypatch.setattr("tempfile.tempdir", os.environ["DISTDL_CACHE_DIR"])
    assert compile.cache_directory() is None

    @compile.jit
    def add_one(x):
        return x + 1

    assert add_one(2) == 3


def test_the_key_follows_the_cpu_and_the_flags(fresh, monkeypatch):
    """Another CPU, or bounds checking, gets a directory of its own."""
    keys = {compile.cache_key()}
    for name, value in (("CPU_NAME", "generic"), ("CPU_FEATURES", "+avx2"), ("BOUNDSCHECK", 1), ("OPT", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(config, name, value)
            compile.cache_key.cache_clear()
            keys.add(compile.cache_key())
    assert len(keys) == 5


def test_the_key_follows_every_source(fresh, monkeypatch):
    """An edit of any file of the room changes the key, since kernels inline each other's helpers."""
    copy = fresh / "kernels"
    copy.mkdir()
    for path in Path(compile.__file__).parent.glob("*.py"):
        (copy / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(compile, "__file__", str(copy / "compile.py"))
    before = compile.cache_key()
    (copy / "sums.py").write_text("BLOCK = 64\n")
    compile.cache_key.cache_clear()
    assert compile.cache_key() != before


def test_the_cache_of_other_libraries_stays_where_it_is():
    """Numba's own setting is as before after a kernel was made."""
    before = config.CACHE_DIR
    compile.jit(lambda x: x)
    assert before == config.CACHE_DIR


def test_a_second_process_loads_what_the_first_compiled(tmp_path):
    """Machine code lands in the cache directory, and is not compiled again."""
    code = (
        "import numpy as np; from distdl.kernels.sums import sum_rows;"
        "sum_rows(np.ones((2, 3)), np.empty(3)); print(sum(sum_rows.stats.cache_hits.values()))"
    )
    environment = {**os.environ, "DISTDL_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment.pop("NUMBA_DISABLE_JIT", None)
    hits = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert [int(hit) for hit in hits] == [0, 1]
    assert list(tmp_path.rglob("*.nbc"))
