"""The transformer block: attention moves information between tokens, the MLP processes each token by itself.

Read `attention.py`, `mlp.py`, `norm.py` and `dropout.py` before. Equations 2 and 3 of Dosovitskiy et al.,
arXiv:2010.11929, with MSA the multi-head self-attention and LN the layer norm:

    z'_l = MSA(LN(z_{l-1})) + z_{l-1}                                                          (2)
    z_l  = MLP(LN(z'_l))    + z'_l                                                             (3)

The tokens z that run through all blocks are the *residual stream*. MSA(LN(z)) and MLP(LN(z)) are *branches*: each reads
the stream and adds its output to it. A ViT has several blocks, so that a block can relate what the blocks before it
have already gathered from other tokens.

Backward. In y = x + f(x) the input acts twice, so its gradient is a sum: dx = dy + J^T dy. J is the *Jacobian* of f,
the matrix of the derivatives J_ij = d f_i / d x_j. The backward of f computes J^T dy without J. The term dy lets deep
transformers train: a direct path for the gradient.

If the classifier reads only the class token, the last block need not compute the other tokens (`output_tokens`). They
would act on nothing, and their gradients would be zero.
"""

from typing import Any

import numpy as np

from .attention import Attention
from .attention_variants import AttentionVariant
from .dropout import DropPath
from .layer import Layer
from .mlp import MLP
from .norm import LayerNorm


class Block(Layer):
    """A transformer block with the norm before each branch (pre-norm): (B, N, D) -> (B, N, D).

    Parameters
    ----------
    width, heads : int
        D and h.
    mlp_ratio : float
        F / D, the width of the MLP relative to D.
    drop_rate, drop_path_rate : float
        Rates of dropout, and of drop-path, which leaves out a branch (see `ops/dropout.py`), in training.
    grid : tuple of (int, int, int), optional
        Adds a relative position bias (see `AttentionVariant`).
    eps : float
        See `LayerNorm`.
    attn : Layer, optional
        Layer to use instead of `Attention`. With a `WindowAttention` the tokens lie on a grid, (B, H, W, D).
    output_tokens : int, optional
        How many tokens, the first ones, are computed: (B, output_tokens, D). Default: all.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4, drop_rate: float = 0.0,
                 drop_path_rate: float = 0.0, grid: tuple[int, int, int] | None = None, attn: Layer | None = None,
                 eps: float = 1e-6, output_tokens: int | None = None) -> None:
        self.norm1 = LayerNorm(width, eps)
        if grid or output_tokens:
            attn = attn or AttentionVariant(width, heads, drop_rate, grid)
        self.attn: Any = attn or Attention(width, heads, drop_rate)
        self.set_output_tokens(output_tokens)
        self.drop_path1 = DropPath(drop_path_rate)
        self.norm2 = LayerNorm(width, eps)
        self.mlp = MLP(width, int(width * mlp_ratio), drop_rate)
        self.drop_path2 = DropPath(drop_path_rate)

    def set_output_tokens(self, output_tokens: int | None) -> None:
        """Compute only the first `output_tokens` tokens, which needs an `AttentionVariant`; None for all tokens."""
        if isinstance(self.attn, AttentionVariant):
            self.attn.queries = slice(output_tokens)
        elif output_tokens is not None:
            raise ValueError(f"a block with {type(self.attn).__name__} computes all tokens: leave out output_tokens")
        self.output_tokens = output_tokens

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (B, N, D) -> y (B, N, D)."""
        x = x[:, :self.output_tokens] + self.drop_path1.forward(self.attn.forward(self.norm1.forward(x)))    # Eq. 2
        return x + self.drop_path2.forward(self.mlp.forward(self.norm2.forward(x)))                          # Eq. 3

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, N, D) -> dx (B, N, D)."""
        dz = dy + self.norm2.backward(self.mlp.backward(self.drop_path2.backward(dy)))                # Eq. 3, reversed
        dx = self.norm1.backward(self.attn.backward(self.drop_path1.backward(dz)))                    # Eq. 2, reversed
        dx[:, :self.output_tokens] += dz
        return dx
