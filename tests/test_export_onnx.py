"""ONNX files: onnxruntime computes our logits and our attention rollout; metadata; bad input."""

import json
import sys

import numpy as np
import pytest
from helpers import assert_refused, relative_difference, with_random_head

pytest.importorskip("onnx", minversion="1.16")
pytest.importorskip("onnxruntime", minversion="1.17")

import onnx
import onnxruntime

import minivit
from minivit import cli
from minivit.explain import attention_grids, attention_probabilities, readout_maps, rollout
from minivit.export import make_onnx, write_onnx
from minivit.export.onnx_model import file
from minivit.export.onnx_model.models import WRITERS
from minivit.models import ViT
from minivit.models.create import FAMILIES
from minivit.weight_formats.timm import write_weights

STATISTICS = {"mean": 0.3, "std": 0.6}
SMALL = {"width": 12, "depth": 2, "heads": 3, "classes": 5}
MODELS = {
    "vit": ("vit", {"image_size": 8, "patch_size": 2, "channels": 1} | SMALL),
    "vit by mean, sincos": ("vit", {"image_size": 8, "patch_size": 4, "pool": "mean", "positions": "sincos"} | SMALL),
    "vit without positions": ("vit", {"image_size": 8, "patch_size": 4, "positions": "none"} | SMALL),
    "vit by mean without positions": ("vit", {"image_size": 8, "patch_size": 4, "positions": "none",
                                              "pool": "mean"} | SMALL),
    "vit with relative bias": ("vit", {"image_size": 12, "patch_size": 4, "relative_bias": True} | SMALL),
    "vit with a stem": ("vit", {"image_size": 16, "patch_size": 4, "stem": "conv"} | SMALL),
    "vit with a stem of full resolution": ("vit", {"image_size": 8, "patch_size": 2, "stem": "conv-full"} | SMALL),
    "deit": ("deit", {"image_size": 8, "patch_size": 2, "mean": [0.1, 0.2, 0.3]} | SMALL),
    "swin": ("swin_mini", {"image_size": 28, "classes": 5}),          # four shifted windows, then one
    "swin of three stages": ("swin", {"image_size": 24, "patch_size": 2, "width": 12, "depths": (2, 1, 2),
                                      "heads": (3, 2, 4), "window": 3, "classes": 5}),
    "swin, padded": ("swin", {"image_size": (20, 28), "patch_size": 2, "width": 12, "depths": (2, 2), "heads": (3, 2),
                              "window": (4, 3), "classes": 5}),
    "oblong vit": ("vit", {"image_size": (8, 12), "patch_size": (2, 4), "relative_bias": True} | SMALL),
    "vit with rotary positions": ("vit", {"image_size": (8, 12), "patch_size": 4, "positions": "rotary"} | SMALL),
    "vit with everything": ("vit", {"image_size": 8, "patch_size": 2, "positions": "learned+rotary", "registers": 2,
                                    "layer_scale": 0.5, "qk_norm": True, "relative_bias": True, "stem": "conv",
                                    "pool": "mean"} | SMALL),
    "vit with registers": ("extended_vit", {"image_size": 8, "patch_size": 2, "registers": 3} | SMALL),
    "vit by mean with normed queries": ("extended_vit", {"image_size": 8, "patch_size": 2, "registers": 2,
                                                         "pool": "mean", "qk_norm": True, "eps": 1e-3} | SMALL),
    "vit by mean of normed tokens": ("extended_vit", {"image_size": 8, "patch_size": 4, "class_token": False,
                                                      "pool": "mean", "norm_first": True} | SMALL),
    "oblong resnet": ("resnet_mini", {"image_size": (17, 30), "classes": 5}),
    "resnet": ("resnet_mini", {"image_size": 17, "classes": 5}),
    "resnet with bottlenecks": ("resnet", {"image_size": 37, "layers": [2, 1], "width": 8, "groups": 4, "classes": 5}),
}


def make(name):
    """A model with random weights of every tensor, zeros and ones too."""
    family, options = MODELS[name]
    model = minivit.create_model(family, **(STATISTICS | options))
    model.vector[...] += 0.1 * np.random.default_rng(1).standard_normal(model.vector.size)
    return model


def pixels(model, count=3):
    return np.random.default_rng(2).integers(0, 256, (count, *model.input_shape)).astype(np.uint8)


