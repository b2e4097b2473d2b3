"""Fine-tuning, linear probes and presets."""

import json
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import change_weights, google_arrays, interrupt
from PIL import Image

import minivit
from minivit import cli
from minivit.data.dataset import Dataset
from minivit.models.linear_probe import LinearProbe
from minivit.parallel import blas, prediction
from minivit.training.augment import without_strong
from minivit.training.settings import SETTINGS, default_settings
from minivit.training.trainer import Trainer
from minivit.training_pipeline.checkpoints import Interrupted
from minivit.training_pipeline.defaults.default_model import model_for
from minivit.training_pipeline.defaults.presets import PRESETS, SHORT_PRESETS, preset_for
from minivit.training_pipeline.folder import RunFolder
from minivit.training_pipeline.pretrained import probe_features as training_features
from minivit.training_pipeline.pretrained.fine_tune import fine_tuned_model
from minivit.training_pipeline.pretrained.probe_features import features
from minivit.training_pipeline.pretrained.weight_source import WeightSource
from minivit.training_pipeline.run_settings import new_settings
from minivit.weight_formats.match import resized_grid
from minivit.weight_formats.safetensors_io import read_tensors
from minivit.weight_formats.timm import to_timm, write_weights

pytestmark = pytest.mark.usefixtures("no_pictures")
SIZES = {"image_size": 8, "patch_size": 2, "channels": 1, "classes": 10, "width": 16, "depth": 1, "heads": 2,
         "mlp_ratio": 2}


def dataset(name="mine", size=8, channels=1, classes=("a", "b", "c"), images=30):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (images, size, size, channels), dtype=np.uint8)
    labels = np.arange(images) % len(classes)
    return Dataset(name, x, labels, x[:len(classes)], labels[:len(classes)], tuple(classes))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, no_pictures):
    """A run on the digits, with a class token, learned positions and nonzero relative position biases."""
    folder = tmp_path_factory.mktemp("fine") / "run"
    minivit.train(minivit.create_model("vit", relative_bias=True, mean=0.3, **SIZES), "digits", epochs=1, out=folder,
                  progress=False)
    return RunFolder(folder)


# ---- fine-tuning ----------------------------------------------------------------------------------------------------


def test_other_classes_get_a_new_head_and_keep_the_other_weights(finished):
    old, new = finished.read_model(), fine_tuned_model(WeightSource(finished.path), dataset(), seed=5)
    assert new.classes == 3
    assert not new.head.weight.data.any()
    values = {p.name: p.data for p in new.parameters()}
    for p in old.parameters():
        if not p.name.startswith("head."):
            np.testing.assert_array_equal(values[p.name], p.data)
    np.testing.assert_array_equal(new.mean, old.mean)
    assert (finished.read_model().vector == old.vector).all()


def test_the_same_classes_keep_the_head(finished):
    digits = minivit.load_data("digits")
    np.testing.assert_array_equal(fine_tuned_model(WeightSource(finished.path), digits).predict(digits.test_images),
                                  finished.read_model().predict(digits.test_images))
    renamed = replace(digits, class_names=tuple("abcdefghij"))
    assert not fine_tuned_model(WeightSource(finished.path), renamed).head.weight.data.any()


@pytest.mark.parametrize("size", [4, 12, 16])
def test_positions_are_resized_for_images_of_another_size(finished, size):
    old, new = finished.read_model(), fine_tuned_model(WeightSource(finished.path), dataset(size=size))
    side = size // 2
    assert new.pos_embed.shape == (side * side + 1, 16)
    np.testing.assert_array_equal(new.pos_embed.data[0], old.pos_embed.data[0])
    table, before = (m.blocks[0].attn.rel_pos.relative_position_bias_table.data for m in (new, old))
    assert table.shape == ((2 * side - 1) ** 2 + 3, 2)
    np.testing.assert_array_equal(table[-3:], before[-3:])
    assert before.any()
    assert new.forward(dataset(size=size).test_images).shape == (3, 3)


def test_resizing_a_grid_interpolates_smoothly():
    y, x = np.mgrid[:8, :8] / 8
    rows = np.stack([y.ravel(), x.ravel(), np.full(64, 7.0)], axis=1)
    resized = resized_grid(np.concatenate([[[1, 2, 3]], rows]), (8, 8), (16, 16), first=1)
    assert resized.dtype == np.float64
    np.testing.assert_array_equal(resized[0], [1, 2, 3])
    grid = resized[1:].reshape(16, 16, 3)
    np.testing.assert_allclose(grid[..., 2], 7, rtol=1e-6)
    np.testing.assert_allclose(grid[..., 0], grid[..., 1].T, atol=1e-6)
    # away from the edges a linear slope is preserved
    np.testing.assert_allclose(np.diff(grid[4:-4, 0, 0]), 1 / 16, atol=1e-6)
    np.testing.assert_array_equal(resized_grid(rows, (8, 8), (8, 8)), rows)


