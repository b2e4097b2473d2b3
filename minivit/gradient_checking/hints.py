"""Recognise common mistakes in a wrong gradient. Each recogniser describes one pattern in a sentence, or returns None.

The evidence is a few rows (along the last axis) of the wrong tensor and some entries elsewhere, measured again. A
pattern counts if it explains all but a hundredth of the difference. A hint is no proof.

Two patterns compare the terms of a gradient, and report their coefficients:

- The gradient of a norm or mean along a row is a combination of g, mean(g) and xhat mean(g xhat). g is dy, perhaps
  times a weight, and xhat is x with mean 0 and variance 1. Both gradients are fitted in these terms.
- Where each entry of the result depends on its own entry of x alone, the gradient is dy times a slope. The slope that
  is missing is fitted by products of x and y.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .differences import SCHEMES

_ROWS, _ROW_LENGTH = 3, 32                                            # rows, and the largest number of entries of each
_SCATTERED = 32                                                       # entries elsewhere
_COMPLETE = 256                                                       # a tensor up to this size is measured completely


class Evidence:
    """A tensor with a wrong gradient: `x`, its `analytic` gradient, and `numeric` slopes at the flat `indices`.

    index: a wrong entry, which is among them; None if only a direction is known. rows: positions in `indices` of rows
    of the tensor, or of long parts of them.
    """

    def __init__(self, comparer: Any, name: str, index: int | None, rng: np.random.Generator) -> None:
        self.comparer, self.name = comparer, name
        self.x, self.gradient = comparer.function.tensors[name], comparer.gradients[name]
        width = self.gradient.shape[-1] if self.gradient.ndim else 1
        row, column = divmod(index or 0, width)
        start = max(0, min(column - _ROW_LENGTH // 2, width - _ROW_LENGTH))  # of the part of a row around `index`
        others = rng.permutation(np.setdiff1d(np.arange(self.gradient.size // width), [row]))
        parts = [i * width + np.arange(start, min(start + _ROW_LENGTH, width)) for i in (row, *others[:_ROWS - 1])]
        scattered = rng.permutation(self.gradient.size)[:_SCATTERED]
        self.indices = np.concatenate([*parts, scattered])
        self.rows = np.split(np.arange(sum(map(len, parts))), len(parts))
        self.analytic = self.gradient.reshape(-1)[self.indices]
        self.numeric = self.slopes(self.indices)
        self.difference = self.numeric - self.analytic

    def slopes(self, indices: Any) -> np.ndarray:
        """Measure the slopes of the entries with these flat indices."""
        scheme = SCHEMES["central"]
        step = scheme.step * self.comparer.scale(self.name)
        return np.array([scheme.slope(self.comparer.perturbed(self.name, i), step, self.comparer.dy) for i in indices])

    def gradient_under(self, dy: np.ndarray) -> np.ndarray:
        """Return the analytic gradient of this tensor under another upstream gradient."""
        return np.asarray(self.comparer.function.backward(dy)[self.name])

    def explained_by(self, *terms: Any) -> bool:
        """Return whether in every row the difference is a linear combination of these terms."""
        if len(self.rows[0]) < len(terms) + 2:
            return False
        for row in self.rows:
            columns = np.stack([np.asarray(term).reshape(-1)[self.indices[row]] for term in terms], axis=1)
            difference = self.difference[row]
            fit, *_ = np.linalg.lstsq(columns, difference, rcond=None)
            if np.linalg.norm(difference - columns @ fit) > 0.01 * np.linalg.norm(difference):
                return False
        return True

    def coefficients(self, values: np.ndarray, terms: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """Return the coefficients of the terms in `values`, relative to the first one's, if all rows agree on them."""
        found = []
        for row in self.rows:
            columns = np.stack([term.reshape(-1)[self.indices[row]] for term in terms.values()], axis=1)
            fit, _, rank, _ = np.linalg.lstsq(columns, values[row], rcond=1e-9)
            left = np.linalg.norm(values[row] - columns @ fit)
            if rank < len(terms) or not fit[0] or left > 1e-4 * np.linalg.norm(values[row]):
                return None
            found.append(fit[1:] / fit[0])
        return np.mean(found, axis=0) if np.ptp(found, axis=0).max() < 1e-3 * (1 + np.abs(found).max()) else None

    def weights(self) -> dict[str, np.ndarray]:
        """Return ones, under the name "", and the other tensors that have an entry for each entry of a row."""
        tensors, shape = self.comparer.function.tensors, self.x.shape[-1:]
        return {"": np.ones(shape)} | {name: w for name, w in tensors.items() if name != self.name and w.shape == shape}

    def y(self) -> np.ndarray:
        """Return the forward's result."""
        return self.comparer.perturbed(self.name, 0)(0.0)

    def is_entry_by_entry(self) -> bool:
        """Return whether an entry of the result depends on its own entry of the tensor alone."""
        y, step = self.y().reshape(-1), 1e-3 * self.comparer.scale(self.name)
        for i in self.indices[:4]:
            changed = np.flatnonzero(self.comparer.perturbed(self.name, i)(step).reshape(-1) != y)
            if changed.tolist() not in ([], [i]):
                return False
        return True


