"""What a recogniser of mistakes may ask about a tensor with a wrong gradient."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..differences import SCHEMES

COMPLETE = 256                                                        # a tensor up to this size is measured completely
_GROUPS, _GROUP_SIZE = 3, 32                                          # groups of entries, and how many of each
_SCATTERED = 32                                                       # entries elsewhere
_LARGE = 20_000                                                       # above this size, groups are rows only


class Evidence:
    """A tensor with a wrong gradient: `x`, the analytic `gradient`, and numeric slopes at a sample of its entries.

    indices: the flat indices of the sample: all, or some rows (along the last axis) and scattered entries; the wrong
    entry `index` is among them. numeric, analytic, difference: at these indices. dy_is_free: whether the backward takes
    any dy; that of a scalar function does not.
    """

    def __init__(self, comparer: Any, name: str, index: int | None, rng: np.random.Generator) -> None:
        self.comparer, self.name, self.index, self.rng = comparer, name, index or 0, rng
        self.x, self.gradient, self.dy = comparer.function.tensors[name], comparer.gradients[name], comparer.dy
        self.dy_is_free = comparer.function.fixed_dy is None
        self._slopes: dict[int, float] = {}
        self._groups: dict[tuple, list[np.ndarray]] = {}
        self._y: np.ndarray | None = None
        size = self.gradient.size
        self.indices = np.arange(size) if size <= COMPLETE else np.unique(np.concatenate(
            [*self.groups((self.x.ndim - 1,)), rng.permutation(size)[:_SCATTERED]]))
        self.numeric, self.analytic = self.slopes(self.indices), self.at(self.gradient)
        self.difference = self.numeric - self.analytic

    def slopes(self, indices: Any, name: str = "") -> np.ndarray:
        """Measure the slopes of the entries with these flat indices, of this tensor or of another one."""
        scheme, measured = SCHEMES["central"], {} if name else self._slopes
        step = scheme.step * self.comparer.scale(name or self.name)
        for i in map(int, indices):
            if i not in measured:
                measured[i] = scheme.slope(self.comparer.perturbed(name or self.name, i), step, self.dy)
        return np.array([measured[int(i)] for i in indices])

    def at(self, values: np.ndarray, indices: Any = None) -> np.ndarray:
        """Return the sampled entries of an array that has the tensor's shape, or can be broadcast to it."""
        return np.broadcast_to(values, self.x.shape).reshape(-1)[self.indices if indices is None else indices]

    def groups(self, axes: tuple[int, ...]) -> list[np.ndarray]:
        """Return arrays of flat indices, each of entries that differ on these axes alone; the first has `index`."""
        if axes in self._groups:
            return self._groups[axes]
        places = np.moveaxis(np.arange(self.x.size).reshape(self.x.shape), axes, range(-len(axes), 0))
        places = places.reshape(-1, int(np.prod([self.x.shape[axis] for axis in axes])))
        row, column = (int(i[0]) for i in np.nonzero(places == self.index))
        start = max(0, min(column - _GROUP_SIZE // 2, places.shape[1] - _GROUP_SIZE))
        others = self.rng.permutation(np.setdiff1d(np.arange(len(places)), [row]))[:_GROUPS - 1]
        self._groups[axes] = [places[i, start:start + _GROUP_SIZE] for i in (row, *others)]
        return self._groups[axes]

    def axes(self, least: int = 1) -> Iterator[tuple[int, ...]]:
        """Yield the sets of axes along which groups have at least so many entries: the last axis first."""
        n = self.x.ndim
        chosen = sorted((axes for k in range(1, n + 1) for axes in itertools.combinations(range(n), k)),
                        key=lambda axes: (axes != (n - 1,), len(axes), [-axis for axis in axes]))
        if self.x.size > COMPLETE:                                    # each set costs about 200 forwards
            usual = [(n - 1,), (0,), (n - 2, n - 1), tuple(range(n - 1)), (0, *range(2, n))]
            chosen = [axes for axes in chosen if axes in usual[:len(usual) if self.x.size <= _LARGE else 1]]
        return (axes for axes in chosen if np.prod([self.x.shape[axis] for axis in axes]) >= least)

    def along(self, axes: tuple[int, ...]) -> str:
        """Return the axes in words: "in each row", or "along axes 0 and 2"."""
        if axes == (self.x.ndim - 1,):
            return "in each row" if self.x.ndim > 1 else "along the vector"
        return f"along {in_words(axes)}"

    def others(self) -> dict[str, np.ndarray]:
        """Return the other tensors that can be broadcast to the shape of this one."""
        return {name: w for name, w in self.comparer.function.tensors.items()
                if name != self.name and w.dtype == self.x.dtype and fits(w.shape, self.x.shape)}

    def weights(self) -> dict[str, np.ndarray]:
        """Return ones, under the name "", and the other tensors that can be broadcast to this one."""
        return {"": np.ones(1), **self.others()}

    @property
    def y(self) -> np.ndarray:
        """The forward's result."""
        if self._y is None:
            self._y = self.comparer.perturbed(self.name, 0)(0.0)
        return self._y

    def gradient_under(self, dy: np.ndarray) -> np.ndarray:
        """Return the analytic gradient of this tensor under another upstream gradient."""
        return np.asarray(self.comparer.function.backward(dy)[self.name])

    def is_slope_under(self, dy: np.ndarray) -> bool:
        """Return whether the numeric slopes of a few wrong entries are the same under another upstream gradient."""
        wrong = self.indices[np.argsort(-np.abs(self.difference))[:4]]
        right = self.slopes(wrong)
        return explains(self.slopes_under(dy, wrong), right, right)

    def slopes_under(self, dy: np.ndarray, indices: Any) -> np.ndarray:
        """Measure slopes under another upstream gradient."""
        scheme, step = SCHEMES["central"], SCHEMES["central"].step * self.comparer.scale(self.name)
        return np.array([scheme.slope(self.comparer.perturbed(self.name, int(i)), step, dy) for i in indices])

    def is_separable(self) -> bool:
        """Return whether the slope at an entry does not depend on the other entries: the result is a sum over them."""
        x, sample = self.comparer.function.tensors[self.name], self.indices[:4]
        for i in map(int, sample):
            saved, others = x.copy(), np.arange(x.size).reshape(x.shape) != i
            right = self.slopes([i])
            x[others] += 0.1 * self.comparer.scale(self.name)
            self._slopes.pop(i)
            try:
                moved = self.slopes([i])
            finally:                                                  # the forward may fail there
                x[...], self._slopes[i] = saved, float(right[0])
            if not explains(moved, right, 1e-3 * right):
                return False
        return x.size > 1

    def is_entry_by_entry(self) -> bool:
        """Return whether an entry of the result depends on its own entry of the tensor alone."""
        y, step = self.y.reshape(-1), 1e-3 * self.comparer.scale(self.name)
        for i in self.indices[:4]:
            changed = np.flatnonzero(self.comparer.perturbed(self.name, int(i))(step).reshape(-1) != y)
            if changed.tolist() not in ([], [i]):
                return False
        return True


def fits(shape: tuple, wanted: tuple) -> bool:
    """Return whether an array of this shape can be broadcast to the wanted shape."""
    return len(shape) <= len(wanted) and all(a in (1, b) for a, b in zip(shape[::-1], wanted[::-1], strict=False))


def explains(found: np.ndarray, numeric: np.ndarray, difference: np.ndarray) -> bool:
    """Return whether `found` explains the numeric slopes, up to a hundredth of the difference."""
    return bool(np.linalg.norm(numeric - found) <= 0.01 * np.linalg.norm(difference))


def in_words(axes: Any) -> str:
    """Return "axis 2" or "axes 0 and 2"."""
    names = [str(axis) for axis in axes]
    return f"axis {names[0]}" if len(names) == 1 else f"axes {', '.join(names[:-1])} and {names[-1]}"
