"""Fine-tuning and presets: a model that starts from a run, and what a data set is trained with when nothing else is asked for."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import minivit
from minivit import cli
from minivit.data.dataset import Dataset
from minivit.interop.match import resized_grid
from minivit.training import curve
from minivit.training.fine_tune import fine_tuned
from minivit.training.preset import DEFAULTS, PRESETS, SHORT_PRESETS, model_for, preset_for
from minivit.training.run import Run

SIZES = {"image_size": 8, "patch_size": 2, "channels": 1, "classes": 10, "width": 16, "depth": 1, "heads": 2, "mlp_ratio": 2}


def dataset(name="mine", size=8, channels=1, classes=("a", "b", "c"), images=30):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (images, size, size, channels), dtype=np.uint8)
    labels = np.arange(images) % len(classes)
    return Dataset(name, x, labels, x[:len(classes)], labels[:len(classes)], tuple(classes))


@pytest.fixture(autouse=True)
def no_curve(monkeypatch):
    monkeypatch.setattr(curve, "draw_curve", lambda *_: None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run on the digits, with a class token, learned positions and relative biases that are not zero."""
    folder = tmp_path_factory.mktemp("fine") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curve, "draw_curve", lambda *_: None)
        minivit.train(minivit.create_model("vit", relative_bias=True, mean=0.3, **SIZES), "digits", epochs=1, out=folder, progress=False)
    return Run(folder)


# ---- fine-tuning --------------------------------------------------------------------------------------------------------


def test_other_classes_get_a_new_head_and_the_rest_of_the_weights(finished):
    old, new = finished.load_model(), fine_tuned(finished, dataset(), seed=5)
    assert new.classes == 3
    assert not new.head.weight.data.any()
    values = {p.name: p.data for p in new.parameters()}
    for p in old.parameters():
        if not p.name.startswith("head."):
            np.testing.assert_array_equal(values[p.name], p.data)
    np.testing.assert_array_equal(new.mean, old.mean)
    assert (finished.load_model().vector == old.vector).all()


def test_the_same_classes_keep_the_head(finished):
    digits = minivit.load_data("digits")
    np.testing.assert_array_equal(fine_tuned(finished, digits).predict(digits.test_images),
                                  finished.load_model().predict(digits.test_images))
    renamed = replace(digits, class_names=tuple("abcdefghij"))
    assert not fine_tuned(finished, renamed).head.weight.data.any()


@pytest.mark.parametrize("size", [4, 12, 16])
def test_positions_are_resized_for_pictures_of_another_size(finished, size):
    old, new = finished.load_model(), fine_tuned(finished, dataset(size=size))
    side = size // 2
    assert new.pos_embed.shape == (side * side + 1, 16)
    np.testing.assert_array_equal(new.pos_embed.data[0], old.pos_embed.data[0])
    table, before = (m.blocks[0].attn.rel_pos.relative_position_bias_table.data for m in (new, old))
    assert table.shape == ((2 * side - 1) ** 2 + 3, 2)
    np.testing.assert_array_equal(table[-3:], before[-3:])
    assert before.any()
    assert new.forward(dataset(size=size).test_images).shape == (3, 3)


def test_a_resized_grid_keeps_its_shape():
    y, x = np.mgrid[:8, :8] / 8
    rows = np.stack([y.ravel(), x.ravel(), np.full(64, 7.0)], axis=1)
    resized = resized_grid(np.concatenate([[[1, 2, 3]], rows]), (8, 8), (16, 16), first=1)
    assert resized.dtype == np.float64
    np.testing.assert_array_equal(resized[0], [1, 2, 3])
    grid = resized[1:].reshape(16, 16, 3)
    np.testing.assert_allclose(grid[..., 2], 7, rtol=1e-6)
    np.testing.assert_allclose(grid[..., 0], grid[..., 1].T, atol=1e-6)
    np.testing.assert_allclose(np.diff(grid[4:-4, 0, 0]), 1 / 16, atol=1e-6)   # where no edge is near, a slope stays a slope
    np.testing.assert_array_equal(resized_grid(rows, (8, 8), (8, 8)), rows)


def test_grids_need_not_be_square():
    y, x = np.mgrid[:16, :6]
    resized = resized_grid(np.stack([y.ravel(), x.ravel()], axis=1) / 1.0, (16, 6), (8, 12)).reshape(8, 12, 2)
    np.testing.assert_allclose(resized[2:-2, :, 0].mean(axis=1), [4.5, 6.5, 8.5, 10.5], atol=1e-5)   # the middle of two rows
    np.testing.assert_allclose(np.diff(resized[0, 4:-4, 1]), 0.5, atol=1e-5)
    assert np.ptp(resized[:, 3, 1]) < 1e-5


@pytest.mark.parametrize(("data", "options", "message"), [
    (dataset(channels=3), {}, "was trained on square images of 1 channels, but those of mine are 8x8x3"),
    (dataset(size=9), {}, "image size 9 must be divisible by the patch size 2"),
    (dataset(), {"pool": "mean"}, r"do not fit a model with .*pool"),
    (dataset(), {"depth": 2}, r"do not fit a model with .*depth"),
], ids=["channels", "size", "pool", "depth"])
def test_what_does_not_fit_is_named(finished, data, options, message):
    with pytest.raises(ValueError, match=message):
        fine_tuned(finished, data, **options)


