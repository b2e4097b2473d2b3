"""The contract of a forward and a backward. Each violation is one clear error, before any number is compared."""

from typing import Any

import numpy as np

from .differences import rms
from .function import FunctionUnderTest, Results
from .trees import is_number, leaves, mapped, path


def _copied_state(function):
    """Return copies of everything that forward and backward must not change."""
    return {name: np.copy(x) for name, x in function.state().items()}


def _check_unchanged(function, before, caller):
    """Raise ValueError that names the arrays that `caller`, the forward or the backward, has changed."""
    after = function.state()
    changed = [name for name, x in before.items() if name in after
               and not np.array_equal(x, after[name], equal_nan=x.dtype.kind in "fc")]
    if changed:
        what = "work on a copy"
        if changed[0] in function.parameters and not function.is_layer:
            what += (", or, if it is no weight but a result of an earlier forward or a running mean, pass "
                     f"constants=({changed[0]!r},)")
        raise ValueError(f"the {caller} changes {', '.join(changed)}: found other values after the call, expected the "
                         f"same, {what}")


def checked_result(function: FunctionUnderTest) -> Results:
    """Return the forward's result; it must be float64, finite and repeatable, and the forward must change nothing."""
    before = _copied_state(function)
    try:
        y = function.forward()
    except Exception as error:
        error.add_note("gradcheck gave the forward float64 copies of its floating inputs and weights")
        raise
    results = Results(y)
    _check_unchanged(function, before, "forward")
    for keys, array in results.arrays.items():
        what = path("", keys) and f" ({path('', keys)})"
        if array.dtype not in (np.float64, np.complex128) and not function.is_single:
            raise ValueError(f"wrong dtype of the forward's result{what}: found {array.dtype} for float64 inputs, "
                             "expected float64, keep the dtype of the inputs in every step")
        if not np.isfinite(array).all():
            raise ValueError(f"wrong values in the forward's result{what}: found NaN or infinity, expected finite "
                             "numbers, choose other inputs or correct the forward")
    first = results.real(y)
    second = results.real(function.forward())
    if first.shape != second.shape or not np.array_equal(first, second):
        raise ValueError("the forward is random: found two different results for the same input, expected equal ones, "
                         "fix its random numbers (rng= names a generator that it draws from), or reset what it "
                         "changes")
    return results


def upstream(function: FunctionUnderTest, results: Results, dy: Any, rng: np.random.Generator) -> np.ndarray:
    """Return the real array of dy: the given one, 1 if the backward takes none, else random numbers."""
    size = results.real(results.tree).size
    shape = results.real(results.tree).shape
    if function.fixed_dy is not None:
        if size != 1:
            raise TypeError(f"the backward takes no dy: found a forward's result of shape {shape}, expected a single "
                            "number, let the backward take dy")
        return np.full(shape, float(function.fixed_dy))
    if dy is None:
        return rng.standard_normal(shape)
    dy = _as_floats(dy)
    given = dict(leaves(dy))
    for keys, y in results.arrays.items():
        if keys not in given or np.shape(given[keys]) != y.shape:
            raise ValueError(f"wrong structure of dy: found {_described(given.get(keys))} for {path('result', keys)}, "
                             f"expected the shape {y.shape}, pass one upstream gradient for each array of the result")
    return results.real(dy)


def _as_floats(dy):
    """Return dy with floating arrays for its arrays, also those of a framework, and its numbers."""
    return mapped(lambda _, leaf: np.asarray(leaf) * 1.0 if isinstance(leaf, int) or is_number(leaf)
                  or hasattr(leaf, "__array__") else leaf, dy)


def _described(x):
    return "nothing" if x is None else f"the shape {np.shape(x)}"


