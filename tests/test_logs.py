"""Logs for other tools: a callback after each epoch, and TensorBoard."""

import json
import signal
import sys

import pytest

import minivit
from minivit.training_pipeline.checkpoints import Interrupted
from minivit.training_pipeline.folder import RunFolder

TINY = {"image_size": 8, "patch_size": 4, "channels": 1, "classes": 10, "width": 16, "depth": 1, "heads": 2}


def train(folder, **settings):
    start = {} if settings.get("resume") else {"epochs": 3, "batch_size": 64}
    model = minivit.create_model("vit", **TINY)
    return minivit.train(model, "digits", out=folder, progress=False, **(start | settings))


def logged(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def scalars(folder):
    """What TensorBoard reads, {tag: [(epoch, value)]}."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    make_ndarray = pytest.importorskip("tensorboard.util.tensor_util").make_ndarray
    events = accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: [(event.step, make_ndarray(event.tensor_proto).item()) for event in events.Tensors(tag)]
            for tag in events.Tags()["tensors"]}


def test_the_callback_gets_each_record_after_its_checkpoint(tmp_path, no_pictures):
    seen, positions = [], []

    def callback(record):
        seen.append(record.copy())
        positions.append(RunFolder(tmp_path / "run").read_position()[0])
        record.clear()                                                # it is the caller's own copy

    train(tmp_path / "run", callback=callback)
    assert seen == logged(tmp_path / "run")
    assert positions == [record["step"] for record in seen] == [22, 44, 66]


def test_an_exception_of_the_callback_ends_the_training_which_can_be_resumed(tmp_path, no_pictures):
    class Pruned(Exception):
        pass

    def prune(record):
        if record["epoch"] == 2:
            raise Pruned

    with pytest.raises(Pruned):
        train(tmp_path / "run", callback=prune)
    assert len(logged(tmp_path / "run")) == 2
    train(tmp_path / "run", resume=True)
    train(tmp_path / "whole")
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "whole"))
    assert first == second


def test_tensorboard_shows_each_epoch_once_also_after_a_resume(tmp_path, no_pictures):
    pytest.importorskip("tensorboard")
    with pytest.raises(Interrupted):
        train(tmp_path / "run", log="tensorboard", log_norms=True,
              callback=lambda record: record["epoch"] == 2 and signal.raise_signal(signal.SIGTERM))
    train(tmp_path / "run", log="tensorboard", log_norms=True, resume=True)
    found, records = scalars(tmp_path / "run"), logged(tmp_path / "run")
    assert [epoch for epoch, _ in found["loss"]] == [1, 2, 3]
    assert [value for _, value in found["test_accuracy"]] == pytest.approx([r["test_accuracy"] for r in records])
    assert [value for _, value in found["grad_norms/blocks.0"]] == pytest.approx(
        [r["grad_norms"]["blocks.0"] for r in records])


def test_tensorboard_is_checked_before_the_training(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    with pytest.raises(ImportError, match=r"log=tensorboard needs the package tensorboard \(.*\): pip install"):
        train(tmp_path / "run", log="tensorboard")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="unknown log 'wandb': known: none, tensorboard"):
        train(tmp_path / "run", log="wandb")


def test_tensorboard_needs_a_folder():
    pytest.importorskip("tensorboard")
    with pytest.raises(ValueError, match=r"log=tensorboard writes to the folder of the run: pass one as out=\.\.\."):
        train(None, log="tensorboard")
