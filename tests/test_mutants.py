"""Every method of the checker finds every bug of `mutants.py`, in the right tensor."""

import re

import numpy as np
import pytest
from mutants import METHODS, MUTANTS, caught, check_of, report_on, torch_passes

import minivit
from minivit.gradcheck_catalogue import catalogue

each_mutant = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.name}: {m.tensor}: "
                                                                       f"{m.bug}".replace("/", "per"))


def test_there_is_a_mutant_for_every_op_layer_and_family():
    assert {check_of(mutant).family for mutant in MUTANTS} == {check.family for check in catalogue.CHECKS}
    assert len(MUTANTS) >= 60


@pytest.mark.parametrize("method", METHODS)
@each_mutant
def test_the_mutant_is_caught_at_the_right_tensor_and_no_other(mutant, method):
    assert caught(mutant, method)


@pytest.mark.parametrize("check", {m.name: check_of(m) for m in MUTANTS}.values(), ids=lambda check: check.name)
def test_the_check_passes_without_the_bug(check):
    for method in METHODS:
        assert report_on(check, method).ok


@pytest.mark.slow
@pytest.mark.parametrize("check", {m.name: check_of(m) for m in MUTANTS}.values(), ids=lambda check: check.name)
def test_torch_also_passes_without_the_bug(check):
    pytest.importorskip("torch")
    assert torch_passes(check.make(), check)


@pytest.mark.parametrize(("name", "bug", "hint"), [
    ("linear", "the sum over the tokens is missing", "only dy[0, 0, :] contributes"),
    ("linear", "a mean that should be a sum",
     "the gradient is 6 times too small: is it a mean instead of a sum over 6 numbers?"),
    ("linear", "0.1% too large", "the gradient is 1.001 times what it should be"),
    ("linear", "weight decay is in the gradient",
     "contains +0.001 weight: is it weight decay?"),
    ("LayerNorm", "the shift is not taken out", "lacks or contains a constant term (such as a mean over the row)"),
    ("patches", "rows and columns of a patch are exchanged", "the right numbers in the wrong places"),
    ("PatchEmbed", "the pixels are in the wrong order", "the gradient is flipped along axis 0"),
    ("attention", "the values have no gradient", "the gradient is wrong only where the index on axis 2 is 12 to 17"),
    ("linear, square", "the weight is not transposed", "the gradient is dy weight: weight must be transposed"),
    ("attention", "1 / sqrt d is missing",
     "wrong only where the index on axis 2 is 0 to 11, and there it is 1.73205 times what it should be"),
    ("tokens with two of their own", "the two tokens are exchanged",
     "the gradient is flipped along axis 0: are the two parts exchanged?"),
    ("winograd of an odd image", "the last tiles, which are cut off, are forgotten", "only dy["),
    ("linear, square", "the weight's gradient is transposed",
     "the gradient is transposed: its last two axes are exchanged"),
    ("layer_norm", "the mean is not subtracted", "with g = dy weight and xhat = x at mean 0 and variance 1: the term "
     "-1 mean(g) is missing"),
    ("layer_norm", "the variance is taken as constant", "variance 1: the term -1 xhat mean(g xhat) is missing"),
    ("layer_norm", "mean and variance are taken as constant", "variance 1: the term -1 mean(g) is missing, and the "
     "term -1 xhat mean(g xhat) is missing"),
    ("gelu", "the product rule's second term is missing", "the slope of the result is"),
    ("layer_norm", "the weight stands outside the means", "is weight applied after a mean instead of before it?"),
    ("softmax", "the sign is wrong", "the sign of the gradient is wrong"),
    ("cross_entropy", "the upstream gradient is ignored", "the backward ignores its upstream gradient"),
    ("cross_entropy", "the mean over the images is forgotten",
     "the gradient is 5 times too large: is it a sum instead of a mean over 5 numbers?"),
    ("tokens", "its gradient is zero", "the gradient is zero everywhere"),
    ("tokens", "the class token's position has no gradient", "wrong only where the index on axis 0 is 0"),
    ("pooling by token", "the last token gets the first's gradient", "the gradient is flipped along axis 1"),
    ("dropout of a path", "the mask is that of another image", "wrong only where the index on axis 0 is"),
    ("patches", "the last patch is forgotten",
     "wrong only where the index on axis 1 is 2, 3 and the index on axis 2 is 4, 5"),
    ("PatchEmbed", "the images of the batch are mixed",
     "changes the gradients of other images: the backward mixes the images"),
    ("Block", "the residual path is dropped", "the gradient lacks the term dy"),
    ("Block", "one entry of 1152 is wrong", "wrong only where the index on axis 0 is 7 and the index on axis 1 is 31"),
])
def test_hints_name_the_bug(name, bug, hint):
    (mutant,) = (m for m in MUTANTS if (m.name, m.bug) == (name, bug) and not (name == "tokens" and m.tensor == "x"))
    check = check_of(mutant)
    report = report_on(check, "richardson", mutant)
    (row,) = (row for row in report.rows if not row.ok)
    assert hint in row.hint, f"\n{report}"
    assert f"hint: {row.hint}" in str(report)


