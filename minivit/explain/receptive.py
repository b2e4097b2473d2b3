"""Receptive fields: which pixels an output depends on, and how much.

An output y[place] depends on a pixel if its derivative with respect to that pixel is not zero. The backward computes
this derivative: let the upstream gradient dy be zero except at the place. Then backward(dy) is zero at every pixel
outside of the receptive field. At the place, dy holds random signs over the channels, so that channels almost never
cancel. |dx| measures how strongly the output depends on each pixel.

A stack of L convolutions of k x k and stride 1 has a receptive field of 1 + L (k - 1) pixels a side. Most of the weight
lies in the middle, and the spread of the field grows only as sqrt L. To see why, let all weights be positive. dx is
then dy convolved L times with the filters. Normalise each filter to the sum 1: it is the distribution of a random step,
and L convolutions give the distribution of the sum of L independent steps. Variances of independent steps add, so the
variance of the sum is L times the variance of one step. The spread is its root, sqrt L times the spread of one filter.
With random weights, the expectation of |dx|**2 obeys the same recursion with the squared weights as filters.

Attention depends on all tokens from the first layer on.

Source: Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks",
arXiv:1701.04128.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np


def receptive_field(target: Any, x: np.ndarray, place: Sequence[int], seed: int = 0) -> np.ndarray:
    """Return how much the output at one place depends on each pixel.

    Parameters
    ----------
    target : object with forward and backward
        forward (B, H, W, C) -> y and backward dy -> dx: a layer, a `Sequential` or `FirstBlocks`, for instance.
    x : np.ndarray
        Images (B, H, W, C).
    place : sequence of int
        Index of y between the batch and the channels: (row, column) of a map, or (n,) of tokens.
    seed : int
        Seed of the signs in dy.

    Returns
    -------
    np.ndarray
        The field (H, W): |dx|, summed over channels and averaged over images.

    Raises
    ------
    ValueError
        If y has no such place.

    Examples
    --------
    >>> import numpy as np
    >>> from minivit.layers import Convolution
    >>> layer = Convolution(2, 3, size=3, padding=1)
    >>> field = receptive_field(layer, np.ones((1, 7, 7, 2), np.float32), (3, 3))
    >>> extent(field)
    (3, 3)
    """
    y = target.forward(x)
    where, channels = (slice(None), *place), y.shape[len(place) + 1:]
    if len(channels) != 1 or not all(0 <= i < size for i, size in zip(place, y.shape[1:], strict=False)):
        raise ValueError(f"unknown place {tuple(place)}: the output has the shape {y.shape}, give an index for each "
                         "axis between the batch and the channels")
    dy = np.zeros_like(y)
    dy[where] = np.random.default_rng(seed).choice([-1, 1], (len(y), *channels))
    return np.abs(target.backward(dy)).sum(axis=-1).mean(axis=0)


def extent(field: np.ndarray) -> tuple[int, int]:
    """Return the (rows, columns) of the smallest rectangle that contains all nonzero pixels of a field (H, W)."""
    seen = [np.flatnonzero(field.any(axis=axis)) for axis in (1, 0)]
    rows, columns = (int(places[-1] - places[0] + 1) if places.size else 0 for places in seen)
    return rows, columns


def spread(field: np.ndarray) -> float:
    """Return the root mean square distance of a field (H, W) from its centre of mass, in pixels."""
    weight = field / field.sum()
    squares = 0.0
    for axis, size in enumerate(field.shape):
        along, place = weight.sum(axis=1 - axis), np.arange(size)
        squares += along @ (place - along @ place) ** 2
    return float(np.sqrt(squares))
