"""Names of the weights of Hugging Face's ViTForImageClassification.

    vit.embeddings.{cls_token, position_embeddings, patch_embeddings.projection.*}
    vit.encoder.layer.l.{layernorm_before, layernorm_after}.*
      .attention.attention.{query, key, value}.*                      timm packs them into attn.qkv
      .attention.output.dense.*, .intermediate.dense.*, .output.dense.*
    vit.layernorm.*, classifier.*

Layouts are timm's. Version 5 of `transformers` calls some layers otherwise in memory; both names are read, and those
above are written.
"""

import re
from collections.abc import Mapping

import numpy as np

_PARTS = ("query", "key", "value")
_NAMES = {
    "vit.embeddings.cls_token": "cls_token", "vit.embeddings.position_embeddings": "pos_embed",
    "vit.embeddings.patch_embeddings.projection": "patch_embed.proj", "vit.layernorm": "norm", "classifier": "head",
}
_IN_A_BLOCK = {
    "layernorm_before": "norm1", "layernorm_after": "norm2", "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2",
}
_VERSION_5 = {"attention.o_proj": "attn.proj", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
_BLOCK = re.compile(r"vit\.(?:encoder\.layer|layers)\.(\d+)\.(.+)\.(weight|bias)")
_QKV = re.compile(r"attention\.(?:attention\.)?(query|key|value|q_proj|k_proj|v_proj)")


def is_hugging_face(tensors: Mapping[str, np.ndarray]) -> bool:
    """Return whether these are weights of a ViTForImageClassification, by their names."""
    return "vit.embeddings.cls_token" in tensors


def from_hugging_face(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Give weights timm's names, with query, key and value packed into one array; unknown names stay.

    Raises ValueError if the query, key and value of a block do not fit together.
    """
    renamed: dict[str, np.ndarray] = {}
    packed: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        match = _BLOCK.fullmatch(name)
        if match and (part := _QKV.fullmatch(match[2])):
            packed.setdefault(f"blocks.{match[1]}.attn.qkv.{match[3]}", {})[part[1][0]] = tensor
        elif match:
            place = (_IN_A_BLOCK | _VERSION_5).get(match[2])
            renamed[f"blocks.{match[1]}.{place}.{match[3]}" if place else name] = tensor
        else:
            place, _, kind = name.rpartition(".")
            renamed[_NAMES.get(name) or (f"{_NAMES[place]}.{kind}" if place in _NAMES else name)] = tensor
    for name, parts in packed.items():
        try:
            renamed[name] = np.concatenate([parts[part[0]] for part in _PARTS])       # q, k, v
        except (KeyError, ValueError) as error:
            raise ValueError(f"the query, key and value of {name.removesuffix('.attn.qkv.weight')} do not fit "
                             f"together: {error}") from None
    return renamed


def to_hugging_face(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Give the weights of a ViT Hugging Face's names, from timm's names."""
    outer = {timm: name for name, timm in _NAMES.items()}
    inner = {timm: name for name, timm in _IN_A_BLOCK.items()}
    renamed = {}
    for name, tensor in tensors.items():
        place, _, kind = name.rpartition(".")
        match = re.fullmatch(r"blocks\.(\d+)\.(.+)", place)
        if name in outer:
            renamed[outer[name]] = tensor
        elif match is None:
            renamed[f"{outer[place]}.{kind}"] = tensor
        elif match[2] == "attn.qkv":
            for part, third in zip(_PARTS, np.split(tensor, 3), strict=True):
                renamed[f"vit.encoder.layer.{match[1]}.attention.attention.{part}.{kind}"] = third
        else:
            renamed[f"vit.encoder.layer.{match[1]}.{inner[match[2]]}.{kind}"] = tensor
    return renamed
