"""Weights as timm and transformers write them: their config.json names the model, and the logits are theirs.

`published_weights.npz` has tiny models that `make_published_weights.py` wrote with these libraries. Where timm is
installed, all of its Vision Transformers that are built here are compared, too.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import relative_difference
from safetensors.numpy import load_file, save_file

import minivit
from minivit.export import write_timm_folder
from minivit.models import VARIANTS
from minivit.models.create import CROPS, declare_model
from minivit.models.pretrained import load_weights
from minivit.models.timm_variants import TIMM_VARIANTS
from minivit.weight_formats.timm import read_weights

with np.load(Path(__file__).with_name("published_weights.npz")) as stored:
    STORED = {key: stored[key] for key in stored.files}
CASES = sorted({key.removesuffix(".logits") for key in STORED if key.endswith(".logits")})


def write_case(case, folder):
    """Write the folder of a stored case."""
    folder.mkdir()
    files = {"config": "config.json", "preprocessor_config": "preprocessor_config.json"}
    for key, file in files.items():
        if f"{case}.{key}" in STORED:
            (folder / file).write_text(str(STORED[f"{case}.{key}"]))
    shapes = json.loads(str(STORED[f"{case}.shapes"]))
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes.values()])
    parts = np.split(STORED[f"{case}.weights"].astype(np.float32), ends[:-1])
    save_file({name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)},
              folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("case", CASES)
def test_folders_of_others_have_their_logits_and_class_names(tmp_path, case):
    found = load_weights(write_case(case, tmp_path / "folder"))
    expected = STORED[f"{case}.logits"]
    assert relative_difference(found.model.predict(STORED[f"{case}.images"]), expected) < 1e-5
    assert found.class_names == list("abcde")
    assert found.fit == ("stretch" if case == "transformers" else "crop")


@pytest.mark.parametrize("case", [case for case in CASES if case != "transformers"])
def test_they_are_exported_and_read_again(tmp_path, case):
    found = load_weights(write_case(case, tmp_path / "folder"))
    write_timm_folder(found.model, tmp_path / "ours", class_names=found.class_names, crop=found.crop)
    again = load_weights(tmp_path / "ours")
    images = STORED[f"{case}.images"]
    assert relative_difference(again.model.predict(images), found.model.predict(images)) < 1e-5


def test_each_part_is_used(tmp_path):
    """LayerScale, positions of the patches alone and the missing biases change the logits: none of them is ignored."""
    case = "registers, LayerScale"
    folder = write_case(case, tmp_path / "folder")
    tensors, images = load_file(folder / "model.safetensors"), STORED[f"{case}.images"]
    before = load_weights(folder).model.predict(images)
    for name in ("blocks.0.ls1.gamma", "blocks.1.ls2.gamma", "reg_token", "pos_embed"):
        save_file(tensors | {name: 2 * tensors[name]}, folder / "model.safetensors")
        assert relative_difference(load_weights(folder).model.predict(images), before) > 1e-3


def test_a_layer_scale_that_does_not_fit_is_reported(tmp_path):
    folder = write_case("registers, LayerScale", tmp_path / "folder")
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"blocks.0.ls1.gamma": np.ones(5, np.float32)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"1 unexpected \(blocks.0.ls1.gamma"):
        load_weights(folder)


def test_one_missing_bias_is_missing_and_not_zero(tmp_path):
    folder = write_case("registers, LayerScale", tmp_path / "folder")
    tensors = load_file(folder / "model.safetensors")
    del tensors["blocks.0.attn.qkv.bias"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"1 missing \(blocks.0.attn.qkv.bias"):
        load_weights(folder)


# ---- names ----------------------------------------------------------------------------------------------------------


def test_a_tag_chooses_the_pixel_statistics():
    plain = declare_model("vit_base_patch16_224")
    assert declare_model("vit_base_patch16_224.augreg_in1k").mean.tolist() == plain.mean.tolist() == [0.5] * 3
    assert declare_model("vit_base_patch16_224.mae").mean.tolist() == [0.485, 0.456, 0.406]
    assert declare_model("vit_base_patch16_224.dino", mean=0.1).mean.tolist() == [0.1] * 3


@pytest.mark.parametrize(("name", "what"), [
    ("vit_base_patch16_siglip_224", "another pooling"),
    ("vit_base_patch16_clip_224.openai", "a norm before the blocks"),
    ("vit_small_patch16_dinov3", "rotary positions"), ("vit_giant_patch14_dinov2", "MLPs or heads of other sizes"),
    ("vit_base_patch16_xp_224", "branches side by side"), ("beit_base_patch16_224", "a position bias"),
    ("vit_base_patch16_rpn_224", "norms after the branches"), ("vit_dwee_patch16_reg1_gap_256", "differential"),
])
def test_what_is_not_built_is_named_in_one_line(name, what):
    with pytest.raises(ValueError, match=f"^timm's {name.partition('.')[0]} needs what is not built here: .*{what}"):
        minivit.create_model(name)


@pytest.mark.parametrize("name", TIMM_VARIANTS)
def test_timms_vision_transformers_by_name(tmp_path, name):
    """A small model under timm's name, with random weights, has timm's logits; size, pixels and crop are timm's."""
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    patch = VARIANTS[name][1]["patch_size"]
    small = {"img_size": 3 * patch, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 5}
    theirs = timm.create_model(name, **small).eval()
    with torch.no_grad():
        for p in theirs.parameters():
            p += 0.1 * torch.randn(p.shape)
    save_file({key: x.numpy() for key, x in theirs.state_dict().items()}, tmp_path / "w.safetensors")
    ours = declare_model(name, image_size=3 * patch, width=24, depth=2, heads=2, classes=5)
    ours.pack(np.float64, values=read_weights(tmp_path / "w.safetensors", ours))
    images = np.random.default_rng(0).standard_normal((2, 3 * patch, 3 * patch, 3))
    with torch.no_grad():
        logits = theirs.double()(torch.tensor(images.transpose(0, 3, 1, 2)).double()).numpy()
    logits = logits[0] if isinstance(logits, tuple) else logits
    assert relative_difference(ours.forward(images), logits) < 1e-6
    config, full = timm.get_pretrained_cfg(name), declare_model(name)
    assert (config.input_size, config.crop_pct) == ((3, *full.image_size), CROPS[name])
    assert (list(config.mean), list(config.std)) == (full.mean.tolist(), full.std.tolist())


@pytest.mark.parametrize("name", TIMM_VARIANTS)
def test_the_sizes_of_timms_vision_transformers(name):
    """Sizes by timm's count of parameters, without LayerScale and the missing biases, which are multiplied in."""
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    with torch.device("meta"):
        theirs = timm.create_model(name, num_classes=1000)
    folded = {key: tuple(p.shape) for key, p in theirs.named_parameters() if ".ls" not in key}
    ours = {p.name: p.size for p in declare_model(name).parameters()}
    assert folded.keys() - {key for key in folded if key not in ours} == folded.keys()
    different = {key for key, shape in folded.items() if ours[key] != np.prod(shape) and key != "pos_embed"}
    assert different == set()
