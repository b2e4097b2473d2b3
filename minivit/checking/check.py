"""`gradcheck`: the one function, its rules, and the judgement of one tensor."""

import dataclasses
import math

import numpy as np
import threadpoolctl

from ..arguments import check_name, check_number
from .differences import EPS, SLOPES, Line, bend, taylor_order
from .hints import hint_for
from .report import Report, Row
from .subject import make_subject

_FILTERS = ("directional", "taylor")


def gradcheck(target, *inputs, constants=(), method="richardson", samples=32, tolerance=1e-6, independent=None, seed=0):
    """Check every gradient of `target` against the slope of its forward; returns a `Report`: `ok`, `worst`, `rows`, `str()`, `plot()`.

    target: one of three. A pair of functions, `forward(*inputs) -> y, cache` and `backward(dy, cache) -> gradients` in the order of
        the inputs. A layer or model of minivit. Any object with `forward(*inputs) -> y` and `backward(dy) -> gradients of the inputs`:
        its parameters are the float arrays that it holds before the first forward (also in lists, dicts, and objects of the same
        kind), and their gradients `d<name>` or `grads[name]` after the backward. Nothing given is changed: what is
        checked are copies in float64, their parameters moved to random places.
    inputs: floating arrays are checked; integers (labels, uint8 pixels), single numbers, strings and None are constants.
    constants: names of floating inputs or parameters that have no gradient (a mask, a table).
    method: "richardson" or "central", entry by entry; "complex", the same by the complex step, for a pair of analytic functions;
        "directional" or "taylor", fast filters that look at each tensor along one random direction, and measure
        entries by Richardson extrapolation only where it fails. A filter is no proof: an error of a fraction e of the gradient
        escapes "directional" with a probability of about tolerance / e.
    samples: entries measured in each tensor, at random; all, if it has no more. If it has, one direction over all of it is measured as
        well, and where that fails, bisection finds an entry that is wrong.
    tolerance: of the error below.
    independent: whether images, the first axis of input and result, must not see each other in the forward: an error if they do. None:
        they must in a layer or model; elsewhere the report notes it.

    The pass rule. For an entry, with h the step and |.| the 2-norm,

        error = |numeric - analytic| / max(G, floor)          G: the largest |entry|, numeric or analytic, of those measured in this tensor
        floor = 4 EPS |y dy| / (h tolerance)                  below it, differences are round-off

    and for a direction, G is |gradient|, or |numeric| if that is larger. A tensor passes if no measured error is above the tolerance. Where
    the forward has a kink (ReLU at zero), it has no slope: a measurement above the tolerance which the step itself may explain (with half
    the step it changes, or the forward bends, `differences.bend`, by more than a tenth of the difference) is repeated by Richardson
    extrapolation with a step 32 and 1024 times smaller, and if it is no better, skipped and counted as a kink; a tensor of
    which less than half of the entries are left fails. "taylor" demands besides that the remainder falls with an order of at least 1.5.

    Raises TypeError if there is nothing to check or no backward; ValueError if the forward or backward changes what it was given, gives two
    different results for the same input or one that is not finite or not float64, if a gradient is missing or of the wrong shape,
    or if images see each other that must not.
    """
    check_name("method", method, [*SLOPES, *_FILTERS])
    check_number("number of samples", samples, least=1, whole=True)
    check_number("tolerance", tolerance, above=0, below=1)
    rng = np.random.default_rng(seed)
    subject = make_subject(target, inputs, [constants] if isinstance(constants, str) else constants, rng)
    if not any(x.size for x in subject.tensors.values()):
        raise TypeError("there is nothing to check: no floating-point input and no parameter")
    # One thread: the products of a small subject are faster without a second, and do not wait for it on a busy machine.
    with threadpoolctl.threadpool_limits(1, "blas"):
        y = _checked_result(subject)
        dy = rng.standard_normal(y.shape)
        gradients = _checked_gradients(subject, dy)
        notes = _coupling(subject, y, rng, independent)
        trial = Trial(subject, y, dy, gradients, method, samples, tolerance, coupled=bool(notes))
        rows = tuple(trial.judge(name, rng) for name in gradients)
    return Report(rows, tolerance, method, notes, trial)


