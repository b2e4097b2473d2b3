"""The C library of this process, for functions that Python does not offer."""

import ctypes
from functools import cache


@cache
def c_library() -> ctypes.CDLL:
    """Return the C library. Raise OSError or TypeError where it cannot be loaded, as on Windows."""
    return ctypes.CDLL(None)
