"""The models: parameters and FLOPs, options, tables, and errors."""

import re
import subprocess
import sys
import warnings

import numpy as np
import pytest

import minivit
from minivit.explain import with_all_tokens
from minivit.layers import Block, WindowAttention
from minivit.models import VARIANTS, argument_checks, describe_models
from minivit.models.create import declare_model
from minivit.ops import convolution

SIZES = {"image_size": 8, "patch_size": 4, "channels": 3, "classes": 5, "width": 12, "depth": 2, "heads": 3,
         "mlp_ratio": 2}


def make(**options):
    return minivit.create_model("vit", **(SIZES | options))


@pytest.mark.parametrize(("name", "parameters"), [
    ("vit_tiny_patch16_224", 5_717_416),
    ("vit_small_patch16_224", 22_050_664),
    ("vit_base_patch16_224", 86_567_656),
    ("vit_base_patch32_224", 88_224_232),
    ("vit_large_patch16_224", 304_326_632),
    ("vit_large_patch32_224", 306_535_400),
    ("vit_huge_patch14_224", 632_045_800),
    ("resnetv2_50x1_bit", 25_549_352),
    ("resnetv2_152x4_bit", 936_533_224),
])
def test_parameter_counts_are_the_papers(name, parameters):
    assert {m["name"]: m["parameters"] for m in describe_models()}[name] == parameters


def test_flops_count_the_matrix_products():
    B, N, D, F = 1, 5, 12, 24
    block = [(D, N, 3 * D), (D, N, N), (N, N, D), (D, N, D), (D, N, F), (F, N, D)]
    products = [(4 * 4 * 3, 4, D)] + 2 * block + [(D, 1, 5)]
    assert make().flops == sum(2 * B * i * n * o for i, n, o in products)


def test_flops_of_a_stem_count_each_convolution_at_its_size():
    first, second = [(4 * 4, 9 * 3, 6)] + 2 * [(4 * 4, 9 * 6, 6)], [(2 * 2, 9 * 6, 12)] + 2 * [(2 * 2, 9 * 12, 12)]
    stem = first + second                                             # (places, inputs, outputs)
    patches = 2 * 4 * (4 * 4 * 3) * 12
    assert make(stem="conv").flops - make().flops == sum(2 * n * i * o for n, i, o in stem) - patches


def test_a_stem_of_full_resolution_adds_a_map_as_large_as_the_image():
    model, first = make(stem="conv-full"), 3 * 2 * (8 * 8) * (9 * 3) * 3  # convolutions, places, inputs, outputs
    assert model.flops - make(stem="conv").flops == first
    assert [conv.weight.shape[2:] for conv in model.patch_embed.convs] == [
        (3, 3), (3, 3), (3, 3), (3, 6), (6, 6), (6, 6), (6, 12), (12, 12), (12, 12)]


def test_named_variants_take_options():
    model = minivit.create_model("vit_mini_patch4_28", classes=7, depth=1)
    assert model.forward(np.zeros((2, 28, 28, 1), np.uint8)).shape == (2, 7)
    assert len(model.blocks) == 1
    assert VARIANTS["vit_mini_patch4_28"][1]["depth"] == 4


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_pooling_follows_timm(pool):
    names = {p.name for p in make(pool=pool).parameters()}
    assert ("cls_token" in names) == ("norm.weight" in names) == (pool == "token")
    assert ("fc_norm.weight" in names) == (pool == "mean")
    assert make(pool=pool).tokens == 4 + (pool == "token")


