"""Each named check finds mistakes that the slopes do not show, and accepts right code that looks suspicious."""

import re
from pathlib import Path

import numpy as np
import pytest
from strangers.collection import STRANGERS

import minivit
from minivit.gradient_checking.named_checks import CHECKS, NamedCheck, transposition_error
from minivit.layers import Block, Dropout, LayerNorm

RNG = np.random.default_rng(5)
X = RNG.standard_normal((4, 3))
W = RNG.standard_normal((3, 2))
OPTIONAL = [name for name, check in CHECKS.items() if not check.default]


def found(report, name):
    """The finding of a check in a report; None if it was not shown."""
    return next((finding for finding in report.checks if finding.check == name), None)


def only_failure(target, *inputs, name, **options):
    """The text of the finding of the one check that fails, on a target whose slopes are right."""
    assert minivit.gradcheck(target, *inputs, checks="none", **options).ok
    wanted = [name] if name in OPTIONAL or CHECKS[name].strict else []
    report = minivit.gradcheck(target, *inputs, checks=wanted, **options)
    assert not report.ok
    assert [finding.check for finding in report.failed_checks] == [name], report
    assert f"check {name}: WRONG" in str(report)
    assert f"check {name} FAILS" in str(report)
    assert f"check {name} FAILS" in repr(report)
    assert "all tensors pass" in str(report)
    return found(report, name).text


def passes(target, *inputs, name, checks=None, **options):
    """The text of a check that passes."""
    report = minivit.gradcheck(target, *inputs, checks=[name] if checks is None else checks, **options)
    assert report.ok, report
    assert found(report, name).verdict == "ok", report
    return found(report, name).text


class Linear:
    """A right layer; the tests derive wrong ones from it."""

    def __init__(self, weight=W):
        self.W = weight

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dy):
        self.dW = self.x.T @ dy
        return dy @ self.W.T


def square(dy_to_dx=lambda dy, x: 2 * x * dy, forward=lambda x: x**2):
    """The pair of y = x**2, with another backward or forward."""
    return lambda x: (forward(x), x), dy_to_dx


# ---- which checks run, and how they are shown ------------------------------------------------------------


def test_cheap_checks_run_by_default_and_passes_take_one_line():
    report = minivit.gradcheck(Linear(), X)
    assert [finding.check for finding in report.checks] == ["determinism", "linearity", "zero_dy", "dy_layouts",
                                                           "input_layouts", "aliasing"]
    assert "\nchecks ok: determinism, linearity, zero_dy, dy_layouts, input_layouts, aliasing\n" in str(report)
    assert all(finding.text for finding in report.checks)


def test_a_check_that_is_named_has_a_line_of_its_own():
    text = str(minivit.gradcheck(Linear(), X, checks=("batch", "linearity")))
    assert re.search(r"\ncheck batch: ok, images 0, (\d, )?3 alone give the same results and gradients\n", text)
    assert "\ncheck linearity: ok, " in text
    assert "\nchecks ok: determinism, zero_dy, " in text


def test_checks_are_left_out_by_a_minus_and_none_and_all_are_none_and_all():
    assert minivit.gradcheck(Linear(), X, checks="none").checks == ()
    shown = {finding.check for finding in minivit.gradcheck(Linear(), X, checks=("-aliasing", "-zero_dy")).checks}
    assert shown == {"determinism", "linearity", "dy_layouts", "input_layouts"}
    assert [f.check for f in minivit.gradcheck(Linear(), X, checks="all").checks] == list(CHECKS)
    assert [f.check for f in minivit.gradcheck(Linear(), X, checks=("none", "batch")).checks] == ["batch"]


def test_an_unknown_check_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match=r"unknown check 'bath': did you mean 'batch'\? known: all, none, determinism"):
        minivit.gradcheck(None, checks="bath")
    with pytest.raises(ValueError, match="unknown check 'bath'"):
        minivit.gradcheck(None, checks=["-bath"])


def test_a_check_that_does_not_apply_is_shown_only_if_it_was_asked_for():
    assert found(minivit.gradcheck(Linear(), X), "jvp") is None
    finding = found(minivit.gradcheck(Linear(), X, checks="jvp"), "jvp")
    assert (finding.verdict, finding.text, finding.ok) == ("not run", "there is no jvp", True)


