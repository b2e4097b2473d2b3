"""`gradcheck`, the public function, and its rule for when a tensor passes.

A tensor passes if no error exceeds the tolerance. For an entry, with the step h of the method (see `differences`),

    error = |numeric - analytic| / max(G, |numeric|, floor)
    G     = the largest |analytic| among the checked entries of the tensor
    floor = 4 EPS |y dy| / (h tolerance)                  below it, differences are round-off

EPS = 2.2e-16 is the machine epsilon of float64, and |y dy| the 2-norm of the products y dy. For one direction instead
of single entries, G is the 2-norm of the tensor's gradient. For "complex", the floor has the tensor's scale (see
`Comparer.scale`) in place of h, since a tiny h causes no round-off there. "taylor" also requires that the remainder
falls with an order of at least 1.5.

At a kink, such as ReLU at zero, there is no slope. There the numeric slope depends on the step, and may differ from a
right gradient. So if an error exceeds the tolerance, the check looks for the reason (`Comparer.compare`):

1. Add two numbers: how much the slope changes when the step is halved, and how much a kink within the step could change
   it (`differences.nonsmoothness`). If the sum is at most a tenth of the difference, the gradient is wrong. Otherwise
   the step may be to blame.
2. If the step may be to blame, or the numeric slope is not finite, measure the slope again: by Richardson extrapolation
   with 1/32 of its usual step, and if that does not help, with 1/1024.
3. If that does not help either, skip the entry and count it as a kink. But a slope that is still infinite fails.

A tensor fails if fewer than half of its entries remain.

The fast methods, "directional" and "taylor" (*filters*), check each tensor along one random direction, and its entries
only if that fails. They prove nothing: if a gradient has the relative error e, "directional" misses it with a
probability of about tolerance / e.

If the analytic gradients of all tensors are zero and agree with the numeric ones, all tensors pass, but the check shows
little: a wrong factor times zero is zero too. The report then has a note.

An object with a parameter `w`, whose gradient is `dw` after the backward:

>>> import numpy as np
>>> import minivit
>>> class Scale:
...     def __init__(self):
...         self.w = np.ones(5)
...     def forward(self, x):
...         self.x = x
...         return x * self.w
...     def backward(self, dy):
...         self.dw = (dy * self.x).sum(axis=0)
...         return dy * self.w
>>> x = np.random.default_rng(0).standard_normal((3, 5))
>>> [row.tensor for row in minivit.gradcheck(Scale(), x).rows]
['x', 'w']

A wrong gradient, and its table:

>>> report = minivit.gradcheck((lambda x: (x**3, x), lambda dy, x: 2 * x**2 * dy), x)
>>> bool(report)
False
>>> print(report)                                                    # doctest: +ELLIPSIS
tensor      entries  method         error       numeric      analytic
x             15/15  richardson   3.3e-01 ...  WRONG at ...
    hint: the gradient is 0.666667 times what it should be: look for a wrong constant factor
1 of 1 tensors FAIL: worst error 3.3e-01, tolerance 1e-06
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import threadpoolctl

from ..common.checks import check_name, check_number
from .adapters import function_under_test
from .comparison import FILTERS, Comparer
from .contract import checked_complex, checked_gradients, checked_result, coupling
from .differences import SCHEMES
from .report import Report
from .tensor_check import TensorCheck

_ALL_ZERO = ("all gradients are zero: nothing was checked, because a backward with a wrong factor would pass too; "
             "choose inputs at which the result depends on them")


def gradcheck(target: Any, *inputs: Any, constants: Sequence[str] | str = (), method: str = "richardson",
              samples: int = 32, tolerance: float = 1e-6, independent: bool | None = None, seed: int = 0) -> Report:
    """Check every gradient of `target` against finite differences of its forward.

    Parameters
    ----------
    target : pair of functions, layer, model or object
        A pair: `forward(*inputs) -> y, cache` and `backward(dy, cache) -> gradients` in the order of the inputs. Or an
        object with `forward(*inputs) -> y` and `backward(dy) -> gradients of the inputs`. Its parameters are the float
        arrays that it holds, also in lists, dicts and parts. Their gradients are `d<name>` or `grads[name]` after the
        backward. gradcheck checks a copy in float64, with random parameters.
    *inputs : arrays and other arguments of the forward
        Floating arrays are checked. Integers, single numbers, strings and None are constants.
    constants : str or sequence of str
        Names of floating inputs or parameters without a gradient, such as a mask.
    method : str
        "richardson" or "central": entry by entry. "complex": the complex step, for a pair of analytic functions.
        "directional" or "taylor": fast filters that check each tensor along one random direction.
    samples : int
        Number of random entries to check in each tensor. A larger tensor is also checked along one direction.
    tolerance : float
        Largest error that passes. The module docstring defines the error.
    independent : bool, optional
        Whether images of a batch (first axis) that influence each other are an error. False: they may, as in batch
        norm. None: an error for a layer or model, else a note.
    seed : int
        Seed of the weights, of dy, and of the sampled entries.

    Returns
    -------
    Report
        `ok`, `worst`, `rows`; `str()` is a table, `plot()` a figure. A report is true if all gradients are right.

    Raises
    ------
    TypeError
        If there is nothing to check, or the target has no backward.
    ValueError
        If forward or backward violate the contract (`contract`): if they change their inputs, are random, or return
        NaN, float32, a wrong shape or no gradient.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((3, 5))
    >>> gradcheck((lambda x: (x**3, x), lambda dy, x: 3 * x**2 * dy), x).ok
    True
    """
    check_name("method", method, [*SCHEMES, *FILTERS])
    check_number("number of samples", samples, least=1, whole=True)
    check_number("tolerance", tolerance, above=0, below=1)
    check_number("seed", seed, least=0, whole=True)
    rng = np.random.default_rng(seed)
    constants = [constants] if isinstance(constants, str) else constants
    # One BLAS thread: small products are faster without a second one.
    with threadpoolctl.threadpool_limits(1, "blas"):
        return _check(function_under_test(target, inputs, constants, rng), method, samples, tolerance, independent, rng)


def _check(function, method, samples, tolerance, independent, rng):
    """Check the contract, then every tensor."""
    if not any(x.size for x in function.tensors.values()):
        raise TypeError("nothing to check: found no floating-point input and no parameter, pass at least one")
    y = checked_result(function)
    dy = rng.standard_normal(y.shape)
    gradients = checked_gradients(function, dy)
    notes = coupling(function, y, rng, independent)
    complex_function = checked_complex(function, y) if method == "complex" else None
    comparer = Comparer(function, y, dy, gradients, method, tolerance, bool(notes), complex_function)
    check = TensorCheck(comparer, method, samples)
    rows = tuple(check.check(name, rng) for name in gradients)
    if all(row.ok for row in rows) and not any(gradient.any() for gradient in gradients.values()):
        notes += (_ALL_ZERO,)
    return Report(rows, tolerance, method, notes, comparer)