def test_uint8_images_are_normalised_by_the_models_own_constants():
    model = make(mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7])
    model.head.weight.data = np.random.default_rng(0).standard_normal((12, 5))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    floats = (pixels / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
    np.testing.assert_allclose(model.forward(pixels), model.forward(floats), atol=1e-5)


def test_forward_is_deterministic_and_fresh():
    model = make(drop_rate=0.5, drop_path_rate=0.5)
    model.head.weight.data = np.random.default_rng(0).standard_normal((12, 5))
    images = np.random.default_rng(0).standard_normal((2, 8, 8, 3))
    first, second = model.forward(images), model.forward(images)
    np.testing.assert_array_equal(first, second)
    assert not np.shares_memory(first, second)


def test_without_positions_the_order_of_patches_does_not_matter():
    images = np.random.default_rng(0).standard_normal((1, 8, 8, 3))
    swapped = np.concatenate([images[:, 4:], images[:, :4]], axis=1)
    for positions, same in (("none", True), ("learned", False), ("sincos", False)):
        model = make(positions=positions).astype(np.float64)
        model.head.weight.data = np.random.default_rng(1).standard_normal((12, 5))
        assert np.allclose(model.forward(images), model.forward(swapped), atol=1e-12) == same


@pytest.mark.parametrize(("options", "message"), [
    ({"patch_size": 3}, "image size 8 must be divisible by the patch size 3: use another patch size, or image_size=9"),
    ({"width": 10}, "width 10 must be divisible by the number of heads, 3"),
    ({"pool": "tokens"}, "unknown pool 'tokens': did you mean 'token'"),
    ({"positions": "learnt"}, "unknown positions 'learnt': did you mean 'learned'"),
    ({"widht": 3}, "unknown model option 'widht': did you mean 'width'"),
    ({"drop_rate": 1.5}, "drop_rate must be a finite number at least 0 and below 1, not 1.5"),
    ({"mean": [0.1, 0.2]}, "mean must be one number, or one for each of the 3 channels"),
    ({"std": 0}, "std must be positive"),
    ({"classes": 0}, "classes must be a whole number at least 1"),
    ({"depth": 0}, "depth must be a whole number at least 1"),
    ({"positions": "sincos", "width": 6}, "width divisible by 4"),
    ({"stem": "convolution"}, "unknown stem 'convolution': did you mean 'conv'"),
    ({"stem": "conv", "patch_size": 1}, "must be 2, 4, 8"),
])
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_unknown_models_and_missing_options_are_named():
    with pytest.raises(ValueError, match="did you mean 'vit_base_patch16_224'"):
        minivit.create_model("vit_base_patch16_244")
    with pytest.raises(ValueError, match="needs a value for image_size, patch_size"):
        minivit.create_model("vit", width=8, depth=1, heads=1)


@pytest.mark.parametrize(("name", "nearest"), [
    ("vit_mni", "vit_mini"), ("vit_tiny", "vit_tiny_patch16_224"), ("ViT_Base", "vit_base_patch16_224"),
    ("deit_tiny_patch16_244", "deit_tiny_patch16_224"), ("swim_mini", "swin_mini"), ("resnet50", "resnetv2_50x1_bit"),
])
def test_an_unknown_model_gets_a_suggestion_from_its_family(name, nearest):
    with pytest.raises(ValueError, match=f"unknown model '{name}': did you mean '{nearest}'"):
        minivit.create_model(name)


@pytest.mark.parametrize(("name", "variant"), [
    ("vit_mini", "vit_mini_patch2_8"), ("deit_mini", "deit_mini_patch2_8"), ("swin_mini", "swin_mini_patch1_window4_8"),
])
def test_a_small_model_is_by_default_the_variant_for_the_digits(name, variant):
    assert minivit.create_model(name).config == minivit.create_model(variant).config
    assert minivit.create_model(name, seed=3).vector.tobytes() == minivit.create_model(variant, seed=3).vector.tobytes()


@pytest.mark.parametrize("size", [8, 28, 32, 40, 64])
@pytest.mark.parametrize("name", ["vit_mini", "deit_mini", "swin_mini", "resnet_mini"])
def test_a_small_model_takes_images_of_any_size(name, size):
    model = minivit.create_model(name, image_size=size, channels=2, classes=3)
    assert model.forward(np.zeros((2, size, size, 2), np.uint8)).shape == (2, 3)
    for variant, (_, options) in VARIANTS.items():
        if variant.startswith(name) and options["image_size"] == size:
            sizes = {key: list(x) if isinstance(x, tuple) else x for key, x in options.items()}
            assert model.config == model.config | sizes | {"channels": 2, "classes": 3}


def test_a_small_model_has_ten_classes_by_default_and_refuses_sizes_without_a_patch():
    assert minivit.create_model("vit_mini", image_size=40).classes == 10
    with pytest.raises(ValueError, match=r"images of 37x37 pixels into 16 to 256 .* such as image_size=36"):
        minivit.create_model("vit_mini", image_size=37)


@pytest.mark.parametrize("name", ["vit_mini", "vit_tiny_patch16_224", "swin_mini_patch1_window4_8", "resnet_mini"])
@pytest.mark.parametrize("size", [(16, 32.0), (16, 32, 3), [16], "16", None, 16.0, 0, (16, 0)])
def test_an_image_size_that_is_not_an_integer_is_named(name, size):
    with pytest.raises(ValueError, match=r"^image_size must be a whole number at least 1, the side of a square, or tw"):
        minivit.create_model(name, image_size=size)


@pytest.mark.parametrize(("option", "value"), [
    ("heads", [2, 2]), ("width", "64"), ("patch_size", (2, "2")), ("mlp_ratio", "4"), ("mlp_ratio", 0),
    ("drop_rate", None), ("drop_path_rate", "0.1"), ("position_std", -1), ("depth", None),
])
def test_an_option_of_another_type_is_named(option, value):
    with pytest.raises(ValueError, match=f"{option} must be a (whole|finite) number"):
        make(**{option: value})


# ---- repr and summary ---------------------------------------------------------------------------------------


def test_repr_is_one_line_with_the_sizes_and_the_parameters():
    model = minivit.create_model("vit_mini")
    assert repr(model) == "ViT(image_size=8, patch_size=2, width=64, depth=4, heads=4, classes=10), 136,138 parameters"
    assert repr(model.blocks[0]) == "Block(norm1, attn, drop_path1, norm2, mlp, drop_path2)"
    assert repr(model.head) == "Linear(weight (64, 10), bias (10,))"
    assert repr(declare_model("vit_huge_patch14_224")).endswith("632,045,800 parameters")
    assert not any(p.has_values for p in declare_model("vit_huge_patch14_224").parameters())


@pytest.mark.parametrize("name", [
    "vit_mini", "vit by mean", "deit_mini", "swin_mini", "resnet_mini", "vit with a stem", "vit of full resolution",
    "resnet with bottlenecks",
])
@pytest.mark.parametrize("depth", [1, 2, 9])
def test_the_totals_of_a_summary_are_those_of_the_model(name, depth):
    options = {"vit by mean": {"pool": "mean", "relative_bias": True, "image_size": 16},
               "vit with a stem": {"stem": "conv", "patch_size": 4, "image_size": 16},
               "vit of full resolution": {"stem": "conv-full", "patch_size": 4, "image_size": 16},
               "resnet with bottlenecks": {"block": "bottleneck", "reduction": 4, "image_size": 37, "layers": [2, 1]}}
    model = minivit.create_model(name if "mini" in name else f"{name.split()[0]}_mini", **options.get(name, {}))
    before = model.vector.tobytes()
    summary = model.summary(depth)
    top = [row for row in summary.rows if re.fullmatch(r"\w+(\.\d+)?", row.path)]
    assert summary.flops == model.flops == sum(row.flops for row in top)
    assert summary.parameters == sum(p.size for p in model.parameters()) == sum(row.parameters for row in top)
    assert model.vector.tobytes() == before
    assert model.cache is None


def test_a_summary_shows_the_output_of_each_layer():
    model = minivit.create_model("vit_mini")
    rows = {row.path: row for row in model.summary().rows}
    assert rows["pos_embed"].shape == (17, 64)
    assert rows["patch_embed"].shape == (16, 64)
    assert rows["blocks.3"].shape == rows["blocks.0.attn"].shape == (17, 64)
    assert rows["head"] == rows["head"].__class__("head", "Linear", (10,), 650, 2 * 64 * 10)
    assert "pos_drop" not in rows
    text = str(model.summary(depth=1))
    assert repr(model) in text
    assert text.splitlines()[-1].split() == ["total", f"{model.vector.size:,}", f"{model.flops:,}"]
    assert "blocks.0.attn" not in text


def test_a_summary_names_layers_as_the_papers_do():
    kinds = {row.path: row.kind for row in minivit.create_model("vit_mini", relative_bias=True).summary(3).rows}
    assert [kinds[f"blocks.{l}.attn"] for l in range(4)] == ["Attention"] * 4
    assert kinds["blocks.0.attn.rel_pos"] == "RelativeBias"
    kinds = {row.path: row.kind for row in minivit.create_model("swin_mini").summary().rows}
    assert (kinds["patch_embed"], kinds["layers.0.blocks.0"]) == ("PatchEmbed", "Block")


@pytest.mark.parametrize("depth", ["x", 0, 1.5, None])
def test_a_summary_refuses_a_depth_that_is_not_a_number_of_levels(depth):
    with pytest.raises(ValueError, match=f"depth must be a whole number at least 1, not {depth!r}"):
        minivit.create_model("vit_mini").summary(depth)


def test_a_notebook_shows_the_repr_line_and_a_folded_table():
    model = minivit.create_model("vit_mini")
    page = model._repr_html_()
    assert page.startswith(f"<details><summary><code>{model!r}</code></summary><table>")
    assert page.count("<tr>") == len(model.summary().rows) + 2
    assert len(page) < 6_000


@pytest.mark.parametrize(("pixels", "warns"), [
    (lambda rng: 255 * rng.random((2, 8, 8, 3)), True), (lambda rng: rng.random((2, 8, 8, 3)), False),
    (lambda rng: 100 * rng.standard_normal((2, 8, 8, 3)), False), (lambda rng: np.zeros((0, 8, 8, 3)), False),
    (lambda rng: rng.integers(0, 256, (2, 8, 8, 3), np.uint8), False),
])
def test_a_warning_says_once_that_floats_look_like_pixels(pixels, warns):
    images = pixels(np.random.default_rng(0))
    argument_checks._warned.clear()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(2):
            make().predict(images)
    assert [one.filename for one in said] == warns * [__file__]       # at the line of the caller, once
    if said:
        assert str(said[0].message).startswith(
            "float images must be normalised already, about -3 to 3, but these go from "
            f"{images.min():.4g} to {images.max():.4g}, like pixels from 0 to 255: pass images.round()")


@pytest.mark.parametrize(("images", "error", "message"), [
    (np.zeros((2, 8, 9, 3)), ValueError, r"\(H, W, C\) = \(8, 8, 3\),? .*not \(2, 8, 9, 3\)"),
    (np.zeros((8, 8, 3)), ValueError, r"must be \(B, H, W, C\)"),
    (np.full((1, 8, 8, 3), np.nan), ValueError, "NaN or infinity"),
    (np.zeros((1, 8, 8, 3), np.int64), TypeError, "uint8 pixels or floats that are normalised already, not int64"),
])
def test_images_that_do_not_fit_are_named(images, error, message):
    for method in (make().forward, make().predict):
        with pytest.raises(error, match=message):
            method(images)


@pytest.mark.parametrize(("options", "error"), [
    ({"dtype": np.float16}, TypeError), ({"mean": np.nan}, ValueError), ({"std": "a"}, ValueError),
    ({"mlp_ratio": 0.01}, ValueError), ({"width": 8.5}, ValueError), ({"width": 12.0}, ValueError),
], ids=str)
def test_numbers_that_fit_no_model_are_refused(options, error):
    with pytest.raises(error):
        make(**options)


def test_numbers_of_any_kind_make_the_same_model():
    model = make(classes=np.int64(5), width=np.int32(12))
    assert model.config == make().config
    assert type(model.config["classes"]) is int


def test_images_are_an_array():
    with pytest.raises(TypeError, match="NumPy array"):
        make().forward([[1, 2], [3, 4]])


@pytest.mark.parametrize("batch", [0, 1, 2, 3, 40])
def test_predict_is_forward_in_lanes_and_keeps_no_cache(batch):
    model = make()
    model.head.weight.data = np.random.default_rng(0).standard_normal((12, 5))
    images = np.random.default_rng(0).integers(0, 256, (batch, 8, 8, 3), dtype=np.uint8)
    np.testing.assert_allclose(model.predict(images), model.forward(images), atol=1e-5)
    model.clear_cache()
    model.predict(images)
    with pytest.raises(RuntimeError):
        model.backward(np.zeros((batch, 5), np.float32))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "gibibytes"), [("vit_base_patch16_224", 2), ("vit_huge_patch14_224", 6)])
