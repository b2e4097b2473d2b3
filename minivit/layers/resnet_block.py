"""The residual blocks of ResNetV2: norm and ReLU come before each convolution; beside them runs the identity.

Read `convolution.py`, `group_norm.py` and `block.py` before. Source: He et al., "Identity Mappings in Deep Residual
Networks", arXiv:1603.05027. With a = ReLU(GN(x)), the *pre-activation*,

    y = f(a) + x              f: convolutions 3 x 3, 3 x 3 (basic) or 1 x 1, 3 x 3, 1 x 1 (bottleneck), with
                              norm and ReLU between
    y = f(a) + a W            where width or size change: the *shortcut* W is a convolution 1 x 1 with the same stride

Backward, as in `block.py`: an input that acts twice gets a sum. With J the Jacobian of f and R the Jacobian of a with
respect to x,

    dx = R^T (J^T dy) + dy               without a shortcut
    dx = R^T (J^T dy + dy W^T)           with a shortcut

The stride belongs to the 3 x 3 convolution, to the first one if there are two. Convolutions are weight-standardised and
have no bias. Parameters are named as in the library timm.
"""

import numpy as np

from .convolution import StdConvolution
from .dropout import DropPath
from .group_norm import GroupNormReLU
from .layer import Layer


class Shortcut(Layer):
    """The path beside a block that changes width or size: (B, H, W, C) -> (B, H', W', D).

    Parameters
    ----------
    inputs, outputs, stride : int
        C, D and the stride of the 1 x 1 convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        self.conv = StdConvolution(inputs, outputs, size=1, stride=stride)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (B, H, W, C) -> y (B, H', W', D)."""
        return self.conv.forward(x)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, H', W', D) -> dx (B, H, W, C)."""
        return self.conv.backward(dy)


class ResidualBlock(Layer):
    """A pre-activation block: (B, H, W, C) -> (B, H', W', D), H' = ceil(H / stride).

    Parameters
    ----------
    inputs, outputs : int
        C and D.
    stride : int
        Step between outputs.
    bottleneck : bool
        Whether a 1 x 1 convolution narrows to D / 4 channels before the 3 x 3 one, and another widens to D after it.
        Otherwise there are two 3 x 3 convolutions of D channels.
    groups : int
        Groups of each group norm.
    drop_path_rate : float
        Rate of drop-path, in training.

    Raises
    ------
    ValueError
        If 4 does not divide the D of a bottleneck, or the groups do not divide a number of channels.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, bottleneck: bool = False, groups: int = 32,
                 drop_path_rate: float = 0.0) -> None:
        if bottleneck and outputs % 4:
            raise ValueError("a bottleneck has a quarter of its output channels inside: 4 must divide them, but there "
                             f"are {outputs}")
        inner = outputs // 4 if bottleneck else outputs
        self.downsample = Shortcut(inputs, outputs, stride) if stride > 1 or inputs != outputs else None
        self.norm1 = GroupNormReLU(inputs, groups)
        self.conv1 = StdConvolution(inputs, inner, 1) if bottleneck else StdConvolution(inputs, inner, 3, stride, 1)
        self.norm2 = GroupNormReLU(inner, groups)
        self.conv2 = StdConvolution(inner, inner, 3, stride if bottleneck else 1, 1)
        self.norm3 = GroupNormReLU(inner, groups) if bottleneck else None
        self.conv3 = StdConvolution(inner, outputs, 1) if bottleneck else None
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (B, H, W, C) -> y (B, H', W', D)."""
        a = self.norm1.forward(x)
        beside = self.downsample.forward(a) if self.downsample else x
        y = self.conv2.forward(self.norm2.forward(self.conv1.forward(a)))
        if self.conv3 and self.norm3:
            y = self.conv3.forward(self.norm3.forward(y))
        y = self.drop_path.forward(y)
        y += beside
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
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
