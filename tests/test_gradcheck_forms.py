"""The checker accepts code in many forms, and finds a wrong gradient in each."""

import collections
import dataclasses
import random
from types import SimpleNamespace

import numpy as np
import pytest

from minivit import gradcheck

RNG = np.random.default_rng(7)
X, W, B = RNG.standard_normal((3, 5)), RNG.standard_normal((5, 2)), RNG.standard_normal(2)


def wrong_rows(report):
    return [row.tensor for row in report.rows if not row.ok]


# ---- functions: each maker takes the factor of one gradient, and says which tensor that is --------------------------


def several_outputs(k):
    return (lambda x, w: ((x @ w, x * x), (x, w)),
            lambda dy, c: (dy[0] @ c[1].T + 2 * c[0] * dy[1], k * c[0].T @ dy[0])), (X, W), {}, "w"


def several_outputs_one_by_one(k):
    return (lambda x, w: ((x @ w, x * x), (x, w)),
            lambda d1, d2, c: (d1 @ c[1].T + 2 * c[0] * d2, k * c[0].T @ d1)), (X, W), {}, "w"


def outputs_in_a_dict(k):
    return (lambda x: ({"a": x * x, "b": [np.sin(x), "a word"]}, x),
            lambda dy, x: 2 * x * dy["a"] + k * np.cos(x) * dy["b"][0]), (X,), {}, "x"


def gradients_by_name(k):
    return (lambda x, w: (x @ w, (x, w)), lambda dy, c: {"dw": k * c[0].T @ dy, "dx": dy @ c[1].T}), (X, W), {}, "w"


def parameters_in_a_dict(k):
    def backward(dy, c):
        x, p = c
        return dy @ p["W"].T, {"b": k * dy.sum(axis=0), "W": x.T @ dy}
    return (lambda x, p: (x @ p["W"] + p["b"], (x, p)), backward), (X, {"W": W, "b": B}), {}, "p.b"


def a_tuple_as_input(k):
    return (lambda x, state: (x * state[0] + state[1] ** 2, (x, state)),
            lambda dy, c: (dy * c[1][0], (dy * c[0], k * 2 * dy * c[1][1]))), (X, (X + 1, X - 1)), {}, "state.1"


@dataclasses.dataclass
class Weights:
    W: np.ndarray
    b: np.ndarray


def a_dataclass_as_input(k):
    return (lambda x, p: (x @ p.W + p.b, (x, p)), lambda dy, c: (dy @ c[1].W.T, Weights(
        k * c[0].T @ dy, dy.sum(axis=0)))), (X, Weights(W, B)), {}, "p.W"


def keyword_inputs(k):
    return (lambda x, *, w, n=2: (x**n @ w, (x, w, n)), lambda dy, c: (
        c[2] * c[0] ** (c[2] - 1) * (dy @ c[1].T), k * (c[0] ** c[2]).T @ dy)), (X,), {"w": W, "n": 3}, "w"


def a_scalar_function_and_its_gradient(k):
    return (lambda x, w: float(((x @ w) ** 2).sum()), lambda x, w: (2 * x @ w @ w.T, k * 2 * x.T @ (x @ w))), (
        X, W), {}, "w"


def value_and_gradient(k):
    return (lambda x: (float((x**3).sum()), k * 3 * x**2)), (X,), {}, "x"


def a_loss_without_dy(k):
    return (lambda x: (((x - 1) ** 2).mean(), x), lambda cache: k * 2 * (cache - 1) / cache.size), (X,), {}, "x"


def no_cache(k):
    return (lambda x, w: x @ w, lambda dy, x, w: (dy @ w.T, k * x.T @ dy)), (X, W), {}, "w"


def a_number_as_input(k):
    return (lambda x, a: (x**2 * a, (x, a)), lambda dy, c: (2 * dy * c[0] * c[1], k * float((dy * c[0] ** 2).sum()))), (
        X, 1.5), {}, "a"


def no_axes(k):
    return (lambda x, s: (x * s, (x, s)), lambda dy, c: (dy * c[1], k * np.sum(dy * c[0]))), (
        X, np.array(1.5)), {}, "s"


