"""`minivit.explain`: symmetries, receptive fields, attention, filters and costs of a model."""

import json

import numpy as np
import pytest
from PIL import Image

import minivit
from minivit import cli, explain
from minivit.common import figures as figure
from minivit.explain import cost
from minivit.explain.attention_maps import grid_of
from minivit.explain.tools.attention_report import attention_reports, report_as_json
from minivit.explain.tools.symmetry_theorems import BROKEN, HOLDS, THEOREMS
from minivit.layers import MLP, Attention, Block, Convolution, Layer, Linear, WindowAttention
from minivit.ops import patches
from minivit.training_pipeline.folder import RunFolder
from minivit.training_pipeline.results.classify_images import attend_images, classify_images

SIZES = {"image_size": 8, "patch_size": 2, "channels": 1, "classes": 10, "width": 16, "depth": 2, "heads": 2,
         "mlp_ratio": 2}


def random_model(seed=0, dtype=np.float64, **options):
    model = minivit.create_model("vit", dtype=dtype, **(SIZES | options))
    model.vector[:] = 0.5 * np.random.default_rng(seed).standard_normal(model.vector.size)
    return model


def random_images(seed=0, count=3, side=8, channels=1):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels), np.uint8)


# ---- symmetry -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theorem", THEOREMS, ids=lambda theorem: theorem.claim)
def test_a_theorem_holds_to_round_off_and_a_broken_one_does_not(theorem):
    assert theorem.worst(trials=10) <= HOLDS if theorem.holds else theorem.worst(trials=10) >= BROKEN


def test_there_are_theorems_of_both_kinds():
    assert sum(theorem.holds for theorem in THEOREMS) >= 10
    assert sum(not theorem.holds for theorem in THEOREMS) >= 6


@pytest.mark.parametrize("make", [lambda: Attention(16, 2), lambda: MLP(16, 32), lambda: Block(16, 2)])
def test_an_equivariant_function_is_not_invariant(make):
    layer, rng = make().astype(np.float64), np.random.default_rng(0)
    layer.vector[:] = 0.5 * rng.standard_normal(layer.vector.size)
    x, permute = rng.standard_normal((2, 7, 16)), explain.permute_tokens(rng.permutation(7))
    assert explain.equivariance_error(layer.forward, permute, x) <= 1e-12
    assert explain.equivariance_error(layer.forward, permute, x, explain.unchanged) >= 1e-3


def test_the_class_token_stays_where_it_is():
    model, rng = random_model(positions="none"), np.random.default_rng(1)
    order, encoder = rng.permutation(16), explain.FirstBlocks(model, 2).forward
    permute = explain.permute_patches(order, 2)
    permute_outputs = explain.permute_tokens(order, first=1)
    assert explain.equivariance_error(encoder, permute, random_images(), permute_outputs) <= 1e-12
    moved = np.concatenate([[0], 1 + np.roll(order, 1)])
    assert explain.equivariance_error(encoder, permute, random_images(), lambda x: x[:, moved]) >= 1e-3


def test_equivariance_error_is_relative_to_the_largest_output():
    x, step = np.array([[1.0, -4.0]]), np.array([0, 1])
    assert explain.equivariance_error(lambda x: x + step, lambda x: 2 * x, x) == pytest.approx(1 / 6)    # |7 - 6| / 6
    assert explain.equivariance_error(lambda x: 3 * x, lambda x: 2 * x, x) == 0
    assert explain.equivariance_error(lambda x: x**2, lambda x: -x, x, explain.unchanged) == 0
    assert explain.equivariance_error(lambda x: 0 * x, lambda x: -x, x) == 0
    assert explain.equivariance_error(lambda x: x + step, lambda x: 2 * x, x, part=lambda y: y[:, :1]) == 0


def test_equivariance_error_notices_nan():
    assert np.isnan(explain.equivariance_error(lambda x: x * [1, np.nan], lambda x: -x, np.ones((1, 2))))


