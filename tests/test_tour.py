"""`minivit tour`: the numbers are those of the model, the page is one small file, bad input gets one line."""

import base64
import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers import with_random_head
from PIL import Image

import minivit
from minivit import cli, explain
from minivit.explain.tour import blocks, check_can_tour, make_tour
from minivit.explain.tour.numbers import Numbers
from minivit.models.create import VARIANTS, declare_model
from minivit.ops import cross_entropy, pixels
from minivit.training_pipeline.folder import RunFolder
from minivit.weight_formats.timm import write_weights

pytestmark = pytest.mark.usefixtures("no_pictures")
ROOT = Path(minivit.__file__).parents[1]
SIZES = {"image_size": 8, "patch_size": 2, "channels": 1, "classes": 10, "width": 16, "depth": 3, "heads": 2,
         "mlp_ratio": 2}
MODELS = {
    "token": ("vit", SIZES),
    "colour": ("vit", SIZES | {"channels": 3, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "positions": "sincos"}),
    "mean": ("vit", SIZES | {"pool": "mean", "stem": "conv", "relative_bias": True, "positions": "none"}),
    "biased": ("vit", SIZES | {"relative_bias": True}),
    "deit": ("deit", SIZES),
    "swin": ("swin", {"image_size": 8, "patch_size": 1, "channels": 1, "classes": 10, "width": 8, "depths": [2, 2],
                      "heads": [2, 4], "window": 4, "mlp_ratio": 2}),
}
FEW = 9_000                                          # numbers, fewer than those of these models


def random_model(name, dtype=np.float64):
    """A model in which every parameter, also biases and positions, is random."""
    family, options = MODELS[name]
    model, rng = minivit.create_model(family, dtype=dtype, **options), np.random.default_rng(3)
    model.vector[:] = 0.3 * rng.standard_normal(model.vector.size)
    return model


def random_image(model):
    return np.random.default_rng(5).integers(0, 256, model.input_shape, np.uint8)


def decode(numbers, entry):
    """What numbers.js does."""
    content = base64.b64decode(numbers.text())
    kind, count = (np.uint8 if entry["bits"] == 8 else "<u2"), math.prod(entry["shape"])
    codes = np.frombuffer(content, kind, count, 2 * entry["at"]).astype(np.float64)
    return np.where(codes == 2**entry["bits"] - 1, np.nan, entry["low"] + entry["step"] * codes).reshape(entry["shape"])


# ---- numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [16, 8])
def test_numbers_come_back(bits):
    numbers, rng = Numbers(), np.random.default_rng(0)
    x, whole = rng.standard_normal((3, 5)) * 100, rng.integers(0, 2**bits - 1, (7,))
    whole[:2] = 0, 2**bits - 2
    x[1, 2] = np.nan
    places = [numbers.add(x, bits), numbers.add_whole(whole, bits), numbers.add(np.full(3, 2.5), bits),
              numbers.add(np.zeros((0, 4)), bits)]
    found = [decode(numbers, place) for place in places]
    half_a_step = (np.nanmax(x) - np.nanmin(x)) / (2**bits - 2) / 2
    np.testing.assert_allclose(found[0], x, rtol=0, atol=1.0001 * half_a_step)
    np.testing.assert_array_equal(found[1], whole)
    np.testing.assert_array_equal(found[2], 2.5)
    assert found[3].shape == (0, 4)
    assert numbers.count == len(base64.b64decode(numbers.text())) / 2


@pytest.mark.parametrize("name", [name for name, (family, _) in VARIANTS.items() if family != "resnet"])
def test_every_named_model_fits_into_a_page_or_is_refused(name):
    model = declare_model(name)
    if blocks.plan(model).numbers <= blocks.MOST_NUMBERS:
        return
    assert model.image_size >= (384, 384)
    with pytest.raises(ValueError, match="no tour of"):
        check_can_tour(model)


