"""minivit computes what PyTorch computes: compared with stored arrays, and with torch if it is installed.

The truth is float64 in both cases, and every input is exact in float32, so the difference is our error alone. It is
relative to the largest entry of the tensor, because some gradients are zero in theory: a key bias changes all scores of
a query equally. `tests/make_parity.py` makes the stored arrays.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import minivit
from minivit.ops import (
    attention,
    attention_variants,
    convolution,
    cross_entropy,
    gelu,
    group_norm,
    layer_norm,
    max_pooling,
    softmax,
    weight_standardisation,
    winograd,
)
from minivit.parallel import batch_split
from minivit.weight_formats.timm import from_timm, read_weights, to_timm, write_weights

ONE_PASS = {np.float32: 1e-5, np.float64: 1e-10}
TEN_STEPS = {np.float32: 1e-5, np.float64: 1e-9}
ONE_OP = {np.float32: 5e-6, np.float64: 1e-12}
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


def difference(ours, truth):
    """Return the largest difference, relative to the largest entry of `truth`."""
    assert np.shape(ours) == np.shape(truth)
    return np.abs(ours - truth).max() / np.abs(truth).max()


def differences(ours, truth):
    assert ours.keys() == truth.keys()
    return {name: difference(ours[name], truth[name]) for name in truth}


def family(config):
    return "resnet" if "layers" in config else "vit"


def load_model(config, weights, dtype):
    """Return a model with the given weights under timm's names."""
    model = minivit.create_model(family(config), **config, dtype=dtype)
    return model.pack(dtype, values=from_timm(weights, model))


def gradients(model, images, labels, label_smoothing):
    """Return (logits, {name: gradient in timm's layout}, gradient of the images)."""
    logits = model.forward(images.astype(model.dtype))
    _, cache = cross_entropy.forward(logits, cross_entropy.targets(labels, model.classes, label_smoothing, model.dtype))
    dimages = model.backward(cross_entropy.backward(1.0, cache))
    assert logits.dtype == dimages.dtype == model.dtype
    holder = model.copy()
    holder.vector[...] = model.gradients
    return logits, to_timm(holder), dimages


def train(model, batches, **training):
    """Train the model in place; return the losses and norms that the Trainer reports."""
    trainer = minivit.Trainer(model, **training)
    reports = [(trainer.step(images.astype(model.dtype), labels), trainer.grad_norm) for images, labels in batches]
    return np.array(reports).T


ROUND_OFF = 1e-5        # about 100 times the precision of float32


def determined(weights, first_gradient, dtype):
    """Return the entries of the weights that training in float32 determines, {name: vector}.

    AdamW divides each gradient by its own size. So where the first gradient is round-off, relative to the largest of
    its tensor, the first step has a random size, up to the learning rate. This concerns all key biases, whose gradient
    is exactly zero (the logits do not depend on them), and a few other entries.
    """
    def known(name):
        size = np.abs(first_gradient[name])
        return np.full(size.shape, True) if dtype == np.float64 else size >= ROUND_OFF * size.max()

    masks = {name: known(name) for name in weights}
    unknown = sum((~mask).sum() for name, mask in masks.items() if not name.endswith("qkv.bias"))
    assert unknown <= 0.01 * sum(mask.size for mask in masks.values())
    return {name: w[masks[name]] for name, w in weights.items()}


# ---- against the stored arrays ----------------------------------------------------------------------------


class Stored:
    """One model of tests/parity.npz."""

    def __init__(self, name):
        with np.load(Path(__file__).with_name("parity.npz")) as file:
            self.arrays = {key.removeprefix(f"{name}."): file[key] for key in file.files if key.startswith(f"{name}.")}
        self.config, self.training = json.loads(str(self["config"])), json.loads(str(self["training"]))
        self.weights = self.tensors("weights", scale=self["unit"])
        self.images, self.labels = self["images"] * self["unit"], self["labels"]
        self.batches = [(self.images[step % 2], self.labels[step % 2]) for step in range(len(self["losses"]))]

    def __getitem__(self, key):
        return self.arrays[key]

    def tensors(self, key, scale=1.0):
        """A vector of the file, as {name: tensor}."""
        shapes = json.loads(str(self["shapes"]))
        ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes.values()])
        parts = np.split(self[key] * scale, ends[:-1])
        return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}

    def model(self, dtype):
        return load_model(self.config, self.weights, dtype)


