"""Features: what a model computes of an image before its classifier, for search, clustering and other classifiers.

    features = backbone(images)             (B, n D), for n classifiers: 2 in DeiT, 1 in all other models
    tokens   = token_backbone(images)       (B, N, D), before the pooling

Read `model.py` and `linear_probe.py` before.
"""

import math
from typing import Any

import numpy as np

from ..layers import Block, Layer
from ..parallel.prediction import predict
from .linear_probe import Backbone, Identity
from .other_sizes import at_size_of
from .vit import ViT


def features_of(model: Any, images: np.ndarray, tokens: bool = False, threads: int | None = None) -> np.ndarray:
    """Return the features of images. See `ModelInterface.features`."""
    model = at_size_of(model, images)
    model.check(images)
    if tokens:
        backbone = TokenBackbone(model)
        return predict(backbone, images, threads).reshape(len(images), *backbone.shape)
    read = Backbone(model)
    return predict(read, images, threads).reshape(len(images), read.heads, read.classes // read.heads).mean(axis=1)


class TokenBackbone(Layer):
    """A model up to its pooling, for inference: images (B, H, W, C) -> tokens (B, N D). It shares the weights.

    Parameters
    ----------
    model : Model
        A model of one of the families.

    Attributes
    ----------
    shape : tuple of int
        (N, D).
    """

    def __init__(self, model: Any) -> None:
        self.model, self.matmul_rows = model.inference_view(), model.matmul_rows
        for _, layer in self.model.named_layers():
            if isinstance(layer, Block) and layer.output_tokens:
                layer.set_output_tokens(None)                         # the last block, too, computes all
        if not isinstance(model, ViT):
            self.model.head = Identity()                              # which has the pooling
        self.shape = self._tokens(np.zeros((1, *model.input_shape), np.uint8)).shape[1:]
        self.classes = math.prod(self.shape)                          # width of the output, for `prediction.predict`

    def _tokens(self, images):
        """images (B, H, W, C) -> tokens (B, N, D)."""
        if isinstance(self.model, ViT):
            x, _ = self.model._encode(images)
            return self.model.norm.forward(x) if self.model.norm else x    # the norm after the mean is no token's
        x = self.model.forward(images)
        return x.reshape(len(x), -1, x.shape[-1])

    def forward(self, images: np.ndarray) -> np.ndarray:
        """images (B, H, W, C) -> tokens (B, N D)."""
        return self._tokens(images).reshape(len(images), -1)
