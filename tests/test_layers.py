"""Layers: their caches, their names, and the vector that holds their parameters."""

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from itertools import product

import numpy as np
import pytest

import minivit
from minivit.gradcheck_catalogue import catalogue
from minivit.layers import (
    GELU,
    Attention,
    Block,
    Convolution,
    ConvStem,
    Dropout,
    Layer,
    LayerNorm,
    Linear,
    Parameter,
    RelativeBias,
    StdConvolution,
)
from minivit.layers.replica_options import _RecomputingBlock
from minivit.ops import convolution, winograd

LAYERS = [(make(), shape) for make, shape in catalogue.LAYERS.values() if shape]


def class_name(value):
    return type(value).__name__ if isinstance(value, Layer) else ""


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=class_name)
def test_each_forward_serves_one_backward(layer, shape):
    y = layer.forward(np.ones(shape, np.float32))
    layer.backward(np.ones_like(y))
    with pytest.raises(RuntimeError, match="needs a forward first"):
        layer.backward(np.ones_like(y))
    layer.forward(np.ones(shape, np.float32))
    layer.clear_cache()
    with pytest.raises(RuntimeError, match="needs a forward first"):
        layer.backward(np.ones_like(y))


def test_a_backward_overwrites_the_gradient():
    layer, x = Linear(3, 2), np.ones((4, 3), np.float32)
    gradients = []
    for _ in range(2):
        layer.backward(np.ones_like(layer.forward(x)))
        gradients.append(layer.weight.grad.copy())
    np.testing.assert_array_equal(*gradients)


def test_the_name_of_a_parameter_is_its_path_from_the_layer():
    block = Block(width=24, heads=3, mlp_ratio=2)
    assert [p.name for p in block.parameters()] == [
        f"{layer}.{kind}" for layer in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
        for kind in ("weight", "bias")]
    assert [p.name for p in Linear(2, 3).parameters()] == ["weight", "bias"]


def test_a_declared_model_has_names_before_it_has_memory():
    model = minivit.models.create.declare_model("deit", **SIZES)
    names = [p.name for p in model.parameters()]
    assert names[:3] == ["cls_token", "pos_embed", "dist_token"]
    assert names[-2:] == ["head_dist.weight", "head_dist.bias"]
    assert model.blocks[1].mlp.fc1.weight.name == "blocks.1.mlp.fc1.weight"
    assert not any(p.has_values for p in model.parameters())


def test_names_are_paths_from_the_root_that_was_packed_last():
    class Pair(Layer):
        def __init__(self, first, second):
            self.first, self.others = first, [second]

    model, part = small_model(), Linear(3, 2)
    pair = Pair(model, part)
    assert model.head.weight.name == "head.weight"                    # a packed model keeps its names
    assert part.weight.name == "others.0.weight"
    pair.pack()
    assert model.head.weight.name == "first.head.weight"
    model.pack()
    assert model.head.weight.name == "head.weight"
    model.blocks[1].pack()
    assert model.blocks[1].mlp.fc1.weight.name == "mlp.fc1.weight"


def test_a_replaced_layer_gets_its_names_when_the_model_is_packed():
    model = small_model()
    model.blocks[1] = Block(width=8, heads=2, mlp_ratio=2)
    model.blocks.append(Block(width=8, heads=2, mlp_ratio=2))
    assert next(p.name for p in model.pack().blocks[2].parameters()) == "blocks.2.norm1.weight"
    assert len({p.name for p in model.parameters()}) == len(model.parameters())


def test_a_layer_whose_constructor_was_generated_has_names_when_it_is_packed():
    @dataclasses.dataclass(eq=False, repr=False)
    class Scale(Layer):
        weight: Parameter

    layer = Scale(Parameter((3,)))
    assert layer.vector.size == 3
    assert layer.weight.name == "weight"


