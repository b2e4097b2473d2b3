"""Check a layer in a file, without a test: `my_layers.py:Swish` and the shapes of its inputs."""

import ast
import contextlib
import importlib
import importlib.util
import inspect
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..common.checks import check_name
from ..gradient_checking import Report, gradcheck
from ..gradient_checking.frameworks import is_target, makes_targets

_PAIRS = (("_forward", "_backward"), ("_fwd", "_bwd"), ("_forward", "_grad"), ("_forward", "_vjp"),
          ("", "_backward"), ("", "_grad"), ("", "_vjp"))             # endings of a forward and its backward
_MODULE = "minivit_checked_file"
_LOADED_BEFORE = set(sys.modules)                                     # these are never executed anew


def check_file(target: str, inputs: Sequence[str], seed: int = 0, **options: Any) -> Report:
    """Check the gradients of a layer in a Python file.

    Parameters
    ----------
    target : str
        FILE.py:NAME. NAME is a class with forward and backward, an object of one, the common beginning of a pair of
        functions (`gelu` for `gelu_forward` and `gelu_backward`, or for `gelu` and `gelu_grad`), or both functions with
        a comma between. A class is called with the arguments in parentheses, such as `Linear(4, 3)`. Without them, an
        only argument is the last size of the first input.
    inputs : sequence of str
        For each input a shape, such as 3x4, for normal random numbers; 3x4:10 for integers below 10; or an .npy file.
    seed : int
        Seed of inputs, weights and dy.
    **options
        Other options of `minivit.gradcheck`.

    Returns
    -------
    Report

    Raises
    ------
    OSError, ImportError
        If the file cannot be read or executed.
    ValueError, TypeError
        If there is no such layer, or it cannot be checked.
    """
    path, name = _split(target)
    rng = np.random.default_rng([seed, 1])                            # another stream than that of dy and weights
    arrays = [_input(text, rng) for text in inputs]
    with _importing_from(_home(path)[1]):                             # the forward may import too
        module = _executed(path)
        try:
            return gradcheck(_find(module, path, name, arrays), *arrays, seed=seed, **options)
        except (Exception, SystemExit) as error:
            raise _in_file(error, path) from error


def watch(target: str, check: Callable[[], Any], pause: float = 0.3) -> Iterator[Any]:
    """Yield what `check` returns, now and whenever a Python file in the folder or package of the target has changed.

    Parameters
    ----------
    target : str
        FILE.py:NAME.
    check : callable
        Called without arguments.
    pause : float
        Seconds between two looks at the files.

    Yields
    ------
    object
        What `check` returned.
    """
    path, _ = _split(target)

    def times():
        found = {}
        for file in _sources(path):
            with contextlib.suppress(OSError):                        # an editor replaces the file just now
                found[file] = file.stat().st_mtime_ns
        return found

    while True:
        seen = times()
        yield check()
        while times() == seen:
            time.sleep(pause)


def is_file_target(name: str) -> bool:
    """Return whether a name is FILE.py or FILE.py:NAME rather than the name of an op, layer or model."""
    return re.search(r"\.py(:|$)", name) is not None


def _split(target):
    """Return the path and the name of a target."""
    match = re.match(r"(.*?\.py)(?::(.*))?$", target)
    if match is None:
        raise ValueError(f"wrong target: found {target!r}, expected FILE.py:NAME, such as my_layers.py:Swish")
    return Path(match[1]).absolute(), match[2] or ""


def _input(text, rng):
    """Return the input that a text describes."""
    if text.endswith(".npy"):
        return _loaded(text)
    match = re.fullmatch(r"(\d+(?:x\d+)*)?(?::(\d+))?", text)
    if match is None or not text or match[2] == "0":
        raise ValueError(f"wrong input {text!r}: expected a shape such as 3x4, integers below 10 of a shape such as "
                         "3x4:10, or an .npy file")
    shape = tuple(map(int, match[1].split("x"))) if match[1] else ()
    try:
        return rng.standard_normal(shape) if match[2] is None else rng.integers(0, int(match[2]), shape)
    except (MemoryError, ValueError, OverflowError) as error:
        raise ValueError(f"wrong input {text!r}: {error}; choose a smaller one, such as 3x4") from None


def _loaded(file):
    """Return the array in an .npy file."""
    try:
        array = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, MemoryError):                       # NumPy advises to allow pickles, which is unsafe
        array = None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"wrong input {file!r}: found no array of numbers in it, expected a file that np.save has "
                         "written")
    return array


def _home(path):
    """Return the full name of the module of a file, and the folder that must be on the path to import it."""
    names, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        names, folder = [folder.name, *names], folder.parent
    return ".".join(names), folder


