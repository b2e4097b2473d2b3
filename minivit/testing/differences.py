"""The slope of L = sum(y * dy) along a line x + t v through one tensor, measured from values of the forward alone.

With D(h) the central difference,

    central        D(h) = (L(x + h v) - L(x - h v)) / 2h                    error O(h**2)
    richardson     (4 D(h/2) - D(h)) / 3                                    error O(h**4)
    complex        Im L(x + i h v) / h                                      error O(h**2), and h may be 1e-20

Too large an h leaves this truncation error, too small an h the round-off eps L / h: the error against h is a V. The
step is the power of eps that balances both, times the root mean square of the tensor. The complex step subtracts
nothing, so it has no round-off, but every function on the way must be analytic. The difference of two losses is taken
as sum((y+ - y-) * dy): the same number, with less cancellation.

A line is one entry (v = e_i) or a *direction*: all entries of a tensor at once, by random amounts. Its slope is g.v,
which sees an error in any entry of the gradient g, for the price of one. The amounts are between 1/2 and 3/2 of the
step, of either sign: signs alone could meet a symmetry (the gradient of a softmax has no part along ones).

The Taylor remainder needs no choice of h: |L(x + h v) - L(x) - h g.v| falls as h**2 if g is the gradient, and as h if
it is not.

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


def magnitude(x):
    """The root mean square of an array, whose squares may overflow; 1 if it is zero."""
    largest = float(np.abs(x).max(initial=0.0))
    return largest * float(np.sqrt(np.mean((x / largest) ** 2))) if largest else 1.0


@dataclass(frozen=True)
class Line:
    """t -> y(x + t v): the forward along one line of a tensor, given as the flat view `x`, which is moved and put back.

    where: an index or a slice of `x`; v is `direction` there (a number, or an array for a slice) and zero elsewhere.
    """

    forward: Callable[[], Any]
    x: np.ndarray
    where: Any
    direction: Any = 1.0

    def __call__(self, t):
        here = np.copy(self.x[self.where])
        self.x[self.where] = here + t * self.direction
        try:
            return np.array(self.forward())                           # a copy: a forward may return its input
        finally:
            self.x[self.where] = here


def central(line, h, dy):
    """The slope along the line, by the central difference."""
    return float(np.sum((line(h) - line(-h)) * dy)) / (2 * h)


def richardson(line, h, dy):
    """The slope along the line, by Richardson extrapolation of the central difference."""
    return (4 * central(line, h / 2, dy) - central(line, h, dy)) / 3


def complex_step(line, h, dy):
    """The slope along the line of a complex tensor, by the complex step."""
    return float(np.sum(line(1j * h).imag * dy)) / h


@dataclass(frozen=True)
class Method:
    """A way to measure a slope, the step that suits it, and the size of step by which round-off is divided;

    both relative to the tensor.
    """

    slope: Callable
    step: float
    divisor: float


SLOPES = {
    "richardson": Method(richardson, EPS ** (1 / 5), EPS ** (1 / 5)),
    "central": Method(central, EPS ** (1 / 3), EPS ** (1 / 3)),
    "complex": Method(complex_step, 1e-20, 1.0),
}


def bend(line, h, dy):
    """How far the forward is from smooth within +-h, in units of slope.

    A second difference falls by four when h is halved, but for terms of order h**4; at a kink (ReLU at zero, two maxima
    that change places) it does not. So |S(h) - 4 S(h/2)| / h, with S(h) = y(h) - 2 y(0) + y(-h), is O(h**3) on smooth
    ground and as large as the jump of the slope at a kink.
    """
    y = line(0.0)
    far, near = (line(t) - 2 * y + line(-t) for t in (h, h / 2))
    return float(np.sum(np.abs((far - 4 * near) * dy))) / h


def taylor_order(line, scale, slope, dy, noise):
    """The order in h with which the remainder of L(x + h v) = L(x) + h slope falls:

    2 or more if `slope` is right, 1 if not.

    The remainder is the root mean square over +h and -h, so that an even and an odd term cannot cancel. It is taken at
    the smallest two steps, scale / 4**k, where it stands clear of `noise`, the round-off in L; infinity if it never
    does (L is linear).
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
