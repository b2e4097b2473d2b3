"""A learner's file: which exercise it is for, and what can be said about it without running it."""

import ast
import hashlib
import linecache
import os
import re
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .exercise import FIRST_LINE, NAMES, Exercise, exercise

EARLIER = "minivit.course.earlier"
_HELPERS = ("part", "prefixed")


class Wrong(Exception):
    """What is wrong with a learner's file, in words for the learner.

    Parameters
    ----------
    text : str
        What is wrong, in one or two sentences.
    function : str
        The function that is wrong, or "".
    details : sequence of str
        What else is known, such as an entry and its measured slope; a sentence each.
    """

    def __init__(self, text: str, function: str = "", details: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.text, self.function, self.details = text, function, tuple(details)


@dataclass(frozen=True)
class Submission:
    """A learner's file: its path, its text, and the exercise that it is for."""

    path: Path
    text: str
    exercise: Exercise

    @property
    def digest(self) -> str:
        """A hash of the text, by which a change of the file is noticed."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    def tree(self) -> ast.Module:
        """Return the syntax tree. Raises `Wrong` if the file is not Python."""
        try:
            return ast.parse(self.text)
        except SyntaxError as error:
            line = (error.text or "").strip()
            shown = f": {line}" if line else ""
            raise Wrong(f"the file is not Python: line {error.lineno}{shown} ({error.msg}). Correct this line or the "
                        "one before it") from None
        except ValueError as error:                                   # such as null bytes
            raise Wrong(f"the file is not Python: {error}") from None

    def check_text(self) -> None:
        """Check what needs no run. Raises `Wrong` for a wrong import or a missing function."""
        tree = self.tree()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self._check_import(alias.name, [], node.lineno)
            elif isinstance(node, ast.ImportFrom):
                self._check_import("." * node.level + (node.module or ""), [alias.name for alias in node.names],
                                   node.lineno)
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        defined |= {name.id for node in tree.body if isinstance(node, ast.Assign) for name in ast.walk(node)
                    if isinstance(name, ast.Name)}
        for name in self.exercise.functions:
            if name not in defined:
                raise Wrong(f"the function {name} is missing: the file must define "
                            f"{' and '.join(self.exercise.functions)}. To see the file as it was, write it again: "
                            f"`minivit learn start {self.exercise.name} --to another_folder`")

    def _check_import(self, module, names, line):
        """Raise `Wrong` unless the import is NumPy, the standard library or an earlier step."""
        allowed = (f"from {EARLIER} import {', '.join(self.earlier)}" if self.earlier else "")
        if module == EARLIER and names:
            for name in names:
                if name not in (*_HELPERS, *self.earlier):
                    raise Wrong(f"line {line} imports {name}, which is no earlier step: write it yourself"
                                f"{f', or use {allowed}' if allowed else ''}")
        elif module.split(".")[0] not in ("numpy", *sys.stdlib_module_names):
            raise Wrong(f"line {line} imports {module}: an exercise uses NumPy alone, so that you write every "
                        f"operation yourself. Remove this line{f'; allowed is also: {allowed}' if allowed else ''}")

    @property
    def earlier(self) -> tuple[str, ...]:
        """The names of the steps that this exercise may call."""
        return tuple(name for name in NAMES[:self.exercise.number - 1] if name in NAMES[:12])

    def run(self) -> types.ModuleType:
        """Run the file once and return it as a module. Raises `Wrong` if the file raises."""
        name = f"exercise_{self.exercise.name}"
        module = types.ModuleType(name)
        module.__file__ = str(self.path)
        sys.modules[name] = module                                    # dataclasses and pickle look it up
        linecache.cache[str(self.path)] = (len(self.text), None, self.text.splitlines(keepends=True), str(self.path))
        try:
            exec(compile(self.text, str(self.path), "exec"), vars(module))
        except (Exception, SystemExit) as error:
            raise raised(error, self, "the file") from error
        return module


def read_submission(path: str | os.PathLike) -> Submission:
    """Read a learner's file.

    Parameters
    ----------
    path : path

    Returns
    -------
    Submission

    Raises
    ------
    ValueError
        If the file is for no exercise, or is not text.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file in UTF-8: found other bytes, expected Python, pass a file that "
                         "`minivit learn start` wrote") from None
    first = FIRST_LINE.search(text)
    name = first[2] if first and first[2] in NAMES else path.stem
    if name not in NAMES:
        raise ValueError(f"{path} is for no exercise: found neither a line \"Exercise 1, linear: ...\" nor a file name "
                         f"such as linear.py, pass a file that `minivit learn start` wrote")
    return Submission(path, text, exercise(name))


NOT_WRITTEN = "is not written yet"

# for messages of NumPy that a beginner meets: (pattern, what it means)
_ADVICE = (
    ("matmul", "in a product A @ B, the last axis of A and the last but one of B have the same length: must one of "
               "them be transposed?"),
    ("broadcast", "two shapes fit if their axes, counted from the last one, have equal lengths or length 1. A sum, a "
                  "mean or a max over an axis removes it; with keepdims=True it stays, with length 1"),
    ("must be 1- or 2-d|must be 2-d|1-dimensional|too many indices", "the array may have several axes before the last "
     "one: write the operation for the last axis, as with x.sum(axis=-1, keepdims=True), and it holds for every row"),
    ("axes don't match", "x.transpose(...) needs each axis once: one number for each axis of x"),
    ("reshape", "a reshape keeps the number of entries: the product of the lengths is the same before and after"))


def raised(error: BaseException, submission: Submission, what: str, function: str = "") -> Wrong:
    """Return what an exception in a learner's file means, with the line, the shapes there, and advice.

    what: the subject of the sentence, such as "forward". function: as for `Wrong`.
    """
    if isinstance(error, NotImplementedError):
        return Wrong(f"{what} {NOT_WRITTEN}", function)
    number, line, names = _place(error, submission)
    message = " ".join(str(error).split())
    where = f"{what} raises {type(error).__name__}" + (f" in line {number}, `{line}`" if number else "")
    shapes = [f"{key} {value.shape}" for key, value in names.items()
              if isinstance(value, np.ndarray) and re.search(rf"\b{key}\b", line)]
    details = [f"the shapes there: {', '.join(shapes)}"] * bool(shapes)
    details += [advice for pattern, advice in _ADVICE if re.search(pattern, message)][:1]
    if any(re.search(rf"\b{key}\.T\b", line) and np.ndim(value) > 2 for key, value in names.items()):
        details[-1:] = [".T reverses all axes of an array, also those of an array with three: make rows first, with "
                        "x.reshape(-1, x.shape[-1])"]
    return Wrong(f"{where}: {message}" if message else where, function, details)


def _place(error, submission):
    """Return number, text and local variables of the learner's line in which an exception arose; 0 if in none."""
    number, names, trace = 0, {}, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(submission.path):
            number, names = trace.tb_lineno, dict(trace.tb_frame.f_locals)
        trace = trace.tb_next
    return number, submission.text.splitlines()[number - 1].strip() if number else "", names
