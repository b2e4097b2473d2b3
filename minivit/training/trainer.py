"""One training step: forward and backward, gradient clipping, the optimiser, the moving average of the weights.

    loss, g  = mean loss of the batch, and its gradient       in lanes, see `parallel/lanes.py`
    g       <- g min(1, clip / |g|)                           clipping: no batch dominates the optimiser's means
    w       <- w after a step of the optimiser with g         see `adamw.py`, `muon.py` and `schedule_free.py`
    average <- moving average of w                            optional, see `ema.py`

Read before: `models/vit.py`, `parallel/lanes.py`, `adamw.py`. Read next: `loop.py`.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..common.checks import check_flag, check_number
from ..models.model import Model
from ..ops import cross_entropy
from ..parallel.batch_split import BatchSplit, chunks
from ..parallel.blas import blas_threads
from ..parallel.lanes import Lanes, supervised
from ..parallel.ranks.alone import ALONE, Alone
from .adamw import AdamW
from .ema import decay_at_step, update_mean
from .muon import Muon
from .schedule_free import ScheduleFree
from .settings import check_setting, with_named_settings

OPTIMISERS = {"adamw": AdamW, "muon": Muon, "schedule-free": ScheduleFree}


class Trainer:
    """Trains a model in place, one batch at a time. A setting out of range raises ValueError, an unknown one TypeError.

    Parameters
    ----------
    model : Model
        The model to train. Its weights change.
    lr, weight_decay, betas, eps, clip, label_smoothing, seed, ema, layers, optimiser : optional
        Training settings with the defaults of `minivit.train`, and the constants betas and eps of AdamW.
    threads, split, augment, objective, recompute, replay, ranks : optional
        See `Lanes` in `parallel/lanes.py`. Neither the number of threads nor replay changes the result.

    Attributes
    ----------
    average : Model
        The model to evaluate and to keep: a copy with the averaged weights if there are any, else `model` itself.
    correct, grad_norm : int, float
        Of the last step: the number of correct predictions before its update, and the norm before clipping.
    """

    @with_named_settings
    def __init__(self, model: Model, lr: float = 2e-3, weight_decay: float = 0.05,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, clip: float = 1.0,
                 label_smoothing: float = 0.1, seed: int = 0, threads: int | None = None,
                 split: BatchSplit | None = None, augment: Callable | None = None, ema: float = 0.0,
                 layers: Sequence[Sequence] = (), optimiser: str = "adamw", objective: Callable = supervised,
                 recompute: bool = False, replay: bool = True, ranks: Alone = ALONE) -> None:
        if not isinstance(model, Model):
            raise TypeError(f"a Trainer needs a model that maps images to classes, not {type(model).__name__}")
        self.model, self.lr, self.clip = model, check_setting("lr", lr), check_setting("clip", clip)
        self.label_smoothing, self.ema = check_setting("label_smoothing", label_smoothing), check_setting("ema", ema)
        self.lanes = Lanes(model, check_setting("seed", seed), threads, split, augment, objective,
                           check_setting("recompute", recompute), check_flag("replay", replay), ranks)
        self.optimiser = OPTIMISERS[check_setting("optimiser", optimiser)](
            model.vector, model.parameters(), check_setting("weight_decay", weight_decay), betas, eps, layers)
        if self.ema and self.optimiser.average is not None:
            raise ValueError(f"the optimiser {optimiser} averages the weights itself: leave out ema={self.ema:g}")
        self.average = model.copy() if self.ema or self.optimiser.average is not None else model
        self.optimiser.average, self.correct, self.grad_norm = self.average.vector, 0, 0.0

    def __repr__(self) -> str:
        return f"Trainer of {self.model}; {type(self.optimiser).__name__}, lr={self.lr:g}, {self.optimiser.t} steps"

    def step(self, images: np.ndarray, labels: np.ndarray, lr: float | None = None, epoch: int = 0,
             dataset_indices: np.ndarray | None = None) -> float:
        """Do one training step and return the mean loss of the batch before the update.

        Parameters
        ----------
        images, labels : (B, H, W, C), (B,) int
            The batch.
        lr : float, optional
            Learning rate of this step (default: the Trainer's).
        epoch, dataset_indices : int, (B,) int
            Number of the pass over the data and places of the images in them, for augmentation that alternates.

        Raises
        ------
        FloatingPointError
            If the loss or the gradient is not finite. The weights then stay as they were.
        """
        if len(images) != len(labels) or not len(images):
            raise ValueError(f"a step needs one label per image: got {len(images)} images, {len(labels)} labels")
        if dataset_indices is not None and len(dataset_indices) != len(images):
            raise ValueError(f"dataset_indices must have {len(images)} entries, not {len(dataset_indices)}")
        lr, t = self.lr if lr is None else check_number("learning rate", lr, least=0), self.optimiser.t
        self.model.check(images)
        targets = cross_entropy.targets(labels, self.model.classes, self.label_smoothing, self.model.dtype)    # (B, K)
        loss, self.correct, self.grad_norm = self.lanes.forward_backward(images, targets, t, epoch, dataset_indices)
        if not (math.isfinite(loss) and math.isfinite(self.grad_norm)):   # one NaN in the gradient makes its norm NaN
            raise FloatingPointError(f"step {t}: the loss is {loss} and the gradient norm {self.grad_norm}; try a "
                                     "lower learning rate")
        self._update(lr, min(1.0, self.clip / (self.grad_norm + 1e-6)))   # + 1e-6 as in PyTorch: no division by zero
        return loss

    def _update(self, lr, scale):
        """Step with `scale` times the gradient, then average the weights; threads share the vector."""
        self.optimiser.begin_step(lr)
        gradients, weights, mean = self.lanes.gradients, self.optimiser.vector, self.average.vector
        decay, threads = decay_at_step(self.optimiser.t, self.ema), self.lanes.workers
        with blas_threads(1):
            threads.map(lambda part: self.optimiser.update(part, gradients, lr, scale), self.optimiser.pieces())
        if self.ema:
            threads.map(lambda part: update_mean(mean[part], weights[part], decay), chunks(0, weights.size))

    def state(self) -> dict[str, np.ndarray]:
        """Return the arrays that change from step to step; with `optimiser.t` they are what a checkpoint needs."""
        average = {"ema": self.average.vector} if self.ema else {}
        return {"weights": self.optimiser.vector, **self.optimiser.state(), **average}
