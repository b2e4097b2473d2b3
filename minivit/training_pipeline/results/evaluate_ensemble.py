"""Evaluate several runs together: an ensemble predicts the mean of their probabilities.

Models that were trained from other random weights make different mistakes. Where one is wrong with little certainty,
the others often agree on the right class, so the mean is usually more accurate than each model. It also takes as much
time as all of them. So its accuracy is reported apart from those of its members.

Why probabilities and not logits: adding a number to all logits of a model changes nothing in it, so the logits of two
models have no common scale.

Read before: `evaluate_run.py`. Source: Lakshminarayanan et al., arXiv:1612.01474.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...common.sizes import Size
from ...ops import softmax
from ...training.augment import Augmentation
from ...training.evaluation import Evaluation, evaluate
from ...training.flip_average import FlipAverage
from ..folder import RunFolder
from .evaluate_run import Prepared, prepare


@dataclass(frozen=True)
class EnsembleResult:
    """The result of `evaluate_ensemble`.

    Attributes
    ----------
    class_names : list of str
        The classes of the first run.
    members : list of Evaluation
        Of each run alone.
    together : Evaluation
        Of the mean of the probabilities. Its `seen` is the largest of those of the members.
    """

    class_names: list[str]
    members: list[Evaluation]
    together: Evaluation


class _Given:
    """Stands for a model whose logits are known."""

    def __init__(self, logits: np.ndarray) -> None:
        self.logits, self.classes = logits, logits.shape[1]

    def predict(self, images: np.ndarray, threads: int | None = None) -> np.ndarray:
        """Return the logits, whatever the images are."""
        return self.logits


def evaluate_ensemble(runs: Sequence[RunFolder], source: str | Path | None = None, threads: int | None = None,
                      data_dir: str | None = None, image_size: Size | None = None,
                      labels: str | Path | None = None) -> EnsembleResult:
    """Evaluate the latest models of several runs, each alone and all together.

    Parameters
    ----------
    runs : list of RunFolder
        At least one.
    source, threads, data_dir, image_size, labels
        As for `evaluate_run`.

    Returns
    -------
    EnsembleResult

    Raises
    ------
    ValueError
        As `evaluate_run`; or if the runs have other classes, or other test images than the first one.
    """
    prepared = [prepare(run, source, data_dir, image_size, labels) for run in runs]
    first = prepared[0]
    for run, one in zip(runs[1:], prepared[1:], strict=True):
        _check_alike(runs[0], first, run, one)
    images = first.data.test_images
    logits = [one.model.predict(one.data.test_images, threads) for one in prepared]
    members = [_evaluated(one, found) for one, found in zip(prepared, logits, strict=True)]
    together = evaluate(_Given(mean_of(logits, prepared)), images, first.true, files=first.data.test_files)
    if all(Augmentation(run.settings.get("augment", "none")).flips for run in runs):
        flipped = [FlipAverage(one.model).predict(one.data.test_images, threads) for one in prepared]
        members = [replace(member, with_flip=_evaluated(one, found))
                   for member, one, found in zip(members, prepared, flipped, strict=True)]
        together = replace(together, with_flip=evaluate(_Given(mean_of(flipped, prepared)), images, first.true))
    known = [one.seen for one in prepared if one.seen is not None]
    return EnsembleResult(first.names, members, replace(together, seen=max(known, default=None)))


def mean_of(logits: Sequence[np.ndarray], prepared: Sequence[Prepared]) -> np.ndarray:
    """Return the logarithm of the mean of the probabilities (B, K), in the order of the first model's classes.

    It serves as logits: its softmax is the mean itself.
    """
    names, total = prepared[0].names, np.zeros(logits[0].shape)
    for found, one in zip(logits, prepared, strict=True):
        probabilities, _ = softmax.forward(found)
        total += probabilities[:, [one.names.index(name) for name in names]]
    return np.log(np.maximum(total / len(logits), np.finfo(np.float32).tiny))


def _evaluated(one, logits):
    """The evaluation of one member."""
    result = evaluate(_Given(logits), one.data.test_images, one.true, files=one.data.test_files)
    return replace(result, seen=one.seen)


def _check_alike(run, first, other, one):
    """Raise ValueError unless a run can be in one ensemble with the first."""
    if sorted(one.names) != sorted(first.names):
        raise ValueError(f"{other.path} has the classes {', '.join(one.names)}, but {run.path} has "
                         f"{', '.join(first.names)}: the runs of an ensemble need the same classes")
    ours, theirs = first.data, one.data
    same = np.array_equal(np.array(first.names)[first.true], np.array(one.names)[one.true]) and (
        ours.test_images.shape != theirs.test_images.shape or np.array_equal(ours.test_images, theirs.test_images))
    if not same:
        raise ValueError(f"{other.path} has other test images than {run.path}, and perhaps learned from some of those: "
                         "train the runs of an ensemble on one split, or name DATA with new images")


def ensemble_lines(runs: Sequence[RunFolder], result: EnsembleResult) -> list[str]:
    """Return the accuracy of each run and of the ensemble as lines of text."""
    rows = [*((str(run.path), member) for run, member in zip(runs, result.members, strict=True)),
            (f"ensemble of {len(runs)}, mean of the probabilities", result.together)]
    return [f"{name}: {line}" for name, evaluation in rows for line in evaluation.lines]


def split_arguments(paths: Sequence[str]) -> tuple[list[str], Any]:
    """Return (runs, data or None) for the arguments RUN [RUN ...] [DATA]: the last one is DATA unless it is a run."""
    *others, last = paths
    return (list(paths), None) if not others or RunFolder(last).is_run() else (others, last)
