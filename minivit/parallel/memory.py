"""Keep freed memory for the next step, because fresh memory is slow.

Every training step allocates and frees arrays of the same sizes. By default, the C library glibc returns large freed
arrays to the operating system. The next step then gets fresh pages, which the system first fills with zeros. That
takes longer than computing what is written to them. The function below makes glibc keep freed memory instead.
"""

from functools import cache

from .libc import c_library


@cache
def keep_freed_memory() -> None:
    """Make glibc keep freed memory, once for this process. Other C libraries keep their own policy.

    All threads share one arena (glibc's pool of memory), because the other arenas return memory whatever the
    thresholds say.
    """
    try:
        mallopt = c_library().mallopt
    except (AttributeError, OSError, TypeError):                      # not glibc
        return
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8            # option numbers from malloc.h
    mallopt(arena_max, 1)
    mallopt(mmap_threshold, 32 << 20)                                 # bytes: the largest value that glibc accepts
    mallopt(trim_threshold, 1 << 30)
