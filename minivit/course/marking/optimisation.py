"""Exercises 14 and 15: AdamW and the schedule of the learning rate."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import references
from ..diagnosis import Fits, diagnose, equal
from ..examination import Learner
from ..submission import Wrong
from .marking import Marking

# ---- AdamW -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AdamWRule:
    """AdamW with one thing that may be changed: the mistakes of the exercise."""

    gradient: Callable = lambda g, w, lr, decay: g                    # what enters m and v
    square: Callable = np.square
    correction1: Callable = lambda beta, t: 1 - beta**t
    correction2: Callable = lambda beta, t: 1 - beta**t
    decay: Callable = lambda w, lr, decay: lr * decay * w
    denominator: Callable = lambda v, eps: np.sqrt(v) + eps
    direction: Callable = lambda mhat, g: mhat
    keep_m: Callable = lambda beta: (beta, 1 - beta)
    betas: Callable = lambda beta1, beta2: (beta1, beta2)
    sign: int = 1

    def __call__(self, w: Any, g: Any, m: Any, v: Any, t: int, lr: float, decay: float, beta1: float, beta2: float,
                 eps: float) -> tuple:
        """Return w, m and v after a step by this rule."""
        g = self.gradient(g, w, lr, decay)
        own1, own2 = self.betas(beta1, beta2)
        (keep1, new1), (keep2, new2) = self.keep_m(own1), self.keep_m(own2)
        m, v = keep1 * m + new1 * g, keep2 * v + new2 * self.square(g)
        mhat, vhat = m / self.correction1(beta1, t), v / self.correction2(beta2, t)
        step = lr * self.direction(mhat, g) / self.denominator(vhat, eps)
        return w - self.decay(w, lr, decay) - self.sign * step, m, v


def _one(beta, t):
    return 1.0


ADAMW_MISTAKES = {
    "the bias correction is missing: divide m by 1 - beta1**t and v by 1 - beta2**t": AdamWRule(
        correction1=_one, correction2=_one),
    "the bias correction of m, the division by 1 - beta1**t, is missing": AdamWRule(correction1=_one),
    "the bias correction of v, the division by 1 - beta2**t, is missing": AdamWRule(correction2=_one),
    "the bias correction divides by 1 - beta: it must be 1 - beta**t": AdamWRule(
        correction1=lambda beta, t: 1 - beta, correction2=lambda beta, t: 1 - beta),
    "the bias correction has beta**(t + 1): t counts from 1": AdamWRule(
        correction1=lambda beta, t: 1 - beta**(t + 1), correction2=lambda beta, t: 1 - beta**(t + 1)),
    "the decay is added to the gradient (L2): in AdamW it is decoupled, and shrinks w directly": AdamWRule(
        gradient=lambda g, w, lr, decay: g + decay * w, decay=lambda w, lr, decay: 0.0),
    "the weight decay is missing": AdamWRule(decay=lambda w, lr, decay: 0.0),
    "the decay is not multiplied by the learning rate: w <- w - lr decay w": AdamWRule(
        decay=lambda w, lr, decay: decay * w),
    "the decay makes w larger: it must be subtracted": AdamWRule(decay=lambda w, lr, decay: -lr * decay * w),
    "v is a mean of the gradient: the gradient is not squared": AdamWRule(square=lambda g: g),
    "eps stands inside the root: it must be added to the root": AdamWRule(denominator=lambda v, eps: np.sqrt(v + eps)),
    "the root is missing: divide by sqrt(v) + eps": AdamWRule(denominator=lambda v, eps: v + eps),
    "the step has the gradient g in place of its running mean m": AdamWRule(direction=lambda mhat, g: g),
    "w moves along the gradient: it must move against it": AdamWRule(sign=-1),
    "beta and 1 - beta are exchanged in the running means": AdamWRule(keep_m=lambda beta: (1 - beta, beta)),
    "the factor 1 - beta is missing in the running means": AdamWRule(keep_m=lambda beta: (beta, 1.0)),
    "m and v both use beta1: v has beta2": AdamWRule(betas=lambda beta1, beta2: (beta1, beta1)),
    "m and v both use beta2: m has beta1": AdamWRule(betas=lambda beta1, beta2: (beta2, beta2)),
    "beta1 and beta2 are exchanged": AdamWRule(betas=lambda beta1, beta2: (beta2, beta1)),
}


class AdamW:
    """Examines `update`."""

    def examine(self, learner: Learner) -> None:
        """Examine an AdamW. Raises `Wrong` at the first mistake."""
        rng = np.random.default_rng(0)
        w, g, m = rng.standard_normal((3, 2, 5))
        for t, dtype in ((3, np.float64), (1, np.float64), (2, np.float32)):
            # a large eps, so that its place matters
            arrays = [a.astype(dtype) for a in (w, g, m, np.abs(rng.standard_normal((2, 5))))]
            arguments = (*arrays, t, 0.1, 0.3, 0.8, 0.95, 1e-2)
            self._compare(learner.call("update", *arguments), arguments, dtype)
        self._defaults(learner, w, g)

    def _compare(self, returned, arguments, dtype):
        """Compare what `update` returned with what it should return."""
        if not isinstance(returned, tuple | list) or len(returned) != 3:
            what = "nothing" if returned is None else type(returned).__name__
            raise Wrong(f"update returns {what}, but must return three arrays: the new w, m and v", "update")
        rules = {sentence: rule(*arguments) for sentence, rule in ADAMW_MISTAKES.items()}
        right = references.adamw.update(*arguments)
        for i in (1, 2, 0):                                           # m and v first: w depends on them
            name, found = "wmv"[i], np.asarray(returned[i])
            if found.shape != right[i].shape:
                raise Wrong(f"the new {name} has the shape {found.shape}, but must have that of the old one, "
                            f"{right[i].shape}", "update")
            if found.dtype != dtype:
                raise Wrong(f"the new {name} is {found.dtype} for {np.dtype(dtype)} inputs, but must be "
                            f"{np.dtype(dtype)}", "update")
            if not equal(found, right[i], 1e-4 if dtype == np.float32 else 1e-9):
                mistakes = {sentence: value[i] for sentence, value in rules.items()
                            if not equal(value[i], right[i], 1e-6)}
                said = diagnose(f"the new {name}", found, right[i], Fits(mistakes=mistakes), {})
                worst = int(np.argmax(np.abs(found - right[i])))
                said = said or (f"the new {name} is {found.flat[worst]:.6g} where it should be "
                                f"{right[i].flat[worst]:.6g}")
                raise Wrong(f"at step t = {arguments[4]}, {said}", "update")

    def _defaults(self, learner, w, g):
        """Check the default values of beta1, beta2 and eps."""
        zero = np.zeros_like(w)
        arguments = (w, g, zero, zero, 1, 0.1, 0.0)
        found, right = learner.call("update", *arguments), references.adamw.update(*arguments)
        if not all(equal(np.asarray(a), b) for a, b in zip(found, right, strict=True)):
            raise Wrong("with the default values the result is wrong: they are beta1=0.9, beta2=0.999, eps=1e-8",
                        "update")


# ---- schedule ----------------------------------------------------------------------------------------------


def _cosine(step, steps, warmup):
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


SCHEDULE_MISTAKES: dict[str, Callable] = {
    "the warm-up starts at 0: it must be (step + 1) / warmup, so that the first step moves the weights":
        lambda t, T, W: t / W if t < W else _cosine(t, T, W),
    "the cosine runs over all steps: it must run over the steps - warmup steps after the warm-up":
        lambda t, T, W: (t + 1) / W if t < W else (1 + math.cos(math.pi * t / T)) / 2,
    "the cosine begins at step 0, but must begin after the warm-up: (step - warmup) / (steps - warmup)":
        lambda t, T, W: (t + 1) / W if t < W else (1 + math.cos(math.pi * t / (T - W))) / 2,
    "the cosine counts step - warmup, but divides by steps: divide by steps - warmup":
        lambda t, T, W: (t + 1) / W if t < W else (1 + math.cos(math.pi * (t - W) / T)) / 2,
    "the cosine goes from 1 to -1, so that the learning rate becomes negative: it must be (1 + cos(...)) / 2":
        lambda t, T, W: (t + 1) / W if t < W else 2 * _cosine(t, T, W) - 1,
    "the division by 2 is missing: it must be (1 + cos(...)) / 2":
        lambda t, T, W: (t + 1) / W if t < W else 2 * _cosine(t, T, W),
    "the learning rate rises after the warm-up: it is (1 - cos(...)) / 2, but must be (1 + cos(...)) / 2":
        lambda t, T, W: (t + 1) / W if t < W else 1 - _cosine(t, T, W),
    "the factor pi is missing: half a cosine goes from 0 to pi":
        lambda t, T, W: (t + 1) / W if t < W else (1 + math.cos((t - W) / (T - W))) / 2,
    "it is a whole cosine, of 2 pi: half a cosine goes from 0 to pi":
        lambda t, T, W: (t + 1) / W if t < W else (1 + math.cos(2 * math.pi * (t - W) / (T - W))) / 2,
    "there is no warm-up": _cosine,
    "the warm-up is a step too long: it is for step < warmup":
        lambda t, T, W: (t + 1) / W if W and t <= W else _cosine(t, T, W),
    "the warm-up divides by warmup + 1: it must be (step + 1) / warmup":
        lambda t, T, W: (t + 1) / (W + 1) if t < W else _cosine(t, T, W),
    "the warm-up divides by steps: it must be (step + 1) / warmup":
        lambda t, T, W: (t + 1) / T if t < W else _cosine(t, T, W),
    "the learning rate stays at its peak after the warm-up: it must fall along half a cosine":
        lambda t, T, W: min(1.0, (t + 1) / W),
    "the learning rate falls in a straight line: it must fall along half a cosine":
        lambda t, T, W: (t + 1) / W if t < W else 1 - (t - W) / (T - W),
}


class Schedule:
    """Examines `factor`."""

    def examine(self, learner: Learner) -> None:
        """Examine a schedule. Raises `Wrong` at the first mistake."""
        for steps, warmup in ((20, 4), (7, 0)):
            found = np.zeros(steps)
            for step in range(steps):
                value = learner.call("factor", step, steps, warmup)
                if not isinstance(value, int | float | np.floating | np.integer):
                    raise Wrong(f"factor returns {'nothing' if value is None else type(value).__name__}, but must "
                                "return a number", "factor")
                found[step] = value
            right = np.array([references.schedule.factor(step, steps, warmup) for step in range(steps)])
            if equal(found, right, 1e-9):
                continue
            mistakes = {sentence: np.array([rule(step, steps, warmup) for step in range(steps)])
                        for sentence, rule in SCHEDULE_MISTAKES.items() if warmup or "warm-up starts" not in sentence}
            step = int(np.argmax(np.abs(found - right)))
            said = diagnose("the factor", found, right, Fits(mistakes=mistakes), {})
            raise Wrong(f"{said or 'some values are wrong'}. For example, factor({step}, {steps}, {warmup}) is "
                        f"{found[step]:.4g}, but should be {right[step]:.4g}", "factor")


MARKINGS = {
    "adamw": Marking(AdamW(), "minivit/training/adamw.py", (
        "Write the four lines of the text one after the other, each with a new array: "
        "`m = beta1 * m + (1 - beta1) * g`.",
        "The third line: `w = w - lr * decay * w`. It makes a new array; `w -= ...` would change the old one.",
        "The last line: mhat = m / (1 - beta1**t), vhat = v / (1 - beta2**t), and w = w - lr * mhat / (np.sqrt(vhat) + "
        "eps). Keep m and v without the correction, and return w, m, v.")),
    "schedule": Marking(Schedule(), "minivit/training/schedule.py", (
        "`if step < warmup: return (step + 1) / warmup`. With warmup = 0 this never happens.",
        "Otherwise return (1 + math.cos(math.pi * progress)) / 2, where progress goes from 0 to almost 1.",
        "progress = (step - warmup) / (steps - warmup).")),
}
