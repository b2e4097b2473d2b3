"""Calls by address: the compiled loop that replays a record, and how it passes arguments to a kernel.

A record has a row of words for each call: the address of every array, its shape and its strides, and every number. All
kernels whose arguments have the same types share an *adapter*, a compiled function that reads such a row and calls the
kernel. So the loop calls functions of one kind only: adapter(address of the kernel, address of the row).
"""

import hashlib
from collections.abc import Sequence
from functools import cache, partial
from types import FunctionType
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic

from ..kernel import kernel, stored

_WORD = ir.IntType(64)


def words_of(value: Any, kind: Any) -> list[int]:
    """Return what a row holds for an argument of the Numba type `kind`."""
    if isinstance(kind, types.Array):
        return [value.__array_interface__["data"][0], *value.shape, *value.strides]
    number = np.zeros(8, np.uint8)
    raw = np.array(value, numba.np.numpy_support.as_dtype(kind))
    number[:raw.itemsize] = raw.reshape(1).view(np.uint8)
    return [int(number.view(np.int64)[0])]


@cache
def adapter(kinds: tuple) -> Any:
    """Return the adapter for arguments of these Numba types; its `address` is what the replay needs."""
    # Numba stores compiled functions by name, so the name tells the types.
    name = f"adapt_{hashlib.sha256(repr(kinds).encode()).hexdigest()[:16]}"
    function = FunctionType(_adapt.__code__, globals() | {"_call": _caller(kinds)}, name)
    function.__qualname__ = name
    return stored(partial(numba.cfunc, types.int32(types.int64, types.int64)), function)


_call: Any = None                                                     # `adapter` puts an intrinsic in its place


def _adapt(kernel, row):
    return _call(kernel, row)


def address_of(compiled: Any, kinds: tuple) -> int:
    """Return the address of a compiled function for arguments of these Numba types."""
    result = compiled.overloads[kinds]
    if result.signature.return_type != types.none:
        raise TypeError(f"{compiled.py_func.__name__} returns a {result.signature.return_type}")
    return result.library.get_pointer_to_function(result.fndesc.llvm_func_name)


def _caller(kinds):
    """Return an intrinsic that reads a row of arguments and calls a kernel with them. It returns 0, or an error."""
    @intrinsic
    def call(context: Any, address: Any, row: Any) -> Any:
        def generate(context, builder, signature, arguments):
            address, row = arguments
            words = _Words(builder, builder.inttoptr(row, _WORD.as_pointer()))
            values = [_read_array(context, builder, words, kind) if isinstance(kind, types.Array)
                      else _read_number(context, builder, words, kind) for kind in kinds]
            function = context.call_conv.get_function_type(types.none, kinds)
            result, error = (cgutils.alloca_once(builder, kind.pointee) for kind in function.args[:2])
            return builder.call(builder.inttoptr(address, function.as_pointer()),
                                [result, error, *context.get_arg_packer(kinds).as_arguments(builder, values)])

        return types.int32(types.int64, types.int64), generate

    return call


class _Words:
    """Reads a row word by word."""

    def __init__(self, builder, pointer):
        self.builder, self.pointer, self.at = builder, pointer, 0

    def next(self):
        """Return the address of the next word."""
        self.at += 1
        return cgutils.gep_inbounds(self.builder, self.pointer, self.at - 1)

    def load(self, count):
        """Return the next words."""
        return [self.builder.load(self.next()) for _ in range(count)]


def _read_array(context, builder, words, kind):
    """Return an array, in Numba's form, that does not own its memory."""
    array = context.make_array(kind)(context, builder)
    (data,), shape, strides = words.load(1), words.load(kind.ndim), words.load(kind.ndim)
    size = _WORD(1)
    for length in shape:
        size = builder.mul(size, length)
    array.data, array.nitems = builder.inttoptr(data, array.data.type), size
    array.itemsize = _WORD(context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    array.shape, array.strides = (cgutils.pack_array(builder, part, _WORD) for part in (shape, strides))
    array.meminfo, array.parent = (cgutils.get_null_value(part.type) for part in (array.meminfo, array.parent))
    return array._getvalue()


def _read_number(context, builder, words, kind):
    """Return a number in Numba's form."""
    model = context.data_model_manager[kind]
    return model.from_data(builder, builder.load(builder.bitcast(words.next(), model.get_data_type().as_pointer())))


def _entering(context: Any, adapter: Any, address: Any, row: Any) -> Any:
    """Call adapter(address, row)."""
    def generate(context, builder, signature, arguments):
        adapter, address, row = arguments
        function = ir.FunctionType(ir.IntType(32), [_WORD, _WORD])
        return builder.call(builder.inttoptr(adapter, function.as_pointer()), [address, row])

    return types.int32(types.int64, types.int64, types.int64), generate


_enter: Any = intrinsic(_entering)


# Some processors, such as ARM, show the writes of a thread to other threads in another order. The two instructions
# below forbid that: a thread that loads a number also sees everything that was written before the number was stored.


def _storing(context: Any, address: Any, number: Any) -> Any:
    """Write a number, after all writes before."""
    def generate(context, builder, signature, arguments):
        address, number = arguments
        builder.store_atomic(number, builder.inttoptr(address, _WORD.as_pointer()), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


def _loading(context: Any, address: Any) -> Any:
    """Read a number, before all reads after."""
    def generate(context, builder, signature, arguments):
        return builder.load_atomic(builder.inttoptr(arguments[0], _WORD.as_pointer()), "acquire", 8)

    return types.int64(types.int64), generate


_store: Any = intrinsic(_storing)
_load: Any = intrinsic(_loading)


@kernel
def run(table, done):
    """Replay a table (calls, 3) of addresses: adapter, kernel, row. Return the first call that failed, or -1.

    done: (1,) is always the number of calls that are complete. Other threads may read it with `calls_done`.
    """
    for i in range(table.shape[0]):
        if _enter(table[i, 0], table[i, 1], table[i, 2]) != 0:
            return i
        _store(done.ctypes.data, i + 1)
    return -1


@kernel
def calls_done(done):
    """Return how many calls of `run` are complete, in any thread. It sees what they have written."""
    return _load(done.ctypes.data)


class Table:
    """The calls of a record, ready to replay.

    Parameters
    ----------
    calls : sequence of (compiled, kinds, row)
        Each compiled function, the Numba types of its arguments, and its row.
    """

    def __init__(self, calls: Sequence[tuple[Any, tuple, list[int]]]) -> None:
        rows = [row for _, _, row in calls]
        self._words = np.array([word for row in rows for word in row], np.int64)
        starts = np.cumsum([0, *map(len, rows)])[:-1]
        addresses = self._words.ctypes.data + 8 * starts
        self.names = [f"{compiled.py_func.__module__}.{compiled.py_func.__qualname__}" for compiled, _, _ in calls]
        with global_compiler_lock:                                    # as Numba holds it whenever it asks LLVM
            functions = [(adapter(kinds).address, address_of(compiled, kinds)) for compiled, kinds, _ in calls]
        self._table = np.array([(*pair, row) for pair, row in zip(functions, addresses, strict=True)],
                               np.int64).reshape(-1, 3)

    def run(self, done: np.ndarray) -> None:
        """Call all kernels. Raise RuntimeError if one fails. done: see `run` above."""
        failed = run(self._table, done)
        if failed >= 0:
            raise RuntimeError(f"a recorded step failed in {self.names[failed]}")
