"""What all frameworks have in common: a function of their arrays becomes a `FunctionUnderTest`.

*Precision.* The function is called in float64. If it then fails, or returns float32, it perhaps exists in float32
alone, as a kernel of a GPU or a function in C does. Then it is called in float32, and the tolerance follows from its
noise, which is measured (see `check`). A note says so.

*A gradient of None*, as of a tensor that was detached, counts as zero. So it is wrong if the result depends on the
tensor.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ..function import FunctionUnderTest
from ..inputs import matched_names
from ..objects import kept_note, randomised, settled
from ..trees import is_floating, is_number, leaves, mapped, path
from .arguments import Arguments
from .elsewhere import held_by


class Program:
    """What is called, and the parameters in it: none, for a function.

    signature: a function with the names of the arguments. parameters: {name: array of the framework} to check.
    inventory: {name: why it is not checked}. aliases: {parameter: its other names}.
    """

    def __init__(self, function: Callable, signature: Any = None) -> None:
        self.function, self.signature = function, signature or function
        self.parameters: dict[str, Any] = {}
        self.inventory: dict[str, str] = {}
        self.aliases: dict[str, tuple[str, ...]] = {}

    def call(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the function, always in the same state."""
        return self.function(*arguments, **keywords)


class Framework:
    """One framework. Subclasses say what its arrays are, and how it differentiates."""

    module = ""                                                       # its name in sys.modules
    dtypes: tuple = (np.float64, np.float32)                          # to try, the best first

    @property
    def loaded(self) -> Any:
        """The module of the framework, if someone has imported it, else None."""
        return sys.modules.get(self.module)

    # ---- what a subclass says ----

    def is_array(self, x: Any) -> bool:
        """Return whether x is an array of the framework."""
        raise NotImplementedError

    def to_numpy(self, x: Any) -> np.ndarray | None:
        """Return a copy as an array of NumPy; None if x is no array of numbers."""
        raise NotImplementedError

    def from_numpy(self, x: np.ndarray, like: Any, dtype: Any) -> Any:
        """Return a copy as an array of the framework. like: where it came from; dtype: None to keep that of x."""
        raise NotImplementedError

    def variable(self, x: np.ndarray, like: Any, dtype: Any) -> Any:
        """Return such a copy, whose gradient is wanted."""
        return self.from_numpy(x, like, dtype)

    def passed(self, variable: Any) -> Any:
        """Return what the function gets for a variable: a copy, if it may work in place."""
        return variable

    def vjp(self, function: Callable, names: Sequence[str], arrays: Sequence, dy: Mapping[tuple, Any]) -> list:
        """Return the gradients of L = sum(y * dy) for the arrays, which have names; None where there is none.

        function: takes a list of arrays, and returns a tree y. dy: {keys of an array in y: upstream gradient}.
        """
        raise NotImplementedError

    def owns(self, target: Any) -> bool:
        """Return whether a target is of the framework, whatever its inputs are."""
        return False

    def owns_objects_of(self, cls: type) -> bool:
        """Return whether the objects of a class are targets of the framework."""
        return False

    def traces(self, function: Any, inputs: Sequence, keywords: Mapping[str, Any]) -> bool:
        """Return whether a function that takes and returns arrays of NumPy is written for the framework."""
        return False

    def frozen(self, arrays: Mapping[str, Any]) -> dict[str, str]:
        """Return {name: why} of the inputs whose gradient the user does not want."""
        return {}

    def is_differentiable(self, y: Any) -> bool:
        """Return whether an array of the result has a gradient."""
        return True

    def program(self, target: Any, dtype: Any) -> Program:
        """Return what is called for a target. A target with parameters is copied, and they get this dtype."""
        return Program(target)

    def bind(self, program: Program, name: str, x: np.ndarray, dtype: Any) -> Any:
        """Return the parameter of the program with the values of x."""
        raise NotImplementedError

    def calling(self, dtype: Any) -> AbstractContextManager:
        """Return a context for calls of the user's code."""
        return contextlib.nullcontext()

    def unseen(self, function: Any, y: Any, known: Sequence) -> list:
        """Return the floating arrays, besides the known ones, on which the result y of a function may depend."""
        found = [leaf for _, leaf in leaves(held_by(function)) if self.is_array(leaf) and self.is_differentiable(leaf)]
        return [x for x in found if (array := self.to_numpy(x)) is not None and is_floating(array)]

    # ---- functions whose backward is written by hand ----

    def tree_to_numpy(self, tree: Any) -> Any:
        """Return a tree with arrays of NumPy for those of the framework, unless they are no arrays of numbers."""
        def converted(leaf):
            x = self.to_numpy(leaf) if self.is_array(leaf) else None
            return leaf if x is None else x

        return mapped(lambda _, leaf: converted(leaf), tree)

    def on_numpy(self, function: Callable) -> Callable:
        """Return a function that takes and returns arrays of NumPy, for one of arrays of the framework.

        If the function changes an array of the framework, the array of NumPy changes too, so that the checker sees it.
        """
        @functools.wraps(function)
        def wrapped(*arguments, **keywords):
            passed = []

            def converted(leaf):
                if not isinstance(leaf, np.ndarray):
                    return leaf
                passed.append((leaf, self.from_numpy(leaf, None, None)))
                return passed[-1][1]

            with self.calling(np.float64):
                arguments, keywords = mapped(lambda _, leaf: converted(leaf), (arguments, keywords))
                result = self.tree_to_numpy(function(*arguments, **keywords))
                for x, array in passed:
                    now = self.to_numpy(array)
                    if now is not None and now.shape == x.shape and not np.array_equal(now, x, x.dtype.kind in "fc"):
                        x[...] = now
            return result

        return wrapped

    # ---- the adapter ----

    def fits(self, target: Any, inputs: Sequence) -> bool:
        """Return whether target or inputs are of the framework."""
        if self.loaded is None or isinstance(target, tuple):
            return False
        return self.owns(target) or any(self.is_array(leaf) for _, leaf in leaves(list(inputs)))

    def adapt(self, target: Any, inputs: Sequence, options: Any) -> FunctionUnderTest:
        """Return the `FunctionUnderTest` in float64, or in float32 if the code exists in that alone."""
        if not callable(target):
            raise TypeError(f"wrong target for {self.module}: found {type(target).__name__}, expected a function of "
                            f"its arrays, pass a function")
        best: Exception | None = None
        for dtype in self.dtypes:
            function = FunctionOfArrays(self, target, inputs, options, dtype)
            try:
                function.first_call()
            except Exception as error:
                best = best or error
                continue
            return function.function(best)
        assert best is not None
        best.add_note("gradcheck gave the function copies of its floating inputs and weights in float64")
        raise best


