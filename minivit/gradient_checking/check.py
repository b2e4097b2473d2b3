"""`gradcheck`, the public function, and its rule for when a tensor passes.

An entry of a tensor is wrong if its analytic slope a and its numeric slope n differ by more than each of

    tolerance max(|a|, |n|)     the tolerance, relative to the entry itself
    u                           the uncertainty of n: truncation and round-off error, both measured (see `comparison`)
    tolerance G / 1000          the backward's own round-off; G is the largest |a| of the tensor

and a is no subgradient at a kink. The error that the report shows is |n - a| / max(|a|, |n|) for a wrong entry. For a
right one it is |n - a| / max(G, |n|, u / tolerance), so that noise in tiny entries does not look like an error. For one
direction instead of single entries, G is the 2-norm of the tensor's gradient. "taylor" also requires that the remainder
falls with an order of at least 1.5.

Entries at kinks are counted. A tensor fails as not checked if more than half of its entries lie at kinks or could not
be measured, or if it has more entries than were sampled and no direction could be measured. A direction that meets
kinks is measured by the entries of the result that have none (`Comparer.without_kinks`).

A backward is linear in dy. One more call, with a large multiple of dy, shows whether it is. If not, the tensor fails.

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
checks ok: determinism, linearity, zero_dy, dy_layouts, input_layouts, aliasing
1 of 1 tensors FAIL: worst error 3.3e-01, tolerance 1e-06
"""

import contextlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..common.checks import check_name, check_number
from .adapters import Options, function_under_test
from .comparison import FILTERS, Comparer
from .contract import checked_complex, checked_gradients, checked_result, coupling, upstream
from .differences import SCHEMES
from .function import as_real
from .named_checks import Chosen, Subject
from .randomness import SameRandomNumbers
from .report import Report
from .tensor_check import TensorCheck, TooNoisyError

# Before the seed, so that neither weights nor dy are the random numbers of a user who draws x with the same seed: if x
# were equal to dy, a backward that returns x instead of dy would pass.
_STREAM = 0x6D696E69766974
_LEAST_IN_FLOAT32 = 1e-4                                              # the smallest tolerance for code in float32
_ALL_ZERO = ("all gradients are zero: nothing was checked, because a backward with a wrong factor would pass too; "
             "choose inputs at which the result depends on them")


def gradcheck(target: Any, *inputs: Any, constants: Sequence[str] | str = (), method: str = "richardson",
              samples: int = 32, tolerance: float | None = 1e-6, independent: bool | None = None, seed: int = 0,
              dy: Any = None, keep: Sequence[str] | str = (), rng: Any = None,
              gradients: Mapping[str, str] | None = None, checks: Sequence[str] | str = (),
              **keywords: Any) -> Report:
    """Check every gradient of `target` against finite differences of its forward.

    Parameters
    ----------
    target : pair of functions, function, layer, model or object
        A pair: `forward(*inputs) -> y, cache` and `backward(dy, cache) -> gradients`; or a scalar function and its
        gradient, `f(*inputs)` and `grad(*inputs)`. A function that returns (loss, gradients). Or an object with
        `forward(*inputs) -> y` and `backward(dy) -> gradients of the inputs`, whose parameters are the floats and float
        arrays that it holds, and whose gradients are `d<name>`, `grads[name]` and the like. Or a function of PyTorch,
        JAX, autograd or MyGrad, an `nn.Module`, or a `torch.autograd.Function`. gradcheck checks a copy in float64,
        with random parameters. `docs/gradient-checking-reference.md` lists all forms.
    *inputs : arrays, trees of arrays, and other arguments of the forward
        Floating arrays are checked. Integers, strings, None, and numbers without a gradient are constants.
    constants : str or sequence of str
        Names or patterns ("running_*") of floating inputs or parameters without a gradient, such as a mask.
    method : str
        "richardson" or "central": entry by entry. "complex": the complex step, for a pair of analytic functions.
        "directional" or "taylor": fast filters that check each tensor along one random direction.
    samples : int
        Number of random entries to check in each tensor. A larger tensor is also checked along one direction.
    tolerance : float, optional
        Largest error that passes. The module docstring defines the error. None: the forward may compute in float32, and
        the tolerance is the smallest that its measured noise allows.
    independent : bool, optional
        Whether images of a batch (first axis) that influence each other are an error. False: they may, as in batch
        norm. None: an error for a layer or model, else a note.
    seed : int
        Seed of the weights, of dy, and of the sampled entries.
    dy : array or tree of arrays, optional
        Upstream gradient, for a backward that allows only some; random by default.
    keep : str or sequence of str
        Names or patterns of parameters that keep their values instead of random ones, such as a variance.
    rng : random generator or sequence of them, optional
        Generators that the forward draws from, besides NumPy's and Python's global ones and those in the target. Each
        call of the forward draws the same numbers.
    gradients : dict, optional
        Where an object keeps gradients whose names are not recognised: {"weights": "nabla_w"}.
    checks : str or sequence of str
        Named checks besides the default ones, such as "batch"; "-aliasing" leaves one out; "all" and "none" are all and
        none. `named_checks` lists them.
    **keywords : arrays, trees of arrays, and other arguments of the forward
        Passed on by name, and checked as the others are.

    Returns
    -------
    Report
        `ok`, `worst`, `rows`, `checks`; `str()` is a table, `plot()` a figure. A report is true if all gradients are
        right and no named check failed.

    Raises
    ------
    TypeError
        If there is nothing to check, or the target has no backward.
    ValueError
        If forward or backward violate the contract (`contract`): if they change their inputs, are random, or return
        NaN, float32, a wrong shape or no gradient. If the forward's round-off hides the slopes.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((3, 5))
    >>> gradcheck((lambda x: (x**3, x), lambda dy, x: 3 * x**2 * dy), x).ok
    True
    """
    check_name("method", method, [*SCHEMES, *FILTERS])
    check_number("number of samples", samples, least=1, whole=True)
    if tolerance is not None:
        check_number("tolerance", tolerance, above=0, below=1)
    check_number("seed", seed, least=0, whole=True)
    chosen = Chosen(checks)
    streams = [np.random.default_rng([_STREAM, seed, i]) for i in range(3)]
    named = () if rng is None else rng if isinstance(rng, tuple | list) else (rng,)
    with _one_blas_thread(), SameRandomNumbers((np.random, random, *named)) as numbers:
        options = Options(streams[0], numbers.reset, _names(constants), _names(keep), gradients or {}, keywords)
        function = function_under_test(target, inputs, options)
        if tolerance is None:
            function, tolerance = replace(function, is_single=True), _LEAST_IN_FLOAT32 / 10
        return _check(function, dy, streams, method, samples, tolerance, independent, chosen, seed, numbers)


