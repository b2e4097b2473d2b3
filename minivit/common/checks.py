"""Checks of names, numbers and flags that a user passes: one place, one clear line if they do not fit."""

import difflib
import math
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any


def check_name(kind: str, name: Any, known: Iterable[str]) -> str:
    """Return `name` if it is one of `known`; otherwise raise UnknownName with a suggestion and all known names.

    kind: what the name stands for, such as "model" or "pool".
    """
    known = list(known)
    if name in known:
        return name
    raise UnknownName(kind, name, known, suggestion(name, known))


class UnknownName(ValueError):
    """The error for a name that is not known: "unknown KIND NAME: did you mean ...? known: ...".

    Parameters
    ----------
    kind, name
        As for `check_name`.
    known : list of str
        The known names; for many, a few words that describe them.
    hint : str
        A `suggestion`, or "".
    """

    def __init__(self, kind: str, name: Any, known: Sequence[str], hint: str = "") -> None:
        text = [f"unknown {kind} {name!r}:", hint, f"known: {', '.join(known)}"]
        super().__init__(" ".join(filter(None, text)))
        self.kind, self.name, self.known = kind, name, known


def nearest(name: Any, known: Iterable[str], cutoff: float = 0.5) -> str | None:
    """Return the known name that is most similar to `name`; None if none is similar.

    Among names that are equally similar, upper and lower case count, then the first letter. cutoff: the smallest
    similarity, 0 to 1.
    """
    def similarity(one: str) -> tuple[float, float, bool]:
        return _ratio(one.lower(), str(name).lower()), _ratio(one, str(name)), one[:1] == str(name)[:1]

    best = max(known, key=similarity, default=None)
    return best if best is not None and similarity(best)[0] >= cutoff else None


def _ratio(one: str, other: str) -> float:
    """Return how similar two texts are, 0 to 1."""
    return difflib.SequenceMatcher(None, one, other).ratio()


def suggestion(name: Any, known: Iterable[str]) -> str:
    """Return "did you mean ...?" with the nearest of the known names, or an empty string if none is similar."""
    near = nearest(name, known)
    return f"did you mean {near!r}?" if near is not None else ""


def check_number(kind: str, value: Any, *, least: float = -math.inf, above: float = -math.inf, most: float = math.inf,
                 below: float = math.inf, whole: bool = False) -> Any:
    """Return `value` as a float, or as an int if `whole`; raise ValueError that names the bounds if it does not fit.

    kind: what the number stands for, such as "learning rate". least, most: inclusive bounds. above, below: exclusive
    bounds. The number must be finite.
    """
    try:
        within = math.isfinite(value) and least <= value <= most and above < value < below
        fits = within and (not whole or isinstance(value, Integral))
    except (TypeError, OverflowError):
        fits = False
    if not fits:
        named = (("at least", least), ("above", above), ("at most", most), ("below", below))
        bounds = [f" {words} {bound:g}" for words, bound in named if math.isfinite(bound)]
        raise ValueError(f"{kind} must be a {'whole' if whole else 'finite'} number{' and'.join(bounds)}, not "
                         f"{value!r}")
    return int(value) if whole else float(value)


def check_flag(kind: str, value: Any) -> bool:
    """Return `value` as a bool if it is True or False; otherwise raise ValueError. kind: as for `check_number`."""
    if value not in (True, False):
        raise ValueError(f"{kind} must be True or False, not {value!r}")
    return bool(value)
