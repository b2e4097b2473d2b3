"""A stage of a hierarchical network, such as Swin: an optional downsampling, then blocks on maps of one size.

Read `block.py` and `patch_merging.py` before.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .layer import Layer


class Stage(Layer):
    """Optional downsampling, then blocks in a row: (B, H, W, C) -> (B, H', W', D).

    Parameters
    ----------
    blocks : sequence of Layer
        Blocks that keep the shape, such as `Block` with a `WindowAttention`, or `ResidualBlock`.
    downsample : Layer, optional
        Layer that makes the map smaller and wider, such as `PatchMerging`.
    """

    def __init__(self, blocks: Sequence[Any], downsample: Layer | None = None) -> None:
        self.downsample = downsample
        self.blocks = blocks

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (B, H, W, C) -> y (B, H', W', D)."""
        x = self.downsample.forward(x) if self.downsample else x
        for block in self.blocks:
            x = block.forward(x)
        return x

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, H', W', D) -> dx (B, H, W, C)."""
        for block in reversed(self.blocks):
            dy = block.backward(dy)
        return self.downsample.backward(dy) if self.downsample else dy
