"""Adapters make a `FunctionUnderTest` of what the user passes. `ADAPTERS` lists them; the first that fits is used.

This is the place to add a framework: write a class with `fits(target, inputs)`, which looks at the types of what it is
given, and `adapt(target, inputs, options)`, which returns a `FunctionUnderTest`, and put it before the others.
"""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from .frameworks import FRAMEWORKS, framework_of
from .function import FunctionUnderTest, Results, Trial
from .inputs import Inputs, matched_names, required_arguments
from .objects import CACHE_NAMES, METHODS, ObjectAdapter, randomised
from .parameters import has_methods, is_layer
from .trees import mapped, parts


@dataclass(frozen=True)
class Options:
    """What the user says besides target and inputs; see `gradcheck`.

    rng: for random parameters. before_call: called before each call of the forward.
    """

    rng: np.random.Generator
    before_call: Callable[[], Any] = lambda: None
    constants: Sequence[str] = ()
    keep: Sequence[str] = ()
    gradients: Mapping[str, str] = field(default_factory=dict)
    keywords: Mapping[str, Any] = field(default_factory=dict)


class Adapter(Protocol):
    """An adapter of one kind of target."""

    def fits(self, target: Any, inputs: Sequence) -> bool:
        """Return whether it can adapt this target with these inputs."""

    def adapt(self, target: Any, inputs: Sequence, options: Options) -> FunctionUnderTest:
        """Return the `FunctionUnderTest` of float64 copies of target and inputs, with random parameters."""


class ReadyMade:
    """A `FunctionUnderTest`, which stays as it is."""

    def fits(self, target: Any, inputs: Sequence) -> bool:
        """Return whether the target is one."""
        return isinstance(target, FunctionUnderTest)

    def adapt(self, target: FunctionUnderTest, inputs: Sequence, options: Options) -> FunctionUnderTest:
        """Return the target."""
        return target


class MinivitLayer:
    """A layer or model of minivit."""

    def fits(self, target: Any, inputs: Sequence) -> bool:
        """Return whether the target has the methods of a layer."""
        return is_layer(target) and has_methods(target, "forward", "backward") and not isinstance(target, type)

    def adapt(self, target: Any, inputs: Sequence, options: Options) -> FunctionUnderTest:
        """Return the function of a copy of the layer in float64."""
        layer = target.astype(np.float64)
        layer.name_parameters()
        parameters = layer.parameters()
        names = [p.name for p in parameters]
        values = Inputs(layer.forward, inputs, options.constants, names, options)
        constants = matched_names("constant", options.constants, [*values.leaf_names, *names])
        keep = matched_names("parameter to keep", options.keep, [*values.leaf_names, *names])
        for p in parameters:
            if p.name not in constants | keep:
                p.data = randomised(p.data, options.rng)

        def backward(dy):
            values.call(layer.forward)
            return values.gradients(layer.backward(dy)) | {p.name: p.grad for p in parameters}

        def trial(single=False):
            other = layer.astype(np.float32 if single else np.float64)
            other.name_parameters()
            return Trial(other, values, lambda: values.call(other.forward), lambda dy: values.gradients(
                other.backward(dy)) | {p.name: p.grad for p in other.parameters()})

        data = {p.name: p.data for p in parameters}
        return FunctionUnderTest(values.checked, {name: x for name, x in data.items() if name not in constants},
                                 lambda: values.call(layer.forward), backward, lambda: values.arrays | data,
                                 is_layer=True, inventory=dict.fromkeys(sorted(constants), "constant"), trial=trial)


class Pair:
    """A pair of functions: (forward, backward), or (f, grad) of a scalar function.

    A third one is checked too: (forward, backward, jvp), or (f, grad, hvp); see `named_checks`.
    """

    def fits(self, target: Any, inputs: Sequence) -> bool:
        """Return whether the target is a tuple of two or three functions."""
        return isinstance(target, tuple) and len(target) in (2, 3) and all(map(callable, target))

    def adapt(self, target: Any, inputs: Sequence, options: Options) -> FunctionUnderTest:
        """Return the function of the pair."""
        first, second, *third = target
        owner = getattr(first, "__self__", None)
        if owner is not None and owner is getattr(second, "__self__", 0) and not isinstance(owner, type) and (
                not inspect.ismodule(owner)):                         # two methods of one object
            return ObjectAdapter(owner, (first.__name__, second.__name__), inputs, options).function()
        values = Inputs(first, inputs, options.constants, (), options)
        matched_names("constant", options.constants, values.leaf_names)
        return _Functions(first, second, values, *third).function()


