"""Patches: an image becomes a sequence, by cutting it into rectangles and laying each one out as a row of numbers.

    images (B, H, W, C)  ->  patches (B, M, P Q C)          M = (H / P) (W / Q)

Patches are usually squares, P = Q; those of a signal have P = 1. They follow each other row by row. Within a patch the
order is row, column, channel. No number changes, each moves: a permutation, which has an exact inverse.

Backward. Each entry of the output is one entry of the input, so its gradient belongs to that entry. The gradients go
back to where the numbers came from:

    dimages = unpatchify(dpatches)

A linear map of each patch follows in the model. Its result is one *token* per patch: a row of D numbers that the rest
of the model works on. For squares, both steps together are a `convolution` with filters of P x P pixels and stride P.

Read before: `linear`. Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv:2010.11929, section 3.1.
"""

import numpy as np

from ..common.sizes import Size, pair


def patchify(images: np.ndarray, size: Size) -> np.ndarray:
    """Cut images (B, H, W, C) into patches (B, M, P Q C); size: (P, Q), or P for squares. Raises ValueError."""
    P, Q = pair(size)
    if images.ndim != 4 or min(P, Q) < 1 or images.shape[1] % P or images.shape[2] % Q:
        raise ValueError(f"patches of {P}x{Q} need images (B, H, W, C) with H divisible by {P} and W by {Q}, not "
                         f"{images.shape}")
    B, H, W, C = images.shape
    grid = images.reshape(B, H // P, P, W // Q, Q, C)                 # (B, row, y, column, x, C)
    return grid.transpose(0, 1, 3, 2, 4, 5).copy().reshape(B, grid.shape[1] * grid.shape[3], P * Q * C)


def unpatchify(patches: np.ndarray, size: Size, shape: tuple) -> np.ndarray:
    """Put patches (B, M, P Q C) together to images of the given shape (B, H, W, C): the inverse of `patchify`."""
    (P, Q), (B, H, W, C) = pair(size), shape
    grid = patches.reshape(B, H // P, W // Q, P, Q, C)                # (B, row, column, y, x, C)
    return grid.transpose(0, 1, 3, 2, 4, 5).copy().reshape(shape)


def reference_forward(images: np.ndarray, size: Size) -> tuple[np.ndarray, tuple]:
    """Cut images (B, H, W, C) into patches (B, M, P Q C), one at a time. Return them and the cache."""
    (P, Q), (B, H, W, _) = pair(size), images.shape
    corners = [(y, x) for y in range(0, H, P) for x in range(0, W, Q)]
    patches = [images[:, y:y + P, x:x + Q].reshape(B, -1) for y, x in corners]
    return np.stack(patches, axis=1), (images.shape, (P, Q), corners)


def reference_backward(dpatches: np.ndarray, cache: tuple) -> np.ndarray:
    """Return dimages (B, H, W, C) for dpatches (B, M, P Q C) and the cache of `reference_forward`."""
    (B, H, W, C), (P, Q), corners = cache
    dimages = np.empty((B, H, W, C), dpatches.dtype)
    for m, (y, x) in enumerate(corners):
        dimages[:, y:y + P, x:x + Q] = dpatches[:, m].reshape(B, P, Q, C)
    return dimages


# ---- the same mathematics: one transposition of axes -----------------------------------------------------------------


def forward(images: np.ndarray, size: Size) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError if P, Q do not divide H, W."""
    return patchify(images, size), (images.shape, size)


def backward(dpatches: np.ndarray, cache: tuple) -> np.ndarray:
    """Fast version of `reference_backward`."""
    shape, size = cache
    return unpatchify(dpatches, size, shape)
