"""The page of `minivit export --web`: digits drawn by strokes, image files, attention; the files of its runtime.

The tests in the browser need Chromium, its driver, selenium and onnx, and the files of onnxruntime-web in the user's
cache: `python -c "from minivit.export.web.runtime import runtime_files; runtime_files()"` puts them there.
"""

import base64
import functools
import http.server
import io
import json
import math
import os
import tarfile
import threading
from hashlib import sha256

import numpy as np
import platformdirs
import pytest
from browser import is_blank, needs_chromium, overflow, screenshot, use_dark_mode, use_phone
from helpers import with_random_head
from PIL import Image

import minivit
from minivit import cli
from minivit.data.image_files import read_image_files
from minivit.export import write_timm_folder
from minivit.export.web import runtime
from minivit.export.web.drawing import UNKNOWN, measure
from minivit.weight_formats.timm import write_weights

CACHED = platformdirs.user_cache_path("minivit") / "web" / runtime.PACKAGE
needs_runtime = pytest.mark.skipif(not all((CACHED / name).is_file() for name in runtime.FILES),
                                   reason="needs the files of onnxruntime-web in the cache")
needs_browser = [needs_chromium, needs_runtime, pytest.mark.usefixtures("no_curve")]


def arc(x, y, width, height, start, end):
    """Points of an ellipse, from one angle to another one, in degrees clockwise from the right."""
    angles = np.radians(np.linspace(start, end, 20))
    return [(x + width * math.cos(a), y + height * math.sin(a)) for a in angles]


DIGITS = {                                                            # strokes, as shares of the board
    "0": [arc(.5, .5, .2, .32, -90, 270)],
    "1": [[(.38, .3), (.52, .18), (.52, .82)]],
    "2": [[*arc(.48, .35, .18, .17, 180, 390), (.3, .8), (.7, .8)]],
    "3": [arc(.46, .33, .17, .16, -150, 90) + arc(.46, .66, .2, .17, -90, 150)],
    "4": [[(.55, .15), (.28, .6), (.74, .6)], [(.6, .35), (.6, .85)]],
    "5": [[(.66, .18), (.36, .18), (.34, .46), *arc(.47, .62, .19, .19, -130, 140)]],
    "6": [[(.6, .15), (.4, .4), *arc(.49, .64, .17, .18, 180, 540)]],
    "7": [[(.3, .2), (.7, .2), (.45, .83)], [(.38, .5), (.66, .5)]],
    "8": [arc(.5, .34, .15, .16, 90, 450) + arc(.5, .67, .18, .17, -90, 270)],
    "9": [[*arc(.5, .35, .17, .17, 0, -360), (.66, .4), (.6, .83)]],
}