def test_a_subclass_without_a_constructor_and_a_subclass_with_one_have_names():
    class Plain(Linear):
        pass

    class Scaled(Linear):
        def __init__(self, width):
            super().__init__(width, width)
            self.scale = Parameter((width,))

    assert [p.name for p in Plain(2, 3).parameters()] == ["weight", "bias"]
    assert [p.name for p in Scaled(2).parameters()] == ["weight", "bias", "scale"]
    assert list(inspect.signature(Scaled).parameters) == ["width"]


def test_gradients_are_none_before_the_first_backward():
    block = Block(width=8, heads=2)
    assert all(p.grad is None for p in block.parameters())
    block.backward(block.forward(np.ones((1, 3, 8), np.float32)))
    assert all(p.grad is not None and p.grad.shape == p.shape for p in block.parameters())


SIZES = {"image_size": 8, "patch_size": 4, "channels": 1, "classes": 3, "width": 8, "depth": 2, "heads": 2,
         "mlp_ratio": 2}


def small_model(**options):
    return minivit.create_model("vit", **(SIZES | options))


COPIES = {
    "copy": lambda m: m.copy(),
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda m: pickle.loads(pickle.dumps(m)),
    "astype": lambda m: m.astype(np.float64),
}


def memory_mapped(model):
    """Return (a model whose matrices are read-only arrays in another order, as those in a file are; these arrays)."""
    values = {p.name: np.ascontiguousarray(p.data.T).T if p.data.ndim == 2 else p.data.copy()
              for p in model.parameters()}
    for value in values.values():
        value.flags.writeable = False
    return minivit.models.create.declare_model("vit", **model.config).memory_map(values), values


def test_a_memory_mapped_weight_is_not_copied_when_it_is_read():
    model = small_model()
    model.vector[:] = np.random.default_rng(1).standard_normal(model.vector.size)
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    twin, values = memory_mapped(model)
    np.testing.assert_allclose(twin.predict(images), model.predict(images), rtol=1e-5, atol=1e-6)
    weight = twin.blocks[1].mlp.fc1.weight
    assert weight.data is values[weight.name]
    assert twin.vector.tobytes() == model.vector.tobytes()            # copied now
    assert not np.shares_memory(weight.data, values[weight.name])
    twin.vector[:] = 0
    assert values[weight.name].any()


def test_a_mapped_weight_is_copied_before_it_is_written_to():
    model, values = memory_mapped(small_model())
    weight = model.blocks[0].attn.qkv.weight
    before = values[weight.name].copy()
    weight.data = np.ones(weight.shape)
    assert (weight.data == 1).all()
    np.testing.assert_array_equal(values[weight.name], before)
    weight = model.blocks[0].mlp.fc1.weight
    weight.grad = np.ones(weight.shape)
    np.testing.assert_array_equal(weight.data, values[weight.name])
    with pytest.raises(ValueError, match=r"head.weight has the shape \(8, 3\), not \(3, 8\)"):
        model.head.weight.memory_map(np.zeros((3, 8)))


def test_a_memory_mapped_model_can_be_copied_and_trained():
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), dtype=np.uint8)
    for duplicate in COPIES.values():
        model, _ = memory_mapped(small_model())
        twin = duplicate(model)
        np.testing.assert_allclose(twin.predict(images), small_model().predict(images), rtol=1e-5)
    model, values = memory_mapped(small_model())
    before = {name: value.copy() for name, value in values.items()}
    minivit.Trainer(model).step(images, np.arange(4) % 3)
    assert all((values[name] == before[name]).all() for name in values)
    other = small_model()
    minivit.Trainer(other).step(images, np.arange(4) % 3)
    assert other.vector.tobytes() == model.vector.tobytes()