def test_an_error_in_a_check_is_a_finding_and_not_an_error():
    def broken(subject):
        raise KeyError("no\n such key")

    finding = NamedCheck("x", "?", "free", broken).finding(None, asked=True)
    assert finding.verdict == "not run"
    assert finding.text == "it ended with KeyError: 'no\\n such key'"


def test_an_error_in_a_default_check_is_shown_although_nobody_asked_for_it():
    def backward(dy, x):
        if not dy.any():
            raise ZeroDivisionError("the norm is 0")
        return 2 * x * dy

    report = minivit.gradcheck(square(backward), X)
    assert report.ok
    assert "\ncheck zero_dy: not run, it ended with ZeroDivisionError: the norm is 0\n" in str(report)


def test_each_check_says_what_it_asks_and_what_it_costs():
    for check in CHECKS.values():
        assert check.question.endswith("?")
        assert "step" in check.cost or "forwards" in check.cost or "check" in check.cost
        module = check.run.__module__
        assert len(__import__(module, fromlist=["x"]).__doc__) > 500, f"{module} derives nothing"


def test_the_reference_lists_every_check_and_whether_it_runs_by_default():
    page = (Path(minivit.__file__).parents[1] / "docs" / "gradient-checking-reference.md").read_text(encoding="utf-8")
    section = page.split("## Named checks")[1].split("\n### ")[0]
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", section, re.MULTILINE)
    assert {name for name, _ in rows} == set(CHECKS)
    assert {name for name, default in rows if default == "yes" or default.startswith("if there is")} == {
        name for name, check in CHECKS.items() if check.default}


# ---- right code -----------------------------------------------------------------------------------------


def assert_no_alarm(report):
    """No check fails, notes anything, or ends with an error."""
    assert report.ok, report
    assert [str(f) for f in report.checks if f.verdict == "note" or "ended with" in f.text] == []


@pytest.mark.parametrize("stranger", STRANGERS, ids=str)
def test_strangers_right_layers_raise_no_alarm_in_the_default_checks(stranger):
    assert_no_alarm(stranger.run(minivit.gradcheck, seed=3))


@pytest.mark.slow
@pytest.mark.parametrize("stranger", STRANGERS, ids=str)
def test_strangers_right_layers_fail_in_no_check(stranger):
    report = stranger.run(lambda *inputs, **options: minivit.gradcheck(*inputs, checks="all", **options))
    assert report.ok, report


@pytest.mark.slow
def test_all_ops_layers_and_models_of_this_project_fail_in_no_check():
    from minivit.gradcheck_catalogue.catalogue import select

    for check in select(()):
        report = check.report(method="directional", checks="all")
        assert report.ok, f"{check.name}\n{report}"


# ---- determinism ----------------------------------------------------------------------------------------


def test_a_cache_that_is_made_once_is_found():
    class Stale(Linear):
        x = None

        def forward(self, x):
            self.x = x if self.x is None else self.x
            return x @ self.W

    text = only_failure(Stale(), X, name="determinism")
    assert "after a step with other inputs the gradient of W differs by" in text


def test_an_accumulated_gradient_of_an_input_is_found_but_one_of_a_parameter_may_add_up():
    class Added(Linear):
        def __init__(self):
            super().__init__()
            self.dW, self.dx = np.zeros_like(W), 0.0

        def backward(self, dy):
            self.dW += self.x.T @ dy
            return dy @ self.W.T

    class AddedInput(Added):
        def backward(self, dy):
            super().backward(dy)
            self.dx = self.dx + dy @ self.W.T
            return self.dx

    passes(Added(), X, name="determinism")
    assert "the gradient of x differs" in only_failure(AddedInput(), X, name="determinism")


# ---- linearity and zeros --------------------------------------------------------------------------------


@pytest.mark.parametrize(("backward", "said"), [
    (lambda dy, x: np.where(np.abs(dy) < 1e-6, 0, 2 * x * dy), "not proportional to a dy near 9e-10"),
    (lambda dy, x: np.where((dy == 0).any(), 0, 2 * x * dy), "the sum of two dy is not the sum of both gradients"),
    (lambda dy, x: 2 * x * dy * np.where((dy == 0).any() and dy.any(), np.nan, 1), "holds NaN or infinity for a dy of"),
], ids=["drops tiny entries", "a short cut for zeros", "NaN for zeros"])
def test_a_backward_that_is_not_linear_in_dy_is_found(backward, said):
    assert said in only_failure(square(backward), X, name="linearity")


