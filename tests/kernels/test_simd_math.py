"""Exponentials, GELU and its kin on vectors are as accurate as they say, at every place of an array."""

import numpy as np
import pytest
from scipy.special import ndtr

from distdl.kernels import gates
from distdl.kernels.compile import jit
from distdl.kernels.simd_math import exp
from distdl.kernels.tiles import get, put


@jit
def exponentials(x, y):
    for i in range(0, x.size, 16):
        put(y, i, exp(get(x, i, x.size - i)), x.size - i)


def test_exp_errs_by_less_than_one_unit_in_the_last_place():
    """From the least float32 that is not 0 to the greatest: the error is below 1 ulp, denormal results included."""
    x = np.linspace(-103, 88.7, 1_000_003, dtype=np.float32)
    y = np.empty_like(x)
    exponentials(x, y)
    exact = np.exp(x.astype(np.float64))
    assert (np.abs(y - exact) / np.spacing(exact.astype(np.float32))).max() < 1


def test_exp_ends_in_zero_and_infinity():
    """Outside of the range of float32 results are 0 and infinity, and NaN stays."""
    x = np.array([-np.inf, -1e30, -105, 89, 1e30, np.inf, np.nan, 0, -0.0], np.float32)
    y = np.empty_like(x)
    exponentials(x, y)
    np.testing.assert_array_equal(y, np.array([0, 0, 0, np.inf, np.inf, np.inf, np.nan, 1, 1], np.float32))


def test_gelu_is_accurate_in_its_tails():
    """The absolute error is below 4e-7, and where x > -13 the relative error is below 1e-5."""
    x = np.linspace(-13, 13, 1_000_001, dtype=np.float32)
    y, slope = np.empty_like(x), np.empty_like(x)
    gates.gelu_vectors(x, y, slope)
    wide = x.astype(np.float64)
    exact = wide * ndtr(wide)
    assert np.abs(y - exact).max() < 4e-7
    assert (np.abs(y - exact) <= 1e-5 * np.abs(exact)).all()
    exact_slope = ndtr(wide) + wide * np.exp(-0.5 * wide * wide) / np.sqrt(2 * np.pi)
    assert np.abs(slope - exact_slope).max() < 4e-7


@pytest.mark.parametrize("name", ["gelu_vectors", "silu", "tanh_gelu", "sigmoid"])
def test_a_value_gives_the_same_bits_at_every_place(name):
    """What stands before and behind a value changes nothing: in whole vectors, at the end, alone."""
    function = getattr(gates, name)
    x = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    outputs = [np.empty_like(x) for _ in range(1 if name == "sigmoid" else 2)]
    function(x, *outputs)
    for start, stop in ((0, 1), (3, 50), (99, 100), (17, 100)):
        parts = [np.empty(stop - start, np.float32) for _ in outputs]
        function(x[start:stop], *parts)
        for part, whole in zip(parts, outputs, strict=True):
            np.testing.assert_array_equal(part, whole[start:stop])
