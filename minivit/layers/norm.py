"""Layer norm with its learned scale and shift. Read `ops/layer_norm.py` and `layer.py` before."""

import numpy as np

from ..ops import layer_norm
from .initializers import ones, zeros
from .layer import Layer
from .parameter import Parameter


class LayerNorm(Layer):
    """Layer norm over the last axis: (..., D) -> (..., D).

    Parameters
    ----------
    width : int
        D, the length of the last axis.
    eps : float
        Added to the variance, so that the square root is never zero.
    """

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        self.weight = Parameter((width,), ones)
        self.bias = Parameter((width,), zeros)
        self.eps = eps

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (..., D) -> y (..., D)."""
        y, self.cache = layer_norm.forward(x, self.weight.data, self.bias.data, self.eps)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (..., D) -> dx (..., D)."""
        dx, self.weight.grad, self.bias.grad = layer_norm.backward(dy, self.pop_cache())
        return dx
