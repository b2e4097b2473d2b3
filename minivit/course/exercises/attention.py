"""Exercise 8, attention: every token takes a weighted mean of all tokens. About 25 minutes.

Three rows of d numbers belong to each of the N tokens: its *query* q (what it looks for), its *key* k (by what others
find it) and its *value* v (what it passes on). Query n and key m fit well if their scalar product is large:

    scores = q k^T / sqrt(d)              (N, N)
    probs  = softmax(scores)              (N, N), each row has the sum 1
    y      = probs v                      (N, d), a mean of the values, weighted by the row

The scalar product of d random numbers has a typical size of sqrt(d). The factor 1/sqrt(d) undoes this. Otherwise a
large d would make one probability almost 1 and all others almost 0.

This happens for each image and each head by itself. They are the axes before the last two. `@` multiplies the matrices
of the last two axes, and `x.swapaxes(-1, -2)` transposes them.

Backward, from the last line to the first. For a product Z = A B of matrices, dA = dZ B^T and dB = A^T dZ (as dx and
dweight in exercise 1). Between the two products stands the softmax: call `softmax.forward` and `softmax.backward`.
"""

import math

import numpy as np

from minivit.course.earlier import softmax


def forward(q, k, v):
    """q, k, v (..., N, d) each -> y (..., N, d), and the cache."""
    raise NotImplementedError("write forward, and remove this line")


def backward(dy, cache):
    """dy (..., N, d), and the cache -> dq, dk, dv (..., N, d) each."""
    raise NotImplementedError("write backward, and remove this line")
