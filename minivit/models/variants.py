"""The table of named variants: {name: (family, options of its constructor)}."""

from typing import Any

from .timm_variants import IMAGENET as _IMAGENET
from .timm_variants import TIMM_VARIANTS, Variant
from .timm_variants import crop as _timm_crop


def _vit(image_size: int, patch_size: int, width: int, depth: int, heads: int, **more: Any) -> Variant:
    sizes = {"image_size": image_size, "patch_size": patch_size, "width": width, "depth": depth, "heads": heads}
    return "vit", sizes | more


def _deit(*sizes: int, **more: Any) -> Variant:
    return "deit", _vit(*sizes, **more)[1]


def _swin(image_size: int, patch_size: int, width: int, depths: tuple[int, ...], heads: tuple[int, ...], window: int,
          **more: Any) -> Variant:
    sizes = {"image_size": image_size, "patch_size": patch_size, "width": width}
    return "swin", sizes | {"depths": depths, "heads": heads, "window": window} | more


def _resnet(image_size: int, layers: list[int], width: int, **more: Any) -> Variant:
    return "resnet", {"image_size": image_size, "layers": layers, "width": width} | more


# DeiT and Swin were trained with the pixel statistics of ImageNet. Google's ViT use (pixel - 0.5) / 0.5, the default of
# the models.
#
# Sizes and names: Table 1 of Dosovitskiy et al. (B, L, H), Table 1 of Touvron et al., arXiv:2012.12877 (Ti, S), section
# 3.3 of Liu et al., arXiv:2103.14030 (Swin-T, -S, -B), under timm's names.
#
# The mini variants are ours: for the 8x8 digits, for grey images of 28x28 and for colour images of 32x32. Their
# positions start about as large as embedded patches, so attention can use the place of a patch from the first step. In
# a short training on few images this is worth a point: digits 98.7% instead of 97.4% with 0.02, the mean over s =
# 20..24 of `d = load_data("digits", seed=s); train(model_for(d, seed=s, position_std=...), d, seed=s, **A).accuracy`,
# with A = {"optimiser": "adamw", "batch_size": 32, "lr": 2e-3, "ema": 0}.
VARIANTS: dict[str, Variant] = {
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
# Center crop in evaluation: share of the shorter side, for the variants that were trained on ImageNet.
CROPS = {name: 0.875 if family == "resnet" else 0.9
         for name, (family, options) in VARIANTS.items() if options["image_size"] == 224}
VARIANTS |= TIMM_VARIANTS
CROPS |= {name: _timm_crop(name, options["image_size"]) for name, (_, options) in TIMM_VARIANTS.items()}
