"""Relative position bias: attention between two tokens depends on how far apart they are, and in which direction.

Tokens lie on a grid of R rows and S columns. Token n at row y, column x and token m at row y', column x' are y - y'
rows and x - x' columns apart. There are (2R - 1)(2S - 1) such offsets. For each offset, every head learns one number,
which attention adds to the scaled score of the pair (see `attention_variants`):

    bias[a, n, m] = table[index[n, m], a]               for head a
    index[n, m]   = (y - y' + R - 1)(2S - 1) + (x - x' + S - 1)

Tokens before the grid, the class token and registers, have no place on it. They share three more rows of the table:
such a token to one of the grid, one of the grid to such a token, and such a token to another one or itself.

Positions that are added to the tokens (see `tokens`) tell where a token is. The bias depends only on offsets, so it is
the same everywhere in the image. Every block learns its own.

Backward. An entry of the table acts on all pairs of tokens with its offset, so its gradient is the sum over them:

    dtable[r, a] = sum of dbias[a, n, m] over all n, m with index[n, m] = r

Shapes: table, dtable (rows, h) with (2R - 1)(2S - 1) rows, and 3 more if tokens come before the grid; bias, dbias
(h, N, N).
Read before: `attention_variants`. Sources: Shaw et al., arXiv:1803.02155; Liu et al., "Swin Transformer",
arXiv:2103.14030, Eq. 4; for the class token, Bao et al., arXiv:2106.08254.
"""

from functools import lru_cache

import numpy as np

from ..kernel import constant, contiguous, empty, kernel, zeros


def table_rows(rows: int, columns: int, prefix: int = 0) -> int:
    """Return the number of rows of the table for a grid of tokens. prefix: how many tokens come before the grid."""
    return (2 * rows - 1) * (2 * columns - 1) + 3 * bool(prefix)


@lru_cache(maxsize=8)
def index(rows: int, columns: int, prefix: int = 0) -> np.ndarray:
    """Return the row of the table for each pair of tokens: integers (N, N), shared, so read-only."""
    y, x = (place.ravel() for place in np.indices((rows, columns)))
    offsets = (y[:, None] - y + rows - 1) * (2 * columns - 1) + (x[:, None] - x + columns - 1)
    if prefix:
        offsets = np.pad(offsets, ((prefix, 0), (prefix, 0)))
        last = table_rows(rows, columns)
        offsets[:prefix], offsets[:, :prefix], offsets[:prefix, :prefix] = last, last + 1, last + 2
    return constant(offsets)


def reference_forward(table: np.ndarray, rows: int, columns: int, prefix: int = 0) -> tuple[np.ndarray, tuple]:
    """Return the bias of every pair of tokens.

    Parameters
    ----------
    table : array (rows, h); for its number of rows see `table_rows`
    rows, columns : int, R and S
    prefix : int, how many tokens come before the grid, such as a class token

    Returns
    -------
    bias : array (h, N, N)
    cache : tuple, what `reference_backward` needs
    """
    places = index(rows, columns, prefix)
    return table[places].transpose(2, 0, 1), (places, len(table))


def reference_backward(dbias: np.ndarray, cache: tuple) -> np.ndarray:
    """Return dtable (rows, h) for dbias (h, N, N), or for its first T rows (h, T, N), if the others are zero."""
    places, length = cache
    dtable = np.zeros((length, len(dbias)), dbias.dtype)
    np.add.at(dtable, places[:dbias.shape[1]], dbias.transpose(1, 2, 0))      # bias[a, n, m] = table[index[n, m], a]
    return dtable


# ---- the same mathematics, head by head ------------------------------------------------------------------------------


def forward(table: np.ndarray, rows: int, columns: int, prefix: int = 0) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. The bias is contiguous. Raises ValueError if the table does not fit."""
    if table.ndim != 2 or len(table) != table_rows(rows, columns, prefix):
        grid = f"{rows}x{columns}{' with tokens before it' if prefix else ''}"
        raise ValueError(f"relative bias: a grid of {grid} needs a table ({table_rows(rows, columns, prefix)}, "
                         f"h), not {table.shape}")
    places = index(rows, columns, prefix)
    bias = empty((table.shape[1], *places.shape), table.dtype)
    _forward(table, places, bias)
    return bias, (places, len(table))


def backward(dbias: np.ndarray, cache: tuple) -> np.ndarray:
    """Fast version of `reference_backward`."""
    places, length = cache
    dtable = zeros((length, len(dbias)), dbias.dtype)
    _backward(contiguous(dbias), places, dtable)
    return dtable


@kernel
def _forward(table, places, bias):
    for a in range(bias.shape[0]):
        for n in range(bias.shape[1]):
            for m in range(bias.shape[2]):
                bias[a, n, m] = table[places[n, m], a]


@kernel
def _backward(dbias, places, dtable):
    for a in range(dbias.shape[0]):
        for n in range(dbias.shape[1]):
            for m in range(dbias.shape[2]):
                dtable[places[n, m], a] += dbias[a, n, m]
