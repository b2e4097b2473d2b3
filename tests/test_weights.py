"""Pretrained weights: reading, resizing, new heads, and the refusal of damaged files."""

import json
import mmap
import re
import struct
import subprocess
import sys
import time
import tracemalloc
import warnings

import numpy as np
import pytest
from helpers import google_arrays, with_random_head
from PIL import Image
from safetensors.numpy import load_file, save_file

import minivit
from minivit import cli
from minivit.models import VARIANTS
from minivit.models.create import CROPS, declare_model
from minivit.models.pretrained import load_weights
from minivit.weight_formats.google import read_google
from minivit.weight_formats.safetensors_io import read_tensors, write_tensors
from minivit.weight_formats.timm import classes_in, from_timm, match_timm, read_weights, to_timm, write_weights

SIZES = {"image_size": 8, "patch_size": 2, "channels": 3, "classes": 5, "width": 12, "depth": 2, "heads": 3,
         "mlp_ratio": 2}


def make(seed=0, family="vit", **options):
    """Return a small model in which all weights are random, also those that are initialised with zero."""
    model = minivit.create_model(family, **(SIZES | options))
    model.vector[...] = np.random.default_rng(seed).standard_normal(model.vector.size) / 4
    return model


def bfloat16(x):
    """Truncate float32 to the 16 bits of bfloat16."""
    return (np.ascontiguousarray(x, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def write_safetensors(path, header, content=b""):
    """Write a safetensors file with this header, which may be wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)
    return path


# ---- what is read
# -------------------------------------------------------------------------------------------------------


def test_half_precision_is_read(tmp_path):
    model = make()
    tensors = {name: x.astype(np.float16) for name, x in to_timm(model).items()}
    save_file(tensors, tmp_path / "half.safetensors")
    values = read_weights(tmp_path / "half.safetensors", model)
    again = model.copy().pack(values=values)
    np.testing.assert_array_equal(again.vector, model.vector.astype(np.float16))
    assert again.dtype == np.float32


def test_bfloat16_is_read_exactly(tmp_path):
    model, header, content = make(), {}, b""
    for name, x in to_timm(model).items():
        bits = bfloat16(x).tobytes()
        header[name] = {"dtype": "BF16", "shape": x.shape, "data_offsets": [len(content), len(content) + len(bits)]}
        content += bits
    path = write_safetensors(tmp_path / "b.safetensors", header, content)
    again = model.copy().pack(values=read_weights(path, model))
    np.testing.assert_array_equal(again.vector.view(np.uint32), model.vector.view(np.uint32) & 0xFFFF0000)
    assert np.abs(again.vector - model.vector).max() <= 2**-7 * np.abs(model.vector).max()


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 3.14159, -1e-38, 1e38, 65504.0])
def test_bfloat16_keeps_sign_and_range(tmp_path, value):
    path = write_safetensors(tmp_path / "x.safetensors", {"x": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}},
                             bfloat16([value]).tobytes())
    x = read_tensors(path)[0]["x"]
    assert x.dtype == np.float32
    assert np.signbit(x[0]) == np.signbit(value)
    assert x[0] == pytest.approx(value, rel=2**-7)


def test_tensors_are_read_only_views_of_the_file(tmp_path):
    save_file({"x": np.arange(3.0)}, tmp_path / "x.safetensors")
    x = read_tensors(tmp_path / "x.safetensors")[0]["x"]
    with pytest.raises(ValueError, match="read-only"):
        x[0] = 1


def test_googles_file_is_read(tmp_path):
    model = make()
    np.savez(tmp_path / "google.npz", **google_arrays(model))
    again = minivit.create_model("vit", weights=tmp_path / "google.npz", seed=3, **SIZES)
    np.testing.assert_array_equal(again.vector, model.vector)


@pytest.mark.parametrize(("change", "message"), [
    (lambda a: a.pop("cls"), "holds no Vision Transformer of Google's: it lacks embedding/kernel and cls, and has "
                             "embedding/kernel"),
    (lambda a: a.pop("Transformer/encoderblock_1/MultiHeadDotProductAttention_1/key/bias"),
     "has no query, key and value that fit"),
    (lambda a: a.pop("Transformer/encoderblock_0/MlpBlock_3/Dense_0/bias"),
     r"1 missing \(blocks\.0\.mlp\.fc1\.bias \(24,\)\)"),
    (lambda a: a.update({"pre_logits/kernel": np.zeros((2, 3))}), r"1 unexpected \(pre_logits/kernel \(3, 2\)\)"),
    (lambda a: a.update(cls=np.array([{}], object)), "pickled Python objects, which are never loaded"),
    (lambda a: a.update(cls=np.zeros(4)), r"cls_token: \(4,\) in the file, \(1, 1, 12\) in the model"),
])
def test_errors_in_googles_file_are_named(tmp_path, change, message):
    arrays = google_arrays(make())
    change(arrays)
    np.savez(tmp_path / "google.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        minivit.create_model("vit", weights=tmp_path / "google.npz", **SIZES)


# ---- what goes where
# ----------------------------------------------------------------------------------------------------


def test_every_name_has_a_line(tmp_path):
    model, tensors = make(), to_timm(make())
    tensors["pos_embed"] = tensors["pos_embed"][:, :5]
    tensors["extra"] = tensors.pop("norm.bias")
    tensors["blocks.0.attn.relative_position_index"] = np.arange(4)
    tensors["blocks.1.mlp.fc1.bias"] = tensors["blocks.1.mlp.fc1.bias"].astype(np.int64)
    tensors["blocks.1.mlp.fc2.bias"] = np.full(12, np.nan, np.float32)
    tensors["head.bias"] = np.zeros(7, np.float32)
    found = match_timm(tensors, model)
    verdicts = {row.name: row.verdict for row in found.rows}
    assert verdicts.keys() == tensors.keys() | {p.name for p in model.parameters()}
    assert {name: v for name, v in verdicts.items() if v != "taken"} == {
        "pos_embed": "resized", "extra": "unexpected", "norm.bias": "missing",
        "blocks.0.attn.relative_position_index": "left out",
        "blocks.1.mlp.fc1.bias": "no floats", "blocks.1.mlp.fc2.bias": "not finite", "head.bias": "another shape"}
    assert not found.ok
    lines = str(found).splitlines()
    assert len(lines) == 2 + len(verdicts)
    assert re.search(r"pos_embed +\(1, 5, 12\) +\(1, 17, 12\) +resized", str(found))
    assert re.search(r"norm\.bias +- +\(12,\) +missing", str(found))
    assert lines[-1].startswith(f"{len(verdicts)} tensors: 1 ")
    with pytest.raises(
        ValueError,
        match=r"of another model: .*1 missing \(norm\.bias \(12,\)\).*head\.bias: \(7,\) in the file, \(5,\)"):
        from_timm(tensors, model)


def test_a_new_head_is_made_only_on_request(tmp_path):
    model = make(classes=7)
    write_weights(tmp_path / "w.safetensors", model)
    with pytest.raises(
        ValueError,
        match=r"head\.weight: \(7, 12\) in the file, \(5, 12\) in the .*; a new head is made with new_head"):
        minivit.create_model("vit", weights=tmp_path / "w.safetensors", **SIZES)
    new = minivit.create_model("vit", weights=tmp_path / "w.safetensors", new_head=True, **SIZES)
    assert new.classes == 5
    assert not new.head.weight.data.any()
    np.testing.assert_array_equal(new.blocks[1].mlp.fc2.weight.data, model.blocks[1].mlp.fc2.weight.data)
    assert classes_in(to_timm(model)) == 7


def test_weights_in_timms_layout_are_copies():
    model = make()
    tensors = to_timm(model)
    assert not [name for name, tensor in tensors.items() if np.shares_memory(tensor, model.vector)]
    assert all(tensor.flags.c_contiguous for tensor in tensors.values())


@pytest.mark.parametrize("size", [4, 12, 16])
def test_positions_are_resized_to_the_models_grid(tmp_path, size):
    model = make(relative_bias=True)
    write_weights(tmp_path / "w.safetensors", model)
    new = minivit.create_model("vit", weights=tmp_path / "w.safetensors",
                               **(SIZES | {"image_size": size, "relative_bias": True}))
    np.testing.assert_array_equal(new.pos_embed.data[0], model.pos_embed.data[0])
    tables = [m.blocks[0].attn.rel_pos.relative_position_bias_table.data for m in (new, model)]
    np.testing.assert_array_equal(tables[0][-3:], tables[1][-3:])
    assert len(tables[0]) == (size - 1) ** 2 + 3


def test_positions_that_do_not_form_a_square_are_refused(tmp_path):
    tensors = to_timm(make())
    tensors["pos_embed"] = tensors["pos_embed"][:, :11]
    with pytest.raises(ValueError, match=r"pos_embed: \(1, 11, 12\) in the file, \(1, 17, 12\)"):
        from_timm(tensors, make())


# ---- names
# --------------------------------------------------------------------------------------------------------------


def test_imagenet_models_know_how_images_are_prepared():
    for name, (_, options) in VARIANTS.items():
        if "mini" in name:
            assert name not in CROPS
            continue
        model = declare_model(name)
        by_half = name.startswith(("vit_", "resnetv2_")) and not re.search("dino|patch8_224|miil", name)
        if by_half or name == "vit_base_patch8_224":
            assert (model.mean.tolist(), model.std.tolist()) == ([0.5] * 3, [0.5] * 3)
        elif "miil" not in name:
            assert (model.mean.tolist(), model.std.tolist()) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        if options["image_size"] == 224 and "miil" not in name:
            assert CROPS[name] == (0.875 if name.startswith("resnetv2_") else 0.9)


def test_predict_takes_a_file_of_weights(tmp_path, capsys):
    model = minivit.create_model("vit_mini_patch2_8", classes=7)
    model.vector[...] = np.random.default_rng(0).standard_normal(model.vector.size) / 4
    write_weights(tmp_path / "w.safetensors", model)
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert cli.main(["predict", str(tmp_path / "w.safetensors"), str(tmp_path / "x.png"), "--model",
                     "vit_mini_patch2_8", "--json",
                     "--top", "7"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    logits = model.predict(pixels[None, ..., None])[0].astype(np.float64)
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert [c["class"] for c in row["classes"]] == [str(k) for k in np.argsort(-logits)]
    assert [c["probability"] for c in row["classes"]] == pytest.approx(sorted(expected, reverse=True), abs=1e-6)


@pytest.mark.parametrize(("arguments", "message"), [
    (["w.safetensors", "x.png"], "w.safetensors is a file, not a run: pass the model that has these weights as "
                                 "--model"),
    (["w.safetensors", "x.png", "--model", "vit_mini_patch2_9"], "unknown model 'vit_mini_patch2_9': did you mean "
                                                                 "'vit_mini_patch2_8'"),
    (["w.safetensors", "x.png", "--model", "vit"], "unknown model 'vit'"),
    (["w.safetensors", "x.png", "--model", "vit_mini_patch4_32"], "these weights are of another model"),
    (["nowhere.safetensors", "x.png", "--model", "vit_mini_patch2_8"], "nowhere.safetensors: no such file"),
    ([".", "x.png", "--model", "vit_mini_patch2_8"], "is a folder"),
])
def test_predict_explains_wrong_weights(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    write_weights("w.safetensors", minivit.create_model("vit_mini_patch2_8"))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("x.png")
    assert cli.main(["predict", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("minivit: error: ")
    assert error.count("\n") == 1
    assert message in error


# ---- what fits, in words
# ------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    """Write the weights of a small named model with seven classes; return the path."""
    write_weights(tmp_path / "w.safetensors", make(family="vit_mini_patch2_8", image_size=8, channels=1, classes=7,
                                                   width=64, depth=4,
                                                   heads=4))
    return tmp_path / "w.safetensors"


def call(capsys, *arguments):
    """Run a command; return its exit code and what it prints."""
    code = cli.main([str(a) for a in arguments])
    return code, capsys.readouterr()


def test_the_weights_command_lists_which_tensor_goes_where(file, capsys):
    arguments = ("weights", file, "--model", "vit_mini_patch2_8", "--image-size", 12, "--classes", 3)
    code, said = call(capsys, *arguments, "--json")
    report = json.loads(said.out)
    assert (code, report["ok"], report["formats"], report["numbers"]) == (0, True, {"F32": 56}, 135_943)
    model = declare_model("vit_mini_patch2_8", image_size=12, classes=3)
    assert report["parameters"] == sum(p.size for p in model.parameters())
    rows = {row["name"]: row for row in report["rows"]}
    assert rows.keys() == {p.name for p in model.parameters()}
    assert rows["pos_embed"] == {"name": "pos_embed", "file": [1, 17, 64], "model": [1, 37, 64], "verdict": "resized"}
    assert rows["head.weight"] == {"name": "head.weight", "file": [7, 64], "model": [3, 64], "verdict": "new"}
    assert {row["verdict"] for name, row in rows.items() if not name.startswith(("head", "pos"))} == {"taken"}
    code, said = call(capsys, *arguments)
    assert code == 0
    assert re.search(r"pos_embed +\(1, 17, 64\) +\(1, 37, 64\) +resized", said.out)
    assert said.out.endswith(f"file: 135,943 numbers, 56 of F32; model: {report['parameters']:,} parameters\nthese "
                             "weights are of this model\n")


def test_the_weights_command_uses_the_number_of_classes_of_the_file(file, capsys):
    code, said = call(capsys, "weights", file, "--model", "vit_mini_patch2_8", "--json")
    assert code == 0
    assert {row["verdict"] for row in json.loads(said.out)["rows"]} == {"taken"}


def test_the_weights_command_accepts_weights_without_a_classifier(file, capsys, tmp_path):
    tensors = {name: tensor for name, tensor in read_tensors(file)[0].items() if not name.startswith("head")}
    save_file(tensors, tmp_path / "trunk.safetensors")
    arguments = ("weights", tmp_path / "trunk.safetensors", "--model", "vit_mini_patch2_8")
    code, said = call(capsys, *arguments)
    assert code == 1
    assert said.out.endswith("these weights are of this model, without its classifier: with --classes a new one is "
                             "made\n")
    assert call(capsys, *arguments, "--classes", 3)[0] == 0


def test_the_weights_command_exits_with_1_for_another_model(file, capsys):
    code, said = call(capsys, "weights", file, "--model", "vit_mini_patch4_32")
    assert code == 1
    assert said.out.endswith("these weights are of another model\n")
    assert re.search(r"blocks\.5\.norm1\.weight +- +\(192,\) +missing", said.out)
    code, said = call(capsys, "weights", file, "--model", "swin_mini_patch1_window4_8", "--json")
    assert code == 1
    assert {"missing", "unexpected"} <= {row["verdict"] for row in json.loads(said.out)["rows"]}


def test_the_weights_command_names_the_dtypes(tmp_path, capsys):
    model = make(depth=1)
    tensors = {name: x.astype(np.float16 if x.ndim > 1 else np.float64) for name, x in to_timm(model).items()}
    save_file(tensors, tmp_path / "w.safetensors")
    code, said = call(capsys, "weights", tmp_path / "w.safetensors", "--model", "vit_mini_patch2_8", "--json")
    many = sum(x.ndim > 1 for x in tensors.values())
    assert code == 1
    assert json.loads(said.out)["formats"] == {"F16": many, "F64": len(tensors) - many}
    np.savez(tmp_path / "google.npz", **google_arrays(make()))
    code, said = call(capsys, "weights", tmp_path / "google.npz", "--model", "vit_tiny_patch16_224", "--json")
    assert code == 1
    assert list(json.loads(said.out)["formats"]) == ["float32"]


@pytest.mark.parametrize(("arguments", "message"), [
    (["w.safetensors"], "w.safetensors is a file, not a run: pass the model that has these weights as --model, or put"),
    (["w.safetensors", "--model", "vit_mini_patch2_9"], "did you mean 'vit_mini_patch2_8'"),
    (["nowhere.safetensors", "--model", "vit_mini_patch2_8"], "nowhere.safetensors: no such file"),
    ([".", "--model", "vit_mini_patch2_8"], "is a folder"),
    (["w.safetensors", "--model", "vit_mini_patch2_8", "--classes", "0"], "classes must be a whole number at least 1, "
                                                                          "not 0"),
    (["w.safetensors", "--model", "vit_mini_patch2_8", "--image-size", "9"],
     "image size 9 must be divisible by the patch size 2"),
    (["w.npz", "--model", "swin_mini_patch1_window4_8"], "an .npz is read for a ViT only"),
])
def test_the_weights_command_explains_errors(file, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(file.parent)
    code, said = call(capsys, "weights", *arguments)
    assert (code, said.out) == (2, "")
    assert message in said.err
    assert said.err.count("\n") == 1


# ---- what is written
# ----------------------------------------------------------------------------------------------------


def test_the_safetensors_library_reads_what_minivit_writes(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {"odd": rng.standard_normal(3).astype(np.float16),
               "turned": rng.standard_normal((4, 3, 2)).transpose(2, 0, 1),
               "big end": rng.standard_normal((3, 2)).astype(">f4"), "every second": np.arange(9)[::2],
               "none": np.empty((0, 4)),
               "number": np.array(1.5), 'a "name" in \u00fcml\u00e4uts\n': np.array([True, False])}
    for file, given in (("a", tensors), ("b", dict(reversed(tensors.items())))):
        write_tensors(tmp_path / file, given, {"k\u00e4y": "v\u00e4lue"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    found, metadata = read_tensors(tmp_path / "a")
    assert metadata == {"k\u00e4y": "v\u00e4lue"}
    for again in (load_file(tmp_path / "a"), found):
        assert again.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert again[name].dtype == tensor.dtype.newbyteorder("=")
            np.testing.assert_array_equal(again[name], tensor)
            assert again[name].shape == tensor.shape


@pytest.mark.parametrize("family", ["vit", "resnet"])
def test_a_file_of_weights_has_the_bytes_that_the_library_writes(tmp_path, family):
    model = make() if family == "vit" else minivit.create_model("resnet_mini")
    write_weights(tmp_path / "ours", model)
    save_file(to_timm(model), tmp_path / "theirs", metadata=read_tensors(tmp_path / "ours")[1])
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_dtypes_that_a_file_cannot_hold_are_named(tmp_path):
    with pytest.raises(ValueError, match="a safetensors file cannot hold z, of complex64"):
        write_tensors(tmp_path / "w", {"a": np.zeros(2), "z": np.zeros(2, np.complex64)}, {})
    assert not list(tmp_path.iterdir())


# ---- memory -------------------------------------------------------------------------------------------------------


def test_writing_a_file_copies_one_tensor_at_a_time(tmp_path):
    model = make(width=96, depth=4)
    largest = max(p.data.nbytes for p in model.parameters())
    tracemalloc.start()
    try:
        write_weights(tmp_path / "w.safetensors", model)
        written = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        write_tensors(tmp_path / "w.safetensors", {"weights": model.vector}, {})
        as_it_is = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert largest < written < 1.5 * largest < 0.2 * model.vector.nbytes
    assert as_it_is < 0.5 * largest


def test_predict_does_not_copy_the_weights_of_a_file(file):
    source = load_weights(file, "vit_mini_patch2_8")
    model = source.model
    weight, _ = model.blocks[0].mlp.fc1.weight.data, model.predict(np.zeros((3, 8, 8, 1), np.uint8))
    assert source.crop == 1.0
    assert model.blocks[0].mlp.fc1.weight.data is weight
    base = weight
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    assert isinstance(base, mmap.mmap)
    assert not weight.flags.writeable


PREDICT = """
import re, sys
from minivit import cli
assert cli.main(["predict", *sys.argv[1:]]) == 0
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_predict_holds_the_weights_of_vit_base_once(tmp_path):
    """Peak memory of predict with ViT-B/16, minus that with a tiny model: below 1.3 times the size of the file."""
    Image.fromarray(np.zeros((300, 400, 3), np.uint8)).save(tmp_path / "x.png")
    peaks, file = {}, tmp_path / "w.safetensors"
    for name in ("vit_mini_patch4_32", "vit_base_patch16_224"):
        write_weights(file, with_random_head(minivit.create_model(name)))
        command = [sys.executable, "-c", PREDICT, str(file), str(tmp_path / "x.png"), "--model", name]
        for _ in range(2):                                            # the first may compile
            peaks[name] = 1024 * int(subprocess.run(command, capture_output=True, text=True,
                                                    check=True).stdout.split()[-1])
    assert peaks["vit_base_patch16_224"] - peaks["vit_mini_patch4_32"] < 1.3 * file.stat().st_size


# ---- files that are damaged or malicious ----------------------------------------------------------------------------


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


HOSTILE = {
    "empty": b"",
    "short": b"\x01\x02",
    "length only": struct.pack("<Q", 10),
    "huge length": struct.pack("<Q", 2**63) + b"{}",
    "no JSON": struct.pack("<Q", 4) + b"abcd",
    "a list": struct.pack("<Q", 2) + b"[]",
    "deep": struct.pack("<Q", 200_000) + b'{"a":' * 40_000,
    "no utf-8": struct.pack("<Q", 6) + b'{"\xff":1',
    "pickle": b"\x80\x04\x95",
    "overlap": ({"a": entry(), "b": entry(offsets=(4, 12))}, 12),
    "hole": ({"a": entry(), "b": entry(offsets=(12, 20))}, 20),
    "beyond the end": ({"a": entry(offsets=(0, 800), shape=(200,))}, 8),
    "shape too large": ({"a": entry(shape=(3,))}, 8),
    "shape that overflows": ({"a": entry(shape=(2**32, 2**32, 2**32))}, 8),
    "negative shape": ({"a": entry(shape=(-2,))}, 8),
    "negative offsets": ({"a": entry(offsets=(-8, 0))}, 8),
    "backward offsets": ({"a": entry(offsets=(8, 0))}, 8),
    "fractions": ({"a": entry(offsets=(0.5, 8))}, 8),
    "unknown dtype": ({"a": entry(dtype="F7")}, 8),
    "dtype not read": ({"a": entry(dtype="F8_E4M3", shape=(8,))}, 8),
    "text for a tensor": ({"a": "x"}, 8),
    "content left over": ({"a": entry()}, 80),
    "a name twice": (b'{"a":%s,"a":%s}' % (2 * (json.dumps(entry()).encode(),)), 8),
    "a name twice, with other shapes": (
        b'{"a":%s,"a":%s}' % (json.dumps(entry("I64", (1,))).encode(), json.dumps(entry()).encode()), 8),
    "a long header": (b"{}" + b" " * (5 << 20), 0),
    "a header of 100 MB": (b"{}" + b" " * 100_000_000, 0),
    "many names": (b"{%s}" % b",".join(b'"%d":%s' % (i, json.dumps(entry(shape=(0,), offsets=(0, 0))).encode())
                                       for i in range(80_000)), 0),
    "a hundred dimensions": ({"a": entry(shape=[1] * 100 + [2])}, 8),
    "a size that only zero makes fit": ({"a": entry(shape=(0, 2**62, 2**62), offsets=(0, 0))}, 0),
    "a shape beyond all integers": ({"a": entry(shape=(2**70,))}, 8),
    "more than it should say": ({"a": entry() | {"more": 1}}, 8),
    "less than it should say": ({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, 8),
    "metadata of numbers": ({"__metadata__": {"a": 1}, "a": entry()}, 8),
    "truncated": (({"a": entry(shape=(200,), offsets=(0, 800))}), 799),
}


@pytest.mark.parametrize("case", HOSTILE.values(), ids=HOSTILE)
def test_malicious_files_are_one_line_errors(tmp_path, case):
    path = tmp_path / "x.safetensors"
    if isinstance(case, bytes):
        path.write_bytes(case)
    else:
        write_safetensors(path, case[0], bytes(case[1]))
    start = time.monotonic()
    with pytest.raises(ValueError, match="not a readable safetensors file") as error:
        read_tensors(path)
    assert time.monotonic() - start < 5
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_control_characters_in_names_are_escaped(tmp_path, capsys):
    tensors = to_timm(make()) | {"\x1b[2J\nminivit: all is "
                                 "well": np.zeros(2, np.float32), "long" * 10_000: np.zeros(2, np.float32)}
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="2 unexpected") as error:
        read_weights(tmp_path / "w.safetensors", make())
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 600
    assert cli.main(["weights", str(tmp_path / "w.safetensors"), "--model", "vit_mini_patch2_8"]) == 1
    assert all(line.isprintable() and len(line) < 200 for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize("tensor", [np.zeros((0, 12), np.float32), np.zeros((2**31, 0), np.float32),
                                    np.zeros((10**6, 1), np.float32)])
def test_a_head_of_an_impossible_size_is_refused(tmp_path, capsys, tensor):
    save_file(to_timm(make()) | {"head.weight": tensor}, tmp_path / "w.safetensors")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "x.png")
    assert cli.main(["predict", str(tmp_path / "w.safetensors"), str(tmp_path / "x.png"), "--model",
                     "vit_mini_patch2_8"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_pickles_are_named_and_not_loaded(tmp_path):
    import pickle
    import zipfile

    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "made"), "w")

    (tmp_path / "old.pth").write_bytes(pickle.dumps(Evil()))
    with zipfile.ZipFile(tmp_path / "new.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Evil()))
    for name in ("old.pth", "new.pth"):
        with pytest.raises(ValueError, match="a pickle of PyTorch, which could run any code and is never loaded"):
            read_tensors(tmp_path / name)
    assert not (tmp_path / "made").exists()


def damaged(content, rng):
    """Return the bytes of a file with random damage, mostly in the header."""
    content, header = bytearray(content), 8 + int.from_bytes(content[:8], "little")
    way = rng.integers(6)
    if way == 0:
        return bytes(content[:rng.integers(len(content))])
    if way == 1:
        for _ in range(rng.integers(1, 9)):
            content[rng.integers(header)] ^= 1 << rng.integers(8)
    elif way == 2:
        content[:8] = int(rng.choice([0, 1, header, 2**20, 2**40, 2**62])).to_bytes(8, "little")
    elif way == 3:                                                    # another digit: shapes and offsets lie
        digits = [i for i in range(8, header) if chr(content[i]).isdigit()]
        for i in rng.choice(digits, rng.integers(1, 4)):
            content[i] = ord("0") + int(rng.integers(10))
    elif way == 4:
        place = int(rng.integers(header))
        content[place:place] = rng.bytes(int(rng.integers(1, 30)))
    else:
        text = bytes(content[8:header])
        old, new = [(b"F32", b"F16"), (b"F32", b"I32"), (b"F32", b"F64"), (b"shape", b"shade"),
                    (b"[", b"[9,")][rng.integers(5)]
        text = text.replace(old, new, int(rng.integers(1, 4)))
        return len(text).to_bytes(8, "little") + text + bytes(content[header:])
    return bytes(content)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_are_refused_in_one_line_or_read_completely(tmp_path, seed):
    model = make(depth=1)
    write_weights(tmp_path / "good.safetensors", model)
    good, refused = (tmp_path / "good.safetensors").read_bytes(), 0
    for case in range(100):
        path = tmp_path / "bad.safetensors"
        path.write_bytes(damaged(good, np.random.default_rng([seed, case])))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                values = read_weights(path, model)
        except ValueError as error:
            refused += 1
            line = str(error)
            assert "bad.safetensors" in line, (case, line)
            assert "\n" not in line, (case, line)
            assert len(line) < 1000, (case, line)
        else:
            assert {name: x.shape for name, x in values.items()} == {p.name: p.shape for p in model.parameters()}
    assert refused > 60


@pytest.mark.parametrize("seed", range(2))
def test_damaged_files_of_google_are_refused_in_one_line(tmp_path, seed):
    np.savez(tmp_path / "good.npz", **google_arrays(make()))
    good, refused = (tmp_path / "good.npz").read_bytes(), 0
    for case in range(60):
        rng = np.random.default_rng([seed, case])
        content = bytearray(good[:rng.integers(len(good))] if case % 2 else good)
        for _ in range(rng.integers(1, 20)):
            content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        (tmp_path / "bad.npz").write_bytes(content)
        try:
            read_google(tmp_path / "bad.npz")
        except ValueError as error:
            refused += 1
            line = str(error)
            assert "bad.npz" in line, (case, line)
            assert "\n" not in line, (case, line)
    assert refused > 40
