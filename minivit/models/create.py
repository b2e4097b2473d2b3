"""Models by name: the families, the named variants, and `create_model`, which makes one."""

import inspect

import numpy as np

from ..arguments import check_name
from ..interop.timm import read_weights
from .resnet import ResNet
from .vit import ViT

FAMILIES = {"vit": ViT, "resnet": ResNet}


def _vit(image_size, patch_size, width, depth, heads, **more):
    return "vit", {"image_size": image_size, "patch_size": patch_size, "width": width, "depth": depth, "heads": heads, **more}


def _resnet(image_size, layers, width, **more):
    return "resnet", {"image_size": image_size, "layers": layers, "width": width, **more}


# Table 1 of Dosovitskiy et al. (B, L, H) and of Touvron et al., arXiv:2012.12877 (Ti, S), under timm's names.
# The mini ones are ours: for the 8x8 digits, and for pictures of 28x28 in grey and 32x32 in colour. Their positions start about as
# large as embedded patches, so that attention hears from the first step where a patch was: in a short training on few images that
# is worth a point: digits 98.7% instead of 97.4% with 0.02, the mean over s = 20..24 of
# `d = load_data("digits", seed=s); train(model_for(d, seed=s, position_std=...), d, seed=s).accuracy`.
VARIANTS = {
    "vit_mini_patch2_8": _vit(8, 2, 64, 4, 4, mlp_ratio=2, channels=1, classes=10, position_std=0.5),
    "vit_mini_patch4_28": _vit(28, 4, 64, 4, 4, mlp_ratio=2, channels=1, classes=10, position_std=0.5),
    "vit_mini_patch4_32": _vit(32, 4, 192, 6, 3, classes=10, position_std=0.5),
    "vit_tiny_patch16_224": _vit(224, 16, 192, 12, 3),
    "vit_small_patch16_224": _vit(224, 16, 384, 12, 6),
    "vit_base_patch16_224": _vit(224, 16, 768, 12, 12),
    "vit_base_patch32_224": _vit(224, 32, 768, 12, 12),
    "vit_large_patch16_224": _vit(224, 16, 1024, 24, 16),
    "vit_large_patch32_224": _vit(224, 32, 1024, 24, 16),
    "vit_huge_patch14_224": _vit(224, 14, 1280, 32, 16),
    "resnet_mini": _resnet(28, [1, 1, 1], 32, block="basic", reduction=2, groups=8, channels=1, classes=10),
    "resnetv2_50x1_bit": _resnet(224, [3, 4, 6, 3], 64),
    "resnetv2_152x4_bit": _resnet(224, [3, 8, 36, 3], 256),
}


def declare_model(name, **options):
    """The model of that name without memory for its weights, which is enough to count it. Errors as `create_model`."""
    family, settings = VARIANTS.get(name) or (name, {})
    check_name("model", family, [*FAMILIES, *VARIANTS])
    arguments = inspect.signature(FAMILIES[family]).parameters
    for option in options:
        check_name("model option", option, arguments)
    settings = {**settings, **options}
    missing = [a.name for a in arguments.values() if a.default is a.empty and a.name not in settings]
    if missing:
        raise ValueError(f"model {name!r} needs a value for {', '.join(missing)}")
    return FAMILIES[family](**settings)


def create_model(name, *, weights=None, seed=0, dtype=np.float32, **options):
    """Make the model `name`, a family ("vit") with its sizes as options, or a named variant, whose sizes options override.

    weights: a safetensors file with timm's names; without it the weights are random, by `seed`.
    Raises ValueError for unknown names and sizes that do not fit; FileNotFoundError, ValueError for the file.

    >>> create_model("vit_base_patch16_224").vector.size
    86567656
    """
    model = declare_model(name, **options)
    if weights is None:
        return model.pack(dtype, seed)
    return model.pack(dtype, seed, read_weights(weights, model))


def describe_models():
    """A list of {name, tokens, parameters, flops} of every named variant; flops are of one image's forward. Nothing is allocated."""
    models = {name: declare_model(name) for name in VARIANTS}
    return [{"name": name, "tokens": m.tokens, "parameters": sum(p.size for p in m.parameters()), "flops": m.flops}
            for name, m in models.items()]
