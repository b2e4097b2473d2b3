"""The arguments of a framework's function: trees in which some leaves are arrays of the framework."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ..inputs import argument_names, matching
from ..memory import checked_dtype, copied_with_layout
from ..trees import is_floating, leaves, mapped, path


class Arguments:
    """Named trees of arguments. Arrays of the framework in them are copied into arrays of NumPy.

    arrays: {name of a leaf: array of NumPy}. originals: the same leaves as the user gave them. checked: those arrays
    whose gradient is checked. inventory: {name: why a floating array is not checked}. If no array of the framework is
    given, arrays of NumPy stand for them.
    """

    def __init__(self, framework: Any, signature: Callable, values: Sequence, keywords: Mapping[str, Any],
                 constants: Collection[str], taken: Collection[str]) -> None:
        self.names = [*argument_names(signature, len(values), taken), *keywords]
        self.keywords = list(keywords)
        self.trees = dict(zip(self.names, (*values, *keywords.values()), strict=True))
        found = {path(name, keys): leaf for name, tree in self.trees.items() for keys, leaf in leaves(tree)}
        self.leaf_names = list(found)
        is_given = any(map(framework.is_array, found.values()))
        self.originals = {name: leaf for name, leaf in found.items()
                          if (framework.is_array(leaf) if is_given else isinstance(leaf, np.ndarray))}
        self.arrays: dict[str, np.ndarray] = {}
        for name, leaf in self.originals.items():
            x = framework.to_numpy(leaf) if framework.is_array(leaf) else leaf
            if x is not None:                                         # else it is no array of numbers, such as a key
                self.arrays[name] = copied_with_layout(x, checked_dtype(x) if is_floating(x) else x.dtype)
        self._choose(framework, constants, {name: x for name, x in found.items()
                                            if is_given and is_floating(x) and name not in self.arrays})

    def _choose(self, framework, constants, foreign):
        """Set `checked` and the inventory. foreign: arrays of NumPy beside arrays of the framework."""
        floating = [name for name, x in self.arrays.items() if is_floating(x)]
        frozen = framework.frozen({name: self.originals[name] for name in floating})
        named = {name for pattern in constants for name in matching(pattern, self.leaf_names)}
        self.checked = {name: self.arrays[name] for name in floating if name not in named and name not in frozen}
        self.inventory = {name: why for name, why in frozen.items() if name not in named}
        self.inventory |= dict.fromkeys(foreign, "not seen: an array of NumPy")
        self.inventory |= dict.fromkeys((name for name in self.leaf_names if name in named), "constant")
        for name, x in self.checked.items():
            if not np.isfinite(x).all():
                raise ValueError(f"wrong values in {name}: found NaN or infinity, expected finite numbers, choose "
                                 f"other inputs, or name a constant, such as a mask, in constants=({name!r},)")

    def filled(self, arrays: Mapping[str, Any]) -> tuple[list, dict]:
        """Return positional and keyword arguments with arrays of the framework, by name, in place of the originals."""
        def with_arrays(name):
            return mapped(lambda keys, leaf: arrays.get(path(name, keys), leaf), self.trees[name])

        values = {name: with_arrays(name) for name in self.trees}
        keywords = {name: values.pop(name) for name in self.keywords}
        return list(values.values()), keywords
