"""What an `ExtendedViT` adds to a ViT: rotary positions, LayerScale, registers, and how options choose the family."""

import json

import numpy as np
import pytest

import minivit
from minivit import cli
from minivit.explain import attention_probabilities
from minivit.layers import RotaryAttention
from minivit.models.extended_vit import simplest_family
from minivit.models.other_sizes import at_size_of
from minivit.ops import rotary

SIZES = {"image_size": 8, "patch_size": 2, "channels": 1, "classes": 3, "width": 24, "depth": 2, "heads": 3,
         "mlp_ratio": 2}


def scores(qkv, **places):
    """q k^T after the rotation, (B, N, N), for one head."""
    y, _ = rotary.reference_forward(qkv, 1, **places)
    q, k, _ = np.split(y, 3, axis=-1)
    return q @ k.swapaxes(-1, -2)


def test_the_score_of_a_query_and_a_key_depends_on_the_difference_of_their_places_only():
    rng, rows, columns = np.random.default_rng(0), 4, 5
    qkv = np.repeat(rng.standard_normal((1, 1, 48)), rows * columns, axis=1)       # the same token everywhere
    by_place = scores(qkv, rows=rows, columns=columns).reshape(rows, columns, rows, columns)
    found = {}
    for y, x, v, u in np.ndindex(by_place.shape):
        found.setdefault((y - v, x - u), []).append(by_place[y, x, v, u])
    assert len(found) == 7 * 9
    for values in found.values():
        np.testing.assert_allclose(values, values[0], atol=1e-12)
    means = [values[0] for values in found.values()]
    assert np.ptp(means) > 1                                          # and it does depend on the difference


def test_a_token_before_the_grid_is_not_rotated_and_no_length_changes():
    x = np.random.default_rng(0).standard_normal((2, 8, 48)).astype(np.float32)
    y, _ = rotary.forward(x, 2, 2, 3)
    np.testing.assert_array_equal(y[:, :2], x[:, :2])
    np.testing.assert_array_equal(y[:, :, 32:], x[:, :, 32:])
    planes = x[:, :, :32].reshape(2, 8, 4, 2, 4)                      # q and k of two heads, the numbers of each plane
    turned = y[:, :, :32].reshape(2, 8, 4, 2, 4)
    np.testing.assert_allclose(np.hypot(*np.moveaxis(turned, 3, 0)), np.hypot(*np.moveaxis(planes, 3, 0)), rtol=1e-5)


def test_the_spacing_covers_the_same_square():
    """Twice as many rows: two new rows lie at 1/4 beside each old one, and columns alike."""
    new = rotary.turns(8, 4, 4, 2, (0.5, 1.0))
    rows = np.arctan2(new[1], new[0])[:, 0].reshape(4, 2)
    np.testing.assert_allclose(rows[:, 0], [-0.25, 0.25, 0.75, 1.25], atol=1e-12)
    columns = np.arctan2(new[1], new[0])[:, 1].reshape(4, 2)
    np.testing.assert_allclose(columns[0], [0, 1], atol=1e-12)


def test_rotary_positions_at_another_size_lie_between_those_of_the_training():
    model = minivit.create_model("vit", positions="rotary", **SIZES)
    twin = at_size_of(model, np.zeros((1, 16, 8, 1), np.uint8))
    layers = [layer for _, layer in twin.named_layers() if isinstance(layer, RotaryAttention)]
    assert [(layer.places, layer.spacing) for layer in layers] == 2 * [((8, 4, 1), (0.5, 1.0))]
    assert all(layer.spacing == (1, 1) for _, layer in model.named_layers() if isinstance(layer, RotaryAttention))


def test_a_model_with_rotary_positions_alone_sees_where_patches_are():
    rng, images = np.random.default_rng(0), np.random.default_rng(1).integers(0, 256, (2, 8, 8, 1), np.uint8)
    moved = np.roll(images, (2, 4), axis=(1, 2))
    for positions, sees in (("none", False), ("rotary", True)):
        model = minivit.create_model("vit", positions=positions, pool="mean", **SIZES)
        model.vector[:] += 0.3 * rng.standard_normal(model.vector.size)
        change = np.abs(model.predict(images) - model.predict(moved)).max()
        assert change > 1e-2 if sees else change < 1e-5