def test_grids_can_be_rectangular():
    y, x = np.mgrid[:16, :6]
    resized = resized_grid(np.stack([y.ravel(), x.ravel()], axis=1) / 1.0, (16, 6), (8, 12)).reshape(8, 12, 2)
    # the mean of two rows
    np.testing.assert_allclose(resized[2:-2, :, 0].mean(axis=1), [4.5, 6.5, 8.5, 10.5], atol=1e-5)
    np.testing.assert_allclose(np.diff(resized[0, 4:-4, 1]), 0.5, atol=1e-5)
    assert np.ptp(resized[:, 3, 1]) < 1e-5


@pytest.mark.parametrize(("data", "options", "message"), [
    (dataset(channels=3), {}, "was trained on images of 1 channels, but those of mine are 8x8x3"),
    (dataset(size=9), {}, "image size 9 must be divisible by the patch size 2"),
    (dataset(), {"pool": "mean"}, r"do not fit a model with .*pool"),
    (dataset(), {"depth": 2}, r"do not fit a model with .*depth"),
    (dataset(), {"heads": 1}, r"are for \d heads: leave out heads=1"),
], ids=["channels", "size", "pool", "depth", "heads"])
def test_wrong_arguments_are_named(finished, data, options, message):
    with pytest.raises(ValueError, match=message):
        fine_tuned_model(WeightSource(finished.path), data, **options)


@pytest.fixture
def image_folder(tmp_path):
    """An image folder of two classes."""
    rng = np.random.default_rng(0)
    for name in ("dark", "light"):
        (tmp_path / "image_folder" / name).mkdir(parents=True)
        for k in range(10):
            image = rng.integers(0, 100, (20, 20)).astype(np.uint8) + (100 if name == "light" else 0)
            Image.fromarray(image).save(tmp_path / "image_folder" / name / f"{k}.png")
    return tmp_path / "image_folder"


def test_the_command_line_fine_tunes_and_resumes(finished, image_folder, tmp_path, monkeypatch, capsys):
    def call(*arguments):
        assert cli.main([str(a) for a in arguments]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    fine_tune = ("train", image_folder, "--epochs", 4, "--batch-size", 4, "--layer", "blocks.*:0.1", "--json", "--out")
    whole = json.loads(call(*fine_tune, tmp_path / "whole", "--fine-tune", finished.path))
    assert whole["images"] == 4
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert config["training"]["start"]["run"] == str(finished.path)
    assert config["training"]["layers"] == [["blocks.*", 0.1]]
    assert config["model"]["options"]["image_size"] == 8

    for calls in (1, 6):                         # before the first checkpoint, and after it
        assert interrupted(monkeypatch, Trainer, "step", calls, *fine_tune, tmp_path / str(calls), "--fine-tune",
                           finished.path) == 130
        call("train", image_folder, "--out", tmp_path / str(calls), "--resume", "--json")
        weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in (str(calls), "whole")]
        assert weights[0] == weights[1]


# ---- presets --------------------------------------------------------------------------------------------------------


def test_presets_contain_only_known_settings():
    for preset in (*PRESETS.values(), *SHORT_PRESETS.values()):
        assert preset.training.keys() <= SETTINGS.keys()


@pytest.mark.parametrize(("name", "size", "channels"), [("mnist", 28, 1), ("fashion-mnist", 28, 1), ("cifar10", 32, 3),
                                                        ("cifar100", 32, 3),
                                                        ("digits", 8, 1), ("mine", 12, 1), ("photos", 64, 3)])
@pytest.mark.parametrize("minutes", [None, 1.5])
def test_every_preset_trains(name, size, channels, minutes):
    data = dataset(name, size, channels)
    model = model_for(data, minutes=minutes)
    settings = preset_for(data, minutes).training | {"epochs": 1, "batch_size": 8}
    result = minivit.train(model, data, progress=False, **settings)
    assert result.steps == 3
    assert np.isfinite(result.loss)


