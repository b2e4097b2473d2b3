"""Are second derivatives right?

A backward is a function too: of x and dy. So it can have a backward, which is a *double backward*, and needs no new
kind of check: the gradient of the gradient is held against finite differences of the gradient. An object offers one of
two methods, or both; each is called after forward and backward, and holds the parameters constant:

    layer.double_backward(*ddx) -> gradient of dy, gradients of the inputs

where ddx is an upstream gradient for each gradient of an input. It returns the gradients of M = sum(dx * ddx), first by
dy, then by each input. `torch.autograd.Function` has the same convention.

    layer.hvp(*v) -> H v, one array for each input

where H is the Hessian of L = sum(y * dy): the derivative of dx by x, at a fixed dy. Functions are passed as three:
`(f, grad, hvp)` with `hvp(*inputs, *v)`, as the `hessp` of `scipy.optimize`.

H is symmetric: its entry (i, j) is d2L / dx_i dx_j, in either order. So H v is not only the change of dx along v, but
also the gradient of sum(dx * v) by x: the backward of dx, for the upstream gradient v. Thus each entry of H v gets a
verdict of its own, as a gradient does. An H that is not symmetric fails.
"""

import numpy as np

from ..comparison import Comparer
from ..contract import checked_gradients, checked_result
from ..function import FunctionUnderTest, as_real
from ..tensor_check import TensorCheck
from ..trees import is_floating, leaves, mapped, path
from .forward_mode import called
from .named_check import OK, WRONG, DoesNotApply
from .subject import Subject

_SAMPLES = 16                                                         # entries of each tensor; others by a direction


def second(subject: Subject) -> tuple[str, str]:
    """Check the methods `double_backward` and `hvp` against differences of the gradient."""
    trial = subject.trial()
    kinds = [kind for kind in (_double_backward, _hvp) if trial.method(kind.__name__.lstrip("_")) is not None]
    if not kinds:
        raise DoesNotApply("there is no double_backward and no hvp")
    checked = []
    for kind in kinds:
        name = kind.__name__.lstrip("_")
        rows = _rows(kind(subject), subject)
        if isinstance(rows, str):
            return WRONG, f"{name}: {rows}"
        wrong = next((row for row in rows if not row.ok), None)
        if wrong is not None:
            return WRONG, (f"{name}: the gradient of {wrong.tensor} is {wrong.verdict}: differences of the gradient "
                           f"give {wrong.numeric:.5g}, and {name} {wrong.analytic:.5g}")
        checked.append(f"{name} agrees with differences of the gradient to {max(row.error for row in rows):.0e}")
    return OK, "; ".join(checked)


def _rows(function, subject):
    """Check a function under test as `gradcheck` does, and return its rows; or what is wrong with what it returns."""
    results, rng = checked_result(function), subject.rng()
    y = results.real(results.tree)
    upstream = rng.standard_normal(y.shape)
    try:
        checked_gradients(function, results, upstream)
    except ValueError as error:                                       # such as a wrong shape
        return str(error)
    real = as_real(function, results)
    gradients = {name: np.array(g) for name, g in real.backward(upstream).items() if g.size}
    check = TensorCheck(Comparer(real, y, upstream, gradients, "richardson", subject.tolerance, False), "richardson",
                        _SAMPLES)
    return [check.check(name, rng) for name in gradients]


def _hvp(subject):
    """Return the function x -> dx, whose backward is v -> H v."""
    def backward(v):
        trial = subject.trial()
        trial.forward()
        trial.backward(subject.dy)
        return trial.inputs.gradients(called(trial, "hvp", _vectors(subject, v)))

    return _of_the_backward(subject, {}, lambda: subject.dy, backward)


def _double_backward(subject):
    """Return the function (x, dy) -> dx, whose backward is ddx -> gradients of dy and of x."""
    dy = {path("dy", keys): x for keys, x in leaves(subject.dy) if is_floating(x)}

    def current():
        return mapped(lambda keys, x: x.copy() if is_floating(x) else x, subject.dy)

    def backward(ddx):
        trial = subject.trial()
        trial.forward()
        trial.backward(current())
        found = called(trial, "double_backward", _vectors(subject, ddx))
        if not isinstance(found, tuple | list) or len(found) < 2:
            raise ValueError(f"double_backward returns {type(found).__name__}, expected a tuple: the gradient of dy, "
                            "then one for each input")
        of_dy = {path("dy", keys): g for keys, g in leaves(found[0])}
        return {name: of_dy.get(name) for name in dy} | trial.inputs.gradients(tuple(found[1:]))

    return _of_the_backward(subject, dy, current, backward)


def _of_the_backward(subject, more, dy, backward):
    """Return the function whose forward computes the gradients of the inputs. more: tensors besides the inputs."""
    inputs = subject.function.inputs

    def forward():
        trial = subject.trial()
        trial.forward()
        gradients = trial.backward(dy())
        return {name: np.array(gradients[name]) for name in inputs}

    tensors = inputs | more
    return FunctionUnderTest(tensors, {}, forward, backward, lambda: tensors)


def _vectors(subject, named):
    """Return one vector for each input, in the structure of that input."""
    return subject.trial().inputs.structured(named)
