"""Exercise 6, patches: an image is cut into squares, and each square becomes a row of numbers. About 15 minutes.

    images (B, H, W, C)  ->  patches (B, M, P P C)          M = (H / P) (W / P)

P is the side of a patch, in pixels. The patches follow each other as one reads: row by row, from the left to the
right. The numbers of a patch follow each other in the same way: row, column, channel. For an image of 4x4 pixels with
one channel and P = 2:

     0  1 |  2  3
     4  5 |  6  7              0  1  4  5        patch 0
    ------+------     ->       2  3  6  7        patch 1
     8  9 | 10 11              8  9 12 13        patch 2
    12 13 | 14 15             10 11 14 15        patch 3

A reshape alone keeps the order of the numbers in memory, so it cannot do this. Either loop over the patches, or reshape
to six axes and exchange two of them (`transpose`).

Backward. Every number only moves to a new place. So its gradient moves back to the place where the number came from.
"""

import numpy as np


def forward(images, side):
    """images (B, H, W, C), side P -> patches (B, M, P P C), and the cache."""
    raise NotImplementedError("write forward, and remove this line")


def backward(dy, cache):
    """dy (B, M, P P C), and the cache -> dimages (B, H, W, C)."""
    raise NotImplementedError("write backward, and remove this line")
