"""The Swin Transformer: attention in windows that shift, and fewer, wider tokens from stage to stage.

    z      = LN(x_1 E; ...; x_M E)             small patches, embedded linearly; no class token, no positions
    stage  = merging (but for the first), then blocks of the ViT (Eq. 2 and 3) with attention in windows:
             in every second block the windows are shifted by half their side
    y      = mean of LN(z) over all tokens

and a linear head makes the logits. Where a stage has but one window, it is all of the picture, and nothing is shifted.

All scores of a picture are N n, not N**2, for N tokens in windows of n: the cost is linear in the area of the picture
(`python demos/10_windows.py` measures it). Where a token lies is said by the relative position bias of each block.

Source: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", arXiv:2103.14030.
"""

import statistics

from ..layers import Block, Dropout, LayerNorm, MeanHead, PatchEmbed, PatchMerging, Stage, WindowAttention
from ..layers import sequence_parallel as shared
from .model import Model, rising

EPS = 1e-5                                                            # of the published models' norms


def _stage(side, width, heads, window, mlp_ratio, drop_rate, drop_path_rates, merges):
    """A stage of tokens (B, H, W, D) -> (B, H, W, D), or with merging (B, H, W, D/2) -> (B, H/2, W/2, D).

    side: tokens in a row, behind the merging. drop_path_rates: one for each block.
    """
    window = min(window, side)
    shift = 0 if window == side else window // 2
    blocks = [Block(width, heads, mlp_ratio, drop_rate, rate, eps=EPS,
                    attn=WindowAttention(width, heads, side, side, window, shift * (l % 2), drop_rate))
              for l, rate in enumerate(drop_path_rates)]
    return Stage(blocks, PatchMerging(width // 2, EPS) if merges else None)


class Swin(Model):
    """A Swin Transformer: images (B, H, W, C) -> logits (B, K).

    width: of the first stage; it doubles with each. depths, heads: of each stage. window: the side of a window in tokens, or all tokens
    where a stage has fewer in a row. drop_rate: of dropout after the embedding, after attention's projection, and twice in each MLP.
    drop_path_rate: of the last block; it grows linearly from 0 at the first. Both act in training only. mean, std: of pixels between 0
    and 1.

    Raises ValueError if patches, windows and halvings do not divide the image, or the heads of a stage its width, or there are not as many
    heads as depths.
    """

    def __init__(self, *, image_size, patch_size, channels=3, classes=1000, width, depths, heads, window=7, mlp_ratio=4, drop_rate=0.0,
                 drop_path_rate=0.0, mean=0.5, std=0.5):
        super().__init__({
            "image_size": image_size, "patch_size": patch_size, "channels": channels, "classes": classes, "width": width,
            "depths": depths, "heads": heads, "window": window, "mlp_ratio": mlp_ratio,
            "drop_rate": drop_rate, "drop_path_rate": drop_path_rate, "mean": mean, "std": std,
        })
        if not isinstance(depths, list | tuple) or not isinstance(heads, list | tuple) or not len(depths) == len(heads) > 0:
            raise ValueError(f"depths and heads must be lists, a number for each stage, not {depths} and {heads}")
        stages, halvings = len(depths), 2 ** (len(depths) - 1)
        if image_size % (patch_size * halvings):
            raise ValueError(f"the image size {image_size} must be divisible by the patch size {patch_size} and by 2 for each further "
                             f"stage, so by {patch_size * halvings}")
        self.side, self.width = image_size // patch_size, width
        self.tokens = self.side**2                                    # of the first stage; it has the most

        self.patch_embed = PatchEmbed(patch_size, channels, width, EPS)
        self.pos_drop = Dropout(drop_rate)
        rates, self.layers = iter(rising(drop_path_rate, sum(depths))), []
        for i in range(stages):
            of_blocks = [next(rates) for _ in range(depths[i])]
            self.layers.append(_stage(self.side >> i, width << i, heads[i], window, mlp_ratio, drop_rate, of_blocks, merges=i > 0))
        self.norm = LayerNorm(width * halvings, EPS)
        self.head = MeanHead(width * halvings, classes)

    def forward(self, images):
        """images (B, H, W, C) -> logits (B, K)."""
        x = self.pos_drop.forward(self.patch_embed.forward(self.prepare(images)))
        x = x.reshape(len(x), self.side, self.side, self.width)       # the tokens on their grid
        for stage in self.layers:
            x = stage.forward(x)
        self.cache = x.shape
        return self.head.forward(self.norm.forward(x))

    def backward(self, dlogits):
        """dlogits (B, K) -> dimages (B, H, W, C), with respect to the normalised images. Raises ValueError for another shape."""
        self.check_gradient(dlogits, self.pop_cache()[0])
        dx = self.norm.backward(self.head.backward(dlogits))
        for stage in reversed(self.layers):
            dx = stage.backward(dx)
        dx = dx.reshape(len(dx), self.tokens, self.width)
        return self.patch_embed.backward(self.pos_drop.backward(dx))

    def position_grids(self):
        """The tables of the relative biases; see `Model.position_grids`."""
        blocks = [block for stage in self.layers for block in stage.blocks]
        return {block.attn.relative_position_bias_table.name: (2 * block.attn.side - 1, 2 * block.attn.side - 1, 0, 0) for block in blocks}

    @property
    def shares_tokens(self):
        """See `Model.shares_tokens`."""
        return all(shared.can_share_tokens(stage.blocks) for stage in self.layers)

    @property
    def matmul_rows(self):
        """See `Model.matmul_rows`: the tokens in the median of the blocks."""
        return statistics.median_low(self.tokens >> 2 * i for i, stage in enumerate(self.layers) for _ in stage.blocks)

    @property
    def flops(self):
        """Floating-point operations of the matrix products for one image, forward: two for each multiply-add."""
        products = self.patch_embed.products(self.tokens) + self.head.fc.weight.size
        for i, stage in enumerate(self.layers):
            N, D = self.tokens >> 2 * i, self.width << i
            for block in stage.blocks:
                n, F = block.attn.side**2, block.mlp.fc1.bias.size
                products += N * D * 3 * D + 2 * N * n * D + N * D * D + 2 * N * D * F    # qkv; q k^T and probs v; proj; MLP
            products += N * stage.downsample.reduction.weight.size if stage.downsample else 0
        return 2 * products
