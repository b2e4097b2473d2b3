"""Finite differences: the slope of L = sum(y * dy) when one tensor x moves along a direction v.

The slope is the directional derivative of L. Finite differences need values of the forward only. With D(h) the central
difference,

    central        D(h) = (L(x + h v) - L(x - h v)) / 2h                    error O(h**2)
    richardson     (4 D(h/2) - D(h)) / 3                                    error O(h**4)
    complex        Im L(x + i h v) / h                                      error O(h**2), and h may be 1e-20

A large step h has a large truncation error; a small h has a large round-off error eps L / h. A plot of the error
against h is therefore a V. At its bottom both are equally large, up to constants: h**2 = eps / h gives h = eps**(1/3) =
6e-6 for central differences, and h**4 = eps / h gives h = eps**(1/5) = 7e-4 for Richardson. This h is multiplied by the
root mean square of the tensor. The complex step subtracts nothing and has no round-off error, but every function in the
forward must be analytic. The difference of two losses is computed as sum((y+ - y-) * dy), which loses fewer digits.

To check one entry i, the direction v is the unit vector e_i. A random v moves all entries of a tensor at once. Its
slope is g.v, so one measurement sees an error in any entry of the gradient g. The components of a random v are between
1/2 and 3/2, with random signs. Signs alone could hit a symmetry: the gradient of a softmax has no component along ones.

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


def rms(x: np.ndarray) -> float:
    """Return the root mean square of an array without overflow, or 1 if the array is zero."""
    largest = float(np.abs(x).max(initial=0.0))
    return largest * float(np.sqrt(np.mean((x / largest) ** 2))) if largest else 1.0


def norm(x: np.ndarray) -> float:
    """Return the 2-norm of an array without overflow."""
    largest = float(np.abs(x).max(initial=0.0))
    return largest * float(np.linalg.norm(x / largest)) if 0 < largest < math.inf else largest


@dataclass(frozen=True)
class PerturbedForward:
    """The forward as a function of a perturbation of one tensor: t -> y(x + t v). The tensor is restored after a call.

    x: the tensor. where: an index or a slice of its flat entries. v is `direction` there (a number, or an array for a
    slice), and zero elsewhere.
    """

    forward: Callable[[], Any]
    x: np.ndarray
    where: Any
    direction: Any = 1.0

    def __call__(self, t):
        """Return y(x + t v), a copy."""
        x = self.x.flat                                               # the tensor may be a view of other memory
        saved = np.copy(x[self.where])
        x[self.where] = saved + t * self.direction
        try:
            return np.array(self.forward())                           # a copy, because a forward may return its input
        finally:
            x[self.where] = saved


def central(y_at: Any, h: float, dy: np.ndarray) -> float:
    """Return the slope by the central difference. y_at: a `PerturbedForward`, t -> y."""
    return float(np.sum((y_at(h) - y_at(-h)) * dy)) / (2 * h)


def richardson(y_at: Any, h: float, dy: np.ndarray) -> float:
    """Return the slope by Richardson extrapolation of the central difference."""
    return (4 * central(y_at, h / 2, dy) - central(y_at, h, dy)) / 3


def complex_step(y_at: Any, h: float, dy: np.ndarray) -> float:
    """Return the slope by the complex step. The perturbed tensor must be complex."""
    return float(np.sum(y_at(1j * h).imag * dy)) / h


@dataclass(frozen=True)
class Scheme:
    """A finite-difference scheme: `slope(y_at, h, dy)` and the `step` h that suits it.

    The round-off error of the slope is that of L divided by `roundoff_step`. Both steps are relative to the scale of
    the tensor.
    """

    slope: Callable
    step: float
    roundoff_step: float


SCHEMES = {
    "richardson": Scheme(richardson, EPS ** (1 / 5), EPS ** (1 / 5)),
    "central": Scheme(central, EPS ** (1 / 3), EPS ** (1 / 3)),
    "complex": Scheme(complex_step, 1e-20, 1.0),
}


def taylor_order(y_at: Any, scale: float, slope: float, dy: np.ndarray, noise: float) -> float:
    """Return the order in h with which the remainder of L(x + h v) = L(x) + h slope falls.

    It is at least 2 if `slope` is right, and 1 if not. The remainder is the root mean square over +h and -h, so an even
    and an odd term cannot cancel. The order comes from the two smallest steps scale / 4**k at which the remainder
    exceeds `noise`, the round-off in L. If the remainder never does, L is linear and the order is infinite.
    """
    y = y_at(0.0)

    def remainder(h):
        plus, minus = (float(np.sum((y_at(t) - y) * dy)) - t * slope for t in (h, -h))
        return math.hypot(plus, minus) / math.sqrt(2)

    steps = (scale / 4**k for k in range(2, 14))
    above_noise = list(itertools.takewhile(lambda r: r > 64 * noise, map(remainder, steps)))
    if len(above_noise) < 2:
        return math.inf
    return math.log(above_noise[-2] / above_noise[-1], 4)
