"""Mistakes of the whole backward: it computes nothing, ignores dy, overwrites a sum, or returns another gradient."""

import numpy as np

from .evidence import Evidence, explains, in_words

_MANY = 16                                                            # entries of another tensor that are measured


def not_finite(e: Evidence) -> str | None:
    """NaN or infinity."""
    return None if np.isfinite(e.gradient).all() else "the gradient holds NaN or infinity"


def not_measured(e: Evidence) -> str | None:
    """The forward is not finite near the inputs."""
    return None if np.isfinite(e.numeric).all() else "the forward returns NaN or infinity near these inputs"


def zero(e: Evidence) -> str | None:
    """All zeros."""
    return None if e.gradient.any() else "the gradient is zero everywhere: is it computed at all?"


def ignores_dy(e: Evidence) -> str | None:
    """The same gradient for another dy."""
    if e.dy_is_free and np.array_equal(e.gradient_under(2 * e.dy + 1), e.gradient):
        return "the gradient is the same for another dy: the backward ignores its upstream gradient"
    return None


def should_be_zero(e: Evidence) -> str | None:
    """The forward does not depend on the tensor."""
    return "the gradient should be zero" if np.abs(e.numeric).max() < 1e-6 * np.abs(e.analytic).max() else None


def part_of_dy(e: Evidence) -> str | None:
    """Only the first or last slices of dy count, on one axis or more: a sum that is overwritten, or missing."""
    if not e.dy_is_free or (e.dy.shape == e.x.shape and e.is_entry_by_entry()):
        return None
    alone, kept = e.dy, [":"] * e.dy.ndim
    for axis, n in enumerate(e.dy.shape):
        for from_end in (True, False) if n > 1 else ():
            count = _slices_that_count(e, alone, axis, from_end)
            if count < n:
                alone, where = _slices(alone, axis, count, from_end)
                one = str(n - 1 if from_end else 0)
                kept[axis] = one if count == 1 else f"{where.start}:" if from_end else f":{where.stop}"
                break
    axes = [axis for axis, part in enumerate(kept) if part != ":"]
    if not axes or e.is_slope_under(alone):                           # the forward too uses these slices alone
        return None
    if kept[0] in ("0", str(len(e.dy) - 1)) and axes == [0]:
        return f"only dy[{kept[0]}] contributes: is the sum over the first axis missing, or overwritten (= for +=)?"
    return (f"only dy[{', '.join(kept)}] contributes: is the sum over {in_words(axes)} missing, or overwritten in a "
            "loop (= for +=)?")


def _slices(dy, axis, count, from_end):
    """Return dy with zeros outside its first or last slices on an axis, and where these slices are."""
    where = slice(dy.shape[axis] - count, None) if from_end else slice(None, count)
    index = (slice(None),) * axis + (where,)
    found = np.zeros_like(dy)
    found[index] = dy[index]
    return found, where


def _slices_that_count(e, dy, axis, from_end):
    """Return the smallest number of slices of dy on an axis, counted from one end, that give the same gradient."""
    low, high = 0, dy.shape[axis]
    while high - low > 1:
        middle = (low + high) // 2
        same = np.array_equal(e.gradient_under(_slices(dy, axis, middle, from_end)[0]), e.gradient)
        low, high = (low, middle) if same else (middle, high)
    return high


def one_of_several_contributions(e: Evidence) -> str | None:
    """Only one of the gradients of an array that is used in several places; their sum is right."""
    e.gradient_under(e.dy)                                            # so that the claims are those of this dy
    claims = e.comparer.function.claims().get(e.name, {})
    if len(claims) < 2 or any(np.size(g) != e.gradient.size for g in claims.values()):
        return None
    total = np.sum([np.reshape(g, -1) for g in claims.values()], axis=0)[e.indices]
    return (f"the sum of the gradients of {' and '.join(claims)} is right: they are one array, whose gradient is the "
            "sum of all contributions") if explains(total, e.numeric, e.difference) else None


def exchanged(e: Evidence) -> str | None:
    """The gradient of another tensor of the same shape."""
    for name, other in e.comparer.function.tensors.items():
        if name != e.name and other.shape == e.x.shape and other.size > 1:
            sample = e.indices[:_MANY]
            right = e.slopes(sample, name)
            if explains(e.at(e.gradient, sample), right, e.slopes(sample) - e.at(e.gradient, sample)):
                return f"it is the gradient of {name}: are the two exchanged?"
    return None


def mixed_images(e: Evidence) -> str | None:
    """The upstream gradient of one image changes the gradient of another one."""
    images = len(e.dy) if e.dy.ndim else 0
    of_images = e.name in e.comparer.function.inputs and e.x.ndim and len(e.x) == images > 1
    if not of_images or not e.dy_is_free or e.comparer.coupled:
        return None
    without_dy = e.gradient_under(np.zeros_like(e.dy))
    for b in (0, images - 1):
        alone = np.zeros_like(e.dy)
        alone[b] = e.dy[b]
        changed = (e.gradient_under(alone) != without_dy)
        changed[b] = False
        places = np.flatnonzero(changed)[:4]
        # not if the forward mixes them too, as where the first axis is no batch
        if len(places) and np.abs(e.slopes_under(alone, places)).max() <= 1e-6 * np.abs(e.numeric).max():
            return f"dy[{b}] changes the gradients of other images: the backward mixes the images of the batch"
    return None
