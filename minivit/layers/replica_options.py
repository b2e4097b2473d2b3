"""What the trainer adds to the replicas of a model: random numbers for dropout, and recomputed activations.

Read `block.py`, `dropout.py` and `parallel/lanes.py` before.

*Gradient checkpointing*: between forward and backward a block stores what each of its layers needs. A block that
recomputes stores only its input x, and its backward starts with another forward. This takes less memory and a third
more matrix products. It changes nothing in the result, not even the last bit, because random numbers depend on names
and not on the time when they are drawn.

Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174.
"""

from functools import cache

import numpy as np

from ..ops import philox
from .block import Block
from .dropout import Dropout
from .layer import Layer


def use_generator(layer: Layer, rng: philox.Generator) -> None:
    """Let each dropout and drop-path in `layer` draw from `rng`, from a stream of its own that its path names."""
    for path, child in layer.named_layers():
        if isinstance(child, Dropout):
            child.rng, child.stream = rng, philox.stream(path)


def recompute_blocks(layer: Layer) -> int:
    """Let all blocks in `layer`, a replica, store only their input; return how many blocks there are."""
    blocks = [block for _, block in layer.named_layers() if isinstance(block, Block)]
    for block in blocks:
        block.__class__ = _recomputing(type(block))  # type: ignore[arg-type]
    return len(blocks)


class _RecomputingBlock(Block):
    """A block whose backward repeats the forward."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (B, N, D) -> y (B, N, D)."""
        y = super().forward(x)
        self.clear_cache()
        self.cache = x
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, N, D) -> dx (B, N, D)."""
        super().forward(self.pop_cache())
        return super().backward(dy)


@cache
def _recomputing(cls: type[Block]) -> type[Block]:
    """Return the class of recomputing blocks for `cls`, which may be a subclass of `Block`; its name stays."""
    return type(cls.__name__, (_RecomputingBlock, cls), {})
