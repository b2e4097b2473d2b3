"""Threads: how many this process may use, and `Workers`, which run tasks on them.

Python's threads run Python code one at a time. They do run at the same time inside matrix products and compiled
kernels, which release Python's global lock, and that is where a model spends its time.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TypeVar

from ..common.checks import check_number
from .memory import keep_freed_memory

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_threads() -> int:
    """Return the number of cores this process may use: its affinity, limited by its container's quota (Linux)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):                                     # no such file, or the quota is "max": no limit
        return cores


@cache
def _pool(threads):
    """Return the pool of this many threads. It is made once: starting threads takes longer than a small batch."""
    return ThreadPoolExecutor(threads)


if hasattr(os, "register_at_fork"):                                   # threads do not survive a fork
    os.register_at_fork(after_in_child=_pool.cache_clear)


class Workers:
    """Run tasks on several threads at the same time.

    Parameters
    ----------
    threads : int, optional
        Number of threads (default: the cores this process may use).

    Raises
    ------
    ValueError
        If `threads` is not a whole number of at least 1.

    Examples
    --------
    >>> Workers(2).map(abs, [-1, 2, -3])
    [1, 2, 3]
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads: int = (available_threads() if threads is None
                             else check_number("number of threads", threads, least=1, whole=True))
        keep_freed_memory()

    def map(self, task: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Return [task(item) for item in items]. Tasks run at the same time; any thread takes the next item.

        An exception in a task is raised here.
        """
        return [task(item) for item in items] if self.threads == 1 else list(_pool(self.threads).map(task, items))
