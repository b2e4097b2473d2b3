"""The ONNX nodes of each model. Each function adds the nodes that compute what the model's `forward` computes.

Read `layers.py` and the models before. A function takes the name of the normalised images (B, C, H, W), and returns the
name of the logits (B, K).
"""

from collections.abc import Callable

import numpy as np

from ...layers import Stage
from ...models import DeiT, ExtendedViT, ResNet, Swin, ViT
from ...models.resnet import Head, Stem
from ...models.swin import _NormedPatchEmbed
from . import layers
from .graph import Graph


def _encode(graph, model, images):
    """images (B, C, H, W) -> tokens (B, N, D), or as many as the last block computes. Eq. 1, 2 and 3 of the ViT."""
    x = graph.layer(model.patch_embed, images)                        # (B, M, D)
    if model.prefix:                                                  # room for the prefix tokens: zeros before x
        x = graph.node("Pad", x, graph.integers([0, model.prefix, 0, 0, 0, 0]))
    added = np.zeros((model.tokens, model.width), np.float32)
    added[:model.prefix] = [token.data for token in model.prefix_tokens] if model.prefix else 0
    positions = model._positions()
    if positions is not None:
        added += positions
    if added.any():
        x = graph.node("Add", x, graph.array(added, "prefix_and_positions"))
    for block in model.blocks:
        x = graph.layer(block, x)
    return x


def vit(graph: Graph, model: ViT, images: str) -> str:
    """A ViT."""
    x = _encode(graph, model, images)
    pooled = graph.take(x, 0, axis=1) if model.pool == "token" else graph.node("ReduceMean", x, axes=[1], keepdims=0)
    return graph.layer(model.head, graph.layer(model.norm or model.fc_norm, pooled))          # Eq. 4


def extended_vit(graph: Graph, model: ExtendedViT, images: str) -> str:
    """An extended ViT."""
    if model.pool == "token":
        return vit(graph, model, images)
    x = _encode(graph, model, images)
    x = graph.layer(model.norm, x) if model.norm else x
    patches = graph.take(x, np.arange(model.prefix, model.tokens), axis=1) if model.prefix else x
    y = graph.node("ReduceMean", patches, axes=[1], keepdims=0)
    return graph.layer(model.head, graph.layer(model.fc_norm, y) if model.fc_norm else y)


def deit(graph: Graph, model: DeiT, images: str) -> str:
    """A DeiT: the mean of two heads."""
    y = graph.layer(model.norm, _encode(graph, model, images))
    logits = [graph.layer(head, graph.take(y, i, axis=1)) for i, head in enumerate((model.head, model.head_dist))]
    return graph.node("Mul", graph.node("Add", *logits), graph.number(0.5))


def swin(graph: Graph, model: Swin, images: str) -> str:
    """A Swin."""
    x = graph.reshape(graph.layer(model.patch_embed, images), -1, *model.grid, model.width)
    for i, stage in enumerate(model.layers):
        if stage.downsample:
            x = graph.layer(stage.downsample, x, *model.stage_grid(i - 1))
        for block in stage.blocks:
            x = graph.layer(block, x)
    return graph.layer(model.head, graph.layer(model.norm, x))


def resnet(graph: Graph, model: ResNet, images: str) -> str:
    """A ResNet."""
    x = graph.layer(model.stem, images)
    for stage in model.stages:
        x = graph.layer(stage, x)
    return graph.layer(model.head, graph.layer(model.norm, x))


def normed_patch_embed(graph: Graph, layer: _NormedPatchEmbed, images: str) -> str:
    """(B, C, H, W) -> (B, M, D)."""
    return graph.layer(layer.norm, layers.patch_embed(graph, layer, images))


def stage(graph: Graph, layer: Stage, x: str) -> str:
    """Blocks of a ResNet: (B, C, H, W) -> (B, D, H', W')."""
    for block in layer.blocks:
        x = graph.layer(block, x)
    return x


def stem(graph: Graph, layer: Stem, images: str) -> str:
    """(B, C, H, W) -> (B, D, H', W'). The zeros around the image take part in the pooling, see `ops/max_pooling.py`."""
    x = graph.layer(layer.conv, images)
    if layer.pools:
        padded = graph.node("Pad", x, graph.integers([0, 0, 1, 1, 0, 0, 1, 1]))
        x = graph.node("MaxPool", padded, kernel_shape=[3, 3], strides=[2, 2])
    return x


def head(graph: Graph, layer: Head, x: str) -> str:
    """(B, D, H, W) -> (B, K)."""
    return graph.node("Flatten", graph.layer(layer.fc, graph.node("GlobalAveragePool", x)))


WRITERS: dict[type, Callable[..., str]] = layers.WRITERS | {
    ViT: vit, ExtendedViT: extended_vit, DeiT: deit, Swin: swin, ResNet: resnet, _NormedPatchEmbed: normed_patch_embed,
    Stage: stage, Stem: stem, Head: head,
}
