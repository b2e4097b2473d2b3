"""Gradient checks in other people's tests: assert_gradients, the pytest plugin, strategies, files, functions in C."""

import ctypes
import itertools
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

import numpy as np
import pytest

import minivit
import minivit.testing
from minivit.cli import main
from minivit.testing import GradientError, assert_gradients, assert_transposes
from minivit.testing.files import check_file

ROOT = Path(minivit.__file__).parents[1]
X = np.random.default_rng(5).standard_normal((3, 4))

LAYERS = '''
import numpy as np

class Swish:
    def __init__(self, width):
        self.beta = np.ones(width)

    def forward(self, x):
        self.x, self.gate = x, 1 / (1 + np.exp(-self.beta * x))
        return x * self.gate

    def backward(self, dy):
        dz = dy * self.x * self.gate * (1 - self.gate)
        self.dbeta = (dz * self.x).sum(axis=0)
        return dy * self.gate + dz * self.beta

class Linear:
    def __init__(self, n, m, bias=True):
        self.W, self.b = np.ones((n, m)), np.zeros(m if bias else 1)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW, self.db = self.x.T @ dy, dy.sum(axis=0) if len(self.b) > 1 else dy.sum(keepdims=True).reshape(1)
        return dy @ self.W.T

def cube_forward(x):
    return x**3, x

def cube_backward(dy, x):
    return 3 * x**2 * dy

def embed(ids, table):
    return table[ids], (ids, table)

def embed_vjp(dy, cache):
    ids, table = cache
    dtable = np.zeros_like(table)
    np.add.at(dtable, ids, dy)
    return dtable

def bowl(x):
    return float(np.sum(x**2))

def bowl_grad(x):
    return 2 * x

tanh = type("Tanh", (), {"forward": lambda self, x: vars(self).update(y=np.tanh(x)) or self.y,
                         "backward": lambda self, dy: dy * (1 - self.y**2)})()
'''
WRONG = LAYERS.replace(" + dz * self.beta", "")


def cube(x):
    return x**3, x


def wrong_cube(dy, x):
    return 2 * x**2 * dy


# ---- assert_gradients -------------------------------------------------------------------------------------


def test_a_right_gradient_gives_the_report():
    report = assert_gradients((cube, lambda dy, x: 3 * x**2 * dy), X, seeds=3)
    assert report.ok
    assert [row.tensor for row in report.rows] == ["x"]


def test_a_wrong_gradient_raises_an_assertion_error_with_the_table():
    with pytest.raises(AssertionError, match=r"hint: the gradient is 0\.666667 times") as caught:
        assert_gradients((cube, wrong_cube), X)
    assert isinstance(caught.value, GradientError)
    assert str(caught.value.report) in str(caught.value)


def test_each_seed_is_checked():
    calls = []

    def backward(dy, x):
        calls.append(float(dy[0, 0]))
        return 3 * x**2 * dy

    assert_gradients((cube, backward), X, seeds=3, seed=7)
    assert len(set(calls)) >= 3
    with pytest.raises(AssertionError, match="wrong gradient with seed=7"):
        assert_gradients((cube, wrong_cube), X, seeds=3, seed=7)
    with pytest.raises(ValueError, match="number of seeds must be a whole number at least 1, not 0"):
        assert_gradients((cube, wrong_cube), X, seeds=0)


def test_options_reach_the_check():
    assert assert_gradients((lambda x, m: (x * m, m), lambda dy, m: dy * m), X, X, constants=("m",)).ok
    with pytest.raises(ValueError, match="unknown constant"):
        assert_gradients((cube, wrong_cube), X, constants=("z",))


def test_unittest_sees_a_failure_and_no_error():
    class Case(unittest.TestCase):
        def test_right(self):
            assert_gradients((cube, lambda dy, x: 3 * x**2 * dy), X)

        def test_wrong(self):
            assert_gradients((cube, wrong_cube), X)

        def test_wrong_report(self):
            self.assertTrue(minivit.gradcheck((cube, wrong_cube), X))  # noqa: PT009

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
    assert (result.testsRun, len(result.failures), len(result.errors)) == (3, 2, 0)
    assert any("hint: the gradient is 0.666667 times" in text for _, text in result.failures)


