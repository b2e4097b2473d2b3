"""Wrong terms. Both gradients are written as combinations of known terms, and their coefficients are compared.

- The gradient of a norm is a combination of g, mean(g) and xhat mean(g xhat). g is dy, perhaps times a weight, xhat is
  x with mean 0 and variance 1, and the means run along some axes.
- The gradient of a softmax y is a combination of y dy, y sum(y dy) and y**2 dy.
- Where each entry of the result depends on its own entry of x alone, the gradient is dy times a slope. The slope that
  is missing is fitted by products of x and y.
"""

import itertools
from collections.abc import Mapping

import numpy as np

from .evidence import Evidence, explains


def _coefficients(e: Evidence, groups: list, values: list, terms: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Return the coefficients of the terms, relative to the first one's, if all groups agree on them."""
    found = []
    for group, value in zip(groups, values, strict=True):
        columns = np.stack([e.at(term, group) for term in terms.values()], axis=1)
        fit, _, rank, _ = np.linalg.lstsq(columns, value, rcond=1e-9)
        if rank < len(terms) or not fit[0] or np.linalg.norm(value - columns @ fit) > 1e-4 * np.linalg.norm(value):
            return None
        found.append(fit[1:] / fit[0])
    return np.mean(found, axis=0) if np.ptp(found, axis=0).max() < 1e-3 * (1 + np.abs(found).max()) else None


def _both(e: Evidence, groups: list, terms: Mapping[str, np.ndarray]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the coefficients of the terms in the numeric gradient, and in the analytic one."""
    return (_coefficients(e, groups, [e.slopes(group) for group in groups], terms),
            _coefficients(e, groups, [e.at(e.gradient, group) for group in groups], terms))


def _compared(terms: Mapping[str, np.ndarray], right: np.ndarray, found: np.ndarray, length: int) -> str:
    """Return what is wrong with the coefficients, in words; nothing if they agree."""
    words = [_coefficient_in_words(term, r, f, length)
             for term, r, f in zip(list(terms)[1:], right, found, strict=True)]
    return ", and ".join(filter(None, words))


def _coefficient_in_words(term, right, found, length):
    """Return what is wrong with the coefficient of a term, relative to that of the first term."""
    if abs(found - right) < 1e-3:
        return ""
    if abs(found) < 1e-3:
        return f"the term {right:+.4g} {term} is missing"
    if abs(right) < 1e-3:
        return f"the term {found:+.4g} {term} does not belong there"
    what = f"the term {term} has the coefficient {found:+.4g} instead of {right:+.4g}"
    if abs(found / right - length) < 1e-3:
        return f"{what}: is it a sum instead of a mean over {length} numbers?"
    return f"{what}: is it a mean instead of a sum over {length} numbers?" if abs(
        right / found - length) < 1e-3 else what


def of_a_norm(e: Evidence) -> str | None:
    """Compare both gradients in the terms of a normalisation, along any axes."""
    if e.dy.shape != e.x.shape:
        return None
    for axes in e.axes(least=5):
        std = e.x.std(axis=axes, keepdims=True)
        groups = e.groups(axes)
        if not std.all() or min(map(len, groups)) < 5:
            continue
        xhat = (e.x - e.x.mean(axis=axes, keepdims=True)) / std
        fits = {}
        for name, w in e.weights().items():
            g = e.dy * w
            terms = {"g": g, "mean(g)": g.mean(axis=axes, keepdims=True),
                     "xhat mean(g xhat)": xhat * (g * xhat).mean(axis=axes, keepdims=True)}
            fits[name] = _both(e, groups, terms)
        length = int(np.prod([e.x.shape[axis] for axis in axes]))
        for name, (right, found) in fits.items():
            if right is None:
                continue
            g = f"g = dy{f' {name}' if name else ''}"
            other = next((n for n, (_, f) in fits.items() if n != name and f is not None), None)
            if found is None and other is not None:
                return (f"{e.along(axes)}, it is the gradient of a norm with g = dy{f' {other}' if other else ''}, but "
                        f"{g} is right: is the factor {name or other} {'missing' if name else 'too much'}?")
            words = "" if found is None else _compared(terms, right, found, length)
            if words:
                return f"{e.along(axes)}, with {g} and xhat = {e.name} at mean 0 and variance 1: {words}"
    return None


def of_a_softmax(e: Evidence) -> str | None:
    """Compare both gradients in the terms of a softmax, along any axes."""
    if e.dy.shape != e.x.shape or e.y.shape != e.x.shape:
        return None
    y, dy = e.y, e.dy
    for axes in e.axes(least=4):
        if (y < 0).any() or np.abs(y.sum(axis=axes) - 1).max() > 1e-9:
            continue
        used = [group[e.at(y, group) > 0] for group in e.groups(axes)]
        groups = [group for group in used if len(group) > 3]
        terms = {"y dy": y * dy, "y sum(y dy)": y * (y * dy).sum(axis=axes, keepdims=True), "y**2 dy": y * y * dy}
        if not groups:
            continue
        right, found = _both(e, groups, terms)
        if right is not None and found is None:
            others = {"y dy": y * dy, "y sum(dy)": y * dy.sum(axis=axes, keepdims=True)}
            found = _both(e, groups, others)[1]
            if found is not None:
                return (f"{e.along(axes)}, with y = softmax({e.name}): the term {right[0]:+.4g} y sum(y dy) is missing"
                        f", and {found[0]:+.4g} y sum(dy) does not belong there")
            continue
        words = "" if right is None or found is None else _compared(
            terms, right, found, int(np.prod([e.x.shape[axis] for axis in axes])))
        if words:
            return f"{e.along(axes)}, with y = softmax({e.name}): {words}"
    return None


def weight_not_transposed(e: Evidence) -> str | None:
    """The gradient is dy times a square weight, which should be transposed."""
    if not e.dy.ndim or e.dy.shape != e.x.shape:
        return None
    for name, w in e.comparer.function.tensors.items():
        if name != e.name and w.shape == (e.x.shape[-1],) * 2:
            right, found = e.at(e.dy @ w.T), e.at(e.dy @ w)
            if explains(right, e.numeric, e.difference) and explains(found, e.analytic, e.difference):
                return f"the gradient is dy {name}: {name} must be transposed"
    return None


def multiple_of_a_tensor(e: Evidence) -> str | None:
    """The difference is a multiple of dy, of the tensor itself, or of another one of its shape."""
    dy = {"dy": e.dy} if e.dy.shape == e.x.shape else {}
    same = {name: w for name, w in e.others().items() if w.shape == e.x.shape}
    for name, term in {**dy, e.name: e.x, **same}.items():
        values = e.at(term)
        c = float(e.difference @ values) / float(values @ values or 1.0)
        if len(values) > 3 and explains(c * values, e.difference, e.difference):
            if name == "dy" and abs(c - 1) < 1e-4:
                return "the gradient lacks the term dy: is the identity path of a residual connection missing?"
            return (f"the gradient wrongly lacks the term {c:+.4g} {name}, or contains {-c:+.4g} {name}"
                    f"{': is it weight decay?' if name == e.name else ''}")
    return None


def along_groups(e: Evidence) -> str | None:
    """In each row, or along other axes, the difference is a constant, a multiple of x, or both."""
    ones = np.ones(1)
    for axes in e.axes(least=3):
        for terms, words in (((ones,), "a constant term (such as a mean over the row)"),
                             ((e.x,), f"a term proportional to {e.name}"),
                             ((ones, e.x), f"a constant term and one proportional to {e.name}")):
            if _explained(e, axes, terms):
                return f"{e.along(axes)}, the gradient wrongly lacks or contains {words}"
    return None


def _explained(e, axes, terms):
    """Return whether in every group the difference is a linear combination of these terms."""
    for group in e.groups(axes):
        if len(group) < len(terms) + 2:
            return False
        columns = np.stack([e.at(term, group) for term in terms], axis=1)
        difference = e.slopes(group) - e.at(e.gradient, group)
        fit, *_ = np.linalg.lstsq(columns, difference, rcond=None)
        if not explains(columns @ fit, difference, difference):
            return False
    return True


def weight_after_mean(e: Evidence) -> str | None:
    """A weight stands outside the means of a norm."""
    for axes in e.axes(least=6):
        for name, w in e.others().items():
            if _explained(e, axes, (np.ones(1), e.x, w, w * e.x)):
                return (f"the difference is a linear combination of 1, {e.name}, {name} and {e.name} * {name}: "
                        f"is {name} applied after a mean instead of before it?")
    return None


# slopes that a function of one number may have, as products of x, y and y / x (which is the gate of y = x gate(x))
_SLOPES = {"1": lambda x, y: np.ones_like(x), "x": lambda x, y: x, "y": lambda x, y: y, "y / x": lambda x, y: y / x,
           "x y": lambda x, y: x * y, "y**2": lambda x, y: y**2, "y**2 / x": lambda x, y: y**2 / x,
           "y (1 - y)": lambda x, y: y * (1 - y), "y (1 - y / x)": lambda x, y: y * (1 - y / x),
           "(y / x) (1 - y / x)": lambda x, y: y / x * (1 - y / x)}


def entry_by_entry(e: Evidence) -> str | None:
    """Compare the slopes of a function that computes each entry of its result from one entry of x."""
    if not e.x.ndim or e.dy.shape != e.x.shape or not e.is_entry_by_entry():
        return None
    x, y, up = (e.at(values) for values in (e.x, e.y, e.dy))
    slope, found = e.numeric / up, e.analytic / up
    missing, worst = slope - found, int(np.argmax(np.abs(slope - found)))
    said = _slopes_in_words(e.name, x[worst], slope[worst], found[worst])
    for (name, w), (words, term) in itertools.product(e.weights().items(), _SLOPES.items()):
        t = e.at(w) * term(x, y)
        if len(x) > 3 and np.isfinite(t).all() and t.any():
            c = float(missing @ t) / float(t @ t)
            if explains(c * t, missing, missing):
                return f"{said}: the term {c:+.4g} dy {f'{name} ' if name else ''}{words} is missing"
    return said


def of_a_sum(e: Evidence) -> str | None:
    """Compare the slopes of a sum, over the entries of x, of a function of one number."""
    if e.dy.size != 1 or not e.is_separable():
        return None
    worst = int(np.argmax(np.abs(e.difference)))
    slope, found = e.numeric[worst] / e.dy.item(), e.analytic[worst] / e.dy.item()
    return _slopes_in_words(e.name, e.at(e.x)[worst], slope, found)


def _slopes_in_words(name, x, slope, found):
    """Return a sentence with both slopes, in as many digits as tell them apart, at least four."""
    digits = next((n for n in range(4, 17) if f"{slope:.{n}g}" != f"{found:.{n}g}"), 17)
    return f"at {name} = {x:.4g} the slope of the result is {slope:.{digits}g}, but here {found:.{digits}g}"
