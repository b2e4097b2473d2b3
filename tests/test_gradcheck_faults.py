"""Code on which the checker was once wrong: by kind, each with a right and a wrong version."""

import collections
import threading

import numpy as np
import pytest

from minivit import gradcheck, layers

X = np.random.default_rng(0).standard_normal((3, 5))


def pair(f, g):
    """Return a pair of functions whose cache is x."""
    return (lambda x: (f(x), x)), g


def wrong_rows(report):
    return [row.tensor for row in report.rows if not row.ok]


class Linear:
    def __init__(self, W):
        self.W = W

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dy):
        self.dW = self.x.T @ dy
        return dy @ self.W.T


# ---- dy is independent of the user's random numbers -----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_backward_that_returns_x_is_wrong_though_x_comes_from_the_seed_of_the_check(seed):
    x = np.random.default_rng(seed).standard_normal((3, 5))
    assert not gradcheck((lambda x: (x.copy(), x), lambda dy, x: x), x, seed=seed).ok


# ---- one array in several places -------------------------------------------------------------------------------------


class Network:
    """It keeps its weights in a dict and hands them to its parts."""

    factor = 1.0

    def __init__(self):
        self.params = {"W": np.ones((5, 4))}
        self.part = Linear(self.params["W"])

    def forward(self, x):
        return self.part.forward(x)

    def backward(self, dy):
        dx = self.part.backward(dy)
        self.grads = {"W": self.factor * self.part.dW}
        return dx


def test_one_array_under_two_names_is_one_tensor():
    report = gradcheck(Network(), X)
    assert report.ok
    assert [(row.tensor, row.aliases) for row in report.rows] == [("x", ()), ("params.W", ("part.W",))]
    assert "the same memory: part.W" in str(report)


def test_the_gradient_nearest_to_the_object_counts():
    network = Network()
    network.factor = 1.001
    assert wrong_rows(gradcheck(network, X)) == ["params.W"]


class Tied:
    """y = tanh(x W) V, where V is W or a view of it. leave: says where the gradient goes."""

    def __init__(self, first, second, leave):
        self.first, self.second, self.leave = Linear(first), Linear(second), leave

    def forward(self, x):
        return self.second.forward(np.tanh(self.first.forward(x)))

    def backward(self, dy):
        dx = self.first.backward(self.second.backward(dy) * (1 - self.second.x**2))
        self.leave(self)
        return dx


def total_of_square(net):
    return net.first.dW + net.second.dW


W = np.random.default_rng(1).standard_normal((5, 4))
S = np.random.default_rng(2).standard_normal((5, 5))
TIED = {
    "the total in a dict": (S, S, lambda net: setattr(net, "grads", {"W": total_of_square(net)}), True),
    "the total in the first": (S, S, lambda net: setattr(net.first, "dW", total_of_square(net)), True),
    "halves": (S, S, lambda net: None, False),
    "a wrong total": (S, S, lambda net: setattr(net, "grads", {"W": 1.001 * total_of_square(net)}), False),
    "transposed, total in the first": (
        W, W.T, lambda net: setattr(net.first, "dW", net.first.dW + net.second.dW.T), True),
    "transposed, total in the second": (
        W, W.T, lambda net: setattr(net.second, "dW", net.first.dW.T + net.second.dW), True),
    "transposed, total in both": (
        W, W.T, lambda net: (setattr(net.second, "dW", net.first.dW.T + net.second.dW),
                             setattr(net.first, "dW", net.second.dW.T)), True),
    "square, transposed, total in the second": (
        S, S.T, lambda net: setattr(net.second, "dW", net.first.dW.T + net.second.dW), True),
    "square, not transposed": (S, S.T, lambda net: setattr(net, "grads", {"W": total_of_square(net)}), False),
    "transposed, halves": (W, W.T, lambda net: None, False),
}


