"""Load the strangers, and plant mistakes in them.

A mistake is an edit of the source between the check of the layer above and the layer's own check. The edited file is
executed as a module of its own, so that nothing of the right version remains in it.
"""

import ast
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

STYLES = ("course_functions", "numpy_classes", "tensor_objects", "parameter_lists", "gradient_attributes",
          "textbook_functions", "optimisation_pairs", "parameter_trees", "given_buffers", "complex_signals")

# the words that a hint, or the error, must contain to count as the diagnosis of a mistake of that pattern
PATTERNS = {
    "sign": "the sign of the gradient is wrong",
    "factor": "times (what it should be|too small|too large)",
    "sum for mean": "a sum instead of a mean",
    "mean for sum": "a mean instead of a sum",
    "missing factor": "factor.* missing",
    "missing term": "is missing|lacks|has the coefficient|does not belong there",
    "weight outside": "after a mean instead of before",
    "missing sum": "is the sum over .* missing|sum over axes that broadcast",
    "overwritten": "= for \\+=|is the sum over .* missing",
    "slope": "the slope of the result is|lacks the term",
    "zero": "the gradient is zero everywhere",
    "part": "(wrong|zero) only where|= for \\+=",
    "wrong places": "transposed|flipped|shifted|blocks .* exchanged|wrong places",
    "transposed": "transposed",
    "flipped": "flipped",
    "exchanged": "are the two exchanged",
    "gates": "blocks .* exchanged|one gate",
    "dy ignored": "ignores its upstream gradient",
    "in place": "changes dy|changes|from one cache",
    "forgotten": "missing gradient",
    "shape": "wrong shape",
}


@dataclass(frozen=True)
class Mistake:
    """An edit that makes the gradients of some tensors wrong: `right` becomes `wrong`.

    tensors: the names of those tensors, separated by spaces. pattern: a key of `PATTERNS`, or "" if the mistake follows
    no common pattern.
    """

    tensors: str
    pattern: str
    right: str
    wrong: str


@dataclass(frozen=True)
class Stranger:
    """A layer in some style. `check(gradcheck, normal)` calls gradcheck(target, *inputs, **options) once."""

    style: str
    name: str
    check: Callable
    mistakes: tuple[Mistake, ...]
    lines: tuple[int, int]                                            # of the layer in the file, from 0
    source: str                                                       # of its check, without the decorator

    def __str__(self) -> str:
        return f"{self.style}: {self.name}"

    def with_mistake(self, mistake: Mistake) -> "Stranger":
        """Return the layer with one mistake."""
        text = _source(self.style).splitlines(keepends=True)
        first, last = self.lines
        own = "".join(text[first:last])
        if own.count(mistake.right) != 1:
            raise ValueError(f"{self}: found {own.count(mistake.right)} times {mistake.right!r}, expected it once")
        edited = "".join([*text[:first], own.replace(mistake.right, mistake.wrong), *text[last:]])
        return next(other for other in _strangers_in(self.style, edited) if other.name == self.name)

    def run(self, gradcheck: Callable, seed: int = 0) -> Any:
        """Return what gradcheck(target, *inputs, **options) returns for this layer, at random inputs."""
        return self.check(gradcheck, normal_of_shape(np.random.default_rng(seed)))


def normal_of_shape(rng: np.random.Generator) -> Callable:
    """Return normal(*shape), which draws an array."""
    return lambda *shape: rng.standard_normal(shape)


def stranger(*mistakes: tuple[str, str, str, str]) -> Callable:
    """Mark the check of a layer, and list its mistakes."""
    def mark(check):
        check.mistakes = tuple(Mistake(*mistake) for mistake in mistakes)
        return check
    return mark


@cache
def _source(style: str) -> str:
    return inspect.getsource(import_module(f"strangers.{style}"))


def _text(source, node):
    """Return the text of a function in a source."""
    return "\n".join(source.splitlines()[node.lineno - 1:node.end_lineno])


def _strangers_in(style: str, source: str) -> list[Stranger]:
    """Return the layers of a file, of which this is the source."""
    module = ModuleType(f"strangers.{style}")
    sys.modules.setdefault(module.__name__, module)                   # dataclasses look their module up
    exec(compile(source, f"<{style}>", "exec"), vars(module))
    found, start = [], 0
    for node in ast.parse(source).body:
        check = vars(module).get(getattr(node, "name", ""))
        if hasattr(check, "mistakes"):
            lines = (start, node.decorator_list[0].lineno - 1)
            found.append(Stranger(style, node.name, check, check.mistakes, lines, _text(source, node)))
            start = node.end_lineno or 0
    return found


STRANGERS = [stranger for style in STYLES for stranger in _strangers_in(style, _source(style))]
