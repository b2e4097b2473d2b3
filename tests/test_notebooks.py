"""The notebooks of the course are those that the script makes, and they run."""

import ast
import importlib.util
import json
import re
from pathlib import Path

import pytest
from course_mistakes import SOLUTIONS

from minivit.course.exercise import NAMES

FOLDER = Path(__file__).parents[1] / "demos" / "course"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def script():
    """The script that makes the notebooks, as a module."""
    spec = importlib.util.spec_from_file_location("make_notebooks", FOLDER / "make_notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_notebooks_are_current():
    made = script().notebooks()
    assert sorted(made) == [path.name for path in NOTEBOOKS]
    assert [path.name for path in NOTEBOOKS if path.read_text(encoding="utf-8") != made[path.name]] == []
    assert [name.split("_", 1)[1].removesuffix(".ipynb") for name in made] == list(NAMES)


def test_the_first_cell_installs_from_the_projects_address():
    for path in NOTEBOOKS:
        first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        assert f'%pip install --quiet "minivit @ git+{script().project_url()}"' in first
        assert script().project_url().startswith("https://")


def code_of_solution(name):
    """A right solution without its docstring."""
    text = (SOLUTIONS / f"{name}.py").read_text(encoding="utf-8")
    return "\n".join(text.splitlines()[ast.parse(text).body[0].end_lineno:]).strip()


def executed(path, folder, replacements):
    """Run a notebook in a folder, with the source of some cells replaced; return the output of each code cell."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for i, text in replacements.items():
        cells[i].source = text
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return ["".join(output.get("text", "") for output in cell.outputs) for cell in cells]


def test_a_notebook_runs_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parents[1]))
    first, checked, hinted, *_ = executed(NOTEBOOKS[0], tmp_path, {})
    assert first == ""
    assert "wrong     forward is not written yet" in checked
    assert "hint 1 of" in hinted
    assert not (tmp_path / "minivit-cells" / "linear.py").exists()    # only cells that pass become files


@pytest.mark.slow
def test_all_notebooks_run_with_solutions_and_train(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parents[1]))
    for path, name in zip(NOTEBOOKS, NAMES, strict=True):
        solved = {1: f"%%exercise {name}\n{code_of_solution(name)}"}
        if name == "schedule":
            solved[3] = "%train --epochs 2"
        _, checked, hinted, *trained = executed(path, tmp_path, solved)
        assert re.search(r"  right     \w+", checked), checked
        assert "wrong" not in checked
        assert "hint 1 of" in hinted
        assert (tmp_path / "minivit-cells" / f"{name}.py").is_file()
        for text in trained:
            assert "ours: nothing" in text
            assert float(re.search(r"\ntest accuracy ([\d.]+)%", text)[1]) > 70
