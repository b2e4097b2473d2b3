"""Trace a named model, the model of a run, or a file of weights, on a few images; see `explain/layer_trace.py`."""

from pathlib import Path

import numpy as np

from ...common.checks import check_number
from ...data import load_data
from ...explain.layer_trace import Trace, trace
from ...models import create_model
from ...models.create import check_model_name
from ...models.model import Model
from ...models.pretrained import are_described, load_weights
from ...parallel.blas import blas_threads
from ...parallel.threads import Workers
from ..folder import RunFolder
from ..pretrained.weight_source import check_is_not_a_file
from .trained_model import latest_model

HEAD_STD = 0.02     # of the weights that a new classifier gets for a trace


def trace_model(source: str | Path, name: str | None = None, depth: int = 1, images: int = 4,
                threads: int | None = None) -> tuple[Trace, str]:
    """Trace a model.

    Parameters
    ----------
    source : str or path
        The name of a model, which then has random weights; the folder of a run; or, with `name`, a file of weights.
    name : str, optional
        The named model of a file of weights. Default: that of the config.json beside it.
    depth : int
        Number of levels of layers, as for `Model.summary`.
    images : int
        Size of the batch.
    threads : int, optional
        Number of threads of each matrix product (default: the cores of this process).

    Returns
    -------
    trace : Trace
    batch : str
        What the images and the weights are, for people.

    Raises
    ------
    ValueError, FileNotFoundError
        If there is no such model, as `load_weights`, `latest_model` and `trace`.
    """
    check_number("number of images", images, least=1, whole=True)
    workers = Workers(threads)
    model, weights = _load(source, name)
    batch, labels, words = _batch(model, images)
    with blas_threads(workers.threads):
        return trace(model, batch, labels, depth), f"{words}; {weights}."


def _load(source: str | Path, name: str | None) -> tuple[Model, str]:
    """Return the model, and what its weights are."""
    if name is not None or are_described(source):
        return load_weights(source, name).model, f"weights of {source}"
    if Path(source).is_dir():
        return latest_model(RunFolder(source), classifies=False), f"weights of {source}"
    check_is_not_a_file(source)
    if Path(source).name != str(source):
        raise FileNotFoundError(f"{source}: no such run or file of weights")
    model = create_model(check_model_name(str(source), allow_families=False))
    drawn = _draw_zero_heads(model)
    return model, "random weights" + (". The classifier starts at 0, where it passes no gradient on: here its weights "
                                      f"are random, with standard deviation {HEAD_STD}" if drawn else "")


def _draw_zero_heads(model: Model) -> bool:
    """Give random weights to the classifiers, which start at zero. Return whether there were any."""
    rng, heads = np.random.default_rng(0), [p for p in model.parameters() if p.decay and not p.data.any()]
    for p in heads:
        p.data = HEAD_STD * rng.standard_normal(p.shape)
    return bool(heads)


def _batch(model: Model, count: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Return images and labels for a model, and what they are: the embedded digits if they fit it."""
    if model.input_shape == (8, 8, 1) and model.classes == 10:
        data = load_data("digits")
        check_number("number of images", count, most=len(data.train_images))
        words = f"The batch: the first {count} training images of the digits"
        return data.train_images[:count], data.train_labels[:count], words
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, *model.input_shape), np.uint8)
    words = f"The batch: {count} random images of {' x '.join(map(str, model.input_shape))} with random labels"
    return images, rng.integers(0, model.classes, count), words
