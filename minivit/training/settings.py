"""The settings of a training, declared once for the library, the run folder and the command line.

`TrainingSettings` is a typed dictionary. Each entry declares its type and, in a `Setting`, its default, valid values,
help text and group. To add a setting, add an entry here and use its value; the rest follows from the declaration:

    minivit.train(model, data, lr=1e-3)      keyword arguments, which type checkers know
    minivit train digits --lr 1e-3           options, grouped in `minivit train --help`
    config.json                              the "training" entry of a run
    ViTClassifier(lr=1e-3)                   parameters of the scikit-learn estimator

Settings that are left out take the value of the preset for the data set (`training_pipeline/defaults/presets.py`), else
the default below. This module imports nothing heavy, so that `minivit train --help` answers at once.
"""

import functools
import inspect
import math
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral
from types import UnionType
from typing import Annotated, Any, TypedDict, TypeVar, get_args, get_origin, get_type_hints

from ..common.checks import check_flag, check_name, check_number, nearest

Function = TypeVar("Function", bound=Callable[..., Any])
PATIENCE_VAL_FRACTION = 0.1     # val_fraction with patience, if it is left out
GROUPS = ("pre-training", "optimisation", "augmentation", "pretrained weights", "output", "computation")


@dataclass(frozen=True)
class Setting:
    """The declaration of one setting, beside its type.

    Attributes
    ----------
    label : str
        Its name in error messages, such as "learning rate".
    default : object
        Used if neither the caller nor the preset gives a value.
    group : str
        Heading in the help of the command line, one of `GROUPS`.
    help : str
        One line of help. Other settings are named as keywords (`epochs=...`), which the command line shows as options.
    option_help : str
        The help of the option, if its value is written in another way than that of the keyword; "" for `help`.
    least, above, most, below : float
        Bounds of a number: `least` and `most` are allowed themselves, `above` and `below` are not.
    choices : tuple of str
        The valid names, if it is a name.
    option : str
        Option of the command line; "" for the name with hyphens.
    aliases : tuple of str
        Other spellings of the option.
    metavar : str, optional
        Placeholder of the value in the help.
    repeated : bool
        Whether the option may be given several times; each use adds a value to a list.
    stored : bool
        Whether config.json keeps it. False for what does not change the trained weights.
    uses : tuple of str
        What it applies to: "train", training on labels, and "pretrain", pre-training without labels.
    """

    label: str
    default: Any
    group: str
    help: str
    option_help: str = ""
    least: float = -math.inf
    above: float = -math.inf
    most: float = math.inf
    below: float = math.inf
    choices: tuple[str, ...] = ()
    option: str = ""
    aliases: tuple[str, ...] = ()
    metavar: str | None = None
    repeated: bool = False
    stored: bool = True
    uses: tuple[str, ...] = ("train", "pretrain")


