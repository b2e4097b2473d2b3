"""Group norm with its learned scale and shift, followed by a ReLU. Read `ops/group_norm.py` and `layer.py` before."""

import numpy as np

from ..ops import group_norm
from .initializers import ones, zeros
from .layer import Layer
from .parameter import Parameter


class GroupNormReLU(Layer):
    """Group norm and a ReLU in one pass: (B, H, W, C) -> (B, H, W, C).

    Parameters
    ----------
    width : int
        C, the number of channels.
    groups : int
        Number of groups of channels; each is normalised by itself.
    eps : float
        Added to the variance, so that the square root is never zero.

    Raises
    ------
    ValueError
        If the groups do not divide the channels.
    """

    def __init__(self, width: int, groups: int = 32, eps: float = 1e-5) -> None:
        if groups < 1 or width % groups:
            raise ValueError(f"the {width} channels of a group norm must be divisible by its groups, {groups}")
        self.weight = Parameter((width,), ones)
        self.bias = Parameter((width,), zeros)
        self.groups, self.eps = groups, eps

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (B, H, W, C) -> y (B, H, W, C)."""
        y, self.cache = group_norm.forward(x, self.weight.data, self.bias.data, self.groups, self.eps, relu=True)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, H, W, C) -> dx (B, H, W, C)."""
        dx, self.weight.grad, self.bias.grad = group_norm.backward(dy, self.pop_cache())
        return dx
