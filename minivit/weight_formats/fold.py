"""Parts of timm's Vision Transformers that need no layer of their own: multiplied into other weights, or set to zero.

    LayerScale                y = gamma * (x W + b) = x (W gamma) + b gamma      gamma (D,) scales the columns of W
    no bias of q, k and v     a bias of zeros
    positions of the patches  zeros are added to the class token and the registers

The model computes the same function with these weights. In training, a LayerScale of its own would learn at another
rate. A model that has such layers (`layer_scale` of an `ExtendedViT`) keeps their factors. Sources: LayerScale, Touvron
et al., "Going deeper with Image Transformers", arXiv:2103.17239; positions of the patches alone, Touvron et al., "DeiT
III", arXiv:2204.07118.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

_SCALE = re.compile(r"(blocks\.\d+)\.ls([12])\.gamma")
_SCALED = {"1": "attn.proj", "2": "mlp.fc2"}
_QKV = re.compile(r"blocks\.\d+\.attn\.qkv\.(weight|bias)")


def fold(tensors: Mapping[str, np.ndarray], model: Any, grids: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return tensors {timm's name: array in timm's layout} without these parts. Other models' tensors stay as they are.

    What does not fit stays, so that it is reported as another shape. grids: {name: (rows, columns)} of the tables whose
    grid the file names; their positions are complete.
    """
    folded, own = dict(tensors), {p.name for p in model.parameters()}
    for name in tensors:
        if name not in own and (match := _SCALE.fullmatch(name)):
            _scale(folded, name, f"{match[1]}.{_SCALED[match[2]]}")
    kinds = {match[1] for name in tensors if (match := _QKV.fullmatch(name))}
    if kinds == {"weight"} and hasattr(model, "prefix"):
        folded |= {f"{name.removesuffix('weight')}bias": np.zeros(len(tensor), tensor.dtype)
                   for name, tensor in tensors.items() if _QKV.fullmatch(name)}
    if getattr(model, "prefix", 0) and "pos_embed" in tensors and "pos_embed" not in grids:
        folded["pos_embed"] = _all_positions(tensors["pos_embed"], model.prefix, math.prod(model.grid))
    return folded


def _scale(tensors, name, place):
    """Multiply the factor `name` into the linear map at `place`, in place."""
    gamma, weight, bias = (tensors.get(key) for key in (name, f"{place}.weight", f"{place}.bias"))
    if weight is not None and bias is not None and gamma.shape == bias.shape == weight.shape[:1]:
        kind = np.result_type(np.float32, weight.dtype)
        tensors[f"{place}.weight"] = np.asarray(weight, kind) * np.asarray(gamma, kind)[:, None]
        tensors[f"{place}.bias"] = np.asarray(bias, kind) * np.asarray(gamma, kind)
        del tensors[name]


def _all_positions(positions, prefix, patches):
    """Return the positions (1, N, D) with rows of zeros for the prefix tokens, if only the patches have positions."""
    rows = positions.shape[1] if positions.ndim == 3 else 0
    is_complete = rows == patches + prefix or _is_square(rows - prefix) or not _is_square(rows)
    if rows != patches and is_complete:
        return positions
    return np.pad(positions, ((0, 0), (prefix, 0), (0, 0)))


def _is_square(number):
    """Return whether a number is a square of at least 1."""
    return number > 0 and math.isqrt(number) ** 2 == number
