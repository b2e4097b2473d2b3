"""The limits that keep the project readable.

    python tests/test_style.py        prints the lines of each file on the path of a training step, and their sum
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
WIDTH = 120                                          # columns
SOURCES = sorted(path for folder in ("minivit", "tests", "demos", "docs") for path in (ROOT / folder).rglob("*.py"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

READING_ORDER = (ROOT / "docs" / "architecture.md").read_text().split("## Reading order")[1].split("\n#")[0]


def files_in(marker):
    """The files that a list in the reading order names. An item links a folder and names files, or links a file."""
    items = re.findall(rf"^{marker} \[.*?\]\(\.\./(minivit/.*?)\)(.*(?:\n  .*)*)", READING_ORDER, re.MULTILINE)
    in_folders = [f"{folder}/{name}.py" for folder, names in items for name in re.findall(r"`(\w+)`", names)]
    return [ROOT / path for path in (*in_folders, *(link for link, _ in items if link.endswith(".py")))]


TRAINING_STEP, MACHINERY = files_in(r"\d\."), files_in("-")

ONE_STEP = """
import sys, threading
import numpy as np
import minivit

def note(frame, event, argument):
    if frame.f_code.co_name != "<module>":
        files.add(frame.f_code.co_filename)

files, images = set(), np.zeros((64, 8, 8, 1), np.uint8)
model = minivit.create_model("vit_mini", image_size=8, drop_path_rate=0.1)
trainer = minivit.Trainer(model, ema=0.9)
threading.setprofile(note)
sys.setprofile(note)
trainer.step(images, np.arange(64) % 10)
sys.setprofile(None)
print("\\n".join(file for file in files if "minivit" in file))
"""


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def test_no_line_is_wider_than_the_page():
    wide = [f"{path.relative_to(ROOT)}:{i}" for path in SOURCES for i, line in enumerate(lines(path), 1)
            if len(line) > WIDTH]
    # Tables and links cannot be wrapped in Markdown.
    wide += [f"{path.relative_to(ROOT)}:{i}" for path in PAGES for i, line in enumerate(lines(path), 1)
             if len(line) > WIDTH and not line.startswith("|") and "](" not in line]
    assert wide == []


def test_the_readme_is_short():
    assert len(lines(ROOT / "README.md")) <= 150
    assert (ROOT / "README.md").stat().st_size <= 9_000


def test_the_plain_vit_is_short():
    assert len(lines(ROOT / "minivit" / "plain.py")) <= 300


def test_the_path_of_a_training_step_is_short():
    assert len(TRAINING_STEP) > 20
    assert sum(len(lines(path)) for path in TRAINING_STEP) <= 2_000


def test_the_reading_order_names_every_file_that_a_training_step_runs():
    step = subprocess.run([sys.executable, "-c", ONE_STEP], capture_output=True, text=True, timeout=120, check=True)
    files = {path for path in map(Path, step.stdout.splitlines()) if path.is_relative_to(ROOT / "minivit")}
    assert len(files) > 20
    assert files - {*TRAINING_STEP, *MACHINERY} == set()
    assert [path for path in (*TRAINING_STEP, *MACHINERY) if not path.is_file()] == []


def test_the_ideas_on_the_path_are_few():
    page = (ROOT / "docs" / "architecture.md").read_text()
    section = page.split("### The ideas on this path")[1].split("\n## ")[0]
    ideas = re.findall(r"^\d+\. .*\(\.\./(minivit/[\w/]+\.py)\)$", section, re.MULTILINE)
    assert 5 <= len(ideas) <= 12
    assert all((ROOT / path).is_file() for path in ideas)


def is_setter(node):
    """Whether it is the setter of a property; its getter has the docstring."""
    return any(isinstance(d, ast.Attribute) and d.attr == "setter" for d in node.decorator_list)


def public(tree, prefix=""):
    """The public classes, functions and methods of a module."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_") and not is_setter(node):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{prefix}{node.name}.")


def test_every_public_name_has_a_docstring():
    files = [path for path in SOURCES if path.is_relative_to(ROOT / "minivit")]
    bare = [f"{path.relative_to(ROOT)}: {name}" for path in files
            for name, node in public(ast.parse(path.read_text(encoding="utf-8"))) if not ast.get_docstring(node)]
    assert bare == []
    assert [str(path) for path in files if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))] == []


if __name__ == "__main__":
    for path in TRAINING_STEP:
        print(f"{len(lines(path)):5} {path.relative_to(ROOT)}")
    print(f"{sum(len(lines(path)) for path in TRAINING_STEP):5} in all")
