"""Patches: an image becomes a sequence, by cutting it into squares and laying each one out as a row of numbers.

    images (B, H, W, C)  ->  patches (B, M, P P C)          M = (H / P) (W / P)

Patches follow each other row by row, as one reads. Within a patch the order is row, column, channel. Nothing is
computed: every number moves to a new place. Such a map is a permutation, and it has an exact inverse.

Backward. Each entry of the output is one entry of the input, so its gradient belongs to that entry. The gradients go
back to where the numbers came from:

    dimages = unpatchify(dpatches)

A linear map of each patch follows in the model. Its result is one *token* per patch: a row of D numbers that the rest
of the model works on. Both steps together are a `convolution` with filters of P x P pixels and stride P.

Read before: `linear`. Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv:2010.11929, section 3.1.
"""

import numpy as np


def patchify(images: np.ndarray, side: int) -> np.ndarray:
    """Cut images (B, H, W, C) into patches (B, M, P P C). Raises ValueError if P does not divide H and W."""
    if images.ndim != 4 or side < 1 or images.shape[1] % side or images.shape[2] % side:
        raise ValueError(f"patches of side {side} need images (B, H, W, C) with H and W divisible by {side}, not "
                         f"{images.shape}")
    B, H, W, C = images.shape
    grid = images.reshape(B, H // side, side, W // side, side, C)     # (B, row, y, column, x, C)
    return grid.transpose(0, 1, 3, 2, 4, 5).copy().reshape(B, grid.shape[1] * grid.shape[3], side * side * C)


def unpatchify(patches: np.ndarray, side: int, shape: tuple) -> np.ndarray:
    """Put patches (B, M, P P C) together to images of the given shape (B, H, W, C): the inverse of `patchify`."""
    B, H, W, C = shape
    grid = patches.reshape(B, H // side, W // side, side, side, C)    # (B, row, column, y, x, C)
    return grid.transpose(0, 1, 3, 2, 4, 5).copy().reshape(shape)


def reference_forward(images: np.ndarray, side: int) -> tuple[np.ndarray, tuple]:
    """Cut images (B, H, W, C) into patches (B, M, P P C), one at a time; side: P. Return them and the cache."""
    B, H, W, _ = images.shape
    corners = [(y, x) for y in range(0, H, side) for x in range(0, W, side)]
    patches = [images[:, y:y + side, x:x + side].reshape(B, -1) for y, x in corners]
    return np.stack(patches, axis=1), (images.shape, side, corners)


def reference_backward(dpatches: np.ndarray, cache: tuple) -> np.ndarray:
    """Return dimages (B, H, W, C) for dpatches (B, M, P P C) and the cache of `reference_forward`."""
    (B, H, W, C), side, corners = cache
    dimages = np.empty((B, H, W, C), dpatches.dtype)
    for m, (y, x) in enumerate(corners):
        dimages[:, y:y + side, x:x + side] = dpatches[:, m].reshape(B, side, side, C)
    return dimages


# ---- the same mathematics: one transposition of axes -----------------------------------------------------------------


def forward(images: np.ndarray, side: int) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError if P does not divide H and W."""
    return patchify(images, side), (images.shape, side)


def backward(dpatches: np.ndarray, cache: tuple) -> np.ndarray:
    """Fast version of `reference_backward`."""
    shape, side = cache
    return unpatchify(dpatches, side, shape)
