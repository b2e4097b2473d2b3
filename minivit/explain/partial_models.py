"""Parts of a model as layers of their own: several layers one behind the other, or a model up to one of its blocks."""

import numpy as np

from ..common.checks import check_number
from ..layers import Block, Layer


class Stack:
    """Layers one behind the other: forward through all, backward through all in reverse."""

    def __init__(self, layers):
        self.layers = list(layers)

    def forward(self, x):
        """x, as the first takes it -> y, as the last gives it."""
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy):
        """dy -> dx, of the shapes of y and x."""
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy


class _Probe(Layer):
    """Stands behind a block: notes the tokens that pass, and starts the backward with a gradient of its own."""

    tokens: np.ndarray
    dtokens: np.ndarray

    def forward(self, x):
        self.tokens = x
        return x

    def backward(self, dy):
        return self.dtokens


def whole(layer):
    """A replica of a layer whose blocks give all tokens, also where only the first are read: what it computes beside is looked at here."""
    replica = layer.replica()
    for _, block in replica.named_layers():
        if isinstance(block, Block) and block.output_tokens:
            block.set_output_tokens(None)
    return replica


class FirstBlocks:
    """A model up to the tokens behind its first `depth` blocks: images (B, H, W, C) -> (B, N, D). It shares the model's weights.

    The model is one with a list `blocks`, such as `ViT`; depth 0 gives the tokens before the first block.
    Raises ValueError if it has no such list, or not so many.
    """

    def __init__(self, model, depth):
        if not isinstance(getattr(model, "blocks", None), list):
            raise ValueError(f"{type(model).__name__} has no list of blocks")
        check_number("number of blocks", depth, least=0, most=len(model.blocks), whole=True)
        self._probe, self._model = _Probe(), whole(model)
        self._model.blocks = [*self._model.blocks[:depth], self._probe]

    def forward(self, images):
        """images (B, H, W, C) -> tokens (B, N, D)."""
        self._logits = self._model.forward(images)
        return self._probe.tokens

    def backward(self, dtokens):
        """dtokens (B, N, D) -> dimages (B, H, W, C), with respect to the normalised images."""
        self._probe.dtokens = dtokens
        return self._model.backward(np.zeros_like(self._logits))
