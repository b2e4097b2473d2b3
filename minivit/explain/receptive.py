"""Receptive fields: which pixels an output depends on, and how much.

y[place] depends on a pixel if the derivative of y[place] with respect to it is not zero, and the backward computes just
that: with a gradient dy that is zero but at the place, backward(dy) is zero at every pixel that the place does not see.
With random signs over the channels of the place, no two of them cancel for certain, and |dx| tells how much it depends.

A stack of L convolutions of k x k and stride 1 sees 1 + L (k - 1) pixels a side; most of the weight lies in the middle,
and its spread grows as sqrt L only. Attention sees all tokens from the first layer on.

Source: Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks",
arXiv:1701.04128.
"""

import numpy as np


def receptive_field(target, x, place, seed=0):
    """How much the output at `place` depends on each pixel:

    (H, W), the mean of |dx| over pictures, its sum over channels.

    target: anything with a forward (B, H, W, C) -> y and a backward dy -> dx, such as a layer, a `Sequential` or
    `FirstBlocks`. x: (B, H, W, C). place: the index of y behind the batch, and before the channels: (row, column) of a
    picture, (n,) of tokens. Raises ValueError if y has no such place.
    """
    y = target.forward(x)
    where, channels = (slice(None), *place), y.shape[len(place) + 1:]
    if len(channels) != 1 or not all(0 <= i < size for i, size in zip(place, y.shape[1:], strict=False)):
        raise ValueError(f"an output of shape {y.shape} has no place {tuple(place)} with channels behind it")
    dy = np.zeros_like(y)
    dy[where] = np.random.default_rng(seed).choice([-1, 1], (len(y), *channels))
    return np.abs(target.backward(dy)).sum(axis=-1).mean(axis=0)


def extent(field):
    """Pixels (rows, columns) of the smallest rectangle that holds all that is seen of a field (H, W)."""
    seen = [np.flatnonzero(field.any(axis=axis)) for axis in (1, 0)]
    return tuple(int(places[-1] - places[0] + 1) if places.size else 0 for places in seen)


def spread(field):
    """How far from its centre of mass a field (H, W) lies, in pixels: the root of the mean square."""
    weight = field / field.sum()
    squares = 0.0
    for axis, size in enumerate(field.shape):
        along, place = weight.sum(axis=1 - axis), np.arange(size)
        squares += along @ (place - along @ place) ** 2
    return float(np.sqrt(squares))
