"""The running mean of the weights (exponential moving average, EMA): steadier than the weights themselves, which the last batches shake.

After step t = 1, 2, ... , with w the new weights:

    d    = min(decay, (1 + t) / (10 + t))
    mean <- mean + (1 - d) (w - mean)

It remembers the last 1 / (1 - d) steps or so. Early in training, when the weights still travel far, d is smaller, so that the
mean does not drag the first weights along.

Source: Polyak and Juditsky, SIAM J. Control Optim. 30 (1992), for the mean; the warm-up of the decay is TensorFlow's.
"""


def decay_at_step(t, decay):
    """The decay at step t = 1, 2, ...: 0 to 1."""
    return min(decay, (1 + t) / (10 + t))


def update_mean(mean, weights, decay):
    """mean, weights: vectors -> moves `mean` towards `weights` by the share 1 - decay, in place."""
    mean += mean.dtype.type(1 - decay) * (weights - mean)