@pytest.mark.parametrize("part", [None, lambda y: y[:0]])
def test_transforms_that_do_not_fit_are_named(part):
    f = (lambda x: x) if part else (lambda x: x[:, :2])
    with pytest.raises(ValueError, match=r"outputs cannot be compared: .*pass transform_output"):
        explain.equivariance_error(f, lambda x: x.T, np.ones((2, 3)), part=part)


def test_transforms_permute_and_shift_as_documented():
    image = np.arange(16).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(explain.shift(1, 0)(image)[0, :, 0, 0], [12, 0, 4, 8])
    np.testing.assert_array_equal(explain.permute_patches([1, 0, 2, 3], 2)(image)[0, 0, :, 0], [2, 3, 0, 1])
    np.testing.assert_array_equal(explain.shift_tokens(0, 1, (2, 2))(np.arange(4)[None, :, None])[0, :, 0],
                                  [1, 0, 3, 2])
    np.testing.assert_array_equal(explain.permute_tokens([1, 0], first=1)(np.arange(3)[None])[0], [0, 2, 1])


# ---- parts of a model ---------------------------------------------------------------------------------------------


def test_first_blocks_compute_the_first_part_of_the_model():
    model = random_model(positions="sincos", pool="mean")
    images = random_images()
    tokens = explain.FirstBlocks(model, 2).forward(images)
    logits = model.head.forward(model.fc_norm.forward(tokens.mean(axis=1)))
    np.testing.assert_allclose(logits, model.forward(images), rtol=1e-12)
    one = explain.FirstBlocks(model, 1).forward(images)
    np.testing.assert_allclose(model.blocks[1].forward(one), tokens, rtol=1e-12)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_gradient_through_the_first_blocks_is_right(depth):
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 1))
    first = explain.FirstBlocks(random_model(), depth)

    def backward(dy, cache):
        first.forward(x)
        return (first.backward(dy),)

    assert minivit.gradcheck((lambda x: (first.forward(x), ()), backward), x, method="directional").ok


def test_first_blocks_do_not_change_the_model():
    model, images = random_model(), random_images()
    before = model.vector.copy()
    first = explain.FirstBlocks(model, 1)
    first.backward(first.forward(images))
    np.testing.assert_array_equal(model.vector, before)
    assert len(model.blocks) == 2
    assert not model.gradients.any()


@pytest.mark.parametrize(("make", "message"), [
    (lambda: explain.FirstBlocks(random_model(), 3), "number of blocks.*at most 2, not 3"),
    (lambda: explain.FirstBlocks(Linear(2, 3), 0), "Linear has no list of blocks"),
    (lambda: explain.attention_probabilities(Linear(2, 3), np.ones((1, 2), np.float32)),
     "no attention: Linear has no layer with attention"),
    (lambda: explain.rollout([np.ones((1, 1, 4, 4)), np.ones((1, 1, 9, 9))]),
     r"tokens are \[4, 9\], expected equal"),
    (lambda: explain.rollout([np.ones((1, 1, 17, 17)), np.ones((1, 1, 4, 4))]),
     r"tokens are \[17, 4\], expected equal"),
    (lambda: explain.principal_filters(random_model(stem="conv"), 3),
     "no principal filters: ViT has no linear patch embedding"),
    (lambda: explain.principal_filters(random_model(), 5), "number of filters.*at most 4, not 5"),
    (lambda: explain.receptive_field(Linear(2, 3), np.ones((1, 4, 4, 2), np.float32), (9, 0)),
     r"unknown place \(9, 0\): .* shape \(1, 4, 4, 3\)"),
    (lambda: explain.receptive_field(Linear(2, 3), np.ones((1, 4, 4, 2), np.float32), (1,)), r"unknown place \(1,\)"),
])
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- receptive fields ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_the_receptive_field_of_3x3_convolutions_grows_by_two_pixels_per_layer(depth):
    stack = explain.Sequential([Convolution(2, 2, size=3, padding=1) for _ in range(depth)])
    field = explain.receptive_field(stack, np.random.default_rng(0).standard_normal((1, 15, 15, 2)).astype(np.float32),
                                    (7, 7))
    assert explain.extent(field) == (1 + 2 * depth, 1 + 2 * depth)
    assert not field[:7 - depth].any()


