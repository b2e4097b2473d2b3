"""Receptive fields: which pixels an output depends on, and how much.

The output y[place] depends on a pixel if the derivative of y[place] with respect to it is not zero. The backward
computes these derivatives: for a gradient dy that is zero except at the place, backward(dy) is zero at every pixel that
the place does not see. Random signs over the channels of the place make an exact cancellation unlikely, and |dx| shows
how strong the dependence is.

A stack of L convolutions of k x k with stride 1 sees 1 + L (k - 1) pixels a side. Most of the weight lies in the
middle, for this reason: with equal weights, the share of a pixel is the probability that a random walk of L steps ends
there, where each step is one of the k offsets. The variances of independent steps add up, so the walk's variance is L
times that of one step, and its spread is proportional to sqrt(L). Attention sees all tokens from the first layer on.

Source: Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks",
arXiv:1701.04128.
"""

from typing import Any

import numpy as np


def receptive_field(target: Any, x: np.ndarray, place: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Return how much the output at `place` depends on each pixel, (H, W):

    |dx|, averaged over images, summed over channels.

    Parameters
    ----------
    target : object
        Has forward (B, H, W, C) -> y and backward dy -> dx: a layer, a `Sequential`, or `FirstBlocks`.
    x : (B, H, W, C)
        Images.
    place : tuple of int
        Index of y between batch and channels: (row, column) of a map, (n,) of tokens.
    seed : int
        Seed of the random signs.

    Raises
    ------
    ValueError
        If y has no such place.
    """
    y = target.forward(x)
    where, channels = (slice(None), *place), y.shape[len(place) + 1:]
    if len(channels) != 1 or not all(0 <= i < size for i, size in zip(place, y.shape[1:], strict=False)):
        raise ValueError(f"an output of shape {y.shape} has no place {tuple(place)} followed by channels")
    dy = np.zeros_like(y)
    dy[where] = np.random.default_rng(seed).choice([-1, 1], (len(y), *channels))
    return np.abs(target.backward(dy)).sum(axis=-1).mean(axis=0)


def extent(field: np.ndarray) -> tuple[int, ...]:
    """Return (rows, columns) of the smallest rectangle that contains all non-zero entries of a field (H, W)."""
    seen = [np.flatnonzero(field.any(axis=axis)) for axis in (1, 0)]
    return tuple(int(places[-1] - places[0] + 1) if places.size else 0 for places in seen)


def spread(field: np.ndarray) -> float:
    """Return the root mean square distance of a field (H, W) from its centre of mass, in pixels."""
    weight = field / field.sum()
    squares = 0.0
    for axis, size in enumerate(field.shape):
        along, place = weight.sum(axis=1 - axis), np.arange(size)
        squares += along @ (place - along @ place) ** 2
    return float(np.sqrt(squares))
