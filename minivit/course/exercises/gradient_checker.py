"""Exercise 16, gradient_checker: is a backward right? Measure the slope. About 30 minutes.

All the exercises so far were checked by measured slopes. Now write such a checker. For a function f, an array x and a
fixed array dy of the shape of f(x), let

    L(x) = sum over all entries of f(x) dy

Then a right backward returns dL/dx for this dy. Change one entry of x by h, up and down, and the slope is about

    dL/dx[i] = (L(x + h) - L(x - h)) / (2 h)              the *central difference*, with the error O(h**2)

Do this for each entry of x. Before the next entry, give the entry its old value.

`largest_error` checks a pair (forward, backward) of the kind that you have written. With forward(x) -> y, cache and
backward(dy, cache) -> dx, compare each entry of dx with its measured slope. Return the largest difference, divided by
the largest entry of the gradient: about 1e-9 if the backward is right, and more than 1e-3 if it is wrong.

Choose dy with care. If all entries of dy are 1, a wrong softmax passes: its y has the sum 1, so every slope is 0.
"""

import numpy as np


def numeric_gradient(f, x, dy, h=1e-5):
    """f: x -> array, x and dy: float64 arrays -> the slopes dL/dx, of the shape of x. x must not change."""
    raise NotImplementedError("write numeric_gradient, and remove this line")


def largest_error(forward, backward, x):
    """A pair of functions, and a float64 array x -> the largest relative error of the backward, one number."""
    raise NotImplementedError("write largest_error, and remove this line")
