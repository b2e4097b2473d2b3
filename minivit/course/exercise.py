"""The list of exercises: their names in order, and what the first lines of their files say."""

import ast
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from ..common.checks import check_name

NAMES = ("linear", "gelu", "softmax", "layer_norm", "cross_entropy", "patches", "embedding", "attention", "multi_head",
         "mlp", "block", "head", "vit", "adamw", "schedule", "gradient_checker", "rms_norm", "swiglu", "relative_bias")
FIRST_LINE = re.compile(r"Exercise (\d+), (\w+): (.*)")


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    """

    name: str

    @property
    def number(self) -> int:
        """Its place in the course, from 1."""
        return NAMES.index(self.name) + 1

    @cached_property
    def text(self) -> str:
        """The file as the learner gets it."""
        return (Path(__file__).parent / "exercises" / f"{self.name}.py").read_text(encoding="utf-8")

    @cached_property
    def description(self) -> str:
        """The docstring of the file: equations, shapes, and what to think about."""
        return ast.get_docstring(ast.parse(self.text)) or ""

    @property
    def title(self) -> str:
        """One line on what it is about, without the time that it takes."""
        first = FIRST_LINE.match(self.description)
        return re.split(r"\. (?:A design exercise|About)", first[3])[0] if first else ""

    @property
    def minutes(self) -> int:
        """About how long it takes."""
        found = re.search(r"About (\d+) minutes", self.description)
        return int(found[1]) if found else 0

    @property
    def is_design(self) -> bool:
        """Whether it is one of the design exercises at the end, for which there is no chapter."""
        return "A design exercise" in self.description

    @cached_property
    def functions(self) -> tuple[str, ...]:
        """The functions to fill in."""
        nodes = [node for node in ast.parse(self.text).body if isinstance(node, ast.FunctionDef)]
        return tuple(node.name for node in nodes if "NotImplementedError" in ast.unparse(node))


@cache
def exercise(name: str) -> Exercise:
    """Return the exercise of a name. Raises ValueError with a suggestion for an unknown one."""
    return Exercise(check_name("exercise", name, NAMES))


def exercises() -> list[Exercise]:
    """Return all exercises in the order of the course."""
    return [exercise(name) for name in NAMES]
