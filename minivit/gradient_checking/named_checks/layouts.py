"""Does the memory layout of inputs and of dy matter?

Two arrays with equal entries may lie differently in memory: column by column (Fortran), with gaps, backwards, with all
rows in one place (a broadcast: stride 0), or with the bytes of each number reversed. A transpose, a slice or a mean
produces them. NumPy's functions do not care. Code does that calls C without strides, that uses `ravel(order="K")` or
`reshape` to write into an array (of some layouts it writes into a copy), or that changes an array which is read-only,
as a broadcast is.

The step is run again with equal arrays in another layout, and must compute the same. Code that refuses a layout with an
error is not wrong, since it is not silent. The finding says so.
"""

from collections.abc import Callable

import numpy as np

from ..trees import mapped
from .named_check import NOTE, OK, WRONG, DoesNotApply
from .subject import Subject

_GROSS = 1e-4                                                         # a wrong layout puts numbers into wrong places


def fortran(x: np.ndarray) -> np.ndarray:
    """Return a copy that lies in memory column by column."""
    return np.array(x, order="F")


def with_gaps(x: np.ndarray) -> np.ndarray:
    """Return a copy with a gap after each entry, backwards on the last axis."""
    if x.ndim == 0:
        return x.copy()
    block = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    view = block[..., ::-2]
    view[...] = x
    return view


def read_only(x: np.ndarray) -> np.ndarray:
    """Return a copy that cannot be changed."""
    copy = x.copy()
    copy.flags.writeable = False
    return copy


def byte_swapped(x: np.ndarray) -> np.ndarray:
    """Return a copy in the other byte order, as files of other machines have it."""
    return x.astype(x.dtype.newbyteorder())


def mixed(x: np.ndarray) -> np.ndarray:
    """Return a copy in Fortran order with gaps, read-only: three layouts at the price of one."""
    copy = with_gaps(x.T).T
    copy.flags.writeable = False
    return copy


LAYOUTS: dict[str, Callable] = {"Fortran order": fortran, "gaps": with_gaps, "read-only memory": read_only}
_ALL, _ONE_PLACE = "Fortran order with gaps, read-only", "one place (stride 0)"


def input_layouts(subject: Subject) -> tuple[str, str]:
    """Run the step with inputs in other layouts."""
    step = _step_of_inputs(subject)
    found = _found_in(subject, step) | {_ONE_PLACE: _tried_broadcast(subject, step)}
    return _verdict("inputs", found)


def dy_layouts(subject: Subject) -> tuple[str, str]:
    """Run the step with dy in other layouts."""
    step = _step_of_dy(subject)
    found = _found_in(subject, step) | {_ONE_PLACE: _tried_broadcast(subject, step)}
    return _verdict("dy", found)


def byte_order(subject: Subject) -> tuple[str, str]:
    """Run the step with inputs, and with dy, in the other byte order."""
    found = {"inputs": _tried(subject, _step_of_inputs(subject), byte_swapped)}
    if subject.free:
        found["dy"] = _tried(subject, _step_of_dy(subject), byte_swapped)
    verdict, text = _verdict("reversed bytes", found)
    return (OK if verdict == NOTE else verdict), text                 # an error is the usual answer


def _step_of_inputs(subject):
    """Return a function that runs a step with inputs in a layout, then changed. Only floating ones are repeated."""
    if all(x.size < 2 for x in subject.trial().inputs.arrays.values()):
        raise DoesNotApply("no input has more than one entry")

    def step(layout, change=None):
        def laid_out(name, x):
            x = layout(x) if name in subject.function.inputs or layout not in (_repeated, _repeated_copy) else x
            return change(name, x) if change else x

        return subject.outcome(subject.trial(), laid_out)

    return step


def _step_of_dy(subject):
    """Return a function that runs a step with dy in a layout, and with changed inputs."""
    if not subject.free or subject.comparer.dy.size < 2:
        raise DoesNotApply("dy is given, or a single number")
    return lambda layout, change=None: subject.outcome(subject.trial(), change, mapped(
        lambda _, x: layout(x) if isinstance(x, np.ndarray) else x, subject.dy))


def _repeated(x):
    """Return an array whose slices on the first axis are all the first one, in one place."""
    return np.broadcast_to(x[:1], x.shape) if x.ndim else x


def _repeated_copy(x):
    """Return the same in places of their own."""
    return np.array(_repeated(x))


def _found_in(subject, step):
    """Return {layout: None if it does not matter, else (whether it is wrong, what is said of it)}."""
    found = _tried(subject, step, mixed)
    if found is None:
        return {_ALL: None}
    alone = {name: _tried(subject, step, layout) for name, layout in LAYOUTS.items()}   # which one is it?
    return alone if any(alone.values()) else {**alone, _ALL: found}


def _tried(subject, step, layout):
    """Return None if a layout does not matter, else (whether it is wrong, what is said of it)."""
    try:
        found = step(layout)
    except DoesNotApply:
        raise
    except Exception as error:
        return False, _refusal(error)
    difference = subject.difference(subject.reference, found, tolerance=_GROSS)
    return (True, difference) if difference else None


def _tried_broadcast(subject, step):
    """Return the same for a broadcast. Its values are other ones, so it is compared with a copy of itself."""
    try:
        expected = step(_repeated_copy)
    except DoesNotApply:
        raise
    except Exception:                                                 # equal images need not be allowed
        return None
    try:
        found = step(_repeated)
    except Exception as error:
        return False, _refusal(error)
    difference = subject.difference(expected, found, lambda change: step(_repeated_copy, change), _GROSS)
    return (True, difference) if difference else None


def _refusal(error):
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:80]}{'...' if len(text) > 80 else ''}"


def _verdict(what, found):
    """Return the verdict on all that was tried."""
    wrong = [f"{what} in {name}: {said}" for name, (is_wrong, said) in _said(found) if is_wrong]
    if wrong:
        return WRONG, f"equal {'; equal '.join(wrong)}: are strides ignored, or is a copy written instead of a view?"
    refused = [f"{name} ({said})" for name, (_, said) in _said(found)]
    same = [name for name in found if not found[name]]
    texts = [f"the same for {what} in {', '.join(same)}"] * bool(same)
    texts += [f"an error for {what} in {', '.join(refused)}"] * bool(refused)
    return (NOTE if refused and not _is_usual(found) else OK), "; ".join(texts)


def _is_usual(found):
    """Return whether only layouts are refused that few callers pass: read-only memory, which a broadcast is too."""
    refused = {name for name, _ in _said(found)}
    return "read-only memory" in refused and refused <= {"read-only memory", _ONE_PLACE}


def _said(found):
    return [(name, said) for name, said in found.items() if said]
