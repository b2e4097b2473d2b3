"""The layer norm, with its learned scale and shift."""

from ..ops import layer_norm
from .layer import Layer
from .parameter import Parameter, ones, zeros


class LayerNorm(Layer):
    """Layer norm over the last axis, of width D: (..., D) -> (..., D). See `ops/layer_norm.py`."""

    def __init__(self, width, eps=1e-6):
        self.weight = Parameter((width,), ones)
        self.bias = Parameter((width,), zeros)
        self.eps = eps
        self.name_parameters()

    def forward(self, x):
        """x (..., D) -> y (..., D)."""
        y, self.cache = layer_norm.forward(x, self.weight.data, self.bias.data, self.eps)
        return y

    def backward(self, dy):
        """dy (..., D) -> dx (..., D)."""
        dx, self.weight.grad, self.bias.grad = layer_norm.backward(dy, self.take_cache())
        return dx
