"""Fashion-MNIST: 70,000 images of 28x28 pixels in ten classes of clothing.

H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
algorithms", 2017, arXiv:1708.07747.
"""

import os
from pathlib import Path

import numpy as np

from ..core import checks, settings
from ..core.errors import MissingDataError
from ..core.files import StrPath, bad_file
from .dataset import ArrayDataset
from .idx import read_idx

_STEMS = {"train": "train", "test": "t10k"}


def load_fashion_mnist(split: str = "train", root: StrPath | None = None) -> ArrayDataset:
    """Load Fashion-MNIST: inputs in [0, 1] and labels.

    Args:
        split: "train" or "test".
        root: the directory of the IDX files; by default the first of `places()` that has them.

    Returns:
        Inputs float32 (n, 28, 28, 1) and labels int64 (n,): 60,000 for training, 10,000 for testing.

    Raises:
        ValueError: an unknown split, or a damaged file.
        MissingDataError: the files are not on this machine.
    """
    stem = _STEMS[checks.one_of("split", split, tuple(_STEMS))]
    folders = [Path(root)] if root is not None else places()
    images_path, labels_path = (_find(folders, f"{stem}-{name}") for name in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or images.shape[1:] != (28, 28) or images.dtype != np.uint8:
        raise bad_file(images_path, f"must hold bytes of shape (n, 28, 28), holds {images.dtype} {images.shape}")
    if labels.shape != images.shape[:1] or labels.dtype != np.uint8 or labels.max() > 9:
        rule = f"must hold a label in [0, 9] for each of {len(images)} images"
        raise bad_file(labels_path, f"{rule}, holds {labels.dtype} {labels.shape}, largest {labels.max()}")
    return ArrayDataset(images[..., None] * np.float32(1 / 255), labels.astype(np.int64))


def places() -> list[Path]:
    """List where Fashion-MNIST is looked for; scripts/fetch_fashion_mnist writes to the first or second."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    chosen = settings.data_directory()
    return [
        *([chosen / "fashion-mnist", chosen] if chosen else []),
        caches / "distdl" / "fashion-mnist",
        Path("/usr/share/datasets/fashion-mnist"),
    ]


def _find(folders: list[Path], name: str) -> Path:
    for folder in folders:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    where = ", ".join(map(str, folders))
    raise MissingDataError(
        f"{name} of Fashion-MNIST is in none of {where}: run scripts/fetch_fashion_mnist, or set DISTDL_DATA"
    )
