"""Data sets in NumPy's .npz format."""

from pathlib import Path

import numpy as np

from ..common.files import read_npz
from .dataset import Dataset, check_images, check_labels, make_dataset


def load_npz(path: str | Path, seed: int, test_fraction: float, name: str | None = None) -> Dataset:
    """Load an .npz file as a Dataset.

    The file holds `images` (B, H, W) or (B, H, W, C), uint8, and `labels` (B,), integers; or `train_images`,
    `train_labels`, `test_images`, `test_labels` and optionally `val_images`, `val_labels`. `class_names` is optional.
    Raises FileNotFoundError; ValueError or TypeError that names the array that does not fit.
    """
    arrays, name = read_npz(path), name or Path(path).name
    parts = {"train": "train_", "test": "test_"} if "train_images" in arrays else {"train": ""}
    if parts["train"] and "val_images" in arrays:
        parts["val"] = "val_"
    missing = [prefix + key for prefix in parts.values() for key in ("images", "labels") if prefix + key not in arrays]
    if missing:
        raise ValueError(f"{name} lacks {', '.join(missing)}: an .npz data set holds images and labels, or "
                         "train_images, train_labels, test_images, test_labels; this one holds "
                         f"{', '.join(arrays) or 'nothing'}")
    pairs = {part: (_with_channels(arrays[f"{prefix}images"]), arrays[f"{prefix}labels"])
             for part, prefix in parts.items()}
    for part, (images, _) in pairs.items():
        check_images(f"{name}: {parts[part]}images", images)
        if not len(images):
            raise ValueError(f"{name}: {parts[part]}images is empty, with the shape {images.shape}")
    class_names = _class_names(name, arrays, [labels for _, labels in pairs.values()])
    for part, (images, labels) in pairs.items():
        check_labels(f"{name}: {parts[part]}labels", labels, images, len(class_names))
    return make_dataset(name, pairs, class_names, seed, test_fraction)


def _with_channels(images):
    """Give images (B, H, W) a channel axis."""
    return images[..., None] if images.ndim == 3 else images


def _class_names(name, arrays, labels):
    """Return the class names in the file, or the numbers from 0 to the largest label."""
    if "class_names" in arrays:
        if arrays["class_names"].ndim != 1:
            raise ValueError(f"{name}: class_names must be a list of names, not of shape {arrays['class_names'].shape}")
        return tuple(c.decode(errors="replace") if isinstance(c, bytes) else str(c) for c in arrays["class_names"])
    for y in labels:
        if not np.issubdtype(y.dtype, np.integer):
            raise TypeError(f"{name}: labels are {y.dtype}, but must be integers")
    largest, images = max(int(y.max(initial=0)) for y in labels), sum(y.size for y in labels)
    if largest > 1000 and largest > images:  # such numbers are no labels; the model would be huge
        raise ValueError(f"{name}: the labels go up to {largest}, with fewer images than that: number the classes "
                         "0..K-1")
    return tuple(str(k) for k in range(largest + 1))