@pytest.mark.parametrize(("backward", "said"), [
    (lambda dy, x: 2 * x * dy * dy.sum() / dy.sum(), "NaN or infinity for a dy of zeros"),
    (lambda dy, x: 2 * x * dy if dy.any() else np.ones_like(x), "is not zero for a dy of zeros"),
], ids=["divides by dy", "a default"])
def test_a_backward_that_fails_for_a_dy_of_zeros_is_found(backward, said):
    with np.errstate(all="ignore"):
        assert said in only_failure(square(backward), X, name="zero_dy")


def test_dy_is_not_changed_where_only_one_is_allowed():
    names = ("linearity", "zero_dy", "dy_layouts")
    report = minivit.gradcheck((lambda x: (x**2).sum(), lambda x: 2 * x), X, checks=names)
    assert {finding.verdict for finding in report.checks if finding.asked} == {"not run"}
    given = minivit.gradcheck(square(), X, dy=np.abs(X), checks="linearity")
    assert found(given, "linearity").text == "dy is given, or the backward takes none"


# ---- layouts --------------------------------------------------------------------------------------------


def in_memory(x):
    """Read an array in the order of memory, as C code without strides does."""
    return np.ravel(x, order="K").reshape(x.shape)


def test_a_backward_that_reads_dy_in_the_order_of_memory_is_found():
    text = only_failure(square(lambda dy, x: 2 * x * in_memory(dy)), X, name="dy_layouts")
    assert "equal dy in Fortran order: the gradient of x differs by" in text


def test_a_forward_that_reads_its_input_in_the_order_of_memory_is_found():
    def forward(x):
        return in_memory(x) @ W, x.shape

    text = only_failure((forward, lambda dy, shape: dy @ W.T), X, name="input_layouts")
    assert "equal inputs in Fortran order: result differs by" in text


def test_code_that_ignores_a_stride_of_zero_is_found():
    def forward(x):
        memory = np.lib.stride_tricks.as_strided(x, x.shape, np.empty(x.shape).strides) if x.strides[0] == 0 else x
        return memory**2, x

    big = np.arange(1.0, 1 + 4 * 3).reshape(4, 3)                    # the rows after the first lie behind it in memory
    text = only_failure((forward, lambda dy, x: 2 * x * dy), big, name="input_layouts")
    assert "one place (stride 0)" in text


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_backward_that_takes_a_dy_of_stride_zero_for_another_is_found(scale):
    def backward(dy, x):
        return 2 * x * (1.5 * dy if dy.strides[0] == 0 else dy)

    text = only_failure(square(backward), scale * X, name="dy_layouts")
    assert text.startswith("equal dy in one place (stride 0): the gradient of x differs by 5.0e-01")


def test_reversed_bytes_are_a_check_of_their_own():
    def forward(x):
        return np.frombuffer(x.tobytes(), np.float64).reshape(x.shape) ** 2, x

    target = (forward, lambda dy, x: 2 * x * dy)
    assert "equal reversed bytes in inputs" in only_failure(target, X, name="byte_order")
    assert minivit.gradcheck(target, X).ok
    refused = passes(LayerNorm(3), X, name="byte_order")
    assert "an error for reversed bytes in inputs (TypeError: operations take float32 or float64" in refused


def test_a_layout_that_is_refused_with_an_error_is_a_note():
    def forward(x):
        if not x.flags.c_contiguous:
            raise TypeError("needs a contiguous array")
        return x**2, x

    report = minivit.gradcheck((forward, lambda dy, x: 2 * x * dy), X)
    assert report.ok
    finding = found(report, "input_layouts")
    assert finding.verdict == "note"
    assert "an error for inputs in Fortran order (TypeError: needs a contiguous array), gaps" in finding.text
    assert f"check input_layouts: note, {finding.text}" in str(report)


def test_code_that_writes_into_an_input_and_mends_it_is_refused_read_only_memory_without_a_note():
    def forward(x):
        x += 1
        y = x**2
        x -= 1
        return y, x

    whole_numbers = np.arange(12.0).reshape(4, 3)                     # so that x + 1 - 1 is x
    report = minivit.gradcheck((forward, lambda dy, x: 2 * (x + 1) * dy), whole_numbers)
    assert found(report, "input_layouts").verdict == "ok"
    assert "an error for inputs in read-only memory" in found(report, "input_layouts").text


# ---- aliasing -------------------------------------------------------------------------------------------


