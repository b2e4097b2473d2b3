"""The API reference: a page for each package, made from its `__all__` and the numpydoc docstrings.

The docstrings are plain text with some reStructuredText in them. Before Sphinx reads them, signs that they use as
mathematics are escaped, and indented blocks become literal blocks.
"""

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

from repository import ROOT, chapters

PACKAGES = {
    "minivit": "The functions and classes that most programs need.",
    "minivit.data": "Data sets: named ones, and your own images.",
    "minivit.models": "Architectures and named variants.",
    "minivit.layers": "Layers hold the weights, and store in the forward what the backward needs.",
    "minivit.ops": "Pure functions, a plain and a fast pair for each operation.",
    "minivit.gradient_checking": "The gradient checker and its report.",
    "minivit.testing": "Gradient checks in your own tests.",
    "minivit.explain": "What a model computes: symmetries, receptive fields, attention maps, filters.",
}


def write_pages(folder: Path) -> None:
    """Write one page for each package, and the page that lists them."""
    folder.mkdir()
    rows = [f"API reference\n{'=' * 13}\n",
            "Every public name, with shapes and errors. The chapters explain how it works.\n",
            ".. toctree::\n   :maxdepth: 1\n", *(f"   {package}" for package in PACKAGES)]
    (folder / "index.rst").write_text("\n".join(rows) + "\n")
    for package, summary in PACKAGES.items():
        entries = ops() if package == "minivit.ops" else public(package)
        text = [f"{package}\n{'=' * len(package)}\n", summary + "\n", *entries]
        (folder / f"{package}.rst").write_text("\n".join(text) + "\n")


def public(package: str) -> list[str]:
    """Return the directives for the names in `__all__` of a package: functions first, then classes."""
    module = importlib.import_module(package)
    values = [(name, getattr(module, name)) for name in sorted(module.__all__, key=str.lower)]
    if package == "minivit":
        values.append(("ViTClassifier", module.ViTClassifier))
    documented = [(name, value) for name, value in values if callable(value)]
    if package == "minivit":                                          # the other packages have pages of their own
        home = {"create_model": "minivit.models", "load_data": "minivit.data", "gradcheck": "minivit.gradient_checking"}
        links = [f"- :func:`~{value.__module__}.{name}` (page {home[name]})" for name, value in documented
                 if name in home]
        documented = [(name, value) for name, value in documented if name not in home]
    else:
        links = []
    entries = [*links, ""]
    for name, value in sorted(documented, key=lambda pair: inspect.isclass(pair[1])):
        entries += heading(name, "-")
        entries += directive(f"{value.__module__}.{value.__qualname__}", value)
    return entries


def ops() -> list[str]:
    """Return the directives for the public functions of each op, in the order of the chapters."""
    entries = []
    for name in chapters()["ops"]:
        module = importlib.import_module(f"minivit.ops.{name}")
        entries += heading(name, "-")
        entries.append(f"See the :doc:`chapter </chapters/ops/{name}>`.\n")
        for function in functions(module):
            entries.append(f".. autofunction:: minivit.ops.{name}.{function}\n")
    return entries


def functions(module: ModuleType) -> list[str]:
    """Return the public functions of a module in the order of its source."""
    found = [(inspect.unwrap(value).__code__.co_firstlineno, name) for name, value in vars(module).items()
             if inspect.isfunction(inspect.unwrap(value)) and value.__module__ == module.__name__
             and not name.startswith("_")]
    return [name for _, name in sorted(found)]


def directive(name: str, value: object) -> list[str]:
    if not inspect.isclass(value):
        return [f".. autofunction:: {name}\n"]
    return [f".. autoclass:: {name}\n   :members:\n   :show-inheritance:\n"]


def heading(text: str, sign: str) -> list[str]:
    return [f"{text}\n{sign * len(text)}\n"]


# ---- docstrings as reStructuredText ----------------------------------------------------------------------------------


def safe(app, what, name, value, options, lines: list[str]) -> None:
    """Escape mathematics in a docstring, and mark its indented blocks as literal. Runs before numpydoc."""
    lines[:] = safe_lines(lines)


def safe_lines(lines: list[str]) -> list[str]:
    result: list[str] = []
    in_block = in_section = False
    for number, line in enumerate(lines):
        below = lines[number + 1] if number + 1 < len(lines) else ""
        in_section = in_section or bool(re.fullmatch(r"-{3,}", below))
        indented = line.startswith("    ") and not in_section
        if indented and not in_block and not line.lstrip().startswith(">>>"):
            result += ["", "::", ""]
            in_block = True
        elif line.strip() and not indented:
            in_block = False
        result.append(line if in_block or ">>>" in line else escaped(line))
    return result


def escaped(line: str) -> str:
    """Escape stars, bars and trailing underscores outside of code."""
    pieces = re.split(r"(``.*?``|`[^`]+`|(?<![\w*])\*[A-Za-z][^*]*\*(?![\w*]))", line)
    for i in range(0, len(pieces), 2):
        pieces[i] = re.sub(r"(\*|\||(?<=\w)_(?!\w))", r"\\\1", pieces[i])
    for i in range(1, len(pieces), 2):
        if pieces[i].startswith("`") and not pieces[i].startswith("``"):
            pieces[i] = f"`{pieces[i]}`"
    return "".join(pieces)


def linkcode_resolve(domain: str, info: dict) -> str | None:
    """Return where an object is defined, as a link into the repository."""
    value = importlib.import_module(info["module"])
    for part in info["fullname"].split("."):
        value = getattr(value, part, None)
    value = inspect.unwrap(value) if callable(value) else None
    try:
        file, (_, line) = inspect.getsourcefile(value), inspect.getsourcelines(value)
    except (TypeError, OSError):
        return None
    path = Path(file or "").resolve()
    return f"source:{path.relative_to(ROOT).as_posix()}#L{line}" if path.is_relative_to(ROOT) else None


def setup(app) -> dict:
    app.connect("autodoc-process-docstring", safe, priority=100)
    return {"parallel_read_safe": True}
