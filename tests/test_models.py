"""The Vision Transformer and the ResNet: their counts, their options, and what they refuse."""

import subprocess
import sys

import numpy as np
import pytest

import minivit
from minivit.explain import with_all_tokens
from minivit.layers import Block, WindowAttention
from minivit.models import VARIANTS, describe_models

SIZES = {"image_size": 8, "patch_size": 4, "channels": 3, "classes": 5, "width": 12, "depth": 2, "heads": 3, "mlp_ratio": 2}


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
    products = [(4 * 4 * 3, 4, D)] + 2 * [(D, N, 3 * D), (D, N, N), (N, N, D), (D, N, D), (D, N, F), (F, N, D)] + [(D, 1, 5)]
    assert make().flops == sum(2 * B * i * n * o for i, n, o in products)


def test_flops_of_a_stem_count_each_convolution_at_its_size():
    stem = [(4 * 4, 9 * 3, 6)] + 2 * [(4 * 4, 9 * 6, 6)] + [(2 * 2, 9 * 6, 12)] + 2 * [(2 * 2, 9 * 12, 12)]  # places, inputs, outputs
    patches = 2 * 4 * (4 * 4 * 3) * 12
    assert make(stem="conv").flops - make().flops == sum(2 * n * i * o for n, i, o in stem) - patches


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
    ({"patch_size": 3}, "image size 8 must be divisible by the patch size 3"),
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
def test_options_that_do_not_fit_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_unknown_models_get_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'vit_base_patch16_224'"):
        minivit.create_model("vit_base_patch16_244")
    with pytest.raises(ValueError, match="needs a value for image_size, patch_size"):
        minivit.create_model("vit", width=8, depth=1, heads=1)


@pytest.mark.parametrize(("images", "error", "message"), [
    (np.zeros((2, 8, 9, 3)), ValueError, r"\(H, W, C\) = \(8, 8, 3\), not \(2, 8, 9, 3\)"),
    (np.zeros((8, 8, 3)), ValueError, r"must be \(B, H, W, C\)"),
    (np.full((1, 8, 8, 3), np.nan), ValueError, "NaN or infinity"),
    (np.zeros((1, 8, 8, 3), np.int64), TypeError, "uint8 pixels or floats that are normalised already, not int64"),
])
def test_images_that_do_not_fit_are_named(images, error, message):
    for method in (make().forward, make().predict):
        with pytest.raises(error, match=message):
            method(images)


@pytest.mark.parametrize(("options", "error"), [
    ({"dtype": np.float16}, TypeError), ({"mean": np.nan}, ValueError), ({"std": "a"}, ValueError), ({"mlp_ratio": 0.01}, ValueError),
    ({"width": 8.5}, ValueError), ({"width": 12.0}, ValueError),
], ids=str)
def test_numbers_that_make_no_model_are_refused(options, error):
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
    program = (f"import minivit, numpy, resource; m = minivit.create_model({name!r});"
               "print(m.forward(numpy.zeros((1, 224, 224, 3), numpy.uint8)).shape, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)")
    shape, peak = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.rsplit(" ", 1)
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

    def counting(a, b, out=None, product=np.matmul):
        done.append(2 * a.shape[0] * a.shape[1] * b.shape[1])
        return product(a, b, out=out)

    model = make_cnn(block=block, reduction=reduction)
    monkeypatch.setattr(np, "matmul", counting)
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
    assert model.matmul_rows == ((first + 1) // 2) ** 2                       # of two blocks, the one with fewer


def test_no_image_of_a_resnet_depends_on_another():
    model, rng = make_cnn().astype(np.float64), np.random.default_rng(0)
    model.head.fc.weight.data = rng.standard_normal(model.head.fc.weight.shape)
    images = rng.standard_normal((3, 9, 9, 3))
    np.testing.assert_allclose(model.forward(images)[1:2], model.forward(images[1:2]), rtol=1e-12)


def test_decay_touches_the_kernels_of_a_resnet_only():
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


def test_a_bottleneck_needs_four_times_its_width():
    with pytest.raises(ValueError, match="4 must divide them, but there are 6"):
        minivit.layers.ResidualBlock(6, 6, bottleneck=True, groups=1)


# ---- the last block -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "options", "reads"), [
    ("vit", {}, 1), ("vit", {"relative_bias": True}, 1), ("deit", {}, 2), ("vit", {"pool": "mean"}, None),
])
def test_what_the_head_does_not_read_acts_on_nothing(family, options, reads):
    model = minivit.create_model(family, image_size=8, patch_size=4, channels=1, classes=3, width=12, depth=2, heads=2, **options)
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


def test_a_block_with_windows_gives_all_its_tokens():
    with pytest.raises(ValueError, match="a block with WindowAttention computes all tokens"):
        Block(6, 2, 2, attn=WindowAttention(6, 2, 4, 4, side=2), output_tokens=1)
