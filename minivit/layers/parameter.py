"""A parameter: a named array that training adjusts, together with its gradient.

A layer declares a parameter by its shape and by the function that makes its initial values. The memory is made later,
when the array is first used. All parameters of a model usually lie one after the other in one vector (see `layer.py`,
next), and each is a view of its part. So clipping the gradient, AdamW and saving are each one pass over one array.
`storage.py` manages the memory; you may skip it.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from .initializers import Initializer, zeros
from .storage import StoredArray


class Parameter(StoredArray):
    """A learned array with initial values, a gradient, and a name: its path in the model (see `layer.py`).

    Parameters
    ----------
    shape : sequence of int
        Shape of the array.
    init : callable
        Function (shape, rng) -> array that makes the initial values. The random numbers depend only on the seed and the
        name, so they do not change when another layer is added elsewhere.
    decay : bool
        Whether weight decay applies: to the matrices of linear maps and to the filters of convolutions.
    maps : int
        How many linear maps lie side by side in a matrix: 3 for the queries, keys and values of attention.
    """

    def __init__(self, shape: Sequence[int], init: Initializer = zeros, decay: bool = False, maps: int = 1) -> None:
        super().__init__(shape)
        self.name, self.init, self.decay, self.maps = "", init, decay, maps

    def initial(self, seed: int) -> np.ndarray:
        """Return the initial values for a seed."""
        return self.init(self.shape, np.random.default_rng([seed, zlib.crc32(self.name.encode())]))

    @property
    def data(self) -> np.ndarray:
        """The array itself. Assigning copies into its memory, and raises ValueError if the shape differs."""
        if self._data is None:
            self._data = self._view(self._own_storage().weights)
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        self._own_storage()                                           # a mapped file must not be written to
        self._fill(self.data, value)

    @property
    def grad(self) -> Any:
        """The gradient of the last backward; None before the first. Assigning copies, as for `data`."""
        return self.grad_buffer() if self._has_grad else None

    @grad.setter
    def grad(self, value: Any) -> None:
        self._fill(self.grad_buffer(), value)
        self._has_grad = True

    def grad_buffer(self) -> np.ndarray:
        """Return the gradient's memory, for an op to write to. Assigning it to `grad` afterwards copies nothing."""
        if self._grad is None:
            self._grad = self._view(self._own_storage().gradients)
        return self._grad

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, {self.shape})"
