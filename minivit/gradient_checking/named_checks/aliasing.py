"""Does a result share memory with something that changes?

An array may be a view of another one's memory. A result that is a view of an input is harmless: `reshape` and slices
are views, and so is the result of a layer that does nothing. Three kinds are not:

1. *The next call overwrites it.* A layer that writes each result into one buffer returns the same memory each time.
   `[layer.forward(x) for x in batches]` is then a list of equal arrays. The same holds for gradients of inputs. Whoever
   knows may copy, so this is a note.
2. *It is a view of a parameter.* `y += 1` would change the weights, and an update of the weights the result. A note,
   unless the view is read-only.
3. *The next call overwrites a cache.* `forward(x) -> y, cache` hands the cache to its caller so that two calls can be
   followed by two backwards. If both caches are one buffer, the first backward is wrong. This is an error. (An object
   keeps its cache, and everybody expects only the last one.)

The check calls the forward twice with different inputs and looks. An array that NumPy says shares memory with another
one does so exactly (`np.shares_memory`).
"""

import numpy as np

from ..memory import address_range
from ..trees import leaves
from .named_check import NOTE, OK, WRONG
from .subject import Subject, arrays_of


def aliasing(subject: Subject) -> tuple[str, str]:
    """Call the forward twice with different inputs, and look what shares memory and what was overwritten."""
    trial = subject.trial()
    y, gradients = _kept_step(subject, trial)
    before = {name: x.copy() for name, x in (y | gradients).items()}
    parameters = _of_parameters(subject, trial)
    views = [f"{name} is a view of {parameter}" for name, x in (y | gradients).items() if x.flags.writeable
             for parameter, other in parameters.items() if _share(x, other)]
    said = _of_inputs(trial, y)
    _kept_step(subject, trial, subject.other_inputs)
    overwritten = [name for name, x in (y | gradients).items() if not np.array_equal(x, before[name], equal_nan=True)]
    if trial.target is None and (difference := _after_another_forward(subject)):
        return WRONG, (f"the cache of a call is overwritten by the next call: {difference} if another forward comes "
                       "between, make a new cache in each call")
    notes = [f"{' and '.join(overwritten)} will be overwritten by the next call: copy what you keep"] * bool(
        overwritten) + [f"{'; '.join(views)}: a change of one changes the other"] * bool(views)
    return (NOTE, "; ".join(notes)) if notes else (OK, said or "results and gradients have memory of their own")


def _kept_step(subject, trial, change=None):
    """Run a step, and return the arrays of its result and the gradients of its inputs, not as copies."""
    with np.errstate(all="ignore"):
        found = dict(leaves(trial.forward(change)))
        y = {name: np.asarray(found[keys]) for keys, name in subject.results.names.items()}
        gradients = trial.backward(subject.dy)
    return y, {f"the gradient of {name}": g for name, g in gradients.items() if isinstance(g, np.ndarray)
               and name in subject.function.inputs}


def _of_parameters(subject, trial):
    """Return {name: array} of the parameters that a trial holds."""
    held = arrays_of(trial.target)
    return {name: held[name] for name in subject.function.parameters if name in held}


def _of_inputs(trial, y):
    """Say which results are views of inputs."""
    found = [f"{name} is a view of {x_name}" for name, array in y.items()
             for x_name, x in trial.inputs.arrays.items() if _share(array, x)]
    return "; ".join(found)


def _share(x, other):
    """Return whether two arrays share memory."""
    if not x.size or not other.size:
        return False
    first, second = address_range(x), address_range(other)
    return first[0] < second[1] and second[0] < first[1] and np.shares_memory(x, other)


def _after_another_forward(subject):
    """Say how the gradients differ if a forward of other inputs comes between forward and backward."""
    one, other = subject.trial(), subject.trial()
    with np.errstate(all="ignore"):
        one.forward()
        other.forward(subject.other_inputs)
        gradients = subject.named(one.backward(subject.dy))
    return subject.difference({name: g for name, g in subject.reference.items() if name in gradients}, gradients)
