"""A classifier that reads the mean of all tokens."""

from ..ops import pooling
from .layer import Layer
from .linear import Linear
from .parameter import zeros


class MeanHead(Layer):
    """Tokens (B, ..., D), on a grid or in a row -> logits (B, K): their mean, and a linear map."""

    def __init__(self, width, classes):
        self.fc = Linear(width, classes, zeros)
        self.name_parameters()

    def forward(self, x):
        """x (B, ..., D) -> logits (B, K)."""
        y, pooled = pooling.forward(x.reshape(len(x), -1, x.shape[-1]), "mean")
        self.cache = pooled, x.shape
        return self.fc.forward(y)

    def backward(self, dlogits):
        """dlogits (B, K) -> dx (B, ..., D)."""
        pooled, shape = self.take_cache()
        return pooling.backward(self.fc.backward(dlogits), pooled).reshape(shape)
