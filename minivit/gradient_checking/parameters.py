"""Find the parameters of any object with a forward and a backward: the float arrays that it holds, and where."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .inputs import is_floating


def has_methods(x: Any, *names: str) -> bool:
    """Return whether x has methods of these names."""
    return all(callable(getattr(x, name, None)) for name in names)


def is_layer(x: Any) -> bool:
    """Return whether x is a layer of minivit, by its methods: the checker does not import layers."""
    return has_methods(x, "parameters", "astype", "name_parameters")


@dataclass
class ArrayAttribute:
    """A float array in attribute `name` of `owner`, or under `keys` in the list, tuple or dict there."""

    path: str
    owner: Any
    name: str
    keys: tuple = ()

    @property
    def value(self) -> np.ndarray:
        """The array."""
        return _item(getattr(self.owner, self.name), self.keys)

    @value.setter
    def value(self, array):
        # object.__setattr__, because the __setattr__ of a frozen dataclass raises
        object.__setattr__(self.owner, self.name, _with_item(getattr(self.owner, self.name), self.keys, array))

    @property
    def gradient(self) -> Any:
        """`d<name>` of the owner, or `grads[name]`, or `grads[key]` for an array in a container; else None."""
        grads = getattr(self.owner, "grads", None)
        places = [(getattr(self.owner, f"d{self.name}", None), self.keys), (grads, (self.name, *self.keys))]
        places += [(grads, self.keys)] if self.keys else []
        return next((found for place in places if (found := _item(*place)) is not None), None)

    @property
    def is_gradient_buffer(self) -> bool:
        """Whether it is a `dw` beside a `w`, or lies in `grads`."""
        return self.name == "grads" or (self.name[:1] == "d" and self.name[1:] in _attributes(self.owner))


def _item(container, keys):
    """Return the value under nested keys, or None."""
    for key in keys:
        try:
            container = container[key]
        except (LookupError, TypeError):
            return None
    return container


def _with_item(container, keys, array):
    """Return the container with the array under nested keys: tuples are new, lists and dicts change in place."""
    if not keys:
        return array
    inner = _with_item(container[keys[0]], keys[1:], array)
    if isinstance(container, tuple):
        parts = (*container[:keys[0]], inner, *container[keys[0] + 1:])
        return type(container)(*parts) if hasattr(container, "_fields") else parts
    container[keys[0]] = inner
    return container


@dataclass
class LayerParameter:
    """A parameter of a minivit layer that an object holds."""

    path: str
    parameter: Any
    is_gradient_buffer = False

    @property
    def value(self) -> np.ndarray:
        """The array."""
        return self.parameter.data

    @value.setter
    def value(self, array):
        self.parameter.data = array

    @property
    def gradient(self) -> Any:
        """The gradient that the layer's backward has assigned; None before."""
        return self.parameter.grad


@dataclass
class UnreachableArray:
    """An array, `what`, in a part that has no forward and backward, so that its gradient cannot be found."""

    path: str
    what: str


def _attributes(owner):
    """Return {name: value} of an object: its attributes, its slots, and the float arrays of its class."""
    found: dict = {}
    for cls in reversed(type(owner).__mro__):
        slots = vars(cls).get("__slots__", ())
        found |= {name: value for name, value in vars(cls).items() if is_floating(value)}
        found |= {name: getattr(owner, name) for name in ([slots] if isinstance(slots, str) else slots)
                  if hasattr(owner, name)}
    return found | getattr(owner, "__dict__", {})


def _leaves(value, keys=(), around=()):
    """Yield pairs (keys, part) of all values in nested lists, tuples and dicts, or the value itself."""
    if not isinstance(value, dict | list | tuple):
        yield keys, value
    elif id(value) not in around:
        for key, part in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield from _leaves(part, (*keys, key), (*around, id(value)))


def find_arrays(owner: Any, path: str = "", seen: set | None = None) -> Iterator[Any]:
    """Yield all float arrays that an object holds, and those of its parts that have a forward and a backward."""
    seen = set() if seen is None else seen
    seen.add(id(owner))
    for name, value in _attributes(owner).items():
        for keys, part in _leaves(value):
            here = path + ".".join(map(str, (name, *keys)))
            if is_floating(part):
                yield ArrayAttribute(here, owner, name, keys)
            elif id(part) in seen or isinstance(part, type):
                continue
            elif not has_methods(part, "forward", "backward"):
                within = [name for name, x in getattr(part, "__dict__", {}).items() if is_floating(x)]
                if within:
                    seen.add(id(part))
                    yield UnreachableArray(here, f"{type(part).__name__}.{within[0]}")
            elif is_layer(part):
                seen.add(id(part))
                if part.dtype != np.float64:
                    part.pack(np.float64)
                yield from (LayerParameter(f"{here}.{p.name}", p) for p in part.parameters())
            else:
                yield from find_arrays(part, f"{here}.", seen)