def test_train_takes_the_preset_of_its_data(tmp_path):
    data = dataset("fashion-mnist", 28)
    minivit.train(model_for(data, depth=1), data, epochs=1, lr=1e-4, out=tmp_path / "run", progress=False)
    settings = RunFolder(tmp_path / "run").config()["training"]
    expected = default_settings() | PRESETS["fashion-mnist"].training | {"epochs": 1, "lr": 1e-4, "batch_size": 30}
    assert settings.items() >= (expected | {"lanes": 2}).items()


def test_the_clean_end_of_a_preset_is_for_its_own_augmentation():
    data, preset = dataset("fashion-mnist", 28), PRESETS["fashion-mnist"].training
    own, other = ({"augment": preset["augment"], "clean_end": preset["clean_end"]}, {"clean_end": 0.0})
    for given, expected in (({}, own), ({"augment": "none"}, other | {"augment": "none"}),
                            ({"augment": "cutmix"}, other | {"augment": "cutmix"}),
                            ({"augment": "cutmix", "clean_end": 0.2}, {"augment": "cutmix", "clean_end": 0.2})):
        settings = new_settings(model_for(data, depth=1), data, {"epochs": 1} | given)
        assert settings.items() >= expected.items()


def test_pre_training_leaves_out_what_hides_mixes_or_distorts_images():
    data = dataset("fashion-mnist", 28)
    model = model_for(data, depth=1)
    settings = new_settings(model, data, {"mask_ratio": 0.75})
    assert settings["augment"] == "crop:0.07,alternating-flip"
    assert settings["clean_end"] == 0
    assert new_settings(model, data, {"mask_ratio": 0.75, "augment": "cutout"})["augment"] == "cutout"
    assert without_strong("cutout,mixup") == "none"


def test_the_preset_of_the_digits_uses_the_default_model():
    digits = minivit.load_data("digits")
    assert preset_for(digits).model == {}
    assert model_for(digits).vector.size == 136_138


@pytest.mark.parametrize(("size", "stem"), [(28, "conv"), (32, "conv"), (64, "conv"), (42, "patch"), (13, "patch")])
def test_photographs_get_a_convolutional_stem_if_the_patch_size_allows_it(size, stem):
    model = model_for(dataset("photos", size, 3))
    assert model.config["stem"] == stem
    assert model.config["relative_bias"]
    assert preset_for(dataset("photos", size, 3)).training == {"augment": "affine,flip"}
    assert model_for(dataset("letters", size, 1)).config["stem"] == "patch"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [28, 32, 64, 96])
def test_other_images_get_a_model_of_the_same_size_at_any_resolution(size, channels):
    config = model_for(dataset("mine", size, channels)).config
    assert (config["width"], config["depth"], config["heads"]) == (64, 4, 4)


def test_short_trainings_have_their_own_presets():
    data = dataset("fashion-mnist", 28)
    assert preset_for(data, 1.5) is SHORT_PRESETS["fashion-mnist"]
    assert preset_for(data, 30) is preset_for(data) is PRESETS["fashion-mnist"]
    assert model_for(data, minutes=1.5).vector.size < model_for(data).vector.size
    # a model given by name does not take the preset
    assert model_for(data, "vit", minutes=1.5).config["stem"] == "patch"


@pytest.mark.parametrize(("size", "channels", "reduction"), [(8, 1, 1), (28, 1, 2), (32, 3, 2), (64, 3, 4)])
def test_the_small_resnet_trains_on_any_image_size(size, channels, reduction):
    data = dataset("mine", size, channels)
    model = model_for(data, "resnet_mini")
    assert model.config == model_for(data, "resnet").config
    assert (model.image_size, model.channels, model.classes, model.reduction) == ((size, size), channels, 3, reduction)
    result = minivit.train(model, data, epochs=2, batch_size=10, progress=False)
    assert result.steps == 6
    assert np.isfinite(result.loss)


def test_fine_tuning_keeps_all_of_a_resnet_but_its_head(tmp_path):
    old = model_for(dataset("old", 8), "resnet", layers=[1, 1], width=8)
    minivit.train(old, dataset("old", 8), epochs=1, out=tmp_path / "run", progress=False)
    new = fine_tuned_model(WeightSource(tmp_path / "run"), dataset("new", 12, classes=("c", "d", "e", "f")))
    assert (new.image_size, new.classes) == ((12, 12), 4)
    names = [p.name for p in new.parameters()]
    for name, a, b in zip(names, old.parameters(), new.parameters(), strict=True):
        assert name.startswith("head.") or np.array_equal(a.data, b.data)


# ---- from a file of weights, and probes -----------------------------------------------------------------------------


NAMED = ("vit_mini_patch2_8", "deit_mini_patch2_8", "swin_mini_patch1_window4_8", "resnet_mini")


