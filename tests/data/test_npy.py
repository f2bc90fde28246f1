"""Arrays on disk, sound and hostile."""

import io
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distdl.core import files
from distdl.core.errors import ArgumentError, FileFormatError, MissingDataError
from distdl.data import load_arrays
from distdl.data.npy import map_npy, read_npz

X = np.arange(24.0).reshape(4, 3, 2)
Y = np.arange(4)


def npy(array, **options):
    """Write an array as .npy."""
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def lie(shape, dtype="<f8"):
    """Write a .npy header without numbers."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def write_zip(path, members, compression=zipfile.ZIP_STORED):
    """Write a zip file of (name, content)."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
        warnings.simplefilter("ignore")
        for name, content in members:
            archive.writestr(name, content)


def test_npy_files_are_mapped(tmp_path):
    """Each a memory map, read-only, also in Fortran's order."""
    np.save(tmp_path / "x.npy", np.asfortranarray(X))
    np.save(tmp_path / "y.npy", Y)
    dataset = load_arrays(tmp_path / "x.npy", tmp_path / "y.npy")
    assert all(isinstance(array, np.memmap) and not array.flags.writeable for array in dataset.arrays)
    assert (dataset.arrays[0] == X).all()
    assert dataset.take(np.array([2]))[1].tolist() == [2]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_files_are_mapped_where_they_are_stored(tmp_path, save):
    """Both kinds hold the same; all arrays in the file's order, or the chosen ones."""
    save(tmp_path / "a.npz", x=np.asfortranarray(X), y=Y)
    dataset = load_arrays(tmp_path / "a.npz")
    assert (dataset.arrays[0] == X).all()
    assert (dataset.arrays[1] == Y).all()
    assert dataset.in_memory == (save is np.savez_compressed)
    assert load_arrays(tmp_path / "a.npz", names=["y"]).arrays[0].tolist() == [0, 1, 2, 3]
    with pytest.raises(ArgumentError, match=r"`names` .*one of x, y"):
        load_arrays(tmp_path / "a.npz", names=["z"])


def test_batches_have_the_byte_order_of_this_machine(tmp_path):
    """Also from a file of another: compiled kernels know no other."""
    np.save(tmp_path / "x.npy", X.astype(">f4"))
    (batch,) = load_arrays(tmp_path / "x.npy").take(np.array([1, 3]))
    assert batch.dtype.isnative
    assert (batch == X[[1, 3]]).all()


def test_names_belong_to_npz(tmp_path):
    """A .npy file has none."""
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(ArgumentError, match="`names`"):
        load_arrays(tmp_path / "x.npy", names=["x"])


def test_an_array_without_numbers_is_read(tmp_path):
    """Nothing cannot be mapped, but is no damage."""
    np.save(tmp_path / "x.npy", np.empty((0, 3)))
    assert map_npy(tmp_path / "x.npy").shape == (0, 3)


BAD_NPY = [
    (b"", "header of version"),
    (b"\x93NUMPY\x03\x00" + npy(X)[8:], "header of version"),
    (npy(X)[:40], "header of version"),
    (npy(X).replace(b"'shape'", b"'shapf'"), "header of version"),
    (npy(X).replace(b"(4, 3, 2)", b"(4, [], )"), "header of version"),
    (npy(np.array([None]), allow_pickle=True), "must hold numbers"),
    (npy(np.array(["text"])), "must hold numbers"),
    (npy(np.zeros(2, [("a", "f4")])), "must hold numbers"),
    (lie((-4, -2)), "dimensions >= 0"),
    (lie((10**12,)), "takes 8000000000000 bytes, the file can hold only 0"),
    (lie((2**40, 2**40)), "the file can hold only 0"),
    (npy(X)[:-1], "takes 192 bytes, the file can hold only 191"),
    (npy(X) + b"x", "must end after"),
]


@pytest.mark.parametrize(("content", "rule"), BAD_NPY)
@pytest.mark.parametrize("compression", [None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_array_is_named(tmp_path, content, rule, compression):
    """Objects, text, lying headers, truncation: alone, and in a zip file."""
    if compression is None:
        path, read = tmp_path / "x.npy", map_npy
        path.write_bytes(content)
    else:
        path, read = tmp_path / "x.npz", read_npz
        write_zip(path, [("x.npy", content)], compression)
    with pytest.raises(FileFormatError, match=rule) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("members", "rule"),
    [
        ([("../x.npy", npy(X))], "must be named NAME.npy"),
        ([("/x.npy", npy(X))], "must be named NAME.npy"),
        ([("a\\..\\x.npy", npy(X))], "must be named NAME.npy"),
        ([("x.pkl", b"")], "must be named NAME.npy"),
        ([("x.npy", npy(X)), ("x.npy", npy(Y))], "must be there once"),
    ],
)
def test_wrong_members_are_refused(tmp_path, members, rule):
    """Names that climb out, other files, names that come twice."""
    write_zip(tmp_path / "x.npz", members)
    with pytest.raises(FileFormatError, match=rule):
        read_npz(tmp_path / "x.npz")


def test_other_compressions_are_refused(tmp_path):
    """Their expansion has no known bound."""
    write_zip(tmp_path / "x.npz", [("x.npy", npy(X))], zipfile.ZIP_LZMA)
    with pytest.raises(FileFormatError, match="stored or deflated"):
        read_npz(tmp_path / "x.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_wrong_checksum_is_seen(tmp_path, save):
    """One flipped bit among the numbers."""
    save(tmp_path / "x.npz", x=np.random.default_rng(0).random(1000))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"whole \.npz file"):
        read_npz(tmp_path / "x.npz")


def test_a_zip_bomb_is_not_expanded(tmp_path):
    """The sum of what the members declare must be below the cap, and within what the file can hold."""
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros(10**6), y=np.zeros(10**6))
    assert (tmp_path / "x.npz").stat().st_size < 40_000
    files.set_read_limit(10**7)
    try:
        with pytest.raises(FileFormatError, match="more than the limit of 10000000"):
            read_npz(tmp_path / "x.npz")
    finally:
        files.set_read_limit(None)
    content = (tmp_path / "x.npz").read_bytes()
    size = (8 * 10**6 + 128).to_bytes(4, "little")
    assert size in content
    (tmp_path / "x.npz").write_bytes(content.replace(size, (2**31).to_bytes(4, "little")))
    with pytest.raises(FileFormatError, match="the content takes 4294967296 bytes"):
        read_npz(tmp_path / "x.npz")


def test_what_is_no_file_is_refused(tmp_path):
    """Missing, and no zip at all."""
    with pytest.raises(MissingDataError):
        load_arrays(tmp_path / "none.npz")
    (tmp_path / "x.npz").write_bytes(b"no zip")
    with pytest.raises(FileFormatError, match=r"whole \.npz file"):
        load_arrays(tmp_path / "x.npz")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from(["npy", "stored", "deflated"]))
def test_no_mutation_gives_another_error(tmp_path, data, kind):
    """Changed, cut or inserted bytes: arrays, or an error of the project; in a zip file never other numbers."""
    path, read = tmp_path / ("x.npy" if kind == "npy" else "x.npz"), map_npy if kind == "npy" else read_npz
    if kind == "npy":
        np.save(path, X)
    else:
        (np.savez if kind == "stored" else np.savez_compressed)(path, x=X)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not content:
            break
    path.write_bytes(content)
    try:
        found = read(path)
    except FileFormatError:
        return
    if kind != "npy":
        assert all((array == X).all() for array in found.values())
