"""Where the numbers of a parameter lie: in a shared vector, in memory of their own, or in a file mapped into memory.

Machinery behind `parameter.py`; nothing here is needed to understand a layer. A model that is packed (see `packing.py`)
has one `Storage`: one vector of weights and one of gradients. Each parameter is a view of a stretch of both.
"""

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np


class Storage:
    """The memory that parameters share: a vector of weights, and one of gradients, made when it is first used.

    Parameters
    ----------
    weights : np.ndarray
        Vector that holds the weights of all parameters, one parameter after the other.
    gradients : np.ndarray, optional
        Vector for the gradients.
    """

    def __init__(self, weights: np.ndarray, gradients: np.ndarray | None = None) -> None:
        self.weights, self._gradients = weights, gradients

    @property
    def gradients(self) -> np.ndarray:
        """The gradients, in the order of the weights; zero before the first backward."""
        if self._gradients is None:
            self._gradients = np.zeros_like(self.weights)
        return self._gradients


class StoredArray:
    """An array of a declared shape and its gradient, wherever they lie. Base of `Parameter`.

    Nothing is allocated before the first access, so a large model can be declared and counted for free.

    Parameters
    ----------
    shape : sequence of int
        Shape of the array.
    """

    name = ""

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        self.size = math.prod(self.shape)
        self.storage: Storage | None = None
        self.offset = 0
        self.packed = False                                           # whether `Layer.pack` has named and placed it
        # The views are kept, because making one takes a microsecond.
        self._data: np.ndarray | None = None
        self._grad: np.ndarray | None = None
        self._has_grad = False

    def initial(self, seed: int) -> np.ndarray:
        """Return the initial values for a seed."""
        raise NotImplementedError

    @property
    def has_values(self) -> bool:
        """Whether the values exist already, in memory or in a mapped file."""
        return self.storage is not None or self._data is not None

    def place(self, storage: Storage, offset: int) -> None:
        """Make this array the view of `storage` that starts at `offset`. Its gradient is unset."""
        self.storage, self.offset = storage, offset
        self._data, self._grad, self._has_grad = self._view(storage.weights), None, False

    def memory_map(self, array: np.ndarray) -> None:
        """Use `array` where it lies, for example in a file mapped into memory. It is copied before the first write.

        Raises
        ------
        ValueError
            If the shape differs from the declared one.
        """
        self._check(array)
        self.storage, self.offset, self._has_grad = None, 0, False
        self._data, self._grad = array, None

    def unplaced(self) -> Self:
        """Return a twin with the same declaration and name, and no memory yet."""
        twin = object.__new__(type(self))
        twin.__dict__.update(vars(self), storage=None, offset=0, _data=None, _grad=None, _has_grad=False)
        return twin

    def _own_storage(self) -> Storage:
        """Return the storage. Without one, make one and fill it with the mapped or the initial values."""
        if self.storage is None:
            values = self.initial(seed=0).astype(np.float32) if self._data is None else self._data
            self.place(Storage(values.flatten()), 0)
        assert self.storage is not None
        return self.storage

    def _view(self, vector: np.ndarray) -> np.ndarray:
        """Return the stretch of a vector that belongs to this array, in its shape."""
        return vector[self.offset:self.offset + self.size].reshape(self.shape)

    def _fill(self, memory: np.ndarray, value: Any) -> None:
        """Copy `value` into `memory`, unless it is that memory already."""
        if value is not memory:
            self._check(value)
            memory[...] = value

    def _check(self, value: Any) -> None:
        """Raise ValueError unless the value has the declared shape."""
        if np.shape(value) != self.shape:
            raise ValueError(f"{self.name or 'parameter'} has the shape {self.shape}, not {np.shape(value)}")

    def __getstate__(self) -> dict[str, Any]:
        mapped = self._data if self.storage is None else None
        return vars(self) | {"_data": mapped, "_grad": None}          # a pickled view would become an array of its own
