"""From the bytes of a member of a tar file to a value, by the end of its name."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from ...core.errors import MissingDataError
from ..npy import parse_npy

Decoder = Callable[[bytes], Any]


def decode_npy(content: bytes) -> np.ndarray:
    """Return the array of a .npy file of numbers, read-only."""
    return parse_npy("the content", content)


def decode_image(content: bytes) -> np.ndarray:
    """Return an image as uint8 of shape (height, width, 3), by Pillow.

    Raises:
        MissingDataError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingDataError("images are decoded by Pillow: pip install pillow, or give `decoders`") from None
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def _number(content: bytes) -> int:
    return int(content.decode("ascii"))


def _text(content: bytes) -> str:
    return content.decode("utf-8")


DECODERS: dict[str, Decoder] = {
    "npy": decode_npy,
    "cls": _number,
    "id": _number,
    "index": _number,
    "txt": _text,
    "text": _text,
    "json": json.loads,
    "jpg": decode_image,
    "jpeg": decode_image,
    "png": decode_image,
}
"""By the last part of a member's name, as WebDataset has them; others stay bytes."""