@pytest.fixture
def pictures(tmp_path):
    """A folder of pictures of two classes."""
    rng = np.random.default_rng(0)
    for name in ("dark", "light"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for k in range(10):
            image = rng.integers(0, 100, (20, 20)).astype(np.uint8) + (100 if name == "light" else 0)
            Image.fromarray(image).save(tmp_path / "pictures" / name / f"{k}.png")
    return tmp_path / "pictures"


def test_the_command_line_fine_tunes_and_resumes(finished, pictures, tmp_path, monkeypatch, capsys):
    def call(*arguments):
        assert cli.main([str(a) for a in arguments]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    fine_tune = ("train", pictures, "--epochs", 4, "--batch-size", 4, "--layer", "blocks.*:0.1", "--json", "--out")
    whole = json.loads(call(*fine_tune, tmp_path / "whole", "--fine-tune", finished.folder))
    assert whole["images"] == 4
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert config["training"]["start"] == str(finished.folder)
    assert config["training"]["layers"] == [["blocks.*", 0.1]]
    assert config["model"]["options"]["image_size"] == 8

    from minivit.training.trainer import Trainer
    for calls in (1, 6):                         # before the first checkpoint, and behind it
        step, count = Trainer.step, 0

        def interrupted(*arguments, step=step, calls=calls):
            nonlocal count
            count += 1
            if count == calls:
                raise KeyboardInterrupt
            return step(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "step", interrupted)
            assert cli.main([str(a) for a in (*fine_tune, tmp_path / str(calls), "--fine-tune", finished.folder)]) == 130
        call("train", pictures, "--out", tmp_path / str(calls), "--resume", "--json")
        weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in (str(calls), "whole")]
        assert weights[0] == weights[1]


# ---- presets ----------------------------------------------------------------------------------------------------------


def test_presets_set_what_there_is_to_set():
    for preset in (*PRESETS.values(), *SHORT_PRESETS.values()):
        assert preset.training.keys() <= DEFAULTS.keys()


@pytest.mark.parametrize(("name", "size", "channels"), [("mnist", 28, 1), ("fashion-mnist", 28, 1), ("cifar10", 32, 3), ("cifar100", 32, 3),
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
    settings = Run(tmp_path / "run").config()["training"]
    expected = DEFAULTS | PRESETS["fashion-mnist"].training | {"epochs": 1, "lr": 1e-4, "batch_size": 30}
    assert settings.items() >= expected.items()


def test_the_digits_keep_their_model():
    digits = minivit.load_data("digits")
    assert preset_for(digits).model == {}
    assert model_for(digits).vector.size == 136_138


@pytest.mark.parametrize(("size", "stem"), [(28, "conv"), (32, "conv"), (64, "conv"), (42, "patch"), (13, "patch")])
def test_photographs_get_a_stem_where_their_patch_allows_one(size, stem):
    model = model_for(dataset("photos", size, 3))
    assert model.config["stem"] == stem
    assert model.config["relative_bias"]
    assert preset_for(dataset("photos", size, 3)).training == {"augment": "affine,flip"}
    assert model_for(dataset("letters", size, 1)).config["stem"] == "patch"


def test_short_trainings_have_presets_of_their_own():
    data = dataset("fashion-mnist", 28)
    assert preset_for(data, 1.5) is SHORT_PRESETS["fashion-mnist"]
    assert preset_for(data, 30) is preset_for(data) is PRESETS["fashion-mnist"]
    assert model_for(data, minutes=1.5).vector.size < model_for(data).vector.size
    assert model_for(data, "vit", minutes=1.5).config["stem"] == "patch"     # a model asked for by name is that one


@pytest.mark.parametrize(("size", "channels", "reduction"), [(8, 1, 1), (28, 1, 2), (32, 3, 2), (64, 3, 4)])
def test_the_small_resnet_fits_any_data_and_trains(size, channels, reduction):
    data = dataset("mine", size, channels)
    model = model_for(data, "resnet_mini")
    assert model.config == model_for(data, "resnet").config
    assert (model.image_size, model.channels, model.classes, model.reduction) == (size, channels, 3, reduction)
    result = minivit.train(model, data, epochs=2, batch_size=10, progress=False)
    assert result.steps == 6
    assert np.isfinite(result.loss)


def test_fine_tuning_keeps_all_of_a_resnet_but_its_head(tmp_path):
    old = model_for(dataset("old", 8), "resnet", layers=[1, 1], width=8)
    minivit.train(old, dataset("old", 8), epochs=1, out=tmp_path / "run", progress=False)
    new = fine_tuned(Run(tmp_path / "run"), dataset("new", 12, classes=("c", "d", "e", "f")))
    assert (new.image_size, new.classes) == (12, 4)
    names = [p.name for p in new.parameters()]
    for name, a, b in zip(names, old.parameters(), new.parameters(), strict=True):
        assert name.startswith("head.") or np.array_equal(a.data, b.data)
