"""What the site reads from the repository: its chapters, who uses them, and where a link into the repository leads."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# The chapters of each room, in reading order. The chapters of `ops` stand in the docstring of `ops/__init__.py`.
ROOMS = {
    "ops": "",
    "layers": "parameter layer linear norm dropout attention mlp block patch_embed head attention_variants "
              "relative_bias conv_stem convolution group_norm resnet_block window patch_merging stage initializers "
              "replica_options packing storage",
    "models": "model vit deit swin resnet linear_probe masked_autoencoder",
    "parallel": "batch_split lanes threads prediction",
    "training": "adamw muon trainer schedule ema distillation loop",
    "explain": "symmetry receptive attention_maps filters cost",
    "gradient_checking": "check differences comparison noise hints/causes hints/factors hints/places hints/terms",
}
SINGLE = ["plain", "kernel"]                                          # chapters that are rooms of one file

# Demos whose figure shows what a chapter does
PICTURES = {
    "ops/patches": ["05_why_patches"], "ops/tokens": ["06_symmetry"], "ops/relative_bias": ["06_symmetry"],
    "ops/attention": ["09_other_signals", "08_dynamic_connectivity"], "ops/windows": ["10_windows"],
    "ops/distillation": ["12_distillation"], "ops/convolution": ["07_receptive_fields"],
    "explain/symmetry": ["06_symmetry"], "explain/receptive": ["07_receptive_fields"],
    "explain/attention_maps": ["08_dynamic_connectivity"], "explain/filters": ["08_dynamic_connectivity"],
    "explain/cost": ["05_why_patches"], "gradient_checking/check": ["02_find_a_wrong_gradient"],
    "models/vit": ["00_overview"], "models/swin": ["10_windows"], "models/deit": ["12_distillation"],
    "models/linear_probe": ["13_weights"], "parallel/lanes": ["14_replay"], "layers/conv_stem": ["11_scale"],
    "ops/interleaved_attention": ["18_register_tiles"],
}


def read(path: str) -> str:
    """Return the text of a file of the repository."""
    return (ROOT / path).read_text(encoding="utf-8")


@cache
def chapters() -> dict[str, list[str]]:
    """Return {room: the names of its chapters}, both in reading order."""
    listed = {}
    for room, names in ROOMS.items():
        docstring = ast.get_docstring(ast.parse(read(f"minivit/{room}/__init__.py"))) or ""
        in_docstring = [name for line in re.findall(r"^    (\w+(?:, \w+)*) {2,}\w", docstring, re.MULTILINE)
                        for name in line.split(", ") if (ROOT / f"minivit/{room}/{name}.py").is_file()]
        listed[room] = names.split() or in_docstring
    return listed


@cache
def chapter_files() -> dict[str, str]:
    """Return {file: page} of all chapters, such as minivit/ops/linear.py: chapters/ops/linear."""
    files = {f"minivit/{name}.py": f"chapters/{name}" for name in SINGLE}
    for room, names in chapters().items():
        files[f"minivit/{room}/__init__.py"] = f"chapters/{room}/index"
        files |= {f"minivit/{room}/{name}.py": f"chapters/{room}/{name}" for name in names}
    return files


def documentation_pages() -> list[str]:
    """Return the names of the pages of docs/, in the order of the table in docs/README.md, then by name."""
    listed = re.findall(r"\]\(([\w-]+)\.md\)", read("docs/README.md"))
    every = sorted(path.stem for path in (ROOT / "docs").glob("*.md") if path.stem != "README")
    return [*dict.fromkeys(name for name in listed if name in every), *(name for name in every if name not in listed)]


def title(path: str) -> tuple[str, str]:
    """Return the title of a chapter and the first sentence of its docstring without the title."""
    summary = " ".join((ast.get_docstring(ast.parse(read(path))) or "").split("\n\n")[0].split())
    name = path.removesuffix("/__init__.py").removesuffix(".py").split("/")[-1].replace("_", " ")
    head, colon, rest = summary.partition(": ")
    if colon and len(head) <= 60 and "." not in head:
        return head, rest
    classes = [node.name for node in ast.parse(read(path)).body if isinstance(node, ast.ClassDef)]
    spelt = [spelling for spelling in classes if spelling.lower() == name]              # ViT, ResNet
    return (spelt or [name[0].upper() + name[1:]])[0], summary


# ---- who uses a chapter ----------------------------------------------------------------------------------------------


@cache
def imports(path: str) -> frozenset[str]:
    """Return the modules of minivit that a file imports, as paths."""
    package = Path(path).parent.parts
    found = set()
    for node in ast.walk(ast.parse(read(path))):
        names = []
        if isinstance(node, ast.ImportFrom):
            base = [*(package[:len(package) - node.level + 1] if node.level else ()), *(node.module or "").split(".")]
            base = [part for part in base if part]
            names = [base, *([*base, alias.name] for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) \
                and isinstance(node.value.value, ast.Name):           # minivit.ops.softmax
            names = [[node.value.value.id, node.value.attr, node.attr]]
        found |= {"/".join(name) + ".py" for name in names if name[:1] == ["minivit"]}
    return frozenset(name for name in found if (ROOT / name).is_file())


@cache
def python_files(folder: str) -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.py"))


def users(path: str, folder: str) -> list[str]:
    """Return the files of a folder that import a module."""
    return [file for file in python_files(folder) if path in imports(file) and file != path]


@cache
def entries(path: str, table: str, name: str) -> list[tuple[int, str]]:
    """Return (line, key) of the entries of a dict, or of a list of tuples, whose key begins with a name.

    A key such as "softmax scale" names the op up to the first blank or comma.
    """
    found = []
    for node in ast.walk(ast.parse(read(path))):
        is_table = isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == table for t in node.targets)
        if not is_table:
            continue
        keys = [key for part in ast.walk(node.value) if isinstance(part, ast.Dict) for key in part.keys]
        keys += [part.elts[0] for part in ast.walk(node.value) if isinstance(part, ast.Tuple) and part.elts]
        found += [(key.lineno, key.value) for key in keys if isinstance(key, ast.Constant)
                  and isinstance(key.value, str) and re.split("[ ,]", key.value)[0] == name]
    return sorted(found)


# ---- links -----------------------------------------------------------------------------------------------------------


def resolve(target: str, folder: str) -> str:
    """Return the path of a file or folder that a text in a folder of the repository names, or ""."""
    for base in (folder, "minivit", "", *(["minivit/ops"] if "/" not in target else [])):
        path = (ROOT / base / target).resolve()
        if path.exists() and path.is_relative_to(ROOT):
            return path.relative_to(ROOT).as_posix()
    return ""


def page_of(path: str, line: str = "") -> str:
    """Return the page of the site that shows a file or folder of the repository.

    A chapter and a page of docs/ have pages of their own, and pictures and data are copied. Any other text is a page of
    source code, which also shows a chapter if a line is asked for.
    """
    path = path.strip("/")
    if path in ("README.md", "docs/README.md", "docs", "."):
        return "index.html"
    if path == "CHANGELOG.md" or (path.startswith("docs/") and path.endswith(".md")):
        return path.removesuffix(".md") + ".html"
    if not line and f"{path}/__init__.py" in chapter_files():
        return chapter_files()[f"{path}/__init__.py"] + ".html"
    if not line and path in chapter_files():
        return chapter_files()[path] + ".html"
    if (ROOT / path).is_dir():
        return f"source/{path}/index.html"
    if is_text(path):
        return f"source/{path}.html" + (f"#L{line}" if line else "")
    return f"files/{path}"


def is_text(path: str) -> bool:
    """Whether the site shows a file as a page of source code."""
    return Path(path).suffix in (".py", ".cfg", ".toml", ".txt", ".jsonl", ".cff", "", ".in", ".html", ".css", ".yml")
