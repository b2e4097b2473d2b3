"""Exercise 1, linear: every row of numbers is multiplied by the same matrix. About 20 minutes.

A network is a chain of operations. Each one is a pair of functions, and you write such a pair here:

    y, cache = forward(x, weight, bias)             computes the result, and keeps what the backward needs
    dx, dweight, dbias = backward(dy, cache)        computes the gradients

The *loss* L is the one number at the end of the chain that training makes smaller. dy is the *gradient* dL/dy: it has
the shape of y, and each entry says how fast L grows if that entry of y grows. `backward` gets dy from the next
operation. From dy it computes dL/dx, dL/dweight and dL/dbias, each with the shape of its array. The *cache* is
anything that you want to keep, for example a tuple of arrays.

The linear map is

    y = x weight + bias               (..., I) times (I, O) plus (O,) gives (..., O)
    y[n, o] = sum over i of x[n, i] weight[i, o] + bias[o]

The three dots stand for any number of axes, such as images and tokens; n counts all rows of them.

The chain rule gives every gradient: find all entries of y on which a number acts. For each of them multiply dy of that
entry by the derivative of that entry. Add these products. For example, x[n, i] acts on y[n, o] for every o, and the
derivative there is weight[i, o]. So

    dx[n, i] = sum over o of dy[n, o] weight[i, o]

which is a product of two matrices again. Find dweight and dbias in the same way.
"""

import numpy as np


def forward(x, weight, bias):
    """x (..., I), weight (I, O), bias (O,) -> y (..., O), and the cache."""
    raise NotImplementedError("write forward, and remove this line")


def backward(dy, cache):
    """dy (..., O), and the cache -> dx (..., I), dweight (I, O), dbias (O,)."""
    raise NotImplementedError("write backward, and remove this line")
