"""Functions written for PyTorch, JAX, autograd or MyGrad: the framework's own gradient against our differences.

The checker imports no framework. Whoever passes a tensor of PyTorch has imported PyTorch, so a framework is recognised
by the types of target and inputs, and its module is taken from `sys.modules`.

1. `framework`: what all have in common. Arrays of the framework become float64 arrays of NumPy, which are perturbed.
   Each call copies them into new arrays of the framework, and its results back. The forward is the function alone. The
   backward is the framework's vector-Jacobian product of it, with our random dy.
2. `arguments`: which arguments are arrays of the framework, and which of them are checked.
3. `elsewhere`: what a function finds elsewhere, so that it can be listed as not checked.
4. `pytorch`, `jax_arrays`, `hips_autograd`, `mygrad_tensors`: how each converts arrays and differentiates.

The gradient of a custom `torch.autograd.Function` or `jax.custom_vjp` is what its author wrote. So is the gradient of a
module that contains one. To add a framework, write a subclass of `Framework`, and put it into `FRAMEWORKS`.
"""

from typing import Any

from ..trees import leaves
from .framework import Framework
from .hips_autograd import HipsAutograd
from .jax_arrays import Jax
from .mygrad_tensors import MyGrad
from .pytorch import PyTorch

FRAMEWORKS: list[Framework] = [PyTorch(), Jax(), MyGrad(), HipsAutograd()]

__all__ = ["FRAMEWORKS", "framework_of", "is_target", "makes_targets"]


def framework_of(arrays: Any) -> Framework | None:
    """Return the framework of which a tree contains an array; None if there is none."""
    found = [leaf for _, leaf in leaves(arrays)]
    return next((framework for framework in FRAMEWORKS if any(map(framework.is_array, found))), None)


def is_target(x: Any) -> bool:
    """Return whether a framework can tell that x is one of its functions or modules, without inputs."""
    return any(framework.loaded is not None and framework.owns(x) for framework in FRAMEWORKS)


def makes_targets(cls: type) -> bool:
    """Return whether the objects of a class are modules of a framework."""
    return any(framework.loaded is not None and framework.owns_objects_of(cls) for framework in FRAMEWORKS)
