"""The recorder: runs every kernel of a step and writes it down. Read `tracked.py` before."""

import weakref
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from numba import types
from numpy.typing import DTypeLike

from ..kernel import constant
from . import loops
from .machine import words_of
from .memory import Memory
from .tracked import NotRecordable, Tracked, plain


class Recorder:
    """Writes down the kernels that are called, with their arguments.

    Parameters
    ----------
    memory : Memory
        Where new arrays get their memory.
    """

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        memory.reset()
        self._arrays = 0                                              # how many were made
        self._identities: list[list] = []                             # of each call: its arguments, wherever they lie
        self.calls: list[tuple[Any, tuple, list[int]]] = []           # function, types, row: so arrays are freed
        self.uses: list[tuple[int, int, int]] = []                    # of memory: call, first address, end
        self.constants: list[np.ndarray] = []                         # kept, because rows hold addresses only

    def forget_calls(self) -> None:
        """Free what only a comparison or a table needs. The constants stay: a table holds only their addresses."""
        self.calls, self.uses, self._identities = [], [], []

    def same_calls(self, other: "Recorder") -> bool:
        """Whether another recording made the same calls: the same functions of the same arrays and numbers."""
        return [call[:2] for call in self.calls] == [call[:2] for call in other.calls] and all(
                all(map(_same, ours, theirs)) for ours, theirs in zip(self._identities, other._identities, strict=True))

    def empty(self, shape: int | Sequence[int], dtype: DTypeLike) -> Tracked:
        """Return a new array. As soon as nobody refers to it, its memory may be used again."""
        shape = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        block, place = self.memory.take(size)
        array = np.ndarray.__new__(Tracked, shape, dtype, block)
        array.number, self._arrays = self._arrays, self._arrays + 1
        weakref.finalize(array, self.memory.give_back, *place).atexit = False
        return array

    def call(self, compiled: Any, arguments: Sequence, by_address: bool = False, of: Sequence | None = None) -> None:
        """Run a compiled function and write it down.

        Parameters
        ----------
        compiled : Numba dispatcher
        arguments : sequence
            Arrays and numbers.
        by_address : bool
            Whether the function takes the addresses of arrays, as integers.
        of : sequence, optional
            The arrays of which the arguments are views, if they are.

        Raises
        ------
        NotRecordable
            If it returns something, or takes an array that is neither tracked nor read-only.
        """
        for x in arguments:
            if isinstance(x, np.ndarray):
                self._known(x, compiled.py_func.__name__)
        values = [x.__array_interface__["data"][0] if by_address and isinstance(x, np.ndarray) else plain(x)
                  for x in arguments]
        kinds = tuple(numba.typeof(x) for x in values)
        if not all(isinstance(kind, types.Array | types.Number | types.Boolean) for kind in kinds):
            raise NotRecordable(f"{compiled.py_func.__name__} takes something else than arrays and numbers")
        compiled.compile(kinds)
        if compiled.overloads[kinds].signature.return_type != types.none:
            raise NotRecordable(f"{compiled.py_func.__name__} returns a result instead of writing it to an array")
        compiled(*values)
        row = [word for value, kind in zip(values, kinds, strict=True) for word in words_of(value, kind)]
        self.uses += [(len(self.calls), *_extent(x)) for x in of or arguments if isinstance(x, Tracked) and x.size]
        self.calls.append((compiled, kinds, row))
        self._identities.append([_identity(x) for x in of or arguments])

    def elementwise(self, ufunc: Any, inputs: Sequence, out: Any) -> Any:
        """Compute a function of NumPy of one or two arrays, and write it down."""
        if ufunc not in loops.LOOPS:
            raise NotRecordable(f"np.{ufunc.__name__} of an array")
        dtype = np.result_type(*map(plain, inputs))
        arrays = [self._operand(x, dtype, ufunc) for x in inputs]
        if out is None:
            out = self.empty(np.broadcast_shapes(*(x.shape for x in arrays)), dtype)
        self._loop(loops.LOOPS[ufunc], out, arrays)
        return out

    def copy(self, out: Any, x: Any) -> None:
        """Copy x to out, and write it down. Copying an array to itself is nothing."""
        if isinstance(x, np.ndarray) and (_place(x) == _place(out) and x.dtype == out.dtype):
            return
        if not isinstance(x, np.ndarray):
            x = constant(np.array(x, out.dtype))
        self._loop(loops.copy, out, [x])

    def _loop(self, loop, out, arrays):
        """Call a kernel of `loops`."""
        if not isinstance(out, Tracked):
            raise NotRecordable("a result is written to an array that is not part of the step")
        arrays = [out, *arrays]
        table = loops.layout([np.broadcast_to(plain(x), out.shape) for x in arrays])
        if table is None or (table[1:] < 0).any():
            raise NotRecordable("an array with more axes than a record can follow, or one that is read backwards")
        if any(x is not out and np.may_share_memory(plain(x), plain(out)) and _place(x) != _place(out) for x in arrays):
            raise NotRecordable("an array that is copied to a part of itself")
        if out.size:
            self.call(loop.compiled, [*map(loops.as_vector, arrays), table], of=[*arrays, table])

    def _operand(self, x, dtype, ufunc):
        """Return an input of an elementwise function as an array of the result's dtype."""
        if not isinstance(x, np.ndarray):
            return constant(np.array(x, dtype))
        self._known(x, f"np.{ufunc.__name__}")
        return x if x.dtype == dtype else x.view(Tracked).astype(dtype)

    def _known(self, x, name):
        """Raise NotRecordable unless an array is tracked, or never changes."""
        if isinstance(x, Tracked):
            return
        if x.flags.writeable:
            raise NotRecordable(f"{name} takes an array that the record knows nothing of")
        self.constants.append(x)


def _identity(x):
    """Return what tells an argument from others: a number, a table, or which part of which array of the recording."""
    if not isinstance(x, Tracked):
        return x
    owner = x.base if isinstance(x.base, Tracked) else x
    address, shape, strides = _place(x)
    return (address, shape, strides) if owner.number is None else (
        owner.number, address - _place(owner)[0], shape, strides)


def _same(a, b):
    """Whether two identities are equal; two tables are, if they have the same content."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a is b or np.array_equal(a, b)
    return type(a) is type(b) and a == b


def _extent(x):
    """Return the addresses between which all numbers of an array lie."""
    steps = [(length - 1) * step for length, step in zip(x.shape, x.strides, strict=True)]
    start = x.__array_interface__["data"][0]
    return start + sum(min(step, 0) for step in steps), start + sum(max(step, 0) for step in steps) + x.itemsize


def _place(x):
    """Return address, shape and strides: equal for two views of the same numbers."""
    return x.__array_interface__["data"][0], x.shape, x.strides
