"""Checkpoints: runs that are stopped, killed or out of disk space leave no damaged file and resume to the same bits."""

import dataclasses
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from helpers import permissions
from safetensors.numpy import load_file, save_file

import minivit
from minivit.parallel import lanes
from minivit.training.trainer import Trainer
from minivit.training_pipeline import build_loop
from minivit.training_pipeline.checkpoints import Checkpoints, Interrupted
from minivit.training_pipeline.folder import RunFolder
from minivit.training_pipeline.results.evaluate_run import evaluate_run
from minivit.training_pipeline.results.trained_model import latest_model, unfinished
from minivit.weight_formats.safetensors_io import read_metadata

pytestmark = pytest.mark.usefixtures("no_pictures")
STEPS_PER_EPOCH = 1438 // 64     # the digits have 1438 training images; batches of 64
EPOCHS = 4
TINY = {"image_size": 8, "patch_size": 4, "channels": 1, "classes": 10, "width": 16, "depth": 1, "heads": 2,
        "mlp_ratio": 2,
        "drop_rate": 0.1, "drop_path_rate": 0.1}
# The same training in its own process, which prints its steps, so that the test knows where it killed it.
PROCESS = f"""
import sys
import minivit
from minivit.training.trainer import Trainer

class Loud(Trainer):
    def step(self, *batch, **settings):
        loss = super().step(*batch, **settings)
        print(self.optimiser.t, flush=True)
        return loss

import minivit.training_pipeline.build_loop
minivit.training_pipeline.build_loop.Trainer = Loud
minivit.train(minivit.create_model("vit", **{TINY}), "digits", epochs={EPOCHS}, batch_size=64, ema=0, out=sys.argv[1],
              progress=False, resume=sys.argv[2] == "resume", checkpoint_steps=int(sys.argv[3]), threads=1)
"""


def train(folder, **settings):
    start = {} if settings.get("resume") else {"ema": 0}              # a resumed run has its own
    return minivit.train(minivit.create_model("vit", **TINY), "digits", out=folder, progress=False,
                         **({"epochs": EPOCHS, "batch_size": 64} | start | settings))


def result_of(folder):
    """Return the bytes of the weights, and the log without the durations."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return (folder / "model.safetensors").read_bytes(), [{k: v for k, v in r.items() if k != "seconds"}
                                                         for r in records]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, no_pictures):
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(folder)
    return result_of(folder)


@contextmanager
def at_step(number, act):
    """Within the block, call `act` in the step of that number, before the weights change."""
    original = Trainer._update

    def update(self, *arguments):
        if self.optimiser.t == number:
            act()
        original(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_update", update)
        yield


def send(number):
    return lambda: signal.raise_signal(number)


@pytest.fixture(autouse=True)
def sigint_is_handled():
    """Do not ignore SIGINT: a shell starts background jobs with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# ---- signals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [0, 9, STEPS_PER_EPOCH - 1, STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH + 7,
                                  EPOCHS * STEPS_PER_EPOCH - 1])
def test_signal_saves_after_the_step_and_resuming_gives_the_same_bits(uninterrupted, tmp_path, number, step):
    with at_step(step, send(number)), pytest.raises(Interrupted) as stop:
        train(tmp_path / "run")
    assert stop.value.signal == number
    assert f"{signal.Signals(number).name} after step {step + 1}," in str(stop.value)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert train(tmp_path / "run", resume=True).steps == EPOCHS * STEPS_PER_EPOCH
    assert result_of(tmp_path / "run") == uninterrupted


def test_seconds_count_all_steps_and_the_speed_those_after_resuming(tmp_path):
    with at_step(9, send(signal.SIGTERM)), pytest.raises(Interrupted):
        train(tmp_path / "run")
    place = tmp_path / "run" / "checkpoint.safetensors"
    tensors, progress = load_file(place), json.loads(read_metadata(place)["minivit"])
    progress["progress"]["seconds"] += 1000                           # as if the first ten steps had taken that long
    save_file(tensors, place, metadata={"minivit": json.dumps(progress)})
    resumed = train(tmp_path / "run", resume=True)
    images, since = (EPOCHS * STEPS_PER_EPOCH - 10) * 64, resumed.seconds - progress["progress"]["seconds"]
    assert 1000 < resumed.seconds < 1100
    assert resumed.images_per_second == pytest.approx(images / since, rel=1e-6)
    speed = f"{resumed.images_per_second:,.0f} images/s since it was resumed"
    assert f" steps in {resumed.seconds:.1f} s ({speed})" in str(resumed)
    again = train(tmp_path / "run", resume=True)                      # nothing is left to do
    assert again.seconds == resumed.seconds
    assert str(again).endswith(f" steps in {resumed.seconds:.1f} s")
    assert "resumed" not in str(train(None, epochs=0.1))