def test_big_models_run_within_their_memory(name, gibibytes):
    program = (f"import minivit, numpy, resource; m = minivit.create_model({name!r});print(m.forward(numpy.zeros((1, "
               "224, 224, 3), numpy.uint8)).shape,resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    shape, peak = done.stdout.rsplit(" ", 1)
    unit = 1 if sys.platform == "darwin" else 1024
    assert shape == "(1, 1000)"
    assert int(peak) * unit <= gibibytes * 2**30


def test_a_backward_for_another_batch_is_named():
    model = make()
    model.forward(np.zeros((2, 8, 8, 3)))
    with pytest.raises(ValueError, match=r"dlogits must be \(2, 5\), as the forward's logits, not \(4, 5\)"):
        model.backward(np.zeros((4, 5), np.float32))


def test_one_image_needs_an_axis():
    with pytest.raises(ValueError, match=r"pass image\[None\]"):
        make().forward(np.zeros((8, 8, 3)))


def test_a_model_of_signals_sets_the_shape_of_its_input():
    model = make().copy()
    model.input_shape = (1, 12, 2)
    model.check(np.zeros((4, 1, 12, 2), np.float32))
    with pytest.raises(ValueError, match=r"\(H, W, C\) = \(1, 12, 2\), not \(4, 8, 8, 3\)"):
        model.check(np.zeros((4, 8, 8, 3), np.float32))


# ---- ResNet ------------------------------------------------------------------------------------------------


CNN = {"image_size": 9, "channels": 3, "classes": 5, "layers": [1, 1], "width": 4, "groups": 2}


def make_cnn(**options):
    return minivit.create_model("resnet", **(CNN | options))


@pytest.mark.parametrize(("block", "reduction"), [("basic", 1), ("basic", 2), ("bottleneck", 4)])
def test_flops_of_a_resnet_are_its_matrix_products(block, reduction, monkeypatch):
    done = []

    def counting(a, b, out=None, bias=None):
        done.append(2 * a.shape[0] * a.shape[1] * b.shape[1])
        return np.matmul(a, b, out=out)

    model = make_cnn(block=block, reduction=reduction)
    monkeypatch.setattr(convolution, "matmul", counting)
    model.forward(np.zeros((1, 9, 9, 3), np.uint8))
    assert model.flops == sum(done)


@pytest.mark.parametrize("reduction", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 2, 8, 9, 28])
def test_a_resnet_takes_images_of_any_size(size, reduction):
    model = make_cnn(image_size=size, reduction=reduction, block="basic")
    logits = model.forward(np.zeros((2, size, size, 3), np.uint8))
    assert logits.shape == (2, 5)
    assert model.backward(logits).shape == (2, size, size, 3)
    first = -(-size // reduction)                                     # rounded up
    assert model.matmul_rows == ((first + 1) // 2) ** 2                       # the smaller of two blocks


def test_no_image_of_a_resnet_depends_on_another():
    model, rng = make_cnn().astype(np.float64), np.random.default_rng(0)
    model.head.fc.weight.data = rng.standard_normal(model.head.fc.weight.shape)
    images = rng.standard_normal((3, 9, 9, 3))
    np.testing.assert_allclose(model.forward(images)[1:2], model.forward(images[1:2]), rtol=1e-12)


def test_weight_decay_applies_to_the_kernels_of_a_resnet_only():
    decayed = {p.name for p in make_cnn().parameters() if p.decay}
    assert decayed == {p.name for p in make_cnn().parameters() if p.name.endswith("weight") and "norm" not in p.name}


@pytest.mark.parametrize(("options", "message"), [
    ({"layers": 3}, "layers must be a list, the number of blocks in each stage, not 3"),
    ({"layers": [1, 0]}, "number of blocks in a stage must be a whole number at least 1, not 0"),
    ({"block": "bottle"}, "unknown block 'bottle': did you mean 'bottleneck'"),
    ({"reduction": 3}, "reduction of the stem must be 1, 2 or 4, not 3"),
    ({"groups": 3}, "4 channels of a group norm must be divisible by its groups, 3"),
    ({"width": 0}, "width must be a whole number at least 1"),
    ({"drop_path_rate": 1.0}, "drop_path_rate must be a finite number at least 0 and below 1"),
    ({"pool": "mean"}, "unknown model option 'pool'"),
])
def test_options_of_a_resnet_that_do_not_fit_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make_cnn(**options)


def test_a_backward_of_a_resnet_for_another_batch_is_named():
    model = make_cnn()
    model.forward(np.zeros((2, 9, 9, 3)))
    with pytest.raises(ValueError, match=r"dlogits must be \(2, 5\), as the forward's logits, not \(4, 5\)"):
        model.backward(np.zeros((4, 5), np.float32))


def test_four_must_divide_the_channels_of_a_bottleneck():
    with pytest.raises(ValueError, match="4 must divide them, but there are 6"):
        minivit.layers.ResidualBlock(6, 6, bottleneck=True, groups=1)


# ---- the last block ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "options", "reads"), [
    ("vit", {}, 1), ("vit", {"relative_bias": True}, 1), ("deit", {}, 2), ("vit", {"pool": "mean"}, None),
])
def test_tokens_that_the_head_does_not_read_act_on_nothing(family, options, reads):
    sizes = SIZES | {"channels": 1, "classes": 3, "heads": 2, "mlp_ratio": 4}
    model = minivit.create_model(family, **sizes, **options)
    model, rng = model.astype(np.float64), np.random.default_rng(0)
    model.vector[:] = rng.standard_normal(model.vector.size)
    images, dlogits, results = rng.standard_normal((2, 8, 8, 1)), rng.standard_normal((2, 3)), []
    for subject in (model, with_all_tokens(model)):
        logits = subject.forward(images)
        rows = subject.blocks[-1].attn.probabilities.shape[2]
        results.append((rows, logits, subject.backward(dlogits), subject.gradients.copy()))
    (rows, *ours), (all_rows, *expected) = results
    assert all_rows == subject.tokens
    assert rows == (reads or all_rows)
    for result, right in zip(ours, expected, strict=True):
        assert np.abs(result - right).max() <= 1e-12 * np.abs(right).max()


def test_a_block_with_windows_computes_all_tokens():
    with pytest.raises(ValueError, match="a block with WindowAttention computes all tokens"):
        Block(6, 2, 2, attn=WindowAttention(6, 2, 4, 2), output_tokens=1)
