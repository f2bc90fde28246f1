"""IDX files, sound and hostile."""

import gzip
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distdl.core import files
from distdl.core.errors import FileFormatError, MissingDataError
from distdl.data import read_idx

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx(array):
    """Write an array as IDX."""
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[array.dtype.str[1:]], array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("dtype", CODES)
def test_what_was_written_is_read(tmp_path, dtype, pack):
    """Every type, plain and gzipped, in the byte order of this machine."""
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    (tmp_path / "x").write_bytes(pack(idx(array)))
    read = read_idx(tmp_path / "x")
    assert (read == array).all()
    assert read.dtype == np.dtype(dtype)
    assert read.dtype.isnative


SOUND = idx(np.arange(6, dtype="u1").reshape(2, 3))


@pytest.mark.parametrize(
    ("content", "place", "rule"),
    [
        (b"", 0, "begin with two zero bytes"),
        (b"\0\0\x08", 0, "begin with two zero bytes"),
        (b"\1" + SOUND[1:], 0, "begin with two zero bytes"),
        (b"\0\0\x07" + SOUND[3:], 2, "type code 0x07"),
        (b"\0\0\x08\0", 3, r"number of dimensions \(0\)"),
        (b"\0\0\x08\xff" + bytes(2000), 3, r"number of dimensions \(255\)"),
        (SOUND[:9], 4, "2 dimensions, ends in them"),
        (b"\0\0\x08\2" + struct.pack(">II", 0, 5), 4, ">= 1"),
        (SOUND[:-1], 12, "takes 6 bytes, the file can hold only 5"),
        (SOUND + b"x", 18, "must end after its numbers"),
        (b"\0\0\x0e\x20" + b"\xff" * 128, 132, "takes .* bytes, the file can hold only 0"),
    ],
)
def test_a_damaged_file_is_named_with_place_and_rule(tmp_path, content, place, rule):
    """Magic, type, dimensions, overflow, truncation, trailing bytes; one line each."""
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(FileFormatError, match=rule) as caught:
        read_idx(tmp_path / "x")
    assert f"x, byte {place}: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (gzip.compress(SOUND, mtime=0)[:-9], "whole gzip file"),
        (gzip.compress(SOUND, mtime=0)[:-8] + bytes(8), "whole gzip file"),
        (b"\x1f\x8bxxxxxxxxxxxxxxxxx", "whole gzip file"),
        (gzip.compress(SOUND[:-1], mtime=0), "must hold 6 bytes of numbers, holds 5"),
        (gzip.compress(SOUND + b"x", mtime=0), "must end after"),
        (gzip.compress(SOUND, mtime=0)[:10] + b"\xff" * 20, "whole gzip file"),
    ],
)
def test_a_damaged_gzip_file_is_named(tmp_path, content, rule):
    """Truncated, wrong checksum, wrong header, wrong content."""
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(FileFormatError, match=rule):
        read_idx(tmp_path / "x")


def test_a_gzip_bomb_is_not_expanded(tmp_path):
    """What is declared beyond the file's means, or the cap, is refused before a byte is allocated."""
    head = b"\0\0\x08\1" + struct.pack(">I", 2**32 - 1)
    (tmp_path / "lie").write_bytes(gzip.compress(head, mtime=0))
    with pytest.raises(FileFormatError, match="takes 4294967295 bytes, the file can hold only"):
        read_idx(tmp_path / "lie")
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packer.compress(b"\0\0\x08\1" + struct.pack(">I", 10**7) + bytes(10**7)) + packer.flush()
    (tmp_path / "bomb").write_bytes(bomb)
    files.set_read_limit(10**6)
    try:
        with pytest.raises(FileFormatError, match="more than the limit of 1000000"):
            read_idx(tmp_path / "bomb")
    finally:
        files.set_read_limit(None)
    assert len(read_idx(tmp_path / "bomb")) == 10**7


def test_a_missing_file_is_missing(tmp_path):
    """As its own type."""
    with pytest.raises(MissingDataError):
        read_idx(tmp_path / "none")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.booleans())
def test_no_mutation_gives_another_error(tmp_path, data, packed):
    """Changed, cut or inserted bytes: an array, or FileFormatError."""
    content = bytearray(gzip.compress(SOUND, mtime=0) if packed else SOUND)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not content:
            break
    (tmp_path / "x").write_bytes(content)
    try:
        read = read_idx(tmp_path / "x")
    except FileFormatError:
        return
    assert read.nbytes <= files.DEFLATE_RATIO * len(content)