def test_signal_during_an_evaluation_saves_after_it(uninterrupted, tmp_path, monkeypatch):
    def evaluate(*arguments, original=build_loop.evaluate):
        signal.raise_signal(signal.SIGTERM)
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(build_loop, "evaluate", evaluate)
        with pytest.raises(Interrupted, match=f"after step {STEPS_PER_EPOCH},"):
            train(tmp_path / "run")
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 1
    train(tmp_path / "run", resume=True)
    assert result_of(tmp_path / "run") == uninterrupted


@pytest.mark.parametrize("epoch", [1, 2, EPOCHS])
def test_run_that_fails_between_log_and_checkpoint_logs_the_epoch_once(uninterrupted, tmp_path, epoch):
    def save(self, original=Checkpoints.save):
        if self.loop.progress.steps == 0 and self.loop.trainer.optimiser.t == epoch * STEPS_PER_EPOCH:
            raise OSError("the disk is gone")
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", save)
        with pytest.raises(OSError, match="the disk is gone"):
            train(tmp_path / "run", checkpoint_steps=1)               # the last checkpoint is of the epoch's last step
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == epoch
    train(tmp_path / "run", resume=True)
    assert result_of(tmp_path / "run") == uninterrupted


def test_signal_after_the_last_step_lets_the_run_finish(uninterrupted, tmp_path, monkeypatch):
    def save_model(self, model, original=RunFolder.write_model):
        signal.raise_signal(signal.SIGTERM)
        original(self, model)

    monkeypatch.setattr(RunFolder, "write_model", save_model)
    train(tmp_path / "run")
    assert result_of(tmp_path / "run") == uninterrupted


def test_second_signal_stops_at_once(uninterrupted, tmp_path):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with at_step(STEPS_PER_EPOCH + 3, twice), pytest.raises(Interrupted, match="last checkpoint"):
        train(tmp_path / "run")
    assert RunFolder(tmp_path / "run").read_position()[1].steps == 0
    train(tmp_path / "run", resume=True)
    assert result_of(tmp_path / "run") == uninterrupted


