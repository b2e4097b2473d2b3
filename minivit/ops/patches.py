"""Patches: a picture becomes a sequence, by cutting it into squares and laying each one out as a row.

    images (B, H, W, C)  ->  patches (B, M, P P C)          M = (H / P) (W / P)

Patches follow each other row by row, as one reads; within a patch the order is row, column, channel. Nothing
is computed: every number moves to a new place, so the map is a permutation of the pixels, and it has an exact
inverse.

Backward. A permutation matrix is orthogonal: its transpose is its inverse. So the gradient is put back where
it came from:

    dimages = unpatchify(dpatches)

Followed by a linear map this is a convolution with kernel size P and stride P, which is how other libraries write it.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv:2010.11929, section 3.1.
"""

import numpy as np


def normalise(images, mean, std, dtype):
    """Pixels 0..255 (uint8) of shape (..., C) -> (pixel / 255 - mean) / std, with mean and std one number a channel."""
    mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    x = images * (1 / (255 * std)).astype(dtype)
    x -= (mean / std).astype(dtype)
    return x


def patchify(images, side):
    """(B, H, W, C) -> (B, M, P P C). Raises ValueError if P does not divide H and W."""
    if images.ndim != 4 or side < 1 or images.shape[1] % side or images.shape[2] % side:
        raise ValueError(f"patches of side {side} need images (B, H, W, C) with H and W divisible by {side}, not {images.shape}")
    B, H, W, C = images.shape
    grid = images.reshape(B, H // side, side, W // side, side, C)     # (B, row, y, column, x, C)
    return grid.transpose(0, 1, 3, 2, 4, 5).copy().reshape(B, grid.shape[1] * grid.shape[3], side * side * C)


def unpatchify(patches, side, shape):
    """(B, M, P P C) -> images of the given shape (B, H, W, C): the inverse of `patchify`."""
    B, H, W, C = shape
    grid = patches.reshape(B, H // side, W // side, side, side, C)    # (B, row, column, y, x, C)
    return grid.transpose(0, 1, 3, 2, 4, 5).copy().reshape(shape)


def reference_forward(images, side):
    """images (B, H, W, C) -> patches (B, M, P P C), cache: cut out by hand, patch by patch."""
    B, H, W, _ = images.shape
    corners = [(y, x) for y in range(0, H, side) for x in range(0, W, side)]
    patches = [images[:, y:y + side, x:x + side].reshape(B, -1) for y, x in corners]
    return np.stack(patches, axis=1), (images.shape, side, corners)


def reference_backward(dpatches, cache):
    """dpatches (B, M, P P C) -> dimages (B, H, W, C): put back by hand."""
    (B, H, W, C), side, corners = cache
    dimages = np.empty((B, H, W, C), dpatches.dtype)
    for n, (y, x) in enumerate(corners):
        dimages[:, y:y + side, x:x + side] = dpatches[:, n].reshape(B, side, side, C)
    return dimages


# ---- the same mathematics: one transposition of axes --------------------------------------------------------


def forward(images, side):
    """As `reference_forward`. Raises ValueError if P does not divide H and W."""
    return patchify(images, side), (images.shape, side)


def backward(dpatches, cache):
    """As `reference_backward`."""
    shape, side = cache
    return unpatchify(dpatches, side, shape)
