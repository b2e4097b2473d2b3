"""The check of one tensor: its entries, directions, kinks, and the search for a wrong entry."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .differences import EPS, SLOPES, Line, bend, magnitude, taylor_order
from .hints import hint_for
from .report import Row

FILTERS = ("directional", "taylor")
_HINTS = 5  # hints at most: many wrong tensors usually have one cause
_TINY = float(np.finfo(np.float64).tiny)                              # 0 / 0 is no error


@dataclass(frozen=True)
class Slope:
    """A measured and a computed slope, at the entry `index` or along a direction (None). kink: not measurable."""

    index: int | None
    numeric: float
    analytic: float
    error: float
    kink: bool = False


class Trial:
    """One target with one random dy and the gradients that its backward returned. It checks tensor by tensor.

    gradients: by name. coupled: whether images influence each other in the forward. The rest as for `gradcheck`.
    """

    def __init__(self, subject: Any, y: np.ndarray, dy: np.ndarray, gradients: dict, method: str, samples: int,
                 tolerance: float, coupled: bool) -> None:
        self.subject, self.dy, self.gradients, self.coupled = subject, dy, gradients, coupled
        self.method, self.samples, self.tolerance = method, samples, tolerance
        self.noise = 4 * EPS * float(np.linalg.norm(y * dy))          # round-off in L
        self._scales: dict[str, float] = {}
        self.wrong = 0                                                # number of wrong tensors
        self.complex = self._complex_subject(y) if method == "complex" else None

    def _complex_subject(self, y):
        """Return the target with complex tensors, for method "complex". Raises TypeError if it is not analytic."""
        subject = self.subject.as_complex() if self.subject.as_complex else None
        if subject is None:
            raise TypeError(
                'method "complex" takes a pair of analytic functions, (forward, backward); use "richardson" here')
        try:
            z = np.asarray(subject.forward())
        except Exception as error:
            raise TypeError('method "complex" needs a forward that takes complex numbers; use "richardson" here '
                            f"({error})") from error
        if not np.iscomplexobj(z) or np.abs(z - y).max() > 1e-9 * np.abs(y).max():
            raise TypeError("the forward is not analytic: its complex result has lost its imaginary part, or differs; "
                            'use "richardson"')
        return subject

    def scale(self, name: str) -> float:
        """Return the scale of a tensor, to which steps are relative: its root mean square, or 1 for zeros.

        If the tensor is so small that its moves would drown in round-off although its gradient is not zero, the scale
        is larger: round-off is then a tenth of what the tolerance allows.
        """
        if name not in self._scales:
            x, largest = self.subject.tensors[name], float(np.abs(self.gradients[name]).max())
            scale = magnitude(x)
            is_zero = not 8 * self.noise / SLOPES["richardson"].divisor < scale * largest < math.inf
            needed = 10 * self.noise / SLOPES["central" if self.method in FILTERS
                                              else self.method].divisor / self.tolerance
            if not is_zero and scale * largest < needed:
                scale = needed / largest
            self._scales[name] = scale
        return self._scales[name]

    def line(self, name: str, where: Any, direction: Any = 1.0, subject: Any = None) -> Line:
        """Return the forward along one line of a tensor."""
        subject = subject or self.subject
        return Line(subject.forward, subject.tensors[name].reshape(-1), where, direction)

    def floor(self, name: str, way: Any, cut: int = 1) -> float:
        """Return the slope below which differences are round-off, over the tolerance. cut: divides the step."""
        return self.noise * cut / (way.divisor * self.scale(name) * self.tolerance)

    # ---- one slope -------------------------------------------------------------------------------------------

    def measure(self, name: str, index: int | None, where: Any, direction: Any, analytic: float, size: float,
                method: str) -> Slope:
        """Measure the slope along a line and compare it with `analytic`; retry with smaller steps if needed.

        size: of the gradient. The error is relative to it, or to the numeric slope or the round-off floor if those are
        larger.
        """
        line = self.line(name, where, direction, self.complex if method == "complex" else None)
        for way, cut in ((SLOPES[method], 1), (SLOPES["richardson"], 32), (SLOPES["richardson"], 1024)):
            h, floor = way.step * self.scale(name) / cut, self.floor(name, way, cut)
            numeric = way.slope(line, h, self.dy)
            slope = Slope(index, numeric, analytic, math.inf)
            if not math.isfinite(analytic) or (method == "complex" and not math.isfinite(numeric)):
                return slope
            if not math.isfinite(numeric):  # beside the edge of a domain; a smaller step may stay inside
                continue
            if cut > 1 and floor > max(size, abs(numeric)):           # round-off would hide the difference
                return replace(slope, kink=True)
            difference = abs(numeric - analytic)
            slope = Slope(index, numeric, analytic, difference / max(size, abs(numeric), floor, _TINY))
            if slope.error <= self.tolerance or method == "complex":
                return slope
            if abs(numeric - way.slope(line, h / 2, self.dy)) + bend(line, h, self.dy) <= 0.1 * difference:
                return slope  # the step does not explain it: the gradient is wrong
        return replace(slope, kink=math.isfinite(slope.numeric))

    def direction(self, name: str, rng: np.random.Generator, part: Any = slice(None)) -> np.ndarray:
        """Return a random direction in a part of a flat tensor. Every entry has a component, and all differ."""
        size = self.gradients[name].reshape(-1)[part].size
        return rng.uniform(0.5, 1.5, size) * rng.choice([-1.0, 1.0], size)

    def along(self, name: str, direction: Any, method: str, part: Any = slice(None)) -> Slope:
        """Measure the slope along a direction in a part of a tensor."""
        gradient = self.gradients[name].reshape(-1)[part]
        return self.measure(name, None, part, direction, float(gradient @ direction), float(np.linalg.norm(gradient)),
                            method)

    def entries(self, name: str, indices: Any, method: str) -> list[Slope]:
        """Measure the slopes of the entries with these flat indices; repeat with more care where they seem wrong."""
        analytic = self.gradients[name].reshape(-1)[indices]
        way, subject = SLOPES[method], self.complex if method == "complex" else None
        numeric = np.array([way.slope(self.line(name, i, subject=subject), way.step * self.scale(name), self.dy)
                            for i in indices])
        size = max((float(abs(v)) for v in analytic if math.isfinite(v)), default=0.0)
        errors = np.abs(numeric - analytic) / np.maximum(np.abs(numeric), max(size, self.floor(name, way), _TINY))
        first = [Slope(i, float(n), float(a), float(error))
                 for i, n, a, error in zip(indices, numeric, analytic, errors, strict=True)]
        return [s if s.error <= self.tolerance else self.measure(name, s.index, s.index, 1.0, s.analytic, size, method)
                for s in first]

    def locate(self, name: str, rng: np.random.Generator, method: str) -> int:
        """Return the flat index of a wrong entry, by bisection along directions."""
        if not np.isfinite(self.gradients[name]).all():
            return int(np.argmin(np.isfinite(self.gradients[name])))
        low, high = 0, self.gradients[name].size
        while high - low > 1:
            middle = (low + high) // 2
            halves = [self.along(name, self.direction(name, rng, half), method, half)
                      for half in (slice(low, middle), slice(middle, high))]
            first, second = (abs(half.numeric - half.analytic) for half in halves)
            low, high = (low, middle) if first > second else (middle, high)
        return low

    # ---- one tensor ------------------------------------------------------------------------------------------

    def check(self, name: str, rng: np.random.Generator) -> Row:
        """Check one tensor and return its row."""
        if self.method in FILTERS:
            row = self.check_by_direction(name, rng)
            if row.ok:
                return row
        return self.check_by_entries(name, rng, "richardson" if self.method in FILTERS else self.method)

    def check_by_direction(self, name: str, rng: np.random.Generator) -> Row:
        """Check one tensor along one random direction; for "taylor", also by the order of the remainder."""
        direction = self.direction(name, rng)
        slope = self.along(name, direction, "central")
        order = math.nan
        if self.method == "taylor":
            order = taylor_order(self.line(name, slice(None), direction), self.scale(name), slope.analytic, self.dy,
                                 self.noise)
        ok = slope.error <= self.tolerance and not slope.kink and not order < 1.5
        return Row(name, 1, self.gradients[name].size, self.method, slope.error, (), slope.numeric, slope.analytic, ok,
                   order=order)

    def check_by_entries(self, name: str, rng: np.random.Generator, method: str) -> Row:
        """Check one tensor by its entries, and along one direction if not all are measured."""
        size = self.gradients[name].size
        indices = list(range(size)) if size <= self.samples else sorted(
            int(i) for i in rng.choice(size, self.samples, replace=False))
        slopes = self.entries(name, indices, method)
        kinks = sum(slope.kink for slope in slopes)
        smooth = [slope for slope in slopes if not slope.kink]
        unseen = False
        if size > self.samples:
            direction = self.along(name, self.direction(name, rng), method)
            unseen = direction.kink
            if not unseen:
                if direction.error > self.tolerance and all(slope.error <= self.tolerance for slope in smooth):
                    smooth += self.entries(name, [self.locate(name, rng, method)], method)
                smooth.append(direction)
        worst = max(smooth or slopes, key=lambda slope: slope.error)
        ok = worst.error <= self.tolerance and 2 * kinks <= len(indices)
        shown = self._shown(smooth or slopes, ok)
        shape = self.gradients[name].shape
        index = () if shown.index is None else tuple(int(j) for j in np.unravel_index(shown.index, shape))
        row = Row(name, len(indices), size, method, worst.error, index, shown.numeric, shown.analytic, ok, kinks=kinks,
                  unseen=unseen)
        if ok:
            return row
        self.must_see_small_changes(name)
        self.wrong += 1
        return row if self.wrong > _HINTS else replace(row, hint=hint_for(self, name, shown.index, rng))

    def _shown(self, slopes, ok):
        """Return the slope for the row: the worst entry if the tensor is wrong, else the largest entry."""
        entries = [s for s in slopes if s.index is not None and (ok or s.error > self.tolerance)]
        return max(entries or slopes, key=lambda s: abs(s.analytic) if ok else s.error)

    def must_see_small_changes(self, name: str) -> None:
        """Raise ValueError if a relative move of 1e-10 does not change the result: it computes in float32 inside."""
        signs = np.where(np.arange(self.gradients[name].size) % 2, 1.0, -1.0)
        line, far = self.line(name, slice(None), signs), 1e-3 * self.scale(name)
        y = line(0.0)
        change = float(np.linalg.norm(line(far) - y))
        if change and np.array_equal(line(far * min(1.0, 1e-10 * float(np.linalg.norm(y)) / change)), y):
            raise ValueError(f"the forward does not see a small move of {name}: it computes in float32 inside, or "
                             "rounds")
