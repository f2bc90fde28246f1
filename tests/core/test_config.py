"""A file of settings stands in for environment variables."""

import subprocess
import sys
from pathlib import Path

import pytest

from distdl.core import settings
from distdl.core.config import read_config
from distdl.core.errors import FileFormatError, MissingDataError


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Write the file that DISTDL_CONFIG names."""
    for name in settings.VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def write(text):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.toml"
        path.write_text(text)
        monkeypatch.setenv("DISTDL_CONFIG", str(path))
        return path

    return write


def test_a_file_sets_what_no_variable_does(config, monkeypatch):
    """Each key is a variable's name in lower case; a variable that is set goes before it."""
    config('cache_dir = "/scratch"\nstall_timeout = 60.5\noverlap = false\nbucket_bytes = 1_000\nnum_threads = 3\n')
    monkeypatch.setenv("DISTDL_NUM_THREADS", "5")
    assert settings.cache_directory() == Path("/scratch")
    assert settings.stall_timeout() == 60.5
    assert settings.overlap() is False
    assert settings.bucket_bytes() == 1000
    assert settings.num_threads() == 5


def test_an_empty_file_sets_nothing(config):
    """As if there was none."""
    config("# nothing yet\n")
    assert settings.cache_directory() is None


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("stall_timeot = 3\n", "key 'stall_timeot' means nothing; did you mean 'stall_timeout'?"),
        ("xyz = 3\n", "key 'xyz' means nothing; there are bucket_bytes"),
        ("stall_timeout = [3]\n", "key 'stall_timeout' must be a string, a number or true or false, is a list"),
        ("stall_timeout = 1979-05-27\n", "is a date"),
        ("stall_timeout 3\n", "not TOML: Expected '=' after a key in a key/value pair (at line 1, column 15)"),
    ],
)
def test_what_is_wrong_is_named(config, text, rule):
    """With the file, the line or key, and the rule."""
    path = config(text)
    with pytest.raises(FileFormatError) as refusal:
        settings.cache_directory()
    assert str(refusal.value).startswith(f"{path}: ")
    assert rule in str(refusal.value)


def test_a_value_that_breaks_a_rule_is_named(config):
    """As if a variable had held it."""
    config("num_threads = 0\n")
    with pytest.raises(ValueError, match=r"`DISTDL_NUM_THREADS` \(='0'\) must be an integer >= 1"):
        settings.num_threads()


def test_a_missing_file_is_missing(tmp_path):
    """It was asked for."""
    with pytest.raises(MissingDataError, match="no such file"):
        read_config(tmp_path / "none.toml", settings.CONFIGURABLE)


def test_a_command_says_what_is_wrong(config):
    """In one line, without a traceback."""
    config("comm = 'gloo'\nnum_thread = 2\n")
    done = subprocess.run([sys.executable, "-m", "distdl", "doctor"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "did you mean 'num_threads'" in done.stderr
    assert "Traceback" not in done.stderr
