"""The environment variables that distdl reads."""

import re
from pathlib import Path

import pytest

from distdl.core import settings
from distdl.core.errors import ArgumentError

PACKAGE = Path(settings.__file__).parent.parent


@pytest.fixture(autouse=True)
def _unset(monkeypatch):
    for name in settings.VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_nothing_is_said_by_default():
    """Without variables the defaults hold."""
    assert settings.comm_kind() == "auto"
    assert settings.num_threads() is None
    assert settings.control_address() is None
    assert settings.data_directory() is None
    assert settings.cache_directory() is None
    assert settings.overlap() is None
    assert settings.bucket_bytes() is None
    assert settings.max_file_bytes() is None
    assert settings.timeline_path() is None
    assert settings.profile() is None


@pytest.mark.parametrize(
    ("name", "text", "read", "value"),
    [
        ("DISTDL_COMM", "serial", settings.comm_kind, "serial"),
        ("DISTDL_NUM_THREADS", " 4 ", settings.num_threads, 4),
        ("DISTDL_CONTROL_ADDRESS", "node1", settings.control_address, ("node1", 0)),
        ("DISTDL_CONTROL_ADDRESS", "10.0.0.1:7000", settings.control_address, ("10.0.0.1", 7000)),
        ("DISTDL_DATA", "/data", settings.data_directory, Path("/data")),
        ("DISTDL_CACHE_DIR", "/cache", settings.cache_directory, Path("/cache")),
        ("DISTDL_OVERLAP", "1", settings.overlap, True),
        ("DISTDL_OVERLAP", "0", settings.overlap, False),
        ("DISTDL_BUCKET_BYTES", "1000", settings.bucket_bytes, 1000),
        ("DISTDL_MAX_FILE_BYTES", "100", settings.max_file_bytes, 100),
        ("DISTDL_TIMELINE", "run.json", settings.timeline_path, Path("run.json")),
        ("DISTDL_PROFILE", "profile.json", settings.profile, "profile.json"),
    ],
)
def test_variables_are_read(monkeypatch, name, text, read, value):
    """Each variable has one reader."""
    monkeypatch.setenv(name, text)
    assert read() == value


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("DISTDL_COMM", "gloo", settings.comm_kind),
        ("DISTDL_NUM_THREADS", "0", settings.num_threads),
        ("DISTDL_NUM_THREADS", "-1", settings.num_threads),
        ("DISTDL_CONTROL_ADDRESS", ":7000", settings.control_address),
        ("DISTDL_CONTROL_ADDRESS", "node1:99999", settings.control_address),
        ("DISTDL_OVERLAP", "yes", settings.overlap),
        ("DISTDL_BUCKET_BYTES", "0", settings.bucket_bytes),
        ("DISTDL_MAX_FILE_BYTES", "1 GB", settings.max_file_bytes),
    ],
)
def test_wrong_values_are_named(monkeypatch, name, text, read):
    """A value that means nothing is an error with its name."""
    monkeypatch.setenv(name, text)
    with pytest.raises(ArgumentError, match=name):
        read()


def test_slips_of_the_pen_are_found(monkeypatch):
    """A variable that begins like ours but is not is listed; those of the tests are not."""
    monkeypatch.setenv("DISTDL_NUM_THREAD", "4")
    monkeypatch.setenv("DISTDL_TEST_ANYTHING", "4")
    assert settings.unknown() == ["DISTDL_NUM_THREAD"]


def test_every_variable_is_in_the_table():
    """No other name of this kind stands anywhere in the package, and nobody else reads ours."""
    for path in set(PACKAGE.rglob("*.py")) - {Path(settings.__file__)}:
        text = path.read_text()
        assert set(re.findall(r"\bDISTDL_[A-Z_]+[A-Z]", text)) <= set(settings.VARIABLES), path
        assert not re.search(r"environ[^\n]*DISTDL_", text), path