# ---- the pytest plugin ------------------------------------------------------------------------------------


def run_pytest(folder, *arguments, **layers):
    """Run pytest with the plugin in a folder, and return its exit code and output."""
    for name, text in layers.items():
        (folder / f"{name}.py").write_text(text)
    # without other plugins, and without this one by its entry point, which exists only where minivit is installed
    run = subprocess.run([sys.executable, "-m", "pytest", "-p", "minivit.testing.pytest_plugin", "-q", *arguments],
                         cwd=folder, capture_output=True, text=True, timeout=120,
                         env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT),
                                            "PYTEST_ADDOPTS": "", "COLUMNS": "120"})
    return run.returncode, run.stdout + run.stderr


TESTS = '''
import numpy as np
import pytest
import minivit
import minivit.testing
from layers import Swish

X = np.random.default_rng(5).standard_normal((3, 4))

def test_plain_assert():
    assert minivit.gradcheck(Swish(4), X)

def test_fixture(gradcheck):
    gradcheck(Swish(4), X)

@pytest.mark.gradcheck(seeds=3)
def test_marker(gradcheck):
    gradcheck(Swish(4), X)

@pytest.mark.gradcheck([4, 9])
def test_marker_list(gradcheck):
    gradcheck(Swish(4), X)
'''


def test_right_gradients_pass_in_pytest_once_for_each_seed(tmp_path):
    code, text = run_pytest(tmp_path, "-vv", layers=LAYERS, test_layers=TESTS)
    assert code == 0, text
    assert re.findall(r"::(\S+) PASSED", text) == [
        "test_plain_assert", "test_fixture", "test_marker[seed0]", "test_marker[seed1]", "test_marker[seed2]",
        "test_marker_list[seed4]", "test_marker_list[seed9]"]


def test_a_wrong_gradient_fails_in_pytest_with_the_table_and_a_figure(tmp_path):
    code, text = run_pytest(tmp_path, "--gradcheck-plots", "figures", layers=WRONG, test_layers=TESTS)
    assert code == 1
    assert "7 failed" in text
    assert text.count("hint: at x =") == 7, text
    assert "with seed=9" in text
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        f"test_layers.py-{name}.png" for name in (
            "test_fixture", "test_marker-seed0", "test_marker-seed1", "test_marker-seed2", "test_marker_list-seed4",
            "test_marker_list-seed9", "test_plain_assert")]
    assert text.count(f"figure: {Path('figures')}{os.sep}test_layers.py-") == 7
    assert (tmp_path / "figures" / "test_layers.py-test_fixture.png").read_bytes().startswith(b"\x89PNG")


def test_figures_lie_in_the_cache_of_pytest_by_default(tmp_path):
    code, text = run_pytest(tmp_path, "-k", "fixture", layers=WRONG, test_layers=TESTS)
    assert code == 1
    (figure,) = re.findall(r"figure: (.*\.png)", text)
    assert Path(figure).is_file()
    assert Path(figure).is_relative_to(tmp_path / ".pytest_cache")
    code, text = run_pytest(tmp_path, "-k", "fixture", "-p", "no:cacheprovider")
    assert (code, text.count("figure: not saved")) == (1, 1)


def test_the_number_of_seeds_is_an_option_too(tmp_path):
    code, text = run_pytest(tmp_path, "--gradcheck-seeds", "2", "-vv", "-k", "fixture", layers=LAYERS,
                            test_layers=TESTS)
    assert (code, text.count("PASSED")) == (0, 2)


BATCHES = '''
import numpy as np
import pytest

X = np.random.default_rng(5).standard_normal((3, 4))
PAIR = (lambda x: (np.squeeze(x**2), x), lambda dy, x: 2 * x * dy.reshape(x.shape))    # a batch of one loses its axis

def test_fixture(gradcheck):
    gradcheck(PAIR, X)

@pytest.mark.gradcheck(seeds=2, checks="batch")
def test_marker(gradcheck):
    gradcheck(PAIR, X)

@pytest.mark.gradcheck(checks="batch")
def test_own_choice(gradcheck):
    gradcheck(PAIR, X, checks="float32")
'''


