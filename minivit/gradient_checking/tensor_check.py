"""The check of one tensor: by sampled entries, along a random direction, and the search for a wrong entry."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from .comparison import FILTERS, Comparer
from .differences import taylor_order
from .hints import hint_for
from .report import Row

_HINTS = 5  # hints at most: many wrong tensors usually have one cause


class TensorCheck:
    """Checks one tensor after the other. The arguments are as for `gradcheck`."""

    def __init__(self, comparer: Comparer, method: str, samples: int) -> None:
        self.comparer, self.method, self.samples = comparer, method, samples
        self.wrong = 0                                                # number of wrong tensors

    def check(self, name: str, rng: np.random.Generator) -> Row:
        """Check one tensor and return its row."""
        if self.method not in FILTERS:
            return self.check_entries(name, rng, self.method)
        row = self.check_direction(name, rng)
        return row if row.ok else self.check_entries(name, rng, "richardson")

    def check_direction(self, name: str, rng: np.random.Generator) -> Row:
        """Check one tensor along one random direction; for "taylor", also by the order of the remainder."""
        comparer = self.comparer
        direction = comparer.random_direction(name, rng)
        comparison = comparer.compare_direction(name, direction, "central")
        order = math.nan
        if self.method == "taylor":
            order = taylor_order(comparer.perturbed(name, slice(None), direction), comparer.scale(name),
                                 comparison.analytic, comparer.dy, comparer.noise)
        ok = comparison.error <= comparer.tolerance and not comparison.kink and not order < 1.5
        return Row(name, 1, comparer.gradients[name].size, self.method, comparison.error, (), comparison.numeric,
                   comparison.analytic, ok, order=order)

    def check_entries(self, name: str, rng: np.random.Generator, method: str) -> Row:
        """Check one tensor by its entries, and along one direction if not all are measured."""
        comparer, tolerance = self.comparer, self.comparer.tolerance
        gradient = comparer.gradients[name]
        indices = self._sampled(gradient.size, rng)
        comparisons = comparer.compare_entries(name, indices, method)
        kinks = sum(c.kink for c in comparisons)
        smooth = [c for c in comparisons if not c.kink]
        unseen = False
        if gradient.size > self.samples:
            direction = comparer.compare_direction(name, comparer.random_direction(name, rng), method)
            unseen = direction.kink
            if not unseen:
                if direction.error > tolerance and all(c.error <= tolerance for c in smooth):
                    smooth += comparer.compare_entries(name, [self.locate(name, rng, method)], method)
                smooth.append(direction)
        worst = max(smooth or comparisons, key=lambda c: c.error)
        ok = worst.error <= tolerance and 2 * kinks <= len(indices)
        shown = self._shown(smooth or comparisons, ok)
        index = () if shown.index is None else tuple(int(j) for j in np.unravel_index(shown.index, gradient.shape))
        row = Row(name, len(indices), gradient.size, method, worst.error, index, shown.numeric, shown.analytic, ok,
                  kinks=kinks, unseen=unseen)
        if ok:
            return row
        self.require_float64_forward(name)
        self.wrong += 1
        return row if self.wrong > _HINTS else replace(row, hint=hint_for(comparer, name, shown.index, rng))

    def _sampled(self, size, rng):
        """Return the sorted flat indices of the entries to check: all, or `samples` at random."""
        if size <= self.samples:
            return list(range(size))
        return sorted(int(i) for i in rng.choice(size, self.samples, replace=False))

    def _shown(self, comparisons, ok):
        """Return the comparison for the row: the worst entry if the tensor is wrong, else the largest entry."""
        entries = [c for c in comparisons if c.index is not None and (ok or c.error > self.comparer.tolerance)]
        return max(entries or comparisons, key=lambda c: abs(c.analytic) if ok else c.error)

    def locate(self, name: str, rng: np.random.Generator, method: str) -> int:
        """Return the flat index of a wrong entry, by bisection along random directions."""
        comparer, gradient = self.comparer, self.comparer.gradients[name]
        if not np.isfinite(gradient).all():
            return int(np.argmin(np.isfinite(gradient)))
        low, high = 0, gradient.size
        while high - low > 1:
            middle = (low + high) // 2
            halves = [comparer.compare_direction(name, comparer.random_direction(name, rng, half), method, half)
                      for half in (slice(low, middle), slice(middle, high))]
            first, second = (abs(half.numeric - half.analytic) for half in halves)
            low, high = (low, middle) if first > second else (middle, high)
        return low

    def require_float64_forward(self, name: Any) -> None:
        """Raise ValueError if a relative change of 1e-10 does not change the result: float32 is used inside."""
        comparer = self.comparer
        signs = np.where(np.arange(comparer.gradients[name].size) % 2, 1.0, -1.0)
        y_at, large = comparer.perturbed(name, slice(None), signs), 1e-3 * comparer.scale(name)
        y = y_at(0.0)
        change = float(np.linalg.norm(y_at(large) - y))
        if change and np.array_equal(y_at(large * min(1.0, 1e-10 * float(np.linalg.norm(y)) / change)), y):
            raise ValueError(f"the forward ignores a small change of {name}: found an equal result after a relative "
                             "change of 1e-10, expected another one, compute in float64 inside and do not round")
