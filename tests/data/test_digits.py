"""The UCI digits."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from distdl.core.errors import FileFormatError, MissingDataError
from distdl.data import digits, load_digits


def test_the_digits_are_those_of_scikit_learn():
    """All 1,797, scaled to [0, 1]."""
    datasets = pytest.importorskip("sklearn.datasets")
    bunch = datasets.load_digits()
    x, y = load_digits("all").arrays
    assert x.shape == (1797, 8, 8, 1)
    assert x.dtype == np.float32
    assert y.dtype == np.int64
    assert (x[..., 0] * 16 == bunch.images).all()
    assert (y == bunch.target).all()


def test_a_third_is_held_out_with_equal_shares_of_every_digit():
    """Training and testing are fixed, disjoint, and together everything."""
    train, test, everything = (load_digits(split) for split in ("train", "test", "all"))
    assert (len(train), len(test)) == (1198, 599)
    shares = np.bincount(test.arrays[1]) / np.bincount(everything.arrays[1])
    assert abs(shares - 1 / 3).max() < 0.006
    rows = [{image.tobytes() for image in dataset.arrays[0]} for dataset in (train, test, everything)]
    assert rows[0] | rows[1] == rows[2]
    assert (load_digits("test").arrays[1] == test.arrays[1]).all()


def test_loading_does_not_import_scikit_learn():
    """Which takes a second."""
    code = "import sys; from distdl.data import load_digits; load_digits(); sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_wrong_splits_are_refused():
    """The message lists those there are."""
    with pytest.raises(ValueError, match=r"`split` .*'train', 'test', 'all'"):
        load_digits("validation")


def test_without_scikit_learn_the_message_says_what_to_install(monkeypatch):
    """The extra is named."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDataError, match=r"pip install distdl\[examples\]"):
        load_digits()


@pytest.mark.parametrize("text", ["", "1,2\n", "x,y\n", ",".join(["17"] * 65)])
def test_a_damaged_file_is_named(tmp_path, monkeypatch, text):
    """Empty, too narrow, no numbers, out of range."""
    path = tmp_path / "digits.csv"
    path.write_text(text)
    monkeypatch.setattr(digits, "_file", lambda: path)
    with pytest.raises(FileFormatError, match=r"digits\.csv"):
        load_digits()
