"""Crop and flip: pixels move to other places and keep their values.

    crop               pad the image with black, then cut out the original size at a random position. This shifts
                       the image by up to r pixels in each direction, where r = reach side, rounded.
    flip               flip the image left to right, with probability 1/2.
    alternating-flip   flip a random half of the images in the first epoch, the other half in the second, and so on.

With alternating flips, two consecutive epochs show each image once as it is and once flipped. With independent random
flips, half of the images look the same in both epochs.

Sources: He et al., arXiv:1512.03385 (crop, flip); Jordan, "94% on CIFAR-10 in 3.29 seconds", arXiv:2404.00498
(alternating flip).
"""

from dataclasses import dataclass

import numpy as np

from ...kernel import kernel
from ...ops.philox import Generator
from .transform import Transform, check_fields


@dataclass(frozen=True)
class Crop(Transform):
    """Shift the image at random; pixels that come in from outside are black.

    Parameters
    ----------
    reach : float, 0 to 1
        Largest shift in each direction, as a fraction of the side.
    """

    reach: float = 0.125

    def __post_init__(self) -> None:
        check_fields(self, reach=(0, 1))

    def apply(self, images: np.ndarray, rng: Generator, stream: int) -> np.ndarray:
        """See `Transform.apply`."""
        reach = np.round(self.reach * np.array(images.shape[1:3])).astype(int)       # pixels
        shifts = np.floor(rng.uniform(stream, 2).astype(np.float64) * (2 * reach + 1)).astype(int) - reach
        return _moved(images, shifts, np.zeros(len(images), bool))


@dataclass(frozen=True)
class Flip(Transform):
    """Flip the image left to right, with a `probability`."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        check_fields(self, probability=(0, 1))

    def apply(self, images: np.ndarray, rng: Generator, stream: int) -> np.ndarray:
        """See `Transform.apply`."""
        return _moved(images, np.zeros((len(images), 2), int), rng.uniform(stream, 1)[:, 0] < self.probability)


@dataclass(frozen=True)
class AlternatingFlip(Transform):
    """Flip the image left to right in every other epoch. A random half of the images starts with the flip."""

    def apply(self, images: np.ndarray, rng: Generator, stream: int) -> np.ndarray:
        """See `Transform.apply`."""
        odd = rng.uniform_per_image(stream, 1)[:, 0] < 0.5
        return _moved(images, np.zeros((len(images), 2), int), odd == bool(rng.epoch % 2))


def reference_move(images: np.ndarray, shifts: np.ndarray, flips: np.ndarray) -> np.ndarray:
    """Shift images (B, H, W, C) by shifts (B, 2), then flip those where flips (B,) is true, in plain NumPy.

    Pixel (i, j) of a shifted image comes from (i + y, j + x) of the image, where (y, x) is its shift.
    """
    _, H, W, _ = images.shape
    moved = []
    for image, (y, x), flip in zip(images, shifts, flips, strict=True):
        padded = np.pad(image, ((H, H), (W, W), (0, 0)))
        crop = padded[H + y:2 * H + y, W + x:2 * W + x]
        moved.append(crop[:, ::-1] if flip else crop)
    return np.stack(moved)


# ---- the same, without padding ----------------------------------------------------------------------------


def _moved(images, shifts, flips):
    """Fast version of `reference_move`."""
    out = np.empty_like(images)
    _move(images, shifts, flips, out)
    return out


@kernel
def _move(images, shifts, flips, out):
    B, H, W, C = images.shape
    for b in range(B):
        y, x = shifts[b]
        for i in range(H):
            for j in range(W):
                row, column = i + y, (W - 1 - j if flips[b] else j) + x
                inside = 0 <= row < H and 0 <= column < W
                for c in range(C):
                    out[b, i, j, c] = images[b, row, column, c] if inside else 0
