"""What is wrong with an array: fits of the learner's numbers to the right ones.

`found` is what the learner's function returned, `right` what it should be. A mistake is named if a fit explains `found`
completely, up to round-off. The fits, in this order:

    found = another known value                  a mistake that the exercise expects (`Fits.mistakes`)
    found = 0, or found = k right                a wrong sign, a sum instead of a mean, a forgotten 1/sqrt(d)
    found = right with its axes exchanged        a transposed matrix
    found = sum over i of c_i term_i             c_i = 0: a missing term; -1: its sign; other: its factor
    found = right in another order               numbers in the wrong places
    found = right except at some indices         a part that is wrong, such as the class token
    found = right, each row times a factor       a factor per token that is missing or applied twice

No fit reads the learner's text. Where none explains the numbers, the hint of the gradient checker remains.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

EXACT = 1e-7                                                          # relative difference of equal arrays
_FITS = 1e-6                                                          # what a fit may leave unexplained

_UNKNOWN = "look for a wrong constant factor"

# what the letters of the sizes count
COUNTED = {"B": "images", "N": "tokens", "M": "patches", "K": "classes", "D": "numbers of a token", "h": "heads"}


@dataclass(frozen=True)
class Fits:
    """What the numbers are compared with.

    terms: by name, arrays whose sum is right. others: arrays that do not belong to the sum, but might be in it by
    mistake. mistakes: {sentence: the value that this mistake gives, or a list of values that it may give}.
    """

    terms: Mapping[str, np.ndarray] = field(default_factory=dict)
    others: Mapping[str, np.ndarray] = field(default_factory=dict)
    mistakes: Mapping[str, np.ndarray | list[np.ndarray]] = field(default_factory=dict)


def equal(found: np.ndarray, right: np.ndarray, tolerance: float = EXACT) -> bool:
    """Return whether two arrays of one shape agree up to round-off, relative to the largest right entry."""
    scale = np.abs(right).max(initial=0.0)
    return bool(np.abs(found - right).max(initial=0.0) <= tolerance * (scale or 1.0))


def diagnose(name: str, found: np.ndarray, right: np.ndarray, fits: Fits, sizes: Mapping[str, int]) -> str:
    """Return a sentence that names the mistake in `found`, or an empty string.

    Parameters
    ----------
    name : str
        What the array is called, such as "dx".
    found, right : arrays of one shape
    fits : Fits
    sizes : mapping
        The letters of the shapes and their values, such as {"B": 2}.
    """
    if not np.isfinite(found).all():
        return f"{name} holds NaN or infinity"
    return (_expected(name, found, fits, exactly=True) or _zero(name, found, right)
            or _factor(name, found, right, sizes) or _transposed(name, found, right) or _terms(name, found, fits, sizes)
            or _places(name, found, right)
            or _expected(name, found, fits, exactly=False) or _confined(name, found, right)
            or _row_factor(name, found, right))


def factor_in_words(k: float, sizes: Mapping[str, int]) -> str:
    """Return what a wrong factor k means, such as "is 6 times too small (B N = 6): a mean instead of a sum?"."""
    if abs(k + 1) < _FITS:
        return "has the wrong sign"
    sign = " and has the wrong sign" if k < 0 else ""
    size = abs(k)
    for letters, value in _products(sizes):
        counted = f" over the {COUNTED[letters]}" if letters in COUNTED else ""
        for factor, words in ((value, f"{value} times too large ({letters} = {value}): it looks like a sum instead of "
                                      f"a mean{counted}"),
                              (1 / value, f"{value} times too small ({letters} = {value}): it looks like a mean "
                                          f"instead of a sum{counted}"),
                              (math.sqrt(value), f"sqrt({letters}) times too large: a factor 1/sqrt({letters}) is "
                                                 "missing"),
                              (1 / math.sqrt(value), f"sqrt({letters}) times too small: a factor 1/sqrt({letters}) is "
                                                     "applied once too often")):
            if abs(size / factor - 1) < _FITS:
                return f"is {words}{sign}"
    for name, factor in (("sqrt(2)", math.sqrt(2)), ("sqrt(2 pi)", math.sqrt(2 * math.pi)), ("sqrt(pi)",
                         math.sqrt(math.pi)), ("2 pi", 2 * math.pi), ("pi", math.pi), ("2", 2.0)):
        if abs(size / factor - 1) < _FITS:
            return f"is {name} times too large{sign}"
        if abs(size * factor - 1) < _FITS:
            return f"is {name} times too small{sign}"
    return f"is {k:.{4 if abs(k - 1) > 1e-3 else 9}g} times what it should be: {_UNKNOWN}"


def _products(sizes):
    """Yield the letters and values of the sizes, and of products of two or three of them; each value once."""
    seen = {1}
    for count in (1, 2, 3):
        for some in itertools.combinations(sizes.items(), count):
            letters, value = " ".join(letter for letter, _ in some), math.prod(value for _, value in some)
            if value not in seen:
                seen.add(value)
                yield letters, value


def _expected(name, found, fits, exactly):
    """Recognise the value of a known mistake, exactly or up to a constant factor: the nearest of those that fit."""
    fitting = []
    for sentence, values in fits.mistakes.items():
        for value in values if isinstance(values, list) else [values]:
            if value.shape == found.shape and (exactly or found.size > 1):
                k = 1.0 if exactly else _ratio(found, value)
                if k and equal(found, k * value, _FITS):
                    said = sentence if exactly else f"{sentence}. It also has a wrong constant factor, {k:.4g}"
                    fitting.append((float(np.abs(found - k * value).max(initial=0.0)), said))
    return min(fitting, default=(0.0, ""), key=lambda fit: fit[0])[1]


def _zero(name, found, right):
    return f"{name} is zero everywhere" if right.any() and not found.any() else ""


def _ratio(found, value):
    """Return the k that fits found = k value best."""
    square = float(np.vdot(value, value))
    return float(np.vdot(value, found)) / square if square else 0.0


def _factor(name, found, right, sizes):
    k = _ratio(found, right)
    if not k or not equal(found, k * right, _FITS):
        return ""
    words = factor_in_words(k, sizes)
    return "" if found.size == 1 and words.endswith(_UNKNOWN) else f"{name} {words}"    # any two numbers have a ratio


def _transposed(name, found, right):
    for axes in itertools.permutations(range(right.ndim)) if 2 <= right.ndim <= 4 else ():
        other = right.transpose(axes)
        if axes != tuple(range(right.ndim)) and other.shape == found.shape and equal(found, other, _FITS):
            return f"{name} is transposed: its axes are exchanged"
    return ""


def _terms(name, found, fits, sizes):
    """Fit the found array by a combination of the terms, first without those that do not belong there."""
    for terms in (dict(fits.terms), {**fits.terms, **fits.others}):
        coefficients = _combination(found, list(terms.values()))
        if coefficients is not None:
            wrong = [_term_in_words(term, c, term in fits.others, sizes)
                     for term, c in zip(terms, coefficients, strict=True)]
            return f"{name}: " + ", and ".join(filter(None, wrong)) if any(wrong) else ""
    return ""


def _combination(found, terms):
    """Return the coefficients with which the terms add up to `found`, or None if they do not."""
    if not terms or found.size < 2 * len(terms):
        return None
    columns = np.stack([np.broadcast_to(term, found.shape).reshape(-1) for term in terms], axis=1)
    lengths = np.linalg.norm(columns, axis=0)
    if not lengths.all():
        return None
    fit, _, rank, _ = np.linalg.lstsq(columns / lengths, found.reshape(-1), rcond=1e-9)
    exact = np.linalg.norm(columns / lengths @ fit - found.reshape(-1)) <= _FITS * np.linalg.norm(found)
    return fit / lengths if exact and rank == len(terms) else None


def _term_in_words(term, c, is_other, sizes):
    """Return what a coefficient says about its term; nothing if it is right."""
    if abs(c - (not is_other)) < _FITS:
        return ""
    if is_other:
        return f"the term {term} does not belong there" + ("" if abs(c - 1) < _FITS else f" (found {c:.4g} times)")
    return f"the term {term} is missing" if abs(c) < _FITS else f"the term {term} {factor_in_words(c, sizes)}"


def _places(name, found, right):
    same = equal(np.sort(found, axis=None), np.sort(right, axis=None), _FITS)
    return (f"{name} has the right numbers in the wrong places: look at each reshape and transpose" if same else "")


def _row_factor(name, found, right):
    """Recognise an array each row of which is the right one times a factor of its own."""
    if right.ndim < 2 or right.shape[-1] < 3:
        return ""
    squares = (right * right).sum(axis=-1, keepdims=True)
    factors = (found * right).sum(axis=-1, keepdims=True) / np.where(squares, squares, 1)
    if not equal(found, factors * right, _FITS):
        return ""
    return (f"each row of {name} is the right one times a factor of its own: something that each row has, such as a "
            "sum, a norm or a standard deviation, is missing or applied twice")


def _confined(name, found, right):
    """Say at which indices the array is wrong, if those form a block."""
    wrong = np.abs(found - right) > EXACT * np.abs(right).max()
    box = [np.unique(places) for places in np.nonzero(wrong)]
    if not right.ndim or wrong.all() or wrong.sum() < 0.5 * math.prod(map(len, box)):
        return ""
    parts = [f"index {_indices(bad)} of axis {axis}" for axis, bad in enumerate(box) if len(bad) < right.shape[axis]]
    return f"{name} is wrong only at {' and '.join(parts)}" if parts else ""


def _indices(bad):
    """Return sorted indices in words: "3 to 7", or one by one."""
    if len(bad) > 2 and bad[-1] - bad[0] == len(bad) - 1:
        return f"{bad[0]} to {bad[-1]}"
    return ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")


def shape_in_words(shape: tuple, sizes: Mapping[str, int]) -> str:
    """Return a shape in numbers and letters, such as "(2, 3) = (B, N)"; in numbers alone if a letter is unknown."""
    letters = {value: letter for letter, value in reversed(list(sizes.items()))}
    if not shape or any(length not in letters for length in shape):
        return str(shape)
    return f"{shape} = ({', '.join(letters[length] for length in shape)}{',' * (len(shape) == 1)})"


def diagnose_shape(name: str, found: np.ndarray, right: np.ndarray, others: Mapping[str, np.ndarray],
                   sizes: Mapping[str, int]) -> str:
    """Return a sentence on an array of the wrong shape. others: the other right results, by name."""
    shapes = f"{name} has the shape {shape_in_words(found.shape, sizes)}, but must have "
    shapes += shape_in_words(right.shape, sizes)
    extra = found.ndim - right.ndim
    if extra and found.shape == (1,) * extra + right.shape:
        return f"{shapes}: a sum with keepdims=True keeps the axes that it adds over. Leave keepdims out here"
    if found.ndim == right.ndim and found.shape == right.shape[::-1]:
        return f"{shapes}: it is transposed"
    if extra > 0 and found.shape[extra:] == right.shape:
        axes = "the first axis" if extra == 1 else f"the first {extra} axes"
        counted = " and ".join(COUNTED[letter] for size in found.shape[:extra]
                               for letter, value in sizes.items() if value == size and letter in COUNTED)
        return f"{shapes}: the sum over {axes} is missing{f' (the sum over the {counted})' if counted else ''}"
    same = [other for other, array in others.items() if array.shape == found.shape]
    if same:
        return f"{shapes}. It has the shape of {same[0]}: look at the order of the results"
    return shapes
