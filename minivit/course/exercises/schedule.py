"""Exercise 15, schedule: the learning rate rises, then falls. About 5 minutes.

At first the gradients change quickly and AdamW knows little about their size, so the steps must be small. The learning
rate rises in a straight line, the *warm-up*. Then it falls along half a cosine to almost 0. At step = 0, 1, ...,
steps - 1 it is the peak times

    (step + 1) / warmup                                              if step < warmup
    (1 + cos(pi (step - warmup) / (steps - warmup))) / 2             otherwise

`warmup` is a number of steps, and may be 0.
"""

import math


def factor(step, steps, warmup):
    """Three whole numbers -> the learning rate at this step, divided by its peak: a number from 0 to 1."""
    raise NotImplementedError("write factor, and remove this line")
