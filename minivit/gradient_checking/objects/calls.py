"""How an object is copied, and how its forward and backward are called: as their signatures ask for."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..inputs import Inputs, required_arguments
from ..memory import Copier, cannot_be_copied
from ..parameters import Place, contents

METHODS = (("forward", "backward"), ("__call__", "backward"), ("fprop", "bprop"), ("forward_pass", "backward_pass"),
           ("forwardprop", "backprop"), ("feedforward", "backprop"))
CACHE_NAMES = ("cache", "ctx", "context", "saved", "tape", "memory", "state")


class Calls:
    """The calls of one object, and of copies of it.

    methods: the names of its forward and backward. values, options: the inputs and what else the user says; see
    `gradcheck`. target: a copy in float64, which no call has changed. inputs: the `Inputs` of each call.
    """

    def __init__(self, target: Any, methods: tuple[str, str], values: Sequence, options: Any) -> None:
        self.methods = methods
        self.cache: Any = None                                        # of the last forward that returned one
        self.target = self.copied(target)
        names = [place.path for place in contents(self.target).arrays]
        self.inputs = Inputs(getattr(self.target, methods[0]), values, options.constants, names, options)

    def copied(self, target: Any, single: bool = False) -> Any:
        """Return a copy in float64, or in float32 if `single`, that keeps which arrays share memory."""
        found = contents(target)
        arrays = [place.value for place in found.arrays if isinstance(place, Place)]
        new = Copier(arrays, [x for _, x in found.opaque if cannot_be_copied(x)], single).copy(target)
        dtype = np.float32 if single else np.float64
        for layer in contents(new).layers:
            if layer.dtype != dtype:
                layer.pack(dtype)
        return new

    def forward(self, target: Any) -> Any:
        """Call the forward with the inputs, and return y; a cache that it returns beside y is kept."""
        result = self.inputs.call(getattr(target, self.methods[0]))
        if self._takes_cache(target) and isinstance(result, tuple) and len(result) == 2:
            result, self.cache = result
        return result

    def first_forward(self, target: Any) -> None:
        """Call the forward for the first time, and say what it was given if it fails."""
        try:
            self.forward(target)
        except Exception as error:
            error.add_note("gradcheck gave the forward float64 copies of its floating inputs and weights")
            raise

    def backward(self, target: Any, dy: Any) -> Any:
        """Call the backward with dy, as the signature asks for it."""
        backward = getattr(target, self.methods[1])
        names = required_arguments(backward)
        if self._takes_cache(target):
            return backward(dy, self.cache)
        if names == [] and accepts_nothing(backward):
            return backward()
        if names is not None and isinstance(dy, tuple) and len(names) == len(dy) > 1:
            return backward(*dy)
        if isinstance(dy, tuple) and names is None and len(dy) > 1:
            return backward(*dy)
        return backward(dy)

    def needs_dy(self) -> bool:
        """Return whether the backward takes dy."""
        backward = getattr(self.target, self.methods[1])
        return not (required_arguments(backward) == [] and accepts_nothing(backward))

    def _takes_cache(self, target):
        """Return whether the backward takes a second argument whose name is that of a cache."""
        names = required_arguments(getattr(target, self.methods[1]))
        return names is not None and len(names) == 2 and names[1].lstrip("_") in CACHE_NAMES


def accepts_nothing(function: Callable) -> bool:
    """Return whether a function takes no positional argument at all."""
    try:
        kinds = [p.kind for p in inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):
        return False
    return not any(kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD,
                            inspect.Parameter.VAR_POSITIONAL) for kind in kinds)


def arrays_of(target: Any) -> dict[str, np.ndarray]:
    """Return {path: array} of all arrays in an object."""
    return {place.path: place.value for place in contents(target).arrays}


def values_of(target: Any) -> dict[str, Any]:
    """Return {path: array or number} of all arrays and numbers in an object."""
    found = contents(target)
    return {place.path: place.value for place in (*found.arrays, *found.numbers)}
