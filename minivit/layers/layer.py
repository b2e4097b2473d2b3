"""What all layers have in common: a forward, a backward, the cache between them, and parameters found by name.

A layer is a tree: its attributes that are parameters, layers or lists of layers, in the order in which they were assigned.
The path through the tree is the parameter's name (`blocks.0.attn.qkv.weight`).

There is no mode to switch. `forward` is deterministic, and what is random in training happens only in a *replica* (see
`minivit/parallel/lanes.py`), which has been given random numbers.
"""

from typing import Any

import numpy as np

from .parameter import Parameter, Storage


def _weights_dtype(dtype):
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"weights are float32 or float64, not {dtype}")
    return dtype


class Layer:
    """Base of all layers. A layer of your own needs `__init__`, `forward(x) -> y` and `backward(dy) -> dx`.

    In `__init__`, assign the weights, as `Parameter(shape, init)`, and the layers it is made of, by themselves or in lists, and end with
    `self.name_parameters()`. A weight's array is its `.data`. In `forward`, store what the backward needs in `self.cache`; in
    `backward`, take it with `self.pop_cache()`, and assign each parameter's gradient to `.grad`. Inputs come in the dtype of the
    weights; nothing converts them.
    """

    _cache: Any = None
    _keeps_cache = True
    _workers: Any = None

    @property
    def cache(self):
        """What `forward` remembered for the backward; None if there is nothing. A layer that only infers forgets it at once."""
        return self._cache

    @cache.setter
    def cache(self, value):
        if self._keeps_cache:
            self._cache = value

    def pop_cache(self):
        """What `forward` remembered. It can be taken once: raises RuntimeError if there was no forward since."""
        cache, self.cache = self.cache, None
        if cache is None:
            raise RuntimeError(f"{type(self).__name__}.backward needs a forward first: each forward serves one backward")
        return cache

    def clear_cache(self):
        """Drop the caches of this layer and all below it, as after a forward that no backward will follow."""
        for layer in self._collect()[0]:
            layer.cache = None

    # ---- the tree ----------------------------------------------------------------------------------------

    def children(self):
        """Pairs (name, child) of the layers and parameters directly below."""
        for name, value in vars(self).items():
            if isinstance(value, (Parameter, Layer)):
                yield name, value
            elif isinstance(value, list | tuple) and value and isinstance(value[0], Layer):
                for i, layer in enumerate(value):
                    yield f"{name}.{i}", layer

    def named_layers(self, path=""):
        """Pairs (path, layer) of this layer and all below it."""
        yield path, self
        for name, child in self.children():
            if isinstance(child, Layer):
                yield from child.named_layers(f"{path}.{name}" if path else name)

    def parameters(self):
        """All parameters of this layer and those below, in the order of the tree."""
        return self._collect()[1]

    def _collect(self, layers=None, parameters=None):
        """Two lists: this layer and all below it, and their parameters; a layer's own come before those of its children."""
        layers, parameters = ([], []) if layers is None else (layers, parameters)
        layers.append(self)
        below = []
        for value in vars(self).values():
            if isinstance(value, Parameter):
                parameters.append(value)
            elif isinstance(value, Layer):
                below.append(value)
            elif isinstance(value, list | tuple) and value and isinstance(value[0], Layer):
                below += value
        for layer in below:
            layer._collect(layers, parameters)
        return layers, parameters

    def name_parameters(self):
        """Name each parameter by its path from here. The constructor of a layer ends with this call."""
        for path, layer in self.named_layers():
            for name, child in layer.children():
                if isinstance(child, Parameter):
                    child.name = f"{path}.{name}" if path else name

    # ---- one vector --------------------------------------------------------------------------------------

    def pack(self, dtype=np.float32, seed=0, values=None):
        """Lay all parameters into one new vector of `dtype`; returns this layer.

        values: a mapping from name to array; a parameter that is not in it keeps its values if it
        has any, and else starts at its initial values for `seed`. Raises TypeError unless dtype is float32 or float64.
        """
        parameters, values, dtype = self.parameters(), values or {}, _weights_dtype(dtype)
        if len({p.name for p in parameters}) < len(parameters):       # a layer that forgot to name them
            self.name_parameters()
        weights = np.empty(sum(p.size for p in parameters), dtype)
        storage, offset = Storage(weights), 0
        for p in parameters:
            value = values.get(p.name)
            if value is None:
                value = p.data if p.has_values else p.initial(seed)
            gradient = p.grad
            p.place(storage, offset)
            p.data = value
            if gradient is not None:
                p.grad = gradient
            offset += p.size
        return self

    def memory_map(self, values, seed=0):
        """Let the matrices of linear maps be the float32 arrays in `values`, {name: array}, where they lie, such as in a file mapped into
        memory; returns this layer, which infers without a copy of them.

        All else is copied: of a Transformer that is little, of a convolutional network nearly everything. So are arrays of another dtype.
        A parameter that is not in `values` starts at its initial values for `seed`. What needs one vector, as training does, gathers it
        first, see `vector`.
        """
        for p in self.parameters():
            value = np.asarray(values[p.name] if p.name in values else p.initial(seed), np.float32)
            if p.decay and value.ndim == 2 and value.flags.aligned:   # read by matrix products only, which take any layout
                p.memory_map(value)
            else:
                p.place(Storage(np.empty(p.size, np.float32)), 0)
                p.data = value
        return self

    def _packed(self):
        """The storage shared by all parameters, and the stretch of it that they fill; packs them if they are scattered."""
        parameters = self.parameters()
        if not parameters:
            return Storage(np.empty(0, np.float32)), slice(0, 0)
        start, offset = parameters[0].offset, parameters[0].offset
        for p in parameters:
            if p.storage is None or p.storage is not parameters[0].storage or p.offset != offset:
                self.pack(self.dtype)
                start, offset = 0, sum(p.size for p in parameters)
                break
            offset += p.size
        return parameters[0].storage, slice(start, offset)

    @property
    def vector(self):
        """All weights as one vector, made now if they are scattered or borrowed: writing to it changes the parameters."""
        storage, stretch = self._packed()
        return storage.weights[stretch]

    @property
    def gradients(self):
        """All gradients as one vector, in the order of `vector`."""
        storage, stretch = self._packed()
        return storage.gradients[stretch]

    @property
    def dtype(self):
        """The dtype of the weights, float32 or float64 (float32 if there are none)."""
        parameters = (child for _, layer in self.named_layers() for _, child in layer.children() if isinstance(child, Parameter))
        first = next(parameters, None)
        return np.dtype(np.float32) if first is None else first.data.dtype

    # ---- copies ------------------------------------------------------------------------------------------

    def _clone(self, of_parameter, **attributes):
        """This tree without caches, each parameter replaced by `of_parameter(it)`; the attributes are set in each of its layers."""
        def clone(value):
            if isinstance(value, Layer):
                return value._clone(of_parameter, **attributes)
            if isinstance(value, Parameter):
                return of_parameter(value)
            return type(value)(map(clone, value)) if type(value) in (list, tuple) else value

        twin = object.__new__(type(self))
        twin.__dict__.update({name: clone(value) for name, value in self.__getstate__().items()}, **attributes)
        return twin

    def _clone_on(self, weights):
        """A clone whose parameters lie one behind the other on the vector `weights`."""
        layers, _ = self._collect()
        if len(set(map(id, layers))) < len(layers):
            raise ValueError(f"{type(self).__name__} holds a layer twice, but a layer has one cache and one place in the tree")
        twin, storage, offset = self._clone(Parameter.unplaced), Storage(weights), 0
        for p in twin.parameters():
            p.place(storage, offset)
            offset += p.size
        return twin

    def replica(self):
        """A layer that shares this one's weights, and has gradients and caches of its own."""
        return self._clone_on(self.vector)

    def inference_view(self, workers=None):
        """A layer that shares this one's parameters and remembers nothing: it only infers, and is made in a moment.

        Its arrays are free as soon as the next layer has read them, so they stay in the core's cache. workers: a `lanes.Workers` whose
        threads share the tokens of each image, of models that can (see `shared.py`); without, the thread that asks does all.
        """
        return self._clone(lambda parameter: parameter, _keeps_cache=False, _workers=workers)

    def astype(self, dtype):
        """A copy with weights of another dtype: float64 to verify, float32 to train. Raises TypeError for any other."""
        return self._clone_on(self.vector.astype(_weights_dtype(dtype)))

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != "_cache"}

    def copy(self):
        """A copy with weights of its own; gradients and caches are not copied."""
        return self.astype(self.dtype)

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()
