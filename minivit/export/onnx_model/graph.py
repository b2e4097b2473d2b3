"""An ONNX graph under construction: nodes and initializers get names from the layers that they come from.

Source of the operators: https://onnx.ai/onnx/operators/, opset 17.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from ...layers import Parameter

OPSET = 17        # the first with LayerNormalization; onnxruntime 1.12 and onnxruntime-web run it
IR_VERSION = 8    # of the file format: the one that belongs to this opset


class Graph:
    """The nodes and initializers of a graph.

    Parameters
    ----------
    writers : dict
        {class of layer: function (graph, layer, name of x) -> name of y}, which adds the nodes of a layer.
    paths : dict
        {id of a layer: its path in the model}, for the names of nodes.
    """

    def __init__(self, writers: dict[type, Callable[..., str]], paths: dict[int, str]) -> None:
        self.nodes: list[Any] = []
        self.attention: list[Any] = []                                # see `attention.py`
        self._writers, self._paths, self._path = writers, paths, ""
        self._initializers: dict[str, Any] = {}
        self._known: dict[tuple, str] = {}                            # names of equal constants
        self._counts: dict[str, int] = {}

    @property
    def initializers(self) -> list[Any]:
        """The constant arrays, as ONNX tensors."""
        return list(self._initializers.values())

    def layer(self, layer: Any, x: str, *more: int) -> str:
        """Add the nodes of a layer to the input named x, and return the name of its output.

        more: arguments of the layer's function. Raises ValueError for a layer that has no function.
        """
        write = self._writers.get(type(layer))
        path = self._paths.get(id(layer), self._path)
        if write is None:
            raise ValueError(f"{type(layer).__name__} cannot be expressed in ONNX here: {path or 'this model'} must be "
                             "made of the layers and models of minivit")
        with self._inside(path):
            return write(self, layer, x, *more)

    @contextmanager
    def _inside(self, path: str) -> Iterator[None]:
        """Name nodes after a path."""
        outer, self._path = self._path, path
        try:
            yield
        finally:
            self._path = outer

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and return the name of the output."""
        [name] = self.split(operator, *inputs, outputs=1, **attributes)
        return name

    def split(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs, and return their names."""
        base = f"{self._path}/{operator}" if self._path else operator
        count = self._counts[base] = self._counts.get(base, 0) + 1
        name = base if count == 1 else f"{base}_{count}"
        names = [name] if outputs == 1 else [f"{name}:{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=name, **attributes))
        return names

    def weight(self, parameter: Parameter) -> str:
        """Return the name of a learned array, which is its path in the model."""
        return self.array(parameter.data, parameter.name)

    def array(self, values: Any, name: str) -> str:
        """Add a constant array of float32 under a name."""
        self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name)
        return name

    def number(self, value: float) -> str:
        """Return the name of a constant number, float32."""
        return self._constant(np.array(value, np.float32), f"{value:.9g}")

    def integers(self, values: int | Sequence[int] | np.ndarray) -> str:
        """Return the name of constant integers, such as a shape."""
        array = np.array(values, np.int64)
        numbers = ",".join(map(str, array.ravel())) if array.size <= 8 else f"{len(self._known)}"
        return self._constant(array, f"int64[{numbers}]" if array.ndim else f"int64 {numbers}")

    def shared(self, values: np.ndarray, name: str) -> str:
        """Return the name of a constant array of float32, which several layers may share."""
        return self._constant(np.ascontiguousarray(values, np.float32), f"{name}_{len(self._known)}")

    def _constant(self, array, name):
        """Return the name of a constant, which equal constants share."""
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._known:
            self._known[key] = f"constant/{name}"
            self._initializers[self._known[key]] = numpy_helper.from_array(array, self._known[key])
        return self._known[key]

    def reshape(self, x: str, *shape: int) -> str:
        """Add a Reshape. 0 keeps an axis, and -1 takes what is left."""
        return self.node("Reshape", x, self.integers(shape))

    def transpose(self, x: str, *axes: int) -> str:
        """Add a Transpose."""
        return self.node("Transpose", x, perm=axes)

    def first(self, x: str, count: int, axis: int = 1) -> str:
        """Add a Slice: the first `count` entries of an axis."""
        return self.node("Slice", x, self.integers([0]), self.integers([count]), self.integers([axis]))

    def take(self, x: str, places: int | np.ndarray, axis: int) -> str:
        """Add a Gather: entries of an axis by their places; one place removes the axis."""
        return self.node("Gather", x, self.integers(places), axis=axis)
