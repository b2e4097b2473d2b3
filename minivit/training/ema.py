"""EMA: the exponential moving average of the weights, which is evaluated and kept instead of the weights themselves.

The last batches push the weights back and forth; their average is steadier and usually a little more accurate.
After step t = 1, 2, ..., with w the new weights:

    d    = min(decay, (1 + t) / (10 + t))
    mean <- mean + (1 - d) (w - mean)                = d mean + (1 - d) w

The mean covers about the last 1 / (1 - d) steps. Early in training the weights still change a lot. So d starts small
(2/11 at the first step). Otherwise the mean would contain the initial weights for a long time.

Sources: Polyak and Juditsky, SIAM J. Control Optim. 30 (1992), for averaging; the growing decay is TensorFlow's.
"""

import numpy as np


def decay_at_step(t: int, decay: float) -> float:
    """Return d, the decay at step t = 1, 2, ...: 0 to 1."""
    return min(decay, (1 + t) / (10 + t))


def update_mean(mean: np.ndarray, weights: np.ndarray, decay: float) -> None:
    """Update `mean` (n,) in place with the new weights (n,). decay: d above."""
    mean += mean.dtype.type(1 - decay) * (weights - mean)
