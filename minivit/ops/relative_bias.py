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

If only some tokens are there (see `picking`), each image b has its own N' visible tokens v_0 < v_1 < ..., and its own
bias:

    bias[b, a, i, j] = table[index[v_i, v_j], a]

Backward. An entry of the table acts on all pairs of tokens with its offset, so its gradient is the sum over them:

    dtable[r, a] = sum of dbias[a, n, m] over all n, m with index[n, m] = r             also over all b, if there is b

Shapes: table, dtable (rows, h) with (2R - 1)(2S - 1) rows, and 3 more if tokens come before the grid; bias, dbias
(h, N, N), or (B, h, N', N') with hidden tokens; hidden (B, R S), 1 for a token that is left out and 0 for the others.
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


def reference_forward(table: np.ndarray, rows: int, columns: int, prefix: int = 0,
                      hidden: np.ndarray | None = None, visible: int = 0) -> tuple[np.ndarray, tuple]:
    """Return the bias of every pair of tokens.

    Parameters
    ----------
    table : array (rows, h); for its number of rows see `table_rows`
    rows, columns : int, R and S
    prefix : int, how many tokens come before the grid, such as a class token
    hidden : array (B, R S) of 0 and 1, optional
    visible : int, how many tokens of the grid each image has, with `hidden`

    Returns
    -------
    bias : array (h, N, N), or with `hidden` (B, h, N', N')
    cache : tuple, what `reference_backward` needs
    """
    places = index(rows, columns, prefix)
    if hidden is None:
        return table[places].transpose(2, 0, 1), (places, len(table))
    kept = [np.flatnonzero([*([True] * prefix), *row]) for row in hidden == 0]
    places = np.stack([places[np.ix_(tokens, tokens)] for tokens in kept])         # (B, N', N')
    return table[places].transpose(0, 3, 1, 2), (places, len(table))


def reference_backward(dbias: np.ndarray, cache: tuple) -> np.ndarray:
    """Return dtable (rows, h) for dbias (h, N, N), or its first T rows (h, T, N) if the others are zero; (B, h, ...)
    with hidden tokens.
    """
    places, length = cache
    dtable = np.zeros((length, dbias.shape[-3]), dbias.dtype)
    dbias = np.moveaxis(dbias, -3, -1)                                # (..., T, N, h)
    np.add.at(dtable, places[..., :dbias.shape[-3], :], dbias)        # bias[a, n, m] = table[index[n, m], a]
    return dtable


# ---- the same mathematics, head by head ------------------------------------------------------------------------------


def forward(table: np.ndarray, rows: int, columns: int, prefix: int = 0, hidden: np.ndarray | None = None,
            visible: int = 0) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. The bias is contiguous. Raises ValueError if the shapes do not fit."""
    if table.ndim != 2 or len(table) != table_rows(rows, columns, prefix):
        grid = f"{rows}x{columns}{' with tokens before it' if prefix else ''}"
        raise ValueError(f"relative bias: a grid of {grid} needs a table ({table_rows(rows, columns, prefix)}, "
                         f"h), not {table.shape}")
    places = index(rows, columns, prefix)
    if hidden is None:
        bias = empty((table.shape[1], *places.shape), table.dtype)
        _forward(table, places, bias)
        return bias, (places, len(table))
    if hidden.ndim != 2 or hidden.shape[1] != rows * columns or not 0 < visible <= rows * columns:
        raise ValueError(f"relative bias: a grid of {rows}x{columns} needs hidden (B, {rows * columns}), not "
                         f"{hidden.shape}, and 1 to {rows * columns} visible tokens, not {visible}")
    bias = empty((len(hidden), table.shape[1], *2 * (prefix + visible,)), table.dtype)
    _forward_visible(table, places, contiguous(hidden), bias)
    return bias, (places, len(table), contiguous(hidden))


def backward(dbias: np.ndarray, cache: tuple) -> np.ndarray:
    """Fast version of `reference_backward`."""
    places, length, *hidden = cache
    dtable = zeros((length, dbias.shape[-3]), dbias.dtype)
    if hidden:
        _backward_visible(contiguous(dbias), places, hidden[0], dtable)
    else:
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


@kernel
def _forward_visible(table, places, hidden, bias):
    first, kept = len(places) - hidden.shape[1], np.empty(bias.shape[2], np.int64)
    for b in range(bias.shape[0]):
        _note_visible(hidden[b], first, kept)
        for a in range(bias.shape[1]):
            for i in range(len(kept)):
                for j in range(len(kept)):
                    bias[b, a, i, j] = table[places[kept[i], kept[j]], a]


@kernel
def _backward_visible(dbias, places, hidden, dtable):
    first, kept = len(places) - hidden.shape[1], np.empty(dbias.shape[3], np.int64)
    for b in range(dbias.shape[0]):
        _note_visible(hidden[b], first, kept)
        for a in range(dbias.shape[1]):
            for i in range(dbias.shape[2]):
                for j in range(len(kept)):
                    dtable[places[kept[i], kept[j]], a] += dbias[b, a, i, j]


@kernel
def _note_visible(hidden, first, kept):
    """Write the numbers of the visible tokens to `kept`: `first` ones before the grid, then those of the grid."""
    for t in range(first):
        kept[t] = t
    count = first
    for m in range(len(hidden)):
        if hidden[m] == hidden.dtype.type(0) and count < len(kept):
            kept[count] = first + m
            count += 1
