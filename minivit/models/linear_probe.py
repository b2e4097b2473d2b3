"""The linear probe: a model split into a backbone, which computes features, and classifiers, which read them.

    features = backbone(images)             (B, 1, n, D), for n classifiers: 2 in DeiT, 1 in all other models
    logits   = mean over the classifiers of their logits for the features

To train only the classifiers is to train a *linear probe*. It measures how much the backbone knows, and leaves the
backbone as it is. Since the features do not change, each image passes the backbone once, whatever the number of epochs.

Read `model.py` before. Source: Alain and Bengio, arXiv:1610.01644.
"""

from typing import Any

import numpy as np

from ..layers import Heads, Layer
from ..weight_formats.match import HEADS
from .model import Model


def _classifiers(model: Layer) -> list[tuple[Any, str, Any]]:
    """Return the classifiers at the end of a model: [(layer that holds it, its name there, the classifier)]."""
    found = []
    for path, layer in model.named_layers():
        for name, child in layer.children():
            place = f"{path}.{name}" if path else name
            if isinstance(child, Layer) and hasattr(child, "weight") and f"{place}.".startswith(HEADS):
                found.append((layer, name, child))
    return found


class Identity(Layer):
    """Returns its input, in the place of a layer that is left out."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (...) -> x."""
        return x


class Backbone(Layer):
    """A model without its classifiers, for inference: images (B, H, W, C) -> features (B, n D). It shares the weights.

    Parameters
    ----------
    model : Model
        Model with n classifiers that read features of width D.
    """

    def __init__(self, model: Any) -> None:
        self.model = model.inference_view()
        widths = [head.weight.shape[-2] for _, _, head in _classifiers(self.model)]
        for layer, name, _ in _classifiers(self.model):
            setattr(layer, name, Identity())
        self.matmul_rows, self.heads = model.matmul_rows, len(widths)
        self.classes = sum(widths)                                    # width of the output, for `prediction.predict`

    def forward(self, images: np.ndarray) -> np.ndarray:
        """images (B, H, W, C) -> features (B, n D)."""
        return self.model.forward_heads(images).reshape(len(images), -1)


class LinearProbe(Model):
    """The classifiers of a model, sharing their weights with it: features (B, 1, n, D) -> logits (B, K).

    Training the probe trains the classifiers of the model.

    Parameters
    ----------
    model : Model
        Model with n classifiers that read features of width D.
    """

    matmul_rows = 1

    def __init__(self, model: Any) -> None:
        super().__init__({"image_size": 1, "channels": 1, "classes": model.classes, "mean": 0.0, "std": 1.0})
        heads = [head for _, _, head in _classifiers(model)]
        self.input_shape = (1, len(heads), heads[0].weight.shape[-2])
        self.heads = Heads(heads)

    def forward(self, features: np.ndarray) -> np.ndarray:
        """features (B, 1, n, D) -> logits (B, K)."""
        return self.heads.forward(self.prepare(features))

    def backward(self, dlogits: np.ndarray) -> np.ndarray:
        """dlogits (B, K) -> dfeatures (B, 1, n, D)."""
        return self.heads.backward(dlogits)
