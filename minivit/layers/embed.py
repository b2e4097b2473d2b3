"""The patch embedding: cut the picture into patches and map each one linearly to the encoder's width."""

from ..ops import patches
from .layer import Layer
from .linear import Linear


class PatchEmbed(Layer):
    """Images (B, H, W, C) -> tokens (B, N, D), N = (H / P) (W / P). See `ops/patches.py`."""

    def __init__(self, patch_size, channels, width):
        self.patch_size = patch_size
        self.proj = Linear(patch_size * patch_size * channels, width)
        self.name_parameters()

    def forward(self, images):
        """images (B, H, W, C) -> tokens (B, N, D)."""
        x, self.cache = patches.forward(images, self.patch_size)
        return self.proj.forward(x)

    def backward(self, dy):
        """dy (B, N, D) -> dimages (B, H, W, C)."""
        return patches.backward(self.proj.backward(dy), self.take_cache())
