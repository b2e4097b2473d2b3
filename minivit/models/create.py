"""Models by name: the families, the named variants, and `create_model`, which makes one."""

import inspect

import numpy as np

from ..common.checks import check_name
from ..weights.timm import read_weights
from .deit import DeiT
from .resnet import ResNet
from .swin import Swin
from .vit import ViT

FAMILIES = {"vit": ViT, "deit": DeiT, "swin": Swin, "resnet": ResNet}


def _vit(image_size, patch_size, width, depth, heads, **more):
    return "vit", {"image_size": image_size, "patch_size": patch_size, "width": width, "depth": depth, "heads": heads, **more}


def _resnet(image_size, layers, width, **more):
    return "resnet", {"image_size": image_size, "layers": layers, "width": width, **more}


def _deit(*sizes, **more):
    return "deit", _vit(*sizes, **more)[1]


def _swin(image_size, patch_size, width, depths, heads, window, **more):
    return "swin", {"image_size": image_size, "patch_size": patch_size, "width": width, "depths": depths, "heads": heads, "window": window,
                    **more}


# The colours of ImageNet, by which DeiT and Swin were trained; Google's ViT take (pixel - 0.5) / 0.5, which is the
# models' default.
_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}

# Table 1 of Dosovitskiy et al. (B, L, H) and of Touvron et al., arXiv:2012.12877 (Ti, S), and section 3.3 of Liu et
# al., arXiv:2103.14030 (Swin-T, -S, -B), under timm's names. The mini ones are ours: for the 8x8 digits, and for
# pictures of 28x28 in grey and 32x32 in colour. Their positions start about as large as embedded patches, so that
# attention hears from the first step where a patch was: in a short training on few images that is worth a point: digits
# 98.7% instead of 97.4% with 0.02, the mean over s = 20..24 of `d = load_data("digits", seed=s); train(model_for(d,
# seed=s, position_std=...), d, seed=s, **A).accuracy`, with A = {"optimiser": "adamw", "batch_size": 32, "lr": 2e-3,
# "ema": 0}.
VARIANTS = {
    "vit_mini_patch2_8": _vit(8, 2, 64, 4, 4, mlp_ratio=2, channels=1, classes=10, position_std=0.5),
    "vit_mini_patch4_28": _vit(28, 4, 64, 4, 4, mlp_ratio=2, channels=1, classes=10, position_std=0.5),
    "vit_mini_patch4_32": _vit(32, 4, 192, 6, 3, classes=10, position_std=0.5),
    "deit_mini_patch2_8": _deit(8, 2, 64, 4, 4, mlp_ratio=2, channels=1, classes=10, position_std=0.5),
    "deit_mini_patch4_28": _deit(28, 4, 64, 4, 4, mlp_ratio=2, channels=1, classes=10, position_std=0.5),
    "deit_mini_patch4_32": _deit(32, 4, 192, 6, 3, classes=10, position_std=0.5),
    "swin_mini_patch1_window4_8": _swin(8, 1, 32, (2, 2), (2, 4), 4, mlp_ratio=2, channels=1, classes=10),
    "swin_mini_patch2_window7_28": _swin(28, 2, 48, (2, 2), (3, 6), 7, mlp_ratio=2, channels=1, classes=10),
    "swin_mini_patch2_window8_32": _swin(32, 2, 64, (2, 4), (4, 8), 8, mlp_ratio=2, classes=10),
    "vit_tiny_patch16_224": _vit(224, 16, 192, 12, 3),
    "vit_small_patch16_224": _vit(224, 16, 384, 12, 6),
    "vit_base_patch16_224": _vit(224, 16, 768, 12, 12),
    "vit_base_patch32_224": _vit(224, 32, 768, 12, 12),
    "vit_large_patch16_224": _vit(224, 16, 1024, 24, 16),
    "vit_large_patch32_224": _vit(224, 32, 1024, 24, 16),
    "vit_huge_patch14_224": _vit(224, 14, 1280, 32, 16),
    "deit_tiny_patch16_224": _vit(224, 16, 192, 12, 3, **_IMAGENET),
    "deit_small_patch16_224": _vit(224, 16, 384, 12, 6, **_IMAGENET),
    "deit_base_patch16_224": _vit(224, 16, 768, 12, 12, **_IMAGENET),
    "deit_tiny_distilled_patch16_224": _deit(224, 16, 192, 12, 3, **_IMAGENET),
    "deit_small_distilled_patch16_224": _deit(224, 16, 384, 12, 6, **_IMAGENET),
    "deit_base_distilled_patch16_224": _deit(224, 16, 768, 12, 12, **_IMAGENET),
    "swin_tiny_patch4_window7_224": _swin(224, 4, 96, (2, 2, 6, 2), (3, 6, 12, 24), 7, **_IMAGENET),
    "swin_small_patch4_window7_224": _swin(224, 4, 96, (2, 2, 18, 2), (3, 6, 12, 24), 7, **_IMAGENET),
    "swin_base_patch4_window7_224": _swin(224, 4, 128, (2, 2, 18, 2), (4, 8, 16, 32), 7, **_IMAGENET),
    "resnet_mini": _resnet(28, [1, 1, 1], 32, block="basic", reduction=2, groups=8, channels=1, classes=10),
    "resnetv2_50x1_bit": _resnet(224, [3, 4, 6, 3], 64),
    "resnetv2_152x4_bit": _resnet(224, [3, 8, 36, 3], 256),
}
# The share of a picture's shorter side that is cut out of its middle, for those that were trained on ImageNet.
CROPS = {name: 0.875 if family == "resnet" else 0.9 for name, (family, options) in VARIANTS.items() if options["image_size"] == 224}


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


def family_of(model):
    """The name of the family that a model is of; None for one of another kind."""
    return next((name for name, cls in FAMILIES.items() if type(model) is cls), None)


def create_model(name, *, weights=None, new_head=False, seed=0, dtype=np.float32, **options):
    """Make the model `name`, a family ("vit") with its sizes as options, or a named variant, whose sizes options override.

    weights: a safetensors file with timm's names, or Google's `.npz` of a Vision Transformer; learned positions are
    resized where the image size is another. Without it the weights are random, by `seed`. new_head: whether the
    classifier is random nevertheless, as for other classes. Raises ValueError for unknown names and sizes that do not
    fit; FileNotFoundError, ValueError for the file.

    >>> create_model("vit_base_patch16_224").vector.size
    86567656
    """
    model = declare_model(name, **options)
    if weights is None:
        return model.pack(dtype, seed)
    return model.pack(dtype, seed, read_weights(weights, model, new_head))


def describe_models():
    """A list of {name, tokens, parameters, flops} of every named variant; flops are of one image's forward. Nothing is allocated.

    tokens is None for a ResNet, which has none.
    """
    models = {name: declare_model(name) for name in VARIANTS}
    return [{"name": name, "tokens": m.tokens, "parameters": sum(p.size for p in m.parameters()), "flops": m.flops}
            for name, m in models.items()]
