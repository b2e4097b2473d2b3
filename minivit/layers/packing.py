"""One vector for all weights: how the parameters of a tree of layers are named, share memory and are copied.

Machinery behind `layer.py`; nothing here is needed to understand a layer. To *pack* a model is to lay all its
parameters one after the other into one vector, so that an operation on all weights is one pass over memory. These
copies of a tree exist:

    copy, astype       own weights
    replica            the same weights, own gradients and caches: each lane trains one (`minivit/parallel/lanes.py`)
    inference_view     the same parameters, no caches: each thread predicts with one

The name of a parameter is its path from the root of the tree. Each layer's constructor, when it is done, names the
parameters below it that are not yet packed; the root's is done last. `pack` names them all again, from the layer on
which it is called. So a name belongs to the tree that was packed last.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from .parameter import Parameter
from .storage import Storage

Values = Mapping[str, np.ndarray]                                     # arrays by the names of parameters


def _weights_dtype(dtype: DTypeLike) -> np.dtype:
    """Return the dtype, or raise TypeError if weights cannot have it."""
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"weights are float32 or float64, not {dtype}")
    return dtype


def _ends_with_names(constructor: Callable[..., None]) -> Callable[..., None]:
    """Return a constructor that names the parameters of the new layer when it is done."""
    @functools.wraps(constructor)
    def construct(layer: "PackedTree", *args: Any, **kwargs: Any) -> None:
        constructor(layer, *args, **kwargs)
        layer.name_parameters(only_unpacked=True)                     # a packed model keeps its names in a larger tree

    return construct


class PackedTree:
    """A tree of parameters that can be packed into one vector, and copied. Base of `Layer`."""

    replayable = False                                                # see `why_not_replayable`

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = _ends_with_names(cls.__init__)  # type: ignore[method-assign]

    def children(self) -> Iterator[tuple[str, Any]]:
        """Yield (name, child) for the layers and parameters directly below this layer."""
        raise NotImplementedError

    def walk(self) -> Iterator[tuple[str, Any]]:
        """Yield (path, item) for this layer, its parameters, and then in the same way for each layer below it."""
        todo: list[tuple[str, PackedTree]] = [("", self)]
        while todo:
            path, layer = todo.pop()
            yield path, layer
            below, prefix = [], f"{path}." if path else ""
            for name, child in layer.children():
                if isinstance(child, PackedTree):
                    below.append((prefix + name, child))
                else:
                    yield prefix + name, child
            todo += below[::-1]                                       # the first one next

    def parameters(self) -> list[Parameter]:
        """Return all parameters of this layer and of the layers below it, in the order of the tree."""
        return [item for _, item in self.walk() if isinstance(item, Parameter)]

    def name_parameters(self, only_unpacked: bool = False) -> None:
        """Name each parameter, or each that is not packed yet, by its path from this layer."""
        for path, item in self.walk():
            if isinstance(item, Parameter) and not (only_unpacked and item.packed):
                item.name = path

    # ---- one vector --------------------------------------------------------------------------------------

    def pack(self, dtype: DTypeLike = np.float32, seed: int = 0, values: Values | None = None) -> Self:
        """Lay all parameters into one new vector, named by their paths from this layer.

        Parameters
        ----------
        dtype : dtype
            float32 to train, float64 to verify gradients.
        seed : int
            Seed of the initial values.
        values : mapping, optional
            Values by name. A parameter without an entry keeps its values; if it has none, it gets its initial values.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If the dtype is neither float32 nor float64.
        """
        self.name_parameters()
        self._lay_out(self.parameters(), dtype, seed, values or {})
        return self

    @staticmethod
    def _lay_out(parameters: list[Parameter], dtype: DTypeLike, seed: int = 0, values: Values | None = None) -> None:
        """Lay the parameters into one new vector, one after the other, with their gradients."""
        storage, offset = Storage(np.empty(sum(p.size for p in parameters), _weights_dtype(dtype))), 0
        for p in parameters:
            value, gradient = (values or {}).get(p.name), p.grad
            if value is None:
                value = p.data if p.has_values else p.initial(seed)
            p.place(storage, offset)
            p.packed, p.data = True, value
            if gradient is not None:
                p.grad = gradient
            offset += p.size

    def memory_map(self, values: Values, seed: int = 0) -> Self:
        """Use the matrices of linear maps where they lie, to infer without a copy of a file mapped into memory.

        Everything else is copied. That is little of a Transformer, and nearly all of a convolutional network. An
        operation that needs one vector, such as training, copies the matrices first (see `vector`).

        Parameters
        ----------
        values : mapping
            Arrays by name. Matrices are used as they are if they are float32 and aligned.
        seed : int
            Seed of the initial values of parameters that `values` does not hold.

        Returns
        -------
        self
        """
        self.name_parameters()
        for p in self.parameters():
            value = np.asarray(values[p.name] if p.name in values else p.initial(seed), np.float32)
            if p.decay and value.ndim == 2 and value.flags.aligned:   # only matrix products read it: any layout will do
                p.memory_map(value)
            else:
                p.place(Storage(np.empty(p.size, np.float32)), 0)
                p.data = value
            p.packed = True
        return self

    def _packed(self) -> tuple[Storage, slice]:
        """Return the shared storage and the slice that the parameters fill; lay out scattered ones first."""
        parameters = self.parameters()
        if not parameters:
            return Storage(np.empty(0, np.float32)), slice(0, 0)
        start = offset = parameters[0].offset
        for p in parameters:
            if p.storage is None or p.storage is not parameters[0].storage or p.offset != offset:
                names = {p.name for p in parameters}
                if "" in names or len(names) < len(parameters):       # a layer came after the constructor
                    self.name_parameters()
                self._lay_out(parameters, self.dtype)
                start, offset = 0, sum(p.size for p in parameters)
                break
            offset += p.size
        return parameters[0]._own_storage(), slice(start, offset)

    @property
    def vector(self) -> np.ndarray:
        """All weights as one vector, made now if there is none yet. Writing to it changes the parameters."""
        storage, stretch = self._packed()
        return storage.weights[stretch]

    @property
    def gradients(self) -> np.ndarray:
        """All gradients as one vector, in the order of `vector`."""
        storage, stretch = self._packed()
        return storage.gradients[stretch]

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the weights: float32 or float64 (float32 if there are none)."""
        first = next((item for _, item in self.walk() if isinstance(item, Parameter)), None)
        return np.dtype(np.float32) if first is None else first.data.dtype

    def why_not_replayable(self) -> str:
        """Return why a step of this layer must not be replayed (see `minivit/kernel_replay/`); empty if it may be.

        A record keeps what a layer does besides computing with arrays. So the layers of this package are replayed; a
        layer of your own is if its class says `replayable = True`. Its results must then follow from its input, its
        weights and its shapes alone, computed with ops, kernels and the functions of NumPy that a record can follow.
        """
        for path, layer in self.walk():
            cls = type(layer)
            if isinstance(layer, PackedTree) and not (cls.__module__.startswith("minivit.") or cls.replayable):
                return f"{path or 'the model'} is of the class {cls.__name__}, which does not set replayable = True"
        return ""

    # ---- copies ------------------------------------------------------------------------------------------

    def _clone(self, of_parameter: Callable[[Parameter], Parameter], **attributes: Any) -> Self:
        """Return this tree without caches, of_parameter(p) for each p, and the attributes set in every layer."""
        def clone(value: Any) -> Any:
            if isinstance(value, PackedTree):
                return value._clone(of_parameter, **attributes)
            if isinstance(value, Parameter):
                return of_parameter(value)
            return type(value)(map(clone, value)) if type(value) in (list, tuple) else value

        twin = object.__new__(type(self))
        twin.__dict__.update({name: clone(value) for name, value in self.__getstate__().items()}, **attributes)
        return twin

    def _clone_on(self, weights: np.ndarray, gradients: np.ndarray | None = None) -> Self:
        """Return a clone whose parameters lie one after the other in the vector `weights`."""
        layers = [id(item) for _, item in self.walk() if isinstance(item, PackedTree)]
        if len(set(layers)) < len(layers):
            raise ValueError(f"{type(self).__name__} holds a layer twice: make two layers, because each has one cache "
                             "and one place in the tree")
        twin, storage, offset = self._clone(Parameter.unplaced), Storage(weights, gradients), 0
        for p in twin.parameters():
            p.place(storage, offset)
            offset += p.size
        return twin

    def replica(self, kind: type[np.ndarray] = np.ndarray, gradients: np.ndarray | None = None) -> Self:
        """Return a layer that shares the weights of this one, and has gradients and caches of its own.

        Parameters
        ----------
        kind : type
            Class of the arrays of the replica's weights and gradients, such as `minivit.kernel_replay.Tracked`.
        gradients : np.ndarray, optional
            Vector for the gradients, such as that of another replica (default: a new one).
        """
        return self._clone_on(self.vector.view(kind), None if gradients is None else gradients.view(kind))

    def inference_view(self, kind: type[np.ndarray] = np.ndarray) -> Self:
        """Return a layer that shares the parameters of this one and stores no caches. Making one takes 0.1 ms.

        Its arrays are freed as soon as the next layer has read them, so they stay in the core's cache.

        Parameters
        ----------
        kind : type
            Class of the arrays of the parameters, as for `replica`.
        """
        def of_parameter(parameter: Parameter) -> Parameter:
            if kind is np.ndarray:
                return parameter
            twin = parameter.unplaced()
            twin.memory_map(parameter.data.view(kind))
            return twin

        return self._clone(of_parameter, _keeps_cache=False)

    def astype(self, dtype: DTypeLike) -> Self:
        """Return a copy with weights of another dtype. Raise TypeError if it is neither float32 nor float64."""
        return self._clone_on(self.vector.astype(_weights_dtype(dtype)))

    def copy(self) -> Self:
        """Return a copy with weights of its own. Gradients and caches are not copied."""
        return self.astype(self.dtype)

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: dict) -> Self:
        return self.copy()

    def __repr__(self) -> str:
        own = [f"{name} {child.shape}" if isinstance(child, Parameter) else name for name, child in self.children()]
        return f"{type(self).__name__}({', '.join(own)})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_cache", "_readers", "_views")}
