"""Cross-entropy: how surprised the model is by the right answer.

    p    = softmax(logits)                                  (B, K)
    loss = (1/M) sum_b sum_k -t[b, k] log p[b, k]           a single number

The target t is a distribution over the classes: 1 at the label and 0 elsewhere, or, with label smoothing e,
1 - e + e/K at the label and e/K elsewhere, so that the model is not driven to infinite confidence. M is the
number of images over which the loss is a mean; a lane that holds a part of a batch divides by the whole batch.

log p is computed as z - log sum exp z with z = logits - max, so that a probability that rounds to 0 costs a large
finite number.

Backward. With log p_k = z_k - log sum_j exp z_j,  d log p_k / d z_j = delta_kj - p_j, so

    d loss / d z_j = -(1/M) sum_k t_k (delta_kj - p_j) = (1/M) (p_j sum_k t_k - t_j)

and sum_k t_k = 1: what the model believes, minus what is true. The logits differ from z by one number a row, to which p is blind, so
theirs is the same; and dloss, what comes from above, multiplies it:

    dlogits = dloss (p - t) / M

Shapes: logits, t, p, dlogits (B, K); labels (B,). Sources: Bridle 1990 (the gradient); Szegedy et al.,
arXiv:1512.00567, section 7 (label smoothing).
"""

import numpy as np

from ..common.checks import check_number
from ..kernel import exp, kernel


def targets(labels, classes, smoothing=0.0, dtype=np.float32):
    """labels (B,) integers -> target distributions (B, K), each row summing to one.

    Raises TypeError if the labels are not integers, ValueError if one is not in 0..K-1 or smoothing not in [0, 1).
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels must be a one-dimensional array of integers, not {labels.dtype} of shape {labels.shape}")
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels must be in 0..{classes - 1} for {classes} classes, but they span {labels.min()}..{labels.max()}")
    check_number("label smoothing", smoothing, least=0, below=1)
    t = np.full((len(labels), classes), smoothing / classes, dtype)
    t[np.arange(len(labels)), labels] += 1 - smoothing
    return t


def smoothing_floor(smoothing, classes):
    """The lowest cross-entropy that smoothed targets allow: their own entropy, reached at p = t."""
    t = targets(np.zeros(1, int), classes, smoothing, np.float64)
    return float(-(t[t > 0] * np.log(t[t > 0])).sum())


def reference_forward(logits, t, images=None):
    """logits (B, K), t (B, K), images M (default B) -> loss (a scalar), cache."""
    images = len(logits) if images is None else images
    z = logits - logits.max(axis=-1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return logits.dtype.type(-(t * log_p).sum() / images), (np.exp(log_p), t, images)


def reference_backward(dloss, cache):
    """dloss, a scalar -> dlogits (B, K)."""
    p, t, images = cache
    return dloss * (p - t) / images                                   # log p = z - log sum exp z


# ---- the same mathematics, one pass over memory -----------------------------------------------------------


def forward(logits, t, images=None):
    """As `reference_forward`. Raises ValueError if logits and t differ in shape."""
    if logits.ndim != 2 or logits.shape != t.shape:
        raise ValueError(f"cross-entropy: logits {logits.shape} and targets {t.shape} must both be (B, K)")
    images = len(logits) if images is None else images
    difference = np.empty(logits.shape, logits.dtype)
    loss = _forward(np.ascontiguousarray(logits), np.ascontiguousarray(t), difference)
    return logits.dtype.type(loss / images), (difference, images)


def backward(dloss, cache):
    """As `reference_backward`."""
    difference, images = cache
    return difference * difference.dtype.type(dloss / images)


@kernel
def _forward(logits, t, difference):
    loss, zero, one = logits.dtype.type(0), logits.dtype.type(0), logits.dtype.type(1)
    for b in range(logits.shape[0]):
        largest = logits[b, 0]
        for k in range(logits.shape[1]):
            largest = max(largest, logits[b, k])
        total = zero
        for k in range(logits.shape[1]):
            total += exp(logits[b, k] - largest)
        log_total = np.log(total)
        per_total = one / total
        for k in range(logits.shape[1]):
            z = logits[b, k] - largest
            loss += t[b, k] * (log_total - z)
            difference[b, k] = exp(z) * per_total - t[b, k]
    return loss
