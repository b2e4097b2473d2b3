"""Folders of timm and Hugging Face: both libraries load them with our logits; we load theirs; bad input.

Where timm and transformers are installed, they load what we write, and we load what they write.
"""

import json

import numpy as np
import pytest
from helpers import assert_refused, relative_difference
from PIL import Image
from safetensors.numpy import load_file, save_file

import minivit
from minivit import cli
from minivit.export import write_hugging_face_folder, write_timm_folder
from minivit.models.pretrained import load_weights
from minivit.training_pipeline.pretrained.weight_source import WeightSource

SMALL = {"image_size": 8, "patch_size": 2, "width": 12, "depth": 2, "heads": 3, "classes": 5}
MODELS = {
    "vit": ("vit", SMALL | {"channels": 1, "mean": 0.3, "std": 0.6}),
    "vit by mean": ("vit", SMALL | {"pool": "mean", "mlp_ratio": 3}),
    "vit with sincos": ("vit", SMALL | {"positions": "sincos"}),
    "vit without positions": ("vit", SMALL | {"positions": "none"}),
    "oblong vit": ("vit", SMALL | {"image_size": (8, 12), "patch_size": (2, 4)}),
    "vit with registers": ("extended_vit", SMALL | {"registers": 3}),
    "vit by mean, with all extensions": ("extended_vit", SMALL | {"registers": 2, "pool": "mean", "qk_norm": True}),
    "vit with layer scale": ("vit", SMALL | {"layer_scale": 0.5}),
    "vit by mean of normed tokens": ("extended_vit", SMALL | {"class_token": False, "pool": "mean",
                                                              "norm_first": True}),
    "deit": ("deit", SMALL),
    "deit without positions": ("deit", SMALL | {"positions": "none"}),
    "swin": ("swin_mini", {"image_size": 28, "classes": 5, "mean": [0.1], "std": [0.2]}),
    "oblong swin": ("swin", {"image_size": (20, 28), "patch_size": 2, "width": 12, "depths": (2, 2), "heads": (3, 2),
                             "window": (4, 3), "classes": 5}),
    "resnet": ("resnetv2_50x1_bit", {"image_size": 33, "classes": 5}),
}
NAMES = ["a", "b", "c", "d", "\u00e4"]
EXPRESSED = ["vit", "oblong vit", "vit with sincos", "vit without positions"]       # by ViTForImageClassification


def make(name):
    """A model with random weights of every tensor."""
    family, options = MODELS[name]
    model, rng = minivit.create_model(family, **options), np.random.default_rng(1)
    for p in model.parameters():
        p.data = p.data + 0.1 * p.data.std() * rng.standard_normal(p.shape) + 0.02 * rng.standard_normal(p.shape)
    return model


def pixels(model):
    return np.random.default_rng(2).integers(0, 256, (3, *model.input_shape)).astype(np.uint8)


def channels_first(model, images):
    """What a model of PyTorch takes: normalised, (B, C, H, W), as float64."""
    import torch

    return torch.tensor(((images / 255 - model.mean) / model.std).transpose(0, 3, 1, 2))


# ---- round trips ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_timm_folder_gives_the_model_again(tmp_path, name):
    model = make(name)
    write_timm_folder(model, tmp_path / "folder", class_names=NAMES, crop=0.9)
    found = load_weights(tmp_path / "folder")
    assert (found.class_names, found.fit, found.crop) == (NAMES, "crop", 0.9)
    assert relative_difference(found.model.predict(pixels(model)), model.predict(pixels(model))) < 1e-5
    write_timm_folder(found.model, tmp_path / "again", class_names=found.class_names, crop=found.crop)
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "folder" / file).read_bytes()


@pytest.mark.parametrize("name", EXPRESSED)
def test_a_folder_of_hugging_face_gives_the_model_again(tmp_path, name):
    model = make(name)
    write_hugging_face_folder(model, tmp_path / "folder", class_names=NAMES)
    found = load_weights(tmp_path / "folder")
    assert (found.class_names, found.fit, found.crop) == (NAMES, "stretch", 1.0)
    assert relative_difference(found.model.predict(pixels(model)), model.predict(pixels(model))) < 1e-5
    np.testing.assert_array_equal(found.model.mean, model.mean)


@pytest.mark.parametrize("name", MODELS)
def test_timm_loads_the_folder_and_has_our_logits(tmp_path, name):
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    model = make(name)
    write_timm_folder(model, tmp_path / "folder", class_names=NAMES, crop=0.8)
    theirs = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True).eval().double()
    with torch.no_grad():
        logits = theirs(channels_first(model, pixels(model))).numpy()
    assert relative_difference(logits, model.astype(np.float64).predict(pixels(model))) < 1e-6
    config = timm.data.resolve_model_data_config(theirs)
    assert config["input_size"] == (model.channels, *model.image_size)
    assert (list(config["mean"]), list(config["std"]), config["crop_pct"]) == ([*model.mean], [*model.std], 0.8)
    assert theirs.pretrained_cfg["label_names"] == NAMES