@pytest.fixture(params=["token", "mean", "resnet"])
def stored(request):
    return Stored(request.param)


@dtypes
def test_logits_and_every_gradient_are_the_stored_ones(stored, dtype):
    smoothing = stored.training["label_smoothing"]
    logits, gradient, dimages = gradients(stored.model(dtype), stored.images[0], stored.labels[0], smoothing)
    worst = differences({"logits": logits, "images": dimages, **gradient},
                        {"logits": stored["logits"], "images": stored["dimages"], **stored.tensors("gradient")})
    assert {name: error for name, error in worst.items() if not error <= ONE_PASS[dtype]} == {}


@dtypes
def test_ten_steps_follow_the_stored_ones(stored, dtype):
    model = stored.model(dtype)
    losses, norms = train(model, stored.batches, **stored.training)
    first = stored.tensors("gradient")
    worst = differences(determined(to_timm(model), first, dtype), determined(stored.tensors("trained"), first, dtype))
    worst |= {"losses": difference(losses, stored["losses"]), "norms": difference(norms, stored["norms"])}
    assert {name: error for name, error in worst.items() if not error <= TEN_STEPS[dtype]} == {}


def test_the_stored_steps_are_partly_clipped(stored):
    assert {bool(norm > stored.training["clip"]) for norm in stored["norms"]} == {True, False}


def test_stored_names_are_the_models_names(stored):
    assert stored.weights.keys() == {p.name for p in stored.model(np.float32).parameters()}


@dtypes
def test_weights_convert_to_timm_and_back_bit_for_bit(stored, dtype):
    model = stored.model(dtype)
    again = minivit.create_model(family(stored.config), **stored.config, dtype=dtype, seed=1)
    again.pack(dtype, values=from_timm(to_timm(model), again))
    assert again.vector.tobytes() == model.vector.tobytes()


@dtypes
def test_equal_weights_are_equal_files(stored, dtype, tmp_path):
    model = stored.model(dtype)
    write_weights(tmp_path / "a.safetensors", model)
    write_weights(tmp_path / "b.safetensors", model.copy())
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    again = model.copy().pack(dtype, values=read_weights(tmp_path / "a.safetensors", model))
    assert again.vector.tobytes() == model.vector.tobytes()


# ---- against torch itself ---------------------------------------------------------------------------------


def shape(image_size, patch_size, channels, classes, width, depth, heads, mlp_ratio, pool, positions):
    return dict(locals())


def cnn(image_size, channels, classes, layers, width, block, reduction, groups):
    return dict(locals())


MODELS = {
    "token-learned": shape(10, 5, 1, 3, 8, 1, 1, 4, "token", "learned"),
    "mean-none": shape(12, 4, 3, 5, 48, 2, 2, 2, "mean", "none"),
    "mean-learned": shape(9, 3, 3, 11, 30, 3, 5, 1.5, "mean", "learned"),
    "token-none": shape(14, 7, 2, 4, 7, 2, 7, 3, "token", "none"),
    "resnet-bottleneck": cnn(19, 3, 5, [1, 2], 8, "bottleneck", 4, 4),
    "resnet-basic": cnn(9, 1, 4, [2, 1], 6, "basic", 2, 3),
    "resnet-fine": cnn(5, 2, 3, [1, 1, 1], 4, "basic", 1, 1),
}
TRAINING = {"lr": 3e-4, "weight_decay": 1.0, "clip": 1.0, "label_smoothing": 0.1}


@pytest.fixture(scope="module")
def torch_parity():
    torch = pytest.importorskip("torch")
    import torch_parity
    threads = torch.get_num_threads()
    torch.set_num_threads(1)                                      # these models are so small that its threads only wait
    yield torch_parity
    torch.set_num_threads(threads)


@pytest.fixture(params=[(name, seed) for name in MODELS for seed in (1, 2)], ids=lambda param: f"{param[0]}-{param[1]}")
def live(request, torch_parity):
    """One model of torch, its configuration, and two batches."""
    (name, seed), config = request.param, MODELS[request.param[0]]
    rng = np.random.default_rng([seed, len(name)])
    torch_model = torch_parity.make_model(config, torch_parity.random_weights(config, rng, 2.0**-20))
    batch, side = (7, 4)[seed - 1], config["image_size"]
    images = rng.standard_normal((2, batch, side, side, config["channels"]), np.float32)
    return torch_model, config, list(zip(images, rng.integers(config["classes"], size=(2, batch)), strict=True))


