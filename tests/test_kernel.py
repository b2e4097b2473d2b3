"""The kernel decorator, its exp and erf and row loops: accuracy, values that are not finite, and storage on disk."""

import ast
import importlib
import math
import pickle
import sys
from pathlib import Path

import numba
import numpy as np
import platformdirs
import pytest

import minivit
import minivit.kernel
from minivit.kernel import (
    Kernel,
    add_row,
    as_matrix,
    erf,
    exp,
    kernel,
    on_first_compilation,
    row_max,
    sum_rows,
)

PACKAGE = Path(minivit.__file__).parent
F = np.float32
LOWEST, HIGHEST = F(-87.33654), F(88.37626)  # where float32 exp is neither 0 nor infinity
compiled = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="about compiled kernels")


@kernel
def _exp(x, y):
    for i in range(x.size):
        y[i] = exp(x[i])


@kernel
def _erf(z, y):
    for i in range(z.size):
        y[i] = erf(z[i], exp(-z[i] * z[i]))


def values(function, x, dtype):
    x = np.asarray(x, dtype)
    y = np.empty_like(x)
    with np.errstate(all="ignore"):
        function(x, y)
    return y


def sweep(low, high, count):
    """Return evenly spaced and random float32 numbers in [low, high], both ends included, and tiny ones."""
    tiny = 10.0 ** np.arange(-45, 0, 0.25)
    x = np.concatenate([np.linspace(low, high, count), np.random.default_rng(0).uniform(low, high, count), tiny, -tiny,
                        [0.0]])
    return np.clip(x.astype(np.float32), low, high)


# ---- exp ---------------------------------------------------------------------------------------------------


def test_float32_exp_is_accurate_over_its_full_range():
    x = sweep(LOWEST, HIGHEST, 100_000)
    right = np.exp(x.astype(np.float64))
    assert (np.abs(values(_exp, x, np.float32) - right) / right).max() < 2e-7


def test_float32_exp_is_accurate_where_the_range_reduction_changes_step():
    steps = (np.arange(-125, 127) + 0.5) * math.log(2)
    x = np.concatenate([(steps * (1 + e)).astype(np.float32) for e in (-1e-6, -1e-7, 0, 1e-7, 1e-6)])
    right = np.exp(x.astype(np.float64))
    assert (np.abs(values(_exp, x, np.float32) - right) / right).max() < 2e-7


