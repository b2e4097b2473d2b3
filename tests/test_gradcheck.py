"""The gradient checker passes right gradients, fails wrong ones, and names the wrong entry."""

import threading
import time

import numpy as np
import pytest

import minivit
from minivit.gradient_checking.differences import EPS, PerturbedForward, taylor_order
from minivit.layers import LayerNorm, Linear
from minivit.ops import layer_norm, softmax

X = np.random.default_rng(0).standard_normal((3, 5))


def square(x):
    return x * x, x


def square_backward(dy, x):
    return 2 * x * dy


@pytest.mark.parametrize("method", ["richardson", "central"])
def test_a_right_gradient_passes(method):
    report = minivit.gradcheck((square, square_backward), X, method=method)
    assert report.ok
    assert report.worst < (1e-10 if method == "richardson" else 1e-7)
    assert "all tensors pass" in str(report)


@pytest.mark.parametrize("factor", [0.0, 0.999, 1.001, -1.0, 2.0, np.nan])
def test_a_wrong_factor_fails(factor):
    report = minivit.gradcheck((square, lambda dy, x: factor * square_backward(dy, x)), X)
    assert not report.ok
    assert "WRONG at" in str(report)


def test_the_failing_tensor_and_entry_are_named():
    def backward(dy, cache):
        dx, dweight, dbias = layer_norm.backward(dy, cache)
        dweight[2] *= 1.5
        return dx, dweight, dbias

    weight, bias = np.random.default_rng(1).standard_normal((2, 5))
    report = minivit.gradcheck((layer_norm.forward, backward), X, weight, bias)
    assert [row.tensor for row in report.rows if not row.ok] == ["weight"]
    assert next(row for row in report.rows if not row.ok).index == (2,)


def test_softmax_with_only_its_diagonal_fails():
    assert not minivit.gradcheck((softmax.forward, lambda dy, cache: dy * cache[0] * (1 - cache[0])), X).ok


def test_a_layer_norm_that_applies_its_weight_after_the_means_fails_although_it_passes_at_weight_one():
    class Wrong(LayerNorm):
        def backward(self, dy):
            x, mean, rstd, weight = self.pop_cache()
            self.cache = x, mean, rstd, np.ones_like(weight)
            return super().backward(dy) * weight

    report = minivit.gradcheck(Wrong(5), X)
    assert [row.tensor for row in report.rows if not row.ok] == ["x"]


def test_zero_gradients_pass_despite_round_off():
    assert minivit.gradcheck((lambda x: (x - x.sum() + x.sum(), None), lambda dy, _: dy), 1e3 * X).ok
    assert minivit.gradcheck((lambda x: (0 * x, None), lambda dy, _: 0 * dy), X).ok


@pytest.mark.parametrize("method", ["richardson", "central", "directional", "taylor", "complex"])
def test_a_note_says_that_zero_gradients_prove_nothing(method):
    def cube(x):
        return x**3 * (x.real > 0), x

    backwards = {factor: lambda dy, x, factor=factor: factor * x**2 * dy * (x > 0) for factor in (2, 3)}
    for backward in backwards.values():                               # both pass, although one of them is wrong
        report = minivit.gradcheck((cube, backward), -np.abs(X), method=method)
        assert report.ok
        assert report.notes == ("all gradients are zero: nothing was checked, because a backward with a wrong factor "
                                "would pass too; choose inputs at which the result depends on them",)
        assert f"note: {report.notes[0]}" in str(report)
    assert [minivit.gradcheck((cube, backwards[factor]), X, method=method).ok for factor in (2, 3)] == [False, True]


def test_there_is_no_note_on_zero_gradients_if_one_of_them_is_not_zero_or_is_wrong():
    assert minivit.gradcheck((lambda x, y: (x + 0 * y, None), lambda dy, _: (dy, 0 * dy)), X, X).notes == ()
    wrong = minivit.gradcheck((square, lambda dy, x: 0 * dy), X)
    assert not wrong.ok
    assert wrong.notes == ()


def test_the_scale_of_the_inputs_does_not_matter():
    for scale in (1e-6, 1.0, 1e6):
        assert minivit.gradcheck((square, square_backward), scale * X).ok


@pytest.mark.parametrize("method", ["richardson", "central", "directional", "taylor", "complex"])
def test_a_tensor_that_is_small_beside_the_scale_of_the_function_is_checked_as_strictly(method):
    for factor in (1, 1.0001):
        exp = lambda x: (np.exp(x), x), lambda dy, x, factor=factor: factor * dy * np.exp(x)
        report = minivit.gradcheck(exp, 1e-9 * X, method=method)
        assert report.ok == (factor == 1)


