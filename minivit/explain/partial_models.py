"""Parts of a model as layers of their own: several layers in a row, or a model up to one of its blocks.

Read `layers/layer.py` and `models/vit.py` before.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..common.checks import check_number
from ..layers import Block, Layer


class Sequential:
    """Several layers in a row: forward through all of them, backward through all of them in reverse order.

    Parameters
    ----------
    layers : iterable
        Objects with `forward` and `backward`; each takes what the one before it returns.
    """

    def __init__(self, layers: Iterable[Any]) -> None:
        self.layers = list(layers)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the output of the last layer for the input x of the first."""
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Return dx for the gradient dy of the last output."""
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy


class _Tap(Layer):
    """Stores the tokens that pass, and replaces the gradient by another one."""

    tokens: np.ndarray
    dtokens: np.ndarray

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (B, N, D) -> x."""
        self.tokens = x
        return x

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, N, D) -> the gradient to start from, (B, N, D)."""
        return self.dtokens


def with_all_tokens(layer: Layer) -> Any:
    """Return a replica in which every block computes all tokens.

    The last block of a model computes only the tokens that the classifier reads. To look at the others, for example at
    their attention, they must be computed.

    Parameters
    ----------
    layer : Layer
        Layer or model.

    Returns
    -------
    Layer
        Replica of the same class. It shares the weights.
    """
    replica = layer.replica()
    for _, block in replica.named_layers():
        if isinstance(block, Block) and block.output_tokens:
            block.set_output_tokens(None)
    return replica


class FirstBlocks:
    """A model up to the tokens after its first `depth` blocks, (B, H, W, C) -> (B, N, D). It shares the weights.

    Parameters
    ----------
    model : Model
        Model with a list `blocks`, such as `ViT`.
    depth : int
        Number of blocks; 0 gives the tokens before the first block.

    Raises
    ------
    ValueError
        If the model has no list of blocks, or fewer than `depth`.
    """

    def __init__(self, model: Any, depth: int) -> None:
        if not isinstance(getattr(model, "blocks", None), list):
            raise ValueError(f"{type(model).__name__} has no list of blocks: take a ViT or a DeiT")
        check_number("number of blocks", depth, least=0, most=len(model.blocks), whole=True)
        self._tap, self._model = _Tap(), with_all_tokens(model)
        self._model.blocks = [*self._model.blocks[:depth], self._tap]

    def forward(self, images: np.ndarray) -> np.ndarray:
        """Return the tokens (B, N, D) of images (B, H, W, C)."""
        self._logits = self._model.forward(images)
        return self._tap.tokens

    def backward(self, dtokens: np.ndarray) -> np.ndarray:
        """Return dimages (B, H, W, C), with respect to the normalised images, for dtokens (B, N, D)."""
        self._tap.dtokens = dtokens
        return self._model.backward(np.zeros_like(self._logits))
