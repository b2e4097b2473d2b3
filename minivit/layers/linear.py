"""The linear layer: a matrix and, mostly, a bias."""

from typing import Any

from ..ops import linear
from .layer import Layer
from .parameter import Parameter, xavier_uniform, zeros


class Linear(Layer):
    """y = x weight + bias, for x (..., inputs) -> y (..., outputs). See `ops/linear.py`.

    bias: whether there is one. maps: how many maps lie side by side in the weight, see `Parameter`.
    """

    def __init__(self, inputs, outputs, init=xavier_uniform, bias=True, maps=1):
        self.weight = Parameter((inputs, outputs), init, decay=True, maps=maps)
        self.bias: Any = Parameter((outputs,), zeros) if bias else None

    def forward(self, x):
        """x (..., inputs) -> y (..., outputs)."""
        y, self.cache = linear.forward(x, self.weight.data, self.bias.data if self.bias else None)
        return y

    def backward(self, dy):
        """dy (..., outputs) -> dx (..., inputs)."""
        lent = self.weight.grad_buffer(), self.bias.grad_buffer() if self.bias else None
        dx, self.weight.grad, dbias = linear.backward(dy, self.pop_cache(), out=lent)
        if self.bias:
            self.bias.grad = dbias
        return dx
