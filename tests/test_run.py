"""Runs: files, reproducible bits after interruptions and with any number of threads, and clear errors."""

import json
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import minivit
from minivit.common import files
from minivit.common.files import atomic_file, write_atomic
from minivit.parallel import batch_split, lanes
from minivit.training.evaluation_text import describe_evaluation
from minivit.training.settings import SETTINGS
from minivit.training.trainer import Trainer
from minivit.training_pipeline import build_loop
from minivit.training_pipeline.arguments_from_names import arguments_from_names
from minivit.training_pipeline.folder import RunFolder
from minivit.training_pipeline.results import curve, report
from minivit.training_pipeline.results.evaluate_run import evaluate_run
from minivit.weight_formats.safetensors_io import read_tensors

STEPS_PER_EPOCH = 1438 // 64     # the digits have 1438 training images; batches of 64


def tiny(seed=0, **options):
    sizes = {"image_size": 8, "patch_size": 4, "channels": 1, "classes": 10, "width": 16, "depth": 1, "heads": 2,
             "mlp_ratio": 2}
    return minivit.create_model("vit", seed=seed, **(sizes | options))


def train(out=None, model=None, data="digits", draw=False, **settings):
    """Train three epochs with dropout and drop-path, which use random numbers. The pictures take as long."""
    model = model or tiny(drop_rate=0.1, drop_path_rate=0.1)
    with pytest.MonkeyPatch.context() as patch:
        if not draw:
            patch.setattr(curve, "plot_curve", lambda *_: None)
            patch.setattr(report, "embed", lambda *_: None)
        return minivit.train(model, data, out=out, progress=False, **({"epochs": 3, "batch_size": 64} | settings))


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def records(folder):
    """Return the log without the durations."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An uninterrupted run and its result."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, train(folder, draw=True)


def interrupt(folder, calls, patch, owner, name, **settings):
    """Start a run and interrupt it at the given call of owner.name."""
    original, count = getattr(owner, name), 0

    def interrupted(*arguments, **more):
        nonlocal count
        count += 1
        if count == calls:
            raise KeyboardInterrupt
        return original(*arguments, **more)

    with patch.context() as context:
        context.setattr(owner, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(folder, **settings)


@pytest.fixture(scope="module")
def interrupted_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interrupted") / "run"
    interrupt(folder, STEPS_PER_EPOCH + 5, pytest.MonkeyPatch(), Trainer, "step")
    return folder


@pytest.fixture
def interrupted(interrupted_once, tmp_path):
    """A copy of a run that was interrupted in its second epoch."""
    return shutil.copytree(interrupted_once, tmp_path / "run")


# ---- files of a run --------------------------------------------------------------------------------------


def test_run_writes_seven_files(finished):
    folder, _ = finished
    names = ["checkpoint.safetensors", "config.json", "curve.png", "learned.npy", "log.jsonl", "model.safetensors",
             "report.html"]
    assert sorted(contents(folder)) == names


def test_config_holds_model_data_and_settings(finished):
    folder, result = finished
    config = json.loads((folder / "config.json").read_text())
    assert config["model"] == {"family": "vit", "options": result.model.config}
    assert config["data"]["source"] == {"source": "digits", "seed": 0, "test_fraction": 0.2}
    assert config["data"]["class_names"] == list("0123456789")
    assert config["training"].items() >= {"epochs": 3, "steps": 3 * STEPS_PER_EPOCH, "batch_size": 64, "seed": 0,
                                          "clip": 1.0}.items()


def test_log_has_a_line_for_each_epoch(finished):
    folder, result = finished
    lines = records(folder)
    assert [(line["epoch"], line["step"]) for line in lines] == [(e, e * STEPS_PER_EPOCH) for e in (1, 2, 3)]
    assert lines[-1]["loss"] == result.loss < lines[0]["loss"]
    assert lines[-1]["test_accuracy"] == result.accuracy
    assert all(0 <= line[name] <= 1 for line in lines for name in ("accuracy", "test_accuracy"))


def test_curve_is_an_image_file(finished):
    folder, _ = finished
    with Image.open(folder / "curve.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 200
        assert len(np.unique(np.asarray(image.convert("L")))) > 10


def test_curve_shows_validation_and_names_the_epoch_that_is_kept(tmp_path):
    lines = [{"epoch": e, "loss": 1 / e, "accuracy": 0.5, "test_accuracy": e / 10, "val_accuracy": 0.9 - e / 10}
             for e in (1, 2, 3)]
    without = [{name: value for name, value in line.items() if name != "val_accuracy"} for line in lines]
    curves = []
    for records_, kept in ((lines, -1), (lines, 0), (without, -1)):
        curve.plot_curve(records_, tmp_path / "curve.png", kept=kept)
        with Image.open(tmp_path / "curve.png") as image:
            curves.append(image.convert("RGB").tobytes())
    assert len(set(curves)) == 3


def test_curve_of_one_epoch_shows_its_points(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(curve, "save", lambda figure, _: drawn.append(figure.canvas.draw() or figure))
    lines = [{"epoch": e, "loss": 1 / e, "accuracy": 0.5, "test_accuracy": e / 10} for e in (1, 2, 3)]
    for count in (1, 3):
        curve.plot_curve(lines[:count], tmp_path / "curve.png")
    for figure, marker in zip(drawn, ("o", ""), strict=True):
        assert {line.get_marker() for axes in figure.axes for line in axes.lines} == {marker}
        assert all(tick.is_integer() for axes in figure.axes for tick in axes.get_xticks())


def test_result_counts_steps_and_test_images(finished):
    _, result = finished
    assert result.steps == 3 * STEPS_PER_EPOCH
    assert result.test.images == result.test.confusion.sum() == 359
    assert result.accuracy == np.trace(result.test.confusion) / 359
    assert result.accuracy > 0.2                 # chance is 0.1


def test_epochs_and_minutes_together_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"only one of epochs=\.\.\. and minutes=\.\.\. can set the length of the "
                                         r"training: got epochs=1 and minutes=1; leave out one of them"):
        train(tmp_path / "run", epochs=1, minutes=1)
    with pytest.raises(ValueError, match="only one of epochs="):
        arguments_from_names("no such data", settings={"epochs": 2, "minutes": 0.5})
    assert not (tmp_path / "run").exists()


def test_half_an_epoch_has_half_the_steps(tmp_path):
    assert train(tmp_path / "run", epochs=1.5).steps == 33
    assert [line["step"] for line in records(tmp_path / "run")] == [22, 33]


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(epochs=0.1)
    assert not list(tmp_path.iterdir())


def test_training_changes_the_model_in_place():
    model = tiny()
    before = model.vector.copy()
    assert train(model=model, epochs=0.1).model is model
    assert not np.array_equal(model.vector, before)


def test_loaded_model_gives_the_same_logits_bit_for_bit(finished):
    folder, result = finished
    images = minivit.load_data("digits").test_images
    loaded = minivit.load(folder)
    np.testing.assert_array_equal(loaded.predict(images), result.model.predict(images))
    np.testing.assert_array_equal(loaded.forward(images[:7]), result.model.forward(images[:7]))
    assert loaded.config == result.model.config


@pytest.mark.parametrize("options", [{"pool": "mean"}, {"positions": "sincos"}, {"positions": "none"},
                                     {"mean": 0.3, "std": 0.2},
                                     {"relative_bias": True, "stem": "conv"}], ids=str)
def test_models_with_any_options_are_loaded_as_they_were_saved(tmp_path, options):
    model = train(tmp_path / "run", tiny(**options), epochs=0.1).model
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
    np.testing.assert_array_equal(minivit.load(tmp_path / "run").forward(images), model.forward(images))


def test_evaluation_of_the_run_equals_that_of_the_last_epoch(finished):
    folder, result = finished
    _, evaluation = evaluate_run(RunFolder(folder))
    np.testing.assert_array_equal(evaluation.confusion, result.test.confusion)


# ---- the same bits ------------------------------------------------------------------------------------------


def test_same_seed_gives_the_same_bytes(finished, tmp_path):
    train(tmp_path / "run")
    assert weights(tmp_path / "run") == weights(finished[0])
    assert records(tmp_path / "run") == records(finished[0])


def test_another_seed_gives_another_model(tmp_path):
    train(tmp_path / "a", tiny(), epochs=1)
    train(tmp_path / "b", tiny(), epochs=1, seed=1)          # another order of the images
    train(tmp_path / "c", tiny(seed=1), epochs=1)            # other initial weights
    assert len({weights(tmp_path / name) for name in "abc"}) == 3


def test_the_number_of_threads_does_not_change_the_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_split, "MICRO_BATCH_ROWS", 1)   # 16 lanes with two micro-batches each
    for threads in (1, 2, 3):
        train(tmp_path / str(threads), epochs=1, threads=threads)
    assert json.loads((tmp_path / "1" / "config.json").read_text())["training"]["lanes"] == 16
    assert weights(tmp_path / "1") == weights(tmp_path / "2") == weights(tmp_path / "3")
    assert records(tmp_path / "1") == records(tmp_path / "2") == records(tmp_path / "3")


# ---- interrupted and resumed ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("calls", "owner", "name"), [
    (5, Trainer, "step"),                        # before the first checkpoint
    (STEPS_PER_EPOCH + 1, Trainer, "step"),       # just after it
    (2 * STEPS_PER_EPOCH + 9, Trainer, "step"),   # within an epoch
    (2, build_loop, "evaluate"),                       # at the end of an epoch
    (2, RunFolder, "write_checkpoint"),                 # between the log and the checkpoint
    (1, RunFolder, "write_model"),                      # at the very end
])
def test_resumed_run_equals_an_uninterrupted_one(finished, tmp_path, monkeypatch, calls, owner, name):
    interrupt(tmp_path / "run", calls, monkeypatch, owner, name)
    assert train(tmp_path / "run", resume=True).steps == 3 * STEPS_PER_EPOCH
    assert weights(tmp_path / "run") == weights(finished[0])
    assert records(tmp_path / "run") == records(finished[0])


def test_run_can_be_interrupted_twice(finished, interrupted, monkeypatch):
    interrupt(interrupted, STEPS_PER_EPOCH + 7, monkeypatch, Trainer, "step", resume=True)
    train(interrupted, resume=True)
    assert weights(interrupted) == weights(finished[0])


def test_resumed_run_takes_its_weights_from_the_checkpoint(finished, interrupted):
    train(interrupted, tiny(seed=9, drop_rate=0.1, drop_path_rate=0.1), resume=True)
    assert weights(interrupted) == weights(finished[0])


def test_resumed_run_can_have_another_number_of_threads(finished, interrupted):
    train(interrupted, resume=True, threads=1)
    assert weights(interrupted) == weights(finished[0])


def test_resuming_a_finished_run_changes_nothing(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    result = train(folder, resume=True)
    assert result.accuracy == finished[1].accuracy
    assert weights(folder) == weights(finished[0])
    assert records(folder) == records(finished[0])


def test_interrupted_run_has_no_model_to_load(interrupted):
    with pytest.raises(FileNotFoundError, match=r"no trained weights yet; resume it with: minivit\.train\(.*, "
                                                r"resume=True\)"):
        minivit.load(interrupted)


@pytest.mark.parametrize(("setting", "value"), [
    ("lr", 1e-3), ("batch_size", 32), ("seed", 1), ("augment", "flip"), ("weight_decay", 0.1), ("label_smoothing", 0.0),
    ("clip", 2.0),
    ("warmup", 0.2), ("epochs", 5),
])
def test_resuming_with_another_setting_is_refused_by_name(interrupted, setting, value):
    before = contents(interrupted)
    with pytest.raises(ValueError, match=rf"was started with {setting} [\w.]+, not "
                                         rf"{value if value == 'flip' else f'{value:g}'}: "):
        train(interrupted, resume=True, **{setting: value})
    assert contents(interrupted) == before


@pytest.mark.parametrize("options", [{"pool": "mean"}, {"heads": 1}, {"width": 32}, {"drop_rate": 0.2}], ids=str)
def test_resuming_with_another_model_is_refused(interrupted, options):
    model = tiny(**({"drop_rate": 0.1, "drop_path_rate": 0.1} | options))
    before = model.vector.copy()
    with pytest.raises(ValueError, match="another model"):
        train(interrupted, model, resume=True)
    np.testing.assert_array_equal(model.vector, before)


def test_resuming_with_other_data_is_refused(interrupted):
    digits = minivit.load_data("digits")
    negative = replace(digits, name="negative.npz", train_images=255 - digits.train_images,
                       test_images=255 - digits.test_images)
    with pytest.raises(ValueError, match="data"):
        train(interrupted, data=negative, resume=True)


def test_resuming_needs_a_folder_that_holds_a_run(tmp_path):
    with pytest.raises(ValueError, match="folder"):
        train(None, resume=True)
    with pytest.raises(FileNotFoundError, match="is not a run"):
        train(tmp_path / "nothing", resume=True)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(("entry", "name"), [
    *(("training", name) for name, setting in SETTINGS.items() if setting.stored and name not in (
        "epochs", "batch_size", "lr", "ema", "optimiser", "lanes")),  # these differ from their defaults
    ("model", "relative_bias"), ("model", "stem"), ("model", "pool")])
def test_a_setting_that_the_run_does_not_know_has_its_default(finished, interrupted, entry, name):
    """Runs of an earlier version lack the settings and model options that were added since."""
    config = json.loads((interrupted / "config.json").read_text())
    del (config["training"] if entry == "training" else config["model"]["options"])[name]
    (interrupted / "config.json").write_text(json.dumps(config))
    minivit.train(tiny(drop_rate=0.1, drop_path_rate=0.1), "digits", out=interrupted, resume=True, progress=False)
    assert weights(interrupted) == weights(finished[0])


# ---- EMA, validation, early stopping ---------------------------------------------------------------------------


EVERYTHING = {"ema": 0.9, "val_fraction": 0.2, "patience": 2, "epochs": 5,
              "augment": "crop,alternating-flip,cutout,mixup,cutmix",
              "layers": [["blocks.*", 0.5], ["head.*", 1, 0]]}


def with_everything(**options):
    return tiny(drop_rate=0.1, drop_path_rate=0.1, stem="conv", relative_bias=True, pool="mean", **options)


def test_averaged_weights_are_kept_and_evaluated(tmp_path):
    plain, mean = (train(tmp_path / name, tiny(), epochs=2, ema=ema) for name, ema in (("plain", 0), ("mean", 0.99)))
    assert weights(tmp_path / "plain") != weights(tmp_path / "mean")
    assert [r["loss"] for r in records(tmp_path / "plain")] == [r["loss"] for r in records(tmp_path / "mean")]
    tensors, _ = read_tensors(tmp_path / "mean" / "checkpoint.safetensors")
    np.testing.assert_array_equal(tensors["weights"], plain.model.vector)
    np.testing.assert_array_equal(tensors["ema"], mean.model.vector)
    np.testing.assert_array_equal(minivit.load(tmp_path / "mean").vector, mean.model.vector)
    scored = evaluate_run(RunFolder(tmp_path / "mean"))[1].accuracy
    assert scored == mean.accuracy == records(tmp_path / "mean")[-1]["test_accuracy"]


def test_average_follows_the_weights_after_each_step():
    digits, trainer = minivit.load_data("digits"), Trainer(tiny(), ema=0.5)
    mean = trainer.model.vector.astype(np.float64)
    for t in range(1, 12):
        trainer.step(digits.train_images[:8], digits.train_labels[:8])
        mean += (1 - min(0.5, (1 + t) / (10 + t))) * (trainer.model.vector - mean)
    np.testing.assert_allclose(trainer.average.vector, mean, rtol=0, atol=1e-6)
    assert not np.array_equal(trainer.average.vector, trainer.model.vector)


def test_validation_images_come_from_the_training_part_and_are_not_trained_on(monkeypatch):
    seen, step = set(), Trainer.step

    def watched(self, images, *more):
        seen.update(image.tobytes() for image in images)
        return step(self, images, *more)

    monkeypatch.setattr(Trainer, "step", watched)
    digits = minivit.load_data("digits")
    result = train(None, tiny(), digits, epochs=1, batch_size=10, val_fraction=0.25)
    training = {image.tobytes() for image in digits.train_images}
    assert result.validation.images == 359
    assert seen < training
    assert 1000 < len(seen) <= len(digits.train_images) - 359 == 1079
    assert result.test.images == 359


def test_a_validation_part_of_the_data_is_evaluated(tmp_path):
    digits = minivit.load_data("digits")
    data = replace(digits, val_images=digits.test_images[:100], val_labels=digits.test_labels[:100])
    result = train(tmp_path / "run", tiny(), data, epochs=1)
    assert result.validation.images == 100
    assert records(tmp_path / "run")[-1]["val_accuracy"] == result.validation.accuracy
    with pytest.raises(ValueError, match="already has a validation part"):
        train(None, tiny(), data, val_fraction=0.1)


def test_patience_without_validation_images_is_refused():
    digits = minivit.load_data("digits")
    data = replace(digits, val_images=digits.test_images[:0], val_labels=digits.test_labels[:0])
    with pytest.raises(ValueError, match="patience needs a validation part, but that of digits is empty"):
        train(None, tiny(), data, patience=1)


def test_patience_sets_a_tenth_aside_unless_the_fraction_is_given(tmp_path):
    for name, given, stored in (("default", {}, 0.1), ("given", {"val_fraction": 0.2}, 0.2)):
        train(tmp_path / name, tiny(), patience=1, epochs=0.1, **given)
        assert RunFolder(tmp_path / name).settings["val_fraction"] == stored
    with pytest.raises(ValueError, match=r"patience needs validation images, but val_fraction is 0: leave out "
                                         r"val_fraction for 0\.1, or choose one above 0"):
        train(tmp_path / "none", tiny(), patience=1, epochs=0.1, val_fraction=0)
    assert not (tmp_path / "none").exists()
    digits = minivit.load_data("digits")
    own = replace(digits, val_images=digits.test_images, val_labels=digits.test_labels)
    assert train(None, tiny(), own, patience=1, epochs=0.1, val_fraction=0).validation.images == 359


def test_patience_ends_the_run_with_the_weights_of_the_best_epoch(tmp_path, monkeypatch):
    accuracies, kept = iter([0.5, 0.7, 0.6, 0.7, 0.1]), []

    def scored(*arguments, **more):
        scores = original(*arguments, **more)
        accuracy = next(accuracies, None)
        kept.append(arguments[0].vector.copy())
        return scores if accuracy is None else scores | {"val": replace(scores["val"], accuracy=accuracy)}

    original = build_loop.evaluate_parts
    monkeypatch.setattr(build_loop, "evaluate_parts", scored)
    result = train(tmp_path / "run", tiny(), epochs=30, patience=2)
    assert [r["val_accuracy"] for r in records(tmp_path / "run")] == [0.5, 0.7, 0.6, 0.7]
    np.testing.assert_array_equal(result.model.vector, kept[1])
    np.testing.assert_array_equal(minivit.load(tmp_path / "run").vector, kept[1])
    assert result.steps == 4 * (1294 // 64)                           # a tenth of each class is validation images


@pytest.mark.parametrize(("warmup", "epochs"), [(0, 3), (2.5 / 8, 4), (3 / 8, 4), (4 / 8, 5), (1, 8)])
def test_patience_does_not_count_epochs_within_the_warmup(monkeypatch, warmup, epochs):
    def scored(*arguments, **more):
        scores = original(*arguments, **more)
        return scores | {"val": replace(scores["val"], accuracy=0.1)}    # no epoch is better than the first

    original = build_loop.evaluate_parts
    monkeypatch.setattr(build_loop, "evaluate_parts", scored)
    assert train(None, tiny(), epochs=8, patience=2, warmup=warmup).steps == epochs * (1294 // 64)


@pytest.fixture(scope="module")
def finished_with_everything(tmp_path_factory):
    folder = tmp_path_factory.mktemp("everything") / "run"
    return folder, train(folder, with_everything(), **EVERYTHING)


@pytest.mark.parametrize("calls", [3, 30, 70])
def test_everything_resumes_to_the_same_bytes(finished_with_everything, tmp_path, monkeypatch, calls):
    finished, result = finished_with_everything
    interrupt(tmp_path / "run", calls, monkeypatch, Trainer, "step", model=with_everything(), **EVERYTHING)
    resumed = train(tmp_path / "run", with_everything(), resume=True, epochs=5)
    assert weights(tmp_path / "run") == weights(finished)
    assert records(tmp_path / "run") == records(finished)
    assert resumed.validation.accuracy == result.validation.accuracy
    assert resumed.test.with_flip.accuracy == result.test.with_flip.accuracy


def test_resuming_a_finished_run_with_everything_changes_nothing(finished_with_everything, tmp_path):
    folder = shutil.copytree(finished_with_everything[0], tmp_path / "run")
    train(folder, with_everything(), resume=True, epochs=5)
    assert weights(folder) == weights(finished_with_everything[0])
    assert records(folder) == records(finished_with_everything[0])


def test_the_number_of_threads_does_not_change_the_bits_of_everything(finished_with_everything, tmp_path):
    for threads in (1, 3):
        train(tmp_path / str(threads), with_everything(), threads=threads, **EVERYTHING)
        assert weights(tmp_path / str(threads)) == weights(finished_with_everything[0])


def test_evaluation_with_flip_is_reported_if_training_flips_images(finished_with_everything):
    folder, result = finished_with_everything
    images, model = minivit.load_data("digits").test_images, minivit.load(folder)
    logits = model.predict(images) + model.predict(images[:, :, ::-1].copy())
    right = (logits.argmax(axis=1) == minivit.load_data("digits").test_labels).mean()
    assert result.test.with_flip.accuracy == pytest.approx(right)
    evaluation = evaluate_run(RunFolder(folder))[1]
    assert (evaluation.accuracy, evaluation.with_flip.accuracy) == (result.accuracy, result.test.with_flip.accuracy)
    assert [line.split(" +-")[0] for line in evaluation.lines] == [f"accuracy {result.accuracy:.2%}",
                                                                   f"with test-time flip: accuracy {right:.2%}"]
    assert describe_evaluation(evaluation, "0123456789")["mirrored_accuracy"] == pytest.approx(right)
    assert train(None, tiny(), epochs=0.1).test.with_flip is None


@pytest.mark.parametrize(("setting", "value", "named"), [
    ("ema", 1.0, "EMA decay"), ("ema", -0.1, "EMA decay"), ("val_fraction", 1.0, "validation fraction"),
    ("patience", -1, "patience"),
    ("patience", 1.5, "patience"), ("layers", [["nothing.*", 1]], "no parameter"),
    ("augment", "flop", "augmentation transform"),
])
def test_more_settings_out_of_range_are_refused_before_training(tmp_path, setting, value, named):
    with pytest.raises(ValueError, match=named):
        train(tmp_path / "run", tiny(), **{setting: value})
    assert not (tmp_path / "run").exists()


# ---- damaged files ----------------------------------------------------------------------------------------------


def damage(file, how):
    """Truncate a file to a fraction of its length, or fill it with garbage."""
    content = file.read_bytes()
    file.write_bytes(b"garbage" * 100 if how == "garbage" else content[:int(how * len(content))])


@pytest.mark.parametrize("how", ["garbage", 0.0, 0.001, 0.5, 0.999])
def test_damaged_checkpoint_is_named_and_the_model_is_unchanged(interrupted, how):
    damage(interrupted / "checkpoint.safetensors", how)
    model, before = tiny(drop_rate=0.1, drop_path_rate=0.1), contents(interrupted)
    vector = model.vector.copy()
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors"):
        train(interrupted, model, resume=True)
    np.testing.assert_array_equal(model.vector, vector)
    assert contents(interrupted) == before


@pytest.mark.parametrize("options", [{"width": 32}, {"depth": 2}], ids=str)
def test_checkpoint_of_another_model_is_named_and_the_model_is_unchanged(interrupted, tmp_path, options):
    train(tmp_path / "other", tiny(**options), epochs=0.1)
    shutil.copy(tmp_path / "other" / "checkpoint.safetensors", interrupted)
    model = tiny(drop_rate=0.1, drop_path_rate=0.1)
    vector = model.vector.copy()
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is the checkpoint of another model"):
        train(interrupted, model, resume=True)
    np.testing.assert_array_equal(model.vector, vector)


def test_weights_are_not_a_checkpoint(interrupted, finished):
    shutil.copy(finished[0] / "model.safetensors", interrupted / "checkpoint.safetensors")
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors"):
        train(interrupted, resume=True)


@pytest.mark.parametrize("how", ["garbage", 0.0, 0.001, 0.5, 0.999])
def test_damaged_weights_are_named(finished, tmp_path, how):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    damage(folder / "model.safetensors", how)
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        minivit.load(folder)


def test_weights_of_another_model_are_named(finished, tmp_path):
    train(tmp_path / "other", tiny(width=32), epochs=0.1)
    folder = shutil.copytree(finished[0], tmp_path / "run")
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    with pytest.raises(ValueError, match=r"model\.safetensors.*shape"):
        minivit.load(folder)


@pytest.mark.parametrize("content", ["", "garbage", "[]", "{}", '{"model": {}, "data": {}, "training": {}}',
                                     "\x00\xff"])
def test_damaged_config_is_named(finished, tmp_path, content):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    (folder / "config.json").write_text(content)
    for use in (minivit.load, lambda folder: train(folder, resume=True)):
        with pytest.raises(ValueError, match=r"config\.json is damaged"):
            use(folder)


@pytest.mark.parametrize("lost", ["source", "class_names"])
def test_config_that_lacks_part_of_the_data_is_named(finished, tmp_path, lost):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    del config["data"][lost]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        evaluate_run(RunFolder(folder))


@pytest.mark.parametrize("content", ["garbage\n", "{}\n", '{"epoch": 1, "st'])
def test_damaged_log_is_named(interrupted, content):
    (interrupted / "log.jsonl").write_text(content)
    with pytest.raises(ValueError, match=r"log\.jsonl"):
        train(interrupted, resume=True)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "{}", "null"])
@pytest.mark.parametrize("name", ["loss", "seconds", "test_accuracy", "step"])
def test_log_with_a_number_that_is_not_finite_is_named(finished, tmp_path, name, number):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    log = (folder / "log.jsonl").read_text()
    (folder / "log.jsonl").write_text(re.sub(rf'"{name}": [^,}}]+', f'"{name}": {number}', log, count=1))
    with pytest.raises(ValueError, match=r"log\.jsonl is damaged"):
        train(folder, resume=True)


@pytest.mark.parametrize(("option", "value"), [("width", 9999999999999), ("depth", 9999999999999),
                                               ("image_size", 9999999999999),
                                               ("classes", 9999999999999), ("mlp_ratio", 9999999999999),
                                               ("heads", 9999999999999),
                                               ("width", 900_000), ("depth", -1), ("patch_size", 10**400)])
def test_absurd_size_in_config_is_named(finished, tmp_path, option, value):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    config["model"]["options"][option] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json is damaged: ") as error:
        minivit.load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("path", "value"), [
    (("training",), [1]), (("training", "teacher"), 1.5), (("training", "teacher"), [1]),
    (("training", "augment"), [1]), (("training", "layers"), -1), (("training", "layers"), [1]),
    (("training", "warmup"), None), (("training", "probe"), "no"), (("versions",), "x"),
    (("data", "class_names", 4), None), (("data", "source"), {}), (("data", "source", "source"), 7),
    (("data", "fit"), 3), (("model", "family"), None), (("command",), 5),
], ids=str)
def test_entry_of_the_wrong_type_in_config_is_named(finished, tmp_path, path, value):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    place = config
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (folder / "config.json").write_text(json.dumps(config))
    for use in (minivit.load, lambda path: evaluate_run(RunFolder(path)), lambda path: train(path, resume=True)):
        with pytest.raises(ValueError, match=r"config\.json is damaged: ") as error:
            use(folder)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("where", ["class", "file", "folder", "command"])
def test_name_that_is_not_utf8_is_refused_before_training(tmp_path, monkeypatch, where):
    bad, digits = "caf\udce9", minivit.load_data("digits")
    data = {"class": replace(digits, class_names=(*"012345678", bad)),
            "file": replace(digits, test_files=(*["a"] * 358, bad))}.get(where, digits)
    monkeypatch.setattr(Trainer, "step", lambda *_: pytest.fail("a step was done"))
    folder = tmp_path / (bad if where == "folder" else "run")
    with pytest.raises(ValueError, match=r"the name '.*caf\\udce9' is not valid UTF-8.*rename the file or folder"):
        train(folder, data=data, command=f"minivit train {bad}" if where == "command" else None)
    assert not folder.exists()


def test_folder_that_is_not_a_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not a run: it has no config\.json"):
        minivit.load(tmp_path)


# ---- folders and settings ---------------------------------------------------------------------------------------


def test_run_is_never_overwritten(finished):
    before = contents(finished[0])
    with pytest.raises(ValueError, match="already holds a run"):
        train(finished[0], epochs=0.1)
    assert contents(finished[0]) == before


def test_folder_can_exist_before_the_run(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    train(tmp_path, epochs=0.1)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    minivit.load(tmp_path)


@pytest.mark.parametrize("below", ["", "runs/a"])
def test_file_in_place_of_the_folder_is_named_and_kept(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="file"):
        train(tmp_path / "file" / below, epochs=0.1)
    assert contents(tmp_path) == {"file": b"mine"}


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(("setting", "value", "named"), [
    *[("epochs", value, "epochs") for value in (0, -1, NAN, INFINITY)],
    *[("minutes", value, "minutes") for value in (0, -1, NAN, INFINITY)],
    *[("batch_size", value, "batch size") for value in (0, -1)],
    *[("lr", value, "learning rate") for value in (0, -1e-3, NAN, INFINITY)],
    *[("weight_decay", value, "weight decay") for value in (-0.1, NAN, INFINITY)],
    *[("label_smoothing", value, "label smoothing") for value in (-0.1, 1.0, NAN)],
    *[("clip", value, "clip") for value in (0, -1, NAN)],
    *[("warmup", value, "warmup") for value in (-0.1, 1.1, NAN)],
    *[("threads", value, "threads") for value in (0, -2)],
    ("seed", -1, "seed"),
])
def test_setting_out_of_range_is_refused_before_training(tmp_path, setting, value, named):
    model = tiny()
    before = model.vector.copy()
    with pytest.raises(ValueError, match=named):
        train(tmp_path / "run", model, **({"epochs": 0.1} | {setting: value}))
    assert not (tmp_path / "run").exists()
    np.testing.assert_array_equal(model.vector, before)


def test_batch_size_can_exceed_the_number_of_images(tmp_path):
    assert train(tmp_path / "run", batch_size=10_000, epochs=2).steps == 2


def test_minutes_fix_the_number_of_steps(tmp_path):
    result = train(tmp_path / "run", epochs=None, minutes=0.01)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["training"]["steps"] == result.steps > 5
    assert result.seconds < 6


@pytest.mark.parametrize(("options", "found"), [
    ({"image_size": 28}, r"\(8, 8, 1\).*\(28, 28, 1\)"),
    ({"channels": 3}, r"\(8, 8, 1\).*\(8, 8, 3\)"),
    ({"classes": 4}, r"10 classes.*4 classes"),
], ids=str)
def test_data_that_do_not_fit_the_model_are_refused_with_both_shapes(tmp_path, options, found):
    with pytest.raises(ValueError, match=found):
        train(tmp_path / "run", tiny(**options))
    assert not (tmp_path / "run").exists()


def test_model_can_have_more_classes_than_the_data(tmp_path):
    train(tmp_path / "run", tiny(classes=12), epochs=0.1)
    names, evaluation = evaluate_run(RunFolder(tmp_path / "run"))
    assert evaluation.confusion.shape == (12, 12)
    assert names == [str(k) for k in range(12)]


def test_training_images_are_never_evaluated(tmp_path):
    # The run was given arrays whose name is that of a data set: its training images must not be evaluated.
    train(tmp_path / "run", data=minivit.load_data("digits", seed=3), epochs=0.1)
    try:
        _, evaluation = evaluate_run(RunFolder(tmp_path / "run"), "digits")
    except ValueError:
        return                                   # refusing is correct too
    assert evaluation.images == 359


# ---- a loss that is not finite ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_divergence_names_the_step_and_leaves_finite_weights(tmp_path):
    model = tiny()
    with pytest.raises(FloatingPointError, match=r"^step \d+: .*learning rate"):
        train(tmp_path / "run", model, lr=1e12)
    assert np.isfinite(model.vector).all()
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(finished, tmp_path, monkeypatch):
    forward_backward = lanes.Lanes.forward_backward

    def poisoned(self, images, targets, step, *more):
        loss, correct, norm = forward_backward(self, images, targets, step, *more)
        return (NAN if step == STEPS_PER_EPOCH + 3 else loss), correct, norm

    with monkeypatch.context() as context:
        context.setattr(lanes.Lanes, "forward_backward", poisoned)
        with pytest.raises(FloatingPointError, match=f"^step {STEPS_PER_EPOCH + 3}: the loss is nan"):
            train(tmp_path / "run")
    assert len(records(tmp_path / "run")) == 1
    train(tmp_path / "run", resume=True)         # without the fault, resume from the checkpoint
    assert weights(tmp_path / "run") == weights(finished[0])


@pytest.mark.parametrize(("loss", "norm"), [(NAN, 1.0), (INFINITY, 1.0), (INFINITY, INFINITY), (1.0, NAN),
                                            (1.0, INFINITY)])
def test_step_that_is_not_finite_leaves_the_weights_as_they_were(monkeypatch, loss, norm):
    digits, trainer = minivit.load_data("digits"), Trainer(tiny())
    before = trainer.model.vector.copy()
    monkeypatch.setattr(lanes.Lanes, "forward_backward", lambda *_: (loss, 0, norm))
    with pytest.raises(FloatingPointError, match=r"^step 0: "):
        trainer.step(digits.train_images[:8], digits.train_labels[:8])
    np.testing.assert_array_equal(trainer.model.vector, before)
    assert trainer.optimiser.t == 0


# ---- atomic files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"bytes \x00\xff", "text, \u00e4\u00f6\u00fc\n", b""])
def test_file_is_written_as_given(tmp_path, content):
    write_atomic(tmp_path / "file", content)
    assert contents(tmp_path) == {"file": content if isinstance(content, bytes) else content.encode()}


@pytest.mark.parametrize("failing", ["replace", "fsync"])
def test_failed_write_keeps_the_old_content_and_no_temporary_file(tmp_path, monkeypatch, failing):
    def fail(*_):
        raise OSError(28, "No space left on device")

    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(files.os, failing, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(tmp_path / "file", "new")
    assert contents(tmp_path) == {"file": b"old"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt("Ctrl-C")],
                         ids=["full", "Ctrl-C"])
def test_write_that_fails_halfway_keeps_the_old_content_and_no_temporary_file(tmp_path, error):
    def write_half():
        with atomic_file(tmp_path / "file") as file:
            file.write(b"ha")
            assert (tmp_path / "file").read_text() == "old"
            raise error

    (tmp_path / "file").write_text("old")
    with pytest.raises(type(error), match=r"No space left|Ctrl-C"):
        write_half()
    assert contents(tmp_path) == {"file": b"old"}


def test_failed_write_of_a_checkpoint_keeps_the_last_one(interrupted, finished, monkeypatch):
    before, replace_file = contents(interrupted), os.replace

    def full(source, target):
        if str(target).endswith("checkpoint.safetensors"):
            raise OSError(28, "No space left on device")
        replace_file(source, target)

    with monkeypatch.context() as context:
        context.setattr(files.os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            train(interrupted, resume=True)
    assert contents(interrupted).keys() == before.keys()
    assert contents(interrupted)["checkpoint.safetensors"] == before["checkpoint.safetensors"]
    train(interrupted, resume=True)
    assert weights(interrupted) == weights(finished[0])


# ---- data that a run is evaluated on --------------------------------------------------------------------------------


@pytest.fixture
def own_file(tmp_path):
    """A run on an .npz file with class names, and the file."""
    rng, file = np.random.default_rng(0), tmp_path / "own.npz"
    np.savez(file, images=rng.integers(0, 256, (60, 8, 8, 1), dtype=np.uint8), labels=np.arange(60) % 3,
             class_names=["a", "b", "c"])
    train(tmp_path / "run", tiny(classes=3), file, epochs=1, batch_size=16)
    return tmp_path / "run", file


def test_for_a_copy_of_the_data_file_only_test_images_are_evaluated(own_file, tmp_path):
    folder, file = own_file
    shutil.copy(file, tmp_path / "copy.npz")
    for source in (None, file, tmp_path / "copy.npz"):
        assert evaluate_run(RunFolder(folder), source)[1].images == 12


def test_training_images_from_memory_are_counted(tmp_path):
    digits = minivit.load_data("digits")
    train(tmp_path / "run", data=replace(digits, source=None), epochs=0.1)
    result = evaluate_run(RunFolder(tmp_path / "run"), "digits")[1]
    assert result.images == 1797
    assert 1438 <= result.seen < 1438 + 18                         # and a few duplicates in the digits
    (tmp_path / "run" / "learned.npy").unlink()
    with pytest.raises(ValueError, match="arrays in memory that digits contains too"):
        evaluate_run(RunFolder(tmp_path / "run"), "digits")


def test_all_images_of_other_data_are_evaluated_by_class_names(own_file, tmp_path):
    folder, _ = own_file
    images, labels = np.zeros((7, 8, 8, 1), np.uint8), np.array([0, 0, 0, 1, 1, 1, 2])
    np.savez(tmp_path / "new.npz", images=images, labels=labels, class_names=["a", "b", "c"])
    names, result = evaluate_run(RunFolder(folder), tmp_path / "new.npz")
    assert result.images == 7
    np.savez(tmp_path / "new.npz", images=images[:4], labels=[1, 1, 1, 0], class_names=["c", "b"])
    assert evaluate_run(RunFolder(folder), tmp_path / "new.npz")[0] == names
    assert evaluate_run(RunFolder(folder), tmp_path / "new.npz")[1].confusion.sum(axis=1).tolist() == [0, 3, 1]
    np.savez(tmp_path / "new.npz", images=images, labels=labels, class_names=["a", "x", "y"])
    with pytest.raises(ValueError, match=r"new.npz has classes that the run does not know: x, y; it knows a, b, c"):
        evaluate_run(RunFolder(folder), tmp_path / "new.npz")


def test_data_that_changed_after_the_training_are_noticed(own_file):
    folder, file = own_file
    learned = {image.tobytes() for image in minivit.load_data(file).train_images}
    with np.load(file) as stored:
        arrays = dict(stored)
    arrays["images"][:10] = 255 - arrays["images"][:10]
    np.savez(file, **arrays)
    with pytest.raises(ValueError, match=r"has changed since.*name data"):
        evaluate_run(RunFolder(folder))
    # data given by name are evaluated as they are
    result = evaluate_run(RunFolder(folder), file)[1]
    assert (result.images, result.seen) == (60, sum(image.tobytes() in learned for image in arrays["images"]))
    assert 38 <= result.seen < 48 == len(learned)
    (folder / "learned.npy").unlink()
    with pytest.raises(ValueError, match=r"has changed since.*name data"):
        evaluate_run(RunFolder(folder), file)
    with pytest.raises(ValueError, match=r"other data, or own\.npz has changed since"):
        train(folder, tiny(classes=3), file, resume=True, epochs=1, batch_size=16)
    moved = file.rename(file.with_name("moved.npz"))
    with pytest.raises(ValueError, match=r"the data in .*/own\.npz, and moved\.npz has others: resume it with the "
                                         r"same images"):
        train(folder, tiny(classes=3), moved, resume=True, epochs=1, batch_size=16)


def test_data_at_another_path_are_the_same(own_file):
    folder, file = own_file
    before = RunFolder(folder).config()
    moved = file.rename(file.with_name("moved.npz"))
    with pytest.raises(FileNotFoundError, match=r"/own\.npz, on which .* is gone: restore it, or evaluate the run on "
                                                r"the data at their new path"):
        evaluate_run(RunFolder(folder))
    assert evaluate_run(RunFolder(folder), moved)[1].images == 12
    train(folder, tiny(classes=3), moved, resume=True, epochs=1, batch_size=16)
    place = {"name": "moved.npz", "source": before["data"]["source"] | {"source": str(moved)}}
    assert RunFolder(folder).config() == before | {"data": before["data"] | place}
    assert evaluate_run(RunFolder(folder))[1].images == 12                     # the new path is stored


def test_same_images_in_another_order_are_not_the_same_data(own_file):
    folder, file = own_file                                           # another order gives another split
    with np.load(file) as stored:
        arrays = dict(stored)
    order = np.argsort(-np.arange(60))
    np.savez(file, **(arrays | {name: arrays[name][order] for name in ("images", "labels")}))
    with pytest.raises(ValueError, match=r"own\.npz has changed since"):
        train(folder, tiny(classes=3), file, resume=True, epochs=1, batch_size=16)


def test_resume_takes_the_seed_of_the_run(tmp_path):
    train(tmp_path / "run", seed=3, epochs=1)
    assert minivit.train(tiny(drop_rate=0.1, drop_path_rate=0.1), "digits", out=tmp_path / "run", resume=True,
                         progress=False).steps == 22


def test_a_run_keeps_the_dtype(tmp_path):
    train(tmp_path / "run", tiny(dtype=np.float64), epochs=0.1)
    assert minivit.load(tmp_path / "run").dtype == np.float64


def test_training_of_one_step(tmp_path):
    model = tiny()
    before = model.vector.copy()
    result = train(model=model, epochs=0.01)
    assert result.steps == 1
    assert " images, after 1 step in " in str(result)
    assert (model.vector != before).any()


def test_models_of_other_classes_train_only_without_a_folder(tmp_path):
    class Mine(minivit.models.ViT):
        pass

    model = Mine(**tiny().config)
    with pytest.raises(TypeError, match="train it without out"):
        train(tmp_path / "run", model, epochs=0.1)
    assert not (tmp_path / "run").exists()
    train(None, model, epochs=0.1)
