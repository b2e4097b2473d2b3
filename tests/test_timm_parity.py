"""Models of every family compute what timm's models compute, and weights convert both ways without loss.

They are compared with stored arrays, which `tests/make_timm_parity.py` makes, and with timm if it is installed. As in
`test_parity.py`, the truth is float64, every input is exact in float32, and errors are relative to a tensor's largest
entry.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from test_parity import difference, differences, dtypes

import minivit
from minivit.models import VARIANTS
from minivit.models.create import CROPS, declare_model
from minivit.ops import cross_entropy
from minivit.weight_formats.timm import from_timm, match_timm, to_timm, write_weights

LOGITS = {np.float32: 1e-4, np.float64: 1e-9}
GRADIENTS = {np.float32: 1e-4, np.float64: 1e-9}
NAMES = ["vit", "vit by mean", "deit", "swin"]
PARAMETERS = {
    "vit_tiny_patch16_224": 5_717_416, "vit_small_patch16_224": 22_050_664, "vit_base_patch16_224": 86_567_656,
    "vit_base_patch32_224": 88_224_232, "vit_large_patch16_224": 304_326_632, "vit_large_patch32_224": 306_535_400,
    "vit_huge_patch14_224": 632_045_800,
    "deit_tiny_patch16_224": 5_717_416, "deit_small_patch16_224": 22_050_664, "deit_base_patch16_224": 86_567_656,
    "deit_tiny_distilled_patch16_224": 5_910_800, "deit_small_distilled_patch16_224": 22_436_432,
    "deit_base_distilled_patch16_224": 87_338_192,
    "swin_tiny_patch4_window7_224": 28_288_354, "swin_small_patch4_window7_224": 49_606_258,
    "swin_base_patch4_window7_224": 87_768_224,
}


def load_model(family, options, weights, dtype):
    model = declare_model(family.split()[0], **options)
    return model.pack(dtype, values=from_timm(weights, model))


def gradients(model, images, labels):
    """Return (logits, {name: gradient in timm's layout}, gradient of the images)."""
    logits = model.forward(images.astype(model.dtype))
    _, cache = cross_entropy.forward(logits, cross_entropy.targets(labels, model.classes, 0.0, model.dtype))
    dimages = model.backward(cross_entropy.backward(1.0, cache))
    holder = model.copy()
    holder.vector[...] = model.gradients
    return logits, to_timm(holder), dimages


def assert_equal(ours, theirs, dtype):
    """Compare two results of `gradients`."""
    assert difference(ours[0], theirs[0]) <= LOGITS[dtype]
    worst = differences(ours[1], theirs[1]) | {"images": difference(ours[2], theirs[2])}
    assert {name: error for name, error in worst.items() if not error <= GRADIENTS[dtype]} == {}


# ---- against the stored arrays ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored():
    with np.load(Path(__file__).with_name("timm_parity.npz")) as file:
        return {key: file[key] for key in file.files}


def unpacked(stored, family, key, scale=1.0):
    shapes = json.loads(str(stored[f"{family}.shapes"]))
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes.values()])
    parts = np.split(stored[f"{family}.{key}"] * scale, ends[:-1])
    return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


@dtypes
@pytest.mark.parametrize("family", NAMES)
def test_logits_and_every_gradient_are_the_stored_ones(stored, family, dtype):
    options, weights = json.loads(str(stored[f"{family}.options"])), unpacked(stored, family, "weights", stored["unit"])
    model = load_model(family, options, weights, dtype)
    ours = gradients(model, stored[f"{family}.images"] / 32, stored[f"{family}.labels"])
    expected = stored[f"{family}.logits"], unpacked(stored, family, "gradient"), stored[f"{family}.dimages"]
    assert_equal(ours, expected, dtype)
    again = to_timm(model)
    assert again.keys() == weights.keys()
    assert all(np.array_equal(again[name], weights[name]) for name in weights)


# ---- names -----------------------------------------------------------------------------------------------------------


def test_parameter_counts_are_timms():
    counts = {m["name"]: m["parameters"] for m in minivit.models.describe_models()}
    assert {name: counts[name] for name in PARAMETERS} == PARAMETERS
    assert {name for name in VARIANTS if name.endswith("_224")} >= PARAMETERS.keys()


