"""A tensor with any number of axes as a flat map: which axes run down, which to the right, and which indices are shown.

Two axes make a *block*. The blocks lie in a grid, whose axes are the others. So (B, N, D) is a column of B blocks of N
rows, and attention scores (B, h, N, N) are B times h blocks of N x N. Of a large tensor, evenly spaced indices on each
axis are shown, the first and last included. The labels of the map say both.
"""

from typing import Any

import numpy as np

_TICKS = 6
_SQUARE = 3                                                           # least side of an image or a kernel


def fold(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the axes that run down and those that run to the right, the outermost first.

    A block is made of the last two axes. Among four axes or more it is the last pair of equal length, if there is one:
    an image or a kernel. A vector is one row, a number one entry.
    """
    n = len(shape)
    if n < 2:
        return (), tuple(range(n))
    pairs = [(i, i + 1) for i in range(n - 2, -1, -1)]
    square = [(i, j) for i, j in pairs if shape[i] == shape[j] >= _SQUARE]
    down, right = square[0] if square and n > 3 else pairs[0]
    others = [axis for axis in range(n) if axis not in (down, right)]
    beside = others[1::2] if n > 3 or shape[right] >= shape[down] else others
    return (*(axis for axis in others if axis not in beside), down), (*beside, right)


class FlatMap:
    """A tensor of some shape, laid flat. worst: the index of an entry that is always shown, or empty.

    indices: those that are shown, on each axis. are_pairs: whether the last axis holds real and imaginary parts. most:
    number of entries that are shown at most.
    """

    def __init__(self, shape: tuple[int, ...], worst: tuple[int, ...] = (), are_pairs: bool = False,
                 most: int = 400) -> None:
        self.shape, self.worst, self.are_pairs = shape, worst, are_pairs
        self.down, self.right = fold(shape)
        counts = list(shape)
        while np.prod(counts) > most:
            longest = int(np.argmax(counts))
            counts[longest] -= 1 + counts[longest] // 20
        self.indices = [_spaced(n, count, worst[axis] if worst else 0)
                        for axis, (n, count) in enumerate(zip(shape, counts, strict=True))]

    def laid(self, values: np.ndarray) -> np.ndarray:
        """Return values, one for each shown entry, as a matrix."""
        rows = int(np.prod([values.shape[axis] for axis in self.down]))
        return values.transpose(self.down + self.right).reshape(rows, -1)

    @property
    def place(self) -> tuple[int, int] | None:
        """The row and column of the worst entry."""
        if len(self.worst) != len(self.shape):
            return None
        mark = np.zeros([len(found) for found in self.indices], bool)
        mark[tuple(int(np.searchsorted(found, i)) for found, i in zip(self.indices, self.worst, strict=True))] = True
        (row,), (column,) = np.nonzero(self.laid(mark))
        return int(row), int(column)

    def label(self, axes: Any) -> None:
        """Write beside matplotlib axes which axes of the tensor run there; mark indices, or blocks by lines."""
        for side, along, line in ((axes.yaxis, self.down, axes.axhline), (axes.xaxis, self.right, axes.axvline)):
            names = [self._name(axis) for axis in along]
            if len(along) < 2:
                found = self.indices[along[0]] if along else np.zeros(1, int)
                at = np.arange(0, len(found), 1 + (len(found) - 1) // _TICKS)
                side.set_ticks(at, [str(found[i]) for i in at] if along else [""] * len(at))
                side.set_label_text(names[0] if along else "", fontsize=8)
                continue
            *outer, inner = along
            size, blocks = len(self.indices[inner]), int(np.prod([len(self.indices[axis]) for axis in outer]))
            for i in range(1, blocks):
                line(i * size - 0.5, color="k", lw=0.8)
            shown = np.arange(0, blocks, 1 + (blocks - 1) // (2 * _TICKS))
            marks = list(np.ndindex(*(len(self.indices[axis]) for axis in outer)))
            side.set_ticks((shown + 0.5) * size - 0.5, [",".join(
                str(self.indices[axis][i]) for axis, i in zip(outer, marks[b], strict=True)) for b in shown])
            side.set_label_text(f"blocks: {', '.join(names[:-1])}\nin a block: {names[-1]}", fontsize=8)

    def _name(self, axis):
        """Return the name of an axis, with how much of it is shown, if not all."""
        shown, n = len(self.indices[axis]), self.shape[axis]
        if self.are_pairs and axis == len(self.shape) - 1:
            return f"axis {axis} (real, imaginary)"
        return f"axis {axis}" + (f" ({shown} of {n})" if shown < n else "")


def _spaced(n, count, needed):
    """Return `count` evenly spaced indices below n; the needed one takes the place of the nearest that is no end."""
    indices = np.round(np.linspace(0, n - 1, count)).astype(int)
    if needed not in indices:
        inner = np.abs(indices - needed)[1:-1]
        indices[1 + np.argmin(inner) if len(inner) else -1] = needed
    return indices
