"""Build what the settings ask for: the trainer with augmentation and teacher, the loop, and the number of steps."""

import inspect
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..data import Dataset
from ..models.linear_probe import LinearProbe
from ..models.masked_autoencoder import MaskedAutoencoder
from ..models.model import Model
from ..parallel.batch_split import BatchSplit
from ..parallel.lanes import supervised
from ..parallel.prediction import SharedPrediction
from ..parallel.ranks.alone import ALONE, Alone
from ..training.augment import Augmentation
from ..training.class_weights import ClassWeights, balanced
from ..training.evaluation import evaluate
from ..training.loop import Inputs, Loop
from ..training.pretraining import evaluate_reconstruction, masked_reconstruction
from ..training.settings import default_settings
from ..training.trainer import Trainer
from .pretrained.teacher import distillation_for

# The stored settings that are parameters of `Trainer`
TRAINER_SETTINGS = [name for name in inspect.signature(Trainer).parameters if name in default_settings()]
TRIAL, LONGEST_TRIAL = 0.03, 5.0    # length of the trial: fraction of the minutes; most seconds


def make_trainer(model: Model, settings: Mapping[str, Any], threads: int | None = None,
                 class_names: Sequence[str] | None = None, recompute: bool = False, ranks: Alone = ALONE,
                 labels: np.ndarray | None = None) -> Trainer:
    """Return the trainer that complete settings ask for.

    Parameters
    ----------
    model : Model
        What `trained_model` returns.
    settings : mapping
    threads : int, optional
    class_names : list of str, optional
        The classes of the data, which a teacher must know.
    recompute : bool
    ranks : Alone
    labels : (B,) int, optional
        Those of the training images, for class weights.

    Raises
    ------
    ValueError
        As `Trainer` and `distillation_for`.
    """
    values = {name: settings[name] for name in TRAINER_SETTINGS}
    steps = settings.get("steps")                                     # None in the trial that measures the speed
    strong = None if steps is None else steps - round(settings["clean_end"] * steps)
    values["augment"] = None if settings["probe"] else Augmentation(settings["augment"], strong)   # a probe: no images
    return Trainer(model, threads=threads, recompute=recompute, ranks=ranks,
                   split=BatchSplit(settings["lanes"], settings["micro_batch"]),
                   objective=_objective(settings, model, class_names, labels), **values)


def _objective(settings, model, class_names, labels):
    """The loss that the settings ask for."""
    if settings["mask_ratio"]:
        return masked_reconstruction
    if settings["class_weights"] == "balanced" and labels is not None:
        return ClassWeights(balanced(labels, model.classes), settings["label_smoothing"])
    return distillation_for(settings, model, class_names) or supervised


def build_loop(model: Model, data: Dataset, settings: Mapping[str, Any], threads: int | None = None,
               recompute: bool = False, ranks: Alone = ALONE) -> Loop:
    """Return the loop that trains `model` on `data`, which have their validation part. Errors as `make_trainer`."""
    labels = data.train_labels
    if settings["mask_ratio"]:
        labels = np.zeros_like(labels)                                # pre-training never sees a label
    trainer = make_trainer(trained_model(model, settings), settings, threads, data.class_names, recompute, ranks,
                           labels)
    scores = partial(evaluate_parts, data=data, threads=trainer.lanes.workers.threads, ranks=ranks)
    return Loop(trainer, labels, settings, scores)


def trained_model(model: Model, settings: Mapping[str, Any]) -> Model:
    """Return what the settings train of a model: its head, an autoencoder around it, or the model itself."""
    if settings["mask_ratio"]:
        return MaskedAutoencoder(model, settings["mask_ratio"], seed=settings["seed"])  # type: ignore[arg-type]
    return LinearProbe(model) if settings["probe"] else model


def images_of(data: Dataset) -> dict[str, np.ndarray]:
    """Return the images of each part, which are the inputs of a loop except for a probe."""
    return {part: images for part, (images, _) in data.parts.items()}


def evaluate_parts(model: Model, inputs: Inputs, data: Dataset, threads: int | None = None,
                   ranks: Alone = ALONE) -> dict[str, Any]:
    """Return {"test": Evaluation, "val": Evaluation} for the parts that have images; of an autoencoder Reconstructions.

    inputs: what the model takes for each part, images or features. ranks: those that share the work.
    """
    if isinstance(model, MaskedAutoencoder):
        return {part: evaluate_reconstruction(model, images, threads) for part, images in inputs.items()
                if part != "train" and len(images)}
    shared = SharedPrediction(model, ranks)
    return {part: evaluate(shared, inputs[part], labels, threads, images, data.test_files if part == "test" else None)
            for part, (images, labels) in data.parts.items() if part != "train" and len(labels)}


def steps_in_minutes(minutes: float, model: Model, data: Dataset, settings: Mapping[str, Any],
                     threads: int | None = None, recompute: bool = False, ranks: Alone = ALONE) -> int:
    """Return how many steps, with the evaluations after their epochs, fit in the given minutes.

    A trial on a copy of the model measures the speed. It takes at least ten steps, and continues for
    the fraction TRIAL of the minutes, at most LONGEST_TRIAL seconds.
    """
    size, steps = settings["batch_size"], -2
    trial = make_trainer(trained_model(model.copy(), settings), settings, threads, recompute=recompute, ranks=ranks)
    start = now = time.perf_counter()
    while ranks.broadcast(steps < 10 or now - start < min(TRIAL * 60 * minutes, LONGEST_TRIAL)):
        trial.step(data.train_images[:size], data.train_labels[:size])
        now, steps = time.perf_counter(), steps + 1
        if steps == 0:                                                # the first two steps compile and warm up
            start = now
    per_step = (now - start) / steps
    evaluate_parts(trial.average, images_of(data), data, threads, ranks)
    per_step += (time.perf_counter() - now) / (len(data.train_images) // size)
    return ranks.broadcast(max(1, int(60 * minutes / per_step)))
