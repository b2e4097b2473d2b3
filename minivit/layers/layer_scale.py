"""LayerScale, and the block whose branches are scaled by it. Read `ops/layer_scale.py` and `block.py` before."""

from functools import partial
from typing import Any

import numpy as np

from ..ops import layer_scale
from .block import Block
from .layer import Layer
from .parameter import Parameter


class LayerScale(Layer):
    """A learned factor for each number of a token: (..., D) -> (..., D).

    Parameters
    ----------
    width : int
        D.
    start : float
        The value at which all factors start.
    """

    def __init__(self, width: int, start: float = 1e-4) -> None:
        self.gamma = Parameter((width,), partial(_filled, value=start))

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (..., D) -> y (..., D)."""
        y, self.cache = layer_scale.forward(x, self.gamma.data)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (..., D) -> dx (..., D)."""
        dx, self.gamma.grad = layer_scale.backward(dy, self.pop_cache())
        return dx


def _filled(shape, rng, value):
    """An initialiser: all numbers are `value`."""
    return np.full(shape, value)


class ScaledBlock(Block):
    """A transformer block with a LayerScale after each branch: (B, N, D) -> (B, N, D).

        z'_l = ls1(MSA(LN(z_{l-1}))) + z_{l-1}                                                     (2)
        z_l  = ls2(MLP(LN(z'_l)))    + z'_l                                                        (3)

    Parameters
    ----------
    width : int
        D.
    *arguments
        As for `Block`.
    start : float
        The value at which all factors start.
    **more
        As for `Block`.
    """

    def __init__(self, width: int, *arguments: Any, start: float = 1e-4, **more: Any) -> None:
        super().__init__(width, *arguments, **more)
        self.ls1, self.ls2 = LayerScale(width, start), LayerScale(width, start)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (B, N, D) -> y (B, N, D)."""
        y = self.ls1.forward(self.attn.forward(self.norm1.forward(x)))
        x = x[:, :self.output_tokens] + self.drop_path1.forward(y)                                    # Eq. 2
        return x + self.drop_path2.forward(self.ls2.forward(self.mlp.forward(self.norm2.forward(x))))  # Eq. 3

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, N, D) -> dx (B, N, D)."""
        dmlp = self.ls2.backward(self.drop_path2.backward(dy))
        dz = dy + self.norm2.backward(self.mlp.backward(dmlp))                                        # Eq. 3, reversed
        dattn = self.ls1.backward(self.drop_path1.backward(dz))
        dx = self.norm1.backward(self.attn.backward(dattn))                                           # Eq. 2, reversed
        dx[:, :self.output_tokens] += dz
        return dx
