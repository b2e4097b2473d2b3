"""How much round-off a measured slope contains, found by measurement.

A computed loss is L(t) + e(t): a smooth function of the step t, and round-off that differs at each t. Its standard
deviation is the *noise*. It is not always near EPS |L|: a forward that computes in float32 has 10**8 times as much, and
one that subtracts large numbers may have any.

ECnoise (Moré and Wild, SIAM J. Sci. Comput. 33 (2011), 1292) measures it with a few values of L at equal, tiny steps.
A difference of order k removes the part of a smooth function that a polynomial of degree k - 1 describes: with tiny
steps, nearly all. What remains is round-off. If e has the variance s**2 and is independent at each point, the k-th
difference sum_j (-1)**j binom(k, j) e_j has the mean square

    s**2 sum_j binom(k, j)**2 = s**2 (2k)! / (k!)**2

so its root mean square times k! / sqrt((2k)!) estimates s. Of orders that agree within a factor of four, the first is
used.

A forward that rounds its input, as to float32, is a staircase: constant for tiny steps, and then it jumps. With larger
steps, a staircase has plateaus on both sides, beside the one around 0. Its noise is half the largest jump between them.
A function with a kink has no such plateaus: ReLU is constant on one side and strictly increases on the other.
"""

import math
from collections.abc import Callable

import numpy as np

_POINTS = 17
_TINY_STEPS = (1e-13, 1e-11)                                          # relative to the scale
_STEPS = tuple(1e-9 * 4.0**k for k in range(13))
_LARGEST_SMOOTH_STEP = 1e-7                                           # a larger one could meet a kink


def noise(loss: Callable[[float], float], scale: float) -> float:
    """Return the standard deviation of the round-off in a loss near 0.

    Parameters
    ----------
    loss : callable
        Function of one number, the step.
    scale : float
        Size of a step that changes the loss much.

    Returns
    -------
    float
        The noise; 0 if none was found.
    """
    centre = _POINTS // 2
    for step in (*_TINY_STEPS, *_STEPS):
        values = np.array([loss((i - centre) * step * scale) for i in range(_POINTS)])
        if not np.isfinite(values).all():
            return 0.0
        changes = np.diff(values) != 0
        sides = changes[:centre][::-1], changes[centre:]             # each from the centre outwards
        if step in _STEPS and all(side.any() and not side[np.argmax(side):].all() for side in sides):
            return 0.5 * float(np.abs(np.diff(values)).max())
        if min(map(np.count_nonzero, sides)) > 0.3 * centre and step <= _LARGEST_SMOOTH_STEP:
            return _of_differences(values)
    return 0.0


def _of_differences(values):
    """Return the noise in values at equal steps, by ECnoise."""
    estimates = []
    for k in range(1, 7):
        values = np.diff(values)
        estimates.append(math.exp(math.lgamma(k + 1) - 0.5 * math.lgamma(2 * k + 1)) * _root_mean_square(values))
    for i in range(len(estimates) - 2):
        three = estimates[i:i + 3]
        if max(three) <= 4 * min(three):
            return three[0]
    return min(estimates)


def _root_mean_square(x):
    """Return the root mean square without overflow."""
    largest = float(np.abs(x).max())
    return largest * math.sqrt(float(np.mean((x / largest) ** 2))) if largest else 0.0
