"""Training a run for more epochs: with the schedule wsd as if it had been started so, with cosine refused."""

import itertools
import json
import shutil

import numpy as np
import pytest

import minivit
from minivit import cli
from minivit.training.schedule import decay_start, learning_rate
from minivit.training_pipeline.build_loop import build_loop, images_of
from minivit.training_pipeline.folder import RunFolder
from minivit.training_pipeline.run_settings import new_settings

pytestmark = pytest.mark.usefixtures("no_pictures")
TINY = {"image_size": 8, "patch_size": 4, "channels": 1, "classes": 10, "width": 16, "depth": 1, "heads": 2,
        "mlp_ratio": 2, "drop_path_rate": 0.1}
WSD = {"schedule": "wsd", "batch_size": 64, "ema": 0.9, "seed": 3}      # 22 steps an epoch


def train(out, **settings):
    return minivit.train(minivit.create_model("vit", seed=1, **TINY), "digits", out=out, progress=False, threads=2,
                         **settings)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A finished run of two epochs."""
    folder = tmp_path_factory.mktemp("extend") / "short"
    train(folder, epochs=2, **WSD)
    return folder


@pytest.fixture
def run(short, tmp_path):
    shutil.copytree(short, tmp_path / "run")
    return tmp_path / "run"


def test_the_schedule_is_constant_until_its_decay():
    settings = {"schedule": "wsd", "lr": 2.0, "steps": 100, "warmup": 0.1, "decay": 0.25}
    rates = [learning_rate(settings, t) for t in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (t + 1) for t in range(10)])
    assert rates[10:76] == [2.0] * 66
    assert rates[84] == pytest.approx(2 * (1 - np.sqrt(9 / 25)))
    assert rates[99] == pytest.approx(2 * (1 - np.sqrt(24 / 25)))
    assert all(a > b for a, b in itertools.pairwise(rates[75:]))
    assert decay_start(settings) == 75
    assert [learning_rate(settings | {"warmup": 0, "decay": 0}, t) for t in (0, 99)] == [2.0, 2.0]


def test_an_extended_run_is_one_that_was_started_with_more_epochs(run, tmp_path):
    before = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    result = train(run, resume=True, epochs=5)
    assert result.steps == 110
    settings = RunFolder(run).settings
    assert (settings["epochs"], settings["steps"]) == (5, 110)
    assert settings["warmup"] == pytest.approx(4 / 110)               # the four steps of the first two epochs
    other = train(tmp_path / "other", epochs=5, **(WSD | {"warmup": settings["warmup"]}))
    assert (run / "model.safetensors").read_bytes() == (tmp_path / "other" / "model.safetensors").read_bytes()
    records = [[json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
               for path in (run, tmp_path / "other")]
    for records_of_run in (before, *records):
        for record in records_of_run:
            del record["seconds"]
    assert records[0] == records[1]
    assert records[0][0] == before[0]
    assert other.accuracy == result.accuracy
    assert train(run, resume=True).steps == 110                       # the new number is now that of the run


def test_a_run_may_be_extended_twice_and_before_its_decay(short, run, tmp_path):
    train(run, resume=True, epochs=3)
    train(run, resume=True, epochs=5)
    train(tmp_path / "once", epochs=5, **(WSD | {"warmup": RunFolder(run).settings["warmup"]}))
    assert (run / "model.safetensors").read_bytes() == (tmp_path / "once" / "model.safetensors").read_bytes()


def test_a_run_without_decay_that_ended_within_an_epoch_is_extended(tmp_path):
    train(tmp_path / "run", epochs=0.5, **(WSD | {"decay": 0}))       # the decay begins at the end, after 11 steps
    train(tmp_path / "run", resume=True, epochs=1)
    warmup = RunFolder(tmp_path / "run").settings["warmup"]
    train(tmp_path / "whole", epochs=1, **(WSD | {"decay": 0, "warmup": warmup}))
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors").read_bytes()
    [record] = RunFolder(tmp_path / "run").read_log()
    [other] = RunFolder(tmp_path / "whole").read_log()
    assert {**record, "seconds": 0} == {**other, "seconds": 0}


def test_a_run_that_was_killed_while_it_is_extended_can_be_resumed(run, tmp_path, monkeypatch):
    shutil.copytree(run, tmp_path / "whole")
    train(tmp_path / "whole", resume=True, epochs=3)

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_config", die)                 # the last thing that extending does
        with pytest.raises(KeyboardInterrupt):
            train(run, resume=True, epochs=3)
    assert not (run / "model.safetensors").exists()                   # an unfinished run of two epochs
    shutil.copytree(run, tmp_path / "old")
    train(tmp_path / "old", resume=True)
    assert RunFolder(tmp_path / "old").settings["epochs"] == 2
    train(run, resume=True, epochs=3)
    assert (run / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def test_what_cannot_be_extended_is_refused_and_stays(run, tmp_path):
    def refused(path, message, **settings):
        before = {file.name: file.read_bytes() for file in path.iterdir()}
        with pytest.raises(ValueError, match=message):
            train(path, resume=True, **settings)
        assert {file.name: file.read_bytes() for file in path.iterdir()} == before

    refused(run, "run was started with epochs 2: it can be extended to more epochs, not to 1; leave out epochs, or "
            "start a new run", epochs=1)
    refused(run, "was started with lr", epochs=3, lr=1.0)
    (run / "stable.safetensors").unlink()
    refused(run, r"run cannot be extended: stable\.safetensors, its state before the learning rate decayed, is gone",
            epochs=3)
    train(tmp_path / "steep", epochs=0.5, **(WSD | {"decay": 1, "warmup": 0}))
    refused(tmp_path / "steep", "steep cannot be extended: its learning rate decays from the first step on", epochs=1)
    train(tmp_path / "clean", epochs=0.5, augment="cutout", clean_end=0.5, **(WSD | {"decay": 0.2, "warmup": 0}))
    refused(tmp_path / "clean", "clean cannot be extended: clean_end 0.5 leaves out augmentation steps before the final"
            " decay of 0.2 begins", epochs=1)
    train(tmp_path / "cosine", epochs=1)
    refused(tmp_path / "cosine", "cosine was started with epochs 1: not with 0.5; leave out epochs", epochs=0.5)
    refused(tmp_path / "cosine", "cosine was started with epochs 1, not 3: its cosine schedule takes the learning rate "
            "to 0 at that end, so it cannot be trained longer; start a run .* with schedule=wsd", epochs=3)


@pytest.mark.parametrize(("settings", "message"), [
    ({"decay": 0.5}, "decay applies to schedule=wsd only"),
    ({"schedule": "wsd", "decay": 0.8, "warmup": 0.3}, "warmup 0.3 and decay 0.8 are fractions .* at most 1"),
    ({"clean_end": 0.2}, "clean_end leaves out strong augmentation steps, but augment='affine' has none: add cutout"),
    ({"clean_end": 0.2, "augment": "mixup", "probe": True}, "a probe"),
    ({"schedule": "wds"}, "unknown schedule 'wds': did you mean 'wsd'"),
])
def test_settings_of_the_schedule_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        minivit.train(minivit.create_model("vit", **TINY), "digits", progress=False, **settings)


def test_extend_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "digits", "--epochs", "1", "--schedule", "wsd", "--out", "R", "-q"]) == 0
    assert cli.main(["train", "digits", "--resume", "--epochs", "2", "--out", "R", "-q"]) == 0
    assert "after 44 steps" in capsys.readouterr().out
    config = json.loads((tmp_path / "R" / "config.json").read_text())
    assert config["command"] == ("minivit train digits --epochs 1 --schedule wsd --out R -q && "
                                 "minivit train digits --resume --epochs 2 --out R -q")
    assert cli.main(["train", "digits", "--epochs", "1", "--out", "C", "-q"]) == 0
    assert cli.main(["train", "digits", "--resume", "--epochs", "2", "--out", "C", "-q"]) == 2
    error = capsys.readouterr().err
    assert "with --schedule wsd, or train these weights further in a new run with --fine-tune" in error


def test_the_clean_end_is_in_the_last_steps_of_a_run_however_it_is_interrupted(tmp_path):
    """The steps before it are those of a run without it, and it resumes to the same bits."""
    settings = {"augment": "crop,cutmix:1:1", "batch_size": 64, "epochs": 1, "seed": 3, "optimiser": "adamw"}

    def losses(**more):
        found = []
        model = minivit.create_model("vit", seed=1, **TINY)
        arguments = new_settings(model, data, settings | more)
        loop = build_loop(model, data, arguments, threads=1)
        loop.after_step.append(lambda loop: found.append(loop.progress.loss))
        loop.run(images_of(data))
        return np.diff(found, prepend=0)

    data = minivit.load_data("digits")
    whole, clean, weak = losses(), losses(clean_end=0.25), losses(augment="crop")
    assert len(whole) == 22
    np.testing.assert_array_equal(clean[:16], whole[:16])             # round(0.25 * 22) = 6 steps are clean
    assert clean[16] != whole[16]
    assert clean[16] < whole[16]                                      # targets that are not mixed: the loss is lower
    assert weak[0] != clean[0]

    class Stop(Exception):
        pass

    def stop(record):
        raise Stop

    model = minivit.create_model("vit", seed=1, **TINY)
    again = dict(settings, epochs=2, clean_end=0.6)                   # the clean end begins in the first epoch
    with pytest.raises(Stop):
        minivit.train(model, "digits", out=tmp_path / "run", progress=False, callback=stop, **again)
    resumed = minivit.train(minivit.create_model("vit", **TINY), "digits", out=tmp_path / "run", resume=True,
                            progress=False)
    straight = minivit.train(minivit.create_model("vit", seed=1, **TINY), "digits", progress=False, **again)
    np.testing.assert_array_equal(resumed.model.vector, straight.model.vector)
