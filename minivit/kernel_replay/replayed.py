"""A function of arrays that is recorded for each combination of shapes, and replayed from then on."""

import os
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ..kernel import active
from ..matrix_products import find_gemm
from .machine import Table, calls_done
from .memory import Memory
from .recorder import NotRecordable, Recorder
from .tracked import Tracked, plain


class Record:
    """One recorded call. It computes the results for its arguments, too.

    Parameters
    ----------
    function : callable
        Takes tracked arrays and returns a sequence of them.
    arguments : sequence of np.ndarray
        Arrays of the shapes that are recorded.
    memory : Memory
        Where the arrays of the call get their memory.

    Raises
    ------
    NotRecordable
        If the function does something that cannot be replayed.
    """

    def __init__(self, function: Callable, arguments: Sequence[np.ndarray], memory: Memory) -> None:
        self.recorder = Recorder(memory)
        inputs = [self.recorder.empty(x.shape, x.dtype) for x in arguments]
        self.inputs = [plain(target) for target in inputs]
        self._fill(arguments)
        active.recorder = self.recorder
        try:
            outputs = function(*inputs)
        finally:
            active.recorder = None
        if not all(isinstance(y, Tracked) for y in outputs):
            raise NotRecordable("a result does not come from the arrays of the step")
        self.outputs = [plain(y) for y in outputs]
        self._owners = inputs, outputs                                # until here, their memory is not given out again
        self.table: Table | None = None
        self.done = np.zeros(1, np.int64)                             # how many calls of a replay are complete
        self._uses = np.empty((0, 3), np.int64)                       # as those of the recorder

    def _fill(self, arguments):
        for target, x in zip(self.inputs, arguments, strict=True):
            target[...] = x

    def replay(self, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Replay the call for other arrays. The results lie in the memory of the record until its next use."""
        if self.table is None:
            self._uses = np.array(self.recorder.uses, np.int64).reshape(-1, 3)
            self.table = Table(self.recorder.calls)                   # from here on, others may ask for the last use
            self.recorder.forget_calls()
        self._fill(arguments)
        self.table.run(self.done)
        return self.outputs

    def last_use(self, vector: np.ndarray) -> int:
        """Return how many calls must be complete before a contiguous array (n,) has its final values."""
        start = vector.__array_interface__["data"][0]
        calls, first, end = self._uses.T
        return int(calls[(first < start + vector.nbytes) & (end > start)].max(initial=-1)) + 1

    def has_done(self, calls: int) -> bool:
        """Whether this number of calls of the replay is complete. Then other threads may read what they wrote."""
        return calls_done(self.done) >= calls


class Replayed:
    """A function of arrays that is recorded and replayed. What cannot be recorded runs as written.

    The first and the second call of some shapes are recorded, and both compute their results. If both made the same
    calls, all further ones are replayed. Otherwise the function depends on more than its arguments.

    Parameters
    ----------
    recorded : callable
        The function, as it is recorded: with tracked weights. It takes arrays and returns a sequence of arrays.
    written : callable
        The same function, as it runs without a record.
    memory : Memory, optional
        The memory of the records (default: a new one). Whoever shares it holds its lock during a call, and until the
        results are read.
    why_not : str
        Why nothing may be recorded; empty if it may. The environment variable MINIVIT_REPLAY=0 switches all recording
        off.

    Attributes
    ----------
    reason : str
        Why some calls run as written; empty if all are replayed.
    replaying : Record or None
        What is replayed at this moment, for other threads.
    """

    replaying: Record | None = None

    def __init__(self, recorded: Callable, written: Callable, memory: Memory | None = None,
                 why_not: str = "") -> None:
        self._recorded, self._written, self.memory = recorded, written, memory or Memory()
        self._next: dict[tuple, Callable] = {}                        # what to do at the next call of some shapes
        self.reason = why_not or _why_disabled()
        self._enabled = not self.reason

    def __call__(self, *arguments: np.ndarray, **numbers: float) -> Sequence[np.ndarray]:
        """Return the results for some arrays. They are overwritten by the next use of the memory."""
        if not self._enabled:
            return self._written(*arguments, **numbers)
        key = tuple((x.shape, x.dtype) for x in arguments), tuple(numbers.items())
        return self._next.get(key, self._record)(key, arguments, numbers)

    def _record(self, key, arguments, numbers, first=None):
        """Record the first call of some shapes, or the second, which must make the same calls as the first."""
        try:
            record = Record(partial(self._recorded, **numbers), arguments, self.memory)
        except Exception as error:                                    # the layers' own errors are raised again below
            return self._give_up(str(error) or repr(error), key, arguments, numbers)
        if first is None:
            self._next[key] = partial(self._record, first=record)
        elif record.recorder.same_calls(first.recorder):
            self._next[key] = partial(self._replay, record)
        else:
            self._give_up("the same step made other calls the second time", key)
        return record.outputs

    def _replay(self, record, key, arguments, numbers):
        """Replay the record of some shapes."""
        record.done[0] = 0                                            # before another thread looks
        self.replaying = record
        try:
            return record.replay(arguments)
        finally:
            self.replaying = None

    def _give_up(self, reason, key, arguments=(), numbers=None):
        """Run as written from now on."""
        self.reason = reason
        self._next[key] = lambda key, arguments, numbers: self._written(*arguments, **numbers)
        return self._written(*arguments, **numbers) if arguments else None


def _why_disabled():
    """Return why nothing can be recorded in this process; an empty text if it can."""
    if os.environ.get("MINIVIT_REPLAY") == "0":
        return "replay is switched off"
    return "" if find_gemm() else "this BLAS cannot be called from compiled code, or nothing is compiled"
