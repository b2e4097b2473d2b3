"""Register tiles: how a matrix product comes near the limit of a processor.

    C = S + A B                 A (M, K)   B (K, N)   C (M, N)   S (M, N) or one row for all, where the sums start

A processor multiplies and adds with *vector registers*: V numbers at once, 16 float32 with AVX-512, 8 with AVX2. Such
an operation is called a fused multiply-add, FMA. A core starts one or two in each cycle, but each takes four or five
cycles. So it is busy only if about eight sums grow independently of each other. And it loads only one or two vectors in
a cycle, so each number that is loaded must be used several times. Both are reached by a *tile* of C, R rows and two
vectors wide, that stays in registers until its sums are complete:

    for k in 0..K-1:
        b0, b1 = B[k, n : n + V], B[k, n + V : n + 2 V]               two loads, used by R rows
        for r in 0..R-1:
            c_r0, c_r1 = c_r0 + A[m + r, k] b0, c_r1 + A[m + r, k] b1    one load, used by two vectors

With R = 14 that is 28 FMAs for 16 loads; 28 of the 32 registers hold C. (AVX2 has 16 registers, and R is 6.)

B is read again for every tile of rows, so what is read must stay in the first cache (L1). `multiply` cuts B into
*panels* of at most 256 rows and 2 V columns, 32 kB, and computes all tiles of a panel's columns before the next. A and
B are read where they lie. The numbers of A are loaded one by one, so A may be transposed, too. But B is loaded in
vectors. So a panel of a transposed B is first copied to a small array, and transposed on the way, V x V numbers at a
time in registers. A panel of fewer than 2 V columns is copied, too, with zeros added.

If K is larger than 256, the sums of the second panel start where those of the first ended: S is C. S is also how a bias
is added for nothing.

    order of the sum: k = 0, 1, ..., K-1, one rounding for each FMA

So a row of C has the same bits whatever the other rows are, and however many there are. A BLAS does not promise this.

BLAS does the same in more steps: it copies parts of A and of B, and it cuts for the second and third cache. That pays
for large matrices only. The compiler cannot be told in Python to keep a tile in registers, so `_tile` writes the
instructions of LLVM, the compiler behind Numba.

Read before: `kernel.py`. Source: Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008.
"""

from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numba
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from ..kernel import kernel

_INDEX, _SIZE, _FLOAT = ir.IntType(32), ir.IntType(64), ir.FloatType()
DEPTH = 256                                                           # rows of a panel


def _registers() -> tuple[int, int]:
    """Return V and R; (0, 0) if this processor has no vectors that we know, or nothing is compiled."""
    config: Any = numba.config
    features = {} if config.DISABLE_JIT else llvmlite.binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 16, 14
    return (8, 6) if features.get("avx2") and features.get("fma") else (0, 0)


V, R = _registers()
W = 2 * V                                                             # columns of a panel and of a tile
SCRATCH = (DEPTH + R + 1) * W + 16                                    # float32; 16: `multiply` aligns it to 64 bytes


