"""One interface for everything that can be checked: named float64 tensors, a forward that reads them, a backward."""

import copy
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..common.checks import check_name


@dataclass(frozen=True)
class Subject:
    """A target whose tensors can be moved.

    inputs, parameters: the float64 arrays to check, by name; contiguous, and moved in place. forward: () -> y.
    backward: dy -> {name: gradient or None}, after a forward of its own. state: () -> {name: array} of everything that
    neither may change. as_complex: () -> the same with complex tensors; None unless the target is a pair of functions.
    is_layer: whether it is a layer of minivit, whose images must not influence each other.
    """

    inputs: dict[str, np.ndarray]
    parameters: dict[str, np.ndarray]
    forward: Callable[[], Any]
    backward: Callable[[np.ndarray], dict]
    state: Callable[[], dict]
    as_complex: Callable | None = None
    is_layer: bool = False

    @property
    def tensors(self) -> dict:
        """All tensors to check: inputs, then parameters."""
        return self.inputs | self.parameters


def make_subject(target: Any, inputs: Any, constants: Any, rng: np.random.Generator) -> Subject:
    """Make a `Subject` of float64 copies of the target and its inputs, with random weights. Raises as `gradcheck`."""
    if isinstance(target, tuple) and len(target) == 2 and all(map(callable, target)):
        return _of_functions(*target, _Inputs(target[0], inputs, constants))
    for method in ("forward", "backward"):
        if not callable(getattr(target, method, None)):
            raise TypeError(f"{type(target).__name__} has no method {method!r}: give an object with forward and "
                            "backward, or a pair of functions")
    if isinstance(target, type):
        raise TypeError(f"{target.__name__} is a class: give an object of it, {target.__name__}(...)")
    return (_of_layer if _is_layer(target) else _of_object)(target, inputs, constants, rng)


def _is_layer(x):
    """Return whether x is a layer of minivit, by its methods: the checker does not import layers."""
    return all(callable(getattr(x, name, None)) for name in ("parameters", "astype", "name_parameters"))


def _is_floating(x):
    """Return whether x is a floating array."""
    return isinstance(x, np.ndarray) and x.dtype.kind in "fc"


class _Inputs:
    """The arguments of a forward: `values` in order, the `arrays` among them by name, and those to be `checked`."""

    def __init__(self, forward, values, constants, taken=(), dtype=np.float64):
        self.values = [_converted(x, dtype) for x in values]
        self.names = _argument_names(forward, len(values), taken)
        for name in constants:
            check_name("constant", name, [*self.names, *taken])
        self.arrays = {name: x for name, x in zip(self.names, self.values, strict=True) if isinstance(x, np.ndarray)}
        self.checked = {name: x for name, x in self.arrays.items() if _is_floating(x) and name not in constants}
        for name, x in self.arrays.items():
            if x.dtype.kind not in "fciub":
                raise TypeError(f"{name} must be an array of numbers, not of {x.dtype}")
            if not np.isfinite(x).all():
                raise ValueError(f"{name} holds NaN or infinity")

    def gradients(self, returned):
        """Return {name: gradient} from the backward's result: one array, or one for each argument or checked array."""
        if isinstance(returned, dict):
            raise TypeError("the backward must return its gradients in the order of the inputs, not a dict")
        returned = list(returned) if isinstance(returned, tuple | list) else [returned]
        floating = [name for name in self.names if _is_floating(self.arrays.get(name))]
        for names in (self.names, floating, list(self.checked)):
            if len(returned) == len(names):
                return {name: g for name, g in zip(names, returned, strict=True) if name in self.checked}
        if not self.checked and returned[0] is None:
            return {}
        raise ValueError(f"the backward gives {len(returned)} gradients for {len(self.checked)} floating-point inputs "
                         f"({', '.join(self.checked)}); one that has no gradient belongs into constants=(...)")


def _converted(x, dtype):
    """Return a copy of an array, floating arrays as `dtype`; other values unchanged."""
    if not isinstance(x, np.ndarray | np.floating | list):
        return x
    if isinstance(x, list) and any(isinstance(part, np.ndarray) for part in x):
        raise TypeError("an input is a list of arrays: pass each array as an argument of its own")
    x = np.array(x, order="C")
    if np.iscomplexobj(x) and dtype == np.float64:
        raise TypeError("complex arrays cannot be checked: give real and imaginary parts")
    return x.astype(dtype) if _is_floating(x) else x


