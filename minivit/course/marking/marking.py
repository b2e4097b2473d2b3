"""`Marking`: what the course knows about an exercise besides its text."""

from dataclasses import dataclass
from typing import Any, Protocol


class Examiner(Protocol):
    """Something that examines the functions of a learner."""

    def examine(self, learner: Any) -> None:
        """Examine a `Learner`. Raises `Wrong` at the first mistake."""


@dataclass(frozen=True)
class Marking:
    """How an exercise is marked.

    examiner: raises `Wrong` at the first mistake. read: where the solution and its derivation stand. hints: sentences
    that are shown one by one.
    """

    examiner: Examiner
    read: str
    hints: tuple[str, ...]
