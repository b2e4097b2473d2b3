"""Exercise 16: a gradient checker. It is examined by right and wrong pairs of functions."""

from collections.abc import Callable

import numpy as np

from ..diagnosis import Fits, diagnose, equal
from ..examination import Learner
from ..submission import Wrong
from .marking import Marking

_H = 1e-3                                                             # large, so that its error shows


def _cube(x):
    return x**3


def _sum_cubed(x):
    return np.full((2, 2), x.sum() ** 3)


def _softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, y


def _softmax_backward(dy, y):
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))


def _square(x):
    return x**2, x


# what is wrong with a backward, and why a checker may miss it
_WRONG_PAIRS: list[tuple[str, Callable, Callable, str]] = [
    ("has the wrong sign", _square, lambda dy, x: -2 * x * dy,
     "compare the gradients entry by entry: lengths or absolute values are equal for a wrong sign"),
    ("has its entries in the wrong places", _square, lambda dy, x: (2 * x * dy)[::-1],
     "compare the gradients entry by entry: sums and lengths do not see the place of an entry"),
    ("is wrong at one entry", _square, lambda dy, x: 2 * x * dy + np.eye(*x.shape) * (np.arange(x.shape[1]) == 1),
     "take the largest difference of all entries, not their mean or the first one"),
    ("is 1% too large", _square, lambda dy, x: 2.02 * x * dy,
     "measure the slopes in float64 with a small h, and divide the largest difference by the largest gradient"),
    ("is that of a softmax with a wrong sum", _softmax, lambda dy, y: y * (dy - dy.mean(axis=-1, keepdims=True)),
     "choose a random dy: under a dy of ones every slope of a softmax is 0"),
    ("is 1% too large, of y = 1e-6 x**2", lambda x: (1e-6 * x**2, x), lambda dy, x: 2.02e-6 * x * dy,
     "divide the largest difference by the largest entry of the gradient: an absolute difference depends on its scale"),
    ("ignores dy", _square, lambda dy, x: 2 * x, "multiply the change of the result by the same dy that backward gets"),
]
_RIGHT_PAIRS: list[tuple[str, Callable, Callable]] = [
    ("y = x**2", _square, lambda dy, x: 2 * x * dy),
    ("the softmax", _softmax, _softmax_backward),
    ("y = 1000 x**2", lambda x: (1000 * x**2, x), lambda dy, x: 2000 * x * dy),
]


