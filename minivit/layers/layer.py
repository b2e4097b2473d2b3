"""What all layers share: a forward, a backward, the cache between them, and parameters found by name.

Read `parameter.py` before. A *layer* holds weights and computes y = f(x). Its `forward` stores in the *cache* what the
backward needs. Its `backward` takes dLoss/dy, stores dLoss/dweight in each parameter's `grad`, and returns dLoss/dx.

Layers form a tree: the children of a layer are its attributes that are parameters, layers, or lists of layers, in the
order of assignment. The path through the tree is the name of a parameter (`blocks.0.attn.qkv.weight`).

Models have no train/eval mode. `forward` is deterministic. Dropout acts only in training copies (*replicas*; you meet
them in `parallel/lanes.py`). `packing.py`, which you may skip, makes such copies, and lays all parameters of a model
into one vector, `Layer.vector`.
"""

from collections.abc import Iterator
from typing import Any, Union

import numpy as np

from .packing import PackedTree
from .parameter import Parameter


class Layer(PackedTree):
    """Base of all layers. A layer of your own defines `__init__`, `forward` and `backward`.

    In `__init__`, assign the weights, as `Parameter(shape, init)`, and the layers inside yours. In `forward`, read
    `weight.data`, and assign to `self.cache` what the backward needs. In `backward`, take it with `self.pop_cache()`,
    and assign to each `weight.grad`. Inputs must have the dtype of the weights.
    """

    _cache: Any = None
    _keeps_cache = True

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Compute the output and store in `cache` what the backward needs.

        Parameters
        ----------
        x : np.ndarray
            Input. It is not modified.

        Returns
        -------
        y : np.ndarray
            Output. It may share memory with x.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method 'forward': define forward(x) -> y")

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Compute the gradients of the last forward, once; overwrite the `grad` of every parameter.

        Parameters
        ----------
        dy : np.ndarray
            dLoss/dy, of the shape of the last output.

        Returns
        -------
        dx : np.ndarray
            dLoss/dx, of the shape of the last input.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method 'backward': define backward(dy) -> dx")

    @property
    def cache(self) -> Any:
        """What `forward` stored for the backward; None if there is nothing, as in a copy for prediction."""
        return self._cache

    @cache.setter
    def cache(self, value: Any) -> None:
        if self._keeps_cache:
            self._cache = value

    def pop_cache(self) -> Any:
        """Return the cache and clear it, so that no backward uses it twice. Raise RuntimeError if it is empty."""
        cache, self.cache = self.cache, None
        if cache is None:
            raise RuntimeError(f"{type(self).__name__}.backward needs a forward first: one forward serves one backward")
        return cache

    def clear_cache(self) -> None:
        """Clear the caches of this layer and of all layers below it, for a forward without a backward."""
        for _, layer in self.named_layers():
            layer.cache = None

    def children(self) -> Iterator[tuple[str, Union["Layer", Parameter]]]:
        """Yield (name, child) for the layers and parameters directly below this layer."""
        for name, value in vars(self).items():
            if isinstance(value, (Parameter, Layer)):
                yield name, value
            elif type(value) in (list, tuple) and value and isinstance(value[0], Layer):
                for i, layer in enumerate(value):
                    yield f"{name}.{i}", layer

    def named_layers(self) -> Iterator[tuple[str, "Layer"]]:
        """Yield (path, layer) for this layer, whose path is empty, and for all layers below it."""
        return ((path, item) for path, item in self.walk() if isinstance(item, Layer))
