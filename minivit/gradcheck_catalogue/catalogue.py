"""Everything in this project that has a gradient, at small odd sizes. `minivit gradcheck` and the tests run over it.

Declare a new op, layer or model family here once: in OPS by the shapes of its inputs, in LAYERS by a constructor, in
MODELS by the options of `create_model`. The first word of an entry's name, up to a blank or comma, is the op's module,
the layer's class or the family. It selects the entry on the command line.

An example: you have written `minivit/ops/scale.py`, whose `reference_forward(x, weight, eps=1e-6)` takes x (B, N, D)
and weight (D,), and whose backward returns dx and dweight. Import the module above OPS and add two entries to it:

    "scale": Op(scale, {"x": (2, 3, 7), "weight": (7,)}),
    "scale of one row": Op(scale, {"x": (1, 1, 5), "weight": (5,)}, {"eps": 1e-2}),

The first dict names each input that has a gradient, in the order in which the backward returns the gradients. Give each
axis another size, so that exchanged axes are an error. The second dict holds arguments without a gradient. Other
entries check edge cases and other options. Now run

    minivit gradcheck scale
    pytest tests/test_catalogue.py tests/test_ops.py -k scale

Both check the plain and the fast pair against finite differences. The tests also compare the pairs with each other, in
both dtypes, for several memory layouts, and with NaN.
"""

import inspect
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from .. import layers
from ..common.checks import UnknownName, suggestion
from ..common.sizes import pair
from ..gradient_checking import Report, gradcheck
from ..layers.replica_options import recompute_blocks, use_generator
from ..models import create_model
from ..ops import (
    attention,
    attention_variants,
    convolution,
    cross_entropy,
    distillation,
    dropout,
    filling,
    gelu,
    group_norm,
    hiding,
    layer_norm,
    layer_scale,
    linear,
    max_pooling,
    merging,
    patches,
    philox,
    picking,
    pooling,
    reconstruction,
    relative_bias,
    relu,
    rotary,
    softmax,
    tokens,
    weight_standardisation,
    windows,
    winograd,
)


@dataclass(frozen=True)
class Op:
    """An op with the shapes of its inputs by name, in the order of their gradients, and its constant arguments."""

    op: ModuleType
    shapes: dict
    constants: dict = field(default_factory=dict)


def _targets(rows, classes, smoothing):
    """Return target distributions (rows, classes)."""
    return cross_entropy.targets(np.arange(rows) * 2 % classes, classes, smoothing, np.float64)


def _teacher(rows, classes, temperature=None):
    """Return the targets of a teacher (rows, classes)."""
    return distillation.targets([np.random.default_rng(7).standard_normal((rows, classes))], temperature)


def _mask(*shape):
    """Return a dropout mask of this shape."""
    return dropout.mask(np.random.default_rng(5).random(shape), 0.3)


def _hidden(images, patches, count):
    """Return which patches of each image are hidden (images, patches)."""
    return hiding.choose(np.random.default_rng(3).random((images, patches)), count, np.float64)


