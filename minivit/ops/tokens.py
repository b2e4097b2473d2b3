"""Class token and positions: what turns a bag of patches into the input of the encoder, the stack of blocks.

A *token* is a row of D numbers that stands for a part of the input: here one per patch (see `patches`). The *class
token* is one more, learned and the same for every image. In the blocks it collects what the classifier reads.

    y[b] = [class_token; x[b, 0]; ...; x[b, M-1]] + positions

Attention does not know the order of its tokens. The *positions* tell it where each patch was: one row per token,
learned or fixed (see `sincos`). There may also be T class tokens, (T, D), or none, or no positions.

Backward. Stacking and adding pass dy on unchanged. What all images share collects the sum over them:

    dx[b] = dy[b, T:]          dclass_token = sum_b dy[b, :T]          dpositions = sum_b dy[b]

Shapes: x (B, M, D); class_token (D,), (T, D) or None; positions (N, D) or None; y (B, N, D), N = T + M.
Read before: `patches`. Source: Dosovitskiy et al., arXiv:2010.11929, Eq. 1.
"""

import math
from typing import Any

import numpy as np

from ..kernel import empty, sum_images


def reference_forward(x: np.ndarray, class_token: np.ndarray | None = None,
                      positions: np.ndarray | None = None) -> tuple[np.ndarray, tuple]:
    """Put the class token before the tokens of each image, and add the positions.

    Parameters
    ----------
    x : array (B, M, D)
    class_token : array (D,) or (T, D), optional
    positions : array (N, D), optional

    Returns
    -------
    y : array (B, N, D)
    cache : tuple, what `reference_backward` needs
    """
    y = x if class_token is None else np.stack([np.vstack([class_token, image]) for image in x])
    if positions is not None:
        y = y + positions
    return y, (None if class_token is None else class_token.shape, positions is not None)


def reference_backward(dy: np.ndarray, cache: tuple) -> tuple[np.ndarray, Any, Any]:
    """Return dx, dclass_token and dpositions (None for what was None) for dy (B, N, D)."""
    shape, has_positions = cache
    dpositions = np.einsum("bnd->nd", dy) if has_positions else None  # y = [class_token; x] + positions
    if shape is None:
        return dy, None, dpositions
    T = math.prod(shape[:-1])
    return dy[:, T:], np.einsum("btd->td", dy[:, :T]).reshape(shape), dpositions


# ---- the same mathematics, one pass over memory ----------------------------------------------------------------------


def forward(x: np.ndarray, class_token: np.ndarray | None = None,
            positions: np.ndarray | None = None) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError if there is not one position per token."""
    B, M, D = x.shape
    T = 0 if class_token is None else math.prod(class_token.shape[:-1])
    if positions is not None and positions.shape != (T + M, D):
        raise ValueError(f"tokens: {T + M} tokens of width {D} need positions {(T + M, D)}, not {positions.shape}")
    y = empty((B, T + M, D), x.dtype)
    if class_token is not None:
        y[:, :T] = class_token
    y[:, T:] = x
    if positions is not None:
        y += positions
    return y, (None if class_token is None else class_token.shape, positions is not None)


def backward(dy: np.ndarray, cache: tuple) -> tuple[np.ndarray, Any, Any]:
    """Fast version of `reference_backward`. dx is a fresh array."""
    shape, has_positions = cache
    dpositions = sum_images(dy) if has_positions else None
    if shape is None:
        return dy.copy(), None, dpositions
    T = math.prod(shape[:-1])
    return dy[:, T:].copy(), sum_images(dy[:, :T]).reshape(shape), dpositions

