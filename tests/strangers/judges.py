"""Verdicts on a stranger: of minivit.gradcheck, and of other checkers on the same functions.

PyTorch, JAX and autograd check their own functions only. So the judges wrap the arrays of a `FunctionUnderTest` in a
`torch.autograd.Function`, in a `jax.custom_vjp` that calls back into NumPy, or in a primitive of autograd. SciPy and
numdifftools measure the gradient of a scalar function of one vector. So the judges give them sum(y * dy) with a random
dy, and all tensors in one vector. Both return numbers and no verdict; the judges say which error they accept.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import minivit
from minivit.gradient_checking.adapters import Options, function_under_test
from minivit.gradient_checking.function import FunctionUnderTest, Results, as_real

from .collection import PATTERNS, Mistake


@dataclass(frozen=True)
class Verdict:
    """Whether a checker accepts the code; the tensors that it calls wrong, and what it says."""

    ok: bool
    tensors: tuple[tuple[str, ...], ...] = ()                         # each with all names of its memory
    said: str = ""

    def names(self, wanted: set[str]) -> bool:
        """Return whether exactly the wanted tensors are called wrong; an error must name one of them."""
        if not self.tensors:
            return any(re.search(rf"(?<![\w.]){re.escape(name)}\b", self.said) for name in wanted)
        found = [wanted.intersection(names) for names in self.tensors]
        return all(found) and set().union(*found) == wanted

    def diagnoses(self, mistake: Mistake) -> bool:
        """Return whether a hint, or the error, names the pattern of the mistake."""
        return re.search(PATTERNS[mistake.pattern], self.said) is not None


def minivit_verdict(target: Any, *inputs: Any, **options: Any) -> Verdict:
    """Return the verdict of minivit.gradcheck. Any exception counts as a rejection."""
    try:
        with np.errstate(all="ignore"):
            report = minivit.gradcheck(target, *inputs, **options)
    except Exception as error:
        return Verdict(False, said=f"{type(error).__name__}: {error}")
    wrong = [row for row in report.rows if not row.ok]
    return Verdict(report.ok, tuple((row.tensor, *row.aliases) for row in wrong), "\n".join(row.hint for row in wrong))


def as_function(target: Any, *inputs: Any, **options: Any) -> FunctionUnderTest:
    """Return the function under test of a target, with random parameters."""
    constants = options.get("constants", ())
    return function_under_test(target, inputs, Options(np.random.default_rng(1), constants=constants))


def _real(target, *inputs, **options):
    """Return a function of a list of real arrays, its vector-Jacobian product, and the arrays."""
    with np.errstate(all="ignore"):
        function = as_function(target, *inputs, **options)
        results = Results(function.forward())
        real = as_real(function, results)
    names = list(real.tensors)
    values = {name: np.array(x) for name, x in real.tensors.items()}

    def fill(arrays):
        for name, x in zip(names, arrays, strict=True):
            real.tensors[name][...] = np.asarray(x)

    def forward(*arrays):
        fill(arrays)
        with np.errstate(all="ignore"):
            return np.array(real.forward())

    def vjp(arrays, dy):
        fill(arrays)
        dy = np.array(dy)
        if real.fixed_dy is not None:                                 # the gradient for dy = fixed_dy, which is linear
            return [dy / real.fixed_dy * np.array(g) for g in _ordered(real.backward(np.full(dy.shape, real.fixed_dy)))]
        return [np.array(g) for g in _ordered(real.backward(dy))]

    def _ordered(gradients):
        return [gradients[name] for name in names]

    return forward, vjp, [values[name] for name in names]


def strict_torch_verdict(target: Any, *inputs: Any, **options: Any) -> Verdict:
    """Return the verdict of torch.autograd.gradcheck with the tolerance of our checker."""
    return torch_verdict(target, *inputs, **options, tolerances={"rtol": 1e-6, "atol": 1e-6})


def torch_verdict(target: Any, *inputs: Any, tolerances: Any = None, **options: Any) -> Verdict:
    """Return the verdict of torch.autograd.gradcheck, with its default tolerances unless others are given."""
    import torch

    try:
        forward, vjp, arrays = _real(target, *inputs, **options)

        class Function(torch.autograd.Function):
            @staticmethod
            def forward(ctx, *tensors):
                ctx.save_for_backward(*tensors)
                return torch.from_numpy(forward(*(t.detach().numpy() for t in tensors)))

            @staticmethod
            def backward(ctx, dy):
                return tuple(map(torch.from_numpy, vjp([t.detach().numpy() for t in ctx.saved_tensors], dy.numpy())))

        tensors = [torch.tensor(x, requires_grad=True) for x in arrays]
        return Verdict(torch.autograd.gradcheck(Function.apply, tensors, raise_exception=True, **(tolerances or {})))
    except ImportError:                                               # no verdict, but a broken environment
        raise
    except Exception as error:
        return Verdict(False, said=f"{type(error).__name__}: {error}")


def jax_verdict(target: Any, *inputs: Any, **options: Any) -> Verdict:
    """Return the verdict of jax.test_util.check_grads, reverse mode and first order, in float64, default tolerance."""
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_enable_x64", True)
    try:
        forward, vjp, arrays = _real(target, *inputs, **options)
        shape = jax.ShapeDtypeStruct(forward(*arrays).shape, np.float64)

        @jax.custom_vjp
        def function(*tensors):
            return jax.pure_callback(forward, shape, *tensors)

        def forward_rule(*tensors):
            return function(*tensors), tensors

        def backward_rule(tensors, dy):
            shapes = [jax.ShapeDtypeStruct(x.shape, np.float64) for x in arrays]
            return tuple(jax.pure_callback(lambda dy, *tensors: vjp(tensors, dy), shapes, dy, *tensors))

        function.defvjp(forward_rule, backward_rule)
        check_grads(function, tuple(arrays), order=1, modes=["rev"])
        return Verdict(True)
    except ImportError:                                               # no verdict, but a broken environment
        raise
    except Exception as error:
        return Verdict(False, said=f"{type(error).__name__}: {error}")


def autograd_verdict(target: Any, *inputs: Any, **options: Any) -> Verdict:
    """Return the verdict of autograd.test_util.check_grads, reverse mode and first order, at its fixed tolerance."""
    from autograd.extend import defvjp, primitive
    from autograd.test_util import check_grads

    try:
        forward, vjp, arrays = _real(target, *inputs, **options)
        function = primitive(lambda *xs: forward(*xs))
        defvjp(function, *[lambda y, *xs, i=i: lambda dy: vjp(xs, dy)[i] for i in range(len(arrays))])
        np.random.seed(0)
        check_grads(function, tuple(range(len(arrays))), modes=["rev"], order=1)(*arrays)
        return Verdict(True)
    except ImportError:                                               # no verdict, but a broken environment
        raise
    except Exception as error:
        return Verdict(False, said=f"{type(error).__name__}: {error}")


def _scalar(target, *inputs, **options):
    """Return sum(y * dy) as a function of one vector, its gradient as one vector, and the vector."""
    forward, vjp, arrays = _real(target, *inputs, **options)
    ends = np.cumsum([x.size for x in arrays])
    dy = np.random.default_rng(3).standard_normal(np.shape(forward(*arrays)))

    def split(vector):
        return [part.reshape(x.shape) for part, x in zip(np.split(vector, ends[:-1]), arrays, strict=True)]

    return (lambda vector: float(np.sum(forward(*split(vector)) * dy)),
            lambda vector: np.concatenate([np.ravel(g) for g in vjp(split(vector), dy)]),
            np.concatenate([np.ravel(x) for x in arrays]))


def scipy_verdict(target: Any, *inputs: Any, **options: Any) -> Verdict:
    """Return whether scipy.optimize.check_grad finds an error of at most 1e-5 of the norm of the gradient.

    It takes forward differences, whose own error is often about 1e-7.
    """
    from scipy.optimize import check_grad

    try:
        loss, gradient, vector = _scalar(target, *inputs, **options)
        error, size = check_grad(loss, gradient, vector), float(np.linalg.norm(gradient(vector)))
        return Verdict(bool(error <= 1e-5 * size), said=f"error {error:.1e} of {size:.1e}")
    except ImportError:                                               # no verdict, but a broken environment
        raise
    except Exception as error:
        return Verdict(False, said=f"{type(error).__name__}: {error}")


def numdifftools_verdict(target: Any, *inputs: Any, **options: Any) -> Verdict:
    """Return whether each entry is within 1e-6, or the uncertainty that it states, of numdifftools.Gradient."""
    import numdifftools

    try:
        loss, gradient, vector = _scalar(target, *inputs, **options)
        with np.errstate(all="ignore"):
            found = numdifftools.Gradient(loss, full_output=True)(vector)
        numeric, analytic = np.ravel(found.estimate), gradient(vector)
        allowed = np.maximum(1e-6 * np.maximum(np.abs(numeric), np.abs(analytic)), np.ravel(found.error_estimate))
        wrong = ~(np.abs(numeric - analytic) <= allowed)
        return Verdict(not wrong.any(), said=f"wrong at {np.flatnonzero(wrong).tolist()}")
    except ImportError:                                               # no verdict, but a broken environment
        raise
    except Exception as error:
        return Verdict(False, said=f"{type(error).__name__}: {error}")


def planted(function: FunctionUnderTest, name: str, change: Callable) -> FunctionUnderTest:
    """Return the function with one gradient changed by `change`, which maps an array to an array."""
    def backward(dy):
        gradients = function.backward(dy)
        return gradients | {name: change(np.array(gradients[name]))}

    return replace(function, backward=backward)