OPS = {
    "linear": Op(linear, {"x": (2, 3, 5), "weight": (5, 7), "bias": (7,)}),
    "linear of rows": Op(linear, {"x": (5, 37), "weight": (37, 3), "bias": (3,)}),
    "linear, square": Op(linear, {"x": (2, 3, 5), "weight": (5, 5), "bias": (5,)}),
    "linear without a bias": Op(linear, {"x": (2, 3, 5), "weight": (5, 7)}),
    "linear of width 1": Op(linear, {"x": (1, 3, 1), "weight": (1, 1), "bias": (1,)}),
    "gelu": Op(gelu, {"x": (3, 5, 7)}),
    "gelu of one number": Op(gelu, {"x": (1,)}),
    "layer_norm": Op(layer_norm, {"x": (2, 3, 7), "weight": (7,), "bias": (7,)}),
    "layer_norm of rows": Op(layer_norm, {"x": (3, 37), "weight": (37,), "bias": (37,)}, {"eps": 1e-2}),
    "layer_norm of one row": Op(layer_norm, {"x": (5,), "weight": (5,), "bias": (5,)}),
    "softmax": Op(softmax, {"x": (2, 3, 7)}),
    "softmax with a scale": Op(softmax, {"x": (3, 37)}, {"scale": 0.3}),
    "softmax of one row": Op(softmax, {"x": (5,)}),
    "attention": Op(attention, {"qkv": (2, 5, 18)}, {"heads": 2}),
    "attention, heads of width 1": Op(attention, {"qkv": (3, 7, 9)}, {"heads": 3}),
    "attention, one head": Op(attention, {"qkv": (1, 3, 15)}, {"heads": 1}),
    "attention of one token": Op(attention, {"qkv": (2, 1, 18)}, {"heads": 3}),
    "attention_variants of the first tokens": Op(attention_variants, {"qkv": (2, 5, 18)},
                                                 {"heads": 2, "queries": slice(2)}),
    "attention_variants of some tokens, with a bias": Op(attention_variants, {"qkv": (2, 4, 18), "bias": (2, 2, 4)},
                                                         {"heads": 2, "queries": slice(1, 3)}),
    "attention_variants with a bias": Op(attention_variants, {"qkv": (2, 5, 18), "bias": (2, 5, 5)}, {"heads": 2}),
    "attention_variants with a bias per window": Op(attention_variants, {"qkv": (6, 4, 18), "bias": (3, 2, 4, 4)},
                                                    {"heads": 2}),
    "attention_variants": Op(attention_variants, {"qkv": (2, 5, 18)}, {"heads": 2}),
    "relative_bias": Op(relative_bias, {"table": (15, 2)}, {"rows": 2, "columns": 3}),
    "relative_bias with a class token": Op(relative_bias, {"table": (28, 3)},
                                           {"rows": 3, "columns": 3, "prefix": 1}),
    "relative_bias with registers": Op(relative_bias, {"table": (12, 2)}, {"rows": 1, "columns": 5, "prefix": 2}),
    "rotary": Op(rotary, {"qkv": (2, 6, 24)}, {"heads": 2, "rows": 2, "columns": 3}),
    "rotary with a class token": Op(rotary, {"qkv": (3, 5, 48)}, {"heads": 1, "rows": 2, "columns": 2}),
    "rotary at another size": Op(rotary, {"qkv": (2, 8, 36)},
                                 {"heads": 3, "rows": 2, "columns": 3, "spacing": (0.5, 1.5)}),
    "layer_scale": Op(layer_scale, {"x": (2, 5, 7), "gamma": (7,)}),
    "layer_scale of one number": Op(layer_scale, {"x": (3, 1), "gamma": (1,)}),
    "relative_bias of visible tokens": Op(relative_bias, {"table": (15, 2)},
                                          {"rows": 2, "columns": 3, "hidden": _hidden(4, 6, 2), "visible": 4}),
    "relative_bias of visible tokens and two before them": Op(
        relative_bias, {"table": (18, 3)},
        {"rows": 2, "columns": 3, "prefix": 2, "hidden": _hidden(2, 6, 5), "visible": 1}),
    "relative_bias of one token": Op(relative_bias, {"table": (1, 5)}, {"rows": 1, "columns": 1}),
    "convolution": Op(convolution, {"x": (2, 5, 7, 3), "weight": (3, 3, 3, 5), "bias": (5,)}),
    "convolution with stride and padding": Op(convolution, {"x": (3, 7, 6, 2), "weight": (3, 3, 2, 4), "bias": (4,)},
                                              {"stride": 2, "padding": 1}),
    "convolution of one place": Op(convolution, {"x": (2, 3, 5, 3), "weight": (1, 1, 3, 7), "bias": (7,)}),
    "convolution with a wide stride": Op(convolution, {"x": (2, 7, 9, 1), "weight": (2, 2, 1, 3), "bias": (3,)},
                                         {"stride": 3, "padding": 2}),
    "convolution without a bias": Op(convolution, {"x": (2, 4, 5, 2), "weight": (3, 3, 2, 3)}, {"padding": 1}),
    "convolution of every second place": Op(convolution, {"x": (2, 5, 4, 3), "weight": (1, 1, 3, 2)}, {"stride": 2}),
    "convolution with a wide padding": Op(convolution, {"x": (1, 2, 1, 3), "weight": (2, 2, 3, 2)}, {"padding": 3}),
    "winograd": Op(winograd, {"x": (2, 4, 6, 3), "weight": (3, 3, 3, 5), "bias": (5,)}, {"padding": 1}),
    "winograd of an odd image": Op(winograd, {"x": (3, 5, 7, 2), "weight": (3, 3, 2, 4), "bias": (4,)}),
    "winograd without a bias": Op(winograd, {"x": (2, 1, 4, 3), "weight": (3, 3, 3, 2)}, {"padding": 2}),
    "weight_standardisation": Op(weight_standardisation, {"weight": (3, 3, 2, 5)}),
    "weight_standardisation of one place": Op(weight_standardisation, {"weight": (1, 1, 7, 3)}, {"eps": 1e-2}),
    "group_norm": Op(group_norm, {"x": (3, 2, 5, 6), "weight": (6,), "bias": (6,)}, {"groups": 2}),
    "group_norm of single channels": Op(group_norm, {"x": (2, 3, 3, 5), "weight": (5,), "bias": (5,)},
                                        {"groups": 5, "eps": 1e-2}),
    "group_norm of one group": Op(group_norm, {"x": (2, 1, 3, 7), "weight": (7,), "bias": (7,)}, {"groups": 1}),
    "group_norm with a relu": Op(group_norm, {"x": (3, 3, 2, 6), "weight": (6,), "bias": (6,)},
                                 {"groups": 3, "relu": True}),
    "relu": Op(relu, {"x": (3, 5, 7)}),
    "max_pooling": Op(max_pooling, {"x": (2, 5, 7, 3)}, {"size": 2}),
    "max_pooling with stride and padding": Op(max_pooling, {"x": (3, 6, 5, 2)}, {"size": 3, "stride": 2, "padding": 1}),
    "max_pooling with gaps": Op(max_pooling, {"x": (2, 7, 5, 1)}, {"size": 1, "stride": 3}),
    "cross_entropy": Op(cross_entropy, {"logits": (5, 7)}, {"t": _targets(5, 7, 0.0)}),
    "cross_entropy with smoothing": Op(cross_entropy, {"logits": (3, 37)}, {"t": _targets(3, 37, 0.1)}),
    "cross_entropy of a lane": Op(cross_entropy, {"logits": (3, 5)}, {"t": _targets(3, 5, 0.0), "batch_size": 11}),
    "distillation": Op(distillation, {"logits": (5, 7)}, {"q": _teacher(5, 7, 3.0), "temperature": 3.0}),
    "distillation, hard": Op(distillation, {"logits": (3, 37)}, {"q": _teacher(3, 37)}),
    "distillation of a lane": Op(distillation, {"logits": (3, 5)},
                                 {"q": _teacher(3, 5, 0.5), "temperature": 0.5, "batch_size": 11}),
    "hiding": Op(hiding, {"x": (2, 4, 6, 3)}, {"hidden": _hidden(2, 6, 4), "size": 2}),
    "hiding, oblong": Op(hiding, {"x": (3, 2, 9, 1)}, {"hidden": _hidden(3, 6, 1), "size": (1, 3)}),
    "picking": Op(picking, {"x": (2, 6, 3)}, {"hidden": _hidden(2, 6, 4), "visible": 2}),
    "picking after a class token": Op(picking, {"x": (3, 6, 2)}, {"hidden": _hidden(3, 5, 1), "visible": 4}),
    "filling": Op(filling, {"x": (2, 2, 3), "mask_token": (3,)}, {"hidden": _hidden(2, 6, 4), "visible": 2}),
    "filling after two other tokens": Op(filling, {"x": (3, 6, 2), "mask_token": (2,)},
                                         {"hidden": _hidden(3, 5, 1), "visible": 4}),
    "reconstruction": Op(reconstruction, {"prediction": (3, 5, 7)},
                         {"pixels": np.random.default_rng(4).standard_normal((3, 5, 7)), "hidden": _hidden(3, 5, 3)}),
    "reconstruction of plain pixels, of a lane": Op(
        reconstruction, {"prediction": (2, 4, 3)},
        {"pixels": np.random.default_rng(4).standard_normal((2, 4, 3)), "hidden": _hidden(2, 4, 1), "normalise": False,
         "batch_size": 11}),
    "windows": Op(windows, {"x": (2, 4, 6, 3)}, {"window": 2}),
    "windows, shifted": Op(windows, {"x": (3, 6, 3, 5)}, {"window": 3, "shift": 1}),
    "windows, padded and shifted by rows": Op(windows, {"x": (2, 5, 4, 3)}, {"window": (3, 2), "shift": (1, 0)}),
    "windows, padded and shifted": Op(windows, {"x": (2, 3, 7, 2)}, {"window": (2, 3), "shift": (1, 2)}),
    "windows as large as the image": Op(windows, {"x": (2, 3, 3, 1)}, {"window": 3}),
    "merging": Op(merging, {"x": (3, 4, 6, 5)}),
    "merging of one place": Op(merging, {"x": (2, 2, 2, 3)}),
    "merging of odd rows and columns": Op(merging, {"x": (2, 3, 5, 2)}),
    "merging of one row": Op(merging, {"x": (2, 1, 4, 3)}),
    "patches": Op(patches, {"images": (3, 4, 6, 3)}, {"size": 2}),
    "patches, oblong": Op(patches, {"images": (2, 4, 6, 3)}, {"size": (2, 3)}),
    "patches of a signal": Op(patches, {"images": (2, 1, 6, 2)}, {"size": (1, 3)}),
    "patches of one row": Op(patches, {"images": (2, 3, 9, 1)}, {"size": 3}),
    "patches of one pixel": Op(patches, {"images": (2, 3, 5, 3)}, {"size": 1}),
    "patches as large as the image": Op(patches, {"images": (2, 3, 3, 2)}, {"size": 3}),
    "tokens": Op(tokens, {"x": (2, 3, 5), "class_token": (5,), "positions": (4, 5)}),
    "tokens without positions": Op(tokens, {"x": (2, 3, 5), "class_token": (5,)}),
    "tokens without a class token": Op(tokens, {"x": (3, 5, 7), "positions": (5, 7)}),
    "tokens with two of their own": Op(tokens, {"x": (2, 3, 5), "class_token": (2, 5), "positions": (5, 5)}),
    "tokens as they are": Op(tokens, {"x": (3, 5, 7)}),
    "pooling by token": Op(pooling, {"x": (3, 5, 7)}, {"pool": "token"}),
    "pooling by mean": Op(pooling, {"x": (3, 5, 7)}, {"pool": "mean"}),
    "dropout": Op(dropout, {"x": (3, 5, 7)}, {"mask": _mask(3, 5, 7)}),
    "dropout of a path": Op(dropout, {"x": (7, 3, 5)}, {"mask": _mask(7, 1, 1)}),
}
PAIRS = {"reference": ("reference_forward", "reference_backward"), "fast": ("forward", "backward")}


