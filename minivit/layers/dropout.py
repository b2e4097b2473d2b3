"""Dropout and drop-path as layers. They act only in training copies of a model, which have random numbers.

Read `ops/dropout.py` and `layer.py` before. Elsewhere the output is the input itself.
"""

import numpy as np

from ..common.checks import check_number
from ..ops import dropout, philox
from .layer import Layer


class Dropout(Layer):
    """Sets numbers to zero at random, in training: (B, ...) -> (B, ...).

    Parameters
    ----------
    rate : float
        Probability that a number is set to zero, at least 0 and below 1.
    """

    rng: philox.Generator | None = None
    stream = 0

    def __init__(self, rate: float) -> None:
        self.rate = check_number("drop rate", rate, least=0, below=1)

    def mask_shape(self, x: np.ndarray) -> tuple[int, ...]:
        """Return the shape of the mask: one random number for each number of x."""
        return x.shape

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (B, ...) -> y (B, ...), which is x itself if nothing is dropped."""
        if self.rng is None or self.rate == 0:
            self.cache = ()
            return x
        shape = self.mask_shape(x)
        uniform = self.rng.uniform(self.stream, int(np.prod(shape[1:])))
        y, self.cache = dropout.forward(x, dropout.mask(uniform.reshape(shape), self.rate))
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (B, ...) -> dx (B, ...)."""
        mask = self.pop_cache()
        return dy if isinstance(mask, tuple) else dropout.backward(dy, mask)


class DropPath(Dropout):
    """Sets a residual branch to zero for whole images at random, in training: (B, ...) -> (B, ...)."""

    def mask_shape(self, x: np.ndarray) -> tuple[int, ...]:
        """Return the shape of the mask: one random number for each image."""
        return (len(x),) + (1,) * (x.ndim - 1)