def write_file(path, name="vit_mini_patch2_8", **options):
    """Write the weights of a named variant, with a random head, to a file; return the model."""
    model = minivit.create_model(name, mean=0.3, **options)
    rng = np.random.default_rng(7)
    for p in model.parameters():
        if p.name.startswith("head"):
            p.data = rng.standard_normal(p.shape) / 8
    write_weights(path, model)
    return model


@pytest.fixture
def call(capsys):
    """Run a command; return its exit code, stdout and stderr."""
    def call(*arguments):
        capsys.readouterr()
        code = cli.main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err
    return call


@pytest.mark.parametrize("name", NAMED)
def test_backbone_and_probe_together_equal_the_model(tmp_path, name):
    size = {"image_size": 8} if name == "resnet_mini" else {}
    model = write_file(tmp_path / "w.safetensors", name, **size)
    images = dataset(size=8).train_images
    found = features(model, {"train": images, "test": images[:0]}, progress=False)
    assert found["test"].shape == (0, *found["train"].shape[1:])
    probe = LinearProbe(model)
    assert found["train"].shape == (30, *probe.input_shape)
    np.testing.assert_allclose(probe.predict(found["train"]), model.predict(images), rtol=1e-4, atol=1e-5)
    assert {p.name for p in probe.parameters()} == {p.name for p in model.parameters() if p.name.startswith("head")}
    before = {p.name: p.data.copy() for p in model.parameters()}
    minivit.Trainer(probe).step(found["train"], np.arange(30) % 10)
    changed = {p.name for p in model.parameters() if not np.array_equal(p.data, before[p.name])}
    assert changed == {p.name for p in probe.parameters()}


@pytest.mark.parametrize("name", ["vit_mini_patch2_8", "deit_mini_patch2_8"])
def test_a_probe_trains_like_the_head_of_a_frozen_model(tmp_path, name):
    write_file(tmp_path / "w.safetensors", name)
    data, weights = dataset(), []
    settings = {"epochs": 4, "batch_size": 10, "augment": "none", "lr": 1e-2, "label_smoothing": 0.1, "progress": False}
    for probe, layers in ((True, None), (False, [["*", 0.0], ["head*", 1.0]])):
        model = fine_tuned_model(WeightSource(tmp_path / "w.safetensors", name), data, seed=1, probe=probe)
        result = minivit.train(model, data, probe=probe, layers=layers, clip=1e9, **settings)
        assert result.model is model
        old = WeightSource(tmp_path / "w.safetensors", name).tensors
        assert all(np.array_equal(x, old[key]) for key, x in to_timm(model).items() if not key.startswith("head"))
        weights.append(model.vector)
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-3, atol=1e-5)
    assert not np.allclose(weights[0], fine_tuned_model(WeightSource(tmp_path / "w.safetensors", name), data,
                                                        seed=1).vector, atol=1e-3)


def test_the_backbone_of_a_probe_stays_memory_mapped(tmp_path):
    write_file(tmp_path / "w.safetensors")
    data = dataset()
    model = fine_tuned_model(WeightSource(tmp_path / "w.safetensors", "vit_mini_patch2_8"), data, probe=True)
    weight = model.blocks[2].mlp.fc1.weight.data
    minivit.train(model, data, probe=True, epochs=2, out=tmp_path / "run", progress=False)
    assert model.blocks[2].mlp.fc1.weight.data is weight
    assert not weight.flags.writeable
    assert model.head.weight.data.any()


@pytest.mark.parametrize("probe", [False, True])
def test_the_command_line_starts_from_a_file(image_folder, tmp_path, call, probe):
    model = write_file(tmp_path / "w.safetensors")
    more = ("--probe",) if probe else ("--lr", 1e-4)
    train = ("train", image_folder, "--fine-tune", tmp_path / "w.safetensors", "--model", "vit_mini_patch2_8",
             "--epochs",
             3, "--json",
             "--image-size", 12, "--batch-size", 4, *more)
    code, said, error = call(*train, "--out", tmp_path / "run")
    assert code == 0, error
    if probe:
        assert "features: " in error
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    options, start = config["model"]["options"], config["training"]["start"]
    assert (options["image_size"], options["classes"], options["mean"]) == (12, 2, [0.5])
    assert (start["file"], start["model"]) == (str(tmp_path / "w.safetensors"), "vit_mini_patch2_8")
    assert config["training"]["probe"] == probe
    assert not (tmp_path / "run" / "features.safetensors").exists()
    new = minivit.load(tmp_path / "run")
    assert new.pos_embed.shape == (37, 64)
    assert np.array_equal(new.blocks[0].mlp.fc1.weight.data, model.blocks[0].mlp.fc1.weight.data) == probe
    code, scored, _ = call("evaluate", tmp_path / "run", "--json")
    assert code == 0
    assert json.loads(scored)["accuracy"] == json.loads(said)["accuracy"]
    code, said, _ = call("predict", tmp_path / "run", image_folder / "dark" / "1.png", "--json")
    assert {c["class"] for c in json.loads(said)[0]["classes"]} == {"dark", "light"}


