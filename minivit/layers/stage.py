"""A stage of a network that works in stages: blocks in a row, on maps of one size."""

from . import sequence_parallel as shared
from .layer import Layer


class Stage(Layer):
    """Blocks in a row, behind what makes the map smaller and wider, if there is such: (B, H, W, C) -> (B, H', W', D)."""

    def __init__(self, blocks, downsample=None):
        self.downsample = downsample
        self.blocks = blocks

    def forward(self, x):
        """x (B, H, W, C) -> y (B, H', W', D)."""
        x = self.downsample.forward(x) if self.downsample else x
        return shared.forward(self.blocks, x, self._workers)

    def backward(self, dy):
        """dy (B, H', W', D) -> dx (B, H, W, C)."""
        for block in reversed(self.blocks):
            dy = block.backward(dy)
        return self.downsample.backward(dy) if self.downsample else dy