def weights_of(torch_model):
    return {name: tensor.numpy().copy() for name, tensor in torch_model.state_dict().items()}


@dtypes
def test_logits_and_every_gradient_are_torchs(live, torch_parity, dtype):
    torch_model, config, batches = live
    logits, _, gradient, dimages = torch_parity.gradients(torch_model, *batches[0], label_smoothing=0.1)
    ours = gradients(load_model(config, weights_of(torch_model), dtype), *batches[0], label_smoothing=0.1)
    expected = {"logits": logits, **gradient, "images": dimages}
    worst = differences({"logits": ours[0], **ours[1], "images": ours[2]}, expected)
    assert {name: error for name, error in worst.items() if not error <= ONE_PASS[dtype]} == {}


def assert_training_follows(torch_parity, torch_model, config, batches, dtype):
    model = load_model(config, weights_of(torch_model), dtype)
    first = torch_parity.gradients(torch_model, *batches[0], label_smoothing=TRAINING["label_smoothing"])[2]
    losses, norms = train(model, batches, **TRAINING)
    torch_losses, torch_norms = torch_parity.train(torch_model, batches, **TRAINING)
    worst = differences(determined(to_timm(model), first, dtype), determined(weights_of(torch_model), first, dtype))
    worst |= {"losses": difference(losses, torch_losses), "norms": difference(norms, torch_norms)}
    assert {name: error for name, error in worst.items() if not error <= TEN_STEPS[dtype]} == {}


@dtypes
def test_ten_steps_follow_torchs_adamw(live, torch_parity, dtype):
    torch_model, config, batches = live
    assert_training_follows(torch_parity, torch_model, config, 5 * batches, dtype)


@dtypes
def test_training_in_many_lanes_and_micro_batches_follows_torch(torch_parity, dtype, monkeypatch):
    monkeypatch.setattr(batch_split, "MICRO_BATCH_ROWS", 1)          # one image; 16 lanes of two or three each
    config, rng = MODELS["mean-learned"], np.random.default_rng(3)
    torch_model = torch_parity.make_model(config, torch_parity.random_weights(config, rng, 2.0**-20))
    images = rng.standard_normal((37, 9, 9, 3), np.float32)
    assert_training_follows(torch_parity, torch_model, config, 3 * [(images, rng.integers(11, size=37))], dtype)


def test_names_and_shapes_are_those_of_torchs_state_dict(live):
    torch_model, config, _ = live
    ours = to_timm(minivit.create_model(family(config), **config))
    expected = {name: tuple(w.shape) for name, w in torch_model.state_dict().items()}
    assert {name: w.shape for name, w in ours.items()} == expected


# ---- against timm ------------------------------------------------------------------------------------------


BIT = {np.float32: 1e-4, np.float64: 1e-9}
SMALL_BIT = {"layers": [2, 1], "width": 16, "groups": 8, "classes": 11, "image_size": 37}


def timms_resnet(config):
    """timm's own ResNetV2 with BiT's stem and eps, in float64, its norms away from 1 and 0."""
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    from timm.layers import GroupNormAct, StdConv2d
    from timm.models.resnetv2 import ResNetV2
    torch.manual_seed(5)
    if config == {"image_size": 64}:
        model = timm.create_model("resnetv2_50x1_bit", pretrained=False)
    else:
        width = config["width"]
        widths = [4 * width * 2**stage for stage in range(len(config["layers"]))]
        model = ResNetV2(config["layers"], widths, config["classes"],
                         stem_chs=width, stem_type="fixed", conv_layer=partial(StdConv2d, eps=1e-8),
                         norm_layer=partial(GroupNormAct, num_groups=config["groups"]))
    with torch.no_grad():
        for name, p in model.named_parameters():
            center, spread = float("norm" in name and name.endswith("weight")), 0.3 if p.ndim == 1 else 0.1
            p.copy_(center + spread * torch.randn_like(p))
    return model.double()