def test_a_stride_doubles_the_steps():
    stack = explain.Sequential([Convolution(1, 2, size=3, padding=1, stride=2), Convolution(2, 2, size=3, padding=1)])
    field = explain.receptive_field(stack, np.ones((1, 16, 16, 1), np.float32), (4, 4))
    assert explain.extent(field) == (7, 7)                            # 3 + (3 - 1) 2


def test_the_receptive_field_of_attention_is_the_whole_image_from_the_first_block():
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 1))
    assert explain.extent(explain.receptive_field(explain.FirstBlocks(random_model(), 0), x, (6,))) == (2, 2)
    assert explain.extent(explain.receptive_field(explain.FirstBlocks(random_model(), 1), x, (6,))) == (8, 8)


def test_the_field_of_a_linear_map_is_its_weight():
    layer = Convolution(1, 1, size=3, padding=1)
    field = explain.receptive_field(layer, np.ones((2, 5, 5, 1), np.float32), (2, 2))
    np.testing.assert_allclose(field[1:4, 1:4], np.abs(layer.weight.data[..., 0, 0]), rtol=1e-6)


def test_extent_and_spread():
    field = np.zeros((7, 9))
    assert explain.extent(field) == (0, 0)
    field[2, 3] = field[2, 7] = 1
    assert explain.extent(field) == (1, 5)
    assert explain.spread(field) == pytest.approx(2)                  # both are 2 from the middle between them


# ---- attention ----------------------------------------------------------------------------------------------------


def test_probabilities_are_read_between_forward_and_backward():
    layer, x = Attention(12, 3), np.random.default_rng(0).standard_normal((2, 5, 12)).astype(np.float32)
    with pytest.raises(RuntimeError, match="between a forward and its backward"):
        layer.probabilities  # noqa: B018
    y = layer.forward(x)
    assert layer.probabilities.shape == (2, 3, 5, 5)
    np.testing.assert_allclose(layer.probabilities.sum(axis=-1), 1, rtol=1e-5)
    layer.backward(y)
    with pytest.raises(RuntimeError):
        layer.probabilities  # noqa: B018


def test_probabilities_of_every_layer_and_the_model_untouched():
    model = random_model()
    found = explain.attention_probabilities(model, random_images())
    assert {path: probs.shape for path, probs in found.items()} == {"blocks.0.attn": (3, 2, 17, 17),
                                                                    "blocks.1.attn": (3, 2, 17, 17)}
    x = model.patch_embed.forward(model.prepare(random_images()))
    x = np.concatenate([np.broadcast_to(model.cls_token.data, (3, 1, 16)), x], axis=1) + model.pos_embed.data
    q, k, _ = np.split(model.blocks[0].attn.qkv.forward(model.blocks[0].norm1.forward(x)), 3, axis=-1)
    scores = q[..., :8] @ k[..., :8].swapaxes(1, 2) / np.sqrt(8)      # of the first head
    expected = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(found["blocks.0.attn"][:, 0], expected, rtol=1e-10)
    assert model.cache is None


