"""Ranks of MPI: which lanes are whose, and how gradients are added in the order of the lanes.

Each rank owns consecutive lanes. The vector of gradients travels in chunks. Rank 0 adds its lanes to a chunk and sends
it to rank 1, which adds its own lanes and sends it to rank 2. The last rank has the sum and sends it back the same way:

    rank 0    add 0  add 1  add 2  add 3  add 4  ...           sum 0  sum 1  ...
                 \\      \\      \\                              /      /
    rank 1           add 0  add 1  add 2  ...         sum 0  sum 1  ...
                        \\      \\                      /
    rank 2                  add 0, sum 0   add 1, sum 1  ...

This is a pipeline: all ranks work at the same time, each on another chunk. A rank between two others sends each chunk
twice. So n numbers take about the time of 2 n numbers on one connection, for any number of ranks, and the delay of each
connection once in each direction. Why not a reduction of MPI (`Allreduce`)? Its order of additions depends on the
number of ranks, so the weights would too.

Backward computes the gradients of the last layers first, so the last chunk is added first. A thread of its own adds the
chunks that are final while the lanes of this rank still compute the others. When the lanes are done, all threads add
what is left.
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..batch_split import chunks
from ..threads import Workers, available_threads
from .alone import ALONE, Alone, LaneResult, RankError, Result
from .liveness import Liveness, end_all
from .messages import FIRST_FREE_TAG, Messages
from .obituary import Obituary

EARLY_SLEEP, FIRST_SLEEP = 5e-4, 5e-3        # seconds between two looks while lanes are computed; until one is ready
START = "start at least two with mpiexec -n 2"


def world() -> Any:
    """Return the communicator of all ranks that mpiexec has started.

    Raises ImportError, in one line, without mpi4py or without a library of MPI.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImportError(f"mpi=... needs the package mpi4py and a library of MPI ({reason}): pip install mpi4py mpich"
                          ) from None
    return MPI.COMM_WORLD


def ranks_of(comm: Any) -> Alone:
    """Return the ranks of an MPI communicator; of None, the one rank of this process; ranks stay as they are.

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If the communicator has one rank only.
    """
    if comm is None or isinstance(comm, Alone):
        return ALONE if comm is None else comm
    if not (hasattr(comm, "Get_size") and hasattr(comm, "Iallgatherv")):
        raise TypeError(f"mpi=... takes a communicator of mpi4py, such as mpi4py.MPI.COMM_WORLD, not {comm!r}")
    check_several(comm)
    return Ranks(comm)


def check_several(comm: Any) -> None:
    """Raise ValueError unless a communicator has more than one rank."""
    if comm.Get_size() < 2:
        raise ValueError(f"mpi=... needs more than one rank, but there is one: {START}, or leave out mpi=...")


