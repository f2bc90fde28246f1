"""Augmentation of batches."""

import numpy as np
import pytest

from distdl.core import random
from distdl.data import Compose, Normalize, RandomCrop, RandomHorizontalFlip

IMAGES = np.random.default_rng(0).random((64, 6, 5, 2), dtype=np.float32)


@pytest.mark.parametrize("transform", [RandomHorizontalFlip(), RandomCrop(padding=2), RandomCrop((4, 3), (1, 0))])
def test_a_sample_is_transformed_alike_on_any_rank(transform):
    """Draws are keyed by sample and epoch; float32 stays; 0 rows are legal; the input is not written to."""
    before = IMAGES.copy()
    with random.batch_of(2, np.arange(64)):
        whole = transform(IMAGES)
    with random.batch_of(2, np.arange(64)[1::3]):
        part = transform(IMAGES[1::3])
    with random.batch_of(3, np.arange(64)):
        later = transform(IMAGES)
    assert (whole[1::3] == part).all()
    assert (whole != later).any()
    assert whole.dtype == np.float32
    assert (before == IMAGES).all()
    assert transform(IMAGES[:0]).shape == (0, *whole.shape[1:])


def test_flip_mirrors_columns_with_its_probability():
    """Each image is as it was, or mirrored left to right."""
    assert (RandomHorizontalFlip(1.0)(IMAGES) == IMAGES[:, :, ::-1]).all()
    assert (RandomHorizontalFlip(0.0)(IMAGES) == IMAGES).all()
    flipped = (RandomHorizontalFlip(0.5)(IMAGES) == IMAGES[:, :, ::-1]).all((1, 2, 3))
    assert 15 < flipped.sum() < 49


def test_crop_cuts_windows_of_the_padded_image():
    """Every window is one of those there are, and all places come up."""
    padded = np.pad(IMAGES, ((0, 0), (1, 1), (1, 1), (0, 0)))
    places = set()
    for image, window in zip(padded, RandomCrop(padding=1)(IMAGES), strict=True):
        hits = [(i, j) for i in range(3) for j in range(3) if (image[i : i + 6, j : j + 5] == window).all()]
        assert hits
        places.add(hits[0])
    assert len(places) == 9


def test_normalize_is_per_channel():
    """(x - mean) / std in the type of x; integers give float32."""
    x = Normalize(IMAGES.mean((0, 1, 2)), IMAGES.std((0, 1, 2)))(IMAGES)
    assert np.allclose(x.mean((0, 1, 2)), 0, atol=1e-5)
    assert np.allclose(x.std((0, 1, 2)), 1, atol=1e-5)
    assert x.dtype == np.float32
    assert Normalize(0.5, 2)(IMAGES.astype(np.float64)).dtype == np.float64
    assert Normalize(0, 255)(np.full((1, 1, 1, 1), 255, np.uint8)) == np.float32(1)


def test_compose_applies_first_to_last():
    """In the order given."""
    assert Compose(lambda x: x + 1, lambda x: x * 2)(3) == 8


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: RandomHorizontalFlip(1.5), "`p`"),
        (lambda: RandomCrop(0), "`size`"),
        (lambda: RandomCrop(padding=-1), "`padding`"),
        (lambda: Normalize(0, 0), "`std`"),
        (lambda: Normalize(np.nan, 1), "`mean`"),
        (lambda: Normalize([1, 2, 3], 1)(IMAGES), "`mean`.*2 channels"),
        (lambda: Compose(1), "callable"),
        (lambda: RandomCrop(8, 1)(IMAGES), "`size`.*fit into"),
        (lambda: RandomCrop()(IMAGES[0]), r"`x`.*\(n, height, width, channels\)"),
        (lambda: RandomHorizontalFlip()(IMAGES[..., 0]), "`x`"),
    ],
)
def test_wrong_arguments_are_refused(make, rule):
    """Each names the argument and the rule."""
    with pytest.raises((ValueError, TypeError), match=rule):
        make()
