"""Numerical verification of a forward and backward: is the gradient that the backward returns the slope that the forward has?

For any tensor x that the forward depends on, and L = sum(y * dy) with a fixed random dy, the slope at one entry is

    dL/dx_i  =  (L(x + h e_i) - L(x - h e_i)) / 2h  +  O(h**2)                     central difference, D(h)
    dL/dx_i  =  (4 D(h/2) - D(h)) / 3               +  O(h**4)                     Richardson extrapolation

Too large an h leaves the truncation error, too small an h the round-off eps L / h. The step is therefore the power of eps
that balances both, times the magnitude of the tensor. The difference of the losses is taken as sum((y+ - y-) * dy): the same
number, with less cancellation.

What makes a check worth something: float64; random weights, never the initial ones (a wrong layer norm passes while its weight is 1); a
random upstream gradient, never ones (whose softmax and layer-norm gradients vanish); every tensor, inputs too.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .arguments import check_name, check_number

_EPS = np.finfo(np.float64).eps
_STEP = {"central": _EPS ** (1 / 3), "richardson": _EPS ** (1 / 5)}


@dataclass(frozen=True)
class Row:
    """The verdict on one tensor. `index`, `numeric` and `analytic` belong to the entry with the largest error."""

    tensor: str
    entries: int
    size: int
    error: float
    index: tuple[int, ...]
    numeric: float
    analytic: float
    ok: bool


@dataclass(frozen=True)
class Report:
    """What `gradcheck` found: `ok`, `worst` (the largest error), `rows` (one per tensor); `str(report)` is a table."""

    rows: tuple[Row, ...]
    tolerance: float
    method: str

    @property
    def ok(self):
        """Whether every tensor passed."""
        return all(row.ok for row in self.rows)

    @property
    def worst(self):
        """The largest error of all tensors."""
        return max(row.error for row in self.rows)

    def __str__(self):
        width = max(len("tensor"), *(len(row.tensor) for row in self.rows))
        lines = [f"{'tensor':{width}}  {'entries':>12}  {'error':>8}  {'numeric':>12}  {'analytic':>12}"]
        for row in self.rows:
            entries = f"{row.entries}/{row.size}"
            verdict = "ok" if row.ok else f"WRONG at {row.index}"
            lines.append(f"{row.tensor:{width}}  {entries:>12}  {row.error:8.1e}  {row.numeric:12.5g}  {row.analytic:12.5g}  {verdict}")
        failed = sum(not row.ok for row in self.rows)
        verdict = "all tensors pass" if self.ok else f"{failed} of {len(self.rows)} tensors FAIL"
        return "\n".join([*lines, f"{verdict}: worst error {self.worst:.1e}, tolerance {self.tolerance:.0e}, {self.method} differences"])


def gradcheck(target, *arrays, samples=32, tolerance=1e-6, method="richardson", seed=0):
    """Check every gradient of `target` against differences; returns a `Report`.

    target: a layer or model; a pair of functions, `forward(*inputs) -> y, cache` and `backward(dy, cache) -> gradients` in the order of
        the inputs; or any object with `forward(*inputs) -> y` and `backward(dy)`, whose parameters are the float arrays that it holds
        before the first forward, and their gradients `d<name>` or `grads[name]` after the backward. The target itself is not
        changed: copies in float64 are.
    arrays: the inputs. Floating ones are checked (a pair may give None for one that it takes as constant); integer ones (labels, uint8
        pixels) are constants.
    samples: entries checked in each tensor, at random; all if it has no more.
    method: "richardson", or "central" (half the work, three digits fewer).

    A tensor passes if its largest error is at most `tolerance`, where

        error = |numeric - analytic| / max(G, floor)          G: the largest |entry|, numeric or analytic, of this tensor's samples
        floor = eps |y dy| / (h tolerance)                    |.|: 2-norm; h: the step. Below it, differences are round-off.

    Raises TypeError if there is nothing to check or no backward; ValueError if the forward changes its input, gives
    two different results for the same input or one that is not finite, or if a gradient is missing or of the wrong shape.
    """
    check_name("method", method, _STEP)
    check_number("number of samples", samples, least=1, whole=True)
    rng = np.random.default_rng(seed)
    inputs = [np.array(x, np.float64) if np.issubdtype(np.asarray(x).dtype, np.floating) else np.asarray(x) for x in arrays]
    subject = _subject(target, inputs, rng)
    y = _repeatable(subject, inputs)
    dy = rng.standard_normal(y.shape)
    subject.forward()
    analytic = _with_shapes(subject, subject.backward(dy.copy()))
    noise = _EPS * float(np.linalg.norm(y * dy))
    rows = []
    for name, gradient in analytic.items():
        tensor = subject.tensors[name]
        step = _STEP[method] * (float(np.sqrt(np.mean(tensor * tensor))) or 1.0)
        indices = _choose(rng, tensor.shape, samples)
        numeric = np.array([_slope(subject.forward, tensor, i, step, dy, method) for i in indices])
        rows.append(_judge(name, tensor.size, indices, numeric, np.array([gradient[i] for i in indices]), noise / step, tolerance))
    return Report(tuple(rows), tolerance, method)


# ---- differences ------------------------------------------------------------------------------------------


def _slope(forward, tensor, index, step, dy, method):
    """The numeric dL/dx at one entry of `tensor`, which is moved in place and put back."""
    def central(h):
        here = tensor[index]
        tensor[index] = above = here + h
        y_above = np.array(forward())                                 # a copy: a forward may return its input
        tensor[index] = below = here - h
        y_below = np.array(forward())
        tensor[index] = here
        return float(np.sum((y_above - y_below) * dy)) / (above - below)

    return central(step) if method == "central" else (4 * central(step / 2) - central(step)) / 3


def _choose(rng, shape, samples):
    size = math.prod(shape)
    flat = np.arange(size) if size <= samples else np.sort(rng.choice(size, samples, replace=False))
    return [tuple(int(i) for i in np.unravel_index(j, shape)) for j in flat]


def _judge(name, size, indices, numeric, analytic, noise, tolerance):
    difference = np.abs(numeric - analytic)
    largest = max(float(np.abs(numeric).max()), float(np.abs(analytic).max()))
    error = difference / max(largest, noise / tolerance, np.finfo(np.float64).tiny)  # 0 / 0 is no error
    at = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    return Row(name, len(indices), size, float(error[at]), indices[at], float(numeric[at]), float(analytic[at]),
               ok=bool(error[at] <= tolerance))


def _repeatable(subject, inputs):
    """The forward's result, after it has proved that it changes no input and gives the same again."""
    before = [x.copy() for x in inputs]
    y, again = np.array(subject.forward()), np.array(subject.forward())
    if not all(np.array_equal(a, b, equal_nan=np.issubdtype(a.dtype, np.floating)) for a, b in zip(inputs, before, strict=True)):
        raise ValueError("the forward changes its input")
    if not np.isfinite(y).all():
        raise ValueError("the forward gives NaN or infinity")
    if not np.array_equal(y, again):
        raise ValueError("the forward gives two different results for the same input")
    return y


