"""How good a model is on labelled images: accuracy, precision and recall, confusion matrix, and the worst mistakes.

Accuracy is the fraction of the images that are classified correctly. It is measured on a sample of images, so it
varies from sample to sample; its *standard error* says by how much. The *confusion matrix* counts images by true
class and predicted class. *Recall* of a class: the fraction of its images that were found. *Precision* of a class:
the fraction of the predictions of that class that were correct. *Balanced accuracy* is the mean of the recalls.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..common.text import plural
from ..ops import cross_entropy, softmax

KEPT_MISTAKES = 24      # how many mistakes an Evaluation keeps: the worst ones
CONFIDENCE = 0.95       # of the bound that stands in for the standard error if all images, or none, are correct


@dataclass(frozen=True)
class Mistake:
    """An image that was classified incorrectly.

    Attributes
    ----------
    index : int
        Index of the image in the test part, from 0.
    true, predicted : int
        The two classes.
    probability : float
        Probability that the model gave to the predicted class.
    image : (H, W, C)
        The image.
    file : str, optional
        The image file, if the image comes from one.
    """

    index: int
    true: int
    predicted: int
    probability: float
    image: np.ndarray
    file: str | None = None

    @property
    def name(self) -> str:
        """The image file, or the index in the test part, which `minivit attend` accepts."""
        return self.file or f"test image {self.index}"


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    Attributes
    ----------
    accuracy : float
        Fraction of the images that are classified correctly, 0 to 1.
    images : int
        Number of images.
    confusion : (K, K) int
        Confusion matrix: number of images by [true class, predicted class].
    mistakes : list of Mistake
        The worst mistakes first: those where the model gave the true class the lowest probability.
    with_flip : Evaluation, optional
        The same with test-time augmentation by a flip (see `flip_average.py`), if the model was trained on flipped
        images.
    seen : int, optional
        How many of the images were training or validation images of this model; None if that is not known.
    """

    accuracy: float
    images: int
    confusion: np.ndarray
    mistakes: list[Mistake]
    with_flip: "Evaluation | None" = None
    seen: int | None = None

    @property
    def measures(self) -> dict[str, float]:
        """What the log keeps of an epoch, by name."""
        return {"accuracy": self.accuracy}

    @property
    def standard_error(self) -> float:
        """Standard error of the accuracy a for n images: sqrt(a (1 - a) / n).

        It covers the choice of the test images only. Runs with other seeds differ too.
        """
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.images)

    @property
    def uncertainty(self) -> str:
        """The standard error as text, or a bound if all images, or none, are correct.

        In these two cases the formula of the standard error gives 0, which is misleading. If the true accuracy is a,
        all n images are correct with probability a^n. So with 95% confidence a is at least 0.05^(1/n), the one-sided
        Clopper-Pearson bound. If no image is correct, the same holds for 1 - a. The bound is rounded to the safe
        side.
        """
        if 0 < self.accuracy < 1:
            return f"+- {self.standard_error:.2%}"
        bound = math.floor(1e4 * (1 - CONFIDENCE) ** (1 / self.images)) / 1e4
        words = f"at least {bound:.2%}" if self.accuracy else f"at most {1 - bound:.2%}"
        return f"({words} with {CONFIDENCE:.0%} confidence)"

    @property
    def support(self) -> np.ndarray:
        """Number of images of each class (K,)."""
        return self.confusion.sum(axis=1)

    @property
    def recall(self) -> np.ndarray:
        """Fraction of the images of each class that were predicted as such (K,); NaN for a class without images."""
        return _ratio(np.diag(self.confusion), self.support)

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that have images: small classes count as much as large ones."""
        recall = self.recall[self.support > 0]
        return float(recall.mean()) if recall.size else math.nan

    @property
    def precision(self) -> np.ndarray:
        """Fraction of the predictions of each class that were correct (K,); NaN for a class never predicted."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=0))

    def most_confused(self, limit: int = 10) -> list[tuple[int, int, int]]:
        """Return the most frequent confusions as (count, true class, predicted class), the most frequent first."""
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
        pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
        return [(int(wrong[t, p]), int(t), int(p)) for t, p in pairs if wrong[t, p]]

    def __str__(self) -> str:
        return f"accuracy {self.accuracy:.2%} {self.uncertainty} on {self.images} {plural(self.images, 'image')}"

    @property
    def lines(self) -> list[str]:
        """The evaluation as one line of text, and a second line for the one with test-time flip, if there is one."""
        return [str(self), *([f"with test-time flip: {self.with_flip}"] if self.with_flip else [])]


def _ratio(part, total):
    """Return part / total, NaN where total is 0."""
    return np.divide(part, total, out=np.full(len(total), np.nan), where=total > 0)


def evaluate(model: Any, images: np.ndarray, labels: np.ndarray, threads: int | None = None,
             display_images: np.ndarray | None = None, files: Sequence[str] | None = None) -> Evaluation:
    """Evaluate a model on labelled images. Every image counts.

    Parameters
    ----------
    model : Model
        Anything with `classes` and `predict(images, threads)`.
    images : (B, H, W, C)
        What the model takes: images, or the features that a linear probe takes (see `models/linear_probe.py`).
    labels : (B,) int
        The true classes.
    threads : int, optional
        Number of threads (default: the cores of this process).
    display_images : (B, H, W, C), optional
        The images to keep with the mistakes, if `images` are features.
    files : list of str, optional
        The image file of each image.

    Returns
    -------
    Evaluation
    """
    display_images = images if display_images is None else display_images
    logits = model.predict(images, threads)
    predicted, (probabilities, _) = logits.argmax(axis=1), softmax.forward(logits)
    confusion = np.zeros((model.classes, model.classes), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(probabilities[wrong, labels[wrong]], kind="stable")][:KEPT_MISTAKES]
    mistakes = [Mistake(int(i), int(labels[i]), int(predicted[i]), float(probabilities[i, predicted[i]]),
                        display_images[i], files[i] if files else None) for i in worst]
    return Evaluation(float(np.trace(confusion) / len(labels)), len(labels), confusion, mistakes)


def smoothing_floor(smoothing: float, classes: int) -> float:
    """Return the lowest cross-entropy that smoothed targets allow: their own entropy, reached at p = t."""
    t = cross_entropy.targets(np.zeros(1, int), classes, smoothing, np.float64)
    return float(-(t[t > 0] * np.log(t[t > 0])).sum())