@pytest.mark.parametrize("make", [
    small_model,
    lambda: small_model(stem="conv", width=32),
    lambda: minivit.create_model("resnet", image_size=8, channels=1, classes=3, width=4, layers=[1], groups=2),
], ids=["vit", "vit with a stem", "resnet"])
@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_copies_are_packed_equal_and_independent(duplicate, make):
    model = make()
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), dtype=np.uint8)
    model.backward(np.ones_like(model.forward(images)))
    twin = duplicate(model)
    np.testing.assert_array_equal(twin.vector, model.vector)
    assert [p.name for p in twin.parameters()] == [p.name for p in model.parameters()]
    twin.vector[:] = 7
    assert all((p.data == 7).all() for p in twin.parameters())        # the views are alive
    assert not (model.vector == 7).any()
    twin.forward(images)
    twin.backward(np.ones((2, 3), twin.dtype))
    assert all(np.shares_memory(p.grad, twin.gradients) for p in twin.parameters())


def test_the_vector_of_a_part_of_a_model_is_a_slice_of_its_vector():
    model = small_model()
    part = model.blocks[1]
    assert part.vector.size == sum(p.size for p in part.parameters())
    assert np.shares_memory(part.vector, model.vector)
    part.vector[:] = 3
    assert (model.blocks[1].mlp.fc1.weight.data == 3).all()
    assert not (model.blocks[0].mlp.fc1.weight.data == 3).any()


def test_a_replica_shares_weights_and_nothing_else():
    model = small_model()
    replica, images = model.replica(), np.zeros((1, 8, 8, 1), np.float32)
    assert np.shares_memory(replica.vector, model.vector)
    assert not np.shares_memory(replica.gradients, model.gradients)
    replica.backward(np.ones_like(replica.forward(images)))
    assert replica.gradients.any()
    assert not model.gradients.any()
    with pytest.raises(RuntimeError):
        model.backward(np.ones((1, 3), np.float32))


def test_initial_weights_depend_on_the_seed_and_the_name_alone():
    shallow, deep = small_model(depth=1, seed=5), small_model(depth=3, seed=5)
    np.testing.assert_array_equal(shallow.blocks[0].attn.qkv.weight.data, deep.blocks[0].attn.qkv.weight.data)
    assert not np.array_equal(deep.blocks[0].attn.qkv.weight.data, deep.blocks[1].attn.qkv.weight.data)
    assert not np.array_equal(small_model(seed=5).vector, small_model(seed=6).vector)


def test_weight_decay_applies_to_the_matrices_of_linear_maps_only():
    parameters = small_model().parameters()
    matrices = {p.name for p in parameters if p.name.endswith(".weight") and "norm" not in p.name}
    assert {p.name for p in parameters if p.decay} == matrices


def test_a_relative_bias_starts_at_zero_and_computes_the_gradient_of_its_table():
    layer = RelativeBias(2, 3, heads=2)
    assert not layer.forward().any()
    layer.backward(np.ones((2, 6, 6), np.float32))
    gradient = layer.relative_position_bias_table.grad.reshape(3, 5, 2)
    pairs = np.outer([1, 2, 1], [1, 2, 3, 2, 1])                      # how many pairs of tokens have each offset
    np.testing.assert_array_equal(gradient[..., 0], pairs)
    np.testing.assert_array_equal(gradient[..., 0], gradient[..., 1])


