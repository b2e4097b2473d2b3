"""`NamedCheck`: a name, when the check applies, what it costs, and what it finds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

OK, WRONG, NOTE, NOT_RUN = "ok", "WRONG", "note", "not run"


class DoesNotApply(Exception):
    """Raised by a check for a target that it says nothing about. The text says why."""


@dataclass(frozen=True)
class Finding:
    """What a named check has found.

    verdict: "ok", "WRONG", "note" or "not run". asked: whether the user asked for the check. raised: whether it is "not
    run" because the user's code raised an error in it.
    """

    check: str
    verdict: str
    text: str = ""
    asked: bool = False
    raised: bool = False

    @property
    def is_shown(self) -> bool:
        """Whether the report shows it: a check that says nothing about a target is shown only if the user asked."""
        return self.asked or self.raised or self.verdict != NOT_RUN

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.verdict != WRONG

    def __str__(self) -> str:
        return f"check {self.check}: {self.verdict}" + (f", {self.text}" if self.text else "")


@dataclass(frozen=True)
class NamedCheck:
    """One thing that is checked besides the slopes.

    question: what it asks, in one line. cost: in words, such as "2 steps"; a step is a forward and a backward. run:
    subject -> (verdict, text); it raises `DoesNotApply` where it says nothing. default: whether it runs without being
    named. strict: whether a note is a failure if the user names the check.
    """

    name: str
    question: str
    cost: str
    run: Callable[[Any], tuple[str, str]]
    default: bool = True
    strict: bool = False

    def finding(self, subject: Any, asked: bool, named: bool = False) -> Finding:
        """Run the check. asked: whether to show it in any case. named: whether to be strict.

        An error of the user's code in it is a finding too: the report on the slopes must not fail.
        """
        try:
            verdict, text = self.run(subject)
        except DoesNotApply as error:
            return Finding(self.name, NOT_RUN, str(error), asked)
        except Exception as error:
            said = " ".join(str(error).split()) or "no message"
            return Finding(self.name, NOT_RUN, f"it ended with {type(error).__name__}: {said}", asked, raised=True)
        if verdict == NOTE and named and self.strict:
            verdict = WRONG
        return Finding(self.name, verdict, text, asked)