def _with_shapes(subject, gradients):
    """The gradients, once every tensor has one of its own shape (None for an input: it is a constant)."""
    checked = {}
    for name, tensor in subject.tensors.items():
        gradient = gradients[name]
        if gradient is None and name in subject.inputs:
            if not subject.may_have_constants:
                raise ValueError(f"the backward returns None for {name}: did it forget to return dx?")
            continue
        if gradient is None:
            raise ValueError(f"the backward gives no gradient for {name}")
        if np.shape(gradient) != tensor.shape:
            raise ValueError(f"the gradient of {name} has the shape {np.shape(gradient)}, but {name} itself {tensor.shape}")
        checked[name] = np.array(gradient)
    if not checked:
        raise TypeError("there is nothing to check: no floating-point input and no parameter")
    return checked


# ---- what can be checked ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Subject:
    """A target made uniform: named float64 tensors that `forward()` reads, and `backward(dy)`, their gradients by name."""

    inputs: dict[str, np.ndarray]
    parameters: dict[str, np.ndarray]
    forward: Callable
    backward: Callable
    may_have_constants: bool = False                                  # inputs for which a backward may return None

    @property
    def tensors(self):
        """All that is checked: inputs, then parameters."""
        return self.inputs | self.parameters


def _subject(target, inputs, rng):
    floats = {f"input {i}" if len(inputs) > 1 else "input": x for i, x in enumerate(inputs) if x.dtype == np.float64}
    if isinstance(target, tuple) and len(target) == 2:
        return _of_functions(*target, inputs, floats)
    for method in ("forward", "backward"):
        if not callable(getattr(target, method, None)):
            raise TypeError(f"{type(target).__name__} has no method {method!r}: "
                            "give an object with forward and backward, or a pair of functions")
    is_layer = all(callable(getattr(target, name, None)) for name in ("parameters", "astype", "name_parameters"))
    return (_of_layer if is_layer else _of_object)(target, inputs, floats, rng)


def _input_gradients(gradients, inputs, floats):
    """Gradients by name from what a backward returned for its inputs: one array, or one for each input or floating input."""
    gradients = gradients if isinstance(gradients, tuple | list) else (gradients,)
    if len(gradients) == len(inputs):
        gradients = [g for g, x in zip(gradients, inputs, strict=True) if x.dtype == np.float64]
    if len(gradients) != len(floats):
        raise ValueError(f"the backward gives {len(gradients)} gradients for {len(floats)} floating-point inputs")
    return dict(zip(floats, gradients, strict=True))


def _of_functions(forward, backward, inputs, floats):
    return _Subject(floats, {}, lambda: forward(*inputs)[0],
                    lambda dy: _input_gradients(backward(dy, forward(*inputs)[1]), inputs, floats), may_have_constants=True)


def _randomised(value, rng):
    """Somewhere near `value`, but nowhere special: matrices by their fan-in, so that nothing saturates."""
    spread = 1 / math.sqrt(value.shape[0]) if value.ndim > 1 else 0.5
    return value + spread * rng.standard_normal(value.shape)


def _of_layer(layer, inputs, floats, rng):
    layer = layer.astype(np.float64)
    layer.name_parameters()
    parameters = layer.parameters()
    for p in parameters:
        p.data = _randomised(p.data, rng)

    def backward(dy):
        returned = layer.backward(dy)
        gradients = _input_gradients(returned, inputs, floats) if floats else {}
        return gradients | {p.name: p.grad for p in parameters}

    return _Subject(floats, {p.name: p.data for p in parameters}, lambda: layer.forward(*inputs), backward)


def _of_object(target, inputs, floats, rng):
    target = copy.deepcopy(target)
    held = {name: value for name, value in vars(target).items()
            if isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating)}
    # A held `dw` beside a held `w` is memory for its gradient.
    arrays = {name: _randomised(value.astype(np.float64), rng) for name, value in held.items() if name[:1] != "d" or name[1:] not in held}
    vars(target).update(arrays)

    def backward(dy):
        returned = target.backward(dy)
        gradients = _input_gradients(returned, inputs, floats) if floats else {}
        grads = getattr(target, "grads", {})
        return gradients | {name: getattr(target, f"d{name}", grads.get(name)) for name in arrays}

    return _Subject(floats, arrays, lambda: target.forward(*inputs), backward)
