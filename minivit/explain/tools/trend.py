"""How a difference changes as the number of training images N grows, from some seeds.

The subsets of one seed lie in each other, so its results at several N are no independent measurements, and a line
through all points would have an error that is too small. Each seed has a line of its own, then, d = a + b log10 N by
least squares, and the error of the slope is that of the mean over seeds: std(b) / sqrt(seeds).
"""

import math
from itertools import pairwise

import numpy as np


def mean_and_error(values):
    """The mean of some numbers, and its standard error std / sqrt(n), which is NaN for a single one.

    Raises ValueError for none.
    """
    values = np.asarray(list(values), np.float64)
    if not values.size:
        raise ValueError("there are no values to take the mean of")
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(values.size)) if values.size > 1 else math.nan


def paired(ours, theirs):
    """{seed: ours - theirs}, for the seeds that both have. Each is {seed: number}."""
    return {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}


def slope(differences):
    """How a difference grows when N grows tenfold:

    (mean slope of the seeds, its standard error, mean value of the lines at N = 1).

    differences: {N: {seed: number}}; a seed counts that has at least two N. The error is NaN for a single seed.
    Raises ValueError without such a seed.
    """
    lines = []
    for seed in {seed for by_seed in differences.values() for seed in by_seed}:
        points = [(math.log10(size), by_seed[seed]) for size, by_seed in differences.items() if seed in by_seed]
        if len(points) > 1:
            x, y = np.array(points).T
            lines.append(np.polyfit(x, y, 1))
    if not lines:
        raise ValueError("a line needs a seed with at least two numbers of images")
    slopes, starts = zip(*lines, strict=True)
    return *mean_and_error(slopes), float(np.mean(starts))


# Student's t: a mean of n numbers is farther from the truth than this many of its standard errors in 5% of all cases, n
# = 2, 3, ...
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def decided(values):
    """1 if the mean of {seed: number} is above zero with 95% confidence (Student's t), -1 if below;

    0 if neither is shown.

    A single seed shows nothing, whatever its number.
    """
    mean, error = mean_and_error(values.values())
    if len(values) < 2:
        return 0
    return int(np.sign(mean)) if abs(mean) > T95[min(len(values), len(T95) + 1) - 2] * error else 0


def crossing(differences):
    """Where a difference changes its sign: (N, N') if it is decided at both, with another sign, and undecided between;

    else None.

    differences: {N: {seed: number}}. The last such change is what counts.
    """
    sizes = sorted(differences)
    signs = [(size, decided(differences[size])) for size in sizes]
    shown = [(size, sign) for size, sign in signs if sign]
    changes = [(a, b) for (a, before), (b, after) in pairwise(shown) if before != after]
    return changes[-1] if changes else None


def verdict(differences, one, other):
    """What {N: {seed:

    accuracy of `one` - accuracy of `other`}} says about who is ahead, and about a crossing, in a sentence.
    """
    sizes = sorted(differences)
    signs = {size: decided(differences[size]) for size in sizes}
    measured = f"from {sizes[0]:,} to {sizes[-1]:,} images"
    undecided = [size for size in sizes if not signs[size]]
    if min(len(by_seed) for by_seed in differences.values()) < 2:
        return "Two seeds at least are needed at every number of images, to say who is ahead."
    if found := crossing(differences):
        leads, follows = (one, other) if signs[found[1]] > 0 else (other, one)
        return (f"The curves cross between {found[0]:,} and {found[1]:,} images: {follows} is ahead at {found[0]:,}, "
                f"and {leads} at "
                f"{found[1]:,}{_but(undecided, signs)}.")
    if len(undecided) == len(sizes):
        return f"Nowhere {measured} is a difference between {one} and {other} shown with 95% confidence."
    ahead = one if max(signs.values()) > 0 else other
    if not undecided:
        return f"The curves do not cross: {ahead} is ahead at every size {measured}."
    return f"No crossing is shown {measured}: {ahead} is ahead{_but(undecided, signs)}."


def _but(undecided, signs):
    """What is to be said of the sizes at which nothing is shown, if there are any."""
    at = ", ".join(f"{size:,}" for size in undecided)
    return f"; at {at} of {len(signs)} sizes nothing is shown with 95% confidence" if undecided else ""
