"""`minivit predict` on folders, standard input and many files; as a table; and with names of classes for weights."""

import csv
import io
import json
import types

import numpy as np
import pytest
from PIL import Image

import minivit
from minivit import cli
from minivit.models.class_names import read_class_names
from minivit.training_pipeline.results import classify_images as module
from minivit.weight_formats.safetensors_io import read_tensors, write_tensors
from minivit.weight_formats.timm import write_weights

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict") / "run"
    minivit.train(minivit.create_model("vit_mini", image_size=8), "digits", epochs=1, out=folder, progress=False,
                  threads=1)
    return str(folder)


@pytest.fixture
def photos(tmp_path):
    """Six images in a folder, and what is no image beside them."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for name in ("0.png", "1.png", "2.png", "deep/3.png", "deep/4.png", "deep/5.jpg"):
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "notes.txt").write_text("none")
    return tmp_path / "photos"


def predict(capsys, *arguments, code=0):
    assert cli.main(["predict", *map(str, arguments)]) == code
    return capsys.readouterr()


def give(monkeypatch, content):
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(content)))


def test_a_folder_stands_for_its_image_files(run, photos, capsys):
    rows = json.loads(predict(capsys, run, photos, 7, "--json").out)
    assert [row["image"] for row in rows] == [*map(str, sorted(photos.rglob("[0-9].*"))), "7"]
    assert rows[-1]["number"] == 7
    [alone] = json.loads(predict(capsys, run, photos / "deep" / "4.png", "--json").out)
    among = next(row["classes"] for row in rows if row["image"].endswith("4.png"))
    assert [one["class"] for one in alone["classes"]] == [one["class"] for one in among]
    assert alone["classes"][0]["probability"] == pytest.approx(among[0]["probability"], abs=1e-5)


def test_a_number_is_a_test_image_beside_a_folder_of_that_name(run, photos, capsys, monkeypatch):
    monkeypatch.chdir(photos)
    (photos / "deep").rename(photos / "7")
    [row] = json.loads(predict(capsys, run, 7, "--json").out)
    assert (row["image"], row["number"]) == ("7", 7)
    rows = json.loads(predict(capsys, run, "./7", "--json").out)
    assert [row["image"] for row in rows] == ["7/3.png", "7/4.png", "7/5.jpg"]


def test_an_empty_folder_is_an_error(run, tmp_path, capsys):
    (tmp_path / "none").mkdir()
    assert "none holds no image files" in predict(capsys, run, tmp_path / "none", code=2).err


@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\0"])
def test_names_on_standard_input(run, photos, capsys, monkeypatch, separator):
    names = [str(photos / "2.png").encode(), b"7", str(photos / "deep").encode()]
    give(monkeypatch, separator.join([*names, b""]))
    rows = json.loads(predict(capsys, run, "-", "--json").out)
    assert [row["image"].rpartition("/")[2] for row in rows] == ["2.png", "7", "3.png", "4.png", "5.jpg"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_an_image_on_standard_input(run, photos, capsys, monkeypatch, kind):
    with Image.open(photos / "1.png") as image:
        file = io.BytesIO()
        image.save(file, kind)
    give(monkeypatch, file.getvalue())
    [row] = json.loads(predict(capsys, run, "-", "--json").out)
    assert row["image"] == "-"
    if kind not in ("JPEG", "WEBP"):                                  # which lose something
        assert row["classes"] == json.loads(predict(capsys, run, photos / "1.png", "--json").out)[0]["classes"]


@pytest.mark.parametrize(("content", "message"), [
    (b"", "standard input is empty"), (b"\n\n", "standard input is empty"),
    (b"nowhere.png\n", "nowhere.png: no such file"),
    (b"\x89PNG\r\n\x1a\n" + b"x" * 50, "standard input is not a readable image file"),
])
def test_bad_standard_input_is_a_one_line_error(run, capsys, monkeypatch, content, message):
    give(monkeypatch, content)
    said = predict(capsys, run, "-", code=2)
    assert said.err.startswith("minivit: error: ")
    assert message in said.err
    assert said.err.count("\n") == 1


def test_a_csv_table_has_the_numbers_of_json(run, photos, capsys):
    (photos / "odd, name.png").write_bytes((photos / "0.png").read_bytes())
    rows = json.loads(predict(capsys, run, photos, 3, "--json", "--top", 2).out)
    header, *lines = csv.reader(io.StringIO(predict(capsys, run, photos, 3, "--csv", "--top", 2).out))
    assert header == ["image", "number", "true", "class", "probability", "class2", "probability2"]
    assert [line[0] for line in lines] == [row["image"] for row in rows]
    assert lines[-1][1:3] == ["3", rows[-1]["true"]]
    for line, row in zip(lines, rows, strict=True):
        assert [line[3], line[5]] == [one["class"] for one in row["classes"]]
        assert [float(line[4]), float(line[6])] == pytest.approx([c["probability"] for c in row["classes"]], rel=1e-5)
    assert "choose one" in predict(capsys, run, 3, "--csv", "--json", code=2).err


def test_batches_give_the_same_rows_and_wrong_files_do_not_lose_the_others(run, photos, capsys, monkeypatch):
    (photos / "1.png").write_bytes(b"no image")
    (photos / "deep" / "3.png").unlink()
    (photos / "deep" / "3.png").symlink_to("gone.png")
    whole = predict(capsys, run, photos, "--csv", code=2)
    monkeypatch.setattr(module, "BATCH", 2)
    batches = predict(capsys, run, photos, "--csv", code=2)
    errors = [[line for line in printed.err.splitlines() if line.startswith("minivit: error: ")]
              for printed in (whole, batches)]                        # a slow machine also prints the progress
    assert errors[0] == errors[1]
    assert [line.split(",")[:4] for line in batches.out.splitlines()] == [line.split(",")[:4]
                                                                          for line in whole.out.splitlines()]
    assert len(whole.out.splitlines()) == 1 + 4
    assert len(errors[0]) == 2


# ---- the classes of a file of weights ------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path):
    model = minivit.create_model("vit_mini_patch2_8", classes=3)
    model.vector[...] = np.random.default_rng(0).standard_normal(model.vector.size) / 4
    write_weights(tmp_path / "w.safetensors", model)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "x.png")
    return tmp_path / "w.safetensors"


NAMES = ["cat", "dog", "eel"]
FILES = {
    "names.txt": "cat\ndog\n\neel\n", "list.json": json.dumps(NAMES),
    "numbers.json": json.dumps({"2": "eel", "0": "cat", "1": "dog"}),
    "timm.json": json.dumps({"architecture": "x", "num_classes": 3, "label_names": NAMES}),
    "timm2.json": json.dumps({"pretrained_cfg": {"label_names": NAMES, "tag": "x"}}),
    "transformers.json": json.dumps({"id2label": {"0": "cat", "1": "dog", "2": "eel"}}),
}


@pytest.mark.parametrize("name", FILES)
def test_class_names_from_a_file(weights, capsys, name):
    (weights.parent / name).write_text(FILES[name])
    said = predict(capsys, weights, weights.parent / "x.png", "--model", "vit_mini_patch2_8", "--json", "--class-names",
                   weights.parent / name)
    assert {one["class"] for one in json.loads(said.out)[0]["classes"]} == set(NAMES)
    assert said.err == ""
    assert read_class_names(weights, 3, weights.parent / name) == NAMES


def test_class_names_from_the_config_beside_the_weights(weights, capsys):
    said = predict(capsys, weights, weights.parent / "x.png", "--model", "vit_mini_patch2_8")
    assert "note: the classes are numbers, because a file of weights has no names: pass --class-names, " in said.err
    (weights.parent / "config.json").write_text(FILES["timm.json"])
    said = predict(capsys, weights, weights.parent / "x.png", "--model", "vit_mini_patch2_8")
    assert said.err == ""
    assert all(name in said.out for name in NAMES)
    for other in ("{", "[]", '["a", "b"]', '{"id2label": 3}', "[[[[", '{"label_names": [1, 2, 3]}'):
        (weights.parent / "config.json").write_text(other)            # it belongs to something else
        assert read_class_names(weights, 3) is None


@pytest.mark.parametrize(("content", "message"), [
    ("cat\ndog\n", "n.txt has 2 names of classes, but .* has 3 classes"),
    (b"\xff\xfe", "n.txt is not a text file in UTF-8"),
])
def test_wrong_class_names_are_an_error(weights, capsys, content, message):
    file = weights.parent / "n.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        read_class_names(weights, 3, file)
    assert predict(capsys, weights, weights.parent / "x.png", "--model", "vit_mini_patch2_8", "--class-names", file,
                   code=2).err.count("\n") == 1


def test_the_classes_of_imagenet_are_those_of_timm_if_it_is_installed(tmp_path, monkeypatch):
    assert read_class_names(tmp_path / "w", 999) is None
    info = tmp_path / "timm" / "data" / "_info"
    info.mkdir(parents=True)
    (tmp_path / "timm" / "__init__.py").write_text("raise RuntimeError('it is not imported')")
    (info / "imagenet_synsets.txt").write_text("".join(f"n{999 - k:08}\n" for k in range(1000)))
    words = "".join(f"n{k:08}\tthing {k}, other word\n" for k in range(2000))
    (info / "imagenet_synset_to_lemma.txt").write_text(words)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "timm", raising=False)
    assert read_class_names(tmp_path / "w", 1000) == [f"thing {999 - k}" for k in range(1000)]


def test_a_head_of_zeros_is_refused(weights, capsys):
    tensors = {name: np.array(tensor) for name, tensor in read_tensors(weights)[0].items()}
    tensors["head.weight"][...] = 0
    write_tensors(weights, tensors, {})
    said = predict(capsys, weights, weights.parent / "x.png", "--model", "vit_mini_patch2_8", code=2)
    assert "has a classifier of zeros, which gives all classes the same probability" in said.err
    assert said.out == ""


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod."])
def test_the_prefix_of_a_wrapper_is_removed(weights, capsys, prefix):
    expected = predict(capsys, weights, weights.parent / "x.png", "--model", "vit_mini_patch2_8", "--json").out
    write_tensors(weights, {prefix + name: np.array(tensor) for name, tensor in read_tensors(weights)[0].items()}, {})
    assert predict(capsys, weights, weights.parent / "x.png", "--model", "vit_mini_patch2_8", "--json").out == expected
