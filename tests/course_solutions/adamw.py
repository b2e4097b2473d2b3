"""Exercise 14, adamw: solved."""

import numpy as np


def update(w, g, m, v, t, lr, decay, beta1=0.9, beta2=0.999, eps=1e-8):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    mhat = m / (1 - beta1**t)
    vhat = v / (1 - beta2**t)
    w = w - lr * decay * w - lr * mhat / (np.sqrt(vhat) + eps)
    return w, m, v
