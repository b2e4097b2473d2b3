"""ReLU: positive numbers pass, negative numbers become zero.

    y = max(x, 0)

Backward. The slope is 1 where x > 0, and 0 where x < 0. At x = 0 there is a kink and no slope; by convention it is 0:

    dx = dy where x > 0, else 0

x > 0 is the same as y > 0, so y is all that the fast backward keeps.

Shapes: x, y, dx, dy (...), all alike. Read before: nothing.
Source: Nair and Hinton, "Rectified Linear Units Improve Restricted Boltzmann Machines", ICML 2010.
"""

import numpy as np


def reference_forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return max(x, 0).

    Parameters
    ----------
    x : array (...)

    Returns
    -------
    y : array (...)
    cache : array, x
    """
    return np.where(x < 0, x.dtype.type(0), x), x


def reference_backward(dy: np.ndarray, cache: np.ndarray) -> np.ndarray:
    """Return dx (...) for dy (...)."""
    x = cache
    return dy * (x > 0)


# ---- the same mathematics, from y alone; in a ResNet, `group_norm` computes it in its own pass -----------------------


def forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fast version of `reference_forward`. The cache is y."""
    y = np.maximum(x, 0)
    return y, y


def backward(dy: np.ndarray, cache: np.ndarray) -> np.ndarray:
    """Fast version of `reference_backward`."""
    y = cache
    return dy * (y > 0)