def test_signal_handlers_are_restored(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train(tmp_path / "run", epochs=0.1)
    with at_step(1, send(signal.SIGTERM)), pytest.raises(Interrupted):
        train(tmp_path / "other", epochs=0.1)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_without_a_folder_signals_act_as_usual():
    seen = []
    with at_step(1, lambda: seen.append(signal.getsignal(signal.SIGTERM))):
        train(None, epochs=0.1)
    assert seen == [signal.getsignal(signal.SIGTERM)]
    with at_step(1, send(signal.SIGINT)), pytest.raises(KeyboardInterrupt) as stop:
        train(None, epochs=0.1)
    assert not isinstance(stop.value, Interrupted)


def test_ignored_signal_stays_ignored(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with at_step(1, send(signal.SIGINT)):
            assert train(tmp_path / "run", epochs=0.2).steps == 4
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_can_be_trained_in_a_thread(tmp_path):
    thread = threading.Thread(target=train, args=(tmp_path / "run",), kwargs={"epochs": 0.1})
    thread.start()
    thread.join()
    train(tmp_path / "main", epochs=0.1)
    assert result_of(tmp_path / "run") == result_of(tmp_path / "main")


COMMAND = [sys.executable, "-m", "minivit"]
OPTIONS = ["train", "digits", "--epochs", "1", "--batch-size", "8", "--threads", "1"]   # 179 steps


@pytest.fixture(scope="module")
def uninterrupted_command(tmp_path_factory):
    folder = tmp_path_factory.mktemp("command") / "run"
    subprocess.run([*COMMAND, *OPTIONS, "--out", folder], check=True, capture_output=True, timeout=300)
    return result_of(folder)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_command_prints_how_to_resume_and_that_works(uninterrupted_command, tmp_path, number, code):
    process = subprocess.Popen([*COMMAND, *OPTIONS, "--out", "my run", "--checkpoint-steps", "1"], cwd=tmp_path,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path / "my run" / "checkpoint.safetensors", process)
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code
    assert out == ""
    line = err.rstrip("\n").splitlines()[-1]
    words = rf"minivit: stopped by {number.name} after step (\d+), which is saved; resume with: minivit (.*)"
    step, command = re.fullmatch(words, line).groups()
    assert 0 < int(step) < 179
    subprocess.run([*COMMAND, *shlex.split(command)], cwd=tmp_path, check=True, capture_output=True, timeout=300)
    assert result_of(tmp_path / "my run") == uninterrupted_command


def wait_for(file, process):
    deadline = time.monotonic() + 300
    while not file.exists():
        assert process.poll() is None, "the process ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def saved_states(monkeypatch):
    """Return a list to which (step, weights) of each following checkpoint are added."""
    states, write = [], RunFolder.write_checkpoint

    def noting(self, state, step, progress):
        write(self, state, step, progress)
        states.append((step, state["weights"].copy()))

    monkeypatch.setattr(RunFolder, "write_checkpoint", noting)
    return states


@pytest.mark.parametrize("settings", [
    {"ema": 0.9}, {"patience": 1, "val_fraction": 0.2}, {"augment": "alternating-flip,crop,mixup:1:0.5"},
    {"ema": 0.9, "patience": 2, "layers": [["head.*", 2.0, 0.0]]}, {"optimiser": "adamw"},
], ids=str)
def test_everything_that_changes_from_step_to_step_is_saved(tmp_path, settings):
    train(tmp_path / "whole", **settings)
    for step in (5, 30):
        with at_step(step, send(signal.SIGTERM)), pytest.raises(Interrupted):
            train(tmp_path / "run", resume=step > 5, **(settings if step == 5 else {}), epochs=EPOCHS)
    train(tmp_path / "run", resume=True)
    assert result_of(tmp_path / "run") == result_of(tmp_path / "whole")


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_checkpoint_names_what_it_holds(tmp_path, optimiser):
    train(tmp_path / "run", epochs=0.1, ema=0.9, patience=1, optimiser=optimiser)
    arrays = load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert arrays.keys() == {"weights", "gradient_mean", "squared_gradient_mean", "ema", "best"}
    assert len({array.shape for array in arrays.values()}) == 1


def test_interrupted_run_has_the_averaged_weights(tmp_path):
    trainers = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "__init__", lambda self, *a, init=Trainer.__init__,
                      **k: (init(self, *a, **k), trainers.append(self))[0])
        with at_step(30, send(signal.SIGTERM)), pytest.raises(Interrupted):
            train(tmp_path / "run", ema=0.9)
    np.testing.assert_array_equal(latest_model(RunFolder(tmp_path / "run")).vector, trainers[-1].average.vector)


# ---- the interval -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("settings", "expected"), [
    ({}, [22, 44]),                                                   # the end of each epoch
    ({"checkpoint_steps": 10}, [10, 20, 22, 32, 42, 44]),
    ({"checkpoint_seconds": 0}, [*range(1, 23), 22, *range(23, 45), 44]),
], ids=str)
def test_state_is_saved_by_interval(tmp_path, monkeypatch, settings, expected):
    states = saved_states(monkeypatch)
    train(tmp_path / "run", epochs=2, **settings)
    assert [step for step, _ in states] == expected


def test_interval_starts_where_a_run_is_resumed(tmp_path, monkeypatch):
    with at_step(8, send(signal.SIGTERM)), pytest.raises(Interrupted):
        train(tmp_path / "run", epochs=1)
    states = saved_states(monkeypatch)
    train(tmp_path / "run", resume=True, epochs=1, checkpoint_steps=10)
    assert [step for step, _ in states] == [19, 22]


@pytest.mark.parametrize(("name", "value"), [("checkpoint_seconds", -1), ("checkpoint_seconds", float("nan")),
                                             ("checkpoint_steps", 0),
                                             ("checkpoint_steps", 1.5)])
def test_interval_out_of_range_is_refused_before_training(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"number of {name.split('_')[1]} between checkpoints"):
        train(tmp_path / "run", **{name: value})
    assert not (tmp_path / "run").exists()


# ---- killed -------------------------------------------------------------------------------------------------------


def kill_after(seconds, folder, how, interval):
    """Start or resume a run and kill it `seconds` after its first step -> (last step it printed, whether killed)."""
    process = subprocess.Popen([sys.executable, "-c", PROCESS, str(folder), how, str(interval)], stdout=subprocess.PIPE,
                               text=True)
    first = process.stdout.readline()
    killed = threading.Event()
    timer = threading.Timer(seconds, lambda: (killed.set(), process.kill()))
    timer.start()
    rest, _ = process.communicate(timeout=300)
    timer.cancel()
    assert process.returncode == (-signal.SIGKILL if killed.is_set() and process.returncode else 0)
    counted = [int(line) for line in (first + rest).splitlines(keepends=True) if line.endswith("\n")]
    return counted[-1] if counted else None, process.returncode != 0


