"""timm's config.json beside weights, to and from our models.

    architecture     the name of a model of timm
    model_args       arguments of its constructor that differ from those of the name
    num_classes, label_names
    pretrained_cfg   input_size (C, H, W), mean, std, crop_pct

timm loads a folder with such a file by `timm.create_model("local-dir:FOLDER", pretrained=True)`. The format:
https://github.com/huggingface/pytorch-image-models, `timm/models/_hub.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ...common.checks import check_name
from ...common.sizes import compact, pair
from ..create import CROPS, VARIANTS, check_model_name, family_of
from ..extended_vit import ROTARY, simplest_family
from ..timm_variants import split_tag
from .description import Description, check_class_names, size_of

# timm's argument and our option, where both have the same value
_SAME = {"patch_size": "patch_size", "in_chans": "channels", "num_classes": "classes", "embed_dim": "width",
         "depth": "depth", "depths": "depths", "num_heads": "heads", "mlp_ratio": "mlp_ratio",
         "window_size": "window"}
# arguments that act in training only, or have no other value here
_IGNORED = {"drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate",
            "weight_init", "fix_init", "strict_img_size", "dynamic_img_size", "dynamic_img_pad"}
# arguments of Vision Transformers that become options, or are multiplied into the weights (`weight_formats/fold.py`)
_OF_VIT = {"reg_tokens", "class_token", "global_pool", "fc_norm", "qk_norm", "qkv_bias", "init_values",
           "no_embed_class"}
# a model of timm of each family, whose arguments are all given
_ARCHITECTURES = {"vit": "vit_base_patch16_224", "extended_vit": "vit_base_patch16_224",
                  "deit": "deit_base_distilled_patch16_224", "swin": "swin_tiny_patch4_window7_224"}
# BiT's networks in timm, whose blocks cannot be given: {blocks of each stage: their name and its widths}
_RESNETS = {(3, 4, 6, 3): ("50", (1, 3)), (3, 4, 23, 3): ("101", (1, 3)), (3, 8, 36, 3): ("152", (2, 4))}


def read_config(config: Mapping[str, Any]) -> Description:
    """Return what timm's config.json says. Raises ValueError for a model that is not built here."""
    about = config.get("pretrained_cfg", config)                      # older files have one level
    name = split_tag(check_model_name(str(config["architecture"]), False))[0]
    arguments = dict(config.get("model_args") or {})
    if name not in VARIANTS:
        raise ValueError(f"{name} is no model of timm's that is built here")
    family, options = VARIANTS[name]
    given = _options(family, name, arguments)
    channels, *sides = about.get("input_size") or (options.get("channels", 3), *pair(options["image_size"]))
    classes = config.get("num_classes", about.get("num_classes", 1000))
    options = options | {"channels": channels, "image_size": size_of(sides)} | given
    options |= {"classes": classes} if classes else {}                # a file without a head has 0
    options |= {statistic: list(about[statistic]) for statistic in ("mean", "std") if about.get(statistic)}
    if family in ("vit", "extended_vit"):
        family, options = simplest_family(options)
    names = config.get("label_names", about.get("label_names"))
    names = check_class_names([str(one) for one in names] if names else None, classes)
    return Description(family, options, names, "crop", float(about.get("crop_pct") or CROPS.get(name, 1.0)))


def _options(family, name, arguments):
    """Return our options for the arguments of timm's constructor."""
    options = {ours: arguments[theirs] for theirs, ours in _SAME.items() if theirs in arguments}
    options |= {ours: size_of(arguments[theirs]) for theirs, ours in (("img_size", "image_size"),
                                                                     ("patch_size", "patch_size"),
                                                                     ("window_size", "window"))
                if theirs in arguments}
    known = {*_SAME, *_IGNORED, "img_size"}
    if family in ("vit", "extended_vit"):
        options |= _vit_options(arguments)
        known |= _OF_VIT
    plain = {"global_pool": "avg" if family in ("swin", "resnet") else "token", "class_token": True, "qkv_bias": True,
             "pos_embed": "learn", "final_norm": True, "proj_bias": True, "act_layer": "gelu"}
    unknown = [f"{key}={value!r}" for key, value in arguments.items()
               if key not in known and value is not None and plain.get(key, False) != value]
    if unknown:
        raise ValueError(f"timm's {name} with {', '.join(unknown)} is not built here")
    return options


