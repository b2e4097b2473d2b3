"""The Vision Transformer, equations 1 to 4 of Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv:2010.11929.

Read `model.py`, `layers/block.py`, `layers/patch_embed.py` before. The image is split into M patches, and each becomes
a token, a vector of width D. The *class token* is one more token, learned and the same for all images, which gathers
what the classifier reads. The blocks let the tokens exchange information (MSA, multi-head self-attention) and process
each one (MLP). LN is the layer norm, and E the matrix of the patch embedding:

    z_0  = [x_class; x_1 E; ...; x_M E] + E_pos        class token; patches, embedded linearly; positions    (1)
    z'_l = MSA(LN(z_{l-1})) + z_{l-1}                  l = 1..L                                              (2)
    z_l  = MLP(LN(z'_l)) + z'_l                                                                              (3)
    y    = LN(z_L[class])                              the image as one vector (or LN of the mean token)     (4)

A linear classifier head computes the logits from y. (The paper's N is the number of patches, here M; our N counts the
class token, too.) The backward is the same list read from the bottom. The lines marked "Eq." compute these equations.
"""

import math
from functools import partial

import numpy as np

from ..common.checks import check_name
from ..common.sizes import Size
from ..kernel import constant
from ..layers import Block, ConvStem, Dropout, LayerNorm, Linear, Parameter, PatchEmbed
from ..layers.initializers import normal, zeros
from ..ops import pooling, sincos, tokens
from . import flops
from .argument_checks import patch_grid
from .model import Model, Statistic, rising


