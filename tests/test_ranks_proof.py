"""The promise of training on several ranks: whatever happens, the weights have the bits of one undisturbed process."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest
from mpi_jobs import Job, linux, no_job_is_left, program, result_of, with_mpi  # noqa: F401

import minivit

DATA = {
    "digits": {},
    "fashion-mnist": {"model": {"image_size": 28, "patch_size": 7}, "settings": {
        "epochs": 0.05, "augment": "crop:0.07,alternating-flip", "ema": 0.998}},
}
# so that a kill comes during the training
SLOWER = ("from minivit.training.trainer import Trainer\nstep = Trainer.step\n"
          "Trainer.step = lambda *a, **k: (time.sleep(0.5), step(*a, **k))[1]")
pytestmark = [pytest.mark.slow, linux]
on_each_data_set = pytest.mark.parametrize("data", DATA)


@cache
def is_there(data):
    try:
        minivit.load_data(data)
    except OSError:                                                   # also ConnectionError
        return False
    return True


def job_on(data, ranks, folder, mode, before=""):
    """Train on some ranks; one rank is a process without MPI."""
    if not is_there(data):
        pytest.skip(f"{data} is not there")
    return Job(ranks, *program(before, data=data, **DATA[data]), folder, mode)


def kill_one(job, ranks, delay, victim):
    """Kill a rank, a while after all of them run -> whether it still ran."""
    deadline = time.monotonic() + 300
    while len(job.pids()) < ranks and job.process.poll() is None:
        assert time.monotonic() < deadline
    time.sleep(delay)
    pid = job.pids().get(victim)
    if pid is None or job.process.poll() is not None:
        return False
    os.kill(pid, signal.SIGKILL)
    return True


def sha(folder):
    return sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@with_mpi
@on_each_data_set
def test_the_sha256_is_the_same_on_1_2_3_4_ranks_and_after_kills_with_other_numbers_of_ranks(tmp_path, data):
    found = {}
    for ranks in (1, 2, 3, 4):
        folder = tmp_path / f"{ranks} ranks"
        code, _, err = job_on(data, ranks, folder, "new").end()
        assert code == 0, err
        found[folder.name] = sha(folder)
    folder, mode = tmp_path / "4, killed, 3, killed, 2 ranks", "new"
    for ranks in (4, 3):
        job = job_on(data, ranks, folder, mode, SLOWER)
        job.wait_for(folder / "checkpoint.safetensors")
        assert kill_one(job, ranks, 1.0, ranks - 2)
        assert job.end(60)[0] != 0
        mode = "resume"
    assert not (folder / "model.safetensors").exists()
    code, _, err = job_on(data, 2, folder, mode).end()
    assert code == 0, err
    found[folder.name] = sha(folder)
    print("", *(f"{data}, {name}: {digest}" for name, digest in found.items()), sep="\n")
    assert len(set(found.values())) == 1
    assert result_of(folder) == result_of(tmp_path / "1 ranks")


@with_mpi
@on_each_data_set
def test_twenty_kills_of_random_ranks_at_random_moments_change_nothing(tmp_path, data):
    assert job_on(data, 1, tmp_path / "undisturbed", "new").end()[0] == 0
    draw, kills, mode, folder = random.Random(0), [], "new", tmp_path / "killed"
    while len(kills) < 20:
        ranks = draw.choice([2, 3, 4])
        victim, job = draw.randrange(ranks), job_on(data, ranks, folder, mode, SLOWER)
        job.wait_for(folder / "checkpoint.safetensors")
        if not kill_one(job, ranks, draw.uniform(0, 3), victim):      # it has finished
            break
        kills, mode = [*kills, f"{victim} of {ranks}"], "resume"
        code, _, err = job.end(60)
        assert code != 0 or (folder / "model.safetensors").exists(), err
    assert len(kills) == 20
    assert job_on(data, 1, folder, "resume").end()[0] == 0
    print(f"\n{data}, killed ranks: {', '.join(kills)}", f"undisturbed: {sha(tmp_path / 'undisturbed')}",
          f"20 kills:    {sha(folder)}", sep="\n")
    assert result_of(folder) == result_of(tmp_path / "undisturbed")


DEMO = Path(__file__).parents[1] / "demos" / "19_several_machines.py"
NUMBER = r"\d+(?:\.\d+)?"


@with_mpi
@pytest.mark.parametrize(("ranks", "options", "lines"), [
    (2, ["--overlap", "--lanes", "4"], [
        rf"the sum begins during the backward: +{NUMBER} ms a step, half of them .* to .* ms; {NUMBER} ms of .* time",
        rf"the sum begins after the backward : +{NUMBER} ms a step, .*"]),
    (3, ["--overlap", "--sleep", "0.02", "0.01"], [
        rf"the sum begins during the backward: +{NUMBER} ms a step, .*",
        rf"the sum begins after the backward : +{NUMBER} ms a step, .*"]),
    (2, ["--memory", "--images", "20000"], [
        r"20,000 images of 32x32x3 pixels: 59 MB; .*", r"before .*", r"its share .*", r"its share, after .*",
        r"all images .*", r"all images, after .*"]),
    (1, ["--speed"], [
        rf"1 process of 2 threads +{NUMBER} ms a step, +{NUMBER} ms of processor time", r"2 ranks of 1 thread +.*",
        rf"speed of the ranks against the process: {NUMBER} of it by the clock, {NUMBER} by processor time .*"]),
], ids=["overlap", "sleep", "memory", "speed"])
def test_the_measurements_of_the_demo_run(tmp_path, ranks, options, lines):
    if ranks == 1:                                                    # it starts its ranks itself
        run = subprocess.run([sys.executable, DEMO, "--quick", *options], capture_output=True, text=True, cwd=tmp_path)
        code, out, err = run.returncode, run.stdout, run.stderr
    else:
        code, out, err = Job(ranks, DEMO, "--quick", *options, folder=tmp_path).end()
    assert code == 0, err
    printed = out.splitlines()
    assert len(printed) == len(lines)
    assert [line for pattern, line in zip(lines, printed, strict=True) if not re.fullmatch(pattern, line)] == []
    if options[0] == "--memory":                                      # 59 MB less in each rank
        (_, share, _, everything, _) = [[float(n) for n in re.findall(r"(\d+) \+", line)] for line in printed[1:]]
        assert min(b - a for a, b in zip(share, everything, strict=True)) > 40
