"""What pixels as tokens would cost:

attention compares every token with every other, so its work and memory grow as N^2.

    tokens   N = (H / P)^2           entries   N^2 for each head and layer           multiply-adds   2 N^2 D for q k^T and probs v
"""

import time
import tracemalloc

import numpy as np

from ..ops import attention
from ..parallel.blas import blas_threads


def count(image_size, patch_size):
    """(N, N^2): tokens of a square picture without a class token, and entries of the probabilities of one head."""
    tokens = (image_size // patch_size) ** 2
    return tokens, tokens**2


def measure(sizes, width=64, repetitions=3):
    """The cost of one head of attention, forward, over N tokens for N in `sizes`: (seconds, bytes), two arrays.

    seconds: of one thread's processor time, the least of the repetitions; what else the machine does hardly counts.
    bytes: the most that was allocated at one time, beside the input.
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


def quadratic(sizes, costs):
    """The coefficients (b, c) of cost = b N + c N^2 that fit best, relative to the cost; none is negative."""
    sizes = np.asarray(sizes, np.float64)
    terms = np.stack([sizes, sizes**2], axis=1) / np.asarray(costs)[:, None]
    b, c = np.linalg.lstsq(terms, np.ones(len(sizes)), rcond=None)[0]
    if b < 0:                                                         # then the square alone
        b, c = 0.0, terms[:, 1].sum() / (terms[:, 1] ** 2).sum()
    return float(b), float(c)


def predict(coefficients, tokens):
    """The cost that a fit gives for so many tokens."""
    b, c = coefficients
    return b * tokens + c * tokens**2
