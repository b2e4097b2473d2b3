"""From a picture to tokens: by patches, each mapped linearly, or by a stem of convolutions.

The stem sees patches that overlap, and edges before it sees patches; small models learn the sooner for it. Convolutions of stride 2
halve the picture and double the width until a token stands for P x P pixels, and one more lets each token see its neighbours:

    x = conv(image)                        (B, H / 2, W / 2, D / (P / 2))       3 x 3, stride 2
    x = conv(ReLU(GN(x)))                  ... until (B, H / P, W / P, D)       3 x 3, stride 2
    x = conv(ReLU(GN(x)))                      (B, H / P, W / P, D)             3 x 3, stride 1

Source: Xiao et al., "Early Convolutions Help Transformers See Better", arXiv:2106.14881. Two things are not theirs: group norm stands where
they have batch norm, which would couple the images, and the last convolution is 3 x 3, not 1 x 1.
"""

import math
from itertools import pairwise

from ..ops import patches
from .convolution import Convolution
from .layer import Layer
from .linear import Linear
from .norm import GroupNormReLU, LayerNorm

CHANNELS = 8  # in a group of the stem's norms, or fewer, if 8 does not divide them


class PatchEmbed(Layer):
    """Images (B, H, W, C) -> tokens (B, N, D), N = (H / P) (W / P). See `ops/patches.py`. eps: of a norm behind it; None for none."""

    def __init__(self, patch_size, channels, width, eps=None):
        self.patch_size = patch_size
        self.proj = Linear(patch_size * patch_size * channels, width)
        self.norm = LayerNorm(width, eps) if eps is not None else None
        self.name_parameters()

    def forward(self, images):
        """images (B, H, W, C) -> tokens (B, N, D)."""
        x, self.cache = patches.forward(images, self.patch_size)
        x = self.proj.forward(x)
        return self.norm.forward(x) if self.norm else x

    def backward(self, dy):
        """dy (B, N, D) -> dimages (B, H, W, C)."""
        dy = self.norm.backward(dy) if self.norm else dy
        return patches.backward(self.proj.backward(dy), self.take_cache())

    def products(self, patches):
        """Multiply-adds for one image of so many patches."""
        return patches * self.proj.weight.size


class ConvStem(Layer):
    """Images (B, H, W, C) -> tokens (B, N, D), N = (H / P) (W / P), by convolutions 3 x 3; see above.

    Raises ValueError unless P is a power of two, at least 2, and P / 2 divides D.
    """

    def __init__(self, patch_size, channels, width):
        halvings = patch_size.bit_length() - 1
        if halvings < 1 or patch_size != 1 << halvings or width % (patch_size // 2):
            raise ValueError("a convolutional stem halves the picture some times: the patch size must be 2, 4, 8, ..., and its half "
                             f"divide the width {width}, but it is {patch_size}")
        self.patch_size = patch_size
        widths = [channels, *(width >> l for l in reversed(range(halvings)))]
        self.convs = [Convolution(c, d, size=3, stride=2, padding=1) for c, d in pairwise(widths)]
        self.convs.append(Convolution(width, width, size=3, stride=1, padding=1))
        self.norms = [GroupNormReLU(d, d // math.gcd(d, CHANNELS)) for d in widths[1:]]
        self.name_parameters()

    def forward(self, images):
        """images (B, H, W, C) -> tokens (B, N, D)."""
        x = self.convs[0].forward(images)
        for norm, conv in zip(self.norms, self.convs[1:], strict=True):
            x = conv.forward(norm.forward(x))
        self.cache = x.shape
        return x.reshape(len(x), -1, x.shape[-1])

    def backward(self, dy):
        """dy (B, N, D) -> dimages (B, H, W, C)."""
        dx = dy.reshape(self.take_cache())
        for norm, conv in zip(reversed(self.norms), reversed(self.convs[1:]), strict=True):
            dx = norm.backward(conv.backward(dx))
        return self.convs[0].backward(dx)

    def products(self, patches):
        """Multiply-adds for one image of so many patches."""
        *halving, last = self.convs
        places = [patches * 4 ** l for l in reversed(range(len(halving)))]
        return patches * last.weight.size + sum(n * conv.weight.size for n, conv in zip(places, halving, strict=True))
