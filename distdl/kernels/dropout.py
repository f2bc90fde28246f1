"""Dropout masks, drawn by Philox4x32-10 as `distdl.core.random.philox` draws."""

from typing import Any

import numpy as np

from ..core.random import philox
from .registry import helper, kernel

_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


@helper
def _four_words(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    for _ in range(10):
        p0, p1 = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (p1 >> _HALF) ^ c1 ^ k0, p1 & _LOW, (p0 >> _HALF) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _WEYL_0) & _LOW, (k1 + _WEYL_1) & _LOW
    return c0, c1, c2, c3


def _dropout_mask(
    key0: int, key1: int, epoch: int, samples: np.ndarray, threshold: int, scale: float, mask: np.ndarray
) -> None:
    words = philox(np.array([key0, key1], np.uint32), epoch, samples, mask.shape[1])
    mask[...] = np.where(words >= threshold, scale, 0)


@kernel(reference=_dropout_mask)
def dropout_mask(key0, key1, epoch, samples, threshold, scale, mask):  # type: ignore[no-untyped-def]
    """mask[i, k] = scale if the k-th word of sample i is at least `threshold`, else 0.

    samples int64 (n,); mask (n, values of a row); threshold within [0, 2^32]: the probability of 0, times 2^32.
    """
    keep, drop = mask.dtype.type(scale), mask.dtype.type(0)
    limit = np.uint64(threshold)
    count = mask.shape[1]
    for i in range(mask.shape[0]):
        sample = np.uint64(samples[i])
        for start in range(0, count, 4):
            words = _four_words(
                np.uint64(start >> 2),
                np.uint64(epoch) & _LOW,
                sample & _LOW,
                sample >> _HALF,
                np.uint64(key0),
                np.uint64(key1),
            )
            mask[i, start] = keep if words[0] >= limit else drop
            if start + 1 < count:
                mask[i, start + 1] = keep if words[1] >= limit else drop
            if start + 2 < count:
                mask[i, start + 2] = keep if words[2] >= limit else drop
            if start + 3 < count:
                mask[i, start + 3] = keep if words[3] >= limit else drop
