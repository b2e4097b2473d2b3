"""Relative position bias: how much one place looks at another depends, too, on how far apart they lie, and in which direction.

Tokens lie on a grid of R rows and S columns. Two of them, n at (y, x) and m at (y', x'), are y - y' rows and x - x' columns apart; there
are (2R - 1)(2S - 1) such offsets, and for each one every head learns a number. Attention adds it to the scaled score of n and m:

    bias[a, n, m] = table[index[n, m], a]               for head a
    index[n, m]   = (y - y' + R - 1)(2S - 1) + (x - x' + S - 1)

A class token lies nowhere: three more rows of the table serve class token to token, token to class token, and class token to itself.

Unlike positions that are added to the tokens, the bias depends on offsets alone, so it is the same everywhere in the picture; and every
block learns its own.

Backward. An entry of the table acts at all pairs of tokens with its offset, so its gradient is the sum over them:

    dtable[r, a] = sum of dbias[a, n, m] over n, m with index[n, m] = r

Shapes: table, dtable (T, h), T = (2R - 1)(2S - 1), and 3 more for a class token; bias, dbias (h, N, N).
Sources: Shaw et al., arXiv:1803.02155; Liu et al., "Swin Transformer", arXiv:2103.14030, Eq. 4; class token: Bao et al., arXiv:2106.08254.
"""

from functools import lru_cache

import numpy as np

from ..kernel import kernel


def table_rows(rows, columns, class_token=False):
    """How many rows the table has for a grid of tokens."""
    return (2 * rows - 1) * (2 * columns - 1) + 3 * class_token


@lru_cache(maxsize=8)
def index(rows, columns, class_token=False):
    """The table's row for each pair of tokens: (N, N) integers, not to be written to."""
    y, x = (place.ravel() for place in np.indices((rows, columns)))
    offsets = (y[:, None] - y + rows - 1) * (2 * columns - 1) + (x[:, None] - x + columns - 1)
    if class_token:
        offsets = np.pad(offsets, ((1, 0), (1, 0)))
        last = table_rows(rows, columns)
        offsets[0, :], offsets[:, 0], offsets[0, 0] = last, last + 1, last + 2
    return offsets


def reference_forward(table, rows, columns, class_token=False):
    """table (T, h) -> bias (h, N, N), cache."""
    places = index(rows, columns, class_token)
    return table[places].transpose(2, 0, 1), (places, len(table))


def reference_backward(dbias, cache):
    """dbias (h, N, N), or its first rows (h, n, N) if the others are zero -> dtable (T, h)."""
    places, length = cache
    dtable = np.zeros((length, len(dbias)), dbias.dtype)
    np.add.at(dtable, places[:dbias.shape[1]], dbias.transpose(1, 2, 0))      # bias[a, n, m] = table[index[n, m], a]
    return dtable


# ---- the same, head by head -------------------------------------------------------------------------------


def forward(table, rows, columns, class_token=False):
    """As `reference_forward`; the bias is contiguous. Raises ValueError if the table does not fit the grid."""
    if table.ndim != 2 or len(table) != table_rows(rows, columns, class_token):
        raise ValueError(f"relative bias: a grid of {rows}x{columns}{' with a class token' if class_token else ''} needs a table "
                         f"({table_rows(rows, columns, class_token)}, h), not {table.shape}")
    places = index(rows, columns, class_token)
    return np.ascontiguousarray(table.T)[:, places], (places, len(table))


def backward(dbias, cache):
    """As `reference_backward`."""
    places, length = cache
    dtable = np.zeros((length, len(dbias)), dbias.dtype)
    _backward(np.ascontiguousarray(dbias), places, dtable)
    return dtable


@kernel
def _backward(dbias, places, dtable):
    for a in range(dbias.shape[0]):
        for n in range(dbias.shape[1]):
            for m in range(dbias.shape[2]):
                dtable[places[n, m], a] += dbias[a, n, m]
