"""Initial values of parameters: functions (shape, rng) -> array.

Biases and the last linear map start at zero, the scales of norms at one, and matrices at small random numbers. If all
entries of a matrix were equal, all its outputs would get the same gradient, and they would stay equal.
"""

import math
from collections.abc import Callable

import numpy as np

Initializer = Callable[[tuple[int, ...], np.random.Generator], np.ndarray]


def zeros(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return zeros."""
    return np.zeros(shape)


def ones(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return ones."""
    return np.ones(shape)


def normal(shape: tuple[int, ...], rng: np.random.Generator, std: float = 0.02) -> np.ndarray:
    """Draw from a normal distribution of mean 0 and standard deviation `std`."""
    return std * rng.standard_normal(shape, np.float32)


def xavier_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw a matrix (in, out) uniformly from +-sqrt(6 / (in + out)) (Glorot and Bengio, AISTATS 2010).

    This keeps the variance of the activations and of the gradients about the same from layer to layer. A filter
    (k, k, C, D) of a convolution counts as a matrix (k k C, D).
    """
    bound = np.sqrt(6 / (math.prod(shape[:-1]) + shape[-1]))
    return bound * (2 * rng.random(shape, np.float32) - 1)
