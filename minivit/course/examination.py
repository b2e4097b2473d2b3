"""The examination of a pair of functions: contract, forward, backward. It stops at the first thing that is wrong.

1. The functions can be called, and return what the exercise asks for, in the right shapes.
2. They change none of their inputs, and give the same result twice.
3. The forward equals the reference of this project.
4. Each gradient equals the measured slope (`minivit.gradcheck`) and the reference.
5. float32 stays float32.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..gradient_checking import gradcheck
from ..gradient_checking.function import FunctionUnderTest
from .diagnosis import Fits, diagnose, diagnose_shape, equal
from .submission import Submission, Wrong, raised

_SAMPLES = 12                                                         # entries of each tensor whose slope is measured


@dataclass(frozen=True)
class Case:
    """Arguments for a pair, and the sizes in their shapes.

    arguments: by name, in the order of the forward; a dictionary holds parameters. sizes: by letter, see
    `diagnosis.diagnose`. what: what is special about these arguments, for the message; "" for ordinary ones. advice:
    what to do if only these arguments give a wrong result.
    """

    arguments: Mapping[str, Any]
    sizes: Mapping[str, int]
    what: str = ""
    advice: str = ""


@dataclass(frozen=True)
class Pair:
    """How a pair of functions is examined.

    reference: with forward and backward. cases: rng -> cases, the first one the ordinary one. y: what the result is
    called. constants: names of arguments that have no gradient. forward_fits: arguments -> Fits of y. backward_fits:
    (arguments, dy) -> {gradient: Fits}. why: {gradient: a sentence on how it comes about}.
    """

    reference: Any
    cases: Callable[[np.random.Generator], Iterable[Case]]
    y: str = "y"
    constants: tuple[str, ...] = ()
    forward_fits: Callable[[SimpleNamespace], Fits] = field(default=lambda a: Fits())
    backward_fits: Callable[[SimpleNamespace, np.ndarray], Mapping[str, Fits]] = field(default=lambda a, dy: {})
    why: Mapping[str, str] = field(default_factory=dict)

    def examine(self, learner: "Learner") -> None:
        """Examine a learner's pair. Raises `Wrong` at the first mistake."""
        for case in self.cases(np.random.default_rng(0)):
            _Examination(self, learner, case).run()


class Learner:
    """The functions of a learner's file, called with care.

    Parameters
    ----------
    submission : Submission
    module : module
        What the file defines.
    """

    def __init__(self, submission: Submission, module: Any) -> None:
        self.submission, self.module = submission, module

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the file. Raises `Wrong` that names the line if it raises, or changes an argument."""
        before = [_copied(argument) for argument in arguments]
        try:
            result = getattr(self.module, name)(*arguments)
        except (Exception, SystemExit) as error:
            raise raised(error, self.submission, name, name) from error
        for i, (argument, copy) in enumerate(zip(arguments, before, strict=True)):
            changed = _changed(argument, copy)
            if changed is not None:
                what = self.argument_name(name, i) + (f"[{changed!r}]" if changed else "")
                raise Wrong(f"{name} changes {what}: other functions still need its old values. Work on a new array: "
                            f"write x = x - 1 instead of x -= 1, and copy an array before you write into it", name)
        return result

    def argument_name(self, function: str, i: int) -> str:
        """Return the name of an argument of one of the functions."""
        names = getattr(self.module, function).__code__.co_varnames
        return names[i] if i < len(names) else f"argument {i}"


def _copied(value):
    """Return a copy of an array or of a dictionary of arrays; None for everything else."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return value.copy() if isinstance(value, np.ndarray) else None


def _changed(value, copy):
    """Return the key of what has changed ("" for an array itself), or None."""
    if isinstance(copy, dict):
        if list(value) != list(copy):
            return ""
        return next((key for key in copy if _changed(value[key], copy[key]) is not None), None)
    return "" if copy is not None and not np.array_equal(value, copy, equal_nan=True) else None


def _summary(names):
    """Return names in words; many names by what stands before their first dot, or their second after a number."""
    names = list(names)
    if len(names) > 6:
        names = dict.fromkeys(re.sub(r"^([^.]+(\.\d+)?).*", r"\1", name) for name in names)
    return ", ".join(names)