@pytest.mark.parametrize("shift", [0, 1])
def test_probabilities_within_windows_become_those_of_the_image(shift):
    layer, rng = WindowAttention(4, 2, 6, 3, shift=shift).astype(np.float64), np.random.default_rng(0)
    layer.vector[:] = rng.standard_normal(layer.vector.size)
    layer.proj.weight.data, layer.proj.bias.data = np.eye(4), np.zeros(4)
    with pytest.raises(RuntimeError, match="between a forward and its backward"):
        layer.probabilities  # noqa: B018
    x = rng.standard_normal((2, 6, 6, 4))
    y = layer.forward(x)
    probs = layer.probabilities
    assert probs.shape == (2, 2, 36, 36)
    np.testing.assert_allclose(probs.sum(axis=-1), 1)
    values = layer.qkv.forward(x.reshape(2, 36, 4))[..., 8:].reshape(2, 36, 2, 2).transpose(0, 2, 1, 3)  # (B, h, N, d)
    np.testing.assert_allclose((probs @ values).transpose(0, 2, 1, 3).reshape(x.shape), y, rtol=1e-10, atol=1e-12)
    window = (np.arange(6) + 3 - shift) // 3  # of a row, or of a column; those that are cut off are by themselves
    same = (window[:, None] == window).astype(float)
    np.testing.assert_array_equal(probs.min(axis=(0, 1)) > 1e-30, np.kron(same, same) > 0)


def test_a_layer_of_another_kind_may_have_probabilities():
    class Uniform(Layer):
        def forward(self, x):
            self.cache = x.shape
            return np.repeat(x.mean(axis=1, keepdims=True), x.shape[1], axis=1)

        @property
        def probabilities(self):
            B, N, _ = self.cache
            return np.full((B, 1, N, N), 1 / N)

    class Holder(Layer):
        def __init__(self):
            self.mixer = Uniform()

        def forward(self, x):
            return self.mixer.forward(x)

    probs = explain.attention_probabilities(Holder(), np.ones((2, 4, 3)))["mixer"]
    np.testing.assert_allclose(explain.readout_maps(probs), 1 / 4)
    np.testing.assert_allclose(explain.mean_distance(probs), (0 + 1 + 1 + np.sqrt(2)) / 4)


@pytest.mark.parametrize(("tokens", "expected"), [(16, (4, 0)), (17, (4, 1)), (18, (4, 2)), (197, (14, 1)),
                                                  (49, (7, 0))])
def test_patches_make_a_square_and_the_rest_comes_first(tokens, expected):
    assert grid_of(tokens) == (expected[0], *expected)


def test_the_readout_is_the_class_token_or_the_mean():
    probs = np.random.default_rng(0).random((2, 3, 5, 5))
    np.testing.assert_array_equal(explain.readout_maps(probs), probs[:, :, 0, 1:].reshape(2, 3, 2, 2))
    probs = probs[..., :4, :4]
    np.testing.assert_allclose(explain.readout_maps(probs), probs.mean(axis=2).reshape(2, 3, 2, 2))


def test_mean_distance_by_hand():
    probs = np.zeros((1, 3, 5, 5))
    probs[0, 0] = np.eye(5)                                           # each looks at itself
    probs[0, 1, 1:, [2, 1, 4, 3]] = 1                                 # at the neighbour in its row
    probs[0, 1] = 0
    for n, m in zip((1, 2, 3, 4), (2, 1, 4, 3), strict=True):
        probs[0, 1, n, m] = 0.5
        probs[0, 1, n, 0] = 0.5                                       # what goes to the class token has no distance
    for n, m in zip((1, 2, 3, 4), (4, 3, 2, 1), strict=True):
        probs[0, 2, n, m] = 1                                         # at the opposite corner
    np.testing.assert_allclose(explain.mean_distance(probs, patch_size=4), [[0, 4, 4 * np.sqrt(2)]])


def test_rollout_by_hand():
    swap, stay = np.array([[0.0, 1], [1, 0]]), np.eye(2)
    first, second = (np.stack([probs])[None] for probs in (swap, stay))
    np.testing.assert_allclose(explain.rollout([first, second])[0], [[0.5, 0.5], [0.5, 0.5]])
    lower = np.array([[[[1.0, 0], [1, 0]]]])                          # both look at the first
    np.testing.assert_allclose(explain.rollout([first, lower])[0], (lower[0, 0] + stay) / 2 @ ((swap + stay) / 2))
    rows = explain.rollout(list(explain.attention_probabilities(random_model(), random_images()).values()))
    np.testing.assert_allclose(rows.sum(axis=-1), 1)


