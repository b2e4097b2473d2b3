"""Augmentation: what it does to pictures, and that it is the same however the batch is cut."""

import numpy as np
import pytest

from minivit.ops.philox import Generator
from minivit.training.augment import Affine, _warp, reference_warp


def pictures(shape=(5, 9, 7, 2)):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def roll(samples, step=0):
    rng = Generator(seed=3)
    rng.step, rng.samples = step, np.asarray(samples)
    return rng


def warped(images, *coefficients):
    out = np.empty_like(images)
    _warp(images, np.broadcast_to(np.array(coefficients, float), (len(images), 4)).copy(), out)
    return out


@pytest.mark.parametrize("strength", [0.5, 1, 4])
def test_fast_equals_reference(strength):
    images, affine = pictures((40, 9, 9, 2)), Affine(strength, angle=40, scale=0.4, shift=0.4)
    coefficients = affine.coefficients(np.random.default_rng(1).random((40, 4), np.float32), 9)
    out = np.empty_like(images)
    _warp(images, coefficients, out)
    difference = np.abs(out.astype(int) - reference_warp(images, coefficients))
    assert difference.max() <= 1                                      # where the value lies just between two grey levels
    assert (difference > 0).mean() < 1e-3


def test_no_motion_changes_nothing():
    images = pictures()
    np.testing.assert_array_equal(warped(images, 1, 0, 0, 0), images)
    assert Affine(0)(images, roll(range(5))) is images


def test_whole_shifts_move_pixels_and_fill_with_black():
    images = pictures()
    moved = warped(images, 1, 0, 2, -1)
    np.testing.assert_array_equal(moved[:, :-2, 1:], images[:, 2:, :-1])
    assert not moved[:, -2:].any()
    assert not moved[:, :, :1].any()
    assert not warped(images, 1, 0, 20, 0).any()


def test_a_quarter_turn_is_that_of_numpy():
    images = pictures((2, 6, 6, 1))
    np.testing.assert_array_equal(warped(images, 0, 1, 0, 0), np.rot90(images, -1, axes=(1, 2)))


def test_each_image_is_varied_by_its_own_number_and_the_step():
    images, affine = pictures((6, 8, 8, 1)), Affine()
    whole = affine(images, roll(range(6)))
    np.testing.assert_array_equal(affine(images[2:5], roll([2, 3, 4])), whole[2:5])
    assert not np.array_equal(affine(images, roll(range(6), step=1)), whole)
    assert not np.shares_memory(whole, images)


def test_strength_has_a_range():
    with pytest.raises(ValueError, match="strength of augmentation must be a finite number at least 0 and at most 4, not -1"):
        Affine(-1)
