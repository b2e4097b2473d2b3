"""Attention within windows: what Swin uses instead of attention between all tokens of an image.

Read `ops/windows.py`, `ops/relative_bias.py` and `attention.py` before.
"""

import numpy as np

from ..common.sizes import Size, check_pair, pair, size_in_words
from ..kernel import sum_rows
from ..ops import attention_variants, relative_bias, windows
from .dropout import Dropout
from .initializers import normal
from .layer import Layer
from .linear import Linear
from .parameter import Parameter


class WindowAttention(Layer):
    """Self-attention within windows of w x v tokens, with a relative position bias: (B, H, W, D) -> (B, H, W, D).

    An image has G = ceil(H / w) ceil(W / v) windows of n = w v tokens. If they do not divide the image, it is padded
    with zeros. As in the published models, the zeros take part in the attention of their window.

    Parameters
    ----------
    width, heads : int
        D and h.
    grid : int or (int, int)
        H and W, in tokens; one number if both are equal, as for the next two.
    window : int or (int, int)
        w and v, in tokens.
    shift : int or (int, int)
        By how many rows and columns the image is shifted before it is split into windows; 0 for no shift.
    drop_rate : float
        Rate of dropout after the last map, in training.

    Raises
    ------
    ValueError
        If h does not divide D, or the shift is not less than the window.
    """

    def __init__(self, width: int, heads: int, grid: Size, window: Size, shift: Size = 0,
                 drop_rate: float = 0.0) -> None:
        if heads < 1 or width % heads:
            raise ValueError(f"the width {width} must be divisible by the number of heads, {heads}")
        self.grid, self.window, self.shift = check_pair("grid", grid), check_pair("window", window), pair(shift)
        if not all(0 <= s < w for s, w in zip(self.shift, self.window, strict=True)):
            raise ValueError(f"windows of {size_in_words(self.window)} tokens cannot be shifted by "
                             f"{size_in_words(self.shift)}: the shift must be less than the window")
        self.heads = heads
        self.relative_position_bias_table = Parameter((relative_bias.table_rows(*self.window), heads), normal)
        self.qkv = Linear(width, 3 * width, maps=3)
        self.proj = Linear(width, width)
        self.proj_drop = Dropout(drop_rate)

    @property
    def probabilities(self) -> np.ndarray:
        """Attention of each token to each token in the last forward, (B, h, N, N), N = H W; 0 between windows.

        See `windows.to_full_attention` for padded windows.

        Raises RuntimeError before the first forward and after its backward.
        """
        if self.cache is None:
            raise RuntimeError(f"{type(self).__name__} has probabilities only between a forward and its backward")
        places, _, attended = self.cache
        return windows.to_full_attention(attended[1], places)

    def _bias(self) -> tuple[np.ndarray, tuple]:
        """Return what is added to the scores, (h, n, n) or with a shift (G, h, n, n), and the relative bias's cache."""
        bias, table = relative_bias.forward(self.relative_position_bias_table.data, *self.window)
        if any(self.shift):
            mask = windows.mask(self.grid, self.window, self.shift, bias.dtype)                   # (G, n, n)
            bias = bias + mask[:, None]
        return bias, table

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (B, H, W, D) -> y (B, H, W, D)."""
        bias, table = self._bias()
        x, places = windows.forward(x, self.window, self.shift)         # (B G, n, D)
        y, attended = attention_variants.forward(self.qkv.forward(x), self.heads, bias)
        self.cache = places, table, attended
        return self.proj_drop.forward(windows.backward(self.proj.forward(y), places))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, H, W, D) -> dx (B, H, W, D)."""
        places, table, attended = self.pop_cache()
        dy, _ = windows.forward(self.proj_drop.backward(dy), *places[1:])
        dqkv, dbias = attention_variants.backward(self.proj.backward(dy), attended)
        if any(self.shift):                                           # all windows share one table
            dbias = sum_rows(dbias.reshape(len(dbias), -1)).reshape(dbias.shape[1:])
        self.relative_position_bias_table.grad = relative_bias.backward(dbias, table)
        return windows.backward(self.qkv.backward(dqkv), places)