def test_rollout_through_a_merging_by_hand():
    looks = np.zeros((1, 1, 16, 16))
    looks[0, 0, :, 5] = 1                                             # all look at the token in row 1, column 1
    after = np.zeros((1, 1, 4, 4))
    after[0, 0, :, 3] = 1                                             # and then at the last quarter
    through = explain.rollout([looks, after])[0]                      # (4, 16)
    assert through.shape == (4, 16)
    quarters = np.zeros((4, 16))  # each token a half of itself, and a half of the one all look at
    for q, tokens in enumerate(([0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15])):
        quarters[q, tokens] = 1 / 8
    quarters[:, 5] += 1 / 2
    np.testing.assert_allclose(through, (quarters + quarters[3]) / 2)


def test_variation_is_zero_for_fixed_weights_and_one_for_unrelated_weights():
    fixed = np.repeat(np.random.default_rng(0).random((1, 4, 4)), 5, axis=0)
    assert explain.variation(fixed) == pytest.approx(0, abs=1e-12)
    signs = np.array([1.0, -1])[:, None]
    assert explain.variation(signs * np.ones((2, 3))) == 1
    assert explain.variation(np.eye(4)) == pytest.approx(3 / 4)


def test_a_convolution_has_fixed_weights_and_attention_has_not():
    images = np.random.default_rng(0).standard_normal((6, 8, 8, 1))

    def weights(target, place):
        return np.stack([explain.receptive_field(target, image[None], place) for image in images])

    assert explain.variation(weights(Convolution(1, 3, padding=1).astype(np.float64), (4, 4))) <= 1e-12
    model = random_model()
    assert explain.variation(weights(explain.FirstBlocks(model, 1), (5,))) >= 0.01
    assert all(explain.variation(probs) >= 0.01 for probs in explain.attention_probabilities(model, images).values())


# ---- filters and positions ----------------------------------------------------------------------------------------


def test_principal_filters_are_those_along_which_the_filters_vary():
    model, rng = random_model(), np.random.default_rng(0)
    direction = np.array([1.0, -1, 1, -1]) / 2
    # and a mean, which does not count
    model.patch_embed.proj.weight.data = np.outer(direction, rng.standard_normal(16)) + 0.3
    filters, shares = explain.principal_filters(model, 2)
    assert filters.shape == (2, 2, 2, 1)
    assert shares[0] == pytest.approx(1)
    assert abs(filters[0].ravel() @ direction) == pytest.approx(1)


def test_positions_are_most_similar_to_themselves():
    positions = np.random.default_rng(0).standard_normal((10, 6))
    similarity = explain.position_similarity(positions)
    assert similarity.shape == (3, 3, 3, 3)
    np.testing.assert_allclose(similarity.reshape(9, 9).diagonal(), 1)
    a, b = positions[1], positions[1 + 5]
    assert similarity[0, 0, 1, 2] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_sincos_positions_are_most_similar_to_their_neighbours():
    similarity = explain.position_similarity(minivit.ops.sincos.sincos_2d(5, 5, 16))
    assert similarity[2, 2, 2, 3] > similarity[2, 2, 2, 4]
    assert similarity[2, 2, 1, 2] > similarity[2, 2, 0, 2]


# ---- cost ---------------------------------------------------------------------------------------------------------


def test_pixels_as_tokens_are_counted():
    assert cost.count(224, 1) == (50_176, 2_517_630_976)
    assert cost.count(224, 16) == (196, 38_416)


def test_patches_are_the_pixels_in_another_order():
    images = random_images(side=12, channels=3)
    rows = patches.patchify(images, 4)
    np.testing.assert_array_equal(patches.unpatchify(rows, 4, images.shape), images)
    np.testing.assert_array_equal(np.sort(rows.ravel()), np.sort(images.ravel()))


