"""The complete settings of a training: arguments override the preset, the preset overrides the defaults.

For a resumed run they are read from its config.json instead. They are a dictionary with the entries of
`TrainingSettings` that a run stores, and `steps` (of the whole training), `lanes` and `micro_batch` (how a batch is
split, see `parallel/batch_split.py`), and for a probe `trunk`, a hash of the weights that make the features.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..common.rows import Rows
from ..common.version import __version__
from ..data import Dataset
from ..data.dataset import split
from ..models.linear_probe import LinearProbe
from ..models.model import Model
from ..parallel.batch_split import MAX_LANES, BatchSplit
from ..training.augment import Augmentation, without_strong
from ..training.settings import PATIENCE_VAL_FRACTION, SETTINGS, check_names, check_setting, default_settings
from .config import describe_model
from .defaults.default_length import default_epochs, explain_length
from .defaults.presets import preset_for
from .extend import extended_settings
from .folder import RunFolder
from .pretrained.fine_tune import FINE_TUNE, PRETRAIN, PROBE
from .pretrained.probe_features import backbone_digest
from .pretrained.weight_source import weight_record, with_new_paths
from .run_data import check_same_data

RUN_ENTRIES = ("steps", "lanes", "micro_batch")     # entries of a run's settings that are derived, not given


def read_arguments(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check keyword arguments of `train` -> (settings that a run stores, settings that it does not).

    None means "not given"; settings that are not stored get their defaults. Raises TypeError for an unknown name,
    ValueError for a value out of range; errors as `WeightSource`.
    """
    check_names(arguments)
    given = {name: value for name, value in arguments.items() if value is not None}
    if "start" in given:
        given["start"] = weight_record(given["start"])
    if "teacher" in given:
        teachers = given["teacher"] if isinstance(given["teacher"], list | tuple) else [given["teacher"]]
        given["teacher"] = [weight_record(teacher) for teacher in teachers]
        if not teachers:                                              # as if it was not given
            del given["teacher"]
    if isinstance(given.get("layers"), list | tuple):                 # as JSON has them
        given["layers"] = [list(layer) if isinstance(layer, tuple) else layer for layer in given["layers"]]
    if isinstance(given.get("augment"), list | tuple):
        if unnamed := [step for step in given["augment"] if not isinstance(step, str)]:
            raise ValueError(f"augment must be text or a list of text, such as 'crop,flip', not {unnamed[0]!r}")
        given["augment"] = ",".join(given["augment"]) or "none"
    given = {name: check_setting(name, given[name]) for name in SETTINGS if name in given}
    check_length(given)
    other = {name: given.pop(name, setting.default) for name, setting in SETTINGS.items() if not setting.stored}
    return given, other


def check_length(arguments: Mapping[str, Any]) -> None:
    """Raise ValueError if keyword arguments of `train` give the length of the training twice."""
    if arguments.get("epochs") is not None and arguments.get("minutes") is not None:
        raise ValueError("only one of epochs=... and minutes=... can set the length of the training: got epochs="
                         f"{arguments['epochs']} and minutes={arguments['minutes']}; leave out one of them")