def check_files(folder, interval, last):
    """Check that every file can be read, and that at most the steps of one interval are lost."""
    run = RunFolder(folder)
    run.config()
    run.read_log()
    saved = 0
    if run.checkpoint_file.exists():
        assert all(np.isfinite(vector).all() for vector in load_file(run.checkpoint_file).values())
        _, saved, _ = run.read_checkpoint()
    assert last is None or last - saved <= interval
    if run.model_file.exists():
        minivit.load(folder)


def survive(folder, kills, seed, expected):
    """Kill a run several times, each time at a random moment, then let it finish."""
    rng, interval, done = random.Random(seed), random.Random(seed).choice([1, 2, 5, 30]), 0
    how = "start"
    for _ in range(kills):
        last, killed = kill_after(rng.uniform(0, 0.25), folder, how, interval)
        check_files(folder, interval, last)
        how, done = "resume", done + killed
    subprocess.run([sys.executable, "-c", PROCESS, str(folder), how, str(interval)], check=True,
                   stdout=subprocess.DEVNULL, timeout=300)
    assert result_of(folder) == expected
    assert not list(folder.glob(".*")), "half-written files are left"
    return done


def test_killed_run_resumes_to_the_same_bits(uninterrupted, tmp_path):
    assert survive(tmp_path / "run", 3, seed=0, expected=uninterrupted)


@pytest.mark.slow
def test_a_run_that_is_killed_thirty_times_resumes_to_the_same_bits(uninterrupted, tmp_path):
    killed, seed = 0, 0
    while killed < 30 and seed < 39:             # some finish before they are killed
        seed += 1
        killed += survive(tmp_path / str(seed), 3, seed, uninterrupted)
    assert killed >= 30


def test_temporary_files_of_a_killed_write_are_removed(uninterrupted, tmp_path):
    with at_step(9, send(signal.SIGTERM)), pytest.raises(Interrupted):
        train(tmp_path / "run")
    (tmp_path / "run" / ".checkpoint.safetensors.123.tmp").write_bytes(b"half")
    (tmp_path / "run" / ".mine").write_text("mine")
    train(tmp_path / "run", resume=True)
    assert [file.name for file in (tmp_path / "run").glob(".*")] == [".mine"]


def test_records_newer_than_the_checkpoint_are_removed(tmp_path):
    with at_step(9, send(signal.SIGTERM)), pytest.raises(Interrupted):
        train(tmp_path / "run")
    record = {"epoch": 1, "step": STEPS_PER_EPOCH, "loss": 1, "accuracy": 0, "test_accuracy": 0, "seconds": 1}
    (tmp_path / "run" / "log.jsonl").write_text(json.dumps(record) + "\n")
    with at_step(10, send(signal.SIGTERM)), pytest.raises(Interrupted):
        train(tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "log.jsonl").read_text() == ""


def test_finished_run_is_not_trained_again_without_its_checkpoint(tmp_path):
    train(tmp_path / "run", epochs=0.1)
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="is finished, and its checkpoint is gone"):
        train(tmp_path / "run", epochs=0.1, resume=True)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


# ---- a checkpoint that does not fit the run -------------------------------------------------------------------------


@pytest.mark.parametrize("metadata", ['{}', '{"step": 3}', '{"step": 3, "progress": {"step": 1}}', '[]',
                                      '{"step": "x", "progress": {}}', '{"step": 3, "progress": {"loss": "x"}}',
                                      '{"step": 3, "progress": {"seconds": 1e999}}'])
def test_checkpoint_without_its_position_is_named(tmp_path, metadata):
    with at_step(9, send(signal.SIGTERM)), pytest.raises(Interrupted):
        train(tmp_path / "run")
    file = tmp_path / "run" / "checkpoint.safetensors"
    save_file(load_file(file), file, metadata={"minivit": metadata})
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is damaged: it does not say at which step"):
        train(tmp_path / "run", resume=True)


@pytest.mark.parametrize("position", ['{"step": 99999999, "progress": {}}', '{"step": -1, "progress": {}}',
                                      '{"step": 3, "progress": {"steps": 4}}',
                                      '{"step": 3, "progress": {"steps": -1}}'])
def test_checkpoint_with_an_impossible_position_is_named(tmp_path, position):
    with at_step(9, send(signal.SIGTERM)), pytest.raises(Interrupted):
        train(tmp_path / "run")
    file = tmp_path / "run" / "checkpoint.safetensors"
    save_file(load_file(file), file, metadata={"minivit": position})
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is damaged: step -?\d+ is not one of the 88 steps"):
        train(tmp_path / "run", resume=True)