@pytest.mark.parametrize("name", EXPRESSED)
def test_transformers_loads_the_folder_and_we_load_what_it_saves(tmp_path, name):
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    model, images = make(name), pixels(make(name))
    write_hugging_face_folder(model, tmp_path / "ours", class_names=NAMES)
    theirs = transformers.ViTForImageClassification.from_pretrained(tmp_path / "ours").eval().double()
    processor = transformers.ViTImageProcessor.from_pretrained(tmp_path / "ours")
    with torch.no_grad():
        logits = theirs(channels_first(model, images)).logits.numpy()
    assert relative_difference(logits, model.astype(np.float64).predict(images)) < 1e-6
    assert theirs.config.id2label == dict(enumerate(NAMES))
    assert list(processor.image_mean) == [*model.mean]
    theirs.float().save_pretrained(tmp_path / "theirs")
    processor.save_pretrained(tmp_path / "theirs")
    found = load_weights(tmp_path / "theirs")
    assert found.class_names == NAMES
    assert relative_difference(found.model.predict(images), model.predict(images)) < 1e-5


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, no_pictures):
    folder = tmp_path_factory.mktemp("folders") / "run"
    model = minivit.create_model("vit", **(SMALL | {"channels": 1, "classes": 10}))
    minivit.train(model, "digits", epochs=1, out=folder, progress=False)
    return folder


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "digit.png"
    Image.fromarray(minivit.load_data("digits").test_images[3, :, :, 0]).save(path)
    return path


@pytest.mark.parametrize("form", ["--timm", "--hugging-face"])
def test_export_and_predict_by_folder_and_by_file(run_folder, image, tmp_path, capsys, form):
    assert cli.main(["export", str(run_folder), str(tmp_path / "out"), form, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"config.json", "model.safetensors"} <= set(result["files"])
    rows = []
    for source in (run_folder, tmp_path / "out", tmp_path / "out" / "model.safetensors",
                   run_folder / "model.safetensors"):
        assert cli.main(["predict", str(source), str(image), "--json"]) == 0
        rows.append(json.loads(capsys.readouterr().out)[0]["classes"])
    for row in rows[1:]:
        assert [c["class"] for c in row] == [c["class"] for c in rows[0]]
        assert [c["probability"] for c in row] == pytest.approx([c["probability"] for c in rows[0]], rel=1e-4)


def test_class_names_of_a_config_are_those_of_predict_trace_and_onnx(tmp_path, image, capsys):
    write_timm_folder(make("vit"), tmp_path / "folder", class_names=NAMES)
    assert cli.main(["predict", str(tmp_path / "folder"), str(image), "--top", "5", "--json"]) == 0
    assert {c["class"] for c in json.loads(capsys.readouterr().out)[0]["classes"]} == set(NAMES)
    assert cli.main(["trace", str(tmp_path / "folder"), "--images", "1"]) == 0


def test_weights_compares_with_the_model_of_the_config(tmp_path, capsys):
    write_hugging_face_folder(make("vit"), tmp_path / "hf", class_names=NAMES)
    assert cli.main(["weights", str(tmp_path / "hf")]) == 0
    assert "these weights are of this model" in capsys.readouterr().out
    assert cli.main(["weights", str(tmp_path / "hf" / "model.safetensors"), "--image-size", "16"]) == 0
    assert "1 resized" in capsys.readouterr().out
    (tmp_path / "hf" / "config.json").unlink()
    assert cli.main(["weights", str(tmp_path / "hf" / "model.safetensors")]) == 2
    assert "or put its config.json beside it" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["", "model.safetensors"])
def test_fine_tuning_starts_from_a_folder_of_others_and_resumes(tmp_path, monkeypatch, capsys, file):
    family, options = MODELS["vit"]
    model = minivit.create_model(family, **options)
    write_hugging_face_folder(model, tmp_path / "hf", class_names=NAMES)
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", images=rng.integers(0, 255, (40, 8, 8, 1), np.uint8), labels=np.arange(40) % 2)
    command = ["train", str(tmp_path / "data.npz"), "--fine-tune", str(tmp_path / "hf" / file), "--epochs", "1",
               "--out", str(tmp_path / "run"), "--quiet", "--lr", "1e-9", "--ema", "0", "--optimiser", "adamw"]
    assert cli.main(command) == 0
    trained = minivit.load(tmp_path / "run")
    assert trained.classes == 2
    block = {p.name: p.data for p in model.parameters()}["blocks.1.mlp.fc1.weight"]
    np.testing.assert_allclose(trained.blocks[1].mlp.fc1.weight.data, block, atol=1e-6)
    start = json.loads((tmp_path / "run" / "config.json").read_text())["training"]["start"]
    assert start["model"] is None
    assert len(start["sha256"]) == 64


