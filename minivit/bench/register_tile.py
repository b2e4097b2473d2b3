"""The physical limit of a core: a matrix product whose numbers never leave the registers and the first cache.

    C = A B                       A (R, K)   B (K, 2 V)   C (R, 2 V) in registers

A processor multiplies and adds with vector registers of V numbers, 16 of float32 with AVX-512. It starts two such
operations in each cycle, but each takes four or five cycles. So it is busy only if many sums grow independently of each
other. A *tile* of C is such a set of sums: 2 R vectors that stay in registers for all K steps.

    for k in 0..K-1:
        b0, b1 = B[k, :V], B[k, V:]                     two loads, used by R rows
        for r in 0..R-1:
            c_r0, c_r1 = c_r0 + A[r, k] b0, c_r1 + A[r, k] b1

Nothing here waits for memory, so no matrix product is faster. BLAS uses such tiles, too, but it must load and store
large matrices between them. Source: Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008.
"""

from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..kernel import kernel

K, TILES = 256, 2_000                                                 # B has 32 kB with AVX-512; tiles of one call
_WORD, _SIZE, _FLOAT = ir.IntType(32), ir.IntType(64), ir.FloatType()


def _registers() -> tuple[int, int]:
    """Return V and R; (0, 0) if this processor has no vectors that we know, or nothing is compiled."""
    config: Any = numba.config
    features = {} if config.DISABLE_JIT else llvmlite.binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 16, 12                                                 # 24 of 32 registers hold C
    if features.get("avx2") and features.get("fma"):
        return 8, 6                                                   # 12 of 16
    return (4, 12) if features.get("neon") else (0, 0)


V, R = _registers()
FLOPS = TILES * 2 * R * K * 2 * V                                     # of one call of `multiply_tiles`


def _generate(context, builder, signature, arguments):
    """Write LLVM's instructions for one tile; return the sum of C's vectors, so that none is left out."""
    a, b = (builder.inttoptr(address, _FLOAT.as_pointer()) for address in arguments)
    vector = ir.VectorType(_FLOAT, V)
    fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, 3 * [vector]), f"llvm.fma.v{V}f32")
    before, loop = builder.block, builder.append_basic_block("loop")
    after = builder.append_basic_block("after")
    builder.branch(loop)
    builder.position_at_end(loop)
    k, sums = builder.phi(_SIZE), [builder.phi(vector) for _ in range(2 * R)]
    grown = []
    halves = [builder.load(builder.bitcast(builder.gep(b, [builder.add(builder.mul(k, _SIZE(2 * V)), _SIZE(half * V))]),
                                           vector.as_pointer()), align=4) for half in (0, 1)]
    for r in range(R):
        number = builder.load(builder.gep(a, [builder.add(builder.mul(k, _SIZE(R)), _SIZE(r))]))
        first = builder.insert_element(ir.Constant(vector, ir.Undefined), number, _WORD(0))
        repeated = builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined),
                                          ir.Constant(ir.VectorType(_WORD, V), [0] * V))
        grown += [builder.call(fma, [repeated, half, sums[2 * r + i]]) for i, half in enumerate(halves)]
    following = builder.add(k, _SIZE(1))
    k.add_incoming(_SIZE(0), before)
    k.add_incoming(following, loop)
    for total, value in zip(sums, grown, strict=True):
        total.add_incoming(ir.Constant(vector, [0.0] * V), before)
        total.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, _SIZE(K)), loop, after)
    builder.position_at_end(after)
    total = grown[0]
    for value in grown[1:]:
        total = builder.fadd(total, value)
    return builder.extract_element(total, _WORD(0))


def _multiply_tile(context: Any, a: Any, b: Any) -> Any:
    """Multiply A (K, R) and B (K, 2 V), given by their addresses."""
    return types.float32(types.int64, types.int64), _generate


_tile: Any = intrinsic(_multiply_tile)


@kernel
def multiply_tiles(a, b, result):
    """Multiply the same tile TILES times; a (K, R), b (K, 2 V), result (1,)."""
    for _ in range(TILES):
        result[0] += _tile(a.ctypes.data, b.ctypes.data)


def tiles(threads: int) -> Any:
    """Return a function that multiplies tiles on each of some threads at the same time, FLOPS on each of them."""
    from ..parallel.threads import Workers

    workers = Workers(threads)
    parts = [(np.ones((K, R), np.float32), np.ones((K, 2 * V), np.float32), np.zeros(1, np.float32))
             for _ in range(threads)]
    return lambda: workers.map(lambda part: multiply_tiles(*part), parts)
