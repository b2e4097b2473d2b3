"""Class token and positions: what turns a bag of patches into the encoder's input (Eq. 1 of the paper).

    y[b] = [class_token; x[b, 0]; ...; x[b, M-1]] + positions

The class token is one more learned token, the same for every image; the encoder gathers in it what the classifier
reads. There may be several, (T, D), such as a distillation token beside it. Without any, y[b] = x[b] + positions. Attention itself
does not know the order of its tokens: without positions, or a relative bias (see `relative_bias`), nothing tells it where a patch was.

Backward. Stacking and adding pass dy on unchanged; what is shared by all images collects the sum over them:

    dx[b]        = dy[b, T:]
    dclass_token = sum_b dy[b, :T]
    dpositions   = sum_b dy[b]

Shapes: x (B, M, D); class_token (D,), (T, D) or None; positions (N, D) or None; y (B, N, D), N = T + M, where T = 1 for (D,), 0 for None.
The gradient of what is None is None. Sources: Dosovitskiy et al., arXiv:2010.11929, Eq. 1; for the sin-cos table,
Vaswani et al., arXiv:1706.03762, section 3.5, on two axes as in Chen et al., arXiv:2104.02057.
"""

import math

import numpy as np


def sincos_2d(rows, columns, width, class_token=False):
    """Fixed positions (N, D), float64: sines and cosines of the row for the first half of D, of the column for the second.

    Frequency i of the D/4 falls geometrically from 1 towards 1/10000. Class tokens, as many as class_token says, come first
    and get zeros. Raises ValueError if D is not divisible by 4.
    """
    if width % 4:
        raise ValueError(f"sin-cos positions need a width divisible by 4, not {width}")
    frequency = 10000.0 ** (-np.arange(width // 4) / (width // 4))    # (D/4,)
    row, column = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    angle_row, angle_column = np.outer(row, frequency), np.outer(column, frequency)
    table = np.hstack([np.sin(angle_row), np.cos(angle_row), np.sin(angle_column), np.cos(angle_column)])
    return np.vstack([np.zeros((int(class_token), width)), table])


def reference_forward(x, class_token=None, positions=None):
    """x (B, M, D) -> y (B, N, D), cache."""
    y = x
    if class_token is not None:
        y = np.stack([np.vstack([class_token, image]) for image in x])
    if positions is not None:
        y = y + positions
    return y, (None if class_token is None else class_token.shape, positions is not None)


def reference_backward(dy, cache):
    """dy (B, N, D) -> dx (B, M, D), dclass_token (D,), (T, D) or None, dpositions (N, D) or None."""
    shape, has_positions = cache
    dpositions = np.einsum("bnd->nd", dy) if has_positions else None
    if shape is None:
        return dy, None, dpositions
    T = math.prod(shape[:-1])
    return dy[:, T:], np.einsum("btd->td", dy[:, :T]).reshape(shape), dpositions


# ---- the same mathematics, one pass over memory -----------------------------------------------------------


def forward(x, class_token=None, positions=None):
    """As `reference_forward`. Raises ValueError if there is not one position for each token."""
    B, M, D = x.shape
    T = 0 if class_token is None else math.prod(class_token.shape[:-1])
    if positions is not None and positions.shape != (T + M, D):
        raise ValueError(f"{T + M} tokens of width {D} need positions {(T + M, D)}, not {positions.shape}")
    y = np.empty((B, T + M, D), x.dtype)
    if class_token is not None:
        y[:, :T] = class_token
    y[:, T:] = x
    if positions is not None:
        y += positions
    return y, (None if class_token is None else class_token.shape, positions is not None)


def backward(dy, cache):
    """As `reference_backward`; dx is a fresh array."""
    shape, has_positions = cache
    dpositions = dy.sum(axis=0) if has_positions else None
    if shape is None:
        return dy.copy(), None, dpositions
    T = math.prod(shape[:-1])
    return dy[:, T:].copy(), dy[:, :T].sum(axis=0).reshape(shape), dpositions
