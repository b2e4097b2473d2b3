"""The arguments of a forward: their names, their float64 copies, and which of them are checked."""

import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from ..common.checks import check_name


def is_floating(x: Any) -> bool:
    """Return whether x is a floating or complex array."""
    return isinstance(x, np.ndarray) and x.dtype.kind in "fc"


def converted(x: Any, dtype: Any) -> Any:
    """Return a copy of an array, floating arrays as `dtype`; other values unchanged."""
    if not isinstance(x, np.ndarray | np.floating | list):
        return x
    if isinstance(x, list) and any(isinstance(part, np.ndarray) for part in x):
        raise TypeError("wrong type of input: found a list of arrays, expected an array, pass each array as an "
                        "argument of its own")
    x = np.array(x, order="C")
    if np.iscomplexobj(x) and dtype == np.float64:
        raise TypeError("wrong dtype of a tensor: found complex numbers, expected real numbers, pass the real and the "
                        "imaginary part as two arrays")
    return x.astype(dtype) if is_floating(x) else x


def argument_names(forward: Callable, count: int, taken: Collection[str]) -> list[str]:
    """Return the names of the first arguments of the forward, or "input 0", ... where they are unknown or taken."""
    try:
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = [p.name for p in inspect.signature(forward).parameters.values() if p.kind in kinds][:count]
    except (TypeError, ValueError):
        names = []
    if len(names) == count and not set(names) & set(taken):
        return names
    return ["input"] if count == 1 else [f"input {i}" for i in range(count)]


class Inputs:
    """The arguments of a forward: `values` in order, the `arrays` among them by name, and those to be `checked`.

    constants: names without a gradient, of inputs or parameters. parameter_names: these are no names of inputs.
    """

    def __init__(self, forward: Callable, values: Sequence, constants: Collection[str],
                 parameter_names: Collection[str] = (), dtype: Any = np.float64) -> None:
        self.values = [converted(x, dtype) for x in values]
        self.names = argument_names(forward, len(values), parameter_names)
        for name in constants:
            check_name("constant", name, [*self.names, *parameter_names])
        self.arrays = {name: x for name, x in zip(self.names, self.values, strict=True) if isinstance(x, np.ndarray)}
        self.checked = {name: x for name, x in self.arrays.items() if is_floating(x) and name not in constants}
        for name, x in self.arrays.items():
            if x.dtype.kind not in "fciub":
                raise TypeError(f"wrong dtype of {name}: found {x.dtype}, expected an array of numbers, pass other "
                                "values as single objects")
            if not np.isfinite(x).all():
                raise ValueError(f"wrong values in {name}: found NaN or infinity, expected finite numbers, choose "
                                 "other inputs")

    def gradients(self, returned: Any) -> dict:
        """Return {name: gradient} from the backward's result: one array, or one for each argument or checked array."""
        if isinstance(returned, dict):
            raise TypeError("wrong type of the backward's result: found a dict, expected gradients in the order of the "
                            "inputs, return a tuple")
        returned = list(returned) if isinstance(returned, tuple | list) else [returned]
        floating = [name for name in self.names if is_floating(self.arrays.get(name))]
        for names in (self.names, floating, list(self.checked)):
            if len(returned) == len(names):
                return {name: g for name, g in zip(names, returned, strict=True) if name in self.checked}
        if not self.checked and returned[0] is None:
            return {}
        raise ValueError(f"wrong number of gradients from the backward: found {len(returned)}, expected "
                         f"{len(self.checked)} for the floating-point inputs ({', '.join(self.checked)}), return one "
                         "for each or name inputs without a gradient in constants=(...)")
