"""Symmetry: how the output of a function changes when its input is permuted or shifted.

Let T transform the input of a function f, and T' its output. f is *equivariant* under T if

    f(T x) = T' f(x)        for every x.

f is *invariant* if T' is the identity.

Self-attention is equivariant under every permutation P of the tokens. For X (N, D), queries Q = X W_q and keys
K = X W_k, the steps are:

    P X              has the queries P Q, the keys P K and the values P V
    scores           (P Q)(P K)^T = P Q K^T P^T
    softmax          works row by row, so its result is P probs P^T
    output           (P probs P^T)(P V) = P (probs V), because P^T P = I

A function that treats every token separately (norm, MLP) is equivariant too. So are sums and compositions of
equivariant functions: a block, an encoder. The class token stays at its place, so its output is invariant. The mean
over the tokens is invariant too. Without positions, a ViT therefore sees an image as a bag of patches.

A convolution is equivariant under shifts if the filter meets the same pixels after the shift as before. With periodic
padding this holds everywhere; with zero padding it holds only inside. With stride s it holds only for shifts by
multiples of s, and a shift by s pixels moves the output by 1. The patch embedding is a convolution of stride P.

Sources: Vaswani et al., arXiv:1706.03762; Lee et al., "Set Transformer", arXiv:1810.00825; Cohen and Welling,
arXiv:1602.07576; Zhang, "Making Convolutional Networks Shift-Invariant Again", arXiv:1904.11486.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ..ops import convolution, patches

Transform = Callable[[np.ndarray], np.ndarray]


def equivariance_error(f: Transform, transform: Transform, x: np.ndarray, transform_output: Transform | None = None,
                       part: Transform | None = None) -> float:
    """Return the largest |f(T x) - T' f(x)|, relative to the largest |f(x)|.

    Parameters
    ----------
    f : function
        A function of one array, such as the `forward` of a layer.
    transform : function
        T, a function of the input.
    x : np.ndarray
        The input.
    transform_output : function, optional
        T', a function of the output. The default is T; pass `unchanged` to measure invariance.
    part : function, optional
        Select the part of an output to compare. The default is everything.

    Returns
    -------
    float
        The error. If f(x) is zero, the absolute error.

    Raises
    ------
    ValueError
        If f(T x) and T' f(x) have different shapes or are empty.

    Examples
    --------
    >>> import numpy as np
    >>> equivariance_error(lambda x: 3 * x, lambda x: -x, np.ones((1, 2)))
    0.0
    """
    part = part or unchanged
    moved = part(f(transform(x)))
    expected = part((transform_output or transform)(f(x)))
    if moved.shape != expected.shape or not moved.size:
        raise ValueError(f"outputs cannot be compared: f(T x) has the shape {moved.shape}, T' f(x) {expected.shape}, "
                         "expected equal shapes that are not empty, pass transform_output or another part")
    difference, largest = np.abs(moved - expected).max(), np.abs(expected).max()
    return float(difference / largest) if largest else float(difference)


# ---- transforms -------------------------------------------------------------------------------------------


def unchanged(x: np.ndarray) -> np.ndarray:
    """Return x: the identity."""
    return x


def permute_tokens(order: Sequence[int] | np.ndarray, first: int = 0) -> Transform:
    """Return a function that permutes tokens (B, N, ...).

    Parameters
    ----------
    order : sequence of int
        The new order.
    first : int
        Number of tokens (class token) that stay in front.
    """
    places = np.concatenate([np.arange(first), first + np.asarray(order)])
    return lambda x: x[:, places]


def permute_patches(order: Sequence[int] | np.ndarray, side: int) -> Transform:
    """Return a function that permutes the patches of images (B, H, W, C).

    Parameters
    ----------
    order : sequence of int
        The new order of the patches.
    side : int
        P, in pixels.
    """
    return lambda images: patches.unpatchify(patches.patchify(images, side)[:, order], side, images.shape)


def shift(rows: int, columns: int) -> Transform:
    """Return a function that shifts images (B, H, W, C) periodically.

    Parameters
    ----------
    rows, columns : int
        Pixels down and to the right.
    """
    return lambda images: np.roll(images, (rows, columns), axis=(1, 2))


def shift_tokens(rows: int, columns: int, grid: tuple[int, int]) -> Transform:
    """Return a function that shifts tokens (B, R S, ...) on a grid periodically.

    Parameters
    ----------
    rows, columns : int
        Tokens down and to the right.
    grid : (int, int)
        Rows R and columns S.
    """
    return lambda x: np.roll(x.reshape(len(x), *grid, *x.shape[2:]), (rows, columns), axis=(1, 2)).reshape(x.shape)


def circular_convolution(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int = 1) -> np.ndarray:
    """Convolve with periodic padding: x (B, H, W, C), odd filter side -> y (B, H / s, W / s, D)."""
    margin = weight.shape[0] // 2
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="wrap")
    return convolution.forward(padded, weight, bias, stride)[0]