class Ranks(Alone):
    """The ranks of an MPI communicator. `close` must be called at the end; `together` does.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
        With at least two ranks.

    Raises
    ------
    ValueError
        If MPI allows no threads.
    """

    def __init__(self, comm: Any) -> None:
        from mpi4py import MPI

        if MPI.Query_thread() < MPI.THREAD_SERIALIZED:
            raise ValueError("mpi=... needs a library of MPI that allows threads (MPI_THREAD_SERIALIZED or higher): "
                             "choose another one, such as the package mpich")
        self._messages = Messages(comm)
        self.rank, self.size = self._messages.rank, self._messages.size
        self.first = self.rank == 0
        self.host, self._contexts, self._sums = socket.gethostname(), 0, np.empty(0)
        self._thread = ThreadPoolExecutor(1, "minivit-messages")      # it adds gradients while lanes are computed
        line = "resume the run, if it has a folder"
        self._obituary = Obituary(f"minivit: error: {_killed(self.size)}; {line}") if self.first else None
        self._liveness: Liveness | None = Liveness(self._messages, line, self._print)

    # ---- lanes and rows ----------------------------------------------------------------------------------

    def check_lanes(self, count: int) -> None:
        """Raise ValueError if there are more ranks than lanes."""
        if count < self.size:
            raise ValueError(f"there are more ranks than lanes: {self.size} ranks, and {count} lanes in each step; "
                             f"start at most {count} ranks, or a new run with lanes={self.size} or more")

    def own(self, count: int) -> slice:
        """Return which of `count` lanes belong to this rank. Called at the start of each step."""
        if self._liveness:
            self._liveness.begin_step()
        return slice(*self.edges(count)[self.rank:self.rank + 2])

    def ordered_allreduce(self, workers: Workers, total: np.ndarray, compute: Callable[[], Result],
                          is_final: Callable[[slice], bool], add_own: Callable[[slice, bool], None],
                          finish: Callable[[slice], float]) -> tuple[Result, list[float]]:
        """Compute vectors and add those of all ranks in the order of the ranks; see `Alone.ordered_allreduce`."""
        if not self._is_last and self._sums.shape != total.shape:
            self._sums = np.empty_like(total)
        pipeline = _Pipeline(self._messages, total, self._sums, is_final, add_own, finish)
        early = self._thread.submit(pipeline.run_early)
        try:
            result = compute()
            pipeline.computed.set()
            if self._liveness:
                self._liveness.end_step()
            early.result()                                            # raises its error, if any
            return result, pipeline.run(workers)
        except BaseException:
            self._messages.stopped = True                             # other threads may wait for what never comes
            raise
        finally:
            pipeline.computed.set()
            wait([early])

    @property
    def _is_last(self):
        return self.rank == self.size - 1

    def allgather_lanes(self, results: Sequence[LaneResult], count: int) -> list[LaneResult]:
        """Return the results of all lanes, in the order of the lanes."""
        counts = (2 * np.diff(self.edges(count))).tolist()
        numbers = self._messages.allgather(np.array(results, np.float64).ravel(), counts).reshape(-1, 2)
        return [(loss, int(correct)) for loss, correct in numbers.tolist()]

    def allgather_rows(self, rows: np.ndarray, edges: Sequence[int]) -> None:
        """Complete `rows` on every rank; see `Alone.allgather_rows`."""
        counts = (np.diff(edges) * rows.shape[1]).tolist()
        own = rows[edges[self.rank]:edges[self.rank + 1]].ravel()
        rows[...] = self._messages.allgather(own, counts).reshape(rows.shape)

    # ---- agreement ---------------------------------------------------------------------------------------

    def allgather(self, value: Any) -> list[Any]:
        """Return the value of each rank, in order."""
        return self._messages.allgather_json(value)

    def allgather_number(self, number: int) -> list[int]:
        """Return the number of each rank, in order; in one message, so faster than `allgather`."""
        return self._messages.allgather(np.array([number], np.int64), [1] * self.size).tolist()

    def threads(self, threads: int | None) -> int | None:
        """Return the number of threads of this rank. Ranks that may use the same cores share them."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        sharing = self.allgather([self.host, cores]).count([self.host, cores])
        return max(1, available_threads() // sharing) if threads is None else threads

    # ---- the end -----------------------------------------------------------------------------------------

    def if_killed(self, text: str) -> None:
        """Set the second half of the line that is printed if a rank is killed or hangs: what to do."""
        if self._liveness:
            self._liveness.advice = text
        if self._obituary:
            self._obituary.write(f"minivit: error: {_killed(self.size)}; {text}")

    def _print(self, line):
        """Print a line in place of the obituary."""
        if self._obituary:
            self._obituary.cancel()
        print(line, file=sys.stderr, flush=True)

    @contextmanager
    def together(self) -> Iterator[None]:
        """A context in which an error of one rank ends all. The outermost context closes the ranks."""
        self._contexts, ends_well = self._contexts + 1, False
        try:
            yield
            if self._contexts == 1:
                self.allgather(None)                                  # nobody leaves before all are done
                ends_well = True
        except BaseException as error:
            if self._contexts == 1 and self._liveness and not isinstance(error, RankError):
                self._liveness.tell(f"{self} on {self.host}: {error_text(error)}")
            raise
        finally:
            self._contexts -= 1
            if not self._contexts:
                self.close()
                if ends_well:                                         # else another rank may never come here
                    self._messages.free()

    def close(self) -> None:
        """End the threads and processes that watch this rank."""
        self._thread.shutdown()
        if self._liveness:
            self._liveness.close()
            self._liveness = None
        if self._obituary:
            self._obituary.cancel()
            self._obituary = None


class _Pipeline:
    """One sum of vectors over all ranks. See the figure at the top."""

    def __init__(self, messages: Messages, total: np.ndarray, sums: np.ndarray, is_final: Callable, add_own: Callable,
                 finish: Callable):
        self.messages, self.total, self.sums, self.add_own, self.finish = messages, total, sums, add_own, finish
        self.is_final, self.computed = is_final, threading.Event()
        self.chunks = chunks(0, total.size)[::-1]                     # backward computes the last layers first
        before, after = messages.rank - 1, messages.rank + 1
        self.first, self.last = before < 0, after == messages.size
        self.before, self.after = before, after
        # What arrives has a place from the start, so that no sender waits. The sums have their own, because a chunk of
        # the total must not change while it is being sent.
        self.partial = [] if self.first else [messages.receive(total[chunk], before, self._tag(i, 0))
                                              for i, chunk in enumerate(self.chunks)]
        self.complete = [] if self.last else [messages.receive(sums[chunk], after, self._tag(i, 1))
                                              for i, chunk in enumerate(self.chunks)]
        self.sent: list[Any] = [None] * len(self.chunks)
        self.returned: list[Any] = [None] * len(self.chunks)
        # The sum of a chunk comes back after two ticks for each rank between here and the last one.
        self.lag = 2 * (messages.size - after)
        self.ticks, self.found = list(range(len(self.chunks) + self.lag)), [0.0] * len(self.chunks)

    def _tag(self, i, direction):
        return FIRST_FREE_TAG + 2 * i + direction

    def run_early(self) -> None:
        """Add the chunks that are final, while the others are still computed. Another thread calls this."""
        try:
            while not self.computed.is_set() and self.ticks:
                self._tick(self.ticks.pop(0))
        except BaseException:
            self.messages.stopped = True                              # as in `Ranks.ordered_allreduce`
            raise

    def run(self, workers: Workers) -> list[float]:
        """Add the chunks that are left; see `Alone.ordered_allreduce`."""
        workers.map(self._tick, self.ticks)
        for request in filter(None, self.sent + self.returned):
            self.messages.wait(request)
        return self.found[::-1]

    def _tick(self, t):
        """Send one chunk on, and take the sum of an earlier one."""
        if t < len(self.chunks):
            self._forward(t)
        if t >= self.lag:
            self.found[t - self.lag] = self._back(t - self.lag)

    def _wait(self, request):
        """Wait for a message; while the lanes of this rank are computed, without taking their time."""
        while not self.computed.is_set() and not self.messages.is_complete(request):
            self.messages.check()
            self.computed.wait(EARLY_SLEEP)
        self.messages.wait(request)

    def _forward(self, i):
        """Add the lanes of this rank to a chunk of those before, and send it on."""
        while not (self.computed.is_set() or self.is_final(self.chunks[i])):
            self.messages.check()
            if i:                                                     # otherwise nothing is on its way
                self.messages.progress()
            self.computed.wait(EARLY_SLEEP if i else FIRST_SLEEP)
        self.messages.check()                                         # a lane may have failed instead
        if not self.first:
            self._wait(self.partial[i])
        self.add_own(self.chunks[i], self.first)
        if not self.last:
            self.sent[i] = self.messages.send(self.total[self.chunks[i]], self.after, self._tag(i, 0))

    def _back(self, i):
        """Take the sum of a chunk from the rank after this one, and pass it to the one before."""
        chunk = self.chunks[i]
        if not self.last:
            self._wait(self.complete[i])
            if not self.first:
                self.returned[i] = self.messages.send(self.sums[chunk], self.before, self._tag(i, 1))
            while self.sent[i] is None:                               # another thread is about to note it
                self.messages.check()
                time.sleep(0)
            self._wait(self.sent[i])
            self.total[chunk] = self.sums[chunk]
        elif not self.first:
            self.returned[i] = self.messages.send(self.total[chunk], self.before, self._tag(i, 1))
        return self.finish(chunk)


def error_text(error: BaseException) -> str:
    """Return an error as one line."""
    return "; ".join([str(error) or type(error).__name__, *getattr(error, "__notes__", ())])


def _killed(size):
    return f"one of the {size} ranks was killed"


def end_process(code: int, comm: Any) -> None:
    """End MPI in this process after an error. If the other ranks do not follow within seconds, MPI ends them."""
    from mpi4py import MPI

    fallback = threading.Timer(5, end_all, (comm, code))
    fallback.daemon = True
    fallback.start()
    MPI.Finalize()
    fallback.cancel()
