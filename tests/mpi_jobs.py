"""Programs on several ranks of MPI, for tests. Whatever a test leaves running is ended after it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
RANK = "import os\nrank = int(os.environ.get('PMI_RANK') or os.environ['OMPI_COMM_WORLD_RANK'])\n"
TINY = {"image_size": 8, "patch_size": 4, "channels": 1, "classes": 10, "width": 16, "depth": 1, "heads": 2,
        "mlp_ratio": 2, "drop_rate": 0.1, "drop_path_rate": 0.1}
SETTINGS = {"epochs": 2, "batch_size": 64, "lanes": 4, "augment": "affine,mixup:1:0.5,flip", "ema": 0.9,
            "optimiser": "muon", "val_fraction": 0.2, "patience": 5}
SAY_READY = "os.write(1, b'ready\\n')"  # one write: the lines of two ranks do not mix, with PYTHONUNBUFFERED neither
# a program for each rank; `before` runs before the training, where `rank` is the number of the rank
PROGRAM = """
import os, signal, sys, time
import minivit
from mpi4py import MPI

rank = MPI.COMM_WORLD.Get_rank()
{before}
settings = {settings}
if sys.argv[2] == "resume":
    settings = {{"resume": True}}
model = minivit.create_model("vit", **{model})
result = minivit.train(model, {data!r}, out=sys.argv[1], mpi=MPI.COMM_WORLD if MPI.COMM_WORLD.Get_size() > 1 else None,
                       progress=False, threads={threads}, checkpoint_steps=1, **settings)
"""
_started: list["Job"] = []


def with_mpi(test):
    """Mark a test that starts ranks. They wait for each other by asking all the time, so it runs alone."""
    return pytest.mark.alone(test) if MPIEXEC else pytest.mark.skip(reason="needs mpiexec")(test)


def program(before="", settings=None, threads=1, data="digits", model=None):
    """Return the arguments that run PROGRAM."""
    return "-c", PROGRAM.format(before=before, settings=SETTINGS | (settings or {}), model=TINY | (model or {}),
                                threads=threads, data=data)


def result_of(folder):
    """Return the bytes of the weights, and the log without the durations."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return (folder / "model.safetensors").read_bytes(), [{k: v for k, v in r.items() if k != "seconds"}
                                                         for r in records]


class Job:
    """Python on some ranks.

    Parameters
    ----------
    ranks : int
    arguments : str or Path
        Of Python.
    folder : Path, optional
        Where the ranks run.
    variables : str
        Of their environment.
    """

    def __init__(self, ranks, *arguments, folder=None, **variables):
        pytest.importorskip("mpi4py")
        self.name = uuid4().hex
        self.process = subprocess.Popen(
            [MPIEXEC, "-n", str(ranks), sys.executable, *arguments], text=True, cwd=folder, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=os.environ | variables | {"MINIVIT_TEST_JOB": self.name})
        _started.append(self)

    def end(self, seconds=300):
        """Wait for the end -> (exit code, output, errors)."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err

    def wait_for(self, file, seconds=300):
        """Wait until a file is there."""
        deadline = time.monotonic() + seconds
        while not file.exists():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def pids(self):
        """Return {rank: process id} of the ranks that run."""
        found = {}
        for pid, variables in self._processes():
            rank = variables.get("PMI_RANK") or variables.get("OMPI_COMM_WORLD_RANK")
            words = _read(pid, "cmdline")
            if rank and words[0] == sys.executable and "-S" not in words:     # not the small process of the obituary
                found[int(rank)] = pid
        return found

    def _processes(self):
        """Yield (process id, environment) of every process of this job."""
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                variables = dict(item.split("=", 1) for item in _read(folder.name, "environ") if "=" in item)
                if variables.get("MINIVIT_TEST_JOB") == self.name:
                    yield int(folder.name), variables

    def kill(self):
        """End all its processes, if any still run: without mpiexec, the ranks of some libraries would go on."""
        for pid in [pid for pid, _ in self._processes()]:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.communicate()


def _read(pid, file):
    """The items of a file of /proc that a zero byte separates."""
    return Path("/proc", str(pid), file).read_text().split("\0")


def run(ranks, *arguments, folder=None, **variables):
    """Run Python on some ranks, and return exit code, output, the lines of the errors that are ours, and all errors."""
    code, out, err = Job(ranks, *arguments, folder=folder, **variables).end()
    return code, out, [line for line in err.splitlines() if line.startswith("minivit: ")], err


@pytest.fixture(autouse=True)
def no_job_is_left():
    """End what a test has left running, for example after a timeout."""
    yield
    while _started:
        job = _started.pop()
        if job.process.returncode is None:
            job.kill()
