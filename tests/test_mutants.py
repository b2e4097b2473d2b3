"""Every method of the checker finds every bug of `mutants.py`, in the right tensor."""

import pytest
from mutants import METHODS, MUTANTS, caught, check_of, torch_passes

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
        assert check.report(method=method).ok


@pytest.mark.slow
@pytest.mark.parametrize("check", {m.name: check_of(m) for m in MUTANTS}.values(), ids=lambda check: check.name)
def test_torch_also_passes_without_the_bug(check):
    pytest.importorskip("torch")
    assert torch_passes(check.make(), check)


@pytest.mark.parametrize(("name", "bug", "hint"), [
    ("linear", "the sum over the tokens is missing", "only dy[0] contributes"),
    ("linear", "a mean that should be a sum",
     "the gradient is 6 times too small: is it a mean instead of a sum over 6 numbers?"),
    ("linear", "0.1% too large", "the gradient is 1.001 times what it should be"),
    ("linear", "weight decay is in the gradient",
     "in each row, the gradient wrongly lacks or contains a term proportional to weight"),
    ("LayerNorm", "the shift is not taken out", "lacks or contains a constant term (such as a mean over the row)"),
    ("patches", "rows and columns of a patch are exchanged", "the right numbers in the wrong places"),
    ("PatchEmbed", "the pixels are in the wrong order", "the right numbers in the wrong places"),
    ("attention", "the values have no gradient", "the gradient is wrong only where the index on axis 2 is 12 to 17"),
    ("linear, square", "the weight's gradient is transposed",
     "the gradient is transposed: its last two axes are exchanged"),
    ("layer_norm", "the mean is not subtracted", "lacks or contains a constant term (such as a mean over the row)"),
    ("layer_norm", "the variance is taken as constant",
     "in each row, the gradient wrongly lacks or contains a constant term and one proportional to x"),
    ("layer_norm", "mean and variance are taken as constant",
     "in each row, the gradient wrongly lacks or contains a constant term and one proportional to x"),
    ("layer_norm", "the weight stands outside the means", "is weight applied after a mean instead of before it?"),
    ("softmax", "the sign is wrong", "the sign of the gradient is wrong"),
    ("cross_entropy", "the upstream gradient is ignored", "the backward ignores its upstream gradient"),
    ("cross_entropy", "the mean over the images is forgotten",
     "the gradient is 5 times too large: is it a sum instead of a mean over 5 numbers?"),
    ("tokens", "its gradient is zero", "the gradient is zero everywhere"),
    ("tokens", "the class token's position has no gradient", "wrong only where the index on axis 0 is 0"),
    ("pooling by token", "the last token gets the first's gradient", "the right numbers in the wrong places"),
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
    report = check.report(mutant.plant(check.make()))
    (row,) = (row for row in report.rows if not row.ok)
    assert hint in row.hint, f"\n{report}"
    assert f"hint: {row.hint}" in str(report)