def _argument_names(forward, count, taken):
    """Return the names of the first arguments of the forward, or "input 0", ... where they are unknown or taken."""
    try:
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = [p.name for p in inspect.signature(forward).parameters.values() if p.kind in kinds][:count]
    except (TypeError, ValueError):
        names = []
    if len(names) == count and not set(names) & set(taken):
        return names
    return ["input"] if count == 1 else [f"input {i}" for i in range(count)]


# ---- a pair of functions -----------------------------------------------------------------------------------


def _of_functions(forward, backward, inputs):
    """Make the subject of a pair of functions."""
    def run():
        result = forward(*inputs.values)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"the forward of a pair must return (y, cache), not {type(result).__name__}")
        return result

    def backward_twice(dy):
        _, cache = run()
        first, second = ({name: np.copy(g) for name, g in inputs.gradients(backward(upstream, cache)).items()
                          if g is not None}
                         for upstream in (dy, dy.copy()))
        for name in first:
            if not np.array_equal(first[name], second[name], equal_nan=True):
                raise ValueError(f"the backward gives two different gradients of {name} from one cache: it changes it, "
                                 "or is random")
        return first

    def as_complex():
        constants = set(inputs.names) - set(inputs.checked)
        return _of_functions(forward, backward, _Inputs(forward, inputs.values, constants, dtype=np.complex128))

    return Subject(inputs.checked, {}, lambda: run()[0], backward_twice, lambda: inputs.arrays, as_complex)


# ---- layers and models -------------------------------------------------------------------------------------


def _randomised(value, rng):
    """Return random values of the size of `value`; matrices scaled by their fan-in, so that nothing saturates."""
    spread = 1 / math.sqrt(value.shape[0]) if value.ndim > 1 else 0.5
    return np.asarray(value + spread * rng.standard_normal(value.shape))


def _of_layer(layer, values, constants, rng):
    """Make the subject of a layer or model of minivit."""
    layer = layer.astype(np.float64)
    layer.name_parameters()
    parameters = layer.parameters()
    for p in parameters:
        if p.name not in constants:
            p.data = _randomised(p.data, rng)
    inputs = _Inputs(layer.forward, values, constants, [p.name for p in parameters])

    def backward(dy):
        layer.forward(*inputs.values)
        returned = layer.backward(dy)
        return inputs.gradients(returned) | {p.name: p.grad for p in parameters}

    data = {p.name: p.data for p in parameters}
    return Subject(inputs.checked, {name: x for name, x in data.items() if name not in constants},
                   lambda: layer.forward(*inputs.values), backward, lambda: inputs.arrays | data, is_layer=True)


# ---- any object with forward and backward -------------------------------------------------------------------


@dataclass
class _Held:
    """A float array that an object holds in attribute `name`, or under `keys` in the list, tuple or dict there."""

    path: str
    owner: Any
    name: str
    keys: tuple = ()

    @property
    def value(self):
        """The array."""
        return _at(getattr(self.owner, self.name), self.keys)

    @value.setter
    def value(self, array):
        # Past a __setattr__ of its own: that of a frozen dataclass raises.
        object.__setattr__(self.owner, self.name, _replaced(getattr(self.owner, self.name), self.keys, array))

    @property
    def gradient(self):
        """`d<name>` of the owner, or `grads[name]`, or `grads[key]` for an array in a container; else None."""
        grads = getattr(self.owner, "grads", None)
        places = [(getattr(self.owner, f"d{self.name}", None), self.keys), (grads, (self.name, *self.keys))]
        places += [(grads, self.keys)] if self.keys else []
        return next((found for place in places if (found := _at(*place)) is not None), None)

    @property
    def is_memory_for_a_gradient(self):
        """Whether it is a `dw` beside a `w`, or lies in `grads`."""
        return self.name == "grads" or (self.name[:1] == "d" and self.name[1:] in _attributes(self.owner))


def _at(held, keys):
    """Return the value under nested keys, or None."""
    for key in keys:
        try:
            held = held[key]
        except (LookupError, TypeError):
            return None
    return held


