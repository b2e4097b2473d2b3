"""Public docstrings follow numpydoc, and their examples run.

Public are the names that a user imports: those in `__all__` of the packages below, and the public methods of their
classes. `forward` and `backward` of a layer or model state their shapes in one line, because `Layer` documents both.
"""

import doctest
import importlib.util
import inspect
from pathlib import Path

import pytest

import minivit
from minivit.layers import Layer

PACKAGES = ["minivit", "minivit.layers", "minivit.models", "minivit.data", "minivit.gradient_checking",
            "minivit.explain"]

# GL08: no docstring. GL03: double blank lines. SS03: the summary does not end with a period. PR02: a documented
# parameter does not exist. PR01: a parameter is not documented.
CHECKS = {"GL03", "GL08", "SS03", "PR02"}
SECTIONS = CHECKS | {"PR01"}                         # for functions and classes with more than one parameter
RESULTS = ("Report", "Row", "Result", "TrainingSettings", "Trace")    # made by the library; they describe attributes


def public_names():
    """Pairs (dotted name, object) of everything public."""
    found = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            if not callable(value) or not hasattr(value, "__qualname__"):
                continue
            dotted = f"{value.__module__}.{value.__qualname__}"
            found[dotted] = value
            if inspect.isclass(value):
                for method, member in vars(value).items():
                    if inspect.isfunction(member) and not method.startswith("_"):
                        found[f"{dotted}.{method}"] = member
    return sorted(found.items())


def states_shapes_only(name, value):
    """Whether it is a forward or backward of a layer, which documents its shapes in one line."""
    owner = getattr(importlib.import_module(value.__module__), name.rsplit(".", 2)[-2], None)
    is_layer = inspect.isclass(owner) and issubclass(owner, Layer)
    return is_layer and value.__name__ in ("forward", "backward", "forward_heads", "backward_heads")


@pytest.mark.parametrize(("name", "value"), public_names(), ids=[name for name, _ in public_names()])
def test_docstrings_follow_numpydoc(name, value):
    validate = pytest.importorskip("numpydoc.validate").validate
    errors = dict(validate(name)["errors"])
    short = value.__name__ in RESULTS or states_shapes_only(name, value)
    parameters = [] if short else [p for p in inspect.signature(value).parameters if p != "self"]
    wanted = SECTIONS if len(parameters) > 1 else CHECKS
    assert {code: text for code, text in errors.items() if code in wanted} == {}


def modules_with_examples():
    """The modules whose docstrings have examples, found in their text: some need packages that are not installed."""
    package = Path(minivit.__path__[0])
    names = [".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
             for path in sorted(package.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]
    needed = {"minivit.scikit_learn.estimator": "sklearn", "minivit.testing.strategies": "hypothesis"}
    return [name for name in names if name not in needed or importlib.util.find_spec(needed[name])]


@pytest.mark.parametrize("module", modules_with_examples())
def test_examples_in_docstrings_run(module):
    result = doctest.testmod(importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0
