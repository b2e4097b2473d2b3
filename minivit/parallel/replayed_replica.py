"""A replica whose forward and backward are recorded and replayed. Read `minivit/replay/` before.

Machinery of `lanes.py`. There are two replicas of the model, with the same weights and the same gradients. The tracked
one is used while a micro-batch is recorded, the other one where it runs as written.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..layers.replica_options import recompute_blocks, use_generator
from ..ops.philox import Generator
from ..replay import Replayed, Tracked


class ReplayedReplica(Replayed):
    """Callable: (images, targets, step, samples, batch=...) -> (loss, logits), and the gradients are in `gradients`.

    Parameters
    ----------
    model, seed, objective, recompute, replay
        As for `Lanes`.
    """

    def __init__(self, model: Any, seed: int, objective: Callable, recompute: bool, replay: bool) -> None:
        self.replica = model.replica()
        self.gradients: np.ndarray = self.replica.gradients
        tracked = model.replica(Tracked, self.gradients)
        super().__init__(_forward_backward(tracked, seed, objective, recompute),
                         _forward_backward(self.replica, seed, objective, recompute), [self.gradients], replay)


def _forward_backward(replica, seed, objective, recompute):
    """Return the function of one replica."""
    if recompute and not recompute_blocks(replica):
        raise ValueError(f"recompute needs transformer blocks, and {type(replica).__name__} has none: leave it out")
    rng = Generator(seed)
    use_generator(replica, rng)

    def forward_backward(images, targets, step, samples, batch):
        rng.step, rng.samples = step, samples
        return objective(replica, images, targets, batch)

    return forward_backward