def _replaced(held, keys, array):
    """Return the container with the array under these keys: tuples are new, lists and dicts change in place."""
    if not keys:
        return array
    inner = _replaced(held[keys[0]], keys[1:], array)
    if isinstance(held, tuple):
        parts = (*held[:keys[0]], inner, *held[keys[0] + 1:])
        return type(held)(*parts) if hasattr(held, "_fields") else parts
    held[keys[0]] = inner
    return held


@dataclass
class _HeldByLayer:
    """A parameter of a minivit layer that an object holds."""

    path: str
    parameter: Any
    is_memory_for_a_gradient = False

    @property
    def value(self):
        """The array."""
        return self.parameter.data

    @value.setter
    def value(self, array):
        self.parameter.data = array

    @property
    def gradient(self):
        """The gradient that the layer's backward has assigned; None before."""
        return self.parameter.grad


@dataclass
class _OutOfReach:
    """A part that holds the array `what` but has no forward and backward, so its gradient cannot be found."""

    path: str
    what: str


def _attributes(owner):
    """Return {name: value} of an object: its attributes, its slots, and the float arrays of its class."""
    found: dict = {}
    for cls in reversed(type(owner).__mro__):
        slots = vars(cls).get("__slots__", ())
        found |= {name: value for name, value in vars(cls).items() if _is_floating(value)}
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


def _walk(owner, path="", seen=None):
    """Yield all float arrays that an object holds, and those of its parts that have a forward and a backward.

    A part that holds an array but has no forward and backward yields an `_OutOfReach`.
    """
    seen = set() if seen is None else seen
    seen.add(id(owner))
    for name, value in _attributes(owner).items():
        for keys, part in _leaves(value):
            here = path + ".".join(map(str, (name, *keys)))
            if _is_floating(part):
                yield _Held(here, owner, name, keys)
            elif id(part) in seen or isinstance(part, type):
                continue
            elif not all(callable(getattr(part, method, None)) for method in ("forward", "backward")):
                within = [name for name, x in getattr(part, "__dict__", {}).items() if _is_floating(x)]
                if within:
                    seen.add(id(part))
                    yield _OutOfReach(here, f"{type(part).__name__}.{within[0]}")
            elif _is_layer(part):
                seen.add(id(part))
                if part.dtype != np.float64:
                    part.pack(np.float64)
                yield from (_HeldByLayer(f"{here}.{p.name}", p) for p in part.parameters())
            else:
                yield from _walk(part, f"{here}.", seen)


def _of_object(target, values, constants, rng):
    """Make the subject of an object with a forward and a backward."""
    try:
        target = copy.deepcopy(target)
    except Exception as error:
        raise TypeError(f"{type(target).__name__} cannot be copied ({error}): gradcheck works on a copy, remove what "
                        "cannot be copied or define __deepcopy__") from error
    parameters, passed_over = {}, []
    for held in _walk(target):
        if isinstance(held, _OutOfReach):
            if held.path not in constants:
                raise TypeError(f"{held.path} holds an array, {held.what}, but has no forward and backward: hold the "
                                "array itself, so that it is checked (a constant belongs into "
                                f"constants=({held.path!r},))")
            passed_over.append(held.path)
            continue
        held.value = _converted(held.value, np.float64)
        if not held.is_memory_for_a_gradient:
            parameters[held.path] = held
            if held.path not in constants:
                held.value = _randomised(held.value, rng)
    data = {path: held.value for path, held in parameters.items()}
    moved = {path: x for path, x in data.items() if path not in constants}
    inputs = _Inputs(target.forward, values, constants, [*parameters, *passed_over])
    fresh, latest = copy.deepcopy(target), target

    def forward():
        for path, x in moved.items():  # an earlier forward may have put an equal array in its place
            parameters[path].value = x
        return target.forward(*inputs.values)

    def backward(dy):
        # In a copy that has seen nothing, so that gradients that are added up start from where they start.
        nonlocal latest
        latest = copy.deepcopy(fresh)
        held = {held.path: held for held in _walk(latest) if held.path in data}
        for path, x in data.items():
            held[path].value = x.copy()
        latest.forward(*inputs.values)
        returned = latest.backward(dy)
        return inputs.gradients(returned) | {path: held[path].gradient for path in moved}

    def state():
        # What is constant in an object may change by itself, such as the running mean of a batch norm.
        return inputs.arrays | {held.path: held.value for held in _walk(latest) if held.path in moved}

    return Subject(inputs.checked, moved, forward, backward, state)