def _vit_options(arguments):
    """Return the options of an `ExtendedViT` for those arguments that a `ViT` does not have."""
    options = {ours: arguments[theirs] for theirs, ours in (("reg_tokens", "registers"), ("qk_norm", "qk_norm"),
                                                            ("class_token", "class_token")) if theirs in arguments}
    if "global_pool" in arguments:
        pools = {"token": "token", "avg": "mean"}
        options["pool"] = pools[check_name("pooling that is built here", arguments["global_pool"], pools)]
    if arguments.get("init_values"):                                  # a model whose name implies them is without
        options["layer_scale"] = arguments["init_values"]
    if "fc_norm" in arguments:                                        # with a token, it says only where the norm is
        options["norm_first"] = arguments["fc_norm"] is False
    return options


def write_config(model: Any, class_names: Sequence[str], crop: float = 1.0) -> dict[str, Any]:
    """Return the content of timm's config.json for a model.

    Parameters
    ----------
    model : Model
        The model.
    class_names : sequence of K str
        Names of its classes.
    crop : float
        Share of the shorter side of an image file that the model is meant to see.

    Returns
    -------
    dict
        The content.

    Raises
    ------
    ValueError
        If timm has no such model.
    """
    architecture, arguments = _architecture(model)
    shape = [model.channels, *model.image_size]
    tokens = "resnet" not in architecture
    about = {"input_size": shape, "fixed_input_size": tokens, "interpolation": "bicubic", "crop_pct": crop,
             "crop_mode": "center", "mean": model.mean.tolist(), "std": model.std.tolist(),
             "num_classes": model.classes, "first_conv": "patch_embed.proj" if tokens else "stem.conv",
             "classifier": _classifier(architecture)}
    return {"architecture": architecture, "num_classes": model.classes,
            "num_features": model.head.fc.weight.shape[-2] if hasattr(model.head, "fc") else model.width,
            "label_names": list(class_names), "model_args": arguments, "pretrained_cfg": about}


def _classifier(architecture):
    """Return the path of the classifier in timm's model."""
    if "distilled" in architecture:
        return ["head", "head_dist"]
    return "head" if architecture.startswith("vit") else "head.fc"


def _architecture(model):
    """Return timm's name of a model, and the arguments of its constructor."""
    family, options = family_of(model), model.config
    if family == "resnet":
        return _resnet(options), {"in_chans": model.channels}
    if family not in _ARCHITECTURES:
        raise ValueError(f"a {type(model).__name__} has no counterpart in timm")
    rotary = options.get("positions") in ROTARY
    for option, refused in (("relative_bias", options.get("relative_bias")), ("positions", rotary),
                            ("stem", options.get("stem", "patch") != "patch")):
        if refused:
            raise ValueError(f"timm's Vision Transformer has no {option}={options[option]!r}, so it cannot load this "
                             "model")
    arguments = {theirs: options[ours] for theirs, ours in _SAME.items() if ours in options}
    arguments = {"img_size": compact(model.image_size)} | {key: list(value) if isinstance(value, tuple) else value
                                                  for key, value in arguments.items() if key != "num_classes"}
    if options.get("pool") == "mean":
        arguments |= {"global_pool": "avg", "class_token": options.get("class_token", False)}
    if family == "extended_vit":
        if options["eps"] != 1e-6:
            raise ValueError(f"the norms of timm's Vision Transformers have eps 1e-6, but those of this model "
                             f"{options['eps']:g}")
        arguments |= {"reg_tokens": options["registers"], "qk_norm": options["qk_norm"]}
        arguments |= {"init_values": options["layer_scale"]} if options["layer_scale"] else {}
        arguments |= {"fc_norm": False} if options["norm_first"] else {}
    return _ARCHITECTURES[family], arguments


def _resnet(options):
    """Return timm's name of a ResNet."""
    name, factors = _RESNETS.get(tuple(options["layers"]), ("", ()))
    factor = options["width"] // 64
    plain = (options["block"], options["reduction"], options["groups"]) == ("bottleneck", 4, 32)
    if not plain or factor * 64 != options["width"] or factor not in factors:
        raise ValueError("timm builds BiT's ResNets only, such as resnetv2_50x1_bit with bottlenecks in stages of "
                         f"3, 4, 6 and 3, so it cannot load this ResNet with {options['block']} blocks in stages of "
                         f"{', '.join(map(str, options['layers']))}")
    return f"resnetv2_{name}x{factor}_bit"
