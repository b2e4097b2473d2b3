"""Every gradient of the project agrees with finite differences, and the catalogue of gradients is complete."""

import inspect
import pkgutil

import pytest

from minivit import layers, ops
from minivit.gradcheck_catalogue import catalogue
from minivit.models.create import FAMILIES


def test_every_op_layer_and_family_is_in_the_catalogue():
    no_pair = {"philox", "pixels", "sincos", "interleaved_attention"}
    chapters = {module.name for module in pkgutil.iter_modules(ops.__path__)} - no_pair
    assert {case.op.__name__.rpartition(".")[2] for case in catalogue.OPS.values()} == chapters
    modules = [vars(layers)[module.name] for module in pkgutil.iter_modules(layers.__path__)]
    classes = {name for module in modules for name, value in vars(module).items()
               if inspect.isclass(value) and issubclass(value, layers.Layer) and not name.startswith("_")} - {"Layer"}
    assert {type(make()).__name__ for make, _ in catalogue.LAYERS.values()} == classes
    assert {check.family for check in catalogue.CHECKS if check.kind == "model"} == set(FAMILIES)


def test_the_first_word_of_a_name_says_what_it_is():
    for name, case in catalogue.OPS.items():
        assert case.op.__name__.endswith(f".{name.replace(',', ' ').split()[0]}")
    for name, (make, _) in catalogue.LAYERS.items():
        assert type(make()).__name__ == name.replace(",", " ").split()[0]


@pytest.mark.parametrize("method", ["richardson", "directional"])
@pytest.mark.parametrize("check", catalogue.CHECKS, ids=lambda check: f"{check.name}-{check.kind}")
def test_every_gradient_agrees_with_finite_differences(check, method):
    report = check.report(method=method)
    assert report.ok, f"\n{report}"
    # A bias of the normed keys shifts all scores of a query alike, so its gradient is zero, and its error is round-off.
    worst = max(row.error for row in report.rows if not row.tensor.endswith("k_norm.bias"))
    assert worst <= (1e-8 if method == "richardson" else 1e-6)
    if check.kind in catalogue.PAIRS:
        assert [row.tensor for row in report.rows] == list(catalogue.OPS[check.name].shapes)
    else:
        assert len(report.rows) == len(check.inputs()) + len(check.make().parameters())


def test_names_choose_families_and_single_checks():
    linear = {name for name in catalogue.OPS if name.startswith("linear")}
    assert {check.name for check in catalogue.select(["linear", "vit by mean"])} == linear | {"vit by mean"}
    assert catalogue.select() == catalogue.CHECKS
    with pytest.raises(ValueError, match="unknown op, layer or model 'layer_nrom': did you mean 'layer_norm'"):
        catalogue.select(["layer_nrom"])
    with pytest.raises(ValueError, match="unknown op, layer or model 'layernorm': did you mean 'LayerNorm'"):
        catalogue.select(["layernorm"])


def test_the_complex_step_agrees_with_the_plain_pairs_of_analytic_functions():
    analytic = [check for check in catalogue.CHECKS if check.kind == "reference" and check.family not in ("gelu",)]
    assert len(analytic) > 20
    for check in analytic:
        assert check.report(method="complex").worst < 1e-14