def test_a_result_in_a_buffer_that_the_next_call_overwrites_is_a_note():
    class Buffered(Linear):
        def __init__(self):
            super().__init__()
            self.out = np.zeros((4, 2))

        def forward(self, x):
            self.x = x
            self.out[...] = x @ self.W
            return self.out

    report = minivit.gradcheck(Buffered(), X)
    assert report.ok
    assert "note: " not in str(report)
    assert ("check aliasing: note, result will be overwritten by the next call: copy what you keep" in str(report))
    assert "will be overwritten" in only_failure(Buffered(), X, name="aliasing")
    assert minivit.gradcheck(Buffered(), X, checks=("all", "-batch")).ok   # "all" names no check


def test_a_result_that_is_a_view_of_a_parameter_is_a_note_unless_it_is_read_only():
    class Row:
        def __init__(self, locked):
            self.table, self.locked = RNG.standard_normal((4, 3)), locked

        def forward(self, scale):
            self.scale = scale
            view = self.table[1:3] if not self.locked else np.broadcast_to(self.table[1:3], (2, 3))
            return (view, scale * 2)

        def backward(self, d_view, d_scale):
            self.dtable = np.zeros((4, 3))
            self.dtable[1:3] = d_view
            return 2 * d_scale

    text = only_failure(Row(locked=False), np.ones(2), name="aliasing")
    assert "result.0 is a view of table: a change of one changes the other" in text
    assert minivit.gradcheck(Row(locked=True), np.ones(2), checks="aliasing").ok


def test_views_of_inputs_are_harmless():
    reshape = (lambda x: (x.reshape(-1), x.shape), lambda dy, shape: dy.reshape(shape))
    assert passes(reshape, X, name="aliasing") == "result is a view of x"
    assert passes((lambda x: (x, None), lambda dy, cache: dy), X, name="aliasing") == "result is a view of x"
    assert_no_alarm(minivit.gradcheck((lambda x: (x.T, None), lambda dy, cache: dy.T), X))


def test_a_cache_that_the_next_call_overwrites_is_an_error():
    cache = np.zeros_like(X)

    def forward(x):
        cache[...] = x
        return x**2, cache

    report = minivit.gradcheck((forward, lambda dy, cache: 2 * cache * dy), X, checks="none")
    assert report.ok
    report = minivit.gradcheck((forward, lambda dy, cache: 2 * cache * dy), X)
    assert [finding.check for finding in report.failed_checks] == ["aliasing"]
    assert "the cache of a call is overwritten by the next call" in found(report, "aliasing").text


# ---- batch ----------------------------------------------------------------------------------------------


def squeezed(x):
    return np.squeeze(x - x.mean(axis=1, keepdims=True)), x.shape


def test_a_batch_of_one_whose_axis_vanishes_is_found():
    def backward(dy, shape):
        dy = dy.reshape(shape)
        return dy - dy.mean(axis=1, keepdims=True)

    text = only_failure((squeezed, backward), X, name="batch")
    assert text == "image 0 alone: result has the shape (3,) instead of (1, 3)"


def test_a_gradient_of_a_parameter_that_is_wrong_for_one_image_is_found():
    class Halved(Linear):
        def backward(self, dy):
            dx = super().backward(dy)
            self.dW *= 0.5 if len(dy) == 1 else 1.0
            return dx

    text = only_failure(Halved(), X, name="batch")
    assert text == "image 0 alone: the gradient of W differs by 5.0e-01 of its largest entry"


def test_parameters_and_square_weights_are_not_taken_for_a_batch():
    square_weight = RNG.standard_normal((4, 4))
    pair = (lambda x, w: (x @ w, (x, w)), lambda dy, cache: (dy @ cache[1].T, cache[0].T @ dy))
    x = RNG.standard_normal((4, 4))
    passes(pair, x, square_weight, name="batch")
    passes(pair, square_weight, x, name="batch")
    passes(Linear(), X, name="batch")


def test_labels_and_masks_are_cut_with_their_images():
    def losses(logits, labels, mask):
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        p = exponents / exponents.sum(axis=1, keepdims=True)
        return -mask * np.log(p[np.arange(len(p)), labels]), (p, labels, mask)

    def backward(dy, cache):
        p, labels, mask = cache
        return (p - np.eye(p.shape[1])[labels]) * (dy * mask)[:, None]

    passes((losses, backward), X, np.array([0, 2, 1, 0]), np.array([1, 1, 0, 1]), name="batch")


