"""What several test files share."""

import numpy as np


def relative_difference(a, b):
    """max|a - b| / max|b|: how far a is from b, in units of b's largest entry (0 / 0 counts as 0)."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape, f"shapes differ: {a.shape} and {b.shape}"
    if a.size == 0:
        return 0.0
    difference, largest = np.abs(a - b).max(), np.abs(b).max()
    return float(difference / largest) if largest else float(difference)
