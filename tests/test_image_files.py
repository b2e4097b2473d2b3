"""Folders of image files: how each image is prepared, how classes and parts are found, and how damage is reported."""

import io
import json
import re
import shutil
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minivit
from minivit import cli
from minivit.data import image_folder as folder_module
from minivit.data import load_data, read_image_files

pytestmark = pytest.mark.usefixtures("no_curve")
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """Use a temporary cache instead of that of the user."""
    monkeypatch.setattr(folder_module.platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)


def smooth(width, height, seed=0):
    """Return a coloured image without sharp edges."""
    small = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def thirds(width, height):
    """Return an image of three equal parts, red, green and blue, along its longer side."""
    pixels = np.zeros((3, max(width, height), 3), np.uint8)
    for k, colour in enumerate((RED, GREEN, BLUE)):
        pixels[:, k * pixels.shape[1] // 3:(k + 1) * pixels.shape[1] // 3] = colour
    image = Image.fromarray(pixels[:1])
    return (image if width > height else image.rotate(-90, expand=True)).resize(
        (width, height), Image.Resampling.NEAREST)


def read(tmp_path, image, size=8, channels=3, fit="crop", suffix="png", **options):
    image.save(tmp_path / f"one.{suffix}", **options)
    return read_image_files([tmp_path / f"one.{suffix}"], size, channels, fit)[0]


# ---- one image --------------------------------------------------------------------------------------------------


def test_an_image_of_the_right_size_is_unchanged(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    for fit in ("crop", "pad", "stretch"):
        np.testing.assert_array_equal(read(tmp_path, Image.fromarray(pixels), fit=fit), pixels)


@pytest.mark.parametrize(("width", "height"), [(90, 30), (30, 90)])
def test_crop_takes_the_middle_square(tmp_path, width, height):
    image = read(tmp_path, thirds(width, height), size=10)
    np.testing.assert_array_equal(image[2:8, 2:8], np.broadcast_to(GREEN, (6, 6, 3)))
    assert image[..., 1].min() > 200                  # only the outermost pixels see a little of what was cut off


@pytest.mark.parametrize(("width", "height"), [(90, 30), (30, 90)])
def test_pad_adds_black_borders_and_keeps_the_whole_image(tmp_path, width, height):
    image = read(tmp_path, thirds(width, height), size=9, fit="pad")
    image = image if width > height else image.transpose(1, 0, 2)
    np.testing.assert_array_equal(image[4, [1, 4, 7]], [RED, GREEN, BLUE])
    assert image[[0, 1, 7, 8]].max() < 16             # bicubic rings a little


def test_stretch_scales_width_and_height_separately(tmp_path):
    image = read(tmp_path, thirds(90, 30), size=9, fit="stretch")
    for row in image:
        np.testing.assert_array_equal(row[[1, 4, 7]], [RED, GREEN, BLUE])


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2), (1000, 700)])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_any_size_is_accepted(tmp_path, size, fit):
    assert read(tmp_path, smooth(*size), fit=fit).shape == (8, 8, 3)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_long_thin_image_needs_no_memory_for_a_square_of_its_length(tmp_path, fit):
    # a square of that would be 120 GB
    image = read(tmp_path, Image.new("RGB", (200_000, 20), RED), fit=fit, suffix="png")
    assert image[3 if fit == "pad" else 0].tolist() == [list(RED)] * 8


def test_downscaling_averages_the_pixels_that_a_new_pixel_covers(tmp_path):
    pixels = np.where(np.indices((64, 64)).sum(axis=0) % 2, 255, 0).astype(np.uint8)      # a chessboard, from afar grey
    assert np.abs(read(tmp_path, Image.fromarray(pixels), channels=1).astype(int) - 128).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("suffix", "mode"), [("jpg", "RGB"), ("png", "RGB"), *(
    ("tif", mode) for mode in ("RGB", "L", "1", "P", "LA", "RGBA", "CMYK"))])