# ---- what must hold before a number is worth a look ---------------------------------------------------------


def _snapshot(subject):
    return {name: x.copy() for name, x in subject.state().items()}


def _must_be_unchanged(subject, before, who):
    for name, x in subject.state().items():
        if not np.array_equal(x, before[name]):
            raise ValueError(f"the {who} changes {name}, which it was given: it must work on a copy")


def _checked_result(subject):
    """The forward's result, once it has proved to be float64, finite, and the same again, and to change nothing."""
    before = _snapshot(subject)
    y = subject.forward()
    if not isinstance(y, np.ndarray | np.floating | float):
        hint = ": did it forget to return y?" if y is None else ""
        raise TypeError(f"the forward must return one floating array, not {type(y).__name__}{hint}")
    _must_be_unchanged(subject, before, "forward")
    y = np.array(y)
    if y.dtype != np.float64:
        raise ValueError(f"the forward gives {y.dtype} for float64 inputs: differences need all digits of float64 from start to end")
    if not np.isfinite(y).all():
        raise ValueError("the forward gives NaN or infinity")
    if not np.array_equal(y, np.array(subject.forward())):
        raise ValueError("the forward gives two different results for the same input: fix what is random in it")
    if not y.size:
        raise ValueError(f"there is nothing to check: the forward's result is empty, {y.shape}")
    return y


def _checked_gradients(subject, dy):
    """{name: gradient} of every tensor, once each is there, has its shape and dtype, and is the same again."""
    before, lent = _snapshot(subject), dy.copy()
    gradients: dict = {name: None if g is None else np.array(g) for name, g in subject.backward(lent).items()}
    _must_be_unchanged(subject, before, "backward")
    if not np.array_equal(lent, dy):
        raise ValueError("the backward changes dy, which it was given: it must work on a copy")
    for name, x in subject.tensors.items():
        gradient = gradients.get(name)
        if gradient is None and name in subject.inputs:
            raise ValueError(f"the backward returns None for {name}: did it forget to return dx? (A constant belongs into constants=(...))")
        if gradient is None:
            raise ValueError(f"the backward gives no gradient for {name} (a constant belongs into constants=({name!r},))")
        if gradient.shape != x.shape:
            raise ValueError(f"the gradient of {name} has the shape {gradient.shape}, but {name} itself {x.shape}")
        if gradient.dtype != np.float64:
            raise ValueError(f"the gradient of {name} is {gradient.dtype}: the backward must compute in float64 where the forward does")
    for name, again in subject.backward(dy.copy()).items():
        if not np.array_equal(again, gradients[name], equal_nan=True):
            raise ValueError(f"the backward gives two different gradients of {name} for the same input: it is random")
    return {name: gradients[name] for name, x in subject.tensors.items() if x.size}


def _coupling(subject, y, rng, independent):
    """A note, or an error if `independent`, if another image of the result moves with one image of an input."""
    if independent is False:
        return ()
    for name, x in subject.inputs.items():
        if min(x.ndim, y.ndim) < 2 or len(x) != len(y):
            continue
        for b in {0, len(x) - 1}:
            kept = x[b].copy()
            x[b] += rng.standard_normal(kept.shape) * (np.sqrt(np.mean(x * x)) or 1.0)
            moved = np.abs(np.array(subject.forward()) - y).reshape(len(y), -1).max(axis=1)
            x[b] = kept
            seen = [i for i in range(len(y)) if i != b and moved[i] > 1e-9 * np.abs(y).max()]
            if seen:
                found = f"images see each other: result[{seen[0]}] depends on {name}[{b}]"
                if independent or subject.is_layer:
                    raise ValueError(f"{found}; if they may, say independent=False")
                return (found,)
    return ()


# ---- the judgement of one tensor ------------------------------------------------------------------------------


