"""The Vision Transformer, equations 1 to 4 of Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv:2010.11929:

    z_0  = [x_class; x_1 E; ...; x_M E] + E_pos        patches, embedded linearly; class token; positions    (1)
    z'_l = MSA(LN(z_{l-1})) + z_{l-1}                  l = 1..L                                              (2)
    z_l  = MLP(LN(z'_l)) + z'_l                                                                              (3)
    y    = LN(z_L[class])                              the picture, as one vector (or LN of the patches' mean)  (4)

and a linear head makes the logits. (The paper's N is the number of patches, here M; N counts the class token, too.) The backward is the
same list read from the bottom.
"""

from functools import partial
from typing import Any

from ..common.checks import check_name
from ..layers import Block, ConvStem, Dropout, LayerNorm, Linear, Parameter, PatchEmbed
from ..layers import sequence_parallel as shared
from ..layers.parameter import normal, zeros
from ..ops import pooling, tokens
from .model import Model, rising


class ViT(Model):
    """A Vision Transformer: images (B, H, W, C) -> logits (B, K).

    pool: "token" reads the class token after the final norm; "mean" has no class token, and norms the mean of the patches.
    positions: "learned" (starting at random numbers of standard deviation position_std), "sincos" (fixed, two-dimensional) or "none".
    relative_bias: whether each block learns a relative position bias, too. stem: "patch" embeds the patches linearly, "conv" by
    convolutions (see `layers/embed.py`). drop_rate: of dropout after the positions, after attention's projection, and twice in each MLP.
    drop_path_rate: of the last block; it grows linearly from 0 at the first. Both act in training only. mean, std: of pixels
    between 0 and 1.

    Raises ValueError if the patch does not divide the image, or the heads the width, for unknown names, or as `ConvStem`.
    """

    SPECIAL = 1                                                       # learned tokens before those of the patches, if any are read

    def __init__(self, *, image_size, patch_size, channels=3, classes=1000, width, depth, heads, mlp_ratio=4, pool="token",
                 positions="learned", position_std=0.02, relative_bias=False, stem="patch", drop_rate=0.0, drop_path_rate=0.0,
                 mean=0.5, std=0.5):
        super().__init__({                                            # what a run keeps, to make the model again
            "image_size": image_size, "patch_size": patch_size, "channels": channels, "classes": classes,
            "width": width, "depth": depth, "heads": heads, "mlp_ratio": mlp_ratio,
            "pool": check_name("pool", pool, ["token", "mean"]),
            "positions": check_name("positions", positions, ["learned", "sincos", "none"]), "position_std": position_std,
            "relative_bias": bool(relative_bias), "stem": check_name("stem", stem, ["patch", "conv"]),
            "drop_rate": drop_rate, "drop_path_rate": drop_path_rate, "mean": mean, "std": std,
        })
        if image_size % patch_size:
            raise ValueError(f"the image size {image_size} must be divisible by the patch size {patch_size}")
        side, self.pool, self.width = image_size // patch_size, pool, width
        self.side, self.special = side, self.SPECIAL if pool == "token" else 0    # patches in a row; tokens before them
        self.tokens = side * side + self.special

        self.cls_token: Any = Parameter((width,), partial(normal, std=1e-6)) if pool == "token" else None
        self.pos_embed = Parameter((self.tokens, width), partial(normal, std=position_std)) if positions == "learned" else None
        self.fixed_positions = tokens.sincos_2d(side, side, width, self.special) if positions == "sincos" else None
        self.patch_embed = (ConvStem if stem == "conv" else PatchEmbed)(patch_size, channels, width)
        self.pos_drop = Dropout(drop_rate)
        grid = (side, side, pool == "token") if relative_bias else None
        self.blocks = [Block(width, heads, mlp_ratio, drop_rate, rate, grid) for rate in rising(drop_path_rate, depth)]
        self.blocks[-1].set_output_tokens(self.special or None)                    # the head reads no other token
        # timm calls the final norm `norm` where the class token is read, and `fc_norm` behind the mean. A norm treats every token
        # by itself, so to norm the class token after the pooling is to pool after the norm, as Eq. 4 has it.
        self.norm = LayerNorm(width) if pool == "token" else None
        self.fc_norm = LayerNorm(width) if pool == "mean" else None
        self.head = Linear(width, classes, zeros)

    def forward(self, images):
        """images (B, H, W, C) -> logits (B, K)."""
        return self.head.forward(self._encode(images))

    def backward(self, dlogits):
        """dlogits (B, K) -> dimages (B, H, W, C), with respect to the normalised images. Raises ValueError for another shape."""
        embedded, pooled = self.pop_cache()
        self.check_gradient(dlogits, pooled[0][0])
        return self._encode_backward(self.head.backward(dlogits), embedded, pooled)

    def _encode(self, images):
        """images (B, H, W, C) -> what the classifier reads, (B, D) or (B, 2, D)."""
        x = self.patch_embed.forward(self.prepare(images))
        positions = self.pos_embed.data if self.pos_embed else self._fixed_positions()
        x, embedded = tokens.forward(x, self._special_tokens(), positions)    # Eq. 1
        x = self.pos_drop.forward(x)
        x = shared.forward(self.blocks, x, self._workers)                     # Eq. 2, 3
        y, pooled = pooling.forward(x, "both" if self.special == 2 else self.pool)
        self.cache = embedded, pooled
        return self._final_norm.forward(y)                                    # Eq. 4

    def _encode_backward(self, dy, embedded, pooled):
        dx = pooling.backward(self._final_norm.backward(dy), pooled)          # Eq. 4, reversed
        for block in reversed(self.blocks):
            dx = block.backward(dx)                                           # Eq. 3, 2, reversed
        dx, dtokens, dpos_embed = tokens.backward(self.pos_drop.backward(dx), embedded)   # Eq. 1, reversed
        if self.special:
            self._learn_special_tokens(dtokens)
        if self.pos_embed:
            self.pos_embed.grad = dpos_embed
        return self.patch_embed.backward(dx)

    def position_grids(self):
        """The learned positions, and the tables of the relative biases; see `Model.position_grids`."""
        places = {"pos_embed": (self.side, self.side, self.special, 0)} if self.pos_embed else {}
        offsets = 2 * self.side - 1, 2 * self.side - 1, 0, 3 * self.special
        return places | {p.name: offsets for p in self.parameters() if p.name.endswith("relative_position_bias_table")}

    def _fixed_positions(self):
        return None if self.fixed_positions is None else self.fixed_positions.astype(self.dtype)

    def _special_tokens(self):
        return self.cls_token.data if self.cls_token else None

    def _learn_special_tokens(self, dtokens):
        self.cls_token.grad = dtokens

    @property
    def shares_tokens(self):
        """See `Model.shares_tokens`."""
        return isinstance(self.patch_embed, PatchEmbed) and shared.can_share_tokens(self.blocks)

    @property
    def _final_norm(self):
        return self.norm or self.fc_norm

    @property
    def _hidden(self):
        return self.blocks[0].mlp.fc1.bias.size                       # F, the MLP's width

    @property
    def flops(self):
        """Floating-point operations of the matrix products for one image, forward, by definition: two for each multiply-add."""
        N, D, F = self.tokens, self.width, self._hidden
        patches, classes = N - self.special, max(1, self.special) * self.classes
        block = N * D * 3 * D + 2 * N * N * D + N * D * D + 2 * N * D * F     # qkv; q k^T and probs v; proj; MLP
        return 2 * (self.patch_embed.products(patches) + len(self.blocks) * block + D * classes)
