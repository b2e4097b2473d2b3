"""Pretrained weights in files, and the named models that they belong to."""

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..common.sizes import Size
from ..weight_formats.match import GOOD, HEADS, Match
from ..weight_formats.safetensors_io import formats
from ..weight_formats.timm import classes_in, from_timm, match_timm, read_any
from .class_names import read_class_names
from .config_files.description import WEIGHTS, Description, describe_weights, read_json
from .create import CROPS, VARIANTS, check_model_name, declare_model
from .model import Model
from .small import SMALL
from .timm_variants import split_tag


def read_named(path: str | os.PathLike, name: str, **options: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Read a file of weights, and declare the model that it belongs to.

    Parameters
    ----------
    path : path
        A safetensors file with timm's names, or an `.npz` of Google's for a ViT.
    name : str
        A named variant or a small model.
    **options
        Options of the model. By default it has as many classes as the head in the file, if there is one.

    Returns
    -------
    model : Model
        The model, without memory for its weights.
    tensors : dict
        All arrays of the file by timm's names, in timm's layout.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the name is unknown, options do not fit, or the file is damaged.
    """
    check_model_name(name, allow_families=False)
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder: with a model's name give a file of weights; a run has its own model")
    family = SMALL[name] if name in SMALL else VARIANTS[split_tag(name)[0]][0]
    if Path(path).suffix == ".npz" and family != "vit":
        raise ValueError(f"an .npz is read for a ViT only: give weights of {name} as safetensors, under timm's names")
    tensors = read_any(path)
    classes = classes_in(tensors)
    return declare_model(name, **(({"classes": classes} if classes else {}) | options)), tensors


@dataclass(frozen=True)
class Pretrained:
    """A model with pretrained weights.

    class_names: a name for each class, or None if the weights come without names. fit, crop: how an image file gets the
    shape of the model's images, and the share of it that the model is meant to see, for `read_image_files`.
    """

    model: Model
    class_names: list[str] | None
    fit: str
    crop: float

    @property
    def names(self) -> list[str]:
        """A name for each class: its number, if the weights come without names."""
        return self.class_names or [str(k) for k in range(self.model.classes)]


def load_weights(path: str | os.PathLike, name: str | None = None,
                 class_names: str | os.PathLike | None = None, needs_head: bool = True) -> Pretrained:
    """Load a model for inference. The matrices of its linear maps stay in the file, mapped into memory.

    Parameters
    ----------
    path : path
        A file of weights with a head, see `read_named`; or a folder of timm or Hugging Face, with config.json and
        model.safetensors.
    name : str, optional
        A named variant or a small model. Default: what the config.json beside the weights says.
    class_names : path, optional
        A file with the names of the classes, see `read_class_names`. Default: those of the config.json, if any.
    needs_head : bool
        Whether weights without a head are refused. For features, which need none, the head is then random.

    Returns
    -------
    Pretrained
        The model, with as many classes as the head, and what belongs to it.

    Raises
    ------
    FileNotFoundError
        If there are no such weights.
    ValueError
        If the weights belong to another model or have no head; if neither a name nor a config.json says to which model;
        and as `read_named`, `describe_weights` and `read_class_names`.
    """
    tensors: dict[str, np.ndarray]
    if name is None:
        path, description = described_weights(path)
        model, tensors = declare_described(path, description), read_any(path)
    else:
        model, tensors = read_named(path, name)
        description = Description(name, {}, None, "crop", CROPS.get(split_tag(name)[0], 1.0))
    if needs_head and not classes_in(tensors):
        raise ValueError(f"{path} has no classifier, so it cannot name classes: take weights with a head")
    try:
        model.memory_map(from_timm(tensors, model, new_head=not classes_in(tensors)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    heads = [p.data for p in model.parameters() if p.name in ("head.weight", "head.fc.weight")]
    if needs_head and heads and not any(head.any() for head in heads):
        raise ValueError(f"{path} has a classifier of zeros, which gives all classes the same probability: such "
                         "weights are published as a start for other classes; train them with start=...")
    names = description.class_names if class_names is None else None
    names = names or read_class_names(path, model.classes, class_names)
    return Pretrained(model, names, description.fit, description.crop)


def described_weights(path: str | os.PathLike) -> tuple[Path, Description]:
    """Return the file of weights that `path` is or contains, and what the config.json beside it says.

    Raises FileNotFoundError if there are no weights; ValueError without a config.json, and as `describe_weights`.
    """
    file = Path(path) / WEIGHTS if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file")
    description = describe_weights(file)
    if description is None:
        raise ValueError(f"{path} is a file, not a run: pass the model that has these weights as model=..., or put its "
                         "config.json beside it")
    return file, description


def declare_described(path: Path, description: Description, **options: Any) -> Model:
    """Return the model that the config.json beside `path` describes, without weights. Raises ValueError.

    options: those of the model that differ from the description.
    """
    try:
        return declare_model(description.name, **(description.options | options))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path.with_name('config.json')}: {error}") from None


def are_described(path: str | os.PathLike) -> bool:
    """Return whether `path` has weights and a config.json, and is not a run.

    It is a file of weights with a config.json beside it, or a folder of timm or Hugging Face.
    """
    folder = Path(path)
    if folder.is_file():
        return folder.with_name("config.json").is_file()
    if not ((folder / WEIGHTS).is_file() and (folder / "config.json").is_file()):
        return False
    try:
        return not {"model", "training"} & read_json(folder / "config.json").keys()   # which a run has
    except (ValueError, OSError):
        return False


def inspect_weights(path: str | os.PathLike, name: str | None, image_size: Size | None = None,
                    classes: int | None = None) -> tuple[Match, dict[str, Any]]:
    """Compare a file of weights with a named model, or with the model of the config.json beside it.

    Parameters
    ----------
    path, name
        As for `load_weights`.
    image_size : int or (int, int), optional
        Image size of the model. Default: that of the variant.
    classes : int, optional
        Classes of a new head, which replaces the head in the file.

    Returns
    -------
    match : Match
        Which tensor of the file goes to which parameter.
    facts : dict
        "parameters" of the model, "numbers" in the file, and "formats": how many tensors have each number format.
    """
    given = {"image_size": image_size, "classes": classes}
    options = {option: value for option, value in given.items() if value is not None}
    tensors: dict[str, np.ndarray]
    if name is None:
        path, description = described_weights(path)
        model, tensors = declare_described(path, description, **options), read_any(path)
    else:
        model, tensors = read_named(path, name, **options)
    kinds = (x.dtype.name for x in tensors.values()) if Path(path).suffix == ".npz" else formats(path)
    facts = {"parameters": sum(p.size for p in model.parameters()), "numbers": sum(x.size for x in tensors.values()),
             "formats": dict(Counter(kinds))}
    return match_timm(tensors, model, new_head=classes is not None), facts


def describe_match(found: Match, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the result of `inspect_weights` for JSON: {ok, rows: [{name, file, model, verdict}], parameters, ...}."""
    rows = [{"name": row.name, "file": row.found, "model": row.expected, "verdict": row.verdict} for row in found.rows]
    return json.loads(json.dumps({"ok": found.ok, "rows": rows} | facts))


def match_text(found: Match, facts: dict[str, Any]) -> str:
    """Return the result of `inspect_weights` as text."""
    kinds = ", ".join(f"{count} of {name}" for name, count in facts["formats"].items())
    lacking = [row for row in found.rows if row.verdict not in GOOD]
    if found.ok:
        verdict = "these weights are of this model"
    elif all(row.verdict == "missing" and row.name.startswith(HEADS) for row in lacking):
        verdict = "these weights are of this model, without its classifier: with classes=... a new one is made"
    else:
        verdict = "these weights are of another model"
    sizes = f"file: {facts['numbers']:,} numbers, {kinds}; model: {facts['parameters']:,} parameters"
    return f"{found}\n{sizes}\n{verdict}"
