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
    alone, several = item.get_closest_marker("alone") is not None, hasattr(item.config, "workerinput")
    with turn(Path(item.config.option.basetemp).parent, alone) if several else nullcontext():
        return (yield)


@contextmanager
def turn(folder, alone):
    """Hold a lock in a folder, alone or shared. Who waits for it keeps the entrance shut, so that nobody overtakes."""
    if fcntl is None:
        yield
        return
    with open(folder / "turn", "w") as lock, open(folder / "entrance", "w") as entrance:
        fcntl.flock(entrance, fcntl.LOCK_EX)
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(entrance, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)                          # a process that the test forked holds it too
