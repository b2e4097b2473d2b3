"""The norms, with their learned scales and shifts."""

from ..ops import group_norm, layer_norm
from .layer import Layer
from .parameter import Parameter, ones, zeros


class LayerNorm(Layer):
    """Layer norm over the last axis, of width D: (..., D) -> (..., D). See `ops/layer_norm.py`."""

    def __init__(self, width, eps=1e-6):
        self.weight = Parameter((width,), ones)
        self.bias = Parameter((width,), zeros)
        self.eps = eps

    def forward(self, x):
        """x (..., D) -> y (..., D)."""
        y, self.cache = layer_norm.forward(x, self.weight.data, self.bias.data, self.eps)
        return y

    def backward(self, dy):
        """dy (..., D) -> dx (..., D)."""
        dx, self.weight.grad, self.bias.grad = layer_norm.backward(dy, self.pop_cache())
        return dx


class GroupNormReLU(Layer):
    """Group norm with learned factors, and a ReLU: (B, H, W, C) -> (B, H, W, C). See `ops/group_norm.py`.

    Raises ValueError if the groups do not divide the channels.
    """

    def __init__(self, width, groups=32, eps=1e-5):
        if groups < 1 or width % groups:
            raise ValueError(f"the {width} channels of a group norm must be divisible by its groups, {groups}")
        self.weight = Parameter((width,), ones)
        self.bias = Parameter((width,), zeros)
        self.groups, self.eps = groups, eps

    def forward(self, x):
        """x (B, H, W, C) -> y (B, H, W, C)."""
        y, self.cache = group_norm.forward(x, self.weight.data, self.bias.data, self.groups, self.eps, relu=True)
        return y

    def backward(self, dy):
        """dy (B, H, W, C) -> dx (B, H, W, C)."""
        dx, self.weight.grad, self.bias.grad = group_norm.backward(dy, self.pop_cache())
        return dx
