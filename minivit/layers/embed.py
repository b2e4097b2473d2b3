"""From a picture to tokens: by patches, each mapped linearly, or by a stem of convolutions.

The stem sees patches that overlap, and edges before it sees patches; small models learn the sooner for it. A convolution of stride 2
halves the picture and doubles the width, and others look at the neighbours, each adding what it finds to what is there; and again,
until a token stands for P x P pixels:

    x = conv(image)                        (B, H / 2, W / 2, D / (P / 2))       3 x 3, stride 2
    x = x + conv(ReLU(GN(x)))                                                   3 x 3, LOOKS times
    x = conv(ReLU(GN(x)))                  ... until (B, H / P, W / P, D)       3 x 3, stride 2
    x = x + conv(ReLU(GN(x)))                                                   3 x 3, LOOKS times

Backward, as in `block`: what acts twice gets a sum. With J the Jacobian of conv(ReLU(GN(x))), dx = J^T dy + dy where it is added, and
dx = J^T dy where it stands alone.

Source: Xiao et al., "Early Convolutions Help Transformers See Better", arXiv:2106.14881. Not theirs: group norm stands where they have
batch norm, which would couple the images; and the convolutions between the halvings, which are those of a residual network (He et al.,
arXiv:1603.05027).
"""

import math
from itertools import pairwise

import numpy as np

from ..ops import patches
from .convolution import Convolution
from .layer import Layer
from .linear import Linear
from .norm import GroupNormReLU, LayerNorm
from .sequence_parallel import by_rows

CHANNELS = 8  # in a group of the stem's norms, or fewer, if 8 does not divide them
LOOKS = 2     # convolutions behind each halving; on Fashion-MNIST one, in a wider model or with more of the Transformer's blocks, gave less


class PatchEmbed(Layer):
    """Images (B, H, W, C) -> tokens (B, M, D), M = (H / P) (W / P). See `ops/patches.py`. eps: of a norm behind it; None for none."""

    def __init__(self, patch_size, channels, width, eps=None):
        self.patch_size = patch_size
        self.proj = Linear(patch_size * patch_size * channels, width)
        self.norm = LayerNorm(width, eps) if eps is not None else None

    def forward(self, images):
        """images (B, H, W, C) -> tokens (B, M, D)."""
        x, self.cache = patches.forward(images, self.patch_size)
        return by_rows(self._embed, x, self.proj.bias.size, self._workers)

    def _embed(self, x):
        x = self.proj.forward(x)
        return self.norm.forward(x) if self.norm else x

    def backward(self, dy):
        """dy (B, M, D) -> dimages (B, H, W, C)."""
        dy = self.norm.backward(dy) if self.norm else dy
        return patches.backward(self.proj.backward(dy), self.pop_cache())

    def products(self, patches):
        """Multiply-adds for one image of so many patches."""
        return patches * self.proj.weight.size


class ConvStem(Layer):
    """Images (B, H, W, C) -> tokens (B, M, D), M = (H / P) (W / P), by convolutions 3 x 3; see above.

    Raises ValueError unless P is a power of two, at least 2, and P / 2 divides D.
    """

    def __init__(self, patch_size, channels, width):
        halvings = patch_size.bit_length() - 1
        if halvings < 1 or patch_size != 1 << halvings or width % (patch_size // 2):
            raise ValueError("a convolutional stem halves the picture some times: the patch size must be 2, 4, 8, ..., and its half "
                             f"divide the width {width}, but it is {patch_size}")
        self.patch_size = patch_size
        widths = [channels, *(width >> l for l in reversed(range(halvings)))]
        shapes = [shape for c, d in pairwise(widths) for shape in [(c, d, 2)] + LOOKS * [(d, d, 1)]]
        self.convs = [Convolution(c, d, size=3, stride=stride, padding=1) for c, d, stride in shapes]
        self.norms = [GroupNormReLU(c, c // math.gcd(c, CHANNELS)) for c, *_ in shapes[1:]]

    def forward(self, images):
        """images (B, H, W, C) -> tokens (B, M, D)."""
        x = self.convs[0].forward(images)
        for norm, conv in zip(self.norms, self.convs[1:], strict=True):
            y = conv.forward(norm.forward(x))
            x = np.add(x, y, out=y) if conv.stride == 1 else y
        self.cache = x.shape
        return x.reshape(len(x), -1, x.shape[-1])

    def backward(self, dy):
        """dy (B, M, D) -> dimages (B, H, W, C)."""
        dy = dy.reshape(self.pop_cache())
        for norm, conv in zip(reversed(self.norms), reversed(self.convs[1:]), strict=True):
            dx = norm.backward(conv.backward(dy))
            dy = np.add(dx, dy, out=dx) if conv.stride == 1 else dx
        return self.convs[0].backward(dy)

    def products(self, patches):
        """Multiply-adds for one image of so many patches."""
        products, places = 0, patches * self.patch_size**2
        for conv in self.convs:
            places //= conv.stride**2
            products += places * conv.weight.size
        return products