def _in_training(layer):
    """Give a layer random numbers for three images, as in the replica of a lane."""
    rng = philox.Generator(seed=0)
    rng.samples = np.arange(3)
    use_generator(layer, rng)
    return layer


def _recomputing(block):
    """Let a block compute its activations again in the backward."""
    recompute_blocks(block)
    return block


LAYERS: dict[str, tuple[Callable, tuple | None]] = {  # a constructor, and the shape of the input, if it takes one
    "Linear": (lambda: layers.Linear(5, 7), (2, 3, 5)),
    "Linear without a bias": (lambda: layers.Linear(5, 7, bias=False), (2, 3, 5)),
    "LayerNorm": (lambda: layers.LayerNorm(6), (2, 3, 6)),
    "GELU": (layers.GELU, (3, 5)),
    "MLP": (lambda: layers.MLP(6, 10), (2, 3, 6)),
    "Attention": (lambda: layers.Attention(12, 3), (2, 5, 12)),
    "Block": (lambda: layers.Block(width=24, heads=3, mlp_ratio=2), (2, 5, 24)),
    "PatchEmbed": (lambda: layers.PatchEmbed(2, 3, 8), (2, 4, 6, 3)),
    "PatchEmbed, oblong": (lambda: layers.PatchEmbed((1, 3), 2, 8), (2, 2, 6, 2)),
    "AttentionVariant with a relative bias": (lambda: layers.AttentionVariant(12, 3, grid=(2, 2, 1)), (2, 5, 12)),
    "Block with a relative bias": (lambda: layers.Block(width=12, heads=2, mlp_ratio=2, grid=(2, 3, 0)),
                                   (2, 6, 12)),
    "NormedAttention": (lambda: layers.NormedAttention(12, 3), (2, 5, 12)),
    "RotaryAttention": (lambda: layers.RotaryAttention(12, 3, places=(2, 3, 0)), (2, 6, 12)),
    "RotaryAttention with a relative bias":
        (lambda: layers.RotaryAttention(8, 1, grid=(2, 2, 1), places=(2, 2, 1)), (2, 5, 8)),
    "NormedRotaryAttention": (lambda: layers.NormedRotaryAttention(8, 2, places=(1, 3, 2)), (2, 5, 8)),
    "LayerScale": (lambda: layers.LayerScale(5, 0.3), (2, 3, 5)),
    "ScaledBlock": (lambda: layers.ScaledBlock(6, 3, 2, start=0.5), (2, 5, 6)),
    "ScaledBlock of which one token is read":
        (lambda: layers.ScaledBlock(6, 2, 2, start=0.5, output_tokens=1), (2, 4, 6)),
    "ScaledBlock that recomputes": (lambda: _recomputing(layers.ScaledBlock(6, 3, 2, start=0.7)), (2, 5, 6)),
    "RelativeBias": (lambda: layers.RelativeBias(2, 3, heads=2), None),
    "Convolution": (lambda: layers.Convolution(2, 5, size=3, stride=2, padding=1), (2, 5, 4, 2)),
    "Convolution of many channels": (lambda: layers.Convolution(16, 16, size=3, padding=1), (2, 3, 4, 16)),
    "ConvStem": (lambda: layers.ConvStem(4, 3, 8), (2, 8, 4, 3)),
    "ConvStem of full resolution": (lambda: layers.ConvStem(2, 3, 8, full_resolution=True), (2, 4, 4, 3)),
    "ConvStem of one halving": (lambda: layers.ConvStem(2, 1, 6), (2, 4, 6, 1)),
    "WindowAttention": (lambda: layers.WindowAttention(12, 3, (4, 6), 2), (2, 4, 6, 12)),
    "WindowAttention with padding": (lambda: layers.WindowAttention(6, 2, (4, 5), (2, 3), shift=(1, 0)), (2, 4, 5, 6)),
    "WindowAttention with a shift": (lambda: layers.WindowAttention(6, 2, (6, 3), 3, shift=1), (2, 6, 3, 6)),
    "Block of which one token is read": (lambda: layers.Block(width=12, heads=2, mlp_ratio=2, output_tokens=1),
                                         (2, 5, 12)),
    "Block with a relative bias, of which one token is read":
        (lambda: layers.Block(width=12, heads=2, mlp_ratio=2, grid=(2, 2, 1), output_tokens=1), (2, 5, 12)),
    "Block with windows": (
        lambda: layers.Block(6, 2, 2, attn=layers.WindowAttention(6, 2, 4, 2, shift=1), eps=1e-5),
                (2, 4, 4, 6)),
    "Block that recomputes": (lambda: _recomputing(layers.Block(6, 3, 2)), (2, 5, 6)),
    "Stage": (lambda: layers.Stage([layers.ResidualBlock(4, 6, stride=2, groups=2),
                                    layers.ResidualBlock(6, 6, groups=2)]), (2, 5, 4, 4)),
    "Stage after a merging": (
        lambda: layers.Stage([layers.Block(6, 2, 2, attn=layers.WindowAttention(6, 2, 2, 2))],
                                                    layers.PatchMerging(3)), (2, 4, 4, 3)),
    "PatchMerging": (lambda: layers.PatchMerging(5), (2, 4, 6, 5)),
    "MeanHead": (lambda: layers.MeanHead(5, 7), (2, 3, 4, 5)),
    "Heads": (lambda: layers.Heads([layers.Linear(5, 4), layers.Linear(5, 4)]), (3, 1, 2, 5)),
    "StdConvolution": (lambda: layers.StdConvolution(2, 5, size=3, stride=2, padding=1), (2, 5, 4, 2)),
    "StdConvolution of many channels": (lambda: layers.StdConvolution(16, 16, size=3, padding=1), (2, 3, 4, 16)),
    "GroupNormReLU": (lambda: layers.GroupNormReLU(6, groups=2), (2, 3, 4, 6)),
    "Shortcut": (lambda: layers.Shortcut(3, 5, stride=2), (2, 5, 4, 3)),
    "ResidualBlock": (lambda: layers.ResidualBlock(4, 4, groups=2), (2, 4, 5, 4)),
    "ResidualBlock that halves": (lambda: layers.ResidualBlock(4, 6, stride=2, groups=2), (2, 5, 4, 4)),
    "ResidualBlock with a bottleneck": (lambda: layers.ResidualBlock(16, 16, bottleneck=True, groups=2), (2, 3, 4, 16)),
    "ResidualBlock in training": (lambda: _in_training(layers.ResidualBlock(4, 16, 2, True, 2, drop_path_rate=0.4)),
                                  (3, 4, 3, 4)),
    "Dropout": (lambda: layers.Dropout(0.5), (3, 4)),
    "DropPath": (lambda: layers.DropPath(0.5), (3, 4)),
    "Dropout in training": (lambda: _in_training(layers.Dropout(0.5)), (3, 4)),
    "DropPath in training": (lambda: _in_training(layers.DropPath(0.5)), (3, 4)),
    "Block in training": (
        lambda: _in_training(layers.Block(width=6, heads=3, mlp_ratio=2, drop_rate=0.2, drop_path_rate=0.4)),
                 (3, 5, 6)),
}