@pytest.mark.parametrize(("name", "file"), [*((name, "w.safetensors") for name in NAMED),
                                            ("vit_mini_patch2_8", "google.npz")])
def test_a_probe_works_for_every_family(image_folder, tmp_path, call, name, file):
    model = write_file(tmp_path / "w.safetensors", name)
    if file == "google.npz":
        np.savez(tmp_path / file, **google_arrays(model))
    code, said, error = call("train", image_folder, "--fine-tune", tmp_path / file, "--model", name, "--probe",
                             "--epochs",
                             5,
                             "--batch-size", 4, "--lr", 1e-2, "--out", tmp_path / "run", "--json")
    assert code == 0, error
    assert json.loads(said)["accuracy"] == 1                          # dark and light images are easy to separate
    old, new = to_timm(model), to_timm(minivit.load(tmp_path / "run"))
    assert {key for key in old
            if not np.array_equal(old[key], new[key])} == {key for key in old if key.startswith("head")}


def interrupted(monkeypatch, owner, name, calls, *arguments):
    """Return the exit code of a command that is interrupted in the given call of owner.name."""
    with monkeypatch.context() as patch:
        interrupt(patch, owner, name, calls)
        return cli.main([str(a) for a in arguments])


@pytest.mark.parametrize(("owner", "name", "calls"), [
    (training_features, "predict", 1), (training_features, "predict", 2), (Trainer, "step", 1), (Trainer, "step", 7)])
def test_an_interrupted_probe_resumes_to_the_same_bytes(image_folder, tmp_path, monkeypatch, call, owner, name, calls):
    write_file(tmp_path / "w.safetensors")
    monkeypatch.setattr(training_features, "BLOCK_ROWS", 8 * 17)    # blocks of 8 images, so that there are several
    train = ("train", image_folder, "--fine-tune", tmp_path / "w.safetensors", "--model", "vit_mini_patch2_8",
             "--probe",
             "--epochs", 3,
             "--batch-size", 4, "--json", "--out")
    assert call(*train, tmp_path / "whole")[0] == 0
    assert interrupted(monkeypatch, owner, name, calls, *train, tmp_path / "cut") == 130
    kept = len(read_tensors(tmp_path / "cut" / "features.safetensors")[0]["train"])
    assert kept == (16 if owner is Trainer else 8 * (calls - 1))
    asked, predict = [], training_features.predict

    def counting(trunk, images, threads, *more):
        asked.append(len(images))
        return predict(trunk, images, threads, *more)

    monkeypatch.setattr(training_features, "predict", counting)
    code, _, error = call("train", image_folder, "--resume", "--out", tmp_path / "cut")
    assert code == 0, error
    assert sum(asked) == 20 - (20 if owner is Trainer else kept)
    cut, whole = (tmp_path / name / "model.safetensors" for name in ("cut", "whole"))
    assert cut.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("patience", [0, 1])
def test_a_finished_probe_computes_no_training_features(tmp_path, monkeypatch, capsys, patience):
    write_file(tmp_path / "w.safetensors")
    data, asked, predict = dataset(), [], training_features.predict
    data = replace(data, val_images=data.train_images[:10], val_labels=data.train_labels[:10])
    settings = {"probe": True, "epochs": 40 if patience else 2, "patience": patience, "batch_size": 10,
                "out": tmp_path / "run"}
    start = WeightSource(tmp_path / "w.safetensors", "vit_mini_patch2_8")
    first = minivit.train(fine_tuned_model(start, data, probe=True), data, progress=False, **settings)
    assert (first.steps < 3 * settings["epochs"]) == bool(patience)
    capsys.readouterr()
    monkeypatch.setattr(training_features, "predict", lambda trunk, x, *more: asked.append(len(x))
                        or predict(trunk, x, *more))
    again = minivit.train(fine_tuned_model(start, data, probe=True), data, resume=True, **settings)
    assert sum(asked) == len(data.test_images) + len(data.val_images)
    assert "this run is finished" in capsys.readouterr().err
    assert again.steps == first.steps
    assert (again.test.confusion == first.test.confusion).all()
    assert (again.validation.confusion == first.validation.confusion).all()
    np.testing.assert_array_equal(again.model.vector, first.model.vector)


