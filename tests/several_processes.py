"""Hooks of pytest: the whole suite in several processes of pytest-xdist, and tests that run alone in them.

`pytest` without a file runs all tests in one process for each core, if pytest-xdist is installed. `pytest -n 0` runs
them in one process; so do `--pdb` and, without `-n`, the name of a file. A test marked `alone` measures time: the
other processes wait for it.
"""

import os
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

try:
    import fcntl
except ImportError:                                                   # on Windows tests marked `alone` have company
    fcntl = None

# The locked files are only read: these two exist, and belong to this checkout.
LOCKS = Path(__file__), Path(__file__).with_name("conftest.py")
PROCESSES = 4                                                         # at most: a training has threads of its own


@pytest.hookimpl(tryfirst=True)                                       # before pytest-xdist reads its options
def pytest_cmdline_main(config):
    """Choose the options of pytest-xdist for the whole suite, unless there is a choice or only one core."""
    option, inside = config.option, hasattr(config, "workerinput")
    if inside or option.usepdb or config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    if getattr(option, "numprocesses", 0) is None and not option.tx:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if cores > 1:
            option.numprocesses = min(cores, PROCESSES)
            option.dist = "worksteal"                                 # tests of a file stay together, for its fixtures


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Let a test marked `alone` run while no other process runs one."""
    several = hasattr(item.config, "workerinput")
    with turn(item.get_closest_marker("alone") is not None) if several else nullcontext():
        return (yield)


@contextmanager
def turn(alone, locks=LOCKS):
    """Hold a lock alone, or shared with other processes. Whoever waits for it shuts the entrance behind him.

    locks: two files, the lock and the entrance.
    """
    if fcntl is None:
        yield
        return
    with open(locks[0]) as lock, open(locks[1]) as entrance:
        fcntl.flock(entrance, fcntl.LOCK_EX)
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(entrance, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)                          # a process that the test forked holds it too
