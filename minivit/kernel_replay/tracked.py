"""Tracked arrays: they tell the recorder what is done to them.

While a step is recorded, its images, weights, random numbers and all arrays computed from them are `Tracked`. Views of
a tracked array are tracked, too. What NumPy does with one arrives here:

    x + y, x *= y                 `__array_ufunc__`       recorded as a loop (see `loops.py`)
    x[...] = y, x.copy()          `__setitem__`, `copy`   recorded as a copy
    np.stack, np.empty_like, ...  `__array_function__`    made of the above
    anything else                                         NotRecordable

"Anything else" includes reading a number, as in `float(x)` or `if x.any()`: a record would keep the number of its own
step. Only `np.asarray(x)` escapes, which asks nobody; a layer that may be replayed must not use it. Outside of a
recording, tracked arrays behave as other arrays do.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernel import active

_VIEWS = {np.shape, np.ndim, np.size, np.reshape, np.transpose, np.swapaxes, np.moveaxis, np.expand_dims, np.squeeze}
_SAFE = {                                                             # views, and what the methods below handle
    "__array_finalize__", "__array_function__", "__array_interface__", "__array_priority__", "__array_struct__",
    "__array_ufunc__", "__class__", "__delattr__", "__dir__", "__doc__", "__getattribute__", "__getitem__", "__hash__",
    "__init__", "__init_subclass__", "__len__", "__new__", "__setattr__", "__setitem__", "__setstate__", "__sizeof__",
    "__subclasshook__", "__array_wrap__", "__buffer__", "__class_getitem__", "__add__", "__radd__", "__iadd__",
    "__iter__", "__sub__", "__rsub__", "__isub__", "__mul__", "__rmul__", "__imul__", "__repr__", "__str__", "T",
    "base", "ctypes", "data", "device", "dtype", "flags", "itemsize", "mT", "nbytes", "ndim", "shape", "size",
    "strides", "astype", "copy", "fill", "reshape", "squeeze", "swapaxes", "transpose", "view", "__lt__", "__le__",
    "__eq__", "__ne__", "__gt__", "__ge__", "__truediv__", "__rtruediv__", "__matmul__", "__pow__", "__neg__",
    "setflags",
}


class NotRecordable(Exception):
    """A step does something that cannot be recorded. It then runs as written."""


class Tracked(np.ndarray):
    """An array whose changes are recorded. `number` counts the arrays that a recorder made; views have none."""

    number: int | None = None

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: tuple = (), **options: Any) -> Any:
        if active.recorder is not None:
            if method != "__call__" or options:
                raise NotRecordable(f"np.{ufunc.__name__}.{method} of an array")
            return active.recorder.elementwise(ufunc, inputs, out[0] if out else None)
        if out:
            options["out"] = tuple(map(plain, out))
        result = getattr(ufunc, method)(*map(plain, inputs), **options)
        return out[0] if out else result

    def __array_function__(self, function: Callable, types: Any, arguments: Any, options: Any) -> Any:
        if active.recorder is None or function in _VIEWS:
            return super().__array_function__(function, types, arguments, options)
        if function not in _FUNCTIONS:
            raise NotRecordable(f"np.{function.__name__} of an array")
        return _FUNCTIONS[function](*arguments, **options)

    def __getitem__(self, key: Any) -> Any:
        if active.recorder is None:
            return super().__getitem__(key)
        if isinstance(key, tuple) and not key:
            return self
        result = super().__getitem__(key)
        if not isinstance(result, Tracked) or not (np.may_share_memory(plain(result), plain(self)) or not result.size):
            raise NotRecordable("reading a number of an array, or picking some by an index")
        return result

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __setitem__(self, key: Any, value: Any) -> None:
        if active.recorder is None:
            super().__setitem__(key, plain(value))
        else:
            active.recorder.copy(self if key is Ellipsis else self[key], value)

    def copy(self, order: Any = "C") -> Any:
        """Return a copy."""
        if active.recorder is None:
            return super().copy(order)
        result = active.recorder.empty(self.shape, self.dtype)
        active.recorder.copy(result, self)
        return result

    def astype(self, dtype: Any, order: Any = "K", casting: Any = "unsafe", subok: bool = True,  # type: ignore
               copy: Any = True) -> Any:
        """Return an array of another dtype."""
        if active.recorder is None:
            return super().astype(dtype, order, casting, subok, copy)
        if self.dtype == dtype and not copy:
            return self
        result = active.recorder.empty(self.shape, dtype)
        active.recorder.copy(result, self)
        return result

    def fill(self, value: Any) -> None:
        """Set all numbers to a value."""
        self[...] = value

    def reshape(self, *shape: Any, **options: Any) -> Any:
        """Return a view in another shape, or a copy where no view is possible."""
        result = super().reshape(*shape, **options)
        if active.recorder is None or self.size == 0 or np.may_share_memory(plain(result), plain(self)):
            return result
        if options:
            raise NotRecordable("reshape with options of an array that must be copied")
        return self.copy().reshape(*shape)


def plain(x: Any) -> Any:
    """Return a tracked array as an ordinary one; anything else as it is."""
    return x.view(np.ndarray) if isinstance(x, Tracked) else x


def _refuse(name):
    """Return a method that can be used outside of a recording only."""
    original = getattr(np.ndarray, name)

    def method(self, *arguments, **options):
        if active.recorder is not None:
            raise NotRecordable(f"{name} of an array")
        return original(plain(self), *arguments, **options)

    return method


def _refuse_reading(name):
    """Return an attribute that can be read outside of a recording only."""
    def read(self):
        if active.recorder is not None:
            raise NotRecordable(f"{name} of an array")
        return getattr(plain(self), name)

    return property(read)


for _name in set(dir(np.ndarray)) - _SAFE - set(dir(object)):
    _make = _refuse if callable(getattr(np.ndarray, _name)) else _refuse_reading
    setattr(Tracked, _name, _make(_name))


# ---- functions of NumPy that ops and layers use ----------------------------------------------------------------------


def _empty_like(x, dtype=None):
    return active.recorder.empty(x.shape, x.dtype if dtype is None else dtype)


def _zeros_like(x, dtype=None):
    result = _empty_like(x, dtype)
    result[...] = 0
    return result


def _copyto(out, x):
    active.recorder.copy(out, x)


def _stack(arrays, axis=0):
    return _concatenate([np.expand_dims(x, axis) for x in arrays], axis)


def _concatenate(arrays, axis=0):
    shape = list(arrays[0].shape)
    axis %= len(shape)
    shape[axis] = sum(x.shape[axis] for x in arrays)
    result, start = active.recorder.empty(shape, arrays[0].dtype), 0
    for x in arrays:
        result[(slice(None),) * axis + (slice(start, start + x.shape[axis]),)] = x
        start += x.shape[axis]
    return result


_FUNCTIONS: dict[Callable, Callable] = {
    np.empty_like: _empty_like, np.zeros_like: _zeros_like, np.copyto: _copyto, np.stack: _stack,
    np.concatenate: _concatenate,
}
