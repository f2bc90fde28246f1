"""The greatest elements are chosen exactly, whatever a sample says about them."""

import numpy as np
import pytest

from distdl.kernels.select import select_greatest

DRAWS = {
    "normal": lambda rng: rng.standard_normal(50_000),
    "few are not 0": lambda rng: np.where(rng.random(50_000) < 1e-3, 1.0, 0.0),
    "all equal": lambda rng: np.ones(50_000),
    "great where no sample is": lambda rng: np.where(np.arange(50_000) % 13, np.arange(50_000) % 7 + 1.0, 0.5),
    "rising": lambda rng: np.arange(50_000.0),
    "with NaN": lambda rng: np.where(np.arange(50_000) % 5000 == 7, np.nan, rng.standard_normal(50_000)),
}


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("count", [0, 1, 500, 49_999, 50_000])
def test_the_greatest_are_chosen_and_of_equals_the_first(draw, count):
    """As a stable sort by size has them, with NaN before all; in rising order."""
    x = DRAWS[draw](np.random.default_rng(0)).astype(np.float32)
    places = np.full(count, -1, np.int32)
    select_greatest(x, places, np.empty(x.size, np.int32))
    sizes = np.where(np.isnan(x), np.inf, np.abs(x))
    expected = np.sort(np.argsort(-sizes, kind="stable")[:count])
    np.testing.assert_array_equal(places, expected)