class _Imprecise(ValueError):
    """The result has fewer digits than the inputs."""


def _first_line(error):
    """Return the first line of an error, cut to a length that fits a note."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if len(line) <= 120 else f"{line[:117]}..."


class FunctionOfArrays:
    """A program with its arguments, in one precision: its calls on the arrays that are perturbed.

    values: {parameter: float64 array}. single: whether it computes in float32.
    """

    def __init__(self, framework: Framework, target: Any, inputs: Sequence, options: Any, dtype: Any) -> None:
        self.framework, self.options, self.dtype = framework, options, dtype
        self.single = dtype is not np.float64
        self.program = framework.program(target, dtype)
        parameters = self.program.parameters
        names = [*parameters, *self.program.inventory]
        self.arguments = Arguments(framework, self.program.signature, inputs, options.keywords, options.constants,
                                   names)
        constants = matched_names("constant", options.constants, [*self.arguments.leaf_names, *names])
        self.keep = matched_names("parameter to keep", options.keep, names)
        self.inventory = self.arguments.inventory | self.program.inventory
        self.inventory |= {name: "constant" for name in parameters if name in constants}
        self.values = {name: np.array(x, np.complex128 if np.iscomplexobj(x) else np.float64)
                       for name, p in parameters.items() if name not in constants
                       for x in [framework.to_numpy(p)] if x is not None}
        self.notes: list[str] = []

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """Everything that is perturbed: {name: array}."""
        return self.arguments.checked | self.values

    # ---- calls ----

    def _arrays(self):
        """Return {name: array of the framework} of everything that is perturbed."""
        arguments = self.arguments
        return {name: self.framework.variable(x, arguments.originals[name], self.dtype)
                for name, x in arguments.checked.items()} | {
                    name: self.framework.bind(self.program, name, x, self.dtype) for name, x in self.values.items()}

    def _call(self, arrays):
        """Call the program on arrays of the framework, in the order of `tensors`."""
        arguments = self.arguments
        named = dict(zip(self.tensors, arrays, strict=True))
        constants = {name: self.framework.from_numpy(x, arguments.originals[name],
                                                     self.dtype if is_floating(x) else None)
                     for name, x in arguments.arrays.items() if name not in arguments.checked}
        positional, keywords = arguments.filled(constants | named)
        return self.program.call(*positional, **keywords)

    @contextlib.contextmanager
    def _calling(self) -> Iterator[None]:
        """Everything that surrounds a call of the user's code."""
        with self.framework.calling(self.dtype):
            self.options.before_call()
            yield

    def forward(self) -> Any:
        """Return the result as a tree of arrays of NumPy, in float64."""
        with self._calling():
            y = self._call(list(map(self.framework.passed, self._arrays().values())))
        return mapped(lambda keys, leaf: self._result(keys, leaf), y)

    def _result(self, keys, leaf):
        """Return an array of the result in NumPy; None where it has no gradient."""
        if not self.framework.is_array(leaf):
            return leaf
        x = self.framework.to_numpy(leaf)
        if x is None or not is_floating(x):
            return x
        if not self.framework.is_differentiable(leaf):
            return None
        return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)

    def backward(self, dy: Any) -> dict[str, np.ndarray]:
        """Return {name: gradient} by the framework's vector-Jacobian product."""
        given = {keys: leaf for keys, leaf in leaves(dy) if leaf is not None}
        with self._calling():
            arrays = self._arrays()
            upstream = {keys: self.framework.from_numpy(np.asarray(leaf), None, self.dtype)
                        for keys, leaf in given.items()}
            found = self.framework.vjp(self._call, list(arrays), list(arrays.values()), upstream)
        self.detached = [name for name, g in zip(self.tensors, found, strict=True) if g is None]
        return {name: np.zeros_like(x) if g is None else np.asarray(self.framework.tree_to_numpy(g), x.dtype)
                for (name, x), g in zip(self.tensors.items(), found, strict=True)}

    # ---- the first calls ----

    def first_call(self) -> None:
        """Choose random parameters, and call the function. Raise an error if it fails, or the precision is too low."""
        self._randomise()
        if self.single:
            for x in self.tensors.values():                           # values that float32 can hold
                x[...] = x.astype(np.complex64 if x.dtype.kind == "c" else np.float32)
        with self._calling():
            arrays = self._arrays()
            y = self._call(list(map(self.framework.passed, arrays.values())))
            self._judge(y)
            unseen = self.framework.unseen(self.program.function, y, list(arrays.values()))
        if unseen:
            shapes = ", ".join(str(tuple(x.shape)) for x in unseen)
            self.inventory["what else the function finds"] = (f"not seen: shape {shapes}; pass it as an input, or the "
                                                              "module that holds it")

    def _judge(self, y):
        """Check precision and gradients of a result, and list which of its arrays have none."""
        framework = self.framework
        found = [(keys, leaf, framework.to_numpy(leaf)) for keys, leaf in leaves(y) if framework.is_array(leaf)]
        floating = [(keys, leaf, x) for keys, leaf, x in found if x is not None and is_floating(x)]
        if not self.single and any(x.dtype.itemsize < (16 if x.dtype.kind == "c" else 8) for _, _, x in floating):
            raise _Imprecise("wrong dtype of the result: found float32 for float64 inputs, expected float64")
        without = [path("result", keys) for keys, leaf, _ in floating if not framework.is_differentiable(leaf)]
        if floating and len(without) == len(floating):
            raise ValueError(f"no gradient reaches the inputs: found {', '.join(without)} without one, expected that "
                             "it depends on them by differentiable operations, remove detach() and conversions to "
                             "NumPy")
        self.inventory |= dict.fromkeys(without, "no gradient: is it detached?")

    def _randomise(self):
        """Give the parameters random values, where the function works on them."""
        rng = self.options.rng
        moved = {name: (x, x.copy(), randomised(x, rng)) for name, x in self.values.items() if name not in self.keep}
        if kept := settled(moved, self._works):
            self.notes.append(kept_note(kept))

    def _works(self):
        """Return whether the function returns finite numbers."""
        try:
            with np.errstate(all="ignore"):
                y = self.forward()
            return all(np.isfinite(leaf).all() for _, leaf in leaves(y) if is_floating(leaf) or is_number(leaf))
        except Exception:
            return False

    def function(self, error: Exception | None) -> FunctionUnderTest:
        """Return the `FunctionUnderTest`. error: of the call in float64, if this is not in float64."""
        if self.single:
            why = "returns float32" if isinstance(error, _Imprecise) else f"fails ({_first_line(error)})"
            self.notes.append(f"computed in float32, because it {why} in float64")
        self._note_detached()
        return FunctionUnderTest(self.arguments.checked, self.values, self.forward, self.backward,
                                 lambda: self.arguments.arrays | self.values, is_single=self.single,
                                 inventory=self.inventory, aliases=self.program.aliases, notes=tuple(self.notes))

    def _note_detached(self):
        """Add a note on tensors whose gradient is None."""
        if not self.tensors:
            return
        result = self.forward()
        self.backward(mapped(lambda _, leaf: np.ones_like(leaf) if is_floating(leaf) else None, result))
        if self.detached:
            self.notes.append(f"the gradient of {', '.join(self.detached)} is None, which counts as zero: is it "
                              "detached, or does the backward return None for it?")