class TrainingSettings(TypedDict, total=False):
    """Settings of `minivit.train`, all optional. At run time the docstring lists them with their defaults."""

    epochs: Annotated[float | None, Setting(
        "number of epochs", 30, "optimisation", "passes over the training images", above=0, most=1e9)]
    batch_size: Annotated[int, Setting("batch size", 32, "optimisation", "images per step", least=1)]
    lr: Annotated[float, Setting(
        "learning rate", 2e-3, "optimisation", "peak learning rate", above=0, aliases=("--learning-rate",))]
    weight_decay: Annotated[float, Setting(
        "weight decay", 0.05, "optimisation", "weight decay of linear and convolution weights", least=0)]
    label_smoothing: Annotated[float, Setting(
        "label smoothing", 0.1, "optimisation", "label smoothing, at least 0 and below 1", least=0, below=1,
        uses=("train",))]
    clip: Annotated[float, Setting(
        "clip", 1.0, "optimisation", "largest gradient norm; larger gradients are scaled down", above=0)]
    warmup: Annotated[float, Setting(
        "warmup", 0.1, "optimisation", "fraction of all steps in which the learning rate rises", least=0, most=1)]
    schedule: Annotated[str, Setting(
        "schedule", "cosine", "optimisation",
        "learning rate after the warm-up: cosine, or wsd, which is constant until a final decay and lets a run be "
        "extended to more epochs", choices=("cosine", "wsd"))]
    decay: Annotated[float, Setting(
        "decay", 0.2, "optimisation", "fraction of all steps in the final decay of the schedule wsd", least=0, most=1)]
    class_weights: Annotated[str, Setting(
        "class weights", "none", "optimisation",
        "weights of the classes in the loss: none, or balanced, with which small classes count as much as large ones",
        choices=("none", "balanced"), uses=("train",))]
    augment: Annotated[str | list[str], Setting(
        "augment", "affine", "augmentation",
        "augmentation steps, separated by commas, or none: affine, crop, flip, alternating-flip, cutout, erase, mixup, "
        "cutmix, randaugment; numbers follow a colon, as in crop:0.1,cutmix:1:0.5", metavar="STEPS")]
    clean_end: Annotated[float, Setting(
        "clean end", 0.0, "augmentation",
        "fraction of all steps, at the end, without the augmentation steps that hide, mix or distort images: cutout, "
        "erase, mixup, cutmix, randaugment", least=0, most=1)]
    ema: Annotated[float, Setting(
        "EMA decay", 0.0, "optimisation",
        "decay of the moving average of the weights, for example 0.999; the average is then evaluated and kept; 0 for "
        "none", least=0, below=1)]
    layers: Annotated[list, Setting(
        "layers", [], "optimisation",
        "learning rate factor, and optionally weight decay, of the parameters whose name matches a pattern: "
        "[('blocks.0.*', 0.1), ('head.*', 1, 0)]",
        "learning rate factor, and optionally weight decay, of the parameters whose name matches: 'blocks.0.*:0.1' or "
        "'head.*:1:0'; may be repeated", option="--layer", metavar="PATTERN:FACTOR[:DECAY]", repeated=True)]
    optimiser: Annotated[str, Setting(
        "optimiser", "adamw", "optimisation",
        "update rule: adamw, muon, or schedule-free, an AdamW that averages the weights instead of lowering the "
        "learning rate", choices=("adamw", "muon", "schedule-free"),
        aliases=("--optimizer",))]
    val_fraction: Annotated[float, Setting(
        "validation fraction", 0.0, "optimisation",
        f"fraction of the training images to use for validation; if it is left out, patience uses "
        f"{PATIENCE_VAL_FRACTION}, unless the data have a validation part", least=0, below=1, uses=("train",))]
    labelled: Annotated[int, Setting(
        "number of labelled images", 0, "pretrained weights",
        "train on this many images of each class only, chosen by the seed, as if the others had no labels; 0 for all",
        least=0, uses=("train",))]
    mask_ratio: Annotated[float, Setting(
        "mask ratio", 0.0, "pre-training",
        "pre-train without labels: this fraction of the patches of each image is hidden, and the model predicts their "
        "pixels; 0 trains on labels", "fraction of the patches of each image that is hidden", least=0, below=1,
        uses=("pretrain",))]
    patience: Annotated[int, Setting(
        "patience", 0, "optimisation",
        "stop after this many epochs without a better validation accuracy and keep the best epoch; epochs of the "
        "warm-up do not count; 0 for never", least=0, uses=("train",))]
    start: Annotated[Any, Setting(
        "start", None, "pretrained weights",
        "start from the weights of a finished run; for other classes the head is new",
        "start from the weights of a finished run, or with --model from a file of pretrained weights; for other "
        "classes the head is new", option="--fine-tune", metavar="WEIGHTS")]
    probe: Annotated[bool, Setting(
        "probe", False, "pretrained weights",
        "train the head only, on features that are computed once for each image; layers=... with a factor of 0 "
        "freezes other parts", uses=("train",))]
    seed: Annotated[int, Setting(
        "seed", 0, "optimisation", "seed of the weights, the data split, the order of images and all random numbers",
        least=0, below=2**64)]
    teacher: Annotated[Any, Setting(
        "teacher", None, "pretrained weights",
        "learn also from a finished run on the same images and classes; a list of runs is an ensemble, whose "
        "probabilities are the mean of theirs",
        "learn also from a finished run on the same images and classes; may be repeated: several runs are an ensemble, "
        "whose probabilities are the mean of theirs", metavar="RUN", repeated=True, uses=("train",))]
    distillation: Annotated[str, Setting(
        "distillation", "hard", "pretrained weights",
        "learn the most probable class of the teacher (hard) or its probabilities (soft)", choices=("hard", "soft"),
        uses=("train",))]
    distillation_weight: Annotated[float, Setting(
        "distillation weight", 0.5, "pretrained weights", "weight of the teacher in the loss, 0 to 1",
        least=0, most=1, uses=("train",))]
    temperature: Annotated[float, Setting(
        "temperature", 3.0, "pretrained weights", "temperature of soft distillation", above=0, uses=("train",))]
    minutes: Annotated[float | None, Setting(
        "number of minutes", None, "optimisation",
        "train for this long instead of epochs=...; a short trial measures the speed first",
        above=0, most=1e9, stored=False)]
    lanes: Annotated[int | None, Setting(
        "number of lanes", None, "computation",
        "number of parts of each batch that are computed at the same time, for many cores or machines; it decides how "
        "sums are rounded; default: 2 to 16, by batch size and model", least=1)]
    checkpoint_seconds: Annotated[float, Setting(
        "number of seconds between checkpoints", 60.0, "output",
        "seconds between checkpoints, beside the end of each epoch", least=0, metavar="S", stored=False)]
    checkpoint_steps: Annotated[int | None, Setting(
        "number of steps between checkpoints", None, "output",
        "steps between checkpoints, beside the end of each epoch",
        least=1, metavar="N", stored=False)]
    log: Annotated[str, Setting(
        "log", "none", "output",
        "another log of the run, beside log.jsonl: tensorboard, in the folder of the run; or none",
        choices=("none", "tensorboard"), metavar="KIND", stored=False)]
    log_norms: Annotated[bool, Setting(
        "log_norms", False, "output",
        "log the norms of each layer's weights and gradient after each epoch; does not change the result",
        stored=False)]
    recompute: Annotated[bool, Setting(
        "recompute", False, "computation",
        "take less memory and more time: blocks recompute their activations in the backward; does not change the "
        "result", stored=False)]


