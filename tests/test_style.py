"""The limits that keep the project readable.

    python tests/test_style.py        prints the lines of each file on the path of a training step, and their sum
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
WIDTH = 120                                          # columns
SOURCES = sorted(path for folder in ("minivit", "tests", "demos") for path in (ROOT / folder).rglob("*.py"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

# What a reader meets in one training step, from the patches of an image to the weights after AdamW
TRAINING_STEP = [ROOT / "minivit" / f"{name}.py" for name in (
    "ops/patches", "ops/tokens", "ops/pooling", "ops/linear", "ops/layer_norm", "ops/softmax", "ops/attention",
    "ops/gelu", "ops/cross_entropy",
    "layers/parameter", "layers/layer", "layers/linear", "layers/norm", "layers/attention", "layers/mlp",
    "layers/block", "layers/dropout", "layers/patch_embed",
    "models/model", "models/vit",
    "parallel/batch_split", "parallel/lanes",
    "training/adamw", "training/trainer")]


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
    assert sum(len(lines(path)) for path in TRAINING_STEP) <= 2_000


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
