"""Compare one numeric slope, measured by finite differences, with the analytic slope that the backward gives."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .differences import EPS, SCHEMES, PerturbedForward, nonsmoothness, rms

FILTERS = ("directional", "taylor")                                   # methods that need one direction per tensor
_STEP_DIVISORS = (32, 1024)                                           # of the smaller steps, if the first one fails
_TINY = float(np.finfo(np.float64).tiny)                              # so that 0 / 0 is no error


@dataclass(frozen=True)
class Comparison:
    """A numeric and an analytic slope, at the entry `index` or along a direction (None). kink: not measurable."""

    index: int | None
    numeric: float
    analytic: float
    error: float
    kink: bool = False


class Comparer:
    """Compares slopes of one function, for one random dy and the gradients that its backward returned for it.

    gradients: by name. coupled: whether images influence each other in the forward. complex_function: the function with
    complex tensors, for method "complex". The rest as for `gradcheck`.
    """

    def __init__(self, function: Any, y: np.ndarray, dy: np.ndarray, gradients: dict, method: str, tolerance: float,
                 coupled: bool, complex_function: Any = None) -> None:
        self.function, self.complex_function = function, complex_function
        self.dy, self.gradients, self.coupled = dy, gradients, coupled
        self.tolerance = tolerance
        self.noise = 4 * EPS * float(np.linalg.norm(y * dy))          # round-off in L
        self.roundoff_step = SCHEMES["central" if method in FILTERS else method].roundoff_step
        self._scales: dict[str, float] = {}

    def scale(self, name: str) -> float:
        """Return the scale of a tensor, to which steps are relative: its root mean square, or 1 for zeros.

        If the tensor is so small that its changes would drown in round-off although its gradient is not zero, the scale
        is larger: round-off is then a tenth of what the tolerance allows.
        """
        if name not in self._scales:
            x, largest = self.function.tensors[name], float(np.abs(self.gradients[name]).max())
            scale = rms(x)
            is_zero = not 8 * self.noise / SCHEMES["richardson"].roundoff_step < scale * largest < math.inf
            needed = 10 * self.noise / self.roundoff_step / self.tolerance
            if not is_zero and scale * largest < needed:
                scale = needed / largest
            self._scales[name] = scale
        return self._scales[name]

    def floor(self, name: str, scheme: Any, step_divisor: int = 1) -> float:
        """Return the slope below which a difference is round-off, divided by the tolerance."""
        return self.noise * step_divisor / (scheme.roundoff_step * self.scale(name) * self.tolerance)

    def perturbed(self, name: str, where: Any, direction: Any = 1.0, method: str = "") -> PerturbedForward:
        """Return the forward as a function of a perturbation of one tensor; a complex one for method "complex"."""
        function = self.complex_function if method == "complex" else self.function
        return PerturbedForward(function.forward, function.tensors[name].reshape(-1), where, direction)

    def compare(self, name: str, index: int | None, where: Any, direction: Any, analytic: float, size: float,
                method: str) -> Comparison:
        """Measure the slope along a direction and compare it with `analytic`; retry with smaller steps if needed.

        size: of the gradient. The error is relative to it, or to the numeric slope or the round-off floor if those are
        larger.
        """
        y_at = self.perturbed(name, where, direction, method)
        for scheme, step_divisor in ((SCHEMES[method], 1), *((SCHEMES["richardson"], d) for d in _STEP_DIVISORS)):
            h = scheme.step * self.scale(name) / step_divisor
            floor = self.floor(name, scheme, step_divisor)
            numeric = scheme.slope(y_at, h, self.dy)
            comparison = Comparison(index, numeric, analytic, math.inf)
            if not math.isfinite(analytic) or (method == "complex" and not math.isfinite(numeric)):
                return comparison
            if not math.isfinite(numeric):  # close to the edge of the domain; a smaller step may stay inside
                continue
            if step_divisor > 1 and floor > max(size, abs(numeric)):  # round-off would hide the difference
                return replace(comparison, kink=True)
            difference = abs(numeric - analytic)
            comparison = Comparison(index, numeric, analytic, difference / max(size, abs(numeric), floor, _TINY))
            if comparison.error <= self.tolerance or method == "complex":
                return comparison
            change = abs(numeric - scheme.slope(y_at, h / 2, self.dy))
            if change + nonsmoothness(y_at, h, self.dy) <= 0.1 * difference:
                return comparison  # the step does not explain the difference: the gradient is wrong
        return replace(comparison, kink=math.isfinite(comparison.numeric))

    def random_direction(self, name: str, rng: np.random.Generator, part: Any = slice(None)) -> np.ndarray:
        """Return a random direction in a part of a flat tensor. No component is zero, and all differ."""
        size = self.gradients[name].reshape(-1)[part].size
        return rng.uniform(0.5, 1.5, size) * rng.choice([-1.0, 1.0], size)

    def compare_direction(self, name: str, direction: Any, method: str, part: Any = slice(None)) -> Comparison:
        """Compare the slopes along a direction in a part of a tensor."""
        gradient = self.gradients[name].reshape(-1)[part]
        return self.compare(name, None, part, direction, float(gradient @ direction), float(np.linalg.norm(gradient)),
                            method)

    def compare_entries(self, name: str, indices: Any, method: str) -> list[Comparison]:
        """Compare the slopes of the entries with these flat indices; repeat with more care where they disagree."""
        analytic = self.gradients[name].reshape(-1)[indices]
        scheme = SCHEMES[method]
        numeric = np.array([scheme.slope(self.perturbed(name, i, method=method), scheme.step * self.scale(name),
                                         self.dy) for i in indices])
        size = max((float(abs(v)) for v in analytic if math.isfinite(v)), default=0.0)
        errors = np.abs(numeric - analytic) / np.maximum(np.abs(numeric), max(size, self.floor(name, scheme), _TINY))
        first = [Comparison(i, float(n), float(a), float(error))
                 for i, n, a, error in zip(indices, numeric, analytic, errors, strict=True)]
        return [c if c.error <= self.tolerance else self.compare(name, c.index, c.index, 1.0, c.analytic, size, method)
                for c in first]