@pytest.mark.parametrize("name", TIED)
def test_tied_weights_need_the_sum_of_both_gradients(name):
    first, second, leave, right = TIED[name]
    report = gradcheck(Tied(first, second, leave), X)
    assert wrong_rows(report) == ([] if right else ["first.W"]), f"\n{report}"


def test_a_hint_says_that_the_gradients_of_tied_weights_must_be_added():
    report = gradcheck(Tied(*TIED["halves"][:3]), X)
    assert report.rows[1].hint == ("the sum of the gradients of first.W and second.W is right: they are one array, "
                                   "whose gradient is the sum of all contributions")


class Flat:
    """All parameters are slices of one vector."""

    def __init__(self, leave):
        self.theta, self.leave = np.ones(14), leave
        self.W, self.b, self.c = self.theta[:10].reshape(5, 2), self.theta[10:12], self.theta[12:]

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b * self.c

    def backward(self, dy):
        self.leave(self, self.x.T @ dy, dy.sum(axis=0) * self.c, dy.sum(axis=0) * self.b)
        return dy @ self.W.T


@pytest.mark.parametrize("factor", [1, 1.001])
@pytest.mark.parametrize("where", ["the vector", "the slices", "both"])
def test_slices_of_one_vector_are_checked(where, factor):
    def leave(self, dW, db, dc):
        if where != "the slices":
            self.dtheta = np.concatenate([factor * dW.reshape(-1), db, dc])
        if where != "the vector":
            self.dW, self.db, self.dc = factor * dW, db, dc

    wrong = {"the vector": ["theta"], "the slices": ["W"], "both": ["theta", "W"]}[where]
    assert wrong_rows(gradcheck(Flat(leave), X)) == ([] if factor == 1 else wrong)


def test_a_slice_without_any_gradient_is_missed():
    def leave(self, dW, db, dc):
        self.dW, self.db = dW, db

    with pytest.raises(ValueError, match="missing gradient of theta, c"):
        gradcheck(Flat(leave), X)


def test_overlapping_slices_with_gradients_of_their_own_are_refused_by_name():
    class Overlapping:
        def __init__(self):
            self.all = np.ones(8)
            self.a, self.b = self.all[:5], self.all[3:]

        def forward(self, x):
            self.x = x
            return x * self.a * self.b

        def backward(self, dy):
            self.da, self.db = (dy * self.x * self.b).sum(axis=0), (dy * self.x * self.a).sum(axis=0)
            return dy * self.a * self.b

    with pytest.raises(TypeError, match="views that overlap cannot be told apart: found a and b"):
        gradcheck(Overlapping(), X)


# ---- no parameter is passed over -------------------------------------------------------------------------------------


class Slope:
    """A leaky ReLU whose slope is learned."""

    def __init__(self, alpha, gradient=None):
        self.alpha, self.given = alpha, gradient

    def forward(self, x):
        self.x = x
        return np.where(x > 0, x, self.alpha * x)

    def backward(self, dy):
        right = float((dy * self.x * (self.x <= 0)).sum())
        self.dalpha = right if self.given is None else self.given
        return np.where(self.x > 0, dy, self.alpha * dy)


def test_a_single_number_may_be_a_parameter():
    report = gradcheck(Slope(0.25), X)
    assert report.ok
    assert [row.tensor for row in report.rows] == ["x", "alpha"]
    assert wrong_rows(gradcheck(Slope(0.25, 123.0), X)) == ["alpha"]


def test_a_whole_number_with_a_gradient_is_an_error():
    with pytest.raises(ValueError, match="gradients of unknown tensors: found dalpha after the backward"):
        gradcheck(Slope(1), X)


def test_gradients_without_a_parameter_are_an_error_that_names_all():
    class Orphans(Network):
        def backward(self, dy):
            dx = super().backward(dy)
            self.grads |= {"bias": np.ones(4), "scale": 2.0}
            return dx

    with pytest.raises(ValueError, match=r"found grads\['bias'\], grads\['scale'\] after the backward"):
        gradcheck(Orphans(), X)


