"""The relative position bias with its learned table. Read `ops/relative_bias.py` before."""

import numpy as np

from ..ops import relative_bias
from .layer import Layer
from .parameter import Parameter


class RelativeBias(Layer):
    """What attention adds to the scores of tokens on a grid: () -> bias (h, N, N). Its forward has no input.

    Parameters
    ----------
    rows, columns : int
        Rows and columns of the grid.
    heads : int
        h.
    prefix : int
        How many tokens, such as a class token, come before those of the grid.

    Attributes
    ----------
    hidden : tuple
        The tokens that are left out in each image, and the number of those that are not: (hidden, visible) as for
        `relative_bias.forward`. Empty if all tokens are there. A masked autoencoder sets it.
    """

    def __init__(self, rows: int, columns: int, heads: int, prefix: int = 0) -> None:
        self.grid = rows, columns, prefix
        self.relative_position_bias_table = Parameter((relative_bias.table_rows(*self.grid), heads))
        self.hidden: tuple[np.ndarray, int] | tuple[()] = ()

    def forward(self) -> np.ndarray:  # type: ignore[override]
        """() -> bias (h, N, N), or with hidden tokens (B, h, N', N')."""
        bias, self.cache = relative_bias.forward(self.relative_position_bias_table.data, *self.grid, *self.hidden)
        return bias

    def backward(self, dbias: np.ndarray) -> None:  # type: ignore[override]
        """dbias as the bias, or its first rows (..., T, N) if the others are zero -> nothing."""
        self.relative_position_bias_table.grad = relative_bias.backward(dbias, self.pop_cache())