def of_both(torch_parity, name, config, dtype):
    """(logits, gradients, gradient of the images) of two images: timm's in float64, timm's in this dtype, and ours."""
    theirs, rng = timms_resnet(config), np.random.default_rng(6)
    ours = minivit.create_model(name, **config, dtype=dtype)
    ours.pack(dtype, values=from_timm(weights_of(theirs), ours))
    images = rng.standard_normal((2, *ours.image_size, 3), np.float32)
    labels = rng.integers(ours.classes, size=2)
    logits, _, gradient, dimages = torch_parity.gradients(theirs, images, labels, label_smoothing=0.1)
    in_dtype = theirs.float() if dtype == np.float32 else theirs
    rounded = torch_parity.gradients(in_dtype, images, labels, label_smoothing=0.1)
    return (logits, gradient, dimages), (rounded[0], *rounded[2:]), gradients(ours, images, labels, label_smoothing=0.1)


@pytest.mark.parametrize(("name", "config", "dtype"), [
    ("resnet", SMALL_BIT, np.float32), ("resnet", SMALL_BIT, np.float64),
    pytest.param("resnetv2_50x1_bit", {"image_size": 64}, np.float64, marks=pytest.mark.slow),
], ids=["small-float32", "small-float64", "50x1-float64"])
def test_a_resnet_computes_what_timm_computes(torch_parity, name, config, dtype):
    truth, _, found = of_both(torch_parity, name, config, dtype)
    found, truth = ({"logits": result[0], **result[1], "images": result[2]} for result in (found, truth))
    worst = differences(found, truth)
    assert {name: error for name, error in worst.items() if not error <= BIT[dtype]} == {}


@pytest.mark.slow
def test_in_float32_a_deep_resnet_is_as_accurate_as_timms(torch_parity):
    """Some of its millions of ReLUs have inputs so near to 0 that round-off changes their slope, in timm and here."""
    truth, rounded, found = of_both(torch_parity, "resnetv2_50x1_bit", {"image_size": 64}, np.float32)
    assert difference(found[0], truth[0]) <= BIT[np.float32]
    ours, theirs = (np.median(list(differences(gradient, truth[1]).values())) for gradient in (found[1], rounded[1]))
    assert ours <= 2 * theirs


# ---- operations -------------------------------------------------------------------------------------------


def worst_error(theirs, forward, backward, inputs, dtype):
    """Return the largest difference of y and of all gradients between our op and torch's, for a random dy."""
    import torch
    inputs = [np.asarray(x, np.float32) for x in inputs]
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in inputs]
    truth = theirs(*leaves)
    dy = np.random.default_rng(9).standard_normal(tuple(truth.shape), np.float32)
    truth.backward(torch.tensor(dy, dtype=torch.float64))
    y, cache = forward(*[x.astype(dtype) for x in inputs])
    found = backward(np.asarray(dy, dtype), cache)
    found = found if isinstance(found, tuple) else (found,)
    assert all(array.dtype == dtype for array in (y, *found))
    return max(difference(ours, expected) for ours, expected in
               zip((y, *found), (truth.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)), strict=True))


@pytest.fixture
def F(torch_parity):
    return torch_parity.F


@pytest.fixture
def rng():
    return np.random.default_rng(8)


@dtypes
@pytest.mark.parametrize("scale", [0.01, 1, 6])
def test_gelu_is_torchs(F, rng, scale, dtype):
    x = scale * rng.standard_normal((3, 37, 11))
    assert worst_error(F.gelu, gelu.forward, gelu.backward, [x], dtype) <= ONE_OP[dtype]


@dtypes
@pytest.mark.parametrize("scale", [0.001, 1, 100])
@pytest.mark.parametrize("width", [7, 13, 64])
def test_layer_norm_is_torchs(F, rng, width, scale, dtype):
    inputs = [scale * rng.standard_normal((3, 5, width)), rng.standard_normal(width), rng.standard_normal(width)]
    error = worst_error(lambda x, w, b: F.layer_norm(x, (width,), w, b, 1e-6), layer_norm.forward, layer_norm.backward,
                        inputs, dtype)
    assert error <= ONE_OP[dtype]


@dtypes
@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_softmax_is_torchs(F, rng, scale, dtype):
    x = 5 * rng.standard_normal((2, 3, 7, 17))
    error = worst_error(lambda x: F.softmax(scale * x, -1), lambda x: softmax.forward(x, scale), softmax.backward, [x],
                        dtype)
    assert error <= ONE_OP[dtype]


