"""NumPy's elementwise functions as kernels: addition, subtraction, multiplication, and copies.

Each of their results is rounded once, so these loops give NumPy's bits. Sums, quotients and other functions are not
here: their bits depend on the order of the operations, or on how a division is compiled. An op computes them in a
kernel of its own.

Arrays come in as vectors that start at their first number, with a layout (arrays + 1, 5): the lengths of five axes, and
for each array the distances between neighbours along each axis. `layout` merges axes where it can, so five are enough
for all that the ops do.
"""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..kernel import constant, kernel

AXES = 5


def layout(arrays: Sequence[np.ndarray]) -> np.ndarray | None:
    """Return the layout of arrays of one shape, with as few axes as possible; None if five are not enough."""
    axes: list[list[int]] = []                                        # (length, a distance for each array), outer first
    for d, length in enumerate(arrays[0].shape):
        steps = [x.strides[d] // x.itemsize for x in arrays]
        if length == 1:
            continue
        if axes and all(outer == inner * length for outer, inner in zip(axes[-1][1:], steps, strict=True)):
            axes[-1] = [axes[-1][0] * length, *steps]
        else:
            axes.append([length, *steps])
    if len(axes) > AXES:
        return None
    table = np.array([[1] + [0] * len(arrays)] * (AXES - len(axes)) + axes, np.int64)
    return constant(np.ascontiguousarray(table.T))


def as_vector(x: np.ndarray) -> np.ndarray:
    """View the memory of x from its first number on as a vector."""
    length = 1 + sum((n - 1) * step for n, step in zip(x.shape, x.strides, strict=True)) // x.itemsize
    return as_strided(x, (length,), (x.itemsize,), subok=True, writeable=x.flags.writeable)


@kernel
def copy(out, x, layout):
    """out = x."""
    n, to, by = layout[0, 4], layout[1, 4], layout[2, 4]
    for a in range(layout[0, 0]):
        for b in range(layout[0, 1]):
            for c in range(layout[0, 2]):
                for d in range(layout[0, 3]):
                    i = a * layout[1, 0] + b * layout[1, 1] + c * layout[1, 2] + d * layout[1, 3]
                    j = a * layout[2, 0] + b * layout[2, 1] + c * layout[2, 2] + d * layout[2, 3]
                    if to == 1 and by == 1:
                        target, source = out[i:i + n], x[j:j + n]
                        for t in range(n):
                            target[t] = source[t]
                    else:
                        for t in range(n):
                            out[i + t * to] = x[j + t * by]


def _loop(function) -> Any:
    """Return the kernel out = function(x, y)."""
    def elementwise(out, x, y, layout):
        n, to, by_x, by_y = layout[0, 4], layout[1, 4], layout[2, 4], layout[3, 4]
        for a in range(layout[0, 0]):
            for b in range(layout[0, 1]):
                for c in range(layout[0, 2]):
                    for d in range(layout[0, 3]):
                        i = a * layout[1, 0] + b * layout[1, 1] + c * layout[1, 2] + d * layout[1, 3]
                        j = a * layout[2, 0] + b * layout[2, 1] + c * layout[2, 2] + d * layout[2, 3]
                        k = a * layout[3, 0] + b * layout[3, 1] + c * layout[3, 2] + d * layout[3, 3]
                        if to == 1 and by_x == 1 and by_y == 1:
                            target, left, right = out[i:i + n], x[j:j + n], y[k:k + n]
                            for t in range(n):
                                target[t] = function(left[t], right[t])
                        elif to == 1 and by_x == 1 and by_y == 0:
                            target, left, right_number = out[i:i + n], x[j:j + n], y[k]
                            for t in range(n):
                                target[t] = function(left[t], right_number)
                        else:
                            for t in range(n):
                                out[i + t * to] = function(x[j + t * by_x], y[k + t * by_y])

    # Numba stores compiled functions by name, so each loop needs its own.
    elementwise.__name__ = elementwise.__qualname__ = f"elementwise_{function.__name__}"
    return kernel(elementwise)


LOOPS = {np.add: _loop(operator.add), np.subtract: _loop(operator.sub), np.multiply: _loop(operator.mul)}
