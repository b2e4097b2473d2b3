"""The MLP: widen, GELU, narrow, each token by itself. Read `ops/gelu.py`, `linear.py` and `dropout.py` before."""

import numpy as np

from ..common.checks import check_number
from ..ops import gelu
from .dropout import Dropout
from .layer import Layer
from .linear import Linear


class GELU(Layer):
    """GELU of every number: (...) -> (...)."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (...) -> y (...)."""
        y, self.cache = gelu.forward(x)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (...) -> dx (...)."""
        return gelu.backward(dy, self.pop_cache())


class MLP(Layer):
    """Two linear maps with a GELU between them: (..., D) -> (..., F) -> (..., D).

    Parameters
    ----------
    width, hidden : int
        D and F. F exceeds D, as each of the F numbers after the GELU is a nonlinear feature; the second map mixes them.
    drop_rate : float
        Rate of dropout after the GELU and after the second map, in training.
    """

    def __init__(self, width: int, hidden: int, drop_rate: float = 0.0) -> None:
        check_number("width of the MLP", hidden, least=1, whole=True)
        self.fc1 = Linear(width, hidden)
        self.act = GELU()
        self.drop1 = Dropout(drop_rate)
        self.fc2 = Linear(hidden, width)
        self.drop2 = Dropout(drop_rate)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x (..., D) -> y (..., D)."""
        hidden = self.drop1.forward(self.act.forward(self.fc1.forward(x)))
        return self.drop2.forward(self.fc2.forward(hidden))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy (..., D) -> dx (..., D)."""
        dhidden = self.fc2.backward(self.drop2.backward(dy))
        return self.fc1.backward(self.act.backward(self.drop1.backward(dhidden)))
