"""Google's weights of Vision Transformers: the `.npz` files of github.com/google-research/vision_transformer.

    embedding/{kernel (P, P, C, D), bias}                             the patch embedding, as a convolution
    cls (1, 1, D)
    Transformer/posembed_input/pos_embedding (1, N, D)
    Transformer/encoderblock_l/LayerNorm_0/{scale, bias}              before the attention
      .../MultiHeadDotProductAttention_1/{query, key, value}/{kernel (D, h, d), bias (h, d)}
      .../MultiHeadDotProductAttention_1/out/{kernel (h, d, D), bias (D)}
      .../LayerNorm_2/{scale, bias}                                   before the MLP
      .../MlpBlock_3/{Dense_0, Dense_1}/{kernel (in, out), bias}
    Transformer/encoder_norm/{scale, bias}
    head/{kernel (D, K), bias}

Matrices are (in, out), as in this project. The reader gives each array timm's name and layout.
"""

import os
import re

import numpy as np

from ..common.files import read_npz

_NAMES = {
    "embedding": "patch_embed.proj", "cls": "cls_token", "Transformer/posembed_input/pos_embedding": "pos_embed",
    "Transformer/encoder_norm": "norm", "head": "head",
}
_IN_A_BLOCK = {
    "LayerNorm_0": "norm1", "LayerNorm_2": "norm2", "MultiHeadDotProductAttention_1/out": "attn.proj",
    "MlpBlock_3/Dense_0": "mlp.fc1", "MlpBlock_3/Dense_1": "mlp.fc2",
}
_ATTENTION = "MultiHeadDotProductAttention_1"


def read_google(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read such a file -> {timm's name: array in timm's layout}; unknown arrays keep their own names.

    Raises FileNotFoundError; ValueError if the file is damaged, has another content, or holds pickled objects.
    """
    arrays = read_npz(path)
    if "embedding/kernel" not in arrays or "cls" not in arrays:
        raise ValueError(f"{path} holds no Vision Transformer of Google's: it lacks embedding/kernel and cls, and has "
                         f"{', '.join(list(arrays)[:3]) or 'nothing'}")
    tensors = {_name(key): _as_timm(key, array) for key, array in arrays.items() if not _is_packed(key)}
    return tensors | _packed(path, arrays)


def _name(key):
    """Return timm's name for a key."""
    place, _, kind = key.rpartition("/")
    if key in _NAMES:
        return _NAMES[key]
    kind = {"kernel": "weight", "scale": "weight", "bias": "bias"}.get(kind)
    if match := re.fullmatch(r"Transformer/encoderblock_(\d+)/(.+)", place):
        place = _IN_A_BLOCK.get(match[2]) and f"blocks.{match[1]}.{_IN_A_BLOCK[match[2]]}"
    else:
        place = _NAMES.get(place)
    return f"{place}.{kind}" if place and kind else key


def _as_timm(key, array):
    """Return an array in timm's layout."""
    if key.endswith("out/kernel") and array.ndim == 3:                # (h, d, D) -> (D, D)
        array = array.reshape(-1, array.shape[-1])
    if key.endswith("kernel"):
        return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
    return array


def _is_packed(key):
    """Return whether timm packs this array into qkv."""
    return re.fullmatch(rf"Transformer/encoderblock_\d+/{_ATTENTION}/(query|key|value)/(kernel|bias)", key)


def _packed(path, arrays):
    """Return query, key and value of each block side by side: qkv.weight (3 D, D), qkv.bias (3 D,)."""
    tensors = {}
    for place in {key.rpartition(f"/{_ATTENTION}/")[0] for key in arrays if _is_packed(key)}:
        block = place.rpartition("_")[2]
        for kind, name, first in (("kernel", "weight", 1), ("bias", "bias", 0)):
            try:
                parts = [arrays[f"{place}/{_ATTENTION}/{part}/{kind}"] for part in ("query", "key", "value")]
                flat = [part.reshape(*part.shape[:first], -1) for part in parts]    # (D, h, d) -> (D, D)
                tensors[f"blocks.{block}.attn.qkv.{name}"] = np.concatenate(flat, axis=first).T
            except (KeyError, ValueError) as error:
                raise ValueError(f"{path} is damaged: {place}/{_ATTENTION} has no query, key and value that fit "
                                 f"together: {error}") from None
    return tensors
