"""Default model and training settings for each data set.

A data set without a preset is taken to be small: many epochs of small batches, and affine augmentation.

Sources of the settings: He et al., arXiv:1512.03385 (crop, flip); Xiao et al., arXiv:2106.14881 (stem); Liu et al., arXiv:2103.14030
(relative bias); DeVries and Taylor, arXiv:1708.04552 (cutout).
"""

import math
from dataclasses import dataclass, field

import numpy as np

from ..models import create_model
from ..models.create import VARIANTS

MINI_MODELS = {"vit_mini": "vit", "deit_mini": "deit", "swin_mini": "swin"}   # small models by the size of the images; the family for any other


@dataclass(frozen=True)
class Preset:
    """Options of the ViT and settings of `train`, where they differ from the defaults."""

    model: dict = field(default_factory=dict)
    training: dict = field(default_factory=dict)


def _vit(width, depth, heads, drop_path_rate):
    """7 x 7 or 8 x 8 tokens by a convolutional stem, and a relative bias: what helps a small ViT most."""
    return {"patch_size": 4, "width": width, "depth": depth, "heads": heads, "mlp_ratio": 2, "pool": "mean", "stem": "conv",
            "relative_bias": True, "position_std": 0.02, "drop_path_rate": drop_path_rate}


# The number of epochs is meant to fill about half an hour on two cores; some hours for CIFAR. Muon stands where it was compared:
# on splits 10 to 19 of the digits it had 99.2%, AdamW with the defaults 98.8%
# (`d = load_data("digits", seed=s); train(model_for(d, seed=s), d, seed=s)`, and with optimiser="adamw", batch_size=32, lr=2e-3, ema=0).
_CIFAR = Preset(_vit(128, 6, 4, 0.1), {"epochs": 60, "batch_size": 128, "ema": 0.999, "augment": "crop,alternating-flip,cutout:0.4:0.5"})
# Photographs of one's own are few, and the fewer there are, the more a stem helps.
_PHOTOGRAPHS = Preset({"stem": "conv", "relative_bias": True, "pool": "mean", "position_std": 0.02}, {"augment": "affine,flip"})
PRESETS = {
    "digits": Preset({}, {"batch_size": 64, "lr": 3e-3, "ema": 0.99, "optimiser": "muon"}),
    "mnist": Preset(_vit(64, 4, 4, 0.05), {"epochs": 15, "batch_size": 128, "ema": 0.998}),
    "fashion-mnist": Preset(_vit(64, 2, 4, 0.0), {"epochs": 25, "batch_size": 64, "lr": 6e-3, "ema": 0.998, "warmup": 0.05,
                                                  "optimiser": "muon", "augment": "crop:0.07,alternating-flip"}),
    "cifar10": _CIFAR,
    "cifar100": _CIFAR,
}
# For a few minutes: a model that sees the data some times more, and little noise, for which there is no time.
SHORT = 10    # minutes
SHORT_PRESETS = {
    "fashion-mnist": Preset(_vit(64, 1, 4, 0.0), {"batch_size": 64, "lr": 6e-3, "label_smoothing": 0.0, "warmup": 0.05, "augment": "none",
                                                  "ema": 0.99, "optimiser": "muon"}),
}


def preset_for(data, minutes=None):
    """The Preset for a Dataset, by its name; `minutes`: how long it is to take, if that is given."""
    if minutes is not None and minutes < SHORT and data.name in SHORT_PRESETS:
        return SHORT_PRESETS[data.name]
    if data.name in PRESETS:
        return PRESETS[data.name]
    return _PHOTOGRAPHS if data.train_images.shape[-1] == 3 else Preset()   # what is grey may be letters, which must not be mirrored


def model_for(data, name=None, seed=0, minutes=None, **options):
    """A model for the images and classes of a Dataset, with the pixel statistics of its training part.

    name: a named variant, or a family (default: what the data's preset says, on a ViT for this size of image); "vit_mini", "deit_mini" or
    "swin_mini" is the small one for the size of the images. minutes: see `preset_for`. options: as for `create_model`; the
    drop_path_rate is 0.1 unless the preset or they say otherwise.
    Raises ValueError if the images are not square or no patch divides them, if there are not two classes at least or one has no
    training image, or as `create_model`.
    """
    _check_classes(data)
    height, width, channels = data.train_images.shape[1:]
    if height != width:
        raise ValueError(f"{data.name} has images of {height}x{width}: only square ones can be trained on")
    mean, std = data.pixel_statistics()
    fitting = {"image_size": height, "channels": channels, "classes": data.classes, "mean": mean, "std": std, "drop_path_rate": 0.1}
    preset = {}
    if name is None:
        preset = dict(preset_for(data, minutes).model)
        # The named one for 32x32 is meant for CIFAR's 50,000 pictures; one's own are fewer.
        name = "vit" if "width" in preset or height == 32 else "vit_mini"
    if name in MINI_MODELS:
        name = next((n for n in VARIANTS if n.startswith(f"{name}_") and VARIANTS[n][1]["image_size"] == height), MINI_MODELS[name])
    if name in ("resnet", "resnet_mini"):
        fitting = VARIANTS["resnet_mini"][1] | {"reduction": _reduction(height)} | fitting
    elif name in ("vit", "deit"):
        fitting |= {"patch_size": _patch_size(height), "width": 64, "depth": 4, "heads": 4, "mlp_ratio": 2, "position_std": 0.5}
    elif name == "swin":
        fitting |= _swin(height)
    if "stem" in preset:
        patch = options.get("patch_size") or (fitting | preset).get("patch_size") or VARIANTS[name][1]["patch_size"]
        if patch == 1 or patch & (patch - 1):                         # a convolutional stem needs 2, 4, 8, ...
            del preset["stem"]
    return create_model(name, seed=seed, **(fitting | preset | options))


def _swin(image_size):
    """Two stages on about 16 x 16 tokens, four windows and then one. Raises ValueError if no patch gives an even number in a row."""
    patch = _patch_size(image_size, most=24, about=16, even=True)
    return {"patch_size": patch, "width": 48, "depths": (2, 2), "heads": (3, 6), "window": image_size // patch // 2, "mlp_ratio": 2}


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


def _reduction(image_size):
    """How much the stem of a small ResNet reduces an image: to a map of between 8 x 8 and 20 x 20, if it is not too small or too large."""
    return 1 if image_size <= 16 else 2 if image_size <= 40 else 4


def _patch_size(image_size, most=16, about=8, even=False):
    """The patch that cuts an image most nearly into `about` patches in a row. Raises ValueError if none gives 4 to `most` of them, or an
    `even` number."""
    sizes = [p for p in range(1, image_size + 1) if image_size % (p << even) == 0 and 4 <= image_size // p <= most]
    if not sizes:
        raise ValueError(f"no patch divides images of side {image_size} well: take another size, for instance 28, 32 or 64")
    return min(sizes, key=lambda p: abs(math.log(image_size / p / about)))