def test_batch_norm_mixes_images_and_independent_false_says_that_it_may():
    def forward(x):
        xhat = (x - x.mean(axis=0)) / x.std(axis=0)
        return xhat, (xhat, x.std(axis=0))

    def backward(dy, cache):
        xhat, std = cache
        return (dy - dy.mean(axis=0) - xhat * (dy * xhat).mean(axis=0)) / std

    assert "images influence each other: x[0]" in only_failure((forward, backward), X, name="batch")
    assert minivit.gradcheck((forward, backward), X).ok
    assert minivit.gradcheck((forward, backward), X, checks="all").ok
    finding = found(minivit.gradcheck((forward, backward), X, checks="batch", independent=False), "batch")
    assert (finding.verdict, finding.ok) == ("not run", True)


def test_a_batch_of_random_masks_or_without_images_is_not_compared():
    def forward(x):
        mask = generator.random(x.shape) < 0.5
        return x * mask, mask

    generator = np.random.default_rng(0)
    dropout = found(minivit.gradcheck((forward, lambda dy, mask: dy * mask), X, checks="batch", rng=generator), "batch")
    assert "draws random numbers" in dropout.text
    mean = found(minivit.gradcheck((lambda x: (x.mean(), x.shape), lambda dy, shape: np.full(shape, dy / 12)), X,
                                   checks="batch"), "batch")
    assert "no batch of two or more images" in mean.text


# ---- float32 --------------------------------------------------------------------------------------------


def test_a_result_that_becomes_float64_is_found():
    def forward(x):
        y = np.zeros(x.shape)
        y[...] = x**2
        return y, x

    text = only_failure((forward, lambda dy, x: 2 * x * dy), X, name="float32")
    assert text == "of float32 inputs, result is float64: keep the dtype of the inputs in every step"


def test_the_variance_by_squares_loses_the_digits_of_float32():
    x = 300 + X

    def by_squares(x):
        var = (x**2).mean(axis=1) - x.mean(axis=1) ** 2
        return var, x

    def two_pass(x):
        return x.var(axis=1), x

    def backward(dy, x):
        return 2 * (x - x.mean(axis=1, keepdims=True)) * dy[:, None] / x.dtype.type(x.shape[1])

    assert "result in float32 differs from float64 by" in only_failure((by_squares, backward), x, name="float32")
    passes((two_pass, backward), x, name="float32")


def test_a_number_outside_the_range_of_float32_is_found():
    def forward(x):
        big = np.exp(x + 100)
        return np.log(big), big

    text = only_failure((forward, lambda dy, big: dy * (big / big)), X, name="float32")
    assert "holds NaN or infinity: does a number leave the range of float32?" in text


def test_layers_and_parameters_in_float32_are_near_float64():
    assert "all stays float32" in passes(Linear(), X, name="float32")
    passes(Block(width=12, heads=2, mlp_ratio=2), RNG.standard_normal((2, 5, 12)), name="float32")
    passes(LayerNorm(12), 1e3 + RNG.standard_normal((2, 5, 12)), name="float32")
    z = X + 1j * X[::-1]
    passes((lambda z: (z * z, z), lambda dy, z: 2 * np.conj(z) * dy), z, name="float32")


# ---- forward mode ---------------------------------------------------------------------------------------


class WithForwardMode(Linear):
    factor = 1.0

    def jvp(self, dx):
        return self.factor * (dx @ self.W)


def test_a_wrong_jvp_is_found():
    wrong = WithForwardMode()
    wrong.factor = 1.001
    text = only_failure(wrong, X, name="jvp")
    assert text.endswith("jvp is wrong")
    assert "agrees with differences" in passes(WithForwardMode(), X, name="jvp", checks=())


def test_a_jvp_may_take_the_inputs_too_and_return_the_result_and_several_inputs():
    class Product:
        def forward(self, a, b):
            self.a, self.b = a, b
            return a @ b

        def backward(self, dy):
            return dy @ self.b.T, self.a.T @ dy

        def jvp(self, a, b, da, db):
            return a @ b, da @ b + a @ db

    passes(Product(), X, W, name="jvp")


def test_a_third_function_is_a_jvp():
    def three(jvp):
        return lambda x, w: (x @ w, (x, w)), lambda dy, c: (dy @ c[1].T, c[0].T @ dy), jvp

    passes(three(lambda dx, dw, c: dx @ c[1] + c[0] @ dw), X, W, name="jvp")
    assert "direction of w" in only_failure(three(lambda dx, dw, c: dx @ c[1]), X, W, name="jvp")
    plain = (lambda x: np.sin(x), lambda dy, x: np.cos(x) * dy, lambda dx, x: np.cos(x) * dx)
    passes(plain, X, name="jvp")


