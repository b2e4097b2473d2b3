"""The convolution layers: a kernel and a bias, or a kernel that is standardised."""

from ..ops import convolution, weight_standardisation, winograd
from .layer import Layer
from .parameter import Parameter, xavier_uniform, zeros

# For kernels of 3 x 3 with so many channels, in and out, Winograd's algorithm takes less time than `convolution`, on pictures of 2 x 2 at
# least. With 8 channels it takes more, and so do the sixteen matrices of 512 where pictures are small, as they are in a network's end.
WINOGRAD = range(16, 257)


def _chapter(x, weight, stride):
    """The op that computes it fastest: `winograd` or `convolution`, which give the same but for rounding, where all numbers are finite.

    It does not depend on how many pictures there are, nor do, then, the bits of a training on how a batch is cut.
    """
    size, _, inputs, outputs = weight.shape
    pays = inputs in WINOGRAD and outputs in WINOGRAD and min(x.shape[1:3]) > 1
    return winograd if size == 3 and stride == 1 and pays else convolution


class Convolution(Layer):
    """Convolution (B, H, W, C) -> (B, H', W', D) with a kernel of size x size. See `ops/convolution.py` and `ops/winograd.py`."""

    def __init__(self, inputs, outputs, size=3, stride=1, padding=0, init=xavier_uniform):
        self.weight = Parameter((size, size, inputs, outputs), init, decay=True)
        self.bias = Parameter((outputs,), zeros)
        self.stride, self.padding = stride, padding

    def forward(self, x):
        """x (B, H, W, C) -> y (B, H', W', D)."""
        op = _chapter(x, self.weight, self.stride)
        y, cache = op.forward(x, self.weight.data, self.bias.data, self.stride, self.padding)
        self.cache = op, cache
        return y

    def backward(self, dy):
        """dy (B, H', W', D) -> dx (B, H, W, C)."""
        op, cache = self.pop_cache()
        dx, self.weight.grad, self.bias.grad = op.backward(dy, cache, out=(self.weight.grad_buffer(), self.bias.grad_buffer()))
        return dx


class StdConvolution(Layer):
    """Convolution (B, H, W, C) -> (B, H', W', D) whose filters are standardised before use; it has no bias.

    See `ops/weight_standardisation.py`, `ops/convolution.py` and `ops/winograd.py`.
    """

    def __init__(self, inputs, outputs, size=3, stride=1, padding=0):
        self.weight = Parameter((size, size, inputs, outputs), xavier_uniform, decay=True)
        self.stride, self.padding = stride, padding

    def forward(self, x):
        """x (B, H, W, C) -> y (B, H', W', D)."""
        what, standardised = weight_standardisation.forward(self.weight.data)
        op = _chapter(x, self.weight, self.stride)
        y, convolved = op.forward(x, what, None, self.stride, self.padding)
        self.cache = op, standardised, convolved
        return y

    def backward(self, dy):
        """dy (B, H', W', D) -> dx (B, H, W, C)."""
        op, standardised, convolved = self.pop_cache()
        dx, dwhat = op.backward(dy, convolved, out=(self.weight.grad_buffer(), None))
        self.weight.grad = weight_standardisation.backward(dwhat, standardised, out=self.weight.grad_buffer())
        return dx
