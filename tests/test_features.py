"""Features: what the classifier reads, in Python and as a file; and commands at another size than in the training."""

import json

import numpy as np
import pytest
from PIL import Image
from test_sizes import OBLONG, oblong, pixels, save_folder, save_npz

import minivit
from minivit import cli
from minivit.data.image_files import read_image_files
from minivit.ops import pooling
from minivit.weight_formats.safetensors_io import write_tensors
from minivit.weight_formats.timm import to_timm, write_weights


@pytest.mark.parametrize("name", OBLONG)
def test_the_classifier_turns_features_into_logits(name):
    model = oblong(name)
    x = pixels(7, *model.image_size, 1)
    features, logits = model.features(x), model.predict(x)
    assert features.dtype == model.dtype
    if name == "deit":                                                # each of two classifiers reads its own token
        norm = model.features(x, tokens=True)[:, :2]
        np.testing.assert_allclose(features, norm.mean(axis=1), rtol=1e-5, atol=1e-6)
        heads = [head.forward(norm[:, i].copy()) for i, head in enumerate((model.head, model.head_dist))]
        np.testing.assert_allclose(np.mean(heads, axis=0), logits, rtol=1e-4, atol=1e-5)
        return
    head = {"swin": lambda: model.head.fc.forward(features),
            "resnet": lambda: model.head.fc.forward(features[:, None, None])[:, 0, 0]}
    ours = head.get(name.split()[0], lambda: model.head.forward(features))()
    np.testing.assert_allclose(ours, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OBLONG)
def test_pooled_tokens_are_the_features(name):
    model = oblong(name)
    x = pixels(4, *model.image_size, 1)
    tokens, features = model.features(x, tokens=True), model.features(x)
    assert tokens.shape[::2] == (4, features.shape[1])
    if name.startswith("vit") and model.pool == "token":
        np.testing.assert_allclose(tokens[:, 0], features, rtol=1e-4, atol=1e-5)
    elif name.startswith("vit"):
        mean, _ = pooling.forward(tokens, "mean")
        np.testing.assert_allclose(model.fc_norm.forward(mean), features, rtol=1e-4, atol=1e-5)
    elif name != "deit":
        np.testing.assert_allclose(tokens.mean(axis=1), features, rtol=1e-4, atol=1e-5)
    if model.tokens and not name.startswith("swin"):
        assert tokens.shape[1] == model.tokens
    assert model.features(x[:0]).shape == (0, features.shape[1])


