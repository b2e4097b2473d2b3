"""A model in two: the trunk, which makes features of pictures, and its classifiers, which read them.

    features = trunk(images)                (B, 1, h, D), for h classifiers, which is one but in DeiT
    logits   = mean of the heads(features)

To train the classifiers alone is a *linear probe*: what the trunk knows is measured, and nothing is done to it. The features stay what
they are, so each picture goes through the trunk once, however many epochs follow.

Source: Alain and Bengio, arXiv:1610.01644, for probes of what a network knows.
"""

from ..layers import Heads, Layer
from ..weights.match import HEADS
from .model import Model


def _classifiers(model):
    """The layers at the end, whose parameters are the classifiers': [(the layer that has it, its name there, it)]."""
    found = []
    for path, layer in model.named_layers():
        for name, child in layer.children():
            place = f"{path}.{name}" if path else name
            if isinstance(child, Layer) and hasattr(child, "weight") and f"{place}.".startswith(HEADS):
                found.append((layer, name, child))
    return found


class _Through(Layer):
    """What it gets, as it is."""

    def forward(self, x):
        return x


class Backbone(Layer):
    """A model without its classifiers, to infer: images (B, H, W, C) -> features (B, h D), on the model's own weights."""

    def __init__(self, model):
        self.model = model.inference_view()
        widths = [head.weight.shape[-2] for _, _, head in _classifiers(self.model)]
        for layer, name, _ in _classifiers(self.model):
            setattr(layer, name, _Through())
        self.matmul_rows, self.shares_tokens, self.heads = model.matmul_rows, model.shares_tokens, len(widths)
        self.classes = sum(widths)                                    # the numbers it gives, to `predict`

    def forward(self, images):
        """images (B, H, W, C) -> features (B, h D)."""
        return self.model.forward_heads(images).reshape(len(images), -1)


class Probe(Model):
    """The classifiers of a model, with their own weights, which it shares: features (B, 1, h, D) -> logits (B, K).

    To train it is to train them where they are, in the model.
    """

    matmul_rows = 1

    def __init__(self, model):
        super().__init__({"image_size": 1, "channels": 1, "classes": model.classes, "mean": 0.0, "std": 1.0})
        heads = [head for _, _, head in _classifiers(model)]
        self.input_shape = (1, len(heads), heads[0].weight.shape[-2])
        self.heads = Heads(heads)

    def forward(self, features):
        """features (B, 1, h, D) -> logits (B, K)."""
        return self.heads.forward(self.prepare(features))

    def backward(self, dlogits):
        """dlogits (B, K) -> dfeatures (B, 1, h, D)."""
        return self.heads.backward(dlogits)
