"""Run a function for many points at the same time, on any executor. A worker that dies costs its point only.

An *executor*, of `concurrent.futures`, runs calls in its *workers*: processes of this machine or of others. The death
of a worker may break its executor, and then all calls that were running fail, not only that of the dead worker. Nobody
knows which one it was. So all of them run once more, on a new executor, each alone: then only the one whose worker dies
again is lost.
"""

import multiprocessing
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from typing import Any

from ...common.checks import check_number

TRIES = 2                   # how often a point may be running when a worker dies
DEATHS = ("KilledWorker", "NoValidWorkerError", "CommClosedError")    # how Dask calls the death of a worker


class _Lost:
    """The result of a point whose worker died."""

    def __repr__(self) -> str:
        return "lost"


lost = _Lost()


def side_by_side(points: Sequence[Any], function: Callable, make: Callable[[], Executor], jobs: int | None = None,
                 keep: bool = False) -> Iterator[tuple[Any, Any]]:
    """Yield (point, function(point)) as points end; (point, `lost`) if the worker of a point has died TRIES times.

    After an exception of the function no point is started. Those that are running end first, and then it is raised.

    Parameters
    ----------
    points : list
    function : callable
        A function of a module, or a partial of one.
    make : callable
        Returns an executor. It is called again if an executor breaks; if it returns the same one, the points that are
        left are lost.
    jobs : int, optional
        How many points run at the same time (default: all that the executor allows).
    keep : bool
        Whether the executor stays open at the end.
    """
    study = _SideBySide(points, function, make, jobs)
    try:
        yield from study.results()
    except BaseException:                                             # such as Ctrl-C: the rest need not begin
        study.cancel()
        raise
    finally:
        if not keep:
            study.executor.shutdown()
    if study.error:
        raise study.error


class _SideBySide:
    """The points that wait and those that are running, in one call of `side_by_side`."""

    def __init__(self, points, function, make, jobs):
        self.function, self.make, self.executor = function, make, make()
        # Calls that wait in an executor fail with those that run, so it gets no more than it runs, if that is known.
        self.jobs = jobs or getattr(self.executor, "_max_workers", None)
        self.waiting, self.running, self.deaths = deque(enumerate(points)), dict[Future, Any](), dict[int, int]()
        self.error: BaseException | None = None
        self.broken, self.used = False, True                          # the executor is broken; it has taken a point

    def results(self):
        """Yield (point, result or `lost`) as points end, until nothing is running and nothing can start."""
        while self._start():
            for future in wait(self.running, return_when=FIRST_COMPLETED).done:
                yield from self._end(future)
        if not self.error:
            yield from ((point, lost) for _, point in self.waiting)

    def _start(self):
        """Start as many points as may run. Return whether any is running."""
        self._renew()
        while self.waiting and not (self.error or self.broken) and (self.jobs is None or len(self.running) < self.jobs):
            if self.deaths.get(self.waiting[0][0]) and self.running:
                break                                                 # it runs alone
            try:
                future = self.executor.submit(self.function, self.waiting[0][1])
                self.running[future], self.used = self.waiting.popleft(), True
            except BrokenExecutor:
                self.broken = True
                self._renew()
        return bool(self.running)

    def _renew(self):
        """Make a new executor if this one is broken, and nothing runs on it any more."""
        if self.broken and not self.running and self.used:            # one that never took a point is not renewed
            before, self.executor = self.executor, self.make()
            self.broken, self.used = self.executor is before, False

    def _end(self, future):
        """Yield the result of a point that has ended, unless it runs once more, or there is an error."""
        number, point = self.running.pop(future)
        failed = None if future.cancelled() else future.exception()
        if isinstance(failed, BrokenExecutor) or type(failed).__name__ in DEATHS:
            self.broken = self.broken or isinstance(failed, BrokenExecutor)
            self.deaths[number] = self.deaths.get(number, 0) + 1
            if self.deaths[number] < TRIES:
                self.waiting.append((number, point))
            else:
                yield point, lost
        elif failed:
            self.error = self.error or failed
            self.cancel()
        elif not future.cancelled():
            yield point, future.result()

    def cancel(self):
        """Cancel the points that have been submitted and have not begun."""
        for future in self.running:
            future.cancel()


class OneProcessEach(Executor):
    """An executor of processes on this machine, where the death of a process breaks nothing else.

    Parameters
    ----------
    jobs : int
        Number of processes.
    """

    def __init__(self, jobs: int) -> None:
        self._free, self._lock, self._all = queue.SimpleQueue[ProcessPoolExecutor](), threading.Lock(), set[Any]()
        for _ in range(check_number("number of jobs", jobs, least=1, whole=True)):
            self._add()

    def _add(self) -> None:
        """Add a process that is free."""
        # Spawn, because a forked process inherits the locks of BLAS's threads without the threads that release them.
        process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _end_with_parent)
        with self._lock:
            self._all.add(process)
        self._free.put(process)

    def submit(self, function: Callable, /, *arguments: Any, **named: Any) -> Future:
        """Run a call in a process, once one is free."""
        process = self._free.get()
        future = process.submit(function, *arguments, **named)
        future.add_done_callback(lambda done: self._release(process, done))
        return future

    def _release(self, process: ProcessPoolExecutor, done: Future) -> None:
        """Note that a process is free again; replace it if it has died."""
        if done.cancelled() or not isinstance(done.exception(), BrokenExecutor):
            self._free.put(process)
            return
        with self._lock:
            self._all.discard(process)
        self._add()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End all processes."""
        with self._lock:
            processes = [*self._all]
        for process in processes:
            process.shutdown(wait, cancel_futures=cancel_futures)


def _end_with_parent():
    """End this process when its parent process has ended."""
    threading.Thread(target=_exit_after, args=(multiprocessing.parent_process(),), daemon=True).start()


def _exit_after(process):
    """Wait for the end of a process, then exit."""
    process.join()
    os._exit(1)