def test_a_stem_makes_as_many_tokens_as_patches():
    images = np.ones((2, 16, 24, 3), np.float32)
    for size, full in product((2, 4, 8), (False, True)):
        assert ConvStem(size, 3, 16, full).forward(images).shape == (2, 16 * 24 // size**2, 16)


def test_assigning_the_wrong_shape_names_both():
    layer = Linear(3, 2)
    with pytest.raises(ValueError, match=r"weight has the shape \(3, 2\), not \(2, 3\)"):
        layer.weight.data = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"bias has the shape \(2,\), not \(3,\)"):
        layer.bias.grad = np.zeros(3)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Attention(10, 3), "width 10 must be divisible by the number of heads, 3"),
    (lambda: Block(width=8, heads=0), "divisible by the number of heads"),
    (lambda: ConvStem(6, 3, 12), r"2, 4, 8, .* but it is 6"),
    (lambda: ConvStem(1, 3, 12), r"2, 4, 8, .* but it is 1"),
    (lambda: ConvStem(8, 3, 6), r"its half must divide the width 6, but it is 8"),
    (lambda: ConvStem(8, 3, 12, full_resolution=True), r"and it must divide the width 12, but it is 8"),
    (lambda: Dropout(1.0), "drop rate must be a finite number at least 0 and below 1"),
    (lambda: Linear(3, 2).forward(np.ones((4, 5), np.float32)), r"x \(4, 5\) needs weight \(5, O\)"),
    (lambda: LayerNorm(3).forward(np.ones((4, 5), np.float32)), r"x \(4, 5\) needs weight and bias \(5,\)"),
])
def test_sizes_that_do_not_fit_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_weights_are_float32_or_float64():
    with pytest.raises(TypeError, match="float32 or float64, not int32"):
        Linear(3, 2).astype(np.int32)


def test_a_users_own_layer_needs_three_methods():
    class Scale(Layer):
        def __init__(self, width):
            self.weight = minivit.layers.Parameter((width,))

        def forward(self, x):
            self.cache = x
            return x * self.weight.data

        def backward(self, dy):
            x = self.pop_cache()
            self.weight.grad = (dy * x).sum(axis=0)
            return dy * self.weight.data

    assert minivit.gradcheck(Scale(4), np.ones((3, 4))).ok


def test_a_layer_without_a_backward_says_what_to_define():
    class Identity(Layer):
        def forward(self, x):
            return x

    with pytest.raises(NotImplementedError, match=r"Identity has no method 'backward': define backward\(dy\) -> dx"):
        minivit.gradcheck(Identity(), np.ones((2, 3)))


def test_packing_keeps_the_gradients():
    layer = Linear(3, 2)
    layer.backward(layer.forward(np.ones((4, 3), np.float32)))
    before = layer.weight.grad.copy()
    assert layer.gradients.any()
    np.testing.assert_array_equal(layer.weight.grad, before)


class WrongPair(Layer):
    """Two layers in one, with a wrong gradient of the first weight."""

    def __init__(self):
        self.a, self.b = Linear(3, 4), Linear(4, 2)

    def forward(self, x):
        return self.b.forward(self.a.forward(x))

    def backward(self, dy):
        dx = self.a.backward(self.b.backward(dy))
        self.a.weight.grad = np.zeros((3, 4))
        return dx


def test_a_layer_made_of_layers_is_checked_and_copied_in_full():
    report = minivit.gradcheck(WrongPair(), np.random.default_rng(0).standard_normal((5, 3)))
    assert [row.tensor for row in report.rows if not row.ok] == ["a.weight"]
    layer = WrongPair()
    np.testing.assert_array_equal(layer.copy().b.bias.data, layer.b.bias.data)
    assert len({p.name for p in layer.parameters()}) == 4


def test_layers_in_a_tuple_are_part_of_the_tree():
    class Pair(WrongPair):
        def __init__(self):
            self.both = Linear(3, 4), Linear(4, 2)

    names = [p.name for p in Pair().copy().parameters()]
    assert names == ["both.0.weight", "both.0.bias", "both.1.weight", "both.1.bias"]


def test_a_layer_has_one_place_in_the_tree():
    class Twice(WrongPair):
        def __init__(self):
            self.a = self.b = Linear(3, 3)

    with pytest.raises(ValueError, match="Twice holds a layer twice"):
        minivit.gradcheck(Twice(), np.ones((2, 3)))


@pytest.mark.parametrize("layer", [Linear(4, 2), LayerNorm(4), GELU(), Attention(4, 2)], ids=class_name)
def test_integers_are_refused(layer):
    with pytest.raises(TypeError, match="float32 or float64, not int64"):
        layer.forward(np.ones((2, 3, 4), np.int64))


