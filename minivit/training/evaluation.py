"""How good a model is: accuracy, its standard error, and which class is taken for which."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`. confusion (K, K) counts images by [true class, predicted class]."""

    accuracy: float
    images: int
    confusion: np.ndarray

    @property
    def standard_error(self):
        """Of the accuracy, from the number of images alone: sqrt(a (1 - a) / images)."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.images)

    def __str__(self):
        return f"accuracy {self.accuracy:.2%} +- {self.standard_error:.2%} on {self.images} images"


def evaluate(model, images, labels, threads=None):
    """Score `model` on images (B, H, W, C) and labels (B,) -> Evaluation; every image counts."""
    predicted = model.predict(images, threads).argmax(axis=1)
    confusion = np.zeros((model.classes, model.classes), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    return Evaluation(float(np.trace(confusion) / len(labels)), len(labels), confusion)


def confusion_table(confusion, class_names):
    """The confusion matrix as text: a row for each true class, a column for each predicted one."""
    cell = max(len(name) for name in (*class_names, str(confusion.max())))
    lines = [" " * cell + " | " + " ".join(f"{name:>{cell}}" for name in class_names) + " | recall"]
    for name, row, right in zip(class_names, confusion, np.diag(confusion), strict=True):
        recall = f"{right / row.sum():7.1%}" if row.sum() else "      -"
        lines.append(f"{name:>{cell}} | " + " ".join(f"{count or '.':>{cell}}" for count in row) + f" |{recall}")
    return "\n".join(lines)


class Mirrored:
    """A model that looks at each picture twice, as it is and mirrored, and gives the mean of the logits: test-time flip.

    It classifies a little better for twice the work. `evaluate` takes it as it takes a model.
    """

    def __init__(self, model):
        self.model, self.classes = model, model.classes

    def predict(self, images, threads=None):
        """images (B, H, W, C) -> logits (B, K)."""
        return (self.model.predict(images, threads) + self.model.predict(np.ascontiguousarray(images[:, :, ::-1]), threads)) / 2
