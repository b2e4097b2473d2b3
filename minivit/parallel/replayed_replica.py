"""Replicas whose forward and backward are recorded and replayed. Read `minivit/kernel_replay/` before.

Machinery of `lanes.py`. There are two replicas for each lane, with the same weights and the same gradients. The tracked
one is used while a micro-batch is recorded, the other one where it runs as written.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernel_replay import Memory, Replayed, Tracked, shared_memory
from ..layers.replica_options import recompute_blocks, use_generator
from ..ops.philox import Generator


class ReplayedReplica(Replayed):
    """Callable: (images, targets, step, samples, batch=...) -> (loss, logits), and the gradients are in `gradients`.

    Parameters
    ----------
    model, seed, objective, recompute, replay
        As for `Replicas`.
    memory : Memory
        The memory of the records.
    """

    def __init__(self, model: Any, seed: int, objective: Callable, recompute: bool, replay: bool,
                 memory: Memory) -> None:
        self.replica = model.replica()
        self.gradients: np.ndarray = self.replica.gradients
        tracked = model.replica(Tracked, self.gradients)
        why_not = model.why_not_replayable() if replay else "replay is switched off"
        if not getattr(objective, "__module__", "").startswith("minivit."):
            why_not = why_not or "the objective is a function of your own, which may depend on more than its arguments"
        self._numbers: Callable[[], dict] = getattr(objective, "numbers", dict)
        self._last_uses: dict[tuple[Any, int], int] = {}
        super().__init__(_forward_backward(tracked, seed, objective, recompute),
                         _forward_backward(self.replica, seed, objective, recompute), memory, why_not)

    def __call__(self, *arguments: np.ndarray, **numbers: float) -> Any:
        """Return (loss, logits). Each combination of the numbers on which the objective depends has its own record."""
        return super().__call__(*arguments, **numbers, **self._numbers())

    def has_finished(self, chunk: slice) -> bool:
        """Whether the replay that runs now, in another thread, has computed a chunk of `gradients` completely.

        False if nothing is being replayed.
        """
        record = self.replaying
        if record is None or record.table is None:
            return False
        key = record, chunk.start
        if key not in self._last_uses:
            self._last_uses[key] = record.last_use(self.gradients[chunk])
        return record.has_done(self._last_uses[key])


class Replicas:
    """The replicas of a model, one for each lane. Those of lanes that never run at the same time share memory.

    Parameters
    ----------
    model, seed, objective, recompute, replay
        As for `Lanes`.
    threads : int
        How many lanes run at the same time.
    """

    def __init__(self, model: Any, seed: int, objective: Callable, recompute: bool, replay: bool, threads: int) -> None:
        self._options, self.made = (model, seed, objective, recompute, replay), list[ReplayedReplica]()
        self.memories = [shared_memory(k) for k in range(threads)]

    @property
    def not_replayed(self) -> str:
        """Why steps run as written instead of being replayed; empty if they are replayed."""
        return next(filter(None, (replica.reason for replica in self.made)), "")

    def make(self) -> ReplayedReplica:
        """Return the replica of the next lane."""
        self.made.append(ReplayedReplica(*self._options, self.memories[len(self.made) % len(self.memories)]))
        return self.made[-1]

    def __getstate__(self) -> None:
        raise TypeError("a Trainer cannot be copied or pickled, because its parts share memory: copy the model and "
                        "make a new Trainer")


def _forward_backward(replica, seed, objective, recompute):
    """Return the function of one replica."""
    if recompute and not recompute_blocks(replica):
        raise ValueError(f"recompute needs transformer blocks, and {type(replica).__name__} has none: leave it out")
    rng = Generator(seed)
    use_generator(replica, rng)

    def forward_backward(images, targets, step, samples, **numbers):
        rng.step, rng.samples = step, samples
        return objective(replica, images, targets, numbers["batch"])

    return forward_backward