_SMALL: dict = {"image_size": 6, "patch_size": 3, "channels": 3, "classes": 5, "width": 12, "depth": 2, "heads": 3,
                "mlp_ratio": 2}
_SWIN: dict = {"image_size": 4, "patch_size": 1, "channels": 3, "classes": 5, "width": 6, "depths": [2, 1],
               "heads": [2, 3], "window": 2,
               "mlp_ratio": 2}
_SMALL_CNN: dict = {"image_size": 9, "channels": 3, "classes": 5, "width": 4, "layers": [1, 1], "groups": 2}
MODELS: dict[str, dict] = {                                           # options of `create_model`
    "vit": _SMALL,
    "vit by mean": _SMALL | {"pool": "mean"},
    "vit with sin-cos positions": _SMALL | {"positions": "sincos"},
    "vit without positions, by mean": _SMALL | {"positions": "none", "pool": "mean"},
    "extended_vit with registers": _SMALL | {"registers": 2},
    "extended_vit by mean, with normed queries": _SMALL | {"registers": 2, "pool": "mean", "qk_norm": True},
    "extended_vit by mean of normed tokens": _SMALL | {"class_token": False, "pool": "mean", "norm_first": True,
                                                       "eps": 1e-3},
    "extended_vit with a class token, by mean": _SMALL | {"pool": "mean", "qk_norm": True, "depth": 1},
    "extended_vit with rotary positions": _SMALL | {"positions": "rotary"},
    "extended_vit with everything": _SMALL | {
        "patch_size": 2, "positions": "learned+rotary", "registers": 2, "layer_scale": 0.3, "qk_norm": True,
        "relative_bias": True, "stem": "conv", "pool": "mean"},
    "vit of 3 x 3 patches": _SMALL | {"patch_size": 2},
    "vit with relative biases": _SMALL | {"relative_bias": True},
    "vit with a stem": _SMALL | {"stem": "conv", "patch_size": 2},
    "deit": _SMALL | {"patch_size": 2},
    "vit with a stem of full resolution": _SMALL | {"stem": "conv-full", "patch_size": 2},
    "deit with a stem": _SMALL | {"patch_size": 2, "stem": "conv", "positions": "sincos"},
    "swin": _SWIN,
    "vit of oblong images": _SMALL | {"image_size": (3, 9), "relative_bias": True},
    "vit of signals": _SMALL | {"image_size": (1, 12), "patch_size": (1, 4), "positions": "sincos"},
    "swin of oblong images": _SWIN | {"image_size": (3, 5), "window": (2, 3)},
    "swin of one stage": _SWIN | {"depths": [2], "heads": [2]},
    "vit with both, by mean": _SMALL | {"stem": "conv", "patch_size": 2, "relative_bias": True, "pool": "mean"},
    "resnet": _SMALL_CNN,
    "resnet of basic blocks": _SMALL_CNN | {"layers": [1, 2], "block": "basic", "reduction": 2},
    "resnet without a stride in the stem": _SMALL_CNN | {"layers": [1, 1], "block": "basic", "reduction": 1,
                                                         "image_size": 4},
}