def test_features_of_other_weights_or_images_are_computed_again(tmp_path):
    model, run = write_file(tmp_path / "w.safetensors"), RunFolder(tmp_path)
    images = dataset().train_images
    first = features(model, {"train": images}, run, progress=False)["train"]
    for other in (images[::-1], images):
        np.testing.assert_allclose(features(model, {"train": other}, run, progress=False)["train"],
                                   first if other is images else first[::-1], rtol=1e-4, atol=1e-5)
    weight = model.blocks[0].mlp.fc1.weight
    before, weight.data = weight.data.copy(), weight.data * 2
    assert not np.allclose(features(model, {"train": images}, run, progress=False)["train"], first, atol=1e-3)
    weight.data = before
    run.features_file.write_bytes(b"damaged")
    np.testing.assert_array_equal(features(model, {"train": images}, run, progress=False)["train"], first)


@pytest.mark.parametrize("change", ["none", "normalisation", "heads", "parts"])
def test_features_are_kept_for_the_same_model_and_parts_only(tmp_path, monkeypatch, change):
    model, run, images = write_file(tmp_path / "w.safetensors"), RunFolder(tmp_path), dataset().train_images
    first = features(model, {"train": images}, run, progress=False)["train"]
    other = {"normalisation": {"mean": 0.4}, "heads": {"heads": 8}}.get(change, {})
    model = minivit.create_model("vit", **(model.config | {"mean": 0.3} | other), weights=tmp_path / "w.safetensors")
    parts = {"train": images[:10], "test": images[10:]} if change == "parts" else {"train": images}
    asked, predict = [], training_features.predict
    monkeypatch.setattr(training_features, "predict", lambda *given: asked.append(len(given[1])) or predict(*given))
    found = np.concatenate([*features(model, parts, run, progress=False).values()])
    assert sum(asked) == (0 if change == "none" else 30)
    assert np.allclose(found, first, atol=1e-4) == (change in ("none", "parts"))


def test_features_of_few_images_do_not_depend_on_threads(tmp_path, monkeypatch):
    model = write_file(tmp_path / "w.safetensors")
    limits, blas_threads = [], blas.blas_threads
    monkeypatch.setattr(prediction, "blas_threads", lambda threads: limits.append(threads) or blas_threads(threads))
    found = [features(model, {"train": dataset(images=2).train_images}, threads=threads, progress=False)["train"]
             for threads in (1, 4)]
    np.testing.assert_array_equal(*found)
    assert set(limits) == {1}


@pytest.mark.skipif(not hasattr(signal, "SIGTERM") or os.name == "nt", reason="no such signals")
def test_sigterm_saves_the_features_computed_so_far(tmp_path, monkeypatch):
    model, run, predict = write_file(tmp_path / "w.safetensors"), RunFolder(tmp_path / "run"), training_features.predict
    monkeypatch.setattr(training_features, "BLOCK_ROWS", 8 * 17)      # blocks of 8 images
    monkeypatch.setattr(training_features, "predict", lambda *given: os.kill(os.getpid(), signal.SIGTERM)
                        or predict(*given))
    model = fine_tuned_model(WeightSource(tmp_path / "w.safetensors", "vit_mini_patch2_8"), dataset(), probe=True)
    with pytest.raises(Interrupted, match="after the features of 8 of") as stopped:
        minivit.train(model, dataset(), probe=True, epochs=2, out=run.path, progress=False)
    assert stopped.value.signal == signal.SIGTERM
    assert len(read_tensors(run.features_file)[0]["train"]) == 8


def test_a_probe_resumes_only_with_its_own_backbone(tmp_path, monkeypatch):
    write_file(tmp_path / "w.safetensors")
    settings = {"probe": True, "epochs": 4, "out": tmp_path / "run", "progress": False}

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", stop)
        model = fine_tuned_model(WeightSource(tmp_path / "w.safetensors", "vit_mini_patch2_8"), dataset(), probe=True)
        with pytest.raises(Interrupted):
            minivit.train(model, dataset(), **settings)
    with pytest.raises(ValueError, match="is a probe of another model than this one"):
        minivit.train(RunFolder(tmp_path / "run").declare_model().pack(seed=1), dataset(), resume=True, **settings)
    run = RunFolder(tmp_path / "run")                                 # as if an earlier version had started it
    config = run.config()
    config["versions"]["minivit"], config["training"]["trunk"] = "0.0.9", training_features.backbone_digest(
        model, "0.0.9")
    run.write_config(config)
    minivit.train(model, dataset(), resume=True, **settings)


