"""The linear layer: a matrix and a bias."""

from ..ops import linear
from .layer import Layer
from .parameter import Parameter, xavier_uniform, zeros


class Linear(Layer):
    """y = x weight + bias, for x (..., inputs) -> y (..., outputs). See `ops/linear.py`."""

    def __init__(self, inputs, outputs, init=xavier_uniform):
        self.weight = Parameter((inputs, outputs), init, decay=True)
        self.bias = Parameter((outputs,), zeros)
        self.name_parameters()

    def forward(self, x):
        """x (..., inputs) -> y (..., outputs)."""
        y, self.cache = linear.forward(x, self.weight.data, self.bias.data)
        return y

    def backward(self, dy):
        """dy (..., outputs) -> dx (..., inputs)."""
        dx, self.weight.grad, self.bias.grad = linear.backward(dy, self.take_cache(), out=(self.weight.lend(), self.bias.lend()))
        return dx
