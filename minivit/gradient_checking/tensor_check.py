"""The check of one tensor: by sampled entries, along a random direction, and the search for a wrong entry."""

import math
from dataclasses import replace

import numpy as np

from .comparison import FILTERS, Comparer
from .differences import SCHEMES, complex_step, taylor_order
from .hints import hint_for
from .report import Row

_HINTS = 5  # hints at most: many wrong tensors usually have one cause


class TooNoisyError(ValueError):
    """Round-off in the forward hides its slopes. tolerance: one that this noise allows."""

    def __init__(self, message: str, tolerance: float) -> None:
        super().__init__(message)
        self.tolerance = tolerance


class TensorCheck:
    """Checks one tensor after the other. The arguments are as for `gradcheck`."""

    def __init__(self, comparer: Comparer, method: str, samples: int, is_linear: bool = True) -> None:
        self.comparer, self.method, self.samples = comparer, method, samples
        self.wrong = 0                                                # number of wrong tensors
        self.nonlinear = comparer.measure_backward() if is_linear else set()
        comparer.measure_sensitivity()

    def check(self, name: str, rng: np.random.Generator) -> Row:
        """Check one tensor and return its row."""
        if self.method in FILTERS:
            row = self.check_direction(name, rng)
            row = row if row.ok else self.check_entries(name, rng, "richardson")
        else:
            if self.method == "complex":
                self.require_analytic(name, rng)
            row = self.check_entries(name, rng, self.method)
        row = replace(row, aliases=self.comparer.function.aliases.get(name, ()))
        if row.ok and name in self.nonlinear:
            return replace(row, ok=False, problem="NOT LINEAR in dy",
                           hint="a backward is linear in dy, but 2**20 times dy gives another multiple of the "
                                "gradient: does it clip or normalise dy, or add a term without dy?")
        return row

    def check_direction(self, name: str, rng: np.random.Generator) -> Row:
        """Check one tensor along one random direction; for "taylor", also by the order of the remainder."""
        comparer = self.comparer
        direction = comparer.random_direction(name, rng)
        comparison = comparer.compare_direction(name, direction, "central")
        order = math.nan
        if self.method == "taylor":
            order = taylor_order(comparer.perturbed(name, slice(None), direction), comparer.scale(name),
                                 comparison.analytic, comparer.dy, comparer.noise)
        ok = comparison.error <= comparer.tolerance and not comparison.kink and comparison.seen and not order < 1.5
        return Row(name, 1, comparer.gradients[name].size, self.method, comparison.error, (), comparison.numeric,
                   comparison.analytic, ok, order=order)

    def check_entries(self, name: str, rng: np.random.Generator, method: str) -> Row:
        """Check one tensor by its entries, and along one direction if not all are measured."""
        comparer, tolerance = self.comparer, self.comparer.tolerance
        gradient = comparer.gradients[name]
        indices = self._sampled(gradient.size, rng)
        comparisons = comparer.compare_entries(name, indices, method)
        smooth = [c for c in comparisons if not c.kink and c.seen]
        kinks = sum(c.kink for c in comparisons)
        unmeasured = len(comparisons) - len(smooth) - kinks
        self.require_precise_forward(name, comparisons)
        unseen = False
        if gradient.size > self.samples:
            direction, unseen = self._along_a_direction(name, rng, method)
            if direction.error > tolerance and all(c.error <= tolerance for c in smooth):
                smooth += [c for c in comparer.compare_entries(name, [self.locate(name, rng, method)], method)
                           if not c.kink]
            smooth.append(direction)
        wrong = [c for c in (*smooth, *comparisons) if not c.error <= tolerance]
        worst = max(smooth or comparisons, key=lambda c: c.error)
        ok = not wrong and 2 * (kinks + unmeasured) <= len(indices) and not unseen
        shown = self._shown(wrong or smooth or comparisons, not wrong)
        index = () if shown.index is None else tuple(int(j) for j in np.unravel_index(shown.index, gradient.shape))
        row = Row(name, len(indices), gradient.size, method, (shown if wrong else worst).error, index,
                  shown.numeric, shown.analytic, ok, kinks=kinks, unmeasured=unmeasured,
                  unseen=unseen and not wrong,
                  problem="" if ok or wrong else "NOT CHECKED",
                  zero_within=_zero_within(gradient, smooth) if ok else math.nan)
        if not math.isnan(row.zero_within) and comparer.drowns(name, comparer.random_direction(name, rng)):
            return replace(row, ok=False, problem="NOT CHECKED", zero_within=math.nan, unmeasured=len(indices))
        if not wrong:
            return row
        self.wrong += 1
        return row if self.wrong > _HINTS else replace(row, hint=hint_for(comparer, name, shown.index, rng))

    def _along_a_direction(self, name, rng, method):
        """Return a comparison along a random direction, and whether kinks or round-off prevented it.

        At a kink, the entries of the result that have none are compared.
        """
        comparer = self.comparer
        v = comparer.random_direction(name, rng)
        direction = comparer.compare_direction(name, v, method)
        if not direction.kink and direction.seen:
            return direction, False
        smooth_only, remaining = comparer.without_kinks(name, v)
        if remaining < 0.5:
            return replace(direction, error=0.0), True
        direction = smooth_only.compare_direction(name, v, "richardson")
        return direction, direction.kink or not direction.seen

    def _sampled(self, size, rng):
        """Return the sorted flat indices of the entries to check: all, or `samples` at random."""
        if size <= self.samples:
            return list(range(size))
        return sorted(int(i) for i in rng.choice(size, self.samples, replace=False))

    def _shown(self, comparisons, ok):
        """Return the comparison for the row: the worst entry if the tensor is wrong, else the largest entry."""
        def difference(c):
            return abs(c.numeric - c.analytic) if math.isfinite(c.error) else math.inf

        entries = [c for c in comparisons if c.index is not None] or comparisons
        return max(entries, key=lambda c: abs(c.analytic) if ok else difference(c))

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

    def require_precise_forward(self, name: str, comparisons: list) -> None:
        """Raise ValueError if noise in the forward hides the slopes, as where it computes in float32 inside."""
        comparer = self.comparer
        hidden = [c for c in comparisons if not c.seen and math.isfinite(c.numeric)]
        if 2 * len(hidden) <= len(comparisons) or any(c.error > comparer.tolerance for c in comparisons):
            return
        relative = comparer.noise_of(name) / (comparer.size or 1.0)
        if relative > 1e-13:
            largest = max(comparer.largest(name), *(abs(c.numeric) for c in hidden)) or 1.0
            needed = 10 ** math.ceil(math.log10(max(c.uncertainty for c in hidden) / largest))
            like = " as in float32" if relative > 1e-9 else ""
            raise TooNoisyError(f"the noise of the forward hides small changes of {name}: found noise of "
                                f"{relative:.0e} of the result{like}, expected about 1e-16, compute in float64 inside "
                                f"and do not round, or pass tolerance={min(needed, 0.1):.0e}", min(needed, 0.1))

    def require_analytic(self, name: str, rng: np.random.Generator) -> None:
        """Raise TypeError if the complex step is wrong along a real direction: the forward is not analytic."""
        comparer = self.comparer
        v = comparer.random_direction(name, rng)
        scheme = SCHEMES["complex"]
        slope = complex_step(comparer.perturbed(name, slice(None), v, "complex"), scheme.step * comparer.scale(name),
                             comparer.dy)
        real = comparer.compare(name, None, slice(None), v, slope, _largest(comparer, name), "richardson")
        if real.error > max(comparer.tolerance, 1e-6) and not real.kink:
            raise TypeError(f'method "complex" cannot check this forward: found the slope {slope:.5g} along {name} by '
                            f'the complex step and {real.numeric:.5g} by real steps, expected equal slopes, as of an '
                            'analytic function (without abs, sign, max or conj), use method="richardson"')


def _zero_within(gradient, comparisons):
    """Return how closely a gradient that is zero was measured: 0 if all is exactly zero; NaN if it is not zero."""
    uncertainty = max((c.uncertainty for c in comparisons), default=0.0)
    if np.abs(gradient).max() > uncertainty or any(abs(c.numeric) > c.uncertainty for c in comparisons):
        return math.nan
    return uncertainty if gradient.any() or any(c.numeric for c in comparisons) else 0.0


def _largest(comparer, name):
    """Return the size of a gradient, or 0 if it is not finite."""
    size = float(np.abs(comparer.gradients[name]).max(initial=0.0))
    return size if math.isfinite(size) else 0.0
