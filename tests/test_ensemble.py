"""`minivit evaluate RUN RUN`: the mean of the probabilities of several runs, reported apart."""

import json

import numpy as np
import pytest

import minivit
from minivit import cli
from minivit.training_pipeline.folder import RunFolder
from minivit.training_pipeline.results.evaluate_ensemble import evaluate_ensemble, split_arguments
from minivit.training_pipeline.results.evaluate_run import evaluate_run

pytestmark = pytest.mark.usefixtures("no_curve")
TINY = {"channels": 1, "patch_size": 4, "width": 16, "depth": 1, "heads": 2, "mlp_ratio": 2}


def images_of(labels, size, seed):
    """Images of three classes: a bright quarter, and noise."""
    images = np.random.default_rng(seed).integers(0, 200, (len(labels), size, size, 1), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[size // 2 * (label // 2):][:size // 2, size // 2 * (label % 2):][:, :size // 2] += 30
    return images


def data(path, names=("a", "b", "c"), size=8, seed=0, order=(0, 1, 2)):
    """A data set in a file. `order`: the number that each class has."""
    labels = np.arange(240) % 3
    np.savez(path, train_images=images_of(labels[:180], size, seed), train_labels=np.array(order)[labels[:180]],
             test_images=images_of(labels[180:], size, seed + 1), test_labels=np.array(order)[labels[180:]],
             class_names=np.array(names))
    return path


def train(source, out, seed, size=8, **settings):
    model = minivit.create_model("vit", image_size=size, classes=3, seed=seed, **TINY)
    minivit.train(model, source, out=out, seed=seed, epochs=3, batch_size=30, progress=False,
                  **({"augment": "none"} | settings))
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs on the same data; the last one knows the classes in another order."""
    folder = tmp_path_factory.mktemp("ensemble")
    source, turned = data(folder / "d.npz"), data(folder / "turned.npz", ("b", "c", "a"), order=(2, 0, 1))
    return [str(train(source if seed < 2 else turned, folder / f"run{seed}", seed)) for seed in range(3)]


def probabilities(run, order):
    found = RunFolder(run)
    logits = found.read_model().predict(minivit.load_data(found.config()["data"]["source"]["source"]).test_images)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (p / p.sum(axis=1, keepdims=True))[:, order]


def test_an_ensemble_predicts_the_mean_of_the_probabilities_by_class_name(runs):
    result = evaluate_ensemble([RunFolder(run) for run in runs])
    mean = (probabilities(runs[0], [0, 1, 2]) + probabilities(runs[1], [0, 1, 2])
            + probabilities(runs[2], [2, 0, 1])) / 3
    true = np.arange(180, 240) % 3
    assert result.class_names == ["a", "b", "c"]
    assert result.together.accuracy == (mean.argmax(axis=1) == true).mean()
    assert result.together.confusion.sum(axis=1).tolist() == [20, 20, 20]
    for run, member in zip(runs, result.members, strict=True):
        _, alone = evaluate_run(RunFolder(run))
        assert (member.accuracy, member.seen) == (alone.accuracy, 0)
        np.testing.assert_array_equal(member.confusion, alone.confusion)
    first = result.together.mistakes[0]
    assert first.probability == pytest.approx(mean[first.index].max(), rel=1e-5)
    assert result.together.with_flip is None


def test_the_command_prints_each_run_and_the_ensemble_apart(runs, capsys):
    assert cli.main(["evaluate", *runs]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines[:4]] == [*runs, "ensemble of 3, mean of the probabilities"]
    assert all(": accuracy " in line and " on 60 images" in line for line in lines[:4])
    assert cli.main(["evaluate", *runs, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [member["run"] for member in found["members"]] == runs
    assert found["images"] == 60
    assert found["class_names"] == ["a", "b", "c"]


def test_the_last_argument_may_be_data_and_training_images_are_noticed(runs, tmp_path, capsys):
    assert split_arguments(runs) == (runs, None)
    assert split_arguments([*runs, "digits"]) == (runs, "digits")
    assert split_arguments(["nothing"]) == (["nothing"], None)
    new = data(tmp_path / "new.npz", seed=5)
    assert cli.main(["evaluate", *runs, str(new)]) == 0
    assert "on 60 images" in capsys.readouterr().out
    seen = minivit.load_data(RunFolder(runs[0]).config()["data"]["source"]["source"])
    np.savez(tmp_path / "seen.npz", train_images=seen.test_images, train_labels=seen.test_labels,
             test_images=seen.train_images, test_labels=seen.train_labels, class_names=np.array(seen.class_names))
    assert cli.main(["evaluate", *runs[:2], str(tmp_path / "seen.npz")]) == 0
    notes = capsys.readouterr().err
    assert notes.count("was trained or validated on 180 of these 180 images") == 2


def test_runs_that_mirrored_images_are_also_averaged_over_mirror_images(tmp_path):
    source = data(tmp_path / "d.npz")
    runs = [RunFolder(train(source, tmp_path / f"run{seed}", seed, augment="flip")) for seed in range(2)]
    result = evaluate_ensemble(runs)
    total = 0
    images = minivit.load_data(source).test_images
    for run in runs:
        model = run.read_model()
        logits = (model.predict(images) + model.predict(images[:, :, ::-1].copy())) / 2
        total = total + np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert result.together.with_flip.accuracy == (total.argmax(axis=1) == np.arange(180, 240) % 3).mean()
    assert [member.with_flip.accuracy for member in result.members] == [
        evaluate_run(run)[1].with_flip.accuracy for run in runs]


def test_runs_that_do_not_belong_together_are_one_line(runs, tmp_path, capsys):
    def refused(arguments, message):
        assert cli.main(["evaluate", *arguments]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert message in said

    other = train(data(tmp_path / "other.npz", ("a", "b", "d")), tmp_path / "other", 0)
    refused([runs[0], str(other)], "has the classes a, b, d, but")
    split = train(data(tmp_path / "split.npz", seed=9), tmp_path / "split", 0)
    refused([runs[0], str(split)], "has other test images than")
    refused([*runs, "--report", str(tmp_path / "page.html")], "--report shows one run: name only one")
    refused([runs[0], str(tmp_path), runs[1]], "is not a run")
    refused([runs[0], "nothing"], "unknown data set")
    assert not (tmp_path / "page.html").exists()
