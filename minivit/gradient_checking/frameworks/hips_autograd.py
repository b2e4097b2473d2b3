"""autograd: functions of NumPy's arrays that are written with `autograd.numpy`, and its own primitives.

Its arrays are those of NumPy; a box around an array exists only while autograd traces a function. So a function is
recognised by calling it with a box: if a box comes out, it is written for autograd.

autograd's gradient of a complex array is the complex conjugate of ours, as in JAX.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..trees import is_floating, item, leaves, mapped
from .framework import Framework


class HipsAutograd(Framework):
    """Arrays of NumPy in functions that autograd differentiates."""

    module = "autograd"
    dtypes = (np.float64,)

    @property
    def loaded(self) -> Any:
        """The module, if it is autograd by HIPS, and not another one of that name."""
        return super().loaded if hasattr(super().loaded, "make_vjp") else None

    def is_array(self, x: Any) -> bool:
        """Return False: its arrays are those of NumPy."""
        return False

    def to_numpy(self, x: Any) -> np.ndarray:
        """Return a copy."""
        return np.array(x)

    def from_numpy(self, x: np.ndarray, like: Any, dtype: Any) -> Any:
        """Return the array itself, so that a forward that changes it is seen."""
        return x

    def traces(self, function: Any, inputs: Sequence, keywords: Mapping[str, Any]) -> bool:
        """Return whether a box comes out if boxes go in."""
        if self.loaded is None:
            return False
        tracer = importlib.import_module("autograd.tracer")
        node = importlib.import_module("autograd.core").VJPNode.new_root()
        with tracer.trace_stack.new_trace() as level:
            boxed, named = mapped(lambda _, leaf: tracer.new_box(leaf, level, node) if is_floating(leaf) else leaf,
                                  (list(inputs), dict(keywords)))
            try:
                y = function(*boxed, **named)
            except Exception:
                return False
            return any(tracer.isbox(leaf) for _, leaf in leaves(y))

    def vjp(self, function: Callable, names: Sequence[str], arrays: Sequence, dy: Mapping[tuple, Any]) -> list:
        """Return the gradients by autograd.make_vjp, one array after the other."""
        make_vjp = importlib.import_module("autograd.core").make_vjp
        as_tuple = importlib.import_module("autograd.builtins").tuple

        def gradient(i):
            def results(x):
                y = function([*arrays[:i], x, *arrays[i + 1:]])
                return as_tuple([item(y, keys) for keys in dy])

            return make_vjp(results, arrays[i])[0](tuple(np.conj(g) for g in dy.values()))

        return [np.conj(gradient(i)) for i in range(len(arrays))]
