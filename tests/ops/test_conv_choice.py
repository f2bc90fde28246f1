"""Which algorithm convolves: a table says so, and all of them give the same."""

import json
from importlib import resources

import numpy as np
import pytest

from distdl import nn, tensor
from distdl.ops import conv_algorithms, conv_table
from distdl.ops.conv_ending import Ending
from distdl.ops.conv_geometry import Geometry
from distdl.ops.conv_pointwise import Pointwise
from distdl.ops.conv_table import Shape

SHAPES = {
    "wide 3x3": ((3, 16, 16, 32), (3, 3, 32, 48), (1, 1)),
    "narrow 3x3": ((3, 9, 7, 8), (3, 3, 8, 9), (1, 1)),
    "first": ((3, 12, 12, 1), (3, 3, 1, 32), (1, 1)),
    "strided": ((3, 15, 16, 16), (3, 3, 16, 32), (2, 2)),
    "pointwise": ((3, 6, 6, 20), (1, 1, 20, 33), (1, 1)),
    "pointwise strided": ((3, 7, 6, 20), (1, 1, 20, 33), (2, 2)),
    "5x5": ((3, 9, 9, 6), (5, 5, 6, 16), (1, 1)),
    "uneven": ((3, 9, 8, 6), (2, 3, 6, 5), (2, 1)),
}


def arguments(name):
    """Return float64 x, w, b, dy and the geometry of a convolution."""
    image, weights, stride = SHAPES[name]
    rng = np.random.default_rng(1)
    x, w, b = rng.standard_normal(image), rng.standard_normal(weights), rng.standard_normal(weights[3])
    pads = tuple((size // 2, (size - 1) // 2) for size in weights[:2])
    g = Geometry(x.shape, w.shape, stride, pads, (1, 1), 1)
    return x, w, b, rng.standard_normal((len(x), *g.out, g.outputs)), g


def passes(algorithm, g, x, w, b, dy):
    """Return the result and the gradients of one algorithm."""
    ending = Ending(g, x.dtype, relu=False, pool=False)
    y = algorithm.forward(x, w, b, ending)
    dw = np.empty_like(w)
    dx, db = algorithm.backward(x, w, ending, dy, True, dw)
    return y, dx, dw, db


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_all_algorithms_give_the_same(name):
    """Each that suits a shape agrees in all passes with float64, relative to the greatest value: 2e-5."""
    *arrays, g = arguments(name)
    expected = passes(conv_algorithms.ALGORITHMS["unfolding"](g), g, *arrays)
    single = [array.astype(np.float32) for array in arrays]
    names = conv_algorithms.suiting(g, np.dtype(np.float32), exact=False)
    assert {"direct", "unfolding"} <= set(names)
    makers = [conv_algorithms.ALGORITHMS[name] for name in names] + [Pointwise] * Pointwise.suits(g)
    for make in makers:
        for ours, theirs in zip(passes(make(g), g, *single), expected, strict=True):
            assert np.abs(ours - theirs).max() <= 2e-5 * np.abs(theirs).max(), make


def test_the_choice_depends_on_one_image_only():
    """Batches of 0, 1 and 100 images are convolved by the same algorithm."""
    w = np.zeros((3, 3, 32, 32), np.float32)
    kinds = set()
    for count in (0, 1, 100):
        g = Geometry((count, 8, 8, 32), w.shape, (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
        kinds.add(type(conv_algorithms.choose(g, w.dtype)).__name__)
    assert kinds == {"Winograd"}


def test_an_image_has_the_same_bits_in_any_batch():
    """Results and input gradients of an image do not depend on what else is in the batch."""
    for name in SHAPES:
        x, w, b, dy, _ = (
            array.astype(np.float32) if isinstance(array, np.ndarray) else None for array in arguments(name)
        )
        _, _, stride = SHAPES[name]
        pads = tuple((size // 2, (size - 1) // 2) for size in w.shape[:2])
        whole = Geometry(x.shape, w.shape, stride, pads, (1, 1), 1)
        y, dx, _, _ = passes(conv_algorithms.choose(whole, x.dtype), whole, x, w, b, dy)
        for i in range(len(x)):
            part = slice(i, i + 1)
            g = Geometry(x[part].shape, w.shape, stride, pads, (1, 1), 1)
            one = passes(conv_algorithms.choose(g, x.dtype), g, x[part], w, b, dy[part])
            np.testing.assert_array_equal(one[0], y[part])
            np.testing.assert_array_equal(one[1], dx[part])


@pytest.mark.parametrize("cpu", ["avx2", "avx512"])
def test_the_table_is_whole(cpu):
    """Every entry holds times of two algorithms or more, and its own shape takes the winner."""
    entries = conv_table.table(cpu)
    assert len(entries) > 80
    for entry in entries:
        assert len(entry.milliseconds) >= 2
        assert entry.milliseconds[entry.winner] == min(entry.milliseconds.values())
        assert entry.shape.distance(entry.shape) == 0
    assert set(json.loads(resources.files("distdl.ops").joinpath("conv_table.json").read_text())) == {"avx2", "avx512"}


def test_what_was_not_measured_takes_the_nearest():
    """Shapes between and beyond those of the table get an algorithm that suits them."""
    for shape in (
        Shape(3, 1, 48, 96, 28),
        Shape(3, 1, 1000, 1000, 1),
        Shape(9, 3, 2, 5, 200),
        Shape(3, 1, 16, 16, 600),
    ):
        assert conv_table.fastest(shape, ("direct", "unfolding")) in ("direct", "unfolding")
    assert conv_table.fastest(Shape(3, 1, 96, 96, 30), ("winograd", "direct", "unfolding")) == "winograd"


def test_exact_leaves_winograd_out(monkeypatch):
    """The layer's option and DISTDL_EXACT take an algorithm that rounds less."""
    x, w, _, _, g = arguments("wide 3x3")
    x, w = x.astype(np.float32), w.astype(np.float32)
    assert type(conv_algorithms.choose(g, x.dtype)).__name__ == "Winograd"
    assert type(conv_algorithms.choose(g, x.dtype, exact=True)).__name__ == "Direct"
    plain, exact = nn.Conv2d(32, 48, 3, padding=1), nn.Conv2d(32, 48, 3, padding=1, exact=True)
    exact.load_state_dict(plain.state_dict())
    wide = plain.astype("float64")(tensor(x.astype("float64"))).data
    plain.astype("float32")
    errors = [np.abs(layer(tensor(x)).data - wide).max() for layer in (plain, exact)]
    assert errors[1] < errors[0] / 3
    monkeypatch.setenv("DISTDL_EXACT", "1")
    assert type(conv_algorithms.choose(g, x.dtype)).__name__ == "Direct"
    np.testing.assert_array_equal(plain(tensor(x)).data, exact(tensor(x)).data)