@pytest.mark.parametrize("option", ["--teacher", "--fine-tune"])
@pytest.mark.parametrize("change", ["one image less", "one more", "another name of the folder"])
def test_a_run_that_has_seen_test_images_is_refused_after_the_folder_changed(
    image_folder, tmp_path, call, option, change):
    train = ("train", "--epochs", 1, "--batch-size", 4, "--json", "--out")
    assert call(*train, tmp_path / "first", image_folder)[0] == 0
    if change == "one image less":
        (image_folder / "dark" / "0.png").unlink()
    elif change == "one more":
        Image.fromarray(np.zeros((20, 20), np.uint8)).save(image_folder / "dark" / "00.png")
    else:
        image_folder = image_folder.rename(tmp_path / "elsewhere")
    code, _, error = call(*train, tmp_path / "second", image_folder, option, tmp_path / "first", "--seed", 1)
    assert code == 2
    assert re.search(r"first was trained on images that are test images here, \d of 4: ", error)


def test_damaged_hashes_of_a_run_are_named(image_folder, tmp_path, call):
    train = ("train", image_folder, "--epochs", 1, "--batch-size", 4, "--json", "--out")
    assert call(*train, tmp_path / "first")[0] == 0
    (tmp_path / "first" / "learned.npy").write_bytes(b"damaged")
    code, _, error = call(*train, tmp_path / "second", "--fine-tune", tmp_path / "first", "--seed", 1)
    assert code == 2
    assert "learned.npy is damaged" in error


def test_a_file_of_weights_cannot_be_a_teacher(tmp_path, call):
    write_file(tmp_path / "w.safetensors")
    data = dataset()
    with pytest.raises(ValueError, match="a teacher must be the folder of a finished run"):
        minivit.train(minivit.create_model("vit_mini_patch2_8", classes=3), data, epochs=1,
                      teacher=WeightSource(tmp_path / "w.safetensors", "vit_mini_patch2_8"))
    code, _, error = call("train", "digits", "--teacher", tmp_path / "w.safetensors", "--out", tmp_path / "run")
    assert code == 2
    assert error.strip().endswith("w.safetensors is a file, not a run")


@pytest.mark.parametrize("kind", ["start", "teacher"])
def test_moved_weights_are_requested(finished, image_folder, tmp_path, monkeypatch, call, kind):
    write_file(tmp_path / "w.safetensors")
    shutil.copytree(finished.path, tmp_path / "teacher")
    change_weights(tmp_path / "teacher")
    given = {"start": ("--fine-tune", tmp_path / "w.safetensors", "--model", "vit_mini_patch2_8"),
             "teacher": ("--teacher", finished.path, "--teacher", tmp_path / "teacher")}[kind]
    data = image_folder if kind == "start" else "digits"
    train = ("train", data, *given, "--epochs", 1, "--json", "--out", tmp_path / "run")
    assert interrupted(monkeypatch, Trainer, "step", 1, *train) == 130
    (tmp_path / "w.safetensors").rename(tmp_path / "moved.safetensors")
    (tmp_path / "teacher").rename(tmp_path / "moved")
    resume = ("train", data, "--out", tmp_path / "run", "--resume", "--json")
    code, _, error = call(*resume)
    assert code == 2
    assert re.search(r"the weights that this run needs are not where they were \(.*\): put them back, or pass their "
                     rf"new path as {given[0]}", error)
    moved, extra = (tmp_path / "moved.safetensors", given[2:]) if kind == "start" else (tmp_path / "moved", ())
    assert interrupted(monkeypatch, Trainer, "step", 1, *resume, given[0], moved, *extra) == 130
    code, _, error = call(*resume)                                    # the new path is stored
    assert code == 0, error


def test_changed_weights_are_refused(image_folder, tmp_path, monkeypatch, call):
    write_file(tmp_path / "w.safetensors")
    train = ("train", image_folder, "--fine-tune", tmp_path / "w.safetensors", "--model", "vit_mini_patch2_8", "--out",
             tmp_path / "run")
    assert interrupted(monkeypatch, Trainer, "step", 1, *train) == 130
    write_file(tmp_path / "w.safetensors", classes=9)
    code, _, error = call("train", image_folder, "--out", tmp_path / "run", "--resume")
    assert code == 2
    assert "w.safetensors has other weights than when the run was started" in error