def _is_close(a, b, difference):
    """Return whether b explains a, up to a hundredth of the difference."""
    return bool(np.linalg.norm(a - b) <= 0.01 * np.linalg.norm(difference))


def _not_finite(e):
    return None if np.isfinite(e.gradient).all() else "the gradient holds NaN or infinity"


def _not_measured(e):
    return None if np.isfinite(e.numeric).all() else "the forward returns NaN or infinity near these inputs"


def _zero(e):
    return None if e.gradient.any() else "the gradient is zero everywhere: is it computed at all?"


def _ignores_dy(e):
    if np.array_equal(e.gradient_under(2 * e.comparer.dy + 1), e.gradient):
        return "the gradient is the same for another dy: the backward ignores its upstream gradient"
    return None


def _should_be_zero(e):
    return "the gradient should be zero" if np.abs(e.numeric).max() < 1e-6 * np.abs(e.analytic).max() else None


def _sum_of_contributions(e):
    e.gradient_under(e.comparer.dy)                                   # so that the claims are those of this dy
    claims = e.comparer.function.claims().get(e.name, {})
    if len(claims) < 2 or any(np.size(g) != e.gradient.size for g in claims.values()):
        return None
    total = np.sum([np.reshape(g, -1) for g in claims.values()], axis=0)[e.indices]
    return (f"the sum of the gradients of {' and '.join(claims)} is right: they are one array, whose gradient is the "
            "sum of all contributions") if _is_close(e.numeric, total, e.difference) else None


def _factor(e):
    # Divide by a power of two, which is exact, so that no square underflows or overflows.
    power = np.frexp(max(np.abs(e.numeric).max(), np.abs(e.analytic).max()))[1]
    numeric, analytic, difference = (np.ldexp(v, -power) for v in (e.numeric, e.analytic, e.difference))
    factor = float(numeric @ analytic) / float(analytic @ analytic or 1.0)
    if factor == 0 or not _is_close(numeric, factor * analytic, difference):
        return None
    if abs(factor + 1) < 1e-6:
        return "the sign of the gradient is wrong"
    lengths = {math.prod(shape[start:stop]) for shape in (e.comparer.dy.shape, e.x.shape)
               for start in range(len(shape)) for stop in range(start + 1, len(shape) + 1)}
    for length in sorted(lengths - {1}):
        if abs(factor / length - 1) < 1e-6:
            return f"the gradient is {length} times too small: is it a mean instead of a sum over {length} numbers?"
        if abs(factor * length - 1) < 1e-6:
            return f"the gradient is {length} times too large: is it a sum instead of a mean over {length} numbers?"
    return f"the gradient is {1 / factor:.6g} times what it should be: look for a wrong constant factor"


def _transposed(e):
    if e.x.ndim < 2 or e.x.shape[-1] != e.x.shape[-2]:
        return None
    transposed = e.gradient.swapaxes(-1, -2).reshape(-1)[e.indices]
    return "the gradient is transposed: its last two axes are exchanged" if _is_close(
        e.numeric, transposed, e.difference) else None


