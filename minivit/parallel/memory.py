"""Freed memory is kept for the next step."""

import ctypes
from functools import cache


@cache
def c_library():
    """The C library. Raises OSError or TypeError where it cannot be had."""
    return ctypes.CDLL(None)


@cache
def keep_freed_memory():
    """Let the C library keep freed arrays for the next step instead of returning their pages to the system.

    Every step allocates arrays of the same sizes. By default glibc returns large ones at once, and the
    next step pays for fresh zeroed pages, which takes longer than to compute what is written to them. Threads are kept to one
    arena, because the others give their pages back whatever the thresholds say.
    """
    try:
        mallopt = c_library().mallopt
    except (AttributeError, OSError, TypeError):  # not glibc: its own policy stays
        return
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8
    mallopt(arena_max, 1)
    mallopt(mmap_threshold, 32 << 20)  # the largest that glibc accepts
    mallopt(trim_threshold, 1 << 30)
