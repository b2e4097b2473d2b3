"""Merging of neighbouring tokens between Swin stages. Read `ops/merging.py`, `norm.py` and `linear.py` before."""

import numpy as np

from ..ops import merging
from .layer import Layer
from .linear import Linear
from .norm import LayerNorm


class PatchMerging(Layer):
    """Four neighbouring tokens become one of twice the width: (B, H, W, D) -> (B, H/2, W/2, 2 D).

    Parameters
    ----------
    width : int
        D.
    eps : float
        See `LayerNorm`.
    """

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        self.norm = LayerNorm(4 * width, eps)
        self.reduction = Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (B, H, W, D) -> y (B, H/2, W/2, 2 D)."""
        x, self.cache = merging.forward(x)                            # (B, H/2, W/2, 4 D)
        return self.reduction.forward(self.norm.forward(x))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, H/2, W/2, 2 D) -> dx (B, H, W, D)."""
        return merging.backward(self.norm.backward(self.reduction.backward(dy)), self.pop_cache())