@pytest.mark.parametrize("factor", [1, 1.001])
def test_weights_that_the_first_forward_makes_are_checked(factor):
    class Lazy:
        W = None

        def forward(self, x):
            if self.W is None:
                self.W = np.random.default_rng().random((x.shape[1], 2), np.float32)
            self.x = x
            return x @ self.W

        def backward(self, dy):
            self.dW = factor * self.x.T @ dy
            return dy @ self.W.T

    report = gradcheck(Lazy(), X)
    assert [row.tensor for row in report.rows] == ["x", "W"]
    assert wrong_rows(report) == ([] if factor == 1 else ["W"])


HIDDEN = {
    "a dict in a part": lambda w: type("Part", (), {"__init__": lambda self: setattr(self, "p", {"w": w})})(),
    "a deque": lambda w: collections.deque([w]),
    "an object array": lambda w: np.array([w, None], dtype=object),
    "a nested list": lambda w: [[("a", w)]],
}


@pytest.mark.parametrize("name", HIDDEN)
def test_an_array_anywhere_in_an_object_needs_a_gradient(name):
    w = np.ones(5)

    class Hiding:
        def __init__(self):
            self.held = HIDDEN[name](w)

        def forward(self, x):
            return 2 * x

        def backward(self, dy):
            return 2 * dy

    with pytest.raises(ValueError, match="missing gradient of held"):
        gradcheck(Hiding(), X)
    report = gradcheck(Hiding(), X, constants="held")
    assert report.ok
    assert list(report.inventory.values()) == ["constant"]


def test_all_missing_gradients_are_named_at_once_and_patterns_name_constants():
    class Many:
        def __init__(self):
            self.running_mean, self.running_var, self.mask = np.zeros(5), np.ones(5), np.ones(5)

        def forward(self, x):
            return x * self.mask

        def backward(self, dy):
            return dy * self.mask

    with pytest.raises(ValueError, match=r"missing gradient of running_mean, running_var, mask: .*"
                                         r"constants=\('running_mean', 'running_var', 'mask'\)"):
        gradcheck(Many(), X)
    assert gradcheck(Many(), X, constants=("running_*", "mask")).ok


# ---- float32 ---------------------------------------------------------------------------------------------------------


def test_a_wrong_gradient_at_zero_is_no_float32():
    assert wrong_rows(gradcheck(pair(lambda x: x * x, lambda dy, x: (2 * x + 1) * dy), np.zeros(3))) == ["x"]


def tanh_in(dtype, factor=1.0):
    return pair(lambda x: np.tanh(x.astype(dtype)).astype(float), lambda dy, x: factor * dy * (1 - np.tanh(x) ** 2))


def test_a_forward_in_float32_is_checked_to_a_tolerance_that_its_noise_allows():
    assert gradcheck(tanh_in("f4"), X, tolerance=1e-3).ok
    assert wrong_rows(gradcheck(tanh_in("f4", 1.05), X, tolerance=1e-3)) == ["x"]
    assert wrong_rows(gradcheck(tanh_in("f4", 1.005), X, tolerance=1e-3)) == ["x"]


@pytest.mark.parametrize("dtype", ["f4", "f2"])
def test_a_forward_in_float32_cannot_be_checked_to_the_usual_tolerance(dtype):
    with pytest.raises(ValueError, match=r"the noise of the forward hides small changes of x: .*pass tolerance="):
        gradcheck(tanh_in(dtype), X)


def test_the_tolerance_that_the_error_proposes_is_enough():
    with pytest.raises(ValueError, match="the noise of the forward") as error:
        gradcheck(tanh_in("f4"), X)
    assert gradcheck(tanh_in("f4"), X, tolerance=float(str(error.value).rpartition("=")[2])).ok