def session(content):
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


# ---- logits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uint8", "float"])
@pytest.mark.parametrize("name", MODELS)
def test_onnxruntime_gives_our_logits_for_every_batch_size(name, kind):
    model = make(name)
    run = session(make_onnx(model, pixels=kind))
    for count in (1, 3):
        images = pixels(model, count)
        [logits] = run.run(None, {"images": images if kind == "uint8" else (images / 255).astype(np.float32)})
        expected = model.astype(np.float64).predict(images)
        assert relative_difference(logits, expected) < 1e-5
        assert expected.std() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224",
                                  "swin_tiny_patch4_window7_224", "resnetv2_50x1_bit"])
def test_named_variants_have_our_logits_in_onnxruntime(name):
    model = minivit.create_model(name)
    model.vector[...] += 0.02 * np.random.default_rng(1).standard_normal(model.vector.size)
    images = pixels(model, 2)
    [logits] = session(make_onnx(model)).run(None, {"images": images})
    assert relative_difference(logits, model.predict(images)) < 1e-5


def test_every_family_can_be_exported():
    assert {*FAMILIES.values()} <= {*WRITERS}


def test_a_model_of_float64_is_written_as_float32():
    model = make("vit")
    assert make_onnx(model.astype(np.float64)) == make_onnx(model)


def test_equal_models_give_equal_bytes_and_the_model_stays_as_it_was():
    model = make("swin")
    before = model.vector.copy()
    assert make_onnx(model) == make_onnx(model.copy())
    np.testing.assert_array_equal(model.vector, before)
    assert all(layer.cache is None for _, layer in model.named_layers())


# ---- attention ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MODELS if "resnet" not in name])
def test_the_attention_output_is_our_rollout(name):
    model = make(name)
    images = pixels(model)
    logits, attention = session(make_onnx(model, attention=True)).run(["logits", "attention"], {"images": images})
    grids = attention_grids(model)
    through = rollout([*attention_probabilities(model, images).values()], [*grids.values()])     # (B, n, N)
    if getattr(model, "prefix", 0) and model.pool == "mean":          # the head reads the patches only
        expected = through[:, model.prefix:, model.prefix:].mean(axis=1).reshape(-1, *model.grid)
    else:
        expected = readout_maps(through[:, None], model.grid)[:, 0]
    assert relative_difference(attention, expected) < 1e-5
    assert relative_difference(logits, model.predict(images)) < 1e-5
    flat = expected.reshape(len(images), -1)
    assert (flat.max(axis=1) > 1.02 * flat.min(axis=1)).all()


def test_a_resnet_has_no_attention():
    with pytest.raises(ValueError, match="a ResNet has no attention: leave out attention=True"):
        make_onnx(make("resnet"), attention=True)


# ---- metadata -------------------------------------------------------------------------------------------------------


def test_the_file_says_what_it_takes_and_gives(tmp_path):
    model, names = make("deit"), ["a", "b", "c", "d", "\u00e4 \u201cclass\u201d"]
    write_onnx(model, tmp_path / "x.onnx", class_names=names, attention=True)
    run = session(str(tmp_path / "x.onnx"))
    metadata = run.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == names
    assert json.loads(metadata["minivit"])["family"] == "deit"
    assert minivit.create_model("deit", **json.loads(metadata["minivit"])["options"]).vector.size == model.vector.size
    assert [(x.name, x.shape, x.type) for x in (*run.get_inputs(), *run.get_outputs())] == [
        ("images", ["batch", 8, 8, 3], "tensor(uint8)"), ("logits", ["batch", 5], "tensor(float)"),
        ("attention", ["batch", 4, 4], "tensor(float)")]


def test_weights_keep_the_names_of_the_parameters():
    for name in ("vit", "swin", "resnet"):
        model = make(name)
        graph = onnx.load_from_string(make_onnx(model)).graph
        stored = {x.name for x in graph.initializer}
        lost = [p.name for p in model.parameters() if p.name not in stored]
        assert all(n.endswith(("cls_token", "pos_embed", "relative_position_bias_table")) for n in lost)    # in a sum
        assert len({node.name for node in graph.node}) == len(graph.node)


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, no_curve):
    folder = tmp_path_factory.mktemp("onnx") / "run"
    minivit.train(minivit.create_model("vit", **(MODELS["vit"][1] | {"classes": 10})), "digits", epochs=1, out=folder,
                  progress=False)
    return folder


