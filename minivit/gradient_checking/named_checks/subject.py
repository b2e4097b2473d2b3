"""`Subject`: what a named check may ask of a target. It runs a step and compares it with the one that was checked.

A *step* is a forward and a backward. Its *outcome* is a dict of everything that it computes, as copies: the arrays of
the result, and the gradient of each tensor. The slopes of one step are checked by finite differences. A named check
runs this step again in another way that must not matter, such as with arrays in another memory layout, and compares
both outcomes.

They need not be equal to the last bit: a sum over another layout may add in another order. So a difference counts if it
exceeds the tolerance, relative to the largest entry of its array, and also 64 times what the last bit of the inputs
changes: inputs that are multiplied by 1 +- 2**-52 give that change. It is measured only where a difference is found.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from ..comparison import Comparer
from ..function import FunctionUnderTest, Results, Trial, as_complex
from ..parameters import contents, is_layer
from ..randomness import SameRandomNumbers
from ..trees import leaves
from .named_check import DoesNotApply

Outcome = dict[str, np.ndarray]
Change = Callable[[str, np.ndarray], Any] | None


class Subject:
    """The target of the named checks.

    function: of what the user passed, before `as_real`. results: the structure of its result. comparer: what the slopes
    were checked with; dy, y and gradients are real arrays. free: whether the backward takes any dy, and the user named
    none. independent: as for `gradcheck`. right: whether all slopes are right. recheck: `gradcheck` for a part.
    numbers: the generators outside the target.
    """

    def __init__(self, function: FunctionUnderTest, results: Results, comparer: Comparer, free: bool,
                 independent: bool | None, right: bool, seed: int, recheck: Callable,
                 numbers: SameRandomNumbers) -> None:
        self.function, self.results, self.comparer = function, results, comparer
        self.free, self.independent, self.right, self.seed, self.recheck = free, independent, right, seed, recheck
        self.numbers = numbers
        self.tolerance = max(comparer.tolerance, 1e3 * comparer.eps)  # of results that are computed in another way
        self.dy = results.structured(comparer.dy)

    def rng(self) -> np.random.Generator:
        """Return a generator of the same random numbers for each check, whichever others run."""
        return np.random.default_rng([self.seed, 7])

    def is_random(self) -> bool:
        """Return whether the forward draws random numbers, from generators that are set back before each call."""
        trial = self.trial()
        own = SameRandomNumbers([] if trial.target is None else contents(trial.target).generators)
        trial.forward()
        return own.moved() or self.numbers.moved()

    def trial(self, single: bool = False) -> Trial:
        """Return a copy of the target that may be called in any way."""
        if self.function.trial is None:
            raise DoesNotApply("this kind of target can be called in one way only")
        return self.function.trial(single)

    # ---- steps ----

    def outcome(self, trial: Trial, change: Change = None, dy: Any = None) -> Outcome:
        """Run a step of a trial, and return what it computes. dy: the one of the slopes by default."""
        with np.errstate(all="ignore"):
            y = dict(leaves(trial.forward(change)))
            found = {name: np.array(y[keys]) for keys, name in self.results.names.items()}
            return found | self.named(trial.backward(self.dy if dy is None else dy))

    def named(self, gradients: dict) -> Outcome:
        """Return copies of gradients, with names for sentences."""
        return {f"the gradient of {name}": np.array(g) for name, g in gradients.items() if g is not None}

    @cached_property
    def reference(self) -> Outcome:
        """The outcome of the step whose slopes are checked."""
        y = dict(leaves(self.results.structured(self.comparer.y)))
        return {name: y[keys] for keys, name in self.results.names.items()} | self.gradients

    @property
    def gradients(self) -> Outcome:
        """The gradients whose slopes are checked."""
        gradients = self.comparer.gradients                           # complex ones are pairs of real numbers here
        return self.named({name: as_complex(g, self.function.tensors[name]) for name, g in gradients.items()})

    def other_inputs(self, name: str, x: np.ndarray) -> np.ndarray:
        """Return other values for an input, of the same signs and nearly the same sizes: the forward may need these."""
        return x * self.rng().uniform(0.9, 1, x.shape) if x.dtype.kind in "fc" and name in self.function.inputs else x

    # ---- comparing ----

    def difference(self, expected: Outcome, found: Outcome, again: Callable[[Change], Outcome] | None = None,
                   tolerance: float = 0.0) -> str:
        """Say how an outcome differs from the expected one; an empty string if it does not.

        again: change -> the expected outcome, computed with changed inputs, to measure its round-off. By default that
        of the step whose slopes are checked. tolerance: that of the check, if it is larger than the user's.
        """
        tolerance = max(tolerance, self.tolerance)
        wrong = [name for name in expected if name not in found or not agree(expected[name], found[name], tolerance)]
        if not wrong:
            return ""
        noise = self.round_off(again or (lambda change: self.outcome(self.trial(), change)))
        for name in wrong:
            x, other = expected[name], found.get(name)
            if other is None:
                return f"{name} is missing"
            if other.shape != x.shape:
                return f"{name} has the shape {other.shape} instead of {x.shape}"
            allowed = 64 * largest(noise[name] - x) if name in noise and noise[name].shape == x.shape else 0.0
            if not agree(x, other, tolerance, allowed + self.least(name)):
                share = largest(other - x) / (largest(x) or 1.0)
                return f"{name} differs by {share:.1e} of its largest entry" if np.isfinite(other).all() else (
                    f"{name} holds NaN or infinity")
        return ""

    def round_off(self, step: Callable[[Change], Outcome]) -> Outcome:
        """Return the outcome of a step for inputs that differ in their last bit; an empty one if the step fails."""
        rng = self.rng()

        def moved(name, x):
            return x * (1 + self.comparer.eps * rng.choice([-1.0, 1.0], x.shape)) if name in self.function.inputs else x

        try:
            return step(moved)
        except Exception:
            return {}

    def least(self, name: str, eps: float = 0.0) -> float:
        """Return the round-off that a gradient may have although its entries cancel to zero. eps: of another dtype."""
        tensor = self.function.tensors.get(name.removeprefix("the gradient of "))
        if tensor is None:
            return 0.0
        return 64 * (eps or self.comparer.eps) * self.comparer.size / (largest(tensor) or 1.0)


def arrays_of(target: Any) -> dict[str, np.ndarray]:
    """Return {path: array} of all floating arrays that the target of a trial holds."""
    if target is None:
        return {}
    if is_layer(target):
        return {p.name: p.data for p in target.parameters()}
    return {place.path: place.value for place in contents(target).arrays}


def largest(x: np.ndarray) -> float:
    """Return the largest absolute value among the finite entries of an array."""
    size = np.abs(x)
    return float(size[np.isfinite(size)].max(initial=0.0))


def agree(x: np.ndarray, other: np.ndarray, tolerance: float, allowed: float = 0.0) -> bool:
    """Return whether two arrays agree to a tolerance, relative to the largest entry, or to an allowed difference."""
    if x.shape != other.shape:
        return False
    if np.array_equal(x, other, equal_nan=True):
        return True
    finite = np.isfinite(x)
    if not np.array_equal(finite, np.isfinite(other)):
        return False
    return largest(np.where(finite, x, 0) - np.where(finite, other, 0)) <= max(tolerance * largest(x), allowed)
