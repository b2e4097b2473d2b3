"""Class weights: every class counts as much in the loss as every other, however few images it has.

    loss = (1/B) sum_b w[y_b] CE_b            w[c] = n / (K n_c)

CE_b is the cross-entropy of image b, y_b its class, n_c the number of training images of class c, and n their sum. The
mean of the weights over the training images is 1, so the learning rate means the same as without weights.

The targets t are smoothed by s, and mixup mixes those of two images. t = (1 - s) m + s/K, and m is the mixture of
labels, so the weight of an image is w.m = (w.t - s mean(w)) / (1 - s).

Read before: `ops/cross_entropy.py`, and `parallel/lanes.py` (what an objective is).
Source: King, Zeng, "Logistic Regression in Rare Events Data", Political Analysis 9 (2001), section 4.2.
"""

from typing import Any

import numpy as np

from ..kernel import constant
from ..ops import cross_entropy


def balanced(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return w (K,) for the training labels (B,): n / (K n_c), and 0 for a class without images.

    K counts the classes that have images.
    """
    counts = np.bincount(labels, minlength=classes)
    return np.divide(len(labels) / np.count_nonzero(counts), counts, out=np.zeros(classes), where=counts > 0)


class ClassWeights:
    """An objective for a `Trainer` in which images have the weights of their classes.

    Parameters
    ----------
    weights : (K,)
        The weight of each class.
    smoothing : float, 0 to below 1
        The label smoothing of the targets.
    """

    def __init__(self, weights: np.ndarray, smoothing: float = 0.0) -> None:
        self.smoothing, self._weights = smoothing, weights
        self._by_dtype = {dtype: constant(weights.astype(dtype)[:, None]) for dtype in (np.float32, np.float64)}

    def __call__(self, model: Any, images: np.ndarray, targets: np.ndarray,
                 batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Run forward, loss and backward; see `lanes.supervised`."""
        number = targets.dtype.type
        offset, scale = number(self.smoothing * self._weights.mean()), number(1 / (1 - self.smoothing))
        weights = (targets @ self._by_dtype[number] - offset) * scale                   # (B, 1)
        logits = model.forward(images)
        loss: Any = cross_entropy.reference_forward(logits, weights * targets, batch)[0]
        _, cache = cross_entropy.forward(logits, targets, batch)
        model.backward(weights * cross_entropy.backward(1.0, cache))
        return loss, logits
