"""Exercise 15, schedule: solved."""

import math


def factor(step, steps, warmup):
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