class PairOnFramework(Pair):
    """A pair of functions whose arrays are those of a framework, but whose backward is written by hand."""

    def fits(self, target: Any, inputs: Sequence) -> bool:
        """Return whether the target is a pair, and an input is an array of a framework."""
        return super().fits(target, inputs) and framework_of(inputs) is not None

    def adapt(self, target: Any, inputs: Sequence, options: Options) -> FunctionUnderTest:
        """Return the function of the pair, which gets arrays of the framework and returns such."""
        framework = framework_of((inputs, options.keywords))
        assert framework is not None
        functions = [framework.on_numpy(function) for function in target]
        in_numpy = [framework.tree_to_numpy(tree) for tree in (list(inputs), dict(options.keywords))]
        return super().adapt(tuple(functions), in_numpy[0], replace(options, keywords=in_numpy[1]))


class ValueAndGradient:
    """One function that returns a number and its gradients: f(*inputs) -> loss, gradients."""

    def fits(self, target: Any, inputs: Sequence) -> bool:
        """Return whether the target is a function, and no object with a backward."""
        return callable(target) and not isinstance(target, type) and _methods_of(target) is None

    def adapt(self, target: Any, inputs: Sequence, options: Options) -> FunctionUnderTest:
        """Return the function whose forward is the number, and whose backward returns the gradients."""
        result = Inputs(target, inputs, options.constants, (), options).call(target)
        framework = framework_of(result)
        if framework is None and not self._is_pair(result):
            framework = next((framework for framework in FRAMEWORKS if framework.traces(
                target, inputs, options.keywords)), None)
        if framework is not None:
            return framework.adapt(target, inputs, options)
        if not self._is_pair(result):
            raise TypeError(f"wrong target: found {_name(target)}, one function, expected its backward too, or a "
                            "function that returns (loss, gradients), pass (forward, backward)")

        def forward(*values, **keywords):
            return target(*values, **keywords)[0]

        def gradient(*values, **keywords):
            _, *gradients = target(*values, **keywords)
            return gradients[0] if len(gradients) == 1 else tuple(gradients)

        forward.__signature__ = _signature(target)                    # type: ignore[attr-defined]
        return Pair().adapt((forward, gradient), inputs, options)

    def _is_pair(self, result):
        """Return whether a result is a number with its gradients."""
        return isinstance(result, tuple) and len(result) > 1 and np.size(result[0]) == 1 and parts(result[0]) is None


class ObjectWithMethods:
    """An object with a forward and a backward, also under other usual names."""

    def fits(self, target: Any, inputs: Sequence) -> bool:
        """Return whether the target is an object with both methods."""
        return _methods_of(target) is not None and not isinstance(target, type)

    def adapt(self, target: Any, inputs: Sequence, options: Options) -> FunctionUnderTest:
        """Return the function of a copy of the object."""
        return ObjectAdapter(target, _methods_of(target), inputs, options).function()


ADAPTERS: list[Adapter] = [ReadyMade(), *FRAMEWORKS, MinivitLayer(), PairOnFramework(), Pair(),
                           ObjectWithMethods(), ValueAndGradient()]


def function_under_test(target: Any, inputs: Sequence, options: Options) -> FunctionUnderTest:
    """Return the `FunctionUnderTest` that the first fitting adapter makes of the target.

    Raises TypeError if none fits.
    """
    for adapter in ADAPTERS:
        if adapter.fits(target, (*inputs, *options.keywords.values())):
            return adapter.adapt(target, inputs, options)
    if isinstance(target, type):
        raise TypeError(f"wrong target: found the class {target.__name__}, expected an object of it, pass "
                        f"{target.__name__}(...)")
    method = "backward" if has_methods(target, "forward") else "forward"
    raise TypeError(f"wrong target: found {type(target).__name__} without a method {method!r}, expected "
                    "forward and backward, pass an object with both or a pair of functions")


def _methods_of(target):
    """Return the names of the forward and the backward of an object; None if it lacks one."""
    return next((names for names in METHODS if has_methods(target, *names)), None)


def _name(function):
    return getattr(function, "__name__", type(function).__name__)


