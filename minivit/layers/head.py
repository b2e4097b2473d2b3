"""Classifier heads: one that reads the mean of all tokens, and several side by side. Read `linear.py` before.

A *classifier head* is the last layer of a model, which computes the logits: one score for each of the K classes.
"""

from collections.abc import Sequence

import numpy as np

from ..ops import pooling
from .initializers import zeros
from .layer import Layer
from .linear import Linear


class MeanHead(Layer):
    """The mean of all tokens and a linear map: tokens (B, ..., D), on a grid or in a row -> logits (B, K).

    Parameters
    ----------
    width, classes : int
        D and K.
    """

    def __init__(self, width: int, classes: int) -> None:
        self.fc = Linear(width, classes, zeros)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (B, ..., D) -> logits (B, K)."""
        y, pooled = pooling.forward(x.reshape(len(x), -1, x.shape[-1]), "mean")
        self.cache = pooled, x.shape
        return self.fc.forward(y)

    def backward(self, dlogits: np.ndarray) -> np.ndarray:
        """dlogits (B, K) -> dx (B, ..., D)."""
        pooled, shape = self.pop_cache()
        return pooling.backward(self.fc.backward(dlogits), pooled).reshape(shape)


class Heads(Layer):
    """n classifiers side by side, each with features of its own: (B, 1, n, D) -> the mean of their logits (B, K).

    Parameters
    ----------
    heads : sequence of Layer
        Linear maps, or convolutions of 1 x 1.
    """

    def __init__(self, heads: Sequence[Layer]) -> None:
        self.heads = list(heads)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (B, 1, n, D) -> logits (B, K)."""
        logits = [head.forward(x[:, :, i:i + 1]) for i, head in enumerate(self.heads)]    # (B, 1, 1, K)
        return pooling.forward(np.concatenate(logits, axis=1)[:, :, 0], "mean")[0]

    def backward(self, dlogits: np.ndarray) -> np.ndarray:
        """dlogits (B, K) -> dx (B, 1, n, D)."""
        dy = (dlogits * dlogits.dtype.type(1 / len(self.heads)))[:, None, None]    # the mean passes 1 / n to each
        return np.concatenate([head.backward(dy) for head in self.heads], axis=2)
