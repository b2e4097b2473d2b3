"""Pinned threads: each keeps to cores of its own while tasks run that wait for each other.

The operating system tends to wake a thread on the core of the thread that it waited for. Two threads that wait for
each other in turn then end up on one core, and the other core is idle. So for the length of one call each thread is
*pinned*: restricted to a set of cores that no other thread of the call may use.

The threads are `helpers`: helper k always runs part k + 1, so its data stays in its core's cache. The calling thread
runs part 0.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache

from .libc import c_library

_SUBMITTING = threading.Lock()


@cache
def _helper(k):
    """Return helper k: a pool of a single thread."""
    return ThreadPoolExecutor(1, f"minivit-helper-{k}")


if hasattr(os, "register_at_fork"):                                   # threads do not survive a fork
    os.register_at_fork(after_in_child=_helper.cache_clear)
    os.register_at_fork(before=_SUBMITTING.acquire, after_in_parent=_SUBMITTING.release,
                        after_in_child=_SUBMITTING.release)


def _disjoint_cores(threads):
    """Return the cores that this thread may use now, and a set of cores for each of `threads` threads.

    The sets are disjoint, and the first holds the core that this thread runs on. If there are too few cores, every
    thread may use all of them. Systems other than Linux do not say where a thread runs: then all entries are None.
    """
    try:
        allowed, here = os.sched_getaffinity(0), c_library().sched_getcpu()
    except (AttributeError, OSError, TypeError):                      # not Linux
        return None, [None] * threads
    others = sorted(allowed - {here})
    if here not in allowed or len(others) < threads - 1:
        return allowed, [allowed] * threads
    return allowed, [{here}, *({*others[k::threads - 1]} for k in range(threads - 1))]


def _pin(cores):
    """Restrict this thread to these cores; None changes nothing."""
    if cores is not None:
        with contextlib.suppress(OSError):                            # not permitted, or a core has gone offline
            os.sched_setaffinity(0, cores)


def run_pinned(task: Callable[[slice, Callable[[], object]], object], parts: Sequence[slice]) -> None:
    """Run task(part, wait) for all parts at the same time, each on a thread of its own.

    Parameters
    ----------
    task : function
        See `Workers.parallel_for`.
    parts : list of slice
        At least one.

    Raises
    ------
    Exception
        The first error in a task.
    """
    barrier, errors = threading.Barrier(len(parts)), []

    def run(cores, part):
        try:
            _pin(cores)
            task(part, barrier.wait)
        except threading.BrokenBarrierError:                          # another task has failed
            pass
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    allowed, (here, *elsewhere) = _disjoint_cores(len(parts))
    try:
        with _SUBMITTING:                                             # or two calls at once could wait for each other
            jobs = enumerate(zip(elsewhere, parts[1:], strict=True))
            futures = [_helper(k).submit(run, cores, part) for k, (cores, part) in jobs]
        run(here, parts[0])
        wait(futures)
    except BaseException:                                             # interrupted: some parts may not be submitted
        barrier.abort()
        raise
    finally:
        _pin(allowed)
    if errors:
        raise errors[0]
