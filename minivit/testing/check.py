"""`gradcheck`: the one function, and its rules."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import threadpoolctl

from ..common.checks import check_name, check_number
from .contract import checked_gradients, checked_result, coupling
from .differences import SLOPES
from .report import Report
from .subject import make_subject
from .trial import FILTERS, Trial


def gradcheck(target: Any, *inputs: Any, constants: str | Iterable[str] = (), method: str = "richardson",
              samples: int = 32, tolerance: float = 1e-6, independent: bool | None = None, seed: int = 0) -> Report:
    """Check every gradient of `target` against the slope of its forward; returns a `Report`:

    `ok`, `worst`, `rows`, `str()`, `plot()`.

    target: one of three. A pair of functions, `forward(*inputs) -> y, cache` and `backward(dy, cache) -> gradients` in
        the order of the inputs. A layer or model of minivit. Any object with `forward(*inputs) -> y` and `backward(dy)
        -> gradients of the inputs`: its parameters are the float arrays that it holds before the first forward (also in
        lists, tuples, dicts, and parts that have a forward and a backward themselves), and their gradients `d<name>` or
        `grads[name]` after the backward. Nothing given is changed: what is checked are copies in float64, their
        parameters moved to random places. inputs: floating arrays are checked; integers (labels, uint8 pixels), single
        numbers, strings and None are constants. constants: names of floating inputs or parameters that have no gradient
        (a mask, a table). method: "richardson" or "central", entry by entry; "complex", the same by the complex step,
        for a pair of analytic functions; "directional" or "taylor", fast filters that look at each tensor along one
        random direction, and measure entries by Richardson extrapolation only where it fails. A filter is no proof: an
        error of a fraction e of the gradient escapes "directional" with a probability of about tolerance / e. samples:
        entries measured in each tensor, at random; all, if it has no more. If it has, one direction over all of it is
        measured as well, and where that fails, bisection finds an entry that is wrong; where it meets a kink, "the rest
        not seen" is said. tolerance: of the error below. independent: whether images, the first axis of the first input
        and of the result, must not see each other in the forward, as in a batch norm. True: it is an error if they do;
        False: they may; None: it is an error in a layer or model, and elsewhere a note.

    The pass rule. For an entry, with h the step (`differences.SLOPES`, times the `scale` of the tensor) and |.| the
    2-norm,

        error = |numeric - analytic| / max(G, floor)          G: the largest |analytic| of those measured in this tensor
        floor = 4 EPS |y dy| / (h tolerance)                  below it, differences are round-off ("complex": h is the tensor's magnitude)

    or |numeric| if that is larger; for a direction, G is |gradient|, or |numeric| if that is larger. A tensor passes if
    no measured error is above the tolerance. Where the forward has a kink (ReLU at zero), it has no slope: a
    measurement above the tolerance which the step itself may explain (with half the step it changes, or the forward
    bends, `differences.bend`, by more than a tenth of the difference) or that is not finite, is repeated by Richardson
    extrapolation with a step 32 and 1024 times smaller, and if it is no better, skipped and counted as a kink (one that
    is still not finite fails); a tensor of which less than half of the entries are left fails. "taylor" demands besides
    that the remainder falls with an order of at least 1.5.

    Raises TypeError if there is nothing to check or no backward; ValueError if the forward or backward changes what it
    was given, gives two different results for the same input or one that is not finite or not float64, if a gradient is
    missing or of the wrong shape, or if images see each other that must not.
    """
    check_name("method", method, [*SLOPES, *FILTERS])
    check_number("number of samples", samples, least=1, whole=True)
    check_number("tolerance", tolerance, above=0, below=1)
    check_number("seed", seed, least=0, whole=True)
    rng = np.random.default_rng(seed)
    subject = make_subject(target, inputs, [constants] if isinstance(constants, str) else constants, rng)
    if not any(x.size for x in subject.tensors.values()):
        raise TypeError("there is nothing to check: no floating-point input and no parameter")
    # One thread: the products of a small subject are faster without a second, and do not wait for it on a busy machine.
    with threadpoolctl.threadpool_limits(1, "blas"):
        y = checked_result(subject)
        dy = rng.standard_normal(y.shape)
        gradients = checked_gradients(subject, dy)
        notes = coupling(subject, y, rng, independent)
        trial = Trial(subject, y, dy, gradients, method, samples, tolerance, coupled=bool(notes))
        rows = tuple(trial.judge(name, rng) for name in gradients)
    return Report(rows, tolerance, method, notes, trial)
