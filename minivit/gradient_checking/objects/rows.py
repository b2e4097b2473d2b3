"""Pieces of memory: which names of an object's arrays mean the same tensor, and how its gradient is carried over."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..memory import address_range, cells, groups, overlaps_itself
from ..parameters import Place


def rows(arrays: dict[str, Any], claimed: dict[str, list]) -> tuple[dict[str, list[str]], set[str]]:
    """Return {first name: all names} of the tensors, and names that are checked under another name of their memory.

    Parameters
    ----------
    arrays : dict
        {name: place} of all parameters.
    claimed : dict
        {name: gradients} of those that have some. Views without a gradient belong to the views that have one.

    Raises
    ------
    TypeError
        For views with gradients that overlap in part, or that hold an element twice.
    """
    by_id: dict[int, list[str]] = {}
    for name, place in arrays.items():
        by_id.setdefault(id(place.value) if isinstance(place, Place) else id(place.parameter), []).append(name)
    names_of = {id(arrays[names[0]].value): names for names in by_id.values()}
    found: dict[str, list[str]] = {}
    covered: set[str] = set()
    for group in groups([arrays[names[0]].value for names in by_id.values()]):
        of_group, under_others = _rows_of_group(group, names_of, claimed)
        found |= of_group
        covered.update(under_others)
    return found, covered


def _rows_of_group(group, names_of, claimed):
    """Return what `rows` does, for arrays that overlap in memory."""
    if len(group) == 1:
        names = names_of[id(group[0])]
        return {names[0]: names}, []
    start = min(address_range(x)[0] for x in group)
    tensors: dict[bytes, tuple] = {}
    for x in group:
        places = cells(x, start)
        tensors.setdefault(places.tobytes(), (set(places.tolist()), []))[1].extend(names_of[id(x)])
    with_gradient = [(c, names) for c, names in tensors.values() if any(claimed.get(n) for n in names)]
    without = [(c, names) for c, names in tensors.values() if not any(claimed.get(n) for n in names)]
    covered = set().union(*(c for c, _ in with_gradient)) if with_gradient else set()
    found = {names[0]: names for c, names in with_gradient}
    found |= {names[0]: names for c, names in without if not c <= covered}
    _refuse_overlap(with_gradient)
    for x in group:
        if overlaps_itself(x):
            raise TypeError(f"a view that holds an element twice cannot be checked: found {names_of[id(x)][0]}, "
                            "expected an array without such overlap, store a copy")
    return found, [name for c, names in without if c <= covered for name in names]


def _refuse_overlap(with_gradient):
    """Raise TypeError for two tensors that share a part of their memory; one may contain the other."""
    for i, (one, names) in enumerate(with_gradient):
        for other, other_names in with_gradient[i + 1:]:
            if one & other and not (one <= other or other <= one):
                raise TypeError(f"gradients of views that overlap cannot be told apart: found {names[0]} and "
                                f"{other_names[0]}, which share a part of their memory, expected separate arrays, "
                                f"store them separately or name one in constants=({names[0]!r},)")


def nearest(names: Iterable[str], arrays: dict[str, Any]) -> list[str]:
    """Return the names whose owners are nearest to the object itself: their gradients count."""
    names = list(names)
    depth = min((arrays[name].depth for name in names), default=0)
    return [name for name in names if arrays[name].depth == depth]


def carried(gradient: Any, view: Any, x: Any) -> np.ndarray:
    """Return a gradient that lies under another view of the memory of x, such as its transpose, in the shape of x."""
    g = np.asarray(gradient)
    if view is x or not isinstance(x, np.ndarray) or not isinstance(view, np.ndarray) or g.shape != view.shape or (
            view.shape == x.shape and view.strides == x.strides) or not np.shares_memory(view, x):
        return g
    start = min(address_range(view)[0], address_range(x)[0])
    order = [np.argsort(cells(a, start, in_order=False), kind="stable") for a in (view, x)]
    moved = np.empty(x.size, g.dtype)
    moved[order[1]] = g.reshape(-1)[order[0]]
    return moved.reshape(x.shape)
