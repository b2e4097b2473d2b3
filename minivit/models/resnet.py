"""ResNetV2 as in Big Transfer (BiT), Kolesnikov et al., arXiv:1912.11370: the convolutional network that the ViT paper compares with.

    x_0 = pool(conv(image))                            the stem: a convolution of stride 2, and a max pooling
    x_l = f_l(ReLU(GN(x_{l-1}))) + x_{l-1}             blocks, in stages; each stage but the first halves the map and doubles the width
    y   = mean over places of ReLU(GN(x_L))            the picture, as one vector

and a linear head makes the logits. Convolutions are weight-standardised and norms are group norms, so that no picture depends on
another (a batch norm would couple them). The backward is the same list read from the bottom.
"""

import statistics

from ..common.checks import check_name, check_number
from ..layers import Convolution, Dropout, GroupNormReLU, Layer, ResidualBlock, Stage, StdConvolution
from ..layers.parameter import zeros
from ..ops import max_pooling, pooling
from .model import Model, rising


class Stem(Layer):
    """Images (B, H, W, C) -> the first map (B, H', W', D), a place of which stands for `reduction` x `reduction` pixels.

    4: BiT's convolution 7 x 7 of stride 2, and a max pooling 3 x 3 of stride 2. 2 or 1, for small pictures: a convolution 3 x 3 of that
    stride.
    """

    def __init__(self, channels, width, reduction):
        self.pools = reduction == 4
        self.conv = StdConvolution(channels, width, 7, 2, 3) if self.pools else StdConvolution(channels, width, 3, reduction, 1)

    def forward(self, images):
        """images (B, H, W, C) -> y (B, H', W', D)."""
        x = self.conv.forward(images)
        if self.pools:
            x, self.cache = max_pooling.forward(x, size=3, stride=2, padding=1)
        return x

    def backward(self, dy):
        """dy (B, H', W', D) -> dimages (B, H, W, C)."""
        return self.conv.backward(max_pooling.backward(dy, self.pop_cache()) if self.pools else dy)


class Head(Layer):
    """The mean over all places, and a linear map: (B, H, W, D) -> (B, K). The map is a convolution of one place, as timm stores it."""

    def __init__(self, width, classes, drop_rate):
        self.drop = Dropout(drop_rate)
        self.fc = Convolution(width, classes, size=1, init=zeros)

    def forward(self, x):
        """x (B, H, W, D) -> logits (B, K)."""
        y, pooled = pooling.forward(x.reshape(len(x), -1, x.shape[-1]), "mean")
        self.cache = x.shape, pooled
        return self.fc.forward(self.drop.forward(y)[:, None, None]).reshape(len(x), -1)

    def backward(self, dlogits):
        """dlogits (B, K) -> dx (B, H, W, D)."""
        shape, pooled = self.pop_cache()
        dy = self.drop.backward(self.fc.backward(dlogits[:, None, None])[:, 0, 0])
        return pooling.backward(dy, pooled).reshape(shape)


class ResNet(Model):
    """A ResNetV2: images (B, H, W, C) -> logits (B, K).

    layers: the number of blocks in each stage. width: of the stem, and of the convolutions 3 x 3 in the first stage. block: "basic"
    or "bottleneck", which puts out four times as many channels. reduction: of the stem (see `Stem`). groups: of each norm. drop_rate: of
    dropout before the head. drop_path_rate: of the last block; it grows linearly from 0 at the first. Both act in training only. mean, std:
    of pixels between 0 and 1.

    Raises ValueError for unknown names, for sizes that are no whole numbers, or if the groups do not divide the width.
    """

    def __init__(self, *, image_size, channels=3, classes=1000, layers, width=64, block="bottleneck", reduction=4, groups=32, drop_rate=0.0,
                 drop_path_rate=0.0, mean=0.5, std=0.5):
        if not isinstance(layers, list | tuple) or not layers:
            raise ValueError(f"layers must be a list, the number of blocks in each stage, not {layers!r}")
        if check_number("reduction of the stem", reduction, least=1, whole=True) not in (1, 2, 4):
            raise ValueError(f"the reduction of the stem must be 1, 2 or 4, not {reduction!r}")
        super().__init__({                                            # what a run keeps, to make the model again
            "image_size": image_size, "channels": channels, "classes": classes,
            "layers": [check_number("number of blocks in a stage", n, least=1, whole=True) for n in layers],
            "width": width, "block": check_name("block", block, ["basic", "bottleneck"]),
            "reduction": reduction, "groups": check_number("number of groups", groups, least=1, whole=True),
            "drop_rate": drop_rate, "drop_path_rate": drop_path_rate, "mean": mean, "std": std,
        })
        self.reduction = reduction
        widths = [(4 if block == "bottleneck" else 1) * width * 2**stage for stage in range(len(layers))]
        self.stem = Stem(channels, width, reduction)
        self.stages, inputs, rates = [], width, iter(rising(drop_path_rate, sum(layers)))
        for stage, (outputs, blocks) in enumerate(zip(widths, layers, strict=True)):
            self.stages.append(Stage([
                ResidualBlock(inputs if l == 0 else outputs, outputs, 2 if l == 0 and stage > 0 else 1, block == "bottleneck", groups,
                              next(rates)) for l in range(blocks)]))
            inputs = outputs
        self.norm = GroupNormReLU(inputs, groups)
        self.head = Head(inputs, classes, drop_rate)

    def forward(self, images):
        """images (B, H, W, C) -> logits (B, K)."""
        x = self.stem.forward(self.prepare(images))
        for stage in self.stages:
            x = stage.forward(x)
        self.cache = len(x)
        return self.head.forward(self.norm.forward(x))

    def backward(self, dlogits):
        """dlogits (B, K) -> dimages (B, H, W, C), with respect to the normalised images. Raises ValueError for another shape."""
        self.check_gradient(dlogits, self.pop_cache())
        dx = self.norm.backward(self.head.backward(dlogits))
        for stage in reversed(self.stages):
            dx = stage.backward(dx)
        return self.stem.backward(dx)

    @property
    def matmul_rows(self):
        """See `Model.matmul_rows`: the places of the map in the median of the blocks."""
        halvings = self.reduction.bit_length() - 1
        return statistics.median_low(_halved(self.image_size, halvings + i)**2 for i, stage in enumerate(self.stages) for _ in stage.blocks)

    @property
    def flops(self):
        """Floating-point operations of the matrix products for one image, forward, by definition: two for each multiply-add."""
        side = _halved(self.image_size, 1 if self.reduction > 1 else 0)
        products = side**2 * self.stem.conv.weight.size
        side = _halved(side, 1 if self.reduction == 4 else 0)
        for block in (block for stage in self.stages for block in stage.blocks):
            for name, layer in block.named_layers():
                if isinstance(layer, StdConvolution):                 # a stride comes first in a block, or on the path beside
                    before, side = side, _halved(side, layer.stride - 1)
                    products += side**2 * layer.weight.size
                    side = before if name.startswith("downsample") else side
        return 2 * (products + self.head.fc.weight.size)


def _halved(side, times):
    """The side of a map after so many strides of 2."""
    for _ in range(times):
        side = (side + 1) // 2
    return side