def test_float64_exp_is_accurate_over_its_full_range():
    x = sweep(-700, 700, 10_000).astype(np.float64)
    np.testing.assert_allclose(values(_exp, x, np.float64), np.exp(x), rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_of_extreme_numbers(dtype):
    x = [-np.inf, -1e38, -1e4, -0.0, 0.0, 1e4, 1e38, np.inf, np.nan]
    np.testing.assert_array_equal(values(_exp, x, dtype), [0, 0, 0, 1, 1, np.inf, np.inf, np.inf, np.nan])


@compiled
def test_float32_exp_is_zero_or_infinite_outside_its_documented_range():
    low, high = np.nextafter(LOWEST, F(-np.inf)), np.nextafter(HIGHEST, F(np.inf))
    np.testing.assert_array_equal(values(_exp, [low, -87.34, high, 88.38], np.float32), [0, 0, np.inf, np.inf])


# ---- erf ---------------------------------------------------------------------------------------------------


def _right_erf(z):
    return np.array([math.erf(z) for z in z.tolist()])


def test_float32_erf_is_accurate_over_its_full_range():
    """The largest error is near 0.04, where 1 - tail cancels."""
    z = np.concatenate([sweep(-6, 6, 40_000), np.linspace(0.02, 0.05, 40_000, dtype=np.float32)])
    assert np.abs(values(_erf, z, np.float32) - _right_erf(z)).max() < 6e-7


def test_float64_erf_equals_the_c_librarys():
    z = sweep(-6, 6, 5_000).astype(np.float64)
    np.testing.assert_allclose(values(_erf, z, np.float64), _right_erf(z), rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf_of_extreme_numbers(dtype):
    z = [-np.inf, -1e30, -10, 0.0, 10, 1e30, np.inf, np.nan]
    np.testing.assert_allclose(values(_erf, z, dtype), [-1, -1, -1, 0, 1, 1, 1, np.nan], rtol=0, atol=6e-7)


def test_float32_erf_is_odd():
    z = sweep(0, 6, 5_000)
    np.testing.assert_array_equal(values(_erf, -z, np.float32), -values(_erf, z, np.float32))


# ---- kernels -----------------------------------------------------------------------------------------------


@kernel
def _sum_and_largest(x):
    total, largest = x.dtype.type(0), x[0]
    for i in range(x.size):
        total += x[i]
        largest = max(largest, x[i])
    return total, largest


@kernel
def _finite(x, y):
    for i in range(x.size):
        y[i] = np.isfinite(x[i]) and x[i] == x[i]


@kernel
def _quotients(x, y):
    for i in range(x.size):
        y[i] = x[i] / (x[i] - x[i])


@pytest.mark.parametrize("place", [0, 30, 99])
def test_kernels_propagate_nan_and_infinity(place):
    x = np.ones(100, np.float32)
    x[place] = np.nan
    assert math.isnan(_sum_and_largest(x)[0])
    assert values(_finite, x, np.float32).sum() == 99
    x[place] = np.inf
    assert _sum_and_largest(x) == (np.inf, np.inf)
    assert values(_finite, x, np.float32).sum() == 99


def test_kernels_divide_by_zero_as_ieee_arithmetic_does():
    np.testing.assert_array_equal(values(_quotients, [1, -1, 0], np.float64), [np.inf, -np.inf, np.nan])


@compiled
def test_kernels_release_the_gil_and_are_stored():
    assert _exp.compiled.targetoptions["nogil"]
    assert minivit.kernel._STORE.name in Path(_exp.compiled.stats.cache_path).parts


@compiled
def test_the_first_compilation_is_announced_once():
    announced = []
    with on_first_compilation(lambda: announced.append("compiling")):
        assert announced == []
        assert [numba.njit(lambda x: x + 1)(1), numba.njit(lambda x: x + 2)(1)] == [2, 3]
        assert announced == ["compiling"]
    one = numba.njit(lambda x: x + 1)
    one(1)
    with on_first_compilation(lambda: announced.append("again")):
        one(2)
    assert announced == ["compiling"]


def test_as_matrix_views_a_contiguous_array_and_copies_any_other():
    x = np.arange(24.0).reshape(2, 3, 4)
    assert np.shares_memory(as_matrix(x), x)
    np.testing.assert_array_equal(as_matrix(x), x.reshape(6, 4))
    turned = x.swapaxes(0, 2)
    assert as_matrix(turned).flags.c_contiguous
    np.testing.assert_array_equal(as_matrix(turned), turned.reshape(12, 2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_row_max_is_the_largest_number_of_each_row(dtype):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((2, 50, 7)) * 10.0 ** rng.integers(-30, 30, (2, 50, 7))).astype(dtype)
    np.testing.assert_array_equal(row_max(x), x.max(axis=-1).ravel())
    np.testing.assert_array_equal(row_max(-np.abs(x)), -np.abs(x).min(axis=-1).ravel())
    extreme = np.array([[-np.inf, -1, -2], [np.inf, 3, 4], [-0.0, 0.0, -0.0], [-np.inf, -np.inf, -np.inf]], dtype)
    np.testing.assert_array_equal(row_max(extreme), [-1, np.inf, 0, -np.inf])
    assert np.isnan(row_max(np.array([[1, np.nan, np.inf]], dtype))).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_add_row_and_sum_rows_equal_numpys(dtype):
    rng = np.random.default_rng(0)
    x, row = rng.standard_normal((2, 3, 5)).astype(dtype), rng.standard_normal(5).astype(dtype)
    y, total = x.copy(), np.empty(5, dtype)
    add_row(y, row)
    np.testing.assert_array_equal(y, x + row)
    assert sum_rows(x, total) is total
    np.testing.assert_allclose(total, x.sum(axis=(0, 1)), rtol=1e-5 if dtype == np.float32 else 1e-14)
    np.testing.assert_array_equal(sum_rows(x), total)


# ---- the store ---------------------------------------------------------------------------------------------

HELPER = "\n\n@kernel\ndef helper(x):\n    return x + 1.0\n"
CALLER = "from .kernel import helper, kernel\n\n\n@kernel\ndef call(x):\n    return 10.0 * helper(x)\n"


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Make a package with this project's kernel.py and a caller of a helper in it; `toy()` imports it again."""
    package = tmp_path / "toy_kernels"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "kernel.py").write_text(Path(minivit.kernel.__file__).read_text() + HELPER)
    (package / "vectors.py").write_text("")
    (package / "caller.py").write_text(CALLER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)

    def forget():
        for name in [name for name in sys.modules if name.split(".")[0] == package.name]:
            del sys.modules[name]

    def fresh():
        forget()
        importlib.invalidate_caches()
        return importlib.import_module("toy_kernels.caller")

    fresh.folder = package
    yield fresh
    forget()


@compiled
def test_an_edited_helper_reaches_callers_that_are_stored(toy):
    first = toy()
    assert first.call(1.0) == 20
    assert sum(first.call.compiled.stats.cache_misses.values()) == 1
    again = toy()
    assert again.call(1.0) == 20
    hits = again.call.compiled.stats.cache_hits
    assert sum(hits.values()) == 1, "nothing was loaded from the store: the test proves nothing"
    source = toy.folder / "kernel.py"
    source.write_text(source.read_text().replace("return x + 1.0", "return x + 2.0"))
    assert toy().call(1.0) == 30


@compiled
def test_an_edit_of_vectors_compiles_all_kernels_again(toy):
    stores = set()
    for source in ("V = 4", "V = 8"):
        (toy.folder / "vectors.py").write_text(source)
        toy()
        stores.add(sys.modules["toy_kernels.kernel"]._STORE)
    assert len(stores) == 2


@compiled
def test_the_store_is_in_the_folder_that_numba_is_configured_with(toy, tmp_path, monkeypatch):
    configured = tmp_path / "configured"
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(configured))
    module = toy()
    assert module.call(1.0) == 20
    assert list(configured.rglob("*.nbc"))
    assert not list(toy.folder.rglob("*.nbc"))
    assert str(configured) == numba.config.CACHE_DIR


@compiled
@pytest.mark.parametrize("elsewhere", [True, False], ids=["elsewhere", "nowhere"])
def test_kernels_work_where_the_store_cannot_be_written(toy, tmp_path, monkeypatch, elsewhere):
    (tmp_path / "cache").write_text("a file in place of the folder")
    if not elsewhere:
        (toy.folder / "__pycache__").write_text("a file in place of the folder")
        monkeypatch.setenv("HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert toy().call(1.0) == 20


DAMAGES = {
    "empty": lambda file: file.write_bytes(b""), "half": lambda file: file.write_bytes(file.read_bytes()[:100]),
    "nonsense": lambda file: file.write_bytes(b"\x80\x05nonsense" * 9),
    "zeros": lambda file: file.write_bytes(bytes(999)),
    "an object": lambda file: file.write_bytes(pickle.dumps([1, 2])),
    "a folder": lambda file: (file.unlink(), file.mkdir()), "gone": lambda file: file.unlink(),
}


@compiled
@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_the_store_is_compiled_anew(toy, tmp_path, damage, ending):
    assert toy().call(1.0) == 20
    files = list((tmp_path / "cache").rglob(f"*.{ending}"))
    assert files
    for file in files:
        DAMAGES[damage](file)
    assert toy().call(1.0) == 20
    if damage != "a folder":                                          # which nothing can replace by a file
        again = toy()
        assert again.call(1.0) == 20
        assert sum(again.call.compiled.stats.cache_hits.values()) == 1


# ---- the rule: a kernel calls helpers of its own file, kernel.py and vectors.py: the store notices no other edit -----


def foreign_names(source):
    """Return which names of other modules the kernels in a source use: ["kernel: name", ...].

    Names are followed through the module's own definitions.
    """
    tree = ast.parse(source)
    foreign, uses, kernels = set(), {}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("minivit")):
            if (node.module or "").rpartition(".")[2] not in ("kernel", "vectors"):
                foreign |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            foreign |= {(alias.asname or alias.name).split(".")[0]
                        for alias in node.names if alias.name.startswith("minivit")}
    for node in tree.body:
        used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        if isinstance(node, ast.FunctionDef):
            uses[node.name] = used
            if any("kernel" in ast.unparse(decorator) for decorator in node.decorator_list):
                kernels.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in ast.walk(node):
                if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store):
                    uses[target.id] = used
    found = []
    for name in kernels:
        reached, todo = set(), [name]
        while todo:
            here = todo.pop()
            if here not in reached:
                reached.add(here)
                todo += uses.get(here, ())
        found += [f"{name}: {other}" for other in sorted(reached & foreign)]
    return found


