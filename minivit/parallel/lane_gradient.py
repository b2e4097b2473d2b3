"""The gradient of one lane: the sum over its micro-batches, and which part of it is complete already.

Machinery of `lanes.py`. Backward computes the gradients of the last layers first. The lanes of several machines are
added while the first layers are still computed, so this sum asks for each chunk whether it is final. Read
`ranks/mpi.py` for what it does then.
"""

import numpy as np

from .replayed_replica import ReplayedReplica


class LaneGradient:
    """The gradient of a lane. One thread computes it, and another one may take the chunks that are final.

    Parameters
    ----------
    replica : ReplayedReplica
        Its gradients are those of one micro-batch.
    """

    def __init__(self, replica: ReplayedReplica) -> None:
        self._replica, self._of_micro_batch = replica, replica.gradients
        self._before, self._all, self._left = np.empty(0), 1, 0

    def start_batch(self, micro_batches: int) -> None:
        """Begin the gradient of a batch: no micro-batch of the lane is computed yet."""
        self._all = self._left = micro_batches

    def end_micro_batch(self) -> None:
        """Take the gradients of the micro-batch that was just computed. The next backward overwrites them."""
        if self._left > 1:
            if self._all > self._left:
                self._before += self._of_micro_batch
            else:
                self._before = self._before if self._before.size else np.empty_like(self._of_micro_batch)
                np.copyto(self._before, self._of_micro_batch)
        self._left -= 1

    def is_final(self, chunk: slice) -> bool:
        """Whether a chunk has its final value. It may be known only when the last micro-batch ends."""
        return self._left == 0 or (self._left == 1 and self._replica.has_finished(chunk))

    def add_to(self, total: np.ndarray, chunk: slice, first: bool) -> None:
        """Add a final chunk to those of the lanes before, `total`. If `first`, there are none: copy it."""
        own = self._of_micro_batch[chunk]
        if self._all > 1:
            own = self._before[chunk] + own
        np.copyto(total, own) if first else np.add(total, own, out=total)
