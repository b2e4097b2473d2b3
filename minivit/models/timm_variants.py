"""Vision Transformers of the library timm beyond those of the first papers, by timm's names.

The sizes, the pixel statistics and the crops are timm's. A *tag* after a name, such as `.mae` in
`vit_base_patch16_224.mae`, says how the weights were trained; some trainings have pixel statistics of their own.
"""

import re
from typing import Any

Variant = tuple[str, dict[str, Any]]                                  # the name of the family, and its options

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
_CLIP = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
_UNIT = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
# pixel statistics of the trainings that do not have those of the name
_TAGS: dict[str, dict[str, Any]] = {"dino": IMAGENET, "mae": IMAGENET, "bamboo": _CLIP}


def _vit(image_size: int, patch_size: int, width: int, depth: int, heads: int, **more: Any) -> Variant:
    sizes = {"image_size": image_size, "patch_size": patch_size, "width": width, "depth": depth, "heads": heads}
    extended = {"registers", "class_token", "norm_first", "qk_norm", "eps"} & more.keys()
    return "extended_vit" if extended else "vit", sizes | more


def _gap(*sizes: Any, registers: int = 0, **more: Any) -> Variant:
    """Return a model that reads the mean of its patches, and has registers or a norm before the mean."""
    family, options = _vit(*sizes, class_token=False, pool="mean", **more)
    return family, options | ({"registers": registers} if registers else {"norm_first": True})


def _of_sizes(name: str, sizes: dict[str, tuple[int, int, int]], image_size: int, patch_size: int,
              **more: Any) -> dict[str, Variant]:
    """Return a variant for each of several sizes (width, depth, heads). name: with {} in place of the size."""
    return {name.format(size): _vit(image_size, patch_size, *numbers, **more) for size, numbers in sizes.items()}


_SIZES = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}

TIMM_VARIANTS: dict[str, Variant] = {
    "vit_tiny_patch16_384": _vit(384, 16, 192, 12, 3),
    **_of_sizes("vit_{}_patch16_384", _SIZES, 384, 16),
    **_of_sizes("vit_{}_patch32_384", _SIZES, 384, 32),
    "vit_small_patch32_224": _vit(224, 32, 384, 12, 6),
    "vit_small_patch8_224": _vit(224, 8, 384, 12, 6, **IMAGENET),
    "vit_base_patch8_224": _vit(224, 8, 768, 12, 12),
    "vit_large_patch14_224": _vit(224, 14, 1024, 24, 16),
    "vit_base_patch16_224_miil": _vit(224, 16, 768, 12, 12, **_UNIT),
    "vit_base_patch16_plus_240": _vit(240, 16, 896, 12, 14),
    "vit_base_patch32_plus_256": _vit(256, 32, 896, 12, 14),
    "vit_small_patch16_36x1_224": _vit(224, 16, 384, 36, 6),
    "vit_base_patch16_gap_224": _gap(224, 16, 768, 12, 16),
    "vit_medium_patch16_gap_240": _gap(240, 16, 512, 12, 8),
    "vit_medium_patch16_gap_256": _gap(256, 16, 512, 12, 8),
    "vit_medium_patch16_gap_384": _gap(384, 16, 512, 12, 8),
    "vit_medium_patch16_reg1_gap_256": _gap(256, 16, 512, 12, 8, registers=1),
    "vit_medium_patch16_reg4_gap_256": _gap(256, 16, 512, 12, 8, registers=4),
    "vit_mediumd_patch16_reg4_gap_256": _gap(256, 16, 512, 20, 8, registers=4),
    "vit_mediumd_patch16_reg4_gap_384": _gap(384, 16, 512, 20, 8, registers=4),
    "vit_betwixt_patch16_reg4_gap_256": _gap(256, 16, 640, 12, 10, registers=4),
    "vit_betwixt_patch16_reg4_gap_384": _gap(384, 16, 640, 12, 10, registers=4),
    "vit_base_patch16_reg4_gap_256": _gap(256, 16, 768, 12, 12, registers=4),
    **_of_sizes("vit_{}_patch14_dinov2", _SIZES, 518, 14, **IMAGENET),
    **_of_sizes("vit_{}_patch14_reg4_dinov2", _SIZES, 518, 14, registers=4, **IMAGENET),
    "deit_base_patch16_384": _vit(384, 16, 768, 12, 12, **IMAGENET),
    "deit3_medium_patch16_224": _vit(224, 16, 512, 12, 8, **IMAGENET),
    **_of_sizes("deit3_{}_patch16_224", _SIZES, 224, 16, **IMAGENET),
    **_of_sizes("deit3_{}_patch16_384", _SIZES, 384, 16, **IMAGENET),
    "deit_base_distilled_patch16_384": ("deit", _vit(384, 16, 768, 12, 12, **IMAGENET)[1]),
}

# what other Vision Transformers of timm need: a part of their name, and what is not built here
_NOT_BUILT = {
    "clip_quickgelu": "QuickGELU and a norm before the blocks", "clip": "a norm before the blocks",
    "siglip|_map|tipsv2|pe_": "another pooling or training head", "rope|eva|dinov3": "rotary positions",
    "_xp_|pwee|18x2|20x2": "branches side by side", "rpn": "norms after the branches",
    "giant|gigantic|so400m": "MLPs or heads of other sizes", "dwee|dlittle|diff": "differential attention",
    "radio|intern": "no norm at the end", "relpos|rmlp": "timm's relative positions",
    "_r26_|_r50_|_r_|resnet": "a convolutional network in front", "naflex": "images of any size at once",
    "beit": "a position bias for each window size", "cait|xcit|levit|maxvit|vitamin": "another architecture",
}


def split_tag(name: str) -> tuple[str, dict[str, Any]]:
    """Return timm's name without its tag, and the pixel statistics that the tag changes."""
    plain, _, tag = name.partition(".")
    return plain, _TAGS.get(tag, {})


def not_built(name: str) -> str | None:
    """Return what a Vision Transformer of timm needs that is not built here; None for another name."""
    if not re.match(r"(vit|deit|deit3|beit\w*|eva\w*|cait|xcit|levit|maxvit|vitamin|flexivit|naflexvit)_", name):
        return None
    return next((what for part, what in _NOT_BUILT.items() if re.search(part, name)), None)


def crop(name: str, image_size: int) -> float:
    """Return timm's share of the shorter side of an image that a variant of `TIMM_VARIANTS` is meant to see."""
    if name.endswith("_miil"):
        return 0.875
    if image_size in (240, 256) or ("gap_384" in name and "mediumd" not in name and "betwixt" not in name):
        return 0.9 if name == "vit_base_patch16_reg4_gap_256" else 0.95
    return 0.9 if image_size == 224 else 1.0