# ---- recomputing ----------------------------------------------------------------------------------------------


def _bytes_held(layer):
    """Return the bytes of all arrays in the caches of a layer and of the layers below it."""
    def arrays(value):
        if isinstance(value, np.ndarray):
            yield value if value.base is None else value.base
        elif isinstance(value, tuple | list):
            for part in value:
                yield from arrays(part)

    held = {id(x): x.nbytes for _, part in layer.named_layers() for x in arrays(part.cache)}
    return sum(held.values())


@pytest.mark.parametrize("family", ["vit", "swin"])
def test_recomputing_blocks_change_no_bit_and_store_little(family):
    sizes = {"vit": {"depth": 3, "heads": 2}, "swin": {"depths": [2, 2], "heads": [2, 2], "window": 4}}
    sizes = {"image_size": 16, "patch_size": 2, "classes": 5, "width": 8} | sizes[family]
    images, labels = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), np.uint8), np.arange(6) % 5
    weights, held = [], []
    for recompute in (False, True):
        model = minivit.create_model(family, drop_rate=0.2, drop_path_rate=0.3, **sizes)
        trainer = minivit.Trainer(model, recompute=recompute, replay=False)
        losses = [trainer.step(images, labels) for _ in range(3)]
        weights.append((losses, model.vector.tobytes()))
        lane = trainer.lanes._lanes[0]
        replica = lane.forward_backward.replica
        replica.forward(images[:3])                                   # as many as in its last micro-batch
        held.append(sum(_bytes_held(layer) for _, layer in replica.named_layers() if type(layer).__name__ == "Block"))
        assert not any(isinstance(layer, _RecomputingBlock) for _, layer in model.named_layers())
    assert weights[0] == weights[1]
    assert held[1] < held[0] / 8


@pytest.mark.slow
def test_a_base_model_trains_within_its_memory():
    program = ("import minivit, numpy, resource; m = minivit.create_model('vit_base_patch16_224');t = "
               "minivit.Trainer(m, recompute=True);t.step(numpy.zeros((8, 224, 224, 3), numpy.uint8), "
               "numpy.arange(8));print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)")
    peak = int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
    assert peak * (1 if sys.platform == "darwin" else 1024) <= 8 * 2**30


@pytest.mark.parametrize(("shape", "inputs", "outputs", "size", "stride", "op"), [
    ((5, 4), 16, 16, 3, 1, "winograd"), ((2, 2), 16, 16, 3, 1, "winograd"), ((5, 4), 256, 16, 3, 1, "winograd"),
    ((5, 4), 16, 256, 3, 1, "winograd"), ((5, 4), 15, 16, 3, 1, "convolution"), ((5, 4), 16, 15, 3, 1, "convolution"),
    ((5, 4), 16, 16, 3, 2, "convolution"), ((5, 4), 16, 16, 1, 1, "convolution"),
    ((5, 4), 257, 16, 3, 1, "convolution"), ((5, 4), 16, 257, 3, 1, "convolution"),
    ((1, 4), 16, 16, 3, 1, "convolution"), ((5, 1), 16, 16, 3, 1, "convolution"),
])
@pytest.mark.parametrize("layer", [Convolution, StdConvolution])
def test_a_convolution_uses_winograds_algorithm_where_it_is_faster(monkeypatch, layer, shape, inputs, outputs, size,
                                                                  stride, op):
    called = []

    def record(module, name):
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, **kw: called.append(module.__name__) or function(*args, **kw))

    for module in (convolution, winograd):
        record(module, "forward")
        record(module, "backward")
    subject = layer(inputs, outputs, size, stride, padding=size // 2)
    y = subject.forward(np.ones((1, *shape, inputs), np.float32))
    assert subject.backward(y).shape == (1, *shape, inputs)
    assert called == 2 * [f"minivit.ops.{op}"]
