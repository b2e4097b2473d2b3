"""Multi-head self-attention: a linear map to queries, keys and values, attention in each head, a map to mix the heads.

Read `ops/attention.py` and `linear.py` before. A *head* here is one of the h attentions that run side by side, each on
its own d = D / h numbers of a token. (The *classifier head* at the end of a model is something else.)
"""

import numpy as np

from ..ops import attention, interleaved_attention
from .dropout import Dropout
from .layer import Layer
from .linear import Linear


class Attention(Layer):
    """Self-attention between all tokens of an image: (B, N, D) -> (B, N, D).

    Parameters
    ----------
    width, heads : int
        D and h; h must divide D.
    drop_rate : float
        Rate of dropout after the last map, in training.
    """

    def __init__(self, width: int, heads: int, drop_rate: float = 0.0) -> None:
        if heads < 1 or width % heads:
            raise ValueError(f"the width {width} must be divisible by the number of heads, {heads}")
        self.heads = heads
        self.qkv = Linear(width, 3 * width, maps=3)
        self.proj = Linear(width, width)
        self.proj_drop = Dropout(drop_rate)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (B, N, D) -> y (B, N, D)."""
        qkv = self.qkv.forward(x)
        op = interleaved_attention if interleaved_attention.fits(qkv, self.heads) else attention
        y, self.cache = op.forward(qkv, self.heads)
        return self.proj_drop.forward(self.proj.forward(y))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, N, D) -> dx (B, N, D)."""
        dy = self.proj.backward(self.proj_drop.backward(dy))
        cache = self.pop_cache()
        op = interleaved_attention if isinstance(cache, interleaved_attention.Cache) else attention
        return self.qkv.backward(op.backward(dy, cache))

    @property
    def probabilities(self) -> np.ndarray:
        """Attention of each token to each token in the last forward, (B, h, N, N). Each row sums to one; read-only."""
        if self.cache is None:
            raise RuntimeError(f"{type(self).__name__} has probabilities only between a forward and its backward")
        return interleaved_attention.probabilities(self.cache)