def complex_numbers(k):
    z = X + 1j * X[::-1]
    return (lambda z, a: (a * z * z, (z, a)), lambda dy, c: (
        k * 2 * np.conj(c[1] * c[0]) * dy, np.sum((np.conj(c[0] ** 2) * dy).real, axis=0))), (z, X[0]), {}, "z"


def a_complex_input_of_a_real_function(k):
    return (lambda z: (np.abs(z) ** 2, z), lambda dy, z: k * 2 * z * dy), (X - 2j * X[::-1],), {}, "z"


def a_complex_result(k):
    return (lambda x: (np.fft.fft(x), x), lambda dy, x: k * x.shape[-1] * np.fft.ifft(dy).real), (X,), {}, "x"


FUNCTIONS = [several_outputs, several_outputs_one_by_one, outputs_in_a_dict, gradients_by_name, parameters_in_a_dict,
             a_tuple_as_input, a_dataclass_as_input, keyword_inputs, a_scalar_function_and_its_gradient,
             value_and_gradient, a_loss_without_dy, no_cache, a_number_as_input, no_axes, complex_numbers,
             a_complex_input_of_a_real_function, a_complex_result]


@pytest.mark.parametrize("factor", [1, 1.001, -1])
@pytest.mark.parametrize("make", FUNCTIONS, ids=lambda make: make.__name__)
def test_functions_of_every_form_are_checked(make, factor):
    target, inputs, keywords, name = make(factor)
    report = gradcheck(target, *inputs, **keywords)
    assert wrong_rows(report) == ([] if factor == 1 else [name]), f"\n{report}"


def test_jax_conjugates_the_gradient_of_a_complex_tensor_and_the_checker_does_not():
    z = X + 1j * X[::-1]
    assert gradcheck((lambda z: (z * z, z), lambda dy, z: 2 * np.conj(z) * dy), z).ok
    assert not gradcheck((lambda z: (z * z, z), lambda dy, z: 2 * z * np.conj(dy)), z).ok


def test_whole_numbers_and_booleans_pass_through():
    target = (lambda x, i, keep: (x[i] * keep, (x, i, keep)),
              lambda dy, c: np.eye(len(c[0]))[:, c[1]] @ (dy * c[2]))
    report = gradcheck(target, X, np.array([2, 0]), np.array([True, False, True, True, False]))
    assert report.ok
    assert [row.tensor for row in report.rows] == ["x"]


# ---- objects ---------------------------------------------------------------------------------------------------------


class Linear:
    """y = x W + b. Sub-classes hold W and b, and leave their gradients, in their own way."""

    factor = 1.0

    def __init__(self):
        self.hold(W.copy(), B.copy())

    def hold(self, weight, bias):
        self.W, self.b = weight, bias

    def held(self):
        return self.W, self.b

    def leave(self, dW, db):
        self.dW, self.db = dW, db

    def forward(self, x):
        self.x = x
        weight, bias = self.held()
        return x @ weight + bias

    def backward(self, dy):
        self.leave(self.factor * self.x.T @ dy, dy.sum(axis=0))
        return dy @ self.held()[0].T


def style(name, tensor, **methods):
    return pytest.param(type(name.title().replace(" ", ""), (Linear,), methods), tensor, id=name)


def set_all(**values):
    def leave(self, dW, db):
        for name, which in values.items():
            setattr(self, name, (dW, db)[which])
    return leave


class Box:
    def __init__(self, data):
        self.data, self.grad = data, np.zeros_like(data)


@dataclasses.dataclass
class Parameter:
    value: np.ndarray
    grad: np.ndarray | None = None


Named = collections.namedtuple("Named", "weight bias")


def hold_boxes(kind):
    def hold(self, weight, bias):
        self.W, self.b = kind(weight), kind(bias)
    return hold


def leave_in_boxes(self, dW, db):
    self.W.grad, self.b.grad = dW, db


def add_to_boxes(self, dW, db):
    self.W.grad += dW
    self.b.grad += db