class GradientChecker:
    """Examines `numeric_gradient` and `largest_error`."""

    def examine(self, learner: Learner) -> None:
        """Examine a gradient checker. Raises `Wrong` at the first mistake."""
        rng = np.random.default_rng(0)
        x, dy = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
        self._slopes(learner, _cube, x, dy, _cube_mistakes(x, dy), 3 * x**2 * dy + _H**2 * dy)
        total, weights = x.sum(), rng.standard_normal((2, 2))
        slope = np.full_like(x, ((total + _H) ** 3 - (total - _H) ** 3) / (2 * _H) * weights.sum())
        self._slopes(learner, _sum_cubed, x, weights, _sum_mistakes(x, weights), slope)
        self._errors(learner, x)

    def _slopes(self, learner, f, x, dy, mistakes, right):
        """Check `numeric_gradient` for one function."""
        name = "numeric_gradient"
        found = learner.call(name, f, x, dy, _H)
        if not isinstance(found, np.ndarray) or found.shape != x.shape:
            what = f"an array of shape {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
            raise Wrong(f"{name} returns {what}, but must return an array of the shape of x, {x.shape}: one slope for "
                        "each entry of x", name)
        if not equal(found, right):
            said = diagnose("the slope", found, right, Fits(mistakes=mistakes), {})
            raise Wrong(said or f"{name} gives {found.flat[0]:.6g} for x[0, 0] of a simple function, but the slope is "
                                f"{right.flat[0]:.6g}", name)

    def _errors(self, learner, x):
        """Check `largest_error` for right and wrong pairs."""
        name, received = "largest_error", []

        def error_of(forward, backward):
            def recorded(dy, cache):
                received.append(np.copy(dy))
                return backward(dy, cache)

            found = learner.call(name, forward, recorded, x)
            if not isinstance(found, float | np.floating):
                raise Wrong(f"{name} returns {'nothing' if found is None else type(found).__name__}, but must return "
                            "one number", name)
            return float(found)

        error_of(*_RIGHT_PAIRS[0][1:])
        if not received:
            raise Wrong(f"{name} does not call backward: it must compare what backward returns with the measured "
                        "slopes", name)
        if np.ptp(received[-1]) == 0:
            raise Wrong(f"{name} passes a dy whose entries are all {received[-1].flat[0]:g}: choose a random dy. Under "
                        "a dy of ones, all slopes of a softmax are 0, and a wrong backward passes", name)
        for what, forward, backward, advice in _WRONG_PAIRS:
            error = error_of(forward, backward)
            if not error > 1e-3:
                raise Wrong(f"{name} finds an error of {error:.1e} for a backward that {what}: it must be more than "
                            f"1e-3. Advice: {advice}", name)
        for what, *pair in _RIGHT_PAIRS:
            error = error_of(*pair)
            if not 0 <= error < 1e-6:
                raise Wrong(f"{name} finds an error of {error:.1e} for the right backward of {what}: it must be about "
                            "1e-9. Measure with a small step h, such as the default 1e-5, and divide the largest "
                            "difference by the largest entry of the gradient", name)


def _cube_mistakes(x, dy):
    """Return the slopes of x**3 that typical mistakes measure, by sentence."""
    central = 3 * x**2 + _H**2
    forward = ((x + _H) ** 3 - x**3) / _H
    return {
        "the difference is divided by h: from x - h to x + h the step is 2 h": 2 * central * dy,
        "the slope lacks dy: L is the sum of f(x) dy": central,
        "the slope is measured to one side, (L(x + h) - L(x)) / h. The central difference is more accurate: "
        "(L(x + h) - L(x - h)) / (2 h)": forward * dy,
        "the slope is measured to one side, (L(x) - L(x - h)) / h. The central difference is more accurate: "
        "(L(x + h) - L(x - h)) / (2 h)": (x**3 - (x - _H) ** 3) / _H * dy,
        "x + h and x - h are exchanged: the slope has the wrong sign": -central * dy,
        "all entries of x move at once: change one entry at a time": np.full_like(x, (central * dy).sum())}


def _sum_mistakes(x, weights):
    """Return the slopes of a function of the sum of x, if earlier entries of x keep their last change, by sentence."""
    totals = [x.sum() + last * np.arange(x.size).reshape(x.shape) for last in (-_H, _H)]
    slopes = [((total + _H) ** 3 - (total - _H) ** 3) / (2 * _H) * weights.sum() for total in totals]
    return {"an entry of x is not restored: put back its old value before the next entry": slopes}


MARKINGS = {
    "gradient_checker": Marking(GradientChecker(), "minivit/gradient_checking/differences.py", (
        "numeric_gradient: work on x.copy(). `for i in np.ndindex(x.shape)` visits all indices i of x.",
        "In the loop: saved = x[i]; x[i] = saved + h; plus = f(x); x[i] = saved - h; minus = f(x); x[i] = saved.",
        "The slope is `((plus - minus) * dy).sum() / (2 * h)`. (This loses fewer digits than the difference of two L.)",
        "largest_error: y, cache = forward(x); a random dy of the shape of y, for example from "
        "np.random.default_rng(0).standard_normal(y.shape); analytic = backward(dy, cache).",
        "Measure with `numeric_gradient(lambda x: forward(x)[0], x, dy)`. The result is np.abs(numeric - "
        "analytic).max(), divided by the largest absolute value in numeric or analytic.")),
}
