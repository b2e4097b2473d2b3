"""The linear layer: a matrix and a bias. Read `ops/linear.py` and `layer.py` before."""

import numpy as np

from ..ops import linear
from .initializers import Initializer, xavier_uniform, zeros
from .layer import Layer
from .parameter import Parameter


class Linear(Layer):
    """A linear map of the last axis: x (..., inputs) -> y = x weight + bias (..., outputs).

    Parameters
    ----------
    inputs, outputs : int
        Width of x and of y.
    init : callable
        Initial values of the weight (inputs, outputs), see `Parameter`.
    bias : bool
        Whether there is a bias (outputs,), which starts at zero.
    maps : int
        How many maps lie side by side in the weight, see `Parameter`.
    """

    def __init__(self, inputs: int, outputs: int, init: Initializer = xavier_uniform, bias: bool = True,
                 maps: int = 1) -> None:
        self.weight = Parameter((inputs, outputs), init, decay=True, maps=maps)
        self.bias = Parameter((outputs,), zeros) if bias else None

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (..., inputs) -> y (..., outputs)."""
        y, self.cache = linear.forward(x, self.weight.data, self.bias.data if self.bias else None)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (..., outputs) -> dx (..., inputs)."""
        buffers = self.weight.grad_buffer(), self.bias.grad_buffer() if self.bias else None
        dx, self.weight.grad, dbias = linear.backward(dy, self.pop_cache(), out=buffers)
        if self.bias:
            self.bias.grad = dbias
        return dx
