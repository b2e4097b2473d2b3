"""Compare one numeric slope, measured by finite differences, with the analytic slope that the backward gives.

`Comparer.compare` measures a slope n of L, together with its uncertainty u: an estimate of how far n may lie from the
true slope. So each entry gets a verdict of its own, however small it is beside the others.

1. Measure with the usual step. If n agrees with the analytic slope a to the tolerance, relative to the larger of both,
   that is enough: an accident is improbable.
2. Otherwise measure central differences D(h) with 13 steps, each a quarter of the last. A large step has a truncation
   error that falls as h**2, and a small one a round-off error of about s / h, where s is the noise in L (see `noise`).
   R(h) = (16 D(h/4) - D(h)) / 15 cancels the first. Its uncertainty is how much it changed since the last step, plus
   the round-off: u = |R(h) - R(4h)| + 4 s / h. Choose the step with the smallest u. The change is a careful estimate:
   where the error falls as h**4, it is 255 times the error that remains.
   The backward rounds too. How much shows `Comparer.measure_backward`; 32 times that adds to u.
3. The entry is wrong if |n - a| exceeds u, the tolerance times the larger of |n| and |a|, and 1/1000 of the tolerance
   times the largest gradient of the tensor, since code may be exact only to that.
4. At a kink, such as ReLU at zero, the central difference is the mean of two slopes. The one-sided differences show the
   kink: extrapolated to h = 0, F = (4 f(h/4) - f(h)) / 3, they differ. Any slope between both is a subgradient and
   right. If one entry of several in the result has a kink, a must lie between its one-sided slopes. If many have one,
   or the result is a single number, different choices at inner kinks may add up, and the interval is three times as
   wide.

If u is so large that nothing was seen, the entry counts as not measured. "So large" is relative to the largest gradient
of the tensor or, if all are tiny, to how much a large step changes L. If a is zero but for round-off, it is relative to
1/100 of the slope that would change L by its own size, |y dy| / scale of x. Whether it is shows one more backward, for
inputs that differ in their last bit.

For code in float32, step 1 is left out, because a small step drowns. The noise is the standard deviation of L over
tensors that differ in their last bit.
"""

import contextlib
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .differences import EPS, SCHEMES, PerturbedForward, norm, rms
from .noise import noise

FILTERS = ("directional", "taylor")                                   # methods that need one direction per tensor
_TINY = float(np.finfo(np.float64).tiny)                              # so that 0 / 0 is no error
_LARGEST_STEP, _STEPS = 0.05, 13                                      # relative to the scale; 4 times smaller each
_JITTERS = 16                                                         # forwards to measure the noise in float32
_SMALL_ENTRY = 1e-3                                                   # of the tolerance times the largest gradient


@dataclass(frozen=True)
class Comparison:
    """A numeric and an analytic slope, at the entry `index` or along a direction (None).

    error: of the analytic slope; it is wrong if this exceeds the tolerance. uncertainty: of the numeric slope. kink:
    the slope is right only as a subgradient. seen: False if the uncertainty is too large for a verdict.
    """

    index: int | None
    numeric: float
    analytic: float
    error: float
    uncertainty: float = 0.0
    kink: bool = False
    seen: bool = True


class _Recorder:
    """A perturbed forward that remembers which entries of the result have changed between its first two calls."""

    def __init__(self, y_at):
        self.y_at, self.first, self.changed = y_at, None, None

    def __call__(self, t):
        y = self.y_at(t)
        if self.first is None:
            self.first = y
        elif self.changed is None:
            self.changed = y != self.first
        return y


