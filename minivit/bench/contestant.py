"""The contestants, and what is timed of this package."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

ALL = ("vit", "deit", "swin", "resnet")


@dataclass(frozen=True)
class Entrant:
    """A contestant: the library that must be installed, whose products set its limit, and the families that it has."""

    library: str
    families: tuple = ALL


CONTESTANTS = {
    "minivit": Entrant("numpy"),
    "torch": Entrant("torch"),
    "torch.channels_last": Entrant("torch", ("resnet",)),  # memory format that convolutions may prefer
    "torch.compile": Entrant("torch"),
    "jax": Entrant("jax", ("vit",)),
}


class Contestant:
    """What is timed of this package: a training step, and inference."""

    def __init__(self, family: Any, config: dict, weights: dict, images: np.ndarray, labels: np.ndarray,
                 threads: Any) -> None:
        from ..models.create import declare_model
        from ..training.trainer import Trainer
        from ..weight_formats.timm import from_timm

        self.model = declare_model(family, **config)
        self.model.pack(values=from_timm(weights, self.model))
        self.trainer = Trainer(self.model, lr=1e-4, weight_decay=0.05, label_smoothing=0, threads=threads)
        self.images, self.labels, self.threads = images, labels, threads

    def train(self) -> None:
        """Forward, loss, backward, clipping, AdamW."""
        self.trainer.step(self.images, self.labels)

    def not_replayed(self, task: str) -> str:
        """Return why "train" or "infer" runs as written; empty if it is replayed."""
        from ..parallel import prediction

        return self.trainer.lanes.replicas.not_replayed if task == "train" else prediction.not_replayed(self.model)

    def infer(self) -> np.ndarray:
        """Return logits (B, K)."""
        return self.model.predict(self.images, self.threads)


def product(m: int, k: int, n: int, threads: Any) -> Callable:
    """Return a function that multiplies (m, k) by (k, n) in float32 with NumPy."""
    from ..parallel.blas import blas_threads

    a, b, out = np.ones((m, k), np.float32), np.ones((k, n), np.float32), np.empty((m, n), np.float32)

    def multiply():
        with blas_threads(threads):
            np.matmul(a, b, out=out)

    return multiply
