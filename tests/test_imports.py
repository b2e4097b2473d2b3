"""What imports what: parts of the package import from lower floors only, and nothing heavy that they do not need."""

import ast
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
    ("from minivit.runs.train import train", "matplotlib minivit.cli minivit.explain"),
    ("from minivit.explain import rollout", "matplotlib tqdm minivit.training minivit.data minivit.cli"),
], ids=["minivit", "ops", "models", "data", "training", "explain"])
def test_an_import_loads_nothing_that_it_does_not_need(statement, unwanted):
    code = f"{statement}\nimport sys\nprint(*(name for name in sys.argv[1:] if name in sys.modules))"
    assert python(code, *unwanted.split()).strip() == ""


# Each part of the package imports only from the floors before its own.
HOUSE = ["common kernel", "ops", "testing layers weights data", "parallel", "models", "training explain selftest",
         "runs plain", "bench interop", "cli", "__main__"]


def part_of(file):
    """Return the part of minivit that a file belongs to, such as "ops"."""
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(file):
    """Return the other parts that a file of minivit imports anywhere, also inside functions."""
    package = ("minivit", *file.relative_to(PACKAGE).parts[:-1])
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            origin = [*(package[:len(package) - node.level + 1] if node.level else ()), *filter(None, [node.module])]
            names += [".".join([*origin, alias.name]) for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("minivit.")} - {part_of(file)}


def test_every_part_imports_from_lower_floors_only_also_inside_functions():
    floors = {part: floor for floor, parts in enumerate(HOUSE) for part in parts.split()}
    files = [file for file in PACKAGE.rglob("*.py") if part_of(file) != "__init__"]
    assert [f"{file} imports {part}" for file in files for part in imported(file)
            if floors[part] >= floors[part_of(file)]] == []
    beside = [file for file in files if part_of(file) in ("data", "testing")]
    assert [f"{file} imports {part}" for file in beside for part in imported(file) - {"common", "ops"}] == []