@pytest.mark.parametrize("most", [blocks.MOST_NUMBERS, FEW])
@pytest.mark.parametrize("name", MODELS)
def test_a_page_has_no_more_numbers_than_planned(name, most, monkeypatch):
    monkeypatch.setattr(blocks.plan, "__defaults__", (most,))
    model = random_model(name)
    plan, (tour, numbers) = blocks.plan(model), make_tour(model, random_image(model))
    assert numbers.count <= plan.numbers
    assert (plan.tokens is None) == (most > FEW)
    assert tour["kept"] == {"keys": plan.keys, "tokens": plan.tokens}


def test_a_page_keeps_of_a_large_model_what_the_documentation_says():
    plan = blocks.plan(declare_model("vit_base_patch16_224"))
    assert (plan.keys, plan.tokens) == (13, 2)
    text = " ".join((ROOT / "docs" / "training.md").read_text().split())
    assert "the 13 strongest keys of every other query, and the vectors of two tokens in each block" in text


# ---- the numbers are those of the model ----------------------------------------------------------------------------


@pytest.mark.parametrize("most", [blocks.MOST_NUMBERS, FEW])
@pytest.mark.parametrize("name", MODELS)
def test_scores_give_the_attention_of_the_model(name, most, monkeypatch):
    monkeypatch.setattr(blocks.plan, "__defaults__", (most,))
    model = random_model(name)
    image = random_image(model)
    tour, numbers = make_tour(model, image)
    expected = explain.attention_probabilities(model, image[None])
    for block, probs in zip(tour["blocks"], expected.values(), strict=True):
        entry, (heads, tokens, _) = block["attention"], probs[0].shape
        log_sums = decode(numbers, entry["log_sums"])
        if block["windows"]:
            windows = decode(numbers, block["windows"]).astype(int)
            own = windows[np.argwhere(windows.ravel() == np.arange(tokens)[:, None])[:, 1] // windows.shape[1]]
        else:
            own = np.tile(np.arange(tokens), (tokens, 1))             # the keys of each query
        scores = decode(numbers, entry["scores"])
        keys = decode(numbers, entry["keys"]).astype(int) if "keys" in entry else None
        for head in range(heads):
            for token in range(tokens):
                row = np.exp(scores[head, token] - log_sums[head, token])
                at = own[token] if keys is None else own[token][keys[head, token]]
                known = ~np.isnan(row)
                np.testing.assert_allclose(row[known], probs[0, head, token, at[known]],
                                           rtol=2e-3 if keys is None else 0.1)
                left = np.delete(probs[0, head, token], at[known])
                assert (left <= 1e-9).all() if keys is None else left.max() <= row[known].min() * 1.1
        if "prefix_scores" in entry:
            row = np.exp(decode(numbers, entry["prefix_scores"]) - log_sums[:, :block["prefix"], None])
            np.testing.assert_allclose(row, probs[0, :, :block["prefix"]], rtol=2e-3)


@pytest.mark.parametrize("name", MODELS)
def test_the_stream_is_the_sum_of_its_branches(name):
    model = random_model(name)
    tour, numbers = make_tour(model, random_image(model))
    for block, after in zip(tour["blocks"], [*tour["blocks"][1:], None], strict=True):
        x, *branches = (decode(numbers, block["vectors"][part]) for part in ("x", "branch1", "branch2"))
        out = x + branches[0] + branches[1]
        np.testing.assert_allclose(np.linalg.norm(out, axis=1), decode(numbers, block["norms"]["out"]), rtol=1e-3)
        if after and not after["merged"]:
            np.testing.assert_allclose(out, decode(numbers, after["vectors"]["x"]), atol=2e-4 * abs(out).max())
        q, k = (decode(numbers, block["vectors"][part]) for part in "qk")
        if not block["windows"] and not block["bias"]:
            scores = q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1])
            found = decode(numbers, block["attention"]["scores"])
            np.testing.assert_allclose(found, scores, atol=1e-3 * abs(scores).max())


