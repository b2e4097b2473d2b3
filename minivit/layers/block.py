"""The transformer block: attention moves information between tokens, the MLP works on each; both add to the stream.

Equations 2 and 3 of Dosovitskiy et al., arXiv:2010.11929, with the norm *before* each branch:

    z'_l = MSA(LN(z_{l-1})) + z_{l-1}                                                          (2)
    z_l  = MLP(LN(z'_l))    + z'_l                                                             (3)

Backward. In y = x + f(x) the input acts twice, so its gradient is a sum: dx = dy + J^T dy, with J the Jacobian of f, whose
product with dy is just what the backward of f computes. The first term is why deep transformers train: the gradient has a
direct path to every block.

The classifier may read nothing of the last block but its first token (class token). Then only that token needs to look, and only its
stream to go on (`output_tokens`): the others' outputs would act on nothing, and no gradient would come to them.

Between forward and backward a block keeps what each of its layers needs. With `recompute` (gradient checkpointing) it keeps x alone, and
the backward begins with another forward: a third more products, and the same bits, for random numbers depend on names, not on when they
are drawn.
Source: Chen et al., arXiv:1604.06174.
"""

from typing import Any

from ..ops import attention
from .attention import Attention
from .dropout import DropPath
from .layer import Layer
from .mlp import MLP
from .norm import LayerNorm


class Block(Layer):
    """A pre-norm transformer block, (B, N, D) -> (B, N, D); the MLP is `mlp_ratio` times as wide. grid: as for `Attention`.

    attn: another layer in the place of `Attention`, such as a `WindowAttention`, with which the block takes tokens on a grid, (B, H, W, D).
    eps: of the norms. output_tokens: how many tokens, the first ones, are read of its output, (B, output_tokens, D) then; None for all. The attribute
    `recompute`: whether the backward computes anew what it needs, and the forward keeps only x.
    Raises ValueError if the width is not divisible by the number of heads.
    """

    recompute = False

    def __init__(self, width, heads, mlp_ratio=4, drop_rate=0.0, drop_path_rate=0.0, grid=None, attn=None, eps=1e-6, output_tokens=None):
        self.norm1 = LayerNorm(width, eps)
        self.attn: Any = attn or Attention(width, heads, drop_rate, grid)
        self.set_output_tokens(output_tokens)
        self.drop_path1 = DropPath(drop_path_rate)
        self.norm2 = LayerNorm(width, eps)
        self.mlp = MLP(width, int(width * mlp_ratio), drop_rate)
        self.drop_path2 = DropPath(drop_path_rate)

    def set_output_tokens(self, output_tokens):
        """Give the first `output_tokens` tokens from now on; None for all. Raises ValueError if its attention is another than `Attention`."""
        if isinstance(self.attn, Attention):
            self.attn.queries = slice(output_tokens)
        elif output_tokens is not None:
            raise ValueError(f"a block with {type(self.attn).__name__} gives all its tokens")
        self.output_tokens = output_tokens

    def forward(self, x):
        """x (B, N, D) -> y (B, N, D), or (B, output_tokens, D)."""
        y = self._forward(x)
        if self.recompute and self._keeps_cache:
            self.clear_cache()
            self.cache = x
        return y

    def _forward(self, x):
        x = x[:, :self.output_tokens] + self.drop_path1.forward(self.attn.forward(self.norm1.forward(x)))    # Eq. 2
        return x + self.drop_path2.forward(self.mlp.forward(self.norm2.forward(x)))                  # Eq. 3

    def backward(self, dy):
        """dy (B, N, D), or (B, output_tokens, D) -> dx (B, N, D)."""
        if self.recompute:
            self._forward(self.pop_cache())
        dz = dy + self.norm2.backward(self.mlp.backward(self.drop_path2.backward(dy)))      # Eq. 3, reversed
        dx = self.norm1.backward(self.attn.backward(self.drop_path1.backward(dz)))          # Eq. 2, reversed
        dx[:, :self.output_tokens] += dz
        return dx

    # ---- inference in two steps, for threads that share the tokens (see `shared.py`) ----------------------

    def project_qkv(self, x):
        """Tokens x (B, N, D) -> their queries, keys and values, (B, N, 3 D)."""
        return self.attn.qkv.forward(self.norm1.forward(x))

    def attend_and_mlp(self, x, qkv, bias=None, queries=attention.ALL):
        """Tokens x (B, T, D), the `queries` among those of qkv (B, N, 3 D) -> y (B, T, D), nothing dropped.

        bias: as for `attention.forward`.
        """
        y, _ = attention.forward(qkv, self.attn.heads, bias, queries)
        x = x + self.attn.proj.forward(y)
        return x + self.mlp.forward(self.norm2.forward(x))
