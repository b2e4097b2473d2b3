"""Find what an object holds: its arrays and numbers, where they are, and the gradient that belongs to each.

A *place* is an attribute of an object, or a leaf of the tree in it: `parts.1.W`. The gradient of a place is found by
its name, in the forms that people use:

    W    dW, _dW, W_grad, grad_W, dL_dW, ...         an attribute beside it
    W    grads["W"], gradients["W"], grad["dW"]      a dict beside it, also parallel lists or tuples
    W    the "dW" or "grad" in the same dict         {"W": ..., "dW": ...}
    W    .grad beside .data, .value or .W            an object for one parameter
    W    the second of a pair [W, dW]                if the backward changes it
    W    what `gradients=` of `gradcheck` says       any other name
"""

import types
from dataclasses import dataclass
from typing import Any

import numpy as np

from .trees import Keys, is_floating, is_number, item, leaves, parts, path, with_item

CONTAINERS = ("grads", "gradients", "grad", "gradient", "_grads", "_gradients", "_grad", "dparams", "d_params",
               "grad_params", "params_grad", "derivatives")
_VALUES, _GRADS = ("data", "value", "val", "array", "param", "values"), ("grad", "gradient", "g", "diff")
_SIMPLE = (bool, int, str, bytes, type(None), type, np.ndarray, np.generic, np.dtype, range, slice, type(Ellipsis),
           types.FunctionType, types.BuiltinFunctionType, types.ModuleType, types.MethodWrapperType)
_RANDOM = ("Generator", "RandomState", "Random")


def has_methods(x: Any, *names: str) -> bool:
    """Return whether x has methods of these names."""
    return all(callable(getattr(x, name, None)) for name in names)


def is_generator(x: Any) -> bool:
    """Return whether x is a random generator, by the name of its type."""
    return type(x).__name__ in _RANDOM


def is_layer(x: Any) -> bool:
    """Return whether x is a layer of minivit, by its methods: the checker does not import layers."""
    return has_methods(x, "parameters", "astype", "name_parameters")


def gradient_names(name: Any) -> list[str]:
    """Return the names that the gradient of `name` may have."""
    if not isinstance(name, str):
        return []
    bare = name.lstrip("_")
    around = [f"d{name}", f"d_{bare}", f"_d{bare}", f"D{bare}"]
    around += [f"{name}{end}" for end in ("_grad", "_gradient", "_grads", ".grad", "grad", "Grad")]
    around += [f"{start}{bare}" for start in ("grad_", "_grad_", "grads_", "grad", "gradient_", "dL_d", "dE_d", "dJ_d",
                                              "dC_d", "dl_d", "dloss_d", "dLoss_d", "dL", "delta_", "nabla_", "g_")]
    return around


@dataclass
class Place:
    """The value in attribute `name` of `owner`, or under `keys` of the tree there.

    depth: how many objects lie between the target and the owner.
    """

    path: str
    owner: Any
    name: str
    keys: Keys = ()
    depth: int = 0

    @property
    def value(self) -> Any:
        """The array or number."""
        return item(getattr(self.owner, self.name, None), self.keys)

    @value.setter
    def value(self, array):
        # object.__setattr__, because the __setattr__ of a frozen dataclass raises
        object.__setattr__(self.owner, self.name, with_item(getattr(self.owner, self.name), self.keys, array))

    def gradients(self) -> list[Any]:
        """Return the values that the naming rules of this module give; an empty list if there are none."""
        owner, keys = self.owner, self.keys
        found = [item(getattr(owner, name, None), keys) for name in gradient_names(self.name)]
        for name in CONTAINERS:
            container = getattr(owner, name, None)
            if callable(container) or container is None or name == self.name:
                continue
            if parts(container) is None:
                found += [container] if not keys and np.shape(container) == np.shape(self.value) else []
            else:
                found += [item(container, tail) for path in ((self.name, *keys), keys) if path
                          for tail in _spellings(path)]
        if keys and isinstance(keys[-1], str):
            around = item(getattr(owner, self.name), keys[:-1])
            found += [item(around, (name,)) for name in gradient_names(keys[-1])]
            if keys[-1] in _VALUES:
                found += [item(around, (name,)) for name in _GRADS]
        unique = {id(x): x for x in found if x is not None and (is_number(x) or isinstance(x, np.ndarray | int | list))}
        return list(unique.values())

    def is_gradient(self) -> bool:
        """Return whether the name says that it is the gradient of something."""
        if self.name in CONTAINERS:
            return True
        names = {name for other in attributes(self.owner) for name in gradient_names(other)}
        if self.name in names:
            return True
        around = dict(parts(item(getattr(self.owner, self.name, None), self.keys[:-1])) or ()) if self.keys else {}
        names = {name for key in around for name in gradient_names(key)} | set(_GRADS)
        return len(around) > 1 and self.keys[-1] in names


