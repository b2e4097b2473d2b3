"""Distillation: a student model learns to give the same probabilities as a teacher model for the same image.

    p    = softmax(logits / tau)                                       (B, K)     the student, softened
    loss = (tau**2 / B) sum_b sum_k q[b, k] (log q[b, k] - log p[b, k])           a single number

The *temperature* tau > 1 softens a distribution: it raises the small probabilities, which tell what else the teacher
finds possible. q comes from the teacher (see `targets`) and is constant:

    soft    q = softmax(teacher / tau): the whole distribution
    hard    q = 1 at the teacher's most probable class, else 0, and tau = 1: the cross-entropy with that class as label

M teachers form an *ensemble*, which counts as one teacher. Its distribution is the mean of theirs:

    q = (1 / M) sum_m softmax(teacher_m / tau)            for hard targets, 1 at the largest of these with tau = 1

The sum over k is the Kullback-Leibler divergence KL(q || p). It is never below zero, and it is zero if p = q. (0 log 0
counts as 0.) As in `cross_entropy`, B is the size of the full batch. The student also learns from the labels: training
minimises (1 - weight) cross_entropy + weight distillation (see `training/distillation.py`).

Backward. log q is constant, and log p_k = z_k - log sum_j exp z_j with z = logits / tau. By the chain rule,
d log p_k / d logits_j = (delta_kj - p_j) / tau, where delta_kj is 1 if k = j, else 0. As sum_k q_k = 1,

    dlogits_j = (tau**2 / B) sum_k -q_k (delta_kj - p_j) / tau = (tau / B) (p_j - q_j)

Why tau**2: let s and r be the logits of student and teacher, each minus its mean over the classes; for an ensemble, r
is the mean over its teachers. For large tau,
exp(s_j / tau) is about 1 + s_j / tau, and the sum over the K classes is about K. So

    p_j ~ (1 + s_j / tau) / K          q_j ~ (1 + r_j / tau) / K          p_j - q_j ~ (s_j - r_j) / (K tau)

Without the factor, the gradient (p_j - q_j) / tau would shrink as 1 / tau**2. With it, the gradient is about
(s_j - r_j) / K for every large tau, so its size compared with that of the labels does not depend on tau.

Shapes: logits, teacher, q, p, dlogits (B, K). Read before: `softmax`, `cross_entropy`.
Sources: Hinton et al., arXiv:1503.02531 (soft); Touvron et al., arXiv:2012.12877, Eq. 2 and 3 (soft and hard).
"""

from collections.abc import Sequence

import numpy as np

from ..kernel import contiguous, empty, exp, kernel
from . import softmax


def targets(teachers: Sequence[np.ndarray], temperature: float | None = None) -> np.ndarray:
    """Return the distributions that a student learns from.

    Parameters
    ----------
    teachers : list of arrays (B, K), the logits of each teacher
    temperature : float, tau, for soft targets; None for hard ones

    Returns
    -------
    q : array (B, K)
    """
    if temperature is None and len(teachers) == 1:
        return _largest(teachers[0])                                  # the same class, without a softmax
    mean, *others = [softmax.forward(logits, 1 / (temperature or 1.0))[0] for logits in teachers]
    for probabilities in others:
        mean += probabilities
    if others:
        mean *= mean.dtype.type(1 / len(teachers))
    return mean if temperature else _largest(mean)


def _largest(scores):
    """1 at the largest score of each row, else 0."""
    q = np.zeros_like(scores)
    _mark_largest(scores, q)
    return q


def reference_forward(logits: np.ndarray, q: np.ndarray, temperature: float = 1.0,
                      batch_size: int | None = None) -> tuple[np.floating, tuple]:
    """Return the mean loss of a batch.

    Parameters
    ----------
    logits, q : arrays (B, K)
    temperature : float, tau
    batch_size : int, optional
        The size of the full batch, if these B images are a part of it.

    Returns
    -------
    loss : scalar
    cache : tuple, what `reference_backward` needs
    """
    batch_size = len(logits) if batch_size is None else batch_size
    z = (logits - logits.max(axis=-1, keepdims=True)) / temperature
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    log_q = np.log(np.where(q > 0, q, 1))
    divergence = (q * (log_q - log_p)).sum()
    return logits.dtype.type(temperature**2 * divergence / batch_size), (np.exp(log_p), q, temperature, batch_size)


def reference_backward(dloss: float, cache: tuple) -> np.ndarray:
    """Return dlogits (B, K) for the scalar dloss."""
    p, q, temperature, batch_size = cache
    return dloss * temperature * (p - q) / batch_size                 # log p = z - log sum exp z, z = logits / tau


# ---- the same mathematics, one pass over memory ----------------------------------------------------------------------


def forward(logits: np.ndarray, q: np.ndarray, temperature: float = 1.0,
            batch_size: int | None = None) -> tuple[np.ndarray, tuple]:
    """Fast version of `reference_forward`. Raises ValueError if logits and q differ in shape, or tau is not above 0."""
    if logits.ndim != 2 or logits.shape != q.shape:
        raise ValueError(f"distillation: logits {logits.shape} and the teacher's targets {q.shape} must both be (B, K)")
    if not temperature > 0:
        raise ValueError(f"distillation: the temperature must be above 0, not {temperature!r}")
    batch_size = len(logits) if batch_size is None else batch_size
    difference, loss = empty(logits.shape, logits.dtype), empty((), logits.dtype)    # p - q
    _forward(contiguous(logits), contiguous(q), 1 / temperature, temperature**2 / batch_size, difference, loss)
    return loss, (difference, temperature, batch_size)


def backward(dloss: float, cache: tuple) -> np.ndarray:
    """Fast version of `reference_backward`."""
    difference, temperature, batch_size = cache
    return difference * difference.dtype.type(dloss * temperature / batch_size)


@kernel
def _forward(logits, q, per_temperature, scale, difference, loss):
    divergence, zero, one = logits.dtype.type(0), logits.dtype.type(0), logits.dtype.type(1)
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
            divergence += q[b, k] * (log_q + (log_total - z))
            difference[b, k] = exp(z) * per_total - q[b, k]
    loss[()] = divergence * logits.dtype.type(scale)


@kernel
def _mark_largest(scores, q):
    for b in range(scores.shape[0]):
        largest = 0
        for k in range(scores.shape[1]):
            if scores[b, k] > scores[b, largest]:
                largest = k
        q[b, largest] = q.dtype.type(1)
