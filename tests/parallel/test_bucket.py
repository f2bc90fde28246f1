"""How parameters are cut into buckets."""

import numpy as np
import pytest

import distdl
from distdl.parallel.bucket import group


@pytest.mark.parametrize(
    ("bucket_bytes", "expected"),
    [(1, [[3], [2], [1], [0]]), (16, [[3, 2], [1], [0]]), (20, [[3, 2, 1], [0]]), (1000, [[3, 2, 1, 0]])],
)
def test_a_bucket_is_full_when_it_has_reached_its_size(bucket_bytes, expected):
    """Last parameters come first, and what reaches the size belongs to it."""
    parameters = [distdl.Parameter(np.zeros(size, np.float32)) for size in (2, 5, 3, 1)]
    numbers = {id(parameter): i for i, parameter in enumerate(parameters)}
    found = group(parameters, bucket_bytes)
    assert [[numbers[id(member)] for member in members] for members in found] == expected


def test_each_dtype_has_buckets_of_its_own():
    """Parameters of two types, in turn, fill two buckets at a time."""
    parameters = [distdl.Parameter(np.zeros(2, dtype)) for dtype in ("float32", "float64") * 2]
    found = group(parameters, 16)
    assert [[member.dtype.str for member in members] for members in found] == [["<f8"], ["<f8"], ["<f4", "<f4"]]