def _signature(function):
    """Return the signature of a function; None where there is none."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


class _Functions:
    """The function under test of a pair of functions.

    style: how they pass things. "cache": forward(*inputs) -> y, cache and backward(dy, cache). "loss": the same with
    backward(cache). "inputs": forward(*inputs) -> y and backward(dy, *inputs). "scalar": f(*inputs) -> number and
    grad(*inputs).
    """

    def __init__(self, forward, backward, inputs, third=None):
        self.forward, self.backward, self.inputs, self.third = forward, backward, inputs, third
        self.arguments = required_arguments(backward)
        if not inputs.checked and not inputs.numbers:
            raise TypeError("nothing to check: found no floating-point input and no parameter, pass at least one")
        with inputs.unchanged():
            result = self._first_result()
            self.style = self._style_of(result)
            self.fixed_dy = 1.0 if self.style in ("scalar", "loss") else None
            results = Results(self._y(result))
            dy = np.random.default_rng(0).standard_normal(results.real(self._y(result)).shape)
            returned = inputs.gradients(self._call_backward(results.structured(dy), result))
        inputs.check_numbers(name for name in inputs.numbers if name not in inputs.constants
                             and returned.get(name) is not None)

    def _first_result(self):
        try:
            return self.inputs.call(self.forward)
        except Exception as error:
            error.add_note("gradcheck gave the forward float64 copies of its floating inputs and weights")
            raise

    def _style_of(self, result):
        """Return the style of the pair, from the forward's first result and the arguments of the backward."""
        if isinstance(result, tuple) and len(result) == 2 and not hasattr(result, "_fields"):
            is_loss = self.arguments is not None and len(self.arguments) == 1 and self.arguments[0] in CACHE_NAMES
            return "loss" if is_loss else "cache"
        if self.arguments is not None and len(self.arguments) == len(self.inputs.trees) + 1:
            return "inputs"
        if np.shape(result) == () and np.asarray(result).dtype.kind in "fc":
            return "scalar"
        raise TypeError(f"wrong result of the forward of a pair: found {type(result).__name__}, expected a tuple "
                        "(y, cache), return both")

    def _y(self, result):
        return result[0] if self.style in ("cache", "loss") else result

    def _call_backward(self, dy, result):
        """Call the backward as the style asks for it."""
        if self.style == "scalar":
            return self.inputs.call(self.backward)
        if self.style == "inputs":
            return self.inputs.call(lambda *values, **keywords: self.backward(dy, *values, **keywords))
        if self.style == "loss":
            return self.backward(result[1])
        if isinstance(dy, tuple) and self.arguments is not None and len(self.arguments) == len(dy) + 1 > 2:
            return self.backward(*dy, result[1])
        return self.backward(dy, result[1])

    def gradients(self, dy):
        """Return the gradients of a backward that is called twice with one cache; they must be equal."""
        result = self.inputs.call(self.forward)
        first, second = ({name: np.copy(g) for name, g in self.inputs.gradients(
            self._call_backward(upstream, result)).items() if g is not None}
            for upstream in (dy, mapped(lambda _, leaf: copy.copy(leaf), dy)))
        for name in first:
            if name not in second or not np.array_equal(first[name], second[name], equal_nan=True):
                raise ValueError("the backward is not repeatable: found two different gradients of "
                                 f"{name} from one cache, expected equal ones, do not change the cache or draw random "
                                 "numbers")
        return first

    def trial(self, single=False):
        """Return a `Trial` of these functions."""
        inputs = self.inputs
        latest: list[Any] = []

        def forward():
            latest[:] = [inputs.call(self.forward)]
            return self._y(latest[0])

        return Trial(None, inputs, forward, lambda dy: inputs.gradients(self._call_backward(dy, latest[0])),
                     self._others(latest))

    def _others(self, latest):
        """Return the third function by its name: an hvp of a scalar function, else a jvp, as a method would be."""
        if self.third is None:
            return {}
        if self.style == "scalar":
            return {"hvp": lambda *v: self.inputs.call(lambda *x, **keywords: self.third(*x, *v, **keywords))}
        if self.style == "inputs":
            return {"jvp": lambda *u: self.inputs.call(lambda *x, **keywords: self.third(*u, *x, **keywords))}
        return {"jvp": lambda *u: self.third(*u, latest[0][1])}

    def function(self):
        """Return the function under test."""
        inputs = self.inputs
        inventory = dict.fromkeys((name for name in inputs.leaf_names if name in inputs.constants), "constant")
        return FunctionUnderTest(inputs.checked, {}, lambda: self._y(inputs.call(self.forward)), self.gradients,
                                 lambda: inputs.arrays, self.as_complex, fixed_dy=self.fixed_dy, inventory=inventory,
                                 trial=self.trial)

    def as_complex(self):
        """Return the function of complex copies of the inputs, for the complex step."""
        inputs = self.inputs
        trees = [inputs.trees[name] for name in inputs.names if name not in inputs.keywords]
        constants = [name for name in inputs.leaf_names if name not in inputs.checked]
        options = replace(inputs.options, keywords={name: inputs.trees[name] for name in inputs.keywords})
        copied = Inputs(self.forward, trees, constants, (), options, np.complex128)
        return FunctionUnderTest(copied.checked, {}, lambda: self._y(copied.call(self.forward)), lambda dy: {},
                                 lambda: copied.arrays)
