"""Training settings: one declaration for the library, the run folder, the command line and the scikit-learn
estimator."""

import inspect
import json
import re
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

import minivit
from minivit import cli
from minivit.training import settings as declared
from minivit.training.settings import (
    KINDS,
    SETTINGS,
    Setting,
    check_names,
    check_setting,
    default_settings,
    settings_table,
)
from minivit.training_pipeline import build_loop, run_settings
from minivit.training_pipeline.folder import RunFolder

pytestmark = pytest.mark.usefixtures("no_pictures")
TINY = {"image_size": 8, "patch_size": 4, "channels": 1, "classes": 10, "width": 16, "depth": 1, "heads": 2,
        "mlp_ratio": 2}


def train_parser():
    """The parser of `minivit train`."""
    [verbs] = [action for action in cli.build_parser()._actions if isinstance(action.choices, dict)]
    return verbs.choices["train"]


def train(out=None, **settings):
    return minivit.train(minivit.create_model("vit", **TINY), "digits", out=out, progress=False,
                         **({"epochs": 0.1} | settings))


def test_every_setting_is_complete():
    for name, setting in SETTINGS.items():
        assert setting.group in declared.GROUPS
        assert setting.help
        assert not setting.help.endswith(".")
        if setting.default is not None:
            assert isinstance(setting.default, (int, float) if KINDS[name] is float else KINDS[name])
            assert check_setting(name, setting.default) == setting.default
        assert name in settings_table()


def test_defaults_are_fresh():
    default_settings()["layers"].append(["head.*", 1])
    assert default_settings()["layers"] == []


@pytest.mark.parametrize(("wrong", "right"), [("learning_rate", "lr"), ("optimizer", "optimiser"), ("epoch", "epochs"),
                                              ("batchsize", "batch_size"), ("label_smothing", "label_smoothing"),
                                              ("fine_tune", "start"), ("layer", "layers"), ("layer_", "layers")])
def test_an_unknown_setting_is_refused_with_a_suggestion(wrong, right):
    with pytest.raises(TypeError, match=f"unknown setting '{wrong}': did you mean '{right}'"):
        train(**{wrong: 1})
    with pytest.raises(TypeError, match="unknown setting"):
        check_names({wrong: 1})


@pytest.mark.parametrize(("name", "hint"), [
    ("pool", r"pass it to create_model\(..., pool=...\)"), ("data_dir", r"pass it to load_data\(..., data_dir=...\)"),
    ("quiet", "pass progress=False")])
def test_an_option_that_is_not_a_setting_gets_the_place_of_its_keyword(name, hint):
    with pytest.raises(TypeError, match=f"unknown setting '{name}': {hint}; the settings are epochs, "):
        train(**{name: 1})


@pytest.mark.parametrize(("arguments", "found"), [
    ((), "no model and no data"), (("digits",), "'digits' as the model and no data"),
    (("digits", Path("a")), rf"'digits' as the model and {re.escape(repr(Path('a')))} as the data")])
def test_train_names_a_missing_model_or_data_and_a_misspelt_setting(arguments, found):
    message = f"train takes the model first, then the data: found {found}, expected both, pass for example "
    with pytest.raises(TypeError, match=message) as refused:
        minivit.train(*arguments, epoch=1, threads=1)
    assert "unknown setting 'epoch': did you mean 'epochs'?" in "".join(refused.value.__notes__)


def test_train_names_a_model_in_the_place_of_the_data():
    model = minivit.create_model("vit_mini", image_size=8)
    with pytest.raises(TypeError, match="found 'digits' as the model and ViT as the data") as refused:
        minivit.train("digits", model, epochs=1)
    assert not hasattr(refused.value, "__notes__")


def test_every_option_of_train_leads_to_its_keyword():
    own = [*inspect.signature(minivit.train).parameters, "quiet", "json", "help"]
    options = {option: action.dest for action in train_parser()._actions for option in action.option_strings
               if option.startswith("--") and not option.startswith("--no-")}
    for option, keyword in options.items():
        name = option[2:].replace("-", "_")
        if name not in own and name not in SETTINGS:
            with pytest.raises(TypeError, match=rf"did you mean '{keyword}'|\(..., {keyword}=...\)"):
                check_names([name])


@pytest.mark.parametrize(("name", "value", "message"), [
    ("optimiser", "adam", r"unknown optimiser 'adam': did you mean 'adamw'\? known: adamw, muon"),
    ("distillation", "medium", "unknown distillation 'medium'"),
    ("checkpoint_steps", 0, "number of steps between checkpoints"),
    ("minutes", -1, "number of minutes"), ("augment", 3, "augment must be text, not 3"),
    ("layers", ["head"], "layers must be .pattern"),
    ("layers", [["head.*"]], "layers must be .pattern"), ("lr", "fast", "learning rate must be a finite number above "
                                                                        "0, not 'fast'"),
])
def test_a_value_out_of_range_is_refused(name, value, message):
    with pytest.raises(ValueError, match=message):
        train(**{name: value})


def test_numbers_of_numpy_are_stored_as_plain_numbers(tmp_path):
    train(tmp_path / "run", batch_size=np.int64(64), lr=np.float32(1e-3), seed=np.uint8(3), patience=np.int32(0))
    stored = RunFolder(tmp_path / "run").settings
    assert (stored["batch_size"], stored["lr"], stored["seed"]) == (64, float(np.float32(1e-3)), 3)