def test_the_weights_of_a_run_are_those_of_the_run_which_knows_its_test_images(run_folder):
    assert WeightSource(run_folder / "model.safetensors").run is not None


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "write", "message"), [
    (("vit", SMALL | {"relative_bias": True}), write_timm_folder, "has no relative_bias=True, so it cannot load"),
    (("vit", SMALL | {"positions": "rotary"}), write_timm_folder, "has no positions='rotary', so it cannot load"),
    (("vit", SMALL | {"positions": "rotary"}), write_hugging_face_folder, "it cannot express a ExtendedViT"),
    (("vit", SMALL | {"stem": "conv"}), write_timm_folder, "has no stem='conv', so it cannot load"),
    (("resnet_mini", {}), write_timm_folder, "timm builds BiT's ResNets only"),
    (("vit", SMALL | {"pool": "mean"}), write_hugging_face_folder, "it cannot express a ViT with pool='mean'"),
    (("deit", SMALL), write_hugging_face_folder, "it cannot express a DeiT"),
    (("swin_mini", {}), write_hugging_face_folder, "it cannot express a Swin"),
])
def test_a_model_that_the_library_lacks_is_refused_and_nothing_written(tmp_path, options, write, message):
    model = minivit.create_model(options[0], **options[1])
    with pytest.raises(ValueError, match=message):
        write(model, tmp_path / "folder")
    assert not list(tmp_path.iterdir())


def written(tmp_path, kind="timm"):
    """A good folder, and its config.json as a dict."""
    write = write_timm_folder if kind == "timm" else write_hugging_face_folder
    write(make("vit"), tmp_path / "folder", class_names=NAMES)
    return json.loads((tmp_path / "folder" / "config.json").read_text())


@pytest.mark.parametrize(("kind", "changes", "message"), [
    ("timm", {"architecture": "resnet18.a1_in1k"}, "config.json: unknown model 'resnet18.a1_in1k'"),
    ("timm", {"architecture": "vit_base_patch16_siglip_224"}, "needs what is not built here: another pooling"),
    ("timm", {"model_args": {"depth": 2, "qk_norm": True, "act_layer": "quick_gelu"}}, "act_layer='quick_gelu'"),
    ("timm", {"label_names": ["a"]}, "it names 1 classes, but the model has 5"),
    ("timm", {"architecture": "vit_tiny_patch16_224", "model_args": {}},
     "config.json: the image size 8 must be divisible by the patch"),
    ("timm", {"model_args": {"img_size": 8, "patch_size": 2}}, "these weights are of another model"),
    ("timm", {"pretrained_cfg": {"input_size": [1, 8, 8, 8]}}, "a size must be a whole number"),
    ("timm", {"pretrained_cfg": {"input_size": 7}}, "config.json is damaged: TypeError"),
    ("hf", {"architectures": ["ViTModel"]}, "only ViTForImageClassification is built here, not ViTModel"),
    ("hf", {"model_type": "swin"}, "only ViTForImageClassification is built here"),
    ("hf", {"hidden_act": "relu"}, "a ViT with hidden_act='relu' is not built here, only with 'gelu'"),
    ("hf", {"hidden_size": None}, "config.json is damaged"),
    ("hf", {"num_hidden_layers": 3}, "these weights are of another model: 12 missing"),
])
def test_folders_of_other_models_are_one_line(tmp_path, image, capsys, kind, changes, message):
    config = written(tmp_path, kind) | changes
    (tmp_path / "folder" / "config.json").write_text(json.dumps(config))
    assert cli.main(["predict", str(tmp_path / "folder"), str(image)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', '{"architecture": 3}', '{"model_type": "vit"}'])
def test_a_damaged_config_is_one_line(tmp_path, image, capsys, content):
    written(tmp_path)
    (tmp_path / "folder" / "config.json").write_text(content)
    assert cli.main(["predict", str(tmp_path / "folder" / "model.safetensors"), str(image)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "config.json" in error or "another model" in error


def test_a_block_without_a_key_is_one_line(tmp_path, image, capsys):
    written(tmp_path, "hf")
    file = tmp_path / "folder" / "model.safetensors"
    tensors = load_file(file)
    del tensors["vit.encoder.layer.0.attention.attention.key.weight"]
    save_file(tensors, file)
    assert cli.main(["predict", str(tmp_path / "folder"), str(image)]) == 2
    assert "the query, key and value of blocks.0 do not fit together" in capsys.readouterr().err


@pytest.mark.parametrize(("out", "more", "message"), [
    ("full", ["--timm"], "full already holds 1 files: name a new or empty folder"),
    ("file", ["--hugging-face"], "file is a file: name a new folder"),
    ("nowhere/x", ["--timm"], "nowhere: no such folder, so x cannot be made there"),
    ("x", ["--timm", "--attention"], "--attention is an option of ONNX files: leave it out here"),
    ("x", ["--timm", "--hugging-face"], "not allowed with argument --timm"),
])
def test_bad_output_is_one_line_and_writes_nothing(run_folder, tmp_path, capsys, out, more, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "file").touch()
    assert_refused(tmp_path, capsys, ["export", str(run_folder), str(tmp_path / out), *more], message)


def test_a_full_disk_leaves_no_folder(run_folder, tmp_path, capsys, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert cli.main(["export", str(run_folder), str(tmp_path / "x"), "--timm"]) == 2
    assert capsys.readouterr().err == f"minivit: error: {tmp_path / 'x'}: No space left on device\n"
    assert not list(tmp_path.iterdir())
