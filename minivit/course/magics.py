"""The course in a notebook: `%load_ext minivit.course.magics`.

    %%exercise linear       checks the rest of the cell as the file of an exercise; it runs in a process of its own
    %hint linear            shows one hint more
    %train --epochs 30      trains the digits with all cells that have passed

A cell that passes is kept as a file in the folder `minivit-cells`, beside the notebook. One that does not pass changes
no file.
"""

import shlex
from pathlib import Path
from typing import Any

from ..common.files import write_atomic
from .exercise import exercise
from .lessons import check_submission, hint, train
from .submission import Submission

FOLDER = Path("minivit-cells")


def load_ipython_extension(shell: Any) -> None:
    """Register the three commands. IPython calls this for `%load_ext`."""
    shell.register_magic_function(check_cell, "cell", "exercise")
    shell.register_magic_function(show_hint, "line", "hint")
    shell.register_magic_function(train_cells, "line", "train")


def check_cell(line: str, cell: str) -> None:
    """Check a cell and print what is wrong with it. line: the name of the exercise."""
    task = exercise(line.strip())
    FOLDER.mkdir(exist_ok=True)
    # the first line stands in place of %%exercise, so that line numbers are those of the cell
    text = f'"""Exercise {task.number}, {task.name}: from a notebook."""\n{cell}'
    submission = Submission(FOLDER / f"{task.name}.py", text, task)
    passed, text = check_submission(submission)
    if passed:
        write_atomic(submission.path, submission.text)
    print(text if passed else f"{text}\n  stuck?    run the cell with %hint {task.name}")


def show_hint(line: str) -> None:
    """Print one hint more. line: the name of the exercise."""
    FOLDER.mkdir(exist_ok=True)
    print(hint(line.strip(), FOLDER))


def train_cells(line: str) -> None:
    """Train with all cells that have passed. line: "" or "--epochs N"."""
    words = shlex.split(line)
    if words and (len(words) != 2 or words[0] != "--epochs" or not words[1].isdigit()):
        raise ValueError(f"unknown options {line!r}: expected nothing or --epochs N, such as %train --epochs 3")
    print(train(sorted(FOLDER.glob("*.py")), int(words[1]) if words else 30))
