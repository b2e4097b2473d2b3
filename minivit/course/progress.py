"""What a learner has done: a small JSON file beside the exercise files."""

import json
import os
from pathlib import Path
from typing import Any

from ..common.files import write_atomic
from .exercise import NAMES
from .submission import Submission

FILE = "minivit-learn.json"


class Progress:
    """The progress in one folder.

    Parameters
    ----------
    folder : path
        The folder of the exercise files. A folder without progress is a fresh start.

    Attributes
    ----------
    hints : dict
        How many hints of each exercise were shown.
    passed : dict
        By exercise, the hash of the file that passed its check.
    trained : dict
        The last training: "accuracy" and "yours", the names of the learner's steps; or empty.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.path = Path(folder) / FILE
        content: Any = {}
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            pass
        except ValueError as error:
            raise ValueError(self._damaged(error)) from None
        if not isinstance(content, dict):
            raise ValueError(self._damaged(f"found {type(content).__name__}"))
        self.hints: dict[str, int] = self._part(content, "hints", int)
        self.passed: dict[str, str] = self._part(content, "passed", str)
        self.trained: dict[str, Any] = self._part(content, "trained", object)

    def _damaged(self, reason):
        return f"{self.path} is damaged: {reason}, expected the progress of a course, delete the file to start anew"

    def _part(self, content, name, kind):
        """Return one part of the file, a dictionary of values of one kind."""
        part = content.get(name, {})
        if not isinstance(part, dict) or not all(isinstance(value, kind) for value in part.values()):
            raise ValueError(self._damaged(f"{name} is {part!r}"))
        return part

    def write(self) -> None:
        """Write the file, completely or not at all."""
        write_atomic(self.path, json.dumps({"hints": self.hints, "passed": self.passed, "trained": self.trained},
                                           indent=1) + "\n")

    def has_passed(self, submission: Submission) -> bool:
        """Return whether this file, as it is now, has passed its check."""
        return self.passed.get(submission.exercise.name) == submission.digest

    def state(self, name: str) -> str:
        """Return the state of an exercise in words: "done", "changed" since its check, "started" or ""."""
        path = self.path.parent / f"{name}.py"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return "done" if name in self.passed else ""
        from .exercise import exercise

        if name not in self.passed:
            return "started"
        return "done" if self.has_passed(Submission(path, text, exercise(name))) else "changed"

    def next(self) -> str | None:
        """Return the first exercise that is not done, or None."""
        return next((name for name in NAMES if self.state(name) != "done"), None)
