"""Attention within windows: what Swin uses instead of attention between all tokens of an image.

Read `ops/windows.py`, `ops/relative_bias.py` and `attention.py` before.
"""

import numpy as np

from ..kernel import sum_rows
from ..ops import attention_variants, relative_bias, windows
from .dropout import Dropout
from .initializers import normal
from .layer import Layer
from .linear import Linear
from .parameter import Parameter


class WindowAttention(Layer):
    """Self-attention within windows of w x w tokens, with a relative position bias: (B, H, W, D) -> (B, H, W, D).

    An image has G = (H / w) (W / w) windows of n = w w tokens.

    Parameters
    ----------
    width, heads : int
        D and h.
    rows, columns : int
        H and W, in tokens.
    side : int
        w, in tokens.
    shift : int
        By how many tokens the image is shifted before it is split into windows; 0 for no shift.
    drop_rate : float
        Rate of dropout after the last map, in training.

    Raises
    ------
    ValueError
        If h does not divide D, w does not divide H and W, or the shift is not less than w.
    """

    def __init__(self, width: int, heads: int, rows: int, columns: int, side: int, shift: int = 0,
                 drop_rate: float = 0.0) -> None:
        if heads < 1 or width % heads:
            raise ValueError(f"the width {width} must be divisible by the number of heads, {heads}")
        if rows % side or columns % side or not 0 <= shift < side:
            raise ValueError(f"windows of side {side}, shifted by {shift}, do not fit {rows}x{columns} tokens: the "
                             "side must divide both, and exceed the shift")
        self.rows, self.columns, self.heads, self.side, self.shift = rows, columns, heads, side, shift
        self.relative_position_bias_table = Parameter((relative_bias.table_rows(side, side), heads), normal)
        self.qkv = Linear(width, 3 * width, maps=3)
        self.proj = Linear(width, width)
        self.proj_drop = Dropout(drop_rate)

    @property
    def probabilities(self) -> np.ndarray:
        """Attention of each token to each token in the last forward, (B, h, N, N), N = H W; 0 between windows.

        Raises RuntimeError before the first forward and after its backward.
        """
        if self.cache is None:
            raise RuntimeError(f"{type(self).__name__} has probabilities only between a forward and its backward")
        places, _, attended = self.cache
        return windows.to_full_attention(attended[1], places)

    def _bias(self) -> tuple[np.ndarray, tuple]:
        """Return what is added to the scores, (h, n, n) or with a shift (G, h, n, n), and the relative bias's cache."""
        bias, table = relative_bias.forward(self.relative_position_bias_table.data, self.side, self.side)
        if self.shift:
            mask = windows.mask(self.rows, self.columns, self.side, self.shift, bias.dtype)       # (G, n, n)
            bias = bias + mask[:, None]
        return bias, table

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (B, H, W, D) -> y (B, H, W, D)."""
        bias, table = self._bias()
        x, places = windows.forward(x, self.side, self.shift)         # (B G, n, D)
        y, attended = attention_variants.forward(self.qkv.forward(x), self.heads, bias)
        self.cache = places, table, attended
        return self.proj_drop.forward(windows.backward(self.proj.forward(y), places))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, H, W, D) -> dx (B, H, W, D)."""
        (shape, side, shift), table, attended = self.pop_cache()
        dy, _ = windows.forward(self.proj_drop.backward(dy), side, shift)
        dqkv, dbias = attention_variants.backward(self.proj.backward(dy), attended)
        if self.shift:                                                # all windows share one table
            dbias = sum_rows(dbias.reshape(len(dbias), -1)).reshape(dbias.shape[1:])
        self.relative_position_bias_table.grad = relative_bias.backward(dbias, table)
        return windows.backward(self.qkv.backward(dqkv), (shape, side, shift))
