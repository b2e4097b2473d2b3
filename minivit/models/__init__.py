"""The papers' architectures, and the table of named variants."""

from .create import VARIANTS, create_model, describe_models
from .deit import DeiT
from .extended_vit import ExtendedViT
from .resnet import ResNet
from .swin import Swin
from .vit import ViT

__all__ = ["VARIANTS", "DeiT", "ExtendedViT", "ResNet", "Swin", "ViT", "create_model", "describe_models"]
