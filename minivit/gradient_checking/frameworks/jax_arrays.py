"""JAX: functions of arrays, with `custom_vjp` and `custom_jvp`, in float64 whatever the session's setting is.

`jax.enable_x64` is a context, so float64 lasts for one call. JAX's gradient of a complex array is the complex conjugate
of ours, and so is its upstream gradient.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ..trees import item
from .framework import Framework


class Jax(Framework):
    """Arrays of JAX."""

    module = "jax"

    def is_array(self, x: Any) -> bool:
        """Return whether x is an array of JAX."""
        return self.loaded is not None and isinstance(x, self.loaded.Array)

    def to_numpy(self, x: Any) -> np.ndarray | None:
        """Return a copy; half precision becomes float32. None for a key of random numbers."""
        if self.loaded.dtypes.issubdtype(x.dtype, self.loaded.dtypes.prng_key):
            return None
        if x.dtype == self.loaded.dtypes.float0:                      # the gradient of integers
            return None
        array = np.array(x)
        is_half = self.loaded.numpy.issubdtype(x.dtype, np.floating) and array.dtype.itemsize < 4
        return array.astype(np.float32) if is_half else array

    def from_numpy(self, x: np.ndarray, like: Any, dtype: Any) -> Any:
        """Return an array of JAX."""
        if dtype is not None:
            x = x.astype(np.result_type(dtype, np.complex64) if x.dtype.kind == "c" else dtype)
        return self.loaded.numpy.array(x)

    def owns(self, target: Any) -> bool:
        """Return whether the target is a function that JAX has transformed: jit, custom_vjp or custom_jvp."""
        return type(target).__module__.partition(".")[0] in ("jax", "jaxlib")

    def calling(self, dtype: Any) -> AbstractContextManager:
        """Return a context in which arrays may be float64."""
        enable = getattr(self.loaded, "enable_x64", None)             # it was experimental before JAX 0.8
        if enable is None:
            from importlib import import_module
            enable = import_module("jax.experimental").enable_x64
        return contextlib.nullcontext() if dtype is not np.float64 else enable(True)

    def vjp(self, function: Callable, names: Sequence[str], arrays: Sequence, dy: Mapping[tuple, Any]) -> list:
        """Return the gradients by jax.vjp."""
        def results(*arrays):
            y = function(list(arrays))
            return [item(y, keys) for keys in dy]

        conjugate = self.loaded.numpy.conj
        _, pull = self.loaded.vjp(results, *arrays)
        return [conjugate(g) for g in pull([conjugate(g) for g in dy.values()])]