def test_the_target_is_not_changed():
    layer = Linear(5, 2)
    before = layer.vector.copy()
    assert minivit.gradcheck(layer, X).ok
    np.testing.assert_array_equal(layer.vector, before)
    assert layer.weight.grad is None


def test_a_user_defined_object_is_checked():
    class Affine:
        def __init__(self):
            self.w, self.b = np.ones(5, np.float32), np.zeros(5)

        def forward(self, x):
            self.x = x
            return x * self.w + self.b

        def backward(self, dy):
            self.grads = {"w": (dy * self.x).sum(axis=0)}
            self.db = dy.sum(axis=0)
            return dy * self.w

    report = minivit.gradcheck(Affine(), X)
    assert report.ok
    assert [row.tensor for row in report.rows] == ["x", "w", "b"]


def test_integers_are_constants():
    report = minivit.gradcheck((lambda x, i: (x[i], (x.shape, i)),
                                lambda dy, cache: np.eye(cache[0][0])[:, cache[1]] @ dy), X, np.array([2, 0]))
    assert report.ok
    assert len(report.rows) == 1


class NoReturn(Linear):
    def backward(self, dy):
        super().backward(dy)


class Doubling:
    """y = 2 x w. `faulty` replaces some of its methods."""

    def __init__(self):
        self.w = np.ones(5)

    def forward(self, x):
        self.x = x
        return 2 * x * self.w

    def backward(self, dy):
        self.dw = 2 * (dy * self.x).sum(axis=0)
        return 2 * dy * self.w


def faulty(**methods):
    return type("Faulty", (Doubling,), methods)()


def decaying(self, dy):
    dx = Doubling.backward(self, dy)
    self.w *= 0.9
    return dx


def tanh_in_float32(x):
    return np.tanh(x.astype(np.float32)).astype(np.float64), x


def clipping(dy, x):
    np.clip(dy, -1, 1, out=dy)
    return 2 * x * dy


def spoiling(dy, cache):
    cache[0][:] = 0
    return 2 * dy * cache[1]


def consuming(dy, cache):
    dx = dy * cache
    cache *= 0
    return dx


calls = iter(range(10**9))


