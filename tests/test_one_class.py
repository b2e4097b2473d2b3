"""The explanation of one class: its gradients are those of the model, and it finds planted evidence."""

import json

import numpy as np
import pytest
from PIL import Image
from test_sizes import OBLONG, oblong, pixels

import minivit
from minivit import cli
from minivit.data import Dataset
from minivit.explain import class_relevance, gradient_times_input
from minivit.explain.one_class import attention_gradient, explain_class
from minivit.explain.tour.recording import Recording
from minivit.layers import WindowAttention
from minivit.ops import relative_bias
from minivit.weight_formats.timm import write_weights


def recorded(model, images, target):
    """A recording of the logit of a class, the attention layers by path, and their probabilities and places."""
    recording = Recording(model)
    recording.forward(images)
    layers = {path: layer for path, layer in recording.model.named_layers() if hasattr(type(layer), "probabilities")}
    kept = {path: (np.array(layer.cache[2][1]) if isinstance(layer, WindowAttention) else np.array(layer.probabilities))
            for path, layer in layers.items()}
    recording.backward(np.eye(model.classes)[np.full(len(images), target)])
    return recording, layers, kept


@pytest.mark.parametrize("name", ["vit with biases", "swin", "swin of signals"])
def test_the_gradient_of_attention_is_that_of_the_backward(name):
    """Through the softmax, it must give the gradient of the table of relative positions, which backward computes."""
    model = oblong(name).astype(np.float64)
    recording, layers, kept = recorded(model, pixels(2, *model.image_size, 1), 1)
    for path, layer in layers.items():
        probs, dprobs = kept[path], attention_gradient(recording, path, layer)
        dscores = probs * (dprobs - (probs * dprobs).sum(axis=-1, keepdims=True))
        table = layer if isinstance(layer, WindowAttention) else layer.rel_pos
        places = relative_bias.index(*(table.window if isinstance(layer, WindowAttention) else table.grid))
        expected = table.relative_position_bias_table.grad
        ours = np.zeros_like(expected)
        np.add.at(ours, places, dscores.sum(axis=0).transpose(1, 2, 0))
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)
        assert np.abs(expected).max() > 1e-6


