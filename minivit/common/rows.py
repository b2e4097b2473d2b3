"""Some rows of an array, which are read when they are used."""

from collections.abc import Iterator
from typing import Any

import numpy as np


class Rows:
    """The rows `indices` of an array of images, without a copy of them.

    A batch of a training is such rows. Each lane asks for those of its shard. So a process that trains only some of the
    lanes reads only their images, which matters if the array is a file that is mapped into memory.

    Parameters
    ----------
    array : (n, H, W, C), or Rows
        The images.
    indices : (B,) integers
        Which of them, in this order.

    Examples
    --------
    >>> rows = Rows(np.arange(20).reshape(5, 2, 2, 1), np.array([4, 0, 3]))
    >>> rows.shape, rows[1:].ravel().tolist()
    ((3, 2, 2, 1), [0, 1, 2, 3, 12, 13, 14, 15])
    """

    def __init__(self, array: Any, indices: np.ndarray) -> None:
        self.array, self.indices = array, indices
        self.shape, self.dtype, self.ndim = (len(indices), *array.shape[1:]), array.dtype, array.ndim

    def __len__(self) -> int:
        """Return B."""
        return len(self.indices)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Return the rows of a slice or of an array of integers as a new array, or one image for an integer."""
        return self.array[self.indices[key]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.array[i] for i in self.indices)
