"""Adapters: make a `FunctionUnderTest` of a pair of functions, of a layer, or of any object with both methods."""

import copy
import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from .function import FunctionUnderTest
from .inputs import Inputs, converted
from .parameters import UnreachableArray, find_arrays, has_methods, is_layer


def function_under_test(target: Any, inputs: Sequence, constants: Collection[str],
                        rng: np.random.Generator) -> FunctionUnderTest:
    """Return a `FunctionUnderTest` of float64 copies of target and inputs, with random weights.

    A target that is one already stays as it is.
    """
    if isinstance(target, FunctionUnderTest):
        return target
    if isinstance(target, tuple) and len(target) == 2 and all(map(callable, target)):
        return _from_pair(*target, Inputs(target[0], inputs, constants))
    for method in ("forward", "backward"):
        if not has_methods(target, method):
            raise TypeError(f"wrong target: found {type(target).__name__} without a method {method!r}, expected "
                            "forward and backward, pass an object with both or a pair of functions")
    if isinstance(target, type):
        raise TypeError(f"wrong target: found the class {target.__name__}, expected an object of it, pass "
                        f"{target.__name__}(...)")
    return (_from_layer if is_layer(target) else _from_object)(target, inputs, constants, rng)


def _from_pair(forward, backward, inputs):
    """Adapt a pair of functions."""
    def run():
        result = forward(*inputs.values)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"wrong result of the forward of a pair: found {type(result).__name__}, expected a tuple "
                            "(y, cache), return both")
        return result

    def backward_twice(dy):
        _, cache = run()
        first, second = ({name: np.copy(g) for name, g in inputs.gradients(backward(upstream, cache)).items()
                          if g is not None}
                         for upstream in (dy, dy.copy()))
        for name in first:
            if not np.array_equal(first[name], second[name], equal_nan=True):
                raise ValueError("the backward is not repeatable: found two different gradients of "
                                 f"{name} from one cache, expected equal ones, do not change the cache or draw random "
                                 "numbers")
        return first

    def as_complex():
        constants = set(inputs.names) - set(inputs.checked)
        return _from_pair(forward, backward, Inputs(forward, inputs.values, constants, dtype=np.complex128))

    return FunctionUnderTest(inputs.checked, {}, lambda: run()[0], backward_twice, lambda: inputs.arrays, as_complex)


def _randomised(value, rng):
    """Return random values of the size of `value`; matrices scaled by their fan-in, so that nothing saturates."""
    spread = 1 / math.sqrt(value.shape[0]) if value.ndim > 1 else 0.5
    return np.asarray(value + spread * rng.standard_normal(value.shape))


def _from_layer(layer, values, constants, rng):
    """Adapt a layer or model of minivit."""
    layer = layer.astype(np.float64)
    layer.name_parameters()
    parameters = layer.parameters()
    for p in parameters:
        if p.name not in constants:
            p.data = _randomised(p.data, rng)
    inputs = Inputs(layer.forward, values, constants, [p.name for p in parameters])

    def backward(dy):
        layer.forward(*inputs.values)
        returned = layer.backward(dy)
        return inputs.gradients(returned) | {p.name: p.grad for p in parameters}

    data = {p.name: p.data for p in parameters}
    return FunctionUnderTest(inputs.checked, {name: x for name, x in data.items() if name not in constants},
                             lambda: layer.forward(*inputs.values), backward, lambda: inputs.arrays | data,
                             is_layer=True)


def _copied(target):
    """Return a deep copy of the target."""
    try:
        return copy.deepcopy(target)
    except Exception as error:
        raise TypeError(f"{type(target).__name__} cannot be copied: found {error}, expected an object that "
                        "copy.deepcopy accepts, remove the part or define __deepcopy__") from error


def _parameters_of(target, constants, rng):
    """Return {path: array in target} of an object, with random float64 values, and the paths that are ignored."""
    parameters, ignored = {}, []
    for array in find_arrays(target):
        if isinstance(array, UnreachableArray):
            if array.path not in constants:
                raise TypeError(f"the gradient of {array.path} cannot be found: found the array {array.what} in a part "
                                "without forward and backward, expected arrays in the object itself, move it there or "
                                f"name it in constants=({array.path!r},)")
            ignored.append(array.path)
            continue
        array.value = converted(array.value, np.float64)
        if not array.is_gradient_buffer:
            parameters[array.path] = array
            if array.path not in constants:
                array.value = _randomised(array.value, rng)
    return parameters, ignored


def _from_object(target, values, constants, rng):
    """Adapt an object with a forward and a backward."""
    target = _copied(target)
    parameters, ignored = _parameters_of(target, constants, rng)
    data = {path: array.value for path, array in parameters.items()}
    checked = {path: x for path, x in data.items() if path not in constants}
    inputs = Inputs(target.forward, values, constants, [*parameters, *ignored])
    unused, latest = copy.deepcopy(target), target

    def forward():
        for path, x in checked.items():  # an earlier forward may have assigned an equal array
            parameters[path].value = x
        return target.forward(*inputs.values)

    def backward(dy):
        # in a copy without earlier calls, so that accumulated gradients start from their initial values
        nonlocal latest
        latest = copy.deepcopy(unused)
        arrays = {array.path: array for array in find_arrays(latest) if array.path in data}
        for path, x in data.items():
            arrays[path].value = x.copy()
        latest.forward(*inputs.values)
        returned = latest.backward(dy)
        return inputs.gradients(returned) | {path: arrays[path].gradient for path in checked}

    def state():
        # Constants of an object may change by themselves, such as the running mean of a batch norm.
        return inputs.arrays | {array.path: array.value for array in find_arrays(latest) if array.path in checked}

    return FunctionUnderTest(inputs.checked, checked, forward, backward, state)
