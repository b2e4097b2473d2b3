"""Numbers and nouns as text."""

import math


def plural(count: int, noun: str) -> str:
    """Return the noun for a count: "image" for 1, "images" for any other number."""
    return noun if count == 1 else f"{noun}s"


def percent(fraction: float) -> str:
    """Return a fraction as a percentage with one decimal; a dash for NaN."""
    return "-" if math.isnan(fraction) else f"{fraction:.1%}"
