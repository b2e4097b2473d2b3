"""The convolution layer: a kernel and a bias."""

import numpy as np

from ..ops import convolution
from .layer import Layer
from .parameter import Parameter, zeros


def _xavier_uniform(shape, rng):
    """Start a kernel (k, k, C, D) as a linear map of its windows."""
    k, _, C, D = shape
    bound = np.sqrt(6 / (k * k * C + D))
    return bound * (2 * rng.random(shape, np.float32) - 1)


class Convolution(Layer):
    """Convolution (B, H, W, C) -> (B, H', W', D) with a kernel of size x size. See `ops/convolution.py`."""

    def __init__(self, inputs, outputs, size=3, stride=1, padding=0):
        self.weight = Parameter((size, size, inputs, outputs), _xavier_uniform, decay=True)
        self.bias = Parameter((outputs,), zeros)
        self.stride, self.padding = stride, padding
        self.name_parameters()

    def forward(self, x):
        """x (B, H, W, C) -> y (B, H', W', D)."""
        y, self.cache = convolution.forward(x, self.weight.data, self.bias.data, self.stride, self.padding)
        return y

    def backward(self, dy):
        """dy (B, H', W', D) -> dx (B, H, W, C)."""
        dx, self.weight.grad, self.bias.grad = convolution.backward(dy, self.take_cache(), out=(self.weight.lend(), self.bias.lend()))
        return dx
