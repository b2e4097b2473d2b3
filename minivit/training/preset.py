"""A model that suits a data set, for who does not want to choose one."""

import math

import numpy as np

from ..models import create_model
from ..models.create import FAMILIES, VARIANTS


def model_for(data, name=None, seed=0, **options):
    """A model for the images and classes of a Dataset, with the pixel statistics of its training part.

    name: a named variant or a family (default: the mini ViT for this size of image). options: as for `create_model`; the
    drop_path_rate is 0.1 unless given. Raises ValueError if the images are not square or no patch divides them, if there are not two
    classes at least or one has no training image, or as `create_model`.
    """
    _check_classes(data)
    height, width, channels = data.train_images.shape[1:]
    if height != width:
        raise ValueError(f"{data.name} has images of {height}x{width}: only square ones can be trained on")
    mean, std = data.pixel_statistics()
    fitting = {"image_size": height, "channels": channels, "classes": data.classes, "mean": mean, "std": std, "drop_path_rate": 0.1}
    if name is None:
        name = next((n for n in VARIANTS if n.startswith("vit_mini_") and VARIANTS[n][1]["image_size"] == height), "vit")
    if name in FAMILIES:
        fitting |= {"patch_size": _patch_size(height), "width": 64, "depth": 4, "heads": 4, "mlp_ratio": 2, "position_std": 0.5}
    return create_model(name, seed=seed, **(fitting | options))


def _check_classes(data):
    """Raise ValueError unless there are two classes at least, and training images of each."""
    if data.classes < 2:
        raise ValueError(f"{data.name} has one class only, {', '.join(data.class_names)}: there is nothing to tell apart")
    counts = np.bincount(data.train_labels, minlength=data.classes)
    if not counts.sum():
        raise ValueError(f"{data.name} has no training images")
    if missing := [name for name, count in zip(data.class_names, counts, strict=True) if not count]:
        named = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise ValueError(f"{data.name} has no training images of class {named}: give some, or leave the class out (labels count from 0)")


def _patch_size(image_size):
    """The patch that cuts an image most nearly into 8 x 8. Raises ValueError if none gives between 4 x 4 and 16 x 16."""
    sizes = [p for p in range(1, image_size + 1) if image_size % p == 0 and 4 <= image_size // p <= 16]
    if not sizes:
        raise ValueError(f"no patch divides images of side {image_size} well: take another size, for instance 28, 32 or 64")
    return min(sizes, key=lambda p: abs(math.log(image_size / p / 8)))
