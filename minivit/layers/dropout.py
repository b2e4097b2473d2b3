"""Dropout and drop-path as layers: they do nothing, until a lane's replica is given random numbers."""

import numpy as np

from ..common.checks import check_number
from ..ops import dropout, philox
from .layer import Layer


class Dropout(Layer):
    """Sets numbers to zero with probability `rate`, in training. (B, ...) -> (B, ...)."""

    rng = None
    stream = 0

    def __init__(self, rate):
        self.rate = check_number("drop rate", rate, least=0, below=1)

    def mask_shape(self, x):
        """Shape of the mask for x: one number for each of x."""
        return x.shape

    def forward(self, x):
        """x (B, ...) -> y (B, ...); x itself where nothing is dropped."""
        if self.rng is None or self.rate == 0:
            self.cache = ()
            return x
        shape = self.mask_shape(x)
        uniform = self.rng.uniform(self.stream, int(np.prod(shape[1:])))
        y, self.cache = dropout.forward(x, dropout.mask(uniform.reshape(shape), self.rate))
        return y

    def backward(self, dy):
        """dy (B, ...) -> dx (B, ...)."""
        mask = self.pop_cache()
        return dy if isinstance(mask, tuple) else dropout.backward(dy, mask)


class DropPath(Dropout):
    """Removes a residual branch of a whole image with probability `rate`, in training. (B, ...) -> (B, ...)."""

    def mask_shape(self, x):
        """Shape of the mask for x: one number for each image."""
        return (len(x),) + (1,) * (x.ndim - 1)


def use_generator(layer, rng):
    """Let every dropout and drop-path of `layer` draw from `rng`, each from a stream of its own, named by its path."""
    for path, child in layer.named_layers():
        if isinstance(child, Dropout):
            child.rng, child.stream = rng, philox.stream(path)