class _Writer:
    """Writes LLVM's instructions for vectors of V float32.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
    """

    vector = ir.VectorType(_FLOAT, max(V, 1))

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self._fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(self.vector, 3 * [self.vector]),
                                                   f"llvm.fma.v{V}f32")

    def pointer(self, address: Any) -> Any:
        """Return a pointer to the float32 at an address."""
        return self.builder.inttoptr(address, _FLOAT.as_pointer())

    def _vector(self, pointer, *offsets):
        place = self.builder.gep(pointer, [self.sum(*offsets)])
        return self.builder.bitcast(place, self.vector.as_pointer())

    def sum(self, first: Any, *others: Any) -> Any:
        """Return the sum of some integers."""
        for other in others:
            first = self.builder.add(first, other)
        return first

    def times(self, number: Any, count: int) -> Any:
        """Return number count."""
        return self.builder.mul(number, _SIZE(count))

    def load(self, pointer: Any, *offsets: Any) -> Any:
        """Return the vector that starts at an offset, the sum of `offsets`."""
        return self.builder.load(self._vector(pointer, *offsets), align=4)

    def store(self, value: Any, pointer: Any, *offsets: Any) -> None:
        """Store a vector at an offset."""
        self.builder.store(value, self._vector(pointer, *offsets), align=4)

    def shuffle(self, x: Any, y: Any, places: list[int]) -> Any:
        """Return the numbers of x, y, one after the other, at some places."""
        return self.builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(_INDEX, V), places))

    def repeat(self, pointer: Any, offset: Any) -> Any:
        """Return a vector of V times the number at an offset."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        number = self.builder.load(self.builder.gep(pointer, [offset]))
        return self.shuffle(self.builder.insert_element(undefined, number, _INDEX(0)), undefined, [0] * V)

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        """Return x y + z."""
        return self.builder.call(self._fma, [x, y, z])


def _tile(rows: int) -> Any:
    """Return an intrinsic that computes a tile of C. It takes addresses and distances, both in float32."""
    places = [(r, half) for r in range(rows) for half in (0, 1)]

    def generate(write, integers):
        K, a, a_row, a_column, b, b_row, s, s_row, c, c_row = integers
        builder, halves = write.builder, [_SIZE(0), _SIZE(V)]
        a, b, s, c = map(write.pointer, (a, b, s, c))
        starts = [write.load(s, write.times(s_row, r), halves[half]) for r, half in places]
        rows_of_a = [builder.gep(a, [write.times(a_row, r)]) for r in range(rows)]
        before, loop, after = builder.block, builder.append_basic_block("k"), builder.append_basic_block("end")
        builder.branch(loop)
        builder.position_at_end(loop)
        k, sums = builder.phi(_SIZE), [builder.phi(write.vector) for _ in places]
        right = [write.load(b, builder.mul(k, b_row), half) for half in halves]
        left = [write.repeat(row, builder.mul(k, a_column)) for row in rows_of_a]
        grown = [write.fma(left[r], right[half], total) for (r, half), total in zip(places, sums, strict=True)]
        following = write.sum(k, _SIZE(1))
        for variable, start, value in zip([k, *sums], [_SIZE(0), *starts], [following, *grown], strict=True):
            variable.add_incoming(start, before)
            variable.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, K), loop, after)
        builder.position_at_end(after)
        for (r, half), value in zip(places, grown, strict=True):
            write.store(value, c, write.times(c_row, r), halves[half])

    return _intrinsic(generate)


def _transpose_square() -> Any:
    """Return an intrinsic that transposes V x V numbers: (address, distance of rows), and the same of the result.

    A matrix of four blocks is transposed by exchanging the two blocks off the diagonal, and then transposing each
    block. In registers, both halves of the rows exchange at once: blocks of V / 2, then of V / 4, ..., 1.
    """
    def generate(write, integers):
        source, source_row, target, target_row = integers
        source, target = write.pointer(source), write.pointer(target)
        rows = [write.load(source, write.times(source_row, i)) for i in range(V)]
        block = V // 2
        while block:
            upper = [j + V - block if j & block else j for j in range(V)]
            lower = [j + V if j & block else j + block for j in range(V)]
            for i in range(V):
                if not i & block:
                    pair = rows[i], rows[i + block]
                    rows[i], rows[i + block] = write.shuffle(*pair, upper), write.shuffle(*pair, lower)
            block //= 2
        for i in range(V):
            write.store(rows[i], target, write.times(target_row, i))

    return _intrinsic(generate)


def _intrinsic(generate: Callable, result: Any = types.none) -> Any:
    """Return an intrinsic of a tuple of integers, which writes its instructions with generate(writer, integers)."""
    def function(context: Any, integers: Any) -> Any:
        def call(context, builder, signature, arguments):
            value = generate(_Writer(builder), cgutils.unpack_tuple(builder, arguments[0]))
            return context.get_dummy_value() if value is None else value

        return result(integers), call

    return intrinsic(function)


_tile_all, _tile_8, _tile_4, _tile_2, _tile_1 = (_tile(rows) for rows in (R, min(R, 8), min(R, 4), 2, 1))
_transpose = _transpose_square()
_pointer = _intrinsic(lambda write, address: write.pointer(*address), types.CPointer(types.float32))


@kernel
def multiply(a, b, c, bias, scratch, G, H, M, K, N, a0, a1, a_row, a_column, b0, b1, b_row, b_column, c0, c1, c_row,
             has_bias):
    """C = A B, plus the bias in every row, for G x H matrices. Addresses, lengths, and distances in float32.

    B or its transpose has contiguous rows, and so has C. K > 0. Scratch: SCRATCH float32.
    """
    panel = (scratch + 63) // 64 * 64
    edge = panel + 4 * DEPTH * W                                      # a tile that is wider than what is left of C
    start = edge + 4 * R * W                                          # one row: where the sums start
    for g in range(G):
        for h in range(H):
            x, y, z = a + 4 * (g * a0 + h * a1), b + 4 * (g * b0 + h * b1), c + 4 * (g * c0 + h * c1)
            for k in range(0, K, DEPTH):
                depth = min(DEPTH, K - k)
                for n in range(0, N, W):
                    width = min(W, N - n)
                    part, part_row = y + 4 * (k * b_row + n * b_column), b_row
                    if b_column != 1 or width < W:
                        _pack(panel, part, b_row, b_column, depth, width)
                        part, part_row = panel, W
                    _copy_row(start, bias + 4 * n, width * has_bias)
                    _multiply_panel(x + 4 * k * a_column, a_row, a_column, part, part_row, z + 4 * n, c_row, edge,
                                    start, M, depth, width, k > 0)


@kernel
def _pack(panel, b, b_row, b_column, depth, width):
    """Copy part of B to a panel with W numbers in each row."""
    if b_column == 1:
        for k in range(depth):
            _copy_row(panel + 4 * k * W, b + 4 * k * b_row, width)
        return
    deep, wide = depth - depth % V, width - width % V                 # what can be transposed in registers
    for k in range(0, deep, V):
        for n in range(0, wide, V):
            _transpose((b + 4 * (k + n * b_column), b_column, panel + 4 * (k * W + n), W))
    source, target = carray(_pointer((b,)), (1,)), carray(_pointer((panel,)), (1,))
    for k in range(depth):
        for n in range(wide if k < deep else 0, width):
            target[k * W + n] = source[k + n * b_column]
        for n in range(width, W):
            target[k * W + n] = 0


@kernel
def _copy_row(target, source, width):
    """Copy `width` numbers, and add zeros up to W."""
    y, x = carray(_pointer((target,)), (W,)), carray(_pointer((source,)), (W,))
    if width == W:                                                    # a length that the compiler knows
        for j in range(W):
            y[j] = x[j]
    else:
        for j in range(width):
            y[j] = x[j]
        for j in range(width, W):
            y[j] = 0


@kernel
def _multiply_panel(a, a_row, a_column, b, b_row, c, c_row, edge, start, M, depth, width, go_on):
    """Compute all tiles of a panel's columns. Their sums start with the row `start`, or with C if `go_on`."""
    m = 0
    while m < M:
        left = M - m
        rows = R if left >= R else 8 if left >= 8 and R > 8 else 4 if left >= 4 else 2 if left >= 2 else 1
        x, y = a + 4 * m * a_row, c + 4 * m * c_row
        z, z_row = (y, c_row) if width == W else (edge, W)
        s, s_row = (z, z_row) if go_on else (start, 0)
        if width < W and go_on:
            for r in range(rows):
                _copy_row(edge + 4 * r * W, y + 4 * r * c_row, width)
        if rows == R:
            _tile_all((depth, x, a_row, a_column, b, b_row, s, s_row, z, z_row))
        elif rows == 8:
            _tile_8((depth, x, a_row, a_column, b, b_row, s, s_row, z, z_row))
        elif rows == 4:
            _tile_4((depth, x, a_row, a_column, b, b_row, s, s_row, z, z_row))
        elif rows == 2:
            _tile_2((depth, x, a_row, a_column, b, b_row, s, s_row, z, z_row))
        else:
            _tile_1((depth, x, a_row, a_column, b, b_row, s, s_row, z, z_row))
        if width < W:
            for r in range(rows):
                to, by = carray(_pointer((y + 4 * r * c_row,)), (W,)), carray(_pointer((edge + 4 * r * W,)), (W,))
                for j in range(width):
                    to[j] = by[j]
        m += rows


@kernel
def repeat_tile(a, b, c, count):
    """Compute c[:R] = c[R] + a b some times: a (R, K), b (K, W), c (R + 1, W). No product is faster, if K is small."""
    K, left, right, result = a.shape[1], a.ctypes.data, b.ctypes.data, c.ctypes.data
    for _ in range(count):
        _tile_all((K, left, K, 1, right, W, result + 4 * R * W, 0, result, W))
