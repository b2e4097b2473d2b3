"""Distillation: how far the student is from what the teacher says of the same picture.

    p    = softmax(logits / tau)                                       (B, K)     the student, softened
    loss = (tau**2 / M) sum_b sum_k q[b, k] (log q[b, k] - log p[b, k])           a single number

q is what the teacher says (see `targets`), and is not learned:

    soft    q = softmax(teacher / tau): the whole distribution, where tau > 1 brings out what the teacher finds a little probable
    hard    q = 1 at the teacher's first class, else 0, and tau = 1: then the loss is the cross-entropy with that class as the label

The sum is the Kullback-Leibler divergence KL(q || p): not below zero, and zero if the student says what the teacher says (0 log 0 is 0).
M is the number of images over which the loss is a mean; a lane that holds a part of a batch divides by the whole batch. The learner sees
labels, too: what is trained is (1 - weight) cross_entropy + weight distillation (see `training/distillation.py`).

Backward. log q is a constant, and log p_k = z_k - log sum_j exp z_j with z = logits / tau, so d log p_k / d logits_j =
(delta_kj - p_j) / tau. As sum_k q_k = 1,

    dlogits_j = (tau**2 / M) sum_k -q_k (delta_kj - p_j) / tau = (tau / M) (p_j - q_j)

Why tau**2: p - q itself shrinks as 1 / tau, since the softened distributions grow alike. So the gradient keeps its size whatever tau is,
and weighs the same beside that of the labels.

Shapes: logits, teacher, q, p, dlogits (B, K). Sources: Hinton et al., arXiv:1503.02531 (soft); Touvron et al., arXiv:2012.12877, Eq. 2 and
3 (soft and hard).
"""

import numpy as np

from ..kernel import exp, kernel
from . import softmax


def targets(teacher, temperature=None):
    """teacher (B, K), the teacher's logits -> q (B, K), each row summing to one: soft with a temperature, hard without."""
    if temperature is not None:
        return softmax.forward(teacher, 1 / temperature)[0]
    q = np.zeros_like(teacher)
    q[np.arange(len(q)), teacher.argmax(axis=1)] = 1
    return q


def reference_forward(logits, q, temperature=1.0, batch_size=None):
    """logits (B, K), q (B, K), temperature tau, images M (default B) -> loss (a scalar), cache."""
    batch_size = len(logits) if batch_size is None else batch_size
    z = (logits - logits.max(axis=-1, keepdims=True)) / temperature
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    log_q = np.log(np.where(q > 0, q, 1))
    return logits.dtype.type(temperature**2 * (q * (log_q - log_p)).sum() / batch_size), (np.exp(log_p), q, temperature, batch_size)


def reference_backward(dloss, cache):
    """dloss, a scalar -> dlogits (B, K)."""
    p, q, temperature, batch_size = cache
    return dloss * temperature * (p - q) / batch_size                     # log p = z - log sum exp z, z = logits / tau


# ---- the same mathematics, one pass over memory -----------------------------------------------------------


def forward(logits, q, temperature=1.0, batch_size=None):
    """As `reference_forward`. Raises ValueError if logits and q differ in shape, or the temperature is not above 0."""
    if logits.ndim != 2 or logits.shape != q.shape:
        raise ValueError(f"distillation: logits {logits.shape} and the teacher's targets {q.shape} must both be (B, K)")
    if not temperature > 0:
        raise ValueError(f"distillation: the temperature must be above 0, not {temperature!r}")
    batch_size = len(logits) if batch_size is None else batch_size
    difference = np.empty(logits.shape, logits.dtype)
    loss = _forward(np.ascontiguousarray(logits), np.ascontiguousarray(q), 1 / temperature, difference)
    return logits.dtype.type(temperature**2 * loss / batch_size), (difference, temperature, batch_size)


def backward(dloss, cache):
    """As `reference_backward`."""
    difference, temperature, batch_size = cache
    return difference * difference.dtype.type(dloss * temperature / batch_size)


@kernel
def _forward(logits, q, per_temperature, difference):
    loss, zero, one = logits.dtype.type(0), logits.dtype.type(0), logits.dtype.type(1)
    per_temperature = logits.dtype.type(per_temperature)
    for b in range(logits.shape[0]):
        largest = logits[b, 0]
        for k in range(logits.shape[1]):
            largest = max(largest, logits[b, k])
        total = zero
        for k in range(logits.shape[1]):
            total += exp((logits[b, k] - largest) * per_temperature)
        log_total = np.log(total)
        per_total = one / total
        for k in range(logits.shape[1]):
            z = (logits[b, k] - largest) * per_temperature
            log_q = np.log(q[b, k]) if q[b, k] > zero else zero
            loss += q[b, k] * (log_q + (log_total - z))
            difference[b, k] = exp(z) * per_total - q[b, k]
    return loss
