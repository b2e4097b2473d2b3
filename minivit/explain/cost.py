"""The cost of pixels as tokens: why a ViT cuts images into patches.

Attention compares every token with every other token. Its time and memory grow as N^2.

    tokens            N = (H / P)^2
    probabilities     N^2 for each head and layer
    multiply-adds     2 N^2 D, for q k^T and probs v
"""

import time
import tracemalloc
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..ops import attention
from ..parallel.blas import blas_threads


def count(image_size: int, patch_size: int) -> tuple[int, int]:
    """Return (N, N^2): the tokens of a square image without a class token, and the probabilities of one head."""
    tokens = (image_size // patch_size) ** 2
    return tokens, tokens**2


def measure(sizes: Iterable[int], width: int = 64, repetitions: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Measure the cost of the forward of attention with one head.

    Parameters
    ----------
    sizes : iterable of int
        Numbers of tokens N.
    width : int
        Width D.
    repetitions : int
        Number of measurements; the fastest counts.

    Returns
    -------
    seconds : np.ndarray
        Processor time of one thread, for each of the sizes.
    memory : np.ndarray
        Largest number of bytes allocated at one time, without the input.
    """
    seconds, memory = [], []
    with blas_threads(1):
        attention.forward(np.zeros((1, 4, 3 * width), np.float32), 1)    # compile
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


def quadratic(sizes: Sequence[int] | np.ndarray, costs: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Fit cost = b N + c N^2 by least squares of the relative error. Return (b, c), neither of them negative."""
    sizes = np.asarray(sizes, np.float64)
    terms = np.stack([sizes, sizes**2], axis=1) / np.asarray(costs)[:, None]
    b, c = np.linalg.lstsq(terms, np.ones(len(sizes)), rcond=None)[0]
    if b < 0:                                                         # fit c N^2 alone
        b, c = 0.0, terms[:, 1].sum() / (terms[:, 1] ** 2).sum()
    return float(b), float(c)


def predict(coefficients: tuple[float, float], tokens: Any) -> Any:
    """Return the cost b N + c N^2 for N tokens, a number or an array."""
    b, c = coefficients
    return b * tokens + c * tokens**2