def test_a_jvp_that_is_exact_only_to_seven_digits_fails_the_dot_product_test():
    wrong = WithForwardMode()
    wrong.factor = 1 + 1e-7                                           # differences allow 1e-6
    text = only_failure(wrong, X, name="jvp")
    assert "not transposes of each other: <v, J u> = " in text


def test_a_jvp_of_another_shape_is_named():
    class Other(Linear):
        def jvp(self, dx):
            return (dx @ self.W)[0]

    assert "jvp returns the shape (2,), expected the shape (4, 2)" in only_failure(Other(), X, name="jvp")


def test_complex_tangents_are_pairs_of_real_ones():
    z = X + 1j * X[::-1]

    def three(jvp):
        return (lambda z: (abs(z) ** 2 * z, z),
                lambda dy, z: 2 * abs(z) ** 2 * dy + z**2 * np.conj(dy), jvp)

    passes(three(lambda dz, z: 2 * abs(z) ** 2 * dz + z**2 * np.conj(dz)), z, name="jvp")
    only_failure(three(lambda dz, z: 2 * abs(z) ** 2 * dz + z**2 * dz), z, name="jvp")


def test_two_functions_are_transposes_or_not():
    assert transposition_error(lambda u: u @ W, lambda v: v @ W.T, X, X @ W) < 1e-14
    assert transposition_error(lambda u: u @ W, lambda v: v @ W.T * 1.001, X, X @ W) > 1e-5
    cumulative = transposition_error(np.cumsum, lambda v: np.cumsum(v[::-1])[::-1], np.zeros(50), np.zeros(50))
    assert cumulative < 1e-14
    assert transposition_error(np.cumsum, np.cumsum, np.zeros(50), np.zeros(50)) > 1e-3
    pair = {"a": X, "b": (W, np.zeros(2, complex))}
    assert transposition_error(lambda u: u, lambda v: v, pair, pair) < 1e-14
    rotated = transposition_error(lambda u: 1j * u, lambda v: 1j * v, np.zeros(3, complex), np.zeros(3, complex))
    assert rotated > 0.1                                              # the transpose of i is -i
    with pytest.raises(ValueError, match=r"wrong shape of what reverse_mode returns: found the shape \(4, 2\)"):
        transposition_error(lambda u: u @ W, lambda v: v, X, X @ W)


# ---- second derivatives ---------------------------------------------------------------------------------


def quartic(hvp):
    return lambda x: (x**4).sum() / 4, lambda x: x**3, hvp


def test_a_wrong_hessian_is_found():
    passes(quartic(lambda x, v: 3 * x**2 * v), X, name="second", checks=())
    text = only_failure(quartic(lambda x, v: 3 * x**2 * v + 1e-3 * v), X, name="second")
    assert text.startswith("hvp: the gradient of x is WRONG at (")


def test_a_hessian_that_is_not_symmetric_is_found():
    a = RNG.standard_normal((4, 4))
    target = (lambda x: x @ a @ x / 2, lambda x: (a + a.T) @ x / 2)
    x = RNG.standard_normal(4)
    passes((*target, lambda x, v: (a + a.T) @ v / 2), x, name="second")
    only_failure((*target, lambda x, v: a @ v), x, name="second")


@pytest.mark.parametrize(("hvp", "said"), [
    (lambda x, v: (3 * x**2 * v)[:2], "hvp: wrong shape of the gradient of x: found (2, 3), expected (4, 3)"),
    (lambda x, v: None, "hvp: missing gradient of x"),
    (lambda x, v: 3 * x**2 * v * np.nan, "hvp: the gradient of x is WRONG at ("),
], ids=["another shape", "nothing", "NaN"])
def test_a_hessian_that_is_no_array_of_numbers_is_found(hvp, said):
    assert only_failure(quartic(hvp), X, name="second").startswith(said)


class Cubic:
    """y = w x**3 with its first and second derivatives."""

    wrong = 0.0

    def __init__(self):
        self.w = RNG.standard_normal(3)

    def forward(self, x):
        self.x = x
        return self.w * x**3

    def backward(self, dy):
        self.dy = dy
        self.dw = (dy * self.x**3).sum(axis=0)
        return 3 * self.w * self.x**2 * dy

    def double_backward(self, ddx):
        return 3 * self.w * self.x**2 * ddx * (1 + self.wrong), 6 * self.w * self.x * self.dy * ddx

    def hvp(self, v):
        return 6 * self.w * self.x * self.dy * v