STYLES = [
    style("dW", "W"),
    style("W_grad", "W", leave=set_all(W_grad=0, b_grad=1)),
    style("grad_W", "W", leave=set_all(grad_W=0, grad_b=1)),
    style("dE_dW", "W", leave=set_all(dE_dW=0, dE_db=1)),
    style("_dW", "W", leave=set_all(_dW=0, _db=1)),
    style("private", "_W", hold=lambda s, w, b: s.__dict__.update(_W=w, _b=b), held=lambda s: (s._W, s._b),
          leave=set_all(_dW=0, _db=1)),
    style("gradients", "W", leave=lambda s, dW, db: setattr(s, "gradients", {"W": dW, "b": db})),
    style("dict and grads", "params.W", hold=lambda s, w, b: setattr(s, "params", {"W": w, "b": b}),
          held=lambda s: (s.params["W"], s.params["b"]),
          leave=lambda s, dW, db: setattr(s, "grads", {"W": dW, "b": db})),
    style("dict with dW", "params.W", hold=lambda s, w, b: setattr(s, "params", {"W": w, "b": b}),
          held=lambda s: (s.params["W"], s.params["b"]), leave=lambda s, dW, db: s.params.update(dW=dW, db=db)),
    style("dict and grads with dW", "p.W", hold=lambda s, w, b: setattr(s, "p", {"W": w, "b": b}),
          held=lambda s: (s.p["W"], s.p["b"]), leave=lambda s, dW, db: setattr(s, "grads", {"dW": dW, "db": db})),
    style("lists", "params.0", hold=lambda s, w, b: setattr(s, "params", [w, b]), held=lambda s: s.params,
          leave=lambda s, dW, db: setattr(s, "grads", [dW, db])),
    style("named tuple", "p.0", hold=lambda s, w, b: setattr(s, "p", Named(w, b)), held=lambda s: s.p,
          leave=lambda s, dW, db: setattr(s, "dp", Named(dW, db))),
    style("boxes assigned", "W", hold=hold_boxes(Box), held=lambda s: (s.W.data, s.b.data), leave=leave_in_boxes),
    style("boxes accumulated", "W", hold=hold_boxes(Box), held=lambda s: (s.W.data, s.b.data), leave=add_to_boxes),
    style("dataclasses", "W", hold=hold_boxes(Parameter), held=lambda s: (s.W.value, s.b.value), leave=leave_in_boxes),
    style("namespaces", "W", hold=hold_boxes(lambda w: SimpleNamespace(value=w, grad=None)),
          held=lambda s: (s.W.value, s.b.value), leave=leave_in_boxes),
    style("list of boxes", "params.0", hold=lambda s, w, b: setattr(s, "params", [Box(w), Box(b)]),
          held=lambda s: [p.data for p in s.params],
          leave=lambda s, *g: [setattr(p, "grad", x) for p, x in zip(s.params, g, strict=True)]),
    style("pairs", "pairs.0.0", hold=lambda s, w, b: setattr(s, "pairs", [[w, 0 * w], [b, 0 * b]]),
          held=lambda s: [p[0] for p in s.pairs],
          leave=lambda s, *g: [p.__setitem__(1, x) for p, x in zip(s.pairs, g, strict=True)]),
    style("a method with pairs", "one", hold=lambda s, w, b: s.__dict__.update(one=w, two=b),
          held=lambda s: (s.one, s.two), leave=lambda s, *g: setattr(s, "kept", g),
          parameters=lambda s: list(zip((s.one, s.two), getattr(s, "kept", (None, None)), strict=True))),
    style("two methods", "one", hold=lambda s, w, b: s.__dict__.update(one=w, two=b),
          held=lambda s: (s.one, s.two), leave=lambda s, *g: setattr(s, "kept", g),
          parameters=lambda s: [s.one, s.two], gradients=lambda s: list(s.kept)),
    style("nested lists of floats", "W.0.0", hold=lambda s, w, b: s.__dict__.update(W=w.tolist(), b=b),
          held=lambda s: (np.array(s.W), s.b), leave=lambda s, dW, db: s.__dict__.update(dW=dW.tolist(), db=db)),
    style("deque", "p.0", hold=lambda s, w, b: setattr(s, "p", collections.deque([w, b])), held=lambda s: s.p,
          leave=lambda s, *g: setattr(s, "dp", collections.deque(g))),
]


