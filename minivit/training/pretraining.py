"""Pre-training without labels: the objective of a masked autoencoder, and how good its predictions are.

A `Trainer` with this objective trains a `MaskedAutoencoder` as it trains any model. The labels and the targets that the
loop passes on are not used.

Read before: `models/masked_autoencoder.py` (the model), `parallel/lanes.py` (what an objective is).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..common.text import plural
from ..models.masked_autoencoder import MaskedAutoencoder
from ..ops import reconstruction
from ..parallel.blas import blas_threads
from ..parallel.threads import Workers

BLOCK = 64      # images that are evaluated together; the same patches are hidden in each block


def masked_reconstruction(model: MaskedAutoencoder, images: np.ndarray, targets: np.ndarray,
                          batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Run forward, loss and backward; see `lanes.supervised`. In place of logits (B, K) it returns zeros."""
    prediction, pixels, hidden = model.reconstruct(images)
    loss, cache = reconstruction.forward(prediction, pixels, hidden, model.normalise, batch)
    model.backward(reconstruction.backward(1.0, cache))
    return loss, np.zeros_like(targets)


@dataclass(frozen=True)
class Reconstruction:
    """How well a masked autoencoder predicts hidden patches.

    Attributes
    ----------
    loss : float
        Mean squared error of the pixels of hidden patches, in units of their variance: 1 is the guess of the mean.
    images : int
        Number of images.
    """

    loss: float
    images: int

    @property
    def measures(self) -> dict[str, float]:
        """What the log keeps of an epoch, by name."""
        return {"loss": self.loss}

    @property
    def lines(self) -> list[str]:
        """The result as one line of text."""
        return [str(self)]

    def __str__(self) -> str:
        return f"reconstruction loss {self.loss:.4f} on {self.images:,} {plural(self.images, 'image')}"


def evaluate_reconstruction(model: Any, images: np.ndarray, threads: int | None = None) -> Reconstruction:
    """Return how well a masked autoencoder predicts hidden patches of images (B, H, W, C).

    The same patches are hidden in each call, and the number of threads does not change the result.
    """
    def loss_of(start):
        prediction, pixels, hidden = model.inference_view().reconstruct(images[start:start + BLOCK])
        return float(reconstruction.forward(prediction, pixels, hidden, model.normalise, len(images))[0])

    with blas_threads(1):
        losses = Workers(threads).map(loss_of, range(0, len(images), BLOCK))
    return Reconstruction(sum(losses), len(images))
