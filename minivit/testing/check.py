"""`gradcheck`, the public function, and its pass rule."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import threadpoolctl

from ..common.checks import check_name, check_number
from .contract import checked_gradients, checked_result, coupling
from .differences import SLOPES
from .report import Report
from .subject import make_subject
from .trial import FILTERS, Trial


def gradcheck(target: Any, *inputs: Any, constants: Sequence[str] | str = (), method: str = "richardson",
              samples: int = 32, tolerance: float = 1e-6, independent: bool | None = None, seed: int = 0) -> Report:
    """Check every gradient of `target` against finite differences of its forward.

    Parameters
    ----------
    target : pair of functions, layer, model or object
        A pair: `forward(*inputs) -> y, cache` and `backward(dy, cache) -> gradients` in the order of the inputs.
        A layer or model of minivit. Any object with `forward(*inputs) -> y` and `backward(dy) -> gradients of the
        inputs`: its parameters are the float arrays that it holds before the first forward, also in lists, tuples,
        dicts, and in parts with a forward and a backward. Their gradients are `d<name>` or `grads[name]` after the
        backward. The target is not changed: gradcheck checks copies in float64, with random parameters.
    *inputs : arrays and other arguments of the forward
        Floating arrays are checked. Integers, single numbers, strings and None are constants.
    constants : str or sequence of str
        Names of floating inputs or parameters without a gradient, such as a mask.
    method : str
        "richardson" or "central": entry by entry. "complex": entry by entry with the complex step, for a pair of
        analytic functions. "directional" or "taylor": fast filters that check each tensor along one random direction,
        and its entries only if that fails. A filter is no proof: "directional" misses an error of a fraction e of the
        gradient with a probability of about tolerance / e.
    samples : int
        Number of entries to check in each tensor, at random; all if the tensor has no more. A larger tensor is also
        checked along one direction over all entries. If that fails, bisection finds a wrong entry.
    tolerance : float
        Largest error that passes; see Notes.
    independent : bool, optional
        Whether the images of a batch (first axis) must not influence each other. True: it is an error if they do.
        False: they may, as in batch norm. None: an error for a layer or model, else a note.
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
        If the forward or backward changes its inputs, is not deterministic, or returns something that is not finite
        or not float64; if a gradient is missing or has the wrong shape; if images influence each other and must not.

    Notes
    -----
    For an entry, with the step h (`differences.SLOPES`, times the scale of the tensor) and |.| the 2-norm,

        error = |numeric - analytic| / max(G, floor)          G: the largest |analytic| among the checked entries
        floor = 4 EPS |y dy| / (h tolerance)                  below it, differences are round-off

    or |numeric| if that is larger. For "complex", h in the floor is the scale of the tensor. For a direction, G is
    |gradient|, or |numeric| if that is larger. A tensor passes if no error exceeds the tolerance.

    At a kink, such as ReLU at zero, there is no slope. If an error exceeds the tolerance and the step itself may
    explain it (it changes with half the step, or the forward bends, `differences.bend`, by more than a tenth of the
    difference), or if the slope is not finite, the measurement is repeated with steps 32 and 1024 times smaller. If
    that does not help, the entry is skipped and counted as a kink; a slope that stays infinite fails. A tensor fails if
    fewer than half of its entries remain. "taylor" also requires that the remainder falls with an order of at least
    1.5.

    Examples
    --------
    A pair of functions:

    >>> import numpy as np
    >>> import minivit
    >>> x = np.random.default_rng(0).standard_normal((3, 5))
    >>> minivit.gradcheck((lambda x: (x**3, x), lambda dy, x: 3 * x**2 * dy), x).ok
    True

    An object with a parameter `w`, whose gradient is `dw` after the backward:

    >>> class Scale:
    ...     def __init__(self):
    ...         self.w = np.ones(5)
    ...     def forward(self, x):
    ...         self.x = x
    ...         return x * self.w
    ...     def backward(self, dy):
    ...         self.dw = (dy * self.x).sum(axis=0)
    ...         return dy * self.w
    >>> [row.tensor for row in minivit.gradcheck(Scale(), x).rows]
    ['x', 'w']

    A wrong gradient, and its table:

    >>> report = minivit.gradcheck((lambda x: (x**3, x), lambda dy, x: 2 * x**2 * dy), x)
    >>> bool(report)
    False
    >>> print(report)                                                # doctest: +ELLIPSIS
    tensor      entries  method         error       numeric      analytic
    x             15/15  richardson   3.3e-01 ...  WRONG at ...
        hint: off by a constant factor: 0.666667 times what it should be
    1 of 1 tensors FAIL: worst error 3.3e-01, tolerance 1e-06
    """
    check_name("method", method, [*SLOPES, *FILTERS])
    check_number("number of samples", samples, least=1, whole=True)
    check_number("tolerance", tolerance, above=0, below=1)
    check_number("seed", seed, least=0, whole=True)
    rng = np.random.default_rng(seed)
    subject = make_subject(target, inputs, [constants] if isinstance(constants, str) else constants, rng)
    if not any(x.size for x in subject.tensors.values()):
        raise TypeError("nothing to check: found no floating-point input and no parameter, pass at least one")
    # One BLAS thread: small products are faster without a second one.
    with threadpoolctl.threadpool_limits(1, "blas"):
        y = checked_result(subject)
        dy = rng.standard_normal(y.shape)
        gradients = checked_gradients(subject, dy)
        notes = coupling(subject, y, rng, independent)
        trial = Trial(subject, y, dy, gradients, method, samples, tolerance, coupled=bool(notes))
        rows = tuple(trial.check(name, rng) for name in gradients)
    return Report(rows, tolerance, method, notes, trial)
