"""Floating-point operations of each family: two for each multiply-add in the matrix products of one image's forward.

Norms, softmax and activations are not counted: they are few, and how many depends on the implementation. These counts
need only the sizes of a model; `summary.py` counts the same products while a blank image runs through the model.
"""

from typing import Any

from ..layers import ConvStem, PatchEmbed, PatchMerging, StdConvolution


def _block(N: int, D: int, F: int, attended: int) -> int:
    """Return the multiply-adds of a transformer block of N tokens, each of which attends to `attended` tokens."""
    return N * D * 3 * D + 2 * N * attended * D + N * D * D + 2 * N * D * F    # qkv; q k^T and probs v; proj; MLP


def _embedding(layer: PatchEmbed | ConvStem, patches: int) -> int:
    """Return the multiply-adds of the layer that makes the tokens of an image."""
    if isinstance(layer, PatchEmbed):
        return patches * layer.proj.weight.size
    products, places = 0, patches * layer.patch_size**2
    for conv in layer.convs:
        places //= conv.stride**2
        products += places * conv.weight.size
    return products


def of_vit(model: Any) -> int:
    """Return the FLOPs of a `ViT`. All tokens of the last block count."""
    N, D, F = model.tokens, model.width, model.blocks[0].mlp.fc1.weight.shape[1]
    products = _embedding(model.patch_embed, model.side**2) + len(model.blocks) * _block(N, D, F, N) + D * model.classes
    return 2 * products


def of_swin(model: Any) -> int:
    """Return the FLOPs of a `Swin`."""
    products = _embedding(model.patch_embed, model.tokens) + model.head.fc.weight.size
    for i, stage in enumerate(model.layers):
        N, D = model.tokens >> 2 * i, model.width << i
        for block in stage.blocks:
            products += _block(N, D, block.mlp.fc1.weight.shape[1], block.attn.side**2)
        if isinstance(stage.downsample, PatchMerging):
            products += N * stage.downsample.reduction.weight.size
    return 2 * products


def of_resnet(model: Any) -> int:
    """Return the FLOPs of a `ResNet`."""
    side = halved(model.image_size, 1 if model.reduction > 1 else 0)
    products = side**2 * model.stem.conv.weight.size
    side = halved(side, 1 if model.reduction == 4 else 0)
    for stage in model.stages:
        for path, conv in stage.named_layers():
            if isinstance(conv, StdConvolution):
                output = halved(side, conv.stride - 1)
                products += output**2 * conv.weight.size
                side = side if "downsample" in path else output       # a shortcut comes first in its block
    return 2 * (products + model.head.fc.weight.size)


def halved(side: int, times: int) -> int:
    """Return the side of a map after this number of strides of 2."""
    for _ in range(times):
        side = (side + 1) // 2
    return side
