"""Cutout and random erasing: a part of the image is hidden, so that the model learns to use the rest. The target stays.

    cutout    a square becomes black; its centre may lie anywhere, so it may extend beyond the edge
    erase     a rectangle inside the image becomes noise

Sources: DeVries and Taylor, arXiv:1708.04552 (cutout); Zhong et al., arXiv:1708.04896 (random erasing).
"""

import math
from dataclasses import dataclass

import numpy as np

from ...kernel import kernel
from ...ops.philox import Generator
from .transform import Transform, check_fields, select


@dataclass(frozen=True)
class Cutout(Transform):
    """Blacken a square, with a `probability`.

    Parameters
    ----------
    size : float, 0 to 2
        Side of the square, as a fraction of the image's side.
    probability : float, 0 to 1
        Fraction of the images that are changed.
    """

    strong = True
    size: float = 0.5
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_fields(self, size=(0, 2), probability=(0, 1))

    def apply(self, images: np.ndarray, rng: Generator, stream: int) -> np.ndarray:
        """See `Transform.apply`."""
        u, selected = select(self.probability, rng, stream, 3)
        squares = boxes(u[:, 1:], np.full((len(u), 2), self.size), images.shape)
        return pasted(images, selected, np.zeros_like(images[:1]), squares)


@dataclass(frozen=True)
class Erase(Transform):
    """Fill a rectangle with noise, with a `probability`.

    Parameters
    ----------
    area : float, 0.02 to 1
        Largest area of the rectangle, as a fraction of the image's area; the smallest is 0.02. Its sides are at most
        10 : 3.
    probability : float, 0 to 1
        Fraction of the images that are changed.
    """

    strong = True
    area: float = 0.33
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_fields(self, area=(0.02, 1), probability=(0, 1))

    def apply(self, images: np.ndarray, rng: Generator, stream: int) -> np.ndarray:
        """See `Transform.apply`."""
        u, selected = select(self.probability, rng, stream, 8)
        area, aspect = 0.02 + (self.area - 0.02) * u[:, 1], 0.3 ** (2 * u[:, 2] - 1)
        sides = np.minimum(np.sqrt(np.stack([area * aspect, area / aspect], axis=1)), 1)
        centres = sides / 2 + (1 - sides) * u[:, 3:5]                 # the rectangle lies inside the image
        noise = rng.for_samples(rng.samples[selected]).uniform(stream, 8 + math.prod(images.shape[1:]))[:, 8:]
        noise = (256 * noise).astype(np.uint8).reshape(-1, *images.shape[1:])
        return pasted(images, selected, noise, boxes(centres, sides, images.shape))


def boxes(centres: np.ndarray, sides: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Convert rectangles to pixels and clip them to the image.

    Parameters
    ----------
    centres, sides : (n, 2)
        Vertical and horizontal, as fractions of the image's sides.
    shape : tuple
        (B, H, W, C) of the images.

    Returns
    -------
    (n, 4) int
        Top, left, bottom, right of each rectangle.
    """
    size = np.array(shape[1:3])
    start = np.round((centres - sides / 2) * size).astype(int)
    end = start + np.round(sides * size).astype(int)
    return np.concatenate([np.clip(start, 0, size), np.clip(end, 0, size)], axis=1)


def reference_paste(images: np.ndarray, selected: np.ndarray, source: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Copy a rectangle of another image into each selected image, in plain NumPy.

    Parameters
    ----------
    images : (B, H, W, C)
        Not modified.
    selected : (n,)
        Indices of the images to change.
    source : (n, H, W, C), or (1, H, W, C) for all
        The images to copy from.
    boxes : (n, 4)
        The rectangles: top, left, bottom, right.

    Returns
    -------
    (B, H, W, C)
        A fresh array.
    """
    out = images.copy()
    for k, (index, (top, left, bottom, right)) in enumerate(zip(selected, boxes, strict=True)):
        out[index, top:bottom, left:right] = source[k % len(source), top:bottom, left:right]
    return out


# ---- the same, compiled -----------------------------------------------------------------------------------


def pasted(images: np.ndarray, selected: np.ndarray, source: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Fast version of `reference_paste`."""
    out = images.copy()
    _paste(out, selected, source, boxes)
    return out


@kernel
def _paste(images, selected, source, boxes):
    for k in range(selected.size):
        top, left, bottom, right = boxes[k]
        for i in range(top, bottom):
            for j in range(left, right):
                for c in range(images.shape[3]):
                    images[selected[k], i, j, c] = source[k % source.shape[0], i, j, c]