def test_a_double_backward_is_checked_by_dy_and_by_x():
    text = passes(Cubic(), X, name="second", checks=())
    assert text.startswith("double_backward agrees with differences of the gradient to ")
    assert "; hvp agrees with" in text
    wrong = Cubic()
    wrong.wrong = 1e-3
    assert only_failure(wrong, X, name="second").startswith("double_backward: the gradient of dy is WRONG")

    class Forgets(Cubic):
        def double_backward(self, ddx):
            return 3 * self.w * self.x**2 * ddx, np.zeros_like(self.x)

    assert only_failure(Forgets(), X, name="second").startswith("double_backward: the gradient of x is WRONG")


# ---- parts ----------------------------------------------------------------------------------------------


class Tanh:
    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, dy):
        return dy * (1 - self.y**2)


class Attention:
    def __init__(self, proj):
        self.proj, self.act = proj, Tanh()

    def __call__(self, x):
        return self.act.forward(self.proj.forward(x))

    def backward(self, dy):
        return self.proj.backward(self.act.backward(dy))


class ResidualBlock:
    __slots__ = ("attention",)

    def __init__(self, proj):
        self.attention = Attention(proj)

    def forward(self, x):
        return x + self.attention(x)

    def backward(self, dy):
        return dy + self.attention.backward(dy)


class Net:
    def __init__(self, *projections):
        self.blocks = [ResidualBlock(proj) for proj in projections]
        self.head = {"out": Linear()}

    def forward(self, x):
        for block in self.blocks:
            x = block.forward(x)
        return self.head["out"].forward(x)

    def backward(self, dy):
        dy = self.head["out"].backward(dy)
        for block in self.blocks[::-1]:
            dy = block.backward(dy)
        return dy


class WrongLinear(Linear):
    def backward(self, dy):
        self.dW = self.x.T @ dy
        return dy @ self.W


def projection(cls=Linear):
    return cls(RNG.standard_normal((3, 3)))


def test_the_innermost_wrong_part_is_to_blame():
    report = minivit.gradcheck(Net(projection(), projection(WrongLinear), projection()), X)
    assert not report.ok
    text = found(report, "parts").text
    assert text.startswith("blocks[1].attention.proj is to blame: the gradient of x is wrong (")
    assert f"check parts: note, {text}" in str(report)
    assert found(minivit.gradcheck(Net(projection(WrongLinear)), X, checks="-parts"), "parts") is None


def test_a_wrong_layer_inside_a_block_of_this_project_is_named():
    class WrongProjection(minivit.layers.Linear):
        def backward(self, dy):
            return 1.01 * super().backward(dy)

    block = Block(width=6, heads=2, mlp_ratio=2)
    block.attn.proj.__class__ = WrongProjection
    report = minivit.gradcheck(block, RNG.standard_normal((2, 3, 6)), method="directional")
    assert not report.ok
    said = found(report, "parts").text
    assert said.startswith("attn.proj is to blame: the gradient of x is wrong (the gradient is 1.01 times what")


def test_right_parts_of_a_right_whole():
    text = passes(Net(projection(), projection()), X, name="parts")
    assert text == "9 parts are right with their own activations"
    text = passes(Block(width=6, heads=2, mlp_ratio=2), RNG.standard_normal((2, 3, 6)), name="parts")
    assert text == "14 parts are right with their own activations"


def test_a_wrong_part_whose_gradient_the_whole_does_not_use_is_found():
    class Frozen(Net):
        def forward(self, ids):
            self.ids = ids
            return super().forward(X[ids])

        def backward(self, dy):
            super().backward(dy)

    ids = np.array([0, 1, 2])
    text = only_failure(Frozen(projection(WrongLinear)), ids, name="parts")
    assert text.startswith("blocks[0].attention.proj is to blame: the gradient of x is wrong")