class Trial:
    """One target under one random dy, with the gradients that its backward gave: what each tensor is judged by."""

    def __init__(self, subject, y, dy, gradients, method, samples, tolerance, coupled):
        self.subject, self.dy, self.gradients, self.coupled = subject, dy, gradients, coupled
        self.method, self.samples, self.tolerance = method, samples, tolerance
        self.noise = 4 * EPS * float(np.linalg.norm(y * dy))          # round-off in L
        self.complex = self._complex_subject(y) if method == "complex" else None

    def _complex_subject(self, y):
        subject = self.subject.as_complex() if self.subject.as_complex else None
        if subject is None:
            raise TypeError('method "complex" takes a pair of analytic functions, (forward, backward); use "richardson" here')
        try:
            z = np.asarray(subject.forward())
        except Exception as error:
            raise TypeError(f'the forward does not take complex numbers, as method "complex" needs; use "richardson" ({error})') from error
        if not np.iscomplexobj(z) or np.abs(z - y).max() > 1e-9 * np.abs(y).max():
            raise TypeError('the forward is not analytic (its complex result has lost its imaginary part, or differs); use "richardson"')
        return subject

    def scale(self, name):
        """The root mean square of a tensor, of which steps are fractions; 1 for a tensor of zeros."""
        x = self.subject.tensors[name]
        return float(np.sqrt(np.mean(x * x))) or 1.0

    def line(self, name, where, direction=1.0, subject=None):
        """The forward along one line of a tensor."""
        subject = subject or self.subject
        return Line(subject.forward, subject.tensors[name].reshape(-1), where, direction)

    def measure(self, name, where, direction, analytic, size, method):
        """-> numeric, error, whether there is a kink: the slope along a line, against the `analytic` one.

        size: of the gradient, by which the error is divided, but for the numeric slope or round-off if they are larger.
        """
        scale, line = self.scale(name), self.line(name, where, direction, self.complex if method == "complex" else None)
        for way, cut in ((SLOPES[method], 1), (SLOPES["richardson"], 32), (SLOPES["richardson"], 1024)):
            h = way.step * scale / cut
            numeric = way.slope(line, h, self.dy)
            floor = self.noise / (way.divisor * scale / cut * self.tolerance)
            if cut > 1 and floor > max(size, abs(numeric)):           # so small a step that round-off would hide the difference
                return numeric, math.inf, True
            difference = abs(numeric - analytic)
            error = difference / max(size, abs(numeric), floor, np.finfo(np.float64).tiny)  # 0 / 0 is no error
            if error <= self.tolerance or method == "complex" or not math.isfinite(difference):
                break
            if abs(numeric - way.slope(line, h / 2, self.dy)) + bend(line, h, self.dy) <= 0.1 * difference:
                break
        else:
            return numeric, error, True
        return numeric, math.inf if math.isnan(error) else error, False

    def direction(self, name, rng, part=slice(None)):
        """A random direction in a part of a flat tensor: every entry has its share, and none of them the same."""
        size = self.gradients[name].reshape(-1)[part].size
        return rng.uniform(0.5, 1.5, size) * rng.choice([-1.0, 1.0], size)

    def along(self, name, direction, method, part=slice(None)):
        """-> numeric, analytic, error, kink: the slope along a direction in a part of a tensor."""
        gradient = self.gradients[name].reshape(-1)[part]
        analytic = float(gradient @ direction)
        numeric, error, kink = self.measure(name, part, direction, analytic, float(np.linalg.norm(gradient)), method)
        return numeric, analytic, error, kink

    def entries(self, name, indices, method):
        """[numeric, analytic, error, kink] of the entries with these flat indices."""
        analytic = self.gradients[name].reshape(-1)[indices]
        way, subject = SLOPES[method], self.complex if method == "complex" else None
        step = way.step * self.scale(name)
        numeric = np.array([way.slope(self.line(name, i, subject=subject), step, self.dy) for i in indices])
        size = max((abs(v) for v in (*numeric, *analytic) if math.isfinite(v)), default=0.0)
        floor = self.noise / (way.divisor * self.scale(name) * self.tolerance)
        errors = np.abs(numeric - analytic) / max(size, floor, np.finfo(np.float64).tiny)
        found = []
        for i, n, a, error in zip(indices, numeric, analytic, errors, strict=True):
            kink = False
            if not error <= self.tolerance:                           # once more: is there a kink?
                n, error, kink = self.measure(name, i, 1.0, a, size, method)
            found.append((float(n), float(a), float(error), kink))
        return found

    def locate(self, name, rng, method):
        """The flat index of an entry where numeric and analytic differ, by bisection: the half that differs more goes on."""
        low, high = 0, self.gradients[name].size
        while high - low > 1:
            halves = slice(low, (low + high) // 2), slice((low + high) // 2, high)
            differences = []
            for half in halves:
                numeric, analytic, _, _ = self.along(name, self.direction(name, rng, half), method, half)
                differences.append(abs(numeric - analytic))
            worse = halves[int(np.argmax(differences))]
            low, high = worse.start, worse.stop
        return low

    def judge(self, name, rng):
        """The row of one tensor."""
        if self.method in _FILTERS:
            row = self.judge_by_direction(name, rng)
            if row.ok:
                return row
        return self.judge_by_entries(name, rng, "richardson" if self.method in _FILTERS else self.method)

    def judge_by_direction(self, name, rng):
        """The row of one tensor along one random direction; for "taylor", by the order of the remainder too."""
        direction = self.direction(name, rng)
        numeric, analytic, error, kink = self.along(name, direction, "central")
        order = math.nan
        if self.method == "taylor":
            order = taylor_order(self.line(name, slice(None), direction), self.scale(name), analytic, self.dy, self.noise)
        ok = error <= self.tolerance and not kink and not order < 1.5
        return Row(name, 1, self.gradients[name].size, self.method, error, (), numeric, analytic, ok, order=order)

    def judge_by_entries(self, name, rng, method):
        """The row of one tensor by its entries, and along one direction if not all are measured."""
        gradient = self.gradients[name]
        size = gradient.size
        indices = list(range(size)) if size <= self.samples else sorted(int(i) for i in rng.choice(size, self.samples, replace=False))
        found = [(i, *values) for i, values in zip(indices, self.entries(name, indices, method), strict=True)]
        if size > self.samples:
            numeric, analytic, error, kink = self.along(name, self.direction(name, rng), method)
            if not kink:
                found.append((None, numeric, analytic, error, False))
            if not kink and error > self.tolerance and all(e <= self.tolerance or k for _, _, _, e, k in found[:-1]):
                i = self.locate(name, rng, method)
                found.append((i, *self.entries(name, [i], method)[0]))
        smooth = [values for values in found if not values[-1]] or found
        kinks = sum(values[-1] for values in found)
        worst = max(error for _, _, _, error, _ in smooth)
        ok = worst <= self.tolerance and 2 * kinks <= len(indices)
        # What is shown of a right tensor should not depend on round-off; and an entry says more than a direction.
        entries = [v for v in smooth if v[0] is not None and (ok or v[3] > self.tolerance)] or smooth
        i, numeric, analytic, _, _ = max(entries, key=lambda v: abs(v[2]) if ok else v[3])
        index = () if i is None else tuple(int(j) for j in np.unravel_index(i, gradient.shape))
        row = Row(name, len(indices), size, method, worst, index, numeric, analytic, ok, kinks=kinks)
        if ok:
            return row
        self.must_see_small_changes(name)
        return dataclasses.replace(row, hint=hint_for(self, name, i, rng))

    def must_see_small_changes(self, name):
        """Raise ValueError if the result stays the same when a tensor moves by 1e-10 of itself, although it moves with 1e-3."""
        signs = np.where(np.arange(self.gradients[name].size) % 2, 1.0, -1.0)
        line, scale = self.line(name, slice(None), signs), self.scale(name)
        y = line(0.0)
        if np.array_equal(line(1e-10 * scale), y) and not np.array_equal(line(1e-3 * scale), y):
            raise ValueError(f"the forward does not see {name} move by 1e-10 of itself: it computes in float32 inside, or rounds it off")
