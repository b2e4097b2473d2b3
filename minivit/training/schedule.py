"""The learning rate schedule: linear warm-up to a peak, then decay along half a cosine towards zero.

    lr(t) = peak (t + 1) / W                                      t < W: the warm-up
    lr(t) = peak (1 + cos(pi (t - W) / (T - W))) / 2              otherwise

The schedule "wsd" (warm-up, stable, decay) stays at the peak until the last D steps. The steps before them do not
depend on T, so a run can be extended (see `training_pipeline/extend.py`):

    lr(t) = peak                                                  W <= t < T - D
    lr(t) = peak (1 - sqrt((t - (T - D)) / D))                    otherwise

t = 0 .. T - 1 is the step. Why warm-up: early on the network changes rapidly, so steps at the full learning rate can
diverge (Goyal et al.). Also, AdamW's v is estimated from few gradients then (Liu et al.). Test accuracy of vit_mini on
the digits after 15 epochs of AdamW, mean of 3 seeds:

    peak       constant    warm-up only    cosine only    warm-up and cosine
    0.001        96.8%         96.7%          97.3%             97.5%
    0.003        96.2%         96.3%          97.6%             98.3%
    0.01         89.0%         92.9%          95.4%             96.3%

Sources: Goyal et al., arXiv:1706.02677; Liu et al., arXiv:1908.03265; cosine: Loshchilov, Hutter, arXiv:1608.03983;
wsd: Hu et al., arXiv:2404.06395; its decay: Hägele et al., arXiv:2405.18392.
"""

import math
from collections.abc import Mapping
from typing import Any


def warmup_cosine(step: int, steps: int, warmup: int) -> float:
    """Return lr(t) / peak, 0 to 1, at step t of T = `steps`. warmup: W, in steps."""
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def warmup_stable_decay(step: int, steps: int, warmup: int, decay: int) -> float:
    """Return lr(t) / peak, 0 to 1, at step t of T = `steps`. warmup, decay: W and D, in steps."""
    if step < warmup:
        return (step + 1) / warmup
    return 1 - math.sqrt(max(0, step - (steps - decay)) / max(1, decay))


def decay_start(settings: Mapping[str, Any]) -> int:
    """Return the first step of the decay, T - D, with the schedule "wsd"."""
    return settings["steps"] - round(settings["decay"] * settings["steps"])


def warmup_steps(settings: Mapping[str, Any]) -> int:
    """Return the number of steps in which the learning rate rises."""
    return round(settings["warmup"] * settings["steps"])


def learning_rate(settings: Mapping[str, Any], step: int) -> float:
    """Return the learning rate of a step, from 0."""
    if settings["schedule"] == "wsd":
        steps, decay = settings["steps"], settings["steps"] - decay_start(settings)
        return settings["lr"] * warmup_stable_decay(step, steps, warmup_steps(settings), decay)
    return settings["lr"] * warmup_cosine(step, settings["steps"], warmup_steps(settings))
