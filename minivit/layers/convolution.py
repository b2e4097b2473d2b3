"""The convolution layers: a kernel and a bias, or a kernel that is standardised."""

from ..ops import convolution, weight_standardisation, winograd
from .layer import Layer
from .parameter import Parameter, xavier_uniform, zeros

# For kernels of 3 x 3 with so many channels, in and out, Winograd's algorithm takes less time than `convolution`; with 8 it takes more, and
# of 1,024 its sixteen matrices are too large.
WINOGRAD = range(16, 513)


def _chapter(weight, stride):
    """The op that computes it fastest: `winograd` or `convolution`, which give the same but for rounding."""
    size, _, inputs, outputs = weight.shape
    return winograd if size == 3 and stride == 1 and inputs in WINOGRAD and outputs in WINOGRAD else convolution


class Convolution(Layer):
    """Convolution (B, H, W, C) -> (B, H', W', D) with a kernel of size x size. See `ops/convolution.py` and `ops/winograd.py`."""

    def __init__(self, inputs, outputs, size=3, stride=1, padding=0, init=xavier_uniform):
        self.weight = Parameter((size, size, inputs, outputs), init, decay=True)
        self.bias = Parameter((outputs,), zeros)
        self.stride, self.padding = stride, padding
        self.name_parameters()

    def forward(self, x):
        """x (B, H, W, C) -> y (B, H', W', D)."""
        y, self.cache = _chapter(self.weight, self.stride).forward(x, self.weight.data, self.bias.data, self.stride, self.padding)
        return y

    def backward(self, dy):
        """dy (B, H', W', D) -> dx (B, H, W, C)."""
        op, lent = _chapter(self.weight, self.stride), (self.weight.lend(), self.bias.lend())
        dx, self.weight.grad, self.bias.grad = op.backward(dy, self.take_cache(), out=lent)
        return dx


class StdConvolution(Layer):
    """Convolution (B, H, W, C) -> (B, H', W', D) whose filters are standardised before use; it has no bias.

    See `ops/weight_standardisation.py`, `ops/convolution.py` and `ops/winograd.py`.
    """

    def __init__(self, inputs, outputs, size=3, stride=1, padding=0):
        self.weight = Parameter((size, size, inputs, outputs), xavier_uniform, decay=True)
        self.stride, self.padding = stride, padding
        self.name_parameters()

    def forward(self, x):
        """x (B, H, W, C) -> y (B, H', W', D)."""
        what, standardised = weight_standardisation.forward(self.weight.data)
        y, convolved = _chapter(self.weight, self.stride).forward(x, what, None, self.stride, self.padding)
        self.cache = standardised, convolved
        return y

    def backward(self, dy):
        """dy (B, H', W', D) -> dx (B, H, W, C)."""
        standardised, convolved = self.take_cache()
        dx, dwhat = _chapter(self.weight, self.stride).backward(dy, convolved, out=(self.weight.lend(), None))
        self.weight.grad = weight_standardisation.backward(dwhat, standardised, out=self.weight.lend())
        return dx
