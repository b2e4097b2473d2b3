"""An `Evaluation` as text for the terminal, and as a dict for JSON."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..common.text import percent
from .evaluation import Evaluation

SHOWN_MISTAKES = 5      # how many mistakes the text lists
TABLE_WIDTH = 120       # characters of the widest confusion matrix that is printed


def describe_evaluation(evaluation: Evaluation, class_names: Sequence[str]) -> dict[str, Any]:
    """Return everything except the images as values that JSON can hold. NaN becomes None."""
    columns = (evaluation.support.tolist(), evaluation.precision.tolist(), evaluation.recall.tolist())
    per_class = zip(class_names, *columns, strict=True)
    return {
        "accuracy": evaluation.accuracy, "balanced_accuracy": evaluation.balanced_accuracy,
        "images": evaluation.images, "standard_error": evaluation.standard_error, "learned": evaluation.seen,
        "confusion": evaluation.confusion.tolist(), "class_names": list(class_names),
        "classes": [{"class": name, "images": count, "precision": None if math.isnan(precision) else precision,
                     "recall": None if math.isnan(recall) else recall} for name, count, precision, recall in per_class],
        "mistakes": [{"image": m.file or str(m.index), "number": m.index, "true": class_names[m.true],
                      "predicted": class_names[m.predicted], "probability": m.probability}
                     for m in evaluation.mistakes],
    } | ({"mirrored_accuracy": evaluation.with_flip.accuracy} if evaluation.with_flip else {})


def evaluation_text(evaluation: Evaluation, class_names: Sequence[str]) -> str:
    """Return the table of the classes, the confusion matrix or the most frequent confusions, and the worst mistakes."""
    table = confusion_table(evaluation.confusion, class_names)
    if table.index("\n") <= TABLE_WIDTH:
        confusion = f"confusion matrix: true class in rows, predicted class in columns\n{table}"
    else:
        lines = [f"{count:6} true {class_names[true]}, predicted {class_names[predicted]}"
                 for count, true, predicted in evaluation.most_confused()]
        confusion = "\n".join(["most frequent confusions", *lines])
    worst = [f"{m.name}: true {class_names[m.true]}, predicted {class_names[m.predicted]} ({m.probability:.0%})"
             for m in evaluation.mistakes[:SHOWN_MISTAKES]]
    mistakes = ["\n".join(["worst mistakes", *worst])] if worst else []
    balanced = f"balanced accuracy (mean recall): {evaluation.balanced_accuracy:.2%}"
    return "\n\n".join([f"{class_table(evaluation, class_names)}\n{balanced}", confusion, *mistakes])


def class_table(evaluation: Evaluation, class_names: Sequence[str]) -> str:
    """Return a table with a line for each class: number of images, precision and recall."""
    width = max(len(name) for name in ("class", *class_names))
    lines = [f"{'class':>{width}} {'images':>7} {'precision':>10} {'recall':>7}"]
    columns = (evaluation.support, evaluation.precision, evaluation.recall)
    for name, count, precision, recall in zip(class_names, *columns, strict=True):
        lines.append(f"{name:>{width}} {count:>7} {percent(precision):>10} {percent(recall):>7}")
    return "\n".join(lines)


def confusion_table(confusion: np.ndarray, class_names: Sequence[str]) -> str:
    """Return the confusion matrix (K, K) as text: a row for each true class, a column for each predicted class."""
    cell = max(len(name) for name in (*class_names, str(confusion.max())))
    lines = [" " * cell + " | " + " ".join(f"{name:>{cell}}" for name in class_names) + " | recall"]
    for k, (name, row) in enumerate(zip(class_names, confusion, strict=True)):
        recall = percent(row[k] / row.sum() if row.sum() else math.nan)
        lines.append(f"{name:>{cell}} | " + " ".join(f"{count or '.':>{cell}}" for count in row) + f" |{recall:>7}")
    return "\n".join(lines)