def test_export_of_a_run_gives_the_predictions_of_the_run(run_folder, tmp_path, capsys):
    assert cli.main(["export", str(run_folder), str(tmp_path / "x.onnx"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["difference"] < 1e-5
    digits = minivit.load_data("digits")
    [logits] = session(str(tmp_path / "x.onnx")).run(None, {"images": digits.test_images})
    assert relative_difference(logits, minivit.load(run_folder).predict(digits.test_images)) < 1e-5
    assert cli.main(["export", str(run_folder), str(tmp_path / "x.onnx"), "--pixels", "float", "--attention"]) == 0
    out = capsys.readouterr().out
    assert "images (B, 8, 8, 1) float -> logits (B, 10), attention (B, 4, 4)\n" in out
    assert "largest difference of a logit in onnxruntime: " in out


def test_export_of_a_file_of_weights(tmp_path, capsys):
    write_weights(tmp_path / "w.safetensors", with_random_head(minivit.create_model("resnet_mini")))
    assert cli.main(["export", str(tmp_path / "w.safetensors"), str(tmp_path / "x.onnx"), "--model",
                     "resnet_mini"]) == 0
    assert session(str(tmp_path / "x.onnx")).get_inputs()[0].shape == ["batch", 28, 28, 1]


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("out", "more", "message"), [
    ("x", [], "the name of an ONNX file ends in .onnx, not 'x': name a file such as model.onnx"),
    ("nowhere/x.onnx", [], "nowhere: no such folder, so x.onnx cannot be written there"),
    ("folder.onnx", [], "folder.onnx is a folder: name a file such as"),
    ("x.onnx", ["--pixels", "int8"], "unknown pixels 'int8': did you mean 'uint8'? known: uint8, float"),
])
def test_bad_input_is_one_line_and_writes_nothing(run_folder, tmp_path, capsys, out, more, message):
    (tmp_path / "folder.onnx").mkdir()
    assert_refused(tmp_path, capsys, ["export", str(run_folder), str(tmp_path / out), *more], message)


def test_a_full_disk_is_one_line_and_leaves_the_old_file(run_folder, tmp_path, capsys, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    (tmp_path / "x.onnx").write_text("old")
    monkeypatch.setattr("os.fsync", full)
    assert cli.main(["export", str(run_folder), str(tmp_path / "x.onnx")]) == 2
    assert capsys.readouterr().err == f"minivit: error: {tmp_path / 'x.onnx'}: No space left on device\n"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x.onnx", "old")]


def test_a_resnet_with_attention_is_refused_in_the_words_of_the_command(tmp_path, capsys):
    write_weights(tmp_path / "w.safetensors", with_random_head(minivit.create_model("resnet_mini")))
    assert cli.main(["export", str(tmp_path / "w.safetensors"), str(tmp_path / "x.onnx"), "--model", "resnet_mini",
                     "--attention"]) == 2
    assert capsys.readouterr().err.endswith("a ResNet has no attention: leave out --attention\n")
    assert not (tmp_path / "x.onnx").exists()


def test_a_model_of_another_class_is_refused_even_if_it_derives_from_one_of_ours():
    class Doubled(ViT):
        def forward(self, images):
            return 2 * super().forward(images)

    with pytest.raises(ValueError, match="Doubled cannot be expressed in ONNX here"):
        make_onnx(Doubled(**MODELS["vit"][1]))


def test_a_model_beyond_2_gib_is_refused_before_its_weights_are_copied(monkeypatch):
    monkeypatch.setattr(file, "LARGEST", 1000)
    with pytest.raises(ValueError, match="an ONNX file holds at most 2 GiB, but the weights of this model take"):
        make_onnx(make("vit"))


def test_class_names_of_another_number_are_refused():
    with pytest.raises(ValueError, match="class_names must be 5, one for each class of the model, not 2"):
        make_onnx(make("vit"), class_names=["a", "b"])


def test_without_onnx_one_line_says_what_to_install(run_folder, tmp_path, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("minivit.export.onnx_model")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert cli.main(["export", str(run_folder), str(tmp_path / "x.onnx")]) == 2
    assert capsys.readouterr().err == ("minivit: error: ONNX files need the package onnx: pip install "
                                       "'minivit[onnx]'\n")
