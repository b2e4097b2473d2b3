"""Layers: they hold the weights, and remember from the forward what the backward needs.

Read `parameter` and `layer` first (the two ideas), then `linear`, `norm`, `attention`, `mlp`, and `block`, which puts them
together as the papers do.
"""

from .attention import Attention
from .block import Block
from .convolution import Convolution, StdConvolution
from .dropout import Dropout, DropPath
from .embed import ConvStem, PatchEmbed
from .head import Heads, MeanHead
from .layer import Layer
from .linear import Linear
from .mlp import GELU, MLP
from .norm import GroupNormReLU, LayerNorm
from .parameter import Parameter
from .relative_bias import RelativeBias
from .residual import ResidualBlock, Shortcut
from .stage import Stage
from .window import PatchMerging, WindowAttention

__all__ = ["GELU", "MLP", "Attention", "Block", "ConvStem", "Convolution", "DropPath", "Dropout", "GroupNormReLU", "Heads", "Layer",
           "LayerNorm", "Linear", "MeanHead", "Parameter", "PatchEmbed", "PatchMerging", "RelativeBias", "ResidualBlock", "Shortcut",
           "Stage", "StdConvolution", "WindowAttention"]
