"""Exercise 3, softmax: scores become probabilities. About 20 minutes.

A row of K scores, any numbers, becomes K positive numbers whose sum is 1:

    y_j = exp(x_j) / S          S = sum over k of exp(x_k)

A row is the last axis of x. exp(1000) is too large for a float, but y does not change if you subtract one number
from all scores of a row. (Why? exp(x - c) = exp(x) exp(-c), and the factor cancels in the fraction.)

For the backward, note that x_j acts on every y_i of its row: on y_j, and through S on all of them. The quotient rule
(u/v)' = u'/v - u v'/v**2, with u = exp(x_i) and v = S, gives all the derivatives of a row:

    d y_i / d x_j = y_i - y_i y_j         if i = j
    d y_i / d x_j =     - y_i y_j         if not

Multiply by dy_i, add over all i, and simplify: dx needs no matrix and no loop.
"""

import numpy as np


def forward(x):
    """x (..., K) -> y (..., K), each row with sum 1, and the cache."""
    raise NotImplementedError("write forward, and remove this line")


def backward(dy, cache):
    """dy (..., K), and the cache -> dx (..., K)."""
    raise NotImplementedError("write backward, and remove this line")
