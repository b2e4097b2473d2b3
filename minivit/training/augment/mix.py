"""Cutout, erase, mixup and cutmix: a part of the picture is hidden, or comes from another picture.

    cutout    a square, which may hang over the edge, becomes black                     the target stays
    erase     a rectangle becomes noise                                                 the target stays
    mixup     x <- l x + (1 - l) x',          l from Beta(alpha, alpha)                 t <- l t + (1 - l) t'
    cutmix    a rectangle is taken from x';   1 - l, its share of the picture           t <- l t + (1 - l) t'

where x', t' are another picture of the batch and its target. With mixed pictures the model learns to be as unsure as the picture is
mixed: cross-entropy takes any distribution for a target. The rectangle of cutmix has the picture's proportions; its area is l' from
Beta(alpha, alpha), its centre anywhere, and what hangs over the edge is cut off before its share counts.

Beta(a, a) with a <= 1 is drawn as Joehnk does: of two uniform numbers, x = u**(1/a) and y = v**(1/a); if x + y <= 1, then x / (x + y)
is the number, else the next two. A try succeeds with probability 1/2 at least.

Sources: DeVries and Taylor, arXiv:1708.04552 (cutout); Zhong et al., arXiv:1708.04896 (erase); Zhang et al., arXiv:1710.09412
(mixup); Yun et al., arXiv:1905.04899 (cutmix); Joehnk, Metrika 8 (1964).
"""

import math
from dataclasses import dataclass

import numpy as np

from ...common.checks import check_number
from ...kernel import kernel
from .step import Step

_TRIES = 24     # of Beta: all fail at most once in 16 million draws, and then it is 1/2


@dataclass(frozen=True)
class Cutout(Step):
    """Blackens a square whose side is `size` of the picture's, with a `probability`."""

    size: float = 0.5
    probability: float = 0.5

    def __post_init__(self):
        _check(self, size=(0, 2), probability=(0, 1))

    def vary(self, images, rng, stream):
        """As `Step.vary`."""
        u, chosen = _choose(self, rng, stream, 3)
        return _pasted(images, chosen, np.zeros_like(images[:1]), boxes(u[:, 1:], np.full((len(u), 2), self.size), images.shape))


@dataclass(frozen=True)
class Erase(Step):
    """Fills a rectangle with noise, with a `probability`: its area is 0.02 to `area` of the picture's, its sides at most 10 : 3."""

    area: float = 0.33
    probability: float = 0.5

    def __post_init__(self):
        _check(self, area=(0.02, 1), probability=(0, 1))

    def vary(self, images, rng, stream):
        """As `Step.vary`."""
        u, chosen = _choose(self, rng, stream, 8)
        area, aspect = 0.02 + (self.area - 0.02) * u[:, 1], 0.3 ** (2 * u[:, 2] - 1)
        sides = np.minimum(np.sqrt(np.stack([area * aspect, area / aspect], axis=1)), 1)
        centres = sides / 2 + (1 - sides) * u[:, 3:5]                 # so that nothing hangs over the edge
        noise = rng.of(rng.samples[chosen]).uniform(stream, 8 + math.prod(images.shape[1:]))[:, 8:]
        noise = (256 * noise).astype(np.uint8).reshape(-1, *images.shape[1:])
        return _pasted(images, chosen, noise, boxes(centres, sides, images.shape))


@dataclass(frozen=True)
class Mixup(Step):
    """Mixes a picture and its target with another's, with a `probability`."""

    alpha: float = 0.2
    probability: float = 1.0

    def __post_init__(self):
        _check(self, alpha=(0.05, 1), probability=(0, 1))

    def __call__(self, images, targets, rng, stream, others):
        """As `Step.__call__`."""
        u, chosen = _choose(self, rng, stream, 2 + 2 * _TRIES)
        other_images, other_targets = others(_partners(u[:, 1], rng, chosen))
        keep, out = beta(u[:, 2:], self.alpha), images.copy()
        _blend(out, chosen, other_images, keep)
        return out, _mixed(targets, chosen, other_targets, keep)