@pytest.mark.parametrize(("options", "family"), [
    ({}, "ViT"), ({"pool": "mean"}, "ViT"), ({"registers": 0, "layer_scale": 0}, "ViT"),
    ({"registers": 2}, "ExtendedViT"),
    ({"positions": "rotary"}, "ExtendedViT"), ({"positions": "sincos"}, "ViT"), ({"layer_scale": 0.1}, "ExtendedViT"),
    ({"pool": "mean", "class_token": True}, "ExtendedViT"), ({"qk_norm": True, "stem": "conv"}, "ExtendedViT"),
], ids=str)
def test_options_choose_the_family(options, family):
    model = minivit.create_model("vit_mini", **options)
    assert type(model).__name__ == family
    again = minivit.create_model({"ViT": "vit", "ExtendedViT": "extended_vit"}[family], **model.config)
    np.testing.assert_array_equal(again.vector, model.vector)


def test_an_extended_vit_with_the_options_of_a_vit_computes_the_same():
    options = SIZES | {"pool": "mean", "stem": "conv", "relative_bias": True, "positions": "sincos"}
    plain = minivit.create_model("vit", **options)
    extended = minivit.create_model("extended_vit", class_token=False, **options)
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    assert [p.name for p in plain.parameters()] == [p.name for p in extended.parameters()]
    extended.vector[:] = plain.vector
    np.testing.assert_allclose(extended.predict(images), plain.predict(images), atol=1e-6)
    assert simplest_family(extended.config)[0] == "vit"


def test_a_layer_scale_starts_at_its_value_and_scales_its_branch():
    model = minivit.create_model("vit", layer_scale=0.25, **SIZES)
    plain = minivit.create_model("vit", **SIZES)
    gammas = [p.data for p in model.parameters() if p.name.endswith("gamma")]
    assert len(gammas) == 4
    assert all((gamma == 0.25).all() for gamma in gammas)
    by_name = {p.name: p for p in model.parameters()}
    for p in plain.parameters():                                      # y = 0.25 (x W + b), so the plain model has W / 4
        scaled = p.name.endswith(("attn.proj.weight", "attn.proj.bias", "fc2.weight", "fc2.bias"))
        by_name[p.name].data = 4 * p.data if scaled else p.data
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    np.testing.assert_allclose(model.predict(images), plain.predict(images), atol=1e-6)


def test_registers_share_their_relative_biases_with_the_class_token():
    model = minivit.create_model("vit", registers=2, relative_bias=True, **SIZES)
    table = next(p for p in model.parameters() if p.name.endswith("blocks.0.attn.rel_pos.relative_position_bias_table"))
    assert table.shape == (49 + 3, 3)
    table.data[-1] = 20                                               # from one token without a place to another
    probs = attention_probabilities(model, np.zeros((1, 8, 8, 1), np.uint8))["blocks.0.attn"]
    assert probs[0, :, :3, :3].sum(axis=-1).min() > 0.99
    assert probs[0, :, 3:, :3].sum(axis=-1).max() < 0.5


@pytest.mark.parametrize(("options", "message"), [
    ({"positions": "rotari"}, "did you mean 'rotary'"), ({"positions": "rotary", "heads": 4}, "divisible by 4, not 6"),
    ({"registers": -1}, "number of registers"), ({"layer_scale": -0.1}, "start of the layer scale"),
])
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        minivit.create_model("vit", **(SIZES | options))


def test_the_command_line_trains_and_evaluates_with_these_options(tmp_path, capsys):
    out = str(tmp_path / "run")
    options = ["--positions", "rotary", "--registers", "2", "--layer-scale", "0.1", "--epochs", "0.1", "--quiet"]
    assert cli.main(["train", "digits", *options, "--out", out, "--json"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["accuracy"]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {name: config["model"]["options"][name] for name in ("positions", "registers", "layer_scale")} == {
        "positions": "rotary", "registers": 2, "layer_scale": 0.1}
    assert cli.main(["evaluate", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == accuracy
    assert cli.main(["tour", out, "0", "--out", str(tmp_path / "tour.html")]) == 2
    assert capsys.readouterr().err.strip().endswith("no tour of an ExtendedViT: pass a ViT, a DeiT or a Swin")
