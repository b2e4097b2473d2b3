"""A test marked `alone` runs while no other one does, and soon; the whole suite runs in several processes."""

import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from several_processes import turn

pytest.importorskip("fcntl")


def test_turns_are_shared_but_for_those_alone(tmp_path):
    events, end = [], time.monotonic() + 20

    def company(name):
        while "alone ends" not in events and time.monotonic() < end:  # one of both is always there
            with turn(tmp_path, alone=False):
                events.append(f"{name} begins")
                time.sleep(0.02)
                events.append(f"{name} ends")

    def alone():
        with turn(tmp_path, alone=True):
            events.append("alone begins")
            time.sleep(0.1)
            events.append("alone ends")

    others = [threading.Thread(target=company, args=(name,)) for name in "ab"]
    for thread in others:
        thread.start()
    time.sleep(0.2)
    alone()
    for thread in others:
        thread.join()
    first = events.index("alone begins")
    assert events[first + 1] == "alone ends"
    for name in "ab":                                                 # nobody else is there when it begins
        before = [event for event in events[:first] if event.startswith(name)]
        assert before[-1] == f"{name} ends"
    pairs = [*itertools.pairwise(events)]
    assert ("a begins", "b begins") in pairs or ("b begins", "a begins") in pairs


def test_the_whole_suite_runs_in_several_processes_and_a_file_in_one(tmp_path):
    pytest.importorskip("xdist")
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = tests\nmarkers = alone\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "conftest.py").write_text(
        "from several_processes import pytest_cmdline_main, pytest_runtest_protocol\n")
    (tmp_path / "tests" / "test_mine.py").write_text(
        "import os, pytest\n@pytest.mark.alone\ndef test_mine():\n    assert 'PYTEST_XDIST_WORKER' in os.environ\n")
    program = "import os, sys, pytest; os.sched_getaffinity = lambda _: range(2); pytest.main(sys.argv[1:])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}

    def run(*arguments):
        return subprocess.run([sys.executable, "-c", program, "-q", *arguments], cwd=tmp_path, text=True, timeout=120,
                              capture_output=True, env=environment | {"PYTHONPATH": str(Path(__file__).parent)}).stdout

    assert "1 passed" in run()
    assert "1 failed" in run("tests/test_mine.py")
    assert "1 failed" in run("-n", "0")