def _spellings(keys):
    """Yield the keys, and the keys whose last one is the name of a gradient."""
    yield keys
    for name in gradient_names(keys[-1]):
        yield (*keys[:-1], name)


@dataclass
class LayerPlace:
    """A parameter of a minivit layer that an object holds."""

    path: str
    parameter: Any
    depth: int = 0

    @property
    def value(self) -> np.ndarray:
        """The array."""
        return self.parameter.data

    @value.setter
    def value(self, array):
        if array is not self.parameter.data:
            self.parameter.data = array

    def gradients(self) -> list[Any]:
        """Return the gradient that the layer's backward has assigned; nothing before."""
        return [] if self.parameter.grad is None else [self.parameter.grad]

    def is_gradient(self) -> bool:
        """Return False."""
        return False


def attributes(owner: Any) -> dict[str, Any]:
    """Return {name: value} of an object: its attributes, its slots, and the float arrays of its class."""
    found: dict = {}
    for cls in reversed(type(owner).__mro__):
        slots = vars(cls).get("__slots__", ())
        found |= {name: value for name, value in vars(cls).items() if is_floating(value) or (
            is_number(value) and not name.startswith("__"))}
        found |= {name: getattr(owner, name) for name in ([slots] if isinstance(slots, str) else slots)
                  if hasattr(owner, name) and not name.startswith("__")}
    return found | getattr(owner, "__dict__", {})


@dataclass
class Contents:
    """What an object holds: places of arrays and of numbers, its layers of minivit, random generators, and the rest.

    opaque: pairs (path, value) of what has no attributes to look into. owners: pairs (path, object), the target first.
    """

    arrays: list[Any]
    numbers: list[Place]
    layers: list[Any]
    generators: list[Any]
    opaque: list[tuple[str, Any]]
    owners: list[tuple[str, Any]]


def contents(target: Any) -> Contents:
    """Return what an object holds, in the order of its attributes."""
    found = Contents([], [], [], [], [], [])
    _collect(found, target, "", 0, set())
    return found


def _collect(found, owner, prefix, depth, seen):
    """Add what one object holds, and what its parts hold."""
    seen.add(id(owner))
    found.owners.append((prefix, owner))
    for name, value in list(attributes(owner).items()):
        for keys, leaf in list(leaves(value)):
            here = path(f"{prefix}{name}", keys)
            if is_floating(leaf):
                found.arrays.append(Place(_short(here, value, keys, owner), owner, name, keys, depth))
            elif is_number(leaf):
                found.numbers.append(Place(_short(here, value, keys, owner), owner, name, keys, depth))
            elif is_generator(leaf) and has_methods(leaf, "random"):
                found.generators.append(leaf)
            elif not isinstance(leaf, _SIMPLE):
                part = leaf.__self__ if isinstance(leaf, types.MethodType) else leaf
                if id(part) not in seen:
                    _look_into(found, part, here, depth + 1, seen)


def _look_into(found, part, here, depth, seen):
    """Add a part that is neither array nor number: a layer of minivit, another object, or something opaque."""
    if is_layer(part):
        seen.add(id(part))
        found.layers.append(part)
        found.arrays += [LayerPlace(f"{here}.{p.name}", p, depth) for p in part.parameters()]
    elif hasattr(part, "__dict__") or any(vars(cls).get("__slots__") for cls in type(part).__mro__):
        _collect(found, part, f"{here}.", depth, seen)
    else:
        seen.add(id(part))
        found.opaque.append((here, part))


def _short(here, tree, keys, owner):
    """Return the path of a leaf without "value" or "data", if its container holds a parameter and its gradient."""
    around = parts(item(tree, keys[:-1])) if keys else attributes(owner).items()
    shortened, _, last = here.rpartition(".")
    is_holder = last in _VALUES and any(name in _GRADS for name, _ in around or ())
    return shortened if is_holder and shortened else here