def test_augmentation_steps_may_be_a_list(tmp_path):
    train(tmp_path / "run", augment=["flip", "crop:0.1"])
    assert RunFolder(tmp_path / "run").settings["augment"] == "flip,crop:0.1"
    train(tmp_path / "none", augment=[])
    assert RunFolder(tmp_path / "none").settings["augment"] == "none"


def test_a_run_stores_the_declared_settings_in_their_order(tmp_path):
    train(tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["training"]
    names = [name for name, setting in SETTINGS.items() if setting.stored]
    assert list(stored) == [*names, "micro_batch", "steps"]


def test_a_new_setting_needs_its_declaration_only(monkeypatch, tmp_path):
    """It then is a keyword of `train`, an option of the command line, and an entry of config.json."""
    class Extended(declared.TrainingSettings, total=False):
        novelty: Annotated[float, Setting("novelty", 0.5, "optimisation", "how new it is", least=0, most=1)]

    with monkeypatch.context() as patch:
        patch.setattr(declared, "TrainingSettings", Extended)
        settings, kinds = declared._declared()
    added = {name: settings[name] for name in settings.keys() - SETTINGS.keys()}
    assert list(added) == ["novelty"]
    monkeypatch.setitem(SETTINGS, "novelty", settings["novelty"])
    monkeypatch.setitem(KINDS, "novelty", kinds["novelty"])
    train(tmp_path / "default")
    assert RunFolder(tmp_path / "default").settings["novelty"] == 0.5
    assert cli.main(["train", "digits", "--epochs", "0.1", "--novelty", "0.7", "--out", str(tmp_path / "run"),
                     "--json"]) == 0
    assert RunFolder(tmp_path / "run").settings["novelty"] == 0.7
    with pytest.raises(ValueError, match="novelty must be a finite number at least 0 and at most 1, not 2"):
        train(novelty=2)


def test_the_trainer_gets_the_settings_that_its_parameters_name():
    assert build_loop.TRAINER_SETTINGS == ["lr", "weight_decay", "clip", "label_smoothing", "seed", "augment", "ema",
                                           "layers", "optimiser"]
    settings = dict(default_settings()) | {"clip": 0.7, "ema": 0.9, "lr": 3e-4, "lanes": 1, "micro_batch": 8}
    trainer = build_loop.make_trainer(minivit.create_model("vit", **TINY), settings, threads=1)
    assert (trainer.clip, trainer.ema, trainer.lr, trainer.label_smoothing) == (0.7, 0.9, 3e-4, 0.1)


def test_the_estimator_has_the_declared_settings():
    pytest.importorskip("sklearn", minversion="1.6")
    parameters = inspect.signature(minivit.ViTClassifier).parameters
    assert set(parameters) >= {"epochs", "lr", "augment", "ema", "optimiser", "patience", "layers", "clip"}
    assert not set(parameters) & {"seed", "teacher", "probe", "minutes", "settings"}
    with pytest.raises(TypeError, match="no parameter teacher"):
        minivit.ViTClassifier(teacher="run")


def test_train_has_few_arguments_of_its_own():
    own = [p.name for p in inspect.signature(minivit.train).parameters.values() if p.kind is not p.VAR_KEYWORD]
    assert own == ["model", "data", "out", "resume", "threads", "progress", "command", "on_start", "callback", "mpi"]


@pytest.mark.parametrize(("name", "value"), [("batch_size", 9999999999999), ("lanes", 9999999999999), ("lanes", 0),
                                             ("micro_batch", 0),
                                             ("steps", 9999999999999), ("epochs", 9999999999999), ("epochs", "many"),
                                             ("lr", -1),
                                             ("steps", 1.5), ("augment", 7)])
def test_impossible_stored_settings_are_refused_in_one_line(tmp_path, name, value):
    run = RunFolder(tmp_path / "run")
    train(run.path)
    config = run.config()
    config["training"][name] = value
    run.write_config(config)
    with pytest.raises(ValueError, match=rf"config\.json is damaged: "
                                         rf".*{name.split('_')[-1] if name != 'lr' else 'learning rate'}"):
        minivit.train(minivit.create_model("vit", **TINY), "digits", out=run.path, resume=True, progress=False)


def test_settings_that_a_run_does_not_store_may_change_when_it_is_resumed(tmp_path):
    train(tmp_path / "run")
    minivit.train(minivit.create_model("vit", **TINY), "digits", out=tmp_path / "run", resume=True, progress=False,
                  threads=1,
                  checkpoint_seconds=1, checkpoint_steps=5, recompute=False)


def test_two_images_of_a_class_are_too_few_for_validation():
    digits = minivit.load_data("digits")
    keep = np.concatenate([np.flatnonzero(digits.train_labels != 3), np.flatnonzero(digits.train_labels == 3)[:1]])
    data = minivit.data.Dataset("few", digits.train_images[keep], digits.train_labels[keep], digits.test_images,
                                digits.test_labels,
                                digits.class_names)
    with pytest.raises(ValueError, match="class 3 of few has only one training image, but a validation part needs two "
                                         "of each class"):
        run_settings.with_validation(data, {"val_fraction": 0.1, "seed": 0})


def test_a_config_file_of_something_else_does_not_make_data_a_run(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    assert not RunFolder(tmp_path).is_run()
    assert not RunFolder(tmp_path / "nothing").is_run()
    train(tmp_path / "run")
    assert RunFolder(tmp_path / "run").is_run()
    (tmp_path / "run" / "config.json").write_text("damaged")
    assert RunFolder(tmp_path / "run").is_run()
