"""Host files of MPICH and of Open MPI."""

import pytest

from distdl.cluster.hosts import Host, read_hosts
from distdl.core.errors import FileFormatError, MissingDataError


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("a\n", [Host("a", 1)]),
        ("# nodes\n\na:4\nb.example.org:2 # two\n", [Host("a", 4), Host("b.example.org", 2)]),
        ("a slots=4 max_slots=8\n10.0.0.2  slots = 2\r\n", [Host("a", 4), Host("10.0.0.2", 2)]),
        ("a:2\nb\na:3", [Host("a", 5), Host("b", 1)]),
    ],
)
def test_both_ways_to_write_them(tmp_path, text, hosts):
    """Comments, empty lines and hosts that are named again."""
    (tmp_path / "hosts").write_text(text)
    assert read_hosts(tmp_path / "hosts") == hosts


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "must name a host"),
        (b"# none\n", "must name a host"),
        (b"a\n-oProxyCommand=x\n", "line 2: '-oProxyCommand=x' must be a host's name"),
        (b"a:0\n", "line 1: slots '0' must be an integer in"),
        (b"a:-1\n", "slots '-1'"),
        (b"a:99999999999999999999\n", "slots '9999"),
        (b"a slots=two\n", "slots 'two'"),
        (b"a slots\n", "must be NAME, NAME:SLOTS or NAME slots=SLOTS"),
        (b"a b\n", "must be NAME"),
        (b"a:2 slots=2\n", "must say slots once"),
        (b"a port=22\n", "option 'port' must be slots or max_slots"),
        (b"a\0b\n", "must be a host's name"),
        (b"caf\xc3\xa9\n", "line 1: must be ASCII"),
        (b"a;rm\n", "must be a host's name"),
        (b"a,b\n", "must be a host's name"),
        (b"x" * 300, "must be a host's name"),
        (b"a\n" * (1 << 20), "has 2097152 bytes, more than the 1048576"),
    ],
)
def test_what_is_no_host_file_is_refused(tmp_path, content, rule):
    """The message names file, line and rule."""
    (tmp_path / "hosts").write_bytes(content)
    with pytest.raises(FileFormatError) as caught:
        read_hosts(tmp_path / "hosts")
    assert str(caught.value).startswith(str(tmp_path / "hosts"))
    assert rule in str(caught.value)


def test_no_host_file(tmp_path):
    with pytest.raises(MissingDataError, match="no such file"):
        read_hosts(tmp_path / "hosts")
