"""The memory of a record: an array that was freed while recording gives its memory to a later one.

Replay writes to the same addresses in the same order. So where one array followed the other while recording, it does so
in every replay, and a replay needs no more memory than a step that allocates.
"""

import numpy as np

ALIGNMENT = 64                                                        # bytes: a cache line, and a vector register
SEGMENT = 1 << 20                                                     # bytes asked from NumPy at once, at least


class Memory:
    """Memory that grows in segments. `take` gives some of it out, `give_back` receives it again."""

    def __init__(self) -> None:
        self.segments: list[np.ndarray] = []
        self._free: list[list[tuple[int, int]]] = []                  # of each segment: (start, stop), in order

    def take(self, size: int) -> tuple[np.ndarray, int, int]:
        """Return bytes (size,), and where they lie: the number of the segment, and the start within it."""
        need = max(ALIGNMENT, -(-size // ALIGNMENT) * ALIGNMENT)
        holes = [(stop - start, segment, k) for segment, holes in enumerate(self._free)
                 for k, (start, stop) in enumerate(holes) if stop - start >= need]
        if not holes:
            return self._grow(need)[:size], len(self.segments) - 1, 0
        _, segment, k = min(holes)                                    # the smallest that is large enough
        start, stop = self._free[segment][k]
        self._free[segment][k:k + 1] = [(start + need, stop)] if stop - start > need else []
        return self.segments[segment][start:start + size], segment, start

    def give_back(self, size: int, segment: int, start: int) -> None:
        """Receive bytes that `take` gave out."""
        stop = start + max(ALIGNMENT, -(-size // ALIGNMENT) * ALIGNMENT)
        merged: list[tuple[int, int]] = []
        for a, b in sorted([*self._free[segment], (start, stop)]):
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