@dataclass(frozen=True)
class CutMix(Step):
    """Pastes a rectangle of another picture, and mixes the targets by its share, with a `probability`."""

    alpha: float = 1.0
    probability: float = 0.5

    def __post_init__(self):
        _check(self, alpha=(0.05, 1), probability=(0, 1))

    def __call__(self, images, targets, rng, stream, others):
        """As `Step.__call__`."""
        u, chosen = _choose(self, rng, stream, 4 + 2 * _TRIES)
        other_images, other_targets = others(_partners(u[:, 1], rng, chosen))
        sides = np.sqrt(beta(u[:, 4:], self.alpha))[:, None].repeat(2, axis=1)
        pieces = boxes(u[:, 2:4], sides, images.shape)
        top, left, bottom, right = pieces.T
        keep = 1 - (bottom - top) * (right - left) / (images.shape[1] * images.shape[2])
        return _pasted(images, chosen, other_images, pieces), _mixed(targets, chosen, other_targets, keep)


def _check(step, **bounds):
    for name, (least, most) in bounds.items():
        check_number(f"{name} of {type(step).__name__.lower()}", getattr(step, name), least=least, most=most)


def _choose(step, rng, stream, count):
    """(numbers (m, count), places (m,)) of the samples that chance chooses; the first number of each has decided it."""
    u = rng.uniform(stream, count).astype(np.float64)
    chosen = np.flatnonzero(u[:, 0] < step.probability)
    return u[chosen], chosen


def _partners(u, rng, chosen):
    """For each chosen sample another one of the whole batch (itself if it is alone), by numbers u (m,) in [0, 1)."""
    batch = len(rng.numbers)
    return (rng.samples[chosen] + 1 + (u * max(batch - 1, 1)).astype(int)) % batch


def _mixed(targets, chosen, others, keep):
    """targets (M, K), of which the chosen become keep t + (1 - keep) t'."""
    mixed, keep = targets.copy(), keep[:, None].astype(targets.dtype)
    mixed[chosen] = keep * targets[chosen] + (1 - keep) * others
    return mixed


def beta(u, alpha):
    """Uniform numbers (m, 2 tries) -> numbers (m,) from Beta(alpha, alpha), alpha <= 1."""
    x, y = u[:, 0::2] ** (1 / alpha), u[:, 1::2] ** (1 / alpha)
    success = (x + y > 0) & (x + y <= 1)
    first = success.argmax(axis=1)[:, None]
    x, y = np.take_along_axis(x, first, axis=1)[:, 0], np.take_along_axis(y, first, axis=1)[:, 0]
    return np.divide(x, x + y, out=np.full(len(u), 0.5), where=success.any(axis=1))


def boxes(centres, sides, shape):
    """Rectangles in pixels (m, 4): top, left, bottom, right; what hangs over the edge is cut off.

    centres, sides (m, 2), vertical and horizontal, as shares of the picture's; shape (M, H, W, C).
    """
    size = np.array(shape[1:3])
    start = np.round((centres - sides / 2) * size).astype(int)
    end = start + np.round(sides * size).astype(int)
    return np.concatenate([np.clip(start, 0, size), np.clip(end, 0, size)], axis=1)


def reference_paste(images, chosen, source, boxes):
    """images (M, H, W, C) with the rectangles boxes (m, 4) of the chosen (m,) from source (m, H, W, C), or (1, H, W, C) for all."""
    out = images.copy()
    for k, (place, (top, left, bottom, right)) in enumerate(zip(chosen, boxes, strict=True)):
        out[place, top:bottom, left:right] = source[k % len(source), top:bottom, left:right]
    return out


def reference_blend(images, chosen, source, keep):
    """images (M, H, W, C), of which the chosen (m,) become keep x + (1 - keep) x', rounded, with x' from source (m, H, W, C)."""
    out, keep = images.copy(), keep[:, None, None, None]
    out[chosen] = (keep * images[chosen] + (1 - keep) * source + 0.5).astype(np.uint8)
    return out


# ---- the same, in place -----------------------------------------------------------------------------------


def _pasted(images, chosen, source, boxes):
    out = images.copy()
    _paste(out, chosen, source, boxes)
    return out


@kernel
def _paste(images, chosen, source, boxes):
    for k in range(chosen.size):
        top, left, bottom, right = boxes[k]
        for i in range(top, bottom):
            for j in range(left, right):
                for c in range(images.shape[3]):
                    images[chosen[k], i, j, c] = source[k % source.shape[0], i, j, c]


@kernel
def _blend(images, chosen, source, keep):
    _, H, W, C = images.shape
    for k in range(chosen.size):
        for i in range(H):
            for j in range(W):
                for c in range(C):
                    value = keep[k] * images[chosen[k], i, j, c] + (1.0 - keep[k]) * source[k, i, j, c]
                    images[chosen[k], i, j, c] = np.uint8(value + 0.5)