# ---- the complex step ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("f", "g"), [
    (lambda x: x * np.abs(x), lambda dy, x: dy * np.abs(x)),
    (lambda x: x + np.abs(x), lambda dy, x: dy * (1 + np.sign(x))),
    (lambda x: x * np.conj(x), lambda dy, x: 2 * x * dy),
    (lambda x: x - x.var(axis=-1, keepdims=True), lambda dy, x: dy),
], ids=["half the gradient", "abs", "conj", "var"])
def test_the_complex_step_refuses_what_is_not_analytic(f, g):
    with pytest.raises(TypeError, match=r"found the slope .* by the complex step and .* by real steps"):
        gradcheck(pair(f, g), X, method="complex")


# ---- gradients that are zero -----------------------------------------------------------------------------------------


class BatchNorm:
    def __init__(self, factor=1.0):
        self.b, self.factor = np.zeros(5), factor

    def forward(self, x):
        z = x + self.b
        self.rstd = 1 / np.sqrt(z.var(axis=0) + 1e-5)
        self.xhat = (z - z.mean(axis=0)) * self.rstd
        return self.xhat

    def backward(self, dy):
        dz = self.rstd * (dy - dy.mean(axis=0) - self.xhat * (dy * self.xhat).mean(axis=0))
        self.db = dz.sum(axis=0) + (self.factor - 1)
        return dz


@pytest.mark.parametrize("seed", range(8))
def test_a_bias_before_batch_norm_has_a_gradient_of_zero_as_far_as_can_be_measured(seed):
    x = 100 + np.random.default_rng(seed).standard_normal((8, 5))
    report = gradcheck(BatchNorm(), x, independent=False, seed=seed)
    assert report.ok
    assert "ok, zero to within " in str(report)
    assert wrong_rows(gradcheck(BatchNorm(1 + 1e-6), x, independent=False, seed=seed)) == ["b"]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("method", ["richardson", "directional"])
def test_a_layer_norm_far_from_zero_is_checked(seed, method):
    x = 1e4 + np.random.default_rng(seed).standard_normal((3, 4, 8))
    report = gradcheck(layers.LayerNorm(8), x, seed=seed, method=method)
    assert report.ok, f"\n{report}"


@pytest.mark.parametrize("seed", range(4))
def test_the_bias_of_the_keys_in_attention_has_a_gradient_of_zero(seed):
    x = np.random.default_rng(seed).standard_normal((2, 5, 24))
    assert gradcheck(layers.Attention(24, 3), x, seed=seed, samples=100).ok


def test_a_parameter_without_use_is_said_to_be_one():
    class Unused(Network):
        def __init__(self):
            super().__init__()
            self.u = np.ones(3)

        def backward(self, dy):
            self.du = np.zeros(3)
            return super().backward(dy)

    assert "ok, zero: the result does not depend on it" in str(gradcheck(Unused(), X))


# ---- parameters that must stay positive ------------------------------------------------------------------------------


class Gaussian:
    def __init__(self, factor=1.0):
        self.mean, self.sigma, self.factor = np.zeros(5), np.full(5, 0.1), factor

    def forward(self, x):
        self.z = (x - self.mean) / self.sigma
        return -0.5 * self.z**2 - np.log(self.sigma)

    def backward(self, dy):
        self.dmean = (dy * self.z / self.sigma).sum(axis=0)
        self.dsigma = self.factor * (dy * (self.z**2 - 1) / self.sigma).sum(axis=0)
        return -dy * self.z / self.sigma


@pytest.mark.parametrize("factor", [1, 1.001])
def test_parameters_at_which_the_forward_fails_keep_their_values_with_a_note(factor):
    report = gradcheck(Gaussian(factor), X)
    assert wrong_rows(report) == ([] if factor == 1 else ["sigma"])
    assert "note: sigma: at the given values, because the forward fails or returns NaN at random ones" in str(report)
    assert gradcheck(Gaussian(), X, keep="sig*").notes == ()
    with pytest.raises(ValueError, match="unknown parameter to keep 'sigm'"):
        gradcheck(Gaussian(), X, keep="sigm")