MODULES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))
           if "@kernel" in path.read_text()}


def test_the_modules_with_kernels_are_found():
    assert {"ops/gelu.py", "ops/softmax.py", "training/adamw.py",
            "kernel_replay/loops.py"} <= {Path(name).as_posix() for name in MODULES}


@pytest.mark.parametrize("path", MODULES.values(), ids=MODULES)
def test_kernels_use_nothing_of_other_modules(path):
    assert foreign_names(path.read_text()) == []


@compiled
@pytest.mark.parametrize("path", MODULES.values(), ids=MODULES)
def test_kernels_call_compiled_functions_of_their_own_module_only(path):
    """The same rule, for the functions that the names refer to after the import."""
    module = importlib.import_module(".".join(("minivit", *path.relative_to(PACKAGE).with_suffix("").parts)))
    kernels = [value.compiled for value in vars(module).values()
               if isinstance(value, Kernel) and value.__module__ == module.__name__]
    assert kernels or path == Path(minivit.kernel.__file__)
    for value in kernels:
        for name in value.py_func.__code__.co_names:
            called = value.py_func.__globals__.get(name)
            if isinstance(called, Kernel):
                assert called.__module__ in (module.__name__,
                                                     "minivit.kernel"), f"{value.py_func.__name__} calls {name}"


@pytest.mark.parametrize(("lines", "found"), [
    ("from .softmax import _row\n@kernel\ndef f(x):\n    return _row(x)", ["f: _row"]),
    ("from . import softmax\nalias = softmax._row\n@kernel\ndef f(x):\n    return alias(x)", ["f: softmax"]),
    ("from minivit.ops.gelu import HALF as h\n@kernel\ndef f(x):\n    return g(x)\n@kernel\ndef g(x):\n    return h * "
     "x", ["f: h", "g: h"]),
    ("import minivit.ops as ops\n@kernel\ndef f(x):\n    return ops.gelu._row(x)", ["f: ops"]),
    ("from ..kernel import exp, kernel\nfrom . import softmax\n@kernel\ndef f(x):\n    return exp(x)", []),
])
def test_the_check_of_the_rule_finds_violations(lines, found):
    assert foreign_names(lines) == found
