"""Cross-entropy: how surprised the model is by the right answer. Training lowers this number, the *loss*.

A classifier returns K *logits* per image, one score per class, of any size. The softmax turns them into probabilities:

    p    = softmax(logits)                                  (B, K)
    loss = (1/B) sum_b sum_k -t[b, k] log p[b, k]           a single number

The target t is a distribution over the classes: 1 at the label and 0 elsewhere. *Label smoothing* by s makes it
1 - s + s/K at the label and s/K elsewhere, so that the model is not driven to infinite logits. In training a batch is
computed in parts (see `parallel/lanes.py`). Each part divides by the size of the full batch, so that the parts add up
to the mean. log p is computed as z - log sum exp z with z = logits - max, so a probability that rounds to 0 has a
finite loss.

Backward. log p_k = z_k - log sum_j exp z_j, so d log p_k / d z_j = delta_kj - p_j (delta_kj is 1 if k = j, else 0), and

    d loss / d z_j = -(1/B) sum_k t_k (delta_kj - p_j) = (1/B) (p_j sum_k t_k - t_j)

As sum_k t_k = 1, this is (p_j - t_j) / B: the model's probability minus the true one. z is the logits minus one number
per row. This changes neither p nor the loss, so the gradient of the logits is the same. If the loss is a part of a
longer computation, its own gradient dloss multiplies it:

    dlogits = dloss (p - t) / B

Shapes: logits, t, p, dlogits (B, K); labels (B,). Read before: `softmax`.
Sources: Bridle 1990 (the gradient); Szegedy et al., arXiv:1512.00567, section 7 (label smoothing).
"""

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..common.checks import check_number
from ..kernel import contiguous, empty, exp, kernel


def targets(labels: ArrayLike, classes: int, smoothing: float = 0.0, dtype: DTypeLike = np.float32) -> np.ndarray:
    """Return the target distributions t (B, K) of integer labels (B,).

    Raises TypeError if the labels are not integers, ValueError if one is not in 0..K-1 or smoothing not in [0, 1).
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels must be a one-dimensional array of integers, not {labels.dtype} of shape "
                        f"{labels.shape}")
    low, high = (labels.min(), labels.max()) if labels.size else (0, 0)
    if not 0 <= low <= high < classes:
        raise ValueError(f"labels must be in 0..{classes - 1} for {classes} classes, but they span {low}..{high}")
    check_number("label smoothing", smoothing, least=0, below=1)
    t = np.full((len(labels), classes), smoothing / classes, dtype)
    t[np.arange(len(labels)), labels] += 1 - smoothing
    return t


def reference_forward(logits: np.ndarray, t: np.ndarray, batch_size: int | None = None) -> tuple[np.floating, tuple]:
    """Return the mean loss of a batch.

    Parameters
    ----------
    logits, t : arrays (B, K)
    batch_size : int, optional
        The size of the full batch, if these B images are a part of it.

    Returns
    -------
    loss : scalar
    cache : tuple, what `reference_backward` needs
    """
    batch_size = len(logits) if batch_size is None else batch_size
    z = logits - logits.max(axis=-1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return logits.dtype.type(-(t * log_p).sum() / batch_size), (np.exp(log_p), t, batch_size)


def reference_backward(dloss: float, cache: tuple) -> np.ndarray:
    """Return dlogits (B, K) for the scalar dloss."""
    p, t, batch_size = cache
    return dloss * (p - t) / batch_size                               # log p = z - log sum exp z


# ---- the same mathematics, one pass over memory ----------------------------------------------------------------------


def forward(logits: np.ndarray, t: np.ndarray, batch_size: int | None = None) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError if logits and t differ in shape."""
    if logits.ndim != 2 or logits.shape != t.shape:
        raise ValueError(f"cross-entropy: logits {logits.shape} and targets {t.shape} must both be (B, K)")
    batch_size = len(logits) if batch_size is None else batch_size
    difference, loss = empty(logits.shape, logits.dtype), empty((), logits.dtype)    # p - t
    _forward(contiguous(logits), contiguous(t), batch_size, difference, loss)
    return loss, (difference, batch_size)


def backward(dloss: float, cache: tuple) -> np.ndarray:
    """Fast version of `reference_backward`."""
    difference, batch_size = cache
    return difference * difference.dtype.type(dloss / batch_size)


@kernel
def _forward(logits, t, batch_size, difference, loss):
    sum_of_losses, zero, one = logits.dtype.type(0), logits.dtype.type(0), logits.dtype.type(1)
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
            sum_of_losses += t[b, k] * (log_total - z)
            difference[b, k] = exp(z) * per_total - t[b, k]
    loss[()] = sum_of_losses / logits.dtype.type(batch_size)