@dtypes
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("scale", [1, 30])
def test_cross_entropy_is_torchs(F, rng, scale, smoothing, dtype):
    import torch
    logits, labels = scale * rng.standard_normal((9, 11)), rng.integers(11, size=9)
    targets = cross_entropy.targets(labels, 11, smoothing, dtype)
    error = worst_error(lambda z: F.cross_entropy(z, torch.tensor(labels), label_smoothing=smoothing),
                        lambda z: cross_entropy.forward(z, targets), cross_entropy.backward, [logits], dtype)
    assert error <= ONE_OP[dtype]


@dtypes
@pytest.mark.parametrize("heads", [1, 3, 12])
def test_attention_is_torchs(F, rng, heads, dtype):
    def theirs(qkv):
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in qkv.chunk(3, dim=-1))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    qkv = rng.standard_normal((2, 7, 36))
    assert worst_error(theirs, lambda x: attention.forward(x, heads), attention.backward, [qkv], dtype) <= ONE_OP[dtype]


@dtypes
def test_attention_with_a_bias_is_torchs(F, rng, dtype):
    def theirs(qkv, bias):
        q, k, v = (t.unflatten(-1, (3, -1)).transpose(1, 2) for t in qkv.chunk(3, dim=-1))
        return F.scaled_dot_product_attention(q, k, v, bias.expand(2, -1, -1, -1)).transpose(1, 2).flatten(2)

    inputs = [rng.standard_normal((2, 7, 36)), rng.standard_normal((3, 7, 7))]
    error = worst_error(theirs, lambda qkv, bias: attention_variants.forward(qkv, 3, bias),
                        attention_variants.backward, inputs, dtype)
    assert error <= ONE_OP[dtype]


@dtypes
@pytest.mark.parametrize(("op", "size", "stride", "padding"), [
    (convolution, 3, 2, 1), (convolution, 1, 1, 0), (convolution, 3, 1, 1), (convolution, 5, 3, 2),
    (winograd, 3, 1, 1), (winograd, 3, 1, 0),
])
def test_convolution_is_torchs(F, rng, op, size, stride, padding, dtype):
    def theirs(x, weight, bias):
        return F.conv2d(x.permute(0, 3, 1, 2), weight.permute(3, 2, 0, 1), bias, stride, padding).permute(0, 2, 3, 1)

    inputs = [rng.standard_normal((2, 9, 8, 3)), rng.standard_normal((size, size, 3, 5)), rng.standard_normal(5)]
    error = worst_error(theirs, lambda *x: op.forward(*x, stride, padding), op.backward, inputs, dtype)
    assert error <= ONE_OP[dtype]


@dtypes
def test_weight_standardisation_is_torchs(F, rng, dtype):
    def theirs(weight):
        filters = weight.permute(3, 2, 0, 1)
        flat = filters.reshape(1, len(filters), -1)
        return F.batch_norm(flat, None, None, training=True, eps=1e-8).reshape(filters.shape).permute(2, 3, 1, 0)

    weight = rng.standard_normal((3, 3, 5, 7))
    error = worst_error(theirs, weight_standardisation.forward, weight_standardisation.backward, [weight], dtype)
    assert error <= ONE_OP[dtype]


@dtypes
@pytest.mark.parametrize("relu", [False, True])
def test_group_norm_is_torchs(F, rng, relu, dtype):
    def theirs(x, weight, bias):
        y = F.group_norm(x.permute(0, 3, 1, 2), 4, weight, bias, 1e-5).permute(0, 2, 3, 1)
        return F.relu(y) if relu else y

    inputs = [rng.standard_normal((3, 5, 4, 12)), rng.standard_normal(12), rng.standard_normal(12)]
    error = worst_error(theirs, lambda *x: group_norm.forward(*x, 4, relu=relu), group_norm.backward, inputs, dtype)
    assert error <= ONE_OP[dtype]


@dtypes
@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 2, 1), (2, 2, 0), (3, 1, 1)])
def test_max_pooling_is_torchs(F, rng, size, stride, padding, dtype):
    def theirs(x):
        padded = F.pad(x.permute(0, 3, 1, 2), (padding,) * 4)
        return F.max_pool2d(padded, size, stride).permute(0, 2, 3, 1)

    x = rng.standard_normal((2, 9, 8, 3)) - 1                         # mostly negative, so padding must not win
    error = worst_error(theirs, lambda x: max_pooling.forward(x, size, stride, padding), max_pooling.backward, [x],
                        dtype)
    assert error <= ONE_OP[dtype]