# what `minivit train` has as options and `minivit.train` does not have as settings: {function: its arguments}
ELSEWHERE = {
    "load_data": ("data_dir", "image_size", "fit", "labels"),
    "create_model": ("patch_size", "width", "depth", "heads", "pool", "positions", "relative_bias", "stem", "registers",
                     "layer_scale", "drop_rate", "drop_path_rate"),
}


def _declared():
    """Return ({name: Setting}, {name: type}), read from the class above."""
    hints = get_type_hints(TrainingSettings, include_extras=True)
    declared, kinds = {}, {}
    for name, hint in hints.items():
        kind, declared[name] = get_args(hint)
        kinds[name] = get_args(kind)[0] if get_origin(kind) is UnionType else object if kind is Any else kind
    return declared, kinds


SETTINGS: dict[str, Setting]
KINDS: dict[str, type]
SETTINGS, KINDS = _declared()


def default_settings() -> TrainingSettings:
    """Return the defaults of the settings that a run stores, as a fresh dictionary."""
    defaults = {name: list(s.default) if name == "layers" else s.default for name, s in SETTINGS.items() if s.stored}
    return TrainingSettings(**defaults)  # type: ignore[typeddict-item]


def check_setting(name: str, value: Any) -> Any:
    """Return a value of the setting `name`, as a plain int or float if it is a number.

    Raises ValueError if it is out of range.
    """
    setting, kind = SETTINGS[name], KINDS[name]
    if setting.choices:
        return check_name(setting.label, value, setting.choices)
    if kind in (int, float) and not (value is None and setting.default is None):
        checked = check_number(setting.label, value, least=setting.least, above=setting.above, most=setting.most,
                               below=setting.below, whole=kind is int)
        # an integer stays one: 30 epochs are stored as 30, not as 30.0
        return checked if kind is int or not isinstance(value, Integral) else int(value)
    if kind is str and not isinstance(value, str):
        raise ValueError(f"{setting.label} must be text, not {value!r}")
    if kind is bool:
        return check_flag(setting.label, value)
    if kind is list and not isinstance(value, list | tuple):
        raise ValueError(f"{setting.label} must be a list, not {value!r}")
    for layer in value if kind is list else ():
        if not isinstance(layer, list | tuple) or len(layer) not in (2, 3) or not isinstance(layer[0], str):
            raise ValueError(f"{setting.label} must be (pattern, factor) or (pattern, factor, weight decay), not "
                             f"{layer!r}")
    return value


def check_names(names: Iterable[str], known: Iterable[str] = SETTINGS) -> None:
    """Raise TypeError, with the nearest name, for a name that is not among the known settings (default: all).

    A setting is also recognised by the names of its option on the command line, such as fine_tune for start.
    """
    known = list(known)
    for name in names:
        if name not in known:
            hint = _elsewhere(name) or _setting_suggestion(name, known)
            raise TypeError(" ".join(filter(None, [f"unknown setting {name!r}:", hint,
                                                   f"the settings are {', '.join(known)}"])))


def with_named_settings(function: Function) -> Function:
    """Decorate a function so that an unknown keyword raises TypeError with the nearest of its arguments."""
    known = [name for name in inspect.signature(function).parameters if name != "self"]

    @functools.wraps(function)
    def checked(*arguments: Any, **settings: Any) -> Any:
        check_names(settings, known)
        return function(*arguments, **settings)

    return checked  # type: ignore[return-value]


def _setting_suggestion(name: str, known: list[str]) -> str:
    """Return "did you mean ...?" with the setting whose name, or a name of whose option, is nearest; "" without one."""
    options = {option.lstrip("-").replace("-", "_"): setting for setting in known if setting in SETTINGS
               for option in (SETTINGS[setting].option, *SETTINGS[setting].aliases) if option}
    meant = {one: one for one in known} | options
    near = nearest(name, meant)
    return f"did you mean {meant[near]!r}?" if near else ""


def _elsewhere(name: str) -> str:
    """Return which function has an argument of this name, if it is an option of the command line but not a setting."""
    if name == "quiet":
        return "pass progress=False;"
    for function, arguments in ELSEWHERE.items():
        if name in arguments:
            return f"pass it to {function}(..., {name}=...);"
    return ""


def settings_table() -> str:
    """Return the settings as text, by group: name, default and help."""
    width, lines = max(map(len, SETTINGS)), []
    for group in GROUPS:
        lines += ["", group]
        for name, setting in SETTINGS.items():
            if setting.group == group:
                first, *rest = textwrap.wrap(setting.help, 80)
                lines.append(f"    {name:{width}} {setting.default!s:8} {first}")
                lines += [" " * (width + 14) + line for line in rest]
    return "\n".join(lines[1:])


TrainingSettings.__doc__ = f"""Settings of `minivit.train`, all optional, with their defaults.

{settings_table()}
"""