@pytest.mark.parametrize("factor", [1, 1.001])
@pytest.mark.parametrize(("cls", "tensor"), STYLES)
def test_parameters_of_objects_of_every_form_are_checked(cls, tensor, factor):
    target = cls()
    target.factor = factor
    report = gradcheck(target, X)
    assert len(report.rows) >= 3
    wrong = wrong_rows(report)
    assert (wrong == []) if factor == 1 else (wrong[:1] == [tensor]), f"\n{report}\n{report.inventory}"


@pytest.mark.parametrize("factor", [1, 1.001])
@pytest.mark.parametrize("names", ["dW, db", "a dict"])
def test_a_backward_may_return_the_gradients_of_parameters_after_those_of_the_inputs(names, factor):
    def backward(self, dy):
        dW, db = factor * self.x.T @ dy, dy.sum(axis=0)
        dx = dy @ self.W.T
        return (dx, dW, db) if names == "dW, db" else (dx, {"W": dW, "db": db})

    report = gradcheck(type("Returns", (Linear,), {"backward": backward})(), X)
    assert wrong_rows(report) == ([] if factor == 1 else ["W"])


@pytest.mark.parametrize("factor", [1, 1.001])
def test_gradients_under_other_names_are_named_by_the_user(factor):
    cls = type("Odd", (Linear,), {"leave": set_all(left=0, right=1)})
    with pytest.raises(ValueError, match=r"missing gradient of W, b: found None .* arrays of shapes"):
        gradcheck(cls(), X)
    target = cls()
    target.factor = factor
    assert gradcheck(target, X, gradients={"W": "left", "b": "right"}).ok == (factor == 1)


def test_other_names_of_the_methods():
    class Odd:
        def fprop(self, x):
            self.x = x
            return x**3

        def bprop(self, dy):
            return 3 * self.x**2 * dy

        def calculate(self, x):
            return self.fprop(x), None

        def differentiate(self, dy, cache):
            return 1.01 * self.bprop(dy)

    assert gradcheck(Odd(), X).ok
    odd = Odd()
    assert gradcheck((odd.fprop, odd.bprop), X).ok
    assert not gradcheck((odd.calculate, odd.differentiate), X).ok


@pytest.mark.parametrize("factor", [1, 1.001])
def test_a_backward_of_a_loss_may_take_no_dy(factor):
    class Loss:
        def forward(self, prediction, target):
            self.difference = prediction - target
            return (self.difference**2).mean()

        def backward(self):
            return factor * 2 * self.difference / self.difference.size

    assert gradcheck(Loss(), X, X + 1, constants="target").ok == (factor == 1)


def test_dy_may_be_given():
    def backward(dy, x):
        return 2 * x                                                  # it ignores dy, which is 1 in training

    assert not gradcheck((lambda x: ((x * x).sum(), x), backward), X).ok
    assert gradcheck((lambda x: ((x * x).sum(), x), backward), X, dy=1.0).ok
    with pytest.raises(ValueError, match=r"wrong structure of dy: found the shape \(2,\) for result"):
        gradcheck((lambda x: ((x * x).sum(), x), backward), X, dy=np.ones(2))


# ---- random numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generator", ["numpy", "python", "own", "named"])
def test_dropout_draws_the_same_numbers_in_every_call(generator):
    named = np.random.default_rng(3)

    class Dropout:
        def __init__(self):
            self.rng = np.random.default_rng(0)

        def forward(self, x):
            draw = {"numpy": np.random.rand, "own": lambda n: self.rng.random(n), "named": named.random,
                    "python": lambda n: np.array([random.random() for _ in range(n)])}[generator]
            self.mask = draw(x.size).reshape(x.shape) > 0.3
            return x * self.mask

        def backward(self, dy):
            return dy * self.mask

    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert gradcheck(Dropout(), X, rng=named).ok
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    if generator == "named":
        with pytest.raises(ValueError, match="the forward is random"):
            gradcheck(Dropout(), X)
