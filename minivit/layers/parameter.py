"""A parameter: a named array that is learned, and its gradient.

A parameter is declared by its shape and by how it starts; its memory is made when it is first looked at. So a model can be
counted without being allocated, and all parameters of a model can be laid into one vector (see `Layer.vector`): each
is then a view of a stretch of it, and what concerns all weights (clipping, AdamW, saving) is one pass over one array. A model that only
infers may leave its weights in the file that they come from, and borrow them from there.
"""

import math
import zlib

import numpy as np


def zeros(shape, rng):
    """Start at 0."""
    return np.zeros(shape)


def ones(shape, rng):
    """Start at 1."""
    return np.ones(shape)


def normal(shape, rng, std=0.02):
    """Start at random numbers of mean 0 and standard deviation `std`."""
    return std * rng.standard_normal(shape, np.float32)


def xavier_uniform(shape, rng):
    """Start a matrix (in, out) uniformly in +-sqrt(6 / (in + out)), which keeps the variance of what flows
    forward and back (Glorot and Bengio, AISTATS 2010). A kernel (k, k, C, D) is a matrix (k k C, D), and maps side by side are one."""
    bound = np.sqrt(6 / (math.prod(shape[:-1]) + shape[-1]))
    return bound * (2 * rng.random(shape, np.float32) - 1)


class Storage:
    """The memory that parameters share: a vector of weights, and one of gradients, made when first written."""

    def __init__(self, weights):
        self.weights = weights
        self._gradients = None

    @property
    def gradients(self):
        """The gradients, in the order of the weights; zero before the first backward."""
        if self._gradients is None:
            self._gradients = np.zeros_like(self.weights)
        return self._gradients


class Parameter:
    """A learned array of a declared shape and size: `name`, `data`, `grad`, and whether weight `decay` touches it.

    `data` is the array itself; assigning to it copies into its memory. `grad` is None before the first
    backward; assigning to it overwrites the gradient. Both raise ValueError if the shape differs.

    init: a function (shape, rng) -> array. The random numbers depend on the seed and on the parameter's name alone, so
    they do not change when a layer is added elsewhere. maps: how many maps lie side by side in a matrix.
    """

    def __init__(self, shape, init=zeros, decay=False, maps=1):
        self.name = ""
        self.shape = tuple(shape)
        self.size = math.prod(self.shape)
        self.init = init
        self.decay = decay
        self.maps = maps
        self.storage: Storage | None = None
        self.offset = 0
        self._data = self._grad = None                                # the views, kept because making one takes a microsecond
        self._has_grad = False

    @property
    def has_values(self):
        """Whether it has values already, of its own or borrowed."""
        return self.storage is not None or self._data is not None

    def initial(self, seed):
        """Its values at the start of training, for a seed."""
        return self.init(self.shape, np.random.default_rng([seed, zlib.crc32(self.name.encode())]))

    def unplaced(self):
        """A parameter like this one that has no memory yet."""
        twin = Parameter(self.shape, self.init, self.decay, self.maps)
        twin.name = self.name
        return twin

    def place(self, storage, offset):
        """Let this parameter be the view of `storage` that starts at `offset`."""
        self.storage, self.offset = storage, offset
        self._data, self._grad, self._has_grad = self._view(storage.weights), None, False

    def memory_map(self, array):
        """Let this parameter be `array`, wherever it lies, such as in a file that is mapped into memory; it is read, and not written to.

        Before the parameter is written to, it is copied. Raises ValueError if the shape differs.
        """
        self._check(array)
        self.storage, self.offset, self._has_grad = None, 0, False
        self._data, self._grad = array, None

    def _memory(self):
        if self.storage is None:
            values = self.initial(seed=0).astype(np.float32) if self._data is None else self._data
            self.place(Storage(values.flatten()), 0)
        return self.storage

    def _view(self, vector):
        return vector[self.offset:self.offset + self.size].reshape(self.shape)

    @property
    def data(self):
        """The array itself, a view of its memory; made now, if there is none yet."""
        if self._data is None:
            self._data = self._view(self._memory().weights)
        return self._data

    @data.setter
    def data(self, value):
        self._memory()                                                # its own: what is borrowed is not written to
        self._fill(self.data, value)

    @property
    def grad(self):
        """The gradient that the last backward gave, a view of its memory; None before the first."""
        return self.grad_buffer() if self._has_grad else None

    @grad.setter
    def grad(self, value):
        self._fill(self.grad_buffer(), value)
        self._has_grad = True

    def grad_buffer(self):
        """The gradient's memory, for an op to write to; assigning to `grad` what lies there already copies nothing."""
        if self._grad is None:
            self._grad = self._view(self._memory().gradients)
        return self._grad

    def _fill(self, memory, value):
        if value is memory:
            return
        self._check(value)
        memory[...] = value

    def _check(self, value):
        if np.shape(value) != self.shape:
            raise ValueError(f"{self.name or 'parameter'} has the shape {self.shape}, not {np.shape(value)}")

    def __getstate__(self):
        borrowed = self._data if self.storage is None else None
        return vars(self) | {"_data": borrowed, "_grad": None}        # a pickled view would be an array of its own

    def __repr__(self):
        return f"Parameter({self.name!r}, {self.shape})"