def test_if_all_parts_are_right_the_joint_is_named():
    class NoResidual(ResidualBlock):
        __slots__ = ()

        def backward(self, dy):
            return self.attention.backward(dy)

    class Scaled(Net):
        def backward(self, dy):
            dy = self.blocks[1].backward(self.head["out"].backward(dy))
            return self.blocks[0].backward(1.5 * dy)

    class Forgetful(Net):
        def backward(self, dy):
            self.blocks[0].attention.proj.dW = np.zeros((3, 3))
            return self.blocks[1].backward(self.head["out"].backward(dy))

    class Last(Net):
        def backward(self, dy):
            return 2 * super().backward(dy)

    def said(net):
        report = minivit.gradcheck(net, X)
        assert not report.ok
        return found(report, "parts").text

    two = projection(), projection()
    text = said(Scaled(*two))
    assert text.startswith("3 parts are right with their own activations; the upstream gradient that Scaled hands to "
                           "blocks[0] is wrong: along a direction it is ")
    assert text.endswith("look after the backward of blocks[1]")
    assert said(Forgetful(*two)).endswith("activations; the backward of blocks[0] is not called by Forgetful")
    assert said(Last(*two)).endswith("look at what Last does after the backward of blocks[0]")
    net = Net(*two)
    net.blocks[1] = NoResidual(projection())
    assert said(net).startswith("blocks[1] is to blame: the gradient of x is wrong")


def test_a_part_that_is_used_twice_and_one_with_a_mask():
    class Masked:
        def forward(self, x, mask, scale=2.0):
            self.kept = mask * scale
            return x * self.kept

        def backward(self, dy):
            return dy * self.kept

    class Twice:
        def __init__(self):
            self.act, self.mask, self.last = Tanh(), Masked(), projection(WrongLinear)

        def forward(self, x):
            first = self.act.forward(x)
            self.factor = 1 - first**2
            return self.last.forward(self.mask.forward(self.act.forward(first), np.ones(3), scale=0.5))

        def backward(self, dy):
            return self.act.backward(self.mask.backward(self.last.backward(dy))) * self.factor

    text = found(minivit.gradcheck(Twice(), X), "parts").text
    assert text.startswith("last is to blame")


def test_layers_with_random_numbers_have_right_parts():
    layer = Dropout(0.5)
    report = minivit.gradcheck(layer, X, checks="all")
    assert report.ok, report


# ---- reports --------------------------------------------------------------------------------------------


def test_a_failed_check_makes_assertions_fail_and_is_in_every_form_of_the_report():
    import pickle

    from minivit.testing import assert_gradients

    target = square(lambda dy, x: 2 * x * in_memory(dy))
    with pytest.raises(AssertionError, match=r"check dy_layouts: WRONG, equal dy in Fortran order"):
        assert_gradients(target, X)
    assert assert_gradients(target, X, checks="-dy_layouts").ok
    report = minivit.gradcheck(target, X)
    assert "check dy_layouts: WRONG" in report._repr_html_()
    assert str(pickle.loads(pickle.dumps(report))) == str(report)


def test_empty_tensors_and_single_numbers_are_no_trouble():
    def assert_no_error(report):
        assert report.ok
        assert not any("ended with" in finding.text for finding in report.checks), report

    assert_no_error(minivit.gradcheck((lambda x, w: (x * 1.0, w), lambda dy, w: (dy, np.zeros_like(w))), X,
                                      np.zeros((0, 3)), checks="all"))
    assert_no_error(minivit.gradcheck((lambda x: (x * x, x), lambda dy, x: 2 * dy * x), np.array(2.0), checks="all"))

    class WithEmpty(Linear):
        def __init__(self):
            super().__init__()
            self.b = np.zeros((0, 2))

        def backward(self, dy):
            self.db = np.zeros((0, 2))
            return super().backward(dy)

    assert_no_error(minivit.gradcheck(WithEmpty(), X, checks="all"))


@pytest.mark.filterwarnings("error")
def test_values_outside_a_domain_warn_nobody():
    assert minivit.gradcheck((lambda x: (np.log(x), x), lambda dy, x: dy / x), 1e-3 + np.abs(X), checks="all").ok


def test_checks_of_the_layouts_and_of_the_batch_take_several_results_and_trees():
    def forward(pair):
        return {"product": pair["p"] * pair["q"], "count": 3, "sum": (pair["p"] + pair["q"],)}, pair

    def backward(dy, pair):
        both = dy["sum"][0]
        return {"p": dy["product"] * pair["q"] + both, "q": dy["product"] * pair["p"] + both}

    report = minivit.gradcheck((forward, backward), {"p": X, "q": X + 1}, checks="all")
    assert report.ok
    assert [finding.check for finding in report.checks if finding.verdict != "ok"] == ["jvp", "second", "parts"]
