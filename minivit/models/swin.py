"""The Swin Transformer: attention in windows that shift, and fewer, wider tokens from stage to stage.

Read `vit.py` and `layers/window.py` before.

    z      = LN(x_1 E; ...; x_M E)             small patches, embedded linearly; no class token, no positions
    stage  = merging (but for the first), then blocks of the ViT (Eq. 2 and 3) with attention in windows:
             in every second block the windows are shifted by half their side
    y      = mean of LN(z) over all tokens

A linear head computes the logits from y. If a window spans all rows of a stage, nothing is shifted up or down, and
alike for columns. Windows that do not divide the image are padded (see `ops/windows.py`).

With N tokens in windows of n, an image has N n scores instead of N**2: the cost is linear in the area of the image
(`python demos/10_windows.py` measures it). The relative position bias of each block tells where a token lies.

Source: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", arXiv:2103.14030.
"""

import math
import statistics
from collections.abc import Sequence

import numpy as np

from ..common.sizes import Size, pair
from ..layers import (
    Block,
    Dropout,
    LayerNorm,
    MeanHead,
    PatchEmbed,
    PatchMerging,
    Stage,
    WindowAttention,
)
from . import flops
from .argument_checks import patch_grid
from .model import Model, Statistic, rising

EPS = 1e-5                                                            # of the norms of the published models


class _NormedPatchEmbed(PatchEmbed):
    """A `PatchEmbed` followed by a layer norm: images (B, H, W, C) -> tokens (B, M, D)."""

    def __init__(self, patch_size: Size, channels: int, width: int) -> None:
        super().__init__(patch_size, channels, width)
        self.norm = LayerNorm(width, EPS)

    def forward(self, images: np.ndarray) -> np.ndarray:
        """images (B, H, W, C) -> tokens (B, M, D)."""
        return self.norm.forward(super().forward(images))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, M, D) -> dimages (B, H, W, C)."""
        return super().backward(self.norm.backward(dy))


def _stage(grid: tuple[int, int], width: int, heads: int, window: tuple[int, int], mlp_ratio: float, drop_rate: float,
           drop_path_rates: list[float], merges: bool) -> Stage:
    """Return a stage of tokens (B, H, W, D) -> (B, H, W, D), or with merging (B, H, W, D/2) -> (B, H/2, W/2, D).

    grid: rows and columns of tokens, after the merging. drop_path_rates: one for each block.
    """
    window = min(window[0], grid[0]), min(window[1], grid[1])
    shift = tuple(0 if w == tokens else w // 2 for w, tokens in zip(window, grid, strict=True))
    blocks = [Block(width, heads, mlp_ratio, drop_rate, rate, eps=EPS,
                    attn=WindowAttention(width, heads, grid, window, shift if l % 2 else 0, drop_rate))
              for l, rate in enumerate(drop_path_rates)]
    return Stage(blocks, PatchMerging(width // 2, EPS) if merges else None)


class Swin(Model):
    """A Swin Transformer: images (B, H, W, C) -> logits (B, K).

    Parameters
    ----------
    image_size, patch_size : int or (int, int)
        (H, W) of the images, (P, Q) of the patches, in pixels; one number for a square.
    channels, classes : int
        C and K.
    width : int
        D of the first stage; it doubles with each stage.
    depths, heads : sequence of int
        Number of blocks and of heads in each stage.
    window : int or (int, int)
        Rows and columns of a window, in tokens. A stage with fewer rows or columns has as many as there are.
    mlp_ratio : float
        F / D.
    drop_rate : float
        Rate of dropout after the embedding, after the projection of attention and twice in each MLP, in training.
    drop_path_rate : float
        Rate of drop-path in the last block, in training; it rises linearly from 0 in the first.
    mean, std : float or sequence of float
        Statistics of pixels between 0 and 1, for all channels or for each.

    Raises
    ------
    ValueError
        If the patches do not divide the image, the heads of a stage do not divide its width, or the numbers of depths
        and heads differ.
    """

    tokens: int
    per_stage = ("depths", "heads")

    def __init__(self, *, image_size: Size, patch_size: Size, channels: int = 3, classes: int = 1000, width: int,
                 depths: Sequence[int], heads: Sequence[int], window: Size = 7, mlp_ratio: float = 4,
                 drop_rate: float = 0.0, drop_path_rate: float = 0.0, mean: Statistic = 0.5,
                 std: Statistic = 0.5) -> None:
        super().__init__({
            "image_size": image_size, "patch_size": patch_size, "channels": channels, "classes": classes,
            "width": width, "depths": depths, "heads": heads, "window": window, "mlp_ratio": mlp_ratio,
            "drop_rate": drop_rate, "drop_path_rate": drop_path_rate, "mean": mean, "std": std,
        })
        if not (isinstance(depths, list | tuple) and isinstance(heads, list | tuple) and len(depths) == len(heads) > 0):
            raise ValueError(f"depths and heads must be lists, a number for each stage, not {depths} and {heads}")
        self.grid = patch_grid(self.image_size, self.config["patch_size"])
        self.tokens = math.prod(self.grid)                            # in the first stage, which has the most
        self.width, last = width, width << len(depths) - 1

        self.patch_embed = _NormedPatchEmbed(patch_size, channels, width)
        self.pos_drop = Dropout(drop_rate)
        rates, self.layers = iter(rising(drop_path_rate, sum(depths))), []
        for i, count in enumerate(depths):
            of_blocks = [next(rates) for _ in range(count)]
            self.layers.append(_stage(self.stage_grid(i), width << i, heads[i], pair(self.config["window"]), mlp_ratio,
                                      drop_rate, of_blocks, merges=i > 0))
        self.norm = LayerNorm(last, EPS)
        self.head = MeanHead(last, classes)

    def stage_grid(self, i: int) -> tuple[int, int]:
        """Return the rows and columns of tokens in stage i: each merging halves them, rounded up."""
        return flops.halved(self.grid[0], i), flops.halved(self.grid[1], i)

    def forward(self, images: np.ndarray) -> np.ndarray:
        """images (B, H, W, C) -> logits (B, K)."""
        x = self.pos_drop.forward(self.patch_embed.forward(self.prepare(images)))
        x = x.reshape(len(x), *self.grid, self.width)                 # the tokens on their grid
        for stage in self.layers:
            x = stage.forward(x)
        self.cache = x.shape
        return self.head.forward(self.norm.forward(x))

    def backward(self, dlogits: np.ndarray) -> np.ndarray:
        """dlogits (B, K) -> dimages (B, H, W, C), the gradient of the normalised images."""
        self.check_gradient(dlogits, self.pop_cache()[0])
        dx = self.norm.backward(self.head.backward(dlogits))
        for stage in reversed(self.layers):
            dx = stage.backward(dx)
        dx = dx.reshape(len(dx), self.tokens, self.width)
        return self.patch_embed.backward(self.pos_drop.backward(dx))

    @property
    def flops(self) -> int:
        """See `Model.flops`."""
        return flops.of_swin(self)

    @property
    def matmul_rows(self) -> int:
        """See `Model.matmul_rows`: the tokens in the median of the blocks."""
        return statistics.median_low(math.prod(self.stage_grid(i)) for i, stage in enumerate(self.layers)
                                     for _ in stage.blocks)
