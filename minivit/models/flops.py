"""Floating-point operations of each family: two for each multiply-add in the matrix products of one image's forward.

Norms, softmax and activations are not counted: they are few, and how many depends on the implementation. These counts
need only the sizes of a model; `summary.py` counts the same products while a blank image runs through the model.
"""

import math
from typing import Any

from ..layers import ConvStem, PatchEmbed, PatchMerging, StdConvolution
from ..ops import windows


def _block(N: int, D: int, F: int, attended: int, padded: int = 0) -> int:
    """Return the multiply-adds of a transformer block of N tokens, each of which attends to `attended` tokens.

    padded: tokens in attention, if windows are padded; default: N.
    """
    M = padded or N
    return M * D * 3 * D + 2 * M * attended * D + M * D * D + 2 * N * D * F    # qkv; q k^T and probs v; proj; MLP


def _embedding(layer: PatchEmbed | ConvStem, patches: int) -> int:
    """Return the multiply-adds of the layer that makes the tokens of an image."""
    if isinstance(layer, PatchEmbed):
        return patches * layer.proj.weight.size
    products, places = 0, patches * math.prod(layer.patch_size)
    for conv in layer.convs:
        places //= conv.stride**2
        products += places * conv.weight.size
    return products


def of_vit(model: Any) -> int:
    """Return the FLOPs of a `ViT`. All tokens of the last block count."""
    N, D, F = model.tokens, model.width, model.blocks[0].mlp.fc1.weight.shape[1]
    products = _embedding(model.patch_embed, math.prod(model.grid)) + len(model.blocks) * _block(N, D, F, N)
    return 2 * (products + D * model.classes)


def of_swin(model: Any) -> int:
    """Return the FLOPs of a `Swin`."""
    products = _embedding(model.patch_embed, model.tokens) + model.head.fc.weight.size
    for i, stage in enumerate(model.layers):
        N, D = math.prod(model.stage_grid(i)), model.width << i
        for block in stage.blocks:
            window, F = block.attn.window, block.mlp.fc1.weight.shape[1]
            products += _block(N, D, F, math.prod(window), math.prod(windows.padded(block.attn.grid, window)))
        if isinstance(stage.downsample, PatchMerging):
            products += N * stage.downsample.reduction.weight.size
    return 2 * products


def of_resnet(model: Any) -> int:
    """Return the FLOPs of a `ResNet`."""
    sides = [halved(side, 1 if model.reduction > 1 else 0) for side in model.image_size]
    products = math.prod(sides) * model.stem.conv.weight.size
    sides = [halved(side, 1 if model.reduction == 4 else 0) for side in sides]
    for stage in model.stages:
        for path, conv in stage.named_layers():
            if isinstance(conv, StdConvolution):
                outputs = [halved(side, conv.stride - 1) for side in sides]
                products += math.prod(outputs) * conv.weight.size
                sides = sides if "downsample" in path else outputs    # a shortcut comes first in its block
    return 2 * (products + model.head.fc.weight.size)


def halved(side: int, times: int) -> int:
    """Return the side of a map after this number of strides of 2."""
    for _ in range(times):
        side = (side + 1) // 2
    return side
