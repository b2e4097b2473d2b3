"""Which image files of a folder become which class and part, what is left out, and what is told about it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import permissions
from PIL import Image

from minivit import cli
from minivit.data import load_data
from minivit.data.image_files import suffixes


def write(folder, *files, seed=0, size=(16, 16)):
    """Write an image of random pixels to each file and return the folder."""
    rng = np.random.default_rng(seed)
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / file)
    return folder


def pets(folder, count=4, seed=0):
    return write(folder, *(f"{name}/{k}.png" for name in ("cat", "dog") for k in range(count)), seed=seed)


def counts(data):
    return {part: np.bincount(labels).tolist() for part, (_, labels) in data.parts.items()}


def test_a_run_inside_the_data_is_no_class_and_gives_no_pictures(tmp_path, monkeypatch, capsys):
    folder = pets(tmp_path / "pics")
    monkeypatch.chdir(folder)
    for _ in range(2):                                                # the second run meets the curve.png of the first
        assert cli.main(["train", ".", "--epochs", "0.1", "--image-size", "8"]) == 0
    assert "of 2 classes (3 each)" in capsys.readouterr().err
    assert (folder / "runs" / "pics-seed0-2" / "curve.png").is_file()
    assert cli.main(["evaluate", "runs/pics-seed0"]) == 0
    data = load_data(".")
    assert data.class_names == ("cat", "dog")
    assert len(data) == 8
    assert any(re.fullmatch(r"left out runs/pics-seed0(-2)?, runs/pics-seed0(-2)?: a run of minivit", line)
               for line in data.preparation)
    (folder / "runs" / "pics-seed0").rename(folder / "cat" / "old run")       # beside pictures, in a class
    assert len(load_data(".")) == 8


@pytest.mark.parametrize("place", ["cat/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg", "@eaDir/cat/0.jpg", "cat/.thumbs/0.jpg",
                                   "#recycle/3.jpg", "$RECYCLE.BIN/a/3.jpg", "lost+found/1.png", "cat/._0.png"])
def test_by_products_of_other_programs_are_left_out(tmp_path, place):
    folder = write(pets(tmp_path / "pics"), place)
    assert counts(load_data(folder)) == {"train": [3, 3], "test": [1, 1]}


def test_links_are_followed_once(tmp_path):
    folder = pets(tmp_path / "pics")
    write(tmp_path / "more", "a.png", "b.png", "deep/c.png", seed=1)
    (folder / "cat" / "more").symlink_to(tmp_path / "more")
    (folder / "cat" / "again").symlink_to(tmp_path / "more")
    (folder / "cat" / "loop").symlink_to(folder / "cat")
    (folder / "bird").symlink_to(tmp_path / "more", target_is_directory=True)
    (folder / "dog" / "x.png").symlink_to(tmp_path / "more" / "a.png")
    data = load_data(folder, test_fraction=1)
    assert data.class_names == ("bird", "cat", "dog")
    assert counts(data)["test"] == [3, 7, 5]


def test_a_link_to_nothing_is_named(tmp_path):
    folder = pets(tmp_path / "pics")
    (folder / "dog" / "x.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"dog/x\.png is not a readable image file \(a link to .*gone\.png, which is "
                                         r"not there\)"):
        load_data(folder)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of Unix")
def test_a_folder_that_may_not_be_read_is_an_error(tmp_path, capsys):
    folder = pets(tmp_path / "pics")
    for place in (folder / "dog" / "deep", folder / "dog", folder):
        place.mkdir(exist_ok=True)
        with permissions(0, place):
            assert cli.main(["train", str(folder), "--out", str(tmp_path / "run")]) == 2
        assert f"{place}: Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize(("train", "test"), [
    ("Training", "Testing"), ("seg_train", "seg_test"), ("training_set", "test_set"), ("train2017", "val2017"),
    ("asl_alphabet_train", "asl_alphabet_test"), ("train", "eval"), ("train", "dev"), ("Train", "evaluation")])
def test_parts_are_known_by_the_words_in_their_names(tmp_path, train, test):
    pets(tmp_path / "mine" / train, 3)
    pets(tmp_path / "mine" / test, 2)
    data = load_data(tmp_path / "mine")
    assert data.class_names == ("cat", "dog")
    assert counts(data) == {"train": [3, 3], "test": [2, 2]}


def test_a_part_that_repeats_its_name_and_one_without_classes(tmp_path):
    pets(tmp_path / "mine" / "seg_train" / "seg_train", 3)
    pets(tmp_path / "mine" / "seg_test" / "seg_test", 2)
    write(tmp_path / "mine", "seg_pred/seg_pred/1.png", "seg_pred/seg_pred/2.png")
    data = load_data(tmp_path / "mine")
    assert counts(data) == {"train": [3, 3], "test": [2, 2]}
    assert "left out seg_pred: a part without classes" in data.preparation


def test_parts_without_classes_are_no_classes(tmp_path):
    folder = write(tmp_path / "mine", *(f"{part}/{k}.png" for part in ("train", "test") for k in range(3)))
    with pytest.raises(ValueError, match=r"mine has the parts test, train, but they have no sub-folders: .*labels="):
        load_data(folder)
    pets(tmp_path / "two" / "train", 3)
    write(tmp_path / "two", "test/0.png", "test/1.png")               # pictures to submit to a competition
    data = load_data(tmp_path / "two")
    assert counts(data) == {"train": [2, 2], "test": [1, 1]}
    assert "left out test: a part without classes" in data.preparation


def test_a_folder_with_the_name_of_an_idx_file_hides_no_file(tmp_path):
    digits = load_data("digits")
    for name, array in (("images", digits.train_images[:99, ..., 0]), ("labels", digits.train_labels[:99])):
        header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
        (tmp_path / f"train-{name}.idx{array.ndim}-ubyte").write_bytes(header + array.astype(np.uint8).tobytes())
        (tmp_path / f"train-{name}-idx{array.ndim}-ubyte").mkdir()
    assert len(load_data(tmp_path)) == 99


def test_other_files_are_counted(tmp_path):
    folder = pets(tmp_path / "pics")
    for name in ("a.mp4", "b.mp4", "c.docx", "notes.txt"):
        (folder / "cat" / name).write_bytes(b"")
    assert load_data(folder).preparation[-1] == ("left out 3 files that are not in an image format that can be read: "
                                                 ".docx (1), .mp4 (2)")


# ---- formats and modes ---------------------------------------------------------------------------------------------


ENDINGS = [ending for ending, kind in sorted(suffixes().items()) if kind in Image.SAVE and ending != ".pfm"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_each_format_that_pillow_writes_and_reads_is_read(tmp_path, ending):
    red = Image.new("RGB", (64, 48), (220, 30, 30))
    for mode in ("RGB", "P", "L", "1"):
        try:
            red.convert(mode).save(tmp_path / f"x{ending}")
            break
        except (OSError, ValueError, KeyError, NotImplementedError):
            continue
    from minivit.data import read_image_files
    image = read_image_files([tmp_path / f"x{ending}"], 8, 3)[0]
    if mode in ("RGB", "P") and ending not in (".msp", ".xbm"):
        assert image[4, 4, 0] > 190
        assert image[4, 4, 1:].max() < 90


@pytest.mark.parametrize("ending", ["jp2", "tga", "ico", "pcx", "dib", "apng", "pnm", "avif", "mpo", "j2k"])
def test_these_endings_are_looked_for(ending):
    assert f".{ending}" in suffixes()


def test_32_bit_numbers_of_0_to_255_are_taken_as_they_are(tmp_path):
    pixels = np.arange(256).reshape(16, 16)
    for name in ("a", "b"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for k in range(2):
            Image.fromarray(pixels.astype(np.int32)).save(tmp_path / "mine" / name / f"{k}.tif")
    data = load_data(tmp_path / "mine")
    np.testing.assert_array_equal(data.train_images[0, ..., 0], pixels)
    assert "4 with 32 bits and values of 0 to 255, taken as they are" in data.preparation
    Image.fromarray((300 * pixels).astype(np.int32)).save(tmp_path / "mine" / "b" / "1.tif")
    with pytest.raises(ValueError, match=r"b/1\.tif .*32-bit numbers from 0 to 76500, of which black and white are "
                                         r"not known"):
        load_data(tmp_path / "mine")


def test_what_was_done_with_the_files_is_told(tmp_path):
    folder = write(tmp_path / "mine", "a/0.png", "a/1.bmp", "b/2.png", size=(20, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    for ending in ("jpg", "tif"):
        Image.new("RGB", (90, 30)).save(folder / "b" / f"turned.{ending}", exif=exif)
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(folder / "b" / "glass.png")
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "a" / "film.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.full((9, 9), 4000, np.uint16)).save(folder / "a" / "deep.png")
    assert load_data(folder, image_size=16).preparation == (
        "8 image files (4 PNG, 1 BMP, 1 GIF, 1 JPEG, 1 TIFF) of 8x8 to 90x30 pixels, cropped to the middle, "
        "resized to 16x16 pixels, colour (RGB)",
        "2 turned upright as the EXIF tag says", "1 with 16 bits, scaled to 8",
        "1 with transparent pixels, which became white", "1 with several frames, of which the first was taken")


# ---- labels from a table or from the names of the files ------------------------------------------------------------


def flat(folder):
    return write(folder, *(f"{name}.{k}.png" for name in ("cat", "dog") for k in range(4)), "more/cat.9.png")


@pytest.mark.parametrize("pattern", ["{class}.{number}.png", "{class}.*", "{class}.{number}"])
def test_labels_from_the_names_of_files(tmp_path, pattern):
    data = load_data(flat(tmp_path / "pics"), test_fraction=1, labels=pattern)
    assert (data.class_names, counts(data)["test"]) == (("cat", "dog"), [5, 4])
    assert load_data(**data.source).digest == data.digest


def test_a_pattern_with_a_slash_is_that_of_the_path(tmp_path):
    folder = write(tmp_path / "pics", "mo/cat_1.png", "mo/dog_1.png", "tu/cat_1.png", "tu/dog_2.png")
    assert counts(load_data(folder, test_fraction=1, labels="*/{class}_{number}.png"))["test"] == [2, 2]
    with pytest.raises(ValueError, match=r"2 of 4 image files .* do not fit .*mo/\{class\}_\*, such as tu/cat_1\.png"):
        load_data(folder, labels="mo/{class}_*")


@pytest.mark.parametrize("table", [
    "file,label\ncat.0.png,x\ncat.1.png,x\ndog.0.png,y\nmore/cat.9.png,y\n",
    "\ufefflabel;Image\nx;cat.0\nx;cat.1\ny;dog.0\ny;cat.9\n",
    'path\tclass\n"cat.0.png"\tx\n./cat.1.png\tx\n\ndog.0.png\ty\nmore/cat.9\ty',
])
def test_labels_from_a_table(tmp_path, table):
    folder = flat(tmp_path / "pics")
    (tmp_path / "labels.csv").write_text(table, encoding="utf-8")
    data = load_data(folder, test_fraction=1, labels=tmp_path / "labels.csv")
    assert sorted(zip(data.test_files, data.test_labels.tolist(), strict=True)) == [
        ("cat.0.png", 0), ("cat.1.png", 0), ("dog.0.png", 1), ("more/cat.9.png", 1)]
    assert data.class_names == ("x", "y")
    assert "left out 5 of 9 image files that are not in labels.csv" in data.preparation


def test_a_table_may_name_the_parts(tmp_path):
    (tmp_path / "t.csv").write_text("file,label,split\ncat.0.png,x,train\ndog.0.png,y,train\ncat.1.png,x,test\n"
                                    "dog.1.png,y,Val\n")
    data = load_data(flat(tmp_path / "pics"), labels=tmp_path / "t.csv")
    assert counts(data) == {"train": [1, 1], "test": [1], "val": [0, 1]}
    assert data.test_files == ("cat.1.png",)


BAD_TABLES = {
    "no columns": ("a,b\n1,2\n", "has the columns a, b, but needs one named file and one named label"),
    "empty": ("", "has no rows"),
    "header only": ("file,label\n", "has no rows"),
    "a missing file": ("file,label\ncat.77.png,x\n", r"t\.csv, line 2: there is no image file cat\.77\.png"),
    "two labels": ("file,label\ncat.0.png,x\ncat.0.png,y\n", "line 3: cat.0.png stands twice"),
    "no label": ("file,label\ncat.0.png,\n", "line 2: cat.0.png has no label"),
    "a field too many": ("file,label\ncat.0.png,x,y\n", "line 2: 3 fields under 2 columns"),
    "an open quote": ('file,label\n"cat.0.png,x\n', "t.csv, line 2: unexpected end of data"),
    "an unknown part": ("file,label,split\ncat.0.png,x,trian\n", "unknown part in line 2 .*'trian': did you mean '"),
    "not text": ("file,label\ncat.0.png,\udcff\n", "t.csv is not a text file in UTF-8"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_wrong_table_is_a_one_line_error(tmp_path, capsys, case):
    table, message = BAD_TABLES[case]
    (tmp_path / "t.csv").write_bytes(table.encode(errors="surrogateescape"))
    assert cli.main(["train", str(flat(tmp_path / "pics")), "--labels", str(tmp_path / "t.csv"), "--out",
                     str(tmp_path / "run")]) == 2
    assert re.fullmatch(rf"minivit: error: .*{message}.*\n", capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_train_with_labels_resume_and_evaluate(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flat(tmp_path / "pics")
    options = ["--epochs", "1", "--image-size", "8", "--out", "run"]
    assert cli.main(["train", "pics", "--labels", "{class}.{number}.png", *options]) == 0
    assert cli.main(["evaluate", "run"]) == 0
    write(tmp_path / "new", *(f"{name}.{k}.png" for name in ("cat", "dog") for k in range(3)), seed=9)
    capsys.readouterr()
    for data, number in (("new", 6), ("pics", 2)):                    # of its own data only the test images
        assert cli.main(["evaluate", "run", data, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["images"] == number
    (tmp_path / "new.csv").write_text("file,label\ncat.0,dog\ndog.1,dog\n")
    assert cli.main(["evaluate", "run", "new", "--labels", "new.csv", "--json"]) == 0
    assert np.array(json.loads(capsys.readouterr().out)["confusion"]).sum(axis=1).tolist() == [0, 2]
    assert cli.main(["train", "pics", "--resume", "--out", "run"]) == 0
    assert "nothing is left to do" in capsys.readouterr().err
    (tmp_path / "pics" / "more" / "cat.9.png").unlink()
    assert cli.main(["train", "pics", *options[:-1], "other"]) == 2
    assert "or pass --labels" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["pics/labels.csv", "labels.csv"])
def test_data_with_a_table_of_labels_may_move(tmp_path, capsys, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    flat(tmp_path / "pics")
    (tmp_path / place).write_text("file,label\n" + "".join(f"{name}.{k}.png,{name}\n" for name in ("cat", "dog")
                                                          for k in range(4)))
    options = ["--epochs", "1", "--image-size", "8", "--out", "run"]
    assert cli.main(["train", "pics", "--labels", place, *options]) == 0
    shutil.copytree("pics", "copy")
    labels = ["--labels", place] if place == "labels.csv" else []
    for data in ("pics", "copy"):                                     # the test images of both are known
        capsys.readouterr()
        assert cli.main(["evaluate", "run", data, "--json", *(labels if data == "copy" else [])]) == 0
        assert json.loads(capsys.readouterr().out)["images"] == 2
    Path("pics").rename("moved")
    if labels:
        Path("labels.csv").rename("other.csv")
        labels = ["--labels", "other.csv"]
    assert cli.main(["train", "moved", "--resume", "--out", "run", *labels]) == 0
    assert "nothing is left to do" in capsys.readouterr().err
    assert cli.main(["evaluate", "run"]) == 0                         # the new places are stored


def test_the_table_of_labels_of_a_run_is_not_that_of_another_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flat(tmp_path / "pics")
    (tmp_path / "t.csv").write_text("file,label\ncat.0.png,cat\ncat.1.png,cat\ndog.0.png,dog\ndog.1.png,dog\n")
    options = ["--epochs", "1", "--image-size", "8", "--out", "run", "--labels", "t.csv"]
    assert cli.main(["train", "pics", *options]) == 0
    pets(tmp_path / "new")
    assert cli.main(["evaluate", "run", "new"]) == 0
    assert cli.main(["features", "run", "new", "--out", "f.npz"]) == 0
    assert np.bincount(np.load("f.npz")["labels"]).tolist() == [4, 4]
    (tmp_path / "new.csv").write_text("file,label\ncat/0.png,dog\ndog/1.png,dog\ncat/1.png,cat\n")
    assert cli.main(["features", "run", "new", "--labels", "new.csv", "--out", "f.npz"]) == 0
    assert np.bincount(np.load("f.npz")["labels"]).tolist() == [1, 2]
    capsys.readouterr()
    for command in (["evaluate", "run"], ["features", "run", "--out", "g.npz"]):
        assert cli.main([*command, "--labels", "new.csv"]) == 2
        assert capsys.readouterr().err == ("minivit: error: --labels new.csv belong to data that are not named: name "
                                           "the data, too\n")


def test_pictures_beside_the_classes_are_counted(tmp_path):
    folder = write(pets(tmp_path / "pics"), "overview.png")
    assert load_data(folder).preparation[-1] == "left out 1 image file beside the sub-folders"


def test_all_classes_with_one_image_are_named(tmp_path):
    folder = write(pets(tmp_path / "pics"), "eel/0.png", "fly/0.png")
    with pytest.raises(ValueError, match="pics: classes eel, fly have one image only: they cannot be both"):
        load_data(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes")
def test_names_in_an_ascii_locale(tmp_path):
    """A name in UTF-8 is text in any locale; another one, or a path of the run, is refused before the training."""
    def train(folder, out):
        code = "import sys; from minivit import cli; sys.exit(cli.main(sys.argv[1:]))"
        environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        done = subprocess.run([sys.executable, "-c", code, "train", os.fsencode(folder), "--epochs", "0.5", "--out",
                               os.fsencode(out), "--image-size", "8"], capture_output=True, env=environment,
                              timeout=240)
        return done.returncode, done.stderr.decode(errors="replace")

    folder = write(tmp_path / "pics", *(f"{name}/é{k}.png" for name in ("café", "dog") for k in range(3)))
    code, said = train(folder, tmp_path / "run")
    assert code == 0, said
    assert "café" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    code, said = train(folder.rename(tmp_path / "été"), tmp_path / "other")
    assert (code, said.count("\n")) == (2, 1)
    assert "set PYTHONUTF8=1 in the environment" in said
    os.rename(tmp_path / "été" / "dog", os.fsencode(tmp_path / "été") + b"/caf\xe9")
    code, said = train((tmp_path / "été").rename(tmp_path / "pics"), tmp_path / "other")
    assert (code, said.count("\n")) == (2, 1)
    assert "is not valid UTF-8, so the report of the run could not be written: rename the file or folder" in said
    assert not (tmp_path / "other").exists()
