"""What all models share: images in, logits out, normalisation of pixels, and the options that rebuild the model.

Read `layers/layer.py` before. *Logits* are scores, one for each of the K classes; the softmax turns them into
probabilities.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..common.sizes import pair
from ..ops import pixels
from ..parallel import prediction
from .argument_checks import check_input, check_options, per_channel
from .interface import ModelInterface
from .other_sizes import at_size_of

Statistic = float | Sequence[float]                                   # for all channels, or for each


class Model(ModelInterface):
    """Base of the models: images (B, H, W, C) -> logits (B, K).

    Parameters
    ----------
    config : dict
        Arguments of the constructor, which rebuild the model. Whole numbers are checked. So are lists of the options
        that have a number for each stage (the class attribute `per_stage`).

    Attributes
    ----------
    input_shape, image_size : tuple of int
        (H, W, C) and (H, W). Signals of T numbers are images of one row, (1, T, 1).
    mean, std : np.ndarray
        Statistics (C,) of pixels between 0 and 1, by which uint8 images are normalised.
    tokens : int or None
        N, the number of tokens of an image; None for a convolutional network, which has none.
    """

    per_stage: tuple[str, ...] = ()                                   # options that are lists, a number for each stage

    def __init__(self, config: dict[str, Any]) -> None:
        check_options(config, self.per_stage)
        self.config = config
        self.image_size, self.channels, self.classes = pair(config["image_size"]), config["channels"], config["classes"]
        self.input_shape = (*self.image_size, self.channels)
        self.mean = per_channel("mean", config["mean"], self.channels)
        self.std = per_channel("std", config["std"], self.channels)
        config["mean"], config["std"] = self.mean.tolist(), self.std.tolist()

    def predict(self, images: np.ndarray, threads: int | None = None) -> np.ndarray:
        """Return the logits of any number of images, computed on all cores. Errors as `check`.

        Parameters
        ----------
        images : np.ndarray
            Images (B, H, W, C): uint8 pixels, or floats that are normalised already. H and W may differ from those of
            the training: positions are then interpolated (see `other_sizes.py`).
        threads : int, optional
            Number of threads. Default: the cores of this process.

        Returns
        -------
        logits : np.ndarray
            Logits (B, K).
        """
        model = at_size_of(self, images)
        model.check(images)
        return prediction.predict(model, images, threads)

    def check(self, images: np.ndarray) -> None:
        """Raise TypeError or ValueError unless the images fit the model: uint8 or finite floats (B, H, W, C)."""
        check_input(images, self.input_shape)

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """Check the images; normalise uint8 pixels; give normalised floats the dtype of the weights."""
        self.check(images)
        if images.dtype == np.uint8:
            return pixels.normalise(images, self.mean, self.std, self.dtype)
        return images.astype(self.dtype, copy=False)


def rising(last: float, count: int) -> list[float]:
    """Return `count` numbers that rise linearly from 0 to `last`: the drop-path rates of the blocks."""
    return [last * l / max(1, count - 1) for l in range(count)]
