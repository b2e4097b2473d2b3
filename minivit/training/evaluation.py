"""How good a model is: accuracy, how certain that is, each class by itself, which class is taken for which, and the worst mistakes."""

import math
from dataclasses import dataclass, replace

import numpy as np

from ..ops import softmax
from .augment import Augmentation

MISTAKES = 24           # how many are kept: the worst
WORST = 5               # how many of these are named in the text
CONFIDENCE = 0.95       # of what is known of the accuracy where all images are right, or none
TABLE_WIDTH = 120       # characters: up to so many a row of the confusion matrix is easy to read


@dataclass(frozen=True)
class Mistake:
    """A picture (H, W, C) that was taken for another class: its index in the test part, both classes, and how probable the model found
    the one it said. file: its file, where it has one."""

    index: int
    true: int
    predicted: int
    probability: float
    image: np.ndarray
    file: str | None = None

    @property
    def place(self):
        """Its file, or its number in the test part, counted from 0, which `minivit attend` takes."""
        return self.file or f"test image {self.index}"


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`. confusion (K, K) counts images by [true class, predicted class]; mistakes: the worst first, those where
    the model found the true class least probable. mirrored: of the mean over each picture and its mirror image, where that was asked
    for. learned: how many of the images the model has learned from, or was chosen by; None where that is not known."""

    accuracy: float
    images: int
    confusion: np.ndarray
    mistakes: list[Mistake]
    mirrored: "Evaluation | None" = None
    learned: int | None = None

    @property
    def standard_error(self):
        """Of the accuracy, from the number of images alone: sqrt(a (1 - a) / images)."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.images)

    @property
    def uncertainty(self):
        """In words, what the number of images leaves open: the standard error.

        Where all images are right, that is 0, which is no certainty: all n are right with probability a^n, so with 95% confidence the
        accuracy a of the model is 0.05^(1/n) at least. Where none is, so is that of its errors. It is rounded to the safe side.
        """
        if 0 < self.accuracy < 1:
            return f"+- {self.standard_error:.2%}"
        bound = math.floor(1e4 * (1 - CONFIDENCE) ** (1 / self.images)) / 1e4
        words = f"at least {bound:.2%}" if self.accuracy else f"at most {1 - bound:.2%}"
        return f"({words} with {CONFIDENCE:.0%} confidence)"

    @property
    def counts(self):
        """How many images of each class there were, (K,)."""
        return self.confusion.sum(axis=1)

    @property
    def recall(self):
        """Of the images of each class, the share that was found (K,); NaN where there were none."""
        return _share(np.diag(self.confusion), self.counts)

    @property
    def precision(self):
        """Of the images taken for each class, the share that was right (K,); NaN where there were none."""
        return _share(np.diag(self.confusion), self.confusion.sum(axis=0))

    def confusions(self, most=10):
        """The most frequent confusions: (count, true class, predicted class), the most frequent first."""
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        return [(int(wrong[t, p]), int(t), int(p)) for t, p in zip(*np.unravel_index(order, wrong.shape), strict=True) if wrong[t, p]]

    def __str__(self):
        return f"accuracy {self.accuracy:.2%} {self.uncertainty} on {self.images} {plural(self.images, 'image')}"

    @property
    def lines(self):
        """Itself in a line, and in a second one the mean with the mirror images, where there is one."""
        return [str(self), *([f"mirrored too: {self.mirrored}"] if self.mirrored else [])]


def plural(count, noun):
    """The noun as it is of one, or of more."""
    return noun if count == 1 else f"{noun}s"


def _share(part, whole):
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def evaluate(model, images, labels, threads=None, pictures=None, files=None):
    """Score `model` on images (B, H, W, C) and labels (B,) -> Evaluation; every image counts.

    pictures (B, H, W, C): what mistakes show, where the model is a probe, and its images are features (default: the images).
    files: the file of each, where they have some.
    """
    pictures = images if pictures is None else pictures
    logits = model.predict(images, threads)
    predicted, (probabilities, _) = logits.argmax(axis=1), softmax.forward(logits)
    confusion = np.zeros((model.classes, model.classes), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(probabilities[wrong, labels[wrong]], kind="stable")][:MISTAKES]
    mistakes = [Mistake(int(i), int(labels[i]), int(predicted[i]), float(probabilities[i, predicted[i]]), pictures[i], files and files[i])
                for i in worst]
    return Evaluation(float(np.trace(confusion) / len(labels)), len(labels), confusion, mistakes)


# ---- as text, and as what JSON can hold -------------------------------------------------------------------


def describe_evaluation(evaluation, class_names):
    """All of an Evaluation but the pictures, as dicts, lists, numbers and names; a share of nothing is None."""
    per_class = zip(class_names, evaluation.counts.tolist(), evaluation.precision.tolist(), evaluation.recall.tolist(), strict=True)
    return {
        "accuracy": evaluation.accuracy, "images": evaluation.images, "standard_error": evaluation.standard_error,
        "learned": evaluation.learned,
        "confusion": evaluation.confusion.tolist(), "class_names": list(class_names),
        "classes": [{"class": name, "images": count, "precision": None if math.isnan(precision) else precision,
                     "recall": None if math.isnan(recall) else recall} for name, count, precision, recall in per_class],
        "mistakes": [{"image": m.index, "true": class_names[m.true], "predicted": class_names[m.predicted], "probability": m.probability}
                     | ({"file": m.file} if m.file else {}) for m in evaluation.mistakes],
    } | ({"mirrored_accuracy": evaluation.mirrored.accuracy} if evaluation.mirrored else {})


def evaluation_text(evaluation, class_names):
    """The classes one by one, which is taken for which, and the worst mistakes, as text."""
    table = confusion_table(evaluation.confusion, class_names)
    if table.index("\n") <= TABLE_WIDTH:
        confusion = f"true class in rows, predicted class in columns\n{table}"
    else:
        lines = [f"{count:6} {class_names[true]} taken for {class_names[predicted]}" for count, true, predicted in evaluation.confusions()]
        confusion = "\n".join(["the most frequent confusions", *lines])
    worst = [f"{m.place}: {class_names[m.true]}, taken for {class_names[m.predicted]} ({m.probability:.0%})"
             for m in evaluation.mistakes[:WORST]]
    return "\n\n".join([class_table(evaluation, class_names), confusion, *(["\n".join(["the worst mistakes", *worst])] if worst else [])])


def class_table(evaluation, class_names):
    """A line for each class: images, precision and recall."""
    width = max(len(name) for name in ("class", *class_names))
    lines = [f"{'class':>{width}} {'images':>7} {'precision':>10} {'recall':>7}"]
    for name, count, precision, recall in zip(class_names, evaluation.counts, evaluation.precision, evaluation.recall, strict=True):
        lines.append(f"{name:>{width}} {count:>7} {percent(precision):>10} {percent(recall):>7}")
    return "\n".join(lines)


def percent(share):
    """A share in percent; of nothing, a dash."""
    return "-" if math.isnan(share) else f"{share:.1%}"


def confusion_table(confusion, class_names):
    """The confusion matrix as text: a row for each true class, a column for each predicted one."""
    cell = max(len(name) for name in (*class_names, str(confusion.max())))
    lines = [" " * cell + " | " + " ".join(f"{name:>{cell}}" for name in class_names) + " | recall"]
    for name, row, recall in zip(class_names, confusion, _share(np.diag(confusion), confusion.sum(axis=1)), strict=True):
        lines.append(f"{name:>{cell}} | " + " ".join(f"{count or '.':>{cell}}" for count in row) + f" |{percent(recall):>7}")
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


def with_flip_score(evaluation, model, settings, images, labels, threads=None):
    """The Evaluation, with that of the `Mirrored` model beside it, if training mirrored pictures: then they are of the same class.

    settings: of the training; the rest as for `evaluate`.
    """
    if not Augmentation(settings.get("augment", "none")).mirrors:
        return evaluation
    return replace(evaluation, mirrored=evaluate(Mirrored(model), images, labels, threads))