@pytest.mark.parametrize(("arguments", "message"), [
    (["--fine-tune", "w.safetensors"], "w.safetensors is a file, not a run: pass the model that has these weights "
                                       "as --model"),
    (["--fine-tune", "w.safetensors", "--model", "vit_mini_patch4_32"], "the weights of w.safetensors do not fit "
                                                                        "(these weights are of an"),
    (["--fine-tune", "w.safetensors", "--model", "vit_mini_patch9"], "unknown model 'vit_mini_patch9'"),
    (["--fine-tune", "w.safetensors", "--model", "vit_mini_patch2_8", "--pool", "mean"],
     "do not fit a model with {'pool': 'mean'}"),
    (["--fine-tune", "w.safetensors", "--model", "vit_mini_patch2_8", "--image-size", "9"],
     "image size 9 must be divisible by the patch"),
    (["--fine-tune", "nowhere.safetensors", "--model", "vit_mini_patch2_8"], "nowhere.safetensors: no such file"),
    (["--fine-tune", "nowhere"], "nowhere is not a run"),
    (["--fine-tune", "image_folder", "--model", "vit_mini_patch2_8"], "image_folder is a folder: a run has its own "
                                                                      "model, so leave out --model"),
    (["--fine-tune", "bad.safetensors", "--model", "vit_mini_patch2_8"],
     "bad.safetensors is not a readable safetensors file"),
    (["--fine-tune", "bad.npz", "--model", "vit_mini_patch2_8"], "bad.npz is not a readable .npz file"),
    (["--fine-tune", "w.safetensors", "--model", "vit_mini_patch2_8", "--probe", "--augment", "flip"],
     "a probe sees each image once"),
    (["--fine-tune", "w.safetensors", "--model", "vit_mini_patch2_8", "--probe", "--minutes", "1"],
     "leave out augment, teacher and"),
    (["--fine-tune", "w.safetensors", "--model", "vit_mini_patch2_8", "--probe", "--recompute"],
     "a probe has no blocks to recompute"),
    (["--probe"], "a probe needs pretrained weights: pass a run, or a file and the name of its model, as --fine-tune"),
])
def test_unusable_pretrained_weights_are_explained(image_folder, monkeypatch, call, arguments, message):
    monkeypatch.chdir(image_folder.parent)
    write_file("w.safetensors")
    Path("bad.safetensors").write_bytes(b"\x08")
    Path("bad.npz").write_bytes(b"\x08")
    code, out, error = call("train", "image_folder", "--out", "run", *arguments)
    assert (code, out) == (2, "")
    assert message in error
    assert error.count("\n") == 1
    assert not Path("run").exists()


def test_other_channels_are_refused(tmp_path, call):
    write_file(tmp_path / "w.safetensors", "vit_mini_patch4_32")
    code, _, error = call("train", "digits", "--fine-tune", tmp_path / "w.safetensors", "--model", "vit_mini_patch4_32")
    assert code == 2
    assert "was trained on images of 3 channels, but those of digits are 8x8x1" in error


def test_an_unfinished_probe_has_no_model(image_folder, tmp_path, monkeypatch, call):
    write_file(tmp_path / "w.safetensors")
    train = ("train", image_folder, "--fine-tune", tmp_path / "w.safetensors", "--model", "vit_mini_patch2_8",
             "--probe",
             "--batch-size", 4,
             "--checkpoint-steps", 1, "--out", tmp_path / "run")
    assert interrupted(monkeypatch, Trainer, "step", 6, *train) == 130
    code, _, error = call("evaluate", tmp_path / "run")
    assert code == 2
    assert re.search(r"is not finished, and the checkpoint of a probe contains only its head; resume it with: minivit "
                     r"train .* --resume", error)


@pytest.mark.parametrize(("change", "message"), [
    (lambda config: config["training"].pop("lanes"), "is damaged: it lacks lanes; or an earlier state of minivit .* "
                                                     "wrote it"),
    (lambda config: (config["training"].pop("lanes"), config["versions"].update(minivit="0.0.9")),
     "was written by minivit 0.0.9, and this is .*, for which it lacks lanes: use the version that wrote it"),
    (lambda config: (config["model"]["options"].pop("width"), config["versions"].update(minivit="0.0.9")),
     "was written by minivit 0.0.9"),
], ids=["lacking", "another version", "another version's model"])
def test_a_run_of_another_version_is_named_as_such(finished, tmp_path, call, change, message):
    shutil.copytree(finished.path, tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    change(config)
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    code, _, error = call("train", "digits", "--resume", "--out", tmp_path / "run")
    assert code == 2
    assert re.search(message, error)
