"""The memory of a record: an array that was freed while recording gives its memory to a later one.

If array B takes the memory of array A while a step is recorded, B overwrites A at the same point of every replay, when
A is no longer needed. So a replay needs no more memory than a step that allocates.
"""

import os
import threading
from collections import deque

import numpy as np

ALIGNMENT = 64                                                        # bytes: a cache line, and a vector register
SEGMENT = 1 << 20                                                     # bytes asked from NumPy at once, at least


class Memory:
    """Memory that grows in segments. `take` gives some of it out, `give_back` receives it again.

    Attributes
    ----------
    lock : threading.Lock
        Records may share a memory if only one is recorded or replayed at a time: its thread holds this lock.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.segments: list[np.ndarray] = []
        self._free: list[list[tuple[int, int]]] = []                  # of each segment: (start, stop), in order
        self._recording, self._returned = 0, deque[tuple[int, ...]]()

    def reset(self) -> None:
        """Take back all memory, for the next recording. What an earlier one gives back later is ignored."""
        self._recording += 1
        self._free = [[(0, segment.size)] for segment in self.segments]

    def take(self, size: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
        """Return bytes (size,), and what `give_back` needs."""
        self._receive()
        need = max(ALIGNMENT, -(-size // ALIGNMENT) * ALIGNMENT)
        holes = [(stop - start, segment, k) for segment, holes in enumerate(self._free)
                 for k, (start, stop) in enumerate(holes) if stop - start >= need]
        if not holes:
            return self._grow(need)[:size], (self._recording, len(self.segments) - 1, 0, need)
        _, segment, k = min(holes)                                    # the smallest that is large enough
        start, stop = self._free[segment][k]
        self._free[segment][k:k + 1] = [(start + need, stop)] if stop - start > need else []
        return self.segments[segment][start:start + size], (self._recording, segment, start, need)

    def give_back(self, *place: int) -> None:
        """Receive bytes that `take` gave out. Any thread may call this at any time, as it frees an array."""
        self._returned.append(place)

    def _receive(self):
        """Make free what was given back: as one hole with its free neighbours."""
        while self._returned:
            recording, segment, start, size = self._returned.popleft()
            if recording == self._recording:
                merged: list[tuple[int, int]] = []
                for a, b in sorted([*self._free[segment], (start, start + size)]):
                    if merged and merged[-1][1] == a:
                        merged[-1] = merged[-1][0], b
                    else:
                        merged.append((a, b))
                self._free[segment] = merged

    def _grow(self, need):
        """Add a segment whose first `need` bytes are taken; return it."""
        size = max(need, SEGMENT)
        raw = np.empty(size + ALIGNMENT, np.uint8)
        first = -raw.ctypes.data % ALIGNMENT
        self.segments.append(raw[first:first + size])
        self._free.append([(need, size)] if size > need else [])
        return self.segments[-1]


_SHARED: list[Memory] = []
if hasattr(os, "register_at_fork"):                                   # a thread of the parent may hold a lock
    os.register_at_fork(after_in_child=_SHARED.clear)


def shared_memory(k: int) -> Memory:
    """Return memory k of this process. All trainings and predictions use the same few, one after the other."""
    while len(_SHARED) <= k:
        _SHARED.append(Memory())
    return _SHARED[k]
