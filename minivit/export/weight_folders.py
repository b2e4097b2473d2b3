"""Folders that timm and Hugging Face's `transformers` load: config.json beside model.safetensors.

The weights are those of the model, under the names of the other library. Positions that a library lacks, such as
sin-cos ones, are written as learned positions.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..common.files import atomic_folder
from ..models import ViT
from ..models.config_files import hugging_face, timm
from ..models.config_files.description import WEIGHTS
from ..models.model import Model
from ..weight_formats.hugging_face import to_hugging_face
from ..weight_formats.safetensors_io import write_tensors
from ..weight_formats.timm import to_timm

METADATA = {"format": "pt"}  # what both libraries write, and `transformers` requires


def write_timm_folder(model: Model, path: str | os.PathLike, *, class_names: Sequence[str] | None = None,
                      crop: float = 1.0) -> str:
    """Write a folder that `timm.create_model("local-dir:FOLDER", pretrained=True)` loads.

    Parameters
    ----------
    model : Model
        A `ViT`, `DeiT`, `Swin` or one of BiT's ResNets.
    path : path
        The folder, which is new or empty.
    class_names : sequence of K str, optional
        Names of the classes. Default: their numbers.
    crop : float
        Share of the shorter side of an image file that the model is meant to see.

    Returns
    -------
    str
        timm's name of the architecture.

    Raises
    ------
    ValueError
        If timm has no such model, or the folder holds something.
    OSError
        If the folder cannot be written.
    """
    config = timm.write_config(model, _names(model, class_names), crop)
    _write(path, _with_positions(model), {"config.json": config})
    return config["architecture"]


def write_hugging_face_folder(model: Model, path: str | os.PathLike, *,
                              class_names: Sequence[str] | None = None) -> str:
    """Write a folder that `transformers.ViTForImageClassification.from_pretrained` loads.

    Parameters
    ----------
    model : ViT
        A ViT that reads the class token, with a linear patch embedding and no relative position bias.
    path, class_names
        As for `write_timm_folder`.

    Returns
    -------
    str
        The name of the class in `transformers`.

    Raises
    ------
    ValueError
        If the class cannot express the model, or the folder holds something.
    OSError
        If the folder cannot be written.
    """
    config, preprocessor = hugging_face.write_config(model, _names(model, class_names))
    _write(path, to_hugging_face(_with_positions(model)),
           {"config.json": config, "preprocessor_config.json": preprocessor})
    return config["architectures"][0]


def _names(model, class_names):
    """Return a name for each class."""
    names = [str(k) for k in range(model.classes)] if class_names is None else [str(name) for name in class_names]
    if len(names) != model.classes:
        raise ValueError(f"class_names must be {model.classes}, one for each class of the model, not {len(names)}")
    return names


def _with_positions(model):
    """Return the weights in timm's layout; fixed positions, or none, become learned ones."""
    tensors = to_timm(model)
    if isinstance(model, ViT) and model.pos_embed is None:
        fixed = model.fixed_positions if model.fixed_positions is not None else np.zeros((model.tokens, model.width))
        tensors["pos_embed"] = fixed[None].astype(model.dtype)
    return tensors


def _write(path: str | os.PathLike, tensors: Mapping[str, np.ndarray], files: Mapping[str, Any]) -> None:
    """Write the weights and the JSON files, completely or not at all."""
    with atomic_folder(path) as folder:
        write_tensors(folder / WEIGHTS, tensors, METADATA)
        for name, content in files.items():
            (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
