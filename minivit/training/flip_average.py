"""Test-time augmentation by a flip: the model classifies each image and its mirror image, and the logits are averaged.

This usually raises the accuracy a little and takes twice the time. It is sound only if a flipped image is of the same
class, which is assumed if the model was trained on flipped images.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..common.rows import Rows
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
        return (self.model.predict(images, threads) + self.model.predict(_Flipped(images), threads)) / 2


class _Flipped(Rows):
    """Mirror images of an array of images, without a copy of them all."""

    def __init__(self, images: Any) -> None:
        super().__init__(images, np.arange(len(images)))

    def __getitem__(self, key: Any) -> np.ndarray:
        return np.ascontiguousarray(super().__getitem__(key)[..., ::-1, :])


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