@pytest.mark.parametrize(("target", "inputs", "error", "message"), [
    ((square, lambda dy, x: (2 * x * dy)[0]), [X], ValueError,
     r"wrong shape of the gradient of x: found \(5,\), expected \(3, 5\), the shape of x"),
    ((square, lambda dy, x: None), [X], ValueError,
     "missing gradient of x: found None after the backward, .* return it"),
    (NoReturn(5, 2), [X], ValueError, "missing gradient of x: found None after the backward, .* return it"),
    ((square, square_backward), [np.arange(3)], TypeError, "nothing to check: found no floating-point input"),
    ((square, square_backward), [], TypeError, "nothing to check: found no floating-point input"),
    ((square, square_backward), [np.zeros((0, 3))], ValueError, "nothing to check: found an empty result"),
    ((lambda x, y: (x * y, None), lambda dy, _: (dy, dy, dy)), [X, X], ValueError,
     r"found 3, expected 2 for the floating-point inputs \(x, y\), return one for each"),
    ((lambda x: (np.log(-x * x), x), square_backward), [X], ValueError,
     "wrong values in the forward's result: found NaN or infinity"),
    ((square, square_backward), [np.where(X > 0, X, np.nan)], ValueError, "wrong values in x: found NaN or infinity"),
    ((square, square_backward), [np.array(["a", "b"])], TypeError,
     "wrong dtype of x: found <U1, expected an array of numbers"),
    ((lambda x: (x * np.random.default_rng().random(), x), square_backward), [X], ValueError,
     "the forward is random: found two different results"),
    ((square, lambda dy, x: 2 * x * dy * next(calls)), [X], ValueError,
     "not repeatable: found two different gradients of x"),
    ((lambda x: (np.multiply(x, 2, out=x), x), square_backward), [X], ValueError, "forward changes x"),
    ((square, lambda dy, x: np.multiply(x, 2 * dy, out=x)), [X], ValueError,
     "gradients of x from one cache, expected equal ones, do not change the cache"),
    ((lambda x: (x * x, (x, x.copy())), spoiling), [X], ValueError, "backward changes x"),
    ((square, clipping), [3 * X], ValueError, "backward changes dy"),
    ((lambda x: (x * x, 2 * x), consuming), [X], ValueError, "two different gradients of x from one cache, "
                                                             "expected equal ones"),
    (type("Complex", (Doubling,), {"__init__": lambda self: setattr(self, "w", np.ones(5) * 1j)})(), [X], ValueError,
     "wrong dtype of the gradient of x: found complex128, expected float64 as in the forward, return its real part"),
    (faulty(backward=decaying), [X], ValueError, "backward changes w"),
    (faulty(backward=lambda self, dy: 2 * dy * self.w), [X], ValueError, "missing gradient of w: found None"),
    ((tanh_in_float32, lambda dy, x: dy * (1 - np.tanh(x) ** 2)), [X], ValueError,
     "the noise of the forward hides small changes of x: found noise of .*as in float32, .* compute in float64 inside "
     ".* or pass tolerance=1e-0"),
    ((lambda x: (x.astype(np.float32) ** 2, x), square_backward), [X], ValueError,
     "wrong dtype of the forward's result: found float32 for float64 inputs"),
    ((square, lambda dy, x: (2 * x * dy).astype(np.float32)), [X], ValueError,
     "wrong dtype of the gradient of x: found float32, expected float64"),
    ((lambda x: x * x, lambda dy: dy), [X], TypeError, r"found ndarray, expected a tuple \(y, cache\)"),
    (faulty(forward=lambda self, x: None), [X], TypeError, "found NoneType, .* add the return statement"),
    ((lambda x: (x[:0], x), square_backward), [X], ValueError, "nothing to check: found an empty result"),
    (object(), [X], TypeError, "found object without a method 'forward'"),
    (type("Half", (), {"forward": lambda self, x: x})(), [X], TypeError, "found Half without a method 'backward'"),
    (Doubling, [X], TypeError, r"found the class Doubling, expected an object of it, pass Doubling\(...\)"),
    ((square, None), [X], TypeError, "pair of functions"),
], ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.filterwarnings("ignore:invalid value")
def test_what_cannot_be_checked_is_an_error_and_never_a_pass(target, inputs, error, message):
    with pytest.raises(error, match=message):
        minivit.gradcheck(target, *inputs)


def test_a_parameter_without_gradient_is_an_error():
    class Forgetful(Linear):
        def backward(self, dy):
            return dy @ self.weight.data.T

    with pytest.raises(ValueError, match="missing gradient of weight"):
        minivit.gradcheck(Forgetful(5, 2), X)


def test_a_parameter_may_have_any_name_and_a_gradient_buffer_is_no_parameter():
    class Scale:
        def __init__(self):
            self.input_w, self.dinput_w = np.ones(5), np.zeros(5)

        def forward(self, x):
            self.x = x
            return x * self.input_w

        def backward(self, dy):
            self.dinput_w[:] = (dy * self.x).sum(axis=0)
            return dy * self.input_w

    report = minivit.gradcheck(Scale(), X)
    assert report.ok
    assert [row.tensor for row in report.rows] == ["x", "input_w"]
    Scale.backward = lambda self, dy: dy * self.input_w
    Scale.__init__ = lambda self: setattr(self, "input_w", np.ones(5))
    with pytest.raises(ValueError, match="missing gradient of input_w"):
        minivit.gradcheck(Scale(), X)


@pytest.mark.parametrize(("options", "message"), [
    ({"method": "forward"}, "unknown method 'forward'"),
    ({"seed": -1}, "seed must be a whole number at least 0, not -1"),
    ({"samples": 0}, "number of samples must be a whole number at least 1, not 0"),
    ({"tolerance": 0}, "tolerance must be a finite number above 0"),
    ({"constants": "y"}, "unknown constant 'y'.*known: x"),
])
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        minivit.gradcheck((square, square_backward), X, **options)


# ---- methods ----------------------------------------------------------------------------------------------


def test_the_complex_step_has_no_round_off():
    report = minivit.gradcheck((lambda x: (np.exp(x) * np.sin(x), x), lambda dy,
                                x: dy * np.exp(x) * (np.sin(x) + np.cos(x))), X,
                               method="complex")
    assert report.ok
    assert report.worst < 1e-14
    assert not minivit.gradcheck((square, lambda dy, x: (2 + 1e-5) * x * dy), X, method="complex").ok


@pytest.mark.parametrize(("target", "message"), [
    (Linear(5, 2), "found an object, expected a pair of analytic functions"),
    ((lambda x: (np.abs(x), x), lambda dy, x: dy * np.sign(x)), "found a complex result that is real or differs"),
    ((softmax.forward, softmax.backward), "found TypeError .* for complex inputs"),
])
@pytest.mark.filterwarnings("ignore:Casting complex")
def test_the_complex_step_refuses_functions_that_are_not_analytic(target, message):
    with pytest.raises(TypeError, match=message):
        minivit.gradcheck(target, X, method="complex")


@pytest.mark.parametrize(("slope", "order"), [(2.0, 2.0), (2.06, 1.0)])
def test_the_taylor_remainder_falls_with_order_2_for_a_right_gradient_and_1_for_one_that_is_3_percent_wrong(
    slope, order):
    y_at = PerturbedForward(lambda: X * X, X.reshape(-1), slice(None))
    dy = np.random.default_rng(1).standard_normal(X.shape)
    assert taylor_order(y_at, 1.0, float(np.sum(slope * X * dy)), dy, 1e-15) == pytest.approx(order, abs=0.02)


@pytest.mark.parametrize("method", ["richardson", "central", "directional", "taylor"])
def test_one_wrong_entry_of_many_is_found_and_named(method):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((7, 300)), rng.standard_normal((300, 200))

    def backward(dy, cache):
        dw = x.T @ dy
        dw[123, 45] *= 1.01
        return dw

    report = minivit.gradcheck((lambda w: (x @ w, None), backward), w, method=method)
    assert not report.ok
    assert report.rows[0].index == (123, 45)
    assert report.rows[0].error > 1e-4


def test_the_filters_measure_entries_only_where_they_fail():
    block, x = minivit.layers.Block(24, 3, 2), np.random.default_rng(0).standard_normal((2, 5, 24))
    for method in ("directional", "taylor"):
        assert {row.method for row in minivit.gradcheck(block, x, method=method).rows} == {method}
    wrong = minivit.gradcheck((lambda x, y: (x * y, (x, y)), lambda dy, c: (dy * c[1], 1.01 * dy * c[0])), X, X[::-1],
                              method="directional")
    assert [(row.tensor, row.method) for row in wrong.rows] == [("x", "directional"), ("y", "richardson")]


@pytest.mark.slow
@pytest.mark.alone
def test_the_directional_filter_takes_less_than_5_seconds_for_a_large_model():
    # Seconds of the processor: all of it runs on one thread, and what else the machine does is not counted.
    model, image = minivit.create_model("vit_mini_patch4_32"), np.random.default_rng(0).standard_normal((1, 32, 32, 3))
    assert model.vector.size > 2_690_000
    seconds = []
    for _ in range(4):                                                # the first compiles
        start = time.process_time()
        report = minivit.gradcheck(model, image, method="directional")
        seconds.append(time.process_time() - start)
        assert report.ok
        assert len(report.rows) == 81
    assert min(seconds) < 5


# ---- kinks ------------------------------------------------------------------------------------------------


def relu(x):
    return np.maximum(x, 0), x


def relu_backward(dy, x):
    return dy * (x > 0)


@pytest.mark.parametrize("method", ["richardson", "central", "directional", "taylor"])
def test_kinks_are_skipped_and_counted(method):
    x = X.copy()
    x[0, :2] = x[1, 1] = 0
    report = minivit.gradcheck((relu, relu_backward), x, method=method)
    assert report.ok
    assert report.rows[0].kinks == 3
    assert "ok, 3 at kinks" in str(report)


def test_near_a_kink_the_step_is_smaller():
    x = X.copy()
    x[0, :2] = 1e-5, -1e-6
    report = minivit.gradcheck((relu, relu_backward), x)
    assert report.ok
    assert report.rows[0].kinks == 0


def test_a_tensor_that_is_mostly_kinks_does_not_pass():
    x = np.zeros((3, 5))
    x[0, 0] = 1
    report = minivit.gradcheck((relu, relu_backward), x)
    assert not report.ok
    assert "NOT CHECKED, 14 at kinks: choose other inputs" in str(report)


@pytest.mark.parametrize("factor", [0.999, 1.001, 0.5])
def test_a_kink_does_not_hide_a_wrong_gradient(factor):
    x = X.copy()
    x[0, :3] = 0
    report = minivit.gradcheck((relu, lambda dy, x: factor * relu_backward(dy, x)), x)
    assert not report.ok
    assert "WRONG at" in str(report)


def test_max_pooling_is_checked_except_where_two_maxima_are_almost_equal():
    def backward(dy, x):
        dx = np.zeros_like(x)
        dx[np.arange(3), x.argmax(axis=1)] = dy
        return dx

    x = X.copy()
    x[1, 3] = x[1].max() + 1e-9                                       # two that change places
    report = minivit.gradcheck((lambda x: (x.max(axis=1), x), backward), x)
    assert report.ok
    assert report.rows[0].kinks == 2
    x[1, 3] += 1
    assert minivit.gradcheck((lambda x: (x.max(axis=1), x), backward), x).rows[0].kinks == 0


# ---- images that influence each other ------------------------------------------------------------------------


def mixed(x):
    return x + 0.01 * x.mean(axis=0), None


def mixed_backward(dy, _):
    return dy + 0.01 * dy.mean(axis=0)


def test_images_that_influence_each_other_give_a_note_or_an_error():
    report = minivit.gradcheck((mixed, mixed_backward), X)
    assert report.ok
    assert "note: images of the batch influence each other: result[1] depends on x[0]" in str(report)
    assert not minivit.gradcheck((mixed, mixed_backward), X, independent=False).notes
    with pytest.raises(ValueError, match=r"influence each other: result\[1\] depends on x\[0\], expected independent"):
        minivit.gradcheck((mixed, mixed_backward), X, independent=True)


@pytest.mark.parametrize(("one", "other"), [(1, 2), (5, 3), (0, 6), (6, 5)])
def test_the_influence_of_one_image_on_any_other_is_found(one, other):
    def leak(x):
        y = x.copy()
        y[one] += 0.1 * x[other]
        return y, None

    def backward(dy, _):
        dx = dy.copy()
        dx[other] += 0.1 * dy[one]
        return dx

    with pytest.raises(ValueError, match=rf"result\[{one}\] depends on x\[{other}\]"):
        minivit.gradcheck((leak, backward), np.random.default_rng(0).standard_normal((7, 5)), independent=True)


@pytest.mark.parametrize("x", [X[0], X[:1]])
def test_independence_needs_several_images(x):
    assert minivit.gradcheck((square, square_backward), x).ok
    with pytest.raises(ValueError, match="independence cannot be tested: found an input of shape"):
        minivit.gradcheck((square, square_backward), x, independent=True)


def test_the_images_of_a_layer_must_be_independent():
    class Leaky(Linear):
        def forward(self, x):
            return mixed(super().forward(x))[0]

        def backward(self, dy):
            return super().backward(mixed_backward(dy, None))

    with pytest.raises(ValueError, match="images of the batch influence each other"):
        minivit.gradcheck(Leaky(5, 2), X)
    assert minivit.gradcheck(Leaky(5, 2), X, independent=False).ok


# ---- user-defined objects ------------------------------------------------------------------------------------


class Network:
    """It has parts in a list, arrays in a dict, and a mask that is no parameter."""

    def __init__(self):
        self.parts = [Doubling(), Doubling()]
        self.params = {"b": np.zeros(5)}
        self.grads = {"b": np.zeros(5)}
        self.mask = np.array([1.0, 0, 1, 1, 0])

    def forward(self, x):
        return self.parts[1].forward(self.parts[0].forward(x)) * self.mask + self.params["b"]

    def backward(self, dy):
        self.grads["b"] += dy.sum(axis=0)                             # adds up, as some do
        return self.parts[0].backward(self.parts[1].backward(dy * self.mask))


def test_parameters_in_parts_and_dicts_and_accumulated_gradients_are_checked():
    report = minivit.gradcheck(Network(), X, constants=["mask"])
    assert report.ok
    assert [row.tensor for row in report.rows] == ["x", "parts.0.w", "parts.1.w", "params.b"]
    with pytest.raises(ValueError, match=r"missing gradient of mask: .*name a constant in constants=\('mask',\)"):
        minivit.gradcheck(Network(), X)


def test_minivit_layers_inside_a_user_defined_object_are_checked():
    class Wrong(Linear):
        def backward(self, dy):
            dx = super().backward(dy)
            self.weight.grad = 1.001 * self.weight.grad
            return dx

    class Model:
        def __init__(self, last):
            self.parts, self.scale, self.me = (Linear(5, 4), last), (np.ones(2, np.float32),), self

        def forward(self, x):
            self.y = self.parts[1].forward(self.parts[0].forward(x))
            return self.y * self.scale[0]

        def backward(self, dy):
            self.dscale = ((dy * self.y).sum(axis=0),)
            return self.parts[0].backward(self.parts[1].backward(dy * self.scale[0]))

    names = ["x", "parts.0.weight", "parts.0.bias", "parts.1.weight", "parts.1.bias", "scale.0"]
    model = Model(Linear(4, 2))
    report = minivit.gradcheck(model, X)
    assert report.ok
    assert [row.tensor for row in report.rows] == names
    assert model.parts[0].dtype == np.float32
    report = minivit.gradcheck(Model(Wrong(4, 2)), X)
    assert [row.tensor for row in report.rows if not row.ok] == ["parts.1.weight"]


def test_a_part_that_is_wrong_is_named():
    network = Network()
    network.parts[1] = faulty(backward=lambda self, dy: 1.001 * Doubling.backward(self, dy))
    report = minivit.gradcheck(network, X, constants="mask")
    assert [row.tensor for row in report.rows if not row.ok] == ["x", "parts.0.w"]


def test_constants_have_no_row_and_no_gradient():
    mask = (X > 0) * 1.0
    report = minivit.gradcheck((lambda x, mask: (x * mask, mask), lambda dy, mask: dy * mask), X, mask,
                               constants="mask")
    assert report.ok
    assert [row.tensor for row in report.rows] == ["x"]
    assert minivit.gradcheck((lambda x, scale, name: (x * scale, scale), lambda dy, scale: dy * scale), X, 3.0,
                             "a name").ok


def test_a_scalar_result_has_a_scalar_upstream_gradient():
    assert minivit.gradcheck((lambda x: (float((x * x).sum()), x), lambda dy, x: 2 * dy * x), X).ok
    report = minivit.gradcheck((lambda x: (float((x * x).sum()), x), lambda dy, x: 2 * x), X)
    assert not report.ok
    assert "ignores its upstream gradient" in report.rows[0].hint


# ---- the report ---------------------------------------------------------------------------------------------


def test_the_errors_against_the_step_are_a_v_for_a_right_gradient_and_a_plateau_for_a_wrong_one():
    weight, bias = np.random.default_rng(1).standard_normal((2, 5))
    right = minivit.gradcheck((layer_norm.reference_forward, layer_norm.reference_backward), X, weight, bias)
    steps, central, richardson = right.errors_by_step(right.rows[0])
    assert len(steps) == len(central) == len(richardson)
    for errors, least, step in ((central, 1e-9, EPS ** (1 / 3)), (richardson, 1e-11, EPS ** (1 / 5))):
        assert errors.min() < least
        assert errors[0] > 1e4 * errors.min() < errors[-1] / 1e4
        assert abs(np.log10(steps[errors.argmin()] / step)) < 1.5
    wrong = minivit.gradcheck((square, lambda dy, x: 2.02 * x * dy), X)
    _, central, richardson = wrong.errors_by_step(wrong.rows[0])
    assert np.median(central) == pytest.approx(0.0099, rel=0.01)
    assert np.median(richardson) == pytest.approx(0.0099, rel=0.01)


def test_the_plot_is_a_figure(tmp_path):
    report = minivit.gradcheck(Linear(5, 2), X)
    figure = report.plot(tmp_path / "v.png", tensors=2)
    assert (tmp_path / "v.png").read_bytes().startswith(b"\x89PNG")
    assert [len(axes.lines) for axes in figure.axes] == [3, 3]        # two methods, and the tolerance
    together = figure.axes[0]
    assert report.plot(axes=together) is figure
    assert len(together.lines) == 3 + 2 * 3 + 1                       # three tensors more, all in one
    with pytest.raises(ValueError, match="unknown ending of an image file 'v2'"):
        report.plot(tmp_path / "v.v2", axes=together)
    assert len(together.lines) == 10                                  # refused before anything was measured


def test_rows_hold_what_the_table_shows():
    report = minivit.gradcheck((square, lambda dy, x: np.where(x == x.max(), 3, 2) * x * dy), X)
    (row,) = report.rows
    assert (row.tensor, row.entries, row.size, row.method, row.kinks, row.ok) == ("x", 15, 15, "richardson", 0, False)
    assert row.index == np.unravel_index(X.argmax(), X.shape)
    assert row.analytic == pytest.approx(1.5 * row.numeric)
    assert row.error == report.worst
    assert f"WRONG at {row.index}" in str(report)


# ---- unusual user code ---------------------------------------------------------------------------------------


def scaling(make, weight, **methods):
    """Return an object y = x w. `make` creates its weight and `weight` returns it; its backward computes only dx."""
    return type("Scaling", (), {"__init__": make, "forward": lambda self, x: x * weight(self),
                                "backward": lambda self, dy: dy * weight(self)} | methods)()


@pytest.mark.parametrize(("target", "name"), [
    (scaling(lambda self: setattr(self, "params", [(np.ones(5), "a name")]), lambda self: self.params[0][0]),
     "params.0.0"),
    (scaling(lambda self: setattr(self, "params", {"one": {"w": np.ones(5)}}), lambda self: self.params["one"]["w"]),
     "params.one.w"),
    (scaling(lambda self: setattr(self, "w", np.ones(5)), lambda self: self.w, __slots__=("w",)), "w"),
    (scaling(lambda self: None, lambda self: self.w, w=np.ones(5)), "w"),
    (scaling(lambda self: setattr(self, "w", np.array(1.0)), lambda self: self.w), "w"),
])
def test_a_weight_is_found_wherever_it_is_held(target, name):
    with pytest.raises(ValueError, match=f"missing gradient of {name}: "):
        minivit.gradcheck(target, X)
    assert minivit.gradcheck(target, X, constants=name).ok


def test_a_weight_in_a_part_without_a_forward_needs_a_gradient_too():
    holder = type("Holder", (), {"__init__": lambda self: setattr(self, "data", np.ones(5))})
    target = scaling(lambda self: setattr(self, "w", holder()), lambda self: self.w.data)
    with pytest.raises(ValueError, match=r"missing gradient of w.data: found None"):
        minivit.gradcheck(target, X)
    assert minivit.gradcheck(target, X, constants="w").ok


@pytest.mark.parametrize("factor", [1, 1.001])
def test_gradients_may_be_in_a_list_parallel_to_the_list_of_weights(factor):
    class Scale:
        def __init__(self):
            self.params, self.grads = [np.ones(5), np.array(1.0)], [np.zeros(5), None]

        def forward(self, x):
            self.x = x
            return x * self.params[0] + self.params[1]

        def backward(self, dy):
            self.grads[0][...] = (dy * self.x).sum(axis=0)
            self.grads[1] = factor * dy.sum()
            return dy * self.params[0]

    report = minivit.gradcheck(Scale(), X)
    assert [(row.tensor, row.ok) for row in report.rows] == [("x", True), ("params.0", True), ("params.1", factor == 1)]


class BatchNorm:
    """It has a running mean, which the forward changes."""

    def __init__(self):
        self.w, self.running = np.ones(5), np.zeros(5)

    def forward(self, x):
        mean, self.rstd = x.mean(axis=0), 1 / np.sqrt(x.var(axis=0) + 1e-5)
        self.xhat = (x - mean) * self.rstd
        self.running = 0.9 * self.running + 0.1 * mean
        return self.xhat * self.w

    def backward(self, dy):
        self.dw = (dy * self.xhat).sum(axis=0)
        dxhat = dy * self.w
        return self.rstd * (dxhat - dxhat.mean(axis=0) - self.xhat * (dxhat * self.xhat).mean(axis=0))


def test_a_running_mean_is_no_parameter_and_the_report_says_so():
    report = minivit.gradcheck(BatchNorm(), X)
    assert report.ok
    assert [row.tensor for row in report.rows] == ["x", "w"]
    assert "not checked: running (changed by the forward)" in str(report)
    assert minivit.gradcheck(BatchNorm(), X, constants="running").inventory["running"] == "constant"


def test_a_parameter_that_the_forward_changes_is_an_error():
    def forward(self, x):
        self.w = np.clip(self.w, -0.5, 0.5)
        return Doubling.forward(self, x)

    with pytest.raises(ValueError, match=r"the forward changes w: .*constants=\('w',\)"):
        minivit.gradcheck(faulty(forward=forward), X)


def test_an_object_may_have_been_used_before():
    layer = Doubling()
    layer.backward(layer.forward(X))
    report = minivit.gradcheck(layer, X)
    assert report.ok
    assert [row.tensor for row in report.rows][1:] == ["w"]
    assert report.inventory == {"x": "overwritten by the forward", "dw": "gradient"}


def test_a_forward_may_replace_a_weight_by_an_equal_array():
    def forward(self, x):
        self.w = self.w.copy()
        return Doubling.forward(self, x)

    assert minivit.gradcheck(faulty(forward=forward), X).ok


def test_a_backward_that_writes_into_dy_is_an_error():
    with pytest.raises(ValueError, match="backward changes dy"):
        minivit.gradcheck((square, lambda dy, x: np.multiply(dy, 2 * x, out=dy)), X)


@pytest.mark.parametrize("name", ["x", "dx", "grad_x", "x_grad"])
def test_gradients_may_be_in_a_dict_by_name(name):
    assert minivit.gradcheck((square, lambda dy, x: {name: 2 * x * dy}), X).ok
    assert not minivit.gradcheck((square, lambda dy, x: {name: 3 * x * dy}), X).ok
    with pytest.raises(ValueError, match="gradients of unknown tensors: found weights in the backward's result"):
        minivit.gradcheck((square, lambda dy, x: {name: 2 * x * dy, "weights": dy}), X)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("factor", [1, 1.001])
def test_near_the_edge_of_the_domain_of_a_function_the_step_is_smaller(factor):
    x = np.array([1e-4, 0.5, 0.7, 0.9, 1.0])
    report = minivit.gradcheck((lambda x: (np.log(x), x), lambda dy, x: factor * dy / x), x)
    assert report.ok == (factor == 1)
    assert report.rows[0].kinks == 0


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_inputs_whose_square_overflows_are_checked(scale):
    assert minivit.gradcheck((lambda x: ((x / scale) ** 2, x), lambda dy, x: 2 * dy * (x / scale) / scale),
                             scale * X).ok


def test_a_discontinuity_does_not_hide_a_wrong_gradient_elsewhere():
    x = np.array([0.5, 0.7, 0.9, 1.0, 1.2])
    report = minivit.gradcheck((lambda x: (x * (x > 0.5), x), lambda dy, x: 1.00005 * dy * (x > 0.5)), x)
    assert not report.ok


def test_a_gradient_that_is_nan_in_one_entry_of_many_is_named():
    x = np.random.default_rng(0).standard_normal((20, 30))
    report = minivit.gradcheck((square, lambda dy, x: np.where(np.arange(600).reshape(20, 30) == 94, np.nan,
                                                               2 * x * dy)), x)
    assert not report.ok
    assert report.rows[0].index == (3, 4)


@pytest.mark.parametrize("seed", range(4))
def test_kinks_do_not_prevent_the_check_of_the_remaining_entries(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((64, 100))
    x[rng.random(x.shape) < 0.1] = 0
    double_last = np.where(np.arange(100) == 99, 2, 1)
    for method in ("richardson", "directional"):
        assert minivit.gradcheck((relu, relu_backward), x, seed=seed, method=method).ok
        assert not minivit.gradcheck((relu, lambda dy, x: double_last * relu_backward(dy, x)), x, seed=seed,
                                     method=method).ok


def test_the_report_fails_if_kinks_prevent_the_check_of_the_remaining_entries():
    x = np.random.default_rng(0).standard_normal((20, 30))
    x[::7, ::3] = 0
    report = minivit.gradcheck((lambda x: (np.maximum(x, 0).sum(), x), relu_backward), x)
    assert not report
    assert "at kinks, the rest not checked: choose other inputs" in str(report)


def test_a_report_is_true_if_all_gradients_are_right_and_has_a_repr():
    x = np.random.default_rng(0).standard_normal((3, 4))
    right = minivit.gradcheck((lambda x: (x**2, x), lambda dy, x: 2 * x * dy), x)
    wrong = minivit.gradcheck((lambda x: (x**2, x), lambda dy, x: 3 * x * dy), x)
    assert right
    assert not wrong
    assert repr(right).startswith("<gradcheck: 1 tensors ok, worst error ")
    assert repr(wrong).startswith("<gradcheck: 1 of 1 tensors FAIL, worst error 3.3e-01")
    assert "#c00" in wrong._repr_html_()
    assert "#c00" not in right._repr_html_()


def test_a_tiny_gradient_that_is_twice_too_large_is_named():
    report = minivit.gradcheck((lambda x: (1e-300 * x, None), lambda dy, _: 2e-300 * dy), X)
    assert not report.ok
    assert report.rows[0].hint == "the gradient is 2 times what it should be: look for a wrong constant factor"


def test_what_cannot_be_copied_is_shared_with_the_copy():
    assert minivit.gradcheck(scaling(lambda self: setattr(self, "lock", threading.Lock()), lambda self: 1.0), X).ok


class Uncopyable(Doubling):
    def __deepcopy__(self, memo):
        raise RuntimeError("no copies")


def test_an_object_that_cannot_be_copied_is_named():
    with pytest.raises(TypeError, match=r"Uncopyable cannot be copied: found no copies"):
        minivit.gradcheck(Uncopyable(), X)


@pytest.mark.parametrize("second", [X, X[:2]], ids=["equal shapes", "unequal shapes"])
def test_a_list_of_arrays_has_a_row_for_each(second):
    def backward(dy, xs):
        return [dy[:len(xs[0])], 1.01 * dy[len(xs[0]):]]

    report = minivit.gradcheck((lambda xs: (np.concatenate(xs), xs), backward), [X, second])
    assert [(row.tensor, row.ok) for row in report.rows] == [("xs.0", True), ("xs.1", False)]
