"""How a difference changes with the number N of training images, measured with several seeds.

The subsets of one seed are nested, so its results at several N are not independent, and a line through all points would
have too small an error. Instead each seed has its own line d = a + b log10 N, fitted by least squares. The error of the
slope is that of the mean over seeds: std(b) / sqrt(seeds).
"""

import math
from itertools import pairwise
from typing import Any

import numpy as np


def mean_and_error(values: Any) -> tuple[float, float]:
    """Return the mean of some numbers and its standard error std / sqrt(n), NaN for one number. Raises ValueError."""
    values = np.asarray(list(values), np.float64)
    if not values.size:
        raise ValueError("the mean needs at least one value: no values were given")
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(values.size)) if values.size > 1 else math.nan


def paired(ours: dict, theirs: dict) -> dict:
    """Return {seed: ours - theirs} for the seeds that both {seed: number} have."""
    return {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}


def slope(differences: dict) -> tuple[float, float, float]:
    """Return how a difference grows when N grows tenfold: (mean slope, its standard error, mean value at N = 1).

    differences: {N: {seed: number}}. A seed counts if it has at least two N. The error is NaN for a single seed. Raises
    ValueError without such a seed.
    """
    lines = []
    for seed in {seed for by_seed in differences.values() for seed in by_seed}:
        points = [(math.log10(size), by_seed[seed]) for size, by_seed in differences.items() if seed in by_seed]
        if len(points) > 1:
            x, y = np.array(points).T
            lines.append(np.polyfit(x, y, 1))
    if not lines:
        raise ValueError("the slope needs a seed with at least two numbers of images: found none")
    slopes, starts = zip(*lines, strict=True)
    return *mean_and_error(slopes), float(np.mean(starts))


# Two-sided 95% quantiles of Student's t for the mean of n numbers, n = 2, 3, ...
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def decided(values: Any) -> int:
    """Return 1 if the mean of {seed: number} is positive with 95% confidence (Student's t), -1 if negative, else 0.

    A single seed decides nothing.
    """
    mean, error = mean_and_error(values.values())
    if len(values) < 2:
        return 0
    return int(np.sign(mean)) if abs(mean) > T95[min(len(values), len(T95) + 1) - 2] * error else 0


def crossing(differences: dict) -> Any:
    """Return the last (N, N') between which a difference changes its sign, or None.

    It must be decided at both, with opposite signs, and undecided in between. differences: {N: {seed: number}}.
    """
    sizes = sorted(differences)
    signs = [(size, decided(differences[size])) for size in sizes]
    shown = [(size, sign) for size, sign in signs if sign]
    changes = [(a, b) for (a, before), (b, after) in pairwise(shown) if before != after]
    return changes[-1] if changes else None


def verdict(differences: dict, one: str, other: str) -> str:
    """Return a sentence: which one is ahead, and whether they cross. differences: accuracy of `one` - `other`."""
    sizes = sorted(differences)
    signs = {size: decided(differences[size]) for size in sizes}
    measured = f"from {sizes[0]:,} to {sizes[-1]:,} images"
    undecided = [size for size in sizes if not signs[size]]
    if min(len(by_seed) for by_seed in differences.values()) < 2:
        return "To say which one is ahead, every number of images needs at least two seeds."
    if found := crossing(differences):
        leads, follows = (one, other) if signs[found[1]] > 0 else (other, one)
        return (f"The curves cross between {found[0]:,} and {found[1]:,} images: {follows} is ahead at {found[0]:,}, "
                f"and {leads} at {found[1]:,}{_but(undecided, signs)}.")
    if len(undecided) == len(sizes):
        return f"Nowhere {measured} is a difference between {one} and {other} shown with 95% confidence."
    ahead = one if max(signs.values()) > 0 else other
    if not undecided:
        return f"The curves do not cross: {ahead} is ahead at every size {measured}."
    return f"No crossing is shown {measured}: {ahead} is ahead{_but(undecided, signs)}."


def _but(undecided, signs):
    """Return the words for the sizes where nothing is decided."""
    at = ", ".join(f"{size:,}" for size in undecided)
    return f"; at {at} of {len(signs)} sizes nothing is shown with 95% confidence" if undecided else ""
