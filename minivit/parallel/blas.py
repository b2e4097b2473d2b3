"""How many threads BLAS uses for each matrix product."""

import warnings
from functools import cache

import threadpoolctl


@cache
def _libraries():
    """The thread pools of the libraries loaded, looked up once; warns if BLAS cannot be told how many threads to use."""
    controller = threadpoolctl.ThreadpoolController()
    if not controller.select(user_api="blas").lib_controllers:
        warnings.warn("this BLAS cannot be limited to one thread, so results may depend on the number of threads", stacklevel=3)
    return controller


def blas_threads(threads):
    """A context in which BLAS runs each product on so many threads."""
    return _libraries().limit(limits=threads, user_api="blas")
