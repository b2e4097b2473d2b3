"""Exercise 14, adamw: each weight moves against its gradient by a step of about the learning rate. About 15 minutes.

The gradient g says in which direction the loss grows, so a weight moves the other way. AdamW divides the gradient by
its typical size. So every weight moves by about the *learning rate* lr, whatever the scale of its gradient. At step
t = 1, 2, ...

    m  <- beta1 m + (1 - beta1) g                 running mean of the gradient
    v  <- beta2 v + (1 - beta2) g**2              running mean of its square
    w  <- w - lr decay w                          weight decay, not a part of the gradient: the W in AdamW
    w  <- w - lr (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + eps)

m and v begin at 0, so at first they are too small. The divisions by 1 - beta**t correct this (*bias correction*).

There is no backward: an optimiser comes after it. Return new arrays, and do not change those that you get.
"""

import numpy as np


def update(w, g, m, v, t, lr, decay, beta1=0.9, beta2=0.999, eps=1e-8):
    """w, g, m, v: arrays of one shape; t, lr, decay: numbers -> the new w, m and v."""
    raise NotImplementedError("write update, and remove this line")
