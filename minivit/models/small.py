"""Small models for images of any size: `vit_mini`, `deit_mini`, `swin_mini` and `resnet_mini`.

`vit_mini` is the named variant for the size of the images, such as `vit_mini_patch4_28` for 28x28. For a size without a
variant, the patch size is chosen so that the model has about 8 x 8 tokens.
"""

import math
from typing import Any

from ..common.sizes import Size, check_pair, compact, pair, size_as_python, size_in_words
from .variants import VARIANTS

SMALL = {"vit_mini": "vit", "deit_mini": "deit", "swin_mini": "swin", "resnet_mini": "resnet"}  # the family of each
DEFAULT_SIZE = {"resnet": 28}                                         # of the images; 8, as the digits, for the others


def default_image_size(name: str) -> int:
    """Return the image size of a small model if none is given."""
    return DEFAULT_SIZE.get(SMALL[name], 8)


def fit(name: str, image_size: Size, patch_size: Size | None = None) -> tuple[str, dict[str, Any]]:
    """Choose the sizes of a small model.

    Parameters
    ----------
    name : str
        A small model, such as "vit_mini", or a family, such as "vit".
    image_size : int or (int, int)
        (H, W) of the images; one number for a square.
    patch_size : int or (int, int), optional
        Default: chosen for the size of the images.

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
    family, size, written_size = SMALL.get(name, name), pair(image_size), compact(pair(image_size))
    if family == "resnet":
        return family, VARIANTS["resnet_mini"][1] | {"image_size": written_size, "reduction": _reduction(size)}
    if name in SMALL:
        for variant, (_, options) in VARIANTS.items():
            if variant.startswith(f"{name}_") and options["image_size"] == written_size:
                return variant, {}
    sizes: dict[str, Any] = {"image_size": written_size, "mlp_ratio": 2}
    given = None if patch_size is None else check_pair("patch_size", patch_size)
    if family == "swin":                                              # two stages: four windows, then one
        P, Q = given or _patch_size(size, most=24, about=16, even=True)
        window = max(1, size[0] // P // 2), max(1, size[1] // Q // 2)
        sizes |= {"patch_size": compact((P, Q)), "window": compact(window)}
        return family, sizes | {"width": 48, "depths": (2, 2), "heads": (3, 6)}
    sizes["patch_size"] = compact(given or _patch_size(size))
    return family, sizes | {"width": 64, "depth": 4, "heads": 4, "position_std": 0.5}


def _reduction(size: tuple[int, int]) -> int:
    """Return by what factor the stem of a small ResNet reduces an image: usually to 8 x 8 to 20 x 20 places."""
    side = math.sqrt(math.prod(size))
    return 1 if side <= 16 else 2 if side <= 40 else 4


def _patch_size(size: tuple[int, int], most: int = 16, about: int = 8, even: bool = False) -> tuple[int, int]:
    """Return the patch size for about `about` x `about` patches: 4 x 4 to `most` x `most` of them.

    Patches are squares where squares fit, else at most four times as long as wide; in an image of one row or column
    they are what fits. even: whether the numbers of rows and columns must be even, or 1.
    """
    def fitting(size: tuple[int, int]) -> list[tuple[int, int]]:
        """Return all patch sizes that fit; squares alone if there are any."""
        by_axis = [[p for p in range(1, side + 1) if side % p == 0 and not (even and side // p % 2 and side // p > 1)]
                   for side in size]
        found = [(p, q) for p in by_axis[0] for q in by_axis[1] if 16 <= size[0] // p * (size[1] // q) <= most**2]
        if min(size) > 1 or size[0] == size[1]:
            squares = [(p, q) for p, q in found if p == q]
            oblong = [] if size[0] == size[1] else [(p, q) for p, q in found if max(p, q) <= 4 * min(p, q)]
            return squares or oblong
        return found

    def cost(patch: tuple[int, int]) -> tuple[float, float, float]:
        """Return how far the number of patches is from the wanted one, a patch from a square, and the number itself."""
        patches = size[0] / patch[0] * size[1] / patch[1]
        return round(abs(math.log(patches / about**2)), 9), abs(math.log(patch[0] / patch[1])), patches

    sizes = fitting(size)
    if not sizes:
        grow = [side > 1 or max(size) == 1 for side in size]          # an image of one row keeps its one row
        changed = ((size[0] + grow[0] * change, size[1] + grow[1] * change)
                   for step in range(1, 64) for change in (step, -step))
        other = next(near for near in changed if min(near) > 0
                     and any(p == q or min(near) == 1 for p, q in fitting(near)))
        raise ValueError(f"no patch size divides images of {size_in_words(size)} pixels into {4 * 4} to {most**2} "
                         f"patches: use images of another size, such as image_size={size_as_python(other)}")
    return min(sizes, key=cost)
