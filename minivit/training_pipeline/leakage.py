"""Leakage: test images that a model has been trained on make its accuracy look better than it is.

A run stores a hash of each training and validation image (`learned.npy`). With them it recognises these images later,
in whatever file or folder they are, as long as they are prepared in the same way.
"""

import numpy as np

from ..data import Dataset
from ..data.dataset import image_hashes
from ..training.evaluation import Evaluation
from .folder import RunFolder

TOLERANCE = 0.01    # fraction of the test images that may be known: some data sets contain a few images twice


def count_seen(run: RunFolder, images: np.ndarray) -> int | None:
    """Return how many of the images (B, H, W, C) the run was trained or validated on; None if unknown.

    Raises ValueError if the stored hashes are damaged.
    """
    known = run.read_hashes()
    return None if known is None else int(np.isin(image_hashes(images), known).sum())


def check_unseen(run: RunFolder, data: Dataset) -> None:
    """Raise ValueError if the run was trained on test images of `data`: its weights must not be used here.

    The images are compared as they are prepared. A run on arrays in memory is not checked. Errors as
    `RunFolder.config`.
    """
    own = run.config()["data"]
    if own["source"] is None or (own["digest"], own["source"]) == (data.digest, data.source):
        return
    count = count_seen(run, data.test_images) or 0
    if count > TOLERANCE * len(data.test_images):
        split = f"use its seed, {own['source']['seed']}, and its test_fraction, {own['source']['test_fraction']}"
        other = "use other test images, for example in a folder `test` beside `train`"
        hint = split if own["digest"] == data.digest else other
        raise ValueError(f"{run.path} was trained on images that are test images here, {count} of "
                         f"{len(data.test_images)}: {hint}")


def leakage_warning(run: RunFolder, evaluation: Evaluation) -> str | None:
    """Return a warning if the run was trained on more of the evaluated images than a data set may contain twice."""
    if (evaluation.seen or 0) <= TOLERANCE * evaluation.images:
        return None
    return (f"{run.path} was trained or validated on {evaluation.seen} of these {evaluation.images} images: this is "
            "not its accuracy on new images")
