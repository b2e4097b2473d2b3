"""The right numbers in the wrong places: axes exchanged, flipped or shifted, blocks in another order."""

import itertools
from collections.abc import Iterator

import numpy as np

from .evidence import COMPLETE, Evidence, explains, in_words

_BLOCKS = (2, 3, 4)                                                   # gates, or query, key and value
_FEW = 6                                                              # places that are named one by one


def moved(e: Evidence) -> str | None:
    """The gradient as it should be, after exchanging, flipping, shifting axes or blocks."""
    for found, words in _moves(e.gradient):
        if explains(e.at(found), e.numeric, e.difference):
            return words
    return _shifted(e)


def _moves(g: np.ndarray) -> Iterator[tuple[np.ndarray, str]]:
    """Yield the gradient with its entries moved back, and what then was the mistake."""
    for order in itertools.permutations(range(g.ndim)) if g.ndim < 5 else ():
        if g.transpose(order).shape == g.shape and order != tuple(range(g.ndim)):
            last = order == (*range(g.ndim - 2), g.ndim - 1, g.ndim - 2)
            yield g.transpose(order), ("the gradient is transposed: its last two axes are exchanged" if last else
                                       f"the gradient is transposed: its axes are in the order {order}")
    for k in range(1, g.ndim + 1):
        for axes in itertools.combinations(range(g.ndim), k):
            question = "are the two parts exchanged?" if all(g.shape[axis] == 2 for axis in axes) else (
                "is a kernel, or the order of time, reversed?")
            yield np.flip(g, axes), f"the gradient is flipped along {in_words(axes)}: {question}"
    for axis in reversed(range(g.ndim)):
        for n in (n for n in _BLOCKS if g.shape[axis] % n == 0 and g.shape[axis] >= n):
            blocks = np.split(g, n, axis=axis)
            for order in itertools.permutations(range(n)):
                wrong = [i for i in range(n) if order[i] != i]
                if wrong:
                    yield np.concatenate([blocks[i] for i in order], axis=axis), (
                        f"on axis {axis}, the blocks {', '.join(map(str, wrong))} of {n} are exchanged: are gates, or "
                        "query, key and value, in another order?")


def _shifted(e: Evidence) -> str | None:
    """The gradient is shifted by one on some axes; what was shifted out is lost."""
    numeric = np.full(e.x.size, np.nan)
    numeric[e.indices] = e.numeric
    numeric = numeric.reshape(e.x.shape)
    for steps in itertools.product((0, 1, -1), repeat=e.x.ndim) if e.x.ndim < 5 else ():
        axes = [axis for axis, step in enumerate(steps) if step]
        if not axes or any(e.x.shape[axis] < 3 for axis in axes):
            continue
        to = tuple(slice(max(step, 0), n + min(step, 0)) for step, n in zip(steps, e.x.shape, strict=True))
        of = tuple(slice(max(-step, 0), n + min(-step, 0)) for step, n in zip(steps, e.x.shape, strict=True))
        right, found, unmoved = numeric[to], e.gradient[of], e.gradient[to]
        known = ~np.isnan(right)
        if known.sum() > 2 and explains(found[known], right[known], right[known] - unmoved[known]):
            return (f"the gradient is shifted by one along {in_words(axes)}: is the padding cut off at the wrong end, "
                    "or an index off by one?")
    return None


def right_numbers(e: Evidence) -> str | None:
    """The same numbers in any other order."""
    if e.x.size > COMPLETE:
        return None
    right, found = np.sort(e.numeric), np.sort(e.analytic)
    return "the gradient has the right numbers in the wrong places" if (
        np.abs(right - found).max() < 1e-6 * np.abs(right).max()) else None


def not_computed(e: Evidence) -> str | None:
    """Only a part of the tensor is wrong, and zero there."""
    return None if e.analytic[_wrong(e)].any() else confined(e)