def test_exif_rotation_is_undone(tmp_path, orientation, suffix, mode):
    upright = smooth(64, 48).convert(mode)
    turn = [None, None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM,
            Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_90, Image.Transpose.TRANSVERSE,
            Image.Transpose.ROTATE_270][orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = read(tmp_path, upright if turn is None else upright.transpose(turn), suffix=suffix, exif=exif)
    np.testing.assert_allclose(image.astype(int), read(tmp_path, upright, suffix=suffix).astype(int), atol=6)


def test_a_large_jpeg_decoded_at_a_smaller_size_is_the_same_image(tmp_path):
    image = smooth(1600, 1200)
    png, jpeg = read(tmp_path, image, size=32), read(tmp_path, image, size=32, suffix="jpg", quality=95)
    assert np.abs(png.astype(int) - jpeg.astype(int)).mean() < 2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_mode_is_accepted(tmp_path, mode, channels):
    image = Image.new(mode, (10, 7))
    assert read(tmp_path, image, channels=channels, suffix="jpg"
                if mode == "YCbCr" else "tif").shape == (8, 8, channels)


def test_16_bit_grey_is_scaled(tmp_path):
    pixels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    np.testing.assert_array_equal(read(tmp_path, Image.fromarray(pixels), channels=1)[..., 0], pixels >> 8)


def test_palette_becomes_its_colours(tmp_path):
    image = thirds(90, 30).convert("P", palette=Image.Palette.ADAPTIVE)
    assert read(tmp_path, image, size=9, fit="stretch")[4, [1, 4, 7]].tolist() == [list(RED), list(GREEN), list(BLUE)]


def test_transparent_pixels_become_white(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4] = (255, 0, 0, 255)                     # below it, black and invisible
    image = read(tmp_path, Image.fromarray(pixels))
    assert image[0, 0].tolist() == [255, 0, 0]
    assert image[7, 7].tolist() == [255, 255, 255]
    assert read(tmp_path, Image.fromarray(pixels), channels=1)[7, 7] == 255
    np.testing.assert_array_equal(read(tmp_path, Image.fromarray(pixels), channels=4), pixels)
    palette = Image.fromarray(np.zeros((8, 8), np.uint8)).convert("P")
    assert read(tmp_path, palette, transparency=0).min() == 255


def test_the_first_frame_of_an_animation_is_used(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    assert read(tmp_path, frames[0], suffix="gif", save_all=True, append_images=frames[1:])[0, 0].tolist() == list(RED)


# ---- files that are not images -------------------------------------------------------------------------------------


def encoded(image, kind="PNG"):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_that_claims(width, height):
    """Return a PNG of a few bytes whose header states this size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


NO_PICTURES = {
    "empty.png": (b"", "not one of PNG, JPEG"),
    "text.jpg": (b"<html>404</html>", "not one of PNG, JPEG"),
    "photo.heic": (b"\0\0\0\x18ftypheic", "not one of PNG, JPEG|pip install pillow-heif|moov"),
    "truncated.png": (encoded(smooth(60, 50))[:900], "truncated"),
    "truncated.jpg": (encoded(smooth(60, 50), "JPEG")[:700], "truncated"),
    "bomb.png": (png_that_claims(60_000, 60_000), "60000x60000 pixels, more than 134,217,728; scale it "
                                                  "down|decompression bomb"),
    "large.png": (png_that_claims(12_000, 12_000), "12000x12000 pixels, more than 134,217,728; scale it down"),
    "floats.tif": (encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), "floating-point"),
}


@pytest.mark.parametrize("name", NO_PICTURES)
def test_a_file_that_is_not_an_image_is_named(tmp_path, name, recwarn):
    content, reason = NO_PICTURES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError,
                       match=rf"{name} is not a readable image file \(.*({reason}).*\): repair, .* remove it") as error:
        read_image_files([tmp_path / name], 8, 3)
    assert "\n" not in str(error.value)
    assert not recwarn


def test_up_to_five_files_that_are_not_images_are_named(tmp_path):
    files = []
    for k in range(12):
        files.append(tmp_path / f"{k}.png")
        files[-1].write_bytes(b"none" if k % 3 else encoded(smooth(9, 9)))
    with pytest.raises(
        ValueError,
        match=r"7\.png are not readable image files \(not one of PNG, .*\); and 3 more: .* remove them") as error:
        read_image_files(files, 8, 3)
    assert re.findall(r"(\d+)\.png", str(error.value)) == list("12457")
    assert str(error.value).count("not one of PNG") == 1


def test_all_bad_files_of_a_folder_are_named_at_once(tmp_path):
    folder = make_folder(tmp_path / "mine", {"a": 3, "b": 3})
    (folder / "a" / "0.png").write_bytes(b"not an image")             # its header shows that
    (folder / "b" / "1.jpg").write_bytes(NO_PICTURES["truncated.jpg"][0])  # only reading it all tells
    with pytest.raises(ValueError,
                       match=r"a/0\.png is not a readable .*; .*b/1\.jpg is not a readable image file .*remove them"):
        load_data(folder)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png: no such file"):
        read_image_files([tmp_path / "nowhere.png"], 8, 3)
    (tmp_path / "my news").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no such file, but a folder: its files are '\S+/my news'/\*"):
        read_image_files([f"{tmp_path}/my news/"], 8, 3)


# ---- a folder -----------------------------------------------------------------------------------------------------


def make_folder(folder, classes, size=(20, 16), seed=0):
    """Write random images to sub-folders and return the folder. classes: {"cat": 5, "train/dog": 3}, for example."""
    rng = np.random.default_rng(seed)
    for name, count in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            smooth(*size, seed=int(rng.integers(1 << 30))).save(folder / name / f"{k}.{'jpg' if k % 2 else 'png'}")
    return folder


def test_sub_folders_are_the_classes(tmp_path):
    data = load_data(make_folder(tmp_path / "pets", {"cat": 5, "dog": 10, "eel": 5}))
    assert (data.name, data.class_names, data.fit) == ("pets", ("cat", "dog", "eel"), "crop")
    assert data.train_images.shape == (16, 16, 16, 3)
    assert np.bincount(data.train_labels).tolist() == [4, 8, 4]
    assert np.bincount(data.test_labels).tolist() == [1, 2, 1]
    files = sorted((tmp_path / "pets" / "dog").iterdir())
    dogs = np.concatenate([data.train_images[data.train_labels == 1], data.test_images[data.test_labels == 1]])
    assert sorted(image.tobytes() for image in dogs) == sorted(image.tobytes()
                                                               for image in read_image_files(files, 16, 3))


def test_other_files_and_hidden_folders_are_ignored(tmp_path):
    pets = make_folder(tmp_path / "pets", {"cat": 4, "dog/old/blurred": 4, ".git": 1, "__MACOSX": 1,
                                           "cat/.ipynb_checkpoints": 1})
    for litter in ("Thumbs.db", ".DS_Store", "notes.txt", "._0.png"):
        (pets / "cat" / litter).write_bytes(b"litter")
    (pets / "overview.png").write_bytes(encoded(smooth(5, 5)))
    (pets / "dog" / "UPPER.PNG").write_bytes(encoded(smooth(5, 5)))
    data = load_data(pets, test_fraction=1)
    assert data.class_names == ("cat", "dog")
    assert np.bincount(data.test_labels).tolist() == [4, 5]


@pytest.mark.parametrize(("sizes", "expected"), [
    ([(28, 28)], 28), ([(300, 200)], 64), ([(47, 90)], 44), ([(10, 10), (90, 33)], 32), ([(2, 2)], 4), ([(64, 64)], 64),
])
def test_the_default_image_size_is_that_of_the_files_up_to_64(tmp_path, sizes, expected):
    for k, size in enumerate(sizes):
        make_folder(tmp_path / "mine", {f"a{k}": 2, "b": 2}, size)
    assert load_data(tmp_path / "mine").test_images.shape[1:] == (expected, expected, 3)


def test_image_size_and_fit_can_be_chosen(tmp_path):
    folder = make_folder(tmp_path / "mine", {"a": 2, "b": 2}, (90, 30))
    data = load_data(folder, image_size=12, fit="pad", channels=1)
    assert data.test_images.shape[1:] == (12, 12, 1)
    assert data.test_images[:, 0].max() == 0          # the padding
    assert data.source == {"source": str(folder), "seed": 0, "test_fraction": 0.2, "image_size": 12, "channels": 1,
                           "fit": "pad"}
    assert load_data(**data.source).digest == data.digest


def test_there_is_one_channel_if_all_images_are_gray(tmp_path):
    for k, mode in enumerate(("L", "1", "LA", "I;16")):
        (tmp_path / "mine" / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        for n in range(2):
            Image.new(mode, (9, 9)).save(tmp_path / "mine" / "ab"[k % 2] / f"{k}{n}.png")
    assert load_data(tmp_path / "mine").test_images.shape[-1] == 1
    Image.new("RGB", (9, 9)).save(tmp_path / "mine" / "a" / "colour.png")
    assert load_data(tmp_path / "mine").test_images.shape[-1] == 3


@pytest.mark.parametrize("counts", [
    {"a": 4, "b/old": 6}, {"train/a": 2, "train/b": 2, "val/a": 3, "val/b": 1}, {"test/a": 2, "test/b": 3},
], ids=str)
def test_test_images_know_their_files(tmp_path, counts):
    data = load_data(make_folder(tmp_path / "mine", counts))
    np.testing.assert_array_equal(data.test_images,
                                  read_image_files([tmp_path / "mine" / file for file in data.test_files], 16, 3))
    with pytest.raises(ValueError, match="files of 1 test images"):
        replace(data, test_images=data.test_images[:1], test_labels=data.test_labels[:1])
    assert [data.class_names.index(Path(file).parts[-2].replace("old", "b"))
            for file in data.test_files] == data.test_labels.tolist()


@pytest.mark.parametrize(("train", "val"), [("train", "val"), ("Training", "validation"), ("train", "valid")])
def test_parts_are_sub_folders(tmp_path, train, val):
    counts = {f"{train}/a": 3, f"{train}/b": 4, f"{val}/a": 2, f"{val}/b": 1, "test/a": 1, "test/b": 2}
    data = load_data(make_folder(tmp_path / "mine", counts))
    found = {part: np.bincount(labels).tolist() for part, (_, labels) in data.parts.items()}
    assert found == {"train": [3, 4], "val": [2, 1], "test": [1, 2]}
    np.testing.assert_array_equal(data.test_images[:1], read_image_files([tmp_path / "mine" / "test" / "a" / "0.png"],
                                                                         16, 3))
    assert data.class_names == ("a", "b")


def test_the_validation_part_is_the_test_part_without_another(tmp_path):
    data = load_data(make_folder(tmp_path / "mine", {"train/a": 3, "train/b": 3, "val/a": 2, "val/b": 2}))
    assert (len(data.train_labels), len(data.test_labels), data.val_labels) == (6, 4, None)


def test_train_alone_is_split_and_test_alone_is_for_scoring(tmp_path):
    data = load_data(make_folder(tmp_path / "a", {"train/a": 5, "train/b": 5}))
    assert (len(data.train_labels), len(data.test_labels)) == (8, 2)
    data = load_data(make_folder(tmp_path / "b", {"test/a": 5, "test/b": 5}))
    assert (len(data.train_labels), len(data.test_labels)) == (0, 10)


def test_classes_may_have_the_names_of_parts(tmp_path):
    assert load_data(make_folder(tmp_path / "vehicles", {"car": 2, "train": 2}),
                     test_fraction=1).class_names == ("car", "train")


BAD_FOLDERS = {
    "nothing in it": ({}, "mine holds no image files in sub-folders: put"),
    "no sub-folders": ({"": 3}, "mine holds image files, but not in sub-folders: put"),
    "empty sub-folders": ({"a": 0, "b": 0}, "mine holds no image files in sub-folders: put"),
    "an empty class": ({"a": 3, "b": 0, "c": 0}, r"mine has no image files of b, c: add some"),
    "one level too many": ({"pets/cat": 2, "pets/dog": 2},
                           "one class only, pets: if cat, dog are the classes, pass .*mine/pets"),
    "parts and classes": ({"train/a": 2, "train/b": 2, "c": 2}, "has c beside train: put all classes into the parts"),
    "a part twice": ({"val/a": 2, "val/b": 2, "valid/a": 2, "valid/b": 2}, "one part twice, as val, valid: merge them"),
    "an empty class in a part": ({"train/a": 2, "train/b": 2, "test/a": 2, "test/b": 0},
                                 "test has no image files of b"),
    "one image of a class": ({"a": 3, "b": 1}, "mine: class b has one image only"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_wrong_folder_is_a_one_line_error(tmp_path, capsys, case):
    classes, message = BAD_FOLDERS[case]
    (tmp_path / "mine").mkdir()
    assert cli.main(["train", str(make_folder(tmp_path / "mine", classes)), "--out", str(tmp_path / "run")]) == 2
    line = capsys.readouterr().err
    assert re.fullmatch(rf"minivit: error: .*{message}.*\n", line), line
    assert not (tmp_path / "run").exists()


BAD_CALLS = {
    "one class": ({"a": 5}, [], "mine has one class only, a: a classifier needs at least two"),
    "class of the test part": ({"train/a": 5, "train/b": 5, "test/a": 2, "test/Cat": 2}, [],
                               "no training images of class Cat"),
    "nothing to train on": ({"test/a": 5, "test/b": 5}, [], "mine has no training images"),
    "size 0": ({"a": 5, "b": 5}, ["--image-size", "0"], "image size must be a whole number at least 4, .*, not 0"),
    "prime size": ({"a": 5, "b": 5}, ["--image-size", "47"], "images of 47x47 pixels .* such as --image-size 48"),
    "unheard-of size": ({"a": 5, "b": 5}, ["--image-size", "1000000"],
                        "10 images of 1000000x1000000 would take .* GiB"),
    "unknown fit": ({"a": 5, "b": 5}, ["--fit", "crp"], "unknown fit 'crp': did you mean 'crop'"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_folder_that_cannot_be_trained_on_is_a_one_line_error(tmp_path, capsys, case):
    classes, options, message = BAD_CALLS[case]
    folder = make_folder(tmp_path / "mine", classes)
    assert cli.main(["train", str(folder), "--out", str(tmp_path / "run"), *options]) == 2
    assert re.fullmatch(rf"minivit: error: .*{message}.*\n", capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_classes_without_test_images_are_noted(tmp_path, capsys):
    folder = make_folder(tmp_path / "mine", {"train/a": 5, "train/b": 5, "train/c": 5, "test/b": 2, "test/c": 2})
    note = "minivit: note: mine has no test images of a: their accuracy will be unknown\n"
    for noted in (True, False):
        assert cli.main(["train", str(folder), "--epochs", "0.1", "--out", str(tmp_path / f"run{noted}")]) == 0
        assert (note in capsys.readouterr().err) == noted
        make_folder(folder, {"test/a": 1})


@pytest.mark.parametrize("option", [["--image-size", "32"], ["--fit", "pad"]], ids="".join)
def test_preparation_options_are_for_image_files_only(capsys, option):
    assert cli.main(["train", "digits", *option]) == 2
    assert "only for a folder of image files; the images of digits" in capsys.readouterr().err


# ---- kept in the cache ----------------------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch):
    """Return a list of the number of image files read by each call. Every result is cached, even if it is fast."""
    counts = []
    monkeypatch.setattr(folder_module, "SLOW", 0)
    monkeypatch.setattr(folder_module, "read_image_files", lambda files, *more, **named:
                        counts.append(len(files)) or read_image_files(files, *more, **named))
    return counts


def test_image_files_are_read_again_only_if_one_changed(tmp_path, reads):
    folder = make_folder(tmp_path / "mine", {"a": 3, "b": 3})
    first = load_data(folder)
    assert load_data(folder).digest == first.digest
    assert load_data(**first.source).digest == first.digest
    assert reads == [6]
    smooth(20, 16, seed=99).save(folder / "a" / "0.png")
    changed = load_data(folder)
    assert changed.digest != first.digest
    make_folder(folder, {"c": 2})
    assert load_data(folder).classes == 3
    assert reads == [6, 6, 8]
    assert len(list((tmp_path / "cache" / "minivit" / "images").iterdir())) == 1


def test_each_preparation_has_its_own_cache(tmp_path, reads):
    folder = make_folder(tmp_path / "mine", {"a": 3, "b": 3})
    first, second = load_data(folder, fit="crop"), load_data(folder, fit="stretch")
    assert load_data(folder, fit="crop").digest == first.digest != second.digest
    assert reads == [6, 6]


def test_a_damaged_or_read_only_cache_does_no_harm(tmp_path, reads):
    folder = make_folder(tmp_path / "mine", {"a": 3, "b": 3})
    first = load_data(folder)
    [store] = (tmp_path / "cache" / "minivit" / "images").iterdir()
    store.write_bytes(store.read_bytes()[:500])
    assert load_data(folder).digest == first.digest
    store.unlink()
    store.parent.rmdir()
    store.parent.write_bytes(b"a file where the folder should be")
    assert load_data(folder).digest == first.digest
    assert reads == [6, 6, 6]


def test_small_folders_are_not_cached(tmp_path):
    load_data(make_folder(tmp_path / "mine", {"a": 3, "b": 3}))
    assert not (tmp_path / "cache").exists()


# ---- train, evaluate, predict ---------------------------------------------------------------------------------------


def test_train_evaluate_predict_and_resume(tmp_path, capsys, monkeypatch):
    def call(*arguments):
        assert cli.main([str(a) for a in (*arguments, "--json")]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    monkeypatch.chdir(tmp_path)
    pets = make_folder(tmp_path / "pets", {"cat": 12, "dog": 12, "eel": 6}, size=(40, 30))
    first = call("train", "pets", "--epochs", 2, "--image-size", 16, "--fit", "pad")
    assert first["run"] == "runs/pets-seed0"
    result = call("evaluate", "runs/pets-seed0")
    assert (result["accuracy"], result["images"],
            result["class_names"]) == (first["accuracy"], 5, ["cat", "dog", "eel"])
    assert call("evaluate", "runs/pets-seed0", "pets") == result          # the same images: the test part of the run
    # without the options that it was started with
    assert call("train", "pets", "--resume")["accuracy"] == first["accuracy"]

    assert cli.main(["train", "digits", "--resume", "--out", "runs/pets-seed0"]) == 2
    error = capsys.readouterr().err
    assert "digits does not fit the model: it has 10 classes of images (8, 8, 1), the model 3 classes" in error

    data = load_data(pets, image_size=16, fit="pad")
    files = sorted((pets / "cat").iterdir())
    rows = call("predict", "runs/pets-seed0", *files)
    assert [row["image"] for row in rows] == [str(file) for file in files]
    best = minivit.load("runs/pets-seed0").predict(read_image_files(files, 16, 3, "pad")).argmax(axis=1)
    assert [row["classes"][0]["class"] for row in rows] == [data.class_names[k] for k in best]

    # Other images, of some of the classes, in grey and another size: prepared as the run's own, and found by name.
    others = make_folder(tmp_path / "others", {"dog": 3, "eel": 4}, size=(50, 90), seed=5)
    Image.open(others / "dog" / "0.png").convert("L").save(others / "dog" / "0.png")
    result = call("evaluate", "runs/pets-seed0", "others")
    assert np.array(result["confusion"]).sum(axis=1).tolist() == [0, 3, 4]
    assert cli.main(["evaluate", "runs/pets-seed0", str(make_folder(tmp_path / "fish", {"eel": 2, "cod": 2}))]) == 2
    assert "fish has classes that the run does not know: cod; it knows cat, dog, eel" in capsys.readouterr().err
    assert cli.main(["evaluate", "runs/pets-seed0", str(make_folder(tmp_path / "typo", {"cta": 2, "dog": 2}))]) == 2
    error = capsys.readouterr().err
    assert "typo has classes that the run does not know: cta (did you mean 'cat'?); it knows cat, dog, eel" in error

    # Renamed: the data are gone, but at their new place they are the same.
    pets = pets.rename(tmp_path / "moved")
    for verb in (["evaluate", "runs/pets-seed0"], ["predict", "runs/pets-seed0", "3"],
                 ["attend", "runs/pets-seed0", "3", "--out", "look.png"]):
        assert cli.main(verb) == 2
        assert re.fullmatch(r"minivit: error: \S+/pets, on which .* is gone: restore it, or evaluate the run on the "
                            r"data at their new path\n", capsys.readouterr().err)
    assert call("evaluate", "runs/pets-seed0", "moved")["accuracy"] == first["accuracy"]
    assert call("train", "moved", "--resume", "--out", "runs/pets-seed0")["accuracy"] == first["accuracy"]

    (pets / "cat" / "0.png").unlink()
    assert cli.main(["evaluate", "runs/pets-seed0"]) == 2
    assert "moved has changed since" in capsys.readouterr().err


def test_evaluate_says_how_many_of_the_images_were_training_images(tmp_path, capsys):
    def learned(*folder):
        assert cli.main(["evaluate", run, *map(str, folder), "--json"]) == 0
        said, note = capsys.readouterr()
        result = json.loads(said)
        counts = f"{result['learned']} of these {result['images']} images"
        words = f"minivit: note: {run} was trained or validated on {counts}: .*\n"
        assert re.fullmatch(words if result["learned"] else "", note)
        return result["learned"], result["images"]

    pets, run = make_folder(tmp_path / "pets", {"cat": 12, "dog": 12, "eel": 6}), str(tmp_path / "run")
    assert cli.main(["train", str(pets), "--epochs", "1", "--image-size", "16", "--val-fraction", "0.2", "--out",
                     run]) == 0
    capsys.readouterr()
    assert learned() == learned(pets) == (0, 5)
    held_out = load_data(pets, image_size=16).test_files
    shutil.copytree(pets, tmp_path / "learned")
    for file in held_out:
        (tmp_path / "learned" / file).unlink()
    assert learned(tmp_path / "learned") == (25, 25)
    assert learned(make_folder(tmp_path / "new", {"eel": 4}, seed=1)) == (0, 4)
    (pets / held_out[0]).unlink()                                     # the run's own have changed
    assert learned(pets) == (25, 29)