def _sources(path):
    """Return the Python files of which one may be imported by a file: those of its package, or of its folder."""
    name, folder = _home(path)
    return sorted((folder / name.split(".")[0]).rglob("*.py") if "." in name else folder.glob("*.py"))


def _executed(path):
    """Execute a file as a new module, and anew the files beside it that it imports."""
    if not path.is_file():
        raise FileNotFoundError(2, "there is no such file", str(path))
    files = set(map(str, _sources(path)))
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) in files and name not in _LOADED_BEFORE:
            del sys.modules[name]
    name = _home(path)[0]
    try:
        return importlib.import_module(name) if "." in name else _executed_alone(path)
    except SyntaxError as error:
        raise ValueError(f"{Path(error.filename or path).name}, line {error.lineno}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        raise _in_file(error, path) from error


@contextlib.contextmanager
def _importing_from(folder):
    """Let imports look into a folder first.

    Python's cache of compiled files takes two edits within a second for one, so imports write none.
    """
    caches, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.dont_write_bytecode = caches
        with contextlib.suppress(ValueError):                         # the file may have removed it
            sys.path.remove(str(folder))


def _executed_alone(path):
    """Execute a file that is in no package, under a name that hides no other module."""
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module                                     # dataclasses look their module up
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), vars(module))
    return module


def _in_file(error, path):
    """Return an error with the place in the file where it was raised, if it was raised there."""
    frames = [entry for entry in inspect.getinnerframes(error.__traceback__) if entry.filename == str(path)] \
        if error.__traceback__ else []
    if not frames:
        return error if isinstance(error, Exception) else ValueError(f"{path.name}: {type(error).__name__}: {error}")
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    return ValueError(f"{path.name}, line {frames[-1].lineno}: {type(error).__name__}: {error}{notes}")


def _candidates(module: ModuleType) -> dict[str, Any]:
    """Return {name: class, object or pair} of what a file defines and can be checked."""
    found: dict[str, Any] = {}
    for name, value in vars(module).items():
        own = getattr(value, "__module__", module.__name__) == module.__name__
        if own and not name.startswith("_") and _is_layer(value):
            found[name] = value
        for ends in _PAIRS:
            partner = vars(module).get(name.removesuffix(ends[0]) + ends[1])
            if name.endswith(ends[0]) and inspect.isroutine(value) and inspect.isroutine(partner):
                found.setdefault(name.removesuffix(ends[0]), (value, partner))
    return found


def _is_layer(x):
    """Return whether x has a forward and a backward, or is of a framework, as a class or an object."""
    return (all(callable(getattr(x, method, None)) for method in ("forward", "backward"))
            or is_target(x) or (isinstance(x, type) and makes_targets(x)))


def _find(module, path, name, inputs):
    """Return the target of that name, made if it is a class."""
    known = _candidates(module)
    if "," in name and "(" not in name:
        pair = tuple(getattr(module, part.strip(), None) for part in name.split(","))
        if len(pair) != 2 or not all(map(callable, pair)):
            raise ValueError(f"wrong pair {name!r}: expected two functions of {path.name}, forward and backward, or a "
                             "function and its gradient")
        return pair
    word, arguments = _call(name)
    if word not in known:
        choices = ", ".join(f"{path.name}:{other}" for other in known) or (
            "nothing: define a class with forward and backward, or functions NAME_forward and NAME_backward")
        if not word or not known:
            raise ValueError(f"name what to check in {path.name}: it has {choices}")
        check_name(f"layer of {path.name}", word, known)
    target = known[word]
    return _made(target, arguments, inputs) if isinstance(target, type) and not is_target(target) else target


def _call(name):
    """Return the name and the arguments of `Linear(4, bias=True)`; None as arguments without parentheses."""
    if "(" not in name:
        return name, None
    try:
        call = ast.parse(name, mode="eval").body
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Name)
        return call.func.id, ([ast.literal_eval(a) for a in call.args],
                              {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg})
    except (SyntaxError, ValueError, AssertionError):
        raise ValueError(f"wrong call {name!r}: expected a class and literal arguments, such as 'Linear(4, 3)'"
                         ) from None


def _made(cls, arguments, inputs):
    """Return an object of the class."""
    if arguments is not None:
        return cls(*arguments[0], **arguments[1])
    try:
        parameters = inspect.signature(cls).parameters.values()
    except ValueError:                                                # written in C
        return cls()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind in (
        p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not needed:
        return cls()
    if len(needed) == 1 and inputs and inputs[0].ndim:
        return cls(**{needed[0]: inputs[0].shape[-1]})
    raise ValueError(f"{cls.__name__} needs the arguments {', '.join(needed)}: give them as in "
                     f"'{cls.__name__}({', '.join('4' for _ in needed)})'")