class ViT(Model):
    """A Vision Transformer: images (B, H, W, C) -> logits (B, K).

    Parameters
    ----------
    image_size, patch_size, channels, classes, width, depth, heads : int, or for the first two (int, int)
        (H, W), (P, Q), or one number for squares; C, K, D, L and h.
    mlp_ratio : float
        F / D.
    pool : {"token", "mean"}
        "token" reads the class token; "mean" has no class token, and reads the mean of the patches.
    positions, position_std : {"learned", "sincos", "none"}, float
        "learned" starts at random numbers of standard deviation `position_std`; "sincos" is fixed.
    relative_bias : bool
        Whether each block learns a relative position bias, too.
    stem : {"patch", "conv", "conv-full"}
        "patch" embeds the patches linearly, "conv" and "conv-full" by convolutions (`layers/conv_stem.py`).
    drop_rate, drop_path_rate : float
        Rates, in training, of dropout after the positions, after the projection of attention and twice in each MLP, and
        of drop-path in the last block, to which it rises linearly from 0 in the first.
    mean, std : float or sequence of float
        Statistics of pixels between 0 and 1, for all channels or for each.

    Raises
    ------
    ValueError
        If the patch does not divide the image, the heads do not divide the width, or an option is unknown.
    """

    tokens: int

    def __init__(self, *, image_size: Size, patch_size: Size, channels: int = 3, classes: int = 1000, width: int,
                 depth: int, heads: int, mlp_ratio: float = 4, pool: str = "token", positions: str = "learned",
                 position_std: float = 0.02, relative_bias: bool = False, stem: str = "patch", drop_rate: float = 0.0,
                 drop_path_rate: float = 0.0, mean: Statistic = 0.5, std: Statistic = 0.5) -> None:
        super().__init__({                                            # what a run keeps, to make the model again
            "image_size": image_size, "patch_size": patch_size, "channels": channels, "classes": classes,
            "width": width, "depth": depth, "heads": heads, "mlp_ratio": mlp_ratio,
            "pool": check_name("pool", pool, ["token", "mean"]),
            "positions": check_name("positions", positions, ["learned", "sincos", "none"]),
            "position_std": position_std, "relative_bias": bool(relative_bias),
            "stem": check_name("stem", stem, ["patch", "conv", "conv-full"]), "drop_rate": drop_rate,
            "drop_path_rate": drop_path_rate, "mean": mean, "std": std,
        })
        self.grid, self.width, self.pool = patch_grid(self.image_size, self.config["patch_size"]), width, pool
        self.cls_token = Parameter((width,), partial(normal, std=1e-6)) if pool == "token" else None
        self._set_positions(prefix=int(pool == "token"))
        self.patch_embed = (PatchEmbed(patch_size, channels, width) if stem == "patch" else
                            ConvStem(patch_size, channels, width, full_resolution=stem == "conv-full"))
        self.pos_drop = Dropout(drop_rate)
        grid = (*self.grid, pool == "token") if relative_bias else None
        read = (depth - 1) * [None] + [self.prefix or None]           # of the last block, the head reads these tokens
        self.blocks = [Block(width, heads, mlp_ratio, drop_rate, rate, grid, output_tokens=count)
                       for rate, count in zip(rising(drop_path_rate, depth), read, strict=True)]
        # timm's names. A norm treats each token by itself, so it may also come after the class token is read (Eq. 4).
        self.norm = LayerNorm(width) if pool == "token" else None
        self.fc_norm = LayerNorm(width) if pool == "mean" else None
        self.head = Linear(width, classes, zeros)

    def _set_positions(self, prefix: int) -> None:
        """Make the positions of all tokens, of which `prefix` come before the patches."""
        self.prefix, self.tokens = prefix, prefix + math.prod(self.grid)
        kind, init = self.config["positions"], partial(normal, std=self.config["position_std"])
        self.pos_embed = Parameter((self.tokens, self.width), init) if kind == "learned" else None
        self.fixed_positions = sincos.sincos_2d(*self.grid, self.width, prefix) if kind == "sincos" else None

    def forward(self, images: np.ndarray) -> np.ndarray:
        """images (B, H, W, C) -> logits (B, K)."""
        x, embedded = self._encode(images)                            # Eq. 1, 2, 3
        y, pooled = pooling.forward(x, self.pool)
        self.cache = embedded, pooled
        return self.head.forward(self._final_norm.forward(y))         # Eq. 4

    def backward(self, dlogits: np.ndarray) -> np.ndarray:
        """dlogits (B, K) -> dimages (B, H, W, C), the gradient of the normalised images."""
        embedded, pooled = self.pop_cache()
        self.check_gradient(dlogits, pooled[0][0])
        dx = pooling.backward(self._final_norm.backward(self.head.backward(dlogits)), pooled)    # Eq. 4, reversed
        return self._encode_backward(dx, embedded)

    def _encode(self, images: np.ndarray) -> tuple[np.ndarray, tuple]:
        """images (B, H, W, C) -> tokens (B, N, D), or as many as the last block computes, and the cache of Eq. 1."""
        x = self.patch_embed.forward(self.prepare(images))            # (B, M, D), Eq. 1: x_m E
        prefix = np.stack([token.data for token in self.prefix_tokens]) if self.prefix else None
        x, embedded = tokens.forward(x, prefix, self._positions())    # Eq. 1
        x = self.pos_drop.forward(x)
        for block in self.blocks:
            x = block.forward(x)                                      # Eq. 2, 3
        return x, embedded

    def _encode_backward(self, dx: np.ndarray, embedded: tuple) -> np.ndarray:
        """dtokens (B, N, D), the cache of Eq. 1 -> dimages (B, H, W, C)."""
        for block in reversed(self.blocks):
            dx = block.backward(dx)                                   # Eq. 3, 2, reversed
        dx, dprefix, dpos_embed = tokens.backward(self.pos_drop.backward(dx), embedded)    # Eq. 1, reversed
        for token, dtoken in zip(self.prefix_tokens, dprefix if self.prefix else (), strict=True):
            token.grad = dtoken
        if self.pos_embed:
            self.pos_embed.grad = dpos_embed
        return self.patch_embed.backward(dx)

    @property
    def prefix_tokens(self) -> list[Parameter]:
        """The learned tokens that come before those of the patches, (D,) each."""
        return [self.cls_token] if self.cls_token else []

    def _positions(self) -> np.ndarray | None:
        """Return the positions (N, D), or None."""
        if self.fixed_positions is not None:
            return constant(self.fixed_positions.astype(self.dtype))
        return self.pos_embed.data if self.pos_embed else None

    @property
    def _final_norm(self) -> LayerNorm:
        """The norm of Eq. 4."""
        return self.norm or self.fc_norm  # type: ignore[return-value]

    flops = property(flops.of_vit)
