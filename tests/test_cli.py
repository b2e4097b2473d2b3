"""The command line: what each verb prints; bad input gives one line and exit code 2; help imports nothing heavy."""

import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numba
import numpy as np
import pytest
from helpers import with_random_head
from PIL import Image
from tqdm import tqdm

import minivit
from minivit import cli
from minivit.cli.wording import in_options, option_names
from minivit.kernel import Kernel
from minivit.models.pretrained import inspect_weights, match_text
from minivit.training.settings import GROUPS
from minivit.training_pipeline.defaults.presets import PRESETS
from minivit.weight_formats.safetensors_io import read_tensors, write_tensors
from minivit.weight_formats.timm import write_weights

pytestmark = pytest.mark.usefixtures("no_pictures")
PARAMETERS = {
    "vit_tiny_patch16_224": 5_717_416, "vit_small_patch16_224": 22_050_664, "vit_base_patch16_224": 86_567_656,
    "vit_base_patch32_224": 88_224_232, "vit_large_patch16_224": 304_326_632, "vit_large_patch32_224": 306_535_400,
    "vit_huge_patch14_224": 632_045_800,
}
COMPILING = "compiling kernels for this model: about 10 s, the first time only\n"
TINY = {"image_size": 8, "patch_size": 4, "channels": 1, "classes": 10, "width": 16, "depth": 1, "heads": 2,
        "mlp_ratio": 2}


def minivit_process(*arguments, **options):
    """Run the command line in a process of its own."""
    return subprocess.run([sys.executable, "-m", "minivit", *map(str, arguments)], capture_output=True, text=True,
                          timeout=240, **options)


