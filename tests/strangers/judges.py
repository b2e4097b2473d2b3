"""Verdicts on a stranger: of minivit.gradcheck, and of the checkers of PyTorch and JAX on the same functions.

Those two check their own functions only. So the judges wrap the arrays of a `FunctionUnderTest` in a
`torch.autograd.Function`, or in a `jax.custom_vjp` that calls back into NumPy.
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
    except Exception as error:
        return Verdict(False, said=f"{type(error).__name__}: {error}")


def planted(function: FunctionUnderTest, name: str, change: Callable) -> FunctionUnderTest:
    """Return the function with one gradient changed by `change`, which maps an array to an array."""
    def backward(dy):
        gradients = function.backward(dy)
        return gradients | {name: change(np.array(gradients[name]))}

    return replace(function, backward=backward)