def test_the_names_in_the_authors_files_of_swin_are_read():
    """There `downsample` belongs to the stage before it, and the classifier is called `head`."""
    model = minivit.create_model("swin_mini_patch2_window7_28", seed=1)
    tensors = to_timm(model)
    renamed = {name.replace("layers.1.downsample", "layers.0.downsample").replace("head.fc", "head"): x
               for name, x in tensors.items()}
    assert renamed.keys() != tensors.keys()
    renamed["layers.0.blocks.1.attn_mask"] = np.zeros((4, 49, 49), np.float32)
    renamed["layers.0.blocks.1.attn.relative_position_index"] = np.zeros((49, 49), np.int64)
    again = model.copy().pack(values=from_timm(renamed, model))
    np.testing.assert_array_equal(again.vector, model.vector)


# ---- live ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs():
    torch = pytest.importorskip("torch")
    pytest.importorskip("timm")
    import timm_parity
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield timm_parity
    torch.set_num_threads(threads)


@dtypes
@pytest.mark.parametrize("family", NAMES)
def test_logits_and_every_gradient_are_timms(theirs, family, dtype):
    model, options = theirs.make(family), theirs.FAMILIES[family][2]
    rng = np.random.default_rng(3)
    side = options["image_size"]
    images = np.float64(rng.standard_normal((4, side, side, 3), np.float32))
    labels = rng.integers(options["classes"], size=4)
    ours = gradients(load_model(family, options, theirs.tensors(model), dtype), images, labels)
    assert_equal(ours, (theirs.logits(model, images), *theirs.gradients(model, images, labels)), dtype)


@pytest.mark.parametrize("family", NAMES)
def test_a_file_of_timm_gives_its_logits_and_is_written_back_unchanged(theirs, family, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    model, options = theirs.make(family).float(), theirs.FAMILIES[family][2]
    save_file(model.state_dict(), tmp_path / "timm.safetensors")
    ours = minivit.create_model(family.split()[0], weights=tmp_path / "timm.safetensors", **options)
    images = np.random.default_rng(4).standard_normal((3, options["image_size"], options["image_size"], 3), np.float32)
    assert difference(ours.forward(images), theirs.logits(model, images)) <= LOGITS[np.float32]
    write_weights(tmp_path / "ours.safetensors", ours)
    back = load_file(tmp_path / "ours.safetensors")
    assert back.keys() == model.state_dict().keys()
    assert all(torch.equal(back[name], x) for name, x in model.state_dict().items())
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    model.load_state_dict(back)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_files_of_timm_are_read_exactly(theirs, kind, tmp_path):
    import torch
    from safetensors.torch import save_file

    model = theirs.make("deit").to(getattr(torch, kind))
    save_file(model.state_dict(), tmp_path / "half.safetensors")
    ours = minivit.create_model("deit", weights=tmp_path / "half.safetensors", **theirs.FAMILIES["deit"][2])
    expected = {name: x.float().numpy() for name, x in model.state_dict().items()}
    assert all(np.array_equal(x, expected[name]) for name, x in to_timm(ours).items())


@pytest.mark.parametrize("name", PARAMETERS)
def test_named_models_have_the_tensors_and_the_preparation_of_timm(theirs, name):
    import timm
    import torch

    with torch.device("meta"):
        model = timm.create_model(name, num_classes=1000)
    ours = declare_model(name)
    tensors = {key: np.broadcast_to(np.float32(0), tuple(x.shape)) for key, x in model.state_dict().items()}
    found = match_timm(tensors, ours)
    assert {row.verdict for row in found.rows} == {"taken"}
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name] == sum(p.size for p in ours.parameters())
    config = model.default_cfg
    assert (tuple(ours.mean), tuple(ours.std)) == (config["mean"], config["std"])
    assert (CROPS[name], "bicubic") == (config["crop_pct"], config["interpolation"])
    assert ours.image_size == tuple(config["input_size"][1:])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_base_patch32_224", "deit_tiny_distilled_patch16_224",
                                  "swin_tiny_patch4_window7_224"])
