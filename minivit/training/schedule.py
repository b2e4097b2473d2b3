"""The learning rate over a run: it warms up linearly, then falls along half a cosine to zero.

    lr(t) = peak (t + 1) / W                                      t < W, the warmup
    lr(t) = peak (1 + cos(pi (t - W) / (T - W))) / 2              else

for step t = 0 .. T - 1, none of which has a rate of zero. The warmup gives AdamW's running means time to settle; the fall
averages out the noise of the batches. Source: Loshchilov and Hutter, arXiv:1608.03983 (cosine); Goyal et al., arXiv:1706.02677 (warmup).
"""

import math


def warmup_cosine(step, steps, warmup):
    """The factor of the peak learning rate at `step` of `steps`, of which the first `warmup` rise: 0 to 1."""
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
