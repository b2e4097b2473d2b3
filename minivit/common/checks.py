"""Names and numbers that a user gives: checked in one place, with one clear line where they do not fit."""

import difflib
import math
from numbers import Integral


def check_name(kind, name, known):
    """Return `name` if it is one of `known`; else raise ValueError that names the nearest and all that are known.

    kind: what it names, in words ("model", "pool").
    """
    known = list(known)
    if name in known:
        return name
    raise ValueError(" ".join(filter(None, [f"unknown {kind} {name!r}:", suggestion(name, known), f"known: {', '.join(known)}"])))


def suggestion(name, known):
    """"did you mean ...?" with the nearest of the `known` names; nothing if none is near."""
    lower = {str(one).lower(): one for one in known}
    near = difflib.get_close_matches(str(name).lower(), lower, n=1, cutoff=0.5)
    return f"did you mean {lower[near[0]]!r}?" if near else ""


def check_number(kind, value, *, least=-math.inf, above=-math.inf, most=math.inf, below=math.inf, whole=False):
    """Return `value` as a float, or an int if `whole`, if it is finite and within the bounds; else raise ValueError that names them.

    kind: what it is, in words ("learning rate"). least, most: bounds that are allowed themselves; above, below: that are not.
    """
    try:
        fits = math.isfinite(value) and least <= value <= most and above < value < below and (not whole or isinstance(value, Integral))
    except (TypeError, OverflowError):
        fits = False
    if not fits:
        bounds = [f" {words} {bound:g}" for words, bound in (("at least", least), ("above", above), ("at most", most), ("below", below))
                  if math.isfinite(bound)]
        raise ValueError(f"{kind} must be a {'whole' if whole else 'finite'} number{' and'.join(bounds)}, not {value!r}")
    return int(value) if whole else float(value)