class _Examination:
    """The examination of one case."""

    def __init__(self, pair: Pair, learner: Learner, case: Case) -> None:
        self.pair, self.learner, self.case = pair, learner, case
        self.arguments = case.arguments
        self.a = SimpleNamespace(**case.arguments)

    def run(self):
        """Run all stages."""
        right, right_cache = self.pair.reference.forward(*self.arguments.values())
        self.y, self.right = self.forward(), np.asarray(right)
        self.check_forward()
        self.dy = np.asarray(np.random.default_rng(1).standard_normal(self.right.shape))[()]
        self.right_gradients = self.named(self.pair.reference.backward(self.dy, right_cache))
        self.gradients = self.backward(self.dy)
        self.check_backward()
        self.check_float32()

    def in_case(self, text):
        """Return a message with what is special about this case."""
        advice = f". {self.case.advice}" if self.case.advice else ""
        return f"for {self.case.what}, {text}{advice}" if self.case.what else text

    # ---- calls -----------------------------------------------------------------------------------------

    def forward_and_cache(self, arguments):
        """Return what the learner's forward returns, a pair."""
        result = self.learner.call("forward", *arguments)
        y = self.pair.y
        if result is None:
            raise Wrong(f"forward returns nothing: end it with `return {y}, cache`", "forward")
        if not isinstance(result, tuple) or len(result) != 2:
            found = (f"a tuple of {len(result)}" if isinstance(result, tuple) else
                     "one array" if isinstance(result, np.ndarray) else type(result).__name__)
            raise Wrong(f"forward returns {found}, but must return two things: `return {y}, cache`. The cache may be a "
                        "tuple", "forward")
        return result

    def forward(self):
        """Return the learner's y, an array of numbers; checked in type, and that it is the same twice."""
        y, _ = self.forward_and_cache(self.arguments.values())
        if not isinstance(y, np.ndarray | np.floating | float):
            raise Wrong(f"the first thing that forward returns is of type {type(y).__name__}, but must be "
                        f"{self.pair.y}, an array of floating-point numbers", "forward")
        again, _ = self.forward_and_cache(self.arguments.values())
        if not np.array_equal(y, again, equal_nan=True):
            raise Wrong("forward returns another result at the second call with the same inputs: it must not draw "
                        "random numbers or remember earlier calls", "forward")
        return np.asarray(y)

    def backward(self, dy):
        """Return the learner's gradients by name, as arrays, checked in number, names and types."""
        before = {name: _copied(value) for name, value in self.arguments.items()}
        y, cache = self.forward_and_cache(self.arguments.values())
        passed, y_before = np.copy(dy)[()], np.copy(y)
        gradients = self.named(self.call_backward(passed, cache))
        if not np.array_equal(y, y_before, equal_nan=True):
            raise Wrong(f"backward changes {self.pair.y}, which the cache shares with the caller: work on a new array "
                        f"({self.pair.y} = {self.pair.y} * 2 instead of {self.pair.y} *= 2)", "backward")
        for name, value in self.arguments.items():
            if _changed(value, before[name]) is not None:
                raise Wrong(f"backward changes {name}, which the cache shares with the forward: work on a new array "
                            "(x = x - 1 instead of x -= 1)", "backward")
        again = self.named(self.call_backward(np.copy(dy)[()], cache))
        for name, array in gradients.items():
            if not np.array_equal(array, again[name], equal_nan=True):
                raise Wrong(f"backward returns another {name} at the second call with the same cache: it must not "
                            "change the arrays of the cache or draw random numbers", "backward")
        return gradients

    def call_backward(self, dy, cache):
        """Call the learner's backward."""
        # Copied, so that a change of an array in the cache is found by the comparison of two calls, not by this one.
        before = np.copy(dy)
        try:
            result = self.learner.module.backward(dy, cache)
        except (Exception, SystemExit) as error:
            raise raised(error, self.learner.submission, "backward", "backward") from error
        if not np.array_equal(dy, before, equal_nan=True):
            name = self.learner.argument_name("backward", 0)
            raise Wrong(f"backward changes {name}: the operation that it comes from still needs it. Work on a new "
                        f"array: write {name} = {name} * 2 instead of {name} *= 2", "backward")
        return result

    # ---- names ----------------------------------------------------------------------------------------

    def wanted(self):
        """Return what backward returns, in order: names of arguments with a gradient; of dictionaries too."""
        return [name for name, value in self.arguments.items() if name not in self.pair.constants
                and ((isinstance(value, dict) and name != "sizes") or isinstance(value, np.ndarray))]

    def tensors(self, arguments):
        """Return all arrays that have a gradient, by the name of that gradient."""
        arrays: dict[str, np.ndarray] = {}
        for name in self.wanted():
            value = arguments[name]
            arrays |= {f"d{key}": x for key, x in value.items()} if isinstance(value, dict) else {f"d{name}": value}
        return arrays

    def named(self, returned):
        """Return the gradients that a backward returned, by name. Raises `Wrong` if some are missing."""
        wanted = self.wanted()
        in_words = ", ".join(f"a dictionary of gradients ({', '.join(self.arguments[name])})"
                             if isinstance(self.arguments[name], dict) else f"d{name}" for name in wanted)
        if returned is None:
            raise Wrong(f"backward returns nothing: it must return {in_words}", "backward")
        parts = list(returned) if isinstance(returned, tuple | list) else [returned]
        if len(parts) != len(wanted):
            raise Wrong(f"backward returns {len(parts)} {'thing' if len(parts) == 1 else 'things'}, but must return "
                        f"{len(wanted)}: {in_words}", "backward")
        named: dict[str, np.ndarray] = {}
        for name, value in zip(wanted, parts, strict=True):
            if isinstance(self.arguments[name], dict):
                named |= self.named_parameters(value, self.arguments[name])
            else:
                named[f"d{name}"] = self.number_array(f"d{name}", value)
        return named

    def named_parameters(self, found, parameters):
        """Return a dictionary of gradients with a "d" before the names. Raises `Wrong` if it has other names."""
        if not isinstance(found, dict):
            raise Wrong(f"the gradients of the parameters are of type {type(found).__name__}, but must be a dictionary "
                        f"with the names {', '.join(parameters)}", "backward")
        missing = [name for name in parameters if name not in found]
        extra = [name for name in found if name not in parameters]
        if missing or extra:
            said = ([f"has no {_summary(missing)}"] * bool(missing)
                    + [f"has {_summary(map(str, extra))}, which is no parameter"] * bool(extra))
            raise Wrong(f"the dictionary of gradients {' and '.join(said)}: it must have the names of the parameters, "
                        f"{_summary(parameters)}", "backward")
        return {f"d{name}": self.number_array(f"d{name}", found[name]) for name in parameters}

    def number_array(self, name, value):
        """Return a gradient as an array. Raises `Wrong` if it is none."""
        if not isinstance(value, np.ndarray | np.floating | float):
            raise Wrong(f"{name} is of type {type(value).__name__}, but must be an array", "backward")
        return np.asarray(value)

    # ---- stages ---------------------------------------------------------------------------------------

    def check_forward(self):
        """Compare y with the right result."""
        name, y, right, sizes = self.pair.y, self.y, self.right, self.case.sizes
        if y.shape != right.shape:
            raise Wrong(self.in_case(diagnose_shape(name, y, right, {}, sizes)), "forward")
        if y.dtype != right.dtype:
            raise Wrong(f"{name} is {y.dtype} for float64 inputs, but must be float64: do not convert to another type",
                        "forward")
        if not np.isfinite(y).all() and np.isfinite(right).all():
            raise Wrong(self.in_case(f"{name} holds NaN or infinity"), "forward")
        if not equal(y, right):
            fits = self.pair.forward_fits(self.a)
            said = diagnose(name, y, right, fits, sizes) or self.first_difference(name, y, right)
            raise Wrong(self.in_case(said), "forward")

    def first_difference(self, name, found, right):
        """Return a sentence with the entry that is farthest from right."""
        index = np.unravel_index(np.argmax(np.abs(found - right)), right.shape)
        place = f"[{', '.join(map(str, index))}]" if right.ndim else ""
        return f"{name}{place} is {found[index]:.6g}, but should be {right[index]:.6g}"

    def check_backward(self):
        """Compare every gradient with its measured slopes and with the right one."""
        sizes, tensors = self.case.sizes, self.tensors(self.arguments)
        for name, x in tensors.items():
            if self.gradients[name].shape != x.shape:
                others = {key: value for key, value in self.right_gradients.items() if key != name}
                raise Wrong(self.in_case(diagnose_shape(name, self.gradients[name], self.right_gradients[name], others,
                                                        sizes)), "backward")
        rows = {f"d{row.tensor}": row for row in self.measured(tensors).rows}
        wrong = [name for name in tensors
                 if not rows[name].ok or not equal(self.gradients[name], self.right_gradients[name], 1e-6)]
        if wrong:
            text, details = self.backward_in_words(wrong, rows)
            raise Wrong(self.in_case(text), "backward", details)

    def measured(self, tensors):
        """Return the report of the gradient checker on the learner's pair."""
        def forward():
            return module.forward(*self.arguments.values())[0]

        def backward(dy):
            gradients = self.named(module.backward(dy, module.forward(*self.arguments.values())[1]))
            return {name[1:]: gradient for name, gradient in gradients.items()}

        module, inputs = self.learner.module, {name[1:]: x for name, x in tensors.items()}
        try:
            # a seed of its own: dy must not be the random numbers that the inputs are
            return gradcheck(FunctionUnderTest(inputs, {}, forward, backward, lambda: inputs), samples=_SAMPLES, seed=2)
        except (TypeError, ValueError) as error:
            raise Wrong(f"the gradients cannot be measured: {error}", "forward") from error

    def backward_in_words(self, wrong, rows):
        """Return a sentence on the first wrong gradient whose mistake is known, and what else is known."""
        gradient = self.gradients[wrong[0]]
        if gradient.any() and np.array_equal(gradient, self.backward(2 * self.dy)[wrong[0]]):
            dy = self.learner.argument_name("backward", 0)
            return (f"{wrong[0]} does not depend on {dy}: backward ignores {dy}, but every gradient is proportional to "
                    "it"), []
        if not equal(self.backward(2 * self.dy)[wrong[0]], 2 * gradient, 1e-6):
            dy = self.learner.argument_name("backward", 0)
            return (f"{wrong[0]} is not proportional to {dy}: a term of it lacks the factor {dy}, or has it twice"), []
        fits = self.pair.backward_fits(self.a, self.dy)
        said = {name: self.gradient_in_words(name, fits.get(name, Fits())) for name in wrong}
        first = next((name for name in wrong if said[name]), wrong[0])
        row, slope = rows[first], ""
        if row.index:
            slope = (f"{first}[{', '.join(map(str, row.index))}] is {row.analytic:.4g}, and the slope measured from "
                     f"your forward is {row.numeric:.4g}")
        text = (said[first] or re.sub(r"\bthe gradient\b(?!s)", first, row.hint, count=1) or slope
                or self.first_difference(first, self.gradients[first], self.right_gradients[first]))
        details = [slope] * bool(slope and text != slope)
        others = [name for name in wrong if name != first]
        right = [name for name in self.gradients if name not in wrong]
        details += [f"wrong too: {_summary(others)}"] * bool(others) + [f"right: {_summary(right)}"] * bool(right)
        return text, [*details, *filter(None, [self.pair.why.get(first, "")])]

    def gradient_in_words(self, name, fits):
        """Return a sentence on the mistake in one gradient, or ""."""
        found, right = self.gradients[name], self.right_gradients[name]
        for other, array in self.right_gradients.items():
            if other != name and array.shape == found.shape and equal(found, array):
                both = np.shape(self.gradients[other]) == right.shape and equal(self.gradients[other], right)
                return f"{name} is what {other} should be" + ": the two are exchanged" * both
        return diagnose(name, found, right, fits, self.case.sizes) or self.part_of_dy(name)

    def part_of_dy(self, name):
        """Recognise a gradient to which one image of the batch, or one token of each image, contributes, not all."""
        axes = {2: 1, 3: 2}.get(self.dy.ndim, 0) if self.case.sizes.get("B") else 0
        for index, which in (0, "first"), (-1, "last"):
            parts = [((index,), f"the {which} image", "images of the batch"),
                     ((slice(None), index), f"the {which} token of each image", "tokens of each image"),
                     ((index, index), f"the {which} token of the {which} image", "tokens of all images")]
            for places, part, whole in (part for part in parts if len(part[0]) <= axes):
                alone = np.zeros_like(self.dy)
                alone[places] = self.dy[places]
                _, cache = self.pair.reference.forward(*self.arguments.values())
                if equal(self.gradients[name], self.named(self.pair.reference.backward(alone, cache))[name]):
                    return f"only {part} contributes to {name}: the sum over the {whole} is missing"
        return ""

    def check_float32(self):
        """Check that float32 stays float32."""
        def single(value):
            if isinstance(value, dict):
                return {key: single(item) for key, item in value.items()}
            return value.astype(np.float32) if isinstance(value, np.ndarray) and value.dtype == np.float64 else value

        advice = ("A float64 number made it so: np.sqrt(2) and np.float64 are float64, but math.sqrt(2) and 1.0 take "
                  "the type of the array. np.zeros needs the dtype of another array")
        y, cache = self.forward_and_cache([single(value) for value in self.arguments.values()])
        if np.ndim(y) and np.asarray(y).dtype != np.float32:     # NumPy 1 makes float64 of a float32 scalar by an int
            raise Wrong(f"{self.pair.y} is {np.asarray(y).dtype} for float32 inputs, but must be float32. {advice}",
                        "forward")
        dy = np.asarray(self.dy).astype(np.float32)[()]
        for name, array in self.named(self.call_backward(dy, cache)).items():
            if array.dtype != np.float32:
                raise Wrong(f"{name} is {array.dtype} for float32 inputs, but must be float32. {advice}", "backward")

