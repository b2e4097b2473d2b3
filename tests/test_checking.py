"""The gradient checker: passes what is right, fails what is wrong, and names where."""

import numpy as np
import pytest

import minivit
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


def test_a_layer_norm_with_its_weight_outside_the_means_fails_although_it_passes_at_weight_one():
    class Wrong(LayerNorm):
        def backward(self, dy):
            x, mean, rstd, weight = self.take_cache()
            self.cache = x, mean, rstd, np.ones_like(weight)
            return super().backward(dy) * weight

    report = minivit.gradcheck(Wrong(5), X)
    assert [row.tensor for row in report.rows if not row.ok] == ["x"]


def test_gradients_that_are_zero_pass_in_spite_of_round_off():
    assert minivit.gradcheck((lambda x: (x - x.sum() + x.sum(), None), lambda dy, _: dy), 1e3 * X).ok
    assert minivit.gradcheck((lambda x: (0 * x, None), lambda dy, _: 0 * dy), X).ok


def test_magnitudes_do_not_matter():
    for scale in (1e-6, 1.0, 1e6):
        assert minivit.gradcheck((square, square_backward), scale * X).ok


def test_the_target_is_not_changed():
    layer = Linear(5, 2)
    before = layer.vector.copy()
    assert minivit.gradcheck(layer, X).ok
    np.testing.assert_array_equal(layer.vector, before)
    assert layer.weight.grad is None


def test_an_object_of_ones_own_is_checked():
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


@pytest.mark.parametrize(("target", "inputs", "error", "message"), [
    ((square, lambda dy, x: (2 * x * dy)[0]), [X], ValueError, r"gradient of x has the shape \(5,\), but x itself \(3, 5\)"),
    ((square, lambda dy, x: None), [X], ValueError, "None for x: did it forget to return dx"),
    (NoReturn(5, 2), [X], ValueError, "None for x: did it forget to return dx"),
    ((square, square_backward), [np.arange(3)], TypeError, "nothing to check"),
    ((lambda x, y: (x * y, None), lambda dy, _: (dy, dy, dy)), [X, X], ValueError, "3 gradients for 2 floating-point inputs"),
    ((lambda x: (np.log(-x * x), x), square_backward), [X], ValueError, "NaN or infinity"),
    ((lambda x: (x * np.random.default_rng().random(), x), square_backward), [X], ValueError, "two different results"),
    ((lambda x: (np.multiply(x, 2, out=x), x), square_backward), [X], ValueError, "forward changes x"),
    (object(), [X], TypeError, "object has no method 'forward'"),
], ids=["shape", "none", "no return", "integers", "count", "nan", "random", "in place", "no forward"])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_what_cannot_be_checked_is_an_error_and_never_a_pass(target, inputs, error, message):
    with pytest.raises(error, match=message):
        minivit.gradcheck(target, *inputs)


def test_a_parameter_without_gradient_is_an_error():
    class Forgetful(Linear):
        def backward(self, dy):
            return dy @ self.weight.data.T

    with pytest.raises(ValueError, match="no gradient for weight"):
        minivit.gradcheck(Forgetful(5, 2), X)


def test_a_parameter_may_bear_any_name_and_memory_for_gradients_is_none():
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
    with pytest.raises(ValueError, match="no gradient for input_w"):
        minivit.gradcheck(Scale(), X)


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="unknown method 'forward'"):
        minivit.gradcheck((square, square_backward), X, method="forward")
