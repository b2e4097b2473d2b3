"""One training step: forward and backward in lanes, clip, the optimiser, and the running mean of the weights."""

import math

from ..common.checks import check_name, check_number
from ..models.model import Model
from ..ops import cross_entropy
from ..parallel.batch_split import chunks
from ..parallel.blas import blas_threads
from ..parallel.lanes import Lanes, supervised
from .adamw import AdamW
from .ema import decay_at_step, update_mean
from .muon import Muon

OPTIMISERS = {"adamw": AdamW, "muon": Muon}


class Trainer:
    """Trains `model` in place, one batch at a time.

    lr: learning rate. weight_decay: of the weights of linear maps and convolutions, nothing else. clip: the largest norm the gradient of
    all parameters together may have. label_smoothing: see `ops/cross_entropy.py`. seed: of dropout, drop-path and augmentation. threads:
    how many lanes run at once (default: the cores of this process); it changes no bit of the result. split, augment: how batches are split
    and their pictures varied, see `Lanes`. ema: decay of the weights' running mean (EMA), 0 for none (see `ema.py`). layers: learning rates
    and weight decays by the parameters' names (see `layer_settings.py`). optimiser: "adamw", or "muon" (see `muon.py`). objective: what
    is minimised, such as a `Distillation` (default: the cross-entropy with the labels, `lanes.supervised`). recompute: whether blocks
    compute their activations anew in the backward, which takes less memory and more time, and changes no bit of the result (see
    `layers/block.py`).

    `average` is the model to evaluate and to keep: a copy whose weights are the running mean; the model itself if there is none.

    Raises ValueError for a number out of its range, TypeError for what is no model.
    """

    def __init__(self, model, lr=1e-3, weight_decay=0.05, betas=(0.9, 0.999), eps=1e-8, clip=1.0, label_smoothing=0.0,
                 seed=0, threads=None, split=None, augment=None, ema=0.0, layers=(), optimiser="adamw", objective=supervised,
                 recompute=False):
        if not isinstance(model, Model):
            raise TypeError(f"a Trainer trains models, which take images and have classes, not {type(model).__name__}")
        self.model = model
        self.lr = check_number("learning rate", lr, above=0)
        self.clip = check_number("clip", clip, above=0)
        self.label_smoothing = check_number("label smoothing", label_smoothing, least=0, below=1)
        check_number("weight decay", weight_decay, least=0)
        check_number("seed", seed, least=0, below=2**64, whole=True)
        self.lanes = Lanes(model, seed, threads, split, augment, objective, recompute)
        check_name("optimiser", optimiser, OPTIMISERS)
        self.optimiser = OPTIMISERS[optimiser](model.vector, model.parameters(), weight_decay, betas, eps, layers)
        self.ema = check_number("decay of the running mean", ema, least=0, below=1)
        self.average = model.copy() if self.ema else model
        self._mean = self.average.vector
        self.best = None        # weights to return to at the end, if the caller keeps some here
        self.correct = 0        # predictions of the last step that were right, before its update
        self.grad_norm = 0.0    # of the last step's gradient, before clipping

    def step(self, images, labels, lr=None, epoch=0, dataset_indices=None):
        """images (B, H, W, C), labels (B,) integers -> the batch's mean loss before the update, a float.

        lr: for this step, instead of the Trainer's. epoch, dataset_indices (B,): for augmentation that alternates, which time the data are gone
        through, and the images' indices in them (default: in the batch). A loss or gradient that is not finite raises
        FloatingPointError and leaves the weights as they were. Raises ValueError or TypeError for images or labels that do not fit.
        """
        if len(images) != len(labels) or not len(images):
            raise ValueError(f"a step needs as many labels as images, at least one: {len(images)} images, {len(labels)} labels")
        if dataset_indices is not None and len(dataset_indices) != len(images):
            raise ValueError(f"dataset_indices must have one entry for each of the {len(images)} images, not {len(dataset_indices)}")
        lr = self.lr if lr is None else check_number("learning rate", lr, least=0)
        self.model.check(images)
        targets = cross_entropy.targets(labels, self.model.classes, self.label_smoothing, self.model.dtype)
        loss, self.correct, self.grad_norm = self.lanes.forward_backward(images, targets, self.optimiser.t, epoch, dataset_indices)
        # A NaN or infinity anywhere in the gradient makes its norm NaN or infinite.
        if not (math.isfinite(loss) and math.isfinite(self.grad_norm)):
            raise FloatingPointError(f"step {self.optimiser.t}: the loss is {loss} and the gradient's norm {self.grad_norm}; "
                                     "try a lower learning rate")
        self._update(lr, min(1.0, self.clip / (self.grad_norm + 1e-6)))   # + 1e-6 as in PyTorch, against division by zero
        return loss

    def _update(self, lr, scale):
        self.optimiser.t += 1
        gradients, weights, mean = self.lanes.gradients, self.optimiser.vector, self._mean
        decay = decay_at_step(self.optimiser.t, self.ema)

        with blas_threads(1):
            self.lanes.workers.map(lambda piece: self.optimiser.update(piece, gradients, lr, scale), self.optimiser.pieces())
        if self.ema:
            self.lanes.workers.map(lambda chunk: update_mean(mean[chunk], weights[chunk], decay), chunks(0, weights.size))

    def state(self):
        """All arrays that change from step to step, by name: what a checkpoint holds beside the number of steps, `optimiser.t`."""
        state = {"weights": self.optimiser.vector, "adamw.m": self.optimiser.m, "adamw.v": self.optimiser.v}
        return state | ({"ema": self._mean} if self.ema else {}) | ({} if self.best is None else {"best": self.best})
