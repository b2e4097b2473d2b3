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
for large matrices only.

Read before: `vectors.py`. Source: Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008.
"""

from typing import Any

from numba import carray, types

from ..kernel import kernel
from ..vectors import V, intrinsic

DEPTH = 256                                                           # rows of a panel
R = {16: 14, 8: 6, 0: 0}[V]
W = 2 * V                                                             # columns of a panel and of a tile
SCRATCH = (DEPTH + R + 1) * W + 16                                    # float32; 16: `multiply` aligns it to 64 bytes


def _tile(rows: int) -> Any:
    """Return an intrinsic that computes a tile of C. It takes addresses and distances, both in float32."""
    places = [(r, half) for r in range(rows) for half in (0, 1)]

    def generate(write, integers):
        K, a, a_row, a_column, b, b_row, s, s_row, c, c_row = integers
        a, b, s, c = map(write.pointer, (a, b, s, c))
        halves = [write.size(0), write.size(V)]
        rows_of_a = [write.times(a_row, r) for r in range(rows)]

        def step(k, *sums):
            right = [write.load(b, write.times(k, b_row), half) for half in halves]
            left = [write.repeat(a, row, write.times(k, a_column)) for row in rows_of_a]
            return [write.fma(left[r], right[half], total) for (r, half), total in zip(places, sums, strict=True)]

        starts = [write.load(s, write.times(s_row, r), halves[half]) for r, half in places]
        for (r, half), total in zip(places, write.loop(K, starts, step), strict=True):
            write.store(total, c, write.times(c_row, r), halves[half])

    return intrinsic(generate)


@intrinsic
def _transpose(write, integers):
    """Transpose V x V numbers: from an address and a distance of rows to another."""
    source, source_row, target, target_row = integers
    source, target = write.pointer(source), write.pointer(target)
    columns = write.transpose([write.load(source, write.times(source_row, i)) for i in range(V)])
    for i, column in enumerate(columns):
        write.store(column, target, write.times(target_row, i))


_tile_all, _tile_8, _tile_4, _tile_2, _tile_1 = (_tile(rows) for rows in (R, min(R, 8), min(R, 4), 2, 1))
_pointer = intrinsic(lambda write, integers: write.pointer(*integers), types.CPointer(types.float32))


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
    source = carray(_pointer((b,)), (depth + (width - 1) * b_column,))
    target = carray(_pointer((panel,)), (depth * W,))
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
    left, right, result = a.ctypes.data, b.ctypes.data, c.ctypes.data
    a_row, a_column, b_row = a.strides[0] // 4, a.strides[1] // 4, b.strides[0] // 4  # the compiler must not know them
    for _ in range(count):
        _tile_all((a.shape[1], left, a_row, a_column, right, b_row, result + 4 * R * W, 0, result, W))
