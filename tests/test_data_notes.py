"""Notes on data that make a test accuracy misleading, each with data that have the fault and data that do not."""

import re

import numpy as np
import pytest
from PIL import Image

from minivit import cli
from minivit.data import Dataset, load_data
from minivit.training_pipeline import data_notes as data_notes_module
from minivit.training_pipeline.data_notes import count_text, data_notes, near_duplicates

RNG = np.random.default_rng(0)


def noise(count, size=16, channels=3):
    return RNG.integers(0, 256, (count, size, size, channels), np.uint8)


def data_of(train, labels, test=None, test_labels=None, names=("cat", "dog")):
    test = noise(2) if test is None else test
    return Dataset("pets", train, np.array(labels), test, np.array(test_labels or [0, 1]), names)


def test_good_data_have_no_note():
    assert data_notes(data_of(noise(8), [0, 1] * 4)) == []
    assert data_notes(load_data("digits")) == []


def test_counts_of_few_and_of_many_classes():
    assert count_text(data_of(noise(8), [0, 1] * 4)) == "4 each"
    assert count_text(data_of(noise(8), [0] * 6 + [1] * 2)) == "cat 6, dog 2"
    names = tuple(map(str, range(12)))
    assert count_text(data_of(noise(13), [*range(12), 3], names=names)) == "1 to 2 each"


def test_unequal_classes():
    [note] = data_notes(data_of(noise(13), [0] * 10 + [1] * 3))
    assert note == ("class cat has 3 times as many training images as class dog: read the recall of each class, and "
                    "try balanced class weights")
    assert data_notes(data_of(noise(12), [0] * 8 + [1] * 4)) == []


def test_a_class_with_one_image():
    assert "only one training image of class dog: a class needs several to be learned" in data_notes(
        data_of(noise(4), [0] * 3 + [1]))


def test_equal_blank_and_dark_images():
    images = noise(8)
    images[4:] = images[4]
    assert data_notes(data_of(images, [0] * 4 + [1] * 4)) == ["all training images of class dog are equal"]
    images = noise(8)
    images[1], images[6] = 7, (1, 2, 3)                               # each of a single colour
    assert data_notes(data_of(images, [0, 1] * 4)) == ["2 of 8 training images have a single colour"]
    assert data_notes(data_of(noise(8) // 20, [0, 1] * 4, noise(2) // 20)) == [
        "the images are almost black: their brightest pixel is 12 of 255"]


@pytest.mark.parametrize("change", [
    lambda x: np.clip(x.astype(int) + 4, 0, 255).astype(np.uint8),                        # a little brighter
    lambda x: np.clip(x + np.random.default_rng(1).normal(0, 3, x.shape), 0, 255).astype(np.uint8),
    lambda x: x[:, ::-1][:, ::-1],
])
def test_near_duplicates(change):
    train = noise(500, 32)
    test = noise(20, 32)
    test[[3, 7]] = change(train[[100, 499]])
    assert np.flatnonzero(near_duplicates(test, train)).tolist() == [3, 7]


def test_thumbnails_average_the_pixels_that_they_cover():
    np.testing.assert_allclose(data_notes_module._averages(2, 3), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], rtol=1e-6)
    for side, size in ((8, 8), (16, 16), (17, 16), (31, 16), (33, 16)):
        x, means = data_notes_module._thumbnails(noise(3, side, 1))
        assert x.shape == (3, size * size)
        np.testing.assert_allclose((x**2).sum(axis=1), 1, rtol=1e-5)
    image = noise(1, 32, 1)
    blocks = image.reshape(16, 2, 16, 2).mean(axis=(1, 3))
    x, means = data_notes_module._thumbnails(image)
    assert means[0] == pytest.approx(blocks.mean(), rel=1e-5)
    np.testing.assert_allclose(x[0], ((blocks - blocks.mean()) / np.linalg.norm(blocks - blocks.mean())).ravel(),
                               atol=1e-5)


def test_signals_and_images_without_contrast_are_no_near_duplicates():
    t = np.arange(128)
    signals = 128 + 100 * np.sin(t / 9) + RNG.normal(0, 8, (400, 1, 128))
    signals = signals.clip(0, 255).astype(np.uint8)[..., None]
    assert not near_duplicates(signals[:200], signals[200:]).any()
    walls = 128 + np.linspace(-4, 4, 32)[:, None] * np.ones(32) + RNG.normal(0, 1, (20, 32, 32))
    walls = walls.astype(np.uint8)[..., None]
    assert not near_duplicates(walls[:10], walls[10:]).any()


def test_of_many_images_some_are_compared(monkeypatch):
    monkeypatch.setattr(data_notes_module, "MOST_PAIRS", 205)
    train = noise(10)
    test = np.concatenate([train] * 10) ^ np.uint8(1)
    [note] = data_notes(data_of(train, [0, 1] * 5, test, [0, 1] * 50))
    assert note == ("20 of the 20 test images that were compared are nearly equal to a training image: the test "
                    "accuracy will be higher than on new images")
    test[1:-1] = noise(98)
    [note] = data_notes(data_of(train, [0, 1] * 5, test, [0, 1] * 50))
    assert note.startswith("2 of the 20 test images that were compared")      # evenly spaced: the first and the last


def test_different_photos_are_no_near_duplicates():
    digits = load_data("digits")
    assert near_duplicates(digits.test_images, digits.train_images).mean() < 0.01
    ramps = (np.arange(64) * np.ones((64, 1)))[None, ..., None].astype(np.uint8)
    assert not near_duplicates(ramps, ramps.transpose(0, 2, 1, 3)).any()
    assert not near_duplicates(ramps, ramps + np.uint8(90)).any()     # equal up to its brightness


def test_near_duplicates_are_named_before_the_training_and_in_the_report(tmp_path, capsys):
    for part in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / "mine" / part / name).mkdir(parents=True)
            for k in range(3):
                Image.fromarray(noise(1, 8)[0]).resize((48, 48)).save(tmp_path / "mine" / part / name / f"{k}.png")
    again = Image.open(tmp_path / "mine" / "train" / "a" / "0.png")
    again.save(tmp_path / "mine" / "test" / "a" / "again.jpg", quality=95)
    assert cli.main(["train", str(tmp_path / "mine"), "--epochs", "1", "--out", str(tmp_path / "run")]) == 0
    note = ("1 of the 7 test images is nearly equal to a training image, such as test/a/again.jpg: the test accuracy "
            "will be higher than on new images")
    said = capsys.readouterr().err
    assert f"note: {note}\n" in said
    assert re.search(r"mine: 6 training and 7 test images of 2 classes \(3 each\); .* parameters; run: ", said)
    assert "\nprepared: 13 image files (12 PNG, 1 JPEG) of 48x48 pixels, taken as they are, colour (RGB)\n" in said
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"<li>{note}.</li>" in page
    assert "<li>13 image files (12 PNG, 1 JPEG) of 48x48 pixels, taken as they are, colour (RGB).</li>" in page
    assert "<td>3 + 4</td>" in page                                   # training and test images of class a
    assert "Balanced accuracy, the mean of the recall of all classes: " in page