def _in_wrong_places(e):
    if e.x.size > _COMPLETE:
        return None
    right, found = np.sort(e.slopes(np.arange(e.x.size))), np.sort(e.gradient.reshape(-1))
    return "the gradient has the right numbers in the wrong places" if (
        np.abs(right - found).max() < 1e-6 * np.abs(right).max()) else None


def _of_one_image(e):
    dy, images = e.comparer.dy, len(e.comparer.dy) if e.comparer.dy.ndim else 0
    without_dy = e.gradient_under(np.zeros_like(dy))
    for b in (0, images - 1) if images > 1 else ():
        alone = np.zeros_like(dy)
        alone[b] = dy[b]
        under = e.gradient_under(alone)
        if np.array_equal(under, e.gradient):
            return f"only dy[{b}] contributes: is the sum over the first axis missing?"
        others = np.arange(images) != b
        per_image = e.name in e.comparer.function.inputs and len(e.x) == images and not e.comparer.coupled
        if per_image and (under != without_dy)[others].any():
            return f"dy[{b}] changes the gradients of other images: the backward mixes the images of the batch"
    return None


def _missing_dy(e):
    if e.comparer.dy.shape == e.x.shape and _is_close(e.difference, e.comparer.dy.reshape(-1)[e.indices], e.difference):
        return "the gradient lacks the term dy: is the identity path of a residual connection missing?"
    return None


def _along_rows(e):
    """Compare both gradients in the terms of a normalisation along the rows."""
    dy, width = e.comparer.dy, e.x.shape[-1] if e.x.ndim else 0
    if dy.shape != e.x.shape or min(map(len, e.rows)) < 5 or not e.x.std(axis=-1).all():
        return None
    xhat = (e.x - e.x.mean(axis=-1, keepdims=True)) / e.x.std(axis=-1, keepdims=True)
    for name, w in e.weights().items():
        g = dy * w
        terms = {"g": g, "mean(g)": np.broadcast_to(g.mean(axis=-1, keepdims=True), g.shape),
                 "xhat mean(g xhat)": xhat * (g * xhat).mean(axis=-1, keepdims=True)}
        right, found = (e.coefficients(values, terms) for values in (e.numeric, e.analytic))
        if right is None or found is None:
            continue
        words = [_coefficient_in_words(term, r, f, width)
                 for term, r, f in zip(list(terms)[1:], right, found, strict=True)]
        if any(words):
            return (f"in each row, with g = dy{f' {name}' if name else ''} and xhat = {e.name} at mean 0 and variance "
                    f"1: {', and '.join(filter(None, words))}")
    return None


def _coefficient_in_words(term, right, found, width):
    """Return what is wrong with the coefficient of a term, relative to that of g; nothing if it is right."""
    if abs(found - right) < 1e-3:
        return ""
    if abs(found) < 1e-3:
        return f"the term {right:+.4g} {term} is missing"
    if abs(right) < 1e-3:
        return f"the term {found:+.4g} {term} does not belong there"
    what = f"the term {term} has the coefficient {found:+.4g} instead of {right:+.4g}"
    return f"{what}: is it a sum instead of a mean over {width} numbers?" if abs(found / right - width) < 1e-3 else what


# slopes that a function of one number may have, as products of x, y and y / x (which is the gate of y = x gate(x))
_SLOPES = {"1": lambda x, y: np.ones_like(x), "x": lambda x, y: x, "y": lambda x, y: y, "y / x": lambda x, y: y / x,
           "x y": lambda x, y: x * y, "y**2": lambda x, y: y**2, "y**2 / x": lambda x, y: y**2 / x,
           "y (1 - y)": lambda x, y: y * (1 - y), "y (1 - y / x)": lambda x, y: y * (1 - y / x),
           "(y / x) (1 - y / x)": lambda x, y: y / x * (1 - y / x)}


