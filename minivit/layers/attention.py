"""Multi-head self-attention: one linear map for queries, keys and values, the attention itself, one map to mix the heads."""

from ..ops import attention
from .dropout import Dropout
from .layer import Layer
from .linear import Linear


class Attention(Layer):
    """Self-attention (B, N, D) -> (B, N, D) with `heads` heads of width D / heads. See `ops/attention.py`.

    Raises ValueError if D is not divisible by the number of heads.
    """

    def __init__(self, width, heads, drop_rate=0.0):
        if heads < 1 or width % heads:
            raise ValueError(f"the width {width} must be divisible by the number of heads, {heads}")
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)
        self.proj_drop = Dropout(drop_rate)
        self.name_parameters()

    def forward(self, x):
        """x (B, N, D) -> y (B, N, D)."""
        y, self.cache = attention.forward(self.qkv.forward(x), self.heads)
        return self.proj_drop.forward(self.proj.forward(y))

    def backward(self, dy):
        """dy (B, N, D) -> dx (B, N, D)."""
        dy = self.proj.backward(self.proj_drop.backward(dy))
        return self.qkv.backward(attention.backward(dy, self.take_cache()))
