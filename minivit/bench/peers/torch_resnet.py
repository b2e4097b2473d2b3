"""A ResNetV2 with group norm and weight standardisation in ordinary PyTorch, under timm's names, for comparison.

Written from the papers (He et al., arXiv:1603.05027; Kolesnikov et al., arXiv:1912.11370), independently of minivit.
Needs torch.
"""

from torch import nn
from torch.nn import functional as F


class StdConv2d(nn.Conv2d):
    """A convolution with standardised weights."""

    def __init__(self, inputs, outputs, size, stride=1):
        super().__init__(inputs, outputs, size, stride, padding=size // 2, bias=False)

    def forward(self, x):
        """Map x to y."""
        weight = F.batch_norm(self.weight.reshape(1, len(self.weight), -1), None, None, training=True,
                              eps=1e-8).reshape_as(self.weight)
        return F.conv2d(x, weight, None, self.stride, self.padding)


class GroupNormReLU(nn.GroupNorm):
    """Group norm and ReLU."""

    def __init__(self, width, groups):
        super().__init__(groups, width, eps=1e-5)

    def forward(self, x):
        """Map x to y."""
        return F.relu(super().forward(x), inplace=True)


class Shortcut(nn.Module):
    """The convolution of a block's shortcut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv = StdConv2d(inputs, outputs, 1, stride)

    def forward(self, x):
        """Map x to y."""
        return self.conv(x)


class Block(nn.Module):
    """A pre-activation residual block."""

    def __init__(self, inputs, outputs, stride, bottleneck, groups):
        super().__init__()
        inner = outputs // 4 if bottleneck else outputs
        self.downsample = Shortcut(inputs, outputs, stride) if stride > 1 or inputs != outputs else None
        self.norm1 = GroupNormReLU(inputs, groups)
        self.norm2 = GroupNormReLU(inner, groups)
        if bottleneck:
            self.norm3 = GroupNormReLU(inner, groups)
            self.conv1, self.conv2 = StdConv2d(inputs, inner, 1), StdConv2d(inner, inner, 3, stride)
            self.conv3 = StdConv2d(inner, outputs, 1)
        else:
            self.conv1, self.conv2 = StdConv2d(inputs, outputs, 3, stride), StdConv2d(outputs, outputs, 3)
        self.bottleneck = bottleneck

    def forward(self, x):
        """Map x to y."""
        a = self.norm1(x)
        y = self.conv2(self.norm2(self.conv1(a)))
        if self.bottleneck:
            y = self.conv3(self.norm3(y))
        return y + (x if self.downsample is None else self.downsample(a))


class Stage(nn.Module):
    """Blocks on maps of one size."""

    def __init__(self, blocks):
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x):
        """Map x to y."""
        return self.blocks(x)


class Stem(nn.Module):
    """The first convolution, and max pooling."""

    def __init__(self, channels, width, reduction):
        super().__init__()
        self.conv = StdConv2d(channels, width, 7, 2) if reduction == 4 else StdConv2d(channels, width, 3, reduction)
        self.pools = reduction == 4

    def forward(self, x):
        """Map x to y."""
        x = self.conv(x)
        return F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2) if self.pools else x


class Head(nn.Module):
    """Global mean pooling and a 1 x 1 convolution."""

    def __init__(self, width, classes):
        super().__init__()
        self.fc = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        """Map x to y."""
        return self.fc(x.mean(dim=(2, 3), keepdim=True)).flatten(1)


class TorchResNet(nn.Module):
    """Images (B, C, H, W) -> logits (B, K)."""

    def __init__(self, image_size, channels, classes, layers, width, block, reduction, groups):
        super().__init__()
        self.stem = Stem(channels, width, reduction)
        stages, inputs = [], width
        for stage, blocks in enumerate(layers):
            outputs = width * 2**stage * (4 if block == "bottleneck" else 1)
            stages.append(Stage([Block(outputs if l else inputs, outputs, 2 if stage and not l else 1,
                                       block == "bottleneck", groups)
                                 for l in range(blocks)]))
            inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.norm = GroupNormReLU(inputs, groups)
        self.head = Head(inputs, classes)

    def forward(self, images):
        """Map images to logits."""
        return self.head(self.norm(self.stages(self.stem(images))))
