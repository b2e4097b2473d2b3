"""The convolution layers: with a filter and a bias, or with a standardised filter.

Read `ops/convolution.py` and `layer.py` before; `ops/winograd.py` is a faster algorithm for filters of 3 x 3.
"""

from types import ModuleType

import numpy as np

from ..ops import convolution, weight_standardisation, winograd
from .initializers import Initializer, xavier_uniform, zeros
from .layer import Layer
from .parameter import Parameter

# Numbers of channels, in and out, for which Winograd's algorithm takes less time on maps of at least 2 x 2. With 8
# channels it takes more. With 512 it takes more on small maps, and networks have that many channels only there.
WINOGRAD_CHANNELS = range(16, 257)


def _fastest_op(x: np.ndarray, weight: Parameter, stride: int) -> ModuleType:
    """Return the faster op, `winograd` or `convolution`. For finite numbers they differ only by rounding.

    The choice does not depend on the batch size, so the result does not depend on how a batch is split.
    """
    size, _, inputs, outputs = weight.shape
    pays = inputs in WINOGRAD_CHANNELS and outputs in WINOGRAD_CHANNELS and min(x.shape[1:3]) > 1
    return winograd if size == 3 and stride == 1 and pays else convolution


class Convolution(Layer):
    """Convolution with a bias: (B, H, W, C) -> (B, H', W', D).

    Parameters
    ----------
    inputs, outputs : int
        C and D.
    size, stride, padding : int
        Side of the filter, step between its places, and zeros added on each side of the image, all in pixels.
    init : callable
        Initial values of the filter (size, size, C, D), see `Parameter`.
    """

    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1, padding: int = 0,
                 init: Initializer = xavier_uniform) -> None:
        self.weight = Parameter((size, size, inputs, outputs), init, decay=True)
        self.bias = Parameter((outputs,), zeros)
        self.stride, self.padding = stride, padding

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (B, H, W, C) -> y (B, H', W', D)."""
        op = _fastest_op(x, self.weight, self.stride)
        y, cache = op.forward(x, self.weight.data, self.bias.data, self.stride, self.padding)
        self.cache = op, cache
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, H', W', D) -> dx (B, H, W, C)."""
        op, cache = self.pop_cache()
        buffers = self.weight.grad_buffer(), self.bias.grad_buffer()
        dx, self.weight.grad, self.bias.grad = op.backward(dy, cache, out=buffers)
        return dx


class StdConvolution(Layer):
    """Convolution without a bias, whose filters are standardised before use: (B, H, W, C) -> (B, H', W', D).

    Read `ops/weight_standardisation.py` before.

    Parameters
    ----------
    inputs, outputs : int
        C and D.
    size, stride, padding : int
        Side of the filter, step between its places, and zeros added on each side of the image, all in pixels.
    """

    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1, padding: int = 0) -> None:
        self.weight = Parameter((size, size, inputs, outputs), xavier_uniform, decay=True)
        self.stride, self.padding = stride, padding

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (B, H, W, C) -> y (B, H', W', D)."""
        what, standardised = weight_standardisation.forward(self.weight.data)
        op = _fastest_op(x, self.weight, self.stride)
        y, convolved = op.forward(x, what, None, self.stride, self.padding)
        self.cache = op, standardised, convolved
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, H', W', D) -> dx (B, H, W, C)."""
        op, standardised, convolved = self.pop_cache()
        dx, dwhat = op.backward(dy, convolved, out=(self.weight.grad_buffer(), None))
        self.weight.grad = weight_standardisation.backward(dwhat, standardised, out=self.weight.grad_buffer())
        return dx
