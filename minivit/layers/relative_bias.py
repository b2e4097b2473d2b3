"""The relative position bias, with the table that is learned."""

import numpy as np

from ..ops import relative_bias
from .layer import Layer
from .parameter import Parameter


class RelativeBias(Layer):
    """What attention adds to the scores of tokens on a grid, (h, N, N). See `ops/relative_bias.py`. Its forward has no input."""

    def __init__(self, rows, columns, heads, class_token=False):
        self.grid = rows, columns, class_token
        self.relative_position_bias_table = Parameter((relative_bias.table_rows(*self.grid), heads))

    def forward(self) -> np.ndarray:  # type: ignore[override]
        """-> bias (h, N, N)."""
        bias, self.cache = relative_bias.forward(self.relative_position_bias_table.data, *self.grid)
        return bias

    def backward(self, dbias):
        """dbias (h, N, N), or its first rows, (h, n, N), if the others are zero."""
        self.relative_position_bias_table.grad = relative_bias.backward(dbias, self.pop_cache())