def checked_gradients(function: FunctionUnderTest, results: Results, dy: np.ndarray) -> None:
    """Check that each gradient exists, has the tensor's shape, is float64 and repeatable, and that dy stays."""
    before, passed = _copied_state(function), results.structured(dy)
    gradients: dict[str, Any] = {name: None if g is None else np.array(g)
                                 for name, g in function.backward(passed).items()}
    _check_unchanged(function, before, "backward")
    if not np.array_equal(results.real(passed), dy):
        raise ValueError("the backward changes dy: found other values after the call, expected the same, work on a "
                         "copy")
    for name, x in function.tensors.items():
        if gradients.get(name) is not None:
            _check_gradient(name, x, gradients[name], function.is_single)
    _refuse_missing(function, gradients)
    for name, again in function.backward(results.structured(dy)).items():
        if again is not None and not np.array_equal(again, gradients[name], equal_nan=True):
            raise ValueError(f"the backward is random: found two different gradients of {name} for the same input, "
                             "expected equal ones, fix its random numbers")


def _refuse_missing(function, gradients):
    """Raise ValueError that names all tensors without a gradient."""
    missing = [name for name in function.tensors if gradients.get(name) is None]
    if not missing:
        return
    shapes = [str(function.tensors[name].shape) for name in missing]
    what = "return it from the backward" if missing[0] in function.inputs else "assign it in the backward"
    shape = f"an array of shape {shapes[0]}" if len(missing) == 1 else f"arrays of shapes {', '.join(shapes)}"
    constants = ", ".join(map(repr, missing)) + ("," if len(missing) == 1 else "")
    raise ValueError(f"missing gradient of {', '.join(missing)}: found None after the backward, expected {shape}, "
                     f"{what}, or name a constant in constants=({constants})")


def _check_gradient(name, x, gradient, is_single):
    """Raise ValueError unless the gradient has the shape of x, in float64; or in float32 if the code may be single."""
    if gradient.shape != x.shape:
        raise ValueError(f"wrong shape of the gradient of {name}: found {gradient.shape}, expected {x.shape}, the "
                         f"shape of {name}, sum over axes that broadcast")
    may_differ = (x.ndim == 0 and gradient.dtype.kind in "iu") or (is_single and gradient.dtype == np.float32)
    if gradient.dtype not in (np.float64, x.dtype) and not may_differ:
        what = "return its real part" if gradient.dtype.kind == "c" else "keep the dtype of dy"
        raise ValueError(f"wrong dtype of the gradient of {name}: found {gradient.dtype}, expected {x.dtype} as in the "
                         f"forward, {what}")


def checked_complex(function: FunctionUnderTest, y: np.ndarray) -> Any:
    """Return the function with complex tensors, for the complex step; its result must agree with y."""
    if function.as_complex is None:
        raise TypeError('method "complex" cannot check this target: found an object, expected a pair of analytic '
                        'functions, (forward, backward), use method="richardson"')
    if any(np.iscomplexobj(x) for x in function.tensors.values()):
        raise TypeError('method "complex" cannot check complex inputs: found complex numbers, expected real numbers, '
                        'use method="richardson"')
    complex_function = function.as_complex()
    try:
        z = np.asarray(complex_function.forward())
    except Exception as error:
        raise TypeError(f'method "complex" cannot check this forward: found {type(error).__name__} ({error}) for '
                        'complex inputs, expected a result, use method="richardson"') from error
    if not np.iscomplexobj(z) or z.shape != y.shape or np.abs(z - y).max() > 1e-9 * np.abs(y).max():
        raise TypeError('method "complex" cannot check this forward: found a complex result that is real or differs '
                        'from the real one, expected an analytic function, use method="richardson"')
    return complex_function


def coupling(function: FunctionUnderTest, y: np.ndarray, rng: np.random.Generator, independent: bool | None) -> tuple:
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
        with np.errstate(all="ignore"):                               # such values may leave a domain
            change = np.abs(np.array(function.forward()) - y).reshape(len(y), -1).max(axis=1)
        x[images] = saved
        return [i for i in range(len(y)) if i not in images and change[i] > 1e-9 * np.abs(y).max()]

    # The indices of two images differ in at least one bit. For each bit, change all images that have it, then all that
    # do not: this tests every pair of images with few forwards.
    indices = range(len(x))
    halves = [[b for b in indices if b >> bit & 1 == value] for bit in range((len(x) - 1).bit_length())
              for value in (0, 1)]
    for half in halves:
        if together := affected_by(half):
            b, affected = next(((b, affected) for b in half if (affected := affected_by([b]))), (half, together))
            return affected[0], b
    return None
