"""A function of arrays that is recorded once for each combination of shapes, and replayed from then on."""

import os
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ..kernel import active
from ..matrix_products import find_gemm
from .memory import Memory
from .recorder import NotRecordable, Recorder
from .tracked import Tracked, plain


class Record:
    """One recorded call.

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
        recorder = Recorder(memory)
        self.inputs = [recorder.empty(x.shape, x.dtype) for x in arguments]
        for target, x in zip(self.inputs, arguments, strict=True):
            plain(target)[...] = x
        active.recorder = recorder
        try:
            outputs = function(*self.inputs)
        finally:
            active.recorder = None
        if not all(isinstance(y, Tracked) for y in outputs):
            raise NotRecordable("a result does not come from the arrays of the step")
        self.outputs, self._owners = [plain(y) for y in outputs], outputs
        self._constants, self.table = recorder.constants, recorder.table()

    def replay(self, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Replay the call for other arrays. The results lie in the memory of the record until the next replay."""
        for target, x in zip(self.inputs, arguments, strict=True):
            plain(target)[...] = x
        self.table.run()
        return self.outputs


class Replayed:
    """A function of arrays that is recorded and replayed. What cannot be recorded runs as written.

    The first call of some shapes runs as written: most shapes of a short program occur once. The second call is
    recorded. The third runs as written and is replayed, and a record that does not give the same bits is dropped.

    Parameters
    ----------
    recorded : callable
        The function, as it is recorded: with tracked weights. It takes arrays and returns a sequence of arrays.
    written : callable
        The same function, as it runs without a record.
    writes : sequence of np.ndarray
        Arrays that the function writes to besides its results, such as gradients.
    enabled : bool
        Whether to record at all. The environment variable MINIVIT_REPLAY=0 switches all recording off.

    Attributes
    ----------
    reason : str
        Why the last call could not be recorded; empty if there is no reason.
    """

    def __init__(self, recorded: Callable, written: Callable, writes: Sequence[np.ndarray] = (),
                 enabled: bool = True) -> None:
        self._recorded, self._written, self._writes = recorded, written, writes
        self._memory = Memory()
        self._next: dict[tuple, Callable] = {}                        # what to do at the next call of some shapes
        self.reason = _why_disabled(enabled)
        self._enabled = not self.reason

    def __call__(self, *arguments: np.ndarray, **numbers: int) -> Sequence[np.ndarray]:
        """Return the results for some arrays. They are overwritten by the next call of the same shapes and numbers."""
        if not self._enabled:
            return self._written(*arguments, **numbers)
        key = tuple((x.shape, x.dtype) for x in arguments), tuple(numbers.items())
        if key in self._next:
            return self._next[key](key, arguments, numbers)
        self._next[key] = self._record
        return self._written(*arguments, **numbers)

    def _record(self, key, arguments, numbers):
        """The second call of some shapes."""
        try:
            record = Record(partial(self._recorded, **numbers), arguments, self._memory)
        except NotRecordable as error:
            return self._give_up(str(error), key, arguments, numbers)
        self._next[key] = partial(self._verify, record)
        return record.outputs

    def _verify(self, record, key, arguments, numbers):
        """The third call: as written, and replayed."""
        written = [np.array(y) for y in (*self._written(*arguments, **numbers), *self._writes)]
        replayed = [*record.replay(arguments), *self._writes]
        if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(written, replayed, strict=True)):
            return self._give_up("a replay gave other numbers than the step as written", key, arguments, numbers)
        self._next[key] = lambda key, arguments, numbers: record.replay(arguments)
        return record.outputs

    def _give_up(self, reason, key, arguments, numbers):
        """Run as written from now on."""
        self.reason = reason
        self._next[key] = lambda key, arguments, numbers: self._written(*arguments, **numbers)
        return self._written(*arguments, **numbers)


def _why_disabled(enabled):
    """Return why nothing is recorded at all; an empty text if that is not so."""
    if not enabled or os.environ.get("MINIVIT_REPLAY") == "0":
        return "replay is switched off"
    return "" if find_gemm() else "this BLAS cannot be called from compiled code, or nothing is compiled"