# ---- infinite constants ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1, 1.001])
def test_a_constant_mask_may_be_minus_infinity(factor):
    def softmax(x, mask):
        z = x + mask
        p = np.exp(z - z.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        return p, p

    target = softmax, lambda dy, p: factor * p * (dy - (dy * p).sum(axis=-1, keepdims=True))
    mask = np.where(np.tri(5) > 0, 0, -np.inf)
    assert gradcheck(target, X[:, :, None] * X[0], mask, constants="mask").ok == (factor == 1)
    with pytest.raises(ValueError, match=r"wrong values in mask: .*constants=\('mask',\)"):
        gradcheck(target, X[:, :, None] * X[0], mask)


# ---- a verdict for each entry ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("total", [False, True])
def test_a_small_entry_beside_a_large_one_is_checked(total):
    scale = np.array([1e8, 1.0])

    def forward(x):
        return (x * scale).sum() if total else x * scale

    x = np.array([0.3, 0.4])
    assert gradcheck(pair(forward, lambda dy, x: dy * scale), x).ok
    report = gradcheck(pair(forward, lambda dy, x: dy * np.array([1e8, 0.0])), x)
    assert report.rows[0].index == (1,)
    assert not report.ok


@pytest.mark.parametrize("nonlinear", [lambda dy: np.clip(dy, -5, 5), lambda dy: dy + 1e-3,
                                       lambda dy: dy * min(1, 100 / np.linalg.norm(dy))],
                         ids=["clips", "adds", "limits the norm"])
def test_a_backward_that_is_not_linear_in_dy_is_wrong(nonlinear):
    report = gradcheck(pair(lambda x: x * x, lambda dy, x: 2 * x * nonlinear(dy)), X)
    assert wrong_rows(report) == ["x"]


def test_the_report_says_that_a_backward_is_not_linear():
    report = gradcheck(pair(lambda x: x * x, lambda dy, x: 2 * x * np.clip(dy, -9, 9)), X)
    assert "NOT LINEAR in dy" in str(report)
    assert "does it clip or normalise dy" in report.rows[0].hint


@pytest.mark.parametrize("scale", [1e155, 1e-300])
def test_the_scale_may_be_extreme(scale):
    assert gradcheck(pair(lambda x: scale * x, lambda dy, x: scale * dy), X).ok
    assert not gradcheck(pair(lambda x: scale * x, lambda dy, x: 2 * scale * dy), X).ok


@pytest.mark.parametrize(("slope", "right"), [(0, True), (0.3, True), (1, True), (5, False), (1.5, False), (-1, False)])
def test_a_slope_at_a_kink_must_be_a_subgradient(slope, right):
    x = X.copy()
    x[0, :2] = 0
    report = gradcheck(pair(lambda x: np.maximum(x, 0), lambda dy, x: dy * np.where(x == 0, slope, x > 0)), x)
    assert report.ok == right
    assert report.rows[0].kinks == (2 if right else 0)


# ---- small faults ----------------------------------------------------------------------------------------------------


def test_a_constant_may_hold_nan():
    class Memory(Network):
        def __init__(self):
            super().__init__()
            self.memo = np.full(5, np.nan)

    assert gradcheck(Memory(), X, constants="memo").ok


def test_a_lock_among_the_attributes_is_shared_with_the_copy():
    network = Network()
    network.lock = threading.Lock()
    assert gradcheck(network, X).ok


class Settings:
    """A layer whose numbers are settings and results, no parameters, though some look like gradients of others."""

    norm, ecay = 2.0, 0.3

    def __init__(self):
        self.w, self.decay = np.ones(5), 0.1

    def forward(self, x):
        self.x = x
        return x * self.w

    def backward(self, dy):
        self.dw = (dy * self.x).sum(axis=0)
        self.grad_norm = float(np.linalg.norm(self.dw))
        return dy * self.w


def test_numbers_that_the_result_does_not_depend_on_are_no_parameters():
    report = gradcheck(Settings(), X)
    assert report.ok
    assert [row.tensor for row in report.rows] == ["x", "w"]


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero")
@pytest.mark.parametrize("factor", [1, 1.001])
@pytest.mark.parametrize(("f", "slope"), [
    (np.log, lambda x: 1 / x), (np.sqrt, lambda x: 0.5 / np.sqrt(x)), (lambda x: 1 / x, lambda x: -1 / x**2)],
    ids=["log", "sqrt", "reciprocal"])
def test_an_entry_close_to_the_edge_of_a_domain_is_checked(f, slope, factor):
    x = np.array([1.0, 2.0, 0.5, 1e-9])
    wrong = np.array([1, 1, 1, factor])
    assert gradcheck(pair(f, lambda dy, x: dy * wrong * slope(x)), x).ok == (factor == 1)


@pytest.mark.parametrize("factor", [1, 1.1])
def test_a_saturated_softmax_is_checked(factor):
    def softmax(x):
        e = np.exp(100 * (x - x.max(axis=1, keepdims=True)))
        return e / e.sum(axis=1, keepdims=True)

    def backward(dy, x):
        p = softmax(x)
        return 100 * factor * p * (dy - (dy * p).sum(axis=1, keepdims=True))

    assert gradcheck(pair(softmax, backward), X).ok == (factor == 1)


@pytest.mark.parametrize("factor", [1, 1.001])
def test_a_cache_that_the_backward_consumes_is_right(factor):
    class Stack:
        def __init__(self):
            self.w, self.saved = np.ones(5), []

        def forward(self, x):
            self.saved.append(x)
            return x * self.w

        def backward(self, dy):
            self.dw = factor * (dy * self.saved.pop()).sum(axis=0)
            return dy * self.w

    assert gradcheck(Stack(), X).ok == (factor == 1)


# ---- round-off that hides slopes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("total", [False, True])
def test_the_noise_of_one_entry_excuses_no_other_entry(total):
    a, s = np.random.default_rng(0).standard_normal(200), np.sin(np.arange(200))
    b = 1e4 * a

    def forward(x):
        y = np.array([1e-7 * x[0], 1e-7 * x[1], np.sum(b * (1 + x[2] * s / 1e4)) - b.sum(), 1e-7 * x[3]])
        return y.sum() if total else y

    x = np.array([0.7, -1.3, 0.4, 2.0])
    assert gradcheck(pair(forward, lambda dy, x: dy * np.array([1e-7, 1e-7, np.sum(a * s), 1e-7])), x).ok
    assert not gradcheck(pair(forward, lambda dy, x: dy * np.array([0, 0, np.sum(a * s), 0])), x).ok


@pytest.mark.parametrize(("offset", "slope", "factor"), [(1e12, 1e-6, 1), (1e12, 1e-6, 50), (1e15, 1.0, 1),
                                                         (1e15, 1.0, -1)])
@pytest.mark.parametrize("x", [X, np.array(0.7), np.array([0.3, -1.2])], ids=["matrix", "number", "vector"])
def test_a_slope_that_drowns_in_the_result_is_not_checked(offset, slope, factor, x):
    for target in (pair(lambda x: offset + slope * x, lambda dy, x: factor * slope * dy),
                   (lambda x: float(np.sum(offset + slope * x)), lambda x: factor * slope * np.ones_like(x))):
        report = gradcheck(target, x)
        assert not report.ok
        assert report.rows[0].problem == "NOT CHECKED"
        assert "not measured" in str(report)


def test_a_gradient_of_zero_at_an_extremum_is_right_although_it_is_computed_with_round_off():
    for target in (pair(np.cos, lambda dy, x: -np.sin(x) * dy), (lambda x: np.cos(x).sum(), lambda x: -np.sin(x))):
        for x in (np.array(np.pi), np.full(4, np.pi)):
            assert gradcheck(target, x).ok


def test_entries_that_round_off_hides_are_not_said_to_lie_at_kinks():
    rows = [gradcheck(tanh_in("f4"), np.random.default_rng(seed).standard_normal((3, 4)), seed=seed,
                      tolerance=1e-5).rows[0] for seed in (2, 4)]
    assert [row.kinks for row in rows] == [0, 0]
    assert all(row.ok and row.unmeasured and f", {row.unmeasured} not measured" in row.verdict for row in rows)


# ---- a backward that updates -----------------------------------------------------------------------------------------


class Updates:
    """Its backward also makes the step of gradient descent, without keeping the gradient."""

    def __init__(self, update):
        self.W, self.scale, self.velocity, self.update = np.ones((5, 4)), 1.0, np.zeros((5, 4)), update

    def forward(self, x):
        self.x = x
        return self.scale * x @ self.W

    def backward(self, dy):
        dx = self.scale * dy @ self.W.T
        self.update(self, 7 * self.scale * self.x.T @ dy)
        return dx


UPDATES = {
    "in place": lambda self, dW: np.subtract(self.W, 0.1 * dW, out=self.W),
    "a new array": lambda self, dW: setattr(self, "W", self.W - 0.1 * dW),
}


@pytest.mark.parametrize("name", UPDATES)
def test_a_backward_that_updates_a_weight_is_refused(name):
    with pytest.raises(ValueError, match=r"the backward changes W: .*because the forward reads it"):
        gradcheck(Updates(UPDATES[name]), X)


def test_a_backward_that_updates_a_number_is_refused():
    with pytest.raises(ValueError, match="the backward changes scale: "):
        gradcheck(Updates(lambda self, dW: setattr(self, "scale", self.scale - 0.1)), X, constants=("W", "velocity"))


@pytest.mark.parametrize("factor", [1, 7])
def test_a_backward_may_change_what_the_forward_does_not_read(factor):
    def update(self, dW):
        self.dW = factor / 7 * dW
        self.velocity = 0.9 * self.velocity + self.dW

    report = gradcheck(Updates(update), X)
    assert wrong_rows(report) == ([] if factor == 1 else ["W"])
    assert report.inventory["velocity"] == "overwritten by the backward"


# ---- hints leave the tensors as they are -----------------------------------------------------------------------------


def test_a_forward_that_fails_during_the_search_for_a_hint_leaves_the_next_verdicts_right():
    x0 = np.array([0.3, -1.2, 0.7, 1.1])

    def forward(x, w):
        if np.abs(x - x0).max() > 0.05:
            raise ValueError("out of domain")
        return np.sum(x**3 + x * w**2), (x, w)

    def backward(dy, cache):
        x, w = cache
        return dy * (3 * x**2 + w**2 + np.sin(5 * x)), dy * 2 * x * w

    assert wrong_rows(gradcheck((forward, backward), x0, x0 + 3)) == ["x"]


# ---- a tensor that drowns in the result ----------------------------------------------------------------


class Offset:
    """y = offset + w: with a large offset, no change of w reaches the result."""

    def __init__(self, offset, factor):
        self.w, self.offset, self.factor = np.ones(3), offset, factor

    def forward(self):
        return self.offset + self.w

    def backward(self, dy):
        self.dw = self.factor * dy


@pytest.mark.parametrize("factor", [1.0, 0.0, 2.0])
@pytest.mark.parametrize("offset", [1e15, -1e17])
def test_a_parameter_that_drowns_in_the_result_is_not_checked(offset, factor):
    assert "NOT CHECKED" in str(gradcheck(Offset(offset, factor)))
    assert gradcheck(Offset(1e3, factor)).ok == (factor == 1)


@pytest.mark.parametrize("f", [np.floor, lambda x: 7 + 0 * x, lambda x: 1.0 * (x > 0) - 5e5])
def test_a_function_that_is_constant_near_x_does_not_drown(f):
    assert gradcheck(pair(f, lambda dy, x: 0 * dy), X).ok
