"""Damaged runs, weights, images and arrays: every command works or refuses them in one line, and never hangs.

MINIVIT_FUZZ sets the number of damaged inputs of each kind (default: 250). With 2500 there are 10,000 in all.
"""

import contextlib
import io
import os
import re
import shutil
import signal
import warnings

import numpy as np
import pytest
from helpers import with_random_head
from mutations import BYTES, damage
from PIL import Image

import minivit
from minivit import cli
from minivit.data.image_files import suffixes
from minivit.training_pipeline import checkpoints
from minivit.weight_formats.timm import write_weights

CASES = int(os.environ.get("MINIVIT_FUZZ", "250"))
SECONDS = 240                                        # a command that takes longer hangs
TINY = {"image_size": 8, "patch_size": 4, "channels": 1, "classes": 3, "width": 8, "depth": 1, "heads": 2,
        "mlp_ratio": 1}
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_curve"),
              pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="time limit by SIGALRM")]


@contextlib.contextmanager
def time_limit():
    def stop(*_):
        raise AssertionError(f"no answer after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def answer(*arguments):
    """Run a command -> its exit code. An exception ends the test; an error must be one line."""
    said, complained = io.StringIO(), io.StringIO()
    with time_limit(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        code = cli.main([str(argument) for argument in arguments])
    assert code in (0, 2), code
    if code == 2:
        lines = [line for line in complained.getvalue().splitlines() if line.startswith("minivit: error: ")]
        assert lines, complained.getvalue()
        assert max(map(len, lines)) < 3000
    assert "Traceback" not in complained.getvalue()
    return code


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with data, and two runs on them: one finished, one interrupted."""
    place, rng = tmp_path_factory.mktemp("fuzz"), np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 8, 8), np.uint8)
    np.savez(place / "data.npz", images=images, labels=np.arange(60) % 3)
    Image.fromarray(images[0]).save(place / "x.png")
    settings = {"epochs": 3, "batch_size": 16, "progress": False, "threads": 1, "ema": 0.9, "optimiser": "muon"}
    minivit.train(minivit.create_model("vit", **TINY), str(place / "data.npz"), out=place / "finished",
                  command="minivit train data.npz", **settings)

    def interrupt(self, loop):
        saved(self, loop)
        if loop.trainer.optimiser.t == 5:
            self.save()
            raise checkpoints.Interrupted("stop")

    saved = checkpoints.Checkpoints.after_step
    model = minivit.create_model("vit", **TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints.Checkpoints, "after_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            minivit.train(model, str(place / "data.npz"), out=place / "interrupted", command="minivit train data.npz",
                          **settings)
    return place


FILES = {"finished": ["config.json", "learned.npy", "log.jsonl", "checkpoint.safetensors", "model.safetensors"],
         "interrupted": ["config.json", "learned.npy", "log.jsonl", "checkpoint.safetensors"]}


def commands(run, data, rng):
    out = run.with_name("made.png")
    return [("evaluate", run, "--threads", 1), ("evaluate", run, "--report", run / "new.html", "--json"),
            ("evaluate", run, data), ("predict", run, 3, data.with_name("x.png"), "--json"),
            ("attend", run, 3, "--out", out, "--json"), ("tour", run, 2, "--out", run / "tour.html"),
            ("train", data, "--resume", "--out", run, "--threads", 1, "-q"),
            ("train", data, "--fine-tune", run, "--epochs", "0.1", "--out", run / "tuned", "-q")][rng.integers(8)]


def test_damaged_runs(base, tmp_path):
    codes = {0: 0, 2: 0}
    for case in range(CASES):
        rng = np.random.default_rng([1, case])
        kind = str(rng.choice(list(FILES)))
        run = tmp_path / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(base / kind, run)
        file = run / str(rng.choice(FILES[kind]))
        file.write_bytes(damage(file.name, file.read_bytes(), rng))
        command = commands(run, base / "data.npz", rng)
        try:
            codes[answer(*command)] += 1
        except BaseException as error:
            error.add_note(f"case {case}: {file.name} of {kind}; {' '.join(map(str, command))}")
            raise
    assert min(codes.values()) > CASES / 20, codes


def test_damaged_weights(base, tmp_path):
    rng, codes = np.random.default_rng(0), set()
    write_weights(tmp_path / "good.safetensors", with_random_head(minivit.create_model("vit_mini")))
    np.savez(tmp_path / "good.npz", **{f"Transformer/encoderblock_{k}/LayerNorm_0/scale": rng.random(8)
                                       for k in range(2)}, cls=rng.random((1, 1, 8)))
    good = {name: (tmp_path / name).read_bytes() for name in ("good.safetensors", "good.npz")}
    for case in range(CASES):
        rng = np.random.default_rng([2, case])
        name = str(rng.choice(list(good)))
        file = tmp_path / name.replace("good", "bad")
        file.write_bytes(damage(name, good[name], rng))
        command = [("predict", file, base / "x.png", "--model", "vit_mini"),
                   ("train", base / "data.npz", "--fine-tune", file, "--model", "vit_mini", "--epochs", "0.1", "--out",
                    tmp_path / "out", "-q")][rng.integers(2)]
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        try:
            codes.add(answer(*command))
        except BaseException as error:
            error.add_note(f"case {case}: {' '.join(map(str, command))}")
            raise
    assert 2 in codes                                                 # the damage is noticed


def images():
    """{ending: an image file of this format} for all formats that Pillow writes and reads."""
    pixels, made = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8), {}
    exif = Image.Exif()
    exif[0x0112] = 6
    for ending, kind in suffixes().items():
        for mode in ("RGB", "RGBA", "LA", "P", "L", "1", "I;16"):
            with contextlib.suppress(OSError, ValueError, KeyError, NotImplementedError, AttributeError, TypeError):
                file = io.BytesIO()
                Image.fromarray(pixels).convert(mode).save(file, kind, **({"exif": exif} if kind == "JPEG" else {}))
                made[f"{mode.replace(';', '')}{ending}"] = file.getvalue()
    return made


def test_damaged_images(base, tmp_path):
    good, found = images(), {0: 0, 2: 0}
    assert len(good) > 60
    for case in range(CASES):
        rng = np.random.default_rng([3, case])
        name = str(rng.choice(list(good)))
        file = tmp_path / f"bad{name}"
        file.write_bytes(BYTES[rng.integers(len(BYTES))](good[name], rng))
        try:
            found[answer("predict", base / "finished", file)] += 1
        except BaseException as error:
            error.add_note(f"case {case}: {file.name}")
            raise
        file.unlink()
    assert min(found.values()) > CASES / 20, found


def test_damaged_arrays_and_tables(base, tmp_path):
    """Arrays of any type, shape and content as data, as a table of labels, and as the input of a model."""
    types = ["u1", "i1", "i8", "f2", "f4", "f8", "c8", "?", "O", "S3", "U3", "M8[s]", ">u2", ">f4"]
    shapes = [(), (0,), (6,), (6, 8), (6, 8, 8), (6, 8, 8, 1), (6, 8, 8, 3), (6, 0, 8, 1), (6, 8, 9), (6, 1, 8, 8),
              (1, 8, 8, 1), (2, 2, 2, 2, 2)]
    model = minivit.load(base / "finished")
    for case in range(CASES):
        rng = np.random.default_rng([4, case])
        kind, shape = types[rng.integers(len(types))], shapes[rng.integers(len(shapes))]
        with np.errstate(all="ignore"):
            x = np.asarray(rng.integers(-3, 300, shape) * rng.choice([1, 0.01, 1e30])).astype(kind)
        if x.dtype.kind == "f" and x.size and rng.integers(2):
            x.flat[0] = rng.choice([np.nan, np.inf, -1])
        labels = rng.integers(-1, 3, rng.choice([0, 1, 6])).astype(str(rng.choice(["i8", "u1", "f4", "U2"])))
        try:
            if rng.integers(2):
                names = {"class_names": np.array(["a", "b", "c"][:rng.integers(4)])} if rng.integers(2) else {}
                np.savez(tmp_path / "x.npz", images=x, labels=labels, **names)
                shutil.rmtree(tmp_path / "out", ignore_errors=True)
                answer("train", tmp_path / "x.npz", "--epochs", "0.1", "--out", tmp_path / "out", "-q")
            else:
                with time_limit(), contextlib.suppress(ValueError, TypeError), warnings.catch_warnings():
                    warnings.simplefilter("ignore")                   # on floats that are not normalised
                    logits = model.predict(x)
                    assert np.isfinite(logits).all() or np.abs(x).max() > 1e9
        except BaseException as error:
            error.add_note(f"case {case}: {kind} {shape}, labels {labels.dtype} {labels.shape}")
            raise


@pytest.mark.parametrize("name", ["config.json", "log.jsonl"])
def test_every_value_may_be_any_other(base, tmp_path, name):
    """Each value of the two text files, replaced by infinity and by other numbers, that led to tracebacks before."""
    content, codes = (base / "finished" / name).read_text(), []
    for k, match in enumerate(re.finditer(r"(?<=: )-?\d[\d.e-]*", content)):
        for number in ("1e999", "-1e999", "9999999999999", "{}"):
            run = tmp_path / "run"
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(base / "finished", run)
            (run / name).write_text(content[:match.start()] + number + content[match.end():])
            for command in (("evaluate", run, "--report", run / "new.html"),
                            ("train", base / "data.npz", "--resume", "--out", run, "-q")):
                try:
                    codes.append(answer(*command))
                except BaseException as error:
                    error.add_note(f"{name}, number {k}: {number}; {command[0]}")
                    raise
    assert {0, 2} == {*codes}                                         # some numbers fit, others are refused
