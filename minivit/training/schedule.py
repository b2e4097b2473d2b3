"""The learning rate schedule: linear warm-up to a peak, then decay along half a cosine towards zero.

    lr(t) = peak (t + 1) / W                                      t < W: the warm-up
    lr(t) = peak (1 + cos(pi (t - W) / (T - W))) / 2              otherwise

t = 0 .. T - 1 is the step. No step has a learning rate of zero. Why warm-up: at the start the network changes rapidly, and
training at the full learning rate is unstable (Goyal et al.); AdamW's v is then estimated from few gradients and varies most
(Liu et al.). Why decay: large steps make fast progress early, small steps settle into a minimum late. The cosine does so
smoothly, without dates for sudden drops to choose (Loshchilov and Hutter).

Sources: Goyal et al., arXiv:1706.02677; Liu et al., arXiv:1908.03265; Loshchilov and Hutter, arXiv:1608.03983 (cosine).
"""

import math


def warmup_cosine(step: int, steps: int, warmup: int) -> float:
    """Return the factor of the peak learning rate, 0 to 1, at `step` of `steps`, the first `warmup` of which are the warm-up."""
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