@pytest.mark.parametrize("name", MODELS)
def test_prediction_loss_and_gradients_are_those_of_the_model(name):
    model = random_model(name)
    image, target = random_image(model), 4
    before = model.vector.copy()
    tour, _ = make_tour(model, image, target)
    logits = model.forward(image[None])
    loss, cache = cross_entropy.forward(logits, cross_entropy.targets([target], 10, dtype=np.float64))
    dimage = model.backward(cross_entropy.backward(1.0, cache))[0]
    np.testing.assert_allclose(tour["logits"], logits[0], rtol=1e-5)
    np.testing.assert_allclose(tour["probabilities"], np.exp(logits[0]) / np.exp(logits[0]).sum(), rtol=1e-5)
    assert tour["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert tour["loss"] == pytest.approx(-math.log(tour["probabilities"][target]), rel=1e-5)
    assert tour["predicted"] == logits[0].argmax()
    assert tour["gradient"] == pytest.approx(np.linalg.norm(dimage), rel=1e-5)
    for row, p in zip(tour["parameters"], model.parameters(), strict=True):
        assert row["name"] == p.name
        assert row["weight"] == pytest.approx(np.linalg.norm(p.data), rel=1e-4)
        assert row["gradient"] == pytest.approx(np.linalg.norm(p.grad), rel=1e-4)
    np.testing.assert_array_equal(model.vector, before)
    if name == "deit":
        np.testing.assert_allclose(np.mean(tour["heads"], axis=0), tour["logits"], rtol=1e-5)


@pytest.mark.parametrize("name", ["colour", "swin"])
def test_the_gradient_in_pixels_is_the_slope_of_the_loss(name):
    model = random_model(name)
    image, target = random_image(model), 2
    tour, numbers = make_tour(model, image, target)
    slopes = decode(numbers, tour["dpixels"])
    x = pixels.normalise(image[None], model.mean, model.std, np.float64)
    t = cross_entropy.targets([target], 10, dtype=np.float64)
    for row, column in [(0, 0), (3, 6), (7, 7)]:
        step = np.zeros_like(x)
        step[0, row, column] = 1e-5 / model.std                       # all channels, in units of black to white
        up, down = (cross_entropy.forward(model.forward(x + sign * step), t)[0] for sign in (1, -1))
        assert slopes[row, column] == pytest.approx((up - down) / 2e-5, abs=1e-4 * abs(slopes).max())


@pytest.mark.parametrize("name", MODELS)
def test_the_rollout_is_that_of_all_blocks_so_far(name):
    model = random_model(name)
    image = random_image(model)
    tour, numbers = make_tour(model, image)
    probs = list(explain.attention_probabilities(model, image[None]).values())
    for l, block in enumerate(tour["blocks"]):
        expected = explain.readout_maps(explain.rollout(probs[:l + 1])[:, None])[0, 0]
        np.testing.assert_allclose(decode(numbers, block["rollout"]), expected, atol=1e-4 * expected.max())


def test_gradients_of_the_stream_are_those_of_the_partial_model():
    model = random_model("token")
    image = random_image(model)[None]
    tour, numbers = make_tour(model, image[0], 1)
    for depth, block in enumerate(tour["blocks"]):
        first = explain.FirstBlocks(model, depth)
        tokens = first.forward(image)
        rest = random_model("token")
        rest.blocks = rest.blocks[depth:]
        eps, dx = 1e-6, np.zeros_like(tokens)

        def loss_of(z, rest=rest):
            for layer in rest.blocks:
                z = layer.forward(z)
            logits = rest.head.forward(rest.norm.forward(z[:, 0]))
            return cross_entropy.forward(logits, cross_entropy.targets([1], 10, dtype=np.float64))[0]

        for place in np.ndindex(*tokens[:, :3].shape):                # of the first three tokens
            step = np.zeros_like(tokens)
            step[place] = eps
            dx[place] = (loss_of(tokens + step) - loss_of(tokens - step)) / (2 * eps)
        found = decode(numbers, block["norms"]["dx"])
        np.testing.assert_allclose(found[:3], np.linalg.norm(dx[0, :3], axis=1), rtol=1e-3, atol=1e-4 * found.max())


def test_weights_that_are_not_finite_are_refused():
    model = random_model("token", np.float32)
    model.head.bias.data[0] = np.nan
    with pytest.raises(ValueError, match="logits of the model are not finite"):
        make_tour(model, random_image(model))


# ---- the page ------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The elements of an HTML page, which must be closed in the right order, and the content of its scripts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.scripts = [], [], {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            self.scripts[self.tags[-1][1].get("id", "code")] = data


@pytest.fixture(scope="module")
def runs(tmp_path_factory, no_pictures):
    """The folders of tiny models of each family, trained on the digits."""
    folder = tmp_path_factory.mktemp("tour")
    families = {"token": MODELS["token"], "swin": MODELS["swin"],
                "resnet": ("resnet", {"image_size": 8, "channels": 1, "classes": 10, "layers": [1], "width": 8,
                                      "block": "basic", "reduction": 2, "groups": 2})}
    for name, (family, options) in families.items():
        minivit.train(minivit.create_model(family, **options), "digits", epochs=1, ema=0, out=folder / name,
                      progress=False, log_norms=name == "token")
    return folder


def run_tour(capsys, *arguments):
    capsys.readouterr()
    code = cli.main(["tour", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_page_is_one_small_file_with_the_numbers_and_the_log(capsys, runs, tmp_path):
    code, out, err = run_tour(capsys, runs / "token", 7, "--out", tmp_path / "tour.html", "--json")
    assert (code, err) == (0, "")
    result, text = json.loads(out), (tmp_path / "tour.html").read_text(encoding="utf-8")
    page = Page(text)
    tour = json.loads(page.scripts["tour"])
    assert len(text.encode()) < 3_000_000
    digits = minivit.load_data("digits")
    label = digits.class_names[digits.test_labels[7]]
    assert [result[key] for key in ("image", "number", "true", "class")] == ["7", 7, label, label]
    assert result["probability"] == tour["probabilities"][tour["predicted"]]
    assert [result["loss"], result["gradient"]] == [tour["loss"], tour["gradient"]]
    assert tour["image"]["true"] == label
    assert tour["training"]["records"] == RunFolder(runs / "token").read_log()
    assert {attributes["id"] for _, attributes in page.tags if "id" in attributes} >= {
        "pixels", "patches", "embedding", "positions", "blocks", "attention", "mlp", "pooling", "logits", "loss",
        "backward", "weights", "dpixels", "training-panel"}


def test_the_page_loads_nothing_and_links_files_that_exist(capsys, runs, tmp_path):
    run_tour(capsys, runs / "swin", 0, "--out", tmp_path / "tour.html")
    page = Page((tmp_path / "tour.html").read_text(encoding="utf-8"))
    loaded = [attributes for tag, attributes in page.tags if tag in ("link", "iframe", "object")
              or not attributes.get("src", "data:").startswith("data:")]
    assert loaded == []
    assert not re.search(r"\b(fetch|import|XMLHttpRequest)\b *\(", page.scripts["code"])
    links = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    prefix = "https://github.com/minivit/minivit/blob/main/"
    assert len(links) > 12
    assert [link for link in links if not (ROOT / link.removeprefix(prefix)).is_file()] == []


def test_the_scripts_are_as_narrow_as_the_code():
    files = [path for path in (ROOT / "minivit" / "explain" / "tour").iterdir() if path.suffix in (".js", ".css")]
    assert len(files) == 8
    wide = [f"{path.name}:{i}" for path in files
            for i, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if len(line) > 120]
    assert wide == []


def test_a_file_of_the_same_image_gives_the_same_numbers(capsys, runs, tmp_path):
    digits = minivit.load_data("digits")
    Image.fromarray(digits.test_images[7][..., 0]).save(tmp_path / "seven.png")
    label = digits.class_names[digits.test_labels[7]]
    rows = []
    for image, options in ((7, []), (tmp_path / "seven.png", ["--class", label])):
        _, out, _ = run_tour(capsys, runs / "token", image, "--out", tmp_path / "tour.html", "--json", *options)
        rows.append(json.loads(out))
    assert rows[0]["loss"] == rows[1]["loss"]
    assert rows[0]["gradient"] == rows[1]["gradient"]
    assert (rows[1]["number"], rows[1]["true"]) == (None, None)


def test_an_image_of_another_size_is_resized_as_for_predict(capsys, runs, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (31, 50, 3), np.uint8)).save(tmp_path / "large.png")
    assert cli.main(["predict", str(runs / "token"), str(tmp_path / "large.png"), "--json"]) == 0
    [predicted] = json.loads(capsys.readouterr().out)
    _, out, _ = run_tour(capsys, runs / "token", tmp_path / "large.png", "--out", tmp_path / "tour.html", "--json")
    assert json.loads(out)["predicted"] == predicted["classes"][0]["class"]
    assert json.loads(out)["probability"] == pytest.approx(predicted["classes"][0]["probability"], rel=1e-4)
    _, text, _ = run_tour(capsys, runs / "token", tmp_path / "large.png", "--out", tmp_path / "tour.html")
    assert "large.png: predicted" in text
    assert "; true class" not in text


def test_a_file_of_weights_has_a_tour(capsys, tmp_path):
    write_weights(tmp_path / "w.safetensors", with_random_head(minivit.create_model("vit_mini")))
    Image.new("L", (9, 9), 70).save(tmp_path / "x.png")
    code, out, _ = run_tour(capsys, tmp_path / "w.safetensors", tmp_path / "x.png", "--model", "vit_mini", "--out",
                            tmp_path / "tour.html", "--json")
    assert code == 0
    result = json.loads(out)
    assert result["loss"] == pytest.approx(-math.log(result["probability"]), rel=1e-4)   # of the predicted class
    data = json.loads(Page((tmp_path / "tour.html").read_text()).scripts["tour"])
    assert data["training"] == {"records": [], "run": None}


def test_names_of_files_and_classes_cannot_break_the_page(capsys, runs, tmp_path):
    name = "<b>&\"' <script>.png"
    Image.new("L", (8, 8), 70).save(tmp_path / name)
    assert run_tour(capsys, runs / "token", tmp_path / name, "--out", tmp_path / "tour.html")[0] == 0
    page = Page((tmp_path / "tour.html").read_text(encoding="utf-8"))
    assert json.loads(page.scripts["tour"])["image"]["title"] == name
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 3


@pytest.mark.parametrize(("arguments", "named"), [
    ("nowhere 0 --out t.html", "nowhere is not a run"),
    ("EMPTY 0 --out t.html", "not finished, so it has no trained weights yet; resume it with: minivit"),
    ("RESNET 0 --out t.html", "no tour of a ResNet: it has no attention; pass a ViT, a DeiT or a Swin"),
    ("RUN 359 --out t.html", "digits has test images 0 to 358, not 359"),
    ("RUN none.png --out t.html", "none.png: no such file"),
    ("RUN broken.png --out t.html", "broken.png is not a readable image file"),
    ("RUN 0 --out missing/t.html", "missing/t.html: No such file or directory"),
    ("RUN 0 --out t.html --class seven", "unknown class 'seven': "),
    ("RUN 0", "--out"),
    ("RUN 0 1 --out t.html", "unexpected argument: 1"),
    ("broken.png 0 --out t.html", "broken.png is a file, not a run"),
    ("W 3 --model vit_mini --out t.html", "3 is the number of a test image, which only a run has: with --model "),
    ("W x.png --model vit_mini --class 10 --out t.html", "unknown class '10': .* 0 to 9"),
    ("W x.png --model vit_tiny_patch16_224 --out t.html", "are of another model|must be|does not fit|missing"),
    ("RUN x.png --model vit_mini --out t.html", "is a folder: with a model's name give a file of weights"),
])
def test_bad_input_gets_one_line(capsys, runs, tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"garbage")
    Image.new("L", (8, 8)).save("x.png")
    write_weights("w.safetensors", with_random_head(minivit.create_model("vit_mini")))
    (tmp_path / "empty").mkdir()
    config = json.loads((runs / "token" / "config.json").read_text()) | {"command": "minivit train digits"}
    (tmp_path / "empty" / "config.json").write_text(json.dumps(config))
    names = {"RUN": runs / "token", "RESNET": runs / "resnet", "EMPTY": "empty", "W": "w.safetensors"}
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run_tour(capsys, *(names.get(word, word) for word in arguments.split()))
    assert (code, out) == (2, "")
    assert re.search(named, err)
    assert err.startswith("minivit: error: ")
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


SECONDS = """
import resource, sys
from minivit import cli
assert cli.main(sys.argv[1:]) == 0
usage = resource.getrusage(resource.RUSAGE_SELF)
print(usage.ru_utime + usage.ru_stime)
"""


def processor_seconds(*arguments):
    """Processor time of a tour in a process of its own, on one thread."""
    said = subprocess.run([sys.executable, "-c", SECONDS, "tour", *map(str, arguments)], capture_output=True, text=True,
                          timeout=300, check=True)
    return float(said.stdout.splitlines()[-1])


@pytest.mark.alone
def test_a_tour_of_a_digits_run_takes_two_seconds(capsys, runs, tmp_path):
    pytest.importorskip("resource")
    arguments = runs / "token", 7, "--out", tmp_path / "tour.html"
    run_tour(capsys, *arguments)                                      # compile the kernels
    assert min(processor_seconds(*arguments) for _ in range(3)) < 2


@pytest.mark.slow
@pytest.mark.alone
def test_a_tour_of_a_base_model_takes_half_a_minute_and_less_than_three_megabytes(tmp_path):
    pytest.importorskip("resource")
    model, rng = minivit.create_model("vit_base_patch16_224"), np.random.default_rng(0)
    model.head.weight.data = 0.02 * rng.standard_normal(model.head.weight.shape)
    write_weights(tmp_path / "w.safetensors", model)
    Image.fromarray(rng.integers(0, 256, (300, 400, 3), np.uint8)).save(tmp_path / "noise.png")
    arguments = tmp_path / "w.safetensors", tmp_path / "noise.png", "--model", "vit_base_patch16_224", "--out"
    assert processor_seconds(*arguments, tmp_path / "tour.html") < 30
    assert 1_000_000 < (tmp_path / "tour.html").stat().st_size < 3_000_000


# ---- norms in the log ------------------------------------------------------------------------------------------------


def test_the_norms_in_the_log_are_those_of_the_layers(runs):
    [record] = RunFolder(runs / "token").read_log()
    model = minivit.load(runs / "token")
    layers = {"cls_token", "pos_embed", "patch_embed", "blocks.0", "blocks.1", "blocks.2", "norm", "head"}
    assert set(record["grad_norms"]) == set(record["weight_norms"]) == layers
    assert math.hypot(*record["grad_norms"].values()) == pytest.approx(record["grad_norm"], rel=1e-4)
    head = np.concatenate([model.head.weight.data.ravel(), model.head.bias.data])
    assert record["weight_norms"]["head"] == pytest.approx(np.linalg.norm(head), rel=1e-5)
    assert math.hypot(*record["weight_norms"].values()) == pytest.approx(np.linalg.norm(model.vector), rel=1e-5)


def test_norms_in_the_log_change_nothing_else(runs, tmp_path):
    minivit.train(minivit.create_model("vit", **SIZES), "digits", epochs=1, ema=0, out=tmp_path / "run",
                  progress=False)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (runs / "token" / "model.safetensors").read_bytes()
    [record], [other] = RunFolder(tmp_path / "run").read_log(), RunFolder(runs / "token").read_log()
    assert set(other) - set(record) == {"weight_norms", "grad_norms"}
    assert all(record[name] == other[name] for name in record if name != "seconds")


def test_a_damaged_norm_in_the_log_is_named(runs, tmp_path):
    run = RunFolder(tmp_path)
    shutil.copy(runs / "token" / "config.json", tmp_path)
    [record] = RunFolder(runs / "token").read_log()
    run.log_file.write_text(json.dumps(record | {"grad_norms": {"head": math.inf}}) + "\n")
    with pytest.raises(ValueError, match="is damaged"):
        run.read_log()