@pytest.mark.parametrize("name", OBLONG)
def test_gradient_times_input_is_the_slope_along_the_image(name):
    model = oblong(name).astype(np.float64)
    x = model.prepare(pixels(2, *model.image_size, 1))
    step = 1e-6
    slope = (model.forward(x * (1 + step)) - model.forward(x * (1 - step)))[:, 2] / (2 * step)
    np.testing.assert_allclose(gradient_times_input(model, x, 2).sum(axis=(1, 2)), slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", [name for name in OBLONG if name != "resnet"])
def test_each_image_is_explained_by_itself_and_each_class_for_itself(name):
    model = oblong(name)
    x = pixels(3, *model.image_size, 1)
    maps, products = explain_class(model, x, [0, 1, 2])
    assert maps.shape == (3, *model.grid)
    assert (maps >= -1e-6).all()
    for i in range(3):
        np.testing.assert_allclose(class_relevance(model, x[i:i + 1], i), maps[i:i + 1], rtol=1e-3, atol=1e-7)
        np.testing.assert_allclose(gradient_times_input(model, x[i:i + 1], i), products[i:i + 1], rtol=1e-3, atol=1e-6)
    assert np.abs(class_relevance(model, x, 0)[1] - maps[1]).max() > 1e-6
    assert model.cache is None


def test_relevance_of_one_layer_by_hand():
    """R = I + A after one layer. The class token reads its row of max(0, P * dP), averaged over heads."""
    model = oblong("vit", depth=1).astype(np.float64)
    x = pixels(2, 8, 12, 1)
    recording, layers, kept = recorded(model, x, 1)
    [(path, layer)] = layers.items()
    product = np.maximum(kept[path] * attention_gradient(recording, path, layer), 0).mean(axis=1)
    np.testing.assert_allclose(class_relevance(model, x, 1), product[:, 0, 1:].reshape(2, 4, 6), rtol=1e-12)
    assert product.max() > 0


@pytest.mark.parametrize("options", [{}, {"pool": "mean"}, {"pool": "mean", "norm_first": True},
                                     {"pool": "mean", "class_token": False}, {"qk_norm": True}], ids=str)
def test_registers_are_no_patches(options):
    """They come before the patches, like the class token, and no map has a place for them."""
    model = minivit.create_model("extended_vit", image_size=(8, 12), patch_size=2, channels=1, classes=3, width=12,
                                 depth=2, heads=3, registers=3, **options)
    model.vector[:] += 0.3 * np.random.default_rng(0).standard_normal(model.vector.size, np.float32)
    x = pixels(2, 8, 12, 1)
    maps = class_relevance(model, x, 1)
    assert maps.shape == (2, 4, 6)
    assert (maps.max(axis=(1, 2)) > 1e-6).all()
    y = model.astype(np.float64)
    normal, step = y.prepare(x), 1e-6
    slope = (y.forward(normal * (1 + step)) - y.forward(normal * (1 - step)))[:, 2] / (2 * step)
    np.testing.assert_allclose(gradient_times_input(y, normal, 2).sum(axis=(1, 2)), slope, rtol=1e-5, atol=1e-8)
    tokens = model.features(x, tokens=True)
    assert tokens.shape == (2, model.prefix + 24, 12)
    assert model.predict(pixels(2, 12, 16, 1)).shape == (2, 3)


SHAPES = {"cross": [np.s_[2], np.s_[:, 2]], "ring": [np.s_[[0, 4]], np.s_[:, [0, 4]]], "rows": [np.s_[[0, 2, 4]]],
          "columns": [np.s_[:, [0, 2, 4]]]}
SMALL = {"patch_size": 2, "width": 32, "depth": 2, "heads": 4, "mlp_ratio": 2, "position_std": 0.5}


def shapes(count, seed):
    """Dark images with one of four bright shapes of 5x5 pixels somewhere, and the number of the shape."""
    rng, labels = np.random.default_rng(seed), np.arange(count) % 4
    images = rng.integers(0, 40, (count, 8, 16, 1), np.uint8)
    for image, strokes in zip(images, [[*SHAPES.values()][k] for k in labels], strict=True):
        row, column = rng.integers(0, 4), rng.integers(0, 12)
        for stroke in strokes:
            image[row:row + 5, column:column + 5][stroke] = 220
    return images, labels


@pytest.mark.parametrize(("name", "options"), [
    ("vit", SMALL), ("vit", SMALL | {"pool": "mean"}), ("deit", SMALL),
    ("swin", {"patch_size": 1, "width": 16, "depths": (2, 2), "heads": (2, 2), "window": 4, "mlp_ratio": 2}),
])
def test_the_most_relevant_patches_carry_the_class(name, options):
    """Without the eighth of the patches that are most relevant, the logit falls; without the least relevant, it stays.

    The patches with the shape have more than their share of the relevance.
    """
    data = Dataset("shapes", *shapes(1200, 0), *shapes(60, 1), tuple(SHAPES))
    model = minivit.create_model(name, image_size=(8, 16), channels=1, classes=4, mean=0.2, std=0.3, **options)
    result = minivit.train(model, data, epochs=10, batch_size=20, lr=3e-3, augment="none", progress=False)
    assert result.accuracy > 0.9
    x, labels, each = data.test_images, data.test_labels, np.arange(60)
    maps, products = explain_class(model, x, labels)
    rows, columns = model.grid
    P, order = 8 // rows, np.argsort(-maps.reshape(60, -1), axis=1)

    def fall(patches):
        covered = x.copy()
        for image, chosen in zip(covered, patches, strict=True):
            for row, column in zip(*np.unravel_index(chosen, model.grid), strict=True):
                image[P * row:P * (row + 1), P * column:P * (column + 1)] = 20
        return (model.predict(x) - model.predict(covered))[each, labels].mean()

    eighth = rows * columns // 8
    assert fall(order[:, :eighth]) > 1 > 0.5 > fall(order[:, -eighth:])
    bright = x[..., 0] > 100
    on_shape = bright.reshape(60, rows, P, columns, P).any(axis=(2, 4))
    share = (maps * on_shape).sum(axis=(1, 2)) / maps.sum(axis=(1, 2))
    assert share.mean() > 1.2 * on_shape.mean()
    if name != "swin":
        assert (np.abs(products) * bright).sum() / np.abs(products).sum() > 2 * bright.mean()


@pytest.mark.parametrize(("target", "message"), [(3, "class must be a whole number at least 0 and at most 2, not 3"),
                                                 (-1, "class must be a whole number"), (0.5, "class must be a whole")])
def test_a_class_that_is_not_there_is_named(target, message):
    for explain in (class_relevance, gradient_times_input):
        with pytest.raises(ValueError, match=message):
            explain(oblong("vit"), pixels(1, 8, 12, 1), target)
    with pytest.raises(ValueError, match="no attention: ResNet"):
        class_relevance(oblong("resnet"), pixels(1, 9, 20, 1), 0)


@pytest.mark.parametrize("classes", [[0, 1, 2], [0], [[0, 1]], []])
def test_as_many_classes_as_images_are_needed(classes):
    for explain in (class_relevance, gradient_times_input):
        with pytest.raises(ValueError, match=r"classes must be one class, or a list of one for each of the 2 images, "
                                             r"but has the shape \("):
            explain(oblong("vit"), pixels(2, 8, 12, 1), classes)


@pytest.mark.parametrize("name", ["vit", "deit", "swin"])
def test_no_images_have_no_maps(name):
    model = oblong(name)
    none = pixels(1, *model.input_shape)[:0]
    maps, products = explain_class(model, none, 1)
    some, _ = explain_class(model, pixels(1, *model.input_shape), 1)
    assert maps.shape == (0, *some.shape[1:])
    assert products.shape == gradient_times_input(model, none, []).shape == (0, *model.image_size)
    with pytest.raises(ValueError, match="for each of the 0 images"):
        class_relevance(model, none, [1])


# ---- the command ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vit_mini", "swin_mini", "deit_mini"])
def test_attend_explains_a_class(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x, labels = shapes(40, 0)
    np.savez("x.npz", images=x, labels=labels, class_names=np.array([*SHAPES]))
    assert cli.main(["train", "x.npz", "--model", name, "--epochs", "1", "--out", "r", "-q"]) == 0
    capsys.readouterr()
    assert cli.main(["attend", "r", "0", "1", "--class", "ring", "--out", "look.png", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    model, data = minivit.load("r"), minivit.load_data("x.npz")
    for i, found in enumerate((first, second)):
        maps, products = explain_class(model, data.test_images[i:i + 1], 1)
        assert found["class"] == "ring"
        np.testing.assert_allclose(found["relevance"], maps[0], rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(found["gradient_times_input"], products[0], rtol=1e-4, atol=1e-7)
    assert Image.open("look.png").width > 400
    assert cli.main(["attend", "r", "0", "--class", "rings", "--out", "other.png"]) == 2
    assert capsys.readouterr().err == (
        "minivit: error: unknown class 'rings': did you mean 'ring'? known: cross, ring, rows, columns\n")
    assert not (tmp_path / "other.png").exists()
    assert cli.main(["attend", "r", "0", "--out", "plain.png", "--json"]) == 0
    assert "relevance" not in json.loads(capsys.readouterr().out)[0]


def test_attend_takes_a_file_of_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = minivit.create_model("vit_mini_patch2_8", seed=3)
    model.head.weight.data = np.random.default_rng(0).standard_normal(model.head.weight.shape)
    write_weights("w.safetensors", model)
    Image.fromarray(pixels(8, 8)).save("x.png")
    arguments = ["attend", "w.safetensors", "x.png", "--model", "vit_mini_patch2_8", "--class", "4", "--json"]
    assert cli.main([*arguments, "--out", "look.png"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    expected = class_relevance(model, pixels(1, 8, 8, 1), 4)[0]
    np.testing.assert_allclose(found["relevance"], expected, rtol=1e-4, atol=1e-8)
    assert cli.main(["attend", "w.safetensors", "x.png", "--out", "no.png"]) == 2
    assert "pass the model that has these weights as --model" in capsys.readouterr().err