def test_a_quadratic_is_recovered():
    sizes = np.array([100, 200, 400, 800])
    assert cost.quadratic(sizes, 3.0 * sizes + 0.5 * sizes**2) == pytest.approx((3, 0.5))
    b, c = cost.quadratic(sizes, 2.0 * sizes**2 - 10 * sizes)
    assert b == 0
    assert 1.9 < c < 2
    assert cost.predict((3, 0.5), 10) == 80


def test_attention_needs_memory_for_every_pair():
    sizes = [256, 512, 1024]
    seconds, memory = cost.measure(sizes, repetitions=1)
    assert (seconds > 0).all()
    assert all(4 * tokens**2 <= used <= 3 * 4 * tokens**2 for tokens, used in zip(sizes, memory, strict=True))


# ---- minivit attend -----------------------------------------------------------------------------------------------


MODELS = {
    "token": ("vit", SIZES),
    "mean": ("vit", SIZES | {"pool": "mean"}),
    "deit": ("deit", SIZES),
    "swin": ("swin", {"image_size": 8, "patch_size": 1, "channels": 1, "classes": 10, "width": 8, "depths": [2, 2],
                      "heads": [2, 4],
                      "window": 4, "mlp_ratio": 2}),
    "resnet": ("resnet", {"image_size": 8, "channels": 1, "classes": 10, "layers": [1], "width": 8, "block": "basic",
                          "reduction": 2,
                          "groups": 2}),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Train tiny models on the digits: a ViT with each pooling, and the other families."""
    folder = tmp_path_factory.mktemp("explain")
    for name, (family, options) in MODELS.items():
        minivit.train(minivit.create_model(family, **options), "digits", epochs=0.2, out=folder / name, progress=False)
    return {name: folder / name for name in MODELS}


def attend(capsys, *arguments):
    capsys.readouterr()
    code = cli.main(["attend", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(("name", "grids"), [("token", [4, 4]), ("mean", [4, 4]), ("deit", [4, 4]),
                                             ("swin", [8, 8, 4, 4])])
def test_attend_gives_the_maps_of_the_run(capsys, runs, tmp_path, name, grids):
    digits = minivit.load_data("digits")
    code, out, _ = attend(capsys, runs[name], 3, 0, "--out", tmp_path / "look.png", "--json")
    assert code == 0
    assert (tmp_path / "look.png").read_bytes().startswith(b"\x89PNG")
    rows, images = json.loads(out), digits.test_images[[3, 0]]
    model = minivit.load(runs[name])
    probs = explain.attention_probabilities(model, images)
    assert [(row["image"], row["number"]) for row in rows] == [("3", 3), ("0", 0)]
    assert [row["true"] for row in rows] == [str(digits.test_labels[i]) for i in (3, 0)]
    assert [row["predicted"] for row in rows] == [str(k) for k in model.predict(images).argmax(axis=1)]
    assert [layer["layer"] for layer in rows[0]["layers"]] == list(probs)
    for l, (p, side) in enumerate(zip(probs.values(), grids, strict=True)):
        assert np.shape(rows[0]["layers"][l]["maps"])[1:] == (side, side)
        np.testing.assert_allclose([row["layers"][l]["maps"] for row in rows], explain.readout_maps(p), rtol=1e-4,
                                   atol=1e-6)
        distances = [row["layers"][l]["mean_distance"] for row in rows]
        np.testing.assert_allclose(distances, explain.mean_distance(p, 8 / side), rtol=1e-4)
    through = explain.readout_maps(explain.rollout(list(probs.values()))[:, None])[:, 0]
    np.testing.assert_allclose([row["rollout"] for row in rows], through, rtol=1e-4, atol=1e-6)
    assert np.shape(rows[0]["rollout"]) == (grids[0], grids[0])


def test_attend_says_that_a_resnet_has_no_attention(capsys, runs, tmp_path):
    code, out, err = attend(capsys, runs["resnet"], 0, "--out", tmp_path / "look.png")
    assert (code, out) == (2, "")
    assert err == "minivit: error: no attention: ResNet has no layer with attention, pass a ViT, a DeiT or a Swin\n"
    assert not (tmp_path / "look.png").exists()


def test_attend_takes_files_as_predict_does(capsys, runs, tmp_path):
    digits = minivit.load_data("digits")
    file = tmp_path / "digit.png"
    Image.fromarray(digits.test_images[5, ..., 0]).save(file)
    code, out, _ = attend(capsys, runs["token"], file, 5, "--out", tmp_path / "look.png", "--json")
    assert code == 0
    by_file, by_number = json.loads(out)
    assert (by_file["image"], by_file["number"], by_file["true"]) == (str(file), None, None)
    assert by_number["number"] == 5
    assert by_file["rollout"] == by_number["rollout"]
    [numbered], [read] = (classify_images(RunFolder(runs["token"]), [image]) for image in (5, file))
    assert numbered["classes"] == read["classes"]


def test_attend_says_how_far_each_head_looks(capsys, runs, tmp_path):
    code, out, _ = attend(capsys, runs["token"], 1, "--out", tmp_path / "look.png")
    [expected] = attend_images(RunFolder(runs["token"]), ["1"])
    assert code == 0
    assert out.startswith("test image 1: predicted ")
    assert f"blocks.1.attn          {expected.distances['blocks.1.attn'][0]:.1f}" in out
    assert f"figure: {tmp_path / 'look.png'}" in out


@pytest.mark.parametrize(("arguments", "named"), [
    (["RUN", "359", "--out", "LOOK"], "digits has test images 0 to 358, not 359"),
    (["RUN", "nowhere.png", "--out", "LOOK"], "nowhere.png: no such file"),
    (["nowhere", "0", "--out", "LOOK"], "nowhere is not a run"),
    (["RUN", "0"], "--out"),
    (["RUN", "--out", "LOOK"], "IMAGE"),
    (["RUN", "0", "--out", "nowhere/look.png"], "nowhere/look.png"),
    # before the run is even sought
    (["nowhere", "0", "--out", "look.v2"], "unknown ending of an image file 'v2': known: "),
    (["nowhere", "0", "--out", "look.pgn"], "did you mean 'png'?"),
])
def test_attend_answers_bad_input_with_one_line(capsys, runs, tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    code, out, err = attend(capsys, *({"RUN": runs["token"], "LOOK": "look.png"}.get(a, a) for a in arguments))
    assert (code, out) == (2, "")
    assert err.startswith("minivit: error: ")
    assert err.count("\n") == 1
    assert named in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a", b"\x89PNG"), ("a.PDF", b"%PDF"),
                                             ("a.svg", b"<?xml")])
def test_the_ending_of_a_figure_file_is_its_format(tmp_path, name, start):
    figure.save(figure.new_figure(1, 1), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize("name", ["a.v2", "a.pgf", ".png.tmp"])
def test_no_figure_is_written_with_an_unknown_ending(tmp_path, name):
    with pytest.raises(ValueError, match="unknown ending of an image file"):
        figure.save(figure.new_figure(1, 1), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_rollout_of_a_model_with_several_grids_is_on_the_first():
    class Pyramid(Layer):
        classes, image_size = 2, (8, 8)

        def __init__(self):
            self.wide, self.narrow = Attention(4, 2), Attention(4, 1)
            self.wide.grid, self.narrow.grid = (4, 4), (2, 2)

        def forward(self, images):
            x = self.wide.forward(images.reshape(len(images), 16, 4).astype(np.float32))
            x = self.narrow.forward(x.reshape(len(x), 4, 4, 4).mean(axis=2))
            return x.mean(axis=1)[:, :2]

        def predict(self, images, threads=None):
            return self.replica().forward(images)

    [one] = attention_reports(Pyramid(), random_images(count=1))
    assert {path: maps.shape for path, maps in one.maps.items()} == {"wide": (2, 4, 4), "narrow": (1, 2, 2)}
    assert one.rollout.shape == (4, 4)
    assert len(report_as_json(one)["layers"]) == 2