# ---- in the browser -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, no_curve):
    """The digits with their preset, as `minivit train digits`."""
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("web") / "run"
    assert cli.main(["train", "digits", "--out", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A function that serves a folder and returns its address."""
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    servers = []

    def serve(folder):
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def address(run_folder, served, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "page"
    assert cli.main(["export", str(run_folder), str(folder), "--web"]) == 0
    return served(folder)


def ready(browser, address):
    """Open the page and wait for the model."""
    wait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait
    browser.get(address)
    wait(browser, 30).until(lambda b: b.execute_script("return document.body.dataset.ready"))


def results(browser):
    return int(browser.execute_script("return document.body.dataset.results ?? 0"))


def shown(browser, before):
    """Wait for a result after `before` results, and until no further one comes; return the class."""
    wait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait
    wait(browser, 20).until(lambda b: results(b) > before and b.execute_script("return !running && !waiting"))
    return browser.execute_script("return document.getElementById('verdict').dataset.name")


def draw(browser, strokes, scale=1.0, shift=(0.0, 0.0)):
    """Draw with the pointer in the square in the middle of an empty board, and return the class."""
    builder = pytest.importorskip("selenium.webdriver.common.actions.action_builder").ActionBuilder
    browser.find_element("id", "clear").click()
    left, top, side = browser.execute_script("""
        const b = document.getElementById('canvas').getBoundingClientRect(), side = Math.min(b.width, b.height);
        return [b.x + (b.width - side) / 2, b.y + (b.height - side) / 2, side]""")
    before = results(browser)
    for stroke in strokes:
        actions = builder(browser, duration=10)
        for i, (x, y) in enumerate(stroke):
            actions.pointer_action.move_to_location(int(left + side * (scale * x + shift[0])),
                                                    int(top + side * (scale * y + shift[1])))
            if i == 0:
                actions.pointer_action.pointer_down()
        actions.pointer_action.pointer_up()
        actions.perform()
    return shown(browser, before)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, (0.0, 0.0)), (0.5, (0.45, 0.03))], ids=["large", "small, aside"])
class TestStrokes:
    pytestmark = needs_browser

    def test_nine_of_ten_drawn_digits_are_recognised(self, browser, address, scale, shift):
        ready(browser, address)
        found = {digit: draw(browser, strokes, scale, shift) for digit, strokes in DIGITS.items()}
        assert sum(name == digit for digit, name in found.items()) >= 9, found


class TestPage:
    pytestmark = needs_browser

    def test_image_files_get_the_probabilities_of_predict(self, browser, address, run_folder, tmp_path, capsys):
        ready(browser, address)
        digits = minivit.load_data("digits")
        for number in range(3):
            path = tmp_path / f"{number}.png"
            Image.fromarray(digits.test_images[number, :, :, 0]).save(path)
            before = results(browser)
            browser.find_element("id", "file").send_keys(str(path))
            name = shown(browser, before)
            capsys.readouterr()
            assert cli.main(["predict", str(run_folder), str(path), "--json"]) == 0
            best = json.loads(capsys.readouterr().out)[0]["classes"][0]
            assert name == best["class"]
            share = float(browser.find_element("css selector", "#classes .share").text.rstrip("%")) / 100
            assert share == pytest.approx(best["probability"], abs=0.002)

    def test_the_board_stays_where_it_is_and_the_attention_is_shown(self, browser, address):
        ready(browser, address)
        place = browser.find_element("id", "canvas").rect
        draw(browser, DIGITS["3"])
        assert browser.find_element("id", "canvas").rect == place
        assert browser.find_element("id", "look").is_displayed()
        colours = browser.execute_script("""
            const map = document.getElementById('attention');
            const data = map.getContext('2d').getImageData(0, 0, map.width, map.height).data;
            return new Set(Array.from({length: 64}, (_, i) => data.slice(4 * i, 4 * i + 3).join())).size;""")
        assert colours > 15
        browser.find_element("id", "clear").click()
        assert not browser.find_element("id", "result").is_displayed()

    def test_the_page_loads_nothing_from_elsewhere(self, browser, address):
        ready(browser, address)
        loaded = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
        assert len(loaded) >= 6
        assert all(name.startswith((address, "data:")) for name in loaded)

    def test_it_fits_a_phone_and_dark_mode(self, browser, address):
        use_phone(browser)
        ready(browser, address)
        assert draw(browser, DIGITS["0"]) == "0"
        assert overflow(browser) == 0
        bright = screenshot(browser)
        use_dark_mode(browser)
        dark = screenshot(browser)
        assert not is_blank(dark)
        assert dark[-1, 0].sum() < bright[-1, 0].sum()

    def test_a_file_that_is_no_image_is_named(self, browser, address, tmp_path):
        ready(browser, address)
        (tmp_path / "x.png").write_text("no image")
        browser.find_element("id", "file").send_keys(str(tmp_path / "x.png"))
        wait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait
        wait(browser, 10).until(lambda b: b.find_element("id", "message").text)
        assert "x.png is not an image" in browser.find_element("id", "message").text

    def test_a_model_of_colour_images_takes_files_only(self, browser, served, tmp_path):
        pytest.importorskip("onnx")
        options = {"image_size": 32, "patch_size": 8, "width": 12, "depth": 1, "heads": 2, "classes": 2}
        names = ["</script><b>", "\u00e4 & b"]
        write_timm_folder(with_random_head(minivit.create_model("vit", **options)), tmp_path / "folder",
                          class_names=names)
        assert cli.main(["export", str(tmp_path / "folder"), str(tmp_path / "page"), "--web"]) == 0
        ready(browser, served(tmp_path / "page"))
        assert browser.find_element("id", "hint").text == "Drop an image here."
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 90, 3), np.uint8)).save(tmp_path / "x.png")
        before = results(browser)
        browser.find_element("id", "file").send_keys(str(tmp_path / "x.png"))
        assert shown(browser, before) in names
        assert {e.text for e in browser.find_elements("css selector", "#classes .name")} == set(names)

    def test_a_convolutional_network_has_no_attention(self, browser, served, tmp_path):
        pytest.importorskip("onnx")
        write_weights(tmp_path / "w.safetensors", with_random_head(minivit.create_model("resnet_mini")))
        assert cli.main(["export", str(tmp_path / "w.safetensors"), str(tmp_path / "page"), "--web", "--model",
                         "resnet_mini"]) == 0
        ready(browser, served(tmp_path / "page"))
        assert draw(browser, DIGITS["2"]) in DIGITS
        assert browser.find_element("id", "seen").is_displayed()
        assert not browser.find_element("id", "look").is_displayed()


class TestOblongImages:
    pytestmark = needs_browser

    def test_nine_of_ten_drawn_digits_are_recognised(self, browser, served, tmp_path):
        """The digits, each at a random place of a wide image."""
        pytest.importorskip("onnx")
        digits, rng = minivit.load_data("digits"), np.random.default_rng(0)
        images = np.zeros((len(digits.train_images), 8, 14, 1), np.uint8)
        for image, digit in zip(images, digits.train_images, strict=True):
            left = rng.integers(7)
            image[:, left:left + 8] = digit
        np.savez(tmp_path / "wide.npz", images=images, labels=digits.train_labels)
        model = minivit.create_model("vit", image_size=(8, 14), patch_size=2, channels=1, classes=10, width=64, depth=4,
                                     heads=4, mlp_ratio=2)
        minivit.train(model, tmp_path / "wide.npz", epochs=30, batch_size=64, lr=3e-3, ema=0.99, optimiser="muon",
                      out=tmp_path / "run", progress=False)
        assert cli.main(["export", str(tmp_path / "run"), str(tmp_path / "page"), "--web"]) == 0
        ready(browser, served(tmp_path / "page"))
        found = {digit: draw(browser, strokes) for digit, strokes in DIGITS.items()}
        assert sum(name == digit for digit, name in found.items()) >= 9, found

    @pytest.mark.parametrize("shape", [(8, 16), (14, 8)], ids=["wide", "tall"])
    def test_board_pixels_and_map_have_the_shape_of_the_images(self, browser, served, tmp_path, shape):
        pytest.importorskip("onnx")
        options = {"image_size": shape, "patch_size": 2, "channels": 1, "width": 12, "depth": 1, "heads": 2,
                   "classes": 2}
        write_timm_folder(with_random_head(minivit.create_model("vit", **options)), tmp_path / "folder",
                          class_names=["a", "b"])
        assert cli.main(["export", str(tmp_path / "folder"), str(tmp_path / "page"), "--web"]) == 0
        ready(browser, served(tmp_path / "page"))
        draw(browser, DIGITS["8"])
        for name in ("canvas", "seen", "attention"):
            box = browser.find_element("id", name).rect
            assert box["width"] / box["height"] == pytest.approx(shape[1] / shape[0], rel=0.03), name
        assert f"{shape[1]} x {shape[0]} pixels" in browser.find_element("id", "size").text
        use_phone(browser)
        assert overflow(browser) == 0

    @pytest.mark.parametrize("shape", [(24, 40), (56, 28)], ids=["wide", "tall"])
    def test_strokes_fill_the_box_of_the_training_images(self, browser, address, shape):
        """A drawn rectangle touches the box at the sides that limit it, and its middle is the centre of the box."""
        height, width = shape
        drawing = {"box": [0.75, 0.5], "centre": [0.5, 0.55], "thickness": 0.08, "ink": 255, "paper": 0}
        ready(browser, address)
        for sides, limit in [((1, 9), "width"), ((9, 1), "height")]:
            down, across = sides
            stroke = [(0, 0), (across, 0), (across, down), (0, down), (0, 0)]
            pixels = browser.execute_script("return Array.from(pixelsOfStrokes([arguments[0]], arguments[1]))",
                                            stroke, {"height": height, "width": width, "drawing": drawing})
            ink = np.reshape(pixels, shape) / 255
            rows, columns = (np.flatnonzero(ink.max(axis=axis) > 0.5) for axis in (1, 0))
            extent = {"height": rows[-1] - rows[0] + 1, "width": columns[-1] - columns[0] + 1}
            assert extent[limit] == pytest.approx({"height": 0.75 * height, "width": 0.5 * width}[limit], abs=1)
            assert (rows[0] + rows[-1] + 1) / 2 == pytest.approx(0.5 * height, abs=0.6)
            assert (columns[0] + columns[-1] + 1) / 2 == pytest.approx(0.55 * width, abs=0.6)

    @pytest.mark.parametrize("share", [1.0, 0.8])
    @pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
    @pytest.mark.parametrize("shape", [(90, 120), (160, 70)], ids=["landscape", "portrait"])
    def test_image_files_become_the_pixels_of_predict(self, browser, address, tmp_path, shape, fit, share):
        y, x = np.mgrid[:1:shape[0] * 1j, :1:shape[1] * 1j]
        photo = np.stack([255 * x, 255 * y, 127 + 127 * np.cos(9 * x * y)], axis=-1).astype(np.uint8)
        Image.fromarray(photo).save(tmp_path / "photo.png")
        expected = read_image_files([tmp_path / "photo.png"], (24, 40), 3, fit, share)[0].astype(int)
        source = "data:image/png;base64," + base64.b64encode((tmp_path / "photo.png").read_bytes()).decode()
        ready(browser, address)
        pixels = browser.execute_async_script("""
            const image = new Image(), [source, model, done] = arguments;
            image.onload = () => done(Array.from(pixelsOfImage(image, model)));
            image.src = source;""", source, {"height": 24, "width": 40, "channels": 3, "fit": fit, "crop": share})
        difference = np.abs(np.reshape(pixels, (24, 40, 3)) - expected)
        assert difference.mean() < 1.5
        assert difference[1:-1, 1:-1].max() < 12

    def test_a_map_with_other_rows_than_columns_tints_the_right_pixels(self, browser, address):
        ready(browser, address)
        values = np.random.default_rng(0).random((2, 4))
        shown = browser.execute_script("""
            const canvas = document.createElement("canvas"), model = {height: 4, width: 8, channels: 1};
            showPixels(canvas, new Uint8Array(4 * 8), model, {values: arguments[0], rows: 2, columns: 4});
            return Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data);
            """, values.ravel().tolist())
        blue = np.reshape(shown, (4, 8, 4))[..., 2]
        np.testing.assert_allclose(blue, 0.65 * 110 * (1 - values).repeat(2, 0).repeat(2, 1), atol=1)

    def test_a_signal_is_dropped_and_not_drawn(self, browser, served, tmp_path):
        pytest.importorskip("onnx")
        options = {"image_size": (1, 100), "patch_size": (1, 10), "channels": 1, "width": 12, "depth": 1, "heads": 2,
                   "classes": 2}
        write_timm_folder(with_random_head(minivit.create_model("vit", **options)), tmp_path / "folder",
                          class_names=["a", "b"])
        assert cli.main(["export", str(tmp_path / "folder"), str(tmp_path / "page"), "--web"]) == 0
        ready(browser, served(tmp_path / "page"))
        assert browser.find_element("id", "hint").text == "Drop an image here."
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (1, 100), np.uint8)).save(tmp_path / "x.png")
        before = results(browser)
        browser.find_element("id", "file").send_keys(str(tmp_path / "x.png"))
        assert shown(browser, before) in ("a", "b")
        assert browser.find_element("id", "seen").rect["height"] > 20


# ---- how drawings are prepared --------------------------------------------------------------------------------------


def bars(thickness, length, side=64, top=10, left=20):
    images = np.zeros((2, side, side, 1), np.uint8)
    images[:, top:top + length, left:left + thickness] = 255
    return images


def test_measures_of_a_bar():
    found = measure(bars(thickness=6, length=40))
    assert found["box"] == pytest.approx([40 / 64, 6 / 64], abs=1e-3)
    assert found["centre"] == pytest.approx([30 / 64, 23 / 64], abs=1e-3)
    assert found["thickness"] == pytest.approx(2 * 240 / 92 / 64, rel=0.02)
    assert (found["ink"], found["paper"]) == (255, 0)


def test_measures_of_a_bar_in_an_oblong_image_are_shares_of_its_sides():
    images = np.zeros((2, 32, 64, 1), np.uint8)
    images[:, 4:28, 30:36] = 255
    found = measure(images)
    assert found["box"] == pytest.approx([24 / 32, 6 / 64], abs=1e-3)
    assert found["centre"] == pytest.approx([16 / 32, 33 / 64], abs=1e-3)
    assert found["thickness"] == pytest.approx(2 * 144 / 60 / 32, rel=0.04)


def test_dark_ink_on_bright_paper_is_measured_alike():
    images = bars(thickness=6, length=40)
    assert measure(255 - images) == measure(images) | {"ink": 0, "paper": 255}


def test_blank_images_have_the_default():
    assert measure(np.zeros((3, 8, 8, 1), np.uint8)) == UNKNOWN


# ---- the files of the runtime ---------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package for onnxruntime-web, which an npm of the test packs; an empty cache. Return the archive."""
    contents = {name: name.encode() for name in runtime.FILES}
    archive = tmp_path / "package.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    monkeypatch.setattr(runtime, "FILES", {name: sha256(x).hexdigest() for name, x in contents.items()})
    monkeypatch.setattr(runtime, "PACKAGE_SHA256", sha256(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda _: tmp_path / "cache")
    npm = tmp_path / "bin" / "npm"                                    # stands for npm: copies the archive
    npm.parent.mkdir()
    npm.write_text(f'#!/bin/sh\n[ "$1 $2 $3" = "pack {runtime.SPECIFICATION} --silent" ] || exit 1\n'
                   f'cp {archive} "$5" 2>&1 || {{ echo "npm error network" >&2; exit 1; }}\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(npm.parent), prepend=os.pathsep)
    return archive


def test_the_runtime_is_downloaded_once(package):
    first = runtime.runtime_files()
    assert first == {name: name.encode() for name in runtime.FILES}
    package.unlink()
    assert runtime.runtime_files() == first


def test_another_archive_is_refused(package):
    package.write_bytes(package.read_bytes() + b"x")
    with pytest.raises(ConnectionError, match=r"could not be downloaded \(the file has another SHA-256"):
        runtime.runtime_files()


def test_what_npm_says_is_told_and_a_missing_npm_named(package, monkeypatch):
    package.unlink()
    with pytest.raises(ConnectionError, match=r"could not be downloaded \(npm error network\)"):
        runtime.runtime_files()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConnectionError, match="npm, which downloads onnxruntime-web, was not found: pip install"):
        runtime.runtime_files()


def test_a_damaged_cache_is_refused(package, tmp_path):
    runtime.runtime_files()
    (tmp_path / "cache" / "web" / runtime.PACKAGE / "ort.wasm.min.js").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"ort.wasm.min.js is damaged: remove it"):
        runtime.runtime_files()


@pytest.mark.parametrize("dist", [".", "dist"])
def test_the_runtime_from_a_folder(tmp_path, dist):
    (tmp_path / dist).mkdir(exist_ok=True)
    for name in runtime.FILES:
        (tmp_path / dist / name).write_text(name)
    assert runtime.runtime_files(tmp_path) == {name: name.encode() for name in runtime.FILES}


def test_bad_input_is_one_line_and_writes_nothing(tmp_path, capsys, monkeypatch, package):
    pytest.importorskip("onnx")
    package.unlink()
    write_weights(tmp_path / "w.safetensors", with_random_head(minivit.create_model("vit_mini")))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    for out, more, message in [
        ("page", ["--web", "--runtime", str(tmp_path / "full")], "full has no ort.wasm.min.js: name the folder"),
        ("page", ["--web"], "onnxruntime-web could not be downloaded ("),
        ("full", ["--web"], "full already holds 1 files: name a new or empty folder"),
        ("page", ["--web", "--attention"], "--attention is an option of ONNX files: leave it out here"),
        ("page", ["--timm", "--runtime", "x"], "--runtime is an option of --web: leave it out here"),
        ("x.onnx", ["--runtime", "x"], "--runtime is an option of --web: leave it out here"),
    ]:
        assert cli.main(["export", str(tmp_path / "w.safetensors"), str(tmp_path / out), "--model", "vit_mini",
                         *more]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert message in error
        assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} == before
