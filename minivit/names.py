"""Names that a user types: checked in one place, with the nearest match in the error."""

import difflib


def check_name(kind, name, known):
    """Return `name` if it is one of `known`; else raise ValueError that names the nearest and all that are known.

    kind: what it names, in words ("model", "pool").
    """
    known = list(known)
    if name in known:
        return name
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"unknown {kind} {name!r}: {hint}known: {', '.join(known)}")
