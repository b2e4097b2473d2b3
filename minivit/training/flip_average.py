"""Test-time augmentation by a flip: the model classifies each image and its mirror image, and the logits are averaged.

This usually raises the accuracy a little and takes twice the time. It is sound only if a flipped image is of the same
class, which is assumed if the model was trained on flipped images.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .augment import Augmentation
from .evaluation import Evaluation, evaluate


class FlipAverage:
    """Wrap a model so that `predict` returns the mean of the logits of each image and its mirror image.

    Parameters
    ----------
    model : Model
        The trained model. `evaluate` accepts the wrapped model as it accepts the model.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.classes = model, model.classes

    def predict(self, images: np.ndarray, threads: int | None = None) -> np.ndarray:
        """Return the averaged logits (B, K) of images (B, H, W, C)."""
        flipped = np.ascontiguousarray(images[:, :, ::-1])
        return (self.model.predict(images, threads) + self.model.predict(flipped, threads)) / 2


def add_flip_evaluation(evaluation: Evaluation, model: Any, settings: Mapping, images: np.ndarray, labels: np.ndarray,
                        threads: int | None = None) -> Evaluation:
    """Add the evaluation with test-time flip, if the model was trained on flipped images.

    Parameters
    ----------
    evaluation : Evaluation
        Of the model without the flip.
    model, images, labels, threads
        As for `evaluate`.
    settings : mapping
        The training settings; "augment" decides.

    Returns
    -------
    Evaluation
        With `with_flip` set; otherwise the evaluation as it was.
    """
    if not Augmentation(settings.get("augment", "none")).flips:
        return evaluation
    return replace(evaluation, with_flip=evaluate(FlipAverage(model), images, labels, threads))
