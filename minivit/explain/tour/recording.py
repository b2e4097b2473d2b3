"""Record what every layer of a model computes, and the gradient that arrives at it.

Read `layers/layer.py` before. A layer's path, such as `blocks.2.attn.qkv`, names its output y and the gradient
dLoss/dy.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..partial_models import with_all_tokens


class Recording:
    """A replica of a model that keeps the output of every layer, and the gradient of the loss for that output.

    Every block computes all tokens, also those that the classifier does not read.

    Parameters
    ----------
    model : Model
        The model. It is not changed; its weights are shared.

    Attributes
    ----------
    model : Model
        The replica. Its parameters have gradients after `backward`.
    outputs, doutputs : dict of str to np.ndarray
        By path: what `forward` returned, and what `backward` was given. The path of the model itself is empty.
    """

    def __init__(self, model: Any) -> None:
        self.model = with_all_tokens(model)
        self.outputs: dict[str, np.ndarray] = {}
        self.doutputs: dict[str, np.ndarray] = {}
        for path, layer in list(self.model.named_layers()):
            layer.forward = self._recorded(layer.forward, self.outputs, path)    # type: ignore[method-assign]
            layer.backward = self._recorded(layer.backward, self.doutputs, path, argument=True)    # type: ignore

    @staticmethod
    def _recorded(method: Callable, store: dict[str, np.ndarray], path: str, argument: bool = False) -> Callable:
        """Return a method that also stores its result or, with `argument`, its first argument."""
        def call(*inputs: Any) -> Any:
            if argument:
                store[path] = np.array(inputs[0])                     # a copy: later layers may add to the array
            result = method(*inputs)
            if not argument:
                store[path] = np.array(result)
            return result

        return call

    def forward(self, images: np.ndarray) -> np.ndarray:
        """Return the logits (B, K) of images (B, H, W, C)."""
        return self.model.forward(images)

    def backward(self, dlogits: np.ndarray) -> np.ndarray:
        """Return dimages (B, H, W, C), with respect to the normalised images, for dlogits (B, K)."""
        return self.model.backward(dlogits)
