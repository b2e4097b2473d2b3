"""The contract of a forward and a backward. Each violation is one clear error, before any number is compared."""

from typing import Any

import numpy as np

from .differences import magnitude


def _snapshot(subject):
    """Return copies of everything that forward and backward must not change."""
    return {name: x.copy() for name, x in subject.state().items()}


def _must_be_unchanged(subject, before, who):
    """Raise ValueError that names an array which `who` has changed."""
    for name, x in subject.state().items():
        if not np.array_equal(x, before[name]):
            what = "which it was given: it must work on a copy"
            if name in subject.parameters and not subject.is_layer:
                what = ("which the object held before: is it a weight? (A result of an earlier forward or a running "
                        f"mean belongs into constants=({name!r},))")
            raise ValueError(f"the {who} changes {name}, {what}")


def checked_result(subject: Any) -> np.ndarray:
    """Return the forward's result; it must be float64, finite and repeatable, and the forward must change nothing."""
    before = _snapshot(subject)
    try:
        y = subject.forward()
    except Exception as error:
        error.add_note("gradcheck gave the forward float64 copies of its floating inputs and weights")
        raise
    if not isinstance(y, np.ndarray | np.floating | float):
        hint = ": did it forget to return y?" if y is None else ""
        raise TypeError(f"the forward must return one floating array, not {type(y).__name__}{hint}")
    _must_be_unchanged(subject, before, "forward")
    y = np.array(y)
    if y.dtype != np.float64:
        raise ValueError(f"the forward gives {y.dtype} for float64 inputs: differences need all digits of float64 from "
                         "start to end")
    if not np.isfinite(y).all():
        raise ValueError("the forward returns NaN or infinity")
    if not np.array_equal(y, np.array(subject.forward())):
        raise ValueError("the forward is random: it returns two different results for the same input, fix its random "
                         "numbers")
    if not y.size:
        raise ValueError(f"there is nothing to check: the forward's result is empty, {y.shape}")
    return y


def checked_gradients(subject: Any, dy: np.ndarray) -> dict:
    """Return {name: gradient}; each must exist, have the tensor's shape, be float64 and repeatable."""
    before, lent = _snapshot(subject), dy.copy()
    gradients: dict = {name: None if g is None else np.array(g) for name, g in subject.backward(lent).items()}
    _must_be_unchanged(subject, before, "backward")
    if not np.array_equal(lent, dy):
        raise ValueError("the backward changes dy, which it was given: it must work on a copy")
    for name, x in subject.tensors.items():
        gradient = gradients.get(name)
        if gradient is None and name in subject.inputs:
            raise ValueError(f"the backward returns None for {name}: did it forget to return dx? (A constant belongs "
                             "into constants=(...))")
        if gradient is None:
            raise ValueError(f"the backward gives no gradient for {name} (a constant belongs into "
                             f"constants=({name!r},))")
        if gradient.shape != x.shape:
            raise ValueError(f"the gradient of {name} has the shape {gradient.shape}, but {name} itself {x.shape}")
        if gradient.dtype != np.float64:
            raise ValueError(f"the gradient of {name} is {gradient.dtype}: the backward must compute in float64 where "
                             "the forward does")
    for name, again in subject.backward(dy.copy()).items():
        if not np.array_equal(again, gradients[name], equal_nan=True):
            raise ValueError(f"the backward gives two different gradients of {name} for the same input: it is random")
    return {name: gradients[name] for name, x in subject.tensors.items() if x.size}


def coupling(subject: Any, y: np.ndarray, rng: np.random.Generator, independent: bool | None) -> tuple:
    """Return a note if images of the result depend on other images of the first input, else an empty tuple.

    Raises ValueError instead of a note if `independent`.
    """
    name, x = next(iter(subject.inputs.items()), (None, np.zeros(0)))
    testable = min(x.ndim, y.ndim) >= 2 and len(x) == len(y) > 1
    if independent and not testable:
        raise ValueError("independent=True needs an input and a result of the same two images or more on the first "
                         "axis")
    if independent is False or not testable:
        return ()

    def seen_by(images):
        """The other images of the result that move with these of the input."""
        kept = x[images].copy()
        x[images] += rng.standard_normal(kept.shape) * magnitude(x)
        moved = np.abs(np.array(subject.forward()) - y).reshape(len(y), -1).max(axis=1)
        x[images] = kept
        return [i for i in range(len(y)) if i not in images and moved[i] > 1e-9 * np.abs(y).max()]

    # Two images differ in a bit of their numbers: by all whose bit is 0, and all whose bit is 1, every pair is tried in
    # a few forwards.
    numbers = range(len(x))
    halves = [[b for b in numbers if b >> bit & 1 == value] for bit in range((len(x) - 1).bit_length())
              for value in (0, 1)]
    for half in halves:
        if seen_by(half):
            b, seen = next(((b, seen) for b in half if (seen := seen_by([b]))), (half, seen_by(half)))
            found = f"images see each other: result[{seen[0]}] depends on {name}[{b}]"
            if independent or subject.is_layer:
                raise ValueError(f"{found}; if they may, say independent=False")
            return (found,)
    return ()
