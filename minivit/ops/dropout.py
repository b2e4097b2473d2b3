"""Dropout and drop-path: the same product with a random mask, of two shapes.

    y = x mask           mask = 0 with probability `rate`, else 1 / (1 - rate)

Dropout draws the mask for every number, so that no unit can rely on another. Drop-path draws it once for each
image and removes a whole residual branch, so that the block is skipped (stochastic depth). Dividing by 1 - rate
keeps the expectation of y at x, so evaluation needs no correction and leaves the operation out.

Backward. The mask is a constant factor:

    dx = dy mask

Shapes: x, y, dx, dy (B, ...); mask of x's shape, or (B, 1, 1) for drop-path. The random numbers are drawn outside (`philox`).
Sources: Srivastava et al., JMLR 15 (2014); Huang et al., "Deep Networks with Stochastic Depth", arXiv:1603.09382.
"""

from ..common.checks import check_number


def mask(uniform, rate):
    """Numbers uniform in [0, 1) -> mask of the same shape and dtype: 0 with probability `rate`, else 1 / (1 - rate).

    Raises ValueError if rate is not at least 0 and less than 1.
    """
    check_number("drop rate", rate, least=0, below=1)
    return (uniform >= rate) * uniform.dtype.type(1 / (1 - rate))


def reference_forward(x, mask):
    """x (B, ...), mask of a shape that spreads over it -> y (B, ...), cache."""
    return x * mask, mask


def reference_backward(dy, cache):
    """dy (B, ...) -> dx (B, ...)."""
    mask = cache
    return dy * mask                                                  # y = x mask


# ---- one product is one pass over memory already ---------------------------------------------------------------

forward, backward = reference_forward, reference_backward
