"""Where the model looks, as an output of the graph: the attention rollout from the pooling to the patches.

Read `explain/attention_maps.py` before. Rollout multiplies the matrices A_l = (P_l + I) / 2 of all layers, with P_l the
mean of the probabilities over the heads. The page needs one row only: that of the class token, or the mean of all rows.
A row times a matrix is cheap, so the graph starts at the last layer, with the row r that says what the head reads:

    r <- (r + r P_l) / 2               for l = L, ..., 1

In windows, P_l has a block for each window. Where Swin merges four tokens into one, a quarter of the token's share goes
to each of them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .graph import Graph


@dataclass(frozen=True)
class Step:
    """The attention of a layer: the name of its probabilities (B G, h, T, n).

    queries: T, if the layer computes the first T of N tokens only. order, inverse: which token stands at each place of
    the G windows (N for padding), and the inverse. tokens: N, for windows.
    """

    probs: str
    queries: int | None = None
    order: Any = None
    inverse: Any = None
    windows: int = 1
    tokens: int = 0


@dataclass(frozen=True)
class Merge:
    """Four neighbours of rows x columns tokens become one, or fewer at an odd edge."""

    rows: int
    columns: int

    def origin(self) -> np.ndarray:
        """Return for each token before the merging its token after it, (rows columns,)."""
        y, x = np.indices((self.rows, self.columns))
        return (y // 2 * -(-self.columns // 2) + x // 2).ravel()


def write_rollout(graph: Graph, tokens: int, prefix: int, grid: tuple[int, int], by_class_token: bool) -> str:
    """Add the rollout of the steps in `graph.attention`, and return the name of the map (B, R, S).

    tokens: N of the last layer. prefix: the number of tokens before the patches. grid: R and S of the first layer.
    by_class_token: whether the head reads the first token, otherwise the mean of the patches.
    """
    start = np.eye(1, tokens)
    if not by_class_token:
        start[:, :prefix], start[:, prefix:] = 0, 1 / (tokens - prefix)
    row = graph.shared(start, "pooling")                              # (1, N), then (B, N)
    for step in reversed(graph.attention):
        row = _spread(graph, row, step) if isinstance(step, Merge) else _back(graph, row, step, start)
    rows, columns = grid
    patches = graph.take(row, np.arange(prefix, prefix + rows * columns), axis=1) if prefix else row
    return graph.reshape(patches, -1, rows, columns)


def _spread(graph, row, merge):
    """Add the row (B, N) before a merging for the one (B, N / 4) after it: each token gets an equal share."""
    origin = merge.origin()
    shares = graph.shared(1 / np.bincount(origin)[origin][None], "shares")
    return graph.node("Mul", graph.take(row, origin, axis=1), shares)


def _back(graph, row, step, start):
    """Add the row (B, N) before a layer for the one after it."""
    mean = graph.node("ReduceMean", step.probs, axes=[1], keepdims=0)                 # (B G, T, n)
    if step.order is None:
        N = start.shape[1]
        T = step.queries or N                                         # fewer than N in the last layer of a ViT only
        queries = row if T == N else graph.shared(start[:, :T], "pooling")
        moved = graph.node("MatMul", graph.reshape(queries, -1, 1, T), graph.reshape(mean, -1, T, N))
        moved = graph.reshape(moved, -1, N)
    else:
        moved = _through_windows(graph, row, mean, step)
    return graph.node("Mul", graph.node("Add", row, moved), graph.number(0.5))


def _through_windows(graph, row, mean, step):
    """Return the name of r P for attention in windows. Tokens of the padding are left out, and rows sum to 1."""
    G, n = step.windows, len(step.order) // step.windows
    mean, real = graph.reshape(mean, -1, G, n, n), step.order < step.tokens
    if not real.all():
        row = graph.node("Pad", row, graph.integers([0, 0, 0, 1]))
        mean = graph.node("Mul", mean, graph.shared(real.reshape(G, 1, n), "real"))
        mean = graph.node("Div", mean, graph.node("ReduceSum", mean, graph.integers([-1]), keepdims=1))
    by_window = graph.reshape(graph.take(row, step.order, axis=1), -1, G, 1, n)
    moved = graph.reshape(graph.node("MatMul", by_window, mean), -1, G * n)
    return graph.take(moved, step.inverse, axis=1)
