"""What imports what: a room imports only rooms of lower levels, and nothing heavy that it does not need."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minivit

PACKAGE = Path(minivit.__file__).parent


def python(code, *arguments):
    """Return what a new process prints for some code."""
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60,
                          check=True).stdout


@pytest.mark.parametrize(("statement", "unwanted"), [
    ("import minivit", "numpy numba matplotlib minivit.ops"),
    ("from minivit.ops import attention",
     "matplotlib PIL tqdm safetensors minivit.training minivit.data minivit.models minivit.layers"),
    ("from minivit.models import create_model", "matplotlib PIL tqdm minivit.training minivit.data"),
    ("from minivit.data import load_data",
     "matplotlib numba pooch requests minivit.training minivit.models minivit.layers minivit.ops"),
    ("from minivit.training_pipeline.train import train", "matplotlib minivit.cli minivit.explain"),
    ("import minivit.testing", "numba matplotlib minivit.ops minivit.layers minivit.models pytest hypothesis"),
    ("from minivit.testing import assert_gradients",
     "numba matplotlib minivit.ops minivit.layers minivit.models pytest hypothesis torch jax autograd mygrad"),
    ("from minivit.explain import rollout", "matplotlib tqdm minivit.training minivit.data minivit.cli"),
], ids=["minivit", "ops", "models", "data", "training", "testing", "assertion", "explain"])
def test_an_import_loads_nothing_that_it_does_not_need(statement, unwanted):
    code = f"{statement}\nimport sys\nprint(*(name for name in sys.argv[1:] if name in sys.modules))"
    assert python(code, *unwanted.split()).strip() == ""


# The rooms (packages and single modules) of minivit, from the lowest level to the highest, as in docs/architecture.md
LEVELS = ["common kernel vectors", "matrix_products", "ops kernel_replay",
          "gradient_checking layers weight_formats data", "parallel testing", "models",
          "training explain gradcheck_catalogue", "training_pipeline plain", "bench scikit_learn course export",
          "cli", "__main__"]


def room_of(file):
    """Return the room of minivit that a file belongs to, such as "ops"."""
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(file):
    """Return the other rooms that a file of minivit imports anywhere, also inside functions."""
    package = ("minivit", *file.relative_to(PACKAGE).parts[:-1])
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            origin = [*(package[:len(package) - node.level + 1] if node.level else ()), *filter(None, [node.module])]
            names += [".".join([*origin, alias.name]) for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("minivit.")} - {room_of(file)}


def test_every_room_imports_only_rooms_of_lower_levels_also_inside_functions():
    level_of = {room: level for level, rooms in enumerate(LEVELS) for room in rooms.split()}
    files = [file for file in PACKAGE.rglob("*.py") if room_of(file) != "__init__"]
    assert [f"{file} imports {room}" for file in files for room in imported(file)
            if level_of[room] >= level_of[room_of(file)]] == []


def test_data_and_the_gradient_checker_do_without_layers_and_models():
    allowed = {"data": {"common", "ops"}, "gradient_checking": {"common"}}
    files = [file for file in PACKAGE.rglob("*.py") if room_of(file) in allowed]
    assert [f"{file} imports {room}" for file in files for room in imported(file) - allowed[room_of(file)]] == []


def test_the_figure_and_the_table_of_the_rooms_show_these_levels():
    levels = [set(rooms.split()) for rooms in LEVELS[:-1]]           # `__main__` only starts the command line
    docs = PACKAGE.parent / "docs"
    drawn, listed = {}, {}
    figure = (docs / "images" / "house.svg").read_text()
    for y, room in re.findall(r'class="room" x="[\d.]+" y="([\d.]+)">([\w.]+)<', figure):
        drawn.setdefault(float(y), set()).add(room.removesuffix(".py"))
    for level, room in re.findall(r"^\| (\d+) \| \[`(\w+)", (docs / "architecture.md").read_text(), re.MULTILINE):
        listed.setdefault(int(level), set()).add(room)
    assert [drawn[y] for y in sorted(drawn, reverse=True)] == levels
    assert [listed[level] for level in sorted(listed)] == levels