def _wrong(e):
    """Return which of the sampled entries are clearly wrong."""
    return np.abs(e.difference) > 10 * e.comparer.tolerance * max(np.abs(e.numeric).max(), np.abs(e.analytic).max())


def confined(e: Evidence) -> str | None:
    """Only a part of the tensor is wrong."""
    wrong = _wrong(e)
    if wrong.all() or not wrong.any():
        return None
    places = np.unravel_index(e.indices, e.x.shape)
    # the indices on each axis under which something is wrong
    box = [sorted(set(place[wrong].tolist())) for place in places]
    inside = np.all([np.isin(place, bad) for place, bad in zip(places, box, strict=True)], axis=0)
    if (inside & ~wrong).sum() > 0.1 * inside.sum():
        return None
    within = [np.isin(place, bad) for place, bad in zip(places, box, strict=True)]
    # an axis counts if, with the right indices on the other axes, something outside its box is right
    narrow = [(axis, bad) for axis, bad in enumerate(box) if (~within[axis] & np.all(
        [w for other, w in enumerate(within) if other != axis] or [np.ones(len(wrong), bool)], axis=0)).any()]
    if not narrow:
        return None
    parts = " and ".join(f"the index on axis {axis} is {_list_of(bad)}" for axis, bad in narrow)
    block = _block(narrow[0][1], e.x.shape[narrow[0][0]]) if len(narrow) == 1 else ""
    numeric, analytic = e.numeric[wrong], e.analytic[wrong]
    factor = float(numeric @ analytic) / float(analytic @ analytic or 1.0)
    there = f", and there it is {1 / factor:.6g} times what it should be" if factor and len(numeric) > 1 and explains(
        factor * analytic, numeric, numeric - analytic) else ""
    return f"the gradient is wrong only where {parts}{block}{there}"


def scattered(e: Evidence) -> str | None:
    """A few places are wrong that form no block, such as those of a mask."""
    if e.x.size > COMPLETE or not e.x.ndim:
        return None
    wrong = _wrong(e).reshape(e.x.shape)
    through = [axis for axis in range(wrong.ndim) if np.array_equal(wrong.all(axis=axis), wrong.any(axis=axis))]
    places = np.argwhere(wrong.any(axis=tuple(through), keepdims=True))
    rest = np.prod([n for axis, n in enumerate(wrong.shape) if axis not in through])
    if not 1 < len(places) <= _FEW or 3 * len(places) > rest:
        return None
    words = [f"[{', '.join(':' if i in through else str(j) for i, j in enumerate(place))}]" for place in places]
    return f"the gradient is wrong only where the indices are {', '.join(words)}"


def zero_outside(e: Evidence) -> str | None:
    """The gradient is zero in a part of the tensor where it should not be."""
    if not e.x.ndim:
        return None
    unset = (e.analytic == 0) & (np.abs(e.numeric) > 1e-3 * np.abs(e.numeric).max())
    places = np.unravel_index(e.indices, e.x.shape)
    for axis, n in enumerate(e.x.shape):
        bad = sorted(set(places[axis][unset].tolist()))
        if 0 < len(bad) < n and unset[np.isin(places[axis], bad)].mean() > 0.9:
            return f"the gradient is zero only where the index on axis {axis} is {_list_of(bad)}: is it computed there?"
    return None


def _list_of(indices: list[int]) -> str:
    """Return sorted indices in words: "3 to 7", or one by one."""
    if len(indices) > 2 and indices[-1] - indices[0] == len(indices) - 1:
        return f"{indices[0]} to {indices[-1]}"
    return ", ".join(map(str, indices[:5])) + (", ..." if len(indices) > 5 else "")


def _block(indices: list[int], length: int) -> str:
    """Return which of two to four equal blocks these indices are, such as one gate of an LSTM."""
    n, start = len(indices), indices[0]
    whole = n > 1 and indices[-1] - start == n - 1 and length % n == 0 and start % n == 0 and length // n in _BLOCKS
    return f" (block {start // n} of {length // n}: one gate, or the query, key or value?)" if whole else ""