def test_named_checks_are_chosen_by_the_marker_or_by_an_option(tmp_path):
    code, text = run_pytest(tmp_path, "-vv", test_batches=BATCHES)
    assert code == 1
    assert re.findall(r"::(\S+) (PASSED|FAILED)", text)[:4] == [
        ("test_fixture", "PASSED"), ("test_marker[seed0]", "FAILED"), ("test_marker[seed1]", "FAILED"),
        ("test_own_choice", "PASSED")]
    assert "failed check of a gradient with seed=1" in text
    assert "check batch: WRONG, image 0 alone: result has the shape (4,) instead of (1, 4)" in text
    code, text = run_pytest(tmp_path, "--gradcheck-checks", "float32,batch", "-k", "fixture")
    assert (code, "check batch: WRONG" in text) == (1, True)
    code, text = run_pytest(tmp_path, "--gradcheck-checks", "float32,bath")
    assert code == 4
    assert "--gradcheck-checks: unknown check 'bath': did you mean 'batch'?" in text


@pytest.mark.parametrize(("marker", "message"), [
    ("seeds=0", "wrong seeds of gradcheck: found 0, expected"),
    ("seeds=[]", "wrong seeds of gradcheck: found [], expected"),
    ("seeds=5.0", "wrong seeds of gradcheck: found 5.0, expected"),
    ("seeds=['a']", "wrong seeds of gradcheck: found ['a'], expected"),
    ("seed=3", "expected @pytest.mark.gradcheck(seeds=5)"),
    ("3, seeds=3", "expected @pytest.mark.gradcheck(seeds=5)"),
    ("", "expected @pytest.mark.gradcheck(seeds=5)")])
def test_a_wrong_marker_is_named(tmp_path, marker, message):
    text = f"import pytest\n@pytest.mark.gradcheck({marker})\ndef test(gradcheck): pass"
    code, said = run_pytest(tmp_path, test_marker=text)
    assert code != 0
    assert message in said


def test_a_marker_without_the_fixture_is_named_unless_it_stands_on_a_class(tmp_path):
    marker = "import pytest\n@pytest.mark.gradcheck(seeds=2)\n"
    code, said = run_pytest(tmp_path, test_marker=marker + "def test_it(): pass")
    assert code != 0
    assert "the marker gradcheck of test_it has no effect: expected the fixture gradcheck" in said
    code, said = run_pytest(tmp_path, test_marker=marker + "class TestIt:\n    def test(self, gradcheck): pass\n"
                                                           "    def test_other(self): pass")
    assert code == 0
    assert "3 passed" in said


def test_zero_seeds_as_an_option_are_refused(tmp_path):
    code, said = run_pytest(tmp_path, "--gradcheck-seeds", "0", test_it="def test(): pass")
    assert code == 4
    assert "ERROR: wrong seeds of gradcheck: found 0" in said


@pytest.mark.parametrize("seeds", [0, 1.5, "3", [1, 2]])
def test_wrong_seeds_are_named(seeds):
    with pytest.raises(ValueError, match="number of seeds must be a whole number at least 1, not "):
        assert_gradients((cube, wrong_cube), X, seeds=seeds)
    with pytest.raises(ValueError, match="seed must be a whole number at least 0, not "):
        assert_gradients((cube, wrong_cube), X, seed=-1 if seeds == 0 else seeds)


def test_a_gradient_error_can_be_pickled_as_test_runners_do():
    with pytest.raises(GradientError) as caught:
        assert_gradients((cube, wrong_cube), X, seed=2)
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is GradientError
    assert str(again) == str(caught.value)
    assert "with seed=2" in str(again)
    assert str(again.report.rows) == str(caught.value.report.rows)    # not ==, because some of their numbers are NaN
    with pytest.raises(ValueError, match="this report cannot be drawn: it was pickled"):
        again.report.plot()


def test_the_package_imports_no_checker_before_it_is_used():
    code = ("import sys, minivit.testing.pytest_plugin\n"
            "assert not [name for name in sys.modules if name.startswith('minivit.gradient_checking')]\n"
            "from minivit.testing import GradientError, assert_gradients\n"
            "assert 'assert_gradients' in dir(minivit.testing)")
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    with pytest.raises(AttributeError, match="has no attribute 'assert_gradient'; it has GradientError, assert_gra"):
        _ = minivit.testing.assert_gradient


