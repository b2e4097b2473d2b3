"""An MLP-Mixer, made of the layers of this project: a contestant of `21_when_a_vit_wins.py`.

Attention mixes tokens by weights that it computes from each image. A Mixer mixes them by weights that it has learned,
the same for all images. Its block has two branches, like that of a ViT:

    x = x + mix(LN(x)^T)^T         an MLP of the N numbers that a channel has in all tokens, the same for each channel
    x = x + mlp(LN(x))             an MLP of the D numbers of a token, the same for each token

Backward, as in `minivit/layers/block.py`: dx = dy + J^T dy. The transpose of x has the gradient of that transpose,
transposed back.

Source: Tolstikhin et al., "MLP-Mixer: An all-MLP Architecture for Vision", arXiv:2105.01601.
"""

import math

import numpy as np

from minivit.layers import MLP, Layer, LayerNorm, MeanHead, PatchEmbed
from minivit.models.model import Model


class MixerBlock(Layer):
    """Mix the tokens, then the channels: (B, N, D) -> (B, N, D).

    Parameters
    ----------
    tokens, width : int
        N and D.
    hidden : int
        Width of the MLP over the tokens.
    mlp_ratio : float
        F / D of the MLP over the channels.
    """

    def __init__(self, tokens: int, width: int, hidden: int, mlp_ratio: float) -> None:
        self.norm1, self.mix = LayerNorm(width), MLP(tokens, hidden)
        self.norm2, self.mlp = LayerNorm(width), MLP(width, int(width * mlp_ratio))

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (B, N, D) -> y (B, N, D)."""
        x = x + _transposed(self.mix.forward(_transposed(self.norm1.forward(x))))
        return x + self.mlp.forward(self.norm2.forward(x))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, N, D) -> dx (B, N, D)."""
        dz = dy + self.norm2.backward(self.mlp.backward(dy))
        return dz + self.norm1.backward(_transposed(self.mix.backward(_transposed(dz))))


def _transposed(x):
    """(B, N, D) -> (B, D, N), in new memory."""
    return np.ascontiguousarray(x.transpose(0, 2, 1))


class Mixer(Model):
    """An MLP-Mixer: images (B, H, W, C) -> logits (B, K). It has no positions: each token has weights of its own.

    Parameters
    ----------
    image_size, patch_size, channels, classes, width, depth, mlp_ratio, mean, std
        As for `minivit.models.ViT`.
    hidden : int
        Width of the MLPs over the tokens.
    """

    def __init__(self, *, image_size, patch_size, channels, classes, width, depth, hidden, mlp_ratio=2, mean=0.5,
                 std=0.5) -> None:
        super().__init__({"image_size": image_size, "patch_size": patch_size, "channels": channels, "classes": classes,
                          "width": width, "depth": depth, "hidden": hidden, "mlp_ratio": mlp_ratio, "mean": mean,
                          "std": std})
        self.grid = self.image_size[0] // patch_size, self.image_size[1] // patch_size
        self.tokens, self.width = math.prod(self.grid), width
        self.patch_embed = PatchEmbed(patch_size, channels, width)
        self.blocks = [MixerBlock(self.tokens, width, hidden, mlp_ratio) for _ in range(depth)]
        self.norm, self.head = LayerNorm(width), MeanHead(width, classes)

    def forward(self, images: np.ndarray) -> np.ndarray:
        """images (B, H, W, C) -> logits (B, K)."""
        x = self.patch_embed.forward(self.prepare(images))
        for block in self.blocks:
            x = block.forward(x)
        self.cache = len(x)
        return self.head.forward(self.norm.forward(x))

    def backward(self, dlogits: np.ndarray) -> np.ndarray:
        """dlogits (B, K) -> dimages (B, H, W, C), the gradient of the normalised images."""
        self.check_gradient(dlogits, self.pop_cache())
        dx = self.norm.backward(self.head.backward(dlogits))
        for block in reversed(self.blocks):
            dx = block.backward(dx)
        return self.patch_embed.backward(dx)

    @property
    def flops(self) -> int:
        """See `Model.flops`."""
        uses = {self.patch_embed.proj: self.tokens, self.head.fc: 1}
        for block in self.blocks:
            uses |= {block.mix.fc1: self.width, block.mix.fc2: self.width, block.mlp.fc1: self.tokens,
                     block.mlp.fc2: self.tokens}
        return 2 * sum(layer.weight.data.size * times for layer, times in uses.items())