# ---- no space, no permission ----------------------------------------------------------------------------------------


@contextmanager
def file_size_limit(size):
    """Let the system refuse files larger than `size` bytes."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_write_that_fails_halfway_keeps_the_last_good_state(uninterrupted, tmp_path):
    with at_step(9, send(signal.SIGTERM)), pytest.raises(Interrupted):
        train(tmp_path / "run")
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}
    with file_size_limit(20_000), pytest.raises(OSError, match=r"checkpoint\.safetensors") as failure:
        train(tmp_path / "run", resume=True, checkpoint_steps=3)
    assert re.search(r"last good state is kept in .*resume with: minivit\.train\(model, data, out='.*run', "
                     r"resume=True\)",
                     failure.value.__notes__[0])
    assert {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()} == before | {"log.jsonl": b""}
    train(tmp_path / "run", resume=True)
    assert result_of(tmp_path / "run") == uninterrupted


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of Unix")
def test_read_only_folder_is_named_before_the_first_step(uninterrupted, tmp_path):
    with at_step(9, send(signal.SIGTERM)), pytest.raises(Interrupted):
        train(tmp_path / "run")

    def never():
        raise AssertionError("a step was done")

    with permissions(0o555, tmp_path / "run"), at_step(10, never), pytest.raises(PermissionError, match="run"):
        train(tmp_path / "run", resume=True)
    (tmp_path / "other").mkdir()
    with permissions(0o555, tmp_path / "other"), at_step(0, never), pytest.raises(PermissionError, match="other"):
        train(tmp_path / "other" / "run")
    train(tmp_path / "run", resume=True)
    assert result_of(tmp_path / "run") == uninterrupted


# ---- not finite -----------------------------------------------------------------------------------------------------


def test_state_that_is_not_finite_is_never_saved(uninterrupted, tmp_path, monkeypatch):
    trainers = []
    monkeypatch.setattr(Trainer, "__init__", lambda self, *a, init=Trainer.__init__,
                        **k: (init(self, *a, **k), trainers.append(self))[0])

    def poison():
        trainers[-1].model.vector[5] = np.nan

    with at_step(9, poison), pytest.raises(FloatingPointError,
                                           match=r"^step 9: .*not finite.*lower learning rate") as failure:
        train(tmp_path / "run", checkpoint_steps=5)
    assert "the last good state is kept" in failure.value.__notes__[0]
    assert np.isfinite(latest_model(RunFolder(tmp_path / "run")).vector).all()
    train(tmp_path / "run", resume=True)
    assert result_of(tmp_path / "run") == uninterrupted


def test_loss_that_is_not_finite_names_the_last_good_state(tmp_path, monkeypatch):
    forward_backward = lanes.Lanes.forward_backward
    monkeypatch.setattr(lanes.Lanes, "forward_backward", lambda self, images, targets, step, *more:
                        (float("nan"), 0, 1.0) if step == 13 else forward_backward(self, images, targets, step, *more))
    with pytest.raises(FloatingPointError, match=r"^step 13: the loss is nan") as failure:
        train(tmp_path / "run", checkpoint_steps=10)
    assert "the last good state is kept" in failure.value.__notes__[0]
    assert "step 10 of 88" in unfinished(RunFolder(tmp_path / "run"))


# ---- using an interrupted run -----------------------------------------------------------------------------------


def test_interrupted_run_has_the_model_of_its_checkpoint(tmp_path, monkeypatch):
    states = saved_states(monkeypatch)
    with at_step(30, send(signal.SIGTERM)), pytest.raises(Interrupted):
        train(tmp_path / "run")
    run, (step, weights) = RunFolder(tmp_path / "run"), states[-1]
    assert step == 31
    np.testing.assert_array_equal(latest_model(run).vector, weights)
    assert "step 31 of 88" in unfinished(run)
    assert evaluate_run(run)[1].images == 359
    train(tmp_path / "run", resume=True)
    assert unfinished(run) is None
    np.testing.assert_array_equal(latest_model(run).vector, minivit.load(tmp_path / "run").vector)


def test_run_on_arrays_names_the_call_that_resumes_it(tmp_path):
    data = dataclasses.replace(minivit.load_data("digits"), source=None)
    with at_step(3, send(signal.SIGINT)), pytest.raises(Interrupted, match=r"minivit\.train\(model, data, "
                                                                           r"out='.*run', resume=True\)"):
        minivit.train(minivit.create_model("vit", **TINY), data, out=tmp_path / "run", progress=False)
