"""What `minivit learn` does: list, start, hint, check and train. Each function returns the text that is printed."""

import contextlib
import os
import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..common.checks import check_number
from .exercise import exercise, exercises
from .marking import marking
from .process import check_in_child, train_in_child
from .progress import Progress
from .submission import NOT_WRITTEN, Submission, Wrong, read_submission
from .training import REPLACES, USED

SECONDS = 10.0                                                        # time limit of a check
_STEP_SECONDS = 60.0                                                  # and of a step of training
_WIDTH = 100


def overview(folder: str | os.PathLike = ".") -> str:
    """Return the list of all exercises and what is done in a folder."""
    progress = _progress_in(folder)
    lines = [f"{'':2}  {'exercise':16}  {'minutes':>7}  {'state':7}  what you write"]
    states = {e.name: progress.state(e.name) for e in exercises()}
    lines += [f"{e.number:2}  {e.name:16}  {e.minutes:7}  {states[e.name]:7}  {e.title}" for e in exercises()]
    done, following = sum(state == "done" for state in states.values()), progress.next()
    lines.append(f"\n{done} of {len(states)} done. " + (
        f"Next: {_command(following, states[following], folder)}" if following else "You have finished the course."))
    if progress.trained:
        lines.append(f"Last training: test accuracy {progress.trained['accuracy']:.1%} with "
                     f"{len(progress.trained['yours'])} steps of yours.")
    return "\n".join(lines)


def _progress_in(folder):
    """Return the progress in a folder that exists."""
    if not Path(folder).is_dir():
        raise ValueError(f"there is no folder {folder}: pass the folder of your exercise files, or create it with "
                         "`minivit learn start`")
    return Progress(folder)


def _command(name, state, folder):
    """Return the command with which an exercise goes on."""
    to = "" if Path(folder) == Path(".") else f" --to {folder}"
    return (f"minivit learn start {name}{to}" if not state
            else f"minivit learn check {os.path.join(folder, f'{name}.py') if to else f'{name}.py'}")


def start(name: str | None = None, folder: str | os.PathLike = ".") -> str:
    """Write the file of an exercise into a folder, and return what to do with it.

    Parameters
    ----------
    name : str, optional
        The exercise. Default: the first that has no file in the folder.
    folder : path
        It is created if needed.

    Raises
    ------
    ValueError
        For an unknown name, or if the file exists: a learner's file is never overwritten.
    OSError
        If the file cannot be written.
    """
    folder = Path(folder)
    if name is None:
        name = next((e.name for e in exercises() if not os.path.lexists(folder / f"{e.name}.py")), None)
        if name is None:
            raise ValueError(f"every exercise has a file in {folder}: nothing to start")
    task = exercise(name)
    path = folder / f"{name}.py"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        file = open(path, "x", encoding="utf-8")                      # noqa: SIM115  "x" refuses a file that exists
    except FileExistsError:
        raise ValueError(f"{path} exists, and stays as it is: go on with it, or pass another folder with "
                         "--to") from None
    try:
        with file:
            file.write(task.text)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    option = "" if folder == Path(".") else f" --in {folder}"
    return (f"{path} is written: exercise {task.number}, {task.title}, about {task.minutes} minutes\n"
            f"Open it, read it, and fill in {' and '.join(task.functions)}. Then:\n"
            f"  minivit learn check {path}\n"
            f"  minivit learn hint {name}{option}")


def hint(name: str, folder: str | os.PathLike = ".") -> str:
    """Return the hints of an exercise so far, and one more. How many were shown is kept in the folder."""
    progress, task = _progress_in(folder), exercise(name)
    hints = marking(task).hints
    shown = min(progress.hints.get(name, 0) + 1, len(hints))
    if progress.hints.get(name) != shown:
        progress.hints[name] = shown
        progress.write()
    lines = [textwrap.fill(f"hint {i} of {len(hints)}: {text}", _WIDTH, subsequent_indent="  ", break_on_hyphens=False,
                           break_long_words=False) for i, text in enumerate(hints[:shown], 1)]
    if shown == len(hints):
        lines.append(f"That was the last hint. The solution and its derivation: {_chapter(task)}")
    return "\n".join(lines)


def check(path: str | os.PathLike, seconds: float = SECONDS) -> tuple[bool, str]:
    """Check a learner's file, and keep the result in its folder.

    Parameters
    ----------
    path : path
    seconds : float
        Time limit of what the file computes.

    Returns
    -------
    passed : bool
    text : str
    """
    submission = read_submission(path)
    passed, text = check_submission(submission, seconds)
    return passed, f"{text}\n{advice(submission, passed)}"