def test_other_failures_get_no_section(tmp_path):
    code, text = run_pytest(tmp_path, test_other="import minivit\ndef test():\n    assert minivit is None")
    assert code == 1
    assert "gradient check" not in text


# ---- strategies for hypothesis ----------------------------------------------------------------------------


def test_strategies_draw_arrays_that_fit_together():
    hypothesis = pytest.importorskip("hypothesis")
    from minivit.testing.strategies import arrays

    layouts, dtypes = set(), set()

    @hypothesis.settings(max_examples=40, deadline=None, derandomize=True, database=None)
    @hypothesis.given(arrays("B N, N K, K 3", smallest=2, largest=4))
    def check(drawn):
        x, w, v = drawn
        assert (x.shape[1], w.shape[1], v.shape[1]) == (w.shape[0], v.shape[0], 3)
        assert all(2 <= n <= 4 for a in drawn for n in a.shape[:1])
        layouts.update(a.flags.c_contiguous for a in drawn)
        dtypes.update(a.dtype.str for a in drawn)
        assert_gradients((lambda x, w, v: (x @ w @ v, (x, w, v)), lambda dy, c: (
            dy @ c[2].T @ c[1].T, c[0].T @ dy @ c[2].T, (c[0] @ c[1]).T @ dy)), *drawn)

    check()
    assert layouts == {True, False}
    assert len(dtypes) > 2


LAYOUTS = {
    "C": lambda x: x, "Fortran": np.asfortranarray, "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "reversed": lambda x: x[::-1], "complex, backwards": lambda x: (x + 1j)[:, ::-1],
}


@pytest.mark.parametrize("layout", [*LAYOUTS, "broadcast"])
def test_a_forward_sees_the_memory_layout_of_its_inputs_but_in_float64(layout):
    small = X.astype(">f4")
    x = np.broadcast_to(small[0], X.shape) if layout == "broadcast" else LAYOUTS[layout](small)
    seen = set()

    def forward(x):
        seen.add((x.strides, x.dtype))
        return x**2, x

    assert assert_gradients((forward, lambda dy, x: 2 * np.conj(x) * dy), x, checks="none").ok
    strides = X.strides if layout == "broadcast" else tuple(2 * stride for stride in x.strides)
    assert seen == {(strides, np.dtype(complex if "complex" in layout else float))}


def test_hypothesis_finds_and_shrinks_a_mistake_that_shows_at_some_shapes_only():
    hypothesis = pytest.importorskip("hypothesis")
    from minivit.testing.strategies import arrays

    seen = []

    @hypothesis.settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @hypothesis.given(arrays("B N", largest=6, dtype="f8", scales=(1.0, 1.0)))
    def check(drawn):
        seen.append(drawn[0].shape)
        assert_gradients((lambda x: (x.mean(axis=1), x.shape), lambda dy, shape: np.repeat(
            dy[:, None] / min(shape[1], 3), shape[1], axis=1)), *drawn)

    with pytest.raises(AssertionError, match="wrong gradient"):
        check()
    assert seen[-1] == (1, 4)                                         # the smallest shape at which it is wrong


@pytest.mark.parametrize("arguments", [("B, N-1",), ("",), ("B", 3, 2)])
def test_wrong_patterns_are_named(arguments):
    pytest.importorskip("hypothesis")
    from minivit.testing.strategies import shapes

    with pytest.raises(ValueError, match=r"wrong pattern of shapes|largest size must be"):
        shapes(*arguments)


# ---- files ------------------------------------------------------------------------------------------------


