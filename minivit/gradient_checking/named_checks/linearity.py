"""Is the backward linear in dy?

The gradient of L = sum(y * dy) is J^T dy: the transpose of the Jacobian J of the forward, times dy. J depends on the
inputs alone. So for fixed inputs the backward is a linear function g of dy:

    g(a + b) = g(a) + g(b),    g(c a) = c g(a),    g(0) = 0

Right slopes for one dy do not show this. A backward that drops tiny entries of dy, or one that takes a short cut where
they are zero, is right for the dy that was drawn. Every check of slopes multiplies dy by 3 and by a large power of two.
These checks add a second dy, of which half the entries are zero; divide dy by 2**30; and set it to zero.

At zero, a backward that divides by dy or by its norm returns NaN. A dy of zeros is common: a masked loss has it.
"""

import numpy as np

from .named_check import OK, WRONG, DoesNotApply
from .subject import Subject, agree, largest

_SMALL = 2.0**-30                                                     # a power of two: the product is exact


def linearity(subject: Subject) -> tuple[str, str]:
    """Add a second dy, of which half is zero, and divide dy by a large number."""
    _require_free_dy(subject)
    rng, dy = subject.rng(), subject.comparer.dy
    other = rng.standard_normal(dy.shape) * rng.choice([0.0, 1.0], dy.shape)
    one = subject.gradients
    two, both, small = (_gradients(subject, x) for x in (other, dy + other, _SMALL * dy))
    for name in one:
        if np.isfinite(one[name]).all() and not np.isfinite(two[name]).all():
            return WRONG, (f"{name} holds NaN or infinity for a dy of which half the entries are zero: does the "
                           "backward divide by dy?")
        size = max(largest(g[name]) for g in (one, two, both))
        allowed = subject.tolerance * size + _round_off(subject, name)
        if not agree(both[name], one[name] + two[name], 0.0, allowed):
            return WRONG, (f"{name} for the sum of two dy is not the sum of both gradients: it differs by "
                           f"{largest(both[name] - one[name] - two[name]) / (size or 1.0):.1e} of its largest entry")
        if _SMALL * size > 1e-290 and not agree(one[name], small[name] / _SMALL, 0.0, allowed):
            return WRONG, (f"{name} is not proportional to a dy near {_SMALL:.0e}: does the backward compare dy with a "
                           "number, or add one to it?")
    return OK, "gradients of sums and of small multiples of dy are sums and multiples"


def zero_dy(subject: Subject) -> tuple[str, str]:
    """Pass a dy of zeros: all gradients are zero."""
    _require_free_dy(subject)
    usual, found = subject.gradients, _gradients(subject, np.zeros_like(subject.comparer.dy))
    for name in usual:
        g = found[name]
        if not np.isfinite(g).all():
            return WRONG, (f"{name} holds NaN or infinity for a dy of zeros, expected zeros: does the backward divide "
                           "by dy?")
        if largest(g) > 1e-9 * largest(usual[name]):
            return WRONG, f"{name} is not zero for a dy of zeros: a term does not depend on dy"
    return OK, "all gradients are zero for a dy of zeros"


def _require_free_dy(subject):
    if not subject.free:
        raise DoesNotApply("dy is given, or the backward takes none")


def _gradients(subject, dy):
    with np.errstate(all="ignore"):
        return subject.named(subject.function.backward(subject.results.structured(dy)))


def _round_off(subject, name):
    """Return the round-off of a gradient, as it was measured before the slopes were compared."""
    comparer, name = subject.comparer, name.removeprefix("the gradient of ")
    return sum(64 * largest(changes[name]) for changes in (comparer.roundoff, comparer.sensitivity) if name in changes)