def new_settings(model: Model, data: Dataset, given: Mapping[str, Any], minutes: float | None = None) -> dict[str, Any]:
    """Return the settings of a new run.

    Parameters
    ----------
    model : Model
    data : Dataset
    given : mapping
        The settings that override the preset, checked.
    minutes : float, optional
        Length of the training instead of epochs. Then `epochs` and `steps` are None until the speed is known.

    Raises
    ------
    ValueError
        For settings that do not fit each other or the data.
    """
    if unsuited := [name for name in given if given.get("mask_ratio") and "pretrain" not in SETTINGS[name].uses]:
        raise ValueError(f"{', '.join(unsuited)}: only for training on labels, of which pre-training uses none: leave "
                         "it out")
    pretrained: dict[str, Any] = (PRETRAIN if given.get("mask_ratio") else PROBE if given.get("probe")
                                  else FINE_TUNE if given.get("start") else {})
    defaults: dict[str, Any] = dict(default_settings())
    preset = defaults | preset_for(data, minutes).training
    if given.get("mask_ratio"):                                       # the model should not predict a hiding square
        pretrained = pretrained | {"augment": without_strong(preset["augment"])}
    if "augment" in pretrained or "augment" in given:
        preset["clean_end"] = defaults["clean_end"]                   # that of the preset is for its own augmentation
    settings = preset | pretrained | dict(given)
    if settings["optimiser"] == "schedule-free":                      # its average takes the place of a decay
        constant = {"schedule": "wsd", "decay": 0.0} if given.get("schedule", "wsd") == "wsd" else {}
        settings |= {"ema": 0.0} | constant | dict(given)
    chosen = [name for name in ("distillation", "distillation_weight", "temperature")
              if settings[name] != defaults[name]]
    if chosen and not settings["teacher"]:
        raise ValueError(f"{', '.join(chosen)} can be chosen with a teacher only")
    if settings["decay"] != defaults["decay"] and settings["schedule"] != "wsd":
        raise ValueError("decay applies to schedule=wsd only")
    if settings["schedule"] == "wsd" and settings["warmup"] + settings["decay"] > 1:
        raise ValueError(f"warmup {settings['warmup']:g} and decay {settings['decay']:g} are fractions of all steps: "
                         "their sum must be at most 1")
    if settings["clean_end"] and not any(one.strong for one in Augmentation(settings["augment"]).transforms):
        raise ValueError(f"clean_end leaves out strong augmentation steps, but augment={settings['augment']!r} has "
                         "none: add cutout, erase, mixup, cutmix or randaugment, or leave out clean_end")
    if settings["class_weights"] != "none" and settings["teacher"]:
        raise ValueError("class_weights cannot be combined with a teacher: leave out one of them")
    if settings["probe"] and (settings["augment"] != "none" or settings["teacher"] or minutes is not None):
        raise ValueError("a probe sees each image once, as it is, and then only its features: leave out augment, "
                         "teacher and minutes")
    if "temperature" in chosen and settings["distillation"] == "hard":
        raise ValueError("temperature applies to soft distillation only; hard distillation uses the teacher's most "
                         "probable class")
    if settings["patience"] and "val_fraction" not in given and data.val_images is None:
        settings["val_fraction"] = PATIENCE_VAL_FRACTION
    size, images = _check_data(settings, data)
    batch_split = BatchSplit.for_batch(size, LinearProbe.matmul_rows if settings["probe"] else model.matmul_rows)
    lanes = settings["lanes"] or batch_split.lanes
    if lanes > size:
        raise ValueError(f"there are more lanes than images in a batch: lanes={lanes}, but {size} images: pass at most "
                         f"lanes={size}, or larger batches")
    settings |= {"batch_size": size, "lanes": lanes, "micro_batch": batch_split.micro_batch}
    if settings["probe"]:
        settings["trunk"] = backbone_digest(model)
    if minutes is not None:
        return settings | {"epochs": None, "steps": None}
    if "epochs" not in given and not settings["probe"]:
        settings["epochs"] = default_epochs(settings["epochs"], images, size)
    return settings | {"steps": _steps(settings, images)}


def length_note(settings: Mapping[str, Any], given: Mapping[str, Any], data: Dataset) -> str | None:
    """Return why a new run has more epochs than the preset, if it has; else None. data: as they are trained on."""
    if "epochs" in given or settings["epochs"] is None or settings["probe"]:
        return None
    defaults: dict[str, Any] = dict(default_settings())
    usual = (defaults | preset_for(data).training)["epochs"]
    return explain_length(settings["epochs"], usual, len(data.train_labels), settings["batch_size"])


