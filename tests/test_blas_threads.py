"""The number of BLAS's threads: the smallest that anybody asks for, and the old number when nobody asks."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import threadpoolctl

import minivit
from minivit.parallel import blas
from minivit.parallel.blas import blas_threads

BLAS = threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers
pytestmark = pytest.mark.skipif(not BLAS, reason="NumPy's BLAS cannot be limited")


@pytest.fixture(autouse=True)
def four():
    """BLAS with four threads."""
    with threadpoolctl.threadpool_limits(4, user_api="blas"):
        yield


def now():
    """How many threads BLAS uses."""
    return max(library.get_num_threads() for library in BLAS)


def test_the_smallest_number_counts_whatever_the_order_of_the_ends():
    first, second, third = (blas_threads(n) for n in (3, 1, 2))
    seen = [now()]
    for step in (first.__enter__, second.__enter__, third.__enter__, lambda: first.__exit__(None, None, None),
                 lambda: second.__exit__(None, None, None), lambda: third.__exit__(None, None, None)):
        step()
        seen.append(now())
    assert seen == [4, 3, 1, 1, 1, 2, 4]


def test_an_exception_ends_the_request():
    def fail():
        with blas_threads(1), blas_threads(2):
            seen.append(now())
            raise KeyError

    seen = []
    with pytest.raises(KeyError):
        fail()
    assert (seen, now()) == ([1], 4)


def test_predictions_from_many_threads_leave_the_number_as_it_was():
    model = minivit.create_model("vit", image_size=8, patch_size=4, channels=1, classes=3, width=16, depth=1, heads=2)
    rng = np.random.default_rng(0)
    batches = [rng.random((n, 8, 8, 1), np.float32) for n in rng.integers(1, 40, 60)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda batch: model.predict(batch, threads=2), batches))
    assert now() == 4
    assert blas._ASKED.numbers == {}


def test_a_limit_of_threadpoolctl_around_it_is_restored():
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        with blas_threads(1):
            assert now() == 1
        assert now() == 2
    assert now() == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize(("here", "expected"), [(None, 4), (2, 2)], ids=["nobody", "the forking thread"])
def test_a_forked_process_hears_only_the_thread_that_forked(here, expected):
    asked, end = threading.Event(), threading.Event()

    def other():
        with blas_threads(1):
            asked.set()
            end.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    asked.wait(60)
    try:
        context = blas_threads(here) if here else None
        if context:
            context.__enter__()
        child = os.fork()
        if not child:
            os._exit(now())                                           # the number as the status
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == expected
        if context:
            context.__exit__(None, None, None)
    finally:
        end.set()
        thread.join()
    assert now() == 4
