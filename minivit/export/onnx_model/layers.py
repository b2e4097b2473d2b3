"""The ONNX nodes of each layer. Each function adds the nodes that compute what the layer's `forward` computes.

Read `graph.py` and the layers before. Tokens are (B, N, D), as in the layers, and Swin's grid of tokens is (B, H, W,
D). Maps are (B, C, H, W), because the operator Conv has the channels first. The batch size B is not written into the
graph: a shape has 0 (as before) or -1 (what is left) in its place. Dropout and drop-path act in training only, so they
have no nodes.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from ... import layers
from ...ops import relative_bias, rotary, weight_standardisation, windows
from .attention import Merge, Step
from .graph import Graph


def linear(graph: Graph, layer: layers.Linear, x: str) -> str:
    """(..., in) -> (..., out)."""
    y = graph.node("MatMul", x, graph.weight(layer.weight))
    return graph.node("Add", y, graph.weight(layer.bias)) if layer.bias else y


def layer_norm(graph: Graph, layer: layers.LayerNorm, x: str) -> str:
    """(..., D) -> (..., D)."""
    return graph.node("LayerNormalization", x, graph.weight(layer.weight), graph.weight(layer.bias), axis=-1,
                      epsilon=layer.eps)


def mlp(graph: Graph, layer: layers.MLP, x: str) -> str:
    """(..., D) -> (..., D)."""
    return graph.layer(layer.fc2, graph.layer(layer.act, graph.layer(layer.fc1, x)))


def gelu(graph: Graph, layer: layers.GELU, x: str) -> str:
    """GELU(x) = x (1 + erf(x / sqrt 2)) / 2. In this order onnxruntime makes one operator of the five nodes."""
    erf = graph.node("Erf", graph.node("Div", x, graph.number(math.sqrt(2))))
    return graph.node("Mul", graph.node("Mul", x, graph.node("Add", erf, graph.number(1))), graph.number(0.5))


def block(graph: Graph, layer: layers.Block, x: str) -> str:
    """(B, N, D) -> (B, T, D), with T = N unless the block computes the first tokens only."""
    y = graph.layer(layer.attn, graph.layer(layer.norm1, x))
    x = graph.node("Add", x if layer.output_tokens is None else graph.first(x, layer.output_tokens), y)      # Eq. 2
    return graph.node("Add", x, graph.layer(layer.mlp, graph.layer(layer.norm2, x)))                         # Eq. 3


def scaled_block(graph: Graph, layer: layers.ScaledBlock, x: str) -> str:
    """(B, N, D) -> (B, T, D), as `block`, with a factor for each number of a branch."""
    y = graph.layer(layer.ls1, graph.layer(layer.attn, graph.layer(layer.norm1, x)))
    x = graph.node("Add", x if layer.output_tokens is None else graph.first(x, layer.output_tokens), y)      # Eq. 2
    return graph.node("Add", x, graph.layer(layer.ls2, graph.layer(layer.mlp, graph.layer(layer.norm2, x))))  # Eq. 3


def layer_scale(graph: Graph, layer: layers.LayerScale, x: str) -> str:
    """(..., D) -> (..., D)."""
    return graph.node("Mul", x, graph.weight(layer.gamma))


def attention(graph: Graph, layer: layers.Attention, x: str) -> str:
    """(B, N, D) -> (B, N, D)."""
    y, probs = _attend(graph, layer.heads, layer.proj.weight.shape[0], graph.layer(layer.qkv, x))
    graph.attention.append(Step(probs))
    return graph.layer(layer.proj, y)


def attention_variant(graph: Graph, layer: layers.AttentionVariant, x: str) -> str:
    """(B, N, D) -> (B, T, D)."""
    bias = layer.bias()                                               # (h, T, N) or None
    name = layer.qkv.weight.name.removesuffix("qkv.weight") + "relative_position_bias"
    y, probs = _attend(graph, layer.heads, layer.proj.weight.shape[0], graph.layer(layer.qkv, x),
                       None if bias is None else graph.array(bias, name), queries=layer.queries.stop,
                       between=partial(_between, layer))
    graph.attention.append(Step(probs, queries=layer.queries.stop))
    return graph.layer(layer.proj, y)


def window_attention(graph: Graph, layer: layers.WindowAttention, x: str) -> str:
    """(B, H, W, D) -> (B, H, W, D). One Gather shifts tokens and brings them into windows; another one undoes it."""
    (H, W), n, D = layer.grid, math.prod(layer.window), layer.proj.weight.shape[0]
    order, inverse = windows.permutation(layer.grid, layer.window, layer.shift)
    x, order = _with_padding(graph, graph.reshape(x, -1, H * W, D), order, H * W)
    x = graph.reshape(graph.take(x, order, axis=1), -1, n, D)         # (B G, n, D)
    table = layer.relative_position_bias_table
    bias = graph.array(relative_bias.forward(table.data, *layer.window)[0], table.name.removesuffix("_table"))
    mask, G = None, len(order) // n
    if any(layer.shift):
        mask = graph.shared(windows.mask(layer.grid, layer.window, layer.shift)[:, None], "mask")     # (G, 1, n, n)
    y, probs = _attend(graph, layer.heads, D, graph.layer(layer.qkv, x), bias, None, mask, G, n)
    graph.attention.append(Step(probs, order=order, inverse=inverse, windows=G, tokens=H * W))
    y = graph.reshape(graph.layer(layer.proj, y), -1, G * n, D)
    return graph.reshape(graph.take(y, inverse, axis=1), -1, H, W, D)


def _with_padding(graph, x, order, tokens):
    """Return x (B, N, D), with a token of zeros at the end if windows need padding, and the order with its number."""
    if (order >= 0).all():
        return x, order
    return graph.node("Pad", x, graph.integers([0, 0, 0, 0, 1, 0])), np.where(order < 0, tokens, order)


def _between(layer, graph, q, k):
    """Add what happens to queries and keys (B, N, h, d) between the linear map and attention, and return their names.
    """
    if isinstance(layer, layers.NormedAttention):
        q, k = graph.layer(layer.q_norm, q), graph.layer(layer.k_norm, k)
    if not isinstance(layer, layers.RotaryAttention):
        return q, k
    rows, columns, prefix = layer.places
    table = rotary.turns(prefix + rows * columns, layer.proj.weight.shape[0] // layer.heads, rows, columns,
                         layer.spacing)
    cos, sin = (graph.shared(x[:, None], name) for x, name in zip(table, ("cosines", "sines"), strict=True))
    return tuple(_turned(graph, x, cos, sin) for x in (q, k))


def _turned(graph, x, cos, sin):
    """Rotate the planes of x (B, N, h, d) by angles, whose cosines and sines are (N, 1, d / 2)."""
    a, b = graph.split("Split", x, axis=-1, outputs=2)
    (a_cos, b_sin), (a_sin, b_cos) = ([graph.node("Mul", x, factor) for x, factor in zip((a, b), pair, strict=True)]
                                      for pair in ((cos, sin), (sin, cos)))
    return graph.node("Concat", graph.node("Sub", a_cos, b_sin), graph.node("Add", a_sin, b_cos), axis=-1)


def _attend(graph, heads, width, qkv, bias=None, queries=None, mask=None, windows=1, n=0, between=None):
    """Add the attention of qkv (B, N, 3 D), and return the names of y (B, T, D) and of the probabilities (B, h, T, N).

    bias (h, T, N) is added to the scores. queries: T, if fewer than N. mask (G, 1, n, n) is added, too, if the batch
    consists of the G windows of n tokens of each image. between: what happens to the queries and keys first.
    """
    q, k, v = (graph.reshape(part, 0, 0, heads, width // heads) for part in graph.split("Split", qkv, axis=-1,
                                                                                        outputs=3))
    if between:
        q, k = between(graph, q, k)
    q = graph.transpose(q if queries is None else graph.first(q, queries), 0, 2, 1, 3)         # (B, h, T, d)
    k, v = graph.transpose(k, 0, 2, 3, 1), graph.transpose(v, 0, 2, 1, 3)
    scores = graph.node("Mul", graph.node("MatMul", q, k), graph.number(1 / math.sqrt(width // heads)))
    if bias:
        scores = graph.node("Add", scores, bias)
    if mask:
        by_window = graph.reshape(scores, -1, windows, heads, n, n)
        scores = graph.reshape(graph.node("Add", by_window, mask), -1, heads, n, n)
    probs = graph.node("Softmax", scores, axis=-1)
    y = graph.transpose(graph.node("MatMul", probs, v), 0, 2, 1, 3)   # (B, T, h, d)
    return graph.reshape(y, 0, 0, width), probs


def patch_embed(graph: Graph, layer: layers.PatchEmbed, images: str) -> str:
    """(B, C, H, W) -> (B, M, D). The linear map of the patches is a convolution whose filter does not overlap."""
    weight = layer.proj.weight
    filters = _filters(weight.data.reshape(*layer.patch_size, -1, weight.shape[-1]))
    assert layer.proj.bias
    x = graph.node("Conv", images, graph.array(filters, weight.name), graph.weight(layer.proj.bias),
                   strides=layer.patch_size)
    return _tokens(graph, x, weight.shape[-1])


def conv_stem(graph: Graph, layer: layers.ConvStem, images: str) -> str:
    """(B, C, H, W) -> (B, M, D)."""
    x = graph.layer(layer.convs[0], images)
    for norm, conv in zip(layer.norms, layer.convs[1:], strict=True):
        y = graph.layer(conv, graph.layer(norm, x))
        x = graph.node("Add", x, y) if conv.stride == 1 else y
    return _tokens(graph, x, layer.convs[-1].weight.shape[-1])


def _tokens(graph, x, width):
    """(B, D, H, W) -> tokens (B, H W, D)."""
    return graph.transpose(graph.reshape(x, 0, width, -1), 0, 2, 1)


def _filters(weight):
    """(k, k, C, D) -> (D, C, k, k)."""
    return weight.transpose(3, 2, 0, 1)


def convolution(graph: Graph, layer: layers.Convolution, x: str) -> str:
    """(B, C, H, W) -> (B, D, H', W')."""
    filters = graph.array(_filters(layer.weight.data), layer.weight.name)
    return graph.node("Conv", x, filters, graph.weight(layer.bias), strides=2 * [layer.stride],
                      pads=4 * [layer.padding])


def std_convolution(graph: Graph, layer: layers.StdConvolution, x: str) -> str:
    """(B, C, H, W) -> (B, D, H', W'). The filters are standardised once, here."""
    filters, _ = weight_standardisation.forward(layer.weight.data)
    return graph.node("Conv", x, graph.array(_filters(filters), layer.weight.name), strides=2 * [layer.stride],
                      pads=4 * [layer.padding])


def group_norm_relu(graph: Graph, layer: layers.GroupNormReLU, x: str) -> str:
    """(B, C, H, W) -> (B, C, H, W). A group norm is an instance norm of (B, G, C / G * H * W), then scale and shift."""
    ones, zeros = (graph.shared(np.full(layer.groups, value), name) for value, name in ((1, "ones"), (0, "zeros")))
    grouped = graph.reshape(x, 0, layer.groups, -1)
    normed = graph.node("InstanceNormalization", grouped, ones, zeros, epsilon=layer.eps)
    y = graph.node("Reshape", normed, graph.node("Shape", x))
    scale, shift = (graph.array(p.data[:, None, None], p.name) for p in (layer.weight, layer.bias))
    return graph.node("Relu", graph.node("Add", graph.node("Mul", y, scale), shift))


def residual_block(graph: Graph, layer: layers.ResidualBlock, x: str) -> str:
    """(B, C, H, W) -> (B, D, H', W')."""
    a = graph.layer(layer.norm1, x)
    beside = graph.layer(layer.downsample.conv, a) if layer.downsample else x
    y = graph.layer(layer.conv2, graph.layer(layer.norm2, graph.layer(layer.conv1, a)))
    if layer.conv3 and layer.norm3:
        y = graph.layer(layer.conv3, graph.layer(layer.norm3, y))
    return graph.node("Add", y, beside)


def patch_merging(graph: Graph, layer: layers.PatchMerging, x: str, rows: int, columns: int) -> str:
    """(B, H, W, D) -> (B, H/2, W/2, 2 D), rounded up, for H rows and W columns of tokens."""
    D, H, W = layer.reduction.weight.shape[0] // 4, -(-rows // 2), -(-columns // 2)
    if rows % 2 or columns % 2:
        x = graph.node("Pad", x, graph.integers([0, 0, 0, 0, 0, rows % 2, columns % 2, 0]))
    x = graph.transpose(graph.reshape(x, -1, H, 2, W, 2, D), 0, 1, 3, 4, 2, 5)                  # column by column
    graph.attention.append(Merge(rows, columns))
    return graph.layer(layer.reduction, graph.layer(layer.norm, graph.reshape(x, -1, H, W, 4 * D)))


def mean_head(graph: Graph, layer: layers.MeanHead, x: str) -> str:
    """(B, H, W, D) -> (B, K)."""
    return graph.layer(layer.fc, graph.node("ReduceMean", x, axes=[1, 2], keepdims=0))


WRITERS: dict[type, Callable[..., str]] = {
    layers.Attention: attention, layers.AttentionVariant: attention_variant, layers.Block: block,
    layers.ConvStem: conv_stem, layers.Convolution: convolution, layers.GELU: gelu,
    layers.GroupNormReLU: group_norm_relu, layers.LayerNorm: layer_norm, layers.Linear: linear,
    layers.LayerScale: layer_scale, layers.MLP: mlp, layers.MeanHead: mean_head, layers.ScaledBlock: scaled_block,
    layers.NormedAttention: attention_variant, layers.RotaryAttention: attention_variant,
    layers.NormedRotaryAttention: attention_variant,
    layers.PatchEmbed: patch_embed, layers.PatchMerging: patch_merging,
    layers.ResidualBlock: residual_block, layers.StdConvolution: std_convolution,
    layers.WindowAttention: window_attention,
}
