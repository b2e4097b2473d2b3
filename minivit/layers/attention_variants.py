"""Attention with a relative position bias, or for some of the tokens only.

Read `ops/attention_variants.py`, `relative_bias.py` and `attention.py` before. The classes of `normed_attention.py` and
`rotary_attention.py` also change the queries and keys (`between`).
"""

import numpy as np

from ..ops import attention_variants, interleaved_attention
from .attention import Attention
from .relative_bias import RelativeBias


class AttentionVariant(Attention):
    """Self-attention of T queries to all tokens, with an optional bias: (B, N, D) -> (B, T, D).

    Parameters
    ----------
    width, heads, drop_rate
        See `Attention`.
    grid : tuple of (int, int, int), optional
        Rows and columns of the tokens, and how many tokens come before them: adds a learned relative position bias.

    Attributes
    ----------
    queries : slice
        The T tokens whose output is computed. Default: all. The last block of a model computes few, see `Block`.
    """

    queries = attention_variants.ALL

    def __init__(self, width: int, heads: int, drop_rate: float = 0.0,
                 grid: tuple[int, int, int] | None = None) -> None:
        super().__init__(width, heads, drop_rate)
        projection = {name: vars(self).pop(name) for name in ("proj", "proj_drop")}
        self.rel_pos = RelativeBias(*grid[:2], heads, grid[2]) if grid else None
        vars(self).update(projection)                                 # after the bias: checkpoints rely on this order

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (B, N, D) -> y (B, T, D)."""
        qkv = self.between(self.qkv.forward(x))
        if not self.rel_pos and self.queries == attention_variants.ALL and interleaved_attention.fits(qkv, self.heads):
            y, self.cache = interleaved_attention.forward(qkv, self.heads)
        else:
            y, self.cache = attention_variants.forward(qkv, self.heads, self.bias(), self.queries)
        return self.proj_drop.forward(self.proj.forward(y))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, T, D) -> dx (B, N, D)."""
        dy = self.proj.backward(self.proj_drop.backward(dy))
        cache = self.pop_cache()
        op = interleaved_attention if isinstance(cache, interleaved_attention.Cache) else attention_variants
        dqkv = op.backward(dy, cache)
        if self.rel_pos:
            dqkv, dbias = dqkv
            self.rel_pos.backward(dbias)
        return self.qkv.backward(self.between_backward(dqkv))

    def between(self, qkv: np.ndarray) -> np.ndarray:
        """Change qkv (B, N, 3 D) between the linear map and attention."""
        return qkv

    def between_backward(self, dqkv: np.ndarray) -> np.ndarray:
        """Gradients of `between`, (B, N, 3 D) -> (B, N, 3 D)."""
        return dqkv

    def bias(self) -> np.ndarray | None:
        """Return what is added to the scores, (h, T, N), or None; (B, h, T, N) if tokens are left out."""
        return self.rel_pos.forward()[..., self.queries, :] if self.rel_pos else None
