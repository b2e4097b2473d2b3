"""Write the course as notebooks, one for each exercise, beside this file.

    python demos/course/make_notebooks.py

Their only source is `minivit/course/exercises/`. Do not edit the notebooks: a test compares them with this script.
"""

import ast
import configparser
import json
from pathlib import Path

from minivit.course.exercise import exercises

FOLDER = Path(__file__).parent

INSTALL = """\
# On a hosted notebook, this installs minivit. It also loads the commands %%exercise, %hint and %train.
import importlib.util

if importlib.util.find_spec("minivit") is None:
    %pip install --quiet "minivit @ git+{url}"
%load_ext minivit.course.magics"""

HOW = """\
Fill in the functions and run the cell. It says what is right and, if something is wrong, what. The cell runs in a
process of its own: to try your functions in this notebook, copy them into another cell."""

TRAIN = """\
## Train with your functions

You have written everything that a training needs. The next cell trains a Vision Transformer on handwritten digits. It
uses the cells of this folder's notebooks that have passed, and functions of minivit for the others. A full training, of
30 epochs, takes a few minutes and reaches about 98% if every function is yours. On a hosted notebook each notebook has
a machine of its own: there, only the cells of this notebook count."""


def project_url():
    """The address of the project, from setup.cfg."""
    config = configparser.ConfigParser()
    config.read(FOLDER.parents[1] / "setup.cfg")
    return config["metadata"]["url"]


def code_of(task):
    """The exercise's file without its docstring."""
    lines = task.text.splitlines()
    return "\n".join(lines[ast.parse(task.text).body[0].end_lineno:]).strip()


def notebook(task):
    """Return the notebook of an exercise as a dictionary."""
    cells = [("code", INSTALL.format(url=project_url())),
             ("markdown", f"# Exercise {task.number}: {task.name}\n\n" + task.description.split(": ", 1)[1]),
             ("markdown", HOW),
             ("code", f"%%exercise {task.name}\n{code_of(task)}"),
             ("code", f"%hint {task.name}")]
    if task.name == "schedule":
        cells += [("markdown", TRAIN), ("code", "%train --epochs 30")]
    return {"cells": [cell(f"{task.name}-{i}", kind, text) for i, (kind, text) in enumerate(cells)],
            "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                         "language_info": {"name": "python"}},
            "nbformat": 4, "nbformat_minor": 5}


def cell(name, kind, text):
    """Return one cell as a dictionary."""
    source = text.splitlines(keepends=True)
    return {"cell_type": kind, "id": name, "metadata": {}, "source": source} | (
        {"execution_count": None, "outputs": []} if kind == "code" else {})


def notebooks():
    """Return {file name: text} of all notebooks."""
    return {f"{task.number:02}_{task.name}.ipynb": json.dumps(notebook(task), indent=1, ensure_ascii=False) + "\n"
            for task in exercises()}


if __name__ == "__main__":
    for name, text in notebooks().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"{len(notebooks())} notebooks are written to {FOLDER}")
