"""Exercise 5, cross_entropy: solved."""

import numpy as np


def forward(logits, t):
    z = logits - logits.max(axis=-1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    loss = -(t * log_p).sum() / len(logits)
    return loss, (np.exp(log_p), t)


def backward(dloss, cache):
    p, t = cache
    return dloss * (p - t) / len(p)