@pytest.fixture
def layers(tmp_path, monkeypatch):
    """A folder with the file layers.py, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "layers.py"
    path.write_text(LAYERS)
    np.save("ids.npy", np.array([1, 0, 1]))
    return path


@pytest.mark.parametrize(("target", "inputs", "tensors"), [
    ("Swish", ["3x4"], {"x", "beta"}), ("Swish(width=4)", ["3x4"], {"x", "beta"}),
    ("Linear(4, 5)", ["3x4"], {"x", "W", "b"}),
    ("Linear(4, 5, bias=False)", ["3x4"], {"x", "W", "b"}), ("cube", ["2x2"], {"x"}), ("tanh", ["7"], {"x"}),
    ("bowl", ["4"], {"x"}), ("embed", ["2x3:5", "5x4"], {"table"}), ("embed,embed_vjp", ["2x3:5", "5x4"], {"table"}),
    ("embed,embed_vjp", ["ids.npy", "5x4"], {"table"})])
def test_layers_in_a_file_are_checked(layers, capsys, target, inputs, tensors):
    options = [word for text in inputs for word in ("--input", text)]
    assert main(["gradcheck", f"layers.py:{target}", *options, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["ok"]
    assert {row["tensor"] for row in result["rows"]} == tensors


def test_a_wrong_layer_in_a_file_gives_the_table_and_a_figure(layers, capsys):
    layers.write_text(WRONG + "print('hello')")
    assert main(["gradcheck", "layers.py:Swish", "--input", "3x4", "--seed", "3", "--plot", "v.png"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("tensor")
    assert "hint: at x =" in out
    assert err == "hello\n"
    assert Path("v.png").read_bytes().startswith(b"\x89PNG")


def test_a_constant_and_the_seed_reach_the_check(layers):
    assert [row.tensor for row in check_file("layers.py:Swish", ["3x4"], constants=("beta",)).rows] == ["x"]
    first, again, other = (check_file("layers.py:Swish", ["3x4"], seed=s).rows[0].numeric for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(("arguments", "message"), [
    (["layers.py", "--input", "3x4"], "name what to check in layers.py: it has layers.py:Swish, layers.py:Linear, "),
    (["layers.py:Swich", "--input", "3x4"], "unknown layer of layers.py 'Swich': did you mean 'Swish'?"),
    (["layers.py:Linear", "--input", "3x4"], "Linear needs the arguments n, m: give them as in 'Linear(4, 4)'"),
    (["layers.py:Linear(n", "--input", "3x4"], "wrong call 'Linear(n'"),
    (["layers.py:Swish", "--input", "3by4"], "wrong input '3by4': expected a shape such as 3x4"),
    (["layers.py:Swish", "--input", "3x4:0"], "wrong input '3x4:0'"),
    (["layers.py:cube,square", "--input", "3"], "wrong pair 'cube,square'"),
    (["layers.py:Swish", "--input", "3x4", "--input", "3x4"], "takes 2 positional arguments but 3 were given"),
    (["layers.py:Swish(4)"], "missing 1 required positional argument"),
    (["other.py:Swish", "--input", "3x4"], "other.py: there is no such file"),
    (["layers.py:Swish(5)", "--input", "3x4"], "layers.py, line 9: ValueError: operands could not be broadcast"),
    (["layers.py:Swish", "layers.py:cube"], "one layer of a file at a time"),
    (["softmax", "--input", "3x4"], "--watch and --plot are for a layer of your own"),
    (["syntax.py:f", "--input", "3"], "syntax.py, line 1: "),
    (["exits.py:f", "--input", "3"], "exits.py, line 1: SystemExit: 3"),
    (["exits_later.py:f", "--input", "3"], "exits_later.py, line 2: SystemExit: 1"),
    (["layers.py:cube", "--input", "empty.npy"], "wrong input 'empty.npy': found no array of numbers in it"),
    (["layers.py:cube", "--input", "text.npy"], "wrong input 'text.npy': found no array of numbers in it"),
    (["layers.py:cube", "--input", "none.npy"], "none.npy: No such file or directory"),
    (["layers.py:cube", "--input", "99999x99999x99"], "wrong input '99999x99999x99': Unable to allocate"),
    (["layers.py:cube", "--input", "99999x99999x99999x99999"], "wrong input '99999x99999x99999x99999': "),
    (["layers.py:cube", "--input", "3", "--plot", "v.xyz"], "unknown ending of an image file 'xyz'"),
    (["layers.py:cube", "--input", "3", "--tolerance", "2"], "tolerance must be"),
    (["layers.py:Swish", "--input", "3x4", "--keep", "z"], "unknown parameter to keep 'z'"),
    (["softmax", "--no-independent"],
     "--input, --constant, --keep, --tolerance, --checks, --independent, --watch and --plot"),
    (["empty.py:f", "--input", "3"], "it has nothing: define a class with forward and backward"),
])
def test_what_cannot_be_checked_in_a_file_is_one_line(layers, capsys, arguments, message):
    for name, text in (("syntax", "def f(:"), ("exits", "raise SystemExit(3)"), ("empty", ""),
                       ("exits_later", "def f_forward(x):\n    raise SystemExit(1)\ndef f_backward(dy, x): pass")):
        Path(f"{name}.py").write_text(text)
    Path("empty.npy").write_bytes(b"")
    Path("text.npy").write_text("1 2 3")
    assert main(["gradcheck", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("minivit: error: ")
    assert err.count("\n") == 1
    assert message in err


def test_a_file_in_a_package_may_import_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "own_net" / "layers"
    folder.mkdir(parents=True)
    for name, text in (("../__init__", ""), ("__init__", ""), ("../powers", "factor = 3"),
                       ("cubes", "from ..powers import factor\ndef f_forward(x):\n    return x**3, x\n"
                                 "def f_backward(dy, x):\n    return factor * x**2 * dy")):
        (folder / f"{name}.py").write_text(text)
    assert main(["gradcheck", "own_net/layers/cubes.py:f", "--input", "3"]) == 0
    (folder.parent / "powers.py").write_text("factor = 2  # wrong")
    assert main(["gradcheck", "own_net/layers/cubes.py:f", "--input", "3"]) == 1
    assert "hint: the gradient is 0.666667 times" in capsys.readouterr().out


COUPLED = '''
def norm_forward(x):
    import factors
    xhat = (x - x.mean(axis=0)) / x.std(axis=0)
    return factors.two * xhat, (xhat, x.std(axis=0))

def norm_backward(dy, cache):
    xhat, std = cache
    return 2 * (dy - dy.mean(axis=0) - xhat * (dy * xhat).mean(axis=0)) / std

class Gaussian:
    def __init__(self):
        import numpy as np
        self.sigma = np.full(4, 0.1)
    def forward(self, x):
        import numpy as np
        self.x = x
        return (np.tanh(x.astype("f4")) - np.log(self.sigma)).astype(float)
    def backward(self, dy):
        import numpy as np
        self.dsigma = -(dy / self.sigma).sum(axis=0)
        return dy * (1 - np.tanh(self.x) ** 2)
'''


def test_the_options_that_errors_advise_exist_and_a_forward_may_import(layers, capsys):
    Path("more.py").write_text(COUPLED)
    Path("factors.py").write_text("two = 2")
    norm = ["gradcheck", "more.py:norm", "--input", "3x4"]
    assert main(norm) == main([*norm, "--no-independent"]) == 0
    assert "note: images of the batch influence each other" in capsys.readouterr().out
    assert main([*norm, "--independent"]) == 2
    gaussian = ["gradcheck", "more.py:Gaussian", "--input", "3x4"]
    assert main(gaussian) == 2
    assert "or pass --tolerance 1e-04" in capsys.readouterr().err
    assert main([*gaussian, "--tolerance", "1e-3"]) == 0
    assert "note: sigma: at the given values" in capsys.readouterr().out
    assert main([*gaussian, "--tolerance", "1e-3", "--keep", "sigma"]) == 0
    assert "note" not in capsys.readouterr().out


def test_named_checks_on_the_command_line(layers, capsys):
    assert main(["gradcheck", "layers.py:cube", "--input", "3x4", "--checks", "batch,float32"]) == 0
    printed = capsys.readouterr().out
    assert "check batch: ok, images 0" in printed
    assert "check float32: ok, all stays float32" in printed
    assert main(["gradcheck", "layers.py:cube", "--input", "3x4", "--checks=-aliasing", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["checks"]
    assert {f["check"]: f["verdict"] for f in found} == dict.fromkeys(
        ("determinism", "linearity", "zero_dy", "dy_layouts", "input_layouts"), "ok")
    assert main(["gradcheck", "layers.py:cube", "--input", "3", "--checks", "bath"]) == 2
    assert "minivit: error: unknown check 'bath': did you mean 'batch'?" in capsys.readouterr().err
    assert main(["gradcheck", "layer_norm", "--checks", "batch"]) == 2
    assert "--checks" in capsys.readouterr().err


def test_transposes_are_asserted_without_step_sizes():
    w = X[:, :2]
    assert assert_transposes(lambda u: u @ w, lambda v: v @ w.T, np.zeros((2, 3)), np.zeros((2, 2))) < 1e-14
    with pytest.raises(AssertionError, match=r"not transposes of each other: .* differ by \d\.\de-0[67] of "):
        assert_transposes(lambda u: u @ w, lambda v: (1 + 1e-6) * v @ w.T, np.zeros((2, 3)), np.zeros((2, 2)))
    with pytest.raises(AssertionError, match="not transposes"):
        assert_transposes(lambda u: u * np.nan, lambda v: v, X, X)
    with pytest.raises(ValueError, match="wrong shape of what forward_mode returns"):
        assert_transposes(lambda u: u[0], lambda v: v, X, X)
    with pytest.raises(ValueError, match="number of trials must be a whole number at least 1"):
        assert_transposes(np.cumsum, np.cumsum, X, X, trials=0)


def test_the_table_is_printed_before_the_figure_is_drawn(layers, capsys):
    assert main(["gradcheck", "layers.py:cube", "--input", "3", "--plot", "no/such/folder/v.png"]) == 2
    assert "all tensors pass" in capsys.readouterr().out


def test_watch_checks_again_when_the_file_or_one_that_it_imports_changes(layers):
    layers.write_text("from parts import factor\ndef f_forward(x):\n    return x**2, x\n"
                      "def f_backward(dy, x):\n    return factor * dy * x\n")
    parts = layers.parent / "parts.py"
    parts.write_text("factor = 3\n")
    process = subprocess.Popen([sys.executable, "-m", "minivit", "gradcheck", "layers.py:f", "--input", "3", "--watch"],
                               cwd=layers.parent, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                               env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        said = [process.stderr.readline()]
        for text in ("factor = \n", "factor = 2\n"):
            time.sleep(0.05)                                          # so that the time of the file differs
            parts.write_text(text)
            said.append(process.stderr.readline())
            if "error" in said[-1]:
                said[-1] += process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0                          # the code of the last check
    finally:
        process.kill()
        process.stderr.close()
    assert "WRONG; waiting for a change" in said[0]
    assert "minivit: error: parts.py, line 1: " in said[1]
    assert "right; waiting" in said[2]


# ---- a function in C --------------------------------------------------------------------------------------

C = '''
#include <math.h>
void swish(const double *x, double *y, int n) {
    for (int i = 0; i < n; i++) y[i] = x[i] / (1 + exp(-x[i]));
}
void swish_backward(const double *x, const double *dy, double *dx, int n) {
    for (int i = 0; i < n; i++) { double s = 1 / (1 + exp(-x[i])); dx[i] = dy[i] * (s + x[i] * s * (1 - s)); }
}
'''


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("number", ["double", "float"])
def test_the_examples_of_a_function_in_c(tmp_path, number, right):
    names = {"np": np, "ctypes": ctypes, "assert_gradients": assert_gradients, "x": X}
    if number == "float":
        names["cffi"] = pytest.importorskip("cffi")
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs a C compiler")
    code = C if right else C.replace("s + x[i] * s * (1 - s)", "s")
    (tmp_path / "swish.c").write_text(code.replace("double", number))
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", "libswish.so", "swish.c", "-lm"], cwd=tmp_path,
                   check=True)
    begin = {"double": "checks its gradient:\n", "float": "in `libswish.so`:\n"}[number]
    lines = minivit.testing.__doc__.split(begin)[-1].splitlines()
    example = "\n".join(line[4:] for line in itertools.takewhile(lambda line: not line or line[0] == " ", lines))
    example = example.replace("./libswish.so", str(tmp_path / "libswish.so"))
    if right:
        exec(example, names)
    else:
        with pytest.raises(AssertionError, match="the slope of the result is"):
            exec(example, names)
