"""From an image to tokens: split it into patches, and map each patch to a vector.

Read `ops/patches.py` and `linear.py` before. A *token* is the vector of width D that stands for one patch.
"""

import numpy as np

from ..ops import patches
from .layer import Layer
from .linear import Linear


class PatchEmbed(Layer):
    """Images (B, H, W, C) -> tokens (B, M, D), M = (H / P) (W / P).

    Parameters
    ----------
    patch_size, channels, width : int
        P, C and D.
    """

    def __init__(self, patch_size: int, channels: int, width: int) -> None:
        self.patch_size = patch_size
        self.proj = Linear(patch_size * patch_size * channels, width)

    def forward(self, images: np.ndarray) -> np.ndarray:
        """images (B, H, W, C) -> tokens (B, M, D)."""
        x, self.cache = patches.forward(images, self.patch_size)      # (B, M, P P C)
        return self.proj.forward(x)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, M, D) -> dimages (B, H, W, C)."""
        return patches.backward(self.proj.backward(dy), self.pop_cache())
