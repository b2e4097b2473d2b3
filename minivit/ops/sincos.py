"""Sin-cos positions: a fixed table that tells where a token lies, in place of learned positions (see `tokens`).

The token in row r and column c gets sines and cosines of r in the first half of its D numbers, and of c in the second:

    [sin(w_0 r), ..., sin(w_{D/4-1} r), cos(w_0 r), ..., cos(w_{D/4-1} r)], then the same of c
    w_i = 10000**(-i / (D/4))

High frequencies tell neighbours apart, and low ones tell far places apart. The dot product of two rows of the table is
sum_i cos(w_i (r - r')) + cos(w_i (c - c')), because sin a sin b + cos a cos b = cos(a - b). So it depends only on how
far apart the tokens lie. The table is not learned, so there is no backward.

Read before: `tokens`.
Sources: Vaswani et al., arXiv:1706.03762, section 3.5; on two axes, Chen et al., arXiv:2104.02057.
"""

import numpy as np


def sincos_2d(rows: int, columns: int, width: int, class_token: int = 0) -> np.ndarray:
    """Return the table of positions of a grid of tokens.

    Parameters
    ----------
    rows, columns : int
    width : int, D, divisible by 4
    class_token : int or bool
        The number of class tokens. They come first and get zeros.

    Returns
    -------
    positions : float64 array (N, D)

    Raises
    ------
    ValueError
        If D is not divisible by 4.

    Examples
    --------
    >>> sincos_2d(1, 2, 4).round(2)
    array([[0.  , 1.  , 0.  , 1.  ],
           [0.  , 1.  , 0.84, 0.54]])
    """
    if width % 4:
        raise ValueError(f"sin-cos positions need a width divisible by 4, not {width}")
    frequency = 10000.0 ** (-np.arange(width // 4) / (width // 4))    # (D/4,)
    row, column = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    angle_row, angle_column = np.outer(row, frequency), np.outer(column, frequency)
    table = np.hstack([np.sin(angle_row), np.cos(angle_row), np.sin(angle_column), np.cos(angle_column)])
    return np.vstack([np.zeros((int(class_token), width)), table])
