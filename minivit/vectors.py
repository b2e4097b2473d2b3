"""Vector instructions for kernels.

A processor computes with *vector registers*: V numbers at once, 16 float32 with AVX-512, 8 with AVX2. LLVM, the
compiler behind Numba, turns many loops into vector instructions by itself. But a loop in Python cannot say that numbers
stay in registers until it ends, or that registers exchange numbers. A kernel that needs this calls an *intrinsic*, a
function that writes LLVM's instructions. An intrinsic of this project takes one tuple of integers: addresses, and
distances and counts in float32.

    @intrinsic
    def double(write, integers):                        double((address,)) in a kernel
        place = write.pointer(integers[0])
        x = write.load(place)
        write.store(write.add(x, x), place)

Read before: `kernel.py`. Source: the LLVM language reference.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic as numba_intrinsic

_INDEX, _SIZE, _FLOAT = ir.IntType(32), ir.IntType(64), ir.FloatType()


def _numbers_of_a_vector() -> int:
    """Return V; 0 if this processor has no vectors that we know, or nothing is compiled."""
    config: Any = numba.config
    features = "" if config.DISABLE_JIT else config.CPU_FEATURES or get_host_cpu_features()
    known = {feature[1:] for feature in features.split(",") if feature[:1] == "+"}
    return 16 if "avx512f" in known else 8 if {"avx2", "fma"} <= known else 0


V = _numbers_of_a_vector()


def intrinsic(generate: Callable, result: Any = types.none) -> Any:
    """Return an intrinsic of a tuple of integers, which writes its instructions with generate(Writer, integers)."""
    def function(context: Any, integers: Any) -> Any:
        def call(context, builder, signature, arguments):
            value = generate(Writer(builder), cgutils.unpack_tuple(builder, arguments[0]))
            return context.get_dummy_value() if value is None else value

        return result(integers), call

    return numba_intrinsic(function)


class Writer:
    """Writes LLVM's instructions for vectors of V float32.

    Offsets are in float32. They are integers of LLVM, as `size` makes them, and several are added: load(pointer, a, b)
    loads from a + b on.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
    """

    vector = ir.VectorType(_FLOAT, max(V, 1))

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def size(self, number: int) -> Any:
        """Return a constant."""
        return _SIZE(number)

    def pointer(self, address: Any, *offsets: Any) -> Any:
        """Return a pointer to the float32 at an offset from an address."""
        return self._move(self.builder.inttoptr(address, _FLOAT.as_pointer()), offsets)

    def _move(self, pointer, offsets):
        for offset in offsets:
            pointer = self.builder.gep(pointer, [offset])
        return pointer

    def _place(self, pointer, offsets):
        return self.builder.bitcast(self._move(pointer, offsets), self.vector.as_pointer())

    def times(self, number: Any, count: Any) -> Any:
        """Return the product of two integers."""
        return self.builder.mul(number, _SIZE(count) if isinstance(count, int) else count)

    def load(self, pointer: Any, *offsets: Any) -> Any:
        """Return the vector at an offset."""
        return self.builder.load(self._place(pointer, offsets), align=4)

    def store(self, value: Any, pointer: Any, *offsets: Any) -> None:
        """Store a vector at an offset."""
        self.builder.store(value, self._place(pointer, offsets), align=4)

    def integer(self, address: Any, index: int) -> Any:
        """Return one of the int64 at an address."""
        table = self.builder.inttoptr(address, _SIZE.as_pointer())
        return self.builder.load(self.builder.gep(table, [_SIZE(index)]))

    def repeat(self, pointer: Any, *offsets: Any) -> Any:
        """Return a vector of V times the number at an offset."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        number = self.builder.load(self._move(pointer, offsets))
        return self.shuffle(self.builder.insert_element(undefined, number, _INDEX(0)), undefined, [0] * V)

    def shuffle(self, x: Any, y: Any, places: Sequence[int]) -> Any:
        """Return the numbers of x, y, one after the other, at some places."""
        return self.builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(_INDEX, V), places))

    def constant(self, number: float) -> Any:
        """Return a vector of V times a number."""
        return ir.Constant(self.vector, [number] * V)

    def add(self, x: Any, y: Any) -> Any:
        """Return x + y."""
        return self.builder.fadd(x, y)

    def subtract(self, x: Any, y: Any) -> Any:
        """Return x - y."""
        return self.builder.fsub(x, y)

    def multiply(self, x: Any, y: Any) -> Any:
        """Return x y, number by number."""
        return self.builder.fmul(x, y)

    def divide(self, x: Any, y: Any) -> Any:
        """Return x / y, number by number."""
        return self.builder.fdiv(x, y)

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        """Return x y + z, rounded once."""
        function = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(self.vector, 3 * [self.vector]),
                                                  f"llvm.fma.v{V}f32")
        return self.builder.call(function, [x, y, z])

    def larger(self, x: Any, y: Any) -> Any:
        """Return the larger number at each place; y if one of them is NaN."""
        return self.builder.select(self.builder.fcmp_ordered(">", x, y), x, y)

    def loop(self, count: Any, starts: Sequence[Any], step: Callable) -> list[Any]:
        """Write a loop for k = 0, ..., count - 1, at least once: values = step(k, *values). Return the last values."""
        builder, before = self.builder, self.builder.block
        inside, after = builder.append_basic_block("loop"), builder.append_basic_block("after")
        builder.branch(inside)
        builder.position_at_end(inside)
        k, *values = (builder.phi(kind) for kind in (_SIZE, *(start.type for start in starts)))
        results = step(k, *values)
        following = builder.add(k, _SIZE(1))
        for phi, start, result in zip((k, *values), (_SIZE(0), *starts), (following, *results), strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(result, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, count), inside, after)
        builder.position_at_end(after)
        return results

    def transpose(self, rows: Sequence[Any]) -> list[Any]:
        """Return the columns of V vectors as vectors.

        A matrix of four blocks is transposed by exchanging the two blocks off the diagonal, and then transposing each
        block. In registers, both halves of the rows exchange at once: blocks of V / 2, then of V / 4, ..., 1.
        """
        rows, block = list(rows), V // 2
        while block:
            upper = [j + V - block if j & block else j for j in range(V)]
            lower = [j + V if j & block else j + block for j in range(V)]
            for i in range(V):
                if not i & block:
                    pair = rows[i], rows[i + block]
                    rows[i], rows[i + block] = self.shuffle(*pair, upper), self.shuffle(*pair, lower)
            block //= 2
        return rows
