"""How many threads BLAS uses for each matrix product.

BLAS is the library that computes NumPy's matrix products; usually OpenBLAS or MKL. By default it splits every product
among all cores. A lane sets BLAS to one thread instead, because the lanes themselves already run on all cores (see
`lanes.py`).

The number belongs to the whole process. Several threads of a program may train and predict at the same time, and they
end in any order. So all that ask are noted: BLAS uses the smallest number that anybody asks for. When nobody asks any
more, it uses again what it used before the first one asked.
"""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import threadpoolctl


@cache
def _libraries() -> list[Any]:
    """Return the controllers of the BLAS libraries that are loaded at the first call. Warn if there is none."""
    found = threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers
    if not found:
        warnings.warn("this BLAS cannot be limited to one thread, so results may depend on the number of threads",
                      stacklevel=4)
    return found


class _Asked:
    """Who asks for how many threads, and how many each library used before."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.numbers: dict[object, tuple[int, int]] = {}              # of each context: its thread, and its number
        self.before: list[int] = []

    def add(self, key: object, threads: int) -> None:
        """Note that the context `key` asks for some threads."""
        with self.lock:
            if not self.numbers:
                self.before = [library.get_num_threads() for library in _libraries()]
            self.numbers[key] = threading.get_ident(), threads
            self._set()

    def remove(self, key: object) -> None:
        """Note that the context `key` asks no more."""
        with self.lock:
            del self.numbers[key]
            self._set()

    def forget_other_threads(self) -> None:
        """After a fork: the other threads do not exist in the child, so they ask no more."""
        self.lock, here = threading.Lock(), threading.get_ident()
        self.numbers = {key: item for key, item in self.numbers.items() if item[0] == here}
        if self.before:
            self._set()

    def _set(self):
        asked = min((threads for _, threads in self.numbers.values()), default=None)
        for library, before in zip(_libraries(), self.before, strict=True):
            threads = before if asked is None else asked
            if library.get_num_threads() != threads:
                # Newer versions of threadpoolctl let one thread of the program set a number, and ignore all others.
                getattr(library, "_real_set_num_threads", library.set_num_threads)(threads)


_ASKED = _Asked()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ASKED.forget_other_threads)


@contextmanager
def blas_threads(threads: int) -> Iterator[None]:
    """Within this context, BLAS uses this number of threads for each matrix product, or fewer if others ask for fewer.

    Parameters
    ----------
    threads : int
    """
    key = object()
    _ASKED.add(key, threads)
    try:
        yield
    finally:
        _ASKED.remove(key)
