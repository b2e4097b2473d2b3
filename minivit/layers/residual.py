"""The residual blocks of ResNetV2: norm and ReLU come before each convolution, and nothing stands on the path beside them.

He et al., "Identity Mappings in Deep Residual Networks", arXiv:1603.05027. With a = ReLU(GN(x)), the *pre-activation*,

    y = f(a) + x              f: two convolutions 3 x 3 (basic), or 1 x 1, 3 x 3 and 1 x 1 (bottleneck), norm and ReLU between
    y = f(a) + a W            where width or size change: the path beside is a convolution of one place, with the same stride

Backward, as in `block`: what acts twice gets a sum. With J the Jacobian of f and R that of a over x,

    dx = R^T (J^T dy) + dy               without the path beside
    dx = R^T (J^T dy + dy W^T)           with it

The stride is that of the convolution 3 x 3, the first one of two. Convolutions are weight-standardised and have no bias. Names are timm's.
"""

from .convolution import StdConvolution
from .dropout import DropPath
from .layer import Layer
from .norm import GroupNormReLU


class Shortcut(Layer):
    """The path beside a block that changes width or size: (B, H, W, C) -> (B, H', W', D)."""

    def __init__(self, inputs, outputs, stride):
        self.conv = StdConvolution(inputs, outputs, size=1, stride=stride)

    def forward(self, x):
        """x (B, H, W, C) -> y (B, H', W', D)."""
        return self.conv.forward(x)

    def backward(self, dy):
        """dy (B, H', W', D) -> dx (B, H, W, C)."""
        return self.conv.backward(dy)


class ResidualBlock(Layer):
    """A pre-activation block, (B, H, W, C) -> (B, H', W', D), H' = ceil(H / stride). groups: of the norms.

    bottleneck: whether it narrows to D / 4 channels for a convolution 3 x 3, and widens again; else two convolutions 3 x 3 of D.
    Raises ValueError if 4 does not divide D, or the groups do not divide a number of channels.
    """

    def __init__(self, inputs, outputs, stride=1, bottleneck=False, groups=32, drop_path_rate=0.0):
        if bottleneck and outputs % 4:
            raise ValueError(f"a bottleneck narrows to a quarter of its channels: 4 must divide them, but there are {outputs}")
        inner = outputs // 4 if bottleneck else outputs
        self.downsample = Shortcut(inputs, outputs, stride) if stride > 1 or inputs != outputs else None
        self.norm1 = GroupNormReLU(inputs, groups)
        self.conv1 = StdConvolution(inputs, inner, 1) if bottleneck else StdConvolution(inputs, inner, 3, stride, 1)
        self.norm2 = GroupNormReLU(inner, groups)
        self.conv2 = StdConvolution(inner, inner, 3, stride if bottleneck else 1, 1)
        self.norm3 = GroupNormReLU(inner, groups) if bottleneck else None
        self.conv3 = StdConvolution(inner, outputs, 1) if bottleneck else None
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x):
        """x (B, H, W, C) -> y (B, H', W', D)."""
        a = self.norm1.forward(x)
        beside = self.downsample.forward(a) if self.downsample else x
        y = self.conv2.forward(self.norm2.forward(self.conv1.forward(a)))
        if self.conv3 and self.norm3:
            y = self.conv3.forward(self.norm3.forward(y))
        y = self.drop_path.forward(y)
        y += beside
        return y

    def backward(self, dy):
        """dy (B, H', W', D) -> dx (B, H, W, C)."""
        da = self.drop_path.backward(dy)
        if self.conv3 and self.norm3:
            da = self.norm3.backward(self.conv3.backward(da))
        da = self.conv1.backward(self.norm2.backward(self.conv2.backward(da)))
        if self.downsample:
            da += self.downsample.backward(dy)                        # a acts twice
            return self.norm1.backward(da)
        dx = self.norm1.backward(da)
        dx += dy                                                      # x acts twice
        return dx
