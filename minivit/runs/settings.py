"""What a training is set to: what is given, on what suits the data (`preset.py`), on the defaults; or if it goes on, as its run has it.

Settings are a dict, as config.json keeps it: the names of `DEFAULTS`; `steps`, how many the whole run has; its cut, `lanes` and
`micro_batch` (see `lanes.BatchSplit`); and of a probe `trunk`, by which its weights are known again.
"""

from dataclasses import replace

from ..common.checks import check_number
from ..data.dataset import split
from ..models.linear_probe import LinearProbe
from ..parallel.batch_split import BatchSplit
from ..training.schedule import warmup_cosine
from .features import backbone_digest
from .fine_tune import FINE_TUNE, PROBE
from .presets import DEFAULTS, preset_for
from .run import describe
from .weight_source import same_weights


def plan(model, data, given, minutes=None):
    """The settings of a new run of `model` on a Dataset, checked.

    given: those that are not as preset or default have them. minutes: the length, if that is how it is given; then `steps` is None, until
    the speed is known. Raises ValueError for settings that are out of range, or that do not go with each other or the data.
    """
    instead = PROBE if given.get("probe") else FINE_TUNE if given.get("start") else {}
    settings = DEFAULTS | preset_for(data, minutes).training | instead | given
    chosen = [name for name in ("distillation", "distillation_weight", "temperature") if settings[name] != DEFAULTS[name]]
    if chosen and not settings["teacher"]:
        raise ValueError(f"{', '.join(chosen)} can be chosen with a teacher only")
    if settings["probe"] and (settings["augment"] != "none" or settings["teacher"] or minutes is not None):
        raise ValueError("a probe sees each picture once, as it is, and then only its features: leave out augment, teacher and minutes")
    if "temperature" in chosen and settings["distillation"] == "hard":
        raise ValueError("a temperature is for soft distillation; hard takes the teacher's first class")
    if settings["patience"] and not settings["val_fraction"] and data.val_images is None:
        settings["val_fraction"] = 0.1
    size, images = _check(settings, data)
    batch_split = BatchSplit.for_batch(size, LinearProbe.matmul_rows if settings["probe"] else model.matmul_rows)
    settings |= {"batch_size": size, "lanes": batch_split.lanes, "micro_batch": batch_split.micro_batch}
    if settings["probe"]:
        settings["trunk"] = backbone_digest(model)
    if minutes is None:
        return settings | {"steps": max(1, round(settings["epochs"] * (images // size)))}
    check_number("number of minutes", minutes, above=0, most=1e9)
    return settings | {"epochs": None, "steps": None}


def resume_settings(run, model, data, given, minutes=None):
    """The settings of a `Run` that is resumed. Raises ValueError if something else was asked for, or its file is damaged."""
    if minutes is not None:
        raise ValueError("the number of steps of a run is fixed when it starts: resume without minutes")
    stored = run.config()
    settings = stored["training"]
    missing = [name for name in (*DEFAULTS, "steps", "lanes", "micro_batch") if name not in settings]
    if missing:
        raise run.damaged(f"it lacks {', '.join(missing)}")
    moved = {name: given[name] for name in ("start", "teacher")
             if given.get(name) and settings[name] and same_weights(given[name], settings[name])}
    settings = settings | moved                                       # the same weights, wherever they lie now
    other = ["another model"] if describe(model, data, settings)["model"] != stored["model"] else []
    other += [f"{name} {_words(settings[name])}, not {_words(value)}" for name, value in given.items() if value != settings[name]]
    if other:
        raise ValueError(f"{run.folder} was started with {', and '.join(other)}: leave out what differs, or start a new run; to learn "
                         "on, start one with --fine-tune, which takes a finished run's weights")
    run.check_same(data)
    if settings["probe"] and settings.get("trunk") != backbone_digest(model):
        raise ValueError(f"{run.folder} is a probe of another model than this one: begin with the weights that it began with")
    if _check(settings, data)[0] != settings["batch_size"]:
        raise ValueError(f"{run.config_file} is damaged: its batch size is {settings['batch_size']}")
    return settings


def _words(value):
    """A setting as a user gives it; of weights, where they lie."""
    if isinstance(value, dict):
        return value.get("run") or value.get("file")
    return "none" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


def _check(settings, data):
    """Raise ValueError for a setting that `Trainer` does not check itself; returns (batch size, number of images) of the training."""
    if settings["epochs"] is not None:                                # None: the length was given in minutes
        check_number("number of epochs", settings["epochs"], above=0, most=1e9)
    check_number("warmup, a share of all steps,", settings["warmup"], least=0, most=1)
    check_number("patience, in epochs,", settings["patience"], least=0, whole=True)
    check_number("validation fraction", settings["val_fraction"], least=0, below=1)
    if not len(data.train_images):
        raise ValueError(f"{data.name} has no training images")
    if settings["patience"] and not settings["val_fraction"] and not len(data.val_labels):
        raise ValueError(f"patience needs a validation part, but that of {data.name} is empty")
    images = len(with_validation(data, settings).train_images)
    return min(check_number("batch size", settings["batch_size"], least=1, whole=True), images), images


def with_validation(data, settings):
    """The data with a validation part, if the settings ask for one: a share of every class of the training part, chosen by the seed."""
    fraction = settings["val_fraction"]
    if not fraction:
        return data
    if data.val_images is not None:
        raise ValueError(f"{data.name} has a validation part of its own: leave out val_fraction")
    rest, part = split(data.train_labels, fraction, settings["seed"], data.class_names)
    return replace(data, train_images=data.train_images[rest], train_labels=data.train_labels[rest],
                   val_images=data.train_images[part], val_labels=data.train_labels[part])


def rate(settings, step):
    """The learning rate of a step, by the settings `lr`, `steps` and `warmup`."""
    return settings["lr"] * warmup_cosine(step, settings["steps"], warmup_steps(settings))


def warmup_steps(settings):
    """The number of steps in which the learning rate rises."""
    return round(settings["warmup"] * settings["steps"])
