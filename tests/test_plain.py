"""The plain ViT computes what the fast one computes, and uses the references alone."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import relative_difference

import minivit
from minivit import plain
from minivit.ops import cross_entropy

SIZES = {"image": 8, "patch": 2, "channels": 3, "width": 12, "depth": 2, "heads": 3, "hidden": 20, "classes": 5}


def test_the_figure_of_the_model_has_these_shapes():
    s, N = plain.SIZES, (plain.SIZES["image"] // plain.SIZES["patch"]) ** 2 + 1
    shapes = [(s["image"], s["image"], s["channels"]), (N - 1, s["patch"] ** 2 * s["channels"]), (N - 1, s["width"]),
              (N, s["width"]), (N, N), (N, 3 * s["width"]), (N, s["hidden"]), (s["width"],), (s["classes"],)]
    figure = (Path(plain.__file__).parents[1] / "docs" / "images" / "vit.svg").read_text()
    drawn = re.findall(r"\(\d+,[\d, ]*\)", figure.split("</style>")[1])
    assert set(drawn) == set(map(str, shapes))
    assert f">{s['depth']} blocks<" in figure
    assert f">{s['heads']} heads: " in figure


def random_parameters(dtype):
    """Parameters for SIZES that are far from their initial values, so that no gradient is zero by symmetry."""
    rng = np.random.default_rng(1)
    parameters = plain.make_parameters(SIZES)
    return {name: rng.standard_normal(p.shape).astype(dtype) / 2 for name, p in parameters.items()}


def fast_model(parameters, dtype):
    """The fast ViT with the same weights."""
    same_names = {name: SIZES[name] for name in ("channels", "classes", "width", "depth", "heads")}
    model = minivit.create_model("vit", image_size=SIZES["image"], patch_size=SIZES["patch"],
                                 mlp_ratio=SIZES["hidden"] / SIZES["width"], **same_names)
    return model.pack(dtype, values=parameters)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 5e-6)])
def test_loss_and_every_gradient_equal_those_of_the_fast_model(dtype, tolerance):
    parameters, rng = random_parameters(dtype), np.random.default_rng(2)
    images = rng.standard_normal((7, 8, 8, 3)).astype(dtype)
    labels = rng.integers(0, 5, 7)
    loss, gradients = plain.loss_and_gradients(parameters, images, labels, 0.1, SIZES)

    model = fast_model(parameters, dtype)
    logits = model.forward(images)
    fast_loss, cache = cross_entropy.forward(logits, cross_entropy.targets(labels, 5, 0.1, dtype))
    model.backward(cross_entropy.backward(1.0, cache))

    assert loss == pytest.approx(float(fast_loss), rel=tolerance)
    assert {p.name for p in model.parameters()} == set(gradients)
    for p in model.parameters():
        assert relative_difference(p.grad, gradients[p.name]) < tolerance, p.name


def test_the_initial_parameters_have_the_fast_models_names_and_shapes():
    sizes = plain.SIZES
    model = minivit.create_model("vit_mini_patch2_8")
    shapes = {name: array.shape for name, array in plain.make_parameters(sizes).items()}
    assert {p.name: p.shape for p in model.parameters()} == shapes


def test_it_learns_the_digits_and_prints_each_epoch(capsys):
    accuracy = plain.train(epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert accuracy > 0.7                                             # 0.1 is chance
    assert lines[-1].startswith("epoch  2/2: loss ")
    assert f"test accuracy {accuracy:.1%}" in lines[-1]


def test_it_calls_no_fast_op():
    tree = ast.parse(Path(plain.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "ops"]
    ops = {alias.name for node in imports for alias in node.names}
    called = {(node.value.id, node.attr) for node in ast.walk(tree)
              if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ops}
    assert {op for op, _ in called} == ops
    assert {name for _, name in called} == {"reference_forward", "reference_backward", "targets"}
