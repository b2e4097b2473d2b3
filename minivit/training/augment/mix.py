"""Mixup and cutmix: an image is mixed with another image of the batch, its *partner*, and so are their targets.

    mixup     x <- l x + (1 - l) x',                     l from Beta(alpha, alpha)           t <- l t + (1 - l) t'
    cutmix    a rectangle of x' is pasted into x,        1 - l: its fraction of the area     t <- l t + (1 - l) t'

x and t are an image and its target, x' and t' those of the partner. The mixed target is a distribution over two
classes: cross-entropy accepts any distribution. The model learns to be as uncertain as the image is mixed.

The rectangle of cutmix has the proportions of the image. Its area is drawn from Beta(alpha, alpha), its centre lies
anywhere, and it is clipped to the image before its fraction of the area is computed.

Joehnk's method draws from Beta(a, a) with a <= 1. Take two uniform numbers u and v, and let x = u**(1/a), y =
v**(1/a). If x + y <= 1, the result is x / (x + y); otherwise try the next two numbers. A try succeeds with
probability at least 1/2.

Sources: Zhang et al., arXiv:1710.09412 (mixup); Yun et al., arXiv:1905.04899 (cutmix); Joehnk, Metrika 8 (1964).
"""

from dataclasses import dataclass

import numpy as np

from ...kernel import kernel
from ...ops.philox import Generator
from .erase import boxes, pasted
from .transform import Samples, Transform, check_fields, select

_TRIES = 24     # of Joehnk's method. All of them fail at most once in 16 million draws; the result is then 1/2.


@dataclass(frozen=True)
class Mixup(Transform):
    """Mix the image and its target with those of a partner, with a `probability`.

    Parameters
    ----------
    alpha : float, 0.05 to 1
        Parameter of the Beta distribution: near 0, one of the two images dominates; at 1, all mixtures are equally
        likely.
    probability : float, 0 to 1
        Fraction of the images that are changed.
    """

    strong = True
    alpha: float = 0.2
    probability: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self, alpha=(0.05, 1), probability=(0, 1))

    def __call__(self, images: np.ndarray, targets: np.ndarray, rng: Generator, stream: int,
                 partners: Samples) -> tuple[np.ndarray, np.ndarray]:
        """See `Transform.__call__`."""
        u, selected = select(self.probability, rng, stream, 2 + 2 * _TRIES)
        partner_images, partner_targets = partners(_partner_indices(u[:, 1], rng, selected))
        keep, out = beta(u[:, 2:], self.alpha), images.copy()
        _blend(out, selected, partner_images, keep)
        return out, _mix_targets(targets, selected, partner_targets, keep)


@dataclass(frozen=True)
class CutMix(Transform):
    """Paste a rectangle of a partner and mix the targets by its area, with a `probability`.

    Parameters
    ----------
    alpha : float, 0.05 to 1
        Parameter of the Beta distribution of the rectangle's area; at 1, all areas are equally likely.
    probability : float, 0 to 1
        Fraction of the images that are changed.
    """

    strong = True
    alpha: float = 1.0
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_fields(self, alpha=(0.05, 1), probability=(0, 1))

    def __call__(self, images: np.ndarray, targets: np.ndarray, rng: Generator, stream: int,
                 partners: Samples) -> tuple[np.ndarray, np.ndarray]:
        """See `Transform.__call__`."""
        u, selected = select(self.probability, rng, stream, 4 + 2 * _TRIES)
        partner_images, partner_targets = partners(_partner_indices(u[:, 1], rng, selected))
        sides = np.sqrt(beta(u[:, 4:], self.alpha))[:, None].repeat(2, axis=1)
        rectangles = boxes(u[:, 2:4], sides, images.shape)
        top, left, bottom, right = rectangles.T
        keep = 1 - (bottom - top) * (right - left) / (images.shape[1] * images.shape[2])
        mixed = pasted(images, selected, partner_images, rectangles)
        return mixed, _mix_targets(targets, selected, partner_targets, keep)


def _partner_indices(u, rng, selected):
    """Choose a partner in the whole batch for each selected sample, by numbers u (n,) in [0, 1)."""
    B = len(rng.dataset_indices)
    # Adding 1 .. B - 1 never gives the sample itself. A single image (B = 1) is its own partner.
    return (rng.samples[selected] + 1 + (u * max(B - 1, 1)).astype(int)) % B


def _mix_targets(targets, selected, partner_targets, keep):
    """Return targets (B, K) in which the selected ones are keep t + (1 - keep) t'."""
    mixed, keep = targets.copy(), keep[:, None].astype(targets.dtype)
    mixed[selected] = keep * targets[selected] + (1 - keep) * partner_targets
    return mixed


def beta(u: np.ndarray, alpha: float) -> np.ndarray:
    """Turn uniform numbers (n, 2 tries) into (n,) numbers from Beta(alpha, alpha), alpha <= 1, by Joehnk's method."""
    x, y = u[:, 0::2] ** (1 / alpha), u[:, 1::2] ** (1 / alpha)
    success = (x + y > 0) & (x + y <= 1)
    first = success.argmax(axis=1)[:, None]
    x, y = np.take_along_axis(x, first, axis=1)[:, 0], np.take_along_axis(y, first, axis=1)[:, 0]
    return np.divide(x, x + y, out=np.full(len(u), 0.5), where=success.any(axis=1))


def reference_blend(images: np.ndarray, selected: np.ndarray, source: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Blend each selected image with another one, in plain NumPy.

    Parameters
    ----------
    images : (B, H, W, C) uint8
        Not modified.
    selected : (n,)
        Indices of the images to change.
    source : (n, H, W, C) uint8
        The other images x'.
    keep : (n,)
        The weight of x in keep x + (1 - keep) x'.

    Returns
    -------
    (B, H, W, C) uint8
        A fresh array; values are rounded.
    """
    out, keep = images.copy(), keep[:, None, None, None]
    out[selected] = (keep * images[selected] + (1 - keep) * source + 0.5).astype(np.uint8)
    return out


# ---- the same, in place -----------------------------------------------------------------------------------


@kernel
def _blend(images, selected, source, keep):
    _, H, W, C = images.shape
    for k in range(selected.size):
        for i in range(H):
            for j in range(W):
                for c in range(C):
                    value = keep[k] * images[selected[k], i, j, c] + (1.0 - keep[k]) * source[k, i, j, c]
                    images[selected[k], i, j, c] = np.uint8(value + 0.5)
