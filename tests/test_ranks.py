"""Training on several ranks of MPI: the same bits on any number of them, and one clear line if one fails."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
from mpi_jobs import (
    RANK,
    SAY_READY,
    SETTINGS,
    TINY,
    Job,
    linux,
    no_job_is_left,  # noqa: F401
    program,
    result_of,
    run,
    with_mpi,
)

import minivit
from minivit.parallel import prediction
from minivit.parallel.ranks.alone import ALONE
from minivit.parallel.ranks.mpi import ranks_of
from minivit.parallel.ranks.obituary import Obituary
from minivit.training_pipeline.folder import RunFolder

VERB = ["-m", "minivit", "train", "digits", "--mpi", "-q", "--threads", "1"]


def command(before):
    """Return the arguments that run the command line, after some statements."""
    return "-c", f"{before}\nimport sys\nfrom minivit.cli import main\nsys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def one_process(tmp_path_factory, no_curve):
    folder = tmp_path_factory.mktemp("one") / "run"
    minivit.train(minivit.create_model("vit", **TINY), "digits", out=folder, progress=False, threads=2, **SETTINGS)
    return result_of(folder)


# ---- the same bits ------------------------------------------------------------------------------------------------


@with_mpi
@pytest.mark.parametrize(("ranks", "threads"), [(2, 1), (3, 2), (4, 1)])
def test_the_weights_and_the_log_have_the_same_bits_on_any_number_of_ranks(one_process, tmp_path, ranks, threads):
    code, _, _, err = run(ranks, *program(threads=threads), tmp_path / "run", "new")
    assert code == 0, err
    assert result_of(tmp_path / "run") == one_process


def kill(folder, ranks, victim, mode, delay, number=signal.SIGKILL):
    """Train on some ranks and send a signal to one of them, a while after the first checkpoint -> (code, lines)."""
    job = Job(ranks, *program(), folder, mode)
    job.wait_for(folder / "checkpoint.safetensors")
    time.sleep(delay)
    with suppress(ProcessLookupError, KeyError):
        os.kill(job.pids()[victim], number)
    sent = time.monotonic()
    code, _, err = job.end(60)
    lines = [line for line in err.splitlines() if line.startswith("minivit: error")]
    return code, lines, time.monotonic() - sent


@with_mpi
@linux
def test_a_killed_rank_ends_all_with_one_line_and_other_ranks_resume_to_the_same_bits(one_process, tmp_path):
    code, lines, seconds = kill(tmp_path / "run", 3, 1, "new", 0.05)
    assert code != 0
    assert seconds < 5
    assert lines == ["minivit: error: one of the 3 ranks was killed; the last checkpoint is good; resume with: "
                     f"minivit.train(model, data, out={str(tmp_path / 'run')!r}, resume=True)"]
    code, _, _, err = run(2, *program(), tmp_path / "run", "resume")
    assert code == 0, err
    assert result_of(tmp_path / "run") == one_process


@with_mpi
@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_one_rank_saves_and_stops_all_after_the_same_step(one_process, tmp_path, number):
    job = Job(3, *VERB, "--epochs", "1", "--batch-size", "8", "--lanes", "4", "--checkpoint-steps", "1",
              "--out", tmp_path / "run")
    job.wait_for(tmp_path / "run" / "checkpoint.safetensors")
    os.kill(job.pids()[2], number)
    code, out, err = job.end(60)
    assert code == 128 + number
    assert out == ""
    words = rf"minivit: stopped by {number.name} after step (\d+), which is saved; resume with: (.*)"
    [line] = [line for line in err.splitlines() if line.startswith("minivit: ")]
    step, resume = re.fullmatch(words, line).groups()
    assert resume == f"mpiexec -n 3 minivit train digits --out {tmp_path / 'run'} --resume --mpi"
    assert RunFolder(tmp_path / "run").read_position()[0] == int(step)


# ---- other kinds of training --------------------------------------------------------------------------------------


def command_line(tmp_path, ranks, out, *options, data="digits"):
    """Run `minivit train` on some ranks, or in one process without MPI -> what is in its folder."""
    words = ["-m", "minivit", "train", data, "-q", "--threads", "1", "--out", tmp_path / out, *options]
    code, _, err = Job(ranks, *words, *(["--mpi"] if ranks > 1 else []), folder=tmp_path).end()
    assert code == 0, err
    return result_of(tmp_path / out)


@with_mpi
def test_a_linear_probe_has_the_same_bits_on_ranks_and_after_a_resume_with_another_number(tmp_path, no_curve):
    minivit.train(minivit.create_model("vit", **TINY), "digits", out=tmp_path / "start", progress=False, **SETTINGS)
    probe = "--fine-tune", tmp_path / "start", "--probe", "--epochs", "3", "--lanes", "4", "--val-fraction", "0.2"
    one = command_line(tmp_path, 1, "one", *probe)
    assert command_line(tmp_path, 3, "three", *probe) == one
    assert RunFolder(tmp_path / "three").settings["probe"]
    stop = ("from minivit.training_pipeline.pretrained import probe_features as p\nold, calls = p._Store.add, []\n"
            "def new(*a):\n    old(*a)\n    calls.append(0)\n    if len(calls) == 2: os.kill(os.getpid(), 15)\n"
            "p.BLOCK_ROWS, p._Store.add = 1000, new")
    code, _, lines, err = run(2, *command(f"{RANK}{stop}"), "train", "digits", "-q", "--mpi", "--out", "two", *probe,
                              folder=tmp_path)
    assert code == 128 + signal.SIGTERM, err
    assert len(lines) == 1
    assert re.search(r"stopped after the features of \d+ of \d+ images, which are saved; resume with: mpiexec -n 2 "
                     "minivit train digits --out two --resume --mpi", lines[0])
    assert command_line(tmp_path, 4, "two", "--resume") == one


@with_mpi
def test_minutes_fix_the_same_number_of_steps_on_all_ranks(tmp_path, no_curve):
    settings = {name: value for name, value in SETTINGS.items() if name not in ("epochs", "patience")}
    code, out, _, err = run(3, *program(settings={"epochs": None, "patience": None, "minutes": 0.02}), tmp_path / "run",
                            "new")
    assert (code, out) == (0, ""), err
    stored = RunFolder(tmp_path / "run").settings
    assert stored["epochs"] is None
    assert stored["steps"] >= 1
    steps_of_an_epoch = (1438 - 288) // 64
    minivit.train(minivit.create_model("vit", **TINY), "digits", out=tmp_path / "one", progress=False,
                  epochs=stored["steps"] / steps_of_an_epoch, **settings)
    assert RunFolder(tmp_path / "one").settings["steps"] == stored["steps"]
    assert result_of(tmp_path / "run") == result_of(tmp_path / "one")


@with_mpi
def test_a_finished_run_is_extended_on_another_number_of_ranks(tmp_path):
    wsd = "--schedule", "wsd", "--lanes", "4", "--model", "vit_mini", "--batch-size", "64"
    for out, first, second in (("one", 1, 1), ("ranks", 2, 3)):
        command_line(tmp_path, first, out, "--epochs", "1", *wsd)
        command_line(tmp_path, second, out, "--resume", "--epochs", "2")
    assert RunFolder(tmp_path / "ranks").settings["steps"] == 44
    assert result_of(tmp_path / "ranks") == result_of(tmp_path / "one")


# ---- the tests themselves -----------------------------------------------------------------------------------------


@with_mpi
@linux
def test_a_job_that_a_test_leaves_running_is_ended_with_its_ranks():
    job = Job(2, "-c", f"import os, time\nfrom mpi4py import MPI\n{SAY_READY}\ntime.sleep(100)")
    assert [job.process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
    assert sorted(job.pids()) == [0, 1]
    job.kill()
    assert job.pids() == {}
    assert job.process.returncode is not None


# ---- errors -------------------------------------------------------------------------------------------------------


@with_mpi
@pytest.mark.parametrize(("ranks", "options", "line"), [
    (1, [], "--mpi needs more than one rank, but there is one: start at least two with mpiexec -n 2, or leave out "
            "--mpi"),
    (3, ["--lanes", "2"], "there are more ranks than lanes: 3 ranks, and 2 lanes in each step; start at most 2 ranks, "
                          "or a new run with --lanes 3 or more"),
    (2, ["--lanes", "65"], "there are more lanes than images in a batch: --lanes 65, but 64 images: pass at most "
                           "--lanes 64, or larger batches"),
    (3, ["--foo"], r"unknown option --foo.*"),
    (2, ["--resume"], r"run is not a run.*"),
], ids=str)
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, ranks, options, line):
    code, out, lines, err = run(ranks, *VERB, "--out", "run", *options, folder=tmp_path)
    assert (code, out) == (2, "")
    assert len(lines) == 1, err
    assert re.fullmatch(f"minivit: error: {line}", lines[0])
    assert [*tmp_path.iterdir()] == []


@with_mpi
@pytest.mark.parametrize(("before", "line"), [
    ("import minivit.training_pipeline.same_everywhere as s\ns.code_digest = lambda: str(rank)",
     "rank 1 on .* has other code of minivit than rank 0 on .*: install the same version, from the same source, on all "
     "machines"),
    ("import minivit.training_pipeline.same_everywhere as s\ns.__version__ = str(rank)",
     r"rank 1 on .* has other code \(minivit 1, not 0\) than .*: install the same version on all machines"),
    ("import minivit, sys\nsys.argv += ['--lr', str(1 + rank)]",
     r"rank 1 on .* has other settings \(lr 2.0, not 1.0\) than .*: start all ranks with the same command"),
    ("import socket\nsocket.gethostname = lambda: f'host{rank}'\n"
     "import minivit.data.load as l\nold = l.load_npz\ndef new(*a, **k):\n    data = old(*a, **k)\n"
     "    data.train_images[0] += rank\n    return data\nl.load_npz = new",
     "rank 1 on host1 has other images or labels than rank 0 on host0: give all ranks the same files, .*"),
    ("from pathlib import Path\nold = Path.exists\n"
     "Path.exists = lambda self: old(self) and not (rank and 'minivit-images' in str(self))",
     "rank 1 of 2 on .*: rank 1 of 2 does not see /.*/minivit-images-.*/images of rank 0, although both are on a "
     "machine named .*: give each machine its own name, or set TMPDIR to a folder that all ranks of the machine see"),
    ("import resource\nimport minivit.training_pipeline.shared_data as s\nold = s.write_tensors\ndef new(*a):\n"
     "    resource.setrlimit(resource.RLIMIT_FSIZE, (9999, resource.RLIM_INFINITY))\n    old(*a)\n"
     "s.write_tensors = new",
     "/.*/minivit-images-.*/images: the images for all ranks cannot be written: File too large; set TMPDIR to another "
     "folder"),
    ("import os\nos.makedirs(str(rank), exist_ok=True)\nos.chdir(str(rank))",
     "rank 1 on .* does not see the folder run of rank 0 on .*: pass a folder that all ranks share as --out, with its "
     "whole path"),
    ("import sys\nsys.modules['mpi4py'] = None",
     r"--mpi needs the package mpi4py and a library of MPI \(.*\): pip install mpi4py mpich"),
    ("from minivit.training.trainer import Trainer\nold = Trainer.step\ndef new(self, *a, **k):\n"
     "    if self.optimiser.t == 3 and rank == 1:\n        raise MemoryError('no memory')\n"
     "    return old(self, *a, **k)\nTrainer.step = new",
     "rank 1 of 2 on .*: no memory.*"),
    ("from minivit.training.trainer import Trainer\nold = Trainer._update\ndef new(self, *a, **k):\n"
     "    old(self, *a, **k)\n    self.optimiser.vector[5] += rank * (self.optimiser.t == 3)\nTrainer._update = new",
     r"after step \d+, the weights of rank 1 differ from those of rank 0, although both did the same: .*"),
    ("from minivit.training_pipeline.folder import RunFolder\ndef new(*a):\n    raise OSError(28, 'No space', 'disk')\n"
     "RunFolder.write_checkpoint = new", "disk: No space"),
], ids=["code", "version", "settings", "data", "machine", "full", "folder", "mpi4py", "exception", "weights", "disk"])
def test_a_rank_that_differs_or_fails_ends_all_with_one_line(tmp_path, before, line):
    start = time.monotonic()
    code, out, lines, err = run(2, *command(RANK + before), *VERB[2:], "--epochs", "1", "--lanes", "4", "--out", "run",
                                folder=tmp_path)
    assert (code, out) == (2, "")
    assert len(lines) == 1, err
    assert re.fullmatch(f"minivit: error: {line}", lines[0])
    assert time.monotonic() - start < 40
    if "step" not in before and "RunFolder" not in before and "_update" not in before:
        assert [file for file in tmp_path.rglob("*") if file.is_file() or file.name == "run"] == []


@with_mpi
def test_a_machine_that_rounds_differently_is_a_warning(tmp_path, one_process):
    before = ("import minivit.training_pipeline.same_everywhere as s\n"
              "s.rounding = lambda: {'processor': str(rank), 'NumPy': '2'}")
    code, _, _, err = run(2, *program(before), tmp_path / "run", "new")
    assert code == 0, err
    assert err.count("has another processor than") == 1
    assert result_of(tmp_path / "run") == one_process


@with_mpi
def test_ranks_that_round_differently_take_the_weights_of_rank_0_after_each_epoch(tmp_path):
    before = ("import minivit.training_pipeline.same_everywhere as s\nfrom minivit.training.trainer import Trainer\n"
              "s.rounding = lambda: {'processor': str(rank)}\nold = Trainer._update\ndef new(self, *a, **k):\n"
              "    old(self, *a, **k)\n    self.optimiser.vector[5] += rank * 1e-3\nTrainer._update = new")
    _, text = program(before, {"epochs": 1})
    code, out, _, err = run(2, "-c", text + "print(float(result.model.vector[5]))", tmp_path / "run", "new")
    assert code == 0, err
    assert len(out.split()) == 2
    assert len(set(out.split())) == 1


@pytest.fixture(scope="module")
def half_a_run(tmp_path_factory, no_curve):
    """A run that was stopped after the first of its two epochs."""
    folder = tmp_path_factory.mktemp("half") / "run"

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        minivit.train(minivit.create_model("vit", **TINY), "digits", out=folder, progress=False, callback=stop,
                      **SETTINGS)
    return folder


@with_mpi
@pytest.mark.parametrize(("change", "words"), [
    ("loop.trainer.optimiser.t -= 1", r"\(of step 16, not 17\)"),
    ("loop.trainer.optimiser.vector[3] += 1", r"\(of step 17, too\)"),
], ids=["step", "weights"])
def test_ranks_that_read_different_checkpoints_end_with_one_line(half_a_run, tmp_path, change, words):
    shutil.copytree(half_a_run, tmp_path / "run")
    before = ("module = sys.modules['minivit.training_pipeline.train']\nold = module.restore\n"
              "def new(run, loop, write):\n    old(run, loop, write)\n"
              f"    if rank == 1:\n        {change}\nmodule.restore = new")
    code, _, _, err = run(2, *program("minivit.train\n" + before), tmp_path / "run", "resume")
    assert code != 0
    assert re.search(rf"ValueError: rank 1 on .* has read another checkpoint {words} than rank 0 on .*: its file "
                     "system shows old files of .*run; wait a minute, and resume again", err), err


@with_mpi
def test_a_wrong_folder_leaves_no_thread_and_no_obituary():
    code, out, _, err = run(2, "-c", "import minivit, threading\nfrom mpi4py import MPI\ntry:\n"
                            f"    minivit.train(minivit.create_model('vit', **{TINY}), 'digits', out=5, "
                            "mpi=MPI.COMM_WORLD)\nexcept TypeError:\n    print(threading.active_count())")
    assert (code, out.replace("\n", "")) == (0, "11"), err
    assert "killed" not in err


@with_mpi
def test_the_communicator_is_freed(tmp_path):
    before = ("from minivit.parallel.ranks.messages import Messages\nmade, old = [], Messages.__init__\n"
              "def new(self, comm):\n    old(self, comm)\n    made.append(self)\nMessages.__init__ = new")
    _, text = program(before, {"epochs": 1})
    code, out, _, err = run(2, "-c", text + "print([one.comm == MPI.COMM_NULL for one in made])", tmp_path / "run",
                            "new")
    assert (code, out.split()) == (0, ["[True]", "[True]"]), err


@with_mpi
@pytest.mark.parametrize("victim", [0, 1])
def test_an_error_in_a_thread_that_adds_gradients_leaves_no_thread_that_waits(tmp_path, victim):
    before = ("import minivit.parallel.batch_split as b\nb.CHUNK = 64\nfrom minivit.parallel.lanes import Lanes\n"
              "old = Lanes._add\ndef new(self, lanes, chunk, first):\n"
              f"    if rank == {victim} and chunk.start == 256:\n        time.sleep(0.1)\n"
              "        raise MemoryError('no memory')\n    old(self, lanes, chunk, first)\nLanes._add = new")
    code, _, _, err = run(2, *program(before, {"optimiser": "adamw"}, threads=2), tmp_path / "run", "new")
    assert code != 0
    assert "MemoryError: no memory" in err
    assert re.search(rf"RankError: rank {victim} of 2 on .*: no memory", err), err


@with_mpi
def test_gradients_of_lanes_that_failed_are_not_sent(tmp_path):
    before = ("from minivit.parallel.lanes import Lane, Lanes\nfailed, old_run, add = [], Lane.run, Lanes._add\n"
              "def new_run(self, *a):\n    if rank == 0 and self.rng.step == 3:\n        failed.append(self)\n"
              "        time.sleep(0.1)\n        raise MemoryError('no memory')\n    return old_run(self, *a)\n"
              "def new_add(self, *a):\n    if failed:\n        print('added', flush=True)\n    add(self, *a)\n"
              "Lane.run, Lanes._add = new_run, new_add")
    code, out, _, err = run(2, *program(before), tmp_path / "run", "new")
    assert code != 0
    assert "MemoryError: no memory" in err
    assert out == ""


HANGS = {
    "stopped": ("os.kill(os.getpid(), signal.SIGSTOP)", "has not answered for 2 s: it was killed or stopped, .*"),
    "loops": ("while True: time.sleep(0.1)", r"hangs: its step takes longer than \d+ s"),
}


@with_mpi
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("how", HANGS)
def test_a_rank_that_hangs_ends_all_within_seconds(tmp_path, how, victim):
    act, words = HANGS[how]
    before = ("from minivit.parallel.ranks import liveness\nfrom minivit.parallel.lanes import Lane\n"
              "liveness.SILENCE, liveness.SHORTEST_LIMIT, liveness.GRACE = 2.0, 3.0, 1.0\nold, calls = Lane.run, []\n"
              "def new(*a):\n    calls.append(0)\n"
              f"    if len(calls) == 20 and rank == {victim}:\n        {act}\n    return old(*a)\nLane.run = new")
    begun = time.monotonic()
    code, _, lines, err = run(2, *program(before), tmp_path / "run", "new")
    assert code != 0
    assert re.fullmatch(rf"minivit: error: rank {victim} of 2 {words}; the last checkpoint is good; resume with: .*",
                        lines[0]), err
    assert time.monotonic() - begun < 40
    assert RunFolder(tmp_path / "run").read_position()[0] >= 4


# ---- without MPI --------------------------------------------------------------------------------------------------


def test_the_communicator_is_checked():
    assert ranks_of(None) is ALONE
    assert ranks_of(ALONE) is ALONE
    for wrong in (True, "world", 2):
        with pytest.raises(TypeError, match=r"mpi=\.\.\. takes a communicator of mpi4py, such as "
                                            r"mpi4py\.MPI\.COMM_WORLD, not "):
            minivit.train(minivit.create_model("vit", **TINY), "digits", mpi=wrong)


class Pretended(type(ALONE)):
    """A rank of some, all in this process, one after the other."""

    def __init__(self, rank, size, pieces):
        self.rank, self.size, self.pieces = rank, size, pieces

    def allgather_rows(self, rows, edges):
        self.pieces[self.rank] = rows[edges[self.rank]:edges[self.rank + 1]].copy()


@pytest.mark.parametrize("size", [2, 3, 50])
def test_ranks_share_a_prediction(size):
    model, images = minivit.create_model("vit_mini", image_size=8), minivit.load_data("digits").test_images
    pieces = {}
    for rank in range(size):
        prediction.SharedPrediction(model, Pretended(rank, size, pieces)).predict(images, threads=1)
    np.testing.assert_array_equal(np.concatenate([pieces[rank] for rank in range(size)]), model.predict(images))
    assert len({len(piece) for piece in pieces.values()}) <= 1 + size // 2 + 1
    assert sum(map(len, pieces.values())) == len(images)


def test_lanes_of_a_run_may_be_chosen(tmp_path, no_curve):
    def train(**settings):
        return minivit.train(minivit.create_model("vit", **TINY), "digits", out=tmp_path / "run", progress=False,
                             **settings)

    train(epochs=1, batch_size=64, lanes=24)
    assert RunFolder(tmp_path / "run").settings["lanes"] == 24
    train(resume=True)
    with pytest.raises(ValueError, match="was started with lanes 24, not 8"):
        train(resume=True, lanes=8)


def test_the_obituary_is_printed_unless_it_is_cancelled(capfd):
    program = ("import os, sys\nfrom minivit.parallel.ranks.obituary import Obituary\nwords = Obituary('first line')\n"
               "words.write('what to\\n do')\nif sys.argv[1] == 'cancel': words.cancel()\nos._exit(1)")
    printed = [subprocess.run([sys.executable, "-c", program, how], capture_output=True, text=True, timeout=60).stderr
               for how in ("die", "cancel")]
    assert printed == ["what to do\n", ""]
    Obituary("nothing").cancel()
    assert capfd.readouterr().err == ""