def python(code, *arguments):
    """Return what a new process prints for some code."""
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=240,
                          check=True).stdout


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """The run of a tiny model, trained on the digits for two epochs. Tests must not change it."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    minivit.train(minivit.create_model("vit", **TINY), "digits", epochs=2, out=folder, progress=False)
    return folder


@pytest.fixture(scope="session")
def digits():
    return minivit.load_data("digits")


@pytest.fixture
def call(capsys):
    """Call a verb that must succeed, and return what it printed."""
    def call(*arguments):
        capsys.readouterr()
        code = cli.main([str(a) for a in arguments])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out
    return call


@pytest.fixture
def refused(capsys):
    """Call a verb that must fail with exit code 2 and one line, and return the line."""
    def refused(*arguments):
        capsys.readouterr()
        code = cli.main([str(a) for a in arguments])
        captured = capsys.readouterr()
        assert code == 2
        assert captured.out == ""
        assert captured.err.startswith("minivit: error: ")
        assert captured.err.count("\n") == 1, captured.err
        return captured.err
    return refused


# ---- train ------------------------------------------------------------------------------------------------------


def test_train_prints_json_and_writes_a_run(call, tmp_path):
    result = json.loads(call("train", "digits", "--epochs", 2, "--out", tmp_path / "run", "--json"))
    assert result["run"] == str(tmp_path / "run")
    assert result["images"] == 359
    assert result["steps"] == 44
    assert 0.2 < result["accuracy"] <= 1
    assert json.loads(call("evaluate", tmp_path / "run", "--json"))["accuracy"] == result["accuracy"]
    assert minivit.load(tmp_path / "run").vector.size == 136_138      # the mini ViT for 8x8


def test_train_prints_the_accuracy_and_the_next_command(call, tmp_path):
    text = call("train", "digits", "--epochs", 0.1, "--out", tmp_path / "run")
    assert re.search(r"accuracy \d+\.\d+% \+- \d", text)
    assert f"minivit evaluate {tmp_path / 'run'}" in text
    text = call("train", "digits", "--epochs", 0.1, "--out", tmp_path / "my run")
    assert f"next: minivit evaluate '{tmp_path / 'my run'}')" in text


def test_train_passes_its_options_to_the_library(call, tmp_path):
    call("train", "digits", "--epochs", 0.1, "--out", tmp_path / "run", "--seed", 5, "--threads", 1,
         "--batch-size", 32, "--lr", 0.01, "--weight-decay", 0.2, "--label-smoothing", 0.05, "--drop-rate", 0.1,
         "--drop-path-rate", 0.2, "--pool", "mean", "--positions", "sincos", "--relative-bias", "--stem", "conv",
         "--augment", "crop:0.1,cutmix:1:0.5", "--ema", 0.9, "--val-fraction", 0.2, "--patience", 3,
         "--layer", "head.*:0.5:0", "--patch-size", 2, "--width", 24, "--depth", 1, "--heads", 3)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["training"].items() >= {
        "epochs": 0.1, "batch_size": 32, "lr": 0.01, "weight_decay": 0.2, "label_smoothing": 0.05, "seed": 5,
        "augment": "crop:0.1,cutmix:1:0.5", "ema": 0.9, "val_fraction": 0.2, "patience": 3,
        "layers": [["head.*", 0.5, 0.0]]}.items()
    assert config["model"]["options"].items() >= {
        "drop_rate": 0.1, "drop_path_rate": 0.2, "pool": "mean", "positions": "sincos", "relative_bias": True,
        "stem": "conv", "patch_size": 2, "width": 24, "depth": 1, "heads": 3}.items()
    assert config["data"]["source"] == {"source": "digits", "seed": 5, "test_fraction": 0.2}


KEYWORDS = {"image_size": "--image-size", "resume": "--resume", "start": "--fine-tune", "layers": "--layer"}


@pytest.mark.parametrize(("text", "expected"), [
    ("resize: image_size=32, or crop", "resize: --image-size 32, or crop"),
    ("image_size, the side", "--image-size, the side"),
    ("continue with resume=True", "continue with --resume"),
    ("with layers=..., or `resume=`", "with --layer, or `--resume`"),
    ("begin with start=runs/a-seed0.", "begin with --fine-tune runs/a-seed0."),
    ("start from the layers, resume", "start from the layers, resume"), ("pool=mean", "pool=mean"),
    ("minivit.train(model, data, resume=True)", "minivit.train(model, data, resume=True)"),
    ("/a/image_size/start=3 is no run", "/a/image_size/start=3 is no run"), ("start=3 is no run", "start=3 is no run"),
    ("a/config.json is damaged: it lacks image_size", "a/config.json is damaged: it lacks image_size"),
    ("no config.json, see image_size=...", "no config.json, see --image-size"),
    ("a name that minivit.models.describe_models() has", "a name that `minivit models` has"),
])
def test_messages_of_the_library_name_options_on_the_command_line(text, expected):
    assert in_options(text, KEYWORDS, ["start=3", "--out=image_size=32"]) == expected


def test_messages_of_the_library_name_keywords_in_python(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere, given as data_dir, is not a folder"):
        minivit.load_data("mnist", data_dir="nowhere")
    with pytest.raises(ValueError, match=r"the names in minivit\.models\.describe_models\(\)"):
        minivit.create_model("vit_tini")
    assert "--" not in minivit.TrainingSettings.__doc__
    write_weights(tmp_path / "w.safetensors", with_random_head(minivit.create_model("vit_mini")))
    tensors, metadata = read_tensors(tmp_path / "w.safetensors")
    headless = {name: array for name, array in tensors.items() if not name.startswith("head.")}
    write_tensors(tmp_path / "headless.safetensors", headless, metadata)
    found = inspect_weights(tmp_path / "headless.safetensors", "vit_mini")
    assert match_text(*found).endswith("without its classifier: with classes=... a new one is made")


def test_every_keyword_has_one_option_in_all_commands(refused):
    [verbs] = [action for action in cli.build_parser()._actions if isinstance(action.choices, dict)]
    of_all = option_names(cli.build_parser())
    for verb in verbs.choices.values():
        assert of_all | option_names(verb) == of_all
    assert (of_all["start"], of_all["layers"], of_all["relative_bias"]) == ("--fine-tune", "--layer", "--relative-bias")
    assert "which train writes to the folder --out" in refused("evaluate", "nowhere")


def test_the_command_line_names_only_options_that_it_has(refused, tmp_path):
    weights_file = tmp_path / "w.safetensors"
    write_weights(weights_file, with_random_head(minivit.create_model("vit_mini")))
    assert refused("train", "digits", "--model", "resnet_mini", "--pool", "mean") == (
        "minivit: error: --pool is not an option of this model: it has --width, --drop-rate, --drop-path-rate\n")
    assert refused("train", "digits", "--model", "swin_mini", "--depth", 2) == (
        "minivit: error: --depth is not an option of this model: it has --patch-size, --width, --heads, --drop-rate, "
        "--drop-path-rate\n")
    assert ("--image-size must be a whole number at least 1, the side of a square, or two of them, (rows, columns), "
            "not 0") in refused("weights", weights_file, "--model", "vit_mini", "--image-size", 0)


def test_train_writes_to_runs_by_default(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call("train", "digits", "--epochs", 0.1, "--seed", 4)
    assert (tmp_path / "runs" / "digits-seed4" / "model.safetensors").is_file()
    call("train", "digits", "--epochs", 0.1, "--seed", 4, "--model", "vit_mini_patch2_8")
    assert (tmp_path / "runs" / "digits-vit_mini_patch2_8-seed4" / "model.safetensors").is_file()
    call("train", "digits", "--seed", 4, "--model", "vit_mini_patch2_8", "--resume")


def test_a_new_run_gets_a_folder_of_its_own(call, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runs = [json.loads(call("train", "digits", "--epochs", epochs, "--json"))["run"] for epochs in (0.1, 0.2, 0.1)]
    assert runs == ["runs/digits-seed0", "runs/digits-seed0-2", "runs/digits-seed0-3"]
    configs = [json.loads((Path(run) / "config.json").read_text()) for run in runs]
    assert [config["training"]["epochs"] for config in configs] == [0.1, 0.2, 0.1]
    (tmp_path / "runs" / "digits-seed0-2" / "model.safetensors").unlink()
    capsys.readouterr()
    assert cli.main(["train", "digits", "--epochs", "0.2", "--temperature", "2"]) == 2
    assert re.fullmatch("minivit: error: .*\n", capsys.readouterr().err)       # no note before an error
    assert cli.main(["train", "digits", "--epochs", "0.2", "--quiet"]) == 0
    assert "note: runs/digits-seed0-2 is not finished; to resume it, add --resume" in capsys.readouterr().err


def test_resume_without_out_finds_the_newest_unfinished_run_that_fits(call, refused, tmp_path, monkeypatch):
    def resumed(*options):
        return json.loads(call("train", "digits", "--resume", "--json", *options))["run"]

    monkeypatch.chdir(tmp_path)
    for k, options in enumerate((("--seed", 3), (), ("--epochs", 0.2), ("--model", "vit_mini"))):
        folder = Path(json.loads(call("train", "digits", "--epochs", 0.1, "--json", *options))["run"])
        os.utime(folder / "config.json", (k, k))
        (folder / "model.safetensors").unlink()
    assert resumed("--model", "vit_mini") == "runs/digits-vit_mini-seed0"
    other = refused("train", "digits", "--resume", "--seed", 3, "--epochs", 0.3)
    assert "was started with epochs 0.1, not 0.3" in other
    assert resumed("--epochs", 0.1, "--seed", 0) == "runs/digits-seed0"
    assert resumed() == "runs/digits-seed0-2"                         # the newest
    assert resumed() == "runs/digits-seed3"                           # the only one that is left
    assert (tmp_path / "runs" / "digits-seed3" / "model.safetensors").is_file()
    assert "runs/digits-seed7 is not a run" in refused("train", "digits", "--resume", "--seed", 7)


def test_resume_prefers_the_run_of_the_same_data(call, tmp_path, monkeypatch, digits):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        Path(name).mkdir()
        np.savez(f"{name}/mine.npz", images=digits.train_images[:200], labels=digits.train_labels[:200])
        call("train", f"{name}/mine.npz", "--epochs", 1)
    (tmp_path / "runs" / "mine-seed0-2" / "model.safetensors").unlink()
    assert json.loads(call("train", "a/mine.npz", "--resume", "--json"))["run"] == "runs/mine-seed0"
    assert json.loads(call("train", "b/mine.npz", "--resume", "--json"))["run"] == "runs/mine-seed0-2"


def test_quiet_train_shows_no_progress(tmp_path, capsys):
    assert cli.main(["train", "digits", "--epochs", "0.1", "--out", str(tmp_path / "run"), "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "accuracy" in captured.out


@pytest.mark.parametrize("spelling", ["--optimizer", "--optimiser"])
def test_options_have_both_spellings(call, tmp_path, spelling):
    call("train", "digits", "--epochs", 0.1, "--out", tmp_path / "run", spelling, "adamw", "--learning-rate", 0.01)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["training"].items() >= {
        "optimiser": "adamw", "lr": 0.01}.items()


def test_train_resumes_a_finished_run_to_the_same_model(call, tmp_path, capsys):
    first = json.loads(call("train", "digits", "--epochs", 0.2, "--out", tmp_path / "run", "--json"))
    model = (tmp_path / "run" / "model.safetensors").read_bytes()
    again = json.loads(call("train", "digits", "--resume", "--out", tmp_path / "run", "--json"))
    assert again["accuracy"] == first["accuracy"]
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == model
    assert cli.main(["train", "digits", "--resume", "--out", str(tmp_path / "run")]) == 0
    assert "this run is finished" in capsys.readouterr().err


def test_train_takes_a_named_model(call, tmp_path):
    call("train", "digits", "--model", "vit_mini_patch2_8", "--epochs", 0.05, "--out", tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"]["options"]["patch_size"] == 2


@pytest.mark.parametrize("channels", [1, 3])
def test_train_takes_an_npz_of_any_square_size(call, tmp_path, channels):
    images = np.random.default_rng(0).integers(0, 256, (40, 12, 12, channels), np.uint8)
    np.savez(tmp_path / "mine.npz", images=images, labels=np.arange(40) % 2, class_names=np.array(["cat", "dog"]))
    call("train", tmp_path / "mine.npz", "--epochs", 1, "--out", tmp_path / "run")
    result = json.loads(call("evaluate", tmp_path / "run", "--json"))
    assert result["images"] == 8
    assert result["class_names"] == ["cat", "dog"]


def test_a_folder_named_like_a_data_set_does_not_hide_it_and_is_noted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    note = "minivit: note: digits is the built-in data set; for the folder, pass ./digits\n"
    assert cli.main(["train", "digits", "--epochs", "0.1", "--out", "run"]) == 0
    assert note not in capsys.readouterr().err
    (tmp_path / "digits").mkdir()
    train = ["train", "digits", "--epochs", "0.1", "--out", "another", "--json"]
    for verb in (train, ["evaluate", "run", "digits", "--json"]):
        assert cli.main(verb) == 0
        said, noted = capsys.readouterr()
        assert json.loads(said)["images"] == 359
        assert noted.startswith(note)


def test_without_a_terminal_train_prints_a_line_for_each_epoch(capsys, tmp_path):
    options = ["--epochs", "2", "--batch-size", "64", "--val-fraction", "0.1"]
    assert cli.main(["train", "digits", *options, "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err.replace(COMPILING, "")
    assert said.startswith("digits: 1295 training and 359 test images of 10 classes; 136,138 parameters; run: "
                           f"{tmp_path / 'run'}\n")
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    first, last = (f"epoch {r['epoch']}/2: loss {r['loss']:.3f}, train {r['accuracy']:.1%}, validation "
                   f"{r['val_accuracy']:.1%}, test {r['test_accuracy']:.1%}; {tqdm.format_interval(r['seconds'])} of "
                   "training, " for r in records)
    first += f"{tqdm.format_interval(records[0]['seconds'])} remaining"  # as long again
    assert said.split("\n")[1:] == [first, last + "00:00 remaining", ""]


def copy_stored_kernels(folder, *lacking):
    """Copy what is compiled of this checkout, but for some files: to compile all takes long, and shows no more."""
    places = {Path(value.compiled.stats.cache_path) for name, module in list(sys.modules.items())
              if name.startswith("minivit.") for value in vars(module).values() if isinstance(value, Kernel)}
    for place in filter(Path.is_dir, places):
        shutil.copytree(place, folder / place.parent.name / place.name, ignore=shutil.ignore_patterns(*lacking))


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="about compiled kernels")
def test_train_says_once_that_it_compiles_kernels(tmp_path):
    arguments = ("train", "digits", "--epochs", "0.1", "--out")
    copy_stored_kernels(tmp_path / "kernels", "layer_norm.*", "softmax.*")
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    said = [minivit_process(*arguments, tmp_path / run, env=environment).stderr for run in ("first", "second")]
    assert [text.count(COMPILING) for text in said] == [1, 0]
    assert said[0].splitlines()[1] + "\n" == COMPILING


def test_without_a_terminal_a_probe_prints_a_line_on_its_features(capsys, run_folder, tmp_path):
    arguments = ["train", "digits", "--fine-tune", run_folder, "--probe", "--epochs", 0.1, "--out", tmp_path / "run"]
    assert cli.main([str(a) for a in arguments]) == 0
    said = capsys.readouterr().err.replace(COMPILING, "")
    assert re.fullmatch(r"features: 1797 of 1797 images\ndigits: .* of the head; run: .*/run\nepoch 1/1: .*\n", said)


@pytest.mark.parametrize("probe", [False, True])
def test_on_a_terminal_train_shows_a_bar(monkeypatch, tmp_path, run_folder, probe):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    options = ["--fine-tune", str(run_folder), "--probe"] if probe else []
    assert cli.main(["train", "digits", "--epochs", "1", "--out", str(tmp_path / "run"), *options]) == 0
    said = sys.stderr.getvalue()
    assert "images/s" in said
    assert "of training" not in said
    assert not re.search(r"features: \d+ of", said)


def test_an_interrupted_train_says_so_and_exits_with_130(tmp_path, monkeypatch, capsys):
    from minivit.training.trainer import Trainer

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "step", interrupted)
    assert cli.main(["train", "digits", "--out", str(tmp_path / "run")]) == 130
    assert "--resume" in capsys.readouterr().err.splitlines()[-1]


# ---- evaluate ---------------------------------------------------------------------------------------------------


def test_evaluate_scores_the_held_out_images(call, run_folder, digits):
    result = json.loads(call("evaluate", run_folder, "--json"))
    confusion = np.array(result["confusion"])
    assert result["images"] == confusion.sum() == len(digits.test_labels) == 359
    assert confusion.sum(axis=1).tolist() == np.bincount(digits.test_labels).tolist()
    assert result["accuracy"] == pytest.approx(np.trace(confusion) / 359)
    assert result["standard_error"] == pytest.approx(np.sqrt(result["accuracy"] * (1 - result["accuracy"]) / 359))
    assert result["class_names"] == list("0123456789")
    predicted = minivit.load(run_folder).predict(digits.test_images).argmax(axis=1)
    assert result["accuracy"] == pytest.approx((predicted == digits.test_labels).mean())


def test_evaluate_prints_a_table_of_all_classes(call, run_folder):
    text = call("evaluate", run_folder)
    assert re.match(r"accuracy \d+\.\d+% \+- \d+\.\d+% on 359 images\n", text)
    assert len(re.findall(r"^ *\d \|.*\| +\d+\.\d%$", text, re.MULTILINE)) == 10


def test_evaluate_with_the_source_of_the_run_scores_only_held_out_images(call, run_folder):
    assert call("evaluate", run_folder, "digits", "--json") == call("evaluate", run_folder, "--json")


def test_evaluate_recognises_the_data_of_the_run_at_another_path(call, tmp_path, monkeypatch, digits):
    np.savez(tmp_path / "mine.npz", images=digits.train_images[:200], labels=digits.train_labels[:200])
    monkeypatch.chdir(tmp_path)
    call("train", "mine.npz", "--epochs", 1, "--out", "run", "--seed", 2)
    monkeypatch.chdir("run")
    own = json.loads(call("evaluate", ".", "--json"))
    assert 35 <= own["images"] <= 45
    for path in ("../mine.npz", tmp_path / "mine.npz", "../run/../mine.npz"):
        assert json.loads(call("evaluate", ".", path, "--json")) == own


def test_evaluate_on_other_data_scores_all_of_it(call, run_folder, tmp_path, digits):
    np.savez(tmp_path / "other.npz", images=digits.test_images[:100, ..., 0], labels=digits.test_labels[:100])
    result = json.loads(call("evaluate", run_folder, tmp_path / "other.npz", "--json"))
    predicted = minivit.load(run_folder).predict(digits.test_images[:100]).argmax(axis=1)
    assert result["images"] == 100
    assert result["accuracy"] == pytest.approx((predicted == digits.test_labels[:100]).mean())


def test_evaluate_on_other_data_with_a_test_part_scores_that(call, run_folder, tmp_path, digits):
    np.savez(tmp_path / "other.npz", train_images=digits.train_images[:50], train_labels=digits.train_labels[:50],
             test_images=digits.test_images[:30], test_labels=digits.test_labels[:30])
    assert json.loads(call("evaluate", run_folder, tmp_path / "other.npz", "--json"))["images"] == 30


def test_evaluate_works_with_one_image_of_a_class(call, run_folder, tmp_path, digits):
    first = [int(np.flatnonzero(digits.test_labels == k)[0]) for k in range(10)]
    np.savez(tmp_path / "one_each.npz", images=digits.test_images[first], labels=digits.test_labels[first])
    assert json.loads(call("evaluate", run_folder, tmp_path / "one_each.npz", "--json"))["images"] == 10


# ---- predict ------------------------------------------------------------------------------------------------------


@pytest.fixture
def image_file(tmp_path, digits):
    """A digit as a PNG file."""
    Image.fromarray(digits.test_images[0, ..., 0]).save(tmp_path / "digit.png")
    return tmp_path / "digit.png"


def test_predict_prints_the_probabilities_of_the_model(call, run_folder, image_file, digits):
    logits = minivit.load(run_folder).predict(digits.test_images[:1])[0].astype(np.float64)
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    [row] = json.loads(call("predict", run_folder, image_file, "--top", 10, "--json"))
    assert (row["image"], row["number"], row["true"]) == (str(image_file), None, None)
    assert [int(c["class"]) for c in row["classes"]] == np.argsort(-expected).tolist()
    np.testing.assert_allclose([c["probability"] for c in row["classes"]], np.sort(expected)[::-1], rtol=1e-5)


def test_predict_shows_the_three_most_probable_classes(call, run_folder, image_file):
    [row] = json.loads(call("predict", run_folder, image_file, "--json"))
    probabilities = [c["probability"] for c in row["classes"]]
    assert len(probabilities) == 3
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < sum(probabilities) <= 1
    line = rf"{re.escape(str(image_file))}: predicted \d \(\d+\.\d%\)(, \d \(\d+\.\d%\)){{2}}\n"
    assert re.fullmatch(line, call("predict", run_folder, image_file))


def test_predict_takes_the_number_of_a_test_image(call, run_folder, digits):
    rows = json.loads(call("predict", run_folder, 7, 0, "--json"))
    assert [row["image"] for row in rows] == ["7", "0"]
    best = minivit.load(run_folder).predict(digits.test_images[[7, 0]]).argmax(axis=1)
    assert [int(row["classes"][0]["class"]) for row in rows] == best.tolist()
    assert [row["number"] for row in rows] == [7, 0]
    assert [int(row["true"]) for row in rows] == digits.test_labels[[7, 0]].tolist()
    line = rf"test image 7: predicted {best[0]} \(\d+\.\d%\), .*; true class {digits.test_labels[7]}\n"
    assert re.fullmatch(line, call("predict", run_folder, 7))


def test_predict_keeps_the_order_of_several_files(call, run_folder, tmp_path, digits):
    files = [tmp_path / f"{k}.png" for k in range(4)]
    for file, image in zip(files, digits.test_images, strict=False):
        Image.fromarray(image[..., 0]).save(file)
    rows = json.loads(call("predict", run_folder, *files, "--json"))
    assert [row["image"] for row in rows] == [str(file) for file in files]
    best = minivit.load(run_folder).predict(digits.test_images[:4]).argmax(axis=1)
    assert [int(row["classes"][0]["class"]) for row in rows] == best.tolist()


@pytest.mark.parametrize("weights", ["a run", "a file"])
def test_predict_names_unreadable_files_and_classifies_the_others(call, capsys, run_folder, image_file, tmp_path,
                                                                  weights):
    def predict(*files):
        code = cli.main(["predict", *map(str, (*model, *files))])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    model = [run_folder]
    if weights == "a file":
        write_weights(tmp_path / "w.safetensors", with_random_head(minivit.create_model("vit_mini_patch2_8")))
        model = [tmp_path / "w.safetensors", "--model", "vit_mini_patch2_8"]
    broken, gone, last = tmp_path / "broken.png", tmp_path / "gone.png", tmp_path / "last.png"
    broken.write_bytes(image_file.read_bytes()[:50])
    shutil.copy(image_file, last)
    code, said, errors = predict(image_file, broken, gone, last)
    assert (code, said) == (2, call("predict", *model, image_file, last))
    first, second = (line for line in errors.splitlines() if "note: the classes are numbers" not in line)
    assert first.startswith(f"minivit: error: {broken} is not a readable image file (")
    assert second == f"minivit: error: {gone}: no such file"
    rows = json.loads(predict(image_file, broken, gone, last, "--json")[1])
    assert [row["image"] for row in rows] == [str(image_file), str(last)]
    code, said, _ = predict(broken, "--json")
    assert (code, json.loads(said)) == (2, [])


def test_predict_names_numbers_out_of_range_and_classifies_the_others(call, run_folder, image_file, capsys):
    right = call("predict", run_folder, image_file, 358, 0)
    assert cli.main(["predict", *map(str, (run_folder, image_file, 359, 358, -1, 0))]) == 2
    said = capsys.readouterr()
    assert said.out == right
    assert said.err.splitlines() == [
        f"minivit: error: digits has test images 0 to 358, not {number}" for number in (359, -1)]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_predict_takes_image_files_of_any_size_and_mode(call, run_folder, tmp_path, mode):
    Image.new(mode, (31, 17)).save(tmp_path / "any.tif")
    assert len(json.loads(call("predict", run_folder, tmp_path / "any.tif", "--json"))) == 1


# ---- models -------------------------------------------------------------------------------------------------------


def test_models_have_the_exact_parameter_counts(call):
    rows = {row["name"]: row for row in json.loads(call("models", "--json"))}
    assert {name: rows[name]["parameters"] for name in PARAMETERS} == PARAMETERS
    assert rows["vit_base_patch16_224"]["tokens"] == 197
    assert rows["vit_huge_patch14_224"]["tokens"] == 257
    assert all(set(row) >= {"name", "tokens", "parameters", "flops"} for row in rows.values())


def test_models_are_described_without_memory_for_their_weights(call):
    call("models", "--json")                     # the imports
    tracemalloc.start()
    try:
        call("models", "--json")
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_models_prints_a_line_for_each_model(call):
    lines = call("models").splitlines()
    assert len(lines) == 1 + len(json.loads(call("models", "--json"))) + 2
    assert lines[-1] == "vit_mini, deit_mini, swin_mini, resnet_mini adapt to the size of the images."
    assert any(line.startswith("vit_base_patch16_224") and "86,567,656" in line for line in lines)


# ---- bad input: one line, code 2, nothing written ---------------------------------------------------------------


BAD_INPUT = [
    ("trian digits", "unknown command 'trian': did you mean 'train'.*known: train, pretrain, study, evaluate, "),
    ("train", "DATA"),
    ("train digit", "unknown data set.*'digit'.*did you mean 'digits'"),
    ("train nowhere.npz", r"nowhere\.npz: no such file"),
    ("train digits --model vit_tiny_patch16_225", "unknown model.*did you mean 'vit_tiny_patch16_224'"),
    ("train digits --model vit_tiny_patch16_224", "8.*divisible by the patch size 16"),
    ("train digits --epochs 0", "epochs.*above 0.*not 0"),
    ("train digits --epochs many", "--epochs.*'many'"),
    ("train digits --epochs nan", "epochs"),
    ("train digits --epochs inf", "epochs"),
    ("train digits --minutes 0", "minutes"),
    ("train digits --minutes inf", "minutes"),
    ("train digits --epochs 1 --minutes 1", "only one of --epochs and --minutes can set the length of the training: "
                                            r"got --epochs 1\.0 and --minutes 1\.0; leave out one of them"),
    ("train digits --lr -1", "learning rate.*-1"),
    ("train digits --lr nan", "learning rate"),
    ("train digits --pool max", "unknown pool 'max'.*token, mean"),
    ("train digits --positions sin", "unknown positions 'sin'.*did you mean 'sincos'"),
    ("train digits --threads 0", "threads.*at least 1.*0"),
    ("train digits --batch-size 0", "batch size.*0"),
    ("train digits --batch-size 1.5", "--batch-size.*'1.5'"),
    ("train digits --drop-rate 1.5", r"--drop-rate must be .* below 1, not 1\.5"),
    ("train digits --drop-path-rate 1", "--drop-path-rate must be .* below 1, not 1"),
    ("train digits --weight-decay -1 --epochs 0.1", "weight decay.*-1"),
    ("train digits --label-smoothing 2", "label smoothing.*2"),
    ("train digits --augment flop", "unknown augmentation transform 'flop': did you mean 'flip'"),
    ("train digits --augment crop:far", "the parameters in 'crop:far' must be numbers: write crop:REACH"),
    ("train digits --ema 1", "EMA decay.*below 1"),
    ("train digits --patience 1.5", "--patience.*'1.5'"),
    ("train digits --patience -1", "patience.*-1"),
    ("train digits --val-fraction 1", "validation fraction.*below 1"),
    ("train digits --layer head", "'head' is not PATTERN:FACTOR"),
    ("train digits --layer head.*:much", "'head.\\*:much' needs a number after each colon"),
    ("train digits --layer heat.*:1", "no parameter name matches 'heat"),
    ("train digits --width 50 --heads 4", "the width 50 must be divisible by the number of heads, 4"),
    ("train digits --model swin_mini --heads 3", "a number for each stage"),
    ("train digits --heads 3,x", "--heads: '3,x' is not a whole number, nor several with commas"),
    ("train digits --width 10000000 --heads 1", "width is 10000000, more than 1,000,000"),
    ("train digits --width 1000000 --heads 1", "the model would take .* GiB, but this machine has"),
    ("train digits --depth 0", "depth must be a whole number at least 1, not 0"),
    ("train digits --patch-size 3", "the image size 8 must be divisible by the patch size 3: use another patch size"),
    ("train digits --stem convolution", "unknown stem.*did you mean 'conv'"),
    ("train digits --fine-tune nowhere", "nowhere is not a run"),
    ("train digits --fine-tune nowhere --model vit_mini_patch2_8", "nowhere: no such file"),
    ("train digits --fine-tune . --model vit_mini_patch2_8", "is a folder: a run has its own model, so leave out "
                                                             "--model"),
    ("train digits --seed -1", "seed.*-1"),
    ("train mnist --data-dir nowhere", "nowhere, given as --data-dir, is not a folder"),
    ("train cifar-10", "did you mean 'cifar10'"),
    ("train digits --resume", r"is not a run.*config\.json"),
    ("train digits --colour red", r"unknown option --colour \(see minivit train --help\)"),
    ("--colour train digits", r"unknown option --colour \(see minivit --help\)"),
    ("train nowhere --image-size 32", "unknown data set .*'nowhere'"),
    ("evaluate", "RUN"),
    ("evaluate nowhere", "nowhere is not a run"),
    ("predict nowhere some.png", "nowhere is not a run"),
    ("predict nowhere", "IMAGE"),
    ("predict nowhere some.png --colour red", r"unknown option --colour \(see minivit predict --help\)"),
    ("models vit", r"unexpected argument: vit \(see minivit models --help\)"),
    ("models vit deit", "unexpected arguments: vit deit "),
    ("train digits --epoch 3", r"unknown option --epoch: did you mean --epochs\? \(see minivit train --help\)"),
    ("train digits --optimzer=muon", r"unknown option --optimzer: did you mean --optimizer\?"),
    ("predict nowhere 7 --tpo 2", r"unknown option --tpo: did you mean --top\?"),
    ("help trian", "unknown command 'trian': did you mean 'train'"),
    ("completion fish", "unknown shell 'fish'.*known: bash, zsh, tcsh"),
    ("weights nowhere.safetensors --model vit_mini", r"nowhere\.safetensors"),
]


@pytest.mark.parametrize(("command", "named"), BAD_INPUT, ids=[command for command, _ in BAD_INPUT])
def test_bad_input_is_a_one_line_error(refused, tmp_path, monkeypatch, command, named):
    monkeypatch.chdir(tmp_path)
    assert re.search(named, refused(*command.split()))
    assert not list(tmp_path.iterdir())


BAD_FILES = [
    ("evaluate RUN digit", "'digit'.*did you mean 'digits'"),
    ("evaluate RUN nowhere.npz", r"nowhere\.npz: no such file"),
    ("evaluate RUN colour.npz", r"colour\.npz.*\(8, 8, 3\).*\(8, 8, 1\)"),
    ("evaluate RUN more.npz", r"more\.npz.*11 classes.*10 classes"),
    ("evaluate RUN oblong.npz", r"\(4, 8, 1\).*\(8, 8, 1\)"),
    ("evaluate RUN garbage.npz", r"garbage\.npz"),
    ("train from1.npz", r"from1\.npz has no training images of class 0: add some, .*labels count from 0"),
    ("train gaps.npz", r"gaps\.npz has no training images of class 1, 3: "),
    ("train one.npz", r"one\.npz has one class only, 0"),
    ("train garbage.npz", r"garbage\.npz is not a readable \.npz file"),
    ("train garbage.png", r"garbage\.png.*\.npz"),
    ("train digits --out RUN", "already holds a run.*--resume"),
    ("train digits --out RUN --resume --lr 0.1", r"was started with lr 0\.003, not 0\.1: "),
    ("train digits --out RUN --resume --lr 0.1 --seed 1",
     r"was started with lr 0\.003, not 0\.1, and seed 0, not 1: leave out what differs"),
    ("train digits --out RUN --resume --epochs 4 --seed 1", "was started with epochs 2, not 4: its cosine schedule"),
    ("train digits --out garbage.png",
     r"garbage\.png: this folder cannot be created: File exists; pass another one as --out"),
    ("train digits --out garbage.png/run", r"garbage\.png/run: this folder cannot be created: Not a directory; "),
    ("evaluate garbage.png", r"garbage\.png is not a run"),
    ("predict RUN nowhere.png", r"nowhere\.png: no such file"),
    ("predict RUN garbage.png", r"garbage\.png is not a readable image file"),
    ("predict RUN empty.png", r"empty\.png is not a readable image file"),
    ("predict RUN half.png", r"half\.png is not a readable image file"),
    ("predict RUN RUN", "run holds no image files"),
    ("predict RUN -1", "digits has test images 0 to 358, not -1"),
    ("attend RUN 359 --out look.png", "digits has test images 0 to 358, not 359"),
    ("predict RUN digit.png --top 0", "classes to show.*0"),
]


@pytest.mark.parametrize(("command", "named"), BAD_FILES, ids=[command for command, _ in BAD_FILES])
def test_bad_files_are_answered_with_one_line(refused, run_folder, image_file, tmp_path, monkeypatch, command, named):
    monkeypatch.chdir(tmp_path)
    for name, shape in (("colour", (22, 8, 8, 3)), ("more", (22, 8, 8)), ("oblong", (22, 4, 8))):
        np.savez(f"{name}.npz", images=np.zeros(shape, np.uint8), labels=np.arange(22) % (11 if name == "more" else 2))
    for name, labels in (("from1", np.arange(20) % 4 + 1), ("gaps", np.arange(20) % 3 * 2), ("one", np.zeros(20, int))):
        np.savez(f"{name}.npz", images=np.zeros((20, 8, 8), np.uint8), labels=labels)
    for name, content in (("garbage.npz", b"garbage"), ("garbage.png", b"garbage"), ("empty.png", b""),
                          ("half.png", image_file.read_bytes()[:50])):
        (tmp_path / name).write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    assert re.search(named, refused(*(str(run_folder) if a == "RUN" else a for a in command.split())))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("wrong", "right"), [("picturs", "pictures"), ("MNIST", "mnist"), ("digit", "digits")])
def test_a_misspelt_folder_or_data_set_is_suggested(refused, tmp_path, monkeypatch, wrong, right):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    assert f"did you mean '{right}'" in refused("train", wrong)


def test_only_data_that_could_be_meant_are_suggested(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (".git", "digits", "photos/cats", "photos/.cart"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "photos" / "birds.npz").touch()
    (tmp_path / "photos" / "birdy.txt").touch()
    known = "known: digits, mnist, fashion-mnist, cifar10, cifar100, shapes:TASK\n"
    for wrong, right in ((".gitt", ""), ("digi", ""), ("photos/cars", "did you mean 'photos/cats'? "),
                         ("photos/bird", "did you mean 'photos/birds.npz'? "), ("photo/cats", "")):
        hint = "did you mean 'digits'? " if wrong == "digi" else right
        assert refused("train", wrong) == (
            f"minivit: error: unknown data set (and no folder or .npz file) {wrong!r}: {hint}{known}")


def test_train_on_a_run_names_the_command_that_resumes_it(refused, run_folder, tmp_path):
    folder = shutil.copytree(run_folder, tmp_path / "my run")
    assert refused("train", folder) == (
        f"minivit: error: {folder} is a run, not data: minivit.train(model, data, out='{folder}', resume=True) "
        "resumes it\n")
    (folder / "config.json").write_text("damaged")
    assert "config.json" in refused("train", folder)


def test_train_into_an_existing_run_changes_nothing(refused, run_folder):
    before = {file: file.read_bytes() for file in run_folder.iterdir()}
    refused("train", "digits", "--out", run_folder)
    assert {file: file.read_bytes() for file in run_folder.iterdir()} == before


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.99])
@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_truncated_weights_are_answered_with_one_line(refused, run_folder, image_file, tmp_path, verb, keep):
    folder = shutil.copytree(run_folder, tmp_path / "run")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:int(keep * len(content)) if isinstance(keep, float) else keep])
    assert "model.safetensors" in refused(verb, folder, *([image_file] if verb == "predict" else []))


def test_a_run_without_weights_is_answered_with_one_line(refused, run_folder, tmp_path):
    folder = shutil.copytree(run_folder, tmp_path / "run")
    (folder / "model.safetensors").unlink()
    (folder / "checkpoint.safetensors").unlink()
    assert "resume=True)" in refused("evaluate", folder)


def test_an_unfinished_run_is_used_as_it_is_with_a_note(run_folder, image_file, tmp_path, capsys):
    folder = shutil.copytree(run_folder, tmp_path / "run")
    verbs = (["evaluate", str(folder), "--json"], ["predict", str(folder), str(image_file), "--json"])
    finished = [cli.main(verb) or capsys.readouterr() for verb in verbs]
    (folder / "model.safetensors").unlink()
    unfinished = [cli.main(verb) or capsys.readouterr() for verb in verbs]
    # The checkpoint was written after the last step, so it has the final weights.
    assert [text.out for text in unfinished] == [text.out for text in finished]
    assert [text.err for text in finished] == ["", ""]
    note = (r"minivit: note: .* is not finished: .* step 44 of 44; resume it with: minivit\.train\(model, data, "
            r"out='.*run', resume=True\)\n")
    assert all(re.fullmatch(note, text.err) for text in unfinished)


def test_checkpoint_of_another_model_is_answered_with_one_line(refused, run_folder, tmp_path):
    folder = shutil.copytree(run_folder, tmp_path / "run")
    (folder / "model.safetensors").unlink()
    wider = minivit.create_model("vit", **(TINY | {"width": 32}))
    minivit.train(wider, "digits", epochs=0.1, out=tmp_path / "other", progress=False)
    shutil.copy(tmp_path / "other" / "checkpoint.safetensors", folder)
    assert "checkpoint.safetensors is the checkpoint of another model" in refused("evaluate", folder)


def test_image_files_cannot_have_two_channels(refused, tmp_path, image_file):
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 2), np.uint8)
    np.savez(tmp_path / "two.npz", images=images, labels=np.arange(20) % 2)
    model = minivit.create_model("vit", **(TINY | {"channels": 2}))
    minivit.train(model, tmp_path / "two.npz", epochs=1, out=tmp_path / "run", progress=False)
    assert re.search("2 channels|channels.*2", refused("predict", tmp_path / "run", image_file))


def test_a_run_on_arrays_asks_for_data(refused, tmp_path, digits):
    digits = dataclasses.replace(digits, source=None)
    minivit.train(minivit.create_model("vit", **TINY), digits, epochs=0.1, out=tmp_path / "run", progress=False)
    assert "name the data" in refused("evaluate", tmp_path / "run")
    assert "no test images of its own" in refused("attend", tmp_path / "run", 0, "--out", tmp_path / "look.png")


def test_traceback_is_shown_on_demand(monkeypatch):
    monkeypatch.setenv("MINIVIT_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError, match="is not a run"):
        cli.main(["evaluate", "nowhere"])


# ---- in a process of its own --------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["train", "digit"], ["evaluate", "nowhere"], ["--nonsense"]], ids=" ".join)
def test_process_ends_with_code_2_and_one_line(arguments):
    process = minivit_process(*arguments)
    assert process.returncode == 2
    assert process.stdout == ""
    assert re.fullmatch(r"minivit: error: .*\n", process.stderr)


def test_class_names_with_accents_are_printed_on_an_ascii_terminal(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "accents.npz", images=images, labels=np.arange(20) % 2, class_names=["caf\u00e9", "th\u00e9"])
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    arguments = ("train", tmp_path / "accents.npz", "--epochs", "1", "--out", tmp_path / "run")
    process = minivit_process(*arguments)
    assert process.returncode == 0, process.stderr
    assert "caf\\xe9" in process.stdout


def test_process_prints_nothing_but_json_to_stdout(run_folder, image_file):
    for arguments in (["evaluate", run_folder, "--json"], ["predict", run_folder, image_file, "--json"]):
        process = minivit_process(*arguments)
        assert process.returncode == 0, process.stderr
        assert json.loads(process.stdout)
        assert process.stderr == ""


# ---- threads and names, in every verb -------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["predict", "attend", "evaluate", "predict --model"])
def test_every_verb_that_predicts_takes_the_number_of_threads(call, run_folder, image_file, tmp_path, monkeypatch,
                                                              verb):
    asked = []
    predict = minivit.models.ViT.predict

    def spy(model, images, threads=None):
        asked.append(threads)
        return predict(model, images, threads)

    monkeypatch.setattr(minivit.models.ViT, "predict", spy)
    write_weights(tmp_path / "w.safetensors", with_random_head(minivit.create_model("vit_mini")))
    arguments = {"predict": [run_folder, 7], "attend": [run_folder, 7, "--out", tmp_path / "look.png"],
                 "evaluate": [run_folder],
                 "predict --model": [tmp_path / "w.safetensors", image_file, "--model", "vit_mini"]}
    call(verb.split()[0], *arguments[verb], "--threads", 3)
    assert asked == [3]


def test_every_verb_that_computes_has_threads():
    [verbs] = [action for action in cli.build_parser()._actions if isinstance(action.choices, dict)]
    without = {name for name, verb in verbs.choices.items() if "--threads" not in verb._option_string_actions}
    # the functions of `learn` are the learner's own plain NumPy, on one thread; `export` only copies weights
    assert without == {"models", "weights", "learn", "export", "help", "completion"}


@pytest.mark.parametrize("name", ["vit_mini", "deit_mini", "swin_mini", "resnet_mini"])
def test_every_verb_knows_the_small_models(call, tmp_path, name):
    size = 28 if name == "resnet_mini" else 8
    write_weights(tmp_path / "w.safetensors", with_random_head(minivit.create_model(name)))
    Image.new("L", (size, size)).save(tmp_path / "x.png")
    assert json.loads(call("weights", tmp_path / "w.safetensors", "--model", name, "--json"))["ok"]
    rows = json.loads(call("predict", tmp_path / "w.safetensors", tmp_path / "x.png", "--model", name, "--json"))
    assert len(rows) == 1
    call("train", "digits", "--model", name, "--epochs", 0.02, "--out", tmp_path / "run")
    if name != "resnet_mini":
        call("train", "digits", "--model", name, "--fine-tune", tmp_path / "w.safetensors", "--epochs", 0.02,
             "--out", tmp_path / "tuned")


def test_json_describes_an_image_by_the_same_keys_in_every_verb(call, run_folder, tmp_path):
    mistake = json.loads(call("evaluate", run_folder, "--json"))["mistakes"][0]
    number = mistake["number"]
    [predicted] = json.loads(call("predict", run_folder, number, "--json"))
    [attended] = json.loads(call("attend", run_folder, number, "--out", tmp_path / "look.png", "--json"))
    keys = ("image", "number", "true")
    assert [[row[key] for key in keys] for row in (predicted, attended)] == [[mistake[key] for key in keys]] * 2
    assert mistake["image"] == str(number)
    assert predicted["classes"][0]["class"] == attended["predicted"] == mistake["predicted"]


# ---- help, at once ------------------------------------------------------------------------------------------------

HELP = """
import contextlib, io, re, sys
from minivit.cli import main

