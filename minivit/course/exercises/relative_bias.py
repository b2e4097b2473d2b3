"""Exercise 19, relative_bias: a score for the offset of two tokens. A design exercise. About 25 minutes.

Positions that are added to the tokens tell where a token is. Instead, attention can learn what two tokens have to do
with each other from the offset between them. The tokens lie on a grid of R rows and S columns, and are numbered row by
row. Token n is at row y and column x, token m at row y' and column x'. For each offset, every head learns one number
in a table. Attention adds it to the score of the pair:

    bias[a, n, m] = table[index[n, m], a]                    for head a
    index[n, m]   = (y - y' + R - 1) (2 S - 1) + (x - x' + S - 1)

The offsets y - y' go from -(R - 1) to R - 1, so the table has (2 R - 1) (2 S - 1) rows.

Backward. Many pairs of tokens have the same offset, so an entry of the table acts on many entries of the bias. Try what
NumPy does for `a[index] += values` when an index occurs twice, and read about `np.add.at`.

Source: Liu et al., "Swin Transformer", arXiv:2103.14030, Eq. 4.
"""

import numpy as np


def forward(table, rows, columns):
    """table ((2 R - 1) (2 S - 1), h), rows R, columns S -> bias (h, N, N) with N = R S, and the cache."""
    raise NotImplementedError("write forward, and remove this line")


def backward(dbias, cache):
    """dbias (h, N, N), and the cache -> dtable ((2 R - 1) (2 S - 1), h)."""
    raise NotImplementedError("write backward, and remove this line")
