"""Attention with rotary positions: queries and keys turn by the place of their token. Read `ops/rotary.py` before.

Read `attention_variants.py` and `normed_attention.py`, too. If queries and keys are normalised, they are so before they
turn. The layer learns no positions; rotary positions act in every block, and learned ones only before the first.
"""

import numpy as np

from ..ops import rotary
from .attention_variants import AttentionVariant
from .normed_attention import NormedAttention


class RotaryAttention(AttentionVariant):
    """Self-attention whose queries and keys are rotated: (B, N, D) -> (B, T, D).

    Parameters
    ----------
    width, heads, drop_rate, grid
        See `AttentionVariant`.
    places : tuple of (int, int, int)
        Rows and columns of the tokens, and how many tokens, such as a class token, come before them. Those have no
        place, and are not rotated.

    Attributes
    ----------
    spacing : (float, float)
        Distance of two rows, and of two columns, see `ops/rotary.py`.

    Raises
    ------
    ValueError
        If 4 does not divide the width of a head.
    """

    spacing = 1.0, 1.0

    def __init__(self, width: int, heads: int, drop_rate: float = 0.0, grid: tuple[int, int, int] | None = None, *,
                 places: tuple[int, int, int]) -> None:
        super().__init__(width, heads, drop_rate, grid)
        self.places = places
        if width // heads % 4:
            raise ValueError(f"rotary positions need heads whose width is divisible by 4, not {width // heads}: use "
                             "another width or number of heads")

    def between(self, qkv: np.ndarray) -> np.ndarray:
        """qkv (B, N, 3 D) -> qkv (B, N, 3 D) with rotated queries and keys."""
        y, _ = rotary.forward(super().between(qkv), self.heads, *self.places[:2], self.spacing)
        return y

    def between_backward(self, dqkv: np.ndarray) -> np.ndarray:
        """Gradients of `between`, (B, N, 3 D) -> (B, N, 3 D)."""
        cache = rotary.cache_of(dqkv, self.heads, *self.places[:2], self.spacing)
        return super().between_backward(rotary.backward(dqkv, cache))


class NormedRotaryAttention(RotaryAttention, NormedAttention):
    """Self-attention whose queries and keys are normalised, then rotated: (B, N, D) -> (B, T, D).

    Parameters
    ----------
    width, heads, drop_rate, grid, places
        See `RotaryAttention`.
    """
