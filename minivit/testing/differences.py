"""Finite differences: the slope of L = sum(y * dy) along a line x + t v through one tensor.

They need values of the forward alone. With D(h) the central difference,

    central        D(h) = (L(x + h v) - L(x - h v)) / 2h                    error O(h**2)
    richardson     (4 D(h/2) - D(h)) / 3                                    error O(h**4)
    complex        Im L(x + i h v) / h                                      error O(h**2), and h may be 1e-20

A large h has a large truncation error; a small h has a large round-off error eps L / h. So the error against h is a V.
The step is the power of eps that balances both, times the root mean square of the tensor. The complex step subtracts
nothing and has no round-off, but every function on the way must be analytic. The difference of two losses is computed
as sum((y+ - y-) * dy), which cancels less.

A line moves one entry (v = e_i) or follows a *direction*: it moves all entries of a tensor at once, by random amounts.
Its slope is g.v, so one measurement sees an error in any entry of the gradient g. The amounts are between 1/2 and 3/2
of the step, with random signs. Signs alone could meet a symmetry: the gradient of a softmax has no component along
ones.

The Taylor remainder |L(x + h v) - L(x) - h g.v| needs no choice of h. It falls as h**2 if g is the gradient, else as h.

Sources: Richardson 1911; Squire and Trapp, SIAM Review 40 (1998), for the complex step; Farrell et al., SIAM J. Sci.
Comput. 35 (2013), for the Taylor remainder as a test of gradients.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

EPS = float(np.finfo(np.float64).eps)


def magnitude(x: np.ndarray) -> float:
    """Return the root mean square of an array without overflow, or 1 if the array is zero."""
    largest = float(np.abs(x).max(initial=0.0))
    return largest * float(np.sqrt(np.mean((x / largest) ** 2))) if largest else 1.0


@dataclass(frozen=True)
class Line:
    """The forward along one line of a tensor: t -> y(x + t v). The tensor is moved and put back.

    x: flat view of the tensor. where: an index or a slice of x. v is `direction` there (a number, or an array for a
    slice), and zero elsewhere.
    """

    forward: Callable[[], Any]
    x: np.ndarray
    where: Any
    direction: Any = 1.0

    def __call__(self, t):
        """Return y(x + t v), a copy."""
        here = np.copy(self.x[self.where])
        self.x[self.where] = here + t * self.direction
        try:
            return np.array(self.forward())                           # a copy, because a forward may return its input
        finally:
            self.x[self.where] = here


def central(line: Any, h: float, dy: np.ndarray) -> float:
    """Return the slope along the line by the central difference."""
    return float(np.sum((line(h) - line(-h)) * dy)) / (2 * h)


def richardson(line: Any, h: float, dy: np.ndarray) -> float:
    """Return the slope along the line by Richardson extrapolation of the central difference."""
    return (4 * central(line, h / 2, dy) - central(line, h, dy)) / 3


def complex_step(line: Any, h: float, dy: np.ndarray) -> float:
    """Return the slope along the line of a complex tensor by the complex step."""
    return float(np.sum(line(1j * h).imag * dy)) / h


@dataclass(frozen=True)
class Method:
    """A way to measure a slope. `step` suits it; `divisor` is the step by which round-off is divided.

    Both are relative to the scale of the tensor.
    """

    slope: Callable
    step: float
    divisor: float


SLOPES = {
    "richardson": Method(richardson, EPS ** (1 / 5), EPS ** (1 / 5)),
    "central": Method(central, EPS ** (1 / 3), EPS ** (1 / 3)),
    "complex": Method(complex_step, 1e-20, 1.0),
}


def bend(line: Any, h: float, dy: np.ndarray) -> float:
    """Return how far the forward is from smooth within +-h, in units of slope.

    A second difference becomes four times smaller when h is halved, up to terms of order h**4. At a kink (ReLU at zero,
    two maxima that change places) it does not. So |S(h) - 4 S(h/2)| / h, with S(h) = y(h) - 2 y(0) + y(-h), is O(h**3)
    where the forward is smooth, and as large as the jump of the slope at a kink.
    """
    y = line(0.0)
    far, near = (line(t) - 2 * y + line(-t) for t in (h, h / 2))
    return float(np.sum(np.abs((far - 4 * near) * dy))) / h


def taylor_order(line: Any, scale: float, slope: float, dy: np.ndarray, noise: float) -> float:
    """Return the order in h with which the remainder of L(x + h v) = L(x) + h slope falls.

    It is at least 2 if `slope` is right, and 1 if not. The remainder is the root mean square over +h and -h, so an even
    and an odd term cannot cancel. The order comes from the two smallest steps scale / 4**k at which the remainder
    exceeds `noise`, the round-off in L. It is infinite if the remainder never does, because L is linear.
    """
    y = line(0.0)

    def remainder(h):
        ahead, behind = (float(np.sum((line(t) - y) * dy)) - t * slope for t in (h, -h))
        return math.hypot(ahead, behind) / math.sqrt(2)

    steps = (scale / 4**k for k in range(2, 14))
    clear = list(itertools.takewhile(lambda r: r > 64 * noise, map(remainder, steps)))
    if len(clear) < 2:
        return math.inf
    return math.log(clear[-2] / clear[-1], 4)
