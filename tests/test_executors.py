"""Studies on any executor: processes, loky, Dask, MPI. A worker that dies costs its point only."""

import os
import re
import subprocess
import sys
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest
from mpi_jobs import MPIEXEC, Job, no_job_is_left, with_mpi  # noqa: F401

from minivit.explain import Study
from minivit.explain.tools.side_by_side import lost, side_by_side

# a program whose function `measure` kills its process for seed 2, once or always, and is slow for seed 0
PROGRAM = """
import os, pathlib, sys, time
from minivit.explain import Study

folder, deadly = pathlib.Path(os.environ["FOLDER"]), os.environ["DEADLY"]

def measure(seed):
    mark = folder / f"seed-{{seed}}"
    again = mark.exists()
    mark.touch()
    if seed == 2 and (deadly == "always" or deadly == "once" and not again):
        time.sleep(0.5)
        os.kill(os.getpid(), 9)
    time.sleep(3 * (seed == 0))
    return {{"accuracy": seed / 7, "process": os.getpid()}}

def run(**how):
    study = Study(folder / "t.csv", {{}})
    try:
        study.run([{{"seed": seed}} for seed in range(6)], measure, **how)
    except OSError as error:
        print("error:", error)
    print(sorted(study.by_seed("accuracy")), len(set(study.by_seed("process").values())))

if __name__ == "__main__":
    {start}
"""
STARTS = {
    "processes": "run(jobs=2)",
    "loky": "import loky; run(executor=lambda: loky.get_reusable_executor(2))",
    "dask": """
    from dask.distributed import Client
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        run(executor=client.get_executor())""",
}


def run(folder, kind, deadly, *launcher):
    """Run PROGRAM with an executor -> (seeds in the table, number of processes that measured, what it printed)."""
    file = folder / "study.py"
    file.write_text(PROGRAM.format(start=STARTS.get(kind, kind)))
    done = subprocess.run([*launcher, file], capture_output=True, text=True, timeout=100,
                          env=os.environ | {"FOLDER": str(folder), "DEADLY": deadly})
    found = re.search(r"^\[(.*)\] (\d+)$", done.stdout, re.MULTILINE)
    assert found, done.stderr
    return [int(float(seed)) for seed in found[1].split(", ") if seed], int(found[2]), done.stdout


@pytest.fixture(params=STARTS)
def kind(request):
    if request.param == "loky":
        pytest.importorskip("loky")
    if request.param == "dask":
        pytest.importorskip("distributed")
    return request.param


def test_all_points_are_measured_by_several_processes(tmp_path, kind):
    seeds, processes, _ = run(tmp_path, kind, "never", sys.executable)
    assert seeds == [0, 1, 2, 3, 4, 5]
    assert processes == 2


def test_a_worker_that_dies_costs_its_point_only_which_the_next_run_measures(tmp_path, kind):
    seeds, _, printed = run(tmp_path, kind, "always", sys.executable)
    assert seeds == [0, 1, 3, 4, 5]
    assert re.search(r"error: a process was killed while it measured a point.*: 1 point of 6 lost, the others are in "
                     r".*t\.csv: run again", printed)
    assert run(tmp_path, kind, "never", sys.executable)[0] == [0, 1, 2, 3, 4, 5]


def test_a_point_whose_worker_died_by_chance_is_measured_again(tmp_path, kind):
    seeds, _, printed = run(tmp_path, kind, "once", sys.executable)
    assert seeds == [0, 1, 2, 3, 4, 5]
    assert "error" not in printed


@with_mpi
def test_points_run_on_the_ranks_of_mpi_and_an_interrupted_study_goes_on(tmp_path):
    pytest.importorskip("mpi4py")
    start = "from mpi4py.futures import MPIPoolExecutor\n    with MPIPoolExecutor() as p:\n        run(executor=p)"
    launcher = MPIEXEC, "-n", "3", sys.executable, "-m", "mpi4py.futures"
    file = tmp_path / "study.py"
    file.write_text(PROGRAM.format(start=start))
    killed = Job(3, "-m", "mpi4py.futures", file, FOLDER=str(tmp_path), DEADLY="once")
    assert killed.end(100)[0] != 0                                    # MPI ends all ranks if one is killed
    kept = [row["seed"] for row in Study(tmp_path / "t.csv", {}).rows] if (tmp_path / "t.csv").exists() else []
    assert 2 not in kept
    seeds, processes, _ = run(tmp_path, start, "once", *launcher)
    assert seeds == [0, 1, 2, 3, 4, 5]
    assert processes >= 2 or kept


# ---- without processes --------------------------------------------------------------------------------------------


class Inline(Executor):
    """Runs each call at once, and counts how many there were."""

    def __init__(self):
        self.calls, self.closed = 0, False

    def submit(self, function, /, *arguments):
        self.calls += 1
        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.closed = True


def test_an_executor_of_the_caller_stays_open_and_one_that_was_made_is_closed():
    for keep in (True, False):
        pool = Inline()
        found = dict(side_by_side([1, 2, 3], lambda x: x * x, lambda pool=pool: pool, keep=keep))
        assert found == {1: 1, 2: 4, 3: 9}
        assert (pool.calls, pool.closed) == (3, not keep)


def test_at_most_jobs_points_run_at_once():
    running, most = set(), []

    def work(x):
        running.add(x)
        most.append(len(running))
        running.discard(x)
        return x

    with ThreadPoolExecutor(8) as pool:
        assert sorted(side_by_side(range(20), work, lambda: pool, jobs=1)) == [(x, x) for x in range(20)]
    assert max(most) == 1


def test_an_executor_that_is_broken_and_not_renewed_loses_the_points_that_are_left():
    from concurrent.futures import BrokenExecutor

    class Broken(Inline):
        def submit(self, function, /, *arguments):
            if self.calls == 2:
                raise BrokenExecutor
            return super().submit(function, *arguments)

    pool = Broken()
    assert dict(side_by_side([1, 2, 3, 4], abs, lambda: pool, jobs=1)) == {1: 1, 2: 2, 3: lost, 4: lost}
    pools = [Broken(), Broken()]
    assert dict(side_by_side([1, 2, 3, 4], abs, iter(pools).__next__, jobs=1)) == {1: 1, 2: 2, 3: 3, 4: 4}
    assert [pool.calls for pool in pools] == [2, 2]
