"""Small models for images of any size: `vit_mini`, `deit_mini`, `swin_mini` and `resnet_mini`.

`vit_mini` is the named variant for the size of the images, such as `vit_mini_patch4_28` for 28x28. For a size without a
variant, the patch size is chosen so that the model has about 8 x 8 tokens.
"""

import math
from typing import Any

from .variants import VARIANTS

SMALL = {"vit_mini": "vit", "deit_mini": "deit", "swin_mini": "swin", "resnet_mini": "resnet"}  # the family of each
DEFAULT_SIZE = {"resnet": 28}                                         # of the images; 8, as the digits, for the others


def default_image_size(name: str) -> int:
    """Return the image size of a small model if none is given."""
    return DEFAULT_SIZE.get(SMALL[name], 8)


def fit(name: str, image_size: int) -> tuple[str, dict[str, Any]]:
    """Choose the sizes of a small model.

    Parameters
    ----------
    name : str
        A small model, such as "vit_mini", or a family, such as "vit".
    image_size : int
        H = W of the images.

    Returns
    -------
    name : str
        The named variant for images of this size, if `name` is a small model that has one; otherwise the family.
    options : dict
        Options of the family for images of this size; empty for a named variant.

    Raises
    ------
    ValueError
        If no patch size divides the images well.
    """
    family = SMALL.get(name, name)
    if family == "resnet":
        return family, VARIANTS["resnet_mini"][1] | {"image_size": image_size, "reduction": _reduction(image_size)}
    if name in SMALL:
        for variant, (_, options) in VARIANTS.items():
            if variant.startswith(f"{name}_") and options["image_size"] == image_size:
                return variant, {}
    sizes: dict[str, Any] = {"image_size": image_size, "mlp_ratio": 2}
    if family == "swin":                                              # two stages: four windows, then one
        patch_size = _patch_size(image_size, most=24, about=16, even=True)
        sizes |= {"patch_size": patch_size, "window": image_size // patch_size // 2}
        return family, sizes | {"width": 48, "depths": (2, 2), "heads": (3, 6)}
    sizes["patch_size"] = _patch_size(image_size)
    return family, sizes | {"width": 64, "depth": 4, "heads": 4, "position_std": 0.5}


def _reduction(image_size: int) -> int:
    """Return by what factor the stem of a small ResNet reduces an image: usually to 8 x 8 to 20 x 20 places."""
    return 1 if image_size <= 16 else 2 if image_size <= 40 else 4


def _patch_size(image_size: int, most: int = 16, about: int = 8, even: bool = False) -> int:
    """Return the patch size for about `about` patches in a row: 4 to `most` of them, and with `even` an even number."""
    def fitting(side: int) -> list[int]:
        return [p for p in range(1, side + 1) if side % (p << even) == 0 and 4 <= side // p <= most]

    sizes = fitting(image_size)
    if not sizes:
        other = next(side for step in range(1, 64) for side in (image_size + step, image_size - step) if fitting(side))
        raise ValueError(f"no patch size divides images of {image_size}x{image_size} pixels into 4 to {most} patches "
                         f"in a row: use images of another size, such as image_size={other}")
    return min(sizes, key=lambda p: abs(math.log(image_size / p / about)))
