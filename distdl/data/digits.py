"""The UCI handwritten digits: 1,797 images of 8x8 pixels that scikit-learn carries along.

E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

import importlib.util
import warnings
from pathlib import Path

import numpy as np

from ..core import checks, random
from ..core.errors import FileFormatError, MissingDataError
from .dataset import ArrayDataset


def load_digits(split: str = "train") -> ArrayDataset:
    """Load the UCI digits: inputs in [0, 1] and labels.

    Args:
        split: "train", "test" (a fixed third, with equal shares of every digit), or "all".

    Returns:
        Inputs float32 (n, 8, 8, 1) and labels int64 (n,): 1,198 for training, 599 for testing.

    Raises:
        ValueError: an unknown split, or a damaged file.
        MissingDataError: scikit-learn is not installed.
    """
    checks.one_of("split", split, ("train", "test", "all"))
    images, labels = _read(_file())
    if split == "all":
        return ArrayDataset(images, labels)
    held_out = _held_out(labels)
    rows = np.flatnonzero(held_out if split == "test" else ~held_out)
    return ArrayDataset(images[rows], labels[rows])


def _file() -> Path:
    # Importing scikit-learn takes a second, its folder is all that is needed.
    spec = importlib.util.find_spec("sklearn")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, "datasets", "data", "digits.csv.gz")
        if path.is_file():
            return path
    raise MissingDataError("the UCI digits come with scikit-learn: install it with `pip install distdl[examples]`")


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty file is an error below
            table = np.loadtxt(path, delimiter=",", dtype=np.float32)
    except (ValueError, EOFError, OSError) as error:
        raise FileFormatError(f"{path}: must be a table of numbers ({error})") from error
    if table.ndim != 2 or table.shape[1] != 65 or not ((table >= 0) & (table <= 16)).all():
        raise FileFormatError(f"{path}: must hold 64 pixels and a label a line, in [0, 16]; holds {table.shape}")
    return table[:, :64].reshape(-1, 8, 8, 1) / np.float32(16), table[:, 64].astype(np.int64)


def _held_out(labels: np.ndarray) -> np.ndarray:
    """Mark every third sample of a shuffled list that is sorted by label."""
    shuffled = random.permutation("digits split", 0, len(labels), seed=0)
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    held_out = np.zeros(len(labels), bool)
    held_out[by_label[::3]] = True
    return held_out
