"""Layers hold the weights, and store in the forward what the backward needs.

Read `parameter` and `layer` first: they hold the two ideas. Then `linear`, `norm`, `attention` and `mlp`, and `block`,
which combines them as the papers do.
"""

from .attention import Attention
from .attention_variants import AttentionVariant
from .block import Block
from .conv_stem import ConvStem
from .convolution import Convolution, StdConvolution
from .dropout import Dropout, DropPath
from .group_norm import GroupNormReLU
from .head import Heads, MeanHead
from .layer import Layer
from .layer_scale import LayerScale, ScaledBlock
from .linear import Linear
from .mlp import GELU, MLP
from .norm import LayerNorm
from .normed_attention import NormedAttention
from .parameter import Parameter
from .patch_embed import PatchEmbed
from .patch_merging import PatchMerging
from .relative_bias import RelativeBias
from .resnet_block import ResidualBlock, Shortcut
from .rotary_attention import NormedRotaryAttention, RotaryAttention
from .stage import Stage
from .window import WindowAttention

__all__ = [
    "GELU", "MLP", "Attention", "AttentionVariant", "Block", "ConvStem", "Convolution", "DropPath", "Dropout",
    "GroupNormReLU", "Heads", "Layer", "LayerNorm", "LayerScale", "Linear", "MeanHead", "NormedAttention",
    "NormedRotaryAttention", "Parameter", "PatchEmbed", "PatchMerging", "RelativeBias", "ResidualBlock",
    "RotaryAttention", "ScaledBlock", "Shortcut", "Stage", "StdConvolution", "WindowAttention",
]
