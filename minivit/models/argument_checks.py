"""Checks of what a user passes to a model: the options of its constructor, and the images."""

import sys
import warnings
from typing import Any

import numpy as np

from ..common.checks import check_number
from ..common.rows import Rows
from ..common.sizes import Size, check_pair, compact, pair, size_as_python
from ..kernel import active

_SIZES = {"image_size", "patch_size", "window"}                        # in two directions
_WHOLE = {"channels", "classes", "width", "depth", "depths", "heads"}
_BOUNDS: dict[str, dict] = {
    "mlp_ratio": {"above": 0}, "position_std": {"least": 0},
    "drop_rate": {"least": 0, "below": 1}, "drop_path_rate": {"least": 0, "below": 1},
}
LARGEST_SIZE, LARGEST_COUNT = 10**6, 10**4      # bounds of sizes, and of numbers of layers
PIXELS = 64.0           # floats from 0 to at least this number are taken for pixels that were not normalised
_warned: list[bool] = []        # whether the warning was given: once in a process


def check_options(config: dict[str, Any], per_stage: tuple[str, ...]) -> None:
    """Replace whole numbers in `config` by ints, and sizes by their `compact` form, in place.

    Raises ValueError for the first option that does not fit.

    per_stage: the options that are lists, with a number for each stage.
    """
    for name, value in config.items():
        bound = LARGEST_COUNT if name in ("depth", "depths", "layers") else LARGEST_SIZE
        for size in value if isinstance(value, list | tuple) else [value]:
            if isinstance(size, int | float) and abs(size) > bound:
                raise ValueError(f"the model option {name} is {size}, more than {bound:,}")
    for name in sorted(config.keys() & _SIZES):
        config[name] = compact(check_pair(name, config[name]))
    for name in sorted(config.keys() & _WHOLE):
        many = name in per_stage and isinstance(config[name], list | tuple)
        numbers = [check_number(name, n, least=1, whole=True) for n in (config[name] if many else [config[name]])]
        config[name] = numbers if many else numbers[0]
    for name in config.keys() & _BOUNDS.keys():
        check_number(name, config[name], **_BOUNDS[name])


def patch_grid(image_size: tuple[int, int], patch_size: Size) -> tuple[int, int]:
    """Return the rows and columns of patches of an image; raise ValueError unless the patches divide it."""
    (H, W), (P, Q) = image_size, pair(patch_size)
    if H % P or W % Q:
        near = P * max(1, round(H / P)), Q * max(1, round(W / Q))
        raise ValueError(f"the image size {size_as_python((H, W))} must be divisible by the patch size "
                         f"{size_as_python((P, Q))}: use another patch size, or image_size={size_as_python(near)}")
    return H // P, W // Q


def per_channel(name: str, value: Any, channels: int) -> np.ndarray:
    """Return the pixel statistic `name` as float64 (C,); raise ValueError unless it is one number or C of them."""
    array = np.atleast_1d(np.asarray(value))
    if array.shape not in ((1,), (channels,)) or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise ValueError(f"{name} must be one number, or one for each of the {channels} channels, not {array.tolist()}")
    if name == "std" and not (array > 0).all():
        raise ValueError(f"std must be positive in every channel, not {array.tolist()}")
    return np.broadcast_to(array.astype(np.float64), (channels,))


def check_input(images: Any, shape: tuple[int, int, int]) -> None:
    """Raise TypeError or ValueError unless images are uint8 or finite floats (B, H, W, C) with (H, W, C) = shape.

    Warn once if floats look like pixels from 0 to 255.
    """
    if not isinstance(images, np.ndarray | Rows):
        raise TypeError(f"images must be a NumPy array (B, H, W, C), not {type(images).__name__}")
    if images.ndim != 4 or images.shape[1:] != shape:
        hint = "; for one image, pass image[None]" if images.shape == shape else (
            "; predict takes other sizes" if images.ndim == 4 and images.shape[3] == shape[2] else "")
        raise ValueError(f"images must be (B, H, W, C) with (H, W, C) = {shape}, not {images.shape}{hint}")
    if images.dtype == np.uint8 or active.recorder:                   # a record is made of images that are checked
        return
    if not np.issubdtype(images.dtype, np.floating):
        raise TypeError(f"images must be uint8 pixels or floats that are normalised already, not {images.dtype}")
    images = images[:]                                                # of Rows, their numbers
    low, high = images.min(initial=0), images.max(initial=0)          # NaN if any number is NaN
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("images hold NaN or infinity")
    if low == 0 and high >= PIXELS and not _warned:
        _warned.append(True)
        _warn_of_pixels(images.min(), high)


def _warn_of_pixels(low: float, high: float) -> None:
    """Warn at the line of the user's code that passes the images."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("minivit."):
        frame, level = frame.f_back, level + 1
    advice = ("pass images.round().astype(np.uint8), and the model normalises them" if high <= 255
              else "scale them to 0..255 and pass them as uint8, and the model normalises them")
    warnings.warn(f"float images must be normalised already, about -3 to 3, but these go from {low:.4g} to {high:.4g}, "
                  f"like pixels from 0 to 255: {advice}", stacklevel=level)
