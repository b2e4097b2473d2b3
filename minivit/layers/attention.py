"""Multi-head self-attention: one linear map for queries, keys and values, the attention itself, one map to mix the heads."""

from ..ops import attention
from .dropout import Dropout
from .layer import Layer
from .linear import Linear
from .relative_bias import RelativeBias


class Attention(Layer):
    """Self-attention (B, N, D) -> (B, N, D) with `heads` heads of width D / heads. See `ops/attention.py`.

    grid: (rows, columns, class token or not) of the tokens, for a relative position bias; without it there is none. The attribute
    `queries`: of which T tokens, a slice, the output is wanted, (B, T, D).
    Raises ValueError if D is not divisible by the number of heads.
    """

    queries = attention.ALL
    windows = None                                                    # all tokens of an image look at each other; see `WindowAttention`

    def __init__(self, width, heads, drop_rate=0.0, grid=None):
        if heads < 1 or width % heads:
            raise ValueError(f"the width {width} must be divisible by the number of heads, {heads}")
        self.heads = heads
        self.qkv = Linear(width, 3 * width, maps=3)                   # to queries, to keys, to values
        self.rel_pos = RelativeBias(grid[0], grid[1], heads, grid[2]) if grid else None
        self.proj = Linear(width, width)
        self.proj_drop = Dropout(drop_rate)

    @property
    def probabilities(self):
        """How much each token looked at each in the last forward: (B, h, N, N), not to be written to; of those whose output was wanted.
        Each row sums to one.

        Raises RuntimeError if there was no forward, or if its backward has taken the cache.
        """
        if self.cache is None:
            raise RuntimeError(f"{type(self).__name__} has probabilities between a forward and its backward only")
        return self.cache[1]

    def bias(self):
        """What is added to the scores, (h, N, N), or (h, T, N); None for nothing."""
        return self.rel_pos.forward()[:, self.queries] if self.rel_pos else None

    def forward(self, x):
        """x (B, N, D) -> y (B, N, D)."""
        y, self.cache = attention.forward(self.qkv.forward(x), self.heads, self.bias(), self.queries)
        return self.proj_drop.forward(self.proj.forward(y))

    def backward(self, dy):
        """dy (B, N, D) -> dx (B, N, D)."""
        dy = self.proj.backward(self.proj_drop.backward(dy))
        dqkv = attention.backward(dy, self.pop_cache())
        if self.rel_pos:
            dqkv, dbias = dqkv
            self.rel_pos.backward(dbias)
        return self.qkv.backward(dqkv)
