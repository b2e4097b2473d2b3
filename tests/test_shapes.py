"""Generated images: each is a function of seed and index, and shows what its label says; data sets by name."""

import json
from dataclasses import replace

import numpy as np
import pytest

from minivit import cli
from minivit.data import load_data, shapes
from minivit.data.generated import TEST_IMAGES, TRAINING_IMAGES
from minivit.data.shapes import BRIGHT, CELL, CROSS, DARK, GREY, LINE, PATTERNS, PLUS, TASKS, draw_shapes

SIDES = (16, 32)


@pytest.fixture
def clean(monkeypatch):
    """Draw without noise, so that a picture can be read exactly."""
    for name, task in TASKS.items():
        monkeypatch.setitem(TASKS, name, replace(task, noise=0.0))


@pytest.mark.parametrize("task", TASKS)
def test_an_image_is_a_function_of_its_seed_and_index_whatever_else_is_drawn(task, monkeypatch):
    whole = draw_shapes(task, 300, seed=3)
    for piece in (4096, 7):
        monkeypatch.setattr(shapes, "PIECE", piece)
        some = draw_shapes(task, np.array([299, 0, 42, 17, 18, 5, 6, 8]), seed=3)
        for ours, theirs in zip(some, whole, strict=True):
            np.testing.assert_array_equal(ours, theirs[[299, 0, 42, 17, 18, 5, 6, 8]])


@pytest.mark.parametrize("task", TASKS)
def test_other_seeds_parts_and_indices_give_other_images(task):
    images = [draw_shapes(task, 50, seed=seed, part=part).images for seed, part in ((0, "train"), (1, "train"),
                                                                                   (2**32, "train"), (0, "test"))]
    images.append(draw_shapes(task, np.arange(2**32 - 50, 2**32)).images)
    assert len({image.tobytes() for part in images for image in part}) == 250


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("task", TASKS)
def test_labels_are_uniform_and_images_are_grey_bytes(task, side):
    images, labels, places = draw_shapes(task, 8000, image_size=side)
    K = len(TASKS[task].class_names)
    counts = np.bincount(labels, minlength=K)
    assert len(counts) == K
    assert ((counts - 8000 / K) ** 2 / (8000 / K)).sum() < K - 1 + 5 * (2 * K) ** 0.5    # chi-square, 5 deviations
    assert (images.shape, images.dtype) == ((8000, side, side, 1), np.uint8)
    assert places.min() >= 0
    assert places.max() <= side - 1


# ---- what the images show -------------------------------------------------------------------------------------------


def is_pattern(window, pattern):
    """Return whether a 3 x 3 window is bright exactly where the pattern is."""
    return ((window == BRIGHT) == pattern).all() and (window[~pattern] == GREY).all()


def test_texture_has_stripes_of_its_direction_at_its_place(clean):
    images, labels, places = draw_shapes("texture", 400)
    row, column = np.mgrid[:16, :16]
    right = 0
    for image, label, (y, x) in zip(images[..., 0].astype(float), labels, places, strict=True):
        inside = (row - y) ** 2 + (column - x) ** 2 <= 3.5**2
        pixels = image[inside] - image[inside].mean()
        energy = np.zeros(8)
        for k in range(8):                                            # the stripes change along the angle k pi / 8
            along = (np.cos(k * np.pi / 8) * (column - x) + np.sin(k * np.pi / 8) * (row - y))[inside]
            energy[k] = max(abs(pixels @ np.exp(2j * np.pi * along / period)) for period in (2.8, 3.1, 3.4, 3.7, 4))
        right += energy.argmax() == label
    assert right >= 0.7 * 400                                         # some stripes are hidden; chance is 50


@pytest.mark.parametrize("side", SIDES)
def test_count_is_the_number_of_plus_signs(clean, side):
    images, labels, places = draw_shapes("count", 400, image_size=side)
    for image, label, (y, x) in zip(images[..., 0], labels, places.astype(int), strict=True):
        windows = [image[i + k:i + k + 3, j + l:j + l + 3] for i in range(0, side, CELL) for j in range(0, side, CELL)
                   for k in (0, 1) for l in (0, 1)]
        assert sum(is_pattern(window, PLUS) for window in windows) == label + 1
        assert 1 <= sum(is_pattern(window, CROSS) for window in windows) <= 4
        assert is_pattern(image[y - 1:y + 2, x - 1:x + 2], PLUS)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("task", "pitch"), [("same-different", 2 * CELL), ("same-cells", CELL)])
