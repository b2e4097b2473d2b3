"""The process in which a learner's file runs: `python -m minivit.course.child`. Its parent is `process`.

It reads one request, a line, from stdin and writes one event a line to stdout, both as JSON. When stdin ends, the
parent has ended, and so does this process. What the file itself prints is counted and kept apart. At the time limit a
thread writes where the file is, and ends the process. The interpreter's own watchdog (`faulthandler`) does the same a
second later: it also ends a call that never returns to Python.
"""

import faulthandler
import io
import json
import os
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import Any

_KEPT = 200                                                           # characters of what the file prints


class Recorder(io.TextIOBase):
    """A stream that counts the lines written to it and keeps the first characters."""

    def __init__(self) -> None:
        self.lines, self.kept = 0, ""

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Count the lines of a text."""
        self.lines += text.count("\n")
        self.kept += text[:_KEPT - len(self.kept)]
        return len(text)


class Channel:
    """The way to the parent: the process's first stdout. From now on, stdout leads nowhere."""

    def __init__(self) -> None:
        self.file = os.fdopen(os.dup(1), "w", encoding="utf-8")
        self.timer: threading.Timer | None = None
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        parent = os.dup(0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        sys.stdout = sys.stderr = self.printed = Recorder()
        sys.stdin = io.StringIO()

    def send(self, **event: Any) -> None:
        """Send one event."""
        self.file.write(json.dumps(event) + "\n")
        self.file.flush()

    def watch(self, seconds: float) -> None:
        """End this process after some seconds from now, and say where it was; 0: no more."""
        faulthandler.cancel_dump_traceback_later()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if seconds:
            self.timer = threading.Timer(seconds, self._stop)
            self.timer.daemon = True
            self.timer.start()
            faulthandler.dump_traceback_later(seconds + 1, exit=True, file=self.file)

    def _stop(self) -> None:
        """Write where every thread is, and end the process. This thread holds the lock, so no call is half made."""
        self.file.write("Timeout\n")
        self.file.flush()
        faulthandler.dump_traceback(self.file)
        os._exit(1)


def _end_with(parent: int) -> None:
    """Wait until the parent closes its end of stdin, and end this process."""
    while os.read(parent, 1024):
        pass
    os._exit(1)


def _check(channel: Channel, request: dict) -> None:
    """Check one file and send the result."""
    from .examination import Learner
    from .exercise import exercise
    from .marking import marking
    from .submission import Submission, Wrong

    submission = Submission(Path(request["path"]), request["text"], exercise(request["exercise"]))
    marked = marking(submission.exercise)
    wrong = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        channel.watch(request["seconds"])
        try:
            marked.examiner.examine(Learner(submission, submission.run()))
        except Wrong as found:
            wrong = {"text": found.text, "function": found.function, "details": found.details}
        channel.watch(0)
    notes = [f"NumPy warns in line {w.lineno}: {w.message}" for w in caught if w.filename == str(submission.path)]
    printed = channel.printed
    if printed.kept:
        first = printed.kept.splitlines()[0]
        notes.append(f"the file prints {max(printed.lines, 1)} {'line' if printed.lines < 2 else 'lines'} while it is "
                     f"checked, the first: {first!r}. Remove the print when you are done")
    channel.send(event="result", wrong=wrong, notes=notes[:3])


def _train(channel: Channel, request: dict) -> None:
    """Train with the learner's functions and send the progress and the result."""
    from .exercise import exercise
    from .submission import Submission, Wrong
    from .training import train

    submissions = [Submission(Path(path), text, exercise(name)) for path, text, name in request["files"]]
    try:
        result = train(submissions, request["epochs"], request["seed"],
                       lambda text: channel.send(event="progress", text=text),
                       lambda: channel.watch(request["seconds"]))
        channel.watch(0)
        channel.send(event="result", wrong=None, **result)
    except Wrong as found:
        channel.send(event="result", wrong={"text": found.text, "function": found.function, "details": found.details})


def main() -> None:
    """Answer the request on stdin."""
    with os.fdopen(0, "rb", buffering=0, closefd=False) as stdin:     # no buffer, so that nothing after it is read
        request = json.loads(stdin.readline())
    channel = Channel()
    try:
        {"check": _check, "train": _train}[request["task"]](channel, request)
    except BaseException:                                             # a mistake in the course, not in the file
        channel.send(event="failed", text=traceback.format_exc())
    os._exit(0)                                                       # whatever the file has left running


if __name__ == "__main__":
    main()
