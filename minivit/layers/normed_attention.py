"""Attention whose queries and keys are normalised in each head.

Read `attention_variants.py` and `norm.py` before. With LN a layer norm over the d numbers of a head, the same for all
heads,

    scores = LN(q) LN(k)^T / sqrt d

Queries and keys then have lengths that do not grow in training, so no score dominates the softmax. Backward: the
gradients of the normed queries and keys pass the two norms; that of the values stays.

Source: Dehghani et al., "Scaling Vision Transformers to 22 Billion Parameters", arXiv:2302.05442, section 2.1.
"""

from collections.abc import Callable

import numpy as np

from .attention_variants import AttentionVariant
from .norm import LayerNorm


class NormedAttention(AttentionVariant):
    """Self-attention with normalised queries and keys: (B, N, D) -> (B, T, D).

    Parameters
    ----------
    width, heads, drop_rate, grid
        See `AttentionVariant`.
    eps : float
        See `LayerNorm`.
    """

    def __init__(self, width: int, heads: int, drop_rate: float = 0.0, grid: tuple[int, int, int] | None = None,
                 eps: float = 1e-6) -> None:
        super().__init__(width, heads, drop_rate, grid)
        self.q_norm, self.k_norm = LayerNorm(width // heads, eps), LayerNorm(width // heads, eps)

    def between(self, qkv: np.ndarray) -> np.ndarray:
        """qkv (B, N, 3 D) -> qkv (B, N, 3 D) with normalised queries and keys."""
        return self._through(super().between(qkv), self.q_norm.forward, self.k_norm.forward)

    def between_backward(self, dqkv: np.ndarray) -> np.ndarray:
        """Gradients of `between`, (B, N, 3 D) -> (B, N, 3 D)."""
        return super().between_backward(self._through(dqkv, self.q_norm.backward, self.k_norm.backward))

    def _through(self, qkv: np.ndarray, of_queries: Callable, of_keys: Callable) -> np.ndarray:
        """Return qkv (B, N, 3 D) with two functions applied to the queries and the keys of each head, (B, N, h, d)."""
        B, N, width = qkv.shape
        parts = qkv.reshape(B, N, 3, self.heads, width // (3 * self.heads))
        q, k = of_queries(parts[:, :, 0].copy()), of_keys(parts[:, :, 1].copy())
        return np.stack([q, k, parts[:, :, 2]], axis=2).reshape(B, N, width)
