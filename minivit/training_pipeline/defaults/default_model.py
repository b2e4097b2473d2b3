"""A model for a data set: the preset's, a named variant, or a small one of a family for the size of the images."""

from typing import Any

import numpy as np

from ...common.sizes import pair
from ...data import Dataset
from ...models import create_model
from ...models.create import FAMILIES, VARIANTS
from ...models.model import Model
from ...models.small import SMALL, fit
from .presets import preset_for


def model_for(data: Dataset, name: str | None = None, seed: int = 0, minutes: float | None = None,
              labelled: bool = True, **options: Any) -> Model:
    """Return a model for the images and classes of a data set.

    It normalises pixels with the statistics of the training images.

    Parameters
    ----------
    data : Dataset
        The data.
    name : str, optional
        A named variant or a family (default: the model of the preset). "vit_mini", "deit_mini", "swin_mini" and
        "resnet_mini" are the small models for the size of the images.
    seed : int
        Seed of the weights.
    minutes : float, optional
        As for `preset_for`.
    labelled : bool
        Whether it will be trained on labels: then each class needs training images.
    options
        As for `create_model`. `drop_path_rate` is 0.1 by default.

    Returns
    -------
    Model
        A model with random weights.

    Raises
    ------
    ValueError
        If no patch size divides the images, or there are not two classes with training images. Also as `create_model`
        raises.
    """
    if labelled:
        _check_classes(data)
    height, width, channels = data.train_images.shape[1:]
    mean, std = data.pixel_statistics()
    fitting = {"image_size": (height, width), "channels": channels, "classes": data.classes, "mean": mean, "std": std,
               "drop_path_rate": 0.1}
    preset: dict[str, Any] = {}
    if name is None:
        preset = dict(preset_for(data, minutes).model)
        # The variant for 32x32 is made for the 50,000 images of CIFAR; other data sets are smaller.
        name = "vit" if "width" in preset or (height, width) == (32, 32) else "vit_mini"
    if name in FAMILIES or name in SMALL:
        name, sizes = fit(name, (height, width), options.get("patch_size"))
        fitting = sizes | fitting
    if "stem" in preset:
        patch = options.get("patch_size") or (fitting | preset).get("patch_size") or VARIANTS[name][1]["patch_size"]
        rows, columns = pair(patch)
        if rows != columns or rows == 1 or rows & (rows - 1):         # a convolutional stem needs 2, 4, 8, ...
            del preset["stem"]
    return create_model(name, seed=seed, **(fitting | preset | options))


def explain_model(model: Any, data: Dataset) -> str:
    """Return which model `model_for` has chosen for a data set that has no preset, and why, in one sentence."""
    (height, width), (rows, columns), (P, Q) = model.image_size, model.grid, pair(model.config["patch_size"])
    stem = ", with a convolutional stem, which helps most with few images" if model.config["stem"] != "patch" else ""
    return (f"default model for {len(data.train_labels):,} training images of {width}x{height} pixels: a ViT of "
            f"{model.vector.size:,} parameters with {columns}x{rows} patches of {Q}x{P} pixels, few enough for a CPU"
            f"{stem}; choose another one with model=...")


def _check_classes(data):
    """Raise ValueError unless there are at least two classes, and training images of each."""
    if data.classes < 2:
        raise ValueError(f"{data.name} has one class only, {', '.join(data.class_names)}: a classifier needs at least "
                         "two")
    counts = np.bincount(data.train_labels, minlength=data.classes)
    if not counts.sum():
        raise ValueError(f"{data.name} has no training images")
    if missing := [name for name, count in zip(data.class_names, counts, strict=True) if not count]:
        named = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise ValueError(f"{data.name} has no training images of class {named}: add some, or remove the class (labels "
                         "count from 0)")
