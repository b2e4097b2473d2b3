"""The MLP of a block: widen, GELU, narrow; every token by itself."""

from ..common.checks import check_number
from ..ops import gelu
from .dropout import Dropout
from .layer import Layer
from .linear import Linear


class GELU(Layer):
    """GELU, number by number: (...) -> (...). See `ops/gelu.py`."""

    def forward(self, x):
        """x (...) -> y (...)."""
        y, self.cache = gelu.forward(x)
        return y

    def backward(self, dy):
        """dy (...) -> dx (...)."""
        return gelu.backward(dy, self.pop_cache())


class MLP(Layer):
    """Two linear maps with a GELU between: (..., D) -> (..., F) -> (..., D). Raises ValueError unless F is at least 1."""

    def __init__(self, width, hidden, drop_rate=0.0):
        check_number("width of the MLP", hidden, least=1, whole=True)
        self.fc1 = Linear(width, hidden)
        self.act = GELU()
        self.drop1 = Dropout(drop_rate)
        self.fc2 = Linear(hidden, width)
        self.drop2 = Dropout(drop_rate)

    def forward(self, x):
        """x (..., D) -> y (..., D)."""
        hidden = self.drop1.forward(self.act.forward(self.fc1.forward(x)))
        return self.drop2.forward(self.fc2.forward(hidden))

    def backward(self, dy):
        """dy (..., D) -> dx (..., D)."""
        dhidden = self.fc2.backward(self.drop2.backward(dy))
        return self.fc1.backward(self.act.backward(self.drop1.backward(dhidden)))
