"""Symmetry: what happens to the output of a function when its input is permuted or shifted.

Let a transform T act on the input of a function f, and T' on its output. f is *equivariant* under T if

    f(T x) = T' f(x)        for every x,

and *invariant* if T' changes nothing.

**Permutations of tokens.** Self-attention is equivariant under every permutation P. With tokens X (N, D) and queries
Q = X W_q, the scores of P X are P Q K^T P^T. The softmax acts row by row and preserves this form, and
(P probs P^T)(P V) = P (probs V). A map that treats every token separately (norm, MLP) is equivariant too, and so are
sums and compositions of equivariant maps: a block, an encoder. The class token, which stays in place, and the mean over
the tokens are then invariant. So without positions, an image is a bag of patches.

**Shifts of pixels.** A convolution is equivariant under shifts if each filter meets the same pixels after the shift:
everywhere for a periodic image, only in the interior for an image padded with zeros. With stride s it is equivariant
only under shifts by multiples of s, which shift the output by 1/s of them. The patch embedding is a convolution of
stride P.

Sources: Vaswani et al., arXiv:1706.03762; Lee et al., "Set Transformer", arXiv:1810.00825; Cohen and Welling,
arXiv:1602.07576; Zhang, "Making Convolutional Networks Shift-Invariant Again", arXiv:1904.11486.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..ops import convolution, patches


def equivariance_error(f: Callable, transform: Callable, x: np.ndarray, transform_output: Callable | None = None,
                       part: Callable | None = None) -> float:
    """Return how far f is from f(T x) = T' f(x): the largest |f(T x) - T' f(x)| over the largest |f(x)|.

    Parameters
    ----------
    f : function
        Of one array, such as the `forward` of a layer.
    transform : function
        T, of the input.
    x : array
        The input.
    transform_output : function, optional
        T', of the output (default: T; `unchanged` tests invariance).
    part : function, optional
        Selects the part of an output to compare (default: all).

    Returns
    -------
    float
        The relative error; 0 / 0 counts as 0.

    Raises
    ------
    ValueError
        If f(T x) and T' f(x) have different shapes, or nothing is compared.
    """
    part = part or unchanged
    moved = part(f(transform(x)))
    expected = part((transform_output or transform)(f(x)))
    if moved.shape != expected.shape or not moved.size:
        raise ValueError(f"f of the transformed input is {moved.shape}, but the transformed output of f is "
                         f"{expected.shape}: "
                         "they must be equal and hold numbers; how does the transform act on the output "
                         "(transform_output)?")
    difference, largest = np.abs(moved - expected).max(), np.abs(expected).max()
    return float(difference / largest) if largest else float(difference)


# ---- transforms -------------------------------------------------------------------------------------------


def unchanged(x: Any) -> Any:
    """Return x: the transform of the output for invariance."""
    return x


def permute_tokens(order: Any, first: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that permutes tokens (B, N, ...); the `first` tokens (class token) stay in front."""
    places = np.concatenate([np.arange(first), first + np.asarray(order)])
    return lambda x: x[:, places]


def permute_patches(order: Any, side: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that permutes the patches of images (B, H, W, C), of side x side pixels."""
    return lambda images: patches.unpatchify(patches.patchify(images, side)[:, order], side, images.shape)


def shift(rows: int, columns: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that shifts images (B, H, W, C) periodically, down and to the right."""
    return lambda images: np.roll(images, (rows, columns), axis=(1, 2))


def shift_tokens(rows: int, columns: int, grid: tuple[int, int]) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that shifts tokens (B, R S, ...) on a grid (R, S) periodically."""
    return lambda x: np.roll(x.reshape(len(x), *grid, *x.shape[2:]), (rows, columns), axis=(1, 2)).reshape(x.shape)


def circular_convolution(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, stride: int = 1) -> np.ndarray:
    """Convolve a periodic image: x (B, H, W, C), k odd -> y (B, H / s, W / s, D). See `ops/convolution.py`."""
    margin = weight.shape[0] // 2
    continued = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="wrap")
    return convolution.forward(continued, weight, bias, stride)[0]