def _entry_by_entry(e):
    """Compare the slopes of a function that computes each entry of its result from one entry of x."""
    dy = e.comparer.dy
    if not e.x.ndim or dy.shape != e.x.shape or not e.is_entry_by_entry():
        return None
    here = np.unique(e.indices[np.concatenate(e.rows)], return_index=True)[1]
    x, y, up = (values.reshape(-1)[e.indices[here]] for values in (e.x, e.y(), dy))
    slope, found = e.numeric[here] / up, e.analytic[here] / up
    missing, worst = slope - found, int(np.argmax(np.abs(slope - found)))
    said = f"at {e.name} = {x[worst]:.4g} the slope of the result is {slope[worst]:.4g}, but here {found[worst]:.4g}"
    columns = e.indices[here] % e.x.shape[-1]
    for (name, w), (words, term) in itertools.product(e.weights().items(), _SLOPES.items()):
        with np.errstate(all="ignore"):
            t = w[columns] * term(x, y)
        if len(x) > 3 and np.isfinite(t).all() and t.any():
            c = float(missing @ t) / float(t @ t)
            if _is_close(missing, c * t, missing):
                return f"{said}: the term {c:+.4g} dy {f'{name} ' if name else ''}{words} is missing"
    return said


def _missing_term(e):
    ones = np.ones(e.x.shape)
    for terms, words in (((ones,), "a constant term (such as a mean over the row)"),
                         ((e.x,), f"a term proportional to {e.name}"),
                         ((ones, e.x), f"a constant term and one proportional to {e.name}")):
        if e.explained_by(*terms):
            return f"in each row, the gradient wrongly lacks or contains {words}"
    return None


def _factor_after_mean(e):
    for name, w in e.comparer.function.tensors.items():
        if name != e.name and w.shape == e.x.shape[-1:]:
            w = np.broadcast_to(w, e.x.shape)
            if e.explained_by(np.ones(e.x.shape), e.x, w, w * e.x):
                return (f"the difference is a linear combination of 1, {e.name}, {name} and {e.name} * {name}: "
                        f"is {name} applied after a mean instead of before it?")
    return None


def _confined(e):
    wrong = np.abs(e.difference) > 100 * e.comparer.tolerance * max(np.abs(e.numeric).max(), np.abs(e.analytic).max())
    if wrong.all() or not wrong.any():
        return None
    places = np.unravel_index(e.indices, e.x.shape)
    # the indices on each axis under which something is wrong
    box = [sorted(set(place[wrong].tolist())) for place in places]
    inside = np.all([np.isin(place, bad) for place, bad in zip(places, box, strict=True)], axis=0)
    if (inside & ~wrong).any():
        return None
    within = [np.isin(place, bad) for place, bad in zip(places, box, strict=True)]
    # an axis counts if, with the right indices on the other axes, something outside its box is right
    named = [axis for axis in range(e.x.ndim) if (~within[axis] & np.all(
        [w for other, w in enumerate(within) if other != axis] or [np.ones(len(wrong), bool)], axis=0)).any()]
    return "the gradient is wrong only where " + " and ".join(
        f"the index on axis {axis} is {_in_words(box[axis])}" for axis in named) if named else None


def _in_words(indices):
    """Return sorted indices in words: "3 to 7", or one by one."""
    if len(indices) > 2 and indices[-1] - indices[0] == len(indices) - 1:
        return f"{indices[0]} to {indices[-1]}"
    return ", ".join(map(str, indices[:5])) + (", ..." if len(indices) > 5 else "")


_RECOGNISERS = (_not_finite, _not_measured, _sum_of_contributions, _zero, _ignores_dy, _should_be_zero, _factor,
                _transposed, _in_wrong_places, _of_one_image, _missing_dy, _along_rows, _missing_term,
                _factor_after_mean, _confined, _entry_by_entry)


def hint_for(comparer: Any, name: str, index: int | None, rng: np.random.Generator) -> str:
    """Return a hint on the mistake in a wrong tensor, or an empty string.

    index: flat index of a wrong entry; None for a direction.
    """
    evidence = Evidence(comparer, name, index, rng)
    return next((found for recognise in _RECOGNISERS if (found := recognise(evidence))), "")
