"""`minivit trace`: shapes, parameters, FLOPs and gradients of every layer are those of the model."""

import dataclasses
import json
import re

import numpy as np
import pytest

import minivit
from minivit import cli
from minivit.explain import FirstBlocks, trace
from minivit.explain.layer_trace import places
from minivit.models.create import VARIANTS, create_model, declare_model
from minivit.ops import attention, attention_variants, cross_entropy, linear
from minivit.training_pipeline.results.model_trace import trace_model
from minivit.weight_formats.timm import write_weights

FAMILIES = ["vit_mini", "deit_mini", "swin_mini", "resnet_mini"]


def batch(model, count=3):
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (count, *model.input_shape), np.uint8), rng.integers(0, model.classes, count)


def with_random_weights(name, dtype=np.float64, **options):
    """A model in which no weight is zero, so that every gradient passes."""
    model = create_model(name, dtype=dtype, **options)
    model.vector[...] = 0.2 * np.random.default_rng(2).standard_normal(model.vector.size)
    return model


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_totals_are_those_of_the_model(name, depth):
    model = with_random_weights(name)
    before = model.vector.tobytes()
    found = trace(model, *batch(model), depth)
    top = [row for row in found.layers if re.fullmatch(r"\w+(\.\d+)?", row.layer)]
    assert found.parameters == model.vector.size == sum(row.parameters for row in top) == sum(found.places.values())
    assert found.forward_flops == model.flops == sum(row.forward_flops for row in top)
    assert found.backward_flops == 2 * model.flops == sum(row.backward_flops for row in top)
    assert np.hypot.reduce([row.dw for row in top]) == pytest.approx(np.linalg.norm(model_gradients(model)), rel=1e-9)
    assert (model.vector.tobytes(), model.cache) == (before, None)


def model_gradients(model):
    """The gradient of the batch by the model's own forward and backward."""
    images, labels = batch(model)
    twin = model.copy()
    _, cache = cross_entropy.forward(twin.forward(images), cross_entropy.targets(labels, 10, 0.0, np.float64))
    twin.backward(cross_entropy.backward(1.0, cache))
    return twin.gradients


@pytest.mark.parametrize("name", ["vit_mini", "deit_mini", "swin_mini"])
def test_flops_are_those_of_the_matrix_products_that_run(name, monkeypatch):
    """Count the multiply-adds of every matrix product of a forward and backward, and compare."""
    model, counted, original = with_random_weights(name), [], linear.matmul

    def counting(a, b, **options):
        counted.append(2 * a.size * b.shape[-1])
        return original(a, b, **options)

    for op in (linear, attention, attention_variants):
        monkeypatch.setattr(op, "matmul", counting)
    twin = model.copy()
    for _, block in twin.named_layers():
        if isinstance(block, minivit.layers.Block):
            block.set_output_tokens(None)
    logits = twin.forward(batch(model)[0])
    forward = sum(counted)
    twin.backward(np.ones_like(logits))
    monkeypatch.undo()
    found = trace(model, *batch(model))
    assert forward == 3 * found.forward_flops
    assert sum(counted) - forward == 3 * found.backward_flops


def test_the_gradients_are_those_of_the_batch():
    model = with_random_weights("vit_mini")
    images, labels = batch(model)
    found = trace(model, images, labels, depth=2)
    rows = {row.layer: row for row in found.layers}
    logits = model.forward(images)
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    dlogits = (probs - np.eye(10)[labels]) / 3
    assert found.loss == pytest.approx(-np.log(probs[np.arange(3), labels]).mean())
    assert found.dlogits == pytest.approx(np.linalg.norm(dlogits))
    dimages = model.backward(dlogits)
    assert rows["patch_embed"].dx == pytest.approx(np.linalg.norm(dimages))
    assert rows["patch_embed"].input == (8, 8, 1)
    for p in (model.cls_token, model.pos_embed):
        assert rows[p.name].dw == pytest.approx(np.linalg.norm(p.grad))
    for layer in (model.blocks[2].attn, model.head):
        path = layer.parameters()[0].name.removesuffix(".qkv.weight").removesuffix(".weight")
        assert rows[path].dw == pytest.approx(np.sqrt(sum((p.grad**2).sum() for p in layer.parameters())))
        assert rows[path].w == pytest.approx(np.sqrt(sum((p.data**2).sum() for p in layer.parameters())))
    assert rows["head"].rms == pytest.approx(np.sqrt((logits**2).mean()))
    assert rows["blocks.1"].rms == pytest.approx(np.sqrt((FirstBlocks(model, 2).forward(images)**2).mean()))
    assert (rows["blocks.1"].output, rows["blocks.1"].input) == ((17, 64), (17, 64))


