"""Classifiers: one that reads the mean of all tokens, and several side by side."""

import numpy as np

from ..ops import pooling
from .layer import Layer
from .linear import Linear
from .parameter import zeros


class MeanHead(Layer):
    """Tokens (B, ..., D), on a grid or in a row -> logits (B, K): their mean, and a linear map."""

    def __init__(self, width, classes):
        self.fc = Linear(width, classes, zeros)

    def forward(self, x):
        """x (B, ..., D) -> logits (B, K)."""
        y, pooled = pooling.forward(x.reshape(len(x), -1, x.shape[-1]), "mean")
        self.cache = pooled, x.shape
        return self.fc.forward(y)

    def backward(self, dlogits):
        """dlogits (B, K) -> dx (B, ..., D)."""
        pooled, shape = self.pop_cache()
        return pooling.backward(self.fc.backward(dlogits), pooled).reshape(shape)


class Heads(Layer):
    """Linear maps (or convolutions of one place) side by side, each with features of its own: (B, 1, h, D) -> the mean logits (B, K).

    The parameters keep the names that they have in the model which the maps are taken from.
    """

    def __init__(self, heads):
        self.heads = list(heads)

    def forward(self, x):
        """x (B, 1, h, D) -> logits (B, K)."""
        logits = [head.forward(x[:, :, i:i + 1]) for i, head in enumerate(self.heads)]    # (B, 1, 1, K)
        return np.mean(logits, axis=0)[:, 0, 0]

    def backward(self, dlogits):
        """dlogits (B, K) -> dx (B, 1, h, D)."""
        dy = (dlogits / len(self.heads))[:, None, None]               # each has its share of the mean
        return np.concatenate([head.backward(dy) for head in self.heads], axis=2)
