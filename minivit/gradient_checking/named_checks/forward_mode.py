"""Is a forward-mode derivative right: J u, for a direction u of the inputs?

A backward computes J^T v: one product with the transpose of the Jacobian J. Forward mode computes J u: how the result
changes if the inputs move along u (the *tangents* of the inputs; J u are those of the result). An object offers it as a
method `jvp`, called after its forward, which holds the parameters constant:

    layer.forward(x)                 then     layer.jvp(dx) -> tangent of the result

It takes one tangent for each input with a gradient, in their order. If it needs twice as many arguments, it gets the
inputs first: `jvp(x, dx)`. If it returns a pair (result, tangent), as in JAX, the tangent counts. Functions are passed
as three: `(forward, backward, jvp)` with `jvp(*tangents, cache)`.

Two tests, each for one input u at a time and a random v:

- against differences: <v, J u> is the slope of L = <v, y> along u, and is measured as every slope is;
- against the backward: <v, J u> = <J^T v, u>, the dot-product test. It is exact, so no step size limits it, and it
  holds whatever the scale. It cannot see a mistake that both share: then only the differences tell.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..differences import norm
from ..function import as_pairs
from ..inputs import required_arguments
from ..trees import leaves, mapped
from .named_check import OK, WRONG, DoesNotApply
from .subject import Subject


def jvp(subject: Subject) -> tuple[str, str]:
    """Compare J u with differences and with the backward, for a random direction u of each input."""
    if subject.trial().method("jvp") is None:
        raise DoesNotApply("there is no jvp")
    comparer, worst = subject.comparer, 0.0
    for name, x in subject.function.inputs.items():
        if not x.size:
            continue
        u = comparer.random_direction(name, subject.rng())
        tangent = _tangent_of_result(subject, name, u)
        if isinstance(tangent, str):
            return WRONG, tangent
        slope = float(np.sum(tangent * comparer.dy))
        size = norm(comparer.gradients[name])
        measured = comparer.compare(name, None, slice(None), u, slope, size, "richardson")
        transposed = float(comparer.gradients[name].reshape(-1) @ u)
        if measured.error > subject.tolerance and not measured.kink and measured.seen:
            both = abs(slope - transposed) <= subject.tolerance * max(abs(slope), abs(transposed))
            return WRONG, (f"along a direction of {name}, jvp gives {slope:.5g}, the backward {transposed:.5g}, and "
                           f"differences {measured.numeric:.5g}: " + (
                               "jvp and the backward share a mistake" if both else "jvp is wrong"))
        scale = norm(tangent) * norm(comparer.dy) + size * norm(u)
        error = abs(slope - transposed) / (scale or 1.0)
        if error > 1e-3 * subject.tolerance and subject.right:
            return WRONG, (f"jvp and the backward are not transposes of each other: <v, J u> = {slope:.12g} but "
                           f"<J^T v, u> = {transposed:.12g} for {name}")
        worst = max(worst, error)
    return OK, f"agrees with differences, and with the backward to {worst:.0e} (dot-product test)"


def _tangent_of_result(subject, name, u):
    """Return the tangent of the result if one input moves along u, as one real array; or what is wrong with it."""
    trial, results = subject.trial(), subject.results
    moved = {other: np.zeros_like(x) for other, x in subject.function.inputs.items()}
    as_pairs(moved[name]).flat[...] = u
    with np.errstate(all="ignore"):
        trial.forward()
        found = called(trial, "jvp", trial.inputs.structured(moved))
    if isinstance(found, tuple) and len(found) == 2 and not isinstance(results.tree, tuple):
        found = found[1]                                              # (result, tangent)
    given = dict(leaves(found))
    for keys, y in results.arrays.items():
        if np.shape(given.get(keys, np.nan)) != y.shape or given.get(keys) is None:
            return f"jvp returns {described(given.get(keys))}, expected the shape {y.shape} of the result"
    return results.real(mapped(lambda keys, x: np.asarray(x, results.arrays[keys].dtype) if keys in results.arrays
                               else x, found))


def called(trial: Any, name: str, vectors: Sequence) -> Any:
    """Call a method of a trial with vectors, and with the inputs before them if it takes twice as many arguments."""
    method = trial.method(name)
    needed = required_arguments(method)
    if needed is not None and len(needed) == 2 * len(vectors):
        return method(*trial.inputs.structured({}), *vectors)
    return method(*vectors)


def described(x: Any) -> str:
    """Say what was found instead of an array."""
    return "nothing" if x is None else f"the shape {np.shape(x)}"


def transposition_error(forward_mode: Callable, reverse_mode: Callable, x: Any, y: Any, trials: int = 3,
                        seed: int = 0) -> float:
    """Return the largest relative difference between <v, J u> and <J^T v, u>, for random u and v.

    Parameters
    ----------
    forward_mode : callable
        u -> J u, where u has the structure of x.
    reverse_mode : callable
        v -> J^T v, where v has the structure of y.
    x, y : array or tree of arrays
        Of the shapes of u and v; the values do not matter.
    trials : int
        Number of pairs of u and v.
    seed : int
        Seed of u and v.

    Returns
    -------
    float
        The difference, relative to |v| |J u| + |J^T v| |u|.

    Raises
    ------
    ValueError
        If a function returns something of another structure or shape.
    """
    rng, errors = np.random.default_rng([seed, 11]), []
    for _ in range(trials):
        u, v = _random_like(x, rng), _random_like(y, rng)
        image, preimage = forward_mode(u), reverse_mode(v)
        one, other = _dot(v, image, "forward_mode"), _dot(u, preimage, "reverse_mode")
        scale = _norm(v) * _norm(image) + _norm(preimage) * _norm(u)
        errors.append(abs(one - other) / (scale or 1.0))
    return float(np.max(errors))                                      # NaN if one is NaN


def _random_like(tree, rng):
    """Return a tree of normal random numbers of the shapes and kinds of another one."""
    def drawn(_, x):
        x = np.asarray(x)
        noise = rng.standard_normal(x.shape)
        return noise + 1j * rng.standard_normal(x.shape) if x.dtype.kind == "c" else noise

    return mapped(drawn, tree)


def _dot(given, found, what):
    """Return the sum of products of two trees; complex numbers count as pairs of real ones."""
    found = dict(leaves(found))
    total = 0.0
    for keys, x in leaves(given):
        other = found.get(keys)
        if other is None or np.shape(other) != np.shape(x):
            raise ValueError(f"wrong shape of what {what} returns: found {described(other)}, expected {np.shape(x)}")
        total += float(np.sum((np.conj(x) * other).real))
    return total


def _norm(tree):
    return norm(np.array([norm(np.asarray(x)) for _, x in leaves(tree)]))
