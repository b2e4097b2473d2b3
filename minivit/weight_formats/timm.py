"""Weights under timm's names and in its layout, in safetensors files: the one format of weights on disk.

The names in this project are timm's. Only the layouts differ:

    linear weight       ours (in, out)            timm's (out, in)
    patch embedding     ours (P P C, D)           timm's (D, C, P, P), the filters of a convolution
    convolution         ours (k, k, C, D)         timm's (D, C, k, k), the head of a ResNet too, with k = 1
    bias table          ours (T, h)               timm's (T, h)
    cls_token           ours (D,)                 timm's (1, 1, D), and dist_token alike
    pos_embed           ours (N, D)               timm's (1, N, D), and reg_token alike

A few parts of timm's Vision Transformers are multiplied in when weights are read, see `fold.py`.

The authors of Swin count each `downsample` to the previous stage and call `head.fc` `head`; their names are read too,
as are Google's `.npz` files of Vision Transformers (see `google.py`) and Hugging Face's ViT (see `hugging_face.py`).
"""

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..common.sizes import check_pair
from .fold import fold
from .google import read_google
from .hugging_face import from_hugging_face, is_hugging_face
from .match import Match, match
from .safetensors_io import read_tensors, write_tensors

_AS_IT_IS = "relative_position_bias_table"
_WRAPPERS = ("module.", "_orig_mod.", "model.", "state_dict.")         # of DataParallel, torch.compile, trainers
_TOKENS = ("cls_token", "dist_token")
_TABLES = ("pos_embed", "reg_token")


class Tensors(dict):
    """The weights of a model, {name: array in timm's layout}.

    Attributes
    ----------
    grids : dict
        {name: [rows, columns]} of those that lie on a grid which is not a square. An array alone does not tell: 16 rows
        may be 4 x 4 or 2 x 8 places.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], grids: Mapping[str, Any]) -> None:
        super().__init__(tensors)
        self.grids = dict(grids)


def _grids(model):
    """Return the attribute `grids` of the `Tensors` of a model."""
    return {name: list(grid[:2]) for name, grid in model.position_grids().items() if grid[0] != grid[1]}


def to_timm(model: Any) -> Tensors:
    """Return copies of all weights of a model as {name: array in timm's layout}."""
    return Tensors({name: np.array(view, order="C") for name, view in _views(model).items()}, _grids(model))


def _views(model):
    """Yield the weights of a model in timm's layout, as views."""
    return {p.name: _outward(p.name, p.data, model) for p in model.parameters()}


def match_timm(tensors: Mapping[str, np.ndarray], model: Any, new_head: bool = False) -> Match:
    """Match {name: array in timm's layout} to a model. new_head: whether the classifier starts anew. See `match.py`."""
    def outward(p):
        return _outward(p.name, np.broadcast_to(np.float32(0), p.shape), model).shape

    old_grids = getattr(tensors, "grids", {})
    tensors = fold(_renamed(tensors), model, old_grids)
    return match(tensors, model.parameters(), outward, _inward, model.position_grids(), new_head, old_grids)


def from_timm(tensors: Mapping[str, np.ndarray], model: Any, new_head: bool = False) -> dict[str, np.ndarray]:
    """Convert {name: array in timm's layout} to {name: array in ours} for all parameters of a model.

    With `new_head` the classifier is left out. Raises ValueError that names tensors which do not fit.
    """
    found = match_timm(tensors, model, new_head)
    found.check()
    return found.values


def _renamed(tensors):
    """Give the tensors of Swin's authors timm's names."""
    if "layers.0.downsample.reduction.weight" not in tensors:
        return tensors

    def name(old):
        new = re.sub(r"^layers\.(\d+)\.downsample\.", lambda m: f"layers.{int(m[1]) + 1}.downsample.", old)
        return re.sub(r"^head\.(?!fc\.)", "head.fc.", new)

    return {name(old): tensor for old, tensor in tensors.items()}


def _outward(name, data, model):
    """Return an array in timm's layout."""
    if name == "patch_embed.proj.weight":
        data = data.reshape(*model.patch_embed.patch_size, model.channels, -1)
    if data.ndim == 4:
        return data.transpose(3, 2, 0, 1)
    if name in _TOKENS:
        return data[None, None]
    if name in _TABLES:
        return data[None]
    if name.endswith(_AS_IT_IS):
        return data
    return data.T                                                     # a vector is its own transpose


def _inward(name, tensor, shape):
    """Return a tensor in our layout."""
    if name.endswith(_AS_IT_IS):
        return tensor
    if tensor.ndim == 4:
        tensor = tensor.transpose(2, 3, 1, 0)                         # (D, C, k, k) -> (k, k, C, D)
    elif tensor.ndim == 2:
        tensor = tensor.T
    return tensor.reshape(shape)


def write_weights(path: str | os.PathLike, model: Any) -> None:
    """Write all weights of a model to a safetensors file. Equal weights give equal bytes."""
    grids = _grids(model)
    about = {"config": model.config} | ({"grids": grids} if grids else {})
    write_tensors(path, _views(model), {"minivit": json.dumps(about, sort_keys=True)})


def read_any(path: str | os.PathLike) -> Tensors:
    """Read a safetensors file or Google's `.npz` -> {timm's name: array in timm's layout}.

    Raises FileNotFoundError; ValueError if the file is damaged or has another format.
    """
    tensors, metadata = (read_google(path), {}) if Path(path).suffix == ".npz" else read_tensors(path)
    tensors = _unwrapped(tensors)
    if is_hugging_face(tensors):
        try:
            tensors = from_hugging_face(tensors)
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from None
    return Tensors(_renamed(tensors), _named_grids(metadata))


def _named_grids(metadata):
    """Return the grids that `write_weights` noted in the metadata of a file, as far as they are sizes."""
    with suppress(ValueError, TypeError, AttributeError, KeyError):
        named = json.loads(metadata["minivit"])["grids"] if "grids" in metadata.get("minivit", "") else {}
        return {str(name): check_pair("grid", grid) for name, grid in named.items()}
    return {}


def _unwrapped(tensors):
    """Remove what a wrapper of the model has put before all names, such as the `module.` of DataParallel."""
    while prefix := next((one for one in _WRAPPERS if tensors and all(name.startswith(one) for name in tensors)), ""):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def classes_in(tensors: Mapping[str, np.ndarray]) -> int | None:
    """Return the number of classes of the classifier in these tensors; None without a classifier."""
    heads = [tensor for name, tensor in tensors.items() if name in ("head.weight", "head.fc.weight")
             and tensor.ndim > 1]
    return heads[0].shape[0] if heads else None


def read_weights(path: str | os.PathLike, model: Any, new_head: bool = False) -> dict[str, np.ndarray]:
    """Read the weights in a file, by name and in our layout. new_head: as for `match_timm`.

    Raises FileNotFoundError; ValueError that says what does not fit.
    """
    found = match_timm(read_any(path), model, new_head)
    try:
        found.check()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return found.values
