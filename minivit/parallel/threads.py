"""Threads: how many this process may use, and the workers that run tasks on them."""

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path

from ..common.checks import check_number
from .batch_split import split_evenly
from .memory import c_library, keep_freed_memory


def available_threads():
    """The cores this process may use: by affinity, and by the quota of its container (Linux)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or "max": no quota
        return cores


@cache
def _pool(threads):
    """The threads themselves: one pool for all that ask for so many, because starting threads takes longer than a small batch."""
    return ThreadPoolExecutor(threads)


_SUBMITTING = threading.Lock()


def _cores_apart(threads):
    """The cores that this thread may use, and a set of them for each of so many threads that often wait for each other.

    The sets have no core in common, and the first holds the one on which this thread runs: a system likes to wake a thread on the core of
    the one that it has waited for, and then both take turns on one core. With too few cores, each may use all. None where the system does
    not tell.
    """
    try:
        allowed, here = os.sched_getaffinity(0), c_library().sched_getcpu()
    except (AttributeError, OSError, TypeError):                      # not Linux
        return None, [None] * threads
    others = sorted(allowed - {here})
    if here not in allowed or len(others) < threads - 1:
        return allowed, [allowed] * threads
    return allowed, [{here}, *({*others[k::threads - 1]} for k in range(threads - 1))]


def _stay_on(cores):
    """Let this thread run on these cores only; None for no change."""
    if cores is not None:
        with contextlib.suppress(OSError):                            # forbidden, or a core is gone
            os.sched_setaffinity(0, cores)


@cache
def _helper(number):
    """A pool of one thread, the same for the same number."""
    return ThreadPoolExecutor(1, f"minivit-helper-{number}")


if hasattr(os, "register_at_fork"):                                   # threads do not survive a fork
    os.register_at_fork(after_in_child=_pool.cache_clear)
    os.register_at_fork(after_in_child=_helper.cache_clear)
    os.register_at_fork(before=_SUBMITTING.acquire, after_in_parent=_SUBMITTING.release, after_in_child=_SUBMITTING.release)


class Workers:
    """`threads` threads that run tasks side by side (default: the cores this process may use)."""

    def __init__(self, threads=None):
        self.threads = available_threads() if threads is None else check_number("number of threads", threads, least=1, whole=True)
        keep_freed_memory()

    def map(self, task, items):
        """[task(item) for item in items], side by side; an exception in a task is raised here."""
        return [task(item) for item in items] if self.threads == 1 else list(_pool(self.threads).map(task, items))

    def parallel_for(self, task, count, least=1):
        """task(part, meet) for equal slices `part` of range(count), one for each thread, or for fewer threads, if otherwise a part would be
        shorter than `least`; side by side. The first error is raised here.

        In a task, meet() waits until all tasks have come to it: each must come equally often. A task may not share. Unlike in `map`, the
        same thread takes the same part each time, this thread the first: so it finds in its core's cache what the task before has left
        there. Meanwhile each stays on cores of its own.
        """
        parts = split_evenly(slice(0, count), min(self.threads, max(1, count // least)))
        if len(parts) < 2:
            for part in parts:
                task(part, lambda: None)
            return
        meeting, errors = threading.Barrier(len(parts)), []

        def run(cores, part):
            try:
                _stay_on(cores)
                task(part, meeting.wait)
            except threading.BrokenBarrierError:                      # another has failed
                pass
            except BaseException as error:
                errors.append(error)
                meeting.abort()

        allowed, (here, *elsewhere) = _cores_apart(len(parts))
        try:
            with _SUBMITTING:                                        # or tasks of two calls could wait for each other
                helped = [_helper(k).submit(run, cores, part) for k, (cores, part) in enumerate(zip(elsewhere, parts[1:], strict=True))]
            run(here, parts[0])
            wait(helped)
        except BaseException:                                         # an interrupt: nobody shall wait for what was not handed out
            meeting.abort()
            raise
        finally:
            _stay_on(allowed)
        if errors:
            raise errors[0]
