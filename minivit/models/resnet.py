"""ResNetV2 as in Big Transfer (BiT), Kolesnikov et al., arXiv:1912.11370: the convolutional network of the ViT paper.

Read `layers/resnet_block.py` before.

    x_0 = pool(conv(image))                            the stem: a convolution of stride 2, and max pooling
    x_l = f_l(ReLU(GN(x_{l-1}))) + x_{l-1}             blocks, in stages; each stage after the first halves the map
    y   = mean over places of ReLU(GN(x_L))            the image as one vector

Each halving doubles the width. A linear head computes the logits from y. Convolutions are weight-standardised and norms
are group norms (GN), so no image depends on another one. A batch norm would couple them: it normalises over all images
of a batch. The backward is the same list read from the bottom.
"""

import math
import statistics
from collections.abc import Sequence

import numpy as np

from ..common.checks import check_name, check_number
from ..common.sizes import Size
from ..layers import Convolution, Dropout, GroupNormReLU, Layer, ResidualBlock, Stage, StdConvolution
from ..layers.initializers import zeros
from ..ops import max_pooling, pooling
from . import flops
from .model import Model, Statistic, rising


class Stem(Layer):
    """Images (B, H, W, C) -> the first map (B, H', W', D), H' = ceil(H / reduction).

    Parameters
    ----------
    channels, width : int
        C and D.
    reduction : {1, 2, 4}
        4 is BiT's stem: a 7 x 7 convolution of stride 2, and 3 x 3 max pooling of stride 2. For small images, 2 and 1
        are a 3 x 3 convolution of that stride.
    """

    def __init__(self, channels: int, width: int, reduction: int) -> None:
        self.pools = reduction == 4
        size, stride, padding = (7, 2, 3) if self.pools else (3, reduction, 1)
        self.conv = StdConvolution(channels, width, size, stride, padding)

    def forward(self, images: np.ndarray) -> np.ndarray:
        """images (B, H, W, C) -> y (B, H', W', D)."""
        x = self.conv.forward(images)
        if self.pools:
            x, self.cache = max_pooling.forward(x, size=3, stride=2, padding=1)
        return x

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, H', W', D) -> dimages (B, H, W, C)."""
        return self.conv.backward(max_pooling.backward(dy, self.pop_cache()) if self.pools else dy)


class Head(Layer):
    """The mean over all places, and a linear map: (B, H, W, D) -> (B, K). As in timm, the map is a 1 x 1 convolution.

    Parameters
    ----------
    width, classes : int
        D and K.
    drop_rate : float
        Rate of dropout before the map, in training.
    """

    def __init__(self, width: int, classes: int, drop_rate: float) -> None:
        self.drop = Dropout(drop_rate)
        self.fc = Convolution(width, classes, size=1, init=zeros)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (B, H, W, D) -> logits (B, K)."""
        y, pooled = pooling.forward(x.reshape(len(x), -1, x.shape[-1]), "mean")
        self.cache = x.shape, pooled
        return self.fc.forward(self.drop.forward(y)[:, None, None]).reshape(len(x), -1)

    def backward(self, dlogits: np.ndarray) -> np.ndarray:
        """dlogits (B, K) -> dx (B, H, W, D)."""
        shape, pooled = self.pop_cache()
        dy = self.drop.backward(self.fc.backward(dlogits[:, None, None])[:, 0, 0])
        return pooling.backward(dy, pooled).reshape(shape)


class ResNet(Model):
    """A ResNetV2: images (B, H, W, C) -> logits (B, K).

    Parameters
    ----------
    image_size : int or (int, int)
        (H, W) of the images in pixels; one number for a square.
    channels, classes : int
        C and K.
    layers : sequence of int
        Number of blocks in each stage.
    width : int
        Channels of the stem, and of the 3 x 3 convolutions in the first stage.
    block : {"bottleneck", "basic"}
        See `ResidualBlock`. The output of a bottleneck has four times as many channels as its 3 x 3 convolution.
    reduction : {1, 2, 4}
        See `Stem`.
    groups : int
        Groups of each norm.
    drop_rate : float
        Rate of dropout before the head, in training.
    drop_path_rate : float
        Rate of drop-path in the last block, in training; it rises linearly from 0 in the first.
    mean, std : float or sequence of float
        Statistics of pixels between 0 and 1, for all channels or for each.

    Raises
    ------
    ValueError
        If a name is unknown, a size is not a whole number, or the groups do not divide the width.
    """

    def __init__(self, *, image_size: Size, channels: int = 3, classes: int = 1000, layers: Sequence[int],
                 width: int = 64, block: str = "bottleneck", reduction: int = 4, groups: int = 32,
                 drop_rate: float = 0.0, drop_path_rate: float = 0.0, mean: Statistic = 0.5,
                 std: Statistic = 0.5) -> None:
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
            strides = [2 if stage > 0 else 1] + (blocks - 1) * [1]
            self.stages.append(Stage([
                ResidualBlock(outputs if l else inputs, outputs, stride, block == "bottleneck", groups, next(rates))
                for l, stride in enumerate(strides)]))
            inputs = outputs
        self.norm = GroupNormReLU(inputs, groups)
        self.head = Head(inputs, classes, drop_rate)

    def forward(self, images: np.ndarray) -> np.ndarray:
        """images (B, H, W, C) -> logits (B, K)."""
        x = self.stem.forward(self.prepare(images))
        for stage in self.stages:
            x = stage.forward(x)
        self.cache = len(x)
        return self.head.forward(self.norm.forward(x))

    def backward(self, dlogits: np.ndarray) -> np.ndarray:
        """dlogits (B, K) -> dimages (B, H, W, C), the gradient of the normalised images."""
        self.check_gradient(dlogits, self.pop_cache())
        dx = self.norm.backward(self.head.backward(dlogits))
        for stage in reversed(self.stages):
            dx = stage.backward(dx)
        return self.stem.backward(dx)

    @property
    def flops(self) -> int:
        """See `Model.flops`."""
        return flops.of_resnet(self)

    @property
    def matmul_rows(self) -> int:
        """See `Model.matmul_rows`: the places of the map in the median of the blocks."""
        halvings = self.reduction.bit_length() - 1
        maps = [[flops.halved(side, halvings + i) for side in self.image_size] for i in range(len(self.stages))]
        places = [math.prod(sides) for sides, stage in zip(maps, self.stages, strict=True) for _ in stage.blocks]
        return statistics.median_low(places)
