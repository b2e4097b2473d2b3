"""Crop and flip: pixels move to other places, and keep their values.

    crop               the picture is padded with black and cut out again at a random place: a shift by up to r pixels each way,
                       r = reach side, rounded
    flip               a random half of the pictures is mirrored, left to right
    alternating-flip   a random half of the pictures is mirrored in the first epoch, the other half in the second, and so on. Of
                       two epochs in a row, each shows the model one side of every picture, where random flips show half of them
                       the same side twice.

Sources: He et al., arXiv:1512.03385 (crop, flip); Jordan, "94% on CIFAR-10 in 3.29 seconds", arXiv:2404.00498 (alternating).
"""

from dataclasses import dataclass

import numpy as np

from ...common.checks import check_number
from ...kernel import kernel
from .step import Step


@dataclass(frozen=True)
class Crop(Step):
    """Shifts by up to `reach` of the side, each way; black comes in."""

    reach: float = 0.125

    def __post_init__(self):
        check_number("reach of crop", self.reach, least=0, most=1)

    def vary(self, images, rng, stream):
        """As `Step.vary`."""
        reach = np.round(self.reach * np.array(images.shape[1:3])).astype(int)       # pixels
        shifts = np.floor(rng.uniform(stream, 2).astype(np.float64) * (2 * reach + 1)).astype(int) - reach
        return _moved(images, shifts, np.zeros(len(images), bool))


@dataclass(frozen=True)
class Flip(Step):
    """Mirrors left and right, with a `probability`."""

    probability: float = 0.5

    def __post_init__(self):
        check_number("probability of flip", self.probability, least=0, most=1)

    def vary(self, images, rng, stream):
        """As `Step.vary`."""
        return _moved(images, np.zeros((len(images), 2), int), rng.uniform(stream, 1)[:, 0] < self.probability)


@dataclass(frozen=True)
class AlternatingFlip(Step):
    """Mirrors left and right every other epoch; chance decides for each image whether in the even or in the odd ones."""

    def vary(self, images, rng, stream):
        """As `Step.vary`."""
        odd = rng.lasting(stream, 1)[:, 0] < 0.5
        return _moved(images, np.zeros((len(images), 2), int), odd == bool(rng.epoch % 2))


def reference_move(images, shifts, flips):
    """images (M, H, W, C); pixel (i, j) of picture m comes from (i + y, j + x), with y, x = shifts[m], then mirrored if flips[m]."""
    _, H, W, _ = images.shape
    moved = []
    for image, (y, x), flip in zip(images, shifts, flips, strict=True):
        padded = np.pad(image, ((H, H), (W, W), (0, 0)))
        cut = padded[H + y:2 * H + y, W + x:2 * W + x]
        moved.append(cut[:, ::-1] if flip else cut)
    return np.stack(moved)


# ---- the same, without padding ----------------------------------------------------------------------------


def _moved(images, shifts, flips):
    out = np.empty_like(images)
    _move(images, shifts, flips, out)
    return out


@kernel
def _move(images, shifts, flips, out):
    M, H, W, C = images.shape
    for m in range(M):
        y, x = shifts[m]
        for i in range(H):
            for j in range(W):
                row, column = i + y, (W - 1 - j if flips[m] else j) + x
                inside = 0 <= row < H and 0 <= column < W
                for c in range(C):
                    out[m, i, j, c] = images[m, row, column, c] if inside else 0
