"""Wrong factors: a sign, a mean for a sum, a tensor that is left out, a missing division by a standard deviation."""

import itertools
import math

import numpy as np

from .evidence import Evidence, explains


def constant(e: Evidence) -> str | None:
    """One factor for all entries."""
    # Divide by a power of two, which is exact, so that no square underflows or overflows.
    power = np.frexp(max(np.abs(e.numeric).max(), np.abs(e.analytic).max()))[1]
    numeric, analytic, difference = (np.ldexp(v, -power) for v in (e.numeric, e.analytic, e.difference))
    factor = float(numeric @ analytic) / float(analytic @ analytic or 1.0)
    if factor == 0 or not explains(factor * analytic, numeric, difference):
        return None
    if abs(factor + 1) < 1e-6:
        return "the sign of the gradient is wrong"
    # A whole number is a length too: of the data inside a function of its parameters alone.
    lengths = {round(factor), round(1 / factor)} - {2} | {
        math.prod(axes) for shape in (e.dy.shape, e.x.shape) for k in range(1, len(shape) + 1)
        for axes in itertools.combinations(shape, k)}
    for length in sorted(n for n in lengths if n > 1):
        if abs(factor / length - 1) < 1e-6:
            return f"the gradient is {length} times too small: is it a mean instead of a sum over {length} numbers?"
        if abs(factor * length - 1) < 1e-6:
            return f"the gradient is {length} times too large: is it a sum instead of a mean over {length} numbers?"
    if len(numeric) == 1:                                             # a single number is always a multiple
        return None
    return f"the gradient is {1 / factor:.6g} times what it should be: look for a wrong constant factor"


def tensor(e: Evidence) -> str | None:
    """A factor that is another tensor."""
    for name, w in e.others().items():
        values = e.at(w)
        if len(values) > 2 and np.ptp(values) > 1e-6 * np.abs(values).max():
            if explains(values * e.analytic, e.numeric, e.difference):
                return f"the factor {name} is missing"
            if explains(e.analytic / values, e.numeric, e.difference):
                return f"the factor {name} does not belong there"
    return None


def by_group(e: Evidence) -> str | None:
    """A factor for each group of entries, such as the rows."""
    for axes in e.axes(least=3):
        groups = e.groups(axes)
        found = []
        for group in groups:
            numeric, analytic = e.slopes(group), e.at(e.gradient, group)
            factor = float(numeric @ analytic) / float(analytic @ analytic or 1.0)
            if not explains(factor * analytic, numeric, numeric - analytic):
                break
            found.append(factor)
        if len(found) == len(groups) > 1 and np.ptp(found) > 1e-3 * np.abs(found).max():
            one = "row" if axes == (e.x.ndim - 1,) else "such group"
            return (f"{e.along(axes)}, the gradient is a constant times what it should be ({1 / found[0]:.4g} in one, "
                    f"{1 / found[1]:.4g} in another {one}): is a factor missing, such as 1 / std?")
    return None