def ask(*arguments):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        try:
            main([*arguments, "--help"])
        except SystemExit as end:
            return end.code, text.getvalue()

code, text = ask()
verbs = re.findall(r"^    ([a-z]+) +[a-z]", text, re.MULTILINE)
answers = {verb: ask(verb) for verb in verbs}
assert code == 0 and all(code == 0 and f"minivit {verb}" in text for verb, (code, text) in answers.items()), answers
print(*verbs)
heavy = ("numpy", "numba", "matplotlib", "PIL", "safetensors", "threadpoolctl", "tqdm", "pooch")
print(*(name for name in heavy if name in sys.modules))
"""


def test_help_of_every_verb_imports_nothing_heavy():
    verbs, heavy = python(HELP).split("\n")[:2]
    assert set(verbs.split()) >= {"train", "evaluate", "predict", "attend", "models"}
    assert heavy == ""


@pytest.mark.parametrize("verb", [[], ["train"], ["evaluate"], ["predict"], ["attend"], ["models"]], ids="".join)
def test_help_ends_with_code_0(verb, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([*verb, "--help"])
    assert end.value.code == 0
    assert "usage: minivit" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["help"]], ids=" ".join)
def test_bare_command_prints_help(call, arguments):
    text = call(*arguments)
    assert text.startswith("usage: minivit [-h] [-V] COMMAND")
    assert "minivit train digits\n" in text


def test_help_of_a_verb_is_its_help(call, capsys):
    with pytest.raises(SystemExit):
        cli.main(["predict", "--help"])
    assert capsys.readouterr().out == call("help", "predict")


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version(capsys, option):
    with pytest.raises(SystemExit) as end:
        cli.main([option])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"minivit {minivit.__version__}\n"


def test_help_of_train_has_groups_presets_and_examples(call):
    text = call("help", "train")
    groups = re.findall(r"^([a-z -]+):$", text, re.MULTILINE)
    assert groups == ["options", "data", "model", *(name for name in GROUPS if name != "pre-training"), "examples"]
    groups = re.findall(r"^([a-z -]+):$", call("help", "pretrain"), re.MULTILINE)
    assert groups == ["options", "data", "model", *GROUPS, "examples"]
    for name, preset in PRESETS.items():
        row = next(line.split() for line in text.splitlines() if line.startswith(f"  {name} "))
        assert [str(preset.training[s]) for s in preset.training if str(preset.training[s]) not in row] == []
    examples = text[text.index("examples:"):].splitlines()[1:]
    assert len(examples) == 3
    parser = cli.build_parser()
    assert all(parser.parse_args(line.split()[1:]).data for line in examples)


def test_help_of_every_option_is_a_sentence():
    [verbs] = [action for action in cli.build_parser()._actions if hasattr(action, "choices") and action.choices]
    for name, verb in verbs.choices.items():
        for action in verb._actions:
            if action.dest != "help":
                assert re.match(r"[A-Z]|digits|richardson|bash", action.help), (name, action.dest)
                assert action.help.endswith(".") or re.search(r"Default: [^ ]+$", action.help), (name, action.dest)


def test_completion_knows_the_options(call):
    pytest.importorskip("shtab")
    script = call("completion", "bash")
    assert "_shtab_minivit_train_option_strings" in script
    assert "--fine-tune" in script


def test_completion_says_that_it_needs_shtab(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert "completion needs shtab: pip install 'minivit[completion]'" in refused("completion", "bash")


def test_help_answers_at_once():
    """Within 0.3 s of processor time, which other processes do not change much."""
    seconds = []
    for _ in range(5):
        before = os.times()
        assert minivit_process("--help").returncode == 0
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert 0 < min(seconds) < 0.3
