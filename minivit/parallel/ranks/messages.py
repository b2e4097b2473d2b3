"""Messages between the ranks of an MPI communicator, in which no wait is endless.

A blocking call of MPI waits for ever if its partner has stopped. So every call here starts an operation and returns,
and `wait` asks again and again whether the operation is complete, or the training has a problem (see `liveness.py`).
One lock guards all calls, because not every MPI library allows two threads at the same time.
"""

import json
import threading
import time
from itertools import pairwise
from typing import Any

import numpy as np

from .alone import RankError

BUSY_POLLS = 2000           # how often `wait` asks before it sleeps between two questions
SLEEP = 1e-4                # seconds
ANY_RANK = -1
BEAT_TAG, NOTE_TAG, FIRST_FREE_TAG = 1, 2, 16       # a tag tells messages of one sender apart


class Messages:
    """The messages of one rank.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
        The communicator. It is duplicated, so messages of other code cannot be mistaken for these.

    Attributes
    ----------
    problem : RankError or None
        Why the training must end; every `wait` raises it.
    stopped : bool
        Whether this rank has an error of its own, so that none of its threads may wait any more.
    """

    def __init__(self, comm: Any) -> None:
        from mpi4py import MPI

        self.comm, self._any_source = comm.Dup(), MPI.ANY_SOURCE
        self.rank, self.size = self.comm.Get_rank(), self.comm.Get_size()
        self.lock = threading.Lock()
        self.problem: RankError | None = None
        self.stopped = False

    def send(self, array: np.ndarray, rank: int, tag: int) -> Any:
        """Start to send a contiguous array to a rank. It must not change before the request is complete."""
        with self.lock:
            return self.comm.Isend(array, rank, tag)

    def receive(self, array: np.ndarray, rank: int, tag: int) -> Any:
        """Start to receive a contiguous array from a rank, or from the first that sends one: ANY_RANK."""
        with self.lock:
            return self.comm.Irecv(array, self._any_source if rank == ANY_RANK else rank, tag)

    def wait(self, request: Any) -> None:
        """Wait until a request is complete. Raises the problem of the training if there is one."""
        polls = 0
        while not self.is_complete(request):
            self.check()
            polls += 1
            time.sleep(0 if polls < BUSY_POLLS else SLEEP)            # 0 lets other threads and processes run

    def progress(self) -> None:
        """Let MPI go on with messages that are on their way. It does so only within its own functions."""
        with self.lock:
            self.comm.Iprobe(self._any_source, NOTE_TAG)

    def check(self) -> None:
        """Raise the problem of the training if there is one, or RankError if this rank has stopped."""
        if self.problem or self.stopped:
            raise self.problem or RankError("another thread of this rank had an error")

    def free(self) -> None:
        """Free the communicator. All ranks call it, at a point that all reach; nothing can be sent afterwards."""
        with self.lock:
            self.comm.Free()

    def is_complete(self, request: Any) -> bool:
        """Return whether a request is complete."""
        with self.lock:
            return request.Test()

    def allgather(self, own: np.ndarray, counts: list[int]) -> np.ndarray:
        """Return the vectors of all ranks, one after the other. Rank r has `counts[r]` numbers; all have one dtype."""
        everything = np.empty(sum(counts), own.dtype)
        with self.lock:
            request = self.comm.Iallgatherv(own, [everything, counts])
        self.wait(request)
        return everything

    def allgather_json(self, value: Any) -> list[Any]:
        """Return the value of each rank, in order."""
        own = np.frombuffer(json.dumps(value).encode(), np.uint8)
        counts = self.allgather(np.array([own.size], np.int64), [1] * self.size).tolist()
        everything, edges = self.allgather(own, counts).tobytes(), np.cumsum([0, *counts])
        return [json.loads(everything[a:b]) for a, b in pairwise(edges)]
