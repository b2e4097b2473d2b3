"""Symmetry: what happens to the output of a function when its input is permuted or shifted.

A function f is *equivariant* under a transform T of its input, which acts on its output as T', if

    f(T x) = T' f(x)        for every x,

and *invariant* if T' changes nothing. Self-attention is equivariant under every permutation P of the tokens: with X (N,
D) and queries Q = X W_q, the scores of P X are P Q K^T P^T; the softmax, row by row, keeps that; and (P probs P^T)(P V)
= P (probs V). A map that treats every token by itself (norm, MLP) trivially is, and so is a sum of such maps, and one
behind the other: a block, an encoder. The class token, which stays where it is, and the mean over the tokens are then
invariant: without positions a picture is a bag of patches.

A convolution is equivariant under shifts, where the kernel meets the same pixels after the shift as before: everywhere
if the picture is continued periodically, only inside if it is continued by zeros, and with stride s only under shifts
by multiples of s, which act on the output as shifts by 1/s of them. Patches are a convolution of stride P.

Sources: Vaswani et al., arXiv:1706.03762; Lee et al., "Set Transformer", arXiv:1810.00825; Cohen and Welling,
arXiv:1602.07576; Zhang, "Making Convolutional Networks Shift-Invariant Again", arXiv:1904.11486.
"""

import numpy as np

from ..ops import convolution, patches


def equivariance_error(f, transform, x, transform_output=None, part=None):
    """How far f is from f(T x) = T' f(x): the largest |f(T x) - T' f(x)|, as a share of the largest |f(x)|.

    f: a function of one array, such as the `forward` of a layer. transform: T, a function of the input;
    transform_output: T', of the output (default: the same; `unchanged` asks for invariance). part: y -> what of an
    output is compared (default: all of it). 0 / 0 counts as 0. Raises ValueError if f(T x) and T' f(x) are of different
    shapes, or nothing is compared.
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


def unchanged(x):
    """x -> x."""
    return x


def permute_tokens(order, first=0):
    """A function (B, N, ...) -> (B, N, ...) that puts the tokens into another order;

    the `first` of them (class token) stay in front.
    """
    places = np.concatenate([np.arange(first), first + np.asarray(order)])
    return lambda x: x[:, places]


def permute_patches(order, side):
    """A function of images (B, H, W, C) that puts their patches of side x side pixels into another order."""
    return lambda images: patches.unpatchify(patches.patchify(images, side)[:, order], side, images.shape)


def shift(rows, columns):
    """A function of images (B, H, W, C) that shifts them down and to the right;

    what falls off comes in at the other side.
    """
    return lambda images: np.roll(images, (rows, columns), axis=(1, 2))


def shift_tokens(rows, columns, grid):
    """The same for tokens (B, R S, ...) that lie on a grid (R, S)."""
    return lambda x: np.roll(x.reshape(len(x), *grid, *x.shape[2:]), (rows, columns), axis=(1, 2)).reshape(x.shape)


def circular_convolution(x, weight, bias, stride=1):
    """`ops/convolution.py` on a picture that is continued periodically:

    x (B, H, W, C), k odd -> y (B, H / s, W / s, D).
    """
    margin = weight.shape[0] // 2
    continued = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="wrap")
    return convolution.forward(continued, weight, bias, stride)[0]
