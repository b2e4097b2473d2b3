"""Checks of names and numbers that a user passes: one place, one clear line if they do not fit."""

import difflib
import math
from collections.abc import Iterable
from numbers import Integral
from typing import Any


def check_name(kind: str, name: Any, known: Iterable[str]) -> str:
    """Return `name` if it is one of `known`; otherwise raise ValueError with a suggestion and all known names.

    kind: what the name stands for, such as "model" or "pool".
    """
    known = list(known)
    if name in known:
        return name
    words = [f"unknown {kind} {name!r}:", suggestion(name, known), f"known: {', '.join(known)}"]
    raise ValueError(" ".join(filter(None, words)))


def suggestion(name: Any, known: Iterable[str]) -> str:
    """Return "did you mean ...?" with the closest of the known names, or an empty string if none is close."""
    lower = {str(one).lower(): one for one in known}
    near = difflib.get_close_matches(str(name).lower(), lower, n=1, cutoff=0.5)
    return f"did you mean {lower[near[0]]!r}?" if near else ""


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