def _names(names):
    """Return names as a tuple; a single one may stand alone."""
    return (names,) if isinstance(names, str) else tuple(names)


def _one_blas_thread():
    """Return a context in which BLAS uses one thread: small products are faster so. Without threadpoolctl, nothing."""
    try:
        import threadpoolctl
    except ImportError:
        return contextlib.nullcontext()
    return threadpoolctl.threadpool_limits(1, "blas")


def _rows(comparer, rng, method, samples, is_linear):
    """Return the rows of all tensors. In float32, raise the comparer's tolerance until the noise allows a verdict."""
    while True:
        check = TensorCheck(comparer, method, samples, is_linear)
        try:
            return tuple(check.check(name, rng) for name in comparer.gradients)
        except TooNoisyError as error:
            if not comparer.function.is_single or not comparer.tolerance < error.tolerance < 1:
                raise
            comparer.use_tolerance(error.tolerance)


def _check(function, dy, streams, method, samples, tolerance, independent, chosen, seed, numbers):
    """Check the contract, then every tensor, then what is named."""
    if not any(x.size for x in function.tensors.values()):
        raise TypeError("nothing to check: found no floating-point input and no parameter, pass at least one")
    results = checked_result(function)
    y = results.real(results.tree)
    is_linear = dy is None and function.fixed_dy is None
    dy = upstream(function, results, dy, streams[1])
    dy = dy.astype(np.float32).astype(np.float64) if function.is_single else dy   # a value that the backward can see
    checked_gradients(function, results, dy)
    given, function = function, as_real(function, results)
    gradients = {name: np.array(g) for name, g in function.backward(dy).items() if g.size}
    rng = streams[2]
    notes = function.notes + coupling(function, y, rng, independent)
    complex_function = checked_complex(function, y) if method == "complex" else None
    least = max(tolerance, _LEAST_IN_FLOAT32) if function.is_single else tolerance
    comparer = Comparer(function, y, dy, gradients, method, least, len(notes) > len(function.notes),
                        complex_function)
    rows = _rows(comparer, rng, method, samples, is_linear)
    if comparer.tolerance > tolerance:
        notes += (f"the tolerance is {comparer.tolerance:.0e}, by the measured noise of the forward: "
                  f"{max(map(comparer.noise_of, gradients)) / (comparer.size or 1.0):.0e} of the result",)
    if all(row.ok for row in rows) and not any(gradient.any() for gradient in gradients.values()):
        notes += (_ALL_ZERO,)
    subject = Subject(given, results, comparer, is_linear, independent, all(row.ok for row in rows), seed, _of_a_part,
                      numbers)
    return Report(rows, comparer.tolerance, method, notes, dict(sorted(function.inventory.items())),
                  chosen.findings(subject), comparer)


def _of_a_part(part, call, constants, dy):
    """Check a part of a composite by a recorded call of it, with the parameters that it had."""
    return gradcheck(part, *call.args, constants=constants, keep="*", dy=dy, method="directional", checks="none",
                     independent=False, **call.keywords)
