"""Default model and training settings for each data set.

A data set without a preset is taken to be small: the defaults train for many epochs on small batches, with affine
augmentation. `default_model.py` makes the model.

Sources of the settings: He et al., arXiv:1512.03385 (crop, flip); Xiao et al., arXiv:2106.14881 (stem); Liu et al.,
arXiv:2103.14030 (relative bias); DeVries and Taylor, arXiv:1708.04552 (cutout).
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...data import Dataset


@dataclass(frozen=True)
class Preset:
    """Values that differ from the defaults.

    Attributes
    ----------
    model : dict
        Options of the ViT.
    training : dict
        Training settings.
    """

    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


def _vit(width, depth, heads, drop_path_rate, stem="conv"):
    """7x7 or 8x8 tokens, a convolutional stem and a relative position bias, which help a small ViT most."""
    return {"patch_size": 4, "width": width, "depth": depth, "heads": heads, "mlp_ratio": 2, "pool": "mean",
            "stem": stem, "relative_bias": True, "position_std": 0.02, "drop_path_rate": drop_path_rate}


# The epochs take about half an hour on two cores; some hours for CIFAR. Muon is used where it was compared with AdamW:
# on splits 10 to 19 of the digits it reached 99.2%, AdamW with the defaults 98.8%
# (`d = load_data("digits", seed=s); train(model_for(d, seed=s), d, seed=s)`, and with optimiser="adamw", batch_size=32,
# lr=2e-3, ema=0). On 5,000 validation images of Fashion-MNIST, seed 0, a stem of full resolution had 93.7% after 10
# epochs, one that starts with half the resolution 92.6% (`minivit train fashion-mnist --val-fraction 0.0833 --epochs 10
# --augment crop:0.07,alternating-flip --ema 0.998`, and with `--stem conv`). After 45 epochs with cutout it had 94.7%
# (`minivit train fashion-mnist --val-fraction 0.0833 --epochs 45`).
_CIFAR = Preset(_vit(128, 6, 4, 0.1), {"epochs": 60, "batch_size": 128, "ema": 0.999,
                                       "augment": "crop,alternating-flip,cutout:0.4:0.5"})
# Users' own photographs are few. The fewer there are, the more a convolutional stem helps.
PHOTOGRAPHS = Preset({"stem": "conv", "relative_bias": True, "pool": "mean", "position_std": 0.02},
                      {"augment": "affine,flip"})
PRESETS = {
    "digits": Preset({}, {"batch_size": 64, "lr": 3e-3, "ema": 0.99, "optimiser": "muon"}),
    "mnist": Preset(_vit(64, 4, 4, 0.05), {"epochs": 15, "batch_size": 128, "ema": 0.998}),
    "fashion-mnist": Preset(_vit(64, 2, 4, 0.0, "conv-full"), {
        "epochs": 36, "batch_size": 64, "lr": 6e-3, "ema": 0.999, "warmup": 0.05, "optimiser": "muon",
        "augment": "crop:0.07,alternating-flip,cutout:0.4:0.5", "clean_end": 0.15}),
    "cifar10": _CIFAR,
    "cifar100": _CIFAR,
}
# For a training of a few minutes: a model small enough to see the data several times, with little regularisation.
SHORT = 10    # minutes
SHORT_PRESETS = {
    "fashion-mnist": Preset(_vit(64, 1, 4, 0.0), {"batch_size": 64, "lr": 6e-3, "label_smoothing": 0.0, "warmup": 0.05,
                                                  "augment": "none", "ema": 0.99, "optimiser": "muon"}),
}


# Their labels may depend on direction and place, so they are not augmented; one can always draw more of them.
SHAPES = Preset({}, {"epochs": 10, "batch_size": 64, "augment": "none", "lr": 3e-3, "optimiser": "muon"})


def preset_for(data: "Dataset", minutes: float | None = None) -> Preset:
    """Return the preset for a data set, by its name.

    Parameters
    ----------
    data : Dataset
    minutes : float, optional
        Length of the training, if it is given in minutes.
    """
    from ...data.generated import is_generated  # here, because `minivit train --help` needs no data

    if minutes is not None and minutes < SHORT and data.name in SHORT_PRESETS:
        return SHORT_PRESETS[data.name]
    if data.name in PRESETS:
        return PRESETS[data.name]
    if is_generated(data.name):
        return SHAPES
    return PHOTOGRAPHS if data.train_images.shape[-1] == 3 else Preset()     # grey images may be letters: do not flip
