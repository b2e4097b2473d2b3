"""Hugging Face's config.json and preprocessor_config.json of a ViTForImageClassification, to and from our ViT.

`transformers` loads a folder with these files by `ViTForImageClassification.from_pretrained(FOLDER)` and
`ViTImageProcessor.from_pretrained(FOLDER)`. The names of the weights are in `weight_formats/hugging_face.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...common.sizes import compact
from ..extended_vit import simplest_family
from ..vit import ViT
from .description import Description, check_class_names, size_of

_SAME = {"hidden_size": "width", "num_hidden_layers": "depth", "num_attention_heads": "heads",
         "num_channels": "channels"}
# values that a config.json may leave out
_DEFAULTS: dict[str, Any] = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
                             "num_channels": 3, "intermediate_size": 3072, "image_size": 224, "patch_size": 16,
                             "layer_norm_eps": 1e-12}
_FIXED: dict[str, Any] = {"hidden_act": "gelu"}
_EPS = 1e-6                                                           # of the norms of our ViT
_BICUBIC = 3                                                          # Pillow's number


def read_config(config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> Description:
    """Return what the two files say. Raises ValueError for another model than a ViT with a classifier."""
    kinds = config.get("architectures") or ["ViTForImageClassification"]
    if config.get("model_type", "vit") != "vit" or "ViTForImageClassification" not in kinds:
        raise ValueError(f"of Hugging Face's models only ViTForImageClassification is built here, not "
                         f"{', '.join(map(str, kinds))} of the type {config.get('model_type')}")
    values = _DEFAULTS | _FIXED | dict(config)
    for name, value in _FIXED.items():
        if values[name] != value:
            raise ValueError(f"a ViT with {name}={values[name]!r} is not built here, only with {value!r}")
    options = {ours: values[theirs] for theirs, ours in _SAME.items()}
    options |= {"mlp_ratio": _ratio(values["intermediate_size"], values["hidden_size"]),
                "image_size": size_of(values["image_size"]), "patch_size": size_of(values["patch_size"])}
    labels = config.get("id2label") or {}
    names = [str(labels[key]) for key in sorted(labels, key=int)] if labels else None
    options["classes"] = len(names) if names else config.get("num_labels", 2)         # 2: the default of transformers
    options |= {"mean": preprocessor.get("image_mean", 0.5), "std": preprocessor.get("image_std", 0.5)}
    family, options = simplest_family(options | {"eps": values["layer_norm_eps"]})
    return Description(family, options, check_class_names(names, options["classes"]), "stretch")


def _ratio(hidden, width):
    """Return the ratio r with int(width r) = hidden, whatever its rounding."""
    return np.nextafter(hidden / width, np.inf).item() if int(width * (hidden / width)) < hidden else hidden / width


def write_config(model: Any, class_names: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the content of config.json and of preprocessor_config.json for a ViT.

    Parameters
    ----------
    model : ViT
        The model; it reads the class token, has a linear patch embedding and no relative position bias.
    class_names : sequence of K str
        Names of its classes.

    Returns
    -------
    config, preprocessor : dict
        The content of both files.

    Raises
    ------
    ValueError
        If ViTForImageClassification cannot express the model.
    """
    _check(model)
    names = {str(k): str(name) for k, name in enumerate(class_names)}
    config = {"architectures": ["ViTForImageClassification"], "model_type": "vit"} | {
        theirs: model.config[ours] for theirs, ours in _SAME.items()} | _FIXED | {
        "intermediate_size": model.blocks[0].mlp.fc1.weight.shape[1], "image_size": compact(model.image_size),
        "patch_size": model.config["patch_size"], "layer_norm_eps": _EPS, "qkv_bias": True,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "id2label": names,
        "label2id": {name: int(k) for k, name in names.items()}}
    size = dict(zip(("height", "width"), model.image_size, strict=True))
    return config, {"image_processor_type": "ViTImageProcessor", "do_resize": True, "size": size,
                    "resample": _BICUBIC, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
                    "image_mean": model.mean.tolist(), "image_std": model.std.tolist()}


def _check(model):
    """Raise ValueError if ViTForImageClassification cannot express the model."""
    plain = {"pool": "token", "relative_bias": False, "stem": "patch"}
    other = [f"{name}={model.config[name]!r}" for name, value in plain.items()
             if type(model) is ViT and model.config[name] != value]
    if type(model) is not ViT or other:
        words = f"a ViT with {', '.join(other)}" if other else f"a {type(model).__name__}"
        raise ValueError("ViTForImageClassification is a ViT that reads the class token, with a linear patch "
                         f"embedding and no relative position bias: it cannot express {words}")
