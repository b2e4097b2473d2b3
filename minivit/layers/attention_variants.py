"""Attention with a relative position bias, or for some of the tokens only.

Read `ops/attention_variants.py`, `relative_bias.py` and `attention.py` before.
"""

import numpy as np

from ..ops import attention_variants
from .attention import Attention
from .relative_bias import RelativeBias


class AttentionVariant(Attention):
    """Self-attention of T queries to all tokens, with an optional bias: (B, N, D) -> (B, T, D).

    Parameters
    ----------
    width, heads, drop_rate
        See `Attention`.
    grid : tuple of (int, int, bool), optional
        Rows and columns of the tokens, and whether a class token comes first: adds a learned relative position bias.

    Attributes
    ----------
    queries : slice
        The T tokens whose output is computed. Default: all. The last block of a model computes few, see `Block`.
    """

    queries = attention_variants.ALL

    def __init__(self, width: int, heads: int, drop_rate: float = 0.0,
                 grid: tuple[int, int, bool] | None = None) -> None:
        super().__init__(width, heads, drop_rate)
        projection = {name: vars(self).pop(name) for name in ("proj", "proj_drop")}
        self.rel_pos = RelativeBias(*grid[:2], heads, grid[2]) if grid else None
        vars(self).update(projection)                                 # after the bias: checkpoints rely on this order

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (B, N, D) -> y (B, T, D)."""
        y, self.cache = attention_variants.forward(self.qkv.forward(x), self.heads, self.bias(), self.queries)
        return self.proj_drop.forward(self.proj.forward(y))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, T, D) -> dx (B, N, D)."""
        dy = self.proj.backward(self.proj_drop.backward(dy))
        dqkv = attention_variants.backward(dy, self.pop_cache())
        if self.rel_pos:
            dqkv, dbias = dqkv
            self.rel_pos.backward(dbias)
        return self.qkv.backward(dqkv)

    def bias(self) -> np.ndarray | None:
        """Return what is added to the scores, (h, T, N), or None."""
        return self.rel_pos.forward()[:, self.queries] if self.rel_pos else None