def _first_word(name):
    """Return the name up to the first blank or comma."""
    return re.split(r"[ ,]", name)[0]


def arguments_of(case: Op, draw: Callable) -> dict[str, Any]:
    """Return all arguments of an op's forward by name: inputs from `draw(shape)`, constants, and defaults."""
    given = {name: draw(shape) for name, shape in case.shapes.items()} | case.constants
    defaults = inspect.signature(case.op.reference_forward).parameters
    return {name: given.get(name, p.default) for name, p in defaults.items()}


@dataclass(frozen=True)
class Check:
    """One entry to check. kind: "reference" or "fast" (a pair of functions of an op), "layer" or "model".

    make() -> target. draw(rng) -> inputs. constants: names of inputs without a gradient.
    """

    name: str
    kind: str
    make: Callable
    draw: Callable
    constants: tuple = ()

    @property
    def family(self) -> str:
        """The op's module, the layer's class, or the model's family."""
        return _first_word(self.name)

    def inputs(self, seed: int = 0) -> list:
        """Return the list of inputs for a seed."""
        return self.draw(np.random.default_rng([seed, zlib.crc32(self.name.encode())]))

    def report(self, target: Any = None, seed: int = 0, **options: Any) -> Report:
        """Run `gradcheck` on the target, or on another one in its place, with its inputs and these options."""
        return gradcheck(self.make() if target is None else target, *self.inputs(seed), constants=self.constants,
                         seed=seed, **options)


