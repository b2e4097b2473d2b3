"""The papers' architectures, and the table of named variants."""

from .create import VARIANTS, create_model, describe_models
from .resnet import ResNet
from .vit import ViT

__all__ = ["VARIANTS", "ResNet", "ViT", "create_model", "describe_models"]
