"""Pretrained weights in files, and the named models that they belong to."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ..common.sizes import Size
from ..weight_formats.match import GOOD, HEADS, Match
from ..weight_formats.safetensors_io import formats
from ..weight_formats.timm import classes_in, from_timm, match_timm, read_any
from .create import CROPS, VARIANTS, check_model_name, declare_model
from .small import SMALL


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
    family = SMALL[name] if name in SMALL else VARIANTS[name][0]
    if Path(path).suffix == ".npz" and family != "vit":
        raise ValueError(f"an .npz is read for a ViT only: give weights of {name} as safetensors, under timm's names")
    tensors = read_any(path)
    classes = classes_in(tensors)
    return declare_model(name, **(({"classes": classes} if classes else {}) | options)), tensors


def load_weights(path: str | os.PathLike, name: str) -> tuple[Any, float]:
    """Load a named model for inference. The matrices of its linear maps stay in the file, mapped into memory.

    Parameters
    ----------
    path : path
        A file of weights with a head, see `read_named`.
    name : str
        A named variant or a small model.

    Returns
    -------
    model : Model
        The model, with as many classes as the head.
    crop : float
        Share of the shorter side of an image file that the model is meant to see, for `read_image_files`.

    Raises
    ------
    ValueError
        If the weights belong to another model or have no head, and as `read_named`.
    """
    model, tensors = read_named(path, name)
    if not classes_in(tensors):
        raise ValueError(f"{path} has no classifier, so it cannot name classes: take weights with a head")
    try:
        model = model.memory_map(from_timm(tensors, model))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    heads = [p.data for p in model.parameters() if p.name in ("head.weight", "head.fc.weight")]
    if heads and not any(head.any() for head in heads):
        raise ValueError(f"{path} has a classifier of zeros, which gives all classes the same probability: such "
                         "weights are published as a start for other classes; train them with start=...")
    return model, CROPS.get(name, 1.0)


def inspect_weights(path: str | os.PathLike, name: str, image_size: Size | None = None,
                    classes: int | None = None) -> tuple[Match, dict[str, Any]]:
    """Compare a file of weights with a named model.

    Parameters
    ----------
    path, name
        See `read_named`.
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
    model, tensors = read_named(path, name, **{option: value for option, value in given.items() if value is not None})
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
