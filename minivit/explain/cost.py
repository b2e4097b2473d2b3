"""What attention among pixels would cost. It compares every token with every other, so work and memory grow as N^2.

    tokens          N = (H / P)^2
    entries         N^2 for each head and layer
    multiply-adds   2 N^2 D for q k^T and probs v
"""

import time
import tracemalloc
from typing import Any

import numpy as np

from ..ops import attention
from ..parallel.blas import blas_threads


def count(image_size: int, patch_size: int) -> tuple[int, int]:
    """Return (N, N^2): tokens of a square image without a class token, and entries of one head's probabilities."""
    tokens = (image_size // patch_size) ** 2
    return tokens, tokens**2


def measure(sizes: Any, width: int = 64, repetitions: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Measure the forward of one attention head for each number of tokens.

    Parameters
    ----------
    sizes : sequence of int
        Numbers of tokens N.
    width : int
        D.
    repetitions : int
        The shortest time counts.

    Returns
    -------
    seconds, bytes : arrays
        Processor time of one thread, and the largest amount of memory allocated beside the input.
    """
    seconds, memory = [], []
    with blas_threads(1):
        attention.forward(np.zeros((1, 4, 3 * width), np.float32), 1)    # compiles
        for tokens in sizes:
            qkv = np.random.default_rng(0).standard_normal((1, tokens, 3 * width), np.float32)
            times = []
            for _ in range(repetitions):
                start = time.thread_time()
                attention.forward(qkv, 1)
                times.append(time.thread_time() - start)
            tracemalloc.start()
            attention.forward(qkv, 1)
            memory.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            seconds.append(min(times))
    return np.array(seconds), np.array(memory)


def quadratic(sizes: Any, costs: Any) -> tuple[float, float]:
    """Fit cost = b N + c N^2 with the smallest relative error and return (b, c); neither is negative."""
    sizes = np.asarray(sizes, np.float64)
    terms = np.stack([sizes, sizes**2], axis=1) / np.asarray(costs)[:, None]
    b, c = np.linalg.lstsq(terms, np.ones(len(sizes)), rcond=None)[0]
    if b < 0:                                                         # then fit the square alone
        b, c = 0.0, terms[:, 1].sum() / (terms[:, 1] ** 2).sum()
    return float(b), float(c)


def predict(coefficients: tuple[float, float], tokens: Any) -> Any:
    """Return the cost of a fit (b, c) for a number of tokens."""
    b, c = coefficients
    return b * tokens + c * tokens**2
