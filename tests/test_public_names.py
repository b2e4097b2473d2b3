"""The public names of minivit: they are there, and tools can list them, without optional dependencies too."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import minivit

ROOT = Path(minivit.__file__).parents[1]


def python(code):
    """What a fresh interpreter prints for some code."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True,
                          cwd=ROOT).stdout


def test_public_names_are_there():
    assert set(minivit.__all__) >= {"create_model", "gradcheck", "Trainer", "train", "load", "load_data", "layers",
                                    "ops"}
    assert set(minivit.__all__) <= set(dir(minivit))
    for name in minivit.__all__:
        assert getattr(minivit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        minivit.trian  # noqa: B018


def test_static_tools_see_every_public_name():
    """The imports under TYPE_CHECKING name the same objects as the lazy ones."""
    text = Path(minivit.__file__).read_text()
    imports = text[text.index("if TYPE_CHECKING:"):text.index("__all__")]
    static = {}
    for module, names in re.findall(r"from \.([\w.]*) import (.+)", imports):
        for name in names.split(", "):
            name = name.split(" as ")[0]
            static[name] = module or name
    assert static == minivit._MODULES
    assert set(minivit.__all__) == set(static) - {"ViTClassifier"}


def test_every_op_is_an_attribute_of_ops():
    files = sorted(file.stem for file in (ROOT / "minivit" / "ops").glob("*.py") if file.stem != "__init__")
    assert minivit.ops.__all__ == files
    text = (ROOT / "minivit" / "ops" / "__init__.py").read_text()
    static = re.search(r"from \. import \((.*?)\)", text, re.DOTALL)[1]
    assert [name.strip() for name in static.split(",") if name.strip()] == files
    said = python("import minivit; print(minivit.ops.softmax.__name__, hasattr(minivit.ops, 'sotfmax'))")
    assert said == "minivit.ops.softmax False\n"


WITHOUT_SCIKIT_LEARN = """
import sys
sys.modules["sklearn"] = None                    # as if it were not installed
"""


def test_the_classifier_says_that_it_needs_scikit_learn():
    assert "ViTClassifier" in dir(minivit)
    said = python(WITHOUT_SCIKIT_LEARN + """
from minivit import *
from minivit import ViTClassifier
try:
    ViTClassifier(epochs=1)
except ImportError as error:
    print(error)
""")
    assert re.search(r"ViTClassifier needs scikit-learn.*pip install 'minivit\[sklearn\]'", said)


def test_tools_can_list_the_package_without_scikit_learn():
    said = python(WITHOUT_SCIKIT_LEARN + """
import inspect, pydoc
import minivit
assert hasattr(minivit, "ViTClassifier") and not hasattr(minivit, "trian")
names = [name for name, _ in inspect.getmembers(minivit)]
assert {"ViTClassifier", *minivit.__all__} <= set(names)
text = pydoc.plain(pydoc.render_doc(minivit))
for words in ("shape alphabet", "plain.py", "train(model", "create_model(name", "class Trainer", minivit.__version__):
    assert words in text, words
""")
    assert said == ""


def test_the_shape_alphabet_and_the_reading_order_name_files_that_exist():
    package = Path(minivit.__file__).parent
    text = minivit.__doc__.split("read in this order:")[1].split("`docs/")[0]
    places = re.findall(r"^    (\S+)  ", text, re.MULTILINE)
    assert places[0] == "plain.py"
    assert len(places) == 6
    assert all((package / place).exists() for place in places)


def test_the_package_says_that_it_has_types():
    assert (Path(minivit.__file__).parent / "py.typed").is_file()
