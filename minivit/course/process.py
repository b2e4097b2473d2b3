"""Run a learner's file in a process of its own, with a time limit. The other end is `child`."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .submission import Submission

_START = 120                                                          # seconds for a slow start; then it is killed


def check_in_child(submission: Submission, seconds: float) -> dict[str, Any]:
    """Check a file in a child process.

    Parameters
    ----------
    submission : Submission
    seconds : float
        The time limit for what the file computes.

    Returns
    -------
    dict
        "wrong": None, or {"text", "function", "details"}. "notes": list of str.
    """
    request = {"task": "check", "path": str(submission.path), "text": submission.text,
               "exercise": submission.exercise.name, "seconds": seconds}
    return _run(request, [submission.path], seconds, seconds + _START)


def train_in_child(submissions: list[Submission], epochs: int, seed: int, seconds: float,
                   progress: Callable[[str], None]) -> dict[str, Any]:
    """Train with the functions of some files in a child process.

    Parameters
    ----------
    submissions : list of Submission
    epochs, seed : int
    seconds : float
        The time limit for one step of training, and for reading the files.
    progress : callable
        Gets each line of progress.

    Returns
    -------
    dict
        "wrong" as for `check_in_child`, and "accuracy", 0 to 1, and "images" if nothing is wrong.
    """
    request = {"task": "train", "files": [(str(s.path), s.text, s.exercise.name) for s in submissions],
               "epochs": epochs, "seed": seed, "seconds": seconds}
    return _run(request, [s.path for s in submissions], seconds, None, progress)


def _run(request, paths, seconds, deadline, progress=lambda text: None):
    """Send the request to a child, and return its result; or what is wrong, if it ends without one."""
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[2]),
                                                                          os.environ.get("PYTHONPATH", "")]))}
    child: Any = subprocess.Popen([sys.executable, "-P", "-m", "minivit.course.child"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, env=variables, start_new_session=True)
    results: list[dict] = []
    rest: list[str] = []                                              # what the watchdog writes

    stdin, stdout = child.stdin, child.stdout

    def read():
        for line in stdout:
            text = line.decode(errors="replace")
            event = _event(text)
            if event is None:
                rest.append(text)
            elif event["event"] == "progress":
                progress(event["text"])
            else:
                results.append(event)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        with contextlib.suppress(BrokenPipeError):                    # a child that ended at once
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()                                       # and left open: the child ends when it closes
        code = child.wait(deadline)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        _end(child)
        reader.join(5)
    if results and results[-1]["event"] == "failed":
        raise RuntimeError(f"the check itself failed: {results[-1]['text']}")
    if results:
        return results[-1]
    return {"wrong": {"text": _why_it_ended(code, "".join(rest), paths, seconds), "function": "", "details": []},
            "notes": []}


def _event(text):
    """Return the event of a line, or None if it is none."""
    try:
        event = json.loads(text)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _end(child):
    """End the child and all processes that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    child.wait()


def _why_it_ended(code, rest, paths, seconds):
    """Return why a child ended without a result. rest: what the watchdog wrote, the innermost call first."""
    if "Timeout" in rest or code is None:
        for file, line, function in re.findall(r'File "(.*?)", line (\d+) in (\S+)', rest):
            if Path(file) in paths:
                where = "at its top level" if function == "<module>" else f"in {function}"
                return (f"the file ran for more than {seconds:g} s and was stopped in line {line}, {where}: is there a "
                        "loop that never ends? --seconds sets another limit")
        return f"the file ran for more than {seconds:g} s and was stopped: is there a loop that never ends?"
    if code < 0:
        return f"the process that ran the file was ended by {signal.Signals(-code).name}: does it use too much memory?"
    return f"the process that ran the file ended early, with exit code {code}: the file must not call os._exit or exit"