def _of_op(name, kind):
    """Make the check of an op's pair."""
    case = OPS[name]
    return Check(name, kind, lambda: tuple(getattr(case.op, function) for function in PAIRS[kind]),
                 lambda rng: list(arguments_of(case, rng.standard_normal).values()), tuple(case.constants))


def _of_layer(name):
    """Make the check of a layer."""
    make, shape = LAYERS[name]
    return Check(name, "layer", make, lambda rng: [] if shape is None else [rng.standard_normal(shape)])


def _of_model(name):
    """Make the check of a model."""
    options = MODELS[name]
    shape = (3, *pair(options["image_size"]), options["channels"])
    return Check(name, "model", lambda: create_model(_first_word(name), **options),
                 lambda rng: [rng.standard_normal(shape)])


LIST_OF_FAMILIES = "minivit.gradcheck_catalogue.catalogue.families()"            # as error messages name it
CHECKS = [*(_of_op(name, kind) for name in OPS for kind in PAIRS), *map(_of_layer, LAYERS), *map(_of_model, MODELS)]


def families() -> dict[str, list[str]]:
    """Return the names of the ops, the layers and the model families: {"ops": [...], "layers": [...], "models": [...]}.
    """
    kinds = {"ops": "fast", "layers": "layer", "models": "model"}
    return {group: list(dict.fromkeys(check.family for check in CHECKS if check.kind == kind))
            for group, kind in kinds.items()}


def select(names: Sequence[str] = ()) -> list[Check]:
    """Return the checks of these families or names; all without names. Raises ValueError for an unknown name."""
    known = {name for check in CHECKS for name in (check.family, check.name)}
    for name in names:
        if name not in known:
            groups = [f"{len(found)} {group} such as {found[0]}" for group, found in families().items()]
            raise UnknownName("op, layer or model", name, [*groups, f"see {LIST_OF_FAMILIES}"],
                              suggestion(name, sorted(known)))
    return [check for check in CHECKS if not names or check.name in names or check.family in names]
