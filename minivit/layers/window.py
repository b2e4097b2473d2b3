"""Attention within windows, and the merging of tokens between stages: what Swin puts in the place of attention over all tokens."""

from ..ops import attention, merging, relative_bias, windows
from .dropout import Dropout
from .layer import Layer
from .linear import Linear
from .norm import LayerNorm
from .parameter import Parameter, normal
from .sequence_parallel import by_rows


class WindowAttention(Layer):
    """Self-attention within windows of side w, with a relative position bias: (B, H, W, D) -> (B, H, W, D). See `ops/windows.py`.

    rows, columns: H, W. side: w. shift: by how many tokens the picture is shifted before it is cut; 0 for not at all.
    Raises ValueError if the heads do not divide the width, or the windows the picture, or the shift is not less than w.
    """

    def __init__(self, width, heads, rows, columns, side, shift=0, drop_rate=0.0):
        if heads < 1 or width % heads:
            raise ValueError(f"the width {width} must be divisible by the number of heads, {heads}")
        if rows % side or columns % side or not 0 <= shift < side:
            raise ValueError(f"windows of side {side}, shifted by {shift}, do not fit {rows}x{columns} tokens: the side must divide both, "
                             "and exceed the shift")
        self.rows, self.columns, self.heads, self.side, self.shift = rows, columns, heads, side, shift
        self.relative_position_bias_table = Parameter((relative_bias.table_rows(side, side), heads), normal)
        self.qkv = Linear(width, 3 * width, maps=3)
        self.proj = Linear(width, width)
        self.proj_drop = Dropout(drop_rate)
        self.mask = windows.mask(rows, columns, side, shift)[:, None] if shift else None          # (M, 1, n, n)

    @property
    def probabilities(self):
        """How much each token of the picture looked at each in the last forward: (B, h, N, N), N = H W; 0 beyond its own window.

        Raises RuntimeError if there was no forward, or if its backward has taken the cache.
        """
        if self.cache is None:
            raise RuntimeError(f"{type(self).__name__} has probabilities between a forward and its backward only")
        places, _, attended = self.cache
        return windows.to_full_attention(attended[1], places)

    @property
    def windows(self):
        """The tokens of each window, by their numbers in the picture, row by row: (M, n). None if it is but one, with all in order."""
        if self.rows == self.columns == self.side and not self.shift:
            return None
        return windows.places(self.rows, self.columns, self.side, self.shift)[0].reshape(-1, self.side**2)

    def bias(self, part=slice(None)):
        """What is added to the scores: (h, n, n), or of shifted windows, each with its mask, (M, h, n, n), or only of a part of them."""
        return self._bias(part)[0]

    def _bias(self, part=slice(None)):
        bias, table = relative_bias.forward(self.relative_position_bias_table.data, self.side, self.side)
        return (bias if self.mask is None else bias + self.mask[part].astype(bias.dtype)), table

    def forward(self, x):
        """x (B, H, W, D) -> y (B, H, W, D)."""
        bias, table = self._bias()
        x, places = windows.forward(x, self.side, self.shift)         # (B M, n, D)
        y, attended = attention.forward(self.qkv.forward(x), self.heads, bias)
        self.cache = places, table, attended
        return self.proj_drop.forward(windows.backward(self.proj.forward(y), places))

    def backward(self, dy):
        """dy (B, H, W, D) -> dx (B, H, W, D)."""
        (shape, side, shift), table, attended = self.pop_cache()
        dy, _ = windows.forward(self.proj_drop.backward(dy), side, shift)
        dqkv, dbias = attention.backward(self.proj.backward(dy), attended)
        if self.mask is not None:
            dbias = dbias.sum(axis=0)                                 # one table for all windows
        self.relative_position_bias_table.grad = relative_bias.backward(dbias, table)
        return windows.backward(self.qkv.backward(dqkv), (shape, side, shift))


class PatchMerging(Layer):
    """Four neighbouring tokens become one of twice the width: (B, H, W, D) -> (B, H/2, W/2, 2 D). See `ops/merging.py`."""

    def __init__(self, width, eps=1e-5):
        self.norm = LayerNorm(4 * width, eps)
        self.reduction = Linear(4 * width, 2 * width, bias=False)

    def forward(self, x):
        """x (B, H, W, D) -> y (B, H/2, W/2, 2 D)."""
        x, self.cache = merging.forward(x)
        return by_rows(lambda x: self.reduction.forward(self.norm.forward(x)), x, x.shape[-1] // 2, self._workers)

    def backward(self, dy):
        """dy (B, H/2, W/2, 2 D) -> dx (B, H, W, D)."""
        return merging.backward(self.norm.backward(self.reduction.backward(dy)), self.pop_cache())
