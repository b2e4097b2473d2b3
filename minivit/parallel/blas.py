"""How many threads BLAS uses for each matrix product.

BLAS is the library that computes NumPy's matrix products; usually OpenBLAS or MKL. By default it splits every product
among all cores. A lane sets BLAS to one thread instead, because the lanes themselves already run on all cores (see
`lanes.py`).
"""

import warnings
from contextlib import AbstractContextManager
from functools import cache

import threadpoolctl


@cache
def _libraries():
    """Return the controller of the loaded libraries' threads. Look them up once; warn if BLAS cannot be limited."""
    controller = threadpoolctl.ThreadpoolController()
    if not controller.select(user_api="blas").lib_controllers:
        warnings.warn("this BLAS cannot be limited to one thread, so results may depend on the number of threads",
                      stacklevel=3)
    return controller


def blas_threads(threads: int) -> AbstractContextManager:
    """Return a context manager within which BLAS uses this number of threads for each matrix product."""
    return _libraries().limit(limits=threads, user_api="blas")