# ---- hints that report a coefficient ----------------------------------------------------------------------

X = np.random.default_rng(3).standard_normal((3, 5, 8))


def mean(v):
    return v.mean(axis=-1, keepdims=True)


def norm(x, w):
    r = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
    return (x - mean(x)) * r * w, ((x - mean(x)) * r, r, w)


@pytest.mark.parametrize(("through", "hint"), [
    (lambda g, xhat: g, "the term -1 mean(g) is missing, and the term -1 xhat mean(g xhat) is missing"),
    (lambda g, xhat: g - mean(g), "the term -1 xhat mean(g xhat) is missing"),
    (lambda g, xhat: g - xhat * mean(g * xhat), "the term -1 mean(g) is missing"),
    (lambda g, xhat: g - 8 * mean(g) - 8 * xhat * mean(g * xhat),
     "the term mean(g) has the coefficient -8 instead of -1: is it a sum instead of a mean over 8 numbers?"),
], ids=["mean and std as constants", "only the mean removed", "only xhat removed", "sums for means"])
def test_bugs_of_a_norm_get_different_hints(through, hint):
    def backward(dy, cache):
        xhat, r, w = cache
        return r * through(dy * w, xhat), (dy * xhat).sum(axis=(0, 1))

    report = minivit.gradcheck((norm, backward), X, np.arange(1.0, 9.0))
    assert [row.tensor for row in report.rows if not row.ok] == ["x"]
    assert f"with g = dy w and xhat = x at mean 0 and variance 1: {hint}" in report.rows[0].hint


@pytest.mark.parametrize(("slope", "hint"), [
    (lambda x, s: s, "the term +1 dy y (1 - y / x) is missing"),
    (lambda x, s: s + x * s, "the term -1 dy y**2 / x is missing"),
    (lambda x, s: x * s * (1 - s), "the term +1 dy y / x is missing"),
    (lambda x, s: s * (1 - s), "the slope of the result is "),
    (lambda x, s: 1 / (1 + np.exp(-1.7 * x)), "the slope of the result is "),
], ids=["s", "s + x s", "x s (1 - s)", "s (1 - s)", "another function"])
def test_a_wrong_slope_of_silu_gets_a_hint_with_the_slope(slope, hint):
    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    report = minivit.gradcheck((lambda x: (x * sigmoid(x), x), lambda dy, x: dy * slope(x, sigmoid(x))), X)
    said = report.rows[0].hint
    assert hint in said
    numbers = re.search(r"at x = (\S+) the slope of the result is (\S+), but here ([-.\de]+)", said)
    at, right, found = map(float, numbers.groups())
    s = sigmoid(at)
    assert right == pytest.approx(s + at * s * (1 - s), abs=1e-3)
    assert found == pytest.approx(slope(at, s), abs=1e-3)
