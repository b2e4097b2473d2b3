"""The gradients that belong to a place in an object, wherever its backward has left them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..memory import address_range
from ..parameters import CONTAINERS, Contents, Place, contents, gradient_names, has_methods
from ..trees import is_floating, is_number, item, parts
from .calls import accepts_nothing, arrays_of, values_of
from .candidates import Candidates

_METHODS_FOR_PARAMETERS = ("parameters", "params", "get_parameters", "get_params", "params_and_grads",
                           "parameters_and_gradients", "get_params_and_grads", "trainable")
_METHODS_FOR_GRADIENTS = ("gradients", "grads", "get_gradients", "get_grads", "get_params_grad", "parameters_grad")


class Claims:
    """Finds gradients after a backward. named: as `gradients=` of `gradcheck`: {"weights": "nabla_w"}."""

    def __init__(self, candidates: Candidates, named: Mapping[str, str]) -> None:
        self.candidates, self.base, self.named = candidates, candidates.base, named
        self.unique: dict[str, bool] = {}

    def of(self, place: Any, target: Any) -> list[Any]:
        """Return the gradients of a place in an object after its backward."""
        return (self._named_by_the_user(place, target) or self._outermost(place, target) or place.gradients()
                or self._second_of_pair(place) or _by_methods(place, target))

    def _named_by_the_user(self, place, target):
        """Return the gradient that the user names."""
        for name, other in self.named.items():
            if place.path == name or place.path.startswith(f"{name}."):
                rest = place.path[len(name) + 1:]
                found = _attribute(target, f"{other}.{rest}" if rest else other)
                return [] if found is None else [found]
        return []

    def _outermost(self, place, target):
        """Return the gradient of a part's parameter in a dict of the target: grads["W"], if only one W exists."""
        if place.depth == 0:
            return []
        short = place.path.rpartition(".")[2]
        keys = [place.path] + ([short] if self._is_unique(short) else [])
        keys += [name for key in keys for name in gradient_names(key)]
        dicts = [d for name in CONTAINERS if isinstance(d := getattr(target, name, None), dict)]
        return [d[key] for d in dicts for key in keys if d.get(key) is not None][:1]

    def _is_unique(self, short):
        """Return whether all candidates whose last name this is are one piece of memory."""
        if short not in self.unique:
            arrays = [p.value for p in contents(self.base).arrays if p.path in self.candidates.names
                      and p.path.rpartition(".")[2] == short]
            self.unique[short] = all(np.shares_memory(arrays[0], x) for x in arrays[1:])
        return self.unique[short]

    def _second_of_pair(self, place):
        """Return the second of a pair [W, dW] of arrays of one shape, if the backward has changed it."""
        if not isinstance(place, Place) or place.keys[-1:] != (0,) or len(place.keys) < 2:
            return []
        pair = item(getattr(place.owner, place.name), place.keys[:-1])
        if len(pair) != 2 or np.shape(pair[0]) != np.shape(pair[1]):
            return []
        before = arrays_of(self.base).get(place.path[:-1] + "1")
        return [] if before is not None and np.array_equal(before, pair[1], equal_nan=True) else [pair[1]]

    def makes_a_parameter(self, place: Place, claims: list, target: Any) -> bool:
        """Return whether a number is a parameter: the backward made its gradient, and the result depends on it.

        Else it may be a setting: `norm` beside a logged `grad_norm`, or `ecay` beside `decay`.
        """
        before = [g for g in self.of(place, self.base) if np.shape(g) == ()]
        made = [g for g in claims if _is_gradient_of_a_number(g) and not any(g == other for other in before)]
        if not made or values_of(target).get(place.path) != place.value:   # or a result, such as the last loss
            return False
        return self.candidates.is_read(place.path)


def refuse_orphans(found: Contents, names: set[str], input_names: list[str]) -> None:
    """Raise ValueError for gradients in an object, by their names, that belong to no tensor."""
    orphans = []
    for prefix, owner in found.owners:
        orphans += [f"{prefix}{name}" for name in _gradients_of_integers(owner)]
        for name in ("grads", "gradients", "_grads"):
            held = getattr(owner, "__dict__", {}).get(name)
            orphans += [f"{prefix}{name}[{key!r}]" for key, g in (held.items() if isinstance(held, dict) else ())
                        if isinstance(key, str) and (is_floating(g) or is_number(g))
                        and not _is_known(key, (*names, *input_names))]
    if orphans:
        raise ValueError(f"gradients of unknown tensors: found {', '.join(orphans)} after the backward, expected a "
                         "parameter of that name in the object, hold it there as a float or an array")


def _is_known(key, names):
    """Return whether a key of a dict of gradients, or what it is the gradient of, is a part of a known name."""
    wanted = {key, *_bases(key)}
    return bool(wanted & {"x", "input", "inputs"}) or any(name in wanted or wanted & set(name.split("."))
                                                          for name in names)


def _bases(name):
    """Yield the names whose gradient may be called `name`."""
    for start in range(len(name)):
        for end in range(start + 1, len(name) + 1):
            if name in gradient_names(name[start:end]):
                yield name[start:end]


def _gradients_of_integers(owner):
    """Yield the names of gradients of whole numbers, which cannot be perturbed."""
    held = vars(owner) if hasattr(owner, "__dict__") else {}
    for name, value in held.items():
        if isinstance(value, int) and not isinstance(value, bool):
            yield from (g for g in gradient_names(name) if is_number(held.get(g)) or is_floating(held.get(g)))


def _is_gradient_of_a_number(g):
    """Return whether a gradient is a single number."""
    return np.shape(g) == () and np.asarray(g).dtype.kind in "fciu"


def _attribute(target, dotted):
    """Return what a path of attributes and keys leads to; None if there is nothing."""
    for name in dotted.split("."):
        if parts(target) is None:
            target = getattr(target, name, None)
        else:
            target = item(target, (int(name) if name.isdigit() and not isinstance(target, dict) else name,))
    return target


def _by_methods(place, target):
    """Return the gradient that methods such as `parameters()` and `gradients()` of the target give for an array."""
    x = place.value
    if not is_floating(x):
        return []
    for method in _METHODS_FOR_PARAMETERS:
        if has_methods(target, method) and accepts_nothing(getattr(target, method)):
            found = getattr(target, method)()
            found = list(found.values()) if isinstance(found, dict) else list(found) if found is not None else []
            others = next((getattr(target, name)() for name in _METHODS_FOR_GRADIENTS
                           if has_methods(target, name) and accepts_nothing(getattr(target, name))), None)
            others = list(others.values()) if isinstance(others, dict) else list(others or [])
            if len(others) == len(found):
                found = list(zip(found, others, strict=True))
            gradients = [p[-1] for p in found if isinstance(p, tuple | list) and len(p) >= 2
                         and isinstance(p[-2], np.ndarray) and _is_same(p[-2], x)]
            if gradients and gradients[0] is not None:
                return gradients[:1]
    return []


def _is_same(a, b):
    """Return whether two arrays are the same memory in the same shape."""
    return a is b or (a.shape == b.shape and a.strides == b.strides and address_range(a) == address_range(b))