def test_two_of_three_patterns_are_equal_or_none(clean, task, pitch, side):
    images, labels, places = draw_shapes(task, 1000, image_size=side)
    corners = set()
    for image, label, place in zip(images[..., 0], labels, places, strict=True):
        patterns, first = [], tuple((place - (CELL - 1) / 2).astype(int))
        for block in image.reshape(side // pitch, pitch, side // pitch, pitch).swapaxes(1, 2).reshape(-1, pitch, pitch):
            rows, columns = np.nonzero(block != GREY)
            if len(rows):                                             # a full square, and nothing else
                found = block[rows.min():rows.max() + 1, columns.min():columns.max() + 1]
                assert found.size == len(rows) == CELL**2
                patterns.append(found.tobytes())
        assert len(patterns) == PATTERNS
        assert len({*patterns}) == PATTERNS - label
        assert patterns.count(image[first[0]:first[0] + CELL, first[1]:first[1] + CELL].tobytes()) == 1 + label
        corners.add(first)
    assert len(corners) == 16 if (task, side) == ("same-cells", 16) else len(corners) >= 60
    assert {*np.unique(images)} == {DARK, GREY, BRIGHT}


def test_patterns_that_are_equal_by_chance_are_made_different(clean, monkeypatch):
    monkeypatch.setattr(shapes.Draws, "bits", lambda draws, *shape: np.zeros((len(draws.indices), *shape), bool))
    images, labels, _ = draw_shapes("same-cells", 50)
    for image, label in zip(images[..., 0], labels, strict=True):
        cells = image.reshape(4, CELL, 4, CELL).swapaxes(1, 2).reshape(16, -1)
        assert len({cell.tobytes() for cell in cells if (cell != GREY).all()}) == PATTERNS - label


@pytest.mark.parametrize("side", SIDES)
def test_symmetric_images_are_symmetric_but_for_the_middle(clean, side):
    images, labels, _ = draw_shapes("symmetry", 300, image_size=side)
    free = side // 2 - side // 8                                      # pixel columns on each side that are compared
    equal = (images == images[:, :, ::-1])[:, :, :free].all(axis=(1, 2, 3))
    np.testing.assert_array_equal(equal, labels == 1)
    middle = images[:, :, free:side // 2]
    agree = (middle == images[:, :, ::-1][:, :, free:side // 2]).mean(axis=(1, 2, 3))
    assert abs(agree[labels == 1].mean() - 0.5) < 0.1                 # they tell nothing
    assert abs(agree[labels == 0].mean() - 0.5) < 0.1


@pytest.mark.parametrize("side", SIDES)
def test_a_path_leads_from_dot_to_dot_exactly_on_one_line(clean, side):
    images, labels, places = draw_shapes("path", 600, image_size=side)
    for image, label, place in zip(images[..., 0], labels, places, strict=True):
        dots = {(int(y), int(x)) for y, x in np.argwhere(image == 255)}
        assert tuple(place.astype(int)) in dots
        assert len(dots) == 2 or (len(dots) == 1 and label)           # a line that had no room to begin is one dot
        reached, new = set(), {tuple(place.astype(int))}
        while new:
            reached |= new
            new = {(y + dy, x + dx) for y, x in new for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
                   if 0 <= y + dy < side and 0 <= x + dx < side and image[y + dy, x + dx] >= LINE} - reached
        assert (dots <= reached) == label


def test_the_distance_of_the_dots_tells_little_about_the_path(clean):
    images, labels, _ = draw_shapes("path", 4000)
    ends = [np.argwhere(image == 255) for image in images[..., 0]]
    distance = np.array([np.abs(dots[0] - dots[-1]).sum() for dots in ends])
    best = max(max((guess == labels).mean(), (guess != labels).mean()) for guess in (distance > d for d in range(30)))
    assert best < 0.57


@pytest.mark.parametrize("side", SIDES)
def test_position_is_the_field_of_the_only_plus_sign(clean, side):
    images, labels, places = draw_shapes("position", 400, image_size=side)
    for image, label, (y, x) in zip(images[..., 0], labels, places.astype(int), strict=True):
        windows = {(i + 1, j + 1): image[i:i + 3, j:j + 3] for i in range(side - 2) for j in range(side - 2)}
        assert (image[y - 1:y + 2, x - 1:x + 2] == np.where(PLUS, BRIGHT, GREY)).all()
        assert [place for place, window in windows.items() if is_pattern(window, PLUS)].count((y, x)) == 1
        assert label == 4 * (4 * y // side) + 4 * x // side


# ---- by name --------------------------------------------------------------------------------------------------------


def test_a_name_loads_nested_images_and_the_same_test():
    small, large = load_data("shapes:count:50", seed=2), load_data("shapes:count:80", seed=2)
    assert (len(small.train_labels), len(large.train_labels), len(small.test_labels)) == (50, 80, TEST_IMAGES)
    np.testing.assert_array_equal(large.train_images[:50], small.train_images)
    np.testing.assert_array_equal(large.test_images, small.test_images)
    again = load_data(**large.source)
    assert again.digest == large.digest
    assert (large.name, large.class_names) == ("shapes:count", ("one", "two", "three", "four"))
    assert len(load_data("shapes:position").train_labels) == TRAINING_IMAGES
    assert load_data("shapes:path:20", image_size=32).test_images.shape[1:] == (32, 32, 1)
    assert not {image.tobytes() for image in large.train_images} & {image.tobytes() for image in large.test_images}


@pytest.mark.parametrize(("source", "options", "message"), [
    ("shapes:textur", {}, "unknown generated images 'shapes:textur': did you mean 'shapes:texture'?"),
    ("shapes:", {}, "unknown generated images 'shapes:'"),
    ("shape:count", {}, "did you mean 'shapes:count'?"),
    ("shapes:count:1,000", {}, "shapes:count:1,000: after the task comes the number of training images"),
    ("shapes:count:1", {}, "2 to 4,294,967,296"),
    ("shapes:count:5:5", {}, "after the task comes the number"),
    ("shapes:count:9", {"image_size": 18}, "must be a multiple of 4, such as 16 or 32, not 18"),
    ("shapes:count:9", {"image_size": 8}, "image size of generated images must be a whole number at least 16"),
    ("shapes:count:9", {"image_size": (16, 32)}, "image_size=16x32 must be one number"),
    ("shapes:count:9", {"fit": "crop", "channels": 1}, "channels, fit: only for a folder of image files"),
    ("shapes:count:4294967296", {"image_size": 64}, "would take 16,384 GiB"),
])
def test_wrong_names_and_sizes_are_errors_of_one_line(source, options, message):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        load_data(source, **options)
    assert message in str(error.value)


@pytest.mark.parametrize(("arguments", "message"), [
    (("textures", 3), "task of generated images"), (("count", -1), "number of generated images"),
    (("count", np.array([0.5])), "whole numbers"), (("count", np.array([2**32])), "whole numbers"),
    (("count", np.zeros((2, 2), int)), "whole numbers"), (("count", 3, -1), "seed")])
def test_wrong_arguments_of_draw_shapes_are_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_shapes(*arguments)


def test_the_help_lists_all_tasks(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert all(task in text for task in TASKS)


def test_generated_images_train_resume_and_evaluate_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        assert cli.main([*arguments, "--json"]) in (0, None)
        return json.loads(capsys.readouterr().out)

    found = call("train", "shapes:position:300", "--model", "resnet_mini", "--image-size", "20", "--epochs", "1",
                 "-q", "--seed", "1")
    run = found["run"]
    assert run == "runs/shapes-position-300-resnet_mini-seed1"
    assert (tmp_path / run / "model.safetensors").is_file()
    assert call("evaluate", run)["accuracy"] == found["accuracy"]
    assert call("evaluate", run, "shapes:position:500")["images"] == TEST_IMAGES
    again = call("train", "shapes:position:300", "--model", "resnet_mini", "--resume", "-q", "--seed", "1")
    assert (again["run"], again["accuracy"]) == (run, found["accuracy"])
