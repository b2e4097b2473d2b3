"""MyGrad: functions of its tensors, and its operations. It has no complex numbers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..trees import item
from .framework import Framework


class MyGrad(Framework):
    """Tensors of MyGrad."""

    module = "mygrad"

    def is_array(self, x: Any) -> bool:
        """Return whether x is a tensor."""
        return self.loaded is not None and isinstance(x, self.loaded.Tensor)

    def to_numpy(self, x: Any) -> np.ndarray:
        """Return a copy."""
        return np.array(x.data)

    def from_numpy(self, x: np.ndarray, like: Any, dtype: Any) -> Any:
        """Return a tensor; it is a constant if it is not floating."""
        return self.loaded.tensor(x if dtype is None else x.astype(dtype), constant=dtype is None)

    def frozen(self, arrays: Mapping[str, Any]) -> dict[str, str]:
        """Return the constant tensors."""
        return {name: "constant" for name, x in arrays.items() if self.is_array(x) and x.constant}

    def is_differentiable(self, y: Any) -> bool:
        """Return whether a tensor of the result has a gradient."""
        return not y.constant

    def vjp(self, function: Callable, names: Sequence[str], arrays: Sequence, dy: Mapping[tuple, Any]) -> list:
        """Return the gradients after the backward of sum(y * dy): MyGrad forgets the graph after one backward."""
        y = function(list(arrays))
        loss = sum((item(y, keys) * g.data).sum() for keys, g in dy.items())
        loss.backward()
        return [x.grad for x in arrays]
