"""Weights under timm's names and in its layout, in safetensors files: the one format of weights on disk.

The names are ours already. Only the layouts differ:

    linear weight       ours (in, out)            timm's (out, in)
    patch embedding     ours (P P C, D)           timm's (D, C, P, P), the kernel of a convolution
    convolution         ours (k, k, C, D)         timm's (D, C, k, k), the head of a ResNet too, with k = 1
    bias table          ours (T, h)               timm's (T, h)
    cls_token           ours (D,)                 timm's (1, 1, D)
    pos_embed           ours (N, D)               timm's (1, N, D)
"""

import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import save

from ..files import write_whole

_AS_IT_IS = "relative_position_bias_table"


def to_timm(model):
    """All weights of a model as {name: array in timm's layout}; the arrays are copies."""
    return {p.name: np.ascontiguousarray(_outward(p.name, p.data, model)) for p in model.parameters()}


def from_timm(tensors, model):
    """{name: array in timm's layout} -> {name: array in ours}, complete for `model`.

    Raises ValueError that names the tensors that are missing, unexpected or of another shape.
    """
    parameters = {p.name: p for p in model.parameters()}
    missing, unexpected = sorted(parameters.keys() - tensors.keys()), sorted(tensors.keys() - parameters.keys())
    if missing or unexpected:
        raise ValueError("these weights are of another model: " + "; ".join(
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for what, names in (("missing", missing), ("unexpected", unexpected)) if names))
    values = {}
    for name, p in parameters.items():
        expected = _outward(name, np.broadcast_to(np.float32(0), p.shape), model).shape
        if tensors[name].shape != expected:
            raise ValueError(f"{name} has the shape {tensors[name].shape} in the file, but {expected} in this model")
        values[name] = _inward(name, tensors[name], p.shape)
    return values


def _outward(name, data, model):
    if name == "patch_embed.proj.weight":
        P, C = model.patch_embed.patch_size, model.channels
        data = data.reshape(P, P, C, -1)
    if data.ndim == 4:
        return data.transpose(3, 2, 0, 1)
    if name == "cls_token":
        return data[None, None]
    if name == "pos_embed":
        return data[None]
    if name.endswith(_AS_IT_IS):
        return data
    return data.T                                                     # a vector is its own transpose


def _inward(name, tensor, shape):
    if name.endswith(_AS_IT_IS):
        return tensor
    if tensor.ndim == 4:
        tensor = tensor.transpose(2, 3, 1, 0)                         # (D, C, k, k) -> (k, k, C, D)
    elif tensor.ndim == 2:
        tensor = tensor.T
    return tensor.reshape(shape)


def write_weights(path, model):
    """Write all weights of `model` to a safetensors file; equal weights give equal bytes."""
    # One metadata key only: the library writes several in an order that differs from run to run.
    write_whole(path, save(to_timm(model), metadata={"minivit": json.dumps({"config": model.config}, sort_keys=True)}))


def read_weights(path, model):
    """The weights in a safetensors file, by name and in our layout. Raises FileNotFoundError, or ValueError that says what does not fit."""
    try:
        return from_timm(read_tensors(path)[0], model)
    except ValueError as error:
        raise ValueError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None


def read_tensors(path):
    """All tensors of a safetensors file, and its metadata. Raises FileNotFoundError, or ValueError if it is damaged."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in list(file.keys())}, file.metadata() or {}


def read_metadata(path):
    """The metadata of a safetensors file, without its tensors. Errors as `read_tensors`."""
    with _opened(path) as file:
        return file.metadata() or {}


@contextmanager
def _opened(path):
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            yield file
    except (safetensors.SafetensorError, OSError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no readable safetensors file (truncated, or of another format): {error}") from None