def test_features_do_not_depend_on_the_batch_or_the_threads_and_refuse_what_predict_refuses():
    model = oblong("vit")
    x = pixels(9, *model.image_size, 1)
    features = model.features(x, threads=2)
    np.testing.assert_allclose(np.concatenate([model.features(x[i:i + 1]) for i in range(9)]), features, rtol=1e-4,
                               atol=1e-6)
    np.testing.assert_array_equal(model.features(x, threads=1), features)
    with pytest.raises(ValueError, match=r"images must be \(B, H, W, C\)"):
        model.features(x[0])
    with pytest.raises(TypeError, match="uint8 pixels or floats"):
        model.features(x.astype(int))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run on a folder of image files and one on arrays."""
    path = tmp_path_factory.mktemp("runs")
    save_folder(path / "pictures", (8, 16))
    save_npz(path / "x.npz", (8, 16))
    for source, name in (("pictures", "folder"), ("x.npz", "arrays")):
        options = ["--image-size", "8x16"] if name == "folder" else []
        assert cli.main(["train", str(path / source), "--epochs", "3", "--out", str(path / name), "-q", *options]) == 0
    return path


@pytest.mark.parametrize("name", ["folder", "arrays"])
def test_the_file_has_the_features_of_all_images_of_the_run(name, runs, tmp_path, capsys):
    out = tmp_path / "f.npz"
    assert cli.main(["features", str(runs / name), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"features 120 x 64 of 120 images: {out}\n"
    model, data = minivit.load(runs / name), minivit.load_data(**_source(runs / name))
    with np.load(out) as file:
        arrays = dict(file)
    assert arrays["class_names"].tolist() == list(data.class_names)
    for part, (images, labels) in data.parts.items():
        here = arrays["part"] == part
        np.testing.assert_array_equal(arrays["labels"][here], labels)
        np.testing.assert_allclose(arrays["features"][here], model.features(images), rtol=1e-4, atol=1e-6)
    files = arrays["files"][arrays["part"] == "test"].tolist()
    assert files == (list(data.test_files) if name == "folder" else [""] * 24)


def _source(run):
    return json.loads((run / "config.json").read_text())["data"]["source"]


def test_other_data_have_all_images_in_one_part_and_nearest_neighbours_share_a_class(runs, tmp_path, capsys):
    save_folder(tmp_path / "more", (8, 16))
    out = tmp_path / "f.npz"
    assert cli.main(["features", str(runs / "folder"), str(tmp_path / "more"), "--out", str(out), "--json"]) == 0
    shapes = json.loads(capsys.readouterr().out)
    assert shapes["features"] == {"shape": [120, 64], "dtype": "float32"}
    with np.load(out) as file:
        features, labels, part, files = (file[name] for name in ("features", "labels", "part", "files"))
    assert set(part) == {"all"}
    assert all((tmp_path / "more" / name).is_file() for name in files)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    nearest = (unit @ unit.T - 2 * np.eye(120)).argmax(axis=1)
    assert (labels[nearest] == labels).mean() > 0.9


def test_features_at_another_size_and_of_all_tokens(runs, tmp_path, capsys):
    out = tmp_path / "f.npz"
    assert cli.main(["features", str(runs / "folder"), "--out", str(out), "--image-size", "16x32", "--tokens"]) == 0
    data = minivit.load_data(**(_source(runs / "folder") | {"image_size": (16, 32)}))
    expected = minivit.load(runs / "folder").features(data.test_images, tokens=True)
    with np.load(out) as file:
        np.testing.assert_allclose(file["features"][file["part"] == "test"], expected, rtol=1e-4, atol=1e-5)
    assert expected.shape[1] == 1 + 4 * minivit.load(runs / "folder").grid[0] * minivit.load(runs / "folder").grid[1]


def test_weights_without_a_head_have_features(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = minivit.create_model("vit_mini_patch2_8", seed=3)
    write_tensors("w.safetensors", {name: x for name, x in to_timm(model).items() if "head" not in name}, {})
    assert cli.main(["features", "w.safetensors", "digits", "--model", "vit_mini_patch2_8", "--out", "f.npz"]) == 0
    digits = minivit.load_data("digits", test_fraction=1)
    with np.load("f.npz") as file:
        np.testing.assert_allclose(file["features"], model.features(digits.test_images), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("arguments", "message"), [
    (["folder", "--out", "f.txt"], "features are written as an .npz file, not as f.txt: give it the ending .npz"),
    (["folder", "nowhere", "--out", "f.npz"], "unknown data set"),
    (["folder", "digits", "--image-size", "9", "--out", "f.npz"], "--image-size: only for a folder of image files"),
    (["w.safetensors", "--model", "vit_mini_patch2_8", "--out", "f.npz"], "a file of weights has no data of its own"),
    (["w.safetensors", "digits", "--out", "f.npz"], "pass the model that has these weights as --model"),
    (["arrays", "--image-size", "16x32", "--out", "f.npz"], "--image-size: only for a folder of image files"),
    (["folder", "--image-size", "2x16", "--out", "f.npz"], "image size must be a whole number at least 4"),
    (["w.safetensors", "PICTURES", "--model", "vit_mini_patch2_8", "--image-size", "9x16", "--out", "f.npz"],
     "H and W divisible by the patch size 2, not (1, 9, 16, 1)"),
])
def test_what_cannot_be_computed_is_one_line_and_no_file(arguments, message, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_weights("w.safetensors", minivit.create_model("vit_mini_patch2_8"))
    run = str(runs / arguments[0]) if arguments[0] != "w.safetensors" else arguments[0]
    rest = [str(runs / "pictures") if word == "PICTURES" else word for word in arguments[1:]]
    assert cli.main(["features", run, *rest]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.safetensors"]


# ---- predict and evaluate at another size --------------------------------------------------------------------------


def test_predict_and_evaluate_at_another_size(runs, tmp_path, capsys):
    run, model = runs / "folder", minivit.load(runs / "folder")
    file = sorted((runs / "pictures" / "a").iterdir())[0]
    assert cli.main(["predict", str(run), str(file), "--image-size", "16x32", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    logits = model.predict(read_image_files([file], (16, 32), 1))[0].astype(np.float64)
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert row["classes"][0]["probability"] == pytest.approx(probabilities.max(), rel=1e-4)
    data = minivit.load_data(**(_source(run) | {"image_size": (16, 32)}))
    right = (model.predict(data.test_images).argmax(axis=1) == data.test_labels).mean()
    for more in ([], [str(runs / "pictures")]):                       # the run's own data, also by their path
        assert cli.main(["evaluate", str(run), *more, "--image-size", "16x32", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["accuracy"], found["images"]) == (pytest.approx(right), 24)


@pytest.mark.parametrize(("arguments", "message"), [
    (["predict", "folder", "3", "--image-size", "16x32"],
     "--image-size 16x32 is for image files: 3 is the number of a test image, which has 8x16 pixels"),
    (["evaluate", "arrays", "--image-size", "16x32"],
     "--image-size 16x32: the images of x.npz have a fixed size, which only image files have not"),
    (["evaluate", "folder", "--image-size", "2x16"], "image size must be a whole number at least 4"),
])
def test_images_that_cannot_have_another_size_are_named(arguments, message, runs, capsys):
    verb, run, *rest = arguments
    assert cli.main([verb, str(runs / run), *rest]) == 2
    assert message in capsys.readouterr().err


def test_predict_with_weights_at_another_size(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = minivit.create_model("vit_mini_patch2_8", seed=3)
    model.head.weight.data = np.random.default_rng(0).standard_normal(model.head.weight.shape)
    write_weights("w.safetensors", model)
    Image.fromarray(pixels(12, 20)).save("x.png")
    assert cli.main(["predict", "w.safetensors", "x.png", "--model", "vit_mini_patch2_8", "--image-size", "12x20",
                     "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert row["classes"][0]["class"] == str(model.predict(pixels(1, 12, 20, 1).reshape(1, 12, 20, 1)).argmax())