def test_named_models_give_timms_logits(theirs, name):
    import timm

    model = theirs.randomise(timm.create_model(name).double().eval())
    images = np.random.default_rng(5).standard_normal((2, 224, 224, 3))
    for dtype in LOGITS:
        ours = load_model(name, {}, theirs.tensors(model), dtype)
        assert difference(ours.forward(images.astype(dtype)), theirs.logits(model, images)) <= LOGITS[dtype]


def test_googles_files_are_read_as_timm_reads_them(theirs, tmp_path):
    from timm.models.vision_transformer import _load_weights

    rng, D, h, F, K, L = np.random.default_rng(6), 12, 3, 24, 5, 2

    def draw(*shape):
        return (rng.standard_normal(shape) / 3).astype(np.float32)

    def linear(i, o):
        return {"kernel": draw(*i, *o), "bias": draw(*o)}

    layers = {"embedding": linear((4, 4, 3), (D,)), "head": linear((D,), (K,)),
              "Transformer/encoder_norm": {"scale": draw(D), "bias": draw(D)}}
    for l in range(L):
        block = f"Transformer/encoderblock_{l}"
        layers |= {f"{block}/LayerNorm_{k}": {"scale": draw(D), "bias": draw(D)} for k in (0, 2)}
        layers |= {f"{block}/MultiHeadDotProductAttention_1/{part}": linear((D,), (h, D // h))
                   for part in ("query", "key", "value")}
        layers |= {f"{block}/MultiHeadDotProductAttention_1/out": linear((h, D // h), (D,)),
                   f"{block}/MlpBlock_3/Dense_0": linear((D,), (F,)), f"{block}/MlpBlock_3/Dense_1": linear((F,), (D,))}
    arrays = {f"{layer}/{kind}": x for layer, kinds in layers.items() for kind, x in kinds.items()}
    arrays |= {"cls": draw(1, 1, D), "Transformer/posembed_input/pos_embedding": draw(1, 5, D)}
    np.savez(tmp_path / "google.npz", **arrays)
    constructor, options, own = theirs.FAMILIES["vit"]
    model = constructor(**options).eval()
    _load_weights(model, str(tmp_path / "google.npz"))
    ours = minivit.create_model("vit", weights=tmp_path / "google.npz", **own)
    assert all(np.array_equal(x, to_timm(ours)[name]) for name, x in theirs.tensors(model).items())
    images = rng.standard_normal((3, 8, 8, 3), np.float32)
    assert difference(ours.forward(images), theirs.logits(model, images)) <= 1e-5


@pytest.mark.parametrize("size", [4, 16, 20])
def test_positions_are_resized_as_timm_resizes_them(theirs, size):
    import torch
    from timm.layers import resample_abs_pos_embed

    weights, own = theirs.tensors(theirs.make("deit")), theirs.FAMILIES["deit"][2]
    side = size // 4
    expected = resample_abs_pos_embed(torch.tensor(weights["pos_embed"]), (side, side), num_prefix_tokens=2).numpy()
    ours = load_model("deit", own | {"image_size": size}, weights, np.float64)
    assert difference(to_timm(ours)["pos_embed"], expected) < 1e-5


@pytest.mark.parametrize("shape", [(300, 400), (512, 300), (224, 224), (100, 90)])
def test_image_files_are_prepared_as_timm_prepares_them(theirs, shape, tmp_path):
    from PIL import Image
    from timm.data import create_transform

    from minivit.data import read_image_files

    y, x = np.mgrid[:shape[0], :shape[1]] / 30
    waves = np.stack([np.sin(x + y), np.cos(2 * x - y), np.sin(x * y / 9)], axis=-1)
    image = (127 + 100 * waves).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "x.png")
    transform = create_transform((3, 224, 224), interpolation="bicubic", mean=(0, 0, 0), std=(1, 1, 1), crop_pct=0.9)
    expected = 255 * transform(Image.fromarray(image)).numpy().transpose(1, 2, 0)
    ours = read_image_files([tmp_path / "x.png"], 224, 3, share=0.9)[0]
    assert np.abs(ours - expected).mean() < 1.5                       # of 255: timm crops at whole pixels
