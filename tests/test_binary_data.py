"""IDX and CIFAR files, and the named data sets: found on disk, downloaded from a local server, and verified."""

import dataclasses
import gzip
import hashlib
import io
import json
import re
import struct
import tarfile
import threading
import tracemalloc
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from minivit import cli
from minivit.data import Dataset, load_data, published
from minivit.data.binary import read_archive
from minivit.data.load import NAMES
from minivit.training_pipeline.defaults.default_model import model_for

pytestmark = pytest.mark.usefixtures("no_curve")
RANDOM = np.random.default_rng(0)
IDX = {                                              # what the four files hold; 28x28, so that the mini ViT takes them
    "train-images-idx3-ubyte": RANDOM.integers(0, 256, (40, 28, 28), np.uint8),
    "train-labels-idx1-ubyte": (np.arange(40) % 10).astype(np.uint8),
    "t10k-images-idx3-ubyte": RANDOM.integers(0, 256, (20, 28, 28), np.uint8),
    "t10k-labels-idx1-ubyte": (np.arange(20) % 10).astype(np.uint8),
}


def idx(array, kind=8):
    """Return the bytes of an IDX file that holds a uint8 array."""
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def cifar(count, classes, seed):
    """Return images (B, 32, 32, 3), labels (B,), and the bytes of a CIFAR file that holds them."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)
    labels = (np.arange(count) % classes).astype(np.uint8)
    coarse = [labels[:, None] // 5] if classes == 100 else []
    return images, labels, np.hstack([*coarse, labels[:, None],
                                      images.transpose(0, 3, 1, 2).reshape(count, 3072)]).tobytes()


CIFAR10 = {name: cifar(10, 10, seed) for seed,
           name in enumerate([*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"])}
CIFAR100 = {"train.bin": cifar(200, 100, 8), "test.bin": cifar(100, 100, 9)}
CONTENT = {
    "mnist": {name: idx(array) for name, array in IDX.items()},
    "fashion-mnist": {name: idx(255 - array if array.ndim == 3 else array) for name, array in IDX.items()},
    "cifar10": {name: content for name, (_, _, content) in CIFAR10.items()},
    "cifar100": {name: content for name, (_, _, content) in CIFAR100.items()},
}


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def archives(name):
    """Return {archive: bytes} in the published form: each IDX file gzipped, the CIFAR files in a tar."""
    if "mnist" in name:
        return {f"{file}.gz": gzip.compress(content, mtime=0) for file, content in CONTENT[name].items()}
    [archive] = published.PUBLISHED[name].archives
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for file, content in {"readme.html": b"hello", **CONTENT[name]}.items():
            member = tarfile.TarInfo(f"some-folder/{file}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return {archive: packed.getvalue()}


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch, tmp_path):
    """Hide data sets on this machine, and prevent downloads."""
    monkeypatch.setattr(published, "SYSTEM", tmp_path / "system")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(published.platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    monkeypatch.delenv("MINIVIT_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def ours(monkeypatch):
    """Replace the four published data sets by small files, with the address of a server that does not exist."""
    for name, known in published.PUBLISHED.items():
        monkeypatch.setitem(published.PUBLISHED, name, dataclasses.replace(
            known, files={part: {file: sha256(CONTENT[name][file]) for file in files} for part,
                          files in known.files.items()},
            archives={file: sha256(content) for file, content in archives(name).items()},
            urls=("http://127.0.0.1:9/",)))


@pytest.fixture
def server(ours, tmp_path, monkeypatch):
    """Start a local server of the archives. Return the folder that it serves and the list of requested paths."""
    asked, root = [], tmp_path / "server"

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root)))
    threading.Thread(target=http.serve_forever, daemon=True).start()
    for name, known in published.PUBLISHED.items():
        write(root / name, archives(name))
        url = f"http://127.0.0.1:{http.server_address[1]}/{name}/"
        monkeypatch.setitem(published.PUBLISHED, name, dataclasses.replace(known, urls=(url,)))
    yield root, asked
    http.shutdown()
    http.server_close()


def write(folder, contents):
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    return folder


def check_mnist(data):
    np.testing.assert_array_equal(data.train_images[..., 0], IDX["train-images-idx3-ubyte"])
    np.testing.assert_array_equal(data.train_labels, IDX["train-labels-idx1-ubyte"])
    np.testing.assert_array_equal(data.test_images[..., 0], IDX["t10k-images-idx3-ubyte"])
    assert (data.class_names, data.fit, data.val_images) == (tuple("0123456789"), "pad", None)


# ---- a folder of IDX files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_are_read_gzipped_or_not(tmp_path, zipped):
    check_mnist(load_data(write(tmp_path / "mine", archives("mnist") if zipped else CONTENT["mnist"])))


def test_idx_files_under_other_names(tmp_path):
    contents = {f"emnist-{name}".replace("t10k", "test").replace("-idx", ".idx"): content for name,
                content in CONTENT["mnist"].items()}
    check_mnist(load_data(write(tmp_path / "mine", contents)))


def test_unzipped_file_comes_before_the_zipped_one(tmp_path):
    write(tmp_path / "mine", dict.fromkeys(archives("mnist"), b"not read"))
    check_mnist(load_data(write(tmp_path / "mine", CONTENT["mnist"])))


def test_idx_files_in_colour(tmp_path):
    images = RANDOM.integers(0, 256, (20, 6, 5, 3), np.uint8)
    contents = {"train-images-idx4-ubyte": idx(images),
                "train-labels-idx1-ubyte": idx(np.arange(20, dtype=np.uint8) % 2)}
    data = load_data(write(tmp_path / "mine", contents), test_fraction=1)
    np.testing.assert_array_equal(data.test_images, images)


def test_training_part_alone_is_split_and_test_part_alone_is_only_for_scoring(tmp_path):
    train = load_data(write(tmp_path / "a", {name: c for name, c in CONTENT["mnist"].items() if "train" in name}),
                      seed=3)
    assert (len(train.train_images), len(train.test_images)) == (30, 10)
    test = load_data(write(tmp_path / "b", {name: c for name, c in CONTENT["mnist"].items() if "t10k" in name}))
    assert (len(test.train_images), len(test.test_images)) == (0, 20)


LABELS = IDX["train-labels-idx1-ubyte"]
BAD_IDX = {
    "wrong magic": ({"train-labels-idx1-ubyte": b"\x08\x01" + bytes(100)},
                    r"train-labels-idx1-ubyte is not an IDX file.*begins with 08 01"),
    "empty": ({"train-images-idx3-ubyte": b""}, "train-images-idx3-ubyte is not an IDX file.*nothing"),
    "text": ({"train-images-idx3-ubyte": b"<html>not found</html>"}, "is not an IDX file: it begins with 3c 68 74 6d"),
    "within the header": ({"train-images-idx3-ubyte": idx(IDX["train-images-idx3-ubyte"])[:9]},
               "truncated: it ends within its header"),
    "within the pixels": ({"train-images-idx3-ubyte": idx(IDX["train-images-idx3-ubyte"])[:-5]},
                          r"truncated: it has 31,355 entries; the header says 40 x 28 x 28 = 31,360"),
    "too long": ({"train-labels-idx1-ubyte": idx(LABELS) + b"\0"}, "longer than its header says"),
    "floats": ({"train-images-idx3-ubyte": idx(IDX["train-images-idx3-ubyte"], kind=0x0D)},
               "type 0x0d, but must have uint8"),
    "huge": ({"train-images-idx3-ubyte": bytes([0, 0, 8, 3]) + b"\xff" * 12 + bytes(99)},
             r"4294967295 x 4294967295.*GiB of memory"),
    "huge by little": ({"train-images-idx3-ubyte": bytes([0, 0, 8, 3]) + struct.pack(">3I", 1_000_000, 28, 28)},
                       "truncated"),
    "200 axes": ({"train-images-idx3-ubyte": bytes([0, 0, 8, 200]) + b"\xff" * 900}, "200 axes by its header"),
    "flat images": ({"train-images-idx3-ubyte": idx(np.zeros((40, 784), np.uint8))}, r"\(40, 784\).*\(B, H, W\)"),
    "no images": ({"train-images-idx3-ubyte": idx(np.zeros((0, 28, 28), np.uint8))}, r"\(0, 28, 28\)"),
    "fewer labels": ({"train-labels-idx1-ubyte": idx(LABELS[:-1])}, r"train-labels.*\(39,\).*each of 40 images"),
    "swapped": ({"train-labels-idx1-ubyte": idx(IDX["train-images-idx3-ubyte"])}, r"train-labels.*\(40, 28, 28\)"),
    "two sizes": ({"t10k-images-idx3-ubyte": idx(np.zeros((20, 14, 14), np.uint8))}, r"\(28, 28, 1\).*\(14, 14, 1\)"),
    "truncated gzip": ({"train-images-idx3-ubyte": gzip.compress(idx(IDX["train-images-idx3-ubyte"]))[:-500]},
                       "train-images-idx3-ubyte is damaged"),
    "damaged gzip": ({"train-labels-idx1-ubyte": b"\x1f\x8b" + bytes(50)}, "train-labels-idx1-ubyte is damaged"),
    "two data sets": ({"emnist-train-images-idx3-ubyte": b""}, "several data sets.*emnist-"),
}


@pytest.mark.parametrize("case", BAD_IDX)
def test_bad_idx_files_are_named(tmp_path, case):
    changed, message = BAD_IDX[case]
    folder = write(tmp_path / "mine", CONTENT["mnist"] | changed)
    with pytest.raises(ValueError, match=message) as error:
        load_data(folder)
    assert str(folder) in str(error.value) or case == "two sizes"
    assert "\n" not in str(error.value)


def test_false_header_and_zip_bomb_take_no_memory(tmp_path):
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", 1_000_000, 28, 28)
    bomb = gzip.compress(idx(IDX["train-images-idx3-ubyte"]) + bytes(300_000_000), mtime=0, compresslevel=1)
    folder = write(tmp_path / "mine", CONTENT["mnist"])
    for content, message in ((header + bytes(100), "truncated"), (gzip.compress(header), "truncated"),
                             (bomb, "longer than")):
        (folder / "train-images-idx3-ubyte").write_bytes(content)
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match=message):
                load_data(folder)
            assert tracemalloc.get_traced_memory()[1] < 50e6
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("missing", IDX)
def test_an_idx_file_of_images_without_labels_or_the_reverse_is_named(tmp_path, missing):
    folder = write(tmp_path / "mine", {name: content for name, content in CONTENT["mnist"].items() if name != missing})
    with pytest.raises(ValueError, match="IDX files come in pairs"):
        load_data(folder)


# ---- a folder of CIFAR's files ------------------------------------------------------------------------------------


def test_cifar10_files_are_read(tmp_path):
    data = load_data(write(tmp_path / "mine", CONTENT["cifar10"]))
    np.testing.assert_array_equal(data.train_images,
                                  np.concatenate([CIFAR10[f"data_batch_{k}.bin"][0] for k in range(1, 6)]))
    np.testing.assert_array_equal(data.train_labels, np.tile(np.arange(10), 5))
    np.testing.assert_array_equal(data.test_images, CIFAR10["test_batch.bin"][0])
    assert data.class_names[0] == "airplane"
    assert data.class_names[9] == "truck"
    assert data.fit == "crop"


def test_cifar100_files_are_read_with_their_fine_labels(tmp_path):
    data = load_data(write(tmp_path / "mine", {f"{name}.gz": gzip.compress(content) for name,
                                               content in CONTENT["cifar100"].items()}))
    np.testing.assert_array_equal(data.train_images, CIFAR100["train.bin"][0])
    np.testing.assert_array_equal(data.train_labels, CIFAR100["train.bin"][1])
    np.testing.assert_array_equal(data.test_labels, CIFAR100["test.bin"][1])
    assert (len(data.class_names), data.class_names[0], data.class_names[99]) == (100, "apple", "worm")


def test_cifar_class_names_come_from_the_file_beside(tmp_path):
    folder = write(tmp_path / "mine", CONTENT["cifar10"]
                   | {"batches.meta.txt": b"a\nb\nc\nd\ne\nf\ng\nh\ni\nlong name\n\n"})
    assert load_data(folder).class_names == (*"abcdefghi", "long name")
    (folder / "batches.meta.txt").write_text("a\nb\n")
    with pytest.raises(ValueError, match=r"batches\.meta\.txt has 2 class names, but cifar10 has 10"):
        load_data(folder)


@pytest.mark.parametrize(("content", "message"), [
    (b"", "0 bytes are not records of 3,073"),
    (CONTENT["cifar10"]["test_batch.bin"][:-1], "30,729 bytes are not records of 3,073"),
    (b"\x0a" + bytes(3072), r"labels of cifar10 must be in 0\.\.9.*10"),
    (gzip.compress(bytes(3073))[:-9], "test_batch.bin is damaged"),
], ids=["empty", "truncated", "label", "gzip"])
def test_bad_cifar_files_are_named(tmp_path, content, message):
    folder = write(tmp_path / "mine", CONTENT["cifar10"] | {"test_batch.bin": content})
    with pytest.raises(ValueError, match=message) as error:
        load_data(folder)
    assert str(folder / "test_batch.bin") in str(error.value)


# ---- by name, from a folder -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_is_found_below_the_data_dir(ours, tmp_path, below, zipped):
    write(tmp_path / "data" / below, archives("mnist") if zipped else CONTENT["mnist"])
    data = load_data("mnist", data_dir=tmp_path / "data")
    check_mnist(data)
    assert data.source["data_dir"] == str(tmp_path / "data")
    assert load_data(**data.source).digest == data.digest


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("kind", ["files", "gzipped", "archive"])
def test_cifar_is_found_below_the_data_dir(ours, tmp_path, name, kind):
    contents = {"files": CONTENT[name], "gzipped": {f"{file}.gz": gzip.compress(c) for file,
                                                    c in CONTENT[name].items()},
                "archive": archives(name)}[kind]
    write(tmp_path / "data" / published.PUBLISHED[name].folder, contents)
    data = load_data(name, data_dir=tmp_path / "data")
    expected = load_data(write(tmp_path / "plain", CONTENT[name]))
    assert (data.digest, data.class_names) == (expected.digest, expected.class_names)


def test_two_sets_with_the_same_file_names_lie_side_by_side(ours, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIVIT_DATA", str(tmp_path / "data"))
    write(tmp_path / "data" / "FashionMNIST" / "raw", archives("fashion-mnist"))
    write(tmp_path / "data" / "mnist", CONTENT["mnist"])
    check_mnist(load_data("mnist"))
    fashion = load_data("fashion-mnist")
    np.testing.assert_array_equal(fashion.train_images[..., 0], 255 - IDX["train-images-idx3-ubyte"])
    assert fashion.class_names[9] == "Ankle boot"
    assert "data_dir" not in fashion.source


def test_one_set_is_not_taken_for_the_other(ours, tmp_path):
    write(tmp_path / "data", CONTENT["fashion-mnist"])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte is not the file that was published as mnist"):
        load_data("mnist", data_dir=tmp_path / "data")


def test_one_changed_bit_is_detected(ours, tmp_path):
    changed = bytearray(CONTENT["cifar10"]["data_batch_3.bin"])
    changed[5000] ^= 1
    write(tmp_path / "data", CONTENT["cifar10"] | {"data_batch_3.bin": bytes(changed)})
    with pytest.raises(ValueError, match=r"data_batch_3\.bin is not the file that was published as cifar10"):
        load_data("cifar10", data_dir=tmp_path / "data")


def test_other_or_damaged_tar_is_named(ours, tmp_path):
    [(archive, content)] = archives("cifar100").items()
    for damaged in (b"", b"no tar", content[:len(content) // 2], content[:999] + bytes(99) + content[1098:],
                    gzip.compress(content)):
        write(tmp_path / "data", {archive: damaged})
        with pytest.raises(ValueError,
                           match=rf"{archive} is not the file that was published as cifar100, but has .*: remove it"):
            load_data("cifar100", data_dir=tmp_path / "data")


def test_tar_is_read_or_refused_by_name(tmp_path):
    [(archive, content)] = archives("cifar100").items()
    [path] = [write(tmp_path, {archive: content}) / archive]
    assert read_archive(path, ["test.bin"])["test.bin"].read(10**6) == CONTENT["cifar100"]["test.bin"]
    with pytest.raises(ValueError, match=rf"{archive} is damaged: it lacks b\.bin, c\.bin"):
        read_archive(path, ["test.bin", "b.bin", "c.bin"])
    for damaged in (b"", b"no tar", content[:len(content) // 2], content[:999] + bytes(99) + content[1098:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"{archive} is damaged: .") as error:
            read_archive(path, ["train.bin", "test.bin"])
        assert "\n" not in str(error.value)


def test_system_package_is_found(ours, tmp_path, monkeypatch):
    write(published.SYSTEM / "fashion-mnist", archives("fashion-mnist"))
    assert len(load_data("fashion-mnist").train_images) == 40


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_a_data_dir_that_does_not_exist_is_named(tmp_path, monkeypatch, how):
    given = {"data_dir": tmp_path / "nowhere"} if how == "argument" else {}
    monkeypatch.setenv("MINIVIT_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError,
                       match=f"nowhere, given as {'data_dir' if given else 'MINIVIT_DATA'}, is not a folder"):
        load_data("mnist", **given)


# ---- by name, downloaded ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTENT)
def test_data_set_is_downloaded_once(server, tmp_path, name):
    _, asked = server
    first = load_data(name)
    assert [Path(path).name for path in asked] == list(archives(name))
    assert sorted(file.name
                  for file in (tmp_path / "cache" / "minivit" / "data" / name).iterdir()) == sorted(archives(name))
    assert load_data(name).digest == first.digest == load_data(write(tmp_path / "plain", CONTENT[name])).digest
    assert len(asked) == len(archives(name))


def test_download_goes_into_the_data_dir(server, tmp_path):
    (tmp_path / "data").mkdir()
    check_mnist(load_data("mnist", data_dir=tmp_path / "data"))
    assert len(list((tmp_path / "data" / "mnist").iterdir())) == 4


def test_an_interrupted_download_continues(server, tmp_path):
    _, asked = server
    first, *_ = archives("mnist").items()
    write(tmp_path / "cache" / "minivit" / "data" / "mnist", dict([first]))
    check_mnist(load_data("mnist"))
    assert len(asked) == 3


def test_the_next_server_is_tried_if_the_first_fails(server, monkeypatch):
    known = published.PUBLISHED["mnist"]
    monkeypatch.setitem(published.PUBLISHED, "mnist", dataclasses.replace(known,
                                                                          urls=("http://127.0.0.1:9/", *known.urls)))
    check_mnist(load_data("mnist"))


def test_wrong_hash_is_refused_and_nothing_kept(server, tmp_path):
    root, _ = server
    (root / "mnist" / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(ConnectionError, match="the downloaded file is not the published one: its SHA-256 differs"):
        load_data("mnist")
    assert [file.name
            for file in (tmp_path / "cache" / "minivit" / "data" / "mnist").iterdir()] == ["train-images-idx3-ubyte.gz"]


def test_a_missing_page_is_reported(server):
    root, _ = server
    for file in (root / "cifar10").iterdir():
        file.unlink()
    with pytest.raises(ConnectionError, match="404"):
        load_data("cifar10")


@pytest.mark.parametrize("name", CONTENT)
def test_without_network_one_line_says_what_to_put_where(ours, tmp_path, name, capsys):
    assert cli.main(["train", name]) == 2
    line = capsys.readouterr().err
    assert re.fullmatch(
        rf"minivit: error: {name} could not be downloaded \(ConnectionError\): get .* from http.* and put them into "
        rf"{tmp_path}/cache/minivit/data/{name}, or name the folder that has them with --data-dir or MINIVIT_DATA\n",
        line)
    write(tmp_path / "cache" / "minivit" / "data" / name, archives(name))
    assert load_data(name).classes in (10, 100)      # what it said helps


def test_published_hashes_have_the_form_of_sha256():
    for known in published.PUBLISHED.values():
        sums = [*known.sums.values(), *known.archives.values()]
        assert all(re.fullmatch("[0-9a-f]{64}", s) for s in sums)
        assert len(set(sums)) == len(sums)
        assert all(url.endswith("/") for url in known.urls)
        assert len(known.archives) == 1 or list(known.archives) == [f"{file}.gz" for file in known.sums]


# ---- the real data, if installed ------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/usr/share/datasets/fashion-mnist").is_dir(),
                    reason="the package dataset-fashion-mnist is not installed")
def test_fashion_mnist_of_the_system_package(monkeypatch):
    monkeypatch.setattr(published, "SYSTEM", Path("/usr/share/datasets"))
    data = load_data("fashion-mnist")
    assert (data.train_images.shape, data.test_images.shape) == ((60_000, 28, 28, 1), (10_000, 28, 28, 1))
    assert np.bincount(data.train_labels).tolist() == [6000] * 10
    mean, std = data.pixel_statistics()
    assert mean == pytest.approx([0.2860], abs=1e-4)  # as everyone who uses it has it
    assert std == pytest.approx([0.3530], abs=1e-4)


# ---- presets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "channels", "patch", "width", "depth"), [
    (28, 1, 4, 64, 4), (28, 3, 4, 64, 4), (32, 3, 4, 64, 4), (64, 3, 8, 64, 4), (44, 1, 4, 64, 4),
])
def test_preset_follows_the_size_of_the_images(side, channels, patch, width, depth):
    images, labels = np.random.default_rng(0).integers(0, 256, (6, side, side, channels), np.uint8), np.arange(6) % 3
    model = model_for(Dataset("mine", images, labels, images, labels, ("a", "b", "c")))
    assert model.config.items() >= {"image_size": side, "patch_size": patch, "channels": channels, "classes": 3,
                                    "width": width,
                                    "depth": depth}.items()
    np.testing.assert_allclose(model.mean, (images / 255).mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(model.std, (images / 255).std(axis=(0, 1, 2)))


# ---- train, evaluate, predict ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTENT)
@pytest.mark.parametrize("by", ["name", "path"])
def test_train_evaluate_and_resume(ours, tmp_path, capsys, name, by):
    write(tmp_path / "data" / name, CONTENT[name])
    data = [name, "--data-dir", tmp_path / "data"] if by == "name" else [tmp_path / "data" / name]
    size = ["--model", "vit"] if "cifar" in name else []  # a small one; the preset is chosen by the size of the images

    def call(*arguments):
        assert cli.main([str(a) for a in (*arguments, "--json")]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    run = tmp_path / "run"
    first = call("train", *data, *size, "--epochs", 0.5, "--batch-size", 20, "--out", run)
    result = call("evaluate", run)
    assert (result["accuracy"], result["images"]) == (first["accuracy"],
                                                      len(load_data(*data[:1], data_dir=tmp_path / "data").test_labels))
    assert call("evaluate", run, *data)["accuracy"] == first["accuracy"]
    assert call("train", *data[:1], "--resume", "--out", run)["accuracy"] == first["accuracy"]


def test_every_text_that_lists_the_data_sets_has_all_of_them():
    root = Path(__file__).parents[1]
    files = [root / "docs" / "own-pictures.md", root / "minivit" / "cli" / "training.py"]
    texts = [load_data.__doc__, *(file.read_text(encoding="utf-8") for file in files)]
    assert [[name for name in NAMES if not re.search(rf"(?<![\w-]){name}\b", text)] for text in texts] == [[], [], []]
