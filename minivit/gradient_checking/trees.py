"""Nested structures: tuples, lists, dicts and dataclasses that hold arrays, also inside one another.

A *tree* is a container whose parts are trees, or a *leaf*: anything else, such as an array, a number or None. Inputs,
results and gradients are trees. The *keys* of a leaf lead to it from the root: ("state", 0) for `tree["state"][0]`.
"""

import copy
import dataclasses
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

Keys = tuple


def is_floating(x: Any) -> bool:
    """Return whether x is a floating or complex array."""
    return isinstance(x, np.ndarray) and x.dtype.kind in "fc"


def is_number(x: Any) -> bool:
    """Return whether x is a single floating number: 0.5, but neither 1 nor True."""
    return isinstance(x, float | complex | np.floating | np.complexfloating)


def parts(tree: Any) -> list[tuple[Any, Any]] | None:
    """Return the pairs (key, part) of a container; None for a leaf."""
    if isinstance(tree, Mapping):
        return list(tree.items())
    if isinstance(tree, list | tuple | deque):
        return list(enumerate(tree))
    if isinstance(tree, np.ndarray) and tree.dtype == object:
        return [(key if tree.ndim != 1 else key[0], tree[key]) for key in np.ndindex(tree.shape)]
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type) and not hasattr(tree, "backward"):
        return [(field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree)
                if hasattr(tree, field.name)]
    return None


def leaves(tree: Any, keys: Keys = (), around: tuple = ()) -> Iterator[tuple[Keys, Any]]:
    """Yield the pairs (keys, leaf) of a tree. A container inside itself is left out."""
    if id(tree) in around:
        return
    children = parts(tree)
    if children is None:
        yield keys, tree
    for key, part in children or ():
        yield from leaves(part, (*keys, key), (*around, id(tree)))


def item(tree: Any, keys: Keys) -> Any:
    """Return the part of a tree under these keys; None if there is none."""
    for key in keys:
        try:
            tree = getattr(tree, key) if dataclasses.is_dataclass(tree) else tree[key]
        except (LookupError, TypeError, AttributeError):
            return None
    return tree


def with_item(tree: Any, keys: Keys, value: Any) -> Any:
    """Return the tree with `value` under these keys. Tuples are made anew, other containers change in place."""
    if not keys:
        return value
    key, *rest = keys
    inner = with_item(item(tree, (key,)), tuple(rest), value)
    if isinstance(tree, tuple):
        changed = (*tree[:key], inner, *tree[key + 1:])
        return type(tree)(*changed) if hasattr(tree, "_fields") else changed
    if dataclasses.is_dataclass(tree):
        object.__setattr__(tree, key, inner)                          # also if it is frozen
    else:
        tree[key] = inner
    return tree


def mapped(function: Callable[[Keys, Any], Any], tree: Any, keys: Keys = ()) -> Any:
    """Return a tree of the same structure with `function(keys, leaf)` in place of each leaf."""
    children = parts(tree)
    if children is None:
        return function(keys, tree)
    new = {key: mapped(function, part, (*keys, key)) for key, part in children}
    if isinstance(tree, tuple):
        return type(tree)(*new.values()) if hasattr(tree, "_fields") else tuple(new.values())
    if isinstance(tree, list):
        return list(new.values())
    changed = copy.copy(tree)
    for key, part in new.items():
        if dataclasses.is_dataclass(changed):
            object.__setattr__(changed, key, part)
        else:
            changed[key] = part
    return changed


def path(name: str, keys: Keys) -> str:
    """Return a leaf's name for people: `state.0` for ("state", 0)."""
    words = (".".join(map(str, key)) if isinstance(key, tuple) else str(key) for key in keys)
    return ".".join(filter(None, (name, *words)))