class Comparer:
    """Compares slopes of one function, for one random dy and the gradients that its backward returned for it.

    gradients: by name. coupled: whether images influence each other in the forward. complex_function: the function with
    complex tensors, for method "complex". The rest as for `gradcheck`.
    """

    def __init__(self, function: Any, y: np.ndarray, dy: np.ndarray, gradients: dict, method: str, tolerance: float,
                 coupled: bool, complex_function: Any = None) -> None:
        self.function, self.complex_function = function, complex_function
        self.y, self.dy, self.gradients, self.coupled = y, dy, gradients, coupled
        self.tolerance = tolerance
        self.size = norm(y * dy)
        self.is_single = function.is_single
        self.eps = float(np.finfo(np.float32).eps) if self.is_single else EPS
        self.noise = 4 * self.eps * self.size                         # round-off in L, at least
        self.roundoff_step = (_LARGEST_STEP if self.is_single else
                              SCHEMES["central" if method in FILTERS else method].roundoff_step)
        self.roundoff: dict[str, np.ndarray] = {}                     # of the backward, for each entry; may be empty
        self.sensitivity: dict[str, np.ndarray] = {}                  # of the backward, to the last bit of the inputs
        self._scales: dict[str, float] = {}
        self._noises: dict[str, float] = {}

    def use_tolerance(self, tolerance: float) -> None:
        """Compare with another tolerance from now on."""
        self.tolerance = tolerance
        self._scales.clear()
        self._noises.clear()

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
            if not is_zero and scale * largest < needed < math.inf:
                scale = needed / largest
            self._scales[name] = scale
        return self._scales[name]

    def perturbed(self, name: str, where: Any, direction: Any = 1.0, method: str = "") -> PerturbedForward:
        """Return the forward as a function of a perturbation of one tensor; a complex one for method "complex"."""
        function = self.complex_function if method == "complex" else self.function
        return PerturbedForward(function.forward, function.tensors[name], where, direction)

    def largest(self, name: str) -> float:
        """Return the largest finite gradient of a tensor."""
        gradient = np.abs(self.gradients[name])
        return float(gradient[np.isfinite(gradient)].max(initial=0.0))

    # ---- one slope ----

    def compare(self, name: str, index: int | None, where: Any, direction: Any, analytic: float, size: float,
                method: str) -> Comparison:
        """Measure the slope along a direction and compare it with `analytic`.

        size: of the gradient. The error is relative to it, or to the numeric slope or the round-off floor if those are
        larger; that of a wrong slope, relative to the slope.
        """
        scheme, y_at = SCHEMES[method], self.perturbed(name, where, direction, method)
        recorded = _Recorder(y_at)
        step = _LARGEST_STEP if self.is_single else scheme.step
        with np.errstate(all="ignore"):
            numeric = scheme.slope(recorded, step * self.scale(name), self.dy)
        if not math.isfinite(analytic) or (method == "complex" and not math.isfinite(numeric)):
            return Comparison(index, numeric, analytic, math.inf)
        first = Comparison(index, numeric, analytic, 0.0)
        if method == "complex" or self._agrees(first):
            return self._judged(first, size, 0.0)
        changed = slice(None) if recorded.changed is None else recorded.changed
        least = self.eps * norm((self.y * self.dy)[changed])
        if self.is_single:
            return self._compare_carefully(name, index, y_at, analytic, size, self.noise_of(name))
        # The noise of the tensor is cheap, but may be that of another entry: it counts only if it is not unusual.
        for measure in (lambda: least, lambda: min(self.noise_of(name), 64 * least), lambda: self._noise(y_at, name)):
            spread = measure()
            uncertainty = 4 * spread / (scheme.roundoff_step * self.scale(name))
            judged = self._judged(first, size, uncertainty)
            if judged.error <= self.tolerance and self._is_seen(judged, name, size):
                return judged
        return self._compare_carefully(name, index, y_at, analytic, size, spread)

    def noise_of(self, name: str) -> float:
        """Return the noise in L when all entries of a tensor change: more than that of one entry."""
        if name not in self._noises and self.is_single:
            self._noises = dict.fromkeys(self.gradients, self._noise_of_last_bits())
        if name not in self._noises:
            v = np.random.default_rng(0).uniform(0.5, 1.5, self.gradients[name].size)
            self._noises[name] = self._noise(self.perturbed(name, slice(None), v), name)
        return self._noises[name]

    def measure_backward(self) -> set[str]:
        """Measure the round-off of the backward, and return the tensors whose gradient is not proportional to dy.

        A product with a power of two is exact, so from 2**20 dy a linear backward returns the same multiple, to the
        last bit. A product with three rounds everything anew: what g(3 dy) / 3 - g(dy) is not zero, is round-off.
        """
        with np.errstate(all="ignore"):
            exact, rounded = ({name: np.asarray(g) / factor for name, g in self.function.backward(
                factor * self.dy).items() if g is not None} for factor in (-2.0**20, 3.0))
            nonlinear = {name for name, g in self.gradients.items()
                         if np.isfinite(-2.0**20 * g).all() and name in exact and exact[name].shape == g.shape
                         and not np.abs(exact[name] - g).max() <= 1e-9 * np.abs(g).max()}
            self.roundoff = {name: g for name, g in self._changes(rounded).items() if name not in nonlinear}
        return nonlinear

    def measure_sensitivity(self) -> None:
        """Measure how much the gradients change if the inputs differ in their last bit: a zero is not more exact."""
        if not self.function.inputs:
            return
        try:
            with self._moved_in_the_last_bit(self.function.inputs, np.random.default_rng(0)), np.errstate(all="ignore"):
                self.sensitivity = self._changes(self.function.backward(self.dy))
        except Exception:                                             # of the user's code, at the edge of a domain
            return

    def _changes(self, again):
        """Return by how much gradients that were computed anew differ, where they are finite."""
        return {name: np.abs(again[name] - g) for name, g in self.gradients.items()
                if np.shape(again.get(name)) == g.shape and np.isfinite(again[name] - g).all()}

    def _roundoff_of_backward(self, name, index, changes):
        """Return the round-off in an entry of a gradient, or in all of it (None), by one of both measurements."""
        if name not in changes:
            return 0.0
        measured = changes[name]
        typical = norm(measured)
        return 32 * (typical if index is None else max(float(measured.flat[index]), typical / math.sqrt(measured.size)))

    def _noise(self, y_at, name):
        """Return the noise in L along a direction."""
        with np.errstate(all="ignore"):
            y = y_at(0.0)
            return noise(lambda t: float(np.sum((y_at(t) - y) * self.dy)), self.scale(name))

    def _noise_of_last_bits(self):
        """Return the standard deviation of L over tensors that differ in the last bit of float32; at least its eps."""
        rng, values = np.random.default_rng(0), []
        for _ in range(_JITTERS):
            with self._moved_in_the_last_bit(self.function.tensors, rng), np.errstate(all="ignore"):
                values.append(float(np.sum((np.asarray(self.function.forward()) - self.y) * self.dy)))
        found = float(np.std(values))
        return max(self.eps * self.size, found if math.isfinite(found) else 0.0)

    @contextlib.contextmanager
    def _moved_in_the_last_bit(self, tensors, rng):
        """Multiply all entries of tensors by 1 + eps or 1 - eps, and restore them at the end."""
        saved = {name: x.copy() for name, x in tensors.items()}
        try:
            for x in tensors.values():
                x *= 1 + self.eps * rng.choice([-1.0, 1.0], x.shape)
            yield
        finally:
            for name, x in tensors.items():
                x[...] = saved[name]

    def _agrees(self, comparison):
        """Return whether both slopes agree to the tolerance, relative to themselves."""
        numeric, analytic = comparison.numeric, comparison.analytic
        return abs(numeric - analytic) <= self.tolerance * max(abs(numeric), abs(analytic))

    def _is_seen(self, comparison, name, size, change=0.0):
        """Return whether an uncertainty is small enough for a verdict on an entry of its size, or of its tensor's.

        change: a slope by which the result changes somehow. An analytic slope that is zero but for round-off may be
        compared with the loss instead.
        """
        analytic, loss = comparison.analytic, self.size / rms(self.function.tensors[name])
        roundoff = sum(self._roundoff_of_backward(name, comparison.index, changes)
                       for changes in (self.roundoff, self.sensitivity))
        is_zero = abs(analytic) <= 64 * self.eps * (size if name in self.sensitivity else max(size, loss)) + roundoff
        typical = max(abs(comparison.numeric), abs(analytic), size, 0.01 * loss if is_zero else change)
        return comparison.uncertainty <= self.tolerance * typical

    def _judged(self, comparison, size, uncertainty):
        """Return the comparison with its error: by itself if it is wrong, else relative to the tensor's gradient."""
        numeric, analytic = comparison.numeric, comparison.analytic
        if not math.isfinite(numeric):
            return replace(comparison, error=math.inf, seen=False)
        difference, own = abs(numeric - analytic), max(abs(numeric), abs(analytic), _TINY)
        allowed = max(self.tolerance * own, uncertainty, _SMALL_ENTRY * self.tolerance * size)
        if difference > allowed:
            return replace(comparison, error=difference / own, uncertainty=uncertainty)
        floor = uncertainty / self.tolerance
        return replace(comparison, error=difference / max(size, own, floor), uncertainty=uncertainty)

    def _compare_carefully(self, name, index, y_at, analytic, size, spread):
        """Measure the slope with many steps, choose the best one, and look for a kink. spread: the noise in L."""
        with np.errstate(all="ignore"):
            y = y_at(0.0)
            scales = list({self.scale(name), rms(self.function.tensors[name])})
            if index is not None and 0 < (small := abs(self.function.tensors[name].flat[index])) < 0.01 * scales[0]:
                scales.append(small)                                  # close to the edge of a domain, as of log at 0
            found = [self._best_slope(y_at, scale, spread) for scale in scales]
            numeric, uncertainty, step = _more_certain(found)
            comparison = Comparison(index, numeric, analytic, math.inf, uncertainty)
            if step is None:
                return replace(comparison, seen=False)
            uncertainty += 64 * self.eps * size + self._roundoff_of_backward(name, index, self.roundoff)
            if not numeric:  # nothing changes: the slope is zero, or round-off in the result hides it
                uncertainty += 64 * self.eps * self.size / self.scale(name)
            judged = self._judged(comparison, size, uncertainty)
            h = _LARGEST_STEP * self.scale(name)
            change = max(abs(float(np.sum((y_at(t) - y) * self.dy))) for t in (h, -h)) / h
            seen = self._is_seen(judged, name, size, change)
            if judged.error <= self.tolerance and seen:
                return judged
            interval = self.one_sided(y_at, y, step, 4 * spread)
        if interval is not None:
            low, high, slack = interval
            if low - slack - uncertainty <= analytic <= high + slack + uncertainty:
                return replace(judged, kink=True, error=0.0)
            return judged if judged.error > self.tolerance else replace(judged, seen=False)
        return judged if seen or judged.error > self.tolerance else replace(judged, seen=False)

    def _best_slope(self, y_at, scale, spread):
        """Return the extrapolated slope with the smallest uncertainty, this uncertainty, and its step, or None."""
        steps = _LARGEST_STEP * scale * 4.0 ** -np.arange(_STEPS)
        slopes = np.array([float(np.sum((y_at(h) - y_at(-h)) * self.dy)) / (2 * h) for h in steps])
        better = (16 * slopes[1:] - slopes[:-1]) / 15
        changes = np.abs(np.diff(better))
        if self.is_single:                                            # few digits agree by chance: two changes count
            changes = np.maximum(changes, np.append(changes[1], changes[:-1]))
        uncertainties = changes + 4 * spread / steps[2:]
        if not np.isfinite(uncertainties).any():
            return float(slopes[-1]), math.inf, None
        best = int(np.nanargmin(np.where(np.isfinite(uncertainties), uncertainties, np.nan)))
        return float(better[best + 1]), float(uncertainties[best]), float(steps[best + 2])

    def one_sided(self, y_at: PerturbedForward, y: np.ndarray, h: float,
                  roundoff: float) -> tuple[float, float, float] | None:
        """Return (lowest, highest, slack) of the slope at a kink within h; None where the loss is smooth."""
        def extrapolated(sign):
            slow, fast = ((y_at(sign * t) - y) * self.dy / (sign * t) for t in (h, h / 4))
            return (4 * fast - slow) / 3

        after, before = extrapolated(1), extrapolated(-1)
        jump = np.abs(after - before)
        if not np.isfinite(jump).all():
            return None
        slopes = float(np.sum(np.abs(after) + np.abs(before)))
        if not float(np.sum(jump)) > max(8 * roundoff / h, 1e-4 * slopes):
            return None
        kinked = jump > 1e-3 * float(jump.max())
        low = float(np.sum(np.minimum(after, before)))
        high = float(np.sum(np.maximum(after, before)))
        is_single = y.size > 1 and np.count_nonzero(kinked) == 1
        return low, high, 1e-3 * (high - low) if is_single else high - low

    def drowns(self, name: str, direction: np.ndarray) -> bool:
        """Return whether a tensor changes nothing only because the result is rounded, as w in 10**15 + w.

        Then larger steps first change the last digits, and from there in proportion to the step. A function that is
        constant near x, such as floor, jumps by more, or never changes.
        """
        y_at = self.perturbed(name, slice(None), direction)
        steps = _LARGEST_STEP / 16 * self.scale(name) * 16.0 ** np.arange(14)
        try:
            with np.errstate(all="ignore"):
                first = next((i for i, t in enumerate(steps) if not np.array_equal(y_at(t), self.y)), len(steps))
                if first == 0 or first + 3 >= len(steps):
                    return False
                changes = [y_at(t) - self.y for t in steps[first:first + 4]]
        except Exception:                                             # of the user's code, far from x
            return False
        _, two, three, four = (float(np.sum(change * self.dy)) for change in changes)   # one is of few digits
        in_last_digits = (np.abs(changes[0]) <= 64 * self.eps * np.abs(self.y)).all()
        return bool(in_last_digits and 8 < three / (two or 1.0) < 32 and 12 < four / (three or 1.0) < 20)

    # ---- directions and entries ----

    def random_direction(self, name: str, rng: np.random.Generator, part: Any = slice(None)) -> np.ndarray:
        """Return a random direction in a part of a flat tensor. No component is zero, and all differ."""
        size = self.gradients[name].reshape(-1)[part].size
        return rng.uniform(0.5, 1.5, size) * rng.choice([-1.0, 1.0], size)

    def compare_direction(self, name: str, direction: Any, method: str, part: Any = slice(None)) -> Comparison:
        """Compare the slopes along a direction in a part of a tensor."""
        gradient = self.gradients[name].reshape(-1)[part]
        with np.errstate(all="ignore"):
            analytic = float(gradient @ direction)
        return self.compare(name, None, part, direction, analytic, norm(gradient), method)

    def compare_entries(self, name: str, indices: Any, method: str) -> list[Comparison]:
        """Compare the slopes of the entries with these flat indices."""
        analytic, size = self.gradients[name].reshape(-1), self.largest(name)
        return [self.compare(name, i, i, 1.0, float(analytic[i]), size, method) for i in indices]

    def without_kinks(self, name: str, direction: np.ndarray) -> tuple["Comparer", float]:
        """Return a comparer whose dy is zero at the entries of the result that have a kink along a direction.

        A kink in one entry of the result says nothing about the others, and the backward is linear in dy. So the
        gradients for the other entries alone can be checked. Also return the share of the result that remains.
        """
        y_at, y = self.perturbed(name, slice(None), direction), self.y
        h = 1e-7 * self.scale(name)
        with np.errstate(all="ignore"):
            bend = np.abs(y_at(h) - 2 * y + y_at(-h))
            slope = np.abs(y_at(h) - y_at(-h)) / 2
        smooth = bend <= 1e-3 * slope + 8 * self.eps * np.abs(y)
        dy = np.where(smooth, self.dy, 0.0)
        gradients = {key: np.asarray(g) for key, g in self.function.backward(dy).items() if g is not None}
        other = Comparer(self.function, y, dy, gradients, "richardson", self.tolerance, self.coupled)
        other._scales, other.roundoff, other.sensitivity = self._scales, self.roundoff, self.sensitivity
        return other, float(np.mean(smooth))


def _more_certain(found):
    """Return the slope with the smallest uncertainty. If they contradict each other, the relative one decides.

    Large steps across a pole, as of 1 / x near 0, agree with each other on a wrong slope.
    """
    best = min(found, key=lambda candidate: candidate[1])
    if any(abs(numeric - best[0]) > uncertainty + best[1] for numeric, uncertainty, step in found if step is not None):
        return min(found, key=lambda candidate: candidate[1] / (abs(candidate[0]) or _TINY))
    return best
