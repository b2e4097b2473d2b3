"""The contract of a forward and a backward. Each violation is one clear error, before any number is compared."""

from typing import Any

import numpy as np

from .differences import rms


def _copied_state(function):
    """Return copies of everything that forward and backward must not change."""
    return {name: x.copy() for name, x in function.state().items()}


def _check_unchanged(function, before, caller):
    """Raise ValueError that names an array that `caller`, the forward or the backward, has changed."""
    for name, x in function.state().items():
        if not np.array_equal(x, before[name]):
            what = "work on a copy"
            if name in function.parameters and not function.is_layer:
                what += (", or, if it is no weight but a result of an earlier forward or a running mean, pass "
                         f"constants=({name!r},)")
            raise ValueError(f"the {caller} changes {name}: found other values after the call, expected the same, "
                             f"{what}")


def checked_result(function: Any) -> np.ndarray:
    """Return the forward's result; it must be float64, finite and repeatable, and the forward must change nothing."""
    before = _copied_state(function)
    try:
        y = function.forward()
    except Exception as error:
        error.add_note("gradcheck gave the forward float64 copies of its floating inputs and weights")
        raise
    if not isinstance(y, np.ndarray | np.floating | float):
        what = "add the return statement" if y is None else "return an array"
        raise TypeError(f"wrong type of the forward's result: found {type(y).__name__}, expected one floating array, "
                        f"{what}")
    _check_unchanged(function, before, "forward")
    y = np.array(y)
    if y.dtype != np.float64:
        raise ValueError(f"wrong dtype of the forward's result: found {y.dtype} for float64 inputs, expected float64, "
                         "keep the dtype of the inputs in every step")
    if not np.isfinite(y).all():
        raise ValueError("wrong values in the forward's result: found NaN or infinity, expected finite numbers, choose "
                         "other inputs or correct the forward")
    if not np.array_equal(y, np.array(function.forward())):
        raise ValueError("the forward is random: found two different results for the same input, expected equal ones, "
                         "fix its random numbers")
    if not y.size:
        raise ValueError(f"nothing to check: found an empty result of the forward of shape {y.shape}, expected at "
                         "least one number, pass larger inputs")
    return y


def checked_gradients(function: Any, dy: np.ndarray) -> dict:
    """Return {name: gradient}; each must exist, have the tensor's shape, be float64 and repeatable."""
    before, passed_dy = _copied_state(function), dy.copy()
    gradients: dict = {name: None if g is None else np.array(g) for name, g in function.backward(passed_dy).items()}
    _check_unchanged(function, before, "backward")
    if not np.array_equal(passed_dy, dy):
        raise ValueError("the backward changes dy: found other values after the call, expected the same, work on a "
                         "copy")
    for name, x in function.tensors.items():
        _check_gradient(name, x, gradients.get(name), name in function.inputs)
    for name, again in function.backward(dy.copy()).items():
        if not np.array_equal(again, gradients[name], equal_nan=True):
            raise ValueError(f"the backward is random: found two different gradients of {name} for the same input, "
                             "expected equal ones, fix its random numbers")
    return {name: gradients[name] for name, x in function.tensors.items() if x.size}


def _check_gradient(name, x, gradient, is_input):
    """Raise ValueError unless there is a gradient with the shape of x in float64."""
    if gradient is None:
        what = "return it from the backward" if is_input else "assign it in the backward"
        raise ValueError(f"missing gradient of {name}: found None after the backward, expected an array of shape "
                         f"{x.shape}, {what}, or name a constant in constants=({name!r},)")
    if gradient.shape != x.shape:
        raise ValueError(f"wrong shape of the gradient of {name}: found {gradient.shape}, expected {x.shape}, the "
                         f"shape of {name}, sum over axes that broadcast")
    if gradient.dtype != np.float64:
        raise ValueError(f"wrong dtype of the gradient of {name}: found {gradient.dtype}, expected float64 as in the "
                         "forward, keep the dtype of dy")


def checked_complex(function: Any, y: np.ndarray) -> Any:
    """Return the function with complex tensors, for the complex step; its result must agree with y."""
    if function.as_complex is None:
        raise TypeError('method "complex" cannot check this target: found an object, expected a pair of analytic '
                        'functions, (forward, backward), use method="richardson"')
    complex_function = function.as_complex()
    try:
        z = np.asarray(complex_function.forward())
    except Exception as error:
        raise TypeError(f'method "complex" cannot check this forward: found {type(error).__name__} ({error}) for '
                        'complex inputs, expected a result, use method="richardson"') from error
    if not np.iscomplexobj(z) or np.abs(z - y).max() > 1e-9 * np.abs(y).max():
        raise TypeError('method "complex" cannot check this forward: found a complex result that is real or differs '
                        'from the real one, expected an analytic function, use method="richardson"')
    return complex_function


def coupling(function: Any, y: np.ndarray, rng: np.random.Generator, independent: bool | None) -> tuple:
    """Return a note if images of the result depend on other images of the first input, else an empty tuple.

    Raises ValueError instead of a note if `independent`, or for a layer.
    """
    name, x = next(iter(function.inputs.items()), (None, np.zeros(0)))
    testable = min(x.ndim, y.ndim) >= 2 and len(x) == len(y) > 1
    if independent and not testable:
        raise ValueError(f"independence cannot be tested: found an input of shape {x.shape} and a result of shape "
                         f"{y.shape}, expected the same two or more images on the first axis, pass such a batch or "
                         "leave out independent=True")
    if independent is False or not testable:
        return ()
    pair = _coupled_images(function, x, y, rng)
    if pair is None:
        return ()
    found = f"images of the batch influence each other: result[{pair[0]}] depends on {name}[{pair[1]}]"
    if independent or function.is_layer:
        raise ValueError(f"{found}, expected independent images, correct the forward or pass independent=False")
    return (found,)


def _coupled_images(function, x, y, rng):
    """Return (i, b) so that image i of the result depends on image b of the input x; None if there are none."""
    def affected_by(images):
        """Return the other images of the result that change with these images of the input."""
        saved = x[images].copy()
        x[images] += rng.standard_normal(saved.shape) * rms(x)
        change = np.abs(np.array(function.forward()) - y).reshape(len(y), -1).max(axis=1)
        x[images] = saved
        return [i for i in range(len(y)) if i not in images and change[i] > 1e-9 * np.abs(y).max()]

    # The indices of two images differ in at least one bit. For each bit, change all images that have it, then all that
    # do not: this tests every pair of images with few forwards.
    indices = range(len(x))
    halves = [[b for b in indices if b >> bit & 1 == value] for bit in range((len(x) - 1).bit_length())
              for value in (0, 1)]
    for half in halves:
        if affected_by(half):
            b, affected = next(((b, affected) for b in half if (affected := affected_by([b]))),
                               (half, affected_by(half)))
            return affected[0], b
    return None