def check_submission(submission: Submission, seconds: float = SECONDS) -> tuple[bool, str]:
    """Check a file that has been read. As `check`, without advice on what to do next."""
    check_number("time limit", seconds, above=0)
    progress = Progress(submission.path.parent)
    result: dict[str, Any]
    try:
        submission.check_text()
        result = check_in_child(submission, seconds)
    except Wrong as found:
        result = {"wrong": {"text": found.text, "function": found.function, "details": found.details}, "notes": []}
    passed, name = result["wrong"] is None, submission.exercise.name
    if passed or name in progress.passed:
        if passed:
            progress.passed[name] = submission.digest
        elif progress.has_passed(submission):                         # with a longer time limit, say
            del progress.passed[name]
        progress.write()
    return passed, _report(submission, result)


def advice(submission: Submission, passed: bool) -> str:
    """Return a line on what to do after a check."""
    name, folder = submission.exercise.name, submission.path.parent
    if not passed:
        return _line("stuck?", f"minivit learn hint {name}" + ("" if folder == Path(".") else f" --in {folder}"))
    progress = Progress(folder)
    following = progress.next()
    return _line("next", _command(following, progress.state(following), folder) if following
                 else f"all exercises are done: minivit learn train {folder / '*.py'}")


def _chapter(task):
    """Return what to read on an exercise. Its paths lead to the files from here, also where minivit is installed."""
    def path(found):
        return found[0] if Path(found[0]).exists() else str(Path(__file__).parents[2] / found[0])

    return re.sub(r"minivit/[\w/]+\.py", path, marking(task).read)


def _line(label, text):
    """Return a line of a report, wrapped."""
    return textwrap.fill(text, _WIDTH, initial_indent=f"  {label:9} ", subsequent_indent=" " * 12,
                         break_on_hyphens=False, break_long_words=False)


def _report(submission, result):
    """Return the result of a check in words."""
    task, wrong = submission.exercise, result["wrong"]
    lines = [f"{submission.path}: exercise {task.number}, {task.name}"]

    def add(label, text):
        lines.append(_line(label, text))

    if wrong is None:
        add("right", " and ".join(task.functions))
    else:
        functions = list(task.functions)
        if wrong["function"] in functions:
            before = functions[:functions.index(wrong["function"])]
            if before:
                add("right", " and ".join(before))
        add("wrong", wrong["text"])
        for text in wrong["details"]:
            add("", text)
        if not wrong["text"].endswith(NOT_WRITTEN):                   # the chapter holds the solution
            add("read", _chapter(task))
    for note in result["notes"]:
        add("note", note)
    return "\n".join(lines)


def train(paths: Sequence[str | os.PathLike], epochs: int = 30, seed: int = 0,
          show: Callable[[str], None] = print) -> str:
    """Train the digits with the functions of a learner's files in place of ours.

    Parameters
    ----------
    paths : sequence of path
        Files that have passed their check.
    epochs, seed : int
    show : callable
        Gets the lines of progress.

    Returns
    -------
    str
        The test accuracy in words.

    Raises
    ------
    ValueError
        If a file has not passed its check, two files are for the same exercise, or a function fails in training.
    """
    check_number("number of epochs", epochs, least=1, whole=True)
    check_number("seed", seed, least=0, whole=True)
    submissions = [read_submission(path) for path in unique(paths)]
    by_name: dict[str, Submission] = {}
    for submission in submissions:
        other = by_name.setdefault(submission.exercise.name, submission)
        if other is not submission:
            raise ValueError(f"{other.path} and {submission.path} are both for the exercise "
                             f"{submission.exercise.name}: pass one of them")
        if not Progress(submission.path.parent).has_passed(submission):
            raise ValueError(f"{submission.path} has not passed its check since it was last changed: run `minivit "
                             f"learn check {submission.path}` first")
    used = {name: s for name, s in by_name.items() if name in USED or (name in REPLACES
                                                                       and REPLACES[name] not in by_name)}
    for name in [name for name in by_name if name not in used]:
        show(f"not used: {name}" + (f", because {REPLACES[name]} was passed too" if name in REPLACES else
                                    ", which is no part of this model"))
    if not used:
        raise ValueError(f"nothing to train with: found no file of {', '.join(USED)}, pass at least one")
    ours = [name for name in USED if name not in used and name not in [REPLACES.get(own) for own in used]]
    yours = [name for name in (*USED, *REPLACES) if name in used]
    for whose, names in (("yours", yours), ("ours", ours or ["nothing"])):
        show(textwrap.fill(f"{whose}: {', '.join(names)}", _WIDTH, subsequent_indent="  "))
    result = train_in_child(list(used.values()), epochs, seed, _STEP_SECONDS, show)
    if result["wrong"]:
        raise ValueError(". ".join([result["wrong"]["text"], *result["wrong"]["details"]]))
    progress = Progress(submissions[0].path.parent)
    progress.trained = {"accuracy": result["accuracy"], "yours": sorted(used)}
    progress.write()
    every = "every operation of this Vision Transformer is yours" if not ours else f"{len(used)} steps are yours"
    return f"test accuracy {result['accuracy']:.1%} on {result['images']} images: {every}"


def unique(paths: Sequence[str | os.PathLike]) -> list[Path]:
    """Return the paths in order, each file once."""
    return list({os.path.realpath(path): Path(path) for path in paths}.values())
