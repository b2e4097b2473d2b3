"""From an image to tokens by a stem of convolutions, instead of one linear map of each patch.

Read `patch_embed.py` and `convolution.py` before. The stem sees overlapping patches, and edges before patches. This
helps small models and short training. A convolution of stride 2 halves the map and doubles its width. Then LOOKS
residual branches follow, convolutions of stride 1. This repeats until a place of the map stands for P x P pixels:

    x = conv(image)                        (B, H / 2, W / 2, D / (P / 2))       3 x 3, stride 2
    x = x + conv(ReLU(GN(x)))                                                   3 x 3, LOOKS times
    x = conv(ReLU(GN(x)))                  ... until (B, H / P, W / P, D)       3 x 3, stride 2
    x = x + conv(ReLU(GN(x)))                                                   3 x 3, LOOKS times

A stem of *full resolution* starts before the first halving, with a map as large as the image:

    x = conv(image)                        (B, H, W, D / P)                     3 x 3, stride 1
    x = x + conv(ReLU(GN(x)))                                                   3 x 3, LOOKS times
    x = conv(ReLU(GN(x)))                  (B, H / 2, W / 2, D / (P / 2))       3 x 3, stride 2; then as above

A map has four times as many places as the next one, and half as many channels. So each convolution of a residual
branch does the same number of multiplications. GN is the group norm.

Backward, as in `block.py`: an input that acts twice gets a sum. With J the Jacobian of conv(ReLU(GN(x))),
dx = J^T dy + dy where x is added, and dx = J^T dy where it is not.

Source: Xiao et al., "Early Convolutions Help Transformers See Better", arXiv:2106.14881. Two things differ from the
paper. Group norm replaces batch norm, which normalises over the images of a batch and so couples them. And the
convolutions between the halvings are those of a residual network (He et al., arXiv:1603.05027).
"""

import math
from itertools import pairwise

import numpy as np

from ..common.sizes import Size, check_pair, size_as_python
from .convolution import Convolution
from .group_norm import GroupNormReLU
from .layer import Layer

GROUP_CHANNELS = 8  # channels in a group of the norms, or the largest common divisor with 8
LOOKS = 2           # residual branches of each map; on Fashion-MNIST one was less accurate, even in a larger model


class ConvStem(Layer):
    """Images (B, H, W, C) -> tokens (B, M, D), M = (H / P) (W / P), by convolutions of 3 x 3.

    Parameters
    ----------
    patch_size : int or (int, int)
        P, the side of a square.
    channels, width : int
        C and D.
    full_resolution : bool
        Whether the first map is as large as the image.

    Raises
    ------
    ValueError
        Unless P is a power of two, at least 2, and P / 2 divides D, or P with full resolution.
    """

    def __init__(self, patch_size: Size, channels: int, width: int, full_resolution: bool = False) -> None:
        self.patch_size = side, columns = check_pair("patch_size", patch_size)
        halvings, narrowing = side.bit_length() - 1, side if full_resolution else side // 2
        if side != columns or halvings < 1 or side != 1 << halvings or width % narrowing:
            raise ValueError("the patch size of a convolutional stem must be 2, 4, 8, ..., and "
                             f"{'it' if full_resolution else 'its half'} must divide the width {width}, but it is "
                             f"{size_as_python(self.patch_size)}")
        widths = [channels, *(width >> l for l in reversed(range(halvings + full_resolution)))]
        strides = full_resolution * [1] + halvings * [2]
        shapes = [shape for (c, d), stride in zip(pairwise(widths), strides, strict=True)
                  for shape in [(c, d, stride)] + LOOKS * [(d, d, 1)]]
        self.convs = [Convolution(c, d, size=3, stride=stride, padding=1) for c, d, stride in shapes]
        self.norms = [GroupNormReLU(c, c // math.gcd(c, GROUP_CHANNELS)) for c, *_ in shapes[1:]]

    def forward(self, images: np.ndarray) -> np.ndarray:
        """images (B, H, W, C) -> tokens (B, M, D)."""
        x = self.convs[0].forward(images)
        for norm, conv in zip(self.norms, self.convs[1:], strict=True):
            y = conv.forward(norm.forward(x))
            x = np.add(x, y, out=y) if conv.stride == 1 else y
        self.cache = x.shape
        return x.reshape(len(x), -1, x.shape[-1])

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, M, D) -> dimages (B, H, W, C)."""
        dy = dy.reshape(self.pop_cache())
        for norm, conv in zip(reversed(self.norms), reversed(self.convs[1:]), strict=True):
            dx = norm.backward(conv.backward(dy))
            dy = np.add(dx, dy, out=dx) if conv.stride == 1 else dx
        return self.convs[0].backward(dy)