def test_the_gradient_of_a_block_is_a_slope():
    """|dx| of a block is the slope of the loss along the gradient of the tokens before the block."""
    model = with_random_weights("vit_mini", depth=1, width=8, heads=2)
    images, labels = batch(model)
    row = next(row for row in trace(model, images, labels).layers if row.layer == "blocks.0")
    twin, moves = model.copy(), {}
    forward, backward = twin.blocks[0].forward, twin.blocks[0].backward

    def moved_forward(x):
        return forward(x + moves.get("move", 0))

    def kept_backward(dy):
        moves["dx"] = backward(dy)
        return moves["dx"]

    twin.blocks[0].forward, twin.blocks[0].backward = moved_forward, kept_backward

    def loss():
        return cross_entropy.forward(twin.forward(images), cross_entropy.targets(labels, 10, 0.0, np.float64))

    _, cache = loss()
    twin.backward(cross_entropy.backward(1.0, cache))
    direction, h, losses = moves["dx"] / np.linalg.norm(moves["dx"]), 1e-4, []
    for sign in (1, -1):
        moves["move"] = sign * h * direction
        losses.append(float(loss()[0]))
    assert row.dx == pytest.approx((losses[0] - losses[1]) / (2 * h), rel=1e-6)


def test_where_the_parameters_of_a_large_vit_are():
    counts = places(declare_model("vit_base_patch16_224"))
    total = sum(counts.values())
    assert total == 86_567_656
    shares = {place: round(100 * count / total, 1) for place, count in counts.items()}
    assert shares["blocks.*.mlp.fc1"] + shares["blocks.*.mlp.fc2"] == pytest.approx(65.4)
    assert (shares["blocks.*.attn.qkv"], shares["blocks.*.attn.proj"], shares["head"]) == (24.6, 8.2, 0.9)
    assert counts["blocks.*.attn.qkv"] == 12 * (768 * 3 * 768 + 3 * 768)


def test_a_trace_fits_into_100_columns():
    large = max(VARIANTS, key=lambda name: sum(p.size for p in declare_model(name).parameters()))
    count = sum(p.size for p in declare_model(large).parameters())
    for name in FAMILIES:
        model = with_random_weights(name, np.float32)
        found = trace(model, *batch(model), 4)
        wide = [dataclasses.replace(row, parameters=count, forward_flops=10**11, backward_flops=2 * 10**11,
                                    rms=1.23456e-10, dx=1.23456e-10) for row in found.layers]
        for text in (str(found), str(dataclasses.replace(found, layers=tuple(wide), model="", parameters=count))):
            assert max(map(len, text.splitlines()[1:])) <= 100


# ---- the command -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trace") / "run"
    model = create_model("vit", image_size=8, patch_size=4, channels=1, classes=10, width=16, depth=1, heads=2)
    minivit.train(model, "digits", epochs=1, out=folder, progress=False)
    return folder


def printed(capsys, *arguments):
    assert cli.main(["trace", *map(str, arguments)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", FAMILIES)
def test_a_named_model_is_traced_with_gradients_everywhere(name, capsys):
    found = json.loads(printed(capsys, name, "--json"))
    kept = [row for row in found["layers"] if row["dw"] is not None]
    assert all(row["dw"] > 0 for row in kept)
    images = "random images of 28 x 28 x 1" if name == "resnet_mini" else "training images of the digits"
    assert images in found["batch"]
    assert "random weights" in found["batch"]
    assert found["images"] == 4


def test_a_run_and_its_file_of_weights_are_traced_alike(run, capsys):
    by_run = json.loads(printed(capsys, run, "--json", "--images", 5))
    data = minivit.load_data("digits")
    expected = trace(minivit.load(run), data.train_images[:5], data.train_labels[:5])
    assert by_run | {"batch": ""} == json.loads(json.dumps({"batch": ""} | expected.as_json()))
    text = printed(capsys, run, "--images", 5, "--depth", 2)
    assert str(trace(minivit.load(run), data.train_images[:5], data.train_labels[:5], 2)) in text
    assert max(map(len, text.splitlines())) <= 100 + len(str(run))


def test_a_file_of_weights_is_traced(tmp_path, capsys):
    model = with_random_weights("vit_mini", np.float32)
    write_weights(tmp_path / "w.safetensors", model)
    found = json.loads(printed(capsys, tmp_path / "w.safetensors", "--model", "vit_mini", "--json"))
    data = minivit.load_data("digits")
    assert found["loss"] == trace(model, data.train_images[:4], data.train_labels[:4]).loss


@pytest.mark.parametrize(("arguments", "message"), [
    (["vit_minni"], "did you mean 'vit_mini'"),
    (["runs/nowhere"], "runs/nowhere: no such run or file of weights"),
    (["vit_mini", "--depth", "0"], "depth must be a whole number at least 1"),
    (["vit_mini", "--threads", "0"], "number of threads must be"),
    (["vit_mini", "--images", "0"], "number of images must be a whole number at least 1"),
    (["vit_mini", "--images", "1439"], "number of images must be"),
    ([__file__], "is a file, not a run"),
    (["nowhere.safetensors", "--model", "vit_mini"], "nowhere.safetensors"),
    (["."], "is not a run"),
])
def test_what_cannot_be_traced_is_refused_in_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["trace", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("minivit: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_the_weights_of_a_new_classifier_are_drawn_and_said():
    found, words = trace_model("vit_mini")
    rows = {row.layer: row for row in found.layers}
    assert rows["head"].dx > 0
    assert "standard deviation 0.02" in words
