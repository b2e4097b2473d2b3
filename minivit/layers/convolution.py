"""The convolution layers: a kernel and a bias, or a kernel that is standardised."""

from ..ops import convolution, weight_standardisation
from .layer import Layer
from .parameter import Parameter, xavier_uniform, zeros


class Convolution(Layer):
    """Convolution (B, H, W, C) -> (B, H', W', D) with a kernel of size x size. See `ops/convolution.py`."""

    def __init__(self, inputs, outputs, size=3, stride=1, padding=0, init=xavier_uniform):
        self.weight = Parameter((size, size, inputs, outputs), init, decay=True)
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


class StdConvolution(Layer):
    """Convolution (B, H, W, C) -> (B, H', W', D) whose filters are standardised before use; it has no bias.

    See `ops/weight_standardisation.py` and `ops/convolution.py`.
    """

    def __init__(self, inputs, outputs, size=3, stride=1, padding=0):
        self.weight = Parameter((size, size, inputs, outputs), xavier_uniform, decay=True)
        self.stride, self.padding = stride, padding
        self.name_parameters()

    def forward(self, x):
        """x (B, H, W, C) -> y (B, H', W', D)."""
        what, standardised = weight_standardisation.forward(self.weight.data)
        y, convolved = convolution.forward(x, what, None, self.stride, self.padding)
        self.cache = standardised, convolved
        return y

    def backward(self, dy):
        """dy (B, H', W', D) -> dx (B, H, W, C)."""
        standardised, convolved = self.take_cache()
        dx, dwhat = convolution.backward(dy, convolved, out=(self.weight.lend(), None))
        self.weight.grad = weight_standardisation.backward(dwhat, standardised, out=self.weight.lend())
        return dx
