"""Training over many epochs: shuffle the images, step through the batches, evaluate, record.

An *epoch* is one pass over the training images. For each epoch:

    order = random permutation of the images, from the seed and the number of the epoch
    step on each batch of the order, at the learning rate of the schedule
    evaluate the weights, or their moving average, and append a record to the log

With `patience`, the validation accuracy decides when to stop (see `early_stopping.py`). Test images decide nothing.
A `Loop` knows no files: it calls `after_step` and `after_epoch`, and `training_pipeline/` saves checkpoints there.

Read before: `trainer.py`, `schedule.py`, `settings.py`.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..common.rows import Rows
from .early_stopping import best_record, out_of_patience
from .schedule import learning_rate, warmup_steps
from .trainer import Trainer

Inputs = Mapping[str, np.ndarray]     # {"train": (n, ...), "test": ..., "val": ...}: images, or features for a probe


@dataclass
class EpochProgress:
    """Totals of the current epoch after `steps` of its steps, and the `seconds` that all steps so far have taken."""

    steps: int = 0
    loss: float = 0.0           # sum over the steps
    correct: int = 0
    grad_norm: float = 0.0      # of the last step
    seconds: float = 0.0


def batches(images: int, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the image indices of each batch of an epoch, in random order. The last partial batch is dropped."""
    order = np.random.default_rng([seed, epoch]).permutation(images)
    return [order[a:a + size] for a in range(0, images - size + 1, size)]


class Loop:
    """The epochs of one training.

    `records` has a dict for each finished epoch, as `log.jsonl` of a run; `scores` is the last result of `evaluate`;
    `best_weights` (n,), with patience, are the weights of the best epoch. The functions in `after_step` and
    `after_epoch` are called with the loop. They may raise an exception to stop it.

    Parameters
    ----------
    trainer : Trainer
    labels : (B,)
        The classes of the training images.
    settings : mapping
        Complete training settings, and `steps`, the number of steps of the whole training.
    evaluate : callable
        (model, inputs) -> {"test": Evaluation, "val": Evaluation}, both optional. Patience needs "val". `inputs` are
        those of `run`. For pre-training, a `Reconstruction` stands in place of each `Evaluation`.
    """

    def __init__(self, trainer: Trainer, labels: np.ndarray, settings: Mapping[str, Any],
                 evaluate: Callable[[Any, Inputs], dict[str, Any]]) -> None:
        self.trainer, self.labels, self.settings, self.evaluate = trainer, labels, settings, evaluate
        self.progress, self.records = EpochProgress(), list[dict[str, Any]]()
        self.scores: dict[str, Any] = {}
        self.after_step: list[Callable[[Loop], None]] = []
        self.after_epoch: list[Callable[[Loop], None]] = []
        self.best_weights = trainer.average.vector.copy() if settings["patience"] else None
        self.steps_per_epoch = len(labels) // settings["batch_size"]
        self.epochs = -(-settings["steps"] // self.steps_per_epoch)

    @property
    def epoch(self) -> int:
        """The number of the current epoch, from 0."""
        return (self.trainer.optimiser.t - self.progress.steps) // self.steps_per_epoch

    @property
    def ended(self) -> bool:
        """Whether patience has run out, or all steps are done and the last epoch is evaluated."""
        if out_of_patience(self.records, self.settings["patience"], warmup_steps(self.settings)):
            return True
        return self.trainer.optimiser.t >= self.settings["steps"] and not self.progress.steps

    def run(self, inputs: Inputs) -> None:
        """Train until the end, on `inputs["train"]`, which has the order of the labels. Errors as `Trainer.step`."""
        while not self.ended:
            self._train_epoch(inputs["train"])
            self._end_epoch(inputs)

    def _train_epoch(self, images):
        """Do the steps that are left of the current epoch."""
        trainer, settings, progress, epoch = self.trainer, self.settings, self.progress, self.epoch
        pick: Any = Rows if images.dtype == np.uint8 else np.ndarray.__getitem__      # else features, a small array
        order = batches(len(self.labels), settings["batch_size"], settings["seed"], epoch)
        for batch in order[progress.steps:][:settings["steps"] - trainer.optimiser.t]:
            start, lr = time.perf_counter(), learning_rate(settings, trainer.optimiser.t)
            progress.loss += trainer.step(pick(images, batch), self.labels[batch], lr, epoch, batch)
            progress.seconds += time.perf_counter() - start
            progress.steps += 1
            progress.correct += trainer.correct
            progress.grad_norm = trainer.grad_norm
            for call in self.after_step:
                call(self)

    def _end_epoch(self, inputs):
        """Evaluate, append the record, and keep the weights if they are the best so far."""
        progress, t = self.progress, self.trainer.optimiser.t
        record = {"epoch": self.epoch + 1, "step": t, "loss": progress.loss / progress.steps,
                  "accuracy": progress.correct / (self.settings["batch_size"] * progress.steps),
                  "lr": learning_rate(self.settings, t - 1), "grad_norm": progress.grad_norm}
        if self.settings["mask_ratio"]:                               # pre-training has no classes
            del record["accuracy"]
        self.scores = self.evaluate(self.trainer.average, inputs)
        measures = {f"{part}_{name}": value for part, score in self.scores.items()
                    for name, value in score.measures.items()}
        self.records.append(record | measures | {"seconds": round(progress.seconds, 3)})
        if self.best_weights is not None and best_record(self.records) == len(self.records) - 1:
            np.copyto(self.best_weights, self.trainer.average.vector)
        self.progress = EpochProgress(seconds=progress.seconds)
        for call in self.after_epoch:
            call(self)

    def finish(self, inputs: Inputs) -> None:
        """Give the model its final weights, those of the best epoch or the average, and score them."""
        best = self.best_weights
        self.trainer.model.vector[:] = self.trainer.average.vector if best is None else best
        if best is not None or not self.scores:                       # the last scores are of other weights
            self.scores = self.evaluate(self.trainer.model, inputs)

    def state(self) -> dict[str, np.ndarray]:
        """Return the arrays that change from step to step, by name, for a checkpoint."""
        return self.trainer.state() | ({} if self.best_weights is None else {"best": self.best_weights})