def _steps(settings, images):
    """The number of steps of the epochs in the settings."""
    return max(1, round(settings["epochs"] * (images // settings["batch_size"])))


def resumed_settings(run: RunFolder, model: Model, data: Dataset, given: Mapping[str, Any],
                     minutes: float | None = None) -> dict[str, Any]:
    """Return the settings of a run that is resumed.

    Raises ValueError if other ones are given, or config.json is damaged.
    """
    if minutes is not None:
        raise ValueError("the number of steps of a run is fixed when it starts: resume without minutes")
    stored = run.config()
    settings = run.settings
    if missing := [name for name in RUN_ENTRIES if stored["training"].get(name) is None]:
        raise run.damaged(f"it lacks {', '.join(missing)}")
    moved = {name: now for name in given.keys() & {"start", "teacher"}
             if (now := with_new_paths(settings[name], given[name]))}
    settings, given = settings | moved, dict(given) | moved           # the same weights at new paths
    if given.get("epochs") not in (None, settings["epochs"]):
        images = len(training_data(data, settings).train_labels)
        steps = _steps(settings | {"epochs": given["epochs"]}, images)
        settings = extended_settings(run, settings, given["epochs"], steps)
    other = [] if describe_model(model) == describe_model(run.declare_model()) else ["another model"]
    other += [f"{name} {_as_given(settings[name])}, not {_as_given(value)}" for name, value in given.items()
              if value != settings[name]]
    if other:
        raise ValueError(f"{run.path} was started with {', and '.join(other)}: leave out what differs, or start a new "
                         f"run; to train a finished run longer, start a new run with start={str(run.path)!r}")
    check_same_data(run, data)
    version = stored.get("versions", {}).get("minivit", __version__)
    if settings["probe"] and settings.get("trunk") != backbone_digest(model, version):
        raise ValueError(f"{run.path} is a probe of another model than this one: start with the weights that it "
                         "started with")
    _check_stored(run, settings, data)
    return settings


def _check_stored(run: RunFolder, settings: dict[str, Any], data: Dataset) -> None:
    """Raise ValueError if the stored settings contradict each other or are out of range."""
    size, images = _check_data(settings, data)
    steps, micro_batch = settings["steps"], settings["micro_batch"]
    fits = {"batch_size": settings["batch_size"] == size,
            "lanes": settings["lanes"] in range(1, max(MAX_LANES, size) + 1),
            "micro_batch": isinstance(micro_batch, int) and micro_batch >= 1,
            "steps": (steps == _steps(settings, images) if settings["epochs"] is not None
                      else isinstance(steps, int) and steps >= 1)}
    if wrong := [name for name, right in fits.items() if not right]:
        raise run.damaged(", ".join(f"{name} is {settings[name]}" for name in wrong))


def _as_given(value):
    """A setting as a user gives it; for weights, their path."""
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        return ", ".join(map(_as_given, value)) or "none"
    if isinstance(value, dict):
        return value.get("run") or value.get("file")
    return "none" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


def _check_data(settings: Mapping[str, Any], data: Dataset) -> tuple[int, int]:
    """Return (batch size, number of training images). Raises ValueError if the data do not allow the settings."""
    if not len(data.train_images):
        raise ValueError(f"{data.name} has no training images")
    if settings["patience"] and not settings["val_fraction"] and (data.val_labels is None or not len(data.val_labels)):
        raise ValueError("patience needs validation images, but val_fraction is 0: leave out val_fraction for "
                         f"{PATIENCE_VAL_FRACTION}, or choose one above 0" if data.val_labels is None else
                         f"patience needs a validation part, but that of {data.name} is empty: leave out patience")
    images = len(training_data(data, settings).train_labels)
    return min(settings["batch_size"], images), images


def training_data(data: Dataset, settings: Mapping[str, Any]) -> Dataset:
    """Return the data as a training uses them: with a validation part, and the `labelled` images of each class.

    The seed decides which images. The validation part is set apart first. Errors as `with_validation`, and ValueError
    if a class has fewer images than `labelled`.
    """
    data, count = with_validation(data, settings), settings["labelled"]
    if not count:
        return data
    chosen = []
    for label, name in enumerate(data.class_names):
        members = np.flatnonzero(data.train_labels == label)
        if len(members) < count:
            raise ValueError(f"class {name} of {data.name} has {len(members)} training images, fewer than labelled="
                             f"{count}: choose at most {len(members)}")
        chosen.append(np.random.default_rng([settings["seed"], label, 1]).permutation(members)[:count])
    rows = np.sort(np.concatenate(chosen))
    return replace(data, train_images=data.train_images[rows], train_labels=data.train_labels[rows])


def with_validation(data: Dataset, settings: Mapping[str, Any]) -> Dataset:
    """Return the data with a validation part: the fraction `val_fraction` of each class of the training part.

    The seed decides which images. Those of the two parts are `Rows` of the images of `data`. Raises ValueError if the
    data have a validation part, or a class has too few images.
    """
    fraction = settings["val_fraction"]
    if not fraction:
        return data
    if data.val_images is not None:
        raise ValueError(f"{data.name} already has a validation part: leave out val_fraction")
    counts = np.bincount(data.train_labels, minlength=data.classes)
    if (counts == 1).any():
        name = data.class_names[int(np.flatnonzero(counts == 1)[0])]
        raise ValueError(f"class {name} of {data.name} has only one training image, but a validation part needs two of "
                         "each class: add images, or leave out patience and val_fraction")
    rest, part = split(data.train_labels, fraction, settings["seed"], data.class_names)
    images: list[Any] = [Rows(data.train_images, indices) for indices in (rest, part)]
    return replace(data, train_images=images[0], train_labels=data.train_labels[rest],
                   val_images=images[1], val_labels=data.train_labels[part])
