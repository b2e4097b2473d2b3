"""From an image to tokens: split it into patches, and map each patch to a vector.

Read `ops/patches.py` and `linear.py` before. A *token* is the vector of width D that stands for one patch.
"""

import numpy as np

from ..common.sizes import Size, check_pair
from ..ops import patches
from .layer import Layer
from .linear import Linear


class PatchEmbed(Layer):
    """Images (B, H, W, C) -> tokens (B, M, D), M = (H / P) (W / Q).

    Parameters
    ----------
    patch_size, channels, width : int, or for the first (int, int)
        (P, Q), or P for squares; C and D.
    """

    def __init__(self, patch_size: Size, channels: int, width: int) -> None:
        self.patch_size = P, Q = check_pair("patch_size", patch_size)
        self.proj = Linear(P * Q * channels, width)

    def forward(self, images: np.ndarray) -> np.ndarray:
        """images (B, H, W, C) -> tokens (B, M, D)."""
        x, self.cache = patches.forward(images, self.patch_size)      # (B, M, P Q C)
        return self.proj.forward(x)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, M, D) -> dimages (B, H, W, C)."""
        return patches.backward(self.proj.backward(dy), self.pop_cache())
