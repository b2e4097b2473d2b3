"""Does the code keep float32, and stay near float64 in it?

Gradients are checked in float64, but often used in float32. Two things go wrong unseen. `np.zeros(n)`, or a NumPy
number in float64, makes everything after it float64: slower, and twice the memory. And float32 has fewer digits and a
smaller range: exp(100), 1e-50, or mean(x**2) - mean(x)**2 at a large mean are fine in float64 alone.

All inputs and parameters are rounded to float32. Then one step computes in float32, and one in float64 with the same
rounded numbers. Results and gradients must be float32, and near those in float64. How near? A function that amplifies
changes of its inputs amplifies its round-off too. So the step in float64 runs once more, with inputs that are changed
by a unit in the last place of float32. 32 times the change that this makes is allowed, and at least 1e-4 of the largest
entry. Rounding inside good code makes errors of that order. Code that loses half of the digits makes far larger ones.
"""

import numpy as np

from ..memory import checked_dtype
from ..trees import leaves, mapped
from .named_check import NOTE, OK
from .subject import Subject, agree, arrays_of, largest

_SINGLE = float(np.finfo(np.float32).eps)
_AMPLIFIED, _NEAR = 32, 1e-4


def float32(subject: Subject) -> tuple[str, str]:
    """Run a step in float32."""
    found = _step_in_float32(subject)
    wide = [f"{name} is {x.dtype}" for name, x in found.items() if _is_wide(x)]
    if wide:
        return NOTE, f"of float32 inputs, {', '.join(wide)}: keep the dtype of the inputs in every step"
    rng, worst = subject.rng(), 0.0
    expected, moved = (_step_in_float64(subject, factor) for factor in (
        lambda x: 1, lambda x: 1 + _SINGLE * rng.choice([-1.0, 1.0], x.shape)))
    for name, x in expected.items():
        other = np.asarray(found[name])
        allowed = _AMPLIFIED * largest(moved[name] - x) + subject.least(name, _SINGLE)
        error = largest(other - x) / (largest(x) or 1.0)
        if not agree(x, other, max(_NEAR, subject.tolerance), allowed):
            return NOTE, f"{name} in float32 " + (
                f"differs from float64 by {error:.1e} of its largest entry: are large numbers subtracted?"
                if np.isfinite(other).all() else "holds NaN or infinity: does a number leave the range of float32?")
        worst = max(worst, error)
    return OK, f"all stays float32, and differs from float64 by {worst:.0e}"


def _step_in_float32(subject):
    """Return the outcome of a step in float32, with the dtypes that the code gives it."""
    trial = subject.trial(single=True)
    with np.errstate(all="ignore"):
        y = dict(leaves(trial.forward(lambda _, x: _single(x))))
        gradients = trial.backward(mapped(lambda _, x: _single(x), subject.dy))
    return {name: y[keys] for keys, name in subject.results.names.items()} | {
        f"the gradient of {name}": g for name, g in gradients.items() if g is not None}


def _step_in_float64(subject, factor):
    """Return the outcome of a step in float64 with the numbers of float32. factor: of the inputs, x -> numbers."""
    trial = subject.trial()
    for array in arrays_of(trial.target).values():
        array[...] = _single(array)
    dy = mapped(lambda _, x: _double(_single(x)), subject.dy)
    return subject.outcome(trial, lambda _, x: _double(_single(x)) * factor(x) if x.dtype.kind in "fc" else x, dy)


def _single(x):
    """Return an array in single precision; other values as they are."""
    return x.astype(checked_dtype(x, single=True)) if isinstance(x, np.ndarray) and x.dtype.kind in "fc" else x


def _double(x):
    return x.astype(checked_dtype(x)) if isinstance(x, np.ndarray) and x.dtype.kind in "fc" else x


def _is_wide(x):
    """Return whether an array has more than single precision. A Python number has none of its own."""
    return isinstance(x, np.ndarray | np.generic) and x.dtype.kind in "fc" and x.real.dtype.itemsize > 4
